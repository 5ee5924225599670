"""Dead letters of sinks once more: each to the sink that refused it, after what was wrong there has been put right.

Rules: nothing is deleted before the sink has it for good; what it refuses again stays, and so do letters of sources (they hold no records)
and of sinks that are not given. Ids are those of the first time, so a store that has a record already drops the repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

from esa_tls.core.batch import Row
from esa_tls.errors import PermanentError
from esa_tls.runtime.dispatch import Sink, record_ends
from esa_tls.runtime.journal import Journal


async def replay(journal: Journal, sinks: Sequence[Sink], *, limit: int) -> int:
    """Send the oldest `limit` dead letters again; returns how many were delivered, and are deleted. Raises TransientError."""
    by_origin = {f"sink:{sink.name}": sink for sink in sinks}
    letters = [(number, letter) for number, letter in journal.dead_letters(max_items=limit) if letter.kind and letter.origin in by_origin]
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
