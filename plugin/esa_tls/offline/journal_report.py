"""What a journal holds, as text or JSON: `esa-tls journal status` and `esa-tls journal dead-letters`.

Looking is done beside a sidecar that runs, on the state of that moment. Discarding dead letters needs the journal for itself.
Dead letters are told by where they are from (`sink:NAME`, `source:NAME`) and by the label of their reason (`dead_letter_reasons.py`).
Payloads come from outside: they are shown escaped and cut, never as they are.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from esa_tls.offline.dead_letter_reasons import explanation_of, label_of
from esa_tls.runtime.journal import Journal
from esa_tls.runtime.journal_format import DeadLetter
from esa_tls.runtime.replay import all_letters

SHOWN_CHARS = 200
"""So much of a payload is shown in text; JSON has it whole."""


def status(data_dir: Path, *, max_bytes: int) -> dict[str, Any]:
    """`Journal.status()` of the journal in `data_dir`, which may use `max_bytes`. Raises JournalError, also if there is none."""
    with closing(Journal.open(data_dir, read_only=True, max_bytes=max_bytes)) as journal:
        return journal.status()


def status_lines(told: dict[str, Any]) -> Iterator[str]:
    """`status` for people."""
    used = told["size_bytes"] / told["max_bytes"]
    yield f"size          {told['size_bytes']:,} of {told['max_bytes']:,} bytes ({used:.1%}), {told['free_bytes']:,} bytes free on the disk"
    yield f"commits       {told['commits']:,}, format version {told['version']}"
    yield f"outbox        sequence {told['oldest']:,} to {told['tail']:,}" if told["outbox"] else "outbox        empty"
    for name, totals in sorted(told["outbox"].items()):
        yield f"              {name}: {totals['records']:,} records in {totals['rows']:,} rows, {totals['size_bytes']:,} bytes"
    for name, sink in sorted(told["sinks"].items()):
        lag = sink["lag"]
        behind = f"{lag['records']:,} records ({lag['size_bytes']:,} bytes) behind" if lag["records"] else "up to date"
        yield f"sink          {_shown(name)}: {behind}"
    dropped = f", {told['dead_letters_dropped']:,} older ones dropped" if told["dead_letters_dropped"] else ""
    yield f"dead letters  {told['dead_letters']:,}{dropped}"


def dead_letters(data_dir: Path, *, limit: int, origin: str | None = None) -> list[tuple[int, DeadLetter]]:
    """The oldest `limit` dead letters with their numbers, of one origin or of all. Raises JournalError."""
    with closing(Journal.open(data_dir, read_only=True)) as journal:
        wanted = ((number, letter) for number, letter in all_letters(journal) if origin in (None, letter.origin))
        return list(islice(wanted, limit))


def dead_letter(data_dir: Path, number: int) -> DeadLetter | None:
    """The dead letter with this number; None: there is none. Raises JournalError."""
    with closing(Journal.open(data_dir, read_only=True)) as journal:
        return next((letter for found, letter in journal.dead_letters(after=number - 1, max_items=1) if found == number), None)


def counts(data_dir: Path, *, origin: str | None = None) -> dict[str, dict[str, int]]:
    """How many dead letters there are, by origin and by the label of their reason. Raises JournalError."""
    found: dict[str, dict[str, int]] = {}
    with closing(Journal.open(data_dir, read_only=True)) as journal:
        for _, letter in all_letters(journal):
            if origin in (None, letter.origin):
                labels = found.setdefault(letter.origin, {})
                label = label_of(letter.reason)
                labels[label] = labels.get(label, 0) + 1
    return found


def count_lines(found: dict[str, dict[str, int]], *, explain: bool) -> Iterator[str]:
    """`counts` for people, the most frequent reason first; on request with what each means and what to do."""
    for origin, labels in sorted(found.items()):
        total = sum(labels.values())
        told = ", ".join(f"{n:,} {_shown(label)}" for label, n in _by_number(labels))
        yield f"{_shown(origin)}: {total:,} dead letter{'' if total == 1 else 's'}: {told}"
    if explain:
        for label, _ in _by_number(_all_labels(found)):
            explanation = explanation_of(label)
            yield f"{_shown(label)}: {explanation.meaning}\n    {explanation.to_do}"


def _all_labels(found: dict[str, dict[str, int]]) -> dict[str, int]:
    labels: dict[str, int] = {}
    for one in found.values():
        for label, n in one.items():
            labels[label] = labels.get(label, 0) + n
    return labels


def _by_number(labels: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(labels.items(), key=lambda item: (-item[1], item[0]))


def discard(data_dir: Path, numbers: list[int]) -> int:
    """Delete these dead letters; returns how many there were. Raises JournalError (JournalLocked while a sidecar runs)."""
    with closing(Journal.open(data_dir, read_only=False)) as journal:
        return journal.delete_dead_letters(numbers)


def letter_line(number: int, letter: DeadLetter) -> str:
    """One dead letter for people: number, time, origin, reason, and the beginning of the payload, escaped."""
    payload = _shown(letter.payload[: SHOWN_CHARS * 4].decode("utf-8", "backslashreplace"))
    return f"{number}  {_time(letter.at_s)}  {_shown(letter.origin)}  {_shown(letter.reason)}\n    {payload}"


def letter_text(number: int, letter: DeadLetter) -> str:
    """One dead letter for people, with its whole reason and payload, escaped, what its reason means and what to do."""
    explanation = explanation_of(label_of(letter.reason))
    holds = f"{letter.kind} records, " if letter.kind else ""
    return "\n".join(
        (
            f"number   {number}",
            f"time     {_time(letter.at_s)}",
            f"from     {_escaped(letter.origin)}",
            f"reason   {_escaped(letter.reason)}",
            f"meaning  {explanation.meaning}",
            f"to do    {explanation.to_do}",
            f"payload  {holds}{letter.encoding}, {len(letter.payload):,} bytes",
            _escaped(letter.payload.decode("utf-8", "backslashreplace")),
        )
    )


def letter_json(number: int, letter: DeadLetter, *, explain: bool = False) -> str:
    """One dead letter as a JSON object; the payload whole, in base64, as it may be any bytes."""
    told = {
        "number": number,
        "time": _time(letter.at_s),
        "origin": letter.origin,
        "label": label_of(letter.reason),
        "reason": letter.reason,
        "kind": letter.kind,
        "encoding": letter.encoding,
        "payload_base64": base64.b64encode(letter.payload).decode("ascii"),
    }
    if explain:
        told |= explanation_of(label_of(letter.reason))._asdict()
    return json.dumps(told)


def _shown(text: str) -> str:
    """Text from outside, safe for a terminal: what is not printable is escaped, what is long is cut."""
    escaped = _escaped(text)
    return escaped if len(escaped) <= SHOWN_CHARS else escaped[:SHOWN_CHARS] + "..."


def _escaped(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
