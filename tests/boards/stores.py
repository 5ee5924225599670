"""Fills stores with the records of `world`, the way our sinks do, and makes answers out of what they return."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from tests.boards.world import World
from tests.peers.querying import VictoriaLogs
from tests.peers.searching import OpenSearch
from tests.property.truth import flat
from tools.boards.logql import SERVICE
from tools.boards.logql import flat as loki_name
from tools.boards.model import BY_PATH, Counts, Query, Rows

from esa_tls.core.fields import Field
from esa_tls.templates import elasticsearch as templates
from esa_tls.templates.wanted import Wanted

NAMESPACE = "boards"
"""Of our data streams: the node is not ours alone."""

Groups = dict[tuple[Any, ...], tuple[int, ...]]
Table = list[tuple[Any, ...]]


# -- OpenSearch ------------------------------------------------------------------------------------------------------------------
def fill_opensearch(node: OpenSearch, world: World) -> None:
    """All records, under the templates that `esa-tls templates opensearch` prints."""
    for step in templates.steps("opensearch", Wanted(lifecycle="none", replicas=0)):
        node.ask("PUT", step.path, step.body)
    parts: list[bytes] = []
    for record in world.records:
        action = {"create": {"_index": f"logs-cisco_esa.{record['cisco_esa']['record']}-{NAMESPACE}", "_id": record["event"]["id"]}}
        parts += (msgspec.json.encode(action), msgspec.json.encode(record))
    for start in range(0, len(parts), 8_000):
        answer = node.ask("POST", "/_bulk", b"\n".join(parts[start : start + 8_000]) + b"\n")
        assert not answer["errors"], next(item for item in answer["items"] if item["create"]["status"] >= 300)
    node.ask("POST", f"/logs-cisco_esa.*-{NAMESPACE}/_refresh")


def own_target(target: str) -> str:
    """A target as the manual has it, narrowed to our data streams."""
    return target.replace("-*", f"-{NAMESPACE}")


def at_time(value: Any, now: datetime) -> Any:
    """A request with `now` of its date math being another time than that of the clock."""
    if isinstance(value, dict):
        return {key: at_time(inner, now) for key, inner in value.items()}
    if isinstance(value, list):
        return [at_time(inner, now) for inner in value]
    if isinstance(value, str) and (value == "now" or value.startswith(("now-", "now/"))):
        return f"{now:%Y-%m-%dT%H:%M:%SZ}||{value.removeprefix('now')}" if value != "now" else f"{now:%Y-%m-%dT%H:%M:%SZ}"
    return value


def opensearch_table(rows: Rows, answer: Mapping[str, Any]) -> Table:
    """The rows of a search: the time and the columns."""
    found = []
    for hit in answer["hits"]["hits"]:
        record = flat(hit["_source"])
        found.append((record["@timestamp"], *(record.get(field.path) for field in rows.columns)))
    return found


def opensearch_groups(counts: Counts, answer: Mapping[str, Any]) -> Groups:
    """The numbers of a search."""
    if counts.per_day:
        buckets = answer["aggregations"]["day"]["buckets"]
        return {(bucket["key_as_string"][:10],): (bucket["doc_count"],) for bucket in buckets if bucket["doc_count"]}
    if not counts.by:
        total = answer["hits"]["total"]["value"]
        return {(): (total,) if counts.share is None else (total, answer["aggregations"]["hit"]["doc_count"])}
    found: Groups = {}
    for bucket in answer["aggregations"]["groups"]["buckets"]:
        key = tuple(bucket["key"]) if isinstance(bucket["key"], list) else (bucket["key"],)
        found[key] = (bucket["doc_count"],) if counts.share is None else (bucket["doc_count"], bucket["hit"]["doc_count"])
    return found


# -- VictoriaLogs, in Loki's stead -----------------------------------------------------------------------------------------------
def fill_victoria_logs(store: VictoriaLogs, world: World) -> None:
    """All records, by Loki's push protocol: labels and structured metadata as docs/loki.md says."""
    streams: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for record in world.flat:
        second = int(datetime.fromisoformat(record["@timestamp"]).timestamp())
        nanoseconds = second * 1_000_000_000 + record["event.sequence"] % 1_000_000_000
        metadata = {
            loki_name(path): _loki_text(value)
            for path, value in record.items()
            if path not in _NOT_METADATA and BY_PATH[path].type != "nested"
        }
        line = record.get("event.original", record["event.action"])
        streams[record["cisco_esa.appliance"], record["cisco_esa.record"]].append([str(nanoseconds), line, metadata])
    store.push(
        [
            {"stream": {"service_name": SERVICE, "appliance": appliance, "kind": kind}, "values": values}
            for (appliance, kind), values in streams.items()
        ]
    )


_NOT_METADATA = frozenset({"@timestamp", "event.created", "event.original", "cisco_esa.record", "cisco_esa.appliance", "host.name"})
"""Time, line and labels."""


def _loki_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return msgspec.json.encode(value).decode() if isinstance(value, list) else str(value)


def victoria_logs_table(rows: Rows, answer: Iterable[Mapping[str, str]]) -> Table:
    """The rows of a query, values as text."""
    return [(row["_time"], *(row.get(_column(field.path)) or None for field in _metadata(rows))) for row in answer]


def _metadata(rows: Rows) -> list[Field]:
    """The columns without the raw line, which is the entry itself."""
    return [field for field in rows.columns if field.path != "event.original"]


def _column(path: str) -> str:
    return {"cisco_esa.appliance": "appliance", "cisco_esa.record": "kind"}.get(path, loki_name(path))


def victoria_logs_groups(counts: Counts, answer: Iterable[Mapping[str, str]]) -> Groups:
    """The numbers of a query."""
    found: Groups = {}
    for row in answer:
        key = (row["_time"][:10],) if counts.per_day else tuple(row[_column(field.path)] for field in counts.by)
        found[key] = (int(row["n"]),) if counts.share is None else (int(row["n"]), int(row["hit"]))
    return found


# -- what is expected ------------------------------------------------------------------------------------------------------------
def expected_table(query: Query, rows: list[dict[str, Any]]) -> Table:
    """Records as the table that a query must return: those that it shows, in their order."""
    assert isinstance(query.answer, Rows)
    shown = sorted(rows, key=lambda row: (row["@timestamp"], row["event.sequence"]), reverse=not query.answer.oldest)
    columns = [field.path for field in query.answer.columns]
    return [(row["@timestamp"], *(row.get(path) for path in columns)) for row in shown[: query.answer.limit]]


def largest_are(found: Mapping[tuple[Any, ...], tuple[int, ...]], expected: Mapping[tuple[Any, ...], tuple[int, ...]], limit: int) -> None:
    """Fails unless `found` is the `limit` largest of `expected`, with their numbers; of those of one size any will do."""
    wrong = {group: (numbers, expected.get(group)) for group, numbers in found.items() if expected.get(group) != numbers}
    assert not wrong, wrong
    assert sorted(numbers[0] for numbers in found.values()) == sorted(numbers[0] for numbers in expected.values())[-limit:]


def without_lines(query: Query) -> Query:
    """The same query without the column of the raw line, which is the entry itself in Loki."""
    assert isinstance(query.answer, Rows)
    return msgspec.structs.replace(query, answer=msgspec.structs.replace(query.answer, columns=tuple(_metadata(query.answer))))


def as_text(table: Table) -> Table:
    """The same table as a store that has only text returns it."""
    return [tuple(None if value is None else _loki_text(value) for value in row) for row in table]
