"""What receivers for tests have alike: they listen on a free port of the loopback, hold answers back, and tell what they found wrong."""

from __future__ import annotations

import asyncio
import ssl
from types import TracebackType
from typing import Self

from aiohttp import web


class Receiver:
    """Listens while it is entered. `faults`: what was wrong with what came; it fails the test at the end."""

    def __init__(self) -> None:
        self.release: asyncio.Event | None = None
        """If given, answers wait for it."""
        self.waiting = 0
        self.most_at_once = 0
        """So many have waited at a time."""
        self.port = 0
        self.faults: list[BaseException] = []
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()
        if kind is None:
            assert not self.faults, self.faults

    async def start(self) -> None:
        """Listen: on a free port, or again on the same one after `stop`."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Stop listening and cut all connections."""
        raise NotImplementedError

    def hold(self) -> None:
        """From now on answers wait."""
        self.release = asyncio.Event()

    def let_go(self) -> None:
        """Those that wait are given, and later ones do not wait."""
        assert self.release is not None
        self.release.set()
        self.release = None

    async def until_waiting(self, requests: int) -> None:
        """Return when so many answers wait for `release`."""
        async with asyncio.timeout(20), self._changed:
            await self._changed.wait_for(lambda: self.waiting >= requests)

    async def held_back(self) -> None:
        """Wait for `release`, if it is given."""
        if self.release is None:
            return
        self.waiting += 1
        self.most_at_once = max(self.most_at_once, self.waiting)
        async with self._changed:
            self._changed.notify_all()
        try:
            await self.release.wait()
        finally:
            self.waiting -= 1


class WebReceiver(Receiver):
    """A web server; `respond` says what to do with a request."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self._tls = tls
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}" if self._tls is None else f"https://localhost:{self.port}"

    async def start(self) -> None:
        """Listen: on a free port, or again on the same one after `stop`."""
        self._runner = web.ServerRunner(web.Server(self.respond, access_log=None, auto_decompress=False), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening and cut all connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        raise NotImplementedError


def cut_off(request: web.BaseRequest) -> web.Response:
    """Close the connection instead of an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()
