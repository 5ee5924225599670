"""What people see: text from logs made harmless, a console over the byte stream that was handed in, and a progress bar.

Rules: log text is from outside and may hold terminal escapes, text direction marks or markup; it passes through `printable` and is never
read as markup. Colours and a width only where a person looks (`NO_COLOR` and `COLUMNS` count); into a file or a pipe goes plain text.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import msgspec
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

PLAIN_WIDTH = 140
"""Columns of tables that go into a file or a pipe."""

_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]",
)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code == 9:
        return " "
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


def printable(text: str) -> str:
    r"""`text` with control characters, direction marks, invisible characters and lone surrogates written out (`\x1b`), tabs as blanks."""
    return text if text.isascii() and text.isprintable() else _HIDDEN.sub(_escaped, text)


def put(out: BinaryIO, parts: Iterable[RenderableType], *, fold: bool = True) -> None:
    """Print rich renderables to `out`; markup, emoji and highlighting are off. `fold`: lines are folded at the edge.

    Not a terminal: no colours, `PLAIN_WIDTH` columns unless `COLUMNS` says otherwise, and no blanks at the ends of lines.
    """
    terminal = is_terminal(out)
    text = (
        io.TextIOWrapper(out, encoding="utf-8", errors="backslashreplace", newline="\n", write_through=True) if terminal else io.StringIO()
    )
    console = Console(
        file=text, width=None if terminal else width_of(out), markup=False, emoji=False, highlight=False, force_terminal=terminal
    )
    try:
        for part in parts:
            console.print(part, soft_wrap=not fold)
            if isinstance(text, io.StringIO):
                out.write("".join(line.rstrip() + "\n" for line in text.getvalue().splitlines()).encode("utf-8", "backslashreplace"))
                text.seek(0)
                text.truncate()
        out.flush()
    finally:
        if isinstance(text, io.TextIOWrapper):
            text.detach()


def width_of(out: BinaryIO) -> int:
    """Columns there are on `out`."""
    if is_terminal(out) or os.environ.get("COLUMNS", "").isdecimal():
        return shutil.get_terminal_size().columns
    return PLAIN_WIDTH


def is_terminal(out: BinaryIO) -> bool:
    """Whether a person looks at it."""
    try:
        return out.isatty()
    except ValueError:
        return False


class Reading(msgspec.Struct, frozen=True):
    """How far a pass over log files has come. `total_bytes` is None when it cannot be known (standard input)."""

    file: str
    lines: int
    read_bytes: int
    total_bytes: int | None
    what: str = "reading"


class Bar:
    """A progress bar on a console; `show` is the hook. Nothing is drawn before the first call."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[lines]:>13,} lines"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, lines=0)
        self._started = False

    def show(self, reading: Reading) -> None:
        """Draw how far it is."""
        if not self._started:
            self._started = True
            self._progress.start()
        self._progress.update(
            self._task,
            description=f"{reading.what} {printable(reading.file)}",
            total=reading.total_bytes,
            completed=reading.read_bytes,
            lines=reading.lines,
        )

    def close(self) -> None:
        """Take it away."""
        if self._started:
            self._progress.stop()


@contextmanager
def bar_on(console: Console | None) -> Iterator[Bar | None]:
    """A bar on the console, None without one."""
    if console is None:
        yield None
        return
    bar = Bar(console)
    try:
        yield bar
    finally:
        bar.close()
