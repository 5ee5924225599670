"""The server of the gRPC service in the test's own event loop, over a core whose commits the test can hold up or spoil."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from tests.unit.api.cases import NOW_S, Core

from esa_tls.api.lookup import CoreLookup, Lookup
from esa_tls.api.server import ApiServer, ApiSettings
from esa_tls.api.v1.service_pb2_grpc import EsaTlsStub
from esa_tls.core.batch import Batch, Sealed
from esa_tls.errors import FrameTooLarge
from esa_tls.telemetry import Counters


class MemoryIntake:
    """The durable step without a disk. `gate` held: nothing is durable. `fail`: what submitting raises."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.gate = asyncio.Event()
        self.gate.set()
        self.fail: Exception | None = None
        self.failing: Exception | None = None
        self.batches: list[Batch] = []
        self.known: set[bytes] = set()
        self.sessions: dict[int, bool | None] = {}
        """Session -> how it was closed; None while it is open."""
        self.reserved = 0
        self.max_reserved = 1 << 30
        self.breaks = 0
        self.on_durable: Callable[[list[Sealed]], None] = lambda _: None

    def open_session(self, peer: str) -> int:
        assert peer == "127.0.0.1"
        self.sessions[len(self.sessions) + 1] = None
        return len(self.sessions)

    def close_session(self, session: int, *, clean: bool) -> None:
        assert self.sessions[session] is None
        self.sessions[session] = clean
        self.core.pipeline.close_session(session, clean=clean)

    def break_feed(self) -> None:
        self.breaks += 1

    @asynccontextmanager
    async def reserve(self, n_bytes: int, /) -> AsyncIterator[None]:
        if n_bytes > self.max_reserved:
            raise FrameTooLarge("more than there is")
        self.reserved += n_bytes
        try:
            yield
        finally:
            self.reserved -= n_bytes

    async def submit(self, batch: Batch, /) -> None:
        if self.fail is not None:
            raise self.fail
        self.batches.append(batch)
        if batch.key is None or batch.key not in self.known:
            self.core.pipeline.feed(batch, now_s=NOW_S)
            if batch.key is not None:
                self.known.add(batch.key)
        await self.gate.wait()
        sealed = self.core.sealed()
        if sealed.rows:
            self.on_durable([sealed])


class Serving:
    """A started server, its parts, and a stub of a client on a connection of its own."""

    def __init__(self, server: ApiServer, intake: MemoryIntake, counters: Counters, channel: grpc.aio.Channel) -> None:
        self.server = server
        self.intake = intake
        self.counters = counters
        self.channel = channel
        self.stub: Any = EsaTlsStub(channel)


@asynccontextmanager
async def serving(*, lookup: Lookup | None = None, core: Core | None = None, **settings: Any) -> AsyncIterator[Serving]:
    """Start a server on a free port."""
    counters = Counters()
    core = core or Core(appliance_name=None, appliance_from=("record:appliance",))
    intake = MemoryIntake(core)
    server = ApiServer(
        intake=intake,
        lookup=lookup or CoreLookup(core.pipeline.boxes),
        appliances_of=lambda session: core.pipeline.sessions.get(session, ()),
        counters=counters,
        settings=ApiSettings(port=0, **settings),
        failing=lambda: intake.failing,
        now_s=lambda: NOW_S,
    )
    intake.on_durable = server.committed
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Serving(server, intake, counters, channel)
    finally:
        await server.close()


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop turn until something holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (what is waited for tells nobody)
            await asyncio.sleep(0.001)
