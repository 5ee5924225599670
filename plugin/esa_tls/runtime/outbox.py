"""The outbox inside the journal: reading rows, and finding out which nobody needs any more.

Each (class, encoding) is a column family with the sequence as key, so a sink that wants summaries neither reads nor keeps lines.
Nothing here writes: `Journal` does, with what is planned here. Only rows up to the durable tail exist for this file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from esa_tls.core.batch import Row
from esa_tls.errors import JournalCorrupt
from esa_tls.runtime.journal_format import (
    Numbers,
    Totals,
    Trimmed,
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
    """Rows to delete: from the first sequence of a family to the last, their bytes, and the totals up to the last."""

    family: str
    first: int
    last: int
    size_bytes: int
    totals: Totals


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
        self.trimmed: dict[str, Trimmed] = {}
        """How far each (class, encoding) is trimmed, as it is stored."""

    def check_ends(self) -> None:
        """Raise JournalCorrupt unless rows begin where trimming ended and end where the counters say."""
        for name, totals in self.numbers.streams.items():
            gone = self.trimmed.get(name, Trimmed()).totals
            first, last = self.first(name), self._rocks.last(name, number(0), number(2**64 - 1))
            begins = totals if first is None else stored_row(first[1]).before()
            ends = gone if last is None else stored_totals(last[1])
            if begins != gone or ends != totals or (last is not None and number_at_end(last[0]) > self.numbers.tail):
                raise JournalCorrupt(f"the journal is damaged: its rows {name!r} are not those that its counters say")

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
        begin = max(after, self.trimmed.get(name, Trimmed()).upto) + 1
        pairs = self._rocks.scan(name, number(begin), number(self.numbers.tail + 1), max_items=1)
        return (number_at_end(pairs[0][0]), pairs[0][1]) if pairs else None

    def oldest(self) -> int:
        """The oldest sequence that can be read; the next one to come if there is none."""
        found = [first[0] for name in self.numbers.streams if (first := self.first(name))]
        return min(found, default=self.numbers.tail + 1)

    # -- trimming ----------------------------------------------------------------------------------------------------------------
    def delivered(self) -> list[Range]:
        """Rows that no reader needs any more."""
        ranges: list[Range] = []
        for name in self.numbers.streams if self.readers is not None else ():
            upto, done = self._needed_after(name), self.trimmed.get(name, Trimmed())
            if upto > done.upto and done.totals != self.numbers.streams[name]:
                last = self._rocks.last(name, number(done.upto + 1), number(upto + 1))
                if last is not None:
                    totals = stored_totals(last[1])
                    ranges.append(Range(name, done.upto + 1, upto, totals.size_bytes - done.totals.size_bytes, totals))
        return ranges

    def _needed_after(self, name: str) -> int:
        cls, encoding = stream_pair(name)
        reached = [sequence_of(self.sequences.get(sink), cls) for sink, wanted in (self.readers or {}).items() if (cls, encoding) in wanted]
        return min([*reached, self.numbers.tail])

    def oldest_rows(self, n_bytes: int) -> tuple[list[Range], dict[str, dict[str, int]]]:
        """The oldest rows of at least `n_bytes` together, whoever needs them; and {sink: {kind: records it misses}}."""
        ranges: dict[str, Range] = {}
        missed: dict[str, dict[str, int]] = {}
        heads = {name: first for name in self.numbers.streams if (first := self.first(name))}
        while heads and sum(taken.size_bytes for taken in ranges.values()) < n_bytes:
            name = min(heads, key=lambda candidate: heads[candidate][0])
            sequence, value = heads.pop(name)
            taken = ranges.get(name, Range(name, sequence, sequence, 0, Totals()))
            ranges[name] = taken._replace(last=sequence, size_bytes=taken.size_bytes + len(value), totals=stored_totals(value))
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
        return {name: totals - self.trimmed.get(name, Trimmed()).totals for name, totals in self.numbers.streams.items()}

    def sink_status(self, sink: str, reads: Collection[tuple[str, str]]) -> dict[str, Any]:
        """Where a sink is and how much it has not got yet (all kinds of the rows it reads)."""
        sequence = self.sequences.get(sink)
        lag = Totals()
        for cls, encoding in reads:
            name = stream_name(cls, encoding)
            if name in self.numbers.streams:
                last = self._rocks.last(name, number(0), number(min(sequence_of(sequence, cls), self.numbers.tail) + 1))
                got = self.trimmed.get(name, Trimmed()).totals if last is None else stored_totals(last[1])
                lag += self.numbers.streams[name] - got
        return {"sequence": sequence, "reads": sorted(stream_name(*pair) for pair in reads), "lag": lag.as_dict()}
