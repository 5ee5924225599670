"""Encodings of records: JSON lines and Forward (msgpack) entries.

Summaries are dicts from `records.py`, encoded by msgspec. `line` records are by far the most, so their bytes are spliced from
pieces that are cached where they do not change: per prefix (time, appliance), per leg (the triple), per action. `line_dict` says
what a line record is; the splices make the same, several times faster, and a test compares them field by field.

An encoder collects what was made since the last `take`. Order inside a class is the order of the lines. Lines come many at a time: one
loop that does nothing else is a good deal faster than a call for each between other work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from mypy_extensions import mypyc_attr

from esa_tls.core.connections import Leg
from esa_tls.core.encode_otlp import OtlpRecords
from esa_tls.core.encode_store import StoreRows
from esa_tls.core.line_record import NO_LINE, Leaving, Line, action_key, categories, line_dict, log_of, own_of
from esa_tls.core.prefix import Prefix
from esa_tls.core.records import ACTIONS, NO_FIELDS, TLS_ACTIONS, connection_id, facts_of, iso, tls_on_line, triple, triple_on_line

__all__ = ["Encoder", "ForwardEntries", "JsonLines", "Line", "created_text", "encoder", "event_time", "line_dict"]

_json: Final = msgspec.json.Encoder().encode
_pack: Final = msgspec.msgpack.Encoder().encode


_PLAIN: Final = 0
_EMAIL: Final = 1
_FACTS: Final = 2
_TLS: Final = 3
_HAT: Final = 4
"""What there is to say of a line: nothing more, an address or the like, other facts, TLS, or a decision whose action depends on it."""

_EMAIL_FACTS: Final = frozenset({"sender-accepted", "recipient-accepted", "message-received", "subject", "message-id"})
"""Actions whose facts are written without a dict in between; there is one of each in every message."""


def _way(action: str) -> int:
    if action in TLS_ACTIONS:
        return _TLS
    if action == "hat-decided":
        return _HAT
    return _PLAIN if action in NO_FIELDS else _EMAIL if action in _EMAIL_FACTS else _FACTS


def _action_piece_json(key: str) -> str:
    pairs = {"action": "hat-decided" if key == "hat-denied" else key, **categories(key)}
    return f'",{_json(pairs)[1:-1].decode()},"sequence":'


_JSON_ACTIONS: Final = {key: (_action_piece_json(key), _way(key)) for key in ACTIONS}


def _email_facts_json(action: str, values: dict[str, Any]) -> tuple[str, str]:
    """`records.facts_of` of `_EMAIL_FACTS` as JSON: (what goes under `cisco_esa`, beside it)."""
    if action in {"subject", "message-id"}:
        return "", f',"email":{_json(values).decode()}'
    size = f',"size_bytes":{values["size_bytes"]}' if "size_bytes" in values else ""
    address = values.get("address")
    if address is None:
        return size, ""
    end = "to" if action == "recipient-accepted" else "from"
    return size, f',"email":{{"{end}":{{"address":[{_json(address).decode()}]}}}}'


_RIDS_JSON: Final[dict[tuple[int, ...], str]] = {(rid,): f',"rids":[{rid}]' for rid in range(64)}


@mypyc_attr(allow_interpreted_subclasses=True)
class JsonLines:
    """Records as JSON objects, one a line. The offline tools have encoders of their own that are made of this one."""

    name = "json"
    interleaved = False
    """Whether lines and summaries have to come one by one in the order in which they leave; else lines come many at a time."""
    wants_lines = True
    """Whether it makes anything of lines; if no encoder does, they only have their effect."""

    def __init__(self) -> None:
        self.encoded: list[bytes] = []
        self.summaries: dict[str, list[bytes]] = {}

    def lines(self, leaving: Sequence[Leaving]) -> None:
        """Add `line` records."""
        encoded = self.encoded
        created = created_piece = ""
        last: Prefix | None = None
        for prefix, line, leg in leaving:
            if prefix is not last:
                last = prefix
                pieces = prefix.json
                if pieces is None:
                    pieces = prefix.json = _prefix_json(prefix)
                head, prefix_own = pieces
            fact = line.fact
            action_piece, way = _JSON_ACTIONS[fact.action]
            if leg is None or way == _TLS:
                own = ""
            else:
                known = leg.json
                if known is None:
                    known = leg.json = _leg_json(prefix.appliance, leg)
                own = known
            mid = fact.mid
            mid_piece = "" if mid is None else f',"mid":{mid}'
            rids = fact.rids
            rids_piece = (_RIDS_JSON.get(rids) or f',"rids":{_json(rids[:100]).decode()}') if rids else ""
            facts_piece = beside = ""
            if way:
                if way == _HAT:
                    action_piece, _ = _JSON_ACTIONS[action_key(fact)]
                elif way == _TLS and leg is not None:
                    own, beside = _tls_line_json(prefix.appliance, leg)
                if (values := fact.values) is not None:
                    if way == _EMAIL:
                        facts_piece, beside = _email_facts_json(fact.action, values)
                    elif (facts := facts_of(fact)) is not None:
                        facts_own, facts_beside = facts
                        if facts_own:
                            facts_piece = "," + _json(facts_own)[1:-1].decode()
                        if facts_beside:
                            beside += "," + _json(facts_beside)[1:-1].decode()
            if line.created is not created:
                created = line.created
                created_piece = f',"created":"{created}","original":'
            before_own = prefix_own
            if line.flags or line.raw_base64 is not None:
                before_own = f'}},"cisco_esa":{_json(own_of(prefix, line))[:-1].decode()}'
            # Encoded one by one: one letter that is not ASCII would make a joined text wide, and its encoding slow.
            encoded.append(
                (
                    f"{head}{line.record_hash}{action_piece}{line.sequence}{created_piece}{_json(line.text).decode()}"
                    f"{before_own}{own}{mid_piece}{rids_piece}{facts_piece}}}{beside}}}\n"
                ).encode()
            )

    def summary(self, kind: str, record: dict[str, Any], time_s: int) -> None:
        """Add a summary record."""
        del time_s
        self.summaries.setdefault(kind, []).append(_json(record))

    def take(self) -> list[tuple[str, list[tuple[str, int, bytes]]]]:
        """(class, segments) of what was added since the last call."""
        taken = []
        if self.encoded:
            taken.append(("line", [("line", len(self.encoded), b"".join(self.encoded))]))
            self.encoded = []
        if self.summaries:
            taken.append(("summary", [(kind, len(found), b"\n".join(found) + b"\n") for kind, found in self.summaries.items()]))
            self.summaries = {}
        return taken


def _tls_line_json(appliance: str, leg: Leg) -> tuple[str, str]:
    """A line about TLS has all of the triple: (what goes under `cisco_esa`, what goes beside it)."""
    leg_own, leg_beside = triple(appliance, leg)
    return "," + _json(leg_own)[1:-1].decode(), "," + _json(leg_beside)[1:-1].decode()


_TLS_JSON: Final[dict[int, tuple[dict[str, Any], str]]] = {}
"""By the identity of what `tls_on_line` gives: that, so that it stays, and its encoding."""


def _leg_json(appliance: str, leg: Leg) -> str:
    """`triple_on_line` as JSON."""
    tls = tls_on_line(leg)
    known = _TLS_JSON.get(id(tls))
    if known is None:
        if len(_TLS_JSON) >= 4096:
            _TLS_JSON.clear()
        known = _TLS_JSON[id(tls)] = tls, _json(tls).decode()
    identity = _json(connection_id(appliance, leg)).decode()
    where = '"direction":"inbound","icid"' if leg.kind == "I" else '"direction":"outbound","dcid"'
    return f',"connection":{{"id":{identity}}},{where}:{leg.number},"tls":{known[1]}'


def _prefix_json(prefix: Prefix) -> tuple[str, str]:
    """What stands before the hash of an id, and between a line's text and its leg."""
    log = log_of(prefix)
    logged = f'"log":{_json(log).decode()},' if log else ""
    return (
        f'{{"@timestamp":"{prefix.iso}",{logged}"host":{{"name":{_json(prefix.appliance).decode()}}},"event":{{"id":"{prefix.time_id}',
        f'}},"cisco_esa":{_json(own_of(prefix, NO_LINE))[:-1].decode()}',
    )


# ---------------------------------------------------------------------------------------------------------------- msgpack

_MAP_HEADERS: Final = [bytes([0x80 | n]) if n < 16 else b"\xde" + n.to_bytes(2, "big") for n in range(256)]


def _map_body(record: dict[str, Any]) -> bytes:
    """The pairs of a map without its header."""
    packed: bytes = _pack(record)
    return packed[1:] if len(record) < 16 else packed[3:]


def event_time(seconds: int) -> bytes:
    """Forward's EventTime as fixext8 (Forward spec v1.5), nanoseconds 0."""
    return b"\xd7\x00" + min(max(seconds, 0), 0xFFFFFFFF).to_bytes(4, "big") + b"\0\0\0\0"


def _action_piece_forward(key: str) -> tuple[int, bytes, int]:
    """(Which of the prefix's pieces goes before the id, what stands behind it, `_way`): `event` has five keys or seven."""
    pairs = {"action": "hat-decided" if key == "hat-denied" else key, **categories(key)}
    return (0 if len(pairs) == 1 else 1), _map_body(pairs) + _pack("sequence"), _way(key)


_FORWARD_ACTIONS: Final = {key: _action_piece_forward(key) for key in ACTIONS}
_CREATED: Final = _pack("created")
_ORIGINAL: Final = _pack("original")
_MID: Final = _pack("mid")
_RIDS: Final = _pack("rids")
_SIZE: Final = _pack("size_bytes")
_RIDS_FORWARD: Final[dict[tuple[int, ...], bytes]] = {(rid,): _RIDS + _pack([rid]) for rid in range(64)}
_EMAIL_KEY: Final = _pack("email")
_EMAIL_END: Final = {end: _pack("email") + b"\x81" + _pack(end) + b"\x81" + _pack("address") + b"\x91" for end in ("from", "to")}


def _email_forward(action: str, values: dict[str, Any]) -> bytes:
    """What `records.facts_of` puts beside a line of `_EMAIL_FACTS`, one pair or none."""
    if action in {"subject", "message-id"}:
        return _EMAIL_KEY + _pack(values)
    address = values.get("address")
    return b"" if address is None else _EMAIL_END["to" if action == "recipient-accepted" else "from"] + _pack(address)


class ForwardEntries:
    """Records as Forward entries `[EventTime, map]`, concatenated: the body of a PackedForward frame."""

    name = "forward"
    interleaved = False
    wants_lines = True

    def __init__(self) -> None:
        self.encoded: list[bytes] = []
        self.summaries: dict[str, list[bytes]] = {}

    def lines(self, leaving: Sequence[Leaving]) -> None:
        """Add `line` records."""
        encoded = self.encoded
        created, created_original = "", b""
        last: Prefix | None = None
        for prefix, line, leg in leaving:
            if prefix is not last:
                last = prefix
                pieces = prefix.forward
                if pieces is None:
                    pieces = prefix.forward = _prefix_forward(prefix)
                entry, before_ids, prefix_beside_count, before_own, prefix_own_count, prefix_own = pieces
            own_count, own, beside_count, beside = prefix_own_count, prefix_own, prefix_beside_count, b""
            if line.flags or line.raw_base64 is not None:
                base = own_of(prefix, line)
                own_count, own = len(base), _map_body(base)
            fact = line.fact
            which, action_piece, way = _FORWARD_ACTIONS[fact.action]
            leg_piece = mid_piece = rids_piece = facts_piece = b""
            if leg is None:
                pass
            elif way == _TLS:
                leg_own, leg_beside = triple(prefix.appliance, leg)
                own_count += len(leg_own)
                leg_piece = _map_body(leg_own)
                beside_count += len(leg_beside)
                beside = _map_body(leg_beside)
            else:
                fragment = leg.forward
                if fragment is None:
                    own_leg = triple_on_line(prefix.appliance, leg)
                    fragment = leg.forward = len(own_leg), _map_body(own_leg)
                count, leg_piece = fragment
                own_count += count
            mid = fact.mid
            if mid is not None:
                own_count += 1
                mid_piece = _MID + _pack(mid)
            rids = fact.rids
            if rids:
                own_count += 1
                rids_piece = _RIDS_FORWARD.get(rids) or _RIDS + _pack(rids[:100])
            if way:
                if way == _HAT:
                    which, action_piece, _ = _FORWARD_ACTIONS[action_key(fact)]
                if (values := fact.values) is not None:
                    if way == _EMAIL:
                        if (size_bytes := values.get("size_bytes")) is not None:
                            own_count += 1
                            facts_piece = _SIZE + _pack(size_bytes)
                        if email := _email_forward(fact.action, values):
                            beside_count += 1
                            beside = email
                    elif (facts := facts_of(fact)) is not None:
                        facts_own, facts_beside = facts
                        if facts_own:
                            own_count += len(facts_own)
                            facts_piece = _map_body(facts_own)
                        if facts_beside:
                            beside_count += len(facts_beside)
                            beside += _map_body(facts_beside)
            if line.created is not created:
                # The pairs between sequence and text: the same for all lines of a batch.
                created = line.created
                created_original = _CREATED + _pack(created) + _ORIGINAL
            encoded.append(
                b"".join(
                    (
                        entry,
                        _MAP_HEADERS[beside_count],
                        before_ids[which],
                        line.record_hash.encode(),
                        action_piece,
                        _pack(line.sequence),
                        created_original,
                        _pack(line.text),
                        before_own,
                        _MAP_HEADERS[own_count],
                        own,
                        leg_piece,
                        mid_piece,
                        rids_piece,
                        facts_piece,
                        beside,
                    )
                )
            )

    def summary(self, kind: str, record: dict[str, Any], time_s: int) -> None:
        """Add a summary record."""
        self.summaries.setdefault(kind, []).append(b"\x92" + event_time(time_s) + _pack(record))

    def take(self) -> list[tuple[str, list[tuple[str, int, bytes]]]]:
        """(class, segments) of what was added since the last call."""
        taken = []
        if self.encoded:
            taken.append(("line", [("line", len(self.encoded), b"".join(self.encoded))]))
            self.encoded = []
        if self.summaries:
            taken.append(("summary", [(kind, len(found), b"".join(found)) for kind, found in self.summaries.items()]))
            self.summaries = {}
        return taken


def _prefix_forward(prefix: Prefix) -> tuple[bytes, tuple[bytes, bytes], int, bytes, int, bytes]:
    """What lines of a prefix share.

    The entry's beginning; what stands before the hash of an id, for an event of five keys and of seven; the number of pairs that all lines
    have; what stands between a line's text and the pairs under `cisco_esa`; the number of those that all lines have, and they themselves.
    """
    base = own_of(prefix, NO_LINE)
    first: dict[str, Any] = {"@timestamp": prefix.iso}
    log = log_of(prefix)
    if log:
        first["log"] = log
    first["host"] = {"name": prefix.appliance}
    before_event = _map_body(first) + _pack("event")
    before_hash = _pack("id") + b"\xba" + prefix.time_id.encode()  # a string of 26 bytes whose last 18 follow
    return (
        b"\x92" + event_time(prefix.stamp_s),
        (before_event + b"\x85" + before_hash, before_event + b"\x87" + before_hash),
        len(first) + 2,
        _pack("cisco_esa"),
        len(base),
        _map_body(base),
    )


Encoder = JsonLines | ForwardEntries | OtlpRecords | StoreRows


def encoder(name: str) -> Encoder:
    """The encoder of this name: `json`, `forward`, `otlp` or `store`."""
    match name:
        case "json":
            return JsonLines()
        case "forward":
            return ForwardEntries()
        case "otlp":
            return OtlpRecords()
        case "store":
            return StoreRows()
        case _:
            message = f"no encoding {name}"
            raise ValueError(message)


def created_text(seconds: float) -> str:
    """`event.created` of a batch."""
    return iso(int(seconds))
