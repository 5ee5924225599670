"""The words of records as small numbers in the file: what a number means never changes, new words are added behind.

0 is "absent". A word that is not in a tuple is kept in the record itself, and counts as absent here.
"""

from __future__ import annotations

from typing import Final

KINDS: Final = ("", "connection", "delivery", "message", "consolidated")
DIRECTIONS: Final = ("", "inbound", "outbound")
FLOWS: Final = ("", "incoming", "outgoing", "internal")
OUTCOMES: Final = ("", "success", "failed", "none", "unknown", "pending")
CLEAR: Final = ("", "clear", "tls")
"""`in_clear` true and false."""
POSTURES: Final = ("", "encrypted", "exposed", "blocked", "partial", "undelivered", "continued", "unknown")
RESULTS: Final = (
    *("", "delivered", "bounced", "delayed", "uncertain", "deleted", "dropped", "tls_blocked", "connection_error", "quarantined"),
    "unknown",
)
FAILURES: Final = (
    *("", "starttls_unexpected_response", "starttls_not_offered", "required_not_offered", "required_not_negotiated"),
    *("certificate_verification", "handshake", "protocol_or_cipher_mismatch", "dane", "reset", "timeout", "other"),
)

CONNECTION, DELIVERY, MESSAGE, CONSOLIDATED = 1, 2, 3, 4
"""Numbers of kinds."""


def numbers(words: tuple[str, ...]) -> dict[str, int]:
    """Word -> number."""
    return {word: number for number, word in enumerate(words)}


KIND, DIRECTION, FLOW, OUTCOME = numbers(KINDS), numbers(DIRECTIONS), numbers(FLOWS), numbers(OUTCOMES)
POSTURE, RESULT, FAILURE = numbers(POSTURES), numbers(RESULTS), numbers(FAILURES)
