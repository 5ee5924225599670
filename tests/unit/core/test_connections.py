"""docs/correlation.md 3.1, row by row: the TLS outcome of a connection."""

from __future__ import annotations

import pytest
from tests.unit.core.driver import Driver, Record, at

NEW_I = "New SMTP ICID 70 interface Data 1 (192.0.2.1) address 198.51.100.7 reverse dns host mx.example.org verified yes"
NEW_D = "New SMTP DCID 80 interface 192.0.2.1 address 203.0.113.25 port 25"
UP_I, UP_D = "ICID 70 TLS success protocol TLSv1.2 cipher AES128-SHA", "DCID 80 TLS success protocol TLSv1.2 cipher AES128-SHA"
FAIL_I, FAIL_D = "ICID 70 TLS failed: [Errno 54] Connection reset by peer", "DCID 80 TLS failed: STARTTLS unexpected response"
REQUIRED_I = "ICID 70 TLS was required but remote host did not initiate it"
REQUIRED_D = "DCID 80 IP 203.0.113.25 TLS was required but could not be successfully negotiated"
MAIL_I, MAIL_D = "Start MID 90 ICID 70", "Delivery start DCID 80 MID 90 to RID [0]"
CLOSE_I, CLOSE_D = "ICID 70 close", "DCID 80 close"
NOT_OFFERED = "DCID 80 STARTTLS command not supported"


def outcome_of(*texts: str, apart_s: int = 1) -> Record:
    """The record of connection 70 (in) or 80 (out) after these lines, one each second."""
    driver = Driver()
    for n, text in enumerate(texts):
        driver.feed(at(n * apart_s, text))
    driver.end()
    names_dcid = any("DCID 80" in text or "DCID: 80" in text for text in texts)
    return driver.connection(80, "dcid") if names_dcid else driver.connection(70)


def tls_of(*texts: str) -> Record:
    """Its `cisco_esa.tls`."""
    tls: Record = outcome_of(*texts)["cisco_esa"]["tls"]
    return tls


def brief(*texts: str) -> tuple[str, str]:
    """Outcome and evidence."""
    tls = tls_of(*texts)
    return tls["outcome"], tls["evidence"]


# ---- row 1: TLS success line


@pytest.mark.parametrize("texts", [(NEW_I, UP_I, CLOSE_I), (UP_I, CLOSE_I), (NEW_I, UP_I, MAIL_I, CLOSE_I)])
def test_3_1_row_1_success_on_an_icid(texts: tuple[str, ...]) -> None:
    """A success line makes the reception `success` by a line, beginning seen or not."""
    assert brief(*texts) == ("success", "line")


@pytest.mark.parametrize(
    "texts",
    [(NEW_D, UP_D, MAIL_D, CLOSE_D), (NEW_D, MAIL_D, UP_D, CLOSE_D), (MAIL_D, NEW_D, UP_D, CLOSE_D), (UP_D, NEW_D, MAIL_D, CLOSE_D)],
)
def test_3_1_row_1_success_on_a_dcid_in_any_order(texts: tuple[str, ...]) -> None:
    """On a DCID the order does not matter: a success line anywhere means that all mail on it went under TLS."""
    assert brief(*texts) == ("success", "line")


def test_3_1_row_1_success_covers_every_attempt_on_the_dcid() -> None:
    """Two messages on one DCID, the success line between them: both deliveries are under TLS."""
    driver = Driver().feed(at(0, MAIL_D, UP_D, "Delivery start DCID 80 MID 91 to RID [0]", CLOSE_D)).end()
    assert [driver.delivery(mid)["cisco_esa"]["tls"]["in_clear"] for mid in (90, 91)] == [False, False]


@pytest.mark.parametrize("earlier", [FAIL_I, REQUIRED_I])
def test_3_1_row_1_success_keeps_earlier_required_and_failure_facts(earlier: str) -> None:
    """Success after a failure is success; what was said before stays."""
    tls = tls_of(NEW_I, earlier, UP_I, MAIL_I, CLOSE_I)
    assert tls["outcome"] == "success"
    assert tls["failure"]["class"] == ("reset" if earlier is FAIL_I else "required_not_offered")
    assert tls.get("required") == (True if earlier is REQUIRED_I else None)
    assert "broken" not in tls


# ---- row 2: failed before mail and before success


@pytest.mark.parametrize(
    ("texts", "required"), [((NEW_I, FAIL_I, CLOSE_I), None), ((NEW_I, REQUIRED_I, CLOSE_I), True), ((FAIL_I, CLOSE_I), None)]
)
def test_3_1_row_2_failed_on_an_icid(texts: tuple[str, ...], required: bool | None) -> None:
    """A failure line before mail makes the reception `failed`, `required` if it says so."""
    record = outcome_of(*texts)
    tls = record["cisco_esa"]["tls"]
    assert (tls["outcome"], tls["evidence"], tls.get("required")) == ("failed", "line", required)
    assert record["event"]["outcome"] == "failure"


@pytest.mark.parametrize(("line", "required"), [(FAIL_D, None), (REQUIRED_D, True)])
def test_3_1_row_2_failed_on_a_dcid(line: str, required: bool | None) -> None:
    """The same outbound."""
    tls = tls_of(NEW_D, line, CLOSE_D)
    assert (tls["outcome"], tls["evidence"], tls.get("required")) == ("failed", "line", required)


# ---- row 3: the same after success


@pytest.mark.parametrize(
    "texts",
    [
        (NEW_I, UP_I, FAIL_I, CLOSE_I),
        (NEW_I, UP_I, MAIL_I, FAIL_I, CLOSE_I),
        (NEW_D, UP_D, FAIL_D, CLOSE_D),
        (NEW_D, UP_D, MAIL_D, FAIL_D, CLOSE_D),
    ],
)
def test_3_1_row_3_failed_after_success_stays_success_broken(texts: tuple[str, ...]) -> None:
    """A session that broke after it was up was up: `success`, `broken`, with the reason."""
    tls = tls_of(*texts)
    assert (tls["outcome"], tls["broken"]) == ("success", True)
    assert "reason" in tls["failure"]


# ---- row 4: the same after mail without success


@pytest.mark.parametrize("line", [FAIL_I, REQUIRED_I])
def test_3_1_row_4_failed_after_clear_mail_on_an_icid_keeps_the_outcome(line: str) -> None:
    """Mail came in clear before: the outcome stays `none`, the failure facts are filled, nothing was `broken`."""
    tls = tls_of(NEW_I, MAIL_I, line, CLOSE_I)
    assert (tls["outcome"], tls["evidence"]) == ("none", "absence")
    assert "class" in tls["failure"]
    assert "broken" not in tls


def test_3_1_row_4_failed_after_mail_of_unknown_beginning() -> None:
    """The same if the beginning was not seen: `unknown` stays."""
    assert brief(MAIL_I, FAIL_I, CLOSE_I) == ("unknown", "gap")


@pytest.mark.parametrize("texts", [(NEW_D, MAIL_D, FAIL_D, CLOSE_D), (MAIL_D, FAIL_D, CLOSE_D)])
def test_3_1_row_4_failed_after_mail_on_a_dcid_is_failed(texts: tuple[str, ...]) -> None:
    """Outbound the order does not matter: STARTTLS came before the mail."""
    assert brief(*texts) == ("failed", "line")


# ---- row 5: mail started, no TLS line


@pytest.mark.parametrize(("new", "mail", "close"), [(NEW_I, MAIL_I, CLOSE_I), (NEW_D, MAIL_D, CLOSE_D)])
def test_3_1_row_5_mail_without_a_tls_line(new: str, mail: str, close: str) -> None:
    """Mail and no TLS line: `none` if the beginning was seen, else `unknown`."""
    assert brief(new, mail, close) == ("none", "absence")
    assert brief(mail, close) == ("unknown", "gap")


def test_3_1_row_5_a_late_opening_line_is_no_beginning() -> None:
    """`New SMTP ICID` after mail was started does not show that nothing came before."""
    assert brief(MAIL_I, NEW_I, CLOSE_I) == ("unknown", "gap")
    assert outcome_of(MAIL_I, NEW_I, CLOSE_I)["cisco_esa"]["connection"]["start_seen"] is False


# ---- row 6: STARTTLS command not supported, then mail


@pytest.mark.parametrize(
    "texts", [(NEW_D, NOT_OFFERED, MAIL_D, CLOSE_D), (NOT_OFFERED, MAIL_D, CLOSE_D), (MAIL_D, NOT_OFFERED + ".", CLOSE_D)]
)
def test_3_1_row_6_starttls_not_supported_then_mail(texts: tuple[str, ...]) -> None:
    """The server did not offer it: `none` by a line, even with the beginning unseen."""
    tls = tls_of(*texts)
    assert (tls["outcome"], tls["evidence"], tls["failure"]["class"]) == ("none", "line", "starttls_not_offered")


# ---- row 7: ended cleanly with neither


@pytest.mark.parametrize(("new", "hat", "close"), [(NEW_I, "ICID 70 ACCEPT SG A match ALL SBRS None", CLOSE_I), (NEW_D, "", CLOSE_D)])
def test_3_1_row_7_clean_end_with_neither(new: str, hat: str, close: str) -> None:
    """`close` with neither TLS line nor mail: `none` if the beginning was seen, else `unknown`."""
    assert brief(*([new, hat, close] if hat else [new, close])) == ("none", "absence")
    assert brief(*([hat, close] if hat else [close])) == ("unknown", "gap")


# ---- row 8: every other end with neither


@pytest.mark.parametrize(
    ("ends", "end", "lost"),
    [
        (("ICID 70 lost",), "lost", True),
        (("ICID 70 lost", "ICID 70 close"), "close", True),
        (("SMTP server connection killed ICID: 70",), "killed", False),
        (("ICID 70 disconnected address 198.51.100.7, exceeded allowable connection time",), "disconnected", False),
        (("ICID 70 disconnected address 198.51.100.7, exceeded allowable connection time", "ICID 70 close"), "close", False),
        (("ICID 70 Receiving Failed: Connection limit exceeded", "ICID 70 close"), "close", False),
        (("ICID 70 Receiving Failed: Connection limit exceeded",), "error", False),
        (
            (
                (
                    "ICID 70 Connection from 198.51.100.7 on interface A (192.0.2.1) lost after 9 seconds (DNS query took 1 seconds), "
                    "before any commands were received"
                ),
            ),
            "lost",
            True,
        ),
        ((), "timeout", False),
    ],
)
def test_3_1_row_8_other_ends_are_unknown_for_good_in(ends: tuple[str, ...], end: str, lost: bool) -> None:
    """Lost, killed, disconnected, failed, timed out: `unknown`, although the beginning was seen."""
    driver = Driver().feed(at(0, NEW_I, *ends)).feed(at(290, "Status: CPULd 0"), at(580, "Status: CPULd 1"), at(870, "Status: CPULd 2"))
    driver.feed(at(1000, "Status: CPULd 3"))
    record = driver.connection(70)
    facts = record["cisco_esa"]["connection"]
    assert (record["cisco_esa"]["tls"], facts["end"], facts["lost"]) == ({"outcome": "unknown", "evidence": "gap"}, end, lost)
    assert "established" not in record.get("tls", {})


@pytest.mark.parametrize(
    ("last", "end"),
    [
        (
            (
                "Connection Error: DCID 80 domain: example.org IP: 203.0.113.25 port: 25 details: EOF interface: 192.0.2.1 "
                "reason: network error"
            ),
            "error",
        ),
        ("SMTP client connection killed DCID: 80", "killed"),
        ("Mail delivery client with DCID 80 exited due to the maximum concurrency configuration.", "killed"),
    ],
)
def test_3_1_row_8_other_ends_are_unknown_for_good_out(last: str, end: str) -> None:
    """The same outbound."""
    driver = Driver().feed(at(0, NEW_D, last), at(280, "Status: 1"), at(560, "Status: 2"), at(840, "Status: 3"), at(1000, "Status: 4"))
    record = driver.connection(80, "dcid")
    assert record["cisco_esa"]["tls"] == {"outcome": "unknown", "evidence": "gap"}
    assert record["cisco_esa"]["connection"]["end"] == end


def test_3_1_row_8_eviction_and_epoch_reset_are_no_clean_ends() -> None:
    """A connection that had to make room ends `unknown`."""
    driver = Driver(max_entries=2)
    for n in range(3):
        driver.feed(at(n, NEW_I.replace("ICID 70", f"ICID {70 + n}")))
    record = driver.connection(70)
    assert record["cisco_esa"]["tls"]["outcome"] == "unknown"
    assert record["cisco_esa"]["connection"]["end"] == "evicted"


# ---- the sentences under the table


def test_3_1_debug_tls_read_is_proof_of_success() -> None:
    """`TLS read n bytes` at Debug level proves TLS without a success line."""
    driver = Driver().feed(at(0, NEW_I), at(1, "MID 14 ICID 70 TLS read 126 bytes (0.0 seconds)", level="Debug"), at(2, MAIL_I, CLOSE_I))
    assert driver.connection(70)["cisco_esa"]["tls"] == {"outcome": "success", "evidence": "line"}


def test_3_1_debug_tls_read_proves_it_for_the_message_it_names() -> None:
    """Data of MID 90 came through TLS: what was concluded from absence at its start is corrected, and flagged."""
    driver = Driver().feed(at(0, NEW_I, MAIL_I), at(1, "MID 90 ICID 70 TLS read 126 bytes (0.0 seconds)", level="Debug"))
    driver.feed(at(2, "Message finished MID 90 done", CLOSE_I)).end()
    message = driver.message(90)["cisco_esa"]
    assert message["reception"]["tls"] == {"outcome": "success", "evidence": "line", "in_clear": False}
    assert message["flags"] == ["contradiction"]


def test_3_1_among_several_failures_the_required_line_wins() -> None:
    """A "required" line gives class and reason, whatever came before or after."""
    for texts in ((NEW_I, FAIL_I, REQUIRED_I, CLOSE_I), (NEW_I, REQUIRED_I, FAIL_I, CLOSE_I)):
        tls = tls_of(*texts)
        assert tls["failure"] == {"class": "required_not_offered", "reason": "TLS was required but remote host did not initiate it"}
        assert tls["required"] is True


def test_3_1_among_several_failures_the_first_wins() -> None:
    """Without one, the first failure line gives class and reason."""
    tls = tls_of(NEW_D, FAIL_D, "DCID 80 TLS failed: [Errno 54] Connection reset by peer", CLOSE_D)
    assert tls["failure"]["class"] == "starttls_unexpected_response"


def test_3_1_pending_leaves_only_on_lines() -> None:
    """No summary ever says `pending`."""
    driver = Driver(emit_immediately=True).feed(at(0, NEW_I, NEW_D, MAIL_D)).end()
    assert [line["cisco_esa"]["tls"]["outcome"] for line in driver.lines()] == ["pending", "pending", "none"]
    assert {record["cisco_esa"]["tls"]["outcome"] for record in driver.kind("connection")} == {"unknown", "none"}


def test_required_then_delay_on_a_starttls_less_server_is_failed() -> None:
    """Row 40: not offered, and required by policy: failed, no mail."""
    tls = tls_of(NEW_D, NOT_OFFERED, REQUIRED_D, CLOSE_D)
    assert (tls["outcome"], tls["required"], tls["failure"]["class"]) == ("failed", True, "required_not_offered")


def test_connection_record_says_both_ends_and_what_was_decided_about_it() -> None:
    """Peer, interface, HAT decision and messages of a reception."""
    driver = Driver().feed(at(0, NEW_I, "ICID 70 ACCEPT SG UNKNOWNLIST match sbrs[-1.0:10.0] SBRS 3.4 country United States", UP_I, MAIL_I))
    driver.feed(at(7, CLOSE_I)).seal()
    record = driver.connection(70)
    own = record["cisco_esa"]
    assert record["source"] == {"ip": "198.51.100.7", "domain": "mx.example.org"}
    assert record["destination"] == {"ip": "192.0.2.1"}
    assert record["observer"] == {"ingress": {"interface": {"name": "Data 1"}}}
    assert own["hat"] == {
        "policy": "ACCEPT",
        "sender_group": "UNKNOWNLIST",
        "rule": "sbrs[-1.0:10.0]",
        "sbrs": 3.4,
        "country": "United States",
    }
    assert own["mail_flow"] == "incoming"
    assert own["connection"] == {
        "id": "esa1/0/ICID/70",
        "end": "close",
        "lost": False,
        "start_seen": True,
        "message_count": 1,
        "mids": [90],
    }
    assert record["event"]["duration"] == 7_000_000_000
    assert record["tls"] == {"established": True, "version_protocol": "tls", "version": "1.2", "cipher": "TLS_RSA_WITH_AES_128_CBC_SHA"}
    assert record["related"] == {"ip": ["198.51.100.7", "192.0.2.1"], "hosts": ["mx.example.org"]}


def test_sender_group_none_is_no_sender_group() -> None:
    """`SG None` names the default entry, not a group of that name."""
    record = outcome_of(NEW_I, "ICID 70 ACCEPT SG None match ALL SBRS None", CLOSE_I)
    assert record["cisco_esa"]["hat"] == {"policy": "ACCEPT", "rule": "ALL"}


@pytest.mark.parametrize("policy", ["REJECT", "TCPREFUSE"])
def test_refused_mail_has_no_mail_flow(policy: str) -> None:
    """REJECT and TCPREFUSE have no mail flow."""
    assert "mail_flow" not in outcome_of(NEW_I, f"ICID 70 {policy} SG BLACKLIST match ALL SBRS -9.0", CLOSE_I)["cisco_esa"]


def test_all_open_deliveries_of_a_dcid_leave_when_it_ends() -> None:
    """Two messages wait for their Response when the DCID closes: both delivery records leave then."""
    driver = Driver().feed(at(0, NEW_D, UP_D, *(f"Delivery start DCID 80 MID {mid} to RID [0]" for mid in (90, 91, 92, 93))))
    driver.feed(at(1, CLOSE_D)).seal()
    assert [record["cisco_esa"]["mid"] for record in driver.kind("delivery")] == [90, 91, 92, 93]
