"""The embedded store at its full size: how fast records are filed, what a message costs on disk, how long questions take.

Conditions: 1,000,000 messages received by two appliances in 40 days. One day is simulated and goes through the core, so that records and
lines have their true shape; the others are that day with other dates and ids. Filed through the sink, by the writer's process. Questions
come from this process: each kind 100 times with values out of the records, right after the system was told to forget the file, and once
more (the slowest, and the most processor time that one took, which a busy machine changes less); and one of them all the while it is
being filled. `--quick`: one day. A folder that is named is kept, and asked again without filling.
Run: python tests/bench/bench_store.py [--quick] [--days N] [--folder DIR]; about 8 minutes.
Bars: 1,000,000 messages kept, any look-up by id or address < 50 ms, aggregates < 300 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import gc
import multiprocessing
import os
import random
import re
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from esa_tls.core.batch import Batch, Origin, Row, Run
from esa_tls.core.line_row import decode_line_rows
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.state import DictState
from esa_tls.offline.simulate import SimulationSettings, simulate
from esa_tls.store.answers import Filter
from esa_tls.store.query import StoreReader
from esa_tls.store.sink import StoreSink
from esa_tls.store.write import Limits
from esa_tls.telemetry import Counters

BATCH_LINES = 1_000
SEND_BYTES = 8 * 1024 * 1024
DAYS, DAY_MESSAGES = 40, 25_000
FIRST_DAY = dt.date(2025, 11, 24)
IDS = 71_390_00001, 82_460_00001, 93_570_00001
"""First MID, ICID and DCID: five digits that occur nowhere else, and five that count."""
LOOKUP_MS, AGGREGATES_MS = 50, 300
QUESTIONS = 100

Rows = list[tuple[int, Row]]


def day_of_rows() -> list[Rows]:
    """What the sink is given of one day, about 8 MiB at a time, from the simulator through the core."""
    state = DictState()
    pipeline = Pipeline(CoreSettings(), state, encodings=("store",), now_s=1.7e9)
    origins: dict[str, Origin] = {}
    given: list[Rows] = [[]]
    size = sequence = 0

    def sealed() -> None:
        nonlocal size, sequence
        group = pipeline.seal()
        if group is None:
            return
        state.apply(group.puts, group.deletes)
        for row in group.rows:
            sequence += 1
            given[-1].append((sequence, row))
            size += sum(len(body) for _, _, body in row.segments)
        if size >= SEND_BYTES:
            given.append([])
            size = 0

    settings = SimulationSettings(
        seed=11, messages=DAY_MESSAGES, appliances=2, span_s=64_800, mid_start=IDS[0], icid_start=IDS[1], dcid_start=IDS[2]
    )
    runs: dict[str, Run] = {}
    waiting = 0
    for name, line in simulate(settings):
        origin = origins.setdefault(name, Origin(record_appliance=name))
        runs.setdefault(name, Run(origin, [])).lines.append(line)
        waiting += 1
        if waiting == BATCH_LINES:
            pipeline.feed(Batch(list(runs.values()), 1, received_s=1.7e9), now_s=1.7e9)
            sealed()
            runs, waiting = {}, 0
    pipeline.feed(Batch(list(runs.values()), 1, received_s=1.7e9), now_s=1.7e9)
    pipeline.end_stream()
    sealed()
    return given


class Day:
    """The same day as another: dates, ids of records, connections and messages, and Message-IDs are others, and nothing else."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._dates = {
            (FIRST_DAY + dt.timedelta(days=at)).isoformat().encode(): (FIRST_DAY + dt.timedelta(days=at + number)).isoformat().encode()
            for at in range(-1, 60)
        }
        self._texts = [(b'"id":"692', b'"id":"%03x' % (0x692 + number)), (b"$", b"$%02x" % number)]
        self._texts += [(str(first)[:5].encode(), str(first + number * 100_000)[:5].encode()) for first in IDS]

    def rows(self, given: Rows, sequence: int) -> Rows:
        """These rows on that day."""
        return [
            (sequence + at, Row(row.cls, row.encoding, [(kind, count, self._body(kind, body)) for kind, count, body in row.segments]))
            for at, (_, row) in enumerate(given)
        ]

    def _body(self, kind: str, body: bytes) -> bytes:
        if kind == "line":
            rows = decode_line_rows(body)
            more = self._number * 100_000
            for row in rows:
                row.time_s += self._number * 86_400
                row.number += more
                row.mid = None if row.mid is None else row.mid + more
            return msgspec.msgpack.encode(rows)
        for old, new in self._texts:
            body = body.replace(old, new)
        return _DATE.sub(lambda match: self._dates.get(match[0], match[0]), body)


_DATE = re.compile(rb"20\d\d-\d\d-\d\d")


def rows_of(days: int) -> Iterator[Rows]:
    """All of it."""
    given = day_of_rows()
    sequence = 1
    for number in range(days):
        day = Day(number)
        for rows in given:
            yield day.rows(rows, sequence)
            sequence += len(rows)


def cpu_s(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_memory_mib(pid: int) -> float:
    """The most memory that a process ever had."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def forget_cached(path: Path) -> None:
    """Ask the system to read the file from the disk next time."""
    for name in (path, path.with_name(path.name + "-wal")):
        if name.exists():
            with name.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Sample:
    """Values out of messages that were filed, to ask for."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    async def draw(self, store: StoreReader) -> None:
        """Messages from all of the time."""
        status = await store.status()
        assert status.oldest_s is not None
        assert status.newest_s is not None
        chance = random.Random(5)
        while len(self.messages) < QUESTIONS:
            until_s = chance.randint(status.oldest_s + 1, status.newest_s)
            page = await store.search(Filter(kinds=frozenset({"message"}), until_s=until_s), limit=5)
            self.messages += [hit.record for hit in page.hits if "to" in hit.record["cisco_esa"].get("envelope", {})]


async def timed(what: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds."""
    began_s = time.perf_counter()
    await what()
    return (time.perf_counter() - began_s) * 1000


def questions(store: StoreReader, sample: Sample) -> dict[str, tuple[int, list[Callable[[], Awaitable[object]]]]]:
    """Name -> (bar in ms, calls)."""
    asked: dict[str, tuple[int, list[Callable[[], Awaitable[object]]]]] = {}

    def add(name: str, bar: int, call: Callable[[dict[str, Any]], Callable[[], Awaitable[object]] | None]) -> None:
        calls = [made for one in sample.messages[:QUESTIONS] if (made := call(one)) is not None]
        asked[name] = (bar, calls)

    def text(value: str) -> Callable[[], Awaitable[object]]:
        return lambda: store.search(Filter(text=value))

    def of_reception(one: dict[str, Any], make: Callable[[dict[str, Any]], Any]) -> Any:
        reception = one["cisco_esa"].get("reception", {})
        return make(reception) if "connection_id" in reception else None

    add("search by MID", LOOKUP_MS, lambda one: text(f"MID {one['cisco_esa']['mid']}"))
    add("search by ICID", LOOKUP_MS, lambda one: of_reception(one, lambda found: text(f"ICID {found['icid']}")))
    add("search by a bare number", LOOKUP_MS, lambda one: text(str(one["cisco_esa"]["mid"])))
    add("search by Message-ID", LOOKUP_MS, lambda one: text(one["email"].get("message_id", "<none@example.org>")))
    add("search by recipient", LOOKUP_MS, lambda one: text(one["cisco_esa"]["envelope"]["to"][0]))
    add("search by domain", LOOKUP_MS, lambda one: text(one["cisco_esa"]["envelope"]["to"][0].rpartition("@")[2]))
    add("search by peer address", LOOKUP_MS, lambda one: of_reception(one, lambda found: text(found["peer"]["ip"])))
    add("record by id", LOOKUP_MS, lambda one: lambda: store.record(one["event"]["id"]))
    add("look-up of a MID (gRPC)", LOOKUP_MS, lambda one: lambda: store.lookup("mid", one["cisco_esa"]["mid"]))
    add("look-up of a recipient (gRPC)", LOOKUP_MS, lambda one: lambda: store.lookup("recipient", one["cisco_esa"]["envelope"]["to"][0]))
    add("what is not there", LOOKUP_MS, lambda one: text(f"nobody-{one['cisco_esa']['mid']}@nowhere.example"))
    add(
        "story of a message, with lines",
        LOOKUP_MS,
        lambda one: lambda: store.message(one["cisco_esa"]["appliance"], one["cisco_esa"]["epoch"], one["cisco_esa"]["mid"]),
    )
    add(
        "story of a connection, with lines",
        LOOKUP_MS,
        lambda one: of_reception(one, lambda found: lambda: store.connection(found["connection_id"])),
    )
    few = 10
    filters = {
        "newest records": Filter(),
        "exposed messages": Filter(postures=frozenset({"exposed"})),
        "failed outbound connections": Filter(
            kinds=frozenset({"connection"}), outcomes=frozenset({"failed"}), directions=frozenset({"outbound"})
        ),
        "failures of one class": Filter(failures=frozenset({"handshake"})),
    }
    for name, wanted in filters.items():
        asked[f"page: {name}"] = (AGGREGATES_MS, [lambda wanted=wanted: store.search(wanted)] * few)  # type: ignore[misc]
    asked["aggregates of all the time"] = (AGGREGATES_MS, [store.overview] * few)
    asked["aggregates of one day, by hour"] = (AGGREGATES_MS, [lambda: store.overview(since_s=1_764_547_200, until_s=1_764_633_600)] * few)
    asked["ranking of all the time"] = (AGGREGATES_MS, [lambda: store.top("clear_out_domains")] * few)
    asked["appliances"] = (AGGREGATES_MS, [store.appliances] * few)
    return asked


def ask_meanwhile(path: Path, told: Connection) -> None:
    """A process: the same look-up again and again until it is told to end; sends how long each took, in ms."""

    async def ask() -> list[float]:
        store = StoreReader(path)
        took = []
        while not told.poll(0.2):
            took.append(await timed(lambda: store.search(Filter(text=f"MID {IDS[0] + 5}"))))
        await store.close()
        return took

    told.send(asyncio.run(ask()))


async def fill(sink: StoreSink, store: StoreReader, days: int) -> None:
    """File everything, and ask meanwhile."""
    records = lines = 0
    mine, theirs = multiprocessing.get_context("spawn").Pipe()
    asking = multiprocessing.get_context("spawn").Process(target=ask_meanwhile, args=(sink.path, theirs), daemon=True)
    asking.start()
    worker = sink._worker
    assert worker is not None
    used_s, began_s, waited_s = cpu_s(worker.pid), time.perf_counter(), 0.0
    sending: asyncio.Task[None] | None = None
    for rows in rows_of(days):
        if sending is not None:
            waiting_s = time.perf_counter()
            await sending
            waited_s += time.perf_counter() - waiting_s
        for _, row in rows:
            for kind, count, _ in row.segments:
                if kind == "line":
                    lines += count
                else:
                    records += count
        sending = asyncio.create_task(sink.send(rows))
        await asyncio.sleep(0.001)
    assert sending is not None
    await sending
    peak_mib = peak_memory_mib(worker.pid)
    used_s, took_s = cpu_s(worker.pid) - used_s, time.perf_counter() - began_s
    mine.send(True)
    asked_ms: list[float] = mine.recv()
    asking.join()
    status = await store.status()
    assert sum(status.records.values()) == records, (status, records)
    print(
        f"filed: {days * DAY_MESSAGES} messages received ({status.records['message']} with their children), {records} records and "
        f"{lines} lines in {took_s:.0f} s; the writer used {used_s:.0f} s of CPU: "
        f"{records / used_s:.0f} records/s with {lines / used_s:.0f} lines/s, {used_s / lines * 1e6:.1f} us a line "
        f"(this process waited {waited_s:.0f} s for it); its memory at most {peak_mib:.0f} MiB"
    )
    received = max(status.records["message"], 1)
    print(
        f"size: {status.bytes / 1e6:.0f} MB in use, {status.bytes / received:.0f} bytes a message; "
        f"of them lines {status.line_bytes / received:.0f}, {status.line_bytes / max(status.lines, 1):.1f} a line"
    )
    asked_ms.sort()
    print(f"a look-up while it was filled, every 0.2 s: median {statistics.median(asked_ms):.1f} ms, slowest {asked_ms[-1]:.1f} ms")


async def run(folder: Path, days: int) -> bool:
    """All of it; whether every bar was met."""
    path = folder / "store.sqlite"
    store = StoreReader(path, max_question_s=60.0)
    if not path.exists():
        sink = StoreSink(path, Limits(max_age_s=10**9, max_bytes=2**50), counters=Counters(), linger_s=0.0)
        await sink.open(None)
        await fill(sink, store, days)
        await sink.close()
    sample = Sample()
    await sample.draw(store)
    met = True
    print(f"{'ms':<36} {'from the disk':^27} {'asked again':^27}")
    print(f"{'question':<36}" + f" {'median':>9}{'slowest':>9}{'its CPU':>9}" * 2)
    for name, (bar, calls) in questions(store, sample).items():
        forget_cached(path)
        await store.close()
        columns = ""
        for _ in range(2):
            took, cpu = [], []
            for call in calls:
                used_s = time.process_time()
                took.append(await timed(call))
                cpu.append((time.process_time() - used_s) * 1000)
            columns += f" {statistics.median(took):>9.1f}{max(took):>9.1f}{max(cpu):>9.1f}"
        met &= max(took) < bar
        print(f"{name:<36}{columns}   bar {bar}: {'ok' if max(took) < bar else 'NOT MET'}")
    took_ms = await timed(lambda: store.tally(Filter()))
    print(f"tally of everything: {took_ms:.0f} ms")
    await store.close()
    return met


@contextmanager
def folder_of(name: str | None) -> Iterator[Path]:
    """A folder that is kept, or one that is not."""
    if name is not None:
        Path(name).mkdir(parents=True, exist_ok=True)
        yield Path(name)
        return
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one day, about 40 s")
    parser.add_argument("--days", type=int, default=DAYS)
    parser.add_argument("--folder", help="where the store is made and left")
    arguments = parser.parse_args()
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    gc.disable()  # as the sidecar does around the core: it would walk the open entries again and again
    with folder_of(arguments.folder) as folder:
        asyncio.run(run(folder, 1 if arguments.quick else arguments.days))


if __name__ == "__main__":
    main()
