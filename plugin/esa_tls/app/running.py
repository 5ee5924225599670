"""The composition root: configuration -> objects -> one task group, and the order in which they end.

Start: journal, core, intake, sinks (their places made durable first), sources, gRPC service, web. End (SIGTERM, SIGINT): sources stop
reading and let what they read commit and be acknowledged; the intake commits the rest; sinks send what they can within `DRAIN_S`; the
journal is closed. A second start continues where this one ended.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, closing, contextmanager, suppress
from pathlib import Path
from typing import Protocol

import msgspec
from opentelemetry.trace import Tracer

from esa_tls import __version__, core_kind, telemetry
from esa_tls.app.delivery import Delivery, encodings_of
from esa_tls.app.service import make_api, make_web, watch_core
from esa_tls.app.sinks import make_sink
from esa_tls.app.sources import make_source, unprotected
from esa_tls.app.store import make_store
from esa_tls.config import (
    Config,
    JsonlSink,
    is_guarded,
    listen_address,
    unix_path,
)
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.errors import ConfigError, EsaTlsError
from esa_tls.runtime.expected import partners_of
from esa_tls.runtime.intake import Intake
from esa_tls.runtime.journal import Journal
from esa_tls.runtime.own_log import LineFormatter
from esa_tls.runtime.own_telemetry import telling
from esa_tls.runtime.replay import replay
from esa_tls.telemetry import Counters

log = logging.getLogger("esa_tls")

DRAIN_S = 10.0
"""How long sinks may go on sending at the end; the rest stays in the outbox."""

COMMIT_S = 5.0
"""How long it may take at the end to make durable what was received: on a full disk it would take for ever."""


LIVE_SETTINGS = ("sinks", "require_tls", "log_level")
"""What a SIGHUP takes over. TLS files of all listeners and sinks are looked at again by themselves."""


class Running(msgspec.Struct):
    """Where a started sidecar can be reached: (host, port) per source, of the web server and of the gRPC service.

    A source on a Unix socket has port 0 here.
    """

    sources: dict[str, tuple[str, int]]
    web: tuple[str, int] | None
    api: tuple[str, int] | None = None


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
        partners=() if config.require_tls is None else partners_of(config.require_tls),
        expected_groups=() if config.require_tls is None else tuple(config.require_tls.sender_groups),
    )


def raise_file_limit() -> None:
    """Let this process open as many files as it is allowed to: each sender and each journal file is one, and 1,024 are soon used."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def _collector_off() -> Iterator[None]:
    """Around a call of the core: the cyclic garbage collector would walk every open entry again and again, and finds nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def run(
    config: Config,
    *,
    stop: asyncio.Event | None = None,
    started: Callable[[Running], None] | None = None,
    reload: Callable[[], Config] | None = None,
) -> int:
    """Run until SIGTERM or SIGINT (or `stop`). Returns the exit code. `reload` gives the configuration anew, at SIGHUP.

    Raises:
        ConfigError: an address cannot be had. JournalError: the journal cannot be opened.
    """
    raise_file_limit()
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=config.log_level.upper(), handlers=[handler])
    asyncio.run(serve(config, stop=stop, started=started, reload=reload))
    return 0


async def serve(
    config: Config,
    *,
    stop: asyncio.Event | None = None,
    started: Callable[[Running], None] | None = None,
    reload: Callable[[], Config] | None = None,
) -> None:
    """`run` inside a running event loop. Signal handlers are set only when this is the main thread and no `stop` is given."""
    counters = Counters()
    telemetry.watch_process(counters, version=__version__, core=core_kind())
    counters.gauge(telemetry.JOURNAL_LIMIT, lambda: config.journal.max_bytes, pipeline="0")
    with (
        telling(config.telemetry, counters, version=__version__) as tracer,
        closing(Journal.open(Path(config.data_dir), max_bytes=config.journal.max_bytes)) as journal,
    ):
        try:
            await _serve(config, journal, counters, stop or _stop_on_signal(), started, tracer, reload)
        except* EsaTlsError as group:
            raise _the_error(group) from group


def replay_dead_letters(config: Config, *, limit: int, sink: str | None = None) -> int:
    """Send the oldest `limit` dead letters to the sinks that refused them, or those of one; returns how many were taken and deleted.

    Files are left out: they refuse nothing. Raises JournalError (JournalLocked while a sidecar runs), TransientError, and ConfigError if
    there is no sink of that name.
    """
    if sink is not None and sink not in {one.name for one in config.sinks}:
        message = f"the configuration has no sink {sink!r}; it has {', '.join(one.name for one in config.sinks)}"
        raise ConfigError(message)
    chosen = [one for one in config.sinks if sink in (None, one.name) and not isinstance(one, JsonlSink)]
    sinks = [make_sink(settings) for settings in chosen]
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


async def _reload(config: Config, reload: Callable[[], Config] | None, delivery: Delivery, pipeline: Pipeline, counters: Counters) -> None:
    """At each SIGHUP take over what can change while it runs, and say of the rest that it cannot."""
    wished = asyncio.Event()
    with suppress(ValueError, RuntimeError):  # not the main thread, as in tests
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, wished.set)
    while True:
        await wished.wait()
        wished.clear()
        if reload is None:
            log.warning("SIGHUP: there is no configuration file to read again.")
            continue
        try:
            wanted = await asyncio.to_thread(reload)
            await delivery.change(wanted.sinks)
        except EsaTlsError as error:
            counters.add(telemetry.CONFIG_RELOADS, result="refused")
            log.error("The configuration was not taken over; all stays as it was: %s", error)  # noqa: TRY400 (a sentence says it)
            continue
        settings = core_settings(wanted)
        pipeline.expect(settings.partners, settings.expected_groups)
        logging.getLogger().setLevel(wanted.log_level.upper())
        counters.add(telemetry.CONFIG_RELOADS, result="applied")
        later = [name for name in config.__struct_fields__ if name not in LIVE_SETTINGS and getattr(config, name) != getattr(wanted, name)]
        log.info("The configuration was read again.%s", f" At a restart only: {', '.join(later)}." if later else "")


async def _serve(
    config: Config,
    journal: Journal,
    counters: Counters,
    stop: asyncio.Event,
    started: Callable[[Running], None] | None,
    tracer: Tracer | None,
    reload: Callable[[], Config] | None,
) -> None:
    sinks = [make_sink(settings, counters) for settings in config.sinks]
    store, reader = make_store(config, journal, counters)
    encodings = encodings_of(sinks if store is None else [*sinks, store])
    pipeline = Pipeline(core_settings(config), journal, encodings=encodings, now_s=time.time())
    intake = Intake(
        pipeline,
        journal,
        counters=counters,
        max_receive_bytes=config.max_receive_bytes,
        when_full=config.journal.when_full,
        drop_bytes=config.journal.max_bytes // 16,
        feeding=_collector_off,
        tracer=tracer,
    )
    watch_core(pipeline, counters)
    delivery = Delivery(
        config.sinks, sinks, store=store, journal=journal, intake=intake, pipeline=pipeline, counters=counters, tracer=tracer
    )
    sources = [make_source(settings, intake, counters, config) for settings in config.sources]
    web = make_web(config, counters, intake, delivery, journal, reader)
    api = make_api(config, counters, intake, pipeline, reader)
    gc.collect()
    gc.freeze()
    async with aclosing(delivery), asyncio.TaskGroup() as tasks:
        await delivery.prepare()
        committing = tasks.create_task(intake.run(), name="intake")
        delivery.start(tasks)
        reloading = tasks.create_task(_reload(config, reload, delivery, pipeline, counters), name="reload")
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
                if config.web is not None and config.web.page is None and not is_guarded(config.web):
                    log.info("The page is not served, as other machines reach %s: set web.token for it.", config.web.listen)
                for listener in unprotected(config):
                    log.warning("%s is reached from other machines and takes what anybody sends.", listener[0].upper() + listener[1:])
                if started is not None:
                    started(running)
                await stop.wait()
                log.info("Stopping: what was received is committed and acknowledged, then sinks get %.0f s.", DRAIN_S)
                await _drain([*sources] if api is None else [*sources, api], intake)
                reloading.cancel()
                await delivery.drain(within_s=DRAIN_S)
                await _drain([], intake)  # the last cursors
            finally:
                for source in sources:
                    await source.close()
                if api is not None:
                    await api.close()
                if web is not None:
                    await web.stop()
                if reader is not None:
                    await reader.close()
        finally:
            delivery.cancel()
            for task in (reloading, committing):
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
