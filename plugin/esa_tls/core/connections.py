"""Connections and their TLS outcome: the transition table of docs/correlation.md 3.1, as code.

A `Leg` is one connection seen from a record: its identity and what is known of its TLS. Legs are values: a change makes a new
one, so a message keeps the leg as it was when the message was started. Everything here is about one connection; nothing here
knows lines, records or time beyond the stamps it is given. Texts that many connections share (peers, groups, ciphers) are interned.
"""

from __future__ import annotations

from sys import intern
from typing import Any, Final, Protocol

import msgspec
from mypy_extensions import mypyc_attr

PENDING: Final = "pending"
SUCCESS: Final = "success"
FAILED: Final = "failed"
NONE: Final = "none"
UNKNOWN: Final = "unknown"

LINE: Final = "line"
ABSENCE: Final = "absence"
ABSENCE_LOSSY: Final = "absence_lossy"
GAP: Final = "gap"

FEED_QUIET_S: Final = 600
"""How long before a connection's beginning the feed must have been unbroken for `absence`."""


@mypyc_attr(acyclic=True)
class Leg:
    """A connection as a record shows it. `kind` is `I` (reception, inbound) or `D` (delivery, outbound)."""

    kind: str
    number: int
    epoch: int
    outcome: str
    evidence: str | None
    required: bool = False
    failure_class: str | None = None
    failure_reason: str | None = None
    broken: bool = False
    protocol: str | None = None
    cipher: str | None = None
    common_name: str | None = None
    verified: bool | None = None
    dane: str | None = None
    peer: str | None = None
    host: str | None = None
    port: int | None = None
    sender_group: str | None = None

    # The leg as it is written, whole or in part, made when first needed; not part of the value.
    json: str | None = None
    forward: tuple[int, bytes] | None = None
    otlp: bytes | None = None
    kept: msgspec.Raw | None = None

    def __init__(self, kind: str, number: int, epoch: int, outcome: str = PENDING, evidence: str | None = None) -> None:
        self.kind = kind
        self.number = number
        self.epoch = epoch
        self.outcome = outcome
        self.evidence = evidence

    def copy(self) -> Leg:
        """The same facts, without the encoded fragments: for one that is to differ."""
        leg = Leg(self.kind, self.number, self.epoch, self.outcome, self.evidence)
        leg.required = self.required
        leg.failure_class = self.failure_class
        leg.failure_reason = self.failure_reason
        leg.broken = self.broken
        leg.protocol = self.protocol
        leg.cipher = self.cipher
        leg.common_name = self.common_name
        leg.verified = self.verified
        leg.dane = self.dane
        leg.peer = self.peer
        leg.host = self.host
        leg.port = self.port
        leg.sender_group = self.sender_group
        return leg

    def in_clear(self) -> bool | None:
        """Whether mail started on this leg goes in clear text; None = unknown."""
        if self.outcome == SUCCESS:
            return False
        if self.outcome in (NONE, FAILED):
            return True
        return None


@mypyc_attr(acyclic=True)
class Connection:
    """One reception (ICID) or delivery (DCID) connection, open or, with `gone`, its tombstone."""

    leg: Leg
    first_s: int
    last_s: int
    due_s: int = 0
    start_seen: bool = False
    start_s: int | None = None
    lossy: bool = False
    mail: bool = False
    mail_s: int = 0
    tls_s: int | None = None
    failed_s: int | None = None
    required_said: bool = False
    not_offered: bool = False
    lost: bool = False
    doubtful: bool = False
    end: str | None = None
    end_s: int = 0
    gone: bool = False
    contradiction: bool = False
    interface: str | None = None
    local_ip: str | None = None
    policy: str | None = None
    rule: str | None = None
    sbrs: float | None = None
    country: str | None = None
    flow: str | None = None
    for_domain: str | None = None
    error_reason: str | None = None
    error_details: str | None = None
    mids: tuple[int, ...] = ()
    mid_count: int = 0
    open_mids: tuple[int, ...] = ()
    held: list[Any] | None = None
    first_sequence: int = 0
    last_sequence: int = 0
    break_s: int | None = None
    """When the feed had last been broken when a line of the connection last came."""
    dirty: bool = False

    def __init__(
        self, leg: Leg, first_s: int, last_s: int, *, lossy: bool = False, first_sequence: int = 0, last_sequence: int = 0
    ) -> None:
        self.leg = leg
        self.first_s = first_s
        self.last_s = last_s
        self.lossy = lossy
        self.first_sequence = first_sequence
        self.last_sequence = last_sequence


def _renew(connection: Connection) -> Leg:
    connection.leg = leg = connection.leg.copy()
    return leg


def describe(
    connection: Connection,
    *,
    peer: object = None,
    host: object = None,
    port: object = None,
    sender_group: object = None,
    verified: bool | None = None,
) -> None:
    """Fill identity facts of the leg; what is known stays. Values are as facts have them; one of the wrong type is left out."""
    leg = _renew(connection)
    if isinstance(peer, str):
        leg.peer = intern(peer)
    if isinstance(host, str):
        leg.host = intern(host)
    if isinstance(port, int):
        leg.port = port
    if isinstance(sender_group, str):
        leg.sender_group = intern(sender_group)
    if verified is not None:
        leg.verified = verified


class Feed(Protocol):
    """What is known of how the lines of an appliance came. Appliance times; None = never.

    `break_s`: when the feed was last not unbroken. `disorder_s`: the same but for starts of ours, after which senders go on where they
    were: since then lines are known to have come in the order in which they were written.
    """

    break_s: int | None
    disorder_s: int | None


def _quiet(connection: Connection, since_s: int | None) -> bool:
    """Whether `since_s` was more than ten minutes before the connection's beginning, over a source that loses nothing."""
    begun_s = connection.start_s if connection.start_s is not None else connection.first_s
    return not connection.lossy and (since_s is None or begun_s - FEED_QUIET_S > since_s)


def orderly(connection: Connection, feed: Feed) -> bool:
    """Whether the lines of the connection came in their order."""
    return _quiet(connection, feed.disorder_s)


def absence(connection: Connection, feed: Feed) -> str:
    """The evidence of a `none` that rests on the absence of a TLS line."""
    return ABSENCE if _quiet(connection, feed.break_s) else ABSENCE_LOSSY


_CERTAIN_OUT: Final = frozenset({"starttls_unexpected_response", "required_not_offered", "required_not_negotiated"})


def rests_on_absence(leg: Leg) -> bool:
    """Whether the outcome also says that a line did not come.

    That is `none` by absence, and a `failed` that a success line, had there been one before, would have made a broken session (or one
    after it would have mended). What ends STARTTLS on a DCID for good is certain.
    """
    if leg.outcome == FAILED:
        return leg.evidence == LINE and not (leg.kind == "D" and leg.failure_class in _CERTAIN_OUT)
    return leg.evidence == ABSENCE


def doubtful_now(connection: Connection, leg: Leg, feed: Feed) -> bool:
    """Whether a leg of the connection rests on absence, and the feed has turned out not to bear that."""
    if not rests_on_absence(leg):
        return False
    return not orderly(connection, feed) if leg.outcome == FAILED else absence(connection, feed) != ABSENCE


def tls_succeeded(connection: Connection, stamp_s: int, values: dict[str, Any] | None, *, feed: Feed, proof: bool = False) -> bool:
    """A TLS success line (or `proof` of TLS). Returns True if it contradicts a decision already taken.

    Outcome `success`, always; earlier `required` and failure facts stay. On an ICID a success after mail was started in clear is
    a later STARTTLS, for later messages; it contradicts only if lines may have come out of order and its stamp is before the mail's.
    """
    before = connection.leg
    late = before.outcome == NONE and (
        connection.gone
        if not connection.mail
        else before.kind == "D" or proof or (stamp_s < connection.mail_s and not orderly(connection, feed))
    )
    leg = _renew(connection)
    leg.outcome, leg.evidence = SUCCESS, LINE
    if values:
        if protocol := values.get("protocol"):
            leg.protocol = intern(protocol)
        if cipher := values.get("cipher"):
            leg.cipher = intern(cipher)
        leg.common_name = values.get("cn") or leg.common_name
        connection.for_domain = values.get("domain") or connection.for_domain
    connection.tls_s = stamp_s
    if late:
        connection.contradiction = True
    return late


def tls_failed(connection: Connection, stamp_s: int, *, required: bool, failure_class: str, reason: str | None, feed: Feed) -> bool:
    """A TLS failure line. Returns True if it contradicts a decision already taken (a `none` on a delivery connection).

    Before success: `failed` (where lines may be missing, a success line among them: evidence `absence_lossy`, but for what is certain).
    After success: stays `success`, `broken`. On an ICID after mail was started without success the
    outcome stays and only the failure facts are filled. A "required" line gives class and reason, else the first failure line does.
    """
    leg = _renew(connection)
    contradicts = False
    if leg.outcome == SUCCESS:
        leg.broken = True
    elif not (leg.kind == "I" and connection.mail):
        contradicts = leg.outcome == NONE and leg.evidence != LINE
        leg.outcome, leg.evidence = FAILED, LINE
        if connection.failed_s is None:
            connection.failed_s = stamp_s
    if required:
        leg.required = True
        if connection.not_offered:
            failure_class = "required_not_offered"
    if (required and not connection.required_said) or leg.failure_class is None:
        leg.failure_class = failure_class
        leg.failure_reason = reason
    connection.required_said = connection.required_said or required
    if rests_on_absence(leg) and not orderly(connection, feed):
        leg.evidence = ABSENCE_LOSSY
    if contradicts:
        connection.contradiction = True
    return contradicts


def starttls_not_offered(connection: Connection) -> None:
    """`STARTTLS command not supported`: the server did not offer it. With mail started: `none`, said by a line."""
    connection.not_offered = True
    leg = _renew(connection)
    if leg.failure_class is None:
        leg.failure_class = "starttls_not_offered"
    if connection.mail and leg.outcome in (NONE, UNKNOWN):
        leg.outcome, leg.evidence = NONE, LINE


def mail_started(connection: Connection, stamp_s: int, feed: Feed) -> None:
    """Mail was started (`Start MID`, `Delivery start`): without a TLS line till now it is in clear, if the beginning was seen."""
    if not connection.mail:
        connection.mail = True
        connection.mail_s = stamp_s
    if connection.leg.outcome == PENDING:
        _decide_without_tls_line(connection, feed)
    elif (
        connection.leg.kind == "I"
        and connection.leg.outcome == FAILED
        and connection.failed_s is not None
        and stamp_s < connection.failed_s
        and not orderly(connection, feed)
    ):
        # The lines came in another order than they were written: by its stamp the mail was first, so the failure came after it.
        leg = _renew(connection)
        leg.outcome, leg.evidence = (NONE, ABSENCE_LOSSY) if connection.start_seen else (UNKNOWN, GAP)


def leg_at(connection: Connection, stamp_s: int, feed: Feed) -> Leg:
    """The leg as it was for mail started at `stamp_s`.

    Order of arrival decides, whatever the stamps say (clocks are set back) - unless lines may have come out of order: then a STARTTLS
    that is stamped after the mail may be for later messages, and what held for this one is not known.
    """
    leg = connection.leg
    later = leg.kind == "I" and leg.outcome == SUCCESS and connection.tls_s is not None and stamp_s < connection.tls_s
    if later and not orderly(connection, feed):
        leg = leg.copy()
        leg.protocol = leg.cipher = leg.common_name = None
        leg.outcome, leg.evidence = UNKNOWN, GAP
    return leg


def weakened(leg: Leg) -> Leg:
    """The same leg, with lines that may have been lost or come late."""
    leg = leg.copy()
    leg.evidence = ABSENCE_LOSSY
    return leg


def undecided(leg: Leg) -> Leg:
    """A pending leg for a record that cannot wait: nothing is known."""
    leg = leg.copy()
    leg.outcome, leg.evidence = UNKNOWN, GAP
    return leg


def ended(connection: Connection, feed: Feed) -> None:
    """No more lines: whatever is still pending is decided.

    A clean end (`close`, nothing lost or broken before it) with neither TLS line nor mail is `none` if the beginning was seen.
    Every other end with neither is `unknown`, for good. `absence` is looked at once more: the feed may have broken since.
    """
    if connection.leg.outcome == PENDING:
        if connection.end == "close" and not connection.doubtful:
            _decide_without_tls_line(connection, feed)
        else:
            leg = _renew(connection)
            leg.outcome, leg.evidence = UNKNOWN, GAP
    elif doubtful_now(connection, connection.leg, feed):
        _renew(connection).evidence = ABSENCE_LOSSY


def _decide_without_tls_line(connection: Connection, feed: Feed) -> None:
    leg = _renew(connection)
    if connection.not_offered and connection.mail:
        leg.outcome, leg.evidence = NONE, LINE
    elif connection.start_seen:
        leg.outcome, leg.evidence = NONE, absence(connection, feed)
    else:
        leg.outcome, leg.evidence = UNKNOWN, GAP
