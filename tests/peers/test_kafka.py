"""A real Kafka broker behind the kafka sink: K1 to K4 of docs/wires.md 5.2, TLS and SASL, and what happened against what is there."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 5.2)

from __future__ import annotations

import asyncio
import base64
import json
import random
import shlex
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka.admin import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from cryptography.hazmat.primitives import serialization
from tests.e2e.reference import written
from tests.e2e.sender import Sender, Target
from tests.e2e.sidecar import Sidecar, Sidecars, esa_tls, wait_for, write_config
from tests.e2e.test_run import deliver, simulated
from tests.examples import NIGHTLY
from tests.peers.between import Between
from tests.peers.programs import free_port
from tests.peers.streaming import Kafka, Kept
from tests.property.truth import Reading, Simulated, differences
from tests.tls_files import TlsFiles

from esa_tls import app, config
from esa_tls.core.batch import Row
from esa_tls.core.records import KINDS
from esa_tls.errors import TransientError
from esa_tls.offline.simulate import SimulationSettings
from esa_tls.runtime.dispatch import RecordsRejected, Sink
from esa_tls.telemetry import Counters
from esa_tls.templates import Wanted, printed

pytestmark = pytest.mark.timeout(3600 if NIGHTLY else 240, func_only=True)  # a first run builds the broker before

WITHIN_S = 1800.0 if NIGHTLY else 90.0

SOON = {"reconnect.backoff.max.ms": "500", "topic.metadata.propagation.max.ms": "2000"}
"""Options for a client that should notice at once what becomes of the broker."""


def settings(kafka: Kafka, topic: str, **more: Any) -> dict[str, Any]:
    """A sink's settings."""
    made = {"type": "kafka", "bootstrap_servers": [kafka.servers], "topic": topic, "from": "oldest", "options": SOON, "retry_max_s": 1.0}
    return {**made, "retry_initial_s": 0.1, **more}


def sink_of(made: dict[str, Any]) -> Sink:
    """The sink that `run` makes of them."""
    [sink] = config.parse(json.dumps({"sinks": [made]}), file="f").sinks
    return app.make_sink(sink, Counters())


def row_of(records: Sequence[tuple[str, int]], *, pad: int = 0, kind: str = "line") -> Row:
    """A row with a record for each (appliance, number)."""
    bodies = []
    for appliance, number in records:
        text = base64.b64encode(random.Random(number).randbytes(pad)).decode()  # compression must not make it small
        event = {"id": f"{appliance}-{number}", "sequence": number, "original": text}
        bodies.append(json.dumps({"@timestamp": "2025-11-24T10:00:01Z", "event": event, "host": {"name": appliance}}).encode() + b"\n")
    return Row("line", "json", [(kind, len(bodies), b"".join(bodies))])


def murmur2(data: bytes) -> int:
    """Kafka's hash of a key, as its documentation gives it: 32 bits, seed 0x9747b28c."""
    m, length = 0x5BD1E995, len(data)
    h = (0x9747B28C ^ length) & 0xFFFFFFFF
    for at in range(0, length & ~3, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & 0xFFFFFFFF
        k = (k ^ k >> 24) * m & 0xFFFFFFFF
        h = (h * m & 0xFFFFFFFF) ^ k
    if rest := data[length & ~3 :]:
        h = (h ^ int.from_bytes(rest, "little")) * m & 0xFFFFFFFF
    h = (h ^ h >> 13) * m & 0xFFFFFFFF
    return h ^ h >> 15


# -- K1 --------------------------------------------------------------------------------------------------------------------------
async def test_K1_order_and_partition_are_those_of_java(kafka: Kafka) -> None:
    """Many appliances, mixed, six partitions: each in its order in the partition where Kafka's own producer puts it, and where we say."""
    ours, theirs = kafka.topic("k1", partitions=6), kafka.topic("k1-java", partitions=6)
    appliances = [f"esa{n}.example.org" for n in range(40)] + ["ä", "x" * 200, "a", "ab", "abc"]
    mixed = [(random.Random(1).sample(appliances, len(appliances))[n % len(appliances)], n) for n in range(3000)]
    sink = sink_of(settings(kafka, ours))
    for at in range(0, 3000, 500):
        await sink.send([(at, row_of(mixed[at : at + 500]))])
    await sink.close()

    records = kafka.records(ours)
    assert len(records) == 3000
    by_appliance: dict[str, list[Kept]] = defaultdict(list)
    for record in records:
        assert record.key is not None
        by_appliance[record.key.decode()].append(record)
    for appliance, of_it in by_appliance.items():
        assert [f"{appliance}-{n}" for name, n in mixed if name == appliance] == [record.record_id for record in of_it]
        assert {(murmur2(appliance.encode()) & 0x7FFFFFFF) % 6} == {record.partition for record in of_it}

    java = kafka.program("JavaProducer", kafka.servers, theirs)
    java.write("".join(f"{appliance}\n" for appliance in appliances).encode())
    java.no_more()
    assert java.until_ended(within_s=60) == 0, java.text
    told = {key: int(partition) for partition, _, key in (line.partition(" ") for line in java.lines if line[:1].isdigit())}
    assert told == {appliance: of_it[0].partition for appliance, of_it in by_appliance.items()}
    assert len(set(told.values())) == 6
    assert all(record.timestamp_ms == 1_763_978_401_000 for record in records)
    assert {(record.headers["kind"], record.headers["schema_version"]) for record in records} == {("line", "1")}


async def test_kinds_in_topics_of_their_own(kafka: Kafka) -> None:
    """`{kind}` in the topic; the topics are made as `esa-tls templates kafka` prints them, by Kafka's own program."""
    wanted = Wanted(topic="kinds.{kind}", partitions=2, replication_factor=1, retention_days=3650)
    made = json.loads(printed("kafka", wanted))
    for command in made["commands"]:
        _, *words = shlex.split(command.replace('"$SERVERS"', kafka.servers))
        topics = kafka.program("org.apache.kafka.tools.TopicCommand", *words)
        assert topics.until_ended(within_s=60) == 0, topics.text
    sink = sink_of(settings(kafka, "kinds.{kind}"))
    rows = [(n, row_of([("esa1", n), ("esa2", n)], kind=kind)) for n, kind in enumerate(KINDS)]
    await sink.send(rows)
    await sink.close()
    for n, kind in enumerate(KINDS):
        assert {(f"esa1-{n}", kind), (f"esa2-{n}", kind)} == {
            (record.record_id, record.headers["kind"]) for record in kafka.records(f"kinds.{kind}")
        }
    for topic in made["topics"]:
        there = kafka.settings_of(topic["name"])
        assert topic["configs"].items() <= there.items()


# -- what a broker refuses ---------------------------------------------------------------------------------------------------------
async def test_a_topic_that_takes_less_than_a_batch(kafka: Kafka) -> None:
    """The broker refuses whole batches: only the record that is too large alone is named, and everything else is there, in order."""
    topic = kafka.topic("small", max__message__bytes="20000")
    sink = sink_of(settings(kafka, topic))
    rows = [
        (1, row_of([("esa1", n) for n in range(300)], pad=1000)),
        (2, row_of([("esa1", 300)], pad=30_000)),
        (3, row_of([("esa1", n) for n in range(301, 400)], pad=1000)),
    ]
    with pytest.raises(RecordsRejected) as caught:
        await sink.send(rows)
    await sink.close()
    assert [(1, 0, 0, "too_large")] == [(one.row, one.segment, one.record, one.reason) for one in caught.value.rejections]
    assert [f"esa1-{n}" for n in range(400) if n != 300] == [record.record_id for record in kafka.records(topic)]


async def test_a_topic_that_is_not_there(kafka: Kafka) -> None:
    """Nothing is lost: it is tried again, slowly, and once somebody has made the topic everything is in it."""
    sink = sink_of(settings(kafka, "later"))
    rows = [(1, row_of([("esa1", n) for n in range(20)]))]
    with pytest.raises(TransientError, match=r"[Uu]nknown topic") as caught:
        await sink.send(rows)
    assert caught.value.retry_after_s == 30.0
    kafka.topic("later")
    for _ in range(20):
        try:
            await sink.send(rows)
            break
        except TransientError:
            await asyncio.sleep(0.2)
    await sink.close()
    assert [f"esa1-{n}" for n in range(20)] == [record.record_id for record in kafka.records("later")]


# -- TLS and SASL ------------------------------------------------------------------------------------------------------------------
LOGINS = {"PLAIN": "pl41n", "SCRAM-SHA-512": "scr4m"}


@pytest.fixture
def secured(tmp_path: Path, kafka_node: Callable[..., Kafka]) -> tuple[Kafka, str, TlsFiles]:
    """A broker that wants TLS with client certificates and a login; where it listens for that, and the files."""
    files = TlsFiles(tmp_path / "tls")
    cert_file, key_file = files.server
    key = serialization.load_pem_private_key(Path(key_file).read_bytes(), None)
    pkcs8 = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    both = tmp_path / "broker.pem"
    both.write_bytes(pkcs8 + Path(cert_file).read_bytes())
    port = free_port()
    prefix = "listener.name.sasl_ssl."
    node = kafka_node(
        listeners=[("SASL_SSL", port, port)],
        **{
            f"{prefix}ssl.keystore.type": "PEM",
            f"{prefix}ssl.keystore.location": str(both),
            f"{prefix}ssl.truststore.type": "PEM",
            f"{prefix}ssl.truststore.location": files.ca_file,
            f"{prefix}ssl.client.auth": "required",
            f"{prefix}sasl.enabled.mechanisms": ",".join(LOGINS),
            f"{prefix}plain.sasl.jaas.config": (
                f'org.apache.kafka.common.security.plain.PlainLoginModule required user_esa="{LOGINS["PLAIN"]}";'
            ),
            f"{prefix}scram-sha-512.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        },
    ).start()
    admin = node.admin()
    scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    upsertion = UserScramCredentialUpsertion("esa", scram, LOGINS["SCRAM-SHA-512"].encode())
    admin.alter_user_scram_credentials([upsertion])["esa"].result(30)
    return node, f"127.0.0.1:{port}", files


async def test_tls_and_sasl(secured: tuple[Kafka, str, TlsFiles], tmp_path: Path) -> None:
    """By either mechanism, with our certificate: delivered. Wrong password or authority, no certificate: told, tried again, slowly."""
    node, servers, files = secured
    node.topic("secured")
    stranger = TlsFiles(tmp_path / "stranger")
    ours = {"ca_file": files.ca_file, "cert_file": files.client[0], "key_file": files.client[1]}

    def settings_with(mechanism: str, password: str, tls: dict[str, Any]) -> dict[str, Any]:
        sasl = {"mechanism": mechanism, "username": "esa", "password": password}
        return settings(node, "secured", bootstrap_servers=[servers], sasl=sasl, tls=tls, failing_after_s=2.0)

    for n, (mechanism, password) in enumerate(LOGINS.items()):
        sink = sink_of(settings_with(mechanism, password, ours))
        await sink.send([(1, row_of([("esa1", n)]))])
        await sink.close()
        sink = sink_of(settings_with(mechanism, "wrong", ours))
        with pytest.raises(TransientError, match=r"(?i)authentication"):
            await sink.send([(1, row_of([("esa1", 100)]))])
        await sink.close()
    for tls, told in (
        ({**ours, "ca_file": stranger.ca_file}, r"certificate verify failed"),
        ({"ca_file": files.ca_file}, r"(?i)certificate|disconnected|SSL"),
    ):
        sink = sink_of(settings_with("PLAIN", LOGINS["PLAIN"], tls))
        with pytest.raises(TransientError, match=told):
            await sink.send([(1, row_of([("esa1", 100)]))])
        await sink.close()
    assert ["esa1-0", "esa1-1"] == [record.record_id for record in node.records("secured")]


# -- the whole sidecar -------------------------------------------------------------------------------------------------------------
def first_of_each(records: Sequence[Kept]) -> list[Kept]:
    """Without what comes again; what comes again is the same."""
    seen: dict[str, Kept] = {}
    for record in records:
        first = seen.setdefault(record.record_id, record)
        assert (first.key, first.value, first.headers, first.partition) == (record.key, record.value, record.headers, record.partition)
    return list(seen.values())


def in_order(records: Sequence[Kept]) -> bool:
    """Whether the lines of each appliance come in the order of the appliance's own counter, connection by connection."""
    last: dict[tuple[str, str], int] = {}
    for record in records:
        decoded = msgspec.json.decode(record.value)
        if decoded["cisco_esa"]["record"] != "line":
            continue
        connection = decoded["cisco_esa"].get("connection", {}).get("id", "")
        key = (decoded["host"]["name"], connection)
        sequence = decoded["event"]["sequence"]
        if connection and sequence <= last.get(key, 0):
            return False
        last[key] = sequence
    return True


def sent(sidecar: Sidecar) -> float:
    """Records that the sink says it brought there."""
    return sidecar.metric("esa_tls_sink_records_sent_total", sink="kafka")


def up_to_date(sidecar: Sidecar) -> bool:
    """Whether the sink has brought there what is in the journal."""
    return sidecar.metric("esa_tls_sink_oldest_unsent_age_seconds", sink="kafka") == 0


def end(sidecar: Sidecar) -> None:
    """Let it bring there what it has, and end."""
    wait_for("held lines left", lambda: sidecar.metric("esa_tls_lines_held") == 0, within_s=WITHIN_S)
    wait_for("all are sent", lambda: up_to_date(sidecar), within_s=WITHIN_S)
    assert sidecar.drain() == 0


def with_file(folder: Path, made: dict[str, Any], **more: Any) -> Path:
    """A sidecar's configuration with this sink, and a file beside it that says what has to be there."""
    file = {"type": "jsonl", "path": str(folder / "records.jsonl"), "keep_files": 100_000}
    return write_config(folder, sinks=[made, file], max_hold_s=0.2, **more)


@pytest.fixture
def between() -> Iterator[Between]:
    """A relay that goes nowhere yet."""
    relay = Between()
    yield relay
    relay.close()


def test_K2_killed_between_send_and_report(tmp_path: Path, kafka_node: Callable[..., Kafka], sidecars: Sidecars, between: Between) -> None:
    """The broker has records, their reports have not come, SIGKILL: nothing is lost, what comes again has the same ids, order is kept."""
    port = free_port()
    node = kafka_node(listeners=[("RELAYED", port, between.port)]).start()
    between.to(port)
    node.topic("k2", partitions=6)
    made = with_file(tmp_path, settings(node, "k2", bootstrap_servers=[f"127.0.0.1:{between.port}"]))
    lines = simulated(messages=120, seed=2)
    half = len(lines) // 2
    sidecar = sidecars.start(made)
    deliver(sidecar, lines[:half])
    wait_for("the sink is at work", lambda: sent(sidecar) > 0, within_s=WITHIN_S)
    between.hold_answers()
    deliver(sidecar, lines[half:])
    wait_for("the broker has more than was reported", lambda: node.count("k2") > sent(sidecar), within_s=WITHIN_S)
    sidecar.kill()
    between.let_answers_go()

    sidecar = sidecars.start(made)
    end(sidecar)
    records = node.records("k2")
    once = first_of_each(records)
    assert len(once) < len(records), "nothing came again: it was not killed between send and report"
    expected = written(tmp_path / "records.jsonl")
    assert {record.record_id for record in once} == expected.keys()
    assert in_order(once)


@pytest.mark.parametrize("gently", [True, False])
def test_K3_broker_restart(tmp_path: Path, kafka_node: Callable[..., Kafka], sidecars: Sidecars, gently: bool) -> None:
    """The broker ends, or is killed, while records are sent: they wait, health says so, and when it is back all are there, in order."""
    node = kafka_node().start()
    node.topic("k3", partitions=3)
    made = with_file(tmp_path, settings(node, "k3", failing_after_s=1.0))
    lines = simulated(messages=120, seed=3)
    third = len(lines) // 3
    sidecar = sidecars.start(made)
    deliver(sidecar, lines[:third])
    wait_for("the sink is at work", lambda: sent(sidecar) > 0, within_s=WITHIN_S)
    if gently:
        ending = threading.Thread(target=node.end)
        ending.start()
        deliver(sidecar, lines[third : 2 * third])
        ending.join()
    else:
        node.kill()
        deliver(sidecar, lines[third : 2 * third])
    wait_for("it is tried again", lambda: sidecar.metric("esa_tls_sink_retries_total", sink="kafka") > 0, within_s=WITHIN_S)
    node.start()
    deliver(sidecar, lines[2 * third :])
    end(sidecar)
    once = first_of_each(node.records("k3"))
    assert {record.record_id for record in once} == written(tmp_path / "records.jsonl").keys()
    assert in_order(once)


def test_K3_too_few_replicas(tmp_path: Path, kafka_node: Callable[..., Kafka], sidecars: Sidecars) -> None:
    """A broker of two dies: leaders change, `min.insync.replicas` is not met, the cursor does not pass; back again, all is there."""
    node = kafka_node().start()
    other = node.beside().start()
    node.topic("k3-replicas", partitions=6, copies=2, min__insync__replicas="2")
    made = with_file(tmp_path, settings(node, "k3-replicas", failing_after_s=1.0, bootstrap_servers=[other.servers, node.servers]))
    lines = simulated(messages=120, seed=3)
    half = len(lines) // 2
    sidecar = sidecars.start(made)
    deliver(sidecar, lines[:half])
    wait_for("all are sent", lambda: up_to_date(sidecar), within_s=WITHIN_S)
    assert len(node.leaders("k3-replicas")) == 2
    other.kill()
    wait_for("leaders have changed", lambda: len(node.leaders("k3-replicas")) == 1, within_s=WITHIN_S)
    before = sent(sidecar)
    deliver(sidecar, lines[half:])
    wait_for("it is tried again", lambda: sidecar.metric("esa_tls_sink_retries_total", sink="kafka") > 1, within_s=WITHIN_S)
    assert sent(sidecar) == before
    sidecar.kill()
    sidecar = sidecars.start(made)
    wait_for("it is tried again", lambda: sidecar.metric("esa_tls_sink_retries_total", sink="kafka") > 1, within_s=WITHIN_S)
    assert sent(sidecar) == 0
    other.start()
    end(sidecar)
    once = first_of_each(node.records("k3-replicas"))
    assert {record.record_id for record in once} == written(tmp_path / "records.jsonl").keys()
    assert in_order(once)


def test_K4_a_line_of_two_megabytes(tmp_path: Path, kafka: Kafka, sidecars: Sidecars) -> None:
    """It becomes a dead letter that is listed with the reason; everything before and behind it is there."""
    topic = kafka.topic("k4")
    made = with_file(tmp_path, settings(kafka, topic))
    lines = simulated(messages=20, seed=4)
    half = len(lines) // 2
    long = lines[half][:25] + b"Info: " + b"x" * 2_000_000
    sidecar = sidecars.start(made)
    deliver(sidecar, [*lines[:half], long, *lines[half:]], frame_lines=50)
    wait_for("held lines left", lambda: sidecar.metric("esa_tls_lines_held") == 0, within_s=WITHIN_S)
    dead = "esa_tls_sink_records_dead_lettered_total"
    wait_for("the dead letter", lambda: sidecar.metric(dead, sink="kafka") == 1, within_s=WITHIN_S)
    assert sidecar.metric(dead, sink="kafka", reason="too_large") == 1
    assert sidecar.drain() == 0

    [letter] = [record for record in written(tmp_path / "records.jsonl").values() if len(record["event"].get("original", "")) > 1_000_000]
    there = {record.record_id for record in kafka.records(topic)}
    assert there == written(tmp_path / "records.jsonl").keys() - {letter["event"]["id"]}
    listed = esa_tls("journal", "dead-letters", "-c", made)
    assert listed.returncode == 1  # there is one
    assert "too_large" in listed.stdout


MESSAGES = 100_000 if NIGHTLY else 10_000

EVIDENCE = frozenset({"cisco_esa.tls.evidence", "cisco_esa.reception.tls.evidence"})
"""After a start absence proves less, so `absence` may have become `absence_lossy`."""


def test_what_is_there_is_what_happened(tmp_path: Path, kafka_node: Callable[..., Kafka], sidecars: Sidecars) -> None:
    """Sidecar and broker are killed in the middle: but for what came twice, each line's record, and the truth of each summary."""
    node = kafka_node().start()
    node.topic("truth", partitions=6)
    made = write_config(tmp_path, sinks=[settings(node, "truth", failing_after_s=2.0)], max_hold_s=0.2)
    world = Simulated(SimulationSettings(seed=5, messages=MESSAGES, appliances=2))
    sidecar = sidecars.start(made)
    target = Target(sidecar.port)
    senders = {name: Sender(target, tag=name) for name in ("esa1", "esa2")}
    quarter = len(world.lines) // 4

    def send(number: int) -> None:
        """A quarter of the lines, in frames of one appliance each, by turns."""
        part = world.lines[number * quarter : (number + 1) * quarter if number < 3 else None]
        for at in range(0, len(part), 1000):
            for name, sender in senders.items():
                lines = [line for of, line, _ in part[at : at + 1000] if of == name]
                assert not lines or sender.deliver(lines)

    send(0)
    wait_for("the sink is at work", lambda: sent(sidecar) > 0, within_s=WITHIN_S)
    sidecar.kill()
    sidecar = sidecars.start(made)
    target.set(sidecar.port)
    send(1)
    node.kill()
    send(2)
    node.start()
    send(3)
    for sender in senders.values():
        sender.close()
    end(sidecar)

    reading, kinds, again = Reading(), Counter[str](), 0
    seen: set[str] = set()
    for record in node.each("truth"):
        if record.record_id in seen:
            again += 1
            continue
        seen.add(record.record_id)
        kinds[record.headers["kind"]] += 1
        if record.headers["kind"] != "line":
            reading.records.append(msgspec.json.decode(record.value))
    print(f"{len(world.lines)} lines, {sum(kinds.values())} records, {again} came again")
    assert kinds["line"] == len(world.lines)
    assert differences(world, reading, ignore=EVIDENCE) == []
