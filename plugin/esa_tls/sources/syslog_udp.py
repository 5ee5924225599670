"""The syslog source over UDP: one message in each datagram, from senders that never hear of a loss (RFC 5426; docs/wires.md 6).

Rules of this file:

1. What can be lost is counted: datagrams that the system dropped, as far as it tells, and those dropped here, by reason. The system is
   asked for a large buffer, and read until it is empty or `DATAGRAMS_PER_TURN` were taken, so that others get their turn.
2. A sender cannot be held back. While the journal takes nothing, `max_waiting_bytes` of lines wait; what comes then is dropped.
3. Lines of all peers are gathered for `flush_interval_s` or `max_batch_lines`; a flush makes one batch for each peer.
4. A peer (its address, without port) is one session for as long as the source runs, or until room is needed and it has been silent for
   `idle_timeout_s`. Addresses can be forged: set `allow`.
5. Lines are `lossy` whatever the settings say: a missing TLS line proves less here.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable

from esa_tls import telemetry
from esa_tls.core.batch import Batch, Origin
from esa_tls.runtime.refusals import Refusals
from esa_tls.sources.syslog import Allowed, Intake, SyslogSettings, address_of
from esa_tls.wire.syslog import Messages, message_of, runs_of

__all__ = ["SyslogUdpServer", "kernel_drops"]

_log = logging.getLogger(__name__)

DATAGRAMS_PER_TURN = 256
LAST_LOOK_TURNS = 256
"""At a drain the socket is read until it is empty, but not more often than this."""

MAX_DATAGRAM_BYTES = 65_535

_LINE_COST_BYTES = 100
"""What a waiting line costs beside its bytes."""

_SO_MEMINFO = 55  # asm-generic/socket.h, since Linux 4.12; nine 32-bit numbers
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h; wants CAP_NET_ADMIN
_MEMINFO_DROPS = 8  # SK_MEMINFO_DROPS


def kernel_drops(sock: socket.socket) -> int | None:
    """Datagrams that the system dropped at this socket since it was opened (it wraps at 2**32); None where the system does not tell."""
    if sys.platform != "linux":
        return None
    try:
        numbers = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 4 * (_MEMINFO_DROPS + 1))
    except OSError:
        return None
    if len(numbers) < 4 * (_MEMINFO_DROPS + 1):
        return None
    return int(struct.unpack_from("=I", numbers, 4 * _MEMINFO_DROPS)[0])


class _Peer:
    """One sender's address."""

    __slots__ = ("heard_s", "origin", "session", "waiting")

    def __init__(self, session: int, origin: Origin) -> None:
        self.session = session
        self.origin = origin
        self.heard_s = 0.0
        self.waiting = 0
        """Lines of it that are not durable yet."""


class _Socket:
    """One bound socket and how often the system had to drop at it, as far as that is counted already."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.drops = kernel_drops(sock)


class SyslogUdpServer:
    """Receives datagrams. `start()`, then `drain()` or `close()`."""

    def __init__(
        self,
        intake: Intake,
        counters: telemetry.Counters,
        *,
        settings: SyslogSettings | None = None,
        refusals: Refusals | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings or SyslogSettings()
        self.intake = intake
        self.counters = counters
        self.refusals = refusals or Refusals(f"source {self.settings.name}", counters)
        self.now_s = now_s
        self._allowed = Allowed(self.settings.allow)
        self._limits = self.settings.limits()
        self._sockets: list[_Socket] = []
        self._buffer = bytearray(MAX_DATAGRAM_BYTES)
        self._peers: dict[str, _Peer] = {}
        self._arrived: deque[tuple[_Peer, bytes, bool]] = deque()
        self._waiting_bytes = 0
        self._due = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._slots = asyncio.Semaphore(self.settings.max_in_flight)
        self._running: set[asyncio.Task[None]] = set()
        self._submitting: asyncio.Task[None] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        counters.gauge(telemetry.SESSIONS_OPEN, lambda: len(self._peers), source=self.settings.name)

    @property
    def port(self) -> int:
        """The port it listens on (the free one taken for port 0). Only between `start()` and the end."""
        return int(self._sockets[0].sock.getsockname()[1])

    async def start(self) -> None:
        """Listen. Raises OSError if the address cannot be had; nothing is left open then."""
        loop = asyncio.get_running_loop()
        settings = self.settings
        found = await loop.getaddrinfo(settings.host, settings.port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
        try:
            for family, kind, protocol, _, address in dict.fromkeys(found):
                sock = socket.socket(family, kind, protocol)
                self._sockets.append(_Socket(sock))
                sock.setblocking(False)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                self._ask_for_room(sock)
                port = address[1] or (self.port if len(self._sockets) > 1 else 0)
                sock.bind((address[0], port, *address[2:]))
        except OSError:
            self._close_sockets()
            raise
        self._submitting = loop.create_task(self._submit_all())
        self._submitting.add_done_callback(self._ended)
        for one in self._sockets:
            loop.add_reader(one.sock.fileno(), self._readable, one)

    async def drain(self) -> None:
        """Read what is there already, wait until it is durable, and close."""
        for one in self._sockets:
            for _ in range(LAST_LOOK_TURNS):
                if not self._readable(one):
                    break
        self._close_sockets()
        self._due.set()
        if self._submitting is not None and not self._submitting.done():
            await self._idle.wait()
        await self._end("drained")

    async def close(self) -> None:
        """Close at once. Safe at any time, also after `drain()`."""
        self._close_sockets()
        await self._end("cancelled")

    async def _end(self, reason: str) -> None:
        tasks = [*self._running, *((self._submitting,) if self._submitting is not None else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        for address in list(self._peers):
            self._forget(address, reason)

    def _close_sockets(self) -> None:
        for one in self._sockets:
            asyncio.get_running_loop().remove_reader(one.sock.fileno())
            self._count_kernel_drops(one)
            one.sock.close()
        self._sockets.clear()

    def _ask_for_room(self, sock: socket.socket) -> None:
        """Have the system keep `receive_buffer_bytes`, or as much as it allows."""
        wanted = self.settings.receive_buffer_bytes
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
        if sys.platform != "linux":
            return
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < 2 * wanted:  # Linux tells the double
            try:
                sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, wanted)
            except OSError:
                got = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
                _log.warning(
                    "source %s: the system keeps %d bytes of datagrams, %d were wanted (sysctl net.core.rmem_max): bursts may be lost.",
                    self.settings.name,
                    got,
                    wanted,
                )

    def count(self, name: str, n: int = 1, **labels: str) -> None:
        """Count one of this source's metrics."""
        self.counters.add(name, n, source=self.settings.name, **labels)

    # -- receiving ---------------------------------------------------------------------------------------------------------------
    def _readable(self, one: _Socket) -> bool:
        """Take datagrams; False: there are no more."""
        settings, arrived, limits, buffer, peers = self.settings, self._arrived, self._limits, self._buffer, self._peers
        now_s = asyncio.get_running_loop().time()
        full = 0
        more = True
        for _ in range(DATAGRAMS_PER_TURN):
            try:
                size, address = one.sock.recvfrom_into(buffer)
            except OSError:  # none there, or an ICMP message that concerns nobody here
                more = False
                break
            peer = peers.get(address[0]) or self._admit(address[0], now_s)
            if peer is None:
                continue
            line, truncated = message_of(bytes(memoryview(buffer)[:size]), limits)
            peer.heard_s = now_s
            if not line:
                continue
            if self._waiting_bytes > settings.max_waiting_bytes:
                full += 1
                continue
            peer.waiting += 1
            self._waiting_bytes += len(line) + _LINE_COST_BYTES
            arrived.append((peer, line, truncated))
            if truncated:
                self.count(telemetry.SYSLOG_TRUNCATED)
        if full:
            self.count(telemetry.SYSLOG_DROPPED, full, reason="intake_full")
        self._count_kernel_drops(one)
        if arrived:
            self._idle.clear()
            if len(arrived) >= settings.max_batch_lines:
                self._due.set()
            elif self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(settings.flush_interval_s, self._due.set)
        return more

    def _count_kernel_drops(self, one: _Socket) -> None:
        if one.drops is None:
            return
        drops = kernel_drops(one.sock)
        if drops is not None and drops != one.drops:
            self.count(telemetry.SYSLOG_DROPPED, (drops - one.drops) % (1 << 32), reason="kernel")
            one.drops = drops

    def _admit(self, text: str, now_s: float) -> _Peer | None:
        """Begin the session of an address heard for the first time; None: its datagram is dropped."""
        address = address_of(text)
        if address not in self._allowed:
            self.refusals.refused(address, "not_allowed", "its address is not in allow")
            self.count(telemetry.SYSLOG_DROPPED, reason="not_allowed")
            return None
        if address in self._peers:
            return self._peers[address]
        if len(self._peers) >= self.settings.max_sessions:
            for other, peer in list(self._peers.items()):
                if not peer.waiting and now_s - peer.heard_s >= self.settings.idle_timeout_s:
                    self._forget(other, "idle")
        if len(self._peers) >= self.settings.max_sessions:
            self.refusals.refused(address, "max_sessions", f"{self.settings.max_sessions} senders are known")
            self.count(telemetry.SYSLOG_DROPPED, reason="max_sessions")
            return None
        self.count(telemetry.SESSIONS_OPENED)
        peer = self._peers[address] = _Peer(self.intake.open_session(address), self.settings.origin(address, lossy=True))
        return peer

    def _forget(self, address: str, reason: str) -> None:
        peer = self._peers.pop(address)
        self.count(telemetry.SESSIONS_CLOSED, reason=reason)
        self.intake.close_session(peer.session, clean=not peer.waiting)

    # -- submitting --------------------------------------------------------------------------------------------------------------
    async def _submit_all(self) -> None:
        """Whenever it is time, start to make durable what has arrived."""
        while True:
            await self._due.wait()
            self._due.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            left = len(self._arrived)  # what comes meanwhile is gathered again, or a fast sender would get a batch for each few lines
            while left > 0 and self._arrived:
                await self._slots.acquire()
                before = len(self._arrived)
                batches, n_bytes = self._take()
                left -= before - len(self._arrived)
                reserved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                task = asyncio.get_running_loop().create_task(self._durable(batches, n_bytes, reserved))
                self._running.add(task)
                task.add_done_callback(self._done)
                await reserved

    def _take(self) -> tuple[list[tuple[_Peer, Batch]], int]:
        """Lines for one flush, the longest waiting first: a batch for each peer, and their bytes."""
        settings, arrived = self.settings, self._arrived
        found: dict[_Peer, Messages] = {}
        n_bytes = 0
        for _ in range(min(len(arrived), settings.max_batch_lines)):
            if n_bytes >= settings.max_batch_bytes:
                break
            peer, line, truncated = arrived.popleft()
            messages = found.get(peer)
            if messages is None:
                messages = found[peer] = Messages([], [])
            if truncated:
                messages.truncated.append(len(messages.lines))
            messages.lines.append(line)
            n_bytes += len(line)
            self._waiting_bytes -= len(line) + _LINE_COST_BYTES
        now_s = self.now_s()
        return [(peer, Batch(runs_of(peer.origin, messages), peer.session, None, now_s)) for peer, messages in found.items()], n_bytes

    async def _durable(self, batches: list[tuple[_Peer, Batch]], n_bytes: int, reserved: asyncio.Future[None]) -> None:
        try:
            async with self.intake.reserve(n_bytes):
                if not reserved.done():
                    reserved.set_result(None)
                await asyncio.gather(*(self._durable_one(peer, batch) for peer, batch in batches))
        finally:
            self._slots.release()
            if not reserved.done():
                reserved.set_result(None)

    async def _durable_one(self, peer: _Peer, batch: Batch) -> None:
        """One durable step. Nobody sends these lines again, so a failure is a loss."""
        n_lines = batch.line_count()
        try:
            await self.intake.submit(batch)
        except Exception:  # noqa: BLE001 (whatever it is, these lines are lost)
            _log.exception("%d syslog lines could not be made durable.", n_lines)
            self.count(telemetry.SYSLOG_DROPPED, n_lines, reason="not_committed")
        peer.waiting -= n_lines

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._ended(task)
        if not self._arrived and not self._running:
            self._idle.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("source %s: an error of ours.", self.settings.name, exc_info=error)
