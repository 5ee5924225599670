from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from esa_tls.telemetry import CONTENT_TYPE, LINES, Counters
from esa_tls.web.server import WebServer


@asynccontextmanager
async def serving(
    counters: Counters | None = None, *, reasons: list[str] | None = None, token: str | None = None
) -> AsyncIterator[tuple[aiohttp.ClientSession, WebServer]]:
    """A started server on a free port, and a client that talks to it."""
    server = WebServer(counters or Counters(), host="127.0.0.1", port=0, reasons_not_ready=lambda: reasons or [], metrics_token=token)
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as client:
            yield client, server
    finally:
        await server.stop()


async def test_metrics_are_the_counters_page() -> None:
    """`/metrics` gives the numbers as they are at that moment, with Prometheus' media type."""
    counters = Counters()
    counters.add(LINES, 3, source="fluent")
    async with serving(counters) as (client, _), client.get("/metrics") as answer:
        assert answer.status == 200
        assert CONTENT_TYPE == answer.headers["Content-Type"]
        assert 'esa_tls_lines_total{source="fluent"} 3' in (await answer.text()).splitlines()


async def test_alive_as_long_as_it_answers() -> None:
    """`/health/live` is 200 even when the sidecar is not ready."""
    async with serving(reasons=["disk full"]) as (client, _), client.get("/health/live") as answer:
        assert (200, {"live": True}) == (answer.status, await answer.json())


async def test_ready_when_nothing_stands_in_the_way() -> None:
    """`/health/ready` is 200 with no reasons."""
    async with serving() as (client, _), client.get("/health/ready") as answer:
        assert (200, {"ready": True, "reasons": []}) == (answer.status, await answer.json())


async def test_not_ready_says_why() -> None:
    """`/health/ready` is 503 with the reasons as they are at each request."""
    reasons = ["the journal has no room: the sink 'es' holds 8 GiB", "source 'fluent' does not listen"]
    async with serving(reasons=reasons) as (client, _):
        async with client.get("/health/ready") as answer:
            assert (503, {"ready": False, "reasons": reasons}) == (answer.status, await answer.json())
        reasons.clear()
        async with client.get("/health/ready") as answer:
            assert answer.status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/metrics/x", 404), ("POST", "/metrics", 405), ("DELETE", "/health/live", 405), ("HEAD", "/metrics", 200)],
)
async def test_nothing_else_is_there(method: str, path: str, status: int) -> None:
    """Other paths are not found, and nothing can be changed."""
    async with serving() as (client, _), client.request(method, path) as answer:
        assert status == answer.status


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer ", "s3cret", "Basic s3cret", "bearer s3cret", "Bearer s3cret\u00fc"])
async def test_metrics_want_the_token(header: str | None) -> None:
    """With a token set, `/metrics` without exactly that token is 401 and shows nothing."""
    headers = {} if header is None else {"Authorization": header}
    async with serving(token="s3cret") as (client, _), client.get("/metrics", headers=headers) as answer:
        assert (401, "Bearer") == (answer.status, answer.headers["WWW-Authenticate"])
        assert "esa_tls" not in await answer.text()


async def test_the_token_opens_metrics_and_health_needs_none() -> None:
    """The right token is let in; health is open, as orchestrators send no headers."""
    async with serving(token="s3cret") as (client, _):
        async with client.get("/metrics", headers={"Authorization": "Bearer s3cret"}) as answer:
            assert answer.status == 200
        async with client.get("/health/ready") as answer:
            assert answer.status == 200


async def test_stop_closes_the_port() -> None:
    """After `stop` nobody answers, and the port can be had again."""
    async with serving() as (_, server):
        port = server.port
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.1", port)
    again = WebServer(Counters(), host="127.0.0.1", port=port, reasons_not_ready=list)
    await again.start()
    await again.stop()


async def test_stop_is_safe_at_any_time() -> None:
    """`stop` before `start` and twice does nothing."""
    server = WebServer(Counters(), host="127.0.0.1", port=0, reasons_not_ready=list)
    await server.stop()
    await server.start()
    await server.stop()
    await server.stop()


async def test_a_taken_address_is_an_os_error() -> None:
    """An address in use raises OSError at `start` and leaves nothing open; `stop` is still safe."""
    async with serving() as (_, server):
        second = WebServer(Counters(), host="127.0.0.1", port=server.port, reasons_not_ready=list)
        with pytest.raises(OSError, match="address already in use"):
            await second.start()
        await second.stop()
