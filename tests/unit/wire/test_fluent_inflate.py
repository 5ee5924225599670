"""Decompression with a cap: whole or refused, and flat in memory."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 1.11)

from __future__ import annotations

import contextlib
import gzip
import os
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.wire.fluent_cases import members, packed_frame, zstd_frames

from esa_tls.wire import fluent_inflate
from esa_tls.wire.fluent import FrameReader, PayloadTooLarge
from esa_tls.wire.fluent_decode import FrameDecoder
from esa_tls.wire.fluent_inflate import BadCompression, InflatedTooLarge, inflate, sniff

MIB = 1 << 20
PACKERS = {"gzip": members, "zstd": zstd_frames}


def _zeros_gzip(size: int) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    block = bytes(16 * MIB)
    return b"".join([packer.compress(block) for _ in range(size // len(block))] + [packer.flush()])


def _zeros_zstd(size: int) -> bytes:
    packer = zstandard.ZstdCompressor().compressobj()
    block = bytes(16 * MIB)
    return b"".join([packer.compress(block) for _ in range(size // len(block))] + [packer.flush()])


def _peak_bytes(frame: bytes) -> int:
    """Peak of new memory while `frame` is read and refused."""
    reader, decoder = FrameReader(), FrameDecoder()
    tracemalloc.start()
    try:
        (raw,) = reader.feed(frame)
        with pytest.raises(PayloadTooLarge):
            decoder.decode(raw)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("zeros", [_zeros_gzip, _zeros_zstd])
def test_F07_a_gibibyte_of_zeros_is_refused_with_flat_memory(zeros: object) -> None:
    """F7: 1 GiB in a 1 MiB payload stops at the cap of 256 MiB, and never holds more than a tenth of that."""
    assert callable(zeros)
    frame = packed_frame(zeros(1 << 30), {"compressed": "gzip"})
    assert len(frame) < 8 * MIB
    assert _peak_bytes(frame) < fluent_inflate.HELD_BYTES + 5 * len(frame) + 8 * MIB


@pytest.mark.parametrize("algorithm", ["gzip", "zstd"])
def test_large_payloads_are_unpacked_whole(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above `HELD_BYTES` the payload is counted, then unpacked again: every byte is there, and the cap still holds."""
    monkeypatch.setattr(fluent_inflate, "HELD_BYTES", 1000)
    for size in (0, 1, 999, 1000, 1001, 300_000):
        data = os.urandom(size // 2) + bytes(size - size // 2)
        packed = PACKERS[algorithm](data[: size // 3], data[size // 3 :])
        assert inflate(packed, algorithm, max_bytes=size) == data
        if size:
            with pytest.raises(InflatedTooLarge):
                inflate(packed, algorithm, max_bytes=size - 1)


@pytest.mark.parametrize("algorithm", ["gzip", "zstd"])
def test_a_payload_cut_off_anywhere_is_refused(algorithm: str) -> None:
    """What is missing may be lines: a stream cut inside a member or frame is an error; cut between two, it is shorter."""
    parts = [PACKERS[algorithm](b"first" * 50), PACKERS[algorithm](b"second" * 50)]
    packed = b"".join(parts)
    for at in range(1, len(packed)):
        if at == len(parts[0]):
            assert inflate(packed[:at], algorithm, max_bytes=MIB) == b"first" * 50
        else:
            with pytest.raises(BadCompression):
                inflate(packed[:at], algorithm, max_bytes=MIB)


def test_zstd_frames_of_many_input_pieces() -> None:
    """Frames that are longer and shorter than one input piece, in a row."""
    parts = [os.urandom(size) for size in (1, 100, 119, 120, 128, 1000, 5, 0, 3000)]
    assert inflate(zstd_frames(*parts), "zstd", max_bytes=MIB) == b"".join(parts)


def test_a_zstd_window_over_the_limit_is_refused() -> None:
    """A frame may not ask for more memory than any real sender does."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(BadCompression):
        inflate(packer.compress(b"x" * 1000) + packer.flush(), "zstd", max_bytes=MIB)


def test_an_unknown_algorithm_is_refused() -> None:
    """Only gzip and zstd exist on this wire."""
    with pytest.raises(BadCompression):
        inflate(b"x", "lz4", max_bytes=MIB)


def test_sniff_tells_by_the_first_bytes() -> None:
    """Magic numbers, and nothing for entries."""
    assert [sniff(data) for data in (gzip.compress(b""), zstd_frames(b""), b"\x92\xd7", b"", b"\x1f")] == ["gzip", "zstd", None, None, None]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["gzip", "zstd"]), st.binary(max_size=300), st.data())
def test_damaged_payloads_raise_only_documented_errors(algorithm: str, content: bytes, data: st.DataObject) -> None:
    """Any damage gives BadCompression or InflatedTooLarge, or a result; never another error."""
    packed = bytearray(PACKERS[algorithm](content))
    for _ in range(data.draw(st.integers(0, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadCompression, InflatedTooLarge):
        inflate(bytes(packed), algorithm, max_bytes=10_000)


def test_pieces_stop_when_the_cap_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """No piece is asked for after the one that goes over the cap."""
    asked = 0

    def pieces(_payload: bytes | memoryview) -> Iterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield bytes(10)

    monkeypatch.setitem(fluent_inflate._PIECES, "gzip", pieces)
    with pytest.raises(InflatedTooLarge):
        inflate(b"", "gzip", max_bytes=25)
    assert asked == 3
