"""Aggregates: the roll-ups against `esa-tls report`, which counts the same log by other means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.store.store_cases import DAY_S, Made, asked, filed, simulated, writing

from esa_tls.offline.report import Ranking, Tally
from esa_tls.store import overview
from esa_tls.store.answers import Count, Overview, Top

FIRST_S = 1_763_942_400
HOUR_S = 3_600
ALL: dict[str, Any] = {"since_s": None, "until_s": None, "step_s": None, "appliances": frozenset()}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made, Tally]:
    """A store, and what the report counts of the same records."""
    path, traffic = tmp_path_factory.mktemp("kept") / "s", simulated(messages=500)
    filed(path, traffic.rows, part_records=300)
    tally = Tally()
    for record in traffic.records:
        tally.summary(record["cisco_esa"]["record"], record, 0)
    return path, traffic, tally


def summed(counts: Iterable[Count], *words: str) -> dict[tuple[str, ...], int]:
    """Totals by some of the words."""
    total: Counter[tuple[str, ...]] = Counter()
    for one in counts:
        total[tuple(getattr(one, word) for word in words)] += one.number
    return dict(total)


def cells(table: Any) -> dict[tuple[str, ...], int]:
    """A table of the report, flat."""
    return {(row, column): number for row, columns in table.table().cells.items() for column, number in columns.items()}


def flow(name: str) -> str:
    """The store leaves out what is not known; the report calls it so."""
    return name or "unknown"


def test_all_aggregates_are_those_of_the_report(kept: tuple[Path, Made, Tally]) -> None:
    """Records, mail by flow, outcomes, evidence, postures, recipients, results, failures, protocols and ciphers agree, number by number."""
    path, _, tally = kept
    told = asked(path, overview.overview, **ALL)
    assert summed(told.records, "name") == {(kind,): number for kind, number in tally.records.items()}
    assert summed(told.connections, "direction", "name") == cells(tally.connections)
    evidence = summed(told.evidence, "direction", "name", "clear")
    assert {(f"{direction} {outcome}", why): number for (direction, outcome, why), number in evidence.items()} == cells(tally.evidence)
    outbound = [one for one in told.mail if one.direction == "outbound"]
    inbound = [one for one in told.mail if one.direction == "inbound"]
    assert {(flow(key[0]), key[1]): number for key, number in summed(outbound, "flow", "name").items()} == cells(tally.deliveries)
    assert {(flow(key[0]), key[1]): number for key, number in summed(outbound, "flow", "clear").items()} == cells(tally.deliveries_clear)
    assert {(flow(key[0]), key[1]): number for key, number in summed(inbound, "flow", "clear").items()} == cells(tally.receptions)
    for name, row in (("postures", "message"), ("postures_in", "in"), ("postures_out", "out")):
        assert {(row, *key): number for key, number in summed(getattr(told, name), "name").items()} == {
            key: number for key, number in cells(tally.postures).items() if key[0] == row
        }
    assert summed(told.recipients, "name") == {(posture,): number for posture, number in tally.recipients.items()}
    assert summed(told.results, "name") == {(result,): number for result, number in tally.results.items()}
    assert {f"{direction} {name}": number for (direction, name), number in summed(told.failures, "direction", "name").items()} == {
        name: number for name, (number, _) in tally.failures.items()
    }
    protocols = {(direction, name.strip("()")): number for (direction, name), number in summed(told.protocols, "direction", "name").items()}
    assert protocols == cells(tally.protocols)
    for direction, top in tally.ciphers.items():
        counted = {one.name: one.number for one in top.ranking(10**6).top}
        mine = {name.strip("()"): number for (way, name), number in summed(told.ciphers, "direction", "name").items() if way == direction}
        assert mine == counted


@pytest.mark.parametrize("which", ["clear_in_domains", "clear_out_domains", "clear_out_peers", "clear_in_peers"])
def test_rankings_are_those_of_the_report(kept: tuple[Path, Made, Tally], which: Top) -> None:
    """Domains and peers of mail in clear, with the same numbers, the most frequent first."""
    path, _, tally = kept
    reported: Ranking = getattr(tally, which).ranking(10**6)
    ranked = asked(path, overview.top, which, since_s=None, until_s=None, limit=10**6, appliances=frozenset())
    counted: Counter[str] = Counter()
    for one in reported.top:
        counted[one.name.partition(" ")[0].strip("()") if which.endswith("peers") else one.name.strip("()")] += one.number
    names = {"not in the log": "not told", "no domain": "not told", "not": "not told"}
    assert {(one.name or "").strip("()"): one.number for one in ranked} == {
        names.get(name, name): number for name, number in counted.items()
    }
    assert [one.number for one in ranked] == sorted((one.number for one in ranked), reverse=True)
    assert asked(path, overview.top, which, since_s=None, until_s=None, limit=3, appliances=frozenset()) == ranked[:3]


def test_peers_whose_tls_failed_are_ranked(kept: tuple[Path, Made, Tally]) -> None:
    """The far ends of connections with a TLS failure, by connections."""
    path, traffic, _ = kept
    counted: Counter[str] = Counter()
    for record in traffic.of("connection"):
        if "failure" in record["cisco_esa"]["tls"]:
            end = record.get("source" if record["cisco_esa"]["direction"] == "inbound" else "destination", {})
            counted[end.get("ip") or end.get("address") or end.get("domain") or "(not told)"] += 1
    ranked = asked(path, overview.top, "failing_peers", since_s=None, until_s=None, limit=10**6, appliances=frozenset())
    assert {one.name: one.number for one in ranked} == counted


@pytest.mark.parametrize("step_s", [HOUR_S, 6 * HOUR_S, DAY_S, 2 * DAY_S])
@pytest.mark.parametrize(
    ("since_s", "until_s"), [(FIRST_S, FIRST_S + 3 * DAY_S), (FIRST_S + 5_000, FIRST_S + DAY_S + 77), (FIRST_S - 10 * DAY_S, FIRST_S + 1)]
)
def test_a_period_in_steps(kept: tuple[Path, Made, Tally], since_s: int, until_s: int, step_s: int) -> None:
    """Each step holds what ended in it; the period is widened to whole steps, and the numbers are right from whichever rows they come."""
    path, traffic, _ = kept
    told = asked(path, overview.overview, since_s=since_s, until_s=until_s, step_s=step_s, appliances=frozenset())
    assert told.since_s <= since_s
    assert told.until_s >= until_s
    assert (told.since_s % step_s, told.until_s % step_s, told.step_s) == (0, 0, step_s)
    counted: Counter[tuple[int, str]] = Counter()
    for record in traffic.records:
        time_s = _time(record)
        if told.since_s <= time_s < told.until_s:
            counted[time_s - time_s % step_s, record["cisco_esa"]["record"]] += 1
    assert {(one.start_s, one.name): one.number for one in told.records} == counted


def _time(record: dict[str, Any]) -> int:
    from esa_tls.store.parsed import seconds_of

    return seconds_of(record["@timestamp"])


def test_a_ranking_of_any_hours(kept: tuple[Path, Made, Tally]) -> None:
    """Whole days and the hours at either end together are the hours one by one."""
    path, _, _ = kept
    since_s, until_s = FIRST_S + 5 * HOUR_S, FIRST_S + 2 * DAY_S + 7 * HOUR_S
    whole = asked(path, overview.top, "clear_out_domains", since_s=since_s, until_s=until_s, limit=10**6, appliances=frozenset())
    by_hour: Counter[str | None] = Counter()
    for start_s in range(since_s, until_s, HOUR_S):
        for one in asked(
            path, overview.top, "clear_out_domains", since_s=start_s, until_s=start_s + HOUR_S, limit=10**6, appliances=frozenset()
        ):
            by_hour[one.name] += one.number
    assert {one.name: one.number for one in whole} == by_hour
    assert len(by_hour) > 5


def test_appliances_apart_and_together(kept: tuple[Path, Made, Tally]) -> None:
    """The aggregates of each appliance add up to those of all; one that is unknown has none; each is listed with its times."""
    path, traffic, _ = kept
    parts = [asked(path, overview.overview, **{**ALL, "appliances": frozenset({name})}) for name in ("esa1", "esa2")]
    whole = asked(path, overview.overview, **ALL)
    for name in ("records", "mail", "postures", "failures"):
        together: Counter[Any] = Counter()
        for part in parts:
            for one in getattr(part, name):
                together[one.start_s, one.direction, one.flow, one.name, one.clear] += one.number
        assert together == {(one.start_s, one.direction, one.flow, one.name, one.clear): one.number for one in getattr(whole, name)}
    assert asked(path, overview.overview, **{**ALL, "appliances": frozenset({"nobody"})}).records == []
    for seen in asked(path, overview.appliances):
        times = [_time(record) for record in traffic.records if record["cisco_esa"]["appliance"] == seen.name]
        assert (seen.first_s, seen.last_s) == (min(times), max(times))
    assert [one.name for one in asked(path, overview.appliances)] == ["esa1", "esa2"]


def test_steps_fit_the_period(kept: tuple[Path, Made, Tally]) -> None:
    """Without a step asked for: hours for days, days for months, longer for years; never so many that nobody can look at them."""
    path, _, _ = kept
    for span_s, step_s in ((DAY_S, HOUR_S), (4 * DAY_S, HOUR_S), (30 * DAY_S, DAY_S), (100 * DAY_S, DAY_S), (1_000 * DAY_S, 10 * DAY_S)):
        told = asked(path, overview.overview, since_s=FIRST_S, until_s=FIRST_S + span_s, step_s=None, appliances=frozenset())
        assert told.step_s == step_s
    with pytest.raises(ValueError, match="whole number of hours"):
        asked(path, overview.overview, since_s=None, until_s=None, step_s=90, appliances=frozenset())


def test_an_empty_store_has_empty_answers(tmp_path: Path) -> None:
    """A store without a record answers every question with nothing."""
    with writing(tmp_path / "s"):
        pass
    told: Overview = asked(tmp_path / "s", overview.overview, **ALL)
    assert (told.records, told.since_s, told.until_s) == ([], 0, 0)
    assert asked(tmp_path / "s", overview.top, "clear_out_domains", since_s=None, until_s=None, limit=5, appliances=frozenset()) == []
    assert asked(tmp_path / "s", overview.appliances) == []
    status = asked(tmp_path / "s", overview.status)
    assert (sum(status.records.values()), status.oldest_s, status.lines, status.gaps) == (0, None, 0, [])


def test_the_status_says_what_there_is(kept: tuple[Path, Made, Tally]) -> None:
    """Records by kind, lines, bytes, and how far back it reaches."""
    path, traffic, tally = kept
    status = asked(path, overview.status)
    assert {kind: number for kind, number in status.records.items() if number} == tally.records
    times = [_time(record) for record in traffic.records]
    assert (status.oldest_s, status.newest_s) == (min(times), max(times))
    assert 0 < status.line_bytes < status.bytes <= path.stat().st_size
    assert status.lines > 0
