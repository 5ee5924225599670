"""Records as they happen: what is read back, what is left out, and what goes out to a page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from esa_tls.api import rows
from esa_tls.core.batch import Row, Sealed
from esa_tls.web import live as module
from esa_tls.web.listing import row_of
from esa_tls.web.live import MAX_BACKLOG_BYTES, MAX_QUEUED, MAX_VIEWERS, Live, Viewer, event, stream


def record(number: int, kind: str = "message", **own: Any) -> dict[str, Any]:
    """As little as a row needs."""
    made: dict[str, Any] = {"appliance": "esa1", "epoch": 0, "mid": number, "record": kind, "posture": "encrypted", **own}
    return {"@timestamp": "2025-11-24T12:00:00Z", "event": {"id": f"id-{number}"}, "cisco_esa": made}


def group(*segments: tuple[str, Iterable[dict[str, Any]]], encoding: str = "json") -> Sealed:
    """A committed group with one row."""
    packed = []
    for kind, records in segments:
        bodies = [json.dumps(one).encode() + b"\n" for one in records]
        packed.append((kind, len(bodies), b"".join(bodies)))
    return Sealed([Row("summary", encoding, packed)], [], [], [])


def opened(live: Live, *, only: int | None = None) -> Viewer:
    """A page that looks at all, or at one message."""
    viewer = live.open(lambda one: only is None or one["cisco_esa"]["mid"] == only)
    assert viewer is not None
    return viewer


async def until_read(live: Live) -> None:
    """Return when nothing is left to be read back."""
    while live._reading is not None and not live._reading.done():
        await live._reading


def ids(viewer: Viewer) -> list[str]:
    """Of the rows that wait for the page."""
    return [row.id for row in viewer.rows]


@pytest.fixture
def live() -> Live:
    """As the sidecar has it."""
    return Live(rows.readable, rows.decode)


async def test_every_page_gets_what_it_wants_in_order(live: Live) -> None:
    """Records of the kinds that Live shows, lines never; of several encodings of a group one is read."""
    everything, one = opened(live), opened(live, only=2)
    live.committed([group(("line", [record(9, "line")]), ("message", [record(1), record(2)]))])
    live.committed([group(("message", [record(3)]))])
    await until_read(live)
    assert (ids(everything), ids(one)) == (["id-1", "id-2", "id-3"], ["id-2"])
    assert everything.news.is_set()

    twice = group(("message", [record(4)]))
    twice.rows.append(Row("summary", "forward", [("message", 1, b"never looked at")]))
    live.committed([twice])
    await until_read(live)
    assert ids(everything)[-1] == "id-4"


async def test_without_a_page_nothing_is_done() -> None:
    """Not even looked at; and a page that is gone gets nothing more."""
    looked: list[object] = []

    def readable(found: Any) -> list[Row]:
        looked.append(found)
        return []

    live = Live(readable, rows.decode)
    live.committed([group(("message", [record(1)]))])
    assert looked == []
    viewer = opened(live)
    live.forget(viewer)
    live.forget(viewer)
    live.committed([group(("message", [record(1)]))])
    assert looked == []


async def test_a_page_that_does_not_keep_up_loses_the_oldest(live: Live) -> None:
    """It has the latest `MAX_QUEUED`, and is told how many it missed."""
    viewer = opened(live)
    live.committed([group(("message", [record(n) for n in range(MAX_QUEUED + 50)]))])
    await until_read(live)
    assert ids(viewer) == [f"id-{n}" for n in range(50, MAX_QUEUED + 50)]
    assert viewer.left_out == 50


async def test_a_backlog_is_bounded(live: Live) -> None:
    """What is committed while too much waits to be read back is left out, and counted on every page; later records come again."""
    viewers = [opened(live), opened(live, only=1)]
    large = [record(n, pad="x" * (MAX_BACKLOG_BYTES // 4)) for n in range(3)]
    live.committed([group(("message", large)), group(("message", [*large, record(5)])), group(("message", [record(6)]))])
    await until_read(live)
    assert ids(viewers[0]) == ["id-0", "id-1", "id-2", "id-6"]
    assert [viewer.left_out for viewer in viewers] == [4, 4]
    live.committed([group(("message", large[:2])), group(("message", [*large[:2], record(7)]))])
    await until_read(live)
    assert ids(viewers[0])[-1] == "id-1"
    live.committed([group(("message", [record(8)])), group(("message", large)), group(("message", [record(9)]))])
    await until_read(live)
    assert ids(viewers[0])[-1] == "id-9"
    assert [viewer.left_out for viewer in viewers] == [7, 7]


async def test_one_group_larger_than_the_backlog_is_read(live: Live) -> None:
    """There is always room for one."""
    viewer = opened(live)
    live.committed([group(("message", [record(1, pad="x" * MAX_BACKLOG_BYTES)]))])
    await until_read(live)
    assert (ids(viewer), viewer.left_out) == (["id-1"], 0)


async def test_what_cannot_be_read_back_is_left_out(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, counted, and in nobody's way."""
    viewer = opened(live)
    broken = Sealed([Row("summary", "json", [("message", 2, b"{\n{\n")])], [], [], [])
    live.committed([broken, group(("message", [record(1)]))])
    await until_read(live)
    assert (ids(viewer), viewer.left_out) == (["id-1"], 2)
    assert "could not be read back" in caplog.text


async def test_so_many_pages_and_no_more(live: Live) -> None:
    """One that goes makes room."""
    viewers = [opened(live) for _ in range(MAX_VIEWERS)]
    assert live.open(lambda _: True) is None
    live.forget(viewers[0])
    assert live.open(lambda _: True) is not None


async def test_a_stream_is_batches_of_rows_until_the_end(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """It opens at once; rows that came together go out together; closing ends it."""
    monkeypatch.setattr(module, "BATCH_S", 0.0)
    viewer = opened(live)
    written: list[bytes] = []
    news = asyncio.Condition()

    async def write(data: bytes) -> None:
        async with news:
            written.append(data)
            news.notify_all()

    async def until(number: int) -> None:
        async with asyncio.timeout(20), news:
            await news.wait_for(lambda: len(written) >= number)

    streaming = asyncio.create_task(stream(viewer, write))
    await until(1)
    live.committed([group(("message", [record(1), record(2)]))])
    await until(2)
    live.committed([group(("message", [record(3)]))])
    await until(3)
    live.close()
    async with asyncio.timeout(20):
        await streaming
    assert written[0].startswith(b":")
    told = [json.loads(data.removeprefix(b"data: ")) for data in written[1:]]
    assert [[row["id"] for row in one["rows"]] for one in told] == [["id-1", "id-2"], ["id-3"]]


async def test_a_quiet_stream_says_that_it_is_there(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment now and then, so that proxies keep the connection; a page that is gone ends the stream by what `write` raises."""
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)
    written: list[bytes] = []

    async def write(data: bytes) -> None:
        written.append(data)
        if len(written) == 3:
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await stream(opened(live), write)
    assert all(data.startswith(b": ") and data.endswith(b"\n\n") for data in written)


def test_an_event_is_one_line_of_json() -> None:
    """Whatever is in the rows: a line feed would end the event."""
    row = row_of(record(1, envelope={"from": "a\nb\r\n\n@example.org"}))
    data = event([row], 7)
    assert data.startswith(b"data: ")
    assert data.endswith(b"\n\n")
    assert data.count(b"\n") == 2
    assert b"\r" not in data
    assert json.loads(data.removeprefix(b"data: "))["left_out"] == 7
