"""The store in the composition: its settings, when it counts as behind, and look-ups that ask the core and the store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests.unit.runtime.journal_cases import MIB, cursor

from esa_tls import config
from esa_tls.api.lookup import Answer, Found, Query
from esa_tls.app.store import JoinedLookup, make_store
from esa_tls.config import Config, Journal, Store
from esa_tls.core.batch import Row, Sealed
from esa_tls.errors import ConfigError, StoreBusy
from esa_tls.runtime.journal import Journal as OpenJournal
from esa_tls.store.answers import Found as Kept
from esa_tls.telemetry import Counters


def message(mid: int, *, appliance: str = "esa1", epoch: int = 0, **more: Any) -> dict[str, Any]:
    """A message record, as far as a look-up goes."""
    return {"cisco_esa": {"record": "message", "appliance": appliance, "epoch": epoch, "mid": mid, **more}}


def connection(name: str, **more: Any) -> dict[str, Any]:
    """A connection record."""
    appliance, epoch = name.split("/")[:2]
    return {"cisco_esa": {"record": "connection", "appliance": appliance, "epoch": int(epoch), "connection": {"id": name}, **more}}


class Core:
    """Answers as it is told."""

    def __init__(self, *found: Found, incomplete: bool = False) -> None:
        self.answer = Answer(list(found), incomplete)

    async def lookup(self, query: Query) -> Answer:
        return self.answer


class Reader:
    """A store with these records, or one that cannot answer."""

    def __init__(self, *records: dict[str, Any], incomplete: bool = False, busy: bool = False) -> None:
        self.kept = Kept(list(records), incomplete)
        self.busy = busy
        self.asked: list[Any] = []

    async def lookup(self, by: str, value: int | str, **rest: Any) -> Kept:
        self.asked.append((by, value, rest))
        if self.busy:
            raise StoreBusy("busy")
        return self.kept


async def joined(core: Core, store: Reader, *, limit: int = 10) -> Answer:
    """The joined answer to one question."""
    return await JoinedLookup(core, store).lookup(Query("mid", 7, appliance="esa1", epoch=0, limit=limit))  # type: ignore[arg-type]


async def test_an_open_entry_is_told_as_it_is_now() -> None:
    """Of one entry the open one counts, even if the store has a record with the same number of it."""
    now, ended = message(7, posture="unknown"), message(7, posture="encrypted")
    assert await joined(Core(Found(True, now)), Reader(ended)) == Answer([Found(True, now)])


async def test_of_what_is_gone_the_store_tells_all() -> None:
    """The core's tombstone gives way to the store's record; what only one of them knows is told by that one, open entries first."""
    gone, whole = message(7), message(7, recipients=[])
    older = message(7, epoch=1)
    only_core = Found(False, connection("esa1/0/ICID/7"))
    answer = await joined(Core(Found(False, gone), only_core, Found(True, message(7, appliance="esa2"))), Reader(whole, older))
    assert answer.found == [Found(True, message(7, appliance="esa2")), Found(False, whole), only_core, Found(False, older)]
    assert not answer.incomplete


async def test_connections_are_told_apart_by_their_id() -> None:
    """ICID and DCID of one number are two connections."""
    answer = await joined(Core(Found(False, connection("esa1/0/ICID/7"))), Reader(connection("esa1/0/DCID/7")))
    assert len(answer.found) == 2


async def test_an_answer_that_is_not_whole_says_so() -> None:
    """More than the limit, a part that is incomplete, or a store that cannot answer now: the answer is incomplete."""
    assert (await joined(Core(), Reader(message(7), message(7, epoch=1)), limit=1)) == Answer([Found(False, message(7))], incomplete=True)
    assert (await joined(Core(incomplete=True), Reader())).incomplete
    assert (await joined(Core(), Reader(incomplete=True))).incomplete
    assert (await joined(Core(Found(True, message(7))), Reader(busy=True))) == Answer([Found(True, message(7))], incomplete=True)


async def test_the_question_is_passed_on_as_it_is() -> None:
    """Appliance, epoch and limit hold for the store too."""
    store = Reader()
    await joined(Core(), store, limit=3)
    assert store.asked == [("mid", 7, {"appliance": "esa1", "epoch": 0, "limit": 3})]


def test_it_is_configured_and_on_by_default(tmp_path: Path) -> None:
    """Without a word there is a store in `data_dir`; settings reach it; `store: null` has none; no sink may take its name."""
    assert config.parse("", file="x").store == Store()
    assert config.parse("store: null", file="x").store is None
    with OpenJournalIn(tmp_path) as journal:
        assert make_store(Config(store=None), journal, Counters()) == (None, None)
        wanted = Store(path="sub/s.sqlite", max_age_days=2, max_bytes=64 * MIB, lines=False)
        sink, reader = make_store(Config(data_dir=str(tmp_path), store=wanted), journal, Counters())
        assert sink is not None
        assert reader is not None
        assert sink.path == tmp_path / "sub" / "s.sqlite"
        assert (sink._limits.max_age_s, sink._limits.max_bytes, sink._limits.lines) == (172_800, 64 * MIB, False)
        elsewhere, _ = make_store(Config(data_dir=str(tmp_path), store=Store(path="/other/s")), journal, Counters())
        assert elsewhere is not None
        assert elsewhere.path == Path("/other/s")
    with pytest.raises(ConfigError, match=r"sinks\[0\].name: 'store' is the embedded store"):
        config.parse("sinks: [{type: jsonl, name: store, path: '-'}]", file="x")
    assert config.parse("store: null\nsinks: [{type: jsonl, name: store, path: '-'}]", file="x").store is None


class OpenJournalIn:
    """A journal for as long as it is needed."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self._journal = OpenJournal.open(folder, **options)

    def __enter__(self) -> OpenJournal:
        return self._journal

    def __exit__(self, *_: object) -> None:
        self._journal.close()


def test_when_it_counts_as_behind(tmp_path: Path) -> None:
    """Only when the journal is half full, and an eighth of it is what the store has not got; not when another sink is to blame."""
    settings = Config(data_dir=str(tmp_path), journal=Journal(max_bytes=64 * MIB))
    with OpenJournalIn(tmp_path, max_bytes=64 * MIB) as journal:
        journal.set_readers({"store": [("line", "store")], "dead": [("line", "json")]})
        sink, _ = make_store(settings, journal, Counters())
        assert sink is not None
        assert not sink._behind()
        body = os.urandom(MIB)  # nothing that could be compressed
        for _ in range(12):  # some 12 MiB that the store lags, in a journal that has room
            journal.commit([Sealed([Row("line", "store", [("line", 1, body)])], [], [], [])])
        assert journal.lag_bytes("store") > 64 * MIB // 8
        assert not sink._behind()
        for _ in range(25):  # what a dead sink lags fills it
            journal.commit([Sealed([Row("line", "json", [("line", 1, body)])], [], [], [])])
        assert journal.size_bytes() > 32 * MIB
        assert sink._behind()
        journal.save_cursor("store", cursor(journal.tail()))
        assert journal.lag_bytes("store") == 0
        assert not sink._behind()
