"""What both OTLP sources do with a request once they have its bytes: decode, commit, and say what to answer (docs/correlation.md 6).

Rules of this file:

1. The answer is given after the commit, and within `answer_within_s`: the Collector gives up after 5 s and sends again. What is not
   durable by then is answered as retryable; the commit goes on, and the request sent again waits for it under the same key.
2. Whatever goes wrong on our side is retryable, never "unknown" or "internal": a sender drops its data on those. It is counted, and
   logged once per kind.
3. Records that hold no line become dead letters and are told as a partial success; the sender does not send them again.
4. Each request is a session of its own. Requests that overlap stay open until the last of them is answered, so that the core sees more
   than one sender session of an appliance: which of two requests in flight was first, nobody can tell.
5. A request that is refused for good breaks the feed of every appliance: nobody knows whose lines were in it.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from esa_tls import telemetry
from esa_tls.core.batch import Batch
from esa_tls.errors import FrameTooLarge, JournalError, MalformedMessage
from esa_tls.runtime.refusals import Refusals
from esa_tls.wire.fluent_decode import Rejected
from esa_tls.wire.otlp_decode import ProtobufReader
from esa_tls.wire.otlp_json import JsonReader
from esa_tls.wire.otlp_lines import Origins, OtlpSettings, batch_key
from esa_tls.wire.otlp_status import (
    INVALID_ARGUMENT,
    JSON,
    RESOURCE_EXHAUSTED,
    UNAUTHENTICATED,
    UNAVAILABLE,
    Answer,
)

__all__ = ["Intake", "Receiver"]

_log = logging.getLogger(__name__)

RETRY_AFTER_S = 2
"""When a sender that was not served may come again. The Collector's own first wait is 5 s."""

MAX_MESSAGE_CHARS = 300


class Intake(Protocol):
    """What these sources need of the durable step (docs/correlation.md 6)."""

    def open_session(self, peer: str) -> int:
        """Announce a sender's session; the number goes into its batches."""

    def close_session(self, session: int, *, clean: bool) -> None:
        """End it. `clean=False`: it ended with something that was not acknowledged."""

    def break_feed(self) -> None:
        """Lines may be missing, of any appliance."""

    def reserve(self, n_bytes: int, /) -> AbstractAsyncContextManager[object]:
        """Room in the one receive budget, held until exit; entering waits for it. Raises FrameTooLarge for more than there is."""

    async def submit(self, batch: Batch, /, *, timeout_s: float | None = None) -> None:
        """Return when everything in `batch` is durable. Raises JournalError, JournalFull after `timeout_s`."""

    async def dead_letter(self, rejected: Sequence[Rejected], *, origin: str) -> None:
        """Return when these are durable among the dead letters. `origin`: `source:<name>`."""


class Busy(Exception):
    """No room in the receive budget in time."""


class Receiver:
    """One source's way from request bytes to an answer.

    `name`: the source's. `token`: what senders have to show, if anything; `refusals`: who hears of those that do not.
    """

    def __init__(
        self,
        intake: Intake,
        counters: telemetry.Counters,
        *,
        name: str,
        otlp: OtlpSettings,
        token: str | None = None,
        refusals: Refusals | None = None,
        answer_within_s: float = 4.0,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.intake = intake
        self.counters = counters
        self.name = name
        self.answer_within_s = answer_within_s
        origins = Origins(otlp)
        self._protobuf = ProtobufReader(otlp, origins)
        self._json = JsonReader(otlp, origins)
        self._expected = None if token is None else f"Bearer {token}".encode()
        self._refusals = refusals
        self._now_s = now_s
        self._flights = _Flights(intake)
        self._logged: set[str] = set()

    def deadline_s(self) -> float:
        """When a request that comes now has to be answered, on the event loop's clock."""
        return asyncio.get_running_loop().time() + self.answer_within_s

    def unauthorised(self, given: str | bytes | None, *, peer: str) -> Answer | None:
        """What to answer to this `authorization` of `peer`; None if it is right. Compares in constant time."""
        if self._expected is None:
            return None
        shown = given.encode("utf-8", "surrogateescape") if isinstance(given, str) else given or b""
        if hmac.compare_digest(shown, self._expected):
            return None
        if self._refusals is not None:
            reason, detail = ("wrong_token", "its bearer token is wrong") if shown else ("no_token", "it shows no bearer token")
            self._refusals.refused(peer, reason, detail)
        return Answer(code=UNAUTHENTICATED, message="the bearer token is missing or wrong")

    @asynccontextmanager
    async def room(self, n_bytes: int, *, deadline_s: float) -> AsyncIterator[None]:
        """Hold `n_bytes` of the receive budget. Raises Busy if they are not to be had by the deadline, FrameTooLarge if never."""
        reservation = self.intake.reserve(n_bytes)
        try:
            async with asyncio.timeout_at(deadline_s):
                await reservation.__aenter__()
        except TimeoutError as error:
            raise Busy(f"no room for {n_bytes} bytes") from error
        try:
            yield
        finally:
            await reservation.__aexit__(None, None, None)

    async def take(self, request: bytes, *, media_type: str, peer: str, deadline_s: float) -> Answer:
        """Make a request's lines durable. `request`: unpacked, its room reserved. Raises nothing that `answered` does not take."""
        session = self._flights.begin(peer)
        clean = False
        try:
            reader = self._json if media_type == JSON else self._protobuf
            decoded = reader.decode(request, peer=peer or None)
            loop = asyncio.get_running_loop()
            if decoded.runs:
                batch = decoded.batch(key=batch_key(request), session=session, received_s=self._now_s())
                await self.intake.submit(batch, timeout_s=max(deadline_s - loop.time(), 0.0))
            if decoded.rejected:
                async with asyncio.timeout_at(max(deadline_s, loop.time() + 0.1)):
                    await self.intake.dead_letter(decoded.rejected, origin=f"source:{self.name}")
                for rejected in decoded.rejected:
                    self.counters.add(telemetry.EVENTS_DEAD_LETTERED, source=self.name, reason=rejected.reason)
            clean = True
        finally:
            self._flights.end(session, clean=clean)
        return _taken(decoded.rejected)

    async def answered(self, work: Awaitable[Answer], *, peer: str) -> Answer:
        """The answer that `work` gives, or the one to the error it ends with; counted."""
        try:
            answer = await work
        except MalformedMessage as error:
            answer = self._refused(Answer(code=INVALID_ARGUMENT, message=str(error)[:MAX_MESSAGE_CHARS]), peer)
        except FrameTooLarge as error:
            answer = self._refused(Answer(code=RESOURCE_EXHAUSTED, message=str(error)[:MAX_MESSAGE_CHARS]), peer)
        except (JournalError, Busy, TimeoutError) as error:
            self._log_once(f"not durable: {type(error).__name__}", "An OTLP request could not be made durable in time: %s", error)
            answer = Answer(code=UNAVAILABLE, message="not durable yet, send it again", retry_after_s=RETRY_AFTER_S)
        except Exception as error:  # noqa: BLE001 (the sender keeps the request and sends it again)
            place = traceback.extract_tb(error.__traceback__)[-1]
            self._log_once(
                f"{type(error).__name__} {place.filename}:{place.lineno}", "An OTLP request met an error of ours.", exc_info=error
            )
            answer = Answer(code=UNAVAILABLE, message="an error of ours, send it again", retry_after_s=RETRY_AFTER_S)
            self.counters.add(telemetry.OTLP_FAULTS, source=self.name)
        self.counters.add(telemetry.OTLP_REQUESTS, source=self.name, answer=_LABELS.get(answer.code, "other"))
        return answer

    def _refused(self, answer: Answer, peer: str) -> Answer:
        _log.warning("An OTLP request from %s was refused: %s", peer, answer.message)
        self.intake.break_feed()
        return answer

    def _log_once(self, kind: str, message: str, *args: object, exc_info: BaseException | None = None) -> None:
        """Error the first time, debug after that: a sender comes again and again."""
        level = logging.DEBUG if kind in self._logged else logging.ERROR if exc_info is not None else logging.WARNING
        self._logged.add(kind)
        _log.log(level, message, *args, exc_info=exc_info)


_LABELS = {
    0: "ok",
    INVALID_ARGUMENT: "invalid_argument",
    RESOURCE_EXHAUSTED: "resource_exhausted",
    UNAUTHENTICATED: "unauthenticated",
    UNAVAILABLE: "unavailable",
}


def _taken(rejected: Sequence[Rejected]) -> Answer:
    if not rejected:
        return Answer()
    reasons = ", ".join(sorted({one.reason for one in rejected}))
    return Answer(rejected=len(rejected), message=f"{len(rejected)} records hold no log line ({reasons}); they are kept as dead letters")


class _Flights:
    """Sessions of requests. One that has ended stays open until all that overlapped with it have ended."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._flying: set[int] = set()
        self._landed: list[tuple[int, bool, set[int]]] = []

    def begin(self, peer: str) -> int:
        session = self._intake.open_session(peer)
        self._flying.add(session)
        return session

    def end(self, session: int, *, clean: bool) -> None:
        self._flying.discard(session)
        self._landed.append((session, clean, set(self._flying)))
        waiting = []
        for one in self._landed:
            landed, was_clean, beside = one
            beside.discard(session)
            if beside:
                waiting.append(one)
            else:
                self._intake.close_session(landed, clean=was_clean)
        self._landed = waiting
