"""The `elasticsearch` sink: bulk requests to Elasticsearch or OpenSearch (docs/wires.md 3.1 to 3.3).

Rules:

1. What follows from an answer is decided in `wire/elasticsearch.py`, and which node is asked in `elasticsearch_nodes.py`. Here it is done.
2. Of a request that was answered only those records are sent again that the store did not take for now. What it took, or will never take,
   is remembered until `send` returns.
3. A record that the store will never take is named to the dispatcher with the store's words. An error of the store's own (500) becomes such
   a refusal when the same record met it `DOUBTFUL_TRIES` times.
4. What is no record's fault (credentials, no such index, a block, no room) stops the sink and loses nothing: it is tried again, slowly, and
   health says so.
5. A request that is too large (413) is halved, and later ones are made smaller. One that the store calls wrong (400) is halved too, until
   single records are refused.
6. Records go nowhere before the store has an index template for them (`require_template`): it would make plain indices and guess types.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence

from esa_tls import telemetry
from esa_tls.core.batch import Row
from esa_tls.core.records import KINDS
from esa_tls.errors import TransientError
from esa_tls.runtime.dispatch import RecordsRejected, Rejection
from esa_tls.sinks.elasticsearch_nodes import BUSY, Nodes
from esa_tls.sinks.http_client import Response
from esa_tls.wire.elasticsearch import (
    BULK_PATH,
    NDJSON,
    Answer,
    Bulk,
    Fate,
    Place,
    body_of,
    classify,
    encode,
    halves,
    index_of,
)
from esa_tls.wire.retry_after import SETTINGS_RETRY_S

log = logging.getLogger(__name__)


DEFAULT_MAX_REQUEST_BYTES = 4 << 20
DEFAULT_MAX_REQUEST_RECORDS = 5000

MIN_REQUEST_BYTES = 256 << 10
"""Requests are not made smaller than this, whatever was too large."""

DOUBTFUL_TRIES = 5


class StoreBusy(TransientError):
    """Not now."""


class StoreBlocked(TransientError):
    """Not until somebody makes room or lifts a block."""


class StoreSettings(TransientError):
    """Not until somebody has looked: credentials, templates, addresses."""


class ElasticsearchSink:
    """See the module. Sizes in bytes. `nodes` is closed with the sink."""

    encoding = "json"

    def __init__(
        self,
        nodes: Nodes,
        *,
        name: str = "elasticsearch",
        cls_wanted: tuple[str, ...] = ("line", "summary"),
        kinds: frozenset[str] = frozenset(KINDS),
        namespace: str = "default",
        max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES,
        max_request_records: int = DEFAULT_MAX_REQUEST_RECORDS,
        require_template: bool = True,
        counters: telemetry.Counters | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self.cls_wanted = cls_wanted
        self.kinds = kinds
        self._nodes = nodes
        self._namespace = namespace
        self._max_request_bytes = max_request_bytes
        self._max_request_records = max_request_records
        self._counters = counters
        self._now_s = now_s
        self._unchecked = set(kinds) if require_template else set()
        """Kinds whose index template nobody has looked for."""
        self._done: set[Place] = set()
        """Records that are done with since a `send` last ended: what a repeated `send` leaves out."""
        self._refused: list[tuple[Place, str, str]] = []
        self._doubts: Counter[Place] = Counter()
        self._plain: set[str] = set()
        self._closed = False

    async def open(self, state: bytes | None) -> None:
        """Nothing to do: connections are made when there is something to send."""

    def state(self) -> bytes | None:
        """None: the store keeps what it took."""
        return None

    async def send(self, rows: list[tuple[int, Row]]) -> None:
        """Return when the store has every record. Raises TransientError, or RecordsRejected for records it never will."""
        if self._closed:
            raise TransientError("elasticsearch: closed")
        segments = [
            (sequence, number, kind, body)
            for sequence, row in rows
            for number, (kind, _, body) in enumerate(row.segments)
            if kind in self.kinds
        ]
        for kind in self._unchecked.intersection(kind for _, _, kind, _ in segments):
            await self._look_for_template(kind)
        bulks = encode(
            segments,
            namespace=self._namespace,
            max_bytes=self._max_request_bytes,
            max_records=self._max_request_records,
            done=self._done,
        )
        for bulk in bulks:
            await self._deliver(bulk)
        row_of = {sequence: number for number, (sequence, _) in enumerate(rows)}
        rejections = [
            Rejection(row_of[sequence], segment, record, reason, detail) for (sequence, segment, record), reason, detail in self._refused
        ]
        self._done.clear()
        self._doubts.clear()
        self._refused = []
        if rejections:
            raise RecordsRejected(f"elasticsearch: {len(rejections)} records refused", rejections)

    async def close(self) -> None:
        """Close all connections; a later `send` fails."""
        self._closed = True
        await self._nodes.close()

    # -- one request -----------------------------------------------------------------------------------------------------------
    async def _deliver(self, bulk: Bulk) -> None:
        """Bring one request to the store, in parts where it is too large or wrong. Raises TransientError."""
        waiting = [bulk]
        while waiting:
            one = waiting.pop()
            body = body_of(one)
            response = await self._nodes.request("POST", BULK_PATH, body, content_type=NDJSON)
            answer = self._understood(response, len(one.items))
            match answer.then:
                case "items":
                    self._settle(one, answer.fates, response)
                case "too_large" | "refused":
                    parts = halves(one)
                    if parts is None:
                        self._refuse(one.places[0], answer.reason, answer.message)
                    else:
                        waiting += (parts[1], parts[0])
                    if answer.then == "refused":
                        log.error(
                            "The store calls a request wrong: %s",
                            answer.message[:300],
                            extra={"sink": self.name, "records": len(one.items), "body": body[:300].decode("utf-8", "backslashreplace")},
                        )
                    elif parts is not None:
                        self._make_requests_smaller(one.size)
                case "retry":
                    raise StoreBusy(f"{response.url}: {answer.message}", retry_after_s=answer.after_s)
                case "blocked":
                    raise StoreBlocked(f"{response.url}: {answer.message}", retry_after_s=answer.after_s)
                case "settings":
                    raise StoreSettings(f"{response.url}: {answer.message}", retry_after_s=answer.after_s)

    def _understood(self, response: Response, records: int) -> Answer:
        return classify(response.status, response.body, records=records, retry_after=response.retry_after, now_s=self._now_s())

    def _settle(self, bulk: Bulk, fates: Sequence[Fate], response: Response) -> None:
        """Note what became of each record. Raises TransientError if some have to be sent again."""
        postponed: dict[str, list[Fate]] = {}
        counts: Counter[tuple[str, str]] = Counter()
        for place, fate in zip(bulk.places, fates, strict=True):
            then = fate.then
            if then == "stored":
                self._done.add(place)
                continue
            if then == "doubtful":
                self._doubts[place] += 1
                then = "poison" if self._doubts[place] >= DOUBTFUL_TRIES else "retry"
            if then == "poison":
                self._refuse(place, fate.reason, fate.detail)
            elif then in ("known", "diverted"):
                self._done.add(place)
                counts[then, fate.reason] += 1
            else:
                postponed.setdefault(then, []).append(fate)
                counts["postponed", fate.reason] += 1
        self._count(counts)
        for index in {fate.index for fate in fates if fate.then == "stored"}:
            self._look_at(index)
        for then, error in (("settings", StoreSettings), ("blocked", StoreBlocked), ("retry", StoreBusy)):
            if then in postponed:
                first = postponed[then][0]
                raise error(
                    f"{response.url}: {len(postponed[then])} of {len(fates)} records: {first.detail or first.reason}",
                    retry_after_s=SETTINGS_RETRY_S if then == "settings" else None,
                )

    def _refuse(self, place: Place, reason: str, detail: str) -> None:
        self._refused.append((place, reason, detail))
        self._done.add(place)

    def _count(self, counts: Counter[tuple[str, str]]) -> None:
        if self._counters is None:
            return
        for (then, reason), n in counts.items():
            if then == "known":
                self._counters.add(telemetry.SINK_KNOWN, n, sink=self.name)
            else:
                metric = telemetry.SINK_DIVERTED if then == "diverted" else telemetry.SINK_POSTPONED
                self._counters.add(metric, n, sink=self.name, reason=reason)

    def _make_requests_smaller(self, refused_bytes: int) -> None:
        smaller = max(min(self._max_request_bytes, refused_bytes) // 2, MIN_REQUEST_BYTES)
        if smaller < self._max_request_bytes:
            log.warning(
                "The store takes no request of this size: they are made smaller. Set max_request_bytes.",
                extra={"sink": self.name, "refused_bytes": refused_bytes, "max_request_bytes": smaller},
            )
            self._max_request_bytes = smaller

    # -- where records go ------------------------------------------------------------------------------------------------------
    async def _look_for_template(self, kind: str) -> None:
        """Raise unless the store has an index template for this kind's data stream, or does not say.

        OpenSearch 2.19 answers 500 where the stream is there already: that is no reason to wait.
        """
        index = index_of(kind, self._namespace)
        response = await self._nodes.request("POST", f"/_index_template/_simulate_index/{index}")
        if response.status == 429 or response.status in BUSY:
            raise StoreBusy(f"{response.url}: {response.status}")
        if response.status == 200 and response.body.strip() == b"{}":
            raise StoreSettings(
                f"{response.url}: there is no index template for {index}: run `esa-tls templates`, or set require_template: false",
                retry_after_s=SETTINGS_RETRY_S,
            )
        self._unchecked.discard(kind)

    def _look_at(self, index: str) -> None:
        """Say it once if records go to a plain index."""
        if index and ".ds-" not in index and index not in self._plain:
            self._plain.add(index)
            log.warning("Records go to a plain index, not to a data stream.", extra={"sink": self.name, "index": index})
