"""What we write as a Forward client, and how acks are read."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.wire.fluent_cases import CHUNK, ENTRIES_AB, event_time, pack

from esa_tls.errors import FrameTooLarge, WireError
from esa_tls.wire.fluent import BadFrame, FrameReader
from esa_tls.wire.fluent_decode import FrameDecoder
from esa_tls.wire.fluent_encode import CHUNK_ID_RANDOM_BYTES, AckReader, ack, encode_packed_forward, new_chunk_id


def _in_pieces(data: bytes, size: int) -> tuple[list[bytes], WireError | None]:
    reader = AckReader()
    chunks = [chunk for at in range(0, len(data), size) for chunk in reader.feed(data[at : at + size])]
    return chunks, reader.error


def test_a_frame_has_the_documented_bytes() -> None:
    """1.2: array of tag, bin and option map; `size` always, `chunk` as str, `compressed` only when it is."""
    assert (
        encode_packed_forward("t", ENTRIES_AB, count=2, chunk=None, gzip=False).hex() == "93a174c424" + ENTRIES_AB.hex() + "81a473697a6502"
    )
    assert encode_packed_forward("t", ENTRIES_AB, count=2, chunk=CHUNK, gzip=False).endswith(b"\xa5chunk\xb8" + CHUNK)
    packed = msgpack.unpackb(encode_packed_forward("t", ENTRIES_AB, count=2, chunk=CHUNK, gzip=True))
    assert packed[2] == {"size": 2, "compressed": "gzip", "chunk": CHUNK.decode()}
    assert packed[1][:2] == b"\x1f\x8b"


@pytest.mark.parametrize("gzip", [False, True])
def test_the_same_arguments_give_the_same_bytes(gzip: bool) -> None:
    """A frame sent again is the same frame: no time of day in the gzip header."""
    one, two = (encode_packed_forward("t", ENTRIES_AB, count=2, chunk=CHUNK, gzip=gzip) for _ in range(2))
    assert one == two


@given(
    st.text(max_size=20),
    st.lists(st.tuples(st.integers(1, 2**32 - 3), st.text(max_size=60)), max_size=30),
    st.none() | st.binary(min_size=CHUNK_ID_RANDOM_BYTES, max_size=CHUNK_ID_RANDOM_BYTES),
    st.booleans(),
)
def test_what_is_encoded_is_decoded(tag: str, entries: list[tuple[int, str]], randomness: bytes | None, gzip: bool) -> None:
    """Encode, then decode: same tag, lines, times and chunk."""
    chunk = None if randomness is None else new_chunk_id(randomness)
    body = b"".join(pack([event_time(second), {"log": line}]) for second, line in entries)
    data = encode_packed_forward(tag, body, count=len(entries), chunk=chunk, gzip=gzip)
    (raw,) = FrameReader().feed(data)
    frame = FrameDecoder().decode(raw)
    assert frame.tag == tag
    assert frame.lines == [line.encode().removesuffix(b"\n").removesuffix(b"\r") for _, line in entries]
    assert list(frame.times_s) == [float(second) for second, _ in entries]
    assert frame.chunk == (None if chunk is None else pack(chunk.decode()))


def test_a_chunk_id_is_24_characters_of_base64() -> None:
    """1.3: the same form as Fluent Bit's, made of the randomness given and nothing else."""
    assert new_chunk_id(bytes(range(16))) == CHUNK
    with pytest.raises(ValueError, match="16 random bytes"):
        new_chunk_id(b"short")


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_acks_are_read_however_they_arrive(size: int) -> None:
    """Acks in pieces, several in one segment, as str or bin, with nil, other keys and other maps between them."""
    stream = (
        ack(pack("one"))
        + b"\xc0"
        + pack({"other": 1})
        + pack({"x": 2, "ack": "two", "y": None})
        + ack(pack(b"three"))
        + ack(pack("four\n"))
        + pack({"ack": 5})
        + ack(b"\xa2\xff\xfe")
    )
    assert _in_pieces(stream, size) == ([b"one", b"two", b"three", b"four\n", b"\xff\xfe"], None)


def test_extra_bytes_behind_an_ack_do_not_hide_it() -> None:
    """The ack comes out first; what cannot be read behind it is an error, and the reader stays closed."""
    reader = AckReader()
    assert reader.feed(ack(pack("one")) + b"\xc1\xc1") == [b"one"]
    assert isinstance(reader.error, BadFrame)
    assert reader.feed(ack(pack("two"))) == []


@pytest.mark.parametrize("data", [b"\x01", b"\x90", b"\xa3abc", b"\xc1", b"\x91\x01", b"\x81\x80\x01", b"\xd6\xff1234"])
def test_what_is_no_ack_is_an_error(data: bytes) -> None:
    """A server that answers with something else is not believed."""
    assert isinstance(_in_pieces(data, 1)[1], BadFrame)


def test_an_endless_ack_is_refused() -> None:
    """An ack over the limit ends the reading, also when it was declared larger than anything."""
    for header in (b"\x81\xa3ack\xdb\xff\xff\xff\xff", b"\x81\xa3ack\xda\xff\xff"):
        reader = AckReader()
        assert reader.feed(header) == []
        for _ in range(8):
            reader.feed(b"x" * 1024)
        assert isinstance(reader.error, FrameTooLarge | BadFrame)


def test_many_acks_in_one_read() -> None:
    """The limit is one ack, not the sum of those in a segment."""
    stream = b"".join(ack(pack(f"chunk-{i}")) for i in range(2000))
    assert _in_pieces(stream, len(stream)) == ([f"chunk-{i}".encode() for i in range(2000)], None)


@given(st.binary(max_size=100), st.integers(1, 20))
def test_random_bytes_never_raise(data: bytes, size: int) -> None:
    """The ack reader turns anything into chunks or an error of its own."""
    error = _in_pieces(data, size)[1]
    assert error is None or isinstance(error, BadFrame | FrameTooLarge)
