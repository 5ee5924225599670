"""What dashboards ask Elasticsearch and OpenSearch, taken out of the committed files, as requests that a store answers.

Grafana: a Lucene query (`query_string`), buckets inside one another, and a count; `raw_data` asks for documents. Lens (Kibana): columns
that are buckets or a count, and KQL. Visualizations (OpenSearch Dashboards): aggregations, and KQL. Saved searches: columns, sort, KQL.
That is how their manuals say these become requests; the interval `auto` becomes a day here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.boards.kql import dsl

FOLDER = Path(__file__).parents[2] / "deploy" / "dashboards"

Request = dict[str, Any]


def grafana_panels(name: str) -> list[dict[str, Any]]:
    """The panels of a committed dashboard, without its headings."""
    panels = json.loads((FOLDER / name).read_text(encoding="utf-8"))["panels"]
    return [panel for panel in panels if panel["type"] != "row"]


def saved_objects(name: str) -> list[dict[str, Any]]:
    """The objects of a committed file, what is JSON inside them read too."""
    objects = [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]
    for found in objects:
        attributes = found["attributes"]
        for key in ("visState", "uiStateJSON", "panelsJSON", "optionsJSON"):
            if key in attributes:
                attributes[key] = json.loads(attributes[key])
        meta = attributes.get("kibanaSavedObjectMeta")
        if meta is not None:
            meta["searchSourceJSON"] = json.loads(meta["searchSourceJSON"])
    return objects


# -- Grafana ---------------------------------------------------------------------------------------------------------------------
def of_grafana(target: Mapping[str, Any], *, appliances: str, days: int, now: str) -> Request:
    """The request of one target; `appliances` stands in place of the variable."""
    text = target["query"].replace("$appliance", appliances)
    assert "$" not in text, text
    period = {"range": {"@timestamp": {"gte": f"{now}||-{days}d", "lte": now}}}
    query = {"bool": {"filter": [period, {"query_string": {"query": text, "analyze_wildcard": True}}]}}
    (metric,) = target["metrics"]
    if metric["type"] == "raw_data":
        assert not target["bucketAggs"]
        order = metric["settings"].get("order", "desc")
        return {"size": int(metric["settings"]["size"]), "query": query, "sort": [{"@timestamp": order}]}
    assert metric["type"] == "count"
    request: Request = {"size": 0, "query": query}
    inside = request
    for bucket in target["bucketAggs"]:
        inside["aggs"] = {bucket["id"]: _grafana_bucket(bucket)}
        inside = inside["aggs"][bucket["id"]]
    return request


def _grafana_bucket(bucket: Mapping[str, Any]) -> Request:
    settings = bucket["settings"]
    if bucket["type"] == "date_histogram":
        assert settings["interval"] == "auto"
        return {"date_histogram": {"field": bucket["field"], "fixed_interval": "1d", "min_doc_count": int(settings["min_doc_count"])}}
    assert bucket["type"] == "terms"
    return {
        "terms": {
            "field": bucket["field"],
            "size": int(settings["size"]),
            "order": {settings["orderBy"]: settings["order"]},
            "min_doc_count": int(settings["min_doc_count"]),
        }
    }


# -- saved objects ---------------------------------------------------------------------------------------------------------------
def _kibana(query: Mapping[str, Any], *, days: int, now: str) -> Request:
    assert query["language"] == "kuery"
    period = {"range": {"@timestamp": {"gte": f"{now}||-{days}d", "lte": now}}}
    return {"bool": {"filter": [period, dsl(query["query"])]}}


def of_search(attributes: Mapping[str, Any], *, days: int, now: str) -> Request:
    """The request of a saved search."""
    (sort,) = attributes["sort"]
    query = attributes["kibanaSavedObjectMeta"]["searchSourceJSON"]["query"]
    return {"size": 500, "query": _kibana(query, days=days, now=now), "sort": [{sort[0]: sort[1]}], "_source": attributes["columns"]}


def of_lens(attributes: Mapping[str, Any], *, days: int, now: str) -> Request:
    """The request of a Lens panel: its bucket columns inside one another, in their order, and a count."""
    (layer,) = attributes["state"]["datasourceStates"]["formBased"]["layers"].values()
    assert set(layer["columnOrder"]) == set(layer["columns"])
    request: Request = {"size": 0, "query": _kibana(attributes["state"]["query"], days=days, now=now), "track_total_hits": True}
    inside = request
    for name in layer["columnOrder"]:
        column = layer["columns"][name]
        if column["isBucketed"]:
            inside["aggs"] = {name: _lens_bucket(column, layer["columns"])}
            inside = inside["aggs"][name]
        else:
            assert (column["operationType"], column["sourceField"]) == ("count", "___records___")
    return request


def _lens_bucket(column: Mapping[str, Any], columns: Mapping[str, Any]) -> Request:
    params = column["params"]
    match column["operationType"]:
        case "date_histogram":
            assert params["interval"] == "auto"
            return {"date_histogram": {"field": column["sourceField"], "fixed_interval": "1d", "min_doc_count": 0}}
        case "filters":
            return {"filters": {"filters": {item["label"]: dsl(item["input"]["query"]) for item in params["filters"]}}}
        case "terms":
            assert columns[params["orderBy"]["columnId"]]["operationType"] == "count"
            order = {"_count": params["orderDirection"]}
            fields = [column["sourceField"], *params.get("secondaryFields", ())]
            if len(fields) == 1:
                return {"terms": {"field": fields[0], "size": params["size"], "order": order}}
            return {"multi_terms": {"terms": [{"field": field} for field in fields], "size": params["size"], "order": order}}
    raise AssertionError(column["operationType"])


def of_visualization(attributes: Mapping[str, Any], *, days: int, now: str) -> Request:
    """The request of a visualization: its buckets inside one another, in their order, and a count."""
    query = attributes["kibanaSavedObjectMeta"]["searchSourceJSON"]["query"]
    request: Request = {"size": 0, "query": _kibana(query, days=days, now=now), "track_total_hits": True}
    inside = request
    for aggregation in attributes["visState"]["aggs"]:
        assert aggregation["enabled"]
        if aggregation["schema"] != "metric":
            inside["aggs"] = {aggregation["id"]: _visualization_bucket(aggregation)}
            inside = inside["aggs"][aggregation["id"]]
        else:
            assert (aggregation["id"], aggregation["type"]) == ("1", "count")
    return request


def _visualization_bucket(aggregation: Mapping[str, Any]) -> Request:
    params = aggregation["params"]
    match aggregation["type"]:
        case "date_histogram":
            assert params["interval"] == "auto"
            return {"date_histogram": {"field": params["field"], "fixed_interval": "1d", "min_doc_count": params["min_doc_count"]}}
        case "filters":
            return {"filters": {"filters": {item["label"]: dsl(item["input"]["query"]) for item in params["filters"]}}}
        case "terms":
            assert params["orderBy"] == "1"
            return {"terms": {"field": params["field"], "size": params["size"], "order": {"_count": params["order"]}}}
    raise AssertionError(aggregation["type"])


# -- answers ---------------------------------------------------------------------------------------------------------------------
def counts_of(answer: Mapping[str, Any], request: Request) -> dict[tuple[Any, ...], int]:
    """The numbers of an answer by the keys of its buckets, in their order; a time is its day. Empty buckets are left out."""
    if "aggs" not in request:
        return {(): answer["hits"]["total"]["value"]}
    return {key: n for key, n in _buckets(answer["aggregations"], request) if n}


def _buckets(answers: Mapping[str, Any], request: Request) -> Iterator[tuple[tuple[Any, ...], int]]:
    ((name, asked),) = request["aggs"].items()
    buckets = answers[name]["buckets"]
    for key, bucket in buckets.items() if isinstance(buckets, dict) else ((None, bucket) for bucket in buckets):
        head = _key(key, bucket, asked)
        if "aggs" in asked:
            yield from ((head + rest, n) for rest, n in _buckets(bucket, asked))
        else:
            yield head, bucket["doc_count"]


def _key(label: str | None, bucket: Mapping[str, Any], asked: Request) -> tuple[Any, ...]:
    if label is not None:
        return (label,)
    if "date_histogram" in asked:
        return (bucket["key_as_string"][:10],)
    if isinstance(bucket["key"], list):
        return tuple(bucket["key"])
    return (bucket["key_as_string"] if "key_as_string" in bucket else bucket["key"],)
