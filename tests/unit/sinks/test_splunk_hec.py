"""The Splunk sink against a collector that was written from Splunk's documentation (tests/contract/hec_stub.py): there was no real one."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import trustme
from tests.contract.delivery_fakes import rows_of
from tests.contract.hec_stub import TOKEN, HecStub, hec, told
from tests.contract.http_receiver import HttpReceiver, Posted, Reply

from esa_tls.core.batch import Row
from esa_tls.errors import TransientError
from esa_tls.runtime.dispatch import RecordsRejected
from esa_tls.sinks.http_client import HttpClient
from esa_tls.sinks.splunk_hec import SplunkHecSink
from esa_tls.wire.splunk_hec import EventSettings


def rows(*counts: int) -> list[tuple[int, Row]]:
    """Rows of so many lines each, numbered through."""
    made, first = [], 0
    for sequence, count in enumerate(counts, 1):
        made.append((sequence, rows_of("json", [("line", range(first, first + count))])))
        first += count
    return made


def number_of(event: dict[str, Any]) -> int:
    """The record's number."""
    return int(event["event"]["event"]["id"].removeprefix("id-"))


def numbers(stub: HecStub) -> list[int]:
    """Of all events that were taken."""
    return [number_of(event) for event in stub.events]


class Time:
    """A clock that goes on only when somebody sleeps, and then `after` is called."""

    def __init__(self, after: Callable[[], None] = lambda: None) -> None:
        self.now_s = 0.0
        self.after = after

    def __call__(self) -> float:
        return self.now_s

    async def sleep(self, delay_s: float) -> None:
        self.now_s += delay_s
        self.after()
        await asyncio.sleep(0)


def sink_for(*receivers: HttpReceiver, time: Time | None = None, client: HttpClient | None = None, **options: Any) -> SplunkHecSink:
    """A sink for these servers."""
    time = time or Time()
    settings: dict[str, Any] = {"token": TOKEN, "gzip": False, **options}
    return SplunkHecSink(
        client or HttpClient(timeout_s=20.0, cookies=True),
        [receiver.url for receiver in receivers],
        settings.pop("token"),
        monotonic_s=time,
        sleep=time.sleep,
        **settings,
    )


def first(*replies: Reply) -> Callable[[Posted], Reply | None]:
    """These in turn instead of the stub's own answers."""
    left = iter(replies)
    return lambda _: next(left, None)


@pytest.mark.parametrize("gzip", [False, True])
async def test_records_arrive_in_order(gzip: bool) -> None:
    """All records of all rows in one request, with token, channel, settings, headers and compression."""
    stub, receiver = hec(indexes=("mail",))
    async with receiver:
        sink = sink_for(receiver, gzip=gzip, events=EventSettings(index="mail"), headers={"X-Gateway": "g"})
        await sink.open(None)
        await sink.send(rows(3, 2, 40))
        await sink.close()
    assert list(range(45)) == numbers(stub)
    assert {"mail"} == {event["index"] for event in stub.events}
    assert {"esa_tls:line"} == {event["sourcetype"] for event in stub.events}
    assert len(stub.requests) == 1
    assert (receiver.requests[0].sent != receiver.requests[0].body) == gzip
    assert receiver.requests[0].headers["x-gateway"] == "g"
    assert sink.state() is None


async def test_only_wanted_kinds() -> None:
    """Records of other kinds stay behind; rows of them alone make no request."""
    stub, receiver = hec()
    async with receiver:
        sink = sink_for(receiver, kinds=frozenset({"delivery"}))
        await sink.send(rows(3))
        assert receiver.requests == []
        await sink.send([(1, rows_of("json", [("connection", [1]), ("delivery", [2, 3])]))])
        await sink.close()
    assert numbers(stub) == [2, 3]


async def test_requests_stay_below_the_limit() -> None:
    """No request is larger; an event that fits none is named, and one that is no JSON too; everything else is delivered."""
    stub, receiver = hec(max_bytes=65536)
    made = [
        (1, rows_of("json", [("line", range(50))], pad=2000)),
        (2, rows_of("json", [("connection", [50])], pad=70_000)),
        (3, Row("line", "json", [("line", 1, b"{broken\n")])),
        (4, rows_of("json", [("line", [51])])),
    ]
    async with receiver:
        sink = sink_for(receiver, max_request_bytes=65536)
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(made)
        await sink.close()
    assert [(1, 0, 0, "too_large"), (2, 0, 0, "unreadable")] == sorted(
        (one.row, one.segment, one.record, one.reason) for one in caught.value.rejections
    )
    assert [*range(50), 51] == numbers(stub)
    assert len(stub.requests) == 2


# -- acknowledgements ------------------------------------------------------------------------------------------------------------
async def test_it_waits_for_the_indexers() -> None:
    """Taken is not delivered: `send` returns when every id was answered with true, and nothing is sent twice meanwhile."""
    stub, receiver = hec()
    done: set[int] = set()
    stub.indexed = done.__contains__
    time = Time()
    time.after = lambda: done.add(len(done)) if time.now_s > 3 else None
    async with receiver:
        sink = sink_for(receiver, time=time, max_request_bytes=65536)
        await sink.send([(1, rows_of("json", [("line", range(80))], pad=2000))])
        await sink.close()
    assert numbers(stub) == list(range(80))
    assert len(stub.requests) == 3
    assert [0, 1, 2] == stub.asked[0]
    assert [2] == stub.asked[-1]
    assert time.now_s > 5
    [channel] = {posted.headers["x-splunk-request-channel"] for posted in receiver.requests}
    assert len(channel) == 36


async def test_what_is_not_acknowledged_in_time_is_sent_again() -> None:
    """Only that: the request that was acknowledged is not repeated; the ids of the records repeat."""
    stub, receiver = hec()
    stub.indexed = lambda ack_id: ack_id != 1
    time = Time()
    async with receiver:
        sink = sink_for(receiver, time=time, max_request_bytes=65536, ack_timeout_s=20.0)
        made = [(1, rows_of("json", [("line", range(80))], pad=2000))]
        with pytest.raises(TransientError, match="1 requests were not acknowledged within 20 s"):
            await sink.send(made)
        assert 20 <= time.now_s < 22
        await sink.send(made)
        await sink.close()
    assert len(stub.requests) == 4
    assert stub.requests[3] == stub.requests[1]


async def test_a_server_that_forgot_its_acknowledgements() -> None:
    """After its restart the channel is unknown: what it had not acknowledged is sent again after the time, and then it is well."""
    stub, receiver = hec()
    stub.indexed = lambda _: False
    time = Time(after=stub.forget)
    async with receiver:
        sink = sink_for(receiver, time=time, ack_timeout_s=20.0)
        with pytest.raises(TransientError, match="Invalid data channel") as caught:
            await sink.send(rows(2))
        assert caught.value.retry_after_s == 30.0
        time.now_s += 30.0
        stub.indexed = lambda _: True
        with pytest.raises(TransientError, match="Invalid data channel"):
            await sink.send(rows(2))
        await sink.send(rows(2))
        await sink.close()
    assert numbers(stub) == [0, 1, 0, 1]


async def test_while_nobody_can_be_asked_nothing_is_sent_again() -> None:
    """The server is away after it took a request: transient at once, so that health says so; back in time, it acknowledges."""
    stub, receiver = hec()
    time = Time()
    async with receiver:
        sink = sink_for(receiver, time=time)
        stub.before = lambda posted: Reply(503) if posted.path.endswith("/ack") else None
        with pytest.raises(TransientError, match="asked for acknowledgements"):
            await sink.send(rows(2))
        stub.before = lambda posted: Reply(cut=True) if posted.path.endswith("/ack") else None
        with pytest.raises(TransientError):
            await sink.send(rows(2))
        stub.before = lambda _: None
        await sink.send(rows(2))
        await sink.close()
    assert numbers(stub) == [0, 1]


async def test_a_server_that_stays_away_loses_its_requests_to_another() -> None:
    """What it took and never acknowledged goes to the next endpoint once the time is up."""
    first_stub, first_receiver = hec()
    second_stub, second_receiver = hec()
    first_stub.indexed = lambda _: False
    time = Time()
    await first_receiver.start()
    async with second_receiver:
        sink = sink_for(first_receiver, second_receiver, time=time, ack_timeout_s=20.0)
        first_stub.before = lambda posted: Reply(503) if posted.path.endswith("/ack") else None
        with pytest.raises(TransientError):
            await sink.send(rows(2))
        await first_receiver.stop()
        time.now_s = 25.0
        with pytest.raises(TransientError):
            await sink.send(rows(2))
        await sink.send(rows(2))
        await sink.close()
    assert numbers(first_stub) == numbers(second_stub) == [0, 1]


async def test_without_acknowledgement_taken_is_delivered(caplog: pytest.LogCaptureFixture) -> None:
    """The token decides; what that means is said once."""
    stub, receiver = hec(acks=False)
    async with receiver:
        sink = sink_for(receiver)
        with caplog.at_level(logging.WARNING):
            await sink.send(rows(2))
            await sink.send(rows(2))
        await sink.close()
    assert numbers(stub) == [0, 1, 0, 1]
    assert stub.asked == []
    assert len([record for record in caplog.records if "no indexer acknowledgement" in record.getMessage()]) == 1


# -- errors ----------------------------------------------------------------------------------------------------------------------
RETRIED = [
    (told(403, 1, "Token disabled"), 30.0),
    (told(401, 2, "Token is required"), 30.0),
    (told(403, 4, "Invalid token"), 30.0),
    (told(400, 7, "Incorrect index", **{"invalid-event-number": 1}), 30.0),
    (told(400, 10, "Data channel is missing"), 30.0),
    (told(500, 8, "Internal server error"), None),
    (told(503, 9, "Server is busy"), None),
    (Reply(503, headers={"Retry-After": "7"}), 7.0),
    (Reply(429, headers={"Retry-After": "7"}), 7.0),
    (Reply(404), 30.0),
]


@pytest.mark.parametrize(("reply", "after_s"), RETRIED, ids=[f"{one[0].status}-{one[1]}" for one in RETRIED])
async def test_tried_again(reply: Reply, after_s: float | None) -> None:
    """A TransientError that says how long to wait, and in Splunk's words why; the same rows again then go through, once."""
    stub, receiver = hec(before=first(reply))
    async with receiver:
        sink = sink_for(receiver)
        with pytest.raises(TransientError) as caught:
            await sink.send(rows(3))
        assert caught.value.retry_after_s == after_s
        assert reply.body.decode() in str(caught.value)
        await sink.send(rows(3))
        await sink.close()
    assert numbers(stub) == [0, 1, 2]


@pytest.mark.parametrize("poison", [{0}, {5}, {11}, {2, 9}, {4, 5, 6}, set(range(12))])
async def test_bad_events_are_found_by_their_number(poison: set[int]) -> None:
    """Only those that are refused alone are named; everything else is there, and comes again at most for what stood before a bad one."""
    stub, receiver = hec(bad=lambda event: number_of(event) in poison)
    async with receiver:
        sink = sink_for(receiver)
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(rows(6, 6))
        await sink.send(rows(1)) if 0 not in poison else None
        await sink.close()
    named = {one.row * 6 + one.record for one in caught.value.rejections}
    assert named == poison
    assert len(caught.value.rejections) == len(poison)
    assert {one.reason for one in caught.value.rejections} == {"invalid_format"}
    assert set(numbers(stub)) == set(range(12)) - poison


async def test_a_request_that_is_too_large_for_the_server_is_halved() -> None:
    """413 for all but small requests: everything arrives; an event that alone is too large is named."""
    stub, receiver = hec(max_bytes=3000)
    made = [(1, rows_of("json", [("line", range(20))], pad=500)), (2, rows_of("json", [("line", [20])], pad=5000))]
    async with receiver:
        sink = sink_for(receiver)
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(made)
        await sink.close()
    assert [(1, 0, 0, "too_large")] == [(one.row, one.segment, one.record, one.reason) for one in caught.value.rejections]
    assert numbers(stub) == list(range(20))


async def test_what_was_taken_is_not_sent_again_after_a_failure_behind_it() -> None:
    """The second request fails: the repeated send begins with it, though the first is not acknowledged yet."""
    stub, receiver = hec()
    answers = iter([None, Reply(500)])
    stub.before = lambda posted: next(answers, None) if posted.path.endswith("/event") else None
    async with receiver:
        sink = sink_for(receiver, max_request_bytes=65536)
        made = [(1, rows_of("json", [("line", range(60))], pad=2000))]
        with pytest.raises(TransientError):
            await sink.send(made)
        await sink.send(made)
        await sink.close()
    assert numbers(stub) == list(range(60))


# -- servers ---------------------------------------------------------------------------------------------------------------------
async def test_endpoints_in_their_order() -> None:
    """The next one where one cannot be reached or is busy; any other answer of the first is the answer; the one that took it is asked."""
    first_stub, first_receiver = hec()
    second_stub, second_receiver = hec()
    async with first_receiver, second_receiver:
        sink = sink_for(first_receiver, second_receiver)
        await sink.send(rows(1))
        assert (numbers(first_stub), numbers(second_stub)) == ([0], [])
        first_stub.before = lambda _: told(503, 9, "Server is busy")
        await sink.send(rows(2))
        assert numbers(second_stub) == [0, 1]
        assert second_stub.asked
        second_stub.before = lambda _: told(503, 9, "Server is busy")
        with pytest.raises(TransientError, match="Server is busy"):
            await sink.send(rows(2))
        first_stub.before = lambda _: told(403, 4, "Invalid token")
        with pytest.raises(TransientError, match="Invalid token"):
            await sink.send(rows(2))
        await first_receiver.stop()
        second_stub.before = lambda _: None
        await sink.send(rows(3))
        assert numbers(second_stub) == [0, 1, 0, 1, 2]
        await second_receiver.stop()
        with pytest.raises(TransientError):
            await sink.send(rows(1))
        await sink.close()
        await first_receiver.start()
        await second_receiver.start()


async def test_over_tls() -> None:
    """With the server's authority."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    stub, receiver = hec(tls=server)
    async with receiver:
        sink = sink_for(receiver, client=HttpClient(timeout_s=20.0, tls=lambda: context))
        await sink.send(rows(2))
        await sink.close()
    assert numbers(stub) == [0, 1]


async def test_a_cancelled_wait_ends_at_once() -> None:
    """A shutdown while acknowledgements are waited for; afterwards nothing is taken."""
    stub, receiver = hec()
    stub.indexed = lambda _: False
    waits = asyncio.Event()
    async with receiver:
        sink = sink_for(receiver, time=Time(after=waits.set), ack_timeout_s=1e9)
        sending = asyncio.create_task(sink.send(rows(2)))
        await waits.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await sink.close()
        await sink.close()
        with pytest.raises(TransientError):
            await sink.send(rows(2))
    assert numbers(stub) == [0, 1]
