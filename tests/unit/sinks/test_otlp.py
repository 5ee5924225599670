"""The OTLP sink against servers on opentelemetry-proto's messages: row O11 of docs/wires.md 2.6, and what a client has to keep to."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 2.6)

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Literal

import grpc
import pytest
import trustme
from tests.contract.delivery_fakes import rows_of
from tests.contract.otlp_receiver import TAKE, OtlpReceiver, ReceivedRequest, Reply, partial

from esa_tls import telemetry
from esa_tls.core.batch import Row
from esa_tls.core.records import KINDS
from esa_tls.errors import TransientError
from esa_tls.runtime.dispatch import RecordsRejected
from esa_tls.sinks.otlp import GrpcTransport, HttpTransport, OtlpSink, make_transport
from esa_tls.telemetry import Counters
from esa_tls.wire.otlp_status import RETRY_INFO, Answer, retry_trailers

Protocol = Literal["grpc", "http"]
BOTH = pytest.mark.parametrize("protocol", ["grpc", "http"])
BUSY = {"grpc": 14, "http": 503}
BAD = {"grpc": 3, "http": 400}


def rows(*counts: int) -> list[tuple[int, Row]]:
    """Rows of so many lines each, numbered through."""
    made, first = [], 0
    for sequence, count in enumerate(counts, 1):
        made.append((sequence, rows_of("otlp", [("line", range(first, first + count))])))
        first += count
    return made


def sink_for(
    receiver: OtlpReceiver,
    *,
    max_request_bytes: int = 4 << 20,
    counters: Counters | None = None,
    kinds: frozenset[str] = frozenset(KINDS),
    **options: Any,
) -> OtlpSink:
    """A sink for this receiver."""
    settings: dict[str, Any] = {"headers": {}, "gzip": True, "timeout_s": 20.0, **options}
    client = make_transport(receiver.protocol, settings.pop("endpoints", [receiver.endpoint]), **settings)
    return OtlpSink(client, max_request_bytes=max_request_bytes, counters=counters, kinds=kinds)


def answers(*replies: Reply) -> Callable[[ReceivedRequest], Reply]:
    """These in turn, then take everything."""
    left = iter(replies)
    return lambda _: next(left, TAKE)


@BOTH
@pytest.mark.parametrize("gzip", [False, True])
async def test_records_arrive_in_order_with_their_resource(protocol: Protocol, gzip: bool) -> None:
    """All records of all rows in one request, one resource per appliance, headers and compression as configured."""
    async with OtlpReceiver(protocol) as receiver:
        sink = sink_for(receiver, gzip=gzip, headers={"Authorization": "Bearer t"})
        await sink.open(None)
        await sink.send(rows(3, 2, 40))
        await sink.close()

    (request,) = receiver.accepted
    assert list(range(45)) == request.numbers
    (group,) = request.message.resource_logs
    assert {"host.name": "esa1", "service.name": "esa-tls"}.items() <= {
        pair.key: pair.value.string_value for pair in group.resource.attributes
    }.items()
    headers = {key.lower(): value for key, value in request.headers.items()}
    assert headers["authorization"] == "Bearer t"
    if protocol == "http":
        assert request.compressed == gzip
    assert sink.state() is None


@BOTH
async def test_only_wanted_kinds(protocol: Protocol) -> None:
    """Segments of other kinds stay behind."""
    async with OtlpReceiver(protocol) as receiver:
        sink = sink_for(receiver, kinds=frozenset({"delivery"}))
        await sink.send([(1, rows_of("otlp", [("connection", [1]), ("delivery", [2, 3])]))])
        await sink.close()
    assert receiver.numbers() == [2, 3]


@BOTH
async def test_requests_stay_below_the_limit(protocol: Protocol) -> None:
    """Never a request above `max_request_bytes`; a record that fits none is named by its place, everything else is delivered."""
    made = [
        (1, rows_of("otlp", [("line", range(50))], pad=2000)),
        (2, rows_of("otlp", [("connection", [50]), ("delivery", [51])], pad=70_000)),
    ]
    async with OtlpReceiver(protocol) as receiver:
        sink = sink_for(receiver, max_request_bytes=65536)
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(made)
        await sink.close()

    assert [(1, 0, 0, "too_large"), (1, 1, 0, "too_large")] == [
        (one.row, one.segment, one.record, one.reason) for one in caught.value.rejections
    ]
    assert list(range(50)) == receiver.numbers()
    assert all(request.size <= 65536 for request in receiver.requests)
    assert len(receiver.requests) == 2


# -- O11 -------------------------------------------------------------------------------------------------------------------------
RETRIED: list[tuple[Protocol, Reply, float | None]] = [
    ("http", Reply(429, headers={"Retry-After": "2"}), 2.0),
    ("http", Reply(429), None),
    ("http", Reply(503, headers={"Retry-After": "2"}), 2.0),
    ("http", Reply(503), None),
    ("http", Reply(502), None),
    ("http", Reply(504), None),
    ("http", Reply(401), 30.0),
    ("http", Reply(404), 30.0),
    ("grpc", Reply(4), None),
    ("grpc", Reply(1), None),
    ("grpc", Reply(10), None),
    ("grpc", Reply(14), None),
    ("grpc", Reply(14, trailers=retry_trailers(Answer(code=14, retry_after_s=7))), 7.0),
    ("grpc", Reply(8, trailers=retry_trailers(Answer(code=8, retry_after_s=3))), 3.0),
    ("grpc", Reply(8, trailers=((RETRY_INFO, b"\x0a\x02\x08\x04"),)), 4.0),
    ("grpc", Reply(16), 30.0),
    ("grpc", Reply(12), 30.0),
]


@pytest.mark.parametrize(("protocol", "reply", "after_s"), RETRIED, ids=[f"{one[0]}-{one[1].code}-{one[2]}" for one in RETRIED])
async def test_O11_tried_again(protocol: Protocol, reply: Reply, after_s: float | None) -> None:
    """A retryable answer is a TransientError that says how long to wait; the same rows again then go through, once."""
    async with OtlpReceiver(protocol, answers(reply)) as receiver:
        sink = sink_for(receiver)
        with pytest.raises(TransientError) as caught:
            await sink.send(rows(3))
        assert caught.value.retry_after_s == after_s
        await sink.send(rows(3))
        await sink.close()
    assert receiver.numbers() == [0, 1, 2]


@pytest.mark.parametrize(
    ("protocol", "reply"),
    [
        ("http", Reply(400)),
        ("http", Reply(500)),
        ("http", Reply(413)),
        ("http", Reply(301)),
        ("grpc", Reply(3)),
        ("grpc", Reply(13)),
        ("grpc", Reply(8)),
    ],
)
async def test_O11_never_again(protocol: Protocol, reply: Reply) -> None:
    """An answer that is not retryable is narrowed down: only what is refused alone is named, everything else is delivered."""
    poison = {2, 9}
    async with OtlpReceiver(protocol, lambda request: reply if poison & set(request.numbers) else TAKE) as receiver:
        sink = sink_for(receiver)
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(rows(6, 6))
        await sink.send(rows(1))  # nothing of it is left over
        await sink.close()

    assert [(0, 0, 2), (1, 0, 3)] == [(one.row, one.segment, one.record) for one in caught.value.rejections]
    assert sorted(receiver.numbers()) == sorted([*(set(range(12)) - poison), 0])


@BOTH
@pytest.mark.parametrize("rejected", [1, 3, 100])
async def test_O11_partial_success_is_not_sent_again(protocol: Protocol, rejected: int) -> None:
    """All of a request: named. Some of it: nobody knows which, so counted. Either way nothing is sent twice."""
    counters = Counters()
    async with OtlpReceiver(protocol, answers(Reply(body=partial(rejected, "bad")))) as receiver:
        sink = sink_for(receiver, counters=counters)
        if rejected == 1:
            await sink.send(rows(3))
            assert counters.value(telemetry.SINK_REJECTED, sink="otlp", reason="partial_success") == 1
        else:
            with pytest.raises(RecordsRejected) as caught:
                await sink.send(rows(3))
            assert [(0, "partial_success", "bad"), (1, "partial_success", "bad"), (2, "partial_success", "bad")] == [
                (one.record, one.reason, one.detail) for one in caught.value.rejections
            ]
        await sink.close()
    assert len(receiver.requests) == 1


@BOTH
async def test_O11_partial_success_with_a_message_only(protocol: Protocol, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing rejected: a warning, and full success."""
    async with OtlpReceiver(protocol, answers(Reply(body=partial(0, "slow down")))) as receiver:
        sink = sink_for(receiver)
        await sink.send(rows(3))
        await sink.close()
    assert "slow down" in caplog.text


@BOTH
async def test_O11_the_connection_is_cut(protocol: Protocol) -> None:
    """A server that goes away in the middle: transient, and everything arrives when it is back."""
    receiver = OtlpReceiver(protocol)
    await receiver.start()
    sink = sink_for(receiver)
    receiver.release = asyncio.Event()
    sending = asyncio.create_task(sink.send(rows(3)))
    await receiver.until_waiting(1)
    await receiver.stop()
    with pytest.raises(TransientError):
        await sending
    receiver.release = None
    receiver.accepted.clear()
    await receiver.start()
    while True:
        try:
            await sink.send(rows(3))
        except TransientError:
            await asyncio.sleep(0.01)
        else:
            break
    await sink.close()
    await receiver.stop()
    assert receiver.numbers() == [0, 1, 2]


async def test_O11_a_kept_connection_that_was_closed_meanwhile() -> None:
    """Over HTTP it is replaced once at once, without back-off."""
    async with OtlpReceiver("http", answers(TAKE, Reply(cut=True))) as receiver:
        sink = sink_for(receiver)
        await sink.send(rows(1))
        await sink.send(rows(1))
        await sink.close()
    assert len(receiver.requests) == 3


@BOTH
async def test_O11_no_answer_in_time(protocol: Protocol) -> None:
    """The time limit passes: transient."""
    async with OtlpReceiver(protocol) as receiver:
        receiver.release = asyncio.Event()
        sink = sink_for(receiver, timeout_s=0.1)
        with pytest.raises(TransientError):
            await sink.send(rows(1))
        receiver.release.set()
        await sink.close()


@BOTH
async def test_what_was_taken_is_not_sent_again_after_a_failure_behind_it(protocol: Protocol) -> None:
    """The second of three requests fails: the repeated send begins with it; records refused before the failure are still named."""
    busy = Reply(BUSY[protocol])
    made = [(n + 1, rows_of("otlp", [("line", [n])], pad=50_000)) for n in range(3)]
    async with OtlpReceiver(protocol, answers(Reply(BAD[protocol]), busy)) as receiver:
        sink = sink_for(receiver, max_request_bytes=65536)
        with pytest.raises(TransientError):
            await sink.send(made)
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(made)
        await sink.close()
    assert [(0, 0, 0)] == [(one.row, one.segment, one.record) for one in caught.value.rejections]
    assert [[0], [1], [1], [2]] == [request.numbers for request in receiver.requests]


@BOTH
async def test_endpoints_in_their_order(protocol: Protocol) -> None:
    """The next one is used when one cannot be reached; an answer of the first is not passed on to the next."""
    async with OtlpReceiver(protocol) as first, OtlpReceiver(protocol) as second:
        sink = sink_for(first, endpoints=[first.endpoint, second.endpoint])
        await sink.send(rows(1))
        first.answer = lambda _: Reply(BAD[protocol])
        with pytest.raises(RecordsRejected):
            await sink.send(rows(1))
        assert (len(first.requests), len(second.requests)) == (2, 0)
        await first.stop()
        await sink.send(rows(2))
        assert second.numbers() == [0, 1]
        await second.stop()
        with pytest.raises(TransientError):
            await sink.send(rows(1))
        await sink.close()
        await first.start()
        await second.start()


@BOTH
async def test_tls_follows_renewed_files(protocol: Protocol) -> None:
    """With the server's authority it works; with another it is a transient failure and no lost record; what is given next time counts."""
    authority, stranger = trustme.CA(), trustme.CA()
    own = authority.issue_cert("logs.example.org")
    if protocol == "grpc":
        server: Any = grpc.ssl_server_credentials([(own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes())])
        trusting: list[Any] = [grpc.ssl_channel_credentials(one.cert_pem.bytes()) for one in (stranger, authority)]
    else:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own.configure_cert(server)
        trusting = [ssl.create_default_context() for _ in range(2)]
        for context, one in zip(trusting, (stranger, authority), strict=True):
            one.configure_trust(context)
    current = trusting[0]
    async with OtlpReceiver(protocol, tls=server) as receiver:
        option: dict[str, Any] = {"credentials" if protocol == "grpc" else "tls": lambda: current}
        sink = sink_for(receiver, server_name="logs.example.org", **option)
        for _ in range(2):
            with pytest.raises(TransientError):
                await sink.send(rows(1))
        current = trusting[1]
        await sink.send(rows(1))
        await sink.close()
    assert receiver.numbers() == [0]


async def test_https_by_the_systems_authorities() -> None:
    """Without settings an https endpoint is checked by the system's authorities, which know no test's."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(server)
    async with OtlpReceiver("http", tls=server) as receiver:
        sink = sink_for(receiver)
        with pytest.raises(TransientError):
            await sink.send(rows(1))
        await sink.close()
    assert receiver.requests == []


async def test_nothing_to_send_and_the_end() -> None:
    """Rows of other kinds only: no request. Closed: a later send fails; closing twice does no harm."""
    async with OtlpReceiver("grpc") as receiver:
        sink = sink_for(receiver, kinds=frozenset({"message"}))
        await sink.send(rows(1))
        await sink.close()
        await sink.close()
        with pytest.raises(TransientError):
            await sink.send(rows(1))
    assert receiver.requests == []


def test_the_client_of_a_protocol() -> None:
    """`grpc` and `http`."""
    assert isinstance(make_transport("grpc", ["a:1"], headers={}, gzip=True, timeout_s=1.0), GrpcTransport)
    assert isinstance(make_transport("http", ["http://a:1"], headers={}, gzip=True, timeout_s=1.0), HttpTransport)
