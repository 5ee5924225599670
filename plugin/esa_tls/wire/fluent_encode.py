"""Fluent Forward, writing: acks for senders, frames for our own sink, and reading the acks it gets (docs/wires.md 1.2 to 1.4). Pure."""

from __future__ import annotations

import base64

import msgpack
from isal import igzip

from esa_tls.errors import FrameTooLarge, WireError
from esa_tls.wire.fluent import BadFrame

__all__ = ["CHUNK_ID_RANDOM_BYTES", "AckReader", "ack", "encode_packed_forward", "new_chunk_id"]

CHUNK_ID_RANDOM_BYTES = 16
"""Randomness of one chunk id: the specification's 128 bits."""

_GZIP_LEVEL = 1
"""isal's level 1 compresses log lines to within a few percent of level 2 at twice the speed; 0 is much larger."""


def ack(chunk: bytes) -> bytes:
    """The reply that acknowledges a frame. `chunk`: `Frame.chunk`, so the peer gets its id back byte for byte, str or bin."""
    return b"\x81\xa3ack" + chunk


def new_chunk_id(randomness: bytes) -> bytes:
    """A chunk id, 24 base64 characters, from `CHUNK_ID_RANDOM_BYTES` random bytes."""
    if len(randomness) != CHUNK_ID_RANDOM_BYTES:
        raise ValueError(f"a chunk id needs {CHUNK_ID_RANDOM_BYTES} random bytes, not {len(randomness)}")
    return base64.b64encode(randomness)


def encode_packed_forward(tag: str, entries: bytes, *, count: int, chunk: bytes | None, gzip: bool) -> bytes:
    """One PackedForward frame of `count` concatenated msgpack entries `[EventTime, map]`; `gzip` makes it compressed.

    `chunk`: an id from `new_chunk_id`, sent as str; None asks for no ack. The same arguments give the same bytes, so a frame that is
    sent again is the same frame. Entries travel as bin, as the specification says (Fluentd's str is a deviation).
    """
    options: dict[str, object] = {"size": count}
    if gzip:
        entries = igzip.compress(entries, _GZIP_LEVEL, mtime=0)
        options["compressed"] = "gzip"
    if chunk is not None:
        options["chunk"] = chunk.decode("ascii")
    packed: bytes = msgpack.packb([tag, entries, options], use_bin_type=True)
    return packed


class AckReader:
    """Reads acks off a connection in whatever pieces they come: `feed` bytes, get the chunk ids acknowledged.

    Nil, maps without `ack` and keys beside it are ignored. `error`: None, or the fault after which nothing more is read.
    """

    def __init__(self, *, max_ack_bytes: int = 4096) -> None:
        # Acks wait for nothing behind them, so the buffer never needs more than one of them and one read.
        self._unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, read_size=1024, max_buffer_size=max_ack_bytes, max_array_len=0)
        self._max_ack_bytes = max_ack_bytes
        self.error: WireError | None = None

    def feed(self, data: bytes) -> list[bytes]:
        """Chunk ids acknowledged by `data`, in order, as bytes. Never raises."""
        chunks: list[bytes] = []
        for at in range(0, len(data), 1024):
            if self.error is None:
                try:
                    self._take(data[at : at + 1024], chunks)
                except msgpack.BufferFull:
                    self.error = FrameTooLarge(f"an ack of over {self._max_ack_bytes} bytes")
                except BadFrame as error:
                    self.error = error
                except (ValueError, TypeError, msgpack.UnpackException) as error:
                    self.error = BadFrame("not_msgpack", str(error))
        return chunks

    def _take(self, piece: bytes, chunks: list[bytes]) -> None:
        self._unpacker.feed(piece)
        for reply in self._unpacker:
            if isinstance(reply, dict):
                chunk = reply.get(b"ack")
                if isinstance(chunk, bytes):
                    chunks.append(chunk)
            elif reply is not None:
                raise BadFrame("not_an_ack")
