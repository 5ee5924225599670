"""The `loki` sink: a client of Loki's push API (docs/wires.md 4.1, 4.2).

Rules:

1. A request has one stream, oldest entry first; those of one stream go one after the other, those of several beside one another, at most
   `max_in_flight`.
2. What an answer means stands in `wire/loki_answers.py`. 429, 5xx and what is no answer: the same again. A wrong address, token or tenant,
   or a tenant whose ingestion is blocked, is no reason to lose records: it is tried again, slowly, and health says so.
3. After a 400 everything is stored but what is refused. What the answer names is named to the dispatcher, what it leaves open is asked
   about again, and what is known to be stored is not sent again. Only where the answer says nothing about entries, a request is cut in
   halves until single ones are refused; 413 is cut in halves too.
4. What is known of a request is kept until `send` returns, so that a repeated `send` asks only about the rest.
5. Endpoints are tried in their order as long as one cannot be reached; an answer, whatever it says, is the answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import xxhash

from esa_tls.core.batch import Row
from esa_tls.core.records import KINDS
from esa_tls.errors import TransientError
from esa_tls.runtime.dispatch import RecordsRejected, Rejection
from esa_tls.sinks.http_client import MAX_RESPONSE_BYTES, HttpClient, Response, gzipped
from esa_tls.wire.loki import CONTENT_TYPES, PUSH_PATH, Form, Place, Push, body_of, halves, only, pushes_of, snappy
from esa_tls.wire.loki_answers import classify, refusal_of
from esa_tls.wire.loki_entries import Entries, Entry

DEFAULT_MAX_REQUEST_BYTES = 1 << 20
DEFAULT_MAX_IN_FLIGHT = 4


class LokiSink:
    """See the module. `endpoints`: base URLs. `headers`: who we are and for which tenant. Sizes in bytes, before compression."""

    encoding = "json"

    def __init__(
        self,
        client: HttpClient,
        endpoints: Sequence[str],
        entries: Entries,
        *,
        name: str = "loki",
        cls_wanted: tuple[str, ...] = ("line", "summary"),
        kinds: frozenset[str] = frozenset(KINDS),
        form: Form = "protobuf",
        gzip: bool = True,
        headers: Mapping[str, str] | None = None,
        max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES,
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.cls_wanted = cls_wanted
        self.kinds = kinds
        self._client = client
        self._urls = tuple(endpoint.rstrip("/") + PUSH_PATH for endpoint in endpoints)
        self._entries = entries
        self._form = form
        self._gzip = gzip and form == "json"
        self._headers = {**(headers or {}), "Content-Type": CONTENT_TYPES[form]}
        if self._gzip:
            self._headers["Content-Encoding"] = "gzip"
        self._max_request_bytes = max_request_bytes
        self._max_in_flight = max_in_flight
        self._now_s = now_s
        self._known: dict[bytes, tuple[Push, ...]] = {}
        """Requests that were answered since a `send` last ended, by the digest of their bytes: what of each has still to be sent."""
        self._rejections: list[Rejection] = []
        self._closed = False

    async def open(self, state: bytes | None) -> None:
        """Nothing to do: connections are made when there is something to send."""

    def state(self) -> bytes | None:
        """None: the store keeps what it took."""
        return None

    async def send(self, rows: list[tuple[int, Row]]) -> None:
        """Return when the store has every entry. Raises TransientError, or RecordsRejected for records it never will have."""
        if self._closed:
            raise TransientError("loki: closed")
        entries, unreadable = await self._encode(rows)
        await self._deliver_all(pushes_of(entries, max_bytes=self._max_request_bytes))
        rejections = self._rejections + unreadable
        self._known.clear()
        self._rejections = []
        if rejections:
            raise RecordsRejected(f"loki: {len(rejections)} records refused", rejections)

    async def close(self) -> None:
        """Close all connections; a later `send` fails."""
        self._closed = True
        await self._client.close()

    async def _encode(self, rows: list[tuple[int, Row]]) -> tuple[list[tuple[Entry, Place]], list[Rejection]]:
        """All entries, and the records that cannot be read. Others get their turn after each row."""
        found: list[tuple[Entry, Place]] = []
        unreadable: list[Rejection] = []
        for at, (_, row) in enumerate(rows):
            for number, (kind, _, body) in enumerate(row.segments):
                if kind in self.kinds:
                    for record, entry in enumerate(self._entries.of(kind, body)):
                        if entry is None:
                            unreadable.append(Rejection(at, number, record, "unreadable", "the record is no JSON object"))
                        else:
                            found.append((entry, (at, number, record)))
            await asyncio.sleep(0)
        return found, unreadable

    async def _deliver_all(self, streams: list[list[Push]]) -> None:
        """Bring the requests of all streams to the store. Raises the TransientError that is to be waited for longest."""
        slots = asyncio.Semaphore(self._max_in_flight)
        failures: list[TransientError] = []

        async def deliver(pushes: list[Push]) -> None:
            async with slots:
                for push in pushes:
                    if failures:
                        return
                    try:
                        await self._deliver(push)
                    except TransientError as error:
                        failures.append(error)

        async with asyncio.TaskGroup() as group:  # a failure ends no other's request: what that one stored would not be known
            for pushes in streams:
                group.create_task(deliver(pushes))
        if failures:
            raise max(failures, key=lambda error: error.retry_after_s or 0.0)

    async def _deliver(self, push: Push) -> None:
        """Bring one request to the store, in parts where it refuses some of it. Raises TransientError."""
        waiting = [push]
        while waiting:
            one = waiting.pop()
            body = body_of(one, self._form)
            digest = xxhash.xxh3_128_digest(body)
            left = self._known.get(digest)
            if left is None:
                left = self._known[digest] = self._left_of(one, await self._post(body))
            waiting += reversed(left)

    async def _post(self, body: bytes) -> Response:
        """The answer of the first endpoint that can be reached. Raises TransientError."""
        sent = body if self._form == "json" else snappy(body)
        if self._gzip:
            sent = await gzipped(sent)
        return await self._client.post_first(self._urls, sent, self._headers)

    def _left_of(self, push: Push, answer: Response) -> tuple[Push, ...]:
        """What of a request has still to be sent after its answer. Raises TransientError if that is all of it, at another time."""
        text = answer.body.decode("utf-8", "replace")
        verdict = classify(answer.status, text, retry_after=answer.retry_after, now_s=self._now_s())
        match verdict.then:
            case "done":
                return ()
            case "retry" | "settings":
                raise TransientError(f"loki: {verdict.reason}: {answer.told()}", retry_after_s=verdict.after_s)
            case "too_large":
                refusal = None
            case "refused":
                refusal = refusal_of(text, push, whole=len(answer.body) < MAX_RESPONSE_BYTES)
        if refusal is not None and len(refusal.unclear) < len(push.entries):
            for number, reason in refusal.refused.items():
                self._reject(push.places[number], reason, answer)
            return (only(push, refusal.unclear),) if refusal.unclear else ()
        if parts := halves(push):
            return parts
        self._reject(push.places[0], "too_large" if verdict.then == "too_large" else verdict.reason, answer)
        return ()

    def _reject(self, place: Place, reason: str, answer: Response) -> None:
        self._rejections.append(Rejection(*place, reason, answer.told()))
