"""Records of outbox segments, read out of each encoding and written back (`core/batch.py` has the encodings). Pure.

Whatever the encoding, a record that is read is the nested dict that `core/records.py` describes, so that what is done with it is written
once. Written back without a change it says the same: in `json` and `forward` byte for byte, in `otlp` the same LogRecord with its
attributes in another order (a test compares all of them).

What the encoding `otlp` keeps elsewhere (`core/encode_otlp.py`) is put in its place when it is read: time, observed time, level, record
and the line. When it is written, time and observed time are those that were read, and the body is the line or the sentence of the record
**as it is now**: what was taken out of the record is not in it either. `host.name` stands in the resource and is left to the sink.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import msgpack
import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.resource.v1 import resource_pb2

from esa_tls.core.encode_otlp import OTEL_NAMES, SEVERITIES, attribute, attributes
from esa_tls.core.protobuf import any_value, field, fixed64, message_ends, read_varint
from esa_tls.core.records import is_ip
from esa_tls.core.sentences import sentence
from esa_tls.errors import MalformedMessage

__all__ = ["OutboxRecord", "Record", "read", "write"]

Record = dict[str, Any]


class OutboxRecord(NamedTuple):
    """A record and its bytes in the outbox. `record` is None if the bytes cannot be read, `why` then says why.

    `rest`: what its encoding says beside it, for `write`.
    """

    raw: bytes
    record: Record | None
    rest: Any = None
    why: str = ""


def read(encoding: str, segment: bytes) -> Iterator[OutboxRecord]:
    """The records of a segment, in order. Never raises: what cannot be read comes as such."""
    return _READERS[encoding](segment)


def write(encoding: str, record: Record, one: OutboxRecord) -> bytes:
    """A record as bytes of an outbox segment. `one`: what it was read from, for what the record itself does not say."""
    return _WRITERS[encoding](record, one)


# -- json ------------------------------------------------------------------------------------------------------------------------
_from_json = msgspec.json.Decoder(Record).decode
_to_json = msgspec.json.Encoder().encode


def _read_json(segment: bytes) -> Iterator[OutboxRecord]:
    for raw in segment.splitlines(keepends=True):
        try:
            yield OutboxRecord(raw, _from_json(raw))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            yield OutboxRecord(raw, None, why=str(error))


def _write_json(record: Record, one: OutboxRecord) -> bytes:
    del one
    return _to_json(record) + b"\n"


# -- forward ---------------------------------------------------------------------------------------------------------------------
_from_msgpack = msgspec.msgpack.Decoder(Record).decode
_to_msgpack = msgspec.msgpack.Encoder().encode

_HEAD_BYTES = 11
"""Array of two, EventTime as fixext8."""


def _read_forward(segment: bytes) -> Iterator[OutboxRecord]:
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(segment), 1))
    unpacker.feed(segment)
    start = 0
    while start < len(segment):
        try:
            unpacker.skip()
        except (msgpack.UnpackException, ValueError) as error:
            yield OutboxRecord(segment[start:], None, why=f"no msgpack: {error}")
            return
        raw = segment[start : unpacker.tell()]
        start += len(raw)
        if not raw.startswith(b"\x92\xd7\x00"):
            yield OutboxRecord(raw, None, why="no entry of EventTime and map")
            continue
        try:
            yield OutboxRecord(raw, _from_msgpack(memoryview(raw)[_HEAD_BYTES:]))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            yield OutboxRecord(raw, None, why=str(error))


def _write_forward(record: Record, one: OutboxRecord) -> bytes:
    return one.raw[:_HEAD_BYTES] + _to_msgpack(record)


# -- otlp ------------------------------------------------------------------------------------------------------------------------
def _message() -> Any:  # noqa: ANN401 (a class made at run time)
    """`LogRecord` with its attributes undecoded: most of them come again and again, byte for byte."""
    file = descriptor_pb2.FileDescriptorProto()
    logs_pb2.DESCRIPTOR.CopyToProto(file)
    for message in file.message_type:
        for one in message.field:
            if message.name == "LogRecord" and one.name == "attributes":
                one.type = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
                one.ClearField("type_name")
    pool = descriptor_pool.DescriptorPool()
    for module in (common_pb2, resource_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("opentelemetry.proto.logs.v1.LogRecord"))


_LogRecord = _message()

_PATHS = {name: path for path, name in OTEL_NAMES.items()}
"""OpenTelemetry's names -> ours; of an address's two the one for what is no IP address."""

_ENDS = {name: name.partition(".")[0] for name in ("source.address", "destination.address")}
_NS = 1_000_000_000


def _read_otlp(segment: bytes) -> Iterator[OutboxRecord]:
    try:
        ends = message_ends(segment)
    except MalformedMessage as error:
        yield OutboxRecord(segment, None, why=str(error))
        return
    start = 0
    for end in ends:
        raw = segment[start:end]
        start = end
        try:
            message = _LogRecord.FromString(raw[read_varint(raw, 1)[1] :])
            yield OutboxRecord(raw, _record_of(message), message)
        except (DecodeError, MalformedMessage) as error:
            yield OutboxRecord(raw, None, why=str(error))


def _record_of(message: Any) -> Record:  # noqa: ANN401 (a class made at run time)
    """Raises DecodeError, MalformedMessage."""
    kind = message.event_name.removeprefix("cisco_esa.")
    event: Record = {}
    if message.observed_time_unix_nano:
        event["created"] = _iso(message.observed_time_unix_nano // _NS)
    if kind == "line" and message.HasField("body"):
        event["original"] = message.body.string_value
    record: Record = {"@timestamp": _iso(message.time_unix_nano // _NS), "event": event, "cisco_esa": {"record": kind}}
    if message.severity_text:
        record["log"] = {"level": message.severity_text}
    for pair in message.attributes:
        parents, name, value = _attribute_of(pair)
        place = record
        for parent in parents:
            below = place.get(parent)
            if below is None:
                below = place[parent] = {}
            place = below
        place[name] = value
    if "appliance" not in record["cisco_esa"]:
        raise MalformedMessage("a record that does not say its appliance")
    return record


@lru_cache(maxsize=4096)
def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _attribute_of(pair: bytes) -> tuple[tuple[str, ...], str, Any]:
    """Names of the objects around it, its name, its value. Raises DecodeError, MalformedMessage."""
    if len(pair) > _MAX_SHARED_BYTES or pair.startswith(_UID):
        return _decoded(pair)
    parents, name, value = _shared(pair)
    # A record is changed in place by who reads it, and what is remembered is everybody's.
    if type(value) is tuple:
        return parents, name, list(value)
    return (parents, name, value) if type(value) is not list else _decoded(pair)


@lru_cache(maxsize=16_384)
def _shared(pair: bytes) -> tuple[tuple[str, ...], str, Any]:
    """The same, remembered; a list of texts or numbers as a tuple."""
    parents, name, value = _decoded(pair)
    plain = isinstance(value, list) and not any(isinstance(one, dict | list) for one in value)
    return parents, name, tuple(value) if plain else value


_MAX_SHARED_BYTES = 96
_UID = b"\x0a\x0elog.record.uid"
"""What the attribute of an id begins with: no two are the same."""


def _decoded(pair: bytes) -> tuple[tuple[str, ...], str, Any]:
    attribute = common_pb2.KeyValue.FromString(pair)
    value = _value_of(attribute.value)
    path = _PATHS.get(attribute.key, attribute.key)
    end = _ENDS.get(path)
    if end is not None and is_ip(value):
        path = f"{end}.ip"
    *parents, name = path.split(".")
    return tuple(parents), name, value


def _value_of(value: common_pb2.AnyValue) -> Any:  # noqa: ANN401 (whatever a field holds)
    """Raises MalformedMessage."""
    match value.WhichOneof("value"):
        case "array_value":
            return [_value_of(one) for one in value.array_value.values]
        case "kvlist_value":
            return {pair.key: _value_of(pair.value) for pair in value.kvlist_value.values}
        case None:
            raise MalformedMessage("an attribute without a value")
        case kind:
            return getattr(value, kind)


def _write_otlp(record: Record, one: OutboxRecord) -> bytes:
    message, own, event = one.rest, record["cisco_esa"], record.get("event", {})
    level = record.get("log", {}).get("level")
    body = event.get("original", "") if own["record"] == "line" else sentence(record)
    return field(
        2,
        b"".join(
            (
                attribute("cisco_esa.appliance", own["appliance"]),  # first: a segment is told apart by it
                fixed64(1, message.time_unix_nano),
                b"\x10" + bytes((SEVERITIES.get(level, 0),)) + field(3, level.encode()) if level else b"",
                field(12, message.event_name.encode()),
                fixed64(11, message.observed_time_unix_nano) if "created" in event else b"",
                field(5, any_value(body)) if body else b"",
                attributes(record),
            )
        ),
    )


_READERS: dict[str, Callable[[bytes], Iterator[OutboxRecord]]] = {"json": _read_json, "forward": _read_forward, "otlp": _read_otlp}
_WRITERS: dict[str, Callable[[Record, OutboxRecord], bytes]] = {"json": _write_json, "forward": _write_forward, "otlp": _write_otlp}
