"""Options and arguments that several commands have, and what becomes of their values."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

from esa_tls.core.records import KINDS

if TYPE_CHECKING:
    from rich.console import Console

    from esa_tls.config import Config

Command = TypeVar("Command", bound=Callable[..., Any])


class RecordKinds(click.ParamType[frozenset[str]]):
    """`connection,delivery` as a frozenset of record kinds."""

    name = "kinds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[str]:
        """Split at commas; an unknown kind is a usage error that names the nearest one."""
        if isinstance(value, frozenset):
            return value
        kinds = [kind.strip() for kind in str(value).split(",")]
        for kind in kinds:
            if kind not in KINDS:
                close = difflib.get_close_matches(kind, KINDS, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(KINDS)}"
                self.fail(f"unknown kind {kind!r}; {hint}", param, ctx)
        return frozenset(kinds)


config_option = click.option(
    "-c", "--config", "config_path", metavar="FILE", type=click.Path(path_type=Path), help="YAML configuration; without it the defaults."
)


def load(path: Path | None) -> Config:
    """The configuration, with its selections of fields checked too. Raises ConfigError."""
    from esa_tls import config

    loaded = config.load(path)
    if any(sink.fields is not None or sink.truncate for sink in loaded.sinks):
        from esa_tls import app

        app.check_selections(loaded, file=str(path))
    return loaded


def stdout() -> BinaryIO:
    """Standard output, for bytes."""
    return sys.stdout.buffer


def progress() -> Console | None:
    """Where progress may be drawn: standard error, if a person looks at it."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console

    return Console(stderr=True)
