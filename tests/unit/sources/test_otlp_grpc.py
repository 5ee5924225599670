"""The OTLP gRPC source over real gRPC: rows O1, O4 to O10 and O13 of docs/wires.md 2.6."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 2.6)

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import trustme
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from tests.unit.sources.otlp_servers import METHOD, MemoryIntake, call, grpc_server, real_intake, until
from tests.unit.wire.otlp_cases import LINE, SAMPLE, request

from esa_tls import telemetry
from esa_tls.errors import JournalError, JournalFull
from esa_tls.sources.otlp_grpc import GrpcSettings, OtlpGrpcServer
from esa_tls.telemetry import Counters
from esa_tls.wire.otlp_lines import batch_key


def of_lines(*lines: bytes, host: str = "esa1") -> bytes:
    """A request with these lines."""
    return request(*({"body": line.decode()} for line in lines), resource={"host.name": host}).SerializeToString()


@pytest.mark.parametrize("gzip", [False, True])
async def test_O1_the_sample(gzip: bool) -> None:
    """With and without gzip: one line, an empty response, after it is durable."""
    intake, counters = MemoryIntake(), Counters()
    async with grpc_server(intake, counters) as server:
        reply = await call(server.port, SAMPLE, gzip=gzip)

    assert (0, b"") == (reply.code, reply.body)
    (batch,) = intake.batches
    assert (batch.key, batch.received_s, batch.session) == (batch_key(SAMPLE), 1.7e9, 1)
    (run,) = batch.runs
    assert ([b"hi"], "esa1", "127.0.0.1") == (run.lines, run.origin.otlp_host, run.origin.peer)
    assert counters.value(telemetry.OTLP_REQUESTS, source="otlp_grpc", answer="ok") == 1
    assert intake.sessions == [("open", 1, None), ("close", 1, True)]


async def test_O1_the_generated_stub_understands_us() -> None:
    """opentelemetry-proto's own client stub gets an empty ExportLogsServiceResponse."""
    intake = MemoryIntake()
    async with grpc_server(intake) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub: Any = LogsServiceStub(channel)  # type: ignore[no-untyped-call]
        response = await stub.Export(request({"body": "x"}))

    assert response == ExportLogsServiceResponse()
    assert intake.lines() == [b"x"]


async def test_O4_empty_requests() -> None:
    """Nothing in it: success, and nothing enters the core."""
    intake = MemoryIntake()
    async with grpc_server(intake) as server:
        replies = [await call(server.port, data) for data in (b"", b"\x0a\x00", b"\x0a\x02\x12\x00")]

    assert [0, 0, 0] == [reply.code for reply in replies]
    assert intake.batches == []


async def test_O5_one_record_of_three_holds_no_line() -> None:
    """OK with rejected=1 and a reason; the record is a dead letter, the others are in."""
    intake, counters = MemoryIntake(), Counters()
    async with grpc_server(intake, counters) as server:
        reply = await call(server.port, request({"body": "a"}, {"body": 5}, {"body": "b"}).SerializeToString())

    partial = ExportLogsServiceResponse.FromString(reply.body).partial_success
    assert (0, 1) == (reply.code, partial.rejected_log_records)
    assert "body_type" in partial.error_message
    assert intake.lines() == [b"a", b"b"]
    assert [("source:otlp_grpc", "body_type")] == [(origin, letter.reason) for origin, letter in intake.letters]
    assert counters.value(telemetry.EVENTS_DEAD_LETTERED, source="otlp_grpc", reason="body_type") == 1


@pytest.mark.parametrize(
    "failure", [JournalFull("no room"), JournalError("stopped"), TimeoutError()], ids=lambda failure: type(failure).__name__
)
async def test_O6_not_durable_is_unavailable_with_both_retry_infos(failure: Exception) -> None:
    """UNAVAILABLE, and when to come again under the key that the Collector reads and under the one that opentelemetry-python reads."""
    intake = MemoryIntake()
    intake.failures = [failure]
    async with grpc_server(intake) as server:
        reply = await call(server.port, SAMPLE)

    status = status_pb2.Status.FromString(reply.metadata["grpc-status-details-bin"])
    info = error_details_pb2.RetryInfo()
    assert (14, 14) == (reply.code, status.code)
    assert status.details[0].Unpack(info)
    assert info == error_details_pb2.RetryInfo.FromString(reply.metadata["google.rpc.retryinfo-bin"])
    assert info.retry_delay.seconds > 0
    assert intake.sessions[-1] == ("close", 1, False)


async def test_O6_no_room_in_the_receive_budget() -> None:
    """A request that cannot be had in memory in time is UNAVAILABLE, and nothing of it is kept reserved."""
    intake = MemoryIntake(budget_bytes=10)
    async with grpc_server(intake, answer_within_s=0.05) as server:
        reply = await call(server.port, SAMPLE)

    assert reply.code == 14
    assert (intake.free_bytes, intake.batches) == (10, [])


async def test_O6_opentelemetrys_exporter_sends_until_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter of opentelemetry-python reads our RetryInfo and loses nothing."""
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
    from opentelemetry.sdk.resources import Resource

    monkeypatch.setattr("esa_tls.sources.otlp.RETRY_AFTER_S", 1)
    intake = MemoryIntake()
    intake.failures = [JournalFull("no room")]
    async with grpc_server(intake) as server:

        def export() -> None:
            provider = LoggerProvider(resource=Resource({"host.name": "esa9"}))
            provider.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(endpoint=f"127.0.0.1:{server.port}", insecure=True)))
            logger = provider.get_logger("test")
            for text in ("one", "two"):
                logger.emit(LogRecord(body=text, severity_number=SeverityNumber.INFO, timestamp=10**18))
            provider.shutdown()

        await asyncio.to_thread(export)

    assert intake.lines() == [b"one", b"two"]
    assert {run.origin.otlp_host for batch in intake.batches for run in batch.runs} == {"esa9"}


@pytest.mark.parametrize("gzip", [False, True])
async def test_O7_a_request_over_the_limit(gzip: bool) -> None:
    """RESOURCE_EXHAUSTED without RetryInfo, also when it is over only unpacked; the limit itself is taken."""
    intake = MemoryIntake()
    limit = 1 << 20
    async with grpc_server(intake, max_request_bytes=limit) as server:
        over = await call(server.port, request({"body": "x" * (1 << 24)}).SerializeToString(), gzip=gzip)
        data = request({"body": "x" * limit}).SerializeToString()
        under = await call(server.port, request({"body": "x" * (2 * limit - len(data))}).SerializeToString(), gzip=gzip)

    assert (8, {}) == (over.code, {key: value for key, value in over.metadata.items() if "retry" in key or "status" in key})
    assert under.code == 0
    assert len(intake.batches) == 1


@pytest.mark.parametrize("data", [SAMPLE[:-1], b"hello"])
async def test_O8_broken_protobuf(data: bytes) -> None:
    """INVALID_ARGUMENT: it would fail again. What was in it is missing, so the feed is broken."""
    intake = MemoryIntake()
    async with grpc_server(intake) as server:
        reply = await call(server.port, data)

    assert (3, {}) == (reply.code, {key: value for key, value in reply.metadata.items() if "retry" in key})
    assert intake.breaks == 1


async def test_O8_another_method() -> None:
    """UNIMPLEMENTED."""
    async with grpc_server(MemoryIntake()) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        method: Any = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("headers", "code"),
    [({}, 16), ({"authorization": "Bearer wrong"}, 16), ({"authorization": "Basic secret"}, 16), ({"authorization": "Bearer secret"}, 0)],
)
async def test_O9_tokens(headers: dict[str, str], code: int) -> None:
    """A missing or wrong token is UNAUTHENTICATED, and the request is not looked at."""
    intake = MemoryIntake()
    async with grpc_server(intake, token="secret") as server:
        reply = await call(server.port, SAMPLE, headers=headers)

    assert code == reply.code
    assert len(intake.batches) == (1 if code == 0 else 0)
    assert intake.breaks == 0


async def test_O9_mutual_tls() -> None:
    """With a client certificate of the right authority it works; without one, or with a stranger's, no request gets through."""
    authority, stranger = trustme.CA(), trustme.CA()
    own = authority.issue_cert("localhost")
    server_credentials = grpc.ssl_server_credentials(
        [(own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes())], authority.cert_pem.bytes(), require_client_auth=True
    )
    intake = MemoryIntake()
    async with grpc_server(intake, credentials=server_credentials) as server:
        codes = []
        for issuer in (authority, stranger, None):
            pair = None if issuer is None else issuer.issue_cert("client.example.org")
            credentials = grpc.ssl_channel_credentials(
                authority.cert_pem.bytes(),
                None if pair is None else pair.private_key_pem.bytes(),
                None if pair is None else pair.cert_chain_pems[0].bytes(),
            )
            codes.append((await call(server.port, SAMPLE, credentials=credentials)).code)

    assert [0, 14, 14] == codes
    assert len(intake.batches) == 1


async def test_O10_an_error_of_ours_is_unavailable(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a handler raises: UNAVAILABLE with RetryInfo, counted each time, logged as an error once."""
    intake, counters = MemoryIntake(), Counters()
    intake.failures = [RuntimeError("boom"), RuntimeError("boom"), KeyError("x")]
    async with grpc_server(intake, counters) as server:
        with caplog.at_level(logging.ERROR):
            replies = [await call(server.port, SAMPLE) for _ in range(4)]

    assert [14, 14, 14, 0] == [reply.code for reply in replies]
    assert all("google.rpc.retryinfo-bin" in reply.metadata for reply in replies[:3])
    assert counters.value(telemetry.OTLP_FAULTS, source="otlp_grpc") == 3
    assert 2 == sum(record.levelno == logging.ERROR and record.name.startswith("esa_tls") for record in caplog.records)


async def test_O13_a_resend_while_the_commit_is_under_way(tmp_path: Path) -> None:
    """The commit takes longer than we may answer: UNAVAILABLE, the same again waits for that commit, and the records are there once."""
    counters = Counters()
    async with real_intake(tmp_path, counters) as intake, grpc_server(intake, counters, answer_within_s=0.3) as server:
        intake.gate.clear()
        first = await call(server.port, of_lines(LINE, LINE + b" x"))
        assert first.code == 14
        again = asyncio.create_task(call(server.port, of_lines(LINE, LINE + b" x")))
        await until(lambda: counters.value(telemetry.BATCHES_KNOWN, source="otlp_grpc") == 1)
        intake.gate.set()
        assert (await again).code == 0
        late = await call(server.port, of_lines(LINE, LINE + b" x"))

        assert late.code == 0
        assert len(intake.records()) == 2
        assert counters.value(telemetry.BATCHES_KNOWN, source="otlp_grpc") == 2


async def test_O13_a_cancelled_call_does_not_cancel_its_group(tmp_path: Path) -> None:
    """The client's own time-out passes while the commit is held: the lines become durable all the same, once."""
    counters = Counters()
    async with real_intake(tmp_path, counters) as intake, grpc_server(intake, counters) as server:
        intake.gate.clear()
        reply = await call(server.port, of_lines(LINE), timeout_s=0.2)
        assert reply.code == 4
        intake.gate.set()
        assert (await call(server.port, of_lines(LINE))).code == 0

        assert len(intake.records()) == 1


async def test_overlapping_requests_break_the_feed(tmp_path: Path) -> None:
    """Two requests of one appliance in flight at once: nobody knows which was first. One after the other: unbroken."""
    counters = Counters()
    async with real_intake(tmp_path, counters) as intake, grpc_server(intake, counters) as server:
        for n in range(3):
            assert (await call(server.port, of_lines(LINE + b" %d" % n))).code == 0
        assert counters.value(telemetry.FEED_BREAKS) == 0
        intake.gate.clear()
        calls = [asyncio.create_task(call(server.port, of_lines(LINE + b" %d" % n))) for n in (7, 8)]
        await until(lambda: counters.value(telemetry.BATCHES, source="otlp_grpc") == 5)
        intake.gate.set()
        assert [0, 0] == [(await one).code for one in calls]
        await intake.intake.drain()
        assert counters.value(telemetry.FEED_BREAKS, reason="sessions") == 1

        for n, host in enumerate(("a", "b")):  # different appliances may overlap
            calls.append(asyncio.create_task(call(server.port, of_lines(LINE + b" %d" % n, host=host))))
        assert [0, 0] == [(await one).code for one in calls[2:]]
        await intake.intake.drain()
        assert counters.value(telemetry.FEED_BREAKS) == 1


async def test_sessions_of_overlapping_requests_end_together() -> None:
    """A request's session stays open until all that overlapped with it are answered; later ones do not keep it."""
    intake = MemoryIntake()
    async with grpc_server(intake) as server:
        intake.open.clear()
        calls = [asyncio.create_task(call(server.port, of_lines(b"%d" % n))) for n in range(2)]
        await intake.until(lambda: intake.waiting == 2)
        intake.open.set()
        await asyncio.gather(*calls)
        closed = [number for what, number, _ in intake.sessions if what == "close"]
        assert sorted(closed) == [1, 2]
        assert [what for what, _, _ in intake.sessions] == ["open", "open", "close", "close"]


async def test_a_drain_lets_calls_under_way_be_answered() -> None:
    """Calls under way commit and are answered, new ones are turned away; ending twice does no harm."""
    intake = MemoryIntake()
    async with grpc_server(intake) as server:
        port = server.port
        intake.open.clear()
        under_way = asyncio.create_task(call(port, SAMPLE))
        await intake.until(lambda: intake.waiting == 1)
        draining = asyncio.create_task(server.drain())
        await asyncio.sleep(0)
        intake.open.set()
        await draining
        assert (await under_way).code == 0
        assert (await call(port, SAMPLE, timeout_s=2)).code in (4, 14)
        await server.close()
    never_started = OtlpGrpcServer(intake, Counters())
    await never_started.drain()
    await never_started.close()


async def test_a_port_that_is_taken() -> None:
    """A second server on the same port is an OSError, not half of the connections."""
    async with grpc_server(MemoryIntake()) as server:
        other = OtlpGrpcServer(MemoryIntake(), Counters(), settings=GrpcSettings(port=server.port))
        with pytest.raises(OSError, match=r".+"):
            await other.start()
        await other.close()


async def test_many_calls_on_one_connection_wait_at_the_sender() -> None:
    """More calls than allowed under way at once are not refused: they wait, and all are taken."""
    intake = MemoryIntake()
    async with grpc_server(intake, max_calls_per_session=3) as server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        method: Any = channel.unary_unary(METHOD)
        await method(b"", timeout=20)  # the client has to have heard of the limit; before, calls too many are refused as UNAVAILABLE
        intake.open.clear()
        calls = [asyncio.ensure_future(method(of_lines(b"%d" % n), timeout=20)) for n in range(20)]
        await intake.until(lambda: intake.waiting == 3)
        intake.open.set()
        await asyncio.gather(*calls)

    assert sorted(intake.lines()) == sorted(b"%d" % n for n in range(20))
