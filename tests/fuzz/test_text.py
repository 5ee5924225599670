"""`make fuzz`: text of log lines. It is parsed or left alone, nothing is invented, and every line becomes a record."""

from __future__ import annotations

import re
from collections.abc import Hashable

import pytest
from tests.fuzz.mutation import corpus_lines, fuzz
from tests.unit.core.driver import UDP, Driver, syslog
from tests.unit.core.grammar_rows import ROWS

from esa_tls.core.cef import parse_cef
from esa_tls.core.grammar import parse, shape_of
from esa_tls.core.line import frame
from esa_tls.wire.privacy import Privacy
from esa_tls.wire.privacy_lines import line_pieces
from esa_tls.wire.pseudonyms import PSEUDONYM, Pseudonyms

pytestmark = pytest.mark.fuzz

BODIES = [body.encode() for _, body, _ in ROWS]
WORDS = sorted({word for body in BODIES for word in body.split()})
LINES = corpus_lines()
CEF_LINES = [line[line.index(b"CEF:") :] for line in LINES if b"CEF:0|" in line]


def test_grammar() -> None:
    """Any body is a fact: ids and RIDs stand in it as printed, no value is None or empty, and a subject says nothing but a subject."""

    def target(data: bytes) -> Hashable:
        body = data.decode("utf-8", "replace")
        fact = parse(body)
        for number in (fact.icid, fact.dcid, fact.mid, *(fact.rids or ())):
            assert number is None or (0 <= number < 1 << 63 and str(number) in body)
        for value in (fact.values or {}).values():
            assert value is not None
            assert value != ""
        assert len(shape_of(body)) <= 120
        inside = parse(f"MID 9 Subject '{body}'")
        assert (inside.action, inside.mid, inside.icid, inside.dcid, inside.rids) == ("subject", 9, None, None, None)
        return fact.action, fact.icid is None, fact.dcid is None, fact.mid is None, fact.rids is None, *sorted(fact.values or ())

    fuzz(target, BODIES, words=WORDS)


def test_framing() -> None:
    """A prefix is read from the line's head alone, and its end lies in the line."""

    def target(data: bytes) -> Hashable:
        text = data.decode("utf-8", "replace")
        found = frame(text)
        if found is None:
            return None
        assert 0 <= found.length <= len(text)
        assert found.cef == text[found.length :].startswith("CEF:") or found.level is not None
        if found.length and text[found.length - 1] == " " and not found.cef:
            assert frame(text[: found.length] + "Info: ICID 9 TLS success") == found, "what follows the prefix changes it"
        stamps = (found.year, found.month, found.utc_offset_s, found.host, found.log_name, found.appname, found.priority)
        return found.level, found.syslog, found.cef, *(one is None for one in stamps)

    fuzz(
        target,
        LINES,
        words=[b"Info: ", b"<166>", b"Nov 24 14:22:57 ", b"2025-11-24T14:22:57.123+00:00 ", b"esa1 ", b"mail_logs: ", b"CEF:0|", b"1 "],
    )


def test_cef() -> None:
    """A consolidated event is read or refused, all that can be asked of it can be answered, and a quoted subject gives no TLS outcome."""

    def target(data: bytes) -> Hashable:
        text = data.decode("utf-8", "replace")
        subject = text.replace("'", "").replace("\\", "")  # neither ends the quotes
        quiet = parse_cef(f"CEF:0|Cisco|C|14|ESA_CONSOLIDATED_LOG_EVENT|x|5|ESAMID=7 msg='{subject}' act=DELIVERED")
        assert quiet is None or (quiet.tls_in is None and quiet.tls_out is None and quiet.mid == 7)
        event = parse_cef(text)
        if event is None:
            return None
        asked = (event.mid, event.icid, event.dcid, event.action, event.tls_in, event.tls_out, event.mail_flow, event.source_address)
        more = (event.source_host, event.started, event.ended, event.subject, event.message_id, event.sender)
        assert "" not in more
        return *(one is None for one in asked + more), min(len(event.recipients), 3)

    fuzz(target, CEF_LINES, words=[b" ESATLSInConnStatus=Success", b" msg='", b" act=", b"\\=", b" ESAMID=", b" duser=a;b", b"|"])


def test_pseudonyms() -> None:
    """Any line under pseudonyms reads back as it was, no mail address is left in it, and how long it takes goes with its length."""
    pseudonyms = Pseudonyms({1: bytes(32)})
    privacies = [Privacy(pseudonyms), Privacy(pseudonyms, keep_domains=False), Privacy(pseudonyms, classes=["addresses"])]

    def target(data: bytes) -> Hashable:
        text = data.decode("utf-8", "replace")
        framing = frame(text)
        body = "" if framing is None else text[framing.length :]
        action = "continuation" if framing is None else "consolidated-event" if framing.cef else parse(body).action
        for number, privacy in enumerate(privacies):
            left = privacy.line(text, action, "esa1")
            revealed, unread = pseudonyms.reveal(left)
            assert unread == 0
            assert revealed == text if number != 1 else revealed.lower() == text.lower()
            assert not re.search(r"[^\s<>()\[\]{},;:\"'|@]@[\w\[]", PSEUDONYM.sub(" ", left)), left
        return action, line_pieces(action, body) is None, len(line_pieces(action, body) or ())

    fuzz(
        target,
        LINES + [b"Info: " + body for body in BODIES],
        words=[*WORDS, b"a@b.example", b"<a@b>", b"192.0.2.1", b"p1.", b"@", b'"a b"@c'],
    )


def test_core() -> None:
    """A log of any lines from a lossy source: as many records as lines, ids that stay the same over a restart, `absence` never."""
    start = syslog(0, "New SMTP ICID 70 interface Data 1 (192.0.2.1) address 198.51.100.7 reverse dns host mx.example.org verified yes")
    known = [*start, *syslog(1, "ICID 70 TLS success protocol TLSv1.2 cipher AES128-SHA", "Start MID 90 ICID 70", "ICID 70 close")]

    def ids(lines: list[bytes], *, restart: bool) -> dict[str, str]:
        driver = Driver()
        for n in range(0, len(lines), 3):
            driver.feed(lines[n : n + 3], origin=UDP)
            if restart:
                driver.restart()
        driver.end()
        found = [record for record in driver.records if record["cisco_esa"]["record"] == "line"]
        assert len(found) == len(lines)
        assert sorted(record["event"]["original"] for record in found) == sorted(line.decode("utf-8", "replace") for line in lines)
        assert not any(record["cisco_esa"].get("tls", {}).get("evidence") == "absence" for record in driver.records)
        return {record["event"]["id"]: record["event"]["action"] for record in driver.records}

    def target(data: bytes) -> Hashable:
        lines = data.split(b"\n")
        found = ids(lines, restart=False)
        assert found == ids(lines, restart=True)
        return tuple(sorted(set(found.values())))

    seeds = [b"\n".join(known), *(b"\n".join(LINES[n : n + 12]) for n in range(0, len(LINES), 12))]
    fuzz(target, seeds, words=[*WORDS, b"\n", *(b"\n" + line for line in known)])
