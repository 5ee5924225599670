"""What is an answer over HTTP, and what is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from tests.contract.http_receiver import HttpReceiver, Reply

from esa_tls.errors import TransientError
from esa_tls.sinks.http_client import Disconnected, HttpClient, Response, Unreached


@asynccontextmanager
async def listening(greet: Callable[[asyncio.StreamWriter], None]) -> AsyncIterator[int]:
    """The port of a listener that is no web server; `greet` is all it does with a connection."""
    writers: list[asyncio.StreamWriter] = []

    def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        greet(writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for writer in writers:
            writer.close()


async def test_who_does_not_begin_tls_is_not_reached() -> None:
    """A listener that says nothing to a TLS hello costs `connect_timeout_s`; then the next address has its turn."""
    client = HttpClient(timeout_s=20.0, connect_timeout_s=0.1)
    async with listening(lambda _: None) as silent, HttpReceiver() as receiver:
        with pytest.raises(Unreached, match=f"https://127.0.0.1:{silent}/: .*[Tt]imeout"):
            await client.post(f"https://127.0.0.1:{silent}/", b"x", {})
        response = await client.post_first([f"https://127.0.0.1:{silent}/", receiver.url], b"x", {})
        await client.close()
    assert (response.status, response.url) == (200, receiver.url)


async def test_a_connection_closed_twice_is_no_answer() -> None:
    """Once may be a kept connection that had its day; the second one tells."""
    seen = []

    def closing(writer: asyncio.StreamWriter) -> None:
        seen.append(writer)
        writer.close()

    client = HttpClient(timeout_s=20.0)
    async with listening(closing) as port:
        with pytest.raises(Disconnected):
            await client.post(f"http://127.0.0.1:{port}/", b"x", {})
        await client.close()
    assert len(seen) == 2


async def test_an_answer_is_read_up_to_its_limit() -> None:
    """What is beyond is left; status and headers are there all the same."""
    client = HttpClient(timeout_s=20.0, max_response_bytes=100)
    async with HttpReceiver(lambda _: Reply(503, b"x" * 300_000, {"Retry-After": "7"})) as receiver:
        response = await client.post(receiver.url, b"x", {})
        await client.close()
    assert (response.status, response.body, response.retry_after) == (503, b"x" * 100, "7")
    with pytest.raises(TransientError, match="closed"):
        await client.post(receiver.url, b"x", {})


@pytest.mark.parametrize(
    ("header", "expected"),
    [("application/JSON; charset=utf-8", "application/json"), ("", ""), (None, "")],
    ids=["parameters", "empty", "none"],
)
def test_media_types(header: str | None, expected: str) -> None:
    """Without parameters, in lower case."""
    headers = {} if header is None else {"content-type": header}
    assert expected == Response("http://a/", 200, headers, b"").media_type
