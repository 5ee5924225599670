"""The OTLP gRPC source: `LogsService/Export` on a grpcio asyncio server (wire-contracts.md 2.1, the `S:` rules).

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
        server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),  # else a second sidecar would get half of the connections
                ("grpc.max_receive_message_length", settings.max_request_bytes),
                ("grpc.max_concurrent_streams", settings.max_calls_per_session),
                ("grpc.http.overload_protection", 0),  # it counts calls that have ended and refuses what the limit allows
                ("grpc.max_connection_idle_ms", int(settings.idle_timeout_s * 1000)),
                ("grpc.server_handshake_timeout_ms", int(settings.handshake_timeout_s * 1000)),
                ("grpc.keepalive_time_ms", 60_000),  # finds half-open connections
                ("grpc.keepalive_timeout_ms", 20_000),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ]
        )
        # no (de)serializers: bytes in, bytes out
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._export)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Export": handler}),))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        address = f"{host}:{settings.port}"
        try:
            if self._credentials is None:
                self._port = server.add_insecure_port(address)
            else:
                self._port = server.add_secure_port(address, self._credentials)
        except RuntimeError as error:
            raise OSError(str(error)) from error
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
