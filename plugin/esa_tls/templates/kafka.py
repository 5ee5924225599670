"""Topics for the kafka sink: what they have to be, as JSON and as `kafka-topics` commands.

Nothing here is compacted: a compacted topic keeps the last record of each key, and the key is the appliance. Retention goes by the time of
the records, which is that of the events: see docs/kafka.md on old logs.
"""

from __future__ import annotations

import shlex
from typing import Any

import msgspec

from esa_tls.errors import ConfigError
from esa_tls.templates.wanted import Wanted
from esa_tls.wire.kafka import topics_of

DEFAULT_TOPIC = "esa-tls"
DEFAULT_PARTITIONS = 6
DEFAULT_REPLICATION_FACTOR = 3
DEFAULT_RETENTION_DAYS = 7

MAX_MESSAGE_BYTES = 1_048_588
"""Kafka's own default, above the sink's `max_message_bytes`; told all the same, since a cluster may have another one."""

DAY_MS = 86_400_000


def text(wanted: Wanted) -> str:
    """`topics` and `commands`, as one JSON object. Raises ConfigError."""
    topics = topics_wanted(wanted)
    made = {"topics": topics, "commands": [command(topic) for topic in topics]}
    return msgspec.json.format(msgspec.json.encode(made), indent=2).decode() + "\n"


def topics_wanted(wanted: Wanted) -> list[dict[str, Any]]:
    """Each topic once: `name`, `partitions`, `replication_factor`, `configs`. Raises ConfigError."""
    wanted.only("kafka", "topic", "partitions", "replication_factor", "retention_days")
    try:
        names = list(dict.fromkeys(topics_of(wanted.topic or DEFAULT_TOPIC).values()))
    except ValueError as error:
        raise ConfigError(f"templates: --topic: {error}") from error
    copies = wanted.replication_factor or DEFAULT_REPLICATION_FACTOR
    configs = {
        "cleanup.policy": "delete",
        "retention.ms": str((wanted.retention_days or DEFAULT_RETENTION_DAYS) * DAY_MS),
        # one copy may be away and records are still taken; without a second one a record counts as taken that one disk has
        "min.insync.replicas": str(max(1, copies - 1)),
        "unclean.leader.election.enable": "false",
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
        "compression.type": "producer",
        "message.timestamp.type": "CreateTime",
    }
    return [
        {"name": name, "partitions": wanted.partitions or DEFAULT_PARTITIONS, "replication_factor": copies, "configs": configs}
        for name in names
    ]


def command(topic: dict[str, Any]) -> str:
    """The command that makes a topic, to be run where Kafka's programs are; `$SERVERS` is the reader's."""
    configs = [f"--config {shlex.quote(f'{name}={value}')}" for name, value in topic["configs"].items()]
    words = [
        'kafka-topics.sh --bootstrap-server "$SERVERS" --create --if-not-exists',
        f"--topic {shlex.quote(topic['name'])}",
        f"--partitions {topic['partitions']}",
        f"--replication-factor {topic['replication_factor']}",
        *configs,
    ]
    return " ".join(words)
