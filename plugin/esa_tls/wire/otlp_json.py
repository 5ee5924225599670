"""`ExportLogsServiceRequest` in OTLP's JSON -> lines (docs/wires.md 2.3). Pure.

The rules, where they differ from protobuf's own JSON: keys are lowerCamelCase, and every other key is unknown and ignored (snake_case
too); enums are numbers, a name is an error; trace and span ids are hex, and as no line needs them any text passes; 64-bit numbers come
as decimal text or as numbers. `bytesValue` is base64, with or without padding, of either alphabet.

Allowed to be raised, whatever the bytes are: MalformedMessage.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from esa_tls.errors import MalformedMessage
from esa_tls.wire.otlp_lines import Decoded, Origins, OtlpSettings, RequestLines, Resource, Value

__all__ = ["JsonReader"]

_Decimal = Annotated[str, Meta(pattern=r"^-?[0-9]{1,20}$")]


class _AnyValue(msgspec.Struct, rename="camel"):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | _Decimal | None = None
    double_value: float | str | None = None
    array_value: _ArrayValue | None = None
    kvlist_value: _KeyValueList | None = None
    bytes_value: str | None = None


class _ArrayValue(msgspec.Struct):
    values: list[_AnyValue | None] | None = None


class _KeyValue(msgspec.Struct):
    key: str | None = None
    value: _AnyValue | None = None


class _KeyValueList(msgspec.Struct):
    values: list[_KeyValue] | None = None


class _LogRecord(msgspec.Struct, rename="camel"):
    time_unix_nano: int | _Decimal | None = None
    observed_time_unix_nano: int | _Decimal | None = None
    severity_number: int | None = None
    severity_text: str | None = None
    body: _AnyValue | None = None
    attributes: list[_KeyValue] | None = None


class _ScopeLogs(msgspec.Struct, rename="camel"):
    log_records: list[Raw] | None = None


class _Resource(msgspec.Struct):
    attributes: list[_KeyValue] | None = None


class _ResourceLogs(msgspec.Struct, rename="camel"):
    resource: _Resource | None = None
    scope_logs: list[_ScopeLogs] | None = None


class _Request(msgspec.Struct, rename="camel"):
    resource_logs: list[_ResourceLogs] | None = None


_decode_request = msgspec.json.Decoder(_Request).decode
_decode_record = msgspec.json.Decoder(_LogRecord).decode

_DOUBLES = re.compile(r"NaN|-?Infinity|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


class JsonReader:
    """Decodes requests by one set of settings. Keeps interned origins between requests, nothing else."""

    def __init__(self, settings: OtlpSettings, origins: Origins) -> None:
        self._settings = settings
        self._origins = origins

    def decode(self, request: bytes, *, peer: str | None) -> Decoded:
        """The lines of one request. Raises MalformedMessage."""
        lines = RequestLines(self._settings, self._origins, peer)
        try:
            for group in _decode_request(request).resource_logs or ():
                resource = lines.resource(_map_of(group.resource.attributes) if group.resource is not None else {})
                for scope in group.scope_logs or ():
                    records = scope.log_records or ()
                    lines.records += len(records)
                    for raw in records:
                        _read(resource, raw)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise MalformedMessage(f"no ExportLogsServiceRequest: {error}") from error
        except RecursionError as error:
            raise MalformedMessage("no ExportLogsServiceRequest: nested too deep") from error
        return lines.decoded()


def _read(resource: Resource, raw: Raw) -> None:
    record = _decode_record(raw)
    stamp = _nanoseconds(record.time_unix_nano) or _nanoseconds(record.observed_time_unix_nano)
    body = None if record.body is None else _value_of(record.body)
    resource.add(body, _map_of(record.attributes), stamp.to_bytes(8, "little"), bytes(raw))


def _nanoseconds(value: int | str | None) -> int:
    """A fixed64. Raises MalformedMessage."""
    number = int(value or 0)
    if not 0 <= number < 1 << 64:
        raise MalformedMessage(f"{number} is no time in nanoseconds")
    return number


def _map_of(pairs: list[_KeyValue] | None) -> dict[str, Value]:
    """Attributes as a dict; of equal keys the last counts."""
    return {pair.key or "": None if pair.value is None else _value_of(pair.value) for pair in pairs or ()}


def _value_of(value: _AnyValue) -> Value:
    if value.string_value is not None:
        return value.string_value.encode()
    if value.bool_value is not None:
        return value.bool_value
    if value.int_value is not None:
        number = int(value.int_value)
        if not -(1 << 63) <= number < 1 << 63:
            raise MalformedMessage(f"{number} is no signed 64-bit number")
        return number
    if value.double_value is not None:
        return _double(value.double_value)
    if value.array_value is not None:
        return [None if one is None else _value_of(one) for one in value.array_value.values or ()]
    if value.kvlist_value is not None:
        return _map_of(value.kvlist_value.values)
    if value.bytes_value is not None:
        return _bytes_of(value.bytes_value)
    return None


def _double(value: float | str) -> float:
    if isinstance(value, str) and not _DOUBLES.fullmatch(value):
        raise MalformedMessage(f"{value[:40]!r} is no double")
    return float(value)


def _bytes_of(text: str) -> bytes:
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedMessage("bytesValue is no base64") from error
