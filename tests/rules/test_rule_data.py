"""The data that rules are tried on is what esa-tls makes of the logs beside it, and there is some for each rule.

After a wanted change of records: `pytest tests/rules --update-golden`, then read the difference.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from tests.rules import cases
from tests.rules.cases import DATA, SIDES, Record

from esa_tls.cli import cli

CREATED = "2025-11-25T00:00:00Z"
"""In place of the time at which the data was made."""


def scanned(log: Path, appliance: str, kinds: str) -> list[Record]:
    """Records of a log, by `esa-tls scan`."""
    done = CliRunner().invoke(cli, ["scan", "--appliance", appliance, "--records", kinds, str(log)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    records: list[Record] = [msgspec.json.decode(line) for line in done.stdout_bytes.splitlines()]
    for record in records:
        record["event"]["created"] = CREATED
    return records


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("rule", cases.ALL)
def test_data_is_what_scan_makes_of_the_log(rule: str, side: str, *, request: pytest.FixtureRequest) -> None:
    """Every record of a data set comes out of its log, and nothing else does."""
    found = scanned(DATA / rule / f"{side}.log", cases.appliance_of(rule, side), cases.kinds_of(rule))
    expected = DATA / rule / f"{side}.jsonl"
    if request.config.getoption("--update-golden"):
        expected.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in found))
    assert found == [msgspec.json.decode(line) for line in expected.read_bytes().splitlines()]


def test_there_is_data_for_every_rule_and_for_nothing_else() -> None:
    """Each rule of deploy/rules/sigma has its two logs with records, and says what has to be found."""
    assert sorted(cases.ALL) == sorted(cases.sigma_rules()) == sorted(path.name for path in DATA.iterdir())
    for rule in cases.ALL:
        names = [f"{side}{suffix}" for side in SIDES for suffix in (".jsonl", ".log")]
        assert sorted(path.name for path in (DATA / rule).iterdir()) == sorted(names)


def test_what_has_to_be_found_is_there() -> None:
    """Each record that a rule has to find is one of its positive data, once."""
    for rule, labels in {**cases.EVENTS, cases.BASELINE: cases.BASELINE_EVENTS}.items():
        there = [cases.label_of(record) for record in cases.records_of(rule, "positive")]
        assert [there.count(label) for label in labels] == [1] * len(labels), rule
        assert len(there) > len(labels), f"{rule}: nothing there that must not be found"
