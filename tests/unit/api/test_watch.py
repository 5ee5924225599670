from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.unit.api.cases import CLEAR_DELIVERY, END, MESSAGE, Core, corpus_records, line, records_of

from esa_tls import telemetry
from esa_tls.api import rows, watch
from esa_tls.api.convert import to_dict
from esa_tls.api.watch import Filter, Hub, TooManyWatchers, Watcher, legs_of
from esa_tls.core.batch import Origin, Row, Sealed
from esa_tls.telemetry import Counters


def group(encoding: str = "json") -> Sealed:
    """A group with the lines and summaries of a message."""
    return Core(encodings=(encoding,)).feed(MESSAGE + CLEAR_DELIVERY + END)


@asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Hub]:
    """A hub at work."""
    hub = Hub(Counters(), **settings)
    task = asyncio.create_task(hub.run())
    try:
        yield hub
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def all_of(hub: Hub, watcher: Watcher) -> list[dict[str, Any]]:
    """All that a watcher gets of what is committed by now."""
    await hub.flushed()
    watcher.end()
    taken = []
    while some := await watcher.take():
        taken += [to_dict(one) for one in some]
    return taken


# -- what is seen ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("encoding", rows.READABLE)
async def test_records_are_seen_as_they_were_committed(encoding: str) -> None:
    """Whoever watches gets every record of a commit, whichever encoding the sinks use."""
    expected = records_of([group()])
    async with running() as hub:
        watcher = hub.watch(Filter())
        hub.committed([group(encoding)])

        assert expected == await all_of(hub, watcher)
        assert 0 == watcher.dropped


async def test_only_what_comes_after_is_seen() -> None:
    """A watcher gets nothing that was committed before it came, even if that is still being handed out."""
    async with running() as hub:
        early = hub.watch(Filter())
        hub.committed([group()])
        late = hub.watch(Filter())

        assert await all_of(hub, early)
        assert [] == await all_of(hub, late)


async def test_without_watchers_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """With nobody there, and of kinds that nobody wants, nothing is kept and nothing is decoded."""
    monkeypatch.setattr(rows, "decode", lambda *_: pytest.fail("decoded"))
    async with running() as hub:
        hub.committed([group()])
        assert 0 == hub.backlog_bytes
        watcher = hub.watch(Filter(kinds=frozenset({"consolidated"})))
        hub.committed([group()])
        assert 0 == hub.backlog_bytes
        watcher.close()


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Filter(kinds=frozenset({"delivery", "message"})), {"delivery": 1, "message": 1}),
        (Filter(outcomes=frozenset({"success"}), kinds=frozenset({"connection", "delivery", "message"})), {"connection": 1, "message": 1}),
        (
            Filter(outcomes=frozenset({"none"}), kinds=frozenset({"connection", "delivery", "message"})),
            {"connection": 1, "delivery": 1, "message": 1},
        ),
        (
            Filter(directions=frozenset({"outbound"}), kinds=frozenset({"connection", "delivery", "message"})),
            {"connection": 1, "delivery": 1, "message": 1},
        ),
        (Filter(directions=frozenset({"outbound"}), outcomes=frozenset({"success"})), {}),
        (Filter(directions=frozenset({"inbound"}), outcomes=frozenset({"success"}), kinds=frozenset({"message"})), {"message": 1}),
        (Filter(outcomes=frozenset({"failed"})), {}),
        (Filter(outcomes=frozenset({"failed", "unknown"})), {"line": 1, "connection": 1}),
        (Filter(appliances=frozenset({"esa1"}), kinds=frozenset({"connection"})), {"connection": 3}),
        (Filter(appliances=frozenset({"esa2"})), {}),
    ],
)
async def test_filters(wanted: Filter, expected: dict[str, int]) -> None:
    """A record has to pass all lists; of outcomes and directions, on one and the same leg."""
    async with running() as hub:
        watcher = hub.watch(wanted)
        hub.committed([group()])
        kinds = [record["cisco_esa"]["record"] for record in await all_of(hub, watcher)]

        assert expected == {kind: kinds.count(kind) for kind in kinds}


def test_legs_of_all_records() -> None:
    """Every record with a TLS outcome has it among its legs; a message has one per delivery and one for its reception."""
    for record in corpus_records():
        own, legs = record["cisco_esa"], list(legs_of(record))
        if own["record"] == "message":
            assert len(legs) >= len(own.get("deliveries", ())) + ("reception" in own)
        elif own["record"] == "consolidated":
            assert ["inbound", "outbound"] == [direction for direction, _ in legs]
        else:
            assert [(own.get("direction"), own.get("tls", {}).get("outcome"))] == legs


async def test_only_the_appliances_asked_for_at_that_time() -> None:
    """`only` is asked at each record: a stream's appliances grow with its lines."""
    names: set[str] = set()
    core = Core(appliance_name=None, appliance_from=("fluent_tag",))
    async with running() as hub:
        watcher = hub.watch(Filter(), only=lambda: names)
        for name in ("esa1", "esa2"):
            names.add("esa2")
            hub.committed([core.feed([line("MID 1 queued for delivery")], origin=Origin(tag=name))])
            await hub.flushed()

        assert ["esa2"] == [record["cisco_esa"]["appliance"] for record in await all_of(hub, watcher)]


# -- who is slow -----------------------------------------------------------------------------------------------------------------
async def test_a_slow_watcher_loses_records_and_is_told() -> None:
    """A queue is bounded: what does not fit is counted, others get everything, and what comes later is seen again."""
    counters = Counters()
    hub = Hub(counters, max_queued=4)
    task = asyncio.create_task(hub.run())
    slow, quick = hub.watch(Filter()), hub.watch(Filter(), max_queued=1_000)
    count = len(records_of([group()]))

    hub.committed([group()])
    await hub.flushed()

    assert (4, count - 4) == (len(slow.queue), slow.dropped)
    assert count - 4 == counters.value(telemetry.API_DROPPED)
    assert (count, 0) == (len(quick.queue), quick.dropped)
    assert 4 == len(await slow.take())
    hub.committed([Core().feed([line("MID 1 queued for delivery")])])
    await hub.flushed()
    assert 1 == len(await slow.take())
    task.cancel()


async def test_a_backlog_is_bounded() -> None:
    """More bytes than may wait to be read are dropped, counted for those who wanted them; the commit does not wait."""
    hub = Hub(Counters(), max_backlog_bytes=1)  # nothing runs: nothing is handed out
    lines, summaries = hub.watch(Filter(kinds=frozenset({"line"}))), hub.watch(Filter(kinds=frozenset({"message"})))
    hub.committed([group()])  # the first segment is always taken, or a large one could never be seen
    kept = hub.backlog_bytes
    for _ in range(10):
        hub.committed([group()])

    assert kept == hub.backlog_bytes
    assert 10 * len(MESSAGE + CLEAR_DELIVERY + END) == lines.dropped
    assert 11 == summaries.dropped


async def test_who_watches_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop gets its turn while a large commit is handed out."""
    monkeypatch.setattr(watch, "TURN_S", 0.0)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with running() as hub:
        task = asyncio.create_task(others())
        watcher = hub.watch(Filter())
        hub.committed([group()])
        taken = await all_of(hub, watcher)
        task.cancel()

        assert turns >= len(taken)


async def test_catching_up() -> None:
    """Who can hold back his senders waits while his queue is more than half full, and goes on when records were taken."""
    async with running(max_queued=10) as hub:
        watcher = hub.watch(Filter())
        await watcher.catch_up()
        hub.committed([group()])
        await hub.flushed()
        waiting = asyncio.create_task(watcher.catch_up())
        await asyncio.sleep(0)
        assert not waiting.done()

        await watcher.take()
        await waiting


async def test_records_that_cannot_be_read_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """If reading back fails, those who watch are told how many are missing, and the next ones are seen."""
    read = rows.decode
    async with running() as hub:
        watcher = hub.watch(Filter(kinds=frozenset({"line"})))
        monkeypatch.setattr(rows, "decode", lambda *_: 1 / 0)
        hub.committed([group()])
        await hub.flushed()
        monkeypatch.setattr(rows, "decode", read)
        assert len(MESSAGE + CLEAR_DELIVERY + END) == watcher.dropped

        hub.committed([group()])
        assert await all_of(hub, watcher)


async def test_an_unknown_encoding_is_left_out() -> None:
    """A row nobody here can read leaves nothing to see, and no error."""
    async with running() as hub:
        watcher = hub.watch(Filter())
        hub.committed([Sealed([Row("line", "novel", [("line", 1, b"x")])], [], [], [])])

        assert [] == await all_of(hub, watcher)


# -- coming and going ------------------------------------------------------------------------------------------------------------
async def test_too_many_watchers() -> None:
    """There is room for so many, and again when one goes."""
    counters = Counters()
    hub = Hub(counters, max_watchers=2)
    first = hub.watch(Filter())
    hub.watch(Filter())

    with pytest.raises(TooManyWatchers, match="2 watch already"):
        hub.watch(Filter())
    assert 2 == counters.value(telemetry.API_WATCHERS)
    first.close()
    first.close()
    hub.watch(Filter())


async def test_closing_ends_those_who_watch() -> None:
    """At the end a watcher gets what is queued, then the end; who comes later gets the end at once."""
    async with running() as hub:
        watcher = hub.watch(Filter(kinds=frozenset({"message"})))
        hub.committed([group()])
        await hub.flushed()
        hub.close()

        assert 1 == len(await watcher.take())
        assert [] == await watcher.take()
        assert [] == await hub.watch(Filter()).take()


async def test_one_who_leaves_while_records_are_handed_out_gets_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing a watcher in the middle of a commit ends it there."""
    monkeypatch.setattr(watch, "TURN_S", 0.0)
    async with running() as hub:
        watcher = hub.watch(Filter(), max_queued=1_000)
        hub.committed([group(), group()])
        while not watcher.queue:  # noqa: ASYNC110 (turn by turn)
            await asyncio.sleep(0)
        watcher.close()
        before = len(watcher.queue)
        await hub.flushed()

        assert 0 < before == len(watcher.queue) < len(records_of([group()]))
