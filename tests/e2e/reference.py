"""What must come out: the core fed with the same lines in one piece, never stopped, and records compared with that.

Aside by contract: `event.created` (when we received it); `absence` may have become `absence_lossy` by a restart; a line that left as
`pending` says nothing of TLS. Everything else is equal, field by field.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from tests.e2e.sidecar import stored_lines

from esa_tls import config
from esa_tls.app import core_settings
from esa_tls.core.batch import Batch, Origin, Run, Sealed
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.state import DictState

Record = dict[str, Any]

NOW_S = 1.8e9
BATCH_LINES = 1_000

_decode = msgspec.json.Decoder(dict[str, Any]).decode

_CREATED = re.compile(rb',"created":"[^"]*"')


class _Event(msgspec.Struct):
    id: str


class _Identified(msgspec.Struct):
    event: _Event


_decode_id = msgspec.json.Decoder(_Identified).decode


def settings_of(path: Path) -> CoreSettings:
    """The settings with which `run -c path` runs its core."""
    return core_settings(config.load(path))


class Undisturbed:
    """One core without a journal. `feed` lines, then take the `records` that have left."""

    def __init__(self, settings: CoreSettings, *, source: str = "fluent") -> None:
        self._source = source
        self._sessions: dict[str, int] = {}
        self._state = DictState()
        self._out: list[bytes] = []
        self.lines = 0
        self.pipeline = Pipeline(settings, self._state, encodings=("json",), now_s=NOW_S)

    def feed(self, lines: Sequence[bytes], *, tag: str = "esa1", batch_lines: int = BATCH_LINES) -> Undisturbed:
        """Lines of one sender, in order."""
        session = self._sessions.setdefault(tag, len(self._sessions) + 1)
        origin = Origin(source=self._source, tag=tag, peer="127.0.0.1")
        for at in range(0, len(lines), batch_lines):
            self.pipeline.feed(Batch([Run(origin, list(lines[at : at + batch_lines]))], session, received_s=NOW_S), now_s=NOW_S)
            self._take(self.pipeline.seal())
        self.lines += len(lines)
        return self

    def let_held_lines_go(self) -> Undisturbed:
        """As if the longest time to hold a line had passed."""
        self.pipeline.tick(now_s=NOW_S + self.pipeline.settings.max_hold_s + 1)
        self._take(self.pipeline.seal())
        return self

    def end_stream(self) -> Undisturbed:
        """As `scan` ends."""
        self.pipeline.end_stream()
        self._take(self.pipeline.seal())
        return self

    def _take(self, sealed: Sealed | None) -> None:
        if sealed is not None:
            self._state.apply(sealed.puts, sealed.deletes)
            self._out += [body for row in sealed.rows for _, _, body in row.segments]

    def take_raw(self) -> Iterator[bytes]:
        """Records that have left since the last call, as JSON lines."""
        out, self._out = self._out, []
        for body in out:
            yield from body.splitlines(keepends=True)

    def records(self) -> dict[str, Record]:
        """Records that have left since the last call, by id."""
        return by_id(map(_decode, self.take_raw()))


def written(path: Path) -> dict[str, Record]:
    """The records that a jsonl sink has written, by id; a torn line or a record that is there twice is an error."""
    return by_id(map(_decode, whole_lines(stored_lines(path))))


def whole_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines, none of them torn."""
    for line in lines:
        assert line.startswith(b"{"), line[:200]
        assert line.endswith(b"}\n"), line[-200:]
        yield line


def by_id(records: Iterable[Record]) -> dict[str, Record]:
    """By id; a record that comes twice is an error."""
    found: dict[str, Record] = {}
    for record in records:
        record_id = record["event"]["id"]
        assert record_id not in found, f"twice: {record} and {found[record_id]}"
        found[record_id] = record
    return found


def count_of(path: Path, kind: str) -> int:
    """How many records of a kind a jsonl sink has written so far."""
    mark = f'"record":"{kind}"'.encode()
    return sum(mark in line for line in stored_lines(path))


def kind_of(record: Record) -> str:
    """`line`, `connection`, ..."""
    kind: str = record["cisco_esa"]["record"]
    return kind


def is_pending(record: Record) -> bool:
    """Whether a line left before its connection was decided."""
    return bool(record["cisco_esa"].get("tls", {}).get("outcome") == "pending")


def plain(record: Record, *, tls: bool = True, evidence: bool = False) -> Record:
    """A copy without what is aside: `tls=False` leaves TLS out (of a line), `evidence=False` makes `absence` `absence_lossy`."""
    copy: Record = _decode(
        msgspec.json.encode(record) if evidence else msgspec.json.encode(record).replace(b'"absence"', b'"absence_lossy"')
    )
    copy["event"].pop("created", None)
    if not tls:
        copy.pop("tls", None)
        copy["cisco_esa"].pop("tls", None)
    return copy


def differences(
    expected: Mapping[str, Record], got: Mapping[str, Record], *, pending: bool = False, evidence: bool = True, limit: int = 5
) -> list[str]:
    """In words, the first `limit` differences. `pending`: a line may have left undecided; `evidence=False`: see `plain`."""
    found: list[str] = []
    for record_id in expected.keys() | got.keys():
        if len(found) >= limit:
            break
        want, have = expected.get(record_id), got.get(record_id)
        if want is None:
            found.append(f"too much: {have}")
        elif have is None:
            found.append(f"missing: {want}")
        else:
            undecided = pending and (is_pending(want) or is_pending(have))
            left, right = (plain(one, tls=not undecided, evidence=evidence) for one in (want, have))
            if left != right:
                found.append(f"{record_id} {kind_of(want)}: " + "; ".join(_unequal("", left, right)))
    return found


def raw_differences(expected: Iterable[bytes], got: Iterable[bytes], *, limit: int = 5) -> list[str]:
    """The same for records as JSON lines, in little memory: a line may have left undecided, and `absence` may be `absence_lossy`."""
    found: list[str] = []
    waiting: dict[str, bytes] = {}
    for line in got:
        record_id = _decode_id(line).event.id
        assert record_id not in waiting, f"twice: {line!r} and {waiting[record_id]!r}"
        waiting[record_id] = line
    for line in expected:
        record_id = _decode_id(line).event.id
        have = waiting.pop(record_id, None)
        if len(found) < limit and (have is None or _without_created(line) != _without_created(have)):
            mine = {} if have is None else {record_id: _decode(have)}
            found += differences({record_id: _decode(line)}, mine, pending=True, evidence=False)
    return found + [f"too much: {line!r}" for line in list(waiting.values())[:limit]]


def _without_created(line: bytes) -> bytes:
    return _CREATED.sub(b"", line.replace(b'"absence"', b'"absence_lossy"'), count=1)


def _unequal(path: str, left: Any, right: Any) -> list[str]:
    if isinstance(left, dict) and isinstance(right, dict):
        return [told for key in left.keys() | right.keys() for told in _unequal(f"{path}.{key}", left.get(key), right.get(key))]
    return [] if left == right else [f"{path[1:]}: expected {left!r}, got {right!r}"]


def lines_without_record(lines: Collection[bytes], records: Iterable[Record]) -> list[bytes]:
    """Lines whose text no `line` record has (each as often as it stands there)."""
    import base64
    from collections import Counter

    missing = Counter(lines)
    for record in records:
        if kind_of(record) == "line":
            raw = record["cisco_esa"].get("raw_base64")
            missing[base64.b64decode(raw) if raw is not None else record["event"]["original"].encode()] -= 1
    return [line for line, n in missing.items() if n > 0]
