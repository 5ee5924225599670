"""The dashboard of records for Grafana with Loki."""

from __future__ import annotations

from typing import Any

from grafana_foundation_sdk.builders import dashboard, loki
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model
from tools.boards import grafana, logql
from tools.boards.model import Counts, Query, Rows
from tools.boards.panels import Board, Panel

PLUGIN = "loki"

SELECTED = 'appliance=~"$appliance"'

_SOURCE = model.DataSourceRef(type_val=PLUGIN, uid=grafana.DATASOURCE)

_LAST = "Last *"
"""What the transformation `reduce` calls the last number of a series."""


def built(board: Board) -> dashboard.Dashboard:
    """It. Raises SourceError."""
    variables: list[Builder[model.VariableModel]] = [
        grafana.source_variable(PLUGIN),
        grafana.chosen(
            "appliance",
            "Appliance",
            {"label": "appliance", "refId": "appliance", "stream": f'{{service_name="{logql.SERVICE}"}}', "type": 1},
            ".+",
            PLUGIN,
        ),
    ]
    made = grafana.frame(f"{board.uid}-loki", f"{board.title} (Loki)", board.description, variables)
    for number, (item, place) in enumerate(grafana.places((section.title, section.panels) for section in board.sections), 1):
        if isinstance(item, grafana.Heading):
            made = made.with_row(grafana.heading(item.title, place).id(number))
        else:
            made = made.with_panel(_panel(item).id(number).title(item.title).description(item.question).datasource(_SOURCE).grid_pos(place))
    return made


def _panel(panel: Panel) -> Any:
    query = panel.query
    if isinstance(query.answer, Rows):
        return _rows(query, query.answer)
    if panel.over_time:
        legend = " ".join(f"{{{{{logql.name(field)}}}}}" for field in query.answer.by)
        return grafana.curves([_target(logql.over_time(query, "$__auto", SELECTED), "range").legend_format(legend)], stacked=True)
    if query.answer.by:
        return _groups(query, query.answer)
    limits = grafana.limits(panel.good, share=query.answer.share is not None)
    if query.answer.share is not None:
        return grafana.number([_target(logql.text(query, "$__range", SELECTED), "instant")], "lastNotNull", "percentunit", limits, 1)
    return grafana.number([_target(logql.over_time(query, "$__auto", SELECTED), "range").legend_format("")], "sum", "short", limits)


def _target(expression: str, kind: str) -> loki.Dataquery:
    return loki.Dataquery().ref_id("A").datasource(_SOURCE).expr(expression).query_type(kind)


def _groups(query: Query, counts: Counts) -> Any:
    names = {logql.name(field): grafana.label(field) for field in counts.by}
    transformations = [
        # An instant query returns a frame for each group: one row for each, its labels as columns.
        model.DataTransformerConfig(id_val="reduce", options={"labelsToFields": True, "reducers": ["lastNotNull"]}),
        grafana.arranged({**names, _LAST: grafana.COUNT}, hidden=["Field"]),
    ]
    return grafana.groups_table([_target(logql.text(query, "$__range", SELECTED), "instant")], transformations)


def _rows(query: Query, rows: Rows) -> Any:
    names = {"Time": "time"}
    for field in rows.columns:
        names["Line" if field.path == "event.original" else logql.name(field)] = grafana.label(field)
    transformations = [
        model.DataTransformerConfig(id_val="extractFields", options={"source": "labels", "replace": False, "keepTime": False}),
        grafana.only(list(names)),
        grafana.arranged(names),
    ]
    target = _target(logql.log_lines(query, SELECTED), "range").max_lines(rows.limit)
    return grafana.rows_table([target], transformations, "time")
