"""The one durable step: batch in, core, one synced commit, and only then does the sender hear that it was taken.

The rules (docs/correlation.md 6; `tests/unit/runtime/test_intake.py` has a test named after each):

1. A group is sealed, that is turned into bytes, on the event loop; the writer thread sees bytes only. At most two sealed groups are
   ahead of the disk; a third is not begun before the first is durable.
2. A failed commit is repeated with exactly the same sealed group. Later groups wait, new batches do not enter the core (so sources stop
   reading), callers with a time limit get `JournalFull`, and nothing is acknowledged.
3. A key counts from the moment its batch enters the core: the same batch sent again waits for that commit and does not enter. A caller
   that goes away never takes its group with it.
4. A batch of more than 2,000 lines is cut into slices with keys of their own, committed as they come; the caller hears after the last.
5. Timers, cursors and dead letters go the same way without key or acknowledgement. Cursors ride with the next group, or are written
   once a second without waiting for the disk.
6. What a sender declares to send is reserved in one budget before it is read on.

Everything here runs on the event loop, except `Journal.commit`, `trim` and `drop_oldest`, each in a thread of its own kind.
A failure of the core itself is final: what it holds in memory can no longer be trusted, `run` raises, and a restart goes on from the
last commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Final, Literal, Protocol, TypeVar

from opentelemetry.trace import Link, Span, SpanKind, Tracer, set_span_in_context

from esa_tls.core.batch import Batch, Sealed
from esa_tls.errors import JournalError, JournalFull
from esa_tls.runtime.journal import DeadLetter
from esa_tls.runtime.slices import slices
from esa_tls.runtime.turns import Budget, Gate
from esa_tls.telemetry import (
    BATCHES,
    BATCHES_ATTRIBUTE,
    BATCHES_KNOWN,
    COMMIT,
    JOURNAL_COMMIT_DURATION,
    JOURNAL_COMMIT_FAILURES,
    JOURNAL_DEAD_LETTERS,
    JOURNAL_SIZE,
    LINE_BYTES,
    LINES,
    LINES_ATTRIBUTE,
    RECEIVE,
    RECEIVE_RESERVED,
    RECEIVE_WAITS,
    SINK_DROPPED,
    SOURCE_ATTRIBUTE,
    Counters,
    SeriesKey,
)

log = logging.getLogger(__name__)

T = TypeVar("T")
Letters = list[tuple[Sequence[DeadLetter], asyncio.Future[None]]]
"""Dead letters on their way, and who waits for them."""

MAX_GROUP_LINES: Final = 8_000
MAX_RECEIVE_BYTES: Final = 256 << 20
HOUSEKEEPING_S: Final = 1.0
"""How often cursors are written that found no group to ride with, and the outbox is trimmed."""

_TICK_PAUSE_S: Final = 0.01

FIRST_RETRY_S: Final = 0.2
LAST_RETRY_S: Final = 2.0


class Pipeline(Protocol):
    """What the intake needs of the core. Called on the event loop only."""

    counts: dict[SeriesKey, int]

    def feed(self, batch: Batch, *, now_s: float) -> None:
        """Process all lines; what comes out gathers inside."""

    def tick(self, *, now_s: float) -> None:
        """Act on deadlines that have come."""

    def next_wake_s(self) -> float | None:
        """When `tick` has something to do, on the clock of `now_s`."""

    def break_feed(self, appliance: str | None) -> None:
        """Lines may be missing or come late."""

    def close_session(self, session: int, *, clean: bool) -> None:
        """A sender's session ended."""

    def seal(self) -> Sealed | None:
        """Everything since the last seal as bytes; None if there is nothing."""


class Store(Protocol):
    """What the intake needs of the journal; `commit`, `trim` and `drop_oldest` are called in threads."""

    @property
    def over_budget(self) -> bool:
        """Whether the last group was refused for the byte budget."""

    @property
    def dead_letter_count(self) -> int:
        """Dead letters kept."""

    def knows(self, key: bytes) -> bool:
        """Whether a batch with this key is durable."""

    def commit(
        self, sealed: Sequence[Sealed], *, cursors: Mapping[str, bytes] | None = None, dead_letters: Sequence[DeadLetter] = ()
    ) -> None:
        """All or nothing, durable on return (cursors alone need not be). Raises JournalError."""

    def trim(self) -> int:
        """Remove what every sink has got."""

    def drop_oldest(self, n_bytes: int) -> Mapping[str, Mapping[str, int]]:
        """Remove the oldest rows; returns {sink: {kind: records it misses}}."""

    def size_bytes(self) -> int:
        """Bytes on disk. Raises OSError."""


class _Group:
    """Batches that become durable together. `done` is set once, by the writer, and is never cancelled."""

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.done = done
        self.lines = 0
        self.keys: list[bytes] = []
        self.sessions: list[int] = []
        self.has_rows = False
        self.sealed: Sealed | None = None
        self.taken: dict[str, list[int]] = {}
        """Source -> lines and bytes of lines."""
        self.counts: dict[SeriesKey, int] = {}
        self.spans: list[Span] = []
        """Of the batches in it that are traced."""


class Intake:
    """Takes batches from all sources of one pipeline. Made on the event loop; commits while `run` is running, `submit` may come before."""

    def __init__(
        self,
        pipeline: Pipeline,
        journal: Store,
        *,
        counters: Counters,
        number: int = 0,
        max_receive_bytes: int = MAX_RECEIVE_BYTES,
        max_group_lines: int = MAX_GROUP_LINES,
        when_full: Literal["block", "drop_oldest"] = "block",
        drop_bytes: int = 256 << 20,
        clock: Callable[[], float] = time.time,
        feeding: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        tracer: Tracer | None = None,
    ) -> None:
        """`feeding` is entered around every call of the core (the app turns the garbage collector off there).

        `drop_bytes`: how much `when_full="drop_oldest"` removes at a time (a sixteenth of the budget is about right: less and table
        files are rewritten instead of dropped). `number`: of the pipeline, for metrics.
        """
        self._pipeline = pipeline
        self._journal = journal
        self._counters = counters
        self._max_group_lines = max_group_lines
        self._when_full = when_full
        self._drop_bytes = drop_bytes
        self._clock = clock
        self._feeding = feeding
        self._sleep = sleep
        self._tracer = tracer
        self._now_s = 0.0

        self.grown = asyncio.Condition()
        """Notified when new outbox rows are durable."""
        self.on_durable: list[Callable[[list[Sealed]], None]] = []
        """Called on the event loop with each group that has rows, after its commit and before its senders hear of it. Must not wait."""
        self._promises: set[asyncio.Future[None]] = set()
        self._open = _Group(self._promise())
        self._waiting: _Group | None = None
        self._busy = False
        self._failing: JournalError | None = None
        self._broken: BaseException | None = None
        self._cursors: dict[str, bytes] = {}
        self._letters: Letters = []
        self._entered: dict[bytes, _Group] = {}
        self._unacknowledged: dict[int, int] = {}
        self._sessions = 0

        self._work = asyncio.Event()
        self._timer = asyncio.Event()
        self._idle = asyncio.Event()
        self._hurry = False
        self._gate = Gate(self._may_feed)
        self._budget = Budget(max_receive_bytes)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix=f"journal-{number}")
        self._housekeeper = ThreadPoolExecutor(1, thread_name_prefix=f"journal-trim-{number}")
        counters.gauge(RECEIVE_RESERVED, lambda: self._budget.taken_bytes)
        counters.gauge(JOURNAL_SIZE, lambda: _or_none(journal.size_bytes), pipeline=str(number))
        counters.gauge(JOURNAL_DEAD_LETTERS, lambda: journal.dead_letter_count)

    # -- sources -----------------------------------------------------------------------------------------------------------------
    async def submit(self, batch: Batch, *, timeout_s: float | None = None) -> None:
        """Return when everything in `batch` is durable: now the sender may be told.

        With a known key: return when the first one's commit is done. Cancelling this call does not undo anything.

        Raises:
            JournalFull: `timeout_s` have passed. Either the batch did not enter the core (a long one: not all of it), and the feed counts
                as broken; or it did, and sent again with the same key it waits for the commit under way.
        """
        if self._tracer is None:
            await self._submit(batch, timeout_s, None)
            return
        attributes: dict[str, str | int] = {SOURCE_ATTRIBUTE: _source(batch), LINES_ATTRIBUTE: batch.line_count()}
        with self._tracer.start_as_current_span(RECEIVE, kind=SpanKind.CONSUMER, attributes=attributes) as span:
            await self._submit(batch, timeout_s, span if span.is_recording() else None)

    async def _submit(self, batch: Batch, timeout_s: float | None, span: Span | None) -> None:
        limit = asyncio.timeout(timeout_s)
        groups: list[_Group] = []
        entered = False
        try:
            async with limit:
                for part in slices(batch):
                    group = await self._enter(part)
                    if group is not None and group not in groups[-1:]:
                        groups.append(group)
                        if span is not None:
                            group.spans.append(span)
                entered = True
                for group in groups:
                    await asyncio.shield(group.done)
        except TimeoutError:
            if not limit.expired():
                raise
            if not entered:
                self.break_feed()
            reason = "" if self._failing is None else f": {self._failing}"
            raise JournalFull(f"not durable within {timeout_s} s{reason}") from None

    async def _enter(self, batch: Batch) -> _Group | None:
        """Put one batch into the core; returns the group to wait for, None if the batch is durable already."""
        waited = False
        while True:
            self._raise_if_broken()
            if batch.key is not None:
                entered = self._entered.get(batch.key)
                if entered is not None or self._journal.knows(batch.key):
                    self._counters.add(BATCHES_KNOWN, source=_source(batch))
                    if waited:
                        self._gate.let_next()
                    return entered
            if waited:
                break
            await self._gate.pass_through()
            waited = True
        group = self._open
        self._core(lambda: self._pipeline.feed(batch, now_s=self._now()))
        lines = batch.line_count()
        group.lines += lines
        group.sessions.append(batch.session)
        self._unacknowledged[batch.session] = self._unacknowledged.get(batch.session, 0) + 1
        if batch.key is not None:
            group.keys.append(batch.key)
            self._entered[batch.key] = group
        source = _source(batch)
        self._counters.add(BATCHES, source=source)
        taken = group.taken.setdefault(source, [0, 0])
        taken[0] += lines
        taken[1] += sum(sum(map(len, run.lines)) for run in batch.runs)
        if group.lines >= self._max_group_lines and self._waiting is None:
            self._waiting = self._seal()
        self._timer.set()
        self._start_writer()
        self._gate.let_next()
        return group

    def _may_feed(self) -> bool:
        full = self._waiting is not None and self._open.lines >= self._max_group_lines
        return self._broken is not None or (self._failing is None and not full)

    @asynccontextmanager
    async def reserve(self, n_bytes: int) -> AsyncIterator[None]:
        """Hold `n_bytes` of the receive budget, waiting for them in the order of the callers.

        Raises:
            FrameTooLarge: more than the whole budget; it could never be had.
        """
        if not self._budget.has(n_bytes):
            self._counters.add(RECEIVE_WAITS)
        await self._budget.take(n_bytes)
        try:
            yield
        finally:
            self._budget.give(n_bytes)

    def open_session(self, peer: str) -> int:
        """A number for a sender's session, unique while the process lives."""
        self._sessions += 1
        log.debug("Session opened.", extra={"session": self._sessions, "peer": peer})
        return self._sessions

    def close_session(self, session: int, *, clean: bool) -> None:
        """A sender's session ended. `clean` counts only if nothing of it is still without acknowledgement."""
        if self._broken is None:
            clean = clean and not self._unacknowledged.get(session)
            self._core(lambda: self._pipeline.close_session(session, clean=clean))
            self._start_writer()

    def break_feed(self, appliance: str | None = None) -> None:
        """Lines were refused or may be missing: the feed of that appliance (None: of all) is no longer unbroken."""
        if self._broken is None:
            self._core(lambda: self._pipeline.break_feed(appliance))
            self._start_writer()

    # -- sinks -------------------------------------------------------------------------------------------------------------------
    def save_cursor(self, sink: str, value: bytes) -> None:
        """Write a cursor soon: with the next group, or within a second."""
        self._cursors[sink] = value

    def forget_cursor(self, sink: str) -> None:
        """Do not write a cursor that was handed over for this sink: it is gone."""
        self._cursors.pop(sink, None)

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        """Return when the letters are durable. They are taken even by a full journal, or it could never drain."""
        self._raise_if_broken()
        done = self._promise()
        self._letters.append((letters, done))
        self._start_writer()
        await asyncio.shield(done)

    # -- the app -----------------------------------------------------------------------------------------------------------------
    @property
    def failing(self) -> JournalError | None:
        """Why the commit under way has failed so far; None when all is well. For health."""
        return self._failing

    async def run(self) -> None:
        """Commit until cancelled. Raises what the core raised, if it did."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write())
                tasks.create_task(self._tick())
                tasks.create_task(self._trim())
        finally:
            self._break(asyncio.CancelledError("the intake has stopped"))
            # a commit under way is let finish: the journal is closed after us
            self._writer.shutdown(wait=True)
            self._housekeeper.shutdown(wait=True)

    async def drain(self) -> None:
        """Return when everything that was handed over, cursors included, is written. Waits as long as the journal is full."""
        while not self._is_idle():
            self._raise_if_broken()
            self._idle.clear()
            self._hurry = True
            self._start_writer()
            await self._idle.wait()
        self._raise_if_broken()

    def _is_idle(self) -> bool:
        return not (self._busy or self._waiting or self._cursors or self._letters or self._pipeline_has_output())

    def _pipeline_has_output(self) -> bool:
        """Whether sealing gives something; what it gives then waits for the writer."""
        if self._broken is None:
            self._waiting = self._seal()
        return self._waiting is not None

    # -- sealing and writing -----------------------------------------------------------------------------------------------------
    def _seal(self) -> _Group | None:
        """Turn what the core has into bytes; None if there is nothing, and nobody waits."""
        group = self._open
        sealed = self._core(self._pipeline.seal)
        if sealed is None and not group.sessions:
            self._counters.add_all(self._pipeline.counts)
            self._pipeline.counts.clear()
            return None
        group.sealed = sealed or Sealed(rows=[], puts=[], deletes=[], keys=[])
        group.has_rows = bool(group.sealed.rows)
        there = set(group.sealed.keys)
        group.sealed.keys.extend(key for key in group.keys if key not in there)
        group.counts = dict(self._pipeline.counts)
        self._pipeline.counts.clear()
        self._open = _Group(self._promise())
        return group

    def _take_group(self) -> _Group | None:
        group, self._waiting = self._waiting or self._seal(), None
        if self._open.lines >= self._max_group_lines:
            self._waiting = self._seal()  # full: what comes next is for the group behind it
        return group

    def _start_writer(self) -> None:
        self._work.set()

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        next_cursors_s = loop.time() + HOUSEKEEPING_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(next_cursors_s):
                    await self._work.wait()
            self._work.clear()
            self._raise_if_broken()
            self._busy = True
            group = self._take_group()
            self._gate.let_next()
            due = self._hurry or loop.time() >= next_cursors_s
            if group is not None:
                await self._commit(group)
            elif self._letters or (due and self._cursors):
                await self._write_small()
            if due or group is not None:
                next_cursors_s = loop.time() + HOUSEKEEPING_S
            if self._waiting is not None or self._open.sessions or self._letters:
                self._work.set()
            self._hurry = self._busy = False
            self._idle.set()

    async def _commit(self, group: _Group) -> None:
        """Make one sealed group durable, however often it has to be tried."""
        assert group.sealed is not None
        tracing = self._tracing(group)
        pause_s = FIRST_RETRY_S
        cursors, letters = self._take_riders()
        while True:
            started_s = time.perf_counter()
            failure = await self._try([group.sealed], cursors, [letter for some, _ in letters for letter in some])
            if failure is None:
                break
            if self._failing is None:
                log.warning("Commit failed; it is repeated, and senders are held: %s", failure)
            self._failing = failure
            if tracing is not None:
                tracing.record_exception(failure)
            self._give_back(cursors, letters)
            cursors, letters = {}, []
            if not await self._make_room():
                await self._sleep(pause_s)
                pause_s = min(pause_s * 2, LAST_RETRY_S)
        if self._failing is not None:
            log.warning("The journal takes groups again.")
        self._failing = None
        if tracing is not None:
            tracing.end()
        self._counters.observe(JOURNAL_COMMIT_DURATION, time.perf_counter() - started_s)
        self._counters.add_all(group.counts)
        for source, (lines, line_bytes) in group.taken.items():
            self._counters.add(LINES, lines, source=source)
            self._counters.add(LINE_BYTES, line_bytes, source=source)
        if group.has_rows:
            for looking_on in self.on_durable:
                try:
                    looking_on([group.sealed])
                except Exception:  # the commit stands, whatever those who look on make of it
                    log.exception("Records could not be shown to those who watch.")
        for key in group.keys:
            del self._entered[key]
        for session in group.sessions:
            self._unacknowledged[session] -= 1
            if not self._unacknowledged[session]:
                del self._unacknowledged[session]
        _resolve(group.done, *(done for _, done in letters))
        self._gate.let_next()
        if group.has_rows:
            async with self.grown:
                self.grown.notify_all()

    def _tracing(self, group: _Group) -> Span | None:
        """A span for the commit of a group with traced batches: child of the first, linked to the others."""
        if self._tracer is None or not group.spans:
            return None
        first, *others = group.spans
        return self._tracer.start_span(
            COMMIT,
            context=set_span_in_context(first),
            links=[Link(other.get_span_context()) for other in others],
            attributes={LINES_ATTRIBUTE: group.lines, BATCHES_ATTRIBUTE: len(group.sessions)},
        )

    async def _try(self, sealed: Sequence[Sealed], cursors: Mapping[str, bytes], letters: Sequence[DeadLetter]) -> JournalError | None:
        """One attempt in the writer thread."""
        try:
            await self._in_writer(lambda: self._journal.commit(sealed, cursors=cursors, dead_letters=letters))
        except JournalError as error:
            self._counters.add(JOURNAL_COMMIT_FAILURES, reason="full" if isinstance(error, JournalFull) else "io")
            return error
        return None

    async def _write_small(self) -> None:
        """Write what has no group to ride with; on failure it waits for the next chance."""
        cursors, letters = self._take_riders()
        if not cursors and not letters:
            return
        failure = await self._try([], cursors, [letter for some, _ in letters for letter in some])
        if failure is None:
            _resolve(*(done for _, done in letters))
            return
        self._give_back(cursors, letters)
        if self._failing is None:
            log.warning("Cursors could not be written; they are kept and tried again: %s", failure)
            await self._sleep(FIRST_RETRY_S)

    async def _make_room(self) -> bool:
        """While a group is refused: write cursors, remove what they free, and drop rows if that was asked for. Whether that gave any."""
        await self._write_small()
        freed = 0
        with contextlib.suppress(JournalError):
            freed = await self._in_writer(self._journal.trim)
            if self._when_full == "drop_oldest" and self._journal.over_budget:
                dropped = await self._in_writer(lambda: self._journal.drop_oldest(self._drop_bytes))
                for sink, kinds in dropped.items():
                    log.error("The journal is full: dropped the oldest undelivered records.", extra={"sink": sink, "records": dict(kinds)})
                    self._counters.add(SINK_DROPPED, sum(kinds.values()), sink=sink, reason="drop_oldest")
                freed += len(dropped)
        return freed > 0

    def _take_riders(self) -> tuple[dict[str, bytes], Letters]:
        cursors, self._cursors = self._cursors, {}
        letters, self._letters = self._letters, []
        return cursors, letters

    def _give_back(self, cursors: Mapping[str, bytes], letters: Letters) -> None:
        """Riders of a failed commit go separately; a newer cursor that came meanwhile stays."""
        self._cursors = {**cursors, **self._cursors}
        self._letters[:0] = letters

    async def _in_writer(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, call)

    # -- timers and housekeeping -------------------------------------------------------------------------------------------------
    async def _tick(self) -> None:
        """Call the core when its next deadline has come, as long as groups are being taken."""
        while True:
            self._timer.clear()
            wake_s = self._pipeline.next_wake_s()
            delay_s = HOUSEKEEPING_S if wake_s is None else min(max(wake_s - self._now(), 0.0), HOUSEKEEPING_S)
            if delay_s > 0 or not self._may_feed():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay_s or HOUSEKEEPING_S):
                        await self._timer.wait()
            self._raise_if_broken()
            wake_s = self._pipeline.next_wake_s()
            if wake_s is not None and wake_s <= self._now() and self._may_feed():
                self._core(lambda: self._pipeline.tick(now_s=self._now()))
                self._start_writer()
                await asyncio.sleep(_TICK_PAUSE_S)  # many deadlines in a row make one tick, not one each

    async def _trim(self) -> None:
        """Remove delivered rows once a second, beside the writer: a compaction may take long."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            if self._failing is not None:
                continue  # the writer does it before each try
            try:
                await loop.run_in_executor(self._housekeeper, self._journal.trim)
            except JournalError as error:
                log.debug("The outbox was not trimmed: %s", error)

    def _now(self) -> float:
        """Seconds, UTC, never going back."""
        self._now_s = max(self._now_s, self._clock())
        return self._now_s

    # -- the end -----------------------------------------------------------------------------------------------------------------
    def _core(self, call: Callable[[], T]) -> T:
        self._raise_if_broken()
        try:
            with self._feeding():
                return call()
        except BaseException as error:
            self._break(error)
            raise

    def _break(self, error: BaseException) -> None:
        """Let everybody who waits hear that there will be no commit."""
        if self._broken is not None:
            return
        self._broken = error
        for promise in list(self._promises):
            if not promise.done():
                promise.set_exception(JournalError("the intake has stopped before this was durable"))
                promise.exception()  # nobody may be waiting, and that is no news
        self._gate.open_for_all()
        self._work.set()
        self._timer.set()
        self._idle.set()

    def _promise(self) -> asyncio.Future[None]:
        """A future that somebody waits for, and that hears of the end too."""
        promise: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._promises.add(promise)
        promise.add_done_callback(self._promises.discard)
        return promise

    def _raise_if_broken(self) -> None:
        if self._broken is not None:
            raise JournalError(f"the intake has stopped: {self._broken!r}") from self._broken


def _source(batch: Batch) -> str:
    return batch.runs[0].origin.source if batch.runs else ""


def _resolve(*promises: asyncio.Future[None]) -> None:
    for promise in promises:
        if not promise.done():  # the core may have failed meanwhile
            promise.set_result(None)


def _or_none(read: Callable[[], int]) -> int | None:
    try:
        return read()
    except OSError:
        return None
