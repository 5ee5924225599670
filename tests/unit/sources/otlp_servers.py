"""For tests of both OTLP sources: an intake in memory, the real one, and clients that speak raw gRPC and HTTP."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import grpc.aio

from esa_tls.core.batch import Batch
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.runtime.intake import Intake
from esa_tls.runtime.journal import Journal
from esa_tls.runtime.journal_format import DeadLetter
from esa_tls.sources.otlp_grpc import GrpcSettings, OtlpGrpcServer
from esa_tls.sources.otlp_http import HttpSettings, OtlpHttpServer
from esa_tls.telemetry import Counters
from esa_tls.wire.fluent_decode import Rejected

METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
TIMEOUT_S = 20.0


class MemoryIntake:
    """The durable step without a disk. `failure` is raised by the next submits; batches wait while `open` is cleared."""

    def __init__(self, *, budget_bytes: int = 1 << 30) -> None:
        self.batches: list[Batch] = []
        self.letters: list[tuple[str, Rejected]] = []
        self.sessions: list[tuple[str, int, bool | None]] = []
        self.breaks = 0
        self.failures: list[Exception] = []
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0
        self.free_bytes = budget_bytes
        self.most_reserved = 0
        self._reserved = 0
        self._changed = asyncio.Condition()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something here to be true."""
        async with asyncio.timeout(TIMEOUT_S), self._changed:
            await self._changed.wait_for(condition)

    def open_session(self, peer: str) -> int:
        number = 1 + len([one for one in self.sessions if one[0] == "open"])
        self.sessions.append(("open", number, None))
        return number

    def close_session(self, session: int, *, clean: bool) -> None:
        self.sessions.append(("close", session, clean))

    def break_feed(self) -> None:
        self.breaks += 1

    @asynccontextmanager
    async def reserve(self, n_bytes: int) -> AsyncIterator[None]:
        await self.until(lambda: n_bytes <= self.free_bytes)
        self.free_bytes -= n_bytes
        self._reserved += n_bytes
        self.most_reserved = max(self.most_reserved, self._reserved)
        try:
            yield
        finally:
            self.free_bytes += n_bytes
            self._reserved -= n_bytes

    async def submit(self, batch: Batch, /, *, timeout_s: float | None = None) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.waiting += 1
        try:
            await self._tell()
            async with asyncio.timeout(timeout_s):
                await self.open.wait()
        finally:
            self.waiting -= 1
        self.batches.append(batch)
        await self._tell()

    async def dead_letter(self, rejected: Sequence[Rejected], *, origin: str) -> None:
        self.letters += [(origin, one) for one in rejected]

    def lines(self) -> list[bytes]:
        """All lines that came."""
        return [line for batch in self.batches for run in batch.runs for line in run.lines]


class RealIntake:
    """The real intake, core and journal; commits wait while `gate` is cleared."""

    def __init__(self, intake: Intake, pipeline: Pipeline, journal: Journal, gate: threading.Event) -> None:
        self.intake = intake
        self.pipeline = pipeline
        self.journal = journal
        self.gate = gate
        self.open_session = intake.open_session
        self.close_session = intake.close_session
        self.reserve = intake.reserve
        self.submit = intake.submit
        self.break_feed = intake.break_feed

    async def dead_letter(self, rejected: Sequence[Rejected], *, origin: str) -> None:
        await self.intake.dead_letter([DeadLetter(origin, one.reason, one.payload, "raw", 0.0) for one in rejected])

    def records(self) -> list[dict[str, Any]]:
        """Durable `line` records."""
        rows = self.journal.read(0, cls=("line",), encoding="json", max_bytes=1 << 30)
        return [json.loads(line) for _, row in rows for _, _, body in row.segments for line in body.splitlines()]


@asynccontextmanager
async def real_intake(folder: Path, counters: Counters, *, max_bytes: int = 1 << 30) -> AsyncIterator[RealIntake]:
    """Start and end it."""
    journal = Journal.open(folder / "data", max_bytes=max_bytes)
    gate = threading.Event()
    gate.set()
    commit = journal.commit

    def gated(*args: Any, **kwargs: Any) -> None:
        assert gate.wait(TIMEOUT_S)
        commit(*args, **kwargs)

    journal.commit = gated  # type: ignore[method-assign]
    pipeline = Pipeline(CoreSettings(starts_broken=False, emit_immediately=True), journal, encodings=("json",), now_s=1.7e9)
    intake = Intake(pipeline, journal, counters=counters)
    running = asyncio.create_task(intake.run())
    try:
        yield RealIntake(intake, pipeline, journal, gate)
    finally:
        gate.set()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        journal.close()


@asynccontextmanager
async def grpc_server(intake: Any, counters: Counters | None = None, **options: Any) -> AsyncIterator[OtlpGrpcServer]:
    """A running gRPC source on a free port. Options beside those of `GrpcSettings`: `token`, `credentials`, `otlp`."""
    own = {name: options.pop(name) for name in ("token", "credentials", "otlp", "refusals") if name in options}
    server = OtlpGrpcServer(intake, counters or Counters(), settings=GrpcSettings(port=0, **options), now_s=lambda: 1.7e9, **own)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def http_server(intake: Any, counters: Counters | None = None, **options: Any) -> AsyncIterator[OtlpHttpServer]:
    """A running HTTP source on a free port. Options beside those of `HttpSettings`: `token`, `tls`, `otlp`."""
    own = {name: options.pop(name) for name in ("token", "tls", "otlp", "refusals") if name in options}
    server = OtlpHttpServer(intake, counters or Counters(), settings=HttpSettings(port=0, **options), now_s=lambda: 1.7e9, **own)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something to be true that tells nobody, e.g. a counter."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 (there is nothing to wait on)
            await asyncio.sleep(0.001)


class Reply:
    """What a server said: gRPC code and trailers, or HTTP status and headers; and the body."""

    def __init__(self, code: int, body: bytes, metadata: dict[str, Any], message: str = "") -> None:
        self.code = code
        self.body = body
        self.metadata = metadata
        self.message = message


async def call(
    port: int,
    data: bytes,
    *,
    gzip: bool = False,
    headers: dict[str, str] | None = None,
    credentials: Any = None,
    timeout_s: float = TIMEOUT_S,
) -> Reply:
    """One gRPC Export on a channel of its own."""
    target = f"localhost:{port}" if credentials is not None else f"127.0.0.1:{port}"
    options = [("grpc.max_send_message_length", -1)]
    channel = grpc.aio.insecure_channel(target, options) if credentials is None else grpc.aio.secure_channel(target, credentials, options)
    async with channel:
        method: Any = channel.unary_unary(METHOD)
        compression = grpc.Compression.Gzip if gzip else None
        try:
            body = await method(data, timeout=timeout_s, metadata=tuple((headers or {}).items()), compression=compression)
        except grpc.aio.AioRpcError as error:
            return Reply(error.code().value[0], b"", dict(error.trailing_metadata() or ()), error.details() or "")
        return Reply(0, body, {})


async def post(
    port: int,
    data: Any,
    *,
    path: str = "/v1/logs",
    method: str = "POST",
    content_type: str = "application/x-protobuf",
    headers: dict[str, str] | None = None,
    tls: Any = None,
) -> Reply:
    """One HTTP request on a connection of its own."""
    base = f"http://127.0.0.1:{port}" if tls is None else f"https://localhost:{port}"
    if isinstance(data, bytes):
        data = io.BytesIO(data)
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session,
        session.request(
            method, base + path, data=data, headers={"Content-Type": content_type, **(headers or {})}, ssl=tls or True
        ) as response,
    ):
        return Reply(response.status, await response.read(), dict(response.headers))
