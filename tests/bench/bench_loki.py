"""Loki speed: records a second made into entries, into requests packed by snappy, as JSON, and through the sink on loopback.

The records are those of simulated mail as they stand in the outbox, lines and summaries in their natural mix. "entries" is what the sink
adds to the core's work for each record; the bar is for that. CPU seconds of this process; through the sink client and server together.
Run: python tests/bench/bench_loki.py [lines]
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Callable
from itertools import count

from aiohttp import web

from esa_tls.core.batch import Batch, Origin, Row, Run
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.state import DictState
from esa_tls.offline.simulate import SimulationSettings, simulate
from esa_tls.sinks.http_client import HttpClient
from esa_tls.sinks.loki import DEFAULT_MAX_REQUEST_BYTES, LokiSink
from esa_tls.wire.loki import Form, Push, body_of, pushes_of, snappy
from esa_tls.wire.loki_entries import LABEL_FIELDS, Entries

BAR = 150_000
"""Records a second made into entries."""

RECORDS = 1_000

Segments = list[tuple[str, bytes]]


def rows_of(lines: list[bytes]) -> list[Row]:
    """Outbox rows of 2,000 lines, as the journal has them."""
    pipeline = Pipeline(CoreSettings(appliance_name="esa1"), DictState(), encodings=("json",), now_s=1.7e9)
    rows: list[Row] = []
    for n, at in enumerate(range(0, len(lines), RECORDS)):
        pipeline.feed(Batch([Run(Origin(tag="esa"), lines[at : at + RECORDS])], 1), now_s=1.7e9)
        if n % 2:
            sealed = pipeline.seal()
            rows += sealed.rows if sealed is not None else []
    return rows


def rate(call: Callable[[], int]) -> float:
    """Records per CPU second, best of 5."""
    best = 0.0
    for _ in range(5):
        gc.collect()
        gc.disable()
        started = time.process_time()
        done = call()
        best = max(best, done / (time.process_time() - started))
        gc.enable()
    return best


def encoded(segments: Segments, entries: Entries) -> int:
    """Make entries, and count them."""
    return sum(len(entries.of(kind, body)) for kind, body in segments)


def requests_of(rows: list[Row]) -> list[Push]:
    """What the sink would send, eight rows at a time."""
    entries = Entries()
    found: list[Push] = []
    for at in range(0, len(rows), 8):
        numbers = count()
        placed = [
            (entry, (0, 0, next(numbers)))
            for row in rows[at : at + 8]
            for kind, _, body in row.segments
            for entry in entries.of(kind, body)
            if entry is not None
        ]
        found += [push for stream in pushes_of(placed, max_bytes=DEFAULT_MAX_REQUEST_BYTES) for push in stream]
    return found


async def through_the_sink(rows: list[Row], form: Form) -> float:
    """Seconds of CPU for all rows, until a server has them that takes everything."""

    async def take(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(status=204)

    runner = web.ServerRunner(web.Server(take, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sink = LokiSink(HttpClient(timeout_s=60.0), [f"http://127.0.0.1:{runner.addresses[0][1]}"], Entries(), form=form)
    started = time.process_time()
    for at in range(0, len(rows), 8):
        await sink.send(list(enumerate(rows[at : at + 8])))
    seconds = time.process_time() - started
    await sink.close()
    await runner.cleanup()
    return seconds


def main() -> None:
    """Print the figures."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 80_000
    lines = [line for _, line in simulate(SimulationSettings(seed=7, messages=wanted // 32, messages_per_second=60.0))]
    rows = rows_of(lines)
    everything = [(kind, body) for row in rows for kind, _, body in row.segments]
    only_lines = [(kind, body) for kind, body in everything if kind == "line"]
    summaries = [(kind, body) for kind, body in everything if kind != "line"]
    records = sum(n for row in rows for _, n, _ in row.segments)
    size = sum(len(body) for _, body in everything)
    print(f"{records} records of {size / records:.0f} bytes in the outbox, {records - len(lines)} of them summaries")

    found = rate(lambda: encoded(everything, Entries()))
    print(f"entries                   {found:10.0f} records/s  (bar {BAR}: {'ok' if found >= BAR else 'UNDER THE BAR'})")
    print(f"  lines                   {rate(lambda: encoded(only_lines, Entries())):10.0f} records/s")
    print(f"  summaries               {rate(lambda: encoded(summaries, Entries())):10.0f} records/s")
    labelled = rate(lambda: encoded(everything, Entries(label_fields=LABEL_FIELDS)))
    print(f"  with all label fields   {labelled:10.0f} records/s")

    pushes = requests_of(rows)
    entry_bytes = sum(len(entry) for push in pushes for entry in push.entries)
    packed = sum(len(snappy(body_of(push, "protobuf"))) for push in pushes)
    print(f"put into requests, snappy {rate(lambda: packing(pushes)):10.0f} records/s", end="  ")
    print(f"{entry_bytes / records:.0f} bytes a record, {packed / records:.0f} packed; {len(pushes)} requests")
    some = pushes[:20]
    print(f"as JSON                   {rate(lambda: as_json(some)):10.0f} records/s")
    forms: tuple[Form, ...] = ("protobuf", "json")
    for form in forms:
        print(f"sink, {form:20s}{records / asyncio.run(through_the_sink(rows, form)):10.0f} records/s")


def packing(pushes: list[Push]) -> int:
    """Bodies of all requests, packed."""
    for push in pushes:
        snappy(body_of(push, "protobuf"))
    return sum(len(push.entries) for push in pushes)


def as_json(pushes: list[Push]) -> int:
    """The same in JSON, not packed."""
    for push in pushes:
        body_of(push, "json")
    return sum(len(push.entries) for push in pushes)


if __name__ == "__main__":
    main()
