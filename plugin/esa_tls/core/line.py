"""Framing: what stands before the body of a line (docs/log-lines.md 1).

A line is `{framings}{level}: {body}`, or `{framings}CEF:0|...` for the consolidated event log. Framings nest: a relay puts its
syslog prefix before the appliance's own, and the appliance's before a text time. They are read from the left, one known piece at a
time, until a level or `CEF:0|` stands exactly there; anything that is not a known piece ends the attempt.

Rules of this file:

1. The level is anchored. It is never looked for in the text: subjects, responses and PTR names can hold `Info: ICID 70 TLS success`.
2. The innermost stamp and the host nearest to the body win; every stamp drops the offset of an earlier one.
3. Only the first `HEAD_CHARS` characters are looked at, with patterns that cannot backtrack far: a hostile line costs microseconds.
4. The result depends on `text[:length]` alone (and on a following `CEF:0|`), so a caller may cache it by that prefix.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

HEAD_CHARS: Final = 512
"""How much of a line may be framing. Two syslog prefixes with long host names and a text time stay below 300."""

_MAX_PIECES: Final = 8
"""More pieces than any nesting seen (priority, stamp, host and tag, stamp, host and tag, level: six)."""


class Framing(msgspec.Struct, frozen=True):
    """What a line's prefix says. The body starts at `text[length:]`; for CEF that is the `C` of `CEF:0|`.

    `level`: Critical, Warning, Info, Debug or Trace; None only for CEF without one.
    `month` to `second`: the innermost stamp as printed, unchecked; `month` is None when the line is untimed, `year` when the form has none.
    `utc_offset_s`: seconds east of UTC, from an ISO stamp that says it, else None (local time of the appliance).
    `host`: the syslog host nearest to the body. `log_name`: the word that stands directly before level or CEF, the subscription's name.
    `appname`: the tag of the outermost syslog prefix (often the same word as `log_name`). `priority`: the outermost PRI value.
    `syslog`: the line carries some syslog prefix (a priority, a stamp without a year, a host or a tag).
    """

    length: int
    level: str | None = None
    year: int | None = None
    month: int | None = None
    day: int = 0
    hour: int = 0
    minute: int = 0
    second: int = 0
    utc_offset_s: int | None = None
    host: str | None = None
    log_name: str | None = None
    appname: str | None = None
    priority: int | None = None
    syslog: bool = False
    cef: bool = False


_MONTH_NAMES: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS: Final = {name: number for number, name in enumerate(_MONTH_NAMES, start=1)}
_MON: Final = "(?P<{0}>" + "|".join(_MONTH_NAMES) + ")"
_TIME: Final = r"(?P<h{0}>[0-9]{{2}}):(?P<m{0}>[0-9]{{2}}):(?P<s{0}>[0-9]{{2}})(?:\.[0-9]{{1,9}})?"
_YEAR: Final = r"(?P<{0}>(?:19|20)[0-9]{{2}})"

_END: Final = re.compile(r"(?P<level>Critical|Warning|Info|Debug|Trace):(?: |\Z)|(?P<cef>CEF:[0-9]\|)")
_PRIORITY: Final = re.compile(r"<([0-9]{1,3})>")
_STAMP: Final = re.compile(
    # Wed Jul 20 19:47:40 2005 | Oct 19 06:33:29 2011 | Mar 17 18:24:37; the colon is seen before CEF.
    r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) {1,2})?"
    + _MON.format("mon1")
    + r" {1,2}(?P<d1>[0-9]{1,2}) "
    + _TIME.format(1)
    + r"(?: "
    + _YEAR.format("y1")
    + r"(?=[ :]))?:? {1,2}"
    # 2019 Sep 28 16:13:51
    + "|"
    + _YEAR.format("y2")
    + " "
    + _MON.format("mon2")
    + r" {1,2}(?P<d2>[0-9]{1,2}) "
    + _TIME.format(2)
    + " {1,2}"
    # 2025-11-24T14:22:57.123+00:00
    + "|"
    + _YEAR.format("y3")
    + r"-(?P<mon3>[0-9]{2})-(?P<d3>[0-9]{2})[Tt ](?P<h3>[0-9]{2}):(?P<m3>[0-9]{2}):(?P<s3>[0-9]{2})(?:[.,][0-9]{1,9})?"
    + r"(?P<offset>[Zz]|[+-][0-9]{2}:?[0-9]{2})?:? {1,2}"
)
_NG_WORDS: Final = re.compile(
    r"(?P<host>[^\s\[\]]{1,255}) (?P<facility>[a-z0-9]{1,16}) \[(?P<severity>[a-z]{1,16})\] (?P<tag>[^\s:\[\]]{1,64}):(?P<pid>\S{0,32}) "
)
_TAG: Final = re.compile(r"(?P<tag>[^\s:\[\]<>{}'\"]{1,64})(?:\[[^\s\[\]]{0,32}\])?: {1,2}")
_HOST: Final = re.compile(r"(?P<host>[^\s\[\]<>{}'\"]{1,255}|\[[0-9A-Fa-f:][0-9A-Fa-f:.]{1,44}\]) {1,2}")
_BRACKETS: Final = re.compile(r"\[[^\[\]]{0,64}\] ")
_RFC5424: Final = re.compile(
    r"1 (?P<stamp>\S{1,40}) (?P<host>\S{1,255}) (?P<app>\S{1,64}) \S{1,128} \S{1,32} (?P<data>-|(?:\[(?:[^\]\\]|\\.)*\])+)(?: \ufeff? ?|\Z)"
)


_PLAIN: Final = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) " + _MON.format("mon") + r" {1,2}([0-9]{1,2}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ((?:19|20)[0-9]{2}) "
    r"(Critical|Warning|Info|Debug|Trace): "
)
"""What nearly all prefixes are: the appliance's own, with nothing before it. The pieces below make the same of it."""


def frame(text: str) -> Framing | None:
    """Read the prefix of one line.

    None: no known prefix, so the line is a continuation of the one before or of an unknown kind; it must not be parsed as a body.
    `Info: ...` alone is a known prefix (an untimed line, `month` None). Never raises. Source: docs/log-lines.md 1.
    """
    if plain := _PLAIN.match(text):
        month, day, hour, minute, second, year, level = plain.groups()
        length = plain.end()
        cef = text.startswith("CEF:0|", length)
        return Framing(length, level, int(year), _MONTHS[month], int(day), int(hour), int(minute), int(second), cef=cef)
    head = text[:HEAD_CHARS]
    at = 1 if head.startswith("\ufeff") else 0
    stamp: re.Match[str] | None = None
    host: str | None = None
    tag: str | None = None  # the tag directly before the present place
    appname: str | None = None
    priority: int | None = None
    syslog = False
    # Host and tag stand only behind a priority or a stamp, each at most once, the host first.
    host_allowed = tag_allowed = False

    if match := _PRIORITY.match(head, at):
        priority = int(match[1])
        syslog = host_allowed = tag_allowed = True
        at = match.end()
        if head.startswith("1 ", at) and (match := _RFC5424.match(head, at)):
            stamp = _STAMP.match(match["stamp"] + " ")
            if stamp is None and match["stamp"] != "-":
                return None
            host = None if match["host"] == "-" else match["host"]
            appname = tag = None if match["app"] == "-" else match["app"]
            at = match.end()

    for _ in range(_MAX_PIECES):
        if match := _END.match(head, at):
            level = match["level"]
            length = match.end() if level else at
            return Framing(
                length,
                level,
                *_stamp_fields(stamp),
                host=host,
                log_name=tag,
                appname=appname,
                priority=priority,
                syslog=syslog,
                cef=level is None or text.startswith("CEF:0|", length),
            )
        if match := _STAMP.match(head, at):
            stamp = match
            syslog = syslog or (match["mon1"] is not None and match["y1"] is None)
            tag = None
            host_allowed = tag_allowed = True
            at = match.end()
        elif host_allowed and (match := _NG_WORDS.match(head, at)):
            host, tag = match["host"], match["tag"]
            appname = appname or tag
            syslog = True
            host_allowed = tag_allowed = False
            at = match.end()
        elif tag_allowed and (match := _TAG.match(head, at)):
            tag = match["tag"]
            appname = appname or tag
            syslog = True
            host_allowed = tag_allowed = False
            at = match.end()
        elif host_allowed and (match := _HOST.match(head, at)) and _is_host(match["host"]):
            host = match["host"].strip("[]")
            tag = None
            syslog = True
            host_allowed = False
            at = match.end()
        elif tag_allowed and (match := _BRACKETS.match(head, at)):
            at = match.end()
        else:
            return None
    return None


def _is_host(word: str) -> bool:
    """A word that ends in a colon is a tag, unless it is an IPv6 address (`2001:db8::`)."""
    return not word.endswith(":") or (word.endswith("::") and all(c in "0123456789abcdefABCDEF:" for c in word))


def _stamp_fields(match: re.Match[str] | None) -> tuple[int | None, int | None, int, int, int, int, int | None]:
    """Year, month, day, hour, minute, second and offset of a `_STAMP` match, in Framing's order."""
    if match is None:
        return None, None, 0, 0, 0, 0, None
    form = 1 if match["mon1"] else 2 if match["mon2"] else 3
    year, month, offset = match[f"y{form}"], match[f"mon{form}"], match["offset"]
    offset_s: int | None = None
    if offset in {"Z", "z"}:
        offset_s = 0
    elif offset:
        offset_s = (int(offset[1:3]) * 60 + int(offset[-2:])) * (-60 if offset[0] == "-" else 60)
    return (
        int(year) if year else None,
        _MONTHS.get(month) or int(month),
        int(match[f"d{form}"]),
        int(match[f"h{form}"]),
        int(match[f"m{form}"]),
        int(match[f"s{form}"]),
        offset_s,
    )
