"""Journals that older programs left are opened and carried on: the samples in tests/golden were made when their version was the newest."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tests.unit.runtime.half_way import LINES, feed

from esa_tls.runtime.journal import Journal
from esa_tls.runtime.journal_folder import VERSION

GOLDEN = Path(__file__).parents[2] / "golden"
SAMPLES = sorted(GOLDEN.glob("journal-*.tar.gz"))


def told(records: list[dict[str, Any]]) -> dict[str, Any]:
    """What summaries say, by id, without what a restart may change (evidence) and when it was made."""
    found = {}
    for record in records:
        own = record["cisco_esa"]
        if own["record"] != "line":
            text = re.sub(r"'evidence': '\w+'", "", str({key: value for key, value in record.items() if key != "event"}))
            found[record["event"]["id"]] = text
    return found


def test_every_version_has_its_sample() -> None:
    """Whoever raises the version adds one (tools/make_journal_sample.py) and keeps the others."""
    assert [path.name for path in SAMPLES] == [f"journal-{number}.tar.gz" for number in range(1, VERSION + 1)]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_an_older_journal_is_carried_on(sample: Path, tmp_path: Path) -> None:
    """What was open when it was left ends as if the program had never changed: the same records, with the same ids."""
    old, new = tmp_path / "old", tmp_path / "new"
    with tarfile.open(sample) as archive:
        archive.extractall(old, filter="data")
    half = len(LINES) // 2

    journal = Journal.open(old)
    carried_on = told(feed(journal, LINES[half:]))
    journal.close()
    journal = Journal.open(new)
    feed(journal, LINES[:half])
    undisturbed = told(feed(journal, LINES[half:]))
    journal.close()

    assert len(carried_on) > 50
    assert carried_on == undisturbed
    assert any("'start_seen': True" in text for text in carried_on.values())
