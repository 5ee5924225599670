"""Capped decompression of Forward payloads: gzip of several members, zstd of several frames (docs/wires.md 1.8 items 2 to 4). Pure.

Rules: a payload that unpacks to more than the cap is refused without ever holding more than `HELD_BYTES` of it beyond one piece; one
that ends in the middle of a member or frame is refused too, since what is missing may be lines.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import zstandard
from isal import igzip, isal_zlib

__all__ = ["BadCompression", "InflatedTooLarge", "inflate", "sniff"]

HELD_BYTES = 16 << 20
"""Up to here the output is kept while it is made. More is rare (Fluent Bit: 2 MiB, Fluentd: 8 MiB), so it is counted first and unpacked
a second time only if the whole fits: a bomb costs time up to the cap, and no memory."""

_GZIP_PIECE = 256 << 10
_ZSTD_INPUT_PIECE = 128
"""zstandard gives all output of one input piece at once, and 4 bytes of input can stand for a block of 128 KiB: at most 4 MiB this way.
Larger pieces are hardly faster (measured)."""

_MAX_ZSTD_WINDOW_BYTES = 32 << 20
"""Memory that a zstd frame may ask for; level 19 asks for 8 MiB."""


class BadCompression(Exception):
    """Not the stated format, damaged, or cut off."""


class InflatedTooLarge(Exception):
    """More than the cap comes out."""


def sniff(payload: bytes | memoryview) -> str | None:
    """`gzip` or `zstd` by the first bytes; None = neither. Packed entries begin with an array, so there is no confusion."""
    if payload[:2] == b"\x1f\x8b":
        return "gzip"
    return "zstd" if payload[:4] == b"\x28\xb5\x2f\xfd" else None


def inflate(payload: bytes | memoryview, algorithm: str, *, max_bytes: int) -> bytearray:
    """Unpack all members of `payload`. `algorithm`: gzip or zstd, else BadCompression. Raises BadCompression, InflatedTooLarge."""
    pieces = _PIECES.get(algorithm)
    if pieces is None:
        raise BadCompression(f"compression {algorithm!r} is unknown")
    out = bytearray()
    total = 0
    for piece in pieces(payload):
        total += len(piece)
        if total > max_bytes:
            raise InflatedTooLarge(f"more than {max_bytes} bytes")
        if total <= HELD_BYTES:
            out += piece
    if total > HELD_BYTES:
        out = bytearray()
        for piece in pieces(payload):
            out += piece
    return out


def _gunzip(payload: bytes | memoryview) -> Iterator[bytes]:
    try:
        with igzip.IGzipFile(fileobj=io.BytesIO(payload), mode="rb") as file:  # type: ignore[no-untyped-call]
            while piece := file.read1(_GZIP_PIECE):
                yield piece
    except (EOFError, OSError, isal_zlib.error) as error:  # type: ignore[misc]
        raise BadCompression(str(error)) from error


def _unzstd(payload: bytes | memoryview) -> Iterator[bytes]:
    context = zstandard.ZstdDecompressor(max_window_size=_MAX_ZSTD_WINDOW_BYTES)
    view = memoryview(payload)
    at = 0
    try:
        while at < len(payload):
            frame = context.decompressobj()
            while not frame.eof:
                if at >= len(payload):
                    raise BadCompression("cut off inside a zstd frame")
                yield frame.decompress(view[at : at + _ZSTD_INPUT_PIECE])
                at += _ZSTD_INPUT_PIECE
            at = min(at, len(payload)) - len(frame.unused_data)
    except zstandard.ZstdError as error:
        raise BadCompression(str(error)) from error


_PIECES: dict[str, Callable[[bytes | memoryview], Iterator[bytes]]] = {"gzip": _gunzip, "zstd": _unzstd}
