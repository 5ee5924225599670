"""What one setting alone cannot say: settings that do not go together, addresses that are none, names that are taken."""

from __future__ import annotations

import ipaddress
import os
import re
import zoneinfo
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import msgspec

from esa_tls.config.elasticsearch import ElasticsearchSink, wrong_elasticsearch
from esa_tls.config.kafka import KafkaSink, wrong_kafka
from esa_tls.config.loki import LokiSink, wrong_loki
from esa_tls.config.parts import VARIABLE, listen_address, unix_path, wrong_address, wrong_client_tls, wrong_url
from esa_tls.config.require_tls import RequiredPartner, RequireTls
from esa_tls.config.root import Appliance, Config, Web, is_guarded
from esa_tls.config.selection import Where, key_ring
from esa_tls.config.sinks import STANDARD_OUTPUT, FluentSink, JsonlSink, OtlpSink, Sink, wrong_fluent, wrong_otlp
from esa_tls.config.sources import FluentSource, OtlpGrpcSource, OtlpHttpSource, Source, SyslogSource
from esa_tls.config.splunk_hec import SplunkHecSink, wrong_splunk_hec
from esa_tls.config.webhook import WebhookSink, wrong_webhook

_NAME_SOURCES = ("syslog:host", "otlp:host.name", "fluent_tag", "peer")


def conflicts(config: Config) -> Iterator[tuple[str, str]]:
    """What is wrong beyond single types: (path, reason)."""
    yield from _wrong_appliance(config.appliance)
    for list_name, entries in (("sources", config.sources), ("sinks", config.sinks)):
        names: dict[str, int] = {}
        for index, entry in enumerate(entries):
            first = names.setdefault(entry.name, index)
            if first != index:
                yield f"{list_name}[{index}].name", f"{entry.name!r} is taken by {list_name}[{first}]; give each its own `name`"
    listening: dict[tuple[str, int], str] = {}
    listeners = [
        (f"sources[{index}].listen", source.listen)
        for index, source in enumerate(config.sources)
        if not (_is_udp(source) or _is_unix(source))
    ]
    listeners += [("web.listen", config.web.listen)] if config.web else []
    listeners += [("api.listen", config.api.listen)] if config.api else []
    for where, text in listeners:
        try:
            address = listen_address(text)
        except ValueError as error:
            yield where, str(error)
            continue
        if address[1] and listening.setdefault(address, where) != where:
            yield where, f"{text} is taken by {listening[address]}"
    if config.web is not None:
        yield from _wrong_web(config.web)
    yield from _wrong_forward_sources(config)
    yield from _wrong_syslog_sources(config)
    yield from _never_read(config)
    if config.api is not None and config.api.name in {source.name for source in config.sources}:
        yield "api.name", f"{config.api.name!r} is taken by a source; give each its own `name`"
    yield from _wrong_sinks(config.sinks)
    if config.store is not None:
        for index, sink in enumerate(config.sinks):
            if sink.name == "store":
                yield f"sinks[{index}].name", "'store' is the embedded store; give the sink another `name`"
    yield from _wrong_telemetry(config, listening)
    if config.require_tls is not None:
        yield from wrong_require_tls(config.require_tls, "require_tls.")
    if config.cache_entries > config.max_entries:
        yield "cache_entries", f"larger than max_entries ({config.max_entries})"
    for where, text in _plain_texts(msgspec.to_builtins(config, enc_hook=lambda _secret: None)):
        if VARIABLE.search(text):
            yield where, "${...} is replaced in secrets only; write the value itself"


def _never_read(config: Config) -> Iterator[tuple[str, str]]:
    """Frames and requests that are allowed to be larger than what is read at all."""
    limits: list[tuple[str, int]] = []
    for index, source in enumerate(config.sources):
        match source:
            case FluentSource():
                limits.append((f"sources[{index}].max_frame_bytes", source.max_frame_bytes))
            case OtlpGrpcSource() | OtlpHttpSource():
                limits.append((f"sources[{index}].max_request_bytes", source.max_request_bytes))
            case SyslogSource():
                pass
    if config.api is not None:
        limits.append(("api.max_request_bytes", config.api.max_request_bytes))
    for where, limit_bytes in limits:
        if limit_bytes > config.max_receive_bytes:
            yield where, f"larger than max_receive_bytes ({config.max_receive_bytes}): so large a one could never be read"


def _wrong_web(web: Web) -> Iterator[tuple[str, str]]:
    """A page that anybody could look at, a token that protects nothing, names that are none."""
    if web.page and not is_guarded(web):
        yield "web.page", f"{web.listen} is reached from other machines; set web.token, or web.tls.client_ca_file"
    if web.token is not None and len(web.token.reveal()) < _MIN_TOKEN_CHARS:
        yield "web.token", f"shorter than {_MIN_TOKEN_CHARS} characters could be guessed"
    for index, name in enumerate(web.names):
        if not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?", name):
            yield f"web.names[{index}]", f"expected a host name without port, got {name!r}"


_MIN_TOKEN_CHARS = 12


def _is_udp(source: Source) -> bool:
    """Whether it listens on a UDP port, which does not collide with a TCP port of the same number."""
    return isinstance(source, SyslogSource) and source.transport == "udp"


def _is_unix(source: Source) -> bool:
    """Whether it listens on a Unix socket."""
    return isinstance(source, FluentSource) and unix_path(source.listen) is not None


def _wrong_forward_sources(config: Config) -> Iterator[tuple[str, str]]:
    listening: dict[str, str] = {}
    for index, source in enumerate(config.sources):
        if not isinstance(source, FluentSource):
            continue
        if source.users and source.shared_key is None:
            yield f"sources[{index}].users", "users log in beside a shared key; set shared_key, to '' for an empty one"
        where = f"sources[{index}].listen"
        path = unix_path(source.listen)
        if path is None:
            continue
        if not path.startswith("/") or len(os.fsencode(path)) > _MAX_UNIX_PATH_BYTES:
            yield where, f"expected unix:/PATH, absolute and of at most {_MAX_UNIX_PATH_BYTES} bytes, got {source.listen!r}"
        if listening.setdefault(path, where) != where:
            yield where, f"{source.listen} is taken by {listening[path]}"


_MAX_UNIX_PATH_BYTES = 107


def _wrong_syslog_sources(config: Config) -> Iterator[tuple[str, str]]:
    listening: dict[tuple[str, int], str] = {}
    for index, source in enumerate(config.sources):
        if not isinstance(source, SyslogSource):
            continue
        where = f"sources[{index}]"
        if source.transport == "tls" and source.tls is None:
            yield f"{where}.tls", "transport: tls needs cert_file and key_file here"
        if source.transport != "tls" and source.tls is not None:
            yield f"{where}.tls", f"has no effect with transport: {source.transport}; set transport: tls"
        if source.transport == "udp":
            if source.lossy is False:
                yield f"{where}.lossy", "UDP loses lines without notice, so it cannot be false with transport: udp"
            try:
                address = listen_address(source.listen)
            except ValueError as error:
                yield f"{where}.listen", str(error)
            else:
                if address[1] and listening.setdefault(address, where) != where:
                    yield f"{where}.listen", f"{source.listen} is taken by {listening[address]}.listen"
        for number, network in enumerate(source.allow):
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                yield f"{where}.allow[{number}]", f"no address and no network: {error}"
        if not source.trust_host and config.appliance.name is None and "peer" not in config.appliance.from_:
            yield f"{where}.trust_host", "is false, so appliance.from must hold `peer`, or all senders would be one appliance"


def _wrong_appliance(appliance: Appliance) -> Iterator[tuple[str, str]]:
    if appliance.name == "":
        yield "appliance.name", "is empty"
    if appliance.name is None and not appliance.from_:
        yield "appliance.from", "is empty, and there is no appliance.name"
    for index, entry in enumerate(appliance.from_):
        if entry not in _NAME_SOURCES and not re.fullmatch(r"record:.+", entry):
            yield f"appliance.from[{index}]", f"expected record:KEY or one of {', '.join(_NAME_SOURCES)}, got {entry!r}"
        if entry.startswith("record:") and any(other.startswith("record:") for other in appliance.from_[:index]):
            yield f"appliance.from[{index}]", "only one record:KEY is looked at"
    for where, zone in [("appliance.timezone", appliance.timezone)] + [
        (f"appliance.timezones.{name}", zone) for name, zone in appliance.timezones.items()
    ]:
        try:
            zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            yield where, f"{zone!r} is no time zone that is known here"


def _wrong_sinks(sinks: list[Sink]) -> Iterator[tuple[str, str]]:
    paths: dict[str, int] = {}
    for index, sink in enumerate(sinks):
        if sink.retry_initial_s > sink.retry_max_s:
            yield f"sinks[{index}].retry_initial_s", f"larger than retry_max_s ({sink.retry_max_s:g})"
        yield from _wrong_selection(f"sinks[{index}]", sink)
        for where, reason in _wrong_in(sink):
            yield f"sinks[{index}].{where}", reason
        if isinstance(sink, JsonlSink):
            path = sink.path if sink.path == STANDARD_OUTPUT else os.path.realpath(sink.path)
            first = paths.setdefault(path, index)
            if first != index:
                yield f"sinks[{index}].path", f"{sink.path!r} is written by sinks[{first}]"


def wrong_require_tls(settings: RequireTls, where: str = "") -> Iterator[tuple[str, str]]:
    """Names that stand twice, partners without anything to know them by, and networks that are none."""
    names: dict[str, str] = {}
    for place, partner in [
        *((f"{where}partners[{index}]", partner) for index, partner in enumerate(settings.partners)),
        *((f"{where}domains[{index}]", RequiredPartner(name=domain, domains=[domain])) for index, domain in enumerate(settings.domains)),
    ]:
        if names.setdefault(partner.name, place) != place:
            yield place, f"{partner.name!r} is taken by {names[partner.name]}"
        if not (partner.domains or partner.hosts or partner.networks):
            yield place, "has neither domains nor hosts nor networks"
        for name in (*partner.domains, *partner.hosts):
            if not re.fullmatch(r"(?:\*\.)?[^\s*@/]+", name):
                yield place, f"expected a name or *.NAME, got {name!r}"
        for network in partner.networks:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError as error:
                yield place, f"no address and no network: {error}"


def _wrong_in(sink: Sink) -> Iterator[tuple[str, str]]:
    """What is wrong in one sink alone: (path below it, reason)."""
    if not isinstance(sink, JsonlSink):
        yield from wrong_client_tls(sink.tls)
    match sink:
        case JsonlSink():
            pass
        case FluentSink():
            yield from wrong_fluent(sink)
        case OtlpSink():
            yield from wrong_otlp(sink)
        case ElasticsearchSink():
            yield from wrong_elasticsearch(sink)
        case KafkaSink():
            yield from wrong_kafka(sink)
        case LokiSink():
            yield from wrong_loki(sink)
        case SplunkHecSink():
            yield from wrong_splunk_hec(sink)
        case WebhookSink():
            yield from wrong_webhook(sink)


def _wrong_telemetry(config: Config, listening: Mapping[tuple[str, int], str]) -> Iterator[tuple[str, str]]:
    """An endpoint that is none, TLS that the protocol cannot do, and the one loop there is: a sidecar that tells itself about itself."""
    fluent, otlp = config.telemetry.fluent, config.telemetry.otlp
    endpoints: list[tuple[str, str]] = []
    if fluent is not None:
        endpoints.append(("telemetry.fluent.endpoint", fluent.endpoint))
        if reason := wrong_address(fluent.endpoint):
            yield "telemetry.fluent.endpoint", reason
    if otlp is not None:
        over_http = otlp.protocol == "http"
        wrong = wrong_url(otlp.endpoint, tls=otlp.tls is not None) if over_http else wrong_address(otlp.endpoint)
        if wrong:
            yield "telemetry.otlp.endpoint", wrong
        if over_http and otlp.tls is not None and (not otlp.tls.verify or otlp.tls.server_name is not None):
            yield "telemetry.otlp.tls", "with protocol: http the certificate is always checked, against the endpoint's host"
        for path, reason in wrong_client_tls(otlp.tls):
            yield f"telemetry.otlp.{path}", reason
        endpoints.append(("telemetry.otlp.endpoint", urlsplit(otlp.endpoint).netloc if over_http else otlp.endpoint))
    ours = {f"{host}:{port}": taken for (host, port), taken in listening.items()}
    for where, address in endpoints:
        if taken := ours.get(address):
            yield where, f"{address} is {taken} of this sidecar, which would read its own log"


def _wrong_selection(where: str, sink: Sink) -> Iterator[tuple[str, str]]:
    if sink.fields is not None and (sink.fields.keep is None) == (sink.fields.drop is None):
        yield f"{where}.fields", "needs either `keep` or `drop`"
    if sink.where is not None and sink.where == Where():
        yield f"{where}.where", f"is empty; known keys are {', '.join(Where.__struct_fields__)}"
    if sink.pseudonyms is not None:
        try:
            key_ring(sink.pseudonyms.keys.reveal())
        except ValueError as error:
            yield f"{where}.pseudonyms.keys", str(error)


def _plain_texts(data: object, where: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _plain_texts(value, f"{where}.{key}" if where else str(key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _plain_texts(value, f"{where}[{index}]")
    elif isinstance(data, str):
        yield where, data
