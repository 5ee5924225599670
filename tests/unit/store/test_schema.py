"""The store's file: made, migrated, and refused when it is not ours or too new."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.unit.store.store_cases import MESSAGE, all_of, asked, filed, made, stored_ids, writing

from esa_tls.errors import StoreTooNew, StoreUnreadable
from esa_tls.store import overview, schema


def test_a_new_file_has_the_version_and_gives_room_back_by_itself(tmp_path: Path) -> None:
    """A new file carries version and owner, is read beside its writer (WAL), and can shrink (incremental vacuum)."""
    with writing(tmp_path / "deep" / "s"):
        for pragma, value in (("user_version", schema.VERSION), ("application_id", 0x65736174), ("auto_vacuum", 2), ("page_size", 8192)):
            assert all_of(tmp_path / "deep" / "s", f"PRAGMA {pragma}") == [(value,)]
        assert all_of(tmp_path / "deep" / "s", "PRAGMA journal_mode") == [("wal",)]


def test_an_older_file_is_migrated_and_keeps_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of this version gets what a later version adds, once, and its records stay."""
    rows = made(*MESSAGE)
    filed(tmp_path / "s", rows.rows)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE more (x)", "INSERT INTO more VALUES (7)")))
    for _ in range(2):
        with writing(tmp_path / "s"):
            pass
    assert all_of(tmp_path / "s", "PRAGMA user_version") == [(schema.VERSION + 1,)]
    assert all_of(tmp_path / "s", "SELECT x FROM more") == [(7,)]
    assert len(stored_ids(tmp_path / "s")) == len(rows.records)


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of a migration is whole or not there."""
    filed(tmp_path / "s", made(*MESSAGE).rows)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE more (x)", "no statement")))
        with pytest.raises(sqlite3.OperationalError):
            schema.open_for_writing(tmp_path / "s")
    assert all_of(tmp_path / "s", "PRAGMA user_version") == [(schema.VERSION,)]
    assert all_of(tmp_path / "s", "SELECT count(*) FROM sqlite_master WHERE name = 'more'") == [(0,)]


def test_while_a_file_is_older_readers_see_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its writer has migrated a file nothing is read of it: its tables may be others."""
    filed(tmp_path / "s", made(*MESSAGE).rows)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE more (x)",)))
    assert schema.open_for_reading(tmp_path / "s") is None


@pytest.mark.parametrize("opened", [schema.open_for_writing, schema.open_for_reading])
def test_a_newer_file_is_refused_in_a_sentence(tmp_path: Path, opened: object) -> None:
    """A file of a newer version is left alone, and the error says what to do."""
    filed(tmp_path / "s", made(*MESSAGE).rows)
    all_of(tmp_path / "s", "PRAGMA user_version = 99")
    before = (tmp_path / "s").read_bytes()
    with pytest.raises(
        StoreTooNew, match=r"s was written by a newer esa-tls \(version 99 .* up to 1\); install that version again, or move"
    ):
        opened(tmp_path / "s")  # type: ignore[operator]
    assert (tmp_path / "s").read_bytes() == before


@pytest.mark.parametrize("opened", [schema.open_for_writing, schema.open_for_reading])
def test_the_database_of_another_program_is_not_touched(tmp_path: Path, opened: object) -> None:
    """A file that somebody else's tables are in is refused and stays as it is."""
    connection = sqlite3.connect(tmp_path / "s")
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = (tmp_path / "s").read_bytes()
    with pytest.raises(StoreUnreadable, match="another program"):
        opened(tmp_path / "s")  # type: ignore[operator]
    assert (tmp_path / "s").read_bytes() == before


def test_what_is_no_database_is_damage(tmp_path: Path) -> None:
    """A file of random bytes is told apart from a disk that fails."""
    (tmp_path / "s").write_bytes(b"no database, but text that is long enough " * 300)
    with pytest.raises(sqlite3.DatabaseError) as error:
        schema.open_for_writing(tmp_path / "s")
    assert schema.is_damaged(error.value)
    assert not schema.is_damaged(sqlite3.OperationalError("disk is full"))


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    """The connection that reads refuses statements that change the file, and makes no file."""
    assert schema.open_for_reading(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()
    filed(tmp_path / "s", made(*MESSAGE).rows)
    connection = schema.open_for_reading(tmp_path / "s")
    assert connection is not None
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM record")
    connection.close()
    assert asked(tmp_path / "s", overview.status).records["message"] == 1
