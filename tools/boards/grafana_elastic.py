"""The dashboard of records for Grafana with Elasticsearch, and for Grafana's OpenSearch plugin, whose queries have the same shape."""

from __future__ import annotations

from typing import Any, Literal

from grafana_foundation_sdk.builders import dashboard, expr
from grafana_foundation_sdk.builders import elasticsearch as es
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import elasticsearch as shapes
from tools.boards import grafana
from tools.boards.kibana_query import lucene, lucene_filter
from tools.boards.model import Counts, Query, Rows
from tools.boards.panels import Board, Panel

Product = Literal["elasticsearch", "opensearch"]

PLUGINS: dict[Product, str] = {"elasticsearch": "elasticsearch", "opensearch": "grafana-opensearch-datasource"}
TITLES: dict[Product, str] = {"elasticsearch": "Elasticsearch", "opensearch": "OpenSearch"}

SELECTED = "cisco_esa.appliance:$appliance"

_EXPRESSION = model.DataSourceRef(type_val="__expr__", uid="__expr__")


class OpenSearchQuery:
    """A query of Grafana's OpenSearch plugin: that of Elasticsearch, and which of its kinds it is."""

    def __init__(self, query: shapes.Dataquery, kind: str) -> None:
        self._query = query
        self._kind = kind

    def dataquery_type(self) -> str:
        """See `Dataquery`."""
        return PLUGINS["opensearch"]

    def to_json(self) -> dict[str, object]:
        """As it is written."""
        payload = self._query.to_json()
        payload |= {"queryType": "lucene", "luceneQueryType": self._kind}
        if self._kind == "RawData":
            # Without it the plugin asks for all times.
            settings = {"size": str(_size(self._query)), "order": "desc", "useTimeRange": True}
            payload["metrics"] = [{"id": "1", "type": "raw_data", "settings": settings}]
        return payload


def _size(query: shapes.Dataquery) -> str:
    assert query.metrics is not None
    metric = query.metrics[0]
    assert isinstance(metric, shapes.RawData)
    assert metric.settings is not None
    assert metric.settings.size is not None
    return metric.settings.size


class _Built(Builder[Dataquery]):
    """A query that is ready."""

    def __init__(self, query: Any) -> None:
        self._query = query

    def build(self) -> Dataquery:
        """It."""
        built: Dataquery = self._query
        return built


def built(board: Board, product: Product) -> dashboard.Dashboard:
    """It. Raises SourceError."""
    plugin = PLUGINS[product]
    variables: list[Builder[model.VariableModel]] = [
        grafana.source_variable(plugin),
        grafana.chosen("appliance", "Appliance", '{"find": "terms", "field": "cisco_esa.appliance", "size": 1000}', "*", plugin),
    ]
    made = grafana.frame(f"{board.uid}-{product}", f"{board.title} ({TITLES[product]})", board.description, variables)
    panels = _Panels(product)
    for number, (item, place) in enumerate(grafana.places((section.title, section.panels) for section in board.sections), 1):
        if isinstance(item, grafana.Heading):
            made = made.with_row(grafana.heading(item.title, place).id(number))
        else:
            panel = panels.of(item).id(number).title(item.title).description(item.question).datasource(panels.source).grid_pos(place)
            made = made.with_panel(panel)
    return made


class _Panels:
    """Panels for one of the products."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.source = model.DataSourceRef(type_val=PLUGINS[product], uid=grafana.DATASOURCE)

    def of(self, panel: Panel) -> Any:
        """The panel without its place."""
        query = panel.query
        if isinstance(query.answer, Rows):
            return self._rows(query, query.answer)
        if panel.over_time:
            alias = " ".join(f"{{{{term {field.path}}}}}" for field in query.answer.by)
            return grafana.curves([self._counted(query, query.answer, over_time=True, alias=alias)], stacked=True)
        if query.answer.by:
            names = {field.path: grafana.label(field) for field in query.answer.by}
            arranged = grafana.arranged({**names, "Count": grafana.COUNT})
            return grafana.groups_table([self._counted(query, query.answer, over_time=False)], [arranged])
        limits = grafana.limits(panel.good, share=query.answer.share is not None)
        if query.answer.share is None:
            return grafana.number([self._counted(query, query.answer, over_time=True)], "sum", "short", limits)
        return self._share(query, query.answer, limits)

    def _target(self, target: es.Dataquery, kind: str = "Metric") -> grafana.Target:
        made = target.datasource(self.source).time_field("@timestamp").build()
        return _Built(made if self.product == "elasticsearch" else OpenSearchQuery(made, kind))

    def _counted(
        self, query: Query, counts: Counts, *, over_time: bool, alias: str = "", more: str | None = None, ref: str = "A"
    ) -> grafana.Target:
        """Counts by the fields, and in steps of time."""
        aggregations: list[Builder[shapes.BucketAggregation]] = [
            es.Terms()
            .id(str(number))
            .field(field.path)
            .settings(
                es.ElasticsearchTermsSettings().size(str(counts.limit)).order(shapes.TermsOrder.DESC).order_by("_count").min_doc_count("1")
            )
            for number, field in enumerate(counts.by, 2)
        ]
        if over_time:
            steps = es.ElasticsearchDateHistogramSettings().interval("auto").min_doc_count("0")
            aggregations.append(es.DateHistogram().id("9").field("@timestamp").settings(steps))
        text = lucene(query, *([more] if more else []), SELECTED)
        target = es.Dataquery().ref_id(ref).query(text).alias(alias).metrics([es.Count().id("1")]).bucket_aggs(aggregations)
        return self._target(target.hide(True) if more is not None else target)

    def _share(self, query: Query, counts: Counts, limits: list[tuple[float, str]]) -> Any:
        """Two counts over time, their sums, and the one through the other."""
        assert counts.share is not None
        targets: list[grafana.Target] = [
            self._counted(query, counts, over_time=True, more=""),
            self._counted(query, counts, over_time=True, more=lucene_filter(counts.share.where), ref="B"),
            *(
                expr.TypeReduce()
                .datasource(_EXPRESSION)
                .ref_id(ref)
                .expression(of)
                .reducer("sum")
                .settings(expr.ExprTypeReduceSettings().mode("dropNN"))
                .hide(True)
                for ref, of in (("C", "A"), ("D", "B"))
            ),
            expr.TypeMath().datasource(_EXPRESSION).ref_id("E").expression("$D / $C"),
        ]
        return grafana.number(targets, "lastNotNull", "percentunit", limits, 1)

    def _rows(self, query: Query, rows: Rows) -> Any:
        names = {"@timestamp": "time", **{field.path: grafana.label(field) for field in rows.columns}}
        settings = es.ElasticsearchRawDataSettings().size(str(rows.limit))
        target = (
            es.Dataquery().ref_id("A").query(lucene(query, SELECTED)).metrics([es.RawData().id("1").settings(settings)]).bucket_aggs([])
        )
        return grafana.rows_table([self._target(target, "RawData")], [grafana.only(list(names)), grafana.arranged(names)], "time")
