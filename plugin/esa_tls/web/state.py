"""What the health view shows: the sidecar's own numbers, read where they are kept. It reads and never changes anything."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec

from esa_tls import telemetry
from esa_tls.offline.terminal import printable
from esa_tls.runtime.dispatch import SinkStatus
from esa_tls.runtime.journal_format import DeadLetter
from esa_tls.store.query import StoreReader
from esa_tls.telemetry import Counters
from esa_tls.web.listing import Tone
from esa_tls.web.live import Live

MAX_LETTERS: Final = 50
MAX_SAMPLE_CHARS: Final = 300
MAX_SHAPES: Final = 100
FAILING_S: Final = 60.0


class Listener(msgspec.Struct, frozen=True):
    """A source: its name, what it speaks, where it listens."""

    name: str
    speaks: str
    where: str


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """What the page looks at. Everything is read at each request. `zone`: of an appliance's clock."""

    store: StoreReader | None
    live: Live
    counters: Counters
    reasons_not_ready: Callable[[], Sequence[str]]
    sinks: Callable[[], Sequence[SinkStatus]]
    journal: Callable[[], dict[str, Any]]
    dead_letters: Callable[[int], Sequence[tuple[int, DeadLetter]]]
    listeners: Sequence[Listener] = ()
    zone: Callable[[str], ZoneInfo] = lambda _appliance: ZoneInfo("UTC")
    version: str = ""


class Letter(msgspec.Struct, frozen=True):
    """A dead letter, as far as a page shows it."""

    number: int
    at: str
    origin: str
    reason: str
    kind: str
    sample: str


def sources(sidecar: Sidecar) -> list[tuple[str | int | Tone, ...]]:
    """Rows: name, what it speaks, where, senders now, lines, bytes, refused."""
    counters = sidecar.counters
    rows: list[tuple[str | int | Tone, ...]] = []
    for one in sidecar.listeners:
        refused = sum(
            number
            for labels, number in counters.series(telemetry.PEERS_REFUSED).items()
            if dict(labels).get("listener") in (one.name, f"source {one.name}")
        )
        rows.append(
            (
                one.name,
                one.speaks,
                one.where,
                int(counters.value(telemetry.SESSIONS_OPEN, source=one.name)),
                int(counters.value(telemetry.LINES, source=one.name)),
                bytes_words(counters.value(telemetry.LINE_BYTES, source=one.name)),
                int(refused),
            )
        )
    return rows


def sinks(sidecar: Sidecar) -> list[tuple[str | int | Tone, ...]]:
    """Rows: name, how it is, oldest unsent, sent, retries, refused, dropped."""
    counters = sidecar.counters
    rows: list[tuple[str | int | Tone, ...]] = []
    for status in sidecar.sinks():
        how = Tone("works", "tls")
        if status.failing is not None:
            how = Tone(f"failing: {printable(status.failing)}", "failed" if status.oldest_unsent_age_s >= FAILING_S else "partial")
        rows.append(
            (
                status.name,
                how,
                age_words(status.oldest_unsent_age_s) if status.oldest_unsent_age_s >= 1 else "up to date",
                int(counters.value(telemetry.SINK_SENT, sink=status.name)),
                int(counters.value(telemetry.SINK_RETRIES, sink=status.name)),
                int(counters.value(telemetry.SINK_REJECTED, sink=status.name)),
                int(counters.value(telemetry.SINK_DROPPED, sink=status.name)),
            )
        )
    return rows


def appliances(sidecar: Sidecar) -> list[tuple[str | int | Tone, ...]]:
    """Rows: appliance, how far its newest line is behind this machine's clock."""
    series = sidecar.counters.series(telemetry.EVENT_TIME_LAG)
    return [(printable(dict(labels).get("appliance", "")), _lag(number)) for labels, number in sorted(series.items())]


def shapes(sidecar: Sidecar) -> list[tuple[str | int | Tone, ...]]:
    """Rows: masked sample, number; the most frequent first."""
    series = sidecar.counters.series(telemetry.UNRECOGNISED)
    ranked = sorted(series.items(), key=lambda item: (-item[1], item[0]))[:MAX_SHAPES]
    return [(printable(dict(labels).get("shape", "")) or "(nothing)", int(number)) for labels, number in ranked]


def core(sidecar: Sidecar) -> list[tuple[str | int | Tone, ...]]:
    """Rows: what the core has seen that is worth knowing, and how often."""
    counters = sidecar.counters
    told = (
        ("lines held back until their connection is decided, now", telemetry.HELD_LINES),
        ("lines of no known shape", telemetry.UNRECOGNISED),
        ("lines that left undecided", telemetry.PENDING_LINES),
        ("lines that came after their record had left", telemetry.LATE_LINES),
        ("lines that came a second time", telemetry.DUPLICATE_LINES),
        ("lines with a time that cannot be right", telemetry.BAD_TIME),
        ("TLS lines that came after the outcome was decided", telemetry.CONTRADICTIONS),
        ("times an appliance's counters began anew", telemetry.EPOCH_RESETS),
        ("times an appliance's clock went back", telemetry.CLOCK_REBASES),
        ("times the feed of an appliance broke", telemetry.FEED_BREAKS),
        ("connections and messages forgotten for want of room", telemetry.EVICTIONS),
    )
    return [(words, int(counters.value(name))) for words, name in told]


def letters(found: Sequence[tuple[int, DeadLetter]]) -> list[Letter]:
    """Dead letters for people: what they hold is cut."""
    return [
        Letter(
            number,
            f"{dt.datetime.fromtimestamp(letter.at_s, tz=dt.UTC):%Y-%m-%d %H:%M:%S}" if letter.at_s else "",
            printable(letter.origin),
            printable(letter.reason),
            letter.kind,
            printable(letter.payload[:MAX_SAMPLE_CHARS].decode("utf-8", "replace")),
        )
        for number, letter in found
    ]


def _lag(lag_s: float) -> str:
    return f"{age_words(lag_s)} behind" if lag_s >= 1 else "up to date" if lag_s > -60 else f"{age_words(-lag_s)} ahead of this machine"


def age_words(age_s: float) -> str:
    """`4 s`, `12 min`, `3 h`, `2 days`."""
    if age_s < 120:
        return f"{age_s:.0f} s"
    if age_s < 7_200:
        return f"{age_s / 60:.0f} min"
    return f"{age_s / 3_600:.0f} h" if age_s < 172_800 else f"{age_s / 86_400:,.0f} days"


def bytes_words(number: float) -> str:
    """`12 B`, `3.4 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
