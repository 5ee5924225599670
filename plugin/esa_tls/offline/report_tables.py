"""A report for a terminal: rich tables, the most telling first. Names from the log are made harmless."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from esa_tls.offline.explain_words import ENDS, EVIDENCE, FAILURES, POSTURES, RESULTS, counted
from esa_tls.offline.report import Count, Ranking, Report, Table
from esa_tls.offline.terminal import printable

_OUTCOMES = ("success", "failed", "none", "unknown")
_CLEAR = ("clear", "tls", "unknown")
_POSTURES = ("exposed", "partial", "blocked", "unknown", "encrypted", "undelivered", "continued", "moved")
_STYLES = {
    "success": "green", "tls": "green", "encrypted": "green", "failed": "red", "blocked": "red", "none": "yellow",
    "clear": "bold red", "exposed": "bold red", "partial": "red", "unknown": "dim",
}  # fmt: skip
_WAYS = {"inbound": "in (ICID)", "outbound": "out (DCID)"}
_FLOWS = {"incoming": "incoming mail", "outgoing": "outgoing mail", "internal": "made on the appliance", "unknown": "flow not known"}
_HEADS = {"success": "TLS", "failed": "TLS failed", "none": "no TLS", "unknown": "not known", "clear": "in clear text", "tls": "under TLS"}
_UNDECIDED = {
    "beginning_not_seen": "the log begins after the connection did",
    "stream_end": "neither TLS nor mail when the log ends",
    "close": "neither TLS nor mail; lost, cut off or refused before it was closed",
}
_FLAGS = {
    "contradictions": "TLS lines that came after the outcome was decided",
    "epoch_resets": "times an appliance's counters began anew",
    "clock_rebases": "times an appliance's clock went back",
    "evictions": "connections and messages forgotten for want of room",
    "late_lines": "lines that came after their record had left",
    "duplicate_lines": "lines that came a second time under another log name",
    "bad_times": "lines with a time that cannot be right",
    "truncated_lines": "lines that are cut off",
    "continuation_lines": "lines that continue the one before",
    "year_inferred_lines": "lines without a year, which was worked out",
}


def render(report: Report) -> Iterator[RenderableType]:
    """The report in parts, to be printed one after the other."""
    yield _head(report)
    exposed = report.recipients.get("exposed", 0)
    total = sum(number for posture, number in report.recipients.items() if posture != "moved")
    if total:
        text = Text(f"{exposed:,} of {counted(total, 'recipient')} got mail that went in clear text on at least one leg.")
        text.stylize("bold red" if exposed else "bold green")
        yield text
        yield Text()
    yield from _numbers("Mail received", report.receptions, _FLOWS, _CLEAR, "messages, by mail flow")
    yield from _numbers("Mail delivered", report.deliveries_clear, _FLOWS, _CLEAR, "deliveries, by mail flow")
    yield from _numbers("TLS of those deliveries", report.deliveries, _FLOWS, _OUTCOMES, "deliveries, by mail flow")
    yield from _numbers("TLS of connections", report.connections, _WAYS, _OUTCOMES, "connections, by direction")
    yield from _words("Why that is believed", _evidence(report), ("connections", "TLS", "because", "number"))
    yield from _words("Undecided connections", _undecided(report), ("connections", "why", "number"))
    yield from _postures(report)
    yield from _words(
        "Recipients",
        [(POSTURES.get(name, name), f"{report.recipients[name]:,}") for name in _in_order(report.recipients, _POSTURES)],
        ("mail", "recipients"),
    )
    yield from _words(
        "Delivery results",
        [(RESULTS.get(name, name), f"{number:,}") for name, number in sorted(report.results.items(), key=lambda item: -item[1])],
        ("result", "recipients"),
    )
    yield from _words("Failures of TLS", _failures(report.failures), ("connections", "class", "number", "as the log says it"))
    yield from _ranked("Received in clear text, by sender's domain", report.clear_in_domains, "messages")
    yield from _ranked("Received in clear text, by client", report.clear_in_peers, "messages")
    yield from _ranked("Delivered in clear text, by recipient's domain", report.clear_out_domains, "recipients")
    yield from _ranked("Delivered in clear text, by server", report.clear_out_peers, "recipients")
    yield from _numbers(
        "Protocols", report.protocols, _WAYS, ("TLSv1.3", "TLSv1.2", "TLSv1.1", "TLSv1", "TLSv1/SSLv3"), "connections under TLS"
    )
    for direction, ranking in report.ciphers.items():
        yield from _ranked(f"Ciphers, {_WAYS[direction]}", ranking, "connections")
    yield from _words(
        "Worth knowing",
        [(_FLAGS.get(name, name.replace("_", " ")), f"{number:,}") for name, number in report.flags.items() if number],
        ("what", "number"),
    )
    if report.unrecognised_lines:
        title = f"Unrecognised lines: {report.unrecognised_lines:,} of {counted(report.unrecognised_shapes, 'shape')}"
        yield from _words(
            title,
            [(f"{one.number:,}", one.name or "(nothing)") for one in report.unrecognised],
            ("number", "shape (numbers and quoted text masked)"),
        )


def _head(report: Report) -> RenderableType:
    files = f"{report.files[0]}" if len(report.files) == 1 else f"{report.files[0]} and {counted(len(report.files) - 1, 'file')} more"
    parts: list[RenderableType] = [
        Text(f"{printable(files)}: {counted(report.lines, 'line')}, {_size(report.bytes)}", style="bold"),
    ]
    table = _table(("appliance", "lines", "from (UTC)", "to (UTC)", "version", "serial number", "lives"))
    for one in report.appliances:
        table.add_row(
            Text(printable(one.name)),
            f"{one.lines:,}",
            (one.first or "").replace("T", " ").rstrip("Z"),
            (one.last or "").replace("T", " ").rstrip("Z"),
            Text(printable(one.version or "")),
            Text(printable(one.serial_number or "")),
            str(one.lives) if one.lives > 1 else "",
        )
    parts.append(table)
    if report.records:
        parts.append(Text("Records: " + ", ".join(f"{number:,} {kind}" for kind, number in sorted(report.records.items()))))
    parts.append(Text())
    return Group(*parts)


def _size(number: int) -> str:
    size = float(number)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return ""


def _table(columns: Sequence[str], *, numbers: Sequence[str] = ("lines", "number", "recipients")) -> RichTable:
    """`numbers`: the columns set to the right."""
    table = RichTable(box=box.SIMPLE, pad_edge=False, show_edge=False, header_style="bold", padding=(0, 1))
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return table


def _titled(title: str, table: RichTable, note: str = "") -> Iterator[RenderableType]:
    heading = Text(title, style="bold cyan")
    if note:
        heading.append(f"  ({note})", style="dim")
    yield heading
    yield table
    yield Text()


def _numbers(title: str, table: Table, rows: Mapping[str, str], order: Sequence[str], note: str) -> Iterator[RenderableType]:
    """A table of numbers with percentages of the row."""
    if not table.cells:
        return
    columns = _in_order(table.columns(), order)
    heads = [_HEADS.get(column, column) for column in columns]
    shown = _table(["", *heads, "total"], numbers=[*heads, "total"])
    for name in _in_order(table.cells, tuple(rows)):
        total = table.total(name)
        cells = [Text(rows.get(name, printable(name)))]
        for column in columns:
            number = table.cells[name].get(column, 0)
            cells.append(Text(f"{number:,} ({number / total:.1%})" if number else "-", style=_STYLES.get(column, "") if number else "dim"))
        shown.add_row(*cells, f"{total:,}")
    yield from _titled(title, shown, note)


def _words(title: str, rows: Sequence[tuple[str, ...]], columns: Sequence[str]) -> Iterator[RenderableType]:
    if not rows:
        return
    shown = _table(columns)
    for row in rows:
        shown.add_row(*[Text(printable(cell)) for cell in row])
    yield from _titled(title, shown)


def _ranked(title: str, ranking: Ranking, unit: str) -> Iterator[RenderableType]:
    if not ranking.top:
        return
    shown = _table(["", unit], numbers=[unit])
    for one in ranking.top:
        shown.add_row(Text(printable(one.name)), f"{one.number:,}")
    rest = ranking.names - len(ranking.top)
    notes = [f"and {rest:,} more"] if rest > 0 else []
    notes += [f"numbers may be up to {ranking.missed:,} too low"] if ranking.missed else []
    yield from _titled(title, shown, ", ".join(notes))


def _evidence(report: Report) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for key in sorted(report.evidence.cells, key=lambda name: (name.split()[0], _place(name.split()[1]))):
        direction, outcome = key.split()
        for evidence, number in sorted(report.evidence.cells[key].items()):
            rows.append((_WAYS[direction], _HEADS.get(outcome, outcome), EVIDENCE.get(evidence, evidence), f"{number:,}"))
    return rows


def _place(outcome: str) -> int:
    return _OUTCOMES.index(outcome) if outcome in _OUTCOMES else len(_OUTCOMES)


def _undecided(report: Report) -> list[tuple[str, ...]]:
    return [
        (_WAYS[direction], _UNDECIDED.get(why) or f"neither TLS nor mail; {ENDS.get(why, why)}", f"{number:,}")
        for direction, cells in sorted(report.undecided.cells.items())
        for why, number in sorted(cells.items(), key=lambda item: -item[1])
    ]


def _postures(report: Report) -> Iterator[RenderableType]:
    rows = {"message": "both legs", "in": "as received", "out": "as delivered"}
    if not report.postures.cells:
        return
    shown = _table(["", *rows.values()], numbers=list(rows.values()))
    for posture in _in_order(report.postures.columns(), _POSTURES):
        cells = [report.postures.cells.get(name, {}).get(posture, 0) for name in rows]
        shown.add_row(
            Text(POSTURES.get(posture, posture), style=_STYLES.get(posture, "")), *[f"{number:,}" if number else "-" for number in cells]
        )
    yield from _titled("Posture of messages", shown)


def _failures(failures: Sequence[Count]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for one in failures:
        direction, _, name = one.name.partition(" ")
        rows.append((_WAYS.get(direction, direction), FAILURES.get(name, name), f"{one.number:,}", " | ".join(one.samples)))
    return rows


def _in_order(columns: Iterable[str], order: Sequence[str]) -> list[str]:
    """Columns in a fixed order, unknown ones last."""
    present = list(columns)
    return [name for name in order if name in present] + sorted(name for name in present if name not in order)
