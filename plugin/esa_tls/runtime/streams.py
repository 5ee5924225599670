"""Listening on and opening stream connections: TCP or a Unix socket, with TLS or without. For sources that speak a protocol of their own.

Rules of this file:

1. A connection is handed over as soon as it is accepted, before TLS: so whoever limits connections limits unfinished handshakes too.
   Nothing is read from it until `open_streams`.
2. A Unix socket gets its mode before anybody can connect. What lies at its path is replaced only if it is a socket nobody listens on.
3. Peers that vanished without a word are found by the system's keep-alive probes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import stat
from collections.abc import Callable

import msgspec

from esa_tls.runtime.tls import HANDSHAKE, Handshake

BACKLOG = 1024
"""Connections that may wait to be accepted: as many as a site's shippers that all come back at once."""

SHUTDOWN_TIMEOUT_S = 2.0
"""How long a peer may take to answer the end of TLS before the connection is cut."""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen or connect: `host` and `port`, or the `path` of a Unix socket, made with `mode`."""

    host: str = ""
    port: int = 0
    path: str | None = None
    mode: int = 0o660

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Listener:
    """A listening socket (or several: one per address of the host). `accepted` gets each connection, paused."""

    def __init__(self, server: asyncio.Server, address: Address, inode: int | None) -> None:
        self._server = server
        self._address = address
        self._inode = inode

    @property
    def port(self) -> int:
        """The port it listens on (the free one taken for port 0); 0 for a Unix socket."""
        return 0 if self._address.path is not None else int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """Stop listening; connections stay. Safe twice. A Unix socket's file is removed if it is still ours."""
        self._server.close()
        inode, self._inode = self._inode, None
        if inode is not None and self._address.path is not None:
            with contextlib.suppress(OSError):
                if os.stat(self._address.path).st_ino == inode:  # noqa: PTH116 (settings are texts)
                    os.unlink(self._address.path)  # noqa: PTH108


async def listen(address: Address, accepted: Callable[[asyncio.Transport], None]) -> Listener:
    """Listen on `address`. Raises OSError if it cannot be had."""
    loop = asyncio.get_running_loop()

    def factory() -> asyncio.Protocol:
        return _Accepting(accepted)

    if address.path is None:
        server = await loop.create_server(factory, address.host, address.port, backlog=BACKLOG)
        return Listener(server, address, None)
    sock = _unix_socket(address.path, address.mode)
    try:
        inode = os.stat(address.path).st_ino  # noqa: PTH116
        server = await loop.create_unix_server(factory, sock=sock, backlog=BACKLOG)
    except BaseException:
        sock.close()
        raise
    return Listener(server, address, inode)


async def open_streams(
    transport: asyncio.Transport, *, tls: ssl.SSLContext | None, handshake_timeout_s: float, limit: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Begin to read from an accepted connection, after the TLS handshake if there is to be one.

    `limit`: bytes read ahead, half of what is buffered at most. Raises TimeoutError (no handshake in time), or another OSError: the
    peer went away, or was refused, which the context's `Refusals` know already. The connection is then closed.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    if tls is None:
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        transport.resume_reading()
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
    protocol = _OverTls(reader, loop=loop)
    handshake = Handshake(peer_name(transport))
    token = HANDSHAKE.set(handshake)  # OpenSSL's callbacks run in a copy of this context
    try:
        secured = await loop.start_tls(
            transport, protocol, tls, server_side=True, ssl_handshake_timeout=handshake_timeout_s, ssl_shutdown_timeout=SHUTDOWN_TIMEOUT_S
        )
    except ConnectionAbortedError as error:  # asyncio's word for it
        if handshake.refused:
            raise
        raise TimeoutError(errno.ETIMEDOUT, f"no TLS handshake within {handshake_timeout_s:g} s") from error
    except BaseException:
        transport.abort()
        raise
    finally:
        HANDSHAKE.reset(token)
    # A peer that has sent all it had may have closed before this task runs again: what it sent is in the reader. Closed altogether, there
    # is no transport over TLS any more.
    secured = secured if secured is not None else transport
    protocol.connection_made(secured)
    return reader, asyncio.StreamWriter(secured, protocol, reader, loop)


def peer_name(transport: asyncio.BaseTransport) -> str:
    """The peer's address without its port; of a Unix socket `unix:` and the socket's path."""
    name = transport.get_extra_info("peername")
    if isinstance(name, tuple) and name:
        return str(name[0])
    own = transport.get_extra_info("sockname")
    return f"unix:{own}" if isinstance(own, str) else ""


def keep_alive(sock: socket.socket) -> None:
    """Let the system notice a peer that vanished while nothing is under way: after 30 s idle, three probes 10 s apart."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


class _OverTls(asyncio.StreamReaderProtocol):
    """Knows that TLS has no half-closed connections, which asyncio finds out only from a transport that it made before the handshake."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


class _Accepting(asyncio.Protocol):
    """Hands a new connection over; whoever takes it puts its own protocol in place of this one."""

    def __init__(self, accepted: Callable[[asyncio.Transport], None]) -> None:
        self._accepted = accepted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()  # the loop begins to read after this call only
        sock = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # gone already
            keep_alive(sock)
        self._accepted(transport)


def _unix_socket(path: str, mode: int) -> socket.socket:
    """A bound socket at `path`, not listening yet."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_left_over(path):
                raise
            os.unlink(path)  # noqa: PTH108
            sock.bind(path)
        os.chmod(path, mode)  # noqa: PTH101 (nobody can connect before it listens)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _is_left_over(path: str) -> bool:
    """Whether `path` is a socket that nobody listens on, as it stays behind after a crash."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):  # noqa: PTH116
            return False
    except OSError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def own_hostname() -> str:
    """How this machine calls itself to Forward peers: its full name, and never "localhost", as that is what many of them are called."""
    for name in (socket.getfqdn(), socket.gethostname()):
        if name and not name.startswith("localhost"):
            return name
    return "esa-tls"
