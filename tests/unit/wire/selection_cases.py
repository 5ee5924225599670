"""Outbox rows of real logs in all encodings, their records as dicts, and keys."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.unit.core.driver import Driver, at

from esa_tls.core.batch import Row
from esa_tls.offline.simulate import SimulationSettings, simulate
from esa_tls.wire.outbox_records import Record, read

ENCODINGS = ("json", "forward", "otlp")
KEY = bytes(range(32))
CORPUS = sorted((Path(__file__).parents[2] / "corpus").glob("*.log"))

MAIL = [
    *at(0, "New SMTP ICID 70 interface Data 1 (192.0.2.1) address 198.51.100.7 reverse dns host mx.example.org verified yes"),
    *at(0, "ICID 70 ACCEPT SG PARTNERS match 198.51.100.0/24 SBRS 3.4 country United States", "ICID 70 TLS success"),
    *at(1, "Start MID 90 ICID 70", "MID 90 ICID 70 From: <anna@example.com>", "MID 90 ICID 70 RID 0 To: <bob@example.org>"),
    *at(1, "MID 90 ICID 70 RID 1 To: <carol@example.net>", "MID 90 Message-ID '<m1@example.com>'", "MID 90 Subject 'Offer for Dora'"),
    *at(
        1,
        "MID 90 ready 1200 bytes from <anna@example.com>",
        "MID 90 matched all recipients for per-recipient policy P in the inbound table",
    ),
    *at(2, "MID 90 attachment 'dora.pdf'", "MID 90 queued for delivery", "ICID 70 close"),
    *at(2, "New SMTP DCID 80 interface 192.0.2.1 address 203.0.113.25 port 25", "Delivery start DCID 80 MID 90 to RID [0]"),
    *at(3, "Message done DCID 80 MID 90 to RID [0]", "MID 90 RID [0] Response '2.0.0 queued for bob as 4711'", "DCID 80 close"),
    *at(4, "New SMTP DCID 81 interface 192.0.2.1 address 203.0.113.26 port 25", "DCID 81 TLS success protocol TLSv1.2 cipher AES128-SHA"),
    *at(4, "Delivery start DCID 81 MID 90 to RID [1]"),
    *at(5, "Bounced: DCID 81 MID 90 to RID 1 - 5.1.0 - Unknown address error ('550', ['no carol here']) []", "DCID 81 close"),
    *at(6, "Message finished MID 90 done"),
    *at(9, "Some line that nobody knows, for erin@example.com"),
]
"""One message from 198.51.100.7 under TLS, delivered in clear to one recipient, bounced under TLS for the other."""


def rows_of(lines: Iterable[bytes]) -> list[tuple[int, Row]]:
    """The outbox rows of lines of one appliance, numbered, in all encodings."""
    driver = Driver(encodings=ENCODINGS, now_s=1_800_000_000)
    flat = list(lines)
    for start in range(0, len(flat), 200):
        driver.feed(flat[start : start + 200])
    driver.end()
    return list(enumerate(driver.rows, start=1))


@lru_cache(maxsize=1)
def mail_rows() -> list[tuple[int, Row]]:
    """Of `MAIL`."""
    return rows_of(MAIL)


@lru_cache(maxsize=1)
def simulated_rows() -> list[tuple[int, Row]]:
    """Of simulated mail, hostile and unknown lines among it."""
    return rows_of(line for _, line in simulate(SimulationSettings(seed=3, messages=60, hostile=0.3, unknown_lines=0.1)))


def corpus_rows(path: Path) -> list[tuple[int, Row]]:
    """Of a file of the corpus."""
    return rows_of(path.read_bytes().splitlines())


def records_of(rows: Iterable[tuple[int, Row]], encoding: str, *kinds: str) -> list[Record]:
    """The records of one encoding, of some kinds or of all, by kind and id."""
    found = []
    for _, row in rows:
        for kind, count, body in row.segments if row.encoding == encoding else ():
            records = [one.record for one in read(encoding, body)]
            assert len(records) == count
            found += [record for record in records if record is not None and (not kinds or kind in kinds)]
    return sorted(found, key=lambda record: (record["cisco_esa"]["record"], record["event"]["id"], record["event"].get("sequence", 0)))


def value_at(record: Record, path: str) -> Any:
    """What stands at a path; None: nothing."""
    value: Any = record
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return value


def bytes_of(rows: Iterable[tuple[int, Row]], encoding: str) -> bytes:
    """All bytes of one encoding."""
    return b"".join(body for _, row in rows if row.encoding == encoding for _, _, body in row.segments)


def without_host(record: Record) -> Record:
    """A record without `host.name`, which the encoding `otlp` leaves to the resource."""
    return {name: value for name, value in record.items() if name != "host"}
