"""The overview in numbers: tables of what the store counted, and the chart beside each. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from esa_tls.charts import specs
from esa_tls.charts.specs import Bar, Slice, Theme
from esa_tls.offline.explain_words import EVIDENCE, FAILURES, counted
from esa_tls.offline.terminal import printable
from esa_tls.store.answers import Count, Overview, Ranked
from esa_tls.web.asked import FLOWS
from esa_tls.web.listing import Tone

WAYS: Final = {"inbound": "Received", "outbound": "Delivered"}
SHORT: Final = {"inbound": "in", "outbound": "out"}
K = TypeVar("K")

BARS: Final = 10
CLEAR_HEADS: Final = {"clear": "in clear text", "tls": "under TLS", "unknown": "not known"}


class Share(msgspec.Struct, frozen=True):
    """Mail of one way: how much of it, and how it went."""

    title: str
    words: str
    total: int
    tls: int
    clear: int
    unknown: int

    @property
    def percent(self) -> str:
        """Of the mail of which it is known: the share under TLS, never rounded up to a whole that it is not."""
        known = self.tls + self.clear
        if not known:
            return "-"
        share = 100 * self.tls / known
        if share > 99.9 and self.clear:
            return "99.9 %"
        return f"{share:.1f} %" if share not in (0.0, 100.0) else f"{share:.0f} %"


class Table(msgspec.Struct, frozen=True):
    """Columns and rows as the page shows them; the first cell of a row names it. `link` of a row: a search for what it counts."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str | int | Tone, ...]]
    links: Sequence[str] = ()


class Figure(msgspec.Struct, frozen=True):
    """A chart and the table that says the same. `name`: of its address.

    `widths`: of the drawing without its labels, on a wide screen and on a phone.
    """

    name: str
    title: str
    told: str
    table: Table
    spec: Callable[[Theme, int], dict[str, Any]] | None
    widths: tuple[int, int] = (260, 120)
    wide: bool = False
    note: str = ""


def shares(overview: Overview) -> list[Share]:
    """Mail received and delivered."""
    made = []
    for direction, one_of, many in (("inbound", "message received", "messages received"), ("outbound", "delivery", "deliveries")):
        cells: dict[str, int] = {}
        for one in overview.mail:
            if one.direction == direction:
                cells[one.clear] = cells.get(one.clear, 0) + one.number
        total = sum(cells.values())
        words = counted(total, one_of, many)
        made.append(Share(WAYS[direction], words, total, cells.get("tls", 0), cells.get("clear", 0), cells.get("unknown", 0)))
    return made


def exposed(overview: Overview) -> tuple[int, int]:
    """Recipients whose mail went in clear on at least one leg, and recipients in all (moved on ones left out)."""
    total = sum(one.number for one in overview.recipients if one.name != "moved")
    return sum(one.number for one in overview.recipients if one.name == "exposed"), total


def figures(overview: Overview) -> list[Figure]:
    """Every figure, also those with nothing to show."""
    return [_over_time(overview), _shares(overview), _failures(overview), _protocols(overview), _evidence(overview)]


def ranking(name: str, title: str, unit: str, ranked: Sequence[Ranked], links: Sequence[str] = ()) -> Figure:
    """Names by how often they were seen in clear text, or failing."""
    bars = [Bar(printable(one.name or "(others)"), one.number, "failed" if name.startswith("failing") else "clear") for one in ranked]
    table = Table((title.rsplit(", ", maxsplit=1)[-1], unit), [(bar.name, bar.number) for bar in bars], links)
    return Figure(name, title, f"{title}: the {len(bars)} most frequent.", table, None)


def stamp(time_s: int, step_s: int) -> str:
    """When a step begins."""
    moment = dt.datetime.fromtimestamp(time_s, tz=dt.UTC)
    return f"{moment:%Y-%m-%d}" if step_s % 86_400 == 0 else f"{moment:%Y-%m-%d %H:%M}"


def _panel(one: Count) -> str:
    return f"{WAYS.get(one.direction, one.direction)}: {FLOWS.get(one.flow, 'flow not known')}"


def _over_time(overview: Overview) -> Figure:
    totals = _summed((_panel(one), one.number) for one in overview.mail)
    panels = sorted(totals, key=lambda panel: ("not known" in panel, panel.startswith("Delivered"), -totals[panel]))
    cells = _summed(((one.start_s, _panel(one), one.clear), one.number) for one in overview.mail)
    slices = [
        Slice(start_s, panel, clear, number)
        for (start_s, panel, clear), number in sorted(cells.items(), key=lambda item: (panels.index(item[0][1]), item[0][0]))
    ]
    rows: list[tuple[str | int | Tone, ...]] = []
    for start_s, panel in dict.fromkeys(
        (start_s, panel) for start_s, panel, _ in sorted(cells, key=lambda key: (key[0], panels.index(key[1])))
    ):
        rows.append((stamp(start_s, overview.step_s), panel, *(cells.get((start_s, panel, clear), 0) for clear in CLEAR_HEADS)))
    hours = overview.step_s // 3600
    step = "hour" if hours == 1 else "day" if hours == 24 else f"{hours // 24} days" if hours % 24 == 0 else f"{hours} hours"
    return Figure(
        "mail",
        "Mail over time",
        f"Stacked bars per {step}: mail in clear text, under TLS and not known, a chart for each direction and mail flow.",
        Table(("from (UTC)", "mail", *CLEAR_HEADS.values()), rows),
        (lambda theme, width: specs.over_time(slices, title="", step_s=overview.step_s, theme=theme, width=width, height=90))
        if slices
        else None,
        widths=(1010, 280),
        wide=True,
        note=f"per {step}",
    )


def _shares(overview: Overview) -> Figure:
    cells: dict[str, dict[str, int]] = {}
    for one in overview.mail:
        row = cells.setdefault(_panel(one), {})
        row[one.clear] = row.get(one.clear, 0) + one.number
    order = sorted(cells, key=lambda panel: ("not known" in panel, panel.startswith("Delivered"), panel))
    rows = {panel: cells[panel] for panel in order}
    table = Table(
        ("mail", *CLEAR_HEADS.values()), [(panel, *(found.get(clear, 0) for clear in CLEAR_HEADS)) for panel, found in rows.items()]
    )
    return Figure(
        "shares",
        "Share under TLS",
        "One bar per direction and mail flow, cut into mail in clear text, under TLS and not known.",
        table,
        (lambda theme, width: specs.shares(rows, title="", theme=theme, width=width)) if rows else None,
        widths=(300, 150),
    )


def _failures(overview: Overview) -> Figure:
    totals = _summed(((one.direction, one.name), one.number) for one in overview.failures)
    ranked = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    bars = [Bar(f"{SHORT.get(way, way)}: {FAILURES.get(name, name)}", number, "failed") for (way, name), number in ranked]
    return Figure(
        "failures",
        "Failures of TLS",
        "Connections whose TLS failed, by direction and class of failure.",
        Table(("class", "connections"), [(bar.name, bar.number) for bar in bars]),
        (lambda theme, width: specs.ranking(bars[:BARS], title="", unit="connections", theme=theme, width=width)) if bars else None,
    )


def _protocols(overview: Overview) -> Figure:
    totals = _summed(((one.direction, one.name), one.number) for one in overview.protocols)
    ranked = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    bars = [Bar(f"{SHORT.get(way, way)}: {printable(name)}", number, "success") for (way, name), number in ranked]
    return Figure(
        "protocols",
        "TLS protocols",
        "Connections under TLS, by direction and protocol version.",
        Table(("protocol", "connections"), [(bar.name, bar.number) for bar in bars]),
        (lambda theme, width: specs.ranking(bars[:BARS], title="", unit="connections under TLS", theme=theme, width=width))
        if bars
        else None,
    )


def _evidence(overview: Overview) -> Figure:
    totals = _summed(((one.name, one.clear), one.number) for one in overview.evidence)
    ranked = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    bars = [Bar(f"{specs.words(name)}: {EVIDENCE_SHORT.get(why, why)}", number, name) for (name, why), number in ranked]
    rows = [(Tone(specs.words(name), name), EVIDENCE.get(why, why), number) for (name, why), number in ranked]
    return Figure(
        "evidence",
        "Why that is believed",
        "Connections by TLS outcome and the evidence for it.",
        Table(("TLS", "because", "connections"), rows),
        (lambda theme, width: specs.ranking(bars[:BARS], title="", unit="connections", theme=theme, width=width)) if bars else None,
    )


EVIDENCE_SHORT: Final = {"line": "a line says it", "absence": "no line, proven", "absence_lossy": "no line, likely", "gap": "lines missing"}


def _summed(pairs: Iterable[tuple[K, int]]) -> dict[K, int]:
    totals: dict[K, int] = {}
    for key, number in pairs:
        totals[key] = totals.get(key, 0) + number
    return totals
