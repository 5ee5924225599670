"""The generated parts of docs/rules.md, from deploy/rules: every Sigma rule with its queries, every alert on esa-tls itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

LANGUAGES = (
    ("Lucene (Elasticsearch, OpenSearch)", "lucene"),
    ("ES|QL", "esql"),
    ("EQL", "eql"),
    ("Aggregation (Elasticsearch, OpenSearch)", "opensearch"),
    ("LogsQL (VictoriaLogs)", "logsql"),
    ("LogQL (Loki)", "logql"),
    ("SPL (Splunk)", "splunk"),
)
"""Heading of a query, and its folder below `by_hand` or else `converted`."""


def rule_page(rules: Path) -> str:
    """All Sigma rules as markdown, those that alarm first. `rules`: the folder deploy/rules."""
    found = [rule for path in sorted((rules / "sigma").glob("*.yml")) for rule in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
    alarms = [rule for rule in found if rule["level"] not in ("informational", "low")]
    counted = [rule for rule in found if rule not in alarms]
    table = ["| rule | level | single events or counted |", "| --- | --- | --- |"]
    table += [f"| [{rule['title']}](#{_anchor(rule)}) | {rule['level']} | {_how(rule)} |" for rule in alarms]
    parts = [*table, ""]
    for rule in alarms:
        parts += _section(rule, rules)
    parts += ["## Rules that others count", "", "No alarms by themselves.", ""]
    for rule in counted:
        parts += _section(rule, rules)
    return "\n".join(parts)


def _anchor(rule: dict[str, Any]) -> str:
    return str(rule["title"]).lower().replace(" ", "-")


def _how(rule: dict[str, Any]) -> str:
    if "correlation" not in rule:
        return "single events"
    counted = rule["correlation"]
    if counted["type"] == "temporal_ordered":
        return f"what was before, {counted['timespan']}"
    return f"{counted['condition']['gte']} within {counted['timespan']}, by `{counted['group-by'][0]}`"


def _section(rule: dict[str, Any], rules: Path) -> Iterator[str]:
    yield from (f"### {rule['title']}", "", f"`{rule['name']}`, level {rule['level']}, {_how(rule)}.", "")
    for paragraph in rule["description"].strip().split("\n\n"):
        label, colon, text = paragraph.partition(": ")
        yield from (f"**{label}:** {text}" if colon and label in ("Fires when", "What to do") else paragraph, "")
    yield from ("**False positives:**", "")
    yield from (f"- {text}" for text in rule["falsepositives"])
    yield from ("", "<details><summary>Queries</summary>", "")
    for heading, folder in LANGUAGES:
        for origin in ("by_hand", "converted"):
            for path in sorted((rules / origin / folder).glob(f"{rule['name']}.*")):
                if origin == "converted" and folder == "opensearch":
                    continue  # the same as Lucene
                by_hand = ", written by hand" if origin == "by_hand" else ""
                yield from (f"{heading}{by_hand}:", "", "```text", path.read_text(encoding="utf-8").rstrip(), "```", "")
    yield from ("</details>", "")


def alert_page(rules: Path) -> str:
    """All alerts on esa-tls itself as a markdown table per group."""
    groups = yaml.safe_load((rules / "prometheus" / "esa-tls.rules.yml").read_text(encoding="utf-8"))["groups"]
    parts: list[str] = []
    for group in groups:
        parts += [
            f"### {group['name'].removeprefix('esa-tls, ').capitalize()}",
            "",
            "| alert | severity | means | what to do |",
            "| --- | --- | --- | --- |",
        ]
        for alert in group["rules"]:
            told = alert["annotations"]
            cells = (f"`{alert['alert']}`", alert["labels"]["severity"], _plain(told["description"]), told["action"])
            parts.append(f"| {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts)


def _plain(text: str) -> str:
    """A description without the parts that Prometheus fills in."""
    return text.replace("{{ $value | humanize }} TLS lines", "TLS lines").replace(" ({{ $value | humanize }} in 15 minutes)", "")
