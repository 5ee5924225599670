"""Messages, their recipients and delivery attempts: what happened to whom, on which connection.

Everything here is about one message; connections are seen only as legs. RIDs decide what became of a message, never
`Message finished`. Delivered is final for a RID: later lines only add history.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

from esa_tls.core.connections import Leg

PENDING: Final = "pending"
FINAL: Final = frozenset({"delivered", "bounced", "deleted", "dropped", "quarantined", "moved", "uncertain"})
"""Results after which nothing is waited for; `tls_blocked` is final only when a bounce said so."""

_OUTDO_ERROR: Final = frozenset({"bounced", "uncertain", "delivered"})
"""What replaces a `connection_error`: lines that say more."""

RESPONSE_WAIT_S: Final = 2
SETTLE_S: Final = 900
MESSAGE_TIMEOUT_S: Final = 8 * 86400
QUARANTINE_TIMEOUT_S: Final = 45 * 86400


@mypyc_attr(acyclic=True)
class Recipient:
    """One RID. `leg_outcome`, `in_clear`: of the leg it was delivered on, that of the attempt `by` (its ordinal), or blocked on.

    `blocked`: its last attempt ended for want of TLS, whatever became of it afterwards without another attempt.
    """

    rid: int
    address: str | None = None
    result: str = PENDING
    final: bool = False
    leg_outcome: str | None = None
    in_clear: bool | None = None
    delivered: bool = False
    by: int = 0
    blocked: bool = False

    def __init__(self, rid: int) -> None:
        self.rid = rid


@mypyc_attr(acyclic=True)
class Attempt:
    """One delivery of some RIDs on one DCID (None: into a spam quarantine, without connection)."""

    ordinal: int
    dcid: int | None
    rids: list[int]
    first_s: int
    last_s: int
    leg: Leg | None = None
    start_seen: bool = False
    results: dict[int, str]
    responded: bool = False
    response: str | None = None
    code: int | None = None
    enhanced_code: str | None = None
    failures: dict[int, tuple[int | None, str | None, str | None, str | None]]
    """RID -> (code, enhanced code, reason, response) of the line that bounced or delayed it."""
    retry_at: str | None = None
    emitted: bool = False
    sequence: int = 0

    def __init__(
        self, ordinal: int, dcid: int | None, rids: list[int], first_s: int, last_s: int, leg: Leg | None, *, start_seen: bool = False
    ) -> None:
        self.ordinal = ordinal
        self.dcid = dcid
        self.rids = rids
        self.first_s = first_s
        self.last_s = last_s
        self.leg = leg
        self.start_seen = start_seen
        self.results = {}
        self.failures = {}


@mypyc_attr(acyclic=True)
class Message:
    """One MID, open or, with `gone`, its tombstone.

    `reception` is the snapshot of the reception's leg when the message was started (absent: unknown, or `internal`: nothing was
    received). `reception_in_clear` says whether it was received in clear; None = unknown or nothing received.
    What most messages have none of is a tuple: an empty one costs no memory.
    """

    number: int
    epoch: int
    first_s: int
    last_s: int
    due_s: int = 0
    start_seen: bool = False
    start_s: int | None = None
    icid: int | None = None
    reception: Leg | None = None
    internal: bool = False
    recipients: list[Recipient]
    attempts: tuple[Attempt, ...] = ()
    attempt_count: int = 0
    sender: str | None = None
    subject: str | None = None
    message_id: str | None = None
    size_bytes: int | None = None
    mail_policy: str | None = None
    flow: str | None = None
    flow_from_policy: bool = False
    parent_mid: int | None = None
    child_kind: str | None = None
    child_mids: tuple[int, ...] = ()
    quarantines: tuple[str, ...] = ()
    ever_quarantined: bool = False
    end: str | None = None
    end_s: int = 0
    end_reason: str | None = None
    aborted: bool = False
    gone: bool = False
    contradiction: bool = False
    first_sequence: int = 0
    last_sequence: int = 0
    dirty: bool = False

    def __init__(self, number: int, epoch: int, first_s: int, last_s: int, first_sequence: int = 0, last_sequence: int = 0) -> None:
        self.number = number
        self.epoch = epoch
        self.first_s = first_s
        self.last_s = last_s
        self.recipients = []
        self.first_sequence = first_sequence
        self.last_sequence = last_sequence


def recipient(message: Message, rid: int) -> Recipient:
    """The recipient with this RID, made if it was not seen yet. They are kept in the order of their RIDs."""
    recipients = message.recipients
    at = len(recipients)
    while at and recipients[at - 1].rid >= rid:
        at -= 1
        if recipients[at].rid == rid:
            return recipients[at]
    made = Recipient(rid)
    if recipients:
        recipients.insert(at, made)
    else:
        message.recipients = [made]  # a list made so has room for one, not for four
    return made


def attempt_on(message: Message, dcid: int | None, rids: tuple[int, ...] | None) -> Attempt | None:
    """The last attempt on this DCID that has any of the RIDs (any attempt there, if no RIDs are known)."""
    for attempt in reversed(message.attempts):
        if attempt.dcid == dcid and (not rids or carries(attempt, rids)):
            return attempt
    return None


def carries(attempt: Attempt, rids: tuple[int, ...]) -> bool:
    """Whether the attempt has any of the RIDs."""
    for rid in rids:  # noqa: SIM110 (`any` over a generator takes twice as long for the one RID there mostly is)
        if rid in attempt.rids:
            return True
    return False


def last_attempt(message: Message, rids: tuple[int, ...] | None) -> Attempt | None:
    """The last attempt for any of the RIDs: what delivery-phase lines without a DCID belong to."""
    for attempt in reversed(message.attempts):
        if not rids or carries(attempt, rids):
            return attempt
    return None


def add_attempt(message: Message, dcid: int | None, rids: list[int], stamp_s: int, *, leg: Leg | None, start_seen: bool) -> Attempt:
    """Begin an attempt; its ordinal counts the attempts of the message that were seen."""
    message.attempt_count += 1
    attempt = Attempt(message.attempt_count, dcid, rids, stamp_s, stamp_s, leg, start_seen=start_seen)
    message.attempts = (*message.attempts, attempt)
    for rid in rids:
        known = recipient(message, rid)
        if start_seen and known.blocked and not known.final:
            # Mail is on its way again: whether it arrives is not known.
            known.result, known.blocked, known.leg_outcome = PENDING, False, None
    return attempt


def set_result(message: Message, attempt: Attempt | None, rid: int, result: str, stamp_s: int, *, final: bool = False) -> None:
    """Say what became of a RID, in its attempt (if any) and for good. A result said twice has no effect.

    In an attempt the first result stays, except that `delivered` replaces `uncertain`, and a named reason replaces
    `connection_error` while its record has not left. `final`: a `tls_blocked` that was bounced and is not tried again.
    """
    if attempt is not None:
        if rid not in attempt.rids:
            attempt.rids.append(rid)
        before = attempt.results.get(rid)
        if before is None or (before == "uncertain" and result == "delivered") or (before == "connection_error" and result in _OUTDO_ERROR):
            attempt.results[rid] = result
            attempt.last_s = stamp_s
    known = recipient(message, rid)
    if known.delivered:
        return
    if attempt is not None and not known.final:
        known.blocked = result == "tls_blocked"
    if result == "delivered":
        known.result, known.final, known.delivered = "delivered", True, True
        known.by = attempt.ordinal if attempt is not None else 0
    elif known.final:
        return
    elif result in ("delayed", "connection_error", "unknown"):
        known.result = PENDING
    elif result == "tls_blocked":
        known.result, known.final = "tls_blocked", final
    else:
        known.result, known.final = result, True
        known.by = attempt.ordinal if attempt is not None else 0


def settle_leg(message: Message, attempt: Attempt) -> None:
    """Write the attempt's leg into the recipients that were delivered (or may have been) on it, and not on another before.

    Those that were blocked for want of TLS get its outcome; no mail went there, so nothing is in clear.
    """
    leg = attempt.leg
    for rid, result in attempt.results.items():
        known = recipient(message, rid)
        if result == "tls_blocked" and known.result == "tls_blocked" and leg is not None:
            known.leg_outcome, known.in_clear = leg.outcome, None
        elif result in ("delivered", "uncertain"):
            if known.by != attempt.ordinal:
                continue
            if leg is None:
                known.leg_outcome, known.in_clear = None, None
            else:
                known.leg_outcome, known.in_clear = leg.outcome, leg.in_clear()


def complete(attempt: Attempt) -> bool:
    """Whether every RID of the attempt has its result."""
    results = attempt.results
    for rid in attempt.rids:  # noqa: SIM110 (as above)
        if rid not in results:
            return False
    return True


def answered(attempt: Attempt) -> bool:
    """Whether nothing more is waited for: all results are in, and the Response of what was delivered."""
    return attempt.responded and complete(attempt) and "delivered" in attempt.results.values()


def end_all(message: Message, result: str) -> None:
    """Give every RID that is not final yet this result (`dropped`, `bounced`, `moved`, `quarantined`, `deleted`)."""
    for known in message.recipients:
        if not known.final:
            known.result, known.final = result, True


def results_of(attempt: Attempt) -> dict[str, list[int]]:
    """The RIDs of an attempt by result, in order of RID; RIDs without one are `unknown`."""
    found: dict[str, list[int]] = {}
    if len(attempt.rids) == 1:
        rid = attempt.rids[0]
        return {attempt.results.get(rid, "unknown"): [rid]}
    for rid in sorted(attempt.rids):
        found.setdefault(attempt.results.get(rid, "unknown"), []).append(rid)
    return found


def all_final(message: Message) -> bool:
    """Whether every RID is final (False without any RID)."""
    recipients = message.recipients
    for known in recipients:
        if not known.final:
            return False
    return bool(recipients)


def over_s(message: Message) -> int:
    """The appliance time at which the message is over if nothing more is said of it."""
    if message.end_s:
        return message.end_s + RESPONSE_WAIT_S
    if message.quarantines:
        return message.last_s + QUARANTINE_TIMEOUT_S
    if all_final(message) or message.aborted:
        return message.last_s + SETTLE_S
    return message.last_s + MESSAGE_TIMEOUT_S


def due_s(message: Message) -> int:
    """The appliance time at which something is to be done about the message: a delivery or the message itself is due."""
    due = over_s(message)
    for attempt in message.attempts:
        if not attempt.emitted and complete(attempt):
            due = min(due, attempt.last_s + RESPONSE_WAIT_S)
    return due
