"""The dashboard of records for Kibana 8.8 and newer: Lens panels in the dashboard itself, tables of records as saved searches.

The form is that of 8.8, which newer versions bring up to date when they import it. Appliance: a control above the panels.
"""

from __future__ import annotations

from typing import Any

from tools.boards import grafana
from tools.boards import saved_objects as saved
from tools.boards.kibana_query import kql, kql_filter
from tools.boards.model import Counts, Query, Rows, Share
from tools.boards.panels import Board, Panel
from tools.boards.saved_objects import SavedObject

from esa_tls.core.fields import Field

_CORE = "8.8.0"
_VERSIONS = {"index-pattern": "8.0.0", "search": "8.0.0", "dashboard": "8.7.0"}
"""The form of each type."""

LAYER = "records"
COUNT = "count"
TIME = "time"
SPLIT = "split"

_CONTROL = "appliance"


def objects(board: Board) -> list[SavedObject]:
    """All of them, each before those that refer to it. Raises SourceError."""
    view: SavedObject = {
        "type": "index-pattern",
        "id": saved.VIEW,
        "attributes": {"title": saved.INDEX, "name": "esa-tls records", "timeFieldName": "@timestamp"},
        "references": [],
    }
    searches: list[SavedObject] = []
    panels: list[dict[str, Any]] = []
    references = [saved.reference(f"controlGroup_{_CONTROL}:optionsListDataView", "index-pattern", saved.VIEW)]
    for panel, grid in saved.panels_on_the_grid(board):
        query, name = panel.query, saved.object_id(panel)
        placed: dict[str, Any] = {"panelIndex": name, "gridData": grid, "title": panel.title, "version": _VERSIONS["dashboard"]}
        if isinstance(query.answer, Rows):
            searches.append(saved.search(panel, query, query.answer))
            panels.append(placed | {"type": "search", "panelRefName": f"panel_{name}", "embeddableConfig": {"enhancements": {}}})
            references.append(saved.reference(f"{name}:panel_{name}", "search", name))
        else:
            lens = _lens(panel, query, query.answer)
            panels.append(placed | {"type": "lens", "embeddableConfig": {"attributes": lens, "enhancements": {}}})
            references.append(saved.reference(f"{name}:{_layer_reference()['name']}", "index-pattern", saved.VIEW))
    attributes = saved.dashboard_attributes(board, panels) | {"controlGroupInput": _controls()}
    dashboard: SavedObject = {"type": "dashboard", "id": board.uid, "attributes": attributes, "references": references}
    return [
        {**made, "coreMigrationVersion": _CORE, "typeMigrationVersion": _VERSIONS[made["type"]], "managed": False}
        for made in (view, *searches, dashboard)
    ]


def _controls() -> dict[str, str]:
    control = {
        "type": "optionsListControl",
        "order": 0,
        "grow": False,
        "width": "medium",
        "explicitInput": {"id": _CONTROL, "fieldName": "cisco_esa.appliance", "title": "Appliance", "enhancements": {}},
    }
    ignored = {"ignoreFilters": False, "ignoreQuery": False, "ignoreTimerange": False, "ignoreValidations": False}
    return {
        "controlStyle": "oneLine",
        "chainingSystem": "HIERARCHICAL",
        "panelsJSON": saved.inner({_CONTROL: control}),
        "ignoreParentSettingsJSON": saved.inner(ignored),
    }


def _layer_reference() -> dict[str, str]:
    return saved.reference(f"indexpattern-datasource-layer-{LAYER}", "index-pattern", saved.VIEW)


def _lens(panel: Panel, query: Query, counts: Counts) -> dict[str, Any]:
    """A panel as Lens keeps it: columns (what is counted, and by what), and how they are shown."""
    columns: dict[str, Any] = {}
    if panel.over_time:
        columns = {SPLIT: _terms(counts.by, counts.limit), TIME: _steps()}
        kind, shown = "lnsXY", _bars()
    elif counts.by:
        columns = {f"by{number}": _terms((field,), counts.limit) for number, field in enumerate(counts.by)}
        kind, shown = "lnsDatatable", _table([*columns, COUNT])
    elif counts.share is not None:
        columns = {SPLIT: _parts(counts.share)}
        kind, shown = "lnsPie", _donut()
    else:
        kind, shown = "lnsMetric", {"layerId": LAYER, "layerType": "data", "metricAccessor": COUNT}
    columns[COUNT] = {
        "label": "count",
        "customLabel": True,
        "dataType": "number",
        "operationType": "count",
        "isBucketed": False,
        "scale": "ratio",
        "sourceField": "___records___",
        "params": {"emptyAsNull": False},
    }
    layer = {"columnOrder": list(columns), "columns": columns, "incompleteColumns": {}, "sampling": 1}
    return {
        "title": panel.title,
        "description": panel.question,
        "type": "lens",
        "visualizationType": kind,
        "references": [_layer_reference()],
        "state": {
            "datasourceStates": {"formBased": {"layers": {LAYER: layer}}},
            "visualization": shown,
            "query": {"query": kql(query), "language": "kuery"},
            "filters": [],
            "internalReferences": [],
            "adHocDataViews": {},
        },
    }


def _terms(fields: tuple[Field, ...], limit: int) -> dict[str, Any]:
    """A column of values; several fields together make one."""
    first, *others = (field.path for field in fields)
    params: dict[str, Any] = {
        "size": limit,
        "orderBy": {"type": "column", "columnId": COUNT},
        "orderDirection": "desc",
        "otherBucket": False,
        "missingBucket": False,
        "parentFormat": {"id": "multi_terms" if others else "terms"},
    }
    if others:
        params["secondaryFields"] = others
    return {
        "label": ", ".join(map(grafana.label, fields)),
        "customLabel": True,
        "dataType": fields[0].type if fields[0].type in ("ip", "boolean") else "string",
        "operationType": "terms",
        "isBucketed": True,
        "scale": "ordinal",
        "sourceField": first,
        "params": params,
    }


def _steps() -> dict[str, Any]:
    return {
        "label": "@timestamp",
        "dataType": "date",
        "operationType": "date_histogram",
        "isBucketed": True,
        "scale": "interval",
        "sourceField": "@timestamp",
        "params": {"interval": "auto", "includeEmptyRows": True, "dropPartials": False},
    }


def _parts(share: Share) -> dict[str, Any]:
    hit = kql_filter(share.where)
    filters = [
        {"label": share.hit, "input": {"query": hit, "language": "kuery"}},
        {"label": share.rest, "input": {"query": f"not ({hit})", "language": "kuery"}},
    ]
    return {
        "label": f"{share.hit}, {share.rest}",
        "customLabel": True,
        "dataType": "string",
        "operationType": "filters",
        "isBucketed": True,
        "scale": "ordinal",
        "params": {"filters": filters},
    }


def _bars() -> dict[str, Any]:
    layer = {
        "layerId": LAYER,
        "layerType": "data",
        "seriesType": "bar_stacked",
        "position": "top",
        "showGridlines": False,
        "xAccessor": TIME,
        "splitAccessor": SPLIT,
        "accessors": [COUNT],
    }
    return {
        "legend": {"isVisible": True, "position": "right"},
        "valueLabels": "hide",
        "fittingFunction": "None",
        "axisTitlesVisibilitySettings": {"x": False, "yLeft": False, "yRight": False},
        "preferredSeriesType": "bar_stacked",
        "layers": [layer],
    }


def _table(columns: list[str]) -> dict[str, Any]:
    return {"layerId": LAYER, "layerType": "data", "columns": [{"columnId": name} for name in columns]}


def _donut() -> dict[str, Any]:
    layer = {
        "layerId": LAYER,
        "layerType": "data",
        "primaryGroups": [SPLIT],
        "metrics": [COUNT],
        "numberDisplay": "percent",
        "categoryDisplay": "default",
        "legendDisplay": "default",
        "nestedLegend": False,
    }
    return {"shape": "donut", "layers": [layer]}
