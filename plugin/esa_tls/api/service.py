"""The servicer of `EsaTls`: requests checked, calls handed to whoever does them, and every error told as a status.

Rules of this file:

1. No exception leaves a handler: grpcio would answer UNKNOWN, which tells a client nothing. What is not foreseen is UNAVAILABLE and
   logged.
2. What is wrong with a request is INVALID_ARGUMENT and named.
3. Every call is counted by method and status.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final, TypeVar
from urllib.parse import unquote

import grpc
import grpc.aio

from esa_tls import telemetry
from esa_tls.api.convert import enum_word, to_record
from esa_tls.api.enrich import Enrichment, Intake
from esa_tls.api.lookup import MAX_RESULTS, Found, Lookup, Query
from esa_tls.api.refused import Refused, first_of
from esa_tls.api.v1.service_pb2 import (
    EnrichRequest,
    EnrichResponse,
    LookupRequest,
    LookupResponse,
    LookupResult,
    LookupState,
    RecordBatch,
    RecordFilter,
    WatchRequest,
    WatchResponse,
)
from esa_tls.api.v1.service_pb2_grpc import EsaTlsServicer
from esa_tls.api.watch import Filter, Hub, TooManyWatchers

__all__ = ["Servicer", "address_of"]

log = logging.getLogger(__name__)

T = TypeVar("T")

DEFAULT_RESULTS: Final = 100
MAX_TEXT_CHARS: Final = 1_000


class Servicer(EsaTlsServicer):
    """Answers the calls. `appliances_of`: the appliances whose lines came in a session."""

    def __init__(
        self,
        *,
        intake: Intake,
        hub: Hub,
        lookup: Lookup,
        counters: telemetry.Counters,
        appliances_of: Callable[[int], Collection[str]],
        source: str = "api",
        lossy: bool | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.draining = asyncio.Event()
        """Set: `Enrich` takes nothing more."""
        self._intake = intake
        self._hub = hub
        self._lookup = lookup
        self._counters = counters
        self._appliances_of = appliances_of
        self._source = source
        self._lossy = lossy
        self._now_s = now_s
        self._enriching = 0
        self._none_enriching = asyncio.Event()
        self._none_enriching.set()

    async def Enrich(  # noqa: N802 (the name in the schema)
        self, request_iterator: Any, context: grpc.aio.ServicerContext[EnrichRequest, EnrichResponse]
    ) -> None:
        """See service.proto."""
        del request_iterator  # read through the context
        enrichment = Enrichment(
            context,
            intake=self._intake,
            hub=self._hub,
            source=self._source,
            peer=address_of(context.peer()),
            lossy=self._lossy,
            appliances_of=self._appliances_of,
            filter_of=lambda request: filter_of(request.filter),
            draining=self.draining,
            now_s=self._now_s,
        )
        self._enriching += 1
        self._none_enriching.clear()
        try:
            await self._answered("Enrich", context, enrichment.run())
        finally:
            self._enriching -= 1
            if not self._enriching:
                self._none_enriching.set()

    async def enriched(self) -> None:
        """Return when there is no `Enrich` stream. For after `draining` is set."""
        await self._none_enriching.wait()

    async def Lookup(self, request: LookupRequest, context: grpc.aio.ServicerContext[Any, Any]) -> LookupResponse:  # noqa: N802
        """See service.proto."""
        return await self._answered("Lookup", context, self._look_up(request))

    async def Watch(self, request: WatchRequest, context: grpc.aio.ServicerContext[Any, WatchResponse]) -> None:  # noqa: N802
        """See service.proto."""
        await self._answered("Watch", context, self._watch(request, context))

    async def _look_up(self, request: LookupRequest) -> LookupResponse:
        answer = await self._lookup.lookup(query_of(request))
        return LookupResponse(results=map(_result, answer.found), incomplete=answer.incomplete)

    async def _watch(self, request: WatchRequest, context: grpc.aio.ServicerContext[Any, WatchResponse]) -> None:
        watcher = self._hub.watch(filter_of(request.filter))
        try:
            await context.send_initial_metadata(())
            while taken := await watcher.take():
                await context.write(WatchResponse(batch=RecordBatch(records=taken, dropped=watcher.dropped)))
        finally:
            watcher.close()
        raise Refused(grpc.StatusCode.UNAVAILABLE, "the sidecar is stopping")

    async def _answered(self, method: str, context: grpc.aio.ServicerContext[Any, Any], work: Awaitable[T]) -> T:
        """What `work` gives; or the call ends with the status of what it raises."""
        code = grpc.StatusCode.OK
        try:
            return await work
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            raise
        except Exception as raised:
            error = first_of(raised)
            if isinstance(error, asyncio.CancelledError):
                code = grpc.StatusCode.CANCELLED
                raise
            if isinstance(error, TooManyWatchers):
                error = Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
            if not isinstance(error, Refused):
                if context.cancelled() or context.done():
                    code = grpc.StatusCode.CANCELLED  # a write or read of ours met the end of the call
                    raise asyncio.CancelledError from error
                log.error("%s met an error of ours.", method, exc_info=error)  # noqa: TRY400 (the one out of a group)
                error = Refused(grpc.StatusCode.UNAVAILABLE, "an error of ours; try again")
            code = error.code
            await context.abort(error.code, str(error))
            raise AssertionError("abort raises") from error
        finally:
            self._counters.add(telemetry.API_CALLS, method=method, code=code.name.lower())


# -- requests --------------------------------------------------------------------------------------------------------------------
def query_of(request: LookupRequest) -> Query:
    """A request as a query. Raises Refused."""
    by = request.WhichOneof("query")
    if by is None:
        raise _invalid("name one of mid, icid, dcid, message_id, recipient")
    value = getattr(request, by)
    if isinstance(value, str):
        if not value.strip("<> \t"):
            raise _invalid(f"{by} is empty")
        if len(value) > MAX_TEXT_CHARS:
            raise _invalid(f"{by} has more than {MAX_TEXT_CHARS} characters")
    limit = request.limit if request.HasField("limit") else DEFAULT_RESULTS
    if not 1 <= limit <= MAX_RESULTS:
        raise _invalid(f"limit is {limit}, not between 1 and {MAX_RESULTS}")
    return Query(
        by=by,
        value=value,
        appliance=request.appliance if request.HasField("appliance") else None,
        epoch=request.epoch if request.HasField("epoch") else None,
        limit=limit,
    )


def filter_of(wanted: RecordFilter) -> Filter:
    """The filter of a request. Raises Refused."""
    return Filter(
        kinds=_words("RecordKind", "kinds", wanted.kinds),
        outcomes=_words("TlsOutcome", "outcomes", wanted.outcomes),
        directions=_words("Direction", "directions", wanted.directions),
        appliances=frozenset(wanted.appliances),
    )


def _words(enum: str, field: str, numbers: Collection[int]) -> frozenset[str]:
    words = set()
    for number in numbers:
        word = enum_word(enum, number)
        if word is None:
            raise _invalid(f"filter.{field}: {number} is no value of {enum} that is known here")
        words.add(word)
    return frozenset(words)


def _invalid(reason: str) -> Refused:
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, reason)


def _result(found: Found) -> LookupResult:
    record = to_record(found.record)
    state = LookupState.LOOKUP_STATE_OPEN if found.open else LookupState.LOOKUP_STATE_GONE
    if record.HasField("message"):
        return LookupResult(state=state, message=record.message)
    return LookupResult(state=state, connection=record.connection)


def address_of(peer: str) -> str:
    """`ipv4:192.0.2.1:5` and `ipv6:%5B::1%5D:5` as addresses; "" for a peer without one."""
    family, _, rest = peer.partition(":")
    if family not in {"ipv4", "ipv6"}:
        return ""
    return unquote(rest).rpartition(":")[0].strip("[]")
