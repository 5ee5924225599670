"""A Kafka broker in a test: one KRaft node on free ports, ended or killed, started again on the same folder; and what is in its topics.

Tests that only want topics use the fixture `kafka` (one node for a whole run, so they take names of their own); those that kill it or need
settings of their own use `kafka_node`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType
from tests.peers import building
from tests.peers.building import Built
from tests.peers.programs import Program, Server, free_port, java_program

START_TIMEOUT_S = 90.0
"""4 s on a machine that has nothing else to do."""
READ_TIMEOUT_S = 90.0

HEAP = "512m"
CLUSTER = "AAAAAAAAAAAAAAAAAAAAAQ"

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "log.cleaner.dedupe.buffer.size": "8388608",
    "log.cleaner.threads": "1",
    # the lines of tests are of a year ago, and records have their time
    "log.retention.ms": "-1",
    # after a kill the controller waits for as long until it believes that the one before is gone
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
}


class Kept(msgspec.Struct, frozen=True):
    """A record in a topic. `headers` as text."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes
    headers: dict[str, str]

    @property
    def record_id(self) -> str:
        """The header `record_id`."""
        return self.headers["record_id"]


class Kafka(Server):
    """One node. `servers` is where it takes clients, also after it was started again; `running` its process."""

    def __init__(self, built: Built, folder: Path, *, listeners: Sequence[tuple[str, int, int]] = (), **settings: str) -> None:
        """`folder`: where it keeps its data. `listeners`: more of them, (NAME, port, port that clients are told to come to).

        `settings`: added to `SETTINGS`, with `__` for `.`.
        """
        self._built = built
        self._folder = folder
        self._port = free_port()
        self.servers = f"127.0.0.1:{self._port}"
        self._controller = free_port()
        self._beside: list[Kafka] = []
        told = [*(f"{name}://127.0.0.1:{port}" for name, _, port in listeners), f"PLAINTEXT://{self.servers}"]
        own = [*(f"{name}://127.0.0.1:{port}" for name, port, _ in listeners), f"PLAINTEXT://{self.servers}"]
        protocols = [f"{name}:{name if 'SSL' in name else 'PLAINTEXT'}" for name, _, _ in listeners]
        self._settings = {
            **SETTINGS,
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller}",
            "listeners": ",".join([*own, f"CONTROLLER://127.0.0.1:{self._controller}"]),
            "advertised.listeners": ",".join(told),
            "listener.security.protocol.map": ",".join([*protocols, "PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT"]),
            "log.dirs": str(folder / "data"),
            **{name.replace("__", "."): value for name, value in settings.items()},
        }
        super().__init__()

    def beside(self) -> Kafka:
        """Another broker of the same cluster, not started yet; this one stays the controller. It is gone when this one is."""
        number = len(self._beside) + 2
        other = Kafka(self._built, self._folder / f"broker-{number}")
        other._settings |= {
            "process.roles": "broker",
            "node.id": str(number),
            "controller.quorum.voters": self._settings["controller.quorum.voters"],
            "listeners": f"PLAINTEXT://{other.servers}",
        }
        self._beside.append(other)
        return other

    def program(self, name: str, *arguments: str | Path) -> Program:
        """One of the programs in its jars, or ours beside them."""
        java = building.java()
        assert java is not None
        return java_program(self._built.folder, HEAP, name, *arguments, java=java)

    def start(self) -> Kafka:
        """Return when it takes clients, with what the folder held."""
        file = self._folder / "server.properties"
        if not file.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            # backslashes and line ends mean something in such a file; no setting of ours has them but for PEM texts, which escape them
            file.write_text("".join(f"{name}={value}\n" for name, value in self._settings.items()))
            formatting = self.program("kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", file)
            assert formatting.until_ended(within_s=START_TIMEOUT_S) == 0, formatting.text
        self.running = self.program("kafka.Kafka", file)
        give_up_s = time.monotonic() + START_TIMEOUT_S
        while True:
            assert self.running.process.poll() is None, f"it ended, and said: {self.running.text}"
            assert time.monotonic() < give_up_s, f"not ready: {self.running.text}"
            try:
                if self.admin().list_topics(timeout=1).brokers:
                    return self
            except KafkaException:
                continue

    def make_sure_it_is_gone(self) -> None:
        """For the end of a test, whatever happened."""
        for other in self._beside:
            other.make_sure_it_is_gone()
        super().make_sure_it_is_gone()

    # -- topics ------------------------------------------------------------------------------------------------------------------
    def admin(self) -> Any:
        """A client that asks it to do things."""
        return AdminClient({"bootstrap.servers": self.servers, "reconnect.backoff.max.ms": 200, "log_level": 0})

    def topic(self, name: str, *, partitions: int = 1, copies: int = 1, **settings: str) -> str:
        """Make a topic; settings with `__` for `.`."""
        config = {key.replace("__", "."): value for key, value in settings.items()}
        admin = self.admin()  # it must outlive its answer
        admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=copies, config=config)])[name].result(30)
        return name

    def alter(self, topic: str, setting: str, value: str) -> None:
        """Change a topic's setting."""
        entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        admin = self.admin()
        admin.incremental_alter_configs([resource])[resource].result(30)

    def leaders(self, topic: str) -> set[int]:
        """Numbers of the brokers that lead its partitions."""
        return {one.leader for one in self.admin().list_topics(topic, timeout=30).topics[topic].partitions.values()}

    def settings_of(self, topic: str) -> dict[str, str]:
        """What holds for a topic."""
        admin, resource = self.admin(), ConfigResource(ResourceType.TOPIC, topic)
        return {name: entry.value for name, entry in admin.describe_configs([resource])[resource].result(30).items()}

    def ends(self, topic: str) -> dict[int, int]:
        """By partition, the offset behind its last record."""
        consumer = self._consumer()
        try:
            partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
            return {n: consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=30)[1] for n in partitions}
        finally:
            consumer.close()

    def count(self, topic: str) -> int:
        """How many records are in it (none was deleted)."""
        return sum(self.ends(topic).values())

    def records(self, topic: str) -> list[Kept]:
        """Everything that is in it now, partition by partition, in order."""
        return sorted(self.each(topic), key=lambda one: (one.partition, one.offset))

    def each(self, topic: str) -> Iterator[Kept]:
        """Everything that is in it now, one by one; in order inside a partition."""
        ends = self.ends(topic)
        left = {n: end for n, end in ends.items() if end}
        consumer = self._consumer()
        try:
            consumer.assign([TopicPartition(topic, n, 0) for n in left])
            give_up_s = time.monotonic() + READ_TIMEOUT_S
            while left:
                assert time.monotonic() < give_up_s, f"{topic}: not read: {left}"
                for one in consumer.consume(5_000, timeout=0.5):
                    give_up_s = time.monotonic() + READ_TIMEOUT_S
                    assert one.error() is None, one.error()
                    headers = {name: value.decode() for name, value in one.headers() or ()}
                    yield Kept(one.partition(), one.offset(), one.timestamp()[1], one.key(), one.value(), headers)
                    if one.offset() + 1 >= ends[one.partition()]:
                        left.pop(one.partition(), None)
        finally:
            consumer.close()

    def _consumer(self) -> Any:
        return Consumer(
            {
                "bootstrap.servers": self.servers,
                "group.id": "test",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "reconnect.backoff.max.ms": 200,
                "log_level": 0,
            }
        )
