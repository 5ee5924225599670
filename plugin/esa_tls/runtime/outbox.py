"""The outbox inside the journal: reading rows, and finding out which nobody needs any more.

Each (class, encoding) is a column family with the sequence as key, so a sink that wants summaries neither reads nor keeps lines.
Nothing here writes: `Journal` does, with what is planned here. Only rows up to the durable tail exist for this file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from esa_tls.core.batch import Row
from esa_tls.runtime.journal_format import (
    Numbers,
    Totals,
    number,
    number_at_end,
    sequence_of,
    stored_row,
    stored_totals,
    stream_name,
    stream_pair,
)
from esa_tls.runtime.rocks import OUTBOXES, Rocks


class Range(NamedTuple):
    """Rows to delete: from the first to the last sequence of a family, and their bytes."""

    family: str
    first: int
    last: int
    size_bytes: int


class Outbox:
    """Rows between what is trimmed and the durable tail."""

    def __init__(self, rocks: Rocks) -> None:
        self._rocks = rocks
        self.numbers = Numbers()
        """As of the last durable commit; the journal sets it."""
        self.sequences: dict[str, int | dict[str, int]] = {}
        """Sink -> up to where it is served, as last saved."""
        self.readers: Mapping[str, frozenset[tuple[str, str]]] | None = None
        """Sink -> (class, encoding) that it reads; None = not known, everything is kept."""
        self._trimmed: dict[str, tuple[int, int]] = {}

    def forget(self) -> None:
        """Rows may have gone or come back: look again where each (class, encoding) begins."""
        self._trimmed = {}

    def wanted(self) -> frozenset[tuple[str, str]] | None:
        """All (class, encoding) that somebody reads; None = not known."""
        return None if self.readers is None else frozenset().union(*self.readers.values())

    # -- reading -----------------------------------------------------------------------------------------------------------------
    def read(self, after: int, *, classes: Collection[str], encoding: str, max_bytes: int) -> list[tuple[int, Row]]:
        """See `Journal.read`."""
        complete_to = self.numbers.tail
        rows: list[tuple[int, Row]] = []
        for cls in classes:
            name = stream_name(cls, encoding)
            if name not in OUTBOXES:
                continue
            pairs = self._rocks.scan(name, number(after + 1), number(complete_to + 1), max_bytes=max_bytes)
            rows += [(number_at_end(key), Row(cls, encoding, stored_row(value).segments)) for key, value in pairs]
            if sum(len(value) for _, value in pairs) >= max_bytes:
                complete_to = number_at_end(pairs[-1][0])  # beyond it this class may have rows that were not read
        if len(classes) > 1:
            rows = sorted((row for row in rows if row[0] <= complete_to), key=lambda row: row[0])
        return rows

    def first(self, name: str, *, after: int = 0) -> tuple[int, bytes] | None:
        """The oldest row of a (class, encoding) behind `after`: sequence and stored value."""
        begin = max(after, self._trimmed.get(name, (0, 0))[0]) + 1
        pairs = self._rocks.scan(name, number(begin), number(self.numbers.tail + 1), max_items=1)
        return (number_at_end(pairs[0][0]), pairs[0][1]) if pairs else None

    def oldest(self) -> int:
        """The oldest sequence that can be read; the next one to come if there is none."""
        found = [first[0] for name in self.numbers.streams if (first := self.first(name))]
        return min(found, default=self.numbers.tail + 1)

    # -- trimming ----------------------------------------------------------------------------------------------------------------
    def delivered(self) -> list[Range]:
        """Rows that no reader needs any more. They count as trimmed from now on; `forget` if the delete fails."""
        ranges: list[Range] = []
        for name in self.numbers.streams if self.readers is not None else ():
            upto = self._needed_after(name)
            done, done_bytes = self._trimmed_to(name)
            if upto <= done:
                continue
            last = self._rocks.last(name, number(done + 1), number(upto + 1))
            total_bytes = done_bytes if last is None else stored_totals(last[1]).size_bytes
            self._trimmed[name] = (upto, total_bytes)
            if last is not None:
                ranges.append(Range(name, done + 1, upto, total_bytes - done_bytes))
        return ranges

    def _needed_after(self, name: str) -> int:
        cls, encoding = stream_pair(name)
        reached = [sequence_of(self.sequences.get(sink), cls) for sink, wanted in (self.readers or {}).items() if (cls, encoding) in wanted]
        return min([*reached, self.numbers.tail])

    def _trimmed_to(self, name: str) -> tuple[int, int]:
        """The last sequence that is gone, and the bytes there were up to it."""
        if name not in self._trimmed:
            first = self.first(name)
            if first is None:
                return 0, self.numbers.streams[name].size_bytes
            self._trimmed[name] = (first[0] - 1, stored_row(first[1]).before().size_bytes)
        return self._trimmed[name]

    def oldest_rows(self, n_bytes: int) -> tuple[list[Range], dict[str, dict[str, int]]]:
        """The oldest rows of at least `n_bytes` together, whoever needs them; and {sink: {kind: records it misses}}."""
        ranges: dict[str, Range] = {}
        missed: dict[str, dict[str, int]] = {}
        heads = {name: first for name in self.numbers.streams if (first := self.first(name))}
        while heads and sum(taken.size_bytes for taken in ranges.values()) < n_bytes:
            name = min(heads, key=lambda candidate: heads[candidate][0])
            sequence, value = heads.pop(name)
            taken = ranges.get(name, Range(name, sequence, sequence, 0))
            ranges[name] = taken._replace(last=sequence, size_bytes=taken.size_bytes + len(value))
            self._count_missed(missed, name, sequence, value)
            following = self.first(name, after=sequence)
            if following:
                heads[name] = following
        return list(ranges.values()), missed

    def _count_missed(self, missed: dict[str, dict[str, int]], name: str, sequence: int, value: bytes) -> None:
        cls, encoding = stream_pair(name)
        for sink, wanted in (self.readers or {}).items():
            if (cls, encoding) in wanted and sequence_of(self.sequences.get(sink), cls) < sequence:
                kinds = missed.setdefault(sink, {})
                for kind, records, _ in stored_row(value).segments:
                    kinds[kind] = kinds.get(kind, 0) + records

    # -- looking -----------------------------------------------------------------------------------------------------------------
    def held(self) -> dict[str, Totals]:
        """What is kept now of each (class, encoding)."""
        return {name: totals - self._gone(name) for name, totals in self.numbers.streams.items()}

    def _gone(self, name: str) -> Totals:
        first = self.first(name)
        return self.numbers.streams[name] if first is None else stored_row(first[1]).before()

    def sink_status(self, sink: str, reads: Collection[tuple[str, str]]) -> dict[str, Any]:
        """Where a sink is and how much it has not got yet (all kinds of the rows it reads)."""
        sequence = self.sequences.get(sink)
        lag = Totals()
        for cls, encoding in reads:
            name = stream_name(cls, encoding)
            if name in self.numbers.streams:
                last = self._rocks.last(name, number(0), number(min(sequence_of(sequence, cls), self.numbers.tail) + 1))
                got = self._gone(name) if last is None else stored_totals(last[1])
                lag += self.numbers.streams[name] - got
        return {"sequence": sequence, "reads": sorted(stream_name(*pair) for pair in reads), "lag": lag.as_dict()}
