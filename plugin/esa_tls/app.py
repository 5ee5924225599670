"""The composition root: configuration -> objects -> one task group, and the order in which they end.

Start: journal, core, intake, sinks (their places made durable first), sources, gRPC service, web. End (SIGTERM, SIGINT): sources stop
reading and let what they read commit and be acknowledged; the intake commits the rest; sinks send what they can within `DRAIN_S`; the
journal is closed. A second start continues where this one ended.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from esa_tls import __version__, telemetry
from esa_tls.api.lookup import CoreLookup
from esa_tls.api.server import ApiServer, ApiSettings
from esa_tls.config import (
    Config,
    FluentSink,
    FluentSource,
    FluentUpstream,
    JsonlSink,
    OtlpGrpcSource,
    OtlpHttpSource,
    OtlpSink,
    SyslogSource,
    listen_address,
    unix_path,
)
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.errors import ConfigError, EsaTlsError
from esa_tls.runtime.dispatch import Backoff, Dispatcher, Sink, stale_cursors
from esa_tls.runtime.intake import Intake
from esa_tls.runtime.journal import Journal
from esa_tls.runtime.journal_format import DeadLetter
from esa_tls.runtime.refusals import Refusals
from esa_tls.runtime.replay import replay
from esa_tls.runtime.streams import own_hostname
from esa_tls.runtime.tls import client_contexts, grpc_channel_credentials, grpc_server_credentials, server_context
from esa_tls.sinks.fluent import FluentSink as ForwardClient
from esa_tls.sinks.fluent_upstreams import Receiver
from esa_tls.sinks.jsonl import JsonlSink as JsonLinesWriter
from esa_tls.sinks.otlp import Client as OtlpTransport
from esa_tls.sinks.otlp import OtlpSink as OtlpClient
from esa_tls.sinks.otlp import make_client
from esa_tls.sources.fluent import ForwardServer, ServerSettings
from esa_tls.sources.otlp_grpc import GrpcSettings, OtlpGrpcServer
from esa_tls.sources.otlp_http import HttpSettings, OtlpHttpServer
from esa_tls.sources.syslog import SyslogServer, SyslogSettings
from esa_tls.sources.syslog_udp import SyslogUdpServer
from esa_tls.telemetry import Counters
from esa_tls.web.server import WebServer
from esa_tls.wire.fluent import Limits
from esa_tls.wire.fluent_decode import ForwardSettings, Rejected
from esa_tls.wire.fluent_handshake import ClientCredentials, ServerCredentials
from esa_tls.wire.otlp_lines import OtlpSettings

if TYPE_CHECKING:
    from esa_tls.core.batch import Batch

log = logging.getLogger("esa_tls")

DRAIN_S = 10.0
"""How long sinks may go on sending at the end; the rest stays in the outbox."""

COMMIT_S = 5.0
"""How long it may take at the end to make durable what was received: on a full disk it would take for ever."""

SINK_FAILING_S = 60.0
"""A sink that has not moved for so long makes the sidecar not ready."""


class Running(msgspec.Struct):
    """Where a started sidecar can be reached: (host, port) per source, of the web server and of the gRPC service.

    A source on a Unix socket has port 0 here.
    """

    sources: dict[str, tuple[str, int]]
    web: tuple[str, int] | None
    api: tuple[str, int] | None = None


class _Reception:
    """What a source sees of the intake: its rejects become dead letters of the journal."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def open_session(self, peer: str) -> int:
        return self._intake.open_session(peer)

    def close_session(self, session: int, *, clean: bool) -> None:
        self._intake.close_session(session, clean=clean)

    def reserve(self, n_bytes: int, /) -> AbstractAsyncContextManager[object]:
        return self._intake.reserve(n_bytes)

    async def submit(self, batch: Batch, /, *, timeout_s: float | None = None) -> None:
        await self._intake.submit(batch, timeout_s=timeout_s)

    def break_feed(self) -> None:
        self._intake.break_feed()

    async def dead_letter(self, rejected: Sequence[Rejected], *, origin: str) -> None:
        now_s = time.time()
        await self._intake.dead_letter([DeadLetter(origin, one.reason, one.payload, "raw", now_s) for one in rejected])


def core_settings(config: Config) -> CoreSettings:
    """What the core needs of the configuration."""
    appliance = config.appliance
    return CoreSettings(
        appliance_from=tuple("record:appliance" if source.startswith("record:") else source for source in appliance.from_),
        appliance_name=appliance.name,
        timezone=appliance.timezone,
        timezones=appliance.timezones,
        emit_immediately=config.emit == "immediate",
        max_hold_s=config.max_hold_s,
        max_held_lines=config.max_held_lines,
        max_entries=config.max_entries,
        cache_entries=config.cache_entries,
    )


def make_sink(settings: JsonlSink | FluentSink | OtlpSink, counters: Counters | None = None) -> Sink:
    """The sink a setting describes. `counters`: for what a sink counts itself."""
    kinds = frozenset(settings.records)
    classes = tuple(cls for cls, wanted in (("line", "line" in kinds), ("summary", bool(kinds - {"line"}))) if wanted)
    match settings:
        case JsonlSink():
            return JsonLinesWriter(
                settings.path,
                name=settings.name,
                cls_wanted=classes,
                kinds=frozenset(kinds),
                max_file_bytes=settings.max_file_bytes,
                keep_files=settings.keep_files,
            )
        case FluentSink():
            owner = f"sink {settings.name}"
            return ForwardClient(
                _receivers(settings),
                name=settings.name,
                cls_wanted=classes,
                kinds=frozenset(kinds),
                tag_prefix=settings.tag_prefix,
                gzip=settings.gzip,
                max_frame_bytes=settings.max_frame_bytes,
                connect_timeout_s=settings.connect_timeout_s,
                ack_timeout_s=settings.ack_timeout_s,
                tls=None if settings.tls is None else client_contexts(settings.tls, owner=owner, counters=counters),
                server_name=None if settings.tls is None else settings.tls.server_name,
            )
        case OtlpSink():
            return OtlpClient(
                _otlp_client(settings, counters),
                name=settings.name,
                cls_wanted=classes,
                kinds=frozenset(kinds),
                max_request_bytes=settings.max_request_bytes,
                counters=counters,
            )


def _otlp_client(settings: OtlpSink, counters: Counters | None) -> OtlpTransport:
    owner = f"sink {settings.name}"
    over_grpc = settings.protocol == "grpc"
    return make_client(
        settings.protocol,
        settings.endpoints,
        headers={key: value.reveal() for key, value in settings.headers.items()},
        gzip=settings.gzip,
        timeout_s=settings.timeout_s,
        tls=client_contexts(settings.tls, owner=owner, counters=counters).current if settings.tls is not None and not over_grpc else None,
        credentials=grpc_channel_credentials(settings.tls, owner=owner, counters=counters).current
        if settings.tls is not None and over_grpc
        else None,
        server_name=settings.tls.server_name if settings.tls is not None else None,
    )


def _receivers(settings: FluentSink) -> list[Receiver]:
    """The receivers of a Forward sink, each with what it leaves to the sink filled in."""
    hostname = settings.self_hostname
    receivers = []
    for upstream in settings.upstreams:
        if isinstance(upstream, str):
            host, port = listen_address(upstream)
            upstream = FluentUpstream(host=host, port=port)  # noqa: PLW2901 (the same in its long form)
        key = settings.shared_key if upstream.shared_key is None else upstream.shared_key
        username, password = (settings.username, settings.password) if upstream.username is None else (upstream.username, upstream.password)
        credentials = None
        if key is not None:
            hostname = hostname or own_hostname()
            credentials = ClientCredentials(
                shared_key=key.reveal().encode(),
                hostname=hostname,
                username=username,
                password=None if password is None else password.reveal().encode(),
            )
        receivers.append(Receiver(upstream.host, upstream.port, upstream.weight, upstream.standby, credentials))
    return receivers


def unprotected(config: Config) -> list[str]:
    """Listeners that other machines reach and that ask nobody who he is."""
    listeners = []
    for source in config.sources:
        if isinstance(source, FluentSource):
            asks = source.security is not None or (source.tls is not None and source.tls.client_ca_file is not None)
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


def raise_file_limit() -> None:
    """Let this process open as many files as it is allowed to: each sender and each journal file is one, and 1,024 are soon used."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


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
            max_calls_per_connection=settings.max_calls_per_connection,
        )
        credentials = None if settings.tls is None else grpc_server_credentials(settings.tls, owner=owner, counters=counters)
        return OtlpGrpcServer(
            _Reception(intake), counters, settings=grpc_settings, otlp=otlp, credentials=credentials, token=token, refusals=refusals
        )
    http_settings = HttpSettings(
        name=settings.name,
        host=host,
        port=port,
        max_request_bytes=settings.max_request_bytes,
        answer_within_s=settings.answer_within_s,
        read_timeout_s=settings.read_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
        max_connections=settings.max_connections,
    )
    tls = None if settings.tls is None else server_context(settings.tls, owner=owner, refusals=refusals, counters=counters)
    return OtlpHttpServer(_Reception(intake), counters, settings=http_settings, otlp=otlp, tls=tls, token=token, refusals=refusals)


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
        return SyslogUdpServer(_Reception(intake), counters, settings=syslog, refusals=refusals)
    tls = None if settings.tls is None else server_context(settings.tls, owner=owner, refusals=refusals, counters=counters)
    return SyslogServer(_Reception(intake), counters, settings=syslog, tls=tls, refusals=refusals)


def _forward_source(settings: FluentSource, intake: Intake, counters: Counters, config: Config) -> ForwardServer:
    path = unix_path(settings.listen)
    host, port = listen_address(settings.listen) if path is None else ("", 0)
    owner = f"source {settings.name}"
    refusals = Refusals(owner, counters)
    security = settings.security
    credentials = None
    if security is not None:
        users = {name.encode(): password.reveal().encode() for name, password in security.users.items()}
        credentials = ServerCredentials(
            shared_key=security.shared_key.reveal().encode(), users=users, hostname=security.self_hostname or own_hostname()
        )
    return ForwardServer(
        _Reception(intake),
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


class _WithFields(logging.Formatter):
    """Behind the sentence come the fields given as `extra`: `Sink failed. sink='es' error='...'`."""

    _OWN = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {"message", "asctime", "taskName"}

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the name is logging's)
        """The line without a traceback."""
        fields = "".join(f" {name}={value!r}" for name, value in record.__dict__.items() if name not in self._OWN)
        return super().formatMessage(record) + fields


@contextmanager
def _collector_off() -> Iterator[None]:
    """Around a call of the core: the cyclic garbage collector would walk every open entry again and again, and finds nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def run(config: Config, *, stop: asyncio.Event | None = None, started: Callable[[Running], None] | None = None) -> int:
    """Run until SIGTERM or SIGINT (or `stop`). Returns the exit code.

    Raises:
        ConfigError: an address cannot be had. JournalError: the journal cannot be opened.
    """
    raise_file_limit()
    handler = logging.StreamHandler()
    handler.setFormatter(_WithFields("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler])
    asyncio.run(serve(config, stop=stop, started=started))
    return 0


async def serve(config: Config, *, stop: asyncio.Event | None = None, started: Callable[[Running], None] | None = None) -> None:
    """`run` inside a running event loop. Signal handlers are set only when this is the main thread and no `stop` is given."""
    counters = Counters()
    telemetry.watch_process(counters, version=__version__)
    meters = telemetry.meter_provider(counters, [], version=__version__)
    journal = Journal.open(Path(config.data_dir), max_bytes=config.journal.max_bytes)
    try:
        await _serve(config, journal, counters, stop or _stop_on_signal(), started)
    except* EsaTlsError as group:
        raise _the_error(group) from group
    finally:
        journal.close()
        meters.shutdown()


def replay_dead_letters(config: Config, *, limit: int) -> int:
    """Send the oldest `limit` dead letters to the sinks that refused them; returns how many they took, which are deleted.

    Files are left out: they refuse nothing. Raises JournalError (JournalLocked while a sidecar runs), TransientError.
    """
    sinks = [make_sink(settings) for settings in config.sinks if not isinstance(settings, JsonlSink)]
    with closing(Journal.open(Path(config.data_dir), max_bytes=config.journal.max_bytes)) as journal:
        return asyncio.run(replay(journal, sinks, limit=limit))


def _the_error(group: BaseExceptionGroup[EsaTlsError]) -> EsaTlsError:
    """The one error out of a task group's, told in a sentence; what the core raised is our fault and comes with its traceback."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, EsaTlsError)
    if error.__cause__ is not None and not isinstance(error.__cause__, EsaTlsError | OSError):
        log.critical("The core failed; a restart goes on from the last commit.", exc_info=error.__cause__)
    return error


def _stop_on_signal() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


async def _serve(
    config: Config, journal: Journal, counters: Counters, stop: asyncio.Event, started: Callable[[Running], None] | None
) -> None:
    sinks = [make_sink(settings, counters) for settings in config.sinks]
    journal.set_readers({sink.name: {(cls, sink.encoding) for cls in sink.cls_wanted} for sink in sinks})
    stored = journal.cursors()
    for name in stale_cursors(list(stored), [sink.name for sink in sinks]):
        journal.drop_cursor(name)
    encodings = tuple(sorted({sink.encoding for sink in sinks}))
    pipeline = Pipeline(core_settings(config), journal, encodings=encodings, now_s=time.time())
    intake = Intake(
        pipeline,
        journal,
        counters=counters,
        max_receive_bytes=config.max_receive_bytes,
        when_full=config.journal.when_full,
        drop_bytes=config.journal.max_bytes // 16,
        feeding=_collector_off,
    )
    _watch_core(pipeline, counters)
    dispatchers = [
        Dispatcher(
            sink,
            journal,
            stored=stored.get(sink.name),
            save_cursor=intake.save_cursor,
            dead_letter=intake.dead_letter,
            grown=intake.grown,
            counters=counters,
            start=settings.from_,
            backoff=Backoff(settings.retry_initial_s, settings.retry_max_s),
        )
        for sink, settings in zip(sinks, config.sinks, strict=True)
    ]
    places = {one.name: place for one in dispatchers if (place := await one.prepare()) is not None}
    if places:
        journal.commit([], cursors=places)
    sources = [make_source(settings, intake, counters, config) for settings in config.sources]
    web = _make_web(config, counters, intake, dispatchers)
    api = _make_api(config, counters, intake, pipeline)
    gc.collect()
    gc.freeze()
    async with asyncio.TaskGroup() as tasks:
        committing = tasks.create_task(intake.run(), name="intake")
        sending = [tasks.create_task(one.run(), name=f"sink {one.name}") for one in dispatchers]
        try:
            try:
                for source, settings in zip(sources, config.sources, strict=True):
                    await _listen(source.start, f"source {settings.name}", settings.listen)
                if api is not None and config.api is not None:
                    await _listen(api.start, "api", config.api.listen)
                if web is not None and config.web is not None:
                    await _listen(web.start, "web", config.web.listen)
                running = Running(
                    {source.settings.name: (source.settings.host, source.port) for source in sources},
                    None if web is None or config.web is None else (listen_address(config.web.listen)[0], web.port),
                    None if api is None else (api.settings.host, api.port),
                )
                for settings in config.sources:
                    host, port = running.sources[settings.name]
                    log.info(
                        "Source %s listens on %s.",
                        settings.name,
                        f"{host}:{port}" if unix_path(settings.listen) is None else settings.listen,
                    )
                if running.api is not None:
                    log.info("Api listens on %s:%d.", *running.api)
                if running.web is not None:
                    log.info("Web listens on %s:%d.", *running.web)
                for listener in unprotected(config):
                    log.warning("%s is reached from other machines and takes what anybody sends.", listener[0].upper() + listener[1:])
                if started is not None:
                    started(running)
                await stop.wait()
                log.info("Stopping: what was received is committed and acknowledged, then sinks get %.0f s.", DRAIN_S)
                await _drain([*sources] if api is None else [*sources, api], intake)
                for one in dispatchers:
                    await one.drain(within_s=DRAIN_S)
                await asyncio.gather(*sending)
                await _drain([], intake)  # the last cursors
            finally:
                for source in sources:
                    await source.close()
                if api is not None:
                    await api.close()
                if web is not None:
                    await web.stop()
        finally:
            for task in (*sending, committing):
                task.cancel()


class _Drainable(Protocol):
    """What takes lines in, or answers."""

    async def drain(self) -> None:
        """Stop reading; return when everything read is durable and acknowledged."""

    async def close(self) -> None:
        """End at once, without further acknowledgements. Safe twice."""


async def _drain(servers: Sequence[_Drainable], intake: Intake) -> None:
    """Return when what was received is durable and acknowledged, or when that takes too long: then its senders keep it."""
    try:
        async with asyncio.timeout(COMMIT_S):
            for server in servers:
                await server.drain()
            await intake.drain()
    except TimeoutError:
        why = "" if intake.failing is None else f": {intake.failing}"
        log.warning("Not all that was received could be made durable; it was not acknowledged, and senders send it again%s.", why)
        for server in servers:
            await server.close()


async def _listen(start: Callable[[], object], what: str, where: str) -> None:
    try:
        waiting = start()
        assert asyncio.iscoroutine(waiting)
        await waiting
    except OSError as error:
        # asyncio repeats the address in its own words; a host that cannot be resolved has a negative number
        reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
        message = f"{what}: cannot listen on {where}: {reason}"
        raise ConfigError(message) from error


def _make_web(config: Config, counters: Counters, intake: Intake, dispatchers: Sequence[Dispatcher]) -> WebServer | None:
    if config.web is None:
        return None
    host, port = listen_address(config.web.listen)

    def reasons_not_ready() -> list[str]:
        reasons = []
        if intake.failing is not None:
            reasons.append(f"journal: {intake.failing}")
        for one in dispatchers:
            status = one.status()
            if status.failing is not None and status.oldest_unsent_age_s >= SINK_FAILING_S:
                reasons.append(f"sink {status.name}: nothing sent for {status.oldest_unsent_age_s:.0f} s: {status.failing}")
        return reasons

    token = config.web.metrics_token
    tls = (
        None
        if config.web.tls is None
        else server_context(config.web.tls, owner="web", refusals=Refusals("web", counters), counters=counters)
    )
    return WebServer(
        counters,
        tls=tls,
        host=host,
        port=port,
        reasons_not_ready=reasons_not_ready,
        metrics_token=None if token is None else token.reveal(),
    )


def _make_api(config: Config, counters: Counters, intake: Intake, pipeline: Pipeline) -> ApiServer | None:
    settings = config.api
    if settings is None:
        return None
    host, port = listen_address(settings.listen)
    api = ApiServer(
        intake=_Reception(intake),
        lookup=CoreLookup(pipeline.boxes),
        appliances_of=lambda session: pipeline.sessions.get(session, ()),
        counters=counters,
        settings=ApiSettings(
            host=host,
            port=port,
            name=settings.name,
            token=None if settings.token is None else settings.token.reveal(),
            lossy=settings.lossy,
            max_message_bytes=settings.max_message_bytes,
            max_calls=settings.max_calls,
            max_watchers=settings.max_watchers,
        ),
        credentials=None if settings.tls is None else grpc_server_credentials(settings.tls, owner="api", counters=counters),
        failing=lambda: intake.failing,
    )
    intake.on_durable = api.committed
    return api


def _watch_core(pipeline: Pipeline, counters: Counters) -> None:
    counters.gauge(telemetry.HELD_LINES, lambda: pipeline.held_lines)

    def entries(kinds: str) -> int:
        return sum(box.correlator.entries.open_count[kind] for box in pipeline.boxes.values() for kind in kinds)

    counters.gauge(telemetry.OPEN_ENTRIES, lambda: entries("ID"), kind="connection")
    counters.gauge(telemetry.OPEN_ENTRIES, lambda: entries("M"), kind="message")
    counters.gauge(
        telemetry.OPEN_ENTRIES, lambda: sum(len(box.correlator.entries.tombstones) for box in pipeline.boxes.values()), kind="tombstone"
    )
