"""The whole configuration: appliances, limits, the journal, what listens; sources and sinks have files of their own."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from esa_tls.config.own_telemetry import Telemetry
from esa_tls.config.parts import GiB, ListenTls, MiB, Secret
from esa_tls.config.require_tls import RequireTls
from esa_tls.config.sinks import JsonlSink, Sink
from esa_tls.config.source_settings import Listen, Lossy, MaxRequestBytes
from esa_tls.config.sources import FluentSource, OtlpGrpcSource, OtlpHttpSource, Source


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


class Store(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The embedded store: ended connections, deliveries and messages in one SQLite file, for the page, `esa-tls lookup` and the API."""

    path: Annotated[str, Meta(description="The file, in `data_dir` unless the path is absolute. On a local disk.", min_length=1)] = (
        "store.sqlite"
    )
    max_age_days: Annotated[
        int,
        Meta(
            description="Records and lines are removed so long after they were stored, or up to a day later; so are the page's counts.",
            ge=1,
            le=3650,
        ),
    ] = 30
    max_bytes: Annotated[int, Meta(description="The oldest records are removed while the file holds more.", ge=64 * MiB)] = 4 * GiB
    lines: Annotated[
        bool, Meta(description="Keep log lines too, so that a message's story shows what proves it. `false`: records only.")
    ] = True
    max_lines_bytes: Annotated[
        int,
        Meta(description="The oldest lines are removed while lines take more of the file, compressed. Their records stay.", ge=16 * MiB),
    ] = GiB


class Web(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The HTTP server for `/metrics`, `/health/live`, `/health/ready`, and the page for people."""

    listen: Listen = "127.0.0.1:8080"
    tls: Annotated[ListenTls | None, Meta(description="TLS for it; null: none.")] = None
    metrics_token: Annotated[
        Secret | None,
        Meta(description="If set, `/metrics` wants the header `Authorization: Bearer TOKEN`. `${NAME}` takes it from the environment."),
    ] = None
    page: Annotated[
        bool | None,
        Meta(
            description="Serve the page, which shows every record kept. null: on a loopback address, and on others if `token` is set or "
            "`tls.client_ca_file` asks for a certificate."
        ),
    ] = None
    token: Annotated[
        Secret | None,
        Meta(
            description="If set, the page asks for it once and sets a cookie that is good for 12 hours; programs send "
            "`Authorization: Bearer TOKEN`. `${NAME}` takes it from the environment."
        ),
    ] = None
    names: Annotated[
        list[str],
        Meta(description="Host names by which browsers reach the page, beside IP addresses and `localhost`; others are refused."),
    ] = msgspec.field(default_factory=list)


def is_guarded(web: Web) -> bool:
    """Whether strangers are kept from the page: only this machine reaches it, or it asks for a token or a certificate."""
    host = web.listen.rpartition(":")[0].strip("[]")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return loopback or web.token is not None or (web.tls is not None and web.tls.client_ca_file is not None)


class Api(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Our own gRPC service: lines in and records out, look-ups, and records as they happen. `esa-tls lookup` and `watch` use it."""

    listen: Listen = "127.0.0.1:4319"
    name: Annotated[str, Meta(description="Name of this source of lines, used in metrics and messages.", min_length=1)] = "api"
    token: Annotated[
        Secret | None,
        Meta(
            description="If set, each call needs the metadata `authorization: Bearer TOKEN`, but for health. "
            "`${NAME}` takes it from the environment. Set it before you listen anywhere but on loopback: who gets in can read every record."
        ),
    ] = None
    tls: Annotated[ListenTls | None, Meta(description="TLS; null: plain text.")] = None
    lossy: Lossy = None
    max_request_bytes: MaxRequestBytes = 16 * MiB
    max_calls: Annotated[int, Meta(description="Calls under way, of all clients; more are refused.", ge=1)] = 128
    max_watchers: Annotated[int, Meta(description="Of these, calls that get records as they happen; more are refused.", ge=1)] = 64


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration. Every key may be left out."""

    data_dir: Annotated[
        str,
        Meta(
            description="Folder of the journal and the store. One running sidecar each; put it on a disk that survives restarts.",
            min_length=1,
        ),
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
    require_tls: Annotated[
        RequireTls | None, Meta(description="Where TLS is expected, whatever the appliance was told; null: nowhere in particular.")
    ] = None
    journal: Annotated[Journal, Meta(description="Limits of the journal.")] = Journal()
    web: Annotated[Web | None, Meta(description="HTTP server for metrics and health; null: none.")] = Web()
    api: Annotated[Api | None, Meta(description="gRPC service; null: none.")] = Api()
    store: Annotated[Store | None, Meta(description="The embedded store; null: none.")] = Store()
    telemetry: Annotated[Telemetry, Meta(description="Where own metrics, traces and log go, beside `/metrics` and standard error.")] = (
        Telemetry()
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="What the sidecar says of itself on standard error.")
    ] = "info"
