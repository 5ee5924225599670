"""Dashboards as files: current, alike, with fields and metrics that there are, every panel in its place and with its variables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tests.boards import as_dsl
from tools import make_dashboards
from tools.boards import kibana, panels, saved_objects
from tools.boards.model import BY_PATH, SourceError
from tools.boards.panels import MetricQuery, promql

from esa_tls.telemetry import METRICS

ROOT = Path(__file__).parents[2]
FILES = make_dashboards.files()
GRAFANA = sorted(name for name in FILES if "/grafana-" in name)
OF_RECORDS = [name for name in GRAFANA if "sidecar" not in name]
SAVED = sorted(name for name in FILES if name.endswith(".ndjson"))


@pytest.mark.parametrize("name", FILES)
def test_files_are_current(name: str) -> None:
    """What is committed is what the sources give now; if not: `make dashboards`."""
    assert (ROOT / name).read_text(encoding="utf-8") == FILES[name]


def test_there_is_no_file_without_a_source() -> None:
    """Nothing else lies beside the source of the dashboards."""
    there = {f"deploy/dashboards/{path.name}" for path in (ROOT / "deploy" / "dashboards").iterdir()}
    assert there == {name for name in FILES if name.startswith("deploy/")} | {"deploy/dashboards/source.yaml"}


def grafana(name: str) -> dict[str, Any]:
    """A committed dashboard."""
    found: dict[str, Any] = json.loads((ROOT / name).read_text(encoding="utf-8"))
    return found


# -- alike -----------------------------------------------------------------------------------------------------------------------
def test_every_store_has_the_same_panels() -> None:
    """Grafana for each store, Kibana and OpenSearch Dashboards show the panels of the source, under its titles, and no other."""
    titles = [panel.title for panel in panels.source().records.panels]
    for name in OF_RECORDS:
        assert [panel["title"] for panel in as_dsl.grafana_panels(Path(name).name)] == titles
    objects = as_dsl.saved_objects("kibana.ndjson")
    (dashboard,) = (found for found in objects if found["type"] == "dashboard")
    assert [panel["title"] for panel in dashboard["attributes"]["panelsJSON"]] == titles
    shown = [found["attributes"]["title"] for found in as_dsl.saved_objects("opensearch-dashboards.ndjson")[1:-1]]
    assert shown == ["esa-tls: Appliance", *(f"esa-tls: {title}" for title in titles)]


def test_what_an_analyst_expects_is_there() -> None:
    """Outcomes over time by direction and mail flow, domains, failures, protocols, ciphers, peers, unrecognised lines, evidence."""
    there = {panel.id: panel.query for panel in panels.source().records.panels}
    counted = {name: {field.path for field in getattr(query.answer, "by", ())} for name, query in there.items()}

    assert {"cisco_esa.tls.outcome"} == counted["outcome-inbound"] == counted["outcome-outbound"]
    assert counted["deliveries-by-flow"] == {"cisco_esa.mail_flow", "cisco_esa.tls.outcome"}
    assert counted["domains-in-clear"] == {"cisco_esa.delivery.domains"}
    assert counted["failures-over-time"] == {"cisco_esa.tls.failure.class"}
    assert counted["ciphers"] == {"cisco_esa.tls.protocol", "cisco_esa.tls.cipher"}
    assert counted["servers-in-clear"] == {"destination.ip"}
    assert {"out-under-tls", "newest-in-clear", "unrecognised", "evidence"} <= set(there)
    columns = {field.path for field in there["newest-in-clear"].answer.columns}  # type: ignore[union-attr] # a table
    assert {"cisco_esa.tls.evidence", "cisco_esa.tls.outcome", "cisco_esa.tls.failure.reason"} <= columns


# -- fields and metrics ----------------------------------------------------------------------------------------------------------
def texts_of(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts_of(inner)


@pytest.mark.parametrize("name", [*SAVED, "deploy/dashboards/grafana-elasticsearch.json", "deploy/dashboards/grafana-opensearch.json"])
def test_fields_that_are_named_exist(name: str) -> None:
    """Every `cisco_esa.*` in a file for Elasticsearch, OpenSearch or their dashboards is a field of the table."""
    text = (ROOT / name).read_text(encoding="utf-8").replace(saved_objects.INDEX, "")
    found = set(re.findall(r"cisco_esa\.[a-z_.]*[a-z_]", text))
    assert len(found) > 20
    # Tables show a field without its first word.
    assert found <= set(BY_PATH)


def test_metrics_that_are_named_exist() -> None:
    """Every metric in the dashboard of the sidecar is one that it tells, under the name that Prometheus sees."""
    there = {metric.prometheus_name for metric in METRICS} | {f"{metric.prometheus_name}_bucket" for metric in METRICS}
    text = (ROOT / "deploy/dashboards/grafana-sidecar.json").read_text(encoding="utf-8")
    found = set(re.findall(r"\besa_tls_\w+", text))
    assert len(found) > 30
    assert found <= there


@pytest.mark.parametrize(
    ("expression", "legend", "said"),
    [
        ("<esa_tls.invented>", "x", "no such metric"),
        ("sum (esa_tls_lines_total)", "x", "no metric in"),
        ("sum (<esa_tls.lines>)", "x", "only grows"),
        ("rate(<esa_tls.lines.held>[5m])", "x", "only grows"),
        ('rate(<esa_tls.lines kind="x">[5m])', "x", "no label kind"),
        ("sum by (colour) (rate(<esa_tls.lines>[5m]))", "x", "the label colour"),
        ("rate(<esa_tls.lines>[5m])", "{{colour}}", "the label colour"),
        ("rate(<esa_tls.journal.commit.duration>[5m])", "x", "is histogram"),
        ("rate(<esa_tls.lines_bucket>[5m])", "x", "is counter"),
    ],
)
def test_an_expression_that_cannot_be_is_refused(expression: str, legend: str, said: str) -> None:
    """A metric or a label that there is not, and a counter without its rate, end the making of dashboards."""
    with pytest.raises(SourceError, match=said):
        promql(MetricQuery(expression, legend), "test")


# -- Grafana ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", GRAFANA)
def test_panels_stand_beside_one_another(name: str) -> None:
    """Ids are unique, no panel lies on another or outside of the 24 columns, and each belongs to a heading."""
    shown = grafana(name)["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in shown:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < panels.GRID
        taken |= cells
    assert len({panel["id"] for panel in shown}) == len(shown)
    assert shown[0]["type"] == "row"


@pytest.mark.parametrize("name", GRAFANA)
def test_everything_asks_the_chosen_source(name: str) -> None:
    """Data source and appliance (or job and instance) are variables; every query is asked of the one and narrowed by the other."""
    dashboard = grafana(name)
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    wanted = {"job", "instance"} if "sidecar" in name else {"appliance"}
    assert set(variables) == {"datasource"} | wanted
    assert dashboard["time"] == {"from": "now-24h", "to": "now"}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            if target["datasource"] == {"type": "__expr__", "uid": "__expr__"}:
                continue
            assert target["datasource"] == {"type": variables["datasource"]["query"], "uid": "${datasource}"}
            text = target.get("expr", target.get("query"))
            assert all(f"${variable}" in text for variable in wanted), panel["title"]
            assert panel["datasource"] == target["datasource"]


@pytest.mark.parametrize("name", OF_RECORDS)
def test_columns_of_tables_are_asked_for(name: str) -> None:
    """A table renames and orders only columns that its query returns: fields of its records, labels, the count, the time."""
    of_source = {panel.title: panel.query for panel in panels.source().records.panels}
    for panel in as_dsl.grafana_panels(Path(name).name):
        for transformation in panel.get("transformations", ()):
            if transformation["id"] != "organize":
                continue
            query = of_source[panel["title"]]
            paths = [field.path for field in (*getattr(query.answer, "columns", ()), *getattr(query.answer, "by", ()))]
            renamed = transformation["options"]["renameByName"]
            others = {"Time", "Line", "Last *", "@timestamp", "Count", "appliance"}
            own = {path.replace(".", "_") if "loki" in name else path for path in paths}
            assert set(renamed) <= own | others
            assert len(set(renamed.values())) == len(renamed)


def test_shares_are_made_of_the_queries_before() -> None:
    """In a share the sums of two counts are put into relation: each expression names one that stands before it, only the last is shown."""
    shares = [
        panel
        for panel in as_dsl.grafana_panels("grafana-elasticsearch.json")
        if any(target["datasource"]["type"] == "__expr__" for target in panel["targets"])
    ]
    assert len(shares) == 3
    for panel in shares:
        before: set[str] = set()
        for target in panel["targets"]:
            if "expression" in target:
                assert set(re.findall(r"[A-E]", target["expression"])) <= before
            before.add(target["refId"])
        assert [target.get("hide", False) for target in panel["targets"]] == [True] * 4 + [False]


# -- saved objects ---------------------------------------------------------------------------------------------------------------
NEEDED = {
    "index-pattern": {"title", "timeFieldName"},
    "search": {"title", "description", "columns", "sort", "kibanaSavedObjectMeta"},
    "visualization": {"title", "visState", "uiStateJSON", "description", "version", "kibanaSavedObjectMeta"},
    "dashboard": {
        "title",
        "description",
        "panelsJSON",
        "optionsJSON",
        "timeRestore",
        "timeFrom",
        "timeTo",
        "version",
        "kibanaSavedObjectMeta",
    },
}


@pytest.mark.parametrize("name", SAVED)
def test_saved_objects_have_what_their_type_needs(name: str) -> None:
    """A line is one object with type, id, attributes, references and the version of its form; what is text that holds JSON can be read."""
    objects = as_dsl.saved_objects(Path(name).name)
    assert len({(found["type"], found["id"]) for found in objects}) == len(objects)
    for found in objects:
        assert NEEDED[found["type"]] <= set(found["attributes"])
        assert all(set(reference) == {"id", "name", "type"} for reference in found["references"])
        if "kibana." in name:
            assert found["coreMigrationVersion"] == "8.8.0"
            assert re.fullmatch(r"8\.\d+\.0", found["typeMigrationVersion"])
        else:
            assert set(found["migrationVersion"]) == {found["type"]}
            assert re.fullmatch(r"7\.\d+\.\d", found["migrationVersion"][found["type"]])


def names_of_references(value: Any) -> Iterator[str]:
    """Every `...RefName` in a JSON value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key.lower().endswith("refname"):
                yield inner
            else:
                yield from names_of_references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from names_of_references(inner)


@pytest.mark.parametrize("name", SAVED)
def test_references_lead_to_objects_of_the_file(name: str) -> None:
    """What an object refers to stands before it in the same file, and each name that it uses is one of its references."""
    before: set[tuple[str, str]] = set()
    for found in as_dsl.saved_objects(Path(name).name):
        references = {reference["name"] for reference in found["references"]}
        assert {(reference["type"], reference["id"]) for reference in found["references"]} <= before
        used = set(names_of_references(found["attributes"]))
        if found["type"] == "dashboard" and "kibana." in name:
            placed = {panel["panelIndex"]: panel for panel in found["attributes"]["panelsJSON"]}
            assert references == {
                "controlGroup_appliance:optionsListDataView",
                *(f"{index}:{panel['panelRefName']}" for index, panel in placed.items() if panel["type"] == "search"),
                *(f"{index}:indexpattern-datasource-layer-{kibana.LAYER}" for index, panel in placed.items() if panel["type"] == "lens"),
            }
        else:
            assert used == references
        before.add((found["type"], found["id"]))


@pytest.mark.parametrize("name", SAVED)
def test_saved_panels_stand_beside_one_another(name: str) -> None:
    """No panel lies on another or outside of the 48 columns, and `i` is the panel's own index."""
    (dashboard,) = (found for found in as_dsl.saved_objects(Path(name).name) if found["type"] == "dashboard")
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["attributes"]["panelsJSON"]:
        place = panel["gridData"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert place["i"] == panel["panelIndex"]
        assert not cells & taken, place
        assert max(x for x, _ in cells) < saved_objects.COLUMNS
        taken |= cells


def test_lens_panels_show_columns_that_they_have() -> None:
    """What a Lens panel draws are columns of its layer: accessors, groups, metrics, table columns; buckets come before the count."""
    (dashboard,) = (found for found in as_dsl.saved_objects("kibana.ndjson") if found["type"] == "dashboard")
    kinds = set()
    for panel in dashboard["attributes"]["panelsJSON"]:
        if panel["type"] != "lens":
            continue
        attributes = panel["embeddableConfig"]["attributes"]
        layer = attributes["state"]["datasourceStates"]["formBased"]["layers"][kibana.LAYER]
        shown = attributes["state"]["visualization"]
        inner = shown.get("layers", [shown])[0]
        named = [
            *inner.get("accessors", ()),
            *inner.get("primaryGroups", ()),
            *inner.get("metrics", ()),
            *(column["columnId"] for column in inner.get("columns", ())),
            *(inner[key] for key in ("xAccessor", "splitAccessor", "metricAccessor") if key in inner),
        ]
        assert sorted(named) == sorted(layer["columns"]) == sorted(layer["columnOrder"])
        assert layer["columnOrder"][-1] == kibana.COUNT
        assert inner["layerId"] == kibana.LAYER
        kinds.add(attributes["visualizationType"])
    assert kinds == {"lnsXY", "lnsDatatable", "lnsPie", "lnsMetric"}


def test_a_mistake_in_the_source_is_told() -> None:
    """A key that there is not, a width that is too large and two panels of one id are refused."""
    text = panels.SOURCE.read_text(encoding="utf-8")

    def read(changed: str) -> panels.Source:
        assert changed != text
        return panels.read(yaml.safe_load(changed))

    with pytest.raises(msgspec.ValidationError, match="widht"):
        read(text.replace("width: 4", "widht: 4", 1))
    with pytest.raises(SourceError, match="wider than 24"):
        read(text.replace("width: 24", "width: 25", 1))
    with pytest.raises(SourceError, match="two panels have one id"):
        read(text.replace("id: in-under-tls", "id: out-under-tls"))
