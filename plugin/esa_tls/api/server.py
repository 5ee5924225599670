"""The gRPC server: our service, reflection and health, behind one door.

Rules of this file:

1. A token, if there is one, is wanted for every call but those of health, which balancers ask without; compared in constant time.
2. Limits: bytes of a message, calls under way (per connection and in all), idle and half-open connections. A call too many is told
   RESOURCE_EXHAUSTED.
3. Health says NOT_SERVING while the journal takes nothing (`failing`), for the service and for the server as a whole.
4. `drain`: health says NOT_SERVING, `Enrich` takes nothing more and acknowledges what it took. `close`: what is durable by then reaches
   those who watch, and they are told that the sidecar stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

import grpc
import grpc.aio
import msgspec
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from esa_tls import telemetry
from esa_tls.api.enrich import Intake
from esa_tls.api.lookup import Lookup
from esa_tls.api.service import Servicer, address_of
from esa_tls.api.v1 import service_pb2
from esa_tls.api.v1.service_pb2_grpc import add_EsaTlsServicer_to_server
from esa_tls.api.watch import Hub
from esa_tls.core.batch import Sealed
from esa_tls.runtime.grpc_listening import bind, make_server
from esa_tls.runtime.refusals import Refusals

__all__ = ["SERVICE", "ApiServer", "ApiSettings"]

SERVICE: Final = str(service_pb2.DESCRIPTOR.services_by_name["EsaTls"].full_name)

DRAIN_S: Final = 10.0
"""How long `drain` waits for clients to read their acknowledgements."""

HEALTH_EVERY_S: Final = 0.5
"""How often it is looked whether the journal takes groups."""

CLOSE_GRACE_S: Final = 1.0
"""Calls under way at `close` get this long to hear that it is over."""


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the server behaves."""

    host: str = "127.0.0.1"
    port: int = 4319
    name: str = "api"
    token: str | None = None
    lossy: bool | None = None
    max_request_bytes: int = 16 << 20
    max_calls: int = 128
    max_calls_per_session: int = 32
    max_watchers: int = 64
    idle_timeout_s: float = 600.0
    """A connection without a call for so long is closed; the client makes a new one when it needs it."""
    handshake_timeout_s: float = 20.0


class ApiServer:
    """Listens and answers: `start()`, then `drain()`, then `close()`. `committed` has to be called after each commit."""

    def __init__(
        self,
        *,
        intake: Intake,
        lookup: Lookup,
        appliances_of: Callable[[int], Collection[str]],
        counters: telemetry.Counters,
        settings: ApiSettings | None = None,
        credentials: grpc.ServerCredentials | None = None,
        failing: Callable[[], object | None] = lambda: None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """`credentials`: TLS; None = plain text. `appliances_of`: the appliances whose lines came in a session of the intake.

        `failing`: why nothing can be made durable for the moment; None when all is well.
        """
        self.settings = settings or ApiSettings()
        self.hub = Hub(counters, max_watchers=self.settings.max_watchers)
        self._servicer = Servicer(
            intake=intake,
            hub=self.hub,
            lookup=lookup,
            counters=counters,
            appliances_of=appliances_of,
            source=self.settings.name,
            lossy=self.settings.lossy,
            now_s=now_s,
        )
        self._refusals = Refusals(self.settings.name, counters)
        self._credentials = credentials
        self._failing = failing
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None
        self._handing_out: asyncio.Task[None] | None = None
        self._telling_health: asyncio.Task[None] | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The port it listens on (the free one taken for port 0), once started."""
        return self._port

    def committed(self, groups: list[Sealed]) -> None:
        """These groups are durable: for `Intake.on_durable`."""
        self.hub.committed(groups)

    async def start(self) -> None:
        """Listen. Raises OSError if the address cannot be had."""
        settings = self.settings
        server = make_server(
            max_request_bytes=settings.max_request_bytes,
            max_calls_per_session=settings.max_calls_per_session,
            idle_timeout_s=settings.idle_timeout_s,
            handshake_timeout_s=settings.handshake_timeout_s,
            max_calls=settings.max_calls,
            interceptors=[_Door(settings.token, self._refusals)] if settings.token is not None else [],
        )
        add_EsaTlsServicer_to_server(self._servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        self._port = await bind(server, settings.host, settings.port, self._credentials)
        await self._set_health(serving=self._failing() is None)
        await server.start()
        self._handing_out = asyncio.get_running_loop().create_task(self.hub.run(), name="api records")
        self._telling_health = asyncio.get_running_loop().create_task(self._tell_health(), name="api health")
        self._server = server

    async def _set_health(self, *, serving: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in (SERVICE, health.OVERALL_HEALTH):
            await self._health.set(service, status)

    async def _tell_health(self) -> None:
        """Whoever watches health hears of each change; after a graceful shutdown began it stays NOT_SERVING."""
        serving = self._failing() is None
        while True:
            await asyncio.sleep(HEALTH_EVERY_S)
            if serving != (self._failing() is None):
                serving = not serving
                await self._set_health(serving=serving)

    async def drain(self) -> None:
        """Take nothing more; return when what was taken is acknowledged. Those who watch stay."""
        await self._health.enter_graceful_shutdown()
        self._servicer.draining.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._servicer.enriched()

    async def close(self) -> None:
        """Hand out what is durable, and end all calls. Safe at any time, and twice."""
        self._servicer.draining.set()
        handing_out, self._handing_out = self._handing_out, None
        telling_health, self._telling_health = self._telling_health, None
        server, self._server = self._server, None
        if server is None:
            return
        if handing_out is not None and not handing_out.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_GRACE_S):
                    await self.hub.flushed()
        self.hub.close()
        await server.stop(CLOSE_GRACE_S)
        for task in (handing_out, telling_health):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


class _Door(grpc.aio.ServerInterceptor):
    """Lets in who shows the token."""

    def __init__(self, token: str, refusals: Refusals) -> None:
        self._expected = f"Bearer {token}".encode()
        self._refusals = refusals
        self._closed: Any = grpc.stream_stream_rpc_method_handler(self._refuse)  # fits calls of every shape: it reads and writes nothing

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """See the class."""
        given = next((value for key, value in handler_call_details.invocation_metadata or () if key == "authorization"), "")
        shown = given.encode("utf-8", "surrogateescape") if isinstance(given, str) else given
        right = hmac.compare_digest(shown, self._expected)
        if right or handler_call_details.method.startswith(f"/{health.SERVICE_NAME}/"):
            return await continuation(handler_call_details)
        return self._closed

    async def _refuse(self, _requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._refusals.refused(address_of(context.peer()), "token", "its bearer token is missing or wrong")
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the bearer token is missing or wrong")
