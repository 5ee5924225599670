"""Our templates in a real OpenSearch: every field of every kind is found there by what it is."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from tests.e2e.sidecar import esa_tls
from tests.peers.searching import OpenSearch

from esa_tls.core.fields import FIELDS, Field
from esa_tls.core.records import KINDS
from esa_tls.errors import ConfigError
from esa_tls.templates import Access, Wanted, applied
from esa_tls.wire.constants import constants_of

pytestmark = pytest.mark.timeout(120, func_only=True)

VALUES: dict[str, Any] = {
    "keyword": "some Words",
    "text": "x" * 40_000,
    "long": 2**53 + 1,
    "float": -1.5,
    "boolean": True,
    "date": "2026-11-24T10:00:00Z",
    "ip": "2001:db8::1",
}

_namespaces = (f"templates{number}" for number in itertools.count())


@pytest.fixture
def store(opensearch: OpenSearch) -> OpenSearch:
    """With our templates."""
    applied("opensearch", opensearch.url, Wanted(lifecycle="none"), Access())
    return opensearch


def put(record: dict[str, Any], field: Field) -> None:
    """Give the record a value in this field; objects of nested lists are lists of one."""
    value = VALUES.get(field.type)
    if value is None:
        return
    *objects, name = field.path.split(".")
    at, path = record, ""
    for part in objects:
        path = f"{path}.{part}".lstrip(".")
        at = at.setdefault(part, [{}])[0] if path in NESTED else at.setdefault(part, {})
    at[name] = [value] if field.many else value


NESTED = {field.path for field in FIELDS if field.type == "nested"}


def nested_part(path: str) -> str | None:
    """The nested list that a field is in."""
    return next((nested for nested in NESTED if path.startswith(f"{nested}.")), None)


def found_by(store: OpenSearch, stream: str, path: str, value: Any) -> int:
    """How many documents have this value there."""
    query: dict[str, Any] = {"term": {path: value}}
    nested = nested_part(path)
    if nested is not None:
        query = {"nested": {"path": nested, "query": query}}
    total: int = store.ask("POST", f"/{stream}/_count", {"query": query})["count"]
    return total


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_found(store: OpenSearch, kind: str) -> None:
    """A record with all fields of its kind is taken, each field but raw text is found by its value, and constants by theirs."""
    stream = f"logs-cisco_esa.{kind}-{next(_namespaces)}"
    fields = [field for field in FIELDS if kind in field.kinds]
    record: dict[str, Any] = {"labels": {"site": "Berlin"}}
    for field in fields:
        put(record, field)
    body = b'{"create":{"_id":"a"}}\n' + msgspec.json.encode(record) + b"\n"
    answer = store.ask("POST", f"/{stream}/_bulk?refresh=true", body)
    assert answer["errors"] is False, answer
    [item] = answer["items"]
    assert item["create"]["_index"] == f".ds-{stream}-000001"

    for field in fields:
        if field.type == "nested":
            assert (
                store.ask("POST", f"/{stream}/_count", {"query": {"nested": {"path": field.path, "query": {"match_all": {}}}}})["count"]
                == 1
            )
        elif field.type != "text":
            assert found_by(store, stream, field.path, VALUES[field.type]) == 1, field.path
    for path, value in constants_of(kind).items():
        assert found_by(store, stream, path, value) == 1, path
        assert found_by(store, stream, path, "another") == 0, path
    assert found_by(store, stream, "labels.site", "Berlin") == 1
    [hit] = store.documents(stream)
    assert hit["_source"] == record


def test_what_does_not_fit_a_type_is_refused_with_its_name(store: OpenSearch) -> None:
    """An empty text in an ip or date, text in a number, another constant: 400, and the words name the field."""
    stream = f"logs-cisco_esa.connection-{next(_namespaces)}"
    bad = [
        ("source.ip", {"source": {"ip": ""}}),
        ("event.start", {"event": {"start": ""}}),
        ("source.port", {"source": {"port": "smtp"}}),
        ("event.dataset", {"event": {"dataset": "cisco_esa.line"}}),
    ]
    for path, record in bad:
        body = b'{"create":{}}\n' + msgspec.json.encode({"@timestamp": VALUES["date"], **record}) + b"\n"
        [item] = store.ask("POST", f"/{stream}/_bulk", body)["items"]
        assert item["create"]["status"] == 400
        assert path.rpartition(".")[2] in msgspec.json.encode(item).decode()


def test_fields_of_tomorrow_do_no_harm(store: OpenSearch) -> None:
    """A field that the templates do not know is kept, and neither found nor added to the mapping."""
    stream = f"logs-cisco_esa.line-{next(_namespaces)}"
    record = {"@timestamp": VALUES["date"], "cisco_esa": {"tomorrow": {"deep": "2026-11-24"}}}
    body = b'{"create":{"_id":"a"}}\n' + msgspec.json.encode(record) + b"\n"
    assert store.ask("POST", f"/{stream}/_bulk?refresh=true", body)["errors"] is False
    assert store.documents(stream)[0]["_source"] == record
    assert found_by(store, stream, "cisco_esa.tomorrow.deep", "2026-11-24") == 0
    assert "tomorrow" not in str(store.ask("GET", f"/{stream}/_mapping"))


def test_the_command_against_the_real_thing(store: OpenSearch) -> None:
    """No ISM here: exit 1 and words that say what follows; without a lifecycle exit 0, as often as one likes."""
    done = esa_tls("templates", "opensearch", "--apply", store.url)
    assert done.returncode == 1
    assert "this store has no index state management (ISM): nothing deletes old records" in done.stderr
    assert "no handler found for uri" in done.stderr
    first, second = (esa_tls("templates", "opensearch", "--apply", store.url, "--lifecycle", "none") for _ in range(2))
    assert (first.returncode, first.stderr) == (second.returncode, second.stderr) == (0, "")
    assert first.stdout == second.stdout
    assert first.stdout.splitlines()[0] == "OpenSearch 2.19.6"
    names = {template["name"] for template in store.ask("GET", "/_index_template/logs-cisco_esa*")["index_templates"]}
    assert names == {f"logs-cisco_esa.{kind}" for kind in KINDS}


def test_the_administrator_s_part_wins_and_stays(store: OpenSearch) -> None:
    """Settings and mappings in `cisco-esa@custom` hold for new indices, and applying again leaves them alone."""
    own = {
        "settings": {"index": {"refresh_interval": "7s"}},
        "mappings": {"properties": {"email": {"properties": {"subject": {"type": "text"}}}}},
    }
    store.ask("PUT", "/_component_template/cisco-esa@custom", {"template": own})
    try:
        applied("opensearch", store.url, Wanted(lifecycle="none"), Access())
        stream = f"logs-cisco_esa.message-{next(_namespaces)}"
        store.ask("PUT", f"/_data_stream/{stream}")
        [index] = store.ask("GET", f"/{stream}").values()
        assert index["settings"]["index"]["refresh_interval"] == "7s"
        assert index["mappings"]["properties"]["email"]["properties"]["subject"]["type"] == "text"
        assert index["mappings"]["properties"]["email"]["properties"]["message_id"]["type"] == "keyword"
    finally:
        store.ask("PUT", "/_component_template/cisco-esa@custom", {"template": {}})


def test_it_says_which_product_it_is(opensearch: OpenSearch) -> None:
    """Templates for Elasticsearch do not go into OpenSearch."""
    with pytest.raises(ConfigError, match=r"this is OpenSearch 2\.19\.6: say `esa-tls templates opensearch`"):
        applied("elasticsearch", opensearch.url, Wanted(), Access())
