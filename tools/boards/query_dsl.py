"""The query DSL of OpenSearch and Elasticsearch: the target of `_search` and its body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tools.boards.kibana_query import date_math
from tools.boards.model import Condition, Counts, Query, Rows, Share, present

MOST_GROUPS = 10_000
"""So many are looked at where only some of them are kept."""

_RANGES = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}


def target(kinds: Sequence[str]) -> str:
    """The data streams of these kinds, of all namespaces."""
    return ",".join(f"logs-cisco_esa.{kind}-*" for kind in kinds)


def body(query: Query) -> dict[str, Any]:
    """What `POST /{target}/_search` is given."""
    filters = bool_of(present(query))
    if query.period is not None:
        start, end = date_math(query.period)
        filters["bool"].setdefault("filter", []).append({"range": {"@timestamp": {"gte": start, "lt": end}}})
    if isinstance(query.answer, Rows):
        return _rows(query.answer, filters)
    return _counts(query.answer, filters)


def bool_of(conditions: Sequence[Condition]) -> dict[str, Any]:
    """A `bool` query of conditions."""
    found: dict[str, list[dict[str, Any]]] = {}
    for condition in conditions:
        clause, is_not = _clause(condition)
        found.setdefault("must_not" if is_not else "filter", []).append(clause)
    return {"bool": found}


def _clause(condition: Condition) -> tuple[dict[str, Any], bool]:
    path, operator = condition.path, condition.operator
    if operator in ("exists", "missing"):
        return {"exists": {"field": path}}, operator == "missing"
    if operator in _RANGES:
        return {"range": {path: {_RANGES[operator]: condition.value}}}, False
    if len(condition.values) == 1:
        return {"term": {path: condition.value}}, operator == "not in"
    return {"terms": {path: list(condition.values)}}, operator == "not in"


def _rows(rows: Rows, filters: dict[str, Any]) -> dict[str, Any]:
    order = "asc" if rows.oldest else "desc"
    sort: list[dict[str, Any]] = [{"@timestamp": order}, {"event.sequence": order}]
    return {"size": rows.limit, "query": filters, "sort": sort, "_source": ["@timestamp", *(field.path for field in rows.columns)]}


def _counts(counts: Counts, filters: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"size": 0, "track_total_hits": True, "query": filters}
    if counts.per_day:
        found["aggs"] = {"day": {"date_histogram": {"field": "@timestamp", "calendar_interval": "day"}}}
    elif not counts.by:
        if counts.share is not None:
            found["aggs"] = {"hit": {"filter": bool_of(counts.share.where)}}
    else:
        keep = None if counts.share is None else counts.share.keep
        size = counts.limit if keep is None else MOST_GROUPS
        fields = [field.path for field in counts.by]
        groups: dict[str, Any] = (
            {"terms": {"field": fields[0], "size": size}}
            if len(fields) == 1
            else {"multi_terms": {"terms": [{"field": path} for path in fields], "size": size}}
        )
        if counts.share is not None:
            groups["aggs"] = _share(counts.share)
        found["aggs"] = {"groups": groups}
    return found


def _share(share: Share) -> dict[str, Any]:
    paths = {"hit": "hit._count", "all": "_count"}
    found: dict[str, Any] = {
        "hit": {"filter": bool_of(share.where)},
        "percent": {"bucket_script": {"buckets_path": paths, "script": "100.0 * params.hit / params.all"}},
    }
    if share.keep is not None:
        script = "params.hit == params.all" if share.keep == "all" else "params.hit > 0 && params.hit < params.all"
        found["kept"] = {"bucket_selector": {"buckets_path": paths, "script": script}}
    return found
