"""The HTTP server that others watch the sidecar by: `/metrics`, `/health/live`, `/health/ready`, and the page for people (`page.py`).

Rules of this file:

1. It reads and never changes anything: the numbers are `Counters`, the readiness is a callable.
2. `/health/live` is 200 as long as the event loop turns. `/health/ready` is 200 when nothing stands in the way, else 503 with the
   reasons as JSON: `{"ready": false, "reasons": ["sink es has not been reached for 80 s"]}`.
3. Only GET and HEAD. `/metrics` wants `Authorization: Bearer TOKEN` if a token is set, compared in constant time.
"""

from __future__ import annotations

import hmac
import ssl
from collections.abc import Callable, Sequence
from http import HTTPStatus

from aiohttp import web

from esa_tls.telemetry import CONTENT_TYPE, Counters
from esa_tls.web.page import WebPage

CLOSE_TIMEOUT_S = 2.0
"""Requests under way at `stop` get this long."""


class WebServer:
    """Serves all of it on one address; built once, started once, stopped any number of times."""

    def __init__(
        self,
        counters: Counters,
        *,
        host: str,
        port: int,
        reasons_not_ready: Callable[[], Sequence[str]],
        metrics_token: str | None = None,
        tls: ssl.SSLContext | None = None,
        page: WebPage | None = None,
    ) -> None:
        """Take everything it shows; `port` 0 takes a free one. `reasons_not_ready` is asked at each request, and empty means ready.

        `page`: None if people get none here.
        """
        self._counters = counters
        self._host = host
        self._port = port
        self._reasons_not_ready = reasons_not_ready
        self._expected = None if metrics_token is None else f"Bearer {metrics_token}".encode()
        self._tls = tls
        self._page = page
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        assert self._runner is not None
        return int(self._runner.addresses[0][1])

    async def start(self) -> None:
        """Begin to listen. Raises OSError if the address cannot be had; nothing is left open then."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/health/live", self._live)
        app.router.add_get("/health/ready", self._ready)
        if self._page is not None:
            self._page.add_to(app)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSE_TIMEOUT_S)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port, ssl_context=self._tls).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner

    async def stop(self) -> None:
        """Stop listening and end what is under way. Safe before `start` and twice."""
        runner, self._runner = self._runner, None
        if self._page is not None:
            await self._page.close()
        if runner is not None:
            await runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        if self._expected is not None:
            given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
            if not hmac.compare_digest(given, self._expected):
                return web.Response(status=HTTPStatus.UNAUTHORIZED, headers={"WWW-Authenticate": "Bearer"})
        return web.Response(body=self._counters.prometheus_text().encode(), headers={"Content-Type": CONTENT_TYPE})

    async def _live(self, _request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _ready(self, _request: web.Request) -> web.Response:
        reasons = list(self._reasons_not_ready())
        status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
        return web.json_response({"ready": not reasons, "reasons": reasons}, status=status)
