"""A report as tables of plain words, the most telling first: what a terminal and a page of HTML both show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from esa_tls.offline.audit import Audit, PartnerRow
from esa_tls.offline.explain_words import ENDS, EVIDENCE, FAILURES, POSTURES, RESULTS, counted
from esa_tls.offline.report import Count, Ranking, Report, Table

OUTCOME_ORDER = ("success", "failed", "none", "unknown")
CLEAR_ORDER = ("clear", "tls", "unknown")
POSTURE_ORDER = ("exposed", "partial", "blocked", "unknown", "encrypted", "undelivered", "continued", "moved")
WAYS = {"inbound": "in (ICID)", "outbound": "out (DCID)"}
FLOWS = {"incoming": "incoming mail", "outgoing": "outgoing mail", "internal": "made on the appliance", "unknown": "flow not known"}
HEADS = {"success": "TLS", "failed": "TLS failed", "none": "no TLS", "unknown": "not known", "clear": "in clear text", "tls": "under TLS"}
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


class Cell(msgspec.Struct, frozen=True):
    """A text as the log or we wrote it, not escaped; `tone`: the outcome or posture it stands for, which gives it its colour."""

    text: str
    tone: str = ""


class Section(msgspec.Struct, frozen=True):
    """One table. `numbers`: those of `columns` that hold numbers."""

    title: str
    columns: tuple[str, ...]
    numbers: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    note: str = ""


def headline(report: Report) -> Cell | None:
    """How many recipients got mail in clear; None if there were none at all."""
    exposed = report.recipients.get("exposed", 0)
    total = sum(number for posture, number in report.recipients.items() if posture != "moved")
    if not total:
        return None
    text = f"{exposed:,} of {counted(total, 'recipient')} got mail that went in clear text on at least one leg."
    return Cell(text, "exposed" if exposed else "encrypted")


def sections(report: Report) -> Iterator[Section]:
    """Every table that has a row."""
    if report.audit is not None:
        yield from _compliance(report.audit)
    yield from _numbers("Mail received", report.receptions, FLOWS, CLEAR_ORDER, "messages, by mail flow")
    yield from _numbers("Mail delivered", report.deliveries_clear, FLOWS, CLEAR_ORDER, "deliveries, by mail flow")
    yield from _numbers("TLS of those deliveries", report.deliveries, FLOWS, OUTCOME_ORDER, "deliveries, by mail flow")
    yield from _numbers("TLS of connections", report.connections, WAYS, OUTCOME_ORDER, "connections, by direction")
    yield from _words("Why that is believed", _evidence(report), ("connections", "TLS", "because", "number"))
    yield from _words("Undecided connections", _undecided(report), ("connections", "why", "number"))
    yield from _postures(report)
    yield from _words(
        "Recipients",
        [(POSTURES.get(name, name), f"{report.recipients[name]:,}") for name in in_order(report.recipients, POSTURE_ORDER)],
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
        "Protocols", report.protocols, WAYS, ("TLSv1.3", "TLSv1.2", "TLSv1.1", "TLSv1", "TLSv1/SSLv3"), "connections under TLS"
    )
    for direction, ranking in report.ciphers.items():
        yield from _ranked(f"Ciphers, {WAYS[direction]}", ranking, "connections")
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


def _ciphers(row: PartnerRow) -> str:
    """The one used most, and how many others."""
    if not row.ciphers:
        return ""
    return row.ciphers[0][0] + (f" and {counted(len(row.ciphers) - 1, 'other')}" if len(row.ciphers) > 1 else "")


SHOWN_BREACHES = 200
"""Exceptions in the tables; CSV has them all."""


def _compliance(audit: Audit) -> Iterator[Section]:
    columns = ("partner", "direction", "mails", "under TLS", "in clear text", "not known", "share under TLS", "weakest protocol", "ciphers")
    rows = [
        (
            Cell(row.partner),
            Cell(WAYS[row.direction]),
            Cell(f"{row.total:,}"),
            Cell(f"{row.tls:,}", "tls" if row.tls else "nothing"),
            Cell(f"{row.clear:,}", "clear" if row.clear else "nothing"),
            Cell(f"{row.unknown:,}", "unknown" if row.unknown else "nothing"),
            Cell(f"{row.tls / row.total:.1%}"),
            Cell(row.floor),
            Cell(_ciphers(row)),
        )
        for row in audit.rows()
    ]
    note = "" if rows else "no mail that the lists are about"
    yield Section("Where TLS is expected", columns, ("mails", "under TLS", "in clear text", "not known", "share under TLS"), rows, note)
    shown = audit.breaches[:SHOWN_BREACHES]
    if not shown:
        return
    more = len(audit.breaches) + audit.more_breaches - len(shown)
    breaches = [
        (
            Cell(one.time.replace("T", " ").rstrip("Z")),
            Cell(one.partners),
            Cell(f"MID {one.mid}"),
            Cell(one.connection),
            Cell(one.peer),
            Cell(f"{one.sender} -> {one.recipients}"),
            Cell(HEADS[one.clear], one.clear),
            Cell(EVIDENCE.get(one.evidence, one.evidence)),
            Cell(one.reason or FAILURES.get(one.failure_class, one.failure_class)),
        )
        for one in shown
    ]
    columns = ("time (UTC)", "partner", "message", "connection", "peer", "mail", "went", "because", "failure")
    yield Section("Exceptions", columns, (), breaches, f"and {more:,} more" if more else "")


def title(report: Report) -> str:
    """What was read."""
    files = f"{report.files[0]}" if len(report.files) == 1 else f"{report.files[0]} and {counted(len(report.files) - 1, 'file')} more"
    read = f"{files}: {counted(report.lines, 'line')}, {_size(report.bytes)}"
    return f"{read}, records {report.period}" if report.period else read


def appliances(report: Report) -> Section:
    """The appliances that wrote it."""
    columns = ("appliance", "lines", "from (UTC)", "to (UTC)", "version", "serial number", "lives")
    rows = [
        (
            Cell(one.name),
            Cell(f"{one.lines:,}"),
            Cell((one.first or "").replace("T", " ").rstrip("Z")),
            Cell((one.last or "").replace("T", " ").rstrip("Z")),
            Cell(one.version or ""),
            Cell(one.serial_number or ""),
            Cell(str(one.lives) if one.lives > 1 else ""),
        )
        for one in report.appliances
    ]
    return Section("Appliances", columns, ("lines",), rows)


def _size(number: int) -> str:
    size = float(number)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
        size /= 1024
    return ""


def _numbers(title: str, table: Table, names: Mapping[str, str], order: Sequence[str], note: str) -> Iterator[Section]:
    """Numbers with percentages of the row."""
    if not table.cells:
        return
    columns = in_order(table.columns(), order)
    heads = [HEADS.get(column, column) for column in columns]
    rows = []
    for name in in_order(table.cells, tuple(names)):
        total = table.total(name)
        cells = [Cell(names.get(name, name))]
        for column in columns:
            number = table.cells[name].get(column, 0)
            cells.append(Cell(f"{number:,} ({number / total:.1%})", column) if number else Cell("-", "nothing"))
        rows.append((*cells, Cell(f"{total:,}")))
    yield Section(title, ("", *heads, "total"), (*heads, "total"), rows, note)


def _words(title: str, rows: Sequence[tuple[str, ...]], columns: Sequence[str]) -> Iterator[Section]:
    if rows:
        yield Section(title, tuple(columns), ("number", "recipients"), [tuple(map(Cell, row)) for row in rows])


def _ranked(title: str, ranking: Ranking, unit: str) -> Iterator[Section]:
    if not ranking.top:
        return
    rest = ranking.names - len(ranking.top)
    notes = [f"and {rest:,} more"] if rest > 0 else []
    notes += [f"numbers may be up to {ranking.missed:,} too low"] if ranking.missed else []
    rows = [(Cell(one.name), Cell(f"{one.number:,}")) for one in ranking.top]
    yield Section(title, ("", unit), (unit,), rows, ", ".join(notes))


def _evidence(report: Report) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for key in sorted(report.evidence.cells, key=lambda name: (name.split()[0], _place(name.split()[1]))):
        direction, outcome = key.split()
        for evidence, number in sorted(report.evidence.cells[key].items()):
            rows.append((WAYS[direction], HEADS.get(outcome, outcome), EVIDENCE.get(evidence, evidence), f"{number:,}"))
    return rows


def _place(outcome: str) -> int:
    return OUTCOME_ORDER.index(outcome) if outcome in OUTCOME_ORDER else len(OUTCOME_ORDER)


def _undecided(report: Report) -> list[tuple[str, ...]]:
    return [
        (WAYS[direction], _UNDECIDED.get(why) or f"neither TLS nor mail; {ENDS.get(why, why)}", f"{number:,}")
        for direction, cells in sorted(report.undecided.cells.items())
        for why, number in sorted(cells.items(), key=lambda item: -item[1])
    ]


def _postures(report: Report) -> Iterator[Section]:
    heads = {"message": "both legs", "in": "as received", "out": "as delivered"}
    rows = []
    for posture in in_order(report.postures.columns(), POSTURE_ORDER):
        numbers = [report.postures.cells.get(name, {}).get(posture, 0) for name in heads]
        words = Cell(POSTURES.get(posture, posture), posture)
        rows.append((words, *[Cell(f"{number:,}" if number else "-") for number in numbers]))
    if rows:
        yield Section("Posture of messages", ("", *heads.values()), tuple(heads.values()), rows)


def _failures(failures: Sequence[Count]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for one in failures:
        direction, _, name = one.name.partition(" ")
        rows.append((WAYS.get(direction, direction), FAILURES.get(name, name), f"{one.number:,}", " | ".join(one.samples)))
    return rows


def in_order(columns: Iterable[str], order: Sequence[str]) -> list[str]:
    """Columns in a fixed order, unknown ones last."""
    present = list(columns)
    return [name for name in order if name in present] + sorted(name for name in present if name not in order)
