"""HTTP for all sinks that speak it: one pool of connections, TLS, time limits, compressed bodies.

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

MAX_RESPONSE_BYTES = 1 << 20
"""So much of an answer is read, if the sink does not say otherwise."""

SMALL_BYTES = 64 * 1024
"""A smaller body is compressed at once: a thread would cost more."""


class Response(msgspec.Struct, frozen=True):
    """What a server said, whatever it is. `headers` have lower-case names."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after(self) -> str | None:
        """The header `Retry-After`, if there is one."""
        return self.headers.get("retry-after")

    @property
    def media_type(self) -> str:
        """That of the body, without parameters; "" if it is not said."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def told(self) -> str:
        """For people: where, status, and the beginning of the text."""
        text = " ".join(self.body[:300].decode("utf-8", "backslashreplace").split())
        return f"{self.url}: {self.status} {text}".rstrip()


class Unreached(TransientError):
    """No connection: another server can be tried with the same request, which this one has never seen."""


class Disconnected(TransientError):
    """The connection was closed instead of an answer, and a new one was too."""


class HttpClient:
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
        max_response_bytes: int = MAX_RESPONSE_BYTES,
    ) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=connect_timeout_s)
        self._tls = tls
        self._server_name = server_name
        self._cookies = cookies
        self._max_response_bytes = max_response_bytes
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Response:
        """`request` with POST."""
        return await self.request("POST", url, body, headers)

    async def post_first(self, urls: Sequence[str], body: bytes, headers: Mapping[str, str]) -> Response:
        """`post` to the first of `urls` that can be reached; an answer, whatever it says, is the answer."""
        for url in urls[:-1]:
            try:
                return await self.post(url, body, headers)
            except Unreached:
                continue
        return await self.post(urls[-1], body, headers)

    async def request(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Response:
        """Send one request. Raises Unreached, Disconnected, or TransientError when the answer did not come otherwise."""
        try:
            try:
                return await self._once(method, url, body, headers)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if isinstance(error, aiohttp.ClientConnectorError):
                    raise
                return await self._once(method, url, body, headers)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:  # also TLS that does not come about
            raise Unreached(f"{url}: {str(error) or type(error).__name__}") from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise Disconnected(f"{url}: {str(error) or type(error).__name__}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TransientError(f"{url}: {str(error) or type(error).__name__}") from error

    async def close(self) -> None:
        """Close all connections; a later request fails. Safe twice and before the first request."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _once(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> Response:
        if self._closed:
            raise TransientError(f"{url}: closed")
        if self._session is None:
            # unsafe: cookies of servers that are named by their address, too
            jar = aiohttp.CookieJar(unsafe=True) if self._cookies else aiohttp.DummyCookieJar()
            self._session = aiohttp.ClientSession(timeout=self._timeout, cookie_jar=jar)
        async with self._session.request(
            method,
            url,
            data=io.BytesIO(body) if body else None,
            headers={"Accept-Encoding": "identity", **headers},
            allow_redirects=False,
            ssl=True if self._tls is None else self._tls(),
            server_hostname=self._server_name,
        ) as response:
            said = bytearray()
            async for piece in response.content.iter_any():
                said += piece
                if len(said) > self._max_response_bytes:
                    response.close()
                    break
            names = {name.lower(): value for name, value in response.headers.items()}
            return Response(url, response.status, names, bytes(said[: self._max_response_bytes]))


async def gzipped(body: bytes) -> bytes:
    """The body in gzip."""
    if len(body) < SMALL_BYTES:
        return bytes(igzip.compress(body, 1))
    return bytes(await asyncio.to_thread(igzip.compress, body, 1))
