"""Stamps to UTC and the appliance's own clock: docs/correlation.md 5."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_tls.core.clock import AHEAD_S, BEHIND_S, REBASE_LINES, Clock, Resolved, Verdict, resolve
from esa_tls.core.line import Framing, frame

UTC = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")


def utc(*when: int) -> int:
    """Seconds of a UTC date and time."""
    return int(dt.datetime(*when, tzinfo=dt.UTC).timestamp())  # type: ignore[arg-type,misc]


def framing(prefix: str) -> Framing:
    """The framing of a prefix."""
    framed = frame(prefix + " Info: x")
    assert framed is not None
    return framed


def at(prefix: str, *, zone: ZoneInfo = UTC, reference_s: float = 0.0, appliance_time_s: int | None = None) -> Resolved | None:
    """`resolve` of a prefix."""
    return resolve(framing(prefix), zone=zone, reference_s=reference_s, appliance_time_s=appliance_time_s)


def test_a_stamp_with_a_year_is_local_time_of_the_zone() -> None:
    """The file form is the appliance's local time; nothing is inferred."""
    assert at("Wed Jul 20 19:47:40 2005") == Resolved(utc(2005, 7, 20, 19, 47, 40))
    assert at("Wed Jul 20 19:47:40 2005", zone=NEW_YORK) == Resolved(utc(2005, 7, 20, 23, 47, 40))


def test_an_iso_offset_wins_over_the_zone() -> None:
    """A printed offset is the truth; without one the zone is used."""
    assert at("2025-11-24T14:22:57-05:00", zone=BERLIN) == Resolved(utc(2025, 11, 24, 19, 22, 57))
    assert at("2025-11-24T14:22:57Z", zone=BERLIN) == Resolved(utc(2025, 11, 24, 14, 22, 57))
    assert at("2025-11-24T14:22:57", zone=BERLIN) == Resolved(utc(2025, 11, 24, 13, 22, 57))


def test_an_untimed_line_has_no_stamp() -> None:
    """`Info: ...` alone resolves to nothing."""
    assert resolve(Framing(length=6, level="Info"), zone=UTC, reference_s=0, appliance_time_s=None) is None


@pytest.mark.parametrize(
    ("prefix", "reference", "year"),
    [
        ("Mar 17 18:24:37 esa1 mail_logs:", (2025, 3, 17, 18, 25, 0), 2025),
        ("Dec 31 23:59:59 esa1 mail_logs:", (2026, 1, 1, 0, 0, 5), 2025),
        ("Jan  1 00:00:01 esa1 mail_logs:", (2025, 12, 31, 23, 59, 59), 2026),
        ("Jan  1 10:00:00 esa1 mail_logs:", (2025, 12, 31, 10, 0, 0), 2026),
        ("Jan  1 10:00:01 esa1 mail_logs:", (2025, 12, 31, 10, 0, 0), 2025),
        ("Mar 18 18:24:38 esa1 mail_logs:", (2025, 3, 17, 18, 24, 37), 2024),
        ("Feb 29 12:00:00 esa1 mail_logs:", (2025, 3, 1, 0, 0, 0), 2024),
        ("Feb 29 12:00:00 esa1 mail_logs:", (2024, 2, 29, 12, 0, 0), 2024),
        ("Feb 29 12:00:00 esa1 mail_logs:", (2024, 2, 27, 12, 0, 0), 2020),
        ("Feb 29 12:00:00 esa1 mail_logs:", (2103, 6, 1, 0, 0, 0), 2096),
    ],
)
def test_a_missing_year_is_the_nearest_at_most_a_day_ahead(prefix: str, reference: tuple[int, ...], year: int) -> None:
    """New Year's Eve both ways, exactly a day ahead and a second more, and February 29 only in leap years."""
    resolved = at(prefix, reference_s=utc(*reference))
    assert resolved is not None
    assert dt.datetime.fromtimestamp(resolved.stamp_s, tz=dt.UTC).year == year
    assert resolved.year_inferred


def test_the_missing_year_is_sought_in_the_appliances_zone() -> None:
    """Just after midnight on January 1 in Berlin is still the old year in UTC."""
    resolved = at("Jan  1 00:00:30 esa1 mail_logs:", zone=BERLIN, reference_s=utc(2025, 12, 31, 23, 0, 31))
    assert resolved == Resolved(utc(2025, 12, 31, 23, 0, 30), year_inferred=True)


@pytest.mark.parametrize(
    "prefix",
    [
        "Wed Feb 30 19:47:40 2005",
        "Tue Feb 29 19:47:40 2005",
        "Wed Jul 32 19:47:40 2005",
        "Wed Jul  0 19:47:40 2005",
        "Wed Jul 20 24:47:40 2005",
        "Wed Jul 20 19:60:40 2005",
        "Wed Jul 20 19:47:61 2005",
        "2025-13-24T14:22:57Z",
        "2025-00-24T14:22:57Z",
        "2025-11-24T14:22:57+24:00",
        "Feb 30 12:00:00 esa1 mail_logs:",
        "Mar 17 25:24:37 esa1 mail_logs:",
    ],
)
def test_impossible_dates_are_none(prefix: str) -> None:
    """A date no year has, or a time no day has, is no stamp."""
    assert at(prefix, reference_s=utc(2025, 6, 1)) is None


def test_a_leap_second_is_the_second_before() -> None:
    """`:60` exists in logs of machines that count leap seconds."""
    assert at("Sat Dec 31 23:59:60 2016") == Resolved(utc(2016, 12, 31, 23, 59, 59))


def test_trap_23_the_repeated_hour_takes_its_second_pass_once_the_first_is_too_far_behind() -> None:
    """On the night of the change the first pass is meant until it would be more than 30 minutes behind T."""
    first, second = utc(2025, 10, 26, 0, 30, 0), utc(2025, 10, 26, 1, 30, 0)
    line = "Sun Oct 26 02:30:00 2025"
    assert at(line, zone=BERLIN) == Resolved(first, ambiguous=True)
    assert at(line, zone=BERLIN, appliance_time_s=first - 10) == Resolved(first, ambiguous=True)
    assert at(line, zone=BERLIN, appliance_time_s=first + 1800) == Resolved(first, ambiguous=True)
    assert at(line, zone=BERLIN, appliance_time_s=first + 1801) == Resolved(second, ambiguous=True)
    assert at("Sun Oct 26 01:59:59 2025", zone=BERLIN) == Resolved(utc(2025, 10, 25, 23, 59, 59))
    assert at("Sun Oct 26 03:00:00 2025", zone=BERLIN) == Resolved(utc(2025, 10, 26, 2, 0, 0))


def test_a_night_of_lines_runs_through_the_repeated_hour_in_order() -> None:
    """A line every ten minutes from 01:00 to 04:00 local time, the repeated hour twice, comes out as steady time."""
    begin = utc(2025, 10, 25, 23, 0, 0)
    clock = Clock()
    for step in range(24):
        true_s = begin + step * 600
        local = dt.datetime.fromtimestamp(true_s, tz=BERLIN)
        resolved = at(local.strftime("%a %b %d %H:%M:%S %Y"), zone=BERLIN, appliance_time_s=clock.time_s)
        assert resolved is not None
        assert resolved.stamp_s == true_s
        clock.accept(resolved.stamp_s)
        if clock.candidate_s is not None:
            clock.time_s, clock.candidate_s = true_s, None  # ten minutes are a jump; not what this test is about


def test_the_skipped_hour_is_not_ambiguous() -> None:
    """A time that does not exist is read with the offset before the change."""
    assert at("Sun Mar 30 02:30:00 2025", zone=BERLIN) == Resolved(utc(2025, 3, 30, 1, 30, 0))


@given(
    st.integers(-5, 70),
    st.integers(-5, 40),
    st.integers(0, 13),
    st.integers(0, 30),
    st.none() | st.integers(-200_000, 200_000),
    st.floats(-1e12, 1e12),
)
def test_resolve_never_raises(second: int, day: int, month: int, hour: int, offset_s: int | None, reference_s: float) -> None:
    """Any fields give a stamp or nothing."""
    for year in (None, 1900, 2024):
        framed = Framing(length=0, year=year, month=month, day=day, hour=hour, second=second, utc_offset_s=offset_s)
        resolved = resolve(framed, zone=BERLIN, reference_s=reference_s, appliance_time_s=None)
        assert resolved is None or isinstance(resolved.stamp_s, int)


# --- the clock ------------------------------------------------------------------------------------------------------------------------


def started(time_s: int = 100_000) -> Clock:
    """A clock at `time_s`."""
    clock = Clock()
    assert clock.accept(time_s) == Verdict.MOVED
    return clock


def test_the_first_stamp_starts_the_clock() -> None:
    """T is the first stamp, whatever it is."""
    assert started(5).time_s == 5


def test_t_is_the_highest_accepted_stamp() -> None:
    """Stamps at or behind T change nothing, stamps up to 300 s ahead move it."""
    clock = started()
    assert clock.accept(100_000) == Verdict.STEADY
    assert clock.accept(99_990) == Verdict.STEADY
    assert clock.accept(100_000 + AHEAD_S) == Verdict.MOVED
    assert clock.time_s == 100_000 + AHEAD_S


def test_a_stamp_too_far_ahead_waits_and_is_confirmed() -> None:
    """A jump waits; the next line within 300 s of it, or ahead of it, confirms it."""
    clock = started()
    assert clock.accept(100_301) == Verdict.WAITING
    assert clock.time_s == 100_000
    assert clock.accept(100_001) == Verdict.CONFIRMED
    assert clock.time_s == 100_301
    assert clock.accept(200_000) == Verdict.WAITING
    assert clock.accept(200_100) == Verdict.CONFIRMED | Verdict.MOVED
    assert clock.time_s == 200_100


def test_a_stamp_too_far_ahead_is_refuted_by_the_next_line() -> None:
    """A lone bad stamp moves nothing; the line that refutes it is judged by the old T."""
    clock = started()
    assert clock.accept(900_000) == Verdict.WAITING
    assert clock.accept(100_002) == Verdict.REFUTED | Verdict.MOVED
    assert (clock.time_s, clock.candidate_s) == (100_002, None)
    assert clock.accept(900_000) == Verdict.WAITING
    assert clock.accept(500_000) == Verdict.REFUTED | Verdict.WAITING
    assert clock.accept(100_002) == Verdict.REFUTED
    assert clock.time_s == 100_002


def test_a_confirming_line_can_itself_be_a_candidate() -> None:
    """Two jumps in a row: the second confirms the first and waits."""
    clock = started()
    clock.accept(200_000)
    assert clock.accept(300_000) == Verdict.CONFIRMED | Verdict.WAITING
    assert clock.time_s == 200_000
    assert clock.accept(300_000 - AHEAD_S) == Verdict.CONFIRMED
    assert clock.time_s == 300_000


def test_the_next_line_decides_at_exactly_300_s() -> None:
    """300 s behind the candidate confirms, 301 s refutes."""
    clock = started()
    clock.accept(200_000)
    assert clock.accept(200_000 - AHEAD_S - 1) & Verdict.REFUTED
    clock = started()
    clock.accept(200_000)
    assert clock.accept(200_000 - AHEAD_S) & Verdict.CONFIRMED


def test_a_thousand_lines_in_a_row_more_than_an_hour_behind_rebase() -> None:
    """T goes back to the highest of them with the thousandth, and runs on from there."""
    clock = started()
    for number in range(REBASE_LINES - 1):
        assert clock.accept(100_000 - BEHIND_S - 1 - number % 7) == Verdict.STEADY
    assert clock.time_s == 100_000
    assert clock.accept(90_000) == Verdict.REBASED
    assert clock.time_s == 100_000 - BEHIND_S - 1
    assert clock.accept(96_500) == Verdict.MOVED


def test_a_line_within_the_hour_breaks_the_row() -> None:
    """Exactly an hour behind is not more than an hour; it starts the count again."""
    clock = started()
    for _ in range(REBASE_LINES - 1):
        clock.accept(90_000)
    assert clock.accept(100_000 - BEHIND_S) == Verdict.STEADY
    assert clock.accept(90_000) == Verdict.STEADY
    assert clock.time_s == 100_000


def test_the_row_counts_from_its_own_highest_stamp() -> None:
    """An earlier, broken row leaves nothing behind."""
    clock = started()
    clock.accept(96_000)
    clock.accept(99_000)
    for _ in range(REBASE_LINES - 1):
        clock.accept(90_000)
    assert clock.accept(89_000) == Verdict.REBASED
    assert clock.time_s == 90_000


@given(st.lists(st.integers(99_000, 104_000) | st.integers(0, 300_000), max_size=60), st.integers(2, 8))
def test_the_steady_range_is_a_sound_short_way(stamps: list[int], rows: int) -> None:
    """A caller that skips `accept` inside the steady range ends in the same state as one that always calls it."""
    always, short = Clock(), Clock()
    for stamp in stamps * rows:
        verdict = always.accept(stamp)
        if short.steady_from_s <= stamp <= short.steady_to_s:
            assert verdict == Verdict.STEADY
        else:
            assert short.accept(stamp) == verdict
        assert always == short


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=60))
def test_without_a_rebase_t_never_goes_back(stamps: list[int]) -> None:
    """T only grows, and is always one of the stamps."""
    clock, last = Clock(), 0
    for stamp in stamps:
        clock.accept(stamp)
        assert clock.time_s is not None
        assert clock.time_s >= last
        assert clock.time_s in stamps
        last = clock.time_s
