"""What really happened, as the summary records that must come out of a faultless reader of the log.

One dict per record, nested as docs/records.md has them, made from what the simulator decided; nothing here reads a line. Two extra keys
beside ``cisco_esa``'s own fields, both at the top of a record:

- ``open``: dotted paths (below ``cisco_esa`` or ``email``) whose exact value docs/correlation.md leaves open; comparisons skip them.
- ``optional``: true on a record that docs/correlation.md neither asks for nor forbids (a bounce that no delivery connection saw).

``cisco_esa.reset_zone`` marks the calm stretch after a reset of the ids. Its first records still belong to the epoch before, so they carry
raw ids only: no ``epoch``, no ``connection.id``.
A field that is absent claims that the record lacks it for the paths in ``ABSENCE_COUNTS``; for all others it claims nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from esa_tls.offline.simulate_model import Connection, Message, Recipient

Truth = dict[str, Any]
TruthSink = Callable[[Truth], None]

ABSENCE_COUNTS: Final = frozenset(
    {
        "cisco_esa.connection.id",
        "cisco_esa.direction",
        "cisco_esa.tls.required",
        "cisco_esa.tls.broken",
        "cisco_esa.tls.in_clear",
        "cisco_esa.tls.failure.class",
        "cisco_esa.tls.protocol",
        "cisco_esa.tls.cipher",
        "cisco_esa.parent_mid",
        "cisco_esa.child_kind",
        "cisco_esa.child_mids",
        "cisco_esa.mail_flow",
        "cisco_esa.reception.connection_id",
        "cisco_esa.reception.icid",
        "cisco_esa.reception.tls.in_clear",
        "cisco_esa.recipients.in_clear",
        "cisco_esa.recipients.tls_outcome",
        "email.message_id",
        "email.subject",
    }
)

# Children that were received with their first ancestor; bounces and notifications were made on the box and received from nobody.
INHERITING: Final = frozenset({"split", "rewritten", "copy", "reinjected"})


def connection_record(connection: Connection) -> Truth:
    """The record of one ended connection."""
    record = _head(connection, "connection")
    inbound = connection.kind == "ICID"
    ends: Truth = {"end": connection.end, "start_seen": connection.start_seen}
    if not connection.zone:
        ends["id"] = connection.id
    if connection.lost:
        ends["lost"] = True
    record["connection"] = ends
    record["direction"] = connection.direction
    record["icid" if inbound else "dcid"] = connection.number
    record["tls"] = _tls(connection)
    out: Truth = {"cisco_esa": record}
    if connection.policy is not None:
        record["hat"] = {"policy": connection.policy}
        if connection.group != "None":
            record["hat"]["sender_group"] = connection.group
        if connection.sbrs is not None:
            record["hat"]["sbrs"] = connection.sbrs
        if connection.country is not None:
            record["hat"]["country"] = connection.country
    if inbound and connection.flow is not None:
        record["mail_flow"] = connection.flow
    if connection.start_seen:
        out["source" if inbound else "destination"] = {"ip": connection.peer} if inbound else {"ip": connection.peer, "port": 25}
    return _with_open(out, connection.open)


def delivery_record(
    message: Message,
    *,
    ordinal: int,
    rids: Iterable[int],
    result: str,
    connection: Connection | None,
    in_clear: bool | None,
    open_paths: Iterable[str] = (),
    optional: bool = False,
) -> Truth:
    """The record of one attempt and result; ``connection`` None: no delivery connection took part."""
    record = _head(connection or message, "delivery")
    if message.zone:
        record.pop("epoch", None)
        record["reset_zone"] = True
    paths = [*open_paths, *message.common_open()]
    record["mid"] = message.mid
    record["rids"] = sorted(rids)
    record["delivery"] = {"result": result, "ordinal": ordinal}
    if connection is not None:
        if "epoch" in record:
            record["connection"] = {"id": connection.id}
        record["direction"] = "outbound"
        record["dcid"] = connection.number
        record["tls"] = _tls(connection)
        if in_clear is not None:
            record["tls"]["in_clear"] = in_clear
        paths += connection.open
    if message.flow is not None:
        record["mail_flow"] = message.flow
    posture_in = _posture_in(message)
    if posture_in is not None:
        record["posture_in"] = posture_in
    out: Truth = {"cisco_esa": record, "email": _email(message)}
    if optional:
        out["optional"] = True
    return _with_open(out, paths)


def message_record(message: Message) -> Truth:
    """The record of one ended message."""
    record = _head(message, "message")
    paths = [*message.open, *message.common_open()]
    record["mid"] = message.mid
    record["message"] = {"end": message.end}
    if message.flow is not None:
        record["mail_flow"] = message.flow
    reception = _reception(message)
    if reception is not None:
        record["reception"] = reception
    if message.parent_mid is not None:
        record["parent_mid"] = message.parent_mid
        record["child_kind"] = message.child_kind
    if message.child_mids:
        record["child_mids"] = sorted(message.child_mids)
    # A message made on the box crossed no wire on its way in: nothing speaks against it.
    way_in = None if message.made_here else message.in_clear
    both = [_posture(r, in_clear=way_in, received=not message.made_here) for r in message.recipients]
    out_only = [_posture(r, in_clear=None, received=False) for r in message.recipients]
    if message.recipients:
        record["recipients"] = [_recipient(r, posture) for r, posture in zip(message.recipients, both, strict=True)]
    record["posture"] = _fold(both, whole=message.start_seen)
    record["posture_out"] = _fold(out_only, whole=message.start_seen)
    posture_in = _posture_in(message)
    if posture_in is not None:
        record["posture_in"] = posture_in
    if any(r.result not in _LEG_IS_STATED for r in message.recipients):
        paths += ["cisco_esa.recipients.tls_outcome", "cisco_esa.recipients.in_clear"]
    return _with_open({"cisco_esa": record, "email": _email(message)}, paths)


_LEG_IS_STATED: Final = frozenset({"delivered", "uncertain", "tls_blocked", "moved"})
_WORST_FIRST: Final = ("exposed", "unknown", "blocked", "encrypted", "undelivered")


def _head(subject: Connection | Message, kind: str) -> Truth:
    record: Truth = {"record": kind, "appliance": subject.appliance}
    if subject.zone:
        record["reset_zone"] = True
    else:
        record["epoch"] = subject.epoch
    return record


def _tls(connection: Connection) -> Truth:
    tls: Truth = {"outcome": connection.outcome, "evidence": connection.evidence}
    if connection.required:
        tls["required"] = True
    if connection.failure is not None:
        tls["failure"] = {"class": connection.failure}
    if connection.broken:
        tls["broken"] = True
    if connection.protocol is not None:
        tls["protocol"] = connection.protocol
        tls["cipher"] = connection.cipher
    return tls


def _reception(message: Message) -> Truth | None:
    if message.made_here:
        return None
    tls: Truth = {"outcome": message.outcome, "evidence": message.evidence}
    if message.in_clear is not None:
        tls["in_clear"] = message.in_clear
    reception: Truth = {"tls": tls}
    if message.reception is not None:
        if not message.zone:
            reception["connection_id"] = message.reception.id
        reception["icid"] = message.reception.number
    return reception


def _posture_in(message: Message) -> str | None:
    if message.made_here:
        return None
    return {None: "unknown", True: "exposed", False: "encrypted"}[message.in_clear]


def _posture(recipient: Recipient, *, in_clear: bool | None, received: bool) -> str:
    """One recipient's posture; ``in_clear`` is the way in (None: not known), ``received`` False: there was none, or it shall not count."""
    match recipient.result:
        case "moved":
            return "moved"
        case "delivered" | "uncertain":
            if recipient.in_clear or in_clear:
                return "exposed"
            if recipient.in_clear is False and (in_clear is False or not received):
                return "encrypted"
            return "unknown"
        case "tls_blocked":
            return "blocked"
        case "pending":
            return "unknown"
        case _:
            return "undelivered"


def _fold(postures: list[str], *, whole: bool) -> str:
    present = set(postures)
    if not present:
        return "undelivered" if whole else "unknown"
    present.discard("moved")
    if not present:
        return "continued"
    if {"exposed", "encrypted"} <= present:
        return "partial"
    return next(posture for posture in _WORST_FIRST if posture in present)


def _recipient(recipient: Recipient, posture: str) -> Truth:
    record: Truth = {"rid": recipient.rid, "result": recipient.result}
    if posture != "moved":
        record["posture"] = posture
    if recipient.address is not None:
        record["address"] = recipient.address
    if recipient.outcome is not None:
        record["tls_outcome"] = recipient.outcome
    if recipient.in_clear is not None:
        record["in_clear"] = recipient.in_clear
    return record


def _email(message: Message) -> Truth:
    email: Truth = {"local_id": str(message.mid)}
    if message.message_id is not None:
        email["message_id"] = message.message_id
    if message.subject:
        email["subject"] = message.subject
    return email


def _with_open(record: Truth, paths: Iterable[str]) -> Truth:
    named = sorted(set(paths))
    if named:
        record["open"] = named
    return record
