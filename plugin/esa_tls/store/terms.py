"""What a record can be found by, as short texts (`terms`), and the keys of the index, which are their hashes.

A term is one letter for its sort and the value in one writing. A key is 48 bits of its hash: what shares a key with another by chance is
told apart by looking at the record, so the index may be small and say too much, and never says too little.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

import msgspec
import xxhash

from esa_tls.core.records import domain_of
from esa_tls.store.parsed import End, Record

__all__ = [
    "EXPECTED_TERM",
    "KEY_BYTES",
    "Question",
    "entry_term",
    "failure_term",
    "key_of",
    "message_id_term",
    "number_term",
    "partner_term",
    "question_of",
    "recipient_term",
    "result_term",
    "terms_of",
]

KEY_BYTES: Final = 6
MAX_LABELS: Final = 6
"""A domain is found by its own name and by those of so many labels above it, down to two labels."""
MAX_NUMBER: Final = 2**63 - 1


def key_of(term: str) -> bytes:
    """The key of a term in the index."""
    return xxhash.xxh3_64_digest(term.encode("utf-8", "surrogatepass"))[:KEY_BYTES]


def number_term(sort: str, number: int) -> str:
    """`sort`: `M`, `I` or `D`."""
    return f"{sort}{number}"


def entry_term(appliance: str, epoch: int, sort: str, number: int) -> str:
    """The term under which the lines of a connection or message are found."""
    return f"L{epoch}{sort}{number} {appliance}"


def message_id_term(text: str) -> str:
    """A Message-ID, with or without angle brackets."""
    return f"<{text.strip().removeprefix('<').removesuffix('>')}"


def recipient_term(text: str) -> str:
    """A mail address that mail went to."""
    return f"@{text.strip().removeprefix('<').removesuffix('>').lower()}"


def sender_term(text: str) -> str:
    """A mail address that mail came from."""
    return f"S{text.strip().removeprefix('<').removesuffix('>').lower()}"


@lru_cache(maxsize=16384)
def domain_terms(domain: str) -> tuple[str, ...]:
    """A domain or host name, and the domains that it is in."""
    labels = domain.lower().strip(".").split(".")
    if len(labels) < 2:
        return (f".{labels[0]}",) if labels[0] else ()
    first = max(0, len(labels) - MAX_LABELS)
    names = [".".join(labels[at:]) for at in range(first, len(labels) - 1)]
    whole = ".".join(labels)
    return tuple(f".{name}" for name in dict.fromkeys([whole, *names]))


@lru_cache(maxsize=16384)
def ip_term(text: str) -> str | None:
    """An address in its usual writing; None for what is none."""
    try:
        return f"#{ipaddress.ip_address(text)}"
    except ValueError:
        return None


def terms_of(record: Record) -> set[str]:
    """Everything that a summary record is found by."""
    own = record.cisco_esa
    found: set[str] = set()
    if own.mid is not None:
        found.add(f"M{own.mid}")
    if own.icid is not None:
        found.add(f"I{own.icid}")
    if own.dcid is not None:
        found.add(f"D{own.dcid}")
    if record.email is not None and record.email.message_id:
        found.add(message_id_term(record.email.message_id))
    envelope = own.envelope
    if envelope is not None:
        if envelope.from_:
            found.add(sender_term(envelope.from_))
            if domain := domain_of(envelope.from_):
                found.update(domain_terms(domain))
        for address in envelope.to:
            found.add(recipient_term(address))
            if domain := domain_of(address):
                found.update(domain_terms(domain))
    if own.record == "connection":
        found.update(_of_end(record.destination if own.direction == "outbound" else record.source))
        if own.connection is not None and own.connection.for_domain:
            found.update(domain_terms(own.connection.for_domain))
    elif own.record == "delivery":
        found.update(_of_end(record.destination))
    else:
        found.update(_of_end(record.source))
        for attempt in own.deliveries:
            found.update(_of_end(attempt.peer))
    if own.reception is not None:
        if own.reception.icid is not None:
            found.add(f"I{own.reception.icid}")
        found.update(_of_end(own.reception.peer))
    if own.delivery is not None:
        if own.delivery.result and own.delivery.result != "delivered":
            found.add(result_term(own.delivery.result))
        for domain in own.delivery.domains:
            found.update(domain_terms(domain))
    if own.tls is not None and own.tls.expected:
        found.add(EXPECTED_TERM)
        found.update([partner_term(name) for name in own.tls.partners])
    for tls in (own.tls, own.delivery_tls, None if own.reception is None else own.reception.tls):
        if tls is not None and tls.failure is not None and tls.failure.class_:
            found.add(failure_term(tls.failure.class_))
    return found


def result_term(result: str) -> str:
    """Deliveries with this result; `delivered` has none, as nearly all have it."""
    return f"R{result}"


def failure_term(name: str) -> str:
    """What has a TLS failure of this class."""
    return f"F{name}"


EXPECTED_TERM: Final = "X"
"""Where TLS is expected (`require_tls`)."""


def partner_term(name: str) -> str:
    """What is about a partner of `require_tls`."""
    return f"P{name}"


def _of_end(end: End | None) -> Iterator[str]:
    if end is None:
        return
    if end.ip and (term := ip_term(end.ip)) is not None:
        yield term
    if end.domain and end.domain != "unknown":
        yield from domain_terms(end.domain)


# -- what a person asks for ------------------------------------------------------------------------------------------------------
class Question(msgspec.Struct, frozen=True):
    """A search text understood. `terms`: word for its sort -> term; a record fits with any. `record_id`: it may also be one."""

    terms: dict[str, str] = {}
    appliance: str | None = None
    epoch: int | None = None
    record_id: str | None = None

    def words(self) -> tuple[str, ...]:
        """As what the text was taken."""
        return (*(("record",) if self.record_id else ()), *self.terms)


_SORTS: Final = {"mid": "M", "icid": "I", "dcid": "D"}
_NAMED = re.compile(r"(mid|icid|dcid)[\s:=#]*([0-9]+)", re.IGNORECASE)
_ENTRY = re.compile(r"(.+)/([0-9]+)/(ICID|DCID|MID)/([0-9]+)", re.IGNORECASE)
_RECORD_ID = re.compile(r"[0-9a-f]{26}", re.IGNORECASE)


def question_of(text: str) -> Question:
    """What a text may mean; without terms and id if nothing."""
    text = text.strip()
    if not text:
        return Question()
    if match := _ENTRY.fullmatch(text):
        sort, number = match[3].lower(), int(match[4])
        if number <= MAX_NUMBER and int(match[2]) <= MAX_NUMBER:
            return Question({sort: f"{_SORTS[sort]}{number}"}, match[1], int(match[2]))
    if match := _NAMED.fullmatch(text):
        return Question(_numbers([match[1].lower()], match[2]))
    terms: dict[str, str] = {}
    if text.isascii() and text.isdigit():
        terms |= _numbers(_SORTS, text)
    elif (term := ip_term(text.strip("[]"))) is not None:
        terms["ip"] = term
        return Question(terms)
    bare = text.removeprefix("<").removesuffix(">")
    local, at, domain = bare.rpartition("@")
    if at and local and domain:
        terms["sender"] = sender_term(bare)
        terms["recipient"] = recipient_term(bare)
        terms["message_id"] = message_id_term(bare)
    else:
        if names := domain_terms((domain if at else bare).lstrip("@.")):
            terms["domain"] = names[0]
        if not at:
            terms["message_id"] = message_id_term(bare)
    return Question(terms, record_id=text.lower() if _RECORD_ID.fullmatch(text) else None)


def _numbers(sorts: Iterable[str], digits: str) -> dict[str, str]:
    return {sort: f"{_SORTS[sort]}{int(digits)}" for sort in sorts if len(digits) <= 19 and int(digits) <= MAX_NUMBER}
