"""From a sink's setting to the sink."""

from esa_tls.config import (
    ElasticsearchSink,
    FluentEndpoint,
    FluentSink,
    JsonlSink,
    KafkaSink,
    LokiSink,
    OtlpSink,
    SplunkHecSink,
    WebhookSink,
    listen_address,
)
from esa_tls.config import Sink as SinkSettings
from esa_tls.runtime.dispatch import Sink
from esa_tls.runtime.streams import own_hostname
from esa_tls.runtime.tls import client_contexts, grpc_channel_credentials
from esa_tls.sinks.elasticsearch import ElasticsearchSink as BulkClient
from esa_tls.sinks.elasticsearch_nodes import MAX_BULK_RESPONSE_BYTES, Nodes, authorization
from esa_tls.sinks.fluent import FluentSink as ForwardClient
from esa_tls.sinks.fluent_upstreams import Receiver
from esa_tls.sinks.http_client import MAX_RESPONSE_BYTES, HttpClient
from esa_tls.sinks.jsonl import JsonlSink as JsonLinesWriter
from esa_tls.sinks.kafka import KafkaSink as KafkaProducer
from esa_tls.sinks.kafka import client_maker, client_properties, tls_properties
from esa_tls.sinks.loki import LokiSink as LokiClient
from esa_tls.sinks.otlp import OtlpSink as OtlpClient
from esa_tls.sinks.otlp import Transport as OtlpTransport
from esa_tls.sinks.otlp import make_transport
from esa_tls.sinks.splunk_hec import SplunkHecSink as SplunkHecClient
from esa_tls.sinks.webhook import WebhookSink as WebhookClient
from esa_tls.telemetry import Counters
from esa_tls.wire.fluent_handshake import ClientCredentials
from esa_tls.wire.kafka import topics_of
from esa_tls.wire.loki_entries import Entries
from esa_tls.wire.splunk_hec import EventSettings


def make_sink(settings: SinkSettings, counters: Counters | None = None) -> Sink:
    """The sink a setting describes. `counters`: for what a sink counts itself."""
    kinds = frozenset(settings.records)
    classes = tuple(cls for cls, wanted in (("line", "line" in kinds), ("summary", bool(kinds - {"line"}))) if wanted)
    match settings:
        case JsonlSink():
            return JsonLinesWriter(
                settings.path,
                name=settings.name,
                cls_wanted=classes,
                kinds=frozenset(kinds),
                max_file_bytes=settings.max_file_bytes,
                keep_files=settings.keep_files,
            )
        case FluentSink():
            owner = f"sink {settings.name}"
            return ForwardClient(
                _receivers(settings),
                name=settings.name,
                cls_wanted=classes,
                kinds=frozenset(kinds),
                tag_prefix=settings.tag_prefix,
                gzip=settings.compression == "gzip",
                max_frame_bytes=settings.max_frame_bytes,
                connect_timeout_s=settings.connect_timeout_s,
                ack_timeout_s=settings.ack_timeout_s,
                tls=None if settings.tls is None else client_contexts(settings.tls, owner=owner, counters=counters),
                server_name=None if settings.tls is None else settings.tls.server_name,
            )
        case OtlpSink():
            return OtlpClient(
                _otlp_transport(settings, counters),
                name=settings.name,
                cls_wanted=classes,
                kinds=frozenset(kinds),
                max_request_bytes=settings.max_request_bytes,
                counters=counters,
            )
        case ElasticsearchSink():
            return BulkClient(
                _nodes(settings, counters),
                name=settings.name,
                cls_wanted=classes,
                kinds=kinds,
                namespace=settings.namespace,
                max_request_bytes=settings.max_request_bytes,
                max_request_records=settings.max_request_records,
                require_template=settings.require_template,
                counters=counters,
            )
        case KafkaSink():
            return _kafka(settings, classes, counters)
        case LokiSink():
            return LokiClient(
                _http(settings, counters),
                settings.endpoints,
                Entries(labels=settings.labels, label_fields=settings.label_fields, max_line_bytes=settings.max_line_bytes),
                name=settings.name,
                cls_wanted=classes,
                kinds=kinds,
                form=settings.format,
                gzip=settings.compression == "gzip",
                headers=_loki_headers(settings),
                max_request_bytes=settings.max_request_bytes,
                max_in_flight=settings.max_in_flight,
            )
        case SplunkHecSink():
            return SplunkHecClient(
                _http(settings, counters, cookies=True),
                settings.endpoints,
                settings.token.reveal(),
                name=settings.name,
                cls_wanted=classes,
                kinds=kinds,
                events=EventSettings(source=settings.source, sourcetype=settings.sourcetype, index=settings.index),
                gzip=settings.compression == "gzip",
                headers={key: value.reveal() for key, value in settings.headers.items()},
                max_request_bytes=settings.max_request_bytes,
                ack_timeout_s=settings.ack_timeout_s,
            )
        case WebhookSink():
            return WebhookClient(
                _http(settings, counters),
                settings.endpoints,
                name=settings.name,
                cls_wanted=classes,
                kinds=kinds,
                form=settings.format,
                headers={key: value.reveal() for key, value in settings.headers.items()},
                key=None if settings.signature_key is None else settings.signature_key.reveal().encode(),
                gzip=settings.compression == "gzip",
                max_request_bytes=settings.max_request_bytes,
                max_request_records=settings.max_request_records,
            )


def _nodes(settings: ElasticsearchSink, counters: Counters | None) -> Nodes:
    """The nodes of a cluster, and how to get in."""
    login = authorization(
        api_key=None if settings.api_key is None else settings.api_key.reveal(),
        username=settings.username,
        password=None if settings.password is None else settings.password.reveal(),
    )
    return Nodes(
        settings.endpoints,
        client=_http(settings, counters, max_response_bytes=MAX_BULK_RESPONSE_BYTES),
        headers={**{name: value.reveal() for name, value in settings.headers.items()}, **login},
        gzip=settings.compression == "gzip",
    )


def _http(
    settings: ElasticsearchSink | LokiSink | SplunkHecSink | WebhookSink,
    counters: Counters | None,
    *,
    cookies: bool = False,
    max_response_bytes: int = MAX_RESPONSE_BYTES,
) -> HttpClient:
    tls = settings.tls
    return HttpClient(
        timeout_s=settings.timeout_s,
        connect_timeout_s=settings.connect_timeout_s,
        tls=None if tls is None else client_contexts(tls, owner=f"sink {settings.name}", counters=counters).current,
        server_name=None if tls is None else tls.server_name,
        cookies=cookies,
        max_response_bytes=max_response_bytes,
    )


def _loki_headers(settings: LokiSink) -> dict[str, str]:
    """Who we are, and for which tenant."""
    headers = {name: value.reveal() for name, value in settings.headers.items()}
    if settings.tenant is not None:
        headers["X-Scope-OrgID"] = settings.tenant
    if settings.token is not None:
        headers["Authorization"] = f"Bearer {settings.token.reveal()}"
    elif settings.username is not None and settings.password is not None:
        headers |= authorization(username=settings.username, password=settings.password.reveal())
    return headers


def _kafka(settings: KafkaSink, classes: tuple[str, ...], counters: Counters | None) -> KafkaProducer:
    tls = settings.tls
    files = None if tls is None else client_contexts(tls, owner=f"sink {settings.name}", counters=counters)

    def tls_generation() -> int:
        if files is not None:
            files.current()  # looks at the files
        return 0 if files is None else files.generation

    properties = client_properties(
        settings.bootstrap_servers,
        compression=settings.compression,
        max_message_bytes=settings.max_message_bytes,
        client_id=settings.client_id,
        tls=None if tls is None else tls_properties(ca_file=tls.ca_file, cert_file=tls.cert_file, key_file=tls.key_file, verify=tls.verify),
        sasl=None
        if settings.sasl is None
        else {
            "sasl.mechanisms": settings.sasl.mechanism,
            **({} if settings.sasl.username is None else {"sasl.username": settings.sasl.username}),
            **({} if settings.sasl.password is None else {"sasl.password": settings.sasl.password.reveal()}),
        },
        options={key: value.reveal() for key, value in settings.options.items()},
    )
    return KafkaProducer(
        client_maker(properties, owner=f"sink {settings.name}"),
        topics_of(settings.topic),
        name=settings.name,
        cls_wanted=classes,
        kinds=frozenset(settings.records),
        failing_after_s=settings.failing_after_s,
        tls_generation=tls_generation,
    )


def _otlp_transport(settings: OtlpSink, counters: Counters | None) -> OtlpTransport:
    owner = f"sink {settings.name}"
    over_grpc = settings.protocol == "grpc"
    return make_transport(
        settings.protocol,
        settings.endpoints,
        headers={key: value.reveal() for key, value in settings.headers.items()},
        gzip=settings.compression == "gzip",
        timeout_s=settings.timeout_s,
        tls=client_contexts(settings.tls, owner=owner, counters=counters).current if settings.tls is not None and not over_grpc else None,
        credentials=grpc_channel_credentials(settings.tls, owner=owner, counters=counters).current
        if settings.tls is not None and over_grpc
        else None,
        server_name=settings.tls.server_name if settings.tls is not None else None,
    )


def _receivers(settings: FluentSink) -> list[Receiver]:
    """The receivers of a Forward sink, each with what it leaves to the sink filled in."""
    hostname = settings.self_hostname
    receivers = []
    for entry in settings.endpoints:
        one = FluentEndpoint(endpoint=entry) if isinstance(entry, str) else entry
        key = settings.shared_key if one.shared_key is None else one.shared_key
        username, password = (settings.username, settings.password) if one.username is None else (one.username, one.password)
        credentials = None
        if key is not None:
            hostname = hostname or own_hostname()
            credentials = ClientCredentials(
                shared_key=key.reveal().encode(),
                hostname=hostname,
                username=username,
                password=None if password is None else password.reveal().encode(),
            )
        receivers.append(Receiver(*listen_address(one.endpoint), one.weight, one.standby, credentials))
    return receivers
