"""docs/correlation.md 3.6: posture, a total function over recipients."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.core.driver import Driver, at, own

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


def idle(driver: Driver, start: float, end: float) -> Driver:
    """Nothing but status lines."""
    step, n = 290, start
    while n < end:
        driver.feed(at(n, f"Status: CPULd {n}"))
        n += step
    return driver.feed(at(end, f"Status: CPULd {end}"))


SUCCESS, CLEAR, BLANK = Leg("I", 70, 0, "success", "line"), Leg("I", 70, 0, "none", "absence"), Leg("I", 70, 0, "unknown", "gap")


def recipient(result: str, in_clear: bool | None = None) -> Recipient:
    """One RID with its final word."""
    final = result not in ("pending", "tls_blocked")
    known = Recipient(0)
    known.result, known.final, known.in_clear = result, final, in_clear
    known.delivered, known.blocked = result == "delivered", result == "tls_blocked"
    return known


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
    message = Message(90, 0, 0, 0)
    message.reception, message.internal = way_in if isinstance(way_in, Leg) else None, way_in == "internal"
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
    message = Message(90, 0, 0, 0)
    message.reception, message.recipients = SUCCESS, recipients
    assert posture.of_message(message) == expected


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
