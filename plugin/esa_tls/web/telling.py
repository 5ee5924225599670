"""Stories of messages and connections from what the store keeps: its lines are read again by the core's grammar, its records decide.

`explain` tells the same way from log files (`offline/explain_story.py`): one story, told once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final
from zoneinfo import ZoneInfo

from esa_tls.core.facts import Fact
from esa_tls.core.grammar import parse
from esa_tls.core.line import frame
from esa_tls.offline.explain_search import Asked, Kept, Key, Search
from esa_tls.offline.explain_story import Story, Teller
from esa_tls.store.answers import ConnectionStory, MessageStory, StoryLine

MESSAGE_ID: Final = re.compile(r"(.{1,256})/([0-9]{1,9})/MID/([0-9]{1,19})", re.DOTALL)
CONNECTION_ID: Final = re.compile(r"(.{1,256})/([0-9]{1,9})/(ICID|DCID)/([0-9]{1,19})", re.DOTALL)


def message_story(found: MessageStory, zone: ZoneInfo) -> Story:
    """The story of a message; `zone`: of the times told."""
    search = Search(Asked(mid=found.mid))
    key = Key(found.appliance, found.epoch, "M", found.mid)
    search.main[key] = search.asked_keys[key] = None
    _take_records(
        search,
        [
            *_some(found.message),
            *_some(found.reception),
            *found.connections.values(),
            *found.deliveries,
            *found.consolidated,
            *found.parents,
            *found.children,
        ],
    )
    _take_lines(search, found.appliance, found.epoch, found.lines)
    return Teller(search, zone).message_story(key, asked=True)


def connection_story(found: ConnectionStory, zone: ZoneInfo) -> Story:
    """The story of a connection."""
    match = CONNECTION_ID.fullmatch(found.id)
    assert match is not None
    appliance, epoch, kind, number = match[1], int(match[2]), match[3][0], int(match[4])
    search = Search(Asked(icid=number) if kind == "I" else Asked(dcid=number))
    key = Key(appliance, epoch, kind, number)
    search.main[key] = search.asked_keys[key] = None
    _take_records(search, [*_some(found.connection), *found.messages, *found.deliveries])
    _take_lines(search, appliance, epoch, found.lines)
    return Teller(search, zone).connection_story(key)


def _some(record: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [] if record is None else [record]


def _take_records(search: Search, records: Iterable[dict[str, Any]]) -> None:
    for record in records:
        search.records[record["event"]["id"]] = record


def _take_lines(search: Search, appliance: str, epoch: int, lines: Iterable[StoryLine]) -> None:
    texts = {}
    for line in lines:
        texts[line.sequence] = line.text
        if "duplicate" in line.flags:
            continue
        search.found[appliance, line.sequence] = Kept(appliance, epoch, line.sequence, line.time_s, _fact(line), line.text, None)
    for name, record in search.records.items():
        text = texts.get(record["event"].get("sequence", -1))
        if record["cisco_esa"]["record"] == "consolidated" and text is not None:
            search.event_lines[name] = text


def _fact(line: StoryLine) -> Fact:
    """What the line says, as the core had read it; ids that the core knew from elsewhere are those of the store."""
    framing = frame(line.text)
    if framing is None or line.action == "consolidated-event":
        return Fact(line.action, mid=line.mid)
    fact = parse(line.text[framing.length :].rstrip("\r"))
    return fact if fact.action == line.action else Fact(line.action, fact.icid, fact.dcid, line.mid, fact.rids, fact.values)
