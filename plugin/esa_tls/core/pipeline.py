"""The core as one object: batches of raw lines in, sealed groups of bytes out.

Per line: find the prefix, parse the body, ask the correlator whose line it is, and add its record; or hold it while its
connection is undecided. Everything is deterministic in the lines and their order; arrival time (`now_s`) only stamps
`event.created` and lets held lines go as `pending` when the sender is slow.

The pipeline never writes: `seal` returns what changed, for one atomic write. What it knew at the last seal is in the state, so a
new pipeline on the same state continues.
"""

from __future__ import annotations

import base64
from collections import deque
from hashlib import blake2b
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from esa_tls.core import summaries
from esa_tls.core.appliance import Appliance
from esa_tls.core.batch import Batch, Origin, Row, Run, Sealed
from esa_tls.core.box import Box, Hold, Stream, Tail
from esa_tls.core.cef import parse_cef
from esa_tls.core.clock import Verdict, resolve
from esa_tls.core.connections import PENDING, Connection
from esa_tls.core.correlate import Correlator
from esa_tls.core.encode import Encoder, Line, created_text, encoder
from esa_tls.core.expected import Expectations, Partner
from esa_tls.core.facts import Fact
from esa_tls.core.grammar import parse, shape_of
from esa_tls.core.holding import Holding
from esa_tls.core.ids import DIGEST_BYTES, mask, summary_id
from esa_tls.core.line import Framing, frame
from esa_tls.core.line_record import Leaving
from esa_tls.core.messages import Attempt, Message
from esa_tls.core.order import Waiting
from esa_tls.core.prefix import Prefix, PrefixFacts, id_mask
from esa_tls.core.records_consolidated import consolidated
from esa_tls.core.seen import Seen
from esa_tls.core.state import State, appliance_key, stream_key, waiting_key, waiting_prefix

NEAREST_S = 182 * 86400
"""Added to the time of the line before, when that says where a missing year is: the nearest one, before or after it."""

IDLE_S = 86400
"""After so long without a line the wall clock expires an appliance's entries."""

ORDERLY_S = 2
"""How far a stamp may be behind the one before it in a stream that counts as orderly."""

MAX_PREFIXES = 4096
PREFIXES_S = 43_200
"""How long prefixes are kept: what stands in them for good is a year that was inferred."""

MAX_SHAPES = 1000

ENCODE_LINES = 63
"""After so many lines those that left are encoded, while they are still in the processor's cache (a power of two, less one)."""

CONSOLIDATED_MASK = mask("consolidated")
"""A consolidated record's id is its line's id under this mask."""

_encode = msgspec.msgpack.Encoder().encode
_decode_appliance = msgspec.msgpack.Decoder(Appliance).decode
_decode_tail = msgspec.msgpack.Decoder(Tail).decode
_decode_waiting = msgspec.msgpack.Decoder(Waiting).decode


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
            line = _decode_waiting(waiting)
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

    def _appliance_of(self, origin: Origin, framing: Framing | None) -> Box:
        """Whose line it is: the first of the configured list that yields a name."""
        name = self.settings.appliance_name
        if name is None:
            for source in self.settings.appliance_from:
                match source:
                    case "record:appliance":
                        name = origin.record_appliance
                    case "syslog:host":
                        name = framing.host if framing is not None and origin.trust_host else None
                    case "otlp:host.name":
                        name = origin.otlp_host
                    case "fluent_tag":
                        name = origin.tag
                    case "peer":
                        name = origin.peer
                    case _:
                        name = None
                if name:
                    break
        name = (name or self.settings.default_appliance).replace("\0", "")[:255] or self.settings.default_appliance
        return self.boxes.get(name) or self._box(Appliance(name))

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
        leave = self.leaving.append
        interleaved = any(each.interleaved for each in self.encoders)
        wanted = any(each.wants_lines for each in self.encoders)
        last: object = ()  # no prefix, and not None
        box: Any = None  # a Box from the first line on
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
            found = prefixes.get(text[:length])
            if found is not last:
                if found is not None:
                    prefix = found
                else:
                    prefix = self._prefix(stream, origin, text, raw, None if times is None else times[index], flags)
                    length = prefix.length
                if prefix.box is not box:
                    box = prefix.box
                    self._entered(box, session, prefix.stamp_s)
                    correlator, seen, kept = box.correlator, box.seen, box.state
                    handlers = correlator.handlers
                    clock = kept.clock
                    current, former, digests = seen.current, seen.former, seen.digests
                last = prefix
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
            digests += digest
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
            line = Line(text, fact, f"{hashed:018x}", sequence, created, line_flags, encoded)
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
            leave((prefix, line, leg))
            if interleaved:
                self._encode_lines()
        self.lines += index + 1
        stream.length = length

    def _stream(self, origin: Origin) -> Stream:
        """Lines of an origin come for the first time since the start."""
        key = stream_key(blake2b(_encode(origin), digest_size=DIGEST_BYTES).digest())
        value = self.state.get(key)
        stream = self.streams[origin] = Stream(key, Tail() if value is None else _decode_tail(value), self.now_s)
        return stream

    def _entered(self, box: Box, session: int, stamp_s: int) -> None:
        """Lines of this appliance follow: is its feed still unbroken?"""
        box.changed = True
        box.arrived_s = self.now_s
        kept = box.state
        if session not in box.sessions:
            box.sessions.add(session)
            self.sessions.setdefault(session, set()).add(kept.name)
        if box.batch == self.batches:
            return
        box.batch = self.batches
        time_s = kept.clock.time_s
        if kept.breaking is not None and time_s is not None and stamp_s <= time_s:
            kept.breaking = None
        late = self.settings.late_batches and time_s is not None and stamp_s < time_s
        first = time_s is None and self.settings.starts_broken
        if late or first or len(box.sessions) > 1:
            self._break(box, stamp_s, "late_batch" if late else "start" if first else "sessions")

    def _break(self, box: Box, stamp_s: int | None, reason: str) -> None:
        kept = box.state
        time_s = kept.clock.time_s
        if time_s is None:
            time_s = stamp_s
        if time_s is None:
            return
        if reason != "late_batch" and (kept.breaking is None or reason != "start"):
            kept.breaking = reason
            box.changed = True
        self._broken_at(box, time_s, reason)

    def _broken_at(self, box: Box, time_s: int, reason: str) -> None:
        kept = box.state
        if reason not in ("start", "order") and (kept.disorder_s is None or time_s > kept.disorder_s):
            kept.disorder_s = time_s
            box.changed = True
        if kept.break_s is None or time_s > kept.break_s:
            kept.break_s = time_s
            box.changed = True
            self.count("esa_tls.feed.breaks", reason=reason)

    def break_feed(self, appliance: str | None = None) -> None:
        """The feed of an appliance (None: of all) is no longer unbroken: a batch was refused, or requests overlap."""
        for name, box in self.boxes.items():
            if appliance is None or appliance == name:
                self._break(box, None, "refused")

    def close_session(self, session: int, *, clean: bool) -> None:
        """A sender's session ended; not `clean`: it had a frame that was not acknowledged."""
        for name in self.sessions.pop(session, ()):
            box = self.boxes[name]
            box.sessions.discard(session)
            if not clean:
                self._break(box, None, "unclean_session")

    # -------------------------------------------------------------------------------------------------------------- prefixes

    def _prefix(self, stream: Stream, origin: Origin, text: str, raw: bytes, sender_s: float | None, flags: tuple[str, ...]) -> Prefix:
        """The prefix of a line that starts with none of the known ones."""
        framing = frame(text)
        prefixes = stream.prefixes[flags]
        if framing is not None:
            known = prefixes.get(text[: framing.length])
            if known is not None:
                return known
            if framing.month is None and stream.timed:
                framing = None
        if framing is None:
            return self._no_prefix(stream, origin, sender_s, flags)
        box = self._appliance_of(origin, framing)
        reference_s = self.settings.year_reference_s or self.now_s
        time_s = box.state.clock.time_s
        if framing.year is None and self.settings.hold_by_event_time and time_s is not None:
            reference_s = float(time_s + NEAREST_S)
        candidate_s = box.state.clock.candidate_s
        latest_s = time_s if candidate_s is None else candidate_s
        resolved = resolve(framing, zone=box.zone, reference_s=reference_s, appliance_time_s=latest_s)
        cached = framing.level is not None  # a line of the consolidated log may share the prefix of others up to their level
        if resolved is not None:
            stream.timed = True
            stamp_s, source = resolved.stamp_s, "line"
            if resolved.year_inferred:
                flags = (*flags, "year_inferred")
            cached = cached and not resolved.ambiguous
        else:
            stamp_s, source = (int(sender_s), "sender") if sender_s is not None else (int(self.now_s), "received")
            cached = False
        body_at = len(text[: framing.length].encode()) if not text[: framing.length].isascii() else framing.length
        lossy = origin.lossy if origin.lossy is not None else framing.syslog
        window_s = origin.reorder_window_s
        reorder_s = int(window_s) if window_s is not None else self.settings.reorder_window_s if lossy else 0
        log_name = framing.log_name or origin.log_name
        facts = PrefixFacts(
            appliance=box.state.name,
            stamp_s=stamp_s,
            level=framing.level,
            log_name=log_name,
            log_number=_number_of(box.state.log_names, log_name or ""),
            priority=framing.priority,
            appname=framing.appname,
            file_path=origin.file_path,
            time_source=source,
            flags=flags,
            lossy=lossy,
            reorder_s=reorder_s,
            id_mask=id_mask(box.state.name, log_name, stamp_s, raw[:body_at]),
            length=framing.length,
            body_at=body_at,
        )
        if framing.host and origin.trust_host and box.state.hostname is None:
            box.state.hostname = framing.host
            box.observer = box.state.observer()
        prefix = Prefix(facts, box, epoch=box.state.epoch)
        if cached:
            if len(prefixes) >= MAX_PREFIXES:
                prefixes.clear()
            prefixes[text[: framing.length]] = prefix
        return prefix

    def _no_prefix(self, stream: Stream, origin: Origin, sender_s: float | None, flags: tuple[str, ...]) -> Prefix:
        """A line without a known prefix: a continuation of the one before, or of an unknown kind. It is never parsed."""
        before = stream.last
        if before is not None:
            box = self.boxes.get(before.appliance) or self._box(Appliance(before.appliance))
            stamp_s, source, log_number, log_name = before.stamp_s, before.time_source, before.log_number, before.log_name
            flags = (*flags, "continuation")
        else:
            box = self._appliance_of(origin, None)
            stamp_s, source = (int(sender_s), "sender") if sender_s is not None else (int(self.now_s), "received")
            log_name = origin.log_name
            log_number = _number_of(box.state.log_names, log_name or "")
        facts = PrefixFacts(
            appliance=box.state.name,
            stamp_s=stamp_s,
            log_name=log_name,
            log_number=log_number,
            file_path=origin.file_path,
            time_source=source,
            flags=flags,
            id_mask=id_mask(box.state.name, log_name, stamp_s, b""),
        )
        return Prefix(facts, box, epoch=box.state.epoch)

    def _forget_prefixes(self, box: Box) -> None:
        """An epoch began: what is cached per prefix is no longer right."""
        box.used.clear()
        for prefixes in [known for stream in self.streams.values() for known in stream.prefixes.values()]:
            for text, prefix in list(prefixes.items()):
                if prefix.box is box:
                    del prefixes[text]

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
        box.state.candidate, box.candidate_s = Hold(line, prefix.facts, prefix.epoch, again), self.now_s
        if self.settings.emit_immediately:
            self._candidate_leaves(box)

    def _candidate_of(self, box: Box) -> Hold | None:
        kept = box.state.candidate
        if kept is None or isinstance(kept, Hold):
            return kept
        box.state.candidate = hold = msgspec.convert(kept, Hold)
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

    # ------------------------------------------------------------------------------------------------- lines of no text log

    def _odd(self, prefix: Prefix, line: Line) -> None:
        """No fact of a text mail log: a consolidated event, or a shape that nobody knows (counted, with a sample per shape)."""
        body = line.text[prefix.length :]
        if prefix.length and body.startswith("CEF:0|") and (event := parse_cef(body)) is not None:
            line.fact.action = "consolidated-event"
            record_id = prefix.time_id + f"{int(line.record_hash, 16) ^ CONSOLIDATED_MASK:018x}"
            record = consolidated(
                prefix.appliance,
                prefix.epoch,
                event,
                record_id=record_id,
                time_s=prefix.stamp_s,
                created=line.created,
                sequence=line.sequence,
            )
            self._summary("consolidated", record, prefix.stamp_s, "", "")
            return
        shape = shape_of(body)
        if shape in self.shapes or len(self.shapes) < MAX_SHAPES:
            self.shapes[shape] = self.shapes.get(shape, 0) + 1
        self.count("esa_tls.lines.unrecognised", shape=shape)

    def box_changed(self, box: Appliance) -> None:
        """Epoch or description changed (`correlate.Emit`)."""
        own = self.boxes[box.name]
        own.observer = box.observer()
        self._forget_prefixes(own)

    # ------------------------------------------------------------------------------------------------------------- summaries

    def connection(self, box: Appliance, entry: Connection, time_s: int) -> None:
        """A connection ended (`correlate.Emit`)."""
        leg = entry.leg
        record_id = summary_id(entry.first_s, box.name, leg.epoch, f"{leg.kind}CID", leg.number, 0)
        record = summaries.connection(
            box.name, entry, record_id=record_id, time_s=time_s, created=self.created, observer=self.boxes[box.name].observer
        )
        self._summary("connection", record, time_s, leg.outcome, "inbound" if leg.kind == "I" else "outbound")

    def delivery(self, box: Appliance, message: Message, attempt: Attempt, result: str, rids: list[int], time_s: int) -> None:
        """The RIDs of an attempt that had the same result (`correlate.Emit`)."""
        record_id = summary_id(attempt.first_s, box.name, message.epoch, "delivery", message.number, f"{attempt.ordinal}/{result}")
        record = summaries.delivery(
            box.name,
            message,
            attempt,
            result,
            rids,
            record_id=record_id,
            time_s=time_s,
            created=self.created,
            observer=self.boxes[box.name].observer,
        )
        self._summary("delivery", record, time_s, attempt.leg.outcome if attempt.leg else "", "outbound")

    def message(self, box: Appliance, entry: Message, time_s: int) -> None:
        """A message ended (`correlate.Emit`)."""
        record_id = summary_id(entry.first_s, box.name, entry.epoch, "MID", entry.number, 0)
        record = summaries.message(
            box.name, entry, record_id=record_id, time_s=time_s, created=self.created, observer=self.boxes[box.name].observer
        )
        self._summary("message", record, time_s, record["cisco_esa"]["posture"], "")

    def _summary(self, kind: str, record: dict[str, Any], time_s: int, outcome: str, direction: str) -> None:
        key = ("esa_tls.records", (("kind", kind), ("outcome", outcome), ("direction", direction)))
        self.counts[key] = self.counts.get(key, 0) + 1
        if self.expectations is not None:
            self.expectations.mark(kind, record)
        for each in self.encoders:
            if each.interleaved:
                self._encode_lines()
            each.summary(kind, record, time_s)

    def _encode_lines(self) -> None:
        """Lines that have left go to the encoders."""
        if self.leaving:
            for each in self.encoders:
                each.lines(self.leaving)
            self.leaving.clear()

    def count(self, name: str, n: int = 1, **labels: str) -> None:
        """A telemetry increment; drained by whoever runs the pipeline."""
        key = (name, tuple(labels.items()))
        self.counts[key] = self.counts.get(key, 0) + n

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
                    puts.append((waiting_key(box.state.name, sequence), _encode(waiting)))
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


def _number_of(names: list[str], name: str) -> int:
    """The number of a log name in the appliance's list, added if new; names beyond 65,000 share the last number."""
    try:
        return names.index(name)
    except ValueError:
        if len(names) < 65_000:
            names.append(name)
        return len(names) - 1
