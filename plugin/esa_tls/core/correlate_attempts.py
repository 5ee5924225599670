"""The delivery half of what lines do that name a MID: finding the message, its attempts, their results and records.

Below `MessageRules`, which goes on to the rest of a message; `Correlator` owns the entries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from esa_tls.core import connections, messages
from esa_tls.core.connections import Connection, Leg
from esa_tls.core.facts import Fact, Value
from esa_tls.core.messages import Attempt, Message, attempt_on, last_attempt, set_result, settle_leg

if TYPE_CHECKING:
    from esa_tls.core.appliance import Appliance
    from esa_tls.core.correlate import Emit
    from esa_tls.core.entries import Entries

NEAR_S: Final = 30
"""A `Response` or `pending till` comes so soon after the last word on its attempt."""

_DELIVERY_PHASE: Final = frozenset(
    {"delivery-response", "delivery-pending", "delivery-bounced", "delivery-delayed", "delivery-double-bounced"}
)
"""Actions of lines that belong to a delivery, though they name a MID only."""


class AttemptRules(ABC):
    """What lines do to the delivery attempts of a message."""

    box: Appliance
    emit: Emit
    entries: Entries
    connection: Connection | None
    late: bool
    news: bool
    heard_s: int
    sequence: int
    lossy: bool

    @abstractmethod
    def _touch(self, kind: str, number: int, now_s: int) -> Connection:
        """The connection a line names."""

    @abstractmethod
    def settled(self, entry: Connection) -> None:
        """See `Correlator`."""

    @abstractmethod
    def limit(self, made: Connection | Message) -> None:
        """See `Correlator`."""

    # ------------------------------------------------------------------------------------------------------------- finding

    def change(self, message: Message) -> None:
        """The message will be written with this group."""
        if not message.dirty:
            message.dirty = True
            self.entries.dirty.append(message)

    def reschedule(self, message: Message) -> None:
        """Something nearer than the time-out may be due now."""
        if not message.gone:
            self.entries.hasten("M", message.number, message, messages.due_s(message))

    def _known(self, fact: Fact) -> Message | None:
        """The message of a line that opens none. A tombstone takes no more facts, but the line still belongs to it."""
        mid = fact.mid
        if mid is None:
            return None
        message = self.entries.messages.get(mid)
        if message is None:
            message = self.entries.find_message(mid)
            if message is None:
                return None
        if message.gone:
            self.late = self.news = True
            return message
        self._heard(message)
        return message

    def _heard(self, message: Message) -> None:
        """A line about an open message."""
        message.last_s = self.heard_s
        message.last_sequence = self.sequence
        if not message.dirty:
            message.dirty = True
            self.entries.dirty.append(message)

    def _open(self, mid: int, now_s: int) -> Message:
        """The message of a line that may be the first of its MID that is seen."""
        message = self.entries.messages.get(mid) or self.entries.find_message(mid)
        if message is None:
            message = Message(mid, self.entries.epoch, now_s, now_s, first_sequence=self.sequence, last_sequence=self.sequence)
            self.entries.add("M", mid, message)
            self.entries.schedule("M", mid, message, now_s + messages.MESSAGE_TIMEOUT_S)
            self.limit(message)
        elif message.gone:
            self.late = self.news = True
            return message
        self._heard(message)
        return message

    def message_line(self, fact: Fact, now_s: int) -> Leg | None:
        """A line that names only a MID and changes nothing."""
        message = self._known(fact)
        return None if message is None else self.leg_of_message_line(message, fact, now_s)

    def no_effect(self, fact: Fact, now_s: int) -> Leg | None:
        """The same, outside the delivery phase. More than a third of all lines are such, so this is `_known`, written out."""
        del now_s
        entries = self.entries
        message = entries.messages.get(fact.mid)  # type: ignore[arg-type]
        if message is None:
            message = None if fact.mid is None else entries.find_message(fact.mid)
            if message is None:
                return None
        if message.gone:
            self.late = self.news = True
        else:
            message.last_s = self.heard_s
            message.last_sequence = self.sequence
            if not message.dirty:
                message.dirty = True
                entries.dirty.append(message)
        return message.reception

    def leg_of_message_line(self, message: Message, fact: Fact, now_s: int) -> Leg | None:
        """The connection of a MID line: the reception as it was for this message; in the delivery phase the last attempt of the RIDs."""
        if fact.action in _DELIVERY_PHASE:
            attempt = self._attempt_of(message, fact.rids, now_s)
            return None if attempt is None else self._leg_of(attempt)
        return message.reception

    def _attempt_of(self, message: Message, rids: tuple[int, ...] | None, now_s: int) -> Attempt | None:
        """The last attempt for any of the RIDs: what lines of the delivery phase without a DCID belong to.

        Where lines may have been lost or come late it must have been under way when the line was written: another one may be missing.
        """
        disorder_s = self.box.disorder_s
        if not self.lossy and (disorder_s is None or now_s - connections.FEED_QUIET_S > disorder_s):
            return last_attempt(message, rids)
        for attempt in reversed(message.attempts):
            near = attempt.first_s <= now_s <= attempt.last_s + NEAR_S
            if near and (not rids or messages.carries(attempt, rids)):
                return attempt
        return None

    def _leg_of(self, attempt: Attempt) -> Leg | None:
        """The present leg of an attempt's connection: a TLS line covers every attempt on it."""
        if attempt.dcid and not attempt.emitted:
            entry = self.entries.outbound.get(attempt.dcid) or self.entries.find_connection("D", attempt.dcid)
            if entry is not None and entry.leg.outcome != connections.PENDING:
                attempt.leg = entry.leg
        return attempt.leg

    # ------------------------------------------------------------------------------------------------------------ delivery

    def _delivery_connection(self, dcid: int, message: Message, now_s: int, *, begun: bool) -> Connection:
        """Mail is on its way on this DCID: its TLS is decided now, if it was not. `begun`: this line is the first of its attempt."""
        entry = self._touch("D", dcid, now_s)
        if not entry.gone:
            connections.mail_started(entry, now_s, self.box)
            self.settled(entry)
            if begun:
                note_mid(entry, message.number)
        return entry

    def _delivery_started(self, fact: Fact, now_s: int) -> Leg | None:
        assert fact.mid is not None
        message = self._open(fact.mid, now_s)
        if not fact.dcid:
            return None
        if message.gone:
            return self._touch("D", fact.dcid, now_s).leg
        rids = list(fact.rids or ())
        here = [one for one in message.attempts if one.dcid == fact.dcid and not one.emitted]
        underway = {rid for one in here for rid in one.rids if rid not in one.results}
        said_before = bool(underway) and all(rid in underway for rid in rids)
        rids = [rid for rid in rids if rid not in underway]
        entry = self._delivery_connection(fact.dcid, message, now_s, begun=not said_before)
        if said_before:
            return entry.leg
        attempt = messages.add_attempt(message, fact.dcid, rids, now_s, leg=entry.leg, start_seen=True)
        attempt.sequence = self.sequence
        if not entry.gone and message.number not in entry.open_mids:
            entry.open_mids = (*entry.open_mids, message.number)
        return entry.leg

    def _delivery_done(self, fact: Fact, now_s: int) -> Leg | None:
        assert fact.mid is not None
        message = self._open(fact.mid, now_s)
        if not fact.dcid:
            return None
        if message.gone:
            return self._touch("D", fact.dcid, now_s).leg
        attempt = attempt_on(message, fact.dcid, fact.rids)
        entry = self._delivery_connection(fact.dcid, message, now_s, begun=attempt is None)
        if attempt is None:
            attempt = messages.add_attempt(message, fact.dcid, list(fact.rids or ()), now_s, leg=entry.leg, start_seen=False)
            if not entry.gone:
                entry.open_mids = (*entry.open_mids, message.number)
        result = "delivered" if fact.action == "delivery-done" else "uncertain"
        for rid in fact.rids or ():
            set_result(message, attempt, rid, result, now_s)
        attempt.sequence = self.sequence
        if attempt.emitted:
            settle_leg(message, attempt)
        self._attempt_progress(message, attempt, now_s)
        return entry.leg

    def _delivery_failed(self, fact: Fact, now_s: int) -> Leg | None:
        """`Bounced` and `Delayed`, with a DCID or without; on a DCID whose TLS failed with no Delivery start: `tls_blocked`."""
        assert fact.mid is not None
        message = self._open(fact.mid, now_s)
        values = fact.values or {}
        entry = self._touch("D", fact.dcid, now_s) if fact.dcid else None
        if message.gone:
            return entry.leg if entry else None
        bounced = fact.action == "delivery-bounced"
        result = "bounced" if bounced else "delayed"
        rids = fact.rids or ()
        attempt: Attempt | None = None
        if entry is not None:
            attempt = attempt_on(message, fact.dcid, rids)
            if attempt is None:
                attempt = next((one for one in message.attempts if one.dcid == fact.dcid and not one.start_seen and not one.emitted), None)
            if attempt is None:
                attempt = messages.add_attempt(message, fact.dcid, list(rids), now_s, leg=entry.leg, start_seen=False)
                note_mid(entry, message.number, mail=False)
                if not entry.gone:
                    entry.open_mids = (*entry.open_mids, message.number)
            if not attempt.start_seen and not entry.mail and entry.leg.outcome == connections.FAILED:
                result = "tls_blocked"
        elif fact.dcid is None:
            attempt = self._attempt_of(message, rids, now_s)
            if attempt is not None and attempt.emitted:
                attempt = None
        for rid in rids:
            set_result(message, attempt, rid, result, now_s, final=bounced)
        if attempt is not None:
            attempt.sequence = self.sequence
            said = _failure(values)
            for rid in rids:
                attempt.failures.setdefault(rid, said)
            self._attempt_progress(message, attempt, now_s)
        else:
            self.reschedule(message)
        if entry is not None:
            return entry.leg
        return self.leg_of_message_line(message, fact, now_s) if fact.dcid is None else None

    def _response(self, fact: Fact, now_s: int) -> Leg | None:
        message = self._known(fact)
        if message is None:
            return None
        attempt = self._attempt_of(message, fact.rids, now_s)
        if attempt is None:
            return None
        if not message.gone and not attempt.emitted:
            values = fact.values or {}
            attempt.responded = True
            attempt.response = str(values["response"]) if values.get("response") is not None else attempt.response
            code, enhanced = values.get("code"), values.get("enhanced_code")
            attempt.code = code if isinstance(code, int) else attempt.code
            attempt.enhanced_code = str(enhanced) if enhanced is not None else attempt.enhanced_code
            attempt.sequence = self.sequence
            self._attempt_progress(message, attempt, now_s)
        return self._leg_of(attempt)

    def _pending(self, fact: Fact, now_s: int) -> Leg | None:
        message = self._known(fact)
        if message is None:
            return None
        attempt = self._attempt_of(message, fact.rids, now_s)
        if attempt is None:
            return None
        if not message.gone and not attempt.emitted:
            attempt.retry_at = str((fact.values or {}).get("retry_at", "")) or None
        return self._leg_of(attempt)

    def _rpc_started(self, fact: Fact, now_s: int) -> Leg | None:
        assert fact.mid is not None
        message = self._open(fact.mid, now_s)
        if not message.gone and attempt_on(message, None, fact.rids) is None:
            self._rpc_attempt(message, fact, now_s, start_seen=True)
        return None

    def _rpc_done(self, fact: Fact, now_s: int) -> Leg | None:
        """Into a spam quarantine: no connection, no TLS outcome."""
        assert fact.mid is not None
        message = self._open(fact.mid, now_s)
        if message.gone:
            return None
        attempt = attempt_on(message, None, fact.rids) or self._rpc_attempt(message, fact, now_s, start_seen=False)
        message.ever_quarantined = True
        for rid in list(fact.rids or attempt.rids):
            set_result(message, attempt, rid, "quarantined", now_s)
        attempt.sequence = self.sequence
        self._attempt_progress(message, attempt, now_s)
        return None

    def _rpc_attempt(self, message: Message, fact: Fact, now_s: int, *, start_seen: bool) -> Attempt:
        rids = list(fact.rids) if fact.rids else [known.rid for known in message.recipients if not known.final]
        attempt = messages.add_attempt(message, None, rids, now_s, leg=None, start_seen=start_seen)
        attempt.sequence = self.sequence
        return attempt

    def _attempt_progress(self, message: Message, attempt: Attempt, now_s: int) -> None:
        """The attempt's record leaves when all results and the Response are in, else 2 s after the last result."""
        if not attempt.emitted and messages.answered(attempt):
            self.emit_attempt(message, attempt, now_s)
        self.reschedule(message)

    def emit_attempt(self, message: Message, attempt: Attempt, time_s: int) -> None:
        """The delivery records of an attempt leave: one per result."""
        attempt.leg = self._leg_of(attempt)
        attempt.emitted = True
        time_s = max(time_s, attempt.last_s)
        if attempt.leg is not None and attempt.leg.outcome == connections.PENDING:
            # Its Delivery start was not seen, so other lines may be missing as well; the connection itself stays undecided.
            attempt.leg = connections.undecided(attempt.leg)
        if attempt.leg is not None and connections.rests_on_absence(attempt.leg):
            attempt.leg = self._as_evident(attempt.leg)
        settle_leg(message, attempt)
        self.change(message)
        for result, rids in messages.results_of(attempt).items():
            self.emit.delivery(self.box, message, attempt, result, rids, time_s)
        if attempt.dcid:
            entry = self.entries.find_connection("D", attempt.dcid)
            still_open = any(one.dcid == attempt.dcid and not one.emitted for one in message.attempts)
            if entry is not None and not entry.gone and not still_open and message.number in entry.open_mids:
                entry.open_mids = tuple(mid for mid in entry.open_mids if mid != message.number)
                if not entry.dirty:
                    entry.dirty = True
                    self.entries.dirty.append(entry)

    def _as_evident(self, leg: Leg) -> Leg:
        """A leg that rests on absence, on its way into a record: the feed may have broken since, while the connection was open."""
        entry = self.entries.find_connection(leg.kind, leg.number)
        if entry is not None and not entry.gone and connections.doubtful_now(entry, leg, self.box):
            return connections.weakened(leg)
        return leg


def _failure(values: dict[str, Value]) -> tuple[int | None, str | None, str | None, str | None]:
    """(code, enhanced code, reason, response) of a `Bounced` or `Delayed` line."""
    code, enhanced, reason, response = (values.get(name) for name in ("code", "enhanced_code", "reason", "response"))
    return (
        code if isinstance(code, int) else None,
        str(enhanced) if enhanced is not None else None,
        str(reason) if reason is not None else None,
        str(response) if response is not None else None,
    )


def note_mid(entry: Connection, mid: int, *, mail: bool = True) -> None:
    """Remember which messages the connection carried (`mail`) or was to carry; the list is cut, the count is not."""
    if mid not in entry.mids:
        if mail:
            entry.mid_count += 1
        if len(entry.mids) < 100:
            entry.mids = (*entry.mids, mid)
