"""The 27 traps of docs/log-lines.md 8, judged on the records that come out."""

from __future__ import annotations

import pytest
from tests.unit.core.driver import T0, UDP, Driver, Record, at, iso, own, syslog

from esa_tls.core.batch import Origin

NEW = "New SMTP ICID 70 interface Data 1 (192.0.2.1) address 198.51.100.7 reverse dns host mx.example.org verified yes"
NEW_D = "New SMTP DCID 80 interface 192.0.2.1 address 203.0.113.25 port 25"
UP, UP_D = "ICID 70 TLS success", "DCID 80 TLS success"
START, FROM, TO = "Start MID 90 ICID 70", "MID 90 ICID 70 From: <a@example.com>", "MID 90 ICID 70 RID 0 To: <b@example.org>"
RECEIVED = (NEW, UP, START, FROM, TO, "MID 90 ready 100 bytes from <a@example.com>", "ICID 70 close")
OUT, DONE, ANSWER = "Delivery start DCID 80 MID 90 to RID [0]", "Message done DCID 80 MID 90 to RID [0]", "MID 90 RID [0] Response 'ok'"
FINISHED = "Message finished MID 90 done"


def fed(*texts: str | bytes, **settings: object) -> Driver:
    """Lines of a log, one each second, to its end; bytes stand as they are."""
    driver = Driver(**settings)  # type: ignore[arg-type]
    for n, text in enumerate(texts):
        driver.feed(at(n, text) if isinstance(text, str) else [text])
    return driver.end()


def summaries(driver: Driver) -> dict[str, int]:
    """How many summaries of each kind came out."""
    return {kind: len(driver.kind(kind)) for kind in ("connection", "delivery", "message")}


def test_trap_01_tls_success_before_new_smtp_dcid() -> None:
    """Any line that names a DCID makes it: the early TLS line is not lost."""
    driver = Driver().feed(at(0, *RECEIVED, UP_D, NEW_D, OUT, DONE, ANSWER, "DCID 80 close", FINISHED)).end()
    record = driver.connection(80, "dcid")
    assert own(record)["tls"]["outcome"] == "success"
    assert record["destination"] == {"ip": "203.0.113.25", "port": 25}
    assert own(driver.delivery(90))["tls"]["in_clear"] is False


def test_trap_02_udp_lines_of_one_second_in_any_order() -> None:
    """`queued for delivery` before `Start MID`, `REJECT SG` before `New SMTP ICID`: the same records as in order."""
    texts = [*RECEIVED, "MID 90 queued for delivery", NEW.replace("70", "71"), "ICID 71 REJECT SG B match ALL SBRS -9.0", "ICID 71 close"]

    def read(order: list[str]) -> list[Record]:
        found = Driver(now_s=T0 + 100).feed(syslog(0, *order), origin=UDP).end()
        assert own(found.line("MID 90 queued for delivery"))["connection"]["id"] == "esa1/0/ICID/70"
        return [{**record, "event": {}} for record in sorted(found.records, key=repr) if own(record)["record"] in ("connection", "message")]

    assert read(list(reversed(texts))) == read(texts) == read([texts[7], *texts[:7], texts[9], texts[8], texts[10]])


def test_trap_03_rewritten_and_generated_before_or_after_the_new_mids_lines() -> None:
    """And aborted after finished, verdict and Response after finished."""
    lines = ["MID 90 rewritten to MID 91 by antispam", "Start MID 91 ICID 0", "MID 91 antivirus negative"]
    for order in ([0, 1, 2], [1, 2, 0]):
        message = own(fed(*RECEIVED, *(lines[n] for n in order), FINISHED).message(91))
        assert (message["parent_mid"], message["reception"]["icid"]) == (90, 70)
    driver = Driver().feed(at(0, *RECEIVED, NEW_D, UP_D, OUT, DONE, FINISHED, ANSWER, "MID 90 antivirus negative")).feed(at(9, "Status: 1"))
    assert own(driver.message(90))["deliveries"][0]["response"] == "ok"
    driver = Driver().feed(at(0, *RECEIVED[:5], FINISHED, "Message aborted MID 90 Receiving aborted"), at(9, "Status: 1"))
    assert own(driver.message(90))["message"] == {"end": "aborted", "end_reason": "Receiving aborted"}
    assert own(driver.message(90))["posture"] == "undelivered"


def test_trap_04_message_done_twice_and_the_same_line_under_two_log_names() -> None:
    """One delivery is one delivery."""
    driver = fed(*RECEIVED, NEW_D, UP_D, OUT, DONE, DONE + " [('X-SBRS', 'None')]", ANSWER, FINISHED)
    assert len(driver.deliveries(90)) == len(own(driver.message(90))["deliveries"]) == 1
    driver = Driver(now_s=T0 + 100)
    for n, text in enumerate((*RECEIVED, NEW_D, UP_D, OUT, DONE, ANSWER, FINISHED)):
        for name in ("mail_logs", "audit"):
            driver.feed(syslog(n, text, name=name), origin=Origin(lossy=False))
    assert summaries(driver.end()) == {"connection": 2, "delivery": 1, "message": 1}


def test_trap_05_no_tls_line_is_clear_text_only_if_the_beginning_was_seen_and_nothing_was_lost() -> None:
    """Seen and orderly: `none` by absence; lossy: by lossy absence; beginning unseen: `unknown`."""
    assert own(fed(NEW, START, "ICID 70 close").connection(70))["tls"] == {"outcome": "none", "evidence": "absence"}
    lossy = Driver().feed(at(0, NEW, START, "ICID 70 close"), origin=UDP).end()
    assert own(lossy.connection(70))["tls"] == {"outcome": "none", "evidence": "absence_lossy"}
    assert own(fed(START, "ICID 70 close").connection(70))["tls"] == {"outcome": "unknown", "evidence": "gap"}


def test_trap_06_tls_failed_can_close_a_session_that_was_up() -> None:
    """The mail was received under TLS; the failure only broke the rest of the session."""
    driver = fed(*RECEIVED[:-1], "ICID 70 TLS failed: [Errno 54] Connection reset by peer", "ICID 70 close", FINISHED)
    assert own(driver.connection(70))["tls"]["outcome"] == "success"
    assert own(driver.connection(70))["tls"]["broken"] is True
    assert own(driver.message(90))["reception"]["tls"] == {"outcome": "success", "evidence": "line", "in_clear": False}


def test_trap_07_preferred_tls_failing_before_and_after_the_220() -> None:
    """Before it: the same DCID goes on in clear. After it: `Delayed`, and the next DCID is read for itself."""
    driver = fed(*RECEIVED, NEW_D, "DCID 80 TLS failed: STARTTLS unexpected response", OUT, DONE, ANSWER, FINISHED)
    tls = own(driver.delivery(90))["tls"]
    assert (tls["outcome"], tls["in_clear"], own(driver.message(90))["posture"]) == ("failed", True, "exposed")
    driver = fed(
        *(
            *RECEIVED,
            NEW_D,
            "DCID 80 TLS failed: [Errno 54] Connection reset by peer",
            "Delayed: DCID 80 MID 90 to RID 0 - 4.4.0 - x ('000', [])",
        ),
        *(NEW_D.replace("80", "81"), OUT.replace("80", "81"), DONE.replace("80", "81"), ANSWER, FINISHED),
    )
    first, second = driver.deliveries(90)
    assert (own(first)["delivery"]["result"], own(first)["tls"]["outcome"]) == ("tls_blocked", "failed")
    assert (own(second)["delivery"]["result"], own(second)["tls"]["outcome"]) == ("delivered", "none")


def test_trap_08_connection_error_alone_is_never_none() -> None:
    """TLS failing on the way out may show up only as a network error: `unknown`, without a message."""
    where = "domain: example.org IP: 203.0.113.25 port: 25"
    error = f"Connection Error: DCID 80 {where} details: [Errno 0] Error interface: 192.0.2.1 reason: network error"
    record = fed(NEW_D, error).connection(80, "dcid")
    assert own(record)["tls"] == {"outcome": "unknown", "evidence": "gap"}
    assert own(record)["connection"]["error"] == {"reason": "network error", "details": "[Errno 0] Error"}
    assert record["event"]["outcome"] == "unknown"


def test_trap_09_many_mids_on_one_dcid_and_many_dcids_for_one_mid() -> None:
    """The DCID's outcome holds for all of its mail; each RID has its own; a retry replaces the outcome, not the history."""
    driver = fed(NEW_D, UP_D, *(f"Delivery start DCID 80 MID {mid} to RID [0]" for mid in (90, 91, 92)), "DCID 80 close")
    assert [own(driver.delivery(mid))["tls"]["in_clear"] for mid in (90, 91, 92)] == [False] * 3
    driver = fed(
        *(*RECEIVED[:5], "MID 90 ICID 70 RID 1 To: <c@example.net>", NEW_D, UP_D, OUT, DONE, NEW_D.replace("80", "81")),
        *(
            "Delivery start DCID 81 MID 90 to RID [1]",
            "Delayed: DCID 81 MID 90 to RID 1 - 4.1.0 - x",
            NEW_D.replace("80", "82"),
            "DCID 82 TLS success",
        ),
        *("Delivery start DCID 82 MID 90 to RID [1]", "Message done DCID 82 MID 90 to RID [1]", FINISHED),
    )
    message = own(driver.message(90))
    assert [(item["result"], item["tls_outcome"]) for item in message["recipients"]] == [("delivered", "success")] * 2
    assert [(item["result"], item["tls"]["outcome"]) for item in message["deliveries"]] == [
        ("delivered", "success"),
        ("delayed", "none"),
        ("delivered", "success"),
    ]
    assert message["posture"] == "encrypted"


def test_trap_10_done_is_not_delivered() -> None:
    """`Message finished MID 90 done` after a drop, a bounce, nothing at all."""
    assert own(fed(*RECEIVED, FINISHED).message(90))["recipients"][0]["result"] == "pending"
    bounced = fed(*RECEIVED, NEW_D, UP_D, OUT, "Bounced: DCID 80 MID 90 to RID 0 - 5.1.0 - x ('550', ['y']) []", FINISHED)
    assert own(bounced.message(90))["posture"] == "undelivered"
    dropped = fed(*RECEIVED, "MID 90 was dropped by content filter 'x' in the inbound table", FINISHED)
    assert own(dropped.message(90))["recipients"][0]["result"] == "dropped"


@pytest.mark.parametrize(
    "line",
    [
        "SMTP Auth (ICID 70) was required but remote host did not initiate it",
        "SMTP Auth: (ICID 70) succeeded for user: TLS success using AUTH mechanism: LOGIN with profile: ldap1",
        "TLS connection failed because of an unsupported protocol issue. Alert message is sent in plain text to user1@esa.com",
        "SSL error with client 209.141.51.176:37222 - (336027804, 'error:1407609C:SSL routines:SSL23_GET_CLIENT_HELLO:http request')",
        "Internal SMTP Error: Failed to send message to host 68.232.146.108:25 for recipient abc@gmail.com: DCID 80 TLS failed",
    ],
)
def test_trap_11_the_reused_words(line: str) -> None:
    """AUTH that was required, other logs' TLS errors, the box's own mail: no connection is `failed` for them."""
    driver = fed(NEW, line, START, "ICID 70 close")
    assert own(driver.connection(70))["tls"] == {"outcome": "none", "evidence": "absence"}
    assert [own(record).get("icid") for record in driver.kind("connection")] == [70]


def test_trap_12_where_ids_stand() -> None:
    """`CrtMID 9`, `MID 9:`, `MID: 9 RID: 0`, `DCID: 80`, `Message 90 to [0]`: the right id or none."""
    driver = fed(
        *("Start MID 9 ICID 0", "Start MID 90 ICID 0", "Status: CPULd 3 CrtMID 9 CrtICID 70 CrtDCID 80", "MID 9: Skip AMP Engine check"),
        *("Global unsubscribe matched entry @x.net MID: 9 RID: 0 Address: a@x.net", "Possible Delivery: DCID: 80 MID 90 to [0]"),
        "Message 90 to [0] pending till Tue Apr 27 13:05:17 2004 [Default]",
    )
    assert "mid" not in own(driver.lines()[2])
    assert [own(record).get("mid") for record in driver.lines()[3:]] == [9, 9, 90, 90]
    assert own(driver.message(9))["recipients"][0]["result"] == "dropped"
    assert own(driver.delivery(90))["dcid"] == 80
    assert own(driver.lines()[6])["dcid"] == 80
    assert summaries(driver)["connection"] == 1


def test_trap_13_missing_close_start_and_beginning() -> None:
    """A connection without `close` times out, a message without `Start MID` is tied by its From or To line, a log may begin anywhere."""
    driver = Driver().feed(at(0, NEW, UP, FROM, TO), *(at(n, f"Status: {n}") for n in (290, 580, 870, 1000)))
    assert own(driver.connection(70))["connection"]["end"] == "timeout"
    message = own(driver.end().message(90))
    assert message["reception"]["connection_id"] == "esa1/0/ICID/70"
    assert message["reception"]["tls"]["outcome"] == "success"
    headless = own(fed(TO, DONE, FINISHED).message(90))
    assert headless["reception"]["tls"] == {"outcome": "unknown", "evidence": "gap"}
    assert headless["posture"] == "unknown"


def test_trap_14_ids_used_again() -> None:
    """A reset makes another epoch; a single low id does not."""
    driver = Driver().feed(at(0, NEW.replace("ICID 70", "ICID 5000"), NEW, "ICID 70 close"))
    driver.feed(at(1, *(NEW.replace("ICID 70", f"ICID {n}") for n in range(50, 71)), UP, "ICID 70 close")).end()
    assert [own(record)["epoch"] for record in driver.kind("connection") if own(record)["icid"] == 70] == [0, 1]
    assert own(fed(NEW.replace("ICID 70", "ICID 5000"), NEW).connection(70))["epoch"] == 0


@pytest.mark.parametrize(
    ("line", "tls", "ecs"),
    [
        ("DCID 80 TLS success protocol TLSv1/SSLv3 cipher DHE-RSA-AES256-SHA", ("TLSv1/SSLv3", "DHE-RSA-AES256-SHA"), None),
        ("DCID 80 TLS success protocol TLSv1.3 cipher TLS_AES_256_GCM_SHA384", ("TLSv1.3", "TLS_AES_256_GCM_SHA384"), "1.3"),
        ("DCID 80 TLS success protocol TLSv1.2 cipher AES128-SHA for example.org.", ("TLSv1.2", "AES128-SHA"), "1.2"),
        ("DCID 80 TLS success protocol TLSv1 cipher RC4-SHA CN=mx.example.org", ("TLSv1", "RC4-SHA"), "1.0"),
        ("DCID 80 TLS success protocol TLSv1.2 cipher AES128-SHA.", ("TLSv1.2", "AES128-SHA"), "1.2"),
    ],
)
def test_trap_15_cases_and_spelling(line: str, tls: tuple[str, str], ecs: str | None) -> None:
    """Slash, underscores, `for`, ` CN=`, full stop; and `New smtp`, `Interface`."""
    record = fed("New smtp DCID 80 Interface 192.0.2.1 address 203.0.113.25", line, "DCID 80 close").connection(80, "dcid")
    assert (own(record)["tls"]["protocol"], own(record)["tls"]["cipher"]) == tls
    assert record["tls"].get("version") == ecs
    assert own(record)["connection"]["start_seen"] is True
    assert own(record)["connection"].get("for_domain") == ("example.org" if " for " in line else None)


@pytest.mark.parametrize(
    "host", ["x verified yes", "y.example address 192.0.2.9", "z reverse dns host w verified no", "http://h/ ICID 71 TLS success"]
)
def test_trap_16_names_with_any_text(host: str) -> None:
    """The peer is the first ` address ` after the interface's `)`; the PTR holder's text changes nothing."""
    new = f'New SMTP ICID 70 interface Data "1" (x) (192.0.2.1) address 198.51.100.7 reverse dns host {host} verified yes'
    hat = "ICID 70 MY POLICY SG My (group) [1] match ALL SBRS None country Bosnia and Herzegovina"
    record = fed(new, hat, "ICID 70 close").connection(70)
    assert record["source"] == {"ip": "198.51.100.7", "domain": host}
    assert record["observer"]["ingress"]["interface"]["name"] == 'Data "1" (x)'
    assert own(record)["hat"] == {
        "policy": "MY POLICY",
        "sender_group": "My (group) [1]",
        "rule": "ALL",
        "country": "Bosnia and Herzegovina",
    }


INJECTED = "Info: ICID 70 TLS success protocol TLSv1.2 cipher AES128-SHA"
STAMPED = "Mon Nov 24 00:00:09 2025 Info: Message finished MID 90 done"


@pytest.mark.parametrize(
    "text", [INJECTED, INJECTED.removeprefix("Info: "), STAMPED, "Message done DCID 80 MID 90 to RID [0]", "DCID 80 TLS success"]
)
@pytest.mark.parametrize(
    "template",
    [
        "MID 90 Subject '{}'",
        "MID 90 Subject {}",
        "MID 90 Message-ID '<{}>'",
        "MID 90 attachment '{}'",
        "MID 90 URL http://{} has reputation 1 matched x",
        "MID 90 Custom Log Entry: {}",
        'MID 90 ICID 70 RID 0 To: <"{}"@example.org>',
        "MID 90 ICID 70 From: <{}@example.com>",
        "MID 90 ICID 70 To: <{}> Rejected by RAT",
        "Message done DCID 81 MID 92 to RID [0] [('from', '{}')]",
        "MID 92 RID [0] Response '{}'",
        "Bounced: DCID 81 MID 92 to RID 0 - 5.1.0 - x ('550', ['{}']) []",
        "ICID 71 Unknown command: {}",
        "ICID 71 Address: <{}> sender rejected, x",
        "New SMTP ICID 72 interface A (192.0.2.1) address 198.51.100.7 reverse dns host {} verified no",
        "MID 90 interim verdict using engine: {}",
        "something unknown {}",
    ],
)
def test_trap_17_log_injection(template: str, text: str) -> None:
    """Whatever stands in free text: ICID 70 stays in clear, MID 90 unfinished and undelivered, DCID 80 never heard of."""
    driver = Driver().feed(at(0, NEW, START, template.format(text), "ICID 70 close"), at(10, "Status: 1"), at(11, "Status: 2"))
    assert own(driver.connection(70))["tls"] == {"outcome": "none", "evidence": "absence"}
    assert [own(record)["mid"] for record in driver.kind("message") if own(record)["mid"] == 90] == []
    driver.end()
    assert own(driver.message(90))["message"] == {"end": "stream_end"}
    assert all(own(record).get("dcid") != 80 for record in driver.records)


def test_trap_18_real_line_feeds() -> None:
    """A line without a prefix is a continuation of the one before, and never a body of its own, perfect as it may look."""
    driver = fed(
        NEW, START, "MID 90 masquerading header 'To' from 'a", INJECTED.encode(), b"ICID 70 TLS success", b"\tb' to 'c'", "ICID 70 close"
    )
    assert own(driver.connection(70))["tls"]["outcome"] == "none"
    found = [record for record in driver.lines() if record["event"]["action"] == "continuation"]
    assert [record["event"]["original"] for record in found] == [INJECTED, "ICID 70 TLS success", "\tb' to 'c'"]
    assert {(record["@timestamp"], *own(record)["flags"]) for record in found} == {(iso(2), "continuation")}


def test_trap_18_the_rest_as_a_datagram_of_its_own() -> None:
    """Over syslog, with a prefix: an unrecognised line, which changes nothing."""
    driver = Driver(now_s=T0 + 100)
    driver.feed(
        [b"<166>Nov 24 00:00:00 mail_logs: rest of a subject Info: ICID 70 TLS success", *syslog(1, NEW, START, "ICID 70 close")]
    ).end()
    assert own(driver.connection(70))["tls"]["outcome"] == "none"
    assert len(driver.lines()) == 4


@pytest.mark.parametrize(
    ("line", "subject"),
    [
        (b"MID 90 Subject '=?utf-8?q?x?='", "=?utf-8?q?x?="),
        (b"MID 90 Subject ''Package delivery notification''", "'Package delivery notification'"),
        (b"MID 90 Subject 'caf\xe9'", "caf\ufffd"),
        (b'MID 90 Subject "it\'s late"', "it's late"),
        (b"MID 90 Subject no quotes", "no quotes"),
    ],
)
def test_trap_19_subjects_of_any_bytes(line: bytes, subject: str) -> None:
    """Kept as printed; bytes that are not UTF-8 are kept beside it."""
    raw = at(1, "")[0] + line
    driver = Driver().feed(at(0, "Start MID 90 ICID 0"), raw, at(2, FINISHED)).end()
    assert driver.message(90)["email"]["subject"] == subject
    record = driver.lines()[1]
    assert ("raw_base64" in own(record)) == (b"\xe9" in line)
    assert record["event"]["original"] == raw.decode("utf-8", "replace")


def test_trap_20_recipients() -> None:
    """Quotes, blanks, `>` and `,` in the local part, empty, without brackets, SMTPUTF8; for a rejected one the last `> Rejected by `."""
    addresses = ['"a> b"@example.org', '"a, Rejected by RAT"@example.org', "zoë@exämple.org", "plain@example.org", ""]
    lines = [f"MID 90 ICID 70 RID {n} To: <{address}>" for n, address in enumerate(addresses)]
    lines[3] = lines[3].replace("<", "").replace(">", "")
    driver = fed(NEW, START, *lines, 'MID 90 ICID 70 To: <"x> Rejected by y"@example.org> Rejected by LDAPACCEPT', FINISHED)
    found = own(driver.message(90))["recipients"]
    assert [item.get("address") for item in found] == [*addresses[:4], None]
    assert [item.get("domain") for item in found] == ["example.org", "example.org", "exämple.org", "example.org", None]
    assert driver.lines()[-2]["email"]["to"]["address"] == ['"x> Rejected by y"@example.org']


def test_trap_21_truncation() -> None:
    """A cut cipher is success with a doubtful cipher; a cut RID list is not the full list; a cut header list does not matter."""
    record = fed(NEW_D, "DCID 80 TLS success protocol TLSv1.2 cipher ECDHE-RSA-AES2", "DCID 80 close").connection(80, "dcid")
    assert (own(record)["tls"]["outcome"], own(record)["tls"]["cipher"]) == ("success", "ECDHE-RSA-AES2")
    assert "cipher" not in record["tls"]
    driver = fed(*RECEIVED, NEW_D, UP_D, OUT, "Message done DCID 80 MID 90 to RID [0, 1, 2", DONE + " [('from', 'x", FINISHED)
    assert own(driver.lines()[10])["flags"] == ["truncated"]
    assert [item["rid"] for item in own(driver.message(90))["recipients"]] == [0]
    assert own(driver.message(90))["recipients"][0]["result"] == "delivered"


def test_trap_22_rid_lists() -> None:
    """`[0]`, `[0, 1]`, huge numbers."""
    driver = fed(
        *("Start MID 90 ICID 0", NEW_D, UP_D, "Delivery start DCID 80 MID 90 to RID [0, 1]", "Message done DCID 80 MID 90 to RID [0, 1]"),
        *(
            "Delivery start DCID 80 MID 90 to RID [712290]",
            "Message 90 to RID [712290] pending till Mon Aug 10 09:56:56 2020",
            "DCID 80 close",
        ),
    )
    assert [own(record)["rids"] for record in driver.deliveries(90)] == [[0, 1], [712290]]


def test_trap_23_order_by_arrival_not_by_stamp() -> None:
    """A line an hour ahead between two others, a clock set back: nothing times out, nothing is taken for later than it came."""
    texts = [
        (24, START.replace("70", "37")),
        (3624, "MID 90 ICID 37 From: <user01@example.local>"),
        (34, "MID 90 ICID 37 RID 0 To: <b@example.local>"),
    ]
    driver = Driver(late_batches=False).feed(*(at(second, text) for second, text in texts)).end()
    message = own(driver.message(90))
    assert message["envelope"] == {"from": "user01@example.local", "to": ["b@example.local"]}
    assert own(driver.lines()[1])["flags"] == ["bad_time"]
    back = Driver(late_batches=False).feed(at(100, NEW, UP), at(40, START), at(41, "ICID 70 close")).end()
    assert own(back.message(90))["reception"]["tls"] == {"outcome": "success", "evidence": "line", "in_clear": False}


def test_trap_23_a_second_stamp_in_the_line() -> None:
    """`pending till` holds one, and it is not the line's."""
    driver = fed(
        *RECEIVED,
        NEW_D,
        UP_D,
        OUT,
        "Delayed: DCID 80 MID 90 to RID 0 - 4.1.0 - x",
        "MID 90 to RID [0] pending till Mon Nov 24 09:56:56 2025",
        "Status: 1",
    )
    assert driver.lines()[-2]["@timestamp"] == iso(11)
    assert own(driver.delivery(90))["delivery"]["retry_at"] == "Mon Nov 24 09:56:56 2025"


def test_trap_24_blank_runs() -> None:
    """`match  SBRS`, `host  mx`, `Sep  6`; blanks of a subject are kept."""
    lines = [
        b"Sat Sep  6 10:00:00 2025 Info: New SMTP ICID 70 interface A (192.0.2.1) address 192.0.2.7 reverse dns host  m.test verified no",
        b"Sat Sep 6 10:00:00 2025 Info: ICID 70 ACCEPT SG None match  SBRS unable to retrieve",
        b"Sat Sep  6 10:00:01 2025 Info: Start MID 90 ICID 70",
        b"Sat Sep  6 10:00:01 2025 Info: MID 90 Subject 'two  blanks'",
    ]
    driver = Driver().feed(lines).end()
    record = driver.connection(70)
    assert record["source"]["domain"] == "m.test"
    assert own(record)["hat"] == {"policy": "ACCEPT"}
    assert record["event"]["start"] == "2025-09-06T10:00:00Z"
    assert driver.message(90)["email"]["subject"] == "two  blanks"


def test_trap_25_masked_data_counts() -> None:
    """An address that does not parse is kept as text; a masked id is none, but the line is there."""
    new = "New SMTP ICID 70 interface Management (*.*.*.*) address *.*.*.* reverse dns host unknown verified no"
    driver = fed(new, START, "MID 90 ICID 70 From: <******@example.com>", "DCID xxxxxx STARTTLS command not supported.", "ICID 70 close")
    record = driver.connection(70)
    assert record["source"] == record["destination"] == {"address": "*.*.*.*"}
    assert "related" not in record
    assert own(driver.message(90))["envelope"] == {"from": "******@example.com"}
    assert driver.lines()[3]["event"]["action"] == "unrecognised"
    assert summaries(driver) == {"connection": 1, "delivery": 0, "message": 1}


@pytest.mark.parametrize(
    "line",
    [
        "DCID 80 STARTTLS",
        "ICID 70 from 203.0.113.10",
        "DCID 80 TLS",
        "ICID 70 STARTTLS",
    ],
)
def test_trap_26_made_up_samples_change_nothing(line: str) -> None:
    """Lines no appliance was seen to print: recorded, and no TLS outcome comes of them."""
    driver = fed(NEW, NEW_D, line, START, OUT, "ICID 70 close", "DCID 80 close")
    assert own(driver.connection(70))["tls"] == own(driver.connection(80, "dcid"))["tls"] == {"outcome": "none", "evidence": "absence"}
    assert driver.lines()[2]["event"]["action"] == "unrecognised"


def test_trap_27_direction_words() -> None:
    """An ICID under RELAY is an inbound connection with outgoing mail; TLS "in" of a CEF line is the ICID's, also for outgoing mail."""
    driver = fed(*RECEIVED[:2], "ICID 70 RELAY SG RELAYLIST match 192.0.2.0/24 SBRS not enabled", START, "ICID 70 close")
    record = driver.connection(70)
    assert (own(record)["direction"], own(record)["mail_flow"], record["network"]["direction"]) == ("inbound", "outgoing", "ingress")
    assert own(driver.message(90))["mail_flow"] == "outgoing"
    cef = (
        "CEF:0|Cisco|C100V|15.0|ESA_CONSOLIDATED_LOG_EVENT|Consolidated Log Event|5|ESAMID=9 ESAICID=7 deviceDirection=1 act=DELIVERED "
        "ESATLSInConnStatus=Success ESATLSInProtocol=TLSv1.2 ESATLSInCipher=AES128-SHA"
    )
    (event,) = Driver().feed(f"Mon Nov 24 00:00:00 2025 {cef}".encode()).end().kind("consolidated")
    assert own(event)["mail_flow"] == "outgoing"
    assert own(event)["reception"]["tls"]["outcome"] == "success"
    assert own(event)["delivery_tls"] == {"outcome": "unknown", "evidence": "gap"}
