"""The durable step of Forward and syslog tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from esa_tls.core.batch import Batch
from esa_tls.wire.fluent_decode import Rejected

TIMEOUT_S = 30.0


class MemoryIntake:
    """The durable step without a disk. Batches enter at once; they are durable when `accepting` is set, or when let through one by one."""

    def __init__(self, *, budget_bytes: int = 1 << 30) -> None:
        self.accepting = asyncio.Event()
        self.accepting.set()
        self.entered: list[Batch] = []
        self.committed: list[Batch] = []
        self.known: set[bytes] = set()
        self.letters: list[tuple[str, Rejected]] = []
        self.opened: list[str] = []
        self.closed: dict[int, bool] = {}
        self.reserved: list[int] = []
        """What was asked for, in bytes."""
        self.free_bytes = budget_bytes
        self.failures: list[Exception] = []
        """Raised by the next batches, at once."""
        self.late_failures: list[Exception] = []
        """Raised by the next batches, when they would have become durable."""
        self.in_flight = self.most_in_flight = 0
        self.let_through: set[bytes] = set()
        """First lines of batches that need not wait for `accepting`."""
        self._changed = asyncio.Condition()
        self._telling: set[asyncio.Task[None]] = set()

    async def changed(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(TIMEOUT_S), self._changed:
            await self._changed.wait_for(condition)

    def open_session(self, peer: str) -> int:
        self.opened.append(peer)
        self._tell()
        return len(self.opened)

    def close_session(self, session: int, *, clean: bool) -> None:
        assert session not in self.closed
        self.closed[session] = clean
        self._tell()

    def _tell(self) -> None:
        task = asyncio.get_running_loop().create_task(self.changed())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    def reserve(self, n_bytes: int) -> Reservation:
        return Reservation(self, n_bytes)

    async def submit(self, batch: Batch) -> None:
        self.entered.append(batch)
        self.in_flight += 1
        self.most_in_flight = max(self.in_flight, self.most_in_flight)
        try:
            await self.changed()
            if self.failures:
                raise self.failures.pop(0)
            await self.until(lambda: self.accepting.is_set() or batch.runs[0].lines[0] in self.let_through)
            if self.late_failures:
                raise self.late_failures.pop(0)
            if batch.key is None or batch.key not in self.known:
                self.committed.append(batch)
            if batch.key is not None:
                self.known.add(batch.key)
        finally:
            self.in_flight -= 1
        await self.changed()

    async def dead_letter(self, rejected: Sequence[Rejected], *, origin: str) -> None:
        await self.until(self.accepting.is_set)
        self.letters += [(origin, letter) for letter in rejected]
        await self.changed()

    async def accept(self) -> None:
        self.accepting.set()
        await self.changed()

    def lines(self) -> list[bytes]:
        """Durable lines in the order in which they entered the core."""
        durable = set(map(id, self.committed))
        return [line for batch in self.entered if id(batch) in durable for run in batch.runs for line in run.lines]

    def flags(self) -> list[tuple[str, ...]]:
        """Of each line that entered its flags."""
        return [run.flags for batch in self.entered for run in batch.runs for _ in run.lines]


class Reservation:
    """Room in the budget. A class, not a generator: forgetting to leave it must not be healed by the garbage collector."""

    def __init__(self, intake: MemoryIntake, n_bytes: int) -> None:
        self.intake = intake
        self.n_bytes = n_bytes

    async def __aenter__(self) -> None:
        self.intake.reserved.append(self.n_bytes)
        await self.intake.changed()
        await self.intake.until(lambda: self.n_bytes <= self.intake.free_bytes)
        self.intake.free_bytes -= self.n_bytes

    async def __aexit__(self, *_: object) -> None:
        self.intake.free_bytes += self.n_bytes
        await self.intake.changed()
