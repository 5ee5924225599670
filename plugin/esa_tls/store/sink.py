"""The embedded store as a sink: rows of the outbox to the writer's process (`worker.py`), which this sink starts and ends.

It may lag, and it judges no acknowledgement. So that it holds up nobody either:

- Rows are handed over at most every `LINGER_S` while few come: the more at once, the better they are packed, and the fewer writes.
- When `behind()` says that the journal is filling up because of what the store has not got, rows are passed over, counted, and noted in
  the store as a gap, until it says no more.
- A broken file is set aside by the worker and a new one begun; a worker that ended is started anew, and the rows are sent again, which
  adds nothing twice. Any other failure (no space) is retried as for every sink.

Only a file that a newer esa-tls wrote, or that belongs to another program, is an error: `open` raises it, and the sidecar does not start.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from esa_tls import telemetry
from esa_tls.core.batch import Row
from esa_tls.core.records import KINDS
from esa_tls.errors import StoreTooNew, StoreUnreadable, TransientError
from esa_tls.store.worker import Apply, Open, Reply, Request, SetAside, Skip, read_frame, write_frame
from esa_tls.store.write import Limits, Numbers
from esa_tls.telemetry import Counters

__all__ = ["STORE", "StoreSink"]

log = logging.getLogger(__name__)

T = TypeVar("T")

STORE: Final = "store"
"""The name of its cursor."""
LINGER_S: Final = 0.5
FULL_BYTES: Final = 1024 * 1024
"""Rows of so many bytes are a batch worth writing without waiting for more."""
PIPE_BYTES: Final = 1024 * 1024
END_S: Final = 5.0
"""A worker that was told to end may take so long."""


class _Place(msgspec.Struct, frozen=True):
    """What the cursor keeps for the sink: which journal the file knows its position in."""

    token: bytes


class StoreSink:
    """See the module. A thread of its own waits for the worker."""

    encoding = "store"
    name = STORE

    def __init__(
        self,
        path: Path,
        limits: Limits,
        *,
        counters: Counters,
        behind: Callable[[], bool] = lambda: False,
        linger_s: float = LINGER_S,
        command: Sequence[str] = (),
    ) -> None:
        self.kinds = frozenset(KINDS) if limits.lines else frozenset(KINDS) - {"line"}
        self.cls_wanted = ("line", "summary") if limits.lines else ("summary",)
        self._path = path.absolute()
        self._limits = limits
        self._counters = counters
        self._behind = behind
        self._linger_s = linger_s
        self._command = tuple(command) or (sys.executable, "-m", "esa_tls.store.worker")
        self._thread: ThreadPoolExecutor | None = None
        self._worker: subprocess.Popen[bytes] | None = None
        self._talking = threading.Lock()
        self._token: bytes | None = None
        self._damaged_inode: int | None = None
        self._skipping = False
        self._closed = False
        self._numbers: Numbers | None = None
        counters.gauge(telemetry.STORE_SIZE, lambda: None if self._numbers is None else self._numbers.bytes)
        counters.gauge(telemetry.STORE_RECORDS, lambda: None if self._numbers is None else self._numbers.records)
        counters.gauge(telemetry.STORE_LINES, lambda: None if self._numbers is None else self._numbers.lines)

    @property
    def path(self) -> Path:
        """The store's file."""
        return self._path

    def report_damage(self, inode: int) -> None:
        """A reader found the file with this inode broken: it is set aside before the next rows. From any thread."""
        self._damaged_inode = inode

    async def open(self, state: bytes | None) -> None:
        """Start the worker and open the file, going on from `state`. Raises TransientError; StoreTooNew and StoreUnreadable for good."""
        if state is not None:
            with contextlib.suppress(msgspec.MsgspecError):
                self._token = msgspec.msgpack.decode(state, type=_Place).token
        try:
            await self._ask(Open(str(self._path), self._limits, self._token))
        except (StoreTooNew, StoreUnreadable):
            await self.close()
            raise

    async def send(self, rows: list[tuple[int, Row]]) -> None:
        """Return when the records are in the file, or are passed over because it is too far behind. Raises TransientError."""
        began_s = time.monotonic()
        if self._damaged_inode is not None:
            inode, self._damaged_inode = self._damaged_inode, None
            await self._ask(SetAside(inode))
        if await self._in_thread(self._behind):
            await self._skip(rows)
            return
        self._skipping = False
        await self._ask(Apply([(sequence, row.cls, row.encoding, row.segments) for sequence, row in rows]))
        if sum(len(body) for _, row in rows for _, _, body in row.segments) < FULL_BYTES:
            await asyncio.sleep(max(0.0, began_s + self._linger_s - time.monotonic()))

    async def _skip(self, rows: list[tuple[int, Row]]) -> None:
        if not self._skipping:
            self._skipping = True
            log.warning("The store is too far behind: it passes records over until it has caught up.", extra={"path": str(self._path)})
        records = sum(count for _, row in rows for _, count, _ in row.segments)
        self._counters.add(telemetry.SINK_DROPPED, records, sink=self.name, reason="behind")
        await self._ask(Skip(rows[-1][0], records))

    def state(self) -> bytes | None:
        """The token of the file."""
        return None if self._token is None else msgspec.msgpack.encode(_Place(self._token))

    async def close(self) -> None:
        """Let the worker end: at once if it is idle, by force if it was left in the middle of something."""
        self._closed = True
        if self._talking.locked():
            self._kill()
        thread, self._thread = self._thread, None
        if thread is not None:
            ending = asyncio.get_running_loop().run_in_executor(thread, self._end)
            thread.shutdown(wait=False)
            await ending

    # -- the worker ------------------------------------------------------------------------------------------------------------------
    async def _ask(self, request: Request) -> None:
        if self._closed:
            raise TransientError("store: closed")
        reply = await self._in_thread(lambda: self._talk(request))
        match reply.error:
            case None:
                self._take(reply)
            case "too_new":
                raise StoreTooNew(reply.message)
            case "unreadable":
                raise StoreUnreadable(reply.message)
            case _:
                raise TransientError(f"store: {self._path}: {reply.message}")

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-write")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _take(self, reply: Reply) -> None:
        self._token = reply.token
        if reply.set_aside is not None:
            self._counters.add(telemetry.STORE_SET_ASIDE)
            log.error(
                "The store's file is broken: it was set aside as %s.damaged, and a new one is begun.",
                self._path.name,
                extra={"path": str(self._path), "error": reply.set_aside},
            )
        before, self._numbers = self._numbers, reply.numbers
        if reply.numbers is None:
            return
        removed = {} if before is None else before.removed
        for reason, records in reply.numbers.removed.items():
            if (more := records - removed.get(reason, 0)) > 0:
                self._counters.add(telemetry.STORE_REMOVED, more, reason=reason)
        unreadable = 0 if before is None else before.unreadable
        if reply.numbers.unreadable > unreadable:
            if not unreadable:
                log.warning("The store leaves out records that it cannot read.", extra={"error": reply.numbers.unreadable_because})
            self._counters.add(telemetry.STORE_UNREADABLE, reply.numbers.unreadable - unreadable)

    def _talk(self, request: Request) -> Reply:
        """One request and its reply (in the thread). Raises TransientError if the worker is gone."""
        with self._talking:
            try:
                if self._closed:
                    raise TransientError("store: closed")
                opened = Reply()
                if self._worker is None:
                    self._start()
                    if not isinstance(request, Open):
                        opened = self._exchange(Open(str(self._path), self._limits, self._token))
                        if opened.error is not None:
                            return opened
                reply = self._exchange(request)
                return reply if opened.set_aside is None else msgspec.structs.replace(reply, set_aside=opened.set_aside)
            except (OSError, EOFError, msgspec.MsgspecError) as error:
                self._kill()
                self._end()
                raise TransientError(f"store: its writer ended: {error}") from error

    def _start(self) -> None:
        self._numbers = None
        self._worker = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603 (our own command)
        with contextlib.suppress(OSError):  # a wish: fewer turns for a large frame
            fcntl.fcntl(self._worker.stdin, fcntl.F_SETPIPE_SZ, PIPE_BYTES)  # type: ignore[arg-type]

    def _exchange(self, request: Request) -> Reply:
        assert self._worker is not None
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        write_frame(self._worker.stdin, _encode(request))  # type: ignore[arg-type]
        content = read_frame(self._worker.stdout)  # type: ignore[arg-type]
        if content is None:
            raise EOFError("no answer")
        return _decode(content)

    def _kill(self) -> None:
        worker = self._worker
        if worker is not None:
            worker.kill()

    def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        for stream in (worker.stdin, worker.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            worker.wait(END_S)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Reply).decode
