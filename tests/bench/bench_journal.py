"""The journal's speed: groups of 1 MiB of rows and 800 changed entries among 40,000, synced. Printed, not judged.

Run: python tests/bench/bench_journal.py
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import msgspec

from esa_tls.core.batch import Row, Sealed
from esa_tls.runtime.journal import Journal

MIB = 1 << 20
GROUPS = 300
ENTRIES = 40_000
CHANGED = 800
RECORD = b'{"@timestamp":"2026-11-24T21:58:34.219Z","event":{"kind":"event","sequence":%012d},"esa":{"connection":{"id":%d}}}\n'


def rows_of(n: int) -> Row:
    """About 1 MiB of records that compress as records do."""
    body = b"".join(RECORD % (n * 9_000 + i, i) for i in range(9_000))
    return Row("line", "json", [("line", 9_000, body)])


def run(folder: Path, *, changed: int, rows: bool) -> tuple[float, float]:
    """Commit the groups; returns seconds in all, and megabytes of rows."""
    journal = Journal.open(folder)
    journal.set_readers({"store": [("line", "json")]})
    value = os.urandom(100) + b"v" * 300
    bodies = [rows_of(n) if rows else None for n in range(8)]
    megabytes = 0.0
    spent_s = 0.0
    for n in range(GROUPS):
        puts = [(b"e appliance \0%08d" % ((n * changed + i) % ENTRIES), value) for i in range(changed)]
        row = bodies[n % 8]
        sealed = Sealed([row] if row else [], puts, [], [os.urandom(16)])
        megabytes += len(row.segments[0][2]) / 1e6 if row else 0.0
        started_s = time.perf_counter()
        journal.commit([sealed], cursors={"store": msgspec.msgpack.encode({"sequence": max(journal.tail() - 3, 0)})})
        spent_s += time.perf_counter() - started_s
        if n % 20 == 19:
            journal.trim()
    journal.close()
    return spent_s, megabytes


def commits(folder: Path) -> None:
    """Commits and megabytes a second, and what one changed entry costs."""
    whole_s, megabytes = run(folder / "whole", changed=CHANGED, rows=True)
    without_s, _ = run(folder / "without", changed=1, rows=True)
    empty_s, _ = run(folder / "empty", changed=1, rows=False)
    print(
        f"\n{GROUPS / whole_s:.0f} commits/s, {megabytes / whole_s:.0f} MB/s of rows with {CHANGED} entries each"
        f" ({1e3 * whole_s / GROUPS:.2f} ms a commit)"
        f"\n{1e6 * (whole_s - without_s) / GROUPS / (CHANGED - 1):.2f} us for a changed entry"
        f"\n{1e3 * empty_s / GROUPS:.2f} ms for a commit of next to nothing"
    )


def reads(folder: Path) -> None:
    """Rows read back, state read cold and hot, keys looked up."""
    journal = Journal.open(folder / "read")
    for n in range(100):
        journal.commit([Sealed([rows_of(n)], [(b"e%08d" % (n * 400 + i), b"v" * 400) for i in range(400)], [], [b"%016d" % n])])
    journal._rocks.flush()
    started_s, after, size = time.perf_counter(), 0, 0
    while rows := journal.read(after, cls="line", encoding="json", max_bytes=4 * MIB):
        after = rows[-1][0]
        size += sum(len(row.segments[0][2]) for _, row in rows)
    print(f"\n{size / 1e6 / (time.perf_counter() - started_s):.0f} MB/s of rows read")
    for what in ("first", "second"):
        started_s = time.perf_counter()
        for n in range(ENTRIES):
            assert journal.get(b"e%08d" % n)
        print(f"{1e6 * (time.perf_counter() - started_s) / ENTRIES:.2f} us for an entry read the {what} time")
    started_s = time.perf_counter()
    for n in range(10_000):
        assert not journal.knows(b"x%015d" % n)
    print(f"{1e6 * (time.perf_counter() - started_s) / 10_000:.2f} us for a key that is not known")
    journal.close()


def main() -> None:
    """All of it, in a folder that goes away."""
    with tempfile.TemporaryDirectory(prefix="bench-journal-") as folder:
        commits(Path(folder))
        reads(Path(folder))


if __name__ == "__main__":
    main()
