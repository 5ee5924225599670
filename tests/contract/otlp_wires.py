"""OTLP peers for the contract of sources, on opentelemetry-proto's messages: gRPC, HTTP, and both over mutual TLS with a token."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import aiohttp
import grpc
import grpc.aio
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from tests.contract.intake_fakes import TEST_TIMEOUT_S, FakeIntake, line
from tests.tls_files import TlsFiles

from esa_tls.runtime.tls import grpc_server_credentials, server_context
from esa_tls.sources.otlp_grpc import GrpcSettings, OtlpGrpcServer
from esa_tls.sources.otlp_http import HttpSettings, OtlpHttpServer
from esa_tls.telemetry import OTLP_REQUESTS, Counters

METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


def request_of(numbers: list[int], poison: int) -> ExportLogsServiceRequest:
    """One resource, a record for each number, and `poison` records without a line behind the first."""
    made = ExportLogsServiceRequest()
    group = made.resource_logs.add()
    group.resource.attributes.add(key="host.name").value.string_value = "esa1"
    records = group.scope_logs.add().log_records
    for at, number in enumerate(numbers):
        records.add(time_unix_nano=(number + 1) * 10**9).body.string_value = line(number).decode()
        if at == 0:
            for _ in range(poison):
                records.add().body.int_value = 5
    return made


class OtlpGrpcWire:
    """`LogsService/Export`; with `files` over mutual TLS, with a token."""

    type = "otlp_grpc"
    answers = True
    silent = False
    takes_poison = True
    sessions_end = True
    worked = (OTLP_REQUESTS,)
    malformed = (OTLP_REQUESTS,)

    def __init__(self, *, files: TlsFiles | None = None) -> None:
        self._files = files

    def source(self, intake: FakeIntake, counters: Counters) -> OtlpGrpcServer:
        credentials = None if self._files is None else grpc_server_credentials(self._files.listen(mutual=True), owner="source otlp_grpc")
        token = None if self._files is None else "secret"
        return OtlpGrpcServer(intake, counters, settings=GrpcSettings(port=0), credentials=credentials, token=token)

    async def send(self, source: Any, numbers: list[int], *, ask: bool, poison: int = 0) -> Literal["accepted", "try again", "nothing"]:
        assert ask
        try:
            response = ExportLogsServiceResponse.FromString(await self._call(source, request_of(numbers, poison).SerializeToString()))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return "try again"
        assert response.partial_success.rejected_log_records == poison
        return "accepted"

    async def drivel(self, source: Any, chance: random.Random) -> None:
        try:
            await self._call(source, b"\xff" + chance.randbytes(50))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise

    async def _call(self, source: OtlpGrpcServer, data: bytes) -> bytes:
        metadata = () if self._files is None else (("authorization", "Bearer secret"),)
        async with self._channel(source.port) as channel:
            call: Any = channel.unary_unary(METHOD)
            answer: bytes = await call(data, timeout=TEST_TIMEOUT_S, metadata=metadata)
            return answer

    def _channel(self, port: int) -> grpc.aio.Channel:
        if self._files is None:
            return grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        cert_file, key_file = self._files.client
        pems = [Path(file).read_bytes() for file in (self._files.ca_file, key_file, cert_file)]
        return grpc.aio.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(*pems))


class OtlpHttpWire:
    """`POST /v1/logs`, protobuf and JSON by turns; with `files` over mutual TLS, with a token."""

    type = "otlp_http"
    answers = True
    silent = False
    takes_poison = True
    sessions_end = True
    worked = (OTLP_REQUESTS,)
    malformed = (OTLP_REQUESTS,)

    def __init__(self, *, files: TlsFiles | None = None) -> None:
        self._files = files

    def source(self, intake: FakeIntake, counters: Counters) -> OtlpHttpServer:
        tls = None if self._files is None else server_context(self._files.listen(mutual=True), owner="source otlp_http")
        token = None if self._files is None else "secret"
        return OtlpHttpServer(intake, counters, settings=HttpSettings(port=0, lingering_s=0.1), tls=tls, token=token)

    async def send(self, source: Any, numbers: list[int], *, ask: bool, poison: int = 0) -> Literal["accepted", "try again", "nothing"]:
        assert ask
        made = request_of(numbers, poison)
        if numbers[0] % 2:
            data, media_type = made.SerializeToString(), "application/x-protobuf"
        else:
            records = [
                {
                    "timeUnixNano": str(one.time_unix_nano),
                    "body": {"stringValue": one.body.string_value} if one.body.string_value else {"intValue": 5},
                }
                for one in made.resource_logs[0].scope_logs[0].log_records
            ]
            data, media_type = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).encode(), "application/json"
        try:
            status, body = await self._post(source, data, media_type)
        except aiohttp.ClientError:
            return "try again"
        if status == 503:
            return "try again"
        assert status == 200
        if media_type == "application/json":
            assert int(json.loads(body).get("partialSuccess", {}).get("rejectedLogRecords", 0)) == poison
        else:
            assert ExportLogsServiceResponse.FromString(body).partial_success.rejected_log_records == poison
        return "accepted"

    async def drivel(self, source: Any, chance: random.Random) -> None:
        with suppress(aiohttp.ClientError):
            status, _ = await self._post(source, b"\xff" + chance.randbytes(50), "application/x-protobuf")
            assert status == 400

    async def _post(self, source: OtlpHttpServer, data: bytes, media_type: str) -> tuple[int, bytes]:
        tls = None if self._files is None else self._files.client_context(cert=self._files.client)
        base = f"http://127.0.0.1:{source.port}" if tls is None else f"https://localhost:{source.port}"
        headers = {"Content-Type": media_type, **({} if tls is None else {"Authorization": "Bearer secret"})}
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TEST_TIMEOUT_S)) as session,
            session.post(f"{base}/v1/logs", data=data, headers=headers, ssl=True if tls is None else tls) as response,
        ):
            return response.status, await response.read()
