"""What OTLP servers answer and what a client does about it (docs/wires.md 2.1, 2.2; OTLP specification 1.11). Pure.

Both directions: `Answer` is what our servers decided, with its forms for gRPC and HTTP; `after_grpc` and `after_http` say what our
client has to do after somebody else's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Literal

import msgspec

from esa_tls.core.protobuf import field, fields, varint
from esa_tls.errors import MalformedMessage
from esa_tls.wire.retry_after import MAX_RETRY_AFTER_S, SETTINGS_RETRY_S, retry_after_s

__all__ = [
    "Answer",
    "Verdict",
    "after_grpc",
    "after_http",
    "http_status",
    "partial_success_of",
    "response_body",
    "retry_info_of",
    "retry_trailers",
    "status_body",
]

# gRPC status codes (google.rpc.Code).
OK = 0
CANCELLED = 1
UNKNOWN = 2
INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4
NOT_FOUND = 5
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
ABORTED = 10
OUT_OF_RANGE = 11
UNIMPLEMENTED = 12
UNAVAILABLE = 14
DATA_LOSS = 15
UNAUTHENTICATED = 16

STATUS_DETAILS = "grpc-status-details-bin"
"""Trailing metadata with a `google.rpc.Status`: what the Collector reads."""

RETRY_INFO = "google.rpc.retryinfo-bin"
"""Trailing metadata with a bare `RetryInfo`: what opentelemetry-python reads."""

_RETRY_INFO_URL = b"type.googleapis.com/google.rpc.RetryInfo"

PROTOBUF, JSON = "application/x-protobuf", "application/json"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says to one request. `rejected` records of an OK one are not taken, for good; `message` says why."""

    code: int = OK
    message: str = ""
    rejected: int = 0
    retry_after_s: int | None = None


# -- servers: bytes of an answer -------------------------------------------------------------------------------------------------
def response_body(answer: Answer, media_type: str = PROTOBUF) -> bytes:
    """An `ExportLogsServiceResponse`; `partial_success` is unset unless something is to be said."""
    if media_type == JSON:
        partial: dict[str, str] = {}
        if answer.rejected:
            partial["rejectedLogRecords"] = str(answer.rejected)
        if answer.message:
            partial["errorMessage"] = answer.message
        return json.dumps({"partialSuccess": partial} if partial else {}).encode()
    body = b"\x08" + varint(answer.rejected) if answer.rejected else b""
    if answer.message:
        body += field(2, answer.message.encode())
    return field(1, body) if body else b""


def status_body(answer: Answer, media_type: str = PROTOBUF) -> bytes:
    """A `google.rpc.Status`, with a RetryInfo where there is a time to wait."""
    seconds = answer.retry_after_s
    if media_type == JSON:
        status: dict[str, object] = {"code": answer.code, "message": answer.message}
        if seconds is not None:
            status["details"] = [{"@type": _RETRY_INFO_URL.decode(), "retryDelay": f"{seconds}s"}]
        return json.dumps(status).encode()
    body = b"\x08" + varint(answer.code) + (field(2, answer.message.encode()) if answer.message else b"")
    if seconds is not None:
        body += field(3, field(1, _RETRY_INFO_URL) + field(2, _retry_info(seconds)))
    return body


def retry_trailers(answer: Answer) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that tells both kinds of clients when to come again; none if there is no time to wait."""
    if answer.retry_after_s is None:
        return ()
    return ((STATUS_DETAILS, status_body(answer)), (RETRY_INFO, _retry_info(answer.retry_after_s)))


def _retry_info(seconds: int) -> bytes:
    return field(1, b"\x08" + varint(seconds))


_HTTP_STATUS = {
    OK: 200,
    INVALID_ARGUMENT: 400,
    UNAUTHENTICATED: 401,
    PERMISSION_DENIED: 403,
    UNIMPLEMENTED: 404,
    CANCELLED: 503,
    DEADLINE_EXCEEDED: 503,
    ABORTED: 503,
    OUT_OF_RANGE: 503,
    UNAVAILABLE: 503,
    DATA_LOSS: 503,
}


def http_status(answer: Answer) -> int:
    """The HTTP status of an answer: as the Collector maps them, but a request that is too large is 413, as the specification wants."""
    if answer.code == RESOURCE_EXHAUSTED:
        return 413 if answer.retry_after_s is None else 429
    return _HTTP_STATUS.get(answer.code, 500)


# -- clients: what to do after an answer -----------------------------------------------------------------------------------------
class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a client does next.

    `done`: delivered, but for `rejected` records. `retry`: the same again, not before `after_s`. `refused`: these records will fail
    again. `settings`: nothing is wrong with the records (credentials, address); trying again may help once somebody has looked.
    """

    then: Literal["done", "retry", "refused", "settings"]
    reason: str = ""
    message: str = ""
    after_s: float | None = None
    rejected: int = 0


_RETRYABLE_CODES = frozenset({CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS})
_SETTINGS_CODES = frozenset({UNAUTHENTICATED, PERMISSION_DENIED, UNIMPLEMENTED})
_RETRYABLE_STATUSES = frozenset({429, 502, 503, 504})
_SETTINGS_STATUSES = frozenset({401, 403, 404, 405, 407})


def after_grpc(code: int, message: str, trailers: Iterable[tuple[str, str | bytes]] = (), *, reason: str | None = None) -> Verdict:
    """What to do after a call that did not end with OK. `reason`: the code's name, for metrics."""
    after_s = retry_info_of(trailers)
    reason = reason or f"grpc_{code}"
    if code in _RETRYABLE_CODES or (code == RESOURCE_EXHAUSTED and after_s is not None):
        return Verdict(then="retry", reason=reason, message=message, after_s=after_s)
    if code in _SETTINGS_CODES:
        return Verdict(then="settings", reason=reason, message=message, after_s=SETTINGS_RETRY_S)
    return Verdict(then="refused", reason=reason, message=message)


def after_http(status: int, *, retry_after: str | None = None, message: str = "", now_s: float = 0.0) -> Verdict:
    """What to do after a response that is no success. `retry_after`: the header; `now_s`: seconds since 1970, for dates in it."""
    reason = f"http_{status}"
    if status in _RETRYABLE_STATUSES:
        return Verdict(then="retry", reason=reason, message=message, after_s=retry_after_s(retry_after, now_s=now_s))
    if status in _SETTINGS_STATUSES:
        return Verdict(then="settings", reason=reason, message=message, after_s=SETTINGS_RETRY_S)
    return Verdict(then="refused", reason=reason, message=message)


def retry_info_of(trailers: Iterable[tuple[str, str | bytes]]) -> float | None:
    """The retry delay in trailing metadata, under either key; None if there is none that can be read."""
    for key, value in trailers:
        if not isinstance(value, bytes):
            continue
        try:
            if key == STATUS_DETAILS:
                for number, detail in fields(value):
                    if number == 3 and isinstance(detail, bytes):
                        packed = dict(fields(detail))
                        url, inner = packed.get(1), packed.get(2, b"")
                        if isinstance(url, bytes) and url.endswith(b"google.rpc.RetryInfo") and isinstance(inner, bytes):
                            return _delay_of(inner)
            elif key == RETRY_INFO:
                return _delay_of(value)
        except MalformedMessage:
            continue
    return None


def _delay_of(retry_info: bytes) -> float:
    delay = dict(fields(retry_info)).get(1, b"")
    if not isinstance(delay, bytes):
        raise MalformedMessage("retry_delay is no message")
    parts = dict(fields(delay))
    seconds, nanoseconds = parts.get(1, 0), parts.get(2, 0)
    if not isinstance(seconds, int) or not isinstance(nanoseconds, int):
        raise MalformedMessage("a duration of another kind")
    if seconds >= 1 << 63:
        return 0.0  # negative
    return min(seconds + min(nanoseconds, 999_999_999) * 1e-9, MAX_RETRY_AFTER_S)


def partial_success_of(body: bytes, media_type: str = PROTOBUF) -> tuple[int, str]:
    """(rejected records, message) of a response to a success; (0, "") if it took everything, or says what nobody can read.

    An unreadable body of a success is a success: the server has answered, and a second try could only double the records.
    """
    try:
        if media_type == JSON:
            return _partial_of_json(body)
        for number, partial in fields(body):
            if number == 1 and isinstance(partial, bytes):
                parts = dict(fields(partial))
                rejected, message = parts.get(1, 0), parts.get(2, b"")
                if isinstance(rejected, int) and isinstance(message, bytes):
                    return (rejected if rejected < 1 << 63 else 0), message.decode("utf-8", "replace")
    except (MalformedMessage, ValueError):
        pass
    return 0, ""


class _Partial(msgspec.Struct, rename="camel"):
    rejected_log_records: int | str | None = None
    error_message: str | None = None


class _JsonResponse(msgspec.Struct, rename="camel"):
    partial_success: _Partial | None = None


def _partial_of_json(body: bytes) -> tuple[int, str]:
    partial = msgspec.json.decode(body, type=_JsonResponse).partial_success
    if partial is None:
        return 0, ""
    return max(int(partial.rejected_log_records or 0), 0), partial.error_message or ""
