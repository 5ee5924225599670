"""The Compliance view's numbers: mail of a period that was expected to go under TLS, audited from the records that the store keeps.

Only records that `require_tls` marked are read, by an index. How long a view may read is bounded, so that nobody waits for it; a file to
download reads on. Whether everything was read is said with the numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec

from esa_tls.offline.audit import Audit
from esa_tls.store.answers import Filter
from esa_tls.store.query import StoreReader

PAGE: Final = 1_000
MAX_VIEW_S: Final = 3.0
MAX_DOWNLOAD_S: Final = 120.0


class Audited(msgspec.Struct, frozen=True):
    """`complete`: every record of the period that is kept was read."""

    audit: Audit
    records: int
    complete: bool


async def audited(
    store: StoreReader,
    *,
    since_s: int | None,
    until_s: int | None,
    appliances: frozenset[str],
    within_s: float = MAX_VIEW_S,
    clock: Callable[[], float] = time.monotonic,
) -> Audited:
    """Read the marked deliveries and messages of a period, the latest first, for `within_s` at most. Raises StoreError."""
    audit, records = Audit(), 0
    until = clock() + within_s
    for kind in ("delivery", "message"):
        wanted = Filter(kinds=frozenset({kind}), expected=True, since_s=since_s, until_s=until_s, appliances=appliances)
        after: str | None = None
        while True:
            page = await store.search(wanted, limit=PAGE, after=after)
            for hit in page.hits:
                audit.add(kind, hit.record)
            records += len(page.hits)
            after = page.next
            if after is None:
                break
            if clock() >= until:
                return Audited(audit, records, complete=False)
    return Audited(audit, records, complete=True)
