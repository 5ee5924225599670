"""Waiting one's turn on the event loop: a gate that opens and closes, and a number of bytes that many share.

Both are fair: who came first passes first, and who gives up while waiting (or just after being called) holds nobody back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from esa_tls.errors import FrameTooLarge


class Gate:
    """Lets callers through in the order they came, one by one, while `is_open()`."""

    def __init__(self, is_open: Callable[[], bool]) -> None:
        self._is_open = is_open
        self._queue: deque[asyncio.Future[None]] = deque()

    async def pass_through(self) -> None:
        """Wait for one's turn; the caller calls `let_next` when it has done what it came for."""
        first = True
        while not self._is_open() or (first and self._queue):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            if first:
                self._queue.append(turn)
            else:
                self._queue.appendleft(turn)  # it closed again between being called and getting here
            first = False
            try:
                await turn
            except asyncio.CancelledError:
                if turn in self._queue:
                    self._queue.remove(turn)
                self.let_next()
                raise

    def let_next(self) -> None:
        """Call the next one, if it may pass."""
        if self._queue and self._is_open():
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)

    def open_for_all(self) -> None:
        """Call everybody: there is nothing to wait for any more."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)


class Budget:
    """A number of bytes that many share, first come, first served."""

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self.taken_bytes = 0
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    def has(self, n_bytes: int) -> bool:
        """Whether `take` would not wait."""
        return not self._queue and self.taken_bytes + n_bytes <= self._total_bytes

    async def take(self, n_bytes: int) -> None:
        """Take bytes, waiting for one's turn. Raises FrameTooLarge for more than there are."""
        if n_bytes > self._total_bytes:
            raise FrameTooLarge(f"{n_bytes} bytes are more than all senders together may have in memory ({self._total_bytes})")
        if self.has(n_bytes):
            self.taken_bytes += n_bytes
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((n_bytes, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(n_bytes)  # it was served, but nobody is there to take it
            else:
                self._queue = deque(waiting for waiting in self._queue if waiting[1] is not turn)
                self._serve()
            raise

    def give(self, n_bytes: int) -> None:
        """Give bytes back."""
        self.taken_bytes -= n_bytes
        self._serve()

    def _serve(self) -> None:
        while self._queue and self.taken_bytes + self._queue[0][0] <= self._total_bytes:
            n_bytes, turn = self._queue.popleft()
            if not turn.done():
                self.taken_bytes += n_bytes
                turn.set_result(None)
