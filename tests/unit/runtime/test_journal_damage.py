"""What a crash or a damaged file does to the journal: whole groups or none, and an error rather than wrong rows."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.runtime.journal_cases import MIB, check_whole, group

from esa_tls.core.batch import Sealed
from esa_tls.errors import JournalCorrupt, JournalError
from esa_tls.runtime.journal import Journal

ROOT = Path(__file__).resolve().parents[3]
NIGHTLY = bool(os.environ.get("ESA_TLS_NIGHTLY"))
KILLS = 1_000 if NIGHTLY else 20
PLACES = 200 if NIGHTLY else 8
GROUPS = 40

WRITER = """
import os, sys
from pathlib import Path
from esa_tls.runtime.journal import Journal
from tests.unit.runtime.journal_cases import group
journal = Journal.open(Path(sys.argv[1]), max_bytes=64 << 20)
n = int(journal.get(b"last") or 0)
padding = os.urandom(int(sys.argv[2]))
while n < int(sys.argv[3]):
    journal.commit([group(n + 1, padding=padding), group(n + 2, padding=padding)])
    n += 2
    os.write(1, b"%d\\n" % n)
    if n == 24:
        journal._rocks._families["line/json"].flush()  # so that the state is in another log than the newest rows
os._exit(9)
"""


def start_writer(folder: Path, *, padding_bytes: int, groups: int = 1_000_000) -> subprocess.Popen[bytes]:
    """A child that commits two groups at a time and prints the last number after each commit that was acknowledged."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "plugin")])
    command = [sys.executable, "-c", WRITER, str(folder), str(padding_bytes), str(groups)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path})


@pytest.mark.timeout(3_600 if NIGHTLY else 120)
def test_after_kill_minus_9_at_any_moment_every_acknowledged_group_is_there_whole(tmp_path: Path) -> None:
    """Killed, looked at, and gone on with, many times over; groups committed together are there together."""
    chance = random.Random(4711)
    acked = 0
    for _ in range(KILLS):
        padding_bytes = chance.choice([10, 1_000, 30_000])
        with start_writer(tmp_path, padding_bytes=padding_bytes) as writer:
            assert writer.stdout is not None
            if chance.random() < 0.8:
                writer.stdout.readline()
                time.sleep(chance.random() * 0.1)
            else:
                time.sleep(chance.random() * 0.2)  # while it opens
            writer.kill()
            said = writer.stdout.read().split()
            acked = max([acked, *map(int, said)])
        journal = Journal.open(tmp_path, max_bytes=64 * MIB)
        there = check_whole(journal)
        journal.close()
        assert there >= acked
        assert there % 2 == 0
        acked = there
        if there > 3_000 or sum(file.stat().st_size for file in (tmp_path / "journal-0" / "db").iterdir()) > 40 * MIB:
            shutil.rmtree(tmp_path / "journal-0")
            acked = 0


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of 40 groups as a crash leaves it: some of it in tables, some in the log."""
    folder = tmp_path_factory.mktemp("crashed")
    with start_writer(folder, padding_bytes=3_000, groups=GROUPS) as writer:
        assert writer.wait() == 9
    return folder


def damaged(crashed: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Copies with one file cut or one bit turned over, at places spread over every file."""
    chance = random.Random(815)
    for file in sorted((crashed / "journal-0").rglob("*")):
        name = file.relative_to(crashed)
        if not file.is_file() or file.name in ("reserve", "lock", "LOCK", "LOG"):
            continue
        size = file.stat().st_size
        places = sorted({0, size // 2, max(size - 1, 0), *(chance.randrange(size) for _ in range(PLACES if size else 0))})
        for place in places:
            for what in ("cut", "turned") if size else ():
                copy = tmp_path / "copy"
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(crashed, copy)
                with (copy / name).open("r+b") as opened:
                    if what == "cut":
                        opened.truncate(place)
                    else:
                        opened.seek(place)
                        byte = opened.read(1)[0]
                        opened.seek(place)
                        opened.write(bytes([byte ^ 1 << chance.randrange(8)]))
                yield f"{name} {what} at {place} of {size}", copy


@pytest.mark.timeout(7_200 if NIGHTLY else 120)
def test_a_damaged_file_is_an_error_or_does_no_harm_but_never_gives_wrong_rows(crashed: Path, tmp_path: Path) -> None:
    """Every acknowledged group whole, or a JournalError when opening or when reading: nothing in between."""
    found = {"harmless": 0, "error": 0}
    for what, copy in damaged(crashed, tmp_path):
        journal = None
        try:
            journal = Journal.open(copy, max_bytes=64 * MIB)
            there = check_whole(journal)
        except JournalError:
            found["error"] += 1
        except AssertionError as error:
            pytest.fail(f"{what}: wrong content: {error}")
        else:
            found["harmless"] += 1
            assert there == GROUPS, what
        finally:
            if journal is not None:
                journal.close()

    assert found["error"] > 20
    assert found["harmless"] > 10


def logs(folder: Path) -> list[Path]:
    """RocksDB's write-ahead logs, oldest first."""
    return sorted((folder / "journal-0" / "db").glob("*.log"))


def test_a_log_that_lost_its_end_is_noticed_and_can_be_accepted(crashed: Path, tmp_path: Path) -> None:
    """RocksDB says nothing; the mark of what was acknowledged does. Who accepts the loss goes on with whole groups."""
    shutil.copytree(crashed, tmp_path, dirs_exist_ok=True)
    newest = logs(tmp_path)[-1]
    os.truncate(newest, newest.stat().st_size - 10)
    for _ in range(2):
        with pytest.raises(JournalCorrupt, match=r"the last 1 of 20 acknowledged groups"):
            Journal.open(tmp_path, max_bytes=64 * MIB)
    journal = Journal.open(tmp_path, max_bytes=64 * MIB, accept_loss=True)
    assert check_whole(journal) == GROUPS - 2
    journal.commit([group(GROUPS - 1), group(GROUPS)])
    journal.close()
    journal = Journal.open(tmp_path, max_bytes=64 * MIB)

    assert check_whole(journal) == GROUPS
    journal.close()


def test_a_log_that_is_gone_is_noticed(crashed: Path, tmp_path: Path) -> None:
    """Each of them, in turn: an old one would leave a hole in the state."""
    assert len(logs(crashed)) >= 2
    for log in logs(crashed):
        copy = tmp_path / log.name
        shutil.copytree(crashed, copy)
        (copy / log.relative_to(crashed)).unlink()
        with pytest.raises(JournalCorrupt):
            Journal.open(copy, max_bytes=64 * MIB)


def test_a_hole_in_the_state_is_noticed(tmp_path: Path) -> None:
    """An old log that held nothing but state is gone, and everything else is in tables: nothing but RocksDB's own list can tell."""
    journal = Journal.open(tmp_path / "whole", max_bytes=64 * MIB)
    journal.commit([Sealed([], [(b"a", b"1")], [], [])])
    for family in ("default", "keys"):
        journal._rocks._families[family].flush()
    journal.commit([Sealed([], [(b"b", b"2")], [], [])])
    shutil.copytree(tmp_path / "whole", tmp_path / "copy")
    assert len(logs(tmp_path / "copy")) == 2
    logs(tmp_path / "copy")[0].unlink()
    with pytest.raises(JournalCorrupt, match="Missing WAL"):
        Journal.open(tmp_path / "copy", max_bytes=64 * MIB)

    assert dict(journal.items()) == {b"a": b"1", b"b": b"2"}
    journal.close()


def test_a_group_that_was_never_acknowledged_may_be_torn(tmp_path: Path) -> None:
    """The end of the log behind the last acknowledged group is dropped without an error: that is what a crash looks like."""
    with start_writer(tmp_path, padding_bytes=3_000, groups=10) as writer:
        writer.wait()
    with logs(tmp_path)[-1].open("ab") as log:
        log.write(b"\x12\x34\x56\x78\xff\x7f\x01 a group that was being written")
    journal = Journal.open(tmp_path, max_bytes=64 * MIB)

    assert check_whole(journal) == 10
    journal.close()
