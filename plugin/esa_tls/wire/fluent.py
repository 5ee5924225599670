"""Fluent Forward v1 / v1.5, first half: where a frame ends (docs/wires.md 1.1). Pure: no I/O, no clock.

`fluent_decode` says what is in a frame, `fluent_encode` writes frames and acks. Rules of this file:

1. A frame is one msgpack root value. `FrameReader` cuts the stream into those, whatever they mean: the handshake's messages are arrays
   like all others, so a handshake can take the first frames before anyone decodes the rest.
2. Every byte is looked at once. Of an array at the root the element headers are read here; what lies inside an element is skipped by
   `msgpack.Unpacker.skip()`, which keeps its place between two feeds and makes no objects. A string or bin at the root is jumped over.
3. Nothing is allocated because a header says so. A declared length over the limit ends the session at the header.
4. The reader never raises: it returns the frames that came before the fault and remembers the fault in `error`, so that good frames in
   front of a bad one are not lost with it.

Errors of the three modules::

    WireError
    ├── BadFrame                   not Forward, or not msgpack; `reason` is a short word for the metric
    │   └── UnreadablePayload      the frame is whole, its payload is not: carries what a dead letter needs
    │       └── PayloadTooLarge    ... because it unpacks to more than the limits (also a FrameTooLarge)
    └── FrameTooLarge              refused before it was read
"""

from __future__ import annotations

import contextlib

import msgpack
import msgspec

from esa_tls.errors import FrameTooLarge, WireError
from esa_tls.wire.fluent_values import EXT, STR_OR_BIN, mode_of

__all__ = ["BadFrame", "FrameReader", "Limits", "PayloadTooLarge", "RawFrame", "UnreadablePayload"]

if msgpack.Unpacker.__module__ != "msgpack._cmsgpack":  # pragma: no cover
    # Its pure Python stand-in starts every skip() from the beginning again: quadratic, and its depth limit is the interpreter's.
    raise ImportError("msgpack without its C extension cannot be used for framing")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one frame may cost. Sizes in bytes."""

    max_frame_bytes: int = 64 << 20
    """Whole frame on the wire. Fluent Bit sends about 2 MiB; Fluentd up to its buffer chunk, which can be more (docs/wires.md 1.7)."""
    max_decompressed_bytes: int = 256 << 20
    """Entries after gzip or zstd: Fluentd's own `decompression_size_limit`."""
    max_depth: int = 64
    """Nesting of the frame and of its unpacked entries, the root array counted; log records nest a handful."""
    max_entries: int = 1_000_000
    """Entries in one frame: an entry of 3 bytes becomes some 200 bytes of objects."""
    max_option_bytes: int = 64 << 10
    """The option map, which is unpacked into objects whole. Real ones have under 200 bytes."""
    max_tag_bytes: int = 4 << 10
    """The tag: it is kept for as long as the lines' origin is."""


class BadFrame(WireError):
    """The peer sent something that is not a Forward frame. The session has to end; `reason` is one of a closed set of words."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class UnreadablePayload(BadFrame):
    """A whole frame whose entries cannot be read. The same bytes will fail again, so after some tries they become a dead letter.

    `chunk`: as in `Frame.chunk`. `key`: as in `Frame.key`, but always present. `payload`: the whole frame as it came.
    """

    def __init__(self, reason: str, detail: str = "", *, tag: str, chunk: bytes | None, key: bytes, payload: bytes) -> None:
        super().__init__(reason, detail)
        self.tag = tag
        self.chunk = chunk
        self.key = key
        self.payload = payload


class PayloadTooLarge(UnreadablePayload, FrameTooLarge):
    """The entries unpack to more bytes, levels or pieces than `Limits` allows."""


class RawFrame(msgspec.Struct, frozen=True):
    """One root array, undecoded. `starts`: offset of each element in `data`, and of the end behind the last."""

    data: bytes
    starts: tuple[int, ...]


_CONTAINER = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
"""Type byte of a large array or map -> bytes of its count field."""

_FIXED = {0xC0: 1, 0xC2: 1, 0xC3: 1, 0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}
"""Type byte of nil, bool, float and int -> bytes of the whole value (fixint apart)."""
_FIXED |= {0xD4: 3, 0xD5: 4, 0xD6: 6, 0xD7: 10, 0xD8: 18}  # fixext

_MAX_ELEMENTS = 8
"""Elements of a root array: a frame has at most 4, the handshake's PING 6."""

_FIRST_PIECE = 1 << 10
"""Bytes given to the skipper at first; each further piece is as long as all before. So a feed of many small frames is not copied
again for each of them, and a large one is copied twice at most."""


def _stack_limit() -> int:
    """How many open containers this msgpack's skip() can hold (1,024 in 1.2): tried out, because no API tells."""
    low, high = 0, 1 << 16
    while low < high:
        middle = (low + high + 1) // 2
        unpacker = msgpack.Unpacker(max_buffer_size=(1 << 16) + 1, read_size=1024)
        unpacker.feed(b"\x91" * middle + b"\xc0")
        try:
            unpacker.skip()
        except msgpack.StackError:
            high = middle - 1
        else:
            low = middle
    return low


_STACK_LIMIT = _stack_limit()


class Skipper:
    """Finds the end of one msgpack value in bytes that come piecewise, in C, without making objects. Work and copies: O(n).

    The C scanner has a stack of fixed size. It is begun inside that many nested one-element arrays that exactly `max_depth` levels are
    left, so it refuses deeper values by itself; when the value ends, all of those arrays end with it.
    """

    __slots__ = ("_base", "_unpacker", "fed")

    def __init__(self, *, max_depth: int, max_bytes: int) -> None:
        self._base = max(_STACK_LIMIT - max_depth, 0)
        # The first read_size bytes are allocated at once (1 MiB by default), the rest as it comes.
        self._unpacker = msgpack.Unpacker(max_buffer_size=max_bytes + self._base + 1024, read_size=1024)
        self.fed = 0
        if self._base:
            self._unpacker.feed(b"\x91" * self._base)
            with contextlib.suppress(msgpack.OutOfData):
                self._unpacker.skip()

    def feed(self, data: bytes | bytearray | memoryview) -> int:
        """Length of the value if it ends in what was fed so far, else -1. Raises `BadFrame` (too_deep, not_msgpack)."""
        self._unpacker.feed(data)
        self.fed += len(data)
        try:
            self._unpacker.skip()
        except msgpack.OutOfData:
            return -1
        except msgpack.StackError as error:
            raise BadFrame("too_deep") from error
        except ValueError as error:
            raise BadFrame("not_msgpack", str(error)) from error
        return self.position

    @property
    def position(self) -> int:
        """Offset in the value up to which the scan has come; a string or bin still incomplete lies wholly behind it."""
        return int(self._unpacker.tell()) - self._base


class FrameReader:
    """Cuts a byte stream into root arrays: `feed` bytes, get the frames that are complete.

    `error`: None, or the fault after which no more frames come. `expected_bytes`: what the frame being read declares to be at least.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self.error: WireError | None = None
        self._buffer = bytearray()
        self._base = 0  # where the frame being read begins in the buffer
        self._at = 0  # first byte not scanned; less than the buffer's length except when jumping over a long string
        self._count = -1  # elements of the root array; -1 = its header is still to come
        self._starts: list[int] = []  # of the elements, from _base
        self._skipper: Skipper | None = None
        self._options_only = False  # the elements from here on are the option map, which has a limit of its own

    @property
    def buffered_bytes(self) -> int:
        """Bytes held of a frame that is not complete."""
        return len(self._buffer) - self._base

    @property
    def expected_bytes(self) -> int:
        """Bytes that the frame being read needs at least, from what its headers say so far: to reserve room before reading on."""
        return max(self._at, len(self._buffer)) - self._base

    @property
    def pending_bytes(self) -> int:
        """Declared bytes still to come; 0 = nothing is declared beyond what is here."""
        return max(self._at - len(self._buffer), 0)

    def feed(self, data: bytes) -> list[RawFrame]:
        """Take `data`, return the frames that it completes. Nil at the root is allowed and ignored (docs/wires.md 1.5). Never raises."""
        frames: list[RawFrame] = []
        if self.error is not None:
            return frames
        buffer = self._buffer
        buffer += data
        try:
            while self._scan():
                frames.append(RawFrame(bytes(memoryview(buffer)[self._base : self._at]), (*self._starts, self._at - self._base)))
                self._next_frame()
        except WireError as error:
            self.error = error
            buffer.clear()
            self._base = self._at = 0
            return frames
        if self._base:
            del buffer[: self._base]  # cheap: a bytearray moves its start
            self._at -= self._base
            self._base = 0
        return frames

    def _next_frame(self) -> None:
        self._base = self._at
        self._count = -1
        self._starts = []
        self._options_only = False

    def _scan(self) -> bool:
        """Scan on as far as the buffer goes. True when a frame is complete, from `_base` to `_at`."""
        if self._count < 0 and not self._root():
            return False
        while True:
            if self._skipper is not None:
                if not self._skip_on(self._skipper):
                    return False
            elif self._at > len(self._buffer):
                return False
            elif len(self._starts) == self._count:
                return True
            elif not self._element():
                return False

    def _root(self) -> bool:
        """Read the root's header. False = more bytes are needed."""
        buffer = self._buffer
        while self._at < len(buffer) and buffer[self._at] == 0xC0:
            self._at += 1
            self._base = self._at
        if self._at >= len(buffer):
            return False
        first = buffer[self._at]
        if 0x90 <= first <= 0x9F:
            count, width = first & 0x0F, 0
        elif first in (0xDC, 0xDD):
            width = 2 if first == 0xDC else 4
            if len(buffer) < self._at + 1 + width:
                return False
            count = int.from_bytes(buffer[self._at + 1 : self._at + 1 + width], "big")
        else:
            raise BadFrame("not_array")
        if not 2 <= count <= _MAX_ELEMENTS:
            raise BadFrame("array_length", str(count))
        self._count = count
        self._at += 1 + width
        return True

    def _payload_is_list(self) -> bool:
        """Whether element 1 is a list of entries or their packed bytes: then element 2 is the option map."""
        return mode_of(self._buffer[self._base + self._starts[1]]) in ("forward", "packed")

    def _element(self) -> bool:
        """Read the header of the next element of the root. False = more bytes are needed."""
        buffer, at = self._buffer, self._at
        if at >= len(buffer):
            return False
        if len(self._starts) == 2:
            self._options_only = self._payload_is_list()
        first = buffer[at]
        if first < 0x80 or first >= 0xE0:
            length = 1
        elif 0xA0 <= first <= 0xBF:
            length = 1 + (first & 0x1F)
        elif first in _FIXED:
            length = _FIXED[first]
        elif first in STR_OR_BIN or first in EXT:
            width = STR_OR_BIN.get(first) or EXT[first]
            if len(buffer) < at + 1 + width:
                return False
            length = 1 + width + (first in EXT) + int.from_bytes(buffer[at + 1 : at + 1 + width], "big")
        elif first == 0xC1:
            raise BadFrame("not_msgpack")
        else:  # array or map
            width = _CONTAINER.get(first, 0)
            if len(buffer) < at + 1 + width:
                return False
            self._check_count(int.from_bytes(buffer[at + 1 : at + 1 + width], "big"), is_entries=len(self._starts) == 1)
            self._starts.append(at - self._base)
            self._skipper = Skipper(max_depth=self._limits.max_depth - 1, max_bytes=self._limits.max_frame_bytes)
            return True
        self._starts.append(at - self._base)
        self._at = at + length
        self._check_size()
        return True

    def _skip_on(self, skipper: Skipper) -> bool:
        """Give the skipper what came, in growing pieces, until its value ends (True) or the buffer does."""
        begin = self._base + self._starts[-1]
        buffer = self._buffer
        while (fed := begin + skipper.fed) < len(buffer):
            stop = min(len(buffer), fed + max(_FIRST_PIECE, skipper.fed))
            length = skipper.feed(bytes(memoryview(buffer)[fed:stop]))
            if length >= 0:
                self._skipper = None
                self._at = begin + length
                self._check_size()
                return True
        self._at = len(buffer)
        self._check_size()
        self._check_declared(begin, skipper)
        return False

    def _check_declared(self, begin: int, skipper: Skipper) -> None:
        """Refuse a frame for the declared length of a string deep inside it, without waiting for the string.

        The skipper stands behind the header of the string that it waits for. Which header that is can be told from the bytes before,
        once so much of the body is here that a shorter header is impossible; else nothing is concluded yet.
        """
        position = begin + skipper.position
        buffer = self._buffer
        have = len(buffer) - position
        if have <= 16 or position - begin < 6:  # fewer bytes can be the rest of a number or of a fixext
            return
        if have <= 0x1F and 0xA0 <= buffer[position - 1] <= 0xBF:
            return
        if have <= 0xFF and buffer[position - 2] in (0xD9, 0xC4, 0xC7):
            return
        if have <= 0xFFFF and buffer[position - 3] in (0xDA, 0xC5, 0xC8):
            return
        if buffer[position - 5] in (0xDB, 0xC6, 0xC9):
            self._refuse_over(position - self._base + int.from_bytes(buffer[position - 4 : position], "big"))

    def _check_count(self, count: int, *, is_entries: bool) -> None:
        """Refuse a container whose declared members cannot fit (each takes a byte at least) or are too many entries."""
        limit = self._limits.max_frame_bytes
        if is_entries:
            limit = min(limit, self._limits.max_entries)
        if count > limit:
            raise FrameTooLarge(f"{count} members declared; the limit is {limit}")

    def _check_size(self) -> None:
        """Refuse a frame that is too long by what is known: bytes scanned and bytes declared, not bytes of a frame behind it."""
        size = self._at - self._base
        self._refuse_over(size)
        if self._options_only and size - self._starts[2] > self._limits.max_option_bytes:
            raise FrameTooLarge(f"an option map of over {self._limits.max_option_bytes} bytes")

    def _refuse_over(self, size: int) -> None:
        if size > self._limits.max_frame_bytes:
            raise FrameTooLarge(f"a frame of at least {size} bytes; the limit is {self._limits.max_frame_bytes}")
