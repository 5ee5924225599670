"""`_bulk` of Elasticsearch and OpenSearch: bodies from outbox rows, and what follows from answers (docs/wires.md 3.1, 3.2). Pure.

A body is pairs of lines: `{"create":{"_index":...,"_id":...}}` and the record, whose bytes are those of the outbox. They are not decoded:
`event.id` is the first key of `event`, near the beginning of every record, and is found there; only in a record that begins otherwise it is
looked for by a decoder. Records go to the data stream of their kind, `logs-cisco_esa.{kind}-{namespace}`, by `create`: one that is sent
again is known by its id, which is answered with 409 and is a success.

Two levels of answers: the request's (`Answer.then`), and inside a success one for each record (`Fate`), in the order of the request.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import repeat
from typing import Literal

import msgspec

from esa_tls.wire.constants import dataset_of
from esa_tls.wire.retry_after import SETTINGS_RETRY_S, retry_after_s

__all__ = [
    "BULK_PATH",
    "NDJSON",
    "Answer",
    "Bulk",
    "Fate",
    "Place",
    "body_of",
    "classify",
    "encode",
    "error_of",
    "halves",
    "index_of",
    "only",
]

NDJSON = "application/x-ndjson"

BULK_PATH = "/_bulk?filter_path=errors,items.*.status,items.*.error,items.*.failure_store,items.*._index"
"""With what is read of the answer, and nothing else: a tenth of its bytes."""

Place = tuple[int, int, int]
"""Where a record is from: (sequence of its row, number of its segment, number in the segment)."""


# -- what is sent ----------------------------------------------------------------------------------------------------------------
class Bulk(msgspec.Struct, frozen=True):
    """One request: for each record its two lines, and its place. `size`: bytes of the body."""

    items: list[bytes]
    places: list[Place]
    size: int


def index_of(kind: str, namespace: str) -> str:
    """The data stream of a kind of records."""
    return f"logs-{dataset_of(kind)}-{namespace}"


def body_of(bulk: Bulk) -> bytes:
    """The request's body; its last line ends with a line feed as the others do."""
    return b"".join(bulk.items)


def encode(
    segments: Iterable[tuple[int, int, str, bytes]],
    *,
    namespace: str,
    max_bytes: int,
    max_records: int,
    done: Collection[Place] = frozenset(),
) -> list[Bulk]:
    """Requests of at most `max_bytes` and `max_records`, in order, from (row's sequence, segment, kind, body); a larger record is alone.

    `done`: records to be left out.
    """
    bulks: list[Bulk] = []
    items: list[bytes] = []
    places: list[Place] = []
    size = 0
    for sequence, segment, kind, body in segments:
        made = _items(kind, namespace, body)
        made_places: list[Place] = list(zip(repeat(sequence), repeat(segment), range(len(made))))
        if done:
            left = [n for n, place in enumerate(made_places) if place not in done]
            made, made_places = [made[n] for n in left], [made_places[n] for n in left]
        made_size = sum(map(len, made))
        if size + made_size <= max_bytes and len(items) + len(made) <= max_records:
            items += made
            places += made_places
            size += made_size
            continue
        for item, place in zip(made, made_places, strict=True):
            if items and (size + len(item) > max_bytes or len(items) == max_records):
                bulks.append(Bulk(items, places, size))
                items, places, size = [], [], 0
            items.append(item)
            places.append(place)
            size += len(item)
    if items:
        bulks.append(Bulk(items, places, size))
    return bulks


_EVENT_ID = b'"event":{"id":"'
_HEAD_BYTES = 512
"""What stands before it (`@timestamp`, of lines also `log` and `host`) takes less. Inside a text its quotes would be escaped."""


class _Event(msgspec.Struct):
    id: str | None = None


class _Record(msgspec.Struct):
    event: _Event = msgspec.field(default_factory=_Event)


_slow_id = msgspec.json.Decoder(_Record).decode


def _items(kind: str, namespace: str, body: bytes) -> list[bytes]:
    """Both lines of each record of a segment."""
    head = b'{"create":{"_index":"%b","_id":"' % index_of(kind, namespace).encode()
    lines = body.split(b"\n")
    if not lines[-1]:
        del lines[-1]
    made = []
    for line in lines:
        at = line.find(_EVENT_ID, 0, _HEAD_BYTES)
        if at < 0:
            made.append(_item_of_other(kind, namespace, line))
        else:
            at += 15
            made.append(b'%b%b"}}\n%b\n' % (head, line[at : line.index(b'"', at)], line))
    return made


def _item_of_other(kind: str, namespace: str, line: bytes) -> bytes:
    """The same for a record that does not begin as ours do. Without an id the store makes one, and a record sent again is another one."""
    action: dict[str, str] = {"_index": index_of(kind, namespace)}
    try:
        record_id = _slow_id(line).event.id
    except msgspec.MsgspecError:
        record_id = None  # the store says what is wrong with it
    if record_id is not None:
        action["_id"] = record_id
    return msgspec.json.encode({"create": action}) + b"\n" + line + b"\n"


def only(bulk: Bulk, numbers: Collection[int]) -> Bulk:
    """A request of some of its records."""
    items = [bulk.items[n] for n in numbers]
    return Bulk(items, [bulk.places[n] for n in numbers], sum(map(len, items)))


def halves(bulk: Bulk) -> tuple[Bulk, Bulk] | None:
    """Two requests of about the same size; None if it has a single record."""
    if len(bulk.items) < 2:
        return None
    first, size = 1, len(bulk.items[0])
    while first < len(bulk.items) - 1 and size + len(bulk.items[first]) <= bulk.size // 2:
        size += len(bulk.items[first])
        first += 1
    return only(bulk, range(first)), only(bulk, range(first, len(bulk.items)))


# -- what is answered ------------------------------------------------------------------------------------------------------------
class Fate(msgspec.Struct, frozen=True):
    """What became of one record.

    `stored`; `known`: it was there already; `diverted`: taken, into the failure store and not into the stream; `retry`: not now;
    `doubtful`: an error of the store's own, to be tried again a few times; `blocked`: not until somebody makes room or lifts a block;
    `settings`: nothing is wrong with the record, somebody has to look; `poison`: never.
    `reason`: the store's name of the error; `detail`: its words; `index`: where the record was put or would have been.
    """

    then: Literal["stored", "known", "diverted", "retry", "doubtful", "blocked", "settings", "poison"]
    reason: str = ""
    detail: str = ""
    index: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from an answer.

    `items`: `fates` says it for each record. `retry`: the same again, not before `after_s`. `too_large`: in halves. `refused`: the request
    is wrong, so one of its records must be. `blocked` and `settings`: as in `Fate`.
    """

    then: Literal["items", "retry", "too_large", "refused", "blocked", "settings"]
    reason: str = ""
    message: str = ""
    after_s: float | None = None
    fates: list[Fate] = []


class _Error(msgspec.Struct):
    type: str = ""
    reason: str | None = None
    caused_by: _Error | None = None


class _Item(msgspec.Struct):
    status: int = 0
    error: _Error | str | None = None
    failure_store: str | None = None
    index: str = msgspec.field(default="", name="_index")


class _BulkAnswer(msgspec.Struct):
    items: list[dict[str, _Item]]
    errors: bool = False


class _ErrorAnswer(msgspec.Struct):
    error: _Error | str


_bulk_answer = msgspec.json.Decoder(_BulkAnswer).decode
_error_answer = msgspec.json.Decoder(_ErrorAnswer).decode


def classify(status: int, body: bytes, *, records: int, retry_after: str | None = None, now_s: float = 0.0) -> Answer:
    """What follows from an answer to a request of so many records. `retry_after`: the header; `now_s`: seconds since 1970."""
    if 200 <= status < 300:
        return _classify_success(body, records)
    name, words = error_of(body)
    reason = name or f"http_{status}"
    message = f"{status} {words}".rstrip()
    after_s = retry_after_s(retry_after, now_s=now_s)
    if name == "cluster_block_exception":
        return Answer(then="blocked", reason=reason, message=message, after_s=after_s)
    if status in (408, 429) or status >= 500:
        return Answer(then="retry", reason=reason, message=message, after_s=after_s)
    if status == 413:
        return Answer(then="too_large", reason="too_large", message=message or "413")
    if status == 400 and name:
        return Answer(then="refused", reason=reason, message=message)
    if status in (406, 415):
        message += " (is this Elasticsearch 8 or 9, or OpenSearch?)"
    return Answer(then="settings", reason=reason, message=message, after_s=SETTINGS_RETRY_S)


def _classify_success(body: bytes, records: int) -> Answer:
    try:
        items = _bulk_answer(body).items
    except msgspec.MsgspecError as error:
        return Answer(then="retry", reason="unreadable", message=f"an answer that cannot be read: {error}")
    if len(items) != records:
        return Answer(then="retry", reason="unreadable", message=f"an answer for {len(items)} records, to a request of {records}")
    return Answer(then="items", fates=[_fate(item) for pair in items for item in pair.values()])


_STORED: dict[str, Fate] = {}


def _fate(item: _Item) -> Fate:
    status = item.status
    if status in (200, 201) and item.error is None:
        if item.failure_store == "used":
            return Fate("diverted", "failure_store", index=item.index)
        fate = _STORED.get(item.index)
        if fate is None:
            if len(_STORED) > 1000:
                _STORED.clear()
            fate = _STORED[item.index] = Fate("stored", index=item.index)
        return fate
    name, words = _told(item.error)
    name = name or f"http_{status}"
    return Fate(_after_error(status, name), name, words, item.index)


_CONFLICT = "version_conflict_engine_exception"

_SOMEBODY_HAS_TO_LOOK = frozenset({
    "index_closed_exception",
    "index_not_found_exception",
    "invalid_index_name_exception",
    "security_exception",
    "validation_exception",  # no room for more shards
})  # fmt: skip
"""Errors that say nothing against the record, whatever their status."""


def _after_error(status: int, name: str) -> Literal["known", "retry", "doubtful", "blocked", "settings", "poison"]:
    if status == 409 and name in (_CONFLICT, "http_409"):
        return "known"
    if name == "cluster_block_exception":
        return "blocked"
    if name in _SOMEBODY_HAS_TO_LOOK or status in (401, 403, 404, 405):
        return "settings"
    if status in (408, 409, 429, 502, 503, 504):
        return "retry"
    return "doubtful" if status >= 500 else "poison"


def error_of(body: bytes) -> tuple[str, str]:
    """(the store's name of an error, its words) of an answer that is no success; ("", what it says) if it is none of a store."""
    try:
        error = _error_answer(body).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "", body[:MAX_DETAIL].decode("utf-8", "backslashreplace")
    return _told(error)


MAX_DETAIL = 1000
"""Characters of a store's words that are kept."""


def _told(error: _Error | str | None) -> tuple[str, str]:
    """An error's name, and its words with those of what caused it."""
    if error is None or isinstance(error, str):
        return "", (error or "")[:MAX_DETAIL]
    words: list[str] = []
    cause: _Error | None = error
    while cause is not None and len(words) < 5:
        said = f"{cause.type}: {cause.reason}" if cause.reason else cause.type
        if said not in words:
            words.append(said)
        cause = cause.caused_by
    return error.type, "; caused by ".join(words)[:MAX_DETAIL]
