"""docs/correlation.md 3.7: when a record leaves, once, and what comes later."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.core.driver import Driver, Record, at, iso, own, syslog, triple

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


def test_3_7_a_bounce_without_delivery_start_on_an_undecided_dcid() -> None:
    """Its delivery record says `unknown`, never `pending`; the connection is decided later, for itself."""
    driver = Driver().feed(at(0, NEW_D, "Bounced: DCID 80 MID 90 to RID 0 - 5.1.0 - x"), at(5, "Status: 1"))
    assert own(driver.delivery(90))["tls"] == {"outcome": "unknown", "evidence": "gap"}
    driver.feed(at(6, UP_D, "DCID 80 close"))
    assert own(driver.connection(80, "dcid"))["tls"]["outcome"] == "success"


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
