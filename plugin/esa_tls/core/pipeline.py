"""The core as one object: batches of raw lines in, sealed groups of bytes out.

Per line: find the prefix, parse the body, ask the correlator whose line it is, and add its record; or hold it while its
connection is undecided. Everything is deterministic in the lines and their order; arrival time (`now_s`) only stamps
`event.created` and lets held lines go as `pending` when the sender is slow.

Here is the hot loop, the clock, and sealing; what a prefix says (`prefixing.py`), whether the feed is unbroken (`breaking.py`), lines that
wait (`holding.py`) and what has ended (`telling.py`) are the classes it is built on, each on the one before.

The pipeline never writes: `seal` returns what changed, for one atomic write. What it knew at the last seal is in the state, so a
new pipeline on the same state continues.
"""

from __future__ import annotations

import base64
from collections import deque
from hashlib import blake2b
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from esa_tls.core.appliance import Appliance
from esa_tls.core.batch import Batch, Origin, Row, Run, Sealed
from esa_tls.core.box import Box, Stream
from esa_tls.core.clock import Verdict
from esa_tls.core.connections import PENDING
from esa_tls.core.correlate import Correlator
from esa_tls.core.encode import Encoder, created_text, encoder
from esa_tls.core.expected import Expectations, Partner
from esa_tls.core.facts import Fact
from esa_tls.core.grammar import parse
from esa_tls.core.holding import Holding
from esa_tls.core.ids import DIGEST_BYTES, mask
from esa_tls.core.kept import decode_waiting, encode_waiting, hold_of, kept_hold
from esa_tls.core.line_record import Hold, Leaving, Line
from esa_tls.core.messages import Message
from esa_tls.core.prefix import Prefix
from esa_tls.core.prefix_facts import Tail
from esa_tls.core.seen import Seen
from esa_tls.core.state import State, appliance_key, waiting_key, waiting_prefix

IDLE_S: Final = 86400
"""After so long without a line the wall clock expires an appliance's entries."""

ORDERLY_S: Final = 2
"""How far a stamp may be behind the one before it in a stream that counts as orderly."""

PREFIXES_S: Final = 43_200
"""How long prefixes are kept: what stands in them for good is a year that was inferred."""

ENCODE_LINES: Final = 63
"""After so many lines those that left are encoded, while they are still in the processor's cache (a power of two, less one)."""

_encode: Final = msgspec.msgpack.Encoder(enc_hook=kept_hold).encode
_decode_appliance: Final = msgspec.msgpack.Decoder(Appliance).decode


class CoreSettings(msgspec.Struct, frozen=True):
    """What the core needs of the configuration. Times in seconds.

    `hold_by_event_time`: `max_hold_s` runs on appliance time (`scan`) instead of arrival time. `starts_broken`: the feed counts as
    broken when the pipeline starts (a shipper may hold older batches); False for files read from their beginning.
    `year_reference_s`: where a missing year is looked for; None = the time of receipt. `partners`, `expected_groups`: where TLS is
    expected (`expected.py`).
    """

    appliance_from: tuple[str, ...] = ("record:appliance", "syslog:host", "otlp:host.name", "fluent_tag", "peer")
    appliance_name: str | None = None
    default_appliance: str = "esa"
    timezone: str = "UTC"
    timezones: dict[str, str] = {}
    emit_immediately: bool = False
    max_hold_s: float = 5.0
    max_held_lines: int = 10_000
    hold_by_event_time: bool = False
    starts_broken: bool = True
    late_batches: bool = True
    reorder_window_s: int = 2
    max_entries: int = 5_000_000
    cache_entries: int = 200_000
    max_tombstones: int = 500_000
    year_reference_s: float | None = None
    partners: tuple[Partner, ...] = ()
    expected_groups: tuple[str, ...] = ()


class Pipeline(Holding):
    """See the module. `encodings`: the encodings that the configured sinks need, of `json` and `forward`."""

    def __init__(self, settings: CoreSettings, state: State, *, encodings: tuple[str, ...] = ("json",), now_s: float = 0.0) -> None:
        self.settings = settings
        self.state = state
        self.encoders: list[Encoder] = [encoder(name) for name in encodings]
        self.expectations: Expectations | None = None
        self.expect(settings.partners, settings.expected_groups)
        self.boxes: dict[str, Box] = {}
        self.streams: dict[Origin, Stream] = {}
        self.sessions: dict[int, set[str]] = {}
        self.counts: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
        self.shapes: dict[str, int] = {}
        self.leaving: list[Leaving] = []
        self.held_lines = 0
        self.lines = 0
        self.batches = 0
        self.keys: list[bytes] = []
        self.created = created_text(now_s)
        self.now_s = now_s
        self.deletes: list[bytes] = []
        for _, value in state.items(b"a"):
            self._load(value)

    # ------------------------------------------------------------------------------------------------------------ appliances

    def expect(self, partners: tuple[Partner, ...], sender_groups: tuple[str, ...]) -> None:
        """From the next summary on mark those that these lists are about."""
        self.expectations = Expectations(partners, sender_groups=sender_groups) if partners or sender_groups else None

    def set_encodings(self, encodings: tuple[str, ...]) -> None:
        """From the next line on encode for these. What an encoding that goes had collected since the last seal is gone with it."""
        kept = {each.name: each for each in self.encoders}
        self.encoders[:] = [kept.get(name) or encoder(name) for name in encodings]

    def _load(self, value: bytes) -> None:
        kept = _decode_appliance(value)
        box = self._box(kept)
        for _, waiting in self.state.items(waiting_prefix(kept.name)):
            line = decode_waiting(waiting)
            box.waiting[line.line.sequence] = line
            box.written.add(line.line.sequence)
        for entry in box.correlator.holding:
            # Held lines get their whole time again.
            box.holding.append((float(kept.clock.time_s or 0) if self.settings.hold_by_event_time else self.now_s, entry))
            self.held_lines += len(entry.held or ())
        box.correlator.holding = []
        box.arrived_s = box.candidate_s = self.now_s
        if self.settings.starts_broken:
            kept.break_s = kept.clock.time_s
            kept.breaking = kept.breaking or "start"

    def _box(self, kept: Appliance) -> Box:
        name = kept.name
        settings = self.settings
        correlator = Correlator(kept, self.state, self, max_entries=settings.max_entries, max_tombstones=settings.max_tombstones)
        box = Box(kept, correlator, Seen.load(name, self.state), ZoneInfo(settings.timezones.get(name, settings.timezone)))
        self.boxes[name] = box
        return box

    # ------------------------------------------------------------------------------------------------------------------ feed

    def feed(self, batch: Batch, *, now_s: float) -> None:
        """Take a batch. Everything it led to is in the next `seal`."""
        self.now_s = max(now_s, self.now_s)
        self.created = created_text(batch.received_s or now_s)
        self.batches += 1
        if batch.key is not None:
            self.keys.append(batch.key)
        for run in batch.runs:
            self._feed_run(run, batch.session)
        self._encode_lines()

    def _feed_run(self, run: Run, session: int) -> None:
        """The hot loop, flat on purpose: what holds for all lines of a prefix is worked out when the prefix changes."""
        origin, flags, times = run.origin, run.flags, run.sender_times_s
        stream = self.streams.get(origin) or self._stream(origin)
        if self.now_s - stream.since_s > PREFIXES_S:
            stream.prefixes.clear()
            stream.since_s = self.now_s
        prefixes = stream.prefixes.setdefault(flags, {})
        length = stream.length
        created = self.created
        immediate = self.settings.emit_immediately
        leaving = self.leaving
        interleaved = any(each.interleaved for each in self.encoders)
        wanted = any(each.wants_lines for each in self.encoders)
        last: Prefix | None = None
        before: str | None = None  # what the line before began with, if it is known what that means
        entered: Box | None = None
        index = -1
        for raw in run.lines:
            index += 1
            if index & ENCODE_LINES == ENCODE_LINES:
                self._encode_lines()
            encoded: str | None = None
            try:
                text = raw.decode()
            except UnicodeDecodeError:
                text = raw.decode("utf-8", "replace")
                encoded = base64.b64encode(raw).decode()
            if before is None or not text.startswith(before):
                before = text[:length]
                found = prefixes.get(before)
                if found is not None:
                    prefix = found
                else:
                    before = None
                    prefix = self._prefix(stream, origin, text, raw, None if times is None else times[index], flags)
                    length = prefix.length
                if prefix is not last or before is None:
                    last = prefix
                    box = prefix.box
                    if box is not entered:
                        entered = box
                        self._entered(box, session, prefix.stamp_s)
                        correlator, seen, kept = box.correlator, box.seen, box.state
                        handlers = correlator.handlers
                        clock = kept.clock
                        current, former, digests = seen.current, seen.former, seen.digests
                    facts = stream.last = prefix.facts
                    stamp_s = prefix.stamp_s
                    mark, dropped = seen.enter(stamp_s, facts.log_number)
                    if dropped:
                        box.deleted += dropped
                        current, former = seen.current, seen.former
                    correlator.lossy = lossy = facts.lossy
                    reorder_s = facts.reorder_s
                    if clock.time_s is not None and stamp_s < clock.time_s - ORDERLY_S and not lossy and facts.time_source == "line":
                        # A source that claims to keep the order has gone back in time: what is missing may come yet.
                        self._broken_at(box, clock.time_s, "order")
                    stamp_mask, prefix_mask, body_at = prefix.stamp_mask, prefix.id_mask, prefix.body_at
                    steady = False
            kept.sequence = sequence = kept.sequence + 1
            if not length:
                fact = Fact("continuation" if "continuation" in facts.flags else "unrecognised")
            elif text[-1] == "\r":
                fact = parse(text[length:].rstrip("\r"))  # the line end of some shippers; `event.original` keeps it
            else:
                fact = parse(text[length:])
            digest = blake2b(raw[body_at:], digest_size=DIGEST_BYTES).digest()
            digests.append(digest)
            hashed = int.from_bytes(digest, "big")
            key = hashed ^ stamp_mask
            hashed ^= prefix_mask
            line_flags: tuple[str, ...] = ()
            again = key in current or key in former
            if again:
                k, duplicate = seen.repeat(key, mark)
                if k:
                    hashed ^= mask("k", k)
                if duplicate:
                    line_flags = ("duplicate",)
                    self.count("esa_tls.lines.duplicate")
            else:
                current[key] = mark
            if not wanted and steady and not reorder_s and fact.action != "unrecognised":
                # There is no record to be made of it: only its effect counts.
                if not again:
                    correlator.sequence = sequence
                    handlers[fact.action](fact, stamp_s)
                    if correlator.news:
                        self._heed(box, Line(text, fact, "", sequence, created))
                continue
            line = Line(text, fact, hashed.to_bytes(DIGEST_BYTES, "big").hex(), sequence, created, line_flags, encoded)
            if not steady:
                if clock.steady_from_s <= stamp_s <= clock.steady_to_s:
                    steady = True  # and stays so: nothing but another stamp moves the clock
                elif self._advance(box, stamp_s):
                    self._candidate(box, prefix, line, again=again)
                    continue
                correlator.note_time(stamp_s)
            if reorder_s:
                self._wait(box, prefix, line, stamp_s, again=again)
                continue
            if again:
                leg = correlator.locate(fact, stamp_s, lossy=lossy)
            else:
                if fact.action == "unrecognised":
                    self._odd(prefix, line)
                correlator.connection = None
                correlator.sequence = sequence
                leg = handlers[fact.action](fact, stamp_s)  # `Correlator.apply`, written out
                if correlator.news:
                    self._heed(box, line)
                    if kept.epoch != prefix.epoch:
                        prefix = Prefix(facts, box, epoch=kept.epoch)
                if fact.values is not None and "truncated" in fact.values:
                    line.flags += ("truncated",)
            if leg is not None and leg.outcome == PENDING and not immediate and correlator.connection is not None:
                self._hold(box, correlator.connection, prefix, line)
                continue
            leaving.append((prefix, line, leg))
            if interleaved:
                self._encode_lines()
        self.lines += index + 1
        stream.length = length

    # ------------------------------------------------------------------------------------------------------------------ time

    def _advance(self, box: Box, stamp_s: int) -> bool:
        """The clock's long way: what a stamp does to the appliance time. Returns whether its line is a candidate."""
        clock = box.state.clock
        before_s, candidate_s = clock.time_s, clock.candidate_s
        verdict = clock.accept(stamp_s)
        time_s = clock.time_s
        assert time_s is not None
        if verdict is Verdict.MOVED:  # the rule, without the flags' arithmetic
            self._moved(box, time_s)
            return False
        if verdict & Verdict.CONFIRMED:
            assert candidate_s is not None
            self._moved(box, candidate_s)
            self._candidate_decided(box, bad=False)
        elif verdict & Verdict.REFUTED:
            self._candidate_decided(box, bad=True, time_s=before_s)
        if verdict & Verdict.REBASED and before_s is not None:
            self._rebase(box, before_s - time_s)
        elif time_s != before_s:
            self._moved(box, time_s)
        return bool(verdict & Verdict.WAITING)

    def _expire(self, box: Box, time_s: int) -> None:
        box.correlator.expire(time_s)
        if box.correlator.decided:
            self._release(box, box.correlator)

    def _moved(self, box: Box, time_s: int) -> None:
        """The appliance time went on."""
        if box.state.breaking is not None:
            self._broken_at(box, time_s, box.state.breaking)
            box.state.breaking = None
        self._order(box, time_s)
        self._expire(box, time_s - box.state.lag_s)
        if self.settings.hold_by_event_time:
            self._let_go(box, time_s)

    def _candidate(self, box: Box, prefix: Prefix, line: Line, *, again: bool) -> None:
        """A line stamped far ahead of the clock: the next line decides when it was, and only then it has its effect."""
        box.state.candidate, box.candidate_s = Hold(line, prefix.facts, prefix.epoch, again=again), self.now_s
        if self.settings.emit_immediately:
            self._candidate_leaves(box)

    def _candidate_of(self, box: Box) -> Hold | None:
        kept = box.state.candidate
        if kept is None or isinstance(kept, Hold):
            return kept
        box.state.candidate = hold = hold_of(kept)
        return hold

    def _candidate_leaves(self, box: Box) -> None:
        """Its record cannot wait for the next line; its effect can."""
        hold = self._candidate_of(box)
        if hold is not None and not hold.left:
            hold.left = box.changed = True
            self._put_early(box, Prefix(hold.prefix, box, epoch=hold.epoch), hold.line)

    def _candidate_decided(self, box: Box, *, bad: bool, time_s: int | None = None) -> None:
        """The next line came (or none will): the candidate has its effect, at its own time or (`bad`) at the appliance's, `time_s`."""
        hold, box.state.candidate = self._candidate_of(box), None
        if hold is None:
            return
        box.changed = True
        line = hold.line
        stamp_s = time_s if bad and time_s is not None else hold.prefix.stamp_s
        if bad:
            line.flags = (*line.flags, "bad_time")
            self.count("esa_tls.lines.bad_time")
        if hold.prefix.reorder_s:
            self._wait(box, Prefix(hold.prefix, box, epoch=box.state.epoch), line, stamp_s, again=hold.again, left=hold.left)
        else:
            self._take(box, hold.prefix, line, stamp_s, again=hold.again, left=hold.left)

    def _rebase(self, box: Box, back_s: int) -> None:
        """The clock went back: every deadline goes back with it."""
        self._order(box, None)
        time_s = float(box.state.clock.time_s or 0)
        if self.settings.hold_by_event_time:
            box.holding = deque((min(held_s, time_s), entry) for held_s, entry in box.holding)
        entries = box.correlator.entries
        for kind, number, entry in entries.all():
            entry.last_s -= back_s
            if isinstance(entry, Message) and entry.end_s:
                entry.end_s -= back_s
            entries.schedule(kind, number, entry, entry.due_s - back_s)
            if not entry.dirty:
                entry.dirty = True
                entries.dirty.append(entry)
        self._break(box, None, "rebase")
        self.count("esa_tls.clock.rebases")

    def tick(self, *, now_s: float) -> None:
        """The wall clock: lines held too long leave as `pending`, lines waiting to be put in order go, idle appliances expire."""
        self.now_s = max(now_s, self.now_s)
        self.created = created_text(self.now_s)
        limit_s = self.now_s - self.settings.max_hold_s
        for box in self.boxes.values():
            if not self.settings.hold_by_event_time:
                self._let_go(box, self.now_s)
            if box.waiting and box.arrived_s <= limit_s:
                self._order(box, None)
            if box.state.candidate is not None and box.candidate_s <= limit_s:
                self._candidate_leaves(box)
            if box.arrived_s and self.now_s - box.arrived_s >= IDLE_S and box.state.clock.time_s is not None:
                self._candidate_decided(box, bad=False)
                self._order(box, None)
                self._expire(box, box.state.clock.time_s + int(self.now_s - box.arrived_s))

    def next_wake_s(self) -> float | None:
        """When `tick` has something to do, on the clock that `now_s` is from; None = not before the next batch."""
        wakes = []
        for box in self.boxes.values():
            if box.holding and not self.settings.hold_by_event_time:
                wakes.append(box.holding[0][0] + self.settings.max_hold_s)
            if box.waiting:
                wakes.append(box.arrived_s + self.settings.max_hold_s)
            if (candidate := self._candidate_of(box)) is not None and not candidate.left:
                wakes.append(box.candidate_s + self.settings.max_hold_s)
            if box.arrived_s and box.correlator.entries.heap:
                wakes.append(max(box.arrived_s + IDLE_S, self.now_s + 60))
        return min(wakes, default=None)

    # ------------------------------------------------------------------------------------------------------------------- end

    def end_stream(self) -> None:
        """`scan` is at the end of its input: everything open ends by `stream_end`."""
        for box in self.boxes.values():
            self._candidate_decided(box, bad=False)
            self._order(box, None)
            box.correlator.end_all("stream_end", box.state.clock.time_s or int(self.now_s))
            self._release(box, box.correlator)

    def rows(self) -> list[Row]:
        """The records since the last call, for who does not need the state at the same point; `seal` has what came after."""
        self._encode_lines()
        return [Row(cls, each.name, segments) for each in self.encoders for cls, segments in each.take()]

    def seal(self) -> Sealed | None:
        """Everything since the last seal, as bytes that refer to nothing alive; None if there was nothing."""
        rows = self.rows()
        puts: list[tuple[bytes, bytes]] = []
        deletes: list[bytes] = []
        for box in self.boxes.values():
            deletes += box.deleted
            box.deleted = []
            for sequence, waiting in box.waiting.items():
                if sequence not in box.written:
                    box.written.add(sequence)
                    puts.append((waiting_key(box.state.name, sequence), encode_waiting(waiting)))
            entry_puts, entry_deletes = box.correlator.entries.seal()
            puts += entry_puts
            deletes += entry_deletes
            deletes += box.seen.bound()
            puts += box.seen.seal()
            if box.changed or entry_puts or entry_deletes:
                box.changed = False
                puts.append((appliance_key(box.state.name), _encode(box.state)))
            box.correlator.entries.shrink(self.settings.cache_entries)
        for stream in self.streams.values():
            if stream.last is not stream.sealed:
                stream.sealed = stream.last
                puts.append((stream.key, _encode(Tail(stream.last, stream.timed))))
        keys, self.keys = self.keys, []
        lines, self.lines = self.lines, 0
        if not (rows or puts or deletes or keys):
            return None
        return Sealed(rows, puts, deletes, keys, lines)
