from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.unit.api.cases import CLEAR_DELIVERY, END, MESSAGE, Core, line, records_of
from tests.unit.api.serving import Serving, serving, until

from esa_tls import telemetry
from esa_tls.api import enrich, server
from esa_tls.api.convert import to_dict
from esa_tls.api.enrich import to_batch
from esa_tls.api.lookup import Answer, Query
from esa_tls.api.service import address_of
from esa_tls.api.v1 import records_pb2, service_pb2
from esa_tls.api.v1.service_pb2 import EnrichRequest, EnrichResponse, LookupRequest, RecordFilter, WatchRequest
from esa_tls.core.batch import Origin
from esa_tls.errors import JournalFull

ALL = MESSAGE + CLEAR_DELIVERY + END


async def refused(call: Any) -> tuple[grpc.StatusCode, str]:
    """The status a call ends with, and its reason."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await (call if isinstance(call, grpc.aio.UnaryUnaryCall) else read_all(call))
    return caught.value.code(), caught.value.details() or ""


async def read_all(call: Any) -> tuple[list[int], list[dict[str, Any]]]:
    """Acknowledged batches and records of an `Enrich` stream until its end."""
    acks: list[int] = []
    records: list[dict[str, Any]] = []
    while (response := await call.read()) is not grpc.aio.EOF:
        if isinstance(response, EnrichResponse) and response.HasField("ack"):
            acks.append(response.ack.batch_id)
        else:
            records += [to_dict(record) for record in response.batch.records]
    return acks, records


async def enriched(at: Serving, *requests: EnrichRequest) -> tuple[list[int], list[dict[str, Any]]]:
    """Send requests, and read to the end."""
    return await read_all(at.stub.Enrich(iter(requests)))


def batch(batch_id: int, lines: list[bytes] | None = None, **fields: Any) -> EnrichRequest:
    """A request; without `lines` with one."""
    return EnrichRequest(batch_id=batch_id, lines=[line(f"MID {batch_id} queued for delivery")] if lines is None else lines, **fields)


# -- Enrich: in ------------------------------------------------------------------------------------------------------------------
async def test_lines_in_records_out() -> None:
    """All that the lines of a stream lead to comes back over it, and each batch is acknowledged in order."""
    expected = records_of([Core().feed(ALL)])
    async with serving() as at:
        acks, records = await enriched(at, batch(7, ALL[:5], appliance="esa1"), batch(3, ALL[5:], appliance="esa1"))

        assert [7, 3] == acks
        assert sorted(one["event"]["id"] for one in expected) == sorted(one["event"]["id"] for one in records)
        assert {1: True} == at.intake.sessions
        assert 0 == at.intake.reserved
        await until(lambda: at.counters.value(telemetry.API_CALLS, method="Enrich", code="ok") == 1)  # counted once answered


async def test_an_acknowledgement_follows_the_commit() -> None:
    """While the commit is under way there is no acknowledgement, and no record."""
    async with serving() as at:
        at.intake.gate.clear()
        call = at.stub.Enrich(iter([batch(1)]))
        reading = asyncio.create_task(read_all(call))
        await until(lambda: at.intake.batches)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not reading.done()

        at.intake.gate.set()
        acks, records = await reading
        assert [1] == acks
        assert 1 == len(records)


async def test_what_a_request_says_reaches_the_core() -> None:
    """Lines without line ends, appliance, log name and sender's times; the peer's address; a session of its own for each stream."""
    async with serving(lossy=True) as at:
        request = batch(
            1,
            [b"one\r\n", b"two\n", b"a\nb", b""],
            appliance="esa7",
            log_name="mail",
            sender_times=[Timestamp(seconds=5, nanos=5 * 10**8)] + [Timestamp()] * 3,
        )
        await enriched(at, request)
        await enriched(at, batch(1))

        (run,) = at.intake.batches[0].runs
        assert [b"one", b"two", b"a\nb", b""] == run.lines
        assert Origin(source="api", peer="127.0.0.1", record_appliance="esa7", log_name="mail", lossy=True) == run.origin
        assert [5.5, None, None, None] == run.sender_times_s
        assert [1, 2] == [one.session for one in at.intake.batches]
        assert None is at.intake.batches[0].key


def key_of(request: EnrichRequest) -> bytes | None:
    """The key under which a request is remembered."""
    made = to_batch(request, origin=Origin(), session=1, received_s=0.0)
    assert made is not None
    return made.key


def test_keys() -> None:
    """The same key and content is the same batch, whatever its number; with other content, or another key, it is another."""
    base: dict[str, Any] = {
        "key": b"k",
        "lines": [b"a", b"b"],
        "appliance": "e",
        "log_name": "m",
        "sender_times": [Timestamp(seconds=1)] * 2,
    }
    key = key_of(EnrichRequest(batch_id=1, **base))

    assert key is not None
    assert 16 == len(key)
    assert key == key_of(EnrichRequest(batch_id=2, filter=RecordFilter(appliances=["x"]), **base))
    for change in (
        {"key": b"l"},
        {"lines": [b"ab", b""]},
        {"lines": [b"a", b"b", b""], "sender_times": [Timestamp(seconds=1)] * 3},
        {"appliance": "em", "log_name": ""},
        {"sender_times": [Timestamp(seconds=1), Timestamp(seconds=2)]},
    ):
        assert key != key_of(EnrichRequest(**{**base, **change}))


async def test_a_batch_without_lines_waits_for_those_before() -> None:
    """A batch without lines is acknowledged after the ones before it, and makes nothing."""
    async with serving() as at:
        at.intake.gate.clear()
        reading = asyncio.create_task(enriched(at, batch(1), batch(2, [])))
        await until(lambda: at.intake.batches)
        at.intake.gate.set()

        assert [1, 2] == (await reading)[0]
        assert 1 == len(at.intake.batches)


async def test_batches_in_flight_are_bounded() -> None:
    """Four batches are taken ahead of their acknowledgement; the rest waits at the client, and comes when there is room."""
    async with serving() as at:
        at.intake.gate.clear()
        reading = asyncio.create_task(enriched(at, *map(batch, range(1, 21))))
        await until(lambda: len(at.intake.batches) == enrich.MAX_IN_FLIGHT)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert enrich.MAX_IN_FLIGHT == len(at.intake.batches)

        at.intake.gate.set()
        assert list(range(1, 21)) == (await reading)[0]


async def test_lines_in_flight_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that would make it too many lines waits for those before it."""
    monkeypatch.setattr(enrich, "MAX_LINES", 3)
    async with serving() as at:
        at.intake.gate.clear()
        reading = asyncio.create_task(enriched(at, batch(1, [b"a", b"b"]), batch(2, [b"c"]), batch(3, [b"d"])))
        await until(lambda: len(at.intake.batches) == 2)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert 2 == len(at.intake.batches)

        at.intake.gate.set()
        assert [1, 2, 3] == (await reading)[0]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (batch(9, [b"x"] * (enrich.MAX_LINES + 1)), "batch 9: 20001 lines, more than 20000"),
        (batch(9, key=b"k" * 257), "batch 9: key has 257 bytes, more than 256"),
        (batch(9, key=b""), "batch 9: key is empty; leave it out if there is none"),
        (batch(9, [b"x", b"y"], sender_times=[Timestamp()]), "batch 9: 1 sender_times for 2 lines; there has to be one for each, or none"),
        (batch(9, [b"x"], sender_times=[Timestamp(seconds=-1)]), "batch 9: sender_times: not a time between 1970 and 2106"),
    ],
)
async def test_a_batch_that_cannot_be_taken_ends_the_stream(request_: EnrichRequest, reason: str) -> None:
    """The reason is told, after what came before was acknowledged; nothing after it is taken, and the feed counts as broken."""
    async with serving() as at:
        at.intake.gate.clear()
        call = at.stub.Enrich(iter([batch(1, acks_only=True), request_, batch(2)]))
        await until(lambda: at.intake.batches)
        at.intake.gate.set()

        assert 1 == (await call.read()).ack.batch_id
        assert (grpc.StatusCode.INVALID_ARGUMENT, reason) == await refused(call)
        assert 1 == len(at.intake.batches)
        assert 1 == at.intake.breaks
        assert {1: False} == at.intake.sessions


async def test_a_filter_that_cannot_be_used_ends_the_stream() -> None:
    """A filter with a value that is not known is refused before anything is taken."""
    async with serving() as at:
        wanted = RecordFilter()
        wanted.kinds.append(77)  # type: ignore[arg-type] # as a newer client would

        code, reason = await refused(at.stub.Enrich(iter([batch(1, filter=wanted)])))

        assert (grpc.StatusCode.INVALID_ARGUMENT, "filter.kinds: 77 is no value of RecordKind that is known here") == (code, reason)
        assert [] == at.intake.batches


async def test_a_batch_larger_than_the_receive_budget_is_refused() -> None:
    """What could never be received is told so."""
    async with serving() as at:
        at.intake.max_reserved = 10

        assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "batch 1: more than there is") == await refused(at.stub.Enrich(iter([batch(1)])))


@pytest.mark.parametrize(
    ("error", "reason"), [(JournalFull("no room"), "no room"), (RuntimeError("secret"), "an error of ours; try again")]
)
async def test_a_commit_that_fails_ends_the_stream_as_unavailable(error: Exception, reason: str) -> None:
    """What is not durable is not acknowledged; the client is told to try again, never UNKNOWN, and nothing of our inside."""
    async with serving() as at:
        at.intake.fail = error

        assert (grpc.StatusCode.UNAVAILABLE, reason) == await refused(at.stub.Enrich(iter([batch(1)])))
        assert {1: False} == at.intake.sessions
        assert 0 == at.intake.reserved
        await until(lambda: at.counters.value(telemetry.API_CALLS, method="Enrich", code="unavailable") == 1)  # counted once answered


async def test_a_client_that_goes_away_leaves_nothing_behind() -> None:
    """After a cancelled stream its session is closed as unclean, its room given back, and nobody watches for it."""
    async with serving() as at:
        at.intake.gate.clear()
        call = at.stub.Enrich()
        await call.write(batch(1))
        await until(lambda: at.intake.batches)
        call.cancel()

        await until(lambda: at.intake.sessions == {1: False})
        assert 0 == at.intake.reserved
        assert 0 == at.counters.value(telemetry.API_WATCHERS)
        await until(lambda: at.counters.value(telemetry.API_CALLS, method="Enrich", code="cancelled") == 1)


async def test_an_empty_stream_is_fine() -> None:
    """A stream that ends before it began is no error."""
    async with serving() as at:
        assert ([], []) == await enriched(at)
        assert {1: True} == at.intake.sessions


# -- Enrich: out -----------------------------------------------------------------------------------------------------------------
async def test_records_of_other_appliances_do_not_come() -> None:
    """A stream gets the records of the appliances whose lines it brought, also those that others bring, and no other's."""
    async with serving() as at:
        mine = at.stub.Enrich()
        await mine.write(batch(1, appliance="esa1"))
        assert 2 == len([await mine.read(), await mine.read()])  # its acknowledgement, and its record

        await enriched(at, batch(2, appliance="esa2"))
        await enriched(at, batch(3, appliance="esa1"))
        await mine.done_writing()
        _, records = await read_all(mine)

        assert [("esa1", 3)] == [(record["cisco_esa"]["appliance"], record["cisco_esa"]["mid"]) for record in records]


async def test_a_stream_gets_the_kinds_it_wants() -> None:
    """The filter of the first request counts, later ones do not."""
    async with serving() as at:
        wanted = RecordFilter(kinds=[records_pb2.RECORD_KIND_MESSAGE], outcomes=[records_pb2.TLS_OUTCOME_NONE])
        other = RecordFilter(kinds=[records_pb2.RECORD_KIND_LINE])
        _, records = await enriched(at, batch(1, ALL[:5], filter=wanted), batch(2, ALL[5:], filter=other))

        assert ["message"] == [record["cisco_esa"]["record"] for record in records]


async def test_acknowledgements_only() -> None:
    """A sender that wants no records gets none, and is no watcher."""
    async with serving(max_watchers=0) as at:
        assert ([1], []) == await enriched(at, batch(1, acks_only=True))


async def test_a_stream_beyond_the_watchers_is_refused() -> None:
    """With as many watching as may, a stream that wants records is told so."""
    async with serving(max_watchers=0) as at:
        assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "0 watch already") == await refused(at.stub.Enrich(iter([batch(1)])))


async def test_a_client_that_does_not_read_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream whose records are not read takes no more batches; when they are read it goes on, and nothing was lost."""
    monkeypatch.setattr(enrich, "MAX_QUEUED", 2_000)
    monkeypatch.setattr(enrich, "MAX_LINES", 1_000)
    count = 60
    text = "x" * 2_000  # more than flow control lets pass unread
    async with serving() as at:
        call = at.stub.Enrich()

        async def send() -> None:
            for number in range(1, count + 1):
                await call.write(batch(number, [line(f"MID {number} Subject '{text}'")] * 500))
            await call.done_writing()

        sending = asyncio.create_task(send())
        taken = -1
        while taken != len(at.intake.batches):  # until nothing moves any more
            taken = len(at.intake.batches)
            await asyncio.sleep(0.3)
        assert taken < count
        assert not sending.done()

        acks, dropped, seen = [], 0, 0
        async for response in call:
            if response.WhichOneof("content") == "ack":
                acks.append(response.ack.batch_id)
            else:
                seen += len(response.batch.records)
                dropped = response.batch.dropped
        await sending

        assert list(range(1, count + 1)) == acks
        assert (count * 500, 0) == (seen, dropped)


# -- Lookup ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (LookupRequest(), "name one of mid, icid, dcid, message_id, recipient"),
        (LookupRequest(message_id=" <> "), "message_id is empty"),
        (LookupRequest(recipient="a" * 1001), "recipient has more than 1000 characters"),
        (LookupRequest(mid=1, limit=0), "limit is 0, not between 1 and 1000"),
        (LookupRequest(mid=1, limit=1001), "limit is 1001, not between 1 and 1000"),
    ],
)
async def test_a_question_that_is_none(request_: LookupRequest, reason: str) -> None:
    """What is wrong with a request is INVALID_ARGUMENT, and named."""
    async with serving() as at:
        assert (grpc.StatusCode.INVALID_ARGUMENT, reason) == await refused(at.stub.Lookup(request_))


async def test_an_answer_is_typed() -> None:
    """A message and a connection come as messages of their types, with whether they are open."""
    async with serving() as at:
        await enriched(at, batch(1, MESSAGE, appliance="esa1"))
        message = (await at.stub.Lookup(LookupRequest(recipient="BOB@example.org", appliance="esa1", epoch=0))).results[0]
        connection = (await at.stub.Lookup(LookupRequest(icid=11))).results[0]
        await enriched(at, batch(2, CLEAR_DELIVERY + END, appliance="esa1"))
        gone = (await at.stub.Lookup(LookupRequest(mid=21))).results[0]

        assert (service_pb2.LOOKUP_STATE_OPEN, 21) == (message.state, message.message.mid)
        assert records_pb2.TLS_OUTCOME_SUCCESS == message.message.reception.tls.outcome
        assert records_pb2.EVIDENCE_LINE == message.message.reception.tls.evidence
        assert (service_pb2.LOOKUP_STATE_OPEN, 11) == (connection.state, connection.connection.leg.icid)
        assert (service_pb2.LOOKUP_STATE_GONE, records_pb2.MESSAGE_END_FINISHED) == (gone.state, gone.message.end)


async def test_mid_zero_is_a_question() -> None:
    """A number that is zero is set, and nothing is found."""
    async with serving() as at:
        assert [] == list((await at.stub.Lookup(LookupRequest(mid=0))).results)


class Broken:
    """A look-up that meets an error of ours."""

    async def lookup(self, query: Query) -> Answer:
        raise ZeroDivisionError("secret")


async def test_a_handler_that_raises_is_unavailable(caplog: pytest.LogCaptureFixture) -> None:
    """An exception in a handler is UNAVAILABLE, never UNKNOWN; the log has it, the client not."""
    async with serving(lookup=Broken()) as at:
        assert (grpc.StatusCode.UNAVAILABLE, "an error of ours; try again") == await refused(at.stub.Lookup(LookupRequest(mid=1)))
        assert "ZeroDivisionError" in caplog.text
        await until(lambda: at.counters.value(telemetry.API_CALLS, method="Lookup", code="unavailable") == 1)  # counted once answered


# -- Watch -----------------------------------------------------------------------------------------------------------------------
async def test_watching() -> None:
    """What is committed after the initial metadata comes, filtered, with how many were left out."""
    async with serving() as at:
        call = at.stub.Watch(
            WatchRequest(filter=RecordFilter(kinds=[records_pb2.RECORD_KIND_DELIVERY], directions=[records_pb2.DIRECTION_OUTBOUND]))
        )
        await call.initial_metadata()
        await enriched(at, batch(1, ALL, appliance="esa1"))
        response = await call.read()

        (record,) = response.batch.records
        assert (31, records_pb2.TLS_OUTCOME_NONE, True) == (
            record.delivery.leg.dcid,
            record.delivery.leg.tls.outcome,
            record.delivery.leg.tls.in_clear,
        )
        assert 0 == response.batch.dropped
        call.cancel()
        await until(lambda: at.counters.value(telemetry.API_WATCHERS) == 0)


async def test_a_watch_that_is_none() -> None:
    """A filter with an unspecified value is refused, and so is a watcher too many."""
    async with serving(max_watchers=1) as at:
        bad = WatchRequest(filter=RecordFilter(outcomes=[records_pb2.TLS_OUTCOME_UNSPECIFIED]))
        assert (grpc.StatusCode.INVALID_ARGUMENT, "filter.outcomes: 0 is no value of TlsOutcome that is known here") == await refused(
            at.stub.Watch(bad)
        )
        call = at.stub.Watch(WatchRequest())
        await call.initial_metadata()

        assert grpc.StatusCode.RESOURCE_EXHAUSTED == (await refused(at.stub.Watch(WatchRequest())))[0]
        call.cancel()


async def test_a_slow_watcher_holds_up_nobody() -> None:
    """A watcher that does not read loses records and is told how many; a stream beside it is acknowledged all the time."""
    text = "x" * 2_000
    async with serving() as at:
        slow = at.stub.Watch(WatchRequest())
        await slow.initial_metadata()
        acks: list[int] = []
        number = 0
        while not at.counters.value(telemetry.API_DROPPED):
            number += 1
            acks += (await enriched(at, batch(number, [line(f"MID {number} Subject '{text}'")] * 500, acks_only=True)))[0]
            assert number < 200

        assert list(range(1, number + 1)) == acks
        seen = dropped = 0
        while seen + dropped < number * 500:
            response = await slow.read()
            seen += len(response.batch.records)
            dropped = response.batch.dropped
        assert dropped
        assert number * 500 == seen + dropped
        slow.cancel()


# -- the door --------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "metadata", [(), (("authorization", "Bearer wrong"),), (("authorization", "right"),), (("authorization", "Bearer righ\u0074x"),)]
)
async def test_without_the_token_nobody_gets_in(metadata: tuple[tuple[str, str], ...]) -> None:
    """No token or a wrong one: every method is UNAUTHENTICATED, reflection too, and counted; nothing is taken."""
    async with serving(token="right") as at:
        told = (grpc.StatusCode.UNAUTHENTICATED, "the bearer token is missing or wrong")
        reflect: Any = at.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        assert told == await refused(at.stub.Lookup(LookupRequest(mid=1), metadata=metadata))
        assert told == await refused(at.stub.Watch(WatchRequest(), metadata=metadata))
        assert told == await refused(at.stub.Enrich(iter([batch(1)]), metadata=metadata))
        assert told == await refused(reflect(iter([b""]), metadata=metadata))
        assert [] == at.intake.batches
        assert 4 == at.counters.value(telemetry.PEERS_REFUSED, listener="api", reason="token")


async def test_with_the_token() -> None:
    """The right token opens everything; health needs none."""
    async with serving(token="right") as at:
        await at.stub.Lookup(LookupRequest(mid=1), metadata=(("authorization", "Bearer right"),))
        health: Any = health_pb2_grpc.HealthStub(at.channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(service="esa_tls.v1.EsaTls"))
        assert health_pb2.HealthCheckResponse.SERVING == answer.status


@pytest.mark.parametrize("service", ["esa_tls.v1.EsaTls", ""])
async def test_health_follows_the_journal(monkeypatch: pytest.MonkeyPatch, service: str) -> None:
    """While the journal takes nothing, health says NOT_SERVING, and SERVING when it does again; after a drain began it stays down."""
    monkeypatch.setattr(server, "HEALTH_EVERY_S", 0.01)
    status = health_pb2.HealthCheckResponse
    async with serving() as at:
        health: Any = health_pb2_grpc.HealthStub(at.channel)
        watching = health.Watch(health_pb2.HealthCheckRequest(service=service))
        told = [(await watching.read()).status]
        for failing in (JournalFull("no room"), None, JournalFull("no room")):
            at.intake.failing = failing
            told.append((await watching.read()).status)
        assert told == [status.SERVING, status.NOT_SERVING, status.SERVING, status.NOT_SERVING]

        await at.server.drain()
        at.intake.failing = None
        await asyncio.sleep(0.05)
        assert status.NOT_SERVING == (await health.Check(health_pb2.HealthCheckRequest(service=service))).status
        watching.cancel()


async def test_a_request_too_large() -> None:
    """A message over the limit is RESOURCE_EXHAUSTED, and the connection goes on."""
    async with serving(max_request_bytes=64 << 10) as at:
        assert grpc.StatusCode.RESOURCE_EXHAUSTED == (await refused(at.stub.Enrich(iter([batch(1, [b"x" * (65 << 10)])]))))[0]
        await at.stub.Lookup(LookupRequest(mid=1))


async def test_too_many_calls() -> None:
    """A call over the limit is RESOURCE_EXHAUSTED."""
    async with serving(max_calls=1) as at:
        call = at.stub.Watch(WatchRequest())
        await call.initial_metadata()

        assert grpc.StatusCode.RESOURCE_EXHAUSTED == (await refused(at.stub.Lookup(LookupRequest(mid=1))))[0]
        call.cancel()


@pytest.mark.parametrize(
    ("peer", "address"),
    [("ipv4:192.0.2.1:5", "192.0.2.1"), ("ipv6:%5B2001:db8::1%5D:5", "2001:db8::1"), ("ipv6:[::1]:5", "::1"), ("unix:/x", ""), ("", "")],
)
def test_addresses_of_peers(peer: str, address: str) -> None:
    """GRPC's names of peers as addresses."""
    assert address == address_of(peer)


async def test_an_address_in_use() -> None:
    """An address that another one has is an OSError that says so."""
    async with serving() as at:
        second = server.ApiServer(
            intake=at.intake,
            lookup=Broken(),
            appliances_of=lambda _: (),
            counters=telemetry.Counters(),
            settings=server.ApiSettings(port=at.server.port),
        )
        with pytest.raises(OSError, match="in use"):
            await second.start()
        await second.close()


# -- the end ---------------------------------------------------------------------------------------------------------------------
async def test_draining(monkeypatch: pytest.MonkeyPatch) -> None:
    """Health says NOT_SERVING, streams end after their acknowledgements, a later one takes nothing; those who watch stay to the end."""
    monkeypatch.setattr(server, "DRAIN_S", 1_000.0)
    async with serving() as at:
        health: Any = health_pb2_grpc.HealthStub(at.channel)
        watching = at.stub.Watch(WatchRequest())
        await watching.initial_metadata()
        idle, busy = at.stub.Enrich(), at.stub.Enrich()
        await idle.write(batch(1, acks_only=True))
        assert 1 == (await idle.read()).ack.batch_id
        at.intake.gate.clear()
        await busy.write(batch(2, acks_only=True))
        await until(lambda: len(at.intake.batches) == 2)

        draining = asyncio.create_task(at.server.drain())
        told = (grpc.StatusCode.UNAVAILABLE, "the sidecar is stopping; what is not acknowledged has to be sent again")
        assert told == await refused(idle)
        assert not draining.done()
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert health_pb2.HealthCheckResponse.NOT_SERVING == answer.status
        at.intake.gate.set()
        assert 2 == (await busy.read()).ack.batch_id
        assert told == await refused(busy)
        await draining
        assert told == await refused(at.stub.Enrich(iter([batch(3)])))
        assert 2 == len(at.intake.batches)

        closing = asyncio.create_task(at.server.close())
        assert 2 == len((await watching.read()).batch.records) + len((await watching.read()).batch.records)
        assert (grpc.StatusCode.UNAVAILABLE, "the sidecar is stopping") == await refused(watching)
        await closing


async def test_draining_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not read its acknowledgement holds up the end for a while only."""
    monkeypatch.setattr(server, "DRAIN_S", 0.05)
    async with serving() as at:
        at.intake.gate.clear()
        call = at.stub.Enrich()
        await call.write(batch(1))
        await until(lambda: at.intake.batches)

        await at.server.drain()
        await at.server.close()
        await until(lambda: at.intake.sessions == {1: False})


async def test_closing_is_safe_at_any_time() -> None:
    """Before the start, twice, and with a call under way."""
    async with serving() as at:
        call = at.stub.Watch(WatchRequest())
        await call.initial_metadata()
        await at.server.close()
        await at.server.close()
        assert grpc.StatusCode.UNAVAILABLE == (await refused(call))[0]
    unstarted = server.ApiServer(intake=at.intake, lookup=Broken(), appliances_of=lambda _: (), counters=telemetry.Counters())
    await unstarted.close()
