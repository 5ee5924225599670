"""Protobuf bytes made and read by hand: varints, fields, and OTLP's `AnyValue` and `KeyValue` (opentelemetry-proto `common.proto`).

Only what hot paths and tiny messages need; a test compares each piece with the protobuf runtime. Everything else is left to the runtime.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from esa_tls.errors import MalformedMessage

_MASK: Final = (1 << 64) - 1


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


SMALL: Final = [_varint(number) for number in range(1 << 14)]
"""Varints of the numbers below 16,384, ready made: lengths of nearly everything."""

_LOW: Final = [bytes((number & 127 | 128, number >> 7 | 128)) for number in range(1 << 14)]
"""The two lowest groups of a longer varint."""


def varint(number: int) -> bytes:
    """An unsigned number as a varint."""
    if number < 1 << 14:
        return SMALL[number]
    if number < 1 << 28:
        return _LOW[number & 0x3FFF] + SMALL[number >> 14]
    return _LOW[number & 0x3FFF] + varint(number >> 14)


def field(number: int, body: bytes) -> bytes:
    """A length-delimited field: a string, bytes or a message."""
    size = len(body)
    return SMALL[number << 3 | 2] + (SMALL[size] if size < 1 << 14 else varint(size)) + body


def fixed64(number: int, value: int) -> bytes:
    """A fixed64 field, e.g. nanoseconds."""
    return varint(number << 3 | 1) + (value & _MASK).to_bytes(8, "little")


_STRING_HEADS: Final = [b"\x0a" + SMALL[size + 2] + b"\x0a" + SMALL[size] for size in range(120)]
"""What stands before a short string in a list, by its length."""


# -- OTLP values -----------------------------------------------------------------------------------------------------------------
def any_value(value: object) -> bytes:
    """An `AnyValue` of str, bool, int (signed 64 bits), float, bytes, a list or tuple of such, or a dict with str keys."""
    if isinstance(value, str):
        text = value.encode("utf-8", "replace")
        return b"\x0a" + varint(len(text)) + text
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + varint(value & _MASK)
    if isinstance(value, dict):
        pairs = [_prefixed(b"\x0a", _key(key) + _prefixed(b"\x12", any_value(one))) for key, one in value.items()]
        return _prefixed(b"\x32", b"".join(pairs))
    if isinstance(value, (list, tuple)):
        parts: list[bytes] = []
        for one in value:
            if isinstance(one, str) and len(text := one.encode("utf-8", "replace")) < len(_STRING_HEADS):
                parts += (_STRING_HEADS[len(text)], text)
            else:
                parts.append(_prefixed(b"\x0a", any_value(one)))
        return _prefixed(b"\x2a", b"".join(parts))
    if isinstance(value, float):
        return b"\x21" + struct.pack("<d", value)
    if isinstance(value, bytes):
        return field(7, value)
    raise TypeError(f"no AnyValue: {type(value).__name__}")


def key_value(key: str, value: object) -> bytes:
    """A `KeyValue` message, without the field it stands in."""
    return field(1, key.encode()) + field(2, any_value(value))


def _prefixed(tag: bytes, body: bytes) -> bytes:
    return tag + varint(len(body)) + body


@lru_cache(maxsize=1024)
def _key(key: str) -> bytes:
    """Field 1 of a `KeyValue`: keys of nested maps are few."""
    return field(1, key.encode())


# -- reading ---------------------------------------------------------------------------------------------------------------------
def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """(number, where it ends). Raises MalformedMessage."""
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise MalformedMessage("a varint is cut off or too long")
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number & _MASK, at
        shift += 7


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of each field of a message: ints of varints, bytes of everything else. Raises MalformedMessage."""
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        wire_type = tag & 7
        if wire_type == 0:
            number, at = read_varint(data, at)
            yield tag >> 3, number
            continue
        if wire_type == 2:
            length, at = read_varint(data, at)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise MalformedMessage(f"wire type {wire_type} is not used")
        if length > len(data) - at:
            raise MalformedMessage("a field is cut off")
        yield tag >> 3, data[at : at + length]
        at += length


def message_ends(body: bytes) -> list[int]:
    """Where each message of a concatenation of length-delimited fields (tags below 16) ends. Raises MalformedMessage."""
    ends: list[int] = []
    at = 0
    while at < len(body):
        length, at = read_varint(body, at + 1)
        at += length
        ends.append(at)
    if at != len(body):
        raise MalformedMessage("a record is cut off")
    return ends
