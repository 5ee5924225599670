"""What the webhook sink posts, how it signs it, and what follows from the answer. Pure.

Body: a JSON array of records, or the records one a line (NDJSON, each line ended). The records stand in it as in the outbox.

Signature, if there is a key: `X-Esa-Tls-Signature: t=SECONDS,sha256=HEX`, where HEX is HMAC-SHA256 with the key over `SECONDS`, a full
stop, and the body as it is sent (after compression). SECONDS is the time of sending, so that a receiver can turn away what somebody has
recorded.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Literal

import msgspec

from esa_tls.wire.json_batches import Entry
from esa_tls.wire.retry_after import SETTINGS_RETRY_S, retry_after_s

__all__ = ["CONTENT_TYPES", "SIGNATURE", "Form", "Verdict", "body_of", "classify", "signature"]

Form = Literal["array", "ndjson"]

CONTENT_TYPES: dict[Form, str] = {"array": "application/json", "ndjson": "application/x-ndjson"}

SIGNATURE = "X-Esa-Tls-Signature"


def body_of(batch: Sequence[Entry], form: Form) -> bytes:
    """The body of a request."""
    if form == "ndjson":
        return b"\n".join([entry.data for entry in batch]) + b"\n"
    return b"[" + b",".join([entry.data for entry in batch]) + b"]"


def signature(body: bytes, key: bytes, *, now_s: int) -> str:
    """The value of the header `SIGNATURE` for these bytes."""
    digest = hmac.new(key, str(now_s).encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={now_s},sha256={digest}"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from an answer.

    `done`: delivered. `retry`: the same again, not before `after_s`. `refused`: one of these records, or all, will be refused again.
    """

    then: Literal["done", "retry", "refused"]
    reason: str = ""
    after_s: float | None = None


_COME_AGAIN = frozenset({408, 425, 429})
_SETTINGS = frozenset({401, 402, 403, 404, 405, 406, 407, 410, 415, 421, 426, 431, 451, 501, 505})
"""Nothing is wrong with the records: credentials, address, or what the receiver is."""


def classify(status: int, *, retry_after: str | None = None, now_s: float = 0.0) -> Verdict:
    """What follows from an HTTP status. `retry_after`: the header; `now_s`: seconds since 1970, for dates in it."""
    if 200 <= status < 300:
        return Verdict(then="done")
    reason = f"http_{status}"
    if status in _SETTINGS or status < 400:
        return Verdict(then="retry", reason=reason, after_s=SETTINGS_RETRY_S)
    if status in _COME_AGAIN or status >= 500:
        return Verdict(then="retry", reason=reason, after_s=retry_after_s(retry_after, now_s=now_s))
    return Verdict(then="refused", reason=reason)
