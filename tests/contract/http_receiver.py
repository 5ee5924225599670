"""A web server for tests: it keeps every POST, and answers what a test wants."""

from __future__ import annotations

import gzip
import ssl
from collections.abc import Callable, Mapping

import msgspec
from aiohttp import web
from tests.contract.receiving import WebReceiver, cut_off


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


class HttpReceiver(WebReceiver):
    """Listens on a free port. `answer` says what to do with each request; all of them are in `requests`."""

    def __init__(self, answer: Callable[[Posted], Reply] = lambda _: OK, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls=tls)
        self.answer = answer
        self.requests: list[Posted] = []

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """Keep the request, and answer as the test wants."""
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
        await self.held_back()
        if reply.cut:
            return cut_off(request)
        return web.Response(status=reply.status, body=reply.body, headers=dict(reply.headers))
