"""The journal's promises while nothing goes wrong, and what it says when it cannot be opened."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.runtime.journal_cases import MIB, check_whole, cursor, group, key, numbers_of

from esa_tls.core.batch import Row, Sealed
from esa_tls.errors import JournalCorrupt, JournalError, JournalLocked, JournalTooNew
from esa_tls.runtime import journal as journal_module
from esa_tls.runtime import rocks
from esa_tls.runtime.journal import DeadLetter, Journal
from esa_tls.runtime.journal_folder import VERSION

LINES = ("line", "json")
FORWARD = ("line", "forward")
SUMMARIES = ("summary", "json")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A new journal in a folder of its own."""
    opened = Journal.open(tmp_path, max_bytes=256 * MIB)
    yield opened
    opened.close()


def state(puts: dict[bytes, bytes], *deletes: bytes) -> Sealed:
    """A group of state alone."""
    return Sealed(rows=[], puts=list(puts.items()), deletes=list(deletes), keys=[])


# -- groups ----------------------------------------------------------------------------------------------------------------------
def test_everything_of_a_commit_is_there_after_opening_again(tmp_path: Path) -> None:
    """Rows, state, keys, cursors and dead letters, through a clean close."""
    journal = Journal.open(tmp_path)
    letter = DeadLetter("sink:store", "rejected: mapper", b"\x00\xff", "json", 12.5)
    journal.commit([group(1), group(2)], cursors={"store": cursor(3, state=b"\xff")}, dead_letters=[letter])
    journal.close()

    journal = Journal.open(tmp_path)
    assert check_whole(journal) == 2
    assert journal.load_cursor("store") == cursor(3, state=b"\xff")
    assert journal.dead_letters() == [(1, letter)]
    journal.commit([group(3)])
    assert check_whole(journal) == 3
    journal.close()


def test_state_changes_apply_in_order(journal: Journal) -> None:
    """Groups in order; inside one group deletes come before puts, as the core's own dict does it."""
    journal.commit([state({b"a": b"1", b"b": b"1"}), state({b"a": b"2"}, b"b"), state({b"b": b"3"}, b"a")])
    assert dict(journal.items()) == {b"b": b"3"}
    journal.commit([state({b"b": b"4"}, b"b")])

    assert journal.get(b"b") == b"4"
    assert journal.get(b"a") is None


def test_items_are_those_with_the_prefix_in_ascending_order(journal: Journal) -> None:
    """More than one page of them, with keys of all bytes around; the journal's own marks are not among them."""
    pairs = {b"e%05d" % n: b"%d" % n for n in range(2_500)}
    around = {b"\0": b"x", b"d\xff": b"x", b"e": b"first", b"f": b"x", b"\xff": b"x", b"\xff\xff": b"y"}
    journal.commit([state(pairs | around)])

    assert list(journal.items(b"e")) == [(b"e", b"first"), *sorted(pairs.items())]
    assert list(journal.items(b"\xff")) == [(b"\xff", b"x"), (b"\xff\xff", b"y")]
    assert list(journal.items()) == sorted((pairs | around).items())


def test_items_may_be_read_slowly_while_commits_go_on(journal: Journal) -> None:
    """An iteration that is never finished holds nothing open."""
    journal.commit([state({b"e%05d" % n: b"" for n in range(3_000)})])
    reading = journal.items(b"e")
    assert next(reading) == (b"e00000", b"")
    journal.commit([state({b"e02999": b"new"}, b"e02998")])
    journal._rocks.reopen()

    assert list(reading)[-2:] == [(b"e02997", b""), (b"e02999", b"new")]


def test_rows_are_read_behind_a_sequence_up_to_a_number_of_bytes(journal: Journal) -> None:
    """At least one comes; together they reach `max_bytes` with the last one."""
    journal.commit([group(n, padding=b"p" * 1_000) for n in range(1, 21)])

    assert [sequence for sequence, _ in journal.read(0, cls="line", encoding="json", max_bytes=1)] == [1]
    assert [sequence for sequence, _ in journal.read(1, cls="line", encoding="json", max_bytes=3_000)] == [4, 7, 10]
    assert journal.read(journal.tail(), cls="line", encoding="json", max_bytes=MIB) == []
    assert journal.read(0, cls="line", encoding="unknown", max_bytes=MIB) == []
    assert journal.read(3, cls="line", encoding="forward", max_bytes=1)[0] == (5, group(2).rows[1])


def test_several_classes_are_read_in_the_order_of_their_sequences(journal: Journal) -> None:
    """Merged, and nothing is jumped over when one of them is cut off by `max_bytes`."""
    journal.commit([group(n, padding=b"p" * 1_000 * (n % 3)) for n in range(1, 21)])
    sequences: list[int] = []
    while rows := journal.read(sequences[-1] if sequences else 0, cls=("summary", "line"), encoding="json", max_bytes=2_500):
        sequences += [sequence for sequence, _ in rows]

    assert sequences == [sequence for sequence in range(1, 61) if sequence % 3 != 2]


def test_a_batch_key_is_known_from_its_commit_on(journal: Journal) -> None:
    """And not before."""
    assert not journal.knows(key(1))
    journal.commit([group(1)])

    assert journal.knows(key(1))
    assert not journal.knows(key(2))


def test_the_last_keys_are_remembered_by_number_not_by_age(tmp_path: Path) -> None:
    """Exactly `keep_keys`, over many commits and opening again; a key seen twice counts from the second time."""
    journal = Journal.open(tmp_path, keep_keys=10)
    for n in range(1, 26):
        journal.commit([group(n)])
    assert [n for n in range(1, 26) if journal.knows(key(n))] == list(range(16, 26))
    journal.commit([group(16)])
    journal.close()
    journal = Journal.open(tmp_path, keep_keys=10)
    for n in range(26, 31):
        journal.commit([group(n)])
    assert [n for n in range(1, 31) if journal.knows(key(n))] == [16, *range(22, 31)]
    journal.commit([group(n) for n in range(31, 41)])

    assert [n for n in range(1, 41) if journal.knows(key(n))] == list(range(31, 41))
    assert journal.status()["batch_keys"] == 10
    assert journal._rocks.scan("keys", b"k", None) == [
        *((b"k" + key(n), (n + 1).to_bytes(8, "big")) for n in range(31, 41)),
        *((b"n" + (n + 1).to_bytes(8, "big"), key(n)) for n in range(31, 41)),
    ]
    journal.close()


def test_what_is_not_yet_durable_is_not_shown_to_sinks_and_senders(journal: Journal) -> None:
    """While the disk works: no row, no key, no new tail; state is there, for the core goes on."""
    journal.commit([group(1)])
    sync = journal._rocks.sync
    seen: list[object] = []

    def look_first() -> None:
        seen.extend([journal.tail(), numbers_of(journal), journal.knows(key(2)), journal.get(b"last")])
        sync()

    journal._rocks.sync = look_first  # type: ignore[method-assign]
    journal.commit([group(2)])

    assert seen == [3, [1], False, b"2"]
    assert check_whole(journal) == 2


def test_the_interpreter_lock_is_free_while_the_disk_works(journal: Journal) -> None:
    """Another thread goes on during the sync: the event loop must not stop for an fsync."""

    def turns_during_a_sync() -> int:
        journal._rocks.write(lambda batch: batch.put(b"x", os.urandom(16 * MIB)))
        turns, done = 0, threading.Event()

        def sync() -> None:
            journal._rocks.sync()
            done.set()

        thread = threading.Thread(target=sync)
        thread.start()
        while not done.is_set():
            turns += 1
        thread.join()
        return turns

    # on a busy machine the disk may be done before this thread runs again
    assert any(turns_during_a_sync() > 1_000 for _ in range(10))


# -- sinks -----------------------------------------------------------------------------------------------------------------------
def test_rows_that_no_sink_reads_are_not_written(journal: Journal) -> None:
    """They take no sequence either."""
    journal.set_readers({"store": [SUMMARIES]})
    journal.commit([group(1), group(2)])

    assert numbers_of(journal, *LINES) == []
    assert numbers_of(journal, *SUMMARIES) == [1, 2]
    assert journal.tail() == 2


def test_a_reader_of_rows_that_have_no_place_is_refused(journal: Journal) -> None:
    """At the start, by name, and not by a commit that fails for ever."""
    with pytest.raises(ValueError, match="line/xml"):
        journal.set_readers({"store": [("line", "xml")]})


def test_trim_removes_what_the_slowest_reader_has_got_and_no_more(journal: Journal) -> None:
    """By (class, encoding): a sink that is far behind with summaries keeps no lines."""
    journal.set_readers({"fast": [LINES], "slow": [LINES, FORWARD], "late": [SUMMARIES]})
    journal.commit([group(n) for n in range(1, 11)])
    assert journal.trim() == 0
    journal.commit([], cursors={"fast": cursor(30), "slow": cursor(12), "late": cursor(3)})
    freed = journal.trim()

    assert numbers_of(journal, *LINES) == [5, 6, 7, 8, 9, 10]
    assert numbers_of(journal, *FORWARD) == [5, 6, 7, 8, 9, 10]
    assert numbers_of(journal, *SUMMARIES) == list(range(2, 11))
    assert freed == sum(len(data) for n in range(1, 5) for row in group(n).rows[:2] for _, _, data in row.segments) + 4
    assert journal.oldest() == 6
    assert journal.trim() == 0


def test_a_cursor_may_have_a_sequence_for_each_class(journal: Journal) -> None:
    """Then lines and summaries are trimmed each behind their own."""
    journal.set_readers({"store": [LINES, SUMMARIES]})
    journal.commit([group(n) for n in range(1, 6)])
    journal.save_cursor("store", cursor({"line": 6}))
    journal.trim()

    assert numbers_of(journal, *LINES) == [4, 5]
    assert numbers_of(journal, *SUMMARIES) == [1, 2, 3, 4, 5]


def test_trim_keeps_everything_as_long_as_readers_are_unknown_or_without_cursor(journal: Journal) -> None:
    """A sink that has not said where it is may need every row."""
    journal.commit([group(1)])
    journal.save_cursor("old", cursor(3))
    assert journal.trim() == 0
    journal.set_readers({"old": [LINES], "new": [LINES]})

    assert journal.trim() == len(b"c1d1") + len(group(1).rows[1].segments[0][2])
    assert numbers_of(journal) == [1]


def test_a_sequence_is_never_used_again(tmp_path: Path) -> None:
    """Not after everything was trimmed and the journal opened again."""
    journal = Journal.open(tmp_path)
    journal.set_readers({"store": [LINES, FORWARD, SUMMARIES]})
    journal.commit([group(1), group(2)])
    journal.save_cursor("store", cursor(6))
    journal.trim()
    assert journal.oldest() == 7
    journal.close()
    journal = Journal.open(tmp_path)
    assert (journal.tail(), journal.oldest()) == (6, 7)
    journal.commit([group(3)])

    assert [sequence for sequence, _ in journal.read(0, cls="line", encoding="json", max_bytes=1)] == [7]
    journal.close()


def test_cursors_are_kept_by_sink_and_dropped_by_name(tmp_path: Path) -> None:
    """A cursor of a sink that left stays until it is dropped, and pins nothing then."""
    journal = Journal.open(tmp_path)
    journal.save_cursor("a", cursor(1))
    journal.save_cursor("zuständig", cursor(2))
    journal.drop_cursor("a")
    journal.close()
    journal = Journal.open(tmp_path)

    assert journal.cursors() == {"zuständig": cursor(2)}
    assert journal.load_cursor("a") is None
    assert list(journal.status()["sinks"]) == ["zuständig"]
    journal.close()


def test_a_cursor_without_a_sequence_is_refused_before_anything_is_written(journal: Journal) -> None:
    """It would pin or free rows at random."""
    with pytest.raises(ValueError, match="sequence"):
        journal.commit([group(1)], cursors={"store": b"\x80"})

    assert journal.tail() == 0
    assert journal.cursors() == {}


def test_dead_letters_are_listed_and_deleted_by_number(tmp_path: Path) -> None:
    """Numbers go on after deletion and opening again."""
    journal = Journal.open(tmp_path)
    letters = [DeadLetter("source:fluent", "not_array", b"%d" % n) for n in range(1, 6)]
    journal.commit([], dead_letters=letters)
    assert journal.delete_dead_letters([2, 4, 4, 99]) == 2
    assert journal.dead_letters(after=1, max_items=1) == [(3, letters[2])]
    journal.close()
    journal = Journal.open(tmp_path)
    journal.commit([], dead_letters=letters[:1])

    assert journal.dead_letters() == [(1, letters[0]), (3, letters[2]), (5, letters[4]), (6, letters[0])]
    assert journal.dead_letter_count == 4
    journal.close()


def test_too_many_dead_letters_drop_the_oldest_and_count_them(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded, and the loss is on record."""
    monkeypatch.setattr(journal_module, "KEEP_DEAD_LETTERS", 3)
    for n in range(1, 6):
        journal.commit([], dead_letters=[DeadLetter("source:x", "bad", b"%d" % n)])

    assert [number for number, _ in journal.dead_letters()] == [3, 4, 5]
    assert (journal.status()["dead_letters"], journal.status()["dead_letters_dropped"]) == (3, 2)


def test_drop_oldest_tells_what_each_sink_misses(journal: Journal) -> None:
    """Oldest first over all classes; what a sink has got already is not counted for it."""
    journal.set_readers({"lines": [LINES], "both": [LINES, SUMMARIES]})
    journal.commit([group(n, padding=b"p" * 100) for n in range(1, 11)])
    journal.save_cursor("lines", cursor(4))  # sequences: line 1, summary 2, line 3, summary 4, ...
    dropped = journal.drop_oldest(400)

    assert dropped == {"lines": {"line": 2}, "both": {"line": 6, "connection": 2, "delivery": 6}}
    assert numbers_of(journal, *LINES) == [4, 5, 6, 7, 8, 9, 10]
    assert numbers_of(journal, *SUMMARIES) == [3, 4, 5, 6, 7, 8, 9, 10]
    assert journal.drop_oldest(MIB)["lines"] == {"line": 14}
    assert journal.drop_oldest(MIB) == {}


def test_status_tells_rows_and_lags(journal: Journal) -> None:
    """Counts that can be checked by hand."""
    journal.set_readers({"store": [LINES, SUMMARIES], "new": [LINES]})
    for n in range(1, 6):
        journal.commit([group(n)])
    journal.save_cursor("store", cursor(4))
    status = journal.status()

    assert status["outbox"] == {
        "line/json": {"rows": 5, "records": 10, "size_bytes": 5 * len(b'{"n":1}\n')},
        "summary/json": {"rows": 5, "records": 20, "size_bytes": 5 * len(b"c1d1")},
    }
    assert status["sinks"]["store"] == {
        "sequence": 4,
        "reads": ["line/json", "summary/json"],
        "lag": {"rows": 6, "records": 18, "size_bytes": 3 * 8 + 3 * 4},
    }
    assert status["sinks"]["new"] == {"sequence": None, "reads": ["line/json"], "lag": {"rows": 5, "records": 10, "size_bytes": 40}}
    assert {name: status[name] for name in ("version", "commits", "oldest", "tail", "batch_keys", "dead_letters", "reserve")} == {
        "version": VERSION,
        "commits": 5,
        "oldest": 1,
        "tail": 10,
        "batch_keys": 5,
        "dead_letters": 0,
        "reserve": True,
    }
    assert 0 < status["size_bytes"] <= status["max_bytes"]
    assert status["free_bytes"] > 0
    journal.trim()
    assert journal.status()["outbox"]["summary/json"]["rows"] == 3
    assert journal.status()["sinks"]["store"]["lag"] == status["sinks"]["store"]["lag"]


# -- a commit that failed --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("opened_again", [False, True])
def test_a_group_whose_sync_failed_is_not_written_twice(journal: Journal, opened_again: bool) -> None:
    """The repeat of the same objects makes it durable, or finds that opening again did; before that nobody sees it."""
    if not opened_again:
        journal._room._next_reopen_s = float("inf")
    sync = journal._rocks.sync

    def fail() -> None:
        raise JournalError("the disk went away")

    one = group(1)
    journal._rocks.sync = fail  # type: ignore[method-assign]
    with pytest.raises(JournalError, match="went away"):
        journal.commit([one], cursors={"store": cursor(0)})
    assert journal.knows(key(1)) == opened_again
    assert journal.tail() == (3 if opened_again else 0)
    journal._rocks.sync = sync  # type: ignore[method-assign]
    journal.commit([one])

    assert check_whole(journal) == 1
    assert journal.load_cursor("store") == cursor(0)
    journal.commit([group(2)])
    assert check_whole(journal) == 2


def test_a_group_that_did_not_get_into_the_log_is_written_by_the_repeat(journal: Journal) -> None:
    """A failed write leaves nothing, and takes no number."""
    write = journal._rocks.write

    def fail(fill: object) -> int:
        raise JournalError("the disk went away")

    one = group(1)
    journal._rocks.write = fail  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(JournalError):
            journal.commit([one])
    journal._rocks.write = write  # type: ignore[method-assign]
    assert journal.get(b"last") is None
    journal.commit([one])

    assert check_whole(journal) == 1


# -- opening ---------------------------------------------------------------------------------------------------------------------
def test_a_second_opener_is_told_who_has_it(tmp_path: Path, journal: Journal) -> None:
    """By another process, with its number, and in this one too; after closing it can be had."""
    code = f"""
from pathlib import Path
from esa_tls.errors import JournalLocked
from esa_tls.runtime.journal import Journal
try:
    Journal.open(Path({str(tmp_path)!r}))
except JournalLocked as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.startswith(f"{tmp_path} is in use by process {os.getpid()} (")
    with pytest.raises(JournalLocked, match=f"process {os.getpid()} "):
        Journal.open(tmp_path)
    journal.close()
    Journal.open(tmp_path).close()


def test_pipelines_have_journals_of_their_own(tmp_path: Path, journal: Journal) -> None:
    """Side by side in one data directory."""
    second = Journal.open(tmp_path, pipeline=1)
    second.commit([group(1)])

    assert (journal.tail(), second.tail()) == (0, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal-0", "journal-1"]
    second.close()


def test_a_running_journal_can_be_looked_at(tmp_path: Path, journal: Journal) -> None:
    """Rows, cursors and lags as of now, beside the process that writes; nothing can be changed, and nothing stays behind."""
    journal.set_readers({"store": [LINES]})
    journal.commit([group(1), group(2)], cursors={"store": cursor(1)}, dead_letters=[DeadLetter("source:x", "bad", b"")])
    look = Journal.open(tmp_path, read_only=True)
    assert look.status()["sinks"] == journal.status()["sinks"]
    assert look.status()["outbox"] == journal.status()["outbox"]
    assert numbers_of(look) == [1, 2]
    assert len(look.dead_letters()) == 1
    for change in (
        lambda: look.commit([group(3)]),
        look.trim,
        lambda: look.save_cursor("store", cursor(2)),
        lambda: look.drop_cursor("store"),
        lambda: look.set_readers({}),
        lambda: look.drop_oldest(1),
        lambda: look.delete_dead_letters([1]),
    ):
        with pytest.raises(JournalError, match="looked at only"):
            change()
    look.close()
    journal.commit([group(3)])

    assert numbers_of(journal) == [1, 2, 3]


def test_looking_needs_a_journal(tmp_path: Path) -> None:
    """An empty folder is an error, and stays empty."""
    with pytest.raises(JournalError, match="no journal"):
        Journal.open(tmp_path, read_only=True)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_journal_is_refused(tmp_path: Path, read_only: bool) -> None:
    """For writing and for looking, before the database is touched."""
    Journal.open(tmp_path).close()
    (tmp_path / "journal-0" / "version").write_text(f"{VERSION + 1}\n")
    with pytest.raises(JournalTooNew, match=f"version {VERSION + 1}"):
        Journal.open(tmp_path, read_only=read_only)


def test_an_older_journal_is_carried_forward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal of version 1, without a place for the store's rows, keeps what it holds and takes those rows from now on."""
    with monkeypatch.context() as patch:
        patch.setattr("esa_tls.runtime.journal_folder.VERSION", 1)
        for name in ("OUTBOXES", "FAMILIES"):
            patch.setattr(rocks, name, tuple(one for one in getattr(rocks, name) if not one.endswith("/store")))
        with closing(Journal.open(tmp_path)) as journal:
            journal.set_readers({"file": [LINES, SUMMARIES]})
            journal.commit([group(1)])
    assert (tmp_path / "journal-0" / "version").read_text() == "1\n"

    for _ in range(2):
        with closing(Journal.open(tmp_path)) as journal:
            journal.set_readers({"file": [LINES, SUMMARIES], "store": [("line", "store")]})
            journal.commit([Sealed([Row("line", "store", [("line", 1, b"x")])], [], [], [])])
            assert numbers_of(journal) == [1]
            rows = journal.read(0, cls="line", encoding="store", max_bytes=MIB)
            assert [row.segments for _, row in rows][-1] == [("line", 1, b"x")]
        assert (tmp_path / "journal-0" / "version").read_text() == f"{VERSION}\n"


def test_a_database_without_version_is_refused(tmp_path: Path) -> None:
    """Who knows what it is."""
    Journal.open(tmp_path).close()
    (tmp_path / "journal-0" / "version").unlink()
    with pytest.raises(JournalCorrupt, match="version"):
        Journal.open(tmp_path)


def test_a_lost_database_is_not_made_anew_in_silence(tmp_path: Path) -> None:
    """Acknowledged groups were in it; whoever accepts that may go on."""
    journal = Journal.open(tmp_path)
    journal.commit([group(1)])
    journal.close()
    (tmp_path / "journal-0" / "db" / "CURRENT").unlink()
    with pytest.raises(JournalCorrupt, match="not a database any more"):
        Journal.open(tmp_path)


def test_a_folder_that_cannot_be_made_is_a_journal_error(tmp_path: Path) -> None:
    """A file in its place, named in the message."""
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="file"):
        Journal.open(tmp_path / "file")


def test_closing_twice_and_using_afterwards(tmp_path: Path) -> None:
    """The second close does nothing; everything else is a JournalError."""
    journal = Journal.open(tmp_path)
    journal.close()
    journal.close()
    with pytest.raises(JournalError):
        journal.commit([group(1)])
    with pytest.raises(JournalError):
        journal.get(b"last")


def test_rows_of_any_size_and_content_come_back(journal: Journal) -> None:
    """Empty segments, 8 MiB of them, all bytes."""
    rows = [
        Row("line", "json", []),
        Row("line", "json", [("line", 0, b"")]),
        Row("line", "json", [("line", 1, bytes(range(256)) * 32_768), ("odd kind", 2, b"\x00\xff")]),
    ]
    journal.commit([Sealed(rows=rows, puts=[], deletes=[], keys=[])])

    assert [row for _, row in journal.read(0, cls="line", encoding="json", max_bytes=64 * MIB)] == rows
