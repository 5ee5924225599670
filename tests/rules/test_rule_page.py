"""docs/rules.md tells every rule and every alert, all that its file says of it, and commands that work."""

from __future__ import annotations

import re

import pytest
import yaml
from tests.rules import cases
from tests.rules.cases import ROOT, RULES
from tools.rule_page import LANGUAGES, alert_page, rule_page

SIGMA = cases.sigma_rules()
PAGE = rule_page(RULES)


@pytest.mark.parametrize("rule", SIGMA.values(), ids=lambda rule: rule["name"])
def test_a_rule_says_what_it_means_and_what_to_do(rule: dict[str, object]) -> None:
    """A rule tells its meaning, when it fires, what to do and false positives, and the page has all of that under its title."""
    meaning, fires, action = str(rule["description"]).strip().split("\n\n")
    falsepositives = rule["falsepositives"]

    assert not meaning.startswith(("Fires", "What"))
    assert fires.startswith("Fires when: ")
    assert action.startswith("What to do: ")
    assert isinstance(falsepositives, list)
    assert falsepositives
    told = PAGE.partition(f"### {rule['title']}\n")[2].partition("\n### ")[0]
    for text in (meaning, fires.partition(": ")[2], action.partition(": ")[2], *falsepositives):
        assert text in told


def test_the_page_has_every_query() -> None:
    """Each file below `converted` and `by_hand` is shown; Lucene once for both stores."""
    files = [path for folder in ("converted", "by_hand") for path in (RULES / folder).rglob("*.*")]
    assert len(files) > 90
    for path in files:
        assert f"```text\n{path.read_text(encoding='utf-8').rstrip()}\n```" in PAGE, path
    for path in (RULES / "converted" / "opensearch").iterdir():
        assert path.read_bytes() == (RULES / "converted" / "lucene" / path.name).read_bytes()
    assert {path.parent.name for path in files} == {folder for _, folder in LANGUAGES}


def test_the_page_has_every_alert() -> None:
    """Each alert has its line, with what to do and without the parts that Prometheus fills in."""
    page = alert_page(RULES)
    groups = yaml.safe_load((RULES / "prometheus" / "esa-tls.rules.yml").read_text(encoding="utf-8"))["groups"]
    for alert in (alert for group in groups for alert in group["rules"]):
        assert f"| `{alert['alert']}` | {alert['labels']['severity']} | " in page
        assert f" | {alert['annotations']['action']} |\n" in page
    assert "{{" not in page


def test_the_manual_names_the_versions_that_are_tried() -> None:
    """What the page tells to install is what converts the rules here."""
    wanted = (ROOT / "tests" / "peers" / "sigma" / "requirements.in").read_text(encoding="utf-8").split()
    pins = re.findall(r"\S+==\S+", (ROOT / "docs" / "rules.md").read_text(encoding="utf-8"))

    assert len(pins) == 3
    assert set(pins) <= set(wanted)
