"""A simulated week three ways: in one piece through the core, cut into daily files through `scan`, and sent through `run`.

The same records and ids each time. Aside by contract: `event.created`; what only the end of a file says (`stream_end`); lines that left
as `pending`; and in `run`, which cannot know what a shipper still holds when it starts, `absence` is `absence_lossy` for connections
that began within 600 s of the start, and for no other.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.e2e.reference import Record, Undisturbed, by_id, differences, kind_of, whole_lines, written
from tests.e2e.sidecar import Sidecars, esa_tls, wait_for, write_config
from tests.e2e.test_run import deliver

from esa_tls.core.pipeline import CoreSettings
from esa_tls.offline.simulate import SimulationSettings, simulate

NIGHTLY = bool(os.environ.get("ESA_TLS_NIGHTLY"))
MESSAGES = 10_000 if NIGHTLY else 600
WEEK_S = 7 * 86_400
START_S = SimulationSettings().start_s

AS_SCAN = CoreSettings(appliance_name="esa1", hold_by_event_time=True, starts_broken=False, late_batches=False)


def week() -> list[bytes]:
    """A week of one appliance."""
    return [line for _, line in simulate(SimulationSettings(seed=31, messages=MESSAGES, span_s=WEEK_S, quarantine_days=2.0))]


def daily_files(folder: Path, lines: list[bytes]) -> list[Path]:
    """The lines cut where the date changes."""
    files = []
    for n, (_, of_day) in enumerate(groupby(lines, key=lambda line: line[:10])):
        path = folder / f"mail.{n:02d}.log"
        path.write_bytes(b"\n".join(of_day) + b"\n")
        files.append(path)
    return files


def early_connections(lines: list[bytes], *, within_s: int) -> set[str]:
    """Ids of connections whose first line came so soon after the first line of all."""
    clock = {line[:24]: None for line in lines[:1]}
    first = time.mktime(time.strptime(next(iter(clock)).decode(), "%a %b %d %H:%M:%S %Y"))
    found = set()
    for line in lines:
        if time.mktime(time.strptime(line[:24].decode(), "%a %b %d %H:%M:%S %Y")) - first > within_s:
            break
        found |= {f"esa1/0/{kind.decode()}/{number.decode()}" for kind, number in re.findall(rb"\b([ID]CID) (\d+)", line)}
    return found


def softened(node: Any, early: set[str], connection: str | None = None) -> Any:
    """A copy in which `absence` is `absence_lossy` wherever the connection it speaks of is one of `early`."""
    if isinstance(node, list):
        return [softened(one, early, connection) for one in node]
    if not isinstance(node, dict):
        return node
    own = node.get("connection_id") or (node["connection"].get("id") if isinstance(node.get("connection"), dict) else None) or connection
    copy = {key: softened(value, early, own) for key, value in node.items()}
    if copy.get("evidence") == "absence" and own in early:
        copy["evidence"] = "absence_lossy"
    return copy


def scanned(output: Path) -> Iterator[Record]:
    """Records that `scan` wrote."""
    with output.open("rb") as file:
        for line in whole_lines(file):
            yield msgspec.json.decode(line)


@pytest.mark.timeout(0 if NIGHTLY else 120)
def test_a_week_is_the_same_three_ways(tmp_path: Path, sidecars: Sidecars) -> None:
    """One piece, daily files and the sidecar give the same records and ids."""
    lines = week()
    core = Undisturbed(AS_SCAN, source="scan").feed(lines, tag="esa1", batch_lines=len(lines))
    before_the_end = core.records()
    at_the_end = core.end_stream().records()
    ends = {record_id for record_id, record in at_the_end.items() if kind_of(record) != "line"}
    assert len(before_the_end) > len(lines)

    files = daily_files(tmp_path, lines)
    assert len(files) >= 7
    output = tmp_path / "scan.jsonl"
    started_s = time.monotonic()
    with output.open("wb") as out:
        assert 0 == esa_tls("scan", "--appliance", "esa1", *files, stdout_to=out).returncode
    print(f"scan: {len(lines)} lines of {len(files)} days in {time.monotonic() - started_s:.1f} s")
    assert [] == differences({**before_the_end, **at_the_end}, by_id(scanned(output)))

    config = write_config(tmp_path, appliance={"name": "esa1"}, max_hold_s=0.5)
    sidecar = sidecars.start(config)
    started_s = time.monotonic()
    deliver(sidecar, lines, frame_lines=1000)
    print(f"run: the same, sent and acknowledged in {time.monotonic() - started_s:.1f} s")
    wait_for("held lines left", lambda: sidecar.metric("esa_tls_lines_held") == 0, within_s=20)
    assert 0 == sidecar.drain()
    early = early_connections(lines, within_s=600)
    expected = {
        record_id: softened(record, early) for record_id, record in {**before_the_end, **at_the_end}.items() if record_id not in ends
    }
    got = written(tmp_path / "records.jsonl")
    assert [] == differences(expected, {record_id: softened(record, early) for record_id, record in got.items()}, pending=True)
    assert any(b'"absence"' in msgspec.json.encode(record) for record in got.values())
