"""Every metric: its name as a constant, and in `METRICS` once what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

COUNTER = "counter"
GAUGE = "gauge"
HISTOGRAM = "histogram"


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

BY_NAME: Mapping[str, Metric] = {metric.name: metric for metric in METRICS}
