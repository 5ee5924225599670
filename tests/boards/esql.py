"""A reader of ES|QL as far as our queries use it: it knows each column and its type, and works a query out by the documented rules.

No Elasticsearch can be run here, and no parser of its own may be used. What Elasticsearch refuses is refused: commands, columns and
functions that there are not, comparisons of types that do not go together. Its rules that bite: a comparison with null or with several
values is null, null is not true, `BY` counts a list under each of its values, rows come in no order but that of `SORT`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from tools.boards.model import BY_PATH

Row = dict[str, Any]
Node = tuple[Any, ...]

_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<number>\d+(?:\.\d+)?)|(?P<sign>==|!=|>=|<=|[<>=+\-*/(),])|(?P<name>@?[A-Za-z_][\w.]*))"""
)
_UNITS = {"day": timedelta(days=1), "days": timedelta(days=1), "hour": timedelta(hours=1), "hours": timedelta(hours=1)}
_TEXTS = ("keyword", "text", "ip")
_NUMBERS = ("long", "float")
_RESERVED = ("and", "or", "not", "is", "in", "null", "true", "false", "by", "where", "asc", "desc")


class EsqlError(ValueError):
    """Elasticsearch would refuse it, or it is beyond this reader."""


def run(text: str, records: Iterable[Row], now: datetime) -> list[Row]:
    """The rows of a query on records by dotted paths; times are `datetime`. Raises EsqlError."""
    first, *commands = re.split(r"\n\| ", text)
    found = re.fullmatch(r"FROM ((?:logs-cisco_esa\.\w+-\*)(?:,logs-cisco_esa\.\w+-\*)*)", first)
    if found is None:
        raise EsqlError(f"no such source: {first}")
    kinds = re.findall(r"cisco_esa\.(\w+)-", found[1])
    types: dict[str, str] = {path: field.type for path, field in BY_PATH.items() if set(field.kinds) & set(kinds)}
    rows = [
        {**record, "@timestamp": datetime.fromisoformat(record["@timestamp"])} for record in records if record["cisco_esa.record"] in kinds
    ]
    for command in commands:
        name, _, rest = command.partition(" ")
        if name not in _COMMANDS:
            raise EsqlError(f"no such command: {name}")
        reader = _Reader(rest, types, now)
        rows, types = _COMMANDS[name](reader, rows)
        if reader.tokens:
            raise EsqlError(f"{reader.tokens[0][1]!r} stands too much in: {command}")
    return rows[:1000]


class _Reader:
    """Tokens of one command, the columns there are, and expressions made of both."""

    def __init__(self, text: str, types: dict[str, str], now: datetime) -> None:
        self.types = types
        self.now = now
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None or found.lastgroup is None:
                raise EsqlError(f"cannot be read: {text[at:]}")
            self.tokens.append((found.lastgroup, found[found.lastgroup]))
            at = found.end()

    def next_is(self, *texts: str) -> bool:
        heads = [text.lower() for kind, text in self.tokens[: len(texts)] if kind != "string"]
        return heads == list(texts)

    def skip(self, *texts: str) -> bool:
        """Whether these come next; then they are taken."""
        there = self.next_is(*texts)
        if there:
            del self.tokens[: len(texts)]
        return there

    def take(self, kind: str) -> str:
        if not self.tokens or self.tokens[0][0] != kind:
            raise EsqlError(f"a {kind} is missing before {self.tokens[:1]}")
        return self.tokens.pop(0)[1]

    def expect(self, text: str) -> None:
        if not self.skip(text):
            raise EsqlError(f"{text!r} is missing before {self.tokens[:1]}")

    def column(self) -> str:
        name = self.take("name")
        if name not in self.types or name.lower() in _RESERVED:
            raise EsqlError(f"no such column: {name}")
        return name

    def several(self, read: Callable[[], Any]) -> list[Any]:
        found = [read()]
        while self.skip(","):
            found.append(read())
        return found

    # -- expressions: (type, what it is of a row) ----------------------------------------------------------------------------
    def boolean(self) -> Callable[[Row], bool | None]:
        kind, value = self.expression()
        if kind != "boolean":
            raise EsqlError(f"a condition is boolean, not {kind}")
        return value

    def expression(self) -> tuple[str, Callable[[Row], Any]]:
        kind, value = self._conjunction()
        while self.skip("or"):
            kind, value = _logic(kind, value, *self._conjunction(), decides=True)
        return kind, value

    def _conjunction(self) -> tuple[str, Callable[[Row], Any]]:
        kind, value = self._negation()
        while self.skip("and"):
            kind, value = _logic(kind, value, *self._negation(), decides=False)
        return kind, value

    def _negation(self) -> tuple[str, Callable[[Row], Any]]:
        if not self.skip("not"):
            return self._comparison()
        kind, value = self._negation()
        if kind != "boolean":
            raise EsqlError(f"NOT of {kind}")
        return kind, lambda row: None if (found := value(row)) is None else not found

    def _comparison(self) -> tuple[str, Callable[[Row], Any]]:
        kind, value = self._sum()
        if self.skip("is"):
            wanted = not self.skip("not")
            self.expect("null")
            return "boolean", lambda row: (value(row) is None) is wanted
        if self.skip("in"):
            self.expect("(")
            listed = self.several(self._sum)
            self.expect(")")
            for other, _ in listed:
                _comparable(kind, other, "==")
            return "boolean", lambda row: _one(value(row), lambda found: found in [item(row) for _, item in listed])
        for sign, compare in _COMPARES.items():
            if self.skip(sign):
                other, right = self._sum()
                _comparable(kind, other, sign)
                return "boolean", _compared(value, right, compare)
        return kind, value

    def _sum(self) -> tuple[str, Callable[[Row], Any]]:
        kind, value = self._product()
        while self.next_is("+") or self.next_is("-"):
            sign = 1 if self.take("sign") == "+" else -1
            other, right = self._product()
            if (kind, other) != ("date", "duration") and not {kind, other} <= {*_NUMBERS}:
                raise EsqlError(f"{kind} and {other} have no sum")
            value = _both(value, right, lambda one, two, sign=sign: one + sign * two)
        return kind, value

    def _product(self) -> tuple[str, Callable[[Row], Any]]:
        kind, value = self._primary()
        while self.next_is("*") or self.next_is("/"):
            sign = self.take("sign")
            other, right = self._primary()
            if not {kind, other} <= {*_NUMBERS}:
                raise EsqlError(f"{kind} {sign} {other}")
            whole = {kind, other} == {"long"}
            kind = "long" if whole else "float"
            value = _both(value, right, (lambda one, two: one * two) if sign == "*" else _divided(whole=whole))
        return kind, value

    def _primary(self) -> tuple[str, Callable[[Row], Any]]:
        if self.skip("("):
            inner = self.expression()
            self.expect(")")
            return inner
        if self.tokens and self.tokens[0][0] == "string":
            text = re.sub(r"\\(.)", r"\1", self.take("string")[1:-1])
            return "keyword", lambda _row: text
        if self.tokens and self.tokens[0][0] == "number":
            number = self.take("number")
            if self.tokens and self.tokens[0][0] == "name" and self.tokens[0][1] in _UNITS:
                duration = int(number) * _UNITS[self.take("name")]
                return "duration", lambda _row: duration
            exact = float(number) if "." in number else int(number)
            return ("float" if "." in number else "long"), lambda _row: exact
        for word in ("true", "false"):
            if self.skip(word):
                return "boolean", lambda _row, word=word: word == "true"
        if len(self.tokens) > 1 and self.tokens[1] == ("sign", "("):
            return self._function(self.take("name"))
        name = self.column()
        return self.types[name], lambda row: row.get(name)

    def _function(self, name: str) -> tuple[str, Callable[[Row], Any]]:
        self.expect("(")
        arguments = [] if self.next_is(")") else self.several(self.expression)
        self.expect(")")
        kinds = [kind for kind, _ in arguments]
        match name, kinds:
            case "NOW", []:
                return "date", lambda _row: self.now
            case "DATE_TRUNC", ["duration", "date"]:
                step, value = arguments[0][1], arguments[1][1]
                if step({}) != timedelta(days=1):
                    raise EsqlError("only days are cut off here")
                return "date", lambda row: value(row).replace(hour=0, minute=0, second=0, microsecond=0)
            case "ROUND", ["float" | "long", "long"]:
                number, digits = arguments[0][1], arguments[1][1]
                return kinds[0], lambda row: None if (found := number(row)) is None else round(found, digits(row))
        raise EsqlError(f"no such function: {name}({', '.join(kinds)})")


# -- commands --------------------------------------------------------------------------------------------------------------------
Result = tuple[list[Row], dict[str, str]]


def _where(reader: _Reader, rows: list[Row]) -> Result:
    holds = reader.boolean()
    return [row for row in rows if holds(row) is True], reader.types


def _eval(reader: _Reader, rows: list[Row]) -> Result:
    name = reader.take("name")
    reader.expect("=")
    kind, value = reader.expression()
    return [{**row, name: value(row)} for row in rows], {**reader.types, name: kind}


def _keep(reader: _Reader, rows: list[Row]) -> Result:
    names = reader.several(reader.column)
    return [{name: row.get(name) for name in names} for row in rows], {name: reader.types[name] for name in names}


def _limit(reader: _Reader, rows: list[Row]) -> Result:
    return rows[: int(reader.take("number"))], reader.types


def _sort(reader: _Reader, rows: list[Row]) -> Result:
    def item() -> tuple[str, bool]:
        name = reader.column()
        down = reader.skip("desc")
        if not down:
            reader.skip("asc")
        return name, down

    for name, down in reversed(reader.several(item)):
        if BY_PATH[name].many if name in BY_PATH else False:
            raise EsqlError(f"{name} has several values: no order")
        rows = sorted(rows, key=lambda row: row[name], reverse=down)
    return rows, reader.types


def _stats(reader: _Reader, rows: list[Row]) -> Result:
    def aggregate() -> tuple[str, Callable[[Row], bool | None]]:
        name = reader.take("name")
        for text in ("=", "count", "(", "*", ")"):
            reader.expect(text)
        return name, reader.boolean() if reader.skip("where") else lambda _row: True

    def group() -> tuple[str, str, Callable[[Row], Any]]:
        if len(reader.tokens) > 1 and reader.tokens[1] == ("sign", "="):
            name = reader.take("name")
            reader.expect("=")
            return (name, *reader.expression())
        name = reader.column()
        return name, reader.types[name], lambda row: row.get(name)

    counted = reader.several(aggregate)
    groups = reader.several(group) if reader.skip("by") else []
    found: dict[tuple[Any, ...], dict[str, int]] = {} if groups else {(): dict.fromkeys((name for name, _ in counted), 0)}
    for row in rows:
        for key in _keys([value(row) for _, _, value in groups]):
            numbers = found.setdefault(key, dict.fromkeys((name for name, _ in counted), 0))
            for name, holds in counted:
                numbers[name] += holds(row) is True
    names = [name for name, _, _ in groups]
    types = {name: "long" for name, _ in counted} | {name: kind for name, kind, _ in groups}
    return [{**numbers, **dict(zip(names, key, strict=True))} for key, numbers in found.items()], types


def _keys(values: list[Any]) -> Iterator[tuple[Any, ...]]:
    if not values:
        yield ()
        return
    first = values[0] if isinstance(values[0], list) else [values[0]]
    for value in first:
        for rest in _keys(values[1:]):
            yield (value, *rest)


_COMMANDS: dict[str, Callable[[_Reader, list[Row]], Result]] = {
    "WHERE": _where,
    "EVAL": _eval,
    "KEEP": _keep,
    "LIMIT": _limit,
    "SORT": _sort,
    "STATS": _stats,
}


# -- null, and several values ----------------------------------------------------------------------------------------------------
_COMPARES: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda one, two: one == two,
    "!=": lambda one, two: one != two,
    ">=": lambda one, two: one >= two,
    "<=": lambda one, two: one <= two,
    ">": lambda one, two: one > two,
    "<": lambda one, two: one < two,
}


def _comparable(one: str, two: str, sign: str) -> None:
    same = one == two or {one, two} <= {*_TEXTS} or {one, two} <= {*_NUMBERS}
    if not same or (one == "boolean" and sign not in ("==", "!=")):
        raise EsqlError(f"{one} {sign} {two}")


def _one(value: Any, of: Callable[[Any], Any]) -> Any:
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    return None if value is None else of(value)


def _both(one: Callable[[Row], Any], two: Callable[[Row], Any], of: Callable[..., Any]) -> Callable[[Row], Any]:
    return lambda row: _one(one(row), lambda left: _one(two(row), lambda right: of(left, right)))


_compared = _both


def _divided(*, whole: bool) -> Callable[[Any, Any], Any]:
    return lambda one, two: None if two == 0 else one // two if whole else one / two


def _logic(
    kind: str, one: Callable[[Row], Any], other: str, two: Callable[[Row], Any], *, decides: bool
) -> tuple[str, Callable[[Row], Any]]:
    """AND (`decides` False) and OR (True) of three values."""
    if (kind, other) != ("boolean", "boolean"):
        raise EsqlError(f"AND or OR of {kind} and {other}")

    def value(row: Row) -> bool | None:
        left, right = one(row), two(row)
        if decides in (left, right):
            return decides
        return None if None in (left, right) else not decides

    return "boolean", value
