"""Memory of the core per open entry: 40,000 open messages and their 10,000 connections, against a core with none.

What Python allocated for them (tracemalloc, exact). The state keeps nothing here, so only what the core itself holds is counted: entries,
their places in the cache and their deadlines. Two figures: with the encoded pieces that the core keeps of connections it has just worked
on (hot caches), and without them. Bar for the second: 1 KiB.
Run: python tests/bench/bench_memory.py [open messages]
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Iterator

import msgspec

from esa_tls.core.batch import Batch, Origin, Run
from esa_tls.core.connections import Leg
from esa_tls.core.pipeline import CoreSettings, Pipeline

OPEN_MESSAGES = 40_000
BATCH_LINES = 1_000
BAR_BYTES = 1024

STAMP = b"Mon Nov 24 00:00:00 2025"


class Cost(msgspec.Struct, frozen=True):
    """Bytes per open entry, without and with hot caches."""

    entries: int
    cold_bytes: float
    hot_bytes: float


class Forgetful:
    """A state that keeps nothing: what is in memory is the core's own."""

    def get(self, _key: bytes) -> bytes | None:
        """Nothing."""
        return None

    def items(self, _prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Nothing."""
        yield from ()


def open_messages(messages: int) -> Iterator[bytes]:
    """Lines after which so many messages wait to be delivered, four to a reception (which is closed, but may get late lines)."""
    for n in range(messages):
        mid, icid = 1_000_000 + n, 2_000_000 + n // 4
        if n % 4 == 0:
            yield b"%s Info: New SMTP ICID %d interface D1 (192.0.2.1) address 198.51.100.7 reverse dns host mx.test" % (
                STAMP,
                icid,
            )
            yield b"%s Info: ICID %d ACCEPT SG UNKNOWNLIST match sbrs[-1.0:10.0] SBRS 3.4 country United States" % (STAMP, icid)
            yield b"%s Info: ICID %d TLS success protocol TLSv1.2 cipher ECDHE-RSA-AES256-GCM-SHA384" % (STAMP, icid)
        yield b"%s Info: Start MID %d ICID %d" % (STAMP, mid, icid)
        yield b"%s Info: MID %d ICID %d From: <sender%d@example.com>" % (STAMP, mid, icid, n)
        yield b"%s Info: MID %d ICID %d RID 0 To: <user%d@example.org>" % (STAMP, mid, icid, n)
        yield b"%s Info: MID %d Message-ID '<%d.abcdef@example.com>'" % (STAMP, mid, n)
        yield b"%s Info: MID %d Subject 'Message number %d'" % (STAMP, mid, n)
        yield b"%s Info: MID %d ready 12345 bytes from <sender%d@example.com>" % (STAMP, mid, n)
        yield b"%s Info: MID %d queued for delivery" % (STAMP, mid)


def feed(pipeline: Pipeline, lines: Iterator[bytes]) -> None:
    """Lines in batches, each sealed; what comes out is thrown away."""
    origin = Origin(tag="esa1")
    batch: list[bytes] = []
    for line in lines:
        batch.append(line)
        if len(batch) == BATCH_LINES:
            pipeline.feed(Batch([Run(origin, batch)], 1), now_s=1.8e9)
            pipeline.seal()
            batch = []
    pipeline.feed(Batch([Run(origin, batch)], 1), now_s=1.8e9)
    pipeline.seal()


def forget(leg: Leg) -> None:
    """Drop what encoders keep with a leg."""
    leg.json = leg.forward = leg.otlp = leg.kept = None


def measure(messages: int = OPEN_MESSAGES) -> Cost:
    """Fill one core, then empty its caches. The window of seen lines is filled before and turned over after, so it does not count."""
    pipeline = Pipeline(CoreSettings(appliance_name="esa1"), Forgetful(), encodings=("json",), now_s=1.8e9)
    feed(pipeline, (b"%s Info: filler %d" % (STAMP, n) for n in range(10_000)))
    later = (line.replace(STAMP, b"Mon Nov 24 00:00:01 2025") for line in open_messages(messages))
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        feed(pipeline, later)
        feed(pipeline, (b"Mon Nov 24 00:00:02 2025 Info: filler %d" % n for n in range(10_000)))
        gc.collect()
        hot, _ = tracemalloc.get_traced_memory()
        entries = pipeline.boxes["esa1"].correlator.entries
        for connection in (*entries.inbound.values(), *entries.outbound.values()):
            forget(connection.leg)
        for message in entries.messages.values():
            if message.reception is not None:
                forget(message.reception)
        gc.collect()
        cold, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    count = sum(entries.open_count.values())
    return Cost(count, (cold - before) / count, (hot - before) / count)


def main() -> None:
    """Print the figures."""
    cost = measure(int(sys.argv[1]) if len(sys.argv) > 1 else OPEN_MESSAGES)
    verdict = "ok" if cost.cold_bytes <= BAR_BYTES else "OVER THE BAR"
    print(
        f"{cost.entries} open entries: {cost.cold_bytes:.0f} bytes each (bar {BAR_BYTES}: {verdict}); {cost.hot_bytes:.0f} with hot caches"
    )


if __name__ == "__main__":
    main()
