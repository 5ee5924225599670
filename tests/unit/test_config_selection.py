"""What a configuration says about what one sink gets of each record."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml
from tests.unit.wire.selection_cases import mail_rows, records_of, value_at

from esa_tls import app, reference
from esa_tls.config import Config, OtlpSink, Secret, key_ring, parse
from esa_tls.errors import ConfigError
from esa_tls.wire.constants import constants_of

KEY = base64.b64encode(bytes(32)).decode()


def sink_of(**settings: Any) -> Config:
    """A configuration with one jsonl sink."""
    return parse(yaml.safe_dump({"sinks": [{"type": "jsonl", **settings}]}), file="f", environment={"KEYS": f"1:{KEY}"})


def refused(**settings: Any) -> str:
    """The sentence with which it is refused."""
    with pytest.raises(ConfigError) as caught:
        sink_of(**settings)
    return str(caught.value)


def test_a_sink_gets_everything_unless_it_says_otherwise() -> None:
    """Without any of these keys nothing stands between outbox and sink."""
    assert app.make_selection(sink_of().sinks[0]) is None
    assert app.make_selection(parse("sinks: [{type: otlp, endpoints: ['x:4317']}]", file="f").sinks[0]) is None


def test_all_of_it_together() -> None:
    """Every key has its effect."""
    config = sink_of(
        where={"in_clear": [True], "directions": ["outbound"]},
        fields={"drop": ["email.message_id", "log"]},
        truncate={"cisco_esa.mail_policy": 1},
        constants=True,
        pseudonyms={"keys": "${KEYS}", "domains": "pseudonym"},
    )
    selection = app.make_selection(config.sinks[0])
    assert selection is not None
    records = records_of(selection.apply(mail_rows()).rows, "json")
    assert {record["cisco_esa"]["record"] for record in records} == {"delivery", "message"}
    for record in records:
        assert value_at(record, "email.message_id") is None
        assert value_at(record, "email.subject").startswith("p1.")
        assert "example" not in str(record)
        constants = constants_of(record["cisco_esa"]["record"])
        assert {path: value_at(record, path) for path in constants} == constants
    assert any(value_at(record, "cisco_esa.mail_policy") == "P" for record in records)


@pytest.mark.parametrize(
    ("where", "kinds"),
    [
        ({"outcomes": ["none"]}, {"line", "connection", "delivery", "message"}),
        ({"outcomes": ["absent"], "postures": ["encrypted"]}, {"line"}),
        ({"mail_flows": ["incoming"]}, {"line", "connection", "delivery", "message"}),
        ({"appliances": ["esa2"]}, set()),
        ({"in_clear": [False, "absent"], "postures": ["exposed"]}, {"line", "connection", "delivery", "message"}),
    ],
)
def test_filters(where: dict[str, Any], kinds: set[str]) -> None:
    """Each list of the filter reaches it under its own name."""
    selection = app.make_selection(sink_of(where=where).sinks[0])
    assert selection is not None
    assert {record["cisco_esa"]["record"] for record in records_of(selection.apply(mail_rows()).rows, "json")} == kinds


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"where": {"outcome": ["none"]}}, "sinks[0].where.outcome: unknown key; did you mean 'outcomes'?"),
        (
            {"where": {"outcomes": ["clear"]}},
            "sinks[0].where.outcomes[0]: expected one of absent, failed, none, pending, success, unknown, got 'clear'",
        ),
        ({"where": {"outcomes": []}}, "sinks[0].where.outcomes: expected a list of length >= 1"),
        ({"where": {"in_clear": ["yes"]}}, "sinks[0].where.in_clear[0]: "),
        ({"where": {}}, "sinks[0].where: is empty; known keys are outcomes, directions, in_clear, postures, mail_flows, appliances"),
        ({"fields": {}}, "sinks[0].fields: needs either `keep` or `drop`"),
        ({"fields": {"keep": ["email"], "drop": ["log"]}}, "sinks[0].fields: needs either `keep` or `drop`"),
        ({"fields": {"keep": []}}, "sinks[0].fields.keep: expected a list of length >= 1"),
        ({"truncate": {"event.original": 9, "email.subject": 0}}, "sinks[0].truncate.email.subject: expected a whole number >= 1"),
        ({"truncate": {"email.subject": True}}, "sinks[0].truncate.email.subject: expected a whole number, got true or false"),
        (
            {"truncate": {"email.subject": 5, "event.original": "long"}},
            "sinks[0].truncate.event.original: expected a whole number, got text",
        ),
        ({"pseudonyms": {}}, "sinks[0].pseudonyms: needs the key 'keys'"),
        ({"pseudonyms": {"keys": "1:short"}}, "sinks[0].pseudonyms.keys: key 1 is no base64"),
        (
            {"pseudonyms": {"keys": "1:c2hvcnQ="}},
            "sinks[0].pseudonyms.keys: key 1 has 5 bytes, 32 are needed; `esa-tls pseudonym key` makes one",
        ),
        ({"pseudonyms": {"keys": f"0:{KEY}"}}, "sinks[0].pseudonyms.keys: line 1 is no `ID:KEY` with an ID from 1 to 9999"),
        ({"pseudonyms": {"keys": f"1:{KEY}\n1:{KEY}"}}, "sinks[0].pseudonyms.keys: key 1 stands there twice"),
        ({"pseudonyms": {"keys": "# none\n"}}, "sinks[0].pseudonyms.keys: holds no key; `esa-tls pseudonym key` makes one"),
        ({"pseudonyms": {"keys": f"1:{KEY}", "replace": ["adresses"]}}, "sinks[0].pseudonyms.replace[0]: expected one of "),
        ({"pseudonyms": {"keys": f"1:{KEY}", "domain": "keep"}}, "sinks[0].pseudonyms.domain: unknown key; did you mean 'domains'?"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, Any], told: str) -> None:
    """With the place, the reason, and the right word where there is one; never with a key."""
    sentence = refused(**settings)
    assert sentence.startswith(f"f: {told}")
    assert KEY not in sentence


def test_constants_are_not_for_otlp() -> None:
    """Its resources and scopes say the same."""
    with pytest.raises(ConfigError, match=r"sinks\[0\].constants: has no effect on OTLP"):
        parse("sinks: [{type: otlp, endpoints: ['x:4317'], constants: true}]", file="f")
    assert app.make_selection(OtlpSink(endpoints=["x:4317"], constants=True)) is None


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"fields": {"drop": ["log", "cisco_esa.tls.outcome"]}},
            "sinks[0].fields.drop[1]: 'cisco_esa.tls.outcome' cannot be dropped: it is what",
        ),
        (
            {"fields": {"keep": ["email.subjects"]}},
            "sinks[0].fields.keep[0]: there is no field 'email.subjects'; did you mean 'email.subject'?",
        ),
        ({"truncate": {"email.subjec": 5}}, "sinks[0].truncate: there is no field 'email.subjec'; did you mean 'email.subject'?"),
        (
            {"truncate": {"email.subject": 5}, "pseudonyms": {"keys": f"1:{KEY}"}},
            "sinks[0].truncate: 'email.subject' has pseudonyms in this sink",
        ),
    ],
)
def test_paths_are_checked_against_the_table_of_fields(settings: dict[str, Any], told: str) -> None:
    """With the place in the file and the nearest right name."""
    config = sink_of(**settings)
    with pytest.raises(ConfigError) as caught:
        app.check_selections(config, file="f")
    assert str(caught.value).startswith(f"f: {told}")


def test_right_paths_pass() -> None:
    """Fields and subtrees, `[]` or not, cut and pseudonymised side by side."""
    config = sink_of(
        fields={"keep": ["email", "cisco_esa.tls", "cisco_esa.recipients[].result"]},
        truncate={"event.original": 100, "email.subject": 5},
        pseudonyms={"keys": f"1:{KEY}", "replace": ["addresses"]},
    )
    app.check_selections(config, file="f")


def test_keys() -> None:
    """One a line, with comments; the ID is a number."""
    other = base64.b64encode(b"x" * 40).decode()
    assert key_ring(f"# made in May\n\n2:{other}\r\n  17:{KEY}  \n") == {2: b"x" * 40, 17: bytes(32)}


def test_the_reference_has_all_of_it() -> None:
    """Each key of the three sections has its row, and types that are no lists of texts are told as what they are."""
    text = reference.config_reference()
    for heading in ("## `where` of sinks", "## `fields` of sinks", "## `pseudonyms` of sinks"):
        assert heading in text
    assert "| `truncate` | names and whole numbers |" in text
    assert "| `headers` | names and texts |" in text
    assert "| `in_clear` | list of true / false or `absent` or null | `null` |" in text


def test_keys_are_never_shown() -> None:
    """They print as stars."""
    settings = sink_of(pseudonyms={"keys": f"1:{KEY}"}).sinks[0].pseudonyms
    assert settings is not None
    assert KEY not in repr(settings)
    assert isinstance(settings.keys, Secret)
