"""The OTLP HTTP source over real HTTP: rows O1 to O10 and O13 of docs/wires.md 2.6."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 2.6)

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import trustme
import zstandard
from google.rpc import status_pb2
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from tests.unit.sources.otlp_servers import MemoryIntake, http_server, post, real_intake, until
from tests.unit.wire.otlp_cases import LINE, SAMPLE, SAMPLE_JSON, json_of, request

from esa_tls import telemetry
from esa_tls.core.batch import Batch
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.state import DictState
from esa_tls.errors import JournalFull
from esa_tls.runtime.refusals import Refusals
from esa_tls.sources.otlp_http import HttpSettings, OtlpHttpServer
from esa_tls.telemetry import Counters

JSON = "application/json"
PROTOBUF = "application/x-protobuf"

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "identity": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "GZIP": lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:]),
}


def record_of(batch: Batch) -> dict[str, Any]:
    """The only record that a batch leads to."""
    pipeline = Pipeline(CoreSettings(), DictState(), now_s=1.7e9)
    pipeline.feed(batch, now_s=1.7e9)
    sealed = pipeline.seal()
    assert sealed is not None
    record: dict[str, Any] = json.loads(sealed.rows[0].segments[0][2])
    return record


@pytest.mark.parametrize("encoding", PACK)
@pytest.mark.parametrize(("media_type", "data"), [(PROTOBUF, SAMPLE), (JSON, SAMPLE_JSON), (JSON + "; charset=utf-8", SAMPLE_JSON)])
async def test_O1_the_sample(media_type: str, data: bytes, encoding: str) -> None:
    """Protobuf and JSON, plain, gzip and zstd: the same record with the same id, and an empty response in the request's type."""
    intake, counters = MemoryIntake(), Counters()
    headers = {"Content-Encoding": encoding} if encoding else {}
    async with http_server(intake, counters) as server:
        reply = await post(server.port, PACK[encoding](data), content_type=media_type, headers=headers)

    assert (200, media_type.partition(";")[0]) == (reply.code, reply.metadata["Content-Type"])
    assert reply.body == (b"{}" if JSON in media_type else b"")
    (batch,) = intake.batches
    record = record_of(batch)
    assert ("hi", "esa1", "55ece6f8") == (record["event"]["original"], record["host"]["name"], record["event"]["id"][:8])
    assert record["event"]["id"] == record_of(Batch(batch.runs, 1))["event"]["id"] == "55ece6f8" + record["event"]["id"][8:]
    assert counters.value(telemetry.OTLP_REQUESTS, source="otlp_http", answer="ok") == 1
    assert intake.sessions == [("open", 1, None), ("close", 1, True)]


async def test_O1_the_same_id_whatever_the_way() -> None:
    """Protobuf and JSON of one request over HTTP lead to one and the same record id."""
    intake = MemoryIntake()
    async with http_server(intake) as server:
        await post(server.port, SAMPLE)
        await post(server.port, SAMPLE_JSON, content_type=JSON)

    assert 1 == len({record_of(batch)["event"]["id"] for batch in intake.batches})
    assert intake.batches[0].runs[0].origin.peer == "127.0.0.1"


async def test_O1_opentelemetrys_exporter() -> None:
    """The HTTP exporter of opentelemetry-python (gzip) is understood."""
    from opentelemetry._logs import LogRecord
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.resources import Resource

    intake = MemoryIntake()
    async with http_server(intake, token="t") as server:

        def export() -> None:
            provider = LoggerProvider(resource=Resource({"host.name": "esa9"}))
            exporter = OTLPLogExporter(
                endpoint=f"http://127.0.0.1:{server.port}/v1/logs", compression=Compression.Gzip, headers={"authorization": "Bearer t"}
            )
            provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
            for n in range(1000):
                provider.get_logger("test").emit(LogRecord(body=f"line {n}", attributes={"log.file.name": "mail.log"}))
            provider.shutdown()

        await asyncio.to_thread(export)

    assert intake.lines() == [b"line %d" % n for n in range(1000)]


async def test_O3_an_enum_name() -> None:
    """400 with a Status in JSON that says what is wrong."""
    async with http_server(MemoryIntake()) as server:
        reply = await post(server.port, SAMPLE_JSON.replace(b":9", b':"SEVERITY_NUMBER_INFO"'), content_type=JSON)

    assert 400 == reply.code
    assert json.loads(reply.body)["code"] == 3
    assert "severityNumber" in json.loads(reply.body)["message"]


@pytest.mark.parametrize(("data", "media_type"), [(b"", PROTOBUF), (b"{}", JSON), (b'{"resourceLogs":[]}', JSON)])
async def test_O4_empty_requests(data: bytes, media_type: str) -> None:
    """200, and nothing enters the core."""
    intake = MemoryIntake()
    async with http_server(intake) as server:
        assert (await post(server.port, data, content_type=media_type)).code == 200
    assert intake.batches == []


@pytest.mark.parametrize("media_type", [PROTOBUF, JSON])
async def test_O5_one_record_of_three_holds_no_line(media_type: str) -> None:
    """200 with a partial success in the request's type; the record is a dead letter."""
    made = request({"body": "a"}, {"body": 5}, {"body": "b"})
    intake = MemoryIntake()
    async with http_server(intake) as server:
        reply = await post(server.port, made.SerializeToString() if media_type == PROTOBUF else json_of(made), content_type=media_type)

    assert 200 == reply.code
    if media_type == PROTOBUF:
        partial = ExportLogsServiceResponse.FromString(reply.body).partial_success
        assert (1, True) == (partial.rejected_log_records, "body_type" in partial.error_message)
    else:
        told = json.loads(reply.body)["partialSuccess"]
        assert ("1", True) == (told["rejectedLogRecords"], "body_type" in told["errorMessage"])
    assert [("source:otlp_http", "body_type")] == [(origin, letter.reason) for origin, letter in intake.letters]


async def test_O6_journal_full() -> None:
    """503 with Retry-After and a Status with RetryInfo."""
    intake = MemoryIntake()
    intake.failures = [JournalFull("no room")]
    async with http_server(intake) as server:
        reply = await post(server.port, SAMPLE)

    assert (503, "2") == (reply.code, reply.metadata["Retry-After"])
    status = status_pb2.Status.FromString(reply.body)
    assert (14, 1) == (status.code, len(status.details))
    assert intake.sessions[-1] == ("close", 1, False)


async def test_O6_the_real_journal_full_and_then_not(tmp_path: Path) -> None:
    """While the journal is refused, 503; when there is room, the same request sent again is taken, and nothing is there twice."""
    counters = Counters()
    async with real_intake(tmp_path, counters) as intake, http_server(intake, counters, answer_within_s=0.2) as server:
        commit = intake.journal.commit
        full = True

        def refuse(*args: Any, **kwargs: Any) -> None:
            if full:
                raise JournalFull("no space left")
            commit(*args, **kwargs)

        intake.journal.commit = refuse  # type: ignore[method-assign]
        datas = [request({"body": LINE.decode() + f" {n}"}).SerializeToString() for n in range(3)]
        assert [503] * 3 == [(await post(server.port, data)).code for data in datas]
        full = False
        for data in datas:
            codes = [503]
            while codes[-1] == 503:
                codes.append((await post(server.port, data)).code)
            assert codes[-1] == 200

        assert sorted(record["event"]["original"] for record in intake.records()) == sorted(LINE.decode() + f" {n}" for n in range(3))


async def test_O7_bodies_over_the_limit() -> None:
    """413 without Retry-After: declared, sent without a length, or unpacked; memory stays flat; the limit itself is taken."""
    limit = 4 << 20
    bomb = gzip.compress(bytes(16 << 20)) * 64
    intake = MemoryIntake()

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield bytes(1 << 20)

    under = request({"body": "x" * limit}).SerializeToString()
    under = request({"body": "x" * (2 * limit - len(under))}).SerializeToString()
    async with http_server(intake, max_request_bytes=limit) as server:
        before = psutil.Process().memory_info().rss
        replies = [
            await post(server.port, bytes(limit + 1)),
            await post(server.port, pieces()),
            await post(server.port, bomb, headers={"Content-Encoding": "gzip"}),
            await post(server.port, bomb[:-4] + b"\x01\0\0\0", headers={"Content-Encoding": "gzip"}),
            await post(server.port, zstandard.ZstdCompressor().compress(bytes(limit + 1)), headers={"Content-Encoding": "zstd"}),
        ]
        assert psutil.Process().memory_info().rss - before < 64 << 20
        taken = [await post(server.port, under), await post(server.port, gzip.compress(under), headers={"Content-Encoding": "gzip"})]

    assert [413] * 5 == [reply.code for reply in replies]
    assert not any("Retry-After" in reply.metadata for reply in replies)
    assert [200, 200] == [reply.code for reply in taken]
    assert intake.most_reserved <= 2 * limit
    assert intake.free_bytes == 1 << 30


async def test_O7_what_a_body_says_of_its_size_is_not_trusted() -> None:
    """A gzip of two members says only the second one's size: it is taken all the same, and reserved."""
    data = request({"body": "x" * 100_000}).SerializeToString()
    intake = MemoryIntake()
    async with http_server(intake, max_request_bytes=1 << 20) as server:
        reply = await post(server.port, gzip.compress(data[:-1]) + gzip.compress(data[-1:]), headers={"Content-Encoding": "gzip"})

    assert 200 == reply.code
    assert intake.most_reserved > 1 << 20


BROKEN: list[tuple[dict[str, Any], int, str]] = [
    ({"data": SAMPLE[:-1]}, 400, PROTOBUF),
    ({"data": b"{", "content_type": JSON}, 400, JSON),
    ({"data": b"hello", "headers": {"Content-Encoding": "gzip"}}, 400, PROTOBUF),
    ({"data": gzip.compress(SAMPLE)[:-9], "headers": {"Content-Encoding": "gzip"}}, 400, PROTOBUF),
    ({"data": b"\x28\xb5\x2f\xfd", "headers": {"Content-Encoding": "zstd"}}, 400, PROTOBUF),
    ({"data": SAMPLE, "content_type": "text/plain"}, 415, "text/plain"),
    ({"data": SAMPLE, "content_type": "nonsense"}, 415, "text/plain"),
    ({"data": SAMPLE, "method": "GET"}, 405, "text/plain"),
    ({"data": SAMPLE, "method": "PUT"}, 405, "text/plain"),
    ({"data": SAMPLE, "path": "/v1/traces"}, 404, "text/plain"),
    ({"data": SAMPLE, "path": "/"}, 404, "text/plain"),
    ({"data": SAMPLE, "headers": {"Content-Encoding": "br"}}, 415, "text/plain"),
    ({"data": SAMPLE, "headers": {"Content-Encoding": "gzip, gzip"}}, 415, "text/plain"),
]


@pytest.mark.parametrize(("sent", "status", "media_type"), BROKEN, ids=[str(n) for n in range(len(BROKEN))])
async def test_O8_broken_requests(sent: dict[str, Any], status: int, media_type: str) -> None:
    """Cut-off protobuf, `{`, other types, methods, paths and encodings: told so, with a Status in the request's type where it has one."""
    intake = MemoryIntake()
    async with http_server(intake) as server:
        reply = await post(server.port, **sent)
        assert (await post(server.port, SAMPLE)).code == 200

    assert (status, media_type) == (reply.code, reply.metadata["Content-Type"].partition(";")[0])
    if media_type == JSON:
        assert json.loads(reply.body)["code"] == 3
    elif media_type == PROTOBUF:
        assert status_pb2.Status.FromString(reply.body).code == 3
    if status == 405:
        assert reply.metadata["Allow"] == "POST"
    assert intake.breaks == (1 if status == 400 else 0)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "bearer secret"}, 401),
        ({"Authorization": "Bearer secret"}, 200),
    ],
)
@pytest.mark.parametrize("media_type", [PROTOBUF, JSON])
async def test_O9_tokens(headers: dict[str, str], status: int, media_type: str) -> None:
    """401 with a challenge and a Status; the body is not looked at."""
    intake = MemoryIntake()
    counters = Counters()
    async with http_server(intake, counters, token="secret", refusals=Refusals("source otlp_http", counters)) as server:
        reply = await post(server.port, SAMPLE if media_type == PROTOBUF else SAMPLE_JSON, headers=headers, content_type=media_type)

    assert status == reply.code
    if status == 401:
        assert reply.metadata["WWW-Authenticate"] == "Bearer"
        assert counters.value(telemetry.PEERS_REFUSED, listener="source otlp_http") == 1
        assert 16 == (json.loads(reply.body)["code"] if media_type == JSON else status_pb2.Status.FromString(reply.body).code)
        assert intake.batches == []


async def test_O9_mutual_tls() -> None:
    """With a client certificate of the right authority it works; without one, or with a stranger's, the handshake fails."""
    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    intake = MemoryIntake()
    async with http_server(intake, tls=context) as server:
        for issuer, works in ((authority, True), (stranger, False), (None, False)):
            client = ssl.create_default_context()
            authority.configure_trust(client)
            if issuer is not None:
                issuer.issue_cert("client.example.org").configure_cert(client)
            if works:
                assert (await post(server.port, SAMPLE, tls=client)).code == 200
            else:
                with pytest.raises(aiohttp.ClientError):
                    await post(server.port, SAMPLE, tls=client)

    assert len(intake.batches) == 1


async def test_O10_an_error_of_ours_is_503(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a handler raises: 503 with Retry-After, counted each time, logged as an error once; never 500."""
    intake, counters = MemoryIntake(), Counters()
    intake.failures = [RuntimeError("boom"), RuntimeError("boom")]
    async with http_server(intake, counters) as server:
        with caplog.at_level(logging.ERROR):
            replies = [await post(server.port, SAMPLE) for _ in range(3)]

    assert [503, 503, 200] == [reply.code for reply in replies]
    assert all("Retry-After" in reply.metadata for reply in replies[:2])
    assert counters.value(telemetry.OTLP_FAULTS, source="otlp_http") == 2
    assert 1 == sum(record.levelno == logging.ERROR and record.name.startswith("esa_tls") for record in caplog.records)


async def test_O13_a_resend_while_the_commit_is_under_way(tmp_path: Path) -> None:
    """503 after our own time limit, the resend waits for the same commit, and the records are there once."""
    counters = Counters()
    data = request({"body": LINE.decode()}, resource={"host.name": "esa1"}).SerializeToString()
    async with real_intake(tmp_path, counters) as intake, http_server(intake, counters, answer_within_s=0.3) as server:
        intake.gate.clear()
        assert (await post(server.port, data)).code == 503
        again = asyncio.create_task(post(server.port, data))
        await until(lambda: counters.value(telemetry.BATCHES_KNOWN, source="otlp_http") == 1)
        intake.gate.set()
        assert (await again).code == 200
        assert len(intake.records()) == 1


# -- the server ------------------------------------------------------------------------------------------------------------------
async def test_a_large_body_waits_for_room() -> None:
    """A body over the small limit is read on only with its length reserved; without room in time it is told to come again."""
    data = request({"body": "x" * 500_000}).SerializeToString()
    intake = MemoryIntake(budget_bytes=400_000)
    async with http_server(intake, answer_within_s=0.05) as server:
        assert (await post(server.port, data)).code == 503
        assert (await post(server.port, SAMPLE)).code == 200
    assert intake.free_bytes == 400_000


@pytest.mark.parametrize(("header", "reserved"), [("Content-Length: 500000", 500_000), ("Transfer-Encoding: chunked", 1 << 20)])
async def test_a_large_body_is_reserved_before_it_is_read_on(header: str, reserved: int) -> None:
    """Its declared length, or the limit if it declares none; given back when the sender goes away in the middle."""
    intake = MemoryIntake()
    async with http_server(intake, max_request_bytes=1 << 20) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n{header}\r\n\r\n"
        writer.write(head.encode() + (b"70000\r\n" if "chunked" in header else b"") + bytes(300_000))
        await until(lambda: intake.free_bytes == (1 << 30) - reserved)
        writer.transport.abort()
        await until(lambda: intake.free_bytes == 1 << 30)


async def test_a_body_that_does_not_come() -> None:
    """A sender that declares a body and stops in the middle is told 503 after the time limit, and its connection is closed."""
    intake = MemoryIntake()
    async with http_server(intake, request_timeout_s=0.1, lingering_s=0.1) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 100\r\n\r\nabc")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After" in head
        writer.close()
    assert intake.free_bytes == 1 << 30


async def test_connections_are_limited_and_idle_ones_closed() -> None:
    """Over the limit the oldest silent one makes room; one that sends nothing, or half a head, is closed after the idle time."""
    counters = Counters()
    async with http_server(MemoryIntake(), counters, max_sessions=2, idle_timeout_s=0.2) as server:
        streams = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
        streams[1][1].write(b"POST /v1/lo")
        async with asyncio.timeout(20):
            for reader, _ in streams:
                assert await reader.read() == b""
        for _, writer in streams:
            writer.close()
        assert counters.value(telemetry.SESSIONS_CLOSED, source="otlp_http", reason="evicted") == 1
        assert (await post(server.port, SAMPLE)).code == 200


async def test_a_client_that_goes_away_leaves_nothing_behind() -> None:
    """The connection is cut while the commit is held: the lines get in, nothing stays reserved."""
    intake = MemoryIntake()
    async with http_server(intake) as server:
        intake.open.clear()
        going = asyncio.create_task(post(server.port, SAMPLE))
        await intake.until(lambda: intake.waiting == 1)
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
        intake.open.set()
        await intake.until(lambda: len(intake.batches) == 1)
    assert intake.free_bytes == 1 << 30


async def test_a_drain_lets_requests_under_way_be_answered() -> None:
    """Requests under way commit and are answered, new connections are refused; ending twice, or before the start, does no harm."""
    intake = MemoryIntake()
    async with http_server(intake) as server:
        port = server.port
        intake.open.clear()
        under_way = asyncio.create_task(post(port, SAMPLE))
        await intake.until(lambda: intake.waiting == 1)
        draining = asyncio.create_task(server.drain())
        await asyncio.sleep(0)
        intake.open.set()
        await draining
        assert (await under_way).code == 200
        with pytest.raises(aiohttp.ClientError):
            await post(port, SAMPLE)
        await server.close()
    never_started = OtlpHttpServer(intake, Counters())
    await never_started.drain()
    await never_started.close()


async def test_a_port_that_is_taken() -> None:
    """An OSError."""
    async with http_server(MemoryIntake()) as server:
        other = OtlpHttpServer(MemoryIntake(), Counters(), settings=HttpSettings(port=server.port))
        with pytest.raises(OSError, match=r".+"):
            await other.start()
        await other.close()
