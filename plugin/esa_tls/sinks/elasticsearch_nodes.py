"""HTTP to the nodes of an Elasticsearch or OpenSearch cluster: which node is asked, how to get in, and what to do when one does not answer.

No client library: the official ones ask the server which product it is and refuse the other one, and both bring retries of their own, which
are the dispatcher's business here. What is left of them is one POST.

Rules:

1. Nodes take turns. One that cannot be reached, breaks off or says 502, 503 or 504 is left out for a while, twice as long each time, up to
   a minute; if there is no other, the one that has rested longest is asked. A node that answers is well.
2. A node that cannot be reached costs nothing: the next one is asked at once. After anything else the caller decides.
3. A connection kept open may have been closed meanwhile, so a request that meets a closed one is repeated once.
4. A node that closes without an answer after a compressed body, also on a new connection, is asked again without compression; if that
   is answered it gets plain bodies for ten minutes.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from esa_tls.errors import TransientError
from esa_tls.sinks.http_client import Disconnected, HttpClient, Response, Unreached, gzipped

log = logging.getLogger(__name__)

REST_S = 1.0
"""How long a node is left out after its first failure; doubled with each further one."""
MAX_REST_S = 60.0

PLAIN_FOR_S = 600.0

MAX_BULK_RESPONSE_BYTES = 64 << 20
"""A bulk answer has some hundred bytes for each record that failed."""

BUSY = frozenset({502, 503, 504})
"""Statuses after which a node is left out for a while."""


class _Node:
    """One node, and how it is doing."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.failures = 0
        self.rests_until_s = 0.0
        self.plain_until_s = 0.0


def authorization(*, api_key: str | None = None, username: str | None = None, password: str | None = None) -> dict[str, str]:
    """The header that lets us in, if any. `api_key`: the encoded one, as Elasticsearch shows it once."""
    if api_key is not None:
        return {"Authorization": f"ApiKey {api_key}"}
    if username is not None:
        pair = base64.b64encode(f"{username}:{password or ''}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    return {}


class Nodes:
    """See the module. `urls`: base URLs, a path in them stays in front. `client` is closed with it."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        client: HttpClient | None = None,
        headers: Mapping[str, str] | None = None,
        gzip: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nodes = [_Node(url) for url in urls]
        self._client = client or HttpClient(timeout_s=60.0, max_response_bytes=MAX_BULK_RESPONSE_BYTES)
        self._headers = dict(headers or {})
        self._gzip = gzip
        self._clock = clock
        self._turn = 0

    async def request(self, method: str, path: str, body: bytes = b"", *, content_type: str = "application/json") -> Response:
        """Ask one node; the answer's `url` is the node's. Raises TransientError if none can be reached, or the one asked did not answer."""
        failure: Exception | None = None
        packed: bytes | None = None
        for node in self._in_order():
            if body and self._gzip and packed is None and self._clock() >= node.plain_until_s:
                packed = await gzipped(body)
            try:
                response = await self._ask(node, method, path, body, packed, content_type)
            except Unreached as error:
                self._failed(node)
                failure = error
                continue
            except TransientError:
                self._failed(node)
                raise
            if response.status in BUSY:
                self._failed(node)
            else:
                node.failures, node.rests_until_s = 0, 0.0
            return msgspec.structs.replace(response, url=node.url)
        raise TransientError(f"no node can be reached: {failure}") from failure

    async def close(self) -> None:
        """Close all connections; safe twice and before the first request."""
        await self._client.close()

    # -- which node ------------------------------------------------------------------------------------------------------------
    def _in_order(self) -> list[_Node]:
        """Every node once: those that are well, in turns, then those that rest, the one that has rested longest first."""
        now_s = self._clock()
        self._turn = (self._turn + 1) % len(self._nodes)
        turned = self._nodes[self._turn :] + self._nodes[: self._turn]
        return sorted(turned, key=lambda node: node.rests_until_s if node.rests_until_s > now_s else 0.0)

    def _failed(self, node: _Node) -> None:
        node.failures += 1
        node.rests_until_s = self._clock() + min(REST_S * 2.0 ** min(node.failures - 1, 16), MAX_REST_S)

    # -- one request -----------------------------------------------------------------------------------------------------------
    async def _ask(self, node: _Node, method: str, path: str, body: bytes, packed: bytes | None, content_type: str) -> Response:
        url = node.url + path
        headers = {**self._headers, "Content-Type": content_type} if body else self._headers
        if packed is None or self._clock() < node.plain_until_s:
            return await self._client.request(method, url, body, headers)
        try:
            return await self._client.request(method, url, packed, {**headers, "Content-Encoding": "gzip"})
        except Disconnected:
            response = await self._client.request(method, url, body, headers)
        node.plain_until_s = self._clock() + PLAIN_FOR_S
        log.warning("A node closes without an answer after compressed bodies: it gets plain ones for a while.", extra={"node": node.url})
        return response
