"""runtime/dispatch.py: every record once the sink is well, none lost while it is not."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract.delivery_fakes import FakeOutbox, Ledger, NoWait, dispatcher, ids_in, ids_of, record, row, rows_of, run_dry

from esa_tls.errors import JournalFull, PermanentError, TransientError
from esa_tls.runtime.dispatch import Backoff, Cursor, RecordsRejected, Rejection, Rows, halve, record_ends, stale_cursors
from esa_tls.telemetry import SINK_DEAD_LETTERED, SINK_OLDEST_UNSENT, SINK_REJECTED, SINK_RETRIES, SINK_SENT, Counters

ENCODINGS = ["json", "forward"]


class FakeSink:
    """Takes records, or does what `answer` does with them first."""

    def __init__(
        self,
        *,
        name: str = "fake",
        encoding: str = "json",
        kinds: frozenset[str] = frozenset({"line", "connection"}),
        cls_wanted: tuple[str, ...] = ("line", "summary"),
        answer: Callable[[Rows], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.encoding = encoding
        self.kinds = kinds
        self.cls_wanted = cls_wanted
        self.answer = answer
        self.got: list[int] = []
        self.sends: list[Rows] = []
        self.opened_with: list[bytes | None] = []
        self.open_errors: list[Exception] = []
        self.closed = 0
        self.arrived = asyncio.Event()

    async def open(self, state: bytes | None) -> None:
        if self.open_errors:
            raise self.open_errors.pop(0)
        self.opened_with.append(state)

    async def send(self, rows: Rows) -> None:
        self.sends.append(rows)
        self.answer(rows)
        self.got += ids_of(rows)
        self.arrived.set()

    def state(self) -> bytes | None:
        return b"%d" % len(self.got)

    async def close(self) -> None:
        self.closed += 1


def failing(*errors: Exception) -> Callable[[Rows], None]:
    """An answer that raises these one after the other, then takes everything."""
    left = list(errors)

    def answer(_: Rows) -> None:
        if left:
            raise left.pop(0)

    return answer


def refusing(poison: set[int]) -> Callable[[Rows], None]:
    """An answer that refuses any rows with one of these records in them, without saying which."""

    def answer(rows: Rows) -> None:
        if poison & set(ids_of(rows)):
            raise PermanentError("bad record")

    return answer


# -- the plain way -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_everything_is_sent_in_order_and_not_again_after_a_restart(encoding: str) -> None:
    """Rows come in order, the cursor covers them, and a new dispatcher with that cursor sends only what is new."""
    outbox, ledger = FakeOutbox(), Ledger()
    for n in range(10):
        outbox.add(row(encoding, [10 * n, 10 * n + 1], kind="line" if n % 3 else "connection"))
    sink = FakeSink(encoding=encoding)
    await run_dry(dispatcher(sink, outbox, ledger, max_batch_bytes=100))
    assert sink.got == [n for m in range(10) for n in (10 * m, 10 * m + 1)]
    assert len(sink.sends) > 1
    assert sink.closed == 1

    outbox.add(row(encoding, [999]))
    again = FakeSink(encoding=encoding)
    await run_dry(dispatcher(again, outbox, ledger))
    assert again.got == [999]
    assert again.opened_with == [b"20"]


async def test_the_cursor_is_the_last_row_done_with_the_sinks_own_state() -> None:
    """A cursor is msgpack with `sequence` (what the journal trims by) and the state of the sink at that place."""
    outbox, ledger = FakeOutbox(), Ledger()
    for n in range(3):
        outbox.add(row("json", [n]))
    await run_dry(dispatcher(FakeSink(), outbox, ledger, max_batch_bytes=1))
    decoded = [msgspec.msgpack.decode(cursor, type=Cursor) for cursor in ledger.cursors("fake")]
    assert decoded == [Cursor(0, b"0"), Cursor(1, b"1"), Cursor(2, b"2"), Cursor(3, b"3")]


async def test_only_wanted_classes_and_kinds_are_sent_and_the_rest_is_passed() -> None:
    """Segments of other kinds are left out, rows of none but those are not sent, and the cursor passes all of them."""
    outbox, ledger = FakeOutbox(), Ledger()
    outbox.add(rows_of("json", [("connection", [1]), ("message", [2])]))
    outbox.add(row("json", [3], kind="message"))
    outbox.add(row("json", [4], kind="line"))
    outbox.add(row("forward", [5], kind="connection"))
    sink = FakeSink(cls_wanted=("summary",), kinds=frozenset({"connection"}))
    await run_dry(dispatcher(sink, outbox, ledger))
    assert sink.got == [1]
    assert [len(rows) for rows in sink.sends] == [1]
    cursor = ledger.cursor("fake")
    assert cursor is not None
    assert msgspec.msgpack.decode(cursor, type=Cursor).sequence == 4


@pytest.mark.parametrize(("start", "wanted"), [("tail", [3]), ("oldest", [1, 2, 3])])
async def test_where_a_new_sink_starts(start: str, wanted: list[int]) -> None:
    """A sink without cursor starts at the tail of its first moment or with the oldest row kept."""
    outbox, ledger = FakeOutbox(), Ledger()
    outbox.rows = [(7, row("json", [1])), (8, row("json", [2]))]
    sink = FakeSink()
    one = dispatcher(sink, outbox, ledger, start=start)
    await one.prepare()
    outbox.add(row("json", [3]))
    await run_dry(one)
    assert sink.got == wanted


async def test_an_unreadable_cursor_means_the_oldest_row() -> None:
    """Rather everything again than anything lost."""
    outbox, ledger = FakeOutbox(), Ledger()
    outbox.add(row("json", [1]))
    ledger.save_cursor("fake", b"\xc1")
    sink = FakeSink()
    await run_dry(dispatcher(sink, outbox, ledger, start="tail"))
    assert sink.got == [1]


async def test_prepare_gives_the_cursor_to_make_durable_first() -> None:
    """A new sink's place and file position are known before anything is sent; a known cursor needs no writing."""
    outbox, ledger = FakeOutbox(), Ledger()
    outbox.add(row("json", [1]))
    cursor = await dispatcher(FakeSink(), outbox, ledger, start="tail").prepare()
    assert cursor is not None
    assert msgspec.msgpack.decode(cursor, type=Cursor) == Cursor(1, b"0")
    ledger.save_cursor("fake", cursor)
    assert await dispatcher(FakeSink(), outbox, ledger).prepare() is None


async def test_a_sink_that_cannot_be_opened_is_opened_later() -> None:
    """A failed open in `prepare` stops nobody, and `run` tries until it works."""
    outbox, ledger = FakeOutbox(), Ledger()
    outbox.add(row("json", [1]))
    sink = FakeSink()
    sink.open_errors = [TransientError("no"), TransientError("not yet")]
    one = dispatcher(sink, outbox, ledger)
    cursor = await one.prepare()
    assert cursor is not None
    assert msgspec.msgpack.decode(cursor, type=Cursor) == Cursor(0, None)
    await run_dry(one)
    assert sink.opened_with == [None]
    assert sink.got == [1]


def test_cursors_of_sinks_that_left_are_named_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """The caller learns which cursors to drop, the operator that it happens."""
    with caplog.at_level(logging.WARNING):
        assert stale_cursors({"a", "b", "c"}, ["b"]) == ["a", "c"]
    assert len(caplog.records) == 2


# -- failures ------------------------------------------------------------------------------------------------------------------------


async def test_transient_failures_are_retried_with_the_same_rows_until_they_work() -> None:
    """Nothing is skipped or reordered, each try is the same rows, and every try is counted by its cause."""
    outbox, ledger, counters, sleep = FakeOutbox(), Ledger(), Counters(), NoWait()
    for n in range(4):
        outbox.add(row("json", [n]))
    refused = TransientError("no")
    refused.__cause__ = ConnectionRefusedError()
    sink = FakeSink(answer=failing(refused, TransientError("x"), TransientError("y")))
    await run_dry(dispatcher(sink, outbox, ledger, counters=counters, sleep=sleep))
    assert sink.got == [0, 1, 2, 3]
    assert sink.sends == [sink.sends[0]] * 4
    assert sleep.delays_s == [0.5, 1.0, 2.0]
    assert counters.value(SINK_RETRIES, sink="fake", reason="ConnectionRefusedError") == 1
    assert counters.value(SINK_RETRIES, sink="fake", reason="TransientError") == 2
    assert counters.value(SINK_SENT, sink="fake", kind="line") == 4


async def test_the_back_off_is_capped_and_honours_the_peer() -> None:
    """No wait over 60 s by itself, none under what the peer asked for, and a success starts it anew."""
    outbox, ledger, sleep = FakeOutbox(), Ledger(), NoWait()
    outbox.add(row("json", [1]))
    sink = FakeSink(answer=failing(*[TransientError("x") for _ in range(10)], TransientError("busy", retry_after_s=600.0)))
    one = dispatcher(sink, outbox, ledger, sleep=sleep)
    await run_dry(one)
    assert sleep.delays_s == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 600]
    outbox.add(row("json", [2]))
    sink = FakeSink(answer=failing(TransientError("busy", retry_after_s=7.0)))
    sleep.delays_s.clear()
    await run_dry(dispatcher(sink, outbox, ledger, sleep=sleep))
    assert sleep.delays_s == [7.0]


@given(st.integers(1, 5000), st.floats(0, 1), st.none() | st.floats(0, 1000))
def test_the_delay_is_anywhere_between_nothing_and_the_ceiling(failures: int, part: float, retry_after_s: float | None) -> None:
    """Full jitter over [0, min(cap, base * 2^(failures-1))], raised to what the peer asked for."""
    ceilings: list[float] = []

    def uniform(low: float, high: float) -> float:
        assert low == 0
        ceilings.append(high)
        return high * part

    delay_s = Backoff().delay_s(failures, uniform=uniform, retry_after_s=retry_after_s)
    assert ceilings == [min(60.0, 0.5 * 2.0 ** min(failures - 1, 20))]
    assert delay_s == max(ceilings[0] * part, retry_after_s or 0)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), TimeoutError("leaked")])
async def test_an_unforeseen_error_loses_nothing(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """A fault in a sink is logged with its traceback and tried again like a transient one."""
    outbox, ledger, counters = FakeOutbox(), Ledger(), Counters()
    outbox.add(row("json", [1]))
    sink = FakeSink(answer=failing(error))
    await run_dry(dispatcher(sink, outbox, ledger, counters=counters))
    assert sink.got == [1]
    assert counters.value(SINK_RETRIES, reason=type(error).__name__) == 1
    assert any(entry.exc_info for entry in caplog.records)


async def test_a_failed_read_is_tried_again() -> None:
    """A journal that cannot be read for a moment ends no dispatcher."""
    outbox, ledger, sleep = FakeOutbox(), Ledger(), NoWait()
    outbox.add(row("json", [1]))
    outbox.read_error = JournalFull("opened again just now")
    sink = FakeSink()
    await run_dry(dispatcher(sink, outbox, ledger, sleep=sleep))
    assert sink.got == [1]
    assert sleep.delays_s == [0.5]


async def test_a_dead_sink_holds_no_other_back() -> None:
    """While one sink fails for ever, the other gets everything; health names the failing one."""
    outbox, ledger = FakeOutbox(), Ledger()
    for n in range(5):
        outbox.add(row("json", [n]))

    def dead(_: Rows) -> None:
        raise TransientError("connection refused")

    stuck = dispatcher(FakeSink(name="dead", answer=dead), outbox, ledger)
    well = FakeSink(name="well")
    running = asyncio.create_task(stuck.run())
    await run_dry(dispatcher(well, outbox, ledger))
    assert well.got == [0, 1, 2, 3, 4]
    assert stuck.status().failing == "connection refused"
    await stuck.drain(within_s=0.0)
    await running
    assert [msgspec.msgpack.decode(cursor, type=Cursor).sequence for cursor in ledger.cursors("dead")] == [0]


# -- records that will never be taken --------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(ENCODINGS),
    st.lists(st.lists(st.tuples(st.sampled_from(["connection", "line"]), st.integers(1, 6)), min_size=1, max_size=3), max_size=5),
    st.data(),
)
async def test_halving_finds_exactly_the_poison(encoding: str, shape: list[list[tuple[str, int]]], data: st.DataObject) -> None:
    """However rows and segments lie and whichever records are refused: those are dead letters, all others are delivered once, in order."""
    outbox, ledger, counters = FakeOutbox(), Ledger(), Counters()
    number = 0
    for segments in shape:
        numbered = [(kind, list(range(number := number + 100, number + count))) for kind, count in segments]
        outbox.add(rows_of(encoding, numbered))
    everything = ids_of(outbox.rows)
    poison = set(data.draw(st.lists(st.sampled_from(everything)))) if everything else set()
    sink = FakeSink(encoding=encoding, answer=refusing(poison))
    await run_dry(dispatcher(sink, outbox, ledger, counters=counters))
    assert sink.got == [n for n in everything if n not in poison]
    assert ledger.refused_ids() == [n for n in everything if n in poison]
    assert counters.value(SINK_SENT) == len(everything) - len(poison)
    assert counters.value(SINK_REJECTED, reason="permanent") == counters.value(SINK_DEAD_LETTERED, reason="permanent") == len(poison)


async def test_one_bad_record_of_a_thousand_costs_few_requests() -> None:
    """Halving takes some 2 log2(n) sends, not n."""
    outbox, ledger = FakeOutbox(), Ledger()
    outbox.add(row("json", range(1024)))
    sink = FakeSink(answer=refusing({700}))
    await run_dry(dispatcher(sink, outbox, ledger))
    assert len(sink.got) == 1023
    assert len(sink.sends) <= 21


async def test_a_named_record_goes_alone_and_the_rest_counts_as_sent() -> None:
    """A sink that says which records it refuses is believed: no halving, the others are not sent again."""
    outbox, ledger, counters = FakeOutbox(), Ledger(), Counters()
    outbox.add(row("json", [1]))
    outbox.add(rows_of("json", [("line", [2]), ("line", [3, 4, 5])]))
    rejections = [Rejection(0, 0, 0, "too_large", "9 bytes"), Rejection(1, 1, 1, "mapping")]
    sink = FakeSink(answer=failing(RecordsRejected("two", rejections)))
    await run_dry(dispatcher(sink, outbox, ledger, counters=counters))
    assert len(sink.sends) == 1
    assert ledger.refused_ids() == [1, 4]
    first = ledger.letters[0]
    assert (first.origin, first.reason, first.encoding, first.at_s) == ("sink:fake", "too_large: 9 bytes", "json", 1_800_000_000.0)
    assert first.payload == record("json", 1)
    assert counters.value(SINK_SENT, kind="line") == 3
    assert counters.value(SINK_DEAD_LETTERED, reason="mapping") == 1


async def test_dead_letters_are_durable_before_the_cursor_passes_them() -> None:
    """The cursor that covers a refused record is handed over after its dead letter, and a failing journal holds it back."""
    outbox, ledger, sleep = FakeOutbox(), Ledger(), NoWait()
    outbox.add(row("json", [1, 2]))
    sink = FakeSink(answer=refusing({2}))
    one = dispatcher(sink, outbox, ledger, sleep=sleep)
    full = [JournalFull("full")]
    take = ledger.dead_letter

    async def dead_letter(letters: object) -> None:
        if full:
            raise full.pop()
        await take(letters)  # type: ignore[arg-type]

    one._dead_letter = dead_letter
    await run_dry(one)
    kinds = [type(entry).__name__ for entry in ledger.log]
    assert kinds == ["tuple", "DeadLetter", "tuple"]
    assert sleep.delays_s == [0.5]
    assert sink.got == [1]


async def test_transient_failures_while_halving_are_retried_where_they_happen() -> None:
    """A store that is down for a moment in the middle of halving loses and doubles nothing."""
    outbox, ledger = FakeOutbox(), Ledger()
    outbox.add(row("json", range(8)))
    refuse = refusing({5})
    left = [True, False, True, True, False, True]

    def answer(rows: Rows) -> None:
        if left and left.pop():
            raise TransientError("down")
        refuse(rows)

    sink = FakeSink(answer=answer)
    await run_dry(dispatcher(sink, outbox, ledger))
    assert sink.got == [0, 1, 2, 3, 4, 6, 7]
    assert ledger.refused_ids() == [5]


async def test_a_segment_that_cannot_be_told_apart_is_one_dead_letter() -> None:
    """Bytes without record borders still leave the way as a whole."""
    outbox, ledger = FakeOutbox(), Ledger()
    broken = row("forward", [1, 2])
    outbox.add(msgspec.structs.replace(broken, segments=[("line", 2, b"\xc1\xc1\xc1")]))
    outbox.add(row("forward", [3]))

    def answer(rows: Rows) -> None:
        if rows[0][1].segments[0][2].startswith(b"\xc1"):
            raise PermanentError("no msgpack")

    sink = FakeSink(encoding="forward", answer=answer)
    await run_dry(dispatcher(sink, outbox, ledger))
    assert [letter.payload for letter in ledger.letters] == [b"\xc1\xc1\xc1"]
    assert sink.got == [3]


@given(st.sampled_from(ENCODINGS), st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_record_ends_cut_a_segment_into_its_records(encoding: str, numbers: list[int]) -> None:
    """Cutting at the ends gives exactly the records that were joined."""
    body = b"".join(record(encoding, n) for n in numbers)
    ends = record_ends(encoding, body)
    assert [body[a:b] for a, b in zip([0, *ends], ends, strict=False)] == [record(encoding, n) for n in numbers]


def test_halves_are_never_empty_and_together_the_whole() -> None:
    """Halving ends: both parts are smaller, and a single record has no halves."""
    parts: list[Rows] = [[(n, rows_of("json", [("line", [n, n + 1]), ("line", [n + 2])])) for n in range(0, 30, 3)]]
    singles: list[int] = []
    while parts:
        part = parts.pop()
        halves = halve(part)
        if halves is None:
            singles += ids_of(part)
            continue
        assert ids_of(halves[0]) + ids_of(halves[1]) == ids_of(part)
        assert ids_of(halves[0])
        assert ids_of(halves[1])
        parts += (halves[1], halves[0])
    assert singles == list(range(30))


# -- waking, age, end ------------------------------------------------------------------------------------------------------------------


async def test_new_rows_wake_an_idle_dispatcher() -> None:
    """A commit that tells is sent at once, though the idle look is an hour away."""
    outbox, ledger = FakeOutbox(), Ledger()
    sink = FakeSink()
    one = dispatcher(sink, outbox, ledger)
    running = asyncio.create_task(one.run())
    async with asyncio.timeout(10):
        for n in range(3):
            await outbox.idle.wait()
            outbox.idle.clear()
            sink.arrived.clear()
            await outbox.commit(row("json", [n]))
            await sink.arrived.wait()
        await outbox.idle.wait()
    assert sink.got == [0, 1, 2]
    await one.drain(within_s=10)
    await running


async def test_an_untold_row_is_found_by_the_idle_look() -> None:
    """A lost notification costs one idle look, not the row."""
    outbox, ledger = FakeOutbox(), Ledger()
    sink = FakeSink()
    one = dispatcher(sink, outbox, ledger, idle_look_s=0.001)
    running = asyncio.create_task(one.run())
    async with asyncio.timeout(10):
        await outbox.idle.wait()
        outbox.add(row("json", [1]))
        await sink.arrived.wait()
    await one.drain(within_s=10)
    await running


async def test_an_idle_dispatcher_saves_no_cursor_over_and_over() -> None:
    """Idle looks that find nothing hand over nothing."""
    outbox, ledger = FakeOutbox(), Ledger()
    outbox.add(row("json", [1]))
    looks = threading.Semaphore(0)
    outbox.before_read = looks.release
    one = dispatcher(FakeSink(), outbox, ledger, idle_look_s=0.001)
    running = asyncio.create_task(one.run())
    await asyncio.to_thread(lambda: [looks.acquire() for _ in range(6)])
    await one.drain(within_s=10)
    await running
    assert len(ledger.cursors("fake")) == 2


async def test_the_age_of_the_oldest_unsent_row() -> None:
    """The age grows while a row waits and is 0 when everything is sent; it is the metric's number."""
    outbox, ledger, counters = FakeOutbox(), Ledger(), Counters()
    now_s = 100.0
    ages: list[float] = []

    def answer(_: Rows) -> None:
        nonlocal now_s
        now_s += 30
        ages.append(counters.value(SINK_OLDEST_UNSENT, sink="fake"))
        if len(ages) < 3:
            raise TransientError("down")

    outbox.add(row("json", [1]))
    sink = FakeSink(answer=answer)
    await run_dry(dispatcher(sink, outbox, ledger, counters=counters, clock=lambda: now_s))
    assert ages == [30, 60, 90]
    assert counters.value(SINK_OLDEST_UNSENT, sink="fake") == 0


async def test_drain_ends_at_its_deadline_and_keeps_the_rest() -> None:
    """A sink that never answers does not hold up the end; its rows stay, its cursor did not move."""
    outbox, ledger = FakeOutbox(), Ledger()
    outbox.add(row("json", [1]))

    class Silent(FakeSink):
        async def send(self, rows: Rows) -> None:
            self.arrived.set()
            await asyncio.Event().wait()

    sink = Silent()
    one = dispatcher(sink, outbox, ledger)
    running = asyncio.create_task(one.run())
    await sink.arrived.wait()
    await one.drain(within_s=3600)
    await one.drain(within_s=0.01)
    await one.drain(within_s=3600)
    async with asyncio.timeout(10):
        await running
    assert sink.closed == 1
    cursor = ledger.cursor("fake")
    assert cursor is not None
    assert msgspec.msgpack.decode(cursor, type=Cursor).sequence == 0
    await one.drain(within_s=1)  # after the end: nothing


async def test_drain_before_run_ends_it_at_once() -> None:
    """A shutdown during start is no special case."""
    outbox, ledger = FakeOutbox(), Ledger()
    sink = FakeSink()
    one = dispatcher(sink, outbox, ledger)
    await one.drain(within_s=3600)
    await one.run()
    assert sink.closed == 1


async def test_a_cancelled_run_closes_its_sink_and_waits_for_its_read() -> None:
    """Cancelling ends the task, but not before the thread that reads the journal is done with it."""
    outbox, ledger = FakeOutbox(), Ledger()
    entered, leave, left = threading.Event(), threading.Event(), threading.Event()

    def before_read() -> None:
        entered.set()
        leave.wait(10)
        left.set()

    outbox.before_read = before_read
    sink = FakeSink()
    running = asyncio.create_task(dispatcher(sink, outbox, ledger).run())
    await asyncio.to_thread(entered.wait, 10)
    running.cancel()
    await asyncio.sleep(0)
    assert not running.done()
    leave.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert left.is_set()
    assert sink.closed == 1


def test_ids_in_refuses_torn_lines() -> None:
    """The tests' own reader does not overlook half a record."""
    with pytest.raises(AssertionError):
        ids_in("json", record("json", 1)[:-1])
