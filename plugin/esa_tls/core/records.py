"""Records: the only place that spells field names.

Each function here builds one record as nested dicts, as records.md lists them: absent = not known or not applicable, no nulls,
no empty strings. `FIELDS` is the table from which docs, schema and templates are generated; a test walks every record that
tests produce and finds each of its paths there. `encode.py` makes the same bytes faster for `line` records.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from esa_tls.core import messages, posture
from esa_tls.core.ciphers import OPENSSL_TO_IANA
from esa_tls.core.connections import FAILED, NONE, SUCCESS, Connection, Leg
from esa_tls.core.facts import Fact
from esa_tls.core.messages import Attempt, Message

SCHEMA_VERSION = 1
MAX_LIST = 100
"""Lists are cut here, with a count beside them; outcomes and postures are worked out before the cut."""

KINDS = ("line", "connection", "delivery", "message", "consolidated")

_NETWORK = "network"
_EMAIL = "email"
_HOST = "host"
_START = (_NETWORK, ("connection", "start"))
_END = (_NETWORK, ("connection", "end"))
_PROTOCOL = (_NETWORK, ("connection", "protocol"))
_ALLOWED = (_NETWORK, ("connection", "allowed"))
_DENIED = (_NETWORK, ("connection", "denied"))
_INFO = (_EMAIL, ("info",))
_SYSTEM = (_HOST, ("info",))

ACTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    # connection-phase lines
    "connection-opened": _START,
    "hat-decided": _ALLOWED,
    "hat-denied": _DENIED,
    "reputation-scored": (_NETWORK, ("connection", "info")),
    "connection-refused": _DENIED,
    "hat-reject-delayed": _DENIED,
    "tls-succeeded": _PROTOCOL,
    "tls-failed": _PROTOCOL,
    "tls-required-failed": _PROTOCOL,
    "tls-data-read": _PROTOCOL,
    "starttls-not-supported": _PROTOCOL,
    "certificate-verified": _PROTOCOL,
    "connection-lost": _END,
    "connection-closed": _END,
    "connection-killed": _END,
    "connection-exited": _END,
    "connection-disconnected": _END,
    "connection-error": _END,
    "receiving-failed": _DENIED,
    "connection-limit-reached": _DENIED,
    "smtp-auth": _PROTOCOL,
    "smtp-auth-required": _PROTOCOL,
    "sender-verification": _PROTOCOL,
    "address-invalid": _PROTOCOL,
    "command-refused": _PROTOCOL,
    "recipients-throttled": _DENIED,
    # message lines
    "message-started": _INFO,
    "sender-accepted": _INFO,
    "recipient-accepted": _INFO,
    "recipient-rejected": _INFO,
    "bounce-verification": _INFO,
    "message-id": _INFO,
    "subject": _INFO,
    "message-received": _INFO,
    "policy-matched": _INFO,
    "engine-verdict": _INFO,
    "authentication-verdict": _INFO,
    "attachment": _INFO,
    "url": _INFO,
    "custom-log-entry": _INFO,
    "incoming-relay": _INFO,
    "message-quarantined": _INFO,
    "quarantine-tagged": _INFO,
    "quarantine-released": _INFO,
    "quarantine-deleted": _INFO,
    "rpc-delivery-started": _INFO,
    "rpc-delivery-done": _INFO,
    "rpc-delivery-rejected": _INFO,
    "rpc-connection": _INFO,
    "message-queued": _INFO,
    "message-finished": _INFO,
    "message-aborted": _INFO,
    "message-dropped": _INFO,
    "message-bounced": _INFO,
    "message-summarised": _INFO,
    "recipient-dropped": _INFO,
    "recipient-bounced": _INFO,
    "recipient-rerouted": _INFO,
    "alias-matched": _INFO,
    "header-masqueraded": _INFO,
    "scan-skipped": _INFO,
    "message-traced": _INFO,
    "message-split": _INFO,
    "message-rewritten": _INFO,
    "message-copied": _INFO,
    "bounce-generated": _INFO,
    "message-reinjected": _INFO,
    "split-failed": _INFO,
    # delivery lines
    "delivery-started": _INFO,
    "delivery-done": _INFO,
    "delivery-response": _INFO,
    "delivery-bounced": _INFO,
    "delivery-delayed": _INFO,
    "delivery-pending": _INFO,
    "delivery-double-bounced": _INFO,
    "delivery-uncertain": _INFO,
    "recipients-deleted": _INFO,
    # lines about the box
    "log-began": _SYSTEM,
    "log-ended": _SYSTEM,
    "version": _SYSTEM,
    "utc-offset": _SYSTEM,
    "system-started": _SYSTEM,
    "system-message": _SYSTEM,
    "consolidated-event": _INFO,
    "continuation": _SYSTEM,
    "unrecognised": _SYSTEM,
}
"""`event.action` of lines -> ECS category and types. The summaries' actions are in the functions below."""

INBOUND, OUTBOUND = "inbound", "outbound"


@lru_cache(maxsize=65536)
def iso(seconds: int) -> str:
    """Whole seconds since 1970 as RFC 3339 in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return "1970-01-01T00:00:00Z"


def connection_id(appliance: str, leg: Leg) -> str:
    """`{appliance}/{epoch}/ICID/{n}` or `.../DCID/{n}`."""
    return f"{appliance}/{leg.epoch}/{leg.kind}CID/{leg.number}"


def tls_of(leg: Leg, *, in_clear: bool | None = None) -> dict[str, Any]:
    """`cisco_esa.tls.*` of a leg."""
    tls: dict[str, Any] = {"outcome": leg.outcome}
    if leg.evidence is not None:
        tls["evidence"] = leg.evidence
    if in_clear is not None:
        tls["in_clear"] = in_clear
    if leg.required:
        tls["required"] = True
    if leg.failure_class is not None:
        tls["failure"] = {"class": leg.failure_class}
        if leg.failure_reason:
            tls["failure"]["reason"] = leg.failure_reason
    if leg.broken:
        tls["broken"] = True
    if leg.protocol:
        tls["protocol"] = leg.protocol
    if leg.cipher:
        tls["cipher"] = leg.cipher
    if leg.verified is not None:
        tls["verified"] = leg.verified
    if leg.dane is not None:
        tls["dane"] = leg.dane
    return tls


_VERSIONS = {"TLSv1": "1.0", "TLSv1.0": "1.0", "TLSv1.1": "1.1", "TLSv1.2": "1.2", "TLSv1.3": "1.3", "SSLv3": "3.0", "SSLv2": "2.0"}


def ecs_tls_of(leg: Leg) -> dict[str, Any]:
    """ECS `tls.*` of a leg; `tls.established` is absent while the outcome is unknown or pending."""
    tls: dict[str, Any] = {}
    if leg.outcome == SUCCESS:
        tls["established"] = True
    elif leg.outcome in (FAILED, NONE):
        tls["established"] = False
    version = _VERSIONS.get(leg.protocol or "")
    if version is not None:
        tls["version_protocol"] = "ssl" if leg.protocol is not None and leg.protocol.startswith("SSL") else "tls"
        tls["version"] = version
    if leg.cipher is not None:
        iana = OPENSSL_TO_IANA.get(leg.cipher)
        if iana is not None:
            tls["cipher"] = iana
    if leg.common_name:
        tls["client" if leg.kind == "I" else "server"] = {"x509": {"subject": {"common_name": leg.common_name}}}
    return tls


def triple(appliance: str, leg: Leg, *, in_clear: bool | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The triple of a leg: (what goes under `cisco_esa`, what goes beside it). New dicts at the top; what is in them is shared."""
    cached = leg.parts
    if cached is None or cached[0] != appliance:
        cached = leg.parts = (appliance, *_triple(appliance, leg))
    own, beside = cached[1].copy(), cached[2].copy()
    if in_clear is not None:
        own["tls"] = tls_with(own["tls"], in_clear=in_clear)
    return own, beside


def tls_with(tls: dict[str, Any], *, in_clear: bool) -> dict[str, Any]:
    """The same with `in_clear`, which stands behind the evidence."""
    return {"outcome": tls["outcome"], "evidence": tls.get("evidence"), "in_clear": in_clear, **tls} if "evidence" in tls else {**tls, "in_clear": in_clear}


def _triple(appliance: str, leg: Leg) -> tuple[dict[str, Any], dict[str, Any]]:
    inbound = leg.kind == "I"
    own = {
        "connection": {"id": connection_id(appliance, leg)},
        "direction": INBOUND if inbound else OUTBOUND,
        "icid" if inbound else "dcid": leg.number,
        "tls": tls_of(leg),
    }
    beside: dict[str, Any] = {"network": {"direction": "ingress" if inbound else "egress"}}
    tls = ecs_tls_of(leg)
    if tls:
        beside["tls"] = tls
    return own, beside


@lru_cache(maxsize=65536)
def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _end(address: str | None, domain: str | None = None, port: int | None = None) -> dict[str, Any]:
    """One end of a connection: `ip` if it is one, else the text as `address`."""
    end: dict[str, Any] = {}
    if address:
        end["ip" if _is_ip(address) else "address"] = address
    if domain:
        end["domain"] = domain
    if port:
        end["port"] = port
    return end


@lru_cache(maxsize=65536)
def domain_of(address: str | None) -> str | None:
    """The domain of a mail address, lower case; None if there is none."""
    if not address:
        return None
    _, at, domain = address.rpartition("@")
    return domain.lower() if at and domain else None


# ---------------------------------------------------------------------------------------------------------------- lines


NO_FIELDS = frozenset({
    "engine-verdict", "authentication-verdict", "attachment", "url", "custom-log-entry", "message-finished", "message-aborted",
    "message-quarantined", "quarantine-released", "quarantine-deleted", "rpc-delivery-started", "rpc-delivery-done", "rpc-connection",
    "tls-succeeded", "tls-data-read", "smtp-auth", "incoming-relay", "utc-offset", "unrecognised", "connection-error",
})  # fmt: skip
"""Actions whose values are no fields of their own: they are in the triple already, or only in `event.original`."""


def facts_of(fact: Fact) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """What a line says by itself: (under `cisco_esa`, beside it), under the names the summaries use; None if that is nothing."""
    values = fact.values
    if not values or fact.action in NO_FIELDS:
        return None
    match fact.action:
        case "sender-accepted" | "message-received" | "sender-verification":
            address = values.get("address")
            own: dict[str, Any] = {}
            if "size_bytes" in values:
                own["size_bytes"] = values["size_bytes"]
            if address is None:
                return own, {}
            own["envelope"] = {"from": address}
            return own, {"email": {"from": {"address": [address]}}}
        case "recipient-accepted" | "recipient-rejected" | "recipient-dropped" | "recipient-bounced" | "recipient-rerouted":
            address = values.get("address")
            return ({}, {}) if address is None else ({"envelope": {"to": [address]}}, {"email": {"to": {"address": [address]}}})
        case "subject" | "message-id":
            return {}, {"email": {name: values[name] for name in ("subject", "message_id") if name in values}}
        case _:
            return _other_facts(fact, values)


def _other_facts(fact: Fact, values: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    own: dict[str, Any] = {}
    beside: dict[str, Any] = {}
    outbound = fact.dcid is not None
    peer, local = ("destination", "source") if outbound else ("source", "destination")
    for name, value in values.items():
        match name:
            case "mail_policy":
                own["mail_policy"] = value
            case "peer":
                beside[peer] = {**beside.get(peer, {}), **_end(value)}
            case "host":
                beside["source"] = {**beside.get("source", {}), "domain": value}
            case "port":
                beside["destination"] = {**beside.get("destination", {}), "port": value}
            case "local_ip":
                beside[local] = {**beside.get(local, {}), **_end(value)}
            case "interface":
                beside["observer"] = {"ingress": {"interface": {"name": value}}}
            case "policy" | "sender_group" | "rule" | "sbrs" | "country":
                own.setdefault("hat", {})[name] = value
            case "table":
                own["mail_flow"] = "incoming" if value == "inbound" else "outgoing"
            case "parent":
                own["parent_mid"] = value
            case "child_kind":
                own["child_kind"] = value
            case "response" | "code" | "enhanced_code" | "retry_at":
                own.setdefault("delivery", {})[name] = value
            case "version" | "serial_number":
                beside.setdefault("observer", {})[name] = value
            case _:
                pass
    return own, beside


# ------------------------------------------------------------------------------------------------------------ summaries


def _frame(kind: str, appliance: str, epoch: int, *, time_s: int, record_id: str, action: str, sequence: int, created: str) -> dict[str, Any]:
    """What every summary record begins with."""
    connection_like = kind == "connection"
    return {
        "@timestamp": iso(time_s),
        "event": {
            "id": record_id,
            "action": action,
            "category": _CATEGORY_NETWORK if connection_like else _CATEGORY_EMAIL,
            "type": _TYPES_END if connection_like else _TYPES_INFO,
            "sequence": sequence,
            "created": created,
        },
        "host": {"name": appliance},
        "cisco_esa": {"record": kind, "appliance": appliance, "epoch": epoch},
    }


_CATEGORY_NETWORK, _CATEGORY_EMAIL, _TYPES_END, _TYPES_INFO = ("network",), ("email",), ("connection", "end"), ("info",)


def _span(record: dict[str, Any], start_s: int | None, end_s: int) -> None:
    event = record["event"]
    event["end"] = record["@timestamp"]
    if start_s is not None:
        event["start"] = iso(start_s)
        event["duration"] = max(end_s - start_s, 0) * 1_000_000_000


def _related(record: dict[str, Any], *, ips: list[str | None], hosts: list[str | None], users: list[str | None]) -> None:
    related: dict[str, Any] = {}
    found = {ip: None for ip in ips if ip and _is_ip(ip)}
    if found:
        related["ip"] = list(found)[:MAX_LIST]
    found = {host: None for host in hosts if host}
    if found:
        related["hosts"] = list(found)[:MAX_LIST]
    found = {user: None for user in users if user}
    if found:
        related["user"] = list(found)[:MAX_LIST]
    if related:
        record["related"] = related


def connection(appliance: str, entry: Connection, *, record_id: str, time_s: int, created: str, observer: dict[str, str]) -> dict[str, Any]:
    """The `connection` record of a connection that ended."""
    leg = entry.leg
    record = _frame(
        "connection", appliance, leg.epoch, time_s=time_s, record_id=record_id, action="connection-ended",
        sequence=entry.last_sequence, created=created,
    )  # fmt: skip
    own, beside = triple(appliance, leg)
    record.update(beside)
    _span(record, entry.start_s, time_s)
    mail = entry.mail and entry.mid_count > 0
    record["event"]["outcome"] = "failure" if leg.outcome == FAILED and not mail else "success" if mail or leg.outcome == SUCCESS else "unknown"
    facts = own["connection"] = dict(own["connection"])
    facts["end"] = entry.end
    facts["lost"] = entry.lost
    facts["start_seen"] = entry.start_seen
    facts["message_count"] = entry.mid_count
    if entry.mids:
        facts["mids"] = entry.mids[:MAX_LIST]
    if entry.for_domain:
        facts["for_domain"] = entry.for_domain
    error = {name: text for name, text in (("reason", entry.error_reason), ("details", entry.error_details)) if text}
    if error:
        facts["error"] = error
    record["cisco_esa"].update(own)
    hat: dict[str, Any] = {}
    for name, value in (("policy", entry.policy), ("sender_group", leg.sender_group), ("rule", entry.rule), ("sbrs", entry.sbrs), ("country", entry.country)):
        if value is not None:
            hat[name] = value
    if hat:
        record["cisco_esa"]["hat"] = hat
    if entry.flow:
        record["cisco_esa"]["mail_flow"] = entry.flow
    if entry.contradiction:
        record["cisco_esa"]["flags"] = ["contradiction"]
    peer, local = _end(leg.peer, leg.host, leg.port), _end(entry.local_ip)
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


DELIVERY_RESULTS = (
    "delivered", "bounced", "delayed", "uncertain", "deleted", "dropped", "tls_blocked", "connection_error", "quarantined", "unknown",
)  # fmt: skip
DELIVERY_ACTIONS = {result: f"delivery-{result.replace('_', '-')}" for result in DELIVERY_RESULTS}
"""`event.action` of a delivery record."""

DELIVERY_OUTCOMES = {"delivered": "success", "bounced": "failure", "tls_blocked": "failure", "connection_error": "failure"}


def delivery(
    appliance: str, message: Message, attempt: Attempt, result: str, rids: list[int], *,
    record_id: str, time_s: int, created: str, observer: dict[str, str],
) -> dict[str, Any]:  # fmt: skip
    """The `delivery` record of the RIDs of one attempt that had the same result."""
    leg = attempt.leg
    record = _frame(
        "delivery", appliance, message.epoch, time_s=time_s, record_id=record_id, action=DELIVERY_ACTIONS[result],
        sequence=attempt.sequence, created=created,
    )  # fmt: skip
    record["event"]["outcome"] = DELIVERY_OUTCOMES.get(result, "unknown")
    own = record["cisco_esa"]
    if leg is not None:
        mail = attempt.start_seen or result in ("delivered", "uncertain")
        triple_own, beside = triple(appliance, leg, in_clear=leg.in_clear() if mail and result != "tls_blocked" else None)
        own.update(triple_own)
        record.update(beside)
        destination = _end(leg.peer, leg.host, leg.port)
        if destination:
            record["destination"] = destination
    _span(record, attempt.first_s if attempt.start_seen else None, time_s)
    own["mid"] = message.number
    own["rids"] = rids[:MAX_LIST]
    facts: dict[str, Any] = {"result": result, "ordinal": attempt.ordinal}
    if message.start_seen:
        facts["attempt"] = attempt.ordinal
    if result in ("delivered", "uncertain"):
        said: tuple[int | None, str | None, str | None, str | None] = (attempt.code, attempt.enhanced_code, None, attempt.response)
    else:
        said = next((attempt.failures[rid] for rid in rids if rid in attempt.failures), (None, None, None, None))
    for name, value in zip(("code", "enhanced_code", "reason", "response"), said, strict=True):
        if value is not None:
            facts[name] = value
    if attempt.retry_at is not None and result in ("delayed", "tls_blocked", "connection_error"):
        facts["retry_at"] = attempt.retry_at
    known = {one.rid: one.address for one in message.recipients}
    addresses = [address for rid in rids if (address := known.get(rid))]
    domains = list(dict.fromkeys(domain for address in addresses if (domain := domain_of(address))))
    if domains:
        facts["domains"] = domains[:MAX_LIST]
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
    _related(record, ips=[leg.peer if leg else None], hosts=[*domains], users=[message.sender, *addresses])
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
    own, _ = triple(appliance, leg, in_clear=leg.in_clear())
    reception = {"connection_id": own["connection"]["id"], "icid": leg.number, "tls": own["tls"]}
    peer = _end(leg.peer, leg.host)
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
                own, _ = triple(appliance, leg, in_clear=leg.in_clear() if mail else None)
                item["connection_id"] = own["connection"]["id"]
                item["dcid"] = leg.number
                item["tls"] = own["tls"]
                peer = _end(leg.peer, leg.host, leg.port)
                if peer:
                    item["peer"] = peer
            if attempt.response and result == "delivered":
                item["response"] = attempt.response
            found.append(item)
    return found


def message(appliance: str, entry: Message, *, record_id: str, time_s: int, created: str, observer: dict[str, str]) -> dict[str, Any]:
    """The `message` record of a message that ended."""
    record = _frame(
        "message", appliance, entry.epoch, time_s=time_s, record_id=record_id, action="message-ended",
        sequence=entry.last_sequence, created=created,
    )  # fmt: skip
    _span(record, entry.start_s, time_s)
    own = record["cisco_esa"]
    own["mid"] = entry.number
    own["posture"] = posture.of_message(entry)
    if (posture_in := posture.of_reception(entry)) is not None:
        own["posture_in"] = posture_in
    own["posture_out"] = posture.of_message(entry, both_legs=False)
    own["message"] = {"end": entry.end}
    if entry.end_reason:
        own["message"]["end_reason"] = entry.end_reason
    for name, value in (("mail_flow", entry.flow), ("size_bytes", entry.size_bytes), ("mail_policy", entry.mail_policy), ("parent_mid", entry.parent_mid), ("child_kind", entry.child_kind)):
        if value is not None:
            own[name] = value
    if entry.child_mids:
        own["child_mids"] = entry.child_mids[:MAX_LIST]
    reception = reception_of(appliance, entry)
    if reception is not None:
        own["reception"] = reception
    deliveries = _deliveries(appliance, entry)
    if deliveries:
        own["deliveries"] = deliveries[:MAX_LIST]
        own["delivery_count"] = len(deliveries)
    addresses: list[str] = []
    recipients: list[dict[str, Any]] = []
    clear: list[str] = []
    clear_count = 0
    for known in entry.recipients:
        item: dict[str, Any] = {"rid": known.rid, "result": known.result, "posture": posture.of_recipient(entry, known)}
        domain = domain_of(known.address)
        if known.address is not None:
            addresses.append(known.address)
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
    _related(record, ips=peers, hosts=[domain_of(address) for address in addresses], users=[entry.sender, *addresses])
    return record
