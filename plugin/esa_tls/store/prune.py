"""What retention removes, in steps of some milliseconds, each a transaction of its own.

A part goes as a whole: when the last of it was stored `max_age_s` ago, or, oldest first, while the file uses more than `max_bytes`. Lines
alone go, part by part, while they take more than `max_lines_bytes`. Age counts from when a record was stored, so that an old log that is
sent today can be looked at for as long as any other. Roll-ups go by age only: they stay when records go for their size.

Room that becomes free is used again, and given back to the file system bit by bit (`incremental_vacuum`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Literal

from esa_tls.store import parts
from esa_tls.store.parts import Part

__all__ = ["Pruner"]

STEP_RECORDS: Final = 500
STEP_BLOCKS: Final = 100
STEP_POSTINGS: Final = 2_000
VACUUM_PAGES: Final = 128
SPARE_PAGES: Final = 512
"""So many free pages stay in the file, for what comes."""
LOOK_S: Final = 60
"""How often ages are looked at; sizes are looked at each time."""
ROLLUP_LOOK_S: Final = 3_600

Outcome = Literal["done", "more", "close"]


class Pruner:
    """See the module."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        transaction: Callable[[], AbstractContextManager[None]],
        max_age_s: int,
        max_bytes: int,
        max_lines_bytes: int,
    ) -> None:
        self.removed: dict[str, int] = {}
        self._connection = connection
        self._transaction = transaction
        self._max_age_s = max_age_s
        self._max_bytes = max_bytes
        self._max_lines_bytes = max_lines_bytes
        self._leaving: tuple[Part, str] | None = None
        self._looked_s = self._rolled_s = -(2**62)

    def used_bytes(self) -> int:
        """Bytes of the file that hold something."""
        pages, free, size = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def step(self, now_s: int) -> Outcome:
        """One small step. `close`: the oldest part has to go and is still being filled."""
        if self._leaving is not None:
            self._remove_some(*self._leaving)
            return "more"
        if now_s - self._rolled_s >= ROLLUP_LOOK_S:
            self._rolled_s = now_s
            self._remove_rollups(now_s - self._max_age_s)
            return "more"
        oldest = self._oldest()
        if oldest is not None:
            if now_s - self._looked_s >= LOOK_S:
                if now_s - oldest.stored_s > self._max_age_s:
                    return self._begin(oldest, "age")
                self._looked_s = now_s
            if self.used_bytes() > self._max_bytes:
                return self._begin(oldest, "size")
            if self._remove_lines():
                return "more"
        return self._give_back()

    def _oldest(self) -> Part | None:
        found = parts.load(self._connection)
        return found[0] if found else None

    def _begin(self, part: Part, reason: str) -> Outcome:
        if not part.sealed:
            return "close"
        self._leaving = (part, reason)
        return "more"

    def _remove_some(self, part: Part, reason: str) -> None:
        connection = self._connection
        with self._transaction():
            if part.gone_n < part.next_n:
                upto = min(part.gone_n + STEP_RECORDS, part.next_n)
                for table in ("record", "body"):
                    connection.execute(f"DELETE FROM {table} WHERE n >= ? AND n < ?", (part.gone_n, upto))  # noqa: S608 (our own names)
                records, part.gone_n = upto - part.gone_n, upto
                part.connections = part.deliveries = part.messages = part.consolidated = 0
                parts.save(connection, part)
                self.removed[reason] = self.removed.get(reason, 0) + records
            elif part.gone_block < part.next_block:
                self._remove_blocks(part)
            elif (last := self._posting_after(part)) is not None:
                connection.execute("DELETE FROM posting WHERE run = ? AND key <= ?", (part.id, last))
            else:
                connection.execute("DELETE FROM posting WHERE run = ?", (part.id,))
                connection.execute("DELETE FROM part WHERE id = ?", (part.id,))
                connection.execute("DELETE FROM dictionary WHERE id NOT IN (SELECT dictionary FROM part WHERE dictionary IS NOT NULL) "
                                   "AND id < (SELECT max(id) FROM dictionary)")  # fmt: skip
                self._leaving = None

    def _posting_after(self, part: Part) -> bytes | None:
        found = self._connection.execute(
            "SELECT key FROM posting WHERE run = ? ORDER BY key LIMIT 1 OFFSET ?", (part.id, STEP_POSTINGS)
        ).fetchone()
        return None if found is None else found[0]

    def _remove_blocks(self, part: Part) -> None:
        upto = min(part.gone_block + STEP_BLOCKS, part.next_block)
        self._connection.execute("DELETE FROM block WHERE n >= ? AND n < ?", (part.gone_block, upto))
        share = (upto - part.gone_block) / (part.next_block - part.gone_block)
        part.lines -= int(part.lines * share)
        part.line_bytes -= int(part.line_bytes * share)
        part.gone_block = upto
        parts.save(self._connection, part)

    def _remove_lines(self) -> bool:
        """Some of the oldest lines, if there are too many; those of the part that is being filled stay."""
        used, oldest = self._connection.execute(
            "SELECT ifnull(sum(line_bytes), 0), min(CASE WHEN sealed AND gone_block < next_block THEN id END) FROM part"
        ).fetchone()
        if used <= self._max_lines_bytes or oldest is None:
            return False
        part = next(part for part in parts.load(self._connection) if part.id == oldest)
        with self._transaction():
            self._remove_blocks(part)
        return True

    def _remove_rollups(self, before_s: int) -> None:
        with self._transaction():
            self._connection.execute("DELETE FROM rollup WHERE stored_s < ?", (before_s,))
            self._connection.execute("DELETE FROM gap WHERE until_s < ?", (before_s,))

    def _give_back(self) -> Outcome:
        free: int = self._connection.execute("PRAGMA freelist_count").fetchone()[0]
        if free <= SPARE_PAGES:
            return "done"
        self._connection.execute(f"PRAGMA incremental_vacuum({min(VACUUM_PAGES, free - SPARE_PAGES)})").fetchall()
        return "more"
