"""Push requests of Loki: entries of one stream each, in protobuf or JSON (docs/wires.md 4.1). Pure.

A request has one stream, because a 400 of Loki means that some of its entries were refused and all others are stored, and its text tells
of one stream only (`loki_answers.py` finds out which ones). Its entries are in the order of their times, oldest first: Loki takes nothing
that is an hour behind the newest entry of a stream.

======== ====================================================================================================================
protobuf `PushRequest{streams=1}`, `Stream{labels=1, entries=2}`, in one raw snappy block (not the framed format)
json     `{"streams":[{"stream":{labels},"values":[["nanoseconds","line",{metadata}], ...]}]}`, to be compressed by gzip
======== ====================================================================================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from operator import itemgetter
from typing import Any, Literal

import cramjam
import msgspec

from esa_tls.core.protobuf import field, fields, varint
from esa_tls.wire.loki_entries import Entry

__all__ = ["CONTENT_TYPES", "PUSH_PATH", "Form", "Place", "Push", "body_of", "halves", "only", "pushes_of", "snappy", "stream_of"]

PUSH_PATH = "/loki/api/v1/push"

Form = Literal["protobuf", "json"]

CONTENT_TYPES: dict[Form, str] = {"protobuf": "application/x-protobuf", "json": "application/json"}

Place = tuple[int, int, int]
"""Where a record is from: (number of its row, of its segment, of the record in it)."""


class Push(msgspec.Struct, frozen=True):
    """One request: the labels of its stream; of its entries times (nanoseconds since 1970, ascending), `Stream.entries` fields, places."""

    labels: str
    times: list[int]
    entries: list[bytes]
    places: list[Place]


def pushes_of(entries: Iterable[tuple[Entry, Place]], *, max_bytes: int) -> list[list[Push]]:
    """Requests of at most `max_bytes` before compression, in order, for each stream; an entry that is larger is alone."""
    streams: dict[str, list[tuple[int, bytes, Place]]] = {}
    for (time_ns, labels, entry), place in entries:
        streams.setdefault(labels, []).append((time_ns, entry, place))
    found = []
    for labels, members in streams.items():
        members.sort(key=itemgetter(0))
        pushes: list[Push] = []
        room = 0
        for time_ns, entry, place in members:
            room -= len(entry)
            if room < 0:
                pushes.append(Push(labels, [], [], []))
                room = max_bytes - len(labels) - 32 - len(entry)  # 32: more than tags and lengths
            push = pushes[-1]
            push.times.append(time_ns)
            push.entries.append(entry)
            push.places.append(place)
        found.append(pushes)
    return found


def only(push: Push, numbers: Collection[int]) -> Push:
    """A request of some of its entries; `numbers` ascending."""
    return Push(push.labels, [push.times[n] for n in numbers], [push.entries[n] for n in numbers], [push.places[n] for n in numbers])


def halves(push: Push) -> tuple[Push, Push] | None:
    """The two halves of a request; None if it has a single entry."""
    count = len(push.entries)
    return (only(push, range(count // 2)), only(push, range(count // 2, count))) if count > 1 else None


# -- bytes -----------------------------------------------------------------------------------------------------------------------
def body_of(push: Push, form: Form) -> bytes:
    """The request's body, not yet compressed."""
    if form == "json":
        values = [_json_entry(entry) for entry in push.entries]
        return msgspec.json.encode({"streams": [{"stream": stream_of(push.labels), "values": values}]})
    labels = field(1, push.labels.encode())
    size = len(labels) + sum(map(len, push.entries))
    return b"".join((b"\x0a", varint(size), labels, *push.entries))


def snappy(body: bytes) -> bytes:
    """The body as one raw snappy block."""
    return bytes(cramjam.snappy.compress_raw(body))


_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)=("(?:[^"\\]|\\.)*")')


def stream_of(labels: str) -> dict[str, str]:
    """The labels of a stream by name; values are written as in JSON, too."""
    return {name: json.loads(value) for name, value in _LABEL.findall(labels)}


def _json_entry(entry: bytes) -> list[Any]:
    """An entry as JSON has it."""
    ((_, body),) = fields(entry)
    assert isinstance(body, bytes)
    time_ns, line = 0, ""
    metadata: dict[str, str] = {}
    for number, value in fields(body):
        assert isinstance(value, bytes)
        if number == 1:
            stamp = dict(fields(value))
            seconds, nanoseconds = stamp.get(1, 0), stamp.get(2, 0)
            assert isinstance(seconds, int)
            assert isinstance(nanoseconds, int)
            time_ns = (seconds - (1 << 64) if seconds >> 63 else seconds) * 1_000_000_000 + nanoseconds
        elif number == 2:
            line = value.decode()
        else:
            pair = dict(fields(value))
            name, text = pair[1], pair.get(2, b"")
            assert isinstance(name, bytes)
            assert isinstance(text, bytes)
            metadata[name.decode()] = text.decode()
    return [str(time_ns), line, metadata]
