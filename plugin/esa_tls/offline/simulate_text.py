"""The words of the simulated world: names, addresses, ciphers, reasons, subjects, and text that pretends to be log lines.

Nothing here decides anything. Line templates themselves stand where they are said (inbound, queue, outbound); this module fills their free
text. Addresses are from the documentation ranges, names from the ``example`` domains.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Final, TypeVar

T = TypeVar("T")

CIPHERS: Final = (
    ("TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384"),
    ("TLSv1.3", "TLS_AES_256_GCM_SHA384"),
    ("TLSv1.2", "ECDHE-RSA-AES128-GCM-SHA256"),
    ("TLSv1.3", "TLS_AES_128_GCM_SHA256"),
    ("TLSv1.2", "DHE-RSA-AES256-GCM-SHA384"),
    ("TLSv1.2", "ECDHE-RSA-AES256-SHA384"),
    ("TLSv1", "AES128-SHA"),
    ("TLSv1/SSLv3", "DHE-RSA-AES256-SHA"),
)

INTERFACES: Final = (("Data 1", "192.0.2.1"), ("Management", "192.0.2.2"), ("mail.example.com", "192.0.2.3"))

# (group, rule with its leading word or "", SBRS text, SBRS number or None, country text or None)
HatRule = tuple[str, str, str, float | None, str | None]
ACCEPT_RULES: Final[tuple[HatRule, ...]] = (
    ("UNKNOWNLIST", " match sbrs[-1.0:10.0]", "3.4", 3.4, "United States"),
    ("UNKNOWNLIST", " match sbrs[none]", "None", None, "Germany"),
    ("SUSPECTLIST", " match sbrs[-3.0:-1.0]", "-1.8", -1.8, "Brazil"),
    ("ALLOWED_LIST", " match 198.51.100.0/24", "rfc1918", None, "not applicable"),
    ('Partners (EU) "A"', " match .partner.example", "5.9", 5.9, "United Kingdom"),
    ("None", " match ALL", "not enabled", None, "not enabled"),
    ("None", " match ", "None", None, None),
    ("None", "", "3.7", 3.7, None),
    ("UNKNOWNLIST", " match ALL", "unable to retrieve", None, "Japan"),
)
RELAY_RULES: Final[tuple[HatRule, ...]] = (
    ("RELAYLIST", " match 192.0.2.0/24", "not enabled", None, None),
    ("RELAYLIST", " match 192.0.2.0/24", "not enabled", None, "not enabled"),
    ("RELAY_SG", " match 192.0.2.77", "rfc1918", None, "not applicable"),
)
REJECT_RULES: Final[tuple[HatRule, ...]] = (
    ("BLACKLIST", " match sbrs[-10.0:-3.0]", "-9.9", -9.9, "Russian Federation"),
    ("BLOCKED_LIST", " match dnslist[bl.example.net]", "None", None, None),
)
UNCOUNTRIED: Final = frozenset({"not enabled", "not applicable"})

# Inbound failures and their class; a bare ``TLS failed`` says no reason.
RESET_REASON: Final = "[Errno 54] Connection reset by peer"

ENVELOPE_ENDS: Final = (
    "sales",
    "info",
    "anna.schmidt",
    "j.doe",
    "noreply",
    "buchhaltung",
    "support",
    "mary",
    "bob",
    "k.sato",
    "postmaster",
)
SUBJECTS: Final = (
    "Hello",
    "Re: Quarterly figures",
    "Invoice 4711",
    "Your order has shipped",
    "it's late",
    'the "new" plan',
    "Fwd: minutes of the meeting, part 2/3",
    "100% off? [see inside]",
    "Testing",
    "AW: Termin am Montag",
    "two  blanks kept",
)
UTF8_SUBJECTS: Final = ("Grüße aus Zürich", "会議のお知らせ", "Cafe\u0301 noir", "Счёт")
POLICIES: Final = ("DEFAULT", "mail_policy_one", "VIP Users", "Finance (strict)")
REJECTED_BY: Final = ("RAT", "LDAPACCEPT", "Injection Control", "Receiving Control")
REPLIES: Final = (
    "2.0.0 OK",
    "ok 1083092729 qp 3998",
    "2.0.0 Ok: queued as 9C8B425DA7",
    "2.6.0 <DIABLO8k69RKLpgTFur00000086@mx.example.org> Queued mail for delivery",
)
HARD_REFUSALS: Final = (
    "5.1.0 - Unknown address error ('550', ['<george@example.org>... Relaying denied'])",
    "5.1.1 - Bad destination email address ('550', ['5.1.1 no such user'])",
    "5.1.0 - Unknown address error ('501', ['5.5.4 Invalid Address'])",
)
SOFT_REFUSALS: Final = (
    "4.1.0 - Unknown address error ('451', ['try later'])",
    "4.3.2 - Not accepting messages at this time ('421', ['4.3.2 Service shutting down'])",
    "4.4.0 - Other network problem ('000', ['[Errno 54] Connection reset by peer'])",
)
TLS_DELAY: Final = "4.4.0 - Other network problem ('000', ['TLS negotiation failed'])"
EXPIRY: Final = "5.4.7 - Delivery expired (message too old) ('000', ['timeout'])"
QUARANTINE_REASONS: Final = ("DLP violation", "content filter:quarantine_attachments", "DMARC verification failed")
ATTACHMENTS: Final = ("invoice.pdf", "report 2025.xlsx", "scan_001.tiff", "it's here.docx")
_PRETENDED: Final = (
    "Info: ICID {icid} TLS success",
    "Info: DCID {dcid} TLS success protocol TLSv1.2 cipher AES128-SHA",
    "Info: Message finished MID {mid} done",
    "Wed Jul 20 19:47:40 2005 Info: ICID {icid} TLS failed",
    "x Info: ICID {icid} close",
    "Info: Message done DCID {dcid} MID {mid} to RID [0]",
    "<166>Nov 24 14:22:57 esa1 mail_logs: Info: ICID {icid} TLS was required but remote host did not initiate it",
    "Info: Start MID {mid} ICID {icid}",
    "Info: Bounced: DCID {dcid} MID {mid} to RID 0 - 5.1.0 - Unknown address error (550, []) []",
    "MID {mid} ICID {icid} RID 7 To: <x@example.org>",
    "Critical: MID {mid} rewritten to MID {icid} by antivirus",
)
RECEIVED_HEADERS: Final = (
    "[('X-SBRS', 'None')]",
    "[('X-IronPort-Anti-Spam-Result', 'AQAAAMQfDEQJ'), ('from', '\"w2csh\" <w2csh@example.net>'), ('x-sbrs', '0.0')]",
)


class Weighted:
    """Draws names by their weight. ``pick`` takes a number in [0, 1)."""

    __slots__ = ("_limits", "_names", "_total")

    def __init__(self, shares: Mapping[str, float]) -> None:
        kept = [(name, weight) for name, weight in shares.items() if weight > 0]
        self._names = [name for name, _ in kept]
        self._limits = list(accumulate(weight for _, weight in kept))
        self._total = self._limits[-1]

    def pick(self, number: float) -> str:
        """The name on which ``number`` falls."""
        return self._names[bisect(self._limits, number * self._total, 0, len(self._names) - 1)]


def pick(random: Callable[[], float], choices: Sequence[T]) -> T:
    """One of ``choices``, evenly."""
    return choices[int(random() * len(choices))]


def pretended_line(random: Callable[[], float], *, icid: int, dcid: int, mid: int) -> str:
    """Text from outside that reads like a log line, with ids that are really in use."""
    template = pick(random, _PRETENDED)
    return template.format(icid=icid, dcid=dcid, mid=mid)


def subject_forms(random: Callable[[], float], *, pretended: str | None) -> tuple[str, str, bool]:
    """What follows ``Subject `` on the line, the subject meant by it, and whether the meaning is open (a stray quote).

    The three quotings: Python's repr (single quotes unless the text holds one), always double, none.
    """
    draw = random()
    if pretended is not None:
        text = pretended
    elif draw < 0.03:
        return pick(random, UTF8_SUBJECTS), "", True
    elif draw < 0.035:
        return "'Package delivery notification''", "", True
    else:
        text = pick(random, SUBJECTS)
    form = random()
    if form < 0.5 and "'" not in text:
        return f"'{text}'", text, False
    if form < 0.75 and '"' not in text:
        return f'"{text}"', text, False
    return text, text, False


def python_repr(text: str) -> str:
    """The text in the quotes that Python's repr would choose; text holding both kinds of quote is not for this."""
    return f'"{text}"' if "'" in text else f"'{text}'"
