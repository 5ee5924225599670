"""The writer's process: requests and replies, a broken file set aside, and its end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import msgspec
import pytest
from tests.unit.store.store_cases import LIMITS, MESSAGE, Made, all_of, asked, ids, made, simulated, stored_ids

from esa_tls.store import overview
from esa_tls.store.worker import Apply, Open, Reply, Request, SetAside, Skip, Worker, give_way, read_frame, serve, write_frame

TIMEOUT_S = 60


@contextmanager
def working(path: Path, *, token: bytes | None = None) -> Iterator[Worker]:
    """A worker that has opened the file."""
    worker = Worker()
    try:
        reply = worker.do(Open(str(path), LIMITS, token))
        assert reply.error is None, reply.message
        yield worker
    finally:
        worker.close()


def applied(made_rows: Made) -> Apply:
    """All rows of it."""
    return Apply([(sequence, row.cls, row.encoding, row.segments) for sequence, row in made_rows.rows])


def break_in_the_middle(path: Path) -> None:
    """Overwrite the pages that hold tables, leaving the head as it is."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(size - 8192))


def test_requests_are_done_and_told(tmp_path: Path) -> None:
    """Open, apply and skip answer with the token to remember and with numbers."""
    whole = made(*MESSAGE)
    with working(tmp_path / "s") as worker:
        reply = worker.do(applied(whole))
        assert (reply.error, reply.set_aside) == (None, None)
        assert reply.numbers is not None
        assert (reply.numbers.position, reply.numbers.records, reply.numbers.lines) == (whole.rows[-1][0], 4, 18)
        assert reply.numbers.bytes > 0
        skipped = worker.do(Skip(100, 7))
        assert skipped.numbers is not None
        assert skipped.numbers.position == 100
        assert reply.token == skipped.token
    with working(tmp_path / "s", token=reply.token) as worker:
        again = worker.do(applied(whole))
        assert (again.token, again.numbers and again.numbers.records) == (reply.token, 4)
    assert [(one.reason, one.records) for one in asked(tmp_path / "s", overview.status).gaps] == [("behind", 7)]


@pytest.mark.parametrize("how", ["no database", "broken pages", "cut"])
def test_a_broken_file_is_set_aside_and_a_new_one_begun(tmp_path: Path, how: str) -> None:
    """Whatever a file's damage: it is kept under another name, rows go on into a new one, and the reply says so."""
    path, whole = tmp_path / "s", simulated(messages=80)
    with working(path) as worker:
        worker.do(applied(whole))
    match how:
        case "no database":
            path.write_bytes(b"this is text " * 1_000)
        case "broken pages":
            break_in_the_middle(path)
        case _:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    broken = path.read_bytes()
    worker = Worker()
    try:
        replies = [worker.do(Open(str(path), LIMITS, None)), worker.do(applied(whole)), worker.do(applied(simulated(messages=10, seed=9)))]
    finally:
        worker.close()
    assert [reply.error for reply in replies] == [None] * 3
    assert [reply.set_aside is not None for reply in replies].count(True) == 1
    assert path.with_name("s.damaged").read_bytes() == broken
    assert set(ids(whole.records)) <= set(stored_ids(path))
    assert [one.reason for one in asked(path, overview.status).gaps] == ["damaged"]


def test_damage_that_shows_while_rows_are_filed_loses_none_of_them(tmp_path: Path) -> None:
    """A file that breaks under the writer: the rows in hand are in the new file, and the position goes on in it."""
    path, whole = tmp_path / "s", simulated(messages=80)
    half = len(whole.rows) // 2
    first = Apply([(n, row.cls, row.encoding, row.segments) for n, row in whole.rows[:half]])
    second = Apply([(n, row.cls, row.encoding, row.segments) for n, row in whole.rows[half:]])
    with working(path) as worker:
        before = worker.do(first)
        worker._require()._db().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        worker._require()._db().execute("PRAGMA shrink_memory")
        worker._require()._db().execute("PRAGMA cache_size = 1")
        break_in_the_middle(path)
        reply = worker.do(second)
        assert reply.error is None
        assert reply.set_aside
        assert reply.token != before.token
        assert reply.numbers is not None
        assert reply.numbers.position == whole.rows[-1][0]
    kept = stored_ids(path)
    assert kept
    assert set(kept) < set(ids(whole.records))


def test_a_reader_that_found_damage_is_believed_once(tmp_path: Path) -> None:
    """What a reader reports is set aside if that file is still the one; a report that comes late does not touch the new file."""
    path = tmp_path / "s"
    with working(path) as worker:
        worker.do(applied(made(*MESSAGE)))
        inode = path.stat().st_ino
        assert worker.do(SetAside(inode + 1)).set_aside is None
        assert worker.do(SetAside(inode)).set_aside
        worker.do(applied(made(*MESSAGE)))
        assert worker.do(SetAside(inode)).set_aside is None
    assert len(stored_ids(path)) == 4
    assert path.with_name("s.damaged").exists()


def test_a_file_that_is_not_ours_to_write_is_told_apart(tmp_path: Path) -> None:
    """Too new, of another program, or a folder that cannot be: each has its own error, and no file is set aside."""
    with working(tmp_path / "new"):
        pass
    all_of(tmp_path / "new", "PRAGMA user_version = 99")
    all_of(tmp_path / "other", "CREATE TABLE theirs (x)")
    (tmp_path / "file").write_text("")
    for name, error in (("new", "too_new"), ("other", "unreadable"), ("file/s", "failed")):
        worker = Worker()
        reply = worker.do(Open(str(tmp_path / name), LIMITS, None))
        worker.close()
        assert (reply.error, reply.set_aside) == (error, None)
        assert reply.message
    assert not list(tmp_path.glob("*.damaged*"))


def test_two_writers_never_have_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second worker waits for the first to end, and says so when that takes too long."""
    monkeypatch.setattr("esa_tls.store.worker.LOCK_WAIT_S", 0.2)
    with working(tmp_path / "s"):
        second = Worker()
        reply = second.do(Open(str(tmp_path / "s"), LIMITS, None))
        assert reply.error == "failed"
        assert "another process" in reply.message
        monkeypatch.setattr("esa_tls.store.worker.LOCK_WAIT_S", 30.0)
        got: list[Reply] = []
        waiting = threading.Thread(target=lambda: got.append(second.do(Open(str(tmp_path / "s"), LIMITS, None))))
        waiting.start()
    waiting.join(TIMEOUT_S)
    second.close()
    assert [one.error for one in got] == [None]


# -- frames and the process ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("content", [b"", b"x", bytes(70_000)])
def test_frames_come_as_they_went(content: bytes) -> None:
    """A frame is read whole, and a stream that ends inside one has no more."""
    stream = BytesIO()
    write_frame(stream, content)
    write_frame(stream, b"next")
    whole = stream.getvalue()
    again = BytesIO(whole)
    assert [read_frame(again), read_frame(again), read_frame(again)] == [content, b"next", None]
    for cut in {1, 3, len(content) + 3} - {len(content) + 4}:
        assert read_frame(BytesIO(whole[:cut])) is None


def test_the_loop_ends_with_its_input(tmp_path: Path) -> None:
    """Requests over pipes get their replies in order; the end of the pipe ends the loop and lets the file go."""
    read_end, write_end = os.pipe()
    replies_read, replies_write = os.pipe()
    with os.fdopen(read_end, "rb", buffering=0) as requests, os.fdopen(replies_write, "wb") as replies:
        loop = threading.Thread(target=serve, args=(requests, replies))
        loop.start()
        with os.fdopen(write_end, "wb") as ours, os.fdopen(replies_read, "rb") as theirs:
            asked_for: list[Request] = [Open(str(tmp_path / "s"), LIMITS, None), applied(made(*MESSAGE))]
            for request in asked_for:
                write_frame(ours, msgspec.msgpack.encode(request))
                content = read_frame(theirs)
                assert content is not None
                assert msgspec.msgpack.decode(content, type=Reply).error is None
            ours.close()
            loop.join(TIMEOUT_S)
    assert not loop.is_alive()
    with working(tmp_path / "s"):
        pass
    assert len(stored_ids(tmp_path / "s")) == 4


@pytest.mark.parametrize(("status", "asked"), [("Seccomp:\t0\n", [10]), ("Seccomp:\t2\n", []), ("", [])])
def test_it_goes_last_where_it_may_ask_for_that(monkeypatch: pytest.MonkeyPatch, status: str, asked: list[int]) -> None:
    """Under a filter of system calls, which might end the process for asking, it does not ask."""
    calls: list[int] = []
    monkeypatch.setattr(os, "nice", calls.append)
    monkeypatch.setattr(Path, "read_text", lambda _path: f"Name:\tpython\n{status}")
    give_way()
    assert calls == asked


def test_the_process_outlives_signals_and_not_its_input(tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM to the group do not touch it; when its input ends, so does it, with nothing on standard error."""
    process = subprocess.Popen(
        [sys.executable, "-m", "esa_tls.store.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdin
        assert process.stdout
        write_frame(process.stdin, msgspec.msgpack.encode(Open(str(tmp_path / "s"), LIMITS, None)))  # type: ignore[arg-type]
        assert read_frame(process.stdout)  # type: ignore[arg-type]
        for number in (2, 15, 1):
            process.send_signal(number)
        write_frame(process.stdin, msgspec.msgpack.encode(applied(made(*MESSAGE))))  # type: ignore[arg-type]
        assert read_frame(process.stdout)  # type: ignore[arg-type]
        _, said = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, said) == (0, b"")
    assert (tmp_path / "s").stat().st_mode & 0o077 == 0
    assert len(stored_ids(tmp_path / "s")) == 4
