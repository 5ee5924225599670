"""Settings of the loki sink: what they may be, what `app` makes of them; and what Loki has to be told."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import get_args

import pytest
import yaml
from tests.contract.http_receiver import HttpReceiver
from tests.contract.loki_stub import LokiStub, labels_of
from tests.tls_files import TlsFiles
from tests.unit.sinks.test_loki import NOW_S, record, rows

from esa_tls import app
from esa_tls.config import LokiSink, Sink, parse
from esa_tls.config.loki import LabelField
from esa_tls.errors import ConfigError
from esa_tls.sinks.loki import LokiSink as LokiClient
from esa_tls.telemetry import Counters
from esa_tls.templates import Access, Wanted, applied, printed
from esa_tls.wire.loki_entries import LABEL_FIELDS
from esa_tls.wire.loki_metadata import MAX_METADATA_BYTES, MAX_METADATA_ENTRIES

LOKI = "type: loki, endpoints: ['https://a:3100']"


def sink_of(text: str, **environment: str) -> Sink:
    """The one sink of a configuration."""
    [sink] = parse(f"sinks: [{text}]", file="f", environment=environment).sinks
    return sink


def test_a_loki_sink() -> None:
    """The least that has to be said, and what holds then."""
    sink = sink_of(f"{{{LOKI}}}")
    assert isinstance(sink, LokiSink)
    assert (sink.name, sink.tenant, sink.format, sink.labels, sink.label_fields) == ("loki", None, "protobuf", {}, [])
    made = app.make_sink(sink, Counters())
    assert isinstance(made, LokiClient)
    assert (made.name, made.encoding, made.cls_wanted) == ("loki", "json", ("line", "summary"))


def test_secrets_are_never_shown() -> None:
    """Password, token and headers take the environment."""
    for text in ("username: u, password: '${S}'", "token: '${S}'", "headers: {x-key: '${S}'}"):
        assert "t0psecret" not in repr(sink_of(f"{{{LOKI}, {text}}}", S="t0psecret"))


async def test_settings_reach_the_store() -> None:
    """Tenant, credentials, headers, labels, form and the length of lines are what the store sees."""
    stub = LokiStub(now_s=NOW_S)
    async with HttpReceiver(stub.answer) as receiver:
        settings = (
            f"type: loki, endpoints: ['{receiver.url}/x'], tenant: mail, username: ü, password: 'p:q', headers: {{x-y: z}}, "
            "records: [line], labels: {site: berlin}, label_fields: [cisco_esa.direction], format: json, max_line_bytes: 1024"
        )
        made = app.make_sink(sink_of(f"{{{settings}}}"), Counters())
        await made.send(rows(record(1, original="x" * 2000)))
        await made.close()
        token = app.make_sink(sink_of(f"{{type: loki, endpoints: ['{receiver.url}'], token: t}}"), Counters())
        await token.send(rows(record(2)))
        await token.close()
    first, second = receiver.requests
    assert (first.path, first.headers["x-scope-orgid"], first.headers["x-y"]) == ("/x/loki/api/v1/push", "mail", "z")
    assert first.headers["authorization"] == "Basic " + base64.b64encode("ü:p:q".encode()).decode()
    assert (first.headers["content-type"], first.headers["content-encoding"]) == ("application/json", "gzip")
    assert second.headers["authorization"] == "Bearer t"
    assert second.headers["content-type"] == "application/x-protobuf"
    (tenant, labels), [stored] = next(iter(stub.streams.items()))
    assert tenant == "mail"
    assert labels_of(labels) == {"site": "berlin", "service_name": "esa-tls", "appliance": "esa1", "kind": "line"}
    assert stored.line == "x" * 1024
    assert stored.fields["cisco_esa_flags"] == '["truncated"]'


@pytest.mark.parametrize(
    ("sink", "told"),
    [
        ("{type: loki}", "sinks[0]: needs the key 'endpoints'"),
        ("{type: loki, endpoints: []}", "sinks[0].endpoints: expected"),
        ("{type: loki, endpoints: ['a:3100']}", "sinks[0].endpoints[0]: expected http://HOST:PORT"),
        ("{type: loki, endpoints: ['https://a', 'http://b'], tls: {}}", "sinks[0].endpoints[1]: there is `tls`"),
        (f"{{{LOKI}, tenant: 'a|b'}}", "sinks[0].tenant: expected one tenant's name"),
        (f"{{{LOKI}, tenant: 'a b'}}", "sinks[0].tenant: expected one tenant's name"),
        (f"{{{LOKI}, username: u}}", "sinks[0].password: username and password belong together"),
        (f"{{{LOKI}, password: p}}", "sinks[0].username: username and password belong together"),
        (f"{{{LOKI}, username: u, password: p, token: t}}", "sinks[0].token: there are a user and a password"),
        (f"{{{LOKI}, headers: {{x-scope-orgid: x}}}}", "sinks[0].headers.x-scope-orgid: is set by the sink itself"),
        (f"{{{LOKI}, headers: {{Authorization: x}}, token: t}}", "sinks[0].headers.Authorization: is set by the sink itself"),
        (f"{{{LOKI}, labels: {{kind: x}}}}", "sinks[0].labels.kind: is a label already"),
        (
            f"{{{LOKI}, labels: {{cisco_esa_direction: x}}, label_fields: [cisco_esa.direction]}}",
            "sinks[0].labels.cisco_esa_direction: is a label already",
        ),
        (f"{{{LOKI}, labels: {{a-b: x}}}}", "sinks[0].labels.a-b: a label's name"),
        (f"{{{LOKI}, labels: {{__x: x}}}}", "sinks[0].labels.__x: a label's name"),
        (f"{{{LOKI}, labels: {{a: ''}}}}", "sinks[0].labels.a: expected a text"),
        (f"{{{LOKI}, labels: {{a: '{'x' * 2049}'}}}}", "sinks[0].labels.a: expected a text"),
        (f"{{{LOKI}, labels: {{{', '.join(f'a{n}: x' for n in range(11))}}}}}", "sinks[0].labels: expected"),
        (f"{{{LOKI}, label_fields: [cisco_esa.mid]}}", "sinks[0].label_fields[0]: expected one of"),
        (f"{{{LOKI}, label_fields: [event.outcome, event.outcome]}}", "sinks[0].label_fields: a field is named twice"),
        (f"{{{LOKI}, format: xml}}", "sinks[0].format: expected one of"),
        (f"{{{LOKI}, max_line_bytes: 2000000}}", "sinks[0].max_line_bytes: expected"),
        (f"{{{LOKI}, tls: {{cert_file: x}}}}", "sinks[0].tls: cert_file and key_file belong together"),
    ],
)
def test_what_cannot_be(sink: str, told: str) -> None:
    """Refused with the place and one sentence."""
    with pytest.raises(ConfigError) as caught:
        sink_of(sink)
    assert str(caught.value).startswith(f"f: {told}"), str(caught.value)


def test_every_combination_of_labels_is_below_lokis_limit() -> None:
    """Ours, all fields and as many constants as may be: 15 names, `service_name` not counted."""
    constants = ", ".join(f"a{n}: x" for n in range(10))
    sink_of(f"{{{LOKI}, labels: {{{constants}}}, label_fields: [{', '.join(LABEL_FIELDS[:3])}]}}")
    with pytest.raises(ConfigError, match="labels: together with"):
        sink_of(f"{{{LOKI}, labels: {{{constants}}}, label_fields: [{', '.join(LABEL_FIELDS)}]}}")


def test_the_fields_that_may_be_labels_are_those_of_the_wire() -> None:
    """Said in two places that do not know each other."""
    assert get_args(LabelField) == LABEL_FIELDS


def test_missing_certificate_files_are_told_at_start(tmp_path: Path) -> None:
    """A file that is not there is an error of configuration, one that is there is read."""
    app.make_sink(sink_of(f"{{{LOKI}, tls: {{ca_file: '{TlsFiles(tmp_path).ca_file}'}}}}"), Counters())
    with pytest.raises(ConfigError, match="nowhere"):
        app.make_sink(sink_of(f"{{{LOKI}, tls: {{ca_file: '{tmp_path}/nowhere'}}}}"), Counters())


# -- what Loki has to be told ----------------------------------------------------------------------------------------------------
def test_limits_and_schema_for_loki() -> None:
    """One YAML document: limits that no entry of ours goes over, schema v13 on tsdb, and a compactor that deletes."""
    found = yaml.safe_load(printed("loki", Wanted()))
    assert set(found) == {"limits_config", "schema_config", "compactor"}
    limits = found["limits_config"]
    assert limits["max_structured_metadata_size"] == f"{MAX_METADATA_BYTES // 1024}KB"
    assert limits["max_structured_metadata_entries_count"] == MAX_METADATA_ENTRIES
    assert limits["allow_structured_metadata"] is True
    assert LokiSink(endpoints=["http://a"]).max_line_bytes == int(limits["max_line_size"].removesuffix("KB")) * 1024
    assert (limits["retention_period"], limits["reject_old_samples_max_age"]) == ("2160h", "720h")
    [schema] = found["schema_config"]["configs"]
    assert (schema["store"], schema["schema"], schema["index"]["period"]) == ("tsdb", "v13", "24h")
    assert found["compactor"]["retention_enabled"] is True


def test_retention_is_as_wished() -> None:
    """And what is older than it is not taken."""
    limits = yaml.safe_load(printed("loki", Wanted(retention_days=10)))["limits_config"]
    assert (limits["retention_period"], limits["reject_old_samples_max_age"]) == ("240h", "240h")


def test_wishes_that_are_not_for_loki() -> None:
    """Told, and so is that there is nothing to apply to."""
    with pytest.raises(ConfigError, match="--shards is not for loki"):
        printed("loki", Wanted(shards=1))
    with pytest.raises(ConfigError, match="into its configuration file"):
        applied("loki", "http://a:3100", Wanted(), Access())
