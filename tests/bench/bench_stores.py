"""What the kafka, splunk_hec and webhook sinks make of outbox rows, in records a CPU second; the webhook also over loopback.

Encoding is timed alone: rows of 1,000 lines as the core makes them go in, messages or request bodies come out. Kafka's own client is timed
up to its queue (no broker is asked; with one, tests/peers/test_kafka.py runs). Run: python tests/bench/bench_stores.py [lines]
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Callable

from aiohttp import web
from isal import igzip

from esa_tls.core.batch import Batch, Origin, Row, Run
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.records import KINDS
from esa_tls.core.state import DictState
from esa_tls.offline.simulate import SimulationSettings, simulate
from esa_tls.sinks.http_client import HttpClient
from esa_tls.sinks.webhook import WebhookSink
from esa_tls.wire.json_batches import batches_of, entries_of
from esa_tls.wire.kafka import messages_of, topics_of
from esa_tls.wire.splunk_hec import EventSettings, events_of
from esa_tls.wire.webhook import body_of

BATCH_LINES = 1_000
NOW_MS = 4_000_000_000_000


def rows_of(lines: list[bytes]) -> list[Row]:
    """What the journal holds of these lines."""
    pipeline = Pipeline(CoreSettings(appliance_name="esa1"), DictState(), encodings=("json",), now_s=1.7e9)
    rows: list[Row] = []
    for at in range(0, len(lines), BATCH_LINES):
        pipeline.feed(Batch([Run(Origin(tag="esa"), lines[at : at + BATCH_LINES])], 1), now_s=1.7e9)
        sealed = pipeline.seal()
        if sealed is not None:
            rows += sealed.rows
    return rows


def rate(call: Callable[[list[Row]], object], rows: list[Row], records: int) -> float:
    """Records per CPU second, best of 3; eight rows at a time, as a dispatcher reads them."""
    best = 0.0
    for _ in range(3):
        gc.collect()
        started = time.process_time()
        for at in range(0, len(rows), 8):
            call(rows[at : at + 8])
        best = max(best, records / (time.process_time() - started))
    return best


def kafka(rows: list[Row]) -> object:
    """Kafka's messages."""
    return messages_of(rows, kinds=KINDS, topics=topics_of("esa-tls"), now_ms=NOW_MS)


def kafka_queued(rows: list[Row]) -> object:
    """The same, given to the client, which is purged at once."""
    from confluent_kafka import Producer

    messages, _ = messages_of(rows, kinds=KINDS, topics=topics_of("esa-tls"), now_ms=NOW_MS)
    producer = Producer({"enable.idempotence": True, "queue.buffering.max.messages": 1_000_000, "log_level": 0})
    reports = 0

    def report(_error: object, _message: object) -> None:
        nonlocal reports
        reports += 1

    for one in messages:
        producer.produce(one.topic, value=one.value, key=one.key, timestamp=one.timestamp_ms, headers=one.headers, on_delivery=report)
    producer.purge()
    producer.flush(10)
    assert reports == len(messages)
    return producer


def splunk(rows: list[Row]) -> object:
    """Splunk's request bodies."""
    events, _ = events_of(entries_of(rows, KINDS), EventSettings())
    batches, _ = batches_of(events, max_bytes=1_000_000, max_records=len(events))
    return [b"\n".join([entry.data for entry in batch]) for batch in batches]


def splunk_gzip(rows: list[Row]) -> object:
    """The same, compressed."""
    bodies = splunk(rows)
    assert isinstance(bodies, list)
    return [igzip.compress(body, 1) for body in bodies]


def webhook(rows: list[Row]) -> object:
    """JSON arrays."""
    batches, _ = batches_of(entries_of(rows, KINDS), max_bytes=1 << 20, max_records=500)
    return [body_of(batch, "array") for batch in batches]


async def webhook_sent(rows: list[Row], records: int) -> float:
    """Records per CPU second of client and server together."""

    async def take(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response()

    runner = web.ServerRunner(web.Server(take, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sink = WebhookSink(HttpClient(timeout_s=60.0), [f"http://127.0.0.1:{runner.addresses[0][1]}/"])
    started = time.process_time()
    for at in range(0, len(rows), 8):
        await sink.send(list(enumerate(rows[at : at + 8])))
    used_s = time.process_time() - started
    await sink.close()
    await runner.cleanup()
    return records / used_s


def main() -> None:
    """Print the figures."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 60_000
    lines = [line for _, line in simulate(SimulationSettings(seed=7, messages=wanted // 35, messages_per_second=60.0))]
    rows = rows_of(lines)
    records = sum(count for row in rows for _, count, _ in row.segments)
    size = sum(len(body) for row in rows for _, _, body in row.segments)
    print(f"{len(lines)} lines, {records} records of {size / records:.0f} bytes on average")
    print(f"kafka: messages           {rate(kafka, rows, records):10.0f} records/s")
    print(f"kafka: queued, purged     {rate(kafka_queued, rows, records):10.0f} records/s")
    print(f"splunk_hec: bodies        {rate(splunk, rows, records):10.0f} records/s")
    print(f"splunk_hec: with gzip     {rate(splunk_gzip, rows, records):10.0f} records/s")
    print(f"webhook: bodies           {rate(webhook, rows, records):10.0f} records/s")
    print(f"webhook: over loopback    {asyncio.run(webhook_sent(rows, records)):10.0f} records/s")


if __name__ == "__main__":
    main()
