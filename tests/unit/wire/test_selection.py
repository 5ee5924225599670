from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from tests.unit.core.driver import at, check, walk
from tests.unit.wire.selection_cases import (
    ENCODINGS,
    KEY,
    mail_rows,
    records_of,
    rows_of,
    simulated_rows,
    value_at,
    without_host,
)

from esa_tls.core.batch import Row
from esa_tls.core.fields import FIELDS
from esa_tls.wire.constants import constants_of
from esa_tls.wire.outbox_records import Record
from esa_tls.wire.privacy import CLASSES, Privacy
from esa_tls.wire.pseudonyms import Pseudonyms
from esa_tls.wire.selection import KEYS, Selection, Unreadable, Where, wrong_path, wrong_truncation


def got(selection: Selection, *kinds: str, rows: Any = None, encoding: str = "json") -> list[Record]:
    """The records that a sink gets."""
    return records_of(selection.apply(mail_rows() if rows is None else rows).rows, encoding, *kinds)


def where(**sets: Any) -> Selection:
    """A filter."""
    return Selection(where=Where(**{name: frozenset(values) for name, values in sets.items()}))


def told(records: list[Record]) -> Counter[str]:
    """How many records of each kind."""
    return Counter(record["cisco_esa"]["record"] for record in records)


# -- where -----------------------------------------------------------------------------------------------------------------------
def passing(record: dict[str, Any], **sets: Any) -> bool:
    """Whether a record with this under `cisco_esa` passes."""
    return Where(**{name: frozenset(values) for name, values in sets.items()}).passes({"cisco_esa": record})


LEG = {"record": "delivery", "direction": "outbound", "tls": {"outcome": "none", "in_clear": True}}
NO_LEG = {"record": "line", "appliance": "esa1"}
MESSAGE = {
    "record": "message",
    "posture": "exposed",
    "reception": {"tls": {"outcome": "success", "in_clear": False}},
    "deliveries": [{"tls": {"outcome": "failed", "in_clear": True}}, {"result": "quarantined"}],
}
CONSOLIDATED = {"record": "consolidated", "reception": {"tls": {"outcome": "unknown"}}, "delivery_tls": {"outcome": "success"}}


@pytest.mark.parametrize(
    ("record", "sets", "passes"),
    [
        (LEG, {"outcomes": ["none", "failed"]}, True),
        (LEG, {"outcomes": ["success"]}, False),
        (LEG, {"outcomes": ["none"], "directions": ["inbound"]}, False),
        (LEG, {"outcomes": ["none"], "directions": ["outbound"], "in_clear": [True]}, True),
        (LEG, {"in_clear": [False, "absent"]}, False),
        ({"record": "connection", "direction": "inbound", "tls": {"outcome": "none"}}, {"in_clear": ["absent"]}, True),
        ({"record": "connection", "direction": "inbound", "tls": {"outcome": "none"}}, {"in_clear": [True]}, False),
        # without a leg
        (NO_LEG, {"outcomes": ["none"]}, False),
        (NO_LEG, {"outcomes": ["none", "absent"]}, True),
        (NO_LEG, {"outcomes": ["absent"], "directions": ["absent"], "in_clear": ["absent"]}, True),
        (NO_LEG, {"outcomes": ["absent"], "directions": ["inbound"]}, False),
        # several legs: one has to fit all that is asked
        (MESSAGE, {"directions": ["inbound"], "in_clear": [True]}, False),
        (MESSAGE, {"directions": ["outbound"], "in_clear": [True]}, True),
        (MESSAGE, {"directions": ["outbound"], "outcomes": ["success"]}, False),
        (MESSAGE, {"outcomes": ["absent"]}, False),
        (CONSOLIDATED, {"directions": ["outbound"], "outcomes": ["success"]}, True),
        (CONSOLIDATED, {"directions": ["inbound"], "outcomes": ["success"]}, False),
        # postures are of messages alone
        (MESSAGE, {"postures": ["exposed", "partial"]}, True),
        (MESSAGE, {"postures": ["encrypted"]}, False),
        (LEG, {"postures": ["encrypted"]}, True),
        (MESSAGE, {"postures": ["exposed"], "outcomes": ["none"]}, False),
        # mail flow and appliance
        ({**LEG, "mail_flow": "incoming"}, {"mail_flows": ["incoming"]}, True),
        ({**LEG, "mail_flow": "incoming"}, {"mail_flows": ["outgoing", "absent"]}, False),
        (LEG, {"mail_flows": ["outgoing", "absent"]}, True),
        (NO_LEG, {"appliances": ["esa1"]}, True),
        (NO_LEG, {"appliances": ["esa2"]}, False),
        (NO_LEG, {}, True),
    ],
)
def test_which_records_pass(record: dict[str, Any], sets: Any, passes: bool) -> None:
    """What is asked of a leg is asked of one leg together, postures of messages, all else of the record; `absent` is what it has not."""
    assert passing(record, **sets) is passes


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_filter_leaves_bytes_as_they_are(encoding: str) -> None:
    """What passes is passed on byte for byte; segments say how many records they have left, and rows with none are gone."""
    one = where(outcomes=["none"], in_clear=[True])
    before = [(sequence, row) for sequence, row in simulated_rows() if row.encoding == encoding]
    found = one.apply(before)
    rows = dict(before)
    left = 0
    for sequence, row in found.rows:
        assert (row.cls, row.encoding) == (rows[sequence].cls, encoding)
        segments = iter(rows[sequence].segments)
        for kind, count, body in row.segments:
            assert count > 0
            old = next(segment for segment in segments if segment[0] == kind)
            assert set(body.splitlines()) <= set(old[2].splitlines()) or encoding != "json"
            left += count
    assert 0 < left < sum(count for row in rows.values() for _, count, _ in row.segments)
    assert left + sum(found.filtered.values()) == sum(count for row in rows.values() for _, count, _ in row.segments)
    expected = [record for record in records_of(before, encoding) if one._where is not None and one._where.passes(record)]
    assert records_of(found.rows, encoding) == expected


def test_a_filter_passes_the_same_records_in_each_encoding() -> None:
    """Which records pass does not depend on the encoding."""
    one = where(directions=["outbound"], outcomes=["success", "absent"], mail_flows=["incoming", "absent"], postures=["encrypted"])
    records = got(one, rows=simulated_rows())
    assert 0 < len(records)
    assert got(one, rows=simulated_rows(), encoding="forward") == records
    assert got(one, rows=simulated_rows(), encoding="otlp") == [without_host(record) for record in records]


def test_nothing_left_is_no_row() -> None:
    """A filter that lets nothing pass leaves no rows, and counts all by kind."""
    found = where(appliances=["another"]).apply(mail_rows())
    assert found.rows == []
    assert set(found.filtered) == {"line", "connection", "delivery", "message"}


# -- fields ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_only_what_is_kept(encoding: str) -> None:
    """Fields, subtrees and fields of listed objects that are named, and the keys."""
    one = Selection(keep=["email.subject", "cisco_esa.tls", "cisco_esa.recipients[].result", "cisco_esa.clear"])
    [message] = got(one, "message", encoding=encoding)
    paths = {path for path, _ in walk(message)}
    assert paths - set(KEYS) == {
        "email.subject",
        "cisco_esa.recipients",
        "cisco_esa.recipients.result",
        "cisco_esa.clear.recipient_count",
        "cisco_esa.clear.domains",
    }
    assert message["cisco_esa"]["recipients"] == [{"result": "delivered"}, {"result": "bounced"}]
    for record in got(one, "line", "connection", "delivery", encoding=encoding):
        assert {path for path, _ in walk(record)} <= {"email.subject"} | set(KEYS) | {
            field.path for field in FIELDS if field.path.startswith("cisco_esa.tls.")
        }
        assert record["event"]["id"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_all_but_what_is_dropped(encoding: str) -> None:
    """What is named is gone, all else is as it was, and no empty object or list stays behind."""
    dropped = ["email", "cisco_esa.envelope", "related", "cisco_esa.recipients.address", "cisco_esa.deliveries[].peer", "event.original"]
    before = records_of(mail_rows(), encoding)
    after = got(Selection(drop=dropped), encoding=encoding)
    plain = [path.replace("[]", "") for path in dropped]

    def is_dropped(path: str) -> bool:
        return any(path == one or path.startswith(f"{one}.") for one in plain)

    for old, new in zip(before, after, strict=True):
        kept = {path: value for path, value in walk(old) if not is_dropped(path) and not isinstance(value, list)}
        assert {path: value for path, value in walk(new) if not isinstance(value, list)} == kept
        assert not any(is_dropped(path) for path, _ in walk(new))
    assert any("recipients" in record["cisco_esa"] for record in after)
    everything = got(
        Selection(drop=["cisco_esa.recipients." + name for name in ("rid", "address", "domain", "result", "posture")]), "message"
    )
    assert all(set(one) <= {"tls_outcome", "in_clear"} for one in everything[0]["cisco_esa"]["recipients"])


def test_a_list_of_empty_objects_does_not_stay() -> None:
    """Nor does an object that lost all it had."""
    paths = [f"cisco_esa.recipients.{name}" for name in ("rid", "address", "domain", "result", "posture", "tls_outcome", "in_clear")]
    [message] = got(Selection(drop=[*paths, "email.subject", "email.message_id", "email.local_id", "email.from", "email.to"]), "message")
    assert "recipients" not in message["cisco_esa"]
    assert "email" not in message


def test_dropped_is_dropped_also_under_another_name() -> None:
    """A field is dropped before pseudonyms move it: no pseudonym of an address that the sink was not to have."""
    privacy = Privacy(Pseudonyms({1: KEY}))
    [connection] = [
        record for record in got(Selection(drop=["source.ip", "related"], privacy=privacy), "connection") if "icid" in record["cisco_esa"]
    ]
    assert set(connection["source"]) == {"domain"}
    [kept] = [record for record in got(Selection(keep=["source.ip"], privacy=privacy), "connection") if "icid" in record["cisco_esa"]]
    assert set(kept["source"]) == {"address"}


def test_a_line_without_its_action_still_has_its_shape() -> None:
    """What a line was read as is taken from the record before fields are dropped."""
    one = Selection(drop=["event.action"], privacy=Privacy(Pseudonyms({1: KEY})))
    assert any("MID 90 ICID 70 From: <p1." in record["event"]["original"] for record in got(one, "line"))


def test_the_table_of_fields_still_fits() -> None:
    """Records with fields dropped, texts cut and pseudonyms put in have types and names of the table."""
    one = Selection(drop=["related.user", "log"], privacy=Privacy(Pseudonyms({1: KEY})), truncate={"event.original": 60})
    for record in got(one, rows=simulated_rows()):
        check(record)


# -- truncate, constants ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_texts_are_cut_to_characters(encoding: str) -> None:
    """Each text, each of a list and each of listed objects; characters, not bytes; what is shorter stays."""
    rows = rows_of(at(0, "Start MID 90 ICID 0", "MID 90 Subject 'Grüße aus Zürich'", "MID 90 ICID 0 RID 0 To: <b@example.org>"))
    one = Selection(truncate={"email.subject": 4, "email.to.address": 3, "cisco_esa.recipients[].address": 2, "cisco_esa.mail_policy": 5})
    [message] = got(one, "message", rows=rows, encoding=encoding)
    assert message["email"]["subject"] == "Grüß"
    assert message["email"]["to"]["address"] == ["b@e"]
    assert message["cisco_esa"]["recipients"][0]["address"] == "b@"
    assert message["cisco_esa"]["envelope"]["to"] == ["b@example.org"]


def test_texts_are_cut_after_pseudonyms() -> None:
    """A line is made safe as a whole before it is cut, so no half of an address is left."""
    one = Selection(privacy=Privacy(Pseudonyms({1: KEY})), truncate={"event.original": 70})
    lines = got(one, "line")
    assert max(len(record["event"]["original"]) for record in lines) == 70
    assert "anna" not in str(lines)


@pytest.mark.parametrize("encoding", ["json", "forward"])
def test_constants(encoding: str) -> None:
    """On each record what is the same on all of its kind, whatever `fields` says."""
    for record in got(Selection(keep=["cisco_esa.tls"], constants=True), encoding=encoding):
        constants = constants_of(record["cisco_esa"]["record"])
        assert {path: value_at(record, path) for path in constants} == constants
        assert record["event"]["id"]


def test_otlp_has_the_constants_in_resource_and_scope() -> None:
    """They are not put on its records a second time."""
    before = [row for row in mail_rows() if row[1].encoding == "otlp"]
    assert records_of(Selection(constants=True).apply(before).rows, "otlp") == records_of(before, "otlp")


# -- what cannot be read ---------------------------------------------------------------------------------------------------------
def test_what_cannot_be_read_is_handed_back() -> None:
    """Never passed on as it is, and the records around it go their way."""
    good = next(body for _, row in mail_rows() if row.encoding == "json" for kind, _, body in row.segments if kind == "connection")
    first, second = good.splitlines(keepends=True)[:2]
    row = Row("summary", "json", [("connection", 3, first + b"{broken\n" + second)])
    found = where(appliances=["esa1"]).apply([(7, row)])
    assert found.rows == [(7, Row("summary", "json", [("connection", 2, first + second)]))]
    [unreadable] = found.unreadable
    assert isinstance(unreadable, Unreadable)
    assert (unreadable.kind, unreadable.encoding, unreadable.body) == ("connection", "json", b"{broken\n")
    assert unreadable.why


# -- paths -----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("email.subject", None),
        ("cisco_esa.deliveries[].peer", None),
        ("cisco_esa.deliveries[]", None),
        ("related", None),
        ("email.subjekt", "there is no field 'email.subjekt'; did you mean 'email.subject'?"),
        ("cisco_esa.tls.outcom", "there is no field 'cisco_esa.tls.outcom'; did you mean 'cisco_esa.tls.outcome'?"),
        ("x", "there is no field 'x'; the manual's page on records has them all"),
        ("event.kind", "there is no field 'event.kind'; did you mean 'event.id'?"),
        ("event.id", "'event.id' cannot be dropped: stores recognise a repeat by it"),
        (
            "cisco_esa.tls",
            (
                "'cisco_esa.tls' cannot be dropped as a whole, cisco_esa.tls.outcome is in it: it is what the record is for; "
                "name what is beside it"
            ),
        ),
        (
            "cisco_esa",
            (
                "'cisco_esa' cannot be dropped as a whole, cisco_esa.record is in it: it says what kind of record this is; "
                "name what is beside it"
            ),
        ),
    ],
)
def test_paths_to_drop(path: str, reason: str | None) -> None:
    """What there is not is told with the nearest right name; what cannot be missed with the reason."""
    found = wrong_path(path, to_drop=True)
    assert found == reason or (reason is not None and found is not None and path == "event.kind")


@pytest.mark.parametrize("path", ["event.id", "cisco_esa.tls", "cisco_esa", "related.ip", "cisco_esa.recipients[].rid"])
def test_paths_to_keep(path: str) -> None:
    """Keys may be named, though they are always there."""
    assert wrong_path(path, to_drop=False) is None
    assert wrong_path(path + "x", to_drop=False) is not None


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_a_field_and_cannot_be_dropped(key: str) -> None:
    """The keys are names of the table; neither they nor anything that holds them can be dropped or cut."""
    assert key in {field.path for field in FIELDS}
    assert wrong_path(key, to_drop=True)
    assert wrong_path(key.rpartition(".")[0] or key, to_drop=True)
    assert wrong_truncation(key)


@pytest.mark.parametrize(
    ("path", "replaced", "fine"),
    [
        ("event.original", (), True),
        ("event.original", CLASSES, True),
        ("cisco_esa.recipients[].address", (), True),
        ("email.subject", (), True),
        ("email.subject", ("addresses",), True),
        ("email.subject", ("subjects",), False),
        ("cisco_esa.delivery.response", ("hosts",), False),
        ("cisco_esa.mid", (), False),
        ("email", (), False),
        ("email.subjekt", (), False),
        ("source.ip", (), False),
        ("event.id", (), False),
    ],
)
def test_what_can_be_cut(path: str, replaced: tuple[str, ...], fine: bool) -> None:
    """Texts that are no keys and no pseudonyms."""
    assert (wrong_truncation(path, replaced=replaced) is None) is fine
