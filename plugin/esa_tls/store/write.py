"""The writer of the embedded store: rows of the outbox in, one transaction each time.

Rules of this file:

1. Exactly once. `token` and `position` stand in the file and change with the rows: rows up to `position` of the journal that gave `token`
   are skipped. A record whose id is there already adds nothing, neither a row nor to a roll-up (the same logs may be sent again).
2. A failed transaction leaves the file as it was, and what is known in memory is read anew.
3. The writer is used by one thread at a time and never asks the event loop for anything; `tidy` (`prune.py`) is called between rows and
   does a little at a time.
4. A record that cannot be read is counted and left out: the store is a copy, and nothing here may stop the intake.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from esa_tls.core.batch import Row
from esa_tls.core.line_row import LineRow, decode_line_rows
from esa_tls.store import parts
from esa_tls.store.columns import Columns, columns_of
from esa_tls.store.packing import MAX_BLOCK_LINES, Packer, pack_block
from esa_tls.store.parsed import Record, decode_record, seconds_of
from esa_tls.store.parts import Part
from esa_tls.store.prune import Pruner
from esa_tls.store.rollup import DAY_S, HOUR_S, MAX_NAMES, NAMED, cells_of
from esa_tls.store.schema import open_for_writing
from esa_tls.store.terms import KEY_BYTES, key_of, terms_of

__all__ = ["Limits", "Numbers", "Writer"]

MAX_WORDS: Final = 4_096
"""Different protocols and ciphers that have a column; the records say more."""
MAX_DAYS: Final = 64
"""Days whose names are known in memory."""

_INSERT: Final = f"INSERT OR IGNORE INTO record VALUES ({', '.join('?' * (len(Columns._fields) + 1))})"  # noqa: S608 (our own names)
_ROLL: Final = (
    "INSERT INTO rollup VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "number = number + excluded.number, stored_s = excluded.stored_s"
)
_COUNTED: Final = ("", "connections", "deliveries", "messages", "consolidated")


class Limits(msgspec.Struct, frozen=True):
    """What the store may keep. `lines`: log lines at all; `max_lines_bytes`: at most so many bytes of them, compressed."""

    max_age_s: int
    max_bytes: int
    lines: bool = True
    max_lines_bytes: int = 2**62


class Numbers(msgspec.Struct, frozen=True):
    """The writer in numbers. `unreadable`, `removed`: records left out and removed since it was opened, with the reason."""

    position: int
    bytes: int
    line_bytes: int
    records: int
    lines: int
    unreadable: int
    unreadable_because: str
    removed: dict[str, int]


Filed = tuple[Record, bytes, Columns]
Cells = dict[tuple[int, int, int, int, int, str, str], int]
"""(series, hour, appliance, direction, flow, name, clear) -> number."""


class Writer:
    """See the module. `open` -> `resume` -> `apply`, `tidy`... -> `close`."""

    def __init__(
        self, path: Path, limits: Limits, *, now_s: Callable[[], float] = time.time, part_records: int = parts.PART_RECORDS
    ) -> None:
        self.path = path
        self.unreadable = 0
        self.unreadable_because = ""
        self._limits = limits
        self._now_s = now_s
        self._part_records = part_records
        self._connection: sqlite3.Connection | None = None
        self._pruner: Pruner | None = None
        self._forget()

    def _forget(self) -> None:
        self._part: Part | None = None
        self._position = 0
        self._token = b""
        self._packer = Packer()
        self._packer_of: int | None = None
        self._appliances: dict[str, int] = {}
        self._words: dict[str, int] = {"": 0}
        self._fresh = 0
        self._names: dict[tuple[int, int], set[str]] = {}

    # -- life ----------------------------------------------------------------------------------------------------------------------
    def open(self) -> None:
        """Open or make the file.

        Raises:
            StoreTooNew, StoreUnreadable: see `schema.open_for_writing`. sqlite3.Error.
        """
        self._connection = open_for_writing(self.path)
        self._pruner = Pruner(self._connection, self._transaction, self._limits.max_age_s, self._limits.max_bytes, self._line_limit())
        with self._transaction():
            self._connection.execute("REPLACE INTO meta VALUES ('lines', ?)", (int(self._limits.lines),))
        self._load()

    def close(self) -> None:
        """Let the file go."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # one file, complete, to be copied
            finally:
                connection.close()

    @property
    def position(self) -> int:
        """The last row that is in the file."""
        return self._position

    def _line_limit(self) -> int:
        return self._limits.max_lines_bytes if self._limits.lines else 0

    def _db(self) -> sqlite3.Connection:
        assert self._connection is not None
        return self._connection

    def _load(self) -> None:
        self._forget()
        connection = self._db()
        meta = dict(connection.execute("SELECT name, value FROM meta"))
        self._token, self._position = meta.get("token", b""), meta.get("position", 0)
        self._appliances = {name: ident for ident, name in connection.execute("SELECT id, name FROM appliance")}
        self._words |= {text: ident for ident, text in connection.execute("SELECT id, text FROM word")}
        self._fresh = parts.fresh_keys(connection)
        newest = parts.load(connection)[-1:]
        if newest and not newest[0].sealed:
            self._use(newest[0])

    def _use(self, part: Part) -> None:
        self._part = part
        if self._packer_of != part.dictionary or part.dictionary is None:
            self._packer = Packer(parts.dictionary_of(self._db(), part.dictionary))
            self._packer_of = part.dictionary

    def resume(self, token: bytes | None) -> bytes:
        """Say which journal the rows come from, by the token that it was given before; returns the one to give next time.

        With the file's own token the position counts; with another one (the journal or the file is new) all rows are taken.
        """
        if token is None or token != self._token:
            token = os.urandom(16)
            with self._transaction():
                self._db().executemany("REPLACE INTO meta VALUES (?, ?)", [("token", token), ("position", 0)])
            self._token, self._position = token, 0
        return token

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        connection = self._db()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    # -- rows ----------------------------------------------------------------------------------------------------------------------
    def apply(self, rows: Sequence[tuple[int, Row]]) -> None:
        """File the records of these rows, durably. Raises sqlite3.Error; the file is then as before."""
        new = [row for sequence, row in rows if sequence > self._position]
        if not new:
            return
        records, lines = self._read(new)
        now_s = int(self._now_s())
        try:
            with self._transaction():
                cells: Cells = {}
                filed = 0
                while filed < len(records):
                    part = self._part_for(now_s)
                    piece = records[filed : filed + part.room(self._part_records)]
                    self._file(part, piece, cells, now_s)
                    filed += len(piece)
                for at in range(0, len(lines), MAX_BLOCK_LINES):
                    self._keep_lines(self._part_for(now_s), lines[at : at + MAX_BLOCK_LINES], now_s)
                self._roll(cells, now_s)
                if self._part is not None:
                    parts.remember_numbers(self._db(), self._part)
                self._db().execute("REPLACE INTO meta VALUES ('position', ?)", (rows[-1][0],))
        except BaseException:
            self._load()
            raise
        self._position = rows[-1][0]

    def note_gap(self, reason: str, records: int, position: int, *, since_s: int | None = None) -> None:
        """Remember that records were left out, and go on behind them."""
        now_s = int(self._now_s())
        with self._transaction():
            connection = self._db()
            last = connection.execute("SELECT rowid, reason, until_s FROM gap ORDER BY rowid DESC LIMIT 1").fetchone()
            if last is not None and last[1] == reason and now_s - last[2] < HOUR_S:
                connection.execute("UPDATE gap SET until_s = ?, records = records + ? WHERE rowid = ?", (now_s, records, last[0]))
            else:
                connection.execute("INSERT INTO gap VALUES (?, ?, ?, ?)", (reason, since_s or now_s, now_s, records))
            if position > self._position:
                connection.execute("REPLACE INTO meta VALUES ('position', ?)", (position,))
        self._position = max(self._position, position)

    def _read(self, rows: Sequence[Row]) -> tuple[list[Filed], list[LineRow]]:
        """What the rows hold, each record once."""
        records: dict[tuple[int, int], Filed] = {}
        lines: list[LineRow] = []
        for row in rows:
            for kind, _, body in row.segments:
                if kind == "line":
                    if self._limits.lines:
                        lines += self._read_lines(body)
                    continue
                for raw in body.splitlines():
                    try:
                        record = decode_record(raw)
                        columns = columns_of(record, seconds_of(record.timestamp))
                    except (msgspec.MsgspecError, ValueError, IndexError) as error:
                        self._count_unreadable(error)
                    else:
                        if columns.kind:
                            records.setdefault((columns.id_s, columns.id_hash), (record, raw, columns))
        return list(records.values()), lines

    def _read_lines(self, body: bytes) -> list[LineRow]:
        try:
            return decode_line_rows(body)
        except msgspec.MsgspecError as error:
            self._count_unreadable(error)
            return []

    def _count_unreadable(self, error: Exception) -> None:
        self.unreadable += 1
        self.unreadable_because = str(error)[:200]

    def _part_for(self, now_s: int) -> Part:
        """The part that takes what comes."""
        part = self._part
        if part is not None and part.is_full(now_s, max_records=self._part_records):
            self._seal(part)
            self._use(parts.begin(self._db(), part, now_s))
        elif part is None:
            newest = parts.load(self._db())[-1:]
            self._use(parts.begin(self._db(), newest[0] if newest else None, now_s))
        assert self._part is not None
        return self._part

    def _seal(self, part: Part) -> None:
        parts.seal(self._db(), part)
        parts.remember_numbers(self._db(), part)
        self._fresh = 0

    def _sort(self, part: Part, new_keys: int) -> None:
        """Count fresh keys, and sort them when there are enough."""
        self._fresh += new_keys
        if self._fresh >= parts.RUN_KEYS:
            parts.sort_fresh(self._db(), part)
            self._fresh = 0

    # -- records -------------------------------------------------------------------------------------------------------------------
    def _file(self, part: Part, records: list[Filed], cells: Cells, now_s: int) -> None:
        connection = self._db()
        rows = self._rows(records)
        connection.execute("SAVEPOINT piece")
        if not self._insert(part, rows):
            connection.execute("ROLLBACK TO piece")
            known = connection.execute(
                "SELECT id_s, id_hash FROM record WHERE (id_s, id_hash) IN "
                "(SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))",
                (msgspec.json.encode([(one[2].id_s, one[2].id_hash) for one in records]).decode(),),
            )
            there = set(known)
            records = [one for one in records if (one[2].id_s, one[2].id_hash) not in there]
            self._insert(part, self._rows(records))
        connection.execute("RELEASE piece")
        if not records:
            return
        n = part.next_n
        pack = self._packer.pack
        connection.executemany("INSERT INTO body VALUES (?, ?)", [(n + at, pack(raw)) for at, (_, raw, _) in enumerate(records)])
        keys = [(n + at, b"".join([key_of(term) for term in terms_of(record)])) for at, (record, _, _) in enumerate(records)]
        connection.executemany("INSERT INTO fresh VALUES (0, ?, ?)", keys)
        for record, _, columns in records:
            hour_s = columns.time_s - columns.time_s % HOUR_S
            appliance = self._appliances[columns.appliance]
            for (series, direction, flow, name, clear), number in cells_of(record):
                cell = (series, hour_s, appliance, direction, flow, name, clear)
                cells[cell] = cells.get(cell, 0) + number
            counted = _COUNTED[columns.kind]
            setattr(part, counted, getattr(part, counted) + 1)
        times = [columns.time_s for _, _, columns in records]
        part.first_s = min(times) if part.first_s is None else min(part.first_s, *times)
        part.last_s = max(times) if part.last_s is None else max(part.last_s, *times)
        part.next_n, part.stored_s = n + len(records), now_s
        parts.save(connection, part)
        self._sort(part, sum(len(found) for _, found in keys) // KEY_BYTES)

    def _rows(self, records: list[Filed]) -> list[tuple[int | None, ...]]:
        """The columns with numbers for appliances and words, which are given before anything can be rolled back."""
        appliance, word = self._appliance, self._word
        return [
            (*columns[:4], appliance(columns.appliance), *columns[5:-2], word(columns.protocol), word(columns.cipher))
            for _, _, columns in records
        ]

    def _insert(self, part: Part, rows: list[tuple[int | None, ...]]) -> bool:
        """Whether all of them were new; if not, the caller takes it back."""
        connection = self._db()
        before = connection.total_changes
        connection.executemany(_INSERT, [(part.next_n + at, *row) for at, row in enumerate(rows)])
        return connection.total_changes - before == len(rows)

    def _appliance(self, name: str) -> int:
        ident = self._appliances.get(name)
        if ident is None:
            ident = self._db().execute("INSERT INTO appliance (name) VALUES (?)", (name,)).lastrowid
            assert ident is not None
            self._appliances[name] = ident
        return ident

    def _word(self, text: str) -> int:
        ident = self._words.get(text)
        if ident is None:
            if len(self._words) > MAX_WORDS:
                return 0
            ident = self._db().execute("INSERT INTO word (text) VALUES (?)", (text,)).lastrowid
            assert ident is not None
            self._words[text] = ident
        return ident

    # -- lines and roll-ups --------------------------------------------------------------------------------------------------------
    def _keep_lines(self, part: Part, lines: Sequence[LineRow], now_s: int) -> None:
        block = pack_block(lines)
        if block is None:
            return
        connection = self._db()
        connection.execute("INSERT INTO block VALUES (?, ?)", (part.next_block, block.packed))
        connection.execute("INSERT INTO fresh VALUES (1, ?, ?)", (part.next_block, block.keys))
        part.next_block += 1
        part.lines += block.lines
        part.line_bytes += len(block.packed)
        part.stored_s = now_s
        parts.save(connection, part)
        self._sort(part, len(block.keys) // KEY_BYTES)

    def _roll(self, cells: Cells, now_s: int) -> None:
        rolled: dict[tuple[int, int, int, int, int, int, str, str], int] = {}
        for (series, hour_s, appliance, direction, flow, name, clear), number in cells.items():
            day_s = hour_s - hour_s % DAY_S
            admitted = self._admitted(series, day_s, name) if series in NAMED else name
            for grain, start_s in ((HOUR_S, hour_s), (DAY_S, day_s)):
                key = (grain, series, start_s, appliance, direction, flow, admitted, clear)
                rolled[key] = rolled.get(key, 0) + number
        self._db().executemany(_ROLL, [(*key, number, now_s) for key, number in rolled.items()])

    def _admitted(self, series: int, day_s: int, name: str) -> str:
        """The name, or "" if the day has too many."""
        known = self._names.get((series, day_s))
        if known is None:
            if len(self._names) >= MAX_DAYS * len(NAMED):
                self._names.clear()
            rows = self._db().execute(
                "SELECT DISTINCT name FROM rollup WHERE grain = ? AND series = ? AND start_s = ?", (DAY_S, series, day_s)
            )
            known = self._names[series, day_s] = {one for (one,) in rows}
        if name not in known:
            if len(known) >= MAX_NAMES:
                return ""
            known.add(name)
        return name

    # -- between rows --------------------------------------------------------------------------------------------------------------
    def tidy(self, *, within_s: float) -> bool:
        """Remove what is too old or too much, for about so long. Returns whether something is left to do. Raises sqlite3.Error."""
        assert self._pruner is not None
        ends_s = time.monotonic() + within_s
        while self._step():
            if time.monotonic() >= ends_s:
                return True
        return False

    def _step(self) -> bool:
        """One step of removing; True if there may be another."""
        assert self._pruner is not None
        try:
            outcome = self._pruner.step(int(self._now_s()))
        except BaseException:
            self._load()
            raise
        if outcome == "close":  # the oldest part is the one that is being filled
            part = self._part
            if part is None:
                return False
            with self._transaction():
                self._seal(part)
            self._part = None
            return True
        return outcome == "more"

    def numbers(self) -> Numbers:
        """How much there is."""
        connection = self._db()
        assert self._pruner is not None
        kept = connection.execute(
            "SELECT ifnull(sum(connections + deliveries + messages + consolidated), 0), ifnull(sum(lines), 0), ifnull(sum(line_bytes), 0) "
            "FROM part"
        ).fetchone()
        return Numbers(
            self._position,
            self._pruner.used_bytes(),
            kept[2],
            kept[0],
            kept[1],
            self.unreadable,
            self.unreadable_because,
            dict(self._pruner.removed),
        )
