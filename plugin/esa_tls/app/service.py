"""What a running sidecar answers: metrics and health over HTTP, and the gRPC service."""

import time
from collections.abc import Iterator
from zoneinfo import ZoneInfo

from esa_tls import __version__, telemetry
from esa_tls.api import rows
from esa_tls.api.lookup import CoreLookup
from esa_tls.api.server import ApiServer, ApiSettings
from esa_tls.app.delivery import Delivery
from esa_tls.app.reception import Reception
from esa_tls.app.store import JoinedLookup
from esa_tls.config import (
    Config,
    FluentSource,
    OtlpGrpcSource,
    OtlpHttpSource,
    Source,
    SyslogSource,
    is_guarded,
    listen_address,
)
from esa_tls.core.pipeline import Pipeline
from esa_tls.runtime.intake import Intake
from esa_tls.runtime.journal import Journal
from esa_tls.runtime.refusals import Refusals
from esa_tls.runtime.tls import grpc_server_credentials, server_context
from esa_tls.store.query import StoreReader
from esa_tls.telemetry import Counters
from esa_tls.web.guard import Guard
from esa_tls.web.live import Live
from esa_tls.web.page import WebPage
from esa_tls.web.server import WebServer
from esa_tls.web.state import Listener, Sidecar

SINK_FAILING_S = 60.0
"""A sink that has not moved for so long makes the sidecar not ready."""


def make_web(
    config: Config, counters: Counters, intake: Intake, delivery: Delivery, journal: Journal, store: StoreReader | None
) -> WebServer | None:
    """The HTTP server, with the page where strangers are kept from it; None if the configuration wants none."""
    if config.web is None:
        return None
    host, port = listen_address(config.web.listen)

    def reasons_not_ready() -> list[str]:
        reasons = []
        if intake.failing is not None:
            reasons.append(f"journal: {intake.failing}")
        reasons += [
            f"sink {status.name}: nothing sent for {status.oldest_unsent_age_s:.0f} s: {status.failing}"
            for status in delivery.statuses()
            if status.failing is not None and status.oldest_unsent_age_s >= SINK_FAILING_S
        ]
        return reasons

    token = config.web.metrics_token
    tls = (
        None
        if config.web.tls is None
        else server_context(config.web.tls, owner="web", refusals=Refusals("web", counters), counters=counters)
    )
    page = None
    if config.web.page is not False and is_guarded(config.web):
        live = Live(rows.readable, rows.decode)
        intake.on_durable.append(live.committed)
        sidecar = Sidecar(
            store=store,
            live=live,
            counters=counters,
            reasons_not_ready=reasons_not_ready,
            sinks=delivery.statuses,
            journal=journal.status,
            dead_letters=lambda number: journal.dead_letters(max_items=number),
            listeners=[_listener(source) for source in config.sources],
            zone=lambda name: ZoneInfo(config.appliance.timezones.get(name, config.appliance.timezone)),
            version=__version__,
        )
        page_token = config.web.token
        guard = Guard(token=None if page_token is None else page_token.reveal(), names=config.web.names, tls=tls is not None)
        page = WebPage(sidecar, guard)
    return WebServer(
        counters,
        page=page,
        tls=tls,
        host=host,
        port=port,
        reasons_not_ready=reasons_not_ready,
        metrics_token=None if token is None else token.reveal(),
    )


def _listener(source: Source) -> Listener:
    match source:
        case SyslogSource():
            speaks = f"syslog over {source.transport.upper()}"
        case FluentSource():
            speaks = "Fluent Forward"
        case OtlpGrpcSource():
            speaks = "OTLP/gRPC"
        case OtlpHttpSource():
            speaks = "OTLP/HTTP"
    return Listener(source.name, speaks, source.listen)


def make_api(config: Config, counters: Counters, intake: Intake, pipeline: Pipeline, store: StoreReader | None = None) -> ApiServer | None:
    """The gRPC service, told of every commit; None if the configuration wants none."""
    settings = config.api
    if settings is None:
        return None
    host, port = listen_address(settings.listen)
    core = CoreLookup(pipeline.boxes)
    api = ApiServer(
        intake=Reception(intake),
        lookup=core if store is None else JoinedLookup(core, store),
        appliances_of=lambda session: pipeline.sessions.get(session, ()),
        counters=counters,
        settings=ApiSettings(
            host=host,
            port=port,
            name=settings.name,
            token=None if settings.token is None else settings.token.reveal(),
            lossy=settings.lossy,
            max_request_bytes=settings.max_request_bytes,
            max_calls=settings.max_calls,
            max_watchers=settings.max_watchers,
        ),
        credentials=None if settings.tls is None else grpc_server_credentials(settings.tls, owner="api", counters=counters),
        failing=lambda: intake.failing,
    )
    intake.on_durable.append(api.committed)
    return api


def watch_core(pipeline: Pipeline, counters: Counters) -> None:
    """Have the numbers of open entries and held lines read whenever metrics are."""
    counters.gauge(telemetry.HELD_LINES, lambda: pipeline.held_lines)

    def entries(kinds: str) -> int:
        return sum(box.correlator.entries.open_count[kind] for box in pipeline.boxes.values() for kind in kinds)

    counters.gauge(telemetry.OPEN_ENTRIES, lambda: entries("ID"), kind="connection")
    counters.gauge(telemetry.OPEN_ENTRIES, lambda: entries("M"), kind="message")
    counters.gauge(
        telemetry.OPEN_ENTRIES, lambda: sum(len(box.correlator.entries.tombstones) for box in pipeline.boxes.values()), kind="tombstone"
    )

    def lags() -> Iterator[tuple[dict[str, str], float]]:
        now_s = time.time()
        for name, box in tuple(pipeline.boxes.items()):
            if (newest_s := box.state.clock.time_s) is not None:
                yield {"appliance": name}, now_s - newest_s

    counters.gauges(telemetry.EVENT_TIME_LAG, lags)
