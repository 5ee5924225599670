"""OTLP requests for tests: the sample of docs/wires.md 2.4, a builder, and a Hypothesis strategy."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from esa_tls.wire.otlp_decode import ProtobufReader
from esa_tls.wire.otlp_json import JsonReader
from esa_tls.wire.otlp_lines import Decoded, Origins, OtlpSettings

SAMPLE = bytes.fromhex("0a350a150a130a09686f73742e6e616d6512060a0465736131121c121a0901b06f078b8d011410092a040a0268695902b06f078b8d0114")
"""Resource host.name=esa1, time ..001, observed ..002, INFO, body "hi"."""

SAMPLE_JSON = (
    b'{"resourceLogs":[{"resource":{"attributes":[{"key":"host.name","value":{"stringValue":"esa1"}}]},"scopeLogs":[{"logRecords":'
    b'[{"timeUnixNano":"1441588984000000001","observedTimeUnixNano":"1441588984000000002","severityNumber":9,"body":{"stringValue":"hi"}}]}]}]}'
)

LINE = b"Mon Apr 17 19:56:22 2023 Info: New SMTP ICID 5 interface Management (10.1.1.1) address 10.1.1.209 reverse dns host x verified no"

Value = str | bytes | bool | int | float | None | list[Any] | dict[str, Any]


def put(value: Value, into: AnyValue) -> None:
    """Set an `AnyValue`."""
    match value:
        case None:
            pass
        case bool():
            into.bool_value = value
        case str():
            into.string_value = value
        case bytes():
            into.bytes_value = value
        case int():
            into.int_value = value
        case float():
            into.double_value = value
        case list():
            into.array_value.SetInParent()
            for one in value:
                put(one, into.array_value.values.add())
        case dict():
            into.kvlist_value.SetInParent()
            for key, one in value.items():
                pair = into.kvlist_value.values.add(key=key)
                put(one, pair.value)


def request(*records: Mapping[str, Any], resource: Mapping[str, Value] | None = None) -> ExportLogsServiceRequest:
    """A request of one resource. A record: `body`, `attributes`, and other fields of LogRecord by name."""
    made = ExportLogsServiceRequest()
    group = made.resource_logs.add()
    for key, value in (resource or {}).items():
        put(value, group.resource.attributes.add(key=key).value)
    scope = group.scope_logs.add()
    for wanted in records:
        record = scope.log_records.add()
        fill(record, **wanted)
    return made


def fill(record: LogRecord, *, body: Value = None, attributes: Mapping[str, Value] | None = None, **fields: Any) -> None:
    """Set a LogRecord."""
    if body is not None:
        put(body, record.body)
    for key, value in (attributes or {}).items():
        put(value, record.attributes.add(key=key).value)
    for name, value in fields.items():
        setattr(record, name, value)


def protobuf(data: bytes, settings: OtlpSettings | None = None, *, peer: str | None = None) -> Decoded:
    """Decode by a new reader."""
    settings = settings or OtlpSettings()
    return ProtobufReader(settings, Origins(settings)).decode(data, peer=peer)


def from_json(data: bytes | str, settings: OtlpSettings | None = None, *, peer: str | None = None) -> Decoded:
    """The same for JSON."""
    settings = settings or OtlpSettings()
    return JsonReader(settings, Origins(settings)).decode(data.encode() if isinstance(data, str) else data, peer=peer)


def told(decoded: Decoded) -> list[tuple[Any, tuple[str, ...], list[bytes], list[float | None]]]:
    """Runs as plain values."""
    return [(run.origin, run.flags, run.lines, list(run.sender_times_s or ())) for run in decoded.runs]


# -- JSON by docs/wires.md 2.3 from messages, independent of the reader ------------------------------------------------------------
def json_of(made: ExportLogsServiceRequest, *, numbers: bool = False) -> bytes:
    """OTLP's JSON of a request; `numbers`: 64-bit ints as numbers instead of text."""

    def whole(value: int) -> int | str:
        return value if numbers else str(value)

    def any_value(value: AnyValue) -> dict[str, Any]:
        match value.WhichOneof("value"):
            case "string_value":
                return {"stringValue": value.string_value}
            case "bool_value":
                return {"boolValue": value.bool_value}
            case "int_value":
                return {"intValue": whole(value.int_value)}
            case "double_value":
                return {"doubleValue": value.double_value}
            case "array_value":
                return {"arrayValue": {"values": [any_value(one) for one in value.array_value.values]}}
            case "kvlist_value":
                return {"kvlistValue": {"values": pairs(value.kvlist_value.values)}}
            case "bytes_value":
                return {"bytesValue": base64.b64encode(value.bytes_value).decode()}
            case _:
                return {}

    def pairs(found: Any) -> list[dict[str, Any]]:
        return [{"key": pair.key, "value": any_value(pair.value)} for pair in found]

    def record(one: LogRecord) -> dict[str, Any]:
        made: dict[str, Any] = {"severityNumber": one.severity_number, "severityText": one.severity_text, "flags": one.flags}
        made["timeUnixNano"] = whole(one.time_unix_nano)
        made["observedTimeUnixNano"] = whole(one.observed_time_unix_nano)
        made["traceId"] = one.trace_id.hex().upper()
        made["spanId"] = one.span_id.hex()
        made["eventName"] = one.event_name
        if one.HasField("body"):
            made["body"] = any_value(one.body)
        made["attributes"] = pairs(one.attributes)
        return made

    return json.dumps(
        {
            "resourceLogs": [
                {
                    "resource": {"attributes": pairs(group.resource.attributes)},
                    "scopeLogs": [{"logRecords": [record(one) for one in scope.log_records]} for scope in group.scope_logs],
                }
                for group in made.resource_logs
            ]
        }
    ).encode()


_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.sampled_from(
    [LINE.decode(), LINE.decode() + "\n", "x" * 127, "x" * 128, "y" * 16383, "z" * 16384, "13 <22>hello", "<166>Mar 17 18:24:37 x: Info: a"]
)
_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _texts
    | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_texts | st.sampled_from(["log", "message", "host", "ident"]), inner, max_size=4)
    ),
    max_leaves=6,
)
_keys = st.sampled_from(
    [
        "log.file.name",
        "log.file.path",
        "host.name",
        "appliance",
        "fluent.tag",
        "hostname",
        "appname",
        "priority",
        "message",
        "host",
        "ident",
        "pri",
        "k",
    ]
)
_times = st.sampled_from([0, 1, 1_441_588_984_000_000_001, 2**63, 2**64 - 1])
_records = st.fixed_dictionaries(
    {"body": _values, "attributes": st.dictionaries(_keys, _values | _texts, max_size=4)},
    optional={
        "time_unix_nano": _times,
        "observed_time_unix_nano": _times,
        "severity_number": st.integers(0, 24),
        "severity_text": st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        "dropped_attributes_count": st.integers(0, 300),
        "flags": st.integers(0, 255),
        "trace_id": st.binary(max_size=16),
        "span_id": st.binary(max_size=8),
        "event_name": st.sampled_from(["", "e"]),
    },
)


@st.composite
def requests(draw: st.DrawFn) -> ExportLogsServiceRequest:
    """Requests of any shape that protobuf's own messages can have."""
    made = ExportLogsServiceRequest()
    for resource, scopes in draw(
        st.lists(st.tuples(st.dictionaries(_keys, _values, max_size=3), st.lists(st.lists(_records, max_size=4), max_size=2)), max_size=3)
    ):
        for records in scopes or [[]]:
            made.MergeFrom(request(*records, resource=resource))
    return made


def all_records(made: ExportLogsServiceRequest) -> Sequence[LogRecord]:
    """Every record of a request."""
    return [record for group in made.resource_logs for scope in group.scope_logs for record in scope.log_records]
