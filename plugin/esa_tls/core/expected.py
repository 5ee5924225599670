"""Where TLS is expected: the operator's lists of partners and sender groups, and the records that they are about.

What the appliance itself demands stands in `cisco_esa.tls.required`, as a line says it. This is the other half: what the operator wants
to be true, whatever the appliance was told. A list changes no outcome; it marks: `cisco_esa.tls.expected` on connections, deliveries and
messages, and on the reception and deliveries inside a message, with the names of the partners. Lines are not marked.

- a connection: its peer is a host of a partner, it is for a partner's domain, or its sender group is listed;
- a delivery: a recipient's domain is a partner's, or the server is a partner's host;
- a message's reception: the sender's domain is a partner's, the client is a partner's host, or its sender group is listed;
- a message: its reception or one of its deliveries is.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from esa_tls.core.records import domain_of

_CACHED_PEERS: Final = 10_000


class Partner(msgspec.Struct, frozen=True):
    """Somebody whom mail goes to and comes from under TLS only.

    `domains`: of mail addresses; `hosts`: names of servers and clients. `*.example.org` is every name below it, not itself. `networks`: of
    their addresses, as `192.0.2.0/24`. Names are compared without case.
    """

    name: str
    domains: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


class _Names:
    """Partners by name, exact or by what is below a name."""

    def __init__(self, entries: Iterable[tuple[str, str]]) -> None:
        self._exact: dict[str, list[str]] = {}
        self._below: dict[str, list[str]] = {}
        for name, partner in entries:
            into, key = (self._below, name[2:]) if name.startswith("*.") else (self._exact, name)
            into.setdefault(key.lower().rstrip("."), []).append(partner)

    def of(self, name: str) -> list[str]:
        name = name.lower().rstrip(".")
        found = list(self._exact.get(name, ()))
        while self._below and "." in name:
            name = name.partition(".")[2]
            found += self._below.get(name, ())
        return found


class Expectations:
    """See the module. Raises ValueError for a network that is none."""

    def __init__(self, partners: Sequence[Partner], *, sender_groups: Sequence[str] = ()) -> None:
        self._domains = _Names((domain, one.name) for one in partners for domain in one.domains)
        self._hosts = _Names((host, one.name) for one in partners for host in one.hosts)
        self._networks = [(ipaddress.ip_network(network, strict=False), one.name) for one in partners for network in one.networks]
        self._groups = frozenset(sender_groups)
        self._by_address: dict[str, list[str]] = {}

    def mark(self, kind: str, record: dict[str, Any]) -> None:
        """Mark a summary that a list is about. Its parts may be shared with other records: they are copied, never changed."""
        own = record["cisco_esa"]
        match kind:
            case "connection":
                names = self._connection(own, record)
            case "delivery":
                names = self._delivery(own.get("delivery", {}).get("domains", ()), record.get("destination", {}))
                if "tls" not in own:
                    return
            case "message":
                names = self._message(own)
            case _:
                return
        if names is not None:
            own["tls"] = {**own.get("tls", {}), **_said(names)}

    def _connection(self, own: dict[str, Any], record: dict[str, Any]) -> list[str] | None:
        inbound = own["direction"] == "inbound"
        names = self._peer(record.get("source" if inbound else "destination", {}))
        if for_domain := own["connection"].get("for_domain"):
            names += self._domains.of(for_domain)
        listed = own.get("hat", {}).get("sender_group") in self._groups
        return names if names or listed else None

    def _delivery(self, domains: Iterable[str], peer: dict[str, Any]) -> list[str] | None:
        names = self._peer(peer)
        for domain in domains:
            names += self._domains.of(domain)
        return names or None

    def _message(self, own: dict[str, Any]) -> list[str] | None:
        found: list[str] | None = None
        reception = own.get("reception")
        if reception is not None:
            names = self._peer(reception.get("peer", {})) + self._domains.of(domain_of(own.get("envelope", {}).get("from")) or "")
            if names or reception.get("hat", {}).get("sender_group") in self._groups:
                own["reception"] = {**reception, "tls": {**reception["tls"], **_said(names)}}
                found = names
        domains = {one["rid"]: one.get("domain", "") for one in own.get("recipients", ())}
        deliveries: list[dict[str, Any]] = own.get("deliveries", [])
        for place, one in enumerate(deliveries):
            to = self._delivery([domains.get(rid, "") for rid in one["rids"]], one.get("peer", {}))
            if to is not None and "tls" in one:
                deliveries[place] = {**one, "tls": {**one["tls"], **_said(to)}}
                found = [*(found or ()), *to]
        return found

    def _peer(self, end: dict[str, Any]) -> list[str]:
        names: list[str] = []
        if (domain := end.get("domain")) is not None:
            names += self._hosts.of(domain)
        if self._networks and (address := end.get("ip")) is not None:
            known = self._by_address.get(address)
            if known is None:
                if len(self._by_address) >= _CACHED_PEERS:
                    self._by_address.clear()
                where = ipaddress.ip_address(address)
                known = [name for network, name in self._networks if where in network]
                self._by_address[address] = known
            names += known
        return names


def _said(names: list[str]) -> dict[str, Any]:
    return {"expected": True, "partners": sorted(set(names))} if names else {"expected": True}
