import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RecordKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RECORD_KIND_UNSPECIFIED: _ClassVar[RecordKind]
    RECORD_KIND_LINE: _ClassVar[RecordKind]
    RECORD_KIND_CONNECTION: _ClassVar[RecordKind]
    RECORD_KIND_DELIVERY: _ClassVar[RecordKind]
    RECORD_KIND_MESSAGE: _ClassVar[RecordKind]
    RECORD_KIND_CONSOLIDATED: _ClassVar[RecordKind]

class TlsOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TLS_OUTCOME_UNSPECIFIED: _ClassVar[TlsOutcome]
    TLS_OUTCOME_SUCCESS: _ClassVar[TlsOutcome]
    TLS_OUTCOME_FAILED: _ClassVar[TlsOutcome]
    TLS_OUTCOME_NONE: _ClassVar[TlsOutcome]
    TLS_OUTCOME_UNKNOWN: _ClassVar[TlsOutcome]
    TLS_OUTCOME_PENDING: _ClassVar[TlsOutcome]

class Evidence(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVIDENCE_UNSPECIFIED: _ClassVar[Evidence]
    EVIDENCE_LINE: _ClassVar[Evidence]
    EVIDENCE_ABSENCE: _ClassVar[Evidence]
    EVIDENCE_ABSENCE_LOSSY: _ClassVar[Evidence]
    EVIDENCE_GAP: _ClassVar[Evidence]

class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIRECTION_UNSPECIFIED: _ClassVar[Direction]
    DIRECTION_INBOUND: _ClassVar[Direction]
    DIRECTION_OUTBOUND: _ClassVar[Direction]

class NetworkDirection(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NETWORK_DIRECTION_UNSPECIFIED: _ClassVar[NetworkDirection]
    NETWORK_DIRECTION_INGRESS: _ClassVar[NetworkDirection]
    NETWORK_DIRECTION_EGRESS: _ClassVar[NetworkDirection]

class FailureClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAILURE_CLASS_UNSPECIFIED: _ClassVar[FailureClass]
    FAILURE_CLASS_STARTTLS_UNEXPECTED_RESPONSE: _ClassVar[FailureClass]
    FAILURE_CLASS_STARTTLS_NOT_OFFERED: _ClassVar[FailureClass]
    FAILURE_CLASS_REQUIRED_NOT_OFFERED: _ClassVar[FailureClass]
    FAILURE_CLASS_REQUIRED_NOT_NEGOTIATED: _ClassVar[FailureClass]
    FAILURE_CLASS_CERTIFICATE_VERIFICATION: _ClassVar[FailureClass]
    FAILURE_CLASS_HANDSHAKE: _ClassVar[FailureClass]
    FAILURE_CLASS_PROTOCOL_OR_CIPHER_MISMATCH: _ClassVar[FailureClass]
    FAILURE_CLASS_DANE: _ClassVar[FailureClass]
    FAILURE_CLASS_RESET: _ClassVar[FailureClass]
    FAILURE_CLASS_TIMEOUT: _ClassVar[FailureClass]
    FAILURE_CLASS_OTHER: _ClassVar[FailureClass]

class Posture(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POSTURE_UNSPECIFIED: _ClassVar[Posture]
    POSTURE_ENCRYPTED: _ClassVar[Posture]
    POSTURE_EXPOSED: _ClassVar[Posture]
    POSTURE_BLOCKED: _ClassVar[Posture]
    POSTURE_PARTIAL: _ClassVar[Posture]
    POSTURE_UNDELIVERED: _ClassVar[Posture]
    POSTURE_CONTINUED: _ClassVar[Posture]
    POSTURE_UNKNOWN: _ClassVar[Posture]
    POSTURE_MOVED: _ClassVar[Posture]

class DeliveryResult(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DELIVERY_RESULT_UNSPECIFIED: _ClassVar[DeliveryResult]
    DELIVERY_RESULT_DELIVERED: _ClassVar[DeliveryResult]
    DELIVERY_RESULT_BOUNCED: _ClassVar[DeliveryResult]
    DELIVERY_RESULT_DELAYED: _ClassVar[DeliveryResult]
    DELIVERY_RESULT_UNCERTAIN: _ClassVar[DeliveryResult]
    DELIVERY_RESULT_DELETED: _ClassVar[DeliveryResult]
    DELIVERY_RESULT_TLS_BLOCKED: _ClassVar[DeliveryResult]
    DELIVERY_RESULT_CONNECTION_ERROR: _ClassVar[DeliveryResult]
    DELIVERY_RESULT_QUARANTINED: _ClassVar[DeliveryResult]
    DELIVERY_RESULT_UNKNOWN: _ClassVar[DeliveryResult]
    DELIVERY_RESULT_DROPPED: _ClassVar[DeliveryResult]

class RecipientResult(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RECIPIENT_RESULT_UNSPECIFIED: _ClassVar[RecipientResult]
    RECIPIENT_RESULT_DELIVERED: _ClassVar[RecipientResult]
    RECIPIENT_RESULT_BOUNCED: _ClassVar[RecipientResult]
    RECIPIENT_RESULT_DELETED: _ClassVar[RecipientResult]
    RECIPIENT_RESULT_DROPPED: _ClassVar[RecipientResult]
    RECIPIENT_RESULT_QUARANTINED: _ClassVar[RecipientResult]
    RECIPIENT_RESULT_MOVED: _ClassVar[RecipientResult]
    RECIPIENT_RESULT_TLS_BLOCKED: _ClassVar[RecipientResult]
    RECIPIENT_RESULT_UNCERTAIN: _ClassVar[RecipientResult]
    RECIPIENT_RESULT_PENDING: _ClassVar[RecipientResult]

class MailFlow(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MAIL_FLOW_UNSPECIFIED: _ClassVar[MailFlow]
    MAIL_FLOW_INCOMING: _ClassVar[MailFlow]
    MAIL_FLOW_OUTGOING: _ClassVar[MailFlow]
    MAIL_FLOW_INTERNAL: _ClassVar[MailFlow]

class ChildKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHILD_KIND_UNSPECIFIED: _ClassVar[ChildKind]
    CHILD_KIND_SPLIT: _ClassVar[ChildKind]
    CHILD_KIND_REWRITTEN: _ClassVar[ChildKind]
    CHILD_KIND_COPY: _ClassVar[ChildKind]
    CHILD_KIND_BOUNCE: _ClassVar[ChildKind]
    CHILD_KIND_NOTIFY: _ClassVar[ChildKind]
    CHILD_KIND_REINJECTED: _ClassVar[ChildKind]

class ConnectionEnd(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONNECTION_END_UNSPECIFIED: _ClassVar[ConnectionEnd]
    CONNECTION_END_CLOSE: _ClassVar[ConnectionEnd]
    CONNECTION_END_LOST: _ClassVar[ConnectionEnd]
    CONNECTION_END_KILLED: _ClassVar[ConnectionEnd]
    CONNECTION_END_DISCONNECTED: _ClassVar[ConnectionEnd]
    CONNECTION_END_ERROR: _ClassVar[ConnectionEnd]
    CONNECTION_END_TIMEOUT: _ClassVar[ConnectionEnd]
    CONNECTION_END_EVICTED: _ClassVar[ConnectionEnd]
    CONNECTION_END_EPOCH_RESET: _ClassVar[ConnectionEnd]
    CONNECTION_END_STREAM_END: _ClassVar[ConnectionEnd]

class MessageEnd(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MESSAGE_END_UNSPECIFIED: _ClassVar[MessageEnd]
    MESSAGE_END_FINISHED: _ClassVar[MessageEnd]
    MESSAGE_END_ABORTED: _ClassVar[MessageEnd]
    MESSAGE_END_SETTLED: _ClassVar[MessageEnd]
    MESSAGE_END_TIMEOUT: _ClassVar[MessageEnd]
    MESSAGE_END_EVICTED: _ClassVar[MessageEnd]
    MESSAGE_END_EPOCH_RESET: _ClassVar[MessageEnd]
    MESSAGE_END_STREAM_END: _ClassVar[MessageEnd]

class EventOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_OUTCOME_UNSPECIFIED: _ClassVar[EventOutcome]
    EVENT_OUTCOME_SUCCESS: _ClassVar[EventOutcome]
    EVENT_OUTCOME_FAILURE: _ClassVar[EventOutcome]
    EVENT_OUTCOME_UNKNOWN: _ClassVar[EventOutcome]

class EventCategory(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_CATEGORY_UNSPECIFIED: _ClassVar[EventCategory]
    EVENT_CATEGORY_NETWORK: _ClassVar[EventCategory]
    EVENT_CATEGORY_EMAIL: _ClassVar[EventCategory]
    EVENT_CATEGORY_HOST: _ClassVar[EventCategory]

class EventType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EVENT_TYPE_UNSPECIFIED: _ClassVar[EventType]
    EVENT_TYPE_CONNECTION: _ClassVar[EventType]
    EVENT_TYPE_START: _ClassVar[EventType]
    EVENT_TYPE_END: _ClassVar[EventType]
    EVENT_TYPE_PROTOCOL: _ClassVar[EventType]
    EVENT_TYPE_ALLOWED: _ClassVar[EventType]
    EVENT_TYPE_DENIED: _ClassVar[EventType]
    EVENT_TYPE_INFO: _ClassVar[EventType]

class Flag(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FLAG_UNSPECIFIED: _ClassVar[Flag]
    FLAG_LATE: _ClassVar[Flag]
    FLAG_DUPLICATE: _ClassVar[Flag]
    FLAG_CONTRADICTION: _ClassVar[Flag]
    FLAG_TRUNCATED: _ClassVar[Flag]
    FLAG_RECONSTRUCTED: _ClassVar[Flag]
    FLAG_CONTINUATION: _ClassVar[Flag]
    FLAG_BAD_TIME: _ClassVar[Flag]
    FLAG_YEAR_INFERRED: _ClassVar[Flag]

class TimeSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TIME_SOURCE_UNSPECIFIED: _ClassVar[TimeSource]
    TIME_SOURCE_LINE: _ClassVar[TimeSource]
    TIME_SOURCE_SENDER: _ClassVar[TimeSource]
    TIME_SOURCE_RECEIVED: _ClassVar[TimeSource]
RECORD_KIND_UNSPECIFIED: RecordKind
RECORD_KIND_LINE: RecordKind
RECORD_KIND_CONNECTION: RecordKind
RECORD_KIND_DELIVERY: RecordKind
RECORD_KIND_MESSAGE: RecordKind
RECORD_KIND_CONSOLIDATED: RecordKind
TLS_OUTCOME_UNSPECIFIED: TlsOutcome
TLS_OUTCOME_SUCCESS: TlsOutcome
TLS_OUTCOME_FAILED: TlsOutcome
TLS_OUTCOME_NONE: TlsOutcome
TLS_OUTCOME_UNKNOWN: TlsOutcome
TLS_OUTCOME_PENDING: TlsOutcome
EVIDENCE_UNSPECIFIED: Evidence
EVIDENCE_LINE: Evidence
EVIDENCE_ABSENCE: Evidence
EVIDENCE_ABSENCE_LOSSY: Evidence
EVIDENCE_GAP: Evidence
DIRECTION_UNSPECIFIED: Direction
DIRECTION_INBOUND: Direction
DIRECTION_OUTBOUND: Direction
NETWORK_DIRECTION_UNSPECIFIED: NetworkDirection
NETWORK_DIRECTION_INGRESS: NetworkDirection
NETWORK_DIRECTION_EGRESS: NetworkDirection
FAILURE_CLASS_UNSPECIFIED: FailureClass
FAILURE_CLASS_STARTTLS_UNEXPECTED_RESPONSE: FailureClass
FAILURE_CLASS_STARTTLS_NOT_OFFERED: FailureClass
FAILURE_CLASS_REQUIRED_NOT_OFFERED: FailureClass
FAILURE_CLASS_REQUIRED_NOT_NEGOTIATED: FailureClass
FAILURE_CLASS_CERTIFICATE_VERIFICATION: FailureClass
FAILURE_CLASS_HANDSHAKE: FailureClass
FAILURE_CLASS_PROTOCOL_OR_CIPHER_MISMATCH: FailureClass
FAILURE_CLASS_DANE: FailureClass
FAILURE_CLASS_RESET: FailureClass
FAILURE_CLASS_TIMEOUT: FailureClass
FAILURE_CLASS_OTHER: FailureClass
POSTURE_UNSPECIFIED: Posture
POSTURE_ENCRYPTED: Posture
POSTURE_EXPOSED: Posture
POSTURE_BLOCKED: Posture
POSTURE_PARTIAL: Posture
POSTURE_UNDELIVERED: Posture
POSTURE_CONTINUED: Posture
POSTURE_UNKNOWN: Posture
POSTURE_MOVED: Posture
DELIVERY_RESULT_UNSPECIFIED: DeliveryResult
DELIVERY_RESULT_DELIVERED: DeliveryResult
DELIVERY_RESULT_BOUNCED: DeliveryResult
DELIVERY_RESULT_DELAYED: DeliveryResult
DELIVERY_RESULT_UNCERTAIN: DeliveryResult
DELIVERY_RESULT_DELETED: DeliveryResult
DELIVERY_RESULT_TLS_BLOCKED: DeliveryResult
DELIVERY_RESULT_CONNECTION_ERROR: DeliveryResult
DELIVERY_RESULT_QUARANTINED: DeliveryResult
DELIVERY_RESULT_UNKNOWN: DeliveryResult
DELIVERY_RESULT_DROPPED: DeliveryResult
RECIPIENT_RESULT_UNSPECIFIED: RecipientResult
RECIPIENT_RESULT_DELIVERED: RecipientResult
RECIPIENT_RESULT_BOUNCED: RecipientResult
RECIPIENT_RESULT_DELETED: RecipientResult
RECIPIENT_RESULT_DROPPED: RecipientResult
RECIPIENT_RESULT_QUARANTINED: RecipientResult
RECIPIENT_RESULT_MOVED: RecipientResult
RECIPIENT_RESULT_TLS_BLOCKED: RecipientResult
RECIPIENT_RESULT_UNCERTAIN: RecipientResult
RECIPIENT_RESULT_PENDING: RecipientResult
MAIL_FLOW_UNSPECIFIED: MailFlow
MAIL_FLOW_INCOMING: MailFlow
MAIL_FLOW_OUTGOING: MailFlow
MAIL_FLOW_INTERNAL: MailFlow
CHILD_KIND_UNSPECIFIED: ChildKind
CHILD_KIND_SPLIT: ChildKind
CHILD_KIND_REWRITTEN: ChildKind
CHILD_KIND_COPY: ChildKind
CHILD_KIND_BOUNCE: ChildKind
CHILD_KIND_NOTIFY: ChildKind
CHILD_KIND_REINJECTED: ChildKind
CONNECTION_END_UNSPECIFIED: ConnectionEnd
CONNECTION_END_CLOSE: ConnectionEnd
CONNECTION_END_LOST: ConnectionEnd
CONNECTION_END_KILLED: ConnectionEnd
CONNECTION_END_DISCONNECTED: ConnectionEnd
CONNECTION_END_ERROR: ConnectionEnd
CONNECTION_END_TIMEOUT: ConnectionEnd
CONNECTION_END_EVICTED: ConnectionEnd
CONNECTION_END_EPOCH_RESET: ConnectionEnd
CONNECTION_END_STREAM_END: ConnectionEnd
MESSAGE_END_UNSPECIFIED: MessageEnd
MESSAGE_END_FINISHED: MessageEnd
MESSAGE_END_ABORTED: MessageEnd
MESSAGE_END_SETTLED: MessageEnd
MESSAGE_END_TIMEOUT: MessageEnd
MESSAGE_END_EVICTED: MessageEnd
MESSAGE_END_EPOCH_RESET: MessageEnd
MESSAGE_END_STREAM_END: MessageEnd
EVENT_OUTCOME_UNSPECIFIED: EventOutcome
EVENT_OUTCOME_SUCCESS: EventOutcome
EVENT_OUTCOME_FAILURE: EventOutcome
EVENT_OUTCOME_UNKNOWN: EventOutcome
EVENT_CATEGORY_UNSPECIFIED: EventCategory
EVENT_CATEGORY_NETWORK: EventCategory
EVENT_CATEGORY_EMAIL: EventCategory
EVENT_CATEGORY_HOST: EventCategory
EVENT_TYPE_UNSPECIFIED: EventType
EVENT_TYPE_CONNECTION: EventType
EVENT_TYPE_START: EventType
EVENT_TYPE_END: EventType
EVENT_TYPE_PROTOCOL: EventType
EVENT_TYPE_ALLOWED: EventType
EVENT_TYPE_DENIED: EventType
EVENT_TYPE_INFO: EventType
FLAG_UNSPECIFIED: Flag
FLAG_LATE: Flag
FLAG_DUPLICATE: Flag
FLAG_CONTRADICTION: Flag
FLAG_TRUNCATED: Flag
FLAG_RECONSTRUCTED: Flag
FLAG_CONTINUATION: Flag
FLAG_BAD_TIME: Flag
FLAG_YEAR_INFERRED: Flag
TIME_SOURCE_UNSPECIFIED: TimeSource
TIME_SOURCE_LINE: TimeSource
TIME_SOURCE_SENDER: TimeSource
TIME_SOURCE_RECEIVED: TimeSource

class Record(_message.Message):
    __slots__ = ("line", "connection", "delivery", "message", "consolidated")
    LINE_FIELD_NUMBER: _ClassVar[int]
    CONNECTION_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    CONSOLIDATED_FIELD_NUMBER: _ClassVar[int]
    line: Line
    connection: Connection
    delivery: Delivery
    message: Message
    consolidated: Consolidated
    def __init__(self, line: _Optional[_Union[Line, _Mapping]] = ..., connection: _Optional[_Union[Connection, _Mapping]] = ..., delivery: _Optional[_Union[Delivery, _Mapping]] = ..., message: _Optional[_Union[Message, _Mapping]] = ..., consolidated: _Optional[_Union[Consolidated, _Mapping]] = ...) -> None: ...

class Header(_message.Message):
    __slots__ = ("id", "time", "action", "categories", "types", "outcome", "sequence", "created", "start", "end", "duration", "appliance", "epoch", "host_name", "flags", "observer", "related")
    ID_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    APPLIANCE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HOST_NAME_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    OBSERVER_FIELD_NUMBER: _ClassVar[int]
    RELATED_FIELD_NUMBER: _ClassVar[int]
    id: str
    time: _timestamp_pb2.Timestamp
    action: str
    categories: _containers.RepeatedScalarFieldContainer[EventCategory]
    types: _containers.RepeatedScalarFieldContainer[EventType]
    outcome: EventOutcome
    sequence: int
    created: _timestamp_pb2.Timestamp
    start: _timestamp_pb2.Timestamp
    end: _timestamp_pb2.Timestamp
    duration: _duration_pb2.Duration
    appliance: str
    epoch: int
    host_name: str
    flags: _containers.RepeatedScalarFieldContainer[Flag]
    observer: Observer
    related: Related
    def __init__(self, id: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., action: _Optional[str] = ..., categories: _Optional[_Iterable[_Union[EventCategory, str]]] = ..., types: _Optional[_Iterable[_Union[EventType, str]]] = ..., outcome: _Optional[_Union[EventOutcome, str]] = ..., sequence: _Optional[int] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., appliance: _Optional[str] = ..., epoch: _Optional[int] = ..., host_name: _Optional[str] = ..., flags: _Optional[_Iterable[_Union[Flag, str]]] = ..., observer: _Optional[_Union[Observer, _Mapping]] = ..., related: _Optional[_Union[Related, _Mapping]] = ...) -> None: ...

class Observer(_message.Message):
    __slots__ = ("hostname", "serial_number", "version", "ingress_interface", "egress_interface")
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    SERIAL_NUMBER_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INGRESS_INTERFACE_FIELD_NUMBER: _ClassVar[int]
    EGRESS_INTERFACE_FIELD_NUMBER: _ClassVar[int]
    hostname: str
    serial_number: str
    version: str
    ingress_interface: str
    egress_interface: str
    def __init__(self, hostname: _Optional[str] = ..., serial_number: _Optional[str] = ..., version: _Optional[str] = ..., ingress_interface: _Optional[str] = ..., egress_interface: _Optional[str] = ...) -> None: ...

class Related(_message.Message):
    __slots__ = ("ips", "hosts", "users")
    IPS_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    ips: _containers.RepeatedScalarFieldContainer[str]
    hosts: _containers.RepeatedScalarFieldContainer[str]
    users: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ips: _Optional[_Iterable[str]] = ..., hosts: _Optional[_Iterable[str]] = ..., users: _Optional[_Iterable[str]] = ...) -> None: ...

class Leg(_message.Message):
    __slots__ = ("connection_id", "direction", "icid", "dcid", "tls", "network_direction", "ecs_tls")
    CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    ICID_FIELD_NUMBER: _ClassVar[int]
    DCID_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    NETWORK_DIRECTION_FIELD_NUMBER: _ClassVar[int]
    ECS_TLS_FIELD_NUMBER: _ClassVar[int]
    connection_id: str
    direction: Direction
    icid: int
    dcid: int
    tls: Tls
    network_direction: NetworkDirection
    ecs_tls: EcsTls
    def __init__(self, connection_id: _Optional[str] = ..., direction: _Optional[_Union[Direction, str]] = ..., icid: _Optional[int] = ..., dcid: _Optional[int] = ..., tls: _Optional[_Union[Tls, _Mapping]] = ..., network_direction: _Optional[_Union[NetworkDirection, str]] = ..., ecs_tls: _Optional[_Union[EcsTls, _Mapping]] = ...) -> None: ...

class Tls(_message.Message):
    __slots__ = ("outcome", "evidence", "in_clear", "required", "failure_class", "failure_reason", "broken", "protocol", "cipher", "verified", "dane", "expected", "partners")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    IN_CLEAR_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    FAILURE_CLASS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_REASON_FIELD_NUMBER: _ClassVar[int]
    BROKEN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    CIPHER_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    DANE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    PARTNERS_FIELD_NUMBER: _ClassVar[int]
    outcome: TlsOutcome
    evidence: Evidence
    in_clear: bool
    required: bool
    failure_class: FailureClass
    failure_reason: str
    broken: bool
    protocol: str
    cipher: str
    verified: bool
    dane: str
    expected: bool
    partners: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, outcome: _Optional[_Union[TlsOutcome, str]] = ..., evidence: _Optional[_Union[Evidence, str]] = ..., in_clear: _Optional[bool] = ..., required: _Optional[bool] = ..., failure_class: _Optional[_Union[FailureClass, str]] = ..., failure_reason: _Optional[str] = ..., broken: _Optional[bool] = ..., protocol: _Optional[str] = ..., cipher: _Optional[str] = ..., verified: _Optional[bool] = ..., dane: _Optional[str] = ..., expected: _Optional[bool] = ..., partners: _Optional[_Iterable[str]] = ...) -> None: ...

class EcsTls(_message.Message):
    __slots__ = ("established", "version_protocol", "version", "cipher", "client_common_name", "server_common_name")
    ESTABLISHED_FIELD_NUMBER: _ClassVar[int]
    VERSION_PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CIPHER_FIELD_NUMBER: _ClassVar[int]
    CLIENT_COMMON_NAME_FIELD_NUMBER: _ClassVar[int]
    SERVER_COMMON_NAME_FIELD_NUMBER: _ClassVar[int]
    established: bool
    version_protocol: str
    version: str
    cipher: str
    client_common_name: str
    server_common_name: str
    def __init__(self, established: _Optional[bool] = ..., version_protocol: _Optional[str] = ..., version: _Optional[str] = ..., cipher: _Optional[str] = ..., client_common_name: _Optional[str] = ..., server_common_name: _Optional[str] = ...) -> None: ...

class Endpoint(_message.Message):
    __slots__ = ("ip", "address", "domain", "port")
    IP_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    ip: str
    address: str
    domain: str
    port: int
    def __init__(self, ip: _Optional[str] = ..., address: _Optional[str] = ..., domain: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...

class Hat(_message.Message):
    __slots__ = ("policy", "sender_group", "rule", "sbrs", "country")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SENDER_GROUP_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    SBRS_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    policy: str
    sender_group: str
    rule: str
    sbrs: float
    country: str
    def __init__(self, policy: _Optional[str] = ..., sender_group: _Optional[str] = ..., rule: _Optional[str] = ..., sbrs: _Optional[float] = ..., country: _Optional[str] = ...) -> None: ...

class Mail(_message.Message):
    __slots__ = ("local_id", "message_id", "subject", "envelope_from", "envelope_to", "from_addresses", "to_addresses")
    LOCAL_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_FROM_FIELD_NUMBER: _ClassVar[int]
    ENVELOPE_TO_FIELD_NUMBER: _ClassVar[int]
    FROM_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    TO_ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    local_id: str
    message_id: str
    subject: str
    envelope_from: str
    envelope_to: _containers.RepeatedScalarFieldContainer[str]
    from_addresses: _containers.RepeatedScalarFieldContainer[str]
    to_addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, local_id: _Optional[str] = ..., message_id: _Optional[str] = ..., subject: _Optional[str] = ..., envelope_from: _Optional[str] = ..., envelope_to: _Optional[_Iterable[str]] = ..., from_addresses: _Optional[_Iterable[str]] = ..., to_addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class DeliveryDetails(_message.Message):
    __slots__ = ("result", "ordinal", "attempt", "response", "code", "enhanced_code", "reason", "retry_at", "domains")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    ENHANCED_CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RETRY_AT_FIELD_NUMBER: _ClassVar[int]
    DOMAINS_FIELD_NUMBER: _ClassVar[int]
    result: DeliveryResult
    ordinal: int
    attempt: int
    response: str
    code: int
    enhanced_code: str
    reason: str
    retry_at: str
    domains: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, result: _Optional[_Union[DeliveryResult, str]] = ..., ordinal: _Optional[int] = ..., attempt: _Optional[int] = ..., response: _Optional[str] = ..., code: _Optional[int] = ..., enhanced_code: _Optional[str] = ..., reason: _Optional[str] = ..., retry_at: _Optional[str] = ..., domains: _Optional[_Iterable[str]] = ...) -> None: ...

class Line(_message.Message):
    __slots__ = ("header", "original", "raw", "leg", "mid", "rids", "level", "file_path", "syslog_priority", "syslog_appname", "log_name", "time_source", "mail", "source", "destination", "hat", "mail_flow", "delivery", "size_bytes", "mail_policy", "parent_mid", "child_kind")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ORIGINAL_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    LEG_FIELD_NUMBER: _ClassVar[int]
    MID_FIELD_NUMBER: _ClassVar[int]
    RIDS_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    FILE_PATH_FIELD_NUMBER: _ClassVar[int]
    SYSLOG_PRIORITY_FIELD_NUMBER: _ClassVar[int]
    SYSLOG_APPNAME_FIELD_NUMBER: _ClassVar[int]
    LOG_NAME_FIELD_NUMBER: _ClassVar[int]
    TIME_SOURCE_FIELD_NUMBER: _ClassVar[int]
    MAIL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    HAT_FIELD_NUMBER: _ClassVar[int]
    MAIL_FLOW_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAIL_POLICY_FIELD_NUMBER: _ClassVar[int]
    PARENT_MID_FIELD_NUMBER: _ClassVar[int]
    CHILD_KIND_FIELD_NUMBER: _ClassVar[int]
    header: Header
    original: str
    raw: bytes
    leg: Leg
    mid: int
    rids: _containers.RepeatedScalarFieldContainer[int]
    level: str
    file_path: str
    syslog_priority: int
    syslog_appname: str
    log_name: str
    time_source: TimeSource
    mail: Mail
    source: Endpoint
    destination: Endpoint
    hat: Hat
    mail_flow: MailFlow
    delivery: DeliveryDetails
    size_bytes: int
    mail_policy: str
    parent_mid: int
    child_kind: ChildKind
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., original: _Optional[str] = ..., raw: _Optional[bytes] = ..., leg: _Optional[_Union[Leg, _Mapping]] = ..., mid: _Optional[int] = ..., rids: _Optional[_Iterable[int]] = ..., level: _Optional[str] = ..., file_path: _Optional[str] = ..., syslog_priority: _Optional[int] = ..., syslog_appname: _Optional[str] = ..., log_name: _Optional[str] = ..., time_source: _Optional[_Union[TimeSource, str]] = ..., mail: _Optional[_Union[Mail, _Mapping]] = ..., source: _Optional[_Union[Endpoint, _Mapping]] = ..., destination: _Optional[_Union[Endpoint, _Mapping]] = ..., hat: _Optional[_Union[Hat, _Mapping]] = ..., mail_flow: _Optional[_Union[MailFlow, str]] = ..., delivery: _Optional[_Union[DeliveryDetails, _Mapping]] = ..., size_bytes: _Optional[int] = ..., mail_policy: _Optional[str] = ..., parent_mid: _Optional[int] = ..., child_kind: _Optional[_Union[ChildKind, str]] = ...) -> None: ...

class Connection(_message.Message):
    __slots__ = ("header", "leg", "end", "lost", "start_seen", "mids", "message_count", "for_domain", "error_reason", "error_details", "hat", "mail_flow", "source", "destination")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    LEG_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    START_SEEN_FIELD_NUMBER: _ClassVar[int]
    MIDS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    FOR_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    ERROR_REASON_FIELD_NUMBER: _ClassVar[int]
    ERROR_DETAILS_FIELD_NUMBER: _ClassVar[int]
    HAT_FIELD_NUMBER: _ClassVar[int]
    MAIL_FLOW_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    header: Header
    leg: Leg
    end: ConnectionEnd
    lost: bool
    start_seen: bool
    mids: _containers.RepeatedScalarFieldContainer[int]
    message_count: int
    for_domain: str
    error_reason: str
    error_details: str
    hat: Hat
    mail_flow: MailFlow
    source: Endpoint
    destination: Endpoint
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., leg: _Optional[_Union[Leg, _Mapping]] = ..., end: _Optional[_Union[ConnectionEnd, str]] = ..., lost: _Optional[bool] = ..., start_seen: _Optional[bool] = ..., mids: _Optional[_Iterable[int]] = ..., message_count: _Optional[int] = ..., for_domain: _Optional[str] = ..., error_reason: _Optional[str] = ..., error_details: _Optional[str] = ..., hat: _Optional[_Union[Hat, _Mapping]] = ..., mail_flow: _Optional[_Union[MailFlow, str]] = ..., source: _Optional[_Union[Endpoint, _Mapping]] = ..., destination: _Optional[_Union[Endpoint, _Mapping]] = ...) -> None: ...

class Delivery(_message.Message):
    __slots__ = ("header", "leg", "mid", "rids", "delivery", "mail", "source", "destination", "mail_flow", "posture_in")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    LEG_FIELD_NUMBER: _ClassVar[int]
    MID_FIELD_NUMBER: _ClassVar[int]
    RIDS_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_FIELD_NUMBER: _ClassVar[int]
    MAIL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    MAIL_FLOW_FIELD_NUMBER: _ClassVar[int]
    POSTURE_IN_FIELD_NUMBER: _ClassVar[int]
    header: Header
    leg: Leg
    mid: int
    rids: _containers.RepeatedScalarFieldContainer[int]
    delivery: DeliveryDetails
    mail: Mail
    source: Endpoint
    destination: Endpoint
    mail_flow: MailFlow
    posture_in: Posture
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., leg: _Optional[_Union[Leg, _Mapping]] = ..., mid: _Optional[int] = ..., rids: _Optional[_Iterable[int]] = ..., delivery: _Optional[_Union[DeliveryDetails, _Mapping]] = ..., mail: _Optional[_Union[Mail, _Mapping]] = ..., source: _Optional[_Union[Endpoint, _Mapping]] = ..., destination: _Optional[_Union[Endpoint, _Mapping]] = ..., mail_flow: _Optional[_Union[MailFlow, str]] = ..., posture_in: _Optional[_Union[Posture, str]] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("header", "mid", "posture", "posture_in", "posture_out", "clear_recipient_count", "clear_domains", "mail_flow", "size_bytes", "mail_policy", "end", "end_reason", "parent_mid", "child_mids", "child_kind", "reception", "deliveries", "delivery_count", "recipients", "recipient_count", "mail", "tls_expected", "tls_partners")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    MID_FIELD_NUMBER: _ClassVar[int]
    POSTURE_FIELD_NUMBER: _ClassVar[int]
    POSTURE_IN_FIELD_NUMBER: _ClassVar[int]
    POSTURE_OUT_FIELD_NUMBER: _ClassVar[int]
    CLEAR_RECIPIENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    CLEAR_DOMAINS_FIELD_NUMBER: _ClassVar[int]
    MAIL_FLOW_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAIL_POLICY_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    END_REASON_FIELD_NUMBER: _ClassVar[int]
    PARENT_MID_FIELD_NUMBER: _ClassVar[int]
    CHILD_MIDS_FIELD_NUMBER: _ClassVar[int]
    CHILD_KIND_FIELD_NUMBER: _ClassVar[int]
    RECEPTION_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_COUNT_FIELD_NUMBER: _ClassVar[int]
    RECIPIENTS_FIELD_NUMBER: _ClassVar[int]
    RECIPIENT_COUNT_FIELD_NUMBER: _ClassVar[int]
    MAIL_FIELD_NUMBER: _ClassVar[int]
    TLS_EXPECTED_FIELD_NUMBER: _ClassVar[int]
    TLS_PARTNERS_FIELD_NUMBER: _ClassVar[int]
    header: Header
    mid: int
    posture: Posture
    posture_in: Posture
    posture_out: Posture
    clear_recipient_count: int
    clear_domains: _containers.RepeatedScalarFieldContainer[str]
    mail_flow: MailFlow
    size_bytes: int
    mail_policy: str
    end: MessageEnd
    end_reason: str
    parent_mid: int
    child_mids: _containers.RepeatedScalarFieldContainer[int]
    child_kind: ChildKind
    reception: Reception
    deliveries: _containers.RepeatedCompositeFieldContainer[MessageDelivery]
    delivery_count: int
    recipients: _containers.RepeatedCompositeFieldContainer[Recipient]
    recipient_count: int
    mail: Mail
    tls_expected: bool
    tls_partners: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., mid: _Optional[int] = ..., posture: _Optional[_Union[Posture, str]] = ..., posture_in: _Optional[_Union[Posture, str]] = ..., posture_out: _Optional[_Union[Posture, str]] = ..., clear_recipient_count: _Optional[int] = ..., clear_domains: _Optional[_Iterable[str]] = ..., mail_flow: _Optional[_Union[MailFlow, str]] = ..., size_bytes: _Optional[int] = ..., mail_policy: _Optional[str] = ..., end: _Optional[_Union[MessageEnd, str]] = ..., end_reason: _Optional[str] = ..., parent_mid: _Optional[int] = ..., child_mids: _Optional[_Iterable[int]] = ..., child_kind: _Optional[_Union[ChildKind, str]] = ..., reception: _Optional[_Union[Reception, _Mapping]] = ..., deliveries: _Optional[_Iterable[_Union[MessageDelivery, _Mapping]]] = ..., delivery_count: _Optional[int] = ..., recipients: _Optional[_Iterable[_Union[Recipient, _Mapping]]] = ..., recipient_count: _Optional[int] = ..., mail: _Optional[_Union[Mail, _Mapping]] = ..., tls_expected: _Optional[bool] = ..., tls_partners: _Optional[_Iterable[str]] = ...) -> None: ...

class Reception(_message.Message):
    __slots__ = ("connection_id", "icid", "tls", "peer", "sender_group")
    CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    ICID_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    SENDER_GROUP_FIELD_NUMBER: _ClassVar[int]
    connection_id: str
    icid: int
    tls: Tls
    peer: Endpoint
    sender_group: str
    def __init__(self, connection_id: _Optional[str] = ..., icid: _Optional[int] = ..., tls: _Optional[_Union[Tls, _Mapping]] = ..., peer: _Optional[_Union[Endpoint, _Mapping]] = ..., sender_group: _Optional[str] = ...) -> None: ...

class MessageDelivery(_message.Message):
    __slots__ = ("connection_id", "dcid", "rids", "result", "tls", "peer", "response")
    CONNECTION_ID_FIELD_NUMBER: _ClassVar[int]
    DCID_FIELD_NUMBER: _ClassVar[int]
    RIDS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    TLS_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    connection_id: str
    dcid: int
    rids: _containers.RepeatedScalarFieldContainer[int]
    result: DeliveryResult
    tls: Tls
    peer: Endpoint
    response: str
    def __init__(self, connection_id: _Optional[str] = ..., dcid: _Optional[int] = ..., rids: _Optional[_Iterable[int]] = ..., result: _Optional[_Union[DeliveryResult, str]] = ..., tls: _Optional[_Union[Tls, _Mapping]] = ..., peer: _Optional[_Union[Endpoint, _Mapping]] = ..., response: _Optional[str] = ...) -> None: ...

class Recipient(_message.Message):
    __slots__ = ("rid", "address", "domain", "result", "posture", "tls_outcome", "in_clear")
    RID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    POSTURE_FIELD_NUMBER: _ClassVar[int]
    TLS_OUTCOME_FIELD_NUMBER: _ClassVar[int]
    IN_CLEAR_FIELD_NUMBER: _ClassVar[int]
    rid: int
    address: str
    domain: str
    result: RecipientResult
    posture: Posture
    tls_outcome: TlsOutcome
    in_clear: bool
    def __init__(self, rid: _Optional[int] = ..., address: _Optional[str] = ..., domain: _Optional[str] = ..., result: _Optional[_Union[RecipientResult, str]] = ..., posture: _Optional[_Union[Posture, str]] = ..., tls_outcome: _Optional[_Union[TlsOutcome, str]] = ..., in_clear: _Optional[bool] = ...) -> None: ...

class Consolidated(_message.Message):
    __slots__ = ("header", "mid", "icid", "dcid", "mail_flow", "mail_policy", "hat", "reception_tls", "delivery_tls", "mail", "source", "destination", "cef")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    MID_FIELD_NUMBER: _ClassVar[int]
    ICID_FIELD_NUMBER: _ClassVar[int]
    DCID_FIELD_NUMBER: _ClassVar[int]
    MAIL_FLOW_FIELD_NUMBER: _ClassVar[int]
    MAIL_POLICY_FIELD_NUMBER: _ClassVar[int]
    HAT_FIELD_NUMBER: _ClassVar[int]
    RECEPTION_TLS_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_TLS_FIELD_NUMBER: _ClassVar[int]
    MAIL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    CEF_FIELD_NUMBER: _ClassVar[int]
    header: Header
    mid: int
    icid: int
    dcid: int
    mail_flow: MailFlow
    mail_policy: str
    hat: Hat
    reception_tls: Tls
    delivery_tls: Tls
    mail: Mail
    source: Endpoint
    destination: Endpoint
    cef: Cef
    def __init__(self, header: _Optional[_Union[Header, _Mapping]] = ..., mid: _Optional[int] = ..., icid: _Optional[int] = ..., dcid: _Optional[int] = ..., mail_flow: _Optional[_Union[MailFlow, str]] = ..., mail_policy: _Optional[str] = ..., hat: _Optional[_Union[Hat, _Mapping]] = ..., reception_tls: _Optional[_Union[Tls, _Mapping]] = ..., delivery_tls: _Optional[_Union[Tls, _Mapping]] = ..., mail: _Optional[_Union[Mail, _Mapping]] = ..., source: _Optional[_Union[Endpoint, _Mapping]] = ..., destination: _Optional[_Union[Endpoint, _Mapping]] = ..., cef: _Optional[_Union[Cef, _Mapping]] = ...) -> None: ...

class Cef(_message.Message):
    __slots__ = ("product", "action", "action_details", "start_time", "end_time", "inbound_interface", "outbound_interface", "device_address", "friendly_from", "reply_to", "helo_domain", "helo_address", "dane_host", "message_too_big", "rate_limited_address", "harvest_attack_source", "sender_domain_age", "remediation", "attachments", "urls", "sender_threat_category", "language", "sender_reputation", "antispam_verdict", "amp_verdict", "antivirus_verdict", "graymail_verdict", "content_filter_verdict", "outbreak_filter_verdict", "dlp_verdict", "message_filter_verdict", "spf_verdict", "dkim_verdict", "dmarc_verdict")
    PRODUCT_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    ACTION_DETAILS_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    INBOUND_INTERFACE_FIELD_NUMBER: _ClassVar[int]
    OUTBOUND_INTERFACE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    FRIENDLY_FROM_FIELD_NUMBER: _ClassVar[int]
    REPLY_TO_FIELD_NUMBER: _ClassVar[int]
    HELO_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    HELO_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DANE_HOST_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_TOO_BIG_FIELD_NUMBER: _ClassVar[int]
    RATE_LIMITED_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HARVEST_ATTACK_SOURCE_FIELD_NUMBER: _ClassVar[int]
    SENDER_DOMAIN_AGE_FIELD_NUMBER: _ClassVar[int]
    REMEDIATION_FIELD_NUMBER: _ClassVar[int]
    ATTACHMENTS_FIELD_NUMBER: _ClassVar[int]
    URLS_FIELD_NUMBER: _ClassVar[int]
    SENDER_THREAT_CATEGORY_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    SENDER_REPUTATION_FIELD_NUMBER: _ClassVar[int]
    ANTISPAM_VERDICT_FIELD_NUMBER: _ClassVar[int]
    AMP_VERDICT_FIELD_NUMBER: _ClassVar[int]
    ANTIVIRUS_VERDICT_FIELD_NUMBER: _ClassVar[int]
    GRAYMAIL_VERDICT_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FILTER_VERDICT_FIELD_NUMBER: _ClassVar[int]
    OUTBREAK_FILTER_VERDICT_FIELD_NUMBER: _ClassVar[int]
    DLP_VERDICT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FILTER_VERDICT_FIELD_NUMBER: _ClassVar[int]
    SPF_VERDICT_FIELD_NUMBER: _ClassVar[int]
    DKIM_VERDICT_FIELD_NUMBER: _ClassVar[int]
    DMARC_VERDICT_FIELD_NUMBER: _ClassVar[int]
    product: str
    action: str
    action_details: str
    start_time: str
    end_time: str
    inbound_interface: str
    outbound_interface: str
    device_address: str
    friendly_from: str
    reply_to: str
    helo_domain: str
    helo_address: str
    dane_host: str
    message_too_big: str
    rate_limited_address: str
    harvest_attack_source: str
    sender_domain_age: str
    remediation: str
    attachments: str
    urls: str
    sender_threat_category: str
    language: str
    sender_reputation: str
    antispam_verdict: str
    amp_verdict: str
    antivirus_verdict: str
    graymail_verdict: str
    content_filter_verdict: str
    outbreak_filter_verdict: str
    dlp_verdict: str
    message_filter_verdict: str
    spf_verdict: str
    dkim_verdict: str
    dmarc_verdict: str
    def __init__(self, product: _Optional[str] = ..., action: _Optional[str] = ..., action_details: _Optional[str] = ..., start_time: _Optional[str] = ..., end_time: _Optional[str] = ..., inbound_interface: _Optional[str] = ..., outbound_interface: _Optional[str] = ..., device_address: _Optional[str] = ..., friendly_from: _Optional[str] = ..., reply_to: _Optional[str] = ..., helo_domain: _Optional[str] = ..., helo_address: _Optional[str] = ..., dane_host: _Optional[str] = ..., message_too_big: _Optional[str] = ..., rate_limited_address: _Optional[str] = ..., harvest_attack_source: _Optional[str] = ..., sender_domain_age: _Optional[str] = ..., remediation: _Optional[str] = ..., attachments: _Optional[str] = ..., urls: _Optional[str] = ..., sender_threat_category: _Optional[str] = ..., language: _Optional[str] = ..., sender_reputation: _Optional[str] = ..., antispam_verdict: _Optional[str] = ..., amp_verdict: _Optional[str] = ..., antivirus_verdict: _Optional[str] = ..., graymail_verdict: _Optional[str] = ..., content_filter_verdict: _Optional[str] = ..., outbreak_filter_verdict: _Optional[str] = ..., dlp_verdict: _Optional[str] = ..., message_filter_verdict: _Optional[str] = ..., spf_verdict: _Optional[str] = ..., dkim_verdict: _Optional[str] = ..., dmarc_verdict: _Optional[str] = ...) -> None: ...
