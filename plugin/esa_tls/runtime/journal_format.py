"""The journal's keys and values as code; `journal.py` has the table. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from esa_tls.core.batch import Row, Sealed
from esa_tls.errors import JournalCorrupt

NUMBERS_KEY: Final = b"m"
READERS_KEY: Final = b"r"
TRIMMED_KEY: Final = b"t"
CURSORS: Final = (b"c", b"d")
"""Where cursors begin, and the first key behind them; so are the next ones."""
LETTERS: Final = (b"d", b"e")


class DeadLetter(msgspec.Struct, frozen=True, array_like=True):
    """Something that could not be used or delivered, kept to be listed and replayed.

    `origin`: `source:<name>` or `sink:<name>`. `reason`: a class of failure, then text. `encoding`: of `payload`, e.g. `json`,
    `forward`, `raw`. `at_s`: seconds, UTC. `kind`: of the records in it; empty if it holds none.
    """

    origin: str
    reason: str
    payload: bytes
    encoding: str = "raw"
    at_s: float = 0.0
    kind: str = ""


class Totals(msgspec.Struct, frozen=True, array_like=True):
    """Rows, records and bytes of one (class, encoding)."""

    rows: int = 0
    records: int = 0
    size_bytes: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(self.rows + other.rows, self.records + other.records, self.size_bytes + other.size_bytes)

    def __sub__(self, other: Totals) -> Totals:
        return Totals(self.rows - other.rows, self.records - other.records, self.size_bytes - other.size_bytes)

    def as_dict(self) -> dict[str, int]:
        """For `journal status`."""
        return {"rows": self.rows, "records": self.records, "size_bytes": self.size_bytes}


class StoredRow(msgspec.Struct, frozen=True, array_like=True):
    """An outbox row as it is stored: totals up to and including it, then its segments."""

    rows: int
    records: int
    size_bytes: int
    segments: list[tuple[str, int, bytes]]

    def before(self) -> Totals:
        """The totals just before this row."""
        return Totals(self.rows, self.records, self.size_bytes) - own_totals(self.segments)


class Numbers(msgspec.Struct, frozen=True):
    """The journal's counters as of one commit. Never changed in place."""

    commit: int = 0
    tail: int = 0
    keys: int = 0
    letters: int = 0
    letters_kept: int = 0
    letters_dropped: int = 0
    streams: dict[str, Totals] = {}


class Trimmed(msgspec.Struct, frozen=True, array_like=True):
    """How far a (class, encoding) is trimmed: the last sequence that is gone, and the totals up to it."""

    upto: int = 0
    totals: Totals = Totals()


class _Cursor(msgspec.Struct):
    sequence: int | dict[str, int]


encode = msgspec.msgpack.Encoder().encode
_decode_row = msgspec.msgpack.Decoder(StoredRow).decode
_decode_totals = msgspec.msgpack.Decoder(Totals).decode
_decode_numbers = msgspec.msgpack.Decoder(Numbers).decode
_decode_letter = msgspec.msgpack.Decoder(DeadLetter).decode
_decode_cursor = msgspec.msgpack.Decoder(_Cursor).decode
_decode_trimmed = msgspec.msgpack.Decoder(dict[str, Trimmed]).decode
_decode_readers = msgspec.msgpack.Decoder(dict[str, list[tuple[str, str]]]).decode


def number(value: int) -> bytes:
    """8 bytes whose order is the order of numbers."""
    return value.to_bytes(8, "big")


def number_at_end(key: bytes) -> int:
    """The number a key ends with."""
    return int.from_bytes(key[-8:], "big")


def stream_name(cls: str, encoding: str) -> str:
    """What the column family of a (class, encoding) is called, and its place in `Numbers.streams` and `status`."""
    return f"{cls}/{encoding}"


def stream_pair(name: str) -> tuple[str, str]:
    """The (class, encoding) of that name."""
    cls, _, encoding = name.partition("/")
    return cls, encoding


def after_prefix(prefix: bytes) -> bytes | None:
    """The first key greater than all keys with this prefix; None if there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None


def own_totals(segments: list[tuple[str, int, bytes]]) -> Totals:
    """What one row adds to the totals."""
    return Totals(1, sum(records for _, records, _ in segments), sum(len(data) for _, _, data in segments))


def row_value(totals: Totals, row: Row) -> bytes:
    """An outbox value; `totals` include the row."""
    return encode((totals.rows, totals.records, totals.size_bytes, row.segments))


def stored_row(value: bytes) -> StoredRow:
    """An outbox value read back. Raises JournalCorrupt."""
    try:
        return _decode_row(value)
    except msgspec.MsgspecError as error:
        raise JournalCorrupt(f"an outbox row is damaged: {error}") from error


def stored_totals(value: bytes) -> Totals:
    """The totals of an outbox value, without copying its segments. Raises JournalCorrupt."""
    try:
        return _decode_totals(value)
    except msgspec.MsgspecError as error:
        raise JournalCorrupt(f"an outbox row is damaged: {error}") from error


def stored_numbers(value: bytes | None) -> Numbers:
    """The counters read back; those of a new journal for None. Raises JournalCorrupt."""
    try:
        return Numbers() if value is None else _decode_numbers(value)
    except msgspec.MsgspecError as error:
        raise JournalCorrupt(f"the journal's counters are damaged: {error}") from error


def stored_trimmed(value: bytes | None) -> dict[str, Trimmed]:
    """How far each (class, encoding) is trimmed. Raises JournalCorrupt."""
    try:
        return {} if value is None else _decode_trimmed(value)
    except msgspec.MsgspecError as error:
        raise JournalCorrupt(f"the journal's marks of what is trimmed are damaged: {error}") from error


def stored_letter(value: bytes) -> DeadLetter:
    """A dead letter read back. Raises JournalCorrupt."""
    try:
        return _decode_letter(value)
    except msgspec.MsgspecError as error:
        raise JournalCorrupt(f"a dead letter is damaged: {error}") from error


def stored_readers(value: bytes | None) -> dict[str, frozenset[tuple[str, str]]]:
    """Which (class, encoding) each sink reads. Raises JournalCorrupt."""
    try:
        return {} if value is None else {sink: frozenset(wanted) for sink, wanted in _decode_readers(value).items()}
    except msgspec.MsgspecError as error:
        raise JournalCorrupt(f"the list of readers is damaged: {error}") from error


def cursor_sequence(value: bytes) -> int | dict[str, int]:
    """Up to where the sink of that cursor is served: one sequence, or one for each class. Raises ValueError."""
    try:
        return _decode_cursor(value).sequence
    except msgspec.MsgspecError as error:
        raise ValueError("a cursor is a msgpack map with `sequence`: a number, or a map of class to number") from error


def sequence_of(sequence: int | Mapping[str, int] | None, cls: str) -> int:
    """The sequence up to which that class is served; 0 if nothing is known."""
    if sequence is None or isinstance(sequence, int):
        return sequence or 0
    return sequence.get(cls, 0)


def sealed_bytes(sealed: Sealed) -> int:
    """About what a group takes in the log."""
    size = 64 * (len(sealed.puts) + len(sealed.deletes) + len(sealed.keys))
    size += sum(len(key) + len(value) for key, value in sealed.puts)
    return size + sum(len(data) for row in sealed.rows for _, _, data in row.segments)
