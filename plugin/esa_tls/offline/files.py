"""Opening log files: plain, gzip or zstd (told by their first bytes, not by their name) and standard input, as a stream of lines.

Rules: bounded memory whatever is in the file; a line ends with LF, one CR before it belongs to the end; a last line without LF counts;
an empty line is a line. Of a line longer than `max_line_bytes` the first `max_line_bytes` come as a `CutLine` and the rest is passed
over. Everything that makes a file unreadable, damaged compression included, is an OSError that names the file; lines before it came.
"""

from __future__ import annotations

import errno
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import zstandard
from isal import igzip, igzip_lib

DEFAULT_MAX_LINE_BYTES = 1024 * 1024

PIECE_BYTES = 256 * 1024

ZSTD_STEP_BYTES = 256
"""Unpacked at a time: a block of 4 bytes can stand for 128 KiB, so this is 8 MiB at worst, and a few KiB of a log."""

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


_ISAL_ERROR = cast("type[Exception]", igzip_lib.IsalError)  # its stub calls it an instance
_DAMAGED = (EOFError, zlib.error, igzip.BadGzipFile, _ISAL_ERROR, zstandard.ZstdError)


class CutLine(bytes):
    """The beginning of a line that was longer than allowed: its record is flagged `truncated`."""


def open_lines(path: str | Path, *, max_line_bytes: int = DEFAULT_MAX_LINE_BYTES, stdin: BinaryIO | None = None) -> Iterator[bytes]:
    """Lines of `path` (`-`: `stdin`, by default the process's standard input) without their ends; see the module for the rules.

    The file is open while the iterator is in use. Raises OSError, from the first line on.
    """
    name = str(path)
    if name == "-":
        yield from _lines_of(stdin or sys.stdin.buffer, name, max_line_bytes)
    else:
        with Path(path).open("rb") as file:
            yield from _lines_of(file, name, max_line_bytes)


def _lines_of(file: BinaryIO, name: str, max_line_bytes: int) -> Iterator[bytes]:
    try:
        yield from split_lines(_unpacked(file), max_line_bytes=max_line_bytes)
    except _DAMAGED as error:
        raise OSError(errno.EIO, f"damaged compressed data ({error})", name) from error


def _unpacked(file: BinaryIO) -> Callable[[int], bytes]:
    """A `read(n)` of the content: some bytes as soon as there are any, empty at the end."""
    first = _read_full(file, len(ZSTD_MAGIC))
    whole = io.BufferedReader(_Rejoined(first, file), PIECE_BYTES)
    if first.startswith(GZIP_MAGIC):
        return cast("BinaryIO", igzip.open(whole, "rb")).read1  # type: ignore[attr-defined, no-any-return, no-untyped-call]
    if first == ZSTD_MAGIC:
        return _zstd_reader(whole.read1)
    return whole.read1


def _zstd_reader(read_packed: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """Frame after frame; unlike zstandard's `stream_reader` it notices a file that ends inside one."""
    decompressor = zstandard.ZstdDecompressor()
    frame = decompressor.decompressobj(write_size=PIECE_BYTES)
    packed = b""
    inside = False

    def read(_: int) -> bytes:
        nonlocal frame, packed, inside
        while packed := packed or read_packed(ZSTD_STEP_BYTES):
            content = frame.decompress(packed)
            inside = not frame.eof
            packed = b"" if inside else frame.unused_data
            if not inside:
                frame = decompressor.decompressobj(write_size=PIECE_BYTES)
            if content:
                return content
        if inside:
            message = "the file ends inside a frame"
            raise EOFError(message)
        return b""

    return read


class _Rejoined(io.RawIOBase):
    """A file with the bytes in front again that were read to look at them."""

    def __init__(self, first: bytes, rest: BinaryIO) -> None:
        super().__init__()
        self._first = first
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if self._first:
            got, self._first = self._first[: len(buffer)], self._first[len(buffer) :]
        else:
            got = _read_some(self._rest, len(buffer))
        buffer[: len(got)] = got
        return len(got)


def _read_some(file: BinaryIO, n: int) -> bytes:
    """At most `n` bytes with one read: a pipe's lines come as they are written."""
    read1 = getattr(file, "read1", file.read)
    return bytes(read1(n))


def _read_full(file: BinaryIO, n: int) -> bytes:
    got = b""
    while len(got) < n and (more := _read_some(file, n - len(got))):
        got += more
    return got


def split_lines(read: Callable[[int], bytes], *, max_line_bytes: int = DEFAULT_MAX_LINE_BYTES) -> Iterator[bytes]:
    """Cut what `read` gives into lines (rules of the module). Holds one piece and one line."""
    # A piece from `read` may be longer than a line may be, so every line is measured; `begun` is the part of a line before this piece,
    # never longer than is needed to see that the line is too long.
    begun = b""
    while piece := read(PIECE_BYTES):
        lines = piece.split(b"\n")
        if begun:
            lines[0] = begun + lines[0]
        last = lines.pop()
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]  # noqa: PLW2901
            yield line if len(line) <= max_line_bytes else CutLine(line[:max_line_bytes])
        begun = last[: max_line_bytes + 2] if len(last) > max_line_bytes + 2 else last
    if begun:
        if begun.endswith(b"\r"):
            begun = begun[:-1]
        yield begun if len(begun) <= max_line_bytes else CutLine(begun[:max_line_bytes])
