from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from esa_tls.core.batch import Row, Sealed
from esa_tls.errors import JournalError, JournalLocked
from esa_tls.offline import journal_report
from esa_tls.runtime.journal import Journal
from esa_tls.runtime.journal_format import DeadLetter

LETTERS = [
    DeadLetter("source:fluent", "not_a_map: int", b"\x93\xff\x1b[2Jx", "raw", 1_763_994_177.0),
    DeadLetter("sink:next", "permanent: refused", b'{"a":1}', "json", 1_763_994_178.5),
    DeadLetter("sink:next", "permanent: refused", b"x" * 100_000, "json", 1_763_994_179.0),
]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A closed journal with one outbox row of three records and three dead letters."""
    folder = tmp_path / "data"
    journal = Journal.open(folder)
    row = Row(cls="line", encoding="json", segments=[("line", 3, b"{}\n{}\n{}\n")])
    journal.commit([Sealed(rows=[row], puts=[], deletes=[], keys=[], lines=3)], dead_letters=LETTERS)
    journal.close()
    return folder


def test_status_tells_size_outbox_and_dead_letters(data_dir: Path) -> None:
    """The text names the budget, the records that wait and the dead letters."""
    told = journal_report.status(data_dir, max_bytes=1 << 30)
    text = "\n".join(journal_report.status_lines(told))

    assert "of 1,073,741,824 bytes" in text
    assert "line/json: 3 records in 1 rows" in text
    assert "dead letters  3" in text
    assert json.loads(json.dumps(told)) == told


def test_dead_letters_come_oldest_first_up_to_the_limit(data_dir: Path) -> None:
    """All letters, or the oldest ones, with their numbers."""
    assert [letter for _, letter in journal_report.dead_letters(data_dir, limit=100)] == LETTERS
    assert [letter for _, letter in journal_report.dead_letters(data_dir, limit=2)] == LETTERS[:2]


def test_a_payload_cannot_write_to_the_terminal(data_dir: Path) -> None:
    """In text, control characters and bytes that are not UTF-8 are escaped, and long payloads are cut."""
    lines = [journal_report.letter_line(*entry) for entry in journal_report.dead_letters(data_dir, limit=3)]

    assert "\\x93\\xff\\x1b[2Jx" in lines[0]
    assert "2025-11-24T14:22:57Z  source:fluent  not_a_map: int" in lines[0]
    assert all(char.isprintable() or char == "\n" for line in lines for char in line)
    assert max(map(len, lines)) < 500


def test_json_has_the_payload_whole(data_dir: Path) -> None:
    """As JSON every byte of the payload is there."""
    for (number, letter), wanted in zip(journal_report.dead_letters(data_dir, limit=3), LETTERS, strict=True):
        told = json.loads(journal_report.letter_json(number, letter))
        assert base64.b64decode(told["payload_base64"]) == wanted.payload
        assert (told["number"], told["origin"], told["reason"], told["encoding"]) == (number, wanted.origin, wanted.reason, wanted.encoding)


def test_looking_is_possible_beside_a_sidecar_and_discarding_is_not(data_dir: Path) -> None:
    """While another has the journal open, status and list work; discarding is refused and deletes nothing."""
    journal = Journal.open(data_dir)
    try:
        assert journal_report.status(data_dir, max_bytes=1 << 30)["dead_letters"] == 3
        [(first, _), *_] = journal_report.dead_letters(data_dir, limit=3)
        with pytest.raises(JournalLocked):
            journal_report.discard(data_dir, [first])
    finally:
        journal.close()
    assert len(journal_report.dead_letters(data_dir, limit=10)) == 3


def test_discarded_letters_are_gone(data_dir: Path) -> None:
    """Exactly the named letters are deleted."""
    [(first, _), (second, _), (third, _)] = journal_report.dead_letters(data_dir, limit=3)

    assert journal_report.discard(data_dir, [first, third, 999]) == 2
    assert [number for number, _ in journal_report.dead_letters(data_dir, limit=3)] == [second]


def test_no_journal_is_one_sentence(tmp_path: Path) -> None:
    """A folder that is not there is told, and not made by looking."""
    with pytest.raises(JournalError, match="there is no journal in"):
        journal_report.status(tmp_path / "none", max_bytes=1 << 30)
    assert not (tmp_path / "none").exists()
