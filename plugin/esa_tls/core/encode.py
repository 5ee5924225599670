"""Encodings of records: JSON lines and Forward (msgpack) entries.

Summaries are dicts from `records.py`, encoded by msgspec. `line` records are by far the most, so their bytes are spliced from
pieces that are cached where they do not change: per prefix (time, appliance), per leg (the triple), per action. `line_dict` says
what a line record is; the splices make the same, several times faster, and a test compares them field by field.

An encoder collects what was made since the last `take`. Order inside a class is the order of the lines.
"""

from __future__ import annotations

from typing import Any

import msgspec

from esa_tls.core.connections import Leg
from esa_tls.core.encode_otlp import OtlpRecords
from esa_tls.core.line_record import NO_LINE, Line, action_key, line_dict, log_of, own_of
from esa_tls.core.prefix import Prefix
from esa_tls.core.records import ACTIONS, NO_FIELDS, facts_of, iso, triple

__all__ = ["Encoder", "ForwardEntries", "JsonLines", "Line", "created_text", "encoder", "event_time", "line_dict"]

_json = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode


def _action_piece_json(key: str) -> str:
    category, types = ACTIONS[key]
    action = "hat-decided" if key == "hat-denied" else key
    return f'","action":"{action}","category":["{category}"],"type":{_json(types).decode()},"sequence":'


_JSON_ACTIONS = {key: _action_piece_json(key) for key in ACTIONS}
_EMAIL_FACTS = frozenset({"sender-accepted", "recipient-accepted", "message-received", "subject", "message-id"})
"""Actions whose facts are written without a dict in between; there is one of each in every message."""


def _email_facts_json(action: str, values: dict[str, Any]) -> tuple[str, str]:
    """`records.facts_of` of `_EMAIL_FACTS` as JSON: (what goes under `cisco_esa`, beside it)."""
    if action in {"subject", "message-id"}:
        return "", f',"email":{_json(values).decode()}'
    size = f',"size_bytes":{values["size_bytes"]}' if "size_bytes" in values else ""
    address = values.get("address")
    if address is None:
        return size, ""
    end = "to" if action == "recipient-accepted" else "from"
    text = _json(address).decode()
    listed = f"[{text}]"
    return f'{size},"envelope":{{"{end}":{listed if end == "to" else text}}}', f',"email":{{"{end}":{{"address":{listed}}}}}'


_RIDS_JSON: dict[tuple[int, ...], str] = {(rid,): f',"rids":[{rid}]' for rid in range(64)}


class JsonLines:
    """Records as JSON objects, one a line."""

    name = "json"

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.summaries: dict[str, list[bytes]] = {}

    def line(self, prefix: Prefix, line: Line, leg: Leg | None, observer: dict[str, str]) -> None:
        """Add a `line` record."""
        pieces = prefix.json
        if pieces is None:
            pieces = prefix.json = self._prefix_pieces(prefix, observer)
        before_id, before_epoch, after, log, observed = pieces
        fact = line.fact
        if line.flags or line.raw_base64 is not None:
            before_epoch = (
                f'}},"host":{{"name":{_json(prefix.appliance).decode()}}},"cisco_esa":{_json(own_of(prefix, line))[:-1].decode()}'
            )
        key = fact.action
        if key == "hat-decided":
            key = action_key(fact)
        if leg is None:
            own = beside = ""
        else:
            fragment = leg.json
            if fragment is None:
                fragment = leg.__dict__["json"] = _leg_json(prefix.appliance, leg)
            own, beside = fragment
        mid = fact.mid
        mids = "" if mid is None else f',"mid":{mid}'
        if fact.rids:
            mids += _RIDS_JSON.get(fact.rids) or f',"rids":{_json(fact.rids[:100]).decode()}'
        values = fact.values
        if values and key not in NO_FIELDS:
            if key in _EMAIL_FACTS:
                facts_own_json, facts_beside_json = _email_facts_json(key, values)
                mids += facts_own_json
                observed += facts_beside_json
            elif (facts := facts_of(fact)) is not None:
                facts_own, facts_beside = facts
                if facts_own:
                    mids += "," + _json(facts_own)[1:-1].decode()
                if facts_beside:
                    if "observer" in facts_beside:
                        observed = f',"observer":{_json({**observer, **facts_beside.pop("observer")}).decode()}'
                    if facts_beside:
                        observed += "," + _json(facts_beside)[1:-1].decode()
        # Encoded one by one: one letter that is not ASCII would make a joined text wide, and its encoding slow.
        self.lines.append(
            (
                f'{before_id}{line.record_hash}{_JSON_ACTIONS[key]}{line.sequence},"created":"{line.created}","original":{_json(line.text).decode()}'
                f"{before_epoch}{own}{mids}{after}{beside}{log}{observed}}}\n"
            ).encode()
        )

    def _prefix_pieces(self, prefix: Prefix, observer: dict[str, str]) -> tuple[str, str, str, str, str]:
        own = _json(own_of(prefix, NO_LINE))[:-1].decode()
        log = log_of(prefix)
        return (
            f'{{"@timestamp":"{prefix.iso}","event":{{"id":"{prefix.time_id}',
            f'}},"host":{{"name":{_json(prefix.appliance).decode()}}},"cisco_esa":{own}',
            "}",
            f',"log":{_json(log).decode()}' if log else "",
            f',"observer":{_json(observer).decode()}' if observer else "",
        )

    def summary(self, kind: str, record: dict[str, Any], time_s: int) -> None:
        """Add a summary record."""
        del time_s
        self.summaries.setdefault(kind, []).append(_json(record))

    def take(self) -> list[tuple[str, list[tuple[str, int, bytes]]]]:
        """(class, segments) of what was added since the last call."""
        taken = []
        if self.lines:
            taken.append(("line", [("line", len(self.lines), b"".join(self.lines))]))
            self.lines = []
        if self.summaries:
            taken.append(("summary", [(kind, len(found), b"\n".join(found) + b"\n") for kind, found in self.summaries.items()]))
            self.summaries = {}
        return taken


def _leg_json(appliance: str, leg: Leg) -> tuple[str, str]:
    own, beside = triple(appliance, leg)
    return "," + _json(own)[1:-1].decode(), "," + _json(beside)[1:-1].decode()


# ---------------------------------------------------------------------------------------------------------------- msgpack

_MAP_HEADERS = [bytes([0x80 | n]) if n < 16 else b"\xde" + n.to_bytes(2, "big") for n in range(256)]


def _map_body(record: dict[str, Any]) -> bytes:
    """The pairs of a map without its header."""
    packed: bytes = _pack(record)
    return packed[1:] if len(record) < 16 else packed[3:]


def event_time(seconds: int) -> bytes:
    """Forward's EventTime as fixext8 (Forward spec v1.5), nanoseconds 0."""
    return b"\xd7\x00" + min(max(seconds, 0), 0xFFFFFFFF).to_bytes(4, "big") + b"\0\0\0\0"


def _action_piece_forward(key: str) -> bytes:
    category, types = ACTIONS[key]
    action = "hat-decided" if key == "hat-denied" else key
    return _map_body({"action": action, "category": [category], "type": list(types)}) + _pack("sequence")


_FORWARD_ACTIONS = {key: _action_piece_forward(key) for key in ACTIONS}
_CREATED, _ORIGINAL, _MID, _RIDS = _pack("created"), _pack("original"), _pack("mid"), _pack("rids")
_RIDS_FORWARD: dict[tuple[int, ...], bytes] = {(rid,): _RIDS + _pack([rid]) for rid in range(64)}


class ForwardEntries:
    """Records as Forward entries `[EventTime, map]`, concatenated: the body of a PackedForward frame."""

    name = "forward"

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.summaries: dict[str, list[bytes]] = {}
        self._created = ""
        self._created_original = b""
        """The pairs between sequence and text: the same for all lines of a batch."""

    def line(self, prefix: Prefix, line: Line, leg: Leg | None, observer: dict[str, str]) -> None:
        """Add a `line` record."""
        pieces = prefix.forward
        if pieces is None:
            pieces = prefix.forward = self._prefix_pieces(prefix, observer)
        entry, before_id, before_own, own_count, own, beside_count, beside = pieces
        fact = line.fact
        if line.flags or line.raw_base64 is not None:
            base = own_of(prefix, line)
            own_count, own = len(base), _map_body(base)
        key = fact.action
        if key == "hat-decided":
            key = action_key(fact)
        if leg is not None:
            fragment = leg.forward
            if fragment is None:
                fragment = leg.__dict__["forward"] = _leg_forward(prefix.appliance, leg)
            own_count += fragment[0]
            own += fragment[1]
            beside_count += fragment[2]
            beside = fragment[3] + beside
        if fact.mid is not None:
            own_count += 1
            own += _MID + _pack(fact.mid)
        if fact.rids:
            own_count += 1
            own += _RIDS_FORWARD.get(fact.rids) or _RIDS + _pack(fact.rids[:100])
        if fact.values and key not in NO_FIELDS and (facts := facts_of(fact)) is not None:
            facts_own, facts_beside = facts
            if facts_own:
                own_count += len(facts_own)
                own += _map_body(facts_own)
            if facts_beside:
                if observer and "observer" in facts_beside:
                    # The prefix's observer is already in `beside`: make that part again with both.
                    facts_beside["observer"] = {**observer, **facts_beside["observer"]}
                    log = log_of(prefix)
                    beside_count -= (1 if log else 0) + 1
                    beside = b""
                    if leg is not None:
                        beside = leg.forward[3]
                    if log:
                        facts_beside["log"] = log
                beside_count += len(facts_beside)
                beside += _map_body(facts_beside)
        if line.created != self._created:
            self._created, self._created_original = line.created, _CREATED + _pack(line.created) + _ORIGINAL
        self.lines.append(
            b"".join(
                (
                    entry,
                    _MAP_HEADERS[4 + beside_count],
                    before_id,
                    line.record_hash.encode(),
                    _FORWARD_ACTIONS[key],
                    _pack(line.sequence),
                    self._created_original,
                    _pack(line.text),
                    before_own,
                    _MAP_HEADERS[own_count],
                    own,
                    beside,
                )
            )
        )

    def _prefix_pieces(self, prefix: Prefix, observer: dict[str, str]) -> tuple[bytes, bytes, bytes, int, bytes, int, bytes]:
        base = own_of(prefix, NO_LINE)
        beside: dict[str, Any] = {}
        log = log_of(prefix)
        if log:
            beside["log"] = log
        if observer:
            beside["observer"] = observer
        return (
            b"\x92" + event_time(prefix.stamp_s),
            # @timestamp, then event with its seven keys; the id is a string of 26 bytes whose last 18 follow
            _map_body({"@timestamp": prefix.iso}) + _pack("event") + b"\x87" + _pack("id") + b"\xba" + prefix.time_id.encode(),
            _map_body({"host": {"name": prefix.appliance}}) + _pack("cisco_esa"),
            len(base),
            _map_body(base),
            len(beside),
            _map_body(beside),
        )

    def summary(self, kind: str, record: dict[str, Any], time_s: int) -> None:
        """Add a summary record."""
        self.summaries.setdefault(kind, []).append(b"\x92" + event_time(time_s) + _pack(record))

    def take(self) -> list[tuple[str, list[tuple[str, int, bytes]]]]:
        """(class, segments) of what was added since the last call."""
        taken = []
        if self.lines:
            taken.append(("line", [("line", len(self.lines), b"".join(self.lines))]))
            self.lines = []
        if self.summaries:
            taken.append(("summary", [(kind, len(found), b"".join(found)) for kind, found in self.summaries.items()]))
            self.summaries = {}
        return taken


def _leg_forward(appliance: str, leg: Leg) -> tuple[int, bytes, int, bytes]:
    own, beside = triple(appliance, leg)
    return len(own), _map_body(own), len(beside), _map_body(beside)


Encoder = JsonLines | ForwardEntries | OtlpRecords


def encoder(name: str) -> Encoder:
    """The encoder of this name: `json`, `forward` or `otlp`."""
    match name:
        case "json":
            return JsonLines()
        case "forward":
            return ForwardEntries()
        case "otlp":
            return OtlpRecords()
        case _:
            message = f"no encoding {name}"
            raise ValueError(message)


def created_text(seconds: float) -> str:
    """`event.created` of a batch."""
    return iso(int(seconds))
