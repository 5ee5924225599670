"""The overview in numbers."""

from __future__ import annotations

import pytest

from esa_tls.store.answers import Count, Overview, Ranked
from esa_tls.web import figures
from esa_tls.web.figures import Share, exposed, ranking, shares, stamp
from esa_tls.web.listing import Tone

NOON = 1_763_985_600
"""2025-11-24T12:00 UTC."""
HOUR_S = 3_600

MAIL = [
    Count(NOON, 5, "inbound", "incoming", "success", "tls"),
    Count(NOON, 2, "inbound", "incoming", "none", "clear"),
    Count(NOON + HOUR_S, 1, "inbound", "incoming", "unknown", "unknown"),
    Count(NOON + HOUR_S, 4, "inbound", "outgoing", "success", "tls"),
    Count(NOON, 3, "outbound", "outgoing", "failed", "clear"),
    Count(NOON, 1, "outbound", "", "success", "tls"),
]


def overview(**counts: list[Count]) -> Overview:
    """Of three hours."""
    return Overview(since_s=NOON, until_s=NOON + 3 * HOUR_S, step_s=HOUR_S, **counts)


def figure(name: str, seen: Overview) -> figures.Figure:
    """The one of this name."""
    return next(one for one in figures.figures(seen) if one.name == name)


# -- shares ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("tls", "clear", "percent"),
    [
        (0, 0, "-"),
        (10, 0, "100 %"),
        (0, 10, "0 %"),
        (1, 2, "33.3 %"),
        (999, 1, "99.9 %"),
        (999_999, 1, "99.9 %"),
        (1, 999_999, "0.0 %"),
    ],
)
def test_a_share_is_never_rounded_to_a_whole_that_it_is_not(tls: int, clear: int, percent: str) -> None:
    """`100 %` means that no mail went in clear, `0 %` that none went under TLS; what is not known counts for nothing."""
    assert Share("", "", tls + clear + 7, tls, clear, 7).percent == percent


def test_shares_are_sums_over_steps_and_flows() -> None:
    """One for mail received, one for mail delivered."""
    received, delivered = shares(overview(mail=MAIL))
    assert received == Share("Received", "12 messages received", 12, tls=9, clear=2, unknown=1)
    assert delivered == Share("Delivered", "4 deliveries", 4, tls=1, clear=3, unknown=0)
    assert [one.words for one in shares(overview())] == ["0 messages received", "0 deliveries"]
    assert shares(overview(mail=MAIL[5:]))[1].words == "1 delivery"


def test_exposed_recipients_leave_those_out_who_moved_on() -> None:
    """Their mail is counted with the message that it went on in."""
    counts = [Count(NOON, number, name=name) for name, number in (("exposed", 2), ("encrypted", 5), ("moved", 9), ("unknown", 1))]
    assert exposed(overview(recipients=counts)) == (2, 8)


# -- figures ---------------------------------------------------------------------------------------------------------------------
def test_nothing_seen_is_tables_without_rows_and_no_chart() -> None:
    """Every figure is there all the same, so that the page says that there is nothing."""
    made = figures.figures(overview())
    assert [one.name for one in made] == ["mail", "shares", "failures", "protocols", "evidence"]
    assert all(one.spec is None and not one.table.rows and one.table.columns for one in made)


def test_mail_over_time_is_a_row_per_step_and_flow() -> None:
    """In the order of time; within it received before delivered, busy before quiet, and what is not known last."""
    made = figure("mail", overview(mail=MAIL))
    assert made.table.columns == ("from (UTC)", "mail", "in clear text", "under TLS", "not known")
    assert list(made.table.rows) == [
        ("2025-11-24 12:00", "Received: incoming mail", 2, 5, 0),
        ("2025-11-24 12:00", "Delivered: outgoing mail", 3, 0, 0),
        ("2025-11-24 12:00", "Delivered: flow not known", 0, 1, 0),
        ("2025-11-24 13:00", "Received: incoming mail", 0, 0, 1),
        ("2025-11-24 13:00", "Received: outgoing mail", 0, 4, 0),
    ]
    assert made.spec is not None
    assert made.note == "per hour"


@pytest.mark.parametrize(("step_s", "note"), [(3_600, "hour"), (10_800, "3 hours"), (86_400, "day"), (7 * 86_400, "7 days")])
def test_the_step_is_said(step_s: int, note: str) -> None:
    """In hours or days; a day has no time in the table."""
    made = figure("mail", Overview(since_s=NOON, until_s=NOON + step_s, step_s=step_s, mail=MAIL[:1]))
    assert made.note == f"per {note}"
    assert (":" in str(made.table.rows[0][0])) == (step_s < 86_400)
    assert stamp(NOON, step_s) == made.table.rows[0][0]


def test_shares_by_flow_sum_to_the_mail() -> None:
    """A row per direction and flow."""
    rows = figure("shares", overview(mail=MAIL)).table.rows
    assert list(rows) == [
        ("Received: incoming mail", 2, 5, 1),
        ("Received: outgoing mail", 0, 4, 0),
        ("Delivered: outgoing mail", 3, 0, 0),
        ("Delivered: flow not known", 0, 1, 0),
    ]
    assert sum(number for row in rows for number in row[1:] if isinstance(number, int)) == sum(one.number for one in MAIL)


def test_failures_and_protocols_are_ranked() -> None:
    """Summed over time, the most frequent first; a class or protocol that is not known by us stands as it is, made harmless."""
    seen = overview(
        failures=[
            Count(NOON, 1, "outbound", name="handshake"),
            Count(NOON + HOUR_S, 2, "outbound", name="handshake"),
            Count(NOON, 2, "inbound", name="new_class"),
            Count(NOON, 2, "outbound", name="dane"),
        ],
        protocols=[Count(NOON, 7, "inbound", name="TLSv1.3"), Count(NOON, 9, "outbound", name="TLSv1\x1b[2J")],
    )
    assert list(figure("failures", seen).table.rows) == [
        ("out: the handshake failed", 3),
        ("in: new_class", 2),
        ("out: the check against DNS (DANE) failed", 2),
    ]
    assert list(figure("protocols", seen).table.rows) == [("out: TLSv1\\x1b[2J", 9), ("in: TLSv1.3", 7)]


def test_the_table_has_all_and_the_chart_the_first() -> None:
    """More classes than a chart shows are in the table."""
    seen = overview(protocols=[Count(NOON, 100 - n, "inbound", name=f"p{n}") for n in range(15)])
    made = figure("protocols", seen)
    assert len(made.table.rows) == 15
    assert made.spec is not None
    drawn = str(made.spec("light", 300))
    assert "in: p9" in drawn
    assert "in: p10" not in drawn


def test_evidence_says_why() -> None:
    """Outcome and evidence, summed over both directions."""
    counts = [Count(NOON, 2, way, name="none", clear="absence") for way in ("inbound", "outbound")]
    counts += [Count(NOON, 9, "inbound", name="success", clear="line")]
    first, second = figure("evidence", overview(evidence=counts)).table.rows
    assert isinstance(first[0], Tone)
    assert isinstance(second[0], Tone)
    assert (first[0].tone, first[1:]) == ("success", ("a log line says it", 9))
    assert (second[0].tone, second[2]) == ("none", 4)


def test_rankings_name_what_was_counted_without_its_name() -> None:
    """Names are made harmless; the column is what is ranked."""
    made = ranking("clear_in", "Mail in clear, by domain", "messages", [Ranked("a\n.example", 3), Ranked(None, 2)], ["/search?q=a"])
    assert made.table.columns == ("by domain", "messages")
    assert list(made.table.rows) == [("a\\x0a.example", 3), ("(others)", 2)]
    assert made.table.links == ["/search?q=a"]
    assert made.spec is None
