"""POST over HTTP for the sinks whose peers are plain web servers: one connection pool, TLS, time limits, compressed bodies.

What an answer means is the sink's business; here only what is no answer is an error. Redirects are not followed: where records go is
said in the configuration. A kept connection that the server has closed meanwhile is replaced once at once.
"""

from __future__ import annotations

import asyncio
import io
import ssl
from collections.abc import Callable, Mapping, Sequence

import aiohttp
import msgspec
from isal import igzip

from esa_tls.errors import TransientError

MAX_ANSWER_BYTES = 1 << 20
"""So much of an answer is read."""

SMALL_BYTES = 64 * 1024
"""A smaller body is compressed at once: a thread would cost more."""


class Answer(msgspec.Struct, frozen=True):
    """What a server said."""

    url: str
    status: int
    body: bytes
    retry_after: str | None = None

    def told(self) -> str:
        """For people: where, status, and the beginning of the text."""
        text = " ".join(self.body[:300].decode("utf-8", "backslashreplace").split())
        return f"{self.url}: {self.status} {text}".rstrip()


class Unreached(TransientError):
    """No connection: another server can be tried with the same request, which this one has never seen."""


class Poster:
    """`tls`: gives the context for https, asked at each request; None = the system's certificate authorities.

    `cookies`: give cookies back to who gave them, as balancers that send a client to the same server each time want it.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        connect_timeout_s: float = 5.0,
        tls: Callable[[], ssl.SSLContext] | None = None,
        server_name: str | None = None,
        cookies: bool = False,
    ) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=connect_timeout_s)
        self._tls = tls
        self._server_name = server_name
        self._cookies = cookies
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one request. Raises Unreached, or TransientError when the answer did not come."""
        try:
            try:
                return await self._once(url, body, headers)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if isinstance(error, aiohttp.ClientConnectorError):
                    raise
                return await self._once(url, body, headers)
        except aiohttp.ClientConnectorError as error:  # also TLS that does not come about
            raise Unreached(f"{url}: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TransientError(f"{url}: {str(error) or type(error).__name__}") from error

    async def post_first(self, urls: Sequence[str], body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send one request to the first of `urls` that can be reached; an answer, whatever it says, is the answer. Raises as `post`."""
        for url in urls[:-1]:
            try:
                return await self.post(url, body, headers)
            except Unreached:
                continue
        return await self.post(urls[-1], body, headers)

    async def close(self) -> None:
        """Close all connections; a later `post` fails."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _once(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        if self._closed:
            raise TransientError(f"{url}: closed")
        if self._session is None:
            # unsafe: cookies of servers that are named by their address, too
            jar = aiohttp.CookieJar(unsafe=True) if self._cookies else aiohttp.DummyCookieJar()
            self._session = aiohttp.ClientSession(timeout=self._timeout, cookie_jar=jar)
        async with self._session.post(
            url,
            data=io.BytesIO(body),
            headers={"Accept-Encoding": "identity", **headers},
            allow_redirects=False,
            ssl=True if self._tls is None else self._tls(),
            server_hostname=self._server_name,
        ) as response:
            answer = bytearray()
            async for piece in response.content.iter_any():
                answer += piece
                if len(answer) > MAX_ANSWER_BYTES:
                    response.close()
                    break
            return Answer(url, response.status, bytes(answer[:MAX_ANSWER_BYTES]), response.headers.get("Retry-After"))


async def gzipped(body: bytes) -> bytes:
    """The body in gzip."""
    if len(body) < SMALL_BYTES:
        return bytes(igzip.compress(body, 1))
    return bytes(await asyncio.to_thread(igzip.compress, body, 1))
