"""Records: the only place that spells field names.

Each function here builds one record as nested dicts, as docs/records.md lists them: absent = not known or not applicable, no nulls,
no empty strings. `FIELDS` is the table from which docs, schema and templates are generated; a test walks every record that
tests produce and finds each of its paths there. `encode.py` makes the same bytes faster for `line` records.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from esa_tls.core.ciphers import OPENSSL_TO_IANA
from esa_tls.core.connections import FAILED, NONE, SUCCESS, Leg
from esa_tls.core.facts import Fact

SCHEMA_VERSION: Final = 1
MAX_LIST: Final = 100
"""Lists are cut here, with a count beside them; outcomes and postures are worked out before the cut."""

KINDS: Final = ("line", "connection", "delivery", "message", "consolidated")

_NETWORK: Final = "network"
_EMAIL: Final = "email"
_HOST: Final = "host"
_START: Final = (_NETWORK, ("connection", "start"))
_END: Final = (_NETWORK, ("connection", "end"))
_PROTOCOL: Final = (_NETWORK, ("connection", "protocol"))
_ALLOWED: Final = (_NETWORK, ("connection", "allowed"))
_DENIED: Final = (_NETWORK, ("connection", "denied"))
_INFO: Final = (_EMAIL, ("info",))
_SYSTEM: Final = (_HOST, ("info",))

ACTIONS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
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

INBOUND: Final = "inbound"
OUTBOUND: Final = "outbound"


@lru_cache(maxsize=65536)
@lru_cache(maxsize=4096)
def iso(seconds: int) -> str:
    """Whole seconds since 1970 as RFC 3339 in UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return "1970-01-01T00:00:00Z"


def connection_id(appliance: str, leg: Leg) -> str:
    """`{appliance}/{epoch}/ICID/{n}` or `.../DCID/{n}`."""
    return f"{appliance}/{leg.epoch}/{leg.kind}CID/{leg.number}"


_TlsFacts = tuple[
    str, str | None, bool, str | None, str | None, bool, str | None, str | None, bool | None, str | None, bool | None,
]  # fmt: skip


@lru_cache(maxsize=4096)
def _tls(facts: _TlsFacts) -> dict[str, Any]:
    """`cisco_esa.tls.*`. There are few different ones, which all connections share: not to be changed."""
    outcome, evidence, required, failure_class, failure_reason, broken, protocol, cipher, verified, dane, in_clear = facts
    tls: dict[str, Any] = {"outcome": outcome}
    if evidence is not None:
        tls["evidence"] = evidence
    if in_clear is not None:
        tls["in_clear"] = in_clear
    if required:
        tls["required"] = True
    if failure_class is not None:
        tls["failure"] = {"class": failure_class}
        if failure_reason:
            tls["failure"]["reason"] = failure_reason
    if broken:
        tls["broken"] = True
    if protocol:
        tls["protocol"] = protocol
    if cipher:
        tls["cipher"] = cipher
    if verified is not None:
        tls["verified"] = verified
    if dane is not None:
        tls["dane"] = dane
    return tls


def tls_of(leg: Leg, *, in_clear: bool | None = None) -> dict[str, Any]:
    """`cisco_esa.tls.*` of a leg, not to be changed."""
    return _tls((
        leg.outcome, leg.evidence, leg.required, leg.failure_class, leg.failure_reason, leg.broken, leg.protocol, leg.cipher, leg.verified,
        leg.dane, in_clear,
    ))  # fmt: skip


TLS_ACTIONS: Final = frozenset({
    "tls-succeeded", "tls-failed", "tls-required-failed", "tls-data-read", "starttls-not-supported", "certificate-verified",
})  # fmt: skip
"""Lines about TLS: they have all that is known of their connection's; other lines have what is searched for (`triple_on_line`)."""


def triple_on_line(appliance: str, leg: Leg) -> dict[str, Any]:
    """The triple as lines have it that are not about TLS themselves: all of it under `cisco_esa`.

    Without ECS's view of the same and without what describes the session: that is on the TLS line and on the summaries, and would add half
    as much again to most lines.
    """
    inbound = leg.kind == "I"
    return {
        "connection": {"id": connection_id(appliance, leg)},
        "direction": INBOUND if inbound else OUTBOUND,
        "icid" if inbound else "dcid": leg.number,
        "tls": tls_on_line(leg),
    }


def tls_on_line(leg: Leg) -> dict[str, Any]:
    """`cisco_esa.tls.*` of such a line, not to be changed."""
    return _tls((leg.outcome, leg.evidence, leg.required, leg.failure_class, None, leg.broken, None, None, None, None, None))


_VERSIONS: Final = {"TLSv1": "1.0", "TLSv1.0": "1.0", "TLSv1.1": "1.1", "TLSv1.2": "1.2", "TLSv1.3": "1.3", "SSLv3": "3.0", "SSLv2": "2.0"}


@lru_cache(maxsize=4096)
def _ecs_beside(kind: str, outcome: str, protocol: str | None, cipher: str | None, common_name: str | None) -> dict[str, Any]:
    """ECS's `network.direction` and `tls.*`, not to be changed; `tls.established` is absent while the outcome is unknown or pending."""
    tls: dict[str, Any] = {}
    if outcome == SUCCESS:
        tls["established"] = True
    elif outcome in (FAILED, NONE):
        tls["established"] = False
    version = _VERSIONS.get(protocol or "")
    if version is not None:
        tls["version_protocol"] = "ssl" if protocol is not None and protocol.startswith("SSL") else "tls"
        tls["version"] = version
    if cipher is not None:
        iana = OPENSSL_TO_IANA.get(cipher)
        if iana is not None:
            tls["cipher"] = iana
    if common_name:
        tls["client" if kind == "I" else "server"] = {"x509": {"subject": {"common_name": common_name}}}
    beside: dict[str, Any] = {"network": {"direction": "ingress" if kind == "I" else "egress"}}
    if tls:
        beside["tls"] = tls
    return beside


def triple(appliance: str, leg: Leg, *, in_clear: bool | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The triple of a leg: (what goes under `cisco_esa`, what goes beside it).

    The first is a new dict, with the connection's identity in another; what else is in it, and the second, are shared.
    """
    inbound = leg.kind == "I"
    return (
        {
            "connection": {"id": connection_id(appliance, leg)},
            "direction": INBOUND if inbound else OUTBOUND,
            "icid" if inbound else "dcid": leg.number,
            "tls": tls_of(leg, in_clear=in_clear),
        },
        _ecs_beside(leg.kind, leg.outcome, leg.protocol, leg.cipher, leg.common_name),
    )


def peer_of(leg: Leg) -> dict[str, Any]:
    """The far end of a leg, a new dict."""
    return end_of(leg.peer, leg.host, leg.port)


@lru_cache(maxsize=65536)
def is_ip(text: str) -> bool:
    """Whether a text is an IPv4 or IPv6 address; masked or cut ones are none."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def end_of(address: str | None, domain: str | None = None, port: int | None = None) -> dict[str, Any]:
    """One end of a connection: `ip` if it is one, else the text as `address`."""
    end: dict[str, Any] = {}
    if address:
        end["ip" if is_ip(address) else "address"] = address
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


NO_FIELDS: Final = frozenset({
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
            return own, {"email": {"from": {"address": [address]}}}
        case "recipient-accepted" | "recipient-rejected" | "recipient-dropped" | "recipient-bounced" | "recipient-rerouted":
            address = values.get("address")
            return ({}, {}) if address is None else ({}, {"email": {"to": {"address": [address]}}})
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
                beside[peer] = {**beside.get(peer, {}), **end_of(value)}
            case "host":
                beside["source"] = {**beside.get("source", {}), "domain": value}
            case "port":
                beside["destination"] = {**beside.get("destination", {}), "port": value}
            case "local_ip":
                beside[local] = {**beside.get(local, {}), **end_of(value)}
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
