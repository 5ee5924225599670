"""Correlation of one appliance: facts in, changed entries and ended summaries out.

`apply` takes the facts in order and answers which leg each line belongs to. Reception and delivery connections are handled here,
messages in `correlate_messages.py` and `correlate_attempts.py`; all change entries only through `Entries`. What is over leaves by
`emit_*`, once. Nothing here knows bytes, encodings, or the wall clock: `now_s` is always appliance time.
"""

from __future__ import annotations

from collections.abc import Callable
from sys import intern
from typing import Any, Final, Protocol

from esa_tls.core import connections
from esa_tls.core.appliance import Appliance
from esa_tls.core.connections import Connection, Leg
from esa_tls.core.correlate_messages import MessageRules
from esa_tls.core.entries import Entries, of_deadline
from esa_tls.core.facts import Fact
from esa_tls.core.grammar import failure_class
from esa_tls.core.messages import Attempt, Message, set_result
from esa_tls.core.records import ACTIONS
from esa_tls.core.state import State

LATE_S: Final = 300
"""A line stamped further behind the clock than this counts as heard of now."""

CONNECTION_TIMEOUT_S: Final = 900
CONNECTION_TOMBSTONE_S: Final = 3600

FLOWS: Final = {"ACCEPT": "incoming", "RELAY": "outgoing"}


class Emit(Protocol):
    """Where summaries go. `time_s` is the time of the line that ended it, or the deadline."""

    def connection(self, box: Appliance, entry: Connection, time_s: int) -> None:
        """A connection ended."""

    def delivery(self, box: Appliance, message: Message, attempt: Attempt, result: str, rids: list[int], time_s: int) -> None:
        """The RIDs of an attempt that had the same result."""

    def message(self, box: Appliance, entry: Message, time_s: int) -> None:
        """A message ended."""

    def count(self, name: str, n: int = 1, **labels: str) -> None:
        """A telemetry increment."""

    def box_changed(self, box: Appliance) -> None:
        """The appliance's epoch or description changed."""


class Correlator(MessageRules):
    """The state machine of one appliance.

    After `apply`: `connection` is the connection the line names, if it names one. `news` says that there is more: `late`, the line came
    after its summary left; `contradicted`, it contradicts a decision already taken; `decided` holds connections decided by this line; or
    an epoch has begun. Whoever heeds them takes them back.
    """

    def __init__(self, box: Appliance, state: State, emit: Emit, *, max_entries: int = 5_000_000, max_tombstones: int = 500_000) -> None:
        self.box = box
        self.emit = emit
        self.state = state
        self.max_entries = max_entries
        self.max_tombstones = max_tombstones
        self.entries = Entries(box.name, box.epoch, state, box.high)
        self.holding = self.entries.load()
        """Connections that lines were held for when the state was written."""
        self.connection: Connection | None = None
        self.news = False
        self.late = False
        self.contradicted = False
        self.decided: list[Connection] = []
        self.heard_s = 0
        """When entries named by the line were heard of (`note_time`)."""
        self.sequence = 0
        self.lossy = False
        self.handlers: dict[str, Callable[[Fact, int], Leg | None]] = {
            **dict.fromkeys(ACTIONS, self._other),
            "connection-opened": self._opened,
            "hat-decided": self._hat,
            "reputation-scored": self._hat,
            "hat-reject-delayed": self._hat_reject,
            "tls-succeeded": self._tls_succeeded,
            "tls-data-read": self._tls_succeeded,
            "tls-failed": self._tls_failed,
            "tls-required-failed": self._tls_failed,
            "starttls-not-supported": self._starttls_not_supported,
            "certificate-verified": self._certificate_verified,
            "connection-lost": self._lost,
            "connection-disconnected": self._lost,
            "receiving-failed": self._receiving_failed,
            "connection-error": self._connection_error,
            "connection-closed": self._closed,
            "connection-killed": self._closed,
            "connection-exited": self._closed,
            "version": self._version,
            **self.message_handlers(),
        }

    def apply(self, fact: Fact, now_s: int, *, sequence: int, lossy: bool) -> Leg | None:
        """Take one fact. Returns the leg the line belongs to, None if it belongs to no connection."""
        self.connection = None
        self.sequence = sequence
        self.lossy = lossy
        self.note_time(now_s)
        return self.handlers[fact.action](fact, now_s)

    def note_time(self, now_s: int) -> None:
        """Lines stamped so follow. One stamped far behind the clock counts as heard of now: time-outs run on appliance time."""
        clock_s = self.box.clock.time_s
        self.heard_s = now_s if clock_s is None or clock_s - now_s <= LATE_S else clock_s

    def locate(self, fact: Fact, now_s: int, *, lossy: bool) -> Leg | None:
        """The leg a line belongs to, without any effect (a line that was seen before)."""
        self.lossy = lossy
        self.connection = None
        if fact.dcid:
            entry = self.entries.outbound.get(fact.dcid) or self.entries.find_connection("D", fact.dcid)
        elif fact.dcid is None and fact.icid:
            entry = self.entries.inbound.get(fact.icid) or self.entries.find_connection("I", fact.icid)
        elif fact.dcid is None and fact.icid is None and fact.mid is not None:
            message = self.entries.messages.get(fact.mid) or self.entries.find_message(fact.mid)
            return None if message is None else self.leg_of_message_line(message, fact, now_s)
        else:
            return None
        if entry is None:
            return None
        self.connection = entry
        return entry.leg

    # ---------------------------------------------------------------------------------------------------- connection lines

    def _other(self, fact: Fact, now_s: int) -> Leg | None:
        """A line without effect of its own: it belongs to the connection it names, else to its message's."""
        if fact.dcid is not None:
            return self._touch("D", fact.dcid, now_s).leg if fact.dcid else None
        if fact.icid is not None:
            return self._touch("I", fact.icid, now_s).leg if fact.icid else None
        if fact.mid is not None:
            return self.message_line(fact, now_s)
        return None

    def _touch(self, kind: str, number: int, now_s: int) -> Connection:
        """The connection a line names, made if it is not known: on any line that names it."""
        entries = self.entries
        entry = (entries.inbound if kind == "I" else entries.outbound).get(number)
        if entry is None:
            entry = entries.find_connection(kind, number)
            if entry is None:
                entry = Connection(
                    Leg(kind, number, entries.epoch),
                    now_s,
                    now_s,
                    lossy=self.lossy,
                    first_sequence=self.sequence,
                    last_sequence=self.sequence,
                )
                entries.add(kind, number, entry)
                entries.schedule(kind, number, entry, now_s + CONNECTION_TIMEOUT_S)
                self.limit(entry)
        self.connection = entry
        if entry.gone:
            self.late = self.news = True
        else:
            entry.last_s = self.heard_s
            entry.last_sequence = self.sequence
        if self.lossy:
            entry.lossy = True
        if entry.break_s != self.box.break_s:
            entry.break_s = self.box.break_s
            self._recheck(entry)
        if not entry.dirty:
            entry.dirty = True
            entries.dirty.append(entry)
        return entry

    def _named(self, fact: Fact, now_s: int) -> Connection | None:
        """The connection of a connection-phase line; None for ICID 0 and DCID 0."""
        if fact.dcid is not None:
            return self._touch("D", fact.dcid, now_s) if fact.dcid else None
        return self._touch("I", fact.icid, now_s) if fact.icid else None

    def settled(self, entry: Connection) -> None:
        """If the connection is decided now and lines were held for it, they can go."""
        if entry.held and entry.leg.outcome != connections.PENDING:
            self.decided.append(entry)
            self.news = True

    def _opened(self, fact: Fact, now_s: int) -> Leg | None:
        kind, number = ("D", fact.dcid) if fact.dcid is not None else ("I", fact.icid)
        if not number:
            return None
        if self.box.note_id(kind, number, now_s):
            self.begin_epoch(now_s)
        entry = self._touch(kind, number, now_s)
        if entry.gone:
            return entry.leg
        values = fact.values or {}
        if not entry.start_seen and not entry.mail:
            entry.start_seen = True
            entry.start_s = now_s
        connections.describe(entry, peer=values.get("peer"), host=values.get("host"), port=values.get("port"))
        entry.interface = _common(values.get("interface")) or entry.interface
        entry.local_ip = _common(values.get("local_ip")) or entry.local_ip
        return entry.leg

    def _hat(self, fact: Fact, now_s: int) -> Leg | None:
        entry = self._named(fact, now_s)
        if entry is None:
            return None
        values = fact.values or {}
        policy = _common(values.get("policy"))
        if policy is not None:
            entry.policy = policy
            entry.flow = FLOWS.get(policy.upper())
        if values.get("sender_group") is not None and not entry.gone:
            connections.describe(entry, sender_group=values["sender_group"])
        entry.rule = _common(values.get("rule")) or entry.rule
        entry.country = _common(values.get("country")) or entry.country
        sbrs = values.get("sbrs")
        if isinstance(sbrs, int | float):
            entry.sbrs = float(sbrs)
        return entry.leg

    def _hat_reject(self, fact: Fact, now_s: int) -> Leg | None:
        entry = self._named(fact, now_s)
        if entry is None:
            return None
        entry.policy, entry.flow = "REJECT", None
        if fact.values and not entry.gone and entry.leg.peer is None:
            connections.describe(entry, peer=fact.values.get("peer"))
        return entry.leg

    def _tls_succeeded(self, fact: Fact, now_s: int) -> Leg | None:
        entry = self._named(fact, now_s)
        if entry is None:
            return None
        if fact.action == "tls-data-read" and entry.leg.outcome == connections.SUCCESS:
            return entry.leg
        before = entry.leg
        proof = fact.action == "tls-data-read"
        contradicts = connections.tls_succeeded(entry, now_s, fact.values, feed=self.box, proof=proof)
        self._corrected(entry, before, contradicts=contradicts)
        if proof and fact.mid is not None:
            self.proved(fact.mid, entry.leg)
        self.settled(entry)
        return entry.leg

    def _tls_failed(self, fact: Fact, now_s: int) -> Leg | None:
        entry = self._named(fact, now_s)
        if entry is None:
            return None
        values = fact.values or {}
        reason = _text(values.get("reason"))
        required = fact.action == "tls-required-failed"
        before = entry.leg
        word = failure_class(fact.action, reason or "") if entry.leg.kind == "I" or not required else "required_not_negotiated"
        contradicts = connections.tls_failed(entry, now_s, required=required, failure_class=word, reason=reason, feed=self.box)
        self._corrected(entry, before, contradicts=contradicts)
        if entry.leg.peer is None and values.get("peer") is not None:
            connections.describe(entry, peer=values["peer"])
        self.settled(entry)
        return entry.leg

    def _corrected(self, entry: Connection, before: Leg, *, contradicts: bool) -> None:
        """A TLS line came. After mail was started: every message and attempt not yet out takes the corrected leg."""
        if contradicts:
            self.contradicted = self.news = True
            self.emit.count("esa_tls.contradictions")
        elif not (entry.leg.kind == "D" and entry.mail and entry.leg.outcome != before.outcome):
            return
        for mid in entry.mids:
            message = self.entries.find_message(mid)
            if message is not None:
                self.correct(message, entry, before, contradicts=contradicts)

    def _starttls_not_supported(self, fact: Fact, now_s: int) -> Leg | None:
        entry = self._named(fact, now_s)
        if entry is None:
            return None
        connections.starttls_not_offered(entry)
        return entry.leg

    def _certificate_verified(self, fact: Fact, now_s: int) -> Leg | None:
        entry = self._named(fact, now_s)
        if entry is None:
            return None
        connections.describe(entry, verified=True)
        return entry.leg

    def _lost(self, fact: Fact, now_s: int) -> Leg | None:
        entry = self._named(fact, now_s)
        if entry is None or entry.gone:
            return entry.leg if entry else None
        entry.doubtful = True
        entry.end_s = now_s
        entry.lost = entry.lost or fact.action == "connection-lost"
        entry.end = "lost" if fact.action == "connection-lost" else "disconnected"
        if fact.values and entry.leg.peer is None:
            connections.describe(entry, peer=fact.values.get("peer"))
        return entry.leg

    def _receiving_failed(self, fact: Fact, now_s: int) -> Leg | None:
        entry = self._named(fact, now_s)
        if entry is None or entry.gone:
            return entry.leg if entry else None
        entry.doubtful = True
        entry.end, entry.end_s = "error", now_s
        entry.error_reason = _text((fact.values or {}).get("reason"))
        return entry.leg

    def _connection_error(self, fact: Fact, now_s: int) -> Leg | None:
        entry = self._named(fact, now_s)
        if entry is None:
            return None
        values = fact.values or {}
        if entry.gone:
            return entry.leg
        entry.doubtful = True
        entry.end, entry.end_s = "error", now_s
        entry.error_reason = _text(values.get("reason")) or entry.error_reason
        entry.error_details = _text(values.get("details")) or entry.error_details
        entry.for_domain = _text(values.get("domain")) or entry.for_domain
        if entry.leg.peer is None:
            connections.describe(entry, peer=values.get("peer"), port=values.get("port"))
        for mid in entry.open_mids:
            message = self.entries.find_message(mid)
            if message is None:
                continue
            self.change(message)
            for attempt in message.attempts:
                if attempt.dcid == entry.leg.number and not attempt.emitted:
                    for rid in attempt.rids:
                        if rid not in attempt.results:
                            set_result(message, attempt, rid, "connection_error", now_s)
                    attempt.sequence = self.sequence
            self.reschedule(message)
        return entry.leg

    def _version(self, fact: Fact, now_s: int) -> Leg | None:
        del now_s
        values = fact.values or {}
        version, serial = _text(values.get("version")), _text(values.get("serial_number"))
        if (version, serial) != (self.box.version, self.box.serial_number):
            self.box.version, self.box.serial_number = version or self.box.version, serial or self.box.serial_number
            self.emit.box_changed(self.box)
        return None

    def _closed(self, fact: Fact, now_s: int) -> Leg | None:
        entry = self._named(fact, now_s)
        if entry is None or entry.gone:
            return entry.leg if entry else None
        self.finish_connection(entry, "close" if fact.action == "connection-closed" else "killed", now_s)
        return entry.leg

    def finish_connection(self, entry: Connection, end: str, time_s: int) -> None:
        """The connection is over: what is undecided is decided, its open deliveries and its record leave, a tombstone stays."""
        entry.end = end
        shaky = connections.rests_on_absence(entry.leg)
        connections.ended(entry, self.box)
        leg = entry.leg
        if shaky and not connections.rests_on_absence(leg):
            self._weaken(entry)
        self.settled(entry)
        for mid in entry.open_mids:
            message = self.entries.find_message(mid)
            if message is not None and not message.gone:
                for attempt in message.attempts:
                    if attempt.dcid == leg.number and not attempt.emitted:
                        self.emit_attempt(message, attempt, time_s)
                self.reschedule(message)
        self.emit.connection(self.box, entry, time_s)
        entry.open_mids = ()
        self.entries.bury(leg.kind, leg.number, entry, max(time_s, entry.last_s) + CONNECTION_TOMBSTONE_S)
        self._bound_tombstones()

    def _recheck(self, entry: Connection) -> None:
        """The feed has broken since the last line of the connection."""
        if not entry.gone and connections.doubtful_now(entry, entry.leg, self.box):
            entry.leg = connections.weakened(entry.leg)
            self._weaken(entry)

    def _weaken(self, entry: Connection) -> None:
        """The feed broke while the connection was open: what its messages say of it rests on no more than it does itself."""
        for mid in entry.mids:
            message = self.entries.find_message(mid)
            if message is not None and not message.gone:
                self.weaken(message, entry.leg)

    # ----------------------------------------------------------------------------------------------------------- deadlines

    def expire(self, now_s: int) -> None:
        """Do what is due at appliance time `now_s`, in order of the deadlines."""
        entries = self.entries
        while (due := entries.pop_due(now_s)) is not None:
            kind, number, entry = due
            if entry.gone:
                entries.delete(kind, number)
            elif isinstance(entry, Message):
                self.message_due(entry, now_s)
            else:
                due_s = entry.last_s + CONNECTION_TIMEOUT_S
                if due_s > now_s:
                    entries.schedule(kind, number, entry, due_s)
                else:
                    self.finish_connection(entry, entry.end or "timeout", due_s)

    def limit(self, made: Connection | Message) -> None:
        """More open entries than `max_entries`: the one whose deadline is nearest is evicted, with that reason in its record.

        `made` is the newest: the line that made it is about it, so it stays.
        """
        counts = self.entries.open_count
        spared: tuple[str, int, int] | None = None
        while counts["I"] + counts["D"] + counts["M"] > self.max_entries:
            due_s = of_deadline(self.entries.heap[0])[0] if self.entries.heap else 0
            due = self.entries.pop_due(1 << 62)
            if due is None:
                break
            kind, number, entry = due
            if entry is made:
                spared = (kind, number, due_s)
                continue
            if entry.gone:
                self.entries.delete(kind, number)
                continue
            self.emit.count("esa_tls.evictions", reason="max_entries")
            time_s = self.box.clock.time_s or entry.last_s
            if isinstance(entry, Message):
                self.finish_message(entry, "evicted", time_s)
            else:
                self.finish_connection(entry, "evicted", time_s)
        if spared is not None:
            kind, number, due_s = spared
            self.entries.schedule(kind, number, made, due_s)

    def _bound_tombstones(self) -> None:
        tombstones = self.entries.tombstones
        while len(tombstones) > self.max_tombstones:
            kind, number = tombstones.popleft()
            entry: Any = self.entries.find_message(number) if kind == "M" else self.entries.find_connection(kind, number)
            if entry is not None and entry.gone:
                self.entries.delete(kind, number)

    # -------------------------------------------------------------------------------------------------------- ends of all

    def end_all(self, reason: str, time_s: int) -> None:
        """Every open entry ends (`stream_end`, `epoch_reset`), in the order in which they began."""
        found = [(entry.first_sequence, kind, entry) for kind, _, entry in self.entries.all() if not entry.gone]
        for _, _, entry in sorted(found, key=lambda item: item[:2]):
            if entry.gone:
                continue
            if not entry.dirty:
                entry.dirty = True
                self.entries.dirty.append(entry)
            if isinstance(entry, Message):
                self.finish_message(entry, entry.end or reason, entry.end_s or max(time_s, entry.last_s))
            else:
                self.finish_connection(entry, reason, max(time_s, entry.last_s))

    def begin_epoch(self, now_s: int) -> None:
        """The counters were reset: old open entries end by `epoch_reset`, tombstones go, new ids are new keys."""
        self.end_all("epoch_reset", self.box.clock.time_s or now_s)
        for kind, number, _ in self.entries.all():
            self.entries.delete(kind, number)
        self.box.begin_epoch()
        old = self.entries
        self.entries = Entries(self.box.name, self.box.epoch, self.state, self.box.high)
        self.entries.deleted.update(old.deleted)
        self.entries.underway = old.underway
        self.news = True
        self.emit.count("esa_tls.epoch_resets")
        self.emit.box_changed(self.box)


def _text(value: object) -> str | None:
    return str(value) if value is not None and value != "" else None


def _common(value: object) -> str | None:
    """The same for texts that many connections share: kept once."""
    return intern(str(value)) if value is not None and value != "" else None
