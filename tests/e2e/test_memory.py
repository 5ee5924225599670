"""Memory: flat under load whatever goes through, and bounded per open entry."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import pytest
from tests.bench.bench_memory import measure
from tests.e2e.sidecar import Sidecars, write_config
from tests.e2e.test_run import deliver

from esa_tls.offline.simulate import SimulationSettings, simulate

NIGHTLY = bool(os.environ.get("ESA_TLS_NIGHTLY"))
LINES = 3_000_000 if NIGHTLY else 150_000
GROWTH_BYTES = 24 << 20

ENTRY_BYTES = 1_024
"""What an open entry may cost."""


@pytest.mark.timeout(0 if NIGHTLY else 180)
def test_memory_stays_flat(tmp_path: Path, sidecars: Sidecars) -> None:
    """After a third of the load it has all the memory that it will ever need, though connections and messages come and go."""
    config = write_config(
        tmp_path,
        journal={"max_bytes": 64 << 20},
        cache_entries=1_000,
        sinks=[{"type": "jsonl", "path": "/dev/null", "records": ["line", "connection", "delivery", "message"]}],
    )
    # a year of event time, so that what is open ends, and what has ended is forgotten, all the while
    settings = SimulationSettings(seed=41, messages=LINES, messages_per_second=LINES / 30 / (365 * 86_400))
    lines = (line for _, line in simulate(settings))
    sidecar = sidecars.start(config)
    seen: list[int] = []
    for _ in range(6):
        deliver(sidecar, list(islice(lines, LINES // 6)), frame_lines=1000)
        seen.append(sidecar.rss_bytes())
    print("RSS in MiB:", [rss >> 20 for rss in seen])
    assert max(seen[2:]) - seen[1] < GROWTH_BYTES, [rss >> 20 for rss in seen]
    assert sidecar.metric("esa_tls_lines_total") == LINES
    assert 0 == sidecar.drain()


def test_an_open_entry_is_small() -> None:
    """An open message or connection costs no more than 1 KiB, without what is cached for hot ones."""
    cost = measure(6_000)

    assert cost.entries == 7_500
    assert cost.cold_bytes <= ENTRY_BYTES, cost
