"""Which bodies an appliance wrote lately: for ids of identical lines, and for lines that came before.

Two questions about a line whose (stamp, body) was seen before: is it the k-th identical line of its stamp (real lines do repeat
inside a second), and did it come under another log name (a second subscription of the same log)? Either way it changes no state.

Bodies are remembered as 72-bit digests in two generations. A generation ends at the first change of stamp after `WINDOW` lines,
so the last `WINDOW` lines and all lines of the two newest stamps are always there; `MAX_GENERATION` bounds a box that never
changes its stamp. Changed state is one small value per group: the digests of its lines, not the whole window.
"""

from __future__ import annotations

from typing import Final

import msgspec

from esa_tls.core.ids import DIGEST_BYTES, mask
from esa_tls.core.state import State, seen_key, seen_prefix

WINDOW: Final = 4096
MAX_GENERATION: Final = 262_144

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(tuple[list[tuple[int, int, int]], bytes]).decode


class LogMarks:
    """The stamps of one log name: the two newest, and the older one that is being sent again (`run` counts such stretches)."""

    def __init__(self) -> None:
        self.newest_s = self.second_s = self.old_s = -1
        self.run = 0

    def mark(self, stamp_s: int) -> int:
        """0 for one of the two newest stamps, else the number of the stretch: identical lines are counted per mark."""
        if stamp_s > self.newest_s:
            self.second_s, self.newest_s = self.newest_s, stamp_s
            return 0
        if stamp_s in (self.newest_s, self.second_s):
            return 0
        if stamp_s > self.second_s:
            self.second_s = stamp_s
            return 0
        if stamp_s != self.old_s:
            self.old_s = stamp_s
            self.run += 1
        return self.run


def stamp_mask(stamp_s: int) -> int:
    """What makes a body's digest a digest of (stamp, body)."""
    return mask("stamp", stamp_s)


class Seen:
    """The window of one appliance.

    The hot path is inlined by the pipeline: `key in current or key in former` -> `repeat()`, else `current[key] = mark`; and
    `digests.append(digest)` for every line.
    """

    __slots__ = ("counts", "current", "digests", "former", "generation", "group", "groups", "logs", "name", "runs", "sealed")

    def __init__(self, name: str) -> None:
        self.name = name
        self.current: dict[int, int] = {}
        self.former: dict[int, int] = {}
        self.counts: dict[tuple[int, int], tuple[int, int]] = {}
        self.logs: list[LogMarks] = []
        self.generation = 0
        self.group = 0
        self.groups: dict[int, list[int]] = {}
        self.runs: list[tuple[int, int, int]] = []
        self.digests: list[bytes] = []
        self.sealed: list[tuple[bytes, bytes]] = []

    def enter(self, stamp_s: int, log_number: int) -> tuple[int, list[bytes]]:
        """Lines of another prefix follow. Returns (mark for `current`, state keys that are no longer needed)."""
        dropped = self._turn() if len(self.current) >= WINDOW else []
        self.runs.append((stamp_s, log_number, len(self.digests)))
        while len(self.logs) <= log_number:
            self.logs.append(LogMarks())
        return log_number | self.logs[log_number].mark(stamp_s) << 16, dropped

    def _turn(self) -> list[bytes]:
        """Begin a generation; the one before the former is forgotten. A group never spans two: sealing anywhere gives the same window."""
        self._close_group()
        self.former, self.current = self.current, {}
        self.counts = {pair: count for pair, count in self.counts.items() if pair[0] in self.former}
        self.generation += 1
        gone = self.groups.pop(self.generation - 2, [])
        return [seen_key(self.name, self.generation - 2, group) for group in gone]

    def repeat(self, key: int, mark: int) -> tuple[int, bool]:
        """A (stamp, body) that was seen before: (k, came under another log name before)."""
        first = self.current.get(key)
        if first is None:
            first = self.former[key]
            self.current[key] = first
        log_number = mark & 0xFFFF
        own = (first & 0xFFFF) == log_number
        stored = self.counts.get((key, log_number))
        if stored is None and own:
            stored = (first, 0)
        k = stored[1] + 1 if stored is not None and stored[0] == mark else 0
        self.counts[key, log_number] = (mark, k)
        return k, not own

    def bound(self) -> list[bytes]:
        """Keep a box that never changes its stamp from growing for ever. Returns state keys that are no longer needed."""
        return self._turn() if len(self.current) >= MAX_GENERATION else []

    def seal(self) -> list[tuple[bytes, bytes]]:
        """The digests of the lines since the last seal as state pairs."""
        self._close_group()
        sealed, self.sealed = self.sealed, []
        return sealed

    def _close_group(self) -> None:
        if self.digests:
            self.groups.setdefault(self.generation, []).append(self.group)
            self.sealed.append((seen_key(self.name, self.generation, self.group), _encode((self.runs, b"".join(self.digests)))))
            self.group += 1
            self.digests.clear()
        if self.runs:
            last = self.runs[-1]
            self.runs = [(last[0], last[1], 0)]

    @classmethod
    def load(cls, name: str, state: State) -> Seen:
        """What was remembered, from the groups' digests in order. Sealing at any place gives the same window."""
        seen = cls(name)
        prefix = seen_prefix(name)
        first = True
        for key, value in state.items(prefix):
            generation = int.from_bytes(key[len(prefix) : len(prefix) + 4], "big")
            group = int.from_bytes(key[len(prefix) + 4 :], "big")
            if first:
                seen.generation, first = generation, False
            while seen.generation < generation:
                seen._turn()
            seen.groups.setdefault(generation, []).append(group)
            seen.group = group + 1
            seen._replay(*_decode(value))
        return seen

    def _replay(self, runs: list[tuple[int, int, int]], digests: bytes) -> None:
        borders = [*(start for _, _, start in runs[1:]), len(digests) // DIGEST_BYTES]
        for (stamp_s, log_number, start), end in zip(runs, borders, strict=True):
            while len(self.logs) <= log_number:
                self.logs.append(LogMarks())
            mark = log_number | self.logs[log_number].mark(stamp_s) << 16
            stamp = stamp_mask(stamp_s)
            for at in range(start, end):
                key = int.from_bytes(digests[at * DIGEST_BYTES : (at + 1) * DIGEST_BYTES], "big") ^ stamp
                if key in self.current or key in self.former:
                    self.repeat(key, mark)
                else:
                    self.current[key] = mark
        last = runs[-1]
        self.runs = [(last[0], last[1], 0)]
