"""The example of a Collector around esa-tls: our half is loaded, and both halves meet each other's ports."""

from __future__ import annotations

from pathlib import Path

import yaml

from esa_tls import app, config
from esa_tls.sinks.otlp import OtlpSink
from esa_tls.telemetry import Counters

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"


def test_our_half_loads_and_makes_its_sink() -> None:
    """deploy/examples/esa-tls-otlp.yaml is accepted: OTLP over gRPC on both sides, appliances by host.name."""
    made = config.load(EXAMPLES / "esa-tls-otlp.yaml")
    [source], [sink] = made.sources, made.sinks

    assert isinstance(source, config.OtlpGrpcSource)
    assert isinstance(sink, config.OtlpSink)
    assert made.appliance.from_ == ["otlp:host.name"]
    assert isinstance(app.make_sink(sink, Counters()), OtlpSink)


def test_the_collectors_half_meets_ours_and_keeps_the_feed_whole() -> None:
    """deploy/examples/collector.yaml sends to where ours listens and listens where ours sends; one consumer, no drop, lines on disk."""
    made = config.load(EXAMPLES / "esa-tls-otlp.yaml")
    collector = yaml.safe_load((EXAMPLES / "collector.yaml").read_text(encoding="utf-8"))
    exporter, sink = collector["exporters"]["otlp_grpc/esa-tls"], made.sinks[0]
    assert isinstance(sink, config.OtlpSink)

    assert exporter["endpoint"] == made.sources[0].listen
    assert [collector["receivers"]["otlp/records"]["protocols"]["grpc"]["endpoint"]] == sink.endpoints
    assert (exporter["sending_queue"]["num_consumers"], exporter["sending_queue"]["storage"]) == (1, "file_storage")
    assert exporter["retry_on_failure"]["max_elapsed_time"] == 0
    receiver = collector["receivers"]["file_log/esa1"]
    assert receiver["retry_on_failure"]["enabled"] is True
    assert receiver["resource"] == {"host.name": "esa1"}
    parts = {name for kind in ("receivers", "exporters") for name in collector[kind]}
    used = {
        name for pipeline in collector["service"]["pipelines"].values() for kind in ("receivers", "exporters") for name in pipeline[kind]
    }
    assert parts == used
