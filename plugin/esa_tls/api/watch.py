"""Records for those who watch, as they become durable.

Rules of this file:

1. `Hub.committed` is called on the event loop after each commit and never waits: it keeps bytes of kinds that somebody wants, or counts
   them as dropped when those who watch lag too far. With nobody there it does nothing.
2. One task reads the bytes and makes each record a message once, whoever wants it, in short turns: the event loop is never held longer
   than `TURN_S`.
3. Each watcher has a bounded queue. One that is too slow loses records, is told how many, and holds up nobody.
4. A watcher gets what is committed after it came, in that order.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from esa_tls import telemetry
from esa_tls.api import rows
from esa_tls.api.convert import to_record
from esa_tls.api.v1.records_pb2 import Record
from esa_tls.core.batch import Sealed
from esa_tls.errors import EsaTlsError

__all__ = ["Filter", "Hub", "TooManyWatchers", "Watcher"]

log = logging.getLogger(__name__)

MAX_BACKLOG_BYTES: Final = 32 << 20
MAX_QUEUED: Final = 5_000
MAX_WATCHERS: Final = 64
MAX_ANSWER: Final = 200
"""Records handed to a watcher at once."""

TURN_S: Final = 0.002


class TooManyWatchers(EsaTlsError):
    """As many watch already as may."""


class Filter(msgspec.Struct, frozen=True):
    """Which records are wanted, in their own words; an empty set leaves out nothing."""

    kinds: frozenset[str] = frozenset()
    outcomes: frozenset[str] = frozenset()
    directions: frozenset[str] = frozenset()
    appliances: frozenset[str] = frozenset()

    def wants(self, kind: str) -> bool:
        """Whether any record of this kind can pass."""
        return not self.kinds or kind in self.kinds

    def passes(self, record: Mapping[str, Any]) -> bool:
        """Whether this record is wanted; its kind is."""
        if self.appliances and record["cisco_esa"]["appliance"] not in self.appliances:
            return False
        if not self.outcomes and not self.directions:
            return True
        return any(
            (not self.directions or direction in self.directions) and (not self.outcomes or outcome in self.outcomes)
            for direction, outcome in legs_of(record)
        )


def legs_of(record: Mapping[str, Any]) -> Iterator[tuple[str | None, str | None]]:
    """(direction, TLS outcome) of each leg of a record: its own, or those of its reception and its deliveries."""
    own = record["cisco_esa"]
    if own["record"] not in ("message", "consolidated"):
        yield own.get("direction"), _outcome(own)
        return
    if "reception" in own:
        yield "inbound", _outcome(own["reception"])
    for one in own.get("deliveries", ()):
        yield "outbound", _outcome(one)
    for one in own.get("recipients", ()):  # also those of deliveries beyond the hundredth
        if "tls_outcome" in one:
            yield "outbound", one["tls_outcome"]
    if "delivery_tls" in own:
        yield "outbound", own["delivery_tls"].get("outcome")


def _outcome(part: Mapping[str, Any]) -> str | None:
    outcome: str | None = part.get("tls", {}).get("outcome")
    return outcome


class _Segment(msgspec.Struct, frozen=True):
    """Records of one kind, as they were committed."""

    number: int
    kind: str
    count: int
    encoding: str
    body: bytes


class Watcher:
    """One who watches. Made by `Hub.watch`, used by one task."""

    def __init__(self, hub: Hub, wanted: Filter, *, only: Callable[[], Collection[str]] | None, first: int, max_queued: int) -> None:
        self._hub = hub
        self.wanted = wanted
        self.only = only
        self.first = first
        self.max_queued = max_queued
        self.queue: deque[Record] = deque()
        self.dropped = 0
        """Records left out so far; those that `wanted` would have left out may be among them."""
        self.ended = False
        self._news = asyncio.Event()

    def put(self, record: Record) -> None:
        """Take a record, or count it as dropped."""
        if len(self.queue) >= self.max_queued:
            self.drop(1)
        else:
            self.queue.append(record)
            self._news.set()

    def drop(self, count: int) -> None:
        """Count records that are left out."""
        self.dropped += count
        self._hub.count_dropped(count)

    def end(self) -> None:
        """Nothing comes any more; what is queued can still be taken."""
        self.ended = True
        self._news.set()

    async def take(self) -> list[Record]:
        """The next records, at least one, at most `MAX_ANSWER`; none when it has ended."""
        while not self.queue and not self.ended:
            self._news.clear()
            await self._news.wait()
        taken = [self.queue.popleft() for _ in range(min(len(self.queue), MAX_ANSWER))]
        self._hub.moved.set()
        return taken

    @property
    def lags(self) -> bool:
        """Whether it is so far behind that it may lose records soon: those not handed out yet may all be its."""
        hub = self._hub
        return len(self.queue) + hub.backlog_records > self.max_queued // 2 or hub.backlog_bytes > hub.max_backlog_bytes // 2

    async def catch_up(self) -> None:
        """Return when it does not lag. For a watcher that can hold back those who make its records."""
        while self.lags and not self.ended:
            self._hub.moved.clear()
            await self._hub.moved.wait()

    def close(self) -> None:
        """It watches no more. Safe twice."""
        self.end()
        self._hub.forget(self)


class Hub:
    """Between the commits of an intake and all who watch. `run` has to be running for anything to arrive."""

    def __init__(
        self,
        counters: telemetry.Counters,
        *,
        max_watchers: int = MAX_WATCHERS,
        max_queued: int = MAX_QUEUED,
        max_backlog_bytes: int = MAX_BACKLOG_BYTES,
    ) -> None:
        self.max_queued = max_queued
        self.max_backlog_bytes = max_backlog_bytes
        self.backlog_bytes = 0
        self.backlog_records = 0
        self.moved = asyncio.Event()
        """Set when a watcher or the backlog got shorter."""
        self._counters = counters
        self._max_watchers = max_watchers
        self._watchers: list[Watcher] = []
        self._backlog: deque[_Segment] = deque()
        self._next = 0
        self._turn_ends_s = 0.0
        self._work = asyncio.Event()
        self._closed = False
        counters.gauge(telemetry.API_WATCHERS, lambda: len(self._watchers))

    def watch(self, wanted: Filter, *, only: Callable[[], Collection[str]] | None = None, max_queued: int | None = None) -> Watcher:
        """Begin to watch. `only`: asked at each record, the appliances whose records count. `max_queued`: if not the hub's.

        Raises:
            TooManyWatchers: there are `max_watchers`.
        """
        if len(self._watchers) >= self._max_watchers:
            raise TooManyWatchers(f"{self._max_watchers} watch already")
        watcher = Watcher(self, wanted, only=only, first=self._next, max_queued=max_queued or self.max_queued)
        if self._closed:
            watcher.end()
        else:
            self._watchers.append(watcher)
        return watcher

    def forget(self, watcher: Watcher) -> None:
        """Send it nothing more."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)

    def committed(self, groups: Sequence[Sealed]) -> None:
        """These groups are durable. Never waits and never fails for what they hold."""
        if not self._watchers:
            return
        for row in (row for group in groups for row in rows.readable(group.rows)):
            for kind, count, body in row.segments:
                wanting = [watcher for watcher in self._watchers if watcher.wanted.wants(kind)]
                if not wanting:
                    continue
                if self.backlog_bytes + len(body) > self.max_backlog_bytes and self._backlog:
                    for watcher in wanting:
                        watcher.drop(count)
                    continue
                self.backlog_bytes += len(body)
                self.backlog_records += count
                self._backlog.append(_Segment(self._next, kind, count, row.encoding, body))
                self._next += 1
        self._work.set()

    def count_dropped(self, count: int) -> None:
        """For the metric."""
        self._counters.add(telemetry.API_DROPPED, count)

    async def run(self) -> None:
        """Hand out what is committed, until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            self._turn_ends_s = time.perf_counter() + TURN_S
            while self._backlog:
                segment = self._backlog[0]
                try:
                    await self._hand_out(segment)
                except Exception:
                    log.exception("Records could not be read back for those who watch; they are left out.")
                    for watcher in self._wanting(segment):
                        watcher.drop(segment.count)
                self._backlog.popleft()
                self.backlog_bytes -= len(segment.body)
                self.backlog_records -= segment.count
                self.moved.set()

    async def flushed(self) -> None:
        """Return when everything committed so far has been handed out."""
        last = self._next
        while self._backlog and self._backlog[0].number < last:
            self.moved.clear()
            await self.moved.wait()

    def close(self) -> None:
        """All who watch are ended: they get what they have queued and nothing more."""
        self._closed = True
        for watcher in list(self._watchers):
            watcher.close()
        self.moved.set()

    def _wanting(self, segment: _Segment) -> list[Watcher]:
        return [one for one in self._watchers if one.first <= segment.number and one.wanted.wants(segment.kind)]

    async def _hand_out(self, segment: _Segment) -> None:
        watchers = self._wanting(segment)
        if not watchers:
            return
        for record in rows.decode(segment.encoding, segment.body):
            made: Record | None = None
            for watcher in watchers:
                if watcher.only is not None and record["cisco_esa"]["appliance"] not in watcher.only():
                    continue
                if watcher.wanted.passes(record):
                    made = made or to_record(record)
                    watcher.put(made)
            if time.perf_counter() >= self._turn_ends_s:
                await asyncio.sleep(0)
                watchers = self._wanting(segment)
                self._turn_ends_s = time.perf_counter() + TURN_S
