"""Committed rows read back as nested records (docs/records.md), from whichever encoding the sinks have made the core write.

An outbox row is bytes in the encoding of some sink. Nothing is encoded once more for those who watch: of the encodings that are there
the one is read that takes the least work. Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import msgpack
import msgspec

from esa_tls.core.batch import Row
from esa_tls.core.encode_otlp import OTEL_NAMES
from esa_tls.core.records import iso

__all__ = ["READABLE", "decode", "readable"]

READABLE = ("json", "forward", "otlp")
"""Encodings that can be read, the best first."""

_decode_json = msgspec.json.Decoder(dict[str, Any]).decode


def readable(rows: Sequence[Row]) -> list[Row]:
    """The rows of one group that hold all its records once."""
    there = {row.encoding for row in rows}
    best = next((encoding for encoding in READABLE if encoding in there), None)
    return [row for row in rows if row.encoding == best]


def decode(encoding: str, body: bytes) -> Iterator[dict[str, Any]]:
    """The records of one segment of a row, in order. Raises ValueError for an encoding that is not `READABLE`."""
    match encoding:
        case "json":
            return map(_decode_json, body.splitlines())
        case "forward":
            return _decode_forward(body)
        case "otlp":
            return _decode_otlp(body)
        case _:
            raise ValueError(f"no encoding {encoding}")


def _decode_forward(body: bytes) -> Iterator[dict[str, Any]]:
    unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(body)))
    unpacker.feed(body)
    for _, record in unpacker:
        yield record


# -- OTLP: what encode_otlp.py took apart ----------------------------------------------------------------------------------------
_PATHS = {"log.record.uid": "event.id", "client.port": "source.port", "server.port": "destination.port"}
_ENDS = {"client.address": "source", "server.address": "destination"}
assert {*_PATHS, *_ENDS} == {*OTEL_NAMES.values()}


def _decode_otlp(body: bytes) -> Iterator[dict[str, Any]]:
    from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs  # noqa: PLC0415 (only where OTLP is the only encoding)

    for made in ScopeLogs.FromString(body).log_records:
        record: dict[str, Any] = {}
        for pair in made.attributes:
            value = _value(pair.value)
            if (end := _ENDS.get(pair.key)) is not None:
                _set(record, f"{end}.{'ip' if _is_ip(value) else 'address'}", value)
            else:
                _set(record, _PATHS.get(pair.key, pair.key), value)
        own = record["cisco_esa"]
        own["record"] = made.event_name.removeprefix("cisco_esa.")
        record["@timestamp"] = iso(made.time_unix_nano // 1_000_000_000)
        record["host"] = {"name": own["appliance"]}
        record["event"]["created"] = iso(made.observed_time_unix_nano // 1_000_000_000)
        if made.severity_text:
            _set(record, "log.level", made.severity_text)
        if own["record"] == "line":
            record["event"]["original"] = made.body.string_value
        yield record


@lru_cache(maxsize=4096)
def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _value(value: Any) -> Any:
    match kind := value.WhichOneof("value"):
        case "array_value":
            return [_value(one) for one in value.array_value.values]
        case "kvlist_value":
            found: dict[str, Any] = {}
            for pair in value.kvlist_value.values:
                _set(found, pair.key, _value(pair.value))
            return found
        case None:
            return None
        case _:
            return getattr(value, kind)


def _set(record: Any, path: str, value: Any) -> None:
    *keys, last = path.split(".")
    for key in keys:
        record = record.setdefault(key, {})
    record[last] = value
