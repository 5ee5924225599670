"""Marks in texts from outside: found again, they show that something of such a text was left.

Where these texts stand is asked of the core's own grammar.
"""

from __future__ import annotations

import ipaddress

from esa_tls.core.grammar import parse
from esa_tls.core.line import frame

MARK = "Q9Z8"
"""Put into every text from outside: no pseudonym, number, id or word of the appliance can hold it."""

CLASS_OF_VALUE = {
    **dict.fromkeys(("address", "sender", "user"), "addresses"),
    **dict.fromkeys(("peer", "host", "local_ip", "relayed_ip"), "hosts"),
    "subject": "subjects",
    "message_id": "message_ids",
    "attachment": "attachments",
}
FROM_OUTSIDE = (*CLASS_OF_VALUE, "response", "details")


def body_at(text: str) -> int | None:
    """Where the body of a line begins; None: it has no prefix."""
    framing = frame(text)
    return None if framing is None or framing.cef else framing.length


def is_ip(text: str) -> bool:
    """Whether it is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def marked(line: bytes) -> bytes:
    """A line with the mark in each text from outside, if it is then still the same kind of line."""
    text = line.decode("utf-8", "replace")
    at = body_at(text)
    if at is None:
        return line + f" {MARK}".encode()
    fact = parse(text[at:])
    if fact.action == "unrecognised":
        return line + f" {MARK}".encode()
    body = text[at:]
    for name, value in (fact.values or {}).items():
        if name in FROM_OUTSIDE and isinstance(value, str) and not is_ip(value) and len(value) > 2 and body.count(value) == 1:
            body = body.replace(value, value[:2] + MARK + value[2:])
    if fact.action in ("header-masqueraded", "custom-log-entry", "command-refused", "address-invalid", "url"):
        body += MARK
    return (text[:at] + body).encode() if parse(body).action == fact.action else line
