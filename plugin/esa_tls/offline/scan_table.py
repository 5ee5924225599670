"""`esa-tls scan --format table`: one row per record, written as the records come, so that a log of any size can be looked at.

Columns have fixed widths, the last one takes what is left: cut at the edge of a terminal, whole into a file or a pipe.
Times are UTC, as in the records.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from rich.console import Console
from rich.style import Style

from esa_tls.core.encode import JsonLines
from esa_tls.core.line_record import Leaving, line_dict
from esa_tls.core.records import KINDS
from esa_tls.offline.scan import SUMMARIES, Pass, Progress, ScanSettings
from esa_tls.offline.terminal import is_terminal, printable


class Cells(NamedTuple):
    """One row. `clear`: `yes` = the mail went in clear text on this connection, `no` = under TLS, empty = unknown or no mail."""

    time: str
    kind: str
    connection: str
    way: str
    tls: str
    clear: str
    evidence: str
    result: str
    what: str


HEAD = Cells("TIME (UTC)", "RECORD", "CONNECTION", "WAY", "TLS", "CLEAR", "EVIDENCE", "RESULT", "FROM -> TO")
WIDTHS = (19, 12, 24, 3, 7, 5, 13, 16)
CONNECTION = 2
"""The column that is made as wide as the first ids need."""

WIDEST_CONNECTION = 48
SMALLEST_LAST = 30

_STYLES = {
    "success": Style.parse("green"),
    "failed": Style.parse("bold red"),
    "none": Style.parse("yellow"),
    "unknown": Style.parse("dim"),
    "yes": Style.parse("bold red"),
    "no": Style.parse("green"),
}


class Records(JsonLines):
    """Takes the records themselves instead of encoding them: `taken`, in the order in which they came."""

    interleaved = True

    def __init__(self, kinds: frozenset[str]) -> None:
        super().__init__()
        self.kinds = kinds
        self.wants_lines = "line" in kinds
        self.taken: list[dict[str, Any]] = []

    def lines(self, leaving: Sequence[Leaving]) -> None:
        """Take `line` records."""
        if self.wants_lines:
            self.taken += [line_dict(*one) for one in leaving]

    def summary(self, kind: str, record: dict[str, Any], time_s: int) -> None:
        """Take a summary record."""
        del time_s
        if kind in self.kinds:
            self.taken.append(record)


def write_table(
    out: BinaryIO, files: Sequence[str | Path], settings: ScanSettings, *, stdin: BinaryIO | None = None, progress: Progress | None = None
) -> None:
    """Read `files` and write a row per record. All kinds wanted means all but `line`. Raises as `Pass.read`."""
    kinds = SUMMARIES if settings.records == frozenset(KINDS) else settings.records
    records = Records(kinds)
    terminal = is_terminal(out)
    width = shutil.get_terminal_size().columns if terminal or os.environ.get("COLUMNS") else None
    colour = terminal and not Console(stderr=True).no_color
    widths: tuple[int, ...] = ()
    for _ in Pass(settings, records, hold="line" in kinds).read(files, stdin=stdin, progress=progress):
        taken, records.taken = records.taken, []
        rows = [cells_of(record) for record in taken]
        if rows and not widths:
            widths = _widths(rows)
            out.write(_row(HEAD, widths, width).encode() + b"\n")
        out.write("".join(_row(cells, widths, width, colour=colour) + "\n" for cells in rows).encode("utf-8", "replace"))
        if terminal:
            out.flush()
    if not widths:
        out.write(_row(HEAD, WIDTHS, width).encode() + b"\n")


def _widths(rows: list[Cells]) -> tuple[int, ...]:
    longest = min(max(len(cells.connection) for cells in rows), WIDEST_CONNECTION)
    return (*WIDTHS[:CONNECTION], max(longest, WIDTHS[CONNECTION]), *WIDTHS[CONNECTION + 1 :])


def _row(cells: Cells, widths: tuple[int, ...], width: int | None, *, colour: bool = False) -> str:
    fixed = [cell.ljust(size) for cell, size in zip(cells, widths, strict=False)]
    used = sum(map(len, fixed)) + len(fixed)
    if colour:
        for place in (4, 5):
            style = _STYLES.get(cells[place])
            fixed[place] = style.render(fixed[place]) if style else fixed[place]
    last = cells.what
    if width is not None and used + len(last) > width:
        room = max(width - used, SMALLEST_LAST)
        last = last if len(last) <= room else last[: room - 1] + "…"
    return " ".join([*fixed, last]).rstrip()


def cells_of(record: dict[str, Any]) -> Cells:
    """The row of a record of any kind."""
    own = record["cisco_esa"]
    kind = own["record"]
    tls = own.get("tls", {})
    connection = own.get("connection", {}).get("id", "")
    way = _WAYS.get(own.get("direction", ""), "")
    match kind:
        case "connection":
            result = own["connection"].get("end") or ""
            what = _peer(record.get("source" if way == "in" else "destination", {}))
            reason = tls.get("failure", {}).get("reason") or tls.get("failure", {}).get("class")
            what += f": {reason}" if reason else ""
        case "delivery":
            result = own["delivery"]["result"]
            what = f"MID {own['mid']} {_envelope(own)}".rstrip() + _via(record)
        case "message":
            reception = own.get("reception", {})
            tls, connection = reception.get("tls", {}), reception.get("connection_id", "")
            way = "in" if connection else ""
            result = own["posture"]
            what = f"MID {own['mid']} {_envelope(own)}"
        case "consolidated":
            tls = own.get("reception", {}).get("tls", {})
            way = "in" if tls else ""
            result = own.get("cef", {}).get("action", "")
            what = f"MID {own.get('mid', '?')} {_envelope(own)}"
        case _:
            result = record["event"]["action"]
            what = record["event"]["original"]
    return Cells(
        record["@timestamp"][:19].replace("T", " "),
        kind,
        printable(connection),
        way,
        tls.get("outcome", ""),
        _CLEAR.get(tls.get("in_clear"), ""),
        tls.get("evidence", ""),
        printable(result),
        printable(what),
    )


_WAYS = {"inbound": "in", "outbound": "out"}
_CLEAR = {True: "yes", False: "no"}


def _peer(end: dict[str, Any]) -> str:
    address = end.get("ip") or end.get("address") or ""
    domain = end.get("domain")
    return f"{address} ({domain})" if domain else address


def _envelope(own: dict[str, Any]) -> str:
    """An empty sender (a bounce) and an unknown one are both absent from records."""
    envelope = own.get("envelope", {})
    return f"{envelope.get('from', '-')} -> {_some(envelope.get('to', []))}" if envelope else ""


def _some(addresses: Iterable[str]) -> str:
    listed = list(addresses)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more if listed else "-"


def _via(record: dict[str, Any]) -> str:
    end = record.get("destination", {})
    address = end.get("ip") or end.get("address")
    return f" via {address}" if address else ""
