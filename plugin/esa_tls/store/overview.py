"""Aggregates of a period, summed up from the roll-ups: whole days from the days' rows, the rest from the hours'."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from esa_tls.store import words
from esa_tls.store.answers import ApplianceSeen, Count, Gap, Overview, Ranked, StoreStatus, Top
from esa_tls.store.rollup import DAY_S, HOUR_S, RANKINGS, SERIES
from esa_tls.store.view import View

__all__ = ["appliances", "overview", "status", "top"]

FINE_STEPS: Final = 100
"""Without a step asked for: hours up to so many, then days up to so many, then longer."""

Range = tuple[int, int, int]
"""(grain, from, to): rows of the grain with `from` <= start < `to`."""


def overview(view: View, *, since_s: int | None, until_s: int | None, step_s: int | None, appliances: frozenset[str]) -> Overview:
    """See `StoreReader.overview`. Raises ValueError for a step that is no whole number of hours."""
    if step_s is not None and (step_s < HOUR_S or step_s % HOUR_S):
        raise ValueError(f"step_s is {step_s}, not a whole number of hours")
    since_s, until_s = _period(view, since_s, until_s)
    step_s = step_s or _step(until_s - since_s)
    since_s, until_s = since_s - since_s % step_s, until_s + -until_s % step_s
    chosen = _chosen(view, appliances)
    lists: dict[str, list[Count]] = {}
    for name, series in SERIES.items():
        rows = view.connection.execute(
            f"SELECT start_s - (start_s - ?) % ?, direction, flow, name, clear, sum(number) FROM rollup "  # noqa: S608
            f"WHERE grain = ? AND series = ? AND start_s >= ? AND start_s < ?{chosen} GROUP BY 1, 2, 3, 4, 5 ORDER BY 1",
            (since_s, step_s, HOUR_S if step_s % DAY_S or since_s % DAY_S else DAY_S, series, since_s, until_s),
        )
        lists[name] = [
            Count(start_s, number, words.DIRECTIONS[direction], words.FLOWS[flow], text, clear)
            for start_s, direction, flow, text, clear, number in rows
        ]
    return Overview(since_s=since_s, until_s=until_s, step_s=step_s, **lists)


def _step(span_s: int) -> int:
    if span_s <= FINE_STEPS * HOUR_S:
        return HOUR_S
    return DAY_S * max(1, -(-span_s // (FINE_STEPS * DAY_S)))


def _period(view: View, since_s: int | None, until_s: int | None) -> tuple[int, int]:
    """The period, or where it is left open, as far as there are numbers."""
    if since_s is None or until_s is None:
        first, last = view.connection.execute(
            "SELECT min(start_s), max(start_s) FROM rollup WHERE grain = ? AND series = ?", (HOUR_S, SERIES["records"])
        ).fetchone()
        since_s = (first or 0) if since_s is None else since_s
        until_s = (last + HOUR_S if last is not None else since_s) if until_s is None else until_s
    return since_s, max(since_s, until_s)


def _chosen(view: View, names: frozenset[str]) -> str:
    """A condition on the appliance, from our own numbers."""
    if not names:
        return ""
    return f" AND appliance IN ({', '.join(str(ident) for ident, name in view.appliances.items() if name in names)})"


def top(view: View, which: Top, *, since_s: int | None, until_s: int | None, limit: int, appliances: frozenset[str]) -> list[Ranked]:
    """See `StoreReader.top`. Raises KeyError for no ranking of ours."""
    series = RANKINGS[which]
    since_s, until_s = _period(view, since_s, until_s)
    since_s, until_s = since_s - since_s % HOUR_S, until_s + -until_s % HOUR_S
    chosen = _chosen(view, appliances)
    parts: list[str] = []
    values: list[Any] = []
    for grain, start_s, end_s in _ranges(since_s, until_s):
        parts.append(f"SELECT name, number FROM rollup WHERE grain = ? AND series = ? AND start_s >= ? AND start_s < ?{chosen}")  # noqa: S608
        values += [grain, series, start_s, end_s]
    rows = view.connection.execute(
        f"SELECT name, sum(number) FROM ({' UNION ALL '.join(parts)}) GROUP BY name ORDER BY 2 DESC, 1 LIMIT ?",  # noqa: S608
        (*values, limit),
    )
    return [Ranked(name or None, number) for name, number in rows]


def _ranges(since_s: int, until_s: int) -> Iterator[Range]:
    first_day, last_day = since_s + -since_s % DAY_S, until_s - until_s % DAY_S
    if first_day >= last_day:
        yield HOUR_S, since_s, until_s
        return
    yield HOUR_S, since_s, first_day
    yield DAY_S, first_day, last_day
    yield HOUR_S, last_day, until_s


def appliances(view: View) -> list[ApplianceSeen]:
    """See `StoreReader.appliances`."""
    found = []
    for ident, name in view.appliances.items():
        first = last = None
        for kind in range(len(words.KINDS)):
            for verdict in range(max(len(words.POSTURES), len(words.OUTCOMES))):
                for order, pick in (("ASC", min), ("DESC", max)):
                    row = view.connection.execute(
                        "SELECT time_s FROM record INDEXED BY record_verdict WHERE appliance = ? AND kind = ? AND verdict = ? "  # noqa: S608
                        f"ORDER BY time_s {order} LIMIT 1",
                        (ident, kind, verdict),
                    ).fetchone()
                    if row is None:
                        break
                    if pick is min:
                        first = row[0] if first is None else min(first, row[0])
                    else:
                        last = row[0] if last is None else max(last, row[0])
        if first is not None:
            found.append(ApplianceSeen(name, first, last))
    return sorted(found, key=lambda one: one.name)


def status(view: View) -> StoreStatus:
    """See `StoreReader.status`."""
    pages, free, size = (view.connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size"))
    kept = view.parts
    firsts, lasts = [part.first_s for part in kept if part.first_s is not None], [part.last_s for part in kept if part.last_s is not None]
    return StoreStatus(
        records={
            "connection": sum(part.connections for part in kept),
            "delivery": sum(part.deliveries for part in kept),
            "message": sum(part.messages for part in kept),
            "consolidated": sum(part.consolidated for part in kept),
        },
        bytes=(pages - free) * size,
        line_bytes=sum(part.line_bytes for part in kept),
        lines=sum(part.lines for part in kept),
        oldest_s=min(firsts, default=None),
        newest_s=max(lasts, default=None),
        gaps=[Gap(*row) for row in view.connection.execute("SELECT reason, since_s, until_s, records FROM gap ORDER BY rowid")],
    )
