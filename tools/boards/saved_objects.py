"""What saved objects of Kibana and of OpenSearch Dashboards have in common: one JSON object a line, with text that is JSON again inside.

Both have one data view over all records, searches (tables of records), and a dashboard that refers to the rest by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tools.boards import grafana
from tools.boards.kibana_query import kql
from tools.boards.model import Query, Rows
from tools.boards.panels import Board, Panel

SavedObject = dict[str, Any]

INDEX = "logs-cisco_esa.*-*"
VIEW = "esa-tls-records"
"""The data view's id."""

_VIEW_NAME = "kibanaSavedObjectMeta.searchSourceJSON.index"

COLUMNS = 48
"""Of their grid: twice as many as Grafana's, and rows are lower."""


def line(saved: SavedObject) -> str:
    """One object."""
    return json.dumps(saved, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def text(objects: Iterable[SavedObject]) -> str:
    """The file."""
    return "".join(f"{line(saved)}\n" for saved in objects)


def inner(value: Any) -> str:
    """JSON inside JSON."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def object_id(panel: Panel) -> str:
    """The id of a panel's own object, and its name on the dashboard."""
    return f"esa-tls-{panel.id}"


def reference(name: str, kind: str, to: str) -> dict[str, str]:
    """A reference to another object."""
    return {"name": name, "type": kind, "id": to}


def source(query: Query, **more: Any) -> dict[str, str]:
    """`kibanaSavedObjectMeta` of an object that searches the data view."""
    search = {"query": {"query": kql(query), "language": "kuery"}, "filter": [], "indexRefName": _VIEW_NAME}
    return {"searchSourceJSON": inner(search | more)}


def view_reference() -> dict[str, str]:
    """The reference that goes with `source`."""
    return reference(_VIEW_NAME, "index-pattern", VIEW)


def search(panel: Panel, query: Query, rows: Rows) -> SavedObject:
    """A table of records."""
    return {
        "type": "search",
        "id": object_id(panel),
        "attributes": {
            "title": f"esa-tls: {panel.title}",
            "description": panel.question,
            "columns": [field.path for field in rows.columns],
            "sort": [["@timestamp", "asc" if rows.oldest else "desc"]],
            "kibanaSavedObjectMeta": source(query, highlightAll=True, version=True),
        },
        "references": [view_reference()],
    }


def panels_on_the_grid(board: Board) -> Iterator[tuple[Panel, dict[str, Any]]]:
    """Panels with their `gridData`, in their order; headings are left out."""
    y = 0
    for section in board.sections:
        last = y
        for panel, place in grafana.places([(section.title, section.panels)]):
            if not isinstance(panel, grafana.Heading):
                assert place.x is not None
                assert place.y is not None
                top, height = y + (place.y - 1) * 2, panel.height * 2
                last = max(last, top + height)
                yield panel, {"x": place.x * 2, "y": top, "w": panel.width * 2, "h": height, "i": object_id(panel)}
        y = last


def dashboard_attributes(board: Board, panels: list[dict[str, Any]]) -> dict[str, Any]:
    """What a dashboard says of itself."""
    return {
        "title": board.title,
        "description": board.description,
        "panelsJSON": inner(panels),
        "optionsJSON": inner({"hidePanelTitles": False, "useMargins": True}),
        "timeRestore": True,
        "timeFrom": "now-24h",
        "timeTo": "now",
        "refreshInterval": {"pause": True, "value": 0},
        "version": 1,
        "kibanaSavedObjectMeta": {"searchSourceJSON": inner({"query": {"query": "", "language": "kuery"}, "filter": []})},
    }
