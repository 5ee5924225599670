"""The webhook sink against a web server."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.contract.delivery_fakes import ids_in, rows_of
from tests.contract.http_receiver import OK, HttpReceiver, Posted, Reply

from esa_tls.core.batch import Row
from esa_tls.errors import TransientError
from esa_tls.runtime.dispatch import RecordsRejected
from esa_tls.sinks.http_client import HttpClient
from esa_tls.sinks.webhook import WebhookSink


def rows(*counts: int) -> list[tuple[int, Row]]:
    """Rows of so many lines each, numbered through."""
    made, first = [], 0
    for sequence, count in enumerate(counts, 1):
        made.append((sequence, rows_of("json", [("line", range(first, first + count))])))
        first += count
    return made


def numbers(posted: Posted) -> list[int]:
    """The records' numbers."""
    if posted.headers["content-type"] == "application/x-ndjson":
        return ids_in("json", posted.body)
    return [int(record["event"]["id"].removeprefix("id-")) for record in json.loads(posted.body)]


def answers(*replies: Reply) -> Callable[[Posted], Reply]:
    """These in turn, then take everything."""
    left = iter(replies)
    return lambda _: next(left, OK)


def sink_for(*receivers: HttpReceiver, client: HttpClient | None = None, path: str = "/in", **options: Any) -> WebhookSink:
    """A sink for these receivers."""
    return WebhookSink(client or HttpClient(timeout_s=20.0), [receiver.url + path for receiver in receivers], **options)


@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("form", ["array", "ndjson"])
async def test_records_arrive_in_order(form: Any, gzip: bool) -> None:
    """All records of all rows in one request, in either form, headers and compression as configured."""
    async with HttpReceiver() as receiver:
        sink = sink_for(receiver, path="/in?source=esa", form=form, gzip=gzip, headers={"Authorization": "Bearer t"})
        await sink.open(None)
        await sink.send(rows(3, 2, 40))
        await sink.close()
    (posted,) = receiver.requests
    assert list(range(45)) == numbers(posted)
    assert (posted.path, dict(posted.query), posted.headers["authorization"]) == ("/in", {"source": "esa"}, "Bearer t")
    assert posted.headers["content-type"] == ("application/json" if form == "array" else "application/x-ndjson")
    assert (posted.sent != posted.body) == gzip
    assert sink.state() is None


async def test_endpoints_in_their_order() -> None:
    """The next one is used when one cannot be reached; an answer of the first is not passed on to the next."""
    replies = answers(OK, Reply(503))
    async with HttpReceiver(replies) as first, HttpReceiver() as second:
        sink = sink_for(first, second)
        await sink.send(rows(1))
        with pytest.raises(TransientError):
            await sink.send(rows(2))
        assert second.requests == []
        await first.stop()
        await sink.send(rows(2))
        assert [numbers(posted) for posted in second.requests] == [[0, 1]]
        await sink.close()
        await first.start()


async def test_only_wanted_kinds() -> None:
    """Records of other kinds stay behind; rows of them alone make no request."""
    async with HttpReceiver() as receiver:
        sink = sink_for(receiver, kinds=frozenset({"delivery"}))
        await sink.send(rows(3))
        assert receiver.requests == []
        await sink.send([(1, rows_of("json", [("connection", [1]), ("delivery", [2, 3])]))])
        await sink.close()
    assert [numbers(posted) for posted in receiver.requests] == [[2, 3]]


async def test_requests_stay_below_the_limits() -> None:
    """Never more records or bytes than configured; a record that fits none is named by its place, everything else is delivered."""
    made = [
        (1, rows_of("json", [("line", range(50))], pad=2000)),
        (2, rows_of("json", [("connection", [50]), ("delivery", [51])], pad=70_000)),
        (3, rows_of("json", [("line", range(52, 70))])),
    ]
    async with HttpReceiver() as receiver:
        sink = sink_for(receiver, max_request_bytes=65536, max_request_records=10)
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(made)
        await sink.close()
    assert [(1, 0, 0, "too_large"), (1, 1, 0, "too_large")] == [
        (one.row, one.segment, one.record, one.reason) for one in caught.value.rejections
    ]
    assert [*range(50), *range(52, 70)] == [number for posted in receiver.requests for number in numbers(posted)]
    assert all(len(posted.body) <= 65536 and len(numbers(posted)) <= 10 for posted in receiver.requests)


@pytest.mark.parametrize("gzip", [False, True])
async def test_a_receiver_can_check_the_signature(gzip: bool) -> None:
    """As the manual says: HMAC-SHA256 over the time, a full stop and the body as it came."""
    async with HttpReceiver() as receiver:
        sink = sink_for(receiver, key=b"s3cret", gzip=gzip, now_s=lambda: 1_700_000_000.9)
        await sink.send(rows(5))
        await sink.close()
    (posted,) = receiver.requests
    parts = dict(part.split("=", 1) for part in posted.headers["x-esa-tls-signature"].split(","))
    assert parts["t"] == "1700000000"
    assert parts["sha256"] == hmac.new(b"s3cret", b"1700000000." + posted.sent, hashlib.sha256).hexdigest()


async def test_the_manuals_check_of_the_signature_works() -> None:
    """The function that the manual shows takes what was sent, and nothing that was altered or is old."""
    text = (Path(__file__).parents[3] / "docs" / "webhook.md").read_text(encoding="utf-8")
    shown = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert shown
    names: dict[str, Any] = {}
    exec(shown[1], names)
    genuine = names["genuine"]
    async with HttpReceiver() as receiver:
        for now_s in (time.time, lambda: time.time() - 400):
            sink = sink_for(receiver, key=b"s3cret", gzip=True, now_s=now_s)
            await sink.send(rows(5))
            await sink.close()
    posted, old = receiver.requests
    header = posted.headers["x-esa-tls-signature"]
    assert genuine(header, posted.sent, b"s3cret")
    assert not genuine(header, posted.sent + b" ", b"s3cret")
    assert not genuine(header, posted.sent, b"other")
    assert not genuine(header.replace("t=1", "t=2"), posted.sent, b"s3cret")
    assert not genuine(old.headers["x-esa-tls-signature"], old.sent, b"s3cret")


async def test_without_a_key_nothing_is_signed() -> None:
    """No header."""
    async with HttpReceiver() as receiver:
        sink = sink_for(receiver)
        await sink.send(rows(1))
        await sink.close()
    assert "x-esa-tls-signature" not in receiver.requests[0].headers


@pytest.mark.parametrize(
    ("reply", "after_s"),
    [
        (Reply(429, headers={"Retry-After": "7"}), 7.0),
        (Reply(503, headers={"Retry-After": "7"}), 7.0),
        (Reply(500), None),
        (Reply(502), None),
        (Reply(401), 30.0),
        (Reply(404), 30.0),
        (Reply(302, headers={"Location": "http://elsewhere.test/"}), 30.0),
    ],
)
async def test_tried_again(reply: Reply, after_s: float | None) -> None:
    """A TransientError that says how long to wait and what was answered; the same rows again then go through, once."""
    async with HttpReceiver(answers(reply)) as receiver:
        sink = sink_for(receiver)
        with pytest.raises(TransientError, match=str(reply.status)) as caught:
            await sink.send(rows(3))
        assert caught.value.retry_after_s == after_s
        await sink.send(rows(3))
        await sink.close()
    assert [numbers(posted) for posted in receiver.requests] == [[0, 1, 2]] * 2


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_poison_is_found_by_halving(status: int) -> None:
    """Only what is refused alone is named, with the receiver's words; everything else is delivered, in order."""
    poison = {2, 9}
    refusal = Reply(status, b"no\n such field")
    async with HttpReceiver(lambda posted: refusal if poison & set(numbers(posted)) else OK) as receiver:
        sink = sink_for(receiver)
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(rows(6, 6))
        await sink.send(rows(1))  # nothing of it is left over
        await sink.close()
    assert [(0, 0, 2), (1, 0, 3)] == [(one.row, one.segment, one.record) for one in caught.value.rejections]
    assert all(one.reason == f"http_{status}" and "no such field" in one.detail for one in caught.value.rejections)
    taken = [number for posted in receiver.requests if not poison & set(numbers(posted)) for number in numbers(posted)]
    assert [*(number for number in range(12) if number not in poison), 0] == taken


async def test_what_was_taken_is_not_sent_again_after_a_failure_behind_it() -> None:
    """The second of three batches fails: the repeated send begins with it; records refused before the failure are still named."""
    async with HttpReceiver(answers(Reply(400), Reply(503))) as receiver:
        sink = sink_for(receiver, max_request_records=1)
        with pytest.raises(TransientError):
            await sink.send(rows(3))
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(rows(3))
        await sink.close()
    assert [(0, 0, 0)] == [(one.row, one.segment, one.record) for one in caught.value.rejections]
    assert [[0], [1], [1], [2]] == [numbers(posted) for posted in receiver.requests]


async def test_equal_rows_are_sent_each_time() -> None:
    """What was taken is remembered until the send ends, and no longer."""
    async with HttpReceiver() as receiver:
        sink = sink_for(receiver)
        await sink.send(rows(2))
        await sink.send(rows(2))
        await sink.close()
    assert len(receiver.requests) == 2


# -- connections -----------------------------------------------------------------------------------------------------------------
async def test_the_connection_is_cut() -> None:
    """A server that goes away in the middle: transient, and everything arrives when it is back."""
    receiver = HttpReceiver()
    await receiver.start()
    sink = sink_for(receiver)
    receiver.release = asyncio.Event()
    sending = asyncio.create_task(sink.send(rows(3)))
    await receiver.until_waiting(1)
    await receiver.stop()
    with pytest.raises(TransientError):
        await sending
    with pytest.raises(TransientError):
        await sink.send(rows(3))
    receiver.release = None
    await receiver.start()
    await sink.send(rows(3))
    await sink.close()
    await receiver.stop()
    assert numbers(receiver.requests[-1]) == [0, 1, 2]


async def test_a_kept_connection_that_was_closed_meanwhile() -> None:
    """It is replaced once at once, without back-off."""
    async with HttpReceiver(answers(OK, Reply(cut=True))) as receiver:
        sink = sink_for(receiver)
        await sink.send(rows(1))
        await sink.send(rows(1))
        await sink.close()
    assert len(receiver.requests) == 3


async def test_no_answer_in_time() -> None:
    """The time limit passes: transient."""
    async with HttpReceiver() as receiver:
        receiver.release = asyncio.Event()
        sink = sink_for(receiver, client=HttpClient(timeout_s=0.1))
        with pytest.raises(TransientError):
            await sink.send(rows(1))
        receiver.release.set()
        await sink.close()


async def test_a_long_answer_is_not_read_to_its_end() -> None:
    """Whoever answers with gigabytes gets no memory for them."""
    async with HttpReceiver(answers(Reply(500, b"x" * (3 << 20)))) as receiver:
        sink = sink_for(receiver)
        with pytest.raises(TransientError, match=r"500 x{300}$"):
            await sink.send(rows(1))
        await sink.send(rows(1))
        await sink.close()


async def test_tls_follows_renewed_files() -> None:
    """With the server's authority it works; with another it is a transient failure; what is given next time counts."""
    authority, stranger = trustme.CA(), trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hook.example.org").configure_cert(server)
    contexts = [ssl.create_default_context() for _ in range(2)]
    for context, one in zip(contexts, (stranger, authority), strict=True):
        one.configure_trust(context)
    current = contexts[0]
    async with HttpReceiver(tls=server) as receiver:
        client = HttpClient(timeout_s=20.0, tls=lambda: current, server_name="hook.example.org")
        sink = sink_for(receiver, client=client)
        with pytest.raises(TransientError, match="certificate"):
            await sink.send(rows(1))
        current = contexts[1]
        await sink.send(rows(1))
        await sink.close()
    assert len(receiver.requests) == 1


async def test_https_by_the_systems_authorities() -> None:
    """Without settings an https address is checked by the system's authorities, which know no test's."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(server)
    async with HttpReceiver(tls=server) as receiver:
        sink = sink_for(receiver)
        with pytest.raises(TransientError, match="certificate"):
            await sink.send(rows(1))
        await sink.close()
    assert receiver.requests == []


async def test_cookies_are_given_back_only_where_wanted() -> None:
    """Balancers set them to send a client to the same server each time."""
    for wanted in (False, True):
        async with HttpReceiver(lambda _: Reply(headers={"Set-Cookie": "node=3"})) as receiver:
            sink = sink_for(receiver, client=HttpClient(timeout_s=20.0, cookies=wanted))
            await sink.send(rows(1))
            await sink.send(rows(1))
            await sink.close()
        assert [None, "node=3" if wanted else None] == [posted.headers.get("cookie") for posted in receiver.requests]


async def test_the_end() -> None:
    """Closed: a later send fails; closing twice does no harm."""
    async with HttpReceiver() as receiver:
        sink = sink_for(receiver)
        await sink.close()
        await sink.close()
        with pytest.raises(TransientError):
            await sink.send(rows(1))
    assert receiver.requests == []
