"""SPL (Splunk), for records that came as JSON events: names as they are, a list is a field whose name ends with `{}`."""

from __future__ import annotations

from collections.abc import Sequence

from tools.boards.kibana_query import quoted
from tools.boards.model import Condition, Counts, Period, Query, Rows, present

from esa_tls.core.fields import Field

INDEX = "esa_tls"
"""Stands for the reader's own index."""


def text(query: Query) -> str:
    """The whole search, a line for each command."""
    kinds = [quoted(kind) for kind in query.kinds]
    kind = f"cisco_esa.record={kinds[0]}" if len(kinds) == 1 else f"cisco_esa.record IN ({', '.join(kinds)})"
    search = " ".join([f"index={INDEX}", *_period(query.period), kind, *map(_search, present(query))])
    commands = _rows(query.answer) if isinstance(query.answer, Rows) else _counts(query.answer)
    return "\n| ".join([search, *commands])


def _period(period: Period | None) -> list[str]:
    if period is None:
        return []
    return [f"earliest=-{period.days}d@d", "latest=@d"] if period.whole else [f"earliest=-{period.days}d"]


def _rows(rows: Rows) -> list[str]:
    sign = "" if rows.oldest else "-"
    columns = " ".join(["_time", *(_listed(field) for field in rows.columns)])
    return [f"sort {rows.limit} {sign}_time {sign}event.sequence", f"table {columns}"]


def _counts(counts: Counts) -> list[str]:
    if counts.per_day:
        return ["timechart span=1d count AS n"]
    by = " BY " + " ".join(_listed(field) for field in counts.by) if counts.by else ""
    if counts.share is None:
        return [f"stats count AS n{by}", *([f"sort {counts.limit} -n"] if by else [])]
    commands = [f"stats count AS n count(eval({_all(counts.share.where)})) AS hit{by}"]
    match counts.share.keep:
        case "all":
            commands.append("where hit=n")
        case "some":
            commands.append("where hit>0 AND hit<n")
    commands.append("eval percent=round(100*hit/n, 1)")
    return [*commands, f"sort {counts.limit} -n"] if by else commands


def name(field: Field) -> str:
    """The field's name in Splunk."""
    return f"{field.path}{{}}" if field.many else field.path


def _listed(field: Field) -> str:
    return f'"{name(field)}"' if field.many else field.path


def _search(condition: Condition) -> str:
    """A condition of the first command, where a name stands as it is."""
    field = _listed(condition.field)
    match condition.operator:
        case "exists":
            return f"{field}=*"
        case "missing":
            return f"NOT {field}=*"
        case "in" | "not in":
            values = [quoted(value) for value in condition.values]
            text = f"{field}={values[0]}" if len(values) == 1 else f"{field} IN ({', '.join(values)})"
            return text if condition.operator == "in" else f"NOT {text}"
        case operator:
            return f"{field}{operator}{condition.value}"


def _all(conditions: Sequence[Condition]) -> str:
    return " AND ".join(map(_eval, conditions))


def _eval(condition: Condition) -> str:
    """A condition of `eval`, where a name with a dot stands in single quotes, and every value of a JSON event but a number is text."""
    field = f"'{name(condition.field)}'"
    match condition.operator:
        case "exists":
            return f"isnotnull({field})"
        case "missing":
            return f"isnull({field})"
        case "in" | "not in":
            values = [quoted(value) if not isinstance(value, bool) else f'"{quoted(value)}"' for value in condition.values]
            text = f"{field}={values[0]}" if len(values) == 1 else f"in({field}, {', '.join(values)})"
            return text if condition.operator == "in" else f"(isnull({field}) OR NOT {text})"
        case operator:
            return f"{field}{operator}{condition.value}"
