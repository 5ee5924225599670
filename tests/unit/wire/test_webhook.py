from __future__ import annotations

import hashlib
import hmac
import json

import pytest

from esa_tls.wire.json_batches import Entry
from esa_tls.wire.retry_after import SETTINGS_RETRY_S
from esa_tls.wire.webhook import body_of, classify, signature

BATCH = [Entry(0, 0, number, "line", json.dumps({"n": number, "text": "ü,\n"}).encode()) for number in range(3)]


def test_an_array_holds_the_records() -> None:
    """One JSON array, the records' own bytes in it."""
    body = body_of(BATCH, "array")
    assert [0, 1, 2] == [record["n"] for record in json.loads(body)]
    assert b"[" + BATCH[0].data + b"," in body


def test_ndjson_is_a_record_a_line() -> None:
    """Each line ended, the last too."""
    body = body_of(BATCH, "ndjson")
    assert body.endswith(b"}\n")
    assert [one.data for one in BATCH] == body.splitlines()


def test_the_signature_is_what_the_manual_says() -> None:
    """HMAC-SHA256 over time, full stop and body; another body, time or key gives another one."""
    value = signature(b"[1]", b"key", now_s=1_700_000_000)
    assert value == "t=1700000000,sha256=" + hmac.new(b"key", b"1700000000.[1]", hashlib.sha256).hexdigest()
    assert len({value, signature(b"[2]", b"key", now_s=1_700_000_000), signature(b"[1]", b"kez", now_s=1_700_000_000)}) == 3
    assert value != signature(b"[1]", b"key", now_s=1_700_000_001)


@pytest.mark.parametrize(
    ("status", "then", "after_s"),
    [
        *((status, "done", None) for status in (200, 201, 202, 204)),
        *((status, "retry", SETTINGS_RETRY_S) for status in (301, 302, 307, 401, 403, 404, 405, 410, 415, 501)),
        *((status, "retry", None) for status in (408, 425, 429, 500, 502, 503, 504, 507, 599)),
        *((status, "refused", None) for status in (400, 409, 411, 413, 414, 418, 422)),
    ],
)
def test_what_follows_from_a_status(status: int, then: str, after_s: float | None) -> None:
    """Delivered, again, again once somebody has looked, or the fault of a record."""
    verdict = classify(status)
    assert (verdict.then, verdict.after_s) == (then, after_s)


@pytest.mark.parametrize("status", [429, 503])
def test_the_receiver_may_say_when_to_come_again(status: int) -> None:
    """In seconds or as a date; not for ever."""
    assert classify(status, retry_after="7").after_s == 7.0
    assert classify(status, retry_after="Wed, 21 Oct 2015 07:28:10 GMT", now_s=1_445_412_480.0).after_s == 10.0
    assert classify(status, retry_after="999999").after_s == 3600.0
    assert classify(status, retry_after="soon").after_s is None
