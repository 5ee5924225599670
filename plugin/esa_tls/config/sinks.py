"""Where records go to: one Struct per type of sink, told apart by `type`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from esa_tls.config.elasticsearch import ElasticsearchSink
from esa_tls.config.kafka import KafkaSink
from esa_tls.config.loki import LokiSink
from esa_tls.config.parts import (
    ClientTls,
    GiB,
    KiB,
    MiB,
    Secret,
    wrong_address,
    wrong_addresses,
    wrong_headers,
    wrong_login,
    wrong_urls,
)
from esa_tls.config.sink_settings import Compressed, ConnectTimeoutS, SentHeaders, SinkName, SinkSettings, TimeoutS
from esa_tls.config.splunk_hec import SplunkHecSink
from esa_tls.config.webhook import WebhookSink

STANDARD_OUTPUT = "-"
"""The `path` of a jsonl sink that writes to standard output."""


class JsonlSink(SinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="jsonl", tag_field="type"):
    """JSON lines, to a file or to standard output. A file has no repeats and no torn line, also after a crash."""

    name: SinkName = "jsonl"
    path: Annotated[str, Meta(description="The file, or `-` for standard output.", min_length=1)] = STANDARD_OUTPUT
    max_file_bytes: Annotated[
        int, Meta(description="A file that has grown to this is set aside as `PATH.1` and a new one begun.", ge=64 * KiB)
    ] = 256 * MiB
    keep_files: Annotated[int, Meta(description="Files set aside that are kept; the oldest beyond are removed.", ge=1)] = 5


class FluentEndpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One receiver of a fluent sink, where `HOST:PORT` does not say enough. What is left out is taken from the sink."""

    endpoint: Annotated[str, Meta(description="`HOST:PORT`.", min_length=1)]
    weight: Annotated[int, Meta(description="Its share of the frames, against the weights of the others.", ge=1, le=1000)] = 60
    standby: Annotated[bool, Meta(description="Used only while none of those without `standby` is healthy.")] = False
    shared_key: Annotated[Secret | None, Meta(description="Its shared key, if it is not the sink's.")] = None
    username: Annotated[str | None, Meta(description="User to log in as, if it is not the sink's.")] = None
    password: Annotated[Secret | None, Meta(description="That user's password.")] = None


class FluentSink(SinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="fluent", tag_field="type"):
    """Fluent Forward out, to Fluent Bit, Fluentd or the like. A record is delivered when its frame was acknowledged."""

    endpoints: Annotated[
        list[str | FluentEndpoint],
        Meta(description="Receivers, each `HOST:PORT` or keys as below. Frames are spread over the healthy ones by weight.", min_length=1),
    ]
    name: SinkName = "fluent"
    tag_prefix: Annotated[str, Meta(description="The tag is this and the record's kind: `esa.delivery`.", min_length=1)] = "esa"
    tls: Annotated[ClientTls | None, Meta(description="TLS towards the receivers; null: none.")] = None
    shared_key: Annotated[
        Secret | None, Meta(description="The key that the receivers want to see; `''` is an empty key, null: they want none.")
    ] = None
    username: Annotated[
        Annotated[str, Meta(min_length=1, max_length=255)] | None, Meta(description="User to log in as, where receivers want one.")
    ] = None
    password: Annotated[Secret | None, Meta(description="That user's password.")] = None
    self_hostname: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="How this side calls itself to receivers with a key. null: the host's full name."),
    ] = None
    compression: Compressed = "gzip"
    max_frame_bytes: Annotated[
        int, Meta(description="Largest frame before compression. Fluent Bit takes 6,144,000 at most by default.", ge=64 * KiB, le=GiB)
    ] = 4_000_000
    connect_timeout_s: ConnectTimeoutS = 10.0
    ack_timeout_s: Annotated[float, Meta(description="A frame not acknowledged for so long is sent again.", gt=0)] = 60.0


class OtlpSink(SinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="otlp", tag_field="type"):
    """OTLP logs out, to the OpenTelemetry Collector or any OTLP server. One resource per appliance."""

    endpoints: Annotated[
        list[str],
        Meta(
            description="Servers; the first is used, the next ones when it cannot be reached. For `grpc` `HOST:PORT`, for `http` the base "
            "URL (`/v1/logs` is put behind it).",
            min_length=1,
        ),
    ]
    protocol: Annotated[Literal["grpc", "http"], Meta(description="How to talk to them.")] = "grpc"
    name: SinkName = "otlp"
    tls: Annotated[
        ClientTls | None,
        Meta(
            description="TLS towards the servers. null: none for `grpc`; for `http` the endpoint's `https://` decides, with the "
            "system's authorities."
        ),
    ] = None
    headers: SentHeaders = msgspec.field(default_factory=dict)
    compression: Compressed = "gzip"
    max_request_bytes: Annotated[
        int, Meta(description="Largest request before compression. A gRPC server takes 4 MiB at most by default.", ge=64 * KiB, le=GiB)
    ] = 4 * MiB
    timeout_s: TimeoutS = 10.0


def wrong_fluent(sink: FluentSink) -> Iterator[tuple[str, str]]:
    """What is wrong beyond single types: (path below the sink, reason)."""
    for number, entry in enumerate(sink.endpoints):
        where = f"endpoints[{number}]"
        if not isinstance(entry, FluentEndpoint):
            if reason := wrong_address(entry):
                yield where, reason
            continue
        if reason := wrong_address(entry.endpoint):
            yield f"{where}.endpoint", reason
        yield from (
            (f"{where}.{path}", reason)
            for path, reason in _wrong_user(entry, key=sink.shared_key if entry.shared_key is None else entry.shared_key)
        )
    yield from _wrong_user(sink, key=sink.shared_key)


def _wrong_user(entry: FluentSink | FluentEndpoint, *, key: Secret | None) -> Iterator[tuple[str, str]]:
    yield from wrong_login(entry.username, entry.password)
    if entry.username is not None and key is None:
        yield "username", "a user logs in beside a shared key; set shared_key, to '' if the receiver has an empty one"


def wrong_otlp(sink: OtlpSink) -> Iterator[tuple[str, str]]:
    """What is wrong beyond single types: (path below the sink, reason)."""
    if sink.protocol == "http":
        yield from wrong_urls("endpoints", sink.endpoints, tls=sink.tls is not None)
        yield from wrong_headers(sink.headers)
    else:
        yield from wrong_addresses("endpoints", sink.endpoints)
    if sink.constants:
        yield "constants", "has no effect on OTLP: its resources and scopes say the same"


Sink = (
    JsonlSink
    | FluentSink
    | OtlpSink
    | ElasticsearchSink
    | KafkaSink
    | LokiSink
    | SplunkHecSink
    | WebhookSink
)  # fmt: skip
"""All types of sinks."""
