"""What stands in the address bar, read and written."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict

from esa_tls.store.answers import Filter
from esa_tls.web import asked
from esa_tls.web.asked import (
    CHOICES,
    DAY_S,
    HOUR_S,
    NotUnderstood,
    Period,
    connection_link,
    filter_of,
    is_asked,
    joined,
    link,
    message_link,
    period_of,
    step_of,
    text_of_time,
    time_of,
)

NOON = 1_763_985_600
"""2025-11-24T12:00 UTC."""


def query(*pairs: tuple[str, str]) -> MultiDict[str]:
    """The parameters of an address."""
    return MultiDict(pairs)


# -- times and periods -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("2025-11-24T12:00", NOON),
        ("2025-11-24 12:00:00", NOON),
        ("2025-11-24T13:00+01:00", NOON),
        ("2025-11-24", NOON - 12 * HOUR_S),
    ],
)
def test_times(text: str, expected: int | None) -> None:
    """UTC unless they say another zone; nothing is no time."""
    assert expected == time_of(text, "From")


@pytest.mark.parametrize("text", ["yesterday", "24.11.2025", "2025-13-01", "0001-01-01T00:00+23:59", "9999-12-31T23:59-23:59", "x" * 5000])
def test_a_text_that_is_no_time_is_told(text: str) -> None:
    """By the name of the field, with as much of the text as a page can show."""
    with pytest.raises(NotUnderstood, match=r"^From: expected a time such as ") as caught:
        time_of(text, "From")
    assert len(str(caught.value)) < 200


@given(st.integers(0, 4_000_000_000))
def test_a_time_in_an_address_is_read_as_it_was_written(time_s: int) -> None:
    """To the minute."""
    assert time_of(text_of_time(time_s), "From") == time_s - time_s % 60


def test_without_a_period_it_is_the_last_seven_days() -> None:
    """Up to the end of this hour, in whole hours."""
    period = period_of(query(), None, NOON + 90.5)
    assert period == Period(NOON + HOUR_S - 7 * DAY_S, NOON + HOUR_S, "7d", "the last 7 days")


def test_where_nothing_newer_is_kept_it_ends_at_the_newest_record() -> None:
    """A file of last year read in today shows something; a record within the period changes nothing."""
    period = period_of(query(("last", "24h")), NOON - 400 * DAY_S, NOON)
    assert (period.since_s, period.until_s) == (NOON - 400 * DAY_S + HOUR_S - DAY_S, NOON - 400 * DAY_S + HOUR_S)
    assert period.words == "24 hours up to 2024-10-20 12:00, the newest record"
    assert period_of(query(("last", "24h")), NOON - DAY_S, NOON).words == "the last 24 hours"


@pytest.mark.parametrize(
    ("pairs", "since_s", "until_s", "words"),
    [
        ([("since", "2025-11-24T12:00")], NOON, None, "from 2025-11-24 12:00"),
        ([("until", "2025-11-24T12:00")], None, NOON, "until 2025-11-24 12:00"),
        (
            [("since", "2025-11-24T11:00"), ("until", "2025-11-24T12:00")],
            NOON - HOUR_S,
            NOON,
            "from 2025-11-24 11:00 until 2025-11-24 12:00",
        ),
        ([("since", "2025-11-24T12:00"), ("last", "30d")], NOON, None, "from 2025-11-24 12:00"),
        ([("last", "all")], None, None, "everything that is kept"),
    ],
)
def test_periods_as_they_were_asked_for(pairs: list[tuple[str, str]], since_s: int | None, until_s: int | None, words: str) -> None:
    """Bounds count before a name; either end may be open."""
    period = period_of(query(*pairs), NOON - 400 * DAY_S, NOON)
    assert (period.since_s, period.until_s, period.words) == (since_s, until_s, words)


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ([("since", "2025-11-24"), ("until", "2025-11-24")], "The period ends before it begins."),
        ([("last", "1y")], "There is no period '1y'."),
    ],
)
def test_periods_that_are_none(pairs: list[tuple[str, str]], told: str) -> None:
    """Said in a sentence."""
    with pytest.raises(NotUnderstood) as caught:
        period_of(query(*pairs), None, NOON)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("span_s", "step_s"),
    [(DAY_S, HOUR_S), (2 * DAY_S, HOUR_S), (2 * DAY_S + 1, 3 * HOUR_S), (8 * DAY_S, 3 * HOUR_S), (8 * DAY_S + 1, None)],
)
def test_steps_of_charts(span_s: int, step_s: int | None) -> None:
    """Finer for short periods; the store chooses for long and open ones."""
    assert step_of(Period(NOON, NOON + span_s)) == step_s
    assert step_of(Period(NOON, None)) is step_of(Period(None, NOON)) is None


# -- filters ---------------------------------------------------------------------------------------------------------------------
def test_every_filter_of_the_form_is_read() -> None:
    """Each word of each list, alone and together with all others; text without blanks around it; empty values count for nothing."""
    fields = {"kind": "kinds", "outcome": "outcomes", "posture": "postures", "direction": "directions", "flow": "flows"}
    fields |= {"failure": "failures", "result": "results"}
    for name, (_, words) in CHOICES.items():
        if name in fields:
            assert getattr(filter_of(query(*((name, word) for word in (*words, "")))), fields[name]) == frozenset(words)
    assert set(CHOICES) - set(fields) == {"clear"}
    made = filter_of(query(("q", " MID 7 "), ("appliance", "esa1"), ("appliance", ""), ("since", "2025-11-24T12:00"), ("page", "x")))
    assert made == Filter(text="MID 7", appliances=frozenset({"esa1"}), since_s=NOON)


@pytest.mark.parametrize(("words", "in_clear"), [((), None), (("yes",), True), (("no",), False), (("yes", "no"), None)])
def test_in_clear_or_not_or_both(words: tuple[str, ...], in_clear: bool | None) -> None:
    """Both boxes ask for nothing."""
    assert filter_of(query(*(("clear", word) for word in words))).in_clear is in_clear


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ([("outcome", "success"), ("outcome", "maybe")], "TLS outcome: there is no 'maybe'."),
        ([("q", "x" * 1001)], "The text to search for is longer than 1,000 characters."),
        ([("until", "now")], "Until: expected a time"),
    ],
)
def test_filters_that_are_none(pairs: list[tuple[str, str]], told: str) -> None:
    """Said in a sentence, by the label that the form has."""
    with pytest.raises(NotUnderstood) as caught:
        filter_of(query(*pairs))
    assert str(caught.value).startswith(told)


def test_whether_anything_is_asked() -> None:
    """A filter is; blanks, an empty value, a period by name and a page are not."""
    assert not is_asked(query(("q", "  "), ("kind", ""), ("last", "24h"), ("after", "x")))
    for name in ("q", "since", "until", "appliance", *CHOICES):
        assert is_asked(query((name, "x")))


# -- links -----------------------------------------------------------------------------------------------------------------------
def test_a_link_changes_what_it_names_and_keeps_the_rest() -> None:
    """Several values of a parameter stay; None and an empty text take one away; without any there is no `?`."""
    asked_for = query(("kind", "message"), ("kind", "delivery"), ("q", "a b&c"), ("after", "9"), ("flow", ""))
    assert link("/search", asked_for, after=None, last="7d") == "/search?kind=message&kind=delivery&q=a+b%26c&last=7d"
    assert link("/search", asked_for, after="", q=None, kind=1) == "/search?kind=1"
    assert link("/search") == link("/search", {"q": ""}) == "/search"


@given(st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()), st.integers(0, 9), st.integers(1, 2**31))
def test_links_to_a_story_survive_any_name(appliance: str, epoch: int, mid: int) -> None:
    """An appliance's name may hold whatever a sender called itself."""
    for address, path, wanted in (
        (message_link(appliance, epoch, mid), "/message", f"{appliance}/{epoch}/MID/{mid}"),
        (connection_link(f"{appliance}/{epoch}/ICID/{mid}"), "/connection", f"{appliance}/{epoch}/ICID/{mid}"),
    ):
        parts = urlsplit(address)
        assert (parts.scheme, parts.netloc, parts.path) == ("", "", path)
        assert parse_qsl(parts.query) == [("id", wanted)]


@pytest.mark.parametrize(("words", "text"), [((), ""), (("a",), "a"), (("a", "b"), "a or b"), (("a", "b", "c"), "a, b or c")])
def test_joined(words: tuple[str, ...], text: str) -> None:
    """With `or` before the last."""
    assert text == joined(words)


def test_periods_with_a_name_are_whole_hours() -> None:
    """Every one of `SPANS`, at any second of an hour."""
    for name, (_, span_s) in asked.SPANS.items():
        for second in (0, 1, HOUR_S - 1):
            period = period_of(query(("last", name)), None, NOON + second)
            if span_s:
                assert period.until_s is not None
                assert (period.until_s, period.since_s) == (NOON + HOUR_S, NOON + HOUR_S - span_s)
