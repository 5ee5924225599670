"""Rules and their queries without a store: Sigma's tools, the grammar of LogQL, fields and lists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.peers.conftest import Look
from tests.rules import cases
from tests.rules.cases import RULES
from tools import make_rules

from esa_tls.core.fields import FIELDS

pytestmark = pytest.mark.timeout(90, func_only=True)  # a first run installs the tools before

TOOL_TIMEOUT_S = 60.0

NOT_SAID = {
    "lucene": {*cases.COUNTS, cases.BASELINE},
    "opensearch": {*cases.COUNTS, cases.BASELINE},
    "esql": {cases.BASELINE},
    "logsql": {cases.BASELINE},
    "splunk": {cases.BASELINE},
    "eql": set(),
}
"""Rules that a language or its converter has no words for."""

LISTS: dict[str, list[str]] = yaml.safe_load((RULES / "pipelines" / "lists.yml").read_text(encoding="utf-8"))["vars"]


@pytest.fixture(scope="module")
def sigma(sigma_python: Path) -> Any:
    """Runs `sigma`, the command line of the Sigma tools, which must not look anything up."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = (sigma_python, "-m", "sigma.cli.main", *arguments)
        return subprocess.run(command, cwd=RULES, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False)

    return run


@pytest.fixture(scope="module")
def converted(sigma_python: Path) -> make_rules.Queries:
    """What conversion gives now."""
    return make_rules.queries(sigma_python)


# -- Sigma -----------------------------------------------------------------------------------------------------------------------
def test_sigma_has_nothing_to_say_against_the_rules(sigma: Any) -> None:
    """`sigma check` finds no error and no issue, apart from the two checks that would fetch lists from elsewhere."""
    done = sigma("check", "--fail-on-issues", "-x", "attacktag", "-x", "d3_fendtag", "sigma")

    assert done.returncode == 0, done.stdout + done.stderr


def test_converted_queries_are_current(converted: make_rules.Queries) -> None:
    """Every committed query is what the Sigma rules, the pipelines and the lists give now, and no other one is there: else `make rules`."""
    made = make_rules.made(converted)

    assert {path.relative_to(RULES) for path in (RULES / "converted").rglob("*") if path.is_file()} == set(made)
    for name, text in made.items():
        assert (RULES / name).read_text(encoding="utf-8") == text, name


def test_each_language_says_every_rule_it_can(converted: make_rules.Queries) -> None:
    """Of 15 rules and six languages only what `NOT_SAID` lists is missing."""
    assert {language: {rule for rule, result in found.items() if "cannot" in result} for language, found in converted.items()} == NOT_SAID
    assert all(set(found) == set(cases.ALL) for found in converted.values())


@pytest.mark.parametrize(
    ("target", "pipeline", "folder"),
    [
        ("lucene", "elasticsearch", "lucene"),
        ("opensearch_lucene", "elasticsearch", "opensearch"),
        ("esql", "elasticsearch", "esql"),
        ("victoria_logs", "victorialogs", "logsql"),
        ("splunk", "splunk", "splunk"),
    ],
)
def test_the_command_in_the_manual_gives_the_committed_query(target: str, pipeline: str, folder: str, sigma: Any) -> None:
    """`sigma convert` with our pipelines, as an administrator with lists of his own calls it, gives what is committed."""
    rule = "esa_tls_clear_after_failed_starttls"
    pipelines = ("-p", "pipelines/lists.yml", "-p", f"pipelines/{pipeline}.yml")
    done = sigma("convert", "-t", target, *pipelines, f"sigma/{rule}.yml")

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == cases.query_of(f"converted/{folder}", rule).strip()


# -- LogQL -----------------------------------------------------------------------------------------------------------------------
def test_the_grammar_of_logql_takes_every_query(look: Look) -> None:
    """There is a query written by hand for each rule, and the grammar finds no error in any; without a brace it does, in all of them."""
    queries = [cases.query_of("by_hand/logql", rule) for rule in cases.ALL]

    assert sorted(path.stem for path in (RULES / "by_hand" / "logql").iterdir()) == sorted(cases.ALL)
    assert [found["errors"] for found in look(*queries)] == [[]] * len(queries)
    assert all(found["errors"] for found in look(*(query.replace("}", "", 1) for query in queries)))


@pytest.mark.parametrize("rule", cases.ALL)
def test_the_query_by_hand_asks_for_the_fields_of_its_rule(rule: str, look: Any) -> None:
    """The names in a LogQL query are those of the fields that its Sigma rule, or the rules it counts, asks for, and labels."""
    (found,) = look(cases.query_of("by_hand/logql", rule))
    sigma = cases.sigma_rules()
    base = [sigma[name] for name in sigma[rule]["correlation"]["rules"]] if "correlation" in sigma[rule] else [sigma[rule]]
    fields = {field for one in base for field in fields_of(one)} | set(sigma[rule].get("correlation", {}).get("group-by", ()))
    renamed = {"cisco_esa.record": "kind", "cisco_esa.appliance": "appliance"}

    assert set(found["names"]) == {renamed.get(field, field.replace(".", "_")) for field in fields} | {"service_name", "kind"}


def test_lists_are_the_same_everywhere() -> None:
    """Where a list is written into a query by hand it is the one that conversions take."""
    of_domains = cases.query_of("by_hand/logql", "esa_tls_clear_to_must_have_tls_domain")
    of_groups = cases.query_of("by_hand/logql", "esa_tls_inbound_clear_from_tls_sender_group")

    assert f'"({"|".join(re.escape(domain) for domain in LISTS["must_have_tls"])})"' in of_domains
    assert f'_sender_group=~"{"|".join(LISTS["sender_groups_with_tls"])}"' in of_groups


# -- fields ----------------------------------------------------------------------------------------------------------------------
def fields_of(rule: dict[str, Any]) -> set[str]:
    """The fields that a Sigma rule asks for."""
    selections = [selection for name, selection in rule["detection"].items() if name != "condition"]
    return {name.partition("|")[0] for selection in selections for name in selection}


def test_rules_ask_for_fields_that_there_are() -> None:
    """Every field that a Sigma rule asks for, shows or groups by is one of the table of fields, and a record of that kind may have it."""
    paths = {field.path: field for field in FIELDS}
    for rule in cases.sigma_rules().values():
        assert set(rule.get("fields", ())) | set(rule.get("correlation", {}).get("group-by", ())) <= set(paths), rule["name"]
        for selection in rule.get("detection", {}).values():
            kind = selection.get("cisco_esa.record") if isinstance(selection, dict) else None
            for name in selection if isinstance(selection, dict) else ():
                field = paths[name.partition("|")[0]]
                assert kind is None or kind in field.kinds, (rule["name"], name)


def test_rules_on_clear_text_ask_for_in_clear() -> None:
    """A rule that says "in clear" asks for `in_clear`, never for a failed outcome alone: a failed connection may have carried no mail."""
    for rule in cases.sigma_rules().values():
        if "detection" not in rule:
            continue
        asks_for_failed = any(
            selection.get("cisco_esa.tls.outcome") == "failed" for selection in rule["detection"].values() if isinstance(selection, dict)
        )
        if asks_for_failed or "in clear" in rule["title"].lower():
            assert any(name.endswith("tls.in_clear") for name in fields_of(rule)), rule["name"]


def test_pipelines_are_current() -> None:
    """The names of fields in VictoriaLogs and Splunk are those of the table of fields: else `make rules`."""
    for name, text in make_rules.pipelines().items():
        assert (RULES / name).read_text(encoding="utf-8") == text
