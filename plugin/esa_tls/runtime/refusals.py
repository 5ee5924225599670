"""Peers that a listener turned away: each one counted, and told in the log without letting it fill.

A shipper with a wrong key tries again every second, a scanner a thousand times a second. The metric counts all of them; the log has one
line a minute for each address and reason, with the number of those left out. What is remembered is bounded.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from esa_tls.telemetry import PEERS_REFUSED, Counters

log = logging.getLogger(__name__)

LOG_EVERY_S = 60.0
"""One address and reason is in the log once in this time."""

MAX_REMEMBERED = 1024
"""Pairs of address and reason remembered for that; the oldest are forgotten."""


class Refusals:
    """The refused peers of one listener. `reason` is a word of a closed set, as it is a label."""

    def __init__(self, listener: str, counters: Counters, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self.listener = listener
        self._counters = counters
        self._monotonic_s = monotonic_s
        self._told: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()  # -> when last told, how many since

    def refused(self, peer: str, reason: str, detail: str) -> None:
        """Count one. `detail`: the rest of a sentence that begins with the peer; no secret, nothing the peer could make long."""
        self._counters.add(PEERS_REFUSED, listener=self.listener, reason=reason)
        now_s = self._monotonic_s()
        key = (peer, reason)
        told_s, untold = self._told.pop(key, (now_s - LOG_EVERY_S, 0))
        if now_s - told_s >= LOG_EVERY_S:
            more = f" ({untold} more since the last message)" if untold else ""
            log.warning("%s: %s was refused: %s%s.", self.listener, peer or "a peer", detail, more)
            told_s, untold = now_s, 0
        else:
            untold += 1
        self._told[key] = (told_s, untold)
        if len(self._told) > MAX_REMEMBERED:
            self._told.popitem(last=False)
