"""What a source sees of the intake."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

from esa_tls.core.batch import Batch
from esa_tls.runtime.intake import Intake
from esa_tls.runtime.journal_format import DeadLetter
from esa_tls.wire.fluent_decode import Rejected


class Reception:
    """What a source sees of the intake: its rejects become dead letters of the journal."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def open_session(self, peer: str) -> int:
        """See `Intake.open_session`."""
        return self._intake.open_session(peer)

    def close_session(self, session: int, *, clean: bool) -> None:
        """See `Intake.close_session`."""
        self._intake.close_session(session, clean=clean)

    def reserve(self, n_bytes: int, /) -> AbstractAsyncContextManager[object]:
        """See `Intake.reserve`."""
        return self._intake.reserve(n_bytes)

    async def submit(self, batch: Batch, /, *, timeout_s: float | None = None) -> None:
        """See `Intake.submit`."""
        await self._intake.submit(batch, timeout_s=timeout_s)

    def break_feed(self) -> None:
        """See `Intake.break_feed`."""
        self._intake.break_feed()

    async def dead_letter(self, rejected: Sequence[Rejected], *, origin: str) -> None:
        """Make what `origin` sent and nobody can read durable, with the reason."""
        now_s = time.time()
        await self._intake.dead_letter([DeadLetter(origin, one.reason, one.payload, "raw", now_s) for one in rejected])
