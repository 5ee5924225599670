"""config: where secrets come from, that they never show, and the settings of TLS, keys and users."""

from __future__ import annotations

import copy
import json
import logging
import traceback
from pathlib import Path

import msgspec
import pytest
import yaml

from esa_tls import app, cli, reference
from esa_tls.config import ClientTls, Config, FluentEndpoint, FluentSink, FluentSource, ListenTls, Secret, parse, unix_path
from esa_tls.errors import ConfigError
from esa_tls.runtime.intake import Intake
from esa_tls.runtime.streams import own_hostname
from esa_tls.sinks.fluent import FluentSink as ForwardClient
from esa_tls.telemetry import Counters


def refused(text: str, **environment: str) -> str:
    """The sentence of the ConfigError."""
    with pytest.raises(ConfigError) as caught:
        parse(text, file="f", environment=environment)
    return str(caught.value)


def source_of(text: str, **environment: str) -> FluentSource:
    """The one fluent source of a configuration."""
    [source] = parse(text, file="f", environment=environment).sources
    assert isinstance(source, FluentSource)
    return source


# -- where a secret comes from ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["{file: %s}", "'${file:%s}'"])
@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_a_secret_comes_from_a_file(tmp_path: Path, form: str, ending: str) -> None:
    """As a key `file`, or inside a text; one line end at the end, which editors leave, does not count."""
    path = tmp_path / "key"
    path.write_bytes(b" s3cret \xc3\xa4 " + ending.encode())
    source = source_of("sources: [{type: fluent, shared_key: " + form % path + "}]")
    assert source.shared_key is not None
    assert source.shared_key.reveal() == " s3cret ä "


def test_a_text_may_be_put_together(tmp_path: Path) -> None:
    """Files, variables and text in one secret; what they hold is not looked into again."""
    path = tmp_path / "key"
    path.write_text("${A}")
    source = source_of(f"sources: [{{type: fluent, shared_key: 'x-${{file:{path}}}-${{A}}'}}]", A="a")
    assert source.shared_key is not None
    assert source.shared_key.reveal() == "x-${A}-a"


def test_an_empty_key_has_to_be_said() -> None:
    """`''` is a key; users without any key are refused."""
    assert source_of("sources: [{type: fluent, shared_key: '', users: {a: b}}]").shared_key == Secret("")
    assert refused("sources: [{type: fluent, users: {a: b}}]").startswith("f: sources[0].users: users log in beside a shared key")


def test_a_secret_file_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    """Missing, empty, no text: path in the configuration, file and reason; also for one of several users."""
    empty, noise = tmp_path / "empty", tmp_path / "noise"
    empty.write_text("\n")
    noise.write_bytes(b"\xff\xfe")
    for file, reason in ((tmp_path / "no", "cannot be read: No such file or directory"), (empty, "is empty"), (noise, "is no UTF-8 text")):
        for form in ("{file: %s}", "'a${file:%s}'"):
            told = refused("sources: [{type: fluent, shared_key: k, users: {a: b, c: " + form % file + "}}]")
            assert told == f"f: sources[0].users.c: secret file '{file}' {reason}"
    assert "expected text" in refused("web: {metrics_token: {path: x}}")
    assert refused("sources: [{type: fluent, shared_key: k, users: {a: b, c: 3}}]").endswith("users.c: expected text, got a whole number")


def test_files_are_for_secrets_only() -> None:
    """`${file:...}` anywhere else is refused, so that nobody takes it for replaced."""
    assert refused("data_dir: '${file:/x}'").startswith("f: data_dir: ${...} is replaced in secrets only")


# -- secrets never show ----------------------------------------------------------------------------------------------------------
SECRETS = ["k3y-of-all", "w0nder", "s1nk-key", "p4ssword", "up-k3y", "t0ken"]

WHOLE = """
sources:
  - type: fluent
    shared_key: k3y-of-all
    users: {alice: w0nder}
sinks:
  - type: fluent
    shared_key: s1nk-key
    username: bob
    password: p4ssword
    endpoints: ['a:1', {endpoint: 'b:1', shared_key: up-k3y, username: carol, password: p4ssword}]
web: {metrics_token: t0ken}
"""


def test_no_secret_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """Not by repr, str, msgspec, `check-config`, `check-config --show`, the log, or the metrics of the objects made of it."""
    caplog.set_level(logging.DEBUG)
    config = parse(WHOLE, file="f")
    path = tmp_path / "c.yaml"
    path.write_text(WHOLE)
    for arguments in (["check-config", str(path)], ["check-config", "--show", str(path)]):
        cli.cli.main(arguments, standalone_mode=False)
    shown = capsys.readouterr()
    counters = Counters()
    sink = app.make_sink(config.sinks[0], counters)
    source = app.make_source(config.sources[0], object.__new__(Intake), counters, config)
    assert isinstance(sink, ForwardClient)
    texts = [
        *(repr(config), str(config), repr(copy.copy(config)), f"{config.sources}", shown.out, shown.err, caplog.text),
        json.dumps(msgspec.to_builtins(config, enc_hook=str)),
        *(repr(one) for one in (sink, source, sink.upstreams.receivers, vars(sink.upstreams), vars(source))),
        counters.prometheus_text(),
    ]
    for secret in SECRETS:
        assert not [text for text in texts if secret in text]
    told = yaml.safe_load(shown.out.split("\n", 1)[1])
    assert (told["sources"][0]["shared_key"], told["sources"][0]["users"]) == ("***", {"alice": "***"})


@pytest.mark.parametrize(
    "broken",
    [
        WHOLE.replace("username: bob", "usernam: bob"),
        WHOLE.replace("username: bob", "username: 3"),
        WHOLE.replace("username: bob", ""),
        WHOLE.replace("shared_key: k3y-of-all", ""),
        WHOLE.replace("shared_key: k3y-of-all", "shared_key: [k3y-of-all]"),
        WHOLE.replace("{alice: w0nder}", "w0nder"),
        WHOLE.replace("{alice: w0nder}", "{alice: {file: w0nder, x: 1}}"),
        WHOLE.replace("web: {metrics_token: t0ken}", "web: {metrics_token: t0ken"),
        WHOLE.replace("web: {metrics_token: t0ken}", "web: {metrics_token: 't0ken${NOPE}'}"),
        WHOLE.replace("web: {metrics_token: t0ken}", "web: {metrics_token: t0ken, metrics_token: t0ken}"),
        WHOLE + "emit: nonsense\n",
    ],
)
def test_no_secret_is_in_an_error(broken: str) -> None:
    """Whatever is wrong, and wherever: neither the sentence nor its traceback repeats a secret."""
    with pytest.raises(ConfigError) as caught:
        parse(broken, file="f", environment={})
    told = str(caught.value) + "".join(traceback.format_exception_only(caught.value))
    assert not [secret for secret in SECRETS if secret in told]


def test_the_schema_knows_both_forms_of_a_secret() -> None:
    """An editor accepts text and `{file: PATH}`, and nothing else."""
    text = json.dumps(reference.json_schema())
    assert '{"anyOf": [{"type": "string"}, {"type": "object", "properties": {"file": {"type": "string"}}' in text
    assert "secret text, or `{file: PATH}`" in reference.config_reference()


# -- settings --------------------------------------------------------------------------------------------------------------------
def test_endpoints_have_a_short_and_a_long_form() -> None:
    """`HOST:PORT`, or keys; a wrong key in the long form is told with the nearest right one."""
    [sink] = parse("sinks: [{type: fluent, endpoints: ['a:1', {endpoint: 'b:2', weight: 3, standby: true}]}]", file="f").sinks
    assert isinstance(sink, FluentSink)
    assert sink.endpoints == ["a:1", FluentEndpoint(endpoint="b:2", weight=3, standby=True)]
    assert refused("sinks: [{type: fluent, endpoints: [{endpoint: 'b:2', wieght: 3}]}]") == (
        "f: sinks[0].endpoints[0].wieght: unknown key; did you mean 'weight'?"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sources: [{type: fluent, listen: 'unix:relative'}]", "sources[0].listen: expected unix:/PATH, absolute"),
        (f"sources: [{{type: fluent, listen: 'unix:/{'x' * 110}'}}]", "sources[0].listen: expected unix:/PATH, absolute"),
        (
            "sources: [{type: fluent, listen: 'unix:/a'}, {type: fluent, name: b, listen: 'unix:/a'}]",
            "sources[1].listen: unix:/a is taken by sources[0].listen",
        ),
        ("sources: [{type: otlp_http, listen: 'unix:/a'}]", "sources[0].listen: expected HOST:PORT"),
        ("sources: [{type: fluent, socket_mode: '999'}]", "sources[0].socket_mode: expected text matching regex"),
        ("sources: [{type: fluent, tls: {cert_file: a}}]", "sources[0].tls: needs the key 'key_file'"),
        (
            "sources: [{type: fluent, tls: {cert_file: a, key_file: b, min_version: '1.1'}}]",
            "sources[0].tls.min_version: expected one of 1.2, 1.3",
        ),
        ("sinks: [{type: fluent, endpoints: ['a:1'], tls: {cert_file: a}}]", "sinks[0].tls: cert_file and key_file belong together"),
        ("sinks: [{type: fluent, endpoints: ['a:1'], username: a}]", "sinks[0].password: username and password belong together"),
        ("sinks: [{type: fluent, endpoints: ['a:1'], username: a, password: b}]", "sinks[0].username: a user logs in beside a shared key"),
        (
            "sinks: [{type: fluent, endpoints: [{endpoint: 'a:1', username: a, password: b}]}]",
            "sinks[0].endpoints[0].username: a user logs in beside a shared key",
        ),
        ("sinks: [{type: fluent, endpoints: [{endpoint: 'a:0'}]}]", "sinks[0].endpoints[0].endpoint: port 0 is no address to send to"),
        ("sinks: [{type: fluent, endpoints: [{weight: 1}]}]", "sinks[0].endpoints[0]: needs the key 'endpoint'"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(text: str, told: str) -> None:
    """Path and reason, before anything starts."""
    assert refused(text).startswith(f"f: {told}")


def test_unix_paths() -> None:
    """`unix:PATH` and nothing else."""
    assert unix_path("unix:/run/x.sock") == "/run/x.sock"
    assert unix_path("127.0.0.1:1") is None


def test_what_other_machines_reach_without_a_question_is_known() -> None:
    """Loopback, Unix sockets, keys, tokens and client certificates are protected; a server certificate alone is not."""
    mutual = ListenTls(cert_file="c", key_file="k", client_ca_file="a")
    alone = ListenTls(cert_file="c", key_file="k")
    key = Secret("k")
    sources = [
        FluentSource(name="a", listen="0.0.0.0:1"),
        FluentSource(name="b", listen="0.0.0.0:1", tls=alone),
        FluentSource(name="c", listen="0.0.0.0:1", tls=mutual),
        FluentSource(name="d", listen="0.0.0.0:1", shared_key=key),
        FluentSource(name="e", listen="unix:/a"),
        FluentSource(name="f", listen="[::1]:1"),
        FluentSource(name="g", listen="localhost:1"),
        FluentSource(name="h", listen="esa.example:1"),
    ]
    assert app.unprotected(Config(sources=list(sources))) == ["source a on 0.0.0.0:1", "source b on 0.0.0.0:1", "source h on esa.example:1"]
    assert app.unprotected(Config()) == []


def test_our_name_is_never_localhost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fluent Bit calls itself localhost on both ends, and Fluentd refuses a receiver of its own name."""
    for fqdn, name, ours in (("a.example", "a", "a.example"), ("localhost", "a", "a"), ("localhost.localdomain", "localhost", "esa-tls")):
        monkeypatch.setattr("socket.getfqdn", lambda fqdn=fqdn: fqdn)
        monkeypatch.setattr("socket.gethostname", lambda name=name: name)
        assert own_hostname() == ours


def test_what_an_upstream_leaves_out_is_the_sinks() -> None:
    """Key, user and password of the sink hold for every receiver that says nothing else."""
    [sink] = parse(WHOLE, file="f").sinks
    assert isinstance(sink, FluentSink)
    one, two = app.sinks._receivers(sink)
    assert one.credentials is not None
    assert two.credentials is not None
    assert (one.credentials.shared_key, one.credentials.username, one.credentials.password) == (b"s1nk-key", "bob", b"p4ssword")
    assert (two.credentials.shared_key, two.credentials.username) == (b"up-k3y", "carol")
    assert (one.host, one.port, one.weight, one.standby, two.host, two.port) == ("a", 1, 60, False, "b", 1)
    assert ClientTls().verify
