"""Retention: by age, by size, lines alone; in small steps, without a hole in what stays."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec
import pytest
from tests.unit.store.store_cases import DAY_S, LIMITS, NOW_S, Made, all_of, asked, filed, rollups, simulated, stored_ids, writing

from esa_tls.store import overview, parts, search, story
from esa_tls.store.answers import Filter
from esa_tls.store.write import Limits, Writer

TRAFFIC = simulated(messages=200)


def tidied(writer: Writer) -> int:
    """How many calls it took until nothing was left to do."""
    calls = 1
    while writer.tidy(within_s=0):
        calls += 1
    return calls


def stored_over_days(path: Path, limits: Limits, days: int, *, made: Made = TRAFFIC) -> list[list[str]]:
    """Rows filed on `days` days, a share each; ids of each day's records."""
    share = -(-len(made.rows) // days)
    found: list[list[str]] = []
    token = None
    for day in range(days):
        now_s = NOW_S + day * (DAY_S + 1)
        with writing(path, limits, now_s=partial(float, now_s), token=token, part_records=10**6) as writer:
            token = writer.resume(token)
            writer.apply(made.rows[day * share : (day + 1) * share])
        known = {one for earlier in found for one in earlier}
        found.append([one for one in stored_ids(path) if one not in known])
    return found


def test_age_removes_what_was_stored_long_ago(tmp_path: Path) -> None:
    """Records, lines and index go a day's worth at a time, the oldest first, and the rest can be found as before."""
    path, limits = tmp_path / "s", Limits(max_age_s=2 * DAY_S, max_bytes=2**40)
    days = stored_over_days(path, limits, 4)
    assert all(days)
    for left in (3, 2, 1, 0):
        with writing(path, limits, now_s=partial(float, NOW_S + (4 - left + 1) * DAY_S + 4 + 60 * (4 - left))) as writer:
            tidied(writer)
        assert stored_ids(path) == [one for day in days[4 - left :] for one in day], left
    for table in ("record", "body", "block", "posting", "fresh"):
        assert all_of(path, f"SELECT count(*) FROM {table}") == [(0,)], table
    assert all_of(path, "SELECT count(*) FROM part") == [(0,)]


def test_an_old_log_that_is_sent_today_stays_for_its_time(tmp_path: Path) -> None:
    """Age counts from when a record was stored: records of years ago are kept like all others."""
    path, limits = tmp_path / "s", Limits(max_age_s=DAY_S, max_bytes=2**40)
    with writing(path, limits) as writer:
        writer.apply(TRAFFIC.rows)
        tidied(writer)
    assert len(stored_ids(path)) == len(TRAFFIC.records)


def test_size_removes_the_oldest_first(tmp_path: Path) -> None:
    """While the file holds too much the oldest part goes, also the one being filled; what came last stays, and the file shrinks."""
    path = tmp_path / "s"
    with writing(path, part_records=100) as writer:
        writer.apply(TRAFFIC.rows)
        whole = writer.numbers().bytes
    order = stored_ids(path)
    with writing(path, msgspec.structs.replace(LIMITS, max_bytes=whole // 2)) as writer:
        tidied(writer)
        assert writer.numbers().bytes <= whole // 2
        assert writer.numbers().removed == {"size": len(order) - len(stored_ids(path))}
    kept = stored_ids(path)
    assert 0 < len(kept) < len(order)
    assert order[-len(kept) :] == kept
    with writing(path, msgspec.structs.replace(LIMITS, max_bytes=1)) as writer:
        tidied(writer)
        writer.apply([(n + 10**6, row) for n, row in TRAFFIC.rows[:5]])
        numbers = writer.numbers()
    assert stored_ids(path) == order[: numbers.records]


def test_room_is_given_back_to_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After removing, the file itself becomes smaller, but for the pages that are kept for what comes."""
    monkeypatch.setattr("esa_tls.store.prune.SPARE_PAGES", 4)
    path = tmp_path / "s"
    filed(path, TRAFFIC.rows, part_records=100)
    before = path.stat().st_size
    with writing(path, msgspec.structs.replace(LIMITS, max_bytes=1)) as writer:
        tidied(writer)
    assert path.stat().st_size < before // 2
    assert all_of(path, "PRAGMA freelist_count")[0][0] <= 4
    assert all_of(path, "PRAGMA integrity_check") == [("ok",)]


def test_steps_are_small(tmp_path: Path) -> None:
    """Removing a part takes many short transactions, and between any two of them the store can be asked and filed into."""
    path = tmp_path / "s"
    filed(path, TRAFFIC.rows, part_records=10**6)
    with writing(path, msgspec.structs.replace(LIMITS, max_bytes=1)) as writer:
        steps = 0
        while writer.tidy(within_s=0):
            steps += 1
            left = set(stored_ids(path))
            page = asked(path, search.search, Filter(), limit=1_000, after=None)
            assert {hit.id for hit in page.hits} <= left
            asked(path, search.search, Filter(text="example.org"), limit=50, after=None)
        assert steps > 5
    assert not stored_ids(path)


def test_numbers_are_not_given_twice(tmp_path: Path) -> None:
    """When everything was removed, records that come get numbers that none had before: a page that is open stays right."""
    path = tmp_path / "s"
    filed(path, TRAFFIC.rows)
    last = all_of(path, "SELECT max(n) FROM record")[0][0]
    with writing(path, msgspec.structs.replace(LIMITS, max_bytes=1)) as writer:
        tidied(writer)
    with writing(path) as writer:
        writer.apply(TRAFFIC.rows)
    assert all_of(path, "SELECT min(n) FROM record")[0][0] == last + 1


def test_lines_alone_go_when_they_take_too_much(tmp_path: Path) -> None:
    """Over `max_lines_bytes` the oldest lines go and their records stay; a story says that its lines were removed."""
    path = tmp_path / "s"
    filed(path, TRAFFIC.rows, part_records=100)
    used = all_of(path, "SELECT sum(line_bytes) FROM part")[0][0]
    with writing(path, msgspec.structs.replace(LIMITS, max_lines_bytes=used // 3)) as writer:
        tidied(writer)
        assert writer.numbers().line_bytes <= used // 3
    assert len(stored_ids(path)) == len(TRAFFIC.records)
    messages = sorted(TRAFFIC.of("message"), key=lambda record: record["event"]["sequence"])
    told = [
        asked(path, story.message_story, one["cisco_esa"]["appliance"], one["cisco_esa"]["epoch"], one["cisco_esa"]["mid"], max_lines=100)
        for one in (messages[0], messages[-1])
    ]
    assert [None if one is None else one.lines_kept for one in told] == ["removed", "kept"]
    with writing(path, msgspec.structs.replace(LIMITS, lines=False)) as writer:
        tidied(writer)
    assert all_of(path, "SELECT count(*) FROM block b JOIN part p ON b.n >= p.base_block AND b.n < p.next_block WHERE sealed") == [(0,)]


def test_counts_stay_when_records_go_for_their_size_and_go_with_age(tmp_path: Path) -> None:
    """The roll-ups outlive records removed for room, and are removed when they are as old as records may be."""
    path = tmp_path / "s"
    filed(path, TRAFFIC.rows)
    before = rollups(path)
    with writing(path, msgspec.structs.replace(LIMITS, max_bytes=1)) as writer:
        tidied(writer)
    assert rollups(path) == before
    with writing(path, now_s=lambda: NOW_S + 31 * DAY_S) as writer:
        tidied(writer)
    assert not rollups(path)


def test_dictionaries_go_with_the_last_part_that_uses_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dictionary holds snippets of records, so it does not outlive them."""
    monkeypatch.setattr(parts, "RETRAIN_PARTS", 2)
    path = tmp_path / "s"
    filed(path, TRAFFIC.rows, part_records=250)
    assert len(all_of(path, "SELECT id FROM dictionary")) >= 1
    used = all_of(path, "SELECT DISTINCT dictionary FROM part WHERE dictionary IS NOT NULL")
    with writing(path, msgspec.structs.replace(LIMITS, max_bytes=1)) as writer:
        tidied(writer)
    left = all_of(path, "SELECT id FROM dictionary")
    assert len(left) == 1  # the newest, which the next part will use
    assert left[0] >= max(used)


def test_gaps_are_noted_and_go_with_age(tmp_path: Path) -> None:
    """What the store was not given is told, one entry for one stretch, as long as records of that time would be kept."""
    path, now_s = tmp_path / "s", NOW_S
    with writing(path, now_s=lambda: now_s) as writer:
        writer.note_gap("behind", 5, 10)
        now_s += 100
        writer.note_gap("behind", 7, 12)
        assert writer.position == 12
        now_s += 4_000
        writer.note_gap("behind", 1, 13)
    gaps = asked(path, overview.status).gaps
    assert [(one.reason, one.until_s - one.since_s, one.records) for one in gaps] == [("behind", 100, 12), ("behind", 0, 1)]
    with writing(path, now_s=lambda: now_s + 31 * DAY_S) as writer:
        tidied(writer)
    assert not asked(path, overview.status).gaps
