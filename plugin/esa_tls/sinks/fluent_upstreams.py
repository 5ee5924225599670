"""The receivers of a Forward sink: which one is next, how a connection to one is opened, and when one that failed is tried again.

Rules of this file:

1. Frames are spread over the healthy receivers by weight, by lot for each frame. Those with `standby` are used only while none of the
   others is healthy.
2. A receiver that failed is unhealthy until a probe gets through: connection, TLS and handshake, then closed, which receivers know as
   a heartbeat (docs/wires.md 1.5). Probes come 1 s after the first failure and later and later, up to 60 s; only an acknowledged
   frame makes the next wait short again, so a receiver that greets and never acknowledges is left alone more and more.
3. While none is healthy all are tried, in the order in which their next probe is due: the caller waits between its tries.
4. The handshake (docs/wires.md 1.6) runs once per connection, under the connect time-out. A receiver that closes instead of its PONG
   refused us (Fluent Bit says it that way). Whoever refuses us is not asked again for `REFUSED_RETRY_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import ssl
import time
from collections.abc import Callable, Sequence

import msgspec

from esa_tls.errors import TransientError
from esa_tls.runtime.dispatch import Backoff
from esa_tls.runtime.streams import keep_alive
from esa_tls.runtime.tls import Reloading
from esa_tls.wire.fluent_handshake import MAX_MESSAGE_BYTES, RANDOM_BYTES, ClientCredentials, ClientHandshake

__all__ = ["DEFAULT_WEIGHT", "REFUSED_RETRY_S", "Receiver", "Streams", "Upstreams", "told"]

DEFAULT_WEIGHT = 60
"""Fluentd's."""

REFUSED_RETRY_S = 10.0
"""Wrong keys and certificates do not become right by asking again at once."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Receiver(msgspec.Struct, frozen=True):
    """One Forward server. `weight`: its share of the frames. `credentials`: if given, it is greeted with them."""

    host: str
    port: int
    weight: int = DEFAULT_WEIGHT
    standby: bool = False
    credentials: ClientCredentials | None = None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _Health:
    """What is known of a receiver."""

    def __init__(self) -> None:
        self.healthy = True
        self.failures = 0  # since the last acknowledged frame
        self.retry_at_s = 0.0


class Upstreams:
    """All receivers of one sink. `open` one, tell how it went with `worked` or `failed`, `close` at the end."""

    def __init__(
        self,
        receivers: Sequence[Receiver],
        *,
        tls: Reloading[ssl.SSLContext] | None = None,
        server_name: str | None = None,
        connect_timeout_s: float = 10.0,
        monotonic_s: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        """`server_name`: the name that the certificates carry, if it is not the host that is connected to."""
        if not receivers:
            raise ValueError("no receiver")
        self.receivers = tuple(receivers)
        self._tls = tls
        self._server_name = server_name
        self._connect_timeout_s = connect_timeout_s
        self._monotonic_s = monotonic_s
        self._chance = chance or random.Random()
        self._backoff = Backoff(1.0, 60.0)
        self._health = {receiver: _Health() for receiver in self.receivers}
        self._probing: asyncio.Task[None] | None = None
        self._failed_again = asyncio.Event()

    def order(self) -> list[Receiver]:
        """Whom to try for the next frame, one after the other."""
        healthy = [receiver for receiver in self.receivers if self._health[receiver].healthy]
        if healthy:
            # Each key is the minimum of as many lots as the weight says: the heavier, the earlier.
            return sorted(healthy, key=lambda one: (one.standby, self._chance.expovariate(one.weight)))
        return sorted(self.receivers, key=lambda one: (self._health[one].retry_at_s, one.standby))

    def healthy(self, receiver: Receiver) -> bool:
        """Whether nothing is known against it."""
        return self._health[receiver].healthy

    def worked(self, receiver: Receiver) -> None:
        """A frame was acknowledged."""
        health = self._health[receiver]
        health.healthy, health.failures = True, 0

    def failed(self, receiver: Receiver, error: TransientError) -> None:
        """A connection or a frame failed."""
        health = self._health[receiver]
        health.failures += 1
        wait_s = self._backoff.delay_s(health.failures, uniform=self._upper_half, retry_after_s=error.retry_after_s)
        health.healthy, health.retry_at_s = False, self._monotonic_s() + wait_s
        self._failed_again.set()
        if len(self.receivers) > 1 and self._probing is None:
            self._probing = asyncio.get_running_loop().create_task(self._probe_until_healthy())

    def _upper_half(self, low: float, high: float) -> float:
        return self._chance.uniform((low + high) / 2, high)

    async def open(self, receiver: Receiver) -> Streams:
        """A connection over which frames can be sent. Raises TransientError, with `retry_after_s` if we are refused."""
        tls = None if self._tls is None else self._tls.current()
        server_name = None if tls is None else self._server_name or receiver.host
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                reader, writer = await asyncio.open_connection(receiver.host, receiver.port, ssl=tls, server_hostname=server_name)
                keep_alive(writer.get_extra_info("socket"))
                if receiver.credentials is not None:
                    await _shake_hands(receiver.credentials, reader, writer)
        except BaseException as error:
            if writer is not None:
                writer.transport.abort()
            if isinstance(error, TimeoutError):
                missing = "connection" if writer is None else "HELO and PONG (does it want a shared key?)"
                raise TransientError(f"{receiver}: no {missing} within {self._connect_timeout_s:g} s") from error
            if isinstance(error, TransientError):
                raise TransientError(f"{receiver}: {error}", retry_after_s=error.retry_after_s) from error.__cause__
            if isinstance(error, OSError):
                raise TransientError(f"{receiver}: {told(error)}", retry_after_s=_retry_after_s(error)) from error
            raise
        return reader, writer

    async def close(self) -> None:
        """End the probes. Safe twice."""
        probing, self._probing = self._probing, None
        if probing is not None:
            probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await probing

    async def _probe_until_healthy(self) -> None:
        while True:
            waiting = [receiver for receiver in self.receivers if not self._health[receiver].healthy]
            if not waiting:
                break
            receiver = min(waiting, key=lambda one: self._health[one].retry_at_s)
            if (wait_s := self._health[receiver].retry_at_s - self._monotonic_s()) > 0:
                self._failed_again.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._failed_again.wait()  # by another one, whose probe may be due earlier
                continue
            try:
                _, writer = await self.open(receiver)
            except TransientError as error:
                self.failed(receiver, error)
            else:
                writer.transport.abort()
                self._health[receiver].healthy = True
        self._probing = None


async def _shake_hands(credentials: ClientCredentials, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Raises TransientError, or OSError for a connection that broke before the PING."""
    handshake = ClientHandshake(credentials, randomness=os.urandom(RANDOM_BYTES))
    while True:
        try:
            data = await reader.read(MAX_MESSAGE_BYTES)
        except ConnectionError:
            if not handshake.asked:
                raise
            data = b""
        if not data:
            told_so = "closed instead of its PONG: is the shared key right?" if handshake.asked else "closed before its HELO"
            raise TransientError(told_so, retry_after_s=REFUSED_RETRY_S)
        step = handshake.feed(data)
        if step.refusal is not None:
            raise TransientError(step.refusal.detail, retry_after_s=REFUSED_RETRY_S)
        if step.done:
            return
        writer.write(step.send)


def told(error: OSError) -> str:
    """What an error of the connection says, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS: {error.reason.lower().replace('_', ' ')}"
    return str(error) or type(error).__name__


def _retry_after_s(error: OSError) -> float | None:
    return REFUSED_RETRY_S if isinstance(error, ssl.SSLError) else None
