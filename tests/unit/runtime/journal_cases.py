"""What the journal's tests share: numbered groups, and a way to read everything back."""

from __future__ import annotations

from typing import Any

import msgspec

from esa_tls.core.batch import Row, Sealed
from esa_tls.runtime.journal import Journal

MIB = 1 << 20
STATE_KEYS = 7


def group(n: int, *, padding: bytes = b"") -> Sealed:
    """The n-th group: a row of lines in two encodings, a row of summaries, state, a key; all of it says n."""
    return Sealed(
        rows=[
            Row("line", "json", [("line", 2, b'{"n":%d}\n' % n + padding)]),
            Row("line", "forward", [("line", 2, b"\x92\x00%d" % n)]),
            Row("summary", "json", [("connection", 1, b"c%d" % n), ("delivery", 3, b"d%d" % n)]),
        ],
        puts=[(b"last", b"%d" % n), (b"s%d" % (n % STATE_KEYS), b"%d" % n)],
        deletes=[b"s%d" % ((n + 1) % STATE_KEYS)],
        keys=[key(n)],
        lines=2,
    )


def key(n: int) -> bytes:
    """The batch key of the n-th group."""
    return b"%016d" % n


def cursor(sequence: int | dict[str, int], **rest: Any) -> bytes:
    """A cursor as a dispatcher saves it."""
    return msgspec.msgpack.encode({"sequence": sequence, **rest})


def numbers_of(journal: Journal, cls: str = "line", encoding: str = "json") -> list[int]:
    """The n of every row that is there, in the order they are read."""
    found: list[int] = []
    after = 0
    while rows := journal.read(after, cls=cls, encoding=encoding, max_bytes=MIB):
        after = rows[-1][0]
        found += [int(row.segments[0][2].lstrip(b'{"n:c\x92\x00').split(b"}")[0]) for _, row in rows]
    return found


def check_whole(journal: Journal, *, first: int = 1) -> int:
    """Assert that exactly the groups first..N are there, each of them whole, and return N. Reads every row, key and state value."""
    numbers = numbers_of(journal)
    last = numbers[-1] if numbers else 0
    expected = list(range(first, last + 1))
    assert numbers == expected
    assert numbers_of(journal, "line", "forward") == expected
    assert numbers_of(journal, "summary", "json") == expected
    assert journal.tail() == 3 * last
    assert all(journal.knows(key(n)) for n in range(1, last + 1))
    assert not journal.knows(key(last + 1))
    state: dict[bytes, bytes] = {}
    for n in range(1, last + 1):
        state.pop(b"s%d" % ((n + 1) % STATE_KEYS), None)
        state |= {b"last": b"%d" % n, b"s%d" % (n % STATE_KEYS): b"%d" % n}
    assert dict(journal.items(b"")) == state
    return last
