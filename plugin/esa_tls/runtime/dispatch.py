"""From the outbox to one sink: read rows after the cursor, send, classify what happened, move the cursor.

One `Dispatcher` (one task) per sink, so a dead store holds no other back. The rules:

1. The cursor moves only past rows that the sink has for good or whose rejected records are durable dead letters. It is handed to
   `save_cursor` and becomes durable some time later: after a crash the rows since then are sent again (same bytes, same ids).
2. A transient failure is tried again for ever, with exponential back-off and full jitter; the peer's `retry_after_s` is a lower bound.
   The same rows are sent again, so a sink may remember what of them it has delivered already (until `send` returns).
3. A permanent failure names the records (`RecordsRejected`) or is narrowed down by halving the batch until single records fail.
   Those become dead letters, everything else is delivered.
4. An error nobody foresaw is a fault of ours, and no reason to lose rows or to stop other sinks: logged with its traceback, then
   treated like a transient one.
5. Nothing to send: wait until the journal says that it has grown. A look without being told happens once a second at most.
6. `drain` sends what can be sent until its deadline; the rest stays in the outbox.
7. What the sink gets of each record (`wire/selection.py`) is worked out once per batch, before it is sent: tried again are the same bytes,
   and dead letters are what the sink would have got. Rows of which nothing is left are done with. A sink that gets everything pays nothing.
   A record that cannot be read for that is never sent as it is: it becomes a dead letter that is not replayed.

Cursor (bytes in the journal) = msgpack `{"sequence": n, "state": bytes | nil}`: every row of the sink's classes up to n is done (the
journal trims by it); `state` belongs to the sink (the file sink keeps its file and offset there).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Literal, Protocol, TypeVar

import msgpack
import msgspec
from opentelemetry.trace import SpanKind, Tracer, get_current_span

from esa_tls.core.batch import Row
from esa_tls.core.protobuf import message_ends
from esa_tls.errors import JournalError, MalformedMessage, PermanentError, TransientError
from esa_tls.runtime.journal import DeadLetter
from esa_tls.telemetry import (
    RECORDS_ATTRIBUTE,
    REFUSED_ATTRIBUTE,
    RETRY,
    SEND,
    SINK_ATTRIBUTE,
    SINK_DEAD_LETTERED,
    SINK_FILTERED,
    SINK_OLDEST_UNSENT,
    SINK_REJECTED,
    SINK_RETRIES,
    SINK_SENT,
    Counters,
)
from esa_tls.wire.selection import Selection

log = logging.getLogger(__name__)

T = TypeVar("T")
Rows = list[tuple[int, Row]]

IDLE_LOOK_S = 1.0
"""How often an idle dispatcher looks at the outbox without being told."""

DEFAULT_BATCH_BYTES = 8 * 1024 * 1024


class Sink(Protocol):
    """A place records go to.

    Life: `open` (again after it failed) -> `send`... -> `close`. `close` is safe before `open`, twice, and while a `send` was cancelled.
    """

    @property
    def name(self) -> str:
        """Unique in the configuration: the cursor is kept under it."""
        ...

    @property
    def cls_wanted(self) -> tuple[str, ...]:
        """`line`, `summary` or both."""
        ...

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of records wanted."""
        ...

    @property
    def encoding(self) -> str:
        """`json`, `forward` or `otlp`."""
        ...

    async def open(self, state: bytes | None) -> None:
        """Make ready, going on from `state` of the last durable cursor (None: there is none). Raises TransientError."""
        ...

    async def send(self, rows: Rows) -> None:
        """Return when the records of `rows` are there for good. Raises TransientError, PermanentError, RecordsRejected."""
        ...

    def state(self) -> bytes | None:
        """What `open` needs to go on after everything sent so far; None if the sink keeps nothing."""
        ...

    async def close(self) -> None:
        """Let go of files and connections; nothing runs on afterwards."""
        ...


class Outbox(Protocol):
    """What dispatch reads of the journal; called in threads."""

    def read(self, after: int, *, cls: Collection[str], encoding: str, max_bytes: int) -> Rows:
        """Rows with a sequence > `after`, those of several classes merged in order; about `max_bytes`, but one if there is one."""
        ...

    def tail(self) -> int:
        """The highest sequence committed; 0 if none."""
        ...

    def oldest(self) -> int:
        """The lowest sequence that is still kept, `tail() + 1` if none is."""
        ...


class Rejection(msgspec.Struct, frozen=True):
    """One record a sink will never take: its place in the rows given to `send`, a short reason (a label), and the peer's words."""

    row: int
    segment: int
    record: int
    reason: str
    detail: str = ""


class RecordsRejected(PermanentError):
    """These records were refused for good; all others of the same `send` were delivered."""

    def __init__(self, message: str, rejections: Sequence[Rejection]) -> None:
        super().__init__(message)
        self.rejections = tuple(rejections)


class Cursor(msgspec.Struct, frozen=True):
    """How far a sink is, and what it needs to go on from there."""

    sequence: int
    state: bytes | None = None


class Backoff(msgspec.Struct, frozen=True):
    """Exponential back-off with full jitter: between 0 and `base_s` doubled per failure, at most `cap_s`."""

    base_s: float = 0.5
    cap_s: float = 60.0

    def delay_s(self, failures: int, *, uniform: Callable[[float, float], float], retry_after_s: float | None = None) -> float:
        """Seconds to wait after the `failures`-th failure in a row (from 1 on), not less than `retry_after_s`."""
        ceiling_s = min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 32))
        return max(uniform(0.0, ceiling_s), retry_after_s or 0.0)


class SinkStatus(msgspec.Struct, frozen=True):
    """A sink as health sees it: `failing` is the last error while it is being retried."""

    name: str
    failing: str | None
    sequence: int
    oldest_unsent_age_s: float


def stale_cursors(stored: Collection[str], configured: Collection[str]) -> list[str]:
    """Names of cursors whose sink left the configuration, warned about one by one; the caller drops them (they would pin the outbox)."""
    gone = sorted(set(stored) - set(configured))
    for name in gone:
        log.warning("Sink left the configuration: its cursor is dropped, and it would start anew if it came back.", extra={"sink": name})
    return gone


class Dispatcher:
    """Brings one sink everything it wants, in order, at least once.

    `prepare` (before any source starts; the caller makes its result durable) -> `run` (the task) -> `drain`.
    `stored`: the cursor as the journal has it. `dead_letter` returns when the letters are durable. `grown`: notified after commits.
    `selection`: what the sink gets of each record; None: all of it.
    """

    def __init__(
        self,
        sink: Sink,
        outbox: Outbox,
        *,
        stored: bytes | None,
        save_cursor: Callable[[str, bytes], None],
        dead_letter: Callable[[Sequence[DeadLetter]], Awaitable[None]],
        grown: asyncio.Condition,
        counters: Counters,
        selection: Selection | None = None,
        start: Literal["tail", "oldest"] = "tail",
        max_batch_bytes: int = DEFAULT_BATCH_BYTES,
        idle_look_s: float = IDLE_LOOK_S,
        backoff: Backoff = Backoff(),  # noqa: B008 (frozen)
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        uniform: Callable[[float, float], float] = random.uniform,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        tracer: Tracer | None = None,
    ) -> None:
        self._sink = sink
        self._outbox = outbox
        self._stored = stored
        self._save_cursor = save_cursor
        self._dead_letter = dead_letter
        self._grown = grown
        self._counters = counters
        self._selection = selection
        self._start = start
        self._max_batch_bytes = max_batch_bytes
        self._idle_look_s = idle_look_s
        self._backoff = backoff
        self._clock = clock
        self._wall_clock = wall_clock
        self._uniform = uniform
        self._sleep = sleep
        self._tracer = tracer

        self._sequence = 0
        self._state: bytes | None = None
        self._saved: bytes | None = None
        self._placed = False
        self._opened = False
        self._draining = False
        self._limit: asyncio.Timeout | None = None
        self._failing: str | None = None
        self._seen: deque[tuple[int, float]] = deque()
        """(tail, when it was first seen there), for tails the sink has not reached yet."""
        counters.gauge(SINK_OLDEST_UNSENT, self.oldest_unsent_age_s, sink=sink.name)

    @property
    def name(self) -> str:
        """The sink's name."""
        return self._sink.name

    @property
    def sink(self) -> Sink:
        """The sink it serves."""
        return self._sink

    @property
    def cursor(self) -> bytes | None:
        """The newest cursor it has handed on, durable or soon to be; None if there is none."""
        return self._saved

    def status(self) -> SinkStatus:
        """How the sink is doing now."""
        return SinkStatus(self.name, self._failing, self._sequence, self.oldest_unsent_age_s())

    def oldest_unsent_age_s(self) -> float:
        """Seconds since the oldest unsent row was first seen by this dispatcher (after a start: since then); 0 when up to date."""
        return max(0.0, self._clock() - self._seen[0][1]) if self._seen else 0.0

    # -- life ------------------------------------------------------------------------------------------------------------------

    async def prepare(self) -> bytes | None:
        """Find the place to start at and open the sink; return the cursor to make durable before any source starts.

        None = the stored cursor stands. Without this step a new sink whose first cursor was lost in a crash would start at a later
        tail, and a file sink would not know what of its file it had written. A sink that cannot be opened now is opened by `run`.
        """
        self._place()
        try:
            await self._sink.open(self._state)
        except TransientError as error:
            log.warning("Sink cannot be opened yet.", extra={"sink": self.name, "error": str(error)})
        else:
            self._opened = True
            self._state = self._sink.state()
        self._saved = self._cursor()
        return None if self._saved == self._stored else self._saved

    async def run(self) -> None:
        """Send until drained (or cancelled); the sink is closed when this returns. Raises nothing but CancelledError."""
        try:
            if self._draining:
                return
            async with asyncio.timeout(None) as self._limit:
                await self._send_all()
        except TimeoutError:
            log.warning("Sink did not take everything before the deadline; the rest stays in the outbox.", extra={"sink": self.name})
        finally:
            self._limit = None
            await self._sink.close()

    async def drain(self, *, within_s: float) -> None:
        """Let `run` end: when the outbox is sent, or after `within_s`. Before `run`, or twice, it does no harm; the nearest deadline holds.

        Called after the last commit: rows that come later may stay in the outbox.
        """
        self._draining = True
        if self._limit is not None and not self._limit.expired():
            deadline = asyncio.get_running_loop().time() + within_s
            set_before = self._limit.when()
            self._limit.reschedule(deadline if set_before is None else min(deadline, set_before))
        async with self._grown:
            self._grown.notify_all()

    # -- the loop --------------------------------------------------------------------------------------------------------------

    async def _send_all(self) -> None:
        if not self._placed:
            self._place()
        if not self._opened:
            await self._insist(lambda: self._sink.open(self._state))
            self._opened = True
            self._state = self._sink.state()
            self._save_if_moved()
        while True:
            tail = self._note_tail()
            rows = await self._insist(lambda: _in_thread(self._read))
            if rows:
                await self._hand_over(rows)
                continue
            self._reach(tail)  # taken before the read: up to there is nothing more for this sink
            if self._draining:
                return
            await self._wait_for_rows(tail)

    def _place(self) -> None:
        """Take the stored cursor; a new sink starts at the tail, or with the oldest row that is kept."""
        self._sequence = self._outbox.tail() if self._start == "tail" else self._outbox.oldest() - 1
        if self._stored is not None:
            try:
                known = msgspec.msgpack.decode(self._stored, type=Cursor)
            except msgspec.MsgspecError:
                log.error("Cursor is unreadable: the sink starts with the oldest row that is kept.", extra={"sink": self.name})  # noqa: TRY400 (says all)
                self._sequence = self._outbox.oldest() - 1
            else:
                self._sequence, self._state = known.sequence, known.state
        self._saved = self._stored
        self._placed = True

    def _cursor(self) -> bytes:
        return msgspec.msgpack.encode(Cursor(self._sequence, self._state))

    def _save_if_moved(self) -> None:
        cursor = self._cursor()
        if cursor != self._saved:
            self._saved = cursor
            self._save_cursor(self.name, cursor)

    def _note_tail(self) -> int:
        tail = self._outbox.tail()
        if tail > self._sequence and (not self._seen or tail > self._seen[-1][0]):
            self._seen.append((tail, self._clock()))
        return tail

    def _reach(self, sequence: int) -> None:
        """Everything up to `sequence` is done."""
        self._sequence = max(self._sequence, sequence)
        while self._seen and self._seen[0][0] <= self._sequence:
            self._seen.popleft()
        self._save_if_moved()

    def _read(self) -> Rows:
        sink = self._sink
        return self._outbox.read(self._sequence, cls=sink.cls_wanted, encoding=sink.encoding, max_bytes=self._max_batch_bytes)

    async def _wait_for_rows(self, tail: int) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._idle_look_s), self._grown:
                await self._grown.wait_for(lambda: self._draining or self._outbox.tail() > tail)

    async def _hand_over(self, rows: Rows) -> None:
        wanted, refused = await self._selected(_only(rows, self._sink.kinds))
        if wanted:
            refused += await self._traced(wanted)
        if refused:
            now_s = self._wall_clock()
            letters = [
                DeadLetter(f"sink:{self.name}", f"{record.reason}: {record.detail}", record.body, record.encoding, now_s, record.kind)
                for record in refused
            ]
            await self._insist(lambda: self._dead_letter(letters))
            for record in refused:
                self._counters.add(SINK_DEAD_LETTERED, 1, sink=self.name, reason=record.reason)
        self._state = self._sink.state()
        self._reach(rows[-1][0])

    async def _selected(self, rows: Rows) -> tuple[Rows, list[_Refused]]:
        """What the sink gets of `rows`, and the records that could not be read for that; these are of no kind, so nobody replays them."""
        selection = self._selection
        if selection is None or not rows:
            return rows, []
        selected = await self._insist(lambda: _in_thread(lambda: selection.apply(rows)))
        for kind, n in selected.filtered.items():
            self._counters.add(SINK_FILTERED, n, sink=self.name, kind=kind)
        if selected.unreadable:
            log.error(
                "Records cannot be read for what this sink is to get of them; they become dead letters.",
                extra={"sink": self.name, "records": len(selected.unreadable), "why": selected.unreadable[0].why[:200]},
            )
        return selected.rows, [_Refused("", one.encoding, one.body, "unreadable", one.why) for one in selected.unreadable]

    async def _traced(self, rows: Rows) -> list[_Refused]:
        """`_deliver`, as a span if it is to be traced."""
        if self._tracer is None:
            return await self._deliver(rows)
        attributes: dict[str, str | int] = {SINK_ATTRIBUTE: self.name, RECORDS_ATTRIBUTE: sum(_count_by_kind(rows).values())}
        with self._tracer.start_as_current_span(SEND, kind=SpanKind.PRODUCER, attributes=attributes) as span:
            refused = await self._deliver(rows)
            if refused:
                span.set_attribute(REFUSED_ATTRIBUTE, len(refused))
            return refused

    async def _deliver(self, rows: Rows) -> list[_Refused]:
        """Send `rows`; return the records the sink will never take. Parts are sent in order."""
        refused: list[_Refused] = []
        parts = [rows]
        while parts:
            part = parts.pop()
            sent = _count_by_kind(part)
            try:
                await self._insist(lambda part=part: self._sink.send(part))  # type: ignore[misc]
            except RecordsRejected as error:
                named = _named_in(error, part)
                for record in named:
                    sent[record.kind] -= 1
                refused += self._count_rejected(named)
            except PermanentError as error:
                halves = halve(part)
                if halves is None:
                    refused += self._count_rejected(_all_of(part, str(error)))
                else:
                    parts += (halves[1], halves[0])
                continue
            for kind, n in sent.items():
                self._counters.add(SINK_SENT, n, sink=self.name, kind=kind)
        return refused

    def _count_rejected(self, refused: list[_Refused]) -> list[_Refused]:
        for record in refused:
            self._counters.add(SINK_REJECTED, 1, sink=self.name, reason=record.reason)
        if refused:
            log.error(
                "Sink refused records for good; they become dead letters.",
                extra={"sink": self.name, "records": len(refused), "reason": refused[0].reason, "detail": refused[0].detail[:200]},
            )
        return refused

    async def _insist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Do `attempt` until it works. PermanentError passes through: repeating does not help."""
        failures = 0
        while True:
            retry_after_s: float | None = None
            try:
                result = await attempt()
            except PermanentError:
                self._failing = None
                raise
            except (TransientError, JournalError) as error:
                failure: Exception = error
                retry_after_s = error.retry_after_s if isinstance(error, TransientError) else None
                if not failures:
                    log.warning("Sink failed; it is tried again until it works.", extra={"sink": self.name, "error": str(error)})
            except Exception as error:  # rule 4: one sink's fault is neither the others' nor the rows'
                failure = error
                log.exception("Unexpected error in a sink; it is tried again.", extra={"sink": self.name})
            else:
                if failures:
                    log.info("Sink works again.", extra={"sink": self.name, "failures": failures})
                self._failing = None
                return result
            failures += 1
            self._failing = str(failure) or type(failure).__name__
            if self._tracer is not None:
                get_current_span().add_event(RETRY, {"error": self._failing})
            self._counters.add(SINK_RETRIES, 1, sink=self.name, reason=type(failure.__cause__ or failure).__name__)
            await self._sleep(self._backoff.delay_s(failures, uniform=self._uniform, retry_after_s=retry_after_s))


async def _in_thread(read: Callable[[], T]) -> T:
    """Run a short blocking read in a thread and, if cancelled meanwhile, still wait for it: the journal is closed after us."""
    reading = asyncio.ensure_future(asyncio.to_thread(read))
    try:
        return await asyncio.shield(reading)
    except asyncio.CancelledError:
        await asyncio.wait([reading])
        if not reading.cancelled():
            reading.exception()  # nobody waits for it any more
        raise


# -- rows, segments, records ---------------------------------------------------------------------------------------------------------


def _only(rows: Rows, kinds: frozenset[str]) -> Rows:
    """`rows` without segments of other kinds and without rows that have nothing left."""
    wanted: Rows = []
    for sequence, row in rows:
        segments = [segment for segment in row.segments if segment[0] in kinds]
        if len(segments) == len(row.segments):
            wanted.append((sequence, row))
        elif segments:
            wanted.append((sequence, Row(row.cls, row.encoding, segments)))
    return wanted


def _count_by_kind(rows: Rows) -> dict[str, int]:
    counts: dict[str, int] = {}
    for _, row in rows:
        for kind, count, _ in row.segments:
            counts[kind] = counts.get(kind, 0) + count
    return counts


def record_ends(encoding: str, body: bytes) -> list[int]:
    """Where each record of a segment ends. A body that cannot be told apart is one record."""
    ends: list[int] = []
    if encoding == "json":
        at = 0
        while at := body.find(b"\n", at) + 1:
            ends.append(at)
    elif encoding == "otlp":
        try:
            ends = message_ends(body)
        except MalformedMessage:
            return [len(body)]
    else:
        unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=max(len(body), 1))
        unpacker.feed(body)
        try:
            while unpacker.tell() < len(body):
                unpacker.skip()
                ends.append(unpacker.tell())
        except (msgpack.UnpackException, ValueError):
            return [len(body)]
    if not ends or ends[-1] != len(body):
        ends.append(len(body))
    return ends


def halve(rows: Rows) -> tuple[Rows, Rows] | None:
    """Cut a batch in two, by rows if there are several, else by segments, else by records; None if it is one record."""
    if len(rows) > 1:
        middle = len(rows) // 2
        return rows[:middle], rows[middle:]
    sequence, row = rows[0]
    if len(row.segments) > 1:
        middle = len(row.segments) // 2
        first, second = row.segments[:middle], row.segments[middle:]
    else:
        kind, count, body = row.segments[0]
        ends = record_ends(row.encoding, body) if count > 1 else []
        if len(ends) < 2:
            return None
        middle = len(ends) // 2
        cut = ends[middle - 1]
        first, second = [(kind, middle, body[:cut])], [(kind, len(ends) - middle, body[cut:])]
    return [(sequence, Row(row.cls, row.encoding, first))], [(sequence, Row(row.cls, row.encoding, second))]


class _Refused(msgspec.Struct, frozen=True):
    """One record that goes to the dead letters, and why."""

    kind: str
    encoding: str
    body: bytes
    reason: str
    detail: str


def _all_of(rows: Rows, detail: str) -> list[_Refused]:
    return [_Refused(kind, row.encoding, body, "permanent", detail) for _, row in rows for kind, _, body in row.segments]


def _named_in(error: RecordsRejected, rows: Rows) -> list[_Refused]:
    """The records a sink named, with their bytes."""
    refused: list[_Refused] = []
    ends_of: dict[tuple[int, int], list[int]] = {}
    for rejection in error.rejections:
        row = rows[rejection.row][1]
        kind, _, body = row.segments[rejection.segment]
        place = (rejection.row, rejection.segment)
        if place not in ends_of:
            ends_of[place] = record_ends(row.encoding, body)
        start = ends_of[place][rejection.record - 1] if rejection.record else 0
        record = body[start : ends_of[place][rejection.record]]
        refused.append(_Refused(kind, row.encoding, record, rejection.reason, rejection.detail))
    return refused
