"""Who gets into the Forward source: TLS, then HELO, PING and PONG if a key is set (docs/wires.md 1.5, 1.6, 1.10).

Rules of this file:

1. Nothing of a peer is decoded, reserved or remembered by the intake before it is in; until then it can make us hold 4 KiB at most.
2. A peer that goes away before its PING is a heartbeat or a probe: no error, no warning.
3. HELO and PONG leave in one write each. Bytes behind the PING are the first frames.
4. A refused peer hears why (TLS alert, PONG false) and is counted. From the fourth refusal in a row on the answer comes later and
   later, up to `MAX_DELAY_S`, so that trying out keys is slow; it is only that peer's connection that waits, and only
   `MAX_WAITING` of them do at a time: others beyond are closed at once without an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable

from esa_tls.runtime.refusals import Refusals
from esa_tls.runtime.streams import open_streams, peer_name
from esa_tls.wire.fluent_handshake import MAX_MESSAGE_BYTES, RANDOM_BYTES, ServerCredentials, ServerHandshake, Step

__all__ = ["Door", "TurnedAway"]

FREE_TRIES = 3
"""Refusals of one address in a row that are answered at once: somebody is setting it up."""

FIRST_DELAY_S = 0.25
MAX_DELAY_S = 5.0

MAX_WAITING = 64
"""Refused peers whose answer is delayed at the same time."""

MAX_REMEMBERED = 1024
"""Addresses whose refusals are counted; the oldest are forgotten."""


class TurnedAway(Exception):
    """The peer does not get in. `reason`: label of `SESSIONS_CLOSED`. `writer`: where `answer` can still be written, if at all."""

    def __init__(self, reason: str, *, writer: asyncio.StreamWriter | None = None, answer: bytes = b"", delay_s: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.writer = writer
        self.answer = answer
        self.delay_s = delay_s


class Door:
    """What one listener asks of its peers. `refusals` counts those that do not get in, other reasons of the server included."""

    def __init__(
        self,
        refusals: Refusals,
        *,
        tls: ssl.SSLContext | None = None,
        credentials: ServerCredentials | None = None,
        handshake_timeout_s: float,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.refusals = refusals
        self._tls = tls
        self._credentials = credentials
        self._handshake_timeout_s = handshake_timeout_s
        self._random_bytes = random_bytes
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._waiting = 0

    @property
    def time_limit_s(self) -> float:
        """How long `enter` may take."""
        return self._handshake_timeout_s if self._tls is None else 2 * self._handshake_timeout_s

    async def enter(self, transport: asyncio.Transport, *, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
        """Let a peer in: its streams, and what it sent already behind its PING. Raises TurnedAway.

        The caller limits the time; a cancelled or timed out call leaves the transport to the caller.
        """
        peer = peer_name(transport)
        try:
            reader, writer = await open_streams(transport, tls=self._tls, handshake_timeout_s=self._handshake_timeout_s, limit=limit)
        except TimeoutError as error:
            self.refusals.refused(peer, "handshake_timeout", str(error.strerror or error))
            raise TurnedAway("handshake") from error
        except OSError as error:
            raise TurnedAway("handshake") from error
        if self._credentials is None:
            return reader, writer, b""
        handshake = ServerHandshake(self._credentials, nonce=self._random_bytes(RANDOM_BYTES), auth_salt=self._random_bytes(RANDOM_BYTES))
        try:
            step = await self._shake_hands(handshake, reader, writer)
        except OSError as error:
            raise TurnedAway("eof", writer=writer) from error
        except TurnedAway:
            raise
        except BaseException:  # cancelled, or out of time
            writer.transport.abort()
            raise
        if step.refusal is not None:
            self.refusals.refused(peer, step.refusal.reason, step.refusal.detail)
            raise TurnedAway("refused", writer=writer, answer=step.send, delay_s=self._delay_s(peer))
        self._failures.pop(peer, None)
        return reader, writer, step.rest

    async def _shake_hands(self, handshake: ServerHandshake, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Step:
        writer.write(handshake.helo)
        while True:
            data = await reader.read(MAX_MESSAGE_BYTES)
            if not data:
                raise TurnedAway("eof", writer=writer)
            step = handshake.feed(data)
            if step.done:
                writer.write(step.send)
            if step.done or step.refusal is not None:
                return step

    def _delay_s(self, peer: str) -> float:
        failures = self._failures.pop(peer, 0) + 1
        self._failures[peer] = failures
        if len(self._failures) > MAX_REMEMBERED:
            self._failures.popitem(last=False)
        return 0.0 if failures <= FREE_TRIES else min(MAX_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures - FREE_TRIES - 1, 16))

    @contextlib.asynccontextmanager
    async def place_to_wait(self) -> AsyncIterator[bool]:
        """Whether there is a place for one more peer that waits for its refusal."""
        if self._waiting >= MAX_WAITING:
            yield False
            return
        self._waiting += 1
        try:
            yield True
        finally:
            self._waiting -= 1
