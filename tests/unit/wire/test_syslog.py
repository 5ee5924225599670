"""Where syslog messages end, whatever way their bytes come, and what the core makes of them."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 6.6)

from __future__ import annotations

import json
import random
import time
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esa_tls.core.batch import Batch, Origin
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.wire.syslog import Framing, Limits, Messages, StreamReader, message_of, runs_of

NO_HOST = b"<166>Mar 17 18:24:37 mail_logs: Info: MID 6 ICID 5 From: <someone@example.com>"
WITH_HOST = b"<94>Nov 24 14:22:57 esa1.example.net mail_logs: Info: MID 204841507 queued for delivery"
CRITICAL = b"<166>Mar 17 18:24:37 mail_logs: Critical: Error while sending alert: no route"
FILE_FORM = b"Tue Apr  6 14:38:34 2004 Info: MID 1 RID [0] Response 'queued as 9C8B425DA7'"
SHAPES = (NO_HOST, WITH_HOST, CRITICAL, FILE_FORM)
"""The four shapes of docs/wires.md 6.4."""

INJECTED = b"<166>Mar 17 18:24:37 mail_logs: Info: ICID 9 TLS success protocol TLSv1.2 cipher AES128-SHA"


class Nothing:
    """A core's state before its first line."""

    def get(self, key: bytes) -> bytes | None:
        return None

    def items(self, prefix: bytes) -> Any:
        return iter(())


def counted(*messages: bytes) -> bytes:
    """Messages in octet counting."""
    return b"".join(b"%d %b" % (len(message), message) for message in messages)


def cut(*pieces: bytes, framing: Framing = "auto", max_bytes: int = 64 << 10) -> tuple[Messages, StreamReader]:
    """What a reader makes of a session of these pieces, its end included."""
    reader = StreamReader(Limits(max_message_bytes=max_bytes), framing=framing)
    found = Messages([], [])
    for piece in pieces:
        found.extend(reader.feed(piece))
    found.extend(reader.end())
    return found, reader


def records(messages: Messages, *, trust_host: bool = False, received_s: float = 1_742_234_700.0, **origin: Any) -> list[dict[str, Any]]:
    """All records the core makes of these messages, told to come from 192.0.2.1."""
    pipeline = Pipeline(CoreSettings(max_hold_s=0.0), Nothing(), encodings=("json",), now_s=received_s)
    came = Origin(source="syslog", peer="192.0.2.1", trust_host=trust_host, lossy=False, reorder_window_s=0, **origin)
    pipeline.feed(Batch(runs_of(came, messages), 1, None, received_s), now_s=received_s)
    pipeline.tick(now_s=received_s + 10)
    sealed = pipeline.seal()
    assert sealed is not None
    return [json.loads(line) for row in sealed.rows for _, _, data in row.segments for line in data.decode().splitlines()]


# -- the rows of 6.7 -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", SHAPES, ids=["no_host", "host", "critical", "file"])
def test_S1_every_way_gives_the_core_the_same_line(shape: bytes) -> None:
    """Datagram, LF and octet counting give the same bytes, PRI included."""
    assert message_of(shape + b"\n", Limits()) == (shape, False)
    assert cut(shape + b"\n")[0] == Messages([shape], [])
    assert cut(counted(shape))[0] == Messages([shape], [])
    assert cut(shape + b"\n", framing="lf")[0] == Messages([shape], [])
    assert cut(counted(shape), framing="octet_counting")[0] == Messages([shape], [])


def test_S1_the_core_finds_host_tag_and_level() -> None:
    """Of the four shapes the core takes subscription name and level; the appliance is the peer, or the host where it is trusted."""
    found = Messages(list(SHAPES), [])

    here = records(found)
    assert [record["cisco_esa"].get("log_name") for record in here] == ["mail_logs", "mail_logs", "mail_logs", None]
    assert [record["log"]["level"] for record in here] == ["Info", "Info", "Critical", "Info"]
    assert {record["cisco_esa"]["appliance"] for record in here} == {"192.0.2.1"}
    trusted = records(found, trust_host=True)
    assert sorted(record["cisco_esa"]["appliance"] for record in trusted) == ["192.0.2.1"] * 3 + ["esa1.example.net"]


MIXED = b"11 <13>hello a" + b"<13>b\n" + b"7 <13>c\nd" + b"\n"
MIXED_MESSAGES = [b"<13>hello a", b"<13>b", b"<13>c\nd"]


def test_S2_framing_is_found_out_for_each_frame() -> None:
    """Octet counting and LF take turns in one segment."""
    found, reader = cut(MIXED)

    assert found == Messages(MIXED_MESSAGES, [])
    assert reader.error is None
    assert not reader.inside


def test_S2_byte_by_byte() -> None:
    """The same, each octet on its own."""
    assert cut(*(MIXED[i : i + 1] for i in range(len(MIXED))))[0] == Messages(MIXED_MESSAGES, [])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"0 x", "no_count"),
        (b"012 abc", "no_count"),
        (b"99999999999 x", "no_count"),
        (b"12345678 <13>x", "no_count"),
        (b"1999 Dec 31 23:59:59 esa1 mail_logs: Info: MID 9 x", "no_count"),
        (b"5x", "no_count"),
        (b"2019 Sep 28 16:13:51 esa1 mail [info] maillogs:nopid Info: MID 9 x", "no_count"),
        (b"-1 x", "no_priority"),
        (b" 3 <13>", "no_priority"),
    ],
)
def test_S3_what_is_no_count_is_text(text: bytes, reason: str) -> None:
    """Without a count of one to seven digits, or with a year that looks like one, a frame is text up to LF, and counted as odd."""
    for pieces in ([text + b"\n<13>next\n"], [bytes([octet]) for octet in text + b"\n<13>next\n"]):
        found, reader = cut(*pieces)
        assert found == Messages([text, b"<13>next"], [])
        assert reader.odd == {reason: 1}
        assert reader.error is None


@pytest.mark.parametrize("rest", [b"lo\n<13>next\n", b"0 x\n", b"012 <13>abc", b"5x\n", b"9999999999 <13>x"])
def test_S3_a_wrong_count_ends_the_session(rest: bytes) -> None:
    """What follows a counted message and begins like none shows a wrong count: the reader stops for good, the messages before it stay."""
    for pieces in ([b"5 <13>h" + rest], [b"5 <13>h", *(bytes([octet]) for octet in rest)]):
        found, reader = cut(*pieces)
        assert found == Messages([b"<13>h"], [])
        assert reader.error is not None
        assert reader.error.reason == "no_count"
        assert reader.feed(b"<13>more\n") == Messages([], [])


def test_S3_a_count_that_could_be_a_year() -> None:
    """A count of 1,900 to 2,099 is one when no month follows it."""
    for message in (b"<13>".ljust(1999, b"x"), b"Tue Apr  6".ljust(2004, b"x"), b"Sepia ".ljust(2019, b"x")):
        assert cut(counted(message, b"<13>next"))[0] == Messages([message, b"<13>next"], [])
        assert cut(*(bytes([octet]) for octet in counted(message)))[0] == Messages([message], [])


def test_S3_octet_counting_alone_takes_no_text() -> None:
    """With `framing: octet_counting` a frame without a count is an error, and all that looks like a count is one."""
    year = b"Sep 28".ljust(2019, b"x")
    assert cut(b"3 abc\n3 def" + counted(year), framing="octet_counting")[0] == Messages([b"abc", b"def", year], [])
    found, reader = cut(b"3 abc<13>text\n", framing="octet_counting")
    assert found.lines == [b"abc"]
    assert reader.error is not None


def test_S4_line_ends_are_trimmed_and_empty_lines_skipped() -> None:
    """CRLF, LF, NUL before LF and several of them leave the bare message; nothing comes of empty lines."""
    found, reader = cut(b"\n\r\n<13>a\r\n\n\n<13>b\n<13>c\0\n\0\n<13>d\0\r\n")

    assert found == Messages([b"<13>a", b"<13>b", b"<13>c", b"<13>d"], [])
    assert reader.odd == {}
    assert not reader.inside


def test_S4_line_ends_inside_the_count() -> None:
    """A counted message that holds its own line end (syslog-ng) and one that is followed by a line end (others) are the bare message."""
    assert cut(b"6 <13>a\n" + b"5 <13>b\n" + b"5 <13>c\r\n" + b"6 <13>d\0" + b"1 \n")[0].lines == [b"<13>a", b"<13>b", b"<13>c", b"<13>d"]


def test_S4_NUL_ends_messages_where_no_LF_does() -> None:
    """A session whose messages end with NUL is cut there."""
    assert cut(b"<13>a\0\0<13>b\0<13>c\0")[0] == Messages([b"<13>a", b"<13>b", b"<13>c"], [])


def test_S4_NUL_is_part_of_the_line_where_LF_ends_it() -> None:
    """Once a LF ended a message, a NUL inside a line makes no line of what follows it."""
    found, _ = cut(b"<13>first\n" + b"<13>a Subject 'x\0" + INJECTED + b"'\n<13>last\n")

    assert found.lines == [b"<13>first", b"<13>a Subject 'x\0" + INJECTED + b"'", b"<13>last"]
    assert cut(b"<13>x\0" + INJECTED + b"\n", framing="lf")[0].lines == [b"<13>x\0" + INJECTED]
    assert cut(b"<13>x\ny\0<13>z\0", framing="nul")[0].lines == [b"<13>x\ny", b"<13>z"]


@pytest.mark.parametrize(
    ("sent", "rest"),
    [
        (b"<13>a\n<13>rest", b"<13>rest"),
        (b"<13>a\n<13>rest\r", b"<13>rest"),
        (b"<13>a\n20 <13>rest", b"<13>rest"),
        (b"<13>a\n20", b"20"),
        (b"<13>a\n20 ", b"20 "),
    ],
)
def test_S4_what_has_no_end_comes_out_at_the_end(sent: bytes, rest: bytes) -> None:
    """A sender's last message without its end is a message, marked as not whole."""
    assert cut(sent)[0] == Messages([b"<13>a", rest], [1])


@pytest.mark.parametrize("piece_bytes", [1, 7, 4096, 1 << 20])
def test_S5_a_line_over_the_limit_is_cut_there(piece_bytes: int) -> None:
    """Of 1 MiB without LF the first `max_message_bytes` come out, marked; the next message is whole; nothing more was buffered."""
    long = b"<13>" + b"x" * ((1 << 20) // (16 if piece_bytes == 1 else 1))
    stream = long + b"\n<13>next\n"
    reader = StreamReader(Limits(max_message_bytes=8192))
    found = Messages([], [])
    for at in range(0, len(stream), piece_bytes):
        found.extend(reader.feed(stream[at : at + piece_bytes]))
        assert reader.buffered_bytes <= 8192

    assert found == Messages([long[:8192], b"<13>next"], [0])


@pytest.mark.parametrize("piece_bytes", [1, 1000, 1 << 20])
def test_S5_a_counted_message_over_the_limit_is_cut_there(piece_bytes: int) -> None:
    """The same for a count over the limit: the rest of the message is skipped as it comes, and nothing is reserved because of the count."""
    long = b"<13>" + b"x" * 20_000
    stream = counted(long, b"<13>next") + b"9999999 <13>never complete"
    reader = StreamReader(Limits(max_message_bytes=500))
    found = Messages([], [])
    for at in range(0, len(stream), piece_bytes):
        found.extend(reader.feed(stream[at : at + piece_bytes]))
        assert reader.buffered_bytes <= 500 + 8

    assert found == Messages([long[:500], b"<13>next"], [0])
    assert reader.end() == Messages([b"<13>never complete"], [0])


def test_S5_a_message_of_exactly_the_limit_is_whole() -> None:
    """The limit itself is allowed, one octet more is not."""
    for size, truncated in ((100, []), (101, [0])):
        message = b"<13>".ljust(size, b"x")
        assert cut(message + b"\n", max_bytes=100)[0] == Messages([message[:100]], truncated)
        assert cut(counted(message), max_bytes=100)[0] == Messages([message[:100]], truncated)
        assert message_of(message + b"\r\n", Limits(max_message_bytes=100)) == (message[:100], bool(truncated))


def test_S5_a_cut_message_is_a_run_of_its_own() -> None:
    """Flags belong to runs: whole messages before and behind a cut one do not get its flag, and the order stays."""
    origin = Origin(source="s")
    runs = runs_of(origin, Messages([b"a", b"b", b"c", b"d", b"e"], [1, 2, 4]))

    assert [(run.lines, run.flags) for run in runs] == [
        ([b"a"], ()),
        ([b"b"], ("truncated",)),
        ([b"c"], ("truncated",)),
        ([b"d"], ()),
        ([b"e"], ("truncated",)),
    ]
    assert all(run.origin is origin for run in runs)
    assert runs_of(origin, Messages([], [])) == []


def test_S5_the_record_of_a_cut_line_says_so() -> None:
    """The flag of a cut line reaches its record also when a whole line with the same prefix came before."""
    first, second = records(Messages([NO_HOST, NO_HOST.replace(b"MID 6", b"MID 7")], [1]))

    assert "truncated" not in first["cisco_esa"].get("flags", [])
    assert "truncated" in second["cisco_esa"]["flags"]


def test_S6_bytes_are_kept() -> None:
    """0xff, Latin-1 and a BOM reach the core as they came; the record is valid UTF-8 and has the raw bytes beside it."""
    latin = b"<166>Mar 17 18:24:37 mail_logs: Info: MID 6 Subject 'Gr\xfc\xdfe \xff'"
    bom = b"<22>1 2025-03-17T18:24:37Z esa1 mail_logs - - - \xef\xbb\xbfInfo: MID 7 Subject 'Gr\xc3\xbc\xc3\x9fe'"
    found, _ = cut(latin + b"\n" + counted(bom))
    assert found.lines == [latin, bom]

    first, second = records(found)
    assert first["email"]["subject"] == "Gr��e �"
    assert first["cisco_esa"]["raw_base64"]
    assert second["event"]["original"] == bom.decode()
    assert second["email"]["subject"] == "Grüße"
    assert second["event"]["action"] == "subject"


def test_S6_a_BOM_before_the_priority_is_no_part_of_the_text() -> None:
    """Some senders begin the message with the BOM, counted or not."""
    bom = b"\xef\xbb\xbf" + NO_HOST
    assert cut(counted(bom) + bom + b"\n")[0].lines == [bom, bom]
    assert records(Messages([bom], []))[0]["event"]["action"] == "sender-accepted"


def at_s(text: str) -> float:
    """An ISO time as seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("stamp", "received", "expected"),
    [
        ("Dec 31 23:59:59", "2026-01-01T00:00:01+00:00", "2025-12-31T23:59:59Z"),
        ("Jan  1 00:00:01", "2025-12-31T23:59:59+00:00", "2026-01-01T00:00:01Z"),
        ("Jan  1 00:00:01", "2026-01-01T00:00:02+00:00", "2026-01-01T00:00:01Z"),
        ("Feb 29 12:00:00", "2025-03-01T00:00:00+00:00", "2024-02-29T12:00:00Z"),
        ("Feb 29 12:00:00", "2024-02-29T12:00:01+00:00", "2024-02-29T12:00:00Z"),
    ],
)
def test_S7_the_year_is_the_one_nearest_to_receipt(stamp: str, received: str, expected: str) -> None:
    """A stamp without year gets the year nearest to its receipt, at most a day ahead; 29 February a leap year."""
    line = f"<166>{stamp} mail_logs: Info: MID 6 ICID 5 From: <a@b.example>".encode()

    [record] = records(Messages([line], []), received_s=at_s(received))
    assert record["@timestamp"] == expected
    assert "year_inferred" in record["cisco_esa"]["flags"]


def test_S7_the_zone_is_the_configured_one_and_order_is_that_of_arrival() -> None:
    """Without a zone stamps are UTC; with one they are local, and in the hour that comes twice lines keep the order of arrival."""
    clocks = ("02:55:30", "02:59:59", "02:00:10", "02:05:00", "02:04:59")
    lines = [f"<166>Oct 26 {clocks[i]} mail_logs: Info: MID {i} ICID 5 From: <a@b.example>".encode() for i in range(5)]
    received_s = at_s("2025-10-26T02:00:00+00:00")
    assert records(Messages(lines[:1], []), received_s=received_s)[0]["@timestamp"] == "2025-10-26T02:55:30Z"

    settings_here = CoreSettings(timezone="Europe/Berlin", max_hold_s=0.0)
    pipeline = Pipeline(settings_here, Nothing(), encodings=("json",), now_s=received_s)
    pipeline.feed(Batch(runs_of(Origin(peer="192.0.2.1", lossy=False), Messages(lines, [])), 1), now_s=received_s)
    sealed = pipeline.seal()
    assert sealed is not None
    made = [json.loads(line) for row in sealed.rows for _, _, data in row.segments for line in data.decode().splitlines()]
    assert [record["cisco_esa"]["mid"] for record in made] == [0, 1, 2, 3, 4]
    times = [record["@timestamp"][11:19] for record in made]
    assert times == ["00:55:30", "00:59:59", "01:00:10", "01:05:00", "01:04:59"]


@pytest.mark.parametrize("way", ["escaped over LF", "escaped in a count", "real LF in a count", "real LF in a datagram"])
def test_S8_a_line_inside_a_line_is_no_line(way: str) -> None:
    """A subject that holds a whole log line, behind an escaped LF or a real one that framing keeps, is one record and no event."""
    inner = (b"\\n" if "escaped" in way else b"\n") + INJECTED
    line = b"<166>Mar 17 18:24:37 mail_logs: Info: MID 6 Subject 'x" + inner + b"'"
    if "datagram" in way:
        found = Messages([message_of(line, Limits())[0]], [])
    else:
        found, _ = cut(counted(line) if "count" in way else line + b"\n")
    assert found == Messages([line], [])

    [record] = records(found)
    assert record["event"]["original"] == line.decode()
    assert record["event"]["action"] == "subject"
    assert "connection" not in record["cisco_esa"]


@pytest.mark.parametrize("trust_host", [False, True])
def test_S9_two_appliances_behind_one_relay(trust_host: bool) -> None:
    """Host fields make two appliances of one peer only where they are trusted; else both lines are the peer's."""
    lines = [b"<166>Mar 17 18:24:37 esa%d mail_logs: Info: New SMTP ICID 5 interface Management (192.0.2.9)" % n for n in (1, 2)]

    found = {record["cisco_esa"]["appliance"] for record in records(Messages(lines, []), trust_host=trust_host)}
    assert found == ({"esa1", "esa2"} if trust_host else {"192.0.2.1"})


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(
            b"<22>1 2025-03-17T18:24:37+00:00 esa1 mail_logs - - -  Info: MID 6 ICID 5 From: <a@b.example>",
            id="rsyslog, RFC 3164 in, RFC 5424 out",
        ),
        pytest.param(
            b'<22>1 2025-03-17T18:24:37.000123Z esa1 mail_logs 77 ID47 [x@32473 mid="9"] Info: MID 6 ICID 5 From: <a@b.example>',
            id="rsyslog, structured data",
        ),
        pytest.param(
            b'<13>1 2025-03-17T18:24:37+00:00 vm esa - - [meta sequenceId="1"] '
            b"Mon Mar 17 18:24:37 2025 Info: MID 6 ICID 5 From: <a@b.example>",
            id="syslog-ng, file form inside",
        ),
        pytest.param(
            b'<13>1 2025-03-17T18:24:37.443522+00:00 vm root - - [timeQuality tzKnown="1" isSynced="0"] '
            b"mail_logs: Info: MID 6 ICID 5 From: <a@b.example>",
            id="logger --rfc5424",
        ),
        pytest.param(b"<13>Mar 17 18:24:37 vm root: Info: MID 6 ICID 5 From: <a@b.example>", id="logger --rfc3164"),
        pytest.param(b"<22>Mar 17 18:24:37 esa1 mail_logs[77]: Info: MID 6 ICID 5 From: <a@b.example>", id="tag with pid"),
    ],
)
def test_S10_what_real_peers_send_is_parsed(line: bytes) -> None:
    """Lines as logger(1), rsyslog and syslog-ng wrote them are understood by the core."""
    [record] = records(Messages([line], []))

    assert record["event"]["action"] == "sender-accepted"
    assert record["@timestamp"] == "2025-03-17T18:24:37Z"
    assert record["cisco_esa"]["mid"] == 6


# -- for all streams -------------------------------------------------------------------------------------------------------------
FRAMINGS: tuple[Framing, ...] = ("auto", "octet_counting", "lf", "nul")

streams = st.lists(
    st.one_of(
        st.binary(max_size=12),
        st.sampled_from(
            [
                b"\n",
                b"\r\n",
                b"\0",
                b"<13>",
                b"5 <13>x",
                b"8 <13>",
                b"12",
                b"2019 Sep 28",
                b"1999 ",
                b"9999999 <",
                b"99999999 <",
                b"0 ",
                b" ",
                b"\xef\xbb\xbf",
            ]
        ),
        st.binary(min_size=1, max_size=30).map(lambda data: counted(b"<13>" + data)),
        st.binary(max_size=30).map(lambda data: b"<13>" + data + b"\n"),
    ),
    max_size=20,
).map(b"".join)


@settings(max_examples=400)
@given(stream=streams, framing=st.sampled_from(FRAMINGS), seed=st.integers(0, 1 << 30), max_bytes=st.sampled_from([1, 8, 20, 1000]))
def test_any_division_gives_the_same_messages(stream: bytes, framing: Framing, seed: int, max_bytes: int) -> None:
    """However the bytes are divided: the same messages, the same marks, the same error, the same count of odd frames."""
    whole, reader = cut(stream, framing=framing, max_bytes=max_bytes)
    chance = random.Random(seed)
    pieces, at = [], 0
    while at < len(stream):
        size = chance.choice((1, 1, 2, 5, 30))
        pieces.append(stream[at : at + size])
        at += size

    divided, other = cut(*pieces, framing=framing, max_bytes=max_bytes)
    assert divided == whole
    assert (other.error and other.error.reason) == (reader.error and reader.error.reason)
    assert other.odd == reader.odd


@settings(max_examples=300)
@given(pieces=st.lists(st.one_of(st.binary(max_size=200), streams), max_size=12), framing=st.sampled_from(FRAMINGS))
def test_nothing_is_buffered_without_bound_and_nothing_raises(pieces: list[bytes], framing: Framing) -> None:
    """Whatever comes: no exception, at most the limit and a count's digits are kept, no message is longer than the limit or empty."""
    reader = StreamReader(Limits(max_message_bytes=64), framing=framing)
    found = Messages([], [])
    for piece in pieces:
        found.extend(reader.feed(piece))
        assert reader.buffered_bytes <= 64 + 8
    found.extend(reader.end())

    assert all(0 < len(line) <= 64 for line in found.lines)
    assert not any(line.endswith((b"\n", b"\r", b"\0")) for line in found.lines)
    assert sorted(set(found.truncated)) == found.truncated
    assert all(position < len(found.lines) for position in found.truncated)


@given(
    messages=st.lists(
        st.tuples(st.binary(max_size=60).map(lambda data: (b"<13>" + data).rstrip(b"\r\n\0")), st.booleans()),
        max_size=12,
    )
)
def test_what_is_framed_well_comes_back(messages: list[tuple[bytes, bool]]) -> None:
    """Messages framed by count (any bytes) or by LF (none inside) come back as they were, in their order."""
    messages = [
        (message.replace(b"\n", b"/").replace(b"\0", b"/") if not by_count else message, by_count) for message, by_count in messages
    ]
    stream = b"".join(counted(message) if by_count else message + b"\n" for message, by_count in messages)

    found, reader = cut(stream)
    assert found == Messages([message for message, _ in messages], [])
    assert reader.error is None


def test_many_small_frames_cost_no_more_than_their_bytes() -> None:
    """A reader's work grows with the bytes, not with their square: 16 times as many frames take far less than 160 times as long."""

    def cost_s(data: bytes) -> float:
        best = 1e9
        for _ in range(3):
            began_s = time.perf_counter()
            StreamReader().feed(data)
            best = min(best, time.perf_counter() - began_s)
        return best

    for frame in (b"a\0", b"a\n", b"1 <", b"5 x"):
        assert cost_s(frame * 32_000) < 160 * max(cost_s(frame * 2_000), 1e-4)
