"""An OpenSearch node in a test: started on free ports, asked over HTTP, ended or killed, and started again on the same folder.

Tests that only want a store use the fixture `opensearch` (one node for a whole run, so they take names of their own); those that kill it or
need settings of their own use `opensearch_node`.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
from tests.peers import building
from tests.peers.building import Built
from tests.peers.programs import Server, free_port, java_program

START_TIMEOUT_S = 90.0
"""4 s on a machine that has nothing else to do."""
REQUEST_TIMEOUT_S = 60.0

HEAP = "512m"


class Answer(msgspec.Struct, frozen=True):
    """What the node answered: the status, and its JSON (`None` for an empty body)."""

    status: int
    body: Any


class OpenSearch(Server):
    """One node. `url` is where it takes requests, also after it was started again; `running` its process."""

    def __init__(self, built: Built, folder: Path, *settings: str, java: int = building.SYSTEM_JAVA) -> None:
        """`folder`: where it keeps its data. `settings`: `name=value`, added to those of `PeerNode.java`. `java`: the oldest it runs on."""
        self._built = built
        self._java = java
        self._folder = folder
        self._settings = settings
        self._ports = (str(free_port()), str(free_port()))
        self.url = f"http://127.0.0.1:{self._ports[0]}"
        super().__init__()

    def start(self) -> OpenSearch:
        """Return when it is ready, with what the folder held."""
        java = building.java(self._java)
        assert java is not None
        self.running = java_program(self._built.folder, HEAP, "PeerNode", self._folder, *self._ports, *self._settings, java=java)
        give_up_s = time.monotonic() + START_TIMEOUT_S
        self.running.until_said("^READY$", within_s=START_TIMEOUT_S)
        while self.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=1s").status != 200:
            assert time.monotonic() < give_up_s, f"not ready: {self.running.text}"
        return self

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        """Ask it something. `body` is sent as JSON; bytes (newline-delimited JSON) as they are. A bad status is no exception."""
        data = body if isinstance(body, bytes | None) else msgspec.json.encode(body)
        kind = "application/x-ndjson" if isinstance(body, bytes) else "application/json"
        request = urllib.request.Request(self.url + path, data=data, method=method, headers={"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as response:
                return _answer(response.status, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error.code, error.read())

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask it something that must go well; the JSON that it answers."""
        answer = self.request(method, path, body)
        assert answer.status in (200, 201), f"{method} {path}: {answer}"
        return answer.body

    def documents(self, target: str, query: dict[str, Any] | None = None, *, source: bool | list[str] = True) -> list[dict[str, Any]]:
        """All hits (`_index`, `_id`, `_source`) of a query, in no order, once what was written until now can be found."""
        self.ask("POST", f"/{target}/_refresh")
        ask: dict[str, Any] = {"size": 5000, "query": query or {"match_all": {}}, "_source": source, "sort": ["_doc"]}
        page = self.ask("POST", f"/{target}/_search?scroll=5m", ask)
        hits: list[dict[str, Any]] = []
        while page["hits"]["hits"]:
            hits += page["hits"]["hits"]
            page = self.ask("POST", "/_search/scroll", {"scroll": "5m", "scroll_id": page["_scroll_id"]})
        self.ask("DELETE", "/_search/scroll", {"scroll_id": [page["_scroll_id"]]})
        return hits


def _answer(status: int, body: bytes) -> Answer:
    try:
        return Answer(status, msgspec.json.decode(body) if body else None)
    except msgspec.DecodeError:
        return Answer(status, body.decode(errors="replace"))
