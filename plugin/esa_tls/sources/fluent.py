"""The Forward source: a TCP server around the codec of `wire.fluent` (wire-contracts.md section 1, the `S:` rules; design.md section 6).

Rules of this file:

1. What bytes mean is decided in `wire/`. Here: read, reserve, submit, write, time out, close.
2. A frame is acknowledged after its last slice is durable, by one write of its own, in the order in which frames came.
3. A sender is held back by not reading from it, never by dropping: no room in the receive budget, or `max_in_flight` batches not yet
   committed, and its TCP window closes.
4. Each frame waits for the budget at most once while it is incomplete, so two half-read frames cannot wait for each other: what it
   declares, or `max_frame_bytes` when it does not say. Frames up to `small_frame_bytes` are reserved when they are complete.
5. A connection that opens and closes without a word is a heartbeat (1.5): no error, no warning.
6. Whatever a sender sends ends its own session at most; it is counted, and retried by the sender or kept as a dead letter.

Not here: the handshake (1.6). It would take the first `RawFrame`s in `_Session._take`, before they are decoded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Protocol

import msgspec

from esa_tls import telemetry
from esa_tls.core.batch import Batch
from esa_tls.errors import FrameTooLarge, WireError
from esa_tls.wire.fluent import BadFrame, FrameReader, Limits, RawFrame, UnreadablePayload
from esa_tls.wire.fluent_batch import MAX_SLICE_LINES, Origins, cut, join, to_batch
from esa_tls.wire.fluent_decode import ForwardSettings, Frame, FrameDecoder, Rejected
from esa_tls.wire.fluent_encode import ack

__all__ = ["ForwardServer", "Intake", "ServerSettings"]

_log = logging.getLogger(__name__)

_SIGNALS = {1: "metrics", 2: "traces"}

_MAX_JOBS = 64
"""Frames of one session waiting for their turn to be acknowledged; frames without lines need no batch, so this bounds them."""


class Intake(Protocol):
    """What this source needs of the durable step (design.md section 6)."""

    def open_session(self, peer: str) -> int:
        """Announce a sender's connection; the number goes into its batches."""

    def close_session(self, session: int, *, clean: bool) -> None:
        """End it. `clean=False`: it may have ended with a frame sent and not acknowledged."""

    def reserve(self, n_bytes: int, /) -> AbstractAsyncContextManager[object]:
        """Room in the one receive budget, held until exit; entering waits for it."""

    async def submit(self, batch: Batch, /) -> None:
        """Return when everything in `batch` is durable. Batches enter the core in the order in which the calls begin."""

    async def dead_letter(self, rejected: Sequence[Rejected], *, origin: str) -> None:
        """Return when these are durable among the dead letters. `origin`: `source:<name>`."""


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the server behaves; what it reads out of frames stands in `ForwardSettings` and `Limits`."""

    name: str = "fluent"
    host: str = "127.0.0.1"
    port: int = 24224
    max_sessions: int = 1024
    idle_timeout_s: float = 300.0
    """A sender silent for so long between frames is cut off. Fluent Bit keeps idle connections for 30 s (1.7)."""
    stall_timeout_s: float = 60.0
    """The same inside a frame, and for taking an ack: it holds room that others wait for. Fluentd gives up sending after 60 s."""
    frame_timeout_s: float = 300.0
    """From a frame's reservation to its end, waits for the budget not counted."""
    max_in_flight: int = 4
    """Batches of one session submitted and not yet durable."""
    small_frame_bytes: int = 256 << 10
    """Bytes of an incomplete frame that a session may hold without a reservation."""
    read_bytes: int = 256 << 10
    poison_tries: int = 3
    """After so many times the same unreadable frame from one peer becomes a dead letter and is acknowledged (1.9)."""


class ForwardServer:
    """Listens, keeps the sessions, and what they share. `start()`, then `drain()` or `close()`."""

    def __init__(
        self,
        intake: Intake,
        counters: telemetry.Counters,
        *,
        settings: ServerSettings | None = None,
        forward: ForwardSettings | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings or ServerSettings()
        self.intake = intake
        self.counters = counters
        self.limits = limits or Limits()
        self.decoder = FrameDecoder(forward, self.limits)
        self.origins = Origins(self.decoder.settings)
        self.now_s = now_s
        self.draining = False
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._sessions: dict[asyncio.Task[None], _Session] = {}
        self._poison: OrderedDict[tuple[str, bytes], int] = OrderedDict()
        counters.gauge(telemetry.SESSIONS_OPEN, lambda: len(self._sessions), source=self.settings.name)

    @property
    def port(self) -> int:
        """The port it listens on (the free one taken for port 0). Only between `start()` and the end."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen. Raises OSError if the address cannot be had."""
        settings = self.settings
        self._server = await asyncio.start_server(
            self._connected, settings.host, settings.port, limit=settings.read_bytes, ssl=self._tls, start_serving=True
        )

    async def drain(self) -> None:
        """Stop accepting and reading, wait until the frames already read are durable and acknowledged, and close."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for session in self._sessions.values():
            session.wake()
        while self._sessions:
            await asyncio.wait(set(self._sessions))

    async def close(self) -> None:
        """Close at once: sessions end without further acks. Safe at any time, also after `drain()`."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for task in self._sessions:
            task.cancel()
        while self._sessions:
            await asyncio.wait(set(self._sessions))

    def count(self, name: str, n: int = 1, **labels: str) -> None:
        """Count one of this source's metrics."""
        self.counters.add(name, n, source=self.settings.name, **labels)

    def poisoned(self, peer: str, key: bytes) -> bool:
        """Note one more failure of this frame from `peer`; True when it was the last try. The newest 1,024 are remembered."""
        tries = self._poison.pop((peer, key), 0) + 1
        if tries >= self.settings.poison_tries:
            return True
        self._poison[peer, key] = tries
        if len(self._poison) > 1024:
            self._poison.popitem(last=False)
        return False

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.draining or len(self._sessions) >= self.settings.max_sessions:
            self.count(telemetry.SESSIONS_CLOSED, reason="max_sessions")
            writer.close()
            return
        self.count(telemetry.SESSIONS_OPENED)
        session = _Session(self, reader, writer)
        task = asyncio.get_running_loop().create_task(session.run())
        self._sessions[task] = session
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._sessions[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("A Forward session ended by an error of ours.", exc_info=error)


class _Job:
    """What must be durable before an ack goes out, or (`held`) a reservation to give back when all jobs before it are done."""

    __slots__ = ("chunk", "held", "tasks")

    def __init__(self, *, chunk: bytes | None = None, held: AsyncExitStack | None = None) -> None:
        self.chunk = chunk
        self.held = held
        self.tasks: list[asyncio.Task[None]] = []


class _Ended(Exception):
    """The session has to end; `reason` is a label of `SESSIONS_CLOSED`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Session:
    """One sender's connection: a task that reads and submits, and one that waits for commits and acknowledges."""

    def __init__(self, server: ForwardServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        peername = writer.get_extra_info("peername")
        self._peer = str(peername[0]) if peername else ""
        self._id = -1
        self._frames = FrameReader(server.limits)
        self._slots = asyncio.Semaphore(server.settings.max_in_flight)
        self._jobs: asyncio.Queue[_Job | None] = asyncio.Queue()
        self._job_slots = asyncio.Semaphore(_MAX_JOBS)
        self._running: set[asyncio.Task[None]] = set()
        self._waiting: asyncio.Timeout | None = None
        self._held: AsyncExitStack | None = None  # reservation of the frame being read
        self._frame_deadline_s: float | None = None
        self._loose: Batch | None = None  # frames without a chunk, not yet submitted
        self._loose_lines = 0
        self._unacked = 0  # frames with a chunk, read and not yet acknowledged
        self._failed = False  # a commit or an ack failed: nothing is acknowledged any more
        self._looked = False  # the last look of a drain is done
        self._clean = True

    async def run(self) -> None:
        """The whole session, whatever the peer does in it."""
        server = self._server
        self._id = server.intake.open_session(self._peer)
        self._writer.transport.set_write_buffer_limits(high=0)  # so that each ack leaves before the next is written
        acknowledging = asyncio.get_running_loop().create_task(self._acknowledge())
        reason = "cancelled"
        try:
            reason = await self._receive()
            self._jobs.put_nowait(None)
            await acknowledging
        finally:
            if self._failed:
                reason = "not_acknowledged"
            if self._unacked or self._frames.buffered_bytes or reason in ("bad_frame", "not_acknowledged", "cancelled"):
                self._clean = False
            await self._give_up(acknowledging)
            server.count(telemetry.SESSIONS_CLOSED, reason=reason)
            server.intake.close_session(self._id, clean=self._clean)
            self._writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(server.settings.stall_timeout_s):
                    await self._writer.wait_closed()

    def wake(self) -> None:
        """End a wait for bytes or for room, if there is one: the server drains, or a commit or an ack failed."""
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())

    async def _give_up(self, acknowledging: asyncio.Task[None]) -> None:
        """End what still runs (nothing, after a normal end) and give all room back."""
        for task in (acknowledging, *self._running):
            task.cancel()
        await asyncio.gather(acknowledging, *self._running, return_exceptions=True)
        while not self._jobs.empty():
            job = self._jobs.get_nowait()
            if job is not None and job.held is not None:
                await job.held.aclose()
        if self._held is not None:
            await self._held.aclose()

    # -- reading -----------------------------------------------------------------------------------------------------------------
    async def _receive(self) -> str:
        """Read frames and submit them until the session has to end; the reason why."""
        try:
            while data := await self._read():
                frames = self._frames.feed(data)
                if frames:
                    await self._take_all(frames)
                if self._frames.error is not None:
                    self._count_refused(self._frames.error)
                    return "bad_frame"
        except _Ended as ended:
            return ended.reason
        if self._unacked:
            self._clean = False  # it did not wait for the ack, so it may send the frame again
        return "eof"

    async def _read(self) -> bytes:
        """The next bytes, b"" at their end. Raises _Ended when the server drains, and for a sender that is silent for too long."""
        server, settings, loop = self._server, self._server.settings, asyncio.get_running_loop()
        while True:
            if self._frames.buffered_bytes and self._held is None and not server.draining:
                await self._reserve_ahead()
            if self._failed:
                raise _Ended("not_acknowledged")
            if server.draining:
                return await self._last_look()
            inside = self._frames.buffered_bytes > 0
            wait_s = settings.stall_timeout_s if inside else settings.idle_timeout_s
            if self._frame_deadline_s is not None:
                wait_s = min(wait_s, self._frame_deadline_s - loop.time())
            try:
                async with self._wait(wait_s):
                    return await self._reader.read(settings.read_bytes)
            except TimeoutError:
                if self._must_stop():
                    continue
                if inside:
                    raise _Ended("stalled") from None
                if not self._unacked and not self._running:  # who waits for an ack is not idle
                    raise _Ended("idle") from None
            except OSError:
                return b""

    def _must_stop(self) -> bool:
        return self._failed or self._server.draining

    async def _last_look(self) -> bytes:
        """At a drain: what the transport has taken from the sender already is read, once; nothing is waited for."""
        if not self._looked:
            self._looked = True
            with contextlib.suppress(TimeoutError, OSError):
                async with self._wait(0):
                    if data := await self._reader.read(4 * self._server.settings.read_bytes):
                        return data
        raise _Ended("drained")

    async def _reserve_ahead(self) -> None:
        """Reserve room for the frame being read, once it is known to be large or has become so."""
        settings, limits, frames = self._server.settings, self._server.limits, self._frames
        if frames.pending_bytes and frames.expected_bytes > settings.small_frame_bytes:
            n_bytes = min(frames.expected_bytes + limits.max_option_bytes, limits.max_frame_bytes)
        elif frames.buffered_bytes > settings.small_frame_bytes:
            n_bytes = limits.max_frame_bytes  # it does not say how long it will be
        else:
            return
        held = AsyncExitStack()
        with contextlib.suppress(TimeoutError):  # woken: the caller sees why
            async with self._wait(None):
                await held.enter_async_context(self._server.intake.reserve(n_bytes))
            self._held = held
            self._frame_deadline_s = asyncio.get_running_loop().time() + settings.frame_timeout_s

    @contextlib.asynccontextmanager
    async def _wait(self, timeout_s: float | None) -> AsyncIterator[None]:
        """A wait that ends by TimeoutError after `timeout_s` or by `wake()`."""
        try:
            async with asyncio.timeout(timeout_s) as self._waiting:
                yield
        finally:
            self._waiting = None

    # -- frames ------------------------------------------------------------------------------------------------------------------
    async def _take_all(self, frames: list[RawFrame]) -> None:
        """Decode and submit the frames of one read. Raises _Ended at the first one that cannot be used."""
        held, self._held, self._frame_deadline_s = self._held, None, None
        if held is None:
            held = AsyncExitStack()
            await held.enter_async_context(self._server.intake.reserve(sum(len(raw.data) for raw in frames)))
        try:
            for raw in frames:
                try:
                    frame = self._server.decoder.decode(raw)
                except WireError as error:
                    await self._flush()
                    await self._dead_letter_or_end(error)
                else:
                    await self._take(frame)
            await self._flush()
        finally:
            self._jobs.put_nowait(_Job(held=held))

    async def _take(self, frame: Frame) -> None:
        server = self._server
        server.count(telemetry.FORWARD_FRAMES, mode=frame.mode)
        if frame.signal:
            server.count(telemetry.FORWARD_SIGNALS, signal=_SIGNALS.get(frame.signal, "other"))
        for rejected in frame.rejected:
            server.count(telemetry.EVENTS_DEAD_LETTERED, reason=rejected.reason)
        batch = to_batch(frame, origins=server.origins, peer=self._peer, session=self._id, received_s=server.now_s())
        if frame.chunk is None and not frame.rejected:
            # Nobody waits for this frame, so it shares a batch with its neighbours: many clients send one line per frame.
            if batch.runs:
                self._loose = batch if self._loose is None else join(self._loose, batch)
                self._loose_lines += len(frame.lines)
                if self._loose_lines >= MAX_SLICE_LINES:
                    await self._flush()
        else:
            await self._flush()
            await self._submit(batch, frame.rejected, frame.chunk)

    async def _flush(self) -> None:
        """Submit the frames that share a batch."""
        batch, self._loose, self._loose_lines = self._loose, None, 0
        if batch is not None:
            await self._submit(batch, [], None)

    async def _submit(self, batch: Batch | None, rejected: list[Rejected], chunk: bytes | None) -> None:
        """Start to make these durable, as soon as there is a slot, and have `chunk` acknowledged when they are."""
        intake = self._server.intake
        if chunk is not None:
            self._unacked += 1
        await self._job_slots.acquire()
        job = _Job(chunk=chunk)
        if batch is not None and batch.runs:
            for piece in cut(batch):
                await self._start(job, intake.submit(piece))
        if rejected:
            await self._start(job, intake.dead_letter(rejected, origin=f"source:{self._server.settings.name}"))
        self._jobs.put_nowait(job)

    async def _start(self, job: _Job, step: Coroutine[Any, Any, None]) -> None:
        try:
            await self._slots.acquire()
        except BaseException:
            step.close()
            raise
        task = asyncio.get_running_loop().create_task(self._durable(step))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        job.tasks.append(task)

    async def _durable(self, step: Coroutine[Any, Any, None]) -> None:
        """One durable step. A failure ends the session: without an ack the sender sends again."""
        try:
            if self._failed:  # what follows a failure must not overtake its resend
                step.close()
            else:
                await step
        except Exception:  # noqa: BLE001 (whatever it is, the sender keeps the frame and sends it again)
            _log.exception("A Forward frame from %s could not be made durable; its session ends.", self._peer)
            self._failed = True
            self.wake()
        finally:
            self._slots.release()

    async def _dead_letter_or_end(self, error: WireError) -> None:
        """A frame that cannot be decoded: the last try becomes a dead letter with an ack, others end the session (1.9)."""
        self._count_refused(error)
        if not isinstance(error, UnreadablePayload) or error.chunk is None or not self._server.poisoned(self._peer, error.key):
            raise _Ended("bad_frame")
        reason = f"frame_{error.reason}"
        self._server.count(telemetry.EVENTS_DEAD_LETTERED, reason=reason)
        self._clean = False  # its lines are not in the feed
        await self._submit(None, [Rejected(reason, error.payload)], error.chunk)

    def _count_refused(self, error: WireError) -> None:
        reason = error.reason if isinstance(error, BadFrame) else "frame_size"
        refused = isinstance(error, FrameTooLarge) or reason == "too_deep"
        self._server.count(telemetry.FORWARD_REFUSED_FRAMES if refused else telemetry.FORWARD_BAD_FRAMES, reason=reason)
        _log.warning("A Forward frame from %s could not be used: %s.", self._peer, error)

    # -- acknowledging -----------------------------------------------------------------------------------------------------------
    async def _acknowledge(self) -> None:
        """Take the jobs in order, wait until each is durable, write its ack, give its room back."""
        while (job := await self._jobs.get()) is not None:
            try:
                if job.held is None:
                    for task in job.tasks:
                        await task
                    if job.chunk is not None and not self._failed:
                        await self._send(ack(job.chunk))
                    self._job_slots.release()
            finally:
                if job.held is not None:
                    await job.held.aclose()

    async def _send(self, reply: bytes) -> None:
        """Write one ack and wait until it has left, so that no two acks meet in one segment (1.4)."""
        try:
            self._writer.write(reply)
            async with asyncio.timeout(self._server.settings.stall_timeout_s):
                await self._writer.drain()
        except (OSError, TimeoutError):
            self._failed = True
            self.wake()
        else:
            self._unacked -= 1
            self._server.count(telemetry.FORWARD_ACKS)
