"""The dashboard of the sidecar's own metrics for Grafana with Prometheus."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import dashboard, prometheus
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import prometheus as shapes
from tools.boards import grafana
from tools.boards.panels import MetricBoard, MetricPanel, promql

from esa_tls.telemetry import BUILD, BY_NAME

PLUGIN = "prometheus"

_SOURCE = model.DataSourceRef(type_val=PLUGIN, uid=grafana.DATASOURCE)


def built(board: MetricBoard) -> dashboard.Dashboard:
    """It. Raises SourceError."""
    build = BY_NAME[BUILD].prometheus_name
    variables: list[Builder[model.VariableModel]] = [
        grafana.source_variable(PLUGIN),
        grafana.chosen("job", "Job", _values(f"label_values({build}, job)"), ".+", PLUGIN),
        grafana.chosen("instance", "Sidecar", _values(f'label_values({build}{{job=~"$job"}}, instance)'), ".+", PLUGIN),
    ]
    made = grafana.frame(board.uid, board.title, board.description, variables)
    for number, (item, place) in enumerate(grafana.places((section.title, section.panels) for section in board.sections), 1):
        if isinstance(item, grafana.Heading):
            made = made.with_row(grafana.heading(item.title, place).id(number))
        else:
            made = made.with_panel(_panel(item).id(number).title(item.title).description(item.question).datasource(_SOURCE).grid_pos(place))
    return made


def _values(query: str) -> dict[str, object]:
    return {"query": query, "refId": "values", "qryType": 5}


def _panel(panel: MetricPanel) -> Any:
    if panel.show == "series":
        return grafana.curves(_targets(panel), stacked=False, unit=panel.unit)
    if panel.show == "number":
        limits = grafana.limits(panel.good, share=False, warn=panel.warn, bad=panel.bad)
        return grafana.number(_targets(panel), "lastNotNull", panel.unit, limits, panel.decimals)
    names = {"shape": "shape", "Value": grafana.COUNT}
    return grafana.groups_table(_targets(panel), [grafana.arranged(names, hidden=["Time"])])


def _targets(panel: MetricPanel) -> list[grafana.Target]:
    return [
        _target(promql(query, panel.id), panel).ref_id("ABCDEFGHIJ"[number]).legend_format(query.legend)
        for number, query in enumerate(panel.queries)
    ]


def _target(expression: str, panel: MetricPanel) -> prometheus.Dataquery:
    target = prometheus.Dataquery().datasource(_SOURCE).expr(expression)
    match panel.show:
        case "series":
            return target.range()
        case "number":
            return target.instant()
        case "table":
            return target.instant().format(shapes.PromQueryFormat.TABLE)
