"""ES|QL (Elasticsearch). A comparison with an absent value, or with several values, is null there, and null is not true."""

from __future__ import annotations

from collections.abc import Sequence

from tools.boards.kibana_query import quoted
from tools.boards.model import Condition, Counts, Period, Query, Rows, Share, SourceError, present
from tools.boards.query_dsl import target


def text(query: Query) -> str:
    """The whole query, a line for each command."""
    conditions = [*_period(query.period), *map(_condition, present(query))]
    lines = [f"FROM {target(query.kinds)}"]
    if conditions:
        lines.append("WHERE " + " AND ".join(conditions))
    lines += _rows(query.answer) if isinstance(query.answer, Rows) else _counts(query.answer)
    return "\n| ".join(lines)


def _period(period: Period | None) -> list[str]:
    if period is None:
        return []
    if period.whole:
        today = "DATE_TRUNC(1 day, NOW())"
        return [f"@timestamp >= {today} - {period.days} day", f"@timestamp < {today}"]
    return [f"@timestamp >= NOW() - {period.days} day{'s' if period.days > 1 else ''}"]


def _condition(condition: Condition) -> str:
    path = condition.path
    if condition.field.many and condition.operator not in ("exists", "missing"):
        raise SourceError(f"ES|QL compares no lists: {path}")
    match condition.operator:
        case "exists":
            return f"{path} IS NOT NULL"
        case "missing":
            return f"{path} IS NULL"
        case "in":
            return _equals(condition)
        case "not in":
            return f"({path} IS NULL OR NOT {_equals(condition)})"
        case operator:
            return f"{path} {operator} {condition.value}"


def _equals(condition: Condition) -> str:
    values = [quoted(value) for value in condition.values]
    return f"{condition.path} == {values[0]}" if len(values) == 1 else f"{condition.path} IN ({', '.join(values)})"


def _rows(rows: Rows) -> list[str]:
    order = "ASC" if rows.oldest else "DESC"
    columns = ", ".join(["@timestamp", *(field.path for field in rows.columns)])
    return [f"SORT @timestamp {order}, event.sequence {order}", f"LIMIT {rows.limit}", f"KEEP {columns}"]


def _counts(counts: Counts) -> list[str]:
    if counts.per_day:
        return ["STATS n = COUNT(*) BY day = DATE_TRUNC(1 day, @timestamp)", "SORT day ASC"]
    by = f" BY {', '.join(field.path for field in counts.by)}" if counts.by else ""
    if counts.share is None:
        return [f"STATS n = COUNT(*){by}", *(["SORT n DESC", f"LIMIT {counts.limit}"] if by else [])]
    lines = [f"STATS n = COUNT(*), hit = COUNT(*) WHERE {_all(counts.share.where)}{by}", *_kept(counts.share)]
    lines.append("EVAL percent = ROUND(100.0 * hit / n, 1)")
    return [*lines, "SORT n DESC", f"LIMIT {counts.limit}"] if by else lines


def _all(conditions: Sequence[Condition]) -> str:
    return " AND ".join(map(_condition, conditions))


def _kept(share: Share) -> list[str]:
    match share.keep:
        case "all":
            return ["WHERE hit == n"]
        case "some":
            return ["WHERE hit > 0 AND hit < n"]
        case _:
            return []
