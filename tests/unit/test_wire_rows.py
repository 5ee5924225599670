"""Every row of the tables in docs/wires.md has a test that carries its name: `test_F13_...`, `test_O6_...`, `test_S2_...`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.unit.wire.otlp_cases import SAMPLE
from tests.unit.wire.test_loki import VECTOR

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "wires.md").read_text(encoding="utf-8")

ROWS: dict[str, str] = dict(re.findall(r"^\| ([EFKLOS]\d+) \| ([^|]+) \| [^|]+ \|$", PAGE, re.MULTILINE))
"""F18 (Fluent Bit, Fluentd) and E8 (Elasticsearch) want containers and are not among them: they cannot be had where these tests run."""

_NAMED = re.compile(r"^\s*(?:async )?def test_((?:[EFKLOS]\d+_)+)", re.MULTILINE)


def rows_tested() -> set[str]:
    """Rows in the names of tests, F01 and F1 being the same."""
    names = (name for path in TESTS.rglob("test_*.py") for name in _NAMED.findall(path.read_text(encoding="utf-8")))
    return {f"{row[0]}{int(row[1:])}" for name in names for row in name.rstrip("_").split("_")}


@pytest.mark.parametrize("row", ROWS)
def test_each_row_has_a_test(row: str) -> None:
    """Somebody tests it under its name."""
    assert row in rows_tested(), ROWS[row]


def test_no_test_carries_the_name_of_a_row_that_is_none() -> None:
    """A number that was mistyped would hide a row without a test."""
    assert rows_tested() <= ROWS.keys()


def test_the_vectors_of_the_page_are_those_of_the_tests() -> None:
    """The samples of OTLP (2.4) and Loki (4.1), byte for byte."""
    assert re.findall(r"^```text\n([0-9a-f]+)\n```$", PAGE, re.MULTILINE) == [SAMPLE.hex(), VECTOR]


def test_rows_stand_in_the_section_of_their_wire() -> None:
    """None is lost on its way from the page to the table here."""
    counted = {letter: sum(row[0] == letter for row in ROWS) for letter in "FOELKS"}
    assert counted == {"F": 18, "O": 13, "E": 8, "L": 10, "K": 4, "S": 10}
