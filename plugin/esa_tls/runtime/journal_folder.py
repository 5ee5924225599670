"""The files around the journal's database: lock, version, reserve and the mark of what was acknowledged.

```
data_dir/journal-0/          one folder for each pipeline
    version                  "1" and a line feed, written and synced before the database is made; a greater number is refused
    lock                     held with flock while a process writes; its text says who that is
    acked                    16 bytes: number of the last durable commit, big-endian, and its complement
    reserve                  16 MiB of allocated space, given up when the disk is full
    db/                      RocksDB (`rocks.py`), laid out in `journal.py`
```

`acked` is written after each sync and not synced itself: it may be old after a power failure, never too new. RocksDB drops the damaged
end of a log without a word; a database that reaches less far than `acked` has lost acknowledged groups, and that is what it is for.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import time
from pathlib import Path
from typing import Final, Self

from esa_tls.errors import JournalCorrupt, JournalError, JournalFull, JournalLocked, JournalTooNew

VERSION: Final = 2
"""Version of the journal's format that this program writes, and the newest that it reads.

2: places for rows in the encoding `store`. An older journal becomes one when it is opened for writing.
"""

RESERVE_BYTES: Final = 16 << 20

_ALL_ONES: Final = (1 << 64) - 1


def sync_folder(path: Path) -> None:
    """Make new, renamed and removed names in `path` durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class JournalFolder:
    """One `journal-N` folder, locked as long as it is open for writing."""

    def __init__(self, path: Path, *, lock: int | None, acked: int | None) -> None:
        self.path = path
        self.database = path / "db"
        self._reserve = path / "reserve"
        self._lock = lock
        self._acked = acked
        self.has_reserve = self._reserve.exists()

    @classmethod
    def open(cls, data_dir: Path, *, pipeline: int, read_only: bool) -> Self:
        """Open (or, for writing, make) the folder of that pipeline.

        Raises:
            JournalLocked: another process writes; the message says which.
            JournalTooNew, JournalCorrupt, JournalFull, JournalError.
        """
        path = data_dir / f"journal-{pipeline}"
        if read_only:
            if not (path / "version").exists():
                raise JournalError(f"there is no journal in {data_dir}")
            _check_version(path)
            return cls(path, lock=None, acked=None)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = _take_lock(path / "lock", data_dir)
        except OSError as error:
            raise _os_error(error, path) from error
        try:
            if not _size(path / "version"):  # not there, or cut by a power failure before anything else was made
                if (path / "db" / "CURRENT").exists():
                    raise JournalCorrupt(f"{path} holds a database but no version")
                _write_new(path / "acked", _mark(0))
                _write_new(path / "version", f"{VERSION}\n".encode())
                sync_folder(path)
                sync_folder(data_dir)
            if _check_version(path) < VERSION:
                _replace(path / "version", f"{VERSION}\n".encode())
                sync_folder(path)
            folder = cls(path, lock=lock, acked=os.open(path / "acked", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            os.close(lock)
            raise _os_error(error, path) from error
        except JournalError:
            os.close(lock)
            raise
        folder.make_reserve()
        return folder

    def database_made(self) -> None:
        """Make the names inside a newly made database durable."""
        handle = os.open(self.database / "rocksdict-config.json", os.O_RDONLY)  # RocksDB syncs its own files
        os.fsync(handle)
        os.close(handle)
        sync_folder(self.database)
        sync_folder(self.path)

    # -- what was acknowledged ---------------------------------------------------------------------------------------------------
    def read_acked(self) -> int:
        """Number of the last commit that was durable, as far as known; 0 if the file was cut by a power failure."""
        if self._acked is None:
            return 0
        mark = os.pread(self._acked, 16, 0)
        number = int.from_bytes(mark[:8], "big")
        return number if mark == _mark(number) else 0

    def write_acked(self, commit: int) -> None:
        """Note that `commit` is durable. A failure to write 16 bytes in place is no failure of the commit."""
        if self._acked is not None:
            try:
                os.pwrite(self._acked, _mark(commit), 0)
            except OSError:
                return

    # -- space -------------------------------------------------------------------------------------------------------------------
    def free_bytes(self) -> int:
        """Bytes that this user may still write to the disk."""
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize

    def used_bytes(self) -> int:
        """Bytes of the database's files. The reserve is not counted."""
        used = 0
        with os.scandir(self.database) as entries:
            for entry in entries:
                try:
                    used += entry.stat().st_size
                except FileNotFoundError:
                    continue  # RocksDB removes files at any time
        return used

    def give_up_reserve(self) -> bool:
        """Free the reserve, so that cursors and trims can be written on a full disk. False if that was done before."""
        if not self.has_reserve:
            return False
        self._reserve.unlink(missing_ok=True)
        self.has_reserve = False
        return True

    def make_reserve(self) -> bool:
        """Allocate the reserve again; False if there is no room."""
        try:
            handle = os.open(self._reserve, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(handle, 0, RESERVE_BYTES)
                os.fsync(handle)
            finally:
                os.close(handle)
            sync_folder(self.path)
        except OSError:
            self._reserve.unlink(missing_ok=True)
            self.has_reserve = False
            return False
        self.has_reserve = True
        return True

    def can_write(self) -> bool:
        """Whether the disk takes and keeps a small file now: asked before the database is closed to open it again."""
        probe = self.path / "probe"
        try:
            _write_new(probe, b"\0" * 65536)
        except OSError:
            return False
        finally:
            probe.unlink(missing_ok=True)
        return True

    def close(self) -> None:
        """Give the lock back. Safe to call twice."""
        for handle in (self._acked, self._lock):
            if handle is not None:
                os.close(handle)
        self._acked = self._lock = None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mark(commit: int) -> bytes:
    return commit.to_bytes(8, "big") + (commit ^ _ALL_ONES).to_bytes(8, "big")


def _write_new(path: Path, content: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, content)
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(path: Path, content: bytes) -> None:
    new = path.with_name(path.name + ".new")
    _write_new(new, content)
    new.replace(path)


def _check_version(path: Path) -> int:
    """The journal's version. Raises JournalTooNew, JournalCorrupt."""
    text = (path / "version").read_bytes()
    if not text.strip().isdigit():
        raise JournalCorrupt(f"{path / 'version'} holds no version but {text[:40]!r}")
    if int(text) > VERSION:
        raise JournalTooNew(f"{path} has version {int(text)}; this program knows versions up to {VERSION}: use a newer esa-tls")
    return int(text)


def _take_lock(path: Path, data_dir: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 400, 0).decode(errors="replace").strip() or "a process that did not say who it is"
        os.close(handle)
        raise JournalLocked(f"{data_dir} is in use by {holder}") from None
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    program = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"process {os.getpid()} ({program}) on {socket.gethostname()} since {since}\n".encode(), 0)
    return handle


def _os_error(error: OSError, path: Path) -> JournalError:
    if error.errno in (28, 122):  # ENOSPC, EDQUOT
        return JournalFull(f"no space left for {path}")
    return JournalError(f"{path} cannot be used: {error}")
