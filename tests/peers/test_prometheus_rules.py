"""The alerts on esa-tls itself, by promtool and by a real Prometheus that scrapes a real sidecar."""

from __future__ import annotations

import re
import socket
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tests.e2e.sidecar import Sidecars, wait_for, write_config
from tests.peers.programs import Programs, free_port
from tests.tls_files import TlsFiles

from esa_tls.telemetry import HISTOGRAM, METRICS

pytestmark = pytest.mark.timeout(90, func_only=True)

FOLDER = Path(__file__).parents[2] / "deploy" / "rules" / "prometheus"
RULES = FOLDER / "esa-tls.rules.yml"
TESTS = FOLDER / "esa-tls.test.yml"
WITHIN_S = 40.0
"""Prometheus begins to scrape 6 s after it is ready."""


def alerts() -> list[dict[str, Any]]:
    """Every alert."""
    return [rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def run(promtool: Path, *arguments: str | Path) -> str:
    """What promtool says if it is content."""
    done = subprocess.run((promtool, *arguments), cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_takes_the_alerts(promtool: Path) -> None:
    """All of them parse, their texts too."""
    assert f"SUCCESS: {len(alerts())} rules found" in run(promtool, "check", "rules", RULES.name)


def test_alerts_fire_when_they_should(promtool: Path) -> None:
    """Each has a test of its own in which it fires for one sidecar, not for another that is nearly as bad, and nothing else fires."""
    run(promtool, "test", "rules", TESTS.name)

    fired = re.findall(r'alertname="(\w+)", instance="bad"', TESTS.read_text(encoding="utf-8"))
    assert {alert["alert"] for alert in alerts()} == set(fired)


def test_a_changed_limit_is_found_by_the_tests(promtool: Path, tmp_path: Path) -> None:
    """With another number in an alert the unit tests fail: they are no decoration."""
    text = RULES.read_text(encoding="utf-8")
    assert text.count("> 0.8") == 1
    (tmp_path / RULES.name).write_text(text.replace("> 0.8", "> 0.95"), encoding="utf-8")
    (tmp_path / TESTS.name).write_bytes(TESTS.read_bytes())

    done = subprocess.run((promtool, "test", "rules", TESTS.name), cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "EsaTlsJournalNearlyFull" in done.stdout + done.stderr


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_alerts_name_metrics_and_labels_that_there_are(alert: dict[str, Any]) -> None:
    """Every metric is in the table, every label is one of its labels, and the three texts and a severity are there."""
    metrics = {metric.prometheus_name + ("_bucket" if metric.kind == HISTOGRAM else ""): metric for metric in METRICS}
    used = set(re.findall(r"\besa_tls_\w+", alert["expr"]))
    told = " ".join(alert["annotations"].values())
    labels = {label for group in re.findall(r"by \(([^)]*)\)", alert["expr"]) for label in group.split(", ")}
    labels |= set(re.findall(r'\b(\w+)!?="', alert["expr"])) | set(re.findall(r"\$labels\.(\w+)", told))

    assert used <= set(metrics)
    assert labels <= {"instance", "job", "le"} | {label for name in used for label in metrics[name].labels}
    assert set(re.findall(r"`(esa_tls_\w+)`", told)) <= set(metrics)
    assert set(alert["annotations"]) == {"summary", "description", "action"}
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert used or alert["expr"] == 'up{job="esa-tls"} == 0'


def test_a_prometheus_that_scrapes_us_evaluates_them(prometheus: Path, programs: Programs, sidecars: Sidecars, tmp_path: Path) -> None:
    """Every alert evaluates well on what a sidecar tells, and peers that are turned away fire theirs, with its text."""
    tls = TlsFiles(tmp_path)
    source = {"type": "fluent", "listen": "127.0.0.1:0", "tls": {"cert_file": tls.server[0], "key_file": tls.server[1]}}
    sidecar = sidecars.start(write_config(tmp_path, sources=[source]))
    for _ in range(11):
        with socket.create_connection(("127.0.0.1", sidecar.port), timeout=10) as peer:
            peer.sendall(b"no TLS at all\n" * 100)
    wait_for("they are turned away", lambda: sidecar.metric("esa_tls_peers_refused_total") == 11, within_s=20)

    scrapes = [{"job_name": "esa-tls", "static_configs": [{"targets": [f"127.0.0.1:{sidecar.ports['web']}"]}]}]
    config = {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [str(RULES)], "scrape_configs": scrapes}
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    flags = (f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'tsdb'}")
    running = programs.start(prometheus, *flags, f"--web.listen-address=127.0.0.1:{port}")
    running.until_said("Server is ready to receive web requests")

    def ask(path: str, **parameters: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=10) as answer:
            return msgspec.json.decode(answer.read())["data"]

    def firing() -> list[dict[str, Any]]:
        return [alert for alert in ask("alerts")["alerts"] if alert["state"] == "firing"]

    wait_for("an alert fires", lambda: bool(firing()), within_s=WITHIN_S, every_s=0.2)
    (alert,) = firing()
    assert alert["labels"].items() >= {"alertname": "EsaTlsPeersRefused", "listener": "source fluent", "reason": "no_tls"}.items()
    assert alert["annotations"]["summary"].endswith(" turns peers away at source fluent (no_tls)")
    evaluated = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"]: (rule["health"], rule.get("lastError")) for rule in evaluated} == {
        rule["alert"]: ("ok", None) for rule in alerts()
    }
    (limit,) = ask("query", query="esa_tls_journal_size_bytes / esa_tls_journal_limit_bytes")["result"]
    assert 0 < float(limit["value"][1]) < 1
    assert running.end() == 0
