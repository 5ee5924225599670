"""A report for a terminal, by rich. Names from the log are made harmless."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from esa_tls.offline.report import Report
from esa_tls.offline.report_sections import Section, appliances, headline, sections, title
from esa_tls.offline.terminal import printable

_STYLES = {
    "success": "green", "tls": "green", "encrypted": "green", "failed": "red", "blocked": "red", "none": "yellow",
    "clear": "bold red", "exposed": "bold red", "partial": "red", "unknown": "dim", "nothing": "dim",
}  # fmt: skip


def render(report: Report) -> Iterator[RenderableType]:
    """The report in parts, to be printed one after the other."""
    yield Text(printable(title(report)), style="bold")
    yield _table(appliances(report))
    if report.records:
        yield Text("Records: " + ", ".join(f"{number:,} {kind}" for kind, number in sorted(report.records.items())))
    yield Text()
    if (said := headline(report)) is not None:
        yield Text(said.text, style="bold red" if said.tone == "exposed" else "bold green")
        yield Text()
    for section in sections(report):
        heading = Text(section.title, style="bold cyan")
        if section.note:
            heading.append(f"  ({section.note})", style="dim")
        yield heading
        yield _table(section)
        yield Text()


def _table(section: Section) -> RichTable:
    table = RichTable(box=box.SIMPLE, pad_edge=False, show_edge=False, header_style="bold", padding=(0, 1))
    for column in section.columns:
        table.add_column(column, justify="right" if column in section.numbers else "left", overflow="fold")
    for row in section.rows:
        table.add_row(*[Text(printable(cell.text), style=_STYLES.get(cell.tone, "")) for cell in row])
    return table
