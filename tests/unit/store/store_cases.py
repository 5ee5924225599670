"""What tests of the store share: rows as the core makes them, the records in them, a writer on a folder, questions without a loop."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from tests.unit.core.driver import T0, at

from esa_tls.core.batch import Batch, Origin, Row, Run
from esa_tls.core.expected import Partner
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.state import DictState
from esa_tls.offline.simulate import SimulationSettings, simulate
from esa_tls.store.schema import open_for_reading
from esa_tls.store.view import Reading, View
from esa_tls.store.write import Limits, Writer

T = TypeVar("T")
Record = dict[str, Any]
Rows = list[tuple[int, Row]]

DAY_S = 86_400
NOW_S = 1_800_000_000.0

MESSAGE = at(
    0,
    "New SMTP ICID 11 interface Data 1 (192.0.2.1) address 198.51.100.7 reverse dns host mx.example.net verified yes",
    "ICID 11 ACCEPT SG UNKNOWNLIST match sbrs[-1.0:10.0] SBRS 3.4 country United States",
    "ICID 11 TLS success protocol TLSv1.2 cipher ECDHE-RSA-AES256-GCM-SHA384",
    "Start MID 21 ICID 11",
    "MID 21 ICID 11 From: <ann@example.net>",
    "MID 21 ICID 11 RID 0 To: <Bob@Example.org>",
    "MID 21 Message-ID '<one@example.net>'",
    "MID 21 Subject 'Hello'",
    "MID 21 ready 1234 bytes from <ann@example.net>",
    "MID 21 queued for delivery",
) + at(
    1,
    "New SMTP DCID 31 interface 192.0.2.1 address 203.0.113.9 port 25",
    "DCID 31 STARTTLS command not supported",
    "Delivery start DCID 31 MID 21 to RID [0]",
    "Message done DCID 31 MID 21 to RID [0]",
    "MID 21 RID [0] Response 'ok'",
    "Message finished MID 21 done",
    "DCID 31 close",
    "ICID 11 close",
)  # fmt: skip
"""One mail, received under TLS and delivered in clear."""


PARTNERS = (Partner("Bank", domains=("d43-1.example.org", "old.example.com")), Partner("Regulator", domains=("mail.example.net",)))
"""Where TLS is expected in these tests."""


class Made:
    """Rows in the store's encoding, as the outbox would hold them, and the same records as dicts."""

    def __init__(
        self, lines: Iterable[tuple[str, bytes]], *, batch_lines: int = 200, first: int = 1, partners: tuple[Partner, ...] = PARTNERS
    ) -> None:
        self.rows: Rows = []
        self.records: list[Record] = []
        self.lines: list[Record] = []
        state = DictState()
        pipeline = Pipeline(CoreSettings(starts_broken=False, partners=partners), state, encodings=("json", "store"), now_s=NOW_S)
        origins: dict[str, Origin] = {}
        waiting: list[tuple[str, bytes]] = []

        def seal() -> None:
            sealed = pipeline.seal()
            if sealed is None:
                return
            state.apply(sealed.puts, sealed.deletes)
            for row in sealed.rows:
                if row.encoding == "store":
                    self.rows.append((first + len(self.rows), row))
                    continue
                for kind, _, body in row.segments:
                    (self.lines if kind == "line" else self.records).extend(map(msgspec.json.decode, body.splitlines()))

        def feed() -> None:
            runs: list[Run] = []
            for name, line in waiting:
                origin = origins.setdefault(name, Origin(source="test", record_appliance=name))
                if not runs or runs[-1].origin is not origin:
                    runs.append(Run(origin, []))
                runs[-1].lines.append(line)
            waiting.clear()
            pipeline.feed(Batch(runs, 1, received_s=NOW_S), now_s=NOW_S)
            seal()

        for one in lines:
            waiting.append(one)
            if len(waiting) == batch_lines:
                feed()
        feed()
        pipeline.end_stream()
        seal()

    def of(self, kind: str) -> list[Record]:
        """The records of a kind."""
        return [record for record in self.records if record["cisco_esa"]["record"] == kind]


def made(*lines: bytes, appliance: str = "esa1", **options: Any) -> Made:
    """Rows of these lines of one appliance."""
    return Made(((appliance, line) for line in lines), **options)


def simulated(messages: int = 300, *, seed: int = 3, appliances: int = 2, batch_lines: int = 200, **settings: Any) -> Made:
    """Rows of simulated traffic."""
    settings = {"span_s": 3 * DAY_S, "hostile": 0.3, **settings}
    return Made(simulate(SimulationSettings(seed=seed, messages=messages, appliances=appliances, **settings)), batch_lines=batch_lines)


def summary_row(*records: Record) -> Row:
    """A row of these records."""
    kinds: dict[str, list[Record]] = {}
    for record in records:
        kinds.setdefault(record["cisco_esa"]["record"], []).append(record)
    return Row(
        "summary",
        "store",
        [(kind, len(found), b"".join(msgspec.json.encode(one) + b"\n" for one in found)) for kind, found in kinds.items()],
    )


LIMITS = Limits(max_age_s=30 * DAY_S, max_bytes=2**40)


@contextmanager
def writing(
    path: Path, limits: Limits = LIMITS, *, now_s: Callable[[], float] = lambda: NOW_S, token: bytes | None = None, part_records: int = 500
) -> Iterator[Writer]:
    """An open writer."""
    writer = Writer(path, limits, now_s=now_s, part_records=part_records)
    writer.open()
    try:
        writer.resume(token)
        yield writer
    finally:
        writer.close()


def filed(path: Path, rows: Sequence[tuple[int, Row]], *, at_once: int = 7, part_records: int = 500) -> None:
    """File rows, some at a time."""
    with writing(path, part_records=part_records) as writer:
        for start in range(0, len(rows), at_once):
            writer.apply(rows[start : start + at_once])


@contextmanager
def looking(path: Path, *, within_s: float = 30.0) -> Iterator[View]:
    """A view of the file."""
    connection = open_for_reading(path)
    assert connection is not None
    try:
        with Reading(connection, 0).view(within_s=within_s) as view:
            yield view
    finally:
        connection.close()


def asked(path: Path, question: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """The answer to one question."""
    with looking(path) as view:
        return question(view, *args, **kwargs)


def ids(records: Iterable[Record]) -> list[str]:
    """Ids of records."""
    return [record["event"]["id"] for record in records]


def all_of(path: Path, sql: str) -> list[tuple[Any, ...]]:
    """Rows out of the file itself."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def stored_ids(path: Path) -> list[str]:
    """Ids of all records in the file, in order of filing."""
    with looking(path) as view:
        found = []
        for (n,) in view.connection.execute("SELECT n FROM record ORDER BY n").fetchall():
            record = view.record(n)
            assert record is not None
            found.append(record["event"]["id"])
        return found


def rollups(path: Path) -> dict[tuple[Any, ...], int]:
    """All counts in the file."""
    sql = "SELECT grain, series, start_s, a.name, direction, flow, r.name, clear, number FROM rollup r JOIN appliance a ON a.id = appliance"
    return {tuple(row): number for *row, number in all_of(path, sql)}


__all__ = [name for name in globals() if not name.startswith("_")]
assert T0
