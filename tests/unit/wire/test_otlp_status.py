"""Answers and what follows from them, against google.rpc's own messages; the tables of docs/wires.md 2.1 and 2.2."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 2.6)

from __future__ import annotations

import json

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from esa_tls.wire.otlp_status import (
    JSON,
    PROTOBUF,
    RETRY_INFO,
    STATUS_DETAILS,
    Answer,
    after_grpc,
    after_http,
    http_status,
    partial_success_of,
    response_body,
    retry_info_of,
    retry_trailers,
    status_body,
)
from esa_tls.wire.retry_after import MAX_RETRY_AFTER_S

BUSY = Answer(code=14, message="busy", retry_after_s=5)


def test_the_vectors_of_the_contract() -> None:
    """The bytes that the digest gives for a RetryInfo status, a plain status, a partial success and an empty success."""
    assert (
        status_body(BUSY).hex()
        == "080e1204627573791a300a28747970652e676f6f676c65617069732e636f6d2f676f6f676c652e7270632e5265747279496e666f12040a020805"
    )
    assert dict(retry_trailers(BUSY)) == {STATUS_DETAILS: status_body(BUSY), RETRY_INFO: bytes.fromhex("0a020805")}
    assert status_body(Answer(code=3, message="bad")).hex() == "08031203626164"
    assert json.loads(status_body(Answer(code=3, message="bad"), JSON)) == {"code": 3, "message": "bad"}
    assert response_body(Answer(rejected=1, message="bad")).hex() == "0a0708011203626164"
    assert json.loads(response_body(Answer(rejected=1, message="bad"), JSON)) == {
        "partialSuccess": {"rejectedLogRecords": "1", "errorMessage": "bad"}
    }
    assert response_body(Answer()) == b""
    assert response_body(Answer(), JSON) == b"{}"
    assert retry_trailers(Answer(code=8)) == ()


@given(st.integers(0, 16), st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 2**62), st.none() | st.integers(0, 10**6))
def test_bytes_are_what_the_runtime_reads(code: int, message: str, rejected: int, seconds: int | None) -> None:
    """Status, RetryInfo and response, field by field."""
    answer = Answer(code=code, message=message, rejected=rejected, retry_after_s=seconds)
    status = status_pb2.Status.FromString(status_body(answer))
    assert (code, message) == (status.code, status.message)
    if seconds is None:
        assert not status.details
    else:
        info = error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(info)
        assert info.retry_delay.seconds == seconds
        assert error_details_pb2.RetryInfo.FromString(dict(retry_trailers(answer))[RETRY_INFO]) == info
    response = ExportLogsServiceResponse.FromString(response_body(answer))
    assert (rejected, message) == (response.partial_success.rejected_log_records, response.partial_success.error_message)
    assert response.HasField("partial_success") == bool(rejected or message)
    for media_type in (PROTOBUF, JSON):
        assert partial_success_of(response_body(answer, media_type), media_type) == (rejected, message)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (Answer(), 200),
        (Answer(code=3), 400),
        (Answer(code=16), 401),
        (Answer(code=7), 403),
        (Answer(code=8), 413),
        (Answer(code=8, retry_after_s=1), 429),
        (BUSY, 503),
        (Answer(code=4), 503),
        (Answer(code=2), 500),
    ],
)
def test_http_statuses(answer: Answer, status: int) -> None:
    """Retryable codes are 503, RESOURCE_EXHAUSTED 429 or, for good, 413."""
    assert status == http_status(answer)


RETRYABLE = {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
SETTINGS = {"UNAUTHENTICATED", "PERMISSION_DENIED", "UNIMPLEMENTED"}


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK], ids=lambda code: code.name)
def test_O11_grpc_codes(code: grpc.StatusCode) -> None:
    """The table of the specification; RESOURCE_EXHAUSTED is tried again only with RetryInfo, under either key."""
    number = code.value[0]
    then = "retry" if code.name in RETRYABLE else "settings" if code.name in SETTINGS else "refused"
    assert then == after_grpc(number, "m").then
    for trailer in retry_trailers(Answer(code=number, retry_after_s=7)):
        verdict = after_grpc(number, "m", [("other", "text"), trailer])
        assert verdict.then == ("retry" if code.name == "RESOURCE_EXHAUSTED" else then)
        if verdict.then == "retry":
            assert verdict.after_s == 7


@pytest.mark.parametrize("status", range(300, 600))
def test_O11_http_statuses(status: int) -> None:
    """429, 502, 503 and 504 are tried again, and honour Retry-After; 500 and 408 are not."""
    verdict = after_http(status, retry_after="2", message="m")
    expected = "retry" if status in (429, 502, 503, 504) else "settings" if status in (401, 403, 404, 405, 407) else "refused"

    assert expected == verdict.then
    if expected == "retry":
        assert verdict.after_s == 2


def test_other_peoples_retry_info() -> None:
    """Fractions are kept, negative and absurd delays are cut, other details are stepped over, and broken ones ignored."""

    def details(*packed: AnyMessage) -> list[tuple[str, str | bytes]]:
        return [(STATUS_DETAILS, status_pb2.Status(code=14, details=list(packed)).SerializeToString())]

    info, other = AnyMessage(), AnyMessage()
    other.Pack(error_details_pb2.ErrorInfo(reason="x"))
    for seconds, nanos, expected in ((1, 500_000_000, 1.5), (-5, 0, 0.0), (10**9, 0, MAX_RETRY_AFTER_S), (0, 0, 0.0)):
        made = error_details_pb2.RetryInfo()
        made.retry_delay.seconds, made.retry_delay.nanos = seconds, nanos
        info.Pack(made)
        assert expected == retry_info_of(details(other, info))
    assert retry_info_of(details(other)) is None
    assert retry_info_of([(STATUS_DETAILS, b"\xff"), (RETRY_INFO, b"\xff\xff"), (RETRY_INFO, "text")]) is None
    assert retry_info_of([(STATUS_DETAILS, b"\xff"), (RETRY_INFO, b"\x0a\x02\x08\x05")]) == 5


@pytest.mark.parametrize(
    ("body", "media_type", "expected"),
    [
        (b"", PROTOBUF, (0, "")),
        (b"\x0a\x00", PROTOBUF, (0, "")),
        (b"{}", JSON, (0, "")),
        (b'{"partialSuccess":{}}', JSON, (0, "")),
        (b'{"partialSuccess":null}', JSON, (0, "")),
        (b'{"partialSuccess":{"rejectedLogRecords":3}}', JSON, (3, "")),
        (b'{"partialSuccess":{"rejectedLogRecords":"x"}}', JSON, (0, "")),
        (b"", JSON, (0, "")),
        (b"\xff\xff", PROTOBUF, (0, "")),
        (b"\x0a\x0b\x08" + b"\xff" * 9 + b"\x01", PROTOBUF, (0, "")),
    ],
)
def test_responses_of_other_servers(body: bytes, media_type: str, expected: tuple[int, str]) -> None:
    """Every way to say full success; what cannot be read, or a negative count, is no reason to send again."""
    assert expected == partial_success_of(body, media_type)
