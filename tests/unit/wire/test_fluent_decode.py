"""What is in a frame: options, compression, metadata, group markers, raw bytes, bad entries, times, syslog pieces."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 1.11)

from __future__ import annotations

import hashlib
import math

import msgpack
import pytest
from tests.unit.wire.fluent_cases import (
    CHUNK,
    ENTRIES_AB,
    ENTRY_A,
    ENTRY_B,
    STAMP,
    STAMP_S,
    TAIL,
    event_time,
    every_way,
    lines_of,
    members,
    pack,
    packed_frame,
    str32,
    zstd_frames,
)

from esa_tls.errors import FrameTooLarge
from esa_tls.wire.fluent import BadFrame, FrameReader, Limits, PayloadTooLarge, UnreadablePayload
from esa_tls.wire.fluent_decode import ForwardSettings, FrameDecoder
from esa_tls.wire.fluent_encode import ack
from esa_tls.wire.fluent_values import EntryTimes, mode_of, text_of, time_of

GZIP_VECTOR = bytes.fromhex(
    "1f8b08000000000002039b749d21f4cdb31f0c40d0b838273f7d61220080b8e9a812000000"
    "1f8b08000000000002039b749d21f4cdb39f0c40d0b838273f7d61120055a545aa12000000"
)
ZSTD_VECTOR = bytes.fromhex("28b52ffd2024e50000a092d70055ece6f80000000081a36c6f67a161f9620200600b35cc30")


@pytest.mark.parametrize(
    ("wire", "reply"),
    [
        (b"\xb8" + CHUNK, "81a361636bb841414543417751464267634943516f4c4441304f44773d3d"),
        (b"\xb9" + CHUNK + b"\n", "81a361636bb941414543417751464267634943516f4c4441304f44773d3d0a"),
        (b"\xd9\x20" + b"0123456789abcdef" * 2, "81a361636bd920" + (b"0123456789abcdef" * 2).hex()),
        (b"\xc4\x10" + bytes(range(16)), "81a361636bc410" + bytes(range(16)).hex()),
        (b"\xda\x00\x03abc", "81a361636bda0003616263"),
    ],
    ids=["F2", "F3_newline", "F4_hex", "bin", "long_header"],
)
def test_F02_F03_F04_the_ack_repeats_the_chunk_byte_for_byte(wire: bytes, reply: str) -> None:
    """F2, F3, F4: whatever the chunk id is (text, text and newline, hex, bin), the ack holds the same bytes of the same type."""
    data = b"\x94\xa1t\xce\x55\xec\xe6\xf8" + pack({"log": "hi"}) + b"\x81\xa5chunk" + wire
    frames, error = every_way(data)
    assert error is None
    assert ack(frames[0]["chunk"]).hex() == reply


@pytest.mark.parametrize(
    ("payload", "compressed", "lines"),
    [
        (GZIP_VECTOR, "gzip", [b"a", b"b"]),
        (members(ENTRIES_AB, b"", ENTRIES_AB), "gzip", [b"a", b"b"] * 2),
        (ZSTD_VECTOR, "zstd", None),
        (zstd_frames(b"\x92" + ENTRY_A, b"\x92" + ENTRY_B, b"\x92" + ENTRY_A), "zstd", [b"a", b"b", b"a"]),
        (ENTRIES_AB, "text", [b"a", b"b"]),
        (ENTRIES_AB, "", [b"a", b"b"]),
        (ENTRIES_AB, None, [b"a", b"b"]),
        (zstd_frames(ENTRIES_AB), "gzip", [b"a", b"b"]),
        (members(ENTRIES_AB), "zstd", [b"a", b"b"]),
        (members(ENTRIES_AB), "text", [b"a", b"b"]),
    ],
)
def test_F06_compressed_payloads(payload: bytes, compressed: str | None, lines: list[bytes] | None) -> None:
    """F6: gzip members in a str32, zstd frames, `text`; where option and first bytes disagree, the bytes win (docs/wires.md 1.8 item 4)."""
    assert lines_of(packed_frame(payload, {"compressed": compressed})) == (lines or [b"a", b"b"])


@pytest.mark.parametrize(
    ("payload", "compressed"),
    [
        (ENTRIES_AB, "lz4"),
        (ENTRIES_AB, "gzip"),
        (ENTRIES_AB, "zstd"),
        (ENTRIES_AB, 7),
        (members(ENTRIES_AB)[:-1], "gzip"),
        (members(ENTRIES_AB)[:-9] + b"12345678" + b"\0", "gzip"),
        (members(ENTRIES_AB) + b"junk", "gzip"),
        (members(ENTRIES_AB, ENTRIES_AB)[:-30], "gzip"),
        (zstd_frames(ENTRIES_AB)[:-1], "zstd"),
        (zstd_frames(ENTRIES_AB, ENTRIES_AB)[:-20], "zstd"),
        (zstd_frames(ENTRIES_AB) + b"junk", "zstd"),
        (ZSTD_VECTOR[:4], "zstd"),
    ],
)
def test_F06_a_payload_that_does_not_unpack_is_an_error_with_its_chunk(payload: bytes, compressed: object) -> None:
    """F6, 1.9: unknown compression, damage and cut-off streams are refused whole, and the error says which frame it was."""
    data = packed_frame(payload, {"compressed": compressed, "chunk": "abc"})
    frames, error = every_way(data)
    assert frames == []
    assert isinstance(error, UnreadablePayload)
    assert (error.reason, error.tag, error.chunk, error.payload) == ("compression", "t", b"\xa3abc", data)
    assert len(error.key) == 16


def test_F07_what_unpacks_to_more_than_the_cap_is_refused() -> None:
    """F7: one byte over the cap is too much, the cap itself is not; the error is both an unreadable payload and too large."""
    entries = ENTRIES_AB * 100
    limits = Limits(max_decompressed_bytes=len(entries))
    for payload in (members(entries), zstd_frames(entries), members(entries[:1000], entries[1000:])):
        assert len(lines_of(packed_frame(payload, {"compressed": "gzip"}), limits=limits)) == 200
        frames, error = every_way(packed_frame(payload), limits=Limits(max_decompressed_bytes=len(entries) - 1))
        assert frames == []
        assert isinstance(error, PayloadTooLarge)
        assert isinstance(error, FrameTooLarge)
        assert isinstance(error, UnreadablePayload)
        assert error.reason == "decompressed_size"


def test_F08_entries_with_and_without_metadata_in_one_frame() -> None:
    """F8: `[time, record]`, `[[time, {}], record]` and `[[time, {...}], record]` give equal lines; the metadata is kept."""
    record = {"log": "x"}
    entries = [[event_time(1), record], [[event_time(1), {}], record], [[event_time(1), {"otlp": {"severity_number": 9}}], record]]
    for data in (pack(["t", entries]), packed_frame(b"".join(map(pack, entries)), {"size": 3})):
        frames, error = every_way(data)
        assert error is None
        assert frames[0]["lines"] == [b"x"] * 3
        assert frames[0]["times"] == [1.0] * 3
        assert frames[0]["metadata"] == [None, {}, {b"otlp": {b"severity_number": 9}}]


def _marked(start: bytes, end: bytes) -> bytes:
    resource = pack({"resource": {"attributes": {"host.name": "esa1", "n": 1}}, "scope": {}})
    entries = [
        b"\x92\x92" + start + pack({"schema": "otlp", "resource_id": 0, "scope_id": 0}) + resource,
        b"\x92" + ENTRY_A,
        b"\x92\x92" + STAMP + b"\x80" + pack({"log": "b"}),
        b"\x92\x92" + end + b"\x80\x80",
        b"\x92" + ENTRY_B,
    ]
    return b"".join(entries)


@pytest.mark.parametrize("ext", ["d700", "c70800"])
def test_F09_group_markers_are_no_lines_and_lend_their_resource(ext: str) -> None:
    """F9: start and end markers (`size` counts them) give no events dated 2106; entries between them carry the resource."""
    body = _marked(bytes.fromhex(ext + "ffffffff00000000"), bytes.fromhex(ext + "fffffffe00000000"))
    resource = {b"attributes": {b"host.name": b"esa1", b"n": 1}}
    for data in (packed_frame(body, {"size": 5, "chunk": "abc"}), b"\x93\xa1t\x95" + body + pack({"size": 5, "chunk": "abc"})):
        frames, error = every_way(data)
        assert error is None
        assert frames[0]["lines"] == [b"a", b"b", b"b"]
        assert frames[0]["resources"] == [resource, resource, None]
        assert max(frames[0]["times"]) < 2_000_000_000
        assert frames[0]["rejected"] == []


def test_F09_a_marker_is_no_line_whatever_its_record_holds() -> None:
    """The stamp makes the marker: a record with a line's key in it is still none, also when all records look alike."""
    entries = [[event_time(0xFFFFFFFF), {"log": "start"}], [1, {"log": "a"}], [event_time(0xFFFFFFFE), {"log": "end"}]]
    assert lines_of(pack(["t", entries])) == [b"a"]
    mixed = [*entries, [1, {"message": "b"}]]
    assert lines_of(pack(["t", mixed])) == [b"a", b"b"]


def test_F09_a_group_does_not_reach_into_the_next_frame() -> None:
    """docs/wires.md 1.8 item 5: group state is per frame, so an unclosed group ends with it."""
    body = _marked(bytes.fromhex("d700ffffffff00000000"), STAMP)
    frames, error = every_way(packed_frame(body) + packed_frame(ENTRIES_AB))
    assert error is None
    assert frames[1]["resources"] is None


def test_F09_other_far_stamps_are_times() -> None:
    """Only the two exact stamps are markers: one second earlier, or with nanoseconds, an entry is a line."""
    entries = [[event_time(0xFFFFFFFD), {"log": "a"}], [event_time(0xFFFFFFFF, 1), {"log": "b"}]]
    frames, _ = every_way(pack(["t", entries]))
    assert frames[0]["lines"] == [b"a", b"b"]
    assert frames[0]["times"] == pytest.approx([0xFFFFFFFD, 0xFFFFFFFF + 1e-9])


@pytest.mark.parametrize("signal", [1, 2, 3])
def test_F10_other_signals_have_no_lines_and_want_their_ack(signal: int) -> None:
    """F10: metrics and traces are never read as log entries, in the bin form and in the list form of `fluentd_compat`."""
    for payload in (pack(b"\x80\x81cmetrics"), pack([[1, [1, 2]]])):
        frames, error = every_way(b"\x93\xa1t" + payload + pack({"fluent_signal": signal, "chunk": "abc"}))
        assert error is None
        assert (frames[0]["signal"], frames[0]["lines"], frames[0]["chunk"]) == (signal, [], b"\xa3abc")


def test_F11_bytes_that_are_no_utf8_stay_as_they_are() -> None:
    """F11: a value of bytes 61 ff 62 gives the same line as str and as bin, with the key as str and as bin."""
    for key in (b"\xa3log", b"\xd9\x03log", b"\xc4\x03log"):
        for value in (b"\xa3a\xffb", b"\xc4\x03a\xffb", b"\xdb\x00\x00\x00\x03a\xffb"):
            record = b"\x81" + key + value
            for data in (
                b"\x93\xa1t\xce\x55\xec\xe6\xf8" + record,
                b"\x92\xa1t\x92\x92\x01" + record + b"\x92\x01" + record,
                packed_frame(b"\x92\x01" + record),
            ):
                assert set(lines_of(data)) == {b"a\xffb"}


def test_F11_a_tag_that_is_no_utf8_stays_distinguishable() -> None:
    """Undecodable tags do not fall together: tags can name appliances."""
    tags = [every_way(b"\x92" + tag + b"\x90")[0][0]["tag"] for tag in (b"\xa2t\xff", b"\xa2t\xfe", b"\xc4\x02t\xff")]
    assert tags[0] != tags[1]
    assert tags[0] == tags[2]


def test_F16_the_same_frame_has_the_same_key() -> None:
    """F16: a frame sent again has the same key; another tag, chunk or payload has another; without a chunk there is none."""

    def key(tag: str, line: str, chunk: str | None) -> bytes | None:
        option: dict[str, object] = {} if chunk is None else {"chunk": chunk}
        frame = every_way(pack([tag, [[1, {"log": line}]], option]))[0][0]
        found: bytes | None = frame["key"]
        return found

    first = key("t", "x", "abc")
    assert first is not None
    assert len(first) == 16
    assert key("t", "x", "abc") == first
    assert len({first, key("u", "x", "abc"), key("t", "y", "abc"), key("t", "x", "abd"), key("ta", "x", "bc")}) == 5
    assert key("t", "x", None) is None


def test_F16_the_key_does_not_depend_on_headers_or_other_options() -> None:
    """The payload counts, not whether it came as bin or str, nor the options beside the chunk."""
    keys = {
        every_way(data)[0][0]["key"]
        for data in (
            b"\x93\xa1t" + str32(ENTRIES_AB) + pack({"chunk": "abc"}),
            b"\x93\xa1t" + pack(ENTRIES_AB) + pack({"size": 2, "chunk": "abc"}),
            b"\x93\xd9\x01t" + pack(ENTRIES_AB) + pack({"chunk": b"abc"}),
        )
    }
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (pack([1, 5]), "record_not_map"),
        (pack([1, None]), "record_not_map"),
        (pack([1, [1]]), "record_not_map"),
        (pack([1]), "entry_shape"),
        (pack([]), "entry_shape"),
        (pack([1, {"log": "x"}, 3]), "entry_shape"),
        (pack("text"), "entry_shape"),
        (b"\xc0", "entry_shape"),
        (pack([1, {}]), "no_line"),
        (pack([1, {"other": "x"}]), "no_line"),
        (pack([1, {"log": 5}]), "no_line"),
        (pack([1, {"log": None}]), "no_line"),
        (pack([1, {"log": {"nested": 1}}]), "no_line"),
        (pack([1, {b"other": 1, 5: 6}]), "no_line"),
    ],
)
def test_an_entry_without_a_line_is_rejected_and_the_others_kept(entry: bytes, reason: str) -> None:
    """1.9: such an entry becomes a dead letter with its own bytes and a reason; the frame goes on and is acknowledged."""
    body = b"\x92" + ENTRY_A + entry + b"\x92" + ENTRY_B
    for data in (b"\x93\xa1t\x93" + body + b"\x80", packed_frame(body), packed_frame(body, {"size": 3})):
        frames, error = every_way(data)
        assert error is None
        assert frames[0]["lines"] == [b"a", b"b"]
        assert frames[0]["rejected"] == [(reason, entry)]
        assert frames[0]["times"] == [STAMP_S, STAMP_S + 1]


@pytest.mark.parametrize("options", [{}, {"size": 2}, {"size": 3}, {"size": 1}, {"size": -1}, {"size": 1 << 40}, {"size": "x"}])
def test_the_size_option_is_only_a_hint(options: dict[str, object]) -> None:
    """1.3: a missing, wrong or absurd `size` changes nothing."""
    assert lines_of(packed_frame(ENTRIES_AB, options)) == [b"a", b"b"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (ENTRIES_AB[:-1], "entries_cut_off"),
        (ENTRIES_AB + b"\x92", "entries_cut_off"),
        (ENTRIES_AB + b"\xc1", "entries_not_msgpack"),
        (ENTRIES_AB + b"\x91" * 100 + b"\xc0", "entries_too_deep"),
    ],
)
def test_packed_entries_that_do_not_end_well_refuse_the_frame(body: bytes, reason: str) -> None:
    """docs/wires.md 1.8 item 10: one frame is one transaction; good entries before the damage are not taken alone."""
    for options in ({"chunk": "abc"}, {"chunk": "abc", "size": 2}, {"chunk": "abc", "size": 3}):
        frames, error = every_way(packed_frame(body, options))
        assert frames == []
        assert isinstance(error, UnreadablePayload)
        assert (error.reason, error.chunk) == (reason, b"\xa3abc")


def test_more_entries_than_the_limit_are_refused() -> None:
    """`max_entries` holds in each mode."""
    limits = Limits(max_entries=2)
    body = ENTRIES_AB + b"\x92" + ENTRY_A
    assert lines_of(packed_frame(ENTRIES_AB), limits=limits) == [b"a", b"b"]
    for data in (packed_frame(body), packed_frame(body, {"size": 3})):
        assert isinstance(every_way(data, limits=limits)[1], PayloadTooLarge)
    for header in (b"\x93", b"\xdc\x00\x03"):
        assert isinstance(every_way(b"\x92\xa1t" + header + body, limits=limits)[1], FrameTooLarge)


@pytest.mark.parametrize(
    ("head", "time_s"),
    [
        (pack(STAMP_S), STAMP_S),
        (pack(5), 5.0),
        (pack(0xFFFFFFFF), 4294967295.0),
        (STAMP, STAMP_S),
        (pack([event_time(7, 500_000_000), {"a": 1}]), 7.5),
        (pack([7, {}]), 7.0),
        (pack([7.25, {}, 3]), 7.25),
        (b"\xdc\x00\x02\x07\x80", 7.0),
        (pack(event_time(7, 1_000_000_000)), None),
        (pack(event_time(0)), None),
        (pack(0), None),
        (pack(-5), None),
        (pack(1 << 32), None),
        (pack(math.nan), None),
        (pack(math.inf), None),
        (pack(-1.5), None),
        (pack(None), None),
        (pack(True), None),
        (pack("12"), None),
        (pack([]), None),
        (pack({}), None),
        (pack(msgpack.ExtType(1, b"12345678")), None),
        (pack(msgpack.ExtType(0, b"1234")), None),
        (pack([msgpack.ExtType(1, b"12345678"), {}]), None),
        (pack(msgpack.Timestamp(5, 0)), None),
    ],
)
def test_times_are_read_or_called_bad_and_the_line_stays(head: bytes, time_s: float | None) -> None:
    """1.2, 1.9: int, float and EventTime in both forms, bare or with metadata; anything else is None, and the line is kept."""
    assert time_of(head) == time_s
    frames, error = every_way(b"\x92\xa1t\x91\x92" + head + pack({"log": "x"}))
    assert error is None
    assert (frames[0]["lines"], frames[0]["times"]) == ([b"x"], [time_s])


def test_times_are_a_sequence() -> None:
    """`EntryTimes` is sliced, indexed and extended like the list of lines beside it."""
    times = EntryTimes([pack(1), pack(2), pack(3)])
    assert (len(times), times[-1], list(times[1:]), list(times)) == (3, 3.0, [2.0, 3.0], [1.0, 2.0, 3.0])
    times.extend(EntryTimes([STAMP]))
    assert times[3] == STAMP_S
    with pytest.raises(IndexError):
        times[4]


def test_the_first_key_of_the_list_wins() -> None:
    """docs/wires.md 1.8 item 8: `log`, `message`, `MESSAGE` in this order, each record for itself; the list is a setting."""
    records = [{"message": "m", "log": "l"}, {"MESSAGE": "M"}, {"message": "m", "MESSAGE": "M"}, {"log": 1, "message": "m"}]
    data = pack(["t", [[1, record] for record in records]])
    assert lines_of(data) == [b"l", b"M", b"m", b"m"]
    for i, line in enumerate([b"l", b"M", b"m", b"m"]):
        assert lines_of(pack(["t", [[1, records[i]]] * 2])) == [line] * 2
    settings = ForwardSettings(record_keys=("MESSAGE", "text", "log"))
    assert lines_of(pack(["t", [[1, {"text": "t", "log": "l"}], [1, {"MESSAGE": "M", "text": "t"}]]]), settings=settings) == [b"t", b"M"]


def test_the_line_end_is_not_part_of_the_line() -> None:
    """Docker's json-file lines end in a line feed: one line end is taken off, nothing else is."""
    values = ["a\n", "b\r\n", "c", "d\n\n", "\n", "e\nf", " g "]
    expected = [b"a", b"b", b"c", b"d\n", b"", b"e\nf", b" g "]
    assert lines_of(pack(["t", [[1, {"log": value}] for value in values]])) == expected
    assert lines_of(pack(["t", [[1, {"log": value}] for value in values] + [[1, {"message": "x"}]]])) == [*expected, b"x"]


def test_the_appliance_is_read_from_its_key() -> None:
    """3.10: `record:appliance`, under any configured key, as str or bin; empty or no string is none."""
    values: list[object] = ["esa1", b"esa2", "", None, 5, b"\xff"]
    data = pack(["t", [[1, {"log": "x", "appliance": value}] for value in values] + [[1, {"log": "x"}]]])
    assert every_way(data)[0][0]["appliances"] == ["esa1", "esa2", None, None, None, "\\xff", None]
    mixed = pack(["t", [[1, {"log": "x", "appliance": "esa1"}], [1, {"message": "x"}]]])
    assert every_way(mixed)[0][0]["appliances"] == ["esa1", None]
    other = ForwardSettings(appliance_key="box")
    assert every_way(pack(["t", [[1, {"log": "x", "box": "esa1"}]]]), settings=other)[0][0]["appliances"] == ["esa1"]
    assert every_way(pack(["t", [[1, {"log": "x", "appliance": "esa1"}]]]), settings=other)[0][0]["appliances"] is None
    none = ForwardSettings(appliance_key=None)
    assert every_way(data, settings=none)[0][0]["appliances"] is None


SYSLOG = [
    (
        {"pri": "166", "time": "Mar 17 18:24:37", "host": "mail_logs:", "ident": "Info", "message": "MID 6 done"},
        b"<166>Mar 17 18:24:37 mail_logs: Info: MID 6 done",
    ),
    (
        {"pri": "94", "time": "Nov 24 14:22:57", "host": "esa1", "ident": "mail_logs", "message": "Info: MID 6 done"},
        b"<94>Nov 24 14:22:57 esa1 mail_logs: Info: MID 6 done",
    ),
    ({"pri": "94", "host": "esa1", "ident": "mail_logs", "message": "Info: x"}, b"<94>2015-09-07T01:23:04+00:00 esa1 mail_logs: Info: x"),
    ({"host": "mail_logs:", "ident": "Info", "message": "x\n"}, b"2015-09-07T01:23:04+00:00 mail_logs: Info: x"),
    ({"ident": "mail_logs", "message": "Info: x"}, b"2015-09-07T01:23:04+00:00 mail_logs: Info: x"),
    ({"pri": "9999", "time": "Mar 17 18:24:37", "ident": "m", "message": "Info: x"}, b"Mar 17 18:24:37 m: Info: x"),
]


@pytest.mark.parametrize(("record", "line"), SYSLOG)
def test_pieces_of_a_syslog_parser_are_put_together_again(record: dict[str, str], line: bytes) -> None:
    """6.6: host, ident and message become a line again, the swap of lines without a host undone, and it is marked."""
    entry = b"\x92" + STAMP + pack(record)
    bin_keys = b"\x92" + STAMP + pack({key.encode(): value for key, value in record.items()})
    for data in (b"\x92\xa1t\x91" + entry, packed_frame(entry), b"\x92\xa1t\x91" + bin_keys, b"\x93\xa1t" + entry[1:]):
        frames, error = every_way(data)
        assert error is None
        assert frames[0]["lines"] == [line]
        assert frames[0]["reconstructed"] == [True]


def test_pieces_without_any_time_give_the_body() -> None:
    """6.6: host and log name are understood only behind a time or a priority, so without one the body stands alone."""
    swapped = {"host": "mail_logs:", "ident": "Info", "message": "x"}
    assert lines_of(pack(["t", [[None, swapped]]])) == [b"Info: x"]
    assert lines_of(pack(["t", [[None, {"host": "esa1", "ident": "mail_logs", "message": "Info: x"}]]])) == [b"Info: x"]


def test_nanoseconds_of_the_entry_stand_in_the_rebuilt_time() -> None:
    """The rebuilt stamp is the entry's own time, exactly."""
    data = pack(["t", [[event_time(1441582184, 5), {"ident": "mail_logs", "message": "Info: x"}]]])
    assert lines_of(data) == [b"2015-09-06T23:29:44.000000005+00:00 mail_logs: Info: x"]


@pytest.mark.parametrize(
    "full",
    [
        "<166>Mar 17 18:24:37 mail_logs: Info: x",
        "Mar  7 18:24:37 esa1 mail_logs: Info: x",
        "Tue Apr  6 14:38:34 2004 Info: x",
        "2025-11-24T14:22:57.123+00:00 esa1 mail_logs: Info: x",
        "<22>1 2025-11-24T14:22:57Z esa1 mail_logs - - - Info: x",
        "2019 Sep 28 16:13:51 esa1 mail [info] maillogs:nopid Info: x",
    ],
)
def test_a_full_line_beside_the_pieces_is_taken_as_it_is(full: str) -> None:
    """6.6: `log` or `message` that still looks like a whole line wins over rebuilding; a raw key wins over both."""
    frames, _ = every_way(
        pack(["t", [[1, {"host": "h", "ident": "i", "message": full}], [1, {"ident": "i", "log": "m", "message": full}]]])
    )
    assert frames[0]["lines"] == [full.encode()] * 2
    assert frames[0]["reconstructed"] is None
    settings = ForwardSettings(raw_key="raw")
    record = {"host": "h", "ident": "i", "message": full, "raw": b"<1>raw\n"}
    frames, _ = every_way(pack(["t", [[1, record]]]), settings=settings)
    assert (frames[0]["lines"], frames[0]["reconstructed"]) == ([b"<1>raw"], None)
    frames, _ = every_way(pack(["t", [[1, record], [1, {"log": "plain"}]]]), settings=settings)
    assert frames[0]["lines"] == [b"<1>raw", b"plain"]


def test_a_host_key_alone_rebuilds_nothing() -> None:
    """Only `ident` says that a syslog parser was there: file lines with an added `host` stay as they are."""
    frames, _ = every_way(pack(["t", [[1, {"log": "Info: x", "host": "esa1"}]]]))
    assert (frames[0]["lines"], frames[0]["reconstructed"]) == ([b"Info: x"], None)


def test_one_key_may_have_two_meanings() -> None:
    """A configuration may name the same key twice, e.g. the appliance from `host`."""
    settings = ForwardSettings(appliance_key="host")
    frames, _ = every_way(pack(["t", [[1, {"log": "x", "host": "esa1"}]]]), settings=settings)
    assert (frames[0]["lines"], frames[0]["appliances"]) == ([b"x"], ["esa1"])


def test_very_wide_odd_records_are_rejected() -> None:
    """A record that needs the slow reader is not walked over a million keys."""
    wide = b"\x92\x01\xdf\x00\x00\x20\x00" + b"".join(b"\xc4\x02" + i.to_bytes(2, "big") + b"\xc0" for i in range(0x2000))
    reader, decoder = FrameReader(), FrameDecoder()
    frame = decoder.decode(reader.feed(b"\x92\xa1t\x91" + wide)[0])
    assert [rejected.reason for rejected in frame.rejected] == ["record_too_wide"]


def test_unpacking_of_resource_and_metadata_is_bounded() -> None:
    """A marker's resource or a metadata map too large to be real is left out, not made into objects."""
    big = {"resource": {"a": ["x"] * 70_000}}
    body = b"\x92\x92" + bytes.fromhex("d700ffffffff00000000") + b"\x80" + pack(big) + b"\x92" + ENTRY_A
    reader, decoder = FrameReader(), FrameDecoder()
    frame = decoder.decode(reader.feed(b"\x92\xa1t\x92" + body)[0])
    assert (frame.lines, frame.resources) == ([b"a"], None)
    frame = decoder.decode(reader.feed(pack(["t", [[[1, {"k": ["x"] * 70_000}], {"log": "x"}]]]))[0])
    assert (frame.lines, frame.metadata(0)) == ([b"x"], None)


def test_a_handshake_message_is_framed_but_is_no_frame_of_lines() -> None:
    """HELO and PING are root arrays: the reader cuts them out whole, so a handshake can take them before anything is decoded."""
    ping = pack(["PING", "client.example", "salt", "0" * 128, "", ""])
    reader = FrameReader()
    raws = reader.feed(ping + TAIL)
    assert [raw.data for raw in raws] == [ping, TAIL]
    with pytest.raises(BadFrame):
        FrameDecoder().decode(raws[0])


def test_key_is_a_hash_of_tag_chunk_and_payload() -> None:
    """The key's bytes are part of the journal's format: blake2b-128 over length-prefixed tag and chunk, then the payload."""
    frame = every_way(packed_frame(ENTRIES_AB, {"chunk": "abc"}))[0][0]
    digest = hashlib.blake2b(b"\0\0\0\x01t\0\0\0\x03abc" + ENTRIES_AB, digest_size=16).digest()
    assert frame["key"] == digest


def test_small_readers() -> None:
    """`text_of` takes every str and bin header, `mode_of` every type byte."""
    for size in (0, 5, 31, 32, 255, 256, 70000):
        assert text_of(pack("x" * size)) == b"x" * size
        assert text_of(pack(b"x" * size)) == b"x" * size
    assert text_of(pack(5)) is None
    modes = {first: mode_of(first) for first in range(256)}
    assert {first for first, mode in modes.items() if mode == "forward"} == {*range(0x90, 0xA0), 0xDC, 0xDD}
    assert {first for first, mode in modes.items() if mode == "packed"} == {*range(0xA0, 0xC0), 0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB}
    assert {first for first, mode in modes.items() if mode is None} == {*range(0x80, 0x90), 0xC1, 0xC2, 0xC3, 0xDE, 0xDF}
