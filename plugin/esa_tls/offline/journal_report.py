"""What a journal holds, as text or JSON: `esa-tls journal status` and `esa-tls journal dead-letters`.

Looking is done beside a sidecar that runs, on the state of that moment. Discarding dead letters needs the journal for itself.
Payloads come from outside: they are shown escaped and cut, never as they are.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from esa_tls.runtime.journal import Journal
from esa_tls.runtime.journal_format import DeadLetter

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


def dead_letters(data_dir: Path, *, limit: int) -> list[tuple[int, DeadLetter]]:
    """The oldest `limit` dead letters with their numbers. Raises JournalError."""
    with closing(Journal.open(data_dir, read_only=True)) as journal:
        return journal.dead_letters(max_items=limit)


def discard(data_dir: Path, numbers: list[int]) -> int:
    """Delete these dead letters; returns how many there were. Raises JournalError (JournalLocked while a sidecar runs)."""
    with closing(Journal.open(data_dir, read_only=False)) as journal:
        return journal.delete_dead_letters(numbers)


def letter_line(number: int, letter: DeadLetter) -> str:
    """One dead letter for people: number, time, origin, reason, and the beginning of the payload, escaped."""
    payload = _shown(letter.payload[: SHOWN_CHARS * 4].decode("utf-8", "backslashreplace"))
    return f"{number}  {_time(letter.at_s)}  {_shown(letter.origin)}  {_shown(letter.reason)}\n    {payload}"


def letter_json(number: int, letter: DeadLetter) -> str:
    """One dead letter as a JSON object; the payload whole, in base64, as it may be any bytes."""
    return json.dumps(
        {
            "number": number,
            "time": _time(letter.at_s),
            "origin": letter.origin,
            "reason": letter.reason,
            "encoding": letter.encoding,
            "payload_base64": base64.b64encode(letter.payload).decode("ascii"),
        }
    )


def _shown(text: str) -> str:
    """Text from outside, safe for a terminal: what is not printable is escaped, what is long is cut."""
    escaped = "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
    return escaped if len(escaped) <= SHOWN_CHARS else escaped[:SHOWN_CHARS] + "..."


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
