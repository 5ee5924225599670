"""A web server for tests: it keeps every POST, and answers what a test wants."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import msgspec
from aiohttp import web


class Posted(msgspec.Struct, frozen=True):
    """A request as it came. `sent`: the body as it was sent; `body`: unpacked. Header names in lower case."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    sent: bytes
    body: bytes


class Reply(msgspec.Struct, frozen=True):
    """What to answer. `cut`: close the connection without an answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}
    cut: bool = False


OK = Reply()


class HttpReceiver:
    """Listens on a free port. `answer` says what to do with each request; all of them are in `requests`."""

    def __init__(self, answer: Callable[[Posted], Reply] = lambda _: OK, *, tls: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.requests: list[Posted] = []
        self.release: asyncio.Event | None = None
        """If given, answers wait for it."""
        self.waiting = 0
        self.port = 0
        self.faults: list[Exception] = []
        self._tls = tls
        self._changed = asyncio.Condition()
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}" if self._tls is None else f"https://localhost:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()
        if kind is None:
            assert not self.faults, self.faults

    async def start(self) -> None:
        """Listen: on a free port, or again on the same one after `stop`."""
        self._runner = web.ServerRunner(web.Server(self._post, access_log=None, auto_decompress=False), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening and cut all connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def until_waiting(self, requests: int) -> None:
        """Return when so many requests wait for `release`."""
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: self.waiting >= requests)

    async def _post(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            assert request.method == "POST"
            sent = await request.read()
            headers = {name.lower(): value for name, value in request.headers.items()}
            body = gzip.decompress(sent) if headers.get("content-encoding") == "gzip" else sent
            posted = Posted(request.path, dict(request.query), headers, sent, body)
            self.requests.append(posted)
            reply = self.answer(posted)
        except Exception as error:
            self.faults.append(error)
            raise
        if self.release is not None:
            self.waiting += 1
            async with self._changed:
                self._changed.notify_all()
            try:
                await self.release.wait()
            finally:
                self.waiting -= 1
        if reply.cut:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(status=reply.status, body=reply.body, headers=dict(reply.headers))
