"""The OTLP gRPC source: `LogsService/Export` on a grpcio asyncio server (docs/wires.md 2.1, as a server).

Rules of this file:

1. Messages pass as bytes: what they mean is decided in `wire/` and `sources/otlp.py`.
2. No exception leaves a handler: grpcio would answer UNKNOWN, and the sender would drop its data.
3. Limits are grpcio's: message size after decompression (RESOURCE_EXHAUSTED without RetryInfo, as the specification wants), calls under
   way per connection (others wait at the sender), idle and half-open connections.
4. A message is in memory before its handler runs, so the receive budget is taken afterwards; a sender that must wait longer than the
   answer may take is told to come again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import unquote

import grpc
import grpc.aio
import msgspec

from esa_tls import telemetry
from esa_tls.runtime.grpc_listening import bind, make_server
from esa_tls.runtime.refusals import Refusals
from esa_tls.sources.otlp import Intake, Receiver
from esa_tls.wire.otlp_lines import OtlpSettings
from esa_tls.wire.otlp_status import OK, PROTOBUF, Answer, response_body, retry_trailers

__all__ = ["GrpcSettings", "OtlpGrpcServer"]

SERVICE = "opentelemetry.proto.collector.logs.v1.LogsService"

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class GrpcSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the server behaves; what it reads out of records stands in `OtlpSettings`."""

    name: str = "otlp_grpc"
    host: str = "127.0.0.1"
    port: int = 4317
    max_request_bytes: int = 64 << 20
    """After decompression. The specification recommends 64 MiB; grpcio's own default is 4 MiB."""
    answer_within_s: float = 4.0
    max_calls_per_session: int = 32
    idle_timeout_s: float = 600.0
    """A connection without a call for so long is closed; the client makes a new one when it needs it."""
    handshake_timeout_s: float = 20.0


class OtlpGrpcServer:
    """Listens and answers. `start()`, then `drain()` or `close()`. `credentials`: TLS; None = plain text."""

    def __init__(
        self,
        intake: Intake,
        counters: telemetry.Counters,
        *,
        settings: GrpcSettings | None = None,
        otlp: OtlpSettings | None = None,
        credentials: grpc.ServerCredentials | None = None,
        token: str | None = None,
        refusals: Refusals | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings or GrpcSettings()
        self._credentials = credentials
        self._receiver = Receiver(
            intake,
            counters,
            name=self.settings.name,
            otlp=otlp or OtlpSettings(source=self.settings.name),
            token=token,
            refusals=refusals,
            answer_within_s=self.settings.answer_within_s,
            now_s=now_s,
        )
        self._server: grpc.aio.Server | None = None
        self._port = 0

    @property
    def port(self) -> int:
        """The port it listens on (the free one taken for port 0), once started."""
        return self._port

    async def start(self) -> None:
        """Listen. Raises OSError if the address cannot be had."""
        settings = self.settings
        server = make_server(
            max_request_bytes=settings.max_request_bytes,
            max_calls_per_session=settings.max_calls_per_session,
            idle_timeout_s=settings.idle_timeout_s,
            handshake_timeout_s=settings.handshake_timeout_s,
            more=[("grpc.http.overload_protection", 0)],  # it counts calls that have ended and refuses what the limit allows
        )
        # no (de)serializers: bytes in, bytes out
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._export)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Export": handler}),))
        self._port = await bind(server, settings.host, settings.port, self._credentials)
        await server.start()
        self._server = server

    async def drain(self) -> None:
        """Stop accepting, let the calls under way commit and be answered, and close."""
        await self._stop(self.settings.answer_within_s + 1.0)

    async def close(self) -> None:
        """Close at once: calls under way end without an answer. Safe at any time, also after `drain()`."""
        await self._stop(None)

    async def _stop(self, grace_s: float | None) -> None:
        server, self._server = self._server, None
        if server is not None:
            await server.stop(grace_s)

    async def _export(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        peer = _address_of(context.peer())
        answer = await self._receiver.answered(self._take(request, context, peer), peer=peer)
        if answer.code != OK:
            await context.abort(_CODES[answer.code], answer.message, retry_trailers(answer))
        return response_body(answer)

    async def _take(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes], peer: str) -> Answer:
        deadline_s = self._receiver.deadline_s()
        given = next((value for key, value in context.invocation_metadata() or () if key == "authorization"), None)
        refused = self._receiver.unauthorised(given, peer=peer)
        if refused is not None:
            return refused
        async with self._receiver.room(len(request), deadline_s=deadline_s):
            return await self._receiver.take(request, media_type=PROTOBUF, peer=peer, deadline_s=deadline_s)


def _address_of(peer: str) -> str:
    """`ipv4:192.0.2.1:5` and `ipv6:%5B::1%5D:5` as addresses; "" for a peer without one."""
    family, _, rest = peer.partition(":")
    if family not in {"ipv4", "ipv6"}:
        return ""
    return unquote(rest).rpartition(":")[0].strip("[]")
