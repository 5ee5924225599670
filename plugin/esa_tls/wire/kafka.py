"""Kafka records from outbox rows, and what follows from a broker's answer (docs/wires.md 5.1). Pure: knows no client library.

A record of ours is one Kafka record:

- value: the JSON object as it stands in the outbox, without its line feed; it is never made anew;
- key: `host.name`, the appliance, in UTF-8, so that everything of one appliance is in one partition, in order;
- timestamp: `@timestamp` in milliseconds, but never ahead of our clock: brokers refuse stamps of tomorrow
  (`message.timestamp.after.max.ms`), and a whole batch with them;
- headers `record_id` (the `event.id`), `kind`, `schema_version`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

from esa_tls.core.batch import Row
from esa_tls.core.records import KINDS, SCHEMA_VERSION
from esa_tls.wire.json_batches import entries_of
from esa_tls.wire.retry_after import SETTINGS_RETRY_S

__all__ = ["Message", "Unreadable", "Verdict", "classify", "messages_of", "topics_of"]

_KIND_HEADERS = {kind: ("kind", kind.encode()) for kind in KINDS}
_VERSION_HEADER = ("schema_version", str(SCHEMA_VERSION).encode())


class Message(NamedTuple):
    """One Kafka record, and the place of its record in the rows: `rows[row].segments[segment]`, the `record`-th.

    `timestamp_ms`: 0 = none that can be read; the client then takes the time of sending.
    """

    topic: str
    key: bytes | None
    value: bytes
    timestamp_ms: int
    headers: list[tuple[str, bytes]]
    row: int
    segment: int
    record: int


class Unreadable(NamedTuple):
    """A record of the outbox that is no JSON object with an `event.id`."""

    row: int
    segment: int
    record: int
    detail: str


# -- topics ----------------------------------------------------------------------------------------------------------------------
_PLACE = "{kind}"


def topics_of(template: str) -> dict[str, str]:
    """The topic of each kind of records. `template`: a topic's name, in which `{kind}` stands for the kind. Raises ValueError."""
    topics = {kind: template.replace(_PLACE, kind) for kind in KINDS}
    for topic in topics.values():
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", topic) or topic in (".", ".."):
            message = f"{template!r} is no topic: at most 249 of A-Z a-z 0-9 . _ - (and `{_PLACE}`)"
            raise ValueError(message)
    return topics


# -- records ---------------------------------------------------------------------------------------------------------------------
class _Event(msgspec.Struct):
    id: str


class _Host(msgspec.Struct):
    name: str | None = None


class _Known(msgspec.Struct):
    """What has to be known of a record."""

    event: _Event
    host: _Host | None = None
    timestamp: msgspec.Raw = msgspec.field(name="@timestamp", default=msgspec.Raw())


_decode = msgspec.json.Decoder(_Known).decode


def messages_of(
    rows: Sequence[Row], *, kinds: Collection[str], topics: Mapping[str, str], now_ms: int
) -> tuple[list[Message], list[Unreadable]]:
    """The Kafka records of all records of these kinds, in order, and those that cannot be read. `now_ms`: our clock, since 1970."""
    made: list[Message] = []
    unreadable: list[Unreadable] = []
    for at, number, record, kind, value in entries_of(rows, kinds):
        try:
            known = _decode(value)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            unreadable.append(Unreadable(at, number, record, str(error)))
            continue
        name = None if known.host is None else known.host.name
        headers = [("record_id", known.event.id.encode()), _KIND_HEADERS[kind], _VERSION_HEADER]
        timestamp_ms = min(_milliseconds(bytes(known.timestamp)), now_ms)
        made.append(Message(topics[kind], name.encode() if name else None, value, timestamp_ms, headers, at, number, record))
    return made, unreadable


@lru_cache(maxsize=4096)
def _milliseconds(timestamp: bytes) -> int:
    """Milliseconds since 1970 of a JSON text in RFC 3339; 0 for anything else."""
    try:
        return max(int(datetime.fromisoformat(timestamp.decode().strip('"')).timestamp() * 1000), 0)
    except (ValueError, OverflowError):
        return 0


# -- answers ---------------------------------------------------------------------------------------------------------------------
# Error codes: of the Kafka protocol where they are positive, of librdkafka itself where they are negative.
_REFUSED = {
    10: "too_large",  # MESSAGE_TOO_LARGE: the topic's max.message.bytes, for a whole batch
    32: "invalid_timestamp",  # INVALID_TIMESTAMP: further from the broker's clock than the topic allows
    87: "invalid_record",  # INVALID_RECORD
}
_SETTINGS = frozenset({
    3,  # UNKNOWN_TOPIC_OR_PARTITION
    17,  # INVALID_TOPIC_EXCEPTION
    21,  # INVALID_REQUIRED_ACKS
    29,  # TOPIC_AUTHORIZATION_FAILED
    31,  # CLUSTER_AUTHORIZATION_FAILED
    33,  # UNSUPPORTED_SASL_MECHANISM
    35,  # UNSUPPORTED_VERSION
    43,  # UNSUPPORTED_FOR_MESSAGE_FORMAT
    44,  # POLICY_VIOLATION
    58,  # SASL_AUTHENTICATION_FAILED
    76,  # UNSUPPORTED_COMPRESSION_TYPE
    -188,  # unknown topic
    -181,  # TLS
    -169,  # authentication
})  # fmt: skip
_NEW_CLIENT = frozenset({
    45,  # OUT_OF_ORDER_SEQUENCE_NUMBER
    47,  # INVALID_PRODUCER_EPOCH
    59,  # UNKNOWN_PRODUCER_ID
    90,  # PRODUCER_FENCED
    -172,  # wrong state
    -150,  # fatal
    -144,  # fenced
})  # fmt: skip


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from an error.

    `retry`: the same again, not before `after_s`. `refused`: the record will fail again; of a batch nobody knows which one.
    `new_client`: this producer cannot go on, another one can.
    """

    then: Literal["retry", "refused", "new_client"]
    reason: str = ""
    after_s: float | None = None


def classify(code: int, *, fatal: bool = False) -> Verdict:
    """What follows from a delivery report with this error code. `fatal`: the client said that it cannot go on."""
    if fatal or code in _NEW_CLIENT:
        return Verdict(then="new_client")
    if code in _REFUSED:
        return Verdict(then="refused", reason=_REFUSED[code])
    return Verdict(then="retry", after_s=SETTINGS_RETRY_S if code in _SETTINGS else None)
