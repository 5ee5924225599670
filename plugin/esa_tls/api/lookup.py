"""What is known now of a connection or message, from the core's entries: open ones and tombstones.

`Lookup` is the seam: whoever answers queries (`CoreLookup` here; a store later) has that one method. An answer is a record as it would be
if it left now; of an open entry everything that only its end decides is left out, of a tombstone what it does not keep.

`search` is a pure function over the boxes of a pipeline. Direct ids cost one or two reads. A Message-ID or recipient has no index in the
core: cached messages are looked through from the newest, then those that are only in the state, as bytes, and decoded only where they hold
the text. Between steps it yields, so that the event loop goes on, and it ends after `MAX_SCAN_S`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, Protocol

import msgspec

from esa_tls.core import summaries
from esa_tls.core.box import Box
from esa_tls.core.connections import Connection
from esa_tls.core.encode import created_text
from esa_tls.core.ids import summary_id
from esa_tls.core.messages import Message
from esa_tls.core.state import entry_prefix

__all__ = ["Answer", "CoreLookup", "Found", "Lookup", "Query", "search"]

MAX_RESULTS: Final = 1_000
MAX_SCAN_S: Final = 2.0
MAX_SCANS: Final = 2
"""Searches without an id that may be under way; others wait."""

_STEP: Final = 200
"""Messages looked at between two yields."""

By = Literal["mid", "icid", "dcid", "message_id", "recipient"]
_KINDS = {"mid": "M", "icid": "I", "dcid": "D"}


class Query(msgspec.Struct, frozen=True):
    """One question. `value`: a number for ids, else a text."""

    by: By
    value: int | str
    appliance: str | None = None
    epoch: int | None = None
    limit: int = 100


class Found(msgspec.Struct):
    """One entry as a record. `open`: its record has not left."""

    open: bool
    record: dict[str, Any]


class Answer(msgspec.Struct):
    """What was found; `incomplete`: there may be more."""

    found: list[Found]
    incomplete: bool = False


class Lookup(Protocol):
    """Whoever can answer."""

    async def lookup(self, query: Query) -> Answer:
        """Everything that fits, the newest first, `query.limit` at most."""


class CoreLookup:
    """Answers from the entries of a running pipeline. On its event loop."""

    def __init__(self, boxes: Mapping[str, Box], *, now_s: Callable[[], float] = time.time) -> None:
        self._boxes = boxes
        self._now_s = now_s
        self._scans = asyncio.Semaphore(MAX_SCANS)

    async def lookup(self, query: Query) -> Answer:
        """See `Lookup`."""
        if query.by in _KINDS:
            return await self._run(query)
        async with self._scans:
            return await self._run(query)

    async def _run(self, query: Query) -> Answer:
        found: list[Found] = []
        ends_s = time.monotonic() + MAX_SCAN_S
        for one in search(self._boxes, query, now_s=self._now_s()):
            if one is not None:
                if len(found) == query.limit:
                    return Answer(found, incomplete=True)
                found.append(one)
            elif time.monotonic() >= ends_s:
                return Answer(found, incomplete=True)
            else:
                await asyncio.sleep(0)
        return Answer(found)


def search(boxes: Mapping[str, Box], query: Query, *, now_s: float) -> Iterator[Found | None]:
    """What fits, one by one; None wherever the caller may do something else. `now_s` stamps `event.created`."""
    for box in [box for name, box in boxes.items() if query.appliance in (None, name)]:
        entries = box.correlator.entries
        if query.epoch not in (None, entries.epoch):
            continue
        for entry in _entries(box, query):
            if entry is None:
                yield None
            elif box.correlator.entries is entries:  # else the epoch has ended meanwhile, and all its entries
                yield Found(not entry.gone, record_of(box, entry, now_s=now_s))


def _entries(box: Box, query: Query) -> Iterator[Connection | Message | None]:
    entries = box.correlator.entries
    found: Connection | Message | None
    if isinstance(query.value, int):
        kind = _KINDS[query.by]
        found = entries.find_message(query.value) if kind == "M" else entries.find_connection(kind, query.value)
        if found is not None:
            yield found
        return
    fits = _of_message_id(query.value) if query.by == "message_id" else _of_recipient(query.value)
    looked_at = 0
    cached = list(entries.messages)
    for number in reversed(cached):
        message = entries.messages.get(number)
        if message is not None and fits(message):
            yield message
        looked_at += 1
        if looked_at % _STEP == 0:
            yield None
    known = set(cached)
    needle, prefix = _needle(query), entry_prefix(box.state.name) + entries.epoch.to_bytes(4, "big") + b"M"
    for key, value in entries.state.items(prefix):
        number = int.from_bytes(key[len(prefix) :], "big")
        if number not in known and needle in value.lower():
            found = entries.find_message(number)  # not the bytes: it may have been deleted, or changed meanwhile
            if found is not None and fits(found):
                yield found
        looked_at += 1
        if looked_at % _STEP == 0:
            yield None


def _of_message_id(text: str) -> Callable[[Message], bool]:
    wanted = _bare(text)
    return lambda message: message.message_id is not None and _bare(message.message_id) == wanted


def _of_recipient(text: str) -> Callable[[Message], bool]:
    wanted = _bare(text).lower()
    return lambda message: any(one.address is not None and one.address.lower() == wanted for one in message.recipients)


def _needle(query: Query) -> bytes:
    """Bytes that an entry that fits must hold, once in lower case; as a whole only if that is the same in every writing."""
    text = _bare(str(query.value)).lower()
    return text.encode("utf-8", "replace") if text.isascii() else b""


def _bare(text: str) -> str:
    return text.strip().removeprefix("<").removesuffix(">")


def record_of(box: Box, entry: Connection | Message, *, now_s: float) -> dict[str, Any]:
    """The record of an entry as it is now, with the id that it will have."""
    name, created, observer = box.state.name, created_text(now_s), box.state.observer()
    time_s = entry.end_s or entry.last_s if entry.gone else entry.last_s
    if isinstance(entry, Message):
        record_id = summary_id(entry.first_s, name, entry.epoch, "MID", entry.number, 0)
        record = summaries.message(name, entry, record_id=record_id, time_s=time_s, created=created, observer=observer)
        ended = "message"
    else:
        leg = entry.leg
        record_id = summary_id(entry.first_s, name, leg.epoch, f"{leg.kind}CID", leg.number, 0)
        record = summaries.connection(name, entry, record_id=record_id, time_s=time_s, created=created, observer=observer)
        ended = "connection"
    if not entry.gone:
        for field in ("action", "outcome", "type", "end", "duration"):
            record["event"].pop(field, None)
        record["cisco_esa"][ended].pop("end", None)
    elif ended == "message":
        _forget(record["cisco_esa"])
    return record


def _forget(own: dict[str, Any]) -> None:
    """A message's tombstone keeps its legs and not its recipients: what rests on them is not known any more, and must not look as if."""
    for name in ("posture", "posture_out", "clear", "recipients", "recipient_count"):
        own.pop(name, None)
    for one in own.get("deliveries", ()):
        one.pop("result", None)
