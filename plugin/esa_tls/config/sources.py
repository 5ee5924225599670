"""Where lines come from: one Struct per type of source, told apart by `type`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from esa_tls.config.parts import GiB, KiB, ListenTls, MiB, Secret
from esa_tls.config.source_settings import Listen, OtlpSourceSettings, SourceName, SourceSettings


class FluentSource(SourceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="fluent", tag_field="type"):
    """Fluent Forward in, from Fluent Bit, Fluentd, the Collector or any Forward client. Acknowledges after the commit."""

    name: SourceName = "fluent"
    listen: Annotated[
        str,
        Meta(
            description="Address to listen on, `HOST:PORT`; an IPv6 host in brackets; port 0 takes a free one. "
            "`unix:/PATH` is a Unix socket."
        ),
    ] = "127.0.0.1:24224"
    socket_mode: Annotated[
        str, Meta(description="Mode of the Unix socket, octal: who may write to it may send.", pattern="^0?[0-7]{3}$")
    ] = "0660"
    shared_key: Annotated[
        Secret | None,
        Meta(
            description="The key that senders have to know; `''` is an empty key (`empty_shared_key`). null: whoever reaches the port may "
            "send."
        ),
    ] = None
    users: Annotated[dict[str, Secret], Meta(description="User names and their passwords. If there are any, a sender has to be one.")] = (
        msgspec.field(default_factory=dict)
    )
    self_hostname: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="How this side calls itself to senders. It has to differ from their names. null: the host's full name."),
    ] = None
    udp_heartbeat: Annotated[
        bool, Meta(description="Answer heartbeats on UDP, on the port of the same number (Fluentd's `heartbeat_type udp`).")
    ] = False
    line_keys: Annotated[
        list[str],
        Meta(description="Keys of a record that may hold the raw line; the first one present counts.", min_length=1),
    ] = msgspec.field(default_factory=lambda: ["log", "message", "MESSAGE"])
    max_frame_bytes: Annotated[
        int, Meta(description="A larger frame is refused from its header and its sender cut off.", ge=64 * KiB, le=GiB)
    ] = 64 * MiB
    max_decompressed_bytes: Annotated[
        int, Meta(description="Unpacking a compressed frame stops here and the frame is refused.", ge=64 * KiB, le=4 * GiB)
    ] = 256 * MiB
    max_depth: Annotated[int, Meta(description="Deeper nested frames are refused.", ge=8, le=512)] = 64
    max_sessions: Annotated[
        int,
        Meta(
            description="Senders connected at the same time. One more takes the place of a sender that sent nothing yet, or nothing for "
            "30 s; if there is none it is turned away.",
            ge=1,
        ),
    ] = 1024
    handshake_timeout_s: Annotated[
        float, Meta(description="A peer has so long for TLS, and as long again to show its key.", gt=0, le=300)
    ] = 10.0
    idle_timeout_s: Annotated[float, Meta(description="A sender that sends nothing for so long is cut off.", ge=1)] = 300.0
    frame_timeout_s: Annotated[
        float, Meta(description="A frame that is not complete so long after its first byte ends its session.", ge=1)
    ] = 300.0


class OtlpGrpcSource(OtlpSourceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="otlp_grpc", tag_field="type"):
    """OTLP logs in over gRPC, from the OpenTelemetry Collector, Fluent Bit or an SDK. Answers after the commit."""

    name: SourceName = "otlp_grpc"
    listen: Listen = "127.0.0.1:4317"
    max_calls_per_session: Annotated[int, Meta(description="Calls under way of one sender; more wait there.", ge=1)] = 32


class OtlpHttpSource(OtlpSourceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="otlp_http", tag_field="type"):
    """OTLP logs in over HTTP (`POST /v1/logs`, protobuf or JSON, plain, gzip or zstd). Answers after the commit."""

    name: SourceName = "otlp_http"
    listen: Listen = "127.0.0.1:4318"
    max_sessions: Annotated[
        int,
        Meta(
            description="Senders connected at the same time. One more takes the place of a sender that does nothing; "
            "it is turned away if all are at work.",
            ge=1,
        ),
    ] = 1024
    request_timeout_s: Annotated[
        float, Meta(description="A request that is not complete so long after it began is given up; the sender may try again.", gt=0)
    ] = 30.0
    idle_timeout_s: Annotated[float, Meta(description="A sender that sends no whole request for so long is cut off.", ge=1)] = 75.0


class SyslogSource(SourceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="syslog", tag_field="type"):
    """Syslog in, RFC 3164 and 5424, from the appliance's own syslog push or through relays. Syslog knows no acknowledgement.

    One entry for each transport. Two entries need a `name` each.
    """

    transport: Annotated[
        Literal["udp", "tcp", "tls"],
        Meta(
            description="What is listened for. `udp` may lose lines and nobody notices, so it is always `lossy`; `tcp` and `tls` hold the "
            "sender back instead."
        ),
    ]
    name: SourceName = "syslog"
    listen: Annotated[
        str,
        Meta(
            description="Address to listen on, `HOST:PORT`; an IPv6 host in brackets; port 0 takes a free one. Appliances send to 514, "
            "TLS senders to 6514; ports below 1024 want the right to bind them (`CAP_NET_BIND_SERVICE`)."
        ),
    ] = "127.0.0.1:5140"
    tls: Annotated[ListenTls | None, Meta(description="Certificate and key for `transport: tls`, and for that only.")] = None
    allow: Annotated[
        list[str],
        Meta(
            description="Addresses and networks (`192.0.2.7`, `192.0.2.0/24`) that may send; others are turned away and counted. "
            "Empty: everybody who reaches the port."
        ),
    ] = msgspec.field(default_factory=list)
    trust_host: Annotated[
        bool,
        Meta(
            description="Let the host field in a line name its appliance (`syslog:host` of `appliance.from`). Whoever may send can write "
            "any name there, so only for relays that are trusted to. false: a line belongs to the sender's address."
        ),
    ] = False
    framing: Annotated[
        Literal["auto", "octet_counting", "lf", "nul"],
        Meta(
            description="Where a message ends over TCP and TLS. `auto`: found out for each message, octet counting or up to a line feed "
            "(or NUL, as long as no line feed was seen). The others: only this."
        ),
    ] = "auto"
    max_message_bytes: Annotated[
        int, Meta(description="A longer message is cut there and its record flagged `truncated`.", ge=2 * KiB, le=256 * KiB)
    ] = 64 * KiB
    max_sessions: Annotated[
        int,
        Meta(
            description="Senders connected at the same time, or addresses known with UDP. One more takes the place of a sender that sent "
            "no whole message yet, or nothing for five minutes; it is turned away if there is none.",
            ge=1,
        ),
    ] = 1024
    idle_timeout_s: Annotated[
        float,
        Meta(description="A sender silent for so long is cut off. It does not notice, and loses what it sends next: keep it long.", ge=1),
    ] = 86_400.0
    receive_buffer_bytes: Annotated[
        int,
        Meta(
            description="UDP: what the system is asked to keep while we are busy (Linux: `net.core.rmem_max` limits it).",
            ge=64 * KiB,
            le=GiB,
        ),
    ] = 8 * MiB
    max_waiting_bytes: Annotated[
        int,
        Meta(description="UDP: lines kept while the journal takes nothing; what comes then is dropped and counted.", ge=64 * KiB, le=GiB),
    ] = 16 * MiB


Source = FluentSource | OtlpGrpcSource | OtlpHttpSource | SyslogSource
"""All types of sources."""
