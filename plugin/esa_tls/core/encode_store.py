"""The encoding `store`, for the embedded store alone: summaries as JSON lines, lines as little as their story needs.

A `line` record as JSON is some six times its line, and the store would take it apart again to keep the line and where it belongs. So a line
here is an array of `LineRow`'s fields, all lines of a batch one msgpack array. Lines that are about no connection and no message are left
out: no story shows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from esa_tls.core.line_record import Leaving

_json: Final = msgspec.json.Encoder().encode
_pack: Final = msgspec.msgpack.Encoder().encode


class StoreRows:
    """Records for the embedded store."""

    name = "store"
    interleaved = False
    wants_lines = True

    def __init__(self) -> None:
        self.rows: list[tuple[str, int, int, int, str, str, int, int | None, tuple[str, ...], str]] = []
        self.summaries: dict[str, list[bytes]] = {}

    def lines(self, leaving: Sequence[Leaving]) -> None:
        """Add `line` records."""
        add = self.rows.append
        for prefix, line, leg in leaving:
            fact, facts = line.fact, prefix.facts
            flags = facts.flags + line.flags if line.flags else facts.flags
            if leg is not None:
                epoch, sort, number = leg.epoch, leg.kind, leg.number
            elif fact.mid is not None:
                epoch, sort, number = prefix.epoch, "", 0
            else:
                continue
            add((facts.appliance, epoch, prefix.stamp_s, line.sequence, fact.action, sort, number, fact.mid, flags, line.text))

    def summary(self, kind: str, record: dict[str, Any], time_s: int) -> None:
        """Add a summary record."""
        del time_s
        self.summaries.setdefault(kind, []).append(_json(record))

    def take(self) -> list[tuple[str, list[tuple[str, int, bytes]]]]:
        """(class, segments) of what was added since the last call."""
        taken = []
        if self.rows:
            taken.append(("line", [("line", len(self.rows), _pack(self.rows))]))
            self.rows = []
        if self.summaries:
            taken.append(("summary", [(kind, len(found), b"\n".join(found) + b"\n") for kind, found in self.summaries.items()]))
            self.summaries = {}
        return taken
