"""The encoding `otlp`: records as OTLP `LogRecord`s (opentelemetry-proto `logs.proto`), ready to be put together into requests.

A segment is a concatenation of `ScopeLogs.log_records` fields (tag 0x12, length, LogRecord), all of one kind **and one appliance**: a
row has as many segments of a kind as it has appliances. So a request is made by putting segments behind a resource, and nothing is
decoded; `appliance_of` reads whose a segment is from its first record, which begins with the attribute `cisco_esa.appliance`.

How a record becomes a LogRecord (docs/otlp.md, "Out"):

==============================  ================================================================================================
time, observed time             `@timestamp`, `event.created`
severity                        `log.level`; none if the record has no level
body                            `event.original` of lines, else the sentence of `sentences.py`
event_name                      `cisco_esa.{record}`
attribute `log.record.uid`      `event.id`
`client.*`, `server.*`          `source` and `destination`: their addresses and ports, whose OpenTelemetry names are stable
resource                        `host.name`, and what `wire/otlp_encode.py` puts there
attributes                      everything else, under its dotted name; lists of objects as arrays of maps
==============================  ================================================================================================

`log_record` says what a record is; lines are spliced from pieces cached per prefix, leg and action, and a test compares both by the
protobuf runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from esa_tls.core.connections import Leg
from esa_tls.core.line_record import NO_LINE, Leaving, Line, action_key, categories, log_of, own_of
from esa_tls.core.prefix import Prefix
from esa_tls.core.protobuf import any_value, field, fields, fixed64, key_value, varint
from esa_tls.core.records import ACTIONS, TLS_ACTIONS, facts_of, triple, triple_on_line
from esa_tls.core.sentences import sentence
from esa_tls.errors import MalformedMessage

SEVERITIES: Final = {"Critical": 21, "Warning": 13, "Info": 9, "Debug": 5, "Trace": 1}
"""ESA level -> OTLP severity number (docs/wires.md 2.4)."""

OTEL_NAMES: Final = {
    "event.id": "log.record.uid",
    "source.ip": "client.address",
    "source.address": "client.address",
    "source.port": "client.port",
    "destination.ip": "server.address",
    "destination.address": "server.address",
    "destination.port": "server.port",
}
"""Fields whose OpenTelemetry attribute is stable and means the same: the source of a mail connection is always its client."""

_ELSEWHERE: Final = frozenset(
    {"@timestamp", "event.created", "event.original", "log.level", "host.name", "cisco_esa.record", "cisco_esa.appliance"}
)
"""Fields that are no attributes: they have a place of their own in the LogRecord or its resource, or come first."""

_NS: Final = 1_000_000_000


def attribute(path: str, value: object) -> bytes:
    """One `LogRecord.attributes` field of a record's field."""
    return field(6, key_value(OTEL_NAMES.get(path, path), value))


class _Place(dict[str, "_Place"]):
    """A place in a record: what is below it by key, and what stands before a value there. Filled as places are met.

    The heads are by the length of what follows them, so that an attribute is two pieces of bytes and nothing is worked out twice.
    """

    __slots__ = ("elsewhere", "field", "ints", "path", "strings")

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.elsewhere = path in _ELSEWHERE
        self.field = field(1, OTEL_NAMES.get(path, path).encode())
        self.strings = {size: self.string_head(size) for size in range(120)}
        self.ints = [self._head(1 + size) + b"\x18" for size in range(11)]

    def __missing__(self, key: str) -> _Place:
        below = self[key] = _Place(f"{self.path}.{key}" if self.path else key)
        return below

    def string_head(self, size: int) -> bytes:
        """What stands before a string of `size` bytes."""
        length = varint(size)
        return self._head(1 + len(length) + size) + b"\x0a" + length

    def value(self, value: bytes) -> bytes:
        """The whole attribute of an `AnyValue`."""
        return self._head(len(value)) + value

    def _head(self, size: int) -> bytes:
        length = varint(size)
        return b"\x32" + varint(len(self.field) + 1 + len(length) + size) + self.field + b"\x12" + length


_RECORD: Final = _Place("")
_OWN: Final = _RECORD["cisco_esa"]


def attributes(record: Mapping[str, Any], place: _Place = _RECORD) -> bytes:
    """All attributes of a record (or of what stands at `place` of one), but those that stand elsewhere."""
    out: list[bytes] = []
    _put(out, record, place)
    return b"".join(out)


def _put(out: list[bytes], record: Mapping[str, Any], place: _Place) -> None:
    """Add the attributes of every leaf, lists being leaves."""
    for key, value in record.items():
        here = place[key]
        if here.elsewhere:
            continue
        kind = type(value)
        if kind is str:
            text = value.encode()
            size = len(text)
            out += (here.strings[size] if size < 120 else here.string_head(size), text)
        elif kind is dict:
            _put(out, value, here)
        elif kind is int:
            number = varint(value & 0xFFFFFFFFFFFFFFFF)
            out += (here.ints[len(number)], number)
        elif kind is tuple:
            out.append(_constant_list(here.path, value))
        else:
            out.append(here.value(any_value(value)))


@lru_cache(maxsize=256)
def _constant_list(path: str, values: tuple[str | int, ...]) -> bytes:
    """Tuples in records are constants: categories and types."""
    return attribute(path, values)


@lru_cache(maxsize=4096)
def _first_attribute(appliance: str) -> bytes:
    return attribute("cisco_esa.appliance", appliance)


def appliance_of(segment: bytes) -> str:
    """Whose the records of a segment are. Raises MalformedMessage."""
    for number, record in fields(segment):
        if number == 2 and isinstance(record, bytes):
            for inner, value in fields(record):
                if inner == 6 and isinstance(value, bytes):
                    pair = dict(fields(value))
                    if pair.get(1) == b"cisco_esa.appliance" and isinstance(named := pair.get(2), bytes):
                        text = dict(fields(named)).get(1)
                        if isinstance(text, bytes):
                            return text.decode("utf-8", "replace")
                break
        break
    raise MalformedMessage("a segment of OTLP records that does not begin with its appliance")


@lru_cache(maxsize=4096)
def _seconds(text: str) -> int:
    """`iso()` undone."""
    return int(datetime.fromisoformat(text).timestamp())


@lru_cache(maxsize=4096)
def _observed(created: str) -> bytes:
    return fixed64(11, _seconds(created) * _NS)


def _time(seconds: int) -> bytes:
    return fixed64(1, max(seconds, 0) * _NS)


def _severity(level: str | None) -> bytes:
    return b"\x10" + bytes((SEVERITIES.get(level, 0),)) + field(3, level.encode()) if level else b""


def log_record(record: Mapping[str, Any], time_s: int) -> bytes:
    """A record as a `LogRecord` message: the reference for the splices, and what summaries are made by."""
    own, event = record["cisco_esa"], record["event"]
    body = event.get("original")
    return b"".join(
        (
            _first_attribute(own["appliance"]),
            _time(time_s),
            _severity(record.get("log", {}).get("level")),
            field(12, b"cisco_esa." + own["record"].encode()),
            _observed(event["created"]),
            field(5, any_value(sentence(record) if body is None else body)),
            attributes(record),
        )
    )


# -- pieces of lines -------------------------------------------------------------------------------------------------------------
def _action_piece(key: str) -> bytes:
    return attributes({"event": {"action": "hat-decided" if key == "hat-denied" else key, **categories(key)}})


_ACTIONS: Final = {key: _action_piece(key) for key in ACTIONS}


_SEQUENCE: Final = _RECORD["event"]["sequence"].ints
_MID: Final = _OWN["mid"].ints
_RIDS: Final[dict[tuple[int, ...], bytes]] = {(rid,): attribute("cisco_esa.rids", [rid]) for rid in range(64)}
_UID: Final = b"\x32\x2e\x0a\x0elog.record.uid\x12\x1c\x0a\x1a"
"""What stands before the 26 characters of a line's `log.record.uid`."""


class OtlpRecords:
    """Records as OTLP log records, in segments of one kind and appliance."""

    name = "otlp"
    interleaved = False
    wants_lines = True

    def __init__(self) -> None:
        self.encoded: dict[str, list[bytes]] = {}
        self.summaries: dict[tuple[str, str], list[bytes]] = {}

    def lines(self, leaving: Sequence[Leaving]) -> None:
        """Add `line` records."""
        for prefix, line, leg in leaving:
            self._line(prefix, line, leg)

    def _line(self, prefix: Prefix, line: Line, leg: Leg | None) -> None:
        pieces = prefix.otlp
        if pieces is None:
            pieces = prefix.otlp = _head(prefix, NO_LINE)
        head: bytes = pieces
        fact = line.fact
        if line.flags or line.raw_base64 is not None:
            head = _head(prefix, line)
        key = fact.action
        if key == "hat-decided":
            key = action_key(fact)
        if leg is None:
            triple_piece = b""
        elif key in TLS_ACTIONS:
            own, beside = triple(prefix.appliance, leg)
            triple_piece = attributes({"cisco_esa": own, **beside})
        else:
            known = leg.otlp
            if known is None:
                known = leg.otlp = attributes(triple_on_line(prefix.appliance, leg), _OWN)
            triple_piece = known
        facts_piece = b""
        if fact.mid is not None:
            mid = varint(fact.mid)
            facts_piece = _MID[len(mid)] + mid
        if fact.rids:
            facts_piece += _RIDS.get(fact.rids) or attribute("cisco_esa.rids", fact.rids[:100])
        if fact.values and (facts := facts_of(fact)) is not None:
            facts_own, facts_beside = facts
            facts_piece += attributes(facts_own, _OWN) + attributes(facts_beside)
        text = line.text.encode()
        size = varint(len(text))
        sequence = varint(line.sequence)
        record = b"".join(
            (
                head,
                line.record_hash.encode(),
                _ACTIONS[key],
                _SEQUENCE[len(sequence)],
                sequence,
                _observed(line.created),
                b"\x2a",
                varint(1 + len(size) + len(text)),
                b"\x0a",
                size,
                text,
                triple_piece,
                facts_piece,
            )
        )
        lines = self.encoded.get(prefix.appliance)
        if lines is None:
            lines = self.encoded[prefix.appliance] = []
        lines.append(b"\x12" + varint(len(record)))
        lines.append(record)

    def summary(self, kind: str, record: dict[str, Any], time_s: int) -> None:
        """Add a summary record."""
        self.summaries.setdefault((kind, record["cisco_esa"]["appliance"]), []).append(field(2, log_record(record, time_s)))

    def take(self) -> list[tuple[str, list[tuple[str, int, bytes]]]]:
        """(class, segments) of what was added since the last call."""
        taken = []
        if self.encoded:
            taken.append(("line", [("line", len(found) // 2, b"".join(found)) for found in self.encoded.values()]))
            self.encoded = {}
        if self.summaries:
            taken.append(("summary", [(kind, len(found), b"".join(found)) for (kind, _), found in self.summaries.items()]))
            self.summaries = {}
        return taken


def _head(prefix: Prefix, line: Line) -> bytes:
    """Everything that lines of a prefix share, ending in the first part of their uid."""
    return b"".join(
        (
            _first_attribute(prefix.appliance),
            _time(prefix.stamp_s),
            _severity(prefix.facts.level),
            field(12, b"cisco_esa.line"),
            attributes({"cisco_esa": own_of(prefix, line), "log": log_of(prefix)}),
            _UID,
            prefix.time_id.encode(),
        )
    )
