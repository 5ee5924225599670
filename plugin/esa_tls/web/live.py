"""Records as they happen, for pages that are open: a stream of server-sent events each.

Rules of this file:

1. `committed` is called on the event loop after each commit and never waits; with no page open it does nothing at all.
2. What was committed is read back in short turns by one task while pages are open. When it lags by more than `MAX_BACKLOG_BYTES`, the rest
   is left out and counted: a page cannot show thousands of records a second, and nobody can read them. Every page says how many.
3. Each page has a queue of at most `MAX_QUEUED` rows, at most `MAX_VIEWERS` pages are open.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from esa_tls.core.batch import Row as OutboxRow
from esa_tls.core.batch import Sealed
from esa_tls.web.listing import Row, row_of

MAX_BACKLOG_BYTES: Final = 2 << 20
MAX_QUEUED: Final = 200
MAX_VIEWERS: Final = 16
TURN_S: Final = 0.002
BATCH_S: Final = 0.25
"""Rows go out together, so often at most."""

HEARTBEAT_S: Final = 15.0
KINDS: Final = frozenset({"message", "delivery", "connection", "consolidated"})

log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode


class Viewer:
    """One open page. `wants`: which records it shows."""

    def __init__(self, wants: Callable[[dict[str, Any]], bool]) -> None:
        self.wants = wants
        self.rows: deque[Row] = deque()
        self.left_out = 0
        self.news = asyncio.Event()
        self.ended = False

    def put(self, row: Row) -> None:
        """Show this row; the oldest that has not been shown goes if there are too many."""
        if len(self.rows) >= MAX_QUEUED:
            self.rows.popleft()
            self.left_out += 1
        self.rows.append(row)
        self.news.set()


class Live:
    """Between the commits and the pages. `readable` and `decode` read outbox rows back as records (`api/rows.py`)."""

    def __init__(
        self, readable: Callable[[Sequence[OutboxRow]], list[OutboxRow]], decode: Callable[[str, bytes], Iterable[dict[str, Any]]]
    ) -> None:
        self._readable = readable
        self._decode = decode
        self._viewers: list[Viewer] = []
        self._backlog: deque[tuple[str, int, bytes]] = deque()
        self._backlog_bytes = 0
        self._reading: asyncio.Task[None] | None = None

    def committed(self, groups: Sequence[Sealed]) -> None:
        """These groups are durable: for `Intake.on_durable`."""
        if not self._viewers:
            return
        for group in groups:
            for row in self._readable(group.rows):
                for kind, count, body in row.segments:
                    if kind not in KINDS:
                        continue
                    if self._backlog_bytes + len(body) > MAX_BACKLOG_BYTES and self._backlog:
                        for viewer in self._viewers:
                            viewer.left_out += count
                        continue
                    self._backlog.append((row.encoding, count, body))
                    self._backlog_bytes += len(body)
        if self._backlog and (self._reading is None or self._reading.done()):
            self._reading = asyncio.get_running_loop().create_task(self._read(), name="live page")

    def open(self, wants: Callable[[dict[str, Any]], bool]) -> Viewer | None:
        """A page begins to look; None if too many do."""
        if len(self._viewers) >= MAX_VIEWERS:
            return None
        viewer = Viewer(wants)
        self._viewers.append(viewer)
        return viewer

    def forget(self, viewer: Viewer) -> None:
        """A page is gone."""
        if viewer in self._viewers:
            self._viewers.remove(viewer)

    def close(self) -> None:
        """End all."""
        for viewer in self._viewers:
            viewer.ended = True
            viewer.news.set()
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self) -> None:
        turn_ends_s = time.perf_counter() + TURN_S
        while self._backlog:
            encoding, count, body = self._backlog.popleft()
            self._backlog_bytes -= len(body)
            try:
                for record in self._decode(encoding, body):
                    row: Row | None = None
                    for viewer in self._viewers:
                        if viewer.wants(record):
                            row = row or row_of(record)
                            viewer.put(row)
                    if time.perf_counter() >= turn_ends_s:
                        await asyncio.sleep(0)
                        turn_ends_s = time.perf_counter() + TURN_S
            except Exception:
                log.exception("Records could not be read back for the live page; they are left out.")
                for viewer in self._viewers:
                    viewer.left_out += count


async def stream(viewer: Viewer, write: Callable[[bytes], Awaitable[None]]) -> None:
    """Write events until the viewer is ended; raises what `write` does when the page is gone."""
    await write(b": open\n\n")
    while not viewer.ended:
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                await viewer.news.wait()
        except TimeoutError:
            await write(b": still here\n\n")
            continue
        viewer.news.clear()
        rows = list(viewer.rows)
        viewer.rows.clear()
        if rows:
            await write(event(rows, viewer.left_out))
            await asyncio.sleep(BATCH_S)


def event(rows: Sequence[Row], left_out: int) -> bytes:
    """One server-sent event: the rows, the latest last, and how many could not be shown so far."""
    return b"data: " + _encode({"rows": rows, "left_out": left_out}) + b"\n\n"
