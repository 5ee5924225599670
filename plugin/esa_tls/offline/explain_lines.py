"""What single lines of a story mean, in words."""

from __future__ import annotations

from typing import Any

from esa_tls.offline.explain_search import Kept
from esa_tls.offline.explain_tls import MAX_PROOF_LINES, Statement
from esa_tls.offline.explain_words import envelope_words, first_upper, rids_words

CHILD_KINDS = {
    "message-split": "split",
    "message-rewritten": "rewritten",
    "message-copied": "copy",
    "bounce-generated": "bounce",
    "message-reinjected": "reinjected",
}
"""Lines that tie a child to its parent, and what kind it is unless the line says more."""

QUARANTINE_ACTIONS = frozenset(
    {"message-quarantined", "quarantine-tagged", "quarantine-released", "quarantine-deleted", "rpc-delivery-rejected"}
)
STOP_ACTIONS = frozenset(
    {
        "message-aborted",
        "message-dropped",
        "message-bounced",
        "recipient-dropped",
        "recipient-bounced",
        "recipients-deleted",
        "delivery-double-bounced",
    }
)

RESULT_ACTIONS: dict[str, tuple[str, ...]] = {
    "delivered": ("delivery-done",),
    "bounced": ("delivery-bounced",),
    "delayed": ("delivery-delayed",),
    "tls_blocked": ("delivery-delayed", "delivery-bounced"),
    "uncertain": ("delivery-uncertain",),
    "connection_error": ("connection-error",),
}
"""The lines that prove a delivery's result."""


def stops(kept: Kept) -> bool:
    """Whether a line ends the way of a message or recipient outside of any delivery connection."""
    nowhere = kept.action in ("delivery-bounced", "delivery-delayed") and kept.fact.dcid == 0
    return nowhere or kept.action in STOP_ACTIONS


def child_kind(kept: Kept) -> str:
    """The kind of child that a line of `CHILD_KINDS` makes."""
    return str(kept.value("child_kind") or CHILD_KINDS[kept.action])


def quarantine_words(kept: Kept) -> str:
    """A line of `QUARANTINE_ACTIONS`."""
    name, reason = kept.value("quarantine"), kept.value("reason")
    named = f' "{name}"' if name else ""
    because = f" ({reason})" if reason else ""
    match kept.action:
        case "message-quarantined":
            return f"put into quarantine{named}{because}"
        case "quarantine-tagged":
            return "marked for quarantine"
        case "quarantine-released" | "quarantine-deleted":
            done = "released" if kept.action == "quarantine-released" else "deleted"
            return f"{done} from {f'quarantine{named}' if name else 'all quarantines'}{because}"
        case _:
            return "the spam quarantine did not take it"


def trouble_words(kept: Kept) -> str:
    """A line that says that something was refused, given up or broke."""
    reason = kept.value("reason")
    because = f": {reason}" if reason else ""
    match kept.action:
        case "recipient-rejected":
            by = kept.value("by")
            return f"Recipient <{kept.value('address') or ''}> was refused{f' by {by}' if by else ''}."
        case "sender-verification":
            return f"Sender <{kept.value('address') or ''}> was {kept.value('result') or 'checked'}{because}."
        case "receiving-failed":
            return f"Receiving failed{because}."
        case "connection-error":
            return f"The connection failed{because}."
        case "message-aborted":
            return f"given up{because}."
        case "message-dropped":
            return f"dropped{because}."
        case "message-bounced":
            return f"bounced{because}."
        case "delivery-bounced" | "delivery-delayed":
            done = "bounced" if kept.action == "delivery-bounced" else "put off"
            answer = kept.value("response")
            told = f', "{answer}"' if answer else ""
            return f"{rids_words(kept.fact.rids or (0,))} {done} without a delivery connection{f' ({reason})' if reason else ''}{told}."
        case "delivery-double-bounced":
            return f"the bounce message could not be delivered either{f' ({reason})' if reason else ''}, and was dropped."
        case "recipients-deleted":
            return f"{rids_words(kept.fact.rids or (0,))} deleted by an administrator."
        case _:
            word = "bounced" if kept.action == "recipient-bounced" else "dropped"
            return f"{rids_words(kept.fact.rids or (0,))} {word}{because}."


def envelope_statements(own: dict[str, Any], lines: list[Kept]) -> list[Statement]:
    """Sender, recipients, subject and the like; recipients that were refused with their lines."""
    said = []
    if words := envelope_words(own):
        said.append(Statement(f"{first_upper(words)}."))
    subject = next((kept.value("subject") for kept in lines if kept.action == "subject"), None)
    message_id = next((kept.value("message_id") for kept in lines if kept.action == "message-id"), None)
    facts = [f'subject "{subject}"'] if subject else []
    facts += [f"Message-ID <{message_id}>"] if message_id else []
    facts += [f"{own['size_bytes']:,} bytes"] if "size_bytes" in own else []
    if facts:
        said.append(Statement(f"{first_upper(', '.join(facts))}."))
    refused = [kept for kept in lines if kept.action == "recipient-rejected"]
    return said + [Statement(trouble_words(kept), [kept.text]) for kept in refused[:MAX_PROOF_LINES]]


def scanned_words(lines: list[Kept]) -> list[str]:
    """What the engines said, each once."""
    verdicts = [kept for kept in lines if kept.action in ("engine-verdict", "authentication-verdict") and kept.value("engine")]
    return list(dict.fromkeys(f"{kept.value('engine')} {kept.value('verdict') or ''}".strip() for kept in verdicts))
