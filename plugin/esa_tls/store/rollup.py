"""What one record adds to the roll-ups: pure. Counted as `esa-tls report` counts.

A mail counts as in clear only where its record says `in_clear`; unknown is counted beside. A message that carries on what an ancestor
received is no reception of its own. Recipients are those that the record lists.

Two grains are kept, hours and days (UTC), so that a long period is summed up from few rows. In rankings a day has at most
`MAX_NAMES` different names; what comes after is counted under "".
"""

from __future__ import annotations

from typing import Final

from esa_tls.core.records import domain_of
from esa_tls.store.parsed import Record, Tls
from esa_tls.store.words import DIRECTION, FLOW

__all__ = ["DAY_S", "HOUR_S", "MAX_NAMES", "NAMED", "RANKINGS", "SERIES", "Cell", "cells_of"]

HOUR_S: Final = 3_600
DAY_S: Final = 86_400

SERIES: Final = {
    "records": 1,
    "mail": 2,
    "connections": 3,
    "evidence": 4,
    "postures": 5,
    "postures_in": 6,
    "postures_out": 7,
    "recipients": 8,
    "results": 9,
    "failures": 10,
    "protocols": 11,
    "ciphers": 12,
}
"""Fields of `answers.Overview` -> numbers in the file."""

RANKINGS: Final = {
    "clear_in_domains": 32,
    "clear_in_peers": 33,
    "clear_out_domains": 34,
    "clear_out_peers": 35,
    "failing_peers": 36,
}
"""`answers.Top` -> numbers in the file."""

MAX_NAMES: Final = 2_000
NAMED: Final = frozenset({*RANKINGS.values(), SERIES["protocols"], SERIES["ciphers"]})
"""Series whose names come from outside, so that there may be any number of them."""

MAX_NAME_CHARS: Final = 255

Cell = tuple[int, int, int, str, str]
"""(series, direction, flow, name, clear)."""

_CLEAR: Final = {True: "clear", False: "tls", None: "unknown"}
_INBOUND, _OUTBOUND = DIRECTION["inbound"], DIRECTION["outbound"]
_RECORDS, _MAIL, _CONNECTIONS, _EVIDENCE = (SERIES[name] for name in ("records", "mail", "connections", "evidence"))
_POSTURES, _POSTURES_IN, _POSTURES_OUT = (SERIES[name] for name in ("postures", "postures_in", "postures_out"))
_RECIPIENTS, _RESULTS, _FAILURES = (SERIES[name] for name in ("recipients", "results", "failures"))
_PROTOCOLS, _CIPHERS = SERIES["protocols"], SERIES["ciphers"]
_IN_DOMAINS, _IN_PEERS, _OUT_DOMAINS, _OUT_PEERS, _FAILING = RANKINGS.values()


def cells_of(record: Record) -> list[tuple[Cell, int]]:
    """(cell, number) of everything that the record adds."""
    own = record.cisco_esa
    found: list[tuple[Cell, int]] = [((_RECORDS, 0, 0, own.record, ""), 1)]
    match own.record:
        case "connection":
            if own.tls is not None:
                _connection(record, own.tls, found)
        case "delivery":
            _delivery(record, found)
        case "message":
            _message(record, found)
        case _:
            pass
    return found


def _connection(record: Record, tls: Tls, found: list[tuple[Cell, int]]) -> None:
    own = record.cisco_esa
    direction = DIRECTION.get(own.direction, 0)
    found.append(((_CONNECTIONS, direction, 0, tls.outcome, ""), 1))
    found.append(((_EVIDENCE, direction, 0, tls.outcome, tls.evidence), 1))
    if tls.outcome == "success":
        found.append(((_PROTOCOLS, direction, 0, _name(tls.protocol, "not told"), ""), 1))
        found.append(((_CIPHERS, direction, 0, _name(tls.cipher, "not told"), ""), 1))
    if tls.failure is not None:
        found.append(((_FAILURES, direction, 0, tls.failure.class_, ""), 1))
        peer = record.source if direction == _INBOUND else record.destination
        found.append(((_FAILING, direction, 0, _name("" if peer is None else peer.name(), "not told"), ""), 1))


def _delivery(record: Record, found: list[tuple[Cell, int]]) -> None:
    own = record.cisco_esa
    flow, rids = FLOW.get(own.mail_flow, 0), len(own.rids)
    result = "" if own.delivery is None else own.delivery.result
    found.append(((_RESULTS, 0, flow, result, ""), rids))
    tls = own.tls
    if tls is None or result not in ("delivered", "uncertain"):
        return
    found.append(((_MAIL, _OUTBOUND, flow, tls.outcome, _CLEAR[tls.in_clear]), 1))
    if tls.in_clear:
        addresses = [] if own.envelope is None else own.envelope.to
        domains = [domain_of(address) or "" for address in addresses] or [""]
        found += [((_OUT_DOMAINS, _OUTBOUND, 0, _name(domain, "not told"), ""), 1) for domain in domains]
        peer = "" if record.destination is None else record.destination.name()
        found.append(((_OUT_PEERS, _OUTBOUND, 0, _name(peer, "not told"), ""), rids))


def _message(record: Record, found: list[tuple[Cell, int]]) -> None:
    own = record.cisco_esa
    flow = FLOW.get(own.mail_flow, 0)
    found.append(((_POSTURES, 0, flow, own.posture, ""), 1))
    found.append(((_POSTURES_OUT, 0, flow, own.posture_out, ""), 1))
    if own.posture_in:
        found.append(((_POSTURES_IN, 0, flow, own.posture_in, ""), 1))
    recipients: dict[str, int] = {}
    for one in own.recipients:
        recipients[one.posture] = recipients.get(one.posture, 0) + 1
    found += [((_RECIPIENTS, 0, flow, posture, ""), number) for posture, number in recipients.items()]
    reception = own.reception
    if reception is None or reception.tls is None or own.child_kind is not None:
        return
    found.append(((_MAIL, _INBOUND, flow, reception.tls.outcome, _CLEAR[reception.tls.in_clear]), 1))
    if reception.tls.in_clear:
        sender = None if own.envelope is None else own.envelope.from_
        found.append(((_IN_DOMAINS, _INBOUND, 0, _name(domain_of(sender) or "", "no sender"), ""), 1))
        peer = "" if reception.peer is None else reception.peer.name()
        found.append(((_IN_PEERS, _INBOUND, 0, _name(peer, "not told"), ""), 1))


def _name(text: str, otherwise: str) -> str:
    return text[:MAX_NAME_CHARS] if text else f"({otherwise})"
