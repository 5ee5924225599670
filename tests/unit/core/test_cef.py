"""The consolidated event log: docs/log-lines.md 7."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_tls.core.cef import KEYS, CefTls, parse_cef
from esa_tls.core.line import frame

HEADER = "CEF:0|Cisco|C100V Email Security Virtual Appliance|13.0.0-283|ESA_CONSOLIDATED_LOG_EVENT|Consolidated Log Event|5|"
TLS = "ESATLSInConnStatus=Failure ESATLSInProtocol=TLSv1.2 ESATLSInCipher=AES128-SHA"

# Published sample of a log integration's tests (a quarantined message), shortened in its dicts only where they repeat.
SAMPLE = (
    "cs6Label= SDRRepScore cs6=Tainted  deviceExternalId=42157574DD75FA3BD343-C964FC856529 ESAMID=1437 "
    "startTime=Sun Aug 25 12:35:39 2019 deviceInboundInterface=Inbound ESADMARCVerdict=Skipped dvc=10.10.4.8 "
    "ESAAttachmentDetails={'MSOLE2msword.docx':   {'AMP': {'Verdict': 'FILE UNKNOWN', 'fileHash': '917a35'},  'BodyScanner': {}}} "
    "ESAFriendlyFrom=demo@test.com deviceDirection=0 ESAMailFlowPolicy=ACCEPT suser=demo@tester.com cs1Label=MailPolicy cs1=default "
    "act=QUARANTINED ESAFinalActionDetails=To POLICY cs4Label=ExternalMsgID cs4='<20190729@vm21esa0075.cs21>' duser=a@test.com;b@test.com "
    "ESAHeloIP=10.10.4.8  cfp1Label=SBRSScore, cfp1=1.1 ESASDRDomainAge=23 years 19 days cs3Label=SDRThreatCategory cs3=mal "
    "ESASPFVerdict=Fail sourceHostName=demo.cisco.com ESASenderGroup=UNKNOWNLIST sourceAddress=10.10.4.8 ESAICID=190746 "
    "msg=This is a sample subject cs2Label=GeoLocation cs2=India ESAHeloDomain=test.com ESATLSOutConnStatus=Success "
    f"ESATLSOutProtocol=TLSv1.3 ESATLSOutCipher=TLS_AES_256_GCM_SHA384 {TLS} ESADKIMVerdict=Pass ESAReplyTo=demo@test.com "
    "ESAASVerdict=NOT EVALUATED ESAURLDetails={url1:{expanded_url:<>, category:<>,},url2:{…}} "
    "ESAMARAction= {action:<>;succesful_rcpts=<>;filename=<>} Message Filters Verdict=NOT EVALUATED ESADCID=199 "
    "EndTime=Mon Jul 29 09:55:07 2019 ESADaneStatus=success ESADaneHost=testdomain.com"
)


def fields(extension: str) -> dict[str, str]:
    """The fields of an extension."""
    cef = parse_cef(HEADER + extension)
    assert cef is not None
    return cef.fields


def test_the_published_sample_is_read_whole() -> None:
    """Header, every field, and the typed accessors of a real-looking event."""
    cef = parse_cef(HEADER + SAMPLE)
    assert cef is not None
    assert (cef.vendor, cef.product, cef.version) == ("Cisco", "C100V Email Security Virtual Appliance", "13.0.0-283")
    assert (cef.event_class, cef.name, cef.severity) == ("ESA_CONSOLIDATED_LOG_EVENT", "Consolidated Log Event", "5")
    assert (cef.mid, cef.icid, cef.dcid, cef.action, cef.mail_flow) == (1437, 190746, 199, "QUARANTINED", "incoming")
    assert cef.tls_in == CefTls("Failure", "TLSv1.2", "AES128-SHA")
    assert cef.tls_out == CefTls("Success", "TLSv1.3", "TLS_AES_256_GCM_SHA384")
    assert (cef.sender, cef.recipients) == ("demo@tester.com", ("a@test.com", "b@test.com"))
    assert (cef.subject, cef.message_id) == ("This is a sample subject", "20190729@vm21esa0075.cs21")
    assert (cef.source_address, cef.source_host) == ("10.10.4.8", "demo.cisco.com")
    assert (cef.started, cef.ended) == ("Sun Aug 25 12:35:39 2019", "Mon Jul 29 09:55:07 2019")
    assert cef.fields["ESASDRDomainAge"] == "23 years 19 days"
    assert cef.fields["cs6Label"] == "SDRRepScore"
    assert cef.fields["Message Filters Verdict"] == "NOT EVALUATED"
    assert cef.fields["ESAMARAction"] == "{action:<>;succesful_rcpts=<>;filename=<>}"
    assert len(cef.fields) == SAMPLE.count("=") - 2  # two are inside ESAMARAction


def test_every_order_gives_the_same_fields() -> None:
    """The administrator picks the order: rotating the fields changes nothing."""
    pairs = [(key, value) for key, value in fields(SAMPLE).items() if key not in {"msg", "cs4"}]
    for turn in range(len(pairs)):
        turned = pairs[turn:] + pairs[:turn]
        assert fields(" ".join(f"{key}={value}" for key, value in turned)) == dict(pairs)


def test_fields_of_15_0() -> None:
    """Newer releases renamed four fields."""
    cef = parse_cef(HEADER + "start=Mon Aug 10 09:26:47 2020 end=Mon Aug 10 09:26:50 2020 src=192.0.2.1 shost=unknown deviceDirection=1")
    assert cef is not None
    assert (cef.started, cef.ended) == ("Mon Aug 10 09:26:47 2020", "Mon Aug 10 09:26:50 2020")
    assert (cef.source_address, cef.source_host, cef.mail_flow) == ("192.0.2.1", None, "outgoing")


def test_absent_stays_absent() -> None:
    """A field that is not there, or empty, is not there: no `none` is made of it."""
    cef = parse_cef(HEADER + "ESAMID=7 act=ABORTED cs1= msg='' ESATLSOutConnStatus=")
    assert cef is not None
    assert cef.fields == {"ESAMID": "7", "act": "ABORTED"}
    assert (cef.icid, cef.dcid, cef.tls_in, cef.tls_out, cef.mail_flow, cef.subject, cef.recipients) == (
        None,
        None,
        None,
        None,
        None,
        None,
        (),
    )


@pytest.mark.parametrize("value", ["12345678901234567890", "-1", "1 2", "٣", "x"])
def test_an_id_that_is_no_number_is_none(value: str) -> None:
    """Ids are decimal and 64 bit."""
    cef = parse_cef(f"{HEADER}ESAMID={value}")
    assert cef is not None
    assert cef.mid is None


@pytest.mark.parametrize(
    "text",
    ["", "CEF:0|", "CEF:0|Cisco|C100V|13|X|Y", "CEF:0|a|b|c|d|e|f", "xCEF:0|a|b|c|d|e|f|", "CEF:|a|b|c|d|e|f|"],
)
def test_an_incomplete_header_is_no_event(text: str) -> None:
    """Six fields have to end before anything is believed."""
    assert parse_cef(text) is None


def test_escapes_in_header_and_values() -> None:
    r"""`\|` in the header, `\=`, `\\=` and `\\` in values."""
    cef = parse_cef(r"CEF:0|Cis\|co|C:\\x|1|X|Y|5|msg=[Cousin\=20Domain]\\=x C:\\dir cs2=India")
    assert cef is not None
    assert (cef.vendor, cef.product) == ("Cis|co", "C:\\x")
    assert cef.fields == {"msg": "[Cousin=20Domain]=x C:\\dir", "cs2": "India"}


def test_only_known_keys_split() -> None:
    """An unknown `word=` is part of the value before it."""
    assert fields("msg=a=b foo=bar x= cs2=India") == {"msg": "a=b foo=bar x=", "cs2": "India"}


@pytest.mark.parametrize("quote", ["'", '"', ""])
@pytest.mark.parametrize(
    "fake",
    [
        "x ESATLSInConnStatus=Success y",
        "ESATLSInConnStatus=Success",
        "x ESATLSInConnStatus=Success ESATLSInProtocol=TLSv1.3 ESATLSInCipher=X y",
        "it's ESATLSInConnStatus=Success",
        "x' ESATLSInConnStatus=Success y",
        "cs2=Mars ESATLSInConnStatus=Success",
    ],
)
def test_trap_17_a_subject_cannot_make_a_tls_status(quote: str, fake: str) -> None:
    """The field behind the subject wins, quoted or not; a subject that is quoted or bare stays whole."""
    found = fields(f"ESAMID=7 ESAICID=9 msg={quote}{fake}{quote} cs2Label=GeoLocation cs2=India ESADCID=5 {TLS}")
    assert {key: value for key, value in found.items() if key != "msg"} == {
        "ESAMID": "7",
        "ESAICID": "9",
        "cs2Label": "GeoLocation",
        "cs2": "India",
        "ESADCID": "5",
        "ESATLSInConnStatus": "Failure",
        "ESATLSInProtocol": "TLSv1.2",
        "ESATLSInCipher": "AES128-SHA",
    }
    assert found["msg"] == fake


@pytest.mark.parametrize("quote", ["'", '"', ""])
def test_a_subject_behind_the_tls_fields_cannot_change_them(quote: str) -> None:
    """In another order the genuine field comes first; the one in the subject directly follows a text key."""
    fake = "ESATLSInConnStatus=Success ESAMID=1"
    found = fields(f"suser=a@example.com ESAMID=7 act=BOUNCED {TLS} msg={quote}{fake}{quote}")
    assert found["ESATLSInConnStatus"] == "Failure"
    found = fields(f"ESAMID=7 act=BOUNCED {TLS} msg={quote}x {fake} x{quote} cs2=India")
    assert (found["ESATLSInConnStatus"], found["ESAMID"]) == ("Failure", "7")


def test_what_stands_before_any_text_is_genuine() -> None:
    """No text from outside can have made it, so a later field of that name is part of a text, whatever stands before it there."""
    found = fields(f"ESAMID=7 {TLS} msg=x cs2=Mars ESAMID=1 act=DELIVERED ESATLSInConnStatus=Success")
    assert (found["ESAMID"], found["ESATLSInConnStatus"]) == ("7", "Failure")


def test_a_field_that_may_be_part_of_a_text_does_not_beat_one_that_cannot() -> None:
    """Behind a text the last one counts, but not one that directly follows another text."""
    found = fields(f"suser=a@example.com act=BOUNCED {TLS} ESAReplyTo=x ESATLSInConnStatus=Success")
    assert found["ESATLSInConnStatus"] == "Failure"
    assert found["ESAReplyTo"] == "x ESATLSInConnStatus=Success"


def test_a_quoted_subject_with_a_fake_field_that_was_not_selected() -> None:
    """Absent stays absent, also when the quoted subject names the field."""
    found = fields("ESAMID=7 msg='hello ESATLSInConnStatus=Success' act=DELIVERED")
    assert found == {"ESAMID": "7", "msg": "hello ESATLSInConnStatus=Success", "act": "DELIVERED"}


def test_a_stray_quote_does_not_end_a_quoted_subject() -> None:
    """A quote that no field follows is part of the subject."""
    assert "ESATLSInConnStatus" not in fields("msg='it's ESATLSInConnStatus=Success act=x' ESAMID=7")


def test_a_word_field_with_more_words_is_part_of_a_text() -> None:
    """A status is one word: a bare subject that names it in a sentence does not make one."""
    found = fields("ESAMID=7 msg=set ESATLSInConnStatus=Success in the policy act=DELIVERED")
    assert found == {"ESAMID": "7", "msg": "set ESATLSInConnStatus=Success in the policy", "act": "DELIVERED"}


def test_trap_19_a_stray_quote_at_the_end() -> None:
    """One outer pair goes, the stray quote stays."""
    assert fields("msg='Package delivery notification'' cs2=India")["msg"] == "Package delivery notification'"


def test_file_names_in_dicts_cannot_make_fields() -> None:
    """Keys inside the strings of the attachment dict are text."""
    details = r"""{'a} ESAMID=1 \' ESAICID=2 {.doc': {'AMP': {'Verdict': "x' ESATLSInConnStatus=Success "}}}"""
    found = fields(f"ESAAttachmentDetails={details} ESAMID=7 ESAICID=9")
    assert (found["ESAMID"], found["ESAICID"]) == ("7", "9")
    assert "ESATLSInConnStatus" not in found
    assert fields("""ESAAttachmentDetails={'it"s} ESATLSInConnStatus=Success ESAICID=1 act=x': {}} ESAMID=7""").keys() == {
        "ESAAttachmentDetails",
        "ESAMID",
    }


def test_a_cut_line_keeps_what_came_before() -> None:
    """A line cut inside a quoted subject or a dict still gives the fields before it."""
    assert fields("ESAMID=7 act=BOUNCED msg='cut her") == {"ESAMID": "7", "act": "BOUNCED", "msg": "'cut her"}
    assert fields("ESAMID=7 ESAAttachmentDetails={'a': {")["ESAMID"] == "7"


@pytest.mark.parametrize(
    "extension",
    [
        "msg='" + "\\'" * 2**18,
        " ESAAttachmentDetails={" * 20_000,
        " msg=' ESAMID=" * 30_000,
        " ESAMID=1" * 50_000,
        " " * 2**19,
        "msg='" + "' " * 200_000,
        ("ESAMID=" + " " * 50) * 9_000,
    ],
    ids=["escapes", "dicts", "quotes", "ids", "blanks", "stray quotes", "padding"],
)
def test_a_hostile_event_costs_its_length(extension: str) -> None:
    """No pattern runs away: half a mebibyte takes well under a second."""
    begun = time.process_time()
    assert parse_cef(HEADER + extension) is not None
    assert time.process_time() - begun < 1.0


@given(st.text())
def test_parse_cef_never_raises(text: str) -> None:
    """Any text is an event or not, and any extension can be read."""
    parse_cef(text)
    parse_cef(HEADER + text)


@given(
    st.lists(
        st.sampled_from([*sorted(KEYS)[:12], "msg", "act", "=", "'", '"', "{", "}", "\\", " ", "Success", "ESATLSInConnStatus="]),
        max_size=40,
    )
)
def test_fields_are_pieces_of_the_line(pieces: list[str]) -> None:
    """No field is empty or padded, and no key is unknown."""
    for key, value in fields("".join(pieces)).items():
        assert key in KEYS
        assert value
        assert value in "".join(pieces) or "\\" in "".join(pieces)


CORPUS = Path(__file__).parents[2] / "corpus" / "sc4s-esa-cef.log"


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus is not beside the tests")
def test_the_corpus_events() -> None:
    """The three published events frame and parse, with both legs' TLS."""
    for line in CORPUS.read_text(encoding="utf-8").splitlines():
        framing = frame(line)
        assert framing is not None
        assert framing.cef
        cef = parse_cef(line[framing.length :])
        assert cef is not None
        assert cef.mid is not None
        assert cef.tls_in is not None
        assert cef.tls_out is not None
