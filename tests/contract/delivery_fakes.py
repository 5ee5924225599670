"""In memory: an outbox, the receiving end of cursors and dead letters, and numbered records in all encodings."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Literal

import msgpack
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs

from esa_tls.core.batch import Row
from esa_tls.core.protobuf import field, key_value
from esa_tls.runtime.dispatch import Dispatcher, Rows, Sink
from esa_tls.runtime.journal import DeadLetter
from esa_tls.telemetry import Counters
from esa_tls.wire.selection import Selection


def record(encoding: str, number: int, *, pad: int = 0) -> bytes:
    """One outbox record whose id is `number`."""
    body = {"@timestamp": 1, "event": {"id": f"id-{number}"}, "pad": "x" * pad}
    if encoding == "json":
        return json.dumps(body).encode() + b"\n"
    if encoding == "otlp":
        pairs = {"cisco_esa.appliance": "esa1", "log.record.uid": f"id-{number}", "pad": "x" * pad}
        return field(2, b"".join(field(6, key_value(key, value)) for key, value in pairs.items()))
    packed: bytes = msgpack.packb([msgpack.ExtType(0, struct.pack(">II", 1_700_000_000 + number, 0)), body])
    return packed


def row(encoding: str, numbers: Iterable[int], *, kind: str = "line", pad: int = 0) -> Row:
    """A row with one segment of numbered records."""
    return rows_of(encoding, [(kind, list(numbers))], pad=pad)


def rows_of(encoding: str, segments: Sequence[tuple[str, Sequence[int]]], *, pad: int = 0) -> Row:
    """A row with a segment for each (kind, numbers)."""
    cls = "line" if segments[0][0] == "line" else "summary"
    return Row(cls, encoding, [(kind, len(numbers), b"".join(record(encoding, n, pad=pad) for n in numbers)) for kind, numbers in segments])


def ids_in(encoding: str, body: bytes) -> list[int]:
    """Numbers of the records in `body`, in order; every one of them has to be readable."""
    if encoding == "json":
        assert not body or body.endswith(b"\n")
        values = [json.loads(line) for line in body.splitlines()]
    elif encoding == "otlp":
        records = ScopeLogs.FromString(body).log_records
        values = [{"event": {"id": pair.value.string_value}} for one in records for pair in one.attributes if pair.key == "log.record.uid"]
    else:
        unpacker = msgpack.Unpacker(max_buffer_size=max(len(body), 1))
        unpacker.feed(body)
        values = [entry[1] for entry in unpacker]
    return [int(value["event"]["id"].removeprefix("id-")) for value in values]


def ids_of(rows: Rows) -> list[int]:
    """Numbers of the records in `rows`."""
    return [number for _, one in rows for _, _, body in one.segments for number in ids_in(one.encoding, body)]


class _TellingCondition(asyncio.Condition):
    """A condition that tells when somebody waits on it."""

    def __init__(self, waited_on: asyncio.Event) -> None:
        super().__init__()
        self._waited_on = waited_on

    async def wait(self) -> Literal[True]:
        self._waited_on.set()
        return await super().wait()


class FakeOutbox:
    """Rows in memory, numbered from 1, with the condition that tells of new ones."""

    def __init__(self) -> None:
        self.rows: Rows = []
        self.idle = asyncio.Event()
        """Set when a dispatcher waits for rows."""
        self.grown: asyncio.Condition = _TellingCondition(self.idle)
        self.read_error: Exception | None = None
        self.before_read: Callable[[], None] = lambda: None

    def add(self, new: Row) -> int:
        """Append without telling anybody."""
        self.rows.append((self.tail() + 1, new))
        return self.tail()

    async def commit(self, *new: Row) -> None:
        """Append and tell."""
        for one in new:
            self.add(one)
        async with self.grown:
            self.grown.notify_all()

    def read(self, after: int, *, cls: Collection[str], encoding: str, max_bytes: int) -> Rows:
        self.before_read()
        if self.read_error is not None:
            error, self.read_error = self.read_error, None
            raise error
        found: Rows = []
        for sequence, one in self.rows:
            if sequence > after and one.cls in cls and one.encoding == encoding:
                if found and max_bytes <= 0:
                    break
                found.append((sequence, one))
                max_bytes -= sum(len(body) for _, _, body in one.segments)
        return found

    def tail(self) -> int:
        return self.rows[-1][0] if self.rows else 0

    def oldest(self) -> int:
        return self.rows[0][0] if self.rows else 1


class Ledger:
    """What the intake would make durable, in the order it was handed over."""

    def __init__(self) -> None:
        self.log: list[tuple[str, bytes] | DeadLetter] = []

    def save_cursor(self, name: str, cursor: bytes) -> None:
        self.log.append((name, cursor))

    async def dead_letter(self, letters: Sequence[DeadLetter]) -> None:
        self.log += letters

    @property
    def letters(self) -> list[DeadLetter]:
        return [entry for entry in self.log if isinstance(entry, DeadLetter)]

    def cursors(self, name: str) -> list[bytes]:
        return [entry[1] for entry in self.log if not isinstance(entry, DeadLetter) and entry[0] == name]

    def cursor(self, name: str) -> bytes | None:
        cursors = self.cursors(name)
        return cursors[-1] if cursors else None

    def refused_ids(self) -> list[int]:
        return [number for letter in self.letters for number in ids_in(letter.encoding, letter.payload)]


class NoWait:
    """A `sleep` that only notes how long it should have been."""

    def __init__(self) -> None:
        self.delays_s: list[float] = []

    async def __call__(self, delay_s: float) -> None:
        self.delays_s.append(delay_s)
        await asyncio.sleep(0)


def dispatcher(
    sink: Sink,
    outbox: FakeOutbox,
    ledger: Ledger,
    *,
    start: str = "oldest",
    counters: Counters | None = None,
    selection: Selection | None = None,
    sleep: NoWait | None = None,
    uniform: Callable[[float, float], float] = lambda _, high: high,
    clock: Callable[[], float] = lambda: 0.0,
    max_batch_bytes: int = 1 << 20,
    idle_look_s: float = 3600.0,
) -> Dispatcher:
    """A dispatcher that goes on from the ledger's cursor and never waits for real."""
    return Dispatcher(
        sink,
        outbox,
        stored=ledger.cursor(sink.name),
        save_cursor=ledger.save_cursor,
        dead_letter=ledger.dead_letter,
        grown=outbox.grown,
        counters=counters or Counters(),
        selection=selection,
        start="tail" if start == "tail" else "oldest",
        max_batch_bytes=max_batch_bytes,
        idle_look_s=idle_look_s,
        clock=clock,
        wall_clock=lambda: 1_800_000_000.0,
        uniform=uniform,
        sleep=sleep or NoWait(),
    )


async def run_dry(one: Dispatcher, *, within_s: float = 30.0) -> None:
    """Run until everything in the outbox is sent (or the deadline passed)."""
    running = asyncio.create_task(one.run())
    await asyncio.sleep(0)  # its first step
    await one.drain(within_s=within_s)
    await running
