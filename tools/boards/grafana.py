"""What all Grafana dashboards have in common: frame, variables, places of panels, and their looks. Built with Grafana's Foundation SDK.

The model is that of Grafana 11.6, which newer versions read and bring up to date. The period is the dashboard's own time range; the data
source, the appliance and (for metrics) job and instance are variables.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

from grafana_foundation_sdk.builders import common, dashboard, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model
from tools.boards.panels import GRID, Good

from esa_tls.core.fields import Field

TAG = "esa-tls"

DATASOURCE = "${datasource}"
"""The data source that the reader has chosen."""

GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "#8e8e8e"

COLOURS = {
    # outcomes of connections
    "success": GREEN,
    "none": ORANGE,
    "failed": RED,
    "unknown": GREY,
    # postures of messages
    "encrypted": GREEN,
    "exposed": RED,
    "partial": ORANGE,
    "blocked": BLUE,
    "undelivered": "purple",
    "continued": "super-light-blue",
    # evidence
    "line": GREEN,
    "absence": BLUE,
    "absence_lossy": ORANGE,
    "gap": GREY,
}
"""Of series that are one of these words."""

Target = Builder[Dataquery]
Transformation = model.DataTransformerConfig


class Placed(Protocol):
    """What has a size on the grid."""

    @property
    def width(self) -> int:
        """Columns."""

    @property
    def height(self) -> int:
        """Rows."""


class Heading(NamedTuple):
    """The title above some panels."""

    title: str


P = TypeVar("P", bound=Placed)


def places(sections: Iterable[tuple[str, Sequence[P]]]) -> Iterator[tuple[Heading | P, model.GridPos]]:
    """Headings and panels with their places: from left to right, a new line where one is full."""
    y = 0
    for title, panels in sections:
        yield Heading(title), model.GridPos(h=1, w=GRID, x=0, y=y)
        y, x, line = y + 1, 0, 0
        for panel in panels:
            if x + panel.width > GRID:
                x, y, line = 0, y + line, 0
            yield panel, model.GridPos(h=panel.height, w=panel.width, x=x, y=y)
            x, line = x + panel.width, max(line, panel.height)
        y += line


def frame(uid: str, title: str, description: str, variables: Sequence[Builder[model.VariableModel]]) -> dashboard.Dashboard:
    """An empty dashboard."""
    others = dashboard.DashboardLink("esa-tls").type(model.DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(True).keep_time(True)
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .editable()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time("now-24h", "now")
        .timezone("browser")
        .refresh("")
        .links([others])
        .variables(list(variables))
    )


def heading(title: str, place: model.GridPos) -> dashboard.Row:
    """A row with its title."""
    return dashboard.Row(title).grid_pos(place)


def source_variable(plugin: str) -> dashboard.DatasourceVariable:
    """The choice of a data source."""
    return dashboard.DatasourceVariable("datasource").label("Data source").type(plugin)


def chosen(name: str, label: str, query: str | dict[str, object], every: str, plugin: str) -> dashboard.QueryVariable:
    """The choice of one, several or all values; `every` stands in queries for all."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(model.DataSourceRef(type_val=plugin, uid=DATASOURCE))
        .query(query)
        .multi(True)
        .include_all(True)
        .all_value(every)
        .current(model.VariableOption(text="All", value="$__all", selected=True))
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )


# -- panels ----------------------------------------------------------------------------------------------------------------------
def number(targets: Sequence[Target], calc: str, unit: str, limits: Sequence[tuple[float, str]], decimals: int | None = None) -> stat.Panel:
    """One large number for each series. `limits`: from where on which colour, the first without a beginning."""
    panel = (
        stat.Panel()
        .targets(list(targets))
        .unit(unit)
        .no_value("0" if unit != "percentunit" else "no data")
        .reduce_options(common.ReduceDataOptions().calcs([calc]).values(False).fields(""))
        .graph_mode(looks.BigValueGraphMode.AREA if calc == "sum" else looks.BigValueGraphMode.NONE)
        .color_mode(looks.BigValueColorMode.VALUE)
        .text_mode(looks.BigValueTextMode.AUTO)
        .thresholds(thresholds(limits))
        .color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    )
    return panel if decimals is None else panel.decimals(decimals)


def thresholds(limits: Sequence[tuple[float, str]]) -> dashboard.ThresholdsConfig:
    """From where on which colour."""
    steps = [model.Threshold(value=None if at == 0 else value, color=colour) for at, (value, colour) in enumerate(limits)]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


def limits(good: Good | None, *, share: bool, warn: float | None = None, bad: float | None = None) -> list[tuple[float, str]]:
    """The colours of a number."""
    if good is None:
        return [(0, BLUE)]
    if good == "high":
        return [(0, RED), (0.8 if warn is None else warn, ORANGE), (0.95 if bad is None else bad, GREEN)]
    first = (0.01 if share else 1) if warn is None else warn
    last = (0.05 if share else None) if bad is None else bad
    coloured = [(0.0, GREEN), (first, ORANGE), *([(last, RED)] if last is not None else [])]
    return [(0, GREEN), (first, RED)] if last == first else coloured


def curves(targets: Sequence[Target], *, stacked: bool, unit: str = "short") -> timeseries.Panel:
    """Series over time: stacked bars of counts, or lines. Series named after an outcome have its colour."""
    panel = (
        timeseries.Panel()
        .targets(list(targets))
        .unit(unit)
        .min(0)
        .draw_style(looks.GraphDrawStyle.BARS if stacked else looks.GraphDrawStyle.LINE)
        .fill_opacity(70 if stacked else 10)
        .line_width(1)
        .show_points(looks.VisibilityMode.NEVER)
        .stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL if stacked else looks.StackingMode.NONE).group("A"))
        .legend(
            common.VizLegendOptions()
            .display_mode(looks.LegendDisplayMode.LIST)
            .placement(looks.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["sum"] if stacked else [])
        )
        .tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING))
    )
    if stacked:
        for word, colour in COLOURS.items():
            panel = panel.override_by_name(word, [_fixed(colour)])
    return panel


def _fixed(colour: str) -> model.DynamicConfigValue:
    return model.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})


COUNT = "count"
"""The column of numbers."""


def groups_table(targets: Sequence[Target], transformations: Sequence[Transformation]) -> table.Panel:
    """Groups and their numbers, largest first, with a bar."""
    bar = [
        model.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}),
        model.DynamicConfigValue(id_val="color", value={"mode": "continuous-BlPu"}),
        model.DynamicConfigValue(id_val="min", value=0),
    ]
    return (
        table.Panel()
        .targets(list(targets))
        .transformations(list(transformations))
        .sort_by([common.TableSortByFieldState().display_name(COUNT).desc(True)])
        .override_by_name(COUNT, bar)
    )


def rows_table(targets: Sequence[Target], transformations: Sequence[Transformation], time: str) -> table.Panel:
    """Records, the newest first; `time`: the column of their time."""
    return (
        table.Panel()
        .targets(list(targets))
        .transformations(list(transformations))
        .filterable(True)
        .sort_by([common.TableSortByFieldState().display_name(time).desc(True)])
        .override_by_name(time, [model.DynamicConfigValue(id_val="custom.width", value=170)])
    )


def label(field: Field) -> str:
    """A field's name in tables: without what all have."""
    return field.path.removeprefix("cisco_esa.")


def only(names: Sequence[str]) -> Transformation:
    """Drop all columns but these."""
    return Transformation(id_val="filterFieldsByName", options={"include": {"names": list(names)}})


def arranged(names: dict[str, str], hidden: Sequence[str] = ()) -> Transformation:
    """Columns in this order and called so."""
    return Transformation(
        id_val="organize",
        options={
            "excludeByName": dict.fromkeys(hidden, True),
            "indexByName": {name: at for at, name in enumerate(names)},
            "renameByName": names,
        },
    )


def text(built: dashboard.Dashboard) -> str:
    """The file."""
    made = json.loads(json.dumps(built.build(), cls=JSONEncoder))
    for variable in made["templating"]["list"]:
        # The SDK gives every variable the defaults of one that chooses an interval, which the schema knows of no other.
        for name in ("auto", "auto_count", "auto_min"):
            variable.pop(name, None)
    return json.dumps(made, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
