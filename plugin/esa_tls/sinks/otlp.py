"""The `otlp` sink: an OTLP client over gRPC or HTTP (docs/wires.md 2.1, 2.2, as a client).

Rules:

1. One resource per appliance; requests of at most `max_request_bytes` before compression, one at a time, so that order is kept.
2. What follows from an answer is decided in `wire/otlp_status.py`: again, never again, or somebody has to look at the settings (then it
   is tried again too, slowly, and health says so: a wrong token is no reason to lose records).
3. A refused request is cut in halves until single records are refused: those are named to the dispatcher, everything else is delivered.
   A record that alone is over the limit can never be sent and is named too.
4. Partial success is never sent again. If the server rejected all records of a request they are named; of some, nobody knows which:
   they are counted and the server's words logged.
5. Requests that were taken before another one of the same `send` failed are not sent again while the process lives.
6. Endpoints are tried in their order as long as one cannot be reached; an answer, whatever it says, is the answer.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import grpc
import grpc.aio
import xxhash

from esa_tls import __version__, telemetry
from esa_tls.core.batch import Row
from esa_tls.core.protobuf import fields
from esa_tls.core.records import KINDS
from esa_tls.errors import MalformedMessage, TransientError
from esa_tls.runtime.dispatch import RecordsRejected, Rejection
from esa_tls.sinks.http_client import HttpClient, Unreached, gzipped
from esa_tls.wire.otlp_encode import Cut, Request, cut_requests, split
from esa_tls.wire.otlp_status import JSON, PROTOBUF, Verdict, after_grpc, after_http, partial_success_of

log = logging.getLogger(__name__)


DEFAULT_MAX_REQUEST_BYTES = 4 << 20
"""What a gRPC server takes when nobody told it otherwise."""

MAX_RESPONSE_BYTES = 4 << 20

METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


class Transport(Protocol):
    """One way to bring a request to a server."""

    async def export(self, body: bytes) -> Verdict:
        """Send an `ExportLogsServiceRequest` and say what follows from the answer. Raises nothing for what a server or a network does."""
        ...

    async def close(self) -> None:
        """Close all connections; safe twice and before the first request."""
        ...


# -- gRPC ------------------------------------------------------------------------------------------------------------------------
class GrpcTransport:
    """`LogsService/Export` on the first of `endpoints` (`HOST:PORT`) that can be reached.

    `credentials`: gives those of TLS; asked at each request, and with others channels are made anew. None = plain text.
    `server_name`: what the server's certificate has to carry, if it is not the endpoint's host.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        headers: Mapping[str, str] | None = None,
        gzip: bool = True,
        timeout_s: float = 10.0,
        credentials: Callable[[], grpc.ChannelCredentials] | None = None,
        server_name: str | None = None,
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._metadata = tuple((key.lower(), value) for key, value in (headers or {}).items())
        self._compression = grpc.Compression.Gzip if gzip else grpc.Compression.NoCompression
        self._timeout_s = timeout_s
        self._credentials = credentials
        self._server_name = server_name
        self._used: grpc.ChannelCredentials | None = None
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def export(self, body: bytes) -> Verdict:
        """See `Transport`."""
        credentials = None if self._credentials is None else self._credentials()
        if credentials is not self._used:
            await self.close()
            self._used = credentials
        verdict: Verdict | None = None
        for endpoint in self._endpoints:
            # no (de)serializers: bytes in, bytes out
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel(endpoint).unary_unary(METHOD)
            try:
                response = await call(body, timeout=self._timeout_s, metadata=self._metadata, compression=self._compression)
            except grpc.aio.AioRpcError as error:
                code = error.code()
                trailers = [(key, value) for key, value in error.trailing_metadata() or ()]
                message = f"{endpoint}: {error.details() or code.name}"
                verdict = after_grpc(code.value[0], message, trailers, reason=f"grpc_{code.name.lower()}")
                if code is grpc.StatusCode.UNAVAILABLE and verdict.after_s is None:
                    continue  # not reached, as far as one can tell
                return verdict
            rejected, message = partial_success_of(response)
            return Verdict(then="done", rejected=rejected, message=message)
        assert verdict is not None
        return verdict

    async def close(self) -> None:
        """See `Transport`."""
        channels, self._channels = self._channels, {}
        for channel in channels.values():
            await channel.close()

    def _channel(self, endpoint: str) -> grpc.aio.Channel:
        channel = self._channels.get(endpoint)
        if channel is None:
            options: list[tuple[str, str | int]] = [
                ("grpc.enable_retries", 0),  # the dispatcher's business
                ("grpc.initial_reconnect_backoff_ms", 500),
                ("grpc.max_reconnect_backoff_ms", 5_000),  # the default is two minutes after a server came back
                ("grpc.keepalive_time_ms", 310_000),  # servers allow a ping in five minutes by default
                ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
            ]
            if self._server_name is not None:
                options.append(("grpc.ssl_target_name_override", self._server_name))
            if self._used is None:
                channel = grpc.aio.insecure_channel(endpoint, options=options)
            else:
                channel = grpc.aio.secure_channel(endpoint, self._used, options=options)
            self._channels[endpoint] = channel
        return channel


# -- HTTP ------------------------------------------------------------------------------------------------------------------------
class HttpTransport:
    """`POST {endpoint}/v1/logs` in protobuf, to the first of `endpoints` (base URLs) that can be reached. `client` is closed with it."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        client: HttpClient | None = None,
        headers: Mapping[str, str] | None = None,
        gzip: bool = True,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._urls = tuple(endpoint.rstrip("/") + "/v1/logs" for endpoint in endpoints)
        self._client = client or HttpClient(timeout_s=10.0, max_response_bytes=MAX_RESPONSE_BYTES)
        self._headers = {**(headers or {}), "Content-Type": PROTOBUF}
        if gzip:
            self._headers["Content-Encoding"] = "gzip"
        self._gzip = gzip
        self._now_s = now_s

    async def export(self, body: bytes) -> Verdict:
        """See `Transport`."""
        try:
            response = await self._client.post_first(self._urls, await gzipped(body) if self._gzip else body, self._headers)
        except Unreached as error:
            return Verdict(then="retry", reason="connect", message=str(error))
        except TransientError as error:
            return Verdict(then="retry", reason=type(error.__cause__ or error).__name__, message=str(error))
        if 200 <= response.status < 300:
            rejected, message = partial_success_of(response.body, JSON if response.media_type == JSON else PROTOBUF)
            return Verdict(then="done", rejected=rejected, message=message)
        message = f"{response.url}: {response.status} {_said(response.body, response.media_type)}".rstrip()
        return after_http(response.status, retry_after=response.retry_after, message=message, now_s=self._now_s())

    async def close(self) -> None:
        """See `Transport`."""
        await self._client.close()


def _said(body: bytes, media_type: str) -> str:
    """What an error's body says, for people."""
    if media_type == PROTOBUF:
        try:
            message = dict(fields(body)).get(2, b"")
        except MalformedMessage:
            message = b""
        body = message if isinstance(message, bytes) else b""
    return body[:300].decode("utf-8", "backslashreplace")


# -- the sink --------------------------------------------------------------------------------------------------------------------
class OtlpSink:
    """See the module. Sizes in bytes. `counters`: where records are counted that a server rejected without saying which."""

    encoding = "otlp"

    def __init__(
        self,
        transport: Transport,
        *,
        name: str = "otlp",
        cls_wanted: tuple[str, ...] = ("line", "summary"),
        kinds: frozenset[str] = frozenset(KINDS),
        max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES,
        counters: telemetry.Counters | None = None,
    ) -> None:
        self.name = name
        self.cls_wanted = cls_wanted
        self.kinds = kinds
        self._transport = transport
        self._max_request_bytes = max_request_bytes
        self._counters = counters
        self._taken: set[bytes] = set()
        """Requests that are done with since a `send` last ended: what a repeated `send` leaves out."""
        self._rejections: list[Rejection] = []
        self._closed = False

    async def open(self, state: bytes | None) -> None:
        """Nothing to do: connections are made when there is something to send."""

    def state(self) -> bytes | None:
        """None: the server keeps what it took."""
        return None

    async def send(self, rows: list[tuple[int, Row]]) -> None:
        """Return when the server has taken every request. Raises TransientError, or RecordsRejected for records it never will."""
        if self._closed:
            raise TransientError("otlp: closed")
        segments = [
            (at, number, count, body)
            for at, (_, row) in enumerate(rows)
            for number, (kind, count, body) in enumerate(row.segments)
            if kind in self.kinds
        ]
        requests, too_large = cut_requests(segments, max_bytes=self._max_request_bytes, version=__version__)
        for request in requests:
            await self._deliver(request, rows)
        rejections = self._rejections + [
            Rejection(
                cut.row, cut.segment, cut.first, "too_large", f"the record has {size} bytes, a request takes {self._max_request_bytes}"
            )
            for cut, size in too_large.items()
        ]
        self._taken.clear()
        self._rejections = []
        if rejections:
            raise RecordsRejected(f"otlp: {len(rejections)} records refused", rejections)

    async def close(self) -> None:
        """Close all connections; a later `send` fails."""
        self._closed = True
        await self._transport.close()

    async def _deliver(self, request: Request, rows: list[tuple[int, Row]]) -> None:
        """Bring one request to the server, in parts where it refuses some of it. Raises TransientError."""
        waiting = [request]
        while waiting:
            one = waiting.pop()
            key = xxhash.xxh3_128_digest(one.body)
            if key in self._taken:
                continue
            verdict = await self._transport.export(one.body)
            if verdict.then in ("retry", "settings"):
                raise TransientError(f"otlp: {verdict.reason}: {verdict.message}", retry_after_s=verdict.after_s)
            if verdict.then == "refused":
                halves = split(one, lambda cut: rows[cut.row][1].segments[cut.segment][2], version=__version__)
                if halves is not None:
                    waiting += (halves[1], halves[0])
                    continue
                self._reject(one.cuts, verdict.reason, verdict.message)
            elif verdict.rejected >= one.records:
                self._reject(one.cuts, "partial_success", verdict.message)
            elif verdict.rejected:
                self._some_rejected(verdict)
            elif verdict.message:
                log.warning("The server took everything and says: %s", verdict.message[:300], extra={"sink": self.name})
            self._taken.add(key)

    def _reject(self, cuts: Sequence[Cut], reason: str, detail: str) -> None:
        self._rejections += [
            Rejection(cut.row, cut.segment, record, reason, detail) for cut in cuts for record in range(cut.first, cut.after)
        ]

    def _some_rejected(self, verdict: Verdict) -> None:
        log.error(
            "The server rejected %d records of a request for good, without saying which: %s",
            verdict.rejected,
            verdict.message[:300],
            extra={"sink": self.name},
        )
        if self._counters is not None:
            self._counters.add(telemetry.SINK_REJECTED, verdict.rejected, sink=self.name, reason="partial_success")


def make_transport(
    protocol: Literal["grpc", "http"],
    endpoints: Sequence[str],
    *,
    headers: Mapping[str, str],
    gzip: bool,
    timeout_s: float,
    tls: Callable[[], ssl.SSLContext] | None = None,
    credentials: Callable[[], grpc.ChannelCredentials] | None = None,
    server_name: str | None = None,
) -> Transport:
    """The transport of a protocol. `tls` is for http, `credentials` for grpc."""
    if protocol == "grpc":
        return GrpcTransport(endpoints, headers=headers, gzip=gzip, timeout_s=timeout_s, credentials=credentials, server_name=server_name)
    client = HttpClient(timeout_s=timeout_s, tls=tls, server_name=server_name, max_response_bytes=MAX_RESPONSE_BYTES)
    return HttpTransport(endpoints, client=client, headers=headers, gzip=gzip)
