"""How entries, and lines that wait, are written into the state and read from it: MessagePack arrays, one place for each field.

The order of the fields is the format (`runtime/journal_format.py` has its version): a new one goes to the end and has a default, so that
arrays that were written before it existed are read as well. What the encoders keep with a leg is not part of it.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from esa_tls.core.connections import Connection, Leg
from esa_tls.core.facts import Fact
from esa_tls.core.line_record import Hold, Line
from esa_tls.core.messages import Attempt, Message, Recipient
from esa_tls.core.order import Waiting
from esa_tls.core.prefix_facts import PrefixFacts

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder().decode


def _leg(leg: Leg) -> msgspec.Raw:
    """A leg, encoded once for all entries that have it."""
    kept = leg.kept
    if kept is None:
        kept = leg.kept = msgspec.Raw(_encode(_leg_fields(leg)))
    return kept


def _leg_fields(leg: Leg) -> list[Any]:
    """The fields of a leg."""
    return [
        leg.kind,
        leg.number,
        leg.epoch,
        leg.outcome,
        leg.evidence,
        leg.required,
        leg.failure_class,
        leg.failure_reason,
        leg.broken,
        leg.protocol,
        leg.cipher,
        leg.common_name,
        leg.verified,
        leg.dane,
        leg.peer,
        leg.host,
        leg.port,
        leg.sender_group,
    ]


def _connection(entry: Connection) -> list[Any]:
    """The fields of a connection."""
    return [
        _leg(entry.leg),
        entry.first_s,
        entry.last_s,
        entry.due_s,
        entry.start_seen,
        entry.start_s,
        entry.lossy,
        entry.mail,
        entry.mail_s,
        entry.tls_s,
        entry.failed_s,
        entry.required_said,
        entry.not_offered,
        entry.lost,
        entry.doubtful,
        entry.end,
        entry.end_s,
        entry.gone,
        entry.contradiction,
        entry.interface,
        entry.local_ip,
        entry.policy,
        entry.rule,
        entry.sbrs,
        entry.country,
        entry.flow,
        entry.for_domain,
        entry.error_reason,
        entry.error_details,
        entry.mids,
        entry.mid_count,
        entry.open_mids,
        None if entry.held is None else [_hold(one) for one in entry.held],
        entry.first_sequence,
        entry.last_sequence,
        entry.break_s,
        entry.dirty,
    ]


def _recipient(known: Recipient) -> list[Any]:
    """The fields of a recipient."""
    return [
        known.rid,
        known.address,
        known.result,
        known.final,
        known.leg_outcome,
        known.in_clear,
        known.delivered,
        known.by,
        known.blocked,
    ]


def _attempt(attempt: Attempt) -> list[Any]:
    """The fields of an attempt."""
    return [
        attempt.ordinal,
        attempt.dcid,
        attempt.rids,
        attempt.first_s,
        attempt.last_s,
        None if attempt.leg is None else _leg(attempt.leg),
        attempt.start_seen,
        attempt.results,
        attempt.responded,
        attempt.response,
        attempt.code,
        attempt.enhanced_code,
        attempt.failures,
        attempt.retry_at,
        attempt.emitted,
        attempt.sequence,
    ]


def _message(entry: Message) -> list[Any]:
    """The fields of a message."""
    return [
        entry.number,
        entry.epoch,
        entry.first_s,
        entry.last_s,
        entry.due_s,
        entry.start_seen,
        entry.start_s,
        entry.icid,
        None if entry.reception is None else _leg(entry.reception),
        entry.internal,
        [_recipient(one) for one in entry.recipients],
        [_attempt(one) for one in entry.attempts],
        entry.attempt_count,
        entry.sender,
        entry.subject,
        entry.message_id,
        entry.size_bytes,
        entry.mail_policy,
        entry.flow,
        entry.flow_from_policy,
        entry.parent_mid,
        entry.child_kind,
        entry.child_mids,
        entry.quarantines,
        entry.ever_quarantined,
        entry.end,
        entry.end_s,
        entry.end_reason,
        entry.aborted,
        entry.gone,
        entry.contradiction,
        entry.first_sequence,
        entry.last_sequence,
        entry.dirty,
    ]


def _line(line: Line) -> list[Any]:
    fact = line.fact
    said = {
        "action": fact.action,
        "icid": fact.icid,
        "dcid": fact.dcid,
        "mid": fact.mid,
        "rids": fact.rids,
        "values": fact.values,
    }
    return [line.text, said, line.record_hash, line.sequence, line.created, line.flags, line.raw_base64]


def _hold(hold: Hold) -> list[Any]:
    return [_line(hold.line), hold.prefix, hold.epoch, hold.again, hold.left]


def encode_entry(entry: Connection | Message) -> bytes:
    """An entry as the value that the state keeps of it."""
    return _encode(_message(entry)) if isinstance(entry, Message) else _encode(_connection(entry))


def encode_waiting(waiting: Waiting) -> bytes:
    """A line in the reorder window as the value that the state keeps of it."""
    return _encode([_line(waiting.line), waiting.prefix, waiting.stamp_s, waiting.rank, waiting.again, waiting.left])


def kept_hold(hold: object) -> list[Any]:
    """A candidate (`Appliance.candidate`) as what can be encoded. Raises NotImplementedError for anything else: msgspec's `enc_hook`."""
    if isinstance(hold, Hold):
        return _hold(hold)
    raise NotImplementedError(type(hold).__name__)


def decode_connection(value: bytes) -> Connection:
    """A connection from its value. Raises msgspec.DecodeError, TypeError or ValueError for bytes that are none."""
    fields: list[Any] = _decode(value)
    entry = Connection(_leg_of(fields[0]), fields[1], fields[2])
    _set(entry, _CONNECTION, fields, 3)
    if entry.held is not None:
        entry.held = [hold_of(one) for one in entry.held]
    return entry


def decode_message(value: bytes) -> Message:
    """A message from its value. Raises as `decode_connection` does."""
    fields: list[Any] = _decode(value)
    entry = Message(fields[0], fields[1], fields[2], fields[3])
    _set(entry, _MESSAGE, fields, 4)
    return entry


def decode_waiting(value: bytes) -> Waiting:
    """A line in the reorder window from its value. Raises as `decode_connection` does."""
    line, prefix, stamp_s, rank, again, left = _decode(value)
    return Waiting(_line_of(line), msgspec.convert(prefix, PrefixFacts), stamp_s, rank, again=again, left=left)


def hold_of(fields: list[Any]) -> Hold:
    """A held line from its fields."""
    line, prefix, epoch, again, left = fields
    return Hold(_line_of(line), msgspec.convert(prefix, PrefixFacts), epoch, again=again, left=left)


def _line_of(fields: list[Any]) -> Line:
    text, said, record_hash, sequence, created, flags, raw_base64 = fields
    rids = said["rids"]
    fact = Fact(said["action"], said["icid"], said["dcid"], said["mid"], None if rids is None else tuple(rids), said["values"])
    return Line(text, fact, record_hash, sequence, created, tuple(flags), raw_base64)


def _leg_of(fields: list[Any]) -> Leg:
    leg = Leg(fields[0], fields[1], fields[2])
    _set(leg, _LEG, fields, 3)
    return leg


def _recipient_of(fields: list[Any]) -> Recipient:
    known = Recipient(fields[0])
    _set(known, _RECIPIENT, fields, 1)
    return known


def _attempt_of(fields: list[Any]) -> Attempt:
    attempt = Attempt(fields[0], fields[1], fields[2], fields[3], fields[4], None)
    _set(attempt, _ATTEMPT, fields, 5)
    return attempt


def _set(made: object, names: tuple[str, ...], fields: list[Any], begin: int) -> None:
    """The fields from `begin` on; those that are not there yet keep their defaults."""
    for name, value in zip(names[begin:], fields[begin:], strict=False):
        if name in _LEGS:
            setattr(made, name, None if value is None else _leg_of(value))
        elif name in _TUPLES:
            setattr(made, name, tuple(value))
        elif name == "recipients":
            setattr(made, name, [_recipient_of(one) for one in value])
        elif name == "attempts":
            setattr(made, name, tuple([_attempt_of(one) for one in value]))
        elif name == "failures":
            setattr(made, name, {rid: tuple(said) for rid, said in value.items()})
        else:
            setattr(made, name, value)


_LEG: Final = (
    "kind",
    "number",
    "epoch",
    "outcome",
    "evidence",
    "required",
    "failure_class",
    "failure_reason",
    "broken",
    "protocol",
    "cipher",
    "common_name",
    "verified",
    "dane",
    "peer",
    "host",
    "port",
    "sender_group",
)
_CONNECTION: Final = (
    "leg",
    "first_s",
    "last_s",
    "due_s",
    "start_seen",
    "start_s",
    "lossy",
    "mail",
    "mail_s",
    "tls_s",
    "failed_s",
    "required_said",
    "not_offered",
    "lost",
    "doubtful",
    "end",
    "end_s",
    "gone",
    "contradiction",
    "interface",
    "local_ip",
    "policy",
    "rule",
    "sbrs",
    "country",
    "flow",
    "for_domain",
    "error_reason",
    "error_details",
    "mids",
    "mid_count",
    "open_mids",
    "held",
    "first_sequence",
    "last_sequence",
    "break_s",
    "dirty",
)
_RECIPIENT: Final = (
    "rid",
    "address",
    "result",
    "final",
    "leg_outcome",
    "in_clear",
    "delivered",
    "by",
    "blocked",
)
_ATTEMPT: Final = (
    "ordinal",
    "dcid",
    "rids",
    "first_s",
    "last_s",
    "leg",
    "start_seen",
    "results",
    "responded",
    "response",
    "code",
    "enhanced_code",
    "failures",
    "retry_at",
    "emitted",
    "sequence",
)
_MESSAGE: Final = (
    "number",
    "epoch",
    "first_s",
    "last_s",
    "due_s",
    "start_seen",
    "start_s",
    "icid",
    "reception",
    "internal",
    "recipients",
    "attempts",
    "attempt_count",
    "sender",
    "subject",
    "message_id",
    "size_bytes",
    "mail_policy",
    "flow",
    "flow_from_policy",
    "parent_mid",
    "child_kind",
    "child_mids",
    "quarantines",
    "ever_quarantined",
    "end",
    "end_s",
    "end_reason",
    "aborted",
    "gone",
    "contradiction",
    "first_sequence",
    "last_sequence",
    "dirty",
)
_LEGS: Final = frozenset({"reception", "leg"})
_TUPLES: Final = frozenset({"mids", "open_mids", "child_mids", "quarantines"})
