"""The Forward source: a server around the codec of `wire.fluent` (docs/wires.md 1, as a server; docs/correlation.md 6).

Rules of this file:

1. What bytes mean is decided in `wire/`. Here: read, reserve, submit, write, time out, close.
2. A frame is acknowledged after its last slice is durable, by one write of its own, in the order in which frames came.
3. A sender is held back by not reading from it, never by dropping: no room in the receive budget, or `max_in_flight` batches not yet
   committed, and its TCP window closes.
4. Each frame waits for the budget at most once while it is incomplete, so two half-read frames cannot wait for each other: what it
   declares, or `max_frame_bytes` when it does not say. Frames up to `small_frame_bytes` are reserved when they are complete.
5. A connection that opens and closes without a word is a heartbeat (docs/wires.md 1.5): no error, no warning.
6. Whatever a sender sends ends its own session at most; it is counted, and retried by the sender or kept as a dead letter.
7. Who gets in at all is `fluent_door`'s affair. A full house lets a newcomer in for a sender that has not sent a frame (and is not at
   it, or has been for long), or is silent for long; only if there is none is the newcomer turned away. Shippers come back by themselves.
8. Every wait for a peer has an end: the handshake, silence between frames and inside one, a frame as a whole, the taking of an ack.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast

import msgspec

from esa_tls import telemetry
from esa_tls.core.batch import Batch
from esa_tls.runtime.refusals import Refusals
from esa_tls.runtime.streams import Address, Listener, listen, peer_name
from esa_tls.sources.fluent_door import Door
from esa_tls.sources.fluent_session import Session
from esa_tls.wire.fluent import Limits
from esa_tls.wire.fluent_batch import Origins
from esa_tls.wire.fluent_decode import ForwardSettings, FrameDecoder, Rejected
from esa_tls.wire.fluent_handshake import ServerCredentials

__all__ = ["ForwardServer", "Intake", "ServerSettings"]

_log = logging.getLogger(__name__)

_FULL_S = 0.1
"""How long nobody is looked for who could make room, after nobody was found."""


class Intake(Protocol):
    """What this source needs of the durable step (docs/correlation.md 6)."""

    def open_session(self, peer: str) -> int:
        """Announce a sender's connection; the number goes into its batches."""

    def close_session(self, session: int, *, clean: bool) -> None:
        """End it. `clean=False`: it may have ended with a frame sent and not acknowledged."""

    def reserve(self, n_bytes: int, /) -> AbstractAsyncContextManager[object]:
        """Room in the one receive budget, held until exit; entering waits for it."""

    async def submit(self, batch: Batch, /) -> None:
        """Return when everything in `batch` is durable. Batches enter the core in the order in which the calls begin."""

    async def dead_letter(self, rejected: Sequence[Rejected], *, origin: str) -> None:
        """Return when these are durable among the dead letters. `origin`: `source:<name>`."""


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the server behaves; what it reads out of frames stands in `ForwardSettings` and `Limits`."""

    name: str = "fluent"
    host: str = "127.0.0.1"
    port: int = 24224
    path: str | None = None
    """If given, a Unix socket here instead of host and port, made with `socket_mode`."""
    socket_mode: int = 0o660
    udp_heartbeat: bool = False
    """Answer heartbeats on the UDP port of the same number (docs/wires.md 1.5)."""
    max_sessions: int = 1024
    handshake_timeout_s: float = 10.0
    """For TLS and for HELO, PING and PONG, each."""
    idle_timeout_s: float = 300.0
    """A sender silent for so long between frames is cut off. Fluent Bit keeps idle connections for 30 s (docs/wires.md 1.7)."""
    stall_timeout_s: float = 60.0
    """The same inside a frame, and for taking an ack: it holds room that others wait for. Fluentd gives up sending after 60 s."""
    frame_timeout_s: float = 300.0
    """From a frame's first byte, or its reservation, to its end; waits for the budget not counted."""
    max_in_flight: int = 4
    """Batches of one session submitted and not yet durable."""
    small_frame_bytes: int = 256 << 10
    """Bytes of an incomplete frame that a session may hold without a reservation."""
    read_bytes: int = 256 << 10
    poison_tries: int = 3
    """After so many times the same unreadable frame from one peer becomes a dead letter and is acknowledged (docs/wires.md 1.9)."""


class ForwardServer:
    """Listens, keeps the sessions, and what they share. `start()`, then `drain()` or `close()`."""

    def __init__(
        self,
        intake: Intake,
        counters: telemetry.Counters,
        *,
        settings: ServerSettings | None = None,
        forward: ForwardSettings | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        credentials: ServerCredentials | None = None,
        refusals: Refusals | None = None,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        """`tls`: from `runtime.tls`. `credentials`: if given, senders have to shake hands. `refusals`: the ones that `tls` tells of."""
        self.settings = settings or ServerSettings()
        self.intake = intake
        self.counters = counters
        self.limits = limits or Limits()
        self.decoder = FrameDecoder(forward, self.limits)
        self.origins = Origins(self.decoder.settings)
        self.now_s = now_s
        self.draining = False
        self.door = Door(
            refusals or Refusals(f"source {self.settings.name}", counters),
            tls=tls,
            credentials=credentials,
            handshake_timeout_s=self.settings.handshake_timeout_s,
        )
        self._listener: Listener | None = None
        self._heartbeats: asyncio.DatagramTransport | None = None
        self._sessions: dict[asyncio.Task[None], Session] = {}
        self._unproven: dict[Session, None] = {}  # in the order in which they came
        self._leaving = 0
        self._full_until_s = 0.0
        self._poison: OrderedDict[tuple[str, bytes], int] = OrderedDict()
        counters.gauge(telemetry.SESSIONS_OPEN, lambda: len(self._sessions), source=self.settings.name)

    @property
    def port(self) -> int:
        """The port it listens on (the free one taken for port 0). Only between `start()` and the end."""
        assert self._listener is not None
        return self._listener.port

    @property
    def address(self) -> Address:
        """Where it listens, in the settings' words."""
        settings = self.settings
        return Address(host=settings.host, port=settings.port, path=settings.path, mode=settings.socket_mode)

    async def start(self) -> None:
        """Listen. Raises OSError if the address cannot be had; nothing is left open then."""
        self._listener = await listen(self.address, self._accepted)
        if self.settings.udp_heartbeat and self.settings.path is None:
            try:
                self._heartbeats, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                    _Heartbeats, local_addr=(self.settings.host, self.port)
                )
            except OSError:
                self._stop_listening()
                raise

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
        if self._heartbeats is not None:
            self._heartbeats.close()

    async def drain(self) -> None:
        """Stop accepting and reading, wait until the frames already read are durable and acknowledged, and close."""
        self.draining = True
        self._stop_listening()
        for session in self._sessions.values():
            session.wake()
        while self._sessions:
            await asyncio.wait(set(self._sessions))

    async def close(self) -> None:
        """Close at once: sessions end without further acks. Safe at any time, also after `drain()`."""
        self.draining = True
        self._stop_listening()
        for task in self._sessions:
            task.cancel()
        while self._sessions:
            await asyncio.wait(set(self._sessions))

    def count(self, name: str, n: int = 1, **labels: str) -> None:
        """Count one of this source's metrics."""
        self.counters.add(name, n, source=self.settings.name, **labels)

    def poisoned(self, peer: str, key: bytes) -> bool:
        """Note one more failure of this frame from `peer`; True when it was the last try. The newest 1,024 are remembered."""
        tries = self._poison.pop((peer, key), 0) + 1
        if tries >= self.settings.poison_tries:
            return True
        self._poison[peer, key] = tries
        if len(self._poison) > 1024:
            self._poison.popitem(last=False)
        return False

    def _accepted(self, transport: asyncio.Transport) -> None:
        most = self.settings.max_sessions
        if self.draining or (len(self._sessions) - self._leaving >= most and not self._make_room()):
            if not self.draining:
                self.door.refusals.refused(peer_name(transport), "max_sessions", f"{most} senders are connected")
            self.count(telemetry.SESSIONS_CLOSED, reason="max_sessions")
            transport.close()
            return
        self.count(telemetry.SESSIONS_OPENED)
        session = Session(self, transport)
        task = asyncio.get_running_loop().create_task(session.run())
        self._sessions[task] = session
        self._unproven[session] = None
        task.add_done_callback(self._ended)

    def proven(self, session: Session) -> None:
        """A session has sent its first frame."""
        self._unproven.pop(session, None)

    def _make_room(self) -> bool:
        """End the session that is missed least: the oldest that has not sent a frame, else one silent for long. False: all are at work."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._full_until_s:
            return False
        session = next((one for one in self._unproven if one.replaceable(now_s)), None)
        if session is None:
            session = next((one for one in self._sessions.values() if one.replaceable(now_s)), None)
        if session is None:
            self._full_until_s = now_s + _FULL_S  # so that a flood does not make us look at everybody again and again
            return False
        self._unproven.pop(session, None)
        self._leaving += 1
        session.leave()
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        session = self._sessions.pop(task)
        self._unproven.pop(session, None)
        self._leaving -= session.leaving
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("A Forward session ended by an error of ours.", exc_info=error)


class _Heartbeats(asyncio.DatagramProtocol):
    """Answers the one byte of a UDP heartbeat with the same byte, and nothing else with nothing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        if data == b"\0":
            self._transport.sendto(data, addr)
