"""From decoded Forward frames to what the core takes: origins, runs, slices (docs/correlation.md 3.10 and 6). Pure."""

from __future__ import annotations

import hashlib
from typing import Any

from esa_tls.core.batch import Batch, Origin, Run
from esa_tls.wire.fluent_decode import ForwardSettings, Frame
from esa_tls.wire.fluent_values import EntryTimes

__all__ = ["MAX_SLICE_LINES", "Origins", "cut", "host_name", "join", "to_batch"]

MAX_SLICE_LINES = 2000
"""Lines of one slice (docs/correlation.md 6 rule 4). Fixed: a resent frame must be cut at the same places to get the same keys."""


class Origins:
    """Interns `Origin`s: equal ways in are one object, so that the core can compare by identity. Bounded."""

    def __init__(self, settings: ForwardSettings, *, max_origins: int = 4096) -> None:
        self._settings = settings
        self._max_origins = max_origins
        self._known: dict[tuple[str, str | None, str | None, str | None], Origin] = {}

    def get(self, tag: str, peer: str | None, record_appliance: str | None = None, otlp_host: str | None = None) -> Origin:
        """The origin of lines that came this way."""
        wanted = (tag, peer, record_appliance, otlp_host)
        origin = self._known.get(wanted)
        if origin is None:
            if len(self._known) >= self._max_origins:
                self._known.clear()  # sharing is lost for a moment, nothing else
            settings = self._settings
            origin = self._known[wanted] = Origin(
                source=settings.source,
                tag=tag,
                peer=peer,
                record_appliance=record_appliance,
                otlp_host=otlp_host,
                lossy=settings.lossy,
                reorder_window_s=settings.reorder_window_s,
                trust_host=settings.trust_host,
            )
        return origin


def to_batch(frame: Frame, *, origins: Origins, peer: str | None, session: int, received_s: float) -> Batch:
    """The core batch of a frame: one run per origin, the order of lines kept inside each origin.

    `peer`: the sender's address. `received_s`: seconds since 1970, handed on. An origin gets a further run where `reconstructed` changes,
    since flags belong to runs.
    """
    batch = Batch(runs=[], session=session, key=frame.key, received_s=received_s)
    if not frame.lines:
        return batch
    names = set(frame.appliances) if frame.appliances else {None}
    if len(names) == 1 and frame.resources is None and frame.reconstructed is None:
        batch.runs.append(Run(origins.get(frame.tag, peer, names.pop()), frame.lines, frame.times_s))
        return batch
    open_runs: dict[int, tuple[Run, list[Any]]] = {}
    for i, line in enumerate(frame.lines):
        appliance = frame.appliances[i] if frame.appliances else None
        host = host_name(frame.resources[i]) if frame.resources else None
        origin = origins.get(frame.tag, peer, appliance, host)
        flags = ("reconstructed",) if frame.reconstructed and frame.reconstructed[i] else ()
        found = open_runs.get(id(origin))
        if found is None or found[0].flags != flags:
            heads: list[Any] = []
            found = open_runs[id(origin)] = (Run(origin, [], EntryTimes(heads), flags), heads)
            batch.runs.append(found[0])
        found[0].lines.append(line)
        found[1].append(frame.heads[i])
    return batch


def join(batch: Batch, more: Batch) -> Batch:
    """`batch` with the lines of `more` behind its own, in place; for batches without a key. Neighbours of one origin become one run."""
    for run in more.runs:
        last = batch.runs[-1] if batch.runs else None
        if (
            last is not None
            and last.origin is run.origin
            and last.flags == run.flags
            and isinstance(last.sender_times_s, EntryTimes)
            and isinstance(run.sender_times_s, EntryTimes)
        ):
            last.lines.extend(run.lines)
            last.sender_times_s.extend(run.sender_times_s)
        else:
            batch.runs.append(run)
    return batch


def host_name(resource: dict[Any, Any] | None) -> str | None:
    """`host.name` of a group's resource (docs/wires.md 1.8 items 5 and 6)."""
    attributes = resource.get(b"attributes") if resource else None
    name = attributes.get(b"host.name") if isinstance(attributes, dict) else None
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) and name else None


def cut(batch: Batch, *, max_lines: int = MAX_SLICE_LINES) -> list[Batch]:
    """Slices of at most `max_lines` lines in order, keys hash(batch key, n); the batch itself if it is short enough."""
    if batch.line_count() <= max_lines:
        return [batch]
    slices: list[Batch] = []
    room = 0
    for run in batch.runs:
        at = 0
        while at < len(run.lines):
            if room == 0:
                slices.append(Batch([], batch.session, _slice_key(batch.key, len(slices)), batch.received_s))
                room = max_lines
            stop = min(at + room, len(run.lines))
            times = run.sender_times_s[at:stop] if run.sender_times_s is not None else None
            slices[-1].runs.append(Run(run.origin, run.lines[at:stop], times, run.flags))
            room -= stop - at
            at = stop
    return slices


def _slice_key(key: bytes | None, n: int) -> bytes | None:
    return None if key is None else hashlib.blake2b(key + n.to_bytes(4, "big"), digest_size=16).digest()
