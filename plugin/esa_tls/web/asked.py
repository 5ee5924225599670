"""What stands in the address bar: periods and filters, read and written. Pure.

Every view can be shared as a link, so whatever a form sets is a parameter of its address. What cannot be understood raises `NotUnderstood`
with a sentence for the page.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

import msgspec
from multidict import MultiMapping

from esa_tls.offline.explain_words import FAILURES, POSTURES, RESULTS
from esa_tls.store.answers import Filter

HOUR_S: Final = 3_600
DAY_S: Final = 86_400
SPANS: Final[Mapping[str, tuple[str, int]]] = {
    "24h": ("24 hours", DAY_S),
    "7d": ("7 days", 7 * DAY_S),
    "30d": ("30 days", 30 * DAY_S),
    "all": ("everything", 0),
}
"""Periods that have a name; 0: no bounds."""

KINDS: Final = {"message": "messages", "delivery": "deliveries", "connection": "connections", "consolidated": "consolidated events"}
OUTCOMES: Final = {"success": "TLS", "failed": "TLS failed", "none": "no TLS", "unknown": "not known"}
DIRECTIONS: Final = {"inbound": "inbound (ICID)", "outbound": "outbound (DCID)"}
FLOWS: Final = {"incoming": "incoming mail", "outgoing": "outgoing mail", "internal": "made on the appliance"}
CLEAR: Final = {"yes": "in clear text", "no": "not in clear text"}

CHOICES: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "kind": ("What", KINDS),
    "clear": ("Mail went", CLEAR),
    "outcome": ("TLS outcome", OUTCOMES),
    "direction": ("Direction", DIRECTIONS),
    "flow": ("Mail flow", FLOWS),
    "posture": ("Message, all in all", {name: words for name, words in POSTURES.items() if name != "moved"}),
    "result": ("Delivery result", RESULTS),
    "failure": ("Failure of TLS", FAILURES),
}
"""Filters with a closed list of words: parameter -> (label, word -> what it says)."""

MAX_TEXT: Final = 1_000


class NotUnderstood(Exception):
    """The address asks for something that there is not. Says what."""


class Period(msgspec.Struct, frozen=True):
    """`since_s` <= time < `until_s`, None: open. `last`: its name, if it has one; `words`: what the page says."""

    since_s: int | None
    until_s: int | None
    last: str = ""
    words: str = ""


def text_of_time(time_s: int) -> str:
    """As forms and addresses have it: `2025-11-24T09:00`, UTC."""
    return f"{dt.datetime.fromtimestamp(time_s, tz=dt.UTC):%Y-%m-%dT%H:%M}"


def time_of(text: str, name: str) -> int | None:
    """Seconds since 1970 of a time in UTC, None if it is empty."""
    if not text:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).astimezone(dt.UTC).timestamp())
    except (ValueError, OverflowError) as error:
        raise NotUnderstood(f"{name}: expected a time such as 2025-11-24T09:00 (UTC), got {text[:80]!r}.") from error


def period_of(query: MultiMapping[str], newest_s: int | None, now_s: float) -> Period:
    """The period asked for. Without one: the last 7 days, or, if nothing newer is kept, those before the newest record."""
    since_s, until_s = time_of(query.get("since", ""), "From"), time_of(query.get("until", ""), "until")
    last = query.get("last", "")
    if since_s is not None or until_s is not None:
        if since_s is not None and until_s is not None and since_s >= until_s:
            raise NotUnderstood("The period ends before it begins.")
        words = " ".join(
            part
            for part in (
                f"from {text_of_time(since_s).replace('T', ' ')}" if since_s is not None else "",
                f"until {text_of_time(until_s).replace('T', ' ')}" if until_s is not None else "",
            )
            if part
        )
        return Period(since_s, until_s, "", words)
    if last == "all":
        return Period(None, None, last, "everything that is kept")
    if last and last not in SPANS:
        raise NotUnderstood(f"There is no period {last[:80]!r}.")
    word, span_s = SPANS[last or "7d"]
    end_s = now_s
    words = f"the last {word}"
    if newest_s is not None and newest_s < now_s - span_s:
        end_s = newest_s
        words = f"{word} up to {text_of_time(newest_s).replace('T', ' ')}, the newest record"
    until = (int(end_s) // HOUR_S + 1) * HOUR_S
    return Period(until - span_s, until, last or "7d", words)


def step_of(period: Period) -> int | None:
    """Seconds of a step in charts of the period; None: as the store thinks fit."""
    if period.since_s is None or period.until_s is None:
        return None
    span_s = period.until_s - period.since_s
    return HOUR_S if span_s <= 2 * DAY_S else 3 * HOUR_S if span_s <= 8 * DAY_S else None


def filter_of(query: MultiMapping[str]) -> Filter:
    """The filter asked for. Raises NotUnderstood: a word that is none."""
    text = query.get("q", "").strip()
    if len(text) > MAX_TEXT:
        raise NotUnderstood(f"The text to search for is longer than {MAX_TEXT:,} characters.")
    sets: dict[str, frozenset[str]] = {}
    for name, (label, words) in CHOICES.items():
        asked = frozenset(one for one in query.getall(name, []) if one)
        if unknown := sorted(asked.difference(words)):
            raise NotUnderstood(f"{label}: there is no {unknown[0][:80]!r}.")
        sets[name] = asked
    since_s, until_s = time_of(query.get("since", ""), "From"), time_of(query.get("until", ""), "Until")
    clear = sets["clear"]
    return Filter(
        text=text,
        kinds=sets["kind"],
        outcomes=sets["outcome"],
        postures=sets["posture"],
        directions=sets["direction"],
        flows=sets["flow"],
        failures=sets["failure"],
        results=sets["result"],
        appliances=frozenset(one for one in query.getall("appliance", []) if one),
        in_clear=None if len(clear) != 1 else "yes" in clear,
        since_s=since_s,
        until_s=until_s,
    )


def is_asked(query: MultiMapping[str]) -> bool:
    """Whether any filter is set."""
    return any(query.get(name, "").strip() for name in ("q", "since", "until", "appliance", *CHOICES))


def link(path: str, query: MultiMapping[str] | Mapping[str, str] | None = None, **changed: str | int | None) -> str:
    """An address: `query` with some parameters changed; None takes one away."""
    pairs = [(name, value) for name, value in (query or {}).items() if name not in changed and value]
    pairs += [(name, str(value)) for name, value in changed.items() if value is not None and value != ""]
    return f"{path}?{urlencode(pairs)}" if pairs else path


def message_link(appliance: str, epoch: int, mid: int) -> str:
    """The view of a message."""
    return link("/message", None, id=f"{appliance}/{epoch}/MID/{mid}")


def connection_link(connection_id: str) -> str:
    """The view of a connection."""
    return link("/connection", None, id=connection_id)


def joined(words: Sequence[str]) -> str:
    """`a, b or c`."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " or " + words[-1] if words else ""
