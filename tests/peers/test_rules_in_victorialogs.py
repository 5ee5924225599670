"""Rules by their LogsQL, as it was converted, on a real VictoriaLogs that has the records by Loki's push protocol."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.peers.querying import VictoriaLogs
from tests.rules import cases

pytestmark = pytest.mark.timeout(90, func_only=True)  # a first run builds VictoriaLogs before

BASELINE_TIME = "2025-11-24T20:00:00Z"
"""In the evening of the last day in the data of the baseline."""


@pytest.fixture
def holding(victoria_logs: VictoriaLogs) -> Callable[[str, str], VictoriaLogs]:
    """Gives the store with one data set in it, all of it."""

    def hold(rule: str, side: str) -> VictoriaLogs:
        records = cases.records_of(rule, side)
        victoria_logs.push(cases.loki_streams(records))
        assert victoria_logs.query("* | stats count() n") == [{"n": str(len(records))}]
        assert victoria_logs.dropped() == {}
        return victoria_logs

    return hold


@pytest.mark.parametrize("side", cases.SIDES)
@pytest.mark.parametrize("rule", cases.EVENTS)
def test_a_rule_finds_exactly_its_events(rule: str, side: str, holding: Callable[[str, str], VictoriaLogs]) -> None:
    """The converted query gives every event of the positive data that it has to, no other one, and none of the negative data."""
    rows = holding(rule, side).query(cases.query_of("converted/logsql", rule))

    assert cases.labels_of(rule, side, (row["event_id"] for row in rows)) == (sorted(cases.EVENTS[rule]) if side == "positive" else [])


@pytest.mark.parametrize("rule", cases.COUNTS)
def test_a_rule_that_counts_tells_exactly_its_group(rule: str, holding: Callable[[str, str], VictoriaLogs]) -> None:
    """Asked at the end of the positive data, the converted query gives the one group that reached the number, and how many it has."""
    field, group, count = cases.COUNTS[rule]
    name = "appliance" if field == "cisco_esa.appliance" else field.replace(".", "_")
    rows = holding(rule, "positive").query(cases.query_of("converted/logsql", rule), time=cases.times_of(rule, "positive")[-1])

    assert rows == [{name: group, "event_count": str(count)}]


@pytest.mark.parametrize("rule", cases.COUNTS)
def test_a_rule_that_counts_is_silent_below_its_number(rule: str, holding: Callable[[str, str], VictoriaLogs]) -> None:
    """Asked after each record of the negative data, the converted query gives nothing, though there are enough of them in all."""
    store, query = holding(rule, "negative"), cases.query_of("converted/logsql", rule)

    assert [row for time in cases.times_of(rule, "negative") for row in store.query(query, time=time)] == []
    of_all_times = query.removeprefix("_time:1h ").removeprefix("_time:15m ")
    assert store.query(of_all_times) != []


@pytest.mark.parametrize("side", cases.SIDES)
def test_the_baseline_finds_the_partner_that_stopped(side: str, holding: Callable[[str, str], VictoriaLogs]) -> None:
    """The query written by hand gives deliveries in clear to the domain that had TLS 20 times and no clear text before, and no others."""
    rows = holding(cases.BASELINE, side).query(cases.query_of("by_hand/logsql", cases.BASELINE), time=BASELINE_TIME)

    assert cases.labels_of(cases.BASELINE, side, (row["event_id"] for row in rows)) == (
        list(cases.BASELINE_EVENTS) if side == "positive" else []
    )
