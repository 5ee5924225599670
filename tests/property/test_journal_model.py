"""The journal beside a model of a few dicts: whatever is done to both, they say the same."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.examples import TIMES
from tests.unit.runtime.journal_cases import MIB, cursor

from esa_tls.core.batch import Row, Sealed
from esa_tls.runtime.journal import Journal

STREAMS = [("line", "json"), ("line", "forward"), ("summary", "json"), ("summary", "forward")]
SINKS = {"a": [STREAMS[0]], "b": [STREAMS[0], STREAMS[2]], "c": [STREAMS[1]]}
KEEP_KEYS = 5

small_keys = st.binary(min_size=1, max_size=2)
groups = st.builds(
    Sealed,
    rows=st.lists(
        st.builds(
            lambda stream, body: Row(stream[0], stream[1], [("line", len(body), body)]), st.sampled_from(STREAMS), st.binary(max_size=40)
        ),
        max_size=4,
    ),
    puts=st.lists(st.tuples(small_keys, st.binary(max_size=4)), max_size=4),
    deletes=st.lists(small_keys, max_size=3),
    keys=st.lists(st.binary(min_size=16, max_size=16) | st.sampled_from([b"k" * 16, b"l" * 16]), max_size=3),
)


class Model:
    """What the journal is supposed to be."""

    def __init__(self) -> None:
        self.state: dict[bytes, bytes] = {}
        self.rows: list[tuple[int, Row]] = []
        self.tail = 0
        self.keys: list[bytes] = []
        self.cursors: dict[str, int] = {}
        self.readers: dict[str, list[tuple[str, str]]] | None = None

    def commit(self, sealed: list[Sealed]) -> None:
        for group in sealed:
            for key in group.deletes:
                self.state.pop(key, None)
            self.state.update(group.puts)
            for row in group.rows:
                if self.readers is None or any((row.cls, row.encoding) in wanted for wanted in self.readers.values()):
                    self.tail += 1
                    self.rows.append((self.tail, row))
            self.keys += group.keys

    def knows(self, key: bytes) -> bool:
        return key in self.keys[-KEEP_KEYS:]

    def read(self, after: int, cls: list[str], encoding: str) -> list[tuple[int, Row]]:
        return [(n, row) for n, row in self.rows if n > after and row.cls in cls and row.encoding == encoding]

    def trim(self) -> None:
        def needed(n: int, row: Row) -> bool:
            readers = self.readers or {}
            return any((row.cls, row.encoding) in wanted and self.cursors.get(sink, 0) < n for sink, wanted in readers.items())

        if self.readers is not None:
            self.rows = [(n, row) for n, row in self.rows if needed(n, row)]


class JournalBesideModel(RuleBasedStateMachine):
    """Commits, reads, cursors, trims and reopens in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="journal-model-"))
        self.journal = Journal.open(self.folder, max_bytes=64 * MIB, keep_keys=KEEP_KEYS)
        self.model = Model()

    def teardown(self) -> None:
        self.journal.close()
        shutil.rmtree(self.folder)

    @rule(sealed=st.lists(groups, min_size=1, max_size=3))
    def commit(self, sealed: list[Sealed]) -> None:
        keys = [key for group in sealed for key in group.keys]
        for group in sealed:
            del group.keys[KEEP_KEYS - 3 :]  # more than are remembered do not come in one commit
        if len(keys) > KEEP_KEYS:
            sealed = sealed[:1]
        self.journal.commit(sealed)
        self.model.commit(sealed)

    @rule(sink=st.sampled_from(sorted(SINKS)), back=st.integers(0, 6))
    def save_cursor(self, sink: str, back: int) -> None:
        sequence = max(self.model.tail - back, 0)
        self.journal.save_cursor(sink, cursor(sequence))
        self.model.cursors[sink] = sequence

    @rule(sinks=st.sets(st.sampled_from(sorted(SINKS))))
    def set_readers(self, sinks: set[str]) -> None:
        self.model.readers = {sink: SINKS[sink] for sink in sinks}
        self.journal.set_readers(self.model.readers)

    @rule()
    def trim(self) -> None:
        before = sum(len(data) for _, row in self.model.rows for _, _, data in row.segments)
        self.model.trim()
        after = sum(len(data) for _, row in self.model.rows for _, _, data in row.segments)
        assert self.journal.trim() == before - after

    @rule()
    def tidy_up(self) -> None:
        self.journal._room.reclaim()

    @rule(inside=st.booleans())
    def reopen(self, inside: bool) -> None:
        if inside:
            self.journal._rocks.reopen()
            self.journal._load()
        else:
            self.journal.close()
            self.journal = Journal.open(self.folder, max_bytes=64 * MIB, keep_keys=KEEP_KEYS)
            self.model.readers = None

    @precondition(lambda self: self.model.tail > 0)
    @rule(cls=st.sampled_from([["line"], ["summary"], ["line", "summary"]]), encoding=st.sampled_from(["json", "forward"]), data=st.data())
    def read(self, cls: list[str], encoding: str, data: st.DataObject) -> None:
        after = data.draw(st.integers(0, self.model.tail))
        max_bytes = data.draw(st.sampled_from([1, 60, MIB]))
        expected = self.model.read(after, cls, encoding)
        found = self.journal.read(after, cls=cls, encoding=encoding, max_bytes=max_bytes)
        assert found == expected[: len(found)]
        assert bool(found) == bool(expected)
        if max_bytes == MIB:
            assert found == expected

    @invariant()
    def they_agree(self) -> None:
        assert dict(self.journal.items()) == self.model.state
        assert self.journal.tail() == self.model.tail
        assert all(self.journal.knows(key) == self.model.knows(key) for key in {*self.model.keys, b"k" * 16})
        assert self.journal.oldest() == min([n for n, _ in self.model.rows], default=self.model.tail + 1)
        held = {name: totals["rows"] for name, totals in self.journal.status()["outbox"].items() if totals["rows"]}
        assert held == {
            f"{cls}/{encoding}": len(rows)
            for cls, encoding in STREAMS
            if (rows := [row for _, row in self.model.rows if (row.cls, row.encoding) == (cls, encoding)])
        }


TestJournalBesideModel = JournalBesideModel.TestCase
TestJournalBesideModel.settings = settings(
    max_examples=15 * TIMES, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
