"""KQL (Kibana; OpenSearch Dashboards calls it DQL) and the Lucene query string (Grafana): both are filters, without counting."""

from __future__ import annotations

from collections.abc import Sequence

from tools.boards.model import Condition, Period, Query, Value, present

_COMPARES = (">", ">=", "<", "<=")


def kql(query: Query) -> str:
    """The filter of a query, with its period."""
    return " and ".join([*_kql_kinds(query.kinds), *map(_kql_of, present(query)), *_kql_period(query.period)])


def kql_filter(conditions: Sequence[Condition]) -> str:
    """Conditions alone: a part of a panel."""
    return " and ".join(map(_kql_of, conditions))


def _kql_kinds(kinds: tuple[str, ...]) -> list[str]:
    return [f"cisco_esa.record : {_kql_values(kinds)}"]


def _kql_of(condition: Condition) -> str:
    path = condition.path
    if condition.operator in _COMPARES:
        return f"{path} {condition.operator} {condition.value}"
    if condition.operator in ("exists", "missing"):
        return f"{path} : *" if condition.operator == "exists" else f"not {path} : *"
    text = f"{path} : {_kql_values(condition.values)}"
    return text if condition.operator == "in" else f"not {text}"


def _kql_values(values: Sequence[Value]) -> str:
    texts = [quoted(value) for value in values]
    return texts[0] if len(texts) == 1 else f"({' or '.join(texts)})"


def _kql_period(period: Period | None) -> list[str]:
    if period is None:
        return []
    start, end = date_math(period)
    return [f'@timestamp >= "{start}"', f'@timestamp < "{end}"']


def lucene(query: Query, *more: str) -> str:
    """The filter of a query without its period, for `query_string`; `more` is joined to it as it stands."""
    kinds = f"cisco_esa.record:{_lucene_values(query.kinds)}"
    return " AND ".join([kinds, *map(_lucene_of, present(query)), *more])


def lucene_filter(conditions: Sequence[Condition]) -> str:
    """Conditions alone."""
    return " AND ".join(map(_lucene_of, conditions))


def _lucene_of(condition: Condition) -> str:
    path = condition.path
    if condition.operator in _COMPARES:
        return f"{path}:{condition.operator}{condition.value}"
    if condition.operator in ("exists", "missing"):
        return f"_exists_:{path}" if condition.operator == "exists" else f"NOT _exists_:{path}"
    text = f"{path}:{_lucene_values(condition.values)}"
    return text if condition.operator == "in" else f"NOT {text}"


def _lucene_values(values: Sequence[Value]) -> str:
    texts = [quoted(value) for value in values]
    return texts[0] if len(texts) == 1 else f"({' OR '.join(texts)})"


def quoted(value: Value) -> str:
    """A value as KQL, Lucene, ES|QL, SPL, LogQL and LogsQL read it: text in double quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def date_math(period: Period) -> tuple[str, str]:
    """(from, up to but without) in the date math of Elasticsearch."""
    return (f"now-{period.days}d/d", "now/d") if period.whole else (f"now-{period.days}d", "now")
