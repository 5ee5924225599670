"""The OTLP and syslog sources with peers that connect and do nothing, or begin and do not go on: limits hold, memory flat, others served.

The Forward source's are in test_fluent_security.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil  # type: ignore[import-untyped, unused-ignore]
import pytest
from tests.tls_files import TlsFiles
from tests.unit.sources import otlp_servers, syslog_cases
from tests.unit.sources.otlp_servers import MemoryIntake, call, grpc_server, http_server, post
from tests.unit.wire.otlp_cases import SAMPLE

from esa_tls import telemetry
from esa_tls.runtime import streams
from esa_tls.runtime.refusals import Refusals
from esa_tls.runtime.tls import server_context
from esa_tls.sources import otlp_http_door, syslog
from esa_tls.telemetry import Counters

N_IDLE = 2000
LIMIT = 500
FLAT_BYTES = 8 << 20
"""How much a thousand connections more than the limit may cost. They cost nothing but their places."""

HALF_HEAD = b"POST /v1/logs HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Le"
HALF_BODY = HALF_HEAD + b"ngth: 100\r\n\r\n\x0a"


class Peers:
    """Many connections, opened by this process."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    async def connect(self, port: int, n: int, *, say: bytes = b"") -> None:
        """Open so many, and say something on each."""
        loop = asyncio.get_running_loop()
        for at in range(n):
            raw = socket.socket()
            self.sockets.append(raw)
            raw.setblocking(False)
            await loop.sock_connect(raw, ("127.0.0.1", port))
            if say:
                with contextlib.suppress(OSError):  # it had to make room already
                    await loop.sock_sendall(raw, say)
            if at % 50 == 0:
                await turns()

    def close(self) -> None:
        """Close all."""
        for raw in self.sockets:
            raw.close()


@pytest.fixture
def peers() -> Iterator[Peers]:
    """Closed at the end."""
    made = Peers()
    yield made
    made.close()


async def turns() -> None:
    """Let everything that is due happen."""
    for _ in range(20):
        await asyncio.sleep(0)


async def memory() -> int:
    """Of this process, server and peers together."""
    await turns()
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def closed_by(counters: Counters) -> dict[str, float]:
    """Sessions closed, by reason."""
    return {dict(labels)["reason"]: number for labels, number in counters.series(telemetry.SESSIONS_CLOSED).items()}


# -- OTLP over HTTP --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("say", [b"", HALF_HEAD], ids=["silent", "half a head"])
async def test_two_thousand_idle_connections_http(peers: Peers, say: bytes) -> None:
    """They stay within the limit and flat memory; senders are served meanwhile."""
    intake, counters = MemoryIntake(), Counters()
    async with http_server(intake, counters, max_sessions=LIMIT) as server:
        await peers.connect(server.port, N_IDLE // 2, say=say)
        half = await memory()
        await peers.connect(server.port, N_IDLE // 2, say=say)
        assert await memory() - half < FLAT_BYTES
        for _ in range(3):
            assert (await post(server.port, SAMPLE)).code == 200
        await otlp_servers.until(lambda: counters.value(telemetry.SESSIONS_OPEN) <= LIMIT)
        assert closed_by(counters) == {"evicted": N_IDLE + 3 - LIMIT - 2}  # the three's own connections give their place back
    assert len(intake.batches) == 3


async def test_half_sent_bodies_keep_nobody_out_http(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A house full of bodies on their way: a newcomer is turned away while they may be honest, then let in for the oldest."""
    intake, counters = MemoryIntake(), Counters()
    refusals = Refusals("source otlp_http", counters)
    async with http_server(intake, counters, max_sessions=5, refusals=refusals) as server:
        await peers.connect(server.port, 5, say=HALF_BODY)
        assert server._door is not None
        places = server._door._places
        await otlp_servers.until(lambda: len(places) == 5 and all(place.working for place in places.values()))
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        assert counters.value(telemetry.PEERS_REFUSED, reason="max_sessions") == 1
        monkeypatch.setattr(otlp_http_door, "SLOW_BODY_S", 0.0)
        assert (await post(server.port, SAMPLE)).code == 200
        assert closed_by(counters) == {"max_sessions": 1, "evicted": 1}


async def test_a_request_under_way_is_never_cut_off_http(peers: Peers) -> None:
    """Whose request is whole keeps its place, however many come; a kept idle connection gives it up."""
    intake, counters = MemoryIntake(), Counters()
    async with http_server(intake, counters, max_sessions=3) as server:
        intake.open.clear()
        working = [asyncio.create_task(post(server.port, SAMPLE)) for _ in range(2)]
        await intake.until(lambda: intake.waiting == 2)
        await peers.connect(server.port, 50)
        intake.open.set()
        assert [(await one).code for one in working] == [200, 200]


async def test_closing_does_not_wait_for_bodies_http(peers: Peers) -> None:
    """`close` is at once, also with bodies on their way, a commit that does not come, and after a drain that took too long."""
    intake = MemoryIntake()
    async with http_server(intake) as server:
        intake.open.clear()
        await peers.connect(server.port, 3, say=HALF_BODY)
        working = asyncio.create_task(post(server.port, SAMPLE))
        await intake.until(lambda: intake.waiting == 1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await server.drain()
        async with asyncio.timeout(2):
            await server.close()
        with pytest.raises(aiohttp.ClientError):
            await working


@pytest.mark.parametrize("say", [b"", b"\x16\x03\x01"], ids=["silent", "half a hello"])
async def test_half_open_handshakes_http(peers: Peers, tmp_path: Path, say: bytes) -> None:
    """Unfinished TLS handshakes count as connections, cost flat memory, and give way to who comes later."""
    files, counters = TlsFiles(tmp_path), Counters()
    refusals = Refusals("source otlp_http", counters)
    context = server_context(files.listen(mutual=True), owner="source otlp_http", refusals=refusals)
    async with http_server(MemoryIntake(), counters, max_sessions=20, tls=context, refusals=refusals) as server:
        await peers.connect(server.port, 100, say=say)
        few = await memory()
        await peers.connect(server.port, 400, say=say)
        assert await memory() - few < FLAT_BYTES
        client = files.client_context(cert=files.client)
        assert (await post(server.port, SAMPLE, tls=client)).code == 200
        await otlp_servers.until(lambda: counters.value(telemetry.SESSIONS_OPEN) <= 20)


async def test_a_handshake_that_does_not_come_is_given_up_http(peers: Peers, tmp_path: Path) -> None:
    """After `handshake_timeout_s` the peer is gone and counted."""
    files, counters = TlsFiles(tmp_path), Counters()
    refusals = Refusals("source otlp_http", counters)
    context = server_context(files.listen(), owner="source otlp_http", refusals=refusals)
    async with http_server(MemoryIntake(), counters, handshake_timeout_s=0.1, tls=context, refusals=refusals) as server:
        await peers.connect(server.port, 3)
        await otlp_servers.until(lambda: counters.value(telemetry.PEERS_REFUSED, reason="handshake_timeout") == 3)
        await otlp_servers.until(lambda: counters.value(telemetry.SESSIONS_OPEN) == 0)


# -- OTLP over gRPC --------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("say", [b"", b"PRI * HTTP/2.0\r\n"], ids=["silent", "half a preface"])
async def test_two_thousand_idle_connections_grpc(peers: Peers, say: bytes) -> None:
    """A sender is served beside them; who does not begin to speak HTTP/2 is gone after `handshake_timeout_s`, and so is its memory."""
    intake, used = MemoryIntake(), []
    async with grpc_server(intake, handshake_timeout_s=1.0) as server:
        for _ in range(4):
            await peers.connect(server.port, N_IDLE // 2, say=say)
            assert (await call(server.port, SAMPLE)).code == 0
            await all_closed(peers)
            used.append(await memory())
    # The first thousand take what all later ones use again. One that stayed would cost 17 KiB or more.
    assert used[-1] - used[1] < 2 * FLAT_BYTES
    assert len(intake.batches) == 4


async def all_closed(peers: Peers) -> None:
    """Return when the server has ended every connection of these."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        for raw in peers.sockets:
            with contextlib.suppress(OSError):
                while await loop.sock_recv(raw, 1000):
                    pass
    peers.close()
    peers.sockets.clear()


# -- syslog ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("say", [b"", b"<13>half a li", b"500 <13>half a li"], ids=["silent", "half a line", "half a count"])
async def test_two_thousand_idle_connections_syslog(peers: Peers, say: bytes) -> None:
    """They stay within the limit and flat memory; a sender at work keeps its place, and new senders get one."""
    async with syslog_cases.running(max_sessions=LIMIT) as run:
        at_work = await run.connect()
        at_work.write(b"<13>first\n")
        await run.intake.until(lambda: run.intake.lines() == [b"<13>first"])
        await peers.connect(run.server.port, N_IDLE // 2, say=say)
        half = await memory()
        await peers.connect(run.server.port, N_IDLE // 2, say=say)
        assert await memory() - half < FLAT_BYTES
        at_work.write(b"<13>second\n")
        await run.send(b"<13>new\n")
        await run.intake.until(lambda: {b"<13>second", b"<13>new"} <= set(run.intake.lines()))
        await run.counted(telemetry.SESSIONS_CLOSED, max_sessions=N_IDLE + 2 - LIMIT)
        assert run.counters.value(telemetry.SESSIONS_OPEN) <= LIMIT


async def test_senders_that_were_silent_for_long_make_room_syslog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sent a line and then nothing keeps others out for a while only; who is in the middle of a message keeps its place."""
    async with syslog_cases.running(max_sessions=2) as run:
        silent, inside = await run.connect(), await run.connect()
        silent.write(b"<13>1\n")
        inside.write(b"<13>2\n<13>half")
        await run.intake.until(lambda: len(run.intake.lines()) == 2)
        await syslog_cases.at_end(await run.connect())
        assert run.by_reason(telemetry.PEERS_REFUSED) == {"max_sessions": 1}
        monkeypatch.setattr(syslog, "PROVEN_IDLE_S", 0.0)
        await run.send(b"<13>3\n")
        inside.write(b" and half\n")
        await run.intake.until(lambda: {b"<13>3", b"<13>half and half"} <= set(run.intake.lines()))
        await syslog_cases.at_end(silent)
        assert run.by_reason(telemetry.PEERS_REFUSED) == {"max_sessions": 1}


async def test_half_open_handshakes_syslog(peers: Peers, tmp_path: Path) -> None:
    """Unfinished TLS handshakes count as sessions, cost flat memory, and give way to who comes later."""
    files = TlsFiles(tmp_path)
    context = server_context(files.listen(mutual=True), owner="source syslog")
    async with syslog_cases.running(max_sessions=20, tls=context) as run:
        await peers.connect(run.server.port, 100, say=b"\x16\x03\x01")
        few = await memory()
        await peers.connect(run.server.port, 400, say=b"\x16\x03\x01")
        assert await memory() - few < FLAT_BYTES
        await run.send(b"<13>new\n", tls=files.client_context(cert=files.client))
        await run.intake.until(lambda: run.intake.lines() == [b"<13>new"])
        await run.counted(telemetry.SESSIONS_CLOSED, max_sessions=501 - 20)
        assert run.counters.value(telemetry.SESSIONS_OPEN) <= 20


# -- both that are ours --------------------------------------------------------------------------------------------------------------
async def test_half_open_connections_are_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's keep-alive is on for every accepted connection, so a peer that vanished is found."""
    probed: list[int] = []
    keep_alive = streams.keep_alive

    def watched(sock: socket.socket) -> None:
        keep_alive(sock)
        probed.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    monkeypatch.setattr(streams, "keep_alive", watched)
    async with http_server(MemoryIntake()) as server:
        assert (await post(server.port, SAMPLE)).code == 200
    async with syslog_cases.running() as run:
        await run.send(b"<13>x\n")
        await run.intake.until(lambda: run.intake.lines() == [b"<13>x"])
    assert probed == [1, 1]
