"""Room for the journal: its byte budget, the disk's free space, and the way out when a write fails.

- Over budget: first flush (the log goes) and compact trimmed rows away; if that is not enough, `JournalFull`.
- Little free disk: groups are refused before RocksDB runs into it. Small writes (cursors, trims, dead letters) go on, if need be
  into the reserve, and the reserve is made again before groups are taken again.
- RocksDB met a full disk all the same: it recovers by itself within about 5 s of room appearing (measured; without opening again).
- A compaction of RocksDB met a full disk: it then refuses all others unless the disk has room for their whole input, those included that
  would only free space, and heals only above that. So it is opened again as soon as rows were trimmed that a compaction can free.
- Any other failed write leaves RocksDB refusing writes for good: it is opened again, once the disk takes a file.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from esa_tls.errors import JournalCorrupt, JournalError, JournalFull
from esa_tls.runtime.journal_folder import RESERVE_BYTES, JournalFolder
from esa_tls.runtime.journal_format import number
from esa_tls.runtime.rocks import Rocks

log = logging.getLogger(__name__)

FREE_FLOOR_BYTES: Final = 8 << 20
"""Free disk that has to remain, besides twice the group's size and what memory tables hold: a flush writes before the log goes."""

REOPEN_AFTER_S: Final = 15.0
"""How long RocksDB may go on saying "no space" while there is some, before it is opened again."""

REOPEN_PAUSE_S: Final = 2.0

_SMALL_WRITE_BYTES: Final = 2 << 20
_MEASURE_EVERY_BYTES: Final = 32 << 20


class Room:
    """Keeps account of the bytes on disk. For whoever has the journal's write lock, except `reclaim`."""

    def __init__(self, folder: JournalFolder, rocks: Rocks, *, max_bytes: int) -> None:
        self._folder = folder
        self._rocks = rocks
        self.max_bytes = max_bytes
        self.over_budget = False
        self._reclaiming = threading.Lock()
        self._used_bytes = 0
        self._unmeasured_bytes = 0
        self._unflushed_bytes = 0
        self._garbage: dict[str, tuple[int, int]] = {}
        """Outbox family -> bytes deleted from it since it was compacted, and the last sequence of them."""
        self._failing_since_s: float | None = None
        self._next_reopen_s = 0.0
        self._trimmed_since_reopen = False

    def measure(self) -> None:
        """Look at the files."""
        self._used_bytes, self._unmeasured_bytes = self._folder.used_bytes(), 0

    def check(self, needed_bytes: int) -> None:
        """Raise JournalFull unless a group of that size can be taken."""
        self.over_budget = False
        if self._unmeasured_bytes > _MEASURE_EVERY_BYTES or self._excess_bytes(needed_bytes) > -self.max_bytes // 4:
            self.measure()  # flushes and compactions add to the files too
        if self._excess_bytes(needed_bytes) > 0:
            self.reclaim()
            if self._excess_bytes(needed_bytes) > 0:
                self.over_budget = True
                raise JournalFull(f"the journal uses {self._used_bytes} of {self.max_bytes} bytes: no room for {needed_bytes} more")
        if self._missing_bytes(needed_bytes) > 0:
            self.reclaim()
            if self._missing_bytes(needed_bytes) > 0:
                raise JournalFull(f"the disk has {self._folder.free_bytes()} bytes free: no space for a group of {needed_bytes} bytes")

    def _excess_bytes(self, needed_bytes: int) -> int:
        """How much over budget a group would be. What is in memory counts twice: a flush writes it before its log goes."""
        return self._used_bytes + self._rocks.memory_bytes() + needed_bytes - self.max_bytes

    def _missing_bytes(self, needed_bytes: int) -> int:
        """How much more free disk a group needs; makes the reserve again on the way, which goes before groups."""
        least = FREE_FLOOR_BYTES + 2 * needed_bytes + self._rocks.memory_bytes()
        free = self._folder.free_bytes()
        if not self._folder.has_reserve:
            if free < least + RESERVE_BYTES or not self._folder.make_reserve():
                return least + RESERVE_BYTES - free
            log.info("There is room again: the journal's reserve is back.")
            free = self._folder.free_bytes()
        return least - free

    def wrote(self, n_bytes: int) -> None:
        """A write of that size succeeded."""
        self._failing_since_s = None
        self._used_bytes += n_bytes
        self._unmeasured_bytes += n_bytes
        self._unflushed_bytes += n_bytes

    def before_small_write(self) -> None:
        """Give up the reserve rather than let RocksDB run into a full disk."""
        if self._folder.has_reserve and self._folder.free_bytes() < _SMALL_WRITE_BYTES:
            self._give_up_reserve()

    def _give_up_reserve(self) -> None:
        if self._folder.give_up_reserve():
            log.warning("The disk is full: gave up the journal's reserve, so that cursors can be written.")

    # -- space back --------------------------------------------------------------------------------------------------------------
    def trimmed(self, family: str, n_bytes: int, upto: int) -> None:
        """Rows of that size, up to that sequence, were deleted."""
        self._garbage[family] = (self._garbage.get(family, (0, 0))[0] + n_bytes, upto)
        self._trimmed_since_reopen = True

    @property
    def _garbage_bytes(self) -> int:
        return sum(n_bytes for n_bytes, _ in self._garbage.copy().values())

    def compact_if_it_pays(self) -> None:
        """Compact what has gathered many deleted rows, before room is needed."""
        if self._garbage_bytes > self.max_bytes // 8:
            with self._reclaiming:
                self._compact()

    def reclaim(self) -> None:
        """Turn everything that can be into free space: flush, so that the log goes, and compact the outbox."""
        with self._reclaiming:
            pays = self._garbage or self._unflushed_bytes > _SMALL_WRITE_BYTES
            if pays and self._folder.free_bytes() >= self._rocks.memory_bytes() - self._garbage_bytes:
                self._unflushed_bytes = 0
                try:
                    self._rocks.flush()
                except JournalFull:
                    self._give_up_reserve()
                else:
                    self._compact()
            self.measure()

    def _compact(self) -> None:
        garbage, self._garbage = self._garbage, {}
        errors = self._rocks.background_errors()
        try:
            for family, (_, upto) in garbage.items():
                self._rocks.compact(family, number(0), number(upto + 1))
        except JournalFull:
            self._garbage = {**garbage, **self._garbage}
            self._give_up_reserve()
        else:
            if self._rocks.background_errors() > errors:  # refused, without a word
                self._garbage = {**garbage, **self._garbage}

    # -- after a failure ---------------------------------------------------------------------------------------------------------
    def failed(self, error: JournalError) -> bool:
        """Do what can be done about a failed write or sync; True if RocksDB was opened again and has to be read anew."""
        now_s = time.monotonic()
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        if isinstance(error, JournalCorrupt) or self._rocks.ended:
            return False
        if isinstance(error, JournalFull):
            self._give_up_reserve()
            patience = now_s - self._failing_since_s < REOPEN_AFTER_S or self._folder.free_bytes() < RESERVE_BYTES
            if self._rocks.is_open and patience:
                return False
        return self._reopen(error)

    def unstick(self, error: JournalFull) -> bool:
        """After a refused group: True if RocksDB refused to compact trimmed rows away, and was opened again for that."""
        stuck = self._rocks.background_errors() > 0 and self._trimmed_since_reopen and bool(self._garbage)
        return stuck and not self._rocks.ended and self._reopen(error)

    def _reopen(self, error: JournalError) -> bool:
        now_s = time.monotonic()
        if now_s < self._next_reopen_s or not self._folder.can_write():
            return False
        self._next_reopen_s = now_s + REOPEN_PAUSE_S
        if not self._reclaiming.acquire(blocking=False):
            return False  # a compaction holds the database open
        try:
            self._rocks.reopen()
        except JournalError as again:
            log.error("The journal's database cannot be opened again: %s", again)  # noqa: TRY400 (its text says it all)
            return False
        finally:
            self._reclaiming.release()
        self._unflushed_bytes = 0
        self._trimmed_since_reopen = False
        log.warning("Opened the journal's database again after: %s", error)
        return True

    def close(self) -> None:
        """Wait for a compaction under way, then close the database."""
        with self._reclaiming:
            self._rocks.close()
