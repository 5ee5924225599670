"""Settings of the kafka, splunk_hec and webhook sinks: what they may be, and what `app` makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.tls_files import TlsFiles

from esa_tls import app
from esa_tls.config import KafkaSink, Sink, SplunkHecSink, WebhookSink, parse
from esa_tls.errors import ConfigError
from esa_tls.sinks.kafka import KafkaSink as KafkaProducer
from esa_tls.sinks.kafka import client_properties
from esa_tls.sinks.splunk_hec import SplunkHecSink as SplunkHecClient
from esa_tls.sinks.webhook import WebhookSink as WebhookClient
from esa_tls.telemetry import Counters


def sink_of(text: str, **environment: str) -> Sink:
    """The one sink of a configuration."""
    [sink] = parse(f"sinks: [{text}]", file="f", environment=environment).sinks
    return sink


def test_a_kafka_sink() -> None:
    """The least that has to be said, and what holds then."""
    sink = sink_of("{type: kafka, bootstrap_servers: ['a:9092', 'b:9093']}")
    assert isinstance(sink, KafkaSink)
    assert (sink.name, sink.topic, sink.compression, sink.tls, sink.sasl, sink.options) == ("kafka", "esa-tls", "zstd", None, None, {})
    made = app.make_sink(sink, Counters())
    assert isinstance(made, KafkaProducer)
    assert (made.name, made.encoding, made.cls_wanted) == ("kafka", "json", ("line", "summary"))


def test_kafka_secrets_are_never_shown() -> None:
    """Password and options take the environment; an option may be a secret."""
    text = (
        "{type: kafka, bootstrap_servers: ['a:1'], sasl: {mechanism: SCRAM-SHA-512, username: u, password: '${P}'}, "
        "options: {sasl.oauthbearer.client.secret: '${P}'}}"
    )
    sink = sink_of(text, P="t0psecret")
    assert isinstance(sink, KafkaSink)
    assert sink.sasl is not None
    assert sink.sasl.password is not None
    assert sink.sasl.password.reveal() == sink.options["sasl.oauthbearer.client.secret"].reveal() == "t0psecret"
    assert "t0psecret" not in repr(sink)


def test_a_splunk_sink() -> None:
    """Endpoints and token; the token is never shown."""
    sink = sink_of("{type: splunk_hec, endpoints: ['https://a:8088'], token: '${TOKEN}', records: [delivery]}", TOKEN="t0psecret")
    assert isinstance(sink, SplunkHecSink)
    assert "t0psecret" not in repr(sink)
    made = app.make_sink(sink, Counters())
    assert isinstance(made, SplunkHecClient)
    assert (made.name, made.encoding, made.cls_wanted, made.kinds) == ("splunk_hec", "json", ("summary",), frozenset({"delivery"}))


def test_a_webhook_sink() -> None:
    """An address; headers and key are never shown."""
    sink = sink_of("{type: webhook, endpoints: ['https://a/in?x=1'], headers: {x-key: '${K}'}, signature_key: '${K}'}", K="t0psecret")
    assert isinstance(sink, WebhookSink)
    assert "t0psecret" not in repr(sink)
    made = app.make_sink(sink, Counters())
    assert isinstance(made, WebhookClient)
    assert (made.name, made.encoding) == ("webhook", "json")


KAFKA = "type: kafka, bootstrap_servers: ['a:1']"
SPLUNK = "type: splunk_hec, token: t"


@pytest.mark.parametrize(
    ("sink", "told"),
    [
        ("{type: kafka}", "sinks[0]: needs the key 'bootstrap_servers'"),
        ("{type: kafka, bootstrap_servers: []}", "sinks[0].bootstrap_servers: expected"),
        ("{type: kafka, bootstrap_servers: ['a:1', 'b']}", "sinks[0].bootstrap_servers[1]: expected HOST:PORT"),
        ("{type: kafka, bootstrap_servers: ['a:0']}", "sinks[0].bootstrap_servers[0]: port 0"),
        (f"{{{KAFKA}, topic: 'a b'}}", "sinks[0].topic: 'a b' is no topic"),
        (f"{{{KAFKA}, topic: '{{name}}'}}", "sinks[0].topic: '{name}' is no topic"),
        (f"{{{KAFKA}, topic: '{'x' * 240}{{kind}}'}}", "sinks[0].topic: "),
        (f"{{{KAFKA}, compression: brotli}}", "sinks[0].compression: expected one of"),
        (f"{{{KAFKA}, max_message_bytes: 10}}", "sinks[0].max_message_bytes: expected"),
        (f"{{{KAFKA}, tls: {{server_name: x}}}}", "sinks[0].tls.server_name: the client checks the name that it connects to"),
        (f"{{{KAFKA}, tls: {{min_version: '1.3'}}}}", "sinks[0].tls.min_version: the client takes 1.2 only"),
        (f"{{{KAFKA}, tls: {{cert_file: x}}}}", "sinks[0].tls: cert_file and key_file belong together"),
        (f"{{{KAFKA}, sasl: {{mechanism: PLAIN}}}}", "sinks[0].sasl: PLAIN needs username and password"),
        (f"{{{KAFKA}, sasl: {{mechanism: PLAIN, username: u}}}}", "sinks[0].sasl: username and password belong together"),
        (f"{{{KAFKA}, sasl: {{mechanism: GSSAPI, username: u, password: p}}}}", "sinks[0].sasl: GSSAPI takes no username"),
        (f"{{{KAFKA}, options: {{acks: '1'}}}}", "sinks[0].options.acks: cannot be set here"),
        (f"{{{KAFKA}, options: {{partitioner: random}}}}", "sinks[0].options.partitioner: cannot be set here"),
        (f"{{{KAFKA}, tls: {{}}, options: {{ssl.cipher.suites: x}}}}", "sinks[0].options.ssl.cipher.suites: cannot be set beside `tls`"),
        (f"{{{KAFKA}, options: {{linger.ms: 50}}}}", "sinks[0].options.linger.ms: expected text, got a whole number"),
        (f"{{{KAFKA}, retry_initial_s: 100}}", "sinks[0].retry_initial_s: larger than retry_max_s"),
        ("{type: splunk_hec, endpoints: ['https://a:8088']}", "sinks[0]: needs the key 'token'"),
        (f"{{{SPLUNK}, endpoints: ['a:8088']}}", "sinks[0].endpoints[0]: expected http://HOST:PORT"),
        (f"{{{SPLUNK}, endpoints: ['https://u:p@a']}}", "sinks[0].endpoints[0]: expected http://HOST:PORT"),
        (f"{{{SPLUNK}, endpoints: ['https://a?x=1']}}", "sinks[0].endpoints[0]: expected http://HOST:PORT"),
        (f"{{{SPLUNK}, endpoints: ['https://a', 'http://b'], tls: {{}}}}", "sinks[0].endpoints[1]: there is `tls`"),
        (f"{{{SPLUNK}, endpoints: ['https://a'], sourcetype: '{{type}}'}}", "sinks[0].sourcetype: knows no place but {kind}"),
        ("{type: webhook}", "sinks[0]: needs the key 'endpoints'"),
        ("{type: webhook, endpoints: ['ftp://a']}", "sinks[0].endpoints[0]: expected http://HOST:PORT"),
        ("{type: webhook, endpoints: ['http://a'], tls: {}}", "sinks[0].endpoints[0]: there is `tls`"),
        (
            "{type: webhook, endpoints: ['http://a'], headers: {Content-Type: x}}",
            "sinks[0].headers.Content-Type: is set by the sink itself",
        ),
        ("{type: webhook, endpoints: ['http://a'], signature_key: ''}", "sinks[0].signature_key: is empty"),
        ("{type: webhook, endpoints: ['http://a'], format: xml}", "sinks[0].format: expected one of"),
    ],
)
def test_what_cannot_be(sink: str, told: str) -> None:
    """Refused with the place and one sentence."""
    with pytest.raises(ConfigError) as caught:
        sink_of(sink)
    assert str(caught.value).startswith(f"f: {told}"), str(caught.value)


@pytest.mark.parametrize("text", [KAFKA, SPLUNK + ", endpoints: ['https://a']", "type: webhook, endpoints: ['https://a']"])
def test_missing_certificate_files_are_told_at_start(text: str) -> None:
    """Each sink looks at its files when it is made."""
    sink = sink_of(f"{{{text}, name: x, tls: {{ca_file: /no/such/file}}}}")
    with pytest.raises(ConfigError, match=r"sink x: tls.ca_file: /no/such/file: cannot be read"):
        app.make_sink(sink, Counters())


def test_certificates_reach_the_kafka_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its properties name the files, user and password, and the real client takes them."""
    files = TlsFiles(tmp_path)
    seen: dict[str, Any] = {}

    def spying(*args: Any, **options: Any) -> dict[str, Any]:
        seen.update(client_properties(*args, **options))
        return dict(seen)

    monkeypatch.setattr("esa_tls.app.sinks.client_properties", spying)
    text = (
        f"{{{KAFKA}, tls: {{ca_file: {files.ca_file}, cert_file: {files.client[0]}, key_file: {files.client[1]}}}, "
        "sasl: {mechanism: SCRAM-SHA-256, username: u, password: p}, options: {linger.ms: '7'}, topic: 'esa.{kind}'}"
    )
    app.make_sink(sink_of(text), Counters())
    assert {
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": files.ca_file,
        "ssl.certificate.location": files.client[0],
        "ssl.key.location": files.client[1],
        "enable.ssl.certificate.verification": True,
        "sasl.mechanisms": "SCRAM-SHA-256",
        "sasl.username": "u",
        "sasl.password": "p",
        "linger.ms": "7",
        "bootstrap.servers": "a:1",
    }.items() <= seen.items()
