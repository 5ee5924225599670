"""LogQL (Loki).

Records are streams with the labels `service_name`, `appliance` and `kind`; every other field is structured metadata, its dots turned into
`_`, all values text, and a list one text: its JSON. Absent metadata is the empty text. A raw line is the entry itself.

The period is that of the request; only a counting query names one, in brackets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tools.boards.kibana_query import quoted
from tools.boards.model import Condition, Counts, Query, Rows, Value, present

from esa_tls.core.fields import Field

SERVICE = "esa-tls"

_LABELS = {"cisco_esa.appliance": "appliance", "cisco_esa.record": "kind"}
"""Fields that are labels, which every record has."""


def text(query: Query, range_: str | None = None, *matchers: str) -> str:
    """The whole query. `range_`: of a counting query, in place of the query's period. `matchers` are put into the selector."""
    if isinstance(query.answer, Rows):
        return " | ".join([_records(query, matchers), f"keep {', '.join(columns(query.answer))}"])
    if range_ is None:
        range_ = "1d" if query.answer.per_day else "24h" if query.period is None else f"{query.period.days * 24}h"
    return _counts(query, query.answer, range_, matchers)


def log_lines(query: Query, *matchers: str) -> str:
    """The records themselves with all their metadata: for a panel that picks its columns."""
    assert isinstance(query.answer, Rows)
    return _records(query, matchers) + _plain_lists(query.answer.columns)


def over_time(query: Query, range_: str, *matchers: str) -> str:
    """Counts in steps, a series for each group."""
    assert isinstance(query.answer, Counts)
    return _sum(query, query.answer.by, (), range_, matchers)


def _records(query: Query, matchers: Sequence[str], more: Sequence[Condition] = ()) -> str:
    kinds = quoted(query.kinds[0]) if len(query.kinds) == 1 else quoted("|".join(query.kinds))
    kind = f"kind={kinds}" if len(query.kinds) == 1 else f"kind=~{kinds}"
    conditions = [*present(query), *more]
    labels = [_filter(condition) for condition in conditions if condition.path in _LABELS and condition.operator != "exists"]
    selector = "{" + ", ".join([f'service_name="{SERVICE}"', kind, *labels, *matchers]) + "}"
    return " | ".join([selector, *(_filter(condition) for condition in conditions if condition.path not in _LABELS)])


def _counts(query: Query, counts: Counts, range_: str, matchers: Sequence[str]) -> str:
    total = _sum(query, counts.by, (), range_, matchers)
    if counts.share is None:
        return f"topk({counts.limit}, {total})" if counts.by else total
    hits = _sum(query, counts.by, counts.share.where, range_, matchers)
    # A group without a hit has no number at all: where it shall be seen, 0 takes its place.
    match counts.share.keep:
        case "all":
            return f"{hits}\n  / {total}\n  == 1"
        case "some":
            return f"{hits}\n  / {total}\n  < 1"
        case _:
            return f"({hits}\n  or {total} * 0)\n  / {total}"


def _sum(query: Query, by: Sequence[Field], more: Sequence[Condition], range_: str, matchers: Sequence[str]) -> str:
    names = ", ".join(name(field) for field in by)
    records = _records(query, matchers, more)
    # Metadata becomes labels of the result: without `keep` each record would be a series of its own.
    keep = f" | keep {names}" if by else " | keep service_name"
    return f"sum{f' by ({names})' if by else ''} (count_over_time({records}{_plain_lists(by)}{keep} [{range_}]))"


def _plain_lists(fields: Sequence[Field]) -> str:
    return "".join(f" | label_format {name(field)}={_PLAIN % name(field)}" for field in fields if field.many)


_PLAIN = r"""`{{ regexReplaceAll "[\\[\\]\"]" .%s "" }}`"""
"""The values of a list, without the signs of JSON around them."""


def columns(rows: Rows) -> list[str]:
    """Metadata and labels of a table; the line itself is there anyhow."""
    return [name(field) for field in rows.columns if field.path != "event.original"]


def name(field: Field) -> str:
    """The field's name in Loki: the label that has it, else its metadata."""
    return _LABELS.get(field.path, flat(field.path))


def flat(path: str) -> str:
    """A path as the name of metadata."""
    return re.sub(r"[^A-Za-z0-9_]", "_", path)


def _filter(condition: Condition) -> str:
    metadata = name(condition.field)
    match condition.operator:
        case "exists":
            return f'{metadata}!=""'
        case "missing":
            return f'{metadata}=""'
        case "in" if len(condition.values) == 1:
            return f"{metadata}={_text(condition.value)}"
        case "not in" if len(condition.values) == 1:
            return f"{metadata}!={_text(condition.value)}"
        case "in" | "not in":
            sign = "=~" if condition.operator == "in" else "!~"
            return f"{metadata}{sign}{quoted('|'.join(re.escape(_plain(value)) for value in condition.values))}"
        case operator:
            return f"{metadata}{operator}{condition.value}"


def _plain(value: Value) -> str:
    return quoted(value) if isinstance(value, bool) else str(value)


def _text(value: Value) -> str:
    return quoted(_plain(value))
