"""Every row of the wires' test tables has a test that carries its name: `test_F13_...`, `test_O6_...`, `test_S2_...`, `test_E4_...`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

ROWS = {
    # Fluent Forward
    "F1": "each shape whole, a byte at a time, and all in one segment",
    "F2": "a Message with a chunk is acknowledged after the commit, exactly once",
    "F3": "a chunk that ends in a line feed",
    "F4": "a chunk of 32 hex characters",
    "F5": "PackedForward in every header",
    "F6": "gzip members, zstd frames, text, an unknown compression",
    "F7": "a gibibyte of zeros",
    "F8": "entries with and without metadata in one frame",
    "F9": "group markers",
    "F10": "metrics and traces",
    "F11": "bytes that are no UTF-8, as str and as bin",
    "F12": "nil, the old heartbeat, an empty list with a chunk",
    "F13": "the handshake",
    "F14": "connections that say nothing",
    "F15": "UDP heartbeats",
    "F16": "killed between commit and ack",
    "F17": "the journal is full",
    "F19": "frames below the receiver's limit",
    # OTLP
    "O1": "the sample over each way, with and without gzip",
    "O2": "JSON that has to be taken",
    "O3": "an enum by its name",
    "O4": "empty requests, every kind of body",
    "O5": "one record of three cannot be stored",
    "O6": "the journal is full",
    "O7": "requests over the limit, packed and unpacked",
    "O8": "broken requests",
    "O9": "tokens and client certificates",
    "O10": "a handler raises",
    "O11": "as a client, against every answer",
    "O12": "a real Collector, there and back",
    "O13": "a commit held for 6 s, a Collector that sends again",
    # Loki
    "L1": "the vectors, byte for byte, and taken by a server",
    "L2": "the same push twice",
    "L3": "metadata that Loki refuses is never made",
    "L4": "what Loki refuses is counted by its reason",
    "L5": "one bad of three",
    "L6": "answers that are tried again",
    "L7": "a tenant that is missing",
    "L8": "OTLP to Loki's own endpoint",
    "L9": "raw snappy, not framed",
    "L10": "a replay into the same streams",
    # Syslog
    "S1": "four shapes over each transport",
    "S2": "framing found out for each frame",
    "S3": "what is no count",
    "S4": "line ends",
    "S5": "a line without end",
    "S6": "bytes, BOM, Latin-1",
    "S7": "years, leap days, daylight saving",
    "S8": "a line inside a line",
    "S9": "two appliances behind one relay",
    "S10": "logger, rsyslog, syslog-ng",
    # Elasticsearch, OpenSearch
    "E1": "two creates make one backing index",
    "E2": "the same again is known",
    "E3": "after a rollover it is doubled",
    "E4": "a bad record between good ones",
    "E5": "items and requests that fail for now, 413, answers that are cut",
    "E6": "whatever stands in a line",
    "E7": "no template, no index made by itself",
    "E9": "the block of a full disk",
    # Kafka, producing
    "K1": "order and partition are those of Kafka's own producer",
    "K2": "killed between send and report",
    "K3": "a broker restarts, a leader changes, there are too few replicas",
    "K4": "a line of two megabytes",
}
"""F18 (Fluent Bit, Fluentd) and E8 (Elasticsearch) want containers and are not among them: they cannot be had where these tests run."""

_NAMED = re.compile(r"^\s*(?:async )?def test_((?:[EFKLOS]\d+_)+)", re.MULTILINE)


def rows_tested() -> set[str]:
    """Rows in the names of tests, F01 and F1 being the same."""
    names = (name for path in TESTS.rglob("test_*.py") for name in _NAMED.findall(path.read_text(encoding="utf-8")))
    return {f"{row[0]}{int(row[1:])}" for name in names for row in name.rstrip("_").split("_")}


@pytest.mark.parametrize("row", ROWS)
def test_each_row_has_a_test(row: str) -> None:
    """Somebody tests it under its name."""
    assert row in rows_tested(), ROWS[row]


def test_no_test_carries_the_name_of_a_row_that_is_none() -> None:
    """A number that was mistyped would hide a row without a test."""
    assert rows_tested() <= ROWS.keys()
