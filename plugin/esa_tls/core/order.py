"""The order of lines whose source does not keep it (UDP syslog): by stamp, and inside a second by what has to come first.

A connection is opened before its TLS (not offered, refused for want of it, then up, then broken), TLS comes before mail, mail before its
end; a message is started before it has recipients, these before some of them go on with a child, delivered before the Response, finished
last.
Lines of one rank keep the order of their arrival.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr

from esa_tls.core.facts import Fact
from esa_tls.core.line_record import Line
from esa_tls.core.prefix_facts import PrefixFacts

_ORDER: Final[tuple[tuple[str, ...], ...]] = (
    ("log-began", "version", "utc-offset", "system-started"),
    ("connection-opened",),
    ("hat-decided", "reputation-scored", "connection-refused", "hat-reject-delayed", "connection-limit-reached"),
    ("starttls-not-supported", "certificate-verified"),
    ("tls-required-failed",),
    ("tls-succeeded",),
    ("tls-failed",),
    (
        "tls-data-read",
        "smtp-auth",
        "smtp-auth-required",
        "sender-verification",
        "address-invalid",
        "command-refused",
        "recipients-throttled",
    ),
    ("message-started",),
    ("sender-accepted",),
    ("recipient-accepted", "recipient-rejected", "bounce-verification"),
    ("message-split", "message-rewritten", "message-copied", "bounce-generated", "message-reinjected"),
    ("receiving-failed",),
    ("message-id", "subject"),
    ("message-received", "message-summarised"),
    ("policy-matched",),
)
"""What comes before the ordinary lines of a message (scanning, quarantine, queue)."""

_AFTER: Final[tuple[tuple[str, ...], ...]] = (
    ("rpc-delivery-started", "delivery-started"),
    ("delivery-uncertain",),
    ("delivery-done", "rpc-delivery-done", "rpc-delivery-rejected"),
    ("delivery-response", "delivery-bounced", "delivery-delayed"),
    ("delivery-pending", "delivery-double-bounced"),
    ("connection-error",),
    ("recipients-deleted", "message-aborted", "message-dropped", "message-bounced"),
    ("message-finished",),
    ("connection-lost", "connection-disconnected"),
    ("connection-closed", "connection-killed", "connection-exited"),
    ("log-ended",),
)

_MIDDLE: Final = len(_ORDER)
_RANKS: Final = {action: number for number, actions in enumerate(_ORDER) for action in actions} | {
    action: _MIDDLE + 1 + number for number, actions in enumerate(_AFTER) for action in actions
}


_CHILDREN: Final = _RANKS["message-split"]


@mypyc_attr(acyclic=True)
class Waiting:
    """A line in the reorder window. `again`: it was seen before and changes nothing; `left`: its record has left already."""

    def __init__(self, line: Line, prefix: PrefixFacts, stamp_s: int, rank: int, *, again: bool = False, left: bool = False) -> None:
        self.line = line
        self.prefix = prefix
        self.stamp_s = stamp_s
        self.rank = rank
        self.again = again
        self.left = left


def rank(fact: Fact) -> int:
    """Where a line stands among those of its second."""
    return _RANKS.get(fact.action, _MIDDLE)


def place(one: Waiting) -> tuple[int, int, int, int]:
    """The sort key of a waiting line. Lines about children stand in the order of the children, so that ancestors come first."""
    return one.stamp_s, one.rank, (one.line.fact.mid or 0) if one.rank == _CHILDREN else 0, one.line.sequence
