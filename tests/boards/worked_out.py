"""What a panel must show, worked out from the records themselves: the meaning of `tools/boards/model.py`, without any query language."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import product
from typing import Any

from tools.boards.model import Condition, Counts, Query

Row = dict[str, Any]
Groups = dict[tuple[Any, ...], int]

_COMPARES = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


def chosen(query: Query, records: Iterable[Row], now: datetime, days: int, appliances: frozenset[str] | None = None) -> list[Row]:
    """The records that a query is about, of the last `days`, of these appliances."""
    start = now - timedelta(days=days)
    return [
        record
        for record in records
        if record["cisco_esa.record"] in query.kinds
        and start <= datetime.fromisoformat(record["@timestamp"]) < now
        and (appliances is None or record["cisco_esa.appliance"] in appliances)
        and holds(query.where, record)
    ]


def holds(conditions: Iterable[Condition], record: Row) -> bool:
    """Whether a record meets all of them."""
    return all(_holds(condition, record) for condition in conditions)


def _holds(condition: Condition, record: Row) -> bool:
    value = record.get(condition.path)
    values = value if isinstance(value, list) else [] if value is None else [value]
    match condition.operator:
        case "exists":
            return bool(values)
        case "missing":
            return not values
        case "in":
            return bool(set(values) & set(condition.values))
        case "not in":
            return not set(values) & set(condition.values)
        case sign:
            return any(_COMPARES[sign](found, condition.value) for found in values)


def counted(counts: Counts, records: Iterable[Row]) -> Groups:
    """How many records of each group."""
    return dict(Counter(key for record in records for key in _keys(counts, record)))


def per_day(counts: Counts, records: Iterable[Row]) -> Groups:
    """The same, by day: (day, group...)."""
    return dict(Counter((record["@timestamp"][:10], *key) for record in records for key in _keys(counts, record)))


def parts(counts: Counts, records: list[Row]) -> tuple[int, int]:
    """(all, those that are hits)."""
    assert counts.share is not None
    return len(records), sum(holds(counts.share.where, record) for record in records)


def _keys(counts: Counts, record: Row) -> Iterator[tuple[Any, ...]]:
    values = [record.get(field.path) for field in counts.by]
    yield from product(*(value if isinstance(value, list) else [] if value is None else [value] for value in values))
