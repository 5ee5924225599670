"""`esa-tls explain`: the story of one MID, ICID, DCID or Message-ID, hop by hop, with the lines that prove it.

Files are read once if everything fits into the look-back window of `explain_search`, else again until the story is whole; standard input
is read once, and the answer says if something may be missing. The same number in several appliances, or in several lives of one
appliance's counters, is several stories.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Unpack
from zoneinfo import ZoneInfo

import msgspec
from rich.console import Console
from rich.text import Text

from esa_tls.offline.explain_search import WINDOW_LINES, WINDOW_RECORDS, Asked, Key, Search
from esa_tls.offline.explain_story import Section, Story, Teller
from esa_tls.offline.explain_tls import Statement
from esa_tls.offline.scan import STDIN, Pass, Progress, ScanOptions, ScanSettings
from esa_tls.offline.terminal import bar_on, printable, put, width_of

MAX_PASSES = 5
"""Each further pass is needed only for what the one before found too late; two are usual."""


MAX_WIDTH = 110
"""Sentences are folded here on wider terminals too."""


class Answer(msgspec.Struct):
    """What there is to tell. `stories`: the asked ones first, each followed by its family; `notes`: what limits the answer."""

    asked: str
    found: bool
    stories: list[Story] = []
    notes: list[str] = []


def explain(
    paths: Sequence[str | Path],
    *,
    mid: int | None = None,
    icid: int | None = None,
    dcid: int | None = None,
    message_id: str | None = None,
    settings: ScanSettings | None = None,
    stdin: BinaryIO | None = None,
    progress: Progress | None = None,
    window_lines: int = WINDOW_LINES,
    window_records: int = WINDOW_RECORDS,
) -> Answer:
    """The story of exactly one of `mid`, `icid`, `dcid`, `message_id`. Raises as `scan.Pass.read`."""
    settings = settings or ScanSettings()
    asked = Asked(mid=mid, icid=icid, dcid=dcid, message_id=message_id)
    search = Search(asked, window_lines=window_lines, window_records=window_records)
    again = all(str(path) != STDIN for path in paths)
    missing: list[Key] = []
    for number in range(MAX_PASSES):
        if number:
            search.restart()
        reading = Pass(settings, search, hold=False)
        for _ in reading.read(paths, stdin=stdin, progress=_again(progress) if number and progress else progress):
            search.settle()
        missing = search.incomplete()
        if not missing or not again:
            break
    if not search.asked_keys:
        # A connection that only consolidated events name has no story of its own: theirs is told.
        search.asked_keys = {key: None for key in search.context if key.kind == "M"}
    if not search.asked_keys:
        what = f"{reading.lines:,} lines of {len(reading.pipeline.boxes)} appliance{'s' if len(reading.pipeline.boxes) != 1 else ''}"
        return Answer(asked.words(), found=False, notes=[f"{asked.words()} is not in {what}."])
    answer = Answer(asked.words(), found=True, stories=list(_stories(search, Teller(search, ZoneInfo(settings.timezone)))))
    if missing and not again:
        answer.notes.append(
            f"Standard input is read once and only the last {window_lines:,} lines are kept to look back, so lines and records of "
            f"{len(missing):,} connections or messages may be missing here. Give the log as a file for the whole story."
        )
    if search.cut:
        answer.notes.append("There is more than can be told at once: the number of lines and messages kept for one answer is limited.")
    if settings.timezone != "UTC":
        answer.notes.append(f"Times are those of {settings.timezone}.")
    return answer


def _again(progress: Progress) -> Progress:
    return lambda reading: progress(msgspec.structs.replace(reading, what="reading again"))


def _stories(search: Search, teller: Teller) -> Iterator[Story]:
    """What was asked for, each with its family behind it; a family is told once."""
    told: set[Key] = set()
    for key in search.asked_keys:
        if key in told:
            continue
        if key.kind != "M":
            told.add(key)
            yield teller.connection_story(key)
            continue
        family = _family(search, key)
        for member in [key, *(other for other in family if other != key)]:
            told.add(member)
            yield teller.message_story(member, asked=member in search.asked_keys)


def _family(search: Search, key: Key) -> list[Key]:
    """The message, its ancestors and its descendants, in the order in which the log first names them."""
    links: dict[Key, set[Key]] = {}
    for kept in search.found.values():
        parent = kept.value("parent")
        if isinstance(parent, int) and kept.fact.mid is not None:
            one, other = Key(kept.appliance, kept.epoch, "M", kept.fact.mid), Key(kept.appliance, kept.epoch, "M", parent)
            links.setdefault(one, set()).add(other)
            links.setdefault(other, set()).add(one)
    family, waiting = {key}, [key]
    while waiting:
        fresh = links.get(waiting.pop(), set()) - family
        family |= fresh
        waiting += fresh
    first = {member: min((kept.sequence for kept in search.lines_of(member)), default=0) for member in family}
    return sorted((member for member in family if member in search.main), key=lambda member: first[member])


# -- for people ------------------------------------------------------------------------------------------------------------------
_TONES = {"good": "green", "bad": "bold red", "doubt": "yellow"}


def render(answer: Answer, *, width: int = 100) -> Iterator[Text]:
    """The answer as lines for a rich console, sentences folded at `width`; text from the log made harmless."""
    for number, story in enumerate(answer.stories):
        if number:
            yield Text()
        yield from _story(story, width)
    if answer.stories and answer.notes:
        yield Text()
    for note in answer.notes:
        yield from _folded(note, "", "yellow" if answer.found else "", width)


def _folded(text: str, lead: str, style: str, width: int) -> Iterator[Text]:
    lines = textwrap.wrap(printable(text), max(width - len(lead), 20), break_long_words=False, break_on_hyphens=False)
    for number, line in enumerate(lines):
        yield Text((" " * len(lead) if number else lead) + line, style=style)


def _story(story: Story, width: int) -> Iterator[Text]:
    title = printable(story.title)
    yield Text(title, style="bold")
    yield Text(("=" if story.asked else "-") * len(title), style="bold" if story.asked else "dim")
    yield from _folded(story.summary, "", _TONES.get(story.tone, ""), width)
    for section in story.sections:
        yield Text()
        yield from _section(section, width)


def _section(section: Section, width: int) -> Iterator[Text]:
    heading = Text(printable(section.title), style="bold")
    if section.at:
        heading.append(f"  {section.at}", style="dim")
    yield heading
    for statement in section.statements:
        yield from _statement(statement, width)


def _statement(statement: Statement, width: int) -> Iterator[Text]:
    yield from _folded(statement.text, "  - ", _TONES.get(statement.tone, ""), width)
    for line in statement.lines:
        # Not folded, so that it can be copied and looked for as it stands.
        yield Text(f"      | {printable(line)}", style="dim")


def run(
    files: Sequence[str],
    *,
    out: BinaryIO,
    console: Console | None = None,
    mid: int | None = None,
    icid: int | None = None,
    dcid: int | None = None,
    message_id: str | None = None,
    style: str = "text",
    stdin: BinaryIO | None = None,
    **options: Unpack[ScanOptions],
) -> int:
    """The command: the answer to `out` (`style` `text` or `json`), progress to `console`. Returns 1 if there is nothing to tell, else 0."""
    with bar_on(console) as bar:
        answer = explain(
            files,
            mid=mid,
            icid=icid,
            dcid=dcid,
            message_id=message_id,
            settings=ScanSettings(**options),
            stdin=stdin,
            progress=None if bar is None else bar.show,
        )
    if style == "json":
        out.write(msgspec.json.format(msgspec.json.encode(answer), indent=2) + b"\n")
    else:
        put(out, render(answer, width=min(width_of(out), MAX_WIDTH)), fold=False)
    out.flush()
    return 0 if answer.found else 1
