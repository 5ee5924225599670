"""The manual's page on Loki: its queries name what there is, its sentence is one of ours."""

from __future__ import annotations

import re
from pathlib import Path

from esa_tls.config.loki import OWN_LABELS
from esa_tls.core.fields import FIELDS
from esa_tls.core.records import ACTIONS, KINDS
from esa_tls.core.sentences import sentence
from esa_tls.wire.loki_entries import LABEL_FIELDS
from esa_tls.wire.loki_metadata import LEFT_OUT, metadata_name

PAGE = (Path(__file__).parents[2] / "docs" / "loki.md").read_text(encoding="utf-8")


def queries() -> list[str]:
    """The queries of the page."""
    [block] = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [re.sub(r"^#.*\n", "", one) for one in block.split("\n\n")]


def test_queries_name_labels_and_metadata_that_there_are() -> None:
    """Every name in them is a label of ours or a field that becomes metadata; labels stand in the braces, metadata behind a `|`."""
    names = {metadata_name(one.path) for one in FIELDS if one.path not in LEFT_OUT}
    assert len(queries()) == 8
    for query in queries():
        [selector] = re.findall(r"\{(.*?)\}", query)
        labels = dict(re.findall(r'(\w+)="([^"]*)"', selector))
        assert labels.keys() <= OWN_LABELS
        assert labels["service_name"] == "esa-tls"
        assert labels.get("kind", "line") in KINDS
        rest = query.replace(selector, "")
        used = set(re.findall(r"\b(?:cisco_esa|event|tls|email|network|log|related)_\w+", rest))
        assert used
        assert used <= names
        if action := re.search(r'event_action="([^"]*)"', rest):
            assert action[1] in ACTIONS


def test_fields_that_may_be_labels_and_those_left_out_are_named() -> None:
    """All of them."""
    for path in LABEL_FIELDS:
        assert f"`{path}`" in PAGE
    for path in LEFT_OUT - {"@timestamp", "event.original"}:
        assert f"`{path}`" in PAGE


def test_the_sentence_is_one_of_ours() -> None:
    """As the page shows it."""
    own = {
        "record": "delivery",
        "mid": 200257075,
        "dcid": 2386069,
        "tls": {"outcome": "success", "in_clear": False},
        "delivery": {"result": "delivered", "response": "2.0.0 OK"},
        "envelope": {"to": ["bob@example.org"]},
    }
    record = {"event": {}, "cisco_esa": own, "destination": {"domain": "mx.example.org", "ip": "192.0.2.2", "port": 25}}
    assert f"`{sentence(record)}`" in PAGE
