"""Whether the feed of an appliance is unbroken: what the absence of a line proves. A part of `Pipeline`."""

from __future__ import annotations

from esa_tls.core.box import Box
from esa_tls.core.telling import Telling


class Breaking(Telling):
    """What breaks a feed: late batches, sessions side by side or ended uncleanly, refusals, starts, and lines that go back in time."""

    sessions: dict[int, set[str]]
    batches: int

    def _entered(self, box: Box, session: int, stamp_s: int) -> None:
        """Lines of this appliance follow: is its feed still unbroken?"""
        box.changed = True
        box.arrived_s = self.now_s
        kept = box.state
        if session not in box.sessions:
            box.sessions.add(session)
            self.sessions.setdefault(session, set()).add(kept.name)
        if box.batch == self.batches:
            return
        box.batch = self.batches
        time_s = kept.clock.time_s
        if kept.breaking is not None and time_s is not None and stamp_s <= time_s:
            kept.breaking = None
        late = self.settings.late_batches and time_s is not None and stamp_s < time_s
        first = time_s is None and self.settings.starts_broken
        if late or first or len(box.sessions) > 1:
            self._break(box, stamp_s, "late_batch" if late else "start" if first else "sessions")

    def _break(self, box: Box, stamp_s: int | None, reason: str) -> None:
        kept = box.state
        time_s = kept.clock.time_s
        if time_s is None:
            time_s = stamp_s
        if time_s is None:
            return
        if reason != "late_batch" and (kept.breaking is None or reason != "start"):
            kept.breaking = reason
            box.changed = True
        self._broken_at(box, time_s, reason)

    def _broken_at(self, box: Box, time_s: int, reason: str) -> None:
        kept = box.state
        if reason not in ("start", "order") and (kept.disorder_s is None or time_s > kept.disorder_s):
            kept.disorder_s = time_s
            box.changed = True
        if kept.break_s is None or time_s > kept.break_s:
            kept.break_s = time_s
            box.changed = True
            self.count("esa_tls.feed.breaks", reason=reason)

    def break_feed(self, appliance: str | None = None) -> None:
        """The feed of an appliance (None: of all) is no longer unbroken: a batch was refused, or requests overlap."""
        for name, box in self.boxes.items():
            if appliance is None or appliance == name:
                self._break(box, None, "refused")

    def close_session(self, session: int, *, clean: bool) -> None:
        """A sender's session ended; not `clean`: it had a frame that was not acknowledged."""
        for name in self.sessions.pop(session, ()):
            box = self.boxes[name]
            box.sessions.discard(session)
            if not clean:
                self._break(box, None, "unclean_session")
