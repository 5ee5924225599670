"""Queries of the manual and of dashboards in LogsQL, run on VictoriaLogs with records that came by Loki's push protocol.

Loki itself cannot be run here. Its LogQL is made from what these queries are made from, with the same names.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.boards import worked_out
from tests.boards.answers import ANSWERS, a_mid
from tests.boards.stores import (
    as_text,
    expected_table,
    fill_victoria_logs,
    largest_are,
    victoria_logs_groups,
    victoria_logs_table,
    without_lines,
)
from tests.boards.world import NOW, World, world
from tests.peers.querying import VictoriaLogs
from tools.boards import logsql
from tools.boards.model import Counts, Query, Rows
from tools.boards.panels import Panel, source
from tools.boards.questions import Question, questions

pytestmark = pytest.mark.timeout(120, func_only=True)  # the store is built, started and filled before

DAYS = 30


@pytest.fixture(scope="module")
def store(victoria_logs_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VictoriaLogs]:
    """The store with all records."""
    running = VictoriaLogs(victoria_logs_program, tmp_path_factory.mktemp("victoria-logs")).start()
    try:
        fill_victoria_logs(running, world())
        assert running.dropped() == {}
        yield running
        running.end()
    finally:
        running.make_sure_it_is_gone()


def ask(store: VictoriaLogs, query: Query, start: datetime, end: datetime) -> list[dict[str, str]]:
    """The rows of a query for a period."""
    return store.query(logsql.text(query), start=start.isoformat(), end=(end - timedelta(microseconds=1)).isoformat())


@pytest.mark.parametrize("question", questions(), ids=lambda question: question.id)
def test_questions_are_answered(question: Question, store: VictoriaLogs) -> None:
    """The LogsQL of the manual returns what the truth says: the rows of a table, or each group with its numbers, the largest."""
    mail = world()
    appliance, mid = a_mid(mail)
    query = question.query({"appliance": appliance, "mid": mid})
    period = (NOW - timedelta(days=365), NOW) if query.period is None else query.period.span(NOW)
    rows, expected = ask(store, query, *period), ANSWERS[question.id](mail)

    assert expected
    if isinstance(query.answer, Rows):
        assert isinstance(expected, list)
        # The time of an entry has the place of its record in the nanoseconds.
        found = [row[1:] for row in victoria_logs_table(query.answer, rows)]
        assert sorted(map(repr, found)) == sorted(repr(row[1:]) for row in as_text(expected_table(without_lines(query), expected)))
    else:
        assert isinstance(expected, dict)
        largest_are(victoria_logs_groups(query.answer, rows), expected, query.answer.limit)


@pytest.mark.parametrize("panel", source().records.panels, ids=lambda panel: panel.id)
def test_panels_ask_for_what_the_records_say(panel: Panel, store: VictoriaLogs) -> None:
    """The question of every panel, in LogsQL, returns what is worked out from the records."""
    mail: World = world()
    query = panel.query
    records = worked_out.chosen(query, mail.flat, NOW, DAYS)
    rows = ask(store, query, NOW - timedelta(days=DAYS), NOW)

    if isinstance(query.answer, Rows):
        assert len(rows) == min(query.answer.limit, len(records))
        return
    found = victoria_logs_groups(query.answer, rows)
    if query.answer.share is not None:
        assert found == {(): worked_out.parts(query.answer, records)}
    else:
        _are_counted(found, worked_out.counted(query.answer, records), query.answer)


def _are_counted(found: dict[tuple[str, ...], tuple[int, ...]], expected: worked_out.Groups, counts: Counts) -> None:
    largest_are(found, {key: (n,) for key, n in expected.items()}, counts.limit)
