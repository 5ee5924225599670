"""What a prefix says, as values that are kept: with lines that wait, and of each stream its last one."""

from __future__ import annotations

import msgspec


class PrefixFacts(msgspec.Struct, array_like=True, gc=False):
    """The value of a prefix; kept with lines that wait.

    `time_source`: `line`, `sender` or `received`. `reorder_s`: how long lines wait so that they can be put in order (0: not at all).
    `length`: where the body starts in the decoded text (0: no body to be parsed), `body_at` in the raw bytes.
    `id_mask`: what makes a body's digest the id of a line with this prefix.
    """

    appliance: str
    stamp_s: int
    level: str | None = None
    log_name: str | None = None
    log_number: int = 0
    priority: int | None = None
    appname: str | None = None
    file_path: str | None = None
    time_source: str = "line"
    flags: tuple[str, ...] = ()
    lossy: bool = False
    reorder_s: int = 0
    id_mask: bytes = b""
    length: int = 0
    body_at: int = 0


class Tail(msgspec.Struct, array_like=True):
    """What is kept of a stream for the lines that follow: the last prefix, and whether its lines carry times."""

    facts: PrefixFacts | None = None
    timed: bool = False
