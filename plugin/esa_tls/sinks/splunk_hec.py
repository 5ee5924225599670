"""The `splunk_hec` sink: events to Splunk's HTTP Event Collector, with indexer acknowledgement where the token has it.

Rules:

1. One request at a time, so that order is kept, of at most `max_request_bytes` before compression. Endpoints are tried in their order: the
   next one where one cannot be reached or says that it is busy.
2. With acknowledgement (the token decides; the server then answers with an `ackId`) a request is delivered when the server that took it
   says that it is indexed. It is asked each `ACK_POLL_S` on the channel of this sink. What is not acknowledged within `ack_timeout_s` is
   sent again. Without, a request is delivered when it is taken: what Splunk has only in memory then is lost if it crashes; said once.
3. What an answer means stands in `wire/splunk_hec.py`. A wrong token, index or channel is no reason to lose records: it is tried again,
   slowly, and health says so.
4. A refused request is sent in parts until single events are refused: those are named to the dispatcher, everything else is delivered.
   Events before a bad one may have been indexed by then: they come twice, with the same `event.id`.
5. Requests that were taken before another one of the same `send` failed are not sent again while the process lives.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import xxhash

from esa_tls.core.records import KINDS
from esa_tls.errors import TransientError
from esa_tls.runtime.dispatch import RecordsRejected, Rejection
from esa_tls.sinks.http_client import HttpClient, Response, Unreached, gzipped
from esa_tls.wire.json_batches import Entry, batches_of, entries_of
from esa_tls.wire.splunk_hec import (
    ACK_PATH,
    EVENT_PATH,
    EventSettings,
    Verdict,
    acked_of,
    acks_body,
    classify,
    events_of,
    parts,
)

if TYPE_CHECKING:
    from esa_tls.core.batch import Row

log = logging.getLogger(__name__)


DEFAULT_MAX_REQUEST_BYTES = 1_000_000
DEFAULT_ACK_TIMEOUT_S = 300.0
"""Splunk's own Kafka connector waits as long: indexers that have little to do keep events back for two minutes."""

ACK_POLL_S = 1.0


class _Waiting(msgspec.Struct):
    """A request that was taken and is not acknowledged yet."""

    endpoint: str
    ack_id: int
    since_s: float


class SplunkHecSink:
    """See the module. Sizes in bytes. `endpoints`: base URLs, `https://HOST:8088`."""

    encoding = "json"

    def __init__(
        self,
        client: HttpClient,
        endpoints: Sequence[str],
        token: str,
        *,
        name: str = "splunk_hec",
        cls_wanted: tuple[str, ...] = ("line", "summary"),
        kinds: frozenset[str] = frozenset(KINDS),
        events: EventSettings = EventSettings(),  # noqa: B008 (frozen)
        gzip: bool = True,
        headers: Mapping[str, str] | None = None,
        max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES,
        ack_timeout_s: float = DEFAULT_ACK_TIMEOUT_S,
        now_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.name = name
        self.cls_wanted = cls_wanted
        self.kinds = kinds
        self._client = client
        self._endpoints = tuple(endpoint.rstrip("/") for endpoint in endpoints)
        self._channel = str(uuid.uuid4())
        self._headers = {
            **(headers or {}),
            "Authorization": f"Splunk {token}",
            "X-Splunk-Request-Channel": self._channel,
            "Content-Type": "application/json",
        }
        self._events = events
        self._gzip = gzip
        self._max_request_bytes = max_request_bytes
        self._ack_timeout_s = ack_timeout_s
        self._now_s = now_s
        self._monotonic_s = monotonic_s
        self._sleep = sleep
        self._taken: set[bytes] = set()
        """Requests that are done with since a `send` last ended, by their bytes: what a repeated `send` leaves out."""
        self._waiting: dict[bytes, _Waiting] = {}
        self._rejections: list[Rejection] = []
        self._told_no_acks = False
        self._closed = False

    async def open(self, state: bytes | None) -> None:
        """Nothing to do: connections are made when there is something to send."""

    def state(self) -> bytes | None:
        """None: Splunk keeps what it took."""
        return None

    async def send(self, rows: list[tuple[int, Row]]) -> None:
        """Return when Splunk has every event. Raises TransientError, or RecordsRejected for records it never will."""
        if self._closed:
            raise TransientError("splunk_hec: closed")
        events, unreadable = events_of(entries_of([row for _, row in rows], self.kinds), self._events)
        batches, too_large = batches_of(events, max_bytes=self._max_request_bytes, max_records=len(events) or 1)
        for batch in batches:
            await self._deliver(batch)
        await self._until_acknowledged()
        rejections = [
            *self._rejections,
            *(_rejection(one, "unreadable", why) for one, why in unreadable),
            *(
                _rejection(one, "too_large", f"the event has {len(one.data)} bytes, a request takes {self._max_request_bytes}")
                for one in too_large
            ),
        ]
        self._taken.clear()
        self._rejections = []
        if rejections:
            raise RecordsRejected(f"splunk_hec: {len(rejections)} records refused", rejections)

    async def close(self) -> None:
        """Close all connections; a later `send` fails."""
        self._closed = True
        await self._client.close()

    # -- events ------------------------------------------------------------------------------------------------------------------
    async def _deliver(self, batch: Sequence[Entry]) -> None:
        """Bring one batch to a server, in parts where it refuses some of it. Raises TransientError."""
        left = [list(batch)]
        while left:
            one = left.pop()
            body = b"\n".join([entry.data for entry in one])
            digest = xxhash.xxh3_128_digest(body)
            if digest in self._taken or digest in self._waiting:
                continue
            endpoint, answer, verdict = await self._post(body)
            if verdict.then == "refused":
                if smaller := parts(one, verdict.near):
                    left += reversed(smaller)
                    continue
                self._rejections.append(_rejection(one[0], verdict.reason, answer.told()))
            elif verdict.then != "done":
                raise TransientError(f"splunk_hec: {verdict.reason}: {answer.told()}", retry_after_s=verdict.after_s)
            elif verdict.ack_id is not None:
                self._waiting[digest] = _Waiting(endpoint, verdict.ack_id, self._monotonic_s())
                continue
            elif not self._told_no_acks:
                self._told_no_acks = True
                log.warning(
                    "The token has no indexer acknowledgement: what Splunk has taken and not yet written is lost if it crashes.",
                    extra={"sink": self.name},
                )
            self._taken.add(digest)

    async def _post(self, body: bytes) -> tuple[str, Response, Verdict]:
        """The answer of the first endpoint that is not busy. Raises TransientError."""
        headers = self._headers
        if self._gzip:
            body, headers = await gzipped(body), {**headers, "Content-Encoding": "gzip"}
        unreached: Unreached | None = None
        busy: tuple[str, Response, Verdict] | None = None
        for endpoint in self._endpoints:
            try:
                answer = await self._client.post(endpoint + EVENT_PATH, body, headers)
            except Unreached as error:
                unreached = error
                continue
            verdict = classify(answer.status, answer.body, retry_after=answer.retry_after, now_s=self._now_s())
            if verdict.then != "busy":
                return endpoint, answer, verdict
            busy = busy or (endpoint, answer, verdict)
        if busy is not None:
            return busy
        assert unreached is not None
        raise unreached

    # -- acknowledgements --------------------------------------------------------------------------------------------------------
    async def _until_acknowledged(self) -> None:
        """Return when every request that was taken is indexed. Raises TransientError when that takes too long or nobody can be asked."""
        wait_s = ACK_POLL_S / 8
        while self._waiting:
            for endpoint in sorted({one.endpoint for one in self._waiting.values()}):
                await self._ask(endpoint)
            if not self._waiting:
                return
            late = [digest for digest, one in self._waiting.items() if self._monotonic_s() - one.since_s >= self._ack_timeout_s]
            if late:
                for digest in late:
                    del self._waiting[digest]
                raise TransientError(f"splunk_hec: {len(late)} requests were not acknowledged within {self._ack_timeout_s:g} s; sent again")
            await self._sleep(wait_s)
            wait_s = min(2 * wait_s, ACK_POLL_S)

    async def _ask(self, endpoint: str) -> None:
        waiting = {one.ack_id: digest for digest, one in self._waiting.items() if one.endpoint == endpoint}
        url = f"{endpoint}{ACK_PATH}?channel={self._channel}"
        try:
            answer = await self._client.post(url, acks_body(sorted(waiting)), self._headers)
        except TransientError:
            self._forget_late(endpoint)
            raise
        if not 200 <= answer.status < 300:
            self._forget_late(endpoint)
            verdict = classify(answer.status, answer.body, retry_after=answer.retry_after, now_s=self._now_s())
            raise TransientError(f"splunk_hec: asked for acknowledgements: {answer.told()}", retry_after_s=verdict.after_s)
        for ack_id in acked_of(answer.body) & waiting.keys():
            digest = waiting[ack_id]
            del self._waiting[digest]
            self._taken.add(digest)

    def _forget_late(self, endpoint: str) -> None:
        """Of a server that cannot be asked: what it took too long ago is sent again, to whoever takes it."""
        now_s = self._monotonic_s()
        self._waiting = {
            digest: one for digest, one in self._waiting.items() if one.endpoint != endpoint or now_s - one.since_s < self._ack_timeout_s
        }


def _rejection(entry: Entry, reason: str, detail: str) -> Rejection:
    return Rejection(entry.row, entry.segment, entry.record, reason, detail)
