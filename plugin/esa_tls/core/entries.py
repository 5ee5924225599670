"""The entries of one appliance: connections and messages by id, open or as tombstones, with their deadlines.

Memory is a cache over the state: an entry is decoded when a line first names it and encoded once per group that changed it.
Deadlines run on appliance time. Each entry has one valid item in the heap (`entry.due_s`); older items are skipped when they come up.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from typing import Any, Final

from esa_tls.core.connections import Connection
from esa_tls.core.kept import decode_connection, decode_message, encode_entry
from esa_tls.core.messages import Message
from esa_tls.core.state import State, entry_key, entry_key_prefix, entry_prefix

Entry = Connection | Message

STALE_ITEMS: Final = 20_000
"""So many items of the heap may be out of date before it is made anew."""

GROUPS_UNDER_WAY: Final = 4
"""The journal is at most two sealed groups behind the core; two more for safety."""

_NUMBER_BITS: Final = 63
"""Ids fit a signed long."""

_TIME_SHIFT: Final = _NUMBER_BITS + 2
_KINDS: Final = "DIM"
_KIND_BITS: Final = {kind: place << _NUMBER_BITS for place, kind in enumerate(_KINDS)}


def deadline(due_s: int, kind: str, number: int) -> int:
    """A deadline as one number, in the order of (time, kind, id)."""
    return due_s << _TIME_SHIFT | _KIND_BITS[kind] | number


def of_deadline(item: int) -> tuple[int, str, int]:
    """(time, kind, id) of a deadline."""
    return item >> _TIME_SHIFT, _KINDS[item >> _NUMBER_BITS & 3], item & (1 << _NUMBER_BITS) - 1


class Entries:
    """All entries of one appliance's present epoch.

    `inbound`, `outbound`, `messages` are caches for the hot path; a miss has to ask `find`. `high` are the highest ids ever seen per
    kind: an id above it cannot be in the store, so nothing is looked up for new ids.
    """

    def __init__(self, name: str, epoch: int, state: State, high: dict[str, int]) -> None:
        self.name = name
        self.epoch = epoch
        self.state = state
        self.high = high
        self.inbound: dict[int, Connection] = {}
        self.outbound: dict[int, Connection] = {}
        self.messages: dict[int, Message] = {}
        self.heap: list[int] = []
        """Deadlines, see `deadline`: numbers compare faster than tuples and take half their memory."""
        self.dirty: list[Entry] = []
        self.deleted: dict[bytes, None] = {}
        # The state lags behind by the groups on their way to the journal: what they wrote is not read back, what they deleted is not found.
        self.underway: deque[tuple[set[int], dict[bytes, None]]] = deque(maxlen=GROUPS_UNDER_WAY)
        self.open_count = {"I": 0, "D": 0, "M": 0}
        self.stale = 0
        """Items of the heap that are no longer their entry's (about)."""
        self.tombstones: deque[tuple[str, int]] = deque()
        self.gone_early: set[tuple[str, int]] = set()

    def cache_of(self, kind: str) -> dict[int, Connection] | dict[int, Message]:
        """The cache of a kind."""
        return self.inbound if kind == "I" else self.outbound if kind == "D" else self.messages

    def find_connection(self, kind: str, number: int) -> Connection | None:
        """A connection that is not in the cache, from the state."""
        cache = self.inbound if kind == "I" else self.outbound
        found = cache.get(number)
        if found is None and number <= self.high.get(kind, -1):
            value = self.state.get(entry_key(self.name, self.epoch, kind, number))
            if value is not None and not self._is_deleted(kind, number):
                found = cache[number] = decode_connection(value)
        return found

    def find_message(self, number: int) -> Message | None:
        """A message, from the cache or the state."""
        found = self.messages.get(number)
        if found is None and number <= self.high.get("M", -1):
            value = self.state.get(entry_key(self.name, self.epoch, "M", number))
            if value is not None and not self._is_deleted("M", number):
                found = self.messages[number] = decode_message(value)
        return found

    def _is_deleted(self, kind: str, number: int) -> bool:
        """Deleted, but perhaps not yet in the state."""
        key = entry_key(self.name, self.epoch, kind, number)
        return key in self.deleted or any(key in deleted for _, deleted in self.underway)

    def add(self, kind: str, number: int, entry: Entry) -> None:
        """A new open entry."""
        if kind == "M":
            assert isinstance(entry, Message)
            self.messages[number] = entry
        else:
            assert isinstance(entry, Connection)
            (self.inbound if kind == "I" else self.outbound)[number] = entry
        if number > self.high.get(kind, -1):
            self.high[kind] = number
        elif self.deleted:
            self.deleted.pop(entry_key(self.name, self.epoch, kind, number), None)
        self.open_count[kind] += 1
        entry.dirty = True
        self.dirty.append(entry)

    def schedule(self, kind: str, number: int, entry: Entry, due_s: int) -> None:
        """Set the time at which something is to be done about the entry."""
        if entry.due_s != due_s:
            self._push(kind, number, entry, due_s)

    def hasten(self, kind: str, number: int, entry: Entry, due_s: int) -> None:
        """The same, but only if it is earlier than what is set."""
        if due_s < entry.due_s or entry.due_s == 0:
            self._push(kind, number, entry, due_s)

    def _push(self, kind: str, number: int, entry: Entry, due_s: int) -> None:
        if entry.due_s:
            self.stale += 1
            if self.stale > STALE_ITEMS and self.stale * 2 > len(self.heap):
                self._rebuild_heap()
        entry.due_s = due_s
        heappush(self.heap, due_s << _TIME_SHIFT | _KIND_BITS[kind] | number)

    def _rebuild_heap(self) -> None:
        """Throw out items that are no longer their entry's; those of entries that are not in the cache are kept, as nobody knows."""
        found = []
        for item in self.heap:
            due_s, kind, number = of_deadline(item)
            cached = self.cache_of(kind).get(number)
            if cached is None or cached.due_s == due_s:
                found.append(item)
        self.heap = found
        heapify(self.heap)
        self.stale = 0

    def pop_due(self, now_s: int) -> tuple[str, int, Entry] | None:
        """The next entry whose time has come, None if there is none."""
        heap, limit = self.heap, (now_s + 1) << _TIME_SHIFT
        while heap and heap[0] < limit:
            due_s, kind, number = of_deadline(heappop(heap))
            entry: Entry | None = self.find_message(number) if kind == "M" else self.find_connection(kind, number)
            if entry is not None and entry.due_s == due_s:
                entry.due_s = 0
                if not entry.dirty:
                    entry.dirty = True
                    self.dirty.append(entry)
                return kind, number, entry
        return None

    def bury(self, kind: str, number: int, entry: Entry, due_s: int) -> None:
        """The entry's record has left: it is a tombstone from here on."""
        entry.gone = True
        self.open_count[kind] -= 1
        self.tombstones.append((kind, number))
        self.schedule(kind, number, entry, due_s)

    def delete(self, kind: str, number: int) -> None:
        """Forget an entry for good."""
        self.cache_of(kind).pop(number, None)
        self._forget_tombstone(kind, number)
        self.deleted[entry_key(self.name, self.epoch, kind, number)] = None

    def _forget_tombstone(self, kind: str, number: int) -> None:
        """Tombstones go about in the order in which they came; those that go earlier are noted until their turn comes."""
        tombstones = self.tombstones
        if not tombstones or tombstones[0] != (kind, number):
            if tombstones:
                self.gone_early.add((kind, number))
            return
        tombstones.popleft()
        while tombstones and tombstones[0] in self.gone_early:
            self.gone_early.discard(tombstones.popleft())

    def all(self) -> list[tuple[str, int, Entry]]:
        """Every entry, cached or not (an epoch or a stream ends)."""
        prefix = entry_prefix(self.name) + self.epoch.to_bytes(4, "big")
        deleted = set(self.deleted)
        for key, _ in list(self.state.items(prefix)):
            if key in deleted or any(key in gone for _, gone in self.underway):
                continue
            kind, number = chr(key[len(prefix)]), int.from_bytes(key[len(prefix) + 1 :], "big")
            if kind == "M":
                self.find_message(number)
            else:
                self.find_connection(kind, number)
        found: list[tuple[str, int, Entry]] = [("I", number, one) for number, one in self.inbound.items()]
        found += [("D", number, one) for number, one in self.outbound.items()]
        found += [("M", number, message) for number, message in self.messages.items()]
        return found

    def seal(self) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
        """What changed since the last seal: (puts, deletes); deletes come first. What was deleted after a change is only deleted."""
        deleted, self.deleted = self.deleted, {}
        dirty, self.dirty = self.dirty, []
        puts = []
        name = self.name
        prefixes = {kind: entry_key_prefix(name, self.epoch, kind) for kind in "IDM"}
        of_messages = prefixes["M"]
        for entry in dirty:
            entry.dirty = False
            if isinstance(entry, Message):
                key = of_messages + entry.number.to_bytes(8, "big")
            else:
                key = prefixes[entry.leg.kind] + entry.leg.number.to_bytes(8, "big")
            if key not in deleted:
                puts.append((key, encode_entry(entry)))
        self.underway.append(({id(entry) for entry in dirty}, deleted))
        return puts, list(deleted)

    def shrink(self, cache_entries: int) -> None:
        """Drop the oldest cached entries beyond the limit, but none that the state may not have yet."""
        caches: tuple[dict[int, Any], ...] = (self.inbound, self.outbound, self.messages)
        for cache in caches:
            if len(cache) > cache_entries:
                kept = set().union(*(written for written, _ in self.underway))
                surplus = len(cache) - cache_entries + cache_entries // 10
                for number, entry in list(cache.items())[:surplus]:
                    # Held lines are let go through the entry itself, so it must stay the only one.
                    if not entry.dirty and id(entry) not in kept and not (isinstance(entry, Connection) and entry.held):
                        del cache[number]

    def load(self) -> list[Connection]:
        """At the start: the deadlines and counts of every entry; the entries themselves stay in the state until they are named.

        Returns the connections that lines are held for.
        """
        holding: list[Connection] = []
        prefix = entry_prefix(self.name) + self.epoch.to_bytes(4, "big")
        ended: list[tuple[int, str, int]] = []
        for key, value in self.state.items(prefix):
            kind, number = chr(key[len(prefix)]), int.from_bytes(key[len(prefix) + 1 :], "big")
            entry: Entry = decode_message(value) if kind == "M" else decode_connection(value)
            heappush(self.heap, deadline(entry.due_s, kind, number))
            if entry.gone:
                ended.append((entry.last_sequence, kind, number))
            else:
                self.open_count[kind] += 1
            if isinstance(entry, Connection) and entry.held:
                (self.inbound if kind == "I" else self.outbound)[number] = entry
                holding.append(entry)
        self.tombstones.extend((kind, number) for _, kind, number in sorted(ended))
        return holding
