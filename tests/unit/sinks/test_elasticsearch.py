"""The bulk sink against a store that fails as a real one will not on demand: row E5 of docs/wires.md 3.5, and what it keeps to."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 3.5)

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web
from tests.contract.bulk_receiver import TAKE, BulkReceiver, BulkRequest, Reply, error, failed
from tests.contract.delivery_fakes import record, rows_of

from esa_tls import telemetry
from esa_tls.core.batch import Row
from esa_tls.errors import TransientError
from esa_tls.runtime.dispatch import RecordsRejected, Rejection
from esa_tls.sinks.elasticsearch import DOUBTFUL_TRIES, ElasticsearchSink, StoreBlocked, StoreBusy, StoreSettings
from esa_tls.sinks.elasticsearch_nodes import Nodes
from esa_tls.telemetry import Counters

Rows = list[tuple[int, Row]]


def rows(*counts: int, pad: int = 0, first: int = 0) -> Rows:
    """Rows of so many lines each, numbered through."""
    made: Rows = []
    for sequence, count in enumerate(counts, 1):
        made.append((sequence, rows_of("json", [("line", range(first, first + count))], pad=pad)))
        first += count
    return made


def sink_for(receiver: BulkReceiver, *, counters: Counters | None = None, gzip: bool = True, **options: Any) -> ElasticsearchSink:
    """A sink for this receiver."""
    return ElasticsearchSink(Nodes([receiver.url], gzip=gzip), counters=counters, **options)


def answers(*replies: Reply) -> Callable[[BulkRequest], Reply]:
    """These in turn, then take everything."""
    left = iter(replies)
    return lambda _: next(left, TAKE)


async def insist(sink: ElasticsearchSink, wanted: Rows) -> list[TransientError]:
    """Send again until it works, as the dispatcher does; what was raised before."""
    raised: list[TransientError] = []
    while True:
        try:
            await sink.send(wanted)
        except TransientError as failure:
            raised.append(failure)
            assert len(raised) < 50
        else:
            return raised


@pytest.mark.parametrize("gzip", [False, True])
async def test_records_arrive_under_their_ids(gzip: bool) -> None:
    """All records of all rows in one request, each in the stream of its kind, compressed as configured."""
    wanted = [*rows(3, 40), (3, rows_of("json", [("connection", [50]), ("delivery", [51, 52])]))]
    async with BulkReceiver() as receiver:
        sink = sink_for(receiver, gzip=gzip, namespace="prod")
        await sink.open(None)
        await sink.send(wanted)
        await sink.close()

    (request,) = receiver.requests
    assert request.ids == [f"id-{n}" for n in [*range(43), 50, 51, 52]]
    assert request.indices[42:45] == ["logs-cisco_esa.line-prod", "logs-cisco_esa.connection-prod", "logs-cisco_esa.delivery-prod"]
    assert request.sources[0] + b"\n" == record("json", 0)
    assert request.compressed == gzip
    assert sink.state() is None


async def test_only_wanted_kinds() -> None:
    """Segments of other kinds stay behind, and a refusal still names the right place."""
    async with BulkReceiver(lambda _: Reply(items={"id-3": failed(400, "document_parsing_exception")})) as receiver:
        sink = sink_for(receiver, kinds=frozenset({"delivery"}))
        with pytest.raises(RecordsRejected) as caught:
            await sink.send([(7, rows_of("json", [("connection", [1]), ("delivery", [2, 3])]))])
        await sink.close()
    assert receiver.numbers() == [2]
    assert [(one.row, one.segment, one.record) for one in caught.value.rejections] == [(0, 1, 1)]


async def test_requests_keep_their_limits() -> None:
    """No request has more bytes or records than it may, but for one that holds a single larger record."""
    async with BulkReceiver() as receiver:
        sink = sink_for(receiver, max_request_bytes=65536, max_request_records=20)
        await sink.send([*rows(50, pad=2000), (2, rows_of("json", [("line", [50])], pad=70_000))])
        await sink.close()
    assert sorted(receiver.numbers()) == list(range(51))
    assert [request.size for request in receiver.requests if request.size > 65536] == [receiver.requests[-1].size]
    assert max(len(request.ids) for request in receiver.requests) == 20


# -- E5 --------------------------------------------------------------------------------------------------------------------------
async def test_E5_items_that_are_rejected_are_sent_again_alone() -> None:
    """A record that met 429 twice is sent twice more, and none beside it; what was postponed is counted."""
    full = failed(429, "es_rejected_execution_exception", "queue is full")
    counters = Counters()
    async with BulkReceiver(answers(Reply(items={"id-2": full, "id-4": full}), Reply(items={"id-4": full}))) as receiver:
        sink = sink_for(receiver, counters=counters)
        raised = await insist(sink, rows(3, 3))
        await sink.close()

    assert [request.ids for request in receiver.requests] == [[f"id-{n}" for n in range(6)], ["id-2", "id-4"], ["id-4"]]
    assert [type(failure) for failure in raised] == [StoreBusy, StoreBusy]
    assert "2 of 6 records: es_rejected_execution_exception: queue is full" in str(raised[0])
    assert counters.value(telemetry.SINK_POSTPONED, sink="elasticsearch", reason="es_rejected_execution_exception") == 3
    assert counters.value(telemetry.SINK_KNOWN, sink="elasticsearch") == 0


@pytest.mark.parametrize(
    ("reply", "after_s"),
    [
        (error(429, "es_rejected_execution_exception", **{"Retry-After": "3"}), 3.0),
        (Reply(429), None),
        (Reply(502, body=b"<html>bad gateway</html>"), None),
        (error(503, "unavailable", **{"Retry-After": "2"}), 2.0),
        (Reply(504), None),
        (error(500, "null_pointer_exception"), None),
        (Reply(body=b"<html>hello</html>"), None),
    ],
    ids=lambda one: f"{one.status}" if isinstance(one, Reply) else str(one),
)
async def test_E5_a_request_that_failed_is_sent_again_whole(reply: Reply, after_s: float | None) -> None:
    """Every record of it, not before the time that the store names."""
    async with BulkReceiver(answers(reply)) as receiver:
        sink = sink_for(receiver)
        raised = await insist(sink, rows(3))
        await sink.close()
    assert [request.ids for request in receiver.requests] == [["id-0", "id-1", "id-2"]] * 2
    assert [failure.retry_after_s for failure in raised] == [after_s]
    assert receiver.numbers() == [0, 1, 2]


@pytest.mark.parametrize("after", [0, 1, 20, 60])
async def test_E5_an_answer_that_is_cut_doubles_nothing(after: int) -> None:
    """The store took the request and its answer broke off: it is sent again, and every record is known there."""
    counters = Counters()
    async with BulkReceiver(answers(Reply(cut_after=after))) as receiver:
        sink = sink_for(receiver, counters=counters)
        raised = await insist(sink, rows(4))
        await sink.close()
    assert [type(failure) for failure in raised] == [TransientError]
    assert receiver.numbers() == [0, 1, 2, 3]
    assert counters.value(telemetry.SINK_KNOWN, sink="elasticsearch") == 4


async def test_E5_requests_that_are_too_large_are_halved(caplog: pytest.LogCaptureFixture) -> None:
    """After a 413 the halves go, and later requests are made smaller from the start."""
    limit = 300_000
    async with BulkReceiver(lambda request: Reply(413) if request.size > limit else TAKE) as receiver:
        sink = sink_for(receiver)
        await sink.send(rows(100, pad=10_000))
        first = len(receiver.requests)
        await sink.send(rows(100, pad=10_000, first=100))
        await sink.close()
    assert sorted(receiver.numbers()) == list(range(200))
    assert [request.size > limit for request in receiver.requests[:first]].count(True) == 3
    assert not any(request.size > limit for request in receiver.requests[first:])
    assert "takes no request of this size" in caplog.text


async def test_E5_a_single_record_that_is_too_large_is_refused() -> None:
    """It is named; everything else is delivered, and one large record does not make requests tiny."""
    async with BulkReceiver(lambda request: Reply(413) if request.size > 100_000 else TAKE) as receiver:
        sink = sink_for(receiver)
        wanted = [*rows(10), (2, rows_of("json", [("line", [10])], pad=200_000)), (3, rows_of("json", [("line", [11, 12])]))]
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(wanted)
        assert sink._max_request_bytes == 256 << 10
        await sink.close()
    assert [Rejection(1, 0, 0, "too_large", "413")] == list(caught.value.rejections)
    assert sorted(receiver.numbers()) == [*range(10), 11, 12]


# -- what is refused -------------------------------------------------------------------------------------------------------------
async def test_poison_is_named_with_the_store_s_words() -> None:
    """The records that the store will never take, by their places; the others are there."""
    bad = failed(400, "document_parsing_exception", "failed to parse field [source.ip]", caused_by={"type": "x", "reason": "no IP"})
    async with BulkReceiver(lambda _: Reply(items={"id-1": bad, "id-4": bad})) as receiver:
        sink = sink_for(receiver)
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(rows(3, 3))
        await sink.close()
    words = "document_parsing_exception: failed to parse field [source.ip]; caused by x: no IP"
    assert list(caught.value.rejections) == [
        Rejection(0, 0, 1, "document_parsing_exception", words),
        Rejection(1, 0, 1, "document_parsing_exception", words),
    ]
    assert sorted(receiver.numbers()) == [0, 2, 3, 5]


async def test_poison_is_remembered_over_a_retry() -> None:
    """A record refused before another one had to wait is not sent again, and is named at the end, once."""
    replies = answers(Reply(items={"id-0": failed(400, "mapper_parsing_exception"), "id-1": failed(429, "rejected_execution_exception")}))
    async with BulkReceiver(replies) as receiver:
        sink = sink_for(receiver)
        wanted = rows(3)
        with pytest.raises(StoreBusy):
            await sink.send(wanted)
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(wanted)
        await sink.send(rows(1, first=9))
        await sink.close()
    assert [request.ids for request in receiver.requests] == [["id-0", "id-1", "id-2"], ["id-1"], ["id-9"]]
    assert [one.record for one in caught.value.rejections] == [0]


async def test_a_request_that_the_store_calls_wrong_comes_down_to_single_records(caplog: pytest.LogCaptureFixture) -> None:
    """A 400 for the whole: the one record that is the cause is refused, the others are delivered, and the log has the body's head."""
    wrong = error(400, "action_request_validation_exception", "id is too long")
    async with BulkReceiver(lambda request: wrong if "id-5" in request.ids else TAKE) as receiver:
        sink = sink_for(receiver)
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(rows(8))
        await sink.close()
    assert [(one.record, one.reason) for one in caught.value.rejections] == [(5, "action_request_validation_exception")]
    assert sorted(receiver.numbers()) == [0, 1, 2, 3, 4, 6, 7]
    assert any('{"create"' in getattr(entry, "body", "") for entry in caplog.records)


async def test_an_error_of_the_store_s_own_becomes_a_refusal() -> None:
    """A record that meets a 500 again and again does not hold the others up for ever."""
    async with BulkReceiver(lambda _: Reply(items={"id-1": failed(500, "null_pointer_exception")})) as receiver:
        sink = sink_for(receiver)
        wanted = rows(3)
        for _ in range(DOUBTFUL_TRIES - 1):
            with pytest.raises(StoreBusy):
                await sink.send(wanted)
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(wanted)
        await sink.close()
    assert [(one.record, one.reason) for one in caught.value.rejections] == [(1, "null_pointer_exception")]
    assert sorted(receiver.numbers()) == [0, 2]


# -- what somebody has to look at ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (error(401, "security_exception", "missing authentication credentials"), StoreSettings),
        (error(403, "security_exception", "action is unauthorized"), StoreSettings),
        (error(404, "index_not_found_exception"), StoreSettings),
        (Reply(400, body=b"The plain HTTP request was sent to HTTPS port"), StoreSettings),
        (Reply(406), StoreSettings),
        (error(403, "cluster_block_exception"), StoreBlocked),
        (Reply(items={"id-1": failed(404, "index_not_found_exception", "no such index")}), StoreSettings),
        (Reply(items={"id-1": failed(403, "security_exception", "unauthorized")}), StoreSettings),
        (Reply(items={"id-1": failed(429, "cluster_block_exception", "flood-stage watermark")}), StoreBlocked),
        (
            Reply(
                items={"id-0": failed(429, "es_rejected_execution_exception"), "id-1": failed(403, "cluster_block_exception", "blocked")}
            ),
            StoreBlocked,
        ),
    ],
    ids=lambda one: f"{one.status} {one.items} {one.body.decode()}"[:50] if isinstance(one, Reply) else one.__name__,
)
async def test_it_stops_and_loses_nothing(reply: Reply, kind: type[TransientError]) -> None:
    """No record is refused for it, the error says what it is, and once it is mended everything arrives."""
    async with BulkReceiver(answers(reply, reply, reply)) as receiver:
        sink = sink_for(receiver)
        raised = await insist(sink, rows(2))
        await sink.close()
    assert {type(failure) for failure in raised} == {kind}
    assert len(raised) == 3
    assert all(receiver.url in str(failure) for failure in raised)
    assert all((failure.retry_after_s or 0) >= 30 for failure in raised) == (kind is StoreSettings)
    assert sorted(receiver.numbers()) == [0, 1]


async def test_nothing_is_sent_before_there_is_a_template() -> None:
    """Asked for each kind before its first record, until there is one; then never again."""
    async with BulkReceiver() as receiver:
        receiver.template = lambda: web.json_response({})
        sink = sink_for(receiver)
        with pytest.raises(StoreSettings, match=r"no index template for logs-cisco_esa\.line-default"):
            await sink.send(rows(2))
        assert receiver.requests == []
        receiver.template = lambda: web.json_response({"template": {}, "overlapping": []})
        await sink.send(rows(2))
        await sink.send([(2, rows_of("json", [("delivery", [2])]))])
        await sink.send([(3, rows_of("json", [("delivery", [3])]))])
        await sink.close()
    assert receiver.asked_for_template == [f"logs-cisco_esa.{kind}-default" for kind in ("line", "line", "delivery")]
    assert receiver.numbers() == [0, 1, 2, 3]


@pytest.mark.parametrize("status", [401, 403, 404, 405, 500])
async def test_who_may_not_see_templates_sends_all_the_same(status: int) -> None:
    """An API key that may only write is enough; OpenSearch answers 500 where the data stream exists."""
    async with BulkReceiver() as receiver:
        receiver.template = lambda: web.Response(status=status)
        sink = sink_for(receiver)
        await sink.send(rows(1))
        await sink.close()
    assert receiver.numbers() == [0]


async def test_templates_need_not_be_looked_for() -> None:
    """`require_template: false` asks nothing; a store that cannot say now is asked again."""
    async with BulkReceiver() as receiver:
        receiver.template = lambda: web.Response(status=503)
        careful, careless = sink_for(receiver), sink_for(receiver, require_template=False)
        with pytest.raises(StoreBusy):
            await careful.send(rows(1))
        assert receiver.numbers() == []
        await careless.send(rows(1))
        await careful.close()
        await careless.close()
    assert receiver.numbers() == [0]
    assert len(receiver.asked_for_template) == 1


async def test_a_plain_index_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Records that land in no data stream are stored, and the log says where, once."""
    items = [{"create": {"_index": "logs-cisco_esa.line-default", "status": 201}}]
    async with BulkReceiver(lambda _: Reply(body=json.dumps({"errors": False, "items": items}).encode())) as receiver:
        sink = sink_for(receiver)
        with caplog.at_level(logging.WARNING):
            await sink.send(rows(1))
            await sink.send(rows(1, first=1))
        await sink.close()
    assert [getattr(entry, "index", None) for entry in caplog.records if "plain index" in entry.message] == ["logs-cisco_esa.line-default"]


# -- what is counted -------------------------------------------------------------------------------------------------------------
async def test_what_was_there_and_what_was_put_aside_is_counted() -> None:
    """409 is a success, and so is the failure store, where nobody looks for the record."""
    counters = Counters()
    async with BulkReceiver(lambda _: Reply(items={"id-2": {"status": 201, "failure_store": "used"}})) as receiver:
        sink = sink_for(receiver, counters=counters)
        await sink.send(rows(2))
        await sink.send(rows(3))
        await sink.close()
    assert counters.value(telemetry.SINK_KNOWN, sink="elasticsearch") == 2
    assert counters.value(telemetry.SINK_DIVERTED, sink="elasticsearch", reason="failure_store") == 1
    assert receiver.numbers() == [0, 1]


async def test_a_request_that_was_taken_is_not_sent_again() -> None:
    """Of two requests of one `send` the second fails: when it is sent again, the first is left out."""
    async with BulkReceiver(answers(TAKE, Reply(503))) as receiver:
        sink = sink_for(receiver, max_request_records=2)
        await insist(sink, rows(4))
        await sink.send(rows(1))
        await sink.close()
    assert [request.ids for request in receiver.requests] == [["id-0", "id-1"], ["id-2", "id-3"], ["id-2", "id-3"], ["id-0"]]
