from __future__ import annotations

import ssl
from typing import Any

import msgspec
import pytest
from tests.contract.bulk_receiver import BulkReceiver
from tests.contract.delivery_fakes import rows_of
from tests.tls_files import TlsFiles

from esa_tls import app, telemetry
from esa_tls.config import ElasticsearchSink, parse
from esa_tls.errors import ConfigError
from esa_tls.telemetry import Counters


def parsed(**settings: Any) -> ElasticsearchSink:
    """The sink of a configuration file."""
    text = msgspec.yaml.encode({"sinks": [{"type": "elasticsearch", "endpoints": ["http://a:9200"], **settings}]})
    [sink] = parse(text, file="esa-tls.yaml", environment={"KEY": "encoded-key", "PASSWORD": "p"}).sinks
    assert isinstance(sink, ElasticsearchSink)
    return sink


def test_what_is_left_out() -> None:
    """Defaults: requests that every store takes, compressed, and nothing before templates are there."""
    sink = parsed()
    assert (sink.name, sink.namespace, sink.compression, sink.require_template) == ("elasticsearch", "default", "gzip", True)
    assert (sink.max_request_bytes, sink.max_request_records) == (4 << 20, 5000)


def test_secrets_come_from_the_environment() -> None:
    """API key, password and headers; none of them is shown."""
    sink = parsed(username="u", password="${PASSWORD}", headers={"X-Gateway": "${KEY}"})
    assert sink.password is not None
    assert (sink.password.reveal(), sink.headers["X-Gateway"].reveal()) == ("p", "encoded-key")
    assert "encoded-key" not in repr(sink)
    assert "encoded-key" not in repr(parsed(api_key="${KEY}"))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"endpoints": []}, "sinks[0].endpoints"),
        ({"endpoints": ["a:9200"]}, "sinks[0].endpoints[0]: expected http://HOST:PORT or https://HOST:PORT, got 'a:9200'"),
        ({"endpoints": ["http://a", "http://u:p@b"]}, "sinks[0].endpoints[1]: expected http://HOST:PORT"),
        ({"endpoints": ["https://a", "http://b"], "tls": {}}, "sinks[0].endpoints[1]: there is `tls`, so expected https://"),
        ({"tls": {"cert_file": "x"}, "endpoints": ["https://a"]}, "sinks[0].tls: cert_file and key_file belong together"),
        ({"username": "u"}, "sinks[0].password: username and password belong together"),
        ({"password": "p"}, "sinks[0].username: username and password belong together"),
        ({"username": "u", "password": "p", "api_key": "k"}, "sinks[0].api_key: there are a user and a password already"),
        ({"api_key": "k", "headers": {"authorization": "x"}}, "sinks[0].headers.authorization: is set by the sink itself"),
        ({"namespace": "a-b"}, "sinks[0].namespace"),
        ({"namespace": "Prod"}, "sinks[0].namespace"),
        ({"namespace": ""}, "sinks[0].namespace"),
        ({"namespace": "a" * 101}, "sinks[0].namespace"),
        ({"namespace": "a b"}, "sinks[0].namespace"),
        ({"max_request_bytes": 5}, "sinks[0].max_request_bytes"),
        ({"retry_initial_s": 5, "retry_max_s": 1}, "sinks[0].retry_initial_s"),
    ],
)
def test_what_it_cannot_have(settings: dict[str, Any], told: str) -> None:
    """Refused with the place and the reason."""
    with pytest.raises(ConfigError) as caught:
        parsed(**settings)
    assert told in str(caught.value)


async def test_from_settings_to_the_store(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the composition root makes: TLS with a certificate of ours, the API key, the namespace, wanted kinds, and counters."""
    files = TlsFiles(tmp_path_factory.mktemp("tls"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files.server)
    context.load_verify_locations(cafile=files.ca_file)
    context.verify_mode = ssl.CERT_REQUIRED
    counters = Counters()
    async with BulkReceiver(tls=context) as receiver:
        sink = app.make_sink(
            parsed(
                endpoints=[receiver.url],
                name="es",
                namespace="prod",
                api_key="${KEY}",
                headers={"X-Gateway": "g"},
                compression="none",
                records=["delivery", "message"],
                max_request_records=2,
                require_template=False,
                tls={"ca_file": files.ca_file, "cert_file": files.client[0], "key_file": files.client[1]},
            ),
            counters,
        )
        assert (sink.name, sink.encoding, sink.cls_wanted, sink.kinds) == ("es", "json", ("summary",), frozenset({"delivery", "message"}))
        for _ in range(2):
            await sink.send([(1, rows_of("json", [("delivery", [1, 2, 3]), ("line", [4])]))])
        await sink.close()
    assert [len(request.ids) for request in receiver.requests] == [2, 1, 2, 1]
    assert set(receiver.requests[0].indices) == {"logs-cisco_esa.delivery-prod"}
    assert receiver.requests[0].headers["Authorization"] == "ApiKey encoded-key"
    assert receiver.requests[0].headers["X-Gateway"] == "g"
    assert not receiver.requests[0].compressed
    assert receiver.asked_for_template == []
    assert counters.value(telemetry.SINK_KNOWN, sink="es") == 3


async def test_basic_login() -> None:
    """A user and a password."""
    async with BulkReceiver() as receiver:
        sink = app.make_sink(parsed(endpoints=[receiver.url], username="Aladdin", password="open sesame"), Counters())
        await sink.send([(1, rows_of("json", [("line", [1])]))])
        await sink.close()
    assert receiver.requests[0].headers["Authorization"] == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert receiver.requests[0].compressed
    assert receiver.asked_for_template == ["logs-cisco_esa.line-default"]
