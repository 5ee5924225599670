from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contract.delivery_fakes import row, rows_of
from tests.examples import examples

from esa_tls.core.batch import Row
from esa_tls.core.records import KINDS
from esa_tls.wire.json_batches import Entry, batches_of, entries_of, halves


def entry(number: int, size: int) -> Entry:
    """An entry of so many bytes."""
    return Entry(0, 0, number, "line", b"x" * size)


def test_entries_are_the_records_with_their_places() -> None:
    """Every record of the wanted kinds, without its line feed, in order."""
    rows = [row("json", [1, 2]), rows_of("json", [("connection", [3]), ("message", [4, 5])])]
    found = list(entries_of(rows, {"line", "message"}))
    assert [(0, 0, 0, "line"), (0, 0, 1, "line"), (1, 1, 0, "message"), (1, 1, 1, "message")] == [one[:4] for one in found]
    assert b"".join(one.data + b"\n" for one in found) == rows[0].segments[0][2] + rows[1].segments[1][2]


def test_a_text_in_a_record_ends_none() -> None:
    """Only a line feed ends a record: line separators of Unicode and a carriage return stay inside."""
    body = '{"a":"\u2028\x85\x0c"}\r\n{"b":1}\n'.encode()
    assert [b'{"a":"\xe2\x80\xa8\xc2\x85\x0c"}\r', b'{"b":1}'] == [
        one.data for one in entries_of([Row("line", "json", [("line", 2, body)])], KINDS)
    ]


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(2, 80), st.integers(1, 9))
@examples(100)
def test_batches_keep_order_and_limits(sizes: list[int], max_bytes: int, max_records: int) -> None:
    """Nothing is lost or turned round; no batch is over a limit; a record alone is refused only if it fits no batch."""
    entries = [entry(number, size) for number, size in enumerate(sizes)]
    batches, too_large = batches_of(entries, max_bytes=max_bytes, max_records=max_records)

    assert sorted([*too_large, *(one for batch in batches for one in batch)]) == entries
    assert [one for batch in batches for one in batch] == sorted(one for batch in batches for one in batch)
    for batch in batches:
        assert 1 <= len(batch) <= max_records
        assert len(b"[" + b",".join(one.data for one in batch) + b"]") <= max_bytes
    assert all(len(one.data) + 2 > max_bytes for one in too_large)


def test_batches_are_filled() -> None:
    """A new one is begun only where the record does not fit."""
    entries = [entry(number, 9) for number in range(10)]
    assert [5, 5] == [len(batch) for batch in batches_of(entries, max_bytes=51, max_records=100)[0]]
    assert [4, 4, 2] == [len(batch) for batch in batches_of(entries, max_bytes=50, max_records=100)[0]]
    assert [3, 3, 3, 1] == [len(batch) for batch in batches_of(entries, max_bytes=50, max_records=3)[0]]


@pytest.mark.parametrize("count", [2, 3, 7])
def test_halves(count: int) -> None:
    """In order, neither empty; a single record has none."""
    batch = [entry(number, 1) for number in range(count)]
    parts = halves(batch)
    assert parts is not None
    assert all(parts)
    assert batch == [*parts[0], *parts[1]]
    assert halves(batch[:1]) is None
