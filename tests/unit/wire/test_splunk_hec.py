"""Events, answers and acknowledgements of Splunk's HTTP Event Collector, after its documentation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.contract.hec_stub import events_in, told

from esa_tls.core.batch import Row
from esa_tls.core.records import KINDS
from esa_tls.wire.json_batches import Entry, entries_of
from esa_tls.wire.retry_after import SETTINGS_RETRY_S
from esa_tls.wire.splunk_hec import EventSettings, acked_of, acks_body, classify, events_of, parts

RECORD: dict[str, Any] = {
    "@timestamp": "2025-11-24T10:00:01Z",
    "event": {"id": "69242c41aa", "original": 'a "text" } with { all'},
    "host": {"name": "esa1"},
    "cisco_esa": {"record": "delivery", "mid": 7, "delivery": {"result": "delivered"}},
}


def event_of(record: Any, *, kind: str = "delivery", settings: EventSettings | None = None) -> dict[str, Any]:
    """The event that a record becomes."""
    row = Row("summary", "json", [(kind, 1, json.dumps(record).encode() + b"\n")])
    [event], unreadable = events_of(entries_of([row], KINDS), settings or EventSettings())
    assert unreadable == []
    made: dict[str, Any] = json.loads(event.data)
    return made


def test_an_event_is_the_record_with_names_of_the_cim_in_front() -> None:
    """Time in seconds, host the appliance, the record's own fields untouched."""
    event = event_of(RECORD)
    inner = event.pop("event")
    assert {"time": 1_763_978_401.0, "host": "esa1", "source": "esa-tls", "sourcetype": "esa_tls:delivery"} == event
    assert RECORD == {key: inner[key] for key in RECORD}
    assert (inner["action"], inner["internal_message_id"], inner["vendor_product"]) == ("delivered", 7, "Cisco Secure Email Gateway")


def test_settings_stand_beside_every_event() -> None:
    """Source, sourcetype and index as configured; `{kind}` in them is the kind."""
    settings = EventSettings(source='a"{kind}', sourcetype="cisco:{kind}:{kind}", index="mail")
    event = event_of(RECORD, kind="message", settings=settings)
    assert ('a"message', "cisco:message:message", "mail") == (event["source"], event["sourcetype"], event["index"])


@pytest.mark.parametrize("record", [{}, {"@timestamp": 3, "host": "x"}, {"@timestamp": "never", "host": {"name": None}}])
def test_what_a_record_does_not_say_is_left_out(record: dict[str, Any]) -> None:
    """No time: Splunk takes its own clock; no host: the token's."""
    event = event_of(record)
    assert {"source", "sourcetype", "event"} == event.keys()
    assert record == {key: event["event"][key] for key in record}


def test_no_object_is_no_event() -> None:
    """Named with the reason, the others are events."""
    row = Row("line", "json", [("line", 4, b'{"a":1}\n[1]\n{\xff\n{"b":2}\n')])
    events, unreadable = events_of(entries_of([row], KINDS), EventSettings())
    assert [0, 3] == [event.record for event in events]
    assert [1, 2] == [entry.record for entry, _ in unreadable]
    assert all(why for _, why in unreadable)


def test_events_one_behind_the_other_can_be_told_apart() -> None:
    """As the collector reads a request."""
    row = Row("line", "json", [("line", 2, b'{"a":1}\n{"b":"}{\\n"}\n')])
    events, _ = events_of(entries_of([row], KINDS), EventSettings())
    assert [1, "}{\n"] == [
        next(iter(set(event["event"].values()) & {1, "}{\n"})) for event in events_in(b"\n".join(e.data for e in events))
    ]


# -- answers ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("status", "code", "then", "after_s"),
    [
        (200, 0, "done", None),
        (403, 1, "retry", SETTINGS_RETRY_S),
        (401, 2, "retry", SETTINGS_RETRY_S),
        (401, 3, "retry", SETTINGS_RETRY_S),
        (403, 4, "retry", SETTINGS_RETRY_S),
        (400, 5, "refused", None),
        (400, 6, "refused", None),
        (400, 7, "retry", SETTINGS_RETRY_S),
        (500, 8, "retry", None),
        (503, 9, "busy", None),
        (400, 10, "retry", SETTINGS_RETRY_S),
        (400, 11, "retry", SETTINGS_RETRY_S),
        (400, 12, "refused", None),
        (400, 13, "refused", None),
        (400, 14, "retry", SETTINGS_RETRY_S),
        (400, 15, "refused", None),
        (400, 16, "retry", SETTINGS_RETRY_S),
        (503, 18, "busy", None),
        (503, 23, "busy", None),
        (429, 26, "busy", None),
        (413, 27, "refused", None),
    ],
)
def test_what_follows_from_a_code(status: int, code: int, then: str, after_s: float | None) -> None:
    """The documented codes: an event's fault is refused, a token's, an index's or a channel's is waited for, load is passed on."""
    reply = told(status, code, "text")
    verdict = classify(reply.status, reply.body)
    assert (verdict.then, verdict.after_s) == (then, after_s)


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[]", b'{"code":"x"}'])
@pytest.mark.parametrize(
    ("status", "then"),
    [
        (200, "done"),
        (201, "done"),
        (302, "retry"),
        (400, "refused"),
        (404, "retry"),
        (413, "refused"),
        (429, "busy"),
        (502, "retry"),
        (503, "busy"),
    ],
)
def test_an_answer_in_no_form_is_judged_by_its_status(status: int, then: str, body: bytes) -> None:
    """Balancers answer in their own words."""
    assert classify(status, body).then == then


def test_what_an_answer_says_beside_its_code() -> None:
    """The acknowledgement's id, the number of the event at fault, when to come again."""
    assert classify(200, b'{"text":"Success","code":0,"ackId":12}').ack_id == 12
    assert classify(400, b'{"text":"Invalid data format","code":6,"invalid-event-number":3}').near == 3
    assert classify(413, b'{"code":27,"invalid-event-number":3}').near is None
    assert classify(503, b'{"code":9}', retry_after="4").after_s == 4.0
    assert classify(400, b'{"code":6}').reason == "invalid_format"


def entry(number: int) -> Entry:
    """An event."""
    return Entry(0, 0, number, "line", b"{}")


@pytest.mark.parametrize("count", range(1, 7))
@pytest.mark.parametrize("near", [None, *range(-1, 9)])
def test_parts_get_smaller_and_lose_nothing(count: int, near: int | None) -> None:
    """In order, all of them, none empty; the event at the number and the one before it go alone."""
    batch = [entry(number) for number in range(count)]
    cut = parts(batch, near)
    if count == 1:
        assert cut == []
        return
    assert batch == [one for part in cut for one in part]
    assert all(0 < len(part) < count for part in cut)
    if near is not None and 0 <= near <= count:
        for number in (near - 1, near):
            assert number not in range(count) or [entry(number)] in cut


# -- acknowledgements ------------------------------------------------------------------------------------------------------------
def test_acknowledgements_as_documented() -> None:
    """`{"acks": [...]}` is asked, `{"acks": {"id": true}}` answered; what cannot be read says nothing."""
    assert json.loads(acks_body([3, 1])) == {"acks": [3, 1]}
    assert acked_of(b'{"acks":{"1":true,"3":false,"20":true}}') == {1, 20}
    for body in (b"", b"{}", b"[]", b'{"acks":[1]}', b'{"acks":{"x":true}}', b'{"text":"ACK is disabled","code":14}', b"\xff"):
        assert acked_of(body) == set()
