from __future__ import annotations

from inspect import cleandoc
from pathlib import Path
from typing import Any, cast, get_args

import msgspec
import pytest

from esa_tls import config, reference
from esa_tls.config import Config, FluentSink, FluentSource, JsonlSink, OtlpGrpcSource, OtlpHttpSource, OtlpSink, Secret, load, parse
from esa_tls.core.records import KINDS
from esa_tls.errors import ConfigError


def refused(text: str | bytes, **environment: str) -> str:
    """The sentence with which a configuration is refused."""
    with pytest.raises(ConfigError) as caught:
        parse(text, file="esa-tls.yaml", environment=environment)
    return str(caught.value)


def test_defaults_without_a_file() -> None:
    """Without a file: Forward and OTLP in on the usual ports, all records as JSON lines on standard output, web on loopback."""
    made = load(None)

    assert [
        FluentSource(listen="127.0.0.1:24224"),
        OtlpGrpcSource(listen="127.0.0.1:4317"),
        OtlpHttpSource(listen="127.0.0.1:4318"),
    ] == made.sources
    assert [JsonlSink(path="-", records=["line", "connection", "delivery", "message", "consolidated"])] == made.sinks
    assert made.web is not None
    assert made.web.listen == "127.0.0.1:8080"
    assert made.emit == "hold"
    assert made.max_hold_s == 5
    assert made.max_held_lines == 10_000
    assert made.cache_entries == 200_000
    assert made.max_entries == 5_000_000
    assert made.max_receive_bytes == 256 * 1024 * 1024


@pytest.mark.parametrize("text", ["", "{}", "# nothing\n", "---\n"])
def test_an_empty_file_is_the_defaults(text: str) -> None:
    """A file that says nothing changes nothing."""
    assert Config() == parse(text, file="f")


def test_defaults_pass_their_own_checks() -> None:
    """What the defaults are, written out as a file, is accepted and gives the defaults."""
    assert Config() == parse(msgspec.yaml.encode(msgspec.to_builtins(Config(), enc_hook=str)), file="f")


def test_the_shape_of_a_configuration(tmp_path: Path) -> None:
    """A configuration that writes the defaults out, with sinks of the two simplest types, loads."""
    path = tmp_path / "esa-tls.yaml"
    path.write_text(
        """
data_dir: ./esa-tls-data
appliance: {name: null, from: [record:appliance, syslog:host, otlp:host.name, fluent_tag, peer], timezone: UTC}
emit: hold
sources:
  - {type: fluent, listen: 127.0.0.1:24224}
sinks:
  - {type: jsonl, path: records.jsonl, records: [line, connection, delivery, message]}
  - {type: fluent, endpoints: [127.0.0.1:24225], tag_prefix: esa}
web: {listen: 127.0.0.1:8080}
""",
        encoding="utf-8",
    )
    made = load(path)

    assert ["jsonl", "fluent"] == [sink.name for sink in made.sinks]
    assert isinstance(made.sinks[1], FluentSink)
    assert made.sinks[1].endpoints == ["127.0.0.1:24225"]
    assert made.appliance.from_[0] == "record:appliance"


def test_an_otlp_sink() -> None:
    """Servers by protocol; headers are secrets that take the environment and are never shown."""
    text = "sinks: [{type: otlp, endpoints: ['logs:4317'], headers: {authorization: 'Bearer ${TOKEN}'}}]"
    [sink] = parse(text, file="f", environment={"TOKEN": "xyz"}).sinks

    assert isinstance(sink, OtlpSink)
    assert (sink.protocol, sink.max_request_bytes, sink.headers["authorization"].reveal()) == ("grpc", 4 << 20, "Bearer xyz")
    assert "xyz" not in repr(sink)


@pytest.mark.parametrize(
    ("sink", "told"),
    [
        ("{type: otlp, endpoints: []}", "sinks[0].endpoints"),
        ("{type: otlp, endpoints: ['http://a:1']}", "sinks[0].endpoints[0]: expected HOST:PORT"),
        ("{type: otlp, endpoints: ['a:1', 'b:0']}", "sinks[0].endpoints[1]: port 0"),
        ("{type: otlp, protocol: http, endpoints: ['a:1']}", "sinks[0].endpoints[0]: expected http://HOST:PORT"),
        ("{type: otlp, protocol: http, endpoints: ['http://u:p@a:1']}", "sinks[0].endpoints[0]: expected http://HOST:PORT"),
        ("{type: otlp, protocol: http, tls: {}, endpoints: ['http://a:1']}", "sinks[0].endpoints[0]: there is `tls`"),
        ("{type: otlp, endpoints: ['a:1'], max_request_bytes: 5}", "sinks[0].max_request_bytes"),
    ],
)
def test_what_an_otlp_sink_cannot_have(sink: str, told: str) -> None:
    """Addresses of the other protocol, sizes no server takes: refused with the place."""
    assert told in refused(f"sinks: [{sink}]")


def test_an_otlp_request_has_to_fit_the_receive_budget() -> None:
    """A limit that no request could be read under is refused."""
    assert "sources[0].max_request_bytes: larger than" in refused("max_receive_bytes: 2000000\nsources: [{type: otlp_http}]")


def test_web_can_be_switched_off() -> None:
    """`web: null` means no HTTP server."""
    assert parse("web: null", file="f").web is None


@pytest.mark.parametrize("key", ["nodes", "servers", "brokers", "url", "urls", "hosts", "host", "upstreams", "endpoint", "address"])
@pytest.mark.parametrize("kind", [kind for kind in config.variants("sinks") if kind.tag != "jsonl"], ids=lambda kind: str(kind.tag))
def test_where_a_sink_sends_has_one_name(kind: msgspec.inspect.StructType, key: str) -> None:
    """`endpoints`, a list, but for Kafka's `bootstrap_servers`; whoever writes what other programs call it is told so."""
    name = "bootstrap_servers" if kind.tag == "kafka" else "endpoints"
    assert [field.encode_name for field in kind.fields if field.required and field.name != "token"] == [name]
    token = "token: t, " if kind.tag == "splunk_hec" else ""
    assert refused(f"sinks: [{{type: {kind.tag}, {token}{key}: [x]}}]").partition("; ")[2].startswith(f"did you mean '{name}'")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("emitt: hold", "emitt: unknown key; did you mean 'emit'?"),
        ("sources: [{type: fluent, listn: x}]", "sources[0].listn: unknown key; did you mean 'listen'?"),
        ("sinks: [{type: jsonl, endpoints: [x]}]", "sinks[0].endpoints: unknown key; known are type, name, records, from, "),
        ("sinks: [{type: fluent, endponts: [x]}]", "sinks[0].endponts: unknown key; did you mean 'endpoints'?"),
        ("sinks: [{type: splunk_hec, url: x}]", "sinks[0].url: unknown key; known are type, name, records, "),
        ("sinks: [{type: splunk_hec, token: t, url: x}]", "sinks[0].url: unknown key; did you mean 'endpoints', which is missing?"),
        ("journal: {max_byte: 1}", "journal.max_byte: unknown key; did you mean 'max_bytes'?"),
        ("appliance: {form: [peer]}", "appliance.form: unknown key; did you mean 'from'?"),
        ("a: 1", "a: unknown key; known are data_dir, appliance, emit, "),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_right_one(text: str, told: str) -> None:
    """An unknown key is told with its place and with the key that was meant, or with all there are."""
    assert refused(text).startswith(f"esa-tls.yaml: {told}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sources: [{type: fluent, listen: 24224}]", "sources[0].listen: expected text, got a whole number"),
        ("max_hold_s: soon", "max_hold_s: expected a number, got text"),
        ("max_hold_s: -1", "max_hold_s: expected a number >= 0.0"),
        ("sinks: [{type: jsonl, keep_files: 0}]", "sinks[0].keep_files: expected a whole number >= 1"),
        ("sources: {type: fluent}", "sources: expected a list, got keys and values"),
        ("sources: []", "sources: expected a list of length >= 1"),
        ("sources: [x]", "sources[0]: expected keys and values, got text"),
        ("sources: [{listen: '127.0.0.1:1'}]", "sources[0]: needs a `type`: one of fluent"),
        ("sources: [{type: flunt}]", "sources[0].type: unknown type 'flunt'; known are fluent"),
        ("sinks: [{type: kafke}]", "sinks[0].type: unknown type 'kafke'; known are jsonl, fluent"),
        ("sinks: [{type: fluent}]", "sinks[0]: needs the key 'endpoints'"),
        (
            "sinks: [{type: jsonl, records: [line, lines]}]",
            "sinks[0].records[1]: expected one of connection, consolidated, delivery, line, ",
        ),
        ("emit: now", "emit: expected one of hold, immediate, got 'now'"),
        ("emit: no", "emit: expected text, got true or false"),
        ("appliance: {timezones: {a: UTC, b: 3}}", "appliance.timezones.b: expected text, got a whole number"),
        ("web: {metrics_token: 3}", "web.metrics_token: expected text, got a whole number"),
        ("- type: fluent", "expected keys and values, got a list"),
        ("hello", "expected keys and values, got text"),
    ],
)
def test_a_wrong_value_is_told_with_file_place_and_reason(text: str, told: str) -> None:
    """A value of the wrong type or out of its range is refused with one sentence."""
    assert refused(text).startswith(f"esa-tls.yaml: {told}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("emit: hold\nemit: immediate", "line 2: key 'emit' stands twice in one place"),
        ("sources:\n  - type: fluent\n    listen: a:1\n    listen: b:2", "line 4: key 'listen' stands twice in one place"),
        ("web: {listen: 'a:1', listen: 'a:1'}", "line 1: key 'listen' stands twice in one place"),
        ("1: x", "line 1: key 1 is no text; put it in quotes"),
        ("? [a]\n: x", "line 1: key ['a'] is no text; put it in quotes"),
        ("emit: [", "line 1: no valid YAML: "),
        ("emit: hold\n\tx: 1", "line 2: no valid YAML: "),
        ("emit: !!python/object/apply:os.system [true]", "line 1: no valid YAML: "),
        ("a: &a [*a]", "line 1: no valid YAML: "),
        ("[" * 20_000, "nested too deep"),
        (b"emit: \xff", "no valid YAML: "),
        ("emit: \x00", "no valid YAML: "),
    ],
)
def test_yaml_that_cannot_be_meant_is_refused(text: str | bytes, told: str) -> None:
    """Double keys, keys that are no text, and anything that is no plain YAML: one sentence with the line."""
    sentence = refused(text)

    assert sentence.startswith(f"esa-tls.yaml: {told}")
    assert "\n" not in sentence


def test_equal_keys_in_different_places_are_fine() -> None:
    """A key stands twice only if it stands twice in the same mapping."""
    made = parse("sources: [{type: fluent, name: a, listen: 'h:1'}, {type: fluent, name: b, listen: 'h:2'}]", file="f")

    assert ["h:1", "h:2"] == [source.listen for source in made.sources]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "sources: [{type: fluent}, {type: fluent, listen: 'h:1'}]",
            "sources[1].name: 'fluent' is taken by sources[0]; give each its own `name`",
        ),
        ("sinks: [{type: jsonl, path: a}, {type: jsonl, path: b}]", "sinks[1].name: 'jsonl' is taken by sinks[0]"),
        ("sinks: [{type: jsonl, path: a}, {type: jsonl, path: ./a, name: b}]", "sinks[1].path: './a' is written by sinks[0]"),
        ("sinks: [{type: jsonl}, {type: jsonl, name: b}]", "sinks[1].path: '-' is written by sinks[0]"),
        ("web: {listen: '127.0.0.1:24224'}", "web.listen: 127.0.0.1:24224 is taken by sources[0].listen"),
        ("web: {listen: '8080'}", "web.listen: expected HOST:PORT, got '8080'"),
        ("web: {listen: '::1:8080'}", "web.listen: expected HOST:PORT, got '::1:8080'"),
        ("web: {listen: 'a:65536'}", "web.listen: expected HOST:PORT, got 'a:65536'"),
        ("sinks: [{type: fluent, endpoints: ['a:1', 'b']}]", "sinks[0].endpoints[1]: expected HOST:PORT, got 'b'"),
        ("sinks: [{type: fluent, endpoints: ['a:0']}]", "sinks[0].endpoints[0]: port 0 is no address to send to"),
        ("sinks: [{type: jsonl, retry_initial_s: 9, retry_max_s: 3}]", "sinks[0].retry_initial_s: larger than retry_max_s (3)"),
        ("max_receive_bytes: 1048576", "sources[0].max_frame_bytes: larger than max_receive_bytes (1048576)"),
        ("max_entries: 1000", "cache_entries: larger than max_entries (1000)"),
        ("appliance: {timezone: Mars/Olympus}", "appliance.timezone: 'Mars/Olympus' is no time zone that is known here"),
        ("appliance: {timezone: America}", "appliance.timezone: 'America' is no time zone that is known here"),
        ("appliance: {timezone: ../etc/passwd}", "appliance.timezone: '../etc/passwd' is no time zone that is known here"),
        ("appliance: {timezones: {esa2: Nowhere}}", "appliance.timezones.esa2: 'Nowhere' is no time zone that is known here"),
        ("appliance: {from: [hostname]}", "appliance.from[0]: expected record:KEY or one of syslog:host, "),
        ("appliance: {from: ['record:']}", "appliance.from[0]: expected record:KEY or one of syslog:host, "),
        ("appliance: {from: ['record:a', peer, 'record:b']}", "appliance.from[2]: only one record:KEY is looked at"),
        ("appliance: {from: []}", "appliance.from: is empty, and there is no appliance.name"),
        ("appliance: {name: ''}", "appliance.name: is empty"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(text: str, told: str) -> None:
    """What each setting alone cannot show is found before anything starts."""
    assert refused(text).startswith(f"esa-tls.yaml: {told}")


def test_free_ports_do_not_collide() -> None:
    """Port 0 takes a free one, so it may stand twice."""
    made = parse("sources: [{type: fluent, listen: '127.0.0.1:0'}]\nweb: {listen: '127.0.0.1:0'}", file="f")

    assert made.web is not None


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:24224", ("127.0.0.1", 24224)), ("esa.example.org:0", ("esa.example.org", 0)), ("[2001:db8::1]:80", ("2001:db8::1", 80))],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    """Names, IPv4 and bracketed IPv6 hosts are understood."""
    assert address == config.listen_address(text)


@pytest.mark.parametrize("text", ["", ":1", "a:", "a", "a:b", "a:1:2", "[a", "[::1]", "a b:1", "a:123456", "a:1\n"])
def test_what_is_no_address(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        config.listen_address(text)


# -- secrets ---------------------------------------------------------------------------------------------------------------------
def test_a_secret_comes_from_the_environment_and_never_shows() -> None:
    """`${NAME}` is replaced in a secret; the configuration prints with `***` in its place."""
    made = parse("web: {metrics_token: 'a-${TOKEN}'}", file="f", environment={"TOKEN": "hunter2"})

    assert made.web is not None
    assert made.web.metrics_token is not None
    assert made.web.metrics_token.reveal() == "a-hunter2"
    assert "hunter2" not in repr(made)
    assert "***" in repr(made)
    assert "***" == str(made.web.metrics_token) == f"{made.web.metrics_token}"


def test_secrets_compare_by_what_they_hold() -> None:
    """Equal texts are equal secrets, and a secret equals no plain text."""
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"


def test_a_missing_variable_is_told_with_its_place() -> None:
    """A secret whose variable is not set is refused; the sentence names both and no value."""
    assert refused("web: {metrics_token: 'x${NOPE}'}") == "esa-tls.yaml: web.metrics_token: environment variable 'NOPE' is not set"


def test_what_the_environment_says_is_not_read_again() -> None:
    """A value from the environment that looks like a variable stays what it is."""
    made = parse("web: {metrics_token: '${A}'}", file="f", environment={"A": "${B}", "B": "x"})

    assert made.web is not None
    assert made.web.metrics_token == Secret("${B}")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("data_dir: '${HOME}/x'", "data_dir"),
        ("sinks: [{type: jsonl, path: '${HOME}/x'}]", "sinks[0].path"),
        ("appliance: {timezones: {'a': '${TZ}'}}", "appliance.timezones.a"),
    ],
)
def test_variables_are_for_secrets_only(text: str, where: str) -> None:
    """`${NAME}` anywhere else is refused, so that nobody takes it for replaced."""
    assert refused(text, HOME="/h", TZ="UTC").startswith(f"esa-tls.yaml: {where}: ")


# -- files -----------------------------------------------------------------------------------------------------------------------
def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file and a folder are told by name."""
    with pytest.raises(ConfigError, match=r"nope.yaml: cannot be read: No such file"):
        load(tmp_path / "nope.yaml")
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory"):
        load(tmp_path)


def test_an_error_names_the_file(tmp_path: Path) -> None:
    """The sentence begins with the file as it was given."""
    path = tmp_path / "c.yaml"
    path.write_text("emit: 3", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(path)

    assert str(caught.value) == f"{path}: emit: expected text, got a whole number"


# -- what is made from the Structs -----------------------------------------------------------------------------------------------
STRUCTS = [struct for _, struct in reference.sections()]


def test_every_struct_has_its_section() -> None:
    """No Struct of the configuration is missing in the manual."""
    there = {one for one in vars(config).values() if isinstance(one, type) and issubclass(one, msgspec.Struct)} - {msgspec.Struct}
    assert set(STRUCTS) == there


def test_every_setting_is_in_the_manual() -> None:
    """Each field of each Struct has a row with a meaning; the manual has a section for each Struct."""
    manual = reference.config_reference()
    sections = {section.splitlines()[0]: section for section in manual.split("## ")[1:]}
    for struct, section in zip(STRUCTS, sections.values(), strict=True):
        assert cleandoc(struct.__doc__ or "?") in section
        for field in msgspec.structs.fields(struct):
            [row] = [row for row in section.splitlines() if row.startswith(f"| `{field.encode_name}` |")]
            key, type_text, default, meaning = (cell.strip() for cell in row.strip("|").split(" | "))
            assert key
            assert type_text
            assert default
            assert meaning.endswith(".")


def test_the_schema_knows_every_setting() -> None:
    """The JSON schema has every key, refuses others, and describes each."""
    definitions = cast("dict[str, dict[str, Any]]", reference.json_schema()["$defs"])
    for struct in STRUCTS:
        schema = definitions[struct.__name__]
        names = {field.encode_name for field in msgspec.structs.fields(struct)}
        assert names <= set(schema["properties"])
        assert schema["additionalProperties"] is False
        described = [name for name in names if "description" in schema["properties"][name]]
        assert sorted(names) == sorted(described)


@pytest.mark.parametrize(
    ("web", "told"),
    [
        ("{listen: '0.0.0.0:8080', page: true}", "web.page: 0.0.0.0:8080 is reached from other machines"),
        ("{listen: 'localhost:8080', token: short}", "web.token: shorter than 12 characters"),
        ("{names: ['esa-tls.example.com:8080']}", "web.names[0]: expected a host name without port"),
        ("{names: ['a b']}", "web.names[0]: expected a host name"),
    ],
)
def test_a_page_that_anybody_could_look_at_is_refused(web: str, told: str) -> None:
    """A page for other machines asks for a token or a certificate, tokens cannot be guessed, and names are names."""
    assert told in refused(f"web: {web}")


@pytest.mark.parametrize("listen", ["127.0.0.1:80", "localhost:80", "[::1]:80", "127.9.9.9:80"])
def test_a_page_on_loopback_needs_no_guard(listen: str) -> None:
    """Only this machine reaches it; elsewhere a token or client certificates guard it."""
    assert config.is_guarded(config.Web(listen=listen))
    assert not config.is_guarded(config.Web(listen="192.0.2.1:80"))
    assert config.is_guarded(config.Web(listen="192.0.2.1:80", token=config.Secret("a-token-of-tests")))
    tls = config.ListenTls(cert_file="c", key_file="k")
    assert not config.is_guarded(config.Web(listen="192.0.2.1:80", tls=tls))
    assert config.is_guarded(config.Web(listen="192.0.2.1:80", tls=config.ListenTls(cert_file="c", key_file="k", client_ca_file="ca")))


def test_kinds_of_records_are_those_there_are() -> None:
    """`records` of a sink may name every kind there is, and is all of them by default."""
    assert get_args(config.RecordKind) == KINDS
    assert FluentSink(endpoints=["a:1"]).records == list(KINDS)
