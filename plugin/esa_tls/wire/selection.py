"""What one sink gets of the outbox: which records, which fields, how long, under which pseudonyms, with which constants. Pure.

It stands between reading the outbox and sending, so a sink sees nothing but what it is to get: what it rejects, and what becomes a dead
letter, is counted in and made of that. In this order, each on the record as the one before left it:

1. `where`: whether the sink gets the record at all.
2. `fields`: what it gets of it. The keys (`KEYS`) are always there.
3. Pseudonyms (`privacy.py`).
4. `truncate`.
5. Constants, which the encoding `otlp` has in resource and scope already.

A row keeps its number, class and encoding, and its segments their order; segments and rows without a record left are left out. A record
that cannot be read is never passed on as it is: it is handed back with the reason. Empty objects and lists do not stay behind.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from esa_tls.core.batch import Row
from esa_tls.core.fields import FIELDS
from esa_tls.wire.constants import constants_of
from esa_tls.wire.outbox_records import Record, read, write
from esa_tls.wire.privacy import CLASS_OF, TREATMENTS, Privacy

__all__ = ["KEYS", "Selected", "Selection", "Unreadable", "Where", "wrong_path", "wrong_truncation"]

KEYS: Final = {
    "@timestamp": "stores and queries go by it",
    "event.id": "stores recognise a repeat by it",
    "event.sequence": "it keeps the order of lines of one second",
    "host.name": "stores sort by it",
    "cisco_esa.record": "it says what kind of record this is",
    "cisco_esa.appliance": "numbers mean nothing without it",
    "cisco_esa.connection.id": "records of one connection are found by it",
    "cisco_esa.direction": "a TLS outcome means nothing without it",
    "cisco_esa.tls.outcome": "it is what the record is for",
    "cisco_esa.icid": "records are joined by it",
    "cisco_esa.dcid": "records are joined by it",
    "cisco_esa.mid": "records are joined by it",
}
"""Fields that cannot be dropped, and why."""

ABSENT: Final = "absent"
"""In `Where`: the record has not the field."""

Value = str | bool


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """Which records pass: each of the sets that is not None has to hold the record's value, or `absent`.

    `outcomes`, `directions` and `in_clear` are asked of one leg together, `postures` of messages alone.
    """

    outcomes: frozenset[Value] | None = None
    directions: frozenset[Value] | None = None
    in_clear: frozenset[Value] | None = None
    postures: frozenset[Value] | None = None
    mail_flows: frozenset[Value] | None = None
    appliances: frozenset[Value] | None = None

    def passes(self, record: Record) -> bool:
        """Whether a record passes."""
        own = record["cisco_esa"]
        if self.appliances is not None and own.get("appliance", ABSENT) not in self.appliances:
            return False
        if self.mail_flows is not None and own.get("mail_flow", ABSENT) not in self.mail_flows:
            return False
        if self.postures is not None and own["record"] == "message" and own.get("posture", ABSENT) not in self.postures:
            return False
        if self.outcomes is None and self.directions is None and self.in_clear is None:
            return True
        return any(
            (self.outcomes is None or outcome in self.outcomes)
            and (self.directions is None or direction in self.directions)
            and (self.in_clear is None or in_clear in self.in_clear)
            for direction, outcome, in_clear in _legs(own)
        )


def _legs(own: Record) -> Iterator[tuple[Value, Value, Value]]:
    """(direction, outcome, in clear) of each leg of a record; one of all absent if it has none."""
    found: list[tuple[Value, Record]] = []
    if "tls" in own or "direction" in own:
        found.append((own.get("direction", ABSENT), own.get("tls", {})))
    if "reception" in own:
        found.append(("inbound", own["reception"].get("tls", {})))
    if "delivery_tls" in own:
        found.append(("outbound", own["delivery_tls"]))
    found += [("outbound", delivery["tls"]) for delivery in own.get("deliveries", ()) if "tls" in delivery]
    for direction, tls in found:
        yield direction, tls.get("outcome", ABSENT), tls.get("in_clear", ABSENT)
    if not found:
        yield ABSENT, ABSENT, ABSENT


# -- paths -----------------------------------------------------------------------------------------------------------------------
_TYPES = {field.path: field.type for field in FIELDS}
_SUBTREES = {path[:at] for path in _TYPES for at, char in enumerate(path) if char == "."}


def wrong_path(path: str, *, to_drop: bool) -> str | None:
    """Why a path cannot be kept or dropped; None: it can."""
    plain = _plain(path)
    if plain not in _TYPES and plain not in _SUBTREES:
        return _unknown(path)
    if to_drop:
        for key, reason in KEYS.items():
            if key == plain:
                return f"{path!r} cannot be dropped: {reason}"
            if key.startswith(f"{plain}."):
                return f"{path!r} cannot be dropped as a whole, {key} is in it: {reason}; name what is beside it"
    return None


def wrong_truncation(path: str, *, replaced: Collection[str] = ()) -> str | None:
    """Why a field cannot be cut; None: it can. `replaced`: the classes that pseudonyms stand for in this sink."""
    plain = _plain(path)
    if plain not in _TYPES:
        return _unknown(path)
    if _TYPES[plain] not in ("keyword", "text"):
        return f"{path!r} is no text but of type {_TYPES[plain]}"
    if plain in KEYS:
        return f"{path!r} cannot be cut: {KEYS[plain]}"
    treatment = TREATMENTS.get(plain, "")
    if replaced and (CLASS_OF.get(treatment) in replaced or treatment in ("response", "related")):
        return f"{path!r} has pseudonyms in this sink; one that is cut could not be turned back"
    return None


def _plain(path: str) -> str:
    """A path as the manual shows it, `[]` behind what is always a list."""
    return path.replace("[]", "")


def _unknown(path: str) -> str:
    close = difflib.get_close_matches(_plain(path), [*_TYPES, *_SUBTREES], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "; the manual's page on records has them all"
    return f"there is no field {path!r}{hint}"


class _Tree(dict[str, "_Tree"]):
    """Paths as a tree; at an empty one a path ends."""


def _tree(paths: Iterable[str]) -> _Tree:
    root = _Tree()
    whole = sorted({_plain(path) for path in paths}, key=len)
    for path in whole:
        if any(path.startswith(f"{other}.") for other in whole):
            continue  # in another one that is there
        place = root
        for name in path.split("."):
            place = place.setdefault(name, _Tree())
    return root


def _kept(record: Record, tree: _Tree) -> Record:
    """What of a record is in the tree, as a new one, in the order of the record."""
    found: Record = {}
    for name, value in record.items():
        below = tree.get(name)
        if below is None:
            continue
        left = value if not below else _each(value, below, drop=False)
        if left not in ({}, []):
            found[name] = left
    return found


def _without(record: Record, tree: _Tree) -> Record:
    """What of a record is not in the tree, as a new one."""
    found: Record = {}
    for name, value in record.items():
        below = tree.get(name)
        if below is None:
            found[name] = value
        elif below and (left := _each(value, below, drop=True)) not in ({}, []):
            found[name] = left
    return found


def _each(value: Any, tree: _Tree, *, drop: bool) -> Any:  # noqa: ANN401 (whatever a field holds)
    """An object, or each object of a list."""
    of = _without if drop else _kept
    if isinstance(value, list):
        return [left for one in value if (left := of(one, tree))]
    return of(value, tree) if isinstance(value, dict) else value


def _cut(record: Record, tree: Mapping[str, Any]) -> None:
    """Cut texts in place; `tree`: numbers of characters at the ends."""
    for name, below in tree.items():
        value = record.get(name)
        if isinstance(below, int):
            if isinstance(value, str):
                record[name] = value[:below]
            elif isinstance(value, list):
                record[name] = [one[:below] for one in value]
        elif isinstance(value, dict):
            _cut(value, below)
        elif isinstance(value, list):
            for one in value:
                _cut(one, below)


def _put(record: Record, path: str, value: str | int) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        record = record.setdefault(parent, {})
    record[name] = value


# -- the selection ---------------------------------------------------------------------------------------------------------------
class Unreadable(msgspec.Struct, frozen=True):
    """A record of the outbox that could not be read, and why."""

    kind: str
    encoding: str
    body: bytes
    why: str


class Selected(msgspec.Struct, frozen=True):
    """Rows as a sink gets them; by kind the number of records that did not pass `where`; what could not be read."""

    rows: list[tuple[int, Row]]
    filtered: dict[str, int]
    unreadable: list[Unreadable]


class Selection:
    """See the module. Paths have passed `wrong_path`, those to be cut `wrong_truncation`; either `keep` or `drop`."""

    def __init__(
        self,
        *,
        where: Where | None = None,
        keep: Sequence[str] | None = None,
        drop: Sequence[str] | None = None,
        privacy: Privacy | None = None,
        truncate: Mapping[str, int] | None = None,
        constants: bool = False,
    ) -> None:
        self._where = where
        self._keep = None if keep is None else _tree([*keep, *KEYS])
        self._drop = None if drop is None else _tree(drop)
        self._privacy = privacy
        self._cuts: dict[str, Any] = {}
        for path, n_chars in (truncate or {}).items():
            *parents, name = _plain(path).split(".")
            place = self._cuts
            for parent in parents:
                place = place.setdefault(parent, {})
            place[name] = n_chars
        self._constants = constants
        self._changes = keep is not None or drop is not None or privacy is not None or bool(truncate) or constants

    def apply(self, rows: Iterable[tuple[int, Row]]) -> Selected:
        """What a sink gets of rows of the outbox."""
        left: list[tuple[int, Row]] = []
        filtered: dict[str, int] = {}
        unreadable: list[Unreadable] = []
        for sequence, row in rows:
            segments = []
            for kind, _, body in row.segments:
                bodies: list[bytes] = []
                for one in read(row.encoding, body):
                    if one.record is None:
                        unreadable.append(Unreadable(kind, row.encoding, one.raw, one.why))
                    elif self._where is not None and not self._where.passes(one.record):
                        filtered[kind] = filtered.get(kind, 0) + 1
                    else:
                        bodies.append(write(row.encoding, self.changed(one.record, row.encoding), one) if self._changes else one.raw)
                if bodies:
                    segments.append((kind, len(bodies), b"".join(bodies)))
            if segments:
                left.append((sequence, Row(row.cls, row.encoding, segments)))
        return Selected(left, filtered, unreadable)

    def changed(self, record: Record, encoding: str) -> Record:
        """A record as the sink gets it; `where` is not asked. The one given is the caller's no more."""
        action = record.get("event", {}).get("action", "")
        if self._keep is not None:
            record = _kept(record, self._keep)
        if self._drop is not None:
            record = _without(record, self._drop)
        if self._privacy is not None:
            self._privacy.replace(record, action)
        _cut(record, self._cuts)
        if self._constants and encoding != "otlp":
            for path, value in constants_of(record["cisco_esa"]["record"]).items():
                _put(record, path, value)
        return record
