"""One open RocksDB with the journal's column families. The only file that imports `rocksdict`.

Rules of this file:

1. Keys and values are bytes. Every failure leaves as one of the errors of `esa_tls.errors`, told apart by the text of RocksDB's status.
2. A synced write is `write` without sync followed by `sync`: `rocksdict` keeps the interpreter lock during `write`, so an fsync in
   there would stop the event loop, but gives it back during `flush_wal`. Both happen under the journal's write lock.
3. A write never sleeps inside RocksDB (`no_slowdown`): when flushes cannot keep up it comes back and waits here, without the
   interpreter lock.
4. Iterators live inside one call: an iterator that is left open pins the database, and `reopen` could not get its lock again.
   `RdictItems` ends silently on a damaged block, so iteration goes through `RdictIter` and asks for its status at the end.
   `ReadOptions.set_iterate_lower_bound` sets the upper bound (rocksdict 0.3.29) and is not used.
5. After "no space" RocksDB heals by itself within about 5 s of room appearing. After other I/O errors it refuses writes for good:
   `reopen` is the way out, and reads wait for it. It needs every reference to the database gone, and an error's traceback holds the
   locals of the frames it went through: no local variable here holds a database while something can be raised.

Options are written as RocksDB's own options file, because `rocksdict` has no method for `track_and_verify_wals_in_manifest`, without
which a lost or shortened log file would leave a hole that nobody sees. Together with point-in-time recovery a log can only lose its
end; the journal knows how far it must reach (`journal_folder`).
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rocksdict import AccessType, Cache, ColumnFamily, Env, Options, Rdict, RdictIter, ReadOptions, WriteBatch, WriteOptions

from esa_tls.errors import JournalCorrupt, JournalError, JournalFull, JournalLocked

META: Final = "default"
STATE: Final = "state"
KEYS: Final = "keys"
OUTBOXES: Final = tuple(f"{cls}/{encoding}" for cls in ("line", "summary") for encoding in ("json", "forward", "otlp", "store"))
"""A family for each class and encoding: sequences only grow in it, so its tables never overlap and are moved, not rewritten.

A new encoding is added here; older journals get the family when they are opened, older programs then refuse the journal (`VERSION`).
"""
FAMILIES: Final = (META, STATE, KEYS, *OUTBOXES)

STALL_TIMEOUT_S: Final = 30.0
"""How long a write waits for flushes before it is an error."""

_STALL_PAUSE_S: Final = 0.002
_MIB: Final = 1 << 20

_OPTIONS: Final = """\
[Version]
  rocksdb_version=9.8.4
  options_file_version=1.1

[DBOptions]
  create_if_missing=true
  create_missing_column_families=true
  track_and_verify_wals_in_manifest=true
  wal_recovery_mode=kPointInTimeRecovery
  paranoid_checks=true
  max_total_wal_size={wal}
  max_background_jobs=2
  max_open_files=-1
  manifest_preallocation_size=65536
  max_log_file_size=1048576
  keep_log_file_num=3
  stats_dump_period_sec=0
  stats_persist_period_sec=0
"""
_FAMILY_OPTIONS: Final = """
[CFOptions "{family}"]
  write_buffer_size={buffer}
  max_write_buffer_number=4
  target_file_size_base={buffer}
  max_bytes_for_level_base={level}
  compression=kLZ4Compression

[TableOptions/BlockBasedTable "{family}"]
  filter_policy=bloomfilter:10:false
  format_version=5
"""


def read_error(error: Exception | str) -> JournalError:
    """The error of ours that a status text of RocksDB stands for."""
    text = str(error)
    if "No space left" in text or "Disk quota exceeded" in text:
        return JournalFull(f"no space left for the journal: {text}")
    if "lock hold by" in text or "/LOCK: " in text:
        return JournalLocked(f"the journal's database is open already: {text}")
    if "Corruption" in text or "No such file" in text or "Invalid argument" in text:
        return JournalCorrupt(f"the journal is damaged: {text}")
    return JournalError(f"the journal cannot be used: {text}")


class Batch:
    """Puts and deletes that are written together, in order, or not at all. Used up by one write."""

    __slots__ = ("_handles", "_write_batch", "delete", "delete_range", "put")

    def __init__(self, handles: dict[str, ColumnFamily]) -> None:
        self._handles = handles
        self._write_batch = WriteBatch(raw_mode=True)
        self.put = self._write_batch.put
        self.delete = self._write_batch.delete
        self.delete_range = self._write_batch.delete_range

    def size_bytes(self) -> int:
        """Bytes this batch takes in the log."""
        return int(self._write_batch.size_in_bytes())


class Rocks:
    """An open database. Reads are safe from any thread beside one writer; `write`, `sync`, `reopen` need the journal's write lock."""

    def __init__(self, folder: Path, *, max_bytes: int, secondary: bool) -> None:
        """Open or create the database in `folder`; `secondary` = look at one that another process may have open.

        Raises:
            JournalLocked, JournalCorrupt, JournalFull, JournalError.
        """
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._scratch = tempfile.TemporaryDirectory(prefix="esa-tls-journal-") if secondary else None
        self._no_stall = WriteOptions()
        self._no_stall.no_slowdown = True
        self.ended = False
        """Closed for good: not to be opened again."""
        self._db: Rdict | None = None
        self._families: dict[str, Rdict] = {}
        self.handles: dict[str, ColumnFamily] = {}
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        options, families = _options(self._max_bytes)
        access = AccessType.read_write() if self._scratch is None else AccessType.secondary(self._scratch.name)
        failure: JournalError | None = None
        try:
            db = Rdict(str(self._folder), options, column_families=families, access_type=access)
        except Exception as error:  # noqa: BLE001
            # rocksdict raises plain Exception; its traceback must not keep anything of the database alive
            failure = read_error(error)
        if failure is not None:
            raise failure
        self._families = {name: db if name == META else db.get_column_family(name) for name in FAMILIES}
        self.handles = {name: db.get_column_family_handle(name) for name in FAMILIES}
        self._db = db

    def _shut(self) -> None:
        db, self._db = self._db, None
        self._families, self.handles = {}, {}
        if db is not None:
            with contextlib.suppress(Exception):  # it repeats the failure that made us close; what was synced is in the log
                db.close()

    def reopen(self) -> None:
        """Close and open again, the way out of RocksDB's read-only state. On failure the database stays closed; call it again."""
        with self._lock:
            self._shut()
            if self.ended:
                raise _closed()
            self._open()

    def close(self) -> None:
        """Flush and close. Safe to call twice."""
        self.ended = True
        with self._lock:
            self._shut()
            scratch, self._scratch = self._scratch, None
        if scratch is not None:
            scratch.cleanup()

    @property
    def is_open(self) -> bool:
        """False after `close`, and after a `reopen` that failed."""
        return self._db is not None

    # -- reads: any thread -------------------------------------------------------------------------------------------------------
    def get(self, family: str, key: bytes) -> bytes | None:
        """The value of `key`, or None. Raises JournalCorrupt if its block is damaged."""
        with self._lock:
            try:
                value: bytes | None = self._families[family].get(key)
            except KeyError:
                raise _closed() from None
            except Exception as error:  # noqa: BLE001
                raise read_error(error) from None
        return value

    def scan(
        self, family: str, begin: bytes, end: bytes | None, *, max_bytes: int = 1 << 62, max_items: int = 1 << 62
    ) -> list[tuple[bytes, bytes]]:
        """Pairs with begin <= key < end in ascending order; stops after the pair that reaches a limit, so one comes if there is one."""
        pairs: list[tuple[bytes, bytes]] = []
        size = 0
        with self._lock:
            rows = self._iterator(family, end)
            rows.seek(begin)
            while rows.valid():
                value: bytes = rows.value()
                pairs.append((rows.key(), value))
                size += len(value)
                if size >= max_bytes or len(pairs) >= max_items:
                    return pairs
                rows.next()
            failure = _failure_of(rows)
            del rows
        if failure is not None:
            raise failure
        return pairs

    def last(self, family: str, begin: bytes, end: bytes) -> tuple[bytes, bytes] | None:
        """The pair with the greatest key in begin <= key < end."""
        with self._lock:
            rows = self._iterator(family, end)
            rows.seek_for_prev(end)
            if rows.valid():
                key: bytes = rows.key()
                return (key, rows.value()) if key >= begin else None
            failure = _failure_of(rows)
            del rows
        if failure is not None:
            raise failure
        return None

    def _iterator(self, family: str, end: bytes | None) -> RdictIter:
        options = ReadOptions()
        if end is not None:
            options.set_iterate_upper_bound(end)
        try:
            return self._families[family].iter(options)
        except KeyError:
            raise _closed() from None

    def memory_bytes(self) -> int:
        """Bytes in memory tables: about what a flush has to write."""
        with self._lock:
            return sum(int(family.property_int_value("rocksdb.cur-size-all-mem-tables") or 0) for family in self._families.values())

    def background_errors(self) -> int:
        """Flushes and compactions that failed or were refused for want of room since the database was opened."""
        with self._lock:
            return 0 if self._db is None else int(self._db.property_int_value("rocksdb.background-errors") or 0)

    # -- writes: under the journal's write lock ----------------------------------------------------------------------------------
    def write(self, fill: Callable[[Batch], None]) -> int:
        """Fill a batch and write it, not yet synced; returns its bytes. `fill` is called again after a stall: a batch can be used once.

        Raises:
            JournalFull, JournalCorrupt, JournalError: nothing of it can be read, unless the failure came so late that a `reopen`
                finds it in the log.
        """
        give_up_s = time.monotonic() + STALL_TIMEOUT_S
        while True:
            if self._db is None:
                raise _closed()
            batch = Batch(self.handles)
            fill(batch)
            size = batch.size_bytes()
            failure: str | None = None
            try:
                self._db.write(batch._write_batch, self._no_stall)  # noqa: SLF001 (Batch is this file's)
            except Exception as error:  # noqa: BLE001 (rocksdict knows no other)
                failure = str(error)
            del batch
            if failure is None:
                return size
            if "Write stall" not in failure:
                raise read_error(failure)
            if time.monotonic() > give_up_s:
                raise JournalFull(f"flushing to disk did not keep up for {STALL_TIMEOUT_S:.0f} s")
            time.sleep(_STALL_PAUSE_S)

    def sync(self) -> None:
        """Make everything written so far durable. Gives the interpreter lock back while the disk works."""
        if self._db is None:
            raise _closed()
        try:
            self._db.flush_wal(True)
        except Exception as error:  # noqa: BLE001
            raise read_error(error) from None

    # -- housekeeping: any thread, one at a time ---------------------------------------------------------------------------------
    def flush(self) -> None:
        """Write all memory tables to table files, so that the log can go."""
        for name in FAMILIES:
            try:
                self._families[name].flush()
            except KeyError:
                raise _closed() from None
            except Exception as error:  # noqa: BLE001
                raise read_error(error) from None

    def compact(self, family: str, begin: bytes, end: bytes) -> None:
        """Rewrite the table files of a key range without its deleted rows."""
        try:
            self._families[family].compact_range(begin, end)
        except KeyError:
            raise _closed() from None
        except Exception as error:  # noqa: BLE001
            raise read_error(error) from None


def _failure_of(rows: RdictIter) -> JournalError | None:
    """Why an iterator ended: None = there are no more keys."""
    try:
        rows.status()
    except Exception as error:  # noqa: BLE001
        return read_error(error)
    return None


def _closed() -> JournalError:
    return JournalError("the journal is closed")


def _options(max_bytes: int) -> tuple[Options, dict[str, Options]]:
    """RocksDB's options for a journal of that budget: memory tables and log are a fraction of it, so that a small one works too."""
    large = min(max(max_bytes // 64, _MIB), 32 * _MIB)
    buffers = {META: min(large, 4 * _MIB), STATE: large, KEYS: min(large, 8 * _MIB)}
    buffers |= {name: large if name.startswith("line/") else min(large, 8 * _MIB) for name in OUTBOXES}
    text = _OPTIONS.format(wal=min(max(max_bytes // 8, 4 * _MIB), 256 * _MIB))
    text += "".join(_FAMILY_OPTIONS.format(family=name, buffer=buffers[name], level=4 * buffers[name]) for name in FAMILIES)
    with tempfile.TemporaryDirectory(prefix="esa-tls-options-") as folder:
        Path(folder, "OPTIONS-000001").write_text(text)
        Path(folder, "rocksdict-config.json").write_text('{"raw_mode":true,"prefix_extractors":{}}')
        return Options.load_latest(folder, Env(), False, Cache(32 * _MIB))
