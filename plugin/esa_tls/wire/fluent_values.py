"""Single msgpack values of a Forward frame, read without making objects of what is around them. Pure.

All functions take complete values, which the framing has checked; strings are bytes, str and bin are the same thing
(docs/wires.md 1.8 item 7).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import overload

import msgpack
import msgspec
from msgspec import Raw

STR_OR_BIN = {0xD9: 1, 0xC4: 1, 0xDA: 2, 0xC5: 2, 0xDB: 4, 0xC6: 4}
"""Type byte of a str or bin -> bytes of its length field (fixstr apart)."""

EXT = {0xC7: 1, 0xC8: 2, 0xC9: 4}
"""Type byte of an ext -> bytes of its length field."""


def mode_of(first: int) -> str | None:
    """The mode that the type byte of element 1 selects (docs/wires.md 1.1): message, forward or packed; None = no mode.

    Float and nil times select Message mode too: old clients send them (docs/wires.md 1.2), and a line with a bad time is still a line.
    """
    if 0x90 <= first <= 0x9F or first in (0xDC, 0xDD):
        return "forward"
    if 0xA0 <= first <= 0xBF or first in STR_OR_BIN:
        return "packed"
    if first < 0x80 or first >= 0xC7 or first == 0xC0:
        return None if first in (0xDE, 0xDF) else "message"
    return None


def text_header(first: int) -> int | None:
    """Bytes of the header of a str or bin with this type byte; None if it is something else."""
    if 0xA0 <= first <= 0xBF:
        return 1
    width = STR_OR_BIN.get(first)
    return None if width is None else 1 + width


def text_of(value: bytes) -> bytes | None:
    """The bytes of one complete msgpack str or bin, which are the same thing here (docs/wires.md 1.8 item 7); None: something else."""
    header = text_header(value[0])
    return None if header is None else value[header:]


def is_map(first: int) -> bool:
    """Whether a value with this type byte is a map."""
    return 0x80 <= first <= 0x8F or first in (0xDE, 0xDF)


def int_of(value: bytes) -> int | None:
    """The value, if it is an int."""
    try:
        return msgspec.msgpack.decode(value, type=int)
    except msgspec.DecodeError:
        return None


def count_of(array: bytes) -> int:
    """Members of an array, from its header."""
    first = array[0]
    return first & 0x0F if first <= 0x9F else int.from_bytes(array[1 : array_header(array)], "big")


def pairs(whole: bytes) -> Iterator[tuple[bytes | None, bytes]]:
    """Key (None if it is no string) and undecoded value of each pair of a complete msgpack map."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(whole) + 1024, read_size=1024)
    unpacker.feed(whole)
    for _ in range(unpacker.read_map_header()):
        begin = unpacker.tell()
        unpacker.skip()
        middle = unpacker.tell()
        unpacker.skip()
        yield text_of(whole[begin:middle]), whole[middle : unpacker.tell()]


def members(array: bytes, count: int) -> Iterator[bytes]:
    """Each member of a complete msgpack array, undecoded."""
    unpacker = msgpack.Unpacker(max_buffer_size=len(array) + 1024, read_size=1024)
    unpacker.feed(array)
    unpacker.read_array_header()
    begin = unpacker.tell()
    for _ in range(count):
        unpacker.skip()
        end = unpacker.tell()
        yield array[begin:end]
        begin = end


class EntryTimes(Sequence[float | None]):
    """Times of entries in seconds since 1970 UTC, read from the wire form at access; None = bad or missing (use the receive time)."""

    __slots__ = ("_heads",)

    def __init__(self, heads: list[Raw] | list[bytes]) -> None:
        self._heads = heads

    def extend(self, more: EntryTimes) -> None:
        """Put the times of `more` behind these, in place."""
        self._heads += more._heads

    def __len__(self) -> int:
        return len(self._heads)

    @overload
    def __getitem__(self, index: int) -> float | None: ...
    @overload
    def __getitem__(self, index: slice) -> EntryTimes: ...
    def __getitem__(self, index: int | slice) -> float | EntryTimes | None:
        if isinstance(index, slice):
            return EntryTimes(self._heads[index])
        return time_of(bytes(self._heads[index]))


def time_of(head: bytes) -> float | None:
    """Seconds from an entry's time or [time, metadata] (docs/wires.md 1.2); None for what is no Forward time, and for 0, meaning "now"."""
    stamp = event_time_of(head)
    if stamp is not None:
        seconds, nanoseconds = stamp
        return None if nanoseconds >= 1_000_000_000 or stamp == (0, 0) else seconds + nanoseconds * 1e-9
    try:
        value = msgspec.msgpack.decode(_stamp_bytes(head), type=int | float)
    except (msgspec.DecodeError, IndexError):
        return None
    return float(value) if math.isfinite(value) and 0 < value < 1 << 32 else None


def event_time_of(head: bytes) -> tuple[int, int] | None:
    """(seconds, nanoseconds) of an EventTime as fixext8 or ext8, bare or with metadata; None if the time is something else."""
    at = array_header(head)
    if head[at : at + 2] == b"\xd7\x00":
        at += 2
    elif head[at : at + 3] == b"\xc7\x08\x00":
        at += 3
    else:
        return None
    return int.from_bytes(head[at : at + 4], "big"), int.from_bytes(head[at + 4 : at + 8], "big")


def array_header(head: bytes) -> int:
    """Bytes of the header if `head` is an array that has members, else 0."""
    first = head[0]
    return 1 if 0x91 <= first <= 0x9F else 3 if first == 0xDC else 5 if first == 0xDD else 0


def _stamp_bytes(head: bytes) -> bytes:
    """The time alone, if it is a number."""
    at = array_header(head)
    if at == 0:
        return head
    first = head[at]
    width = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}.get(first, 0)
    return head[at : at + 1 + width]
