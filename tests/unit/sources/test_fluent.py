"""The Forward source over real TCP, with an intake in memory."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 1.11)

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fluent import sender as fluent_logger
from tests.unit.sources.memory_intake import MemoryIntake
from tests.unit.wire.fluent_cases import CHUNK, ENTRIES_AB, event_time, members, pack, packed_frame

from esa_tls import telemetry
from esa_tls.errors import JournalFull
from esa_tls.sources.fluent import ForwardServer, ServerSettings
from esa_tls.telemetry import Counters
from esa_tls.wire.fluent import Limits
from esa_tls.wire.fluent_decode import ForwardSettings, Rejected
from esa_tls.wire.fluent_encode import AckReader, ack

TEST_TIMEOUT_S = 20.0


class Running:
    """A server under test with what it counts."""

    def __init__(self, server: ForwardServer, intake: MemoryIntake, counters: Counters) -> None:
        self.server = server
        self.intake = intake
        self.counters = counters
        self.clients: list[Client] = []

    async def client(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        self.clients.append(Client(reader, writer))
        return self.clients[-1]

    def bad_frames(self) -> dict[str, float]:
        return {
            dict(labels)["reason"]: number
            for name in (telemetry.FORWARD_BAD_FRAMES, telemetry.FORWARD_REFUSED_FRAMES)
            for labels, number in self.counters.series(name).items()
        }

    def closed_by(self) -> dict[str, float]:
        return {dict(labels)["reason"]: number for labels, number in self.counters.series(telemetry.SESSIONS_CLOSED).items()}


class Client:
    """A sender's end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def receive(self, n_bytes: int) -> bytes:
        async with asyncio.timeout(TEST_TIMEOUT_S):
            return await self.reader.readexactly(n_bytes)

    async def rest(self) -> bytes:
        """Everything up to the server's end of the connection."""
        async with asyncio.timeout(TEST_TIMEOUT_S):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def reset(self) -> None:
        """Cut the connection without a farewell."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def running(
    intake: MemoryIntake | None = None, *, limits: Limits | None = None, forward: ForwardSettings | None = None, **settings: Any
) -> AsyncIterator[Running]:
    """A server on a free port, closed at the end together with all clients."""
    intake = intake or MemoryIntake()
    counters = Counters()
    server = ForwardServer(
        intake, counters, settings=ServerSettings(port=0, **settings), limits=limits, forward=forward, now_s=lambda: 1_700_000_000.0
    )
    await server.start()
    run = Running(server, intake, counters)
    try:
        yield run
    finally:
        await server.close()
        await server.close()
        for client in run.clients:
            await client.close()


async def turns(n: int = 200) -> None:
    """Let everything that can happen without new input happen."""
    for _ in range(n):
        await asyncio.sleep(0)


def frame(line: str, chunk: str | None = None, *, lines: int = 1, size: int = 0) -> bytes:
    """A Forward frame; with `lines` more than 1 the lines are numbered."""
    texts = [line] if lines == 1 else [f"{line}{i}" for i in range(lines)]
    option = {} if chunk is None else {"chunk": chunk}
    return pack(["t", [[event_time(1), {"log": text + " " * size}] for text in texts], option])


def reply(chunk: str) -> bytes:
    """The ack for a chunk sent as str."""
    return ack(pack(chunk))


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (b"\xb8" + CHUNK, "81a361636bb841414543417751464267634943516f4c4441304f44773d3d"),
        (b"\xb9" + CHUNK + b"\n", "81a361636bb941414543417751464267634943516f4c4441304f44773d3d0a"),
        (b"\xd9\x20" + b"0123456789abcdef" * 2, "81a361636bd920" + (b"0123456789abcdef" * 2).hex()),
    ],
    ids=["F2", "F3", "F4"],
)
async def test_F02_F03_F04_the_ack_comes_after_the_commit_and_once(wire: bytes, expected: str) -> None:
    """F2 to F4: nothing is written while the commit is outstanding; then the chunk as received, exactly once."""
    intake = MemoryIntake()
    intake.accepting.clear()
    async with running(intake) as run:
        client = await run.client()
        await client.send(b"\x94\xa1t\xce\x55\xec\xe6\xf8" + pack({"log": "hi"}) + b"\x81\xa5chunk" + wire)
        await intake.until(lambda: len(intake.entered) == 1)
        await turns()
        assert run.counters.value(telemetry.FORWARD_ACKS) == 0
        await intake.accept()
        assert (await client.receive(len(expected) // 2)).hex() == expected
        client.writer.write_eof()
        assert await client.rest() == b""
        assert intake.lines() == [b"hi"]
        assert run.counters.value(telemetry.FORWARD_ACKS) == 1


@pytest.mark.parametrize("chunk", ["abc", None])
@pytest.mark.parametrize("failure", [None, JournalFull("full"), RuntimeError("bug")])
async def test_the_acknowledgement_matrix(chunk: str | None, failure: Exception | None, caplog: pytest.LogCaptureFixture) -> None:
    """Durable and asked: acked. Durable and not asked: silent, the connection stays. Not durable: closed without a word, unclean."""
    intake = MemoryIntake()
    async with running(intake) as run:
        client = await run.client()
        if failure is not None:
            intake.failures.append(failure)
        await client.send(frame("a", chunk))
        if failure is None:
            await client.send(frame("b", "last"))
            assert await client.receive(len((reply(chunk) if chunk else b"") + reply("last"))) == (reply(chunk) if chunk else b"") + reply(
                "last"
            )
            client.writer.write_eof()
        assert await client.rest() == b""
        await intake.until(lambda: 1 in intake.closed)
        assert intake.closed == {1: failure is None}
        assert run.closed_by() == {"eof" if failure is None else "not_acknowledged": 1}
        assert any(record.levelno >= logging.ERROR for record in caplog.records) == (failure is not None)


async def test_F05_a_frame_is_a_batch_with_its_origin_and_time() -> None:
    """The batch carries peer, tag, session, time of receipt, sender times and key."""
    async with running(forward=ForwardSettings(source="in", lossy=False)) as run:
        client = await run.client()
        await client.send(packed_frame(ENTRIES_AB, {"chunk": "abc"}, tag="esa.mail"))
        await client.receive(len(reply("abc")))
        (batch,) = run.intake.committed
        origin = batch.runs[0].origin
        assert (origin.source, origin.tag, origin.peer, origin.lossy) == ("in", "esa.mail", "127.0.0.1", False)
        assert (batch.session, batch.received_s, len(batch.key or b"")) == (1, 1_700_000_000.0, 16)
        assert list(batch.runs[0].sender_times_s or ()) == [1441588984.0, 1441588985.0]


@pytest.mark.parametrize("piece", [1, 3, 50])
async def test_F01_bytes_may_come_in_any_pieces(piece: int) -> None:
    """F1: a stream of frames written in small pieces gives the same lines and acks."""
    async with running() as run:
        client = await run.client()
        stream = frame("a", "one") + b"\xc0" + frame("b") + packed_frame(members(ENTRIES_AB), {"compressed": "gzip", "chunk": "two"})
        for at in range(0, len(stream), piece):
            await client.send(stream[at : at + piece])
        assert await client.receive(len(reply("one") + reply("two"))) == reply("one") + reply("two")
        assert run.intake.lines() == [b"a", b"b", b"a", b"b"]


@pytest.mark.parametrize("compressed", ["lz4", "gzip"])
async def test_F06_a_frame_that_does_not_unpack_closes_without_ack_three_times(compressed: str) -> None:
    """F6, 1.9: closed and counted; the third time from this peer the chunk is a dead letter and acknowledged."""
    data = packed_frame(b"\x1f\x8bno gzip" if compressed == "gzip" else ENTRIES_AB, {"compressed": compressed, "chunk": "abc"})
    async with running() as run:
        for _ in range(2):
            client = await run.client()
            await client.send(data)
            assert await client.rest() == b""
        assert run.intake.letters == []
        client = await run.client()
        await client.send(data + frame("after", "next"))
        assert await client.receive(len(reply("abc") + reply("next"))) == reply("abc") + reply("next")
        assert run.intake.letters == [("source:fluent", Rejected("frame_compression", data))]
        assert run.intake.lines() == [b"after"]
        assert run.bad_frames() == {"compression": 3}
        client.writer.write_eof()
        await client.rest()
        await run.intake.until(lambda: len(run.intake.closed) == 3)
        assert run.intake.closed == {1: False, 2: False, 3: False}


async def test_F06_other_chunks_and_frames_without_one_are_not_added_up() -> None:
    """Only the same frame counts towards the dead letter, and without a chunk nobody waits for an ack."""
    bad = {"compressed": "lz4"}
    async with running() as run:
        for i in range(4):
            client = await run.client()
            await client.send(packed_frame(ENTRIES_AB, {**bad, "chunk": f"c{i}"}))
            assert await client.rest() == b""
            client = await run.client()
            await client.send(packed_frame(ENTRIES_AB, bad))
            assert await client.rest() == b""
        assert run.intake.letters == []
        assert run.bad_frames() == {"compression": 8}


async def test_F07_a_bomb_ends_its_session_only() -> None:
    """F7: over the cap the connection closes without ack and is counted; other senders do not notice."""
    async with running(limits=Limits(max_decompressed_bytes=1 << 20)) as run:
        good, bad = await run.client(), await run.client()
        await bad.send(packed_frame(gzip.compress(bytes(8 << 20)), {"compressed": "gzip", "chunk": "abc"}))
        assert await bad.rest() == b""
        await good.send(frame("a", "one"))
        assert await good.receive(len(reply("one"))) == reply("one")
        assert run.bad_frames() == {"decompressed_size": 1}
        assert run.counters.value(telemetry.FORWARD_REFUSED_FRAMES) == 1


async def test_F07_a_frame_declared_too_large_is_refused_before_it_comes() -> None:
    """A 4 GiB header closes the connection; the frame before it is acknowledged first."""
    async with running() as run:
        client = await run.client()
        await client.send(frame("a", "one") + b"\x93\xa1t\xdb\xff\xff\xff\xff")
        assert await client.rest() == reply("one")
        await run.intake.until(lambda: 1 in run.intake.closed)
        assert run.intake.closed == {1: False}
        assert run.bad_frames() == {"frame_size": 1}
        assert run.closed_by() == {"bad_frame": 1}


async def test_F08_F09_bad_entries_are_dead_letters_before_the_ack() -> None:
    """1.9: entries without a line go to the dead letters, the others to the core, and the ack waits for both."""
    intake = MemoryIntake()
    intake.accepting.clear()
    async with running(intake) as run:
        client = await run.client()
        await client.send(pack(["t", [[1, {"log": "a"}], [1, 5]], {"chunk": "abc"}]))
        await intake.until(lambda: len(intake.entered) == 1)
        intake.let_through.add(b"a")
        await intake.changed()
        await intake.until(lambda: len(intake.committed) == 1)
        await turns()
        assert run.counters.value(telemetry.FORWARD_ACKS) == 0
        await intake.accept()
        await client.receive(len(reply("abc")))
        assert intake.letters == [("source:fluent", Rejected("record_not_map", pack([1, 5])))]
        assert run.counters.value(telemetry.EVENTS_DEAD_LETTERED, reason="record_not_map") == 1


async def test_F10_metrics_and_traces_are_acknowledged_counted_and_dropped() -> None:
    """F10: `fluent_signal` 1 and 2 never reach the core, and the sender is not left waiting."""
    async with running() as run:
        client = await run.client()
        for signal in (1, 2, 4):
            await client.send(b"\x93\xa1t" + pack(b"\x80metrics") + pack({"fluent_signal": signal, "chunk": "abc"}))
            await client.receive(len(reply("abc")))
        assert run.intake.entered == []
        signals = {dict(labels)["signal"]: number for labels, number in run.counters.series(telemetry.FORWARD_SIGNALS).items()}
        assert signals == {"metrics": 1, "traces": 1, "other": 1}


async def test_F12_heartbeats_and_empty_frames() -> None:
    """F12: nil and ["", []] are nothing; an empty list with a chunk is acknowledged without a batch."""
    async with running() as run:
        client = await run.client()
        await client.send(b"\xc0" + b"\x92\xa0\x90" + b"\xc0" + pack(["t", [], {"chunk": "abc"}]))
        assert await client.receive(len(reply("abc"))) == reply("abc")
        client.writer.write_eof()
        assert await client.rest() == b""
        await run.intake.until(lambda: 1 in run.intake.closed)
        assert run.intake.closed == {1: True}
        assert run.intake.entered == []


async def test_F14_connections_that_say_nothing_are_no_errors(caplog: pytest.LogCaptureFixture) -> None:
    """F14: 100 connect-and-close, some by reset, leave no log, no error count, and clean sessions."""
    async with running() as run:
        for i in range(100):
            client = await run.client()
            if i % 3 == 0:
                await run.intake.until(lambda n=i: len(run.intake.opened) > n)  # type: ignore[misc]
                client.reset()
            else:
                await client.close()
        await run.intake.until(lambda: len(run.intake.closed) == 100)
        assert set(run.intake.closed.values()) == {True}
        assert run.bad_frames() == {}
        assert run.closed_by() == {"eof": 100}
        assert run.counters.value(telemetry.SESSIONS_OPENED) == 100
        assert caplog.records == []


async def test_F16_a_frame_sent_again_has_the_same_key_from_another_connection() -> None:
    """F16: the sender that got no ack sends the chunk again elsewhere; both are the same batch to the intake, and both are acknowledged."""
    intake = MemoryIntake()
    intake.accepting.clear()
    async with running(intake) as run:
        first = await run.client()
        await first.send(frame("a", "abc"))
        await intake.until(lambda: len(intake.entered) == 1)
        first.reset()
        second = await run.client()
        await second.send(frame("a", "abc"))
        await intake.until(lambda: len(intake.entered) == 2)
        assert intake.entered[0].key == intake.entered[1].key is not None
        await intake.accept()
        assert await second.receive(len(reply("abc"))) == reply("abc")
        assert intake.lines() == [b"a"]
        await intake.until(lambda: 1 in intake.closed)
        assert intake.closed[1] is False


async def test_F16_a_long_frame_is_committed_in_slices_and_acknowledged_once() -> None:
    """Design 6 rule 4: 4,500 lines are three batches with keys of their own, in order; the ack follows the last."""
    async with running() as run:
        client = await run.client()
        await client.send(frame("n", "abc", lines=4500) + frame("next", "def"))
        assert await client.receive(len(reply("abc") + reply("def"))) == reply("abc") + reply("def")
        assert [batch.line_count() for batch in run.intake.entered] == [2000, 2000, 500, 1]
        assert len({batch.key for batch in run.intake.entered}) == 4
        assert run.intake.lines() == [b"n%d" % i for i in range(4500)] + [b"next"]


async def test_F17_while_nothing_is_accepted_reading_stops_and_resumes() -> None:
    """F17: with the journal full at most 4 frames enter, the sender's TCP window closes, nothing is acked or dropped; then all goes on."""
    intake = MemoryIntake()
    intake.accepting.clear()
    count = 60
    async with running(intake) as run:
        client = await run.client()
        sending = asyncio.create_task(client.send(b"".join(frame(f"{i}", f"chunk-{i:02}", size=500_000) for i in range(count))))
        await intake.until(lambda: len(intake.entered) == 4)
        await turns(2000)
        assert len(intake.entered) == 4
        assert not sending.done()
        assert run.counters.value(telemetry.FORWARD_ACKS) == 0
        await intake.accept()
        expected = b"".join(reply(f"chunk-{i:02}") for i in range(count))
        assert await client.receive(len(expected)) == expected
        await sending
        assert [line.strip() for line in intake.lines()] == [b"%d" % i for i in range(count)]
        assert intake.most_in_flight <= 4


async def test_F17_without_room_in_the_budget_reading_stops_and_resumes() -> None:
    """A large frame is read on only when its declared length is reserved; the reservation ends with its commit."""
    intake = MemoryIntake(budget_bytes=1 << 20)
    data = packed_frame(b"\x92" + pack(1) + pack({"log": "x" * 900_000}), {"chunk": "abc"})
    async with running(intake, limits=Limits(max_frame_bytes=1 << 20), small_frame_bytes=1000) as run:
        async with intake.reserve(1 << 19):
            client = await run.client()
            sending = asyncio.create_task(client.send(data))
            await intake.until(lambda: len(intake.reserved) == 2)
            assert len(data) - 20 < intake.reserved[1] <= len(data) + (64 << 10)
            await turns(500)
            assert intake.entered == []
        assert await client.receive(len(reply("abc"))) == reply("abc")
        await sending
        await intake.until(lambda: intake.free_bytes == 1 << 20)


async def test_frames_of_unknown_length_cannot_wait_for_each_other() -> None:
    """Two half-read Forward frames and room for one: each reserves once and whole, so one is read to its end, then the other."""
    limit = 1 << 20
    intake = MemoryIntake(budget_bytes=limit)
    async with running(intake, limits=Limits(max_frame_bytes=limit), small_frame_bytes=1000) as run:
        clients = [await run.client(), await run.client()]
        data = [frame(name, name, size=800_000) for name in ("a", "b")]
        halves = [asyncio.create_task(client.send(one[:400_000])) for client, one in zip(clients, data, strict=True)]
        await intake.until(lambda: len(intake.reserved) == 2)
        rests = [asyncio.create_task(client.send(one[400_000:])) for client, one in zip(clients, data, strict=True)]
        for client, name in zip(clients, ("a", "b"), strict=True):
            assert await client.receive(len(reply(name))) == reply(name)
        await asyncio.gather(*halves, *rests)
        assert set(intake.reserved) == {limit}


async def test_acks_come_in_the_order_of_the_frames() -> None:
    """Frame 2 durable before frame 1: its ack waits; a session has up to 4 frames under way."""
    intake = MemoryIntake()
    intake.accepting.clear()
    async with running(intake) as run:
        client = await run.client()
        await client.send(b"".join(frame(f"{i}", f"c{i}") for i in range(6)))
        await intake.until(lambda: len(intake.entered) == 4)
        intake.let_through |= {b"1", b"2"}
        await intake.changed()
        await intake.until(lambda: len(intake.entered) == 6)
        await turns()
        assert run.counters.value(telemetry.FORWARD_ACKS) == 0
        intake.let_through.add(b"0")
        await intake.changed()
        assert await client.receive(3 * len(reply("c0"))) == reply("c0") + reply("c1") + reply("c2")
        await intake.accept()
        assert await client.receive(3 * len(reply("c0"))) == reply("c3") + reply("c4") + reply("c5")
        assert [batch.runs[0].lines for batch in intake.entered] == [[b"%d" % i] for i in range(6)]
        assert intake.most_in_flight == 4


async def test_a_failure_stops_the_acks_behind_it() -> None:
    """Frame 1 fails, frame 2 was durable: neither is acknowledged, so the sender sends both again, in order."""
    intake = MemoryIntake()
    intake.failures.append(JournalFull("full"))
    async with running(intake) as run:
        client = await run.client()
        await client.send(frame("a", "one") + frame("b", "two"))
        assert await client.rest() == b""
        await intake.until(lambda: 1 in intake.closed)
        assert intake.closed == {1: False}
        assert run.counters.value(telemetry.FORWARD_ACKS) == 0


async def test_after_a_failure_nothing_more_enters() -> None:
    """What waits for its slot behind a failed frame does not overtake the resend of that frame."""
    intake = MemoryIntake()
    intake.failures.append(JournalFull("full"))
    async with running(intake, max_in_flight=1) as run:
        client = await run.client()
        await client.send(frame("a", "one") + frame("b", "two") + frame("c", "three"))
        assert await client.rest() == b""
        assert [batch.runs[0].lines for batch in intake.entered] == [[b"a"]]


async def test_a_commit_that_fails_after_the_senders_end_is_unclean() -> None:
    """The sender has closed its side and waits for the ack: it gets none."""
    intake = MemoryIntake()
    intake.accepting.clear()
    intake.late_failures.append(JournalFull("full"))
    async with running(intake) as run:
        client = await run.client()
        await client.send(frame("a"))
        client.writer.write_eof()
        await intake.until(lambda: len(intake.entered) == 1)
        await turns()
        await intake.accept()
        assert await client.rest() == b""
        await intake.until(lambda: 1 in intake.closed)
        assert intake.closed == {1: False}
        assert run.closed_by() == {"not_acknowledged": 1}


async def test_frames_in_front_of_a_bad_one_enter_first() -> None:
    """Frames without a chunk that share a read with a bad frame are kept, and not overtaken by its dead letter."""
    data = packed_frame(ENTRIES_AB, {"compressed": "lz4", "chunk": "abc"})
    async with running(poison_tries=1) as run:
        client = await run.client()
        await client.send(frame("a") + b"\x92\x01\x90")
        assert await client.rest() == b""
        assert run.intake.lines() == [b"a"]
        client = await run.client()
        await client.send(frame("b") + data + frame("c"))
        assert await client.receive(len(reply("abc"))) == reply("abc")
        client.writer.write_eof()
        await client.rest()
        assert [run_.lines for batch in run.intake.entered for run_ in batch.runs] == [[b"a"], [b"b"], [b"c"]]
        assert len(run.intake.letters) == 1


async def test_each_ack_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """1.4: Fluent Bit needs a whole ack in one read and drops what comes with it: one write each, nothing kept back."""
    writes: list[bytes] = []
    real = asyncio.StreamWriter.write

    def write(self: asyncio.StreamWriter, data: bytes) -> None:
        if data.startswith(b"\x81\xa3ack"):
            assert self.transport.get_write_buffer_size() == 0
            assert self.transport.get_write_buffer_limits() == (0, 1)
            writes.append(bytes(data))
        real(self, data)

    monkeypatch.setattr(asyncio.StreamWriter, "write", write)
    async with running() as run:
        client = await run.client()
        await client.send(b"".join(frame(f"{i}", f"c{i}") for i in range(5)))
        await client.receive(5 * len(reply("c0")))
    assert writes == [reply(f"c{i}") for i in range(5)]


async def test_frames_without_a_chunk_share_a_batch() -> None:
    """Many clients send one line per frame and want no ack: one read of them is one batch; order against chunked frames is kept."""
    async with running() as run:
        client = await run.client()
        singles = b"".join(pack(["t", 1, {"log": f"{i}"}]) for i in range(50))
        await client.send(singles + frame("x", "abc") + singles)
        client.writer.write_eof()
        await client.rest()
        numbers = [b"%d" % i for i in range(50)]
        assert run.intake.lines() == [*numbers, b"x", *numbers]
        assert len(run.intake.committed) < 10


async def test_the_real_fluent_logger_is_understood() -> None:
    """The PyPI client `fluent-logger`: Message mode, int time and EventTime, no ack; every record arrives."""
    async with running() as run:
        port = run.server.port

        def log() -> None:
            for precise in (False, True):
                logger = fluent_logger.FluentSender("esa", host="127.0.0.1", port=port, nanosecond_precision=precise)
                for i in range(100):
                    assert logger.emit("mail", {"log": f"Info: MID {i} ICID {i} {precise}", "n": i, "deep": {"a": [1, None]}})
                logger.close()

        await asyncio.to_thread(log)
        await run.intake.until(lambda: len(run.intake.closed) == 2)
        for session, precise in ((1, b"False"), (2, b"True")):  # connections may overlap; inside one the order is kept
            lines = [line for batch in run.intake.entered if batch.session == session for one in batch.runs for line in one.lines]
            assert lines == [b"Info: MID %d ICID %d %s" % (i, i, precise) for i in range(100)]
        assert len(run.intake.lines()) == 200
        assert {batch.runs[0].origin.tag for batch in run.intake.committed} == {"esa.mail"}
        times = [time for batch in run.intake.committed for one in batch.runs for time in one.sender_times_s or ()]
        assert len(times) == 200
        assert all(time is not None and time > 1_600_000_000 for time in times)
        assert run.intake.closed == {1: True, 2: True}
        assert run.bad_frames() == {}


async def test_a_sender_that_leaves_in_the_middle_of_a_frame_is_unclean() -> None:
    """Design 3.2: a partial frame will come again, or is lost: the feed is not unbroken."""
    async with running() as run:
        client = await run.client()
        await client.send(frame("a", "abc")[:-3])
        client.writer.write_eof()
        assert await client.rest() == b""
        await run.intake.until(lambda: 1 in run.intake.closed)
        assert run.intake.closed == {1: False}
        assert run.intake.entered == []


async def test_a_sender_that_does_not_wait_for_its_ack_is_unclean() -> None:
    """It closed before the commit: the lines are kept, the ack is still tried, but it may send them again."""
    intake = MemoryIntake()
    intake.accepting.clear()
    async with running(intake) as run:
        client = await run.client()
        await client.send(frame("a", "abc"))
        client.writer.write_eof()
        await intake.until(lambda: len(intake.entered) == 1)
        await turns()
        await intake.accept()
        assert await client.rest() == reply("abc")
        await intake.until(lambda: 1 in intake.closed)
        assert intake.closed == {1: False}
        assert intake.lines() == [b"a"]


async def test_a_silent_sender_is_cut_off_cleanly() -> None:
    """Between frames the idle timeout holds; the session was clean."""
    async with running(idle_timeout_s=0.05) as run:
        client = await run.client()
        await client.send(frame("a", "abc"))
        assert await client.rest() == reply("abc")
        await run.intake.until(lambda: 1 in run.intake.closed)
        assert run.intake.closed == {1: True}
        assert run.closed_by() == {"idle": 1}


async def test_who_waits_for_an_ack_is_not_idle() -> None:
    """Fluent Bit waits for its ack without end; a commit that takes longer than the idle timeout does not cut it off."""
    intake = MemoryIntake()
    intake.accepting.clear()
    async with running(intake, idle_timeout_s=0.02) as run:
        client = await run.client()
        await client.send(frame("a", "abc"))
        await intake.until(lambda: len(intake.entered) == 1)
        idle = await run.client()  # its own timeout passes several times the other's
        assert await idle.rest() == b""
        another = await run.client()
        assert await another.rest() == b""
        assert 1 not in intake.closed
        await intake.accept()
        assert await client.receive(len(reply("abc"))) == reply("abc")


async def test_a_sender_that_stalls_in_a_frame_is_cut_off() -> None:
    """Inside a frame the stall timeout holds, and the frame's reservation is given back."""
    intake = MemoryIntake(budget_bytes=1 << 20)
    limits = Limits(max_frame_bytes=1 << 20)
    async with running(intake, limits=limits, small_frame_bytes=100, stall_timeout_s=0.05) as run:
        client = await run.client()
        await client.send(frame("a", "abc", size=10_000)[:5000])
        assert await client.rest() == b""
        await intake.until(lambda: 1 in intake.closed)
        assert intake.closed == {1: False}
        assert run.closed_by() == {"stalled": 1}
        assert intake.free_bytes == 1 << 20


async def test_a_frame_that_drips_for_ever_is_cut_off() -> None:
    """Drops of bytes keep the stall timeout away but not the frame's own deadline, from its reservation on."""
    limits = Limits(max_frame_bytes=1 << 20)
    async with running(limits=limits, small_frame_bytes=100, frame_timeout_s=0.1, stall_timeout_s=60.0) as run:
        client = await run.client()
        await client.send(frame("a", "abc", size=900_000)[:200])

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    await client.send(b" ")
                    await asyncio.sleep(0.005)

        dripping = asyncio.create_task(drip())
        assert await client.rest() == b""
        dripping.cancel()
        assert run.closed_by() == {"stalled": 1}


async def test_more_sessions_than_allowed_are_turned_away() -> None:
    """Over `max_sessions` of senders at work a connection is closed at once and counted; when one ends there is room again."""
    async with running(max_sessions=2) as run:
        kept = [await run.client(), await run.client()]
        for chunk, client in zip(("abc", "abd"), kept, strict=True):
            await client.send(frame("a", chunk))
            await client.receive(len(reply(chunk)))
        turned_away = await run.client()
        assert await turned_away.rest() == b""
        assert run.closed_by() == {"max_sessions": 1}
        assert run.counters.value(telemetry.SESSIONS_OPEN) == 2
        await kept[0].close()
        await run.intake.until(lambda: 1 in run.intake.closed)
        await turns()
        again = await run.client()
        await again.send(frame("a", "def"))
        assert await again.receive(len(reply("def"))) == reply("def")


async def test_drain_acknowledges_what_was_read_and_closes() -> None:
    """Drain: no new connections, no more reading, but frames already read become durable and are acknowledged."""
    intake = MemoryIntake()
    intake.accepting.clear()
    async with running(intake) as run:
        port = run.server.port
        busy, idle, half = await run.client(), await run.client(), await run.client()
        await busy.send(frame("a", "one") + frame("b", "two"))
        await half.send(frame("c", "three")[:-1])
        await intake.until(lambda: len(intake.entered) == 2 and len(intake.opened) == 3)
        await turns()
        draining = asyncio.create_task(run.server.drain())
        assert await idle.rest() == b""
        assert await half.rest() == b""
        assert not draining.done()
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port)
        await intake.accept()
        assert await busy.rest() == reply("one") + reply("two")
        async with asyncio.timeout(TEST_TIMEOUT_S):
            await draining
        assert intake.lines() == [b"a", b"b"]
        assert sorted(intake.closed.values()) == [False, True, True]
        assert run.closed_by() == {"drained": 3}


async def test_drain_does_not_wait_for_room() -> None:
    """A frame that waits for the budget has not been read: the drain ends its session."""
    intake = MemoryIntake(budget_bytes=1 << 20)
    async with running(intake, limits=Limits(max_frame_bytes=1 << 20), small_frame_bytes=100) as run, intake.reserve(1 << 20):
        client = await run.client()
        await client.send(frame("a", "abc", size=10_000)[:5000])
        await intake.until(lambda: len(intake.reserved) == 2)
        async with asyncio.timeout(TEST_TIMEOUT_S):
            await run.server.drain()
        assert await client.rest() == b""
        assert intake.closed == {1: False}


async def test_drain_asks_for_no_more_room() -> None:
    """Behind two whole frames half of a large one was read: the drain waits for the two, and not for room for the third."""
    intake = MemoryIntake(budget_bytes=1 << 20)
    intake.accepting.clear()
    async with running(intake, limits=Limits(max_frame_bytes=1 << 20), small_frame_bytes=100, max_in_flight=1) as run:
        client = await run.client()
        await client.send(frame("a", "one") + frame("b", "two") + frame("c", "three", size=10_000)[:5000])
        await intake.until(lambda: len(intake.entered) == 1)
        async with intake.reserve(1 << 19):
            draining = asyncio.create_task(run.server.drain())
            await turns()
            await intake.accept()
            async with asyncio.timeout(TEST_TIMEOUT_S):
                await draining
        assert await client.rest() == reply("one") + reply("two")
        assert intake.closed == {1: False}
        assert 1 << 20 not in intake.reserved


async def test_drain_ends_although_a_sender_never_stops() -> None:
    """What arrives during the drain is looked at once, so a sender in full flow cannot hold it up."""
    async with running(read_bytes=1024) as run:
        client = await run.client()

        async def flood() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    await client.send(frame("a") * 50)

        flooding = asyncio.create_task(flood())
        await run.intake.until(lambda: len(run.intake.committed) > 100)
        async with asyncio.timeout(TEST_TIMEOUT_S):
            await run.server.drain()
        flooding.cancel()
        assert run.closed_by() == {"drained": 1}


async def test_close_ends_everything_at_once() -> None:
    """`close()` does not wait for commits: no ack, sessions unclean, room given back."""
    intake = MemoryIntake(budget_bytes=1 << 20)
    intake.accepting.clear()
    async with running(intake) as run:
        client = await run.client()
        await client.send(frame("a", "abc"))
        await intake.until(lambda: len(intake.entered) == 1)
        async with asyncio.timeout(TEST_TIMEOUT_S):
            await run.server.close()
        assert await client.rest() == b""
        assert intake.closed == {1: False}
        assert (intake.in_flight, intake.free_bytes) == (0, 1 << 20)


async def test_our_ack_reader_reads_our_acks() -> None:
    """The client half and the server half of the codec meet over TCP."""
    async with running() as run:
        client = await run.client()
        await client.send(b"".join(frame(f"{i}", f"c{i}") for i in range(20)))
        reader, chunks = AckReader(), list[bytes]()
        async with asyncio.timeout(TEST_TIMEOUT_S):
            while len(chunks) < 20:
                chunks += reader.feed(await client.reader.read(7))
        assert chunks == [b"c%d" % i for i in range(20)]
