"""The `consolidated` record: what one line of the consolidated event log says, under the names of the other records.

It has an id of its own and is never merged with them. The administrator picks the fields of the log, so a field that is absent says
nothing: a TLS field that is absent is `unknown`, never `none`. Source: docs/records.md, docs/log-lines.md 7.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from esa_tls.core.cef import Cef, CefTls
from esa_tls.core.connections import FAILED, GAP, LINE, SUCCESS, UNKNOWN
from esa_tls.core.pieces import score
from esa_tls.core.records import iso

ACTIONS: Final = {
    "DELIVERED": ("consolidated-delivered", "success"),
    "BOUNCED": ("consolidated-bounced", "failure"),
    "ABORTED": ("consolidated-aborted", "failure"),
    "DROPPED": ("consolidated-dropped", "failure"),
    "QUARANTINED": ("consolidated-quarantined", "unknown"),
    "DQ": ("consolidated-delayed-quarantine", "unknown"),
}
"""`act` -> `event.action`, `event.outcome`; any other is `consolidated-event`, `unknown`."""

CEF_NAMES: Final = {
    "act": "action",
    "ESAFinalActionDetails": "action_details",
    "startTime": "start_time",
    "start": "start_time",
    "endTime": "end_time",
    "EndTime": "end_time",
    "end": "end_time",
    "deviceInboundInterface": "inbound_interface",
    "deviceOutboundInterface": "outbound_interface",
    "dvc": "device_address",
    "ESAFriendlyFrom": "friendly_from",
    "ESAReplyTo": "reply_to",
    "ESAHeloDomain": "helo_domain",
    "ESAHeloIP": "helo_address",
    "ESADaneHost": "dane_host",
    "ESAMsgTooBigFromSender": "message_too_big",
    "ESARateLimitedIP": "rate_limited_address",
    "ESADHASource": "harvest_attack_source",
    "ESASDRDomainAge": "sender_domain_age",
    "ESAMARAction": "remediation",
    "ESAAttachmentDetails": "attachments",
    "ESAURLDetails": "urls",
    "cs3": "sender_threat_category",
    "cs5": "language",
    "cs6": "sender_reputation",
    **{
        f"ESA{key}Verdict": f"{name}_verdict"
        for key, name in (
            ("AS", "antispam"),
            ("AMP", "amp"),
            ("AV", "antivirus"),
            ("GM", "graymail"),
            ("CF", "content_filter"),
            ("OF", "outbreak_filter"),
            ("DLP", "dlp"),
            ("MF", "message_filter"),
            ("SPF", "spf"),
            ("DKIM", "dkim"),
            ("DMARC", "dmarc"),
        )
    },
    "Message Filters Verdict": "message_filter_verdict",
}
"""Fields that have no name elsewhere -> theirs under `cisco_esa.cef`; kept as printed."""


def consolidated(appliance: str, epoch: int, event: Cef, *, record_id: str, time_s: int, created: str, sequence: int) -> dict[str, Any]:
    """The record of one consolidated event. `record_id`, `time_s` and `sequence` are those of its line (the id under a mask)."""
    action, outcome = ACTIONS.get((event.action or "").upper(), ("consolidated-event", "unknown"))
    own: dict[str, Any] = {"record": "consolidated", "appliance": appliance, "epoch": epoch}
    record: dict[str, Any] = {
        "@timestamp": iso(time_s),
        "event": {
            "id": record_id,
            "action": action,
            "category": ["email"],
            "type": ["info"],
            "outcome": outcome,
            "sequence": sequence,
            "created": created,
        },
        "host": {"name": appliance},
        "cisco_esa": own,
    }
    ids = (("mid", event.mid), ("icid", event.icid), ("dcid", event.dcid))
    own.update({name: number for name, number in ids if number is not None})
    own.update(_present(mail_flow=event.mail_flow, mail_policy=event.fields.get("cs1")))
    hat = _present(
        policy=event.fields.get("ESAMailFlowPolicy"), sender_group=event.fields.get("ESASenderGroup"), country=event.fields.get("cs2")
    )
    sbrs = score(event.fields.get("cfp1", ""))
    if sbrs is not None:
        hat["sbrs"] = sbrs
    if hat:
        own["hat"] = hat
    own["reception"] = {"tls": _tls(event.tls_in)}
    own["delivery_tls"] = _tls(event.tls_out)
    if dane := event.fields.get("ESADaneStatus"):
        own["delivery_tls"]["dane"] = dane
    cef: dict[str, Any] = _present(product=event.product)
    for key, name in CEF_NAMES.items():
        if (value := event.fields.get(key)) and name not in cef:
            cef[name] = value
    own["cef"] = cef
    _envelope(record, event)
    _ends(record, event)
    return record


def _tls(tls: CefTls | None) -> dict[str, str]:
    if tls is None:
        return {"outcome": UNKNOWN, "evidence": GAP}
    outcome = {"success": SUCCESS, "failure": FAILED}.get((tls.status or "").lower(), UNKNOWN)
    return {"outcome": outcome, "evidence": GAP if outcome == UNKNOWN else LINE, **_present(protocol=tls.protocol, cipher=tls.cipher)}


def _envelope(record: dict[str, Any], event: Cef) -> None:
    email: dict[str, Any] = _present(message_id=event.message_id, subject=event.subject)
    if event.mid is not None:
        email["local_id"] = str(event.mid)
    envelope: dict[str, Any] = {}
    users: list[str] = []
    if event.sender:
        envelope["from"] = event.sender
        email["from"] = {"address": [event.sender]}
        users.append(event.sender)
    if event.recipients:
        envelope["to"] = list(event.recipients[:100])
        email["to"] = {"address": list(event.recipients[:100])}
        users += event.recipients[:100]
    if email:
        record["email"] = email
    if envelope:
        record["cisco_esa"]["envelope"] = envelope
        record["related"] = {"user": list(dict.fromkeys(users))[:100]}


def _ends(record: dict[str, Any], event: Cef) -> None:
    source: dict[str, Any] = {}
    related = record.setdefault("related", {})
    address, host = event.source_address, event.source_host
    if address:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            source["address"] = address
        else:
            source["ip"] = address
            related["ip"] = [address]
    if host:
        source["domain"] = host
        related["hosts"] = [host]
    if source:
        record["source"] = source
    if not related:
        del record["related"]
    observer = _present(serial_number=event.fields.get("deviceExternalId"), version=event.version)
    if observer:
        record["observer"] = observer


def _present(**values: str | None) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value}
