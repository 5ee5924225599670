"""What the health view makes of the sidecar's own numbers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from esa_tls import telemetry
from esa_tls.api import rows
from esa_tls.runtime.dispatch import SinkStatus
from esa_tls.runtime.journal_format import DeadLetter
from esa_tls.telemetry import Counters
from esa_tls.web import state
from esa_tls.web.listing import Tone
from esa_tls.web.live import Live
from esa_tls.web.state import Listener, Sidecar, age_words, bytes_words, letters


def sidecar(counters: Counters | None = None, *, sinks: Sequence[SinkStatus] = (), listeners: Sequence[Listener] = ()) -> Sidecar:
    """With these numbers and no store."""
    return Sidecar(
        store=None,
        live=Live(rows.readable, rows.decode),
        counters=counters or Counters(),
        reasons_not_ready=list,
        sinks=lambda: sinks,
        journal=dict,
        dead_letters=lambda _: [],
        listeners=listeners,
    )


@pytest.mark.parametrize(
    ("age_s", "words"),
    [
        (0, "0 s"),
        (119.4, "119 s"),
        (120, "2 min"),
        (7_199, "120 min"),
        (7_200, "2 h"),
        (172_799, "48 h"),
        (172_800, "2 days"),
        (1e8, "1,157 days"),
    ],
)
def test_ages(age_s: float, words: str) -> None:
    """In the unit that says it in two or three digits."""
    assert words == age_words(age_s)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3.4 * 2**20, "3.4 MiB"),
        (2**30, "1.0 GiB"),
        (2**40, "1.0 TiB"),
        (2**53, "8192.0 TiB"),
    ],
)
def test_sizes(number: float, words: str) -> None:
    """In units of 1,024; bytes are whole."""
    assert words == bytes_words(number)


def test_sources_have_their_own_numbers() -> None:
    """By name; who was refused is counted under the listener or under the source of that name, never under another one's."""
    counters = Counters()
    counters.add(telemetry.LINES, 5, source="a")
    counters.add(telemetry.LINES, 7, source="b")
    counters.add(telemetry.LINE_BYTES, 2048, source="a")
    counters.add(telemetry.PEERS_REFUSED, 1, listener="a", reason="tls")
    counters.add(telemetry.PEERS_REFUSED, 2, listener="source a", reason="shared_key")
    counters.add(telemetry.PEERS_REFUSED, 4, listener="source ab", reason="shared_key")
    counters.gauge(telemetry.SESSIONS_OPEN, lambda: 3.0, source="a")
    made = sidecar(counters, listeners=[Listener("a", "Fluent Forward", "127.0.0.1:1"), Listener("b", "OTLP/gRPC", "127.0.0.1:2")])
    assert state.sources(made) == [
        ("a", "Fluent Forward", "127.0.0.1:1", 3, 5, "2.0 KiB", 3),
        ("b", "OTLP/gRPC", "127.0.0.1:2", 0, 7, "0 B", 0),
    ]


def test_sinks_say_how_they_are() -> None:
    """Working; failing since just now; failing for a minute, which is another tone; with the error made harmless."""
    counters = Counters()
    counters.add(telemetry.SINK_SENT, 10, sink="a", kind="line")
    counters.add(telemetry.SINK_SENT, 1, sink="a", kind="message")
    counters.add(telemetry.SINK_RETRIES, 2, sink="b")
    statuses = [SinkStatus("a", None, 1, 0.4), SinkStatus("b", "refused\x1b[2J", 1, 59.9), SinkStatus("c", "gone", 1, 60.0)]
    assert state.sinks(sidecar(counters, sinks=statuses)) == [
        ("a", Tone("works", "tls"), "up to date", 11, 0, 0, 0),
        ("b", Tone("failing: refused\\x1b[2J", "partial"), "60 s", 0, 2, 0, 0),
        ("c", Tone("failing: gone", "failed"), "60 s", 0, 0, 0, 0),
    ]


@pytest.mark.parametrize(
    ("lag_s", "words"),
    [(3.0, "3 s behind"), (0.9, "up to date"), (-59.0, "up to date"), (-60.0, "60 s ahead of this machine"), (90_000.0, "25 h behind")],
)
def test_clocks_of_appliances(lag_s: float, words: str) -> None:
    """Behind, level within a minute, or ahead."""
    counters = Counters()
    counters.gauge(telemetry.EVENT_TIME_LAG, lambda: lag_s, appliance="esa1\n")
    assert state.appliances(sidecar(counters)) == [("esa1\\x0a", words)]


def test_shapes_are_ranked_and_bounded() -> None:
    """The most frequent first, equal ones by name; no more than a page shows."""
    counters = Counters()
    for n in range(state.MAX_SHAPES + 20):
        counters.add(telemetry.UNRECOGNISED, 1 + (n == 7), shape=f"shape {n:03}")
    counters.add(telemetry.UNRECOGNISED, 9, shape="")
    found = state.shapes(sidecar(counters))
    assert found[:3] == [("(nothing)", 9), ("shape 007", 2), ("shape 000", 1)]
    assert len(found) == state.MAX_SHAPES


def test_what_the_core_has_seen() -> None:
    """A row each, also for what never happened; sums over labels."""
    counters = Counters()
    counters.add(telemetry.UNRECOGNISED, 2, shape="a")
    counters.add(telemetry.UNRECOGNISED, 3, shape="b")
    counters.gauge(telemetry.HELD_LINES, lambda: 4)
    told = {str(row[0]): row[1] for row in state.core(sidecar(counters))}
    assert told.pop("lines of no known shape") == 5
    assert told.pop("lines held back until their connection is decided, now") == 4
    assert set(told.values()) == {0}


def test_dead_letters_are_cut_and_harmless() -> None:
    """A sample of the payload, control characters written out; without a time there is none."""
    payload = b"\xff\x1b[2J" + b"x" * 10_000
    one, two = letters(
        [(3, DeadLetter("sink:es", "bad\n", payload, at_s=1_763_985_600.0, kind="line")), (4, DeadLetter("source:a", "r", b""))]
    )
    assert (one.number, one.at, one.origin, one.reason, one.kind) == (3, "2025-11-24 12:00:00", "sink:es", "bad\\x0a", "line")
    assert one.sample.startswith("\ufffd\\x1b[2J")
    assert len(one.sample) < state.MAX_SAMPLE_CHARS + 10
    assert (two.number, two.at, two.sample) == (4, "", "")
