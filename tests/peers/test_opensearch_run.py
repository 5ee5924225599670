"""`esa-tls run` into OpenSearch with our templates: what an analyst counts there is what happened, whoever was killed meanwhile.

Summaries of 10,000 simulated messages, all records of 1,000, ten times as many with ESA_TLS_NIGHTLY; no rollover in between, since that
ends de-duplication by `_id`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.e2e.reference import Undisturbed, settings_of
from tests.e2e.sidecar import Sidecars, wait_for
from tests.examples import NIGHTLY
from tests.peers.into import WITHIN_S, Into
from tests.peers.searching import OpenSearch
from tests.property.truth import Reading, Simulated, differences, key_of

from esa_tls.offline.simulate import SimulationSettings, Truth
from esa_tls.templates import Access, Wanted, applied

pytestmark = pytest.mark.timeout(3600 if NIGHTLY else 300, func_only=True)

TIMES = 10 if NIGHTLY else 1

SUMMARIES = ("connection", "delivery", "message")
OUTCOME = {"connection": "cisco_esa.tls.outcome", "delivery": "cisco_esa.tls.outcome", "message": "cisco_esa.posture"}

EVIDENCE = frozenset({"cisco_esa.tls.evidence", "cisco_esa.reception.tls.evidence"})
"""After a start absence proves less, so `absence` may have become `absence_lossy`."""


class IntoOpenSearch(Into):
    """A sidecar that sends to a node, and who sends it lines."""

    def __init__(self, folder: Path, node: OpenSearch, sidecars: Sidecars, kinds: Sequence[str]) -> None:
        self.node = node
        super().__init__(folder, sidecars, {"type": "elasticsearch", "endpoints": [node.url], "records": list(kinds)})

    def count(self) -> int:
        """Documents that are there."""
        self.node.request("POST", "/logs-cisco_esa.*/_refresh")
        answer = self.node.request("GET", "/logs-cisco_esa.*/_count")
        return int(answer.body["count"]) if answer.status == 200 else 0

    def until_there(self, documents: int) -> None:
        """Return when so many documents are there."""
        wait_for(f"{documents} documents", lambda: self.count() >= documents, within_s=WITHIN_S, every_s=0.5)


IntoOf = Callable[[Sequence[str]], IntoOpenSearch]


@pytest.fixture
def into_of(tmp_path: Path, opensearch_node: Callable[..., OpenSearch], sidecars: Sidecars) -> Iterator[IntoOf]:
    """Starts both, with our templates; the sidecar sends records of these kinds."""
    made: list[IntoOpenSearch] = []

    def start(kinds: Sequence[str]) -> IntoOpenSearch:
        node = opensearch_node().start()
        applied("opensearch", node.url, Wanted(lifecycle="none"), Access())
        made.append(IntoOpenSearch(tmp_path, node, sidecars, kinds))
        return made[-1]

    yield start
    for one in made:
        one.sender.close()


def undisturbed(config: Path, lines: Sequence[bytes]) -> dict[str, str]:
    """Kind by id of every record that these lines make."""
    core = Undisturbed(settings_of(config)).feed(lines).let_held_lines_go()
    found: dict[str, str] = {}
    for body in core._out:
        for line in body.splitlines():
            record = msgspec.json.decode(line)
            assert record["event"]["id"] not in found
            found[record["event"]["id"]] = record["cisco_esa"]["record"]
    return found


def counted(node: OpenSearch, kind: str) -> Counter[str]:
    """Documents of a kind by outcome, as the store counts them."""
    ask = {"size": 0, "aggs": {"outcomes": {"terms": {"field": OUTCOME[kind], "size": 20}}}}
    answer = node.ask("POST", f"/logs-cisco_esa.{kind}-default/_search", ask)
    return Counter({bucket["key"]: bucket["doc_count"] for bucket in answer["aggregations"]["outcomes"]["buckets"]})


def outcome_of(truth: Truth | dict[str, Any]) -> str:
    """What is counted of a summary."""
    own = truth["cisco_esa"]
    found: str = own["posture"] if own["record"] == "message" else own["tls"]["outcome"] if "tls" in own else "none said"
    return found


def found(into: IntoOpenSearch, kinds: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """All documents by kind: each kind in one data stream of one backing index, no id twice."""
    streams = {stream["name"]: len(stream["indices"]) for stream in into.node.ask("GET", "/_data_stream")["data_streams"]}
    assert streams == {f"logs-cisco_esa.{kind}-default": 1 for kind in kinds}
    there = {kind: into.node.documents(f"logs-cisco_esa.{kind}-default", source=kind != "line") for kind in kinds}
    ids = [hit["_id"] for hits in there.values() for hit in hits]
    assert len(set(ids)) == len(ids)
    return there


def by_id(there: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any] | None]:
    """What is said under each id; of lines only the ids are fetched."""
    return {hit["_id"]: hit.get("_source") for hits in there.values() for hit in hits}


def check_truth(into: IntoOpenSearch, world: Simulated, there: dict[str, list[dict[str, Any]]]) -> None:
    """Every summary that the truth demands is there and says what it says, none else is, and the store's own counts are those of it."""
    reading = Reading()
    for kind in SUMMARIES:
        assert all(hit["_source"]["event"]["id"] == hit["_id"] for hit in there[kind])
        reading.records += [hit["_source"] for hit in there[kind]]
    assert differences(world, reading, ignore=EVIDENCE) == []

    keys = {key_of(record["cisco_esa"]) for record in reading.records}
    for kind in SUMMARIES:
        happened = [truth for truth in world.truth if truth["cisco_esa"]["record"] == kind]
        expected = Counter(outcome_of(truth) for truth in happened if not truth.get("optional") or key_of(truth["cisco_esa"]) in keys)
        del expected["none said"]
        assert counted(into.node, kind) == expected


def demanded(world: Simulated) -> int:
    """How many summaries there must be at least."""
    return sum(not truth.get("optional") for truth in world.truth)


def disturb(into: IntoOpenSearch, lines: Sequence[bytes], *, documents: int) -> None:
    """Send all lines; the sidecar is killed, the store is killed while it is at work, and the sidecar again while there is no store."""
    into.send_disturbed(lines, take_store=into.node.kill, give_store=into.node.start)
    into.until_there(documents)
    assert into.sidecar.drain() == 0


def replay(into: IntoOpenSearch, lines: Sequence[bytes], *, documents: int) -> None:
    """Send all lines again, to a sidecar that knows of nothing: every record is known in the store."""
    into.configure("second")
    into.start()
    into.send(lines)
    known = "esa_tls_sink_records_known_total"
    wait_for("all of them are known", lambda: into.sidecar.metric(known) >= documents, within_s=WITHIN_S, every_s=0.5)
    assert into.sidecar.metric("esa_tls_sink_records_rejected_total") == 0
    assert into.sidecar.drain() == 0


def test_counts_are_those_of_the_truth_whoever_was_killed(into_of: IntoOf) -> None:
    """Summaries of 10,000 messages, counted in the store by kind and outcome: as it happened, after kills, and after a replay."""
    into = into_of(SUMMARIES)
    world = Simulated(SimulationSettings(seed=11, messages=10_000 * TIMES))
    lines = [line for _, line, _ in world.lines]
    disturb(into, lines, documents=demanded(world))
    there = found(into, SUMMARIES)
    check_truth(into, world, there)
    counts = {kind: counted(into.node, kind) for kind in SUMMARIES}
    replay(into, lines, documents=sum(map(len, there.values())))
    assert {kind: counted(into.node, kind) for kind in SUMMARIES} == counts
    assert by_id(found(into, SUMMARIES)) == by_id(there)


def test_every_record_is_there_once_whoever_was_killed(into_of: IntoOf) -> None:
    """Lines too: the ids in the store are those that a core makes which nobody disturbed, after kills and after a replay."""
    kinds = ("line", *SUMMARIES)
    into = into_of(kinds)
    world = Simulated(SimulationSettings(seed=12, messages=1_000 * TIMES))
    lines = [line for _, line, _ in world.lines]
    wanted = undisturbed(into.config, lines)
    disturb(into, lines, documents=len(wanted))
    there = found(into, kinds)
    assert {hit["_id"]: kind for kind, hits in there.items() for hit in hits} == wanted
    check_truth(into, world, there)
    replay(into, lines, documents=len(wanted))
    assert by_id(found(into, kinds)) == by_id(there)
