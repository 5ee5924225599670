"""The kafka sink on a broker in memory: what it promises however the client behaves. Real brokers are met in tests/peers/test_kafka.py."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.contract.delivery_fakes import rows_of
from tests.contract.kafka_fakes import FATAL, NOT_ENOUGH_REPLICAS, TOO_LARGE, FakeBroker, Sent

from esa_tls.config.kafka import KAFKA_OWN_PROPERTIES
from esa_tls.core.batch import Row
from esa_tls.core.records import KINDS
from esa_tls.errors import ConfigError, TransientError
from esa_tls.runtime.dispatch import RecordsRejected
from esa_tls.sinks.kafka import FIXED, KafkaSink, client_maker, client_properties, tls_properties
from esa_tls.wire.kafka import topics_of
from esa_tls.wire.retry_after import SETTINGS_RETRY_S

TOPICS = topics_of("esa-tls")


def rows(*counts: int) -> list[tuple[int, Row]]:
    """Rows of so many lines each, numbered through."""
    made, first = [], 0
    for sequence, count in enumerate(counts, 1):
        made.append((sequence, rows_of("json", [("line", range(first, first + count))])))
        first += count
    return made


def numbers(sent: list[Sent]) -> list[int]:
    """The records' numbers."""
    return [int(one.headers["record_id"].removeprefix(b"id-")) for one in sent]


def codes(*answers: int | None) -> Callable[[list[Sent]], int | None]:
    """These in turn, then take everything."""
    left = iter(answers)
    return lambda _: next(left, None)


def sink_for(broker: FakeBroker, **options: Any) -> KafkaSink:
    """A sink for this broker."""
    return KafkaSink(broker.make, TOPICS, **options)


async def test_records_arrive_in_order_with_their_headers() -> None:
    """All rows, one producer for all sends, which is made by the first of them."""
    broker = FakeBroker()
    sink = sink_for(broker)
    await sink.open(None)
    assert broker.producers == []
    await sink.send(rows(3, 2))
    await sink.send(rows(40))
    await sink.close()

    assert [*range(5), *range(40)] == numbers(broker.taken)
    assert len(broker.producers) == 1
    assert broker.taken[0].headers == {"record_id": b"id-0", "kind": b"line", "schema_version": b"1"}
    assert sink.state() is None


async def test_only_wanted_kinds() -> None:
    """Records of other kinds stay behind; rows of them alone need no producer."""
    broker = FakeBroker()
    sink = sink_for(broker, kinds=frozenset({"delivery"}))
    await sink.send(rows(3))
    assert broker.producers == []
    await sink.send([(1, rows_of("json", [("connection", [1]), ("delivery", [2, 3])]))])
    await sink.close()
    assert numbers(broker.taken) == [2, 3]


async def test_a_full_queue_is_back_pressure() -> None:
    """`BufferError` loses nothing and turns nothing round: the rest follows when reports have made room."""
    broker = FakeBroker(queue=7)
    sink = sink_for(broker)
    await sink.send(rows(20, 30))
    await sink.close()
    assert list(range(50)) == numbers(broker.taken)
    assert broker.producers[0].full >= 7


async def test_a_queue_that_takes_nothing_is_told() -> None:
    """A message larger than the whole queue waits until the time is up, and is not lost."""
    broker = FakeBroker(queue=0)
    sink = sink_for(broker, failing_after_s=0.05)
    with pytest.raises(TransientError, match="nothing delivered"):
        await sink.send(rows(1))
    broker.queue = 10
    await sink.send(rows(1))
    await sink.close()
    assert numbers(broker.taken) == [0]


# -- errors ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("code", "after_s"), [(NOT_ENOUGH_REPLICAS, None), (3, SETTINGS_RETRY_S), (-169, SETTINGS_RETRY_S)])
async def test_a_passing_error_is_tried_again(code: int, after_s: float | None) -> None:
    """Reported undelivered: transient; the same rows again bring exactly what is missing, in order."""
    broker = FakeBroker(batch=10)
    broker.judge = codes(None, code)
    sink = sink_for(broker)
    with pytest.raises(TransientError) as caught:
        await sink.send(rows(30))
    assert caught.value.retry_after_s == after_s
    already = numbers(broker.taken)
    await sink.send(rows(30))
    await sink.close()
    assert sorted(numbers(broker.taken)) == list(range(30))
    assert set(already) & set(range(10, 20)) == set()


async def test_a_refused_batch_is_narrowed_down() -> None:
    """The broker refuses whole batches: only what is refused alone is named, by its place; everything else is delivered, in order."""
    poison = {2, 9, 10}
    broker = FakeBroker()
    broker.judge = lambda batch: TOO_LARGE if poison & set(numbers(batch)) else None
    sink = sink_for(broker)
    with pytest.raises(RecordsRejected) as caught:
        await sink.send(rows(6, 6))
    await sink.send(rows(1))  # nothing of it is left over
    await sink.close()

    assert [(0, 0, 2, "too_large"), (1, 0, 3, "too_large"), (1, 0, 4, "too_large")] == [
        (one.row, one.segment, one.record, one.reason) for one in caught.value.rejections
    ]
    assert [*(number for number in range(12) if number not in poison), 0] == numbers(broker.taken)


async def test_a_record_over_the_clients_limit() -> None:
    """The client refuses it at once, and it alone: no other is sent again."""
    broker = FakeBroker(max_message_bytes=1000)
    made = [(1, rows_of("json", [("line", [0, 1])])), (2, rows_of("json", [("delivery", [2])], pad=2000)), *rows(1)]
    sink = sink_for(broker)
    with pytest.raises(RecordsRejected) as caught:
        await sink.send(made)
    await sink.close()
    assert [(1, 0, 0, "too_large")] == [(one.row, one.segment, one.record, one.reason) for one in caught.value.rejections]
    assert numbers(broker.taken) == [0, 1, 0]


async def test_a_record_that_cannot_be_read_is_named() -> None:
    """The others are delivered."""
    broker = FakeBroker()
    sink = sink_for(broker)
    with pytest.raises(RecordsRejected) as caught:
        await sink.send([(1, Row("line", "json", [("line", 2, b'{"event":{"id":"id-7"}}\n{broken\n')]))])
    await sink.close()
    assert [(0, 0, 1, "unreadable")] == [(one.row, one.segment, one.record, one.reason) for one in caught.value.rejections]
    assert numbers(broker.taken) == [7]


async def test_refused_records_are_named_though_something_failed_in_between() -> None:
    """A transient failure while a batch is being narrowed down: the repeated send goes on, and the rejection is not forgotten."""
    broker = FakeBroker()
    answers = iter([None, NOT_ENOUGH_REPLICAS])
    seen: list[int] = []

    def judge(batch: list[Sent]) -> int | None:
        if 1 in numbers(batch):
            return TOO_LARGE
        seen.append(len(batch))
        return next(answers, None)

    broker.judge = judge
    sink = sink_for(broker)
    with pytest.raises(TransientError):
        await sink.send(rows(8))
    with pytest.raises(RecordsRejected) as caught:
        await sink.send(rows(8))
    await sink.close()
    assert [1] == [one.record for one in caught.value.rejections]
    assert sorted(numbers(broker.taken)) == [0, *range(2, 8)]


@pytest.mark.parametrize("purge_reports", [True, False])
async def test_a_fatal_error_makes_another_producer(purge_reports: bool) -> None:
    """What was delivered before is not sent again, what was not is, by the new one; also what was never reported at all."""
    broker = FakeBroker(batch=10)
    broker.purge_reports = purge_reports
    broker.judge = codes(None, FATAL)
    sink = sink_for(broker)
    with pytest.raises(TransientError, match="another one is made"):
        await sink.send(rows(30))
    await sink.send(rows(30))
    await sink.close()
    assert list(range(30)) == numbers(broker.taken)
    assert len(broker.producers) == 2


@pytest.mark.parametrize("code", [45, 47, -144])
async def test_a_producer_that_lost_its_place_is_replaced(code: int) -> None:
    """Also where the client calls it no fatal error."""
    broker = FakeBroker(batch=10)
    broker.judge = codes(code)
    sink = sink_for(broker)
    with pytest.raises(TransientError):
        await sink.send(rows(5))
    await sink.send(rows(5))
    await sink.close()
    assert numbers(broker.taken) == list(range(5))
    assert len(broker.producers) == 2


# -- waiting ---------------------------------------------------------------------------------------------------------------------
async def test_without_reports_it_fails_and_what_is_under_way_stays_so() -> None:
    """No report in time: transient, with what the client last said. The repeated send waits on: nothing is sent twice."""
    broker = FakeBroker()
    broker.open.clear()
    sink = sink_for(broker, failing_after_s=0.05)
    for _ in range(2):
        with pytest.raises(TransientError, match=r"nothing delivered for 0.05 s: nothing said why"):
            await sink.send(rows(5))
    broker.open.set()
    await sink.send(rows(5))
    await sink.close()
    assert numbers(broker.taken) == list(range(5))
    assert len(broker.producers) == 1


async def test_other_rows_after_a_failure_begin_anew() -> None:
    """What was under way of the rows before is given up: it comes again from the outbox, or never."""
    broker = FakeBroker()
    broker.open.clear()
    sink = sink_for(broker, failing_after_s=0.05)
    with pytest.raises(TransientError):
        await sink.send(rows(5))
    broker.open.set()
    await sink.send(rows(2))
    await sink.close()
    assert numbers(broker.taken) == [0, 1]
    assert len(broker.producers) == 2


async def test_a_cancelled_send_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shutdown in the middle: the sink's thread ends, the loop is never blocked, and a later send fails."""
    broker = FakeBroker()
    broker.open.clear()
    sink = sink_for(broker)
    sending = asyncio.create_task(sink.send(rows(5)))
    assert await asyncio.to_thread(broker.waiting.wait, 20)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    async with asyncio.timeout(20):
        await sink.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kafka-")]
    with pytest.raises(TransientError):
        await sink.send(rows(5))
    await sink.close()


async def test_changed_certificates_make_another_producer() -> None:
    """Between two sends; not while nothing has changed."""
    broker = FakeBroker()
    generations: Iterator[int] = iter([0, 0, 1, 1])
    sink = sink_for(broker, tls_generation=lambda: next(generations))
    for _ in range(4):
        await sink.send(rows(1))
    await sink.close()
    assert len(broker.producers) == 2
    assert len(broker.taken) == 4


# -- the client ------------------------------------------------------------------------------------------------------------------
def properties(**changed: Any) -> dict[str, Any]:
    """The client's properties."""
    settings: dict[str, Any] = {
        "compression": "zstd", "max_message_bytes": 1_000_000, "client_id": "esa-tls", "tls": None, "sasl": None, "options": {}
    }  # fmt: skip
    return client_properties(["127.0.0.1:1"], **{**settings, **changed})


def test_what_the_promises_rest_on_cannot_be_changed() -> None:
    """Idempotent, acknowledged by all, murmur2, nothing expires; options come before, and the settings refuse them at all."""
    made = properties(options={"acks": "0", "linger.ms": "50", "client.id": "x"})
    assert {"acks": "all", "enable.idempotence": True, "partitioner": "murmur2_random", "message.timeout.ms": 0}.items() <= made.items()
    assert (made["linger.ms"], made["client.id"]) == ("50", "esa-tls")
    assert set(FIXED) <= KAFKA_OWN_PROPERTIES
    fixed_by_settings = {"bootstrap.servers", "client.id", "compression.type", "message.max.bytes", "security.protocol"}
    assert fixed_by_settings <= KAFKA_OWN_PROPERTIES


@pytest.mark.parametrize(
    ("tls", "sasl", "protocol"),
    [(None, None, "PLAINTEXT"), ({}, None, "SSL"), (None, {}, "SASL_PLAINTEXT"), ({}, {}, "SASL_SSL")],
)
def test_how_it_is_spoken(tls: dict[str, Any] | None, sasl: dict[str, str] | None, protocol: str) -> None:
    """TLS and SASL, each with and without."""
    assert properties(tls=tls, sasl=sasl)["security.protocol"] == protocol


def test_tls_properties() -> None:
    """Files as configured; the system's authorities where none are."""
    assert tls_properties(ca_file=None, cert_file=None, key_file=None, verify=True) == {
        "enable.ssl.certificate.verification": True,
        "ssl.ca.location": "probe",
    }
    assert tls_properties(ca_file="/ca", cert_file="/c", key_file="/k", verify=False) == {
        "enable.ssl.certificate.verification": False,
        "ssl.ca.location": "/ca",
        "ssl.certificate.location": "/c",
        "ssl.key.location": "/k",
    }


def test_properties_that_cannot_be_are_told_at_once() -> None:
    """By the client's own words, before anything starts."""
    with pytest.raises(ConfigError, match=r'sink k: No such configuration property: "linger"'):
        client_maker(properties(options={"linger": "1"}), owner="sink k")
    with pytest.raises(ConfigError, match=r"ssl.ca.location"):
        client_maker(properties(tls=tls_properties(ca_file="/no/such/file", cert_file=None, key_file=None, verify=True)))


def test_without_the_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """confluent-kafka is an extra."""
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(ConfigError) as caught:
        client_maker(properties(), owner="sink kafka")
    assert str(caught.value) == "sink kafka: needs confluent-kafka: pip install 'esa-tls[kafka]'"


async def test_the_real_client_without_a_broker(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody listens: the reason is told, as a warning and not as an error, and the end is quick."""
    from tests.peers.programs import free_port

    made = client_properties(
        [f"127.0.0.1:{free_port()}"], compression="lz4", max_message_bytes=1_000_000, client_id="t", tls=None, sasl=None, options={}
    )
    sink = KafkaSink(client_maker(made), TOPICS, kinds=frozenset(KINDS), failing_after_s=1.0)
    with pytest.raises(TransientError, match=r"brokers are down|Connection refused"):
        await sink.send(rows(3))
    async with asyncio.timeout(10):
        await sink.close()
    said = [record for record in caplog.records if record.name == "librdkafka"]
    assert any("Connection refused" in record.getMessage() for record in said)
    assert {record.levelname for record in said} <= {"INFO", "WARNING"}
