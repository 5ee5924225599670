"""The syslog source over TCP and TLS, and what it shares with UDP (`syslog_udp`): settings and who may send (docs/wires.md 6).

Rules of this file:

1. Where a message ends is decided in `wire.syslog`, what it says in the core. Here: accept, read, gather, submit, time out, close.
2. Nobody waits for an acknowledgement, as syslog has none. A sender is held back by not reading from it, never by dropping: no room in
   the receive budget, or `max_in_flight` batches not yet committed, and its TCP window closes.
3. Lines are gathered for `flush_interval_s`, `max_batch_lines` or `max_batch_bytes`, whichever comes first: a commit for each line would
   cost fifty times as much.
4. A session is clean only when the sender ended it and its last message was whole. What a sender wrote into a connection that is cut is
   lost without its knowing; so silence is no reason to cut it soon.
5. The HOST field is what anybody writes into it: without `trust_host` a line belongs to the peer's address.
6. A peer outside `allow` is turned away before it can say anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from esa_tls import telemetry
from esa_tls.core.batch import Batch, Origin
from esa_tls.runtime.refusals import Refusals
from esa_tls.runtime.streams import SHUTDOWN_TIMEOUT_S, Address, Listener, listen, open_streams, peer_name
from esa_tls.runtime.tls import HANDSHAKE, Handshake
from esa_tls.wire.syslog import Framing, Limits, Messages, StreamReader, runs_of

__all__ = ["Allowed", "Intake", "SyslogServer", "SyslogSettings", "address_of"]

_log = logging.getLogger(__name__)

DRAIN_QUIET_S = 0.05
"""At a drain a session is read until it is quiet for so long, as what stays unread is lost,"""
DRAIN_READS = 64
"""but not more often than this."""


PROVEN_IDLE_S = 300.0
"""A sender silent for so long can lose its place in a full house. It may lose the first line it sends then: TCP tells it too late."""


class Intake(Protocol):
    """What this source needs of the durable step (docs/correlation.md 6)."""

    def open_session(self, peer: str) -> int:
        """Announce a sender; the number goes into its batches."""

    def close_session(self, session: int, *, clean: bool) -> None:
        """It has ended. `clean=False`: lines of it may be missing."""

    def reserve(self, n_bytes: int, /) -> AbstractAsyncContextManager[object]:
        """Room in the one receive budget, held until exit; entering waits for it."""

    async def submit(self, batch: Batch, /) -> None:
        """Return when everything in `batch` is durable. Batches enter the core in the order in which the calls begin."""


class SyslogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a syslog source behaves."""

    name: str = "syslog"
    host: str = "127.0.0.1"
    port: int = 5140
    allow: tuple[str, ...] = ()
    """Networks that may send; none: everybody who can reach the port."""
    trust_host: bool = False
    lossy: bool | None = None
    reorder_window_s: float | None = None
    framing: Framing = "auto"
    max_message_bytes: int = 64 << 10
    max_sessions: int = 1024
    idle_timeout_s: float = 86_400.0
    """Peers that vanished are found by keep-alive probes; this is for those that are there and silent."""
    stall_timeout_s: float = 60.0
    """From the first octet of a message to its last: a sender that takes longer is cut off."""
    handshake_timeout_s: float = 10.0
    flush_interval_s: float = 0.05
    max_batch_lines: int = 2000
    max_batch_bytes: int = 256 << 10
    max_in_flight: int = 4
    """Batches of one session (of the whole source with UDP) submitted and not yet durable."""
    read_bytes: int = 64 << 10
    receive_buffer_bytes: int = 8 << 20
    """UDP: what the system is asked to keep while we are busy."""
    max_waiting_bytes: int = 16 << 20
    """UDP: what is kept while the journal takes nothing."""

    def limits(self) -> Limits:
        """What a message may cost."""
        return Limits(max_message_bytes=self.max_message_bytes)

    def origin(self, peer: str, *, lossy: bool | None) -> Origin:
        """How the lines of this peer came."""
        return Origin(source=self.name, peer=peer, lossy=lossy, reorder_window_s=self.reorder_window_s, trust_host=self.trust_host)


class Allowed:
    """Who may send: the addresses in some networks, or everybody. Raises ValueError for what is no network."""

    def __init__(self, networks: tuple[str, ...]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def __contains__(self, address: str) -> bool:
        if not self._networks:
            return True
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._networks)


def address_of(text: str) -> str:
    """A peer's address as its name: an IPv4 address seen through an IPv6 socket is the same peer, and a zone is none of its name."""
    if text.startswith("::ffff:") and "." in text:
        return text[7:]
    return text.partition("%")[0]


class SyslogServer:
    """Listens on TCP, with TLS or without, and keeps the sessions. `start()`, then `drain()` or `close()`."""

    def __init__(
        self,
        intake: Intake,
        counters: telemetry.Counters,
        *,
        settings: SyslogSettings | None = None,
        tls: ssl.SSLContext | None = None,
        refusals: Refusals | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """`tls`: from `runtime.tls`. `refusals`: the ones that `tls` tells of."""
        self.settings = settings or SyslogSettings()
        self.intake = intake
        self.counters = counters
        self.tls = tls
        self.refusals = refusals or Refusals(f"source {self.settings.name}", counters)
        self.now_s = now_s
        self.draining = False
        self._allowed = Allowed(self.settings.allow)
        self._listener: Listener | None = None
        self._sessions: dict[asyncio.Task[None], _Session] = {}
        counters.gauge(telemetry.SESSIONS_OPEN, lambda: len(self._sessions), source=self.settings.name)

    @property
    def port(self) -> int:
        """The port it listens on (the free one taken for port 0). Only between `start()` and the end."""
        assert self._listener is not None
        return self._listener.port

    async def start(self) -> None:
        """Listen. Raises OSError if the address cannot be had."""
        self._listener = await listen(Address(host=self.settings.host, port=self.settings.port), self._accepted)

    async def drain(self) -> None:
        """Stop accepting, read what is there already, wait until it is durable, and close."""
        if self._listener is not None and not self.draining:
            # Who is connected as the system sees it, and not yet accepted here, may have sent already.
            await asyncio.sleep(DRAIN_QUIET_S)
        self.draining = True
        if self._listener is not None:
            self._listener.close()
        for task, session in self._sessions.items():
            session.wake()
            if not session.entered:
                task.cancel()
        while self._sessions:
            await asyncio.wait(set(self._sessions))

    async def close(self) -> None:
        """Close at once. Safe at any time, also after `drain()`."""
        self.draining = True
        if self._listener is not None:
            self._listener.close()
        for task in self._sessions:
            task.cancel()
        while self._sessions:
            await asyncio.wait(set(self._sessions))

    def count(self, name: str, n: int = 1, **labels: str) -> None:
        """Count one of this source's metrics."""
        self.counters.add(name, n, source=self.settings.name, **labels)

    def _accepted(self, transport: asyncio.Transport) -> None:
        peer = address_of(peer_name(transport))
        reason = ""
        if peer not in self._allowed:
            reason = "not_allowed"
            self.refusals.refused(peer, reason, "its address is not in allow")
        elif sum(not session.leaving for session in self._sessions.values()) >= self.settings.max_sessions and not self._make_room():
            reason = "max_sessions"
            self.refusals.refused(peer, reason, f"{self.settings.max_sessions} senders are connected")
        if reason or self.draining:
            self.count(telemetry.SESSIONS_CLOSED, reason=reason or "drained")
            transport.abort()
            return
        self.count(telemetry.SESSIONS_OPENED)
        session = _Session(self, transport, peer)
        task = asyncio.get_running_loop().create_task(session.run())
        self._sessions[task] = session
        task.add_done_callback(self._ended)

    def _make_room(self) -> bool:
        """End the oldest session that has not sent a whole message yet, else the one silent for longest, if long. False: none."""
        for task, session in self._sessions.items():
            if not session.proven and not session.leaving:
                session.leave()
                if not session.entered:
                    task.cancel()  # a handshake holds a quarter of a MiB, and would take its time
                return True
        silent = min((one for one in self._sessions.values() if not one.leaving), key=lambda one: one.silent_since_s, default=None)
        if silent is None or asyncio.get_running_loop().time() - silent.silent_since_s < PROVEN_IDLE_S:
            return False
        silent.leave()
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._sessions[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("A syslog session ended by an error of ours.", exc_info=error)


class _Ended(Exception):
    """The session has to end; `reason` is a label of `SESSIONS_CLOSED`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Secured(asyncio.StreamReaderProtocol):
    """Reads a connection under TLS, whose transport it may hear of after the peer's end."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False  # TLS cannot be half closed


class _Session:
    """One sender's connection."""

    def __init__(self, server: SyslogServer, transport: asyncio.Transport, peer: str) -> None:
        self._server = server
        self._transport = transport
        self._writer: asyncio.StreamWriter | None = None
        self._peer = peer
        self._reader: asyncio.StreamReader
        self._origin = server.settings.origin(peer, lossy=server.settings.lossy)
        self._frames = StreamReader(server.settings.limits(), framing=server.settings.framing)
        self._gathered = Messages([], [])
        self._gathered_bytes = 0
        self._slots = asyncio.Semaphore(server.settings.max_in_flight)
        self._running: set[asyncio.Task[None]] = set()
        self._waiting: asyncio.Timeout | None = None
        self._id = -1
        self._heard_s = 0.0  # when the last bytes came
        self._begun_s = 0.0  # when the message begun now began
        self._due_s = 0.0  # when what is gathered has to go
        self._looks = 0
        self._failed = False
        self.entered = False
        """Whether the TLS handshake, if any, is done."""
        self.proven = False
        """Whether it sent a whole message."""
        self.leaving = False
        """Whether it has to make room for a newcomer."""

    async def run(self) -> None:
        """The whole session, whatever the peer does in it."""
        server, settings = self._server, self._server.settings
        reason, clean = "cancelled", False
        try:
            try:
                self._reader, self._writer = await self._enter()
            except TimeoutError:
                reason = "handshake"
                server.refusals.refused(self._peer, "handshake_timeout", f"no TLS handshake within {settings.handshake_timeout_s:g} s")
                return
            except OSError:
                reason = "handshake"
                return
            self._id = server.intake.open_session(self._peer)
            self.entered = True
            self._heard_s = self._now_s()
            reason = await self._receive()
            clean = await self._finish() and reason == "eof"
            self._writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(SHUTDOWN_TIMEOUT_S):
                    await self._writer.wait_closed()
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
            if self.entered:
                server.intake.close_session(self._id, clean=clean)
            if self.leaving and not self.entered:
                reason = "max_sessions"
            server.count(telemetry.SESSIONS_CLOSED, reason="not_committed" if self._failed else reason)
            (self._transport if self._writer is None else self._writer.transport).abort()

    async def _enter(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Begin to read, after the TLS handshake if there is to be one. Raises TimeoutError or another OSError, as `open_streams`."""
        settings, tls, loop = self._server.settings, self._server.tls, asyncio.get_running_loop()
        if tls is None:
            return await open_streams(self._transport, tls=None, handshake_timeout_s=0, limit=settings.read_bytes)
        # `open_streams` takes a connection that is closed when we come to look at it for one that failed. Here it may be a sender that
        # said what it had to say and left: what it said has been read by then.
        reader = asyncio.StreamReader(limit=settings.read_bytes, loop=loop)
        protocol = _Secured(reader, loop=loop)
        handshake = Handshake(self._peer)
        token = HANDSHAKE.set(handshake)
        try:
            secured = await loop.start_tls(
                self._transport,
                protocol,
                tls,
                server_side=True,
                ssl_handshake_timeout=settings.handshake_timeout_s,
                ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S,
            )
        except ConnectionAbortedError as error:  # asyncio's word for a handshake that took too long
            if handshake.refused:
                raise
            raise TimeoutError from error
        finally:
            HANDSHAKE.reset(token)
        if secured is None:
            raise ConnectionAbortedError
        protocol.connection_made(secured)
        return reader, asyncio.StreamWriter(secured, protocol, reader, loop)

    def wake(self) -> None:
        """End a wait for bytes, if there is one: something happened that its reader has to look at."""
        if self._waiting is not None:
            self._waiting.reschedule(self._now_s())

    @property
    def silent_since_s(self) -> float:
        """When it was last heard of; never while something of it is on its way."""
        busy = self._frames.inside or bool(self._gathered.lines) or bool(self._running)
        return float("inf") if busy else self._heard_s

    def leave(self) -> None:
        """End soon."""
        self.leaving = True
        self.wake()

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()

    # -- reading -----------------------------------------------------------------------------------------------------------------
    async def _receive(self) -> str:
        """Read messages and submit them until the session has to end; the reason why."""
        server, frames = self._server, self._frames
        try:
            while data := await self._read():
                was_inside = frames.inside
                self._heard_s = self._now_s()
                found = frames.feed(data)
                if frames.inside and (found.lines or not was_inside):
                    self._begun_s = self._heard_s
                self._gather(found)
                if frames.odd:
                    for reason, n in frames.odd.items():
                        server.count(telemetry.SYSLOG_ODD_FRAMES, n, reason=reason)
                    frames.odd.clear()
                if frames.error is not None:
                    server.count(telemetry.SYSLOG_BAD_FRAMES, reason=frames.error.reason)
                    _log.warning("A syslog sender, %s, is cut off: %s.", self._peer, frames.error)
                    return "bad_frame"
                if len(self._gathered.lines) >= server.settings.max_batch_lines or self._gathered_bytes >= server.settings.max_batch_bytes:
                    await self._flush()
        except _Ended as ended:
            return ended.reason
        return "eof"

    async def _finish(self) -> bool:
        """Make everything read so far durable. False: its last message was not whole, or something could not be made durable."""
        rest = self._frames.end()
        whole = not rest.lines and not self._frames.inside
        self._gather(rest)
        await self._flush()
        while self._running:
            await asyncio.wait(set(self._running))
        return whole and not self._failed

    async def _read(self) -> bytes:
        """The next bytes, b"" at their end. Submits what was gathered when its time has come."""
        settings = self._server.settings
        while True:
            if self._failed:
                raise _Ended("not_committed")
            if self.leaving:
                raise _Ended("max_sessions")
            if self._server.draining:
                return await self._last_look()
            until_s = self._heard_s + settings.idle_timeout_s
            if self._frames.inside:
                until_s = min(until_s, self._begun_s + settings.stall_timeout_s)
            if self._gathered.lines:
                until_s = min(until_s, self._due_s)
            try:
                async with self._wait(until_s):
                    return await self._reader.read(settings.read_bytes)
            except TimeoutError:
                now_s = self._now_s()
                if self._gathered.lines and now_s >= self._due_s:
                    await self._flush()
                elif self._frames.inside and now_s >= self._begun_s + settings.stall_timeout_s:
                    raise _Ended("stalled") from None
                elif now_s >= self._heard_s + settings.idle_timeout_s:
                    raise _Ended("idle") from None
            except OSError:
                raise _Ended("reset") from None

    async def _last_look(self) -> bytes:
        """At a drain: what the sender has sent already is read, as it would be lost."""
        self._looks += 1
        if self._looks <= DRAIN_READS:
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(DRAIN_QUIET_S):
                    return await self._reader.read(self._server.settings.read_bytes)
        raise _Ended("drained")

    @contextlib.asynccontextmanager
    async def _wait(self, until_s: float) -> AsyncIterator[None]:
        """A wait that ends by TimeoutError at `until_s` or by `wake()`."""
        try:
            async with asyncio.timeout_at(until_s) as self._waiting:
                yield
        finally:
            self._waiting = None

    # -- submitting --------------------------------------------------------------------------------------------------------------
    def _gather(self, found: Messages) -> None:
        if not found.lines:
            return
        self.proven = True
        gathered = self._gathered
        if found.truncated:
            self._server.count(telemetry.SYSLOG_TRUNCATED, len(found.truncated))
        if not gathered.lines:
            self._due_s = self._now_s() + self._server.settings.flush_interval_s
        gathered.extend(found)
        self._gathered_bytes += sum(map(len, found.lines))

    async def _flush(self) -> None:
        """Start to make durable what is gathered, as soon as there is a slot and room; nothing is read meanwhile."""
        messages, n_bytes = self._gathered, self._gathered_bytes
        self._gathered, self._gathered_bytes = Messages([], []), 0
        if not messages.lines:
            return
        began_s = self._now_s()
        await self._slots.acquire()
        batch = Batch(runs_of(self._origin, messages), self._id, None, self._server.now_s())
        reserved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.get_running_loop().create_task(self._durable(batch, n_bytes, reserved))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        await reserved
        waited_s = self._now_s() - began_s  # is not the sender's silence
        self._heard_s += waited_s
        self._begun_s += waited_s

    async def _durable(self, batch: Batch, n_bytes: int, reserved: asyncio.Future[None]) -> None:
        """One durable step. A failure ends the session: what follows must not look as if nothing were missing."""
        try:
            async with self._server.intake.reserve(n_bytes):
                if not reserved.done():
                    reserved.set_result(None)
                if not self._failed:
                    await self._server.intake.submit(batch)
        except Exception:  # noqa: BLE001 (whatever it is, these lines are lost)
            _log.exception("%d syslog lines from %s could not be made durable; its session ends.", batch.line_count(), self._peer)
            self._failed = True
            self.wake()
        finally:
            self._slots.release()
            if not reserved.done():
                reserved.set_result(None)
