"""Sends what the sidecar says of itself: metrics, traces and log by OTLP, and the log by Fluent Forward.

Rules of this file:

1. Names, units and meanings are `telemetry/`'s; libraries do the work: opentelemetry-sdk with its OTLP exporters, and fluent-logger.
2. It must never hold back or end what it tells of: everything is queued within bounds and sent by threads of the libraries. What cannot be
   delivered is lost (the exporter says so on standard error), for `/metrics` and standard error are complete without it.
3. Only loggers of `esa_tls` are sent on, so that an exporter's own complaints make no new ones.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from fluent.asynchandler import FluentHandler
from grpc import Compression as GrpcCompression
from opentelemetry.exporter.otlp.proto.grpc import _log_exporter as grpc_logs
from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc_metrics
from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc_spans
from opentelemetry.exporter.otlp.proto.http import Compression as HttpCompression
from opentelemetry.exporter.otlp.proto.http import _log_exporter as http_logs
from opentelemetry.exporter.otlp.proto.http import metric_exporter as http_metrics
from opentelemetry.exporter.otlp.proto.http import trace_exporter as http_spans
from opentelemetry.instrumentation.logging.handler import LoggingHandler
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter
from opentelemetry.sdk.metrics.export import MetricExporter, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Tracer

from esa_tls.config import Telemetry, TelemetryFluent, TelemetryOtlp, listen_address
from esa_tls.runtime.own_log import MapFormatter
from esa_tls.runtime.tls import grpc_channel_credentials, grpc_channel_options
from esa_tls.telemetry import Counters, meter_provider

OWN_LOGGER = "esa_tls"


class Exporters(NamedTuple):
    """One for each signal; None: not wanted."""

    metrics: MetricExporter | None = None
    spans: SpanExporter | None = None
    logs: LogRecordExporter | None = None


@contextmanager
def telling(settings: Telemetry, counters: Counters, *, version: str) -> Iterator[Tracer | None]:
    """Tell as `settings` want while the block runs; gives what traces batches, None if nothing is traced.

    At the end everything queued is sent, within `timeout_s`. Raises ConfigError: a TLS file cannot be used.
    """
    otlp = settings.otlp
    exporters = Exporters() if otlp is None else make_exporters(otlp, counters)
    resource = Resource.create({**settings.attributes, "service.name": "esa-tls", "service.version": version})
    timeout_ms = 0.0 if otlp is None else otlp.timeout_s * 1000
    with ExitStack() as ended:
        readers: list[MetricReader] = []
        if otlp is not None and exporters.metrics is not None:
            interval_ms = otlp.interval_s * 1000
            readers.append(
                PeriodicExportingMetricReader(exporters.metrics, export_interval_millis=interval_ms, export_timeout_millis=timeout_ms)
            )
        ended.callback(meter_provider(counters, readers, resource=resource, version=version).shutdown)
        tracer = None
        if otlp is not None and exporters.spans is not None:
            traces = TracerProvider(sampler=ParentBased(TraceIdRatioBased(otlp.trace_ratio)), resource=resource, shutdown_on_exit=False)
            traces.add_span_processor(BatchSpanProcessor(exporters.spans, export_timeout_millis=timeout_ms))
            ended.callback(traces.shutdown)
            tracer = traces.get_tracer("esa_tls", version)
        if exporters.logs is not None:
            logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
            logs.add_log_record_processor(BatchLogRecordProcessor(exporters.logs, export_timeout_millis=timeout_ms))
            ended.callback(logs.shutdown)
            ended.enter_context(_attached(LoggingHandler(logger_provider=logs)))
        if settings.fluent is not None:
            ended.enter_context(_attached(fluent_handler(settings.fluent)))
        yield tracer


def make_exporters(settings: TelemetryOtlp, counters: Counters | None = None) -> Exporters:
    """The exporters of opentelemetry-python for the protocol. Raises ConfigError: a TLS file cannot be used."""
    headers = {key.lower(): value.reveal() for key, value in settings.headers.items()}
    tls = settings.tls
    if settings.protocol == "grpc":
        told: dict[str, Any] = {
            "endpoint": settings.endpoint,
            "insecure": tls is None,
            "credentials": None if tls is None else grpc_channel_credentials(tls, owner="telemetry", counters=counters).current(),
            "channel_options": None if tls is None else tuple(grpc_channel_options(tls)),
            "headers": headers,
            "timeout": settings.timeout_s,
            "compression": GrpcCompression.Gzip,
        }
        return Exporters(
            grpc_metrics.OTLPMetricExporter(**told) if settings.metrics else None,
            grpc_spans.OTLPSpanExporter(**told) if settings.traces else None,
            grpc_logs.OTLPLogExporter(**told) if settings.logs else None,
        )
    told = {"headers": headers, "timeout": settings.timeout_s, "compression": HttpCompression.Gzip}
    if tls is not None:
        told |= {"certificate_file": tls.ca_file, "client_certificate_file": tls.cert_file, "client_key_file": tls.key_file}
    base = settings.endpoint.rstrip("/")
    return Exporters(
        http_metrics.OTLPMetricExporter(endpoint=f"{base}/v1/metrics", **told) if settings.metrics else None,
        http_spans.OTLPSpanExporter(endpoint=f"{base}/v1/traces", **told) if settings.traces else None,
        http_logs.OTLPLogExporter(endpoint=f"{base}/v1/logs", **told) if settings.logs else None,
    )


def fluent_handler(settings: TelemetryFluent) -> logging.Handler:
    """A handler that sends each log line to a Fluent Forward receiver, from a thread of fluent-logger."""
    host, port = listen_address(settings.endpoint)
    handler: logging.Handler = FluentHandler(
        settings.tag, host, port, nanosecond_precision=True, queue_maxsize=settings.max_waiting_entries, queue_circular=True
    )
    handler.setFormatter(MapFormatter())
    return handler


@contextmanager
def _attached(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger(OWN_LOGGER)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
