from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs
from tests.unit.wire.selection_cases import CORPUS, ENCODINGS, corpus_rows, mail_rows, records_of, simulated_rows, without_host

from esa_tls.core.batch import Row
from esa_tls.core.protobuf import field, key_value
from esa_tls.wire.outbox_records import read, write


def all_rows() -> list[tuple[int, Row]]:
    """Of every log at hand."""
    return [*mail_rows(), *simulated_rows(), *(row for path in CORPUS for row in corpus_rows(path))]


@pytest.mark.parametrize("encoding", ["json", "forward"])
def test_what_is_read_is_written_byte_for_byte(encoding: str) -> None:
    """JSON lines and Forward entries that are read and written back are the same bytes."""
    for _, row in all_rows():
        for _, count, body in row.segments if row.encoding == encoding else ():
            found = list(read(encoding, body))
            assert len(found) == count
            assert b"".join(one.raw for one in found) == body
            assert b"".join(write(encoding, one.record, one) for one in found if one.record is not None) == body


def _sorted(record: LogRecord) -> LogRecord:
    copy = LogRecord()
    copy.CopyFrom(record)
    pairs = sorted(copy.attributes, key=lambda pair: pair.key)
    del copy.attributes[:]
    copy.attributes.extend(pairs)
    return copy


def test_otlp_records_say_the_same_when_they_are_written() -> None:
    """By the protobuf runtime: the same LogRecord, its attributes in another order, the appliance's first."""
    for _, row in all_rows():
        for _, count, body in row.segments if row.encoding == "otlp" else ():
            found = list(read("otlp", body))
            assert b"".join(one.raw for one in found) == body
            written = b"".join(write("otlp", one.record, one) for one in found if one.record is not None)
            before, after = ScopeLogs.FromString(body).log_records, ScopeLogs.FromString(written).log_records
            assert len(before) == len(after) == count
            for one, other in zip(before, after, strict=True):
                assert other.attributes[0].key == "cisco_esa.appliance"
                assert _sorted(one) == _sorted(other)


def test_a_record_is_the_same_dict_in_each_encoding() -> None:
    """What is done with a record need not know where it was read from."""
    rows = all_rows()
    json_records = records_of(rows, "json")
    assert len(json_records) > 1000
    assert records_of(rows, "forward") == json_records
    assert records_of(rows, "otlp") == [without_host(record) for record in json_records]


def test_what_is_read_is_the_readers_own() -> None:
    """Records are changed in place: a second reading of the same bytes does not show it."""
    body = next(body for _, row in mail_rows() if row.encoding == "otlp" for kind, _, body in row.segments if kind == "message")

    def told() -> str:
        [one] = read("otlp", body)
        assert one.record is not None
        before = repr(one.record)
        for recipient in one.record["cisco_esa"]["recipients"]:
            recipient.clear()
        one.record["event"]["category"].append("changed")
        one.record["email"]["to"]["address"].clear()
        return before

    assert told() == told()


def test_short_attributes_are_remembered_and_still_the_readers_own() -> None:
    """An attribute that comes again is not decoded again; lists of objects, of texts and single texts in it are nobody else's."""
    pairs = {
        "cisco_esa.appliance": "esa1",
        "cisco_esa.record": "message",
        "cisco_esa.recipients": [{"rid": 0, "address": "a@b.example"}],
        "email.to.address": ["a@b.example"],
    }
    segment = field(2, field(12, b"cisco_esa.message") + b"".join(field(6, key_value(key, value)) for key, value in pairs.items()))
    for _ in range(3):
        [one] = read("otlp", segment)
        assert one.record is not None
        assert one.record["cisco_esa"]["recipients"] == [{"rid": 0, "address": "a@b.example"}]
        assert one.record["email"]["to"]["address"] == ["a@b.example"]
        one.record["cisco_esa"]["recipients"][0]["address"] = "changed"
        one.record["email"]["to"]["address"][0] = "changed"


def test_the_sentence_is_made_of_what_is_left() -> None:
    """The body of an OTLP summary says nothing that was taken out of the record."""
    body = next(body for _, row in mail_rows() if row.encoding == "otlp" for kind, _, body in row.segments if kind == "message")
    [one] = read("otlp", body)
    assert one.record is not None
    del one.record["cisco_esa"]["envelope"]
    [before] = ScopeLogs.FromString(body).log_records
    [after] = ScopeLogs.FromString(write("otlp", one.record, one)).log_records
    assert "anna@example.com" in before.body.string_value
    assert "anna" not in after.body.string_value
    assert after.body.string_value.startswith("MID 90: ")


def test_a_line_whose_text_is_gone_has_no_body() -> None:
    """Nor a severity without a level, nor an observed time without `event.created`."""
    body = next(body for _, row in mail_rows() if row.encoding == "otlp" for kind, _, body in row.segments if kind == "line")
    one = next(read("otlp", body))
    assert one.record is not None
    del one.record["event"]["original"], one.record["event"]["created"], one.record["log"]
    [after] = ScopeLogs.FromString(write("otlp", one.record, one)).log_records
    assert not after.HasField("body")
    assert after.observed_time_unix_nano == after.severity_number == 0
    assert after.time_unix_nano > 0


@pytest.mark.parametrize(
    ("encoding", "segment", "readable"),
    [
        ("json", b'{"a":1}\n{"a":\n{"b":"\xff"}\n{"c":1}\n', [True, False, False, True]),
        ("json", b"[1]\n", [False]),
        (
            "forward",
            b"\x92\xd7\x00" + bytes(8) + b"\x81\xa1a\x01" + b"\x92\x01\x80" + b"\x92\xd7\x00" + bytes(8) + b"\x81",
            [True, False, False],
        ),
        ("forward", b"\xc1", [False]),
        ("otlp", b"\x12\x05abc", [False]),
        ("otlp", field(2, b"\xff\xff") + field(2, b""), [False, False]),
    ],
)
def test_what_cannot_be_read_is_told_with_its_bytes(encoding: str, segment: bytes, readable: list[bool]) -> None:
    """Nothing raises, nothing is lost: the bytes that make no record come with a reason."""
    found = list(read(encoding, segment))
    assert [one.record is not None for one in found] == readable
    assert b"".join(one.raw for one in found) == segment
    assert all(bool(one.why) == (one.record is None) for one in found)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_every_file_of_the_corpus_can_be_read(path: Path) -> None:
    """No record of a real log is unreadable in any encoding."""
    rows = corpus_rows(path)
    assert all(one.record is not None for _, row in rows for _, _, body in row.segments for one in read(row.encoding, body))
    assert {row.encoding for _, row in rows} == set(ENCODINGS)
