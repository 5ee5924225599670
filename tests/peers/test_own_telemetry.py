"""What the sidecar says of itself, received by a real Collector: metrics, traces and log by OTLP, and the log by Fluent Forward."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.e2e.sidecar import Sidecars, wait_for, write_config
from tests.e2e.test_run import deliver, simulated
from tests.peers.collecting import Collector
from tests.peers.programs import Programs, free_port

pytestmark = pytest.mark.timeout(90, func_only=True)  # a first run builds the Collector before


def exported(path: Path) -> list[dict[str, Any]]:
    """The requests in a file exporter's file; the last may still be under way."""
    return [json.loads(line) for line in path.read_text().rpartition("\n")[0].splitlines()] if path.exists() else []


def names(requests: list[dict[str, Any]], *keys: str) -> list[Any]:
    """What is left after going down these keys through all lists."""
    found: list[Any] = list(requests)
    for key in keys:
        found = [part for one in found for part in (one.get(key, []) if isinstance(one.get(key, []), list) else [one[key]])]
    return found


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_collector_receives_metrics_traces_and_log(
    tmp_path: Path, collector: Path, programs: Programs, sidecars: Sidecars, protocol: Literal["grpc", "http"]
) -> None:
    """By either protocol: the lines counted, spans of receive, commit and send, and log lines with their fields; the log by Forward too."""
    port, forward_port = free_port(), free_port()
    around = Collector(collector, programs, tmp_path)
    kinds = ("metrics", "traces", "logs", "forward")
    around.configure(
        {
            "receivers": {
                "otlp": {"protocols": {protocol: {"endpoint": f"127.0.0.1:{port}"}}},
                "fluent_forward": {"endpoint": f"127.0.0.1:{forward_port}"},
            },
            "exporters": {f"file/{kind}": {"path": str(tmp_path / f"{kind}.jsonl"), "rotation": {"max_megabytes": 100}} for kind in kinds},
            "service": {
                "pipelines": {
                    **{kind: {"receivers": ["otlp"], "exporters": [f"file/{kind}"]} for kind in kinds[:3]},
                    "logs/forward": {"receivers": ["fluent_forward"], "exporters": ["file/forward"]},
                }
            },
        }
    )
    around.start()
    endpoint = f"127.0.0.1:{port}" if protocol == "grpc" else f"http://127.0.0.1:{port}"
    telemetry = {
        "otlp": {"endpoint": endpoint, "protocol": protocol, "interval_s": 1, "trace_ratio": 1},
        "fluent": {"endpoint": f"127.0.0.1:{forward_port}"},
        "attributes": {"deployment.environment.name": "test"},
    }
    sidecar = sidecars.start(write_config(tmp_path, telemetry=telemetry)).until_ready()
    lines = simulated(messages=50)
    deliver(sidecar, lines)
    assert sidecar.drain() == 0, sidecar.text
    around.end()  # everything is on its way; what a Collector has taken it writes before it ends

    metrics = exported(tmp_path / "metrics.jsonl")
    attributes = {one["key"]: one["value"]["stringValue"] for one in names(metrics, "resourceMetrics", "resource", "attributes")}
    assert attributes["service.name"] == "esa-tls"
    assert attributes["deployment.environment.name"] == "test"
    counted = [one for one in names(metrics, "resourceMetrics", "scopeMetrics", "metrics") if one["name"] == "esa_tls.lines"]
    points = [point for one in counted for point in one["sum"]["dataPoints"]]
    assert max(point.get("asDouble", int(point.get("asInt", 0))) for point in points) == len(lines)
    spans = names(exported(tmp_path / "traces.jsonl"), "resourceSpans", "scopeSpans", "spans")
    assert {span["name"] for span in spans} == {"receive", "commit", "send"}
    received = [one for span in spans if span["name"] == "receive" for one in span["attributes"]]
    assert sum(int(one["value"]["intValue"]) for one in received if one["key"] == "esa_tls.lines") == len(lines)
    records = names(exported(tmp_path / "logs.jsonl"), "resourceLogs", "scopeLogs", "logRecords")
    said = [record["body"]["stringValue"] for record in records]
    assert any(text.startswith("Source fluent listens on") for text in said), said
    assert {record["severityText"] for record in records} >= {"INFO"}
    forwarded = names(exported(tmp_path / "forward.jsonl"), "resourceLogs", "scopeLogs", "logRecords")
    assert any("Source fluent listens on" in json.dumps(record) for record in forwarded)


def test_promtool_finds_nothing_to_say(tmp_path: Path, promtool: Path, sidecars: Sidecars) -> None:
    """`promtool check metrics` takes the page of a sidecar at work without a complaint about names, units, types or help."""
    sidecar = sidecars.start(write_config(tmp_path)).until_ready()
    deliver(sidecar, simulated(messages=50))
    wait_for("records", lambda: sidecar.metric("esa_tls_sink_records_sent_total") > 0, within_s=20)
    status, page = sidecar.get("/metrics")
    assert status == 200
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    wrong = subprocess.run(
        [promtool, "check", "metrics"], input="# TYPE a counter\na 1\n", capture_output=True, text=True, timeout=20, check=False
    )
    assert wrong.returncode != 0
