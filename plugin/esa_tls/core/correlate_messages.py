"""The message half of correlation: MID, reception, RIDs, children, ends. Mixed into `Correlator`, which owns the entries."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Final

from esa_tls.core import connections, messages
from esa_tls.core.connections import Connection, Leg
from esa_tls.core.correlate_attempts import AttemptRules, note_mid
from esa_tls.core.facts import Fact
from esa_tls.core.messages import (
    Message,
    all_final,
    complete,
    end_all,
    last_attempt,
    recipient,
    set_result,
    settle_leg,
)

MESSAGE_TOMBSTONE_S: Final = 86400
QUARANTINE_TOMBSTONE_S: Final = 45 * 86400

INHERITING: Final = frozenset({"split", "rewritten", "copy", "reinjected"})
"""Children that carry on the mail that was received; `bounce` and `notify` are new mail made on the box."""

_WITHOUT_EFFECT: Final = (
    "engine-verdict",
    "authentication-verdict",
    "attachment",
    "url",
    "custom-log-entry",
    "message-queued",
    "scan-skipped",
)
"""Actions of lines that change nothing and always name a MID alone: all others of that sort are found out by `Correlator._other`."""

_CHILD_KINDS: Final = {
    "message-split": "split",
    "message-rewritten": "rewritten",
    "message-copied": "copy",
    "bounce-generated": "bounce",
    "message-reinjected": "reinjected",
}


class MessageRules(AttemptRules):
    """What lines that name a MID do."""

    @abstractmethod
    def begin_epoch(self, now_s: int) -> None:
        """See `Correlator`."""

    @abstractmethod
    def _bound_tombstones(self) -> None:
        """Not more tombstones than are kept."""

    def message_handlers(self) -> dict[str, Callable[[Fact, int], Leg | None]]:
        """Action -> what it does."""
        return {
            "message-started": self._started,
            "sender-accepted": self._sender,
            "recipient-accepted": self._recipient,
            "message-id": self._message_id,
            "subject": self._subject,
            "message-received": self._received,
            "policy-matched": self._policy,
            "message-quarantined": self._quarantined,
            "quarantine-released": self._released,
            "quarantine-deleted": self._quarantine_deleted,
            "message-finished": self._finished,
            "message-aborted": self._aborted,
            "message-dropped": self._whole_message,
            "message-bounced": self._whole_message,
            "recipient-dropped": self._recipient_ended,
            "recipient-bounced": self._recipient_ended,
            "recipients-deleted": self._recipient_ended,
            "delivery-double-bounced": self._recipient_ended,
            "message-split": self._child,
            "message-rewritten": self._child,
            "message-copied": self._child,
            "bounce-generated": self._child,
            "message-reinjected": self._child,
            "delivery-started": self._delivery_started,
            "delivery-done": self._delivery_done,
            "delivery-uncertain": self._delivery_done,
            "delivery-bounced": self._delivery_failed,
            "delivery-delayed": self._delivery_failed,
            "delivery-response": self._response,
            "delivery-pending": self._pending,
            "rpc-delivery-started": self._rpc_started,
            "rpc-delivery-done": self._rpc_done,
            **dict.fromkeys(_WITHOUT_EFFECT, self.no_effect),
        }

    # ----------------------------------------------------------------------------------------------------------- reception

    def _started(self, fact: Fact, now_s: int) -> Leg | None:
        assert fact.mid is not None
        if self.box.note_id("M", fact.mid, now_s):
            self.begin_epoch(now_s)
        message = self._open(fact.mid, now_s)
        if message.gone or message.start_seen:
            return message.reception if fact.icid else None
        message.start_seen = True
        message.start_s = now_s
        return self._tie(message, fact.icid, now_s)

    def _tie(self, message: Message, icid: int | None, now_s: int) -> Leg | None:
        """Join the message to its reception. ICID 0: made on the box; its parent line, if any, says more. Such a line has no connection."""
        if icid is None or message.icid:
            return message.reception if icid != 0 else None
        if icid == 0:
            if message.icid is None:
                message.icid = 0
                if message.parent_mid is None:
                    message.internal = True
                    message.flow = message.flow or "internal"
            return None
        entry = self._touch("I", icid, now_s)
        message.icid = entry.leg.number  # the same number, but the one object
        entry.end = None if entry.end == "error" and not entry.gone else entry.end
        if not entry.gone:
            connections.mail_started(entry, now_s, self.box)
            self.settled(entry)
        message.internal = False
        leg = connections.leg_at(entry, now_s, self.box)
        # A connection whose record left without a decision (it cannot be) would say pending: mail never does.
        message.reception = leg if leg.outcome != connections.PENDING else None
        if message.flow is None or message.flow == "internal":
            message.flow = entry.flow
        note_mid(entry, message.number)
        return leg

    def _sender(self, fact: Fact, now_s: int) -> Leg | None:
        message, leg = self._envelope_line(fact, now_s)
        if not message.gone:
            message.sender = str((fact.values or {}).get("address", ""))
        return leg

    def _recipient(self, fact: Fact, now_s: int) -> Leg | None:
        message, leg = self._envelope_line(fact, now_s)
        if not message.gone and fact.rids:
            address = (fact.values or {}).get("address")
            known = recipient(message, fact.rids[0])
            known.address = str(address) if address is not None else known.address
            if message.child_kind == "split":
                self._move_to_split(message)
        return leg

    def _envelope_line(self, fact: Fact, now_s: int) -> tuple[Message, Leg | None]:
        """Lines 57 and 58 name MID and ICID: they open the message, and tie it if `Start MID` was missed."""
        assert fact.mid is not None
        message = self._open(fact.mid, now_s)
        if message.gone:
            return message, message.reception if fact.icid else None
        if message.icid is None and fact.icid is not None:
            return message, self._tie(message, fact.icid, now_s)
        if fact.icid:
            entry = self._touch("I", fact.icid, now_s)
            return message, message.reception if message.icid == fact.icid else entry.leg
        return message, None

    def _message_id(self, fact: Fact, now_s: int) -> Leg | None:
        message = self._known(fact)
        if message is None:
            return None
        if not message.gone and fact.values:
            message.message_id = str(fact.values["message_id"])
        return message.reception

    def _subject(self, fact: Fact, now_s: int) -> Leg | None:
        message = self._known(fact)
        if message is None:
            return None
        if not message.gone and fact.values:
            message.subject = str(fact.values["subject"])
        return message.reception

    def _received(self, fact: Fact, now_s: int) -> Leg | None:
        assert fact.mid is not None
        message = self._open(fact.mid, now_s)
        if not message.gone and fact.values:
            size = fact.values.get("size_bytes")
            message.size_bytes = size if isinstance(size, int) else None
            if message.sender is None and fact.values.get("address") is not None:
                message.sender = str(fact.values["address"])
        return message.reception

    def _policy(self, fact: Fact, now_s: int) -> Leg | None:
        message = self._known(fact)
        if message is None:
            return None
        if not message.gone and fact.values:
            policy = fact.values.get("mail_policy")
            message.mail_policy = str(policy) if policy is not None else message.mail_policy
            self._flow_from_table(message, fact.values.get("table"))
        return message.reception

    @staticmethod
    def _flow_from_table(message: Message, table: object) -> None:
        if table in ("inbound", "outbound"):
            message.flow = "incoming" if table == "inbound" else "outgoing"
            message.flow_from_policy = True

    # ------------------------------------------------------------------------------------------- scanning, quarantine, ends

    def _quarantined(self, fact: Fact, now_s: int) -> Leg | None:
        message = self._known(fact)
        if message is None:
            return None
        if not message.gone:
            message.ever_quarantined = True
            name = str((fact.values or {}).get("quarantine", ""))
            if name not in message.quarantines and len(message.quarantines) < 100:
                message.quarantines = (*message.quarantines, name)
            self.reschedule(message)
        return message.reception

    def _released(self, fact: Fact, now_s: int) -> Leg | None:
        message = self._known(fact)
        if message is None:
            return None
        if not message.gone:
            self._leave_quarantine(message, fact)
            self.reschedule(message)
        return message.reception

    @staticmethod
    def _leave_quarantine(message: Message, fact: Fact) -> None:
        name = (fact.values or {}).get("quarantine")
        if name in message.quarantines:
            message.quarantines = tuple(one for one in message.quarantines if one != name)
        elif name is None:
            message.quarantines = ()

    def _quarantine_deleted(self, fact: Fact, now_s: int) -> Leg | None:
        message = self._known(fact)
        if message is None:
            return None
        if not message.gone:
            self._leave_quarantine(message, fact)
            if not message.quarantines:
                end_all(message, "deleted")
            self.reschedule(message)
        return message.reception

    def _finished(self, fact: Fact, now_s: int) -> Leg | None:
        message = self._known(fact)
        if message is None:
            return None
        if not message.gone:
            aborted = message.aborted or (fact.values or {}).get("how") == "aborted"
            message.end = "aborted" if aborted else "finished"
            message.end_s = now_s
            if aborted:
                end_all(message, "dropped")
            if message.quarantines:
                end_all(message, "quarantined")
            self.reschedule(message)
        return message.reception

    def _aborted(self, fact: Fact, now_s: int) -> Leg | None:
        message = self._known(fact)
        if message is None:
            return None
        if not message.gone:
            reason = str((fact.values or {}).get("reason", "")) or None
            message.aborted = True
            message.end_reason = message.end_reason or reason
            end_all(message, "bounced" if reason is not None and reason.startswith("Bounced") else "dropped")
            if message.end_s:
                message.end = "aborted"
            self.reschedule(message)
        return message.reception

    def _whole_message(self, fact: Fact, now_s: int) -> Leg | None:
        message = self._known(fact)
        if message is None:
            return None
        if not message.gone:
            end_all(message, "dropped" if fact.action == "message-dropped" else "bounced")
            message.end_reason = message.end_reason or str((fact.values or {}).get("reason", "")) or None
            self.reschedule(message)
        return message.reception

    def _recipient_ended(self, fact: Fact, now_s: int) -> Leg | None:
        message = self._known(fact)
        if message is None:
            return None
        leg = self.leg_of_message_line(message, fact, now_s)
        if not message.gone:
            result = {"recipient-bounced": "bounced", "recipients-deleted": "deleted"}.get(fact.action, "dropped")
            for rid in fact.rids or ():
                attempt = last_attempt(message, (rid,))
                if attempt is not None and not attempt.emitted:
                    # A double bounce: the attempt bounced, and there is nobody left to tell.
                    known = recipient(message, rid)
                    word = known.result if known.final else result
                    set_result(message, attempt, rid, "bounced" if result == "dropped" else result, now_s)
                    known.result = word
                else:
                    set_result(message, None, rid, result, now_s)
            self.reschedule(message)
        return leg

    # ------------------------------------------------------------------------------------------------------------ children

    def _child(self, fact: Fact, now_s: int) -> Leg | None:
        """Rows 86 to 90: the line is the child's. It opens the child, whichever of the two was seen first."""
        values = fact.values or {}
        parent_mid = values.get("parent")
        assert fact.mid is not None
        child = self._open(fact.mid, now_s)
        if child.gone or not isinstance(parent_mid, int) or parent_mid == child.number:
            return child.reception
        if child.parent_mid is not None:
            return child.reception
        kind = str(values.get("child_kind") or _CHILD_KINDS[fact.action])
        child.parent_mid = parent_mid
        child.child_kind = kind
        parent = self.entries.messages.get(parent_mid) or self.entries.find_message(parent_mid)
        if kind in INHERITING:
            self._inherit(child, parent)
            self._flow_from_table(child, values.get("table"))
            if values.get("mail_policy") is not None:
                child.mail_policy = str(values["mail_policy"])
        elif not child.icid:
            child.internal, child.reception, child.flow = True, None, child.flow if child.flow_from_policy else "internal"
        if parent is not None and not parent.gone:
            self.change(parent)
            if child.number not in parent.child_mids:
                parent.child_mids = (*parent.child_mids, child.number)
            if kind == "rewritten":
                end_all(parent, "moved")
            elif kind == "split":
                self._move_to_split(child)
            self.reschedule(parent)
        return child.reception

    def _inherit(self, child: Message, parent: Message | None) -> None:
        """Reception of the first ancestor that has one, as a copy; goes on down to children that were seen first."""
        waiting, done = [(child, parent)], set()
        while waiting:
            heir, ancestor = waiting.pop()
            if heir.number in done or heir.icid or heir.gone:
                continue
            done.add(heir.number)
            heir.internal = ancestor is not None and ancestor.internal
            heir.reception = ancestor.reception if ancestor is not None else None
            if not heir.flow_from_policy:
                heir.flow = ancestor.flow if ancestor is not None else None
            self.change(heir)
            for mid in heir.child_mids:
                grandchild = self.entries.find_message(mid)
                if grandchild is not None and grandchild.child_kind in INHERITING:
                    waiting.append((grandchild, heir))

    def _move_to_split(self, child: Message) -> None:
        """The split line names no RIDs: those whose addresses the child has went with it."""
        parent = self.entries.find_message(child.parent_mid) if child.parent_mid is not None else None
        if parent is None or parent.gone:
            return
        addresses = {known.address.lower() for known in child.recipients if known.address}
        moved = [known for known in parent.recipients if known.address and known.address.lower() in addresses and not known.final]
        for known in moved:
            set_result(parent, None, known.rid, "moved", child.last_s)
        if moved:
            self.change(parent)

    # ----------------------------------------------------------------------------------------------------------------- end

    def weaken(self, message: Message, leg: Leg) -> None:
        """The evidence of a connection that ended is `absence_lossy` after all."""
        if message.reception is not None and _same(message.reception, leg) and connections.rests_on_absence(message.reception):
            self._inherited(message, connections.weakened(message.reception), contradicts=False)
        for attempt in message.attempts:
            if attempt.leg is not None and _same(attempt.leg, leg) and connections.rests_on_absence(attempt.leg):
                attempt.leg = connections.weakened(attempt.leg)
                self.change(message)

    def proved(self, mid: int, leg: Leg) -> None:
        """Data of this message came through TLS: that is more than what was known when it was started."""
        message = self.entries.find_message(mid)
        if message is None or message.gone or message.reception is None or not _same(message.reception, leg):
            return
        before = message.reception.outcome
        if before != connections.SUCCESS:
            self._inherited(message, leg, contradicts=before == connections.NONE)

    def _inherited(self, message: Message, leg: Leg, *, contradicts: bool) -> None:
        """Another snapshot of the reception, for the message and the children that took it over from it."""
        waiting, done = [message], set()
        while waiting:
            heir = waiting.pop()
            if heir.gone or heir.number in done:
                continue
            done.add(heir.number)
            heir.reception = leg
            heir.contradiction = heir.contradiction or contradicts
            self.change(heir)
            children = (self.entries.find_message(mid) for mid in heir.child_mids)
            waiting += [
                child
                for child in children
                if child is not None and child.child_kind in INHERITING and child.reception is not None and _same(child.reception, leg)
            ]

    def correct(self, message: Message, entry: Connection, before: Leg, *, contradicts: bool) -> None:
        """A TLS line came late: take the corrected leg where the record is not yet out."""
        if message.gone:
            return
        if entry.leg.kind == "I":
            same = message.reception is not None and message.reception.number == entry.leg.number and message.icid
            if same and message.reception is not None and message.reception.outcome == before.outcome:
                leg = connections.leg_at(entry, message.start_s if message.start_s is not None else message.first_s, self.box)
                if leg.outcome == connections.SUCCESS:
                    self._inherited(message, leg, contradicts=True)
        else:
            for attempt in message.attempts:
                if attempt.dcid == entry.leg.number:
                    message.contradiction = message.contradiction or contradicts
                    attempt.leg = entry.leg
                    settle_leg(message, attempt)
                    self.change(message)

    def message_due(self, message: Message, now_s: int) -> None:
        """A deadline of the message came up: a delivery that waited for its Response, or the message itself."""
        limit_s = min(now_s, messages.over_s(message))  # so that it does not matter how often the clock is looked at
        for attempt in message.attempts:
            if not attempt.emitted and complete(attempt) and attempt.last_s + messages.RESPONSE_WAIT_S <= limit_s:
                self.emit_attempt(message, attempt, attempt.last_s + messages.RESPONSE_WAIT_S)
        due_s = messages.due_s(message)
        if due_s > now_s:
            self.entries.schedule("M", message.number, message, due_s)
        elif message.end_s:
            self.finish_message(message, message.end or "finished", message.end_s)
        else:
            if message.quarantines:
                end_all(message, "quarantined")
            end = "aborted" if message.aborted else "settled" if all_final(message) and not message.quarantines else "timeout"
            self.finish_message(message, end, due_s)

    def finish_message(self, message: Message, end: str, time_s: int) -> None:
        """The message is over: open deliveries and its record leave, a tombstone stays."""
        message.end = end
        if message.reception is not None and connections.rests_on_absence(message.reception):
            message.reception = self._as_evident(message.reception)
        for attempt in message.attempts:
            if not attempt.emitted:
                self.emit_attempt(message, attempt, time_s)
            settle_leg(message, attempt)
        self.emit.message(self.box, message, time_s)
        tombstone_s = QUARANTINE_TOMBSTONE_S if message.ever_quarantined else MESSAGE_TOMBSTONE_S
        message.recipients, message.child_mids, message.quarantines = [], (), ()
        message.sender = message.subject = message.message_id = message.end_reason = None
        for attempt in message.attempts:
            attempt.results, attempt.failures, attempt.response = {}, {}, None
        self.change(message)
        self.entries.bury("M", message.number, message, max(time_s, message.last_s) + tombstone_s)
        self._bound_tombstones()


def _same(one: Leg, other: Leg) -> bool:
    return one.number == other.number and one.kind == other.kind and one.epoch == other.epoch
