"""What the charts show, as Vega-Lite: pure functions from numbers to a specification. The page, HTML reports and pictures all use these.

A tone is an outcome or posture word (`clear`, `tls`, `unknown`, `exposed`, ...); it has one colour everywhere, and a place in the stack, so
that mail in clear always stands at the bottom, where lengths can be compared. The colours are those of Okabe and Ito, which colour-blind
people can tell apart; a legend names each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v6.json"

Theme = Literal["light", "dark"]

COLOURS: Final[Mapping[str, str]] = {
    "clear": "#D55E00",
    "exposed": "#D55E00",
    "none": "#D55E00",
    "partial": "#E69F00",
    "failed": "#CC79A7",
    "blocked": "#0072B2",
    "tls": "#009E73",
    "success": "#009E73",
    "encrypted": "#009E73",
    "undelivered": "#56B4E9",
    "continued": "#B8B8B8",
    "moved": "#B8B8B8",
    "unknown": "#8C8C8C",
}
"""Of each tone."""

WORDS: Final[Mapping[str, str]] = {
    "clear": "in clear text",
    "none": "no TLS",
    "failed": "TLS failed",
    "tls": "under TLS",
    "success": "TLS",
    "unknown": "not known",
}
"""What a legend says of a tone; itself if it is not here."""

_INK: Final[Mapping[Theme, str]] = {"light": "#1b1f24", "dark": "#e6e8eb"}
_LINE: Final[Mapping[Theme, str]] = {"light": "#d9dce1", "dark": "#3a4048"}
_TIME: Final = "utcFormat(datum.value, utchours(datum.value) + utcminutes(datum.value) ? '%H:%M' : '%d %b')"
_FONT: Final = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"


class Slice(msgspec.Struct, frozen=True):
    """A number at a time: `time_s` (seconds, UTC) begins its step; `panel`: the small chart it belongs to."""

    time_s: int
    panel: str
    tone: str
    number: int


class Bar(msgspec.Struct, frozen=True):
    """A named number; `tone` gives the colour."""

    name: str
    number: int
    tone: str = "unknown"


def words(tone: str) -> str:
    """What a tone is called."""
    return WORDS.get(tone, tone.replace("_", " "))


def over_time(
    slices: Sequence[Slice], *, title: str, step_s: int, theme: Theme = "light", width: int = 640, height: int = 110
) -> dict[str, Any]:
    """Stacked bars per step; a small chart with a scale of its own for each panel, in order of appearance, above the same times."""
    tones = _in_order({one.tone for one in slices})
    values = [
        {
            "from": one.time_s * 1000,
            "to": (one.time_s + step_s) * 1000,
            "panel": one.panel,
            "tone": words(one.tone),
            "order": tones.index(one.tone),
            "number": one.number,
        }
        for one in slices
    ]
    return {
        **_frame(title, theme),
        "data": {"values": values},
        "facet": {
            "row": {
                "field": "panel",
                "title": None,
                "sort": list(dict.fromkeys(one.panel for one in slices)),
                "header": {"labelAngle": 0, "labelAnchor": "start", "labelOrient": "top", "labelPadding": 2},
            }
        },
        "spec": {
            "width": width,
            "height": height,
            "mark": {"type": "bar", "binSpacing": 1 if len({one.time_s for one in slices}) < width / 6 else 0},
            "encoding": {
                "x": {
                    "field": "from",
                    "type": "temporal",
                    "scale": {"type": "utc"},
                    "title": None,
                    "axis": {"grid": False, "labelExpr": _TIME},
                },
                "x2": {"field": "to"},
                "y": {
                    "field": "number",
                    "type": "quantitative",
                    "aggregate": "sum",
                    "title": None,
                    "axis": {"tickCount": 4, "format": "~s"},
                },
                "color": _colour(tones),
                "order": {"field": "order", "type": "quantitative"},
            },
        },
        "resolve": {"scale": {"y": "independent"}},
    }


def ranking(bars: Sequence[Bar], *, title: str, unit: str, theme: Theme = "light", width: int = 420) -> dict[str, Any]:
    """Horizontal bars in the order given, each with its number at its end."""
    names = _unique([_cut(one.name) for one in bars])
    values = [{"name": name, "number": one.number, "tone": words(one.tone)} for name, one in zip(names, bars, strict=True)]
    return {
        **_frame(title, theme),
        "width": width,
        "height": {"step": 20},
        "data": {"values": values},
        "encoding": {
            "x": {"field": "number", "type": "quantitative", "title": unit, "axis": {"tickMinStep": 1, "format": "~s"}},
            "y": {
                "field": "name",
                "type": "nominal",
                "title": None,
                "sort": names,
                "axis": {"labelLimit": 330, "ticks": False, "domain": False},
            },
        },
        "layer": [
            {
                "mark": {"type": "bar", "cornerRadiusEnd": 2},
                "encoding": {"color": _colour(_in_order({one.tone for one in bars}), legend=False)},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 4, "color": _INK[theme]},
                "encoding": {"text": {"field": "number", "type": "quantitative", "format": ",d"}},
            },
        ],
    }


def shares(rows: Mapping[str, Mapping[str, int]], *, title: str, theme: Theme = "light", width: int = 420) -> dict[str, Any]:
    """One bar of full length per row, cut by tone: what share of it was under TLS, in clear, or is not known."""
    tones = _in_order({tone for cells in rows.values() for tone in cells})
    values = [
        {"row": name, "tone": words(tone), "order": tones.index(tone), "number": number}
        for name, cells in rows.items()
        for tone, number in cells.items()
    ]
    return {
        **_frame(title, theme),
        "width": width,
        "height": {"step": 30},
        "data": {"values": values},
        "mark": {"type": "bar"},
        "encoding": {
            "y": {
                "field": "row",
                "type": "nominal",
                "title": None,
                "sort": list(rows),
                "axis": {"ticks": False, "domain": False, "labelLimit": 240},
            },
            "x": {
                "field": "number",
                "type": "quantitative",
                "stack": "normalize",
                "title": None,
                "axis": {"format": ".0%", "tickCount": 5},
            },
            "color": _colour(tones),
            "order": {"field": "order", "type": "quantitative"},
        },
    }


def _frame(title: str, theme: Theme) -> dict[str, Any]:
    ink, line = _INK[theme], _LINE[theme]
    return {
        "$schema": SCHEMA,
        "title": {"text": title, "anchor": "start", "fontSize": 14, "fontWeight": 600, "offset": 12},
        "background": "transparent",
        "padding": 8,
        "config": {
            "font": _FONT,
            "view": {"stroke": None},
            "title": {"color": ink},
            "axis": {
                "labelColor": ink,
                "titleColor": ink,
                "gridColor": line,
                "domainColor": line,
                "tickColor": line,
                "titleFontWeight": "normal",
            },
            "header": {"labelColor": ink, "labelFontWeight": 600},
            "legend": {"labelColor": ink, "titleColor": ink, "orient": "bottom", "symbolType": "square"},
        },
    }


def _colour(tones: Sequence[str], *, legend: bool = True) -> dict[str, Any]:
    return {
        "field": "tone",
        "type": "nominal",
        "scale": {"domain": [words(tone) for tone in tones], "range": [COLOURS.get(tone, COLOURS["unknown"]) for tone in tones]},
        "legend": {"title": None} if legend else None,
    }


def _in_order(tones: set[str]) -> list[str]:
    return [tone for tone in COLOURS if tone in tones] + sorted(tones.difference(COLOURS))


def _cut(name: str) -> str:
    return name if len(name) <= 52 else name[:51] + "…"


def _unique(names: Sequence[str]) -> list[str]:
    """Two bars of one name would be drawn on each other: the later ones get a number."""
    seen: dict[str, int] = {}
    told = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        told.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return told
