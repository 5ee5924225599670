"""offline/files.py: lines out of files, whatever they are packed in."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from esa_tls.offline.files import CutLine, open_lines, split_lines

TEXT = b"one\ntwo\r\n\nfour \xff\xfe\nlast"
LINES = [b"one", b"two", b"", b"four \xff\xfe", b"last"]


def _pieces(*pieces: bytes) -> io.BufferedReader:
    """A stream whose reads return exactly these pieces."""

    class Pieces(io.RawIOBase):
        def __init__(self) -> None:
            self.left = list(pieces)

        def readable(self) -> bool:
            return True

        def read1(self, n: int = -1) -> bytes:
            if not self.left:
                return b""
            piece = self.left.pop(0)
            if 0 <= n < len(piece):
                self.left.insert(0, piece[n:])
                piece = piece[:n]
            return piece

    return Pieces()  # type: ignore[return-value]


def _packed(text: bytes, how: str) -> bytes:
    half = len(text) // 2
    match how:
        case "plain":
            return text
        case "gzip":
            return gzip.compress(text)
        case "gzip-members":
            return gzip.compress(text[:half]) + gzip.compress(text[half:])
        case "zstd":
            return zstandard.compress(text)
        case _:
            return zstandard.compress(text[:half]) + zstandard.compress(b"") + zstandard.ZstdCompressor().compress(text[half:])


@pytest.mark.parametrize("how", ["plain", "gzip", "gzip-members", "zstd", "zstd-frames"])
def test_every_packing_gives_the_same_lines(tmp_path: Path, how: str) -> None:
    """Plain, gzip and zstd, in one part or several, are told by their bytes under any name."""
    path = tmp_path / "mail.current"
    path.write_bytes(_packed(TEXT, how))
    assert list(open_lines(path)) == LINES
    with path.open("rb") as stdin:
        assert list(open_lines("-", stdin=stdin)) == LINES


@pytest.mark.parametrize("how", ["gzip", "gzip-members", "zstd", "zstd-frames"])
def test_a_truncated_archive_is_an_error_after_its_lines(tmp_path: Path, how: str) -> None:
    """Compressed data that ends early is an OSError naming the file, never a silent end."""
    text = b"".join(b"line %d %d\n" % (n, n * 7919) for n in range(20000))
    path = tmp_path / "mail.gz"
    path.write_bytes(_packed(text, how)[:-3])
    lines = open_lines(path)
    assert next(lines) == b"line 0 0"
    with pytest.raises(OSError, match=r"mail\.gz"):
        list(lines)


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_damaged_archives_are_os_errors(tmp_path: Path, how: str) -> None:
    """A flipped byte in compressed data does not leave as some library's own error."""
    packed = bytearray(_packed(b"some text that is long enough\n" * 100, how))
    packed[len(packed) // 2] ^= 0xFF
    packed[-2] ^= 0xFF
    path = tmp_path / "mail.log"
    path.write_bytes(packed)
    with pytest.raises(OSError, match="damaged compressed data"):
        list(open_lines(path))


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    """What cannot be opened is told by the system's error."""
    with pytest.raises(FileNotFoundError):
        list(open_lines(tmp_path / "none"))


@pytest.mark.parametrize("text", [b"", b"\n", b"a", b"a\n", b"\r\n", b"\r", b"a\r", b"a\rb\r\n", b"\x1f", b"\x28\xb5\x2f"])
def test_short_and_odd_files(tmp_path: Path, text: bytes) -> None:
    """Files shorter than any magic, and carriage returns in all places, give the lines of a plain definition."""
    path = tmp_path / "x"
    path.write_bytes(text)
    parts = text.split(b"\n")
    if parts[-1] == b"":
        parts.pop()
    assert list(open_lines(path)) == [part.removesuffix(b"\r") for part in parts]


@given(
    st.lists(st.sampled_from([b"a", b"bb", b"\r", b"\n", b"\r\n", b"ccccc"]), max_size=30), st.lists(st.integers(0, 60)), st.integers(1, 6)
)
def test_any_split_of_the_bytes_gives_the_same_lines(parts: list[bytes], cuts: list[int], max_line_bytes: int) -> None:
    """Where reads end has no effect on lines, on carriage returns, or on where a long line is cut."""
    text = b"".join(parts)
    places = [0, *sorted(cut for cut in cuts if 0 < cut < len(text)), len(text)]
    pieces = iter([piece for a, b in pairwise(places) if (piece := text[a:b])])
    lines = list(split_lines(lambda _: next(pieces, b""), max_line_bytes=max_line_bytes))
    wanted = text.split(b"\n")
    if wanted[-1] == b"":
        wanted.pop()
    wanted = [line.removesuffix(b"\r") for line in wanted]
    assert lines == [line[:max_line_bytes] for line in wanted]
    assert [isinstance(line, CutLine) for line in lines] == [len(line) > max_line_bytes for line in wanted]


def test_lines_of_a_pipe_come_as_they_are_written() -> None:
    """A line is out as soon as its bytes were read: no waiting for a full buffer."""
    source = _pieces(b"first line\n", b"second", b" line\nthird\n")
    lines = open_lines("-", stdin=source)
    assert next(lines) == b"first line"
    assert source.left == [b"second", b" line\nthird\n"]  # type: ignore[attr-defined]
    assert list(lines) == [b"second line", b"third"]


@pytest.mark.parametrize("how", ["plain", "gzip", "zstd"])
def test_an_endless_line_needs_bounded_memory(tmp_path: Path, how: str) -> None:
    """100 MiB without a line feed come as one CutLine of 1 MiB, within some 40 MiB of memory (a zstd bomb's worst step)."""
    path = tmp_path / "x"
    text = b"before\n" + b"a" * (100 * 1024 * 1024) + b"\nafter\n"
    path.write_bytes(_packed(text, how))
    del text
    tracemalloc.start()
    try:
        lines = list(open_lines(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [len(line) for line in lines] == [6, 1024 * 1024, 5]
    assert isinstance(lines[1], CutLine)
    assert not isinstance(lines[0], CutLine)
    assert peak < 40 * 1024 * 1024
