"""OTLP servers for tests, on opentelemetry-proto's messages: they take requests over gRPC or HTTP, or answer what a test wants."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any, Literal

import grpc
import grpc.aio
from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from tests.contract.receiving import WebReceiver, cut_off

METHOD = "opentelemetry.proto.collector.logs.v1.LogsService"


class Reply:
    """What to answer. `code`: gRPC status or HTTP status; `cut`: close the connection without an answer."""

    def __init__(
        self,
        code: int = 0,
        *,
        body: bytes = b"",
        trailers: tuple[tuple[str, Any], ...] = (),
        headers: dict[str, str] | None = None,
        cut: bool = False,
    ) -> None:
        self.code = code
        self.body = body
        self.trailers = trailers
        self.headers = headers or {}
        self.cut = cut


TAKE = Reply()


class ReceivedRequest:
    """A request as it came."""

    def __init__(self, data: bytes, headers: dict[str, Any], *, compressed: bool) -> None:
        self.size = len(data)
        self.message = ExportLogsServiceRequest.FromString(data)
        self.headers = headers
        self.compressed = compressed

    @property
    def uids(self) -> list[str]:
        """`log.record.uid` of every record."""
        found = []
        for group in self.message.resource_logs:
            host = next(pair.value.string_value for pair in group.resource.attributes if pair.key == "host.name")
            for scope in group.scope_logs:
                for record in scope.log_records:
                    attributes = {pair.key: pair.value.string_value for pair in record.attributes}
                    assert attributes["cisco_esa.appliance"] == host
                    found.append(attributes["log.record.uid"])
        return found

    @property
    def numbers(self) -> list[int]:
        """The ids of `delivery_fakes` records."""
        return [int(uid.removeprefix("id-")) for uid in self.uids]


class OtlpReceiver(WebReceiver):
    """Listens on a free port. `answer` says what to do with each request; those taken are in `accepted`."""

    def __init__(
        self,
        protocol: Literal["grpc", "http"] = "grpc",
        answer: Callable[[ReceivedRequest], Reply] = lambda _: TAKE,
        *,
        tls: Any = None,
        max_bytes: int = 4 << 20,
    ) -> None:
        super().__init__(tls=tls)
        self.protocol = protocol
        self.answer = answer
        self.requests: list[ReceivedRequest] = []
        self.accepted: list[ReceivedRequest] = []
        self._max_bytes = max_bytes
        self._server: Any = None

    @property
    def endpoint(self) -> str:
        """For the sink's settings."""
        host = "localhost" if self._tls is not None else "127.0.0.1"
        scheme = "" if self.protocol == "grpc" else "http://" if self._tls is None else "https://"
        return f"{scheme}{host}:{self.port}"

    async def start(self) -> None:
        """Listen: on a free port, or again on the same one after `stop`."""
        if self.protocol == "grpc":
            self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", self._max_bytes)])
            handler: Any = grpc.unary_unary_rpc_method_handler(self._export)
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(METHOD, {"Export": handler}),))
            address = f"127.0.0.1:{self.port}"
            self.port = self._server.add_insecure_port(address) if self._tls is None else self._server.add_secure_port(address, self._tls)
            await self._server.start()
            return
        await super().start()

    async def stop(self) -> None:
        """Stop listening and cut all connections."""
        if self.protocol == "grpc":
            await self._server.stop(None)
        else:
            await super().stop()

    def numbers(self) -> list[int]:
        """Ids in all accepted requests."""
        return [number for request in self.accepted for number in request.numbers]

    async def _take(self, request: ReceivedRequest) -> Reply:
        self.requests.append(request)
        reply = self.answer(request)
        await self.held_back()
        if reply.code in (0, 200):
            self.accepted.append(request)
        return reply

    async def _export(self, data: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            received = ReceivedRequest(data, dict(context.invocation_metadata() or ()), compressed=False)
        except Exception as error:
            self.faults.append(error)
            raise
        reply = await self._take(received)
        if reply.code:
            code = next(one for one in grpc.StatusCode if one.value[0] == reply.code)
            await context.abort(code, "told to", reply.trailers)
        return reply.body

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """Take a request over HTTP."""
        data = await request.read()
        compressed = request.headers.get("Content-Encoding") == "gzip"
        try:
            assert (request.method, request.path, request.content_type) == ("POST", "/v1/logs", "application/x-protobuf")
            received = ReceivedRequest(gzip.decompress(data) if compressed else data, dict(request.headers), compressed=compressed)
        except Exception as error:
            self.faults.append(error)
            raise
        reply = await self._take(received)
        if reply.cut:
            return cut_off(request)
        return web.Response(status=reply.code or 200, body=reply.body, headers={"Content-Type": "application/x-protobuf", **reply.headers})


def partial(rejected: int, message: str = "") -> bytes:
    """A response with a partial success."""
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = rejected
    response.partial_success.error_message = message
    return response.SerializeToString()
