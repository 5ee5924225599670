"""Rows about messages on their way (docs/log-lines.md 4, and rows 56, 75 to 79): they start with a verb and name their ids later.

A function gets the words of the line, cut at the first five blanks (`words`) or three (`parts`, of the rarer lines), so that the last
one is the rest as printed; None when the line is not what its first words promised. Recipient lists that do not end are left out, with
`truncated`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from esa_tls.core.facts import Fact
from esa_tls.core.pieces import BRACKETED, ENHANCED, Values, decimal_id, failure, present, rid_list, sentence, text_after
from esa_tls.core.rows_message import mid_to


def start(words: list[str]) -> Fact | None:
    """56: `Start MID n ICID n (note)`; 76, old: `Start delivery of MID n over RPC connection n`."""
    if len(words) < 5:
        return None
    if words[1] == "MID":
        mid, icid = decimal_id(words[2]), decimal_id(words[4])
        if mid < 0 or icid < 0 or words[3] != "ICID":
            return None
        note = words[5].removeprefix("(").removesuffix(")") if len(words) == 6 else ""
        return Fact("message-started", icid, None, mid, None, {"note": note} if note else None)
    if words[1] == "delivery" and words[2] == "of":
        return _rpc_old("rpc-delivery-started", text_after(words), " over RPC connection ")
    return None


def delivery(words: list[str]) -> Fact | None:
    """44: `Delivery start DCID n MID n to RID [..]`; 76, old: `Delivery of MID n over RPC completed on connection n`."""
    if len(words) < 6:
        return None
    if words[1] == "start":
        return _attempt("delivery-started", words)
    if words[1] == "of" and words[2] == "MID":
        return _rpc_old("rpc-delivery-done", text_after(words, 2), " over RPC completed on connection ")
    return None


def _attempt(action: str, words: list[str]) -> Fact | None:
    """44, 45, 52: `{two words} DCID {dcid} MID {mid} to [RID ][..]` and whatever follows the list, which is not looked at."""
    if len(words) < 6 or words[2] != "DCID" or words[4] != "MID":
        return None
    token, found, text = words[5].partition(" to ")
    if not found:  # a cut line, but the id is whole
        token, found, text = words[5].partition(" ")
        if not found or text not in {"", "t", "to"}:
            return None
    dcid, mid = decimal_id(words[3]), decimal_id(token)
    if dcid < 0 or mid < 0:
        return None
    rids = rid_list(text)
    return Fact(action, None, dcid, mid, rids, None if rids is not None else {"truncated": True})


def message(words: list[str]) -> Fact | None:
    """45, 78, 79, and 50 in its old form `Message n to [..] pending till ...`."""
    if len(words) < 5:
        return None
    verb = words[1]
    if verb == "done":
        return _attempt("delivery-done", words)
    if verb in {"finished", "aborted"}:
        mid = decimal_id(words[3])
        if mid < 0 or words[2] != "MID":
            return None
        text = words[4] if len(words) == 5 else text_after(words, 4)
        if verb == "aborted":
            return Fact("message-aborted", None, None, mid, None, {"reason": text} if text else None)
        how = sentence(text)
        return Fact("message-finished", None, None, mid, None, {"how": how}) if how in {"done", "aborted"} else None
    mid = decimal_id(verb)
    return mid_to(mid, text_after(words)) if mid >= 0 and words[2] == "to" else None


_BOUNCE: Final = re.compile(r"DCID:? ([0-9]{1,19}) (?:MID|Message) ([0-9]{1,19}) (?:(to )|From: " + BRACKETED + " To: " + BRACKETED + " )?")


_BOUNCE_RID: Final = re.compile(r"(?:RID )?([0-9]{1,19}|\[[0-9, ]*\]) - ")


def bounced(action: str) -> Callable[[list[str]], Fact | None]:
    """47, 47b, 49, with or without addresses; old: `DCID:`, `Message` for MID, `to 0`."""

    def handler(parts: list[str]) -> Fact | None:
        text = " ".join(parts[1:])
        head = _BOUNCE.match(text)
        if head is None or (head[3] is None and head[4] is None):
            return None
        dcid, mid = decimal_id(head[1]), decimal_id(head[2])
        if dcid < 0 or mid < 0:
            return None
        values: Values = present(sender=head[4], address=head[5]) or {}
        match = _BOUNCE_RID.match(text, head.end())
        rids = rid_list(match[1]) if match else None
        if match is None or rids is None:
            values["truncated"] = True
        else:
            values |= failure(text[match.end() :]) or {}
        return Fact(action, None, dcid, mid, rids, values or None)

    return handler


def double_bounce(parts: list[str]) -> Fact | None:
    """51: `Double bounce: MID n to 0 - 5.1.0 - text`."""
    if len(parts) < 4 or parts[1] != "bounce:" or parts[2] not in ("MID", "Message"):
        return None
    token, found, tail = parts[3].partition(" to ")
    mid = decimal_id(token)
    match = _BOUNCE_RID.match(tail)
    rids = rid_list(match[1]) if match else None
    if mid < 0 or not found:
        return None
    if match is None or rids is None:
        return Fact("delivery-double-bounced", None, None, mid, None, {"truncated": True})
    tail = tail[match.end() :]
    enhanced = ENHANCED.match(tail)
    reason = tail[enhanced.end() :] if enhanced else tail
    return Fact("delivery-double-bounced", None, None, mid, rids, present(enhanced_code=enhanced[1] if enhanced else None, reason=reason))


def possible_delivery(parts: list[str]) -> Fact | None:
    """52: `Possible Delivery: DCID: n MID n to [..]`."""
    if len(parts) < 4 or parts[1] != "Delivery:" or parts[2] not in {"DCID:", "DCID"}:
        return None
    return _attempt("delivery-uncertain", ["", "", "DCID", *parts[3].split(" ", 2)])


def deleted(parts: list[str]) -> Fact | None:
    """53: `Deleted: MID n to [..]`."""
    if len(parts) < 4 or parts[1] != "MID" or not parts[3].startswith("to "):
        return None
    mid, rids = decimal_id(parts[2]), rid_list(parts[3][3:])
    return Fact("recipients-deleted", None, None, mid, rids, None if rids is not None else {"truncated": True}) if mid >= 0 else None


def spam_quarantine(parts: list[str]) -> Fact | None:
    """75, 90: `ISQ: Tagging|Quarantined|Reinjected MID n ...` (before 5.0 `EUQ:`)."""
    if len(parts) < 4 or parts[2] != "MID":
        return None
    verb = parts[1]
    token, _, tail = parts[3].partition(" ")
    mid = decimal_id(token)
    if mid < 0:
        return None
    if verb == "Tagging":
        return Fact("quarantine-tagged", None, None, mid)
    if verb == "Quarantined":
        return Fact("message-quarantined", None, None, mid)
    if verb == "Reinjected" and tail.startswith("as MID "):
        new = decimal_id(tail[7:].partition(" ")[0])
        return Fact("message-reinjected", None, None, new, None, {"parent": mid}) if new >= 0 else None
    return None


_RPC: Final = re.compile(r"RCID ([0-9]{1,19})(?: MID ([0-9]{1,19})(?= |\Z))?(?: to (RID )?(?=\[))?")


_RPC_ACTIONS: Final = {
    ("Delivery", "start"): "rpc-delivery-started",
    ("Message", "done"): "rpc-delivery-done",
    ("Message", "rejected"): "rpc-delivery-rejected",
}


def rpc(parts: list[str]) -> Fact | None:
    """76: `RPC Delivery start|Message done|Message rejected RCID n MID n ...`, `RPC connection RCID n ...`."""
    if len(parts) < 4:
        return None
    if parts[1] == "connection":
        rcid = decimal_id(parts[3].partition(" ")[0]) if parts[2] == "RCID" else -1
        return Fact("rpc-connection", values={"rcid": rcid}) if rcid >= 0 else None
    action = _RPC_ACTIONS.get((parts[1], parts[2]))
    match = _RPC.match(parts[3])
    if action is None or match is None or match[2] is None:
        return None
    rcid, mid = decimal_id(match[1]), decimal_id(match[2])
    rids = rid_list(parts[3][match.end() :]) if parts[3].startswith("[", match.end()) else None
    return Fact(action, None, None, mid, rids, {"rcid": rcid}) if rcid >= 0 and mid >= 0 else None


def _rpc_old(action: str, text: str, between: str) -> Fact | None:
    """`MID n{between}n`."""
    token, found, rcid_token = text.removeprefix("MID ").partition(between)
    mid, rcid = decimal_id(token), decimal_id(rcid_token)
    return Fact(action, None, None, mid, None, {"rcid": rcid}) if mid >= 0 and rcid >= 0 and found else None
