"""Makes what deploy/rules holds beside its sources: `make rules`.

From the record fields, two pipelines that tell Sigma's tools what fields are called in VictoriaLogs and in Splunk; from the Sigma rules and
the pipelines, the queries of each language, a file per rule. Queries under `by_hand` are not touched.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.peers import building  # noqa: E402 (what builds the environment with the Sigma tools)

from esa_tls.core.fields import FIELDS, Field  # noqa: E402 (beside it)

RULES = ROOT / "deploy" / "rules"
SUFFIXES = {"lucene": "lucene", "eql": "eql", "esql": "esql", "opensearch": "lucene", "logsql": "logsql", "splunk": "spl"}
"""Language, the name of its folder -> how its files end."""

Queries = dict[str, dict[str, dict[str, str]]]
"""Language -> rule -> `{"query": ...}`, or `{"cannot": why that language has no such query}`."""

_LOGSOURCE = {"type": "logsource", "product": "cisco", "service": "esa"}
_MADE = "# Made by `make rules` from the record fields: do not edit.\n"
_LABELS = {
    "@timestamp": "_time",
    "cisco_esa.record": "kind",
    "cisco_esa.appliance": "appliance",
    "host.name": "appliance",
    "event.original": "_msg",
}
"""Fields that have a place of their own in Loki and VictoriaLogs."""


def plain_fields() -> list[Field]:
    """Fields with a value of their own, not those of objects in a list."""
    nested = tuple(f"{field.path}." for field in FIELDS if field.type == "nested")
    return [field for field in FIELDS if field.type != "nested" and not field.path.startswith(nested)]


def victorialogs_pipeline() -> str:
    """Names as the Loki sink sends them; lists are JSON text there."""
    names = {field.path: _LABELS.get(field.path) or field.path.replace(".", "_") for field in plain_fields()}
    lists = "|".join(names[field.path] for field in plain_fields() if field.many)
    pipeline = {
        "name": "esa-tls in VictoriaLogs, sent by Loki's protocol",
        "priority": 20,
        "transformations": [
            {"id": "names", "type": "field_name_mapping", "mapping": names, "rule_conditions": [_LOGSOURCE]},
            {"id": "ours", "type": "add_condition", "conditions": {"service_name": "esa-tls"}, "rule_conditions": [_LOGSOURCE]},
        ],
        "postprocessing": [
            {"type": "replace", "pattern": rf"\b({lists}):in\(", "replacement": r"\1:json_array_contains_any("},
            {"type": "replace", "pattern": rf'\b({lists}):=("(?:[^"\\]|\\.)*")(?!\*)', "replacement": r"\1:json_array_contains_any(\2)"},
            {"type": "replace", "pattern": rf"\| stats by \(({lists})\)", "replacement": r"| unroll by (\1) | stats by (\1)"},
        ],
    }
    return _MADE + yaml.safe_dump(pipeline, sort_keys=False, width=1_000)


def splunk_pipeline() -> str:
    """Names as Splunk finds them in JSON: those of lists end in `{}`."""
    names = {field.path: f"{field.path}{{}}" for field in plain_fields() if field.many} | {"@timestamp": "_time"}
    pipeline = {
        "name": "esa-tls in Splunk",
        "priority": 20,
        "transformations": [{"id": "names", "type": "field_name_mapping", "mapping": names, "rule_conditions": [_LOGSOURCE]}],
    }
    return _MADE + yaml.safe_dump(pipeline, sort_keys=False, width=1_000)


def queries(tools: Path) -> Queries:
    """What the converter makes of the rules. `tools`: the Python that has the Sigma tools."""
    convert = ROOT / "tools" / "convert_rules.py"
    command = (tools, convert, RULES / "sigma", RULES / "pipelines")
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (paths of ours)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    found: Queries = json.loads(done.stdout)
    return found


def made(converted: Queries) -> dict[Path, str]:
    """Every file of `converted`, below RULES, and its text."""
    return {
        Path("converted", language, f"{rule}.{SUFFIXES[language]}"): result["query"] + "\n"
        for language, rules in converted.items()
        for rule, result in rules.items()
        if "query" in result
    }


def pipelines() -> dict[Path, str]:
    """The pipelines that are made, below RULES, and their text."""
    return {
        Path("pipelines", "victorialogs.yml"): victorialogs_pipeline(),
        Path("pipelines", "splunk.yml"): splunk_pipeline(),
    }


def main() -> None:
    """Write all of it anew."""
    for name, text in pipelines().items():
        (RULES / name).write_text(text, encoding="utf-8")
    files = made(queries(building.SIGMA.build().folder / "bin" / "python"))
    shutil.rmtree(RULES / "converted", ignore_errors=True)
    for name, text in files.items():
        (RULES / name).parent.mkdir(parents=True, exist_ok=True)
        (RULES / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
