"""Entries of Loki streams from records in the encoding `json` (docs/loki.md, "What an entry looks like"; docs/wires.md 4.1, 4.2). Pure.

An entry is one `Stream.entries` field of `logproto.PushRequest` (tag 0x12, length, Entry): a time, a line, and structured metadata.

=============  =================================================================================================================
labels         `service_name`, `appliance`, `kind`; beside them constants and fields with few values (`LABEL_FIELDS`), if configured
time           `@timestamp`, with `event.sequence` mod 10^9 as nanoseconds: lines of one second keep their order, and a record that is
               sent again has the same time
line           `event.original` of lines, else the sentence of `core/sentences.py`
metadata       every other field (`loki_metadata.py`), without `LEFT_OUT` and without what is a label
=============  =================================================================================================================

Loki refuses a line above its limit and metadata above 64 KB or 128 entries. Such an entry is never made: the line is cut, the longest
values are cut to one length that fits, and `cisco_esa_flags` says `truncated`.

`Entries._any` says what an entry is. `_line` and `_summary` make the same, two to three times as fast, of records that have only what
records nearly always have: what many have alike is not taken apart again, numbers and lists are taken as they stand. Other records do not
pass the typed decoders and go the long way. A test compares both. In `_line` each field is written out: loops over places and values,
shared with `_summary`, were tried and cost a tenth of the speed (bench_loki).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec

from esa_tls.core.protobuf import varint
from esa_tls.core.sentences import sentence
from esa_tls.wire.loki_metadata import (
    LEFT_OUT,
    MAX_KEPT,
    MAX_KEPT_LEAVES,
    MAX_METADATA_BYTES,
    MAX_METADATA_ENTRIES,
    KeptObjects,
    KeptTexts,
    Place,
    cut,
    heads_of,
    metadata_name,
    put,
    within_limits,
)

__all__ = ["DEFAULT_MAX_LINE_BYTES", "LABEL_FIELDS", "Entries", "Entry", "label_text"]

Entry = tuple[int, str, bytes]
"""(nanoseconds since 1970, labels of its stream, `Stream.entries` field)."""

SERVICE = "esa-tls"

LABEL_FIELDS = ("cisco_esa.direction", "cisco_esa.tls.outcome", "cisco_esa.delivery.result", "cisco_esa.posture", "event.outcome")
"""Fields that may be labels: they have few values, and no text from outside can add one."""

MAX_LABEL_VALUE_BYTES = 2048
"""`max_label_value_length`."""

DEFAULT_MAX_LINE_BYTES = 256 * 1024
"""`max_line_size`."""

_NS = 1_000_000_000
_MASK = (1 << 64) - 1
_decode = msgspec.json.decode


# -- labels and times ------------------------------------------------------------------------------------------------------------
def label_text(labels: Mapping[str, str]) -> str:
    """`{appliance="esa1", kind="line"}`. Labels without a value are left out, values above Loki's limit are cut."""
    return "{" + ", ".join(f"{name}={_quoted(value)}" for name, value in sorted(labels.items()) if value) + "}"


def _quoted(value: str) -> str:
    """A value as Loki's parser reads it: a string of the Go language."""
    value = cut(value.encode(), MAX_LABEL_VALUE_BYTES).decode()
    value = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", value) + '"'


@lru_cache(maxsize=4096)
def _seconds(stamp: str) -> tuple[int, bytes]:
    """(seconds since 1970, a `Timestamp` up to the tag of its nanoseconds). A stamp that cannot be read is 1970: Loki says so then."""
    try:
        seconds = int(datetime.fromisoformat(stamp).timestamp())
    except ValueError:
        seconds = 0
    return seconds, b"\x08" + varint(seconds & _MASK) + b"\x10"


def _entry_of(timestamp: bytes, nanoseconds: int, line: bytes, metadata: Sequence[bytes]) -> bytes:
    """The field; `timestamp`: see `_seconds`."""
    behind = varint(nanoseconds)
    body = b"".join((b"\x0a", varint(len(timestamp) + len(behind)), timestamp, behind, b"\x12", varint(len(line)), line, *metadata))
    return b"\x12" + varint(len(body)) + body


def _text_at(value: object, path: Sequence[str]) -> str:
    """The text at a path of keys; "" if there is none."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


# -- records as they nearly always are -------------------------------------------------------------------------------------------
_NO = msgspec.Raw()
"""Stands for what is not there. `Raw`: what is metadata as it stands, or is alike in many records, or is not looked at."""


class _LineEvent(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    id: str
    action: str
    sequence: int
    original: str
    created: msgspec.Raw = _NO
    category: msgspec.Raw = _NO
    type: msgspec.Raw = _NO


class _Connection(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    id: str


class _LineOwn(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    appliance: str
    record: msgspec.Raw = _NO
    epoch: msgspec.Raw = _NO
    connection: _Connection | None = None
    direction: str = ""
    icid: msgspec.Raw = _NO
    dcid: msgspec.Raw = _NO
    tls: msgspec.Raw = _NO
    mid: msgspec.Raw = _NO
    rids: msgspec.Raw = _NO
    size_bytes: msgspec.Raw = _NO
    mail_policy: str = ""
    mail_flow: str = ""
    hat: msgspec.Raw = _NO
    delivery: msgspec.Raw = _NO


class _Line(msgspec.Struct, gc=False, forbid_unknown_fields=True, rename={"timestamp": "@timestamp"}):
    timestamp: str
    event: _LineEvent
    cisco_esa: _LineOwn
    host: msgspec.Raw = _NO
    log: msgspec.Raw = _NO
    network: msgspec.Raw = _NO
    tls: msgspec.Raw = _NO
    observer: msgspec.Raw = _NO
    source: msgspec.Raw = _NO
    destination: msgspec.Raw = _NO
    email: msgspec.Raw = _NO


class _SummaryEvent(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    id: str
    action: str
    sequence: int
    created: msgspec.Raw = _NO
    category: msgspec.Raw = _NO
    type: msgspec.Raw = _NO
    outcome: str = ""
    start: str = ""
    end: str = ""
    duration: msgspec.Raw = _NO


class _Summary(msgspec.Struct, gc=False, forbid_unknown_fields=True, rename={"timestamp": "@timestamp"}):
    timestamp: str
    event: _SummaryEvent
    cisco_esa: dict[str, Any]
    host: msgspec.Raw = _NO
    network: msgspec.Raw = _NO
    tls: msgspec.Raw = _NO
    observer: msgspec.Raw = _NO
    source: dict[str, Any] = {}
    destination: dict[str, Any] = {}
    email: dict[str, Any] = {}
    related: dict[str, msgspec.Raw] = {}


_line = msgspec.json.Decoder(_Line).decode
_summary = msgspec.json.Decoder(_Summary).decode

_MAX_LINE_PIECES = 84
_MAX_SUMMARY_PIECES = 2 * (MAX_METADATA_ENTRIES - 3 * MAX_KEPT_LEAVES)
"""With no more pieces an entry has not more than `MAX_METADATA_ENTRIES`, without being counted: of a line seven are kept objects."""


class Entries:
    """Makes entries. `labels`: constant labels beside our own. `label_fields`: those of `LABEL_FIELDS` that are labels."""

    def __init__(
        self, *, labels: Mapping[str, str] | None = None, label_fields: Sequence[str] = (), max_line_bytes: int = DEFAULT_MAX_LINE_BYTES
    ) -> None:
        self._labels = {**(labels or {}), "service_name": SERVICE}
        self._label_paths = tuple((metadata_name(path), tuple(path.split("."))) for path in label_fields)
        self._max_line_bytes = max_line_bytes
        self._streams: dict[tuple[str, ...], str] = {}

        self._root = root = Place("", LEFT_OUT | frozenset(label_fields))
        event, own = root["event"], root["cisco_esa"]
        self._ids, self._sequences, self._categories, self._types, self._starts, self._ends, self._durations = (
            heads_of(event[name]) for name in ("id", "sequence", "category", "type", "start", "end", "duration")
        )
        self._actions, self._outcomes = KeptTexts(event["action"]), KeptTexts(event["outcome"])
        self._connections = heads_of(own["connection"]["id"])
        self._epochs, self._icids, self._dcids, self._mids, self._rids, self._sizes, self._policies = (
            heads_of(own[name]) for name in ("epoch", "icid", "dcid", "mid", "rids", "size_bytes", "mail_policy")
        )
        self._directions, self._flows = KeptTexts(own["direction"]), KeptTexts(own["mail_flow"])
        self._own_tls, self._hats, self._deliveries = (KeptObjects(own[name]) for name in ("tls", "hat", "delivery"))
        self._logs, self._networks, self._tls, self._observers = (KeptObjects(root[name]) for name in ("log", "network", "tls", "observer"))

    def of(self, kind: str, body: bytes) -> list[Entry | None]:
        """The entries of a segment of records, in their order; None for a record that cannot be read."""
        records = body.split(b"\n")
        if not records[-1]:
            del records[-1]
        entries: list[Entry | None] = []
        for record in records:
            try:
                entry = self._line(_line(record)) if kind == "line" else self._summary(kind, _summary(record))
            except msgspec.DecodeError:
                entry = None
            entries.append(entry or self._any(kind, record))
        return entries

    # -- the long way ------------------------------------------------------------------------------------------------------------
    def _any(self, kind: str, data: bytes) -> Entry | None:
        """The entry of a record: the reference for the short ways. What a record lacks is left out."""
        try:
            record: dict[str, Any] = _decode(data, type=dict[str, Any])
        except msgspec.DecodeError:
            return None
        event, own = record.setdefault("event", {}), record.setdefault("cisco_esa", {})
        if not isinstance(event, dict) or not isinstance(own, dict):
            return None
        own.setdefault("record", kind)
        line = sentence(record).encode()
        metadata: list[bytes] = []
        put(metadata, record, self._root)
        many = len(metadata) > 2 * MAX_METADATA_ENTRIES or sum(map(len, metadata)) > MAX_METADATA_BYTES
        long = len(line) > self._max_line_bytes
        if many or long:
            line = cut(line, self._max_line_bytes)
            metadata = within_limits(metadata, own.get("flags") or [], flag=long) or metadata
        seconds, timestamp = _seconds(str(record.get("@timestamp", "")))
        sequence = event.get("sequence")
        nanoseconds = sequence % _NS if isinstance(sequence, int) else 0
        appliance = _text_at(own, ["appliance"]) or _text_at(record, ["host", "name"])
        values = tuple(_text_at(record, path) for _, path in self._label_paths)
        return seconds * _NS + nanoseconds, self._stream(appliance, kind, values), _entry_of(timestamp, nanoseconds, line, metadata)

    def _stream(self, appliance: str, kind: str, values: tuple[str, ...]) -> str:
        """The labels of a stream; `values`: of the fields that are labels."""
        key = (appliance, kind, *values)
        text = self._streams.get(key)
        if text is None:
            named = {name: value for (name, _), value in zip(self._label_paths, values, strict=True)}
            if len(self._streams) >= MAX_KEPT:
                self._streams.clear()
            text = self._streams[key] = label_text({**named, **self._labels, "appliance": appliance, "kind": kind})
        return text

    # -- the short ways ----------------------------------------------------------------------------------------------------------
    def _line(self, record: _Line) -> Entry | None:
        """The entry of a line; None if it may have to be cut. Raises msgspec.DecodeError if it has to go the long way."""
        event, own = record.event, record.cisco_esa
        record_id, sequence = event.id.encode(), b"%d" % event.sequence
        metadata = [
            self._ids[len(record_id)],
            record_id,
            self._actions[event.action],
            self._sequences[len(sequence)],
            sequence,
        ]
        outcome = ""
        if event.category is not _NO:
            text = bytes(event.category)
            metadata += (self._categories[len(text)], text)
        if event.type is not _NO:
            text = bytes(event.type)
            metadata += (self._types[len(text)], text)
        if record.log is not _NO:
            metadata.append(self._logs[bytes(record.log)][0])
        if own.epoch is not _NO:
            text = bytes(own.epoch)
            metadata += (self._epochs[len(text)], text)
        if own.connection is not None:
            text = own.connection.id.encode()
            metadata += (self._connections[len(text)], text)
        if own.direction:
            metadata.append(self._directions[own.direction])
        if own.icid is not _NO:
            text = bytes(own.icid)
            metadata += (self._icids[len(text)], text)
        if own.dcid is not _NO:
            text = bytes(own.dcid)
            metadata += (self._dcids[len(text)], text)
        if own.tls is not _NO:
            piece, outcome = self._own_tls[bytes(own.tls)]
            metadata.append(piece)
        if own.mid is not _NO:
            text = bytes(own.mid)
            metadata += (self._mids[len(text)], text)
        if own.rids is not _NO:
            text = bytes(own.rids)
            metadata += (self._rids[len(text)], text)
        if own.size_bytes is not _NO:
            text = bytes(own.size_bytes)
            metadata += (self._sizes[len(text)], text)
        if own.mail_policy:
            text = own.mail_policy.encode()
            metadata += (self._policies[len(text)], text)
        if own.mail_flow:
            metadata.append(self._flows[own.mail_flow])
        if own.hat is not _NO:
            metadata.append(self._hats[bytes(own.hat)][0])
        if own.delivery is not _NO:
            metadata.append(self._deliveries[bytes(own.delivery)][0])
        if record.network is not _NO:
            metadata.append(self._networks[bytes(record.network)][0])
        if record.tls is not _NO:
            metadata.append(self._tls[bytes(record.tls)][0])
        if record.observer is not _NO:
            metadata.append(self._observers[bytes(record.observer)][0])
        if record.source is not _NO:
            put(metadata, _decode(record.source), self._root["source"])
        if record.destination is not _NO:
            put(metadata, _decode(record.destination), self._root["destination"])
        if record.email is not _NO:
            put(metadata, _decode(record.email), self._root["email"])
        if len(metadata) > _MAX_LINE_PIECES:
            return None
        values: tuple[str, ...] = ()
        if self._label_paths:
            known = {"cisco_esa_direction": own.direction, "cisco_esa_tls_outcome": outcome}
            values = tuple(known.get(name, "") for name, _ in self._label_paths)
        return self._made(record.timestamp, event.sequence, event.original, metadata, self._stream(own.appliance, "line", values))

    def _summary(self, kind: str, record: _Summary) -> Entry | None:
        """The entry of a summary; None if it may have to be cut. Raises msgspec.DecodeError if it has to go the long way."""
        event, own, root = record.event, record.cisco_esa, self._root
        record_id, sequence = event.id.encode(), b"%d" % event.sequence
        metadata = [
            self._ids[len(record_id)],
            record_id,
            self._actions[event.action],
            self._sequences[len(sequence)],
            sequence,
        ]
        if event.category is not _NO:
            text = bytes(event.category)
            metadata += (self._categories[len(text)], text)
        if event.type is not _NO:
            text = bytes(event.type)
            metadata += (self._types[len(text)], text)
        if event.outcome:
            metadata.append(self._outcomes[event.outcome])
        if event.start:
            text = event.start.encode()
            metadata += (self._starts[len(text)], text)
        if event.end:
            text = event.end.encode()
            metadata += (self._ends[len(text)], text)
        if event.duration is not _NO:
            text = bytes(event.duration)
            metadata += (self._durations[len(text)], text)
        put(metadata, own, root["cisco_esa"])
        if record.network is not _NO:
            metadata.append(self._networks[bytes(record.network)][0])
        if record.tls is not _NO:
            metadata.append(self._tls[bytes(record.tls)][0])
        if record.observer is not _NO:
            metadata.append(self._observers[bytes(record.observer)][0])
        if record.source:
            put(metadata, record.source, root["source"])
        if record.destination:
            put(metadata, record.destination, root["destination"])
        if record.email:
            put(metadata, record.email, root["email"])
        place = root["related"]
        for name, raw in record.related.items():
            text = bytes(raw)
            metadata += (heads_of(place[name])[len(text)], text)
        if len(metadata) > _MAX_SUMMARY_PIECES:
            return None
        own.setdefault("record", kind)
        told = {
            "event": {"action": event.action, "outcome": event.outcome},
            "cisco_esa": own,
            "source": record.source,
            "destination": record.destination,
            "email": record.email,
        }
        values = tuple(_text_at(told, path) for _, path in self._label_paths)
        stream = self._stream(_text_at(own, ["appliance"]), kind, values)
        return self._made(record.timestamp, event.sequence, sentence(told), metadata, stream)

    def _made(self, stamp: str, sequence: int, text: str, metadata: list[bytes], stream: str) -> Entry | None:
        """The entry, or None if it may have to be cut."""
        line = text.encode()
        seconds, timestamp = _seconds(stamp)
        nanoseconds = sequence % _NS
        entry = _entry_of(timestamp, nanoseconds, line, metadata)
        if len(line) > self._max_line_bytes or len(entry) - len(line) > MAX_METADATA_BYTES:
            return None
        return seconds * _NS + nanoseconds, stream, entry
