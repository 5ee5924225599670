"""Every span of the traces of batches, and its attributes."""

from __future__ import annotations

from dataclasses import dataclass

RECEIVE = "receive"
COMMIT = "commit"
SEND = "send"
RETRY = "retry"


@dataclass(frozen=True)
class SpanKind:
    """One span of a traced batch: its name, attributes, and what it covers."""

    name: str
    attributes: tuple[str, ...]
    meaning: str


SOURCE_ATTRIBUTE = "esa_tls.source"
LINES_ATTRIBUTE = "esa_tls.lines"
SINK_ATTRIBUTE = "esa_tls.sink"
RECORDS_ATTRIBUTE = "esa_tls.records"
REFUSED_ATTRIBUTE = "esa_tls.records.refused"
BATCHES_ATTRIBUTE = "esa_tls.batches"

SPANS: tuple[SpanKind, ...] = (
    SpanKind(
        RECEIVE,
        (SOURCE_ATTRIBUTE, LINES_ATTRIBUTE),
        "A batch that was read, until all in it is durable and its sender may be told.",
    ),
    SpanKind(
        COMMIT,
        (LINES_ATTRIBUTE, BATCHES_ATTRIBUTE),
        "The synced commit of it; child of the first traced batch, linked to the others.",
    ),
    SpanKind(
        SEND,
        (SINK_ATTRIBUTE, RECORDS_ATTRIBUTE, REFUSED_ATTRIBUTE),
        "What one sink reads of the outbox at once, until it is delivered or refused for good; a failed try is an event `retry`.",
    ),
)
