"""The page as browsers get it: a real server on a free port in a thread of its own, on a store that was filled for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from tests.unit.store.store_cases import NOW_S

from esa_tls import telemetry
from esa_tls.api import rows
from esa_tls.core.batch import Sealed
from esa_tls.errors import StoreBusy
from esa_tls.runtime.dispatch import SinkStatus
from esa_tls.runtime.journal_format import DeadLetter
from esa_tls.store.answers import ConnectionStory, Filter, MessageStory, Page, StoreStatus
from esa_tls.store.query import StoreReader
from esa_tls.telemetry import Counters
from esa_tls.web.drawing import Drawer
from esa_tls.web.guard import Guard
from esa_tls.web.live import Live
from esa_tls.web.page import WebPage
from esa_tls.web.server import WebServer
from esa_tls.web.state import Listener, Sidecar

T = TypeVar("T")

JOURNAL: dict[str, Any] = {
    "size_bytes": 123_456_789,
    "max_bytes": 8 << 30,
    "free_bytes": 50 << 30,
    "commits": 4_321,
    "dead_letters": 2,
    "dead_letters_dropped": 0,
}


class BusyStore(StoreReader):
    """A store that can never answer."""

    async def status(self) -> StoreStatus:
        raise StoreBusy("it did not answer within 2 s")

    async def search(self, wanted: Filter, *, limit: int = 50, after: str | None = None) -> Page:
        raise StoreBusy("it did not answer within 2 s")

    async def message(self, appliance: str, epoch: int, mid: int, *, max_lines: int = 2_000) -> MessageStory | None:
        raise StoreBusy("it did not answer within 2 s")

    async def connection(self, connection_id: str, *, max_messages: int = 100, max_lines: int = 2_000) -> ConnectionStory | None:
        raise StoreBusy("it did not answer within 2 s")


class Served:
    """A started page. `counters` are what Health reads; `close` ends it."""

    def __init__(
        self,
        store: StoreReader | None,
        *,
        token: str | None = None,
        reasons: Sequence[str] = (),
        sinks: Sequence[SinkStatus] = (),
        letters: Sequence[DeadLetter] = (),
        listeners: Sequence[Listener] = (Listener("fluent", "Fluent Forward", "127.0.0.1:24224"),),
        now_s: float = NOW_S,
    ) -> None:
        self.counters = Counters()
        self.store = store
        self.live = Live(rows.readable, rows.decode)
        sidecar = Sidecar(
            store=store,
            live=self.live,
            counters=self.counters,
            reasons_not_ready=lambda: reasons,
            sinks=lambda: sinks,
            journal=lambda: JOURNAL,
            dead_letters=lambda number: list(enumerate(letters, start=1))[:number],
            listeners=listeners,
            version="1.2.3",
        )
        page = WebPage(sidecar, Guard(token=token), drawer=Drawer(idle_s=600), now_s=lambda: now_s)
        self._server = WebServer(self.counters, host="127.0.0.1", port=0, reasons_not_ready=lambda: reasons, page=page)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="page", daemon=True)
        self._thread.start()
        self.ask(self._server.start())
        self.url = f"http://127.0.0.1:{self._server.port}"

    def ask(self, what: Coroutine[Any, Any, T]) -> T:
        """Run it on the server's loop."""
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    def commit(self, groups: Sequence[Sealed]) -> None:
        """What the intake does after a commit."""
        self._loop.call_soon_threadsafe(self.live.committed, groups)

    def close(self) -> None:
        """End it."""
        self.ask(self._server.stop())
        if self.store is not None:
            self.ask(self.store.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


def counted(counters: Counters, appliance: str = "esa1", shape: str = "mid=9 kind=experimental") -> None:
    """Numbers for Health to show."""
    counters.add(telemetry.LINES, 12_345, source="fluent")
    counters.add(telemetry.LINE_BYTES, 1_234_567, source="fluent")
    counters.add(telemetry.UNRECOGNISED, 3, shape=shape)
    counters.add(telemetry.SINK_SENT, 999, sink="es", kind="line")
    counters.gauge(telemetry.EVENT_TIME_LAG, lambda: 3.0, appliance=appliance)
