"""A report as one page of HTML that needs nothing else: charts, tables and styles are in it; no script, nothing fetched. Prints well.

Every text of the log is escaped by the template, and what would not show (control characters, direction marks) is written out. Without the
extra `charts` the page has the tables alone and says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from esa_tls import __version__
from esa_tls.charts import render, specs
from esa_tls.charts.specs import COLOURS, Bar, Slice, Theme
from esa_tls.offline.explain_words import FAILURES
from esa_tls.offline.report import Ranking, Report
from esa_tls.offline.report_sections import FLOWS, appliances, headline, sections, title
from esa_tls.offline.terminal import printable

BARS = 12
"""So many names of a ranking are drawn; the table beside has them all."""

_WAYS_OF_MAIL = {"received": "Received", "delivered": "Delivered"}
_SHORT = {"inbound": "in", "outbound": "out"}


class Chart(msgspec.Struct, frozen=True):
    """One chart: what it shows in a sentence, for who cannot see it, and the specification for a theme."""

    told: str
    spec: dict[Theme, dict[str, Any]]


def page(report: Report) -> str:
    """The whole page."""
    environment = Environment(
        loader=PackageLoader("esa_tls.offline", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["shown"] = printable
    drawn = []
    if render.is_available():
        drawn = [(chart.told, [(theme, Markup(render.svg(spec))) for theme, spec in chart.spec.items()]) for chart in charts(report)]  # noqa: S704 (drawn by vl-convert, which escapes)
    return environment.get_template("report.html.j2").render(
        title=title(report),
        headline=headline(report),
        appliances=appliances(report),
        sections=list(sections(report)),
        charts=drawn,
        charts_missing=not render.is_available(),
        colours=COLOURS,
        version=__version__,
    )


def picture(report: Report) -> bytes:
    """The first chart, as PNG. Raises ChartsMissing."""
    render.require()
    first = next(charts(report), None)
    spec = specs.ranking([Bar("mail", 0)], title="No mail in this log", unit="messages") if first is None else first.spec["light"]
    return render.png(spec)


def charts(report: Report) -> Iterator[Chart]:
    """Every chart that has something to show, the most telling first."""
    if report.moments:
        totals: dict[tuple[str, str], int] = {}
        for one in report.moments:
            totals[one.way, one.flow] = totals.get((one.way, one.flow), 0) + one.number
        ways = list(_WAYS_OF_MAIL)
        panels = sorted(totals, key=lambda panel: (panel[1] == "unknown", ways.index(panel[0]), -totals[panel]))
        slices = [
            Slice(one.time_s, f"{_WAYS_OF_MAIL[one.way]}: {FLOWS.get(one.flow, one.flow)}", one.clear, one.number)
            for one in sorted(report.moments, key=lambda one: (panels.index((one.way, one.flow)), one.time_s))
        ]
        yield _chart(
            f"Mail over time by TLS, received and delivered, by mail flow, in steps of {report.step_s // 3600} h.",
            lambda theme: specs.over_time(slices, title="Mail over time", step_s=report.step_s, theme=theme, width=860, height=90),
        )
    rows = {f"received: {FLOWS.get(flow, flow)}": cells for flow, cells in report.receptions.cells.items()}
    rows |= {f"delivered: {FLOWS.get(flow, flow)}": cells for flow, cells in report.deliveries_clear.cells.items()}
    if rows:
        yield _chart(
            "Share of mail under TLS, by way and mail flow.", lambda theme: specs.shares(rows, title="Share under TLS", theme=theme)
        )
    if report.failures:
        failures = []
        for failure in report.failures[:BARS]:
            way, _, name = failure.name.partition(" ")
            failures.append(Bar(f"{_SHORT.get(way, way)}: {FAILURES.get(name, name)}", failure.number, "failed"))
        yield _chart(
            "Failures of TLS by class.", lambda theme: specs.ranking(failures, title="Failures of TLS", unit="connections", theme=theme)
        )
    for name, ranked, unit in (
        ("Delivered in clear text, by recipient's domain", report.clear_out_domains, "recipients"),
        ("Received in clear text, by sender's domain", report.clear_in_domains, "messages"),
    ):
        if ranked.top:
            yield _ranked(name, ranked, unit)
    if report.protocols.cells:
        protocols: dict[str, int] = {}
        for cells in report.protocols.cells.values():
            for name, number in cells.items():
                protocols[name] = protocols.get(name, 0) + number
        bars = [Bar(name, number, "success") for name, number in sorted(protocols.items(), key=lambda item: -item[1])[:BARS]]
        yield _chart("Protocols.", lambda theme: specs.ranking(bars, title="Protocols", unit="connections under TLS", theme=theme))


def _ranked(name: str, ranked: Ranking, unit: str) -> Chart:
    bars = [Bar(printable(one.name), one.number, "clear") for one in ranked.top[:BARS]]
    return _chart(f"{name}.", lambda theme: specs.ranking(bars, title=name, unit=unit, theme=theme))


def _chart(told: str, spec: Any) -> Chart:  # noqa: ANN401 (a function of the theme)
    return Chart(told, {"light": spec("light"), "dark": spec("dark")})
