from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.contract.delivery_fakes import ids_in, record, row
from tests.unit.runtime.test_dispatch import FakeSink, refusing

from esa_tls.errors import TransientError
from esa_tls.runtime.dispatch import Rows
from esa_tls.runtime.journal import Journal
from esa_tls.runtime.journal_format import DeadLetter
from esa_tls.runtime.replay import all_letters, replay


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """Letters of two sinks and of a source, in all encodings; one of several records, one from before letters named their kind."""
    with closing(Journal.open(tmp_path)) as opened:
        letters = [
            DeadLetter("sink:store", "rejected", record("json", 1), "json", kind="line"),
            DeadLetter("source:fluent", "no_line", b"\x01", "raw"),
            DeadLetter("sink:next", "rejected", record("forward", 2), "forward", kind="delivery"),
            DeadLetter("sink:store", "permanent", row("json", [3, 4]).segments[0][2], "json", kind="message"),
            DeadLetter("sink:store", "rejected", record("json", 5), "json"),
        ]
        opened.commit([], dead_letters=letters)
        yield opened


def left(journal: Journal) -> list[int]:
    """Numbers of the letters that are still there."""
    return [number for number, _ in journal.dead_letters()]


async def test_each_goes_to_the_sink_that_refused_it(journal: Journal) -> None:
    """What a sink takes now is deleted, with kind, class and number of records as in the outbox; the rest stays."""
    sent: Rows = []
    store, nxt = FakeSink(name="store", answer=sent.extend), FakeSink(name="next", encoding="forward", answer=sent.extend)

    assert await replay(journal, [store, nxt], limit=100) == 3
    assert [(one.cls, one.segments[0][:2]) for _, one in sent] == [
        ("line", ("line", 1)),
        ("summary", ("delivery", 1)),
        ("summary", ("message", 2)),
    ]
    assert [ids_in(one.encoding, one.segments[0][2]) for _, one in sent] == [[1], [2], [3, 4]]
    assert left(journal) == [2, 5]


async def test_what_is_refused_again_stays(journal: Journal) -> None:
    """So does what goes to a sink that is not there, and what lies behind the limit."""
    assert await replay(journal, [FakeSink(name="store", answer=refusing({1}))], limit=1) == 0
    assert left(journal) == [1, 2, 3, 4, 5]


async def test_a_sink_that_is_down_ends_it_and_nothing_is_lost(journal: Journal) -> None:
    """Letters are deleted one by one, as they are delivered."""

    def down_after_the_first(rows: Rows) -> None:
        if rows[0][0] != 1:
            raise TransientError("down")

    with pytest.raises(TransientError):
        await replay(journal, [FakeSink(name="store", answer=down_after_the_first)], limit=100)
    assert left(journal) == [2, 3, 4, 5]


async def test_letters_of_others_do_not_use_up_the_limit(journal: Journal) -> None:
    """The oldest `limit` letters of the sinks that are given, however many of others stand before them."""
    sent: Rows = []
    assert await replay(journal, [FakeSink(name="next", encoding="forward", answer=sent.extend)], limit=1) == 1
    assert [ids_in(one.encoding, one.segments[0][2]) for _, one in sent] == [[2]]
    assert left(journal) == [1, 2, 4, 5]


def test_all_letters_are_read_in_pages(journal: Journal) -> None:
    """In the order of their numbers, also when a page is full exactly at the end."""
    journal.commit([], dead_letters=[DeadLetter("sink:store", "rejected", b"%d" % n, "json") for n in range(256 * 2 - 5)])
    assert [number for number, _ in all_letters(journal)] == list(range(1, 256 * 2 + 1))
