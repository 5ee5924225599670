"""docs/correlation.md 3.2: why an outcome is believed. `absence` needs every one of its conditions; each is broken here alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.core.driver import FILE, UDP, Driver, at, syslog

from esa_tls.core.batch import Origin

NEW = "New SMTP ICID 70 interface Data 1 (192.0.2.1) address 198.51.100.7 reverse dns host mx.example.org verified yes"
NEW_D = "New SMTP DCID 80 interface 192.0.2.1 address 203.0.113.25 port 25"
MAIL = ("Start MID 90 ICID 70", "MID 90 ICID 70 From: <a@example.com>")
QUIET = 2000
"""Long enough after the first line that nothing at the start of the log matters any more."""


def begun(**settings: Any) -> Driver:
    """A log that has been orderly for more than ten minutes."""
    driver = Driver(**settings)
    for n in range(0, QUIET + 1, 250):
        driver.feed(at(n, f"Status: {n}"))
    return driver


def evidence(driver: Driver) -> str:
    """Of connection 70, which must be `none`."""
    tls = driver.connection(70)["cisco_esa"]["tls"]
    assert tls["outcome"] == "none"
    return str(tls["evidence"])


def clear_mail(driver: Driver, begin: float = QUIET + 10, *, origin: Origin = FILE, session: int = 1) -> Driver:
    """Mail in clear on ICID 70, received within three seconds."""
    driver.feed(at(begin, NEW), origin=origin, session=session)
    driver.feed(at(begin + 1, *MAIL), origin=origin, session=session)
    return driver.feed(at(begin + 3, "ICID 70 close"), origin=origin, session=session)


def test_3_2_line_a_line_says_it() -> None:
    """A TLS line is the evidence, however broken the feed is."""
    driver = Driver(starts_broken=True)
    driver.feed(at(0, NEW, "ICID 70 TLS success", "ICID 70 close"), origin=UDP).end()
    assert driver.connection(70)["cisco_esa"]["tls"]["evidence"] == "line"


def test_3_2_absence_from_a_complete_beginning_over_an_orderly_stream() -> None:
    """With all conditions met, the absence of a TLS line is proof."""
    driver = clear_mail(begun())
    assert evidence(driver) == "absence"
    driver.end()
    assert driver.message(90)["cisco_esa"]["reception"]["tls"] == {"outcome": "none", "evidence": "absence", "in_clear": True}


def test_3_2_gap_when_the_beginning_was_not_seen() -> None:
    """Condition 1, the beginning seen: without it nothing is claimed."""
    driver = begun().feed(at(QUIET + 10, *MAIL, "ICID 70 close"))
    assert driver.connection(70)["cisco_esa"]["tls"] == {"outcome": "unknown", "evidence": "gap"}


def test_3_2_lossy_source() -> None:
    """Condition 2, a source not marked lossy."""
    assert evidence(clear_mail(begun(), origin=UDP).end()) == "absence_lossy"


def test_3_2_one_lossy_line_is_enough() -> None:
    """A connection of which one line came by UDP may have lost others."""
    driver = begun().feed(at(QUIET + 10, NEW)).feed(at(QUIET + 11, "ICID 70 ACCEPT SG A match ALL SBRS None"), origin=UDP)
    driver.feed(at(QUIET + 20, *MAIL)).feed(at(QUIET + 30, "ICID 70 close")).end()
    assert evidence(driver) == "absence_lossy"


def test_3_2_lines_with_a_syslog_prefix_are_lossy_unless_the_source_says_otherwise() -> None:
    """A syslog prefix means lossy; `lossy: false` at the source says that it is not."""
    for lossy, expected in ((None, "absence_lossy"), (False, "absence")):
        origin = Origin(source="relay", lossy=lossy)
        driver = Driver(now_s=1_763_950_000)
        for n, text in ((10, NEW), (11, MAIL[0]), (14, "ICID 70 close"), (20, "Status: 1")):
            driver.feed(syslog(n, text), origin=origin)
        assert evidence(driver.end()) == expected


def _start_of_ours(driver: Driver) -> None:
    driver.restart()


def _refused(driver: Driver) -> None:
    driver.pipeline.break_feed("esa1")


def _two_sessions(driver: Driver) -> None:
    driver.feed(at(QUIET, "Status: two"), session=2)


def _unclean_session(driver: Driver) -> None:
    driver.pipeline.close_session(1, clean=False)


def _late_batch(driver: Driver) -> None:
    driver.feed(at(QUIET - 1, "Status: late"))


BREAKS: dict[str, Callable[[Driver], None]] = {
    "start of ours": _start_of_ours,
    "refused batch or requests in flight": _refused,
    "two sessions": _two_sessions,
    "session that ended with an unacknowledged frame": _unclean_session,
    "late batch": _late_batch,
}


@pytest.mark.parametrize("name", BREAKS)
def test_3_2_each_break_of_the_feed_alone_takes_absence_away(name: str) -> None:
    """Condition 3, an unbroken feed: any one break in the ten minutes before the connection leaves `absence_lossy`."""
    driver = begun(starts_broken=name == "start of ours")
    BREAKS[name](driver)
    assert evidence(clear_mail(driver)) == "absence_lossy"


@pytest.mark.parametrize("name", BREAKS)
def test_3_2_each_break_is_over_after_ten_minutes(name: str) -> None:
    """The same break more than ten minutes before is forgiven; of two sessions one has to have ended."""
    driver = begun(starts_broken=name == "start of ours")
    BREAKS[name](driver)
    if name == "two sessions":
        driver.pipeline.close_session(2, clean=True)
    driver.feed(at(QUIET + 1, "Status: 0")).feed(at(QUIET + 250, "Status: 1")).feed(at(QUIET + 500, "Status: 2"))
    assert evidence(clear_mail(driver, QUIET + 700)) == "absence"


@pytest.mark.parametrize(("after_s", "expected"), [(599, "absence_lossy"), (600, "absence_lossy"), (601, "absence")])
def test_3_2_the_border_of_ten_minutes(after_s: int, expected: str) -> None:
    """A break exactly ten minutes before the beginning is still in the ten minutes before."""
    driver = begun()
    driver.pipeline.break_feed("esa1")
    driver.feed(at(QUIET, "Status: 0")).feed(at(QUIET + 290, "Status: 1")).feed(at(QUIET + 580, "Status: 2"))
    assert evidence(clear_mail(driver, QUIET + after_s)) == expected


@pytest.mark.parametrize("name", [name for name in BREAKS if name != "late batch"])
def test_3_2_a_break_lasts_until_the_next_line(name: str) -> None:
    """It lies between the last line before it and the first after it: a quiet night in between does not make it old."""
    driver = begun(starts_broken=name == "start of ours")
    BREAKS[name](driver)
    if name == "two sessions":
        driver.pipeline.close_session(2, clean=True)
    assert evidence(clear_mail(driver.restart() if name != "start of ours" else driver, QUIET + 20_000)) == "absence_lossy"


def test_3_2_lines_after_a_break_say_no_more_than_is_known_then() -> None:
    """A connection that failed before the feed broke: a success line may be among those that are missing."""
    driver = begun().feed(at(QUIET + 10, NEW, "ICID 70 TLS was required but remote host did not initiate it"))
    driver.pipeline.break_feed("esa1")
    driver.feed(at(QUIET + 11, *MAIL)).end()
    for line in MAIL:
        assert driver.line(line)["cisco_esa"]["tls"]["evidence"] == "absence_lossy"
    assert driver.message(90)["cisco_esa"]["reception"]["tls"]["evidence"] == "absence_lossy"


def test_3_2_a_sender_that_closed_its_session_cleanly_breaks_nothing() -> None:
    """One session at a time: another one after the first has ended is no second one."""
    driver = begun()
    driver.pipeline.close_session(1, clean=True)
    assert evidence(clear_mail(driver, session=2)) == "absence"


def test_3_2_a_break_while_the_connection_is_open() -> None:
    """The feed has to be unbroken while the connection is open, also after the mail was started."""
    driver = begun().feed(at(QUIET + 10, NEW)).feed(at(QUIET + 11, *MAIL))
    driver.pipeline.break_feed("esa1")
    driver.feed(at(QUIET + 12, "ICID 70 close")).end()
    assert evidence(driver) == "absence_lossy"
    assert driver.message(90)["cisco_esa"]["reception"]["tls"]["evidence"] == "absence_lossy"


def test_3_2_a_break_while_the_connection_is_open_reaches_records_that_leave_before_it_ends() -> None:
    """A delivery and a message whose records leave while their connections are open say what is known then."""
    driver = begun().feed(at(QUIET + 10, NEW, NEW_D)).feed(at(QUIET + 11, *MAIL, "MID 90 ICID 70 RID 0 To: <b@example.org>"))
    driver.feed(at(QUIET + 12, "Delivery start DCID 80 MID 90 to RID [0]"))
    driver.pipeline.break_feed("esa1")
    driver.feed(at(QUIET + 13, "Message done DCID 80 MID 90 to RID [0]", "MID 90 RID [0] Response 'ok'", "Message finished MID 90 done"))
    driver.feed(at(QUIET + 20, "Status: 1"))
    assert driver.delivery(90)["cisco_esa"]["tls"]["evidence"] == "absence_lossy"
    assert driver.message(90)["cisco_esa"]["reception"]["tls"]["evidence"] == "absence_lossy"
    assert driver.message(90)["cisco_esa"]["deliveries"][0]["tls"]["evidence"] == "absence_lossy"


def test_3_2_a_break_after_the_connection_ended_changes_nothing() -> None:
    """What was proved stays proved."""
    driver = clear_mail(begun())
    driver.pipeline.break_feed("esa1")
    driver.feed(at(QUIET + 20, "Message finished MID 90 done")).feed(at(QUIET + 30, "Status: 1"))
    assert evidence(driver) == "absence"
    assert driver.message(90)["cisco_esa"]["reception"]["tls"]["evidence"] == "absence"


def test_3_2_breaks_of_one_appliance_do_not_touch_another() -> None:
    """The feed is unbroken or not per appliance."""
    driver = Driver(appliance_from=("fluent_tag",), default_appliance="x")
    for n in range(0, QUIET, 250):
        for tag in ("esa1", "esa2"):
            driver.feed(at(n, f"Status: {n}"), origin=Origin(tag=tag))
    driver.pipeline.break_feed("esa2")
    for tag in ("esa1", "esa2"):
        clear_mail(driver, origin=Origin(tag=tag))
    found = {record["host"]["name"]: record["cisco_esa"]["tls"]["evidence"] for record in driver.kind("connection")}
    assert found == {"esa1": "absence", "esa2": "absence_lossy"}


def test_3_2_breaking_the_feed_of_an_appliance_never_heard_of() -> None:
    """Nothing happens."""
    driver = Driver()
    driver.pipeline.break_feed("nobody")
    driver.pipeline.close_session(77, clean=False)
    assert driver.seal() == []


# ---- contradictions


def test_3_2_contradiction_on_a_delivery_corrects_what_is_not_yet_out() -> None:
    """A success line after mail was started in clear: connection, delivery and message say `success`, flagged, counted."""
    driver = begun().feed(at(QUIET + 10, NEW_D, "Start MID 90 ICID 0", "MID 90 ICID 0 RID 0 To: <b@example.org>"))
    driver.feed(at(QUIET + 11, "Delivery start DCID 80 MID 90 to RID [0]"), at(QUIET + 12, "DCID 80 TLS success"))
    driver.feed(at(QUIET + 13, "Message done DCID 80 MID 90 to RID [0]", "Message finished MID 90 done", "DCID 80 close")).end()
    for record in (driver.connection(80, "dcid"), driver.delivery(90)):
        assert record["cisco_esa"]["tls"]["outcome"] == "success"
        assert record["cisco_esa"]["flags"] == ["contradiction"]
    message = driver.message(90)["cisco_esa"]
    assert message["posture"] == "encrypted"
    assert message["flags"] == ["contradiction"]
    assert driver.line("DCID 80 TLS success")["cisco_esa"]["flags"] == ["contradiction"]
    assert driver.count("esa_tls.contradictions") == 1


def test_3_2_contradiction_by_a_late_batch_corrects_the_reception() -> None:
    """The chunk with the TLS line comes after the one with the mail: by its stamp it was first, so the mail was under TLS."""
    driver = begun().feed(at(QUIET + 10, NEW)).feed(at(QUIET + 15, *MAIL)).feed(at(QUIET + 20, "Status: 1"))
    driver.feed(at(QUIET + 12, "ICID 70 TLS success")).feed(at(QUIET + 21, "Message finished MID 90 done", "ICID 70 close")).end()
    assert driver.connection(70)["cisco_esa"]["tls"]["outcome"] == "success"
    assert driver.connection(70)["cisco_esa"]["flags"] == ["contradiction"]
    message = driver.message(90)["cisco_esa"]
    assert message["reception"]["tls"] == {"outcome": "success", "evidence": "line", "in_clear": False}
    assert message["flags"] == ["contradiction"]


def test_3_2_contradiction_reaches_grandchildren() -> None:
    """A corrected reception goes on to all that inherited it."""
    driver = (
        begun()
        .feed(at(QUIET + 10, NEW))
        .feed(at(QUIET + 15, MAIL[0], "MID 90 rewritten to MID 91 by x", "MID 91 rewritten to MID 92 by x"))
    )
    driver.feed(at(QUIET + 12, "ICID 70 TLS success")).end()
    for mid in (90, 91, 92):
        assert driver.message(mid)["cisco_esa"]["reception"]["tls"]["outcome"] == "success"


def test_3_2_a_later_starttls_contradicts_nothing() -> None:
    """In an orderly feed a success after clear mail is a later STARTTLS, even if the clock was set back in between."""
    for success_s in (QUIET + 20, QUIET + 11):
        driver = begun(late_batches=False).feed(at(QUIET + 10, NEW)).feed(at(QUIET + 15, *MAIL)).feed(at(success_s, "ICID 70 TLS success"))
        driver.feed(at(QUIET + 21, "Start MID 91 ICID 70", "ICID 70 close")).end()
        assert driver.count("esa_tls.contradictions") == 0
        assert driver.message(90)["cisco_esa"]["reception"]["tls"]["outcome"] == "none"
        assert driver.message(91)["cisco_esa"]["reception"]["tls"]["outcome"] == "success"


def test_3_2_nothing_is_guessed_when_late_lines_leave_the_order_open() -> None:
    """STARTTLS stamped after the mail but read before it, over a broken feed: what held for the mail is not known."""
    driver = begun().feed(at(QUIET + 10, NEW)).feed(at(QUIET + 20, "ICID 70 TLS success")).feed(at(QUIET + 15, *MAIL)).end()
    assert driver.message(90)["cisco_esa"]["reception"]["tls"] == {"outcome": "unknown", "evidence": "gap"}


def test_3_2_failed_after_clear_mail_out_contradicts() -> None:
    """A failure line on a DCID that was taken for clear by absence is a contradiction; mail went in clear all the same."""
    driver = begun().feed(at(QUIET + 10, NEW_D, "Start MID 90 ICID 0"), at(QUIET + 11, "Delivery start DCID 80 MID 90 to RID [0]"))
    driver.feed(
        at(QUIET + 12, "DCID 80 TLS failed: STARTTLS unexpected response", "Message done DCID 80 MID 90 to RID [0]", "DCID 80 close")
    )
    tls = driver.delivery(90)["cisco_esa"]["tls"]
    assert (tls["outcome"], tls["evidence"], tls["in_clear"]) == ("failed", "line", True)
    assert driver.delivery(90)["cisco_esa"]["flags"] == ["contradiction"]


# ---- what else rests on absence


@pytest.mark.parametrize(
    ("line", "certain"),
    [
        ("ICID 70 TLS failed: [Errno 54] Connection reset by peer", False),
        ("ICID 70 TLS was required but remote host did not initiate it", False),
        ("DCID 80 TLS failed: [Errno 54] Connection reset by peer", False),
        ("DCID 80 TLS failed: STARTTLS unexpected response", True),
        ("DCID 80 IP 203.0.113.25 TLS was required but could not be successfully negotiated", True),
    ],
)
def test_3_2_failed_rests_on_the_absence_of_a_success_line(line: str, certain: bool) -> None:
    """A lost success line before it would make it a broken session: over a lossy source only what ends STARTTLS for good is sure."""

    def evidence_of(driver: Driver) -> str:
        (record,) = driver.feed(at(QUIET + 30, "ICID 70 close" if "ICID" in line else "DCID 80 close")).end().kind("connection")
        assert record["cisco_esa"]["tls"]["outcome"] == "failed"
        return str(record["cisco_esa"]["tls"]["evidence"])

    new = NEW if "ICID" in line else NEW_D
    assert evidence_of(begun().feed(at(QUIET + 10, new, line))) == "line"
    lossy = begun().feed(at(QUIET + 10, new, line), origin=UDP)
    assert evidence_of(lossy) == ("line" if certain else "absence_lossy")
    assert lossy.line(line)["cisco_esa"]["tls"]["evidence"] == ("line" if certain else "absence_lossy")
    broken = begun().feed(at(QUIET + 10, new, line))
    broken.pipeline.break_feed("esa1")
    assert evidence_of(broken) == ("line" if certain else "absence_lossy")
    assert evidence_of(begun(starts_broken=True).feed(at(QUIET + 10, new, line)).restart()) == "line", "senders go on where they were"
    assert evidence_of(Driver(starts_broken=True).feed(at(QUIET + 10, new, line))) == "line", "the same at the very first start"


def test_3_2_a_late_pending_line_is_not_given_to_a_newer_attempt() -> None:
    """A chunk that comes late says when RID 0 was to be tried again, after it has been: not a line of the newer attempt's DCID."""
    pending = "MID 90 to RID [0] pending till Mon Nov 24 01:00:00 2025"
    driver = begun().feed(at(QUIET + 10, "Start MID 90 ICID 0", "Delivery start DCID 80 MID 90 to RID [0]"))
    driver.feed(at(QUIET + 11, "Delayed: DCID 80 MID 90 to RID 0 - 4.1.0 - x")).feed(
        at(QUIET + 200, "Delivery start DCID 81 MID 90 to RID [0]")
    )
    driver.feed(at(QUIET + 11, pending)).feed(at(QUIET + 100, pending + " [Default]")).end()
    assert driver.line(pending)["cisco_esa"]["dcid"] == 80
    assert "connection" not in driver.line(pending + " [Default]")["cisco_esa"]


def test_3_2_a_stream_that_goes_back_in_time_is_not_orderly() -> None:
    """A file put together in another order than it was written: what is missing here may come later, so absence proves less."""
    driver = begun(late_batches=False)
    driver.feed(at(QUIET + 5, "Status: 1"), at(QUIET + 1, "Status: 2"))

    assert "absence_lossy" == evidence(clear_mail(driver))


def test_3_2_two_seconds_back_are_within_the_order() -> None:
    """Lines of neighbouring seconds do change places in an orderly log."""
    driver = begun(late_batches=False)
    driver.feed(at(QUIET + 5, "Status: 1"), at(QUIET + 3, "Status: 2"))

    assert "absence" == evidence(clear_mail(driver))
