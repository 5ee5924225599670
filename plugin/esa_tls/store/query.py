"""Questions to the embedded store: the only module that the page and the gRPC service's look-up need.

`StoreReader(path)` is made once; it opens the file when it is first asked, reads it with connections of its own in threads of its own
(reads never hold up the writer, nor it them), and opens it anew when it was set aside. While there is no file every answer is empty.

Every call is a coroutine, safe to cancel, and may raise `StoreError` (a file that cannot be read now: `StoreUnreadable`). A call ends after
`MAX_QUESTION_S`; answers that have a word for it are then `incomplete`, others raise `StoreBusy`. The Structs are in `answers.py`.

    store = StoreReader(Path(data_dir, "store.sqlite"))
    page = await store.search(Filter(text="bob@example.org", kinds=frozenset({"message"})), limit=50)
    page = await store.search(same_filter, limit=50, after=page.next)
    story = await store.message("esa1", 0, 200257070)        # None: nothing is known of it
    story = await store.connection("esa1/0/ICID/282204970")
    record = await store.record("6923a061fae336fa3b273c8e29")      # by event.id
    overview = await store.overview(since_s=..., until_s=...)
    ranked = await store.top("clear_out_domains", since_s=..., until_s=..., limit=20)
    tallies = await store.tally(Filter(text="example.org"))        # counts of what a search would find
    found = await store.lookup("mid", 200257070)                   # what api.lookup.Lookup asks for
    names = await store.appliances()
    status = await store.status()
    await store.close()
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from esa_tls.store.answers import (
    ApplianceSeen,
    ConnectionStory,
    Filter,
    Found,
    MessageStory,
    Overview,
    Page,
    Ranked,
    StoreStatus,
    Tally,
    Top,
)

MAX_QUESTION_S: Final = 2.0


class StoreReader:
    """See the module. `path`: the store's file."""

    def __init__(self, path: Path) -> None: ...

    async def search(self, wanted: Filter, *, limit: int = 50, after: str | None = None) -> Page:
        """Records that fit, the latest first, at most `limit` (1 to 1,000). `after`: `Page.next` of the page before, with the same filter.

        Raises ValueError for an `after` that is none of ours.
        """

    async def record(self, record_id: str) -> dict[str, Any] | None:
        """The record with this `event.id`."""

    async def message(self, appliance: str, epoch: int, mid: int, *, max_lines: int = 2_000) -> MessageStory | None:
        """The story of a message; None if neither a record nor a line of it is kept."""

    async def connection(self, connection_id: str, *, max_messages: int = 100, max_lines: int = 2_000) -> ConnectionStory | None:
        """The story of a connection, by `{appliance}/{epoch}/ICID/{n}` or `.../DCID/{n}`; None if nothing of it is kept."""

    async def overview(
        self, *, since_s: int | None = None, until_s: int | None = None, step_s: int | None = None, appliances: frozenset[str] = frozenset()
    ) -> Overview:
        """Aggregates of a period; without one of all there is. `step_s`: 3,600 or a multiple; None: one that gives at most 100 steps or so."""

    async def top(
        self,
        which: Top,
        *,
        since_s: int | None = None,
        until_s: int | None = None,
        limit: int = 20,
        appliances: frozenset[str] = frozenset(),
    ) -> list[Ranked]:
        """A ranking over a period (widened to whole hours), the most frequent first."""

    async def tally(self, wanted: Filter) -> list[Tally]:
        """Counts of the records that fit, by their words. Exact; raises StoreBusy when there are too many for the time."""

    async def lookup(
        self,
        by: Literal["mid", "icid", "dcid", "message_id", "recipient"],
        value: int | str,
        *,
        appliance: str | None = None,
        epoch: int | None = None,
        limit: int = 100,
    ) -> Found:
        """Ended connections (icid, dcid) or messages (mid, message_id, recipient) that fit."""

    async def appliances(self) -> list[ApplianceSeen]:
        """Every appliance with a record, by name."""

    async def status(self) -> StoreStatus:
        """What the store holds."""

    async def close(self) -> None:
        """Close every connection; the reader is done with."""
