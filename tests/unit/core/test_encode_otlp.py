"""The encoding `otlp` against the JSON of the same records, read back by the protobuf runtime."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs

from esa_tls.core.batch import Batch, Origin, Run, Sealed
from esa_tls.core.encode_otlp import OTEL_NAMES, appliance_of
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.protobuf import message_ends
from esa_tls.core.sentences import sentence
from esa_tls.core.state import DictState
from esa_tls.errors import MalformedMessage
from esa_tls.offline.simulate import SimulationSettings, simulate

CORPUS = sorted((Path(__file__).parents[2] / "corpus").glob("*.log"))
SEVERITIES = {"Critical": 21, "Warning": 13, "Info": 9, "Debug": 5, "Trace": 1}


def sealed(lines: Iterable[bytes], *, origins: tuple[Origin, ...] = (Origin(tag="esa1"),), flags: tuple[str, ...] = ()) -> Sealed:
    """Records of these lines in both encodings; line n comes from origin n modulo their number."""
    pipeline = Pipeline(CoreSettings(max_hold_s=5), DictState(), encodings=("json", "otlp"), now_s=1.7e9)
    found = list(lines)
    runs = [Run(origin, found[n :: len(origins)], None, flags) for n, origin in enumerate(origins)]
    pipeline.feed(Batch(runs, 1, None, 1.7e9), now_s=1.7e9)
    pipeline.end_stream()
    made = pipeline.seal()
    assert made is not None
    return made


def json_records(made: Sealed, cls: str) -> list[tuple[str, dict[str, Any]]]:
    """(kind, record) in order."""
    return [
        (kind, json.loads(line))
        for row in made.rows
        if (row.cls, row.encoding) == (cls, "json")
        for kind, _, body in row.segments
        for line in body.splitlines()
    ]


def otlp_records(made: Sealed, cls: str) -> list[tuple[str, str, LogRecord]]:
    """(kind, appliance of the segment, record) in order, read by the runtime."""
    found = []
    for row in made.rows:
        if (row.cls, row.encoding) == (cls, "otlp"):
            for kind, count, body in row.segments:
                records = ScopeLogs.FromString(body).log_records
                assert count == len(records) == len(message_ends(body))
                found += [(kind, appliance_of(body), record) for record in records]
    return found


def plain(value: AnyValue) -> Any:
    """An AnyValue as JSON would have it."""
    match value.WhichOneof("value"):
        case "array_value":
            return [plain(one) for one in value.array_value.values]
        case "kvlist_value":
            return {pair.key: plain(pair.value) for pair in value.kvlist_value.values}
        case None:
            return None
        case name:
            return getattr(value, name)


def leaves(value: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Dotted names."""
    found: dict[str, Any] = {}
    for key, one in value.items():
        found |= leaves(one, f"{path}{key}.") if isinstance(one, dict) else {path + key: one}
    return found


def nanoseconds(text: str) -> int:
    """Of a date in a record."""
    return int(datetime.fromisoformat(text).timestamp()) * 10**9


def check(kind: str, record: dict[str, Any], appliance: str, made: LogRecord) -> None:
    """A LogRecord says what the JSON record says, field by field, and nothing else."""
    expected = leaves(record)
    body = expected.pop("event.original", None)
    level = expected.pop("log.level", "")
    assert plain(made.body) == (sentence(record) if body is None else body)
    assert made.time_unix_nano == nanoseconds(expected.pop("@timestamp"))
    assert made.observed_time_unix_nano == nanoseconds(expected.pop("event.created"))
    assert (made.severity_text, made.severity_number) == (level, SEVERITIES.get(level, 0))
    assert made.event_name == f"cisco_esa.{expected.pop('cisco_esa.record')}" == f"cisco_esa.{kind}"
    assert appliance == expected.pop("host.name") == expected["cisco_esa.appliance"]
    assert made.attributes[0].key == "cisco_esa.appliance"
    attributes = {pair.key: plain(pair.value) for pair in made.attributes}
    assert len(attributes) == len(made.attributes), "a key twice"
    assert attributes["log.record.uid"] == record["event"]["id"]
    assert attributes == {OTEL_NAMES.get(key, key): value for key, value in expected.items()}


def check_all(made: Sealed) -> set[str]:
    """Every record of both encodings; returns the kinds there were."""
    kinds = set()
    for cls in ("line", "summary"):
        by_id: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        for kind, one in json_records(made, cls):
            by_id.setdefault(one["event"]["id"], []).append((kind, one))
        for kind, appliance, record in otlp_records(made, cls):
            uid = next(pair.value.string_value for pair in record.attributes if pair.key == "log.record.uid")
            expected_kind, expected = by_id[uid].pop(0)
            assert kind == expected_kind
            check(kind, expected, appliance, record)
            kinds.add(kind)
        assert not any(by_id.values())
    return kinds


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_every_line_of_the_corpus(path: Path) -> None:
    """Lines that the public web has, with and without a flag on all of them."""
    lines = [line for line in path.read_bytes().splitlines() if line]
    check_all(sealed(lines))
    check_all(sealed(lines, flags=("reconstructed",)))


def test_a_simulated_day() -> None:
    """Thousands of lines with connections, deliveries and messages of every outcome."""
    lines = [line for _, line in simulate(SimulationSettings(seed=3, messages=300))]
    assert {"line", "connection", "delivery", "message"} <= check_all(sealed(lines))


def test_a_segment_has_one_appliance() -> None:
    """Lines of several appliances in one group are segments of their own, in order inside each; long names and odd ones too."""
    lines = [b"Mon Apr 17 19:56:22 2023 Info: MID %d Subject 'x%d'" % (n, n) for n in range(30)]
    names = ("esa1", "ä" * 100, 'a"\\b')
    made = sealed(lines, origins=tuple(Origin(tag=name) for name in names))
    check_all(made)
    (row,) = [row for row in made.rows if (row.cls, row.encoding) == ("line", "otlp")]
    assert [("line", 10)] * 3 == [segment[:2] for segment in row.segments]
    assert set(names) == {appliance_of(segment[2]) for segment in row.segments}
    for index, name in enumerate(names):
        bodies = [record.body.string_value.encode() for _, appliance, record in otlp_records(made, "line") if appliance == name]
        assert bodies == lines[index::3]


def test_odd_lines() -> None:
    """No UTF-8 (with the bytes beside it), very long, empty, untimed, with a priority, a version line that adds to the observer."""
    stamp = b"Mon Apr 17 19:56:22 2023 "
    made = sealed(
        [
            stamp + b"Info: MID 5 Subject '\xff\xfe'",
            stamp + b"Info: MID 5 Subject '" + b"x" * 20_000 + b"'",
            stamp + b"Critical: Something unheard of",
            b"",
            b"Info: New SMTP DCID 8 interface 10.1.1.1 address 192.0.2.7 port 25",
            b"<166>Apr 17 19:56:23 esa1.example.net mail_logs: Info: ICID 9 close",
            stamp + b"Info: Version: 14.2.0-616 SN: 0123456789-ABCDEF",
            stamp + b"Info: Version: 15.0.0-001 SN: 0123456789-ABCDEF",
            stamp + b"Info: MID 6 ICID 9 RID [0, 1, 2] To: <a@example.com>",
            stamp + b"Info: Delivery start DCID 8 MID 6 to RID [0, 1, 2]",
            stamp + b"Info: MID 6 ICID 9 RID 99 To: <a@example.com>",
        ]
    )
    check_all(made)
    assert b"/A==" not in b"".join(record.SerializeToString() for _, _, record in otlp_records(made, "line"))


def test_lines_are_not_much_longer_than_in_json() -> None:
    """Dotted names repeat what JSON nests; still a record is at most half as long again."""
    made = sealed(line for _, line in simulate(SimulationSettings(seed=3, messages=300)))
    size = {
        encoding: sum(len(body) for row in made.rows if (row.cls, row.encoding) == ("line", encoding) for _, _, body in row.segments)
        for encoding in ("json", "otlp")
    }
    assert size["otlp"] < 1.5 * size["json"]


def test_whose_a_segment_is() -> None:
    """Read from the first record; bytes that are no segment are refused."""
    made = sealed([b"Mon Apr 17 19:56:22 2023 Info: MID 5 Subject 'x'"])
    body = next(row for row in made.rows if row.encoding == "otlp").segments[0][2]
    assert appliance_of(body) == "esa1"
    for wrong in (
        b"",
        b"\x12\x00",
        b"\x12\x02\x09\x00",
        ScopeLogs(log_records=[LogRecord(flags=9)]).SerializeToString(),
        body[:20],
    ):
        with pytest.raises(MalformedMessage):
            appliance_of(wrong)


def test_records_are_readable_as_json_too() -> None:
    """Nothing in them that protobuf's JSON mapping cannot say (no broken UTF-8)."""
    made = sealed([b"Mon Apr 17 19:56:22 2023 Info: MID 5 Subject '\xf0\x9f\x98\x80 \xed\xa0\x80'"])
    assert MessageToDict(otlp_records(made, "line")[0][2])["body"]
