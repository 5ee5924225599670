"""LogsQL (VictoriaLogs), for records that came by Loki's push protocol: names and values as in LogQL. The period is that of the request."""

from __future__ import annotations

from collections.abc import Sequence

from tools.boards.kibana_query import quoted
from tools.boards.logql import SERVICE, columns, name
from tools.boards.model import Condition, Counts, Query, Rows, Value, present


def text(query: Query) -> str:
    """The whole query, a line for each pipe."""
    kinds = f"kind={quoted(query.kinds[0])}" if len(query.kinds) == 1 else f"kind=~{quoted('|'.join(query.kinds))}"
    selector = "{" + f'service_name="{SERVICE}", {kinds}' + "}"
    filters = " ".join([selector, *map(_filter, present(query))])
    pipes = _rows(query.answer) if isinstance(query.answer, Rows) else _counts(query.answer)
    return "\n| ".join([filters, *pipes])


def _rows(rows: Rows) -> list[str]:
    fields = ", ".join(["_time", "_msg", *columns(rows)])
    return [f"sort by (_time{'' if rows.oldest else ' desc'}) limit {rows.limit}", f"fields {fields}"]


def _counts(counts: Counts) -> list[str]:
    if counts.per_day:
        return ["stats by (_time:1d) count() as n", "sort by (_time)"]
    by = f"by ({', '.join(name(field) for field in counts.by)}) " if counts.by else ""
    each = [f"unroll by ({name(field)})" for field in counts.by if field.many]
    if counts.share is None:
        return [*each, f"stats {by}count() as n", *([f"sort by (n desc) limit {counts.limit}"] if by else [])]
    pipes = [*each, f"stats {by}count() as n, count() if ({all_of(counts.share.where)}) as hit"]
    match counts.share.keep:
        case "all":
            pipes.append("filter hit:eq_field(n)")
        case "some":
            pipes.append("filter hit:>0 hit:lt_field(n)")
    pipes.append("math round(100 * hit / n, 0.1) as percent")
    return [*pipes, f"sort by (n desc) limit {counts.limit}"] if by else pipes


def all_of(conditions: Sequence[Condition]) -> str:
    """Conditions alone."""
    return " ".join(map(_filter, conditions))


def _filter(condition: Condition) -> str:
    field = name(condition.field)
    match condition.operator:
        case "exists":
            return f"{field}:*"
        case "missing":
            return f'{field}:""'
        case "in" | "not in":
            values = [_text(value) for value in condition.values]
            text = f"{field}:={values[0]}" if len(values) == 1 else f"{field}:in({', '.join(values)})"
            return text if condition.operator == "in" else f"!{text}"
        case operator:
            return f"{field}:{operator}{condition.value}"


def _text(value: Value) -> str:
    return quoted(value) if isinstance(value, str) else f'"{quoted(value)}"'
