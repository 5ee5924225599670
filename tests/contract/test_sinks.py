"""What every sink promises, whatever it talks to: ids in = ids out, no loss over restarts, an end at any moment.

To register a sink, write a `Store` for it: the far end, with ways to make it fail, and add it to `STORES`.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import random
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import msgspec
import pytest
from tests.contract.bulk_receiver import TAKE as TAKE_BULK
from tests.contract.bulk_receiver import BulkReceiver, BulkRequest
from tests.contract.bulk_receiver import Reply as BulkReply
from tests.contract.delivery_fakes import FakeOutbox, Ledger, dispatcher, ids_in, record, run_dry
from tests.contract.forward_receiver import ACK, CLOSE, ForwardReceiver
from tests.contract.hec_stub import TOKEN, HecStub, told
from tests.contract.http_receiver import OK as TAKEN
from tests.contract.http_receiver import HttpReceiver, Posted
from tests.contract.http_receiver import Reply as HttpReply
from tests.contract.kafka_fakes import NOT_ENOUGH_REPLICAS, FakeBroker
from tests.contract.loki_stub import LokiStub
from tests.contract.otlp_receiver import TAKE, OtlpReceiver, Reply
from tests.contract.receiving import Receiver

from esa_tls.core.batch import Row, Sealed
from esa_tls.errors import TransientError
from esa_tls.runtime.dispatch import Cursor, Dispatcher, Sink
from esa_tls.runtime.journal import DeadLetter, Journal
from esa_tls.sinks.elasticsearch import ElasticsearchSink
from esa_tls.sinks.elasticsearch_nodes import Nodes
from esa_tls.sinks.fluent import FluentSink
from esa_tls.sinks.http_client import HttpClient
from esa_tls.sinks.jsonl import JsonlSink, Syscalls
from esa_tls.sinks.kafka import KafkaSink
from esa_tls.sinks.loki import LokiSink
from esa_tls.sinks.otlp import OtlpSink, make_transport
from esa_tls.sinks.splunk_hec import SplunkHecSink
from esa_tls.sinks.webhook import WebhookSink
from esa_tls.telemetry import SINK_DEAD_LETTERED, SINK_REJECTED, SINK_RETRIES, SINK_SENT, Counters
from esa_tls.wire.kafka import topics_of
from esa_tls.wire.loki_entries import Entries


class Store(Protocol):
    """The far end of one sink."""

    encoding: str
    exactly_once: bool
    """Whether a restart repeats nothing."""
    failing: Callable[[], bool]
    """Asked at each request: whether it fails for the moment."""

    @property
    def poison_pad(self) -> int | None:
        """A record with so many bytes more is refused for good; None = everything is taken."""
        ...

    def sink(self) -> Sink:
        """A new sink for this store, as after a restart."""
        ...

    def numbers(self) -> list[int]:
        """Ids of everything the store has."""
        ...

    def hold(self) -> None:
        """From now on requests wait."""
        ...

    async def held(self) -> None:
        """Return when a request waits."""
        ...

    def let_go(self) -> None:
        """Waiting requests go on."""
        ...


class FileStore:
    """A folder of JSON lines; failing = the disk is full."""

    encoding = "json"
    exactly_once = True
    poison_pad = None

    def __init__(self, folder: Path) -> None:
        self.path = folder / "records.jsonl"
        self.failing: Callable[[], bool] = lambda: False
        self._open = threading.Event()
        self._open.set()
        self._waiting = threading.Event()

    def sink(self) -> Sink:
        return JsonlSink(str(self.path), name="sink", max_file_bytes=3000, keep_files=1000, syscalls=Syscalls(write=self._write))

    def _write(self, fd: int, view: memoryview) -> int:
        if not self._open.is_set():
            self._waiting.set()
            self._open.wait(20)
        if self.failing():
            os.write(fd, view[:7])
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(fd, view)

    def numbers(self) -> list[int]:
        return [number for file in self.path.parent.glob("records.jsonl*") for number in ids_in("json", file.read_bytes())]

    def hold(self) -> None:
        self._waiting.clear()
        self._open.clear()

    async def held(self) -> None:
        assert await asyncio.to_thread(self._waiting.wait, 20)

    def let_go(self) -> None:
        self._open.set()


class _Received:
    """A store of which a receiver is the outside."""

    exactly_once = False
    poison_pad: int | None = 70_000

    def __init__(self, receiver: Receiver) -> None:
        self._held = receiver
        self.failing: Callable[[], bool] = lambda: False

    def hold(self) -> None:
        self._held.hold()

    async def held(self) -> None:
        await self._held.until_waiting(1)

    def let_go(self) -> None:
        self._held.let_go()


class ForwardStore(_Received):
    """A Forward receiver; failing = it closes instead of acknowledging."""

    encoding = "forward"

    def __init__(self, receiver: ForwardReceiver) -> None:
        super().__init__(receiver)
        self.receiver = receiver
        receiver.answer = lambda _: CLOSE if self.failing() else ACK

    def sink(self) -> Sink:
        return FluentSink([("127.0.0.1", self.receiver.port)], name="sink", max_frame_bytes=65536)

    def numbers(self) -> list[int]:
        return self.receiver.numbers()


class OtlpStore(_Received):
    """An OTLP receiver; failing = UNAVAILABLE or 503. What is refused for good is too large for a request."""

    encoding = "otlp"

    def __init__(self, receiver: OtlpReceiver) -> None:
        super().__init__(receiver)
        self.receiver = receiver
        busy = Reply(14 if receiver.protocol == "grpc" else 503)
        receiver.answer = lambda _: busy if self.failing() else TAKE

    def sink(self) -> Sink:
        client = make_transport(self.receiver.protocol, [self.receiver.endpoint], headers={}, gzip=False, timeout_s=20.0)
        return OtlpSink(client, name="sink", max_request_bytes=65536)

    def numbers(self) -> list[int]:
        return self.receiver.numbers()


class BulkStore(_Received):
    """A store with a `_bulk` interface; failing = the whole request or some of its records, by turns. It knows ids that come again."""

    encoding = "json"
    exactly_once = True

    def __init__(self, receiver: BulkReceiver) -> None:
        super().__init__(receiver)
        self.receiver = receiver
        receiver.answer = self._answer
        receiver.max_record_bytes = 65536
        self._turns = itertools.cycle((BulkReply(503), BulkReply(cut=True), None))

    def _answer(self, request: BulkRequest) -> BulkReply:
        if not self.failing():
            return TAKE_BULK
        full = {"status": 429, "error": {"type": "es_rejected_execution_exception", "reason": "queue is full"}}
        return next(self._turns) or BulkReply(items=dict.fromkeys(request.ids[::3], full))

    def sink(self) -> Sink:
        return ElasticsearchSink(Nodes([self.receiver.url]), name="sink")

    def numbers(self) -> list[int]:
        return self.receiver.numbers()


class KafkaStore:
    """A broker in memory; failing = it has not enough replicas. What is refused for good is too large."""

    encoding = "json"
    exactly_once = False
    poison_pad = 70_000

    def __init__(self) -> None:
        self.failing: Callable[[], bool] = lambda: False
        self.broker = FakeBroker(max_message_bytes=65536)
        self.broker.judge = lambda _: NOT_ENOUGH_REPLICAS if self.failing() else None

    def sink(self) -> Sink:
        return KafkaSink(self.broker.make, topics_of("esa-tls"), name="sink")

    def numbers(self) -> list[int]:
        return [number for sent in self.broker.taken for number in ids_in("json", sent.value + b"\n")]

    def hold(self) -> None:
        self.broker.waiting.clear()
        self.broker.open.clear()

    async def held(self) -> None:
        assert await asyncio.to_thread(self.broker.waiting.wait, 20)

    def let_go(self) -> None:
        self.broker.open.set()


class _HttpStore(_Received):
    """A web server that records are posted to."""

    encoding = "json"

    def __init__(self) -> None:
        self.receiver = HttpReceiver()
        super().__init__(self.receiver)


class WebhookStore(_HttpStore):
    """Takes JSON arrays; failing = 503. What is refused for good is too large for it."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[int] = []
        self.receiver.answer = self._answer

    def _answer(self, posted: Posted) -> HttpReply:
        if self.failing():
            return HttpReply(503)
        records = msgspec.json.decode(posted.body, type=list[msgspec.Raw])
        if any(len(record) > 65536 for record in map(bytes, records)):
            return HttpReply(413)
        self.taken += [number for record in map(bytes, records) for number in ids_in("json", record + b"\n")]
        return TAKEN

    def sink(self) -> Sink:
        return WebhookSink(HttpClient(timeout_s=20.0), [self.receiver.url], name="sink")

    def numbers(self) -> list[int]:
        return self.taken


class LokiStore(_HttpStore):
    """Loki; failing = 503. What is refused for good has more metadata than it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.stub = LokiStub(max_metadata_bytes=32768, before=lambda _: HttpReply(503) if self.failing() else None)
        self.receiver.answer = self.stub.answer

    def sink(self) -> Sink:
        return LokiSink(HttpClient(timeout_s=20.0), [self.receiver.url], Entries(), name="sink", max_request_bytes=100_000)

    def numbers(self) -> list[int]:
        return [int(entry.fields["event_id"].removeprefix("id-")) for entry in self.stub.accepted]


class SplunkStore(_HttpStore):
    """Splunk's collector, with acknowledgements; failing = it is busy, or asked for acknowledgements has none yet."""

    def __init__(self) -> None:
        super().__init__()
        self.stub = HecStub(max_bytes=65536, before=lambda _: told(503, 9, "Server is busy") if self.failing() else None)
        self.receiver.answer = self.stub.answer

    def sink(self) -> Sink:
        return SplunkHecSink(HttpClient(timeout_s=20.0), [self.receiver.url], TOKEN, name="sink", max_request_bytes=100_000)

    def numbers(self) -> list[int]:
        return [int(event["event"]["event"]["id"].removeprefix("id-")) for event in self.stub.events]


@asynccontextmanager
async def kafka_store(_: Path) -> AsyncIterator[Store]:
    """A `KafkaStore`."""
    yield KafkaStore()


@asynccontextmanager
async def webhook_store(_: Path) -> AsyncIterator[Store]:
    """A `WebhookStore` with its server running."""
    store = WebhookStore()
    async with store.receiver:
        yield store


@asynccontextmanager
async def loki_store(_: Path) -> AsyncIterator[Store]:
    """A `LokiStore` with its server running."""
    store = LokiStore()
    async with store.receiver:
        yield store


@asynccontextmanager
async def splunk_store(_: Path) -> AsyncIterator[Store]:
    """A `SplunkStore` with its server running."""
    store = SplunkStore()
    async with store.receiver:
        yield store


@asynccontextmanager
async def file_store(folder: Path) -> AsyncIterator[Store]:
    """A `FileStore`."""
    yield FileStore(folder)


@asynccontextmanager
async def forward_store(_: Path) -> AsyncIterator[Store]:
    """A `ForwardStore` with its receiver running."""
    async with ForwardReceiver() as receiver:
        yield ForwardStore(receiver)


@asynccontextmanager
async def otlp_grpc_store(_: Path) -> AsyncIterator[Store]:
    """An `OtlpStore` over gRPC."""
    async with OtlpReceiver("grpc") as receiver:
        yield OtlpStore(receiver)


@asynccontextmanager
async def otlp_http_store(_: Path) -> AsyncIterator[Store]:
    """An `OtlpStore` over HTTP."""
    async with OtlpReceiver("http") as receiver:
        yield OtlpStore(receiver)


@asynccontextmanager
async def bulk_store(_: Path) -> AsyncIterator[Store]:
    """A `BulkStore` with its receiver running."""
    async with BulkReceiver() as receiver:
        yield BulkStore(receiver)


STORES = {
    "jsonl": file_store,
    "fluent": forward_store,
    "otlp": otlp_grpc_store,
    "otlp http": otlp_http_store,
    "elasticsearch": bulk_store,
    "kafka": kafka_store,
    "loki": loki_store,
    "webhook": webhook_store,
    "splunk_hec": splunk_store,
}
"""By the sink's module, and the way if there are several."""

RECEIVERS_TASKS = ("ForwardReceiver", "OtlpReceiver", "aio/server.pyx", "HandleExceptions", "RequestHandler.start")
"""In the names of tasks that belong to the far end."""


@pytest.fixture(params=sorted(STORES))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Each registered store in turn."""
    async with STORES[request.param](tmp_path) as one:
        yield one


def fill(outbox: FakeOutbox, store: Store, *, rows: int, poison: frozenset[int] = frozenset()) -> list[int]:
    """Add rows of several kinds; returns all ids. Those in `poison` are such that the store refuses them, if it can refuse any."""
    chance = random.Random(rows)
    numbers: list[int] = []
    for _ in range(rows):
        kinds = ["line"] if chance.random() < 0.5 else ["connection", "delivery", "message"][: chance.randrange(1, 4)]
        segments = []
        for kind in kinds:
            these = range(len(numbers), len(numbers) + chance.randrange(1, 9))
            numbers += these
            bodies = [record(store.encoding, n, pad=(store.poison_pad or 0) if n in poison else chance.randrange(300)) for n in these]
            segments.append((kind, len(bodies), b"".join(bodies)))
        outbox.add(Row("line" if kinds == ["line"] else "summary", store.encoding, segments))
    return numbers


POISON = frozenset({0, 17, 18, 60, 61, 62, 150})


@pytest.mark.parametrize("scenario", ["ok", "transient", "permanent", "mixed"])
async def test_ids_in_are_ids_out_or_dead_letters(store: Store, scenario: str) -> None:
    """Every record is in the store or a dead letter, once as long as no restart happens, and the numbers of the metrics say so."""
    outbox, ledger, counters, chance = FakeOutbox(), Ledger(), Counters(), random.Random(scenario)
    poison = POISON if scenario in ("permanent", "mixed") else frozenset()
    numbers = fill(outbox, store, rows=60, poison=poison)
    if scenario in ("transient", "mixed"):
        at_first = iter([True, True])
        store.failing = lambda: next(at_first, chance.random() < 0.15)
    await run_dry(dispatcher(store.sink(), outbox, ledger, counters=counters, max_batch_bytes=6000))

    refused = sorted(poison) if store.poison_pad else []
    assert sorted(ledger.refused_ids()) == refused
    assert sorted(store.numbers()) == sorted(set(numbers) - set(refused))
    assert counters.value(SINK_SENT, sink="sink") == len(numbers) - len(refused)
    assert counters.value(SINK_REJECTED, sink="sink") == counters.value(SINK_DEAD_LETTERED, sink="sink") == len(refused)
    assert (counters.value(SINK_RETRIES, sink="sink") > 0) == (scenario in ("transient", "mixed"))
    cursor = ledger.cursor("sink")
    assert cursor is not None
    assert msgspec.msgpack.decode(cursor, type=Cursor).sequence == outbox.tail()


async def test_closing_before_opening_and_twice_does_no_harm(store: Store) -> None:
    """A shutdown during start is no special case, and afterwards nothing is taken."""
    sink = store.sink()
    await sink.close()
    await sink.close()
    outbox = FakeOutbox()
    fill(outbox, store, rows=1)
    with pytest.raises(TransientError):
        await sink.send(outbox.rows)
    assert store.numbers() == []


async def test_a_shutdown_in_the_middle_of_a_send_loses_nothing(store: Store) -> None:
    """The deadline of the drain passes while a request is under way: it ends, and the next start brings what is missing."""
    outbox, ledger = FakeOutbox(), Ledger()
    numbers = fill(outbox, store, rows=40)
    tasks_before = asyncio.all_tasks()
    store.hold()
    one = dispatcher(store.sink(), outbox, ledger, max_batch_bytes=4000)
    running = asyncio.create_task(one.run())
    await store.held()
    await one.drain(within_s=0.0)
    await asyncio.sleep(0)
    store.let_go()
    async with asyncio.timeout(20):
        await running
    left = [task for task in asyncio.all_tasks() - tasks_before if not any(mark in repr(task) for mark in RECEIVERS_TASKS)]
    assert left == []
    for thread in threading.enumerate():
        if thread.name.startswith(("jsonl-", "kafka-")):  # told to end
            await asyncio.to_thread(thread.join, 10)
            assert not thread.is_alive()

    await run_dry(dispatcher(store.sink(), outbox, ledger))
    assert set(store.numbers()) == set(numbers)
    if store.exactly_once:
        assert sorted(store.numbers()) == numbers


@pytest.mark.parametrize("lag", [0, 1, 3, 1000])
async def test_going_on_from_an_older_cursor_loses_nothing(store: Store, lag: int) -> None:
    """Cursors become durable late: after a crash an older one counts, and everything since is sent again or was cut off."""
    outbox, ledger = FakeOutbox(), Ledger()
    one = dispatcher(store.sink(), outbox, ledger, max_batch_bytes=3000)
    first = await one.prepare()
    assert first is not None
    ledger.save_cursor("sink", first)
    numbers = fill(outbox, store, rows=40)
    await run_dry(one)
    durable = ledger.cursors("sink")
    del durable[max(1, len(durable) - lag) :]

    after = Ledger()
    after.save_cursor("sink", durable[-1])
    fill_from = len(numbers)
    outbox.add(Row("line", store.encoding, [("line", 1, record(store.encoding, fill_from))]))
    await run_dry(dispatcher(store.sink(), outbox, after))
    assert set(store.numbers()) == {*numbers, fill_from}
    if store.exactly_once or lag == 0:
        assert sorted(store.numbers()) == [*numbers, fill_from]


async def test_restarts_and_failures_together(store: Store) -> None:
    """Ended again and again by a deadline while the store fails every other time: at the end nothing is missing."""
    outbox, ledger, chance = FakeOutbox(), Ledger(), random.Random(5)
    numbers = fill(outbox, store, rows=60, poison=POISON)
    store.failing = lambda: chance.random() < 0.5
    for _ in range(15):
        one = dispatcher(store.sink(), outbox, ledger, max_batch_bytes=1500)
        running = asyncio.create_task(one.run())
        for _ in range(chance.randrange(1, 30)):
            await asyncio.sleep(0)
        await one.drain(within_s=0.0)
        await running
    store.failing = lambda: False
    await run_dry(dispatcher(store.sink(), outbox, ledger))
    refused = POISON if store.poison_pad else frozenset()
    assert set(store.numbers()) == set(numbers) - refused
    assert set(ledger.refused_ids()) == refused
    if store.exactly_once:
        assert sorted(store.numbers()) == sorted(set(numbers) - refused)


async def test_the_real_journal_is_the_outbox(store: Store, tmp_path: Path) -> None:
    """With the real journal: rows go out, cursors are kept and trimmed by, dead letters are listed, a restart repeats nothing."""
    journal = Journal.open(tmp_path / "data")
    grown = asyncio.Condition()
    memory = FakeOutbox()
    numbers = fill(memory, store, rows=40, poison=POISON)

    async def dead_letter(letters: Sequence[DeadLetter]) -> None:
        journal.commit([], dead_letters=letters)

    def one() -> Dispatcher:
        return Dispatcher(
            store.sink(),
            journal,
            stored=journal.load_cursor("sink"),
            save_cursor=journal.save_cursor,
            dead_letter=dead_letter,
            grown=grown,
            counters=Counters(),
            max_batch_bytes=5000,
        )

    try:
        journal.set_readers({"sink": [("line", store.encoding), ("summary", store.encoding)]})
        first = one()
        cursor = await first.prepare()
        assert cursor is not None
        journal.save_cursor("sink", cursor)
        journal.commit([Sealed(rows=[row for _, row in memory.rows], puts=[], deletes=[], keys=[])])
        await run_dry(first)
        refused = POISON if store.poison_pad else frozenset()
        assert sorted(store.numbers()) == sorted(set(numbers) - refused)
        letters = [letter for _, letter in journal.dead_letters()]
        assert {number for letter in letters for number in ids_in(letter.encoding, letter.payload)} == refused
        await run_dry(one())
        assert len(store.numbers()) == len(set(numbers) - refused)
        assert journal.trim() > 0
        assert journal.oldest() == journal.tail() + 1
    finally:
        journal.close()


def test_the_stores_can_be_told_apart() -> None:
    """The registry holds every sink type of the package's sinks folder."""
    folder = Path(__file__).parents[2] / "plugin" / "esa_tls" / "sinks"
    modules = {path.stem for path in folder.glob("*.py") if '\n    encoding = "' in path.read_text(encoding="utf-8")}  # those with a sink
    assert modules == {name.partition(" ")[0] for name in STORES}
