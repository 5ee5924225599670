"""`esa-tls templates kafka`. Its commands run against a real broker in tests/peers/test_kafka.py."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from click.testing import CliRunner

from esa_tls import cli
from esa_tls.config import KafkaSink
from esa_tls.core.records import KINDS
from esa_tls.errors import ConfigError
from esa_tls.templates import Access, Wanted, applied, printed


def made(**wanted: Any) -> dict[str, Any]:
    """What is printed."""
    found: dict[str, Any] = json.loads(printed("kafka", Wanted(**wanted)))
    return found


def test_the_defaults_fit_the_sinks() -> None:
    """The topic of the sink's settings; kept by time and never compacted; nothing taken that a single copy has; large enough a batch."""
    sink = KafkaSink(bootstrap_servers=["a:1"])
    [topic] = made()["topics"]
    assert (topic["name"], topic["partitions"], topic["replication_factor"]) == (sink.topic, 6, 3)
    assert topic["configs"]["cleanup.policy"] == "delete"
    assert topic["configs"]["min.insync.replicas"] == "2"
    assert topic["configs"]["retention.ms"] == str(7 * 24 * 3600 * 1000)
    assert int(topic["configs"]["max.message.bytes"]) > sink.max_message_bytes


def test_a_topic_for_each_kind() -> None:
    """`{kind}` makes as many topics as there are kinds, a name without it one."""
    assert [f"esa.{kind}" for kind in KINDS] == [topic["name"] for topic in made(topic="esa.{kind}")["topics"]]
    assert ["esa"] == [topic["name"] for topic in made(topic="esa")["topics"]]


@pytest.mark.parametrize(("copies", "insync"), [(1, "1"), (2, "1"), (3, "2"), (5, "4")])
def test_one_copy_may_be_away(copies: int, insync: str) -> None:
    """A broker can be restarted without the sink having to wait, where there are copies enough."""
    [topic] = made(replication_factor=copies)["topics"]
    assert topic["configs"]["min.insync.replicas"] == insync


def test_the_commands_say_the_same() -> None:
    """Each option of a command is what the JSON says, and a shell reads it so."""
    printed_ = made(topic="esa.{kind}", partitions=12, retention_days=1, replication_factor=2)
    assert len(printed_["commands"]) == len(printed_["topics"]) == len(KINDS)
    for command, topic in zip(printed_["commands"], printed_["topics"], strict=True):
        words = shlex.split(command)
        assert words[:4] == ["kafka-topics.sh", "--bootstrap-server", "$SERVERS", "--create"]
        options = dict(zip(words[5::2], words[6::2], strict=True))
        assert (options["--topic"], options["--partitions"], options["--replication-factor"]) == (topic["name"], "12", "2")
        configs = [value for name, value in zip(words[5::2], words[6::2], strict=True) if name == "--config"]
        assert dict(config.split("=", 1) for config in configs) == topic["configs"]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ({"topic": "a b"}, "--topic: 'a b' is no topic"),
        ({"shards": 3}, "--shards is not for kafka"),
        ({"lifecycle": "ilm"}, "--lifecycle is not for kafka"),
    ],
)
def test_what_cannot_be_wished(wanted: dict[str, Any], told: str) -> None:
    """One sentence with the option."""
    with pytest.raises(ConfigError, match=told):
        made(**wanted)
    with pytest.raises(ConfigError, match="--topic is not for opensearch"):
        printed("opensearch", Wanted(topic="x"))


def test_it_is_not_applied() -> None:
    """Whoever wants that is told what to do."""
    with pytest.raises(ConfigError, match="run the commands that are printed"):
        applied("kafka", "http://a:1", Wanted(), Access())


def test_the_command_line_reaches_it() -> None:
    """Every wish is an option."""
    result = CliRunner().invoke(cli.cli, ["templates", "kafka", "--topic", "t", "--partitions", "3", "--replication-factor", "1"])
    assert result.exit_code == 0
    [topic] = json.loads(result.output)["topics"]
    assert (topic["name"], topic["partitions"], topic["replication_factor"]) == ("t", 3, 1)
