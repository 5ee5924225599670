"""State as a mapping of bytes: what the core knows beyond this batch.

`scan` hands in a `DictState`, `run` the journal. The core reads with `get`, lists with `items` once at its start, and never
writes: what it changed leaves it as puts and deletes of a `Sealed` group, in the same atomic write as the records.

Keys (all parts big-endian, so that byte order is time or number order)::

    a <appliance>                                  the appliance itself: epoch, clock, counters
    e <appliance> 00 <epoch:4> <kind:1> <number:8>  an entry: I connection in, D connection out, M message; open or a tombstone
    w <appliance> 00 <generation:4> <group:8>       bodies seen lately, for duplicates
    r <appliance> 00 <sequence:8>                   a line waiting in the reorder window
    s <digest:9>                                    the end of a stream of lines of one origin, for continuations
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class State(Protocol):
    """What the core needs of a store."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None if there is none."""

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All pairs whose key starts with `prefix`, in ascending key order."""


class DictState:
    """State in memory: for `scan` and for tests. `apply` plays the part of the journal's commit."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None if there is none."""
        return self.data.get(key)

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All pairs whose key starts with `prefix`, in ascending key order."""
        yield from sorted((key, value) for key, value in self.data.items() if key.startswith(prefix))

    def apply(self, puts: list[tuple[bytes, bytes]], deletes: list[bytes]) -> None:
        """Write what a sealed group changed."""
        for key in deletes:
            self.data.pop(key, None)
        self.data.update(puts)


def appliance_key(name: str) -> bytes:
    """Where the appliance's own state is."""
    return b"a" + name.encode()


def entry_prefix(name: str) -> bytes:
    """What the keys of all entries of an appliance start with."""
    return b"e" + name.encode() + b"\0"


def entry_key(name: str, epoch: int, kind: str, number: int) -> bytes:
    """Where a connection (`I`, `D`) or message (`M`) is."""
    return entry_key_prefix(name, epoch, kind) + number.to_bytes(8, "big")


def entry_key_prefix(name: str, epoch: int, kind: str) -> bytes:
    """What the keys of all entries of a kind in an epoch start with; the number follows."""
    return b"e" + name.encode() + b"\0" + epoch.to_bytes(4, "big") + kind.encode()


def seen_prefix(name: str) -> bytes:
    """What the keys of an appliance's seen bodies start with."""
    return b"w" + name.encode() + b"\0"


def seen_key(name: str, generation: int, group: int) -> bytes:
    """Where the bodies seen in one group are."""
    return seen_prefix(name) + generation.to_bytes(4, "big") + group.to_bytes(8, "big")


def waiting_prefix(name: str) -> bytes:
    """What the keys of an appliance's waiting lines start with."""
    return b"r" + name.encode() + b"\0"


def waiting_key(name: str, sequence: int) -> bytes:
    """Where a line that waits in the reorder window is."""
    return waiting_prefix(name) + sequence.to_bytes(8, "big")


def stream_key(digest: bytes) -> bytes:
    """Where the end of a stream of lines is, by the digest of its origin."""
    return b"s" + digest
