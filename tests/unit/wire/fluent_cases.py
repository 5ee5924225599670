"""Bytes of Forward frames for tests, and the one function that runs a codec case in every way bytes can arrive."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgpack
import zstandard

from esa_tls.errors import WireError
from esa_tls.wire.fluent import FrameReader, Limits
from esa_tls.wire.fluent_decode import ForwardSettings, Frame, FrameDecoder

STAMP = bytes.fromhex("d70055ece6f800000000")
"""EventTime 1441588984, the first form of docs/wires.md 1.2."""
STAMP_S = 1441588984.0
TAIL = bytes.fromhex("93a173ce55ece6f881a36c6f67a47461696c")
"""A Message frame of tag "s" with the line "tail": what stands behind a case as trailing data."""

ENTRY_A = STAMP + bytes.fromhex("81a36c6f67a161")
ENTRY_B = bytes.fromhex("d70055ece6f900000000" + "81a36c6f67a162")
ENTRIES_AB = b"\x92" + ENTRY_A + b"\x92" + ENTRY_B
CHUNK = b"AAECAwQFBgcICQoLDA0ODw=="


def event_time(seconds: int, nanoseconds: int = 0) -> Any:
    """An EventTime for `pack`."""
    return msgpack.ExtType(0, seconds.to_bytes(4, "big") + nanoseconds.to_bytes(4, "big"))


def pack(value: object) -> bytes:
    """Msgpack of a Python value; str and bytes stay apart."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def str32(data: bytes) -> bytes:
    """`data` as Fluentd sends payloads: a str with a 32-bit length."""
    return b"\xdb" + len(data).to_bytes(4, "big") + data


def packed_frame(entries: bytes, options: Mapping[str, object] | None = None, *, tag: str = "t") -> bytes:
    """A PackedForward frame with its payload as str32."""
    return b"\x93" + pack(tag) + str32(entries) + pack(options if options is not None else {})


def members(*parts: bytes) -> bytes:
    """Several gzip members, as Fluentd appends them."""
    return b"".join(gzip.compress(part, mtime=0) for part in parts)


def zstd_frames(*parts: bytes) -> bytes:
    """Several zstd frames without content size."""
    return b"".join(zstandard.ZstdCompressor(write_content_size=False).compress(part) for part in parts)


def plain(frame: Frame) -> dict[str, Any]:
    """A frame as comparable values."""
    return {
        "tag": frame.tag,
        "mode": frame.mode,
        "lines": list(frame.lines),
        "times": list(frame.times_s),
        "metadata": [frame.metadata(i) for i in range(len(frame.lines))],
        "chunk": frame.chunk,
        "key": frame.key,
        "signal": frame.signal,
        "rejected": [(rejected.reason, rejected.payload) for rejected in frame.rejected],
        "appliances": frame.appliances,
        "resources": frame.resources,
        "reconstructed": frame.reconstructed,
    }


def read(pieces: Iterable[bytes], decoder: FrameDecoder, limits: Limits) -> tuple[list[dict[str, Any]], WireError | None]:
    """Feed `pieces` one after the other; the frames that came, and the error that ended it (of framing or of decoding)."""
    reader = FrameReader(limits)
    frames: list[dict[str, Any]] = []
    for piece in pieces:
        for raw in reader.feed(piece):
            try:
                frames.append(plain(decoder.decode(raw)))
            except WireError as error:
                return frames, error
        if reader.error is not None:
            return frames, reader.error
    return frames, None


def every_way(
    data: bytes, *, settings: ForwardSettings | None = None, limits: Limits | None = None
) -> tuple[list[dict[str, Any]], WireError | None]:
    """Run one case whole, split at every byte, byte by byte, and with data behind it; all must agree, and that is returned.

    A case that ends in the middle of a frame has no data put behind it.
    """
    limits = limits or Limits()
    decoder = FrameDecoder(settings, limits)
    frames, error = read([data], decoder, limits)
    ways: list[Sequence[bytes]] = [[data[:at], data[at:]] for at in range(1, len(data))]
    ways.append([data[at : at + 1] for at in range(len(data))])
    for way in ways:
        again, other = read(way, decoder, limits)
        assert (again, repr(other)) == (frames, repr(error))
    reader = FrameReader(limits)
    reader.feed(data)
    if error is None and not reader.buffered_bytes:
        followed, other = read([data + TAIL], decoder, limits)
        assert other is None
        assert followed[:-1] == frames
        assert followed[-1]["lines"] == [b"tail"]
    return frames, error


def lines_of(data: bytes, **options: Any) -> list[bytes]:
    """The lines of all frames in `data`, which must be good in every way of arriving."""
    frames, error = every_way(data, **options)
    assert error is None
    return [line for frame in frames for line in frame["lines"]]
