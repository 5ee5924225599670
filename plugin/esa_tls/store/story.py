"""The story of one message or connection: its records and the lines that prove them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from esa_tls.store import words
from esa_tls.store.answers import ConnectionStory, LinesKept, MessageStory, StoryLine
from esa_tls.store.terms import entry_term, number_term
from esa_tls.store.view import View

__all__ = ["connection_story", "message_story"]

MAX_PARENTS: Final = 10
MAX_CHILDREN: Final = 50
MAX_DELIVERIES: Final = 200
MAX_BLOCKS: Final = 500

Found = dict[str, Any]


def message_story(view: View, appliance: str, epoch: int, mid: int, *, max_lines: int) -> MessageStory | None:
    """See `StoreReader.message`."""
    own = _about(view, appliance, epoch, "mid", mid)
    message = next((record for kind, record in own if kind == words.MESSAGE), None)
    deliveries = [record for kind, record in own if kind == words.DELIVERY]
    deliveries.sort(key=lambda record: (record["cisco_esa"]["delivery"]["ordinal"], record["event"]["id"]))
    facts: Found = {} if message is None else message["cisco_esa"]
    icid = facts.get("reception", {}).get("icid")
    dcids = list(dict.fromkeys(
        one["dcid"] for one in [*facts.get("deliveries", ()), *(record["cisco_esa"] for record in deliveries)] if "dcid" in one
    ))  # fmt: skip
    connections: dict[str, Found] = {}
    for dcid in dcids[:MAX_DELIVERIES]:
        found = _connection(view, appliance, epoch, "dcid", dcid)
        if found is not None:
            connections[found["cisco_esa"]["connection"]["id"]] = found
    entries = [("M", mid), *([("I", icid)] if icid else []), *(("D", dcid) for dcid in dcids[:MAX_DELIVERIES])]
    names = {f"{sort}CID/{number}" for sort, number in entries[1:]}
    lines, kept, more = _lines(
        view,
        appliance,
        epoch,
        entries,
        lambda line: line.mid == mid or (line.mid is None and line.connection in names),
        max_lines=max_lines,
        expected=message is not None,
    )
    if not own and not lines:
        return None
    return MessageStory(
        appliance,
        epoch,
        mid,
        message,
        _connection(view, appliance, epoch, "icid", icid) if icid else None,
        deliveries,
        connections,
        _parents(view, appliance, epoch, facts),
        [child for number in facts.get("child_mids", ())[:MAX_CHILDREN] if (child := _message(view, appliance, epoch, number)) is not None],
        [record for kind, record in own if kind == words.CONSOLIDATED],
        lines,
        kept,
        more,
    )


_ID: Final = re.compile(r"(.+)/([0-9]{1,19})/(ICID|DCID)/([0-9]{1,19})", re.DOTALL)


def connection_story(view: View, connection_id: str, *, max_messages: int, max_lines: int) -> ConnectionStory | None:
    """See `StoreReader.connection`."""
    match = _ID.fullmatch(connection_id)
    if match is None:
        return None
    appliance, epoch, sort, number = match[1], int(match[2]), match[3][0], int(match[4])
    by = "icid" if sort == "I" else "dcid"
    if max(epoch, number) > 2**63 - 1:
        return None
    own = _about(view, appliance, epoch, by, number, limit=max_messages + 1)
    connection = next((record for kind, record in own if kind == words.CONNECTION), None)
    deliveries = [record for kind, record in own if kind == words.DELIVERY]
    messages = [record for kind, record in own if kind == words.MESSAGE]
    if sort == "D":
        mids = dict.fromkeys(record["cisco_esa"]["mid"] for record in deliveries)
        messages = [found for mid in list(mids)[:max_messages] if (found := _message(view, appliance, epoch, mid)) is not None]
    name = f"{sort}CID/{number}"
    lines, kept, more = _lines(
        view,
        appliance,
        epoch,
        [(sort, number)],
        lambda line: line.connection == name,
        max_lines=max_lines,
        expected=connection is not None,
    )
    if not own and not lines:
        return None
    return ConnectionStory(
        connection_id,
        connection,
        messages[:max_messages],
        deliveries[:max_messages],
        max(len(messages), len(deliveries)) > max_messages,
        lines,
        kept,
        more,
    )


# -- records ---------------------------------------------------------------------------------------------------------------------
def _about(view: View, appliance: str, epoch: int, by: str, number: int, *, limit: int = 1_000) -> list[tuple[int, Found]]:
    """(kind, record) of everything with this id, in order; at most `limit` of each kind."""
    whose = view.appliance(appliance)
    if whose is None:
        return []
    found: list[tuple[int, Found]] = []
    taken: dict[int, int] = {}
    chosen = view.records_in(view.parts, [number_term(by[0].upper(), number)])
    for ident in sorted(chosen):
        rows = view.connection.execute(
            "SELECT n, kind FROM record NOT INDEXED WHERE n IN (SELECT value FROM json_each(?)) "  # noqa: S608
            f"AND appliance = ? AND epoch = ? AND {by} = ? ORDER BY n",
            (msgspec.json.encode(sorted(chosen[ident])).decode(), whose, epoch, number),
        ).fetchall()
        for n, kind in rows:
            taken[kind] = taken.get(kind, 0) + 1
            if taken[kind] <= limit and (record := view.record(n)) is not None:
                found.append((kind, record))
    return found


def _first(view: View, appliance: str, epoch: int, by: str, number: int, kind: int) -> Found | None:
    return next((record for known, record in _about(view, appliance, epoch, by, number) if known == kind), None)


def _connection(view: View, appliance: str, epoch: int, by: str, number: int) -> Found | None:
    return _first(view, appliance, epoch, by, number, words.CONNECTION)


def _message(view: View, appliance: str, epoch: int, mid: int) -> Found | None:
    return _first(view, appliance, epoch, "mid", mid, words.MESSAGE)


def _parents(view: View, appliance: str, epoch: int, facts: Found) -> list[Found]:
    found: list[Found] = []
    seen = {facts.get("mid")}
    while len(found) < MAX_PARENTS and (mid := facts.get("parent_mid")) is not None and mid not in seen:
        seen.add(mid)
        parent = _message(view, appliance, epoch, mid)
        if parent is None:
            break
        found.append(parent)
        facts = parent["cisco_esa"]
    return found


# -- lines -----------------------------------------------------------------------------------------------------------------------
def _lines(
    view: View,
    appliance: str,
    epoch: int,
    entries: Iterable[tuple[str, int]],
    fits: Callable[[StoryLine], bool],
    *,
    max_lines: int,
    expected: bool,
) -> tuple[list[StoryLine], LinesKept, bool]:
    """Lines of these connections and messages that fit, in order; whether there are all; whether there are more than `max_lines`."""
    terms = [entry_term(appliance, epoch, sort, number) for sort, number in entries]
    found: dict[tuple[int, str], StoryLine] = {}
    removed = False
    blocks = 0
    in_parts = view.blocks_in(view.parts, terms)
    for part in view.parts:
        for block in sorted(in_parts.get(part.id, ())):
            if block < part.gone_block:  # the index still knows it
                removed = True
                continue
            blocks += 1
            if blocks > MAX_BLOCKS:
                break
            for line in view.lines(block, appliance=appliance, epoch=epoch):
                if fits(line):
                    found.setdefault((line.sequence, line.text), line)  # rows may have come twice
    lines = sorted(found.values(), key=lambda line: line.sequence)
    kept: LinesKept = "kept"
    if not lines and expected and not removed and not view.keeps_lines():
        kept = "off"
    elif removed:
        kept = "some" if lines else "removed"
    return lines[:max_lines], kept, len(lines) > max_lines or blocks > MAX_BLOCKS
