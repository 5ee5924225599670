"""Every setting of esa-tls, documented once: the reference in the docs and the JSON schema are made from these Structs.

Rules of this file:

1. A setting is a field with `Meta(description=...)`; its default works without a file. Units stand in the name (`_s`, `_bytes`).
2. Nothing unknown and nothing said twice is accepted. An error is one sentence with file, path and reason (`ConfigError`).
3. `${NAME}` is replaced from the environment, and `${file:PATH}` by a file's content, in `Secret` values only; `{file: PATH}` is a
   secret that is that content. A `Secret` prints as `***` everywhere.
4. Values are checked when they are decoded (`load`), not when a Struct is built in code.

Sources and sinks are unions told apart by `type`; `app.py` has one `match` over them.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import zoneinfo
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import yaml
from msgspec import Meta, inspect

from esa_tls.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB

RecordKind = Literal["line", "connection", "delivery", "message", "consolidated"]

STANDARD_OUTPUT = "-"
"""The `path` of a jsonl sink that writes to standard output."""


class Secret:
    """A text that must not be shown: prints as `***`, and `reveal()` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one place that needs it."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


# -- the settings ----------------------------------------------------------------------------------------------------------------
class Appliance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which appliance a line came from, and its clock. Two appliances must never get one name: their ids would be mixed up."""

    name: Annotated[
        str | None,
        Meta(description="The name of the appliance, for all lines. Right only when one single appliance feeds this sidecar."),
    ] = None
    from_: Annotated[
        list[str],
        Meta(
            description="Where the name is taken from: the first of the list that yields one. `record:KEY` is a key of the Forward record, "
            "`syslog:host` the host field nearest to the line's body, `otlp:host.name` a resource attribute, `fluent_tag` the whole tag, "
            "`peer` the sender's address."
        ),
    ] = msgspec.field(name="from", default_factory=lambda: ["record:appliance", "syslog:host", "otlp:host.name", "fluent_tag", "peer"])
    timezone: Annotated[str, Meta(description="IANA name of the zone the appliances' clocks show; their lines carry none.")] = "UTC"
    timezones: Annotated[dict[str, str], Meta(description="Zones of single appliances, by name, where they differ from `timezone`.")] = (
        msgspec.field(default_factory=dict)
    )


class ListenTls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS of a listener. The files are looked at again while it runs: a renewed certificate needs no restart."""

    cert_file: Annotated[str, Meta(description="PEM file: the certificate, and behind it those between it and its root.", min_length=1)]
    key_file: Annotated[
        str, Meta(description="PEM file: its private key, without passphrase and readable by this user only.", min_length=1)
    ]
    client_ca_file: Annotated[
        str | None,
        Meta(description="PEM file of authorities. If given, only peers with a certificate signed by one of them get in (mutual TLS)."),
    ] = None
    min_version: Annotated[Literal["1.2", "1.3"], Meta(description="Oldest TLS version that is spoken.")] = "1.2"


class ClientTls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS towards a server. The files are looked at again at each new connection."""

    ca_file: Annotated[
        str | None,
        Meta(description="PEM file of the authorities that may have signed the server's certificate. null: those of the system."),
    ] = None
    verify: Annotated[
        bool, Meta(description="Check the server's certificate and name. `false` is for tests: anybody in between can read and alter all.")
    ] = True
    server_name: Annotated[
        str | None, Meta(description="Name that the server's certificate has to carry (and SNI). null: the host that is connected to.")
    ] = None
    cert_file: Annotated[str | None, Meta(description="PEM file of our own certificate, for servers that want one (mutual TLS).")] = None
    key_file: Annotated[str | None, Meta(description="PEM file of its private key.")] = None
    min_version: Annotated[Literal["1.2", "1.3"], Meta(description="Oldest TLS version that is spoken.")] = "1.2"


class FluentSecurity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The handshake of Fluent Forward (HELO, PING, PONG): who does not know the key, and a user's password, does not get in."""

    shared_key: Annotated[
        Secret,
        Meta(description="The key both sides know. `''` is a key too: senders have to shake hands with an empty one (`empty_shared_key`)."),
    ]
    users: Annotated[dict[str, Secret], Meta(description="User names and their passwords. If there are any, a sender has to be one.")] = (
        msgspec.field(default_factory=dict)
    )
    self_hostname: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="How this side calls itself. It has to differ from the sender's name. null: the host's full name."),
    ] = None


class FluentSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="fluent", tag_field="type"):
    """Fluent Forward in, from Fluent Bit, Fluentd, the Collector or any Forward client. Acknowledges after the commit."""

    name: Annotated[str, Meta(description="Unique name, used in metrics and messages.", min_length=1)] = "fluent"
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
    tls: Annotated[ListenTls | None, Meta(description="TLS for this listener; null: none.")] = None
    security: Annotated[FluentSecurity | None, Meta(description="Shared key and users; null: whoever reaches the port may send.")] = None
    udp_heartbeat: Annotated[
        bool, Meta(description="Answer heartbeats on UDP, on the port of the same number (Fluentd's `heartbeat_type udp`).")
    ] = False
    line_keys: Annotated[
        list[str],
        Meta(description="Keys of a record that may hold the raw line; the first one present counts.", min_length=1),
    ] = msgspec.field(default_factory=lambda: ["log", "message", "MESSAGE"])
    lossy: Annotated[
        bool | None,
        Meta(
            description="True: lines of this source may get lost or come late, so a missing TLS line proves less. "
            "null: true for lines that carry a syslog prefix, false for others."
        ),
    ] = None
    reorder_window_s: Annotated[
        Annotated[float, Meta(ge=0, le=60)] | None,
        Meta(description="Decide `none` only so many seconds after the line that would decide it. null: 2 where lossy, else 0."),
    ] = None
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


class OtlpGrpcSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="otlp_grpc", tag_field="type"):
    """OTLP logs in over gRPC, from the OpenTelemetry Collector, Fluent Bit or an SDK. Answers after the commit."""

    name: Annotated[str, Meta(description="Unique name, used in metrics and messages.", min_length=1)] = "otlp_grpc"
    listen: Annotated[str, Meta(description="Address to listen on, `HOST:PORT`; an IPv6 host in brackets; port 0 takes a free one.")] = (
        "127.0.0.1:4317"
    )
    line_keys: Annotated[
        list[str],
        Meta(
            description="Keys of a body that is a map (Fluent Bit sends those) that may hold the raw line; the first one present counts.",
            min_length=1,
        ),
    ] = msgspec.field(default_factory=lambda: ["log", "message", "MESSAGE"])
    host_attributes: Annotated[
        list[str],
        Meta(
            description="Attributes that name the appliance's host (`otlp:host.name` of `appliance.from`): the first there is, "
            "in the resource before the record. `record:KEY` is looked up in the record's attributes and body, then in the resource.",
            min_length=1,
        ),
    ] = msgspec.field(default_factory=lambda: ["host.name"])
    lossy: Annotated[
        bool | None,
        Meta(
            description="True: lines of this source may get lost or come late, so a missing TLS line proves less. "
            "null: true for lines that carry a syslog prefix, false for others."
        ),
    ] = None
    reorder_window_s: Annotated[
        Annotated[float, Meta(ge=0, le=60)] | None,
        Meta(description="Decide `none` only so many seconds after the line that would decide it. null: 2 where lossy, else 0."),
    ] = None
    max_request_bytes: Annotated[
        int, Meta(description="A larger request is refused for good, also if it is larger only unpacked.", ge=64 * KiB, le=GiB)
    ] = 64 * MiB
    answer_within_s: Annotated[
        float,
        Meta(
            description="What is not committed by then is answered as retryable, and the sender sends it again, without harm. "
            "Keep it below the sender's time-out (the Collector's is 5 s).",
            gt=0,
            le=60,
        ),
    ] = 4.0
    tls: Annotated[ListenTls | None, Meta(description="TLS for this listener; null: none.")] = None
    token: Annotated[
        Secret | None,
        Meta(description="If set, senders must show the header `Authorization: Bearer TOKEN`. `${NAME}` takes it from the environment."),
    ] = None
    max_calls_per_connection: Annotated[int, Meta(description="Calls under way on one connection; more wait at the sender.", ge=1)] = 32


class OtlpHttpSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="otlp_http", tag_field="type"):
    """OTLP logs in over HTTP (`POST /v1/logs`, protobuf or JSON, plain, gzip or zstd). Answers after the commit."""

    name: Annotated[str, Meta(description="Unique name, used in metrics and messages.", min_length=1)] = "otlp_http"
    listen: Annotated[str, Meta(description="Address to listen on, `HOST:PORT`; an IPv6 host in brackets; port 0 takes a free one.")] = (
        "127.0.0.1:4318"
    )
    line_keys: Annotated[
        list[str],
        Meta(
            description="Keys of a body that is a map (Fluent Bit sends those) that may hold the raw line; the first one present counts.",
            min_length=1,
        ),
    ] = msgspec.field(default_factory=lambda: ["log", "message", "MESSAGE"])
    host_attributes: Annotated[
        list[str],
        Meta(
            description="Attributes that name the appliance's host (`otlp:host.name` of `appliance.from`): the first there is, "
            "in the resource before the record. `record:KEY` is looked up in the record's attributes and body, then in the resource.",
            min_length=1,
        ),
    ] = msgspec.field(default_factory=lambda: ["host.name"])
    lossy: Annotated[
        bool | None,
        Meta(
            description="True: lines of this source may get lost or come late, so a missing TLS line proves less. "
            "null: true for lines that carry a syslog prefix, false for others."
        ),
    ] = None
    reorder_window_s: Annotated[
        Annotated[float, Meta(ge=0, le=60)] | None,
        Meta(description="Decide `none` only so many seconds after the line that would decide it. null: 2 where lossy, else 0."),
    ] = None
    max_request_bytes: Annotated[
        int, Meta(description="A larger request is refused for good, also if it is larger only unpacked.", ge=64 * KiB, le=GiB)
    ] = 64 * MiB
    answer_within_s: Annotated[
        float,
        Meta(
            description="What is not committed by then is answered as retryable, and the sender sends it again, without harm. "
            "Keep it below the sender's time-out (the Collector's is 5 s).",
            gt=0,
            le=60,
        ),
    ] = 4.0
    tls: Annotated[ListenTls | None, Meta(description="TLS for this listener; null: none.")] = None
    token: Annotated[
        Secret | None,
        Meta(description="If set, senders must show the header `Authorization: Bearer TOKEN`. `${NAME}` takes it from the environment."),
    ] = None
    max_connections: Annotated[
        int,
        Meta(
            description="Senders connected at the same time. One more takes the place of a sender that does nothing; "
            "it is turned away if all are at work.",
            ge=1,
        ),
    ] = 1024
    read_timeout_s: Annotated[
        float, Meta(description="A body that has not come within this is given up; the sender may try again.", gt=0)
    ] = 30.0
    idle_timeout_s: Annotated[float, Meta(description="A connection that sends no whole request for so long is closed.", ge=1)] = 75.0


class SyslogSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="syslog", tag_field="type"):
    """Syslog in, RFC 3164 and 5424, from the appliance's own syslog push or through relays. Syslog knows no acknowledgement.

    One entry for each transport. Two entries need a `name` each.
    """

    transport: Annotated[
        Literal["udp", "tcp", "tls"],
        Meta(description="What is listened for. `udp` may lose lines and nobody notices; `tcp` and `tls` hold the sender back instead."),
    ]
    name: Annotated[str, Meta(description="Unique name, used in metrics and messages.", min_length=1)] = "syslog"
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
    lossy: Annotated[
        bool | None,
        Meta(
            description="True: lines of this source may get lost or come late, so a missing TLS line proves less. "
            "null: true for lines that carry a syslog prefix, false for others. UDP is always lossy."
        ),
    ] = None
    reorder_window_s: Annotated[
        Annotated[float, Meta(ge=0, le=60)] | None,
        Meta(description="Decide `none` only so many seconds after the line that would decide it. null: 2 where lossy, else 0."),
    ] = None
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


class JsonlSink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="jsonl", tag_field="type"):
    """JSON lines, to a file or to standard output. A file has no repeats and no torn line, also after a crash."""

    name: Annotated[
        str, Meta(description="Unique name; the sink's place in the journal is kept under it, so renaming starts anew.", min_length=1)
    ] = "jsonl"
    path: Annotated[str, Meta(description="The file, or `-` for standard output.", min_length=1)] = STANDARD_OUTPUT
    records: Annotated[list[RecordKind], Meta(description="Kinds of records wanted.", min_length=1)] = msgspec.field(
        default_factory=lambda: ["line", "connection", "delivery", "message", "consolidated"]
    )
    from_: Annotated[
        Literal["tail", "oldest"],
        Meta(description="Where a new sink begins: at what comes from now on, or at the oldest record still in the journal."),
    ] = msgspec.field(name="from", default="tail")
    max_file_bytes: Annotated[
        int, Meta(description="A file that has grown to this is set aside as `PATH.1` and a new one begun.", ge=64 * KiB)
    ] = 256 * MiB
    keep_files: Annotated[int, Meta(description="Files set aside that are kept; the oldest beyond are removed.", ge=1)] = 5
    retry_initial_s: Annotated[float, Meta(description="Wait after the first failed write; doubles each time, with jitter.", gt=0)] = 1.0
    retry_max_s: Annotated[float, Meta(description="Longest wait between two tries.", gt=0)] = 60.0


class FluentUpstream(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One receiver of a fluent sink, where `HOST:PORT` does not say enough. What is left out is taken from the sink."""

    host: Annotated[str, Meta(description="Name or address.", min_length=1)]
    port: Annotated[int, Meta(description="TCP port.", ge=1, le=65535)] = 24224
    weight: Annotated[int, Meta(description="Its share of the frames, against the weights of the others.", ge=1, le=1000)] = 60
    standby: Annotated[bool, Meta(description="Used only while none of those without `standby` is healthy.")] = False
    shared_key: Annotated[Secret | None, Meta(description="Its shared key, if it is not the sink's.")] = None
    username: Annotated[str | None, Meta(description="User to log in as, if it is not the sink's.")] = None
    password: Annotated[Secret | None, Meta(description="That user's password.")] = None


class FluentSink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="fluent", tag_field="type"):
    """Fluent Forward out, to Fluent Bit, Fluentd or the like. A record is delivered when its frame was acknowledged."""

    upstreams: Annotated[
        list[str | FluentUpstream],
        Meta(description="Receivers, each `HOST:PORT` or keys as below. Frames are spread over the healthy ones by weight.", min_length=1),
    ]
    name: Annotated[
        str, Meta(description="Unique name; the sink's place in the journal is kept under it, so renaming starts anew.", min_length=1)
    ] = "fluent"
    tag_prefix: Annotated[str, Meta(description="The tag is this and the record's kind: `esa.delivery`.", min_length=1)] = "esa"
    records: Annotated[list[RecordKind], Meta(description="Kinds of records wanted.", min_length=1)] = msgspec.field(
        default_factory=lambda: ["line", "connection", "delivery", "message", "consolidated"]
    )
    from_: Annotated[
        Literal["tail", "oldest"],
        Meta(description="Where a new sink begins: at what comes from now on, or at the oldest record still in the journal."),
    ] = msgspec.field(name="from", default="tail")
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
    gzip: Annotated[bool, Meta(description="Compress frames.")] = True
    max_frame_bytes: Annotated[
        int, Meta(description="Largest frame before compression. Fluent Bit takes 6,144,000 at most by default.", ge=64 * KiB, le=GiB)
    ] = 4_000_000
    connect_timeout_s: Annotated[float, Meta(description="Give up a connection attempt after this.", gt=0)] = 10.0
    ack_timeout_s: Annotated[float, Meta(description="A frame not acknowledged for so long is sent again.", gt=0)] = 60.0
    retry_initial_s: Annotated[float, Meta(description="Wait after the first failure; doubles each time, with jitter.", gt=0)] = 1.0
    retry_max_s: Annotated[float, Meta(description="Longest wait between two tries.", gt=0)] = 60.0


class OtlpSink(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="otlp", tag_field="type"):
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
    name: Annotated[
        str, Meta(description="Unique name; the sink's place in the journal is kept under it, so renaming starts anew.", min_length=1)
    ] = "otlp"
    records: Annotated[list[RecordKind], Meta(description="Kinds of records wanted.", min_length=1)] = msgspec.field(
        default_factory=lambda: ["line", "connection", "delivery", "message", "consolidated"]
    )
    from_: Annotated[
        Literal["tail", "oldest"],
        Meta(description="Where a new sink begins: at what comes from now on, or at the oldest record still in the journal."),
    ] = msgspec.field(name="from", default="tail")
    tls: Annotated[
        ClientTls | None,
        Meta(
            description="TLS towards the servers. null: none for `grpc`; for `http` the endpoint's `https://` decides, with the "
            "system's authorities."
        ),
    ] = None
    headers: Annotated[
        dict[str, Secret],
        Meta(description="Sent with every request, e.g. `authorization: Bearer ${TOKEN}`. `${NAME}` takes it from the environment."),
    ] = msgspec.field(default_factory=dict)
    gzip: Annotated[bool, Meta(description="Compress requests.")] = True
    max_request_bytes: Annotated[
        int, Meta(description="Largest request before compression. A gRPC server takes 4 MiB at most by default.", ge=64 * KiB, le=GiB)
    ] = 4 * MiB
    timeout_s: Annotated[float, Meta(description="A request not answered for so long is sent again.", gt=0)] = 10.0
    retry_initial_s: Annotated[float, Meta(description="Wait after the first failure; doubles each time, with jitter.", gt=0)] = 1.0
    retry_max_s: Annotated[float, Meta(description="Longest wait between two tries.", gt=0)] = 60.0


Source = FluentSource | OtlpGrpcSource | OtlpHttpSource | SyslogSource
"""All types of sources."""

Sink = JsonlSink | FluentSink | OtlpSink
"""All types of sinks."""


class Journal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The journal in `data_dir`: records not yet delivered, and what is known of open connections and messages."""

    max_bytes: Annotated[int, Meta(description="Disk space the journal may use.", ge=64 * MiB)] = 8 * GiB
    when_full: Annotated[
        Literal["block", "drop_oldest"],
        Meta(
            description="What happens when a sink lags so far that `max_bytes` is used. `block`: senders are held until there is room. "
            "`drop_oldest`: the oldest undelivered records are dropped and counted."
        ),
    ] = "block"


class Web(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The HTTP server for `/metrics`, `/health/live` and `/health/ready`."""

    listen: Annotated[str, Meta(description="Address to listen on, `HOST:PORT`.")] = "127.0.0.1:8080"
    tls: Annotated[ListenTls | None, Meta(description="TLS for it; null: none.")] = None
    metrics_token: Annotated[
        Secret | None,
        Meta(description="If set, `/metrics` wants the header `Authorization: Bearer TOKEN`. `${NAME}` takes it from the environment."),
    ] = None


class Api(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Our own gRPC service: lines in and records out, look-ups, and records as they happen. `esa-tls lookup` and `watch` use it."""

    listen: Annotated[str, Meta(description="Address to listen on, `HOST:PORT`; an IPv6 host in brackets; port 0 takes a free one.")] = (
        "127.0.0.1:4319"
    )
    name: Annotated[str, Meta(description="Name of this source of lines, used in metrics and messages.", min_length=1)] = "api"
    token: Annotated[
        Secret | None,
        Meta(
            description="If set, each call needs the metadata `authorization: Bearer TOKEN`, but for health. "
            "`${NAME}` takes it from the environment. Set it before you listen anywhere but on loopback: who gets in can read every record."
        ),
    ] = None
    tls: Annotated[ListenTls | None, Meta(description="TLS; null: plain text.")] = None
    lossy: Annotated[
        bool | None,
        Meta(
            description="True: lines handed over here may get lost or come late before, so a missing TLS line proves less. "
            "null: true for lines that carry a syslog prefix, false for others."
        ),
    ] = None
    max_message_bytes: Annotated[int, Meta(description="A larger request is refused.", ge=64 * KiB, le=GiB)] = 16 * MiB
    max_calls: Annotated[int, Meta(description="Calls under way, of all clients; more are refused.", ge=1)] = 128
    max_watchers: Annotated[int, Meta(description="Of these, calls that get records as they happen; more are refused.", ge=1)] = 64


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration. Every key may be left out."""

    data_dir: Annotated[
        str, Meta(description="Folder of the journal. One running sidecar each; put it on a disk that survives restarts.", min_length=1)
    ] = "./esa-tls-data"
    appliance: Annotated[Appliance, Meta(description="Which appliance a line came from, and its clock.")] = Appliance()
    emit: Annotated[
        Literal["hold", "immediate"],
        Meta(
            description="`hold`: a line waits until its connection's TLS outcome is decided, at most `max_hold_s`. "
            "`immediate`: it leaves at once, marked `pending` if undecided. Summaries are always decided."
        ),
    ] = "hold"
    max_hold_s: Annotated[float, Meta(description="Longest time a line is held back.", ge=0, le=3600)] = 5.0
    max_held_lines: Annotated[int, Meta(description="More lines are not held back: the oldest leaves as `pending`.", ge=1)] = 10_000
    max_entries: Annotated[
        int, Meta(description="Open connections and messages kept on disk; above it the oldest ends with reason `evicted`.", ge=1_000)
    ] = 5_000_000
    cache_entries: Annotated[
        int, Meta(description="Open connections and messages kept in memory too. Up to about 1 KiB each.", ge=1_000)
    ] = 200_000
    max_receive_bytes: Annotated[
        int, Meta(description="Memory for frames being received and not yet committed, of all senders together.", ge=MiB)
    ] = 256 * MiB
    sources: Annotated[list[Source], Meta(description="Where lines come from.", min_length=1)] = msgspec.field(
        default_factory=lambda: [FluentSource(), OtlpGrpcSource(), OtlpHttpSource()]
    )
    sinks: Annotated[list[Sink], Meta(description="Where records go to, each on its own.", min_length=1)] = msgspec.field(
        default_factory=lambda: [JsonlSink()]
    )
    journal: Annotated[Journal, Meta(description="Limits of the journal.")] = Journal()
    web: Annotated[Web | None, Meta(description="HTTP server for metrics and health; null: none.")] = Web()
    api: Annotated[Api | None, Meta(description="gRPC service; null: none.")] = Api()
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="What the sidecar says of itself on standard error.")
    ] = "info"


# -- loading ---------------------------------------------------------------------------------------------------------------------
def load(path: Path | None, *, environment: Mapping[str, str] = os.environ) -> Config:
    """The configuration in the YAML file `path`; without one the defaults.

    Raises:
        ConfigError: with one sentence that names the file, the path inside it and the reason.
    """
    if path is None:
        return Config()
    try:
        text = path.read_bytes()
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror or error}"
        raise ConfigError(message) from error
    return parse(text, file=str(path), environment=environment)


def parse(text: bytes | str, *, file: str, environment: Mapping[str, str] = os.environ) -> Config:
    """`load` for a text already read; `file` is its name in errors."""
    try:
        data = _yaml(text)
        config = _convert({} if data is None else data, environment)
        for where, reason in _conflicts(config):
            raise _Refused(where, reason)  # noqa: TRY301 (the first of them, told the same way as a wrong type)
    except _Refused as refused:
        message = f"{file}: {refused.where}: {refused.reason}" if refused.where else f"{file}: {refused.reason}"
        raise ConfigError(message) from refused
    return config


def listen_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` (or `[IPv6]:PORT`) as host and port. Raises ValueError."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\s:\[\]]+)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65535:
        message = f"expected HOST:PORT, got {text!r}"
        raise ValueError(message)
    return match[1] or match[2], int(match[3])


def unix_path(text: str) -> str | None:
    """The path of `unix:PATH`; None for any other address."""
    return text.removeprefix("unix:") if text.startswith("unix:") else None


class _Refused(Exception):
    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)
        self.where = where
        self.reason = reason


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; here they are an error, and so are keys that are no text."""


def _unique_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[str, object]:
    found: dict[str, object] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise _Refused(f"line {line}", f"key {key!r} is no text; put it in quotes")
        if key in found:
            raise _Refused(f"line {line}", f"key {key!r} stands twice in one place")
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:map", _unique_mapping)


def _yaml(text: bytes | str) -> object:
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise _Refused(f"line {mark.line + 1}" if mark else "", f"no valid YAML: {error.problem or error.context}") from error
    except RecursionError as error:
        raise _Refused("", "nested too deep") from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise _Refused("", f"no valid YAML: {' '.join(str(error).split())}") from error


def _convert(data: object, environment: Mapping[str, str]) -> Config:
    if not isinstance(data, dict):
        raise _Refused("", f"expected keys and values, got {_YAML_NAMES.get(_name_of(data), _name_of(data))}")
    for list_name in ("sources", "sinks"):
        entries = data.get(list_name)
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, dict) and "type" not in entry:
                raise _Refused(f"{list_name}[{index}]", f"needs a `type`: one of {', '.join(_tags(list_name))}")
    problems: list[tuple[object, str]] = []  # the value as it stands in `data`, and what is wrong with it

    def to_secret(wanted: type, value: object) -> object:
        if wanted is not Secret:
            message = f"cannot read {wanted!r}"
            raise NotImplementedError(message)
        try:
            return Secret(_secret_text(value, environment))
        except LookupError as error:
            problems.append((value, str(error.args[0])))
            return Secret("")

    try:
        config = msgspec.convert(data, Config, dec_hook=to_secret)
    except msgspec.ValidationError as error:
        where, reason = _told(str(error), data)
        raise _Refused(where, reason) from error
    for value, reason in problems:
        raise _Refused(_path_of(data, value), reason)
    return config


def _secret_text(value: object, environment: Mapping[str, str]) -> str:
    """The text of a secret as it stands in the file. Raises LookupError with a reason, ValueError for a wrong type."""
    if isinstance(value, dict) and value.keys() == {"file"} and isinstance(value["file"], str):
        return _file_text(value["file"])
    if not isinstance(value, str):
        message = f"Expected `str`, got `{_name_of(value)}`"
        raise ValueError(message)  # noqa: TRY004 (msgspec adds the path to a ValueError)

    def replaced(match: re.Match[str]) -> str:
        if match["file"] is not None:
            return _file_text(match["file"])
        if match["name"] not in environment:
            raise LookupError(f"environment variable {match['name']!r} is not set")
        return environment[match["name"]]

    return _VARIABLE.sub(replaced, value)


def _file_text(path: str) -> str:
    """A secret file's content without the line end that editors leave. Raises LookupError."""
    try:
        with open(path, encoding="utf-8", newline="") as file:  # noqa: PTH123 (no Path at run time here)
            text = file.read(_MAX_SECRET_CHARS + 1)
    except OSError as error:
        raise LookupError(f"secret file {path!r} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise LookupError(f"secret file {path!r} is no UTF-8 text") from error
    text = text.removesuffix("\n").removesuffix("\r")
    if not text or len(text) > _MAX_SECRET_CHARS:
        raise LookupError(f"secret file {path!r} is {'empty' if not text else f'longer than {_MAX_SECRET_CHARS} characters'}")
    return text


_MAX_SECRET_CHARS = 65_536

_VARIABLE = re.compile(r"\$\{(?:file:(?P<file>[^}]+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*))\}")


def _path_of(data: object, value: object, where: str = "") -> str:
    """Where this very object stands in `data`, for an error that msgspec did not find."""
    if data is value:
        return where
    if isinstance(data, dict):
        for key, part in data.items():
            if found := _path_of(part, value, f"{where}.{key}" if where else key):
                return found
    elif isinstance(data, list):
        for index, part in enumerate(data):
            if found := _path_of(part, value, f"{where}[{index}]"):
                return found
    return ""


# -- errors told in the user's words ---------------------------------------------------------------------------------------------
_YAML_NAMES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "keys and values",
}


def _name_of(value: object) -> str:
    names = {type(None): "null", bool: "bool", str: "str", int: "int", float: "float", list: "array", dict: "object"}
    return names.get(type(value), type(value).__name__)


def _told(message: str, data: object) -> tuple[str, str]:
    """What msgspec says, as (path, reason): `sources[0].listen`, `expected text, got 1`."""
    reason, _, where = message.partition(" - at `$")
    where = where.rstrip("`").removeprefix(".")
    if where.endswith("[...]"):  # msgspec does not say which key of a dict it was
        where = where.removesuffix("[...]")
        entries = _value_at(where, data)
        assert isinstance(entries, dict)
        where += "." + next((key for key, value in entries.items() if not isinstance(value, str | dict)), "?")
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", reason):
        known = _keys_at(where, data)
        close = difflib.get_close_matches(match[1], known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
        return (f"{where}.{match[1]}" if where else match[1]), f"unknown key; {hint}"
    if match := re.fullmatch(r"Object missing required field `(.*)`", reason):
        return where, f"needs the key {match[1]!r}"
    value = _value_at(where, data)
    if reason.startswith("Invalid value ") and where.endswith(".type"):
        return where, f"unknown type {value!r}; known are {', '.join(_tags(where.partition('[')[0]))}"
    if reason.startswith("Invalid enum value ") and (choices := _choices_at(where, data)):
        return where, f"expected one of {', '.join(choices)}, got {value!r}"
    reason = re.sub(r"`([a-z]+)`", lambda found: _YAML_NAMES.get(found[1], found[1]), reason)
    return where, reason[0].lower() + reason[1:]


def _steps(where: str) -> list[str | int]:
    return [int(part[1:-1]) if part[0] == "[" else part for part in re.findall(r"\[\d+\]|[^.\[\]]+", where)]


def _value_at(where: str, data: object) -> object:
    for step in _steps(where):
        if isinstance(step, int):
            data = data[step] if isinstance(data, list) and step < len(data) else None
        else:
            data = data.get(step) if isinstance(data, dict) else None
    return data


def _type_at(where: str, data: object) -> inspect.Type:
    """The declared type at a path; of a union the struct that `data` names by its `type`."""
    found: inspect.Type = inspect.type_info(Config)
    for step in _steps(where):
        found = _bare(found, data)
        if isinstance(found, inspect.ListType) and isinstance(step, int):
            found = found.item_type
        elif isinstance(found, inspect.StructType):
            found = next((field.type for field in found.fields if field.encode_name == step), inspect.AnyType())
        data = _value_at(f"[{step}]" if isinstance(step, int) else step, data)
    return _bare(found, data)


def _bare(found: inspect.Type, data: object = None) -> inspect.Type:
    """A type without its description, and of a union the part that is meant."""
    while isinstance(found, inspect.Metadata):
        found = found.type
    if isinstance(found, inspect.UnionType):
        parts = [_bare(part) for part in found.types if not isinstance(_bare(part), inspect.NoneType)]
        tag = data.get("type") if isinstance(data, dict) else None
        tagged = [part for part in parts if isinstance(part, inspect.StructType) and part.tag == tag]
        structs = [part for part in parts if isinstance(part, inspect.StructType)] if isinstance(data, dict) else []
        return (tagged or structs or parts)[0]
    return found


def _keys_at(where: str, data: object) -> list[str]:
    found = _type_at(where, data)
    if not isinstance(found, inspect.StructType):
        return []
    return ([found.tag_field] if found.tag_field else []) + [field.encode_name for field in found.fields]


def _tags(list_name: str) -> list[str]:
    return [str(part.tag) for part in variants(list_name)]


def _choices_at(where: str, data: object) -> list[str]:
    found = _type_at(where, data)
    return [str(choice) for choice in found.values] if isinstance(found, inspect.LiteralType) else []


def variants(list_name: str) -> list[inspect.StructType]:
    """The types of entries that `sources` or `sinks` may have."""
    root = inspect.type_info(Config)
    assert isinstance(root, inspect.StructType)
    found = _bare(next(field.type for field in root.fields if field.encode_name == list_name))
    assert isinstance(found, inspect.ListType)
    parts = found.item_type.types if isinstance(found.item_type, inspect.UnionType) else (found.item_type,)
    return [part for part in parts if isinstance(part, inspect.StructType)]


# -- what one setting alone cannot say -------------------------------------------------------------------------------------------
_NAME_SOURCES = ("syslog:host", "otlp:host.name", "fluent_tag", "peer")


def _conflicts(config: Config) -> Iterator[tuple[str, str]]:
    """What is wrong beyond single types: (path, reason)."""
    yield from _wrong_appliance(config.appliance)
    for list_name, entries in (("sources", config.sources), ("sinks", config.sinks)):
        names: dict[str, int] = {}
        for index, entry in enumerate(entries):
            first = names.setdefault(entry.name, index)
            if first != index:
                yield f"{list_name}[{index}].name", f"{entry.name!r} is taken by {list_name}[{first}]; give each its own `name`"
    listening: dict[tuple[str, int], str] = {}
    listeners = [
        (f"sources[{index}].listen", source.listen)
        for index, source in enumerate(config.sources)
        if not (_is_udp(source) or _is_unix(source))
    ]
    listeners += [("web.listen", config.web.listen)] if config.web else []
    listeners += [("api.listen", config.api.listen)] if config.api else []
    for where, text in listeners:
        try:
            address = listen_address(text)
        except ValueError as error:
            yield where, str(error)
            continue
        if address[1] and listening.setdefault(address, where) != where:
            yield where, f"{text} is taken by {listening[address]}"
    yield from _wrong_fluent(config)
    yield from _wrong_syslog(config)
    for index, source in enumerate(config.sources):
        if isinstance(source, SyslogSource):
            continue
        limit, limit_bytes = (
            ("max_frame_bytes", source.max_frame_bytes)
            if isinstance(source, FluentSource)
            else ("max_request_bytes", source.max_request_bytes)
        )
        if limit_bytes > config.max_receive_bytes:
            yield (
                f"sources[{index}].{limit}",
                f"larger than max_receive_bytes ({config.max_receive_bytes}): such a frame could never be read",
            )
    if config.api is not None:
        if config.api.max_message_bytes > config.max_receive_bytes:
            yield (
                "api.max_message_bytes",
                f"larger than max_receive_bytes ({config.max_receive_bytes}): such a request could never be taken",
            )
        if config.api.name in {source.name for source in config.sources}:
            yield "api.name", f"{config.api.name!r} is taken by a source; give each its own `name`"
    yield from _wrong_sinks(config.sinks)
    if config.cache_entries > config.max_entries:
        yield "cache_entries", f"larger than max_entries ({config.max_entries})"
    for where, text in _plain_texts(msgspec.to_builtins(config, enc_hook=lambda _secret: None)):
        if _VARIABLE.search(text):
            yield where, "${...} is replaced in secrets only; write the value itself"


def _is_udp(source: Source) -> bool:
    """Whether it listens on a UDP port, which does not collide with a TCP port of the same number."""
    return isinstance(source, SyslogSource) and source.transport == "udp"


def _is_unix(source: Source) -> bool:
    """Whether it listens on a Unix socket."""
    return isinstance(source, FluentSource) and unix_path(source.listen) is not None


def _wrong_fluent(config: Config) -> Iterator[tuple[str, str]]:
    listening: dict[str, str] = {}
    for index, source in enumerate(config.sources):
        where = f"sources[{index}].listen"
        path = unix_path(source.listen)
        if not isinstance(source, FluentSource) or path is None:
            continue
        if not path.startswith("/") or len(os.fsencode(path)) > _MAX_UNIX_PATH_BYTES:
            yield where, f"expected unix:/PATH, absolute and of at most {_MAX_UNIX_PATH_BYTES} bytes, got {source.listen!r}"
        if listening.setdefault(path, where) != where:
            yield where, f"{source.listen} is taken by {listening[path]}"
    for index, sink in enumerate(config.sinks):
        if not isinstance(sink, FluentSink):
            continue
        for where, entry in [(f"sinks[{index}]", sink)] + [
            (f"sinks[{index}].upstreams[{number}]", upstream)
            for number, upstream in enumerate(sink.upstreams)
            if isinstance(upstream, FluentUpstream)
        ]:
            if (entry.username is None) != (entry.password is None):
                yield where, "username and password belong together"
            if entry.username is not None and entry.shared_key is None and sink.shared_key is None:
                yield where, "a user logs in beside a shared key; set shared_key, to '' if the receiver has an empty one"


_MAX_UNIX_PATH_BYTES = 107


def _wrong_syslog(config: Config) -> Iterator[tuple[str, str]]:
    listening: dict[tuple[str, int], str] = {}
    for index, source in enumerate(config.sources):
        if not isinstance(source, SyslogSource):
            continue
        where = f"sources[{index}]"
        if source.transport == "tls" and source.tls is None:
            yield f"{where}.tls", "transport: tls needs cert_file and key_file here"
        if source.transport != "tls" and source.tls is not None:
            yield f"{where}.tls", f"has no effect with transport: {source.transport}; set transport: tls"
        if source.transport == "udp":
            if source.lossy is False:
                yield f"{where}.lossy", "UDP loses lines without notice, so it cannot be false with transport: udp"
            try:
                address = listen_address(source.listen)
            except ValueError as error:
                yield f"{where}.listen", str(error)
            else:
                if address[1] and listening.setdefault(address, where) != where:
                    yield f"{where}.listen", f"{source.listen} is taken by {listening[address]}.listen"
        for number, network in enumerate(source.allow):
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                yield f"{where}.allow[{number}]", f"no address and no network: {error}"
        if not source.trust_host and config.appliance.name is None and "peer" not in config.appliance.from_:
            yield f"{where}.trust_host", "is false, so appliance.from must hold `peer`, or all senders would be one appliance"


def _wrong_appliance(appliance: Appliance) -> Iterator[tuple[str, str]]:
    if appliance.name == "":
        yield "appliance.name", "is empty"
    if appliance.name is None and not appliance.from_:
        yield "appliance.from", "is empty, and there is no appliance.name"
    for index, entry in enumerate(appliance.from_):
        if entry not in _NAME_SOURCES and not re.fullmatch(r"record:.+", entry):
            yield f"appliance.from[{index}]", f"expected record:KEY or one of {', '.join(_NAME_SOURCES)}, got {entry!r}"
        if entry.startswith("record:") and any(other.startswith("record:") for other in appliance.from_[:index]):
            yield f"appliance.from[{index}]", "only one record:KEY is looked at"
    for where, zone in [("appliance.timezone", appliance.timezone)] + [
        (f"appliance.timezones.{name}", zone) for name, zone in appliance.timezones.items()
    ]:
        try:
            zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            yield where, f"{zone!r} is no time zone that is known here"


def _wrong_sinks(sinks: list[Sink]) -> Iterator[tuple[str, str]]:
    paths: dict[str, int] = {}
    for index, sink in enumerate(sinks):
        tls = getattr(sink, "tls", None)
        if isinstance(tls, ClientTls) and (tls.cert_file is None) != (tls.key_file is None):
            yield f"sinks[{index}].tls", "cert_file and key_file belong together"
        if sink.retry_initial_s > sink.retry_max_s:
            yield f"sinks[{index}].retry_initial_s", f"larger than retry_max_s ({sink.retry_max_s:g})"
        if isinstance(sink, JsonlSink):
            path = sink.path if sink.path == STANDARD_OUTPUT else os.path.realpath(sink.path)
            first = paths.setdefault(path, index)
            if first != index:
                yield f"sinks[{index}].path", f"{sink.path!r} is written by sinks[{first}]"
            continue
        if isinstance(sink, OtlpSink) and sink.protocol == "http":
            for number, endpoint in enumerate(sink.endpoints):
                if not re.fullmatch(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?", endpoint):
                    yield f"sinks[{index}].endpoints[{number}]", f"expected http://HOST:PORT or https://HOST:PORT, got {endpoint!r}"
                elif sink.tls is not None and not endpoint.startswith("https://"):
                    yield f"sinks[{index}].endpoints[{number}]", f"there is `tls`, so expected https://..., got {endpoint!r}"
            continue
        where, addresses = ("endpoints", sink.endpoints) if isinstance(sink, OtlpSink) else ("upstreams", sink.upstreams)
        for number, address in enumerate(addresses):
            if isinstance(address, FluentUpstream):
                continue
            try:
                port = listen_address(address)[1]
            except ValueError as error:
                yield f"sinks[{index}].{where}[{number}]", str(error)
                continue
            if port == 0:
                yield f"sinks[{index}].{where}[{number}]", "port 0 is no address to send to"


def _plain_texts(data: object, where: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _plain_texts(value, f"{where}.{key}" if where else str(key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _plain_texts(value, f"{where}[{index}]")
    elif isinstance(data, str):
        yield where, data
