"""Framing: `FrameReader` cuts the stream, refuses early, and never does the same work twice."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 1.11)

from __future__ import annotations

import sys
import tracemalloc
from types import FrameType
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.wire.fluent_cases import ENTRIES_AB, ENTRY_A, ENTRY_B, STAMP, STAMP_S, TAIL, every_way, lines_of, pack, packed_frame, read

from esa_tls.errors import FrameTooLarge, WireError
from esa_tls.wire.fluent import BadFrame, FrameReader, Limits, Skipper
from esa_tls.wire.fluent_decode import FrameDecoder

SHAPES = {
    "message_int_time": (bytes.fromhex("93a86573612e6d61696cce55ece6f881a36c6f67a26869"), [b"hi"], [STAMP_S]),
    "message_event_time": (bytes.fromhex("93a86573612e6d61696cd70055ece6f80000000181a36c6f67a26869"), [b"hi"], [STAMP_S + 1e-9]),
    "message_ext8_time": (bytes.fromhex("93a86573612e6d61696cc7080055ece6f80000000181a36c6f67a26869"), [b"hi"], [STAMP_S + 1e-9]),
    "message_float_time": (b"\x93\xa1t" + pack(STAMP_S) + pack({"log": "hi"}), [b"hi"], [STAMP_S]),
    "message_option_nil": (b"\x94\xa1t\xce\x55\xec\xe6\xf8" + pack({"log": "hi"}) + b"\xc0", [b"hi"], [STAMP_S]),
    "message_option_empty": (b"\x94\xa1t\xce\x55\xec\xe6\xf8" + pack({"log": "hi"}) + b"\x80", [b"hi"], [STAMP_S]),
    "forward": (b"\x93\xa1t\x92\x92" + ENTRY_A + b"\x92" + ENTRY_B + pack({"size": 2}), [b"a", b"b"], [STAMP_S, STAMP_S + 1]),
    "forward_no_option": (b"\x92\xa1t\x92\x92" + ENTRY_A + b"\x92" + ENTRY_B, [b"a", b"b"], [STAMP_S, STAMP_S + 1]),
    "forward_array16": (b"\x92\xa1t\xdc\x00\x02\x92" + ENTRY_A + b"\x92" + ENTRY_B, [b"a", b"b"], [STAMP_S, STAMP_S + 1]),
    "forward_array32": (b"\x92\xa1t\xdd\x00\x00\x00\x02\x92" + ENTRY_A + b"\x92" + ENTRY_B, [b"a", b"b"], [STAMP_S, STAMP_S + 1]),
    "packed_bin8": (bytes.fromhex("93a174c424") + ENTRIES_AB + pack({"size": 2}), [b"a", b"b"], [STAMP_S, STAMP_S + 1]),
    "packed_str32_text": (
        bytes.fromhex("93a174db00000024") + ENTRIES_AB + pack({"size": 2, "compressed": "text"}),
        [b"a", b"b"],
        [STAMP_S, STAMP_S + 1],
    ),
    "fluent_bit_5": (
        bytes.fromhex("93a174919292d70055ece6f8000000008081a36c6f67a161") + pack({"chunk": "A" * 24, "size": 1, "fluent_signal": 0}),
        [b"a"],
        [STAMP_S],
    ),
    "root_array16": (b"\xdc\x00\x03\xa1t\xce\x55\xec\xe6\xf8" + pack({"log": "hi"}), [b"hi"], [STAMP_S]),
    "root_array32": (b"\xdd\x00\x00\x00\x03\xa1t\xce\x55\xec\xe6\xf8" + pack({"log": "hi"}), [b"hi"], [STAMP_S]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_F01_each_shape_gives_its_events_however_it_arrives(name: str) -> None:
    """F1: every shape of 1.2 decodes to the same events whole, split anywhere, byte by byte and with data behind it."""
    data, lines, times = SHAPES[name]
    frames, error = every_way(data)
    assert error is None
    assert [frame["lines"] for frame in frames] == [lines]
    assert frames[0]["times"] == pytest.approx(times, abs=0)
    assert frames[0]["rejected"] == []


def test_F01_all_shapes_in_one_segment() -> None:
    """F1: all shapes concatenated give all events, in order."""
    data = b"".join(shape for shape, _, _ in SHAPES.values())
    frames, error = read([data], FrameDecoder(), Limits())
    assert error is None
    assert [frame["lines"] for frame in frames] == [lines for _, lines, _ in SHAPES.values()]


@pytest.mark.parametrize("header", ["c424", "c50024", "c600000024", "d924", "da0024", "db00000024"])
def test_F05_packed_entries_in_every_header(header: str) -> None:
    """F5: PackedForward as bin8, bin16, bin32, str8, str16, str32 gives the same events."""
    assert lines_of(b"\x92\xa1t" + bytes.fromhex(header) + ENTRIES_AB) == [b"a", b"b"]


def test_F12_nil_and_empty_lists_are_no_frames_of_lines() -> None:
    """F12: nil is ignored, the old heartbeat ["", []] has no lines, an empty list with chunk wants its ack."""
    assert every_way(b"\xc0") == ([], None)
    assert lines_of(b"\xc0\xc0" + SHAPES["forward"][0] + b"\xc0") == [b"a", b"b"]
    frames, error = every_way(bytes.fromhex("92a090"))
    assert error is None
    assert (frames[0]["lines"], frames[0]["chunk"], frames[0]["tag"]) == ([], None, "")
    frames, error = every_way(b"\x93\xa1t\x90" + pack({"chunk": "abc"}))
    assert error is None
    assert (frames[0]["lines"], frames[0]["chunk"]) == ([], b"\xa3abc")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x01", "not_array"),
        (b"\x81\xa1a\x01", "not_array"),
        (b"\xa3abc", "not_array"),
        (b"\xc1", "not_array"),
        (b'{"a":1}', "not_array"),
        (b"\x90", "array_length"),
        (b"\x91\xa1t", "array_length"),
        (b"\x99", "array_length"),
        (b"\xdd\xff\xff\xff\xff", "array_length"),
        (b"\x92\xa1t\x01", "array_length"),
        (b"\x92\x01\x90", "tag_type"),
        (b"\x92\xc0\x90", "tag_type"),
        (b"\x92\xa1t\xc3", "no_mode"),
        (b"\x92\xa1t\x80", "no_mode"),
        (b"\x93\xa1t\x90\x01", "option_type"),
        (b"\x93\xa1t\x90\xa1x", "option_type"),
        (b"\x93\xa1t\x90\x81\xa5chunk\x01", "chunk_type"),
        (b"\x93\xa1t\x90\x81\xa5chunk\xda\x04\x01" + b"c" * 1025, "chunk_type"),
        (b"\x92\xa1t\xc1", "not_msgpack"),
        (b"\x92\xa1t\x91\xc1", "not_msgpack"),
        (b"\x92\xda\x10\x01" + b"t" * 4097 + b"\x90", "tag_length"),
    ],
)
def test_what_is_no_frame_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    """1.9: each malformed root, tag, payload and option has its own reason, and the first byte that shows it is enough."""
    if len(data) < 200:
        frames, error = every_way(data)
    else:
        frames, error = read([data], FrameDecoder(), Limits())
    assert frames == []
    assert isinstance(error, BadFrame)
    assert error.reason == reason


def test_good_frames_before_a_bad_one_are_not_lost() -> None:
    """Frames in front of a fault are handed out with it; what follows the fault is not read."""
    reader = FrameReader()
    frames = reader.feed(TAIL + TAIL + b"\x01" + TAIL)
    assert len(frames) == 2
    assert isinstance(reader.error, BadFrame)
    assert reader.feed(TAIL) == []


@pytest.mark.parametrize(
    "data",
    [
        b"\x93\xa1t\xdb\xff\xff\xff\xff",
        b"\x93\xa1t\xc6\x04\x00\x00\x00",
        b"\x93\xdb\xff\xff\xff\xff",
        b"\x93\xa1t\xc9\xff\xff\xff\xff\x00",
        b"\x93\xa1t\xdd\xff\xff\xff\xff",
        b"\x93\xa1t\xdd\x00\x0f\x42\x41",
        b"\x94\xa1t\x01\xdf\xff\xff\xff\xff",
    ],
)
def test_a_length_over_the_limit_is_refused_at_its_header(data: bytes) -> None:
    """A declared str, bin, ext, list or map over the limits ends the session before a byte of it came, and holds nothing."""
    frames, error = every_way(data)
    assert frames == []
    assert isinstance(error, FrameTooLarge)


@pytest.mark.parametrize("prefix", [b"\x93\xa1t\x01\x81\xa1k", b"\x93\xa1t\x01\x81", b"\x92\xa1t\x91\x92\x01\x81\xa1k"])
def test_a_long_string_deep_inside_is_refused_by_its_declared_length(prefix: bytes) -> None:
    """A 4 GiB string inside a record is refused once some bytes of it prove that its header is one, not at 64 MiB."""
    for header in (b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xfe"):
        reader = FrameReader()
        reader.feed(prefix + header)
        assert reader.error is None
        reader.feed(b"a" * 40)
        assert isinstance(reader.error, FrameTooLarge)


def test_an_ext_of_the_largest_length_is_harmless() -> None:
    """Msgpack's scanner adds 1 to an ext's length in 32 bits, so 0xffffffff becomes 0: the sender garbles its own stream, no more."""
    reader = FrameReader()
    reader.feed(b"\x93\xa1t\x01\x81\xa1k\xc9\xff\xff\xff\xff" + b"a" * 40)
    assert isinstance(reader.error, BadFrame)


def test_a_length_is_not_read_out_of_a_strings_own_bytes() -> None:
    """Bytes that look like a 32-bit header in front of a short string's header are not taken for one."""
    for size, header in ((200, b"\xd9\xc8"), (20000, b"\xda\x4e\x20")):
        record = b"\x82\xa6" + b"\xdb\xff\xff\xff\xff\xff" + header + b"x" * size + b"\xa3log\xa1y"
        data = b"\x93\xa1t\x01" + record
        frames, error = read([data[at : at + 1] for at in range(len(data))], FrameDecoder(), Limits())
        assert error is None
        assert frames[0]["lines"] == [b"y"]


def test_a_frame_may_be_as_long_as_the_limit_and_no_longer() -> None:
    """The limit counts the whole frame: equal is allowed, one byte more is not, however it arrives."""
    data = packed_frame(ENTRIES_AB)
    assert lines_of(data, limits=Limits(max_frame_bytes=len(data))) == [b"a", b"b"]
    assert isinstance(every_way(data, limits=Limits(max_frame_bytes=len(data) - 1))[1], FrameTooLarge)
    data = SHAPES["forward"][0]
    assert lines_of(data, limits=Limits(max_frame_bytes=len(data))) == [b"a", b"b"]
    assert isinstance(every_way(data, limits=Limits(max_frame_bytes=len(data) - 1))[1], FrameTooLarge)


def test_an_option_map_has_a_limit_of_its_own() -> None:
    """Behind the payload no second payload can hide: the option map is limited apart."""
    limits = Limits(max_option_bytes=64)
    assert lines_of(packed_frame(ENTRIES_AB, {"x": "y" * 40}), limits=limits) == [b"a", b"b"]
    assert isinstance(every_way(packed_frame(ENTRIES_AB, {"x": "y" * 80}), limits=limits)[1], FrameTooLarge)
    message = pack(["t", 1, {"log": "l" * 100}, {"x": "y" * 80}])
    error = read([message], FrameDecoder(None, limits), limits)[1]
    assert isinstance(error, BadFrame)
    assert error.reason == "option_length"


def test_declared_bytes_are_known_before_they_come() -> None:
    """`pending_bytes` and `expected_bytes` tell what a header declares, so that room can be reserved before reading on."""
    reader = FrameReader()
    reader.feed(b"\x93\xa1t\xdb\x00\x10\x00\x00abc")
    assert reader.pending_bytes == 0x100000 - 3
    assert reader.expected_bytes == 3 + 5 + 0x100000
    assert reader.buffered_bytes == 3 + 5 + 3
    reader.feed(b"x" * (0x100000 - 3))
    assert reader.pending_bytes == 0
    reader.feed(b"\x80" + TAIL[:4])
    assert reader.buffered_bytes == 4


@pytest.mark.parametrize(("depth", "good"), [(62, True), (63, False)])
def test_nesting_is_limited_exactly(depth: int, *, good: bool) -> None:
    """64 levels with the root are read, 65 are not, in a record and in packed entries alike."""
    # root, (list,) entry or record: the value sits 2 levels below the root in Message mode.
    deep = b"\x91" * depth + b"\xc0"
    message = b"\x93\xa1t\x01\x82\xa1k" + deep + b"\xa3log\xa1y"
    error = read([message], FrameDecoder(), Limits())[1]
    assert (error is None) == good
    inner = b"\x91" * (depth - 2) + b"\xc0"
    entry = b"\x92\x01\x82\xa1k" + inner + b"\xa3log\xa1y"
    for data in (b"\x92\xa1t\x91" + entry, packed_frame(entry), packed_frame(entry, {"size": 1})):
        frames, error = read([data], FrameDecoder(), Limits())
        assert (error is None) == good
        if good:
            assert frames[0]["lines"] == [b"y"]


def test_ten_thousand_levels_are_refused_without_recursion() -> None:
    """A nest of 10,000 arrays is an error of the peer, not a stack overflow of ours."""
    deep = b"\x91" * 10_000 + b"\xc0"
    for data in (b"\x93\xa1t\x01" + deep, b"\x92\xa1t" + deep, packed_frame(deep), packed_frame(deep, {"size": 1})):
        error = read([data], FrameDecoder(), Limits())[1]
        assert isinstance(error, BadFrame)
        assert error.reason in ("too_deep", "entries_too_deep")


def test_declared_counts_allocate_nothing() -> None:
    """array32 and map32 of 4,294,967,295 members inside a record, a list and packed entries take no memory for what did not come."""
    bombs = [b"\xdd\xff\xff\xff\xff\xc0", b"\xdf\xff\xff\xff\xff\xa1k\xc0"]
    tracemalloc.start()
    try:
        for bomb in bombs:
            for data in (b"\x93\xa1t\x01\x81\xa1k" + bomb, b"\x92\xa1t\x91\x92\x01" + bomb):
                reader = FrameReader()
                assert reader.feed(data) == []
                assert reader.error is None
            error = read([packed_frame(b"\x92\x01" + bomb, {"size": 1})], FrameDecoder(), Limits())[1]
            assert isinstance(error, BadFrame)
            assert error.reason == "entries_cut_off"
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_values_nobody_asked_for_are_not_made() -> None:
    """A million empty maps and nils beside the line cost no objects: 2 MiB of them decode in a few MiB."""
    junk = b"\xdd\x00\x10\x00\x00" + b"\x80" * (1 << 20)
    for record in (b"\x82\xa1k" + junk + b"\xa3log\xa1y", b"\x82\xc4\x01k" + junk + b"\xc4\x03log\xa1y"):
        data = b"\x92\xa1t\x91\x92\x01" + record
        tracemalloc.start()
        try:
            frames = read([data], FrameDecoder(), Limits())[0]
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert frames[0]["lines"] == [b"y"]
        assert peak < 12 * len(data)  # copies of the bytes; as objects they would be 72 times as much


class _CountingUnpacker(msgpack.Unpacker):  # type: ignore[misc]
    """msgpack's scanner, counting the bytes that it is given."""

    fed_bytes = 0

    def feed(self, data: bytes) -> None:
        type(self).fed_bytes += len(data)
        super().feed(data)


def _work(data: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """(Python and C calls, bytes given to the scanner) while `data` comes in pieces of 4 KiB."""
    monkeypatch.setattr(msgpack, "Unpacker", _CountingUnpacker)
    _CountingUnpacker.fed_bytes = 0
    calls = 0

    def count(_frame: FrameType, _event: str, _arg: Any) -> None:
        nonlocal calls
        calls += 1

    reader = FrameReader()
    pieces = [data[at : at + 4096] for at in range(0, len(data), 4096)]
    done: list[Any] = []
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        for piece in pieces:
            done += reader.feed(piece)
    finally:
        sys.setprofile(before)
    assert len(done) == 1
    return calls, _CountingUnpacker.fed_bytes


@pytest.mark.parametrize("shape", ["message", "forward", "packed"])
def test_work_grows_with_the_bytes_and_no_faster(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 MiB in pieces of 4 KiB cost four times what 2 MiB cost, counted in calls and in bytes scanned."""

    def frame(mebibytes: int) -> bytes:
        if shape == "message":
            return pack(["t", 1, {"log": "x" * (mebibytes << 20)}])
        if shape == "packed":
            return packed_frame(b"\x92" + STAMP + pack({"log": "x" * (mebibytes << 20)}))
        return pack(["t", [[1, {"log": "x" * 1000}]] * (mebibytes << 10)])

    small, large = _work(frame(2), monkeypatch), _work(frame(8), monkeypatch)
    assert large[0] <= small[0] * 4.1 + 50
    assert large[1] <= small[1] * 4.1 + 4096
    assert large[1] <= (8 << 20) * 1.1


def test_many_small_frames_are_not_scanned_again_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 frames in one read: the scanner sees each byte a bounded number of times, not once per frame."""
    monkeypatch.setattr(msgpack, "Unpacker", _CountingUnpacker)
    _CountingUnpacker.fed_bytes = 0
    data = pack(["t", 1, {"log": "x" * 100}]) * 10_000
    assert len(FrameReader().feed(data)) == 10_000
    assert _CountingUnpacker.fed_bytes < 25_000_000


def test_the_skipper_finds_the_end_of_any_value() -> None:
    """`Skipper.feed` tells the value's length whatever stands behind it."""
    for value in (None, 1, 1 << 40, 1.5, "x" * 300, b"y" * 70000, [1, [2]], {"a": {"b": [None] * 20}}, msgpack.ExtType(5, b"z" * 16)):
        data = pack(value)
        assert Skipper(max_depth=10, max_bytes=1 << 20).feed(data + b"\x93\xa1t") == len(data)


_scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=40), st.binary(max_size=300))
_values = st.recursive(_scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4))
_times = st.one_of(
    st.integers(0, 2**32 - 1),
    st.floats(),
    st.none(),
    st.builds(msgpack.ExtType, st.just(0), st.binary(min_size=8, max_size=8)),
    st.builds(msgpack.ExtType, st.integers(1, 127), st.binary(max_size=20)),
)
_heads = _times | st.tuples(_times, st.dictionaries(st.text(max_size=4), _scalars, max_size=3))
_keys = st.sampled_from(["log", "message", "MESSAGE", "host", "ident", "appliance"]) | st.text(max_size=8)
_entries = st.tuples(_heads, st.dictionaries(_keys, _values, max_size=5) | _scalars)
_options = st.none() | st.fixed_dictionaries({}, optional={"chunk": st.text(max_size=30), "size": st.integers(-1, 9), "other": _values})


@st.composite
def _frames(draw: st.DrawFn) -> bytes:
    tag, option = draw(st.text(max_size=10)), draw(_options)
    mode = draw(st.sampled_from(["message", "forward", "packed"]))
    if mode == "message":
        return pack([tag, draw(_times), draw(st.dictionaries(_keys, _values, max_size=5)), option])
    entries = draw(st.lists(_entries, max_size=5))
    return pack([tag, entries if mode == "forward" else b"".join(map(pack, entries)), option])


@settings(max_examples=150, deadline=None)
@given(st.lists(_frames(), min_size=1, max_size=3), st.data())
def test_any_split_gives_the_same_frames(frames: list[bytes], data: st.DataObject) -> None:
    """Where TCP cuts the stream changes nothing: same frames, same error."""
    stream = b"".join(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    decoder, limits = FrameDecoder(), Limits()
    whole, error = read([stream], decoder, limits)
    assert repr(read(pieces, decoder, limits)) == repr((whole, error))  # repr: a NaN equals itself in it
    assert error is None
    assert len(whole) == len(frames)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: b"\x93\xa1t" + tail) | _frames(), st.data())
def test_random_bytes_raise_only_documented_errors(stream: bytes, data: st.DataObject) -> None:
    """Whatever comes, frames or a `WireError` come out: random bytes, and good frames with bytes changed."""
    if stream and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(stream) - 1))
        stream = stream[:at] + data.draw(st.binary(min_size=1, max_size=3)) + stream[at + 1 :]
    frames, error = read([stream], FrameDecoder(), Limits(max_frame_bytes=4096, max_entries=100, max_decompressed_bytes=4096))
    assert error is None or isinstance(error, BadFrame | FrameTooLarge)
    assert isinstance(error, WireError | None)
    for frame in frames:
        assert all(type(line) is bytes for line in frame["lines"])
