"""What is asked of the records, without a language: which records, narrowed by what, and what is to be seen of them.

`deploy/dashboards/source.yaml` (panels) and `docs/queries.yaml` (questions) are written in it; a module beside this one for each language
says it in that language. What every language has to keep to:

- conditions are joined by "and"; `!=` and `not in` also hold where the field is absent;
- records are counted only where every field that they are counted by is there;
- a list counts once under each of its values. Loki has no lists: there a list is one value, its parts joined.

Every field is one of `esa_tls.core.fields`, and one that the kind of record has: a wrong one is refused when the source is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from esa_tls.core.fields import FIELDS, Field
from esa_tls.core.records import KINDS

BY_PATH: Mapping[str, Field] = {field.path: field for field in FIELDS}

DAY = "day"
"""Stands among the fields that are counted by: the UTC day of the record."""

Value = str | int | float | bool
Operator = Literal["in", "not in", "exists", "missing", ">", ">=", "<", "<="]


class SourceError(ValueError):
    """The source says something that cannot be. Names it."""


class Condition(msgspec.Struct, frozen=True):
    """One condition on one field. `in` and `not in` have at least one value, comparisons exactly one, the rest none."""

    field: Field
    operator: Operator
    values: tuple[Value, ...] = ()

    @property
    def path(self) -> str:
        """The field's dotted path."""
        return self.field.path

    @property
    def value(self) -> Value:
        """The only value."""
        (value,) = self.values
        return value


class Period(msgspec.Struct, frozen=True):
    """When: whole days before today (`days` of them, `today` not among them), or the last `days` up to now."""

    days: int
    whole: bool = False

    @property
    def words(self) -> str:
        """As the manual says it."""
        if self.whole:
            return "yesterday (UTC)"
        return "the last 24 hours" if self.days == 1 else f"the last {self.days} days"

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """(from, up to but without)."""
        if self.whole:
            today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            return today - timedelta(days=self.days), today
        return now - timedelta(days=self.days), now


PERIODS: Mapping[str, Period] = {
    "yesterday": Period(1, whole=True),
    "1d": Period(1),
    "7d": Period(7),
    "30d": Period(30),
}


class Rows(msgspec.Struct, frozen=True):
    """The records themselves, as a table of these fields behind the time. `oldest`: first, else the newest."""

    columns: tuple[Field, ...]
    limit: int = 100
    oldest: bool = False


class Share(msgspec.Struct, frozen=True):
    """Which part of the records also meets `where`. `hit` and `rest` name the two parts."""

    where: tuple[Condition, ...]
    hit: str
    rest: str
    keep: Literal["all", "some"] | None = None
    """Of the groups: only those where all records do, or some but not all."""


class Counts(msgspec.Struct, frozen=True):
    """How many records, by these fields (none: all of them), the most frequent first; by `DAY` alone: in its order."""

    by: tuple[Field, ...] = ()
    per_day: bool = False
    share: Share | None = None
    limit: int = 20


Answer = Rows | Counts


class Query(msgspec.Struct, frozen=True):
    """Records of these kinds (one, or all but `consolidated` for a story) that meet `where`, and what to show of them."""

    kinds: tuple[str, ...]
    where: tuple[Condition, ...]
    answer: Answer
    period: Period | None = None


# -- as it is written ------------------------------------------------------------------------------------------------------------
class Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename=lambda name: name.removesuffix("_")):
    """The keys that panels and questions share, as they stand in YAML. Exactly one of `rows` and `count` (maybe empty) is given."""

    kind: str | list[str]
    where: list[str] = []
    rows: list[str] | None = None
    order: Literal["newest", "oldest"] = "newest"
    count: list[str] | None = None
    share: list[str] | None = None
    hit: str | None = None
    rest: str | None = None
    keep: Literal["all", "some"] | None = None
    limit: int | None = None
    period: str | None = None


def query_of(written: Written, parameters: Mapping[str, Value] | None = None) -> Query:
    """What is asked. `parameters` are put where `$name` stands. Raises SourceError."""
    kinds = (written.kind,) if isinstance(written.kind, str) else tuple(written.kind)
    if not kinds or set(kinds) - set(KINDS):
        raise SourceError(f"no such kind of record: {', '.join(kinds)}")
    if written.period is not None and written.period not in PERIODS:
        raise SourceError(f"no such period: {written.period}; there are {', '.join(PERIODS)}")
    where = tuple(condition_of(text, kinds, parameters or {}) for text in written.where)
    return Query(kinds, where, _answer(written, kinds, parameters or {}), None if written.period is None else PERIODS[written.period])


def _answer(written: Written, kinds: tuple[str, ...], parameters: Mapping[str, Value]) -> Answer:
    if (written.rows is None) == (written.count is None):
        raise SourceError("it has either `rows` or `count`")
    if written.rows is not None:
        if written.share or written.keep:
            raise SourceError("`share` and `keep` go with `count`")
        columns = tuple(field_of(path, kinds) for path in written.rows)
        return Rows(columns, written.limit or 100, written.order == "oldest")
    paths = written.count or []
    share = None
    if written.share is not None:
        where = tuple(condition_of(text, kinds, parameters) for text in written.share)
        share = Share(where, written.hit or "yes", written.rest or "no", written.keep)
    elif written.keep is not None:
        raise SourceError("`keep` goes with `share`")
    fields = tuple(field_of(path, kinds) for path in paths if path != DAY)
    if DAY in paths and (fields or share):
        raise SourceError("`day` stands alone")
    return Counts(fields, DAY in paths, share, written.limit or 20)


def field_of(path: str, kinds: tuple[str, ...]) -> Field:
    """The field of that path. Raises SourceError if there is none, or none of the kinds has it."""
    field = BY_PATH.get(path)
    if field is None:
        raise SourceError(f"no such field: {path}")
    if not set(kinds) & set(field.kinds):
        raise SourceError(f"no record of the kind {' or '.join(kinds)} has {path}")
    return field


_CONDITION = re.compile(r"(?P<path>[@\w.]+) +(?:(?P<word>exists|missing)|(?P<operator>=|!=|>=|<=|>|<|not in|in) +(?P<values>.+))")


def condition_of(text: str, kinds: tuple[str, ...], parameters: Mapping[str, Value]) -> Condition:
    """`path = value`, `path in a, b`, `path exists`, ... Raises SourceError."""
    found = _CONDITION.fullmatch(text.strip())
    if found is None:
        raise SourceError(f"no condition: {text}")
    field = field_of(found["path"], kinds)
    if field.type == "nested":
        raise SourceError(f"{field.path} holds objects: use the flat fields")
    if found["word"] is not None:
        return Condition(field, "exists" if found["word"] == "exists" else "missing")
    values = tuple(_value(part.strip(), field, parameters) for part in found["values"].split(","))
    operator = found["operator"]
    if operator in (">", ">=", "<", "<="):
        if field.type not in ("long", "float") or len(values) != 1:
            raise SourceError(f"{operator} compares a number with one value: {text}")
        return Condition(field, operator, values)  # type: ignore[arg-type] # the pattern lets nothing else through
    return Condition(field, "in" if operator in ("=", "in") else "not in", values)


def _value(text: str, field: Field, parameters: Mapping[str, Value]) -> Value:
    if text.startswith("$"):
        if text[1:] not in parameters:
            raise SourceError(f"no value is given for {text}")
        return parameters[text[1:]]
    if field.type == "boolean":
        if text not in ("true", "false"):
            raise SourceError(f"{field.path} is true or false, not {text}")
        return text == "true"
    if field.type == "long":
        return int(text)
    return float(text) if field.type == "float" else text


def present(query: Query) -> tuple[Condition, ...]:
    """The conditions with those that say that what is counted by is there."""
    if not isinstance(query.answer, Counts):
        return query.where
    known = {condition.path for condition in query.where if condition.operator in ("in", "exists")}
    return query.where + tuple(Condition(field, "exists") for field in query.answer.by if field.path not in known)
