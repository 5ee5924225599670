"""Where what the sidecar says of itself goes, beside `/metrics` and standard error: metrics, traces of batches, and its log."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from esa_tls.config.parts import ClientTls
from esa_tls.config.sink_settings import SentHeaders


class TelemetryOtlp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An OTLP server for the sidecar's own metrics, traces and log, e.g. an OpenTelemetry Collector. Never one of our own sources."""

    endpoint: Annotated[
        str, Meta(description="For `grpc` `HOST:PORT`, for `http` the base URL (`/v1/metrics` and so on are put behind it).", min_length=1)
    ]
    protocol: Annotated[Literal["grpc", "http"], Meta(description="How to talk to it.")] = "grpc"
    tls: Annotated[
        ClientTls | None,
        Meta(
            description="TLS towards it. null: none for `grpc`; for `http` the endpoint's `https://` decides, with the system's "
            "authorities. Of its keys `http` knows the files only."
        ),
    ] = None
    headers: SentHeaders = msgspec.field(default_factory=dict)
    metrics: Annotated[bool, Meta(description="Send metrics.")] = True
    traces: Annotated[bool, Meta(description="Send traces of batches.")] = True
    logs: Annotated[bool, Meta(description="Send the sidecar's log.")] = True
    interval_s: Annotated[float, Meta(description="Metrics are sent this often, the rest within 5 s.", ge=1, le=3600)] = 60.0
    trace_ratio: Annotated[float, Meta(description="So much of all batches is traced: 0.01 is one in a hundred.", ge=0, le=1)] = 0.01
    timeout_s: Annotated[float, Meta(description="Give up a request after this; what it held is lost.", gt=0, le=60)] = 10.0


class TelemetryFluent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Fluent Forward receiver for the sidecar's log. Without acknowledgement: it is for reading along, standard error stays complete."""

    endpoint: Annotated[str, Meta(description="`HOST:PORT`.", min_length=1)]
    tag: Annotated[str, Meta(description="Tag of the log's entries.", min_length=1)] = "esa-tls.log"
    max_waiting_entries: Annotated[int, Meta(description="Entries that wait for the receiver; of more the oldest are lost.", ge=1)] = 1_000


class Telemetry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the sidecar tells of itself. `/metrics` is a page of `web`, and the log always goes to standard error."""

    otlp: Annotated[TelemetryOtlp | None, Meta(description="OTLP server for metrics, traces and log; null: none.")] = None
    fluent: Annotated[TelemetryFluent | None, Meta(description="Fluent Forward receiver for the log; null: none.")] = None
    attributes: Annotated[
        dict[str, str],
        Meta(description="Resource attributes added to all that is sent by OTLP, e.g. `deployment.environment.name: production`."),
    ] = msgspec.field(default_factory=dict)
