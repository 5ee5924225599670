"""`esa-tls scan`: log files through the core, in one pass and bounded memory, and the records out as JSON lines or as a table.

`Pass` is the reading itself, used by `explain` and `report` too. Rules:

1. Files are read in the order given and are one stream of lines: a log cut into many files gives the same records and ids as in one.
   Therefore no record says which file a line came from.
2. Whose lines they are: `--appliance`, else the host of a syslog prefix, else the file's name without what rotation puts there
   (`mail.@20251124T142257.s`, `mail.current`, `mail.log.3.gz`, `mail-2025-11-24.log` are all `mail`). Two boxes are never one: equal names
   in different folders get the folder in front.
3. A missing year: `--year` for the first stamp, else the file's time (standard input: now); from then on the line before.
4. Memory: one batch of lines, what the core keeps (open connections and messages, tombstones up to its limit), never the log.
5. A file that cannot be read to its end: what came before it goes through to its records, then the error is raised.
"""

from __future__ import annotations

import datetime as dt
import gc
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypedDict, Unpack
from zoneinfo import ZoneInfo

import msgspec

from esa_tls.config import RequireTls
from esa_tls.core.batch import Batch, Origin, Row, Run
from esa_tls.core.encode import JsonLines
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.records import KINDS
from esa_tls.core.state import DictState
from esa_tls.errors import ConfigError
from esa_tls.offline.files import GZIP_MAGIC, ZSTD_MAGIC, CutLine, open_lines
from esa_tls.offline.terminal import Reading, bar_on, is_terminal
from esa_tls.runtime.expected import partners_of

if TYPE_CHECKING:
    from rich.console import Console

STDIN = "-"

BATCH_LINES = 2_000
"""Lines fed at a time; records come out after each batch."""

STATE_BATCHES = 32
"""After so many batches what changed is written to the state, which a scan has only to keep few entries as objects."""

CACHE_ENTRIES = 50_000
"""Open connections and as many messages kept as objects; the others wait as bytes. Changes speed, not records."""

SUMMARIES = frozenset(KINDS) - {"line"}

Progress = Callable[[Reading], None]


class ScanSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How log files are to be understood, as the options of the command line say it.

    `appliance`: the name for all lines. `timezone`: of stamps without an offset. `year`: of the first stamp, where stamps carry none.
    `lossy`: lines may be missing or late; False leaves it to the form of the lines (those with a syslog prefix are).
    `reorder_window_s`: None = 2 s for lossy lines, else 0. `records`: the kinds wanted. `require_tls`: where TLS is expected.
    """

    appliance: str | None = None
    timezone: str = "UTC"
    year: int | None = None
    lossy: bool = False
    reorder_window_s: float | None = None
    records: frozenset[str] = frozenset(KINDS)
    require_tls: RequireTls | None = None


class ScanOptions(TypedDict, total=False):
    """The fields of `ScanSettings`, as keyword arguments."""

    appliance: str | None
    timezone: str
    year: int | None
    lossy: bool
    reorder_window_s: float | None
    records: frozenset[str]
    require_tls: RequireTls | None


class WantedRows(JsonLines):
    """JSON lines of the kinds that are wanted; nothing else is encoded."""

    def __init__(self, kinds: frozenset[str]) -> None:
        super().__init__()
        self._kinds = kinds

    def summary(self, kind: str, record: dict[str, Any], time_s: int) -> None:
        """Add a summary record of a wanted kind."""
        if kind in self._kinds:
            super().summary(kind, record, time_s)


class WantedSummaries(WantedRows):
    """The same without `line` records."""

    wants_lines = False

    def lines(self, leaving: object) -> None:
        """Nothing."""


class Pass:
    """One reading of log files: lines through a core of its own into `encoder`.

    `hold`: lines wait until their connection is decided, as in `run`; without it they reach the encoder at once and in order (for those
    who want summaries only, which are the same either way). `pipeline` has counts, shapes and appliances.
    """

    def __init__(self, settings: ScanSettings, encoder: JsonLines, *, hold: bool = True) -> None:
        self.settings = settings
        self.state = DictState()
        self.lines = 0
        self.read_bytes = 0
        self._batches = 0
        self._zone = ZoneInfo(settings.timezone)
        lists = settings.require_tls
        core = CoreSettings(
            appliance_name=settings.appliance,
            appliance_from=("syslog:host", "fluent_tag"),
            timezone=settings.timezone,
            emit_immediately=not hold,
            hold_by_event_time=True,
            starts_broken=False,
            late_batches=False,
            cache_entries=CACHE_ENTRIES,
            year_reference_s=None if settings.year is None else _year_reference_s(settings.year, self._zone),
            partners=() if lists is None else partners_of(lists),
            expected_groups=() if lists is None else tuple(lists.sender_groups),
        )
        self.pipeline = Pipeline(core, self.state, encodings=())
        self.pipeline.encoders = [encoder]

    def read(self, paths: Sequence[str | Path], *, stdin: BinaryIO | None = None, progress: Progress | None = None) -> Iterator[list[Row]]:
        """Read everything; what a batch led to is yielded as rows (empty if the encoder takes records itself), the end included.

        Raises OSError for a file that cannot be read, after the rows of what came before; ConfigError for files that cannot be told apart.
        """
        names = appliance_names(paths) if self.settings.appliance is None else [None] * len(paths)
        sizes = [_size_of(path) for path in paths]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        failure: OSError | None = None
        done_bytes = 0
        for path, name, size in zip(paths, names, sizes, strict=True):
            origin = Origin(source="scan", tag=name, lossy=self.settings.lossy or None, reorder_window_s=self.settings.reorder_window_s)
            reference_s = _file_time_s(path)
            lines = open_lines(path, stdin=stdin)
            packed = size is not None and _packed(path)
            file_bytes = 0
            while True:
                batch: list[bytes] = []
                try:
                    batch.extend(islice(lines, BATCH_LINES))
                except OSError as error:
                    failure = error
                if batch:
                    self.lines += len(batch)
                    file_bytes += sum(map(len, batch)) + len(batch)
                    yield self._feed(origin, batch, reference_s)
                    if progress is not None:
                        seen = 0 if packed else file_bytes if size is None else min(file_bytes, size)
                        progress(Reading(str(path), self.lines, done_bytes + seen, total))
                if failure is not None or len(batch) < BATCH_LINES:
                    break
            self.read_bytes += file_bytes
            done_bytes += size or 0
            if failure is not None:
                break
        self.pipeline.end_stream()
        yield self._sealed()
        if failure is not None:
            raise failure

    def _feed(self, origin: Origin, lines: list[bytes], reference_s: float) -> list[Row]:
        # Each file has its own time to look for years near, and it may be older than that of the file before.
        self.pipeline.now_s = reference_s
        with collector_off():
            self.pipeline.feed(Batch(_runs(origin, lines), session=1, received_s=time.time()), now_s=reference_s)
            self._batches += 1
            return self.pipeline.rows() if self._batches % STATE_BATCHES else self._sealed()

    def _sealed(self) -> list[Row]:
        sealed = self.pipeline.seal()
        if sealed is None:
            return []
        self.state.apply(sealed.puts, sealed.deletes)
        return sealed.rows


@contextmanager
def collector_off() -> Iterator[None]:
    """Around a call of the core: the cyclic garbage collector would walk every open entry again and again, and finds nothing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def scan(
    paths: Sequence[str | Path], settings: ScanSettings | None = None, *, stdin: BinaryIO | None = None, progress: Progress | None = None
) -> Iterator[bytes]:
    """The records of log files as JSON lines, in chunks of whole lines: per batch the `line` records, then each kind of summary.

    The bytes are the core's own; apart from `event.created` they depend on the lines alone. Raises as `Pass.read`.
    """
    settings = settings or ScanSettings()
    with_lines = "line" in settings.records
    encoder = WantedRows(settings.records) if with_lines else WantedSummaries(settings.records)
    for rows in Pass(settings, encoder, hold=with_lines).read(paths, stdin=stdin, progress=progress):
        for row in rows:
            for _, _, data in row.segments:
                yield data


def run(
    files: Sequence[str],
    *,
    out: BinaryIO,
    console: Console | None = None,
    style: str = "jsonl",
    stdin: BinaryIO | None = None,
    **options: Unpack[ScanOptions],
) -> int:
    """The command: records to `out`, progress to `console` (standard error of a terminal). `options` are the fields of `ScanSettings`.

    A table leaves `line` records out unless they are asked for by name. Raises as `Pass.read`, and BrokenPipeError if the reader of `out`
    went away.
    """
    from esa_tls.offline.scan_table import write_table  # noqa: PLC0415 (the table is made on top of this module)

    chosen = ScanSettings(**options)
    with bar_on(None if is_terminal(out) else console) as bar:
        progress = None if bar is None else bar.show
        if style == "table":
            write_table(out, files, chosen, stdin=stdin, progress=progress)
        else:
            out.writelines(scan(files, chosen, stdin=stdin, progress=progress))
        out.flush()
    return 0


# -- files -----------------------------------------------------------------------------------------------------------------------
_PACKED = re.compile(r"\.(?:gz|zst|zstd)$", re.IGNORECASE)
_ROTATED = (
    re.compile(r"\.@[0-9]{8}T[0-9]{6}(?:\.[sc])?$"),  # the appliance's own: finished or being written
    re.compile(r"\.(?:current|log|txt|old|s|c)$", re.IGNORECASE),
    re.compile(r"\.[0-9]{1,6}$"),
    re.compile(r"[-_.][0-9]{4}-?[0-9]{2}-?[0-9]{2}(?:[-_T.]?[0-9]{2}[-:]?[0-9]{2}(?:[-:]?[0-9]{2})?)?$"),
)


def file_appliance(path: str | Path) -> str:
    """The appliance a file's name stands for (rule 2), without looking at its folder."""
    name = _PACKED.sub("", Path(path).name)
    shorter = ""
    while name and name != shorter:
        shorter = name
        for part in _ROTATED:
            name = part.sub("", name) or name
    return name


def appliance_names(paths: Sequence[str | Path]) -> list[str | None]:
    """Per path the name of rule 2; None for standard input.

    Raises:
        ConfigError: equal names in folders of equal names, which only `--appliance` can tell apart.
    """
    folders: dict[str, set[Path]] = {}
    for path in paths:
        if str(path) != STDIN:
            folders.setdefault(file_appliance(path), set()).add(Path(path).resolve().parent)
    names: list[str | None] = []
    for path in paths:
        if str(path) == STDIN:
            names.append(None)
            continue
        name = file_appliance(path)
        if len(folders[name]) > 1:
            if len({folder.name for folder in folders[name]}) < len(folders[name]):
                message = f"files named {name} in folders of the same name: read one appliance at a time, with --appliance NAME"
                raise ConfigError(message)
            name = f"{Path(path).resolve().parent.name}-{name}"
        names.append(name)
    return names


def _size_of(path: str | Path) -> int | None:
    if str(path) == STDIN:
        return None
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0  # reading it will say what is wrong


def _file_time_s(path: str | Path) -> float:
    if str(path) != STDIN:
        try:
            return Path(path).stat().st_mtime
        except OSError:
            pass
    return time.time()


def _packed(path: str | Path) -> bool:
    try:
        with Path(path).open("rb") as file:
            return file.read(4).startswith((GZIP_MAGIC, ZSTD_MAGIC))
    except OSError:
        return False  # reading it will say what is wrong


def _year_reference_s(year: int, zone: ZoneInfo) -> float:
    """The core takes the nearest year that is at most a day ahead of a reference: this one is a day before the year's end."""
    return (dt.datetime(year, 12, 31, 23, 59, 59, tzinfo=zone) - dt.timedelta(days=1)).timestamp()


def _runs(origin: Origin, lines: list[bytes]) -> list[Run]:
    """Lines that were cut are runs of their own, with their flag."""
    if CutLine not in map(type, lines):
        return [Run(origin, lines)]
    runs: list[Run] = []
    for line in lines:
        flags = ("truncated",) if isinstance(line, CutLine) else ()
        if not runs or runs[-1].flags != flags:
            runs.append(Run(origin, [], flags=flags))
        runs[-1].lines.append(line)
    return runs
