"""What belongs to one story: the lines and records of a message or connection and of everything it is connected with.

`Search` sits where the encoder is and looks at every line and record of a pass. What belongs to the story is found out on the way (the
`Start MID` line names the reception, `Delivery start` the delivery connection, `rewritten to` the child), so the last `WINDOW_LINES` lines
and `WINDOW_RECORDS` records are kept to look back. When something that far back may have been missed, `incomplete` says so: files are then
read once more with what is known by now, until nothing new turns up; standard input cannot be.

Rules:

1. A message's story takes in its family (parents and children, both ways), its receptions and its delivery connections, not the other
   mail on those. A connection's story takes in the mail on it, not the families of that mail.
2. Every key is (appliance, epoch, kind, number), so equal numbers of two boxes or two lives of one box are stories of their own.
3. Memory is bounded: windows, and `MAX_LINES` kept lines, `MAX_MESSAGES` messages; `cut` says that there was more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from esa_tls.core.connections import Leg
from esa_tls.core.encode import JsonLines
from esa_tls.core.facts import Fact, Value
from esa_tls.core.line_record import Leaving, Line
from esa_tls.core.prefix import Prefix

WINDOW_LINES = 100_000
WINDOW_RECORDS = 20_000
WINDOW_EVENTS = 2_000
"""Lines of consolidated events, which come about when their record does."""

MAX_LINES = 20_000
MAX_MESSAGES = 1_000

TLS_ACTIONS = frozenset(
    {"tls-succeeded", "tls-data-read", "tls-failed", "tls-required-failed", "starttls-not-supported", "certificate-verified"}
)
"""Lines about the TLS of a connection; they count for every mail on it."""


class Key(NamedTuple):
    """A connection or message. `kind`: `I` (ICID), `D` (DCID), `M` (MID)."""

    appliance: str
    epoch: int
    kind: str
    number: int


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What a story is wanted of; exactly one of them. `message_id` with or without angle brackets."""

    mid: int | None = None
    icid: int | None = None
    dcid: int | None = None
    message_id: str | None = None

    @property
    def kind(self) -> str:
        """`I`, `D` or `M`."""
        return "I" if self.icid is not None else "D" if self.dcid is not None else "M"

    @property
    def number(self) -> int | None:
        """The id; None for a Message-ID."""
        return self.icid if self.icid is not None else self.dcid if self.dcid is not None else self.mid

    def words(self) -> str:
        """`MID 90`, `Message-ID <x@example.com>`."""
        if self.message_id is not None:
            return f"Message-ID <{bare(self.message_id)}>"
        return f"{ {'I': 'ICID', 'D': 'DCID', 'M': 'MID'}[self.kind] } {self.number}"


def bare(message_id: str) -> str:
    """A Message-ID without blanks and angle brackets around it."""
    return message_id.strip().removeprefix("<").removesuffix(">")


class Kept(NamedTuple):
    """A line of the story. `sequence` orders the lines of an appliance as they came."""

    appliance: str
    epoch: int
    sequence: int
    stamp_s: int
    fact: Fact
    text: str
    leg: Leg | None

    @property
    def action(self) -> str:
        """What it says."""
        return self.fact.action

    def value(self, name: str) -> Value | None:
        """One of the fact's values."""
        return None if self.fact.values is None else self.fact.values.get(name)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_Item = tuple[str, int, int, Line, Leg | None]


class Search(JsonLines):
    """See the module. `main`: what the story is told of, `context`: what is only mentioned in it; both in the order of discovery."""

    interleaved = True

    def __init__(self, asked: Asked, *, window_lines: int = WINDOW_LINES, window_records: int = WINDOW_RECORDS) -> None:
        super().__init__()
        self.asked = asked
        self.message_id = None if asked.message_id is None else bare(asked.message_id)
        self.main: dict[Key, None] = {}
        self.context: dict[Key, None] = {}
        self.asked_keys: dict[Key, None] = {}
        self.cut = False
        self._mids: set[int] = set()
        self._icids: set[int] = set()
        self._dcids: set[int] = set()
        if asked.number is not None:
            self._numbers(asked.kind).add(asked.number)
        self._window_lines = window_lines
        self._window_records = window_records
        self.restart()

    def restart(self) -> None:
        """Another pass begins: what belongs to the story stays known, lines and records are taken anew."""
        self.found: dict[tuple[str, int], Kept] = {}
        self.records: dict[str, dict[str, Any]] = {}
        self._window: deque[_Item] = deque(maxlen=self._window_lines)
        self._record_window: deque[tuple[Key, Key | None, bytes]] = deque(maxlen=self._window_records)
        self._events: deque[tuple[str, int, str]] = deque(maxlen=WINDOW_EVENTS)
        self.event_lines: dict[str, str] = {}
        """Lines of consolidated events by the id of their record."""
        self._passed = 0
        self._records_passed = 0
        self._fresh: list[Key] = []
        self._late: dict[Key, None] = {}

    # -- the encoder's side ------------------------------------------------------------------------------------------------------

    def lines(self, leaving: Sequence[Leaving]) -> None:
        """Look at lines."""
        for prefix, line, leg in leaving:
            self._line(prefix, line, leg)

    def _line(self, prefix: Prefix, line: Line, leg: Leg | None) -> None:
        item = (prefix.appliance, prefix.epoch, prefix.stamp_s, line, leg)
        self._window.append(item)
        self._passed += 1
        if line.fact.action == "consolidated-event":
            self._events.append((prefix.appliance, line.sequence, line.text))
        elif self._concerns(line.fact):
            self._take(item)

    def summary(self, kind: str, record: dict[str, Any], time_s: int) -> None:
        """Look at a record."""
        del time_s
        own = record["cisco_esa"]
        appliance, epoch = own["appliance"], own["epoch"]
        other: Key | None = None
        if kind == "connection":
            key = Key(appliance, epoch, "I", own["icid"]) if "icid" in own else Key(appliance, epoch, "D", own["dcid"])
        elif "mid" in own:
            key = Key(appliance, epoch, "M", own["mid"])
            if "dcid" in own:
                other = Key(appliance, epoch, "D", own["dcid"])
        else:
            return
        if kind == "consolidated":
            self._consolidated(key, own, record)
        self._records_passed += 1
        if self._known(key) or other in self.asked_keys:
            self.records[record["event"]["id"]] = record
        else:
            self._record_window.append((key, other, _encode(record)))

    def _consolidated(self, key: Key, own: dict[str, Any], record: dict[str, Any]) -> None:
        """A consolidated event names a message by itself: it may be all there is of it."""
        asked = self.asked
        same_id = self.message_id is not None and record.get("email", {}).get("message_id") == self.message_id
        if same_id or (asked.mid is not None and key.number == asked.mid):
            self._discover(key, main=True, asked=True)
        elif (asked.icid is not None and own.get("icid") == asked.icid) or (asked.dcid is not None and own.get("dcid") == asked.dcid):
            self._discover(key, main=False)

    # -- what belongs to it --------------------------------------------------------------------------------------------------------

    def _numbers(self, kind: str) -> set[int]:
        return self._icids if kind == "I" else self._dcids if kind == "D" else self._mids

    def _known(self, key: Key) -> bool:
        return key in self.main or key in self.context

    def _concerns(self, fact: Fact) -> bool:
        """A quick look at the numbers alone."""
        if fact.mid in self._mids or fact.icid in self._icids or fact.dcid in self._dcids:
            return True
        if fact.values is None:
            return False
        if self.message_id is not None and fact.action == "message-id":
            return fact.values.get("message_id") == self.message_id
        return fact.values.get("parent") in self._mids

    def _take(self, item: _Item) -> None:
        """Keep the line if it belongs to the story, and see what it connects."""
        appliance, epoch, stamp_s, line, leg = item
        place = (appliance, line.sequence)
        if "duplicate" in line.flags or place in self.found:
            return
        fact = line.fact
        message = Key(appliance, epoch, "M", fact.mid) if fact.mid is not None else None
        parent_mid = None if fact.values is None else fact.values.get("parent")
        parent = Key(appliance, epoch, "M", parent_mid) if isinstance(parent_mid, int) else None
        connections = [Key(appliance, epoch, kind, number) for kind, number in (("I", fact.icid), ("D", fact.dcid)) if number]
        self._look_for_asked(fact, message, connections)
        if parent is not None and message is not None:
            if parent in self.main:
                self._discover(message, main=True)
            if message in self.main:
                self._discover(parent, main=True)
        if message is not None and message in self.main:
            if leg is not None:
                self._discover(Key(appliance, leg.epoch, leg.kind, leg.number), main=False)
            for connection in connections:
                self._discover(connection, main=False)
        elif message is not None and any(connection in self.asked_keys for connection in connections):
            self._discover(message, main=False)
        own_mail = message is None or self._known(message) or fact.action in TLS_ACTIONS
        if (message is not None and self._known(message)) or (own_mail and any(self._known(connection) for connection in connections)):
            if len(self.found) < MAX_LINES:
                self.found[place] = Kept(appliance, epoch, line.sequence, stamp_s, fact, line.text, leg)
            else:
                self.cut = True

    def _look_for_asked(self, fact: Fact, message: Key | None, connections: list[Key]) -> None:
        asked = self.asked
        if message is not None and fact.mid == asked.mid:
            self._discover(message, main=True, asked=True)
        said_id = fact.values.get("message_id") if fact.action == "message-id" and fact.values is not None else None
        if message is not None and said_id is not None and said_id == self.message_id:
            self._discover(message, main=True, asked=True)
        for connection in connections:
            if connection.kind == asked.kind and connection.number == asked.number:
                self._discover(connection, main=True, asked=True)

    def _discover(self, key: Key, *, main: bool, asked: bool = False) -> None:
        if asked:
            self.asked_keys[key] = None
        known = self.main if main else self.context
        if key in self.main or key in known:
            return
        if key.kind == "M" and len(self.main) + len(self.context) >= MAX_MESSAGES:
            self.cut = True
            return
        self.context.pop(key, None)
        known[key] = None
        self._numbers(key.kind).add(key.number)
        self._fresh.append(key)
        if self._passed > self._window_lines or self._records_passed > self._window_records:
            self._late[key] = None

    def settle(self) -> None:
        """Look back for what was found out to belong to the story; after each batch."""
        if self._events:
            texts = {(appliance, sequence): text for appliance, sequence, text in self._events}
            for name, record in self.records.items():
                text = texts.get((record["cisco_esa"]["appliance"], record["event"]["sequence"]))
                if record["cisco_esa"]["record"] == "consolidated" and text is not None:
                    self.event_lines[name] = text
        while self._fresh:
            self._fresh = []
            for item in self._window:
                if self._concerns(item[3].fact):
                    self._take(item)
            for key, other, data in self._record_window:
                if self._known(key) or other in self.asked_keys:
                    record = _decode(data)
                    self.records[record["event"]["id"]] = record

    def incomplete(self) -> list[Key]:
        """What may have lines or records further back than the windows reach; at the end of a pass."""
        begun = {
            Key(kept.appliance, kept.epoch, kind, number)
            for kept in self.found.values()
            for action, kind, number in (
                ("connection-opened", "I", kept.fact.icid),
                ("connection-opened", "D", kept.fact.dcid),
                ("message-started", "M", kept.fact.mid),
            )
            if kept.fact.action == action and number is not None
        }
        return [key for key in self._late if key not in begun]

    # -- what was found ------------------------------------------------------------------------------------------------------------

    def lines_of(self, key: Key) -> list[Kept]:
        """The lines that name a message or connection, in order; of a child line, both messages."""
        name = "mid" if key.kind == "M" else "icid" if key.kind == "I" else "dcid"
        found = [
            kept
            for kept in self.found.values()
            if kept.appliance == key.appliance
            and kept.epoch == key.epoch
            and (getattr(kept.fact, name) == key.number or (key.kind == "M" and kept.value("parent") == key.number))
        ]
        return sorted(found, key=lambda kept: kept.sequence)

    def records_of(self, key: Key, kind: str) -> list[dict[str, Any]]:
        """The records of one kind about a message or connection, in the order in which they came."""
        name = "mid" if key.kind == "M" else "icid" if key.kind == "I" else "dcid"
        return [
            record
            for record in self.records.values()
            if (own := record["cisco_esa"])["record"] == kind
            and own["appliance"] == key.appliance
            and own["epoch"] == key.epoch
            and own.get(name) == key.number
        ]
