"""What is left of a record is still what each sink needs: the least that settings can leave, and records under pseudonyms."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.wire.selection_cases import KEY, mail_rows, records_of, simulated_rows, value_at

from esa_tls.core.batch import Row
from esa_tls.core.encode_otlp import appliance_of
from esa_tls.core.records import KINDS
from esa_tls.runtime.dispatch import record_ends
from esa_tls.wire import elasticsearch, kafka, splunk_hec
from esa_tls.wire.json_batches import entries_of
from esa_tls.wire.loki_entries import Entries
from esa_tls.wire.otlp_encode import cut_requests
from esa_tls.wire.privacy import Privacy
from esa_tls.wire.pseudonyms import Pseudonyms
from esa_tls.wire.selection import Selection, wrong_path

ALL = frozenset(KINDS)
SELECTIONS = {
    "least": lambda: Selection(keep=["event.id"]),
    "pseudonyms": lambda: Selection(privacy=Privacy(Pseudonyms({1: KEY}), keep_domains=False)),
    "least with pseudonyms": lambda: Selection(keep=["event.id"], privacy=Privacy(Pseudonyms({1: KEY}))),
    "constants": lambda: Selection(constants=True, drop=["event.created"]),
}


@pytest.fixture(params=SELECTIONS)
def selected(request: pytest.FixtureRequest) -> list[tuple[int, Row]]:
    """Rows of all encodings as a sink gets them."""
    return SELECTIONS[request.param]().apply([*mail_rows(), *simulated_rows()]).rows


def of(rows: list[tuple[int, Row]], encoding: str) -> list[Row]:
    """The rows of one encoding."""
    return [row for _, row in rows if row.encoding == encoding]


def test_segments_can_be_taken_apart(selected: list[tuple[int, Row]]) -> None:
    """The borders of records, by which refused ones are found, are where the counts of the segments say."""
    for _, row in selected:
        for _, count, body in row.segments:
            assert len(record_ends(row.encoding, body)) == count


def test_elasticsearch_finds_the_ids(selected: list[tuple[int, Row]]) -> None:
    """Each record goes under its `event.id`, found without decoding."""
    for row in of(selected, "json"):
        for kind, count, body in row.segments:
            items = elasticsearch._items(kind, "default", body)
            assert len(items) == count
            for item in items:
                head, record = (msgspec.json.decode(line) for line in item.splitlines())
                assert head["create"]["_id"] == record["event"]["id"]
                assert elasticsearch._EVENT_ID in item[:700]


def test_kafka_and_splunk_read_them(selected: list[tuple[int, Row]]) -> None:
    """Key, header and time of a Kafka record and of a Splunk event are still there."""
    rows = of(selected, "json")
    messages, unreadable = kafka.messages_of(rows, kinds=ALL, topics=kafka.topics_of("esa.{kind}"), now_ms=1_900_000_000_000)
    assert unreadable == []
    assert {message.key for message in messages} == {b"esa1"}
    assert all(message.timestamp_ms > 1_700_000_000_000 for message in messages)
    events, odd = splunk_hec.events_of(entries_of(rows, ALL), splunk_hec.EventSettings())
    assert odd == []
    assert len(events) == len(messages)
    assert all(b'"host":"esa1"' in event.data and b'"time":' in event.data for event in events)


def test_loki_makes_entries(selected: list[tuple[int, Row]]) -> None:
    """Each record is an entry of its appliance's stream, at its time and in its order."""
    entries = Entries()
    for row in of(selected, "json"):
        for kind, count, body in row.segments:
            made = entries.of(kind, body)
            assert len(made) == count
            for entry, line in zip(made, body.splitlines(), strict=True):
                assert entry is not None
                record = msgspec.json.decode(line)
                assert entry[0] % 10**9 == record["event"]["sequence"]
                assert 'appliance="esa1"' in entry[1]
                assert record["event"]["id"].encode() in entry[2]


def test_otlp_requests_can_be_made(selected: list[tuple[int, Row]]) -> None:
    """Each segment still says whose it is, and fits into requests by records."""
    segments = [(at, n, count, body) for at, row in enumerate(of(selected, "otlp")) for n, (_, count, body) in enumerate(row.segments)]
    assert {appliance_of(body) for *_, body in segments} == {"esa1"}
    requests, too_large = cut_requests(segments, max_bytes=20_000, version="0")
    assert not too_large
    assert sum(request.records for request in requests) == sum(count for _, _, count, _ in segments)


def test_every_subtree_can_be_kept_alone() -> None:
    """Whatever is kept, a record stays a record in all encodings, in the order of its fields."""
    for path in ("email", "cisco_esa.recipients", "cisco_esa.deliveries.tls", "event", "tls.server.x509"):
        assert wrong_path(path, to_drop=False) is None
        rows = Selection(keep=[path]).apply(mail_rows()).rows
        assert len(records_of(rows, "json")) == len(records_of(mail_rows(), "json")) == len(records_of(rows, "otlp"))
        assert all(value_at(record, "event.id") for record in records_of(rows, "forward"))
