"""Who gets into the Forward source, and what those can do who do not, or who misbehave afterwards."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 1.11)

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgpack
import psutil  # type: ignore[import-untyped, unused-ignore]
import pytest
import trustme
from tests.tls_files import TlsFiles
from tests.unit.sources.memory_intake import MemoryIntake
from tests.unit.sources.test_fluent import Client, Running, frame, reply, turns

from esa_tls import telemetry
from esa_tls.runtime.refusals import Refusals
from esa_tls.runtime.tls import server_context
from esa_tls.sources import fluent_door, fluent_session
from esa_tls.sources.fluent import ForwardServer, ServerSettings
from esa_tls.telemetry import Counters
from esa_tls.wire.fluent_handshake import ClientCredentials, ClientHandshake, ServerCredentials

TEST_TIMEOUT_S = 20.0

SECURITY = ServerCredentials(shared_key=b"secret", users={}, hostname="server.example")
WITH_USERS = ServerCredentials(shared_key=b"secret", users={b"alice": b"wonder"}, hostname="server.example")


@contextlib.asynccontextmanager
async def secured(
    *, tls: TlsFiles | None = None, mutual: bool = False, credentials: ServerCredentials | None = SECURITY, **settings: Any
) -> AsyncIterator[Running]:
    """A server that asks for something; on a free port, closed at the end together with all clients."""
    intake, counters = MemoryIntake(), Counters()
    refusals = Refusals("source fluent", counters)
    context = None if tls is None else server_context(tls.listen(mutual=mutual), owner="source fluent", refusals=refusals)
    server = ForwardServer(
        intake,
        counters,
        settings=ServerSettings(**{"port": 0, **settings}),
        tls=context,
        credentials=credentials,
        refusals=refusals,
        now_s=lambda: 1_700_000_000.0,
    )
    await server.start()
    run = Running(server, intake, counters)
    try:
        yield run
    finally:
        await server.close()
        for client in run.clients:
            with contextlib.suppress(OSError):
                await client.close()


def refused(run: Running) -> dict[str, float]:
    """Peers refused, by reason."""
    return {dict(labels)["reason"]: number for labels, number in run.counters.series(telemetry.PEERS_REFUSED).items()}


async def shake(client: Client, *, key: bytes = b"secret", behind: bytes = b"", **known: Any) -> list[Any]:
    """The client's side of the handshake with `behind` in the same segment as the PING; the PONG."""
    credentials = ClientCredentials(shared_key=key, hostname="client.example", **known)
    ours = ClientHandshake(credentials, randomness=os.urandom(16))
    step = ours.feed(await received(client))
    assert step.refusal is None
    await client.send(step.send + behind)
    pong: list[Any] = msgpack.unpackb(await received(client))
    return pong


async def received(client: Client) -> bytes:
    """What comes with one read."""
    async with asyncio.timeout(TEST_TIMEOUT_S):
        return await client.reader.read(4096)


async def until_closed(run: Running, sessions: int) -> None:
    """Return when so many sessions have ended."""
    await until(lambda: sum(run.closed_by().values()) >= sessions)


async def until(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds."""
    async with asyncio.timeout(TEST_TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.001)


# -- the handshake ---------------------------------------------------------------------------------------------------------------
async def test_F13_the_right_key_gets_in() -> None:
    """F13: PONG true in one segment, and frames are taken as ever; also with a user."""
    alice: dict[str, Any] = {"username": "alice", "password": b"wonder"}
    for credentials, known in ((SECURITY, {}), (WITH_USERS, alice)):
        async with secured(credentials=credentials) as run:
            client = await run.client()
            assert (await shake(client, **known))[:2] == ["PONG", True]
            await client.send(frame("a", "abc"))
            assert await client.receive(len(reply("abc"))) == reply("abc")
            assert run.intake.lines() == [b"a"]
            assert refused(run) == {}


@pytest.mark.parametrize(
    ("key", "known", "told", "reason"),
    [
        (b"wrong", {"username": "alice", "password": b"wonder"}, "shared_key mismatch", "shared_key"),
        (b"", {"username": "alice", "password": b"wonder"}, "shared_key mismatch", "shared_key"),
        (b"secret", {"username": "alice", "password": b"wrong"}, "username/password mismatch", "user"),
        (b"secret", {"username": "bob", "password": b"wonder"}, "username/password mismatch", "user"),
    ],
)
async def test_F13_the_wrong_key_or_user_is_told_and_counted(
    key: bytes, known: dict[str, Any], told: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """F13: PONG false with the reason, then the end; the intake never hears of the session; nothing secret in the log."""
    async with secured(credentials=WITH_USERS) as run:
        client = await run.client()
        assert await shake(client, key=key, **known) == ["PONG", False, told, "", ""]
        assert await client.rest() == b""
        await until_closed(run, 1)
        assert refused(run) == {reason: 1}
        assert run.closed_by() == {"refused": 1}
        assert run.intake.opened == []
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "127.0.0.1 was refused: wrong" in caplog.text
        assert not any(text in caplog.text for text in ("secret", "wonder"))


async def test_F13_a_ping_split_in_two_and_an_event_behind_it() -> None:
    """F13: a PING in pieces is waited for; an event in the PING's segment is not lost, whole or in half."""
    for cut in (1, 30, 200):
        async with secured() as run:
            client = await run.client()
            ours = ClientHandshake(ClientCredentials(shared_key=b"secret", hostname="c"), randomness=bytes(16))
            ping = ours.feed(await received(client)).send
            await client.send(ping[:cut])
            await turns()
            await client.send(ping[cut:] + frame("a", "abc")[:9])
            assert ours.feed(await received(client)).done
            await client.send(frame("a", "abc")[9:])
            assert await client.receive(len(reply("abc"))) == reply("abc")
    async with secured() as run:
        client = await run.client()
        credentials = ClientCredentials(shared_key=b"secret", hostname="c")
        ours = ClientHandshake(credentials, randomness=bytes(16))
        await client.send(ours.feed(await received(client)).send + frame("a", "abc") + frame("b", "def"))
        answers = await client.receive(len(reply("abc") + reply("def")) + len(ours_pong(credentials)))
        assert answers.endswith(reply("abc") + reply("def"))
        assert run.intake.lines() == [b"a", b"b"]


def ours_pong(_credentials: ClientCredentials) -> bytes:
    """A PONG of the length that the server's has."""
    packed: bytes = msgpack.packb(["PONG", True, "", "server.example", "0" * 128])
    return packed


async def test_a_sender_without_a_key_is_told() -> None:
    """An event instead of a PING: PONG false, closed, counted; the event does not enter."""
    async with secured() as run:
        client = await run.client()
        await received(client)
        await client.send(frame("a", "abc"))
        assert msgpack.unpackb(await client.rest()) == ["PONG", False, "invalid ping message", "", ""]
        await until_closed(run, 1)
        assert refused(run) == {"no_ping": 1}
        assert run.intake.lines() == []


async def test_F14_heartbeats_make_no_noise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """F14: connect and close, with and without the handshake, with and without TLS, a hundred times: nothing refused, nothing logged."""
    caplog.set_level(logging.INFO)
    files = TlsFiles(tmp_path)
    for tls in (None, files):
        async with secured(tls=tls) as run:
            for n in range(100):
                if n % 3 == 0:
                    _, writer = await asyncio.open_connection("127.0.0.1", run.server.port)
                    writer.close()
                    continue
                client = await tls_client(run, files) if tls else await run.client()
                if n % 3 == 1:
                    await shake(client)
                await client.close()
            await until_closed(run, 100)
            assert refused(run) == {}
            assert set(run.closed_by()) <= {"eof", "handshake"}
    assert [record for record in caplog.records if record.name.startswith("esa_tls")] == []


async def test_F15_udp_heartbeats() -> None:
    """F15: one byte 00 comes back on the UDP port of the same number, nothing else does; without the setting nobody is there."""
    async with secured(udp_heartbeat=True) as run:
        got: asyncio.Queue[bytes] = asyncio.Queue()

        class Heart(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                got.put_nowait(data)

        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Heart, remote_addr=("127.0.0.1", run.server.port))
        for data in (b"\0\0", b"x", b"", b"\0"):
            transport.sendto(data)
        async with asyncio.timeout(TEST_TIMEOUT_S):
            assert await got.get() == b"\0"
        assert got.empty()
        transport.close()
    async with secured() as run:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("127.0.0.1", run.server.port))


# -- TLS and Unix sockets --------------------------------------------------------------------------------------------------------
async def tls_client(run: Running, files: TlsFiles, *, cert: tuple[str, str] | None = None) -> Client:
    """A connection over TLS."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", run.server.port, ssl=files.client_context(cert=cert), server_hostname="localhost"
    )
    run.clients.append(Client(reader, writer))
    return run.clients[-1]


@pytest.mark.parametrize("credentials", [None, SECURITY])
@pytest.mark.parametrize("mutual", [False, True])
async def test_tls_and_mutual_tls(tmp_path: Path, mutual: bool, credentials: ServerCredentials | None) -> None:
    """Frames over TLS, with the handshake inside it where a key is set; acks one record each."""
    files = TlsFiles(tmp_path)
    async with secured(tls=files, mutual=mutual, credentials=credentials) as run:
        client = await tls_client(run, files, cert=files.client if mutual else None)
        if credentials is not None:
            assert (await shake(client))[1] is True
        await client.send(frame("a", "abc") + frame("b", "def"))
        assert await client.receive(2 * len(reply("abc"))) == reply("abc") + reply("def")
        assert run.intake.lines() == [b"a", b"b"]
        assert run.intake.opened == ["127.0.0.1"]


async def test_mutual_tls_with_the_wrong_client(tmp_path: Path) -> None:
    """Refused with an alert, counted, never announced; a right one beside it is served."""
    files = TlsFiles(tmp_path)
    wrong = files.issue("wrong", "shipper.example", authority=trustme.CA())
    async with secured(tls=files, mutual=True, credentials=None) as run:
        right = await tls_client(run, files, cert=files.client)
        for cert in (wrong, None):
            client = await tls_client(run, files, cert=cert)  # with TLS 1.3 the server's word comes later
            client.writer.write(frame("x", "xyz"))
            with pytest.raises(ssl.SSLError, match=r"(UNKNOWN_CA|CERTIFICATE_REQUIRED)"):
                await received(client)
        await right.send(frame("a", "abc"))
        assert await right.receive(len(reply("abc"))) == reply("abc")
        await until_closed(run, 2)
        assert refused(run) == {"client_certificate": 1, "no_client_certificate": 1}
        assert run.closed_by() == {"handshake": 2}
        assert run.intake.lines() == [b"a"]
        assert run.intake.opened == ["127.0.0.1"]


async def test_a_drain_does_not_wait_for_tls_peers(tmp_path: Path) -> None:
    """Peers that do not answer the end of TLS, or are in the middle of a handshake, hold nothing up."""
    files = TlsFiles(tmp_path)
    async with secured(tls=files) as run:
        await shake(await tls_client(run, files))
        await tls_client(run, files)
        await run.client()
        async with asyncio.timeout(TEST_TIMEOUT_S):
            await run.server.drain()
        assert run.counters.value(telemetry.SESSIONS_OPEN) == 0


async def test_a_unix_socket(tmp_path: Path) -> None:
    """The same over a Unix socket; the peer's name is the socket's path, the socket goes with the server."""
    path = tmp_path / "fluent.sock"
    async with secured(path=str(path)) as run:
        reader, writer = await asyncio.open_unix_connection(str(path))
        client = Client(reader, writer)
        run.clients.append(client)
        assert (await shake(client))[1] is True
        await client.send(frame("a", "abc"))
        assert await client.receive(len(reply("abc"))) == reply("abc")
        assert run.intake.opened == [f"unix:{path}"]
    assert not os.path.exists(path)  # noqa: ASYNC240, PTH110 (one look)


# -- peers that misbehave --------------------------------------------------------------------------------------------------------
async def test_a_wrong_digest_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first three are answered at once, later ones later, and not all of them wait; the right key gets in meanwhile."""
    monkeypatch.setattr(fluent_door, "FIRST_DELAY_S", 60.0)
    monkeypatch.setattr(fluent_door, "MAX_DELAY_S", 60.0)
    monkeypatch.setattr(fluent_door, "MAX_WAITING", 5)
    async with secured() as run:
        for _ in range(fluent_door.FREE_TRIES):
            assert (await shake(await run.client(), key=b"wrong"))[1] is False
        waiting = []
        for _ in range(5):
            client = await run.client()
            waiting.append(asyncio.create_task(shake(client, key=b"wrong")))
        await until(lambda: run.counters.value(telemetry.PEERS_REFUSED) == 8)
        client = await run.client()
        with pytest.raises(ValueError, match="incomplete"):
            await shake(client, key=b"wrong")  # no place to wait: closed without an answer
        assert not any(task.done() for task in waiting)

        good = await run.client()
        assert (await shake(good))[1] is True
        await good.send(frame("a", "abc"))
        assert await good.receive(len(reply("abc"))) == reply("abc")
        assert refused(run) == {"shared_key": 9}

        async with asyncio.timeout(TEST_TIMEOUT_S):
            await run.server.drain()  # a delay holds nothing up
        for pong in await asyncio.gather(*waiting):
            assert pong[1] is False


async def test_the_delay_grows_and_ends_with_the_right_key() -> None:
    """0, 0, 0, 0.25, 0.5, ... at most 5 s; each address by itself; what is remembered is bounded."""
    door = fluent_door.Door(Refusals("x", Counters()), handshake_timeout_s=1)
    assert [door._delay_s("a") for _ in range(10)] == [0, 0, 0, 0.25, 0.5, 1, 2, 4, 5, 5]
    assert door._delay_s("b") == 0
    for n in range(2 * fluent_door.MAX_REMEMBERED):
        door._delay_s(str(n))
    assert len(door._failures) == fluent_door.MAX_REMEMBERED
    assert door._delay_s("a") == 0


async def test_a_peer_that_never_shakes_hands_is_cut_off(tmp_path: Path) -> None:
    """Silence, or one byte now and then, before the PING or before TLS: over after the time-out, and counted."""
    for tls in (None, TlsFiles(tmp_path)):
        async with secured(tls=tls, handshake_timeout_s=0.1) as run:
            silent, dripping = await run.client(), await run.client()

            async def drip(client: Client, byte: bytes) -> None:
                with contextlib.suppress(ConnectionError):
                    while True:
                        await client.send(byte)
                        await asyncio.sleep(0.005)

            drips = asyncio.create_task(drip(dripping, b"\x16" if tls else b"\xc0"))
            await silent.rest()
            await until_closed(run, 2)
            drips.cancel()
            assert run.closed_by() == {"handshake": 2}
            assert sum(refused(run).values()) == 2
            assert refused(run)["handshake_timeout"] >= 1


async def test_a_small_frame_that_drips_for_ever_is_cut_off() -> None:
    """Slow loris: each byte is in time, the frame is not. Others are served meanwhile."""
    async with secured(credentials=None, stall_timeout_s=5.0, frame_timeout_s=0.3) as run:
        slow, good = await run.client(), await run.client()

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):
                for byte in frame("a", "abc", size=100_000):
                    await slow.send(bytes([byte]))
                    await asyncio.sleep(0.005)

        dripping = asyncio.create_task(drip())
        for _ in range(3):
            await good.send(frame("a", "abc"))
            assert await good.receive(len(reply("abc"))) == reply("abc")
        assert await slow.rest() == b""
        dripping.cancel()
        assert run.closed_by() == {"stalled": 1}


async def test_a_peer_that_never_reads_its_acks_is_cut_off() -> None:
    """When its acks no longer leave for `stall_timeout_s` the session ends, unclean; its connection is gone, others are served."""
    async with secured(credentials=None, stall_timeout_s=0.3) as run:
        assert run.server._listener is not None
        for listening in run.server._listener._server.sockets:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", run.server.port))
        many = frame("a", "c" * 60) * 100

        async def send() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    await asyncio.get_running_loop().sock_sendall(raw, many)

        sending = asyncio.create_task(send())
        await until_closed(run, 1)
        await asyncio.wait_for(sending, TEST_TIMEOUT_S)
        assert run.closed_by() == {"not_acknowledged": 1}
        assert run.intake.closed == {1: False}
        assert run.intake.free_bytes == 1 << 30
        raw.close()
        good = await run.client()
        await good.send(frame("b", "abc"))
        assert await good.receive(len(reply("abc"))) == reply("abc")


async def test_two_thousand_idle_connections() -> None:
    """They stay within the limit and flat memory; a sender at work keeps its place, and new senders get one."""
    n_idle, limit = 2000, 500
    async with secured(credentials=None, max_sessions=limit) as run:
        good = await run.client()
        await good.send(frame("a", "abc"))
        await good.receive(len(reply("abc")))
        idle: list[socket.socket] = []

        async def connect(n: int) -> None:
            for _ in range(n):
                raw = socket.socket()
                raw.setblocking(False)
                await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", run.server.port))
                idle.append(raw)

        async def memory() -> int:
            await turns()
            gc.collect()
            return int(psutil.Process().memory_info().rss)

        try:
            await connect(n_idle // 2)
            half = await memory()
            await connect(n_idle - n_idle // 2)
            assert await memory() - half < 8 << 20
            await until(lambda: run.counters.value(telemetry.SESSIONS_OPEN) <= limit)
            for client in (good, await run.client()):
                await client.send(frame("b", "def"))
                assert await client.receive(len(reply("def"))) == reply("def")
            assert run.counters.value(telemetry.SESSIONS_OPENED) == n_idle + 2
            assert run.closed_by() == {"evicted": n_idle + 2 - limit}
        finally:
            for raw in idle:
                raw.close()


async def test_half_sent_frames_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A house full of senders in the middle of their first frame: turned away while they may be honest, then let in for the oldest."""
    async with secured(credentials=None, max_sessions=5) as run:
        for _ in range(5):
            await (await run.client()).send(frame("x", "xyz")[:10])
        await until(lambda: sum(session._frames.buffered_bytes for session in run.server._sessions.values()) == 50)
        assert await (await run.client()).rest() == b""
        assert refused(run) == {"max_sessions": 1}
        monkeypatch.setattr(fluent_session, "FIRST_FRAME_S", 0.0)
        run.server._full_until_s = 0.0
        good = await run.client()
        await good.send(frame("a", "abc"))
        assert await good.receive(len(reply("abc"))) == reply("abc")
        assert run.closed_by() == {"max_sessions": 1, "evicted": 1}


async def test_a_sender_that_was_silent_for_long_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proven senders keep their places while they are young or at work; a flood of newcomers does not make us search each time."""
    async with secured(credentials=None, max_sessions=3) as run:
        for n in range(3):
            client = await run.client()
            await client.send(frame("a", f"ab{n}"))
            await client.receive(len(reply("abc")))
        for _ in range(2):
            assert await (await run.client()).rest() == b""
        assert run.server._full_until_s > 0
        monkeypatch.setattr(fluent_session, "PROVEN_IDLE_S", 0.0)
        run.server._full_until_s = 0.0
        good = await run.client()
        await good.send(frame("a", "abc"))
        assert await good.receive(len(reply("abc"))) == reply("abc")
        assert run.closed_by() == {"max_sessions": 2, "evicted": 1}
        await until(lambda: run.server._leaving == 0)


async def test_a_sender_that_waits_for_its_ack_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it has been silent, it waits for us: the newcomer is turned away, and the ack arrives."""
    monkeypatch.setattr(fluent_session, "PROVEN_IDLE_S", 0.0)
    async with secured(credentials=None, max_sessions=1) as run:
        run.intake.accepting.clear()
        waiting = await run.client()
        await waiting.send(frame("a", "abc"))
        await run.intake.until(lambda: len(run.intake.entered) == 1)
        assert await (await run.client()).rest() == b""
        await run.intake.accept()
        assert await waiting.receive(len(reply("abc"))) == reply("abc")
        assert run.closed_by() == {"max_sessions": 1}


async def test_many_half_sent_handshakes_leave_room(tmp_path: Path) -> None:
    """Unfinished TLS handshakes count as sessions, and give way to who comes later."""
    files = TlsFiles(tmp_path)
    async with secured(tls=files, max_sessions=5) as run:
        hanging = [await run.client() for _ in range(20)]
        for client in hanging:
            client.writer.write(b"\x16\x03\x01")
        client = await tls_client(run, files)
        assert (await shake(client))[1] is True
        assert run.counters.value(telemetry.SESSIONS_OPEN) <= 5


async def test_half_open_connections_are_probed() -> None:
    """The system's keep-alive is on for every accepted connection, so a peer that vanished is found."""
    seen = []
    async with secured(credentials=None) as run:
        accept = run.server._accepted

        def accepted(transport: asyncio.Transport) -> None:
            seen.append(transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
            accept(transport)

        run.server._accepted = accepted  # type: ignore[method-assign]
        run.server._stop_listening()
        await run.server.start()
        client = await run.client()
        await client.send(frame("a", "abc"))
        await client.receive(len(reply("abc")))
    assert seen == [1]


async def test_closing_before_starting_does_no_harm() -> None:
    """A shutdown during start is no special case."""
    server = ForwardServer(MemoryIntake(), Counters(), settings=ServerSettings(port=0), credentials=SECURITY)
    await server.close()
    await server.drain()
    await server.close()
