"""The consolidated event log: one CEF line per message (docs/log-lines.md 7).

`CEF:0|Cisco|{model}|{version}|ESA_CONSOLIDATED_LOG_EVENT|Consolidated Log Event|5|{key=value ...}`

Values hold blanks, quotes, braces and even ` key=`, and the administrator picks fields and their order. So:

1. Only known keys split (`KEYS`); an unknown `key=` stays part of the value before it.
2. Places where a key cannot begin are left out first: quoted texts (`msg='...'`) and the dicts of attachment details.
3. Each key counts once; a subject may hold ` ESATLSInConnStatus=Success`. What stands before any text from outside is genuine. Behind it
   the last one counts, but one that directly follows a text (and so may be part of it) never beats one that does not. A repeated key
   that does not count stays part of the text it stands in.
4. A key whose values are single words does not begin where several words follow.
5. An absent field is absent: not selected, or not applicable. It is never a sign of clear text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from esa_tls.core.pieces import bare_address, decimal_id, unquote

_WORD_KEYS: Final = frozenset(
    (
        *("ESAMID", "ESAICID", "ESADCID", "act", "deviceDirection", "dvc", "deviceExternalId"),
        *(f"ESATLS{way}{what}" for way in ("In", "Out") for what in ("ConnStatus", "Protocol", "Cipher")),
        *("ESADaneStatus", "ESADaneHost", "ESAMsgTooBigFromSender", "ESARateLimitedIP", "ESADHASource", "ESAHeloIP"),
        *("sourceAddress", "src", "sourceHostName", "shost"),
    )
)
"""Keys whose values are one word."""

_TEXT_KEYS: Final = frozenset(
    ("msg", "cs4", "suser", "duser", "ESAFriendlyFrom", "ESAReplyTo", "ESAAttachmentDetails", "ESAURLDetails", "ESAHeloDomain")
)
"""Keys whose values are text from outside."""

KEYS: Final = (
    _WORD_KEYS
    | _TEXT_KEYS
    | frozenset(
        (
            *(f"cs{n}{label}" for n in range(1, 7) for label in ("", "Label")),
            *("cfp1", "cfp1Label", "startTime", "endTime", "EndTime", "start", "end"),
            *("deviceInboundInterface", "deviceOutboundInterface", "Message Filters Verdict"),
            *("ESAMailFlowPolicy", "ESASenderGroup", "ESAFinalActionDetails", "ESASDRDomainAge", "ESAMARAction"),
            *(f"ESA{engine}Verdict" for engine in ("AS", "AMP", "AV", "GM", "CF", "OF", "DLP", "MF", "SPF", "DKIM", "DMARC")),
        )
    )
)
"""All keys that split."""

_KEY: Final = re.compile("(?:(?<=[ |])|^)(" + "|".join(sorted(map(re.escape, KEYS), key=len, reverse=True)) + ")=")
_ONE_WORD: Final = re.compile(r"[^ ]*+(?= *+\Z| ++[^ =]++=| ++Message Filters Verdict=)")
_NEXT_FIELD: Final = re.compile(r" *+\Z| ++[A-Za-z][A-Za-z0-9]{0,63}=| ++Message Filters Verdict=")
_ESCAPE: Final = re.compile(r"\\{1,2}(=)|\\(\\)")
_DICT_TOKEN: Final = re.compile(r"\\.|['\"{}]", re.DOTALL)
_QUOTE_TOKEN: Final = {"'": re.compile(r"\\.|'", re.DOTALL), '"': re.compile(r'\\.|"', re.DOTALL)}
_HEADER: Final = re.compile(r"CEF:[0-9]\|" + r"((?:[^|\\]|\\.){0,255})\|" * 6)

_MAX_DICT_CHARS: Final = 65_536
"""How far the end of a dict or a quoted text is looked for; behind that its keys are read like any others."""


class CefTls(msgspec.Struct, frozen=True):
    """What the line says of one leg. `status`: `Success` or `Failure` as printed; absent is unknown, never clear text."""

    status: str | None = None
    protocol: str | None = None
    cipher: str | None = None


class Cef(msgspec.Struct, frozen=True):
    """One consolidated event. `product` is the model; `fields` holds the values by the keys of the line, trimmed, escapes resolved."""

    vendor: str
    product: str
    version: str
    event_class: str
    name: str
    severity: str
    fields: dict[str, str]

    def number(self, key: str) -> int | None:
        """The value of a field as a number, if it is one."""
        number = decimal_id(self.fields.get(key, ""))
        return number if number >= 0 else None

    @property
    def mid(self) -> int | None:
        """ESAMID."""
        return self.number("ESAMID")

    @property
    def icid(self) -> int | None:
        """ESAICID."""
        return self.number("ESAICID")

    @property
    def dcid(self) -> int | None:
        """ESADCID: one only, even if there were several deliveries."""
        return self.number("ESADCID")

    @property
    def action(self) -> str | None:
        """The final action: `DELIVERED`, `ABORTED`, `BOUNCED`, `QUARANTINED`, `DQ`, `DROPPED`."""
        return self.fields.get("act")

    @property
    def tls_in(self) -> CefTls | None:
        """The reception's TLS fields (the ICID's, also for outgoing mail); None if there is none."""
        return self._tls("ESATLSIn")

    @property
    def tls_out(self) -> CefTls | None:
        """The delivery's TLS fields; None if there is none."""
        return self._tls("ESATLSOut")

    def _tls(self, prefix: str) -> CefTls | None:
        tls = CefTls(*(self.fields.get(prefix + what) for what in ("ConnStatus", "Protocol", "Cipher")))
        return tls if tls != CefTls() else None

    @property
    def mail_flow(self) -> str | None:
        """`incoming` or `outgoing` (deviceDirection 0 or 1); not the direction of a connection."""
        return {"0": "incoming", "1": "outgoing"}.get(self.fields.get("deviceDirection", ""))

    @property
    def source_address(self) -> str | None:
        """The sender's address (`src` since 15.0)."""
        return self.fields.get("sourceAddress") or self.fields.get("src")

    @property
    def source_host(self) -> str | None:
        """The sender's PTR name (`shost` since 15.0); `unknown` is none."""
        host = self.fields.get("sourceHostName") or self.fields.get("shost")
        return None if host == "unknown" else host

    @property
    def started(self) -> str | None:
        """Begin of the message's processing, local time as printed."""
        return self.fields.get("startTime") or self.fields.get("start")

    @property
    def ended(self) -> str | None:
        """End of the message's processing, local time as printed."""
        return self.fields.get("endTime") or self.fields.get("EndTime") or self.fields.get("end")

    @property
    def subject(self) -> str | None:
        """The subject, without one pair of outer quotes."""
        return self.fields.get("msg")

    @property
    def message_id(self) -> str | None:
        """The Message-ID, without angle brackets."""
        return bare_address(self.fields.get("cs4", "")) or None

    @property
    def sender(self) -> str | None:
        """The envelope sender."""
        return bare_address(self.fields.get("suser", "")) or None

    @property
    def recipients(self) -> tuple[str, ...]:
        """The envelope recipients."""
        return tuple(address for part in self.fields.get("duser", "").split(";") if (address := bare_address(part.strip())))


def parse_cef(text: str) -> Cef | None:
    """Read a consolidated event from its `CEF:0|` on.

    None: the header is not complete, so this is no event. Never raises. Source: docs/log-lines.md 7.
    """
    header = _HEADER.match(text)
    if header is None:
        return None
    vendor, product, version, event_class, name, severity = (re.sub(r"\\([|\\])", r"\1", part) for part in header.groups())
    return Cef(vendor, product, version, event_class, name, severity, _fields(text[header.end() :]))


def _fields(text: str) -> dict[str, str]:
    """Keys and values of the extension (rules 1 to 4)."""
    chosen: dict[str, tuple[re.Match[str], bool]] = {}
    text_from = len(text)  # where text from outside begins
    in_text = False  # the key before this place is one of text: the place may be part of it
    for match in _places(text):
        key = match[1]
        first = chosen.get(key)
        if first is None or (key not in _TEXT_KEYS and first[0].start() > text_from and (first[1] or not in_text)):
            chosen[key] = (match, in_text)
        in_text = key in _TEXT_KEYS
        if in_text:
            text_from = min(text_from, match.start())
    fields: dict[str, str] = {}
    places = sorted((match for match, _ in chosen.values()), key=re.Match.start)
    ends = [match.start() for match in places[1:]]
    for match, end in zip(places, [*ends, len(text)], strict=False):
        value = text[match.end() : end].strip(" ")
        if match[1] in _TEXT_KEYS:
            value = unquote(value)
        value = _ESCAPE.sub(lambda escape: escape[1] or "\\", value)
        if value:
            fields[match[1]] = value
    return fields


def _places(text: str) -> Iterator[re.Match[str]]:
    """Every place where a known key may begin, in order (rules 2 and 4)."""
    begun: set[str] = set()
    at = 0
    while match := _KEY.search(text, at):
        at = match.end()
        key = match[1]
        if key in _WORD_KEYS and not _ONE_WORD.match(text, at):
            continue
        if key in _TEXT_KEYS and key not in begun:
            begun.add(key)
            at = _end_of_text(text, at)
        yield match


def _end_of_text(text: str, start: int) -> int:
    """Where a quoted text or a dict that begins at `start` ends; `start` itself if it is neither, or does not end properly."""
    opening = text[start : start + 1]
    limit = start + _MAX_DICT_CHARS
    if opening in _QUOTE_TOKEN:
        for token in _QUOTE_TOKEN[opening].finditer(text, start + 1, limit):
            # A stray quote inside is no end: another field, or nothing, has to follow.
            if token[0] == opening and _NEXT_FIELD.match(text, token.end()):
                return token.end()
    elif opening == "{":
        depth, quote = 0, ""
        for token in _DICT_TOKEN.finditer(text, start, limit):
            mark = token[0]
            if quote:
                quote = "" if mark == quote else quote
            elif mark in {"'", '"'}:
                quote = mark
            elif mark == "{":
                depth += 1
            elif mark == "}":
                depth -= 1
                if not depth:
                    return token.end() if _NEXT_FIELD.match(text, token.end()) else start
    return start
