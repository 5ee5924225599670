"""design.md 3.3 to 3.7: what messages and attempts take over, whose a line is, children, posture, when records leave."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.core.driver import UDP, Driver, Record, at, iso, syslog

from esa_tls.core import posture
from esa_tls.core.connections import Leg
from esa_tls.core.messages import Message, Recipient

NEW = "New SMTP ICID 70 interface Data 1 (192.0.2.1) address 198.51.100.7 reverse dns host mx.example.org verified yes"
NEW_D = "New SMTP DCID 80 interface 192.0.2.1 address 203.0.113.25 port 25"
UP, UP_D = "ICID 70 TLS success", "DCID 80 TLS success"
START, FROM, TO = "Start MID 90 ICID 70", "MID 90 ICID 70 From: <a@example.com>", "MID 90 ICID 70 RID 0 To: <b@example.org>"
RECEIVED = (NEW, UP, START, FROM, TO, "MID 90 ready 100 bytes from <a@example.com>", "ICID 70 close")
OUT, DONE, ANSWER = (
    "Delivery start DCID 80 MID 90 to RID [0]",
    "Message done DCID 80 MID 90 to RID [0]",
    "MID 90 RID [0] Response '2.0.0 OK'",
)
FINISHED = "Message finished MID 90 done"


def fed(*texts: str, **settings: Any) -> Driver:
    """Lines of a log, one each second, to its end."""
    driver = Driver(**settings)
    for n, text in enumerate(texts):
        driver.feed(at(n, text))
    return driver.end()


def own(record: Record) -> Record:
    """`cisco_esa` of a record."""
    part: Record = record["cisco_esa"]
    return part


def idle(driver: Driver, start: float, end: float) -> Driver:
    """Nothing but status lines."""
    step, n = 290, start
    while n < end:
        driver.feed(at(n, f"Status: CPULd {n}"))
        n += step
    return driver.feed(at(end, f"Status: CPULd {end}"))


# ------------------------------------------------------------------------------------------------------------------------ 3.3


def test_3_3_a_message_keeps_the_snapshot_of_its_start() -> None:
    """STARTTLS after the first message is for the second one."""
    driver = fed(NEW, START, UP, "Start MID 91 ICID 70", "ICID 70 close")
    assert own(driver.message(90))["reception"]["tls"] == {"outcome": "none", "evidence": "absence", "in_clear": True}
    assert own(driver.message(91))["reception"]["tls"] == {"outcome": "success", "evidence": "line", "in_clear": False}
    assert own(driver.connection(70))["tls"]["outcome"] == "success"


@pytest.mark.parametrize(
    ("tls", "outcome", "in_clear"),
    [
        ("DCID 80 TLS success", "success", False),
        ("DCID 80 TLS failed: STARTTLS unexpected response", "failed", True),
        ("DCID 80 STARTTLS command not supported", "none", True),
        ("Status: no TLS line", "none", True),
    ],
)
def test_3_3_in_clear_says_what_happened_to_the_mail(tls: str, outcome: str, in_clear: bool) -> None:
    """Mail on `failed` or `none` went in clear, under `success` it did not; every place that carries the outcome says so."""
    driver = fed(*RECEIVED, NEW_D, tls, OUT, DONE, ANSWER, FINISHED)
    assert own(driver.delivery(90))["tls"]["outcome"] == outcome
    assert own(driver.delivery(90))["tls"]["in_clear"] is in_clear
    message = own(driver.message(90))
    assert message["deliveries"][0]["tls"]["in_clear"] is in_clear
    assert message["recipients"][0]["in_clear"] is in_clear
    assert message.get("clear") == ({"recipient_count": 1, "domains": ["example.org"]} if in_clear else None)


def test_3_3_in_clear_is_absent_when_unknown() -> None:
    """Beginning unseen, no TLS line: nothing is said of clear text."""
    driver = fed(*RECEIVED, OUT, DONE, ANSWER, FINISHED)
    assert own(driver.delivery(90))["tls"] == {"outcome": "unknown", "evidence": "gap"}
    assert "in_clear" not in own(driver.message(90))["recipients"][0]


def test_3_3_in_clear_is_absent_when_no_mail_was_sent() -> None:
    """A blocked attempt sent nothing, in clear or otherwise."""
    driver = fed(*RECEIVED, NEW_D, "DCID 80 TLS failed", "Delayed: DCID 80 MID 90 to RID 0 - 4.1.0 - x ('451', ['y']) []")
    assert "in_clear" not in own(driver.delivery(90))["tls"]
    assert own(driver.delivery(90))["delivery"]["result"] == "tls_blocked"


# ------------------------------------------------------------------------------------------------------------------------ 3.4


def triple(record: Record) -> tuple[str, str, str] | None:
    """Connection id, direction, outcome of a line; None if it has none of them."""
    part = own(record)
    if "connection" not in part:
        assert "direction" not in part
        assert "tls" not in part
        return None
    return part["connection"]["id"].removeprefix("esa1/0/"), part["direction"], part["tls"]["outcome"]


def test_3_4_the_dcid_a_line_names_comes_first() -> None:
    """`Message done DCID 80 MID 90`: the DCID's, not the message's reception."""
    assert triple(fed(*RECEIVED, NEW_D, UP_D, OUT, DONE).line(DONE)) == ("DCID/80", "outbound", "success")


def test_3_4_else_the_icid_it_names() -> None:
    """`MID 90 ICID 70 From:`: the ICID's."""
    assert triple(fed(*RECEIVED).line(FROM)) == ("ICID/70", "inbound", "success")


@pytest.mark.parametrize(
    "line", ["Start MID 91 ICID 0", "MID 91 ICID 0 From: <x@example.com>", "Bounced: DCID 0 MID 91 to RID 0 - 5.1.2 - x"]
)
def test_3_4_zero_means_none_finally(line: str) -> None:
    """Lines that name ICID 0 or DCID 0 have no connection, even of a child with an inherited reception."""
    driver = fed(*RECEIVED, "MID 91 generated based on MID 90 by bcc filter 'x'", line, "MID 91 queued for delivery")
    assert triple(driver.line(line)) is None
    assert triple(driver.line("MID 91 queued for delivery")) == ("ICID/70", "inbound", "success")


def test_3_4_a_mid_line_has_the_snapshot_and_not_the_present_state() -> None:
    """After a later STARTTLS, lines of the earlier message still say that it came in clear."""
    driver = fed(NEW, START, UP, "MID 90 antivirus negative", "ICID 70 close")
    assert triple(driver.line("MID 90 antivirus negative")) == ("ICID/70", "inbound", "none")
    assert triple(driver.line("ICID 70 close")) == ("ICID/70", "inbound", "success")


@pytest.mark.parametrize(
    "line",
    [
        ANSWER,
        "MID 90 to RID [0] pending till Mon Nov 24 01:00:00 2025",
        "MID 90 to RID [0] Bounced by destination server with response: 5.1.0 - x",
    ],
)
def test_3_4_delivery_phase_lines_have_the_last_attempt(line: str) -> None:
    """`Response`, `pending till` and bounces without a DCID belong to the last attempt for those RIDs."""
    driver = fed(*RECEIVED, OUT.replace("80", "79"), "Delayed: DCID 79 MID 90 to RID 0 - 4.1.0 - x", NEW_D, UP_D, OUT, DONE, line)
    assert triple(driver.line(line)) == ("DCID/80", "outbound", "success")


def test_3_4_each_rid_has_its_own_last_attempt() -> None:
    """Two RIDs on two DCIDs: the Response names the RID, the RID gives the DCID."""
    driver = fed(
        *(START, FROM, TO, "MID 90 ICID 70 RID 1 To: <c@example.net>", OUT, "Delivery start DCID 81 MID 90 to RID [1]", DONE),
        *("Message done DCID 81 MID 90 to RID [1]", ANSWER, "MID 90 RID [1] Response 'ok'"),
    )
    assert triple(driver.line(ANSWER)) == ("DCID/80", "outbound", "unknown")
    assert triple(driver.line("MID 90 RID [1] Response 'ok'")) == ("DCID/81", "outbound", "unknown")


def test_3_4_rpc_lines_have_none() -> None:
    """Into the spam quarantine: no connection, and no TLS outcome."""
    driver = fed(
        *RECEIVED, "RPC Delivery start RCID 10 MID 90 to local IronPort Spam Quarantine", "RPC Message done RCID 10 MID 90", FINISHED
    )
    assert triple(driver.line("RPC Message done RCID 10 MID 90")) is None
    assert triple(driver.delivery(90)) is None
    assert own(driver.delivery(90))["delivery"]["result"] == "quarantined"


def test_3_4_a_line_naming_two_mids_is_the_childs() -> None:
    """`MID 90 was split creating MID 91`: the child's line, with `parent_mid`."""
    line = "MID 90 was split creating MID 91 due to a per-recipient policy p in the inbound table"
    record = own(fed(*RECEIVED, line).line(line))
    assert (record["mid"], record["parent_mid"]) == (91, 90)


def test_3_4_until_its_parent_line_comes_a_message_with_icid_0_has_none() -> None:
    """Start MID 91 ICID 0 and what follows has no connection; after the parent line it has the parent's reception."""
    driver = fed(
        *RECEIVED,
        "Start MID 91 ICID 0",
        "MID 91 antivirus negative",
        "MID 91 was generated based on MID 90 by bcc",
        "MID 91 queued for delivery",
    )
    assert triple(driver.line("MID 91 antivirus negative")) is None
    assert triple(driver.line("MID 91 queued for delivery")) == ("ICID/70", "inbound", "success")


# ------------------------------------------------------------------------------------------------------------------------ 3.5

CHILD_LINES = {
    "split": "MID 90 was split creating MID 91 due to a per-recipient policy p in the inbound table",
    "rewritten": "MID 90 rewritten to MID 91 by add-footer filter 'x'",
    "copy": "MID 91 was generated based on MID 90 by bcc filter 'x'",
    "reinjected": "ISQ: Reinjected MID 90 as MID 91",
    "bounce": "MID 91 was generated for bounce of MID 90",
    "notify": "MID 91 was generated based on MID 90 by notify filter 'x'",
}


@pytest.mark.parametrize("kind", CHILD_LINES)
@pytest.mark.parametrize("child_first", [False, True])
def test_3_5_who_inherits_the_reception(kind: str, child_first: bool) -> None:
    """Split, rewritten, copy and reinjected inherit; bounce and notify are mail made on the box. In either order of lines."""
    lines = [CHILD_LINES[kind], "Start MID 91 ICID 0", "MID 91 ICID 0 From: <a@example.com>"]
    child = own(fed(*RECEIVED, "ICID 70 RELAY SG R match ALL SBRS None", *(reversed(lines) if child_first else lines)).message(91))
    assert (child["parent_mid"], child["child_kind"]) == (90, kind)
    if kind in ("bounce", "notify"):
        assert "reception" not in child
        assert "posture_in" not in child
        assert child["mail_flow"] == "internal"
    else:
        assert child["reception"]["connection_id"] == "esa1/0/ICID/70"
        assert child["posture_in"] == "encrypted"


def test_3_5_the_first_ancestor_with_a_reception() -> None:
    """Split, then rewritten, then copied: the reception of the first one, whatever order the lines come in."""
    lines = [CHILD_LINES["split"], "MID 91 rewritten to MID 92 by x", "MID 93 generated based on MID 92 by bcc", "Start MID 93 ICID 0"]
    for order in ([0, 1, 2, 3], [3, 0, 1, 2]):
        driver = fed(*RECEIVED, *(lines[n] for n in order))
        assert own(driver.message(93))["reception"]["icid"] == 70


def test_3_5_a_cycle_of_parents_ends() -> None:
    """Reused or forged ids may name each other as parents."""
    driver = fed("MID 90 rewritten to MID 91 by x", "MID 91 rewritten to MID 90 by x", "MID 90 rewritten to MID 90 by x")
    assert {own(record)["mid"] for record in driver.kind("message")} == {90, 91}


def test_3_5_rids_that_went_to_a_rewritten_child_are_moved() -> None:
    """A rewritten message goes on as its child: all its RIDs are moved."""
    driver = fed(*RECEIVED, CHILD_LINES["rewritten"], FINISHED)
    message = own(driver.message(90))
    assert message["recipients"] == [{"rid": 0, "result": "moved", "posture": "moved", "address": "b@example.org", "domain": "example.org"}]
    assert message["child_mids"] == [91]
    assert message["posture"] == "continued"


@pytest.mark.parametrize("child_first", [False, True])
def test_3_5_rids_that_went_to_a_split_child_are_moved(child_first: bool) -> None:
    """A split line names no RIDs: those whose addresses the child has went with it, the rest stays."""
    lines = [CHILD_LINES["split"], "Start MID 91 ICID 0", "MID 91 ICID 0 RID 0 To: <c@example.net>"]
    driver = fed(*RECEIVED[:5], "MID 90 ICID 70 RID 1 To: <C@example.net>", *(reversed(lines) if child_first else lines))
    assert [item["result"] for item in own(driver.message(90))["recipients"]] == ["pending", "moved"]
    assert own(driver.message(91))["mail_flow"] == "incoming"


def test_3_5_children_over_a_source_that_reorders() -> None:
    """All lines of one second in the wrong order: parents are known before their children, RIDs before they move."""
    texts = [
        *RECEIVED,
        "MID 90 rewritten to MID 91 by x",
        "MID 91 rewritten to MID 92 by x",
        "Start MID 91 ICID 0",
        "Start MID 92 ICID 0",
        FINISHED,
    ]
    driver = Driver().feed(list(reversed(at(0, *texts))), origin=UDP).end()
    assert own(driver.message(90))["posture"] == "continued"
    assert own(driver.message(92))["reception"]["tls"]["outcome"] == "success"


# ------------------------------------------------------------------------------------------------------------------------ 3.6

SUCCESS, CLEAR, BLANK = Leg("I", 70, 0, "success", "line"), Leg("I", 70, 0, "none", "absence"), Leg("I", 70, 0, "unknown", "gap")


def recipient(result: str, in_clear: bool | None = None) -> Recipient:
    """One RID with its final word."""
    final = result not in ("pending", "tls_blocked")
    return Recipient(0, None, result, final, in_clear=in_clear, delivered=result == "delivered", blocked=result == "tls_blocked")


@pytest.mark.parametrize(
    ("result", "way_in", "out_in_clear", "expected"),
    [
        ("moved", SUCCESS, None, "moved"),
        ("delivered", SUCCESS, False, "encrypted"),
        ("delivered", SUCCESS, True, "exposed"),
        ("delivered", CLEAR, False, "exposed"),
        ("delivered", CLEAR, None, "exposed"),
        ("delivered", BLANK, True, "exposed"),
        ("delivered", BLANK, False, "unknown"),
        ("delivered", SUCCESS, None, "unknown"),
        ("delivered", None, False, "unknown"),
        ("delivered", "internal", False, "encrypted"),
        ("delivered", "internal", True, "exposed"),
        ("uncertain", SUCCESS, False, "encrypted"),
        ("uncertain", SUCCESS, True, "exposed"),
        ("uncertain", CLEAR, None, "exposed"),
        ("tls_blocked", CLEAR, None, "blocked"),
        ("bounced", CLEAR, None, "undelivered"),
        ("dropped", CLEAR, None, "undelivered"),
        ("deleted", CLEAR, None, "undelivered"),
        ("quarantined", CLEAR, None, "undelivered"),
        ("pending", CLEAR, None, "unknown"),
    ],
)
def test_3_6_posture_of_a_recipient(result: str, way_in: Leg | str | None, out_in_clear: bool | None, expected: str) -> None:
    """The table: moved; delivered or uncertain by both legs; blocked; ended otherwise; still waiting."""
    message = Message(90, 0, 0, 0, reception=way_in if isinstance(way_in, Leg) else None, internal=way_in == "internal")
    assert posture.of_recipient(message, recipient(result, out_in_clear)) == expected


_OF = {"encrypted": ("delivered", False), "exposed": ("delivered", True), "unknown": ("pending", None), "blocked": ("tls_blocked", None)}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["moved"], "continued"),
        (["moved", "moved"], "continued"),
        (["moved", "encrypted"], "encrypted"),
        (["exposed", "encrypted"], "partial"),
        (["exposed", "encrypted", "unknown", "blocked", "undelivered"], "partial"),
        (["exposed", "unknown", "blocked", "undelivered"], "exposed"),
        (["unknown", "blocked", "encrypted", "undelivered"], "unknown"),
        (["blocked", "encrypted", "undelivered"], "blocked"),
        (["encrypted", "undelivered"], "encrypted"),
        (["undelivered"], "undelivered"),
    ],
)
def test_3_6_posture_of_a_message(words: list[str], expected: str) -> None:
    """All moved, partial, else the first present of a fixed order."""
    recipients = [recipient(*_OF.get(word, ("moved" if word == "moved" else "bounced", None))) for word in words]
    for number, one in enumerate(recipients):
        one.rid = number
    assert posture.of_message(Message(90, 0, 0, 0, reception=SUCCESS, recipients=recipients)) == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ((NEW, START, FROM, "Message aborted MID 90 Receiving aborted", "Message finished MID 90 aborted"), "undelivered"),
        ((NEW, START, FROM, FINISHED), "undelivered"),
        ((FROM, FINISHED), "unknown"),
        ((NEW, START, FROM), "unknown"),
    ],
)
def test_3_6_a_message_without_recipients(texts: tuple[str, ...], expected: str) -> None:
    """`undelivered` only if it was seen from `Start MID` to finished or aborted."""
    assert own(fed(*texts).message(90))["posture"] == expected


def test_3_6_posture_in_and_out_beside_it() -> None:
    """Received in clear, delivered under TLS: exposed, by its reception alone."""
    driver = fed(NEW, START, FROM, TO, NEW_D, UP_D, OUT, DONE, ANSWER, FINISHED)
    message = own(driver.message(90))
    assert (message["posture"], message["posture_in"], message["posture_out"]) == ("exposed", "exposed", "encrypted")
    assert own(driver.delivery(90))["posture_in"] == "exposed"


def test_3_6_delivered_is_final() -> None:
    """A bounce or a second delivery afterwards adds history and changes neither result nor posture."""
    driver = fed(
        *(*RECEIVED, NEW_D, UP_D, OUT, DONE, ANSWER, "Delivery start DCID 81 MID 90 to RID [0]", "DCID 82 TLS failed: x"),
        *("Bounced: DCID 81 MID 90 to RID 0 - 5.1.0 - x", "Delivery start DCID 82 MID 90 to RID [0]", DONE.replace("80", "82"), FINISHED),
    )
    message = own(driver.message(90))
    assert message["recipients"][0] == {
        "rid": 0,
        "result": "delivered",
        "posture": "encrypted",
        "address": "b@example.org",
        "domain": "example.org",
        "tls_outcome": "success",
        "in_clear": False,
    }
    assert [item["result"] for item in message["deliveries"]] == ["delivered", "bounced", "delivered"]


def test_3_6_a_delivery_replaces_an_uncertain_one() -> None:
    """Perhaps delivered in clear on one DCID, surely under TLS on the next: the surer one counts."""
    driver = fed(
        *(*RECEIVED, NEW_D, OUT, "Possible Delivery: DCID: 80 MID 90 to [0]", "DCID 80 close", "DCID 81 TLS success"),
        *("Delivery start DCID 81 MID 90 to RID [0]", DONE.replace("80", "81"), FINISHED),
    )
    assert own(driver.message(90))["recipients"][0]["in_clear"] is False


def test_3_6_blocked_stays_blocked_whatever_ends_it_without_another_attempt() -> None:
    """The last attempt was blocked for want of TLS and it was never delivered: `blocked`, though an expiry bounced it in the end."""
    driver = fed(
        *(*RECEIVED, NEW_D, "DCID 80 TLS failed", "Delayed: DCID 80 MID 90 to RID 0 - 4.1.0 - x"),
        *("Bounced: DCID 0 MID 90 to RID 0 - 5.4.7 - Delivery expired (message too old)", FINISHED),
    )
    message = own(driver.message(90))
    assert (message["posture"], message["recipients"][0]["result"]) == ("blocked", "bounced")


def test_3_6_a_new_attempt_ends_blocked() -> None:
    """Blocked, then mail on its way again without a result: not known what became of it."""
    driver = fed(*RECEIVED, NEW_D, "DCID 80 TLS failed", "Delayed: DCID 80 MID 90 to RID 0 - 4.1.0 - x", OUT.replace("80", "81"))
    message = own(driver.message(90))
    assert (message["posture"], message["recipients"][0]["result"]) == ("unknown", "pending")


def test_3_6_rids_decide_never_message_finished() -> None:
    """`done` says that it was handled, not what became of it."""
    assert own(fed(*RECEIVED, FINISHED).message(90))["posture"] == "unknown"


# ------------------------------------------------------------------------------------------------------------------------ 3.7


def left_at(driver: Driver, kind: str) -> list[str]:
    """The times of the records of a kind that have left so far."""
    return [record["@timestamp"] for record in driver.kind(kind)]


@pytest.mark.parametrize("end", ["ICID 70 close", "SMTP server connection killed ICID: 70"])
def test_3_7_a_connection_leaves_at_its_end(end: str) -> None:
    """At close or killed, with the time of that line."""
    driver = Driver().feed(at(0, NEW))
    assert left_at(driver, "connection") == []
    assert left_at(driver.feed(at(3, end)), "connection") == [iso(3)]


@pytest.mark.parametrize(("word", "line"), [("lost", "ICID 70 lost"), ("disconnected", "ICID 70 disconnected address 198.51.100.7, x")])
def test_3_7_lost_or_disconnected_alone_leaves_after_15_minutes(word: str, line: str) -> None:
    """With its own word as the end, stamped with the deadline."""
    driver = idle(Driver().feed(at(0, NEW)).feed(at(5, line)), 280, 904)
    assert left_at(driver, "connection") == []
    driver.feed(at(905, "Status: x"))
    assert left_at(driver, "connection") == [iso(905)]
    assert own(driver.connection(70))["connection"]["end"] == word


def test_3_7_a_delivery_leaves_with_its_response() -> None:
    """When all RIDs have their results and the Response came."""
    driver = Driver().feed(at(0, *RECEIVED, NEW_D, UP_D, OUT)).feed(at(1, DONE))
    assert left_at(driver, "delivery") == []
    assert left_at(driver.feed(at(2, ANSWER)), "delivery") == [iso(2)]
    record = driver.delivery(90)
    assert own(record)["delivery"] == {
        "result": "delivered",
        "ordinal": 1,
        "attempt": 1,
        "domains": ["example.org"],
        "response": "2.0.0 OK",
        "enhanced_code": "2.0.0",
    }
    assert record["event"]["outcome"] == "success"


@pytest.mark.parametrize("clock", [[3], [3, 60], [60]])
def test_3_7_a_delivery_leaves_2_seconds_after_its_last_result(clock: list[int]) -> None:
    """Without a Response: stamped with the deadline, however seldom the clock is looked at."""
    driver = Driver().feed(at(0, *RECEIVED, NEW_D, UP_D, OUT)).feed(at(1, DONE))
    for second in clock:
        driver.feed(at(second, f"Status: {second}"))
    assert left_at(driver, "delivery") == [iso(3)]


@pytest.mark.parametrize(("line", "stamp"), [("DCID 80 close", 4), (FINISHED, 4)])
def test_3_7_a_delivery_leaves_when_its_dcid_or_mid_ends(line: str, stamp: int) -> None:
    """Without results: `unknown`."""
    driver = Driver().feed(at(0, *RECEIVED, NEW_D, UP_D, OUT)).feed(at(4, line)).feed(at(9, "Status: x"))
    assert left_at(driver, "delivery") == [iso(stamp)]
    assert own(driver.delivery(90))["delivery"]["result"] == "unknown"


def test_3_7_one_record_per_attempt_and_result() -> None:
    """Three RIDs in one attempt, two results: two records with their RIDs, two ids, one ordinal."""
    driver = fed(
        *(*RECEIVED, "MID 90 ICID 70 RID 1 To: <c@example.net>", "MID 90 ICID 70 RID 2 To: <d@example.net>", NEW_D, UP_D),
        *("Delivery start DCID 80 MID 90 to RID [0, 1, 2]", "Bounced: DCID 80 MID 90 to RID 1 - 5.1.0 - no ('550', ['no such user']) []"),
        *("Message done DCID 80 MID 90 to RID [0, 2]", "MID 90 RID [0, 2] Response 'ok'"),
    )
    records = sorted(driver.deliveries(90), key=lambda record: str(own(record)["rids"]))
    assert [(own(one)["rids"], own(one)["delivery"]["result"], own(one)["delivery"]["ordinal"]) for one in records] == [
        ([0, 2], "delivered", 1),
        ([1], "bounced", 1),
    ]
    assert len({one["event"]["id"] for one in records}) == 2
    assert own(records[1])["delivery"]["code"] == 550
    assert own(records[0])["delivery"]["domains"] == ["example.org", "example.net"]


@pytest.mark.parametrize("clock", [[9], [9, 10], [90]])
def test_3_7_a_message_leaves_2_seconds_after_it_finished(clock: list[int]) -> None:
    """Stamped with the line that ended it."""
    driver = Driver().feed(at(0, *RECEIVED)).feed(at(7, FINISHED))
    assert left_at(driver.feed(at(8, "Status: 8")), "message") == []
    for second in clock:
        driver.feed(at(second, f"Status: {second}"))
    assert left_at(driver, "message") == [iso(7)]
    assert own(driver.message(90))["message"]["end"] == "finished"


def test_3_7_lines_in_those_2_seconds_still_count() -> None:
    """A Response after `Message finished` is in the delivery and in the message."""
    driver = Driver().feed(at(0, *RECEIVED, NEW_D, UP_D, OUT, DONE, FINISHED)).feed(at(1, ANSWER)).feed(at(5, "Status: x"))
    assert own(driver.message(90))["deliveries"][0]["response"].endswith("OK")


def test_3_7_a_message_settles_after_15_quiet_minutes() -> None:
    """All RIDs final, no `Message finished`: `settled`, stamped with the deadline."""
    driver = idle(Driver().feed(at(0, *RECEIVED, NEW_D, UP_D, OUT)).feed(at(1, DONE, ANSWER)), 200, 900)
    assert left_at(driver, "message") == []
    driver.feed(at(901, "Status: x"))
    assert (left_at(driver, "message"), own(driver.message(90))["message"]["end"]) == ([iso(901)], "settled")


@pytest.mark.parametrize(("extra", "days"), [("MID 90 queued for delivery", 8), ('MID 90 quarantined to "Policy" (x)', 45)])
def test_3_7_time_outs_of_messages(extra: str, days: int) -> None:
    """8 days of silence, 45 in a quarantine; counted from the last line about it."""
    driver = Driver().feed(at(0, *RECEIVED), at(1, extra))
    end = days * 86400 + 1
    for second in range(200, end, 86_000):
        driver.feed(at(second, f"Status: {second}"), at(second + 1, f"Status: {second + 1}"))
    driver.feed(at(end - 2, "Status: y"), at(end - 1, "Status: z"))
    assert left_at(driver, "message") == []
    driver.feed(at(end, "Status: x"))
    assert (left_at(driver, "message"), own(driver.message(90))["message"]["end"]) == ([iso(end)], "timeout")


def test_3_7_each_summary_leaves_once_and_late_lines_reopen_nothing() -> None:
    """After the records left: late lines take the triple from the tombstone, carry the flag, and nothing leaves again."""
    driver = Driver().feed(at(0, *RECEIVED, NEW_D, UP_D, OUT, DONE, ANSWER, FINISHED, "DCID 80 close")).feed(at(10, "Status: x"))
    before = {kind: driver.kind(kind) for kind in ("connection", "delivery", "message")}
    late = (
        OUT,
        DONE,
        ANSWER.replace("OK", "again"),
        START,
        FROM,
        "MID 90 antivirus negative",
        "ICID 70 lost",
        "DCID 80 close.",
        NEW,
        "Message finished MID 90 aborted",
    )
    driver.feed(at(20, *late)).end()
    assert {kind: driver.kind(kind) for kind in before} == before
    records = {record["event"]["original"][31:]: own(record) for record in driver.lines()[-len(late) :]}
    assert all(record["flags"] == ["late"] for record in records.values())
    assert triple({"cisco_esa": records["MID 90 antivirus negative"]}) == ("ICID/70", "inbound", "success")
    assert triple({"cisco_esa": records[DONE]}) == ("DCID/80", "outbound", "success")


@pytest.mark.parametrize(("hours", "late"), [(0.9, True), (1.1, False)])
def test_3_7_tombstones_of_connections_stay_an_hour(hours: float, late: bool) -> None:
    """Within the hour a line is late, after it the connection is forgotten."""
    driver = idle(Driver().feed(at(0, *RECEIVED)), 100, hours * 3600)
    line = driver.feed(at(hours * 3600, "ICID 70 lost")).end().line("ICID 70 lost")
    assert own(line).get("flags", []) == (["late"] if late else [])


@pytest.mark.parametrize(
    ("days", "quarantined", "late"), [(0.9, False, True), (1.1, False, False), (44.0, True, True), (45.1, True, False)]
)
def test_3_7_tombstones_of_messages(days: float, quarantined: bool, late: bool) -> None:
    """A day; 45 if the message was ever quarantined, so that one released later still knows its reception."""
    extra = ["ISQ: Quarantined MID 90"] if quarantined else []
    driver = Driver(state=None).feed(at(0, *RECEIVED, *extra, FINISHED)).feed(at(5, "Status: x"))
    for second in range(200, int(days * 86400), 86_000):
        driver.feed(at(second, f"Status: {second}"), at(second + 1, f"Status: {second + 1}"))
    end = days * 86400
    driver.feed(
        at(end, "Status: y"),
        at(end, "Status: z"),
        at(end + 1, "ISQ: Reinjected MID 90 as MID 91"),
        at(end + 2, "MID 90 antivirus negative"),
    )
    assert own(driver.line("MID 90 antivirus negative")).get("flags", []) == (["late"] if late else [])
    assert own(driver.end().message(91))["reception"].get("icid") == (70 if late else None)


def test_3_7_tombstones_are_bounded() -> None:
    """The oldest go first."""
    driver = Driver(max_tombstones=3)
    for n in range(10):
        driver.feed(at(n, f"ICID {n + 1} close"))
    driver.seal()
    assert sum(key.startswith(b"e") for key in driver.state.data) == 3


OPENERS = {
    "44": OUT,
    "45": DONE,
    "47": "Bounced: DCID 80 MID 90 to RID 0 - 5.1.0 - x ('550', ['y']) []",
    "48": "MID 90 to RID [0] Bounced by destination server with response: 5.1.0 - x ('550', ['y'])",
    "49": "Delayed: DCID 80 MID 90 to RID 0 - 4.1.0 - x ('451', ['y']) []",
    "52": "Possible Delivery: DCID: 80 MID 90 to [0]",
    "56": START,
    "57": FROM,
    "58": TO,
    "63": "MID 90 ready 100 bytes from <a@example.com>",
    "76": "RPC Delivery start RCID 10 MID 90 to local IronPort Spam Quarantine",
    "76b": "RPC Message done RCID 10 MID 90",
    "86": "MID 89 was split creating MID 90 due to a per-recipient policy p in the inbound table",
    "87": "MID 89 rewritten to MID 90 by antispam",
    "88": "MID 90 generated based on MID 89 by bcc filter 'x'",
    "89": "MID 90 generated for bounce of MID 89",
    "90": "ISQ: Reinjected MID 89 as MID 90",
}


@pytest.mark.parametrize("row", OPENERS)
def test_3_7_rows_that_open_a_message(row: str) -> None:
    """Each of these lines alone makes a message record; rows 86 to 90 open the child only."""
    driver = fed(OPENERS[row])
    assert [own(record)["mid"] for record in driver.kind("message")] == [90]


@pytest.mark.parametrize(
    "line",
    [
        *(
            "MID 90 ICID 70 To: <b@example.org> Rejected by RAT",
            "MID 90 ICID 70 invalid bounce, tagging",
            "MID 90 Message-ID '<x@example.com>'",
        ),
        *(
            "MID 90 Subject 'x'",
            "MID 90 matched all recipients for per-recipient policy DEFAULT in the inbound table",
            "MID 90 antivirus negative",
        ),
        *('MID 90 quarantined to "Policy" (x)', 'MID 90 released from quarantine "Policy" (x) t=1', "ISQ: Tagging MID 90 for quarantine"),
        *(
            "MID 90 queued for delivery",
            FINISHED,
            "Message aborted MID 90 Receiving aborted",
            "MID 90 was dropped by content filter 'x' in the inbound table",
        ),
        *(
            ANSWER,
            "MID 90 to RID [0] pending till Mon Nov 24 01:00:00 2025",
            "Deleted: MID 90 to [0]",
            "Double bounce: MID 90 to 0 - 5.1.0 - x",
        ),
        *(
            "LDAP: Drop query q MID 90 RID 0 address b@example.org",
            "MID 90 From: <a@example.com> To: <b@example.org>, ... 1 total recipients",
        ),
        "DCID 80 IP 203.0.113.25 TLS was required but could not be successfully negotiated",
    ],
)
def test_3_7_all_other_lines_open_none(line: str) -> None:
    """No message, no attempt, out of these."""
    driver = fed(line)
    assert driver.kind("message") == driver.kind("delivery") == []


@pytest.mark.parametrize("verb", ["Delayed", "Bounced"])
def test_3_7_tls_blocked(verb: str) -> None:
    """`Delayed`/`Bounced` names MID and a DCID whose TLS failed with no Delivery start: one attempt for all RIDs, `tls_blocked`."""
    driver = fed(
        *(*RECEIVED, "MID 90 ICID 70 RID 1 To: <c@example.org>", NEW_D),
        "DCID 80 IP 203.0.113.25 TLS was required but could not be successfully negotiated",
        *(f"{verb}: DCID 80 MID 90 to RID {rid} - 4.1.0 - x ('000', []) []" for rid in (0, 1)),
        *("MID 90 to RID [0, 1] pending till Mon Nov 24 01:00:00 2025", "DCID 80 close"),
    )
    record = driver.delivery(90)
    assert (own(record)["delivery"]["result"], own(record)["rids"], record["event"]["outcome"]) == ("tls_blocked", [0, 1], "failure")
    assert own(record)["tls"]["failure"]["class"] == "required_not_negotiated"
    message = own(driver.message(90))
    assert message["posture"] == "blocked"
    assert [item["tls_outcome"] for item in message["recipients"]] == ["failed", "failed"]
    assert own(driver.connection(80, "dcid"))["connection"].get("message_count") == 0


def test_3_7_not_blocked_when_mail_was_started_on_the_dcid() -> None:
    """TLS failed, but the DCID carried mail in clear: a later `Delayed` on it was no TLS block."""
    driver = fed(
        *RECEIVED, NEW_D, "DCID 80 TLS failed", "Delivery start DCID 80 MID 89 to RID [0]", "Delayed: DCID 80 MID 90 to RID 0 - 4.1.0 - x"
    )
    assert own(driver.delivery(90))["delivery"]["result"] == "delayed"


def test_3_7_delivery_start_for_open_rids_is_no_new_attempt() -> None:
    """Said twice, in part twice, or for RIDs of which some have their result: only RIDs that are not on their way begin one."""
    to = "Delivery start DCID 80 MID 90 to RID "
    assert len(fed(*RECEIVED, NEW_D, to + "[0, 1]", to + "[0, 1].", to + "[1]", "DCID 80 close").deliveries(90)) == 1
    driver = fed(
        *RECEIVED,
        NEW_D,
        to + "[0, 1]",
        "Delayed: DCID 80 MID 90 to RID 0 - 4.1.0 - x",
        to + "[1]",
        DONE.replace("[0]", "[1]"),
        "DCID 80 close",
    )
    assert {own(record)["delivery"]["ordinal"] for record in driver.deliveries(90)} == {1}
    driver = fed(*RECEIVED, NEW_D, to + "[0]", to + "[0, 1]", "DCID 80 close")
    assert [(own(record)["delivery"]["ordinal"], own(record)["rids"]) for record in driver.deliveries(90)] == [(1, [0]), (2, [1])]


def test_3_7_a_result_said_twice_has_no_effect() -> None:
    """`Message done` with and without the header list: one record."""
    driver = fed(*RECEIVED, NEW_D, UP_D, OUT, DONE, DONE + " [('X-SBRS', 'None')]", ANSWER, ANSWER + " ", FINISHED)
    assert len(driver.deliveries(90)) == 1
    assert len(own(driver.message(90))["deliveries"]) == 1


def test_3_7_the_same_line_under_another_log_name_has_no_effect() -> None:
    """A second subscription: flagged `duplicate`, same records as without it."""
    texts = (*RECEIVED, NEW_D, UP_D, OUT, DONE, ANSWER, FINISHED)

    def run(*names: str) -> Driver:
        driver = Driver(now_s=1_763_950_000)
        for n, text in enumerate(texts):
            for name in names:
                driver.feed(syslog(n, text, name=name))
        return driver.end()

    both, one = run("mail_logs", "second"), run("mail_logs")

    def summaries(driver: Driver) -> list[Record]:
        found = [record for record in driver.records if own(record)["record"] != "line"]
        return [{**record, "event": {**record["event"], "sequence": 0}} for record in found]

    assert summaries(both) == summaries(one)
    flagged = [record for record in both.lines() if "duplicate" in own(record)["flags"]]
    assert {own(record)["log_name"] for record in flagged} == {"second"}
    assert len(flagged) == len(texts)
    assert both.count("esa_tls.lines.duplicate") == len(texts)
    assert len({record["event"]["id"] for record in both.lines()}) == 2 * len(texts)


def test_3_7_a_line_seen_already_under_the_same_name_changes_nothing() -> None:
    """A chunk that is sent again after its messages have ended reopens nothing."""
    lines = at(0, *RECEIVED, NEW_D, UP_D, OUT, DONE, ANSWER, FINISHED, "DCID 80 close")
    driver = Driver().feed(lines).feed(at(10, "Status: x")).feed(lines).end()
    assert [len(driver.kind(kind)) for kind in ("connection", "delivery", "message")] == [2, 1, 1]


def test_3_7_connection_error_ends_the_attempts_on_it() -> None:
    """No MID is named: every delivery under way on the DCID failed with it."""
    error = (
        "Connection Error: DCID 80 domain: example.org IP: 203.0.113.25 port: 25 details: EOF interface: 192.0.2.1 reason: network error"
    )
    driver = Driver().feed(at(0, *RECEIVED, NEW_D, UP_D, OUT)).feed(at(3, error)).feed(at(9, "Status: x"))
    record = driver.delivery(90)
    assert (own(record)["delivery"]["result"], record["@timestamp"], own(record)["tls"]["outcome"]) == (
        "connection_error",
        iso(5),
        "success",
    )
    driver.feed(at(10, "DCID 81 TLS success", OUT.replace("80", "81"), DONE.replace("80", "81"), FINISHED)).end()
    assert [item["result"] for item in own(driver.message(90))["deliveries"]] == ["connection_error", "delivered"]


def test_3_7_possible_delivery_after_a_connection_error() -> None:
    """The line that says more wins: uncertain, with the leg it was tried on."""
    error = "Connection Error: DCID: 80 IP: 203.0.113.25 details: EOF interface: 192.0.2.1 reason: network error"
    driver = fed(*RECEIVED, NEW_D, UP_D, OUT, error, "Possible Delivery: DCID: 80 MID 90 to [0]", FINISHED)
    assert own(driver.message(90))["recipients"][0]["result"] == "uncertain"
    assert own(driver.message(90))["posture"] == "encrypted"


def test_3_7_late_lines_count_as_heard_of_now() -> None:
    """A chunk of half an hour ago: its connection does not time out at once, the rest of it may be in the next chunk."""
    driver = idle(Driver(), 0, 3000)
    driver.feed(at(1000, NEW, UP)).feed(at(3001, "Status: a")).feed(at(3002, "Status: b"))
    assert driver.kind("connection") == []
    driver.feed(at(1005, "ICID 70 close"))
    assert own(driver.connection(70))["connection"]["end"] == "close"


def test_eviction_spares_the_entry_a_line_is_about() -> None:
    """Everything open is a message with a far deadline: a new connection is not evicted by its own first line."""
    driver = Driver(max_entries=3)
    for n in range(6):
        driver.feed(at(n, f"Start MID {n + 1} ICID 0"))
    driver.feed(at(10, NEW, UP, "ICID 70 close"))
    assert own(driver.connection(70))["tls"]["outcome"] == "success"
    assert own(driver.connection(70))["connection"]["end"] == "close"
    assert {own(record)["message"]["end"] for record in driver.kind("message")} == {"evicted"}


def test_mail_flow_a_policy_line_beats_the_hat_policy() -> None:
    """RELAY says outgoing; a policy line in the inbound table says better."""
    hat = "ICID 70 RELAY SG R match ALL SBRS not enabled"
    policy = "MID 90 matched all recipients for per-recipient policy A B in the inbound table"
    assert own(fed(NEW, hat, UP, START).message(90))["mail_flow"] == "outgoing"
    message = own(fed(NEW, hat, UP, START, policy).message(90))
    assert (message["mail_flow"], message["mail_policy"]) == ("incoming", "A B")
    assert own(fed("Start MID 90 ICID 0").message(90))["mail_flow"] == "internal"


def test_lists_are_cut_at_100_with_a_count_beside_them() -> None:
    """150 recipients, one of them in clear beyond the cut: the count and the posture are worked out from all."""
    rids = [f"MID 90 ICID 70 RID {n} To: <u{n}@d{n}.example.org>" for n in range(150)]
    first = "[" + ", ".join(map(str, range(149))) + "]"
    driver = Driver().feed(
        at(0, NEW, UP, START, *rids, UP_D, f"Delivery start DCID 80 MID 90 to RID {first}", f"Message done DCID 80 MID 90 to RID {first}"),
        at(
            1, NEW_D.replace("80", "81"), "Delivery start DCID 81 MID 90 to RID [149]", "Message done DCID 81 MID 90 to RID [149]", FINISHED
        ),
    )
    message = own(driver.end().message(90))
    assert (len(message["recipients"]), message["recipient_count"], message["posture"]) == (100, 150, "partial")
    assert message["clear"] == {"recipient_count": 1, "domains": ["d149.example.org"]}
    assert len(own(driver.deliveries(90)[0])["rids"]) == 100
