"""Structured metadata of Loki's entries: names and values of a record's fields, and the limits they keep to (docs/wires.md 4.2). Pure.

Metadata is `LabelPair` fields of an `Entry` (tag 0x1a, length, name, value). A name is the field's path with `_` for `.`; a value is as in
the JSON, but a text stands without quotes: `true`, `2.5`, `["a","b"]`. What is empty, and lists of objects, are left out.

A record's metadata is collected as pieces of bytes that are joined once. What can be kept is kept: what stands before a value, by its size;
texts of which there are few; objects that many records have alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from esa_tls.core.protobuf import field, fields, varint

__all__ = [
    "LEFT_OUT",
    "MAX_KEPT",
    "MAX_KEPT_LEAVES",
    "MAX_METADATA_BYTES",
    "MAX_METADATA_ENTRIES",
    "Heads",
    "KeptObjects",
    "KeptTexts",
    "Place",
    "cut",
    "heads_of",
    "metadata_name",
    "put",
    "within_limits",
]

LEFT_OUT = frozenset(
    {
        "@timestamp",
        "event.created",
        "event.original",
        "host.name",
        "cisco_esa.record",
        "cisco_esa.appliance",
        "cisco_esa.deliveries",
        "cisco_esa.recipients",
    }
)
"""Fields that are no metadata: the time, the line, what the labels say, lists of objects, and what differs when a record is made again."""

MAX_METADATA_BYTES = 64 * 1024
"""Names and values of one entry together (Loki's `max_structured_metadata_size`)."""

MAX_METADATA_ENTRIES = 128
"""`max_structured_metadata_entries_count`."""

MAX_KEPT = 4096
"""Of each kind of piece so many are kept."""

MAX_KEPT_LEAVES = 12
"""Metadata of one kept object."""

_decode = msgspec.json.decode
_json = msgspec.json.Encoder().encode


def metadata_name(path: str) -> str:
    """A field's name in Loki, where a name has letters, digits and `_`."""
    return re.sub(r"[^A-Za-z0-9_]", "_", path).lstrip("_")


class Heads(dict[int, bytes]):
    """What stands before a value, by its size: tag and length of a `LabelPair`, the name, tag and length of the value."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = field(1, name.encode())

    def __missing__(self, size: int) -> bytes:
        length = varint(size)
        head = b"\x1a" + varint(len(self._name) + 1 + len(length) + size) + self._name + b"\x12" + length
        if size < 256:
            self[size] = head
        return head


class Place(dict[str, "Place"]):
    """A place in a record: what is below it by key, and the heads of a value there. Filled as places are met.

    `heads`: None if what stands there is no metadata.
    """

    __slots__ = ("_elsewhere", "_path", "heads")

    def __init__(self, path: str, elsewhere: frozenset[str]) -> None:
        super().__init__()
        self._path = path
        self._elsewhere = elsewhere
        self.heads = None if path in elsewhere else Heads(metadata_name(path))

    def __missing__(self, key: str) -> Place:
        below = self[key] = Place(f"{self._path}.{key}" if self._path else key, self._elsewhere)
        return below


def put(out: list[bytes], record: Mapping[str, Any], place: Place) -> None:
    """Add the metadata of every leaf below `place`, each in two pieces. Lists of values are leaves; lists of objects are left out."""
    for key, value in record.items():
        here = place[key]
        heads = here.heads
        if heads is None:
            continue
        kind = type(value)
        if kind is str:
            if not value:
                continue
            text = value.encode()
        elif kind is dict:
            put(out, value, here)
            continue
        elif kind is int:
            text = b"%d" % value
        elif kind is bool:
            text = b"true" if value else b"false"
        elif value is None or (kind is list and (not value or type(value[0]) is dict)):
            continue
        else:
            text = _json(value)
        out += (heads[len(text)], text)


class KeptObjects(dict[bytes, tuple[bytes, str]]):
    """Metadata of objects that stand alike in many records at one place, by their JSON; and the text under `outcome`, "" if there is none.

    Raises msgspec.ValidationError for what is no object, or has more than `MAX_KEPT_LEAVES`.
    """

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    def __missing__(self, stretch: bytes) -> tuple[bytes, str]:
        value = _decode(stretch, type=dict[str, Any])
        out: list[bytes] = []
        put(out, value, self._place)
        if len(out) > 2 * MAX_KEPT_LEAVES:
            raise msgspec.ValidationError("more than such an object has")
        if len(self) >= MAX_KEPT:
            self.clear()
        outcome = value.get("outcome")
        piece = self[stretch] = b"".join(out), outcome if isinstance(outcome, str) else ""
        return piece


class KeptTexts(dict[str, bytes]):
    """Metadata of texts of which there are few at their place; of none if they are no metadata."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._heads = place.heads

    def __missing__(self, text: str) -> bytes:
        data = text.encode()
        if len(self) >= MAX_KEPT:
            self.clear()
        piece = self[text] = b"" if self._heads is None else self._heads[len(data)] + data
        return piece


def heads_of(place: Place) -> Heads:
    """The heads of a place that has metadata."""
    assert place.heads is not None
    return place.heads


# -- limits ----------------------------------------------------------------------------------------------------------------------
def cut(text: bytes, max_bytes: int) -> bytes:
    """As much of a text as fits, without half a character at its end."""
    return text if len(text) <= max_bytes else text[:max_bytes].decode("utf-8", "ignore").encode()


def within_limits(metadata: Sequence[bytes], flags: Sequence[str], *, flag: bool) -> list[bytes] | None:
    """Metadata of which nothing is over Loki's limits, with `truncated` among the flags; None if nothing has to be taken away.

    The longest values are cut to one length that fits. `flags`: those that the record has; `flag`: something else was taken away already.
    """
    pairs = _pairs_of(metadata)
    if not flag and len(pairs) <= MAX_METADATA_ENTRIES and sum(len(name) + len(value) for name, value in pairs) <= MAX_METADATA_BYTES:
        return None  # tags and lengths had been measured along
    name = metadata_name("cisco_esa.flags").encode()
    flagged = [(name, _json(sorted({*flags, "truncated"}))), *(pair for pair in pairs if pair[0] != name)][:MAX_METADATA_ENTRIES]
    longest = _longest_of(flagged)
    return [field(3, field(1, name) + field(2, cut(value, longest))) for name, value in flagged]


def _pairs_of(metadata: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """Names and values."""
    pairs = [dict(fields(pair)) for _, pair in fields(b"".join(metadata)) if isinstance(pair, bytes)]
    return [(name, value) for pair in pairs if isinstance(name := pair[1], bytes) and isinstance(value := pair[2], bytes)]


def _longest_of(pairs: Sequence[tuple[bytes, bytes]]) -> int:
    """The largest length for all values with which names and values keep to the limit."""
    room = MAX_METADATA_BYTES - sum(len(name) for name, _ in pairs)
    least, most = 0, MAX_METADATA_BYTES
    while least < most:
        middle = (least + most + 1) // 2
        if sum(min(len(value), middle) for _, value in pairs) <= room:
            least = middle
        else:
            most = middle - 1
    return least
