"""What every source promises, whatever it speaks: ids in = ids committed, no answer before the commit, an end at any moment.

To register a source, write a `Wire` for it: a peer that sends lines and says what it was told, and add it to `WIRES`.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal, Protocol

import msgpack
import pytest
from tests.contract.intake_fakes import TEST_TIMEOUT_S, FakeIntake, line
from tests.contract.otlp_wires import OtlpGrpcWire, OtlpHttpWire
from tests.tls_files import TlsFiles

from esa_tls.config import variants
from esa_tls.runtime.refusals import Refusals
from esa_tls.runtime.tls import server_context
from esa_tls.sources.fluent import ForwardServer, ServerSettings
from esa_tls.sources.syslog import SyslogServer, SyslogSettings
from esa_tls.sources.syslog_udp import SyslogUdpServer
from esa_tls.telemetry import (
    EVENTS_DEAD_LETTERED,
    FORWARD_ACKS,
    FORWARD_BAD_FRAMES,
    FORWARD_FRAMES,
    SESSIONS_CLOSED,
    SESSIONS_OPENED,
    SYSLOG_BAD_FRAMES,
    SYSLOG_DROPPED,
    Counters,
)
from esa_tls.wire.fluent_encode import AckReader
from esa_tls.wire.fluent_handshake import ClientCredentials, ClientHandshake, ServerCredentials

Answer = Literal["accepted", "try again", "nothing"]
"""What a peer was told: it is durable; send it again (an error, or a closed connection); nothing at all, as it asked for nothing."""


class Source(Protocol):
    """What the app does with a source."""

    async def start(self) -> None: ...
    async def drain(self) -> None: ...
    async def close(self) -> None: ...


class Wire(Protocol):
    """One source and a peer that speaks to it."""

    type: str
    """The source's `type` in the configuration."""
    answers: bool
    """Whether a sender can ask for an answer; without one there is none to wait for."""
    silent: bool
    """Whether a sender can do without an answer."""
    takes_poison: bool
    """Whether an unreadable event can stand between good ones of a batch."""
    sessions_end: bool
    """Whether a peer that leaves is seen to leave."""

    @property
    def worked(self) -> tuple[str, ...]:
        """Metrics that are above 0 when a batch was sent and answered."""
        ...

    @property
    def malformed(self) -> tuple[str, ...]:
        """Metrics one of which is above 0 after `drivel`."""
        ...

    def source(self, intake: FakeIntake, counters: Counters) -> Source:
        """A new source, not started, on a free port of the loopback."""
        ...

    async def send(self, source: Source, numbers: list[int], *, ask: bool, poison: int = 0) -> Answer:
        """Send one batch, the same bytes for the same numbers, with `poison` unreadable events in it; on a connection of its own."""
        ...

    async def drivel(self, source: Source, chance: random.Random) -> None:
        """Say something that is not the protocol; return when the source has ended it or answered."""
        ...


class ForwardWire:
    """Fluent Forward; `files` and `key` make it TLS with a client certificate and the handshake."""

    type = "fluent"
    answers = True
    silent = True
    takes_poison = True
    sessions_end = True
    worked = (SESSIONS_OPENED, SESSIONS_CLOSED, FORWARD_FRAMES, FORWARD_ACKS)
    malformed = (FORWARD_BAD_FRAMES,)

    def __init__(self, *, files: TlsFiles | None = None, key: bytes | None = None) -> None:
        self._files = files
        self._key = key

    def source(self, intake: FakeIntake, counters: Counters) -> Source:
        refusals = Refusals("source fluent", counters)
        return ForwardServer(
            intake,
            counters,
            settings=ServerSettings(port=0),
            tls=None if self._files is None else server_context(self._files.listen(mutual=True), owner="source fluent", refusals=refusals),
            credentials=None if self._key is None else ServerCredentials(shared_key=self._key, users={}, hostname="server"),
            refusals=refusals,
        )

    async def send(self, source: Source, numbers: list[int], *, ask: bool, poison: int = 0) -> Answer:
        entries = [[number + 1, {"log": line(number).decode()}] for number in numbers]
        entries[1:1] = [[1, "no map"]] * poison
        chunk = f"chunk {numbers[0]} {poison}"
        frame: bytes = msgpack.packb(["mail", entries, {"chunk": chunk} if ask else {}])
        try:
            async with self._connected(source) as (reader, writer):
                writer.write(frame)
                await writer.drain()
                if not ask:
                    writer.close()
                    await writer.wait_closed()
                    return "nothing"
                acks = AckReader()
                while data := await reader.read(1000):
                    if chunks := acks.feed(data):
                        assert chunks == [chunk.encode()]
                        return "accepted"
        except OSError:
            pass
        return "try again"

    async def drivel(self, source: Source, chance: random.Random) -> None:
        with suppress(OSError):
            async with self._connected(source) as (reader, writer):
                writer.write(bytes([chance.choice(b"\x80\x01\xa3\xc1\xc2\xff")]) + chance.randbytes(50))
                while await reader.read(1000):
                    pass

    @asynccontextmanager
    async def _connected(self, source: Source) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        assert isinstance(source, ForwardServer)
        tls = None if self._files is None else self._files.client_context(cert=self._files.client)
        async with asyncio.timeout(TEST_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", source.port, ssl=tls, server_hostname=None if tls is None else "localhost"
            )
            try:
                if self._key is not None:
                    shaking = ClientHandshake(ClientCredentials(shared_key=self._key, hostname="peer"), randomness=os.urandom(16))
                    writer.write(shaking.feed(await reader.read(4096)).send)
                    if not shaking.feed(await reader.read(4096)).done:
                        raise ConnectionError("no PONG")
                yield reader, writer
            finally:
                writer.transport.abort()


def fluent(_: Path) -> Wire:
    """Forward as it is."""
    return ForwardWire()


def fluent_secured(folder: Path) -> Wire:
    """Forward over mutual TLS with a shared key."""
    return ForwardWire(files=TlsFiles(folder), key=b"secret")


class SyslogWire:
    """Syslog over TCP, where nobody is ever told anything; `files` make it TLS with a client certificate."""

    type = "syslog"
    answers = False
    silent = True
    takes_poison = False
    sessions_end = True
    worked = (SESSIONS_OPENED, SESSIONS_CLOSED)
    malformed = (SYSLOG_BAD_FRAMES,)

    def __init__(self, *, files: TlsFiles | None = None) -> None:
        self._files = files

    def source(self, intake: FakeIntake, counters: Counters) -> Source:
        refusals = Refusals("source syslog", counters)
        tls = None if self._files is None else server_context(self._files.listen(mutual=True), owner="source syslog", refusals=refusals)
        return SyslogServer(intake, counters, settings=SyslogSettings(port=0), tls=tls, refusals=refusals)

    async def send(self, source: Source, numbers: list[int], *, ask: bool, poison: int = 0) -> Answer:
        with suppress(OSError):
            await self._say(source, b"".join(b"%d %b" % (len(line(number)), line(number)) for number in numbers))
        return "nothing"

    async def drivel(self, source: Source, chance: random.Random) -> None:
        with suppress(OSError):
            await self._say(source, b"1 \n" + bytes([chance.choice(b"0xX \xff")]) + chance.randbytes(50))

    async def _say(self, source: Source, data: bytes) -> None:
        assert isinstance(source, SyslogServer)
        tls = None if self._files is None else self._files.client_context(cert=self._files.client)
        async with asyncio.timeout(TEST_TIMEOUT_S):
            _, writer = await asyncio.open_connection(
                "127.0.0.1", source.port, ssl=tls, server_hostname=None if tls is None else "localhost"
            )
            writer.write(data)
            await writer.drain()
            writer.close()
            await writer.wait_closed()


def syslog(_: Path) -> Wire:
    """Syslog over TCP."""
    return SyslogWire()


def syslog_tls(folder: Path) -> Wire:
    """Syslog over mutual TLS."""
    return SyslogWire(files=TlsFiles(folder))


class SyslogUdpWire:
    """Syslog over UDP: a datagram is a line whatever it holds, so what is malformed here is only where it comes from."""

    type = "syslog"
    answers = False
    silent = True
    takes_poison = False
    sessions_end = False
    worked = (SESSIONS_OPENED,)
    malformed = (SYSLOG_DROPPED,)

    def source(self, intake: FakeIntake, counters: Counters) -> Source:
        return SyslogUdpServer(intake, counters, settings=SyslogSettings(port=0, allow=("127.0.0.1/32",)))

    async def send(self, source: Source, numbers: list[int], *, ask: bool, poison: int = 0) -> Answer:
        self._say(source, *map(line, numbers))
        return "nothing"

    async def drivel(self, source: Source, chance: random.Random) -> None:
        self._say(source, chance.randbytes(50), own_address="127.0.0.2")

    def _say(self, source: Source, *datagrams: bytes, own_address: str = "127.0.0.1") -> None:
        assert isinstance(source, SyslogUdpServer)
        with suppress(AssertionError, OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((own_address, 0))
            for datagram in datagrams:
                sender.sendto(datagram, ("127.0.0.1", source.port))


def syslog_udp(_: Path) -> Wire:
    """Syslog over UDP."""
    return SyslogUdpWire()


WIRES: dict[str, Callable[[Path], Wire]] = {
    "syslog": syslog,
    "syslog+tls": syslog_tls,
    "syslog+udp": syslog_udp,
    "fluent": fluent,
    "fluent+tls+key": fluent_secured,
}
WIRES |= {
    "otlp_grpc": lambda _: OtlpGrpcWire(),
    "otlp_grpc+tls+token": lambda folder: OtlpGrpcWire(files=TlsFiles(folder)),
    "otlp_http": lambda _: OtlpHttpWire(),
    "otlp_http+tls+token": lambda folder: OtlpHttpWire(files=TlsFiles(folder)),
}


@pytest.fixture(params=sorted(WIRES))
def wire(request: pytest.FixtureRequest, tmp_path: Path) -> Wire:
    """Each registered wire in turn."""
    return WIRES[request.param](tmp_path)


class Running:
    """A started source with what is behind it."""

    def __init__(self, wire: Wire) -> None:
        self.intake = FakeIntake()
        self.counters = Counters()
        self.source = wire.source(self.intake, self.counters)


@asynccontextmanager
async def running(wire: Wire) -> AsyncIterator[Running]:
    """A source that is closed at the end, and has then given everything back."""
    before = asyncio.all_tasks()
    run = Running(wire)
    await run.source.start()
    try:
        yield run
    finally:
        async with asyncio.timeout(TEST_TIMEOUT_S):
            await run.source.close()
    assert run.intake.reserved_bytes == 0
    assert set(run.intake.closed) == set(range(1, run.intake.opened + 1))
    assert [task for task in asyncio.all_tasks() - before if "esa_tls" in repr(task)] == []


async def until(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds."""
    async with asyncio.timeout(TEST_TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.001)


def batches(chance: random.Random, n: int) -> list[list[int]]:
    """Batches of ids, each id once."""
    ids = iter(range(10_000))
    return [[next(ids) for _ in range(chance.randrange(2, 9))] for _ in range(n)]


# -- the contract ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scenario", ["ok", "transient", "permanent", "mixed"])
async def test_ids_in_are_ids_committed(wire: Wire, scenario: str) -> None:
    """A sender that repeats what was not answered gets every line in once; what cannot be read is a dead letter beside it."""
    chance = random.Random(scenario)
    async with running(wire) as run:
        if scenario in ("transient", "mixed"):
            run.intake.failing = lambda: chance.random() < 0.3
        poisoned = 0
        sent = batches(chance, 30)
        tries = 0
        for numbers in sent:
            poison = int(scenario in ("permanent", "mixed") and wire.takes_poison and chance.random() < 0.4)
            poisoned += poison
            while True:
                tries += 1
                answer = await wire.send(run.source, numbers, ask=wire.answers, poison=poison)
                if answer != "try again":
                    break
        if wire.answers:
            assert sorted(run.intake.numbers()) == [number for numbers in sent for number in numbers]
            assert len(run.intake.letters) >= poisoned
            assert (tries > len(sent)) == (scenario in ("transient", "mixed"))
        assert bool(run.intake.letters) == (poisoned > 0)


@pytest.mark.parametrize("outcome", ["ok", "transient", "permanent"])
@pytest.mark.parametrize("ask", [True, False])
async def test_the_acknowledgement_matrix(wire: Wire, outcome: str, ask: bool) -> None:
    """Durable: told, if asked. Not durable: never told so. Unreadable in part: the rest is durable, the part a dead letter, told."""
    if not (wire.answers if ask else wire.silent):
        pytest.skip("not in this protocol")
    async with running(wire) as run:
        run.intake.failing = lambda: outcome == "transient"
        poison = int(outcome == "permanent" and wire.takes_poison)
        answer = await wire.send(run.source, [0, 1, 2], ask=ask, poison=poison)
        if not ask:
            assert answer == "nothing"
            await until(lambda: not wire.sessions_end or len(run.intake.closed) == run.intake.opened > 0)
            await until(lambda: run.intake.refused > 0 or len(run.intake.committed) == 3)
        else:
            assert answer == ("try again" if outcome == "transient" else "accepted")
        assert run.intake.numbers() == ([] if outcome == "transient" else [0, 1, 2])
        assert len(run.intake.letters) == poison
        run.intake.failing = lambda: False
        assert await wire.send(run.source, [3, 4], ask=ask) == ("accepted" if ask else "nothing")
        await until(lambda: run.intake.numbers()[-2:] == [3, 4])


async def test_no_answer_before_the_commit(wire: Wire) -> None:
    """While the commit is outstanding the sender waits; afterwards it is told."""
    if not wire.answers:
        pytest.skip("not in this protocol")
    async with running(wire) as run:
        run.intake.hold()
        sending = asyncio.create_task(wire.send(run.source, [0, 1], ask=True))
        await run.intake.held()
        for _ in range(100):
            await asyncio.sleep(0)
        assert not sending.done()
        run.intake.let_go()
        assert await sending == "accepted"
        assert run.intake.numbers() == [0, 1]


async def test_what_is_sent_again_is_durable_once(wire: Wire) -> None:
    """The same batch twice, one after the other and at the same time: accepted each time, committed once."""
    if not wire.answers:
        pytest.skip("not in this protocol")
    async with running(wire) as run:
        for _ in range(2):
            assert await wire.send(run.source, [0, 1], ask=True) == "accepted"
        answers = await asyncio.gather(*(wire.send(run.source, [2, 3], ask=True) for _ in range(3)))
        assert answers == ["accepted"] * 3
        assert run.intake.numbers() == [0, 1, 2, 3]


# -- shutdown --------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("end", ["close", "drain", "both"])
async def test_an_end_before_the_start_and_twice_does_no_harm(wire: Wire, end: str) -> None:
    """A shutdown during start is no special case, and after the end nobody listens."""
    for started in (False, True):
        run = Running(wire)
        if started:
            await run.source.start()
        async with asyncio.timeout(TEST_TIMEOUT_S):
            for _ in range(2):
                if end in ("drain", "both"):
                    await run.source.drain()
                if end in ("close", "both"):
                    await run.source.close()
            await run.source.close()
        assert run.intake.committed == []


async def test_a_drain_in_mid_flight_answers_what_was_read(wire: Wire) -> None:
    """A batch whose commit is under way is committed and answered before the drain ends; nothing new is taken."""
    async with running(wire) as run:
        run.intake.hold()
        sending = asyncio.create_task(wire.send(run.source, [0, 1], ask=wire.answers))
        await run.intake.held()
        draining = asyncio.create_task(run.source.drain())
        for _ in range(100):
            await asyncio.sleep(0)
        assert not draining.done()
        run.intake.let_go()
        async with asyncio.timeout(TEST_TIMEOUT_S):
            await draining
        assert await sending == ("accepted" if wire.answers else "nothing")
        assert run.intake.numbers() == [0, 1]


async def test_a_close_in_mid_flight_answers_nothing_and_loses_nothing(wire: Wire) -> None:
    """Closed before the commit: the sender is not told that it is durable, and sends it again to the next source."""
    async with running(wire) as run:
        run.intake.hold()
        sending = asyncio.create_task(wire.send(run.source, [0, 1], ask=wire.answers))
        await run.intake.held()
        async with asyncio.timeout(TEST_TIMEOUT_S):
            await run.source.close()
        assert await sending == ("try again" if wire.answers else "nothing")
        assert run.intake.committed == []
        run.intake.let_go()
    if wire.answers:
        async with running(wire) as run:
            assert await wire.send(run.source, [0, 1], ask=True) == "accepted"
            assert run.intake.numbers() == [0, 1]


# -- metrics and bad peers -------------------------------------------------------------------------------------------------------
async def test_the_metrics_are_there(wire: Wire) -> None:
    """What was done is counted under the source's metrics, dead letters too."""
    async with running(wire) as run:
        await wire.send(run.source, [0, 1, 2], ask=wire.answers, poison=int(wire.takes_poison))
        await until(lambda: all(run.counters.value(name) > 0 for name in wire.worked))
        assert (run.counters.value(EVENTS_DEAD_LETTERED) > 0) == wire.takes_poison


async def test_a_malformed_peer_hurts_itself_only(wire: Wire) -> None:
    """Drivel is ended or answered, counted, and commits nothing; others are served before, during and after."""
    chance = random.Random(7)
    async with running(wire) as run:
        good = [[n, n + 1] for n in range(0, 20, 2)]
        for numbers in good:
            _, answer = await asyncio.gather(wire.drivel(run.source, chance), wire.send(run.source, numbers, ask=wire.answers))
            assert answer == ("accepted" if wire.answers else "nothing")
        await until(lambda: len(run.intake.committed) >= 20)
        assert sorted(run.intake.numbers()) == list(range(20))
        assert sum(run.counters.value(name) for name in wire.malformed) > 0


def test_every_source_has_its_wire(tmp_path: Path) -> None:
    """The registry holds every type of source that the configuration knows."""
    assert {make(tmp_path / name).type for name, make in WIRES.items()} == {str(part.tag) for part in variants("sources")}
