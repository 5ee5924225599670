"""Searching and counting records.

With a text, a failure or a result the index of each part says which of its records may fit. Without, the index of `record` by appliance,
kind and verdict gives them in order of time. Either way the latest come first, by (time, number), and that pair is the place a page ends.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterator
from heapq import merge
from itertools import islice
from typing import Any, Final

import msgspec

from esa_tls.store import words
from esa_tls.store.answers import Filter, Found, Hit, Page, Tally
from esa_tls.store.columns import id_of
from esa_tls.store.parts import Part
from esa_tls.store.terms import (
    EXPECTED_TERM,
    Question,
    failure_term,
    message_id_term,
    number_term,
    partner_term,
    question_of,
    recipient_term,
    result_term,
)
from esa_tls.store.view import Interrupted, View

__all__ = ["lookup", "search", "tally"]

Place = tuple[int, int]
"""(time_s, n) of a record."""

LAST: Final = 2**62
FIRST_WINDOW_S: Final = 3_600


class Wanted(msgspec.Struct):
    """A filter ready for the file. `groups`: a record must have a term of each; `where`, `values`: what its row must be.

    `verdicts`: kind -> verdicts that may fit. `nothing`: no record can fit.
    """

    question: Question
    groups: list[tuple[str, ...]]
    appliances: list[int]
    verdicts: dict[int, tuple[int, ...]]
    where: str
    values: list[int]
    since_s: int
    until_s: int
    nothing: bool = False


def understand(view: View, wanted: Filter) -> Wanted:
    """The filter, with numbers for words."""
    question = question_of(wanted.text)
    nothing = bool(wanted.text.strip()) and not question.terms and question.record_id is None
    groups = [tuple(question.terms.values())] if question.terms else []
    if wanted.failures:
        groups.append(tuple(failure_term(name) for name in wanted.failures))
    if wanted.results and "delivered" not in wanted.results:
        groups.append(tuple(result_term(name) for name in wanted.results))
    if wanted.expected:
        groups.append((EXPECTED_TERM,))
    if wanted.partners:
        groups.append(tuple(partner_term(name) for name in wanted.partners))
    names = set(wanted.appliances)
    if question.appliance is not None:
        names = {question.appliance} if not names or question.appliance in names else set()
        nothing = nothing or not names
    appliances = [ident for ident, name in view.appliances.items() if not names or name in names]
    conditions, values = [], []

    def one_of(column: str, asked: frozenset[str], known: dict[str, int]) -> None:
        numbers = sorted(known[word] for word in asked if word in known)
        if asked:
            conditions.append(f"{column} IN ({', '.join('?' * len(numbers))})")
            values.extend(numbers)

    kinds = {words.KIND[kind] for kind in wanted.kinds if kind in words.KIND} if wanted.kinds else set(range(1, len(words.KINDS)))
    if wanted.postures:
        kinds &= {words.MESSAGE}
    outcomes = tuple(sorted(words.OUTCOME[word] for word in wanted.outcomes if word in words.OUTCOME))
    postures = tuple(sorted(words.POSTURE[word] for word in wanted.postures if word in words.POSTURE))
    verdicts: dict[int, tuple[int, ...]] = {}
    for kind in kinds:
        if kind == words.MESSAGE:
            verdicts[kind] = postures if wanted.postures else tuple(range(len(words.POSTURES)))
        else:
            verdicts[kind] = outcomes if wanted.outcomes else tuple(range(len(words.OUTCOMES)))
    one_of("outcome", wanted.outcomes, words.OUTCOME)
    one_of("direction", wanted.directions, words.DIRECTION)
    one_of("flow", wanted.flows, words.FLOW)
    one_of("failure", wanted.failures, words.FAILURE)
    one_of("result", wanted.results, words.RESULT)
    if wanted.in_clear is not None:
        conditions.append("clear = ?")
        values.append(1 if wanted.in_clear else 2)
    if question.epoch is not None:
        conditions.append("epoch = ?")
        values.append(question.epoch)
    return Wanted(
        question,
        groups,
        appliances,
        verdicts,
        "".join(f" AND {condition}" for condition in conditions),
        values,
        -LAST if wanted.since_s is None else wanted.since_s,
        LAST if wanted.until_s is None else wanted.until_s,
        nothing or not appliances or not any(verdicts.values()),
    )


# -- pages -----------------------------------------------------------------------------------------------------------------------
def search(view: View, filter_: Filter, *, limit: int, after: str | None) -> Page:
    """See `StoreReader.search`. Raises Interrupted if there was no time for anything."""
    wanted = understand(view, filter_)
    understood = wanted.question.words()
    before = _place_of(after)
    hits = _exact(view, wanted) if after is None else []
    if wanted.nothing:
        return Page(hits, understood=understood)
    if wanted.question.record_id is not None and not wanted.question.terms:
        return Page(hits, understood=understood)
    places, more, incomplete = _through_terms(view, wanted, before, limit) if wanted.groups else _by_time(view, wanted, before, limit)
    shown = {hit.id for hit in hits}
    for _, n in places:
        hit = _hit(view, n, wanted.groups)
        if hit is not None and hit.id not in shown:
            hits.append(hit)
    return Page(hits, None if more is None else f"{more[0]}.{more[1]}", incomplete, understood)


def _place_of(after: str | None) -> Place:
    if after is None:
        return LAST, LAST
    match = re.fullmatch(r"(-?[0-9]{1,19})\.([0-9]{1,19})", after)
    if match is None:
        raise ValueError(f"{after[:40]!r} is no place in a list of records")
    return min(int(match[1]), LAST), min(int(match[2]), LAST)


def _exact(view: View, wanted: Wanted) -> list[Hit]:
    if wanted.question.record_id is None:
        return []
    n = view.by_id(*id_of(wanted.question.record_id))
    hit = None if n is None else _hit(view, n, [])
    return [] if hit is None else [hit]


def _hit(view: View, n: int, groups: list[tuple[str, ...]]) -> Hit | None:
    record = view.record_with(n, groups)
    if record is None:
        return None
    time_s = view.connection.execute("SELECT time_s FROM record WHERE n = ?", (n,)).fetchone()[0]
    return Hit(record["event"]["id"], record["cisco_esa"]["record"], time_s, record)


def _by_time(view: View, wanted: Wanted, before: Place, limit: int) -> tuple[list[Place], Place | None, bool]:
    """Without the parts' indexes: windows of time, each longer than the one after it, until there is enough."""
    spans = [(part.first_s, part.last_s) for part in view.parts if part.first_s is not None and part.last_s is not None]
    if not spans:
        return [], None, False
    low = max(wanted.since_s, min(first for first, _ in spans))
    high = min(wanted.until_s - 1, before[0], max(last for _, last in spans))
    width_s = FIRST_WINDOW_S
    found: list[Place] = []
    asked = high
    while high >= low and len(found) <= limit:
        start = max(low, high - width_s + 1)
        try:
            window = list(islice(_window(view, wanted, start, high, before, limit + 1 - len(found)), limit + 1 - len(found)))
        except Exception as error:
            if not is_interrupt(error) or (high == asked and not found):
                raise
            return found, (high, LAST), True
        found += window
        high = start - 1
        width_s *= 4
    return _cut(found, limit)


def _window(view: View, wanted: Wanted, start_s: int, end_s: int, before: Place, limit: int) -> Iterator[Place]:
    streams = []
    for appliance in wanted.appliances:
        for kind, verdicts in wanted.verdicts.items():
            for verdict in verdicts:
                rows = view.connection.execute(
                    "SELECT time_s, n FROM record INDEXED BY record_verdict WHERE appliance = ? AND kind = ? AND verdict = ? "  # noqa: S608
                    f"AND time_s BETWEEN ? AND ? AND (time_s < ? OR n < ?){wanted.where} ORDER BY time_s DESC, n DESC LIMIT ?",
                    (appliance, kind, verdict, start_s, end_s, *before, *wanted.values, limit),
                ).fetchall()
                if rows:
                    streams.append(rows)
    return merge(*streams, reverse=True)


def _through_terms(view: View, wanted: Wanted, before: Place, limit: int) -> tuple[list[Place], Place | None, bool]:
    """Through the parts' indexes, those with the latest records first."""
    waiting = _parts(view, wanted, before)
    chosen: dict[int, set[int]] = {}
    looked = 0
    found: list[Place] = []
    for at, part in enumerate(waiting):
        latest = part.last_s or 0
        if len(found) > limit and found[limit][0] > latest:
            break
        try:
            if at == looked:  # ask the index for more and more parts at once: most searches end in the first
                looked = at * 8 + 2
                chosen = _chosen(view, wanted, waiting[at:looked])
            found += _in_part(view, wanted, chosen.get(part.id, ()), before, limit + 1)
        except Exception as error:
            if not is_interrupt(error) or at == 0 or latest >= before[0]:
                raise
            certain = [place for place in found if place[0] > latest]
            return certain[:limit], (latest, LAST) if len(certain) <= limit else certain[limit - 1], True
        found.sort(reverse=True)
    return _cut(found, limit)


def _parts(view: View, wanted: Wanted, before: Place) -> list[Part]:
    """Parts that may have something, the latest first."""
    chosen = [
        part
        for part in view.parts
        if part.first_s is not None
        and part.last_s is not None
        and part.first_s <= before[0]
        and part.first_s < wanted.until_s
        and part.last_s >= wanted.since_s
    ]
    return sorted(chosen, key=lambda part: part.last_s or 0, reverse=True)


def _in_part(view: View, wanted: Wanted, chosen: Collection[int], before: Place, limit: int) -> list[Place]:
    if not chosen:
        return []
    where, values = _row_conditions(wanted)
    return view.connection.execute(
        f"SELECT time_s, n FROM record NOT INDEXED WHERE n IN (SELECT value FROM json_each(?)){where} "  # noqa: S608
        "AND time_s <= ? AND (time_s < ? OR n < ?) ORDER BY time_s DESC, n DESC LIMIT ?",
        (msgspec.json.encode(sorted(chosen)).decode(), *values, before[0], *before, limit),
    ).fetchall()


def _chosen(view: View, wanted: Wanted, among: list[Part]) -> dict[int, set[int]]:
    """Part -> its records that have a term of each group."""
    chosen: dict[int, set[int]] = {}
    for at, group in enumerate(wanted.groups):
        found = view.records_in(among, group)
        chosen = {ident: both for ident, some in found.items() if (both := some if at == 0 else some & chosen.get(ident, set()))}
        among = [part for part in among if part.id in chosen]
    return chosen


def _row_conditions(wanted: Wanted) -> tuple[str, list[Any]]:
    """`wanted` as conditions on a row."""
    conditions = [
        f"(kind = {kind} AND verdict IN ({', '.join(map(str, verdicts))}))" for kind, verdicts in wanted.verdicts.items() if verdicts
    ]
    where = f" AND ({' OR '.join(conditions)}) AND appliance IN ({', '.join(map(str, wanted.appliances))})"
    return f"{where} AND time_s >= ? AND time_s < ?{wanted.where}", [wanted.since_s, wanted.until_s, *wanted.values]


def _cut(found: list[Place], limit: int) -> tuple[list[Place], Place | None, bool]:
    return found[:limit], found[limit - 1] if len(found) > limit else None, False


def is_interrupt(error: Exception) -> bool:
    """Whether the time was used up."""
    return isinstance(error, Interrupted) or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT


# -- counts ----------------------------------------------------------------------------------------------------------------------
def tally(view: View, filter_: Filter) -> list[Tally]:
    """See `StoreReader.tally`. A term shared by chance is not looked behind here: one record in 10^8 may be counted wrongly."""
    wanted = understand(view, filter_)
    if wanted.nothing:
        return []
    counts: dict[tuple[int, ...], int] = {}
    where, values = _row_conditions(wanted)
    columns = "kind, direction, flow, outcome, clear, verdict, result, failure, protocol, cipher"
    among = _parts(view, wanted, (LAST, LAST))
    chosen = _chosen(view, wanted, among) if wanted.groups else {}
    for part in among:
        if wanted.groups:
            if part.id not in chosen:
                continue
            scope, keys = "n IN (SELECT value FROM json_each(?))", [msgspec.json.encode(sorted(chosen[part.id])).decode()]
        else:
            scope, keys = "n >= ? AND n < ?", [part.gone_n, part.next_n]  # type: ignore[list-item]
        rows = view.connection.execute(
            f"SELECT count(*), {columns} FROM record NOT INDEXED WHERE {scope}{where} "  # noqa: S608
            f"GROUP BY {columns}",
            (*keys, *values),
        )
        for number, *key in rows:
            counts[tuple(key)] = counts.get(tuple(key), 0) + number
    return sorted((_tally(view, key, number) for key, number in counts.items()), key=lambda one: -one.number)


def _tally(view: View, key: tuple[int, ...], number: int) -> Tally:
    kind, direction, flow, outcome, clear, verdict, result, failure, protocol, cipher = key
    return Tally(
        kind=words.KINDS[kind],
        number=number,
        direction=words.DIRECTIONS[direction],
        flow=words.FLOWS[flow],
        outcome=words.OUTCOMES[outcome],
        clear=words.CLEAR[clear],
        posture=words.POSTURES[verdict] if kind == words.MESSAGE else "",
        result=words.RESULTS[result],
        failure=words.FAILURES[failure],
        protocol=view.word(protocol),
        cipher=view.word(cipher),
    )


# -- look-ups by one key ---------------------------------------------------------------------------------------------------------
_KIND_OF: Final = {"mid": words.MESSAGE, "icid": words.CONNECTION, "dcid": words.CONNECTION}


def lookup(view: View, by: str, value: int | str, *, appliance: str | None, epoch: int | None, limit: int) -> Found:
    """See `StoreReader.lookup`."""
    if by in _KIND_OF:
        term = number_term(by[0].upper(), int(value))
    else:
        term = message_id_term(str(value)) if by == "message_id" else recipient_term(str(value))
    found: list[dict[str, Any]] = []
    chosen = view.records_in(view.parts, [term])
    for ident in sorted(chosen, reverse=True):
        candidates = sorted(chosen[ident], reverse=True)
        kind = _KIND_OF.get(by, words.MESSAGE)
        rows = view.connection.execute(
            "SELECT n, appliance, epoch FROM record NOT INDEXED WHERE kind = ? AND n IN (SELECT value FROM json_each(?)) ORDER BY n DESC",
            (kind, msgspec.json.encode(candidates).decode()),
        ).fetchall()
        for n, whose, of_epoch in rows:
            if appliance not in (None, view.appliances.get(whose)) or epoch not in (None, of_epoch):
                continue
            record = view.record(n)
            if record is not None and _fits(record, by, value):
                if len(found) == limit:
                    return Found(found, incomplete=True)
                found.append(record)
    return Found(found)


def _fits(record: dict[str, Any], by: str, value: int | str) -> bool:
    own = record["cisco_esa"]
    if by in _KIND_OF:
        return bool(own.get(by) == value)
    if by == "message_id":
        known = record.get("email", {}).get("message_id")
        return known is not None and message_id_term(known) == message_id_term(str(value))
    wanted = recipient_term(str(value))
    return any(recipient_term(address) == wanted for address in own.get("envelope", {}).get("to", ()))
