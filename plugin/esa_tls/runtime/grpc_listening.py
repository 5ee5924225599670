"""A gRPC server's limits and its address, the same for every one of ours: the OTLP source and our own service."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence

import grpc
import grpc.aio


def make_server(
    *,
    max_request_bytes: int,
    max_calls_per_session: int,
    idle_timeout_s: float,
    handshake_timeout_s: float,
    max_calls: int | None = None,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
    more: Sequence[tuple[str, int]] = (),
) -> grpc.aio.Server:
    """A server that listens nowhere yet. `max_calls`: of all senders, one more is refused; None: no limit. `more`: further options."""
    return grpc.aio.server(
        interceptors=interceptors,
        options=[
            ("grpc.so_reuseport", 0),  # else a second sidecar would get half of the connections
            ("grpc.max_receive_message_length", max_request_bytes),  # after decompression
            ("grpc.max_concurrent_streams", max_calls_per_session),
            ("grpc.max_connection_idle_ms", int(idle_timeout_s * 1000)),
            ("grpc.server_handshake_timeout_ms", int(handshake_timeout_s * 1000)),
            ("grpc.keepalive_time_ms", 60_000),  # finds half-open connections
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            *more,
        ],
        maximum_concurrent_rpcs=max_calls,
    )


async def bind(server: grpc.aio.Server, host: str, port: int, credentials: grpc.ServerCredentials | None) -> int:
    """Take the address, with TLS or in plain text, and return its port. Raises OSError, with the server stopped, if it cannot be had."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        _try_address(host, port)
        return server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials)
    except OSError:
        await server.stop(None)
        raise
    except RuntimeError as error:
        await server.stop(None)
        raise OSError(errno.EADDRNOTAVAIL, str(error)) from error


def _try_address(host: str, port: int) -> None:
    """Raises OSError, with the system's reason, if the address cannot be had; gRPC itself would print the reason and not tell it."""
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen(1)
