"""The summaries as records: `connection`, `delivery`, `message`, as nested dicts with the names of `records.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from esa_tls.core import messages, posture
from esa_tls.core.connections import FAILED, SUCCESS, Connection
from esa_tls.core.messages import Attempt, Message
from esa_tls.core.records import MAX_LIST, connection_id, domain_of, end_of, is_ip, iso, peer_of, tls_of, triple

_NETWORK: Final = ("network",)
_EMAIL: Final = ("email",)
_END: Final = ("connection", "end")
_INFO: Final = ("info",)


def _frame(
    own: dict[str, Any], *, time_s: int, start_s: int | None, record_id: str, action: str, sequence: int, created: str,
    category: tuple[str, ...] = _EMAIL, types: tuple[str, ...] = _INFO,
) -> dict[str, Any]:  # fmt: skip
    """What every summary record begins with; `own` goes under `cisco_esa`. `start_s`: None if the beginning was not seen."""
    end = iso(time_s)
    event: dict[str, Any] = {
        "id": record_id, "action": action, "category": category, "type": types, "sequence": sequence, "created": created, "end": end,
    }  # fmt: skip
    if start_s is not None:
        event["start"] = iso(start_s)
        event["duration"] = max(time_s - start_s, 0) * 1_000_000_000
    return {"@timestamp": end, "event": event, "host": {"name": own["appliance"]}, "cisco_esa": own}


def _related(record: dict[str, Any], *, ips: Sequence[str | None], hosts: Sequence[str | None], users: Sequence[str | None]) -> None:
    related: dict[str, Any] = {}
    if found := _distinct([ip for ip in ips if ip and is_ip(ip)]):
        related["ip"] = found
    if found := _distinct(hosts):
        related["hosts"] = found
    if found := _distinct(users):
        related["user"] = found
    if related:
        record["related"] = related


def _distinct(texts: Sequence[str | None]) -> list[str]:
    """The first texts of a list, each once, without what is absent or empty."""
    found: dict[str, None] = {}
    for text in texts:
        if text and text not in found:
            if len(found) == MAX_LIST:
                break
            found[text] = None
    return list(found)


def connection(appliance: str, entry: Connection, *, record_id: str, time_s: int, created: str, observer: dict[str, str]) -> dict[str, Any]:
    """The `connection` record of a connection that ended."""
    leg = entry.leg
    triple_own, beside = triple(appliance, leg)
    own = {"record": "connection", "appliance": appliance, "epoch": leg.epoch, **triple_own}
    record = _frame(
        own, time_s=time_s, start_s=entry.start_s, record_id=record_id, action="connection-ended", sequence=entry.last_sequence,
        created=created, category=_NETWORK, types=_END,
    )  # fmt: skip
    record.update(beside)
    mail = entry.mail and entry.mid_count > 0
    record["event"]["outcome"] = (
        "failure" if leg.outcome == FAILED and not mail else "success" if mail or leg.outcome == SUCCESS else "unknown"
    )
    facts = own["connection"]
    facts["end"] = entry.end
    facts["lost"] = entry.lost
    facts["start_seen"] = entry.start_seen
    facts["message_count"] = entry.mid_count
    if entry.mids:
        facts["mids"] = list(entry.mids[:MAX_LIST])
    if entry.for_domain:
        facts["for_domain"] = entry.for_domain
    if entry.error_reason or entry.error_details:
        facts["error"] = {name: text for name, text in (("reason", entry.error_reason), ("details", entry.error_details)) if text}
    if leg.kind == "I":
        hat = {
            name: value
            for name, value in (
                ("policy", entry.policy),
                ("sender_group", leg.sender_group),
                ("rule", entry.rule),
                ("sbrs", entry.sbrs),
                ("country", entry.country),
            )
            if value is not None
        }
        if hat:
            own["hat"] = hat
    if entry.flow:
        own["mail_flow"] = entry.flow
    if entry.contradiction:
        own["flags"] = ["contradiction"]
    peer, local = peer_of(leg), end_of(entry.local_ip)
    source, destination = (peer, local) if leg.kind == "I" else (local, peer)
    if source:
        record["source"] = source
    if destination:
        record["destination"] = destination
    if observer or entry.interface:
        record["observer"] = dict(observer)
        if entry.interface:
            record["observer"]["ingress" if leg.kind == "I" else "egress"] = {"interface": {"name": entry.interface}}
    _related(record, ips=[leg.peer, entry.local_ip], hosts=[leg.host], users=[])
    return record


def _envelope(record: dict[str, Any], message: Message, addresses: list[str]) -> None:
    email: dict[str, Any] = {"local_id": str(message.number)}
    envelope: dict[str, Any] = {}
    if message.message_id:
        email["message_id"] = message.message_id
    if message.subject:
        email["subject"] = message.subject
    if message.sender is not None:
        envelope["from"] = message.sender
        if message.sender:
            email["from"] = {"address": [message.sender]}
    if addresses:
        envelope["to"] = addresses[:MAX_LIST]
        email["to"] = {"address": addresses[:MAX_LIST]}
    if not envelope.get("from", "x"):
        del envelope["from"]
    record["email"] = email
    if envelope:
        record["cisco_esa"]["envelope"] = envelope


DELIVERY_RESULTS: Final = (
    "delivered", "bounced", "delayed", "uncertain", "deleted", "dropped", "tls_blocked", "connection_error", "quarantined", "unknown",
)  # fmt: skip
DELIVERY_ACTIONS: Final = {result: f"delivery-{result.replace('_', '-')}" for result in DELIVERY_RESULTS}
"""`event.action` of a delivery record."""

DELIVERY_OUTCOMES: Final = {"delivered": "success", "bounced": "failure", "tls_blocked": "failure", "connection_error": "failure"}


def delivery(
    appliance: str, message: Message, attempt: Attempt, result: str, rids: list[int], *,
    record_id: str, time_s: int, created: str, observer: dict[str, str],
) -> dict[str, Any]:  # fmt: skip
    """The `delivery` record of the RIDs of one attempt that had the same result."""
    leg = attempt.leg
    own: dict[str, Any] = {"record": "delivery", "appliance": appliance, "epoch": message.epoch}
    record = _frame(
        own, time_s=time_s, start_s=attempt.first_s if attempt.start_seen else None, record_id=record_id, action=DELIVERY_ACTIONS[result],
        sequence=attempt.sequence, created=created,
    )  # fmt: skip
    record["event"]["outcome"] = DELIVERY_OUTCOMES.get(result, "unknown")
    if leg is not None:
        mail = attempt.start_seen or result in ("delivered", "uncertain")
        triple_own, beside = triple(appliance, leg, in_clear=leg.in_clear() if mail and result != "tls_blocked" else None)
        own.update(triple_own)
        record.update(beside)
        if destination := peer_of(leg):
            record["destination"] = destination
    own["mid"] = message.number
    own["rids"] = rids[:MAX_LIST]
    facts: dict[str, Any] = {"result": result, "ordinal": attempt.ordinal}
    if message.start_seen:
        facts["attempt"] = attempt.ordinal
    if result in ("delivered", "uncertain"):
        said: tuple[int | None, str | None, str | None, str | None] = (attempt.code, attempt.enhanced_code, None, attempt.response)
    else:
        said = next((attempt.failures[rid] for rid in rids if rid in attempt.failures), (None, None, None, None))
    code, enhanced_code, reason, response = said
    if code is not None:
        facts["code"] = code
    if enhanced_code is not None:
        facts["enhanced_code"] = enhanced_code
    if reason is not None:
        facts["reason"] = reason
    if response is not None:
        facts["response"] = response
    if attempt.retry_at is not None and result in ("delayed", "tls_blocked", "connection_error"):
        facts["retry_at"] = attempt.retry_at
    wanted = rids if len(rids) < 8 else set(rids)
    addresses = [known.address for known in message.recipients if known.address and known.rid in wanted]
    domains = _distinct([domain_of(address) for address in addresses])
    if domains:
        facts["domains"] = domains
    own["delivery"] = facts
    if message.flow:
        own["mail_flow"] = message.flow
    if (posture_in := posture.of_reception(message)) is not None:
        own["posture_in"] = posture_in
    if message.contradiction:
        own["flags"] = ["contradiction"]
    _envelope(record, message, addresses)
    if observer:
        record["observer"] = dict(observer)
    _related(record, ips=[leg.peer if leg else None], hosts=domains, users=[message.sender, *addresses])
    return record


def reception_of(appliance: str, message: Message) -> dict[str, Any] | None:
    """`cisco_esa.reception.*`: the snapshot when the message was started; None when nothing was received."""
    if message.internal:
        return None
    leg = message.reception
    if leg is None:
        reception: dict[str, Any] = {"tls": {"outcome": "unknown", "evidence": "gap"}}
        if message.icid:
            reception["icid"] = message.icid
        return reception
    reception = {"connection_id": connection_id(appliance, leg), "icid": leg.number, "tls": tls_of(leg, in_clear=leg.in_clear())}
    peer = end_of(leg.peer, leg.host)
    if peer:
        reception["peer"] = peer
    if leg.sender_group:
        reception["hat"] = {"sender_group": leg.sender_group}
    return reception


def _deliveries(appliance: str, message: Message) -> list[dict[str, Any]]:
    found = []
    for attempt in message.attempts:
        for result, rids in messages.results_of(attempt).items():
            item: dict[str, Any] = {"rids": rids[:MAX_LIST], "result": result}
            leg = attempt.leg
            if leg is not None:
                mail = (attempt.start_seen or result in ("delivered", "uncertain")) and result != "tls_blocked"
                item["connection_id"] = connection_id(appliance, leg)
                item["dcid"] = leg.number
                item["tls"] = tls_of(leg, in_clear=leg.in_clear() if mail else None)
                peer = peer_of(leg)
                if peer:
                    item["peer"] = peer
            if attempt.response and result == "delivered":
                item["response"] = attempt.response
            found.append(item)
    return found


def message(appliance: str, entry: Message, *, record_id: str, time_s: int, created: str, observer: dict[str, str]) -> dict[str, Any]:
    """The `message` record of a message that ended."""
    own: dict[str, Any] = {"record": "message", "appliance": appliance, "epoch": entry.epoch, "mid": entry.number}
    record = _frame(
        own, time_s=time_s, start_s=entry.start_s, record_id=record_id, action="message-ended", sequence=entry.last_sequence,
        created=created,
    )  # fmt: skip
    own["posture"] = posture.of_message(entry)
    if (posture_in := posture.of_reception(entry)) is not None:
        own["posture_in"] = posture_in
    own["posture_out"] = posture.of_message(entry, both_legs=False)
    own["message"] = {"end": entry.end}
    if entry.end_reason:
        own["message"]["end_reason"] = entry.end_reason
    if entry.flow is not None:
        own["mail_flow"] = entry.flow
    if entry.size_bytes is not None:
        own["size_bytes"] = entry.size_bytes
    if entry.mail_policy is not None:
        own["mail_policy"] = entry.mail_policy
    if entry.parent_mid is not None:
        own["parent_mid"] = entry.parent_mid
        own["child_kind"] = entry.child_kind
    if entry.child_mids:
        own["child_mids"] = list(entry.child_mids[:MAX_LIST])
    reception = reception_of(appliance, entry)
    if reception is not None:
        own["reception"] = reception
    deliveries = _deliveries(appliance, entry)
    if deliveries:
        own["deliveries"] = deliveries[:MAX_LIST]
        own["delivery_count"] = len(deliveries)
    addresses: list[str] = []
    domains: list[str | None] = []
    recipients: list[dict[str, Any]] = []
    clear: list[str] = []
    clear_count = 0
    for known in entry.recipients:
        item: dict[str, Any] = {"rid": known.rid, "result": known.result, "posture": posture.of_recipient(entry, known)}
        domain = domain_of(known.address)
        if known.address is not None:
            addresses.append(known.address)
            domains.append(domain)
            item["address"] = known.address
        if domain:
            item["domain"] = domain
        if known.leg_outcome is not None:
            item["tls_outcome"] = known.leg_outcome
        if known.in_clear is not None:
            item["in_clear"] = known.in_clear
        if known.in_clear:
            clear_count += 1
            if domain:
                clear.append(domain)
        recipients.append(item)
    if recipients:
        own["recipients"] = recipients[:MAX_LIST]
        own["recipient_count"] = len(recipients)
    if clear_count:
        own["clear"] = {"recipient_count": clear_count}
        if clear:
            own["clear"]["domains"] = list(dict.fromkeys(clear))[:MAX_LIST]
    if entry.contradiction:
        own["flags"] = ["contradiction"]
    _envelope(record, entry, [address for address in addresses if address])
    if observer:
        record["observer"] = dict(observer)
    peers = [entry.reception.peer if entry.reception else None, *(attempt.leg.peer for attempt in entry.attempts if attempt.leg)]
    _related(record, ips=peers, hosts=domains, users=[entry.sender, *addresses])
    return record
