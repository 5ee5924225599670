"""From a source's setting to the source, and which listeners are open to anybody."""

import ipaddress

from esa_tls.app.reception import Reception
from esa_tls.config import (
    Config,
    FluentSource,
    OtlpGrpcSource,
    OtlpHttpSource,
    SyslogSource,
    listen_address,
    unix_path,
)
from esa_tls.runtime.intake import Intake
from esa_tls.runtime.refusals import Refusals
from esa_tls.runtime.streams import own_hostname
from esa_tls.runtime.tls import grpc_server_credentials, server_context
from esa_tls.sources.fluent import ForwardServer, ServerSettings
from esa_tls.sources.otlp_grpc import GrpcSettings, OtlpGrpcServer
from esa_tls.sources.otlp_http import HttpSettings, OtlpHttpServer
from esa_tls.sources.syslog import SyslogServer, SyslogSettings
from esa_tls.sources.syslog_udp import SyslogUdpServer
from esa_tls.telemetry import Counters
from esa_tls.wire.fluent import Limits
from esa_tls.wire.fluent_decode import ForwardSettings
from esa_tls.wire.fluent_handshake import ServerCredentials
from esa_tls.wire.otlp_lines import OtlpSettings


def unprotected(config: Config) -> list[str]:
    """Listeners that other machines reach and that ask nobody who he is."""
    listeners = []
    for source in config.sources:
        if isinstance(source, FluentSource):
            asks = source.shared_key is not None or (source.tls is not None and source.tls.client_ca_file is not None)
        elif isinstance(source, SyslogSource):
            asks = bool(source.allow) or (source.tls is not None and source.tls.client_ca_file is not None)
        else:
            asks = source.token is not None or (source.tls is not None and source.tls.client_ca_file is not None)
        listeners.append((f"source {source.name}", source.listen, asks))
    if config.api is not None:
        asks = config.api.token is not None or (config.api.tls is not None and config.api.tls.client_ca_file is not None)
        listeners.append(("api", config.api.listen, asks))
    return [f"{what} on {address}" for what, address, asks in listeners if not asks and not _is_local(address)]


def _is_local(address: str) -> bool:
    if unix_path(address) is not None:
        return True
    host = listen_address(address)[0]
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


Source = ForwardServer | OtlpGrpcServer | OtlpHttpServer | SyslogServer | SyslogUdpServer


def make_source(
    settings: FluentSource | OtlpGrpcSource | OtlpHttpSource | SyslogSource, intake: Intake, counters: Counters, config: Config
) -> Source:
    """The source a setting describes."""
    match settings:
        case FluentSource():
            return _forward_source(settings, intake, counters, config)
        case OtlpGrpcSource() | OtlpHttpSource():
            return _otlp_source(settings, intake, counters, config)
        case SyslogSource():
            return _syslog_source(settings, intake, counters)


def _record_key(config: Config) -> str | None:
    return next((name.partition(":")[2] for name in config.appliance.from_ if name.startswith("record:")), None)


def _otlp_source(
    settings: OtlpGrpcSource | OtlpHttpSource, intake: Intake, counters: Counters, config: Config
) -> OtlpGrpcServer | OtlpHttpServer:
    host, port = listen_address(settings.listen)
    otlp = OtlpSettings(
        line_keys=tuple(settings.line_keys),
        appliance_key=_record_key(config),
        host_attributes=tuple(settings.host_attributes),
        source=settings.name,
        lossy=settings.lossy,
        reorder_window_s=settings.reorder_window_s,
    )
    token = None if settings.token is None else settings.token.reveal()
    owner = f"source {settings.name}"
    refusals = Refusals(owner, counters)
    if isinstance(settings, OtlpGrpcSource):
        grpc_settings = GrpcSettings(
            name=settings.name,
            host=host,
            port=port,
            max_request_bytes=settings.max_request_bytes,
            answer_within_s=settings.answer_within_s,
            max_calls_per_session=settings.max_calls_per_session,
        )
        credentials = None if settings.tls is None else grpc_server_credentials(settings.tls, owner=owner, counters=counters)
        return OtlpGrpcServer(
            Reception(intake), counters, settings=grpc_settings, otlp=otlp, credentials=credentials, token=token, refusals=refusals
        )
    http_settings = HttpSettings(
        name=settings.name,
        host=host,
        port=port,
        max_request_bytes=settings.max_request_bytes,
        answer_within_s=settings.answer_within_s,
        request_timeout_s=settings.request_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
        max_sessions=settings.max_sessions,
    )
    tls = None if settings.tls is None else server_context(settings.tls, owner=owner, refusals=refusals, counters=counters)
    return OtlpHttpServer(Reception(intake), counters, settings=http_settings, otlp=otlp, tls=tls, token=token, refusals=refusals)


def _syslog_source(settings: SyslogSource, intake: Intake, counters: Counters) -> SyslogServer | SyslogUdpServer:
    host, port = listen_address(settings.listen)
    syslog = SyslogSettings(
        name=settings.name,
        host=host,
        port=port,
        allow=tuple(settings.allow),
        trust_host=settings.trust_host,
        lossy=settings.lossy,
        reorder_window_s=settings.reorder_window_s,
        framing=settings.framing,
        max_message_bytes=settings.max_message_bytes,
        max_sessions=settings.max_sessions,
        idle_timeout_s=settings.idle_timeout_s,
        receive_buffer_bytes=settings.receive_buffer_bytes,
        max_waiting_bytes=settings.max_waiting_bytes,
    )
    owner = f"source {settings.name}"
    refusals = Refusals(owner, counters)
    if settings.transport == "udp":
        return SyslogUdpServer(Reception(intake), counters, settings=syslog, refusals=refusals)
    tls = None if settings.tls is None else server_context(settings.tls, owner=owner, refusals=refusals, counters=counters)
    return SyslogServer(Reception(intake), counters, settings=syslog, tls=tls, refusals=refusals)


def _forward_source(settings: FluentSource, intake: Intake, counters: Counters, config: Config) -> ForwardServer:
    path = unix_path(settings.listen)
    host, port = listen_address(settings.listen) if path is None else ("", 0)
    owner = f"source {settings.name}"
    refusals = Refusals(owner, counters)
    credentials = None
    if settings.shared_key is not None:
        credentials = ServerCredentials(
            shared_key=settings.shared_key.reveal().encode(),
            users={name.encode(): password.reveal().encode() for name, password in settings.users.items()},
            hostname=settings.self_hostname or own_hostname(),
        )
    return ForwardServer(
        Reception(intake),
        counters,
        settings=ServerSettings(
            name=settings.name,
            host=host,
            port=port,
            path=path,
            socket_mode=int(settings.socket_mode, 8),
            udp_heartbeat=settings.udp_heartbeat,
            max_sessions=settings.max_sessions,
            handshake_timeout_s=settings.handshake_timeout_s,
            frame_timeout_s=settings.frame_timeout_s,
            idle_timeout_s=settings.idle_timeout_s,
        ),
        tls=None if settings.tls is None else server_context(settings.tls, owner=owner, refusals=refusals, counters=counters),
        credentials=credentials,
        refusals=refusals,
        forward=ForwardSettings(
            record_keys=tuple(settings.line_keys),
            appliance_key=_record_key(config),
            source=settings.name,
            lossy=settings.lossy,
            reorder_window_s=settings.reorder_window_s,
        ),
        limits=Limits(
            max_frame_bytes=settings.max_frame_bytes, max_decompressed_bytes=settings.max_decompressed_bytes, max_depth=settings.max_depth
        ),
    )
