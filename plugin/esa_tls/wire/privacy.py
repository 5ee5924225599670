"""What pseudonyms replace in a record, and how each kind of text is treated. Pure.

Rules:

1. Nothing is searched for where it can be known where it stands: each field has its treatment (`TREATMENTS`), and so has each piece of a
   raw line, by the shape of the line (`privacy_lines.py`). A field, a shape or a piece that is not known is replaced as a whole.
2. Words of the appliance and of its administrator (reasons, policies, rules) stay; addresses, IP addresses and URLs in them are replaced.
3. Words of others (responses, header lists, log entries) are replaced as a whole: nobody can tell what is in them.
4. Equal texts become equal pseudonyms, in fields and in lines alike, so records can still be joined and counted.
5. A field of type `ip` cannot hold a pseudonym: `x.ip` becomes `x.address`, and `related.ip` goes to `related.hosts`.
6. The bytes of a line that is no UTF-8 (`cisco_esa.raw_base64`) are left out. Ids that are made of a line's text are made anew by the key.
7. The appliance itself is nobody: its name, version, serial number and the ids of its connections stay.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache
from typing import Any, Final

from esa_tls.core.line import frame
from esa_tls.core.records import MAX_LIST
from esa_tls.core.records_consolidated import CEF_NAMES
from esa_tls.wire.outbox_records import Record
from esa_tls.wire.privacy_lines import line_pieces
from esa_tls.wire.pseudonyms import Pseudonyms

__all__ = ["BECOMES", "CLASSES", "CLASS_OF", "TREATMENTS", "Privacy"]

CLASSES: Final = ("addresses", "subjects", "attachments", "message_ids", "hosts", "urls")
"""What can be replaced."""

CLASS_OF: Final = {
    "address": "addresses",
    "mailbox": "addresses",
    "subject": "subjects",
    "attachment": "attachments",
    "message_id": "message_ids",
    "host": "hosts",
    "ip": "hosts",
    "url": "urls",
}
"""Treatments that hold for one class, so that a text stays (rule 2 holds for it) where its class is not replaced."""


def _ends(*ends: str) -> dict[str, str]:
    return {f"{end}.{name}": treatment for end in ends for name, treatment in (("ip", "ip"), ("address", "host"), ("domain", "host"))}


def _tls(*prefixes: str) -> dict[str, str]:
    names = {"outcome": "plain", "evidence": "plain", "failure.class": "plain", "failure.reason": "words"}
    names |= {"protocol": "plain", "cipher": "plain", "dane": "plain"}
    return {f"{prefix}.{name}": treatment for prefix in prefixes for name, treatment in names.items()}


TREATMENTS: Final[dict[str, str]] = {
    **dict.fromkeys(
        (
            *("@timestamp", "event.created", "event.start", "event.end"),
            *("event.id", "event.category", "event.type", "event.action", "event.outcome"),
            *("observer.hostname", "observer.serial_number", "observer.version", "host.name"),
            *("cisco_esa.record", "cisco_esa.appliance", "cisco_esa.flags", "cisco_esa.connection.id", "cisco_esa.direction"),
            *("network.direction", "tls.version_protocol", "tls.version", "tls.cipher", "log.level", "cisco_esa.time_source"),
            *("cisco_esa.connection.end", "cisco_esa.mail_flow", "cisco_esa.delivery.result", "cisco_esa.delivery.enhanced_code"),
            *("cisco_esa.posture", "cisco_esa.posture_in", "cisco_esa.posture_out", "email.local_id"),
            *("cisco_esa.message.end", "cisco_esa.child_kind", "cisco_esa.reception.connection_id"),
            *("cisco_esa.deliveries.connection_id", "cisco_esa.deliveries.result"),
            *("cisco_esa.recipients.result", "cisco_esa.recipients.posture", "cisco_esa.recipients.tls_outcome"),
            "cisco_esa.cef.product",
        ),
        "plain",
    ),
    **dict.fromkeys(
        (
            *("observer.ingress.interface.name", "observer.egress.interface.name"),
            *("log.file.path", "log.syslog.appname", "cisco_esa.log_name", "cisco_esa.mail_policy", "cisco_esa.reception.hat.sender_group"),
            *("cisco_esa.hat.policy", "cisco_esa.hat.sender_group", "cisco_esa.hat.rule", "cisco_esa.hat.country"),
            *("cisco_esa.message.end_reason", "cisco_esa.connection.error.reason"),
            *("cisco_esa.cef.inbound_interface", "cisco_esa.cef.outbound_interface"),
        ),
        "words",
    ),
    **_tls("cisco_esa.tls", "cisco_esa.reception.tls", "cisco_esa.deliveries.tls", "cisco_esa.delivery_tls"),
    **{f"{prefix}.partners": "words" for prefix in ("cisco_esa.tls", "cisco_esa.reception.tls", "cisco_esa.deliveries.tls")},
    **_ends("source", "destination", "cisco_esa.reception.peer", "cisco_esa.deliveries.peer"),
    "related.ip": "ip",
    "related.hosts": "related",
    "related.user": "address",
    "tls.client.x509.subject.common_name": "host",
    "tls.server.x509.subject.common_name": "host",
    "email.from.address": "address",
    "email.to.address": "address",
    "cisco_esa.envelope.from": "address",
    "cisco_esa.envelope.to": "address",
    "cisco_esa.recipients.address": "address",
    "email.subject": "subject",
    "email.message_id": "message_id",
    "cisco_esa.connection.for_domain": "domain",
    "cisco_esa.delivery.domains": "domain",
    "cisco_esa.clear.domains": "domain",
    "cisco_esa.recipients.domain": "domain",
    "cisco_esa.connection.error.details": "details",
    "cisco_esa.delivery.response": "response",
    "cisco_esa.deliveries.response": "response",
    "cisco_esa.delivery.reason": "reason",
    "cisco_esa.delivery.retry_at": "when",
    "event.original": "line",
    "cisco_esa.raw_base64": "left out",
    **{f"cisco_esa.cef.{name}": "verdict" for name in CEF_NAMES.values()},
    **{f"cisco_esa.cef.{name}": "words" for name in ("inbound_interface", "outbound_interface")},
    **{f"cisco_esa.cef.{name}": "when" for name in ("start_time", "end_time")},
    **{
        f"cisco_esa.cef.{name}": "host"
        for name in ("device_address", "helo_domain", "helo_address", "rate_limited_address", "harvest_attack_source", "dane_host")
    },
    **{f"cisco_esa.cef.{name}": "mailbox" for name in ("friendly_from", "reply_to")},
    "cisco_esa.cef.attachments": "attachment",
    "cisco_esa.cef.urls": "url",
}
"""What is done with the text of each field; a test demands that none is missing. `plain` stays: closed lists, and the appliance itself."""


BECOMES: Final = {
    "address": "a pseudonym; its domain stays or becomes one too (`domains`)",
    "mailbox": "the name a pseudonym, the address another",
    "subject": "a pseudonym",
    "attachment": "a pseudonym",
    "message_id": "a pseudonym",
    "host": "a pseudonym",
    "ip": "a pseudonym, in `address` beside it (`related.ip`: in `related.hosts`), as it is no IP address any more",
    "url": "a pseudonym",
    "related": "names of machines: pseudonyms; domains of mail: stay or become pseudonyms (`domains`)",
    "domain": "stays, or becomes a pseudonym (`domains: pseudonym`)",
    "response": "codes stay, the server's words become a pseudonym",
    "reason": "words of the appliance that are known stay, the rest becomes a pseudonym",
    "details": "errors of the operating system stay, all else becomes a pseudonym",
    "verdict": "known verdicts stay, all else becomes a pseudonym",
    "when": "a date stays, all else becomes a pseudonym",
    "words": "stays; addresses, IP addresses and URLs in it become pseudonyms",
    "line": "by the shape of the line: what is from outside becomes pseudonyms; a line of no known shape as a whole",
    "left out": "left out",
}
"""What each treatment makes of a field, for people; `plain` is left as it is."""


class _Place(dict[str, "_Place"]):
    """A place in a record: what is below it by name, and what is done with a text there (None: it stays).

    `moved_to`: the name under which it goes on; `left_out`: it does not.
    """

    __slots__ = ("left_out", "moved_to", "treat")

    def __init__(self, treat: Callable[[str], str] | None) -> None:
        super().__init__()
        self.treat = treat
        self.moved_to: str | None = None
        self.left_out = False


# -- what is found in words ------------------------------------------------------------------------------------------------------
_URL = r"(?P<url>[A-Za-z][A-Za-z0-9+.-]{0,31}://[^\s<>\"']+)"
_LOCAL = r"[^\s<>()\[\]{},;:\"|@]"
_ADDRESS = (
    # A first part begins where a word does, or behind a quote; the latter has an end, as there may be a quote every other letter.
    rf"(?P<address>(?:\"(?:[^\"\\]|\\.){{1,128}}\"|(?<!{_LOCAL}){_LOCAL}++|(?<='){_LOCAL}{{1,256}}+)"
    r"@(?:\[[^\]\s]*+\]?|[^\s<>()\[\]{},;:\"'|]*[^\s<>()\[\]{},;:\"'|.])?)"
)
_IPV6 = r"(?P<ipv6>(?<![0-9A-Fa-f:.])(?=[0-9A-Fa-f:.]*?::|(?:[0-9A-Fa-f]{1,4}:){6})[0-9A-Fa-f:.]++(?:%\w+)?)"
_IPV4 = r"(?P<ipv4>(?:[0-9]{1,3}\.){3}[0-9]{1,3}\w*+)"
_NAME = r"(?P<name>(?:[\w-]{1,63}+\.){1,16}[A-Za-z]{2,63}(?![\w-]))"
_SUSPECT = re.compile(r"[@:.]")
"""A text without any of these holds nothing that is looked for."""

_PLAIN_DOMAIN = re.compile(r"[\w.-]{0,254}\w")
_IP = re.compile(_IPV4)
_CODES = re.compile(r"(?:[2-5][0-9]{2}(?:[ -]|\Z))?(?:[245]\.[0-9]{1,3}\.[0-9]{1,3}(?:[ ]|\Z))?(?:[Oo][Kk]\.?\Z)?")
_FAILURE = re.compile(
    r"(?P<code>[0-9]\.[0-9]{1,3}\.[0-9]{1,3} - )?(?P<reason>.*?)"
    r"(?:(?P<reply> \('?[0-9]{3}'?, \[)(?P<lines>.*?)(?P<end>(?:\]\)(?: \[\])?)?))?",
    re.DOTALL,
)
_OWN_REASON = re.compile(
    r"(?:Unknown address error|Bad destination (?:email address|host|mailbox address)|Delivery expired \(message too old\)"
    r"|Other network problem|Other mail system problem|Not accepting messages at this time|Global unsubscribe)(?: |\Z)"
)
_OWN_DETAILS = re.compile(r"\[Errno -?[0-9]{1,5}\] [A-Za-z ,]{1,80}|timeout|timed out|connection timed out|EOF")
_VERDICT = re.compile(
    "NOT EVALUATED|NEGATIVE|POSITIVE|CLEAN|MATCH|NO MATCH|NO VIOLATION|VIOLATION|SUSPECT|FA_PENDING|REPAIRED|UNSCANNABLE|ENCRYPTED|INFECTED"
    "|MALICIOUS|LOWRISK|UNKNOWN|SKIPPED|BULK|MARKETING|SOCIAL|DELIVERED|ABORTED|BOUNCED|DROPPED|QUARANTINED|DQ|To [A-Z_]{1,32}|N/A"
    "|(?:Receiving|Injection) aborted(?: by sender)?|Pass|Fail|None|Neutral|SoftFail|TempError|PermError|PermFailure|TempFailure|Skipped"
    "|success|failure|true|false|Tainted|Weak|Unknown|Neutral|Trusted|Favorable|Untrusted|Questionable"
    r"|[0-9]{1,4} (?:years?|months?|days?)(?: [0-9]{1,4} (?:months?|days?)){0,2}"
)
"""What engines and the appliance itself say in a consolidated event."""

_WHEN = re.compile(r"(?:[A-Z][a-z]{2} )?[A-Z][a-z]{2} {1,2}[0-9]{1,2} [0-9]{2}:[0-9]{2}:[0-9]{2}(?: [0-9]{4})?")
_ID_HEAD = re.compile(r"(?:MID|ICID|DCID|RCID) [0-9]{1,19} ")


class Privacy:
    """Replaces what one sink must not see. `classes`: of `CLASSES`; `keep_domains`: those of mail addresses stay."""

    def __init__(self, pseudonyms: Pseudonyms, *, classes: Collection[str] = CLASSES, keep_domains: bool = True) -> None:
        self._pseudonyms = pseudonyms
        self._keep_domains = keep_domains
        self.classes = frozenset(classes)
        found = {"urls": (_URL,), "addresses": (_ADDRESS,), "hosts": (_IPV6, _IPV4)}
        patterns = [pattern for name, parts in found.items() if name in self.classes for pattern in parts]
        if not keep_domains:
            patterns.append(_NAME)
        self._in_words = re.compile("|".join(patterns)) if patterns else None
        self._treat: dict[str, Callable[[str], str]] = {
            "words": lru_cache(maxsize=4096)(self.words),
            "text": self.text,
            "address": self.address if "addresses" in self.classes else self.words,
            "mailbox": self.mailbox if "addresses" in self.classes else self.words,
            "domain": self.domain,
            "response": self.response,
            "failure": self.failure,
            "reason": self.reason,
            "details": lambda text: text if _OWN_DETAILS.fullmatch(text) else self.text(text),
            "verdict": lambda text: text if _VERDICT.fullmatch(text) else self.text(text),
            "when": lambda text: text if _WHEN.fullmatch(text) else self.text(text),
            **{
                name: self.text if CLASS_OF[name] in self.classes else self.words
                for name in ("subject", "attachment", "message_id", "host", "url", "ip")
            },
        }
        self._unknown = _Place(self.text)
        self._record = self._places()
        self._related_hosts = self._record["related"]["hosts"]
        self._head: tuple[str, str, str] = ("", "", "")
        """The prefix of the last line, what became of it, and the appliance: lines of one second have the same."""

    # -- records -----------------------------------------------------------------------------------------------------------------
    def replace(self, record: Record, action: str) -> None:
        """Put pseudonyms into the record. `action`: its `event.action`, which it may have lost meanwhile."""
        own, event = record["cisco_esa"], record.get("event", {})
        kind, appliance = own["record"], own["appliance"]
        # the hosts of a connection are names of machines, those of mail the domains it was for
        self._related_hosts.treat = self.domain if kind in ("delivery", "message") else self._treat["host"]
        self._object(record, self._record)
        if "original" in event:
            event["original"] = self.line(event["original"], action, appliance)
        if "id" in event and kind in ("line", "consolidated"):
            event["id"] = self._pseudonyms.record_id(event["id"])

    def _places(self) -> _Place:
        root = _Place(self.text)
        for path, treatment in TREATMENTS.items():
            place = root
            for name in path.split("."):
                place = place.setdefault(name, _Place(self.text))
            place.treat = self._treat.get(treatment)  # `plain` stays, and `line` is done where the rest of the record is known
            place.left_out = treatment == "left out"
            if treatment == "ip" and "hosts" in self.classes:
                place.moved_to = "hosts" if path == "related.ip" else "address"
        return root

    def _object(self, record: Record, place: _Place) -> None:
        odd: list[tuple[str, _Place]] = []
        for name, value in record.items():
            here = place.get(name)
            if here is None:
                here = self._unknown
            elif here.left_out or here.moved_to is not None:
                odd.append((name, here))
            kind = type(value)
            if kind is str:
                if here.treat is not None:
                    record[name] = here.treat(value)
            elif kind is dict:
                self._object(value, here)
            elif kind is list:
                self._list(value, here)
        for name, here in odd:
            value = record.pop(name)
            if here.moved_to == "hosts":
                record["hosts"] = [*value, *record.get("hosts", ())][:MAX_LIST]
            elif here.moved_to is not None:
                record[here.moved_to] = value

    def _list(self, values: list[Any], place: _Place) -> None:
        for at, value in enumerate(values):
            if isinstance(value, str):
                if place.treat is None:
                    return
                values[at] = place.treat(value)
            elif isinstance(value, dict):
                self._object(value, place)

    # -- lines -------------------------------------------------------------------------------------------------------------------
    def line(self, text: str, action: str, appliance: str) -> str:
        """A raw line. `action`: what it was read as; `appliance`: whose name stays where it stands in the prefix."""
        prefix, replaced, of = self._head
        if not prefix or of != appliance or not text.startswith(prefix):
            framing = frame(text)
            if framing is None:
                return self.text(text)  # the rest of another line, or nobody knows
            prefix, of = text[: framing.length], appliance
            replaced = self.words(prefix, but=appliance)
            self._head = ("", "", "") if framing.cef else (prefix, replaced, of)  # a prefix before `CEF:` may have no level to end it
        return replaced + self._body(text[len(prefix) :], action)

    def _body(self, body: str, action: str) -> str:
        pieces = line_pieces(action, body)
        if pieces is None:
            head = _ID_HEAD.match(body)
            at = 0 if head is None else head.end()
            return body[:at] + self.text(body[at:])
        out: list[str] = []
        at = 0
        for treatment, start, end in pieces:
            out += (body[at:start], self._treat[treatment](body[start:end]))
            at = end
        out.append(body[at:])
        return "".join(out)

    # -- treatments --------------------------------------------------------------------------------------------------------------
    def text(self, text: str) -> str:
        """One pseudonym for all of it."""
        return self._pseudonyms.of(text, "") if text else text

    def address(self, text: str) -> str:
        """A mail address; what is none becomes one pseudonym."""
        local, _, domain = text.rpartition("@")
        if not local or not _PLAIN_DOMAIN.fullmatch(domain) or (_IP.search(domain) and "hosts" in self.classes):
            return self.text(text)
        return self._pseudonyms.address(local, domain, keep_domain=self._keep_domains)

    def mailbox(self, text: str) -> str:
        """`Name <address>`, or an address, or a name."""
        name, opened, rest = text.rpartition("<")
        if not opened or not rest.endswith(">") or "@" not in rest:
            return self.address(text)
        bare = name.rstrip(" ")
        return f"{self.text(bare)}{name[len(bare) :]}<{self.address(rest[:-1])}>"

    def domain(self, text: str) -> str:
        """A domain that mail was for."""
        return self.words(text) if self._keep_domains else self._pseudonyms.domain(text)

    def response(self, text: str) -> str:
        """A server's answer: its codes stay, its words are its own."""
        match = _CODES.match(text)
        at = 0 if match is None else match.end()
        return text[:at] + self.text(text[at:])

    def reason(self, text: str) -> str:
        """Why mail was refused: the appliance's words stay, what is behind them is the server's."""
        match = _OWN_REASON.match(text)
        at = 0 if match is None else match.end()
        return text[:at] + self.text(text[at:])

    def failure(self, text: str) -> str:
        """`5.1.0 - Unknown address error ('550', ['no such user']) []`."""
        match = _FAILURE.fullmatch(text)
        if match is None:
            return self.text(text)
        lines = match["lines"]
        if lines is not None:
            quoted = len(lines) > 1 and lines[0] == lines[-1] and lines[0] in "'\"" and "', '" not in lines
            lines = f"{lines[0]}{self.response(lines[1:-1])}{lines[-1]}" if quoted else self.response(lines)
        return "".join((match["code"] or "", self.reason(match["reason"]), match["reply"] or "", lines or "", match["end"] or ""))

    def words(self, text: str, *, but: str = "") -> str:
        """Words that stay, without what can be found in them. `but`: stays, should it be found."""
        if self._in_words is None or not _SUSPECT.search(text):
            return text
        return "".join(self._found(text, but))

    def _found(self, text: str, but: str) -> Iterator[str]:
        assert self._in_words is not None
        at = 0
        for match in self._in_words.finditer(text):
            yield text[at : match.start()]
            at = match.end()
            found = match[0]
            yield found if found == but else self._replaced(str(match.lastgroup), found)
        yield text[at:]

    def _replaced(self, group: str, found: str) -> str:
        match group:
            case "address":
                quote = found[0] if found[0] == "'" else ""
                return quote + self.address(found[len(quote) :])
            case "ipv6":
                return self._ipv6(found)
            case "name":
                return self._pseudonyms.domain(found)
            case _:
                return self.text(found)

    def _ipv6(self, found: str) -> str:
        """What looks like an IPv6 address, perhaps with a colon or full stop beside it; a time or a port looks like one too."""
        for start in (0, 1):
            for end in (len(found), len(found.rstrip(":.")), len(found.rstrip("."))):
                if _is_ipv6(found[start:end]):
                    return found[:start] + self.text(found[start:end]) + found[end:]
        return _IP.sub(lambda match: self.text(match[0]), found)


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False
