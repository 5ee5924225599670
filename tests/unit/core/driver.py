"""Drives a `Pipeline` in tests: lines in, records out as dicts, each checked against the table of fields."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from esa_tls.core.batch import Batch, Origin, Row, Run
from esa_tls.core.fields import FIELDS, Field
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.state import DictState

Record = dict[str, Any]

T0 = 1_763_942_400
"""Mon Nov 24 00:00:00 2025 UTC: where test logs begin."""

FILE = Origin(source="test")
UDP = Origin(source="udp", lossy=True)

_FIELDS = {(field.path, kind): field for field in FIELDS for kind in field.kinds}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def stamp(seconds: float = 0) -> str:
    """The text time of a file log, `seconds` after T0."""
    return (_EPOCH + dt.timedelta(seconds=T0 + int(seconds))).strftime("%a %b %e %H:%M:%S %Y")


def at(seconds: float, *texts: str, level: str = "Info") -> list[bytes]:
    """Lines of a file log, `seconds` after T0."""
    return [f"{stamp(seconds)} {level}: {text}".encode() for text in texts]


def syslog(seconds: float, *texts: str, host: str = "", name: str = "mail_logs") -> list[bytes]:
    """The same as syslog datagrams, without a year."""
    when = (_EPOCH + dt.timedelta(seconds=T0 + int(seconds))).strftime("%b %e %H:%M:%S")
    return [f"<166>{when} {host + ' ' if host else ''}{name}: Info: {text}".encode() for text in texts]


def iso(seconds: float) -> str:
    """`seconds` after T0 as records print it."""
    return (_EPOCH + dt.timedelta(seconds=T0 + int(seconds))).strftime("%Y-%m-%dT%H:%M:%SZ")


def own(record: Record) -> Record:
    """`cisco_esa` of a record."""
    part: Record = record["cisco_esa"]
    return part


def triple(record: Record) -> tuple[str, str, str] | None:
    """Connection id (without appliance and epoch), direction, outcome; None if a record has none of them."""
    part = own(record)
    if "connection" not in part:
        assert "direction" not in part
        assert "tls" not in part
        return None
    return part["connection"]["id"].split("/", 2)[2], part["direction"], part["tls"]["outcome"]


class Driver:
    """A pipeline on a `DictState` and everything that came out of it.

    The feed counts as unbroken from the start, late batches are looked for, and the appliance is `esa1` unless settings say otherwise.
    """

    def __init__(
        self, *, state: DictState | None = None, encodings: tuple[str, ...] = ("json",), now_s: float = T0, **settings: Any
    ) -> None:
        settings.setdefault("starts_broken", False)
        if "appliance_from" not in settings:
            settings.setdefault("appliance_name", "esa1")
        self.settings = CoreSettings(**settings)
        self.state = state or DictState()
        self.encodings = encodings
        self.now_s = now_s
        self.rows: list[Row] = []
        self.records: list[Record] = []
        self.pipeline = Pipeline(self.settings, self.state, encodings=encodings, now_s=now_s)

    def feed(self, *lines: bytes | list[bytes], origin: Origin = FILE, session: int = 1, now_s: float | None = None, **run: Any) -> Driver:
        """One batch of one run."""
        flat = [line for item in lines for line in (item if isinstance(item, list) else [item])]
        if now_s is not None:
            self.now_s = now_s
        self.pipeline.feed(Batch([Run(origin, flat, **run)], session, received_s=self.now_s), now_s=self.now_s)
        return self

    def tick(self, now_s: float) -> Driver:
        """The wall clock goes on."""
        self.now_s = now_s
        self.pipeline.tick(now_s=now_s)
        return self

    def seal(self) -> list[Record]:
        """Seal, write the state, and give the new records (of the first encoding, lines first)."""
        sealed = self.pipeline.seal()
        if sealed is None:
            return []
        self.state.apply(sealed.puts, sealed.deletes)
        self.rows += sealed.rows
        found = list(decoded(sealed.rows, self.encodings[0])) if self.encodings else []
        self.records += found
        return found

    def end(self) -> Driver:
        """The input is at its end."""
        self.pipeline.end_stream()
        self.seal()
        return self

    def restart(self) -> Driver:
        """Seal, then go on with a new pipeline on the state that was written."""
        self.seal()
        self.pipeline = Pipeline(self.settings, self.state, encodings=self.encodings, now_s=self.now_s)
        return self

    def kind(self, kind: str) -> list[Record]:
        """All records of a kind so far."""
        self.seal()
        return [record for record in self.records if record["cisco_esa"]["record"] == kind]

    def lines(self) -> list[Record]:
        """All `line` records, in the order of arrival."""
        return sorted(self.kind("line"), key=lambda record: int(record["event"]["sequence"]))

    def line(self, text: str) -> Record:
        """The one `line` record whose line ends with `text`."""
        (found,) = (record for record in self.kind("line") if record["event"]["original"].endswith(text))
        return found

    def connection(self, number: int, kind: str = "icid") -> Record:
        """The one record of a connection."""
        (found,) = (record for record in self.kind("connection") if record["cisco_esa"].get(kind) == number)
        return found

    def message(self, mid: int) -> Record:
        """The one record of a message."""
        (found,) = (record for record in self.kind("message") if record["cisco_esa"]["mid"] == mid)
        return found

    def deliveries(self, mid: int) -> list[Record]:
        """The delivery records of a message."""
        return [record for record in self.kind("delivery") if record["cisco_esa"]["mid"] == mid]

    def delivery(self, mid: int) -> Record:
        """The one delivery record of a message."""
        (found,) = self.deliveries(mid)
        return found

    def count(self, name: str) -> int:
        """A telemetry counter, over all labels."""
        return sum(n for (metric, _), n in self.pipeline.counts.items() if metric == name)


def decoded(rows: Iterable[Row], encoding: str, *, check_every: int = 1) -> Iterator[Record]:
    """The records of outbox rows, each checked; of lines only each `check_every`-th."""
    for row in rows:
        if row.encoding != encoding:
            continue
        for kind, number, data in row.segments:
            found = [msgspec.json.decode(line) for line in data.split(b"\n")[:-1]] if encoding == "json" else forward_entries(data)
            assert len(found) == number, "a segment says how many records it has"
            assert row.cls == ("line" if kind == "line" else "summary")
            for n, record in enumerate(found):
                assert record["cisco_esa"]["record"] == kind
                if kind != "line" or n % check_every == 0:
                    check(record)
                yield record


def forward_entries(data: bytes) -> list[Record]:
    """The maps of concatenated Forward entries; the time of each is checked against its map."""
    import msgpack

    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=0)
    unpacker.feed(data)
    found = []
    for time, record in unpacker:
        assert isinstance(time, msgpack.ExtType)
        assert time.code == 0
        second = dt.datetime.fromisoformat(record["@timestamp"]).timestamp()
        assert int.from_bytes(time.data[:4], "big") == second or not 0 <= second < 2**32
        found.append(record)
    return found


def check(record: Record) -> None:
    """Every path of a record is in the table of fields, with a value of its type; nothing is null or empty."""
    kind = record["cisco_esa"]["record"]
    for path, value in walk(record):
        field = _FIELDS.get((path, kind))
        assert field is not None, f"{path} of {kind} records is not in the table of fields"
        assert _fits(field, value), f"{path} = {value!r} is no {field.type}"
        assert value != "pending" or kind == "line" or path == "cisco_esa.recipients.result", f"{path} of a summary is pending"
    assert len(record["event"]["id"]) == 26
    if "raw_base64" in record["cisco_esa"]:
        raw = base64.b64decode(record["cisco_esa"]["raw_base64"])
        assert raw.decode("utf-8", "replace") == record["event"]["original"]


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of all leaves; lists of objects are gone into, and given as themselves as well."""
    for name, inner in value.items():
        here = f"{path}.{name}" if path else name
        if isinstance(inner, dict):
            assert inner, f"{here} is an empty object"
            yield from walk(inner, here)
            continue
        yield here, inner
        if isinstance(inner, list):
            for item in inner:
                if isinstance(item, dict):
                    yield from walk(item, here)


def _fits(field: Field, value: Any) -> bool:
    if field.many:
        return isinstance(value, list) and 0 < len(value) <= 100 and all(_fits_one(field, item) for item in value)
    return _fits_one(field, value)


def _fits_one(field: Field, value: Any) -> bool:
    match field.type:
        case "keyword":
            return isinstance(value, str) and value != ""
        case "text":
            return isinstance(value, str)
        case "long":
            return type(value) is int and -(2**63) <= value < 2**63
        case "float":
            return type(value) in (int, float)
        case "boolean":
            return type(value) is bool
        case "date":
            return dt.datetime.fromisoformat(value).tzinfo is not None
        case "ip":
            return bool(ipaddress.ip_address(value))
        case "nested":
            return isinstance(value, dict)
