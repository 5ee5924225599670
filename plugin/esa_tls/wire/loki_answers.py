"""What a Loki answers to a push request, and what follows from it (docs/wires.md 4.1, 4.2). Pure.

After a 400 the valid entries of the request are stored, and only the others are refused. Which those are is told in words: errors that
read alike are counted and not repeated, times are whole seconds, of entries that are too far behind ten are named. What the words leave
open is worked out from the rules behind them, for a request of one stream whose entries are in the order of their times:

==============================================  =================================================================================
`timestamp too old`, with the oldest it takes   every entry before that time; of the same second as many as were counted
`timestamp too new`, with the time              every entry later than the oldest of these; of its second as many as were counted
`too far behind`, with a total and a time       the oldest entries, as many as the total says
a line or metadata above a limit                every entry above the limit that is told
a label that is refused                         all
==============================================  =================================================================================

Where this does not add up (a text was cut off, one error hides another) an entry is unclear, and has to be asked about again. A text that
says none of this leaves everything open: `refusal_of` is None.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from esa_tls.core.protobuf import fields
from esa_tls.wire.loki import Push
from esa_tls.wire.retry_after import SETTINGS_RETRY_S, retry_after_s

__all__ = ["Refusal", "Verdict", "classify", "refusal_of"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from an answer.

    `done`: all is stored. `retry`: the same again, not before `after_s`. `too_large`: in halves. `refused`: some entries, or all, never
    will be stored, all others are. `settings`: nothing is wrong with the entries and none is stored; somebody has to look.
    """

    then: Literal["done", "retry", "too_large", "refused", "settings"]
    reason: str = ""
    after_s: float | None = None


_STORED = frozenset({200, 202, 204})
_SETTINGS = frozenset({401, 402, 403, 404, 405, 406, 407, 410, 415, 421, 431, 451, 501, 505})
_COME_AGAIN = frozenset({408, 425, 429, 499})

_SETTINGS_TEXTS = (
    ("no_org_id", re.compile(r"no org id|multiple org ids|tenant ?id|cannot parse common params from request", re.IGNORECASE)),
    ("unsupported_path", re.compile(r"unsupported path requested")),
    ("blocked_ingestion", re.compile(r"ingestion blocked for user", re.IGNORECASE)),
    ("disallowed_structured_metadata", re.compile(r"structured metadata, but this feature is disallowed")),
    ("missing_enforced_labels", re.compile(r"missing required labels")),
    ("max_label_names_per_series", re.compile(r"has \d+ label names; limit \d+")),
)
"""Texts of a 400 that does not depend on the entries; of VictoriaLogs too, which answers a wrong tenant and a wrong path so."""

_TOO_LARGE = re.compile(r"message larger than max|request body too large|message size too large|too big data size", re.IGNORECASE)
"""The same of a 400 that means 413."""


def classify(status: int, text: str = "", *, retry_after: str | None = None, now_s: float = 0.0) -> Verdict:
    """What follows from a status and what stands beside it. `retry_after`: the header; `now_s`: seconds since 1970, for dates in it."""
    reason = f"http_{status}"
    if status in _STORED:
        return Verdict(then="done")
    if status == 413 or (status == 400 and _TOO_LARGE.search(text)):
        return Verdict(then="too_large", reason=reason)
    if status in _SETTINGS or status < 400:
        # 260: the tenant's ingestion is blocked, and nothing was stored (`block_ingestion_status_code`)
        return Verdict(then="settings", reason="blocked_ingestion" if status == 260 else reason, after_s=SETTINGS_RETRY_S)
    if status in _COME_AGAIN or status >= 500:
        return Verdict(then="retry", reason=reason, after_s=retry_after_s(retry_after, now_s=now_s))
    for name, told in _SETTINGS_TEXTS:
        if told.search(text):
            return Verdict(then="settings", reason=name, after_s=SETTINGS_RETRY_S)
    return Verdict(then="refused", reason=reason)


# -- which entries a 400 is about ------------------------------------------------------------------------------------------------
class Refusal(msgspec.Struct, frozen=True):
    """The entries of a request by their number: those that are refused, with the reason; and those of which nothing is known.

    All others are stored.
    """

    refused: dict[int, str]
    unclear: list[int]


_TIME = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d))"
_COUNT = r"(?:(\d+) errors like: )?[Ee]ntry for stream '(?:[^']|'(?! has timestamp))*' has timestamp too "
_OLD = re.compile(_COUNT + rf"old: {_TIME}, oldest acceptable timestamp is: {_TIME}")
_NEW = re.compile(_COUNT + rf"new: {_TIME}")
_BEHIND = re.compile(rf"entry too far behind,(?: entry timestamp is: {_TIME},)? oldest acceptable timestamp is: {_TIME}")
_IGNORED = re.compile(r"total ignored: (\d+) out of (\d+)")
_RATE = re.compile(r"rate limit exceeded", re.IGNORECASE)
_LIMITS = (
    ("line_too_long", re.compile(r"max entry size '?(\d+)'? bytes exceeded", re.IGNORECASE)),
    ("structured_metadata_too_large", re.compile(r"structured metadata too large: '?\d+'? bytes, limit: '?(\d+)'? bytes")),
    ("structured_metadata_too_many", re.compile(r"too many structured metadata labels: '?\d+'?, limit: '?(\d+)'?")),
)
"""In the order of `_sizes`."""

_LABELS = (
    ("label_name_too_long", re.compile(r"has label name too long")),
    ("label_value_too_long", re.compile(r"has label value too long")),
    ("duplicate_label_names", re.compile(r"has duplicate label name")),
    ("invalid_labels", re.compile(r"error parsing labels", re.IGNORECASE)),
    ("missing_labels", re.compile(r"at least one label pair is required")),
)

_NS = 1_000_000_000


def refusal_of(text: str, push: Push, *, whole: bool = True) -> Refusal | None:
    """What the text of a 400 says of the entries; None if it says nothing of them. `whole`: no part of the text is missing."""
    count = len(push.entries)
    for reason, told in _LABELS:
        if told.search(text):
            return Refusal(dict.fromkeys(range(count), reason), [])
    found = [_too_old(text, push.times), _too_new(text, push.times), _too_far_behind(text, push.times), *_too_large(text, push)]
    parts = [part for part in found if part is not None]
    if not parts:
        return None
    refused = {number: reason for numbers, reason, _ in parts for number in numbers}
    exact = whole and all(adds_up for _, _, adds_up in parts)
    return Refusal(refused, [] if exact else [number for number in range(count) if number not in refused])


_Part = tuple[Iterable[int], str, bool]
"""Numbers of entries that are surely refused, why, and whether these are all that are refused for this reason."""


def _nanoseconds(stamp: str) -> int:
    return int(datetime.fromisoformat(stamp).timestamp()) * _NS


def _too_old(text: str, times: Sequence[int]) -> _Part | None:
    told = [(int(count or 1), _nanoseconds(second), _nanoseconds(oldest)) for count, second, oldest in _OLD.findall(text)]
    if not told:
        return None
    oldest = max(one for _, _, one in told)
    first = bisect_left(times, oldest) + sum(count for count, second, _ in told if second == oldest)
    first = min(first, bisect_left(times, oldest + _NS))
    return range(first), "greater_than_max_sample_age", sum(count for count, _, _ in told) == first


def _too_new(text: str, times: Sequence[int]) -> _Part | None:
    told = [(int(count or 1), _nanoseconds(second)) for count, second in _NEW.findall(text)]
    if not told:
        return None
    newest = min(second for _, second in told)
    first = bisect_left(times, newest + _NS) - sum(count for count, second in told if second == newest)
    first = max(first, bisect_left(times, newest))
    return range(first, len(times)), "too_far_in_future", sum(count for count, _ in told) == len(times) - first


def _too_far_behind(text: str, times: Sequence[int]) -> _Part | None:
    told = [_nanoseconds(oldest) for _, oldest in _BEHIND.findall(text)]
    if not told:
        return None
    surely, perhaps = bisect_left(times, max(told)), bisect_left(times, max(told) + _NS)
    total = _IGNORED.search(text)
    # Entries that are missing in the total were refused before they came there, and it is not told why.
    if total is not None and int(total[2]) == len(times) and surely <= int(total[1]) <= perhaps and not _RATE.search(text):
        return range(int(total[1])), "too_far_behind", True
    return range(surely), "too_far_behind", False


def _too_large(text: str, push: Push) -> list[_Part]:
    """Entries above limits of the server's that were told."""
    found: list[_Part] = []
    for at, (reason, told) in enumerate(_LIMITS):
        if match := told.search(text):
            limit = int(match[1])
            found.append(([number for number, entry in enumerate(push.entries) if _sizes(entry)[at] > limit], reason, True))
    return found


def _sizes(entry: bytes) -> tuple[int, int, int]:
    """Bytes of an entry's line, bytes of its metadata (names and values), and how many these are."""
    ((_, body),) = fields(entry)
    assert isinstance(body, bytes)
    line = metadata = count = 0
    for number, value in fields(body):
        if number == 2 and isinstance(value, bytes):
            line = len(value)
        elif number == 3 and isinstance(value, bytes):
            metadata += sum(len(part) for _, part in fields(value) if isinstance(part, bytes))
            count += 1
    return line, metadata, count
