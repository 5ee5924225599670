"""The bulk interface: records a second encoded, compressed, and into a real OpenSearch, which is the limit and not us.

Encoding is what the sink does with outbox bytes until a request's body is there. Into the store: one sink, one request at a time, our
templates, a node with 512 MB of heap on this machine; beside it, of the same run, what the sink costs in CPU, and what a record takes on
the store's disk. The first rounds warm up the store. CPU seconds of this process for encoding, wall seconds for the store. Without a JDK
and Maven the second part is left out. Run: python tests/bench/bench_elasticsearch.py [lines]
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import time
from pathlib import Path

from isal import igzip

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.peers import building
from tests.peers.searching import OpenSearch

from esa_tls.core.batch import Batch, Origin, Row, Run
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.records import KINDS
from esa_tls.core.state import DictState
from esa_tls.offline.simulate import SimulationSettings, simulate
from esa_tls.sinks.elasticsearch import DEFAULT_MAX_REQUEST_BYTES, DEFAULT_MAX_REQUEST_RECORDS, ElasticsearchSink, StoreBusy
from esa_tls.sinks.elasticsearch_nodes import Nodes
from esa_tls.templates import Access, Wanted, applied
from esa_tls.wire.elasticsearch import body_of, encode

ROUNDS = 5
BATCH_BYTES = 8 << 20


def rows_of(lines: list[bytes], appliance: str) -> list[Row]:
    """What the core makes of them, in groups of 2,000 lines."""
    pipeline = Pipeline(CoreSettings(appliance_name=appliance), DictState(), encodings=("json",), now_s=1.7e9)
    rows = []
    for at in range(0, len(lines), 2000):
        pipeline.feed(Batch([Run(Origin(tag="esa"), lines[at : at + 2000])], 1), now_s=1.7e9)
        sealed = pipeline.seal()
        assert sealed is not None
        rows += sealed.rows
    return rows


def records_in(rows: list[Row]) -> int:
    """How many."""
    return sum(count for row in rows for _, count, _ in row.segments)


def encoding(rows: list[Row]) -> tuple[float, float, list[bytes]]:
    """(records per CPU second without and with gzip, best of 5; bodies)."""
    segments = [(n, at, kind, body) for n, row in enumerate(rows) for at, (kind, _, body) in enumerate(row.segments)]
    records, plain, packed = records_in(rows), 0.0, 0.0
    bodies: list[bytes] = []
    for _ in range(ROUNDS):
        gc.collect()
        gc.disable()
        started = time.process_time()
        bulks = encode(segments, namespace="default", max_bytes=DEFAULT_MAX_REQUEST_BYTES, max_records=DEFAULT_MAX_REQUEST_RECORDS)
        bodies = [body_of(bulk) for bulk in bulks]
        plain = max(plain, records / (time.process_time() - started))
        for body in bodies:
            igzip.compress(body, 1)
        packed = max(packed, records / (time.process_time() - started))
        gc.enable()
    return plain, packed, bodies


async def into(node: OpenSearch, rows: list[Row]) -> tuple[float, float]:
    """(records per second, records per CPU second of ours) of one round."""
    batches: list[list[tuple[int, Row]]] = [[]]
    size = 0
    for sequence, row in enumerate(rows):
        batches[-1].append((sequence, row))
        size += sum(len(body) for _, _, body in row.segments)
        if size >= BATCH_BYTES:
            batches.append([])
            size = 0
    sink = ElasticsearchSink(Nodes([node.url]))
    wall, cpu = time.monotonic(), time.process_time()
    for batch in batches:
        while True:
            try:
                await sink.send(batch)
                break
            except StoreBusy:  # a small heap
                await asyncio.sleep(0.1)
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    await sink.close()
    return records_in(rows) / wall, records_in(rows) / cpu


def store(lines: list[bytes]) -> None:
    """Print what the store takes."""
    try:
        built = building.OPENSEARCH.build()
    except building.NotBuilt as error:
        print(f"OpenSearch: {error}")
        return
    with tempfile.TemporaryDirectory() as folder:
        node = OpenSearch(built, Path(folder))
        try:
            applied("opensearch", node.start().url, Wanted(lifecycle="none", replicas=0), Access())
            records = 0
            for number in range(ROUNDS):
                rows = rows_of(lines, f"esa{number}")
                records += records_in(rows)
                rate, ours = asyncio.run(into(node, rows))
                print(f"into OpenSearch, round {number + 1} {rate:10.0f} records/s     our CPU allows {ours:10.0f} records/s")
            node.ask("POST", "/logs-cisco_esa.*/_forcemerge?max_num_segments=1")
            node.ask("POST", "/logs-cisco_esa.*/_flush?force=true")
            node.end()  # what was merged away is gone from the disk after a start
            node.start()
            for index in sorted(
                node.ask("GET", "/_cat/indices?format=json&bytes=b&expand_wildcards=all"), key=lambda one: str(one["index"])
            ):
                there = int(node.ask("GET", f"/{index['index']}/_count")["count"])
                if there:
                    print(f"{index['index']:42s} {there:8d} documents {int(index['store.size']) / there:6.0f} bytes each on disk")
            node.end()
        finally:
            node.make_sure_it_is_gone()


def main() -> None:
    """Print the figures."""
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 60_000
    lines = [line for _, line in simulate(SimulationSettings(seed=7, messages=wanted // 34, messages_per_second=60.0))]
    rows = rows_of(lines, "esa1")
    plain, packed, bodies = encoding(rows)
    records, size = records_in(rows), sum(map(len, bodies))
    small = sum(len(igzip.compress(body, 1)) for body in bodies)
    print(f"{len(lines)} lines, {records} records of {size / records:.0f} bytes with their action, {small / records:.0f} after gzip")
    for kind in KINDS:
        found = [(count, len(body)) for row in rows for name, count, body in row.segments if name == kind]
        if found:
            n = sum(count for count, _ in found)
            print(f"  {kind:12s} {n:8d} records of {sum(size for _, size in found) / n:.0f} bytes")
    print(f"encode                    {plain:10.0f} records/s")
    print(f"encode, gzip              {packed:10.0f} records/s")
    store(lines)


if __name__ == "__main__":
    main()
