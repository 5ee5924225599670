from __future__ import annotations

import copy
import typing
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from tests.unit.api.cases import corpus_records

from esa_tls.api.convert import KINDS, PLACES, enum_number, enum_word, to_dict, to_record
from esa_tls.api.v1 import records_pb2
from esa_tls.core.fields import FIELDS
from esa_tls.core.summaries import DELIVERY_RESULTS


def paths_of(kind: str, place: str = "") -> set[str]:
    """All places that a message type has in a record, lists of objects included."""
    found = set()
    for field in records_pb2.DESCRIPTOR.message_types_by_name[kind].fields:
        path = ".".join(part for part in (place, PLACES[kind][field.name]) if part)
        if field.message_type is None or field.message_type.file.name.startswith("google/"):
            found.add(path)
        else:
            found |= paths_of(field.message_type.name, path) | ({path} if field.is_repeated else set())
    return found


# -- the schema is whole ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_the_records_is_typed(kind: str) -> None:
    """Each field that a kind of record may have has its place in the schema; the kind itself is said by the message type."""
    wanted = {field.path for field in FIELDS if kind in field.kinds}

    assert set() == wanted - paths_of(KINDS[kind]) - {"cisco_esa.record"}


def test_no_field_of_the_schema_is_invented() -> None:
    """Each field of the schema is a field of some record; but for those of shared message types never set in one of their places."""
    shared = {"cisco_esa.reception.peer.port", *(f"cisco_esa.delivery_tls.{name}" for name in ("in_clear", "expected", "partners"))}

    assert shared == {path for kind in KINDS.values() for path in paths_of(kind)} - {field.path for field in FIELDS}


def test_every_field_has_a_place() -> None:
    """`PLACES` names exactly the fields of the schema."""
    for name, message in records_pb2.DESCRIPTOR.message_types_by_name.items():
        if name != "Record":
            assert {field.name for field in message.fields} == set(PLACES[name]), name


def test_results_of_deliveries_are_those_of_the_core() -> None:
    """The enum has every result that the core can give."""
    assert all(enum_number("DeliveryResult", result) for result in DELIVERY_RESULTS)


def test_closed_lists_named_in_the_table_are_enums() -> None:
    """Every word that the table of fields quotes for a field with an enum is a value of it."""
    quoted = {
        "cisco_esa.tls.outcome": "TlsOutcome",
        "cisco_esa.tls.evidence": "Evidence",
        "cisco_esa.direction": "Direction",
        "network.direction": "NetworkDirection",
        "cisco_esa.posture": "Posture",
        "cisco_esa.delivery.result": "DeliveryResult",
        "cisco_esa.recipients.result": "RecipientResult",
        "cisco_esa.connection.end": "ConnectionEnd",
        "cisco_esa.message.end": "MessageEnd",
        "cisco_esa.child_kind": "ChildKind",
        "cisco_esa.flags": "Flag",
        "cisco_esa.time_source": "TimeSource",
        "event.outcome": "EventOutcome",
        "event.category": "EventCategory",
        "cisco_esa.record": "RecordKind",
    }
    meanings = {field.path: field.meaning for field in FIELDS}
    for path, enum in quoted.items():
        words = set(meanings[path].split("`")[1::2]) - {"@timestamp"}
        assert words, path
        assert [] == [word for word in words if not enum_number(enum, word)], path


# -- there and back --------------------------------------------------------------------------------------------------------------
def test_every_record_comes_back_as_it_was() -> None:
    """Every record the core makes of the corpus and of simulated traffic is the same after a trip through bytes."""
    records = corpus_records()
    assert set(KINDS) == {record["cisco_esa"]["record"] for record in records}

    for record in records:
        sent = to_record(record).SerializeToString()
        assert record == to_dict(records_pb2.Record.FromString(sent))


def test_bytes_that_are_no_text_are_typed_as_bytes() -> None:
    """A line that is not UTF-8 carries its bytes, not their base64."""
    record = next(one for one in corpus_records() if "raw_base64" in one["cisco_esa"])

    assert b"\xff\x00 \xc3(" == to_record(record).line.raw


def test_typed_values() -> None:
    """A record's words are enums, its times and durations the well-known types, and false is not absent."""
    record = next(
        one for one in corpus_records() if one["cisco_esa"]["record"] == "delivery" and "duration" in one["event"] and "tls" in one
    )
    made = to_record(record).delivery

    assert record["event"]["duration"] == made.header.duration.ToNanoseconds()
    assert record["@timestamp"] == made.header.time.ToJsonString()
    assert records_pb2.DIRECTION_OUTBOUND == made.leg.direction
    assert record["cisco_esa"]["delivery"]["result"] == enum_word("DeliveryResult", made.delivery.result)
    assert made.leg.tls.HasField("in_clear") == ("in_clear" in record["cisco_esa"]["tls"])


# -- what does not fit -----------------------------------------------------------------------------------------------------------
def example(kind: str) -> dict[str, Any]:
    """A record of this kind, to be spoiled."""
    return copy.deepcopy(next(one for one in corpus_records() if one["cisco_esa"]["record"] == kind))


def test_an_unknown_word_is_unspecified_and_then_absent() -> None:
    """A word that is no value of its enum becomes the zero value, and is absent on the way back; all else stays."""
    record = example("connection")
    record["cisco_esa"]["tls"]["outcome"] = "quantum"
    record["event"]["type"] = ["connection", "novel"]

    made = to_record(record)

    assert made.connection.leg.tls.HasField("outcome")
    assert records_pb2.TLS_OUTCOME_UNSPECIFIED == made.connection.leg.tls.outcome
    back = to_dict(made)
    assert "outcome" not in back["cisco_esa"]["tls"]
    assert ["connection"] == back["event"]["type"]
    assert record["event"]["id"] == back["event"]["id"]


def test_a_number_from_a_newer_schema_is_absent() -> None:
    """Enum values that only a newer schema knows do not crash a reader of this one."""
    made = to_record(example("message"))
    made.message.posture = typing.cast("records_pb2.Posture", 99)
    made.message.header.flags.append(typing.cast("records_pb2.Flag", 77))

    back = to_dict(records_pb2.Record.FromString(made.SerializeToString()))

    assert "posture" not in back["cisco_esa"]
    assert "flags" not in back["cisco_esa"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("cisco_esa.mid", -1),
        ("cisco_esa.mid", 1 << 64),
        ("cisco_esa.mid", "21"),
        ("cisco_esa.rids", 7),
        ("cisco_esa.envelope", "no object"),
        ("cisco_esa.mail_flow", ["a"]),
        ("event.created", "yesterday"),
        ("event.created", 17),
        ("event.duration", "long"),
        ("email.subject", "\ud800"),
        ("email.subject", None),
        ("cisco_esa.tls.outcome", {"a": 1}),
        ("unheard.of", {"deep": [1]}),
        ("cisco_esa", {"record": "delivery", "unheard": 1}),
    ],
)
def test_a_value_that_does_not_fit_is_left_out(path: str, value: Any) -> None:
    """Whatever stands where something else is wanted, the rest of the record is converted."""
    record = example("delivery")
    *keys, last = path.split(".")
    place = record
    for key in keys:
        place = place.setdefault(key, {})
    place[last] = value

    made = to_record(record)

    assert record["event"]["id"] == made.delivery.header.id
    assert "21" not in MessageToDict(made.delivery).get("mid", "")


def test_a_bad_time_is_not_the_year_1970() -> None:
    """A time that cannot be read is absent, not zero."""
    record = example("delivery")
    record["event"]["created"] = "yesterday"

    assert not to_record(record).delivery.header.HasField("created")


@pytest.mark.parametrize(
    "record", [{}, {"cisco_esa": {}}, {"cisco_esa": {"record": "novel"}}, {"cisco_esa": {"record": 3}}, {"cisco_esa": "x"}]
)
def test_an_unknown_kind_is_an_empty_record(record: dict[str, Any]) -> None:
    """A kind the schema does not know gives an empty record, and that an empty dict."""
    made = to_record(record)

    assert None is made.WhichOneof("record")
    assert {} == to_dict(made)
