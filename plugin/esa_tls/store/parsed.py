"""A record as the store reads it: the fields that it files, counts and looks for, decoded in one step; all others are skipped.

Field names are those of `core/records.py`. Lines come in another form: `core/encode_store.py`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = ["Record", "decode_record", "seconds_of"]

Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""What fits into a column."""


class Failure(msgspec.Struct, gc=False):
    """`tls.failure`."""

    class_: str = msgspec.field(name="class", default="")


class Tls(msgspec.Struct, gc=False):
    """`cisco_esa.tls` of a leg; of a message only whether it is expected."""

    outcome: str = ""
    evidence: str = ""
    in_clear: bool | None = None
    failure: Failure | None = None
    protocol: str = ""
    cipher: str = ""
    expected: bool = False
    partners: list[str] = []


class End(msgspec.Struct, gc=False):
    """One end of a connection."""

    ip: str = ""
    address: str = ""
    domain: str = ""

    def name(self) -> str:
        """What the end is called in rankings; "" if nothing is known."""
        return self.ip or self.address or self.domain


class ConnectionFacts(msgspec.Struct, gc=False):
    """`cisco_esa.connection`."""

    id: str = ""
    for_domain: str = ""


class DeliveryFacts(msgspec.Struct, gc=False):
    """`cisco_esa.delivery`."""

    result: str = ""
    domains: list[str] = []


class Reception(msgspec.Struct, gc=False):
    """`cisco_esa.reception`."""

    tls: Tls | None = None
    icid: Number | None = None
    peer: End | None = None


class Attempt(msgspec.Struct, gc=False):
    """One of `cisco_esa.deliveries[]`."""

    peer: End | None = None


class Recipient(msgspec.Struct, gc=False):
    """One of `cisco_esa.recipients[]`."""

    posture: str = ""
    domain: str = ""


class Clear(msgspec.Struct, gc=False):
    """`cisco_esa.clear`."""

    recipient_count: int = 0


class Envelope(msgspec.Struct, gc=False):
    """`cisco_esa.envelope`."""

    from_: str = msgspec.field(name="from", default="")
    to: list[str] = []


class Own(msgspec.Struct, gc=False):
    """`cisco_esa`."""

    record: str
    appliance: str
    epoch: Number = 0
    mid: Number | None = None
    icid: Number | None = None
    dcid: Number | None = None
    rids: list[int] = []
    direction: str = ""
    mail_flow: str = ""
    tls: Tls | None = None
    connection: ConnectionFacts | None = None
    delivery: DeliveryFacts | None = None
    reception: Reception | None = None
    delivery_tls: Tls | None = None
    deliveries: list[Attempt] = []
    recipients: list[Recipient] = []
    clear: Clear | None = None
    envelope: Envelope | None = None
    posture: str = ""
    posture_in: str = ""
    posture_out: str = ""
    child_kind: str | None = None


class Event(msgspec.Struct, gc=False):
    """`event`."""

    id: str


class Email(msgspec.Struct, gc=False):
    """`email`."""

    message_id: str = ""


class Record(msgspec.Struct, gc=False):
    """A summary record."""

    timestamp: str = msgspec.field(name="@timestamp")
    event: Event
    cisco_esa: Own
    source: End | None = None
    destination: End | None = None
    email: Email | None = None


decode_record = msgspec.json.Decoder(Record).decode

_DAYS_TO_MONTH = (0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334)


def seconds_of(stamp: str) -> int:
    """`@timestamp` (`2026-11-25T01:12:55Z`, as `records.iso` writes it) as seconds since 1970. Raises ValueError for another form."""
    year, month, day = int(stamp[0:4]), int(stamp[5:7]), int(stamp[8:10])
    before = year - 1
    days = before * 365 + before // 4 - before // 100 + before // 400 - 719162 + _DAYS_TO_MONTH[month - 1] + day - 1
    if month > 2 and (year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)):
        days += 1
    return days * 86400 + int(stamp[11:13]) * 3600 + int(stamp[14:16]) * 60 + int(stamp[17:19])
