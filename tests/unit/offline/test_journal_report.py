from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pytest

from esa_tls.core.batch import Row, Sealed
from esa_tls.errors import JournalError, JournalLocked
from esa_tls.offline import dead_letter_reasons, journal_report
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


def test_counts_by_origin_and_label(data_dir: Path) -> None:
    """How many letters there are of each origin and reason, also beyond the limit of the list; of one origin on request."""
    assert journal_report.counts(data_dir) == {"source:fluent": {"not_a_map": 1}, "sink:next": {"permanent": 2}}
    assert journal_report.counts(data_dir, origin="sink:next") == {"sink:next": {"permanent": 2}}
    assert list(journal_report.count_lines({"sink:es": {"too_large": 1, "mapper_parsing_exception": 1200}}, explain=False)) == [
        "sink:es: 1,201 dead letters: 1,200 mapper_parsing_exception, 1 too_large"
    ]
    [_, first, second] = journal_report.count_lines({"sink:es": {"too_large": 1, "mapper_parsing_exception": 2}}, explain=True)
    assert first.startswith("mapper_parsing_exception: The index has another type")
    assert second.startswith("too_large: ")


def test_the_letters_of_one_origin(data_dir: Path) -> None:
    """The limit counts letters of that origin."""
    assert [letter for _, letter in journal_report.dead_letters(data_dir, limit=1, origin="sink:next")] == LETTERS[1:2]
    assert journal_report.dead_letters(data_dir, limit=9, origin="sink:other") == []


def test_one_letter_is_shown_whole_and_escaped(data_dir: Path) -> None:
    """Every byte of it can be read, none of them reaches the terminal as it is."""
    number, letter = journal_report.dead_letters(data_dir, limit=1)[0]
    assert journal_report.dead_letter(data_dir, number) == letter
    assert journal_report.dead_letter(data_dir, 10**6) is None
    text = journal_report.letter_text(number, letter)
    assert text.endswith("\\x93\\xff\\x1b[2Jx")
    assert all(char.isprintable() or char == "\n" for char in text)
    long = journal_report.letter_text(3, LETTERS[2])
    assert long.count("x") > 100_000


@pytest.mark.parametrize(
    "label",
    [
        *("permanent", "unreadable", "too_large", "partial_success", "grpc_invalid_argument", "http_400", "http_413"),
        *("document_parsing_exception", "mapper_parsing_exception", "illegal_argument_exception", "strict_dynamic_mapping_exception"),
        *("no_data", "invalid_format", "no_event_field", "blank_event_field", "indexed_fields", "hec_7"),
        *("invalid_timestamp", "invalid_record", "no_line", "no_body", "body_type", "entry_shape", "record_not_map", "record_too_wide"),
        *("greater_than_max_sample_age", "too_far_behind", "too_far_in_future", "line_too_long", "structured_metadata_too_large"),
        *("structured_metadata_too_many", "label_name_too_long", "label_value_too_long", "duplicate_label_names", "invalid_labels"),
        *("missing_labels", "frame_too_deep", "frame_entries_not_msgpack", "entries_too_deep"),
    ],
)
def test_every_label_has_an_explanation_of_its_own(label: str) -> None:
    """What a reason means and what to do, in sentences; the labels are those that sinks, dispatcher and readers make."""
    assert dead_letter_reasons.is_known(label)
    meaning, to_do = dead_letter_reasons.explanation_of(label)
    assert meaning.endswith(".")
    assert to_do.endswith(".")


def test_labels_written_in_the_code_are_explained() -> None:
    """Each reason that a sink, a wire or the dispatcher gives a record by a word of its own is in the table."""
    package = Path(journal_report.__file__).parents[1]
    pattern = re.compile(r'(?:Rejection\([^()]*?|_Refused\([^()]*?|Rejected\(|\.reject\(|_reject\([^()]*?)"([a-z]\w+)"')
    found = {
        label
        for folder in ("sinks", "wire", "runtime", "sources")
        for path in (package / folder).glob("*.py")
        for label in pattern.findall(path.read_text(encoding="utf-8"))
    }
    assert {"too_large", "no_line", "entry_shape", "unreadable", "partial_success"} <= found
    assert {label for label in found if not dead_letter_reasons.is_known(label)} == set()


def test_a_stores_own_word_is_told_as_such() -> None:
    """A label that nobody wrote down still says what to do."""
    assert not dead_letter_reasons.is_known("novelty")
    assert "store" in dead_letter_reasons.explanation_of("novelty").meaning
