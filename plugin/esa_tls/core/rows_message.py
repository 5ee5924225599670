"""Rows that start with `MID n` (docs/log-lines.md 5 and 6, and rows 46 to 50): one function per word after the id.

A function gets the MID and either the line's words, cut at the first five blanks (`text_after(words)` is the text behind the third word,
as printed), or that text; it returns None when the line is not what its first words promised.
What comes from outside (subjects, ids, names, responses, addresses) is cut out by the fixed words around it, never searched.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from esa_tls.core.facts import Fact
from esa_tls.core.pieces import (
    FIRST_RIDS,
    FROM_TO,
    Values,
    bare_address,
    decimal_id,
    failure,
    present,
    rid_list,
    sentence,
    text_after,
    unquote,
)


def _mid_icid(mid: int, words: list[str]) -> Fact | None:
    """57 to 60 and 30: `MID n ICID n ...`."""
    if len(words) < 5:
        return None
    token = words[3]
    icid = int(token) if token.isdecimal() and token.isascii() and len(token) < 19 else decimal_id(token)
    if icid < 0:
        return None
    word = words[4]
    text = words[5] if len(words) == 6 else ""
    if word == "From:":
        address = text[1:-1] if text and text[0] == "<" and text[-1] == ">" else text
        return Fact("sender-accepted", icid, None, mid, None, {"address": address} if address else None)
    if word == "RID":
        number, found, address = text.partition(" To: ")
        rid = 0 if number == "0" else decimal_id(number)
        if rid >= 0 and found:
            address = address[1:-1] if address and address[0] == "<" and address[-1] == ">" else address
            return Fact("recipient-accepted", icid, None, mid, (rid,), {"address": address} if address else None)
    elif word == "To:":
        # The address is from outside and may hold the words itself: the last ones are the appliance's.
        address, found, by = text.rpartition("> Rejected by ")
        address = address.removeprefix("<")
        if not found:
            address, found, by = text.rpartition(" Rejected by ")
        if found:
            return Fact("recipient-rejected", icid, None, mid, None, present(address=address, by=by))
    elif word == "invalid" and text.startswith("bounce, "):
        return Fact("bounce-verification", icid, None, mid)
    elif word == "TLS" and text.startswith("read "):
        return Fact("tls-data-read", icid, None, mid)
    return Fact("unrecognised", icid, None, mid)


_REPLY_CODES: Final = re.compile(r"['\"]?(?:([2-5][0-9]{2})(?=[ -])[ -])?(?:([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9.]))?")


def _mid_rid(mid: int, words: list[str]) -> Fact | None:
    """46: `MID n RID [..] Response ...`."""
    if len(words) == 6 and words[4] == "Response" and (rids := FIRST_RIDS.get(words[3])) is not None:
        text = words[5]
    else:
        listed, found, text = text_after(words).partition("] Response ")
        if not found or listed[:1] != "[" or "]" in listed:
            return None
        rids = rid_list(f"{listed}]")
    response = text[1:-1] if len(text) > 1 and text[0] == text[-1] == "'" else unquote(text)
    values: Values = {"response": response} if response else {}
    if rids is None:
        values["truncated"] = True
    if "2" <= response[:1] < "6" and (codes := _REPLY_CODES.match(response)) is not None:
        code, enhanced_code = codes.groups()
        if code:
            values["code"] = int(code)
        if enhanced_code:
            values["enhanced_code"] = enhanced_code
    return Fact("delivery-response", None, None, mid, rids, values or None)


def mid_to(mid: int, rest: str) -> Fact | None:
    """47c, 48, 50: `MID n to RID [..] ...`."""
    end = rest.find("] ")
    if end < 0 or not rest.startswith(("RID [", "[")):
        return None
    rids = rid_list(rest[: end + 1])
    tail = rest[end + 2 :]
    if rids is None:
        return None
    if tail.startswith("pending till "):
        return Fact("delivery-pending", None, None, mid, rids, present(retry_at=tail[13:].removesuffix(" [Default]")))
    if tail.startswith("Bounced by destination server with response: "):
        return Fact("delivery-bounced", None, None, mid, rids, failure(tail[45:]))
    if tail.startswith("to offbox IronPort Spam Quarantine"):
        return Fact("rpc-delivery-done", None, None, mid, rids)
    return None


def _mid_ready(mid: int, words: list[str]) -> Fact | None:
    """63: `ready {n} bytes from <{addr}>`."""
    if len(words) < 6 or words[4] != "bytes":
        return None
    size_bytes = decimal_id(words[3])
    word, _, address = words[5].partition(" ")
    if size_bytes < 0 or word != "from":
        return None
    address = address[1:-1] if address and address[0] == "<" and address[-1] == ">" else address
    return Fact(
        "message-received", None, None, mid, None, {"size_bytes": size_bytes, "address": address} if address else {"size_bytes": size_bytes}
    )


def _mid_subject(mid: int, words: list[str]) -> Fact | None:
    """62: three quotings."""
    subject = unquote(" ".join(words[3:]))
    return Fact("subject", None, None, mid, None, {"subject": subject} if subject else None)


def _mid_message_id(mid: int, words: list[str]) -> Fact | None:
    """61."""
    text = words[3] if len(words) == 4 else text_after(words)
    message_id = text[2:-2] if text[:2] == "'<" and text[-2:] == ">'" else bare_address(unquote(text).strip())
    return Fact("message-id", None, None, mid, None, {"message_id": message_id} if message_id else None)


def _mid_queued(mid: int, words: list[str]) -> Fact | None:
    """77: `queued for delivery`."""
    return Fact("message-queued", None, None, mid) if len(words) > 4 and words[3] == "for" and words[4] == "delivery" else None


def _mid_matched(mid: int, words: list[str]) -> Fact | None:
    """64. The policy's name may hold blanks, so the table is taken from the right."""
    if len(words) < 6 or words[4] != "recipients" or not words[5].startswith("for per-recipient policy "):
        return None
    policy, _, table = words[5].rpartition(" in the ")
    policy = policy[25:]
    if policy and table == "inbound table":
        return Fact("policy-matched", None, None, mid, None, {"mail_policy": policy, "table": "inbound"})
    if policy and table == "outbound table":
        return Fact("policy-matched", None, None, mid, None, {"mail_policy": policy, "table": "outbound"})
    return Fact("policy-matched", None, None, mid)  # cut before its end: the name may be cut as well


def _mid_using(mid: int, words: list[str]) -> Fact | None:
    """65: `using engine: CASE spam negative`."""
    if words[3] != "engine:" or len(words) < 5:
        return None
    return _engine(mid, words[4], words[5] if len(words) == 6 else "")


def _mid_interim(mid: int, words: list[str]) -> Fact | None:
    """65, 66: `interim verdict using engine: ...`, `interim AV verdict using ...`."""
    if len(words) < 6:
        return None
    word, _, text = words[5].partition(" ")
    if (word == "engine:" and words[3] == "verdict") or (word == "using" and words[3] == "AV"):
        engine, _, verdict = text.partition(" ")
        return _engine(mid, engine, verdict)
    return None


def _engine(mid: int, engine: str, verdict: str) -> Fact:
    if engine == "SPF" and verdict.startswith("Verdict Cache "):
        engine, verdict = "SPF Verdict Cache", verdict[14:]
    if engine and verdict:
        return Fact("engine-verdict", None, None, mid, None, {"engine": engine, "verdict": verdict})
    return Fact("engine-verdict", None, None, mid, None, present(engine=engine))


def _mid_antivirus(mid: int, words: list[str]) -> Fact | None:
    """66: `antivirus negative`, `antivirus positive 'W32/Sober-P' (...)`."""
    verdict = words[3] if len(words) == 4 else text_after(words)
    return Fact(
        "engine-verdict", None, None, mid, None, {"engine": "antivirus", "verdict": verdict} if verdict else {"engine": "antivirus"}
    )


def _mid_outbreak(mid: int, words: list[str]) -> Fact | None:
    """67: `Outbreak Filters: verdict negative`."""
    if len(words) == 6 and words[4] == "verdict" and words[5]:
        return Fact("engine-verdict", None, None, mid, None, {"engine": "Outbreak Filters", "verdict": words[5]})
    return Fact("engine-verdict", None, None, mid, None, {"engine": "Outbreak Filters"})


def _mid_amp(mid: int, words: list[str]) -> Fact | None:
    """67: `AMP file reputation verdict : SKIPPED (...)`."""
    if len(words) == 6 and words[4] == "reputation" and (verdict := words[5].removeprefix("verdict : ")):
        return Fact("engine-verdict", None, None, mid, None, {"engine": "AMP", "verdict": verdict})
    return Fact("engine-verdict", None, None, mid, None, {"engine": "AMP"})


def _mid_spf(mid: int, words: list[str]) -> Fact | None:
    """68: `SPF: mailfrom identity a@example.com Pass ...`; the identity is from outside and holds no blank."""
    if len(words) == 6 and words[4] == "identity":
        verdict = words[5].partition(" ")[2].partition(" ")[0]
        if verdict:
            return Fact("authentication-verdict", None, None, mid, None, {"engine": "SPF", "verdict": verdict})
    return Fact("authentication-verdict", None, None, mid, None, {"engine": "SPF"})


def _mid_dkim(mid: int, words: list[str]) -> Fact | None:
    """68: `DKIM: pass signature verified (d=...)`."""
    verdict = words[3]
    return Fact("authentication-verdict", None, None, mid, None, {"engine": "DKIM", "verdict": verdict} if verdict else {"engine": "DKIM"})


def _mid_dmarc(mid: int, words: list[str]) -> Fact | None:
    """68: `DMARC: Message from domain ..., DMARC pass (...)`."""
    verdict = text_after(words)
    return Fact(
        "authentication-verdict", None, None, mid, None, {"engine": "DMARC", "verdict": verdict} if verdict else {"engine": "DMARC"}
    )


def _named_engine(name: str, prefix: str = "") -> Callable[[int, str], Fact | None]:
    """A row whose engine is its first word; the verdict comes after `prefix`."""
    cut = len(prefix)

    def handler(mid: int, rest: str) -> Fact | None:
        if rest.startswith(prefix):
            verdict = rest[cut:]
            return Fact("engine-verdict", None, None, mid, None, {"engine": name, "verdict": verdict} if verdict else {"engine": name})
        return Fact("engine-verdict", None, None, mid, None, {"engine": name})

    return handler


def _mid_attachment(mid: int, rest: str) -> Fact | None:
    """70, and 84 `attachment types ...`."""
    if rest.startswith("types "):
        return Fact("scan-skipped", None, None, mid)
    return Fact("attachment", None, None, mid, None, present(attachment=unquote(rest)))


def _fixed(action: str, prefix: str = "") -> Callable[[int, str], Fact | None]:
    """A row of which only its being there matters."""

    def handler(mid: int, rest: str) -> Fact | None:
        return Fact(action, None, None, mid) if rest.startswith(prefix) else None

    return handler


def _mid_was(mid: int, rest: str) -> Fact | None:
    """80, 84, 86, 88, 89: `MID n was ...`."""
    verb, _, tail = rest.partition(" ")
    if verb == "generated":
        return _mid_generated(mid, tail)
    if verb == "split":
        return _mid_split(mid, tail)
    if verb in ("dropped", "bounced") and tail.startswith("by "):
        return Fact(f"message-{verb}", None, None, mid, None, {"reason": rest})
    if rest.startswith("too big ("):
        return Fact("scan-skipped", None, None, mid)
    return None


def _mid_split(mid: int, tail: str) -> Fact | None:
    """86: `was split creating MID c due to a per-recipient policy p in the t table`; the table is missing in old lines."""
    if not tail.startswith("creating MID "):
        return None
    token, found, tail = tail[13:].partition(" due to a per-recipient policy ")
    child = decimal_id(token)
    if child < 0 or not found:
        return None
    policy, found, table = tail.rpartition(" in the ")
    if not found:
        policy = tail
    table = table.removesuffix(" table") if found else ""
    return Fact("message-split", None, None, child, None, present(parent=mid, mail_policy=policy, table=table))


def _mid_rewritten(mid: int, rest: str) -> Fact | None:
    """87: `rewritten to MID n by ...`; before 4.5 without the second `MID`."""
    if not rest.startswith("to "):
        return None
    token, found, by = rest[3:].removeprefix("MID ").partition(" by ")
    new = decimal_id(token)
    return Fact("message-rewritten", None, None, new, None, present(parent=mid, by=by)) if new >= 0 and found else None


def _mid_generated(mid: int, rest: str) -> Fact | None:
    """88, 89. A copy is a notification when its agent is a notify action."""
    if rest.startswith("based on MID "):
        token, found, by = rest[13:].partition(" by ")
        parent = decimal_id(token)
        if parent < 0 or not found:
            return None
        kind = "notify" if by.startswith("notify") else "copy"
        return Fact("message-copied", None, None, mid, None, present(parent=parent, by=by, child_kind=kind))
    if rest.startswith("for bounce of MID "):
        parent = decimal_id(sentence(rest[18:]))
        return Fact("bounce-generated", None, None, mid, None, {"parent": parent}) if parent >= 0 else None
    return None


def _ended(action: str, verb: str) -> Callable[[int, str], Fact | None]:
    """80, newer: `MID n Dropped by content filter ...`; 48 without a recipient list."""

    def handler(mid: int, rest: str) -> Fact | None:
        if rest.startswith("by destination server with response: "):
            return Fact("delivery-bounced", None, None, mid, None, failure(rest[37:]))
        return Fact(action, None, None, mid, None, {"reason": f"{verb} {rest}"}) if rest.startswith("by ") else None

    return handler


def _quarantine(text: str, word: str = "") -> Values | None:
    """Name and reason of `"{q}" {word}({why}) ...`. The names are the administrator's, the reasons the appliance's."""
    name, _, tail = text[1:].partition('"')
    tail = tail.removeprefix(word)
    end = tail.rfind(")")
    reason = tail[2:end] if tail.startswith(" (") and end > 0 else None
    return present(quarantine=name, reason=reason)


def _mid_quarantined(mid: int, rest: str) -> Fact | None:
    """73: `quarantined to "q" (why)`."""
    return Fact("message-quarantined", None, None, mid, None, _quarantine(rest[3:])) if rest.startswith('to "') else None


def _mid_enqueued(mid: int, rest: str) -> Fact | None:
    """73: `enqueued for transfer to centralized quarantine "q" (why)`."""
    if not rest.startswith('for transfer to centralized quarantine "'):
        return None
    return Fact("message-quarantined", None, None, mid, None, _quarantine(rest[39:]))


def _mid_quarantine(mid: int, rest: str) -> Fact | None:
    """73: `quarantine "q" new reason (why)`."""
    if not rest.startswith('"'):
        return None
    return Fact("quarantine-tagged", None, None, mid, None, _quarantine(rest, " new reason"))


def _left_quarantine(action: str) -> Callable[[int, str], Fact | None]:
    """74: `released [(attachments stripped)] from quarantine "q" (why) t=s`, `deleted from all quarantines`."""

    def handler(mid: int, rest: str) -> Fact | None:
        rest = rest.removeprefix("(attachments stripped) ")
        if rest.startswith('from quarantine "'):
            return Fact(action, None, None, mid, None, _quarantine(rest[16:]))
        return Fact(action, None, None, mid) if rest.startswith("from all quarantines") else None

    return handler


def _mid_from(mid: int, rest: str) -> Fact | None:
    """81: `MID n From: <a> To: <b>, ... n total recipients`, an alert mail made on the box."""
    if not rest.endswith(" total recipients"):
        return None
    total = decimal_id(rest[:-17].rpartition(" ")[2])
    match = FROM_TO.match(rest)
    if match is None or total < 0:
        return None
    return Fact("message-summarised", None, None, mid, None, present(address=match[1], total_recipients=total))


def _mid_global(mid: int, rest: str) -> Fact | None:
    """82: `Global unsubscribe matched entry e RID r Address a Action bounced`; the entry is the administrator's."""
    if not rest.startswith("unsubscribe matched entry "):
        return None
    token, found, tail = rest[26:].partition(" RID ")[2].partition(" Address ")
    address, found, verb = tail.rpartition(" Action ")
    rid = decimal_id(token)
    if rid < 0 or not found:
        return None
    action = "recipient-bounced" if verb.startswith("bounce") else "recipient-dropped"
    return Fact(action, None, None, mid, (rid,), present(address=address, reason="Global unsubscribe"))


def _mid_relay(mid: int, text: str) -> Fact | None:
    """72: `IncomingRelay({name}): Header {h} found, IP {ip} being used, ...`: name and header are the administrator's."""
    tail = text.partition("): Header ")[2].partition(" found, ")[2]
    if tail[:3] not in {"IP ", "ip "}:
        return None
    return Fact("incoming-relay", None, None, mid, None, present(relayed_ip=tail[3:].partition(" ")[0].rstrip(",")))


def mid_text(mid: int, words: list[str]) -> Fact | None:
    """The rarer rows, whose functions get the text after the third word."""
    word, text = words[2], text_after(words)
    handler = _MID_TEXT_ROWS.get(word)
    if handler is not None:
        return handler(mid, text)
    return _mid_relay(mid, f"{word} {text}") if word.startswith("IncomingRelay(") else None


def mid_traced(token: str) -> Fact | None:
    """85: `MID n: text`."""
    mid = decimal_id(token[:-1]) if token.endswith(":") else -1
    return Fact("message-traced", None, None, mid) if mid >= 0 else None


MID_ROWS: Final[dict[str, Callable[[int, list[str]], Fact | None]]] = {
    "ICID": _mid_icid,
    "ready": _mid_ready,
    "using": _mid_using,
    "interim": _mid_interim,
    "matched": _mid_matched,
    "queued": _mid_queued,
    "Subject": _mid_subject,
    "Message-ID": _mid_message_id,
    "RID": _mid_rid,
    "antivirus": _mid_antivirus,
    "Outbreak": _mid_outbreak,
    "AMP": _mid_amp,
    "SPF:": _mid_spf,
    "DKIM:": _mid_dkim,
    "DMARC:": _mid_dmarc,
}
"""The rows of every message: by the word after the id; the functions get all words, at least four."""

_MID_TEXT_ROWS: Final[dict[str, Callable[[int, str], Fact | None]]] = {
    "to": mid_to,
    "Virus": _named_engine("Virus Threat Level", "Threat Level="),
    "Brightmail": _named_engine("Brightmail"),
    "SDR:": _named_engine("SDR"),
    "DLP": _named_engine("DLP"),
    "attachment": _mid_attachment,
    "URL": _fixed("url"),
    "Custom": _fixed("custom-log-entry", "Log Entry:"),
    "was": _mid_was,
    "rewritten": _mid_rewritten,
    "generated": _mid_generated,
    "Dropped": _ended("message-dropped", "Dropped"),
    "Bounced": _ended("message-bounced", "Bounced"),
    "quarantined": _mid_quarantined,
    "enqueued": _mid_enqueued,
    "quarantine": _mid_quarantine,
    "released": _left_quarantine("quarantine-released"),
    "deleted": _left_quarantine("quarantine-deleted"),
    "From:": _mid_from,
    "Global": _mid_global,
    "masquerading": _fixed("header-masqueraded"),
    "not": _fixed("scan-skipped", "completely scanned by "),
    "Could": _fixed("scan-skipped", "not convert character set"),
    "CASE": _fixed("scan-skipped", "sent a poorly formatted response"),
    "could": _fixed("split-failed", "not be split"),
}
