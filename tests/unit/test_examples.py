"""deploy/examples, the three ways: Fluent Bit around us, a Collector around us, appliances that push syslog to us.

Ours are loaded and made into sources and sinks; the halves of the others meet ours. The Collector's half runs for real in
tests/peers/test_collector.py.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from esa_tls import app, config
from esa_tls.core.records import KINDS
from esa_tls.sinks.otlp import OtlpSink
from esa_tls.telemetry import Counters

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
OURS = ["esa-syslog.yaml", "esa-tls-elasticsearch.yaml", "esa-tls-loki.yaml", "esa-tls-otlp.yaml", "esa-tls.yaml"]
THEIRS = ["collector.yaml", "fluent-bit.yaml"]


def test_nothing_else_is_there() -> None:
    """Every file of the folder is looked at here."""
    assert sorted(path.name for path in EXAMPLES.iterdir()) == sorted(OURS + THEIRS)


@pytest.mark.parametrize("name", OURS)
def test_ours_load_and_lose_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is accepted, has a durable journal, a source and a sink, each sink can be made, and no listener lets in whoever comes."""
    monkeypatch.setenv("ELASTIC_API_KEY", "a-key")
    made = config.load(EXAMPLES / name)

    assert made.data_dir == "/var/lib/esa-tls"
    assert made.sources
    assert made.sinks
    assert made.journal.when_full == "block"
    for sink in made.sinks:
        assert app.make_sink(sink, Counters()).name == sink.name
    assert app.unprotected(made) == []


# -- Fluent Bit ------------------------------------------------------------------------------------------------------------------
def fluent_bit() -> dict[str, Any]:
    """Its half."""
    made: dict[str, Any] = yaml.safe_load((EXAMPLES / "fluent-bit.yaml").read_text(encoding="utf-8"))
    return made


def test_fluent_bit_keeps_the_feed_whole() -> None:
    """It sends lines to where ours listens, with acknowledgement, one worker, no drop, and everything on disk meanwhile."""
    made, theirs = config.load(EXAMPLES / "esa-tls.yaml"), fluent_bit()
    inputs, outputs = theirs["pipeline"]["inputs"], theirs["pipeline"]["outputs"]
    [forward] = [one for one in outputs if one["name"] == "forward"]

    assert (forward["host"], forward["port"]) == config.listen_address(made.sources[0].listen)
    assert (forward["require_ack_response"], forward["workers"]) == (True, 1)
    assert {one["retry_limit"] for one in outputs} == {"no_limits"}
    assert {one["storage.type"] for one in inputs} == {"filesystem"}
    assert theirs["service"]["storage.path"]
    assert "fluent_tag" in made.appliance.from_


def test_fluent_bit_takes_the_records_back_and_sends_none_round() -> None:
    """It listens where ours sends, takes frames as large as ours get, writes every record, and no record is sent to us again."""
    made, pipeline = config.load(EXAMPLES / "esa-tls.yaml"), fluent_bit()["pipeline"]
    [sink] = [one for one in made.sinks if isinstance(one, config.FluentSink)]
    [tail, forward] = pipeline["inputs"]
    [back, file] = pipeline["outputs"]

    assert [f"{forward['listen']}:{forward['port']}"] == sink.endpoints
    assert sink.max_frame_bytes < forward["buffer_max_size"]
    assert fnmatchcase(tail["tag"], back["match"])
    assert not fnmatchcase(tail["tag"], file["match"])
    assert set(sink.records) == set(KINDS)
    for kind in sink.records:
        assert fnmatchcase(f"{sink.tag_prefix}.{kind}", file["match"])
        assert not fnmatchcase(f"{sink.tag_prefix}.{kind}", back["match"])


# -- the Collector ---------------------------------------------------------------------------------------------------------------


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
