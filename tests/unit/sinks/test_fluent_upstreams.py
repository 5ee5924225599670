"""sinks/fluent_upstreams.py: several receivers, weights, standby, keys, certificates; our client against our server."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 1.11)

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import trustme
from tests.contract.delivery_fakes import ids_of, record, row
from tests.contract.forward_receiver import ACK, CLOSE, FLUENT_BIT_MAX_BYTES, ForwardReceiver
from tests.tls_files import TlsFiles
from tests.unit.sources.memory_intake import MemoryIntake

from esa_tls.core.batch import Row
from esa_tls.errors import TransientError
from esa_tls.runtime.refusals import Refusals
from esa_tls.runtime.tls import client_contexts, server_context
from esa_tls.sinks.fluent import FluentSink
from esa_tls.sinks.fluent_upstreams import REFUSED_RETRY_S, Receiver, Upstreams
from esa_tls.sources.fluent import ForwardServer, ServerSettings
from esa_tls.telemetry import FORWARD_ACKS, PEERS_REFUSED, Counters
from esa_tls.wire.fluent_handshake import ClientCredentials, ServerCredentials

TEST_TIMEOUT_S = 20.0


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def line_rows(*numbers: int) -> list[tuple[int, Row]]:
    """Rows with one record each."""
    return [(number, row("forward", [number])) for number in numbers]


def to(*receivers: ForwardReceiver | Receiver | int, **settings: Any) -> FluentSink:
    """A sink to these, on the loopback."""
    ports = [one.port if isinstance(one, ForwardReceiver) else one for one in receivers]
    return FluentSink([one if isinstance(one, Receiver) else Receiver("127.0.0.1", one) for one in ports], **settings)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken and on which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


async def until(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds."""
    async with asyncio.timeout(TEST_TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.001)


# -- whose turn it is ------------------------------------------------------------------------------------------------------------
def test_weights_decide_how_often_one_is_first() -> None:
    """60 to 30 to 10, by lot; who comes second follows the weights of the rest."""
    upstreams = Upstreams([Receiver("a", 1, 60), Receiver("b", 1, 30), Receiver("c", 1, 10)], chance=random.Random(1))
    orders = [[one.host for one in upstreams.order()] for _ in range(6000)]
    first = Counter(order[0] for order in orders)
    assert [round(first[host] / 600) for host in "abc"] == [6, 3, 1]
    second = Counter(order[1] for order in orders if order[0] == "a")
    assert round(4 * second["b"] / first["a"]) == 3
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)


async def test_standby_comes_in_only_while_no_other_is_healthy() -> None:
    """Behind the healthy ones, in front of the others when all others failed, behind again when one works."""
    a, b, spare = Receiver("a", 1), Receiver("b", 1), Receiver("s", 1, 1000, standby=True)
    upstreams = Upstreams([spare, a, b], monotonic_s=Clock())
    assert upstreams.order()[-1] == spare
    upstreams.failed(a, TransientError("x"))
    assert upstreams.order() == [b, spare]
    upstreams.failed(b, TransientError("x"))
    assert upstreams.order() == [spare]
    upstreams.worked(b)
    assert upstreams.order() == [b, spare]
    for one in (spare, b):
        upstreams.failed(one, TransientError("x", retry_after_s=30.0 if one == b else None))
    assert upstreams.order()[-1] == b  # nobody is healthy: all, who is due first first
    assert set(upstreams.order()) == {a, b, spare}
    await upstreams.close()
    await upstreams.close()


async def test_frames_are_spread_over_the_receivers_and_each_arrives_once() -> None:
    """Two healthy receivers share the frames; connections are kept."""
    async with ForwardReceiver() as one, ForwardReceiver() as two:
        sink = to(one, two)
        for n in range(40):
            await sink.send(line_rows(n))
        await sink.close()
    assert sorted(one.numbers() + two.numbers()) == list(range(40))
    assert len(one.frames) > 5
    assert len(two.frames) > 5
    assert one.connections <= 2
    assert two.connections <= 2


async def test_the_standby_takes_over_and_hands_back(closed_port: int) -> None:
    """The first receiver goes: the standby gets the frames, in the same `send`; it comes back: a probe finds it, and it gets them again."""
    async with ForwardReceiver() as first, ForwardReceiver() as spare:
        sink = to(first, Receiver("127.0.0.1", spare.port, standby=True))
        sink.upstreams._backoff = type(sink.upstreams._backoff)(0.01, 0.02)
        await sink.send(line_rows(1))
        assert (first.numbers(), spare.numbers()) == ([1], [])
        await first.stop()
        await sink.send(line_rows(2))
        await sink.send(line_rows(3))
        assert spare.numbers() == [2, 3]
        await first.start()
        await until(lambda: sink.upstreams.healthy(sink.upstreams.receivers[0]))
        await sink.send(line_rows(4))
        assert (first.numbers(), spare.numbers()) == ([1, 4], [2, 3])
        await sink.close()
        assert sink.upstreams._probing is None


async def test_a_receiver_that_greets_and_never_acknowledges_is_left_alone_more_and_more() -> None:
    """Each failure makes the next probe later, however often a connection succeeds; an ack makes it short again."""
    clock = Clock()
    upstreams = Upstreams([Receiver("a", 1), Receiver("b", 1)], monotonic_s=clock, chance=random.Random(1))
    [a, _] = upstreams.receivers
    waits = []
    for _ in range(9):
        upstreams.failed(a, TransientError("no ack"))
        waits.append(upstreams._health[a].retry_at_s - clock.now_s)
        upstreams._health[a].healthy = True  # as a probe does
    for wait_s, most_s in zip(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60], strict=True):
        assert most_s / 2 <= wait_s <= most_s
    upstreams.worked(a)
    upstreams.failed(a, TransientError("no ack"))
    assert upstreams._health[a].retry_at_s - clock.now_s <= 1
    await upstreams.close()


async def test_a_frame_that_failed_goes_to_another_receiver() -> None:
    """One that closes instead of acknowledging is out until a probe; nothing is lost, and the frame is the same one."""
    async with ForwardReceiver() as bad, ForwardReceiver() as good:
        bad.answer = lambda _: CLOSE
        sink = to(bad, good)
        for n in range(10):
            try:
                await sink.send(line_rows(n))
            except TransientError:
                await sink.send(line_rows(n))
        await sink.close()
    assert sorted(good.numbers()) == list(range(10))
    assert len(bad.frames) < 10
    assert {frame.chunk for frame in bad.frames} <= {frame.chunk for frame in good.frames}


async def test_F19_frames_stay_below_the_receivers_limit() -> None:
    """F19: Fluent Bit closes above 6,144,000 bytes, packed or not: with our default it never has to, whatever comes in one send."""
    rows = [(n, row("forward", range(700 * n, 700 * (n + 1)), pad=9000)) for n in range(5)]
    async with ForwardReceiver(max_bytes=FLUENT_BIT_MAX_BYTES) as receiver:
        for gzip in (False, True):
            sink = to(receiver, gzip=gzip)
            await sink.send(rows)
            await sink.close()
    assert receiver.refused_for_size == 0
    assert sorted(receiver.numbers()) == sorted(2 * ids_of(rows))
    assert max(len(frame.entries) for frame in receiver.accepted) > 4_000_000


async def test_every_frame_asks_for_an_ack() -> None:
    """There is no way to send without: each frame has its chunk."""
    async with ForwardReceiver() as receiver:
        receiver.answer = lambda frame: ACK if frame.chunk else CLOSE
        sink = to(receiver)
        await sink.send([(1, Row("line", "forward", [("line", 1, record("forward", 1))]))])
        await sink.close()
    assert [len(frame.chunk) for frame in receiver.frames] == [24]


# -- our client against our server -----------------------------------------------------------------------------------------------
class Peer:
    """Our own Forward source as the receiver."""

    def __init__(self, server: ForwardServer, intake: MemoryIntake, counters: Counters) -> None:
        self.server = server
        self.intake = intake
        self.counters = counters

    @property
    def port(self) -> int:
        return self.server.port

    def received(self) -> int:
        return sum(len(run.lines) for batch in self.intake.committed for run in batch.runs) + len(self.intake.letters)


@contextlib.asynccontextmanager
async def source(
    *, credentials: ServerCredentials | None = None, files: TlsFiles | None = None, mutual: bool = False
) -> AsyncIterator[Peer]:
    """A running source."""
    intake, counters = MemoryIntake(), Counters()
    refusals = Refusals("source fluent", counters)
    tls = None if files is None else server_context(files.listen(mutual=mutual), owner="source fluent", refusals=refusals)
    server = ForwardServer(intake, counters, settings=ServerSettings(port=0), tls=tls, credentials=credentials, refusals=refusals)
    await server.start()
    try:
        yield Peer(server, intake, counters)
    finally:
        await server.close()


def server_keys(*, key: bytes, users: bool) -> ServerCredentials:
    """What a server knows."""
    return ServerCredentials(shared_key=key, users={b"alice": b"wonder", b"bob": b"builder"} if users else {}, hostname="host.example")


def client_keys(*, key: bytes, users: bool, **changed: Any) -> ClientCredentials:
    """What a client knows."""
    known: dict[str, Any] = {"username": "alice", "password": b"wonder"} if users else {}
    return ClientCredentials(shared_key=key, hostname="host.example", **{**known, **changed})


@pytest.mark.parametrize(("key", "users"), [(None, False), (b"", False), (b"", True), (b"secret", False), (b"secret", True)])
@pytest.mark.parametrize("tls", ["plain", "tls", "mutual"])
async def test_our_client_and_our_server_understand_each_other(tmp_path: Path, key: bytes | None, users: bool, tls: str) -> None:
    """Every combination of key, user, TLS and client certificate: frames are acknowledged, connections kept, nobody refused."""
    files = TlsFiles(tmp_path)
    keys = None if key is None else server_keys(key=key, users=users)
    async with source(credentials=keys, files=None if tls == "plain" else files, mutual=tls == "mutual") as peer:
        receiver = Receiver("localhost" if tls != "plain" else "127.0.0.1", peer.port)
        if key is not None:
            receiver = Receiver(receiver.host, peer.port, credentials=client_keys(key=key, users=users))
        contexts = None if tls == "plain" else client_contexts(files.connect(mutual=tls == "mutual"), owner="sink x")
        sink = to(receiver, tls=contexts)
        for n in range(3):
            await sink.send(line_rows(n))
        await sink.close()
        assert peer.received() == 3
        assert peer.counters.value(FORWARD_ACKS) == 3
        assert peer.counters.value(PEERS_REFUSED) == 0
        assert len(peer.intake.opened) == 1


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"key": b"wrong"}, "it refused us: shared_key mismatch"),
        ({"key": b""}, "it refused us: shared_key mismatch"),
        ({"username": "carol"}, "it refused us: username/password mismatch"),
        ({"password": b"builder"}, "it refused us: username/password mismatch"),
        ({"username": None, "password": None}, "it wants a user name and password, and none is configured"),
    ],
)
async def test_wrong_keys_are_told_and_not_tried_at_once_again(changed: dict[str, Any], told: str) -> None:
    """The sentence names the receiver and its reason, no secret; the dispatcher waits longer than after a lost connection."""
    async with source(credentials=server_keys(key=b"secret", users=True)) as peer:
        credentials = client_keys(**{"key": b"secret", "users": True, **changed})
        sink = to(Receiver("127.0.0.1", peer.port, credentials=credentials))
        with pytest.raises(TransientError) as caught:
            await sink.send(line_rows(1))
        assert str(caught.value) == f"forward: cannot connect to 127.0.0.1:{peer.port}: {told}"
        assert caught.value.retry_after_s == REFUSED_RETRY_S
        await sink.close()
        assert peer.received() == 0


async def test_a_missing_handshake_on_either_side_is_told() -> None:
    """A receiver with a key and a sender without, and the other way round: both learn what is wrong."""
    async with source(credentials=server_keys(key=b"secret", users=False)) as peer:
        sink = to(peer.port)
        with pytest.raises(TransientError, match="wants a shared key") as caught:
            await sink.send(line_rows(1))
        assert caught.value.retry_after_s == REFUSED_RETRY_S
        await sink.close()
    async with source() as peer:
        sink = to(Receiver("127.0.0.1", peer.port, credentials=client_keys(key=b"secret", users=False)), connect_timeout_s=0.05)
        with pytest.raises(TransientError, match="does it want a shared key"):
            await sink.send(line_rows(1))
        await sink.close()


@pytest.mark.parametrize("pong", [b"", b"\x93", msgpack.packb(["PONG", True, "", "server", "0" * 128]), msgpack.packb({"ack": "x"})])
async def test_a_receiver_that_does_not_know_the_key_gets_no_record(pong: bytes) -> None:
    """Closed instead of the PONG (as Fluent Bit refuses), half a PONG, a wrong digest, something else: refused, with back-off."""
    heard = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(msgpack.packb(["HELO", {"nonce": bytes(16), "auth": b""}]))
        heard.extend(await reader.read(4096))
        writer.write(pong)
        writer.write_eof()
        heard.extend(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        sink = to(Receiver("127.0.0.1", server.sockets[0].getsockname()[1], credentials=client_keys(key=b"secret", users=False)))
        with pytest.raises(TransientError) as caught:
            await sink.send(line_rows(1))
        assert caught.value.retry_after_s == REFUSED_RETRY_S
        assert "secret" not in str(caught.value).replace("is the shared key right", "")
        await sink.close()
    assert msgpack.unpackb(bytes(heard))[0] == "PING"


@pytest.mark.parametrize("which", ["stranger", "other name", "expired"])
async def test_the_wrong_server_gets_no_record(tmp_path: Path, which: str) -> None:
    """Authority, name and dates of the receiver's certificate are checked; `server_name` says which name it has to carry."""
    files = TlsFiles(tmp_path)
    match which:
        case "stranger":
            files.issue("server", "localhost", authority=trustme.CA())
        case "other name":
            files.issue("server", "store.example")
        case "expired":
            files.issue("server", "localhost", expired=True)
    contexts = client_contexts(files.connect(), owner="sink x")
    async with source(files=files) as peer:
        sink = to(Receiver("localhost", peer.port), tls=contexts)
        with pytest.raises(TransientError, match="its certificate is not accepted") as caught:
            await sink.send(line_rows(1))
        assert caught.value.retry_after_s == REFUSED_RETRY_S
        await sink.close()
        assert peer.received() == 0
        named = to(Receiver("localhost", peer.port), tls=contexts, server_name="store.example")
        if which == "other name":
            await named.send(line_rows(1))
            assert peer.received() == 1
        await named.close()


async def test_mutual_tls_with_the_wrong_client_is_told(tmp_path: Path) -> None:
    """Whether the server's word comes in the handshake or, with TLS 1.3, later: transient, with back-off, and no record gets in."""
    files = TlsFiles(tmp_path)
    files.client = files.issue("client", "shipper.example", authority=trustme.CA())
    async with source(files=files, mutual=True) as peer:
        for settings in (files.connect(mutual=True), files.connect()):
            sink = to(Receiver("localhost", peer.port), tls=client_contexts(settings, owner="sink x"))
            with pytest.raises(TransientError, match=r"TLS: .*(unknown ca|certificate required)") as caught:
                await sink.send(line_rows(1))
            assert caught.value.retry_after_s == REFUSED_RETRY_S
            await sink.close()
        assert peer.received() == 0


async def test_a_sink_without_tls_and_a_receiver_with(tmp_path: Path) -> None:
    """No TLS on our side, TLS on theirs, and the other way round: an error each time, never records in clear to a TLS port."""
    files = TlsFiles(tmp_path)
    async with source(files=files) as peer:
        sink = to(peer.port, ack_timeout_s=0.2)
        with pytest.raises(TransientError):
            await sink.send(line_rows(1))
        await sink.close()
    async with source() as peer:
        sink = to(peer.port, tls=client_contexts(files.connect(), owner="sink x"), connect_timeout_s=0.5)
        with pytest.raises(TransientError):
            await sink.send(line_rows(1))
        await sink.close()
        assert peer.received() == 0


async def test_keys_differ_by_receiver() -> None:
    """Each receiver is greeted with its own key; one with a wrong key is out, the others get everything."""
    async with contextlib.AsyncExitStack() as stack:
        keys = [b"one", b"two", b"three"]
        peers = [await stack.enter_async_context(source(credentials=server_keys(key=key, users=False))) for key in keys]
        known = [b"one", b"two", b"wrong"]
        sink = to(
            *(
                Receiver("127.0.0.1", peer.port, credentials=client_keys(key=key, users=False))
                for peer, key in zip(peers, known, strict=True)
            )
        )
        for n in itertools.count():
            await sink.send(line_rows(n))
            if all(peer.received() for peer in peers[:2]) and peers[2].counters.value(PEERS_REFUSED):
                break
        await sink.close()
        assert [peer.received() for peer in peers][2] == 0
        assert sum(peer.received() for peer in peers) == n + 1
        assert peers[2].counters.value(PEERS_REFUSED) <= 2  # at most one for each connection that was opened at the same time
