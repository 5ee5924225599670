"""From OTLP log records to lines: what protobuf and JSON requests have in common (docs/wires.md 2.3 to 2.5, 6.5). Pure.

A reader (`otlp_decode`, `otlp_json`) opens one `Resource` per ResourceLogs and gives it each record as plain values: body and
attributes with strings as bytes, as nothing promises that they are UTF-8.

Whose line it is and how it came (`Origin`) depends on resource and attributes alone, so it is worked out once per set of attributes
(`Way`). The line is the body: a string or bytes as it is, of a map the first of `line_keys`. What a syslog parser took apart is put
together again (`reconstructed`) when what is left has no time of its own; attributes are only hints for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import overload

import msgspec

from esa_tls.core.batch import Batch, Origin, Run
from esa_tls.wire.fluent_decode import Rejected

__all__ = ["Decoded", "NanoTimes", "OtlpSettings", "RequestLines", "Resource", "Way", "batch_key"]

Value = bytes | bool | int | float | None | list["Value"] | dict[str, "Value"]
"""An `AnyValue`: strings and bytes are both bytes, an empty value is None."""

NO_TIME = bytes(8)


class OtlpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where in a record things are, and what is known of the sender."""

    line_keys: tuple[str, ...] = ("log", "message", "MESSAGE")
    """Keys of a body that is a map, first match wins."""
    appliance_key: str | None = "appliance"
    """Attribute (of the record, else its resource) or key of the body that names the appliance: `record:appliance`."""
    host_attributes: tuple[str, ...] = ("host.name",)
    """Attributes that name the host (`otlp:host.name`): the first there is, in the resource before the record."""
    log_name_attribute: str | None = "cisco_esa.log_name"
    source: str = "otlp"
    lossy: bool | None = None
    reorder_window_s: float | None = None
    trust_host: bool = True


class Decoded(msgspec.Struct):
    """A request: its lines by origin, in order inside each, and the records that hold no line. `records`: all there were."""

    runs: list[Run]
    rejected: list[Rejected]
    records: int

    def batch(self, *, key: bytes | None, session: int, received_s: float) -> Batch:
        """The core batch of the lines."""
        return Batch(self.runs, session, key, received_s)


def batch_key(request: bytes) -> bytes:
    """16 bytes that are equal for a request sent again (docs/correlation.md 6). A real hash: none can be made to pass for another's."""
    return blake2b(request, digest_size=16, person=b"otlp").digest()


class NanoTimes(Sequence[float | None]):
    """Times of records in seconds since 1970 UTC, from fixed64 nanoseconds read at access; None = 0, which means unknown."""

    __slots__ = ("_stamps",)

    def __init__(self, stamps: list[bytes]) -> None:
        self._stamps = stamps

    def __len__(self) -> int:
        return len(self._stamps)

    @overload
    def __getitem__(self, index: int) -> float | None: ...
    @overload
    def __getitem__(self, index: slice) -> NanoTimes: ...
    def __getitem__(self, index: int | slice) -> float | NanoTimes | None:
        if isinstance(index, slice):
            return NanoTimes(self._stamps[index])
        return _seconds_of(self._stamps[index])


def _seconds_of(stamp: bytes) -> float | None:
    """Seconds of 8 bytes of nanoseconds. The year 2106 is the last one that record ids can tell, as with Forward."""
    nanoseconds = int.from_bytes(stamp, "little")
    return nanoseconds * 1e-9 if 0 < nanoseconds < 10**9 << 32 else None


class Way:
    """How records with one set of attributes come: where their lines and times gather, and pieces a syslog parser left.

    `pieces`: None for nearly all; then a line is the body.
    """

    __slots__ = ("lines", "origin", "pieces", "stamps")

    def __init__(self, origin: Origin, pieces: dict[str, bytes] | None) -> None:
        self.origin = origin
        self.pieces = pieces
        self.lines: list[bytes] = []
        self.stamps: list[bytes] = []


class RequestLines:
    """Gathers the lines of one request. `peer`: the sender's address."""

    def __init__(self, settings: OtlpSettings, origins: Origins, peer: str | None) -> None:
        self.settings = settings
        self.peer = peer
        self.rejected: list[Rejected] = []
        self.records = 0
        self._origins = origins
        self._runs: dict[tuple[int, bool], Way] = {}

    def resource(self, attributes: Mapping[str, Value]) -> Resource:
        """The records of one resource come next."""
        return Resource(self, attributes)

    def run_of(self, origin: Origin, *, reconstructed: bool) -> Way:
        """Where lines of this origin gather; with `reconstructed` those that carry that flag."""
        way = self._runs.get((id(origin), reconstructed))
        if way is None:
            way = self._runs[id(origin), reconstructed] = Way(origin, None)
        return way

    def origin(self, attributes: Mapping[str, Value], resource: Mapping[str, Value], body: Mapping[str, Value] | None) -> Origin:
        """How lines with these attributes came; `body` if it is a map."""
        settings = self.settings
        appliance = None
        if settings.appliance_key is not None:
            places = (attributes, resource) if body is None else (body, attributes, resource)
            appliance = _first(place.get(settings.appliance_key) for place in places)
        return self._origins.get(
            tag=_name(attributes.get("fluent.tag")),
            peer=self.peer,
            record_appliance=appliance,
            otlp_host=_first(place.get(key) for place in (resource, attributes) for key in settings.host_attributes),
            log_name=_name(attributes.get(settings.log_name_attribute)) if settings.log_name_attribute is not None else None,
            file_path=_first(attributes.get(key) for key in ("log.file.path", "log.file.name")),
        )

    def decoded(self) -> Decoded:
        """Everything that was given, as runs."""
        runs = [
            Run(way.origin, _without_line_ends(way.lines), NanoTimes(way.stamps), ("reconstructed",) if reconstructed else ())
            for (_, reconstructed), way in self._runs.items()
            if way.lines
        ]
        return Decoded(runs, self.rejected, self.records)


class Origins:
    """Interns `Origin`s: equal ways in are one object over many requests. Bounded."""

    def __init__(self, settings: OtlpSettings, *, max_origins: int = 4096) -> None:
        self._settings = settings
        self._max_origins = max_origins
        self._known: dict[tuple[str | None, ...], Origin] = {}

    def get(
        self,
        *,
        tag: str | None,
        peer: str | None,
        record_appliance: str | None,
        otlp_host: str | None,
        log_name: str | None,
        file_path: str | None,
    ) -> Origin:
        """The origin of lines that came this way."""
        wanted = (tag, peer, record_appliance, otlp_host, log_name, file_path)
        origin = self._known.get(wanted)
        if origin is None:
            if len(self._known) >= self._max_origins:
                self._known = {}  # sharing is lost for a moment, nothing else
            settings = self._settings
            origin = self._known[wanted] = Origin(
                settings.source, *wanted, lossy=settings.lossy, reorder_window_s=settings.reorder_window_s, trust_host=settings.trust_host
            )
        return origin


# Names that syslog parsers give their pieces: Fluent Bit's, then the Collector's (docs/wires.md 2.5, 6.5).
_HOST, _IDENT, _PRIORITY, _MESSAGE = ("host", "hostname"), ("ident", "appname"), ("pri", "priority"), ("message",)
_PIECES = (*_HOST, *_IDENT, *_PRIORITY, *_MESSAGE)

_FULL_LINE = re.compile(
    rb"(?:<\d{1,3}>)?(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) )?"
    rb"(?:(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +\d|\d{4}[- ]|1 (?:\d{4}-|- ))"
)
"""A line that still has its time (docs/log-lines.md 1): it was not taken apart."""

_OCTET_COUNT = re.compile(rb"[1-9][0-9]{0,6} (?=<[0-9]{1,3}>)")
"""What the Collector's syslog receiver leaves before a frame that was octet-counted."""


class Resource:
    """The records of one ResourceLogs."""

    def __init__(self, request: RequestLines, attributes: Mapping[str, Value]) -> None:
        self._request = request
        self._attributes = attributes

    def way(self, attributes: Mapping[str, Value]) -> Way:
        """How records with these attributes come, if their body is a string or bytes.

        Without `pieces` the caller may put line and stamp there itself, for any number of records.
        """
        pieces = _pieces_of(attributes)
        origin = self._request.origin(attributes, self._attributes, None)
        if pieces is None:
            return self._request.run_of(origin, reconstructed=False)
        return Way(origin, pieces)

    def add_text(self, way: Way, text: bytes, stamp: bytes) -> None:
        """A record whose body is a string or bytes. `stamp`: its time as fixed64."""
        if way.pieces is None:
            way.lines.append(text)
            way.stamps.append(stamp)
        else:
            self._add(way.origin, *_line_of(text, way.pieces, stamp), stamp)

    def add(self, body: Value, attributes: Mapping[str, Value], stamp: bytes, record: bytes) -> None:
        """A record of any kind. `record`: its bytes, for the dead letters if it holds no line."""
        if isinstance(body, bytes):
            self.add_text(self.way(attributes), body, stamp)
        elif isinstance(body, dict):
            keys = self._request.settings.line_keys
            found = [text for key in keys if isinstance(text := body.get(key), bytes)]
            if not found:
                self.reject("no_line", record)
                return
            origin = self._request.origin(attributes, self._attributes, body)
            pieces = _pieces_of({**attributes, **body})
            full = next((text for text in found if _FULL_LINE.match(text)), None)
            if full is not None or pieces is None or not any(key in pieces for key in _IDENT):
                self._add(origin, full if full is not None else found[0], False, stamp)
            else:
                self._add(origin, *_line_of(found[0], pieces, stamp), stamp)
        else:
            self.reject("no_body" if body is None else "body_type", record)

    def reject(self, reason: str, record: bytes) -> None:
        """A record that holds no line."""
        self._request.rejected.append(Rejected(reason, record))

    def _add(self, origin: Origin, line: bytes, reconstructed: bool, stamp: bytes) -> None:  # noqa: FBT001 (from a tuple)
        way = self._request.run_of(origin, reconstructed=reconstructed)
        way.lines.append(line)
        way.stamps.append(stamp)


def _pieces_of(attributes: Mapping[str, Value]) -> dict[str, bytes] | None:
    """Pieces of a syslog line among the attributes; None if there are none."""
    found: dict[str, bytes] = {}
    for key in _PIECES:
        value = attributes.get(key)
        if isinstance(value, bytes):
            found[key] = value
        elif isinstance(value, int) and not isinstance(value, bool) and key in _PRIORITY:
            found[key] = b"%d" % value
    return found if any(key in found for key in (*_HOST, *_IDENT)) else None


def _line_of(text: bytes, pieces: Mapping[str, bytes], stamp: bytes) -> tuple[bytes, bool]:
    """(line, whether it was put together again) of a body beside which stand pieces of a syslog parser."""
    if match := _OCTET_COUNT.match(text):
        text = text[match.end() :]
    if _FULL_LINE.match(text) or not any(key in pieces for key in _IDENT):
        return text, False
    host, ident, priority = (next((pieces[key] for key in keys if key in pieces), b"") for keys in (_HOST, _IDENT, _PRIORITY))
    return _rebuilt(_without_line_end(text), ident, host, priority, stamp)


def _rebuilt(message: bytes, ident: bytes, host: bytes, priority: bytes, stamp: bytes) -> tuple[bytes, bool]:
    """A syslog line from the pieces an RFC 3164 parser made of it, its mistake with lines that have no host undone (docs/wires.md 6.5).

    The record's own time stands in for the one that was taken out, with its zone, as a relay would write it.
    """
    if host.endswith(b":"):  # `mail_logs: Info: MID 6` was read as host, ident, message
        ident, message, host = host[:-1], ident + b": " + message, b""
    prefix = b"<" + priority + b">" if priority.isdigit() and len(priority) <= 3 else b""
    seconds = _seconds_of(stamp)
    if not prefix and seconds is None:
        return message, True  # host and log name are understood only behind a priority or a time
    time = b"" if seconds is None else _iso(int.from_bytes(stamp, "little"))
    return prefix + b" ".join([piece for piece in (time, host) if piece] + [ident + b": " + message]), True


def _iso(nanoseconds: int) -> bytes:
    """`2025-11-24T14:22:57.000000001+00:00`, the fraction only if there is one."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    return _iso_second(seconds) + (b".%09d+00:00" % fraction if fraction else b"+00:00")


@lru_cache(maxsize=256)
def _iso_second(seconds: int) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


def _name(value: Value) -> str | None:
    """A name; None if it is missing, empty or no string. Undecodable bytes stay distinguishable."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) and value else None


def _first(values: Iterable[Value]) -> str | None:
    return next((name for value in values if (name := _name(value)) is not None), None)


def _without_line_end(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r")


def _without_line_ends(lines: list[bytes]) -> list[bytes]:
    joined = b"".join(lines)
    return list(map(_without_line_end, lines)) if b"\n" in joined or b"\r" in joined else lines
