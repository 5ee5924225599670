"""Splunk's HTTP Event Collector (HEC): events from records, what its answers mean, and acknowledgements. Pure.

Made from Splunk's documentation ("Format events for HTTP Event Collector", "Troubleshoot HTTP Event Collector", "About HTTP Event Collector
Indexer Acknowledgment"); there was no Splunk to try it on.

An event is `{"time", "host", "source", "sourcetype", "index", "event"}`; `event` is the record as it stands in the outbox, with the names
of the CIM put in front of its own (`splunk_cim.py`). A request is events one behind the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

import msgspec

from esa_tls.core.records import KINDS
from esa_tls.wire.json_batches import Entry, halves
from esa_tls.wire.retry_after import SETTINGS_RETRY_S, retry_after_s
from esa_tls.wire.splunk_cim import cim_of

__all__ = ["ACK_PATH", "EVENT_PATH", "EventSettings", "Verdict", "acked_of", "acks_body", "classify", "events_of", "parts"]

EVENT_PATH = "/services/collector/event"
ACK_PATH = "/services/collector/ack"


# -- events ----------------------------------------------------------------------------------------------------------------------
class EventSettings(msgspec.Struct, frozen=True):
    """What stands beside each event. `{kind}` in `source` and `sourcetype` is the kind of the record. `index`: None = the token's."""

    source: str = "esa-tls"
    sourcetype: str = "esa_tls:{kind}"
    index: str | None = None


def events_of(entries: Iterable[Entry], settings: EventSettings) -> tuple[list[Entry], list[tuple[Entry, str]]]:
    """The same entries as events, and those that are no JSON object, with the reason."""
    events: list[Entry] = []
    unreadable: list[tuple[Entry, str]] = []
    beside = {kind: _beside(settings, kind) for kind in KINDS}
    for entry in entries:
        try:
            record = _decode(entry.data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            unreadable.append((entry, str(error)))
            continue
        host = record.get("host")
        name = host.get("name") if isinstance(host, dict) else None
        timestamp = record.get("@timestamp")
        time = _time(timestamp) if isinstance(timestamp, str) else b""
        cim = _encode(cim_of(entry.kind, record))
        rest = entry.data.strip()[1:]
        joint = b"," if rest.lstrip() != b"}" else b""
        events.append(entry._replace(data=b"".join((b"{", time, _host(name), beside[entry.kind], cim[:-1], joint, rest, b"}"))))
    return events, unreadable


_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


def _beside(settings: EventSettings, kind: str) -> bytes:
    pairs = {"source": settings.source.replace("{kind}", kind), "sourcetype": settings.sourcetype.replace("{kind}", kind)}
    if settings.index is not None:
        pairs["index"] = settings.index
    return _encode(pairs)[1:-1] + b',"event":'


@lru_cache(maxsize=4096)
def _host(name: str | None) -> bytes:
    return b'"host":' + _encode(name) + b"," if name else b""


@lru_cache(maxsize=4096)
def _time(timestamp: str) -> bytes:
    """The record's time in seconds since 1970; nothing if that is no time, then Splunk takes its own clock."""
    try:
        seconds = datetime.fromisoformat(timestamp).timestamp()
    except (ValueError, OverflowError):
        return b""
    return f'"time":{seconds:.3f},'.encode()


# -- answers ---------------------------------------------------------------------------------------------------------------------
class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from an answer to events.

    `done`: taken, and if there is an `ack_id` it is asked for until the indexers have it. `retry`: the same again, not before `after_s`.
    `busy`: the same, and another server may take it now. `refused`: one of these events, or all, will be refused again; `near`: the
    server's count, which is that event or the one before.
    """

    then: Literal["done", "retry", "busy", "refused"]
    reason: str = ""
    after_s: float | None = None
    ack_id: int | None = None
    near: int | None = None


class _Answer(msgspec.Struct):
    text: str = ""
    code: int | None = None
    ack_id: int | None = msgspec.field(name="ackId", default=None)
    invalid_event: int | None = msgspec.field(name="invalid-event-number", default=None)


_BAD_EVENTS = {
    5: "no_data",
    6: "invalid_format",
    12: "no_event_field",
    13: "blank_event_field",
    15: "indexed_fields",
}
"""Codes of a 400 that speak of events; every other code speaks of token, index or channel."""

_SETTINGS = frozenset({401, 403, 404, 405, 407})


def classify(status: int, body: bytes, *, retry_after: str | None = None, now_s: float = 0.0) -> Verdict:
    """What follows from an answer to events. `retry_after`: the header; `now_s`: seconds since 1970, for dates in it."""
    try:
        answer = _read(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        answer = _Answer()
    if 200 <= status < 300:
        return Verdict(then="done", ack_id=answer.ack_id)
    reason = f"http_{status}" if answer.code is None else f"hec_{answer.code}"
    if status in (429, 503):
        return Verdict(then="busy", reason=reason, after_s=retry_after_s(retry_after, now_s=now_s))
    if status >= 500 or status == 408:
        return Verdict(then="retry", reason=reason, after_s=retry_after_s(retry_after, now_s=now_s))
    if status < 400 or status in _SETTINGS or (status == 400 and answer.code is not None and answer.code not in _BAD_EVENTS):
        return Verdict(then="retry", reason=reason, after_s=SETTINGS_RETRY_S)
    if status == 400 and answer.code is not None:
        reason = _BAD_EVENTS[answer.code]
    elif status == 413:
        reason = "too_large"
    return Verdict(then="refused", reason=reason, near=answer.invalid_event if status == 400 else None)


_read = msgspec.json.Decoder(_Answer).decode


def parts(batch: Sequence[Entry], near: int | None) -> list[list[Entry]]:
    """A refused batch in smaller ones, in order; empty if it is a single event.

    `near`: the server's count of the event at fault. Servers count from 0 or from 1, depending on the fault, so two events go alone.
    """
    if len(batch) < 2:
        return []
    if near is None or not 0 <= near <= len(batch):
        return list(halves(batch) or ())
    first, after = max(near - 1, 0), min(near + 1, len(batch))
    cut = [list(batch[:first]), *([one] for one in batch[first:after]), list(batch[after:])]
    return [part for part in cut if part]


# -- acknowledgements ------------------------------------------------------------------------------------------------------------
def acks_body(ack_ids: Sequence[int]) -> bytes:
    """The body that asks which of these are indexed."""
    return json.dumps({"acks": list(ack_ids)}).encode()


def acked_of(body: bytes) -> set[int]:
    """Which of those asked for are indexed. An answer that cannot be read says nothing of any."""
    try:
        answer = _read_acks(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return set()
    return {int(ack_id) for ack_id, indexed in answer.acks.items() if indexed and ack_id.isdecimal()}


class _Acks(msgspec.Struct):
    acks: dict[str, bool] = msgspec.field(default_factory=dict)


_read_acks = msgspec.json.Decoder(_Acks).decode
