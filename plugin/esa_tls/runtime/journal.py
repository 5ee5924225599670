"""The journal: everything that has to survive, committed in one atomic, synced write for each group of batches.

Rules of this file:

1. A commit is there whole or not at all, and durable when `commit` returns. What is written but not yet synced is not shown to
   dispatchers (`read`, `tail`) or senders (`knows`); `get` shows it, for the core never goes back.
2. A commit that failed is repeated with the same `Sealed` objects: if it turns out to be there already (the sync failed, or it was
   found in the log after opening again) it is not written twice.
3. Values are opaque. Only `sequence` inside a cursor is looked at.
4. Writing is for one thread at a time (a lock sees to it), reading for any.
5. Full means `JournalFull` and nothing written; cursors, dead letters and trims are still taken, or a full journal could never drain.

On disk, format version 1 (`journal_folder.py` has the files around it, numbers are 8 bytes big-endian unless said otherwise)::

    family   key                                  value
    default  "m"                                  msgpack map: counters as of the last commit (`Numbers`)
             "r"                                  msgpack map: sink -> [[class, encoding], ...] that it reads
             "t"                                  msgpack map: class/encoding -> [last sequence trimmed, totals up to it]
             "c" + sink name                      cursor, msgpack map; `sequence` in it (a number, or class -> number): all
                                                  rows up to it are delivered
             "d" + number                         dead letter, msgpack array (`DeadLetter`)
    state    key of the core, never empty         value of the core
    class/encoding, e.g. line/json (each one of `rocks.OUTBOXES`):
             sequence                             msgpack array: rows, records and bytes of this (class, encoding) up to and including
                                                  this row since the journal began, then the segments [[kind, records, bytes], ...]
    keys     "k" + batch key                      n: it was the n-th key
             "n" + n                              batch key; both go when KEEP_KEYS more have been committed
    state, keys: empty key                        number of the last commit: at opening they must agree with "m" on it, and the first
                                                  and last row of every (class, encoding) with the totals in "t" and "m"

Sequences count rows over all classes and encodings, begin at 1, and are never used again. The running totals in a row tell how much a
sink lags by reading two rows. Rows that no sink reads are not written; rows behind the slowest reader of their (class, encoding) go by
range delete, and their table files are compacted away when enough has gathered or room is needed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from esa_tls.core.batch import Row, Sealed
from esa_tls.errors import JournalCorrupt, JournalError, JournalFull
from esa_tls.runtime.journal_folder import VERSION, JournalFolder
from esa_tls.runtime.journal_format import (
    CURSORS,
    LETTERS,
    NUMBERS_KEY,
    READERS_KEY,
    TRIMMED_KEY,
    DeadLetter,
    Numbers,
    Totals,
    Trimmed,
    after_prefix,
    cursor_sequence,
    encode,
    number,
    number_at_end,
    own_totals,
    row_value,
    sealed_bytes,
    stored_letter,
    stored_numbers,
    stored_readers,
    stored_trimmed,
    stream_name,
)
from esa_tls.runtime.journal_room import Room
from esa_tls.runtime.outbox import Outbox, Range
from esa_tls.runtime.rocks import KEYS, META, OUTBOXES, STATE, Batch, Rocks

__all__ = ["KEEP_DEAD_LETTERS", "KEEP_KEYS", "DeadLetter", "Journal"]

log = logging.getLogger(__name__)

KEEP_KEYS: Final = 1_000_000
"""Batch keys remembered."""

KEEP_DEAD_LETTERS: Final = 10_000
"""Dead letters kept; the oldest go first, and are counted."""

_STAMPED: Final = (STATE, KEYS)
"""Not the outbox: a key that is in all tables would make them overlap, and be rewritten instead of moved."""

_PAGE_ITEMS: Final = 1_000
_PAGE_BYTES: Final = 4 << 20


class Journal:
    """One pipeline's journal. Open it with `Journal.open`."""

    def __init__(self, folder: JournalFolder, rocks: Rocks, *, pipeline: int, max_bytes: int, read_only: bool, keep_keys: int) -> None:
        self._folder = folder
        self._rocks = rocks
        self._pipeline = pipeline
        self._read_only = read_only
        self._keep_keys = keep_keys
        self._room = Room(folder, rocks, max_bytes=max_bytes)
        self._outbox = Outbox(rocks)
        self._write_lock = threading.Lock()
        self._numbers = Numbers()
        self._attempt: tuple[tuple[Sealed, ...], int] | None = None
        """The group that was tried last and is not known to be durable, and the number it has as a commit."""

    @classmethod
    def open(
        cls,
        data_dir: Path,
        *,
        pipeline: int = 0,
        max_bytes: int = 8 << 30,
        read_only: bool = False,
        accept_loss: bool = False,
        keep_keys: int = KEEP_KEYS,
    ) -> Self:
        """Open, or make, the journal of that pipeline.

        `read_only` looks at a journal that another process may have open, as of now. `accept_loss` goes on with what is left when
        acknowledged groups at the end are missing, and logs how many.

        Raises:
            JournalLocked: another process has it open for writing; the message says which.
            JournalTooNew, JournalCorrupt, JournalFull, JournalError.
        """
        folder = JournalFolder.open(data_dir, pipeline=pipeline, read_only=read_only)
        made = not (folder.database / "CURRENT").exists()
        if made and folder.read_acked() and not accept_loss:
            folder.close()
            raise JournalCorrupt(f"the journal is damaged: {folder.database} is not a database any more")
        try:
            rocks = Rocks(folder.database, max_bytes=max_bytes, secondary=read_only)
        except BaseException:
            folder.close()
            raise
        journal = cls(folder, rocks, pipeline=pipeline, max_bytes=max_bytes, read_only=read_only, keep_keys=keep_keys)
        try:
            if made:
                folder.database_made()
            journal._load()
            journal._check_reach(accept_loss=accept_loss)
        except BaseException:
            journal.close()
            raise
        return journal

    def _load(self) -> None:
        """Read everything that is kept in memory, after opening or opening again."""
        numbers = stored_numbers(self._rocks.get(META, NUMBERS_KEY))
        for family in _STAMPED:
            stamp = self._rocks.get(family, b"")
            if int.from_bytes(stamp or b"", "big") != numbers.commit:
                raise JournalCorrupt(f"the journal is damaged: its family {family!r} is not of the same commit as its counters")
        try:
            self._outbox.sequences = {sink: cursor_sequence(value) for sink, value in self.cursors().items()}
        except ValueError as error:
            raise JournalCorrupt(f"the journal is damaged: {error}") from error
        self._outbox.trimmed = stored_trimmed(self._rocks.get(META, TRIMMED_KEY))
        self._numbers = self._outbox.numbers = numbers
        self._outbox.check_ends()
        self._room.measure()

    def _check_reach(self, *, accept_loss: bool) -> None:
        """Compare with the mark of what was acknowledged: RocksDB is silent about a log that lost its end."""
        acked = self._folder.read_acked()
        lost = acked - self._numbers.commit
        if lost > 0:
            message = f"the journal is damaged: the last {lost} of {acked} acknowledged groups are missing"
            if not accept_loss:
                raise JournalCorrupt(message)
            log.error("%s; going on without them.", message)
            self._folder.write_acked(self._numbers.commit)

    # -- the core's state and the batch keys -------------------------------------------------------------------------------------
    def get(self, key: bytes) -> bytes | None:
        """The state under `key`, as of the last commit that was tried."""
        return self._rocks.get(STATE, key)

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """State whose key begins with `prefix`, in ascending order. Reads page by page and holds nothing in between."""
        begin, end = prefix or b"\0", after_prefix(prefix)
        while pairs := self._rocks.scan(STATE, begin, end, max_bytes=_PAGE_BYTES, max_items=_PAGE_ITEMS):
            yield from pairs
            begin = pairs[-1][0] + b"\0"

    def knows(self, key: bytes) -> bool:
        """Whether a batch with this key is durable, and among the last 1,000,000 that had one."""
        found = self._rocks.get(KEYS, b"k" + key)
        return found is not None and number_at_end(found) <= self._outbox.numbers.keys

    # -- committing --------------------------------------------------------------------------------------------------------------
    def commit(
        self, sealed: Sequence[Sealed], *, cursors: Mapping[str, bytes] | None = None, dead_letters: Sequence[DeadLetter] = ()
    ) -> None:
        """Write groups, cursors and dead letters as one, and wait for the disk unless there are only cursors.

        State: groups in order, and within a group deletes before puts. Blocking; for the writer thread.

        Raises:
            JournalFull: no space or budget used; nothing is written. Repeat with the same objects.
            JournalError: the disk failed. Repeat with the same objects; what is there already is not written again.
            ValueError: a cursor has no `sequence`.
        """
        self._refuse_read_only()
        cursors = cursors or {}
        sequences = {sink: cursor_sequence(value) for sink, value in cursors.items()}
        with self._write_lock:
            if sealed and not self._is_there(sealed):
                self._check_room(sealed)
                self._attempt = (tuple(sealed), self._numbers.commit + 1)
                self._write_numbered(sealed, cursors, dead_letters)
            elif dead_letters:
                self._room.before_small_write()
                self._write_numbered([], cursors, dead_letters)
            elif cursors:
                self._room.before_small_write()
                self._write(lambda batch: _put_cursors(batch, cursors))
            self._outbox.sequences.update(sequences)
            if sealed or dead_letters:
                self._sync()
                self._attempt = None

    def _check_room(self, sealed: Sequence[Sealed]) -> None:
        try:
            self._room.check(sum(map(sealed_bytes, sealed)))
        except JournalFull as error:
            if self._room.unstick(error):
                self._load()
            raise

    def _is_there(self, sealed: Sequence[Sealed]) -> bool:
        """Whether this group was written by an earlier try that failed only later, or was found in the log after opening again."""
        if self._attempt is None or self._numbers.commit < self._attempt[1] or len(sealed) != len(self._attempt[0]):
            return False
        return all(one is other for one, other in zip(sealed, self._attempt[0], strict=True))

    def _write_numbered(self, sealed: Sequence[Sealed], cursors: Mapping[str, bytes], dead_letters: Sequence[DeadLetter]) -> None:
        """Write with the counters, as one commit."""
        after = self._numbers

        def fill(batch: Batch) -> None:
            nonlocal after
            after = self._fill(batch, sealed, dead_letters)
            _put_cursors(batch, cursors)

        self._write(fill)
        self._numbers = after

    def _fill(self, batch: Batch, sealed: Sequence[Sealed], dead_letters: Sequence[DeadLetter]) -> Numbers:
        """Put everything into the batch; returns the counters as they are once it is written."""
        before, wanted = self._numbers, self._outbox.wanted()
        tail, keys, streams = before.tail, before.keys, dict(before.streams)
        put, delete = batch.put, batch.delete
        handles = self._rocks.handles
        state, known = handles[STATE], handles[KEYS]
        self._forget_keys(batch, keys, keys + sum(len(group.keys) for group in sealed))
        for group in sealed:
            for key in group.deletes:
                delete(key, state)
            for key, value in group.puts:
                put(key, value, state)
            for row in group.rows:
                if wanted is None or (row.cls, row.encoding) in wanted:
                    tail += 1
                    name = stream_name(row.cls, row.encoding)
                    streams[name] = streams.get(name, Totals()) + own_totals(row.segments)
                    put(number(tail), row_value(streams[name], row), handles[name])
            for key in group.keys:
                keys += 1
                put(b"k" + key, number(keys), known)
                put(b"n" + number(keys), key, known)
        letters, kept, dropped = self._put_letters(batch, dead_letters)
        after = Numbers(before.commit + 1, tail, keys, letters, kept, dropped, streams)
        for family in _STAMPED:
            put(b"", number(after.commit), handles[family])
        put(NUMBERS_KEY, encode(after))
        return after

    def _forget_keys(self, batch: Batch, before: int, now: int) -> None:
        """Remove the keys that are no longer among the last `keep_keys`: by commits made, not by the clock.

        Comes before the puts of the same batch: a key that is forgotten and seen again in one commit stays.
        """
        first, end = max(1, before - self._keep_keys + 1), max(1, now - self._keep_keys + 1)
        known = self._rocks.handles[KEYS]
        for nth in range(first, min(end, before + 1)):
            key = self._rocks.get(KEYS, b"n" + number(nth))
            if key is not None and self._rocks.get(KEYS, b"k" + key) == number(nth):
                batch.delete(b"k" + key, known)
        if end > first:
            batch.delete_range(b"n" + number(first), b"n" + number(end), known)

    def _put_letters(self, batch: Batch, dead_letters: Sequence[DeadLetter]) -> tuple[int, int, int]:
        last, kept, dropped = self._numbers.letters, self._numbers.letters_kept, self._numbers.letters_dropped
        for letter in dead_letters:
            last += 1
            batch.put(b"d" + number(last), encode(letter))
        kept += len(dead_letters)
        surplus = kept - KEEP_DEAD_LETTERS
        if surplus > 0:
            for key, _ in self._rocks.scan(META, *LETTERS, max_items=surplus):
                batch.delete(key)
        return last, min(kept, KEEP_DEAD_LETTERS), dropped + max(surplus, 0)

    def _write(self, fill: Callable[[Batch], None]) -> None:
        try:
            size_bytes = self._rocks.write(fill)
        except JournalError as error:
            self._recover(error)
            raise
        self._room.wrote(size_bytes)

    def _sync(self) -> None:
        try:
            self._rocks.sync()
        except JournalError as error:
            self._recover(error)
            raise
        self._outbox.numbers = self._numbers
        self._folder.write_acked(self._numbers.commit)

    def _recover(self, error: JournalError) -> None:
        if self._room.failed(error):
            self._load()

    # -- the outbox --------------------------------------------------------------------------------------------------------------
    def tail(self) -> int:
        """The newest durable sequence; 0 before the first row."""
        return self._outbox.numbers.tail

    def oldest(self) -> int:
        """The oldest sequence that can still be read; `tail() + 1` if there is none."""
        return self._outbox.oldest()

    def read(self, after: int, *, cls: str | Collection[str], encoding: str, max_bytes: int) -> list[tuple[int, Row]]:
        """Durable rows with a sequence greater than `after`, in order; those of several classes merged.

        Stops when `max_bytes` are reached; the first row comes however large it is.

        Raises:
            JournalCorrupt: a row is damaged.
        """
        return self._outbox.read(after, classes=[cls] if isinstance(cls, str) else cls, encoding=encoding, max_bytes=max_bytes)

    def set_readers(self, readers: Mapping[str, Collection[tuple[str, str]]]) -> None:
        """Say which (class, encoding) each sink reads. From now on rows that nobody reads are not written, and `trim` removes them.

        Raises ValueError for one that has no place in the journal (`rocks.OUTBOXES`).
        """
        self._refuse_read_only()
        unknown = {stream_name(*pair) for wanted in readers.values() for pair in wanted}.difference(OUTBOXES)
        if unknown:
            raise ValueError(f"the journal has no place for rows {min(unknown)!r}")
        with self._write_lock:
            self._outbox.readers = {sink: frozenset(wanted) for sink, wanted in readers.items()}
            stored = encode({sink: sorted(wanted) for sink, wanted in readers.items()})
            if stored != self._rocks.get(META, READERS_KEY):
                self._write_small(lambda batch: batch.put(READERS_KEY, stored))

    def trim(self) -> int:
        """Remove the rows that every reader has got; returns their bytes. Blocking, now and then for a compaction.

        A sink without a cursor keeps everything it reads. Without `set_readers` nothing is removed.
        """
        self._refuse_read_only()
        with self._write_lock:
            ranges = self._outbox.delivered()
            self._delete_rows(ranges)
        self._room.compact_if_it_pays()
        return sum(gone.size_bytes for gone in ranges)

    def drop_oldest(self, n_bytes: int) -> dict[str, dict[str, int]]:
        """Remove the oldest rows, at least `n_bytes` if there are so many, delivered or not, and give the space back.

        Returns {sink: {kind: records}} that are gone and the sink had not got (of all kinds in the rows it reads).
        """
        self._refuse_read_only()
        with self._write_lock:
            ranges, missed = self._outbox.oldest_rows(n_bytes)
            self._delete_rows(ranges)
        if ranges:
            self._room.reclaim()
        return missed

    def _delete_rows(self, ranges: Sequence[Range]) -> None:
        if not ranges:
            return
        trimmed = self._outbox.trimmed | {gone.family: Trimmed(gone.last, gone.totals) for gone in ranges}

        def fill(batch: Batch) -> None:
            for gone in ranges:
                batch.delete_range(number(gone.first), number(gone.last + 1), self._rocks.handles[gone.family])
            batch.put(TRIMMED_KEY, encode(trimmed))

        self._write_small(fill)
        self._outbox.trimmed = trimmed
        for gone in ranges:
            self._room.trimmed(gone.family, gone.size_bytes, gone.last)

    def _write_small(self, fill: Callable[[Batch], None]) -> None:
        self._room.before_small_write()
        self._write(fill)

    # -- cursors and dead letters ------------------------------------------------------------------------------------------------
    def cursors(self) -> dict[str, bytes]:
        """All cursors by sink name, those of sinks that left the configuration included."""
        return {key[1:].decode(): value for key, value in self._rocks.scan(META, *CURSORS)}

    def load_cursor(self, sink: str) -> bytes | None:
        """The cursor of a sink as it was saved, or None."""
        return self._rocks.get(META, b"c" + sink.encode())

    def save_cursor(self, sink: str, value: bytes) -> None:
        """Write a cursor, not synced: after a power failure an older one may be there, and rows are sent again."""
        self.commit([], cursors={sink: value})

    def drop_cursor(self, sink: str) -> None:
        """Forget a sink."""
        self._refuse_read_only()
        with self._write_lock:
            self._write_small(lambda batch: batch.delete(b"c" + sink.encode()))
            self._outbox.sequences.pop(sink, None)

    @property
    def dead_letter_count(self) -> int:
        """Dead letters that are kept."""
        return self._outbox.numbers.letters_kept

    def dead_letters(self, *, after: int = 0, max_items: int = _PAGE_ITEMS) -> list[tuple[int, DeadLetter]]:
        """Dead letters with a number greater than `after`, oldest first."""
        pairs = self._rocks.scan(META, LETTERS[0] + number(after + 1), LETTERS[1], max_items=max_items)
        return [(number_at_end(key), stored_letter(value)) for key, value in pairs]

    def delete_dead_letters(self, numbers: Collection[int]) -> int:
        """Delete these dead letters; returns how many there were."""
        self._refuse_read_only()
        with self._write_lock:
            there = [key for nth in set(numbers) if self._rocks.get(META, key := b"d" + number(nth)) is not None]
            after = msgspec.structs.replace(self._numbers, letters_kept=self._numbers.letters_kept - len(there))

            def fill(batch: Batch) -> None:
                for key in there:
                    batch.delete(key)
                batch.put(NUMBERS_KEY, encode(after))

            if there:
                self._write_small(fill)
                self._numbers = after
                self._outbox.numbers = msgspec.structs.replace(self._outbox.numbers, letters_kept=after.letters_kept)
        return len(there)

    # -- looking and closing -----------------------------------------------------------------------------------------------------
    @property
    def over_budget(self) -> bool:
        """Whether the last group was refused because `max_bytes` is used, and not because the disk is full."""
        return self._room.over_budget

    def size_bytes(self) -> int:
        """Bytes of the journal's files now, without the reserve."""
        return self._folder.used_bytes()

    def lag_bytes(self, sink: str) -> int:
        """Bytes of the rows that a sink reads and has not got, as far as its cursor is saved."""
        outbox = self._outbox
        lag: int = outbox.sink_status(sink, (outbox.readers or {}).get(sink, frozenset()))["lag"]["size_bytes"]
        return lag

    def status(self) -> dict[str, Any]:
        """What is in the journal, as plain values: for `journal status`, health and metrics."""
        outbox, numbers = self._outbox, self._outbox.numbers
        readers = outbox.readers if outbox.readers is not None else stored_readers(self._rocks.get(META, READERS_KEY))
        sinks = sorted({*outbox.sequences, *readers})
        return {
            "version": VERSION,
            "pipeline": self._pipeline,
            "size_bytes": self.size_bytes(),
            "max_bytes": self._room.max_bytes,
            "free_bytes": self._folder.free_bytes(),
            "reserve": self._folder.has_reserve,
            "commits": numbers.commit,
            "oldest": outbox.oldest(),
            "tail": numbers.tail,
            "batch_keys": min(numbers.keys, self._keep_keys),
            "dead_letters": numbers.letters_kept,
            "dead_letters_dropped": numbers.letters_dropped,
            "outbox": {name: totals.as_dict() for name, totals in outbox.held().items()},
            "sinks": {sink: outbox.sink_status(sink, readers.get(sink, frozenset())) for sink in sinks},
        }

    def close(self) -> None:
        """Flush and close; gives the lock back. Safe to call twice."""
        with self._write_lock:
            self._room.close()
            self._folder.close()

    def _refuse_read_only(self) -> None:
        if self._read_only:
            raise JournalError("the journal was opened to be looked at only")


def _put_cursors(batch: Batch, cursors: Mapping[str, bytes]) -> None:
    for sink, value in cursors.items():
        batch.put(b"c" + sink.encode(), value)
