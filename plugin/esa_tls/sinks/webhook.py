"""The `webhook` sink: records in batches by HTTP POST, for everything that has no sink of its own.

Rules:

1. One request at a time, so that order is kept; a batch has at most `max_request_records` records and `max_request_bytes` bytes before
   compression. Endpoints are tried in their order as long as one cannot be reached; an answer, whatever it says, is the answer.
2. What an answer means stands in `wire/webhook.py`: delivered, again, or refused. A wrong address or token is no reason to lose records:
   it is tried again, slowly, and health says so.
3. A refused batch is cut in halves until single records are refused: those are named to the dispatcher, everything else is delivered.
4. Batches that were taken before another one of the same `send` failed are not sent again while the process lives. After a restart
   records since the last durable cursor are sent again; their `event.id` repeats.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import xxhash

from esa_tls.core.records import KINDS
from esa_tls.errors import TransientError
from esa_tls.runtime.dispatch import RecordsRejected, Rejection
from esa_tls.sinks.http_client import HttpClient, gzipped
from esa_tls.wire.json_batches import Entry, batches_of, entries_of, halves
from esa_tls.wire.webhook import CONTENT_TYPES, SIGNATURE, Form, body_of, classify, signature

if TYPE_CHECKING:
    from esa_tls.core.batch import Row


DEFAULT_MAX_REQUEST_BYTES = 1 << 20
DEFAULT_MAX_REQUEST_RECORDS = 500


class WebhookSink:
    """See the module. `endpoints`: whole URLs. Sizes in bytes. `key`: that of the signature; None: requests are not signed."""

    encoding = "json"

    def __init__(
        self,
        client: HttpClient,
        endpoints: Sequence[str],
        *,
        name: str = "webhook",
        cls_wanted: tuple[str, ...] = ("line", "summary"),
        kinds: frozenset[str] = frozenset(KINDS),
        form: Form = "array",
        headers: Mapping[str, str] | None = None,
        key: bytes | None = None,
        gzip: bool = False,
        max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES,
        max_request_records: int = DEFAULT_MAX_REQUEST_RECORDS,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.cls_wanted = cls_wanted
        self.kinds = kinds
        self._client = client
        self._urls = tuple(endpoints)
        self._form = form
        self._headers = {**(headers or {}), "Content-Type": CONTENT_TYPES[form]}
        if gzip:
            self._headers["Content-Encoding"] = "gzip"
        self._key = key
        self._gzip = gzip
        self._max_request_bytes = max_request_bytes
        self._max_request_records = max_request_records
        self._now_s = now_s
        self._taken: set[bytes] = set()
        """Batches that are done with since a `send` last ended: what a repeated `send` leaves out."""
        self._rejections: list[Rejection] = []
        self._closed = False

    async def open(self, state: bytes | None) -> None:
        """Nothing to do: connections are made when there is something to send."""

    def state(self) -> bytes | None:
        """None: the receiver keeps what it took."""
        return None

    async def send(self, rows: list[tuple[int, Row]]) -> None:
        """Return when the receiver has taken every batch. Raises TransientError, or RecordsRejected for records it never will."""
        if self._closed:
            raise TransientError("webhook: closed")
        entries = entries_of([row for _, row in rows], self.kinds)
        batches, too_large = batches_of(entries, max_bytes=self._max_request_bytes, max_records=self._max_request_records)
        for batch in batches:
            await self._deliver(batch)
        rejections = self._rejections + [
            _rejection(one, "too_large", f"the record has {len(one.data)} bytes, a request takes {self._max_request_bytes}")
            for one in too_large
        ]
        self._taken.clear()
        self._rejections = []
        if rejections:
            raise RecordsRejected(f"webhook: {len(rejections)} records refused", rejections)

    async def close(self) -> None:
        """Close all connections; a later `send` fails."""
        self._closed = True
        await self._client.close()

    async def _deliver(self, batch: Sequence[Entry]) -> None:
        """Bring one batch to the receiver, in parts where it refuses some of it. Raises TransientError."""
        waiting = [list(batch)]
        while waiting:
            one = waiting.pop()
            body = body_of(one, self._form)
            digest = xxhash.xxh3_128_digest(body)
            if digest in self._taken:
                continue
            sent = await gzipped(body) if self._gzip else body
            headers = self._headers
            if self._key is not None:
                headers = {**headers, SIGNATURE: signature(sent, self._key, now_s=int(self._now_s()))}
            answer = await self._client.post_first(self._urls, sent, headers)
            verdict = classify(answer.status, retry_after=answer.retry_after, now_s=self._now_s())
            if verdict.then == "retry":
                raise TransientError(f"webhook: {answer.told()}", retry_after_s=verdict.after_s)
            if verdict.then == "refused":
                if parts := halves(one):
                    waiting += (parts[1], parts[0])
                    continue
                self._rejections.append(_rejection(one[0], verdict.reason, answer.told()))
            self._taken.add(digest)


def _rejection(entry: Entry, reason: str, detail: str) -> Rejection:
    return Rejection(entry.row, entry.segment, entry.record, reason, detail)
