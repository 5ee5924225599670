"""With pseudonyms nothing of what was replaced is left: over the corpus, over simulated mail with marks in it, and over made-up texts.

What must not be left is found by the core's own grammar and records, and by marks put into texts from outside; the tables under test
(`wire/privacy.py`, `wire/privacy_lines.py`) are not asked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.property.marks import CLASS_OF_VALUE, FROM_OUTSIDE, MARK, body_at, is_ip, marked
from tests.unit.core.grammar_rows import ROWS
from tests.unit.wire.selection_cases import CORPUS, ENCODINGS, KEY, bytes_of, records_of, rows_of, without_host

from esa_tls.core.batch import Row
from esa_tls.core.facts import Fact
from esa_tls.core.grammar import parse
from esa_tls.offline.simulate import SimulationSettings, simulate
from esa_tls.wire.privacy import CLASSES, Privacy
from esa_tls.wire.pseudonyms import Pseudonyms
from esa_tls.wire.selection import Selection

MESSAGES = 5_000 if os.environ.get("ESA_TLS_NIGHTLY") else 100


def selection(**settings: object) -> Selection:
    """Of a sink with pseudonyms."""
    return Selection(privacy=Privacy(Pseudonyms({1: KEY}), **settings))  # type: ignore[arg-type]


def facts_of(lines: Iterable[bytes]) -> Iterator[Fact]:
    """What each line says."""
    for line in lines:
        text = line.decode("utf-8", "replace")
        at = body_at(text)
        if at is not None:
            yield parse(text[at:])


def secrets_of(lines: list[bytes], classes: Collection[str], *, keep_domains: bool) -> set[str]:
    """Values of the lines that must not be left. Short ones are words of the appliance too; a domain may be that of an address."""
    found: set[str] = set()
    domains: set[str] = set()
    for fact in facts_of(lines):
        for name, value in (fact.values or {}).items():
            if CLASS_OF_VALUE.get(name, "") in classes and isinstance(value, str):
                found.add(value)
                domains.add(value.rpartition("@")[2])
    return {
        value for value in found if len(value) > 4 and not (keep_domains and value in domains and "@" not in value and not is_ip(value))
    }


def leaks(rows: list[tuple[int, Row]], secrets: Iterable[str]) -> list[tuple[str, str]]:
    """(encoding, secret) of each secret that stands anywhere in the bytes, escaped or not."""
    found = []
    for encoding in ENCODINGS:
        data = bytes_of(rows, encoding)
        for secret in secrets:
            forms = {secret.encode("utf-8", "replace"), json.dumps(secret, ensure_ascii=False)[1:-1].encode("utf-8", "replace")}
            if any(form in data for form in forms):
                found.append((encoding, secret))
    return found


def selected(rows: list[tuple[int, Row]], one: Selection) -> list[tuple[int, Row]]:
    """As the sink gets them: every record, in every encoding the same."""
    found = one.apply(rows)
    assert not found.unreadable
    assert not found.filtered
    assert [[segment[:2] for segment in row.segments] for _, row in found.rows] == [
        [segment[:2] for segment in row.segments] for _, row in rows
    ]
    records = records_of(found.rows, "json")
    assert records_of(found.rows, "forward") == records
    assert records_of(found.rows, "otlp") == [without_host(record) for record in records]
    return found.rows


# -- real logs -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("keep_domains", [True, False])
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_nothing_of_a_real_log_is_left(path: Path, keep_domains: bool) -> None:
    """No address, Subject, Message-ID, file name, IP address or host name of a line stands anywhere in what a sink gets."""
    lines = path.read_bytes().splitlines()
    rows = rows_of(lines)
    secrets = secrets_of(lines, CLASSES, keep_domains=keep_domains)
    assert leaks(selected(rows, selection(keep_domains=keep_domains)), secrets) == []
    assert {secret for _, secret in leaks(rows, secrets)} == secrets  # they were there


@pytest.mark.parametrize("chosen", [["addresses"], ["hosts"], ["addresses", "hosts"]])
def test_nothing_of_the_chosen_classes_is_left(chosen: list[str]) -> None:
    """Chosen alone: no address of mail, or no IP address, also not in Subjects, Message-IDs and other texts that stay."""
    lines = [line for path in CORPUS for line in path.read_bytes().splitlines()]
    lines += [line for _, line in simulate(SimulationSettings(seed=5, messages=60, hostile=0.3))]
    secrets = {value for value in secrets_of(lines, chosen, keep_domains=True) if is_ip(value) or value.count("@") == 1}
    assert len(secrets) > 50
    rows = rows_of(lines)
    assert leaks(selected(rows, selection(classes=chosen)), secrets) == []


# -- simulated mail, marked ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("keep_domains", [True, False])
def test_nothing_of_marked_mail_is_left(seed: int, keep_domains: bool) -> None:
    """Hostile mail, unknown lines and broken ones among it: not one mark, and not one IP address, is in the bytes of any encoding."""
    settings = SimulationSettings(seed=seed, messages=MESSAGES, hostile=0.4, unknown_lines=0.2)
    lines = [marked(line) for _, line in simulate(settings)]
    addresses = {value for value in secrets_of(lines, ["hosts"], keep_domains=True) if is_ip(value)}
    rows = rows_of(lines)
    assert bytes_of(rows, "json").count(MARK.encode()) > 5 * MESSAGES
    assert leaks(selected(rows, selection(keep_domains=keep_domains)), [MARK, *addresses]) == []


def test_the_same_under_the_same_key_from_any_sink() -> None:
    """Two sinks with a key, and the same sink after a restart or with other batches, have the same bytes for the same record."""
    lines = [line for _, line in simulate(SimulationSettings(seed=4, messages=40, hostile=0.2))]
    rows = rows_of(lines)
    once = selected(rows, selection())
    one_by_one = selection()
    again = [row for row in reversed(rows) for row in one_by_one.apply([row]).rows]
    assert sorted(again, key=lambda row: row[0]) == once
    assert bytes_of(selected(rows, Selection(privacy=Privacy(Pseudonyms({1: bytes(32)})))), "json") != bytes_of(once, "json")


# -- made-up texts ---------------------------------------------------------------------------------------------------------------
_WORDS = st.sampled_from(
    [
        *(
            "<",
            ">",
            "'",
            '"',
            "@",
            " ",
            "[",
            "]",
            "(",
            ")",
            ", ",
            "\\",
            "|",
            "=",
            ".",
            ":",
            "\n",
            "\r",
            "é",
            "\U0001f600",
            "\u2028",
            "\x00",
        ),
        *(
            " To: ",
            " From: ",
            " Rejected by RAT",
            " verified yes",
            " address ",
            " reverse dns host ",
            " cipher ",
            " CN=",
            " for ",
            " reason: ",
        ),
        *(
            " interface: ",
            " sender rejected, ",
            " using AUTH mechanism: ",
            " with profile: ",
            " Action dropped",
            " mapped to [",
            "> RID 0 - ",
        ),
        *(" ('550', ['", "'])", " []", "Info: MID 7 Subject ", "example.org", "a@example.org", "192.0.2.7", "2001:db8::7", "p1.", "x" * 30),
    ]
)
TEXTS = st.lists(_WORDS | st.text(max_size=5), max_size=12).map("".join)
SLOTS = [
    (body, name, str(value))
    for _, body, fact in ROWS
    for name, value in (fact.values or {}).items()
    if name in FROM_OUTSIDE and isinstance(value, str) and not is_ip(value) and body.count(value) == 1
]
"""(body, name of the value, value): where others decide what stands on a line. IP addresses are the appliance's to print."""


@given(st.sampled_from(SLOTS), TEXTS, TEXTS, st.booleans())
@example(("MID 90 ICID 70 From: <a@example.com>", "address", "a@example.com"), "", "@example.org", True)
@example(("MID 90 Subject 'Hello'", "subject", "Hello"), "'", "'\n", True)
@example(("MID 90 ICID 70 To: <b@example.org> Rejected by RAT", "address", "b@example.org"), "", "> Rejected by RAT", False)
@example(("MID 90 RID [0] Response '2.0.0 OK'", "response", "2.0.0 OK"), "550 5.1.1 ", "", True)
def test_text_from_outside_stays_nowhere(slot: tuple[str, str, str], before: str, after: str, keep_domains: bool) -> None:
    """Whatever stands where a line has text from outside, and whatever it is then read as: the mark is gone, and the key gives it back."""
    body, _, value = slot
    line = "Mon Nov 24 00:00:00 2025 Info: " + body.replace(value, before + MARK + after)
    at = body_at(line)
    assert at is not None
    action = parse(line[at:]).action
    pseudonyms = Pseudonyms({1: KEY})
    left = Privacy(pseudonyms, keep_domains=keep_domains).line(line, action, "esa1")
    domain = (before + MARK + after).rpartition("@")[2].split(">")[0]
    if MARK not in domain or not keep_domains:  # else it is a domain, which may stay
        assert MARK.lower() not in left.lower()
    revealed, unread = pseudonyms.reveal(left)
    assert unread == 0
    assert revealed == line if keep_domains else revealed.lower() == line.lower()
