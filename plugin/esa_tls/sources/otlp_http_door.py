"""Who is connected to the OTLP HTTP source: at most so many, and none of them by doing nothing.

Rules of this file:

1. A connection counts from the moment it is accepted, before its TLS handshake: half-open ones cost a place like any other.
2. In a full house a newcomer takes the place of the oldest connection that has not sent a whole request yet, else of the one idle for
   longest between two requests (its client makes a new one when it needs it), else of the oldest one whose body has been coming for
   `SLOW_BODY_S`. If all are at work the newcomer is turned away and counted.
3. A request whose body is complete is never cut off.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from aiohttp import web

from esa_tls.runtime.refusals import Refusals
from esa_tls.runtime.streams import SHUTDOWN_TIMEOUT_S, peer_name
from esa_tls.runtime.tls import HANDSHAKE, Handshake

__all__ = ["Door", "Server"]

SLOW_BODY_S = 5.0
"""How long a body may be on its way before its connection can lose its place in a full house."""


class Server(web.Server):
    """Aiohttp's, which tells when a connection is over."""

    lost: Callable[[web.RequestHandler], None] = staticmethod(lambda _: None)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """See aiohttp."""
        super().connection_lost(handler, exc)
        self.lost(handler)


class _Place:
    """What one connection is at: shaking hands (`task`), reading a body since `reading_s`, `working` on a request, or idle."""

    __slots__ = ("leaving", "reading_s", "served", "task", "transport", "working")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.task: asyncio.Task[None] | None = None
        self.working = False
        self.reading_s: float | None = None
        self.served = False
        self.leaving = False


class Door:
    """Lets connections in: `accepted` gets each one as the listener hands it over. `evicted` is told of each that had to make room."""

    def __init__(
        self,
        server: Server,
        refusals: Refusals,
        *,
        most: int,
        tls: ssl.SSLContext | None,
        handshake_timeout_s: float,
        evicted: Callable[[], None],
    ) -> None:
        self._server = server
        self._refusals = refusals
        self._most = most
        self._tls = tls
        self._handshake_timeout_s = handshake_timeout_s
        self._evicted = evicted
        self._places: dict[web.RequestHandler, _Place] = {}  # idle ones that were served move to the end
        self._leaving = 0
        self._closed = False
        server.lost = self._lost

    def __len__(self) -> int:
        return len(self._places)

    def accepted(self, transport: asyncio.Transport) -> bool:
        """Take a connection, paused. False: there is no room, and it is closed."""
        if self._closed:
            transport.abort()
            return True
        if len(self._places) - self._leaving >= self._most and not self._make_room():
            self._refusals.refused(peer_name(transport), "max_sessions", f"{self._most} senders are connected and at work")
            transport.abort()
            return False
        handler = self._server()
        place = self._places[handler] = _Place(transport)
        if self._tls is None:
            transport.set_protocol(handler)
            handler.connection_made(transport)
            transport.resume_reading()
        else:
            place.task = asyncio.get_running_loop().create_task(self._secure(handler, place, self._tls))
        return True

    def begins(self, handler: web.RequestHandler) -> None:
        """A request's head is there; its body is coming."""
        if (place := self._places.get(handler)) is not None:
            place.working, place.reading_s = True, asyncio.get_running_loop().time()

    def has_body(self, handler: web.RequestHandler) -> None:
        """All of the request is there."""
        if (place := self._places.get(handler)) is not None:
            place.reading_s = None

    def ends(self, handler: web.RequestHandler, *, whole: bool) -> None:
        """The request is answered. `whole`: all of it was there."""
        if (place := self._places.get(handler)) is not None:
            place.working, place.reading_s = False, None
            place.served = place.served or whole
            self._places[handler] = self._places.pop(handler)

    async def close(self) -> None:
        """End handshakes under way; nobody gets in any more. Safe twice."""
        self._closed = True
        tasks = [place.task for place in self._places.values() if place.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _make_room(self) -> bool:
        now_s = asyncio.get_running_loop().time()
        served = slow = None
        for handler, place in self._places.items():
            if place.leaving:
                continue
            if not place.working:
                if not place.served:
                    return self._evict(handler, place)
                served = served or (handler, place)
            elif place.reading_s is not None and now_s - place.reading_s >= SLOW_BODY_S:
                slow = slow or (handler, place)
        missed_least = served or slow
        return missed_least is not None and self._evict(*missed_least)

    def _evict(self, handler: web.RequestHandler, place: _Place) -> bool:
        place.leaving = True
        self._leaving += 1
        self._evicted()
        if place.task is not None:
            place.task.cancel()
        else:
            handler.force_close()
            place.transport.abort()
        return True

    def _lost(self, handler: web.RequestHandler) -> None:
        place = self._places.pop(handler, None)
        if place is not None:
            self._leaving -= place.leaving

    async def _secure(self, handler: web.RequestHandler, place: _Place, tls: ssl.SSLContext) -> None:
        """The TLS handshake; then the connection is the handler's."""
        loop, transport = asyncio.get_running_loop(), place.transport
        handshake, early = Handshake(peer_name(transport)), _Early()
        token = HANDSHAKE.set(handshake)
        secured: asyncio.Transport | None = None
        try:
            secured = await loop.start_tls(
                transport,
                early,
                tls,
                server_side=True,
                ssl_handshake_timeout=self._handshake_timeout_s,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S,
            )
        except ConnectionAbortedError:  # asyncio's word for a handshake that took too long
            if not handshake.refused:
                self._refusals.refused(handshake.peer, "handshake_timeout", f"no TLS handshake within {self._handshake_timeout_s:g} s")
        except OSError:
            pass  # it went away, or was refused, which the context has told
        finally:
            HANDSHAKE.reset(token)
            place.task = None
            if secured is None or secured.is_closing() or early.gone:
                transport.abort()
                self._lost(handler)
        if handler in self._places and secured is not None:
            secured.set_protocol(handler)
            handler.connection_made(secured)
            handler.data_received(bytes(early.data))


class _Early(asyncio.Protocol):
    """Keeps what comes between the end of a handshake and the moment we hear of it: one read at most."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.gone = False

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self.data += data

    def connection_lost(self, _exc: Exception | None) -> None:
        """See asyncio."""
        self.gone = True
