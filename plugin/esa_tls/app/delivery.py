"""The sinks of a running sidecar, each with its dispatcher and its task: started, looked at, changed while it runs, and drained.

The embedded store is one more sink here, which no change of settings touches.

Changing: a sink whose settings did not change goes on undisturbed. One that changed is ended where it is, and a new one goes on from the
same place in the journal (what was under way is sent again, with the same ids). One that is gone loses its place, as at a start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from opentelemetry.trace import Tracer

from esa_tls.app.selecting import make_selection
from esa_tls.app.sinks import make_sink
from esa_tls.config import Sink as SinkSettings
from esa_tls.core.pipeline import Pipeline
from esa_tls.runtime.dispatch import Backoff, Dispatcher, Sink, SinkStatus, stale_cursors
from esa_tls.runtime.intake import Intake
from esa_tls.runtime.journal import Journal
from esa_tls.telemetry import Counters

log = logging.getLogger("esa_tls")


def encodings_of(sinks: Sequence[Sink]) -> tuple[str, ...]:
    """The encodings these sinks read."""
    return tuple(sorted({sink.encoding for sink in sinks}))


class Delivery:
    """See the module. Life: `prepare` (before any source starts) -> `start` -> `change`... -> `drain` or `cancel` -> `aclose`."""

    def __init__(
        self,
        settings: Sequence[SinkSettings],
        sinks: Sequence[Sink],
        *,
        store: Sink | None = None,
        journal: Journal,
        intake: Intake,
        pipeline: Pipeline,
        counters: Counters,
        tracer: Tracer | None,
    ) -> None:
        self._journal = journal
        self._intake = intake
        self._pipeline = pipeline
        self._counters = counters
        self._tracer = tracer
        self._settings = {one.name: one for one in settings}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._changing = asyncio.Lock()
        sinks = [*sinks, store] if store is not None else sinks
        self._read_by(sinks)
        stored = journal.cursors()
        for name in stale_cursors(list(stored), [sink.name for sink in sinks]):
            journal.drop_cursor(name)
        self._dispatchers = {sink.name: self._dispatcher(sink, stored.get(sink.name)) for sink in sinks}

    def statuses(self) -> list[SinkStatus]:
        """How each sink is doing now."""
        return [one.status() for one in self._dispatchers.values()]

    async def prepare(self) -> None:
        """Find each sink's place and make it durable."""
        await self._place(list(self._dispatchers.values()))

    def start(self, group: asyncio.TaskGroup) -> None:
        """Let them send, as tasks of `group`."""
        self._group = group
        for name in self._dispatchers:
            self._run(name)

    async def change(self, settings: Sequence[SinkSettings]) -> None:
        """Make the sinks those of `settings`. Raises ConfigError (a certificate that cannot be read): then nothing was changed."""
        async with self._changing:
            wanted = {one.name: one for one in settings}
            changed = [one for name, one in wanted.items() if self._settings.get(name) != one]
            gone = [name for name in self._settings if name not in wanted]
            if not changed and not gone:
                return
            made = [make_sink(one, self._counters) for one in changed]
            ended = [name for name in (*gone, *(sink.name for sink in made)) if name in self._dispatchers]
            await self._end(ended)
            places = {name: self._dispatchers.pop(name) for name in ended}
            for sink in made:
                before = places.get(sink.name)
                if before is not None and before.sink.encoding != sink.encoding and before.oldest_unsent_age_s() > 0:
                    log.warning(
                        "Sink now wants records in another form: what it had not got yet is not kept in that form.",
                        extra={"sink": sink.name},
                    )
            self._settings = wanted
            staying = [one.sink for one in self._dispatchers.values()]
            self._pipeline.set_encodings(encodings_of([*staying, *made]))
            await asyncio.to_thread(self._read_by, [*staying, *made])
            for name in gone:
                self._intake.forget_cursor(name)
                await asyncio.to_thread(self._journal.drop_cursor, name)
            new = {sink.name: self._dispatcher(sink, places[sink.name].cursor if sink.name in places else None) for sink in made}
            self._dispatchers |= new
            await self._place(list(new.values()))
            for name in new:
                self._run(name)
            for what, names in (
                ("gone", gone),
                ("changed", [name for name in new if name in places]),
                ("new", [name for name in new if name not in places]),
            ):
                for name in names:
                    log.info("Sink is %s.", what, extra={"sink": name})

    async def drain(self, *, within_s: float) -> None:
        """Let them send what they can; return when all have ended."""
        async with self._changing:
            for one in self._dispatchers.values():
                await one.drain(within_s=within_s)
            await asyncio.gather(*self._tasks.values())

    async def aclose(self) -> None:
        """Close every sink: those that never came to send too."""
        for one in self._dispatchers.values():
            await one.sink.close()

    def cancel(self) -> None:
        """End at once."""
        for task in self._tasks.values():
            task.cancel()

    def _dispatcher(self, sink: Sink, stored: bytes | None) -> Dispatcher:
        settings = self._settings.get(sink.name)  # the store has none
        return Dispatcher(
            sink,
            self._journal,
            stored=stored,
            save_cursor=self._intake.save_cursor,
            dead_letter=self._intake.dead_letter,
            grown=self._intake.grown,
            counters=self._counters,
            selection=None if settings is None else make_selection(settings),
            start="oldest" if settings is None else settings.from_,
            backoff=Backoff() if settings is None else Backoff(settings.retry_initial_s, settings.retry_max_s),
            tracer=self._tracer,
        )

    def _read_by(self, sinks: Sequence[Sink]) -> None:
        readers: Mapping[str, set[tuple[str, str]]] = {sink.name: {(cls, sink.encoding) for cls in sink.cls_wanted} for sink in sinks}
        self._journal.set_readers(readers)

    async def _place(self, dispatchers: Sequence[Dispatcher]) -> None:
        places = {one.name: place for one in dispatchers if (place := await one.prepare()) is not None}
        if places:
            await asyncio.to_thread(lambda: self._journal.commit([], cursors=places))

    def _run(self, name: str) -> None:
        assert self._group is not None
        self._tasks[name] = self._group.create_task(self._dispatchers[name].run(), name=f"sink {name}")

    async def _end(self, names: Sequence[str]) -> None:
        """Cancel these tasks and wait until their sinks are closed."""
        ending = [self._tasks.pop(name) for name in names if name in self._tasks]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
