"""In memory: the durable step as sources see it, with failures on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from esa_tls.core.batch import Batch
from esa_tls.errors import JournalFull

TEST_TIMEOUT_S = 20.0


def line(number: int) -> bytes:
    """The raw line whose id is `number`."""
    return b"Wed Nov 18 10:00:00 2026 Info: id-%d" % number


def numbers_in(lines: Sequence[bytes]) -> list[int]:
    """Ids of lines made by `line`; lines of anybody else fail here."""
    prefix = line(0)[:-1]
    assert all(one.startswith(prefix) for one in lines), lines
    return [int(one.removeprefix(prefix)) for one in lines]


class FakeIntake:
    """Commits at once, or when let go; knows batches by their keys; counts reservations that were not given back."""

    def __init__(self) -> None:
        self.committed: list[bytes] = []
        """Lines that are durable, in order."""
        self.letters: list[bytes] = []
        """Payloads that are durable as dead letters."""
        self.failing: Callable[[], bool] = lambda: False
        """Asked at each batch: whether the journal cannot take it for the moment."""
        self.refused = 0
        """Batches it could not take."""
        self.opened = 0
        self.closed: dict[int, bool] = {}
        self.reserved_bytes = 0
        self.waiting = 0
        self.breaks = 0
        self._known: set[bytes] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._changed = asyncio.Condition()

    def numbers(self) -> list[int]:
        """Ids of all durable lines."""
        return numbers_in(self.committed)

    def hold(self) -> None:
        """From now on commits wait."""
        self._open.clear()

    async def held(self) -> None:
        """Return when a commit waits."""
        async with asyncio.timeout(TEST_TIMEOUT_S), self._changed:
            await self._changed.wait_for(lambda: self.waiting > 0)

    def let_go(self) -> None:
        """Waiting commits go on."""
        self._open.set()

    # -- what sources call -------------------------------------------------------------------------------------------------------
    def open_session(self, peer: str) -> int:
        assert peer
        self.opened += 1
        return self.opened

    def close_session(self, session: int, *, clean: bool) -> None:
        assert 0 < session <= self.opened
        assert session not in self.closed
        self.closed[session] = clean

    def break_feed(self) -> None:
        self.breaks += 1

    def reserve(self, n_bytes: int, /) -> AbstractAsyncContextManager[object]:
        @asynccontextmanager
        async def room() -> Any:
            self.reserved_bytes += n_bytes
            try:
                yield None
            finally:
                self.reserved_bytes -= n_bytes

        return room()

    async def submit(self, batch: Batch, /, *, timeout_s: float | None = None) -> None:
        await self._wait(timeout_s)
        if self.failing():
            self.refused += 1
            raise JournalFull("no room")
        if batch.key is None or batch.key not in self._known:
            self.committed += [one for run in batch.runs for one in run.lines]
        if batch.key is not None:
            self._known.add(batch.key)

    async def dead_letter(self, rejected: Sequence[Any], *, origin: str) -> None:
        assert origin.startswith("source:")
        await self._wait(None)
        self.letters += [one.payload for one in rejected]

    async def _wait(self, timeout_s: float | None) -> None:
        self.waiting += 1
        async with self._changed:
            self._changed.notify_all()
        try:
            async with asyncio.timeout(timeout_s):
                await self._open.wait()
        except TimeoutError as error:
            raise JournalFull("no room in time") from error
        finally:
            self.waiting -= 1
