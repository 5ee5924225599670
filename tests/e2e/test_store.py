"""The embedded store of a running sidecar: what ended is found, also after a restart and after `kill -9`, and it is in nobody's way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.e2e.sender import Sender, Target
from tests.e2e.sidecar import Sidecar, Sidecars, esa_tls, mounted, stored_lines, wait_for, write_config
from tests.property.truth import Reading, Simulated, differences
from tests.unit.api.cases import CLEAR_DELIVERY, END, MESSAGE

from esa_tls.offline.simulate import SimulationSettings
from esa_tls.store.answers import Filter, StoreStatus
from esa_tls.store.query import StoreReader

WITHIN_S = 60.0
EVIDENCE = frozenset({"cisco_esa.tls.evidence", "cisco_esa.reception.tls.evidence"})
"""A restart breaks the feed: `absence` may have become `absence_lossy`."""


def deliver(sidecar: Sidecar, lines: list[bytes], *, tag: str = "esa1", frame_lines: int = 200) -> None:
    """Send lines until all are acknowledged."""
    sender = Sender(Target(sidecar.port), tag=tag)
    for at in range(0, len(lines), frame_lines):
        assert sender.deliver(lines[at : at + frame_lines])
    sender.close()


def all_records(path: Path) -> list[dict[str, Any]]:
    """Everything in the store, through its reader."""

    async def read() -> list[dict[str, Any]]:
        store, found, after = StoreReader(path, max_question_s=60), [], None
        while True:
            page = await store.search(Filter(), limit=1_000, after=after)
            found += [hit.record for hit in page.hits]
            after = page.next
            if after is None:
                await store.close()
                return found

    return asyncio.run(read())


def status_of(path: Path) -> StoreStatus:
    """What the store holds."""

    async def read() -> StoreStatus:
        store = StoreReader(path)
        try:
            return await store.status()
        finally:
            await store.close()

    return asyncio.run(read())


def worker_of(sidecar: Sidecar) -> psutil.Process:
    """The store's writer."""
    (worker,) = (one for one in psutil.Process(sidecar.pid).children() if "esa_tls.store.worker" in one.cmdline())
    return worker


def caught_up(sidecar: Sidecar) -> None:
    """Return when the store has everything."""
    wait_for(
        "the store has everything",
        lambda: (
            sidecar.metric("esa_tls_sink_oldest_unsent_age_seconds", sink="store") == 0
            and sidecar.metric("esa_tls_sink_records_sent_total", sink="store") > 0
        ),
        within_s=WITHIN_S,
    )


def looked_up(sidecar: Sidecar, *question: str) -> list[dict[str, Any]]:
    """What `esa-tls lookup --json` tells."""
    ran = esa_tls("lookup", "--address", f"127.0.0.1:{sidecar.ports['api']}", "--json", *question)
    assert ran.returncode in (0, 1), ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]


def test_the_store_holds_what_the_truth_says_over_kills(tmp_path: Path, sidecars: Sidecars) -> None:
    """Simulated mail while the sidecar and the writer are killed: the store holds exactly the records of the truth, each once."""
    world = Simulated(SimulationSettings(seed=5, messages=300))
    lines = [line for _, line, _ in world.lines]
    config = write_config(tmp_path, store={})
    path = tmp_path / "data" / "store.sqlite"
    quarter = len(lines) // 4
    for n in range(4):
        sidecar = sidecars.start(config)
        deliver(sidecar, lines[n * quarter : (n + 1) * quarter if n < 3 else len(lines)])
        match n:
            case 0:
                sidecar.kill()  # at once, whatever the store has by now
            case 1:
                worker = worker_of(sidecar)
                caught_up(sidecar)
                sidecar.kill()
                wait_for("the writer ends with its sidecar", lambda worker=worker: not worker.is_running(), within_s=WITHIN_S)  # type: ignore[misc]
            case 2:
                worker_of(sidecar).kill()
                assert 0 == sidecar.drain()
            case _:
                assert 0 == sidecar.drain()

    reading = Reading()
    reading.records = all_records(path)
    assert [] == differences(world, reading, ignore=EVIDENCE)
    out = [json.loads(raw) for raw in stored_lines(tmp_path / "records.jsonl")]
    written = [record for record in out if record["cisco_esa"]["record"] != "line"]
    assert sorted(record["event"]["id"] for record in reading.records) == sorted(record["event"]["id"] for record in written)
    status = status_of(path)
    assert sum(status.records.values()) == len(written)
    of_lines = [record["cisco_esa"] for record in out if record["cisco_esa"]["record"] == "line"]
    assert status.lines == sum("connection" in own or "mid" in own for own in of_lines)
    assert status.gaps == []


def test_ended_entries_are_found_after_a_restart(tmp_path: Path, sidecars: Sidecars) -> None:
    """`lookup` tells of an open message as it is now, of one that ended its whole record, in the next life too, and after a kill."""
    config = write_config(tmp_path, store={})
    sidecar = sidecars.start(config)
    deliver(sidecar, MESSAGE)
    (open_one,) = looked_up(sidecar, "--mid", "21")
    assert open_one["state"] == "open"
    assert "posture_out" in open_one["record"]["cisco_esa"]
    deliver(sidecar, CLEAR_DELIVERY + END)
    wait_for("the message is filed", lambda: sidecar.metric("esa_tls_store_records") >= 3, within_s=WITHIN_S)
    for ending in (Sidecar.drain, Sidecar.kill):
        for question in (["--mid", "21"], ["--message-id", "<one@example.net>"], ["--recipient", "bob@EXAMPLE.org"]):
            (gone,) = looked_up(sidecar, *question)
            own = gone["record"]["cisco_esa"]
            assert (gone["state"], own["posture"], own["message"]["end"]) == ("gone", "exposed", "finished")
            assert [(one["address"], one["result"], one["in_clear"]) for one in own["recipients"]] == [
                ("Bob@Example.org", "delivered", True)
            ]
        (delivery,) = looked_up(sidecar, "--dcid", "31")
        assert delivery["record"]["cisco_esa"]["tls"]["outcome"] == "none"
        assert looked_up(sidecar, "--mid", "22") == []
        ending(sidecar)
        sidecar = sidecars.start(config)


def test_it_is_on_without_a_word(tmp_path: Path, sidecars: Sidecars) -> None:
    """A configuration that does not speak of the store has one, in the data folder, for its owner's eyes only; `store: null` has none."""
    config = write_config(tmp_path)
    config.write_text(config.read_text().replace("store: null\n", ""))
    sidecar = sidecars.start(config)
    deliver(sidecar, MESSAGE + CLEAR_DELIVERY + END)
    wait_for("records are filed", lambda: sidecar.metric("esa_tls_store_records") > 0, within_s=WITHIN_S)
    assert (tmp_path / "data" / "store.sqlite").stat().st_mode & 0o777 == 0o600
    assert 0 == sidecar.drain()
    assert not (tmp_path / "data" / "store.sqlite-wal").exists() or (tmp_path / "data" / "store.sqlite-wal").stat().st_size == 0

    (tmp_path / "off").mkdir()
    off = sidecars.start(write_config(tmp_path / "off", store=None))
    assert psutil.Process(off.pid).children() == []
    assert 0 == off.drain()
    assert not (tmp_path / "off" / "data" / "store.sqlite").exists()


def test_a_newer_store_is_refused_at_the_start(tmp_path: Path, sidecars: Sidecars) -> None:
    """A store of a newer version ends the start with a sentence, before anything is taken in; the store stays as it is."""
    import sqlite3

    config = write_config(tmp_path, store={})
    assert 0 == sidecars.start(config).drain()
    path = tmp_path / "data" / "store.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()

    refused = sidecars.launch(config)

    assert 1 == refused.until_ended()
    assert refused.log[-1].startswith(f"esa-tls: {path} was written by a newer esa-tls (version 99")
    assert path.read_bytes() == before


def test_a_broken_store_stops_nothing(tmp_path: Path, sidecars: Sidecars) -> None:
    """A store that is rubbish is set aside with a log line and a count; lines are taken in, and a new store begun."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "store.sqlite").write_bytes(b"rubbish " * 5_000)
    sidecar = sidecars.start(write_config(tmp_path, store={}))
    deliver(sidecar, MESSAGE + CLEAR_DELIVERY + END)
    wait_for("records are filed", lambda: sidecar.metric("esa_tls_store_records") >= 3, within_s=WITHIN_S)
    assert 1 == sidecar.metric("esa_tls_store_set_aside_total")
    assert sum("The store's file is broken: it was set aside as store.sqlite.damaged" in line for line in sidecar.log) == 1
    assert 0 == sidecar.drain()
    assert (tmp_path / "data" / "store.sqlite.damaged").read_bytes() == b"rubbish " * 5_000
    assert [one.reason for one in status_of(tmp_path / "data" / "store.sqlite").gaps] == ["damaged"]


def test_a_full_disk_under_the_store_stops_nobody(tmp_path: Path, sidecars: Sidecars) -> None:
    """While the store's disk has no room, lines are acknowledged and other sinks get everything; when there is room, so does the store."""
    with ExitStack() as stack:
        try:
            small = stack.enter_context(mounted(tmp_path / "small", size_mib=4))
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            pytest.skip(f"no tmpfs can be mounted here: {error}")
        _fill_the_disk(tmp_path, small, sidecars)  # outside of the `try`: its own errors are failures


def _fill_the_disk(tmp_path: Path, small: Path, sidecars: Sidecars) -> None:
    world = Simulated(SimulationSettings(seed=6, messages=150))
    lines = [line for _, line, _ in world.lines]
    sidecar = sidecars.start(write_config(tmp_path, store={"path": str(small / "store.sqlite")}))
    filler = small / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    deliver(sidecar, lines)
    wait_for("the store fails", lambda: sidecar.metric("esa_tls_sink_retries_total", sink="store") > 0, within_s=WITHIN_S)
    wait_for(
        "the file sink has every line",
        lambda: sidecar.metric("esa_tls_sink_records_sent_total", sink="jsonl", kind="line") >= len(lines),
        within_s=WITHIN_S,
    )
    filler.unlink()
    caught_up(sidecar)
    assert 0 == sidecar.drain()
    reading = Reading()
    reading.records = all_records(small / "store.sqlite")
    assert [] == differences(world, reading, ignore=EVIDENCE)


def test_ctrl_c_reaches_both_and_ends_both_in_order(tmp_path: Path, sidecars: Sidecars) -> None:
    """SIGINT to the whole group, as a terminal sends it: what was taken in is filed before either process ends."""
    sidecar = sidecars.start(write_config(tmp_path, store={}))
    worker = worker_of(sidecar)
    deliver(sidecar, MESSAGE + CLEAR_DELIVERY + END)
    os.kill(worker.pid, signal.SIGINT)
    sidecar.process.send_signal(signal.SIGINT)
    assert 0 == sidecar.until_ended()
    wait_for("the writer ended", lambda: not worker.is_running(), within_s=WITHIN_S)
    assert status_of(tmp_path / "data" / "store.sqlite").records["message"] == 1
