"""The bulk sink against a real OpenSearch: rows E1 to E4, E6, E7 and E9 of docs/wires.md 3.5, and answers under load.

Elasticsearch itself cannot be had here: what only it answers is tested from its documentation in `tests/unit/`.
"""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 3.5)

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.delivery_fakes import FakeOutbox, Ledger, run_dry
from tests.peers.building import Built
from tests.peers.searching import OpenSearch

from esa_tls import telemetry
from esa_tls.core.batch import Batch, Origin, Row, Run
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.state import DictState
from esa_tls.runtime.dispatch import Backoff, Dispatcher
from esa_tls.sinks.elasticsearch import ElasticsearchSink
from esa_tls.sinks.elasticsearch_nodes import Nodes
from esa_tls.telemetry import Counters
from esa_tls.templates import Access, Wanted, applied

pytestmark = pytest.mark.timeout(180, func_only=True)

_namespaces = (f"sink{number}" for number in itertools.count())


@pytest.fixture
def store(either_opensearch: OpenSearch) -> OpenSearch:
    """With our templates."""
    applied("opensearch", either_opensearch.url, Wanted(lifecycle="none"), Access())
    return either_opensearch


@pytest.fixture
def namespace() -> str:
    """One that nobody has used."""
    return next(_namespaces)


@pytest.fixture(scope="module")
def narrow(opensearch_built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSearch]:
    """A node that has hardly any room for requests."""
    settings = ("thread_pool.write.size=1", "thread_pool.write.queue_size=1", "http.max_content_length=1mb")
    node = OpenSearch(opensearch_built, tmp_path_factory.mktemp("narrow"), *settings)
    try:
        applied("opensearch", node.start().url, Wanted(lifecycle="none", shards=4), Access())
        yield node
        node.end()
    finally:
        node.make_sure_it_is_gone()


def rows_of(*lines: bytes, appliance: str = "esa1") -> list[Row]:
    """What the core makes of these lines."""
    pipeline = Pipeline(CoreSettings(appliance_name=appliance), DictState(), encodings=("json",), now_s=1.7e9)
    pipeline.feed(Batch([Run(Origin(tag="esa"), list(lines))], 1, received_s=1.7e9), now_s=1.7e9)
    pipeline.end_stream()
    sealed = pipeline.seal()
    assert sealed is not None
    return sealed.rows


def info(number: int, text: str = "") -> bytes:
    """A line of no connection."""
    return f"Mon Nov 24 10:00:{number % 60:02d} 2025 Info: MID {number} Subject 's{text}'".encode()


def outbox_of(*rows: Row) -> FakeOutbox:
    """An outbox with these rows."""
    outbox = FakeOutbox()
    for row in rows:
        outbox.add(row)
    return outbox


def ids_of(rows: list[Row], kind: str = "line") -> list[str]:
    """The ids of all records of a kind."""
    return [json.loads(line)["event"]["id"] for row in rows for name, _, body in row.segments if name == kind for line in body.splitlines()]


def queries_of_the_manual() -> list[Any]:
    """Both of docs/elasticsearch.md; the first without its filter, which lines do not pass."""
    text = (Path(__file__).parents[2] / "docs" / "elasticsearch.md").read_text(encoding="utf-8")
    shown = re.findall(r"^POST logs-cisco_esa\.delivery-\*/_search\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    found = [json.loads(query) for query in shown]
    assert [set(query) for query in found] == [{"query", "collapse", "aggs"}, {"size", "aggs"}]
    del found[0]["query"]
    return found


class Delivery:
    """One run of a dispatcher until everything is sent; what was counted, and what became a dead letter."""

    def __init__(self, url: str, namespace: str, **options: Any) -> None:
        self.counters = Counters()
        self.ledger = Ledger()
        options = {"max_request_bytes": 4 << 20, **options}
        self.sink = ElasticsearchSink(Nodes([url]), name="store", namespace=namespace, counters=self.counters, **options)
        self.dispatcher: Dispatcher | None = None

    async def of(self, *rows: Row, backoff: Backoff = Backoff(0.02, 0.2)) -> Delivery:  # noqa: B008 (frozen)
        """Deliver them; they are in the store when this returns, or dead letters."""
        outbox = outbox_of(*rows)
        self.dispatcher = Dispatcher(
            self.sink,
            outbox,
            stored=None,
            save_cursor=self.ledger.save_cursor,
            dead_letter=self.ledger.dead_letter,
            grown=outbox.grown,
            counters=self.counters,
            start="oldest",
            backoff=backoff,
        )
        await run_dry(self.dispatcher, within_s=60)
        assert self.dispatcher.status().sequence == outbox.tail()
        return self

    def failing(self) -> str:
        """What health says of it."""
        return (self.dispatcher and self.dispatcher.status().failing) or ""

    def counted(self, metric: str, **labels: str) -> float:
        """A number of the sink's."""
        return self.counters.value(metric, sink="store", **labels)


async def test_E1_E2_created_once_and_known_the_second_time(store: OpenSearch, namespace: str) -> None:
    """Two lines make a data stream of one backing index; sent again, they are known, and the sink goes on."""
    rows = rows_of(info(1), info(2))
    first = await Delivery(store.url, namespace).of(*rows)
    again = await Delivery(store.url, namespace).of(*rows)

    stream = f"logs-cisco_esa.line-{namespace}"
    hits = store.documents(stream)
    assert sorted(hit["_id"] for hit in hits) == sorted(ids_of(rows))
    assert {hit["_index"] for hit in hits} == {f".ds-{stream}-000001"}
    assert [one.counted(telemetry.SINK_KNOWN) for one in (first, again)] == [0, 2]
    assert [one.counted(telemetry.SINK_SENT, kind="line") for one in (first, again)] == [2, 2]


async def test_E3_a_rollover_ends_it(store: OpenSearch, namespace: str) -> None:
    """After a rollover the same records are stored again; a query that collapses on `event.id` still has each of them once."""
    rows = rows_of(info(1), info(2))
    stream = f"logs-cisco_esa.line-{namespace}"
    await Delivery(store.url, namespace).of(*rows)
    store.ask("POST", f"/{stream}/_rollover")
    again = await Delivery(store.url, namespace).of(*rows)

    assert again.counted(telemetry.SINK_KNOWN) == 0
    assert sorted(hit["_index"][-6:] for hit in store.documents(stream)) == ["000001", "000001", "000002", "000002"]
    collapsed, doubled = (store.ask("POST", f"/{stream}/_search", query) for query in queries_of_the_manual())
    assert sorted(hit["_id"] for hit in collapsed["hits"]["hits"]) == sorted(ids_of(rows))
    assert collapsed["aggregations"]["events"]["value"] == 2
    assert {bucket["key"]: bucket["doc_count"] for bucket in doubled["aggregations"]["doubled"]["buckets"]} == dict.fromkeys(
        ids_of(rows), 2
    )


async def test_E4_one_bad_record_between_good_ones(store: OpenSearch, namespace: str) -> None:
    """The good ones are stored, the bad one is a dead letter with the store's words about field and value."""
    kind, count, body = rows_of(info(1), info(2), info(3))[0].segments[0]
    good = body.splitlines(keepends=True)
    bad = good[1].replace(b'"host":', b'"source":{"ip":"not-an-ip"},"host":')
    row = Row("line", "json", [(kind, count, good[0] + bad + good[2])])
    done = await Delivery(store.url, namespace).of(row)

    assert len(store.documents(f"logs-cisco_esa.line-{namespace}")) == 2
    [letter] = done.ledger.letters
    assert letter.payload == bad
    assert letter.reason.startswith("mapper_parsing_exception: ")
    assert "source.ip" in letter.reason
    assert "not-an-ip" in letter.reason
    assert done.counted(telemetry.SINK_DEAD_LETTERED, reason="mapper_parsing_exception") == 1
    assert done.counted(telemetry.SINK_SENT, kind="line") == 2


async def test_E6_whatever_stands_in_a_line(store: OpenSearch, namespace: str) -> None:
    """Line feeds, NUL, a lone surrogate, bytes of no encoding, 300 KB: all stored, each under its id, the text as it was."""
    head = b"Mon Nov 24 10:00:01 2025 Info: "
    odd = {
        "line feed": head + b"a\\nb 'c\nd'",
        "NUL": head + b"a\0b",
        "surrogate": head + b"a\xed\xa0\x80b",
        "no UTF-8": head + b"a\xff\xfeb",
        "quotes": head + b'"\\ \x7f \x1b[31m',
        "emoji": head + "\U0001f512 Grüße".encode(),
        "long": head + b"x" * 300_000,
    }
    rows = rows_of(*odd.values())
    body = rows[0].segments[0][2]
    assert body.count(b"\n") == len(odd)
    rows[0] = Row("line", "json", [("line", len(odd), body.removesuffix(b"\n"))])  # an end that is missing is put there
    done = await Delivery(store.url, namespace).of(*rows)

    assert done.ledger.letters == []
    stored = {hit["_id"]: hit["_source"] for hit in store.documents(f"logs-cisco_esa.line-{namespace}")}
    assert list(stored) == ids_of(rows)
    assert [source["event"]["original"] for source in stored.values()] == [line.decode("utf-8", "replace") for line in odd.values()]
    assert ["raw_base64" in source["cisco_esa"] for source in stored.values()] == [name in ("surrogate", "no UTF-8") for name in odd]


async def test_E7_without_templates_it_stops_and_says_so(opensearch_node: Any) -> None:
    """No template, no index made by itself: nothing is sent and nothing is dropped; once the templates are there everything arrives."""
    node = opensearch_node().start()
    node.ask("PUT", "/_cluster/settings", {"persistent": {"action.auto_create_index": "false"}})
    rows = rows_of(*map(info, range(5)))
    for options, words in (({}, "there is no index template"), ({"require_template": False}, "index_not_found_exception")):
        done = Delivery(node.url, "default", **options)
        running = asyncio.create_task(done.of(*rows))
        failing = ""
        while not failing:
            await asyncio.sleep(0.01)
            failing = done.failing()
        assert words in failing
        assert "logs-cisco_esa.line-default" in failing
        assert done.ledger.letters == []
        running.cancel()
        await asyncio.wait([running])
    assert node.ask("GET", "/_cat/indices?format=json") == []

    await asyncio.to_thread(applied, "opensearch", node.url, Wanted(lifecycle="none"), Access())
    node.ask("PUT", "/_cluster/settings", {"persistent": {"action.auto_create_index": None}})
    await Delivery(node.url, "default").of(*rows)
    assert len(node.documents("logs-cisco_esa.line-default")) == 5


@pytest.mark.parametrize("block", ["read_only_allow_delete", "write"])
async def test_E9_a_block_is_waited_for(store: OpenSearch, namespace: str, block: str) -> None:
    """The block that a full disk sets (429), and one that somebody sets (403): health says so, nothing is lost, it goes on by itself."""
    stream = f"logs-cisco_esa.line-{namespace}"
    await Delivery(store.url, namespace).of(*rows_of(info(1)))
    store.ask("PUT", f"/{stream}/_settings", {f"index.blocks.{block}": True})
    done = Delivery(store.url, namespace)
    running = asyncio.create_task(done.of(*rows_of(info(2), info(3))))
    while not done.failing() or done.counted(telemetry.SINK_POSTPONED, reason="cluster_block_exception") < 4:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert "cluster_block_exception" in done.failing()
    assert done.counters.value(telemetry.SINK_RETRIES, sink="store", reason="StoreBlocked") >= 1
    store.ask("PUT", f"/{stream}/_settings", {f"index.blocks.{block}": None})
    await running
    assert done.ledger.letters == []
    assert len(store.documents(stream)) == 3


def numbered(first: int, records: int) -> Row:
    """A row of small records, numbered from `first` on."""
    head = b'{"@timestamp":"2026-11-24T10:00:00Z","event":{"id":"%d","sequence":%d},"host":{"name":"esa1"}}'
    return Row("line", "json", [("line", records, b"\n".join(head % (n, n) for n in range(first, first + records)))])


async def test_a_store_without_room_gets_everything_in_the_end(narrow: OpenSearch) -> None:
    """Eight sinks at once, a queue of one request: records that met 429 are sent again, alone, until all are there, once."""
    rounds, records, rejected = 0, 3000, 0.0
    while not rejected:
        rounds += 1
        assert rounds < 20
        sinks = [Delivery(narrow.url, "busy") for _ in range(8)]
        first = (rounds - 1) * 8 * records
        await asyncio.gather(*(sink.of(numbered(first + n * records, records)) for n, sink in enumerate(sinks)))
        assert all(sink.ledger.letters == [] for sink in sinks)
        rejected = sum(sink.counted(telemetry.SINK_POSTPONED, reason="rejected_execution_exception") for sink in sinks)
    stored = [hit["_id"] for hit in narrow.documents("logs-cisco_esa.line-busy", source=False)]
    assert len(stored) == rounds * 8 * records
    assert set(stored) == {str(n) for n in range(rounds * 8 * records)}


async def test_a_request_that_is_too_large_is_halved(narrow: OpenSearch) -> None:
    """413 with an empty body: halves go, and a single record that no request can carry is a dead letter."""
    rows = rows_of(*(info(n, "x" * 100_000) for n in range(15)), info(15, "y" * 1_200_000))
    done = await Delivery(narrow.url, "large", max_request_bytes=8 << 20).of(*rows)
    [letter] = done.ledger.letters
    assert letter.reason.startswith("too_large: ")
    assert len(letter.payload) > 1_200_000
    assert len(narrow.documents("logs-cisco_esa.line-large", source=False)) == 15
    assert done.sink._max_request_bytes < 1 << 20
