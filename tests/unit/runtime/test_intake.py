"""The intake: the six rules of the durable step, each with a core of a few lines and a journal that can be stopped and made to fail."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from esa_tls.core.batch import Batch, Origin, Row, Run, Sealed
from esa_tls.errors import FrameTooLarge, JournalError, JournalFull
from esa_tls.runtime.intake import MAX_GROUP_LINES, Intake
from esa_tls.runtime.journal import DeadLetter, Journal
from esa_tls.runtime.slices import MAX_SLICE_LINES, slices
from esa_tls.telemetry import (
    BATCHES,
    BATCHES_KNOWN,
    DUPLICATE_LINES,
    JOURNAL_COMMIT_FAILURES,
    LINE_BYTES,
    LINES,
    RECEIVE_RESERVED,
    SINK_DROPPED,
    Counters,
    SeriesKey,
)

ORIGIN = Origin(source="test")


def batch(*lines: bytes, key: bytes | None = None, session: int = 1) -> Batch:
    """A batch of these lines in one run."""
    return Batch([Run(ORIGIN, list(lines))], session, key)


def cursor(sequence: int) -> bytes:
    """A cursor as a dispatcher saves it."""
    return msgspec.msgpack.encode({"sequence": sequence})


class EchoPipeline:
    """A core whose records are its lines. Mutable inside until sealed, like the real one."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.keys: list[bytes] = []
        self.counts: dict[SeriesKey, int] = {}
        self.entered: list[bytes] = []
        self.calls: list[tuple[Any, ...]] = []
        self.wake_s: float | None = None
        self.threads: set[int] = set()
        self.fail: Exception | None = None

    def feed(self, batch: Batch, *, now_s: float) -> None:
        self.threads.add(threading.get_ident())
        if self.fail:
            raise self.fail
        for run in batch.runs:
            self.lines += run.lines
            self.entered += run.lines
        if batch.key:
            self.keys.append(batch.key)
        self.counts[DUPLICATE_LINES, ()] = self.counts.get((DUPLICATE_LINES, ()), 0) + batch.line_count()

    def tick(self, *, now_s: float) -> None:
        self.calls.append(("tick", now_s))
        self.lines.append(b"from a timer")
        self.wake_s = None

    def next_wake_s(self) -> float | None:
        return self.wake_s

    def break_feed(self, appliance: str | None) -> None:
        self.calls.append(("break_feed", appliance))

    def close_session(self, session: int, *, clean: bool) -> None:
        self.calls.append(("close_session", session, clean))

    def seal(self) -> Sealed | None:
        self.threads.add(threading.get_ident())
        if not self.lines and not self.keys:
            return None
        body = b"".join(line + b"\n" for line in self.lines)
        sealed = Sealed([Row("line", "json", [("line", len(self.lines), body)])], [(b"last", body[-20:])], [], self.keys, len(self.lines))
        self.lines, self.keys = [], []
        return sealed


class StoppableJournal:
    """A journal in memory. `stop` holds commits back in the writer thread, `failures` are raised by the next ones."""

    def __init__(self) -> None:
        self.commits: list[tuple[list[Sealed], dict[str, bytes], list[DeadLetter]]] = []
        self.tried: list[list[Sealed]] = []
        self.seen: list[bytes] = []
        self.keys: set[bytes] = set()
        self.cursors: dict[str, bytes] = {}
        self.failures: list[JournalError] = []
        self.over_budget = False
        self.trims = 0
        self.to_trim: list[int] = []
        self.dropped: Mapping[str, Mapping[str, int]] = {}
        self.threads: set[int] = set()
        self.under_way = 0
        self._go = threading.Event()
        self._go.set()

    @property
    def dead_letter_count(self) -> int:
        return sum(len(letters) for _, _, letters in self.commits)

    def stop(self) -> None:
        self._go.clear()

    def go(self) -> None:
        self._go.set()

    def knows(self, key: bytes) -> bool:
        return key in self.keys

    def commit(
        self, sealed: Sequence[Sealed], *, cursors: Mapping[str, bytes] | None = None, dead_letters: Sequence[DeadLetter] = ()
    ) -> None:
        self.threads.add(threading.get_ident())
        self.under_way += 1
        assert self._go.wait(30)
        self.under_way -= 1
        self.tried.append(list(sealed))
        if sealed and self.failures:
            raise self.failures.pop(0)
        self.commits.append((list(sealed), dict(cursors or {}), list(dead_letters)))
        self.cursors.update(cursors or {})
        for group in sealed:
            self.keys.update(group.keys)
            self.seen += [line for row in group.rows for _, _, body in row.segments for line in body.splitlines()]

    def trim(self) -> int:
        self.trims += 1
        return self.to_trim.pop(0) if self.to_trim else 0

    def drop_oldest(self, n_bytes: int) -> Mapping[str, Mapping[str, int]]:
        self.failures = []
        return self.dropped

    def size_bytes(self) -> int:
        return 123


class Bench:
    """An intake with its fakes, and a clock that stands still."""

    def __init__(
        self,
        *,
        max_group_lines: int = MAX_GROUP_LINES,
        max_receive_bytes: int = 1_000,
        when_full: Literal["block", "drop_oldest"] = "block",
        feeding: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self.pipeline = EchoPipeline()
        self.journal = StoppableJournal()
        self.counters = Counters()
        self.now_s = 1_000.0
        self.pauses: list[float] = []
        self.intake = Intake(
            self.pipeline,
            self.journal,
            counters=self.counters,
            max_group_lines=max_group_lines,
            max_receive_bytes=max_receive_bytes,
            when_full=when_full,
            clock=lambda: self.now_s,
            feeding=feeding,
            sleep=self._pause,
        )

    async def _pause(self, delay_s: float) -> None:
        self.pauses.append(delay_s)
        await asyncio.sleep(0)


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[Bench]:
    """The bench with its intake committing; whatever is under way at the end is let finish."""
    run = asyncio.create_task(bench.intake.run())
    try:
        yield bench
    finally:
        bench.journal.go()
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError, BaseExceptionGroup):
            await run


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until it holds; fails after 10 s."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (what is waited for happens in a thread, or has no event)
            await asyncio.sleep(0.001)


async def few_turns() -> None:
    """Enough turns of the loop for everything that can happen now to happen."""
    for _ in range(20):
        await asyncio.sleep(0)


# -- rule 1 ----------------------------------------------------------------------------------------------------------------------
async def test_rule_1_the_writer_thread_sees_bytes_only() -> None:
    """The core is called on the event loop, and what the writer got does not change when the core goes on."""
    async with running(Bench()) as bench:
        bench.journal.stop()
        first = asyncio.create_task(bench.intake.submit(batch(b"a", b"b")))
        await until(lambda: bench.journal.under_way == 1)
        second = asyncio.create_task(bench.intake.submit(batch(b"c")))
        await few_turns()
        assert bench.pipeline.entered == [b"a", b"b", b"c"]
        bench.journal.go()
        await asyncio.gather(first, second)

        assert bench.pipeline.threads == {threading.get_ident()}
        assert bench.journal.threads
        assert threading.get_ident() not in bench.journal.threads
        groups = [sealed[0] for sealed, _, _ in bench.journal.commits]
        assert [group.rows[0].segments for group in groups] == [[("line", 2, b"a\nb\n")], [("line", 1, b"c\n")]]


async def test_rule_1_at_most_two_groups_are_ahead() -> None:
    """With one group in the writer and one sealed, a third fills up once; what does not fit does not enter the core."""
    async with running(Bench(max_group_lines=10)) as bench:
        bench.journal.stop()
        tasks = [asyncio.create_task(bench.intake.submit(batch(b"0")))]
        await until(lambda: bench.journal.under_way == 1)
        for name in (b"sealed", b"open", b"waits", b"waits too"):
            tasks.append(asyncio.create_task(bench.intake.submit(batch(*[name] * 10))))
            await few_turns()

        assert set(bench.pipeline.entered) == {b"0", b"sealed", b"open"}
        bench.journal.go()
        await asyncio.gather(*tasks)
        assert bench.journal.seen == [b"0"] + [b"sealed"] * 10 + [b"open"] * 10 + [b"waits"] * 10 + [b"waits too"] * 10
        assert all(len(sealed) == 1 for sealed, _, _ in bench.journal.commits)


async def test_all_batches_that_come_during_a_commit_share_the_next() -> None:
    """Group commit over all sessions: 50 batches, two commits."""
    async with running(Bench()) as bench:
        bench.journal.stop()
        first = asyncio.create_task(bench.intake.submit(batch(b"first")))
        await until(lambda: bench.journal.under_way == 1)
        others = [asyncio.create_task(bench.intake.submit(batch(b"%d" % n, session=n))) for n in range(50)]
        await few_turns()
        bench.journal.go()
        await asyncio.gather(first, *others)

        assert len(bench.journal.commits) == 2
        assert len(bench.journal.seen) == 51


# -- rule 2 ----------------------------------------------------------------------------------------------------------------------
async def test_rule_2_a_failed_commit_is_repeated_with_exactly_the_same_group() -> None:
    """The very same object is tried again, with pauses that grow from 0.2 s to 2 s, and only then is the sender told."""
    async with running(Bench()) as bench:
        bench.journal.failures = [JournalFull("no space"), JournalError("I/O"), *[JournalFull("no space")] * 4]
        await bench.intake.submit(batch(b"a"))

        tried = [sealed[0] for sealed in bench.journal.tried if sealed]
        assert len(tried) == 7
        assert all(group is tried[0] for group in tried)
        assert bench.pauses == [0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
        assert bench.journal.seen == [b"a"]
        assert bench.counters.value(JOURNAL_COMMIT_FAILURES, reason="full") == 5
        assert bench.counters.value(JOURNAL_COMMIT_FAILURES, reason="io") == 1
        assert bench.intake.failing is None


async def test_rule_2_a_commit_is_repeated_at_once_when_a_trim_made_room() -> None:
    """A sink that drains a full journal is not slowed down by pauses."""
    async with running(Bench()) as bench:
        bench.journal.failures = [JournalFull("no space")] * 3
        bench.journal.to_trim = [1_000, 0, 1_000]
        await bench.intake.submit(batch(b"a"))

        assert bench.pauses == [0.2]


async def test_rule_2_while_a_commit_fails_nothing_enters_and_nothing_is_acknowledged() -> None:
    """New batches wait outside the core, later groups wait behind the failed one, in order, until it succeeds."""
    async with running(Bench()) as bench:
        bench.journal.failures = [JournalFull("no space")] * 1_000_000
        first = asyncio.create_task(bench.intake.submit(batch(b"first")))
        await until(lambda: bench.intake.failing is not None)
        second = asyncio.create_task(bench.intake.submit(batch(b"second")))
        await until(lambda: len(bench.pauses) > 20)

        assert not first.done()
        assert not second.done()
        assert bench.pipeline.entered == [b"first"]
        assert isinstance(bench.intake.failing, JournalFull)
        bench.journal.failures = []
        await asyncio.gather(first, second)
        assert bench.journal.seen == [b"first", b"second"]


async def test_rule_2_what_came_during_the_commit_does_not_join_the_failed_group() -> None:
    """A batch and a newer cursor that came while the first try was under way: the batch waits, the newer cursor wins."""
    async with running(Bench()) as bench:
        bench.journal.stop()
        bench.intake.save_cursor("store", cursor(1))
        first = asyncio.create_task(bench.intake.submit(batch(b"first")))
        await until(lambda: bench.journal.under_way == 1)
        bench.journal.failures = [JournalFull("no space")] * 3
        second = asyncio.create_task(bench.intake.submit(batch(b"second")))
        bench.intake.save_cursor("store", cursor(2))
        await few_turns()
        assert bench.pipeline.entered == [b"first", b"second"]
        bench.journal.go()
        await asyncio.gather(first, second)

        assert [[row.segments[0][2] for row in sealed[0].rows] for sealed in bench.journal.tried if sealed] == [
            *[[b"first\n"]] * 4,
            [b"second\n"],
        ]
        assert [cursors for _, cursors, _ in bench.journal.commits if cursors] == [{"store": cursor(2)}]


async def test_rule_2_a_caller_with_a_time_limit_gets_journal_full_and_its_batch_does_not_enter() -> None:
    """The refused batch never reaches the core, and from then on the feed counts as broken."""
    async with running(Bench()) as bench:
        bench.journal.failures = [JournalFull("no space")] * 1_000_000
        first = asyncio.create_task(bench.intake.submit(batch(b"first")))
        await until(lambda: bench.intake.failing is not None)
        with pytest.raises(JournalFull, match="no space"):
            await bench.intake.submit(batch(b"refused", key=b"k" * 16), timeout_s=0.02)
        bench.journal.failures = []
        await first
        await bench.intake.drain()

        assert bench.pipeline.entered == [b"first"]
        assert bench.journal.seen == [b"first"]
        assert ("break_feed", None) in bench.pipeline.calls


async def test_rule_2_a_time_limit_that_ends_after_entering_breaks_nothing() -> None:
    """The caller is told to try again; the batch stays in its group, and the second try finds it."""
    async with running(Bench()) as bench:
        bench.journal.stop()
        with pytest.raises(JournalFull):
            await bench.intake.submit(batch(b"a", key=b"k" * 16), timeout_s=0.02)
        again = asyncio.create_task(bench.intake.submit(batch(b"a", key=b"k" * 16)))
        await few_turns()
        bench.journal.go()
        await again

        assert bench.journal.seen == [b"a"]
        assert bench.pipeline.calls == []


# -- rule 3 ----------------------------------------------------------------------------------------------------------------------
async def test_rule_3_a_resend_during_the_commit_waits_for_it_and_does_not_enter() -> None:
    """Two more senders of the same key hear when, and not before, the one commit is done."""
    async with running(Bench()) as bench:
        bench.journal.stop()
        tasks = [asyncio.create_task(bench.intake.submit(batch(b"a", key=b"k" * 16)))]
        await until(lambda: bench.journal.under_way == 1)
        tasks += [asyncio.create_task(bench.intake.submit(batch(b"a", key=b"k" * 16, session=n))) for n in (2, 3)]
        await few_turns()
        assert not any(task.done() for task in tasks)
        bench.journal.go()
        await asyncio.gather(*tasks)

        assert bench.pipeline.entered == [b"a"]
        assert bench.journal.seen == [b"a"]
        assert bench.counters.value(BATCHES, source="test") == 1
        assert bench.counters.value(BATCHES_KNOWN, source="test") == 2


async def test_rule_3_a_resend_that_waited_at_the_gate_does_not_enter_either() -> None:
    """Two copies wait for a failing commit; one of them enters, the other one waits for it."""
    async with running(Bench()) as bench:
        bench.journal.failures = [JournalFull("no space")] * 1_000_000
        tasks = [asyncio.create_task(bench.intake.submit(batch(b"first")))]
        await until(lambda: bench.intake.failing is not None)
        tasks += [asyncio.create_task(bench.intake.submit(batch(b"a", key=b"k" * 16))) for _ in range(3)]
        tasks += [asyncio.create_task(bench.intake.submit(batch(b"b")))]
        await few_turns()
        bench.journal.failures = []
        await asyncio.gather(*tasks)

        assert bench.pipeline.entered == [b"first", b"a", b"b"]


async def test_rule_3_a_committed_key_is_acknowledged_at_once_without_entering() -> None:
    """Long after: no commit, no line."""
    async with running(Bench()) as bench:
        await bench.intake.submit(batch(b"a", key=b"k" * 16))
        bench.journal.stop()
        await asyncio.wait_for(bench.intake.submit(batch(b"a", key=b"k" * 16)), 5)

        assert bench.pipeline.entered == [b"a"]


async def test_rule_3_a_cancelled_handler_does_not_cancel_its_group() -> None:
    """The caller goes away, the group is committed, others in it hear, and a resend finds the key."""
    async with running(Bench()) as bench:
        bench.journal.stop()
        gone = asyncio.create_task(bench.intake.submit(batch(b"a", key=b"k" * 16)))
        other = asyncio.create_task(bench.intake.submit(batch(b"b", session=2)))
        await until(lambda: bench.journal.under_way == 1)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        again = asyncio.create_task(bench.intake.submit(batch(b"a", key=b"k" * 16, session=3)))
        await few_turns()
        assert not again.done()
        bench.journal.go()
        await asyncio.gather(other, again)

        assert bench.journal.seen == [b"a", b"b"]


async def test_a_caller_that_gives_up_at_the_gate_holds_nobody_back() -> None:
    """The one behind it enters, and it does not."""
    async with running(Bench()) as bench:
        bench.journal.failures = [JournalFull("no space")] * 1_000_000
        first = asyncio.create_task(bench.intake.submit(batch(b"first")))
        await until(lambda: bench.intake.failing is not None)
        gone = asyncio.create_task(bench.intake.submit(batch(b"gone")))
        stays = asyncio.create_task(bench.intake.submit(batch(b"stays")))
        await few_turns()
        gone.cancel()
        bench.journal.failures = []
        await asyncio.gather(first, stays)

        assert bench.pipeline.entered == [b"first", b"stays"]


# -- rule 4 ----------------------------------------------------------------------------------------------------------------------
async def test_rule_4_a_long_frame_is_cut_and_acknowledged_after_its_last_slice() -> None:
    """4,500 lines enter as slices of 2,000, are committed as they come, and the sender hears after the last commit only."""
    async with running(Bench(max_group_lines=2_000)) as bench:
        lines = [b"%d" % n for n in range(2 * MAX_SLICE_LINES + 500)]
        bench.journal.stop()
        task = asyncio.create_task(bench.intake.submit(batch(*lines, key=b"k" * 16)))
        await until(lambda: bench.journal.under_way == 1)
        bench.journal.go()
        await task

        assert bench.journal.seen == lines
        assert [sealed[0].lines for sealed, _, _ in bench.journal.commits] == [2_000, 2_000, 500]
        assert len({key for sealed, _, _ in bench.journal.commits for key in sealed[0].keys}) == 3


async def test_rule_4_the_sender_is_not_told_while_the_last_slice_is_not_durable() -> None:
    """The first slices are durable and the caller still waits."""
    async with running(Bench(max_group_lines=2_000)) as bench:
        commit = bench.journal.commit

        def hold_the_last(sealed: Sequence[Sealed], **rest: Any) -> None:
            if sealed and sealed[0].lines == 1:
                bench.journal.stop()
            commit(sealed, **rest)

        bench.journal.commit = hold_the_last  # type: ignore[method-assign]
        task = asyncio.create_task(bench.intake.submit(batch(*[b"x"] * 4_001)))
        await until(lambda: len(bench.journal.commits) == 2 and bench.journal.under_way == 1)
        await few_turns()
        assert not task.done()
        bench.journal.go()
        await task


async def test_rule_4_a_frame_sent_again_enters_only_with_the_slices_that_are_missing() -> None:
    """After a time limit in the middle, the resend has the same slice keys."""
    async with running(Bench(max_group_lines=2_000)) as bench:
        frame = batch(*[b"%d" % n for n in range(6_000)], key=b"k" * 16)
        whole = list(slices(frame))
        await bench.intake.submit(whole[0])
        await bench.intake.submit(frame)

        assert bench.journal.seen == [b"%d" % n for n in range(6_000)]
        assert bench.counters.value(BATCHES_KNOWN, source="test") == 1


def test_slices_keep_runs_times_and_flags() -> None:
    """Cut across runs, nothing is lost, and keys depend on frame key and place alone."""
    frame = Batch(
        [
            Run(ORIGIN, [b"a1", b"a2", b"a3"], [1.0, None, 3.0], ("reconstructed",)),
            Run(Origin(source="other"), [b"b1", b"b2"]),
        ],
        7,
        b"k" * 16,
        5.0,
    )
    cut = list(slices(frame, max_lines=2))

    assert [[(run.origin, run.lines, run.sender_times_s, run.flags) for run in part.runs] for part in cut] == [
        [(ORIGIN, [b"a1", b"a2"], [1.0, None], ("reconstructed",))],
        [(ORIGIN, [b"a3"], [3.0], ("reconstructed",)), (Origin(source="other"), [b"b1"], None, ())],
        [(Origin(source="other"), [b"b2"], None, ())],
    ]
    assert len({part.key for part in cut}) == 3
    assert all(part.key and len(part.key) == 16 and part.session == 7 and part.received_s == 5.0 for part in cut)
    assert [part.key for part in slices(frame, max_lines=2)] == [part.key for part in cut]
    assert [part.key for part in slices(Batch(frame.runs, 7), max_lines=2)] == [None] * 3
    assert list(slices(frame)) == [frame]


# -- rule 5 ----------------------------------------------------------------------------------------------------------------------
async def test_rule_5_cursors_ride_with_the_next_group() -> None:
    """One commit holds group and cursor; the newest cursor of a sink wins."""
    async with running(Bench()) as bench:
        bench.intake.save_cursor("store", cursor(1))
        bench.intake.save_cursor("store", cursor(2))
        await bench.intake.submit(batch(b"a"))

        assert [(len(sealed), cursors) for sealed, cursors, _ in bench.journal.commits] == [(1, {"store": cursor(2)})]


async def test_rule_5_cursors_without_a_group_are_written_within_a_second(tmp_path: Path) -> None:
    """They are, and without a sync of their own."""
    journal = Journal.open(tmp_path)
    syncs: list[int] = []
    journal._rocks.sync = lambda: syncs.append(1)  # type: ignore[method-assign]
    intake = Intake(EchoPipeline(), journal, counters=Counters())
    run = asyncio.create_task(intake.run())
    intake.save_cursor("store", cursor(7))
    await until(lambda: journal.load_cursor("store") == cursor(7))
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run
    journal.close()

    assert syncs == []


async def test_rule_5_timers_go_the_same_way_without_key_or_acknowledgement() -> None:
    """A deadline of the core becomes a tick, and what it gave is committed with nobody waiting."""
    async with running(Bench()) as bench:
        bench.pipeline.wake_s = 1_003.0
        await bench.intake.submit(batch(b"a"))
        await few_turns()
        assert bench.pipeline.calls == []
        bench.now_s = 1_003.5
        await until(lambda: b"from a timer" in bench.journal.seen)

        assert bench.pipeline.calls == [("tick", 1_003.5)]


async def test_rule_5_timers_wait_while_a_commit_fails() -> None:
    """A failing journal gets no third group from timers."""
    async with running(Bench()) as bench:
        bench.journal.failures = [JournalFull("no space")] * 1_000_000
        task = asyncio.create_task(bench.intake.submit(batch(b"a")))
        await until(lambda: bench.intake.failing is not None)
        bench.pipeline.wake_s = 1.0
        await until(lambda: len(bench.pauses) > 20)
        assert bench.pipeline.calls == []
        bench.journal.failures = []
        await task
        await until(lambda: bench.pipeline.calls != [])


async def test_rule_5_dead_letters_are_durable_when_the_call_returns() -> None:
    """They need no batch, and come in the order they were handed over."""
    letters = [DeadLetter("sink:store", "rejected", b"%d" % n) for n in range(3)]
    async with running(Bench()) as bench:
        await bench.intake.dead_letter(letters[:2])
        assert bench.journal.dead_letter_count == 2
        await bench.intake.dead_letter(letters[2:])

        assert [letter for _, _, some in bench.journal.commits for letter in some] == letters


async def test_rule_5_cursors_and_dead_letters_are_written_while_groups_are_refused() -> None:
    """A full journal takes them, trims after them, and never writes an older cursor over a newer one."""
    async with running(Bench()) as bench:
        bench.journal.failures = [JournalFull("no space")] * 1_000_000
        bench.intake.save_cursor("store", cursor(1))
        task = asyncio.create_task(bench.intake.submit(batch(b"a")))
        await until(lambda: bench.journal.cursors.get("store") == cursor(1))
        bench.intake.save_cursor("store", cursor(2))
        await bench.intake.dead_letter([DeadLetter("sink:store", "rejected", b"x")])
        await until(lambda: bench.journal.cursors.get("store") == cursor(2))
        assert not task.done()
        assert bench.journal.trims
        bench.journal.failures = []
        await task

        assert bench.journal.cursors == {"store": cursor(2)}
        assert all(not cursors for sealed, cursors, _ in bench.journal.commits if sealed)


# -- rule 6 ----------------------------------------------------------------------------------------------------------------------
async def test_rule_6_reservations_share_one_budget_in_the_order_they_came() -> None:
    """A large one in front is not overtaken by small ones that would fit; all are served in the end."""
    bench = Bench(max_receive_bytes=1_000)
    order: list[str] = []
    release = {name: asyncio.Event() for name in "abcd"}

    async def hold(name: str, n_bytes: int) -> None:
        async with bench.intake.reserve(n_bytes):
            order.append(name)
            await release[name].wait()

    tasks = []
    for name, n_bytes in (("a", 600), ("b", 900), ("c", 100), ("d", 100)):
        tasks.append(asyncio.create_task(hold(name, n_bytes)))
        await few_turns()
    assert order == ["a"]
    assert bench.counters.value(RECEIVE_RESERVED) == 600
    release["a"].set()
    await few_turns()
    assert order == ["a", "b", "c"]
    release["b"].set()
    await few_turns()
    assert order == ["a", "b", "c", "d"]
    for event in release.values():
        event.set()
    await asyncio.gather(*tasks)

    assert bench.counters.value(RECEIVE_RESERVED) == 0


async def test_rule_6_more_than_the_whole_budget_is_refused_at_once() -> None:
    """It could never be had, and waiting for it would hold everybody back."""
    bench = Bench(max_receive_bytes=1_000)
    with pytest.raises(FrameTooLarge, match="1001 bytes"):
        async with bench.intake.reserve(1_001):
            pass
    async with bench.intake.reserve(1_000):
        pass

    assert bench.counters.value(RECEIVE_RESERVED) == 0


@pytest.mark.parametrize("served_first", [False, True])
async def test_rule_6_a_cancelled_reservation_gives_its_bytes_back(served_first: bool) -> None:
    """Whether it was still waiting, or had just been served and did not know yet."""
    bench = Bench(max_receive_bytes=1_000)
    release = asyncio.Event()

    async def hold(n_bytes: int) -> None:
        async with bench.intake.reserve(n_bytes):
            await release.wait()

    first = asyncio.create_task(hold(800))
    await few_turns()
    gone, waits = asyncio.create_task(hold(900)), asyncio.create_task(hold(300))
    await few_turns()
    if served_first:
        bench.intake._budget.give(800)  # serves `gone`, which does not get to run before it is cancelled
        gone.cancel()
        await few_turns()
        assert bench.counters.value(RECEIVE_RESERVED) == 300
        bench.intake._budget.taken_bytes += 800
    else:
        gone.cancel()
        first.cancel()
        await few_turns()
        assert bench.counters.value(RECEIVE_RESERVED) == 300
    release.set()
    await asyncio.gather(first, gone, waits, return_exceptions=True)

    assert bench.counters.value(RECEIVE_RESERVED) == 0


# -- sessions, counters, the app -------------------------------------------------------------------------------------------------
async def test_a_session_that_ends_with_an_unacknowledged_batch_is_not_clean() -> None:
    """Whatever its source says; a session whose batches are durable is."""
    async with running(Bench()) as bench:
        one, two = bench.intake.open_session("a:1"), bench.intake.open_session("b:1")
        assert one != two
        await bench.intake.submit(batch(b"x", session=two))
        bench.journal.stop()
        task = asyncio.create_task(bench.intake.submit(batch(b"y", session=one)))
        await until(lambda: bench.journal.under_way == 1)
        bench.intake.close_session(one, clean=True)
        bench.intake.close_session(two, clean=True)
        bench.intake.close_session(3, clean=False)
        bench.journal.go()
        await task

        assert bench.pipeline.calls == [("close_session", one, False), ("close_session", two, True), ("close_session", 3, False)]


async def test_counts_of_a_group_are_added_once_it_is_durable() -> None:
    """Not before, and each once."""
    async with running(Bench()) as bench:
        bench.journal.stop()
        task = asyncio.create_task(bench.intake.submit(batch(b"a", b"b")))
        await until(lambda: bench.journal.under_way == 1)
        assert bench.counters.value(LINES) == bench.counters.value(DUPLICATE_LINES) == 0
        bench.journal.go()
        await task
        await bench.intake.submit(batch(b"c"))

        assert bench.counters.value(DUPLICATE_LINES) == 3  # what the core counted
        assert bench.counters.value(LINES) == bench.counters.value(LINE_BYTES) == 3  # what the intake counts itself


async def test_dispatchers_are_told_of_new_rows() -> None:
    """`grown` is notified when, and only when, rows have become durable."""
    async with running(Bench()) as bench:

        async def wait() -> int:
            async with bench.intake.grown:
                await bench.intake.grown.wait()
                return len(bench.journal.seen)

        waiting = asyncio.create_task(wait())
        await few_turns()
        await bench.intake.submit(batch(b"a"))

        assert await asyncio.wait_for(waiting, 5) == 1


async def test_drain_writes_everything_that_was_handed_over() -> None:
    """Output of a closed session, cursors and dead letters, with no more batches coming."""
    async with running(Bench()) as bench:
        bench.pipeline.lines.append(b"left over")
        bench.intake.save_cursor("store", cursor(3))
        letter = asyncio.create_task(bench.intake.dead_letter([DeadLetter("source:x", "bad", b"")]))
        await asyncio.sleep(0)
        await asyncio.wait_for(bench.intake.drain(), 5)
        await letter
        bench.intake.save_cursor("store", cursor(4))
        await asyncio.wait_for(bench.intake.drain(), 0.5)

        assert bench.journal.seen == [b"left over"]
        assert bench.journal.cursors == {"store": cursor(4)}


async def test_a_failure_of_the_core_ends_everything_and_acknowledges_nothing() -> None:
    """Everybody who waits hears of it, later callers too, and `run` raises it."""
    bench = Bench()
    run = asyncio.create_task(bench.intake.run())
    bench.journal.stop()
    keyless = asyncio.create_task(bench.intake.submit(batch(b"a")))
    await until(lambda: bench.journal.under_way == 1)
    behind = asyncio.create_task(bench.intake.submit(batch(b"b")))
    await few_turns()
    bench.pipeline.fail = ZeroDivisionError("a fault of ours")
    with pytest.raises(ZeroDivisionError):
        await bench.intake.submit(batch(b"c"))
    bench.journal.go()
    for task in (keyless, behind):
        with pytest.raises(JournalError, match="stopped"):
            await task
    with pytest.raises(JournalError, match="a fault of ours"):
        await bench.intake.submit(batch(b"d"))
    with pytest.raises(BaseExceptionGroup) as raised:
        await run

    assert raised.group_contains(JournalError, match="a fault of ours")


async def test_whoever_waits_when_the_intake_is_stopped_hears_of_it() -> None:
    """Submits, letters and callers at the gate end with an error instead of waiting for ever."""
    bench = Bench()
    bench.journal.failures = [JournalFull("no space")] * 1_000_000
    run = asyncio.create_task(bench.intake.run())
    tasks = [asyncio.create_task(bench.intake.submit(batch(b"a")))]
    await until(lambda: bench.intake.failing is not None)
    tasks += [asyncio.create_task(bench.intake.submit(batch(b"b")))]
    await few_turns()
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run

    assert all(isinstance(result, JournalError) for result in await asyncio.gather(*tasks, return_exceptions=True))


async def test_drop_oldest_makes_room_when_the_budget_is_used_and_only_then() -> None:
    """What sinks miss is counted; a full disk (not the budget) drops nothing."""
    async with running(Bench(when_full="drop_oldest")) as bench:
        bench.journal.dropped = {"slow": {"line": 5, "delivery": 2}}
        bench.journal.failures = [JournalFull("the disk is full")] * 1_000_000
        task = asyncio.create_task(bench.intake.submit(batch(b"a")))
        await until(lambda: len(bench.pauses) > 10)
        assert bench.counters.value(SINK_DROPPED) == 0
        bench.journal.over_budget = True
        await task

        assert bench.counters.value(SINK_DROPPED, sink="slow", reason="drop_oldest") == 7


async def test_block_never_drops() -> None:
    """The default holds senders, however long it takes."""
    async with running(Bench()) as bench:
        bench.journal.over_budget = True
        bench.journal.failures = [JournalFull("the budget is used")] * 1_000_000
        task = asyncio.create_task(bench.intake.submit(batch(b"a")))
        await until(lambda: len(bench.pauses) > 10)
        assert len(bench.journal.failures) > 0
        assert not task.done()
        bench.journal.failures = []
        await task


async def test_the_app_can_wrap_every_call_of_the_core() -> None:
    """`feeding` is entered around feed and seal: that is where the collector is turned off."""
    inside: list[bool] = []
    active = False

    @contextlib.contextmanager
    def feeding() -> Iterator[None]:
        nonlocal active
        active = True
        yield
        active = False

    async with running(Bench(feeding=feeding)) as bench:
        feed, seal = bench.pipeline.feed, bench.pipeline.seal

        def watched_feed(one: Batch, *, now_s: float) -> None:
            inside.append(active)
            feed(one, now_s=now_s)

        def watched_seal() -> Sealed | None:
            inside.append(active)
            return seal()

        bench.pipeline.feed = watched_feed  # type: ignore[assignment,method-assign]
        bench.pipeline.seal = watched_seal  # type: ignore[method-assign]
        await bench.intake.submit(batch(b"a"))

        assert len(inside) >= 2
        assert all(inside)
        assert not active


async def test_the_real_journal_takes_what_the_intake_seals(tmp_path: Path) -> None:
    """Batches of several sessions are readable as rows after their submit, and known after opening again."""
    journal = Journal.open(tmp_path)
    intake = Intake(EchoPipeline(), journal, counters=Counters())
    run = asyncio.create_task(intake.run())
    keys = [b"%016d" % n for n in range(20)]
    await asyncio.gather(*(intake.submit(batch(b"line %d" % n, key=key, session=n)) for n, key in enumerate(keys)))
    await intake.drain()
    run.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await run
    journal.close()

    journal = Journal.open(tmp_path)
    rows = journal.read(0, cls="line", encoding="json", max_bytes=1 << 20)
    lines = b"".join(body for _, row in rows for _, _, body in row.segments).splitlines()
    assert sorted(lines) == sorted(b"line %d" % n for n in range(20))
    assert all(journal.knows(key) for key in keys)
    journal.close()


# -- those who watch -------------------------------------------------------------------------------------------------------------
async def test_those_who_watch_see_a_group_after_its_commit_and_before_its_sender_hears() -> None:
    """A failed commit shows nothing; then the group is shown once, on the event loop, and only then is the sender told."""
    async with running(Bench()) as bench:
        seen: list[tuple[list[Sealed], int, bool]] = []
        bench.journal.failures = [JournalFull("no space"), JournalFull("no space")]
        submitting = asyncio.create_task(bench.intake.submit(batch(b"a")))
        bench.intake.on_durable.append(lambda groups: seen.append((groups, len(bench.journal.commits), submitting.done())))
        await submitting

        ((groups, commits, told),) = seen
        assert [b"a\n"] == [body for group in groups for row in group.rows for _, _, body in row.segments]
        assert (1, False) == (commits, told)


async def test_those_who_watch_cannot_spoil_a_commit(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever showing a group raises, it is durable, acknowledged, and the next one is taken; a group without rows is not shown."""
    async with running(Bench()) as bench:
        calls = 0

        def fail(_: list[Sealed]) -> None:
            nonlocal calls
            calls += 1
            raise ZeroDivisionError

        bench.intake.on_durable.append(fail)
        await bench.intake.submit(batch(b"a", key=b"k" * 16))
        await bench.intake.submit(batch(b"b"))
        await bench.intake.submit(batch())

        assert [b"a", b"b"] == bench.journal.seen
        assert 2 == calls
        assert "could not be shown" in caplog.text
