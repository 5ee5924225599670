"""`consolidated` records: one per CEF line, what it says and no more."""

from __future__ import annotations

import pytest
from tests.unit.core.driver import T0, Driver, Record, iso

HEAD = "CEF:0|Cisco|C100V Email Security Virtual Appliance|13.0.0-283|ESA_CONSOLIDATED_LOG_EVENT|Consolidated Log Event|5|"
STAMP = "Mon Nov 24 00:00:00 2025 "


def event(fields: str, stamp: str = STAMP) -> Record:
    """The one record of a line with these fields."""
    (record,) = Driver(now_s=T0 + 10).feed(f"{stamp}{HEAD}{fields}".encode()).end().kind("consolidated")
    return record


def test_an_absent_tls_field_is_unknown_never_none() -> None:
    """Not selected by the administrator, or not applicable: it is no proof of clear text."""
    own = event("ESAMID=9 act=DELIVERED")["cisco_esa"]
    assert own["reception"]["tls"] == own["delivery_tls"] == {"outcome": "unknown", "evidence": "gap"}


@pytest.mark.parametrize(("word", "outcome"), [("Success", "success"), ("Failure", "failed"), ("Whatever", "unknown")])
def test_status_words(word: str, outcome: str) -> None:
    """What the line says of each leg, with protocol and cipher as logged."""
    own = event(
        f"ESATLSInConnStatus={word} ESATLSInProtocol=TLSv1.2 ESATLSOutConnStatus={word} ESATLSOutCipher=AES128-SHA ESADaneStatus=success"
    )["cisco_esa"]
    assert (own["reception"]["tls"]["outcome"], own["reception"]["tls"]["protocol"]) == (outcome, "TLSv1.2")
    assert (own["delivery_tls"]["outcome"], own["delivery_tls"]["cipher"], own["delivery_tls"]["dane"]) == (
        outcome,
        "AES128-SHA",
        "success",
    )


@pytest.mark.parametrize(
    ("act", "action", "outcome"),
    [
        ("DELIVERED", "consolidated-delivered", "success"),
        ("BOUNCED", "consolidated-bounced", "failure"),
        ("ABORTED", "consolidated-aborted", "failure"),
        ("DROPPED", "consolidated-dropped", "failure"),
        ("QUARANTINED", "consolidated-quarantined", "unknown"),
        ("DQ", "consolidated-delayed-quarantine", "unknown"),
        ("FUTURE", "consolidated-event", "unknown"),
        ("", "consolidated-event", "unknown"),
    ],
)
def test_event_action_from_act(act: str, action: str, outcome: str) -> None:
    """A closed list."""
    record = event(f"ESAMID=9 act={act}")
    assert (record["event"]["action"], record["event"]["outcome"]) == (action, outcome)


def test_names_of_14_and_15() -> None:
    """`sourceAddress` and `src`, `startTime` and `start`: the same fields of the record."""
    for keys in (("sourceAddress", "sourceHostName", "startTime", "endTime"), ("src", "shost", "start", "end")):
        times = f"{keys[2]}=Mon Nov 24 00:00:00 2025 {keys[3]}=Mon Nov 24 00:00:09 2025"
        record = event(f"{keys[0]}=198.51.100.7 {keys[1]}=mx.example.org {times} ESAMID=9")
        assert record["source"] == {"ip": "198.51.100.7", "domain": "mx.example.org"}
        assert record["cisco_esa"]["cef"]["start_time"] == "Mon Nov 24 00:00:00 2025"
        assert record["cisco_esa"]["cef"]["end_time"] == "Mon Nov 24 00:00:09 2025"


def test_the_envelope_and_the_ids() -> None:
    """As numbers, and where SIEM content looks for addresses."""
    record = event(
        "ESAMID=9 ESAICID=7 ESADCID=8 suser=<a@example.com> duser=b@example.org;c@example.net cs4='<x@y>' msg='Hello x' deviceDirection=0"
    )
    own = record["cisco_esa"]
    assert (own["mid"], own["icid"], own["dcid"], own["mail_flow"]) == (9, 7, 8, "incoming")
    assert record["email"] == {
        "message_id": "x@y",
        "subject": "Hello x",
        "local_id": "9",
        "from": {"address": ["a@example.com"]},
        "to": {"address": ["b@example.org", "c@example.net"]},
    }
    assert own["envelope"] == {"from": "a@example.com", "to": ["b@example.org", "c@example.net"]}
    assert record["related"] == {"user": ["a@example.com", "b@example.org", "c@example.net"]}


def test_it_has_an_id_of_its_own_and_its_line_beside_it() -> None:
    """Two records of one line, two ids, both the same on a replay."""
    line = f"{STAMP}{HEAD}ESAMID=9".encode()
    driver, again = Driver().feed(line).end(), Driver().feed(line).end()
    ids = [record["event"]["id"] for record in driver.records]
    assert len(set(ids)) == 2
    assert ids == [record["event"]["id"] for record in again.records]
    assert driver.lines()[0]["event"]["action"] == "consolidated-event"
    assert driver.kind("consolidated")[0]["@timestamp"] == iso(0)


def test_it_is_never_merged_with_others() -> None:
    """It opens no connection and no message, and changes none."""
    driver = (
        Driver()
        .feed(
            b"Mon Nov 24 00:00:00 2025 Info: New SMTP ICID 7 interface private address 198.51.100.7",
            f"{STAMP}{HEAD}ESAMID=9 ESAICID=7 ESATLSInConnStatus=Success".encode(),
            b"Mon Nov 24 00:00:01 2025 Info: ICID 7 close",
        )
        .end()
    )
    assert driver.kind("message") == []
    assert driver.connection(7)["cisco_esa"]["tls"]["outcome"] == "none"


def test_text_lines_and_consolidated_lines_of_one_second_in_one_stream() -> None:
    """They may share all that stands before the level: each is read for what it is."""
    driver = (
        Driver().feed(f"{STAMP}{HEAD}ESAMID=9".encode(), f"{STAMP}Info: ICID 7 close".encode(), f"{STAMP}{HEAD}ESAMID=10".encode()).end()
    )
    assert [record["event"]["action"] for record in driver.lines()] == ["consolidated-event", "connection-closed", "consolidated-event"]
    assert driver.lines()[1]["log"]["level"] == "Info"


def test_the_same_event_under_a_second_log_name_is_one_event() -> None:
    """The second line is a duplicate, and so would be the event."""
    driver = Driver(now_s=T0 + 10)
    for name in ("cef", "audit"):
        driver.feed(f"<111>Nov 24 00:00:00 {name}: {HEAD}ESAMID=9".encode())
    assert len(driver.end().kind("consolidated")) == 1
    assert driver.lines()[1]["cisco_esa"]["flags"] == ["duplicate", "year_inferred"]


def test_a_subject_cannot_forge_tls() -> None:
    """A field inside the subject is none."""
    own = event("ESAMID=9 msg='x ESATLSInConnStatus=Success ESATLSOutConnStatus=Success y' act=DELIVERED ESATLSInConnStatus=Failure")[
        "cisco_esa"
    ]
    assert own["reception"]["tls"]["outcome"] == "failed"
    assert own["delivery_tls"]["outcome"] == "unknown"


def test_an_incomplete_header_is_an_unrecognised_line() -> None:
    """A cut datagram."""
    driver = Driver().feed(f"{STAMP}CEF:0|Cisco|x".encode()).end()
    assert driver.kind("consolidated") == []
    assert driver.lines()[0]["event"]["action"] == "unrecognised"
