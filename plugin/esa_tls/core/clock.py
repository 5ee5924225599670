"""Time of an appliance: from a printed stamp to seconds UTC, and the appliance's own clock T (docs/correlation.md 5).

Pure: nothing here reads a clock. `resolve` turns a framing's stamp into UTC; `Clock` runs T on the stamps of the lines as they arrive.
"""

from __future__ import annotations

import datetime as dt
import enum
import functools
import zoneinfo
from typing import Final

import msgspec

from esa_tls.core.line import Framing

AHEAD_S: Final = 300
"""A stamp further ahead of T than this needs a witness."""

BEHIND_S: Final = 3600
"""A stamp further behind T than this counts towards a rebase."""

REBASE_LINES: Final = 1000
"""So many lines in a row behind T move it back: the clock was set back, or an older log is being read."""

_SECOND_PASS_S: Final = 1800
"""In the repeated hour: the first pass may be this far behind T before the second is meant."""

_DAY_S: Final = 86_400
_LEAP_GAP_YEARS: Final = 8
"""The longest way back to a February 29 (over 1900 or 2100)."""


class Resolved(msgspec.Struct, frozen=True):
    """A stamp in UTC. `stamp_s`: seconds since the epoch. `ambiguous`: the hour comes twice (daylight saving) and one pass was chosen."""

    stamp_s: int
    year_inferred: bool = False
    ambiguous: bool = False


def resolve(framing: Framing, *, zone: zoneinfo.ZoneInfo, reference_s: float, appliance_time_s: int | None) -> Resolved | None:
    """The stamp of a line in UTC, or None if it carries none or an impossible one (February 30, 25 o'clock).

    `zone`: the appliance's time zone; an offset printed in an ISO stamp wins over it.
    `reference_s`: where a missing year is looked for (time of receipt, previous dated line or file time, seconds UTC): the nearest year
    that is at most a day ahead of it. `appliance_time_s`: T, which decides between the two passes of a repeated hour.
    """
    if framing.month is None:
        return None
    if framing.year is not None:
        return _in_year(framing, framing.year, zone, appliance_time_s, year_inferred=False)
    try:
        newest = dt.datetime.fromtimestamp(reference_s, tz=zone).year + 1
    except (OverflowError, ValueError, OSError):
        return None
    # Going back from the year after the reference's, the first year that is not too far ahead is also the nearest one.
    for year in range(newest, newest - _LEAP_GAP_YEARS - 2, -1):
        resolved = _in_year(framing, year, zone, appliance_time_s, year_inferred=True)
        if resolved is not None and resolved.stamp_s <= reference_s + _DAY_S:
            return resolved
    return None


def _in_year(framing: Framing, year: int, zone: zoneinfo.ZoneInfo, appliance_time_s: int | None, *, year_inferred: bool) -> Resolved | None:
    """The stamp if the line was written in `year`; None for a date that year does not have."""
    month = framing.month
    assert month is not None
    if framing.utc_offset_s is None and framing.hour < 24 and framing.minute < 60 and framing.second < 60:
        midnight_s = _midnight_s(year, month, framing.day, zone)
        if midnight_s is not None:
            return Resolved(midnight_s + framing.hour * 3600 + framing.minute * 60 + framing.second, year_inferred)
    try:
        second = 59 if framing.second == 60 else framing.second  # a leap second
        local = dt.datetime(year, month, framing.day, framing.hour, framing.minute, second, tzinfo=zone)
        if framing.utc_offset_s is not None:
            offset = dt.timezone(dt.timedelta(seconds=framing.utc_offset_s))
            return Resolved(int(local.replace(tzinfo=offset).timestamp()), year_inferred)
        first_s = int(local.timestamp())
        second_s = int(local.replace(fold=1).timestamp())
    except (OverflowError, ValueError):
        return None
    # In the skipped hour of spring the two readings differ the other way round; the first is the usual one there.
    if second_s <= first_s:
        return Resolved(first_s, year_inferred)
    if appliance_time_s is not None and appliance_time_s - first_s > _SECOND_PASS_S:
        return Resolved(second_s, year_inferred, ambiguous=True)
    return Resolved(first_s, year_inferred, ambiguous=True)


@functools.lru_cache(maxsize=256)
def _midnight_s(year: int, month: int, day: int, zone: zoneinfo.ZoneInfo) -> int | None:
    """When a day begins, if all of its hours count from there; None for a day that does not exist or on which the clocks are set."""
    try:
        begin = dt.datetime(year, month, day, tzinfo=zone)
        end = begin + dt.timedelta(days=1)
        begin_s, end_s = begin.timestamp(), end.timestamp()
    except (OverflowError, ValueError):
        return None
    # The same offset all day: none is set back and forth again on one day.
    return int(begin_s) if end_s - begin_s == _DAY_S and begin_s.is_integer() else None


class Verdict(enum.IntFlag):
    """What one stamp did to T; nothing set: it is at or behind T and changed nothing.

    At most one of MOVED, WAITING and REBASED (about this line) and one of CONFIRMED and REFUTED (about the line that was waiting).
    """

    STEADY = 0
    MOVED = 1
    """T is now this line's stamp."""
    WAITING = 2
    """This line is more than 300 s ahead: a candidate, and the next stamp decides. T did not move for it."""
    REBASED = 4
    """The last 1,000 lines were all more than an hour behind: T went back to the highest of them, and deadlines with it."""
    CONFIRMED = 8
    """The line that was waiting was right; T went to its stamp (and perhaps further, with MOVED)."""
    REFUTED = 16
    """The line that was waiting is `bad_time`; it moved nothing."""


_NOWHERE: Final = (1, 0)
"""An empty steady range: every stamp takes the long way."""


class Clock(msgspec.Struct):
    """The appliance time T and what is needed to move it. Plain values only, so that it can be kept with the appliance's state.

    `time_s`: T, None before the first stamp. `candidate_s`: stamp of the line that is waiting. `behind`: lines in a row more than an hour
    behind T, `behind_max_s` the highest stamp among them.

    The short way, to be inlined by the caller: a stamp with `steady_from_s <= stamp_s <= steady_to_s` changes nothing, so `accept` need not
    be called. The range is T - 1 h .. T, and empty while a candidate waits or lines are being counted.
    """

    time_s: int | None = None
    candidate_s: int | None = None
    behind: int = 0
    behind_max_s: int = 0
    steady_from_s: int = 1
    steady_to_s: int = 0

    def accept(self, stamp_s: int) -> Verdict:
        """Take the stamp of the next line, in order of arrival, and say what it did to T."""
        if self.steady_from_s <= stamp_s <= self.steady_to_s:
            return Verdict.STEADY
        verdict = Verdict.STEADY
        if self.candidate_s is not None:
            if stamp_s >= self.candidate_s - AHEAD_S:
                self.time_s = self.candidate_s
                verdict = Verdict.CONFIRMED
            else:
                verdict = Verdict.REFUTED
            self.candidate_s = None
        verdict |= self._take(stamp_s)
        if verdict & Verdict.WAITING or self.behind or self.time_s is None:
            self.steady_from_s, self.steady_to_s = _NOWHERE
        else:
            self.steady_from_s, self.steady_to_s = self.time_s - BEHIND_S, self.time_s
        return verdict

    def _take(self, stamp_s: int) -> Verdict:
        """The same for a clock without a candidate."""
        if self.time_s is None:
            self.time_s = stamp_s
            return Verdict.MOVED
        if stamp_s < self.time_s - BEHIND_S:
            self.behind_max_s = max(self.behind_max_s, stamp_s) if self.behind else stamp_s
            self.behind += 1
            if self.behind < REBASE_LINES:
                return Verdict.STEADY
            self.time_s = self.behind_max_s
            self.behind = 0
            return Verdict.REBASED
        self.behind = 0
        if stamp_s <= self.time_s:
            return Verdict.STEADY
        if stamp_s - self.time_s > AHEAD_S:
            self.candidate_s = stamp_s
            return Verdict.WAITING
        self.time_s = stamp_s
        return Verdict.MOVED
