"""`esa-tls send`: log files to a Forward or OTLP receiver, as a shipper would send them.

Forward: each line becomes a record `{"log": line}` under one tag with the time of sending (to the nanosecond); a line that is no UTF-8
goes as bin, as Fluentd does it. OTLP (over gRPC): each line is the body of a log record, as bytes if it is no UTF-8; there is no tag.
Three clients:

- ours for OTLP: one request after the other; one that was not answered with success is sent again until it is, the same bytes each time.
- ours for Forward: PackedForward frames with a chunk id, one after the other; each is acknowledged before the next. A frame that was not
  acknowledged is sent again with the same id and the same bytes until it is, so that the receiver can tell it from new lines. The first
  connection has to succeed (a wrong port or key is an error at once); later ones are tried again with back-off for ever.
- `fluent-logger`, the PyPI client: one message per line and **no acknowledgement**, so what was on its way when the connection broke
  may be lost, unseen (`SendResult.acknowledged` is false).

Ours speak TLS, show a client certificate, shake hands by shared key and user (Forward) and show a bearer token (OTLP); the PyPI client can
none of that, and is refused with it. Secrets are never printed and never come from the command line.

Chunk ids are random per frame: two frames of equal lines are two frames. Standard input goes out in full batches as well, the last one
when it ends: this replays logs, it follows none. Nothing is printed.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import struct
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgpack
import msgspec

from esa_tls.config import ClientTls, Secret
from esa_tls.errors import ConfigError, TransientError
from esa_tls.offline.files import open_lines
from esa_tls.runtime.dispatch import Backoff
from esa_tls.runtime.streams import own_hostname
from esa_tls.runtime.tls import client_contexts, grpc_channel_credentials
from esa_tls.sinks.fluent import DEFAULT_PORT, ForwardConnection
from esa_tls.sinks.fluent_upstreams import Receiver, Upstreams, told
from esa_tls.sinks.otlp import make_transport
from esa_tls.wire.fluent_encode import CHUNK_ID_RANDOM_BYTES, encode_packed_forward, new_chunk_id
from esa_tls.wire.fluent_handshake import ClientCredentials

Client = Literal["esa-tls", "fluent-logger"]

Address = tuple[str, int]
"""Host and port."""

OTLP_PORT = 4317
"""Where OTLP over gRPC is served by default."""

DEFAULT_TAG = "esa.mail"
DEFAULT_BATCH_LINES = 1000
MAX_BATCH_BYTES = 4 * 1024 * 1024
"""Lines of one frame together; Fluent Bit's receiver takes up to 6,144,000 bytes."""

FIRST_TRIES = 5
"""Of the first OTLP request, while there is no answer that says to come again."""

STEPS_PER_S = 10
"""With a rate, batches are so small that at least this many leave in a second."""


class SendResult(msgspec.Struct, frozen=True):
    """What was sent: `lines` in `batches`, of which `resent` were repetitions; whether the receiver acknowledged them."""

    lines: int = 0
    batches: int = 0
    resent: int = 0
    acknowledged: bool = True


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How to get in. `tls`: None = plain text. `shared_key` with `username` and `password` are for Forward, `token` is for OTLP."""

    tls: ClientTls | None = None
    shared_key: Secret | None = None
    username: str | None = None
    password: Secret | None = None
    token: Secret | None = None


Progress = Callable[[SendResult], None]


def run(
    files: Sequence[str | Path],
    to: str,
    *,
    rate: float | None = None,
    client: Client = "esa-tls",
    access: Access | None = None,
    tag: str = DEFAULT_TAG,
    batch_lines: int = DEFAULT_BATCH_LINES,
    progress: Progress | None = None,
) -> SendResult:
    """`send` for callers without an event loop."""
    return asyncio.run(send(files, to, rate=rate, client=client, access=access, tag=tag, batch_lines=batch_lines, progress=progress))


async def send(
    files: Sequence[str | Path],
    to: str,
    *,
    rate: float | None = None,
    client: Client = "esa-tls",
    access: Access | None = None,
    tag: str = DEFAULT_TAG,
    batch_lines: int = DEFAULT_BATCH_LINES,
    progress: Progress | None = None,
    connect_timeout_s: float = 10.0,
    ack_timeout_s: float = 60.0,
    clock: Callable[[], float] = time.monotonic,
    wall_clock_ns: Callable[[], int] = time.time_ns,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    uniform: Callable[[float, float], float] = random.uniform,
) -> SendResult:
    """Send every line of `files` (`-`: standard input) to `forward://host:port` or `otlp://host:port`, at most `rate` lines/s.

    `progress` is called after each batch.

    Raises ConfigError for an address or setting that cannot be used, TransientError if there is no receiver or it does not let us in
    (fluent-logger: also if lines were lost knowingly), OSError for a file that cannot be read (what came before it was sent).
    """
    scheme, upstream = parse_destination(to)
    access = access or Access()
    _check(access, scheme=scheme, client=client)
    if batch_lines < 1 or (rate is not None and rate <= 0):
        message = "send: batch_lines must be at least 1 and rate above 0"
        raise ConfigError(message)
    if rate is not None:
        batch_lines = max(1, min(batch_lines, int(rate / STEPS_PER_S)))
    sender: _Acknowledged | _Unacknowledged | _Otlp
    if scheme == "otlp":
        sender = _Otlp(
            upstream,
            access,
            timeout_s=ack_timeout_s,
            connect_timeout_s=connect_timeout_s,
            wall_clock_ns=wall_clock_ns,
            sleep=sleep,
            uniform=uniform,
        )
    elif client == "esa-tls":
        upstreams = Upstreams(
            [Receiver(*upstream, credentials=_credentials(access))],
            tls=None if access.tls is None else client_contexts(access.tls, owner="send"),
            server_name=None if access.tls is None else access.tls.server_name,
            connect_timeout_s=connect_timeout_s,
        )
        connection = ForwardConnection(upstreams, ack_timeout_s=ack_timeout_s)
        sender = _Acknowledged(connection, tag=tag, wall_clock_ns=wall_clock_ns, sleep=sleep, uniform=uniform)
    else:
        sender = _Unacknowledged(upstream, tag=tag, timeout_s=connect_timeout_s, wall_clock_ns=wall_clock_ns)
    result = SendResult(acknowledged=client == "esa-tls")
    try:
        await sender.connect()
        started_s = clock()
        for batch in _batches(files, batch_lines=batch_lines):
            if rate is not None and (wait_s := started_s + result.lines / rate - clock()) > 0:
                await sleep(wait_s)
            resent = await sender.send(batch)
            result = SendResult(result.lines + len(batch), result.batches + 1, result.resent + resent, result.acknowledged)
            if progress is not None:
                progress(result)
    finally:
        await sender.close()
    sender.check()
    return result


def parse_destination(to: str) -> tuple[str, Address]:
    """`forward://host[:port]` or `otlp://host[:port]` as (scheme, (host, port)). Raises ConfigError for anything else."""
    try:
        url = urlsplit(to)
        port = url.port
    except ValueError as error:
        message = f"send: {to!r} is no address ({error})"
        raise ConfigError(message) from error
    default = {"forward": DEFAULT_PORT, "otlp": OTLP_PORT}.get(url.scheme)
    if default is None or not url.hostname or url.path not in ("", "/") or url.query or url.fragment or url.username:
        message = f"send: {to!r} is not of the form forward://host:port or otlp://host:port"
        raise ConfigError(message)
    return url.scheme, (url.hostname, default if port is None else port)


def _check(access: Access, *, scheme: str, client: Client) -> None:
    """Raises ConfigError for what does not fit the protocol or the client."""
    message = None
    if client == "fluent-logger" and scheme == "otlp":
        message = "fluent-logger speaks Forward only; use forward://host:port"
    elif client == "fluent-logger" and access != Access():
        message = "fluent-logger knows neither TLS nor a shared key; use our own client"
    elif scheme == "otlp" and (access.shared_key or access.username or access.password):
        message = "a shared key and a user belong to Forward; OTLP takes a token"
    elif scheme == "forward" and access.token:
        message = "a token belongs to OTLP; Forward takes a shared key"
    elif (access.username is None) != (access.password is None):
        message = "a user needs a password, and a password a user"
    elif access.username is not None and access.shared_key is None:
        message = "a user needs the shared key as well (it may be empty)"
    if message is not None:
        raise ConfigError(f"send: {message}")


def _credentials(access: Access) -> ClientCredentials | None:
    """What we know for the handshake of Forward; None: there is none."""
    if access.shared_key is None:
        return None
    password = None if access.password is None else access.password.reveal().encode()
    try:
        return ClientCredentials(
            shared_key=access.shared_key.reveal().encode(), hostname=own_hostname(), username=access.username, password=password
        )
    except ValueError as error:
        raise ConfigError(f"send: {error}") from error


def _batches(files: Sequence[str | Path], *, batch_lines: int) -> Iterator[list[bytes]]:
    """Lines of all files in order, `batch_lines` at a time or less when they are long."""
    batch: list[bytes] = []
    size = 0
    for path in files:
        for line in open_lines(path):
            if batch and (len(batch) == batch_lines or size + len(line) > MAX_BATCH_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(line)
            size += len(line)
    if batch:
        yield batch


def _event_time(ns: int) -> msgpack.ExtType:
    return msgpack.ExtType(0, struct.pack(">II", *divmod(ns, 10**9)))


def _record(line: bytes) -> dict[str, str | bytes]:
    try:
        return {"log": line.decode()}
    except UnicodeDecodeError:
        return {"log": bytes(line)}


class _Acknowledged:
    """Our client: `send` returns when the batch is acknowledged, with the number of repetitions."""

    def __init__(
        self,
        connection: ForwardConnection,
        *,
        tag: str,
        wall_clock_ns: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]],
        uniform: Callable[[float, float], float],
    ) -> None:
        self._connection = connection
        self._tag = tag
        self._wall_clock_ns = wall_clock_ns
        self._sleep = sleep
        self._uniform = uniform
        self._backoff = Backoff()
        self._let_in = False

    async def connect(self) -> None:
        await self._connection.connect()

    async def send(self, lines: list[bytes]) -> int:
        event_time = _event_time(self._wall_clock_ns())
        pack = msgpack.Packer(use_bin_type=True).pack
        entries = b"".join([pack((event_time, _record(line))) for line in lines])
        chunk = new_chunk_id(os.urandom(CHUNK_ID_RANDOM_BYTES))
        frame = encode_packed_forward(self._tag, entries, count=len(lines), chunk=chunk, gzip=False)
        failures = 0
        while True:
            try:
                await self._connection.exchange(frame, chunk)
            except TransientError as error:
                if not self._let_in and error.retry_after_s is not None:  # it wants a key or a certificate that we have not
                    raise
                failures += 1
                await self._sleep(self._backoff.delay_s(failures, uniform=self._uniform, retry_after_s=error.retry_after_s))
            else:
                self._let_in = True
                return failures

    async def close(self) -> None:
        await self._connection.close()

    def check(self) -> None:
        """Nothing can be lost unseen."""


class _Otlp:
    """Our OTLP client over gRPC: `send` returns when the request was answered with success, with the number of repetitions."""

    def __init__(
        self,
        upstream: Address,
        access: Access,
        *,
        timeout_s: float,
        connect_timeout_s: float,
        wall_clock_ns: Callable[[], int],
        sleep: Callable[[float], Awaitable[None]],
        uniform: Callable[[float, float], float],
    ) -> None:
        host, port = upstream
        self._upstream = upstream
        self._tls = access.tls
        self._server_name = host if access.tls is None or access.tls.server_name is None else access.tls.server_name
        self._connect_timeout_s = connect_timeout_s
        self._let_in = False
        self._client = make_transport(
            "grpc",
            [f"{f'[{host}]' if ':' in host else host}:{port}"],
            headers={} if access.token is None else {"authorization": f"Bearer {access.token.reveal()}"},
            gzip=False,
            timeout_s=timeout_s,
            credentials=None if access.tls is None else grpc_channel_credentials(access.tls, owner="send").current,
            server_name=None if access.tls is None else access.tls.server_name,
        )
        self._wall_clock_ns = wall_clock_ns
        self._sleep = sleep
        self._uniform = uniform
        self._backoff = Backoff()

    async def connect(self) -> None:
        """Look whether somebody listens and lets us in: gRPC itself would go on trying, and would not say why."""
        host, port = self._upstream
        tls = None if self._tls is None else client_contexts(self._tls, owner="send").current()
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                reader, writer = await asyncio.open_connection(host, port, ssl=tls, server_hostname=self._server_name if tls else None)
                try:
                    if tls is not None and not await reader.read(1):  # its word on our certificate comes after the handshake
                        raise ConnectionAbortedError("it closed the connection")
                finally:
                    writer.transport.abort()
        except ssl.SSLError as error:
            message = f"send: {host}:{port}: {told(error)}"
            raise TransientError(message) from error
        except OSError as error:  # TimeoutError is one
            message = f"send: nobody answers at {host}:{port} ({error.strerror or str(error) or 'no answer in time'})"
            raise TransientError(message) from error

    async def send(self, lines: list[bytes]) -> int:
        body = _otlp_request(lines, self._wall_clock_ns())
        failures = 0
        while True:
            verdict = await self._client.export(body)
            if verdict.then == "done":
                if verdict.rejected:
                    message = f"send: the receiver rejected {verdict.rejected} of {len(lines)} lines: {verdict.message}"
                    raise TransientError(message)
                self._let_in = True
                return failures
            if verdict.then != "retry":
                message = f"send: the receiver refused the lines: {verdict.reason} {verdict.message}"
                raise TransientError(message)
            failures += 1
            if not self._let_in and verdict.after_s is None and failures == FIRST_TRIES:  # somebody else listens there, or wants TLS
                message = f"send: no answer: {verdict.message}"
                raise TransientError(message)
            await self._sleep(self._backoff.delay_s(failures, uniform=self._uniform, retry_after_s=verdict.after_s))

    async def close(self) -> None:
        await self._client.close()

    def check(self) -> None:
        """Nothing can be lost unseen."""


def _otlp_request(lines: list[bytes], now_ns: int) -> bytes:
    """An `ExportLogsServiceRequest` with a record per line; the time of sending is the time it was observed, not the line's own."""
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest  # noqa: PLC0415 (only this client needs it)

    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for line in lines:
        record = records.add(observed_time_unix_nano=now_ns)
        try:
            record.body.string_value = line.decode()
        except UnicodeDecodeError:
            record.body.bytes_value = line
    return request.SerializeToString()


class _Unacknowledged:
    """The PyPI client, in a thread."""

    def __init__(self, upstream: Address, *, tag: str, timeout_s: float, wall_clock_ns: Callable[[], int]) -> None:
        from fluent.sender import FluentSender  # noqa: PLC0415 (only this client needs it)

        host, port = upstream
        self._upstream = upstream
        self._timeout_s = timeout_s
        self._wall_clock_ns = wall_clock_ns
        self._lost_bytes = 0
        self._logger = FluentSender(
            tag,
            host=host,
            port=port,
            timeout=timeout_s,
            bufmax=64 * 1024 * 1024,
            nanosecond_precision=True,
            buffer_overflow_handler=self._count_lost,
            forward_packet_error=False,
        )

    def _count_lost(self, pending: bytes) -> None:
        self._lost_bytes += len(pending)

    async def connect(self) -> None:
        """Only look whether somebody listens: the client itself connects at its first message and tells no error."""
        look = ForwardConnection(Upstreams([Receiver(*self._upstream)], connect_timeout_s=self._timeout_s))
        await look.connect()
        await look.close()

    async def send(self, lines: list[bytes]) -> int:
        await asyncio.to_thread(self._emit, lines)
        return 0

    def _emit(self, lines: list[bytes]) -> None:
        event_time = _event_time(self._wall_clock_ns())
        for line in lines:
            self._logger.emit_with_time(None, event_time, _record(line))  # False = kept by the client for its next try

    async def close(self) -> None:
        await asyncio.to_thread(self._logger.close)

    def check(self) -> None:
        if self._lost_bytes:
            message = f"send: fluent-logger could not send {self._lost_bytes} bytes and has no more room for them"
            raise TransientError(message)
