"""Parts of the store: their rows, how one is begun, and how a full one gets its index (`schema.py` says what a part is).

Functions here are called inside the writer's transaction.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from esa_tls.store.packing import MAX_SAMPLES, Packer, train
from esa_tls.store.terms import KEY_BYTES

__all__ = [
    "PART_AGE_S",
    "PART_BLOCKS",
    "PART_RECORDS",
    "Part",
    "begin",
    "dictionary_of",
    "load",
    "save",
    "seal",
    "sort_fresh",
]

PART_RECORDS: Final = 65_536
FIRST_RECORDS: Final = 2_048
"""The same while there is no dictionary, which is trained on a full part."""
PART_BLOCKS: Final = 32_768
"""A part with so many records or blocks takes no more; places in it have 16 bits."""
PART_AGE_S: Final = 86_400
"""A part that was begun so long ago takes no more: what it holds is removed together."""
RUN_KEYS: Final = 32_768
"""So many fresh keys become a sorted run."""
RETRAIN_PARTS: Final = 16
"""So many parts share a dictionary."""

_KINDS: Final = ("connections", "deliveries", "messages", "consolidated")


class Part(msgspec.Struct, gc=False):
    """A row of the table, in its order."""

    id: int
    sealed: int
    dictionary: int | None
    base_n: int
    next_n: int
    gone_n: int
    base_block: int
    next_block: int
    gone_block: int
    first_s: int | None
    last_s: int | None
    opened_s: int
    stored_s: int
    connections: int = 0
    deliveries: int = 0
    messages: int = 0
    consolidated: int = 0
    lines: int = 0
    line_bytes: int = 0

    def is_full(self, now_s: int, *, max_records: int = PART_RECORDS) -> bool:
        """Whether what comes belongs into another part."""
        if self.next_n == self.base_n and self.next_block == self.base_block:
            return False
        return self.room(max_records) <= 0 or self.next_block - self.base_block >= PART_BLOCKS or now_s - self.opened_s >= PART_AGE_S

    def room(self, max_records: int = PART_RECORDS) -> int:
        """How many records more it takes."""
        return (max_records if self.dictionary is not None else min(max_records, FIRST_RECORDS)) - (self.next_n - self.base_n)


FIELDS: Final = tuple(field.name for field in msgspec.structs.fields(Part))
_SELECT: Final = f"SELECT {', '.join(FIELDS)} FROM part"  # noqa: S608 (our own names)
_REPLACE: Final = f"REPLACE INTO part ({', '.join(FIELDS)}) VALUES ({', '.join('?' * len(FIELDS))})"  # noqa: S608 (as above)


def load(connection: sqlite3.Connection) -> list[Part]:
    """All parts, oldest first."""
    return [Part(*row) for row in connection.execute(f"{_SELECT} ORDER BY id")]


def save(connection: sqlite3.Connection, part: Part) -> None:
    """Write a part's row."""
    connection.execute(_REPLACE, msgspec.structs.astuple(part))


def begin(connection: sqlite3.Connection, before: Part | None, now_s: int) -> Part:
    """A new part behind `before`, for which numbers go on; without one, behind all numbers that were ever given."""
    if before is None:
        numbers = dict(connection.execute("SELECT name, value FROM meta WHERE name IN ('part', 'n', 'block')"))
        ident, n, block = numbers.get("part", 0) + 1, numbers.get("n", 1), numbers.get("block", 1)
    else:
        ident, n, block = before.id + 1, before.next_n, before.next_block
    newest = connection.execute("SELECT max(id) FROM dictionary").fetchone()[0]
    part = Part(ident, 0, newest, n, n, n, block, block, block, None, None, now_s, now_s)
    save(connection, part)
    return part


def remember_numbers(connection: sqlite3.Connection, part: Part) -> None:
    """Numbers are not given twice, not even when all parts are removed."""
    connection.executemany("REPLACE INTO meta VALUES (?, ?)", [("part", part.id), ("n", part.next_n), ("block", part.next_block)])


def dictionary_of(connection: sqlite3.Connection, ident: int | None) -> bytes | None:
    """A dictionary; None for none."""
    found = None if ident is None else connection.execute("SELECT content FROM dictionary WHERE id = ?", (ident,)).fetchone()
    return None if found is None else found[0]


def runs(connection: sqlite3.Connection) -> int:
    """How many runs the part that is being filled has: they are called -1, -2, ..."""
    lowest = connection.execute("SELECT min(run) FROM posting").fetchone()[0]
    return max(0, -(lowest or 0))


def fresh_keys(connection: sqlite3.Connection) -> int:
    """How many keys are not sorted yet."""
    return int(connection.execute("SELECT ifnull(sum(length(keys)), 0) FROM fresh").fetchone()[0]) // KEY_BYTES


def sort_fresh(connection: sqlite3.Connection, part: Part) -> None:
    """Make a run of the fresh keys."""
    places: dict[bytes, bytearray] = {}
    _gather_fresh(connection, part, places)
    _write(connection, -1 - runs(connection), places)


def seal(connection: sqlite3.Connection, part: Part) -> None:
    """Give a part its index, and sometimes make a dictionary for those to come."""
    places: dict[bytes, bytearray] = {}
    for key, found in connection.execute("SELECT key, places FROM posting WHERE run < 0 ORDER BY run DESC"):
        known = places.get(key)
        if known is None:
            places[key] = bytearray(found)
        else:
            known += found
    _gather_fresh(connection, part, places)
    connection.execute("DELETE FROM posting WHERE run < 0")
    _write(connection, part.id, places)
    part.sealed = 1
    save(connection, part)
    newest = connection.execute("SELECT max(id) FROM dictionary").fetchone()[0]
    if newest is None or part.id - newest >= RETRAIN_PARTS:
        _learn(connection, part)


def _gather_fresh(connection: sqlite3.Connection, part: Part, places: dict[bytes, bytearray]) -> None:
    """Key -> places of everything fresh, behind what is there."""
    for is_block, base in ((0, part.base_n), (1, part.base_block)):
        for n, keys in connection.execute("SELECT n, keys FROM fresh WHERE block = ? ORDER BY n", (is_block,)):
            place = (n - base).to_bytes(2, "little")
            for at in range(0, len(keys), KEY_BYTES):
                key = keys[at : at + KEY_BYTES]
                found = places.get(key)
                if found is None:
                    places[key] = bytearray(place)
                else:
                    found += place


def _write(connection: sqlite3.Connection, run: int, places: dict[bytes, bytearray]) -> None:
    connection.executemany("INSERT INTO posting VALUES (?, ?, ?)", ((run, key, places[key]) for key in sorted(places)))
    connection.execute("DELETE FROM fresh")


def _learn(connection: sqlite3.Connection, part: Part) -> None:
    """Train a dictionary on the part's records; its number is that of the next part, the first that uses it."""
    step = max(1, (part.next_n - part.base_n) // MAX_SAMPLES)
    packer = Packer(dictionary_of(connection, part.dictionary))
    chosen = connection.execute(
        "SELECT packed FROM body WHERE n >= ? AND n < ? AND (n - ?) % ? = 0 LIMIT ?",
        (part.base_n, part.next_n, part.base_n, step, MAX_SAMPLES),
    )
    content = train([packer.expand(packed) for (packed,) in chosen])
    if content is not None:
        connection.execute("REPLACE INTO dictionary VALUES (?, ?)", (part.id + 1, content))
