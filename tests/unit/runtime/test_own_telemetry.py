from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from esa_tls.config import Telemetry, TelemetryFluent, TelemetryOtlp, parse
from esa_tls.core.batch import Batch, Origin, Run
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.errors import ConfigError
from esa_tls.runtime import own_telemetry
from esa_tls.runtime.intake import Intake
from esa_tls.runtime.journal import Journal
from esa_tls.runtime.own_log import MapFormatter
from esa_tls.telemetry import EVENT_TIME_LAG, SPANS, Counters


async def spans_of(batches: list[Batch], tmp_path: Path, sampler: Sampler) -> list[Any]:
    """What an intake traces of these batches."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    journal = Journal.open(tmp_path)
    pipeline = Pipeline(CoreSettings(), journal, encodings=("json",), now_s=1_700_000_000.0)
    intake = Intake(pipeline, journal, counters=Counters(), tracer=provider.get_tracer("test"))
    running = asyncio.create_task(intake.run())
    try:
        await asyncio.gather(*(intake.submit(one) for one in batches))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        journal.close()
        provider.shutdown()
    return list(exporter.get_finished_spans())


def batch(n: int) -> Batch:
    """A batch of n lines."""
    return Batch(
        [Run(Origin(source="in", peer="192.0.2.1"), [b"Mon Nov 24 00:00:02 2025 Info: line %d" % i for i in range(n)])], 1, b"%16d" % n
    )


async def test_a_traced_batch_shows_its_commit(tmp_path: Path) -> None:
    """A span until it is durable, with source and lines; the commit is a child of the first batch in it and linked to the others."""
    spans = await spans_of([batch(3), batch(2)], tmp_path, ALWAYS_ON)
    received = {span.attributes["esa_tls.lines"]: span for span in spans if span.name == "receive"}
    assert {number: span.attributes["esa_tls.source"] for number, span in received.items()} == {3: "in", 2: "in"}
    commits = [span for span in spans if span.name == "commit"]
    assert sum(span.attributes["esa_tls.batches"] for span in commits) == 2
    parents = {span.parent.span_id for span in commits}
    linked = {link.context.span_id for span in commits for link in span.links}
    assert parents | linked == {span.context.span_id for span in received.values()}
    for span in spans:
        [known] = [kind for kind in SPANS if kind.name == span.name]
        assert set(span.attributes) <= set(known.attributes)


async def test_what_is_not_sampled_costs_no_span(tmp_path: Path) -> None:
    """With a ratio of 0 nothing is traced, and the batch is durable all the same."""
    assert await spans_of([batch(3)], tmp_path, ALWAYS_OFF) == []


def test_a_log_line_becomes_a_map() -> None:
    """Message, level, logger, fields given as `extra`, and a traceback; what is no plain value becomes text."""
    record = logging.LogRecord("esa_tls.x", logging.WARNING, "", 0, "Sink %s failed.", ("es",), None)
    record.sink, record.path = "es", Path("a")
    assert MapFormatter().format(record) == {
        "message": "Sink es failed.",
        "level": "warning",
        "logger": "esa_tls.x",
        "sink": "es",
        "path": "a",
    }


def test_without_settings_nothing_is_attached() -> None:
    """No tracer, no handler, no thread."""
    before = list(logging.getLogger("esa_tls").handlers)
    with own_telemetry.telling(Telemetry(), Counters(), version="1") as tracer:
        assert tracer is None
        assert logging.getLogger("esa_tls").handlers == before


def test_a_receiver_that_is_not_there_holds_nothing_back() -> None:
    """Log lines for a dead Fluent receiver and a dead OTLP server are lost, within the time-out, and nobody waits for them meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        free_tcp_port = server.getsockname()[1]
    settings = Telemetry(
        otlp=TelemetryOtlp(endpoint=f"127.0.0.1:{free_tcp_port}", timeout_s=0.2),
        fluent=TelemetryFluent(endpoint=f"127.0.0.1:{free_tcp_port}", max_waiting_entries=3),
    )
    with own_telemetry.telling(settings, Counters(), version="1") as tracer:
        assert tracer is not None
        for number in range(100):
            logging.getLogger("esa_tls.test").warning("line %d", number)


def test_series_that_come_and_go() -> None:
    """A family of gauges is read anew each time, on the page and by instruments."""
    counters = Counters()
    lags = {"esa1": 3.0}
    counters.gauges(EVENT_TIME_LAG, lambda: (({"appliance": name}, lag) for name, lag in lags.items()))
    assert counters.series(EVENT_TIME_LAG) == {(("appliance", "esa1"),): 3.0}
    lags["esa2"] = 4.0
    del lags["esa1"]
    assert 'esa_tls_event_time_lag_seconds{appliance="esa2"} 4' in counters.prometheus_text()
    assert counters.observations(EVENT_TIME_LAG) == [(4.0, {"appliance": "esa2"})]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("otlp: {endpoint: nowhere}", "telemetry.otlp.endpoint: expected HOST:PORT"),
        ("otlp: {endpoint: 127.0.0.1:4317}", "telemetry.otlp.endpoint: 127.0.0.1:4317 is sources[1].listen of this sidecar"),
        ("otlp: {endpoint: 'http://127.0.0.1:4318', protocol: http}", "telemetry.otlp.endpoint: 127.0.0.1:4318 is sources[2].listen"),
        ("otlp: {endpoint: 127.0.0.1:4318, protocol: http}", "telemetry.otlp.endpoint: expected http://"),
        ("otlp: {endpoint: 'http://a:1', protocol: http, tls: {}}", "telemetry.otlp.endpoint: there is `tls`"),
        ("otlp: {endpoint: 'https://a:1', protocol: http, tls: {verify: false}}", "telemetry.otlp.tls: with protocol: http"),
        ("otlp: {endpoint: 'a:1', tls: {cert_file: x}}", "telemetry.otlp.tls: cert_file and key_file"),
        ("fluent: {endpoint: 127.0.0.1:24224}", "telemetry.fluent.endpoint: 127.0.0.1:24224 is sources[0].listen of this sidecar"),
        ("otlp: {endpoint: 'a:1', trace_ratio: 2}", "telemetry.otlp.trace_ratio: "),
    ],
)
def test_wrong_settings_are_refused(text: str, said: str) -> None:
    """With path and reason; above all an endpoint that is one of our own sources."""
    with pytest.raises(ConfigError) as refused:
        parse(f"telemetry: {{{text}}}", file="f")
    assert str(refused.value).startswith(f"f: {said}")
