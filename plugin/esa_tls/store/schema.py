"""The store's file: its tables, its version, and how it is opened.

Records are filed in parts of some thousands, by arrival, and a part is the unit of everything that would be costly one by one: its index
is written once, in order, when it is full (`posting`). Until then the keys of the latest records lie beside them (`fresh`) and are searched
through; every some thousand of them are sorted into a run of their own (`posting` with a run below 0), and the runs become the part's
index. A part is what retention removes. So nothing is ever written into the middle of a large tree but the two small indexes of
`record`, which grow at their ends.

- `part`: numbers of its records (`base_n`, up to before `next_n`) and blocks of lines; from when to when its records are (`first_s`,
  `last_s`, event time) and when they were stored; which of its first records and blocks are gone already (`gone_n`, `gone_block`).
- `record`: the columns, `body`: the record as JSON, compressed with the part's dictionary, which was trained on records of this site.
- `posting`: (part or run, key) -> places, each 2 bytes, little endian: number of a record minus `base_n`, of a block minus `base_block`.
- `block`: log lines, compressed (`blocks.py`). `rollup`: the numbers of `rollup.py`. `gap`: what the store was not given.
- `meta`: `token` and `position` say up to which row of which journal everything is in here; they change with the rows, in one transaction.

The version is SQLite's `user_version`. An older file is migrated when it is opened for writing, a newer one refused.
Needs SQLite 3.24 (upsert); no newer feature is used.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from esa_tls.errors import StoreTooNew, StoreUnreadable

__all__ = ["PAGE_BYTES", "VERSION", "is_damaged", "open_for_reading", "open_for_writing"]

APPLICATION_ID: Final = 0x65736174
PAGE_BYTES: Final = 8192
CACHE_KIB: Final = 32 * 1024
BUSY_TIMEOUT_S: Final = 10.0

_FIRST: Final = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE appliance (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE word (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE)",
    "CREATE TABLE dictionary (id INTEGER PRIMARY KEY, content BLOB NOT NULL)",
    """CREATE TABLE part (
        id INTEGER PRIMARY KEY, sealed INTEGER NOT NULL, dictionary INTEGER,
        base_n INTEGER NOT NULL, next_n INTEGER NOT NULL, gone_n INTEGER NOT NULL,
        base_block INTEGER NOT NULL, next_block INTEGER NOT NULL, gone_block INTEGER NOT NULL,
        first_s INTEGER, last_s INTEGER, opened_s INTEGER NOT NULL, stored_s INTEGER NOT NULL,
        connections INTEGER NOT NULL, deliveries INTEGER NOT NULL, messages INTEGER NOT NULL, consolidated INTEGER NOT NULL,
        lines INTEGER NOT NULL, line_bytes INTEGER NOT NULL)""",
    """CREATE TABLE record (
        n INTEGER PRIMARY KEY, id_s INTEGER NOT NULL, id_hash INTEGER NOT NULL,
        kind INTEGER NOT NULL, time_s INTEGER NOT NULL, appliance INTEGER NOT NULL, epoch INTEGER NOT NULL,
        mid INTEGER, icid INTEGER, dcid INTEGER,
        verdict INTEGER NOT NULL, outcome INTEGER NOT NULL, direction INTEGER NOT NULL, flow INTEGER NOT NULL, clear INTEGER NOT NULL,
        result INTEGER NOT NULL, failure INTEGER NOT NULL, protocol INTEGER NOT NULL, cipher INTEGER NOT NULL)""",
    "CREATE UNIQUE INDEX record_id ON record (id_s, id_hash)",
    "CREATE INDEX record_verdict ON record (appliance, kind, verdict, time_s)",
    "CREATE TABLE body (n INTEGER PRIMARY KEY, packed BLOB NOT NULL)",
    "CREATE TABLE block (n INTEGER PRIMARY KEY, packed BLOB NOT NULL)",
    "CREATE TABLE fresh (block INTEGER NOT NULL, n INTEGER NOT NULL, keys BLOB NOT NULL, PRIMARY KEY (block, n)) WITHOUT ROWID",
    "CREATE TABLE posting (run INTEGER NOT NULL, key BLOB NOT NULL, places BLOB NOT NULL, PRIMARY KEY (run, key)) WITHOUT ROWID",
    """CREATE TABLE rollup (
        grain INTEGER NOT NULL, series INTEGER NOT NULL, start_s INTEGER NOT NULL, appliance INTEGER NOT NULL,
        direction INTEGER NOT NULL, flow INTEGER NOT NULL, name TEXT NOT NULL, clear TEXT NOT NULL,
        number INTEGER NOT NULL, stored_s INTEGER NOT NULL,
        PRIMARY KEY (grain, series, start_s, appliance, direction, flow, name, clear)) WITHOUT ROWID""",
    "CREATE TABLE gap (reason TEXT NOT NULL, since_s INTEGER NOT NULL, until_s INTEGER NOT NULL, records INTEGER NOT NULL)",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST,)
"""Statements from each version to the next, the first from an empty file."""

VERSION: Final = len(MIGRATIONS)

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def is_damaged(error: sqlite3.Error) -> bool:
    """Whether an error says that the file itself is broken."""
    code = getattr(error, "sqlite_errorcode", 0)
    return (code & 0xFF) in _DAMAGED


def open_for_writing(path: Path) -> sqlite3.Connection:
    """The one connection that writes; makes the file, or migrates it.

    Raises:
        StoreTooNew: a newer esa-tls wrote it. StoreUnreadable: it is somebody else's database. sqlite3.Error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        version = _version(connection, path)
        if not version:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = FAST")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        connection.execute("PRAGMA journal_size_limit = 67108864")
        for number in range(version, len(MIGRATIONS)):
            _migrate(connection, number)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, version: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in MIGRATIONS[version]:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version + 1}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def open_for_reading(path: Path) -> sqlite3.Connection | None:
    """A connection that cannot write; None if there is no store there (yet).

    Raises:
        StoreTooNew, StoreUnreadable: as above. sqlite3.Error.
    """
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
    except sqlite3.OperationalError:
        if path.exists():
            raise
        return None
    try:
        if _version(connection, path) != len(MIGRATIONS):
            connection.close()  # being made, or migrated, right now
            return None
        connection.execute("PRAGMA cache_size = -8192")
        connection.execute("PRAGMA query_only = ON")
    except sqlite3.OperationalError:
        connection.close()
        if path.exists():
            raise
        return None
    except BaseException:
        connection.close()
        raise
    return connection


def _version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the file; 0: there is nothing in it."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    owner: int = connection.execute("PRAGMA application_id").fetchone()[0]
    if owner != APPLICATION_ID:
        if version or connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise StoreUnreadable(f"{path} is a database of another program; name another file in store.path, or move it away")
        return 0
    if version > len(MIGRATIONS):
        raise StoreTooNew(
            f"{path} was written by a newer esa-tls (version {version} of the store, this one knows up to {len(MIGRATIONS)}); "
            "install that version again, or move the file away to begin a new store"
        )
    return version
