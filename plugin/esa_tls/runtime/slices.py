"""Cutting a large batch into slices that are committed as they come."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

from esa_tls.core.batch import Batch, Run

MAX_SLICE_LINES: Final = 2_000


def slices(batch: Batch, *, max_lines: int = MAX_SLICE_LINES) -> Iterator[Batch]:
    """Cut a batch into batches of at most `max_lines` lines; a small one comes back as it is.

    The n-th slice has the key hash(key, n): the same frame sent again is cut at the same places and gives the same keys.
    """
    if batch.line_count() <= max_lines:
        yield batch
        return
    runs: list[Run] = []
    room, n = max_lines, 0
    for run in batch.runs:
        begin = 0
        while begin < len(run.lines):
            end = min(begin + room, len(run.lines))
            times = None if run.sender_times_s is None else run.sender_times_s[begin:end]
            runs.append(Run(run.origin, run.lines[begin:end], times, run.flags))
            room -= end - begin
            begin = end
            if not room:
                yield _slice(batch, runs, n)
                runs, room, n = [], max_lines, n + 1
    if runs:
        yield _slice(batch, runs, n)


def _slice(batch: Batch, runs: list[Run], n: int) -> Batch:
    key = None if batch.key is None else blake2b(batch.key + n.to_bytes(8, "big"), digest_size=16).digest()
    return Batch(runs, batch.session, key, batch.received_s)
