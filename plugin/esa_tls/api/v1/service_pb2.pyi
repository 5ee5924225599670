import datetime

from esa_tls.api.v1 import records_pb2 as _records_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LookupState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOOKUP_STATE_UNSPECIFIED: _ClassVar[LookupState]
    LOOKUP_STATE_OPEN: _ClassVar[LookupState]
    LOOKUP_STATE_GONE: _ClassVar[LookupState]
LOOKUP_STATE_UNSPECIFIED: LookupState
LOOKUP_STATE_OPEN: LookupState
LOOKUP_STATE_GONE: LookupState

class EnrichRequest(_message.Message):
    __slots__ = ("batch_id", "key", "lines", "appliance", "log_name", "sender_times", "filter", "acks_only")
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    APPLIANCE_FIELD_NUMBER: _ClassVar[int]
    LOG_NAME_FIELD_NUMBER: _ClassVar[int]
    SENDER_TIMES_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    ACKS_ONLY_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    key: bytes
    lines: _containers.RepeatedScalarFieldContainer[bytes]
    appliance: str
    log_name: str
    sender_times: _containers.RepeatedCompositeFieldContainer[_timestamp_pb2.Timestamp]
    filter: RecordFilter
    acks_only: bool
    def __init__(self, batch_id: _Optional[int] = ..., key: _Optional[bytes] = ..., lines: _Optional[_Iterable[bytes]] = ..., appliance: _Optional[str] = ..., log_name: _Optional[str] = ..., sender_times: _Optional[_Iterable[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]]] = ..., filter: _Optional[_Union[RecordFilter, _Mapping]] = ..., acks_only: _Optional[bool] = ...) -> None: ...

class EnrichResponse(_message.Message):
    __slots__ = ("ack", "batch")
    ACK_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    ack: Ack
    batch: RecordBatch
    def __init__(self, ack: _Optional[_Union[Ack, _Mapping]] = ..., batch: _Optional[_Union[RecordBatch, _Mapping]] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("batch_id",)
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    batch_id: int
    def __init__(self, batch_id: _Optional[int] = ...) -> None: ...

class RecordBatch(_message.Message):
    __slots__ = ("records", "dropped")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[_records_pb2.Record]
    dropped: int
    def __init__(self, records: _Optional[_Iterable[_Union[_records_pb2.Record, _Mapping]]] = ..., dropped: _Optional[int] = ...) -> None: ...

class RecordFilter(_message.Message):
    __slots__ = ("kinds", "outcomes", "directions", "appliances")
    KINDS_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    DIRECTIONS_FIELD_NUMBER: _ClassVar[int]
    APPLIANCES_FIELD_NUMBER: _ClassVar[int]
    kinds: _containers.RepeatedScalarFieldContainer[_records_pb2.RecordKind]
    outcomes: _containers.RepeatedScalarFieldContainer[_records_pb2.TlsOutcome]
    directions: _containers.RepeatedScalarFieldContainer[_records_pb2.Direction]
    appliances: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, kinds: _Optional[_Iterable[_Union[_records_pb2.RecordKind, str]]] = ..., outcomes: _Optional[_Iterable[_Union[_records_pb2.TlsOutcome, str]]] = ..., directions: _Optional[_Iterable[_Union[_records_pb2.Direction, str]]] = ..., appliances: _Optional[_Iterable[str]] = ...) -> None: ...

class LookupRequest(_message.Message):
    __slots__ = ("mid", "icid", "dcid", "message_id", "recipient", "appliance", "epoch", "limit")
    MID_FIELD_NUMBER: _ClassVar[int]
    ICID_FIELD_NUMBER: _ClassVar[int]
    DCID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_FIELD_NUMBER: _ClassVar[int]
    APPLIANCE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    mid: int
    icid: int
    dcid: int
    message_id: str
    recipient: str
    appliance: str
    epoch: int
    limit: int
    def __init__(self, mid: _Optional[int] = ..., icid: _Optional[int] = ..., dcid: _Optional[int] = ..., message_id: _Optional[str] = ..., recipient: _Optional[str] = ..., appliance: _Optional[str] = ..., epoch: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class LookupResponse(_message.Message):
    __slots__ = ("results", "incomplete")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    INCOMPLETE_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[LookupResult]
    incomplete: bool
    def __init__(self, results: _Optional[_Iterable[_Union[LookupResult, _Mapping]]] = ..., incomplete: _Optional[bool] = ...) -> None: ...

class LookupResult(_message.Message):
    __slots__ = ("state", "connection", "message")
    STATE_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    state: LookupState
    connection: _records_pb2.Connection
    message: _records_pb2.Message
    def __init__(self, state: _Optional[_Union[LookupState, str]] = ..., connection: _Optional[_Union[_records_pb2.Connection, _Mapping]] = ..., message: _Optional[_Union[_records_pb2.Message, _Mapping]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("filter",)
    FILTER_FIELD_NUMBER: _ClassVar[int]
    filter: RecordFilter
    def __init__(self, filter: _Optional[_Union[RecordFilter, _Mapping]] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("batch",)
    BATCH_FIELD_NUMBER: _ClassVar[int]
    batch: RecordBatch
    def __init__(self, batch: _Optional[_Union[RecordBatch, _Mapping]] = ...) -> None: ...
