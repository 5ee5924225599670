"""docs/log-lines.md: every example line on the page is parsed, and stands beside what the code makes of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.core.driver import Driver, Record
from tests.unit.core.grammar_rows import ROWS

from esa_tls.core.facts import Fact
from esa_tls.core.grammar import parse
from esa_tls.core.line import Framing, frame
from esa_tls.core.records import ACTIONS

PAGE = (Path(__file__).parents[2] / "docs" / "log-lines.md").read_text(encoding="utf-8")

NO_LINE_HAS = {"hat-denied"}
"""Keys of `ACTIONS` that are the `event.action` of no line: `hat-decided` has the category and types of this one where it refuses."""

ON_EVERY_LINE = {
    *("@timestamp", "event.action", "event.category", "event.created", "event.id", "event.original", "event.sequence", "event.type"),
    *("host.name", "log.level", "cisco_esa.appliance", "cisco_esa.epoch", "cisco_esa.record"),
}
OF_THE_CONNECTION = {
    *("cisco_esa.connection.id", "cisco_esa.direction", "cisco_esa.tls.evidence", "cisco_esa.tls.outcome"),
    *("network.direction", "tls.established"),
}
IDS = {"cisco_esa.icid", "cisco_esa.dcid", "cisco_esa.mid", "cisco_esa.rids", "cisco_esa.parent_mid"}

BODIES = re.findall(r"^\| (s?\d+[bc]?) \| `([^|]+)` \| `([a-z-]+)` \|([^|]*)\|([^|]*)\| .+ \|$", PAGE, re.MULTILINE)
"""(row or trap, body, action, ids, fields)."""

FRAMINGS = re.findall(r"^\| ([a-z]) \| `([^|]+)` \| ([^|]+) \|([^|]*)\|([^|]*)\| (yes|no) \| .+ \|$", PAGE, re.MULTILINE)
"""(form, line, time, host, log name, lossy)."""

[CEF] = re.findall(r"^```text\n(.*CEF:0\|.*)\n```$", PAGE, re.MULTILINE)


def record_of(*lines: str) -> Record:
    """The record of the last of these lines, which nothing follows."""
    return Driver().feed([line.encode() for line in lines]).end().lines()[-1]


def paths(record: dict[str, Any], before: str = "") -> Iterator[str]:
    """The dotted paths of a record's values."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from paths(value, f"{before}{name}.")
        else:
            yield before + name


def ids_of(fact: Fact) -> str:
    """The ids of a fact as the page writes them."""
    values = fact.values or {}
    numbers = {
        "ICID": fact.icid,
        "DCID": fact.dcid,
        "MID": fact.mid,
        "RID": None,
        "RCID": values.get("rcid"),
        "parent": values.get("parent"),
    }
    said = {name: str(number) for name, number in numbers.items() if number is not None}
    if fact.rids is not None:
        said["RID"] = " ".join(map(str, fact.rids))
    return ", ".join(f"{name} {said[name]}" for name in numbers if name in said)


def time_of(framing: Framing) -> str:
    """The stamp of a framing as the page writes it."""
    if framing.month is None:
        return "none"
    year = "" if framing.year is None else f"{framing.year}-"
    zone = "" if framing.utc_offset_s is None else f" UTC{framing.utc_offset_s // 3600:+d}" if framing.utc_offset_s else " UTC"
    day = f"{framing.month:02}-{framing.day:02} {framing.hour:02}:{framing.minute:02}:{framing.second:02}"
    return f"{year}{day}{zone}"


def test_no_row_of_a_table_is_passed_over() -> None:
    """Each row with a line in it is read by one of the tests below."""
    rows = [line for line in PAGE.splitlines() if re.match(r"\| \S+ \| `", line)]
    assert len(rows) == len(BODIES) + len(FRAMINGS)
    assert len(FRAMINGS) == 11
    assert len(BODIES) > 130


@pytest.mark.parametrize(("row", "body", "action", "ids", "fields"), BODIES, ids=[f"{row[0]}-{n}" for n, row in enumerate(BODIES)])
def test_a_line_gives_what_stands_beside_it(row: str, body: str, action: str, ids: str, fields: str) -> None:
    """Its action, its ids, and no other fields than those listed."""
    del row
    fact = parse(body)
    record = record_of(f"Mon Nov 24 00:00:00 2025 Info: {body}")

    assert (record["event"]["action"], ids_of(fact)) == (action, ids.strip())
    assert fact.action == action
    assert set(paths(record)) - ON_EVERY_LINE - OF_THE_CONNECTION - IDS == set(re.findall(r"`([^`]+)`", fields))


@pytest.mark.parametrize(("form", "line", "time", "host", "log_name", "lossy"), FRAMINGS, ids=[row[0] for row in FRAMINGS])
def test_a_framing_says_what_stands_beside_it(form: str, line: str, time: str, host: str, log_name: str, lossy: str) -> None:
    """Time, host, name of the log, whether lines may be missing; and a body that is known begins where it ends."""
    del form
    framing = frame(line)
    assert framing is not None
    assert time_of(framing) == time
    assert (framing.host or "", framing.log_name or "") == (host.strip(), log_name.strip())
    assert framing.syslog is (lossy == "yes")
    assert parse(line[framing.length :]).action != "unrecognised"


def test_a_line_without_framing_is_a_continuation() -> None:
    """Also one that would be known behind a framing, and one without a time among lines with times."""
    first = "Mon Nov 24 00:00:00 2025 Info: ICID 70 close"
    for line in ("ICID 70 TLS success", "Info: ICID 70 TLS success"):
        assert record_of(first, line)["event"]["action"] == "continuation"
    assert "`continuation`" in PAGE


def test_the_consolidated_event() -> None:
    """The page's event is read, a TLS field inside its subject is not, and its own record tells the final action."""
    driver = Driver(now_s=1_764_000_000.0).feed(CEF.encode()).end()
    [event] = driver.kind("consolidated")

    assert driver.lines()[0]["event"]["action"] == "consolidated-event"
    assert event["event"]["action"] == "consolidated-delivered"
    assert event["cisco_esa"]["reception"]["tls"]["outcome"] == "success"
    assert event["cisco_esa"]["delivery_tls"] == {"outcome": "unknown", "evidence": "gap"}


def test_every_action_of_a_line_is_on_the_page() -> None:
    """Nothing that a line can be is left out, and nothing is there that no line can be."""
    by_line = {action for _, _, action, _, _ in BODIES} | {"continuation", "consolidated-event"}
    assert by_line == ACTIONS.keys() - NO_LINE_HAS


def test_every_row_that_the_grammar_is_tested_by_is_on_the_page() -> None:
    """Rows are numbered once, here and there alike."""
    of_sections = PAGE[: PAGE.index("## 8.")]
    assert {row for row, *_ in BODIES if f"\n| {row} |" in of_sections} == {row for row, _, _ in ROWS}


def test_traps_are_numbered_through() -> None:
    """27 of them, so that a trap may be named by its number."""
    assert [int(number) for number in re.findall(r"^(\d+)\. ", PAGE[PAGE.index("## 8.") :], re.MULTILINE)] == list(range(1, 28))
