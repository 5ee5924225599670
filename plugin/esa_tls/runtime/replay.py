"""Dead letters of sinks once more: each to the sink that refused it, after what was wrong there has been put right.

Rules: nothing is deleted before the sink has it for good; what it refuses again stays, and so do letters of sources (they hold no records)
and of sinks that are not given. Ids are those of the first time, so a store that has a record already drops the repeat. A letter holds what
its sink was to get of a record then, and that is what is sent, whatever the sink's settings say now.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import islice

from esa_tls.core.batch import Row
from esa_tls.errors import PermanentError
from esa_tls.runtime.dispatch import Sink, record_ends
from esa_tls.runtime.journal import DeadLetter, Journal


async def replay(journal: Journal, sinks: Sequence[Sink], *, limit: int) -> int:
    """Send the oldest `limit` dead letters of these sinks again; returns how many were taken, and are deleted. Raises TransientError."""
    by_origin = {f"sink:{sink.name}": sink for sink in sinks}
    letters = list(islice(((n, letter) for n, letter in all_letters(journal) if letter.kind and letter.origin in by_origin), limit))
    delivered = 0
    async with AsyncExitStack() as opened:
        for origin in dict.fromkeys(letter.origin for _, letter in letters):
            opened.push_async_callback(by_origin[origin].close)
            await by_origin[origin].open(None)
        for number, letter in letters:
            segment = (letter.kind, max(1, len(record_ends(letter.encoding, letter.payload))), letter.payload)
            row = Row("line" if letter.kind == "line" else "summary", letter.encoding, [segment])
            try:
                await by_origin[letter.origin].send([(number, row)])
            except PermanentError:
                continue
            delivered += journal.delete_dead_letters([number])
    return delivered


def all_letters(journal: Journal) -> Iterator[tuple[int, DeadLetter]]:
    """All dead letters with their numbers, oldest first; read in pages, so that they need not fit into memory."""
    after = 0
    while page := journal.dead_letters(after=after, max_items=_PAGE_LETTERS):
        yield from page
        after = page[-1][0]


_PAGE_LETTERS = 256
