"""The panels of `deploy/dashboards/source.yaml`: over records, for every store, and over our own metrics, for Prometheus."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import msgspec
import yaml
from tools.boards.model import Counts, Query, SourceError, Written, query_of

from esa_tls.telemetry import BY_NAME, COUNTER, HISTOGRAM

SOURCE = Path(__file__).parents[2] / "deploy" / "dashboards" / "source.yaml"

Good = Literal["high", "low"]

GRID = 24
"""Columns of a dashboard."""


class Panel(Written, frozen=True, kw_only=True):
    """One panel over records. `good`: which numbers are, of a single one."""

    id: str
    title: str
    question: str
    width: int
    height: int
    over_time: bool = False
    good: Good | None = None

    @property
    def query(self) -> Query:
        """What it asks. Raises SourceError."""
        try:
            query = query_of(self)
        except SourceError as error:
            raise SourceError(f"panel {self.id}: {error}") from None
        if self.over_time and not (isinstance(query.answer, Counts) and query.answer.by and query.answer.share is None):
            raise SourceError(f"panel {self.id}: over time go counts by fields")
        return query


class MetricQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One expression, with `<metric>` in it, and how its series are called."""

    expr: str
    legend: str


class MetricPanel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One panel over metrics. `warn` and `bad`: from where on a single number is yellow and red."""

    id: str
    title: str
    question: str
    width: int
    height: int
    show: Literal["number", "series", "table"]
    queries: list[MetricQuery]
    unit: str = "short"
    decimals: int | None = None
    good: Good | None = None
    warn: float | None = None
    bad: float | None = None


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Panels over records under one heading."""

    title: str
    panels: list[Panel]


class MetricSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Panels over metrics under one heading."""

    title: str
    panels: list[MetricPanel]


class Board(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The dashboard of records."""

    uid: str
    title: str
    description: str
    sections: list[Section]

    @property
    def panels(self) -> list[Panel]:
        """All of them."""
        return [panel for section in self.sections for panel in section.panels]


class MetricBoard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The dashboard of metrics."""

    uid: str
    title: str
    description: str
    sections: list[MetricSection]

    @property
    def panels(self) -> list[MetricPanel]:
        """All of them."""
        return [panel for section in self.sections for panel in section.panels]


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    records: Board
    metrics: MetricBoard


def source() -> Source:
    """What the file says. Raises SourceError, msgspec.ValidationError."""
    return read(yaml.safe_load(SOURCE.read_text(encoding="utf-8")))


def read(value: object) -> Source:
    """What such a file says. Raises as `source`."""
    found = msgspec.convert(value, Source)
    for board in (found.records, found.metrics):
        for what, names in (("id", [panel.id for panel in board.panels]), ("title", [panel.title for panel in board.panels])):
            if len(names) != len(set(names)):
                raise SourceError(f"{board.uid}: two panels have one {what}")
        if any(panel.width > GRID for panel in board.panels):
            raise SourceError(f"{board.uid}: a panel is wider than {GRID} columns")
    return found


# -- expressions over metrics ----------------------------------------------------------------------------------------------------
_METRIC = re.compile(r"<(?P<name>[a-z][a-z_.]*?)(?P<part>_bucket|_sum|_count)?(?P<matchers>(?: \w+=\"[^\"]*\")*)>")
_BY = re.compile(r"\bby \(([^)]*)\)")
_OF_TARGETS = frozenset({"instance", "job", "le"})
"""Labels that Prometheus adds, and that of a histogram's buckets."""

SELECTED = 'job=~"$job", instance=~"$instance"'


def promql(query: MetricQuery, panel: str) -> str:
    """The expression in PromQL, for the sidecars that are selected. Raises SourceError for a metric or label that there is not."""
    labels: set[str] = set()

    def selector(found: re.Match[str]) -> str:
        metric = BY_NAME.get(found["name"])
        if metric is None:
            raise SourceError(f"panel {panel}: no such metric: {found['name']}")
        if (metric.kind == HISTOGRAM) != (found["part"] is not None):
            raise SourceError(f"panel {panel}: {found['name']} is {metric.kind}")
        counted = re.search(r"(?:rate|increase)\($", query.expr[: found.start()]) is not None
        if counted != (metric.kind in (COUNTER, HISTOGRAM)):
            raise SourceError(f"panel {panel}: {found['name']} is {metric.kind}, and `rate` or `increase` are for what only grows")
        labels.update(metric.labels)
        matchers = re.findall(r'(\w+)="([^"]*)"', found["matchers"])
        for label, _ in matchers:
            if label not in metric.labels:
                raise SourceError(f"panel {panel}: {found['name']} has no label {label}")
        chosen = ", ".join([f'{label}="{value}"' for label, value in matchers] + [SELECTED])
        return f"{metric.prometheus_name}{found['part'] or ''}{{{chosen}}}"

    text = _METRIC.sub(selector, query.expr)
    if not labels and not _METRIC.search(query.expr):
        raise SourceError(f"panel {panel}: no metric in {query.expr}")
    named = {label.strip() for group in _BY.findall(query.expr) for label in group.split(",")}
    for label in (named | set(re.findall(r"\{\{(\w+)\}\}", query.legend))) - labels - _OF_TARGETS:
        raise SourceError(f"panel {panel}: none of its metrics has the label {label}")
    return text
