"""OTLP speed: records a second decoded, encoded, put into requests, and through both sources and both clients on loopback.

Decoding: requests of 1,000 records as the Collector's file log receiver makes them, beside opentelemetry-proto's own messages in the same
run. Encoding: what the core asks for is kept first, so that only the encoder's work is timed. The sources commit nothing here (core and
journal have benches of their own); clients send to a receiver that takes everything. CPU seconds of this process, client and server
together. Run: python tests/bench/bench_otlp.py [lines]
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from esa_tls.core.batch import Batch, Origin, Row, Run
from esa_tls.core.encode import JsonLines
from esa_tls.core.encode_otlp import OtlpRecords
from esa_tls.core.line_record import Leaving
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.state import DictState
from esa_tls.offline.simulate import SimulationSettings, simulate
from esa_tls.sinks.otlp import OtlpSink, make_transport
from esa_tls.sources.otlp_grpc import GrpcSettings, OtlpGrpcServer
from esa_tls.sources.otlp_http import HttpSettings, OtlpHttpServer
from esa_tls.telemetry import Counters
from esa_tls.wire.fluent_decode import Rejected
from esa_tls.wire.otlp_decode import ProtobufReader
from esa_tls.wire.otlp_encode import cut_requests
from esa_tls.wire.otlp_json import JsonReader
from esa_tls.wire.otlp_lines import Origins, OtlpSettings

RECORDS = 1_000


def requests_of(lines: list[bytes]) -> list[ExportLogsServiceRequest]:
    """Requests of 1,000 records of the file log receiver."""
    made = []
    for at in range(0, len(lines) - RECORDS + 1, RECORDS):
        request = ExportLogsServiceRequest()
        group = request.resource_logs.add()
        group.resource.attributes.add(key="host.name").value.string_value = "esa1"
        scope = group.scope_logs.add()
        for n, line in enumerate(lines[at : at + RECORDS]):
            record = scope.log_records.add(observed_time_unix_nano=1_700_000_000_000_000_000 + at + n)
            record.body.string_value = line.decode("utf-8", "replace")
            record.attributes.add(key="log.file.name").value.string_value = "mail.current"
        made.append(request)
    return made


def json_of(request: ExportLogsServiceRequest) -> bytes:
    """The same in JSON."""
    from google.protobuf.json_format import MessageToJson

    return MessageToJson(request, indent=None).encode()


def by_runtime(data: bytes) -> list[bytes]:
    """What our reader gives, with opentelemetry-proto's messages: the line the figures are compared with."""
    lines: list[bytes] = []
    times: list[int] = []
    files: list[str] = []
    for group in ExportLogsServiceRequest.FromString(data).resource_logs:
        for scope in group.scope_logs:
            for record in scope.log_records:
                lines.append(record.body.string_value.encode())
                times.append(record.time_unix_nano or record.observed_time_unix_nano)
                files += [one.value.string_value for one in record.attributes if one.key == "log.file.name"]
    return lines


def rate(call: Callable[[bytes], object], datas: Sequence[bytes]) -> float:
    """Records per CPU second, best of 3."""
    best = 0.0
    for _ in range(3):
        started = time.process_time()
        for data in datas:
            call(data)
        best = max(best, len(datas) * RECORDS / (time.process_time() - started))
    return best


class Calls:
    """Stands where an encoder stands, and keeps what it was asked to encode."""

    name = "json"
    interleaved = False
    wants_lines = True

    def __init__(self) -> None:
        self.leaving: list[Leaving] = []
        self.summaries: list[tuple[Any, ...]] = []

    def lines(self, leaving: Sequence[Leaving]) -> None:
        self.leaving += leaving

    def summary(self, *args: Any) -> None:
        self.summaries.append(args)

    def take(self) -> list[Any]:
        return []


def calls_of(lines: list[bytes]) -> Calls:
    """What the core asks an encoder to encode for these lines."""
    pipeline = Pipeline(CoreSettings(appliance_name="esa1"), DictState(), encodings=("json",), now_s=1.7e9)
    calls = Calls()
    pipeline.encoders = [calls]  # type: ignore[list-item]
    for at in range(0, len(lines), RECORDS):
        pipeline.feed(Batch([Run(Origin(tag="esa"), lines[at : at + RECORDS])], 1), now_s=1.7e9)
        pipeline.seal()
    return calls


def encoding(calls: Calls, make: Callable[[], Any]) -> tuple[float, list[Row]]:
    """(records per CPU second, best of 3; rows of 2,000 lines), with nothing cached at the beginning of each time."""
    best = 0.0
    rows: list[Row] = []
    for _ in range(3):
        for prefix, _, leg in calls.leaving:
            prefix.json = prefix.forward = prefix.otlp = None
            if leg is not None:
                leg.json = leg.forward = leg.otlp = None
        one = make()
        rows = []
        gc.collect()
        gc.disable()
        started = time.process_time()
        for at in range(0, len(calls.leaving), 2 * RECORDS):
            one.lines(calls.leaving[at : at + 2 * RECORDS])
            rows += [Row(cls, one.name, segments) for cls, segments in one.take()]
        for call in calls.summaries:
            one.summary(*call)
        rows += [Row(cls, one.name, segments) for cls, segments in one.take()]
        best = max(best, (len(calls.leaving) + len(calls.summaries)) / (time.process_time() - started))
        gc.enable()
    return best, rows


class NullIntake:
    """Takes everything at once."""

    def open_session(self, peer: str) -> int:
        return 1

    def close_session(self, session: int, *, clean: bool) -> None:
        pass

    def break_feed(self) -> None:
        pass

    @asynccontextmanager
    async def reserve(self, _n_bytes: int) -> AsyncIterator[None]:
        yield

    async def submit(self, batch: Batch, /, *, timeout_s: float | None = None) -> None:
        pass

    async def dead_letter(self, rejected: Sequence[Rejected], *, origin: str) -> None:
        pass


async def sources(datas: list[bytes]) -> Iterator[tuple[str, float]]:
    """(name, records per CPU second) of each source."""
    server = OtlpGrpcServer(NullIntake(), Counters(), settings=GrpcSettings(port=0))
    http = OtlpHttpServer(NullIntake(), Counters(), settings=HttpSettings(port=0))
    await server.start()
    await http.start()
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
    call: Any = channel.unary_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export")
    from aiohttp import ClientSession

    found = []
    async with ClientSession() as session:

        async def post(data: bytes) -> None:
            url = f"http://127.0.0.1:{http.port}/v1/logs"
            async with session.post(url, data=data, headers={"Content-Type": "application/x-protobuf"}) as response:
                assert response.status == 200

        for name, send in (("grpc", call), ("http", post)):
            started = time.process_time()
            for data in datas:
                await send(data)
            found.append((name, len(datas) * RECORDS / (time.process_time() - started)))
    await channel.close()
    await server.close()
    await http.close()
    return iter(found)


async def sinks(rows: list[Row], records: int) -> Iterator[tuple[str, float]]:
    """(name, records per CPU second) of each way out."""

    async def export(_request: bytes, _context: object) -> bytes:
        return b""

    async def take(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response()

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
    handler: Any = grpc.unary_unary_rpc_method_handler(export)
    name = "opentelemetry.proto.collector.logs.v1.LogsService"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Export": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    runner = web.ServerRunner(web.Server(take, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found = []
    ends: list[tuple[Any, str]] = [("grpc", f"127.0.0.1:{port}"), ("http", f"http://127.0.0.1:{runner.addresses[0][1]}")]
    for protocol, endpoint in ends:
        for gzip in (False, True):
            sink = OtlpSink(make_transport(protocol, [endpoint], headers={}, gzip=gzip, timeout_s=60.0))
            started = time.process_time()
            for at in range(0, len(rows), 8):
                await sink.send(list(enumerate(rows[at : at + 8])))
            found.append((f"{protocol}{', gzip' if gzip else ''}", records / (time.process_time() - started)))
            await sink.close()
    await server.stop(None)
    await runner.cleanup()
    return iter(found)


def main() -> None:
    """Print the figures."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 60_000
    lines = [line for _, line in simulate(SimulationSettings(seed=7, messages=wanted // 25, messages_per_second=60.0))]
    made = requests_of(lines)
    datas = [request.SerializeToString() for request in made]
    settings = OtlpSettings()
    reader, json_reader = ProtobufReader(settings, Origins(settings)), JsonReader(settings, Origins(settings))
    print(f"{len(lines)} lines of {sum(map(len, lines)) / len(lines):.0f} bytes, requests of {RECORDS} records")
    print(f"decode protobuf           {rate(lambda data: reader.decode(data, peer='192.0.2.1'), datas):10.0f} records/s")
    print(f"  opentelemetry-proto     {rate(by_runtime, datas):10.0f} records/s")
    in_json = rate(lambda data: json_reader.decode(data, peer="192.0.2.1"), [json_of(one) for one in made[:20]])
    print(f"decode JSON               {in_json:10.0f} records/s")
    calls = calls_of(lines)
    fast, rows = encoding(calls, OtlpRecords)
    records = sum(count for row in rows for _, count, _ in row.segments)
    size = sum(len(body) for row in rows for _, _, body in row.segments)
    print(f"encode otlp               {fast:10.0f} records/s  {size / records:.0f} bytes a record")
    print(f"  json, the same records  {encoding(calls, JsonLines)[0]:10.0f} records/s")
    segments = [(n, at, count, body) for n, row in enumerate(rows) for at, (_, count, body) in enumerate(row.segments)]
    started = time.process_time()
    cut_requests(segments, max_bytes=4 << 20, version="1")
    print(f"put into requests         {records / (time.process_time() - started):10.0f} records/s")
    for name, found in asyncio.run(sources(datas)):
        print(f"source {name:19s}{found:10.0f} records/s")
    for name, found in asyncio.run(sinks(rows, records)):
        print(f"sink {name:21s}{found:10.0f} records/s")


if __name__ == "__main__":
    main()
