"""The records that dashboards and queries are tried on, and the truth behind them.

Simulated mail of two appliances in three stretches (40 days, ten days and one day before `NOW`), read by `scan`; beside it the log of a
third appliance, written here, with failures that the simulator does not make. `NOW` is fixed: nothing depends on the day of the test.

Each summary record is paired with the truth that the simulator tells of it. Where docs/correlation.md leaves a field open, the truth has
no value for it and `Pair.said` takes the record's; it is checked elsewhere (`tests/property`) that all else is equal.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from tests.property.truth import flat, key_of

from esa_tls.offline.scan import ScanSettings, scan
from esa_tls.offline.simulate import SimulationSettings, Truth, simulate

Record = dict[str, Any]

NOW = datetime(2025, 11, 25, 15, tzinfo=UTC)
YESTERDAY = datetime(2025, 11, 24, tzinfo=UTC)
MESSAGES = 500
FEWER = 100

_STRETCHES = (
    (NOW - timedelta(days=40), FEWER, 0),
    (NOW - timedelta(days=10), FEWER, 1_000_000),
    (YESTERDAY + timedelta(hours=6), MESSAGES, 2_000_000),
)

HANDMADE = "esa9"

_HANDMADE_LOG = """\
Info: New SMTP DCID 80 interface 192.0.2.9 address 203.0.113.80 port 25
Info: DCID 80 TLS failed: verify error: hostname mismatch
Info: DCID 80 close
Info: New SMTP DCID 81 interface 192.0.2.9 address 203.0.113.81 port 25
Info: DCID 81 TLS failed: DANE verification failed
Info: DCID 81 close
Info: New SMTP DCID 82 interface 192.0.2.9 address 203.0.113.82 port 25
Info: DCID 82 TLS success protocol TLSv1.3 cipher TLS_AES_256_GCM_SHA384
Info: DCID 82 close
"""

HANDMADE_FAILURES = {"80": "certificate_verification", "81": "dane"}
"""DCID -> what the log above says."""


class Pair(msgspec.Struct, frozen=True):
    """A summary record and its truth, both by dotted paths."""

    truth: dict[str, Any]
    record: dict[str, Any]
    open: frozenset[str]

    def said(self, path: str) -> Any:
        """What the truth says; None: nothing."""
        return self.record.get(path) if path in self.open else self.truth.get(path)

    @property
    def time(self) -> datetime:
        """The record's time, which the truth does not tell."""
        return datetime.fromisoformat(self.record["@timestamp"])


class World(msgspec.Struct, frozen=True):
    """All records, as they came and by dotted paths; the pairs by kind; the raw lines by appliance, with their records."""

    records: list[Record]
    flat: list[dict[str, Any]]
    pairs: dict[str, list[Pair]]
    lines: list[tuple[str, str, dict[str, Any]]]
    """(appliance, the line, its record by dotted paths)."""

    def of(self, kind: str, *, days: int | None = None, yesterday: bool = False) -> list[Pair]:
        """The pairs of a kind: all, of the last `days`, or of yesterday."""
        start, end = NOW - timedelta(days=days or 36_500), NOW
        if yesterday:
            start, end = YESTERDAY, YESTERDAY + timedelta(days=1)
        return [pair for pair in self.pairs[kind] if start <= pair.time < end]


@lru_cache(maxsize=1)
def world() -> World:
    """It, made once."""
    records: list[Record] = []
    pairs: dict[str, list[Pair]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for stretch, (start, messages, offset) in enumerate(_STRETCHES):
            settings = SimulationSettings(
                seed=stretch + 1,
                messages=messages,
                appliances=2,
                start_s=int(start.timestamp()),
                quarantine_days=0.02,
                unknown_lines=0.05,
                icid_start=282_204_970 + offset,
                dcid_start=2_386_069 + offset,
                mid_start=200_257_070 + offset,
            )
            truth: list[Truth] = []
            by_appliance: dict[str, list[bytes]] = defaultdict(list)
            for appliance, line in simulate(settings, truth=truth.append):
                by_appliance[appliance].append(line)
            made = [record for name, lines in by_appliance.items() for record in _scanned(Path(folder), name, lines)]
            records += made
            _pair(truth, made, pairs)
    with tempfile.TemporaryDirectory() as folder:
        stamp = (YESTERDAY + timedelta(hours=12)).strftime("%a %b %e %H:%M:%S %Y")
        records += _scanned(Path(folder), HANDMADE, [f"{stamp} {line}".encode() for line in _HANDMADE_LOG.splitlines()])
    flat_records = [flat(record) for record in records]
    lines = [
        (record["cisco_esa.appliance"], record["event.original"], record) for record in flat_records if record["cisco_esa.record"] == "line"
    ]
    return World(records, flat_records, dict(pairs), lines)


def _scanned(folder: Path, appliance: str, lines: Iterable[bytes]) -> list[Record]:
    """What `esa-tls scan` makes of a log."""
    path = folder / f"{appliance}.log"
    path.write_bytes(b"\n".join(lines) + b"\n")
    data = b"".join(scan([path], ScanSettings(appliance=appliance)))
    return [msgspec.json.decode(line) for line in data.splitlines()]


def _pair(truth: list[Truth], records: list[Record], pairs: dict[str, list[Pair]]) -> None:
    told = {key_of(said["cisco_esa"]): said for said in truth}
    assert len(told) == len(truth)
    for record in records:
        if record["cisco_esa"]["record"] == "line":
            continue
        said = told.pop(key_of(record["cisco_esa"]))
        values = flat({name: value for name, value in said.items() if name not in ("open", "optional")})
        pairs[record["cisco_esa"]["record"]].append(Pair(values, flat(record), frozenset(said.get("open", ()))))
    assert all(said.get("optional") for said in told.values()), told
