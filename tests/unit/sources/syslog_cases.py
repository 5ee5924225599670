"""What the tests of the syslog sources share: an intake in memory, servers on free ports, senders."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from typing import Any, Self

from tests.unit.sources.memory_intake import MemoryIntake

from esa_tls import telemetry
from esa_tls.sources.syslog import SyslogServer, SyslogSettings
from esa_tls.sources.syslog_udp import SyslogUdpServer
from esa_tls.telemetry import Counters

TEST_TIMEOUT_S = 30.0
NOW_S = 1_742_234_700.0


class Running:
    """A source under test with what it counts."""

    def __init__(self, server: SyslogServer | SyslogUdpServer, intake: MemoryIntake, counters: Counters) -> None:
        self.server = server
        self.intake = intake
        self.counters = counters
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self, *, tls: ssl.SSLContext | None = None, local: str | None = None) -> asyncio.StreamWriter:
        """A sender's connection. `write` and `drain` it; `at_end` waits until the server has ended it."""
        name = None if tls is None else "localhost"
        address = None if local is None else (local, 0)
        _, writer = await asyncio.open_connection("127.0.0.1", self.server.port, ssl=tls, server_hostname=name, local_addr=address)
        self.writers.append(writer)
        return writer

    async def send(self, data: bytes, *, tls: ssl.SSLContext | None = None) -> None:
        """One session: connect, send, and end it in order."""
        writer = await self.connect(tls=tls)
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    def by_reason(self, name: str) -> dict[str, float]:
        return {dict(labels)["reason"]: number for labels, number in self.counters.series(name).items()}

    async def counted(self, name: str, **reasons: float) -> None:
        """Wait until a metric has at least these numbers by reason. Counting tells nobody, so the loop is let go round until then."""
        async with asyncio.timeout(TEST_TIMEOUT_S):
            while any(self.by_reason(name).get(reason, 0) < number for reason, number in reasons.items()):  # noqa: ASYNC110
                await asyncio.sleep(0)

    def closed_by(self) -> dict[str, float]:
        return self.by_reason(telemetry.SESSIONS_CLOSED)


async def at_end(writer: asyncio.StreamWriter) -> None:
    """Wait until the server has ended this connection."""
    async with asyncio.timeout(TEST_TIMEOUT_S):
        while not writer.transport.is_closing():
            protocol = writer.transport.get_protocol()
            reader = protocol._stream_reader  # type: ignore[attr-defined]
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    """Cut a connection without a farewell."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def running(
    intake: MemoryIntake | None = None, *, transport: str = "tcp", tls: ssl.SSLContext | None = None, **settings: Any
) -> AsyncIterator[Running]:
    """A source on a free port, closed at the end together with all senders."""
    intake = intake or MemoryIntake()
    counters = Counters()
    made = SyslogSettings(**{"port": 0, **settings})
    server: SyslogServer | SyslogUdpServer
    if transport == "udp":
        server = SyslogUdpServer(intake, counters, settings=made, now_s=lambda: NOW_S)
    else:
        server = SyslogServer(intake, counters, settings=made, tls=tls, now_s=lambda: NOW_S)
    await server.start()
    run = Running(server, intake, counters)
    try:
        yield run
    finally:
        await server.close()
        await server.close()
        for writer in run.writers:
            writer.transport.abort()
        assert set(intake.closed) == set(range(1, len(intake.opened) + 1)), "every session is closed, once"


class UdpSender:
    """A sender of datagrams."""

    def __init__(self, port: int, *, local: str = "127.0.0.1") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((local, 0))
        self._socket.connect(("127.0.0.1", port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self._socket.send(datagram)
