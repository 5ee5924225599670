r"""The `jsonl` sink: records as JSON lines, to a file that is rotated by size, or to standard output (`path: -`).

The bytes are those of the outbox (encoding `json`, each record one object and a line feed); nothing is parsed or changed.

**Files.** `records.jsonl` is the newest, `.1` the one before, up to `.{keep_files}`. A record is never cut in two; a file is larger than
`max_file_bytes` only if it holds a single record. Everything is synced before `send` returns. Only this sink may write or rename
these files.

The position (file, offset, inode, a hash of the file's head) goes into the cursor. `open` finds the file the position is in, under
whatever number rotation gave it, removes the newer ones, gives it its name back and cuts it at the offset: what follows comes again
from the outbox. So no record is repeated and no line is torn, wherever a crash fell. The same is done after a failed write.

Steps of a rotation, and why a crash between any two of them is harmless: sync the full file; move `.n` to `.n+1` from the first free
number downwards; move the file to `.1`; make a new one; sync the folder. Names keep the order of age at every moment, a gap is
filled by the next rotation, and files over `keep_files` are removed only by the `send` after that, when the cursor behind them has been
handed on. If the position's file is gone all the same (somebody removed it, or more than `keep_files` files were filled since the last
durable cursor), nothing is removed, a torn last line is cut, and records may be repeated (their ids repeat).

**Streams** (standard output, pipes, devices) cannot be cut back: at least once, no state. When the reader of a pipe is gone, or
when there is no space, `send` raises TransientError: the rows stay in the outbox and other sinks go on. A closed pipe never comes
back to this process, so the next try is asked for a minute later; a new start with a live pipe sends everything. Nothing is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import select
import stat
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from esa_tls.core.batch import Row
from esa_tls.core.records import KINDS
from esa_tls.errors import TransientError

log = logging.getLogger(__name__)


DEFAULT_MAX_FILE_BYTES = 256 * 1024 * 1024
DEFAULT_KEEP_FILES = 5

HEAD_BYTES = 512
"""So much of a file's beginning tells it from others when its inode does not (after a copy)."""

PIPE_BYTES = 4096
"""A pipe that is ready takes this much without blocking (POSIX PIPE_BUF on Linux)."""

LOOK_AGAIN_MS = 1000
"""A writer that waits for a slow reader looks this often whether it should stop."""

READER_GONE_RETRY_S = 60.0


class Syscalls(NamedTuple):
    """The calls that change the disk. A test replaces them to fail or to crash at each."""

    write: Callable[[int, memoryview], int] = os.write
    fsync: Callable[[int], None] = os.fsync
    replace: Callable[[Path, Path], None] = os.replace
    unlink: Callable[[Path], None] = os.unlink
    ftruncate: Callable[[int, int], None] = os.ftruncate


class Position(msgspec.Struct, frozen=True):
    """A place in a file: `offset` bytes of it are ours for good. `head` is a hash of its first `min(offset, HEAD_BYTES)` bytes."""

    path: str
    offset: int
    inode: int
    head: bytes


class RotatingFile:
    """The file, synchronously: used by one thread at a time. Raises OSError; `append` has then put everything back, or will."""

    def __init__(self, path: Path, *, max_file_bytes: int, keep_files: int, syscalls: Syscalls) -> None:
        self._path = path
        self._max_file_bytes = max_file_bytes
        self._keep_files = keep_files
        self._do = syscalls
        self._fd: int | None = None
        self._size = 0
        self._head = b""
        self._rotated = False
        self._position: Position | None = None

    @property
    def position(self) -> Position | None:
        """The end of what is synced; None before `open`."""
        return self._position

    def open(self, position: Position | None) -> None:
        """Go on at `position`; without one, or if its file is not there, at the end of the newest file."""
        self._let_go()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._open_at(position)
        except OSError:
            self._let_go()  # half open is not open: the next call has to cut again
            raise

    def _open_at(self, position: Position | None) -> None:
        place = None
        if position is not None and position.path == str(self._path):
            place = self._find(position)
            if place is None:
                log.warning("The file of the cursor is gone: records may be repeated.", extra={"path": str(self._path)})
        if position is not None and place is not None:
            self._make_newest(place)
            self._open_newest()
            self._do.ftruncate(self._descriptor, position.offset)
        else:
            self._open_newest()
            self._end_last_line(ours=position is not None and position.path == str(self._path))
        self._size = os.fstat(self._descriptor).st_size
        self._head = _first_bytes(self._path, HEAD_BYTES)
        self._rotated = True  # perhaps, before the crash
        self._confirm()

    def append(self, bodies: Iterable[bytes]) -> None:
        """Write and sync `bodies`, each of whole lines. An OSError leaves the files as they were (at the latest after the next call)."""
        if self._fd is None:
            self.open(self._position)
        try:
            if self._rotated:
                self._prune()
            for body in bodies:
                self._write_lines(body)
            self._confirm()
        except OSError:
            self._let_go()
            with contextlib.suppress(OSError):  # a torn line should not stand until the next try; that will do it otherwise
                self.open(self._position)
            raise

    def close(self) -> None:
        """Let the file go. What is not confirmed stays and is cut off by the next `open`."""
        self._let_go()

    @property
    def _descriptor(self) -> int:
        assert self._fd is not None
        return self._fd

    def _let_go(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)

    def _open_newest(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._sync_folder()

    def _confirm(self) -> None:
        self._do.fsync(self._descriptor)
        inode = os.fstat(self._descriptor).st_ino
        self._position = Position(str(self._path), self._size, inode, _hash(self._head[: self._size]))

    def _write_lines(self, body: bytes) -> None:
        at = 0
        while at < len(body):
            end = len(body)
            if end - at > self._max_file_bytes - self._size:
                end = body.rfind(b"\n", at, at + max(self._max_file_bytes - self._size, 0)) + 1
            if end > at:
                self._write(memoryview(body)[at:end])
                at = end
            elif self._size:
                self._rotate()
            else:  # one record larger than a file
                end = (body.find(b"\n", at) + 1) or len(body)
                self._write(memoryview(body)[at:end])
                at = end

    def _write(self, view: memoryview) -> None:
        if len(self._head) < HEAD_BYTES:
            self._head += bytes(view[: HEAD_BYTES - len(self._head)])
        while view:
            written = self._do.write(self._descriptor, view)
            self._size += written
            view = view[written:]

    # -- rotation and what undoes it ---------------------------------------------------------------------------------------------

    def _numbered(self, n: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{n}") if n else self._path

    def _numbers(self) -> list[int]:
        """Numbers of the files there are, newest first; 0 is the file itself."""
        prefix = self._path.name + "."
        found = [0] if self._path.exists() else []
        for entry in self._path.parent.iterdir():
            suffix = entry.name[len(prefix) :] if entry.name.startswith(prefix) else ""
            if suffix.isascii() and suffix.isdigit() and not suffix.startswith("0"):
                found.append(int(suffix))
        return sorted(found)

    def _rotate(self) -> None:
        self._do.fsync(self._descriptor)
        taken = set(self._numbers())
        free = next(n for n in range(1, len(taken) + 2) if n not in taken)
        for n in range(free - 1, -1, -1):
            self._do.replace(self._numbered(n), self._numbered(n + 1))
        self._let_go()
        self._open_newest()
        self._size = 0
        self._head = b""
        self._rotated = True

    def _prune(self) -> None:
        for n in reversed(self._numbers()):
            if n > self._keep_files:
                self._do.unlink(self._numbered(n))
        self._rotated = False

    def _find(self, position: Position) -> int | None:
        """The number of the file `position` is in: same head, long enough, the same inode if one has it."""
        by_head: int | None = None
        for n in self._numbers():
            path = self._numbered(n)
            status = path.stat()
            if status.st_size < position.offset or _hash(_first_bytes(path, min(position.offset, HEAD_BYTES))) != position.head:
                continue
            if status.st_ino == position.inode:
                return n
            if by_head is None and position.offset:
                by_head = n
        return by_head

    def _make_newest(self, place: int) -> None:
        """Remove what is newer than file number `place` and move it and the older ones up; can be broken off and done again anywhere."""
        numbers = self._numbers()
        for n in numbers:
            if n < place:
                self._do.unlink(self._numbered(n))
        if place:
            for n in numbers:
                if n >= place:
                    self._do.replace(self._numbered(n), self._numbered(n - place))

    def _end_last_line(self, *, ours: bool) -> None:
        """A last line without line feed is cut if the file was ours, else ended: what comes must start a line of its own."""
        data_end = os.fstat(self._descriptor).st_size
        if data_end == 0:
            return
        with self._path.open("rb") as file:
            end = data_end
            keep = 0
            while end and not keep:
                start = max(0, end - 65536)
                file.seek(start)
                keep = file.read(end - start).rfind(b"\n") + 1
                keep += start if keep else 0
                end = start
        if keep == data_end:
            return
        if ours:
            self._do.ftruncate(self._descriptor, keep)
        else:
            self._do.write(self._descriptor, memoryview(b"\n"))

    def _sync_folder(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._do.fsync(folder)
        finally:
            os.close(folder)


class Stream:
    """Standard output, a pipe or a device, synchronously. A reader that does not read is waited for, until `stop`."""

    def __init__(self, path: Path | None, *, stdout_fd: int, syscalls: Syscalls) -> None:
        self._path = path
        self._stdout_fd = stdout_fd
        self._do = syscalls
        self._fd: int | None = None
        self._stopping = threading.Event()

    def open(self) -> None:
        """Open the device, or take standard output."""
        if self._path is None:
            self._fd = self._stdout_fd
        else:
            fifo = stat.S_ISFIFO(self._path.stat().st_mode)  # opening one without a reader would block
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | (os.O_NONBLOCK if fifo else 0))
            os.set_blocking(self._fd, True)

    def append(self, bodies: Iterable[bytes]) -> None:
        """Write `bodies`; returns early if stopped."""
        if self._fd is None:
            self.open()
        fd = self._fd
        assert fd is not None
        if stat.S_ISREG(os.fstat(fd).st_mode):  # standard output may be a file
            for body in bodies:
                self._write(fd, memoryview(body), step=max(len(body), 1))
            self._do.fsync(fd)
            return
        ready = select.poll()
        ready.register(fd, select.POLLOUT)
        for body in bodies:
            self._write(fd, memoryview(body), step=PIPE_BYTES, ready=ready)

    def _write(self, fd: int, view: memoryview, *, step: int, ready: select.poll | None = None) -> None:
        while view:
            while ready is not None and not ready.poll(LOOK_AGAIN_MS):
                if self._stopping.is_set():
                    raise InterruptedError(errno.EINTR, "stopped while the reader did not read")
            view = view[self._do.write(fd, view[:step]) :]

    def stop(self) -> None:
        """End a write that waits (from another thread)."""
        self._stopping.set()

    def close(self) -> None:
        """Close what `open` opened; standard output belongs to the process."""
        if self._fd is not None and self._path is not None:
            os.close(self._fd)
        self._fd = None


class JsonlSink:
    """See the module. `path` `-` is standard output. A thread of its own writes, so that the event loop never waits for a disk."""

    encoding = "json"

    def __init__(
        self,
        path: str,
        *,
        name: str = "jsonl",
        cls_wanted: tuple[str, ...] = ("line", "summary"),
        kinds: frozenset[str] = frozenset(KINDS),
        max_file_bytes: int = DEFAULT_MAX_FILE_BYTES,
        keep_files: int = DEFAULT_KEEP_FILES,
        stdout_fd: int = 1,
        syscalls: Syscalls = Syscalls(),  # noqa: B008 (immutable)
    ) -> None:
        if keep_files < 1 or max_file_bytes < 1:
            message = "jsonl: keep_files and max_file_bytes must be at least 1"
            raise ValueError(message)
        self.name = name
        self.cls_wanted = cls_wanted
        self.kinds = kinds
        self._file: RotatingFile | None = None
        self._stream: Stream | None = None
        if path == "-":
            self._stream = Stream(None, stdout_fd=stdout_fd, syscalls=syscalls)
        elif _is_device(target := Path(path).absolute()):
            self._stream = Stream(target, stdout_fd=stdout_fd, syscalls=syscalls)
        else:
            self._file = RotatingFile(target, max_file_bytes=max_file_bytes, keep_files=keep_files, syscalls=syscalls)
        self._path = path
        self._thread: ThreadPoolExecutor | None = None
        self._closed = False

    async def open(self, state: bytes | None) -> None:
        """Cut the file back to `state` (of `state()`), or begin at its end. Raises TransientError."""
        position: Position | None = None
        if state is not None:
            try:
                position = msgspec.msgpack.decode(state, type=Position)
            except (msgspec.DecodeError, msgspec.ValidationError):
                log.warning("The cursor's file position is unreadable: records may be repeated.", extra={"path": self._path})
        await self._in_thread(lambda: self._file.open(position) if self._file else self._require_stream().open())

    async def send(self, rows: list[tuple[int, Row]]) -> None:
        """Write and sync the records of the wanted kinds. Raises TransientError; the file is then as it was before."""
        bodies = [body for _, row in rows for kind, _, body in row.segments if kind in self.kinds]
        await self._in_thread(lambda: self._file.append(bodies) if self._file else self._require_stream().append(bodies))

    def state(self) -> bytes | None:
        """The position after everything sent; None for streams and before `open`."""
        if self._file is None or self._file.position is None:
            return None
        return msgspec.msgpack.encode(self._file.position)

    async def close(self) -> None:
        """Wait for a write under way, then let the file go."""
        self._closed = True
        if self._stream is not None:
            self._stream.stop()
        if self._thread is not None:
            thread, self._thread = self._thread, None
            target = self._file or self._require_stream()
            closing = asyncio.get_running_loop().run_in_executor(thread, target.close)
            thread.shutdown(wait=False)
            await closing

    def _require_stream(self) -> Stream:
        assert self._stream is not None
        return self._stream

    async def _in_thread(self, work: Callable[[], None]) -> None:
        if self._closed:
            message = "jsonl: closed"
            raise TransientError(message)
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"jsonl-{self.name}")
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except BrokenPipeError as error:
            message = f"jsonl: the reader of {self._path} is gone"
            raise TransientError(message, retry_after_s=READER_GONE_RETRY_S) from error
        except OSError as error:
            message = f"jsonl: {self._path}: {error.strerror or error}"
            raise TransientError(message) from error


def _is_device(path: Path) -> bool:
    """Whether `path` is something that must not be renamed or cut: no regular file, or a name like /dev/stdout (whatever is behind it)."""
    return (path.exists() and not path.is_file()) or path.parts[1:2] in (("dev",), ("proc",))


def _first_bytes(path: Path, n: int) -> bytes:
    with path.open("rb") as file:
        return file.read(n)


def _hash(head: bytes) -> bytes:
    return hashlib.blake2b(head, digest_size=8).digest()
