"""Rules by their Lucene, as it was converted, on a real OpenSearch that has the records in data streams by our templates."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tests.peers.searching import OpenSearch
from tests.rules import cases

from esa_tls import templates

pytestmark = pytest.mark.timeout(240, func_only=True)

NAMESPACE = "rules"
TARGET = f"logs-cisco_esa.*-{NAMESPACE}"
BASELINE_NOW = "2025-11-24T20:00:00Z"


@pytest.fixture(scope="module")
def store(opensearch: OpenSearch) -> Iterator[OpenSearch]:
    """The store with all data sets, each of an appliance of its own, where a query is asked about one of them at a time."""
    templates.applied("opensearch", opensearch.url, templates.Wanted(), templates.Access())
    sent = 0
    for rule in cases.ALL:
        for side in cases.SIDES:
            lines = []
            for record in cases.records_of(rule, side):
                target = f"logs-cisco_esa.{record['cisco_esa']['record']}-{NAMESPACE}"
                lines += [{"create": {"_index": target, "_id": record["event"]["id"]}}, record]
                sent += 1
            answer = opensearch.ask("POST", "/_bulk", b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
            assert not answer["errors"], answer
    opensearch.ask("POST", f"/{TARGET}/_refresh")
    assert opensearch.ask("GET", f"/{TARGET}/_count")["count"] == sent
    yield opensearch
    opensearch.ask("DELETE", f"/_data_stream/{TARGET}")


def found(store: OpenSearch, query: str, rule: str, side: str) -> list[str]:
    """What a Lucene query gives of one data set."""
    appliance = {"term": {"cisco_esa.appliance": cases.appliance_of(rule, side)}}
    wanted = {"bool": {"must": [{"query_string": {"query": query}}], "filter": [appliance]}}
    return cases.labels_of(rule, side, (hit["_id"] for hit in store.documents(TARGET, wanted, source=False)))


@pytest.mark.parametrize("folder", ["opensearch", "lucene"])
@pytest.mark.parametrize("rule", cases.EVENTS)
def test_a_rule_finds_exactly_its_events(rule: str, folder: str, store: OpenSearch) -> None:
    """The converted query gives every event of the positive data that it has to, no other one, and none of the negative data."""
    query = cases.query_of(f"converted/{folder}", rule)

    assert found(store, query, rule, "positive") == sorted(cases.EVENTS[rule])
    assert found(store, query, rule, "negative") == []


@pytest.mark.parametrize("side", cases.SIDES)
def test_the_baseline_finds_the_partner_that_stopped(side: str, store: OpenSearch) -> None:
    """The aggregation written by hand gives the domain that had TLS 20 times and never clear text before, with the deliveries in clear."""
    query: dict[str, Any] = json.loads(cases.query_of("by_hand/opensearch", cases.BASELINE).replace('"now', f'"{BASELINE_NOW}||'))
    query["query"]["bool"]["filter"].append({"term": {"cisco_esa.appliance": cases.appliance_of(cases.BASELINE, side)}})

    buckets = store.ask("POST", f"/{TARGET}/_search", query)["aggregations"]["domain"]["buckets"]
    hits = [hit["_id"] for bucket in buckets for hit in bucket["clear_now"]["deliveries"]["hits"]["hits"]]
    assert [bucket["key"] for bucket in buckets] == (["steady.example"] if side == "positive" else [])
    assert cases.labels_of(cases.BASELINE, side, hits) == (list(cases.BASELINE_EVENTS) if side == "positive" else [])
