"""Where in a body of the mail log the words of others stand: the shapes of its lines (docs/log-lines.md 1 to 6). Pure.

`line_pieces` cuts a body, read as some action, into what stays and what is treated in some way (`privacy.py` has the treatments).

Rules:

1. A shape describes a whole body. One that fits none of its action's shapes is not known, and nothing of it may be kept.
2. What a shape lets stay is written out in it: fixed words, numbers, recipient lists, words of closed lists. All else is a piece.
3. Pieces are named by their treatment. Words from outside reach as far as they can, so a text that holds the words behind it stays inside.
4. Quotes and angle brackets around a piece stay, so that a pseudonym in a line is the one in the record's field.
5. Bodies over `MAX_SHAPE_CHARS` are not looked at: they are longer than any known line, and a hostile one would cost time.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MAX_SHAPE_CHARS", "SHAPES", "line_pieces"]

MAX_SHAPE_CHARS: Final = 4096

_N = r"[0-9]{1,19}"
_RIDS = r"(?:RID )?(?:\[[0-9, ]*\]?|[0-9]{1,19})"
_CONNECTION = rf"(?:ICID|DCID) {_N}"
_TABLE = r"(?: in the (?:inbound|outbound) table)?"
_ENGINE = r"[A-Za-z]{1,24}"

SHAPES: Final[dict[str, tuple[str, ...]]] = {
    # connections
    "connection-opened": (
        (
            rf"New (?:SMTP|smtp) ICID {_N} [Ii]nterface (?P<words>.*?)(?: \((?P<host>\S*)\))? address (?P<host2>\S*)"
            r"(?: reverse dns host  ?(?P<host3>.*?)(?: verified (?:yes|no))?)?"
        ),
        rf"New (?:SMTP|smtp) DCID {_N} [Ii]nterface (?P<host>\S+) address (?P<host2>\S+)(?: port {_N}\.?)?",
    ),
    "hat-decided": (rf"ICID {_N} (?P<words>.*)",),
    "connection-refused": (r"ICID 0 (?P<words>.*)",),
    "reputation-scored": (rf"ICID {_N} SBRS [-0-9A-Za-z. ]{{1,32}}",),
    "hat-reject-delayed": (rf"ICID {_N} Delayed HAT REJECT continuing session for recipient logging(?: \((?P<host>.*)\))?",),
    "tls-succeeded": (
        (
            rf"{_CONNECTION}(?: IP (?P<host>\S+))? TLS success(?: protocol [\w./]{{1,32}})?(?: cipher [\w-]{{1,64}})?"
            r"(?: for (?P<domain>\S+?))?(?: CN=(?P<host2>.*?)| CN: (?P<host3>.*?))?\.?"
        ),
    ),
    "tls-failed": (rf"{_CONNECTION}(?: IP (?P<host>\S+))? TLS failed(?:\.|: (?P<words>.*))?",),
    "tls-required-failed": (rf"{_CONNECTION}(?: IP (?P<host>\S+))? TLS was required but (?P<words>.*)",),
    "tls-data-read": (rf"MID {_N} ICID {_N} TLS read {_N} bytes(?: \([0-9.]{{1,16}} seconds\))?",),
    "starttls-not-supported": (rf"DCID {_N}(?: IP (?P<host>\S+))? STARTTLS command not supported\.?",),
    "certificate-verified": (rf"DCID {_N}(?: IP (?P<host>\S+))? Certificate verification successful\.?",),
    "connection-lost": (
        rf"ICID {_N} lost\.?",
        (
            rf"ICID {_N} Connection from (?P<host>\S+) on interface (?P<words>.*?)(?: \((?P<host2>\S*)\))? lost after {_N} seconds"
            rf"(?: \(DNS query took {_N} seconds\))?(?:, before any commands were received)?"
        ),
    ),
    "connection-closed": (rf"{_CONNECTION} close\.?",),
    "connection-killed": (rf"SMTP (?:server|client) connection killed (?:ICID|DCID): {_N}",),
    "connection-exited": (rf"Mail delivery client with DCID {_N} exited (?P<words>.*)",),
    "connection-disconnected": (rf"ICID {_N} disconnected address (?P<host>[^ ,]*)(?:, (?P<words>.*))?",),
    "connection-error": (
        (
            rf"Connection Error: (?:[A-Za-z ]{{1,40}} )?DCID:? {_N} (?:domain: (?P<domain>\S+) )?(?:IP: (?P<host>\S+)(?: |\Z))?"
            rf"(?:port: {_N}(?: |\Z))?"
            r"(?:details: (?P<details>.*) interface: (?P<host2>\S*)(?: reason: (?P<words>.*))?)?"
        ),
    ),
    "receiving-failed": (rf"ICID {_N} (?:Receiving|Injection) Failed: (?P<words>.*)",),
    "connection-limit-reached": (
        rf"System limit reached: connection limit for IP (?P<host>\S+) on listener (?P<words>.*) ICID {_N}: max: {_N}",
    ),
    "smtp-auth": (
        (
            rf"SMTP Auth:? \(ICID {_N}\) (?:succeeded|failed) for user: (?P<address>.*) using AUTH mechanism: [A-Za-z0-9_-]{{1,32}}"
            r"(?: with profile: (?P<words>.*))?"
        ),
    ),
    "smtp-auth-required": (rf"SMTP Auth:? \(ICID {_N}\) was required but remote host did not initiate it",),
    "sender-verification": (rf"ICID {_N} Address: (?P<address>.*) sender (?:rejected|allowed)(?:, (?P<words>.*))?",),
    "address-invalid": (
        rf"ICID {_N} Invalid sender address: (?P<text>.*)",
        rf"ICID {_N} MID {_N} Invalid recipient address: (?P<text>.*)",
    ),
    "command-refused": (rf"(?:ICID {_N} )?(?:Unknown|Bad syntax for) command: (?P<text>.*)",),
    "recipients-throttled": (
        r"LDAP: Dropping connection due to potential Directory Harvest Attack from host=(?P<text>.*)",
        rf"ICID {_N} (?:Too many recipients from (?P<host>\S+)|(?:Too many recipients|[Rr]ate limit) ?(?P<text>.*))",
    ),
    # messages
    "message-started": (rf"Start MID {_N} ICID {_N}(?: \([A-Za-z ]{{1,40}}\))?",),
    "sender-accepted": (rf"MID {_N} ICID {_N} From: (?P<address>.*)",),
    "recipient-accepted": (rf"MID {_N} ICID {_N} RID {_N} To: (?P<address>.*)",),
    "recipient-rejected": (
        rf"MID {_N} ICID {_N} To: (?P<address>.*) Rejected by (?:RAT|LDAPACCEPT|(?:Injection|Receiving) Control|SMTP call-ahead)",
    ),
    "bounce-verification": (
        rf"MID {_N} ICID {_N} invalid bounce, (?:tagging|rcpt address (?P<address>.*) rejected by bounce verification\.?)",
    ),
    "message-id": (rf"MID {_N} Message-ID (?P<message_id>.*)",),
    "subject": (rf"MID {_N} Subject (?P<subject>.*)",),
    "message-received": (rf"MID {_N} ready {_N} bytes from (?P<address>.*)",),
    "policy-matched": (rf"MID {_N} matched all recipients for per-recipient policy (?P<words>.*)",),
    "engine-verdict": (
        rf"MID {_N} (?:interim verdict )?using engine: {_ENGINE}(?: [A-Za-z]{{1,16}}){{0,5}}",
        rf"MID {_N} interim AV verdict using {_ENGINE} [A-Z_ ]{{1,24}}",
        rf"MID {_N} antivirus [a-z]{{1,16}}(?: '(?P<words>[\w./-]{{1,64}})')?(?: \(released from Outbreak\))?",
        rf"MID {_N} (?:Brightmail|Outbreak Filters: verdict) [a-z]{{1,16}}",
        rf"MID {_N} Virus Threat Level={_N}",
        rf"MID {_N} AMP file reputation verdict : [A-Z_ ]{{1,24}}",
        rf"MID {_N} DLP no violation",
    ),
    "authentication-verdict": (
        rf"MID {_N} SPF: [a-z]{{1,16}} identity (?P<address>\S+) [A-Z][A-Za-z]{{1,15}}(?: (?P<text>.*))?",
        rf"MID {_N} DKIM: [a-z]{{1,16}}(?: (?P<text>.*))?",
    ),
    "attachment": (rf"MID {_N} attachment (?P<attachment>.*)",),
    "url": (rf"MID {_N} URL (?P<url>\S+) has reputation (?P<text>.*)",),
    "custom-log-entry": (rf"MID {_N} Custom Log Entry: (?P<text>.*)",),
    "incoming-relay": (
        (
            rf"MID {_N} IncomingRelay\((?P<words>[^()]*)\): Header (?P<words2>[\w-]+) found, (?:IP|ip) (?P<host>[^ ,]+) being used"
            r"(?:, SBRS [-0-9A-Za-z. ]{1,32})?"
        ),
    ),
    "message-quarantined": (
        rf'MID {_N} quarantined to "(?P<words>[^"]*)"(?: \((?P<words2>.*)\))?',
        rf'MID {_N} enqueued for transfer to centralized quarantine "(?P<words>[^"]*)"(?: \((?P<words2>.*)\))?',
        rf"(?:ISQ|EUQ): Quarantined MID {_N}",
    ),
    "quarantine-tagged": (
        rf'MID {_N} quarantine "(?P<words>[^"]*)" new reason \((?P<words2>.*)\)',
        rf"(?:ISQ|EUQ): Tagging MID {_N} for quarantine",
    ),
    **dict.fromkeys(
        ("quarantine-released", "quarantine-deleted"),
        (
            rf"MID {_N} (?:released|deleted)(?: \(attachments stripped\))? from all quarantines",
            (
                rf'MID {_N} (?:released|deleted)(?: \(attachments stripped\))? from quarantine "(?P<words>[^"]*)"'
                rf"(?: \((?P<words2>.*)\))?(?: t={_N})?"
            ),
        ),
    ),
    **dict.fromkeys(
        ("rpc-delivery-started", "rpc-delivery-done", "rpc-delivery-rejected"),
        (
            (
                rf"RPC (?:Delivery start|Message done|Message rejected) RCID {_N} MID {_N}(?: to {_RIDS})?"
                r"(?: to local IronPort Spam Quarantine)?"
            ),
            rf"RPC Message rejected RCID {_N} MID {_N} (?P<text>.*)",
            rf"Start delivery of MID {_N} over RPC connection {_N}",
            rf"Delivery of MID {_N} over RPC completed on connection {_N}",
            rf"MID {_N} to {_RIDS} to offbox IronPort Spam Quarantine",
        ),
    ),
    "rpc-connection": (rf"RPC connection RCID {_N}(?: (?:opened|closed))?",),
    "message-queued": (rf"MID {_N} queued for delivery",),
    "message-finished": (rf"Message finished MID {_N} (?:done|aborted)\.?",),
    "message-aborted": (rf"Message aborted MID {_N}(?: (?P<words>.*))?",),
    **dict.fromkeys(("message-dropped", "message-bounced"), (rf"MID {_N} (?:was )?(?:[Dd]ropped|[Bb]ounced) by (?P<words>.*)",)),
    "message-summarised": (rf"MID {_N} From: (?P<address><[^>]*>) To: (?P<address2><[^>]*>), \.\.\. {_N} total recipients",),
    **dict.fromkeys(
        ("recipient-dropped", "recipient-bounced", "recipient-rerouted", "header-masqueraded", "message-traced"),
        (
            rf"LDAP: [A-Za-z]{{1,32}} query (?P<words>\S{{1,255}}) MID {_N} RID {_N} address (?P<address>\S+)(?: to (?P<text>.*))?",
            rf"LDAP: unable to process, MID {_N} requeued",
            rf"MID {_N} Global unsubscribe matched entry (?P<address>\S+) RID {_N} Address (?P<address2>.*) Action [a-z]{{1,16}}",
            rf"Global unsubscribe matched entry (?P<address>\S+) MID: {_N} RID: {_N} Address: (?P<address2>.*)",
            rf"MID {_N} masquerading (?P<text>.*)",
            rf"MID {_N}: (?P<text>.*)",
        ),
    ),
    "alias-matched": (rf"Alias match: (?:MID {_N} RID {_N} )?recipient (?P<address>.*) mapped to \[(?P<text>.*)\]",),
    "scan-skipped": (
        rf"MID {_N} was too big \({_N}/{_N}\) for scanning by {_ENGINE}",
        rf"MID {_N} Could not convert character set: {_N}",
        rf"MID {_N} attachment types [a-z0-9]{{1,16}}",
    ),
    # children
    "message-split": (rf"MID {_N} was split creating MID {_N} due to a per-recipient policy (?P<words>.*)",),
    "message-rewritten": (rf"MID {_N} rewritten to (?:MID )?{_N} by (?P<words>.*)",),
    "message-copied": (rf"MID {_N} (?:was )?generated based on MID {_N} by (?P<words>.*)",),
    "bounce-generated": (rf"MID {_N} (?:was )?generated for bounce of MID {_N}\.?",),
    "message-reinjected": (rf"(?:ISQ|EUQ): Reinjected MID {_N} as MID {_N}",),
    "split-failed": (rf"MID {_N} could not be split\.?",),
    # delivery
    "delivery-started": (rf"Delivery start DCID {_N} MID {_N} to {_RIDS}",),
    "delivery-done": (rf"Message done DCID {_N} MID {_N} to {_RIDS}(?: (?P<text>\[.*))?",),
    "delivery-uncertain": (rf"Possible Delivery: DCID:? {_N} MID {_N} to {_RIDS}",),
    "delivery-response": (rf"MID {_N} {_RIDS} Response (?P<response>.*)",),
    **dict.fromkeys(
        ("delivery-bounced", "delivery-delayed"),
        (
            rf"(?:Bounced|Delayed): DCID:? {_N} (?:MID|Message) {_N} to {_RIDS} - (?P<failure>.*)",
            rf"(?:Bounced|Delayed): DCID:? {_N} MID {_N} From: (?P<address><.*>) To: (?P<address2><.*>) {_RIDS} - (?P<failure>.*)",
            rf"MID {_N} to {_RIDS} Bounced by destination server with response: (?P<failure>.*)",
            rf"MID {_N} Bounced by destination server with response: (?P<failure>.*)",
        ),
    ),
    "delivery-double-bounced": (rf"Double bounce: (?:MID|Message) {_N} to {_RIDS} - (?P<failure>.*)",),
    "delivery-pending": (rf"(?:MID|Message) {_N} to {_RIDS} pending till (?P<when>.*?)(?: \[Default\])?",),
    "recipients-deleted": (rf"Deleted: MID {_N} to {_RIDS}",),
    # the box
    "log-began": (r"Begin Logfile",),
    "log-ended": (r"End Logfile",),
    "version": (r"Version: [\w.-]{1,40} SN: [\w-]{1,64}",),
    "utc-offset": (r"Time offset from UTC: -?[0-9]{1,6} seconds",),
    "system-started": (r"System is coming up\.?",),
    "system-message": (
        r"SMTP server (?:starting|shut down|shutting down)\.?",
        r"Deliveries are currently suspended\.?",
        rf"SenderBase upload: {_N} hosts totaling {_N} bytes",
        r"Checkpoint Finished",
        rf"Status:(?: [A-Za-z0-9]{{1,16}} {_N}[A-Z]?){{1,80}}",
        r"Trying DANE [A-Z]{1,16} for (?P<domain>\S+)",
        r"DANE (?:SUCCESS|FAILED) for (?P<domain>\S+?)\.?",
        (
            r"(?:SECURE|INSECURE|BOGUS) (?:MX|A|AAAA|TLSA|CNAME) record ?(?:\((?P<host>[^()]*)\) )?found for "
            r"(?:MX\((?P<domain>[^()]*)\)(?: in )?)?"
            r"(?P<domain2>\S*)"
        ),
        r"Certificate verification successful\.?",
        r"TLS connection succeeded (?P<domain>\S+?)\.?",
        r"DNS Temporary Failure (?P<domain>\S+) (?:MX|A|AAAA|TLSA|CNAME|PTR)(?: (?P<text>.*))?",
        r"A [\w/-]{1,40} alert was sent to (?P<address>\S+) with subject (?P<subject>.*)",
    ),
    "consolidated-event": (r"CEF:[0-9]\|(?P<words>(?:(?:[^|\\]|\\.){0,255}\|){6})(?P<text>.*)",),
}
"""Patterns of whole bodies by action; an action that is not here has no line that may be kept."""

_INSIDE = {"address": "<>", "subject": "q", "attachment": "q", "message_id": "q<>", "response": "q"}
"""What may stand around a piece: a pair of equal quotes, then angle brackets."""

Pieces = list[tuple[str, int, int]]


class _Shape:
    """A compiled pattern, and the treatment of each of its groups."""

    __slots__ = ("groups", "match")

    def __init__(self, pattern: str) -> None:
        compiled = re.compile(pattern, re.DOTALL)
        self.match = compiled.fullmatch
        self.groups = [(number, name.rstrip("0123456789")) for name, number in compiled.groupindex.items()]


_SHAPES = {action: [_Shape(pattern) for pattern in patterns] for action, patterns in SHAPES.items()}


def line_pieces(action: str, body: str) -> Pieces | None:
    """(treatment, start, end) of what is not to stay of a body, in order; None: its shape is not known."""
    if len(body) > MAX_SHAPE_CHARS:
        return None
    for shape in _SHAPES.get(action, ()):
        match = shape.match(body)
        if match is None:
            continue
        pieces: Pieces = []
        for number, treatment in shape.groups:
            start, end = match.span(number)
            if start < end:
                start, end = _inside(body, start, end, _INSIDE.get(treatment, ""))
                if start < end:
                    pieces.append((treatment, start, end))
        return pieces
    return None


def _inside(body: str, start: int, end: int, around: str) -> tuple[int, int]:
    """A piece without what stands around it."""
    if "q" in around and end - start > 1 and body[start] == body[end - 1] and body[start] in "'\"":
        start, end = start + 1, end - 1
    if "<" in around and end - start > 1 and body[start] == "<" and body[end - 1] == ">":
        start, end = start + 1, end - 1
    return start, end
