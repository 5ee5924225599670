"""A VictoriaLogs in a test: started on a free port, pushed to by the protocols it takes, asked by LogsQL, ended, and started again.

It stands in for Loki: it takes Loki's push protocol and answers for what it took. What it says yes to is not all kept (see `kept`), and
rows stay in memory for up to 5 s: only what was there before an `end` is there after it, a `kill` may lose the last seconds.
"""

from __future__ import annotations

import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import msgspec
from tests.peers.programs import READY_TIMEOUT_S, Program, Server, free_port

REQUEST_TIMEOUT_S = 60.0

PUSH = "/insert/loki/api/v1/push"
"""Where Loki's push protocol is taken: snappy protobuf, or JSON."""


class Reply(msgspec.Struct, frozen=True):
    """What it answered: the status and the bytes (text that is no UTF-8 comes back as it is)."""

    status: int
    body: bytes


class VictoriaLogs(Server):
    """One VictoriaLogs with its folder. `url` is where it takes requests, also after it was started again; `running` its process."""

    def __init__(self, program: Path, folder: Path, *flags: str) -> None:
        """`folder`: where it keeps its rows. `flags`: added to its command line, such as `-storage.minFreeDiskSpaceBytes=900TB`."""
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        # A retention of its own choice would drop the rows of tests, whose times are fixed.
        own = (f"-storageDataPath={folder}", f"-httpListenAddr=127.0.0.1:{self._port}", "-retentionPeriod=100y", "-loggerLevel=WARN")
        self._command: tuple[Path | str, ...] = (program, *own, *flags)
        super().__init__()

    def start(self) -> VictoriaLogs:
        """Return when it is ready, with what the folder held."""
        self.running = Program(*self._command)
        give_up_s = time.monotonic() + READY_TIMEOUT_S
        self.running.until_listening(self._port)
        while self.request("GET", "/health").status != 200:
            assert time.monotonic() < give_up_s, f"not ready: {self.running.text}"
            time.sleep(0.01)
        return self

    def end(self) -> None:
        """SIGTERM, if it runs: it keeps what it has."""
        if self.running is not None and self.running.process.poll() is None:
            assert self.running.end() == 0, self.running.text

    def request(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        """Ask it something. A bad status is no exception."""
        request = urllib.request.Request(self.url + path, data=body, method=method, headers=dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as response:
                return Reply(response.status, response.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, error.read())

    def push(self, streams: list[dict[str, object]]) -> None:
        """By Loki's push protocol, as JSON: `{"stream": labels, "values": [[ns, line, structured metadata], ...]}`.

        With `disable_message_parsing`, as a line that is a JSON object would be taken apart.
        """
        body = msgspec.json.encode({"streams": streams})
        reply = self.request("POST", f"{PUSH}?disable_message_parsing=1", body, {"Content-Type": "application/json"})
        assert reply.status == 204, reply

    def query(self, logsql: str, **parameters: str) -> list[dict[str, str]]:
        """What a query returns, once what was written until now can be found: a row per event, all values as text, in no order.

        `parameters`: `start`, `end`, `limit`, `time`, ... of the query API.
        """
        assert self.request("GET", "/internal/force_flush").status == 200
        form = urllib.parse.urlencode({"query": logsql, **parameters}).encode()
        reply = self.request("POST", "/select/logsql/query", form, {"Content-Type": "application/x-www-form-urlencoded"})
        assert reply.status == 200, f"{logsql}: {reply}"
        return [msgspec.json.decode(row, type=dict[str, str]) for row in reply.body.splitlines()]

    def dropped(self) -> dict[str, int]:
        """Rows that it said yes to and did not keep since it started, by its reason (`too_small_timestamp`, `too_many_fields`, ...).

        Records of over 2 MB are not among them: only its log (`running.text`) tells of those.
        """
        found = re.findall(r'^vl_rows_dropped_total\{reason="(\w+)"\} (\d+)$', self.request("GET", "/metrics").body.decode(), re.MULTILINE)
        return {reason: int(rows) for reason, rows in found if int(rows)}
