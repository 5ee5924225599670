"""A store with a `_bulk` interface for tests: it keeps what it takes by id, or answers what a test wants.

It stands where a real OpenSearch would not fail on demand; what a real one answers is tested in `tests/peers/`.
"""

from __future__ import annotations

import gzip
import json
import ssl
from collections.abc import Callable
from typing import Any

from aiohttp import web
from tests.contract.receiving import WebReceiver, cut_off


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


class BulkReceiver(WebReceiver):
    """Listens on a free port. `answer` says what to do with each request; `documents` is what is kept: (index, source) by id."""

    def __init__(self, answer: Callable[[BulkRequest], Reply] = lambda _: TAKE, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls=tls)
        self.answer = answer
        self.documents: dict[str, tuple[str, bytes]] = {}
        self.requests: list[BulkRequest] = []
        self.template: web.Response | Callable[[], web.Response] = lambda: web.json_response({"template": {"mappings": {}}})
        """What is said of an index template."""
        self.asked_for_template: list[str] = []
        self.max_record_bytes = 1 << 30
        """A larger record is refused for good."""

    def numbers(self) -> list[int]:
        """The ids of `delivery_fakes` records."""
        return [int(record_id.removeprefix("id-")) for record_id in self.documents]

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        """Take the records, or say what is known of a template."""
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
        await self.held_back()
        if reply.cut:
            return cut_off(request)
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
