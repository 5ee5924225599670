"""A record as one row: what happened, to which mail, how it went. The same row in Search, on the Overview and in Live. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from esa_tls.offline.explain_words import ENDS, FAILURES, POSTURES, RESULTS, first_upper
from esa_tls.offline.terminal import printable
from esa_tls.web.asked import OUTCOMES, connection_link, message_link

CLEAR_WORDS: Final = {True: "in clear text", False: "under TLS", None: "not known"}
CLEAR_TONES: Final = {True: "clear", False: "tls", None: "unknown"}
POSTURE_TONES: Final = {
    "encrypted": "tls",
    "exposed": "clear",
    "partial": "partial",
    "blocked": "blocked",
    "undelivered": "undelivered",
    "continued": "continued",
    "unknown": "unknown",
}
KIND_WORDS: Final = {"message": "message", "delivery": "delivery", "connection": "connection", "consolidated": "event", "line": "line"}


class Tone(msgspec.Struct, frozen=True):
    """A word with the colour and shape of its outcome; `tone` is a key of `charts.specs.COLOURS`, empty: plain."""

    word: str = ""
    tone: str = ""


class Row(msgspec.Struct, frozen=True):
    """One record. Texts are made harmless (no control characters), not escaped. `link`: the view that tells its story."""

    id: str
    time: str
    kind: str
    name: str
    link: str
    appliance: str
    way: str
    sender: str
    recipients: str
    peer: str
    tls: Tone
    mail: Tone
    result: str


def row_of(record: dict[str, Any]) -> Row:
    """The row of a record of any kind."""
    own = record["cisco_esa"]
    kind = own["record"]
    tls = own.get("tls", {})
    connection_id = own.get("connection", {}).get("id", "")
    link = connection_link(connection_id) if connection_id else ""
    if "mid" in own and kind != "connection":
        link = message_link(own["appliance"], own["epoch"], own["mid"])
    envelope = own.get("envelope", {})
    peer, result, name = "", "", f"MID {own['mid']}" if "mid" in own else ""
    mail = Tone()
    match kind:
        case "connection":
            peer = _peer(record.get("source" if "icid" in own else "destination", {}))
            result = ENDS.get(own["connection"].get("end", ""), "")
            name = f"ICID {own['icid']}" if "icid" in own else f"DCID {own['dcid']}"
            number = own["connection"].get("message_count", 0)
            mail = _mail(tls.get("in_clear")) if number else Tone("no mail")
        case "delivery":
            peer = _peer(record.get("destination", {}))
            result = RESULTS.get(own["delivery"]["result"], own["delivery"]["result"])
            if own["delivery"]["result"] == "tls_blocked":
                mail = Tone("not sent", "blocked")
            elif tls:
                mail = _mail(tls.get("in_clear"))
        case "message":
            reception = own.get("reception", {})
            tls = reception.get("tls", {})
            peer = _peer(reception.get("peer", {}))
            mail = Tone(POSTURES.get(own["posture"], own["posture"]), POSTURE_TONES.get(own["posture"], ""))
        case "consolidated":
            tls = own.get("reception", {}).get("tls", {})
            result = str(own.get("cef", {}).get("action", ""))
    outcome = tls.get("outcome", "")
    word = OUTCOMES.get(outcome, outcome)
    if outcome == "failed" and (failure := tls.get("failure")):
        word = f"failed: {FAILURES.get(failure.get('class', ''), 'for another reason')}"
    elif outcome == "success" and tls.get("protocol"):
        word = str(tls["protocol"])
    return Row(
        record["event"]["id"],
        record["@timestamp"][:19].replace("T", " "),
        KIND_WORDS.get(kind, kind),
        name,
        link,
        printable(own["appliance"]),
        {"inbound": "in", "outbound": "out"}.get(own.get("direction", ""), "in" if kind == "message" and "reception" in own else ""),
        printable(str(envelope.get("from") or "")),
        _some(envelope.get("to", ())),
        printable(peer),
        Tone(printable(word), outcome),
        mail,
        printable(first_upper(result)),
    )


def _mail(in_clear: bool | None) -> Tone:  # noqa: FBT001 (three values)
    return Tone(CLEAR_WORDS[in_clear], CLEAR_TONES[in_clear])


def _peer(end: dict[str, Any]) -> str:
    address = end.get("ip") or end.get("address") or ""
    domain = end.get("domain")
    return f"{domain} ({address})" if domain and domain != "unknown" and address else str(address or domain or "")


def _some(addresses: Iterable[str]) -> str:
    listed = [printable(address) for address in addresses]
    return ", ".join(listed[:2]) + (f" and {len(listed) - 2} more" if len(listed) > 2 else "")
