"""Records in plain English, one sentence each: what a store shows as the log line of a summary.

Said is only what the record says; what is absent is left out. Text from outside (addresses, reasons) stands as it is, on one line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

MAX_NAMED: Final = 3
"""So many addresses are named; the rest is counted."""

Record = Mapping[str, Any]


def sentence(record: Record) -> str:
    """The sentence of a `connection`, `delivery`, `message` or `consolidated` record; of a `line` record the line itself."""
    match record["cisco_esa"]["record"]:
        case "connection":
            text = _connection(record)
        case "delivery":
            text = _delivery(record)
        case "message":
            text = _message(record)
        case "consolidated":
            text = _consolidated(record)
        case _:
            return str(record["event"].get("original", ""))
    return " ".join(text.split())


def _connection(record: Record) -> str:
    own = record["cisco_esa"]
    inbound = own.get("direction") == "inbound"
    facts = own.get("connection", {})
    number = f"ICID {own.get('icid')}" if inbound else f"DCID {own.get('dcid')}"
    peer = _end_of(record.get("source" if inbound else "destination", {}))
    where = f" {'from' if inbound else 'to'} {peer}" if peer else ""
    count = facts.get("message_count", 0)
    mail = "no message" if not count else "1 message" if count == 1 else f"{count} messages"
    end = str(facts.get("end", "")).replace("_", " ")
    lost = ", lost" if facts.get("lost") and end != "lost" else ""
    return f"{'Inbound' if inbound else 'Outbound'} connection {number}{where}: {_tls(own.get('tls', {}))}; {mail}; ended by {end}{lost}."


def _delivery(record: Record) -> str:
    own = record["cisco_esa"]
    facts = own.get("delivery", {})
    result = str(facts.get("result", "unknown"))
    to = _named(own.get("envelope", {}).get("to", ())) or _recipients(own.get("rids", ()))
    via = f" over DCID {own['dcid']}" if "dcid" in own else ""
    peer = _end_of(record.get("destination", {}))
    via += f" to {peer}" if peer else ""
    response = facts.get("response") or facts.get("reason")
    said = f": {response}" if response else ""
    tls = own.get("tls")
    how = "" if tls is None else f" {_leg(tls)}"
    return f"MID {own.get('mid')} for {to}: {_RESULTS.get(result, result)}{via}{how}{said}."


_RESULTS: Final = {
    "tls_blocked": "not sent because TLS failed",
    "connection_error": "not sent, connection error",
    "uncertain": "delivery uncertain",
    "unknown": "result unknown",
}


def _message(record: Record) -> str:
    own = record["cisco_esa"]
    envelope = own.get("envelope", {})
    sender = f" from {envelope['from']}" if envelope.get("from") else ""
    to = _named(envelope.get("to", ()))
    posture = str(own.get("posture", "unknown"))
    legs = []
    reception = own.get("reception")
    if reception is not None:
        legs.append(f"received {_leg(reception.get('tls', {}))}")
    clear = own.get("clear")
    if clear:
        count = clear.get("recipient_count", 0)
        domains = _named(clear.get("domains", ()))
        legs.append(f"left in clear text for {count} recipient{'s' if count != 1 else ''}{' at ' + domains if domains else ''}")
    end = own.get("message", {}).get("end")
    return (
        f"MID {own.get('mid')}{sender}{' to ' + to if to else ''}: {posture}"
        f"{' (' + ', '.join(legs) + ')' if legs else ''}{'; ' + str(end).replace('_', ' ') if end else ''}."
    )


def _consolidated(record: Record) -> str:
    own = record["cisco_esa"]
    envelope = own.get("envelope", {})
    email = record.get("email", {})
    sender = envelope.get("from") or next(iter(email.get("from", {}).get("address", ())), "")
    to = _named(envelope.get("to") or email.get("to", {}).get("address", ()))
    mid = own.get("mid") or email.get("local_id")
    legs = [
        f"{what} {_leg(own[name] if name == 'delivery_tls' else own[name].get('tls', {}))}"
        for name, what in (("reception", "received"), ("delivery_tls", "delivered"))
        if own.get(name)
    ]
    return (
        f"Consolidated event{f' of MID {mid}' if mid else ''}{f' from {sender}' if sender else ''}{f' to {to}' if to else ''}: "
        f"{record['event'].get('action', 'unknown')}{' (' + ', '.join(legs) + ')' if legs else ''}."
    )


def _tls(tls: Record) -> str:
    """The outcome of a connection."""
    outcome = tls.get("outcome", "unknown")
    failure = tls.get("failure", {})
    why = failure.get("reason") or str(failure.get("class", "")).replace("_", " ")
    details = ", ".join(str(tls[name]) for name in ("protocol", "cipher") if tls.get(name))
    match outcome:
        case "success":
            text = f"TLS{' (' + details + ')' if details else ''}" + (", broken off" if tls.get("broken") else "")
        case "failed":
            text = "TLS failed" + (f" ({why})" if why else "")
        case "none":
            text = "no TLS"
        case _:
            text = "TLS unknown"
    return text + (", which was required" if tls.get("required") and outcome != "success" else "")


def _leg(tls: Record) -> str:
    """How mail went on a leg."""
    in_clear = tls.get("in_clear")
    if in_clear is None and tls.get("outcome") == "success":
        in_clear = False
    if in_clear is None:
        return f"({_tls(tls)})"
    if in_clear:
        return "in clear text" if tls.get("outcome") == "none" else f"in clear text ({_tls(tls)})"
    return "under TLS"


def _end_of(end: Record) -> str:
    """`mx.example.org [192.0.2.1]:25`, as far as known."""
    address = end.get("ip") or end.get("address") or ""
    domain = end.get("domain") or ""
    text = f"{domain} [{address}]" if domain and address else domain or address
    return f"{text} port {end['port']}" if text and end.get("port") else text


def _named(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    shown = ", ".join(names[:MAX_NAMED])
    return f"{shown} and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else shown


def _recipients(rids: Sequence[int]) -> str:
    return f"RID {', '.join(map(str, rids[:MAX_NAMED]))}" + (f" and {len(rids) - MAX_NAMED} more" if len(rids) > MAX_NAMED else "")
