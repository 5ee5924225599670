"""Every setting of esa-tls, documented once: the reference in the docs and the JSON schema are made from these Structs.

Rules of this package:

1. A setting is a field with `Meta(description=...)`; its default works without a file. Units stand in the name (`_s`, `_bytes`).
2. Nothing unknown and nothing said twice is accepted. An error is one sentence with file, path and reason (`ConfigError`).
3. `${NAME}` is replaced from the environment, and `${file:PATH}` by a file's content, in `Secret` values only; `{file: PATH}` is a
   secret that is that content. A `Secret` prints as `***` everywhere.
4. Values are checked when they are decoded (`load`), not when a Struct is built in code.

Sources and sinks are unions told apart by `type`; `app/` has one `match` over either.
"""

from __future__ import annotations

from esa_tls.config.elasticsearch import ElasticsearchSink
from esa_tls.config.kafka import KafkaSasl, KafkaSink
from esa_tls.config.loading import load, load_require_tls, parse
from esa_tls.config.loki import LokiSink
from esa_tls.config.own_telemetry import Telemetry, TelemetryFluent, TelemetryOtlp
from esa_tls.config.parts import ClientTls, GiB, KiB, ListenTls, MiB, RecordKind, Secret, listen_address, unix_path
from esa_tls.config.require_tls import RequiredPartner, RequireTls
from esa_tls.config.root import Api, Appliance, Config, Journal, Store, Web, is_guarded
from esa_tls.config.selection import FieldChoice, PseudonymSettings, Where, key_ring
from esa_tls.config.sinks import STANDARD_OUTPUT, FluentEndpoint, FluentSink, JsonlSink, OtlpSink, Sink
from esa_tls.config.sources import FluentSource, OtlpGrpcSource, OtlpHttpSource, Source, SyslogSource
from esa_tls.config.splunk_hec import SplunkHecSink
from esa_tls.config.webhook import WebhookSink
from esa_tls.config.wording import variants

__all__ = [
    "STANDARD_OUTPUT",
    "Api",
    "Appliance",
    "ClientTls",
    "Config",
    "ElasticsearchSink",
    "FieldChoice",
    "FluentEndpoint",
    "FluentSink",
    "FluentSource",
    "GiB",
    "Journal",
    "JsonlSink",
    "KafkaSasl",
    "KafkaSink",
    "KiB",
    "ListenTls",
    "LokiSink",
    "MiB",
    "OtlpGrpcSource",
    "OtlpHttpSource",
    "OtlpSink",
    "PseudonymSettings",
    "RecordKind",
    "RequireTls",
    "RequiredPartner",
    "Secret",
    "Sink",
    "Source",
    "SplunkHecSink",
    "Store",
    "SyslogSource",
    "Telemetry",
    "TelemetryFluent",
    "TelemetryOtlp",
    "Web",
    "WebhookSink",
    "Where",
    "is_guarded",
    "key_ring",
    "listen_address",
    "load",
    "load_require_tls",
    "parse",
    "unix_path",
    "variants",
]
