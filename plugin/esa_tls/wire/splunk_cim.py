"""Names of Splunk's Common Information Model (CIM) for our records: data models Email and Network Traffic. Pure.

They stand at the top of an event beside the record's own fields, which keep their names. CIM has no field for the TLS of a mail: that is
`cisco_esa.tls.*` and `tls.*` there too. A name is left out where a record does not say it; nothing is guessed for the sake of a model. A
list of one is that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from esa_tls.core.records import KINDS

__all__ = ["ACTIONS", "CIM", "CimField", "cim_of"]


class CimField(msgspec.Struct, frozen=True):
    """One name. `paths`: fields of ours, the first that the record has is taken; `value`: the same for all records instead."""

    name: str
    kinds: tuple[str, ...]
    meaning: str
    paths: tuple[str, ...] = ()
    value: str | None = None


_MAIL = ("line", "delivery", "message", "consolidated")

CIM: tuple[CimField, ...] = (
    CimField("vendor_product", KINDS, "who reports", value="Cisco Secure Email Gateway"),
    CimField("protocol", KINDS, "what is spoken", value="smtp"),
    CimField("dvc", KINDS, "the appliance", ("host.name",)),
    CimField("direction", ("line", "connection", "delivery"), "`inbound`, `outbound`", ("cisco_esa.direction",)),
    CimField("src", ("line", "connection", "consolidated"), "who connected", ("source.ip", "source.address", "source.domain")),
    CimField("src", ("delivery",), "who delivers: the appliance", ("host.name",)),
    CimField(
        "src",
        ("message",),
        "who sent it to the appliance",
        ("cisco_esa.reception.peer.ip", "cisco_esa.reception.peer.address", "cisco_esa.reception.peer.domain"),
    ),
    CimField(
        "dest",
        ("line", "connection", "delivery", "consolidated"),
        "who was connected to",
        ("destination.ip", "destination.address", "destination.domain"),
    ),
    CimField("dest_port", ("line", "connection", "delivery"), "its port", ("destination.port",)),
    CimField("src_user", _MAIL, "envelope sender", ("email.from.address",)),
    CimField("recipient", _MAIL, "envelope recipients", ("email.to.address",)),
    CimField("recipient_count", ("message",), "how many", ("cisco_esa.recipient_count",)),
    CimField("recipient_domain", ("delivery",), "their domains", ("cisco_esa.delivery.domains",)),
    CimField("recipient_status", ("delivery",), "what came of the attempt", ("cisco_esa.delivery.result",)),
    CimField("message_id", _MAIL, "Message-ID", ("email.message_id",)),
    CimField("internal_message_id", _MAIL, "the MID", ("email.local_id", "cisco_esa.mid")),
    CimField("subject", _MAIL, "subject", ("email.subject",)),
    CimField("size", ("line", "message"), "bytes", ("cisco_esa.size_bytes",)),
    CimField("status_code", ("line", "delivery"), "SMTP code", ("cisco_esa.delivery.code",)),
    CimField(
        "message_info",
        ("line", "delivery"),
        "the server's answer, or why not",
        ("cisco_esa.delivery.response", "cisco_esa.delivery.reason"),
    ),
    CimField("action", ("connection",), "`blocked`: refused by the host access table; else `allowed`"),
    CimField(
        "action", ("delivery", "message", "consolidated"), "`delivered`, `blocked`, `quarantined`, `deleted`; absent: none of them yet"
    ),
)
"""Every name, in the order of the manual. `action` is worked out below."""

ACTIONS = {
    "delivered": "delivered",
    "bounced": "blocked",
    "tls_blocked": "blocked",
    "quarantined": "quarantined",
    "deleted": "deleted",
    "dropped": "deleted",
}
"""`cisco_esa.delivery.result` and `cisco_esa.recipients.result` -> `action`; the others are no end of a mail."""

_CONSOLIDATED_ACTIONS = {
    "consolidated-delivered": "delivered",
    "consolidated-bounced": "blocked",
    "consolidated-dropped": "deleted",
    "consolidated-quarantined": "quarantined",
    "consolidated-delayed-quarantine": "quarantined",
}


def cim_of(kind: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """The names of the CIM that a record of this kind has something for."""
    found: dict[str, Any] = dict(_VALUES[kind])
    for name, paths in _PATHS[kind]:
        for path in paths:
            value = _at(record, path)
            if value is not None:
                found[name] = value[0] if isinstance(value, list) and len(value) == 1 else value
                break
    action = _action(kind, record)
    if action is not None:
        found["action"] = action
    return found


_VALUES = {kind: {one.name: one.value for one in CIM if one.value is not None and kind in one.kinds} for kind in KINDS}
_PATHS = {
    kind: [(one.name, [tuple(path.split(".")) for path in one.paths]) for one in CIM if one.paths and kind in one.kinds] for kind in KINDS
}


def _at(record: Mapping[str, Any], path: tuple[str, ...]) -> Any:  # noqa: ANN401 (a JSON value)
    value: Any = record
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def _action(kind: str, record: Mapping[str, Any]) -> str | None:
    match kind:
        case "connection":
            policy = str(_at(record, ("cisco_esa", "hat", "policy")) or "")
            return "blocked" if policy.upper() in ("REJECT", "TCPREFUSE") else "allowed"
        case "delivery":
            return ACTIONS.get(str(_at(record, ("cisco_esa", "delivery", "result"))))
        case "message":
            recipients = _at(record, ("cisco_esa", "recipients"))
            actions = {ACTIONS.get(str(one.get("result"))) for one in recipients or () if isinstance(one, dict)}
            # delivered to somebody is delivered; the rest by how much happened
            return next((action for action in ("delivered", "quarantined", "blocked", "deleted") if action in actions), None)
        case "consolidated":
            return _CONSOLIDATED_ACTIONS.get(str(_at(record, ("event", "action"))))
        case _:
            return None
