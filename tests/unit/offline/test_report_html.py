"""A report as a page: the same numbers as the tables, nothing fetched, and no text of the log that could act."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.e2e.sidecar import esa_tls

from esa_tls.charts import render
from esa_tls.offline.report import _Timeline, report
from esa_tls.offline.report_html import charts, page
from esa_tls.offline.report_sections import sections
from esa_tls.offline.simulate import SimulationSettings, simulate

HOSTILE = (
    "Mon Nov 24 10:00:00 2025 Info: New SMTP ICID 5 interface Data1 (10.0.0.1) address 192.0.2.9 reverse dns host <img> verified no",
    "Mon Nov 24 10:00:00 2025 Info: ICID 5 ACCEPT SG <script>alert(2)</script> match 192.0.2.0/24 SBRS None",
    "Mon Nov 24 10:00:01 2025 Info: Start MID 7 ICID 5",
    "Mon Nov 24 10:00:01 2025 Info: MID 7 ICID 5 From: <a@<script>alert(3)</script>.example>",
    "Mon Nov 24 10:00:02 2025 Info: what is \u202e this & <b>bold</b> line",
    "Mon Nov 24 10:00:03 2025 Info: ICID 5 close",
)


class Parsed(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def simulated(tmp_path: Path) -> Path:
    """A log of 200 messages."""
    path = tmp_path / "mail.log"
    path.write_bytes(b"".join(line + b"\n" for _, line in simulate(SimulationSettings(messages=200, seed=3))))
    return path


def test_the_page_has_every_table_and_chart(simulated: Path) -> None:
    """Every cell of every table is in it, and every chart in both themes with its sentence."""
    told = report([simulated])
    parsed = Parsed(page(told))
    for section in sections(told):
        assert section.title in parsed.text
        assert all(cell.text in parsed.text for row in section.rows for cell in row)
    drawn = list(charts(told))
    assert len(drawn) >= 5
    assert parsed.tags.count("figure") == len(drawn)
    labels = [value for name, value in parsed.attributes if name == "aria-label"]
    assert [chart.told for chart in drawn] == [label for label in labels if label in {chart.told for chart in drawn}]


def test_nothing_is_fetched_and_nothing_runs(simulated: Path) -> None:
    """No script, no link, no source, no URL in a style; a policy that forbids them besides."""
    text = page(report([simulated]))
    parsed = Parsed(text)
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(parsed.tags)
    assert not [name for name, _ in parsed.attributes if name in ("src", "href", "xlink:href", "action") or name.startswith("on")]
    assert not re.search(r"url\((?!#)", text)
    assert any(value == "Content-Security-Policy" for _, value in parsed.attributes)


def test_text_of_the_log_is_text_on_the_page(tmp_path: Path) -> None:
    """Names, senders and unrecognised lines that hold markup or direction marks are shown, not obeyed."""
    path = tmp_path / "<b>.log"
    path.write_text("\n".join(HOSTILE) + "\n")
    text = page(report([path]))
    parsed = Parsed(text)
    assert not {"script", "img", "b"} & set(parsed.tags)
    assert "\u202e" not in text
    assert "<*>bold<*> line" in parsed.text


def test_a_log_without_mail_has_a_page(tmp_path: Path) -> None:
    """No chart, no error."""
    path = tmp_path / "empty.log"
    path.touch()
    assert "svg" not in Parsed(page(report([path]))).tags


def test_without_the_extra_the_page_says_so(simulated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables are all there."""
    monkeypatch.setattr(render, "is_available", lambda: False)
    parsed = Parsed(page(report([simulated])))
    assert "svg" not in parsed.tags
    assert "esa-tls[charts]" in parsed.text
    assert "Mail delivered" in parsed.text


def test_moments_add_up_to_the_tables(simulated: Path) -> None:
    """What the chart shows over time is what the tables show in all."""
    told = report([simulated])
    for way, table in (("received", told.receptions), ("delivered", told.deliveries_clear)):
        for flow, cells in table.cells.items():
            for clear, number in cells.items():
                assert sum(one.number for one in told.moments if (one.way, one.flow, one.clear) == (way, flow, clear)) == number


def test_a_long_time_has_longer_steps() -> None:
    """Years of hours do not fit: steps grow, and nothing is lost."""
    timeline = _Timeline(capacity=100)
    for hour in range(0, 100_000, 7):
        timeline.add(hour * 3600, "received", "incoming", "tls")
    moments = timeline.moments()
    assert len(moments) <= 101
    assert sum(one.number for one in moments) == len(range(0, 100_000, 7))
    assert all(one.time_s % timeline.step_s == 0 for one in moments)


def test_the_command_writes_files(simulated: Path, tmp_path: Path) -> None:
    """`--html` and `--png` write them and print no tables; a log without mail has a picture too."""
    html, png = tmp_path / "r.html", tmp_path / "r.png"
    done = esa_tls("report", simulated, "--html", html, "--png", png)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert html.read_text().startswith("<!doctype html>")
    assert png.read_bytes().startswith(b"\x89PNG")
    empty = tmp_path / "empty.log"
    empty.touch()
    assert esa_tls("report", empty, "--png", png).returncode == 0
