"""The reader: questions from an event loop, beside a writer, over a file that comes, goes, breaks or is replaced."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.unit.store.store_cases import LIMITS, MESSAGE, all_of, filed, ids, made, simulated, writing

from esa_tls.errors import StoreBusy, StoreTooNew, StoreUnreadable
from esa_tls.store import search
from esa_tls.store.answers import Filter, Found, Page, StoreStatus
from esa_tls.store.query import StoreReader
from esa_tls.store.view import View
from esa_tls.store.worker import Open, SetAside, Worker

CALLS: dict[str, Any] = {
    "search": lambda store: store.search(Filter(text="MID 21")),
    "record": lambda store: store.record("6923a0015a1f4a1c76e1e2daa9"),
    "message": lambda store: store.message("esa1", 0, 21),
    "connection": lambda store: store.connection("esa1/0/ICID/11"),
    "overview": lambda store: store.overview(),
    "top": lambda store: store.top("clear_out_domains"),
    "tally": lambda store: store.tally(Filter()),
    "lookup": lambda store: store.lookup("mid", 21),
    "appliances": lambda store: store.appliances(),
    "status": lambda store: store.status(),
}


async def test_every_question_has_its_answer(tmp_path: Path) -> None:
    """Each call of the reader answers from the file."""
    whole = made(*MESSAGE)
    filed(tmp_path / "s", whole.rows)
    store = StoreReader(tmp_path / "s")
    try:
        answers = {name: await call(store) for name, call in CALLS.items()}
        message = whole.of("message")[0]
        assert [hit.record["cisco_esa"]["record"] for hit in answers["search"].hits] == ["message", "delivery"]
        assert answers["message"].message == message
        assert answers["connection"].messages == [message]
        assert {one.name: one.number for one in answers["overview"].records} == {"connection": 2, "delivery": 1, "message": 1}
        assert [(one.name, one.number) for one in answers["top"]] == [("example.org", 1)]
        assert sum(one.number for one in answers["tally"]) == 4
        assert answers["lookup"] == Found([message])
        assert [one.name for one in answers["appliances"]] == ["esa1"]
        assert answers["status"].lines == 18
        assert await store.record(message["event"]["id"]) == message
        assert await store.record("no id") is None
        assert len((await store.search(Filter(), limit=0)).hits) == 1
    finally:
        await store.close()


async def test_without_a_file_everything_is_empty(tmp_path: Path) -> None:
    """Before the writer has made its file questions are answered with nothing; afterwards with what is there."""
    store = StoreReader(tmp_path / "s")
    try:
        answers = {name: await call(store) for name, call in CALLS.items()}
        assert (answers["search"], answers["lookup"], answers["status"]) == (Page(), Found(), StoreStatus())
        assert [answers[name] for name in ("record", "message", "connection", "top", "tally", "appliances")] == [
            None,
            None,
            None,
            [],
            [],
            [],
        ]
        (tmp_path / "s").touch()
        assert await store.search(Filter()) == Page()
        filed(tmp_path / "s", made(*MESSAGE).rows)
        assert len((await store.search(Filter())).hits) == 4
    finally:
        await store.close()
        await store.close()


async def test_reads_go_on_while_a_write_is_under_way(tmp_path: Path) -> None:
    """A transaction that is open for long holds no question up, and what it has not committed is not seen."""
    traffic = simulated(messages=40)
    half = len(traffic.rows) // 2
    store = StoreReader(tmp_path / "s")
    with writing(tmp_path / "s") as writer:
        writer.apply(traffic.rows[:half])
        before = (await store.status()).records
        with writer._transaction():
            writer._db().execute("DELETE FROM record")
            for call in CALLS.values():
                async with asyncio.timeout(20):
                    await call(store)
            assert (await store.status()).records == before
            assert len((await store.search(Filter(), limit=1_000)).hits) == sum(before.values())
            writer._db().execute("ROLLBACK")
            writer._db().execute("BEGIN")
        writer.apply(traffic.rows[half:])
    assert sorted(hit.id for hit in (await store.search(Filter(), limit=1_000)).hits) == sorted(ids(traffic.records))
    await store.close()


async def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    """When the writer has set a file aside, the next question sees the new one."""
    path = tmp_path / "s"
    filed(path, made(*MESSAGE).rows)
    store = StoreReader(path)
    assert len((await store.search(Filter())).hits) == 4
    worker = Worker()
    worker.do(Open(str(path), LIMITS, None))
    assert worker.do(SetAside(path.stat().st_ino)).set_aside
    assert (await store.search(Filter())).hits == []
    worker.close()
    await store.close()


async def test_a_broken_file_is_told(tmp_path: Path) -> None:
    """Damage is an error of the question, and who has to set the file aside is told which file it is."""
    path = tmp_path / "s"
    filed(path, simulated(messages=60).rows)
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(path.stat().st_size - 8192))
    told: list[int] = []
    store = StoreReader(path, damaged=told.append)
    with pytest.raises(StoreUnreadable, match="cannot be read"):
        await store.search(Filter(text="MID 200257075"))
    assert set(told) == {path.stat().st_ino}
    await store.close()


async def test_a_record_that_cannot_be_unpacked_is_damage(tmp_path: Path) -> None:
    """Bytes of a record that are none of ours are an error, not a crash."""
    path = tmp_path / "s"
    filed(path, made(*MESSAGE).rows)
    all_of_committed(path, "UPDATE body SET packed = x'00112233'")
    told: list[int] = []
    store = StoreReader(path, damaged=told.append)
    with pytest.raises(StoreUnreadable):
        await store.search(Filter())
    assert told
    await store.close()


def all_of_committed(path: Path, sql: str) -> None:
    """Change the file."""
    import sqlite3

    connection = sqlite3.connect(path)
    with connection:
        connection.execute(sql)
    connection.close()


async def test_a_newer_file_is_told_to_whoever_asks(tmp_path: Path) -> None:
    """A file of a newer version is not read."""
    filed(tmp_path / "s", made(*MESSAGE).rows)
    all_of(tmp_path / "s", "PRAGMA user_version = 99")
    store = StoreReader(tmp_path / "s")
    with pytest.raises(StoreTooNew):
        await store.status()
    await store.close()


async def test_a_question_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time a statement is interrupted; the reader answers the next question."""
    filed(tmp_path / "s", made(*MESSAGE).rows)

    def endless(view: View, wanted: Filter) -> list[Any]:
        return view.connection.execute("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n").fetchall()

    store = StoreReader(tmp_path / "s", max_question_s=0.1)
    with monkeypatch.context() as patch:
        patch.setattr(search, "tally", endless)
        with pytest.raises(StoreBusy, match=r"within 0\.1 s"):
            await store.tally(Filter())
    assert len((await store.search(Filter())).hits) == 4
    await store.close()


async def test_a_question_nobody_waits_for_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is cancelled harms no other, and closing waits for what is under way."""
    filed(tmp_path / "s", made(*MESSAGE).rows)
    begun, go_on = threading.Event(), threading.Event()

    def slow(view: View) -> StoreStatus:
        begun.set()
        go_on.wait(20)
        return StoreStatus()

    store = StoreReader(tmp_path / "s")
    with monkeypatch.context() as patch:
        patch.setattr("esa_tls.store.overview.status", slow)
        asking = asyncio.create_task(store.status())
        await asyncio.to_thread(begun.wait, 20)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
    assert len((await store.search(Filter())).hits) == 4
    go_on.set()
    await store.close()
