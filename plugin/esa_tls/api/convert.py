"""Records as nested dicts (docs/records.md) and as typed messages (`proto/esa_tls/v1/records.proto`), both ways.

`PLACES` says, per message type, where each of its fields stands in the dict, as a dotted path below the place of the message itself. All
else follows from the schema: enums are its words in capitals, times and durations its well-known types, bytes base64.

Nothing a record says makes this fail. A word that the schema does not know becomes the enum's zero value, a value that does not fit its
field and a field without place are left out; so are, on the way back, enum values from a newer schema.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from esa_tls.api.v1 import records_pb2
from esa_tls.core.records import iso

__all__ = ["KINDS", "PLACES", "enum_number", "enum_word", "to_dict", "to_record"]

_ENVELOPED_MAIL = {
    "local_id": "email.local_id",
    "message_id": "email.message_id",
    "subject": "email.subject",
    "envelope_from": "cisco_esa.envelope.from",
    "envelope_to": "cisco_esa.envelope.to",
    "from_addresses": "email.from.address",
    "to_addresses": "email.to.address",
}

PLACES: dict[str, dict[str, str]] = {
    "Header": {
        "id": "event.id",
        "time": "@timestamp",
        "action": "event.action",
        "categories": "event.category",
        "types": "event.type",
        "outcome": "event.outcome",
        "sequence": "event.sequence",
        "created": "event.created",
        "start": "event.start",
        "end": "event.end",
        "duration": "event.duration",
        "appliance": "cisco_esa.appliance",
        "epoch": "cisco_esa.epoch",
        "host_name": "host.name",
        "flags": "cisco_esa.flags",
        "observer": "observer",
        "related": "related",
    },
    "Observer": {
        "hostname": "hostname",
        "serial_number": "serial_number",
        "version": "version",
        "ingress_interface": "ingress.interface.name",
        "egress_interface": "egress.interface.name",
    },
    "Related": {"ips": "ip", "hosts": "hosts", "users": "user"},
    "Leg": {
        "connection_id": "cisco_esa.connection.id",
        "direction": "cisco_esa.direction",
        "icid": "cisco_esa.icid",
        "dcid": "cisco_esa.dcid",
        "tls": "cisco_esa.tls",
        "network_direction": "network.direction",
        "ecs_tls": "tls",
    },
    "Tls": {
        **{
            name: name
            for name in (
                *("outcome", "evidence", "in_clear", "required", "broken", "protocol", "cipher", "verified", "dane"),
                *("expected", "partners"),
            )
        },
        "failure_class": "failure.class",
        "failure_reason": "failure.reason",
    },
    "EcsTls": {
        **{name: name for name in ("established", "version_protocol", "version", "cipher")},
        "client_common_name": "client.x509.subject.common_name",
        "server_common_name": "server.x509.subject.common_name",
    },
    "Endpoint": {name: name for name in ("ip", "address", "domain", "port")},
    "Hat": {name: name for name in ("policy", "sender_group", "rule", "sbrs", "country")},
    "Mail": _ENVELOPED_MAIL,
    "DeliveryDetails": {
        name: name for name in ("result", "ordinal", "attempt", "response", "code", "enhanced_code", "reason", "retry_at", "domains")
    },
    "Line": {
        "header": "",
        "original": "event.original",
        "raw": "cisco_esa.raw_base64",
        "leg": "",
        "level": "log.level",
        "file_path": "log.file.path",
        "syslog_priority": "log.syslog.priority",
        "syslog_appname": "log.syslog.appname",
        "log_name": "cisco_esa.log_name",
        "time_source": "cisco_esa.time_source",
        "mail": "",
        "source": "source",
        "destination": "destination",
        **{
            name: f"cisco_esa.{name}"
            for name in ("mid", "rids", "hat", "mail_flow", "delivery", "size_bytes", "mail_policy", "parent_mid", "child_kind")
        },
    },
    "Connection": {
        "header": "",
        "leg": "",
        **{name: f"cisco_esa.connection.{name}" for name in ("end", "lost", "start_seen", "mids", "message_count", "for_domain")},
        "error_reason": "cisco_esa.connection.error.reason",
        "error_details": "cisco_esa.connection.error.details",
        "hat": "cisco_esa.hat",
        "mail_flow": "cisco_esa.mail_flow",
        "source": "source",
        "destination": "destination",
    },
    "Delivery": {
        "header": "",
        "leg": "",
        "mail": "",
        "source": "source",
        "destination": "destination",
        **{name: f"cisco_esa.{name}" for name in ("mid", "rids", "delivery", "mail_flow", "posture_in")},
    },
    "Message": {
        "header": "",
        "mail": "",
        "clear_recipient_count": "cisco_esa.clear.recipient_count",
        "clear_domains": "cisco_esa.clear.domains",
        "tls_expected": "cisco_esa.tls.expected",
        "tls_partners": "cisco_esa.tls.partners",
        "end": "cisco_esa.message.end",
        "end_reason": "cisco_esa.message.end_reason",
        **{
            name: f"cisco_esa.{name}"
            for name in (
                *("mid", "posture", "posture_in", "posture_out", "mail_flow", "size_bytes", "mail_policy", "parent_mid", "child_mids"),
                *("child_kind", "reception", "deliveries", "delivery_count", "recipients", "recipient_count"),
            )
        },
    },
    "Reception": {**{name: name for name in ("connection_id", "icid", "tls", "peer")}, "sender_group": "hat.sender_group"},
    "MessageDelivery": {name: name for name in ("connection_id", "dcid", "rids", "result", "tls", "peer", "response")},
    "Recipient": {name: name for name in ("rid", "address", "domain", "result", "posture", "tls_outcome", "in_clear")},
    "Consolidated": {
        "header": "",
        "mail": "",
        "source": "source",
        "destination": "destination",
        "reception_tls": "cisco_esa.reception.tls",
        **{name: f"cisco_esa.{name}" for name in ("mid", "icid", "dcid", "mail_flow", "mail_policy", "hat", "delivery_tls", "cef")},
    },
    "Cef": {field.name: field.name for field in records_pb2.Cef.DESCRIPTOR.fields},
}
"""Message type -> field -> where it stands, below the place of the message; "" = at the same place."""

KINDS: dict[str, str] = {
    field.name: field.message_type.name for field in records_pb2.Record.DESCRIPTOR.fields if field.message_type is not None
}
"""`cisco_esa.record` -> message type; the field of `Record` is called as the kind is."""


# -- enums -----------------------------------------------------------------------------------------------------------------------
class _Words:
    """The words of an enum: `TLS_OUTCOME_SUCCESS` is `success`."""

    def __init__(self, enum: EnumDescriptor) -> None:
        prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.name).upper() + "_"
        self.numbers = {value.name.removeprefix(prefix).lower(): value.number for value in enum.values if value.number}
        self.words = {number: word for word, number in self.numbers.items()}


@cache
def _words(name: str) -> _Words:
    return _Words(records_pb2.DESCRIPTOR.enum_types_by_name[name])


def enum_number(enum: str, word: str) -> int:
    """The number of a word in an enum of records.proto; 0 for one that it does not know."""
    return _words(enum).numbers.get(word, 0)


def enum_word(enum: str, number: int) -> str | None:
    """The word of a number in an enum of records.proto; None for zero and for one that it does not know."""
    return _words(enum).words.get(number)


# -- values ----------------------------------------------------------------------------------------------------------------------
@lru_cache(maxsize=4096)
def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def _put_time(message: Any, value: Any) -> None:
    message.seconds = _seconds(value)


def _put_duration(message: Any, value: Any) -> None:
    message.seconds, message.nanos = divmod(value, 1_000_000_000)


def _from_bytes(value: str) -> bytes:
    return base64.b64decode(value, validate=True)


def _to_text(value: bytes) -> str:
    return base64.b64encode(value).decode()


_WELL_KNOWN: dict[str, tuple[Callable[[Any, Any], None], Callable[[Any], Any]]] = {
    "google.protobuf.Timestamp": (_put_time, lambda message: iso(message.seconds)),
    "google.protobuf.Duration": (_put_duration, lambda message: message.seconds * 1_000_000_000 + message.nanos),
}

Put = Callable[[Any, Any], None]
"""Puts a value of a dict into a message."""


# -- from dicts ------------------------------------------------------------------------------------------------------------------
class _Branch(dict[str, "_Branch | Put"]):
    """Keys of a dict -> what to do with the value: go on inside it, or put it into the message."""

    def place(self, path: str, put: Put) -> None:
        """Let the value at `path` be put."""
        *keys, last = path.split(".")
        branch = self
        for key in keys:
            below = branch.setdefault(key, _Branch())
            assert isinstance(below, _Branch)
            branch = below
        assert last not in branch
        branch[last] = put


def _joined(place: str, path: str) -> str:
    return f"{place}.{path}" if place and path else place or path


def _grow(branch: _Branch, kind: str, place: str, chain: tuple[str, ...]) -> None:
    """Add the fields of a message that is at `chain` in the outer message and at `place` in the dict."""
    for field in records_pb2.DESCRIPTOR.message_types_by_name[kind].fields:
        path = _joined(place, PLACES[kind][field.name])
        below = field.message_type
        if below is None or below.full_name in _WELL_KNOWN:
            branch.place(path, _putter(field, chain))
        elif field.is_repeated:
            inside = _Branch()
            _grow(inside, below.name, "", ())
            branch.place(path, _list_putter(field.name, chain, inside))
        else:
            _grow(branch, below.name, path, (*chain, field.name))


def _putter(field: FieldDescriptor, chain: tuple[str, ...]) -> Put:
    name = field.name
    many = field.is_repeated

    def target(message: Any) -> Any:
        for step in chain:
            message = getattr(message, step)
        return message

    if field.message_type is not None:
        put_known = _WELL_KNOWN[field.message_type.full_name][0]
        return lambda message, value: put_known(getattr(target(message), name), value)
    translate: Callable[[Any], Any] | None = None
    if field.enum_type is not None:
        numbers = _words(field.enum_type.name).numbers
        translate = lambda value: numbers.get(value, 0)  # noqa: E731 (one of three)
    elif field.type == FieldDescriptor.TYPE_BYTES:
        translate = _from_bytes

    def put(message: Any, value: Any) -> None:
        if many:
            getattr(target(message), name).extend(value if translate is None else map(translate, value))
        else:
            setattr(target(message), name, value if translate is None else translate(value))

    return put


def _list_putter(name: str, chain: tuple[str, ...], inside: _Branch) -> Put:
    def put(message: Any, value: Any) -> None:
        for step in chain:
            message = getattr(message, step)
        repeated = getattr(message, name)
        for item in value:
            _fill(repeated.add(), inside, item)

    return put


def _fill(message: Any, branch: _Branch, record: Mapping[str, Any]) -> None:
    for key, value in record.items():
        below = branch.get(key)
        if below is None:
            continue
        if isinstance(below, _Branch):
            if isinstance(value, Mapping):
                _fill(message, below, value)
            continue
        try:
            below(message, value)
        except (ValueError, TypeError, AttributeError):
            continue  # it does not fit: absent, as what is not known


def _branch_of(kind: str) -> _Branch:
    branch = _Branch()
    _grow(branch, kind, "", ())
    return branch


_BRANCHES = {word: _branch_of(kind) for word, kind in KINDS.items()}


def to_record(record: Mapping[str, Any]) -> records_pb2.Record:
    """A nested record as a typed one; an empty `Record` for a kind that the schema does not know."""
    made = records_pb2.Record()
    own = record.get("cisco_esa")
    kind = own.get("record") if isinstance(own, Mapping) else None
    branch = _BRANCHES.get(kind) if isinstance(kind, str) else None
    if branch is not None:
        assert isinstance(kind, str)
        message = getattr(made, kind)
        message.SetInParent()
        _fill(message, branch, record)
    return made


# -- to dicts --------------------------------------------------------------------------------------------------------------------
def to_dict(made: records_pb2.Record) -> dict[str, Any]:
    """A typed record as a nested one; an empty dict for an empty `Record`."""
    kind = made.WhichOneof("record")
    if kind is None:
        return {}
    record: dict[str, Any] = {"cisco_esa": {"record": kind}}
    _read(record, getattr(made, kind), "")
    return record


def _read(record: dict[str, Any], message: Message, place: str) -> None:
    places = PLACES[message.DESCRIPTOR.name]
    for field, value in message.ListFields():
        path = _joined(place, places[field.name])
        below = field.message_type
        if below is None:
            value = _value_of(field, value)  # noqa: PLW2901 (the same value, in the dict's terms)
        elif below.full_name in _WELL_KNOWN:
            value = _WELL_KNOWN[below.full_name][1](value)  # noqa: PLW2901
        elif field.is_repeated:
            items: list[dict[str, Any]] = []
            for one in value:
                items.append({})
                _read(items[-1], one, "")
            value = items  # noqa: PLW2901
        else:
            _read(record, value, path)
            continue
        if value is not None and value != []:
            _set(record, path, value)


def _value_of(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is not None:
        words = _words(field.enum_type.name).words
        return [words[number] for number in value if number in words] if field.is_repeated else words.get(value)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _to_text(value)
    return list(value) if field.is_repeated else value


def _set(record: dict[str, Any], path: str, value: Any) -> None:
    *keys, last = path.split(".")
    for key in keys:
        record = record.setdefault(key, {})
    record[last] = value
