"""One sender's connection to the Forward source, from the door to its end. The rules stand in `fluent`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from esa_tls import telemetry
from esa_tls.core.batch import Batch
from esa_tls.errors import FrameTooLarge, WireError
from esa_tls.runtime.streams import peer_name
from esa_tls.sources.fluent_door import TurnedAway
from esa_tls.wire.fluent import BadFrame, FrameReader, RawFrame, UnreadablePayload
from esa_tls.wire.fluent_batch import MAX_SLICE_LINES, cut, join, to_batch
from esa_tls.wire.fluent_decode import Frame, Rejected
from esa_tls.wire.fluent_encode import ack

if TYPE_CHECKING:
    from esa_tls.sources.fluent import ForwardServer

_log = logging.getLogger("esa_tls.sources.fluent")

_SIGNALS = {1: "metrics", 2: "traces"}

PROVEN_IDLE_S = 30.0
"""A sender that has sent frames may be silent for so long before a newcomer gets its place in a full house."""

FIRST_FRAME_S = 10.0
"""The same for one that is still sending its first frame."""

_MAX_JOBS = 64
"""Frames of one session waiting for their turn to be acknowledged; frames without lines need no batch, so this bounds them."""


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


class Session:
    """One sender's connection: a task that reads and submits, and one that waits for commits and acknowledges."""

    def __init__(self, server: ForwardServer, transport: asyncio.Transport) -> None:
        self._server = server
        self._transport: asyncio.WriteTransport = transport
        self._accepted = transport
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._peer = peer_name(transport)
        self._begun_s = self._since_s = asyncio.get_running_loop().time()  # since: of the last bytes
        self.proven = False
        """Whether it sent a frame."""
        self.leaving = False
        """Whether it has to make room for a newcomer."""
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
        reason = "cancelled"
        try:
            first = await self._enter()
            self._id = server.intake.open_session(self._peer)
        except _Ended as ended:
            reason = ended.reason
        else:
            reason = await self._served(first)
        finally:
            server.count(telemetry.SESSIONS_CLOSED, reason=reason)
            self._transport.abort()

    async def _enter(self) -> bytes:
        """Get the peer in, or tell it why not; what it sent already. Raises _Ended."""
        settings, door = self._server.settings, self._server.door
        try:
            async with self._wait(door.time_limit_s):
                self._reader, self._writer, first = await door.enter(self._accepted, limit=settings.read_bytes)
        except TimeoutError:
            if self._must_stop():
                raise _Ended(self._stopped_by()) from None
            door.refusals.refused(self._peer, "handshake_timeout", f"no PING within {settings.handshake_timeout_s:g} s")
            raise _Ended("handshake") from None
        except TurnedAway as away:
            if away.writer is not None:
                await self._turn_away(away, away.writer)
            raise _Ended(away.reason) from None
        self._transport = self._writer.transport
        return first

    async def _turn_away(self, away: TurnedAway, writer: asyncio.StreamWriter) -> None:
        """Write the refusal, after a while for who comes again and again."""
        settings = self._server.settings
        self._transport = writer.transport
        async with self._server.door.place_to_wait() as place:
            if away.delay_s and place:
                with contextlib.suppress(TimeoutError):  # the delay, or the server drains
                    async with self._wait(away.delay_s):
                        await asyncio.Event().wait()
            if away.answer and (place or not away.delay_s):
                writer.write(away.answer)
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with self._wait(settings.handshake_timeout_s):
                await writer.wait_closed()

    async def _served(self, first: bytes) -> str:
        """The session of a peer that is in, from open to closed; what ended it."""
        server = self._server
        # So that each ack leaves before the next is written. Not 0: asyncio's TLS holds its writer then with nothing to send.
        self._writer.transport.set_write_buffer_limits(high=1)
        acknowledging = asyncio.get_running_loop().create_task(self._acknowledge())
        reason = "cancelled"
        try:
            reason = await self._receive(first)
            self._jobs.put_nowait(None)
            await acknowledging
        finally:
            if self._failed:
                reason = "not_acknowledged"
            if self._unacked or self._frames.buffered_bytes or reason in ("bad_frame", "not_acknowledged", "cancelled"):
                self._clean = False
            try:
                await self._give_up(acknowledging)
            finally:  # also if the server closes just now
                server.intake.close_session(self._id, clean=self._clean)
        if reason != "evicted":
            self._writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(server.settings.stall_timeout_s):
                    await self._writer.wait_closed()
        return reason

    def replaceable(self, now_s: float) -> bool:
        """Whether a newcomer may have its place in a full house: nothing of it waits for us, and it takes its time."""
        if self.leaving or self._unacked or self._running or not self._jobs.empty():
            return False
        inside = self._frames.buffered_bytes > 0
        if self.proven:
            return not inside and now_s - self._since_s >= PROVEN_IDLE_S
        return not inside or now_s - self._begun_s >= FIRST_FRAME_S

    def leave(self) -> None:
        """End, to make room for somebody else."""
        self.leaving = True
        self.wake()

    def wake(self) -> None:
        """End a wait for the peer or for room, if there is one: the server drains, or a commit or an ack failed."""
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())

    async def _give_up(self, acknowledging: asyncio.Task[None]) -> None:
        """End what still runs (nothing, after a normal end) and give all room back."""
        for task in (acknowledging, *self._running):
            task.cancel()
        try:
            await asyncio.gather(acknowledging, *self._running, return_exceptions=True)
        finally:
            while not self._jobs.empty():
                job = self._jobs.get_nowait()
                if job is not None and job.held is not None:
                    await job.held.aclose()
            if self._held is not None:
                await self._held.aclose()

    # -- reading -----------------------------------------------------------------------------------------------------------------
    async def _receive(self, first: bytes) -> str:
        """Read frames and submit them until the session has to end; the reason why. `first`: bytes read already."""
        try:
            while data := first or await self._read():
                first = b""
                self._since_s = asyncio.get_running_loop().time()
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
            if self._failed or self.leaving:
                raise _Ended(self._stopped_by())
            if server.draining:
                return await self._last_look()
            inside = self._frames.buffered_bytes > 0
            if inside and self._frame_deadline_s is None:
                self._frame_deadline_s = loop.time() + settings.frame_timeout_s
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
        return self._failed or self.leaving or self._server.draining

    def _stopped_by(self) -> str:
        return "not_acknowledged" if self._failed else "evicted" if self.leaving else "drained"

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
        if not self.proven:
            self.proven = True
            self._server.proven(self)
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
        """A frame that cannot be decoded: the last try becomes a dead letter with an ack, others end the session (docs/wires.md 1.9)."""
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
        """Write one ack and wait until it has left, so that no two acks meet in one segment (docs/wires.md 1.4)."""
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
