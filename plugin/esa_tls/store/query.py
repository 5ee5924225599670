"""Questions to the embedded store: the only module that the page and the gRPC service's look-up need.

`StoreReader(path)` is made once; it opens the file when it is first asked, reads it with connections of its own in threads of its own
(reads never hold up the writer, nor it them), and opens it anew when it was set aside. While there is no file every answer is empty.

Every call is a coroutine, safe to cancel, and may raise `StoreError` (a file that cannot be read now: `StoreUnreadable`). A call ends after
`MAX_QUESTION_S`; answers that have a word for it are then `incomplete`, others raise `StoreBusy`. The Structs are in `answers.py`.

    store = StoreReader(Path(data_dir, "store.sqlite"))
    page = await store.search(Filter(text="bob@example.org", kinds=frozenset({"message"})), limit=50)
    page = await store.search(same_filter, limit=50, after=page.next)
    story = await store.message("esa1", 0, 200257070)        # None: nothing is known of it
    story = await store.connection("esa1/0/ICID/282204970")
    record = await store.record("6923a061fae336fa3b273c8e29")      # by event.id
    overview = await store.overview(since_s=..., until_s=...)
    ranked = await store.top("clear_out_domains", since_s=..., until_s=..., limit=20)
    tallies = await store.tally(Filter(text="example.org"))        # counts of what a search would find
    found = await store.lookup("mid", 200257070)                   # what api.lookup.Lookup asks for
    names = await store.appliances()
    status = await store.status()
    await store.close()
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, Final, Literal, ParamSpec, TypeVar

import msgspec
import zstandard

from esa_tls.errors import StoreBusy, StoreUnreadable
from esa_tls.store import overview, search, story
from esa_tls.store.answers import (
    ApplianceSeen,
    ConnectionStory,
    Filter,
    Found,
    MessageStory,
    Overview,
    Page,
    Ranked,
    StoreStatus,
    Tally,
    Top,
)
from esa_tls.store.columns import id_of
from esa_tls.store.schema import is_damaged, open_for_reading
from esa_tls.store.view import Interrupted, Reading, View

__all__ = ["MAX_QUESTION_S", "StoreReader"]

MAX_QUESTION_S: Final = 2.0
MAX_HITS: Final = 1_000
READERS: Final = 2
"""Threads that answer; more questions wait."""

P = ParamSpec("P")
T = TypeVar("T")


class StoreReader:
    """See the module. `path`: the store's file. `damaged`: told the inode of a file that turned out broken, from another thread."""

    def __init__(self, path: Path, *, damaged: Callable[[int], None] = lambda _inode: None, max_question_s: float = MAX_QUESTION_S) -> None:
        self._path = path
        self._damaged = damaged
        self._max_question_s = max_question_s
        self._threads: ThreadPoolExecutor | None = None
        self._own = threading.local()
        self._readings: list[Reading] = []
        self._opening = threading.Lock()

    async def search(self, wanted: Filter, *, limit: int = 50, after: str | None = None) -> Page:
        """Records that fit, the latest first, at most `limit` (1 to 1,000). `after`: `Page.next` of the page before, with the same filter.

        Raises ValueError for an `after` that is none of ours.
        """
        return await self._ask(Page(), search.search, wanted, limit=min(max(limit, 1), MAX_HITS), after=after)

    async def record(self, record_id: str) -> dict[str, Any] | None:
        """The record with this `event.id`; None if it is not kept, or if that is no such id."""
        try:
            ident = id_of(record_id)
        except ValueError:
            return None
        return await self._ask(None, _by_id, ident)

    async def message(self, appliance: str, epoch: int, mid: int, *, max_lines: int = 2_000) -> MessageStory | None:
        """The story of a message; None if neither a record nor a line of it is kept."""
        return await self._ask(None, story.message_story, appliance, epoch, mid, max_lines=max_lines)

    async def connection(self, connection_id: str, *, max_messages: int = 100, max_lines: int = 2_000) -> ConnectionStory | None:
        """The story of a connection, by `{appliance}/{epoch}/ICID/{n}` or `.../DCID/{n}`; None if nothing of it is kept."""
        return await self._ask(None, story.connection_story, connection_id, max_messages=max_messages, max_lines=max_lines)

    async def overview(
        self, *, since_s: int | None = None, until_s: int | None = None, step_s: int | None = None, appliances: frozenset[str] = frozenset()
    ) -> Overview:
        """Aggregates of a period; without one of all there is. `step_s`: 3,600 or a multiple; None: one that gives at most 100 steps or so.

        Raises ValueError for another step.
        """
        nothing = Overview(since_s=since_s or 0, until_s=until_s or 0, step_s=step_s or 3_600)
        return await self._ask(nothing, overview.overview, since_s=since_s, until_s=until_s, step_s=step_s, appliances=appliances)

    async def top(
        self,
        which: Top,
        *,
        since_s: int | None = None,
        until_s: int | None = None,
        limit: int = 20,
        appliances: frozenset[str] = frozenset(),
    ) -> list[Ranked]:
        """A ranking over a period (widened to whole hours), the most frequent first."""
        return await self._ask([], overview.top, which, since_s=since_s, until_s=until_s, limit=limit, appliances=appliances)

    async def tally(self, wanted: Filter) -> list[Tally]:
        """Counts of the records that fit, by their words, the most frequent first. Raises StoreBusy when there are too many."""
        return await self._ask([], search.tally, wanted)

    async def lookup(
        self,
        by: Literal["mid", "icid", "dcid", "message_id", "recipient"],
        value: int | str,
        *,
        appliance: str | None = None,
        epoch: int | None = None,
        limit: int = 100,
    ) -> Found:
        """Ended connections (icid, dcid) or messages (mid, message_id, recipient) that fit."""
        return await self._ask(Found(), search.lookup, by, value, appliance=appliance, epoch=epoch, limit=limit)

    async def appliances(self) -> list[ApplianceSeen]:
        """Every appliance with a record, by name."""
        return await self._ask([], overview.appliances)

    async def status(self) -> StoreStatus:
        """What the store holds."""
        return await self._ask(StoreStatus(), overview.status)

    async def close(self) -> None:
        """Close every connection; the reader is done with."""
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.get_running_loop().run_in_executor(None, functools.partial(threads.shutdown, cancel_futures=True))
        with self._opening:
            for reading in self._readings:
                reading.connection.close()
            self._readings.clear()

    # -- asking ----------------------------------------------------------------------------------------------------------------------
    async def _ask(self, nothing: T, question: Callable[Concatenate[View, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The answer, made in a thread; `nothing` while there is no file."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="store-read")
        work = functools.partial(self._answer, nothing, lambda view: question(view, *args, **kwargs))
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _answer(self, nothing: T, question: Callable[[View], T]) -> T:
        reading = None
        try:
            reading = self._reading()
            if reading is None:
                return nothing
            with reading.view(within_s=self._max_question_s) as view:
                return question(view)
        except Interrupted as error:
            raise StoreBusy(f"the store did not find the answer within {self._max_question_s:g} s: ask for less") from error
        except (sqlite3.Error, zstandard.ZstdError, msgspec.MsgspecError) as error:
            if reading is not None:
                self._forget(reading)
                if not isinstance(error, sqlite3.Error) or is_damaged(error):
                    self._damaged(reading.inode)
            raise StoreUnreadable(f"{self._path} cannot be read: {error}") from error

    def _reading(self) -> Reading | None:
        """This thread's connection, to the file that is there now."""
        known: Reading | None = getattr(self._own, "reading", None)
        try:
            inode = self._path.stat().st_ino
        except FileNotFoundError:
            inode = None
        if known is not None and known.inode != inode:
            self._forget(known)
            known = None
        if known is None and inode is not None:
            connection = open_for_reading(self._path)
            if connection is not None:
                known = self._own.reading = Reading(connection, inode)
                with self._opening:
                    self._readings.append(known)
        return known

    def _forget(self, reading: Reading) -> None:
        self._own.reading = None
        with self._opening, contextlib.suppress(ValueError):
            self._readings.remove(reading)
        with contextlib.suppress(sqlite3.Error):
            reading.connection.close()


def _by_id(view: View, ident: tuple[int, int]) -> dict[str, Any] | None:
    n = view.by_id(*ident)
    return None if n is None else view.record(n)
