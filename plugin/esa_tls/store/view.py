"""One look at the store's file: what the parts hold, through their indexes, as of one moment.

A `View` lives for one question, inside one read transaction: what the writer does meanwhile is not seen. Its connection ends a statement
that takes longer than the question may (`Interrupted`).
"""

from __future__ import annotations

import sqlite3
import sys
import time
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from esa_tls.store import parts
from esa_tls.store.answers import StoryLine
from esa_tls.store.packing import Packer, unpack_block
from esa_tls.store.parsed import Record
from esa_tls.store.parts import Part
from esa_tls.store.terms import KEY_BYTES, key_of, terms_of

__all__ = ["Interrupted", "Reading", "View"]

STEPS: Final = 20_000
"""Steps of SQLite's machine between two looks at the clock."""

_decode_any = msgspec.json.Decoder(dict[str, Any]).decode
_decode_record = msgspec.json.Decoder(Record).decode


class Interrupted(Exception):
    """The time for the question is used up."""


class Reading:
    """A connection that reads, with the packers it has made so far. Used by one thread."""

    def __init__(self, connection: sqlite3.Connection, inode: int) -> None:
        self.connection = connection
        self.inode = inode
        self._packers: dict[int | None, Packer] = {None: Packer()}

    def packer(self, dictionary: int | None) -> Packer:
        """The packer of a part."""
        packer = self._packers.get(dictionary)
        if packer is None:
            if len(self._packers) > 64:
                self._packers = {None: self._packers[None]}
            packer = self._packers[dictionary] = Packer(parts.dictionary_of(self.connection, dictionary))
        return packer

    @contextmanager
    def view(self, *, within_s: float) -> Iterator[View]:
        """Look at the file for so long at most. Raises Interrupted, sqlite3.Error."""
        ends_s = time.monotonic() + within_s
        connection = self.connection
        connection.set_progress_handler(lambda: time.monotonic() >= ends_s, STEPS)
        connection.execute("BEGIN")
        try:
            yield View(self)
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
                raise Interrupted from error
            raise
        finally:
            connection.set_progress_handler(None, STEPS)
            if connection.in_transaction:
                connection.execute("ROLLBACK")


class View:
    """See the module."""

    def __init__(self, reading: Reading) -> None:
        self.connection = reading.connection
        self.parts: list[Part] = parts.load(reading.connection)
        self._reading = reading
        self._runs = [-1 - at for at in range(parts.runs(reading.connection))]
        self._bases = [part.base_n for part in self.parts]
        self._names: dict[int, str] | None = None
        self._words: dict[int, str] | None = None

    # -- names -----------------------------------------------------------------------------------------------------------------------
    @property
    def appliances(self) -> dict[int, str]:
        """Number -> name."""
        if self._names is None:
            self._names = dict(self.connection.execute("SELECT id, name FROM appliance"))
        return self._names

    def appliance(self, name: str) -> int | None:
        """The number of an appliance."""
        return next((ident for ident, known in self.appliances.items() if known == name), None)

    def word(self, number: int) -> str:
        """A protocol or cipher."""
        if self._words is None:
            self._words = dict(self.connection.execute("SELECT id, text FROM word"))
        return self._words.get(number, "")

    # -- the index -------------------------------------------------------------------------------------------------------------------
    def records_in(self, chosen: Sequence[Part], terms: Iterable[str]) -> dict[int, set[int]]:
        """Part -> numbers of its records that one of the terms finds; parts without any are left out.

        Some records may not have the term (see `record_with`), and those before `part.gone_n` are removed.
        """
        return self._places(chosen, terms, is_block=False)

    def blocks_in(self, chosen: Sequence[Part], terms: Iterable[str]) -> dict[int, set[int]]:
        """Part -> numbers of its blocks of lines, those before `part.gone_block` too, which are removed."""
        return self._places(chosen, terms, is_block=True)

    def _places(self, chosen: Sequence[Part], terms: Iterable[str], *, is_block: bool) -> dict[int, set[int]]:
        """Part -> numbers. One statement for each key looks into all parts."""
        bases = {part.id: part.base_block if is_block else part.base_n for part in chosen}
        runs = {part.id: part.id for part in chosen if part.sealed}
        filling = next((part for part in chosen if not part.sealed), None)
        if filling is not None:
            runs |= dict.fromkeys(self._runs, filling.id)
        listed = f"[{','.join(map(str, runs))}]"
        found: dict[int, set[int]] = {}
        for key in {key_of(term) for term in terms}:
            rows = self.connection.execute(
                "SELECT run, places FROM json_each(?) CROSS JOIN posting ON run = value AND posting.key = ?", (listed, key)
            )
            for run, packed in rows:
                places = array("H", packed)
                if sys.byteorder == "big":
                    places.byteswap()
                base = bases[runs[run]]
                found.setdefault(runs[run], set()).update([base + place for place in places])
            if filling is not None:
                base = bases[filling.id]
                fresh = self.connection.execute(
                    "SELECT n, keys FROM fresh WHERE block = ? AND n >= ? AND instr(keys, ?) > 0", (int(is_block), base, key)
                )
                if numbers := [n for n, keys in fresh if key in _cut(keys)]:
                    found.setdefault(filling.id, set()).update(numbers)
        return found

    # -- records ---------------------------------------------------------------------------------------------------------------------
    def part_of(self, n: int) -> Part | None:
        """The part a record is in."""
        at = bisect_right(self._bases, n) - 1
        return self.parts[at] if at >= 0 and n < self.parts[at].next_n else None

    def raw(self, n: int) -> bytes | None:
        """A record as JSON; None if it is gone."""
        part = self.part_of(n)
        row = None if part is None else self.connection.execute("SELECT packed FROM body WHERE n = ?", (n,)).fetchone()
        return None if row is None or part is None else self._reading.packer(part.dictionary).expand(row[0])

    def record(self, n: int) -> dict[str, Any] | None:
        """A record; None if it is gone."""
        raw = self.raw(n)
        return None if raw is None else _decode_any(raw)

    def record_with(self, n: int, groups: Iterable[Iterable[str]]) -> dict[str, Any] | None:
        """A record that really has a term of each group; None if it is gone, or has not."""
        raw = self.raw(n)
        if raw is None:
            return None
        if groups:
            known = terms_of(_decode_record(raw))
            if any(known.isdisjoint(group) for group in groups):
                return None
        return _decode_any(raw)

    def by_id(self, id_s: int, id_hash: int) -> int | None:
        """The number of the record with this id."""
        row = self.connection.execute("SELECT n FROM record WHERE id_s = ? AND id_hash = ?", (id_s, id_hash)).fetchone()
        return None if row is None else row[0]

    def lines(self, block: int, *, appliance: str, epoch: int) -> list[StoryLine]:
        """The lines of one appliance in a block."""
        row = self.connection.execute("SELECT packed FROM block WHERE n = ?", (block,)).fetchone()
        return [] if row is None else unpack_block(row[0], appliance=appliance, epoch=epoch)

    def keeps_lines(self) -> bool:
        """Whether the writer is told to keep lines."""
        row = self.connection.execute("SELECT value FROM meta WHERE name = 'lines'").fetchone()
        return row is None or bool(row[0])


def _cut(keys: bytes) -> set[bytes]:
    return {keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)}
