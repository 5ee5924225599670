"""Posture: whether a message travelled under TLS, per recipient and per message. Total functions, no other input."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from esa_tls.core.messages import Message, Recipient

ENCRYPTED: Final = "encrypted"
EXPOSED: Final = "exposed"
BLOCKED: Final = "blocked"
PARTIAL: Final = "partial"
UNDELIVERED: Final = "undelivered"
CONTINUED: Final = "continued"
UNKNOWN: Final = "unknown"
MOVED: Final = "moved"

_ORDER: Final = (EXPOSED, UNKNOWN, BLOCKED, ENCRYPTED, UNDELIVERED)


def reception_in_clear(message: Message) -> bool | None:
    """Whether the message was received in clear; None = unknown, or nothing was received."""
    return None if message.internal or message.reception is None else message.reception.in_clear()


def of_reception(message: Message) -> str | None:
    """`posture_in`: encrypted, exposed or unknown; None when nothing was received."""
    if message.internal:
        return None
    in_clear = reception_in_clear(message)
    return UNKNOWN if in_clear is None else EXPOSED if in_clear else ENCRYPTED


def of_recipient(message: Message, recipient: Recipient, *, both_legs: bool = True) -> str:
    """The posture of one RID; `both_legs=False` looks at the delivery alone."""
    result = recipient.result
    if result == "moved":
        return MOVED
    if result in ("delivered", "uncertain"):
        sent = recipient.in_clear
        received = reception_in_clear(message) if both_legs and not message.internal else False
        if sent or received:
            return EXPOSED
        return UNKNOWN if sent is None or received is None else ENCRYPTED
    if recipient.blocked:
        return BLOCKED
    if recipient.final:
        return UNDELIVERED
    return UNKNOWN


def of_message(message: Message, *, both_legs: bool = True) -> str:
    """The posture of a message: all moved, none at all, exposed beside encrypted, else the first present of a fixed order."""
    if not message.recipients:
        ended = message.end in ("finished", "aborted") or message.aborted
        return UNDELIVERED if message.start_seen and ended else UNKNOWN
    if len(message.recipients) == 1:
        word = of_recipient(message, message.recipients[0], both_legs=both_legs)
        return CONTINUED if word == MOVED else word
    present = {of_recipient(message, known, both_legs=both_legs) for known in message.recipients} - {MOVED}
    if not present:
        return CONTINUED
    return combine(present)


def combine(present: Iterable[str]) -> str:
    """One word for several recipients."""
    words = set(present)
    if EXPOSED in words and ENCRYPTED in words:
        return PARTIAL
    return next(word for word in _ORDER if word in words)
