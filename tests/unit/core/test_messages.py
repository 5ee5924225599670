"""docs/correlation.md 3.3 to 3.5: what messages and attempts take over, whose a line is, children."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.core.driver import UDP, Driver, at, own, triple

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


def idle(driver: Driver, start: float, end: float) -> Driver:
    """Nothing but status lines."""
    step, n = 290, start
    while n < end:
        driver.feed(at(n, f"Status: CPULd {n}"))
        n += step
    return driver.feed(at(end, f"Status: CPULd {end}"))


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


def test_3_4_zero_means_none_for_late_lines_as_well() -> None:
    """The record of the child has left: its lines with ICID 0 still have no connection, its others have."""
    lines = ("Start MID 91 ICID 0", "MID 91 ICID 0 From: <x@example.com>", "MID 91 antivirus negative")
    driver = Driver().feed(at(0, *RECEIVED, "MID 90 rewritten to MID 91 by x", "Message finished MID 91 done")).feed(at(9, *lines)).end()
    assert [triple(driver.line(line)) for line in lines] == [None, None, ("ICID/70", "inbound", "success")]


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
