"""A store with a `_bulk` interface for tests: it keeps what it takes by id, or answers what a test wants.

It stands where a real OpenSearch would not fail on demand; what a real one answers is tested in `tests/peers/`.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from aiohttp import web


class Reply:
    """What to answer to a request. `cut`: close the connection without an answer; `cut_after`: within one, after so many bytes."""

    def __init__(
        self,
        status: int = 200,
        *,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        cut: bool = False,
        cut_after: int | None = None,
        items: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.headers = headers or {}
        self.cut = cut
        self.cut_after = cut_after
        self.items = items or {}
        """Answers of single records, by id; the others are taken."""


TAKE = Reply()


def failed(status: int, name: str, reason: str = "told to", **more: Any) -> dict[str, Any]:
    """An item that failed, as a store tells it."""
    return {"status": status, "error": {"type": name, "reason": reason, **more}}


def error(status: int, name: str, reason: str = "told to", **headers: str) -> Reply:
    """A request that failed as a whole, as a store tells it."""
    body = {"error": {"root_cause": [{"type": name, "reason": reason}], "type": name, "reason": reason}, "status": status}
    return Reply(status, body=json.dumps(body).encode(), headers=headers)


class BulkRequest:
    """A request as it came: each record with its index and id, in order."""

    def __init__(self, data: bytes, headers: dict[str, str], *, compressed: bool) -> None:
        assert data.endswith(b"\n")
        self.size = len(data)
        self.headers = headers
        self.compressed = compressed
        lines = data.split(b"\n")[:-1]
        assert len(lines) % 2 == 0
        actions = [json.loads(line) for line in lines[::2]]
        assert all(set(action) == {"create"} for action in actions)
        self.indices = [action["create"]["_index"] for action in actions]
        self.ids = [action["create"].get("_id") for action in actions]
        self.sources = lines[1::2]


class BulkReceiver:
    """Listens on a free port. `answer` says what to do with each request; `documents` is what is kept: (index, source) by id."""

    def __init__(self, answer: Callable[[BulkRequest], Reply] = lambda _: TAKE, *, tls: Any = None) -> None:
        self.answer = answer
        self.documents: dict[str, tuple[str, bytes]] = {}
        self.requests: list[BulkRequest] = []
        self.template: web.Response | Callable[[], web.Response] = lambda: web.json_response({"template": {"mappings": {}}})
        """What is said of an index template."""
        self.asked_for_template: list[str] = []
        self.max_record_bytes = 1 << 30
        """A larger record is refused for good."""
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
        """For the sink's settings."""
        return f"http://127.0.0.1:{self.port}" if self._tls is None else f"https://localhost:{self.port}"

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()
        if kind is None:
            assert not self.faults, self.faults

    async def start(self) -> None:
        """Listen: on a free port, or again on the same one after `stop`."""
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None, auto_decompress=False), shutdown_timeout=0.1)
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

    def numbers(self) -> list[int]:
        """The ids of `delivery_fakes` records."""
        return [int(record_id.removeprefix("id-")) for record_id in self.documents]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        data = await request.read()
        if request.path.startswith("/_index_template/_simulate_index/"):
            self.asked_for_template.append(request.path.rpartition("/")[2])
            return self.template() if callable(self.template) else self.template
        compressed = request.headers.get("Content-Encoding") == "gzip"
        try:
            assert (request.method, request.path, request.content_type) == ("POST", "/_bulk", "application/x-ndjson")
            received = BulkRequest(gzip.decompress(data) if compressed else data, dict(request.headers), compressed=compressed)
        except Exception as fault:
            self.faults.append(fault)
            raise
        self.requests.append(received)
        reply = self.answer(received)
        await self._wait()
        if reply.cut:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if reply.status != 200:
            return web.Response(status=reply.status, body=reply.body, headers={"Content-Type": "application/json", **reply.headers})
        body = reply.body or json.dumps(self._taken(received, reply)).encode()
        if reply.cut_after is None:
            return web.Response(body=body, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: reply.cut_after])
        assert request.transport is not None
        request.transport.close()
        return response

    async def _wait(self) -> None:
        if self.release is None:
            return
        self.waiting += 1
        async with self._changed:
            self._changed.notify_all()
        try:
            await self.release.wait()
        finally:
            self.waiting -= 1

    def _taken(self, request: BulkRequest, reply: Reply) -> dict[str, Any]:
        items: list[dict[str, Any]] = []
        for record_id, index, source in zip(request.ids, request.indices, request.sources, strict=True):
            backing = f".ds-{index}-000001"
            if record_id in reply.items:
                item = reply.items[record_id]
            elif len(source) > self.max_record_bytes:
                item = failed(400, "illegal_argument_exception", "Document contains at least one immense term")
            elif record_id in self.documents:
                item = failed(409, "version_conflict_engine_exception", f"[{record_id}]: version conflict, document already exists")
            else:
                self.documents[record_id] = (index, source)
                item = {"status": 201}
            items.append({"create": {"_index": backing, **item}})
        return {"errors": any("error" in item["create"] for item in items), "items": items}
