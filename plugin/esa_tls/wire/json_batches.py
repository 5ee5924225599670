"""JSON records of outbox rows, one by one, and batches of them for sinks that send several in one request. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from esa_tls.core.batch import Row

__all__ = ["Entry", "batches_of", "entries_of", "halves"]


class Entry(NamedTuple):
    """One record as it is sent, and its place in the rows: `rows[row].segments[segment]`, the `record`-th."""

    row: int
    segment: int
    record: int
    kind: str
    data: bytes


def entries_of(rows: Sequence[Row], kinds: Collection[str]) -> Iterator[Entry]:
    """The records of these kinds in rows of the encoding `json`, in order, without their line feeds."""
    for at, row in enumerate(rows):
        for number, (kind, _, body) in enumerate(row.segments):
            if kind in kinds:
                for record, data in enumerate(body.removesuffix(b"\n").split(b"\n")):
                    yield Entry(at, number, record, kind, data)


def batches_of(entries: Iterable[Entry], *, max_bytes: int, max_records: int) -> tuple[list[list[Entry]], list[Entry]]:
    """Batches, in order, and the records that fit none. A record takes its bytes and one more in a batch, a batch one more."""
    batches: list[list[Entry]] = []
    too_large: list[Entry] = []
    batch: list[Entry] = []
    size = 1
    for entry in entries:
        needed = len(entry.data) + 1
        if needed >= max_bytes:
            too_large.append(entry)
            continue
        if batch and (size + needed > max_bytes or len(batch) >= max_records):
            batches.append(batch)
            batch, size = [], 1
        batch.append(entry)
        size += needed
    if batch:
        batches.append(batch)
    return batches, too_large


def halves(batch: Sequence[Entry]) -> tuple[list[Entry], list[Entry]] | None:
    """The two halves of a batch; None if it has a single record."""
    if len(batch) < 2:
        return None
    middle = len(batch) // 2
    return list(batch[:middle]), list(batch[middle:])
