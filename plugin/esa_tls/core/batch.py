"""What goes into the core and what comes out of it: plain values, no behaviour.

In: a `Batch` of `Run`s, each a stretch of raw lines that came the same way (`Origin`).
Out: a `Sealed` group of bytes: outbox rows and changed state, ready for one atomic write.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Origin(msgspec.Struct, frozen=True):
    """How lines came. Interned by the sources: one object for many lines.

    `lossy`: True/False as the source is configured, None = lines that carry a syslog prefix are lossy.
    `reorder_window_s`: None = 2 s for lossy lines, else 0.
    """

    source: str = ""
    tag: str | None = None
    peer: str | None = None
    record_appliance: str | None = None
    otlp_host: str | None = None
    log_name: str | None = None
    file_path: str | None = None
    lossy: bool | None = None
    reorder_window_s: float | None = None
    trust_host: bool = True


class Run(msgspec.Struct):
    """Consecutive lines of one origin, as bytes without their line end.

    `sender_times_s`: the sender's own time of each line (seconds, UTC), used only for lines that carry none; None = no sender times.
    `flags`: flags that hold for every line of the run, e.g. `("reconstructed",)`.
    """

    origin: Origin
    lines: list[bytes]
    sender_times_s: Sequence[float | None] | None = None
    flags: tuple[str, ...] = ()


class Batch(msgspec.Struct):
    """What is committed and acknowledged together.

    `key`: 16 bytes that are the same when the sender sends the same batch again, None = not known (never de-duplicated).
    `session`: identifies the sender's session, for the unbroken-feed rule; unique while the process lives.
    """

    runs: list[Run]
    session: int
    key: bytes | None = None
    received_s: float = 0.0

    def line_count(self) -> int:
        """Number of lines in all runs."""
        return sum(len(run.lines) for run in self.runs)


class Row(msgspec.Struct, frozen=True):
    """One outbox row: records of one class and encoding, grouped by kind.

    `cls`: `line` or `summary`. `encoding`: `json` (each record one JSON object and a line feed), `forward` (each record one
    msgpack entry `[EventTime, map]`), or `otlp` (each record one `ScopeLogs.log_records` field). `segments`: (kind, number of records,
    bytes), kinds `line`, `connection`, `delivery`, `message`, `consolidated`; a kind may have several segments (`otlp`: one per appliance).
    """

    cls: str
    encoding: str
    segments: list[tuple[str, int, bytes]]


class Sealed(msgspec.Struct):
    """A group turned into bytes; nothing in it refers to live state.

    `puts`/`deletes` are state keys (without the journal's own prefix). `counts` are telemetry increments: (metric, labels, n).
    """

    rows: list[Row]
    puts: list[tuple[bytes, bytes]]
    deletes: list[bytes]
    keys: list[bytes]
    lines: int = 0
