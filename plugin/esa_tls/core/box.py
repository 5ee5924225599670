"""What the pipeline keeps while it works: per appliance a `Box`, per origin a `Stream`; and the values they keep in the state."""

from __future__ import annotations

from collections import deque
from zoneinfo import ZoneInfo

from esa_tls.core.appliance import Appliance
from esa_tls.core.connections import Connection
from esa_tls.core.correlate import Correlator
from esa_tls.core.order import Waiting
from esa_tls.core.prefix import Prefix
from esa_tls.core.prefix_facts import PrefixFacts, Tail
from esa_tls.core.seen import Seen


class Box:
    """One appliance at work: its kept state, its correlator, the window of seen bodies, and what waits."""

    __slots__ = (
        *("arrived_s", "batch", "candidate_s", "changed", "correlator", "deleted", "holding", "observer", "seen", "sessions", "state"),
        *("used", "waiting", "written", "zone"),
    )

    def __init__(self, state: Appliance, correlator: Correlator, seen: Seen, zone: ZoneInfo) -> None:
        self.state = state
        self.correlator = correlator
        self.seen = seen
        self.zone = zone
        self.observer = state.observer()
        self.sessions: set[int] = set()
        self.arrived_s = 0.0
        self.batch = 0
        """The last batch that had lines of this appliance."""
        self.changed = False
        self.holding: deque[tuple[float, Connection]] = deque()
        self.waiting: dict[int, Waiting] = {}
        self.written: set[int] = set()
        """Sequences of waiting lines that a sealed group has put into the state."""
        self.deleted: list[bytes] = []
        self.candidate_s = 0.0
        """When the line in `state.candidate` arrived."""
        self.used: dict[int, Prefix] = {}
        """By stamp: the prefixes of lines that were held lately, so that lines that leave together share the encoders' pieces."""


class Stream:
    """What is kept per origin: prefixes seen, and the line before (for continuations)."""

    __slots__ = ("key", "last", "length", "prefixes", "sealed", "since_s", "timed")

    def __init__(self, key: bytes, tail: Tail, since_s: float) -> None:
        self.key = key
        self.prefixes: dict[tuple[str, ...], dict[str, Prefix]] = {}
        """By the flags of the run, then by the text before the body."""
        self.since_s = since_s
        """Since when prefixes have been collected: inferred years are good for a while only."""
        self.length = 0
        self.last = tail.facts
        self.timed = tail.timed
        self.sealed: PrefixFacts | None = tail.facts
