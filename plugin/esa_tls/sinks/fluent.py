"""The `fluent` sink: a Fluent Forward client that waits for acknowledgements (docs/wires.md 1, as a client).

Rules:

1. Only shapes that every receiver takes: PackedForward as bin, entries `[EventTime, map]`, the option always a map with `chunk` and
   `size`, gzip if asked for; no metadata, no heartbeat, never nil.
2. Tag = `{tag_prefix}.{kind}`: rows are joined into one frame per kind, up to `max_frame_bytes` of a frame **before** compression
   (Fluent Bit's receiver closes above 6,144,000 bytes, compressed or not, and sends no reason).
3. At most one unacknowledged frame per connection (Fluent Bit reads the ack before it writes on); `connections` frames side by side.
   An ack is always asked for. `send` returns when the last frame is acknowledged, so the cursor never passes an unacknowledged row.
4. The chunk id is a hash of tag and entries: a frame sent again, even after a restart, has the same id and can be recognised. Frames
   that were acknowledged before another one of the same `send` failed are not sent again while the process lives.
5. Anything unexpected on a connection (wrong ack, no ack in time, close, an answer that is no ack) ends that connection and is
   transient. A kept connection that turns out to be closed is replaced once at once, without back-off.
6. A record that alone is over the limit can never be sent: it is refused by place, everything else is delivered.

Which receiver gets a frame, TLS and the handshake: `fluent_upstreams`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Sequence
from functools import partial

import msgspec
import xxhash

from esa_tls.core.batch import Row
from esa_tls.core.records import KINDS
from esa_tls.errors import TransientError, WireError
from esa_tls.runtime.dispatch import RecordsRejected, Rejection, record_ends
from esa_tls.runtime.tls import Reloading
from esa_tls.sinks.fluent_upstreams import REFUSED_RETRY_S, Receiver, Streams, Upstreams, told
from esa_tls.wire.fluent_encode import AckReader, encode_packed_forward, new_chunk_id
from esa_tls.wire.fluent_handshake import is_helo

DEFAULT_PORT = 24224
DEFAULT_MAX_FRAME_BYTES = 5 * 1024 * 1024
FRAME_OVERHEAD_BYTES = 128
"""More than array, bin header and option map (chunk of 24 characters, size, compressed) take; the tag comes on top."""

READ_BYTES = 65536


class Frame(msgspec.Struct, frozen=True):
    """One PackedForward frame to be: `count` concatenated `entries` under `tag`, acknowledged by `chunk`."""

    tag: str
    entries: bytes
    count: int
    chunk: bytes


def chunk_of(tag: str, entries: bytes) -> bytes:
    """24 base64 characters that are the same whenever the same entries go out under the same tag."""
    digest = xxhash.xxh3_128(tag.encode() + b"\0")
    digest.update(entries)
    return new_chunk_id(digest.digest())


# -- one connection --------------------------------------------------------------------------------------------------------------------


class _Closed(TransientError):
    """The connection ended before the ack."""


class ForwardConnection:
    """One frame at a time to one of the receivers; a connection to each is made when needed and kept while it works. One user at a time."""

    def __init__(self, upstreams: Upstreams, *, ack_timeout_s: float = 60.0) -> None:
        self._upstreams = upstreams
        self._ack_timeout_s = ack_timeout_s
        self._kept: dict[Receiver, Streams] = {}

    async def exchange(self, frame: bytes, chunk: bytes) -> None:
        """Send an encoded frame and return when it is acknowledged. Raises TransientError; the connection used is then given up."""
        receiver, streams, kept = await self._connected()
        try:
            try:
                await self._try(receiver, streams, frame, chunk)
            except _Closed:
                if not kept:
                    raise
                await self._try(receiver, await self._open(receiver), frame, chunk)
        except TransientError as error:
            self._upstreams.failed(receiver, error)
            raise
        self._upstreams.worked(receiver)

    async def connect(self) -> None:
        """Have a live connection. Raises TransientError with what each receiver said."""
        await self._connected()

    async def close(self) -> None:
        """Close the connections, if there are any."""
        for receiver in list(self._kept):
            _, writer = self._kept[receiver]
            self._give_up(receiver)
            with contextlib.suppress(OSError):
                async with asyncio.timeout(1.0):
                    await writer.wait_closed()

    async def _connected(self) -> tuple[Receiver, Streams, bool]:
        """The first receiver that takes a connection, and whether that was there before."""
        failures: list[TransientError] = []
        for receiver in self._upstreams.order():
            streams = self._kept.get(receiver)
            if streams is not None and not streams[0].at_eof():
                return receiver, streams, True
            try:
                return receiver, await self._open(receiver), False
            except TransientError as error:
                self._upstreams.failed(receiver, error)
                failures.append(error)
        message = "forward: cannot connect to " + "; ".join(map(str, failures))
        waits_s = [error.retry_after_s for error in failures if error.retry_after_s is not None]
        retry_after_s = min(waits_s) if len(waits_s) == len(failures) else None
        raise TransientError(message, retry_after_s=retry_after_s) from failures[-1].__cause__

    async def _open(self, receiver: Receiver) -> Streams:
        self._give_up(receiver)
        streams = self._kept[receiver] = await self._upstreams.open(receiver)
        return streams

    def _give_up(self, receiver: Receiver) -> None:
        streams = self._kept.pop(receiver, None)
        if streams is not None:
            streams[1].transport.abort()

    async def _try(self, receiver: Receiver, streams: Streams, frame: bytes, chunk: bytes) -> None:
        reader, writer = streams
        try:
            async with asyncio.timeout(self._ack_timeout_s):  # a receiver that reads nothing
                writer.write(frame)
                await writer.drain()
            async with asyncio.timeout(self._ack_timeout_s):
                await _read_ack(reader, chunk)
        except TimeoutError as error:
            self._give_up(receiver)
            message = f"forward: {receiver}: no ack within {self._ack_timeout_s:g} s"
            raise TransientError(message) from error
        except (OSError, WireError) as error:
            self._give_up(receiver)
            message = f"forward: {receiver}: {told(error) if isinstance(error, OSError) else error}"
            if isinstance(error, ConnectionError):
                raise _Closed(message) from error
            # With TLS 1.3 a server's word on our certificate comes after the handshake.
            raise TransientError(message, retry_after_s=REFUSED_RETRY_S if isinstance(error, ssl.SSLError) else None) from error
        except BaseException:  # TransientError, or cancelled with an ack under way: the connection is of no use any more
            self._give_up(receiver)
            raise


async def _read_ack(reader: asyncio.StreamReader, chunk: bytes) -> None:
    acks = AckReader()
    while True:
        data = await reader.read(READ_BYTES)
        if not data:
            message = "forward: closed by the receiver before the ack"
            raise _Closed(message)
        if is_helo(data):
            message = "forward: the receiver wants a shared key (it sent HELO), and none is configured"
            raise TransientError(message, retry_after_s=REFUSED_RETRY_S)
        chunks = acks.feed(data)
        if acks.error is not None:
            raise acks.error
        if chunks:
            if chunks != [chunk]:
                message = "forward: the receiver acknowledged another chunk"
                raise TransientError(message)
            return


# -- rows to frames --------------------------------------------------------------------------------------------------------------------


class _Open:
    """A frame being filled."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.count = 0
        self.size = 0


def pack_frames(
    rows: Sequence[tuple[int, Row]], *, kinds: frozenset[str], tag_prefix: str, max_frame_bytes: int
) -> tuple[list[Frame], list[Rejection]]:
    """Join the segments of `rows` into frames of one kind each, in order, none over `max_frame_bytes` when encoded without compression.

    Entry borders are looked for only in a segment that does not fit a frame. Returns the frames and the records too large for any.
    """
    frames: list[Frame] = []
    rejections: list[Rejection] = []
    filling: dict[str, _Open] = {}

    def put(kind: str, body: bytes, count: int, room: int) -> None:
        frame = filling.setdefault(kind, _Open())
        if frame.size + len(body) > room:
            flush(kind)
            frame = filling[kind] = _Open()
        frame.bodies.append(body)
        frame.count += count
        frame.size += len(body)

    def flush(kind: str) -> None:
        frame = filling.pop(kind)
        if frame.count:
            tag = f"{tag_prefix}.{kind}"
            entries = frame.bodies[0] if len(frame.bodies) == 1 else b"".join(frame.bodies)
            frames.append(Frame(tag, entries, frame.count, chunk_of(tag, entries)))

    for row_at, (_, row) in enumerate(rows):
        for segment_at, (kind, count, body) in enumerate(row.segments):
            if kind not in kinds:
                continue
            room = max_frame_bytes - FRAME_OVERHEAD_BYTES - len(tag_prefix.encode()) - len(kind) - 1
            if len(body) <= room:
                put(kind, body, count, room)
                continue
            for start, end, first, after in _pieces(record_ends(row.encoding, body), room):
                if end - start <= room:
                    put(kind, body[start:end], after - first, room)
                else:
                    detail = f"the record has {end - start} bytes, a frame takes {room}"
                    rejections.append(Rejection(row_at, segment_at, first, "too_large", detail))
    for kind in list(filling):
        flush(kind)
    return frames, rejections


def _pieces(ends: list[int], room: int) -> list[tuple[int, int, int, int]]:
    """Cut at record ends into pieces of at most `room` bytes, or of one record: (start, end, first record, record after the last)."""
    pieces: list[tuple[int, int, int, int]] = []
    start, first = 0, 0
    for number, end in enumerate(ends):
        if end - start > room and number > first:
            pieces.append((start, ends[number - 1], first, number))
            start, first = ends[number - 1], number
    pieces.append((start, ends[-1], first, len(ends)))
    return pieces


# -- the sink --------------------------------------------------------------------------------------------------------------------------


class FluentSink:
    """See the module. Sizes in bytes, times in seconds."""

    encoding = "forward"

    def __init__(
        self,
        receivers: Sequence[Receiver | tuple[str, int]],
        *,
        name: str = "fluent",
        cls_wanted: tuple[str, ...] = ("line", "summary"),
        kinds: frozenset[str] = frozenset(KINDS),
        tag_prefix: str = "esa",
        gzip: bool = False,
        connections: int = 2,
        max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
        connect_timeout_s: float = 10.0,
        ack_timeout_s: float = 60.0,
        tls: Reloading[ssl.SSLContext] | None = None,
        server_name: str | None = None,
    ) -> None:
        """`receivers`: (host, port) is one of usual weight. `server_name`: what certificates carry, if not the host."""
        if not receivers or connections < 1:
            message = "fluent: needs an upstream and a connection"
            raise ValueError(message)
        self.name = name
        self.cls_wanted = cls_wanted
        self.kinds = kinds
        self._tag_prefix = tag_prefix
        self._gzip = gzip
        self._max_frame_bytes = max_frame_bytes
        self.upstreams = Upstreams(
            [receiver if isinstance(receiver, Receiver) else Receiver(*receiver) for receiver in receivers],
            tls=tls,
            server_name=server_name,
            connect_timeout_s=connect_timeout_s,
        )
        self._connections = [ForwardConnection(self.upstreams, ack_timeout_s=ack_timeout_s) for _ in range(connections)]
        self._acked: set[bytes] = set()
        """Chunks acknowledged since a `send` last returned: what a repeated `send` leaves out."""
        self._closed = False

    async def open(self, state: bytes | None) -> None:
        """Nothing to do: connections are made when there is something to send."""

    def state(self) -> bytes | None:
        """None: the receiver keeps what it acknowledged."""
        return None

    async def send(self, rows: list[tuple[int, Row]]) -> None:
        """Return when every frame is acknowledged. Raises TransientError, or RecordsRejected for records over the frame limit."""
        if self._closed:
            message = "fluent: closed"
            raise TransientError(message)
        frames, rejections = pack_frames(rows, kinds=self.kinds, tag_prefix=self._tag_prefix, max_frame_bytes=self._max_frame_bytes)
        waiting = deque(frame for frame in frames if frame.chunk not in self._acked)
        users = self._connections[: len(waiting)]
        results = await asyncio.gather(*(self._work_off(waiting, connection) for connection in users), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        if failures:
            raise failures[0]
        self._acked.clear()
        if rejections:
            message = f"fluent: {len(rejections)} records over max_frame_bytes"
            raise RecordsRejected(message, rejections)

    async def close(self) -> None:
        """Close all connections; a later `send` fails."""
        self._closed = True
        await self.upstreams.close()
        for connection in self._connections:
            await connection.close()

    async def _work_off(self, waiting: deque[Frame], connection: ForwardConnection) -> None:
        while waiting:
            frame = waiting.popleft()
            try:
                await connection.exchange(await self._encode(frame), frame.chunk)
            except BaseException:
                waiting.clear()  # the others finish the frame they are at, then all is tried again
                raise
            self._acked.add(frame.chunk)

    async def _encode(self, frame: Frame) -> bytes:
        encode = partial(encode_packed_forward, frame.tag, frame.entries, count=frame.count, chunk=frame.chunk, gzip=self._gzip)
        return await asyncio.to_thread(encode) if self._gzip else encode()  # 5 MiB to compress would hold up everybody else
