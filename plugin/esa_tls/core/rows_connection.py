"""Rows about connections (docs/log-lines.md 3 and 4): `ICID n`, `DCID n`, and the lines that open or end one by other words.

A function gets the words of the line, cut at the first five blanks (`words`) or three (`parts`, of the rarer lines), or the id and the
text behind the third word; None when the line is not what its first words promised. Peers and PTR names are taken by the fixed words at
both ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from esa_tls.core.facts import Fact
from esa_tls.core.pieces import Values, bare_address, decimal_id, present, score, sentence, text_after


def icid_line(words: list[str]) -> Fact | None:
    """4 to 16, 18 to 22, 25 to 27, 29: `ICID n ...`."""
    if len(words) < 3:
        return None
    token = words[1]
    icid = int(token) if token.isdecimal() and token.isascii() and len(token) < 19 else decimal_id(token)
    if icid < 0:
        return None
    word = words[2]
    if word == "TLS":
        return _tls(icid, None, words)
    if len(words) > 4 and words[3] == "SG":
        return _hat(icid, word, text_after(words, 4))
    handler = _ICID_ROWS.get(word)
    fact = handler(icid, text_after(words)) if handler is not None else None
    return fact if fact is not None else _icid_other(icid, text_after(words, 2))


def dcid_line(words: list[str]) -> Fact | None:
    """33 to 41, 54: `DCID n ...`."""
    if len(words) < 3:
        return None
    token = words[1]
    dcid = int(token) if token.isdecimal() and token.isascii() and len(token) < 19 else decimal_id(token)
    if dcid < 0:
        return None
    peer: str | None = None
    word = words[2]
    if word == "IP" and len(words) > 4:  # 38, 39
        peer = words[3]
        words = [*words[:2], *text_after(words, 4).split(" ", 3)]
        word = words[2]
    if word == "TLS":
        return _tls(None, dcid, words, peer)
    text = text_after(words)
    if word in {"close", "close."}:
        return Fact("connection-closed", None, dcid) if not text else None
    if word == "STARTTLS":
        return (
            Fact("starttls-not-supported", None, dcid, None, None, present(peer=peer))
            if sentence(text) == "command not supported"
            else None
        )
    if word == "Certificate" and text.startswith("verification successful"):
        return Fact("certificate-verified", None, dcid)
    return None


def _tls(icid: int | None, dcid: int | None, words: list[str], peer: str | None = None) -> Fact | None:
    """9 to 14, 33 to 39, 41: `ICID n TLS ...`, `DCID n TLS ...` (words behind `IP {ip}` moved up)."""
    word = words[3] if len(words) > 3 else ""
    if word == "success":
        if len(words) == 6 and words[4] == "protocol":
            protocol, _, text = words[5].partition(" cipher ")
            cipher, found, text = text.partition(" ")
            if protocol and cipher and not found:
                return Fact("tls-succeeded", icid, dcid, None, None, {"protocol": protocol, "cipher": cipher.removesuffix(".")})
            return Fact("tls-succeeded", icid, dcid, None, None, present(protocol=protocol, cipher=cipher, **_certificate(text)))
        # Old forms, and a line cut behind `success `, which is a success still.
        return Fact("tls-succeeded", icid, dcid, None, None, present(**_certificate(text_after(words, 4))))
    if word == "failed:":
        return Fact("tls-failed", icid, dcid, None, None, present(reason=text_after(words, 4), peer=peer))
    if word == "was":
        text = text_after(words)
        return (
            Fact("tls-required-failed", icid, dcid, None, None, present(reason=f"TLS {text}", peer=peer))
            if text.startswith("was required but ")
            else None
        )
    if len(words) == 4:
        if word in {"failed", "failed."}:
            return Fact("tls-failed", icid, dcid, None, None, present(peer=peer))
        if word == "success.":
            return Fact("tls-succeeded", icid, dcid)
    return None


def _certificate(text: str) -> dict[str, str]:
    """34 to 36: `for {domain}`, `CN={cn}`, `CN: <{cn}>`; the name may hold blanks."""
    values: dict[str, str] = {}
    if text.startswith("for "):
        domain, _, text = text[4:].partition(" ")
        values["domain"] = sentence(domain)
    if text.startswith("CN="):
        values["cn"] = text[3:]
    elif text.startswith("CN: "):
        values["cn"] = bare_address(text[4:])
    return values


# A policy is at most a few plain words; this keeps an unknown line with ` SG ` in its text from being read as a decision.
_POLICY: Final = re.compile(r"([\w.$&+-]{1,64}(?: [\w.$&+-]{1,64}){0,4}) SG ")


def _icid_other(icid: int, text: str) -> Fact | None:
    """4 to 6 with a policy of several words, of the administrator's making."""
    match = _POLICY.match(text)
    return _hat(icid, match[1], text[match.end() :]) if match is not None and " SBRS " in text else None


def _hat(icid: int, policy: str, text: str) -> Fact | None:
    """4 to 6, 8: `{group} match {rule} SBRS {score} country {country}`, read from the right; names may hold blanks."""
    group, found, tail = text.rpartition(" SBRS ")
    if not found:  # cut before its end: the names may be cut as well
        return Fact("hat-decided", icid, None, None, None, present(policy=policy, truncated=True)) if icid and policy else None
    if not policy:
        return None
    points, _, country = tail.partition(" country ")
    group, found, rule = group.rpartition(" match ")
    if not found:
        group, rule = rule.removesuffix(" match"), ""
    values: Values = {"policy": policy}
    if group and group != "None":
        values["sender_group"] = group
    if rule:
        values["rule"] = rule
    sbrs = score(points)
    if sbrs is not None:
        values["sbrs"] = sbrs
    if country and country not in {"not enabled", "not applicable"}:
        values["country"] = country
    if icid == 0 and policy.upper() == "TCPREFUSE":
        return Fact("connection-refused", None, None, None, None, values)
    return Fact("hat-decided", icid, None, None, None, values)


def _icid_end(action: str) -> Callable[[int, str], Fact | None]:
    """15, 16: nothing follows the word."""
    return lambda icid, rest: Fact(action, icid) if not rest else None


def _icid_sbrs(icid: int, rest: str) -> Fact | None:
    """7."""
    return Fact("reputation-scored", icid, None, None, None, present(sbrs=score(rest)))


def _icid_disconnected(icid: int, rest: str) -> Fact | None:
    """18."""
    if not rest.startswith("address "):
        return None
    peer, _, reason = rest[8:].partition(", ")
    return Fact("connection-disconnected", icid, None, None, None, present(peer=peer, reason=reason))


_LOST: Final = re.compile(r"from (\S+) on interface (.*?)(?: \(\S*\))? (lost after .*)", re.DOTALL)


def _icid_connection(icid: int, rest: str) -> Fact | None:
    """19. No text from outside in it."""
    match = _LOST.match(rest[:1024])
    if match is None:
        return None
    return Fact("connection-lost", icid, None, None, None, present(peer=match[1], interface=match[2], reason=match[3]))


def _icid_receiving(icid: int, rest: str) -> Fact | None:
    """20."""
    return Fact("receiving-failed", icid, None, None, None, present(reason=rest[8:])) if rest.startswith("Failed: ") else None


def _icid_delayed(icid: int, rest: str) -> Fact | None:
    """22."""
    if not rest.startswith("HAT REJECT continuing session for recipient logging"):
        return None
    peer = rest[51:].removeprefix(" (").removesuffix(")") if rest.endswith(")") else None
    return Fact("hat-reject-delayed", icid, None, None, None, present(peer=peer))


def _icid_address(icid: int, rest: str) -> Fact | None:
    """25. The address is from outside: the last ` sender ` is the appliance's."""
    address, found, tail = rest.rpartition("> sender ")
    if found:
        address = address.removeprefix("<")
    else:
        address, found, tail = rest.rpartition(" sender ")
    result, _, reason = tail.partition(", ")
    if not found or result not in {"rejected", "allowed"}:
        return None
    return Fact("sender-verification", icid, None, None, None, present(address=address, result=result, reason=reason))


def _icid_invalid(icid: int, rest: str) -> Fact | None:
    """26, sender."""
    if not rest.startswith("sender address: "):
        return None
    return Fact("address-invalid", icid, None, None, None, present(reason=rest[16:]))


def _icid_mid(icid: int, rest: str) -> Fact | None:
    """26, recipient."""
    token, _, tail = rest.partition(" ")
    mid = decimal_id(token)
    if mid < 0 or not tail.startswith("Invalid recipient address: "):
        return None
    return Fact("address-invalid", icid, None, mid, None, present(reason=tail[27:].lstrip()))


def _icid_command(prefix: str) -> Callable[[int, str], Fact | None]:
    """27."""
    cut = len(prefix)
    return lambda icid, rest: (
        Fact("command-refused", icid, None, None, None, present(reason=rest[cut:])) if rest.startswith(prefix) else None
    )


def _icid_throttled(first: str, prefixes: tuple[str, ...]) -> Callable[[int, str], Fact | None]:
    """29, from memory of Cisco's documents: only at the start, never searched."""
    return lambda icid, rest: (
        Fact("recipients-throttled", icid, None, None, None, {"reason": f"{first} {rest}"}) if rest.startswith(prefixes) else None
    )


_ICID_ROWS: Final[dict[str, Callable[[int, str], Fact | None]]] = {
    "close": _icid_end("connection-closed"),
    "close.": _icid_end("connection-closed"),
    "lost": _icid_end("connection-lost"),
    "lost.": _icid_end("connection-lost"),
    "SBRS": _icid_sbrs,
    "disconnected": _icid_disconnected,
    "Connection": _icid_connection,
    "Receiving": _icid_receiving,
    "Injection": _icid_receiving,
    "Delayed": _icid_delayed,
    "Address:": _icid_address,
    "Invalid": _icid_invalid,
    "MID": _icid_mid,
    "Unknown": _icid_command("command: "),
    "Bad": _icid_command("syntax for command: "),
    "Too": _icid_throttled("Too", ("many recipients",)),
    "rate": _icid_throttled("rate", ("limit",)),
    "Rate": _icid_throttled("Rate", ("limit",)),
}


def new_connection(words: list[str]) -> Fact | None:
    """1 to 3, 31, 32: `New SMTP ICID|DCID n interface ...`."""
    if len(words) < 6 or words[1].upper() != "SMTP" or words[4] not in {"interface", "Interface"}:
        return None
    number = decimal_id(words[3])
    if number < 0:
        return None
    if words[2] == "ICID":
        return _new_icid(number, words[5])
    if words[2] == "DCID":
        tail = words[5].split(" ")
        if len(tail) < 3 or tail[1] != "address" or not tail[0] or not tail[2]:
            return None
        values: Values = {"local_ip": tail[0], "peer": tail[2]}
        if len(tail) == 5 and tail[3] == "port" and 0 <= (port := decimal_id(tail[4].removesuffix("."))) < 65_536:
            values["port"] = port
        return Fact("connection-opened", None, number, None, None, values)
    return None


def _new_icid(icid: int, text: str) -> Fact | None:
    """`{name} ({local_ip}) address {peer} reverse dns host {host} verified {yes|no}`, names and host with any blanks.

    The peer is the first ` address ` after the interface's `)`. The host is between the first ` reverse dns host ` after the peer and the
    last ` verified `, so a PTR name that holds these words changes neither peer nor verification.
    """
    values: Values = {}
    interface, found, peer = text.partition(") address ")
    if found and " reverse dns host " not in interface:
        interface, _, local_ip = interface.rpartition(" (")
        if local_ip:
            values["local_ip"] = local_ip
    else:
        interface, found, peer = text.partition(" address ")
        if not found:
            return None
    if interface:
        values["interface"] = interface
    peer, found, host = peer.partition(" reverse dns host ")
    if peer:
        values["peer"] = peer
    if found:
        host, found, verified = host.rpartition(" verified ")
        if verified == "yes":
            values["verified"] = True
        elif verified == "no":
            values["verified"] = False
        host = host.strip(" ") if found else verified.strip(" ")
        if host and host != "unknown":
            values["host"] = host
    return Fact("connection-opened", icid, None, None, None, values or None)


_CONNECTION_ERROR: Final = re.compile(
    r"(?:([\w ,.'()\[\]/-]{1,80}?) )?DCID:? ([0-9]{1,19}) (?:domain: (\S+) )?(?:IP: (\S+) ?)?(?:port: ([0-9]{1,5}) ?)?"
)


def connection_error(parts: list[str]) -> Fact | None:
    """42, 43. The details may come from the other side: the words behind them are taken from the right."""
    if parts[1:2] != ["Error:"]:
        return None
    text = " ".join(parts[2:])
    head = _CONNECTION_ERROR.match(text)
    if head is None or (dcid := decimal_id(head[2])) < 0:
        return None
    details, found, tail = text[head.end() :].rpartition(" interface: ")
    if not found:
        details, tail = tail, ""
    local_ip, _, reason = tail.partition(" reason: ")
    values = present(
        domain=head[3],
        peer=head[4],
        port=int(head[5]) if head[5] else None,
        details=details.removeprefix("details: "),
        local_ip=local_ip,
        reason=reason or head[1],
    )
    return Fact("connection-error", None, dcid, None, None, values)


_AUTH: Final = re.compile(r"([0-9]{1,19})\) (?:(succeeded|failed) for user: |was required but )")


def smtp(parts: list[str]) -> Fact | None:
    """17, 23, 24, 55, and the service's own lines."""
    if len(parts) < 3:
        return None
    word, rest = parts[1], parts[3] if len(parts) > 3 else ""
    if parts[2] == "connection":
        if word == "server" and rest.startswith("killed ICID: ") and (number := decimal_id(rest[13:])) >= 0:
            return Fact("connection-killed", number)
        if word == "client" and rest.startswith("killed DCID: ") and (number := decimal_id(rest[13:])) >= 0:
            return Fact("connection-killed", None, number)
        return None
    if word in ("Auth", "Auth:") and parts[2] == "(ICID":
        match = _AUTH.match(rest)
        if match is None or (icid := decimal_id(match[1])) < 0:
            return None
        if match[2] is None:
            return Fact("smtp-auth-required", icid)
        # The user's name is from outside: the words behind it are taken from the right.
        user, found, profile = rest[match.end() :].rpartition(" with profile: ")
        if not found:
            user, profile = profile, ""
        name, found, mechanism = user.rpartition(" using AUTH mechanism: ")
        if not found:
            name, mechanism = user, ""
        return Fact("smtp-auth", icid, None, None, None, present(user=name, mechanism=mechanism, profile=profile, result=match[2]))
    return Fact("system-message") if word == "server" else None


_LIMIT: Final = re.compile(r"limit reached: connection limit for IP (\S+) on listener .* ICID ([0-9]{1,19}): max:")


def system(parts: list[str]) -> Fact | None:
    """21, and `System is coming up.`; the listener's name is the administrator's."""
    rest = " ".join(parts[1:])
    if sentence(rest) == "is coming up":
        return Fact("system-started")
    match = _LIMIT.match(rest[:1024])
    if match is None or (icid := decimal_id(match[2])) < 0:
        return None
    return Fact("connection-limit-reached", icid, None, None, None, {"peer": match[1]})


def mail_client(parts: list[str]) -> Fact | None:
    """55: `Mail delivery client with DCID n exited due to ...`."""
    if len(parts) < 4 or not parts[3].startswith("with DCID ") or parts[1:3] != ["delivery", "client"]:
        return None
    token, found, reason = parts[3][10:].partition(" exited ")
    dcid = decimal_id(token)
    return Fact("connection-exited", None, dcid, None, None, present(reason=reason)) if dcid >= 0 and found else None
