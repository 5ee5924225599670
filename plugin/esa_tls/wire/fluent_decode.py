"""Fluent Forward, second half: what is in a frame (docs/wires.md 1.2, 1.3, 1.8, 1.9, 6.5). Pure: no I/O, no clock.

`FrameDecoder.decode(RawFrame) -> Frame` gives lines; `fluent_batch` makes a core batch of them.

Two ways lead to the lines:

* one typed msgspec decode of the entry list in which lines and times stay undecoded (`Raw`): no value that we do not want becomes an
  object, and invalid UTF-8 is never looked at. Then either all lines **at once**, by one msgpack decode of all of them side by side (the
  normal frame), or **by record** (mixed keys, pieces of syslog parsers).
* **by entry**, for frames with group markers, bin keys, entries that are none or hold no line: says of each what is wrong with it.

Both make objects for at most `max_entries` entries and their wanted keys, whatever else the sender packed into them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any, cast

import msgpack
import msgspec
from msgspec import Raw

from esa_tls.wire.fluent import BadFrame, Limits, PayloadTooLarge, RawFrame, Skipper, UnreadablePayload
from esa_tls.wire.fluent_inflate import BadCompression, InflatedTooLarge, inflate, sniff
from esa_tls.wire.fluent_values import (
    EntryTimes,
    array_header,
    count_of,
    event_time_of,
    int_of,
    is_map,
    members,
    mode_of,
    pairs,
    text_header,
    text_of,
    time_of,
)

__all__ = ["ForwardSettings", "Frame", "FrameDecoder", "Rejected", "frame_key"]

MAX_CHUNK_BYTES = 1024
"""Real chunk ids have 24 to 32 bytes; the ack repeats them."""

MAX_METADATA_BYTES = 64 << 10
"""Metadata longer than this is not unpacked."""

MAX_ODD_KEYS = 4096
"""Keys of a record that needs the slow reader (bin or number keys); a wider one is rejected."""


class ForwardSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where in a record things are, and what is known of the sender. A key that is None is not looked for."""

    record_keys: tuple[str, ...] = ("log", "message", "MESSAGE")
    """Keys of the line, first match wins."""
    raw_key: str | None = None
    """Key of the untouched syslog line (`raw_message_key` of Fluent Bit's in_syslog); beats all others."""
    appliance_key: str | None = "appliance"
    """Key of the appliance's name (`record:appliance`)."""
    host_key: str | None = "host"
    ident_key: str | None = "ident"
    """A record with this key was taken apart by a syslog parser."""
    pri_key: str | None = "pri"
    time_key: str | None = "time"
    source: str = "fluent"
    lossy: bool | None = None
    reorder_window_s: float | None = None
    trust_host: bool = True


class Rejected(msgspec.Struct, frozen=True):
    """An entry that holds no line, for the dead letters. `reason`: entry_shape, record_not_map, record_too_wide, no_line."""

    reason: str
    payload: bytes


class Frame(msgspec.Struct, kw_only=True):
    """One decoded frame. `lines`, `heads` and the lists that are not None run in parallel.

    `mode`: message, forward, packed, compressed. `signal`: `fluent_signal`; not 0 = no log lines in it (docs/wires.md 1.3).
    `chunk`: the msgpack str or bin as received, header included, so that the ack repeats it byte for byte; None = no ack wanted.
    `key`: 16 bytes, hash(tag, chunk, payload), when there is a chunk.
    `heads`: undecoded time, or [time, metadata], of each line.
    `resources`: what the group marker before a line said (`{b"attributes": {...}}`), None for lines outside groups.
    """

    tag: str
    mode: str
    lines: list[bytes]
    heads: list[Raw] | list[bytes]
    chunk: bytes | None = None
    key: bytes | None = None
    signal: int = 0
    rejected: list[Rejected] = []
    appliances: list[str | None] | None = None
    resources: list[dict[Any, Any] | None] | None = None
    reconstructed: list[bool] | None = None

    @property
    def times_s(self) -> EntryTimes:
        """The sender's time of each line, decoded when asked for."""
        return EntryTimes(self.heads)

    def metadata(self, line: int) -> dict[Any, Any] | None:
        """The v1.5 metadata map of one line, strings as bytes; None if it has none."""
        head = bytes(self.heads[line])
        if not array_header(head) or len(head) > MAX_METADATA_BYTES:
            return None
        try:
            parts = msgpack.unpackb(head, raw=True, strict_map_key=False)
        except (ValueError, TypeError, msgpack.UnpackException):
            return None
        return parts[1] if len(parts) > 1 and isinstance(parts[1], dict) else None


# -- from a raw frame to lines ---------------------------------------------------------------------------------------------------
_GROUP_START = (0xFFFFFFFF, 0)
_GROUP_END = (0xFFFFFFFE, 0)
_GROUP_MARKS = (b"\xd7\x00\xff\xff\xff", b"\xc7\x08\x00\xff\xff\xff")
"""Bytes without which no entry is a group marker (docs/wires.md 1.8 item 5)."""

_FULL_LINE = re.compile(
    rb"(?:<\d{1,3}>)?(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?(?:(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +\d|\d{4}[- ]|1 \d{4}-)"
)
"""A line that still has its time (docs/log-lines.md 1): it was not taken apart."""


class _Lines(msgspec.Struct):
    """Lines collected one by one."""

    lines: list[bytes] = []
    heads: list[Any] = []
    rejected: list[Rejected] = []
    appliances: list[str | None] = []
    resources: list[dict[Any, Any] | None] = []
    reconstructed: list[bool] = []

    def add(self, line: bytes, head: Raw | bytes, appliance: str | None, resource: dict[Any, Any] | None, *, reconstructed: bool) -> None:
        self.lines.append(line)
        self.heads.append(head)
        self.appliances.append(appliance)
        self.resources.append(resource)
        self.reconstructed.append(reconstructed)

    def put_into(self, frame: Frame) -> None:
        frame.lines, frame.heads, frame.rejected = self.lines, self.heads, self.rejected
        frame.appliances = self.appliances if _present(self.appliances) else None
        frame.resources = self.resources if _present(self.resources) else None
        frame.reconstructed = self.reconstructed if any(self.reconstructed) else None


class FrameDecoder:
    """Decodes frames by one set of settings and limits. Keeps nothing between frames."""

    def __init__(self, settings: ForwardSettings | None = None, limits: Limits | None = None) -> None:
        self.settings = settings = settings or ForwardSettings()
        self._limits = limits or Limits()
        line_keys = ((settings.raw_key,) if settings.raw_key else ()) + settings.record_keys
        pieces = (settings.appliance_key, settings.host_key, settings.ident_key, settings.pri_key, settings.time_key)
        names = dict.fromkeys(key for key in (*line_keys, *pieces) if key)
        fields = {name: f"f{i}" for i, name in enumerate(names)}
        # One optional field per wanted key; msgspec steps over all others without making objects of them.
        record = msgspec.defstruct(
            "Record", [(attr, Raw, msgspec.field(default=None, name=name)) for name, attr in fields.items()], gc=False
        )
        self._record: Callable[..., Any] = record
        self._attr_of = {name.encode(): attr for name, attr in fields.items()}
        self._entries = msgspec.msgpack.Decoder(list[tuple[Raw, record]])  # type: ignore[valid-type]
        self._entry = msgspec.msgpack.Decoder(tuple[Raw, record])  # type: ignore[valid-type]
        self._raw: Callable[[Any], Any] = attrgetter(fields[settings.raw_key]) if settings.raw_key else _nothing
        self._message_getters = [attrgetter(fields[key]) for key in settings.record_keys]
        self._line_getters = [*([self._raw] if settings.raw_key else []), *self._message_getters]
        self._appliance, self._host, self._ident, self._pri, self._time = (attrgetter(fields[key]) if key else _nothing for key in pieces)

    def decode(self, raw: RawFrame) -> Frame:
        """Decode one frame. Raises BadFrame, UnreadablePayload, PayloadTooLarge; never anything else, whatever the bytes are."""
        data, starts = raw.data, raw.starts
        tag = text_of(data[starts[0] : starts[1]])
        if tag is None:
            raise BadFrame("tag_type")
        if len(tag) > self._limits.max_tag_bytes:
            raise BadFrame("tag_length")
        mode = mode_of(data[starts[1]])
        if mode is None:
            raise BadFrame("no_mode")
        after = 3 if mode == "message" else 2
        if len(starts) <= after:
            raise BadFrame("array_length")
        chunk, size, compressed, signal = self._options(data[starts[after] : starts[after + 1]] if len(starts) > after + 1 else b"\xc0")
        header = text_header(data[starts[1]]) or 0  # 0 unless packed
        payload = memoryview(data)[starts[1] + header : starts[after]]  # not a copy: packed entries can be long
        key = frame_key(tag, chunk, payload)
        frame = Frame(tag=tag.decode("utf-8", "backslashreplace"), mode=mode, lines=[], heads=[], chunk=chunk, signal=signal)
        frame.key = key if chunk is not None else None
        if signal:
            return frame
        try:
            if mode == "message":
                self._fill(frame, b"".join((b"\x91\x92", payload)), 1)
            elif mode == "forward":
                listed = bytes(payload)
                self._fill(frame, listed, count_of(listed))
            else:
                body: memoryview | bytearray = payload
                algorithm = sniff(payload) or compressed
                if algorithm is not None:
                    frame.mode = "compressed"
                    body = inflate(payload, algorithm, max_bytes=self._limits.max_decompressed_bytes)
                self._fill(frame, *self._as_list(body, size))
        except InflatedTooLarge as error:
            raise PayloadTooLarge("decompressed_size", str(error), tag=frame.tag, chunk=chunk, key=key, payload=data) from error
        except _TooMany as error:
            raise PayloadTooLarge("entries", str(error), tag=frame.tag, chunk=chunk, key=key, payload=data) from error
        except BadCompression as error:
            raise UnreadablePayload("compression", str(error), tag=frame.tag, chunk=chunk, key=key, payload=data) from error
        except BadFrame as error:  # of the packed entries
            kind = PayloadTooLarge if error.reason == "too_deep" else UnreadablePayload
            raise kind(f"entries_{error.reason}", tag=frame.tag, chunk=chunk, key=key, payload=data) from error
        return frame

    def _options(self, option: bytes) -> tuple[bytes | None, int | None, str | None, int]:
        """(chunk as received, size hint, compression, signal) of the option element. Unknown keys are ignored (docs/wires.md 1.3)."""
        if option[0] == 0xC0:
            return None, None, None, 0
        if not is_map(option[0]):
            raise BadFrame("option_type")
        if len(option) > self._limits.max_option_bytes:
            raise BadFrame("option_length")
        chunk: bytes | None = None
        size: int | None = None
        compressed: str | None = None
        signal = 0
        for name, value in pairs(option):
            if name == b"chunk" and value != b"\xc0":
                text = text_of(value)
                if text is None or len(text) > MAX_CHUNK_BYTES:
                    raise BadFrame("chunk_type")
                chunk = value
            elif name == b"size":
                size = int_of(value)
            elif name == b"fluent_signal":
                signal = int_of(value) or 0
            elif name == b"compressed" and value != b"\xc0":
                text = text_of(value)
                compressed = "?" if text is None else text.decode("ascii", "replace")
        return chunk, size, None if compressed in ("", "text") else compressed, signal

    def _as_list(self, body: memoryview | bytearray, hint: int | None) -> tuple[bytes, int]:
        """Packed entries with an array header in front, and their number. `hint`: option `size`, never trusted (docs/wires.md 1.3)."""
        depth, limit = self._limits.max_depth - 1, self._limits.max_entries
        if hint is not None and 0 <= hint <= min(len(body), limit):
            listed = _array_of(hint, body)
            if Skipper(max_depth=depth, max_bytes=len(listed)).feed(listed) == len(listed):
                return listed, hint
        unpacker = msgpack.Unpacker(max_buffer_size=len(body) + 1024, read_size=1024)
        unpacker.feed(body)
        count = 0
        try:
            while unpacker.tell() < len(body):
                unpacker.skip()
                count += 1
                if count > limit:
                    raise _TooMany(f"more than {limit} entries")
        except msgpack.OutOfData as error:
            raise BadFrame("cut_off") from error
        except msgpack.StackError as error:
            raise BadFrame("too_deep") from error
        except ValueError as error:
            raise BadFrame("not_msgpack") from error
        listed = _array_of(count, body)
        Skipper(max_depth=depth, max_bytes=len(listed)).feed(listed)  # raises if too deep
        return listed, count

    def _fill(self, frame: Frame, listed: bytes, count: int) -> None:
        """Put the lines of `listed`, a msgpack array of `count` entries, into `frame`."""
        if count > self._limits.max_entries:
            raise _TooMany(f"{count} entries")
        try:
            entries = self._entries.decode(listed)
        except (msgspec.DecodeError, RecursionError):  # ValidationError is a DecodeError
            pass
        else:
            heads = list(map(itemgetter(0), entries))
            stamps = b"".join(heads)  # a search in these costs a tenth of one in the whole
            marked = any(mark in stamps for mark in _GROUP_MARKS)
            if not marked and (self._fill_at_once(frame, heads, entries) or self._fill_by_record(frame, entries)):
                return
        self._fill_by_entry(frame, listed, count)

    def _fill_at_once(self, frame: Frame, heads: list[Raw], entries: list[tuple[Raw, Any]]) -> bool:
        """All lines in a few calls, if all records have theirs under the same key and as it came. False = nothing was done."""
        records = list(map(itemgetter(1), entries))
        values: list[Raw | None] = []
        for getter in self._line_getters:
            values = list(map(getter, records))
            missing = values.count(None)
            if missing < len(values) or not values:
                if missing or (getter is not self._raw and _present(map(self._ident, records))):
                    return False
                break
        lines = _texts(values)
        if lines is None:
            return False
        frame.lines = lines
        frame.heads = heads
        if self._appliance is not _nothing:
            named = list(map(self._appliance, records))
            if named.count(None) < len(named):
                frame.appliances = _names(named)
        return True

    def _fill_by_record(self, frame: Frame, entries: list[tuple[Raw, Any]]) -> bool:
        """Record by record: keys that differ, pieces of syslog parsers. False = an entry has no line, nothing was done."""
        out = _Lines()
        for head, record in entries:
            line, reconstructed = self._line(record, head)
            if line is None:
                return False
            out.add(line, head, _name(self._appliance(record)), None, reconstructed=reconstructed)
        out.put_into(frame)
        return True

    def _fill_by_entry(self, frame: Frame, listed: bytes, count: int) -> None:
        """Entry by entry: group markers, keys that are no str, entries that hold no line."""
        out = _Lines()
        resource: dict[Any, Any] | None = None
        for entry in members(listed, count):
            parsed = self._parse(entry)
            if isinstance(parsed, Rejected):
                out.rejected.append(parsed)
                continue
            head, record, body = parsed
            stamp = event_time_of(head)
            if stamp in (_GROUP_START, _GROUP_END):
                resource = self._resource(body) if stamp == _GROUP_START else None
                continue
            line, reconstructed = self._line(record, head)
            if line is None:
                out.rejected.append(Rejected("no_line", entry))
                continue
            out.add(line, head, _name(self._appliance(record)), resource, reconstructed=reconstructed)
        out.put_into(frame)

    def _parse(self, entry: bytes) -> tuple[bytes, Any, bytes] | Rejected:
        """(time or [time, metadata], wanted values, whole record) of one entry."""
        if entry[:1] == b"\x92":
            at = 1
        elif entry[:3] == b"\xdc\x00\x02" or entry[:5] == b"\xdd\x00\x00\x00\x02":
            at = array_header(entry)
        else:
            return Rejected("entry_shape", entry)
        try:
            head_raw, record = self._entry.decode(entry)
        except (msgspec.DecodeError, RecursionError):
            pass
        else:
            head = bytes(head_raw)
            return head, record, entry[at + len(head) :]
        unpacker = msgpack.Unpacker(max_buffer_size=len(entry) + 1024, read_size=1024)
        unpacker.feed(entry)
        unpacker.read_array_header()
        unpacker.skip()
        begin = unpacker.tell()
        if not is_map(entry[begin]):
            return Rejected("record_not_map", entry)
        if unpacker.read_map_header() > MAX_ODD_KEYS:
            return Rejected("record_too_wide", entry)
        body = entry[begin:]
        # The keys are what the typed decode did not take: bin, or not even strings.
        values = {self._attr_of[name]: value for name, value in pairs(body) if name in self._attr_of}
        return entry[at:begin], self._record(**values), body

    def _line(self, record: msgspec.Struct, head: Raw | bytes) -> tuple[bytes | None, bool]:
        """The line of one record and whether it was put together again (docs/wires.md 6.5). The line is without its line end."""
        raw = _text_or_none(self._raw(record))
        if raw is not None:
            return _without_line_end(raw), False
        found = [text for text in (_text_or_none(get(record)) for get in self._message_getters) if text is not None]
        if not found:
            return None, False
        ident = _text_or_none(self._ident(record))
        if ident is None:
            return _without_line_end(found[0]), False
        for text in found:
            if _FULL_LINE.match(text):
                return _without_line_end(text), False
        pieces = (_text_or_none(get(record)) for get in (self._host, self._pri, self._time))
        return _rebuilt(_without_line_end(found[0]), ident, *pieces, head=bytes(head)), True

    def _resource(self, record: bytes) -> dict[Any, Any] | None:
        """The `resource` of a group start marker. One too large to be real is left out."""
        if len(record) > self._limits.max_option_bytes:
            return None
        try:
            found = msgpack.unpackb(record, raw=True, strict_map_key=False)[b"resource"]
        except (ValueError, TypeError, KeyError, msgpack.UnpackException):
            return None
        return found if isinstance(found, dict) else None


class _TooMany(Exception):
    """More entries than the limit."""


def frame_key(tag: bytes, chunk: bytes | None, payload: bytes | memoryview) -> bytes:
    """16 bytes that are equal for a frame sent again (docs/correlation.md 6). A real hash: none can be made to pass for another's."""
    digest = hashlib.blake2b(digest_size=16)
    content = b"" if chunk is None else cast("bytes", text_of(chunk))
    digest.update(len(tag).to_bytes(4, "big") + tag + len(content).to_bytes(4, "big") + content)
    digest.update(payload)
    return digest.digest()


def _rebuilt(message: bytes, ident: bytes, host: bytes | None, pri: bytes | None, time: bytes | None, *, head: bytes) -> bytes:
    """A syslog line from the pieces an RFC 3164 parser made of it, its mistake with lines that have no host undone (docs/wires.md 6.5).

    Where the parser dropped the time, the entry's own time stands in for it, with its zone, as a relay would write it.
    """
    if host is not None and host.endswith(b":"):  # `mail_logs: Info: MID 6` was read as host, ident, message
        ident, message = host[:-1], ident + b": " + message
        host = None
    if time is None:
        time = _iso_time(head)
    prefix = b"<" + pri + b">" if pri is not None and pri.isdigit() and len(pri) <= 3 else b""
    if not prefix and time is None:
        return message  # host and log name are understood only behind a priority or a time
    return prefix + b" ".join([piece for piece in (time, host) if piece] + [ident + b": " + message])


def _iso_time(head: bytes) -> bytes | None:
    """`2025-11-24T14:22:57.000000001+00:00` from an entry's time, nanoseconds only if it has some; None if it has no usable time."""
    seconds_s = time_of(head)
    if seconds_s is None:
        return None
    seconds, nanoseconds = event_time_of(head) or (int(seconds_s), 0)
    return _iso_second(seconds) + (b".%09d+00:00" % nanoseconds if nanoseconds else b"+00:00")


@lru_cache(maxsize=256)
def _iso_second(seconds: int) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


# -- strings of records ---
def _present(values: Iterable[object]) -> bool:
    """Whether one of them is not None."""
    found = list(values)
    return found.count(None) < len(found)


def _nothing(_record: object) -> None:
    return None


def _text_or_none(value: Raw | bytes | None) -> bytes | None:
    return None if value is None else text_of(bytes(value))


def _name(value: Raw | bytes | None) -> str | None:
    """A name from a record, None if it is missing, empty or no string. Undecodable bytes stay distinguishable."""
    text = _text_or_none(value)
    return text.decode("utf-8", "backslashreplace") if text else None


def _names(values: list[Raw | None]) -> list[str | None] | None:
    seen: dict[bytes, str | None] = {}
    names: list[str | None] = []
    for value in values:
        wire = b"\xc0" if value is None else bytes(value)
        if wire not in seen:
            seen[wire] = _name(wire)
        names.append(seen[wire])
    return names if any(seen.values()) else None


def _texts(values: list[Raw | None]) -> list[bytes] | None:
    """The bytes of many str or bin values, without line ends; None if one of them is missing or anything else."""
    try:
        joined = b"".join(cast("list[bytes]", values))
    except TypeError:  # a None among them
        return None
    # Whatever is not a string is refused by the limits or shows by its type, before it can become a large object.
    unpacker = msgpack.Unpacker(raw=True, max_buffer_size=len(joined) + 1024, read_size=1024, max_array_len=0, max_map_len=0, max_ext_len=0)
    unpacker.feed(joined)
    try:
        lines: list[bytes] = list(unpacker)
    except (ValueError, msgpack.UnpackException):
        return None
    if len(lines) != len(values) or set(map(type, lines)) - {bytes}:
        return None
    return list(map(_without_line_end, lines)) if b"\n" in joined or b"\r" in joined else lines


def _without_line_end(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _array_of(count: int, members: memoryview | bytearray) -> bytes:
    return b"".join((b"\xdd", count.to_bytes(4, "big"), members))
