"""Queries of the manual and of dashboards, run on OpenSearch: the answers are those worked out from the truth, or from the records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.boards import as_dsl, worked_out
from tests.boards.answers import ANSWERS, a_mid
from tests.boards.kql import dsl
from tests.boards.stores import (
    NAMESPACE,
    at_time,
    expected_table,
    fill_opensearch,
    largest_are,
    opensearch_groups,
    opensearch_table,
    own_target,
)
from tests.boards.world import NOW, World, world
from tests.peers.searching import OpenSearch
from tools.boards import query_dsl, saved_objects
from tools.boards.kibana_query import kql
from tools.boards.model import Counts, Query, Rows
from tools.boards.panels import Panel, source
from tools.boards.questions import Question, questions

pytestmark = pytest.mark.timeout(120, func_only=True)  # the store is built, started and filled before

DAYS = 30
"""The period of dashboards here: two of the three stretches of the records are in it."""
NOW_TEXT = f"{NOW:%Y-%m-%dT%H:%M:%SZ}"
OURS = f"/logs-cisco_esa.*-{NAMESPACE}/_search"

PANELS = source().records.panels
QUESTIONS = questions()


@pytest.fixture(scope="module")
def node(opensearch: OpenSearch) -> OpenSearch:
    """The store with all records."""
    fill_opensearch(opensearch, world())
    return opensearch


@pytest.fixture(scope="module")
def mail() -> World:
    """The records and their truth."""
    return world()


def asked(question: Question, mail: World) -> Query:
    """The query of a question; where it asks for a message, for one that there is."""
    if not question.parameters:
        return question.query()
    appliance, mid = a_mid(mail)
    return question.query({"appliance": appliance, "mid": mid})


# -- the manual ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.id)
def test_questions_are_answered(question: Question, node: OpenSearch, mail: World) -> None:
    """The search of the manual returns what the truth says: the rows of a table, or each group with its numbers, the largest."""
    query, expected = asked(question, mail), ANSWERS[question.id](mail)
    answer = node.ask("POST", f"/{own_target(query_dsl.target(query.kinds))}/_search", at_time(query_dsl.body(query), NOW))

    assert expected
    if isinstance(query.answer, Rows):
        assert isinstance(expected, list)
        table = opensearch_table(query.answer, answer)
        assert sorted(map(repr, table)) == sorted(map(repr, expected_table(query, expected)))
        assert [row[0] for row in table] == sorted((row[0] for row in table), reverse=not query.answer.oldest)
    else:
        assert isinstance(expected, dict)
        largest_are(opensearch_groups(query.answer, answer), expected, query.answer.limit)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.id)
def test_kql_finds_the_same_records(question: Question, node: OpenSearch, mail: World) -> None:
    """The KQL of a question, as the query DSL that it stands for, finds the records that the search of the manual is about."""
    query = asked(question, mail)
    target = own_target(query_dsl.target(query.kinds))
    wanted = at_time(query_dsl.body(query), NOW)["query"]
    found = node.documents(OURS.strip("/").removesuffix("/_search"), at_time(dsl(kql(query)), NOW), source=False)

    assert {hit["_id"] for hit in found} == {hit["_id"] for hit in node.documents(target, wanted, source=False)}
    assert found


# -- Grafana ---------------------------------------------------------------------------------------------------------------------
def by_title(name: str) -> dict[str, dict[str, Any]]:
    """The panels of a Grafana dashboard."""
    return {panel["title"]: panel for panel in as_dsl.grafana_panels(name)}


def ask(node: OpenSearch, request: dict[str, Any]) -> Any:
    """Ask all kinds of records, as a dashboard does."""
    return node.ask("POST", OURS, request)


@pytest.mark.parametrize("appliances", ["*", '("esa2")'])
@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.id)
@pytest.mark.parametrize("file", ["grafana-elasticsearch.json", "grafana-opensearch.json"])
def test_grafana_shows_what_the_records_say(file: str, panel: Panel, appliances: str, node: OpenSearch, mail: World) -> None:
    """Every query of every panel returns what is worked out from the records, for all appliances and for one."""
    query = panel.query
    only = None if appliances == "*" else frozenset({"esa2"})
    records = worked_out.chosen(query, mail.flat, NOW, DAYS, only)
    asked_for = [target for target in by_title(file)[panel.title]["targets"] if target["datasource"]["type"] != "__expr__"]
    requests = [as_dsl.of_grafana(target, appliances=appliances, days=DAYS, now=NOW_TEXT) for target in asked_for]
    answers = [ask(node, request) for request in requests]

    if isinstance(query.answer, Rows):
        same_rows(answers[0], records, query.answer.limit)
        return
    found = [as_dsl.counts_of(answer, request) for answer, request in zip(answers, requests, strict=True)]
    if query.answer.share is not None:
        assert tuple(sum(counts.values()) for counts in found) == worked_out.parts(query.answer, records)
    elif panel.over_time or not query.answer.by:
        # Its buckets of time are the innermost.
        turned = {(key[-1], *key[:-1]): n for key, n in found[0].items()}
        assert turned == worked_out.per_day(query.answer, records)
    else:
        the_largest(found[0], worked_out.counted(query.answer, records), query.answer)


def same_rows(answer: Mapping[str, Any], records: list[dict[str, Any]], limit: int) -> None:
    """The newest records, as many as the panel shows."""
    hits = answer["hits"]["hits"]
    times = sorted((record["@timestamp"] for record in records), reverse=True)[:limit]
    assert [hit["_source"]["@timestamp"] for hit in hits] == times
    assert {hit["_id"] for hit in hits} <= {record["event.id"] for record in records}


def the_largest(found: dict[tuple[Any, ...], int], expected: dict[tuple[Any, ...], int], counts: Counts) -> None:
    """The largest groups with their numbers: of one field exactly; buckets inside one another keep as many on each level."""
    assert found.items() <= expected.items()
    if len(counts.by) == 1:
        assert sorted(found.values()) == sorted(expected.values())[-counts.limit :]
    else:
        assert max(expected.values(), default=0) == max(found.values(), default=0)


# -- Kibana and OpenSearch Dashboards --------------------------------------------------------------------------------------------
def request_of(file: str, panel: Panel) -> dict[str, Any]:
    """What a panel asks, from the committed file."""
    objects = as_dsl.saved_objects(file)
    (dashboard,) = (found for found in objects if found["type"] == "dashboard")
    own = {found["id"]: found for found in objects}.get(saved_objects.object_id(panel))
    if own is None:
        (placed,) = (shown for shown in dashboard["attributes"]["panelsJSON"] if shown["panelIndex"] == saved_objects.object_id(panel))
        return as_dsl.of_lens(placed["embeddableConfig"]["attributes"], days=DAYS, now=NOW_TEXT)
    if own["type"] == "search":
        return as_dsl.of_search(own["attributes"], days=DAYS, now=NOW_TEXT)
    return as_dsl.of_visualization(own["attributes"], days=DAYS, now=NOW_TEXT)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.id)
@pytest.mark.parametrize("file", ["kibana.ndjson", "opensearch-dashboards.ndjson"])
def test_kibana_shows_what_the_records_say(file: str, panel: Panel, node: OpenSearch, mail: World) -> None:
    """Every panel and every saved search, of Kibana and of OpenSearch Dashboards, asks for what is worked out from the records."""
    query = panel.query
    records = worked_out.chosen(query, mail.flat, NOW, DAYS)
    request = request_of(file, panel)
    answer = ask(node, request)

    if isinstance(query.answer, Rows):
        assert {hit["_id"] for hit in answer["hits"]["hits"]} <= {record["event.id"] for record in records}
        assert len(answer["hits"]["hits"]) == min(request["size"], len(records))
        return
    found = as_dsl.counts_of(answer, request)
    if query.answer.share is not None:
        total, hits = worked_out.parts(query.answer, records)
        parts = {(query.answer.share.hit,): hits, (query.answer.share.rest,): total - hits}
        assert found == {key: n for key, n in parts.items() if n}
    elif panel.over_time:
        days = worked_out.per_day(query.answer, records)
        # Lens splits first and then goes by time; a visualization the other way round.
        assert {(key[-1], *key[:-1]) if file == "kibana.ndjson" else key: n for key, n in found.items()} == days
    elif query.answer.by:
        the_largest(found, worked_out.counted(query.answer, records), query.answer)
    else:
        assert found == {(): len(records)}


def test_the_panels_have_something_to_show(mail: World) -> None:
    """The records hold something for every panel: an empty answer would prove nothing."""
    for panel in PANELS:
        assert worked_out.chosen(panel.query, mail.flat, NOW, DAYS), panel.id
        if isinstance(panel.query.answer, Counts) and panel.query.answer.share is not None:
            total, hits = worked_out.parts(panel.query.answer, worked_out.chosen(panel.query, mail.flat, NOW, DAYS))
            assert 0 < hits < total, panel.id
