"""The words of `explain` and `report`: outcomes, evidence, classes, results and postures as sentences for a mail administrator."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_HOST_NAME = re.compile(r"[\w.-]{1,255}")

FAILURES = {
    "starttls_unexpected_response": "the answer to STARTTLS was not the expected one",
    "starttls_not_offered": "the server does not offer STARTTLS",
    "required_not_offered": "TLS was required, and the other side did not offer or start it",
    "required_not_negotiated": "TLS was required, and could not be negotiated",
    "certificate_verification": "the certificate could not be verified",
    "handshake": "the handshake failed",
    "protocol_or_cipher_mismatch": "no protocol version or cipher in common",
    "dane": "the check against DNS (DANE) failed",
    "reset": "the connection was reset",
    "timeout": "the handshake timed out",
    "other": "for another reason",
}
"""Failure classes of records."""

EVIDENCE = {
    "line": "a log line says it",
    "absence": "complete from the first line on and in order, and no line about TLS",
    "absence_lossy": "no line about TLS, but lines may be missing or late",
    "gap": "the lines that would tell are not in the log",
}
"""Why an outcome is believed."""

RESULTS = {
    "delivered": "delivered",
    "bounced": "bounced",
    "delayed": "put off",
    "uncertain": "perhaps delivered",
    "deleted": "deleted",
    "dropped": "dropped",
    "tls_blocked": "not sent for want of TLS",
    "connection_error": "connection failed",
    "quarantined": "quarantined",
    "moved": "went on in another message",
    "pending": "not yet delivered",
    "unknown": "not known",
}
"""Results of deliveries and recipients."""

POSTURES = {
    "encrypted": "under TLS all the way",
    "exposed": "in clear text",
    "blocked": "not sent, for want of TLS",
    "partial": "partly under TLS, partly in clear text",
    "undelivered": "not delivered",
    "continued": "went on in other messages",
    "unknown": "cannot be told",
    "moved": "went on in another message",
}
"""Postures of messages and recipients."""

CHILDREN = {
    "split": "split off from",
    "rewritten": "rewritten from",
    "copy": "a copy of",
    "notify": "a notification about",
    "bounce": "a bounce message for",
    "reinjected": "released from the spam quarantine, where it was",
}
"""What a message is to its parent, whose name follows."""

ENDS = {
    "close": "closed in order",
    "lost": "lost: the other side went away",
    "killed": "killed by the appliance (suspended or shut down)",
    "disconnected": "cut off by the appliance",
    "error": "ended by an error",
    "timeout": "not heard of for 15 minutes",
    "evicted": "forgotten: more connections were open than can be kept",
    "epoch_reset": "cut short when the appliance's counters began anew",
    "stream_end": "still open where the log ends",
}
"""How connections end."""

MESSAGE_ENDS = {
    "finished": "finished",
    "aborted": "aborted",
    "settled": "no line says that it is finished; every recipient has a final result and nothing came for 15 minutes",
    "timeout": "not heard of for days",
    "evicted": "forgotten: more messages were open than can be kept",
    "epoch_reset": "cut short when the appliance's counters began anew",
    "stream_end": "not finished where the log ends",
}
"""How messages end."""

FLOWS = {"incoming": "incoming mail", "outgoing": "outgoing mail", "internal": "made on the appliance"}


def leg_words(in_clear: bool | None) -> str:  # noqa: FBT001 (three values)
    """How mail went on one connection."""
    return "in a way that cannot be told" if in_clear is None else "in CLEAR TEXT" if in_clear else "under TLS"


def cipher_words(tls: dict[str, Any]) -> str:
    """`TLSv1.2 with AES128-SHA`; empty if the line did not say."""
    protocol, cipher = tls.get("protocol"), tls.get("cipher")
    return f"{protocol} with {cipher}" if protocol and cipher else protocol or cipher or ""


def failure_words(failure: dict[str, Any]) -> str:
    """The class in words, and the appliance's own."""
    name = failure.get("class", "")
    words = FAILURES.get(name, name)
    reason = failure.get("reason")
    # A "required" line has one wording only, which says no more than the class.
    return f'{words} ("{reason}")' if reason and not name.startswith("required_") else words


def peer_words(end: dict[str, Any]) -> str:
    """`192.0.2.1 (mx.example.org), port 25` of a `source`, `destination` or `peer` object."""
    address = end.get("ip") or end.get("address") or ""
    domain, port = end.get("domain"), end.get("port")
    if domain and not _HOST_NAME.fullmatch(domain):
        domain = f'named "{domain}"'  # whoever holds the PTR record can write anything
    words = f"{address} ({domain})" if address and domain and domain != "unknown" else address or domain or ""
    return f"{words} port {port}" if words and port else words


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 message`, `2 messages`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(words: Sequence[str], *, limit: int = 5) -> str:
    """`a, b and c`; beyond `limit`: `a, b and 7 more`."""
    if len(words) > limit:
        words = [*words[: limit - 1], f"{len(words) - limit + 1:,} more"]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1] if words else ""


def rids_words(rids: Sequence[int]) -> str:
    """`RID 0`, `RIDs 0 to 3`, `RIDs 0, 2 and 5`."""
    if len(rids) == 1:
        return f"RID {rids[0]}"
    if len(rids) > 2 and list(rids) == list(range(rids[0], rids[0] + len(rids))):
        return f"RIDs {rids[0]} to {rids[-1]}"
    return "RIDs " + listed([str(rid) for rid in rids], limit=10)


def first_upper(text: str) -> str:
    """`text` with a capital in front."""
    return text[:1].upper() + text[1:]


def envelope_words(own: dict[str, Any]) -> str:
    """`from <a@example.com> to <b@example.org>` of what stands under `cisco_esa`, as far as it is known."""
    envelope = own.get("envelope", {})
    words = [f"from <{envelope['from']}>"] if envelope.get("from") else []
    if envelope.get("to"):
        words.append("to " + listed([f"<{address}>" for address in envelope["to"]], limit=3))
    return " ".join(words)


def result_words(result: str, *, response: object = None, code: object = None, reason: object = None, retry: object = None) -> str:
    """What became of the recipients of a delivery: its result, the answer, the appliance's reason, when it is tried again.

    A failure without a `code` (the log has `000`) is the appliance's own text, not an answer of the server's.
    """
    own_text = result != "delivered" and not code
    answer = (f', "{response}"' if own_text else f', the server answered "{response}"') if response else ""
    because = f" ({reason})" if reason else ""
    again = f", to be tried again {retry}" if retry else ""
    match result:
        case "delivered":
            return f"accepted by the server{answer}"
        case "bounced":
            return f"refused for good{because}{answer}"
        case "delayed":
            return f"put off{because}{answer}{again}"
        case "tls_blocked":
            return f"not sent, because TLS had failed{because}{again}"
        case "uncertain":
            return "the connection was lost after the data, so it may have been delivered or not"
        case "connection_error":
            return f"the connection failed before a result{because}{again}"
        case "unknown":
            return "what became of it is not in the log"
        case other:
            return RESULTS.get(other, other) + because


def delivery_words(own: dict[str, Any]) -> str:
    """A `delivery` record in a few words: `RID 0 delivered, under TLS`."""
    result = own["delivery"]["result"]
    words = "with a result that is not in the log" if result == "unknown" else RESULTS.get(result, result)
    how = "" if result == "tls_blocked" else f", {leg_words(own.get('tls', {}).get('in_clear'))}"
    return f"{rids_words(own['rids'])} {words}{how}"


_FATES = {
    "tls_blocked": "not sent for want of TLS to",
    "bounced": "bounced for",
    "deleted": "deleted for",
    "dropped": "dropped for",
    "quarantined": "quarantined for",
    "pending": "not yet delivered to",
}


def fate_words(own: dict[str, Any]) -> str:
    """What became of the recipients of a `message` record, by number."""
    recipients = own.get("recipients", [])
    if not recipients:
        return (
            "given up before it had a recipient" if own.get("message", {}).get("end") == "aborted" else "it has no recipient that is known"
        )
    groups: dict[str, list[str]] = {}
    for one in recipients:
        groups.setdefault(_fate(one, own), []).append(one.get("domain", ""))
    total = own.get("recipient_count", len(recipients))
    words = []
    for fate, domains in groups.items():
        number = "its recipient" if total == 1 else f"{len(domains):,} of {total:,} recipients"
        if len(domains) == total > 1:
            number = f"all {total:,} recipients"
        known = list(dict.fromkeys(domain for domain in domains if domain))
        words.append(f"{fate} {number}" + (f" ({listed(known, limit=3)})" if known else ""))
    return listed(words)


def _fate(one: dict[str, Any], own: dict[str, Any]) -> str:
    result, in_clear = one["result"], one.get("in_clear")
    if result in ("delivered", "uncertain"):
        return f"{RESULTS[result]} {'with TLS not known' if in_clear is None else leg_words(in_clear)} to"
    if result == "moved":
        children = [f"MID {mid}" for mid in own.get("child_mids", [])]
        return f"went on in {listed(children, limit=4) if children else 'another message'} for"
    return _FATES.get(str(result), f"{result} for")


def recipient_words(one: dict[str, Any], received_in_clear: bool | None, *, received: bool) -> str:  # noqa: FBT001 (three values)
    """The final word on one recipient; `received`: there was a reception, which was in clear or not."""
    result, posture, out = str(one["result"]), one["posture"], one.get("in_clear")
    words = RESULTS.get(result, result)
    if result not in ("delivered", "uncertain"):
        return words
    if posture == "encrypted":
        return f"{words}, under TLS {'on both legs' if received else 'on the way out'}"
    legs = (("in", received_in_clear if received else False), ("out", out))
    if posture == "exposed":
        return f"{words}, in CLEAR TEXT on the way {' and '.join(leg for leg, clear in legs if clear)}"
    return f"{words}; whether under TLS cannot be told for the way {' and '.join(leg for leg, clear in legs if clear is None)}"
