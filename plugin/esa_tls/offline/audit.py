"""Mail that is expected to go under TLS, counted for an auditor: per partner and direction, and every exception with its evidence.

Fed with summaries one by one, as they come from a log or from the store; what they are about stands in them (`core/expected.py`), outcomes
included. Nothing is decided here. Received mail is counted once, as the message it was received as (children were not received), sent mail
per delivery that carried it. What cannot be told is neither kept nor broken: it is an exception of its own kind.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

MAX_EXCEPTIONS: Final = 10_000
"""Listed one by one; more are only counted."""

MAX_CIPHERS: Final = 100

BY_GROUP: Final = "(sender group)"
"""Stands for mail that is expected to be under TLS for its sender group alone."""

_PROTOCOLS: Final = ("SSLv2", "SSLv3", "TLSv1/SSLv3", "TLSv1", "TLSv1.0", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_CLEAR: Final = {True: "clear", False: "tls", None: "unknown"}
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class PartnerRow(msgspec.Struct, frozen=True):
    """One partner in one direction; numbers of mails: messages inbound, deliveries outbound. `floor`: the weakest protocol used."""

    partner: str
    direction: str
    tls: int
    clear: int
    unknown: int
    floor: str
    ciphers: list[tuple[str, int]]

    @property
    def total(self) -> int:
        """All of it."""
        return self.tls + self.clear + self.unknown


class Breach(msgspec.Struct, frozen=True):
    """One mail that was not proven to go under TLS. `clear`: `clear` or `unknown`. Texts are a stranger's."""

    time: str
    partners: str
    direction: str
    clear: str
    outcome: str
    evidence: str
    appliance: str
    mid: int
    connection: str
    peer: str
    sender: str
    recipients: str
    message_id: str
    failure_class: str
    reason: str
    message: str
    """`{appliance}/{epoch}/MID/{n}`."""


class _Count:
    def __init__(self) -> None:
        self.numbers = {"tls": 0, "clear": 0, "unknown": 0}
        self.floor: str | None = None
        self.ciphers: dict[str, int] = {}


class Audit:
    """See the module."""

    def __init__(self) -> None:
        self.breaches: list[Breach] = []
        self.more_breaches = 0
        self._counts: dict[tuple[str, str], _Count] = {}

    def add(self, kind: str, record: dict[str, Any]) -> None:
        """Count a summary, if TLS was expected of the mail it tells of."""
        own = record["cisco_esa"]
        if kind == "delivery":
            if own["delivery"]["result"] in ("delivered", "uncertain"):
                self._mail(record, "outbound", own.get("tls", {}), own.get("connection", {}).get("id", ""), record.get("destination", {}))
        elif kind == "message" and own.get("child_kind") is None and "reception" in own:
            reception = own["reception"]
            self._mail(record, "inbound", reception["tls"], reception.get("connection_id", ""), reception.get("peer", {}))

    def rows(self) -> list[PartnerRow]:
        """The partners, those with mail in clear first."""
        rows = [
            PartnerRow(
                partner, direction, **count.numbers, floor=count.floor or "",
                ciphers=sorted(count.ciphers.items(), key=lambda item: (-item[1], item[0])),
            )
            for (partner, direction), count in self._counts.items()
        ]  # fmt: skip
        return sorted(rows, key=lambda row: (-row.clear, -row.unknown, row.partner, row.direction))

    def _mail(self, record: dict[str, Any], direction: str, tls: dict[str, Any], connection: str, peer: dict[str, Any]) -> None:
        if not tls.get("expected"):
            return
        clear = _CLEAR[tls.get("in_clear")]
        partners = tls.get("partners", [BY_GROUP])
        for partner in partners:
            count = self._counts.setdefault((partner, direction), _Count())
            count.numbers[clear] += 1
            if clear == "tls":
                protocol, cipher = tls.get("protocol", ""), tls.get("cipher", "")
                if protocol and (count.floor is None or _strength(protocol) < _strength(count.floor)):
                    count.floor = protocol
                if cipher and (cipher in count.ciphers or len(count.ciphers) < MAX_CIPHERS):
                    count.ciphers[cipher] = count.ciphers.get(cipher, 0) + 1
        if clear == "tls":
            return
        if len(self.breaches) == MAX_EXCEPTIONS:
            self.more_breaches += 1
            return
        own, failure = record["cisco_esa"], tls.get("failure", {})
        envelope = own.get("envelope", {})
        self.breaches.append(
            Breach(
                time=record["@timestamp"],
                partners=", ".join(partners),
                direction=direction,
                clear=clear,
                outcome=tls["outcome"],
                evidence=tls.get("evidence", ""),
                appliance=own["appliance"],
                mid=own["mid"],
                connection=connection,
                peer=" ".join(str(peer[name]) for name in ("ip", "address", "domain") if name in peer),
                sender=envelope.get("from", ""),
                recipients=" ".join(envelope.get("to", ())),
                message_id=record.get("email", {}).get("message_id", ""),
                failure_class=failure.get("class", ""),
                reason=failure.get("reason", ""),
                message=f"{own['appliance']}/{own.get('epoch', 0)}/MID/{own['mid']}",
            )
        )


def _strength(protocol: str) -> int:
    return _PROTOCOLS.index(protocol) if protocol in _PROTOCOLS else -1


def partners_csv(rows: Iterable[PartnerRow]) -> str:
    """RFC 4180, one row per partner and direction."""
    head = ("partner", "direction", "mails", "under_tls", "in_clear", "not_known", "weakest_protocol", "ciphers")
    table = (
        (
            row.partner,
            row.direction,
            row.total,
            row.tls,
            row.clear,
            row.unknown,
            row.floor,
            " ".join(f"{name}:{n}" for name, n in row.ciphers),
        )
        for row in rows
    )
    return _csv(head, table)


def breaches_csv(breaches: Iterable[Breach]) -> str:
    """RFC 4180, one row per exception, with every field of `Breach`."""
    return _csv(Breach.__struct_fields__, (msgspec.structs.astuple(one) for one in breaches))


def _csv(head: Iterable[str], rows: Iterable[tuple[Any, ...]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(head)
    writer.writerows(_harmless(rows))
    return out.getvalue()


def _harmless(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[Any]]:
    """Spreadsheets run what looks like a formula, and text of the log is a stranger's: such a cell begins with an apostrophe."""
    for row in rows:
        yield [f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell for cell in row]
