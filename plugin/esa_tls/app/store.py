"""The embedded store in a running sidecar: its sink, its reader, and look-ups that ask the core and the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from esa_tls.api.lookup import Answer, Found, Lookup, Query
from esa_tls.config import Config
from esa_tls.errors import StoreError
from esa_tls.runtime.journal import Journal
from esa_tls.store.query import StoreReader
from esa_tls.store.sink import STORE, StoreSink
from esa_tls.store.write import Limits
from esa_tls.telemetry import Counters

FULL_SHARE = 2
"""The store counts as too far behind when the journal is half full..."""
LAG_SHARE = 8
"""...and an eighth of it is what the store has not got."""


def make_store(config: Config, journal: Journal, counters: Counters) -> tuple[StoreSink, StoreReader] | tuple[None, None]:
    """The store's sink and reader; both None if the configuration wants none."""
    settings = config.store
    if settings is None:
        return None, None
    sink = StoreSink(
        Path(config.data_dir, settings.path),
        Limits(
            max_age_s=settings.max_age_days * 86_400,
            max_bytes=settings.max_bytes,
            lines=settings.lines,
            max_lines_bytes=settings.max_lines_bytes,
        ),
        counters=counters,
        behind=_behind(journal, config.journal.max_bytes),
    )
    return sink, StoreReader(sink.path, damaged=sink.report_damage)


def _behind(journal: Journal, max_bytes: int) -> Callable[[], bool]:
    return lambda: journal.size_bytes() > max_bytes // FULL_SHARE and journal.lag_bytes(STORE) > max_bytes // LAG_SHARE


class JoinedLookup:
    """What is open or just gone, by the core; and what ended, by the store.

    Of one connection or message the open one is told; of one that is gone the store's record, which is the whole one.
    """

    def __init__(self, core: Lookup, store: StoreReader) -> None:
        self._core = core
        self._store = store

    async def lookup(self, query: Query) -> Answer:
        """See `Lookup`. A store that cannot answer now makes the answer incomplete."""
        answer = await self._core.lookup(query)
        try:
            kept = await self._store.lookup(query.by, query.value, appliance=query.appliance, epoch=query.epoch, limit=query.limit)
        except StoreError:
            return Answer(answer.found, incomplete=True)
        ended = {_key(record): record for record in kept.records}
        joined = []
        for one in answer.found:
            record = None if one.open else ended.get(_key(one.record))
            joined.append(one if record is None else Found(False, record))
            ended.pop(_key(one.record), None)
        joined += [Found(False, record) for record in ended.values()]
        joined.sort(key=lambda one: not one.open)
        return Answer(joined[: query.limit], incomplete=answer.incomplete or kept.incomplete or len(joined) > query.limit)


def _key(record: dict[str, Any]) -> tuple[object, ...]:
    own = record["cisco_esa"]
    entry = ("M", own["mid"]) if own["record"] == "message" else ("C", own["connection"]["id"])
    return own["appliance"], own["epoch"], *entry
