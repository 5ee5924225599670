"""The dashboard of records for OpenSearch Dashboards: visualizations of aggregations, saved searches, and a control for the appliance.

The form is that of the last version before OpenSearch Dashboards went its own way (7.10), which all of its versions read.
"""

from __future__ import annotations

from typing import Any

from tools.boards import grafana
from tools.boards import saved_objects as saved
from tools.boards.kibana_query import kql_filter
from tools.boards.model import Counts, Query, Rows, Share
from tools.boards.panels import Board, Panel
from tools.boards.saved_objects import SavedObject

from esa_tls.core.fields import Field

_VERSIONS = {"index-pattern": "7.6.0", "search": "7.9.3", "visualization": "7.10.0", "dashboard": "7.9.3"}
_PANEL_VERSION = "7.10.0"
_CONTROL = "esa-tls-appliance"
_CONTROL_HEIGHT = 5


def objects(board: Board) -> list[SavedObject]:
    """All of them, each before those that refer to it. Raises SourceError."""
    view: SavedObject = {
        "type": "index-pattern",
        "id": saved.VIEW,
        "attributes": {"title": saved.INDEX, "timeFieldName": "@timestamp"},
        "references": [],
    }
    others = [_control()]
    panels = [_placed(0, {"x": 0, "y": 0, "w": saved.COLUMNS // 2, "h": _CONTROL_HEIGHT, "i": _CONTROL})]
    references = [saved.reference("panel_0", "visualization", _CONTROL)]
    for number, (panel, grid) in enumerate(saved.panels_on_the_grid(board), 1):
        query = panel.query
        if isinstance(query.answer, Rows):
            others.append(saved.search(panel, query, query.answer))
        else:
            others.append(_visualization(panel, query, query.answer))
        panels.append(_placed(number, {**grid, "y": grid["y"] + _CONTROL_HEIGHT}))
        references.append(saved.reference(f"panel_{number}", others[-1]["type"], others[-1]["id"]))
    attributes = saved.dashboard_attributes(board, panels) | {"hits": 0}
    dashboard: SavedObject = {"type": "dashboard", "id": board.uid, "attributes": attributes, "references": references}
    for search in others:
        if search["type"] == "search":
            search["attributes"] |= {"hits": 0, "version": 1}
    return [{**made, "migrationVersion": {made["type"]: _VERSIONS[made["type"]]}} for made in (view, *others, dashboard)]


def _placed(number: int, grid: dict[str, Any]) -> dict[str, Any]:
    return {
        "panelIndex": grid["i"],
        "gridData": grid,
        "version": _PANEL_VERSION,
        "panelRefName": f"panel_{number}",
        "embeddableConfig": {},
    }


def _control() -> SavedObject:
    """The choice of appliances."""
    control = {
        "id": _CONTROL,
        "fieldName": "cisco_esa.appliance",
        "parent": "",
        "label": "Appliance",
        "type": "list",
        "options": {"type": "terms", "multiselect": True, "dynamicOptions": True, "size": 50, "order": "desc"},
        "indexPatternRefName": "control_0_index_pattern",
    }
    params = {"controls": [control], "updateFiltersOnChange": True, "useTimeFilter": False, "pinFilters": False}
    state = {"title": "esa-tls: Appliance", "type": "input_control_vis", "params": params, "aggs": []}
    return {
        "type": "visualization",
        "id": _CONTROL,
        "attributes": {
            "title": "esa-tls: Appliance",
            "description": "",
            "visState": saved.inner(state),
            "uiStateJSON": "{}",
            "version": 1,
            "kibanaSavedObjectMeta": {"searchSourceJSON": saved.inner({"query": {"query": "", "language": "kuery"}, "filter": []})},
        },
        "references": [saved.reference("control_0_index_pattern", "index-pattern", saved.VIEW)],
    }


def _visualization(panel: Panel, query: Query, counts: Counts) -> SavedObject:
    title = f"esa-tls: {panel.title}"
    kind, params, aggregations = _state(panel, counts)
    state = {"title": title, "type": kind, "params": params, "aggs": [_agg("1", "count", "metric", {}), *aggregations]}
    return {
        "type": "visualization",
        "id": saved.object_id(panel),
        "attributes": {
            "title": title,
            "description": panel.question,
            "visState": saved.inner(state),
            "uiStateJSON": saved.inner({"vis": {"colors": _COLOURS}} if panel.over_time and len(counts.by) == 1 else {}),
            "version": 1,
            "kibanaSavedObjectMeta": saved.source(query),
        },
        "references": [saved.view_reference()],
    }


_COLOURS = {
    word: {"green": "#54B399", "orange": "#D6BF57", "red": "#E7664C", "blue": "#6092C0", "purple": "#9170B8"}.get(colour, "#98A2B3")
    for word, colour in grafana.COLOURS.items()
}


def _state(panel: Panel, counts: Counts) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    """(type, how it is shown, what is counted by)."""
    if panel.over_time:
        time = {"field": "@timestamp", "interval": "auto", "drop_partials": False, "min_doc_count": 1, "extended_bounds": {}}
        groups = [_terms(str(number), "group", field, counts.limit) for number, field in enumerate(counts.by, 3)]
        return "histogram", _bars(), [_agg("2", "date_histogram", "segment", time), *groups]
    if counts.by:
        groups = [_terms(str(number), "bucket", field, counts.limit) for number, field in enumerate(counts.by, 2)]
        return "table", _table(), groups
    if counts.share is not None:
        return "pie", _donut(), [_agg("2", "filters", "segment", {"filters": _parts(counts.share)})]
    return "metric", _number(), []


def _agg(number: str, kind: str, schema: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"id": number, "enabled": True, "type": kind, "schema": schema, "params": params}


def _terms(number: str, schema: str, field: Field, limit: int) -> dict[str, Any]:
    params = {
        "field": field.path,
        "orderBy": "1",
        "order": "desc",
        "size": limit,
        "otherBucket": False,
        "otherBucketLabel": "Other",
        "missingBucket": False,
        "missingBucketLabel": "Missing",
        "customLabel": grafana.label(field),
    }
    return _agg(number, "terms", schema, params)


def _parts(share: Share) -> list[dict[str, Any]]:
    hit = kql_filter(share.where)
    return [
        {"input": {"query": text, "language": "kuery"}, "label": label} for text, label in ((hit, share.hit), (f"not ({hit})", share.rest))
    ]


def _bars() -> dict[str, Any]:
    series = {
        "show": True,
        "type": "histogram",
        "mode": "stacked",
        "data": {"label": "Count", "id": "1"},
        "valueAxis": "ValueAxis-1",
        "drawLinesBetweenPoints": True,
        "lineWidth": 2,
        "showCircles": True,
    }
    x = {
        "id": "CategoryAxis-1",
        "type": "category",
        "position": "bottom",
        "show": True,
        "style": {},
        "scale": {"type": "linear"},
        "labels": {"show": True, "filter": True, "truncate": 100},
        "title": {},
    }
    y = {
        "id": "ValueAxis-1",
        "name": "LeftAxis-1",
        "type": "value",
        "position": "left",
        "show": True,
        "style": {},
        "scale": {"type": "linear", "mode": "normal"},
        "labels": {"show": True, "rotate": 0, "filter": False, "truncate": 100},
        "title": {"text": "Count"},
    }
    return {
        "type": "histogram",
        "grid": {"categoryLines": False},
        "categoryAxes": [x],
        "valueAxes": [y],
        "seriesParams": [series],
        "addTooltip": True,
        "addLegend": True,
        "legendPosition": "right",
        "times": [],
        "addTimeMarker": False,
        "labels": {"show": False},
        "thresholdLine": {"show": False, "value": 10, "width": 1, "style": "full", "color": "#E7664C"},
    }


def _table() -> dict[str, Any]:
    return {
        "perPage": 10,
        "showPartialRows": False,
        "showMetricsAtAllLevels": False,
        "sort": {"columnIndex": None, "direction": None},
        "showTotal": False,
        "totalFunc": "sum",
        "percentageCol": "",
    }


def _donut() -> dict[str, Any]:
    labels = {"show": True, "values": True, "last_level": True, "truncate": 100}
    return {"type": "pie", "addTooltip": True, "addLegend": True, "legendPosition": "right", "isDonut": True, "labels": labels}


def _number() -> dict[str, Any]:
    metric = {
        "percentageMode": False,
        "useRanges": False,
        "colorSchema": "Green to Red",
        "metricColorMode": "None",
        "colorsRange": [{"from": 0, "to": 10000}],
        "labels": {"show": True},
        "invertColors": False,
        "style": {"bgFill": "#000", "bgColor": False, "labelColor": False, "subText": "", "fontSize": 40},
    }
    return {"type": "metric", "addTooltip": True, "addLegend": False, "metric": metric}
