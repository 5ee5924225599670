"""Framing: every form of docs/log-lines.md 1, and what must not be taken for one."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_tls.core.line import HEAD_CHARS, Framing, frame

BODY = "ICID 70 TLS success"

# (prefix, the fields that differ from Framing's defaults)
FORMS = [
    pytest.param(
        "Wed Jul 20 19:47:40 2005 Info: ",
        {"level": "Info", "year": 2005, "month": 7, "day": 20, "hour": 19, "minute": 47, "second": 40},
        id="file",
    ),
    pytest.param(
        "Tue Sep  6 00:00:00 2005 Warning: ",
        {"level": "Warning", "year": 2005, "month": 9, "day": 6},
        id="file, padded day",
    ),
    pytest.param("Tue Sep 6 00:00:00 2005 Debug: ", {"level": "Debug", "year": 2005, "month": 9, "day": 6}, id="file, collapsed day"),
    pytest.param(
        "<166>Mar 17 18:24:37 mail_logs: Info: ",
        {
            "level": "Info",
            "month": 3,
            "day": 17,
            "hour": 18,
            "minute": 24,
            "second": 37,
            "log_name": "mail_logs",
            "appname": "mail_logs",
            "priority": 166,
            "syslog": True,
        },
        id="push without host",
    ),
    pytest.param(
        "<94>Nov 24 14:22:57 esa1.example.net mail_logs: Critical: ",
        {
            "level": "Critical",
            "month": 11,
            "day": 24,
            "hour": 14,
            "minute": 22,
            "second": 57,
            "host": "esa1.example.net",
            "log_name": "mail_logs",
            "appname": "mail_logs",
            "priority": 94,
            "syslog": True,
        },
        id="push with host",
    ),
    pytest.param(
        "<111>Aug 10 10:00:24 esa1 ESA: Mon Aug 10 09:52:59 2020 Info: ",
        {
            "level": "Info",
            "year": 2020,
            "month": 8,
            "day": 10,
            "hour": 9,
            "minute": 52,
            "second": 59,
            "host": "esa1",
            "appname": "ESA",
            "priority": 111,
            "syslog": True,
        },
        id="relay, text time kept",
    ),
    pytest.param(
        "<111>Aug 10 10:00:24 esa1 ESA: Aug  2 23:59:52 192.0.2.1 mail_sec: Info: ",
        {
            "level": "Info",
            "month": 8,
            "day": 2,
            "hour": 23,
            "minute": 59,
            "second": 52,
            "host": "192.0.2.1",
            "log_name": "mail_sec",
            "appname": "ESA",
            "priority": 111,
            "syslog": True,
        },
        id="relay, then the appliance's prefix",
    ),
    pytest.param(
        "<111>Aug 10 10:00:24 esa1 ESA: Jul 16 10:46:46 2013 esa2 mail_logs: Info: ",
        {
            "level": "Info",
            "year": 2013,
            "month": 7,
            "day": 16,
            "hour": 10,
            "minute": 46,
            "second": 46,
            "host": "esa2",
            "log_name": "mail_logs",
            "appname": "ESA",
            "priority": 111,
            "syslog": True,
        },
        id="relay, then a prefix with a year",
    ),
    pytest.param(
        "Feb  1 08:32:59 c60 smail: Info: ",
        {
            "level": "Info",
            "month": 2,
            "day": 1,
            "hour": 8,
            "minute": 32,
            "second": 59,
            "host": "c60",
            "log_name": "smail",
            "appname": "smail",
            "syslog": True,
        },
        id="old, in a syslog file",
    ),
    pytest.param(
        "2019 Sep 28 16:13:51 esa1 mail [info] maillogs:nopid Info: ",
        {
            "level": "Info",
            "year": 2019,
            "month": 9,
            "day": 28,
            "hour": 16,
            "minute": 13,
            "second": 51,
            "host": "esa1",
            "log_name": "maillogs",
            "appname": "maillogs",
            "syslog": True,
        },
        id="syslog-ng template",
    ),
    pytest.param(
        "Mar 17 18:24:37 Info: ",
        {"level": "Info", "month": 3, "day": 17, "hour": 18, "minute": 24, "second": 37, "syslog": True},
        id="syslog stamp alone",
    ),
    pytest.param(
        "Oct 19 06:33:29 2011 Info: ",
        {"level": "Info", "year": 2011, "month": 10, "day": 19, "hour": 6, "minute": 33, "second": 29},
        id="year, no weekday",
    ),
    pytest.param(
        "Oct 19 06:33:29 2011 [...] Info: ",
        {"level": "Info", "year": 2011, "month": 10, "day": 19, "hour": 6, "minute": 33, "second": 29},
        id="year, no weekday, brackets",
    ),
    pytest.param(
        "2025-11-24T14:22:57.123+00:00 esa1 mail_logs: Info: ",
        {
            "level": "Info",
            "year": 2025,
            "month": 11,
            "day": 24,
            "hour": 14,
            "minute": 22,
            "second": 57,
            "utc_offset_s": 0,
            "host": "esa1",
            "log_name": "mail_logs",
            "appname": "mail_logs",
            "syslog": True,
        },
        id="ISO",
    ),
    pytest.param(
        "2025-11-24T14:22:57-05:30 Mon Nov 24 09:22:57 2025 Info: ",
        {"level": "Info", "year": 2025, "month": 11, "day": 24, "hour": 9, "minute": 22, "second": 57},
        id="ISO of a relay before a text time: the offset is the relay's",
    ),
    pytest.param(
        "<22>1 2025-11-24T14:22:57.123-0530 esa1 mail_logs 12 ID7 - Info: ",
        {
            "level": "Info",
            "year": 2025,
            "month": 11,
            "day": 24,
            "hour": 14,
            "minute": 22,
            "second": 57,
            "utc_offset_s": -19_800,
            "host": "esa1",
            "log_name": "mail_logs",
            "appname": "mail_logs",
            "priority": 22,
            "syslog": True,
        },
        id="RFC 5424",
    ),
    pytest.param(
        '<22>1 2025-11-24T14:22:57Z - - - - [a@1 b="x\\]y"][c d="e"] \ufeffmail_logs: Info: ',
        {
            "level": "Info",
            "year": 2025,
            "month": 11,
            "day": 24,
            "hour": 14,
            "minute": 22,
            "second": 57,
            "utc_offset_s": 0,
            "log_name": "mail_logs",
            "appname": "mail_logs",
            "priority": 22,
            "syslog": True,
        },
        id="RFC 5424 with structured data and a byte order mark",
    ),
    pytest.param(
        "<166>mail_logs: Info: ",
        {"level": "Info", "log_name": "mail_logs", "appname": "mail_logs", "priority": 166, "syslog": True},
        id="no stamp",
    ),
    pytest.param("Info: ", {"level": "Info"}, id="untimed"),
    pytest.param("Trace: ", {"level": "Trace"}, id="untimed trace"),
]


def expected(prefix: str, fields: dict[str, object]) -> Framing:
    """A Framing from the fields that differ."""
    return Framing(length=len(prefix), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("prefix", "fields"), FORMS)
def test_every_form_of_section_1_is_read(prefix: str, fields: dict[str, object]) -> None:
    """Each prefix gives its fields and the place where the body starts."""
    assert frame(prefix + BODY) == expected(prefix, fields)


@pytest.mark.parametrize(("prefix", "fields"), FORMS)
@pytest.mark.parametrize("body", ["", "x", "Warning: x", "Wed Jul 20 19:47:40 2005 Info: ICID 70 close", "mail_logs: Info: x", "  Info: "])
def test_the_body_never_changes_the_framing(prefix: str, fields: dict[str, object], body: str) -> None:
    """What stands behind the prefix has no say, so a caller may cache by the prefix."""
    assert frame(prefix + body) == expected(prefix, fields)


@pytest.mark.parametrize("host", ["esa1", "192.0.2.1", "2001:db8::1", "2001:db8::", "fe80::1%em0", "[2001:db8::1]", "esa_1.example.net"])
def test_hosts_of_any_kind(host: str) -> None:
    """Names and addresses are hosts, an IPv6 address that ends in colons included; brackets are not part of it."""
    framing = frame(f"<94>Nov 24 14:22:57 {host} mail_logs: Info: {BODY}")
    assert framing is not None
    assert (framing.host, framing.log_name) == (host.strip("[]"), "mail_logs")


@pytest.mark.parametrize("name", ["mail_logs", "MAIL_SecurityAudit", "SplunkMailSyslog", "sc4s-mail.logs", "Infos", "mail_logs[123]"])
def test_the_log_name_is_the_administrators(name: str) -> None:
    """Any word before the level is the subscription's name; a process id is not part of it."""
    framing = frame(f"<94>Nov 24 14:22:57 esa1 {name}: Info: {BODY}")
    assert framing is not None
    assert framing.log_name == name.removesuffix("[123]")
    assert framing.level == "Info"


@pytest.mark.parametrize(
    ("prefix", "second", "host", "log_name", "syslog"),
    [
        ("Sun Aug 25 12:37:08 2019 ", 8, None, None, False),
        ("<111>Aug 10 10:00:24 esa1 ESA: Mon Aug 10 10:10:07 2020: ", 7, "esa1", None, True),
        ("<111>Aug 10 10:00:24 cisco-esa: ", 24, None, "cisco-esa", True),
        ("<111>Aug 10 10:00:24 esa1 cons_logs: ", 24, "esa1", "cons_logs", True),
        ("", 0, None, None, False),
    ],
)
def test_cef_starts_at_its_own_mark(prefix: str, second: int, host: str | None, log_name: str | None, syslog: bool) -> None:
    """A consolidated event has no level and keeps `CEF:0|` in its body, with or without a text time and its colon."""
    framing = frame(prefix + "CEF:0|Cisco|C100V|13|X|Y|5|act=x")
    assert framing is not None
    assert framing.cef
    assert framing.level is None
    assert framing.length == len(prefix)
    assert (framing.second, framing.host, framing.log_name, framing.syslog) == (second, host, log_name, syslog)


def test_cef_behind_a_level() -> None:
    """A subscription that prints a level before the event is still CEF."""
    framing = frame("<111>Aug 10 10:00:24 cons: Info: CEF:0|Cisco|C100V|13|X|Y|5|")
    assert framing is not None
    assert framing.cef
    assert framing.length == len("<111>Aug 10 10:00:24 cons: Info: ")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        BODY,
        "  Info: indented text of a Warning",
        "mail_logs: Info: x",
        "esa1 mail_logs: Info: x",
        "info: x",
        "Information: x",
        "Info:x",
        "To: <b@example.org>",
        "Wed Jul 20 19:47:40 2005 something else",
        "Wed Jul 20 19:47:40 2005 two words Info: x",
        "Mar 17 18:24:37 esa1 mail_logs: no level, the rest of a long line",
        "Mar 17 18:24:37 esa1 and more mail_logs: Info: x",
        "<166>Mar 17 18:24:37 esa1 mail_logs: Subject: Info: ICID 70 TLS success",
        'Mar 17 18:24:37 esa1 "quoted": Info: x',
        "Xyz 17 18:24:37 esa1 mail_logs: Info: x",
        "Mar 17 18:24 esa1 mail_logs: Info: x",
        "<1111>Mar 17 18:24:37 esa1 mail_logs: Info: x",
        "<22>1 yesterday esa1 mail_logs - - - Info: x",
        "2025-11-24 Info: x",
    ],
)
def test_no_known_prefix_is_none(text: str) -> None:
    """A continuation or an unknown line has no framing, whatever stands later in it."""
    assert frame(text) is None


@pytest.mark.parametrize("lead", ["", "x ", "MID 9 Subject '"])
def test_trap_17_a_level_later_in_the_text_is_not_found(lead: str) -> None:
    """`Info: ` inside the text of a line without a known prefix is not its level."""
    assert frame(f"{lead}see Info: ICID 70 TLS success") is None
    framing = frame(f"Wed Jul 20 19:47:40 2005 Warning: {lead}see Info: ICID 70 TLS success")
    assert framing is not None
    assert framing.level == "Warning"


@pytest.mark.parametrize("text", ["continued subject'", "To: x", " Info: ICID 70 close", "(next line of a Warning): Info: x"])
def test_trap_18_a_line_without_prefix_is_a_continuation(text: str) -> None:
    """The rest of a body with a real line feed in it must not be parsed as a body."""
    assert frame(text) is None


def test_trap_23_the_innermost_of_two_stamps_counts() -> None:
    """The relay's stamp is another clock; the appliance's own wins, also when it has no year and the relay's has."""
    framing = frame("2025-11-24T14:22:57Z esa1 ESA: Nov 24 08:00:01 esa2 mail_logs: Info: x")
    assert framing is not None
    assert (framing.year, framing.hour, framing.second, framing.utc_offset_s, framing.host) == (None, 8, 1, None, "esa2")


def test_trap_24_blank_runs() -> None:
    """Padded days and doubled blanks between the pieces are read, blanks of the body are kept."""
    framing = frame("<166>Sep  6 18:24:37  esa1  mail_logs:  Info:  two blanks")
    assert framing is not None
    assert (framing.day, framing.host) == (6, "esa1")
    assert "<166>Sep  6 18:24:37  esa1  mail_logs:  Info:  two blanks"[framing.length :] == " two blanks"


@pytest.mark.parametrize(
    "text",
    [
        "<1>" + "a" * 2**20,
        "Mar 17 18:24:37 " + "a " * 2**19,
        "Mar 17 18:24:37 " + "a: " * 2**18,
        "Mar 17 18:24:37 " * 2**16,
        "<1>1 - b c d e [" + "\\" * 2**20,
        "<1>1 - b c d e " + "[]" * 2**19,
        " " * 2**20,
    ],
    ids=["word", "words", "tags", "stamps", "escapes", "brackets", "blanks"],
)
def test_a_hostile_line_costs_little(text: str) -> None:
    """Only the head is looked at and no pattern runs away: a mebibyte takes milliseconds."""
    begun = time.process_time()
    assert frame(text) is None
    assert time.process_time() - begun < 0.05


def test_only_the_head_is_looked_at() -> None:
    """A level behind the first 512 characters is not found."""
    assert frame("<166>" + "a" * HEAD_CHARS + ": Info: x") is None


@given(st.text())
def test_frame_never_raises(text: str) -> None:
    """Any text is either framed or not."""
    framing = frame(text)
    assert framing is None or 0 <= framing.length <= len(text)


@given(
    st.lists(
        st.sampled_from(
            [
                "<166>",
                "1 ",
                "Mar 17 18:24:37 ",
                "Wed Jul 20 19:47:40 2005 ",
                "2025-11-24T14:22:57Z ",
                "esa1 ",
                "mail_logs: ",
                "[x] ",
                "- ",
                "Info: ",
                "CEF:0|",
                "2001:db8:: ",
            ]
        ),
        max_size=9,
    ),
    st.text(max_size=40),
)
def test_the_framing_depends_on_its_own_characters_only(pieces: list[str], tail: str) -> None:
    """Whatever is framed is framed the same with any other body, so the prefix is a sound cache key."""
    text = "".join(pieces)
    framing = frame(text)
    if framing is None or framing.cef:
        return
    prefix = text[: framing.length]
    if prefix.endswith(" ") and not tail.startswith("CEF:"):
        assert frame(prefix + tail) == framing
