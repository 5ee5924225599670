"""The store as a sink: through its own process, over crashes and restarts, and never in anybody's way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.contract.delivery_fakes import FakeOutbox, Ledger, dispatcher, run_dry
from tests.unit.store.store_cases import LIMITS, MESSAGE, all_of, asked, ids, made, rollups, simulated, stored_ids

from esa_tls import telemetry
from esa_tls.errors import StoreTooNew, StoreUnreadable, TransientError
from esa_tls.runtime.dispatch import Dispatcher, Sink
from esa_tls.store import overview
from esa_tls.store.sink import StoreSink
from esa_tls.telemetry import Counters


@asynccontextmanager
async def opened(path: Path, state: bytes | None = None, **options: Any) -> AsyncIterator[StoreSink]:
    """A sink that is open."""
    sink = StoreSink(path, LIMITS, **{"counters": Counters(), "linger_s": 0.0, **options})
    try:
        await sink.open(state)
        yield sink
    finally:
        await sink.close()


def number(counters: Counters, name: str, **labels: str) -> float:
    """A counter's value."""
    return counters.value(name, **labels)


async def test_what_is_sent_is_in_the_file(tmp_path: Path) -> None:
    """When `send` returns, the records are there; the state goes on over a restart and repeats nothing."""
    traffic = simulated(messages=60)
    half = len(traffic.rows) // 2
    async with opened(tmp_path / "s") as sink:
        checked: Sink = sink
        assert (checked.name, checked.encoding, checked.cls_wanted) == ("store", "store", ("line", "summary"))
        await sink.send(traffic.rows[:half])
        there = set(stored_ids(tmp_path / "s"))
        state = sink.state()
    async with opened(tmp_path / "s", state) as sink:
        await sink.send(traffic.rows[half - 5 :])
        assert sink.state() == state
    assert there < set(stored_ids(tmp_path / "s"))
    assert sorted(stored_ids(tmp_path / "s")) == sorted(ids(traffic.records))


async def test_without_lines_none_are_asked_for(tmp_path: Path) -> None:
    """With `lines: false` the outbox keeps no line for the store."""
    import msgspec

    sink = StoreSink(tmp_path / "s", msgspec.structs.replace(LIMITS, lines=False), counters=Counters())
    assert sink.cls_wanted == ("summary",)
    assert "line" not in sink.kinds


async def test_the_writer_may_die_at_any_moment(tmp_path: Path) -> None:
    """A writer that is killed again and again, in the middle of rows too: all records come, once, and all counts are right."""
    traffic = simulated(messages=80)
    path = tmp_path / "s"
    async with opened(path) as sink:
        for at in range(0, len(traffic.rows), 4):
            rows = traffic.rows[at : at + 4]
            worker = sink._worker
            sending = asyncio.create_task(sink.send(rows))
            await asyncio.sleep(0.002 * (at % 5))
            if worker is not None and at % 3 == 0:
                worker.kill()
            with contextlib.suppress(TransientError):
                await sending
                continue
            await sink.send(rows)
    whole = tmp_path / "whole"
    async with opened(whole) as sink:
        await sink.send(traffic.rows)
    assert sorted(stored_ids(path)) == sorted(stored_ids(whole)) == sorted(ids(traffic.records))
    assert rollups(path) == rollups(whole)


async def test_the_whole_way_with_its_dispatcher(tmp_path: Path) -> None:
    """Dispatcher, cursor and store together over several starts: every record once."""
    traffic = simulated(messages=60)
    outbox, ledger = FakeOutbox(), Ledger()
    for n in range(3):
        share = traffic.rows[n * len(traffic.rows) // 3 : (n + 1) * len(traffic.rows) // 3]
        await outbox.commit(*(row for _, row in share))
        sink = StoreSink(tmp_path / "s", LIMITS, counters=Counters(), linger_s=0.0)
        one: Dispatcher = dispatcher(sink, outbox, ledger)
        if (place := await one.prepare()) is not None:
            ledger.save_cursor("store", place)
        await run_dry(one)
    assert sorted(stored_ids(tmp_path / "s")) == sorted(ids(traffic.records))


async def test_few_rows_wait_for_more_and_many_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a small write the next is asked for a moment later; after a large one at once."""
    waited: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await real(0)

    traffic = simulated(messages=60)
    async with opened(tmp_path / "s", linger_s=9.0) as sink:
        monkeypatch.setattr("esa_tls.store.sink.asyncio.sleep", sleep)
        await sink.send(traffic.rows[:1])
        assert [0 < seconds <= 9.0 for seconds in waited] == [True]
        monkeypatch.setattr("esa_tls.store.sink.FULL_BYTES", 1_000)
        await sink.send(traffic.rows[1:])
    assert len(waited) == 1


async def test_too_far_behind_it_passes_records_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When the journal fills up because of it, rows are let go, counted and noted; later ones are filed again. It is logged once."""
    traffic, counters = simulated(messages=60), Counters()
    behind = False
    third = len(traffic.rows) // 3
    async with opened(tmp_path / "s", counters=counters, behind=lambda: behind) as sink:
        await sink.send(traffic.rows[:third])
        before = stored_ids(tmp_path / "s")
        behind = True
        for at in range(third, 2 * third, 3):
            await sink.send(traffic.rows[at : min(at + 3, 2 * third)])
        assert stored_ids(tmp_path / "s") == before
        behind = False
        await sink.send(traffic.rows[2 * third :])
    passed = sum(count for _, row in traffic.rows[third : 2 * third] for _, count, _ in row.segments)
    assert number(counters, telemetry.SINK_DROPPED, sink="store", reason="behind") == passed > 0
    assert [(one.reason, one.records) for one in asked(tmp_path / "s", overview.status).gaps] == [("behind", passed)]
    assert len(stored_ids(tmp_path / "s")) > len(before)
    assert [record.levelno for record in caplog.records if "too far behind" in record.message] == [logging.WARNING]


async def test_a_broken_file_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file of rubbish is set aside at the start: a log line, a count, and records go into a new one."""
    (tmp_path / "s").write_bytes(b"rubbish " * 2_000)
    counters = Counters()
    async with opened(tmp_path / "s", counters=counters) as sink:
        await sink.send(made(*MESSAGE).rows)
        assert number(counters, telemetry.STORE_SET_ASIDE) == 1
        sink.report_damage((tmp_path / "s").stat().st_ino)
        await sink.send(made(*MESSAGE, first=100).rows)
        assert number(counters, telemetry.STORE_SET_ASIDE) == 2
        sink.report_damage(12)
        await sink.send(made(*MESSAGE, first=200).rows)
        assert number(counters, telemetry.STORE_SET_ASIDE) == 2
    assert len(stored_ids(tmp_path / "s")) == 4
    assert sum("set aside as s.damaged" in record.message for record in caplog.records) == 2


async def test_a_newer_file_stops_the_start(tmp_path: Path) -> None:
    """A file of a newer version, or of another program, is an error at `open`, told in a sentence; no process is left."""
    async with opened(tmp_path / "s"):
        pass
    all_of(tmp_path / "s", "PRAGMA user_version = 99")
    all_of(tmp_path / "other", "CREATE TABLE theirs (x)")
    for name, error in (("s", StoreTooNew), ("other", StoreUnreadable)):
        sink = StoreSink(tmp_path / name, LIMITS, counters=Counters())
        with pytest.raises(error):
            await sink.open(None)
        assert sink._worker is None


async def test_a_folder_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    """A disk that does not let it is a failure that passes: nothing is lost by it."""
    (tmp_path / "file").write_text("")
    sink = StoreSink(tmp_path / "file" / "s", LIMITS, counters=Counters(), linger_s=0.0)
    with pytest.raises(TransientError, match="store: "):
        await sink.open(None)
    with pytest.raises(TransientError):
        await sink.send(made(*MESSAGE).rows)
    (tmp_path / "file").unlink()
    await sink.send(made(*MESSAGE).rows)
    await sink.close()
    assert len(stored_ids(tmp_path / "file" / "s")) == 4


async def test_it_ends_at_any_moment(tmp_path: Path) -> None:
    """Closed before it was opened, twice, or while it waits for its writer: it ends soon, and no process stays."""
    never = StoreSink(tmp_path / "never", LIMITS, counters=Counters())
    await never.close()
    await never.close()
    with pytest.raises(TransientError, match="closed"):
        await never.open(None)
    async with opened(tmp_path / "s") as sink:
        worker = sink._worker
        assert worker is not None
        os.kill(worker.pid, signal.SIGSTOP)
        sending = asyncio.create_task(sink.send(made(*MESSAGE).rows))
        while not sink._talking.locked():  # noqa: ASYNC110 (nothing tells when a thread has got there)
            await asyncio.sleep(0)
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending
        try:
            async with asyncio.timeout(30):
                await sink.close()
            assert worker.poll() is not None
        finally:
            worker.kill()
        await sink.close()


async def test_numbers_are_told(tmp_path: Path) -> None:
    """Size, records, lines, what was removed and what could not be read are metrics."""
    import msgspec

    from esa_tls.core.batch import Row

    counters = Counters()
    limits = msgspec.structs.replace(LIMITS, max_bytes=1)
    sink = StoreSink(tmp_path / "s", limits, counters=counters, linger_s=0.0)
    await sink.open(None)
    traffic = simulated(messages=30)
    removed = 0.0
    rows = traffic.rows
    for n in range(2_000):
        await sink.send(rows)
        removed = number(counters, telemetry.STORE_REMOVED, reason="size")
        if removed:
            break
        rows = [(10_000 + n, Row("summary", "store", [("message", 1, b"{\n")]))]
        await asyncio.sleep(0.01)
    text = counters.prometheus_text()
    await sink.close()
    assert removed == len(traffic.records)
    assert number(counters, telemetry.STORE_UNREADABLE) >= 1
    for name in ("esa_tls_store_size_bytes", "esa_tls_store_records", "esa_tls_store_lines"):
        assert f"\n{name} " in text
