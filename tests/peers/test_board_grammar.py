"""What cannot be run is read by the grammar, or checked against the schema, of those who made it: LogQL, and Grafana's dashboards."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.boards import as_dsl
from tests.peers.conftest import Look
from tools.boards import logql
from tools.boards.logql import SERVICE
from tools.boards.model import BY_PATH, Counts
from tools.boards.panels import source
from tools.boards.questions import questions

pytestmark = pytest.mark.timeout(120, func_only=True)  # a first run installs the tools before

TOOL_TIMEOUT_S = 90.0


# -- LogQL -----------------------------------------------------------------------------------------------------------------------
def loki_queries() -> list[str]:
    """What the dashboard for Loki asks, its variables replaced as Grafana replaces them."""
    panels = as_dsl.grafana_panels("grafana-loki.json")
    texts = [target["expr"] for panel in panels for target in panel["targets"]]
    for name, value in {"$appliance": "esa1|esa2", "$__range": "86400s", "$__auto": "1m"}.items():
        texts = [text.replace(name, value) for text in texts]
    return texts


def test_the_grammar_of_logql_takes_every_query(look: Look) -> None:
    """It finds no error in any query of the manual or of the dashboard; without a brace it does, in all of them."""
    queries = [logql.text(question.query()) for question in questions()] + loki_queries()

    assert len(queries) > 40
    assert not [query for query in queries if re.search(r"\$\w", query)]
    assert [found["errors"] for found in look(*queries)] == [[]] * len(queries)
    assert all(found["errors"] for found in look(*(query.replace("}", "", 1) for query in queries)))


LABELS = {"cisco_esa.appliance": "appliance", "cisco_esa.record": "kind"}
NOT_IN_LOKI = {"host.name", "@timestamp", "event.created", "event.original", "cisco_esa.deliveries", "cisco_esa.recipients"}
"""Said by a label, by the entry itself, or not at all."""


def in_loki(path: str) -> str:
    """The name under which a field of docs/records.md is in Loki."""
    return LABELS.get(path, path.replace(".", "_").replace("@", "_"))


def test_logql_asks_for_names_that_there_are(look: Look) -> None:
    """Every name in a query is a label of our streams, or a field that its kind of record has; every stream is ours."""
    for query, found in zip(loki_queries(), look(*loki_queries()), strict=True):
        (kind,) = set(re.findall(r'kind="(\w+)"', query))
        there = {in_loki(field.path) for field in BY_PATH.values() if kind in field.kinds and field.path not in NOT_IN_LOKI}
        assert set(found["names"]) <= there | {"service_name", "kind"}
        assert query.count(f'service_name="{SERVICE}"') == query.count("{service_name")
        assert query.count('appliance=~"esa1|esa2"') == query.count("{service_name")


@pytest.mark.parametrize("question", questions(), ids=lambda question: question.id)
def test_logql_and_the_query_that_was_run_name_the_same_fields(question: Any, look: Look) -> None:
    """The names in the LogQL of a question are those of the conditions, columns and groups that its LogsQL was run with."""
    query = question.query()
    (found,) = look(logql.text(query))
    paths = {condition.path for condition in query.where}
    if isinstance(query.answer, Counts):
        paths |= {field.path for field in query.answer.by}
        paths |= {condition.path for condition in query.answer.share.where} if query.answer.share is not None else set()
    else:
        paths |= {field.path for field in query.answer.columns} - NOT_IN_LOKI

    assert set(found["names"]) == {in_loki(path) for path in paths} | {"service_name", "kind"}


# -- Grafana's schema ------------------------------------------------------------------------------------------------------------
_RAW = "@grafana/schema/dist/esm/raw/composable"

_HEAD = """\
import type * as grafana from "@grafana/schema";
import type {Options as StatOptions} from "FOLDER/stat/panelcfg/x/StatPanelCfg_types.gen";
import type {Options as SeriesOptions, FieldConfig as SeriesCustom} from "FOLDER/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
import type {Options as TableOptions, FieldConfig as TableCustom} from "FOLDER/table/panelcfg/x/TablePanelCfg_types.gen";
import type {LokiDataQuery} from "FOLDER/loki/dataquery/x/LokiDataQuery_types.gen";
import type {ElasticsearchDataQuery} from "FOLDER/elasticsearch/dataquery/x/ElasticsearchDataQuery_types.gen";
// JSON has the values of an enum, not its members.
type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T : T extends (infer U)[] ? Plain<U>[]
  : T extends object ? {[K in keyof T]: Plain<T[K]>} : T;
"""

_OPTIONS = {"stat": "StatOptions", "timeseries": "SeriesOptions", "table": "TableOptions"}
_CUSTOM = {"stat": "Record<string, never>", "timeseries": "Partial<SeriesCustom>", "table": "Partial<TableCustom>"}
_QUERIES = {"loki": "LokiDataQuery", "elasticsearch": "ElasticsearchDataQuery", "grafana-opensearch-datasource": "ElasticsearchDataQuery"}

DASHBOARDS = sorted(path.name for path in as_dsl.FOLDER.glob("*.json"))


def typed(dashboard: dict[str, Any], modules: Path) -> str:
    """A program that gives every part of a dashboard to a constant of the type that it must have."""
    lines = [_HEAD.replace("FOLDER", str(modules / _RAW))]

    def constant(name: str, value: object) -> None:
        lines.append(f"export const part{len(lines)}: Plain<{name}> = {json.dumps(value)};")

    panels = dashboard.pop("panels")
    constant("grafana.Dashboard", dashboard)
    for panel in panels:
        if panel["type"] == "row":
            constant("grafana.RowPanel", panel)
            continue
        options, targets = panel.pop("options"), panel.pop("targets")
        custom = panel["fieldConfig"]["defaults"].pop("custom", {})
        constant("grafana.Panel", panel)
        constant(_OPTIONS[panel["type"]], options)
        constant(_CUSTOM[panel["type"]], custom)
        for target in targets:
            plugin = target["datasource"]["type"]
            if plugin == "grafana-opensearch-datasource":
                # Its queries have two words that those of Elasticsearch do not have.
                del target["luceneQueryType"]
                for metric in target["metrics"]:
                    metric.get("settings", {}).pop("useTimeRange", None)
                    metric.get("settings", {}).pop("order", None)
            constant(_QUERIES.get(plugin, "grafana.DataQuery & Record<string, unknown>"), target)
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def compiled(schema_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """What the compiler of TypeScript has to say against a program."""
    folder = tmp_path_factory.mktemp("schema")
    (folder / "node_modules").symlink_to(schema_modules)

    def compile_it(program: str) -> list[str]:
        (folder / "check.ts").write_text(program, encoding="utf-8")
        flags = ("--noEmit", "--strict", "--skipLibCheck", "--module", "esnext", "--moduleResolution", "bundler", "--target", "es2022")
        compiler = schema_modules / "typescript" / "bin" / "tsc"
        done = subprocess.run(
            ("node", compiler, *flags, "check.ts"), cwd=folder, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False
        )
        return done.stdout.splitlines()

    return compile_it


@pytest.mark.parametrize("name", DASHBOARDS)
def test_dashboards_are_as_the_schema_says(name: str, compiled: Callable[[str], list[str]], schema_modules: Path) -> None:
    """Dashboard, panels, options and queries have the types of Grafana's schema, and nothing that it does not know."""
    dashboard = json.loads((as_dsl.FOLDER / name).read_text(encoding="utf-8"))

    assert compiled(typed(dashboard, schema_modules)) == []


def test_the_schema_finds_what_is_wrong(compiled: Callable[[str], list[str]], schema_modules: Path) -> None:
    """A word too much in a variable, a value that an option does not have, a query of another form: each is found."""
    dashboard = json.loads((as_dsl.FOLDER / "grafana-loki.json").read_text(encoding="utf-8"))
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    dashboard["templating"]["list"][0]["auto_min"] = "10s"
    panels[0]["options"]["colorMode"] = "rainbow"
    panels[1]["targets"][0]["expression"] = panels[1]["targets"][0].pop("expr")

    found = " ".join(compiled(typed(dashboard, schema_modules)))
    assert "auto_min" in found
    assert "rainbow" in found
    assert "expression" in found


def test_the_dashboards_are_those_of_the_source() -> None:
    """One for each store of records, and one for metrics."""
    assert DASHBOARDS == ["grafana-elasticsearch.json", "grafana-loki.json", "grafana-opensearch.json", "grafana-sidecar.json"]
    assert source().records.panels
