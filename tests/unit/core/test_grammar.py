"""Bodies to facts: every row of docs/log-lines.md 3 to 6, the parsing traps of its section 8, and the published corpus."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.grammar_rows import NOT_INITIATED, NOT_NEGOTIATED, ROWS, fact

from esa_tls.core.facts import Fact
from esa_tls.core.grammar import failure_class, parse, shape_of
from esa_tls.core.line import frame

CORPUS = Path(__file__).parents[2] / "corpus"


@pytest.mark.parametrize(("row", "body", "stated"), ROWS, ids=[f"row {row}: {body[:40]}" for row, body, _ in ROWS])
def test_every_row_of_sections_3_to_6(row: str, body: str, stated: Fact) -> None:
    """The example of each row, and its variants, give exactly that fact."""
    assert parse(body) == stated


def test_every_row_is_in_the_table() -> None:
    """No row of the format description is left out."""
    assert {row for row, _, _ in ROWS} >= {*(str(n) for n in range(1, 92)), "47b", "47c"}


@pytest.mark.parametrize(
    "body",
    [
        "",
        " ",
        "x",
        "MID",
        "MID ",
        "MID 9",
        "ICID 9",
        "DCID",
        "MID x y z",
        "MID -1 queued for delivery",
        "MID 1_0 queued for delivery",
        "New",
        "Start MID",
        "Message",
        "Info: ICID 7 close",
    ],
)
def test_unknown_text_is_unrecognised_without_ids(body: str) -> None:
    """Anything else is a fact too, and no id is made up."""
    assert parse(body) == Fact("unrecognised")


@pytest.mark.parametrize(
    ("body", "stated"),
    [
        ("MID 9 something new", Fact("unrecognised", mid=9)),
        ("ICID 9 something new", Fact("unrecognised", icid=9)),
        ("DCID 9 something new", Fact("unrecognised", dcid=9)),
        ("RCID 9 something new", Fact("unrecognised", values={"rcid": 9})),
        ("MID 9 ICID 7 something new", Fact("unrecognised", icid=7, mid=9)),
        ("ICID 9 close to you", Fact("unrecognised", icid=9)),
        ("MID 9 RID [0] and [1] Response 'x'", Fact("unrecognised", mid=9)),
        ("Message finished MID 9 somehow", Fact("unrecognised")),
        ("ICID 9 TLS successful", Fact("unrecognised", icid=9)),
        ("DCID 9 TLS failedx", Fact("unrecognised", dcid=9)),
        ("something about MID 9 ICID 7", Fact("unrecognised")),
    ],
)
def test_unknown_text_keeps_the_id_at_its_start(body: str, stated: Fact) -> None:
    """Only the fixed place at the start gives an id."""
    assert parse(body) == stated


@pytest.mark.parametrize(
    ("token", "number"),
    [
        ("0", 0),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("9999999999999999999", None),
        ("99999999999999999999", None),
        ("1" * 5000, None),
        ("٣", None),
        ("²", None),
        ("+5", None),
        ("5.", None),
        ("xxxxxx", None),
    ],
)
def test_ids_are_64_bit_decimal_numbers(token: str, number: int | None) -> None:
    """What has more than 19 digits, does not fit, or is no plain number is no id, wherever it stands."""
    assert parse(f"MID {token} queued for delivery").mid == number
    assert parse(f"ICID {token} close").icid == number
    assert parse(f"DCID {token} close").dcid == number
    assert parse(f"Start MID 5 ICID {token}").icid == number
    assert parse(f"MID 5 ICID {token} From: <>").icid == number
    assert parse(f"Delivery start DCID {token} MID 5 to RID [0]").dcid == number
    assert parse(f"New SMTP ICID {token} interface a (b) address c").icid == number
    assert parse(f"Delivery start DCID 5 MID 6 to RID [{token}]").rids == (None if number is None else (number,))


# --- traps ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", ["ICID 70 TLS failed: [Errno 54] Connection reset by peer", "ICID 70 TLS failed"])
def test_trap_06_a_failed_line_says_only_that_it_failed(body: str) -> None:
    """Whether a session broke or never was is not the grammar's to say."""
    assert parse(body).action == "tls-failed"


def test_trap_05_nothing_is_said_of_tls_by_a_line_without_it() -> None:
    """A close without a TLS line states the close, no TLS value."""
    assert parse("ICID 70 close") == fact("connection-closed", icid=70)


def test_trap_08_a_connection_error_is_no_tls_fact() -> None:
    """A handshake that broke may show only as this: nothing in it speaks of TLS."""
    body = "Connection Error: DCID 80 domain: example.org IP: 203.0.113.25 details: TLS failed interface: 192.0.2.1 reason: network error"
    assert parse(body).action == "connection-error"


@pytest.mark.parametrize(
    ("body", "action"),
    [
        ("SMTP Auth (ICID 9) was required but remote host did not initiate it", "smtp-auth-required"),
        ("TLS connection failed because of an unsupported protocol issue. Alert message is sent in plain text", "unrecognised"),
        ("SSL error with client 192.0.2.1:37222 - (336027804, 'error:1407609C:SSL routines')", "unrecognised"),
        ("Internal SMTP Error: TLS failed for ICID 7", "system-message"),
        ("LDAP: TLS failed", "unrecognised"),
    ],
)
def test_trap_11_reused_words_are_no_tls_outcome(body: str, action: str) -> None:
    """Lines of other subsystems that speak of TLS name no mail connection's outcome."""
    assert parse(body).action == action


@pytest.mark.parametrize(
    ("body", "stated"),
    [
        ("Status: CPULd 3 CrtMID 414695 CrtICID 644374 CrtDCID 76943", Fact("system-message")),
        ("MID 9: Skip AMP Engine check", Fact("message-traced", mid=9)),
        (
            "Global unsubscribe matched entry @example.net MID: 5542748 RID: 0 Address: a@example.net",
            fact("recipient-dropped", mid=5542748, rids=(0,), address="a@example.net", reason="Global unsubscribe"),
        ),
        ("Possible Delivery: DCID: 80 MID 90 to [0]", fact("delivery-uncertain", dcid=80, mid=90, rids=(0,))),
        ("Message 90 to [0] pending till x", fact("delivery-pending", mid=90, rids=(0,), retry_at="x")),
    ],
)
def test_trap_12_ids_in_odd_spellings(body: str, stated: Fact) -> None:
    """`CrtMID` is no MID; a colon after the id or the word, and `Message` for MID, are read."""
    assert parse(body) == stated


@pytest.mark.parametrize(
    ("body", "values"),
    [
        ("ICID 7 TLS success protocol TLSv1/SSLv3 cipher DHE-RSA-AES256-SHA", {"protocol": "TLSv1/SSLv3", "cipher": "DHE-RSA-AES256-SHA"}),
        ("ICID 7 TLS success protocol TLSv1.3 cipher TLS_AES_256_GCM_SHA384", {"protocol": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384"}),
        ("ICID 7 TLS success protocol TLSv1.3 cipher TLS_AES_256_GCM_SHA384.", {"protocol": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384"}),
        ("DCID 7 TLS success protocol TLSv1.2 cipher X for example.org.", {"protocol": "TLSv1.2", "cipher": "X", "domain": "example.org"}),
        (
            "DCID 7 TLS success protocol TLSv1 cipher X for example.org CN=mx y",
            {"protocol": "TLSv1", "cipher": "X", "domain": "example.org", "cn": "mx y"},
        ),
    ],
)
def test_trap_15_spellings_of_success(body: str, values: dict[str, str]) -> None:
    """Slashes, underscores, a domain, a certificate name and a full stop stay out of the cipher."""
    assert parse(body).action == "tls-succeeded"
    assert parse(body).values == values


@pytest.mark.parametrize(
    ("interface", "local_ip"), [("Data 1", "192.0.2.1"), ("A (b) c", "192.0.2.1"), ('"x"', "2001:db8::1"), ("my address x", "192.0.2.1")]
)
@pytest.mark.parametrize(
    "host",
    [
        "x verified yes",
        "y.example address 192.0.2.9",
        "a) address 192.0.2.9 reverse dns host b verified yes",
        "q reverse dns host r",
        "verified no",
    ],
)
def test_trap_16_interface_and_ptr_names_with_any_words(interface: str, local_ip: str, host: str) -> None:
    """The peer is the first address behind the interface's bracket, the verification the last word."""
    body = f"New SMTP ICID 7 interface {interface} ({local_ip}) address 198.51.100.7 reverse dns host {host} verified no"
    assert parse(body) == fact(
        "connection-opened", icid=7, interface=interface, local_ip=local_ip, peer="198.51.100.7", host=host, verified=False
    )


def test_trap_16_an_old_opening_line_with_any_ptr_name() -> None:
    """Without a bracket before it, the first ` address ` is still the peer's."""
    body = "New SMTP ICID 7 interface private address 198.51.100.7 reverse dns host x) address 192.0.2.9 verified no"
    assert parse(body) == fact(
        "connection-opened", icid=7, interface="private", peer="198.51.100.7", host="x) address 192.0.2.9", verified=False
    )


def test_trap_16_group_names_with_the_words_of_the_line() -> None:
    """A sender group may be called anything: score and rule are read from the right."""
    body = "ICID 7 ACCEPT SG no SBRS 9 match x match ALL SBRS 3.4 country Norway"
    assert parse(body) == fact(
        "hat-decided", icid=7, policy="ACCEPT", sender_group="no SBRS 9 match x", rule="ALL", sbrs=3.4, country="Norway"
    )


def test_tcprefuse_with_an_icid_is_a_decision_of_that_connection() -> None:
    """Only ICID 0 is a connection that never was."""
    assert parse("ICID 7 TCPREFUSE SG B match ALL SBRS None") == fact(
        "hat-decided", icid=7, policy="TCPREFUSE", sender_group="B", rule="ALL"
    )


LINES = [body for _, body, _ in ROWS]
HOSTILE = st.one_of(
    st.sampled_from(LINES),
    st.sampled_from(LINES).map(lambda body: f"Wed Jul 20 19:47:40 2005 Info: {body}"),
    st.sampled_from(LINES).map(lambda body: f"x> {body} <"),
    st.sampled_from(LINES).map(lambda body: f"' {body} '"),
    st.sampled_from(LINES).map(lambda body: f"']) [] {body}"),
    st.text(st.characters(exclude_characters="\r\n"), max_size=60),
    st.lists(
        st.sampled_from(
            [
                "> sender allowed, ",
                " interface: ",
                " mapped to [",
                "> Rejected by ",
                "] Response ",
                " RID 5 - 5.1.1 - ",
                " verified yes",
                " address ",
                " to RID [9]",
                "MID 1",
                "'",
                '"',
                ">",
                "<",
                " ",
                "DCID 2",
                " MID 3 ",
                "x",
                ") address ",
            ]
        ),
        max_size=8,
    ).map("".join),
)

# Rows that carry text from outside: (template, the fact without its text, the values that the text must not change)
CARRIERS: list[tuple[str, Fact, dict[str, object]]] = [
    (
        "New SMTP ICID 70 interface Data 1 (192.0.2.1) address 198.51.100.7 reverse dns host {} verified no",
        Fact("connection-opened", icid=70),
        {"interface": "Data 1", "local_ip": "192.0.2.1", "peer": "198.51.100.7", "verified": False},
    ),
    ("ICID 70 Address: <{}> sender rejected, why not", Fact("sender-verification", icid=70), {"result": "rejected", "reason": "why not"}),
    ("ICID 70 Invalid sender address: x: '{}'", Fact("address-invalid", icid=70), {}),
    ("ICID 70 MID 90 Invalid recipient address: '{}'", Fact("address-invalid", icid=70, mid=90), {}),
    ("ICID 70 Unknown command: {}", Fact("command-refused", icid=70), {}),
    ("ICID 70 Bad syntax for command: {}", Fact("command-refused", icid=70), {}),
    (
        "SMTP Auth: (ICID 70) failed for user: {} using AUTH mechanism: LOGIN with profile: p",
        Fact("smtp-auth", icid=70),
        {"mechanism": "LOGIN", "profile": "p", "result": "failed"},
    ),
    (
        "Connection Error: DCID 80 domain: example.org IP: 203.0.113.25 port: 25 details: {} interface: 192.0.2.1 reason: network error",
        Fact("connection-error", dcid=80),
        {"domain": "example.org", "peer": "203.0.113.25", "port": 25, "local_ip": "192.0.2.1", "reason": "network error"},
    ),
    ("Message done DCID 80 MID 90 to RID [0] [('subject', '{}')]", Fact("delivery-done", dcid=80, mid=90, rids=(0,)), {}),
    ("MID 90 RID [0] Response '{}'", Fact("delivery-response", mid=90, rids=(0,)), {}),
    ("MID 90 RID [0] Response {}", Fact("delivery-response", mid=90, rids=(0,)), {}),
    (
        "Bounced: DCID 80 MID 90 to RID 0 - 5.1.0 - Unknown address error ('550', ['{}']) []",
        Fact("delivery-bounced", dcid=80, mid=90, rids=(0,)),
        {"code": 550, "enhanced_code": "5.1.0", "reason": "Unknown address error"},
    ),
    (
        "Delayed: DCID 80 MID 90 From: <a@example.com> To: <b@example.org> RID 0 - 4.1.0 - Unknown address error ('451', ['{}'])",
        Fact("delivery-delayed", dcid=80, mid=90, rids=(0,)),
        {"code": 451, "enhanced_code": "4.1.0", "reason": "Unknown address error", "sender": "a@example.com", "address": "b@example.org"},
    ),
    (
        "MID 90 to RID [0] Bounced by destination server with response: 5.1.0 - Unknown address error ('550', ['{}'])",
        Fact("delivery-bounced", mid=90, rids=(0,)),
        {"code": 550, "enhanced_code": "5.1.0", "reason": "Unknown address error"},
    ),
    (
        "Double bounce: MID 90 to 0 - 5.1.0 - Unknown address error 501-'{}'",
        Fact("delivery-double-bounced", mid=90, rids=(0,)),
        {"enhanced_code": "5.1.0"},
    ),
    ("MID 90 ICID 70 From: <{}>", Fact("sender-accepted", icid=70, mid=90), {}),
    ("MID 90 ICID 70 RID 0 To: <{}>", Fact("recipient-accepted", icid=70, mid=90, rids=(0,)), {}),
    ("MID 90 ICID 70 To: <{}> Rejected by RAT", Fact("recipient-rejected", icid=70, mid=90), {"by": "RAT"}),
    ("MID 90 ICID 70 invalid bounce, rcpt address <{}> rejected by bounce verification.", Fact("bounce-verification", icid=70, mid=90), {}),
    ("MID 90 Message-ID '{}'", Fact("message-id", mid=90), {}),
    ("MID 90 Subject {}", Fact("subject", mid=90), {}),
    ("MID 90 Subject '{}'", Fact("subject", mid=90), {}),
    ("MID 90 ready 1200 bytes from <{}>", Fact("message-received", mid=90), {"size_bytes": 1200}),
    ("MID 90 SPF: mailfrom identity {}", Fact("authentication-verdict", mid=90), {"engine": "SPF"}),
    ("MID 90 DKIM: pass signature verified (d={})", Fact("authentication-verdict", mid=90), {"engine": "DKIM", "verdict": "pass"}),
    ("MID 90 DMARC: Message from domain {}", Fact("authentication-verdict", mid=90), {"engine": "DMARC"}),
    ("MID 90 SDR: Domains {}", Fact("engine-verdict", mid=90), {"engine": "SDR"}),
    ("MID 90 antivirus positive '{}'", Fact("engine-verdict", mid=90), {"engine": "antivirus"}),
    ("MID 90 attachment '{}'", Fact("attachment", mid=90), {}),
    ("MID 90 URL {} has reputation 1", Fact("url", mid=90), {}),
    ("MID 90 Custom Log Entry: {}", Fact("custom-log-entry", mid=90), {}),
    ("MID 90 masquerading header 'To' from '{}' to 'y'", Fact("header-masqueraded", mid=90), {}),
    ("MID 90: {}", Fact("message-traced", mid=90), {}),
    ("LDAP: Drop query q MID 90 RID 1 address {}", Fact("recipient-dropped", mid=90, rids=(1,)), {"reason": "Drop query q"}),
    ("LDAP: Reroute query q MID 90 RID 1 address {} to [('a', 'b')]", Fact("recipient-rerouted", mid=90, rids=(1,)), {}),
    ("Alias match: MID 90 RID 4 recipient {} mapped to ['c']", Fact("alias-matched", mid=90, rids=(4,)), {}),
    ("MID 90 Global unsubscribe matched entry e RID 0 Address {} Action bounced", Fact("recipient-bounced", mid=90, rids=(0,)), {}),
    ("Global unsubscribe matched entry e MID: 90 RID: 0 Address: {}", Fact("recipient-dropped", mid=90, rids=(0,)), {}),
    ("A System/Warning alert was sent to a@example.com with subject {}", Fact("system-message"), {}),
    ("Internal SMTP Error: {}", Fact("system-message"), {}),
    ("Message aborted MID 90 Dropped by {}", Fact("message-aborted", mid=90), {}),
]


@pytest.mark.parametrize(("template", "stated", "values"), CARRIERS, ids=[template[:45] for template, _, _ in CARRIERS])
@given(data=st.data())
def test_trap_17_text_from_outside_changes_neither_action_nor_ids(
    template: str, stated: Fact, values: dict[str, object], data: st.DataObject
) -> None:
    """Perfect log lines, fixed words and broken quotes inside the text leave action, ids and the appliance's own values alone."""
    found = parse(template.replace("{}", data.draw(HOSTILE)))
    assert (found.action, found.icid, found.dcid, found.mid, found.rids) == (
        stated.action,
        stated.icid,
        stated.dcid,
        stated.mid,
        stated.rids,
    )
    assert {name: (found.values or {}).get(name) for name in values} == values


@pytest.mark.parametrize(
    ("body", "address"),
    [
        ("ICID 7 Address: <x> sender allowed, y> sender rejected, z", "x> sender allowed, y"),
        ("MID 9 ICID 7 To: <x> Rejected by y> Rejected by RAT", "x> Rejected by y"),
        ("Alias match: recipient x mapped to [y] mapped to ['z']", "x mapped to [y]"),
        ("LDAP: Reroute query q MID 9 RID 1 address x to [y] to [('z', 'z')]", "x to [y]"),
        ("MID 9 Global unsubscribe matched entry e RID 0 Address x Action y Action bounced", "x Action y"),
    ],
)
def test_trap_20_the_appliances_own_words_are_the_last(body: str, address: str) -> None:
    """An address that holds the words behind it is kept whole."""
    assert (parse(body).values or {})["address"] == address


@given(st.text(st.characters(exclude_characters='"\\')), st.sampled_from(["Bounced", "Delayed"]))
def test_trap_17_a_quoted_local_part_cannot_pick_the_recipient(local: str, verb: str) -> None:
    """Row 47b has its RID behind two addresses; what a quoted local part holds is not it."""
    body = f"{verb}: DCID 80 MID 90 From: <\"{local}\"@example.com> To: <\"{local}\"@example.org> RID 2 - 5.1.0 - Unknown ('550', ['x'])"
    found = parse(body)
    assert (found.dcid, found.mid, found.rids) == (80, 90, (2,))


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("'Package delivery notification''", "Package delivery notification'"),
        ("'", "'"),
        ('"it\'s"', "it's"),
        ("'cut her", "'cut her"),
        ("  two  blanks  ", "  two  blanks  "),
        (r"'a\r\nb \xe4'", r"a\r\nb \xe4"),
        ("=?utf-8?B?w6Q=?=", "=?utf-8?B?w6Q=?="),
        ("\udcff\udcfe raw", "\udcff\udcfe raw"),
        ("''quoted''", "'quoted'"),
    ],
)
def test_trap_19_subjects_are_kept_exactly(text: str, subject: str) -> None:
    """One outer pair of quotes goes; stray quotes, blanks, escapes and bytes that are no UTF-8 stay."""
    assert parse(f"MID 9 Subject {text}") == fact("subject", mid=9, subject=subject)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ('<"a> b"@example.org>', '"a> b"@example.org'),
        ("<a,b@example.org>", "a,b@example.org"),
        ("<>", None),
        ("a@example.org", "a@example.org"),
        ("<jürgen@bücher.example>", "jürgen@bücher.example"),
        ("<b@example.org> Rejected by x> ", "<b@example.org> Rejected by x> "),
    ],
)
def test_trap_20_recipients_of_any_form(text: str, address: str | None) -> None:
    """Only the outer brackets go; in a rejection the last `> Rejected by ` counts."""
    assert (parse(f"MID 9 ICID 7 RID 1 To: {text}").values or {}).get("address") == address
    rejected = parse(f"MID 9 ICID 7 To: <{text}> Rejected by RAT")
    assert rejected == Fact("recipient-rejected", icid=7, mid=9, values={"address": text, "by": "RAT"})


@pytest.mark.parametrize(
    ("body", "stated"),
    [
        (
            "DCID 80 TLS success protocol TLSv1.2 cipher ECDHE-RSA-AES2",
            fact("tls-succeeded", dcid=80, protocol="TLSv1.2", cipher="ECDHE-RSA-AES2"),
        ),
        ("DCID 80 TLS success protocol TLSv1.2", fact("tls-succeeded", dcid=80, protocol="TLSv1.2")),
        ("DCID 80 TLS success prot", fact("tls-succeeded", dcid=80)),
        ("Delivery start DCID 80 MID 90 to RID [0, 1, 2", fact("delivery-started", dcid=80, mid=90, truncated=True)),
        ("Delivery start DCID 80 MID 90 to", fact("delivery-started", dcid=80, mid=90, truncated=True)),
        ("Delivery start DCID 80 MID 9", Fact("unrecognised")),
        ("Message done DCID 80 MID 90 to RID [0] [('Subject', 'MID", fact("delivery-done", dcid=80, mid=90, rids=(0,))),
        ("Message finished MID 9", Fact("unrecognised")),
        ("MID 9", Fact("unrecognised")),
        ("MID 90 ICID 7", Fact("unrecognised", mid=90)),
        ("Bounced: DCID 80 MID 90 to RID 1", fact("delivery-bounced", dcid=80, mid=90, truncated=True)),
        ("Deleted: MID 90 to [0, 1", fact("recipients-deleted", mid=90, truncated=True)),
        ("MID 90 rewritten to MID 9", Fact("unrecognised", mid=90)),
        ("MID 90 was split creating MID 9", Fact("unrecognised", mid=90)),
        ("ICID 70 ACCEPT SG UNKNOWNL", fact("hat-decided", icid=70, policy="ACCEPT", truncated=True)),
        ("ICID 70 ACCEPT SG", Fact("unrecognised", icid=70)),
        ("ICID 70 an unknown line with SG in it", Fact("unrecognised", icid=70)),
        ("ICID 70 ACCEPT SG UNKNOWNLIST match sbrs[-1", fact("hat-decided", icid=70, policy="ACCEPT", truncated=True)),
        ("MID 90 matched all recipients for per-recipient policy DEF", Fact("policy-matched", mid=90)),
    ],
)
def test_trap_21_cut_lines_claim_nothing_they_do_not_say(body: str, stated: Fact) -> None:
    """A cut list is no list, and an id that may be cut is no id; what came whole still counts."""
    assert parse(body) == stated


@pytest.mark.parametrize(
    ("text", "rids"),
    [
        ("[0]", (0,)),
        ("[7]", (7,)),
        ("[10]", (10,)),
        ("[0, 1]", (0, 1)),
        ("[712290]", (712290,)),
        ("[0,1]", (0, 1)),
        ("[]", None),
        ("[a]", None),
        ("[0, ]", None),
    ],
)
@pytest.mark.parametrize("word", ["RID ", ""])
def test_trap_22_recipient_lists(text: str, rids: tuple[int, ...] | None, word: str) -> None:
    """Lists of one, of many and of huge numbers, with and without the word; garbage is no list."""
    for body in (f"Delivery start DCID 8 MID 9 to {word}{text}", f"Message done DCID 8 MID 9 to {word}{text} [('a', 'b')]"):
        assert parse(body).rids == rids
        assert (parse(body).values == {"truncated": True}) == (rids is None)


def test_trap_24_blank_runs_are_kept_where_they_matter() -> None:
    """An empty rule and a padded host are read; a subject's blanks are its own."""
    assert parse("ICID 7 ACCEPT SG None match  SBRS 3.7") == fact("hat-decided", icid=7, policy="ACCEPT", sbrs=3.7)
    assert (parse("New SMTP ICID 7 interface A (b) address c reverse dns host  d.example verified no").values or {})["host"] == "d.example"
    assert parse("MID 9 Subject a  b") == fact("subject", mid=9, subject="a  b")


@pytest.mark.parametrize(
    "body",
    [
        "ICID 7 TLS failed",
        "DCID 8 STARTTLS command not supported",
        "Message finished MID 9 done",
        "SMTP server connection killed ICID: 7",
        "MID 9 was generated for bounce of MID 5",
        "Start delivery of MID 9 over RPC connection 3",
    ],
)
def test_trap_24_a_blank_at_the_end_takes_nothing_away(body: str) -> None:
    """What some shippers leave behind a line does not hide what it says; an id that ends a line with a blank is whole."""
    assert parse(body).action != "unrecognised"
    assert parse(f"{body} ") == parse(f"{body}   ") == parse(body)
    assert parse("MID 9 ") == fact("unrecognised", mid=9)


@pytest.mark.parametrize("address", ["*.*.*.*", "xxxxxx", "[email protected]", "******@example.com"])
def test_trap_25_masked_data_is_kept_as_text(address: str) -> None:
    """What is no address stays text, and the line still counts."""
    assert parse(f"MID 9 ICID 7 From: <{address}>") == fact("sender-accepted", icid=7, mid=9, address=address)
    opened = parse(f"New SMTP ICID 7 interface Management ({address}) address {address} reverse dns host unknown verified no")
    assert opened == fact("connection-opened", icid=7, interface="Management", local_ip=address, peer=address, verified=False)


@pytest.mark.parametrize(
    ("body", "stated"),
    [
        (
            "New SMTP DCID 7 interface 192.0.2.1 address 203.0.113.2 reverse_dns_host (none) verified no",
            fact("connection-opened", dcid=7, local_ip="192.0.2.1", peer="203.0.113.2"),
        ),
        ("DCID 7 STARTTLS", Fact("unrecognised", dcid=7)),
        ("ICID 7 from 203.0.113.10", Fact("unrecognised", icid=7)),
    ],
)
def test_trap_26_made_up_samples_claim_little(body: str, stated: Fact) -> None:
    """Lines no appliance prints give at most what their known words say."""
    assert parse(body) == stated


# --- the rest -------------------------------------------------------------------------------------------------------------------------


@given(st.text())
def test_parse_never_raises(text: str) -> None:
    """Any text is a fact."""
    parse(text)


WORDS = st.sampled_from(
    [
        *sorted({word for body in LINES for word in body.split(" ")}),
        "",
        "MID",
        "ICID",
        "DCID",
        "RID",
        "9",
        "99999999999999999999",
        "[0",
        "[0]",
        "<",
        ">",
        "(",
        ")",
        '"',
        "'",
        "٣",
    ]
)


@given(st.sampled_from(LINES), st.lists(WORDS, max_size=8), st.integers(0, 20))
def test_any_mixture_of_words_is_a_clean_fact(body: str, words: list[str], keep: int) -> None:
    """Whatever the words, no value is None or empty, ids are printed in the line, and cutting a line never raises."""
    text = " ".join([*body.split(" ")[:keep], *words])
    for cut in (text, text[: len(text) // 2], text[:-1]):
        found = parse(cut)
        assert found.values is None or found.values
        assert "" not in (found.values or {}).values()
        assert None not in list((found.values or {}).values())
        for number in (found.icid, found.dcid, found.mid, *(found.rids or ())):
            assert number is None or str(number) in cut or number == 0


@pytest.mark.parametrize(("row", "body", "stated"), ROWS, ids=[f"row {row}: {body[:40]}" for row, body, _ in ROWS])
def test_a_cut_line_is_the_same_kind_or_none(row: str, body: str, stated: Fact) -> None:
    """Cutting a line anywhere never makes it another kind with another message's id."""
    ids = {number for number in (stated.icid, stated.dcid, stated.mid, (stated.values or {}).get("parent")) if number is not None}
    for end in range(len(body)):
        found = parse(body[:end])
        if found.action != stated.action:
            continue
        for number in (found.icid, found.dcid, found.mid):
            # The very last id of a line that ends with it cannot be told from a cut one.
            assert number is None or number in ids or body[:end].endswith(f" {number}")


def test_hostile_bodies_cost_little() -> None:
    """A mebibyte of anything in any place is parsed in milliseconds."""
    fillers = [
        "a",
        " ",
        "<",
        ">",
        "'",
        '"',
        "\\",
        "9",
        "[",
        "(",
        "' ",
        "> Rejected by ",
        " DCID: 9 ",
        '"\\',
        " SG ",
        " reason: ",
        " MID 9 ",
    ]
    begun = time.process_time()
    for template, _, _ in CARRIERS:
        for filler in fillers:
            parse(template.replace("{}", filler * (2**16 // len(filler))))
    for filler in fillers:
        for start in (
            "MID 9 ",
            "ICID 9 ",
            "DCID 9 ",
            "Connection Error: ",
            "Bounced: DCID 1 MID 2 From: <",
            "System limit reached: connection limit for IP x on listener ",
            "ICID 9 Connection from x on interface ",
            "LDAP: Drop query ",
        ):
            text = start + filler * (2**16 // len(filler))
            parse(text)
            shape_of(text)
    assert time.process_time() - begun < 5.0


@pytest.mark.parametrize(
    ("action", "reason", "name"),
    [
        ("tls-failed", "STARTTLS unexpected response", "starttls_unexpected_response"),
        ("tls-failed", "STARTTLS command not supported", "starttls_not_offered"),
        ("starttls-not-supported", "", "starttls_not_offered"),
        ("tls-required-failed", NOT_INITIATED, "required_not_offered"),
        ("tls-required-failed", NOT_NEGOTIATED, "required_not_negotiated"),
        ("tls-failed", "verify error: hostname mismatch", "certificate_verification"),
        (
            "tls-failed",
            "(1, 'error:14090086:SSL routines:ssl3_get_server_certificate:certificate verify failed')",
            "certificate_verification",
        ),
        ("tls-failed", "(336109761, 'error:1408A0C1:SSL routines:ssl3_get_client_hello:no shared cipher')", "protocol_or_cipher_mismatch"),
        ("tls-failed", "(1, 'error:1408F10B:SSL routines:ssl3_get_record:wrong version number')", "protocol_or_cipher_mismatch"),
        ("tls-failed", "(1, 'error:14094410:SSL routines:ssl3_read_bytes:sslv3 alert handshake failure')", "handshake"),
        ("tls-failed", "", "handshake"),
        ("tls-failed", "DANE verification: no usable TLSA record", "dane"),
        ("tls-failed", "[Errno 54] Connection reset by peer", "reset"),
        ("tls-failed", "[Errno 60] Operation timed out", "timeout"),
        ("tls-failed", "something else", "other"),
        ("connection-error", "", "other"),
    ],
)
def test_failure_classes(action: str, reason: str, name: str) -> None:
    """Each class of the closed list from its action and the appliance's words."""
    assert failure_class(action, reason) == name


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ("MID 123 foo 4.5", "MID 9 foo 9.9"),
        ("x 'secret subject' y \"it's\" z", "x '*' y '*' z"),
        ("to <a@example.com> and b@example.org", "to <*> and <*>"),
        ("an unclosed 'quote with a@example.com", "an unclosed '*'"),
        ("don't 5", "don't 9"),
        ("a" * 500, "a" * 120),
    ],
)
def test_shapes_are_masked(body: str, shape: str) -> None:
    """Numbers, quoted text and addresses are masked, and a shape is short."""
    assert shape_of(body) == shape


@given(st.text())
def test_shape_never_raises_and_is_short(text: str) -> None:
    """Any text has a shape of at most 120 characters, without ASCII digits but 9."""
    shape = shape_of(text)
    assert len(shape) <= 120
    assert not set(shape) & set("012345678")


# --- the published corpus -------------------------------------------------------------------------------------------------------------

# Actions of every corpus line in order. Unrecognised are only: a DCID that its publisher masked (`DCID xxxxxx ...` is no id and so no
# line of any connection), and two lines of other log types (reportd_logs, gui_logs) that speak of TLS but are no mail_logs lines.
CORPUS_ACTIONS = {
    "cisco-community-4542222-isq.log": """
        message-started sender-accepted recipient-accepted subject message-received policy-matched engine-verdict engine-verdict
        quarantine-tagged engine-verdict engine-verdict engine-verdict engine-verdict engine-verdict message-id message-queued
        rpc-delivery-started message-quarantined rpc-delivery-done message-finished message-started
    """,
    "cisco-community-4736074-connlimit.log": """
        connection-opened hat-decided connection-limit-reached receiving-failed connection-closed
    """,
    "cisco-technote-118232-basic.log": """
        connection-opened message-started sender-accepted recipient-accepted message-received connection-closed connection-opened
        delivery-started delivery-done
    """,
    "cisco-technote-118286-quarantine.log": """
        connection-opened hat-decided message-started sender-accepted recipient-accepted authentication-verdict
        authentication-verdict message-received
    """,
    "cisco-technote-118500-seed.log": """
        connection-opened hat-decided tls-succeeded message-started connection-opened hat-decided tls-failed connection-lost
        tls-required-failed connection-closed tls-succeeded connection-opened delivery-started tls-failed
    """,
    "cisco-technote-212837-delay.log": """
        connection-opened hat-decided message-started sender-accepted recipient-accepted message-id subject message-received
        policy-matched connection-closed engine-verdict engine-verdict engine-verdict engine-verdict message-queued
        connection-opened
    """,
    "misc-single-shapes.log": """
        unrecognised message-copied message-rewritten message-rewritten
    """,
    "sc4s-esa-cef.log": """
        cef cef cef
    """,
    "sc4s-esa-textmail.log": """
        version scan-skipped hat-decided tls-succeeded delivery-pending engine-verdict hat-reject-delayed system-message
        system-message system-message system-message unrecognised unrecognised
    """,
    "spamtowho-comments-dcid-tls.log": """
        tls-succeeded tls-succeeded tls-succeeded tls-failed tls-required-failed
    """,
    "spamtowho-comments-untimed.log": """
        tls-succeeded receiving-failed receiving-failed hat-decided connection-refused connection-refused hat-decided hat-decided
        address-invalid address-invalid address-invalid sender-verification sender-verification connection-opened
        rpc-delivery-started rpc-delivery-done delivery-bounced connection-error connection-error delivery-delayed
        recipient-bounced recipient-dropped recipient-rerouted delivery-uncertain connection-killed connection-killed
        recipient-bounced recipient-rejected engine-verdict engine-verdict engine-verdict engine-verdict incoming-relay
        message-rewritten message-rewritten quarantine-released quarantine-released quarantine-released message-dropped
        message-bounced message-copied bounce-generated scan-skipped scan-skipped engine-verdict
    """,
    "spamtowho-comments.log": """
        tls-succeeded tls-succeeded tls-failed tls-required-failed connection-lost receiving-failed receiving-failed
        reputation-scored hat-decided connection-opened connection-opened connection-opened connection-opened connection-opened
        message-started delivery-done connection-closed delivery-started quarantine-tagged quarantine-tagged message-quarantined
        message-reinjected rpc-delivery-started rpc-delivery-done delivery-bounced delivery-bounced delivery-double-bounced
        system-message message-traced connection-exited alias-matched recipient-dropped recipients-deleted system-message
        recipient-rejected recipient-rejected recipient-accepted recipient-accepted sender-accepted bounce-verification
        bounce-verification engine-verdict subject message-received message-id engine-verdict engine-verdict engine-verdict
        engine-verdict delivery-response delivery-response message-queued message-split message-rewritten message-rewritten
        message-rewritten message-rewritten message-quarantined message-quarantined header-masqueraded header-masqueraded
        quarantine-deleted quarantine-deleted quarantine-deleted bounce-generated message-copied message-copied message-copied
        scan-skipped delivery-pending delivery-pending quarantine-tagged message-summarised scan-skipped connection-disconnected
        connection-lost delivery-done delivery-done delivery-done message-finished message-aborted message-aborted message-aborted
        message-aborted delivery-pending message-started bounce-generated message-started
    """,
    "userguide-9.8-isq-chase.log": """
        message-started sender-accepted recipient-accepted message-id subject message-received
    """,
    "userguide-logheaders.log": """
        message-id delivery-response message-started
    """,
    "userguide-manualsbrain-delivery.log": """
        connection-opened reputation-scored message-started sender-accepted recipient-accepted message-id subject message-received
        engine-verdict message-queued connection-opened delivery-started connection-closed delivery-done delivery-response
        connection-closed connection-opened delivery-started delivery-done connection-closed connection-opened delivery-started
        delivery-bounced delivery-bounced connection-closed
    """,
}


def corpus_lines(name: str) -> list[str]:
    """The lines of one corpus file."""
    return [line for line in (CORPUS / name).read_text(encoding="utf-8").split("\n") if line]


def test_the_whole_corpus_is_in_the_table() -> None:
    """No corpus file is forgotten, and no more than three lines are unrecognised."""
    assert {path.name for path in CORPUS.glob("*.log")} == set(CORPUS_ACTIONS)
    assert " ".join(CORPUS_ACTIONS.values()).split().count("unrecognised") == 3


@pytest.mark.parametrize("name", sorted(CORPUS_ACTIONS))
def test_every_corpus_line_gets_its_action(name: str) -> None:
    """Published lines of many versions are framed (where they have a level) and recognised, with ids that stand in them."""
    actions = []
    for line in corpus_lines(name):
        framing = frame(line)
        assert (framing is None) == line.startswith("DCID ")
        if framing is not None and framing.cef:
            actions.append("cef")
            continue
        found = parse(line[framing.length :] if framing else line)
        actions.append(found.action)
        for number in (found.icid, found.dcid, found.mid, *(found.rids or ())):
            assert number is None or str(number) in line
        assert "" not in (found.values or {}).values()
        assert None not in list((found.values or {}).values())
    assert actions == CORPUS_ACTIONS[name].split()
