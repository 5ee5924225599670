"""Every metric esa-tls has, and the counters behind them. A leaf: imports nothing of the package.

Rules of this file:

1. A metric's name is a constant here and its meaning stands in `METRICS`, once. Docs and both outputs are made from that table.
2. Counters are a plain dict of numbers, so that counting costs a dict update. Two readers look at it and never write: the Prometheus
   text page (`Counters.prometheus_text`) and the observable instruments of an OpenTelemetry meter provider (`meter_provider`).
3. A `Counters` object is handed to whoever counts; there is no global one.
4. Labels never come from outside unbounded: a metric has at most `max_series` series, what comes after is counted under `other`.
5. The label `shape` and the like are masked by who counts (digits and quoted text): no payload becomes a label.

Names follow OpenTelemetry (dotted, unit apart, UCUM units); where its semantic conventions have a metric (`process.*`) that name is
taken, the rest is `esa_tls.*`. In Prometheus each begins with `esa_tls_`, has its unit behind it and `_total` on counters.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Histogram, Observation
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource

COUNTER = "counter"
GAUGE = "gauge"
HISTOGRAM = "histogram"

OTHER = "other"
"""The label value that stands for all series beyond a metric's `max_series`."""

MAX_LABEL_CHARS = 200
"""A label value is cut here; long ones come from masked line shapes only."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of `Counters.prometheus_text`."""

SeriesKey = tuple[str, tuple[tuple[str, str], ...]]
"""(metric name, label pairs sorted by label name): the key of one series."""


@dataclass(frozen=True)
class Metric:
    """One metric: OpenTelemetry name, `counter` / `gauge` / `histogram`, UCUM unit, label names, and what it means."""

    name: str
    kind: str
    unit: str
    labels: tuple[str, ...]
    meaning: str
    max_series: int = 500
    buckets: tuple[float, ...] = ()

    @property
    def prometheus_name(self) -> str:
        """The name on the Prometheus page, e.g. `esa_tls_lines_total`."""
        name = self.name.replace(".", "_")
        if not name.startswith("esa_tls_"):
            name = "esa_tls_" + name
        name += {"By": "_bytes", "s": "_seconds"}.get(self.unit, "")
        return name + "_total" if self.kind == COUNTER else name


# -- what comes in ---------------------------------------------------------------------------------------------------------------
LINES = "esa_tls.lines"
LINE_BYTES = "esa_tls.line.size"
BATCHES = "esa_tls.batches"
BATCHES_KNOWN = "esa_tls.batches.known"
SESSIONS_OPEN = "esa_tls.sessions.open"
SESSIONS_OPENED = "esa_tls.sessions.opened"
SESSIONS_CLOSED = "esa_tls.sessions.closed"
PEERS_REFUSED = "esa_tls.peers.refused"
TLS_RELOADS = "esa_tls.tls.reloads"
CONFIG_RELOADS = "esa_tls.config.reloads"
FORWARD_FRAMES = "esa_tls.forward.frames"
FORWARD_BAD_FRAMES = "esa_tls.forward.bad_frames"
FORWARD_REFUSED_FRAMES = "esa_tls.forward.refused_frames"
FORWARD_SIGNALS = "esa_tls.forward.other_signals"
FORWARD_ACKS = "esa_tls.forward.acks"
OTLP_REQUESTS = "esa_tls.otlp.requests"
OTLP_FAULTS = "esa_tls.otlp.faults"
SYSLOG_TRUNCATED = "esa_tls.syslog.truncated"
SYSLOG_ODD_FRAMES = "esa_tls.syslog.odd_frames"
SYSLOG_BAD_FRAMES = "esa_tls.syslog.bad_frames"
SYSLOG_DROPPED = "esa_tls.syslog.datagrams.dropped"
EVENTS_DEAD_LETTERED = "esa_tls.events.dead_lettered"
RECEIVE_RESERVED = "esa_tls.receive.reserved"
RECEIVE_WAITS = "esa_tls.receive.waits"

# -- what the core makes of it ---------------------------------------------------------------------------------------------------
RECORDS = "esa_tls.records"
UNRECOGNISED = "esa_tls.lines.unrecognised"
BAD_TIME = "esa_tls.lines.bad_time"
LATE_LINES = "esa_tls.lines.late"
DUPLICATE_LINES = "esa_tls.lines.duplicate"
PENDING_LINES = "esa_tls.lines.pending"
CONTRADICTIONS = "esa_tls.contradictions"
EPOCH_RESETS = "esa_tls.epoch_resets"
CLOCK_REBASES = "esa_tls.clock.rebases"
FEED_BREAKS = "esa_tls.feed.breaks"
HELD_LINES = "esa_tls.lines.held"
OPEN_ENTRIES = "esa_tls.entries.open"
EVICTIONS = "esa_tls.evictions"
EVENT_TIME_LAG = "esa_tls.event_time.lag"

# -- what is kept ----------------------------------------------------------------------------------------------------------------
JOURNAL_SIZE = "esa_tls.journal.size"
JOURNAL_LIMIT = "esa_tls.journal.limit"
JOURNAL_COMMIT_DURATION = "esa_tls.journal.commit.duration"
JOURNAL_COMMIT_FAILURES = "esa_tls.journal.commit.failures"
JOURNAL_DEAD_LETTERS = "esa_tls.journal.dead_letters"

# -- what goes out ---------------------------------------------------------------------------------------------------------------
SINK_SENT = "esa_tls.sink.records.sent"
SINK_RETRIES = "esa_tls.sink.retries"
SINK_REJECTED = "esa_tls.sink.records.rejected"
SINK_DEAD_LETTERED = "esa_tls.sink.records.dead_lettered"
SINK_DROPPED = "esa_tls.sink.records.dropped"
SINK_KNOWN = "esa_tls.sink.records.known"
SINK_POSTPONED = "esa_tls.sink.records.postponed"
SINK_DIVERTED = "esa_tls.sink.records.diverted"
SINK_FILTERED = "esa_tls.sink.records.filtered"
SINK_OLDEST_UNSENT = "esa_tls.sink.oldest_unsent.age"
STORE_SIZE = "esa_tls.store.size"
STORE_RECORDS = "esa_tls.store.records"
STORE_LINES = "esa_tls.store.lines"
STORE_REMOVED = "esa_tls.store.records.removed"
STORE_UNREADABLE = "esa_tls.store.records.unreadable"
STORE_SET_ASIDE = "esa_tls.store.set_aside"
API_CALLS = "esa_tls.api.calls"
API_WATCHERS = "esa_tls.api.watchers"
API_DROPPED = "esa_tls.api.records.dropped"

# -- the process -----------------------------------------------------------------------------------------------------------------
BUILD = "esa_tls.build"
PROCESS_UPTIME = "process.uptime"
PROCESS_CPU_TIME = "process.cpu.time"
PROCESS_MEMORY_USAGE = "process.memory.usage"

_COMMIT_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

METRICS: tuple[Metric, ...] = (
    Metric(LINES, COUNTER, "{line}", ("source",), "Raw lines taken from senders, before anything is known about them."),
    Metric(LINE_BYTES, COUNTER, "By", ("source",), "Bytes of those lines, without line ends and framing."),
    Metric(BATCHES, COUNTER, "{batch}", ("source",), "Batches (a Forward frame, a slice of a large one) that entered the core."),
    Metric(BATCHES_KNOWN, COUNTER, "{batch}", ("source",), "Batches a sender sent again: acknowledged, without effect."),
    Metric(SESSIONS_OPEN, GAUGE, "{session}", ("source",), "Senders' connections open now."),
    Metric(SESSIONS_OPENED, COUNTER, "{session}", ("source",), "Senders' connections accepted."),
    Metric(SESSIONS_CLOSED, COUNTER, "{session}", ("source", "reason"), "Senders' connections ended, by what ended them."),
    Metric(
        PEERS_REFUSED,
        COUNTER,
        "{peer}",
        ("listener", "reason"),
        "Peers turned away before they could send: TLS, client certificate, shared key, password, time-out or number of sessions.",
    ),
    Metric(
        TLS_RELOADS,
        COUNTER,
        "{reload}",
        ("owner", "result"),
        "Changed certificate files read again; `failed`: they could not be used and those from before stay in use.",
    ),
    Metric(
        CONFIG_RELOADS,
        COUNTER,
        "{reload}",
        ("result",),
        "SIGHUPs: `applied`, or `refused` with the reason in the log; then all stays as it was.",
    ),
    Metric(FORWARD_FRAMES, COUNTER, "{frame}", ("source", "mode"), "Forward frames read, by mode (message, forward, packed, compressed)."),
    Metric(
        FORWARD_BAD_FRAMES,
        COUNTER,
        "{frame}",
        ("source", "reason"),
        "Forward frames that could not be used; the sender was cut off or told.",
    ),
    Metric(
        FORWARD_REFUSED_FRAMES,
        COUNTER,
        "{frame}",
        ("source", "reason"),
        "Forward frames refused for their declared or unpacked size, or their depth.",
    ),
    Metric(
        FORWARD_SIGNALS,
        COUNTER,
        "{frame}",
        ("source", "signal"),
        "Frames of metrics or traces: acknowledged and dropped, as they hold no log lines.",
    ),
    Metric(FORWARD_ACKS, COUNTER, "{ack}", ("source",), "Acknowledgements written, each after its lines were durable."),
    Metric(OTLP_REQUESTS, COUNTER, "{request}", ("source", "answer"), "OTLP requests answered, by what was answered."),
    Metric(
        OTLP_FAULTS, COUNTER, "{request}", ("source",), "OTLP requests that met an error of ours; the sender was told to send them again."
    ),
    Metric(
        SYSLOG_TRUNCATED,
        COUNTER,
        "{message}",
        ("source",),
        "Syslog messages that are not whole: over max_message_bytes, or without an end when their connection ended.",
    ),
    Metric(
        SYSLOG_ODD_FRAMES,
        COUNTER,
        "{message}",
        ("source", "reason"),
        "Syslog messages over TCP or TLS taken as text up to the line end that begin with a digit and no octet count (no_count), "
        "or without a priority (no_priority).",
    ),
    Metric(
        SYSLOG_BAD_FRAMES,
        COUNTER,
        "{frame}",
        ("source", "reason"),
        "Places where no syslog message begins, after which no boundary can be found: the sender was cut off.",
    ),
    Metric(
        SYSLOG_DROPPED,
        COUNTER,
        "{datagram}",
        ("source", "reason"),
        "Datagrams lost on this machine: in the system's full buffer (kernel), as the journal takes no more (intake_full), "
        "from a sender not in allow (not_allowed) or beyond max_sessions (max_sessions), or by an error of ours (not_committed).",
    ),
    Metric(EVENTS_DEAD_LETTERED, COUNTER, "{event}", ("source", "reason"), "Single events of a good frame that went to the dead letters."),
    Metric(RECEIVE_RESERVED, GAUGE, "By", (), "Part of max_receive_bytes that is reserved by frames being read or committed."),
    Metric(RECEIVE_WAITS, COUNTER, "{frame}", (), "Frames whose sender was not read on until room in max_receive_bytes came."),
    Metric(
        RECORDS,
        COUNTER,
        "{record}",
        ("kind", "direction", "outcome"),
        "Records made, by kind, direction and TLS outcome (of a message its posture).",
    ),
    Metric(
        UNRECOGNISED, COUNTER, "{line}", ("shape",), "Lines of no known shape, by shape with digits and quoted text masked.", max_series=200
    ),
    Metric(BAD_TIME, COUNTER, "{line}", (), "Lines whose stamp was too far ahead of the appliance's time; they move nothing."),
    Metric(LATE_LINES, COUNTER, "{line}", (), "Lines that came after the summary of their connection or message had left."),
    Metric(DUPLICATE_LINES, COUNTER, "{line}", (), "Lines seen before, under this log name or another; without effect."),
    Metric(PENDING_LINES, COUNTER, "{line}", ("reason",), "Lines that left undecided, by reason (max_hold, max_held_lines, immediate)."),
    Metric(CONTRADICTIONS, COUNTER, "{line}", (), "TLS lines that came after the outcome of their connection had been decided otherwise."),
    Metric(EPOCH_RESETS, COUNTER, "{reset}", (), "Appliances whose id counters began again."),
    Metric(CLOCK_REBASES, COUNTER, "{rebase}", (), "Times an appliance's time was set back, as 1,000 lines in a row were far behind it."),
    Metric(
        FEED_BREAKS,
        COUNTER,
        "{break}",
        ("reason",),
        "Times the feed of an appliance stopped being unbroken, after which absence proves less.",
    ),
    Metric(HELD_LINES, GAUGE, "{line}", (), "Lines held back now because their connection is undecided."),
    Metric(OPEN_ENTRIES, GAUGE, "{entry}", ("kind",), "Entries of the state now, by kind (connection, message, tombstone)."),
    Metric(EVICTIONS, COUNTER, "{entry}", ("kind", "reason"), "Entries that had to end early, by kind and reason."),
    Metric(
        EVENT_TIME_LAG,
        GAUGE,
        "s",
        ("appliance",),
        "How far an appliance's time (the newest stamp of its lines) is behind this machine's clock: its shipper lags, or it is silent.",
    ),
    Metric(JOURNAL_SIZE, GAUGE, "By", ("pipeline",), "Bytes of the journal on disk."),
    Metric(JOURNAL_LIMIT, GAUGE, "By", ("pipeline",), "Bytes the journal may use on disk (`journal.max_bytes`)."),
    Metric(
        JOURNAL_COMMIT_DURATION,
        HISTOGRAM,
        "s",
        (),
        "Time of one synced commit: how long a sender waits at least.",
        buckets=_COMMIT_BUCKETS_S,
    ),
    Metric(JOURNAL_COMMIT_FAILURES, COUNTER, "{commit}", ("reason",), "Commits that failed and are repeated while senders are held."),
    Metric(JOURNAL_DEAD_LETTERS, GAUGE, "{letter}", (), "Dead letters kept in the journal."),
    Metric(SINK_SENT, COUNTER, "{record}", ("sink", "kind"), "Records a sink has for good (acknowledged, or written and synced)."),
    Metric(SINK_RETRIES, COUNTER, "{request}", ("sink", "reason"), "Requests that failed and are tried again."),
    Metric(SINK_REJECTED, COUNTER, "{record}", ("sink", "reason"), "Records a sink refused for good."),
    Metric(SINK_DEAD_LETTERED, COUNTER, "{record}", ("sink", "reason"), "Refused records that are kept as dead letters."),
    Metric(SINK_DROPPED, COUNTER, "{record}", ("sink", "reason"), "Records a sink will never get, e.g. because of when_full: drop_oldest."),
    Metric(SINK_KNOWN, COUNTER, "{record}", ("sink",), "Records that a sink had already, by their id: sent again, without effect."),
    Metric(
        SINK_POSTPONED,
        COUNTER,
        "{record}",
        ("sink", "reason"),
        "Records that a sink did not take for now, out of a request of which it took others: they are sent again.",
    ),
    Metric(
        SINK_DIVERTED,
        COUNTER,
        "{record}",
        ("sink", "reason"),
        "Records that a sink put aside instead of where they belong (Elasticsearch's failure store), so that searches do not find them.",
    ),
    Metric(SINK_FILTERED, COUNTER, "{record}", ("sink", "kind"), "Records of wanted kinds that a sink's `where` did not let pass."),
    Metric(SINK_OLDEST_UNSENT, GAUGE, "s", ("sink",), "Age of the oldest record a sink has not got; 0 when it is up to date."),
    Metric(STORE_SIZE, GAUGE, "By", (), "Bytes of the embedded store's file that hold something."),
    Metric(STORE_RECORDS, GAUGE, "{record}", (), "Records in the embedded store now."),
    Metric(STORE_LINES, GAUGE, "{line}", (), "Log lines in the embedded store now."),
    Metric(
        STORE_REMOVED,
        COUNTER,
        "{record}",
        ("reason",),
        "Records that the embedded store removed for their age or for its size (age, size).",
    ),
    Metric(STORE_UNREADABLE, COUNTER, "{record}", (), "Records that the embedded store could not read, and left out."),
    Metric(STORE_SET_ASIDE, COUNTER, "{file}", (), "Times the embedded store's file was broken; it was set aside and a new one begun."),
    Metric(API_CALLS, COUNTER, "{call}", ("method", "code"), "Calls of the gRPC service that ended, by method and status."),
    Metric(API_WATCHERS, GAUGE, "{watcher}", (), "Calls that get records as they happen: `Watch`, and `Enrich` unless it wants none."),
    Metric(
        API_DROPPED, COUNTER, "{record}", (), "Records left out of such a call because its client was too slow; sinks are not concerned."
    ),
    Metric(
        BUILD,
        GAUGE,
        "{build}",
        ("version", "core"),
        "Always 1; says which version runs, with a `compiled` or `interpreted` core.",
    ),
    Metric(PROCESS_UPTIME, GAUGE, "s", (), "Seconds since the process began to count."),
    Metric(PROCESS_CPU_TIME, COUNTER, "s", ("cpu_mode",), "Processor time used, user and system."),
    Metric(PROCESS_MEMORY_USAGE, GAUGE, "By", (), "Resident memory of the process (where the system tells it)."),
)

# -- spans -----------------------------------------------------------------------------------------------------------------------
RECEIVE = "receive"
COMMIT = "commit"
SEND = "send"
RETRY = "retry"


@dataclass(frozen=True)
class SpanKind:
    """One span of a traced batch: its name, attributes, and what it covers."""

    name: str
    attributes: tuple[str, ...]
    meaning: str


SOURCE_ATTRIBUTE = "esa_tls.source"
LINES_ATTRIBUTE = "esa_tls.lines"
SINK_ATTRIBUTE = "esa_tls.sink"
RECORDS_ATTRIBUTE = "esa_tls.records"
REFUSED_ATTRIBUTE = "esa_tls.records.refused"
BATCHES_ATTRIBUTE = "esa_tls.batches"

SPANS: tuple[SpanKind, ...] = (
    SpanKind(
        RECEIVE,
        (SOURCE_ATTRIBUTE, LINES_ATTRIBUTE),
        "A batch that was read, until all in it is durable and its sender may be told.",
    ),
    SpanKind(
        COMMIT,
        (LINES_ATTRIBUTE, BATCHES_ATTRIBUTE),
        "The synced commit of it; child of the first traced batch, linked to the others.",
    ),
    SpanKind(
        SEND,
        (SINK_ATTRIBUTE, RECORDS_ATTRIBUTE, REFUSED_ATTRIBUTE),
        "What one sink reads of the outbox at once, until it is delivered or refused for good; a failed try is an event `retry`.",
    ),
)

BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}


class _Distribution:
    """One histogram series: how many values fell into each bucket, and their sum."""

    __slots__ = ("counts", "sum")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * (buckets + 1)
        self.sum = 0.0


class Counters:
    """All numbers of one process.

    Counting is for the event loop; the journal's writer thread may count series that nobody else counts. Reading is safe from any
    thread, because readers copy the dict first.
    """

    def __init__(self) -> None:
        self._values: dict[SeriesKey, float] = {}
        self._gauges: dict[SeriesKey, Callable[[], float | None]] = {}
        self._families: dict[str, Callable[[], Iterable[tuple[Mapping[str, str], float]]]] = {}
        self._distributions: dict[SeriesKey, _Distribution] = {}
        self._series: dict[str, int] = {}
        self._histograms: list[tuple[str, Histogram]] = []

    def add(self, name: str, n: float = 1, /, **labels: str) -> None:
        """Add `n` to the counter `name`; `labels` are some or all of those in its table row. Raises ValueError for others."""
        self._add((name, tuple(sorted(labels.items())) if labels else ()), n)

    def add_all(self, counts: Mapping[SeriesKey, float]) -> None:
        """Add many at once: (name, label pairs in any order) -> n, as the core hands them out. Labels without a value are left out."""
        for (name, labels), n in counts.items():
            self._add((name, tuple(sorted(pair for pair in labels if pair[1]))), n)

    def _add(self, key: SeriesKey, n: float) -> None:
        values = self._values
        if key not in values:
            key = self._admit(key, COUNTER)
        values[key] = values.get(key, 0) + n

    def gauge(self, name: str, fn: Callable[[], float | None], /, **labels: str) -> None:
        """Let `fn` tell the gauge (or ever-growing counter) `name` whenever it is read; None = nothing to tell now. It must not raise."""
        kind = BY_NAME[name].kind if name in BY_NAME else GAUGE
        self._gauges[self._admit((name, tuple(sorted(labels.items()))), kind)] = fn

    def gauges(self, name: str, fn: Callable[[], Iterable[tuple[Mapping[str, str], float]]], /) -> None:
        """Let `fn` tell all series of the gauge `name` whenever it is read, as labels and number: for series that come and go.

        It must not raise. What is beyond the metric's `max_series` is left out.
        """
        self._families[name] = fn

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        """Put `value` (in the metric's unit) into the histogram `name`."""
        key = (name, tuple(sorted(labels.items())))
        distribution = self._distributions.get(key)
        if distribution is None:
            key = self._admit(key, HISTOGRAM)
            distribution = self._distributions.setdefault(key, _Distribution(len(BY_NAME[name].buckets)))
        distribution.counts[bisect_left(BY_NAME[name].buckets, value)] += 1
        distribution.sum += value
        for wanted, histogram in self._histograms:
            if wanted == name:
                histogram.record(value, dict(key[1]))

    def value(self, name: str, /, **labels: str) -> float:
        """The counter or gauge now, summed over all series that carry these labels; 0 if there is none. For health and tests."""
        wanted = set(labels.items())
        return sum(number for key, number in self._numbers() if key[0] == name and wanted <= set(key[1]))

    def series(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """All series of a counter or gauge: label pairs -> number."""
        return {key[1]: number for key, number in self._numbers() if key[0] == name}

    def _numbers(self) -> Iterator[tuple[SeriesKey, float]]:
        yield from self._values.copy().items()
        for key, fn in self._gauges.copy().items():
            number = fn()
            if number is not None:
                yield key, number
        for name, series in self._families.copy().items():
            for labels, number in itertools.islice(series(), BY_NAME[name].max_series):
                yield (name, tuple(sorted((label, value[:MAX_LABEL_CHARS]) for label, value in labels.items()))), number

    def _admit(self, key: SeriesKey, kind: str) -> SeriesKey:
        """The key under which a series unseen so far is counted: itself, cut, or `other` when the metric has its full number."""
        name, labels = key
        metric = BY_NAME.get(name)
        if metric is None or metric.kind != kind:
            message = f"{name!r} is no {kind} of telemetry.METRICS"
            raise ValueError(message)
        unknown = [label for label, _ in labels if label not in metric.labels]
        if unknown:
            message = f"{name!r} has no label {unknown[0]!r}; it has {metric.labels}"
            raise ValueError(message)
        if any(len(value) > MAX_LABEL_CHARS for _, value in labels):
            labels = tuple((label, value[:MAX_LABEL_CHARS]) for label, value in labels)
            key = (name, labels)
        if key in self._values or key in self._gauges:
            return key
        if labels and self._series.get(name, 0) >= metric.max_series:
            return (name, tuple((label, OTHER) for label, _ in labels))
        self._series[name] = self._series.get(name, 0) + 1
        return key

    # -- readers -----------------------------------------------------------------------------------------------------------------
    def prometheus_text(self) -> str:
        """The whole page in Prometheus' text format 0.0.4, in the order of `METRICS`. A counter without labels shows its 0."""
        samples: dict[str, list[str]] = {}
        for (name, labels), number in self._numbers():
            samples.setdefault(name, []).append(f"{BY_NAME[name].prometheus_name}{_label_text(labels)} {_number_text(number)}")
        for (name, labels), distribution in self._distributions.copy().items():
            samples.setdefault(name, []).extend(_histogram_lines(BY_NAME[name], labels, distribution))
        lines: list[str] = []
        for metric in METRICS:
            own = samples.get(metric.name)
            if own is None and (metric.kind != COUNTER or metric.labels):
                continue
            lines.append(f"# HELP {metric.prometheus_name} {_escape(metric.meaning)}")
            lines.append(f"# TYPE {metric.prometheus_name} {metric.kind}")
            lines.extend(own or [f"{metric.prometheus_name} 0"])
        return "\n".join(lines) + "\n"

    def observations(self, name: str) -> list[tuple[float, dict[str, str]]]:
        """What an OpenTelemetry instrument of that name reports now: numbers and attributes (dotted, as `cpu.mode` is)."""
        return [(number, {label.replace("_", "."): value for label, value in labels}) for labels, number in self.series(name).items()]

    def also_record(self, name: str, histogram: Histogram) -> None:
        """Hand every later `observe(name, ...)` to `histogram` too: OpenTelemetry has no observable histogram."""
        self._histograms.append((name, histogram))


def watch_process(counters: Counters, *, version: str, core: str) -> None:
    """Let `counters` tell version, kind of core (`compiled` or `interpreted`), uptime, processor time and memory of this process."""
    started_s = time.monotonic()
    counters.gauge(BUILD, lambda: 1, version=version, core=core)
    counters.gauge(PROCESS_UPTIME, lambda: time.monotonic() - started_s)
    counters.gauge(PROCESS_CPU_TIME, lambda: os.times().user, cpu_mode="user")
    counters.gauge(PROCESS_CPU_TIME, lambda: os.times().system, cpu_mode="system")
    counters.gauge(PROCESS_MEMORY_USAGE, _resident_bytes)


def _resident_bytes() -> float | None:
    try:
        with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 (a Path object per reading is no gain)
            pages = int(statm.read().split()[1])
    except OSError:
        return None
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def meter_provider(counters: Counters, readers: Sequence[MetricReader], *, version: str, resource: Resource | None = None) -> MeterProvider:
    """An OpenTelemetry meter provider whose instruments show the same numbers to `readers`.

    Counters and gauges are observable instruments that read the dict when a reader collects; histograms are recorded beside. The
    caller owns the provider and calls its `shutdown()`. The SDK is imported here, so that commands without telemetry do not pay for it.
    """
    from opentelemetry.metrics import Observation
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource

    def reading(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda _options: [Observation(number, labels) for number, labels in counters.observations(name)]

    resource = resource or Resource.create({"service.name": "esa-tls", "service.version": version})
    provider = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
    meter = provider.get_meter("esa_tls", version)
    for metric in METRICS:
        if metric.kind == COUNTER:
            meter.create_observable_counter(metric.name, [reading(metric.name)], unit=metric.unit, description=metric.meaning)
        elif metric.kind == GAUGE:
            meter.create_observable_gauge(metric.name, [reading(metric.name)], unit=metric.unit, description=metric.meaning)
        else:
            histogram = meter.create_histogram(
                metric.name, unit=metric.unit, description=metric.meaning, explicit_bucket_boundaries_advisory=metric.buckets
            )
            counters.also_record(metric.name, histogram)
    return provider


def metrics_reference() -> str:
    """The table of all metrics as markdown, for the docs."""
    rows = ["| Prometheus | OpenTelemetry | kind | unit | labels | meaning |", "| --- | --- | --- | --- | --- | --- |"]
    for metric in METRICS:
        labels = " ".join(f"`{label}`" for label in metric.labels) or "-"
        rows.append(f"| `{metric.prometheus_name}` | `{metric.name}` | {metric.kind} | `{metric.unit}` | {labels} | {metric.meaning} |")
    return "\n".join(rows) + "\n"


def spans_reference() -> str:
    """The table of all spans as markdown, for the docs."""
    rows = ["| span | attributes | meaning |", "| --- | --- | --- |"]
    rows += [f"| `{span.name}` | {' '.join(f'`{name}`' for name in span.attributes)} | {span.meaning} |" for span in SPANS]
    return "\n".join(rows) + "\n"


# -- Prometheus text -------------------------------------------------------------------------------------------------------------
def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _label_text(labels: tuple[tuple[str, str], ...]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{label}="{_escape(value).replace(chr(34), chr(92) + chr(34))}"' for label, value in labels) + "}"


def _number_text(number: float) -> str:
    if not math.isfinite(number):
        return "NaN" if math.isnan(number) else "+Inf" if number > 0 else "-Inf"
    return str(int(number)) if number == int(number) else repr(float(number))


def _histogram_lines(metric: Metric, labels: tuple[tuple[str, str], ...], distribution: _Distribution) -> Iterator[str]:
    total = 0
    for bound, count in zip([*map(_number_text, metric.buckets), "+Inf"], distribution.counts, strict=True):
        total += count
        yield f"{metric.prometheus_name}_bucket{_label_text((*labels, ('le', bound)))} {total}"
    yield f"{metric.prometheus_name}_sum{_label_text(labels)} {_number_text(distribution.sum)}"
    yield f"{metric.prometheus_name}_count{_label_text(labels)} {total}"
