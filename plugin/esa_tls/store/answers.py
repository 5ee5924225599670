"""What the store is asked and what it answers: plain values. `query.py` has the calls.

Times are whole seconds since 1970, UTC. A period is `since_s` <= time < `until_s`; None leaves that end open. Words are those of the
records (docs/records.md): kinds, directions, flows, outcomes, postures, results, classes. `record` is always the nested record as it left
the core. Nothing here is escaped: every text may have been written by a stranger.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = [
    "ApplianceSeen",
    "ConnectionStory",
    "Count",
    "Filter",
    "Found",
    "Gap",
    "Hit",
    "LinesKept",
    "MessageStory",
    "Overview",
    "Page",
    "Ranked",
    "StoreStatus",
    "StoryLine",
    "Tally",
    "Top",
]

LinesKept = Literal["kept", "some", "removed", "off"]
"""Whether the lines of a story are there: all of them, some, none any more (removed for their age or room), or never kept (configured)."""

Top = Literal["clear_in_domains", "clear_in_peers", "clear_out_domains", "clear_out_peers", "failing_peers"]
"""Rankings: mail received in clear by sender's domain or client (messages), delivered in clear by recipient's domain or server
(recipients), and servers or clients by connections whose TLS failed."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What to search for. Everything given must hold; an empty set or None asks for nothing.

    `text`: one word: a MID, ICID, DCID (a bare number fits any of them; `MID 7`, `ICID 7`, `DCID 7` one), a connection id
    (`esa1/0/ICID/7`), a Message-ID (with or without <>), a mail address (sender or recipient), a domain (of an address, or the host name
    of a peer), an IP address (of a peer), or the id of a record. Case does not matter, except in Message-IDs.
    `outcomes`: TLS outcome of a connection or delivery, of a message's reception. `postures`: of messages. `directions`: of connections
    and deliveries (and `inbound` of messages that were received). `in_clear`: mail really went in clear (on this leg; of messages: in
    `posture_in` or out). `failures`: classes of TLS failures. `results`: of deliveries. `expected`: only where `require_tls` expects TLS;
    `partners`: names of its partners.
    """

    text: str = ""
    kinds: frozenset[str] = frozenset()
    outcomes: frozenset[str] = frozenset()
    postures: frozenset[str] = frozenset()
    directions: frozenset[str] = frozenset()
    flows: frozenset[str] = frozenset()
    failures: frozenset[str] = frozenset()
    results: frozenset[str] = frozenset()
    appliances: frozenset[str] = frozenset()
    partners: frozenset[str] = frozenset()
    in_clear: bool | None = None
    expected: bool = False
    since_s: int | None = None
    until_s: int | None = None


class Hit(msgspec.Struct, frozen=True):
    """One record found. `id`: its `event.id`."""

    id: str
    kind: str
    time_s: int
    record: dict[str, Any]


class Page(msgspec.Struct, frozen=True):
    """Hits, the latest first. `next`: give it as `after` for the following page, None if there is none; it stays good while records come.

    `incomplete`: the time for one question was used up before the page was full; `next` goes on from there.
    `understood`: as what the text was taken, for the page to say so: of `record`, `mid`, `icid`, `dcid`,
    `sender`, `recipient`, `domain`, `ip`, `message_id`.
    """

    hits: list[Hit] = []
    next: str | None = None
    incomplete: bool = False
    understood: tuple[str, ...] = ()


class StoryLine(msgspec.Struct, frozen=True):
    """One log line. `sequence` orders the lines of an appliance. `connection`: `ICID/7` or `DCID/7`; `action`: its `event.action`.

    `text` is the line byte for byte, with replacement characters where it was not UTF-8.
    """

    sequence: int
    time_s: int
    text: str
    action: str
    connection: str | None = None
    mid: int | None = None
    flags: tuple[str, ...] = ()


class MessageStory(msgspec.Struct, frozen=True):
    """One message, hop by hop. What is not kept any more, or has not ended yet, is None or missing.

    `reception`: the record of its reception connection. `deliveries`: its delivery records, in order. `connections`: records of the
    delivery connections by `cisco_esa.connection.id`. `parents`: message records, the nearest first. `children`: message records.
    `consolidated`: records of the consolidated log that name it. `lines`: those of the message and of its connections, in order; lines of
    its connections that are about other messages are left out. `more_lines`: there were more than asked for.
    """

    appliance: str
    epoch: int
    mid: int
    message: dict[str, Any] | None = None
    reception: dict[str, Any] | None = None
    deliveries: list[dict[str, Any]] = []
    connections: dict[str, dict[str, Any]] = {}
    parents: list[dict[str, Any]] = []
    children: list[dict[str, Any]] = []
    consolidated: list[dict[str, Any]] = []
    lines: list[StoryLine] = []
    lines_kept: LinesKept = "kept"
    more_lines: bool = False


class ConnectionStory(msgspec.Struct, frozen=True):
    """One connection. `id`: `esa1/0/ICID/7`. `messages`: records of the messages on it; `deliveries`: of a DCID, its delivery records.

    `more`: there are more messages or deliveries than asked for. `lines`: as in `MessageStory`, with those of its messages that name it.
    """

    id: str
    connection: dict[str, Any] | None = None
    messages: list[dict[str, Any]] = []
    deliveries: list[dict[str, Any]] = []
    more: bool = False
    lines: list[StoryLine] = []
    lines_kept: LinesKept = "kept"
    more_lines: bool = False


class Count(msgspec.Struct, frozen=True):
    """One number of a series. `start_s`: beginning of its step. Which of the words are there depends on the series; "" = does not apply."""

    start_s: int
    number: int
    direction: str = ""
    flow: str = ""
    name: str = ""
    clear: str = ""


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """Aggregates of a period, from the roll-ups: they cover what was recorded, also where the records were removed for their size.

    `since_s`, `until_s`: the period answered, widened to whole steps. `step_s`: 3,600 or 86,400 (or a multiple), as asked for or as fits.
    Every list holds one `Count` per step and combination that occurred; sum over `start_s` for totals.

    - `records`: name = kind.
    - `mail`: mail by direction and flow: `inbound` = messages received, `outbound` = deliveries that carried mail; name = TLS outcome,
      clear = `clear` / `tls` / `unknown`.
    - `connections`: direction, name = TLS outcome.
    - `evidence`: direction, name = outcome, clear = evidence (`line`, `absence`, `absence_lossy`, `gap`).
    - `postures`: messages; flow, name = posture. `postures_in`, `postures_out` likewise.
    - `recipients`: flow, name = posture of the recipient.
    - `results`: recipients of deliveries; flow, name = result.
    - `failures`: connections whose TLS failed; direction, name = class.
    - `protocols`, `ciphers`: connections under TLS; direction, name as logged, `(not told)` if the line named none.
    """

    since_s: int
    until_s: int
    step_s: int
    records: list[Count] = []
    mail: list[Count] = []
    connections: list[Count] = []
    evidence: list[Count] = []
    postures: list[Count] = []
    postures_in: list[Count] = []
    postures_out: list[Count] = []
    recipients: list[Count] = []
    results: list[Count] = []
    failures: list[Count] = []
    protocols: list[Count] = []
    ciphers: list[Count] = []


class Ranked(msgspec.Struct, frozen=True):
    """One name of a ranking.

    `(not told)`, `(no sender)` where there is none; None for what was counted without its name, as its day had too many different ones.
    """

    name: str | None
    number: int


class Tally(msgspec.Struct, frozen=True):
    """How many records there are of one combination; absent words are "" ."""

    kind: str
    number: int
    direction: str = ""
    flow: str = ""
    outcome: str = ""
    clear: str = ""
    posture: str = ""
    result: str = ""
    failure: str = ""
    protocol: str = ""
    cipher: str = ""


class Found(msgspec.Struct, frozen=True):
    """What `lookup` found: records of ended connections and messages, the newest first. `incomplete`: there may be more."""

    records: list[dict[str, Any]] = []
    incomplete: bool = False


class ApplianceSeen(msgspec.Struct, frozen=True):
    """One appliance that has records. Times of its first and last record kept."""

    name: str
    first_s: int | None = None
    last_s: int | None = None


class Gap(msgspec.Struct, frozen=True):
    """Records that the store was not given (`behind`: it was too slow; `damaged`: its file was set aside), and when that was."""

    reason: str
    since_s: int
    until_s: int
    records: int


class StoreStatus(msgspec.Struct, frozen=True):
    """What the store holds. `bytes`: of the file, in use; `line_bytes`: of them, log lines. Times of the oldest and newest record."""

    records: dict[str, int] = {}
    bytes: int = 0
    line_bytes: int = 0
    lines: int = 0
    oldest_s: int | None = None
    newest_s: int | None = None
    gaps: list[Gap] = []
