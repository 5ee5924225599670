"""Syslog: where a message ends, and which of its bytes are the line (docs/wires.md 6). Pure: no I/O, no clock.

What stands in a message (priority, stamp, host, tag, structured data, BOM) is read by `core.line`, the same way for every source.
The core gets a message byte for byte, PRI and BOM included, but without its line end; only the text that it parses is without BOM.

Rules of this file:

1. On a stream the framing is found out for each frame (docs/wires.md 6.2): `MSG-LEN SP` is octet counting, everything else is text up to
   its end. A count has one to seven digits and no leading zero, and is no year: `2019 Sep 28 16:13:51 ...`, a known form of the log, is
   text.
2. Text ends at LF. At NUL it ends only as long as the session has shown no LF: afterwards a NUL is part of a line, or a NUL in a
   subject would make a line out of what follows it. Settings can fix the framing altogether.
3. Octet counting is believed: a LF inside such a message, as in a datagram, is part of its line. What follows a counted message must
   begin like a message; if not, the count was wrong, and no boundary can be found any more (`error`).
4. A message over the limit is cut there and marked; the rest up to its end is thrown away as it comes. Nothing is buffered because a
   count says so, and never more than the limit.
5. `StreamReader` never raises. Any division of the same bytes gives the same messages.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from esa_tls.core.batch import Origin, Run
from esa_tls.errors import WireError

__all__ = ["BadFrame", "Framing", "Limits", "Messages", "StreamReader", "message_of", "runs_of"]

Framing = Literal["auto", "octet_counting", "lf", "nul"]
"""`auto`: as rule 1 and 2 say. The others: only this one."""

LINE_ENDS = b"\r\n\0"
"""Stripped from the end of a message: LF, CRLF and NUL occur in all transports, and syslog-ng counts its LF in."""

_COUNT = re.compile(rb"([1-9][0-9]{0,6}) ")
_COUNT_BEGUN = re.compile(rb"[1-9][0-9]{0,6} ?|(?:19|20)[0-9]{2} [A-Z][a-z]{0,2}")
"""What a frame may be so far when its next octets have to tell whether it has a count."""
_DECIDED_BYTES = 9
_YEAR = re.compile(rb"(?:19|20)[0-9]{2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) ")
_NUL, _LF, _ZERO, _ONE, _NINE, _PRIORITY = b"\x00\n019<"
_MAY_FOLLOW = b"<\xef\r\0"
"""First octets of what may stand behind a counted message, beside a further count: text, or what is left of a line end."""

_TRUNCATED = ("truncated",)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one message may cost. Sizes in bytes."""

    max_message_bytes: int = 64 << 10
    """Longer ones are cut. RFC 5425 wants 8,192 taken; a datagram has at most 65,507."""


class BadFrame(WireError):
    """No boundary can be found any more: the session has to end. `reason` is one of a closed set of words."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class Messages(msgspec.Struct):
    """Messages in their order, without line ends. `truncated`: positions in `lines` of those that are not whole, ascending."""

    lines: list[bytes]
    truncated: list[int]

    def add(self, line: bytes, *, truncated: bool) -> bool:
        """Append one message without its line end; False if nothing is in it."""
        line = line.rstrip(LINE_ENDS)
        if not line:
            return False
        if truncated:
            self.truncated.append(len(self.lines))
        self.lines.append(line)
        return True

    def extend(self, more: Messages) -> None:
        """Append all of `more`."""
        if more.truncated:
            before = len(self.lines)
            self.truncated += [before + position for position in more.truncated]
        self.lines += more.lines


class StreamReader:
    """Cuts the bytes of one session into messages.

    `error`: set once the session has to end; what came before it has been returned, what follows is thrown away.
    `odd`: frames taken as text that may have been meant otherwise, by reason, counted since the caller last emptied it: `no_count`
    (begins with a digit and is no octet count), `no_priority` (begins with anything else that is no priority).
    """

    def __init__(self, limits: Limits | None = None, *, framing: Framing = "auto") -> None:
        self.error: BadFrame | None = None
        self.odd: dict[str, int] = {}
        self._max_bytes = (limits or Limits()).max_message_bytes
        self._counts = framing in ("auto", "octet_counting")
        self._texts = framing != "octet_counting"
        self._lf_ends = framing != "nul"
        self._nul_ends = framing in ("auto", "nul")
        self._buffer = bytearray()  # the frame begun, from its first octet on
        self._begun: Literal["undecided", "counted", "text"] = "undecided"  # what it is
        self._wanted = 0  # octets of it, when counted, until it is complete or can be cut
        self._skip_octets = 0  # of a counted message over the limit
        self._skip_text = False  # up to the end of a text over the limit
        self._after_counted = False

    @property
    def buffered_bytes(self) -> int:
        """Bytes kept of a frame that is not complete: at most the limit and the digits of a count."""
        return len(self._buffer)

    @property
    def inside(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._buffer) or self._skip_octets > 0 or self._skip_text

    def feed(self, data: bytes) -> Messages:
        """Take the next bytes of the stream; returns the messages that end in them."""
        found = Messages([], [])
        if self.error is not None:
            return found
        if self._buffer:
            self._buffer += data
            if self._is_open(data):
                return found
            data = bytes(self._buffer)
            self._buffer.clear()
        self._read(data, found)
        return found

    def end(self) -> Messages:
        """The stream has ended: what was begun comes out as a message that is not whole (docs/wires.md 6.2)."""
        found = Messages([], [])
        rest = bytes(self._buffer)
        self._buffer.clear()
        if self._begun == "counted" and (match := _COUNT.match(rest)):
            rest = rest[match.end() :]
        found.add(rest, truncated=True)
        return found

    def _is_open(self, data: bytes) -> bool:
        """Whether the frame begun goes on behind `data`, so that none of its bytes need to be looked at again."""
        if self._begun == "counted":
            return len(self._buffer) < self._wanted
        return self._begun == "text" and len(self._buffer) <= self._max_bytes and self._text_end(data, 0) < 0

    def _text_end(self, data: bytes, at: int) -> int:
        """Where the text at `at` ends, -1 if not in `data`."""
        # NUL first: in a session that ends with NUL, looking for a LF each time would go through all the rest each time.
        nul = data.find(b"\0", at) if self._nul_ends else -1
        end = data.find(b"\n", at, nul if nul >= 0 else len(data)) if self._lf_ends else -1
        return end if end >= 0 else nul

    def _keep(self, rest: bytes, kind: Literal["undecided", "counted", "text"], wanted: int = 0) -> None:
        self._buffer += rest
        self._begun = kind
        self._wanted = wanted

    def _read(self, data: bytes, found: Messages) -> None:
        """Take frames from the beginning of `data`, which is also that of a frame unless one is being skipped."""
        at, size, max_bytes = 0, len(data), self._max_bytes
        if self._skip_octets:
            at = min(self._skip_octets, size)
            self._skip_octets -= at
        while at < size:
            if self._skip_text:
                end = self._text_end(data, at)
                if end < 0:
                    return None
                self._ended_by(data[end])
                self._skip_text = False
                at = end + 1
                continue
            first = data[at]
            if (first == _LF and self._lf_ends) or (first == _NUL and self._nul_ends):
                self._ended_by(first)  # an empty frame, or the LF that some put behind a counted one
                at += 1
                continue
            if self._counts and _ONE <= first <= _NINE:
                match = _COUNT.match(data, at)
                if size - at < _DECIDED_BYTES and _COUNT_BEGUN.fullmatch(data, at):
                    return self._keep(data[at:], "undecided")
                if match is not None and not (self._texts and match.end() - at == 5 and _YEAR.match(data, at)):
                    count = int(match[1])
                    start, stop = match.end(), match.end() + min(count, max_bytes)
                    if stop > size:
                        return self._keep(data[at:], "counted", stop - at)
                    found.add(data[start:stop], truncated=count > max_bytes)
                    self._after_counted = True
                    left = count - (stop - start)
                    at = min(stop + left, size)
                    self._skip_octets = left - (at - stop)
                    continue
            if not self._texts or (self._after_counted and first not in _MAY_FOLLOW):
                self.error = BadFrame("no_count", f"a counted message was expected, got {bytes(data[at : at + 16])!r}")
                return None
            end = self._text_end(data, at)
            if end < 0 and size - at <= max_bytes:
                return self._keep(data[at:], "text")
            stop = min(end if end >= 0 else size, at + max_bytes)
            cut = end < 0 or end > stop
            if found.add(data[at:stop], truncated=cut) and first != _PRIORITY:
                reason = "no_count" if self._counts and _ZERO <= first <= _NINE else "no_priority"
                self.odd[reason] = self.odd.get(reason, 0) + 1
            self._after_counted = False
            if end < 0:
                self._skip_text = True
                at = stop
            else:
                self._ended_by(data[end])
                at = end + 1
        return None

    def _ended_by(self, octet: int) -> None:
        """A frame was ended by this octet: a LF shows that NUL is no end in this session (unless the settings say so)."""
        if octet == _LF and self._lf_ends:
            self._nul_ends = False


def message_of(datagram: bytes, limits: Limits) -> tuple[bytes, bool]:
    """The line of one datagram, b"" if there is nothing in it, and whether it was cut (RFC 5426: one message in each)."""
    line = datagram.rstrip(LINE_ENDS)
    if len(line) <= limits.max_message_bytes:
        return line, False
    return line[: limits.max_message_bytes].rstrip(LINE_ENDS), True


def runs_of(origin: Origin, messages: Messages) -> list[Run]:
    """Messages as runs for the core, in their order: flags belong to runs, so a message that is not whole gets one of its own."""
    if not messages.truncated:
        return [Run(origin, messages.lines)] if messages.lines else []
    runs: list[Run] = []
    at = 0
    for position in messages.truncated:
        if position > at:
            runs.append(Run(origin, messages.lines[at:position]))
        runs.append(Run(origin, messages.lines[position : position + 1], None, _TRUNCATED))
        at = position + 1
    if at < len(messages.lines):
        runs.append(Run(origin, messages.lines[at:]))
    return runs
