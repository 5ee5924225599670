"""Real sample lines and every record that comes of them, as files: `*.log` and beside it `*.expected.jsonl`.

After a wanted change: `pytest tests/golden --update-golden`, then read the difference; README.md says what was looked at by eye.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.unit.core.driver import Driver, Record

FOLDER = Path(__file__).parent
LOGS = sorted(FOLDER.glob("*.log"))
RECEIVED_S = 1_600_000_000
"""When all of it was received: `event.created`, untimed lines, and the year of lines that name none (2020)."""


def read(log: Path) -> list[Record]:
    """All records of a file, read as `scan --appliance esa1` does: lines in their order, then summaries in the order in which they left."""
    driver = Driver(now_s=RECEIVED_S, hold_by_event_time=True, late_batches=False, year_reference_s=float(RECEIVED_S))
    driver.feed(log.read_bytes().splitlines()).end()
    return [*driver.lines(), *(record for record in driver.records if record["cisco_esa"]["record"] != "line")]


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.stem)
def test_golden(log: Path, *, request: pytest.FixtureRequest) -> None:
    """Every record of the file is as it was when it was last looked at."""
    found = read(log)
    expected = log.with_suffix(".expected.jsonl")
    if request.config.getoption("--update-golden"):
        expected.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in found))
    assert found == [msgspec.json.decode(line) for line in expected.read_bytes().splitlines()]


def test_every_log_has_its_line_in_the_readme() -> None:
    """README.md names each file, once."""
    text = (FOLDER / "README.md").read_text()
    assert LOGS
    assert [text.count(f"`{log.name}`") for log in LOGS] == [1] * len(LOGS)


def test_the_source_documents_four_samples() -> None:
    """The fields that tell the outcome, all of them, for the samples that the project started from."""
    found = [record for record in read(FOLDER / "cisco-technote-118500-seed.log") if record["cisco_esa"]["record"] != "line"]
    told: list[Record] = [
        {
            "cisco_esa": {
                "record": "connection",
                "connection": {"id": "esa1/0/ICID/282204970", "start_seen": True, "end": "stream_end"},
                "direction": "inbound",
                "icid": 282204970,
                "tls": {"outcome": "success", "evidence": "line"},
            },
            "network": {"direction": "ingress"},
            "tls": {"established": True},
            "source": {"ip": "192.168.1.1"},
        },
        {
            "cisco_esa": {
                "record": "message",
                "mid": 200257070,
                "posture": "unknown",
                "posture_in": "encrypted",
                "message": {"end": "stream_end"},
                "reception": {"icid": 282204970, "tls": {"outcome": "success", "evidence": "line", "in_clear": False}},
            },
            "email": {"local_id": "200257070"},
        },
        {
            "cisco_esa": {
                "record": "connection",
                "connection": {"id": "esa1/0/ICID/282204971", "end": "close", "lost": True},
                "direction": "inbound",
                "icid": 282204971,
                "tls": {
                    "outcome": "failed",
                    "evidence": "line",
                    "required": True,
                    "failure": {"class": "required_not_offered", "reason": "TLS was required but remote host did not initiate it"},
                },
            },
            "tls": {"established": False},
            "event": {"outcome": "failure"},
        },
        {
            "cisco_esa": {
                "record": "connection",
                "connection": {"id": "esa1/0/DCID/2386069", "end": "stream_end"},
                "direction": "outbound",
                "dcid": 2386069,
                "tls": {"outcome": "success", "evidence": "line"},
            },
            "network": {"direction": "egress"},
            "tls": {"established": True, "server": {"x509": {"subject": {"common_name": "common"}}}},
            "destination": {"ip": "192.168.2.2"},
        },
        {
            "cisco_esa": {
                "record": "delivery",
                "dcid": 2386069,
                "mid": 200257075,
                "rids": [0],
                "direction": "outbound",
                "delivery": {"result": "unknown", "ordinal": 1},
                "tls": {"outcome": "success", "evidence": "line", "in_clear": False},
            },
            "email": {"local_id": "200257075"},
        },
        {
            "cisco_esa": {
                "record": "connection",
                "connection": {"id": "esa1/0/DCID/2386070", "start_seen": False, "end": "stream_end"},
                "direction": "outbound",
                "dcid": 2386070,
                "tls": {
                    "outcome": "failed",
                    "evidence": "line",
                    "failure": {"class": "starttls_unexpected_response", "reason": "STARTTLS unexpected response"},
                },
            },
            "tls": {"established": False},
            "destination": {"ip": "192.168.2.2"},
        },
        {
            "cisco_esa": {
                "record": "message",
                "mid": 200257075,
                "reception": {"tls": {"outcome": "unknown", "evidence": "gap"}},
                "posture": "unknown",
            },
        },
    ]
    for one in told:
        assert sum(_holds(record, one) for record in found) == 1, one
    assert len(found) == len(told)


def _holds(record: Record, told: Record) -> bool:
    """Whether everything told is in the record."""
    return all(
        (isinstance(value, dict) and isinstance(record.get(name), dict) and _holds(record[name], value)) or record.get(name) == value
        for name, value in told.items()
    )
