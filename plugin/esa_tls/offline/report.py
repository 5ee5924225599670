"""`esa-tls report`: log files summed up in one streaming pass.

What is counted are the summary records as they come, so memory does not grow with the log: kinds of outcomes are few, and names (domains,
peers, ciphers, reasons) go through `Top`, which keeps `TOP_CAPACITY` of them. When more turn up, the rarest half is dropped; `missed` is
then the most that any name shown may have been counted too low, and 0 as long as nothing was dropped.

Rules: a mail counts as in clear only where a record says `in_clear`; unknown is counted beside, never as one or the other. Recipients are
those that records list (the first 100 of a message).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Unpack

import msgspec

from esa_tls.core.appliance import Appliance
from esa_tls.core.encode import JsonLines
from esa_tls.core.line_record import Leaving, Line
from esa_tls.core.prefix import Prefix
from esa_tls.core.records import domain_of, iso
from esa_tls.offline.audit import Audit, breaches_csv, partners_csv
from esa_tls.offline.explain_words import peer_words
from esa_tls.offline.scan import Pass, Progress, ScanOptions, ScanSettings
from esa_tls.offline.terminal import bar_on, put

if TYPE_CHECKING:
    from rich.console import Console

TOP_CAPACITY = 20_000
SHAPES_SHOWN = 20
REASONS_KEPT = 3
"""Sample reasons per failure class."""


class Count(msgspec.Struct, frozen=True):
    """How often something was counted, of how many; `sample` is one example of it."""

    name: str
    number: int
    of: int = 0
    samples: list[str] = []


class Ranking(msgspec.Struct, frozen=True):
    """The most frequent names. `names`: how many different ones there were; `missed`: how much too low a number may be."""

    top: list[Count] = []
    names: int = 0
    missed: int = 0


class AppliancePart(msgspec.Struct, frozen=True):
    """What one appliance wrote. Times are RFC 3339, UTC."""

    name: str
    lines: int
    first: str | None = None
    last: str | None = None
    hostname: str | None = None
    serial_number: str | None = None
    version: str | None = None
    lives: int = 1


class Table(msgspec.Struct, frozen=True):
    """Numbers by two words: `cells[row][column]`."""

    cells: dict[str, dict[str, int]] = {}

    def total(self, row: str) -> int:
        """The sum of a row."""
        return sum(self.cells.get(row, {}).values())

    def columns(self) -> list[str]:
        """Every column that has a number."""
        return list(dict.fromkeys(column for row in self.cells.values() for column in row))


class Moment(msgspec.Struct, frozen=True):
    """How much mail went one way in one step of time, which begins at `time_s`. `way`: `received` or `delivered`; `clear` as in tables."""

    time_s: int
    way: str
    flow: str
    clear: str
    number: int


class Report(msgspec.Struct, kw_only=True, frozen=True):
    """The summary of a log; plain numbers and names, for any form of showing.

    `connections`: direction -> TLS outcome. `evidence`: `direction outcome` -> evidence. `undecided`: direction -> why the outcome is
    unknown. `deliveries`: mail flow -> TLS outcome of deliveries that carried mail; `deliveries_clear`: mail flow -> `clear` / `tls` /
    `unknown`; `receptions`: the same for received messages. `results`: results of deliveries, per recipient. `postures`: `message`,
    `in`, `out` -> posture. `recipients`: posture -> recipients. `clear_*`: names of mail in clear; `_in`: as senders, `_out`: as
    recipients. `failures`: `direction class` with sample reasons. `flags`: contradictions, late lines and the like. `moments`: receptions
    (messages) and deliveries over time, in steps of `step_s`. `audit`: what was expected to go under TLS, if there are lists. `period`: the
    part of the time told of, in words; empty: all.
    """

    files: list[str]
    lines: int
    bytes: int
    appliances: list[AppliancePart]
    records: dict[str, int]
    connections: Table
    evidence: Table
    undecided: Table
    receptions: Table
    deliveries: Table
    deliveries_clear: Table
    results: dict[str, int]
    postures: Table
    recipients: dict[str, int]
    clear_in_domains: Ranking
    clear_in_peers: Ranking
    clear_out_domains: Ranking
    clear_out_peers: Ranking
    failures: list[Count]
    protocols: Table
    ciphers: dict[str, Ranking]
    flags: dict[str, int]
    unrecognised: list[Count]
    unrecognised_lines: int
    unrecognised_shapes: int
    moments: list[Moment] = []
    step_s: int = 3600
    audit: Audit | None = None
    period: str = ""


class _Timeline:
    """Numbers by time and two words, in steps that double when there are too many."""

    def __init__(self, capacity: int = 5_000) -> None:
        self.step_s = 3_600
        self._capacity = capacity
        self._numbers: dict[tuple[int, str, str, str], int] = {}

    def add(self, time_s: int, way: str, flow: str, clear: str) -> None:
        key = (time_s - time_s % self.step_s, way, flow, clear)
        self._numbers[key] = self._numbers.get(key, 0) + 1
        if len(self._numbers) > self._capacity:
            self.step_s = next((step_s for step_s in (6 * 3_600, 24 * 3_600) if step_s > self.step_s), self.step_s * 2)
            before, self._numbers = self._numbers, {}
            for (at_s, before_way, before_flow, before_clear), number in before.items():
                merged = (at_s - at_s % self.step_s, before_way, before_flow, before_clear)
                self._numbers[merged] = self._numbers.get(merged, 0) + number

    def moments(self) -> list[Moment]:
        return [Moment(*key, number) for key, number in sorted(self._numbers.items())]


class Top:
    """Counts of names in bounded memory; see the module."""

    def __init__(self, capacity: int = TOP_CAPACITY) -> None:
        self._capacity = max(capacity, 2)
        self._numbers: dict[str, int] = {}
        self._dropped = 0
        self._missed = 0

    def add(self, name: str, number: int = 1) -> None:
        """Count a name."""
        numbers = self._numbers
        numbers[name] = numbers.get(name, 0) + number
        if len(numbers) > self._capacity:
            self._drop()

    def _drop(self) -> None:
        """The rarer half goes. A name may be dropped again and again, so what it may have lost adds up."""
        ranked = sorted(self._numbers.items(), key=lambda item: item[1], reverse=True)
        kept = self._capacity // 2
        self._missed += ranked[kept][1]
        self._dropped += len(ranked) - kept
        self._numbers = dict(ranked[:kept])

    def ranking(self, limit: int) -> Ranking:
        """The `limit` most frequent."""
        ranked = sorted(self._numbers.items(), key=lambda item: (-item[1], item[0]))
        return Ranking([Count(name, number) for name, number in ranked[:limit]], len(ranked) + self._dropped, self._missed)


class _Grid:
    """Numbers by two words."""

    def __init__(self) -> None:
        self.cells: dict[str, dict[str, int]] = {}

    def add(self, row: str, column: str, number: int = 1) -> None:
        cells = self.cells.setdefault(row, {})
        cells[column] = cells.get(column, 0) + number

    def table(self) -> Table:
        return Table(self.cells)


class Tally(JsonLines):
    """Counts records and lines as they come out of the core."""

    interleaved = True

    def __init__(self, *, audit: bool = False, since_s: int | None = None, until_s: int | None = None) -> None:
        super().__init__()
        self.audit = Audit() if audit else None
        self._since_s, self._until_s = since_s, until_s
        self.records: dict[str, int] = {}
        self.connections, self.evidence, self.undecided = _Grid(), _Grid(), _Grid()
        self.receptions, self.deliveries, self.deliveries_clear = _Grid(), _Grid(), _Grid()
        self.postures, self.protocols = _Grid(), _Grid()
        self.results: dict[str, int] = {}
        self.recipients: dict[str, int] = {}
        self.clear_in_domains, self.clear_in_peers = Top(), Top()
        self.clear_out_domains, self.clear_out_peers = Top(), Top()
        self.ciphers = {"inbound": Top(), "outbound": Top()}
        self.failures: dict[str, tuple[int, dict[str, None]]] = {}
        self.timeline = _Timeline()
        self.flags: dict[str, int] = {}
        self.spans: dict[str, tuple[int, int]] = {}
        self._ahead: dict[str, int] = {}
        self._prefix: object = None

    def lines(self, leaving: Sequence[Leaving]) -> None:
        """Count what is odd about lines, and how far their appliance's stamps reach."""
        for prefix, line, _ in leaving:
            self._line(prefix, line)

    def _line(self, prefix: Prefix, line: Line) -> None:
        if prefix is not self._prefix:
            self._prefix = prefix
            if prefix.facts.time_source == "line":
                self._stretch(prefix.appliance, prefix.stamp_s, prefix.box.state.clock.time_s)
        if line.flags or prefix.facts.flags:
            for flag in {*line.flags, *prefix.facts.flags}:
                self.flags[flag] = self.flags.get(flag, 0) + 1

    def _stretch(self, appliance: str, stamp_s: int, time_s: int | None) -> None:
        """The appliance's lines reach to this stamp. One ahead of its time is believed when the next line bears it out, or is the last."""
        if time_s is None or stamp_s > time_s:
            self._ahead[appliance] = stamp_s
            return
        self._ahead.pop(appliance, None)
        first, last = self.spans.get(appliance, (stamp_s, stamp_s))
        self.spans[appliance] = (min(first, stamp_s), max(last, stamp_s, time_s))

    def span(self, appliance: str) -> tuple[int, int] | None:
        """First and last stamp of an appliance; None without any."""
        span, ahead = self.spans.get(appliance), self._ahead.get(appliance)
        if ahead is None:
            return span
        return (ahead, ahead) if span is None else (span[0], max(span[1], ahead))

    def summary(self, kind: str, record: dict[str, Any], time_s: int) -> None:
        """Count a record of the period."""
        if (self._since_s is not None and time_s < self._since_s) or (self._until_s is not None and time_s >= self._until_s):
            return
        if self.audit is not None:
            self.audit.add(kind, record)
        self.records[kind] = self.records.get(kind, 0) + 1
        match kind:
            case "connection":
                self._connection(record)
            case "delivery":
                self._delivery(record, time_s)
            case "message":
                self._message(record["cisco_esa"], time_s)
            case _:
                pass

    def _connection(self, record: dict[str, Any]) -> None:
        own = record["cisco_esa"]
        tls, direction = own["tls"], own["direction"]
        outcome = tls["outcome"]
        self.connections.add(direction, outcome)
        self.evidence.add(f"{direction} {outcome}", tls.get("evidence", ""))
        if outcome == "unknown":
            facts = own["connection"]
            self.undecided.add(direction, facts["end"] if facts["start_seen"] else "beginning_not_seen")
        if outcome == "success":
            self.protocols.add(direction, tls.get("protocol") or "not told")
            self.ciphers[direction].add(tls.get("cipher") or "not told")
        if "failure" in tls:
            name = f"{direction} {tls['failure']['class']}"
            number, reasons = self.failures.get(name, (0, {}))
            reason = tls["failure"].get("reason")
            if reason and len(reasons) < REASONS_KEPT:
                reasons[reason] = None
            self.failures[name] = (number + 1, reasons)

    def _delivery(self, record: dict[str, Any], time_s: int) -> None:
        own = record["cisco_esa"]
        facts, rids = own["delivery"], len(own["rids"])
        result = facts["result"]
        self.results[result] = self.results.get(result, 0) + rids
        tls = own.get("tls")
        if tls is None or result not in ("delivered", "uncertain"):
            return
        flow = own.get("mail_flow", "unknown")
        clear = tls.get("in_clear")
        self.deliveries.add(flow, tls["outcome"])
        self.deliveries_clear.add(flow, _CLEAR[clear])
        self.timeline.add(time_s, "delivered", flow, _CLEAR[clear])
        if clear:
            domains = [domain_of(address) or "" for address in own.get("envelope", {}).get("to", [])]
            for domain in domains or ["(not in the log)"]:
                self.clear_out_domains.add(domain or "(no domain)")
            self.clear_out_peers.add(_peer(record.get("destination", {})), rids)

    def _message(self, own: dict[str, Any], time_s: int) -> None:
        self.postures.add("message", own["posture"])
        self.postures.add("out", own["posture_out"])
        if "posture_in" in own:
            self.postures.add("in", own["posture_in"])
        for one in own.get("recipients", []):
            self.recipients[one["posture"]] = self.recipients.get(one["posture"], 0) + 1
        reception = own.get("reception")
        # What a child carries on was received with its first ancestor, and is counted there.
        if reception is None or own.get("child_kind") is not None:
            return
        clear = reception["tls"].get("in_clear")
        flow = own.get("mail_flow", "unknown")
        self.receptions.add(flow, _CLEAR[clear])
        self.timeline.add(time_s, "received", flow, _CLEAR[clear])
        if clear:
            sender = own.get("envelope", {}).get("from")
            self.clear_in_domains.add(domain_of(sender) or "(no sender)")
            self.clear_in_peers.add(_peer(reception.get("peer", {})))


_CLEAR = {True: "clear", False: "tls", None: "unknown"}


def _peer(end: dict[str, Any]) -> str:
    return peer_words({name: value for name, value in end.items() if name != "port"}) or "(not in the log)"


def report(
    paths: Sequence[str | Path],
    *,
    settings: ScanSettings | None = None,
    top: int = 20,
    stdin: BinaryIO | None = None,
    progress: Progress | None = None,
    since_s: int | None = None,
    until_s: int | None = None,
) -> Report:
    """Sum log files up; `top`: how many domains, peers and ciphers are named; `since_s`, `until_s`: of records, the latter not included.

    Raises as `scan.Pass.read`.
    """
    settings = settings or ScanSettings()
    tally = Tally(audit=settings.require_tls is not None, since_s=since_s, until_s=until_s)
    reading = Pass(settings, tally, hold=False)
    for _ in reading.read(paths, stdin=stdin, progress=progress):
        pass
    pipeline = reading.pipeline
    shapes = sorted(pipeline.shapes.items(), key=lambda item: (-item[1], item[0]))
    totals: dict[str, int] = {}
    for (name, _), number in pipeline.counts.items():
        totals[name] = totals.get(name, 0) + number
    return Report(
        files=[str(path) for path in paths],
        lines=reading.lines,
        bytes=reading.read_bytes,
        appliances=[_appliance(box.state, tally.span(name)) for name, box in sorted(pipeline.boxes.items())],
        records=tally.records,
        connections=tally.connections.table(),
        evidence=tally.evidence.table(),
        undecided=tally.undecided.table(),
        receptions=tally.receptions.table(),
        deliveries=tally.deliveries.table(),
        deliveries_clear=tally.deliveries_clear.table(),
        results=tally.results,
        postures=tally.postures.table(),
        recipients=tally.recipients,
        clear_in_domains=tally.clear_in_domains.ranking(top),
        clear_in_peers=tally.clear_in_peers.ranking(top),
        clear_out_domains=tally.clear_out_domains.ranking(top),
        clear_out_peers=tally.clear_out_peers.ranking(top),
        failures=[
            Count(name, number, samples=list(reasons))
            for name, (number, reasons) in sorted(tally.failures.items(), key=lambda item: (-item[1][0], item[0]))
        ],
        protocols=tally.protocols.table(),
        ciphers={direction: names.ranking(top) for direction, names in tally.ciphers.items()},
        flags={
            "contradictions": totals.get("esa_tls.contradictions", 0),
            "bad_times": totals.get("esa_tls.lines.bad_time", 0),
            "epoch_resets": totals.get("esa_tls.epoch_resets", 0),
            "clock_rebases": totals.get("esa_tls.clock.rebases", 0),
            "evictions": totals.get("esa_tls.evictions", 0),
            "late_lines": max(totals.get("esa_tls.lines.late", 0), tally.flags.get("late", 0)),
            **{
                f"{flag}_lines": number for flag, number in sorted(tally.flags.items()) if flag not in ("contradiction", "bad_time", "late")
            },
        },
        unrecognised=[Count(shape, number) for shape, number in shapes[:SHAPES_SHOWN]],
        unrecognised_lines=totals.get("esa_tls.lines.unrecognised", 0),
        unrecognised_shapes=len(shapes),
        moments=tally.timeline.moments(),
        step_s=tally.timeline.step_s,
        audit=tally.audit,
        period=_period(since_s, until_s),
    )


def _period(since_s: int | None, until_s: int | None) -> str:
    words = [
        f"{word} {iso(time_s).replace('T', ' ').rstrip('Z')} UTC"
        for word, time_s in (("from", since_s), ("until", until_s))
        if time_s is not None
    ]
    return " ".join(words)


def _appliance(state: Appliance, span: tuple[int, int] | None) -> AppliancePart:
    return AppliancePart(
        name=state.name,
        lines=state.sequence,
        first=None if span is None else iso(span[0]),
        last=None if span is None else iso(span[1]),
        hostname=state.hostname,
        serial_number=state.serial_number,
        version=state.version,
        lives=state.epoch + 1,
    )


def run(
    files: Sequence[str],
    *,
    out: BinaryIO,
    console: Console | None = None,
    top: int = 20,
    stdin: BinaryIO | None = None,
    html: Path | None = None,
    png: Path | None = None,
    csv: Path | None = None,
    since_s: int | None = None,
    until_s: int | None = None,
    **options: Unpack[ScanOptions],
) -> int:
    """The command: the report as tables to `out`, progress to `console`; or into files.

    `html`: one page; `png`: a picture; `csv`: with lists of where TLS is expected their tables, as CSV-partners.csv and CSV-exceptions.csv.
    Raises ChartsMissing (for `png` without the extra), OSError.
    """
    from esa_tls.offline.report_html import page, picture  # noqa: PLC0415 (both are made on top of this module)
    from esa_tls.offline.report_tables import render  # noqa: PLC0415

    with bar_on(console) as bar:
        told = report(
            files,
            settings=ScanSettings(**options),
            top=top,
            stdin=stdin,
            progress=None if bar is None else bar.show,
            since_s=since_s,
            until_s=until_s,
        )
    if csv is not None and told.audit is not None:
        csv.with_name(f"{csv.name}-partners.csv").write_text(partners_csv(told.audit.rows()), encoding="utf-8", newline="")
        csv.with_name(f"{csv.name}-exceptions.csv").write_text(breaches_csv(told.audit.breaches), encoding="utf-8", newline="")
    if html is not None:
        html.write_text(page(told), encoding="utf-8")
    if png is not None:
        png.write_bytes(picture(told))
    if html is None and png is None and csv is None:
        put(out, render(told))
    return 0
