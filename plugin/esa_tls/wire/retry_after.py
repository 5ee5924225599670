"""When a server that did not take something is asked again: what it says itself, and what we say where somebody has to look. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_S = 3600.0
"""A server may ask for so much and no more: what it says is not trusted further."""

SETTINGS_RETRY_S = 30.0
"""How long at least to wait after an answer that somebody has to look at: a wrong address, token or index."""


def retry_after_s(header: str | None, *, now_s: float) -> float | None:
    """Seconds of a `Retry-After` header, which holds seconds or an HTTP date; None if there is nothing usable."""
    text = (header or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return min(max((date - datetime.fromtimestamp(now_s, UTC)).total_seconds(), 0.0), MAX_RETRY_AFTER_S)
