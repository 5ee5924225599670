"""The writer in a process of its own: `python -m esa_tls.store.worker`, started by the store's sink.

Filing a record costs several times what making it costs, all of it in Python: in the sidecar's own process it would take that from the
event loop. Here it takes another core, and what happens to this process does not happen to the intake.

Over standard input and output go frames: 4 bytes length, big endian, and one msgpack map. Each `Request` gets one `Reply`. The end of the
input is the end of the process; so it ends whenever the sidecar does, however that ends, and after a request it may have in hand. Between
requests it removes what is too old or too much. A broken file is set aside (`<name>.damaged`, one is kept) and a new one begun.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sqlite3
import sys
import time
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from esa_tls.core.batch import Row
from esa_tls.errors import StoreError, StoreTooNew
from esa_tls.store.schema import is_damaged
from esa_tls.store.write import Limits, Numbers, Writer

__all__ = ["Apply", "Open", "Reply", "Request", "Skip", "Worker", "read_frame", "serve", "write_frame"]

TIDY_S: Final = 0.02
"""Removing takes so long at a time, or half of what the last request took."""
IDLE_S: Final = 5.0
"""How often ages are looked at when nothing comes."""
NICENESS: Final = 10
LOCK_WAIT_S: Final = 20.0
"""A worker of a sidecar that was killed may still be at its last rows."""


class Open(msgspec.Struct, frozen=True, tag="open"):
    """Open the file. `token`: as given by the last reply that this sidecar remembers."""

    path: str
    limits: Limits
    token: bytes | None = None


class Apply(msgspec.Struct, frozen=True, tag="apply"):
    """File rows: (sequence, class, encoding, segments)."""

    rows: list[tuple[int, str, str, list[tuple[str, int, bytes]]]]


class Skip(msgspec.Struct, frozen=True, tag="skip"):
    """Rows up to `position`, with so many records, were left out."""

    position: int
    records: int


class SetAside(msgspec.Struct, frozen=True, tag="set_aside"):
    """A reader found the file with this inode broken."""

    inode: int


Request = Open | Apply | Skip | SetAside


class Reply(msgspec.Struct, frozen=True):
    """What became of a request. `error`: None, `too_new`, `unreadable`, or `failed` (try again). `set_aside`: why the file was."""

    error: str | None = None
    message: str = ""
    token: bytes = b""
    numbers: Numbers | None = None
    set_aside: str | None = None


class Worker:
    """Does the requests, one at a time, and keeps its writer."""

    def __init__(self) -> None:
        self._opened: Open | None = None
        self._writer: Writer | None = None
        self._token: bytes | None = None
        self._lock: int | None = None

    def do(self, request: Request) -> Reply:
        """One request. Every error of the file becomes a reply."""
        set_aside = None
        try:
            try:
                self._do(request)
                numbers = self._numbers()
            except sqlite3.DatabaseError as error:
                if not is_damaged(error):
                    raise
                set_aside = str(error)
                self._set_aside()
                if not isinstance(request, Open | SetAside):
                    self._do(request)
                numbers = self._numbers()
        except (sqlite3.Error, OSError) as error:
            return Reply("failed", str(error))
        except StoreTooNew as error:
            return Reply("too_new", str(error))
        except StoreError as error:
            return Reply("unreadable", str(error))
        return Reply(token=self._token or b"", numbers=numbers, set_aside=set_aside)

    def _do(self, request: Request) -> None:
        match request:
            case Open():
                self.close()
                self._opened, self._token = request, request.token
                self._open()
            case Apply():
                rows = [(sequence, Row(cls, encoding, segments)) for sequence, cls, encoding, segments in request.rows]
                self._require().apply(rows)
            case Skip():
                self._require().note_gap("behind", request.records, request.position)
            case SetAside():
                if self._require().path.stat().st_ino == request.inode:
                    raise _broken("a reader found it broken")

    def _require(self) -> Writer:
        if self._writer is None:
            self._open()
        assert self._writer is not None
        return self._writer

    def _numbers(self) -> Numbers:
        return self._require().numbers()

    def _open(self) -> None:
        assert self._opened is not None
        path = Path(self._opened.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._take_lock(path)
        writer = Writer(path, self._opened.limits)
        writer.open()
        self._writer = writer
        self._token = writer.resume(self._token)

    def _take_lock(self, path: Path) -> None:
        if self._lock is None:
            lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            give_up_s = time.monotonic() + LOCK_WAIT_S
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    if time.monotonic() >= give_up_s:
                        os.close(lock)
                        raise OSError(error.errno, f"{path} is written by another process") from error
                    time.sleep(0.05)
                else:
                    break
            self._lock = lock

    def _set_aside(self) -> None:
        assert self._opened is not None
        self._close_writer()
        path = Path(self._opened.path)
        for ending in ("-shm", "-journal"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        for ending in ("-wal", ""):
            found = path.with_name(path.name + ending)
            aside = path.with_name(f"{path.name}.damaged{ending}")
            if found.exists():
                found.replace(aside)
            else:
                aside.unlink(missing_ok=True)
        self._open()
        self._require().note_gap("damaged", 0, 0)

    def tidy(self, *, within_s: float) -> bool:
        """Whether something is left to remove. A broken file is left to the next request."""
        if self._writer is None:
            return False
        try:
            return self._writer.tidy(within_s=within_s)
        except sqlite3.Error:
            return False

    def _close_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(sqlite3.Error):
                writer.close()

    def close(self) -> None:
        """Let file and lock go."""
        self._close_writer()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _broken(message: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(message)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


# -- frames ----------------------------------------------------------------------------------------------------------------------
def write_frame(stream: BinaryIO, content: bytes) -> None:
    """Send one frame. Raises OSError."""
    stream.write(len(content).to_bytes(4, "big"))
    stream.write(content)
    stream.flush()


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next frame; None at the end of the stream, also inside a frame. Raises OSError."""
    head = stream.read(4)
    if len(head) < 4:
        return None
    length = int.from_bytes(head, "big")
    content = stream.read(length)
    return content if len(content) == length else None


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """Do requests until there are no more. `requests` is not buffered ahead of a frame."""
    decode, encode = msgspec.msgpack.Decoder(Request).decode, msgspec.msgpack.Encoder().encode
    worker, more, took_s = Worker(), False, 0.0
    try:
        while True:
            if more or not select.select([requests], [], [], IDLE_S)[0]:
                more = worker.tidy(within_s=max(TIDY_S, took_s / 2))
                took_s = 0.0
                if not select.select([requests], [], [], 0)[0]:
                    continue
            content = read_frame(requests)
            if content is None:
                return
            began_s = time.monotonic()
            reply = worker.do(decode(content))
            took_s = time.monotonic() - began_s
            write_frame(replies, encode(reply))
            more = True
    except BrokenPipeError:
        return
    finally:
        worker.close()


class _Unbuffered:
    """Reads whole lengths from a descriptor and not a byte more, so that `select` tells the truth."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def read(self, length: int) -> bytes:
        found = bytearray()
        while len(found) < length:
            part = os.read(self._descriptor, min(length - len(found), 1 << 20))
            if not part:
                break
            found += part
        return bytes(found)


def give_way() -> None:
    """Let others on this machine go first: the store may lag. Not under a filter of system calls, which might end us for asking."""
    with contextlib.suppress(OSError):
        if "Seccomp:\t0\n" in Path("/proc/self/status").read_text():
            os.nice(NICENESS)


def main() -> None:
    """The process: signals to the group are for the sidecar, which ends this one by closing the input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    give_way()
    os.umask(0o077)  # mail addresses and Subjects are in the file
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing but replies goes there
    serve(_Unbuffered(0), replies)  # type: ignore[arg-type]
    sys.exit(0)


if __name__ == "__main__":
    main()
