"""One `Enrich` stream: batches in, acknowledgements and records out.

Rules of this file:

1. A stream is a sender's session. Its batches enter the core in their order and are acknowledged in that order, after the commit.
2. Bounded: four batches and `MAX_LINES` lines (or one batch) not yet acknowledged, and nothing is read while the client leaves records
   unread or the receive budget is used up. So whoever makes too many records is held back himself.
3. A batch that cannot be taken ends the stream with a reason, after those before it were acknowledged; it breaks the feed of every
   appliance, as nobody knows whose lines were in it.
4. When the sidecar drains, nothing more is read; what was read is acknowledged; then the stream ends as UNAVAILABLE.
5. An error of ours ends the stream; what was not acknowledged comes again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from hashlib import blake2b
from typing import Any, Final, Protocol

import grpc
import grpc.aio

from esa_tls.api.refused import Refused
from esa_tls.api.v1.service_pb2 import Ack, EnrichRequest, EnrichResponse, RecordBatch
from esa_tls.api.watch import Filter, Hub, Watcher
from esa_tls.core.batch import Batch, Origin, Run
from esa_tls.errors import FrameTooLarge, JournalError

__all__ = ["Enrichment", "Intake", "to_batch"]

MAX_LINES: Final = 20_000
MAX_KEY_BYTES: Final = 256
MAX_IN_FLIGHT: Final = 4
MAX_QUEUED: Final = 100_000
"""Records of a stream that wait for it: what `MAX_LINES` make, those of batches just acknowledged, and what else its appliances do."""

_ORIGINS: Final = 64


class Intake(Protocol):
    """What this source needs of the durable step (docs/correlation.md 6)."""

    def open_session(self, peer: str) -> int:
        """Announce a sender's session; the number goes into its batches."""

    def close_session(self, session: int, *, clean: bool) -> None:
        """End it. `clean=False`: it ended with something that was not acknowledged."""

    def break_feed(self) -> None:
        """Lines may be missing, of any appliance."""

    def reserve(self, n_bytes: int, /) -> AbstractAsyncContextManager[object]:
        """Room in the one receive budget, held until exit; entering waits for it. Raises FrameTooLarge for more than there is."""

    async def submit(self, batch: Batch, /) -> None:
        """Return when everything in `batch` is durable. Raises JournalError."""


class _Job:
    """A batch under way, or the end of all."""

    __slots__ = ("batch_id", "held", "lines", "refused", "task")

    def __init__(self, batch_id: int = 0, *, refused: Refused | None = None) -> None:
        self.batch_id = batch_id
        self.held = AsyncExitStack()
        self.lines = 0
        self.task: asyncio.Task[None] | None = None
        self.refused = refused


class Enrichment:
    """The work of one stream. `run` returns when the client has sent all and got all; raises Refused."""

    def __init__(
        self,
        context: grpc.aio.ServicerContext[EnrichRequest, EnrichResponse],
        *,
        intake: Intake,
        hub: Hub,
        source: str,
        peer: str,
        lossy: bool | None,
        appliances_of: Callable[[int], Collection[str]],
        filter_of: Callable[[Any], Filter],
        draining: asyncio.Event,
        now_s: Callable[[], float],
    ) -> None:
        self._context = context
        self._intake = intake
        self._hub = hub
        self._source = source
        self._peer = peer
        self._lossy = lossy
        self._appliances_of = appliances_of
        self._filter_of = filter_of
        self._draining = draining
        self._now_s = now_s
        self._session = 0
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._room = asyncio.Event()
        self._batches = 0
        self._lines = 0
        self._writing = asyncio.Lock()
        self._watcher: Watcher | None = None
        self._origins: dict[tuple[str | None, str | None], Origin] = {}
        self._clean = False

    async def run(self) -> None:
        """See the class."""
        self._session = self._intake.open_session(self._peer)
        try:
            async with asyncio.TaskGroup() as tasks:
                first = await self._read()
                if first is not None and not first.acks_only:
                    self._watcher = self._hub.watch(
                        self._filter_of(first), only=lambda: self._appliances_of(self._session), max_queued=MAX_QUEUED
                    )
                    tasks.create_task(self._send_records(self._watcher))
                tasks.create_task(self._acknowledge())
                await self._take_all(first, tasks)
        finally:
            if self._watcher is not None:
                self._watcher.close()
            while not self._jobs.empty():
                await self._jobs.get_nowait().held.aclose()
            self._intake.close_session(self._session, clean=self._clean)

    # -- in ----------------------------------------------------------------------------------------------------------------------
    async def _take_all(self, request: EnrichRequest | None, tasks: asyncio.TaskGroup) -> None:
        while request is not None:
            await self._until_room(len(request.lines))
            try:
                await self._take(request, tasks)
            except Refused as refused:
                self._jobs.put_nowait(_Job(refused=refused))
                return
            request = await self._read()
        drained = Refused(grpc.StatusCode.UNAVAILABLE, "the sidecar is stopping; what is not acknowledged has to be sent again")
        self._jobs.put_nowait(_Job(refused=drained if self._draining.is_set() else Refused(grpc.StatusCode.OK, "")))

    async def _read(self) -> EnrichRequest | None:
        """The next request; None when the client has sent all, or we drain."""
        if self._draining.is_set():
            return None
        reading = asyncio.ensure_future(self._context.read())
        draining = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait((reading, draining), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                return None
            request: object = reading.result()  # or `grpc.aio.EOF`
            return request if isinstance(request, EnrichRequest) else None
        finally:
            reading.cancel()
            draining.cancel()

    async def _until_room(self, lines: int) -> None:
        """Wait until this batch may go on its way beside the others."""
        while self._batches >= MAX_IN_FLIGHT or (self._batches and self._lines + lines > MAX_LINES):
            self._room.clear()
            await self._room.wait()
        if self._watcher is not None:
            await self._watcher.catch_up()

    async def _take(self, request: EnrichRequest, tasks: asyncio.TaskGroup) -> None:
        """Start to make a batch durable. Raises Refused for one that cannot be taken."""
        job = _Job(request.batch_id)
        try:
            batch = to_batch(request, origin=self._origin(request), session=self._session, received_s=self._now_s())
        except ValueError as error:
            self._intake.break_feed()
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f"batch {request.batch_id}: {error}") from error
        if batch is not None:
            try:
                await job.held.enter_async_context(self._intake.reserve(request.ByteSize()))
            except FrameTooLarge as error:
                self._intake.break_feed()
                raise Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, f"batch {request.batch_id}: {error}") from error
            job.task = tasks.create_task(_durable(self._intake.submit(batch)))
        job.lines = len(request.lines)
        self._batches += 1
        self._lines += job.lines
        self._jobs.put_nowait(job)

    def _origin(self, request: EnrichRequest) -> Origin:
        appliance = request.appliance or None
        log_name = request.log_name or None
        origin = self._origins.get((appliance, log_name))
        if origin is None:
            if len(self._origins) >= _ORIGINS:
                self._origins.clear()  # sharing is lost for a moment, nothing else
            origin = self._origins[appliance, log_name] = Origin(
                source=self._source, peer=self._peer or None, record_appliance=appliance, log_name=log_name, lossy=self._lossy
            )
        return origin

    # -- out ---------------------------------------------------------------------------------------------------------------------
    async def _acknowledge(self) -> None:
        """Acknowledge the batches in order; then let the records end, and tell why if it is for a reason."""
        while (job := await self._jobs.get()).refused is None:
            async with job.held:
                if job.task is not None:
                    await job.task
                await self._write(EnrichResponse(ack=Ack(batch_id=job.batch_id)))
            self._batches -= 1
            self._lines -= job.lines
            self._room.set()
        if self._watcher is not None:
            await self._hub.flushed()
            self._watcher.end()
        if job.refused.code is not grpc.StatusCode.OK:
            raise job.refused
        self._clean = True

    async def _send_records(self, watcher: Watcher) -> None:
        while taken := await watcher.take():
            await self._write(EnrichResponse(batch=RecordBatch(records=taken, dropped=watcher.dropped)))

    async def _write(self, response: EnrichResponse) -> None:
        async with self._writing:
            await self._context.write(response)


async def _durable(step: Awaitable[None]) -> None:
    try:
        await step
    except JournalError as error:
        raise Refused(grpc.StatusCode.UNAVAILABLE, str(error)) from error


def to_batch(request: EnrichRequest, *, origin: Origin, session: int, received_s: float) -> Batch | None:
    """The core batch of a request; None for one without lines. Raises ValueError, with the reason, for one that cannot be taken."""
    if len(request.key) > MAX_KEY_BYTES:
        raise ValueError(f"key has {len(request.key)} bytes, more than {MAX_KEY_BYTES}")
    if request.HasField("key") and not request.key:
        raise ValueError("key is empty; leave it out if there is none")
    lines = [_without_line_end(line) for line in request.lines]
    if len(lines) > MAX_LINES:
        raise ValueError(f"{len(lines)} lines, more than {MAX_LINES}")
    if request.sender_times and len(request.sender_times) != len(lines):
        raise ValueError(f"{len(request.sender_times)} sender_times for {len(lines)} lines; there has to be one for each, or none")
    if not lines:
        return None
    times: Sequence[float | None] | None = None
    if request.sender_times:
        times = [stamp.seconds + stamp.nanos / 1e9 if stamp.seconds or stamp.nanos else None for stamp in request.sender_times]
        if any(time is not None and not 0 <= time < 1 << 32 for time in times):
            raise ValueError("sender_times: not a time between 1970 and 2106")
    key = _key(request, lines) if request.HasField("key") else None
    return Batch([Run(origin, lines, times)], session, key, received_s)


def _without_line_end(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _key(request: EnrichRequest, lines: list[bytes]) -> bytes:
    """hash(key, content): a key used again for other lines does not make them disappear."""
    digest = blake2b(digest_size=16, person=b"esa_tls.Enrich")
    for part in (request.key, request.appliance.encode(), request.log_name.encode()):
        digest.update(len(part).to_bytes(8, "big") + part)
    for line in lines:
        digest.update(len(line).to_bytes(8, "big") + line)
    for stamp in request.sender_times:
        digest.update(f"{stamp.seconds}.{stamp.nanos};".encode())
    return digest.digest()
