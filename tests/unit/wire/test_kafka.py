from __future__ import annotations

import json

import pytest
from tests.contract.delivery_fakes import rows_of

from esa_tls.core.batch import Row
from esa_tls.core.records import KINDS
from esa_tls.wire.kafka import Unreadable, classify, messages_of, topics_of
from esa_tls.wire.retry_after import SETTINGS_RETRY_S

NOW_MS = 1_800_000_000_000
TOPICS = topics_of("esa-tls")


def one_of(record: object, *, kind: str = "line", now_ms: int = NOW_MS) -> tuple[Row, list[object]]:
    """The row with this record alone, and what comes of it."""
    row = Row("line", "json", [(kind, 1, json.dumps(record).encode() + b"\n")])
    messages, unreadable = messages_of([row], kinds=KINDS, topics=TOPICS, now_ms=now_ms)
    return row, [*messages, *unreadable]


RECORD = {"@timestamp": "2025-11-24T10:00:01Z", "event": {"id": "69242c41aa"}, "host": {"name": "esa1"}, "cisco_esa": {"mid": 1}}


def test_a_record_becomes_a_message() -> None:
    """Value: the bytes of the outbox; key: the appliance; time: the event's; headers: id, kind and schema."""
    row, [message] = one_of(RECORD, kind="delivery")
    assert message == (
        "esa-tls",
        b"esa1",
        row.segments[0][2][:-1],
        1_763_978_401_000,
        [("record_id", b"69242c41aa"), ("kind", b"delivery"), ("schema_version", b"1")],
        0,
        0,
        0,
    )


def test_what_is_inside_a_text_is_not_taken_for_a_field() -> None:
    """A line that holds a whole record as its text changes neither key nor id."""
    liar = {**RECORD, "event": {"original": json.dumps({**RECORD, "host": {"name": "other"}}), "id": "right"}, "host": {"name": "esa ü"}}
    _, [message] = one_of(liar)
    assert isinstance(message, tuple)
    assert (message[1], message[4][0]) == ("esa ü".encode(), ("record_id", b"right"))


def test_an_appliance_that_is_not_said_is_no_key() -> None:
    """The client then takes any partition."""
    hosts: list[dict[str, object]] = [{}, {"host": {}}, {"host": {"name": ""}}]
    for host in hosts:
        record = {key: value for key, value in RECORD.items() if key != "host"}
        _, [message] = one_of({**record, **host})
        assert isinstance(message, tuple)
        assert message[1] is None


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        ("2025-11-24T10:00:01Z", 1_763_978_401_000),
        ("2025-11-24T10:00:01.5Z", 1_763_978_401_500),
        ("2099-01-01T00:00:00Z", NOW_MS),
        ("1969-12-31T23:59:59Z", 0),
        ("yesterday", 0),
        (1_700_000_000, 0),
        (None, 0),
    ],
)
def test_the_time_is_the_events_and_never_ahead_of_ours(timestamp: object, expected: int) -> None:
    """Brokers refuse stamps of the future, and the whole batch; what cannot be read is the time of sending (0)."""
    _, [message] = one_of({**RECORD, "@timestamp": timestamp})
    assert isinstance(message, tuple)
    assert message[3] == expected


@pytest.mark.parametrize("record", [[1], {"event": {}}, {"event": {"id": 3}}, "text", None])
def test_what_is_no_record_is_named(record: object) -> None:
    """It goes to the dead letters, and the rest is sent."""
    _, [found] = one_of(record)
    assert isinstance(found, Unreadable)
    row = Row("line", "json", [("line", 3, b'{"event":{"id":"a"}}\n\xff{\n{"event":{"id":"b"}}\n')])
    messages, [bad] = messages_of([row], kinds=KINDS, topics=TOPICS, now_ms=NOW_MS)
    assert [b"a", b"b"] == [message.headers[0][1] for message in messages]
    assert (0, 0, 1) == bad[:3]


def test_only_the_wanted_kinds_each_in_its_topic() -> None:
    """`{kind}` in the topic is the kind of the record."""
    row = rows_of("json", [("connection", [1]), ("delivery", [2, 3]), ("message", [4])])
    messages, _ = messages_of([row], kinds={"delivery", "message"}, topics=topics_of("esa.{kind}.v1"), now_ms=NOW_MS)
    assert [("esa.delivery.v1", 1, 0), ("esa.delivery.v1", 1, 1), ("esa.message.v1", 2, 0)] == [
        (message.topic, message.segment, message.record) for message in messages
    ]


@pytest.mark.parametrize("template", ["", ".", "..", "a b", "a/{kind}", "{name}", "x" * 250, "x" * 240 + "{kind}", "ä"])
def test_what_no_topic_can_be_called(template: str) -> None:
    """Kafka's rule for names, with the longest kind in its place."""
    with pytest.raises(ValueError, match="is no topic"):
        topics_of(template)


def test_topics_may_have_no_place() -> None:
    """Then all kinds are in one."""
    assert dict.fromkeys(KINDS, "esa_tls-1.x") == topics_of("esa_tls-1.x")
    assert topics_of("t.{kind}")["consolidated"] == "t.consolidated"


@pytest.mark.parametrize(
    ("code", "then", "after_s"),
    [
        (10, "refused", None),
        (87, "refused", None),
        (32, "refused", None),
        (19, "retry", None),
        (20, "retry", None),
        (6, "retry", None),
        (7, "retry", None),
        (-195, "retry", None),
        (-192, "retry", None),
        (-152, "retry", None),
        (-151, "retry", None),
        (3, "retry", SETTINGS_RETRY_S),
        (29, "retry", SETTINGS_RETRY_S),
        (31, "retry", SETTINGS_RETRY_S),
        (-188, "retry", SETTINGS_RETRY_S),
        (-169, "retry", SETTINGS_RETRY_S),
        (45, "new_client", None),
        (47, "new_client", None),
        (59, "new_client", None),
        (-150, "new_client", None),
        (-144, "new_client", None),
    ],
)
def test_what_follows_from_an_error(code: int, then: str, after_s: float | None) -> None:
    """Only what is wrong with a record itself is refused; settings are waited for; everything unknown is tried again."""
    verdict = classify(code)
    assert (verdict.then, verdict.after_s) == (then, after_s)


def test_a_fatal_error_ends_the_client_whatever_its_code() -> None:
    """The client says so itself."""
    assert classify(10, fatal=True).then == "new_client"


def test_the_codes_are_the_clients() -> None:
    """The numbers of the table are those that confluent-kafka has for the names beside them."""
    from confluent_kafka import KafkaError

    assert (10, 32, 87, 3, 29, 31, 45, 47, 59, 90) == (
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.INVALID_RECORD,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError.PRODUCER_FENCED,
    )
    assert (-188, -181, -169, -172, -150, -144) == (
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._SSL,
        KafkaError._AUTHENTICATION,
        KafkaError._STATE,
        KafkaError._FATAL,
        KafkaError._FENCED,
    )
    assert (17, 21, 33, 35, 43, 44, 58, 76) == (
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.INVALID_REQUIRED_ACKS,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
        KafkaError.POLICY_VIOLATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_COMPRESSION_TYPE,
    )
