"""Our Loki sink and a server that takes Loki's push protocol and can be asked what it holds: VictoriaLogs.

It stands in for Loki, which cannot be had here (its licence). It proves that our bytes are what the protocol wants and that nothing gets
lost or altered on the way; not that Loki takes them, for it is looser: no limits of labels, age or order. It does not know an entry again,
so what came twice is there twice, and it is ended by SIGTERM, since what it answered for in the last seconds does not outlive a kill.
"""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 4.3)

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.e2e.reference import Undisturbed, settings_of
from tests.e2e.sidecar import Sidecars, wait_for
from tests.examples import NIGHTLY
from tests.peers.into import WITHIN_S, Into
from tests.peers.programs import Program
from tests.peers.querying import PUSH, VictoriaLogs
from tests.property.truth import Simulated, key_of
from tests.tls_files import TlsFiles
from tests.unit.sinks.test_loki import record, rows
from tests.unit.wire.test_loki import VECTOR
from tests.unit.wire.test_loki_entries import flat, records_of

from esa_tls import app
from esa_tls.config import parse
from esa_tls.core.batch import Row
from esa_tls.core.sentences import sentence
from esa_tls.errors import TransientError
from esa_tls.offline.simulate import SimulationSettings, simulate
from esa_tls.runtime.dispatch import RecordsRejected, Sink
from esa_tls.wire.loki import snappy

pytestmark = pytest.mark.timeout(3600 if NIGHTLY else 240, func_only=True)

TIMES = 10 if NIGHTLY else 1

CORPUS = sorted((Path(__file__).parents[1] / "corpus").glob("*.log"))
OWN = {"_msg", "_stream", "_stream_id", "_time", "service_name", "appliance", "kind"}
"""Fields of a row that are no metadata."""

SUMMARIES = ("connection", "delivery", "message")
OUTCOME = {"connection": "cisco_esa_tls_outcome", "delivery": "cisco_esa_tls_outcome", "message": "cisco_esa_posture"}


def sink_for(store: VictoriaLogs, **settings: Any) -> Sink:
    """A sink as a configuration makes it."""
    made = {"type": "loki", "endpoints": [f"{store.url}/insert"], **settings}
    [sink] = parse(json.dumps({"sinks": [made]}), file="f", environment={}).sinks
    return app.make_sink(sink)


def send(sink: Sink, made: list[tuple[int, Row]]) -> None:
    """One `send` and the end of it."""

    async def sending() -> None:
        try:
            await sink.send(made)
        finally:
            await sink.close()

    asyncio.run(sending())


def ids_in(store: VictoriaLogs) -> Counter[str]:
    """How often each `event.id` is there."""
    return Counter(row["event_id"] for row in store.query("* | fields event_id"))


# -- what arrives ----------------------------------------------------------------------------------------------------------------
def test_L1_the_vector_arrives(victoria_logs: VictoriaLogs) -> None:
    """The bytes of docs/wires.md 4.1: 204, and the entry is there with time, line, label and metadata."""
    body = snappy(bytes.fromhex(VECTOR))
    assert victoria_logs.request("POST", PUSH, body, {"Content-Type": "application/x-protobuf"}).status == 204
    [row] = victoria_logs.query("*")
    assert (row["_msg"], row["_time"], row["job"], row["mid"]) == ("hi", "2015-09-07T01:23:04.000000001Z", "esa", "42")


def test_L9_framed_snappy_is_refused(victoria_logs: VictoriaLogs) -> None:
    """What a raw block is not: so ours is one."""
    framed = bytes.fromhex("ff060000734e61507059") + snappy(bytes.fromhex(VECTOR))
    assert victoria_logs.request("POST", PUSH, framed, {"Content-Type": "application/x-protobuf"}).status == 400


@pytest.mark.parametrize(
    "settings", [{}, {"format": "json"}, {"format": "json", "compression": "none"}], ids=["protobuf", "json, gzip", "json"]
)
def test_records_arrive_whole(victoria_logs: VictoriaLogs, settings: dict[str, Any]) -> None:
    """Real samples and simulated mail, every kind: labels, time to the nanosecond, line and metadata of each record."""
    lines = [line for _, line in simulate(SimulationSettings(seed=21, messages=40))]
    made = [*records_of(lines), *(record for path in CORPUS for record in records_of(path.read_bytes().splitlines(), tag=path.stem))]
    wanted = {}
    by_kind: dict[str, list[bytes]] = {}
    for kind, data in made:
        by_kind.setdefault(kind, []).append(data)
        one = json.loads(data)
        line = one["event"]["original"] if kind == "line" else sentence(one)
        seconds = int(datetime.fromisoformat(one["@timestamp"]).timestamp())
        # An id alone is not enough here: in one of the samples a line comes a year late and opens its connection anew.
        wanted[one["event"]["id"], one["event"]["sequence"]] = (
            one["host"]["name"],
            kind,
            f"{seconds}.{one['event']['sequence']:09d}",
            line,
            flat(one),
        )
    segments = [(kind, len(bodies), b"\n".join(bodies) + b"\n") for kind, bodies in by_kind.items()]
    send(sink_for(victoria_logs, **settings), [(1, Row("line", "json", segments))])
    found = {}
    for row in victoria_logs.query("*"):
        stamp, _, rest = row["_time"].removesuffix("Z").partition(".")
        seconds = int(datetime.fromisoformat(f"{stamp}+00:00").timestamp())
        metadata = {name: value for name, value in row.items() if name not in OWN}
        found[row["event_id"], int(row["event_sequence"])] = (row["appliance"], row["kind"], f"{seconds}.{rest:0<9}", row["_msg"], metadata)
    assert len(found) == len(wanted)
    assert found == wanted
    assert victoria_logs.dropped() == {}


def test_labels_by_configuration(victoria_logs: VictoriaLogs) -> None:
    """Constants and fields are labels of the streams, and asked for as before."""
    settings = {"labels": {"site": 'Berlin "1"'}, "label_fields": ["cisco_esa.direction", "cisco_esa.tls.outcome"]}
    lines = [line for _, line in simulate(SimulationSettings(seed=22, messages=20))]
    made = list(records_of(lines))
    bodies = b"\n".join(data for kind, data in made if kind == "line")
    send(sink_for(victoria_logs, **settings), [(1, Row("line", "json", [("line", bodies.count(b"\n") + 1, bodies)]))])
    own = [json.loads(data)["cisco_esa"] for kind, data in made if kind == "line"]
    wanted = Counter((one["direction"], one["tls"]["outcome"]) for one in own if "direction" in one)
    for (direction, outcome), count in wanted.items():
        stream = f'{{site="Berlin \\"1\\"", cisco_esa_direction="{direction}", cisco_esa_tls_outcome="{outcome}"}}'
        [answer] = victoria_logs.query(f"{stream} | stats count() n")
        assert int(answer["n"]) == count
        [answer] = victoria_logs.query(f"cisco_esa_direction:={direction} cisco_esa_tls_outcome:={outcome} | stats count() n")
        assert int(answer["n"]) == count


# -- what it refuses -------------------------------------------------------------------------------------------------------------
def test_L6_a_full_store_takes_it_later(victoria_logs_node: Callable[..., VictoriaLogs]) -> None:
    """429 as long as it has no room: nothing is lost or named."""
    full = victoria_logs_node("-storage.minFreeDiskSpaceBytes=900TB").start()
    sink = sink_for(full)
    with pytest.raises(TransientError, match="429"):
        send(sink, rows(record(1)))
    assert full.query("*") == []


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"username": "u", "password": "wrong"}, "http_401"),
        ({"username": "u", "password": "p", "tenant": "tenant1"}, "no_org_id"),
        ({"username": "u", "password": "p", "endpoints": ["{url}"]}, "unsupported_path"),
        ({"username": "u", "password": "p", "tenant": "7:3"}, None),
    ],
)
def test_L7_who_we_are_and_for_whom(victoria_logs_node: Callable[..., VictoriaLogs], settings: dict[str, Any], told: str | None) -> None:
    """A wrong password, tenant or path is an error of configuration: no record becomes a dead letter. With the right ones all is well."""
    store = victoria_logs_node("-httpAuth.username=u", "-httpAuth.password=p").start()
    if "endpoints" in settings:
        settings = {**settings, "endpoints": [url.format(url=store.url) for url in settings["endpoints"]]}
    if told is None:
        send(sink_for(store, **settings), rows(record(1)))
        return
    with pytest.raises(TransientError, match=told) as caught:
        send(sink_for(store, **settings), rows(record(1), record(2)))
    assert caught.value.retry_after_s == 30.0


def test_a_request_that_is_too_large_is_cut(victoria_logs_node: Callable[..., VictoriaLogs]) -> None:
    """It says 400 where Loki says 413: smaller requests go through, and a record that alone is too large is named."""
    store = victoria_logs_node("-loki.maxRequestSize=10KB").start()
    bodies = [record(n, original="x" * (12_000 if n == 5 else 500)) for n in range(40)]
    with pytest.raises(RecordsRejected) as caught:
        send(sink_for(store), rows(b"".join(bodies)))
    assert [(one.record, one.reason) for one in caught.value.rejections] == [(5, "too_large")]
    assert ids_in(store) == Counter(f"{n:026x}" for n in range(40) if n != 5)


def test_over_tls(victoria_logs_node: Callable[..., VictoriaLogs], tmp_path: Path) -> None:
    """With its authority it goes through; without it nothing is sent."""
    files = TlsFiles(tmp_path / "tls")
    store = victoria_logs_node("-tls", f"-tlsCertFile={files.server[0]}", f"-tlsKeyFile={files.server[1]}")
    store.running = Program(*store._command)
    store.running.until_listening(store._port)
    url = store.url.replace("http:", "https:").replace("127.0.0.1", "localhost")
    send(sink_for(store, endpoints=[f"{url}/insert"], tls={"ca_file": files.ca_file}), rows(record(1)))
    with pytest.raises(TransientError):
        send(sink_for(store, endpoints=[f"{url}/insert"]), rows(record(2)))


# -- the sidecar -----------------------------------------------------------------------------------------------------------------
class IntoLoki(Into):
    """A sidecar that sends to a store, and who sends it lines."""

    def __init__(self, folder: Path, store: VictoriaLogs, sidecars: Sidecars, kinds: Sequence[str]) -> None:
        self.store = store
        super().__init__(folder, sidecars, {"type": "loki", "endpoints": [f"{store.url}/insert"], "records": list(kinds)})

    def until_there(self, records: int) -> None:
        """Return when so many different records are there, and the sidecar has ended well."""
        count = "* | stats count_uniq(event_id) n"
        wait_for(f"{records} records", lambda: int(self.store.query(count)[0]["n"]) >= records, within_s=WITHIN_S, every_s=0.5)
        assert self.sidecar.metric("esa_tls_sink_records_rejected_total") == 0
        assert self.sidecar.drain() == 0


@pytest.fixture
def into_of(tmp_path: Path, victoria_logs: VictoriaLogs, sidecars: Sidecars) -> Iterator[Callable[[Sequence[str]], IntoLoki]]:
    """Starts both; the sidecar sends records of these kinds."""
    made: list[IntoLoki] = []

    def start(kinds: Sequence[str]) -> IntoLoki:
        made.append(IntoLoki(tmp_path, victoria_logs, sidecars, kinds))
        return made[-1]

    yield start
    for one in made:
        one.sender.close()


def undisturbed(config: Path, lines: Sequence[bytes], kinds: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By id what every record of these kinds that these lines make has under `cisco_esa`."""
    found: dict[str, dict[str, Any]] = {}
    for line in Undisturbed(settings_of(config)).feed(lines).let_held_lines_go().take_raw():
        one = msgspec.json.decode(line)
        if one["cisco_esa"]["record"] in kinds:
            assert one["event"]["id"] not in found
            found[one["event"]["id"]] = one["cisco_esa"]
    return found


def disturb(into: IntoLoki, lines: Sequence[bytes], *, records: int) -> None:
    """Send all lines; the sidecar is killed, the store is away while it is at work, and the sidecar is killed again meanwhile."""
    into.send_disturbed(lines, take_store=into.store.end, give_store=into.store.start)
    into.until_there(records)


def kinds_by_id(into: IntoLoki) -> tuple[dict[str, str], int]:
    """Kind by id of what is there, and how many rows it has beyond that: records that came again."""
    found: dict[str, str] = {}
    total = 0
    for row in into.store.query("* | fields event_id, kind"):
        assert found.setdefault(row["event_id"], row["kind"]) == row["kind"]
        total += 1
    assert into.store.dropped() == {}
    return found, total - len(found)


def outcomes_by_id(into: IntoLoki, kind: str) -> dict[str, str]:
    """What the store holds of a kind of summaries: the outcome by id, the same each time."""
    found: dict[str, str] = {}
    for row in into.store.query(f'{{kind="{kind}"}} | fields event_id, {OUTCOME[kind]}'):
        outcome = row.get(OUTCOME[kind], "none said")
        assert found.setdefault(row["event_id"], outcome) == outcome
    return found


def happened(world: Simulated, wanted: Iterable[dict[str, Any]], kind: str) -> Counter[str]:
    """Outcomes of a kind as the truth has them; of records that it leaves open those that are wanted."""
    keys = {key_of(own) for own in wanted}
    found: Counter[str] = Counter()
    for truth in world.truth:
        own = truth["cisco_esa"]
        if own["record"] == kind and (not truth.get("optional") or key_of(own) in keys):
            found[own["posture"] if kind == "message" else own["tls"]["outcome"] if "tls" in own else "none said"] += 1
    return found


def test_what_is_there_is_what_happened(into_of: Callable[[Sequence[str]], IntoLoki]) -> None:
    """Summaries of 10,000 messages: distinct ids and outcomes are those of the truth, after kills, a store that was away, and a replay."""
    into = into_of(SUMMARIES)
    world = Simulated(SimulationSettings(seed=31, messages=10_000 * TIMES))
    lines = [line for _, line, _ in world.lines]
    wanted = undisturbed(into.config, lines, SUMMARIES)
    disturb(into, lines, records=len(wanted))
    for time in ("first", "replay"):
        found, again = kinds_by_id(into)
        print(f"{time}: {len(found)} records, {again} rows came again")
        assert found == {record_id: own["record"] for record_id, own in wanted.items()}
        for kind in SUMMARIES:
            assert Counter(outcomes_by_id(into, kind).values()) == happened(world, wanted.values(), kind), kind
        if time == "first":
            into.configure("second")
            into.start()
            into.send(lines)
            wait_for("all of them are sent", lambda: into.sent() >= len(wanted), within_s=WITHIN_S, every_s=0.5)
            into.until_there(len(wanted))


def test_L10_every_record_is_there_after_kills_and_a_replay(into_of: Callable[[Sequence[str]], IntoLoki]) -> None:
    """Lines too, of 1,000 messages; what came again has the time, line and metadata that it had, so a Loki would know it."""
    kinds = ("line", *SUMMARIES)
    into = into_of(kinds)
    world = Simulated(SimulationSettings(seed=32, messages=1_000 * TIMES))
    lines = [line for _, line, _ in world.lines]
    wanted = undisturbed(into.config, lines, kinds)
    disturb(into, lines, records=len(wanted))
    kinds_wanted = {record_id: own["record"] for record_id, own in wanted.items()}
    assert kinds_by_id(into)[0] == kinds_wanted
    into.configure("second")
    into.start()
    into.send(lines)
    wait_for("all of them are sent", lambda: into.sent() >= len(wanted), within_s=WITHIN_S, every_s=0.5)
    into.until_there(len(wanted))
    found, again = kinds_by_id(into)
    print(f"{len(found)} records, {again} rows came again")
    assert found == kinds_wanted
    assert again >= len(wanted)
    versions: dict[str, set[tuple[str, str]]] = {}
    for row in into.store.query("* | fields event_id, _time, _msg"):
        versions.setdefault(row["event_id"], set()).add((row["_time"], row["_msg"]))
    assert {len(found) for found in versions.values()} == {1}
