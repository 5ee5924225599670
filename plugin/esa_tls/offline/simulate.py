"""Made-up mail log traffic with the truth about it: ``esa-tls simulate``.

A seeded model of mail gateways writes their text mail logs and, beside them, the summary records that a faultless reader makes of them.
The truth comes from what the model decided to happen; nothing here reads a log line or knows ``esa_tls.core``.

Rules: the same settings give the same bytes and the same truth. Stamps never go back within one appliance. Memory holds what is open in the
simulated world, not the log. Shuffling, loss and late batches touch the lines only: the truth still says what really happened.
Files: settings, text (words), model (clock, connections, messages), arrivals, inbound, reception, queue, children, outbound, truth.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import compress
from random import Random
from typing import Any, BinaryIO, Final, TextIO, TypeVar

import msgspec

from esa_tls.errors import ConfigError
from esa_tls.offline.simulate_arrivals import appliance_life
from esa_tls.offline.simulate_model import Clock, LineTruth, World
from esa_tls.offline.simulate_settings import ATTEMPT_SHARES, CONNECTION_SHARES, HOST_SHARES, MESSAGE_SHARES, SimulationSettings
from esa_tls.offline.simulate_truth import ABSENCE_COUNTS, Truth, TruthSink

__all__ = [
    "ABSENCE_COUNTS",
    "ATTEMPT_SHARES",
    "CONNECTION_SHARES",
    "HOST_SHARES",
    "MESSAGE_SHARES",
    "LineTruth",
    "SimulationCounts",
    "SimulationSettings",
    "Truth",
    "shuffle_batches",
    "simulate",
    "write_simulation",
]

T = TypeVar("T")
_Said = tuple[World, int, list[bytes], list[LineTruth]]
_WRITE_LINES: Final = 5_000


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationCounts:
    """What ``write_simulation`` wrote."""

    lines: int
    lost_lines: int
    truth_records: int


def simulate(
    settings: SimulationSettings, *, truth: TruthSink | None = None, line_truth: Callable[[LineTruth], None] | None = None
) -> Iterator[tuple[str, bytes]]:
    """Lines in log order, as (appliance, line without line feed), interleaved over the appliances.

    ``truth`` gets each summary record when its subject has ended, the last ones at the end of the iteration. ``line_truth`` gets one object
    for each line, just before the line comes; its outcome is final when the connection is decided, at the latest when the iteration ends.
    """
    for world, _, lines, notes in _said(settings, truth=truth, line_truths=line_truth is not None):
        name = world.name
        if line_truth is None:
            for line in lines:
                yield name, line
        else:
            for line, note in zip(lines, notes, strict=True):
                line_truth(note)
                yield name, line


def write_simulation(
    settings: SimulationSettings,
    out: BinaryIO | Mapping[str, BinaryIO],
    truth: TextIO | None = None,
    *,
    shuffle_in_second: bool = False,
    loss: float = 0.0,
    lines_truth: TextIO | None = None,
) -> SimulationCounts:
    """Write the lines to ``out`` (one file, or one for each appliance's name) and the truth as JSON lines.

    ``shuffle_in_second`` puts the lines of one second of one appliance in any order, ``loss`` is the share of lines left out; both are
    seeded, and the truth does not change. ``lines_truth`` gets one JSON object for each line written, in the order written.

    Raises:
        ConfigError: several appliances of the file form in one file (their lines could not be told apart), or a loss that is no share.
    """
    if not 0.0 <= loss <= 1.0:
        raise ConfigError("simulate: loss is a share between 0 and 1")
    files = out if isinstance(out, Mapping) else dict.fromkeys(settings.names, out)
    if settings.form == "file" and settings.appliances > 1 and not isinstance(out, Mapping):
        raise ConfigError("simulate: several appliances in one file need the syslog form, which names them")
    missing = [name for name in settings.names if name not in files]
    if missing:
        raise ConfigError(f"simulate: no file for {', '.join(missing)}")
    records = 0

    def record(item: Truth) -> None:
        nonlocal records
        if truth is not None:
            records += 1
            truth.write(_json(item) + "\n")

    said = _said(settings, truth=None if truth is None else record, line_truths=lines_truth is not None)
    if shuffle_in_second:
        said = _shuffled(said, Random(f"{settings.seed}/shuffle"))
    survives = Random(f"{settings.seed}/loss").random
    notes_out = _LineTruthWriter(lines_truth)
    pending: dict[str, list[bytes]] = {name: [] for name in settings.names}
    lines = lost = 0
    for world, _, batch, notes in said:
        arrives = [survives() >= loss for _ in batch] if loss else [True] * len(batch)
        arrived = list(compress(batch, arrives))
        lines += len(arrived)
        lost += len(batch) - len(arrived)
        notes_out.add(world.name, compress(notes, arrives))
        waiting = pending[world.name]
        waiting += arrived
        if len(waiting) >= _WRITE_LINES:
            _flush(files[world.name], waiting)
    for name, waiting in pending.items():
        _flush(files[name], waiting)
    notes_out.finish()
    return SimulationCounts(lines=lines, lost_lines=lost, truth_records=records)


def shuffle_batches(lines: Iterable[T], *, batch_lines: int, seed: int, late_share: float = 0.1, latest: int = 3) -> Iterator[list[T]]:
    """Batches of ``batch_lines`` as a shipper with retries hands them over: a ``late_share`` of them comes 1 to ``latest`` batches late."""
    if batch_lines < 1 or latest < 1:
        raise ConfigError("simulate: batch_lines and latest must be at least 1")
    random = Random(f"{seed}/batches")
    late: list[tuple[int, list[T]]] = []
    for position, batch in enumerate(_batches(lines, batch_lines)):
        if random.random() < late_share:
            late.append((position + random.randint(1, latest), batch))
        else:
            yield batch
        yield from (held for due, held in late if due <= position)
        late = [entry for entry in late if entry[0] > position]
    for _, batch in sorted(late, key=lambda entry: entry[0]):
        yield batch


def _batches(lines: Iterable[T], size: int) -> Iterator[list[T]]:
    batch: list[T] = []
    for line in lines:
        batch.append(line)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _said(settings: SimulationSettings, *, truth: TruthSink | None, line_truths: bool) -> Iterator[_Said]:
    """What is said at one moment: the world, the second, its lines, their truths (empty unless asked for)."""
    clock = Clock()
    names = settings.names
    for n, name in enumerate(names):
        quota = settings.messages // len(names) + (n < settings.messages % len(names))
        world = World(settings, name=name, clock=clock, quota=quota, truth=truth, line_truths=line_truths)
        world.spawn(appliance_life(world))
    second_name = settings.second_log_name
    for world in clock.run():
        lines, world.out = world.out, []
        notes: list[LineTruth] = []
        if world.notes is not None:
            notes, world.notes = world.notes, []
        if second_name is not None:
            first = f" {settings.log_name.format(appliance=world.name)}: ".encode()
            second = f" {second_name.format(appliance=world.name)}: ".encode()
            lines += [line.replace(first, second, 1) for line in lines]
            notes += notes
        yield world, world.second, lines, notes


def _shuffled(said: Iterator[_Said], random: Random) -> Iterator[_Said]:
    """The same, with each appliance's lines of one second gathered and put in any order."""
    gathered: dict[str, _Said] = {}
    for world, second, lines, notes in said:
        before = gathered.get(world.name)
        if before is not None and before[1] == second:
            before[2].extend(lines)
            before[3].extend(notes)
            continue
        if before is not None:
            yield _in_any_order(before, random)
        gathered[world.name] = (world, second, list(lines), list(notes))
    for left in gathered.values():
        yield _in_any_order(left, random)


def _in_any_order(said: _Said, random: Random) -> _Said:
    world, second, lines, notes = said
    order = list(range(len(lines)))
    random.shuffle(order)
    return world, second, [lines[n] for n in order], [notes[n] for n in order] if notes else notes


class _LineTruthWriter:
    """Line truths in order, each written once its outcome is known."""

    def __init__(self, out: TextIO | None) -> None:
        self._out = out
        self._waiting: deque[tuple[str, LineTruth]] = deque()

    def add(self, appliance: str, notes: Iterable[LineTruth]) -> None:
        """The truths of lines just written."""
        self._waiting.extend((appliance, note) for note in notes)
        while self._waiting and (self._waiting[0][1].outcome is not None or self._waiting[0][1].connection is None):
            self._write(*self._waiting.popleft())

    def finish(self) -> None:
        """Nothing more will be decided."""
        while self._waiting:
            self._write(*self._waiting.popleft())

    def _write(self, appliance: str, note: LineTruth) -> None:
        if self._out is not None:
            self._out.write(_json({"appliance": appliance, **msgspec.structs.asdict(note)}) + "\n")


def _flush(file: BinaryIO, lines: list[bytes]) -> None:
    if lines:
        file.write(b"\n".join(lines) + b"\n")
        lines.clear()


def _json(item: dict[str, Any]) -> str:
    return msgspec.json.encode(item).decode()
