"""A Forward client for tests, written with msgpack and plain sockets from docs/wires.md 1: it shares nothing with ours.

One frame on its way at a time; what was not acknowledged is sent again, with the same bytes, until it is.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import msgpack

ACK_TIMEOUT_S = 60.0


def entry(line: bytes, *, time_s: int = 1_700_000_000, key: str = "log") -> bytes:
    """One packed entry: EventTime and a record with the line, as text where it is UTF-8."""
    try:
        value: str | bytes = line.decode()
    except UnicodeDecodeError:
        value = line
    packed: bytes = msgpack.packb([msgpack.ExtType(0, time_s.to_bytes(4, "big") + bytes(4)), {key: value}])
    return packed


def packed_forward(tag: str, lines: Iterable[bytes], *, chunk: str | None) -> bytes:
    """A PackedForward frame."""
    entries = [entry(line) for line in lines]
    option: dict[str, Any] = {"size": len(entries)}
    if chunk is not None:
        option["chunk"] = chunk
    frame: bytes = msgpack.packb([tag, b"".join(entries), option])
    return frame


class NotAcknowledged(Exception):
    """The connection ended, or the time, before the ack came."""


class Connection:
    """One TCP connection to a Forward server."""

    def __init__(self, port: int, *, timeout_s: float = ACK_TIMEOUT_S) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._acks = msgpack.Unpacker()

    def send(self, frame: bytes) -> None:
        """Write a frame. Raises OSError, TimeoutError included if the server does not read on."""
        self._socket.sendall(frame)

    def acknowledged(self, *, timeout_s: float) -> str:
        """The next chunk that the server acknowledges. Raises NotAcknowledged."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            for answer in self._acks:
                assert isinstance(answer, dict), answer
                assert set(answer) == {"ack"}, answer
                chunk: str = answer["ack"]
                return chunk
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise NotAcknowledged("no ack in time")
            self._socket.settimeout(left_s)
            try:
                data = self._socket.recv(65536)
            except OSError as error:
                raise NotAcknowledged(str(error) or "no ack in time") from error
            if not data:
                raise NotAcknowledged("closed")
            self._acks.feed(data)

    def interrupt(self) -> None:
        """End a wait of another thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close at once."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Target:
    """Where the sidecar listens now; senders wait here while there is none."""

    def __init__(self, port: int | None = None) -> None:
        self._port = port
        self._changed = threading.Condition()

    def set(self, port: int | None) -> None:
        """A sidecar came up, or went."""
        with self._changed:
            self._port = port
            self._changed.notify_all()

    def wait(self, stop: threading.Event) -> int | None:
        """The port, as soon as there is one; None when told to stop."""
        with self._changed:
            while self._port is None:
                if stop.is_set():
                    return None
                self._changed.wait(0.1)
            return self._port


class Sender:
    """Hands batches over one after the other. For one thread; `target` and `stop` may be changed by another."""

    def __init__(self, target: Target, *, tag: str, stop: threading.Event | None = None, ack_timeout_s: float = ACK_TIMEOUT_S) -> None:
        self._target = target
        self._tag = tag
        self._stop = stop or threading.Event()
        self._ack_timeout_s = ack_timeout_s
        self._connection: Connection | None = None
        self._chunks = 0
        self.sent_again = 0
        """Frames that were sent again."""
        self.acknowledged_lines = 0

    def deliver(self, lines: Sequence[bytes], *, when_sent: Callable[[], None] | None = None) -> bool:
        """Return True when these lines are acknowledged, False if told to stop before. `when_sent` is called before waiting for the ack."""
        self._chunks += 1
        chunk = base64.b64encode(f"{self._tag:.8s}{self._chunks:08d}".encode().ljust(16, b".")[:16]).decode()
        frame = packed_forward(self._tag, lines, chunk=chunk)
        tries = 0
        while not self._stop.is_set():
            try:
                if self._connection is None:
                    port = self._target.wait(self._stop)
                    if port is None:
                        return False
                    self._connection = Connection(port, timeout_s=self._ack_timeout_s)
                tries += 1
                self._connection.send(frame)
                if when_sent is not None:
                    when_sent()
                acknowledged = self._connection.acknowledged(timeout_s=self._ack_timeout_s)
            except (NotAcknowledged, OSError):
                self.close()
                self._stop.wait(0.005)
                continue
            assert acknowledged == chunk, (acknowledged, chunk)
            self.sent_again += tries - 1
            self.acknowledged_lines += len(lines)
            return True
        return False

    def interrupt(self) -> None:
        """From another thread: a wait for an ack ends."""
        connection = self._connection
        if connection is not None:
            connection.interrupt()

    def close(self) -> None:
        """Close the connection; the next `deliver` makes a new one."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()
