"""sinks/jsonl.py: every record on one whole line, once, wherever a write, a rotation or the process ends."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract.delivery_fakes import ids_in, record, row, rows_of

from esa_tls.errors import TransientError
from esa_tls.runtime.dispatch import Rows
from esa_tls.sinks.jsonl import JsonlSink, Syscalls

RECORD_BYTES = len(record("json", 100))


def numbered(first: int, count: int) -> Rows:
    """One row of `count` records of equal length, from `first` (>= 100)."""
    return [(first, row("json", range(first, first + count)))]


def files(path: Path) -> list[Path]:
    """The sink's files, oldest first."""
    found = sorted((int(p.name.removeprefix(path.name + ".")), p) for p in path.parent.glob(path.name + ".*"))
    return [p for _, p in reversed(found)] + ([path] if path.exists() else [])


def ids(path: Path) -> list[int]:
    """Record numbers in all files, oldest first; fails on a torn line."""
    return [number for file in files(path) for number in ids_in("json", file.read_bytes())]


async def opened(path: Path, state: bytes | None = None, **settings_: Any) -> JsonlSink:
    """A sink, open."""
    sink = JsonlSink(str(path), **settings_)
    await sink.open(state)
    return sink


# -- writing and rotating --------------------------------------------------------------------------------------------------------------


async def test_records_are_written_as_they_are(tmp_path: Path) -> None:
    """The file holds exactly the outbox bytes of the wanted kinds, in order, synced before `send` returns."""
    synced: list[int] = []

    def fsync(fd: int) -> None:
        synced.append(os.fstat(fd).st_size)
        os.fsync(fd)

    path = tmp_path / "new folder" / "records.jsonl"
    sink = await opened(path, kinds=frozenset({"line"}), syscalls=Syscalls(fsync=fsync))
    await sink.send([(1, rows_of("json", [("line", [1, 2]), ("message", [3])])), (2, row("json", [4]))])
    assert path.read_bytes() == record("json", 1) + record("json", 2) + record("json", 4)
    assert synced[-1] == path.stat().st_size
    await sink.close()


async def test_files_rotate_between_records_and_old_ones_go(tmp_path: Path) -> None:
    """No file is over the limit, none holds half a record, and no more than `keep_files` are set aside."""
    path = tmp_path / "records.jsonl"
    sink = await opened(path, max_file_bytes=3 * RECORD_BYTES + 1, keep_files=2)
    for first in range(100, 150, 5):
        await sink.send(numbered(first, 5))
    await sink.send([])
    await sink.close()
    assert [file.name for file in files(path)] == ["records.jsonl.2", "records.jsonl.1", "records.jsonl"]
    assert all(file.stat().st_size <= 3 * RECORD_BYTES for file in files(path))
    assert ids(path) == list(range(150 - len(ids(path)), 150))


async def test_a_full_file_is_synced_before_it_gets_its_number(tmp_path: Path) -> None:
    """What the next sync of the new file confirms includes the old one: it was synced whole before it was renamed."""
    path = tmp_path / "records.jsonl"
    synced: dict[int, int] = {}
    renamed: list[tuple[int, int]] = []

    def fsync(fd: int) -> None:
        status = os.fstat(fd)
        synced[status.st_ino] = status.st_size
        os.fsync(fd)

    def replace(old: Path, new: Path) -> None:
        status = old.stat()
        renamed.append((synced[status.st_ino], status.st_size))
        old.replace(new)

    sink = await opened(path, max_file_bytes=3 * RECORD_BYTES, syscalls=Syscalls(fsync=fsync, replace=replace))
    await sink.send(numbered(100, 20))
    await sink.close()
    assert len(renamed) > 6
    assert all(size_synced == size for size_synced, size in renamed)


async def test_a_record_larger_than_a_file_gets_its_own(tmp_path: Path) -> None:
    """The limit bends for a single record, and only for that one."""
    path = tmp_path / "records.jsonl"
    sink = await opened(path, max_file_bytes=2 * RECORD_BYTES, keep_files=9)
    await sink.send([(1, row("json", [101])), (2, row("json", [102], pad=1000)), (3, row("json", [103, 104]))])
    await sink.close()
    assert [ids_in("json", file.read_bytes()) for file in files(path)] == [[101], [102], [103, 104]]


async def test_other_files_with_like_names_are_left_alone(tmp_path: Path) -> None:
    """Rotation touches its own numbers only."""
    path = tmp_path / "records.jsonl"
    others = [tmp_path / name for name in ("records.jsonl.gz", "records.jsonl.01", "records.jsonl.1x", "xrecords.jsonl.1")]
    for other in others:
        other.write_text("x")
    sink = await opened(path, max_file_bytes=RECORD_BYTES, keep_files=1)
    await sink.send(numbered(100, 5))
    await sink.send(numbered(105, 1))
    await sink.close()
    assert [other.read_text() for other in others] == ["x"] * 4


# -- starting again --------------------------------------------------------------------------------------------------------------------


async def test_what_follows_the_cursor_is_cut(tmp_path: Path) -> None:
    """Bytes after the position, whole or torn, are gone after the next start, and sending goes on there."""
    path = tmp_path / "records.jsonl"
    sink = await opened(path)
    await sink.send(numbered(100, 3))
    state = sink.state()
    await sink.send(numbered(103, 3))
    await sink.close()
    with path.open("ab") as file:
        file.write(b'{"torn')
    again = await opened(path, state)
    assert ids(path) == [100, 101, 102]
    await again.send(numbered(103, 3))
    await again.close()
    assert ids(path) == list(range(100, 106))


@pytest.mark.parametrize("copied", [False, True])
async def test_the_cursors_file_is_found_under_its_new_number(tmp_path: Path, copied: bool) -> None:
    """Rotations after the cursor are undone, by the inode or, when the files were copied, by the file's beginning."""
    path = tmp_path / "a" / "records.jsonl"
    sink = await opened(path, max_file_bytes=4 * RECORD_BYTES, keep_files=20)
    await sink.send(numbered(100, 10))
    state = sink.state()
    await sink.send(numbered(110, 23))
    await sink.close()
    if copied:
        for file in files(path):
            data = file.read_bytes()
            (tmp_path / "hold").touch()  # so that the inode is not used again
            file.rename(tmp_path / "old" if not (tmp_path / "old").exists() else tmp_path / f"old{file.name}")
            file.write_bytes(data)
    again = await opened(path, state, max_file_bytes=4 * RECORD_BYTES, keep_files=20)
    assert ids(path) == list(range(100, 110))
    await again.send(numbered(110, 23))
    await again.close()
    assert ids(path) == list(range(100, 133))


async def test_a_lost_file_loses_nothing_else(tmp_path: Path) -> None:
    """If somebody removed the cursor's file, nothing that is there is removed but a torn last line."""
    path = tmp_path / "records.jsonl"
    sink = await opened(path)
    await sink.send(numbered(100, 3))
    state = sink.state()
    await sink.close()
    path.unlink()
    path.write_bytes(record("json", 200) + b'{"torn')
    again = await opened(path, state)
    await again.send(numbered(103, 1))
    await again.close()
    assert ids(path) == [200, 103]


@pytest.mark.parametrize("state", [None, b"\xc1", b"\x80"])
async def test_a_file_we_know_nothing_of_is_only_added_to(tmp_path: Path, state: bytes | None) -> None:
    """Without a usable cursor nothing is cut; our first record starts a line of its own."""
    path = tmp_path / "records.jsonl"
    path.write_bytes(b"somebody's half line")
    sink = await opened(path, state)
    await sink.send(numbered(100, 1))
    await sink.close()
    assert path.read_bytes() == b"somebody's half line\n" + record("json", 100)


async def test_another_path_does_not_use_the_old_position(tmp_path: Path) -> None:
    """After the configured path changed the new file is not cut at the old one's offset."""
    old, new = tmp_path / "old.jsonl", tmp_path / "new.jsonl"
    sink = await opened(old)
    await sink.send(numbered(100, 1))
    state = sink.state()
    await sink.close()
    new.write_bytes(record("json", 100) + record("json", 101))
    again = await opened(new, state)
    await again.close()
    assert ids(new) == [100, 101]


# -- crashes and failures at every step ------------------------------------------------------------------------------------------------


class Crash(BaseException):
    """Stands for the end of the process."""


def counting(fail_at: int, error: Callable[[], BaseException], *, torn: bool = True, times: int = 10**9) -> tuple[Syscalls, list[int]]:
    """Syscalls of which the `fail_at`-th and those after it (`times` of them) fail; a failing write writes half first."""
    count = [0]

    def check(write_half: Callable[[], object] = lambda: None) -> None:
        count[0] += 1
        if fail_at <= count[0] < fail_at + times:
            if torn and count[0] == fail_at:
                write_half()
            raise error()

    def write(fd: int, view: memoryview) -> int:
        check(lambda: os.write(fd, view[: len(view) // 2]))
        return os.write(fd, view)

    def fsync(fd: int) -> None:
        check()
        os.fsync(fd)

    def replace(old: Path, new: Path) -> None:
        check()
        old.replace(new)

    def unlink(path: Path) -> None:
        check()
        path.unlink()

    def ftruncate(fd: int, size: int) -> None:
        check()
        os.ftruncate(fd, size)

    return Syscalls(write, fsync, replace, unlink, ftruncate), count


BATCHES = [(100, 2), (102, 7), (109, 1), (110, 12), (122, 5)]
SMALL = {"max_file_bytes": 3 * RECORD_BYTES, "keep_files": 50}


async def write_all(path: Path, state: bytes | None, *, done: int, cursor_every: int, syscalls: Syscalls) -> tuple[bytes | None, int, bool]:
    """Send BATCHES from number `done` on; returns the last durable (state, done), and whether it came to the end.

    The cursor becomes durable after each `cursor_every`-th batch: it lags as it does in the journal.
    """
    sink = JsonlSink(str(path), syscalls=syscalls, **SMALL)  # type: ignore[arg-type]
    durable = (state, done)
    try:
        await sink.open(state)
        durable = (sink.state(), done)
        for at in range(done, len(BATCHES)):
            await sink.send(numbered(*BATCHES[at]))
            if (at + 1) % cursor_every == 0:
                durable = (sink.state(), at + 1)
    except Crash:
        return *durable, False
    finally:
        await sink.close()
    return sink.state(), len(BATCHES), True


@pytest.mark.parametrize("cursor_every", [1, 2, 4])
async def test_a_crash_at_any_system_call_costs_and_repeats_nothing(tmp_path: Path, cursor_every: int) -> None:
    """Crash at each call that changes the disk, start again, crash at each call of that too: every record is there once, in order."""
    whole, count = counting(10**9, Crash)
    await write_all(tmp_path / "whole" / "x", None, done=0, cursor_every=cursor_every, syscalls=whole)
    assert count[0] > 50
    for first in range(1, count[0] + 1):
        for second in {10**9, 1 + first % 7, 1 + first % 11, 1 + first % 13}:
            path = tmp_path / f"{first}-{second}" / "records.jsonl"
            crashing, _ = counting(first, Crash)
            state, done, ended = await write_all(path, None, done=0, cursor_every=cursor_every, syscalls=crashing)
            assert not ended
            if state is None:
                continue  # crashed in the very first open: nothing was written
            crashing, _ = counting(second, Crash)
            state, done, ended = await write_all(path, state, done=done, cursor_every=cursor_every, syscalls=crashing)
            if not ended:
                state, done, ended = await write_all(path, state, done=done, cursor_every=cursor_every, syscalls=Syscalls())
            assert ended
            assert ids(path) == list(range(100, 127)), (first, second)


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_a_failing_disk_costs_and_repeats_nothing(tmp_path: Path, times: int) -> None:
    """Any call failing with "no space", also while it is being put right, is a TransientError; sent again, every record is there once."""
    whole, count = counting(10**9, Crash)
    await write_all(tmp_path / "whole" / "x", None, done=0, cursor_every=1, syscalls=whole)
    for fail_at in range(1, count[0] + 1):
        path = tmp_path / str(fail_at) / "records.jsonl"
        syscalls, _ = counting(fail_at, lambda: OSError(errno.ENOSPC, "No space left on device"), times=times)
        sink = JsonlSink(str(path), syscalls=syscalls, **SMALL)  # type: ignore[arg-type]
        failures = 0
        while True:
            try:
                await sink.open(None)
            except TransientError:
                failures += 1
            else:
                break
        for batch in BATCHES:
            while True:
                try:
                    await sink.send(numbered(*batch))
                except TransientError as error:
                    failures += 1
                    assert "No space left" in str(error)  # noqa: PT017
                else:
                    break
        await sink.close()
        assert failures
        assert ids(path) == list(range(100, 127)), fail_at


async def test_a_full_disk_leaves_no_torn_line_behind(tmp_path: Path) -> None:
    """Already before the next try the file ends with the last record that was confirmed."""
    path = tmp_path / "records.jsonl"
    full = False

    def write(fd: int, view: memoryview) -> int:
        if full:
            os.write(fd, view[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(fd, view)

    sink = await opened(path, syscalls=Syscalls(write=write))
    await sink.send(numbered(100, 2))
    full = True
    with pytest.raises(TransientError):
        await sink.send(numbered(102, 2))
    assert ids(path) == [100, 101]
    await sink.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 8), st.data())
async def test_any_restart_from_any_cursor_gives_every_record_once(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], records_per_file: int, data: st.DataObject
) -> None:
    """Whatever was written since, going on from an older cursor of the last few gives all records once, in order."""
    path = tmp_path_factory.mktemp("any") / "records.jsonl"
    limits: dict[str, Any] = {"max_file_bytes": records_per_file * RECORD_BYTES, "keep_files": 100}
    firsts = [100 + sum(counts[:n]) for n in range(len(counts) + 1)]
    sink = await opened(path, **limits)
    states = [sink.state()]
    for first, count in zip(firsts, counts, strict=False):
        await sink.send(numbered(first, count))
        states.append(sink.state())
    await sink.close()
    back = data.draw(st.integers(0, len(counts)))
    again = await opened(path, states[back], **limits)
    assert ids(path) == list(range(100, firsts[back]))
    for first, count in list(zip(firsts, counts, strict=False))[back:]:
        await again.send(numbered(first, count))
    await again.close()
    assert ids(path) == list(range(100, firsts[-1]))


# -- life ------------------------------------------------------------------------------------------------------------------------------


async def test_a_cancelled_send_is_waited_for_by_close(tmp_path: Path) -> None:
    """After `close` no thread writes any more, and the position is that of the last send that returned or a later one."""
    entered, leave = threading.Event(), threading.Event()
    written: list[int] = []

    def write(fd: int, view: memoryview) -> int:
        entered.set()
        leave.wait(10)
        written.append(os.write(fd, view))
        return written[-1]

    path = tmp_path / "records.jsonl"
    sink = await opened(path, syscalls=Syscalls(write=write))
    state = sink.state()
    sending = asyncio.create_task(sink.send(numbered(100, 50)))
    await asyncio.to_thread(entered.wait, 10)
    sending.cancel()
    closing = asyncio.create_task(sink.close())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sending.cancelled()
    assert not closing.done()
    leave.set()
    await closing
    size = path.stat().st_size
    assert sum(written) == size == 50 * RECORD_BYTES
    again = await opened(path, state)
    await again.close()
    assert path.stat().st_size == 0


async def test_close_before_open_and_twice(tmp_path: Path) -> None:
    """Closing is always possible, sending afterwards never."""
    sink = JsonlSink(str(tmp_path / "x"))
    await sink.close()
    await sink.close()
    assert sink.state() is None
    with pytest.raises(TransientError):
        await sink.send(numbered(100, 1))


def test_settings_that_make_no_sense_are_refused() -> None:
    """Without a file set aside a crash in a rotation could not be undone."""
    with pytest.raises(ValueError, match="keep_files"):
        JsonlSink("x", keep_files=0)


# -- streams -----------------------------------------------------------------------------------------------------------------------------


async def test_standard_output_gets_the_same_bytes() -> None:
    """`-` writes to the descriptor it is given, more than a pipe holds, and keeps no position."""
    reading, writing = os.pipe()
    sink = JsonlSink("-", stdout_fd=writing)
    await sink.open(None)
    rows = numbered(100, 3000)
    [(_, _, body)] = rows[0][1].segments
    sending = asyncio.create_task(sink.send(rows))
    got = b""
    while len(got) < len(body):
        got += await asyncio.to_thread(os.read, reading, 65536)
    await sending
    assert got == body
    assert sink.state() is None
    await sink.close()
    os.write(writing, b"still open")
    os.close(writing)
    os.close(reading)


async def test_a_closed_pipe_is_transient_and_asks_for_a_long_wait() -> None:
    """When the reader is gone the rows stay where they are; nothing is raised that would end other sinks."""
    reading, writing = os.pipe()
    os.close(reading)
    sink = JsonlSink("-", stdout_fd=writing)
    await sink.open(None)
    with pytest.raises(TransientError, match="reader of - is gone") as caught:
        await sink.send(numbered(100, 1))
    assert caught.value.retry_after_s == 60.0
    await sink.close()
    os.close(writing)


async def test_a_reader_that_stalls_does_not_hold_up_the_end() -> None:
    """Closing ends a write that waits for a full pipe."""
    reading, writing = os.pipe()
    sink = JsonlSink("-", stdout_fd=writing)
    await sink.open(None)
    sending = asyncio.create_task(sink.send(numbered(100, 3000)))
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await sink.close()
        with pytest.raises(TransientError):
            await sending
    os.close(writing)
    os.close(reading)


async def test_standard_output_may_be_a_file(tmp_path: Path) -> None:
    """Redirected output is written and synced, not rotated."""
    path = tmp_path / "out"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    sink = JsonlSink("-", stdout_fd=fd, max_file_bytes=1)
    await sink.open(None)
    await sink.send(numbered(100, 5))
    await sink.close()
    os.close(fd)
    assert ids(path) == [100, 101, 102, 103, 104]


@pytest.mark.parametrize(("path", "error"), [("/dev/null", None), ("/dev/full", "No space left on device")])
async def test_devices_are_written_to_and_nothing_else(path: str, error: str | None) -> None:
    """A device is no file to cut or rename."""
    sink = JsonlSink(path, max_file_bytes=1)
    await sink.open(None)
    if error is None:
        await sink.send(numbered(100, 5))
    else:
        with pytest.raises(TransientError, match=error):
            await sink.send(numbered(100, 5))
    assert sink.state() is None
    await sink.close()


async def test_a_device_name_is_no_file_whatever_is_behind_it(tmp_path: Path) -> None:
    """Names like /dev/stdout may lead to a file: it is written to, not cut, not renamed."""
    path = tmp_path / "out"
    path.write_bytes(b"before\n")
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    sink = JsonlSink(f"/proc/self/fd/{fd}", max_file_bytes=1)
    await sink.open(None)
    await sink.send(numbered(100, 3))
    assert sink.state() is None
    await sink.close()
    os.close(fd)
    assert path.read_bytes() == b"before\n" + b"".join(record("json", n) for n in (100, 101, 102))


async def test_a_named_pipe_without_reader_is_transient(tmp_path: Path) -> None:
    """Opening it does not hang; with a reader it works."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    sink = JsonlSink(str(path))
    with pytest.raises(TransientError):
        await sink.open(None)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    await sink.open(None)
    await sink.send(numbered(100, 2))
    assert ids_in("json", os.read(reading, 65536)) == [100, 101]
    os.close(reading)
    await sink.close()


# -- kill -9 -----------------------------------------------------------------------------------------------------------------------------

CHILD = """
import asyncio, os, sys
from pathlib import Path
import msgspec
from esa_tls.runtime.dispatch import Cursor, Dispatcher
from esa_tls.sinks.jsonl import JsonlSink
from esa_tls.telemetry import Counters
from tests.contract.delivery_fakes import FakeOutbox, row

folder, count, lag = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

class Cursors:
    "Durable cursors of which only each lag-th is written, as the journal does it; written whole or not at all."
    def __init__(self):
        self.seen = 0
    def save(self, name, cursor):
        self.seen += 1
        os.write(1, b".")
        if self.seen % lag == 0:
            self.write(cursor)
    def write(self, cursor):
        (folder / "cursor.new").write_bytes(cursor)
        os.replace(folder / "cursor.new", folder / "cursor")

async def main():
    outbox = FakeOutbox()
    for n in range(count):
        outbox.add(row("json", range(1000 + 3 * n, 1003 + 3 * n)))
    cursors = Cursors()
    stored = (folder / "cursor").read_bytes() if (folder / "cursor").exists() else None
    sink = JsonlSink(str(folder / "records.jsonl"), max_file_bytes=4 * 64, keep_files=100000)
    one = Dispatcher(sink, outbox, stored=stored, save_cursor=cursors.save, dead_letter=None, grown=outbox.grown,
                     counters=Counters(), start="oldest", max_batch_bytes=500)
    first = await one.prepare()
    if first is not None:
        cursors.write(first)
    running = asyncio.create_task(one.run())
    await asyncio.sleep(0)
    await one.drain(within_s=100)
    await running
    os.write(1, b"!")

asyncio.run(main())
"""


def test_kill_9_at_any_moment_leaves_every_record_exactly_once(tmp_path: Path) -> None:
    """20 times SIGKILL while the child writes and rotates all the time, then one undisturbed run: every record once, no torn line."""
    chance = random.Random(9)
    rows = 1500
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "plugin")])}
    kills = 0
    while True:
        lag = chance.choice([1, 2, 5])
        command = [sys.executable, "-c", CHILD, str(tmp_path), str(rows), str(lag)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=root) as child:
            assert child.stdout is not None
            last = b""
            for _ in range(chance.randrange(1, 40) if kills < 20 else 10**9):
                if not (more := os.read(child.stdout.fileno(), chance.randrange(1, 4))):
                    break
                last = more
            if kills < 20 and not last.endswith(b"!"):
                child.send_signal(signal.SIGKILL)
                kills += 1
            child.communicate()
            if child.returncode == 0:
                break
            assert child.returncode == -signal.SIGKILL
    assert kills == 20
    assert ids(tmp_path / "records.jsonl") == list(range(1000, 1000 + 3 * rows))
