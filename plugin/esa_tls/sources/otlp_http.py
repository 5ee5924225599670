"""The OTLP HTTP source: `POST /v1/logs` in protobuf and JSON (docs/wires.md 2.2, as a server).

Rules of this file:

1. What bytes mean is decided in `wire/` and `sources/otlp.py`. Here: read, reserve, inflate under the cap, answer in the request's type.
2. A body is read on beyond `small_body_bytes` only with its declared length (the limit, if it declares none) reserved in the receive
   budget; what it inflates to is reserved before it is inflated, by what it says of itself, and never trusted further.
3. 404, 405 and 415 are plain text, everything else a `google.rpc.Status` in the request's type. 408 and 500 are never sent: a sender
   drops its data on those. A sender too slow with its body is told 503.
4. Connections: at most `max_sessions`, and who does nothing makes room for a newcomer (`otlp_http_door`); one without a whole request
   within `idle_timeout_s` is closed.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import msgspec
import zstandard
from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError

from esa_tls import telemetry
from esa_tls.errors import FrameTooLarge, MalformedMessage
from esa_tls.runtime.refusals import Refusals
from esa_tls.runtime.streams import Address, Listener, listen
from esa_tls.sources.otlp import RETRY_AFTER_S, Busy, Intake, Receiver
from esa_tls.sources.otlp_http_door import Door, Server
from esa_tls.wire.fluent_inflate import BadCompression, InflatedTooLarge, inflate
from esa_tls.wire.otlp_lines import OtlpSettings
from esa_tls.wire.otlp_status import JSON, OK, PROTOBUF, UNAUTHENTICATED, Answer, http_status, response_body, status_body

__all__ = ["HttpSettings", "OtlpHttpServer"]

_log = logging.getLogger(__name__)

PATH = "/v1/logs"

_ENCODINGS = {"": None, "identity": None, "gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd"}
"""`Content-Encoding` -> algorithm."""

_IN_THREAD_BYTES = 256 << 10
"""What inflates to more is unpacked in a thread, so that nobody waits for it."""


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the server behaves; what it reads out of records stands in `OtlpSettings`."""

    name: str = "otlp_http"
    host: str = "127.0.0.1"
    port: int = 4318
    max_request_bytes: int = 64 << 20
    """Of a body, packed and unpacked."""
    answer_within_s: float = 4.0
    """From the end of the body on."""
    request_timeout_s: float = 30.0
    """For a whole body."""
    idle_timeout_s: float = 75.0
    handshake_timeout_s: float = 10.0
    max_sessions: int = 1024
    small_body_bytes: int = 256 << 10
    """Bytes of an incomplete body that a connection may hold without a reservation."""
    lingering_s: float = 5.0
    """How long the rest of a refused body is read and thrown away, so that the sender sees the answer."""


class OtlpHttpServer:
    """Listens and answers. `start()`, then `drain()` or `close()`. `tls`: a server context; None = plain text."""

    def __init__(
        self,
        intake: Intake,
        counters: telemetry.Counters,
        *,
        settings: HttpSettings | None = None,
        otlp: OtlpSettings | None = None,
        tls: ssl.SSLContext | None = None,
        token: str | None = None,
        refusals: Refusals | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings or HttpSettings()
        self._counters = counters
        self._tls = tls
        self._receiver = Receiver(
            intake,
            counters,
            name=self.settings.name,
            otlp=otlp or OtlpSettings(source=self.settings.name),
            token=token,
            refusals=refusals,
            answer_within_s=self.settings.answer_within_s,
            now_s=now_s,
        )
        self._refusals = refusals or Refusals(f"source {self.settings.name}", counters)
        self._http: Server | None = None
        self._door: Door | None = None
        self._listener: Listener | None = None
        counters.gauge(telemetry.SESSIONS_OPEN, lambda: 0 if self._door is None else len(self._door), source=self.settings.name)

    @property
    def port(self) -> int:
        """The port it listens on (the free one taken for port 0). Only between `start()` and the end."""
        assert self._listener is not None
        return self._listener.port

    async def start(self) -> None:
        """Listen. Raises OSError if the address cannot be had."""
        settings = self.settings
        self._http = Server(
            self._handle,
            access_log=None,
            auto_decompress=False,  # it has no cap
            keepalive_timeout=settings.idle_timeout_s,
            lingering_time=settings.lingering_s,
        )
        self._door = Door(
            self._http,
            self._refusals,
            most=settings.max_sessions,
            tls=self._tls,
            handshake_timeout_s=settings.handshake_timeout_s,
            evicted=lambda: self._count(telemetry.SESSIONS_CLOSED, reason="evicted"),
        )
        self._listener = await listen(Address(host=settings.host, port=settings.port), self._accepted)

    async def drain(self) -> None:
        """Stop accepting, let the requests under way commit and be answered, and close."""
        await self._stop(self.settings.answer_within_s + 1.0)

    async def close(self) -> None:
        """Close at once. Safe at any time, also after `drain()`."""
        await self._stop(0.001)  # aiohttp takes 0 for no limit

    async def _stop(self, grace_s: float) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        http, self._http = self._http, None
        if self._door is not None:
            await self._door.close()
        if http is not None:
            http.pre_shutdown()
            try:
                await http.shutdown(grace_s)
            except asyncio.CancelledError:  # a drain that takes too long: there is something left for `close`
                self._http = http
                raise
            await asyncio.sleep(0)

    def _accepted(self, transport: asyncio.Transport) -> None:
        assert self._door is not None
        if self._door.accepted(transport):
            self._count(telemetry.SESSIONS_OPENED)
        else:
            self._count(telemetry.SESSIONS_CLOSED, reason="max_sessions")

    def _count(self, name: str, **labels: str) -> None:
        self._counters.add(name, source=self.settings.name, **labels)

    # -- one request -------------------------------------------------------------------------------------------------------------
    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        door, handler = self._door, request.protocol
        assert door is not None
        door.begins(handler)
        try:
            return await self._respond(request)
        except Exception:  # noqa: BLE001 (aiohttp would answer 500, and the sender would drop its data)
            _log.exception("An OTLP request met an error of ours.")
            return _plain(503, "an error of ours, send it again", **{"Retry-After": str(RETRY_AFTER_S)})
        finally:
            door.ends(handler, whole=request.content.is_eof())

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path != PATH:
            return _plain(404, "OTLP logs are taken at /v1/logs")
        if request.method != "POST":
            return _plain(405, "POST only", Allow="POST")
        media_type = request.content_type
        if media_type not in {PROTOBUF, JSON}:
            return _plain(415, f"expected Content-Type {PROTOBUF} or {JSON}")
        encoding = request.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in _ENCODINGS:
            return _plain(415, "expected Content-Encoding gzip, zstd or none")
        peer = request.remote or ""
        answer = await self._receiver.answered(self._take(request, media_type, _ENCODINGS[encoding], peer=peer), peer=peer)
        return _response(answer, media_type, whole=request.content.is_eof())

    async def _take(self, request: web.BaseRequest, media_type: str, algorithm: str | None, *, peer: str) -> Answer:
        refused = self._receiver.unauthorised(request.headers.get("Authorization"), peer=peer)
        if refused is not None:
            return refused
        async with AsyncExitStack() as held:
            body = await self._body(request, held)
            if self._door is not None:
                self._door.has_body(request.protocol)
            deadline_s = self._receiver.deadline_s()
            if algorithm is not None:
                body = await self._inflated(body, algorithm, held, deadline_s)
            return await self._receiver.take(body, media_type=media_type, peer=peer, deadline_s=deadline_s)

    async def _body(self, request: web.BaseRequest, held: AsyncExitStack) -> bytes:
        """The body as it came, its room held. Raises FrameTooLarge, Busy."""
        settings = self.settings
        limit, declared = settings.max_request_bytes, request.content_length
        if declared is not None and declared > limit:
            raise FrameTooLarge(f"{declared} bytes are over the limit of {limit}")
        body = bytearray()
        reserved = False
        try:
            async with asyncio.timeout(settings.request_timeout_s):
                async for piece in request.content.iter_any():
                    if len(body) + len(piece) > limit:
                        raise FrameTooLarge(f"over the limit of {limit} bytes")
                    if not reserved and len(body) + len(piece) > settings.small_body_bytes:
                        await self._room(limit if declared is None else declared, held, self._receiver.deadline_s())
                        reserved = True
                    body += piece
        except TimeoutError as error:
            raise Busy(f"the body did not come within {settings.request_timeout_s:g} s") from error
        except (ClientError, web.RequestPayloadError, HttpProcessingError, ConnectionError) as error:
            raise Busy(f"the body was cut off: {error}") from error
        if not reserved:
            await self._room(len(body), held, self._receiver.deadline_s())
        return bytes(body)

    async def _inflated(self, body: bytes, algorithm: str, held: AsyncExitStack, deadline_s: float) -> bytes:
        """The body unpacked, its room held. Raises FrameTooLarge, Busy, MalformedMessage."""
        limit = self.settings.max_request_bytes
        said = min(_said_bytes(body, algorithm), limit)
        for room, more in ((said, said), (limit, limit - said)):  # it may say too little
            await self._room(more, held, deadline_s)
            try:
                if room > _IN_THREAD_BYTES:
                    return bytes(await asyncio.to_thread(inflate, body, algorithm, max_bytes=room))
                return bytes(inflate(body, algorithm, max_bytes=room))
            except InflatedTooLarge:
                continue
            except BadCompression as error:
                raise MalformedMessage(f"the body is no {algorithm}: {error}") from error
        raise FrameTooLarge(f"unpacked over the limit of {limit} bytes")

    async def _room(self, n_bytes: int, held: AsyncExitStack, deadline_s: float) -> None:
        if n_bytes:
            await held.enter_async_context(self._receiver.room(n_bytes, deadline_s=deadline_s))


def _said_bytes(body: bytes, algorithm: str) -> int:
    """What a body says it unpacks to: the last member's size (gzip), the first frame's (zstd). A hint."""
    if algorithm == "gzip":
        return int.from_bytes(body[-4:], "little")
    try:
        size: int = zstandard.frame_content_size(body)
    except zstandard.ZstdError:
        return 0
    return max(size, 0)


def _plain(status: int, text: str, **headers: str) -> web.Response:
    return web.Response(status=status, text=text + "\n", headers=headers)


def _response(answer: Answer, media_type: str, *, whole: bool) -> web.Response:
    """An answer over HTTP. `whole`: the body was read to its end, so the connection can go on."""
    headers = {"Content-Type": media_type}
    if answer.code == OK:
        return web.Response(body=response_body(answer, media_type), headers=headers)
    status = http_status(answer)
    if answer.retry_after_s is not None:
        headers["Retry-After"] = str(answer.retry_after_s or RETRY_AFTER_S)
    if answer.code == UNAUTHENTICATED:
        headers["WWW-Authenticate"] = "Bearer"
    response = web.Response(status=status, body=status_body(answer, media_type), headers=headers)
    if not whole:
        response.force_close()
    return response
