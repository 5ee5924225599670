"""offline/report.py and report_tables.py: log files summed up in one pass."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_tls.offline import report as reporting
from esa_tls.offline.demo import SAMPLE
from esa_tls.offline.report import Report, Top, report
from esa_tls.offline.scan import ScanSettings, scan
from esa_tls.offline.simulate import SimulationSettings, simulate

GOLDEN = Path(__file__).parents[2] / "golden" / "offline"
CORPUS = Path(__file__).parents[2] / "corpus"


def shown(path: Path, **options: Any) -> str:
    """What the command writes."""
    out = io.BytesIO()
    assert reporting.run([str(path)], out=out, **options) == 0
    return out.getvalue().decode()


Simulated = tuple[Report, list[dict[str, Any]], list[dict[str, Any]], int]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """The report of a simulated log, its records, what the simulator says of its connections, and how many lines it has."""
    truth: list[dict[str, Any]] = []
    settings = SimulationSettings(seed=4, messages=400, hostile=0.2, quarantine_days=0.3, unknown_lines=0.1)
    lines = [line for _, line in simulate(settings, truth=lambda one: truth.append(dict(one)))]
    path = tmp_path_factory.mktemp("log") / "esa1.log"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    kinds = frozenset({"connection", "delivery", "message"})
    records = [json.loads(line) for line in b"".join(scan([path], ScanSettings(records=kinds))).splitlines()]
    # The truth leaves open what lines do not decide: outcomes are compared with it, the rest with the records (and they elsewhere with it).
    outcomes = [one for one in truth if one["cisco_esa"]["record"] == "connection"]
    return report([path], top=1000), records, outcomes, len(lines)


def of_kind(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """What stands under `cisco_esa` in the records of one kind."""
    return [one["cisco_esa"] for one in records if one["cisco_esa"]["record"] == kind]


def flat(table: reporting.Table) -> Counter[tuple[str, str]]:
    """A table as (row, column) -> number."""
    return Counter({(row, column): number for row, cells in table.cells.items() for column, number in cells.items()})


CLEAR = {True: "clear", False: "tls", None: "unknown"}


# -- the numbers -------------------------------------------------------------------------------------------------------------------
def test_totals(simulated: Simulated) -> None:
    """Lines and records of each kind are all there."""
    told, records, _, lines = simulated

    assert told.lines == lines
    assert [one.lines for one in told.appliances] == [lines]
    assert told.records == {kind: len(of_kind(records, kind)) for kind in ("connection", "delivery", "message")}


def test_outcomes_by_direction(simulated: Simulated) -> None:
    """Connections by direction and outcome are the simulator's, and so is what the outcomes rest on."""
    told, _, truth, _ = simulated
    connections = of_kind(truth, "connection")

    assert flat(told.connections) == Counter((one["direction"], one["tls"]["outcome"]) for one in connections)
    assert flat(told.evidence) == Counter((f"{one['direction']} {one['tls']['outcome']}", one["tls"]["evidence"]) for one in connections)
    assert sum(flat(told.undecided).values()) == sum(one["tls"]["outcome"] == "unknown" for one in connections)


def test_mail_in_clear(simulated: Simulated) -> None:
    """Mail received and delivered in clear, by mail flow, domain and peer."""
    told, records, _, _ = simulated
    received = [one for one in of_kind(records, "message") if "reception" in one and not one.get("child_kind")]
    assert Counter(clear for (_, clear), number in flat(told.receptions).items() for _ in range(number)) == Counter(
        CLEAR[one["reception"]["tls"].get("in_clear")] for one in received
    )
    sent = [one for one in of_kind(records, "delivery") if one["delivery"]["result"] in ("delivered", "uncertain") and "tls" in one]
    assert flat(told.deliveries_clear) == Counter((one.get("mail_flow", "unknown"), CLEAR[one["tls"].get("in_clear")]) for one in sent)
    assert flat(told.deliveries) == Counter((one.get("mail_flow", "unknown"), one["tls"]["outcome"]) for one in sent)
    clear = sum(len(one["rids"]) for one in sent if one["tls"].get("in_clear"))
    assert clear > 50
    assert sum(one.number for one in told.clear_out_domains.top) == sum(one.number for one in told.clear_out_peers.top) == clear
    assert sum(one.number for one in told.clear_in_peers.top) == sum(one["reception"]["tls"].get("in_clear") is True for one in received)


def test_postures_and_recipients(simulated: Simulated) -> None:
    """Postures of messages and recipients, each counted once."""
    told, records, _, _ = simulated
    messages = of_kind(records, "message")

    assert told.postures.cells["message"] == Counter(one["posture"] for one in messages)
    assert told.postures.cells["out"] == Counter(one["posture_out"] for one in messages)
    assert told.postures.cells["in"] == Counter(one["posture_in"] for one in messages if "posture_in" in one)
    assert told.recipients == Counter(recipient["posture"] for one in messages for recipient in one.get("recipients", []))


def test_failures_and_ciphers(simulated: Simulated) -> None:
    """Failure classes by direction with reasons as the log says them; protocols and ciphers of what was under TLS."""
    told, records, _, _ = simulated
    connections = of_kind(records, "connection")

    failed = [one for one in of_kind(records, "connection") if "failure" in one["tls"]]
    assert {one.name: one.number for one in told.failures} == Counter(
        f"{one['direction']} {one['tls']['failure']['class']}" for one in failed
    )
    (unexpected,) = [one for one in told.failures if one.name == "outbound starttls_unexpected_response"]
    assert unexpected.samples == ["STARTTLS unexpected response"]
    under_tls = [one for one in connections if one["tls"]["outcome"] == "success"]
    assert flat(told.protocols) == Counter((one["direction"], one["tls"].get("protocol", "not told")) for one in under_tls)
    assert {one.name: one.number for one in told.ciphers["inbound"].top} == Counter(
        one["tls"].get("cipher", "not told") for one in under_tls if one["direction"] == "inbound"
    )


def test_unrecognised_shapes(simulated: Simulated) -> None:
    """Lines of a shape that nobody knows are counted by their masked shape, the most frequent first."""
    told, _, _, _ = simulated

    assert told.unrecognised_lines == sum(one.number for one in told.unrecognised)
    assert [one.number for one in told.unrecognised] == sorted((one.number for one in told.unrecognised), reverse=True)
    assert "MID 9 frobnicated by engine XR-9 (score 9.9)" in [one.name for one in told.unrecognised]


def test_span_and_identity(log: Callable[..., Path]) -> None:
    """First and last stamp, version and serial number of each appliance; a stamp that cannot be right does not stretch the span."""
    path = log(
        "Mon Nov 24 10:00:00 2025 Info: Version: 14.0.0-698 SN: 421F00-C9AE",
        "Wed Nov 24 10:00:00 2055 Info: MID 9 antivirus negative",
        "Mon Nov 24 10:00:01 2025 Info: MID 9 queued for delivery",
        "Mon Nov 24 10:00:07 2025 Info: MID 9 queued for delivery",
        "Mon Nov 24 11:30:00 2025 Info: End Logfile",
    )
    told = report([path])

    (appliance,) = told.appliances
    assert (appliance.name, appliance.version, appliance.serial_number) == ("mail", "14.0.0-698", "421F00-C9AE")
    assert (appliance.first, appliance.last) == ("2025-11-24T10:00:00Z", "2025-11-24T11:30:00Z")
    assert told.flags["bad_times"] == 1


def test_what_is_worth_knowing_is_counted(log: Callable[..., Path]) -> None:
    """Contradictions, late lines, duplicates and lines that continue others."""
    opened = "New SMTP ICID 7 interface Data 1 (192.0.2.1) address 198.51.100.7 reverse dns host unknown verified no"
    lines = [
        f"<22>Nov 24 10:00:00 esa1 {name}: Info: {text}"
        for text in (opened, "Start MID 9 ICID 7", "ICID 7 close", "ICID 7 TLS success")
        for name in ("mail_logs", "mail_copy")
    ]
    told = report([log(*lines, "no prefix at all")], settings=ScanSettings(year=2025, reorder_window_s=0.0))

    assert told.flags["duplicate_lines"] == 4
    assert told.flags["late_lines"] >= 1
    assert told.flags["continuation_lines"] == 1


def test_unknown_flows_and_consolidated_events_are_no_error() -> None:
    """Every file of the corpus can be summed up and shown, whatever is in it."""
    for path in sorted(CORPUS.glob("*.log")):
        assert f"{path}: " in shown(path)


# -- bounded memory ------------------------------------------------------------------------------------------------------------------
@given(st.lists(st.sampled_from("abcdefghij"), max_size=300), st.integers(2, 12))
def test_top_is_exact_until_it_says_otherwise(names: list[str], capacity: int) -> None:
    """Numbers are never too high, and too low by `missed` at most; a name that was dropped counted no more than that."""
    top = Top(capacity)
    for name in names:
        top.add(name)
    exact = Counter(names)
    ranking = top.ranking(100)
    kept = {one.name: one.number for one in ranking.top}

    assert len(kept) <= capacity
    for name, number in exact.items():
        assert number - ranking.missed <= kept.get(name, 0) <= number
    if len(exact) <= capacity:
        assert (kept, ranking.missed, ranking.names) == (dict(exact), 0, len(exact))


# -- for people ------------------------------------------------------------------------------------------------------------------------
def test_the_report_of_the_sample() -> None:
    """The whole report of the built-in sample, read by eye once."""
    told = shown(SAMPLE, appliance="esa1").replace(str(SAMPLE), "sample.log")

    assert told == (GOLDEN / "report-sample.txt").read_text(encoding="utf-8")


def test_text_of_the_log_cannot_act_on_the_terminal(log: Callable[..., Path]) -> None:
    """Escapes and markup in domains, peers and unknown lines are shown, not obeyed."""
    told = shown(
        log(
            "Mon Nov 24 10:00:00 2025 Info: New SMTP ICID 7 interface D (192.0.2.1) address 192.0.2.7 reverse dns host \x1b[2J verified no",
            "Mon Nov 24 10:00:00 2025 Info: Start MID 9 ICID 7",
            "Mon Nov 24 10:00:00 2025 Info: MID 9 ICID 7 From: <a@[red]\x07.example>",
            "Mon Nov 24 10:00:00 2025 Info: Odd \x1b]0;owned\x07 [bold]text",
        )
    )

    assert not any(ord(letter) < 32 for letter in told.replace("\n", ""))
    assert "[red]\\x07.example" in told
    assert "Odd \\x1b]9;owned\\x07 [bold]text" in told
    assert 'named "\\x1b[2J"' in told


def test_an_empty_log_has_a_report(log: Callable[..., Path]) -> None:
    """Nothing read: the head alone."""
    assert shown(log()).splitlines()[0].endswith("mail.log: 0 lines, 0 bytes")
