"""The questions of `docs/queries.yaml`, and the page of the manual that is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import yaml
from tools.boards import esql, logql, logsql, query_dsl, spl
from tools.boards.jsontext import json_text
from tools.boards.kibana_query import kql
from tools.boards.model import Counts, Query, SourceError, Value, Written, query_of

SOURCE = Path(__file__).parents[2] / "docs" / "queries.yaml"


class Question(Written, frozen=True, kw_only=True):
    """One question as it is written. `parameters`: values to show where `$name` stands."""

    id: str
    question: str
    read: str
    parameters: dict[str, Value] = msgspec.field(default_factory=dict)

    @property
    def title(self) -> str:
        """The question with the values to show."""
        text = self.question
        for name, value in self.parameters.items():
            text = text.replace(f"${name}", str(value))
        return text

    def query(self, parameters: Mapping[str, Value] | None = None) -> Query:
        """What is asked, with values to show or with `parameters`. Raises SourceError."""
        try:
            return query_of(self, {**self.parameters, **(parameters or {})})
        except SourceError as error:
            raise SourceError(f"{self.id}: {error}") from None


def questions() -> list[Question]:
    """All of them, in their order. Raises SourceError, msgspec.ValidationError."""
    found = msgspec.convert(yaml.safe_load(SOURCE.read_text(encoding="utf-8")), list[Question])
    twice = {question.id for question in found if [other.id for other in found].count(question.id) > 1}
    if twice:
        raise SourceError(f"twice: {', '.join(sorted(twice))}")
    return found


_HEAD = """\
# Queries

<!-- Made from docs/queries.yaml by `make dashboards`: do not edit. -->

{number} questions that analysts ask of the records, each in the language of the store that has them. The names of the fields are those of
[Records](records.md); [Dashboards](dashboards.md) show much of it at a glance.

Before you copy one:

- **Elasticsearch, OpenSearch**: records are in the data streams `logs-cisco_esa.<kind>-<namespace>`, with the mappings that
  `esa-tls templates` prints. De-duplication by `_id` ends at a rollover: where the same lines were read again after one, a record may be
  there twice; rows collapse on `event.id` (`"collapse": {{"field": "event.id"}}`), counts do not.
- **KQL** is a filter and counts nothing: give it to Discover, and break the result down as the line above it says. OpenSearch Dashboards
  calls it DQL and reads it too. With a period chosen in Discover, leave out the two conditions on `@timestamp`.
- **ES|QL**: a share needs Elasticsearch 8.16 or newer (`COUNT(*) WHERE ...`).
- **OpenSearch** is asked in its query DSL, which Elasticsearch reads as well.
- **LogQL** and **LogsQL**: the period is that of the request, chosen in Grafana or in vmui, or given as `start` and `end`. A counting
  query in LogQL is an instant query, asked for the end of the period, and names its length in brackets. A list is one text there, its
  parts joined: it is counted as a whole.
- **SPL**: `index={index}` stands for your index.
- Times are UTC. `!=` also finds records that do not have the field, unless it says otherwise.

How far they were proven, by tests that run with every change, on records of simulated mail whose truth is known:

| language | proof |
| --- | --- |
| OpenSearch query DSL | run on OpenSearch; the answers are those worked out from the truth |
| LogsQL | run on VictoriaLogs; the answers are those worked out from the truth |
| KQL | read by a parser of ours, turned into the query DSL as Kibana documents it, and run on OpenSearch: the same records |
| ES\\|QL | not run, as no Elasticsearch is at hand: read and worked out by a reader of ours that knows its types and rules: same answers |
| LogQL | not run, as no Loki is at hand: read by Grafana's grammar (`@grafana/lezer-logql`); made from what LogsQL is made from |
| SPL | not run: its commands, names and quoting are checked |
"""


def page(questions_: list[Question]) -> str:
    """`docs/queries.md`."""
    parts = [_HEAD.format(number=_number(len(questions_)), index=spl.INDEX)]
    parts += [_section(number, question) for number, question in enumerate(questions_, 1)]
    return "\n".join(parts)


def _number(number: int) -> str:
    return {20: "Twenty"}.get(number, str(number))


def _section(number: int, question: Question) -> str:
    query = question.query()
    period = f" Period: {query.period.words}." if query.period is not None else ""
    blocks = {language: text for language, text in texts(query).items() if language != "KQL"}
    parts = [
        f"## {number}. {question.title}",
        f"{question.read.strip()}{period}",
        f"**KQL**{_then(query)}\n\n```text\n{kql(query)}\n```",
        *(f"**{language}**\n\n```text\n{text}\n```" for language, text in blocks.items()),
    ]
    return "\n\n".join(parts) + "\n"


def _then(query: Query) -> str:
    if not isinstance(query.answer, Counts):
        return ""
    counts = query.answer
    if counts.per_day:
        return ", counted by day"
    by = " and ".join(f"`{field.path}`" for field in counts.by)
    shared = "" if counts.share is None else f", then by `{' and '.join(condition.path for condition in counts.share.where)}`"
    return f", counted by {by}{shared}" if by else shared


def texts(query: Query) -> dict[str, str]:
    """The query in every language, in the order of the page."""
    body = json_text(query_dsl.body(query))
    return {
        "KQL": kql(query),
        "ES|QL": esql.text(query),
        "OpenSearch": f"POST /{query_dsl.target(query.kinds)}/_search\n{body}",
        "LogQL": logql.text(query),
        "LogsQL": logsql.text(query),
        "SPL": spl.text(query),
    }
