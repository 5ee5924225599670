"""What the reasons of dead letters mean and what to do about them, for `esa-tls journal dead-letters --explain`.

A reason's label is the word before its first colon. Labels are made where something is refused: in the sinks and the `classify` of their
wires from what a store answered, in the dispatcher, and in the readers of Forward and OTLP. Some are names that a store gives.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Explanation(NamedTuple):
    """What a label means, and what to do."""

    meaning: str
    to_do: str


_REPLAY = "Then send them again with --replay."
_ONCE_MORE = "If it should have them, change its settings, then send them again with --replay; else --discard."

_KNOWN: Final[tuple[tuple[str, Explanation], ...]] = (
    # of the sidecar itself
    (
        "permanent",
        Explanation(
            "The sink refused the record alone, and did not say more than the words behind the label.",
            f"Read these words. {_ONCE_MORE}",
        ),
    ),
    (
        "unreadable",
        Explanation(
            "The record's bytes in the journal could not be read for what this sink is to get of them (or by the sink), so nothing of them "
            "was sent. That is a fault of esa-tls or of the disk. Letters that hold a record as it was are not replayed: the sink might "
            "not be meant to see it.",
            "Keep one with --json for a report, check the disk, then --discard.",
        ),
    ),
    (
        "too_large",
        Explanation(
            "The record alone is larger than the sink sends or the store takes.",
            "Raise the limit (max_frame_bytes, max_request_bytes, the store's own); cut long fields with `truncate` for what is to come. "
            + _REPLAY,
        ),
    ),
    # OTLP, HTTP
    (
        "partial_success",
        Explanation(
            "The OTLP server took the request and rejected all of its records.",
            f"Its words behind the label say why; look at its limits and processors. {_ONCE_MORE}",
        ),
    ),
    (
        r"grpc_\w+",
        Explanation(
            "The gRPC server refused the record with this status, one that trying again does not help.",
            "`grpc_invalid_argument` is mostly a server with stricter limits, `grpc_resource_exhausted` one with smaller ones. "
            + _ONCE_MORE,
        ),
    ),
    (
        "http_413",
        Explanation("The record alone is larger than the server takes.", f"Raise the server's limit, or cut long fields. {_REPLAY}"),
    ),
    (
        r"http_4\d\d",
        Explanation(
            "The server refused the record with this HTTP status, one that trying again does not help.",
            f"Its words behind the label say why. {_ONCE_MORE}",
        ),
    ),
    # Elasticsearch, OpenSearch
    (
        "document_parsing_exception|mapper_parsing_exception|mapper_exception",
        Explanation(
            "The index has another type for a field than the record: mostly an index without our template, or with another one of "
            "higher priority.",
            f"Apply our index templates, roll the data stream over so that they count. {_REPLAY}",
        ),
    ),
    (
        "strict_dynamic_mapping_exception",
        Explanation(
            "The index takes only fields that its mapping has.",
            f"Apply our index templates, or leave the field out with `fields`. {_REPLAY}",
        ),
    ),
    (
        "illegal_argument_exception",
        Explanation(
            "The store did not accept the record's form: a term that is too long, a limit of fields that is reached, a pipeline that is "
            "not there.",
            f"Its words behind the label say which. {_ONCE_MORE}",
        ),
    ),
    (
        r"\w+_exception",
        Explanation("The store's own name of the error; its words stand behind it.", f"Put right what it names. {_ONCE_MORE}"),
    ),
    (
        "failure_store",
        Explanation("The store put the record into its failure store.", "Look at the data stream's failure store; --discard."),
    ),
    # Splunk
    ("no_data", Explanation("Splunk found no event in the request.", f"A fault of esa-tls: keep one with --json for a report. {_REPLAY}")),
    (
        "invalid_format|no_event_field|blank_event_field",
        Explanation("Splunk could not read the event.", f"A fault of esa-tls: keep one with --json for a report. {_REPLAY}"),
    ),
    (
        "indexed_fields",
        Explanation("Splunk does not take the event's indexed fields.", f"See the token's settings and the sink's. {_REPLAY}"),
    ),
    (r"hec_\d+", Explanation("Splunk refused the event with this code of its HTTP Event Collector.", f"Look the code up. {_ONCE_MORE}")),
    # Kafka
    (
        "invalid_timestamp",
        Explanation(
            "The record's time is further from the broker's clock than the topic allows.",
            f"Raise the topic's message.timestamp.before.max.ms, or set message.timestamp.type to LogAppendTime. {_REPLAY}",
        ),
    ),
    (
        "invalid_record",
        Explanation(
            "The broker refuses the record as such: a compacted topic wants a key, or a validator of its own says no.",
            f"Look at the topic's settings and the broker's log. {_REPLAY}",
        ),
    ),
    # Loki
    (
        "greater_than_max_sample_age|too_far_behind",
        Explanation(
            "Loki takes no entry that is so old, or so far behind the newest one of its stream.",
            f"Raise reject_old_samples_max_age or max_chunk_age, if they have to be there. {_ONCE_MORE}",
        ),
    ),
    (
        "too_far_in_future",
        Explanation(
            "The record's time is ahead of Loki's clock: an appliance's clock is wrong, or its time zone here (`appliance.timezones`).",
            f"Put the clock or the zone right; these records can be sent again when their time has come. {_ONCE_MORE}",
        ),
    ),
    (
        "line_too_long|structured_metadata_too_large|structured_metadata_too_many",
        Explanation(
            "The entry is beyond a limit of Loki's that is below the one this sink cuts to.",
            f"Raise the limit it names, or cut or drop fields of this sink. {_REPLAY}",
        ),
    ),
    (
        r"label_(?:name|value)_too_long|duplicate_label_names|(?:invalid|missing)_labels",
        Explanation("Loki refuses the labels of the entry's stream.", f"Look at the sink's labels and Loki's limits. {_REPLAY}"),
    ),
    # what came in
    (
        "no_line",
        Explanation(
            "The sender's record has no line under any key that is looked for.", "Set `line_keys` of the source, or mend the sender."
        ),
    ),
    ("no_body", Explanation("An OTLP log record without a body.", "Mend the sender: the line belongs into the body.")),
    (
        "body_type",
        Explanation("An OTLP log record whose body is no text.", "Mend the sender: the line belongs into the body, as a string."),
    ),
    (
        "entry_shape|record_not_map|record_too_wide",
        Explanation("A Forward entry that is not `[time, {keys and values}]`, or has very many keys.", "Mend the sender, then --discard."),
    ),
    (
        r"frame_\w+|entries_\w+",
        Explanation(
            "A Forward frame that could not be decoded, sent again and again; it was acknowledged so that the sender can go on.",
            "Keep one with --json for a report to the sender's makers, then --discard.",
        ),
    ),
)

_TABLE: Final = tuple((re.compile(pattern), explanation) for pattern, explanation in _KNOWN)


def label_of(reason: str) -> str:
    """The label of a letter's reason."""
    return reason.partition(":")[0].strip()


def explanation_of(label: str) -> Explanation:
    """What a label means. One that nobody wrote down is a store's word."""
    for pattern, explanation in _TABLE:
        if pattern.fullmatch(label):
            return explanation
    return Explanation("A word of the store; what it says more stands behind it.", f"Put right what it names. {_ONCE_MORE}")


def is_known(label: str) -> bool:
    """Whether the label has an explanation of its own."""
    return any(pattern.fullmatch(label) for pattern, _ in _TABLE)
