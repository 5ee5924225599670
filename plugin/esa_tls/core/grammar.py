"""Grammar: what one body says by itself (docs/log-lines.md 3 to 6); a body is the text after `Level: `.

Rules of this file:

1. One dispatch per line: the first word picks a function, the words after the id pick the next one. No list of patterns is tried in turn.
2. Only the start of the body decides the kind of line, and ids stand in fixed places. What comes from outside (subjects, responses, PTR
   names, addresses, file names) is cut out by the fixed words around it, never searched; it may hold whole perfect log lines.
3. A handler returns None when the line is not quite what its first words promised; such a line is `unrecognised`. Nothing raises.
4. An id that the end of the line may have cut (nothing follows, though the form has more) is no id.
5. Text is kept as printed: no blanks collapsed, no escapes resolved. Absent or empty values are left out.

The rows themselves are in `rows_connection.py`, `rows_message.py` and `rows_delivery.py`; row numbers are those of docs/log-lines.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from esa_tls.core.facts import Fact
from esa_tls.core.pieces import decimal_id, present
from esa_tls.core.rows_connection import connection_error, dcid_line, icid_line, mail_client, new_connection, smtp, system
from esa_tls.core.rows_delivery import bounced, deleted, delivery, double_bounce, message, possible_delivery, rpc, spam_quarantine, start
from esa_tls.core.rows_message import MID_ROWS, mid_text, mid_traced


def parse(body: str) -> Fact:
    """The fact a body states. Never raises; text that is no known row is `unrecognised`, with ids only from its first two words.

    Blanks at the end of the body are no part of it where the row is not one with them. Shapes and value names: `facts.py`. Source:
    docs/log-lines.md 3 to 6 and 8.
    """
    words = body.split(" ", 5)
    fact = _row(words, body)
    if fact is None and body[-1:] == " ":
        stripped = body.rstrip(" ")
        fact = _row(stripped.split(" ", 5), stripped)
    return fact if fact is not None else _unrecognised(words)


def _row(words: list[str], body: str) -> Fact | None:
    """What the row says that the first words pick; None if it is none."""
    first = words[0]
    fact: Fact | None = None
    if first == "MID":
        if len(words) > 3:
            token = words[1]
            mid = int(token) if token.isdecimal() and token.isascii() and len(token) < 19 else decimal_id(token)
            if mid >= 0:
                row = MID_ROWS.get(words[2])
                fact = row(mid, words) if row is not None else mid_text(mid, words)
        if fact is None and len(words) > 1 and words[1][-1:] == ":":
            fact = mid_traced(words[1])
    else:
        opener = _OPENERS.get(first)
        if opener is not None:
            fact = opener(words)
        else:
            rare = _RARE_OPENERS.get(first)
            if rare is not None:
                fact = rare(body.split(" ", 3))
    return fact


def _unrecognised(words: list[str]) -> Fact:
    """Rule 3, with the id when the line starts with one that is followed by more."""
    fact = Fact("unrecognised")
    if len(words) > 2:
        number = decimal_id(words[1])
        if number >= 0:
            if words[0] == "MID":
                fact.mid = number
            elif words[0] == "ICID":
                fact.icid = number
            elif words[0] == "DCID":
                fact.dcid = number
            elif words[0] == "RCID":
                fact.values = {"rcid": number}
    return fact


_LDAP_QUERY: Final = re.compile(r"[A-Za-z]{1,32} query (.{1,255}?) MID ([0-9]{1,19}) RID ([0-9]{1,19}) address ")


_LDAP_ACTIONS: Final = {"Bounce": "recipient-bounced", "Drop": "recipient-dropped", "Reroute": "recipient-rerouted"}


def _ldap(parts: list[str]) -> Fact | None:
    """28, 82. The query's name is the administrator's, the address from outside and last."""
    text = " ".join(parts[1:])
    match = _LDAP_QUERY.match(text)
    if match is not None and (mid := decimal_id(match[2])) >= 0 and (rid := decimal_id(match[3])) >= 0:
        verb = parts[1]
        action = _LDAP_ACTIONS.get(verb)
        if action is None:
            return Fact("header-masqueraded" if verb.startswith("Masquerad") else "message-traced", None, None, mid)
        address = text[match.end() :]
        if verb == "Reroute":
            address = address.rpartition(" to [")[0] or address
        reason = None if verb == "Reroute" else f"{verb} query {match[1]}"
        return Fact(action, None, None, mid, (rid,), present(address=address, reason=reason))
    if text.startswith("unable to process, MID "):
        mid = decimal_id(text[23:].partition(" ")[0])
        return Fact("message-traced", None, None, mid) if mid >= 0 else None
    if text.startswith("Dropping connection due to potential Directory Harvest Attack"):
        return Fact("recipients-throttled", values={"reason": text})
    return None


_ALIAS: Final = re.compile(r"(?:MID ([0-9]{1,19}) RID ([0-9]{1,19}) )?recipient ")


def _alias(parts: list[str]) -> Fact | None:
    """82: `Alias match: [MID n RID n ]recipient a mapped to [..]`; the address is from outside."""
    if parts[1:2] != ["match:"]:
        return None
    text = " ".join(parts[2:])
    match = _ALIAS.match(text)
    if match is None:
        return None
    values = present(address=text[match.end() :].rpartition(" mapped to [")[0])
    if match[1] is None:
        return Fact("alias-matched", values=values)
    mid, rid = decimal_id(match[1]), decimal_id(match[2])
    return Fact("alias-matched", None, None, mid, (rid,), values) if mid >= 0 and rid >= 0 else None


_UNSUBSCRIBE: Final = re.compile(r"(\S+) MID: ([0-9]{1,19}) RID: ([0-9]{1,19}) Address: ")


def _global(parts: list[str]) -> Fact | None:
    """82, old: `Global unsubscribe matched entry e MID: n RID: n Address: a`, which does not say what was done with it."""
    if len(parts) < 4 or parts[1:3] != ["unsubscribe", "matched"] or not parts[3].startswith("entry "):
        return None
    match = _UNSUBSCRIBE.match(parts[3], 6)
    if match is None or (mid := decimal_id(match[2])) < 0 or (rid := decimal_id(match[3])) < 0:
        return None
    values = present(address=parts[3][match.end() :], reason="Global unsubscribe")
    return Fact("recipient-dropped", None, None, mid, (rid,), values)


def _logfile(action: str) -> Callable[[list[str]], Fact | None]:
    return lambda parts: Fact(action) if parts[1:2] == ["Logfile"] else None


def _version(parts: list[str]) -> Fact | None:
    """s1: `Version: 14.0.0-698 SN: ...`."""
    if len(parts) < 4 or parts[2] != "SN:":
        return None
    return Fact("version", values=present(version=parts[1], serial_number=parts[3].strip()))


_OFFSET: Final = re.compile(r"from UTC: (-?[0-9]{1,6}) seconds")


def _time(parts: list[str]) -> Fact | None:
    """s1: `Time offset from UTC: 19207 seconds`."""
    match = _OFFSET.match(" ".join(parts[2:])[:64]) if parts[1:2] == ["offset"] else None
    return Fact("utc-offset", values={"offset_s": int(match[1])}) if match else None


def _bad(parts: list[str]) -> Fact | None:
    """27 without an ICID."""
    if parts[1:] and len(parts) > 3 and parts[1:3] == ["syntax", "for"] and parts[3].startswith("command: "):
        return Fact("command-refused", values=present(reason=parts[3][9:]))
    return None


def _announcement(*starts: str) -> Callable[[list[str]], Fact | None]:
    """A known line without any id, known by its first words; numbers in it (`CrtMID 9`) are no ids."""

    def handler(parts: list[str]) -> Fact | None:
        return Fact("system-message") if " ".join(parts).startswith(starts) else None

    return handler


def _alert(parts: list[str]) -> Fact | None:
    """`A System/Warning alert was sent to ... with subject ...`."""
    return Fact("system-message") if len(parts) > 3 and parts[2] == "alert" and parts[3].startswith("was sent to ") else None


_OPENERS: Final[dict[str, Callable[[list[str]], Fact | None]]] = {
    "ICID": icid_line,
    "DCID": dcid_line,
    "New": new_connection,
    "Start": start,
    "Delivery": delivery,
    "Message": message,
}
"""The first words of every connection and message; the functions get the words, cut at the first five blanks."""

_RARE_OPENERS: Final[dict[str, Callable[[list[str]], Fact | None]]] = {
    "Bounced:": bounced("delivery-bounced"),
    "Delayed:": bounced("delivery-delayed"),
    "Double": double_bounce,
    "Possible": possible_delivery,
    "Deleted:": deleted,
    "Connection": connection_error,
    "SMTP": smtp,
    "System": system,
    "Mail": mail_client,
    "LDAP:": _ldap,
    "Alias": _alias,
    "ISQ:": spam_quarantine,
    "EUQ:": spam_quarantine,
    "RPC": rpc,
    "Global": _global,
    "Bad": _bad,
    "Begin": _logfile("log-began"),
    "End": _logfile("log-ended"),
    "Version:": _version,
    "Time": _time,
    "A": _alert,
    "Status:": _announcement("Status: "),
    "SenderBase": _announcement("SenderBase upload"),
    "Internal": _announcement("Internal SMTP "),
    "Deliveries": _announcement("Deliveries are currently suspended"),
    "DNS": _announcement("DNS Temporary Failure"),
    "lame": _announcement("lame DNS referral"),
    "Checkpoint": _announcement("Checkpoint Finished"),
    # DANE lines that name a domain only are a hint at most (s4).
    "Trying": _announcement("Trying DANE "),
    "DANE": _announcement("DANE SUCCESS for ", "DANE FAILED for "),
    **{
        word: _announcement(*(f"{word} {record} record" for record in ("MX", "A", "AAAA", "TLSA", "CNAME")))
        for word in ("SECURE", "INSECURE", "BOGUS")
    },
    "Certificate": _announcement("Certificate verification successful"),
    "TLS": _announcement("TLS connection succeeded "),
}


_MASK: Final = re.compile(r"(?<!\w)'[^']*(?:'|\Z)|\"[^\"]*(?:\"|\Z)|<[^>]*(?:>|\Z)|(?<![^\s<>'\"])[^\s<>'\"]+@[^\s<>'\"]+|[0-9]+")
_SHAPE_CHARS: Final = 120
_SHAPE_HEAD_CHARS: Final = 2048


def shape_of(body: str) -> str:
    """A masked sample of an unrecognised body, to count formats we do not know without keeping what people wrote.

    Runs of digits become `9`, quoted text `'*'`, addresses `<*>`; cut at 120 characters.
    """
    return _MASK.sub(_masked, body[:_SHAPE_HEAD_CHARS])[:_SHAPE_CHARS]


def _masked(match: re.Match[str]) -> str:
    text = match[0]
    if text[0] in "'\"":
        return "'*'"
    return "9" if text.isdecimal() else "<*>"


_REASON_CLASSES: Final = (
    # In this order: a certificate error may also name the handshake it happened in.
    ("starttls_unexpected_response", ("starttls unexpected response",)),
    ("starttls_not_offered", ("starttls command not supported", "starttls not supported", "starttls not offered")),
    ("dane", ("dane", "tlsa")),
    (
        "certificate_verification",
        ("verify", "certificate", "hostname mismatch", "self signed", "self-signed", "unknown ca", "unable to get local issuer"),
    ),
    (
        "protocol_or_cipher_mismatch",
        (
            "no shared cipher",
            "no cipher",
            "no ciphers",
            "unsupported protocol",
            "unknown protocol",
            "wrong version",
            "protocol version",
            "no protocols available",
            "insufficient security",
            "inappropriate fallback",
            "no suitable",
            "dh key too small",
        ),
    ),
    ("timeout", ("timed out", "timeout")),
    (
        "reset",
        (
            "reset by peer",
            "connection reset",
            "broken pipe",
            "[errno 54]",
            "[errno 104]",
            "[errno 32]",
            "unexpected eof",
            "eof occurred",
            "connection lost",
        ),
    ),
    ("handshake", ("handshake", "ssl", "tls", "error:")),
)


def failure_class(action: str, reason: str) -> str:
    """One of the closed list of docs/correlation.md 3.9, from the action of a line and its raw reason text (empty: the line gave none).

    A bare `TLS failed` is a failed handshake (rows 11 and 37). Reasons are the appliance's own words, so looking into them is safe.
    """
    if action == "starttls-not-supported":
        return "starttls_not_offered"
    if action == "tls-required-failed":
        return "required_not_offered" if "did not initiate" in reason else "required_not_negotiated"
    if not reason:
        return "handshake" if action == "tls-failed" else "other"
    text = reason.lower()
    for name, words in _REASON_CLASSES:
        if any(word in text for word in words):
            return name
    return "other"
