"""Charts: what they say, that they are drawn offline, and that no text in them can act."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from esa_tls.charts import render, specs
from esa_tls.charts.specs import Bar, Slice, Theme
from esa_tls.errors import ChartsMissing

HOSTILE = "</text><script>alert(1)</script> & \"quoted\" 'x'"
SLICES = [
    Slice(1_700_000_000 + hour * 3600, panel, tone, hour + 1) for panel in ("in", HOSTILE) for hour in range(3) for tone in ("tls", "clear")
]


def every_chart(theme: Theme = "light") -> list[dict[str, Any]]:
    """One of each, with text of a stranger in every place where there may be some."""
    return [
        specs.over_time(SLICES, title="t", step_s=3600, theme=theme),
        specs.shares({HOSTILE: {"tls": 1, "clear": 2}, "b": {"unknown": 3}}, title="t", theme=theme),
        specs.ranking([Bar(HOSTILE, 5, "clear"), Bar("b", 3)], title="t", unit="u", theme=theme),
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_chart_is_drawn_and_its_texts_are_text(theme: Theme) -> None:
    """SVG that is well-formed, has no script, link or event handler, and holds the stranger's text as text."""
    for spec in every_chart(theme):
        drawn = ET.fromstring(render.svg(spec))
        for element in drawn.iter():
            assert not element.tag.endswith(("}script", "}foreignObject", "}image", "}a"))
            assert not any(name.startswith("on") or name.endswith("href") for name in element.attrib)
        assert any("<script>" in (element.text or "") for element in drawn.iter())


def test_a_picture_is_a_png() -> None:
    """For those who paste pictures."""
    assert render.png(every_chart()[2]).startswith(b"\x89PNG\r\n")


def test_mail_in_clear_has_its_colour_and_the_first_place() -> None:
    """In every chart the same tone has the same colour, and clear text comes first in the legend."""
    over_time, shares, _ = every_chart()
    for encoding in (over_time["spec"]["encoding"], shares["encoding"]):
        scale = encoding["color"]["scale"]
        assert scale["domain"][:2] == ["in clear text", "under TLS"]
        assert scale["range"][:2] == [specs.COLOURS["clear"], specs.COLOURS["tls"]]


def test_equal_names_stay_apart() -> None:
    """Names that are cut to the same text are two bars, or one would hide the other."""
    spec = specs.ranking([Bar("x" * 90 + "1", 5), Bar("x" * 90 + "2", 3)], title="t", unit="u")
    assert len({value["name"] for value in spec["data"]["values"]}) == 2


def test_panels_and_bars_keep_their_order() -> None:
    """As given, not by alphabet."""
    assert specs.over_time(SLICES[::-1], title="t", step_s=3600)["facet"]["row"]["sort"] == [HOSTILE, "in"]
    assert specs.ranking([Bar("z", 5), Bar("a", 3)], title="t", unit="u")["encoding"]["y"]["sort"] == ["z", "a"]


def test_specifications_are_plain_json() -> None:
    """They can be kept, compared, and drawn by any Vega-Lite."""
    for spec in every_chart():
        assert json.loads(json.dumps(spec)) == spec


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an ImportError from somewhere deep."""
    monkeypatch.setattr(render, "is_available", lambda: False)
    with pytest.raises(ChartsMissing, match=r"pip install 'esa-tls\[charts\]'"):
        render.require()
