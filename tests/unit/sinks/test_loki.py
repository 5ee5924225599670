"""The Loki sink against a server that follows Loki's documentation: rows L1 to L10 of docs/wires.md 4.3, and what a client keeps to.

Loki itself cannot be had where these tests run (its licence); tests/peers has a real server that takes its protocol.
"""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 4.3)

from __future__ import annotations

import asyncio
import base64
import json
import random
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import trustme
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from tests.contract.delivery_fakes import rows_of
from tests.contract.http_receiver import HttpReceiver, Posted, Reply
from tests.contract.loki_stub import NS, LokiStub, Stored, labels_of, sent

from esa_tls.core.batch import Row
from esa_tls.core.records import KINDS
from esa_tls.errors import TransientError
from esa_tls.runtime.dispatch import RecordsRejected
from esa_tls.sinks.http_client import HttpClient
from esa_tls.sinks.loki import LokiSink
from esa_tls.sinks.otlp import HttpTransport, OtlpSink
from esa_tls.wire.loki_entries import Entries

NOW_S = 1_764_000_000
"""What the server's clock shows."""

Rows = list[tuple[int, Row]]


def record(number: int, *, at_s: float = NOW_S, kind: str = "line", appliance: str = "esa1", original: str = "") -> bytes:
    """A record with this number, stamped at a second."""
    stamp = datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    event: dict[str, Any] = {"id": f"{number:026x}", "action": "subject", "sequence": number, "created": stamp}
    if kind == "line":
        event["original"] = original or f"line {number}"
    own = {"record": kind, "appliance": appliance, "epoch": 0, "mid": number}
    return json.dumps({"@timestamp": stamp, "event": event, "host": {"name": appliance}, "cisco_esa": own}).encode() + b"\n"


def rows(*bodies: bytes, kind: str = "line") -> Rows:
    """A row with one segment for each body, which is of this kind."""
    cls = "line" if kind == "line" else "summary"
    return [(n, Row(cls, "json", [(kind, body.count(b"\n"), body)])) for n, body in enumerate(bodies, 1)]


def numbers(entries: list[Stored]) -> list[int]:
    """Numbers of the records."""
    return [int(entry.fields["event_id"], 16) for entry in entries]


def sink_for(receiver: HttpReceiver, *endpoints: str, entries: Entries | None = None, tls: Any = None, **options: Any) -> LokiSink:
    """A sink for this server."""
    client = HttpClient(timeout_s=options.pop("timeout_s", 20.0), tls=tls, server_name=None if tls is None else "logs.example.org")
    return LokiSink(client, endpoints or [receiver.url], entries or Entries(), now_s=lambda: NOW_S, **options)


def faults(*replies: Reply) -> Callable[[Posted], Reply | None]:
    """These in turn, then none."""
    left = iter(replies)
    return lambda _: next(left, None)


def rejected(caught: pytest.ExceptionInfo[RecordsRejected]) -> list[tuple[int, int, int, str]]:
    """Place and reason of each, by place."""
    return sorted((one.row, one.segment, one.record, one.reason) for one in caught.value.rejections)


# -- what is sent ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["protobuf", "json"])
@pytest.mark.parametrize("gzip", [False, True])
async def test_L1_records_arrive_as_entries(form: Any, gzip: bool) -> None:
    """Snappy protobuf or JSON: a stream for each appliance and kind, oldest entry first, metadata as texts."""
    stub = LokiStub(now_s=NOW_S)
    made = [
        (1, Row("line", "json", [("line", 3, record(3) + record(1) + record(2, appliance="esa2"))])),
        (2, Row("summary", "json", [("delivery", 1, record(4, kind="delivery")), ("message", 1, record(5, kind="message"))])),
    ]
    async with HttpReceiver(stub.answer) as receiver:
        sink = sink_for(receiver, form=form, gzip=gzip, headers={"X-Scope-OrgID": "mail"})
        await sink.open(None)
        await sink.send(made)
        await sink.close()

    found = {tuple(labels_of(labels).items()): numbers(stream) for (_, labels), stream in stub.streams.items()}
    assert found == {
        (("appliance", "esa1"), ("kind", "line"), ("service_name", "esa-tls")): [1, 3],
        (("appliance", "esa2"), ("kind", "line"), ("service_name", "esa-tls")): [2],
        (("appliance", "esa1"), ("kind", "delivery"), ("service_name", "esa-tls")): [4],
        (("appliance", "esa1"), ("kind", "message"), ("service_name", "esa-tls")): [5],
    }
    assert {tenant for tenant, _ in stub.streams} == {"mail"}
    assert all(entry.time_ns == NOW_S * NS + number for entry, number in zip(stub.entries, numbers(stub.entries), strict=True))
    assert {entry.line for entry in stub.entries if "line" in entry.line} == {"line 1", "line 2", "line 3"}
    for posted in receiver.requests:
        assert posted.path == "/loki/api/v1/push"
        assert posted.headers["content-type"] == {"protobuf": "application/x-protobuf", "json": "application/json"}[form]
        assert (posted.headers.get("content-encoding") == "gzip") == (form == "json" and gzip)
    assert sink.state() is None


async def test_only_wanted_kinds() -> None:
    """Segments of other kinds stay behind; nothing to send, no request."""
    stub = LokiStub(now_s=NOW_S)
    async with HttpReceiver(stub.answer) as receiver:
        sink = sink_for(receiver, kinds=frozenset({"delivery"}))
        await sink.send(rows(record(1)))
        assert receiver.requests == []
        await sink.send([(1, Row("summary", "json", [("message", 1, record(2)), ("delivery", 1, record(3, kind="delivery"))]))])
        await sink.close()
    assert numbers(stub.entries) == [3]


async def test_requests_stay_below_the_limit_and_in_order() -> None:
    """A stream's requests go one after the other, oldest first, also over the borders of rows."""
    stub = LokiStub(now_s=NOW_S, window_s=0.0)
    chance = random.Random(1)
    order = list(range(200))
    chance.shuffle(order)
    async with HttpReceiver(stub.answer) as receiver:
        sink = sink_for(receiver, max_request_bytes=4000, max_in_flight=8)
        await sink.send(rows(*(b"".join(record(n, original="x" * 200) for n in order[at : at + 50]) for at in range(0, 200, 50))))
        await sink.close()
    assert numbers(stub.entries) == list(range(200))
    assert len(receiver.requests) > 15


async def test_streams_go_beside_one_another() -> None:
    """At most `max_in_flight` requests at a time, of different streams; one slow stream holds back no other."""
    stub = LokiStub(now_s=NOW_S)
    async with HttpReceiver(stub.answer) as receiver:
        receiver.release = asyncio.Event()
        sink = sink_for(receiver, max_in_flight=3)
        sending = asyncio.create_task(sink.send(rows(*(record(n, appliance=f"esa{n % 5}") for n in range(20)))))
        await receiver.until_waiting(3)
        assert receiver.waiting == 3
        receiver.release.set()
        await sending
        await sink.close()
    assert sorted(numbers(stub.entries)) == list(range(20))
    assert len(receiver.requests) == 5


# -- twice -----------------------------------------------------------------------------------------------------------------------
async def test_L2_the_same_push_twice_is_one_entry() -> None:
    """Time, line and metadata of a record are the same each time, so the store knows it."""
    stub = LokiStub(now_s=NOW_S)
    async with HttpReceiver(stub.answer) as receiver:
        sink = sink_for(receiver)
        for _ in range(2):
            await sink.send(rows(record(1) + record(2)))
        await sink.close()
    assert numbers(stub.entries) == [1, 2]
    assert numbers(stub.accepted) == [1, 2, 1, 2]
    assert receiver.requests[0].sent == receiver.requests[1].sent


async def test_L10_a_replay_changes_nothing() -> None:
    """The last thousand records once more, by another sink, cut into other requests: the store has what it had."""
    stub = LokiStub(now_s=NOW_S, window_s=3600.0)
    bodies = [b"".join(record(n, at_s=NOW_S - 300 + n // 5) for n in range(at, at + 250)) for at in range(0, 1500, 250)]
    async with HttpReceiver(stub.answer) as receiver:
        sink = sink_for(receiver)
        await sink.send(rows(*bodies))
        await sink.close()
        before = stub.entries
        again = sink_for(receiver, max_request_bytes=10_000)
        await again.send(rows(*bodies[2:]))
        await again.close()
    assert stub.entries == before
    assert len(before) == 1500
    assert len(stub.accepted) == 2500


# -- what Loki refuses -----------------------------------------------------------------------------------------------------------
async def test_L4_counted_by_reason_and_gone_on() -> None:
    """8 days old, 11 minutes ahead, 61 minutes behind, a line above the server's own limit: each named with Loki's reason, once."""
    stub = LokiStub(now_s=NOW_S, max_age_s=7 * 86400, window_s=3600.0, max_line_bytes=300)
    async with HttpReceiver(stub.answer) as receiver:
        sink = sink_for(receiver)
        await sink.send(rows(record(0)))
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(
                rows(record(1, at_s=NOW_S - 8 * 86400) + record(2) + record(3, at_s=NOW_S + 660), record(4, original="x" * 301) + record(5))
            )
        assert rejected(caught) == [
            (0, 0, 0, "greater_than_max_sample_age"),
            (0, 0, 2, "too_far_in_future"),
            (1, 0, 0, "line_too_long"),
        ]
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(rows(record(6, at_s=NOW_S - 3660) + record(7, at_s=NOW_S - 3540)))
        assert rejected(caught) == [(0, 0, 0, "too_far_behind")]
        assert "too far behind" in caught.value.rejections[0].detail
        await sink.send(rows(record(8)))
        await sink.close()
    assert sorted(numbers(stub.entries)) == [0, 2, 5, 7, 8]
    assert max(stub.pushed.values()) == 1
    assert stub.reasons == {"greater_than_max_sample_age": 1, "too_far_in_future": 1, "line_too_long": 1, "too_far_behind": 1}


async def test_L4_a_stream_with_a_label_that_is_refused() -> None:
    """Nothing of such a stream is stored: all of it is named, and other streams go on."""
    stub = LokiStub(now_s=NOW_S)
    async with HttpReceiver(stub.answer) as receiver:
        stub.before = lambda posted: Reply(400, b"stream '{}' has label value too long: 'esa2'") if b"esa2" in posted.sent else None
        sink = sink_for(receiver)
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(rows(record(1, appliance="esa2") + record(2) + record(3, appliance="esa2")))
        await sink.close()
    assert rejected(caught) == [(0, 0, 0, "label_value_too_long"), (0, 0, 2, "label_value_too_long")]
    assert numbers(stub.entries) == [2]


async def test_L5_one_bad_of_three() -> None:
    """The bad one is named, the two good ones are stored once, and not sent again."""
    stub = LokiStub(now_s=NOW_S, max_age_s=3600.0)
    async with HttpReceiver(stub.answer) as receiver:
        sink = sink_for(receiver)
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(rows(record(1) + record(2, at_s=NOW_S - 4000) + record(3)))
        await sink.close()
    assert rejected(caught) == [(0, 0, 1, "greater_than_max_sample_age")]
    assert numbers(stub.accepted) == [1, 3]
    assert len(receiver.requests) == 1


async def test_one_error_hides_another() -> None:
    """Too old and too far behind in one request: the answer tells of the second, the rest is asked about again."""
    stub = LokiStub(now_s=NOW_S, max_age_s=86400.0, window_s=3600.0)
    async with HttpReceiver(stub.answer) as receiver:
        sink = sink_for(receiver)
        await sink.send(rows(record(0)))
        ages = {1: 90_000, 2: 80_000, 3: 80_000, 4: 100, 5: -700}
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(rows(b"".join(record(n, at_s=NOW_S - age) for n, age in ages.items())))
        await sink.close()
    assert {place[2] for place in rejected(caught)} == {0, 1, 2, 4}
    assert {place[3] for place in rejected(caught)} == {"too_far_behind", "too_far_in_future"}
    assert sorted(numbers(stub.entries)) == [0, 4]


@pytest.mark.parametrize("status", [400, 422])
async def test_a_refusal_in_unknown_words_is_narrowed_down(status: int) -> None:
    """Halves, until what is refused alone is named; everything else is stored."""
    poison = (b"line 3\x1a", b"line 8\x1a")
    stub = LokiStub(now_s=NOW_S)
    async with HttpReceiver(stub.answer) as receiver:
        stub.before = lambda posted: Reply(status, b"what?") if any(one in unpacked(posted) for one in poison) else None
        sink = sink_for(receiver)
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(rows(b"".join(map(record, range(6))), b"".join(map(record, range(6, 12)))))
        await sink.close()
    assert rejected(caught) == [(0, 0, 3, f"http_{status}"), (1, 0, 2, f"http_{status}")]
    assert sorted(numbers(stub.accepted)) == [0, 1, 2, 4, 5, 6, 7, 9, 10, 11]


def unpacked(posted: Posted) -> bytes:
    """The body of a protobuf request."""
    import cramjam

    return bytes(cramjam.snappy.decompress_raw(posted.body))


async def test_413_is_cut_in_halves() -> None:
    """A gateway takes less than we were told: smaller requests go through, an entry that alone is too large is named."""
    stub = LokiStub(now_s=NOW_S, max_body_bytes=3000)
    chance = random.Random(2)
    bodies = [record(n, original=chance.randbytes(5000 if n == 7 else 300).hex()) for n in range(20)]
    async with HttpReceiver(stub.answer) as receiver:
        sink = sink_for(receiver)
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(rows(b"".join(bodies)))
        await sink.close()
    assert rejected(caught) == [(0, 0, 7, "too_large")]
    assert sorted(numbers(stub.accepted)) == [n for n in range(20) if n != 7]


async def test_a_record_that_cannot_be_read_is_named() -> None:
    """What is no record becomes a dead letter; the records around it are delivered."""
    stub = LokiStub(now_s=NOW_S)
    async with HttpReceiver(stub.answer) as receiver:
        sink = sink_for(receiver)
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(rows(record(1) + b"{\n" + record(2)))
        await sink.close()
    assert rejected(caught) == [(0, 0, 1, "unreadable")]
    assert numbers(stub.entries) == [1, 2]


# -- what is tried again ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reply", "after_s"),
    [
        (Reply(429, headers={"Retry-After": "3"}), 3.0),
        (Reply(429, b"Ingestion rate limit exceeded for user fake"), None),
        (Reply(500), None),
        (Reply(503), None),
        (Reply(260, b"ingestion blocked"), 30.0),
        (Reply(302), 30.0),
        (Reply(404), 30.0),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Reply) else "",
)
async def test_L6_tried_again(reply: Reply, after_s: float | None) -> None:
    """Not stored, and no reason to lose anything: the same rows again go through, once. 260 is no success."""
    stub = LokiStub(now_s=NOW_S, before=faults(reply))
    async with HttpReceiver(stub.answer) as receiver:
        sink = sink_for(receiver)
        with pytest.raises(TransientError) as caught:
            await sink.send(rows(record(1) + record(2)))
        assert caught.value.retry_after_s == after_s
        assert str(reply.status) in str(caught.value)
        await sink.send(rows(record(1) + record(2)))
        await sink.close()
    assert numbers(stub.accepted) == [1, 2]


async def test_L6_the_connection_is_cut() -> None:
    """No answer: the same again."""
    stub = LokiStub(now_s=NOW_S)
    cut = [True, True]
    async with HttpReceiver(stub.answer) as receiver:
        stub.before = lambda _: Reply(cut=True) if cut and cut.pop() else None
        sink = sink_for(receiver)
        with pytest.raises(TransientError):
            await sink.send(rows(record(1)))
        await sink.send(rows(record(1)))
        await sink.close()
    assert numbers(stub.entries) == [1]


async def test_L6_no_answer_in_time() -> None:
    """The time limit passes: the same again."""
    stub = LokiStub(now_s=NOW_S)
    async with HttpReceiver(stub.answer) as receiver:
        receiver.release = asyncio.Event()
        sink = sink_for(receiver, timeout_s=0.1)
        with pytest.raises(TransientError):
            await sink.send(rows(record(1)))
        receiver.release.set()
        await sink.close()


@pytest.mark.parametrize("status", [400, 401])
async def test_L7_no_tenant(status: int) -> None:
    """A server that wants a tenant: nothing is lost or named, it is tried again slowly, and the error says what is missing."""
    stub = LokiStub(now_s=NOW_S, before=lambda _: Reply(status, b"no org id\n"))
    async with HttpReceiver(stub.answer) as receiver:
        sink = sink_for(receiver)
        with pytest.raises(TransientError, match="no org id") as caught:
            await sink.send(rows(record(1)))
        assert caught.value.retry_after_s == 30.0
        await sink.close()
    assert len(receiver.requests) == 1


async def test_L7_with_its_tenant() -> None:
    """The tenant's header comes with every request."""
    stub = LokiStub(now_s=NOW_S, tenant_wanted=True)
    async with HttpReceiver(stub.answer) as receiver:
        sink = sink_for(receiver, headers={"X-Scope-OrgID": "mail"})
        await sink.send(rows(record(1)))
        await sink.close()
    assert [tenant for tenant, _ in stub.streams] == ["mail"]


async def test_what_is_known_is_not_asked_again() -> None:
    """A failure after a refusal: the repeated `send` brings only what is missing, and what was refused before is still named."""
    stub = LokiStub(now_s=NOW_S, max_age_s=3600.0, window_s=3000.0)
    bodies = [b"".join(record(n, at_s=NOW_S - (5000 if n == 3 else 0), original="x" * 400) for n in range(12))]
    async with HttpReceiver(stub.answer) as receiver:
        answers = iter([None, Reply(503), Reply(503)])
        stub.before = lambda _: next(answers, None)
        sink = sink_for(receiver, max_request_bytes=4000)
        for _ in range(2):
            with pytest.raises(TransientError):
                await sink.send(rows(*bodies))
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(rows(*bodies))
        assert rejected(caught) == [(0, 0, 3, "greater_than_max_sample_age")]
        await sink.send(rows(record(20)))  # nothing of it is left over
        await sink.close()
    assert numbers(stub.accepted) == [*(n for n in range(12) if n != 3), 20]
    assert max(stub.pushed.values()) == 1


async def test_one_streams_failure_ends_no_other_request() -> None:
    """What another stream's request under way stored is known when the rows come again."""
    stub = LokiStub(now_s=NOW_S)
    failing = True
    async with HttpReceiver(stub.answer) as receiver:
        stub.before = lambda posted: Reply(503) if failing and b"esa2" in posted.sent else None
        sink = sink_for(receiver)
        made = rows(*(record(n, appliance=f"esa{n % 3}") for n in range(9)))
        with pytest.raises(TransientError):
            await sink.send(made)
        failing = False
        await sink.send(made)
        await sink.close()
    assert sorted(numbers(stub.accepted)) == list(range(9))


# -- where to and as whom --------------------------------------------------------------------------------------------------------
async def test_endpoints_in_their_order() -> None:
    """The next one is used when one cannot be reached; an answer of the first is not passed on to the next. A path may lead there."""
    one, two = LokiStub(now_s=NOW_S), LokiStub(now_s=NOW_S)
    async with HttpReceiver(one.answer) as first, HttpReceiver(two.answer) as second:
        sink = sink_for(first, f"{first.url}/insert/", second.url)
        await sink.send(rows(record(1)))
        assert first.requests[0].path == "/insert/loki/api/v1/push"
        one.before = lambda _: Reply(503)
        with pytest.raises(TransientError):
            await sink.send(rows(record(2)))
        assert second.requests == []
        await first.stop()
        await sink.send(rows(record(2)))
        assert numbers(two.entries) == [2]
        await second.stop()
        with pytest.raises(TransientError):
            await sink.send(rows(record(3)))
        await sink.close()
        await first.start()
        await second.start()


async def test_credentials_come_with_every_request() -> None:
    """As they were given."""
    token = base64.b64encode(b"u:p").decode()
    stub = LokiStub(now_s=NOW_S)
    async with HttpReceiver(stub.answer) as receiver:
        sink = sink_for(receiver, headers={"Authorization": f"Basic {token}"})
        await sink.send(rows(record(1), record(2, appliance="esa2")))
        await sink.close()
    assert {posted.headers["authorization"] for posted in receiver.requests} == {f"Basic {token}"}


async def test_tls_follows_renewed_files() -> None:
    """With the server's authority it works; with another it is a transient failure and no lost record; what is given next time counts."""
    authority, stranger = trustme.CA(), trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("logs.example.org").configure_cert(server)
    trusting = [ssl.create_default_context() for _ in range(2)]
    for context, one in zip(trusting, (stranger, authority), strict=True):
        one.configure_trust(context)
    current = trusting[0]
    stub = LokiStub(now_s=NOW_S)
    async with HttpReceiver(stub.answer, tls=server) as receiver:
        sink = sink_for(receiver, tls=lambda: current)
        with pytest.raises(TransientError):
            await sink.send(rows(record(1)))
        current = trusting[1]
        await sink.send(rows(record(1)))
        await sink.close()
    assert numbers(stub.entries) == [1]


async def test_the_end() -> None:
    """Closed: a later send fails; closing twice does no harm."""
    stub = LokiStub()
    async with HttpReceiver(stub.answer) as receiver:
        sink = sink_for(receiver)
        await sink.close()
        await sink.close()
        with pytest.raises(TransientError):
            await sink.send(rows(record(1)))
    assert receiver.requests == []
    assert sink.kinds == frozenset(KINDS)


async def test_L8_otlp_to_lokis_own_endpoint() -> None:
    """The otlp sink, its base URL ending in `/otlp`: the media type as Loki compares it, 204 is success, `host.name` comes."""
    requests: list[Posted] = []

    def answer(posted: Posted) -> Reply:
        requests.append(posted)
        return Reply(204)

    async with HttpReceiver(answer) as receiver:
        client = HttpTransport([f"{receiver.url}/otlp"])
        sink = OtlpSink(client)
        await sink.send([(1, rows_of("otlp", [("line", range(3))]))])
        await sink.close()
    [posted] = requests
    assert (posted.path, posted.headers["content-type"], posted.headers["content-encoding"]) == (
        "/otlp/v1/logs",
        "application/x-protobuf",
        "gzip",
    )
    [group] = ExportLogsServiceRequest.FromString(posted.body).resource_logs
    assert "host.name" in {pair.key for pair in group.resource.attributes}


def test_the_stub_refuses_what_loki_refuses() -> None:
    """16 labels, metadata of 65 KB, 129 entries, a number as a value, framed snappy (L3, L4, L9): as the documentation has it."""
    stub = LokiStub(now_s=NOW_S)
    labels = "{" + ", ".join(f'l{n}="v"' for n in range(16)) + "}"
    metadata = tuple((f"m{n}", "") for n in range(129))
    for name, body in {
        "label names": sent({labels: [Stored(NOW_S * NS, "", ())]}),
        "too large": sent({'{a="b"}': [Stored(NOW_S * NS, "", (("m", "x" * 66_000),))]}),
        "too many": sent({'{a="b"}': [Stored(NOW_S * NS, "", metadata)]}),
        "corrupt": bytes.fromhex("ff060000734e61507059") + sent({'{a="b"}': [Stored(1, "", ())]}),
    }.items():
        reply = stub.answer(Posted("/loki/api/v1/push", {}, {"content-type": "application/x-protobuf"}, body, body))
        assert (reply.status, name in reply.body.decode()) == (400, True)
    body = b'{"streams":[{"stream":{"a":"b"},"values":[["1","x",{"n":1}]]}]}'
    assert stub.answer(Posted("/loki/api/v1/push", {}, {"content-type": "application/json"}, body, body)).status == 400
    assert stub.entries == []
