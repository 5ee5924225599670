"""The answer to each question of docs/queries.yaml, worked out by hand from what the simulator says happened, without any query.

A table answers with the records that must be in it, a count with numbers for each group: (how many,) or (how many, how many of them are
hits).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.boards.world import HANDMADE, HANDMADE_FAILURES, Pair, World

Rows = list[dict[str, Any]]
Counts = dict[tuple[Any, ...], tuple[int, ...]]

IN_CLEAR, OUTCOME, FAILURE, PROTOCOL = (f"cisco_esa.tls.{name}" for name in ("in_clear", "outcome", "failure.class", "protocol"))


def _records(pairs: Iterable[Pair]) -> Rows:
    return [pair.record for pair in pairs]


def _counted(groups: Iterable[tuple[Any, ...]]) -> Counts:
    return {group: (n,) for group, n in Counter(groups).items() if None not in group}


def _shared(hits: Iterable[tuple[tuple[Any, ...], bool]]) -> Counts:
    found: dict[tuple[Any, ...], tuple[int, int]] = {}
    for group, hit in hits:
        if None not in group:
            n, of_them = found.get(group, (0, 0))
            found[group] = (n + 1, of_them + hit)
    return dict(found)


def _mail(world: World) -> dict[tuple[Any, ...], Pair]:
    """Messages by what names one."""
    return {_mid(pair): pair for pair in world.pairs["message"]}


def _mid(pair: Pair) -> tuple[Any, ...]:
    return tuple(pair.said(f"cisco_esa.{name}") for name in ("appliance", "epoch", "mid"))


def _domains(world: World) -> Callable[[Pair], list[str]]:
    """Of a delivery: the domains of its recipients, which the truth of its message names."""
    mail = _mail(world)

    def of(pair: Pair) -> list[str]:
        message = mail.get(_mid(pair))
        recipients = [] if message is None else message.said("cisco_esa.recipients") or []
        addresses = (recipient.get("address") for recipient in recipients if recipient["rid"] in pair.said("cisco_esa.rids"))
        return sorted({address.rpartition("@")[2].lower() for address in addresses if address})

    return of


def _receptions(world: World) -> Callable[[Pair], Pair | None]:
    """Of a message: the connection it was received on."""
    connections = {pair.said("cisco_esa.connection.id"): pair for pair in world.pairs["connection"]}
    return lambda message: connections.get(message.said("cisco_esa.reception.connection_id"))


def _by_domain(world: World, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, str]]:
    domains = _domains(world)
    return ((pair, domain) for pair in pairs for domain in domains(pair))


# -- mail that left --------------------------------------------------------------------------------------------------------------
def _left_in_clear(world: World) -> Rows:
    return _records(pair for pair in world.of("delivery", yesterday=True) if pair.said(IN_CLEAR))


def _domains_in_clear(world: World) -> Counts:
    return _counted((domain,) for pair, domain in _by_domain(world, world.of("delivery", days=7)) if pair.said(IN_CLEAR))


def _never_starttls(world: World) -> Counts:
    tried = (pair for pair in world.of("delivery", days=30) if pair.said("cisco_esa.connection.id"))
    counts = _shared(((domain,), pair.said(FAILURE) == "starttls_not_offered") for pair, domain in _by_domain(world, tried))
    return {group: (n, hit) for group, (n, hit) in counts.items() if hit == n}


def _both_ways(world: World) -> Counts:
    known = (pair for pair in world.of("delivery", days=7) if pair.said(IN_CLEAR) is not None)
    counts = _shared(((domain,), pair.said(IN_CLEAR)) for pair, domain in _by_domain(world, known))
    return {group: (n, hit) for group, (n, hit) in counts.items() if 0 < hit < n}


def _downgrade(world: World) -> Rows:
    return _records(pair for pair in world.of("delivery", days=7) if pair.said(OUTCOME) == "failed" and pair.said(IN_CLEAR))


def _held_back(world: World) -> Counts:
    blocked = (pair for pair in world.of("delivery", days=7) if pair.said("cisco_esa.delivery.result") == "tls_blocked")
    return _counted((domain, pair.said(FAILURE)) for pair, domain in _by_domain(world, blocked))


def _exposed(pair: Pair) -> list[dict[str, Any]]:
    # Whether a recipient's leg was in clear is said of those to whom mail went; the truth may leave others open.
    return [recipient for recipient in pair.said("cisco_esa.recipients") or [] if recipient.get("in_clear")]


def _in_part(world: World) -> Rows:
    return _records(pair for pair in world.of("message", days=7) if pair.said("cisco_esa.posture") == "partial")


def _clear_per_day(world: World) -> Counts:
    went = (pair for pair in world.of("message", days=30) if any(r["result"] in ("delivered", "uncertain") for r in _exposed(pair)))
    return _counted((pair.time.date().isoformat(),) for pair in went)


def _share_per_appliance(world: World) -> Counts:
    outgoing = (pair for pair in world.of("delivery", days=7) if pair.said("cisco_esa.mail_flow") == "outgoing")
    return _shared(((pair.said("cisco_esa.appliance"),), not pair.said(IN_CLEAR)) for pair in outgoing if pair.said(IN_CLEAR) is not None)


# -- mail that came --------------------------------------------------------------------------------------------------------------
RECEIVED_IN_CLEAR = "cisco_esa.reception.tls.in_clear"


def _share_per_sender_group(world: World) -> Counts:
    reception = _receptions(world)

    def group(message: Pair) -> str | None:
        connection = reception(message)
        return None if connection is None else connection.said("cisco_esa.hat.sender_group")

    incoming = (pair for pair in world.of("message", days=7) if pair.said("cisco_esa.mail_flow") == "incoming")
    return _shared(((group(pair),), not pair.said(RECEIVED_IN_CLEAR)) for pair in incoming if pair.said(RECEIVED_IN_CLEAR) is not None)


def _hosts_that_send_in_clear(world: World) -> Counts:
    reception = _receptions(world)
    came = (reception(pair) for pair in world.of("message", days=7) if pair.said(RECEIVED_IN_CLEAR))
    return _counted((connection.said("source.ip"),) for connection in came if connection is not None)


# -- connections -----------------------------------------------------------------------------------------------------------------
def _certificates(world: World) -> Rows:
    assert not [pair for pair in world.pairs["connection"] if pair.said(FAILURE) in HANDMADE_FAILURES.values()]
    wanted = {f"{HANDMADE}/0/DCID/{dcid}" for dcid in HANDMADE_FAILURES}
    return [record for record in world.flat if record["cisco_esa.record"] == "connection" and record["cisco_esa.connection.id"] in wanted]


def _failures(world: World) -> Counts:
    counts = _counted((pair.said(FAILURE), pair.said("cisco_esa.direction")) for pair in world.of("connection", days=7))
    return counts | {(what, "outbound"): (1,) for what in HANDMADE_FAILURES.values()}


def _protocols(world: World) -> Counts:
    used = (pair for pair in world.of("connection", days=7) if pair.said(OUTCOME) == "success")
    counts = _counted((pair.said(PROTOCOL), pair.said("cisco_esa.tls.cipher")) for pair in used)
    own = ("TLSv1.3", "TLS_AES_256_GCM_SHA384")
    return counts | {own: (counts.get(own, (0,))[0] + 1,)}


def _old_protocols(world: World) -> Rows:
    return _records(pair for pair in world.of("connection", days=30) if pair.said(PROTOCOL) in ("TLSv1", "TLSv1.1", "SSLv3"))


def _broken(world: World) -> Rows:
    return _records(pair for pair in world.of("connection", days=7) if pair.said("cisco_esa.tls.broken"))


def _how_sure(world: World) -> Counts:
    counts = _counted((pair.said("cisco_esa.tls.evidence"), pair.said(OUTCOME)) for pair in world.of("connection", days=7))
    own = {("line", "failed"): 2, ("line", "success"): 1}
    return counts | {group: (counts.get(group, (0,))[0] + n,) for group, n in own.items()}


# -- what is known, and what is not ----------------------------------------------------------------------------------------------
def _unknown_messages(world: World) -> Counts:
    unknown = (pair for pair in world.of("message", days=7) if pair.said("cisco_esa.posture") == "unknown")
    return _counted((pair.said("cisco_esa.message.end"), pair.said("cisco_esa.reception.tls.evidence")) for pair in unknown)


def _unrecognised(world: World) -> Rows:
    """Lines that the simulator made up, and those without a text."""
    made_up = re.compile(r"frobnicated by|Flux capacitor|MTA-STS: policy|kind=experimental|: XMID |Info: $")
    return [record for _, line, record in world.lines if made_up.search(line) and line.startswith("Mon Nov 24 ")]


def a_mid(world: World) -> tuple[str, int]:
    """A message of yesterday that has a story: delivered twice or more, partly in clear, and nothing was made from it."""
    told = [
        pair
        for pair in world.of("message", yesterday=True)
        if pair.said("cisco_esa.posture") == "partial" and not pair.said("cisco_esa.child_mids") and not pair.said("cisco_esa.parent_mid")
    ]
    return told[0].said("cisco_esa.appliance"), told[0].said("cisco_esa.mid")


def _one_mid(world: World) -> Rows:
    """The lines that name it, and the truth's deliveries and summary of it."""
    appliance, mid = a_mid(world)
    names = re.compile(rf"\bMID {mid}\b")
    lines = [record for name, line, record in world.lines if name == appliance and names.search(line)]
    summaries = [*world.pairs["delivery"], *world.pairs["message"]]
    return lines + _records(pair for pair in summaries if _mid(pair) == (appliance, 0, mid))


ANSWERS: dict[str, Callable[[World], Rows | Counts]] = {
    "left-in-clear": _left_in_clear,
    "domains-in-clear": _domains_in_clear,
    "never-starttls": _never_starttls,
    "both-ways": _both_ways,
    "downgrade": _downgrade,
    "held-back": _held_back,
    "in-part": _in_part,
    "clear-per-day": _clear_per_day,
    "share-per-sender-group": _share_per_sender_group,
    "share-per-appliance": _share_per_appliance,
    "hosts-that-send-in-clear": _hosts_that_send_in_clear,
    "certificates": _certificates,
    "failures": _failures,
    "protocols": _protocols,
    "old-protocols": _old_protocols,
    "broken": _broken,
    "one-mid": _one_mid,
    "how-sure": _how_sure,
    "unknown-messages": _unknown_messages,
    "unrecognised": _unrecognised,
}
