"""Lines that wait: in the reorder window, for their connection's decision, or no longer than `max_hold_s`. A part of `Pipeline`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Final

from esa_tls.core.box import Box
from esa_tls.core.breaking import Breaking
from esa_tls.core.connections import PENDING, Connection, Leg
from esa_tls.core.correlate import Correlator
from esa_tls.core.line_record import Hold, Line
from esa_tls.core.order import Waiting, place, rank
from esa_tls.core.prefix import Prefix
from esa_tls.core.prefix_facts import PrefixFacts
from esa_tls.core.state import waiting_key

MAX_USED: Final = 64
"""Prefixes of held lines that are kept with their encoded pieces."""


class Holding(Breaking):
    """What becomes of a line that cannot leave at once."""

    held_lines: int

    @abstractmethod
    def _expire(self, box: Box, time_s: int) -> None:
        """The appliance time has come to this."""

    def _wait(self, box: Box, prefix: Prefix, line: Line, time_s: int, *, again: bool, left: bool = False) -> None:
        """A line of a source that reorders: it is correlated in the order of its stamp and kind, when the window has passed."""
        facts = prefix.facts
        if line.fact.action == "unrecognised" and not again:
            self._odd(prefix, line)
        if self.settings.emit_immediately and not left:
            self._put_early(box, prefix, line)
            left = True
        box.waiting[line.sequence] = Waiting(line, facts, time_s, rank(line.fact), again=again, left=left)
        box.state.lag_s = facts.reorder_s + 1
        clock_s = box.state.clock.time_s
        if clock_s is not None and time_s + facts.reorder_s < clock_s:
            self._order(box, clock_s)

    def _order(self, box: Box, time_s: int | None) -> None:
        """Correlate what has waited long enough (None: everything), in the order of stamp, kind, arrival."""
        if not box.waiting:
            return
        ready = [one for one in box.waiting.values() if time_s is None or one.stamp_s + one.prefix.reorder_s < time_s]
        if not ready:
            return
        ready.sort(key=place)
        box.changed = True
        for one in ready:
            line = one.line
            del box.waiting[line.sequence]
            if line.sequence in box.written:
                box.written.discard(line.sequence)
                box.deleted.append(waiting_key(box.state.name, line.sequence))
            self._expire(box, min(one.stamp_s, (box.state.clock.time_s or one.stamp_s)) - 1)
            self._take(box, one.prefix, line, one.stamp_s, again=one.again, left=one.left, odd=False)

    def _take(self, box: Box, facts: PrefixFacts, line: Line, stamp_s: int, *, again: bool, left: bool, odd: bool = True) -> None:
        """What the hot loop does with a line, for one that had to wait. `left`: its record has left; `odd`: look at it if unrecognised."""
        correlator, fact = box.correlator, line.fact
        prefix = _prefix_of(facts, box, box.state.epoch)
        if again:
            leg = correlator.locate(fact, stamp_s, lossy=facts.lossy)
        else:
            if odd and fact.action == "unrecognised":
                self._odd(prefix, line)
            leg = correlator.apply(fact, stamp_s, sequence=line.sequence, lossy=facts.lossy)
            if correlator.news:
                self._heed(box, line)
            if fact.values is not None and "truncated" in fact.values:
                line.flags += ("truncated",)
        if left:
            return
        if prefix.epoch != box.state.epoch:
            prefix = _prefix_of(facts, box, box.state.epoch)
        if leg is not None and leg.outcome == PENDING and correlator.connection is not None and not self.settings.emit_immediately:
            self._hold(box, correlator.connection, prefix, line)
        else:
            self._put(prefix, line, leg)

    def _heed(self, box: Box, line: Line) -> None:
        """What the correlator noticed on a line, beside the leg it belongs to."""
        correlator = box.correlator
        correlator.news = False
        if correlator.late or correlator.contradicted:
            line.flags += ("late",) * correlator.late + ("contradiction",) * correlator.contradicted
            if correlator.late:
                self.count("esa_tls.lines.late")
            correlator.late = correlator.contradicted = False
        if correlator.decided:
            self._release(box, correlator)

    def _hold(self, box: Box, entry: Connection, prefix: Prefix, line: Line) -> None:
        """Keep a line until its connection is decided."""
        if entry.held is None:
            entry.held = []
            held_s = float(box.state.clock.time_s or 0) if self.settings.hold_by_event_time else self.now_s
            box.holding.append((held_s, entry))
        entry.held.append(Hold(line, prefix.facts, prefix.epoch))
        if not entry.dirty:  # a line that was seen before changes nothing else of it
            entry.dirty = True
            box.correlator.entries.dirty.append(entry)
        self.held_lines += 1
        while self.held_lines > self.settings.max_held_lines and box.holding:
            self._let_one_go(box)

    def _let_go(self, box: Box, now_s: float) -> None:
        limit_s = now_s - self.settings.max_hold_s
        while box.holding and (box.holding[0][0] <= limit_s or not box.holding[0][1].held):
            self._let_one_go(box)

    def _let_one_go(self, box: Box) -> None:
        """Lines that were held for `max_hold_s` leave as `pending`; the connection stays undecided."""
        _, entry = box.holding.popleft()
        if entry.held:
            self.count("esa_tls.lines.pending", len(entry.held), reason="max_hold")
            self._put_held(box, entry)

    def _release(self, box: Box, correlator: Correlator) -> None:
        """Connections were decided: the lines held for them go, before the line that decided."""
        for entry in correlator.decided:
            self._put_held(box, entry)
        correlator.decided.clear()
        while box.holding and not box.holding[0][1].held:
            box.holding.popleft()

    def _put_held(self, box: Box, entry: Connection) -> None:
        held, entry.held = entry.held, None
        if not held:
            return
        self.held_lines -= len(held)
        if not entry.dirty:
            entry.dirty = True
            box.correlator.entries.dirty.append(entry)
        for one in held:
            self._put(_prefix_of(one.prefix, box, one.epoch), one.line, entry.leg)

    def _put_early(self, box: Box, prefix: Prefix, line: Line) -> None:
        """A line leaves before it had its effect: with its connection as it is now, `pending` if it is not known yet."""
        fact = line.fact
        leg = box.correlator.locate(fact, prefix.stamp_s, lossy=prefix.facts.lossy)
        if leg is None and (fact.dcid or (fact.dcid is None and fact.icid)):
            kind, number = ("D", fact.dcid) if fact.dcid else ("I", fact.icid)
            assert number is not None
            leg = Leg(kind, number, prefix.epoch)
        if leg is not None and leg.outcome == PENDING:
            self.count("esa_tls.lines.pending")
        self._put(prefix, line, leg)

    def _put(self, prefix: Prefix, line: Line, leg: Leg | None) -> None:
        self.leaving.append((prefix, line, leg))


def _prefix_of(facts: PrefixFacts, box: Box, epoch: int) -> Prefix:
    """The prefix of lines that waited: those of one second share it, as they did when they came."""
    prefix = box.used.get(facts.stamp_s)
    if prefix is None or prefix.facts is not facts or prefix.epoch != epoch:
        if len(box.used) >= MAX_USED:
            box.used.clear()
        prefix = box.used[facts.stamp_s] = Prefix(facts, box, epoch=epoch)
    return prefix
