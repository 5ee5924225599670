"""A line in the encoding `store` (`encode_store.py`), read back."""

from __future__ import annotations

from typing import Final

import msgspec


class LineRow(msgspec.Struct, array_like=True, gc=False):
    """A line as the store gets it. `sort`: `I` or `D` with the connection's `number`, or "". Times are seconds since 1970."""

    appliance: str
    epoch: int
    time_s: int
    sequence: int
    action: str
    sort: str
    number: int
    mid: int | None
    flags: tuple[str, ...]
    text: str


_decode: Final = msgspec.msgpack.Decoder(list[LineRow]).decode


def decode_line_rows(body: bytes) -> list[LineRow]:
    """The lines of a segment. Raises msgspec.MsgspecError for bytes that are none."""
    return _decode(body)
