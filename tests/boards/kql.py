"""A reader of KQL, and the query DSL that Kibana's manual says it stands for. No parser of Kibana's own may be used here.

`field : "text"` is a phrase, `field : word` a match, `field : *` says that the field exists, `(a or b)` behind a field are values for it;
`not` binds closest, then `and`, then `or`. Every field must be one of ours.
"""

from __future__ import annotations

import re
from typing import Any

from tools.boards.model import BY_PATH

_TOKEN = re.compile(r'\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<sign>[()]|>=|<=|[:<>])|(?P<word>[^\s():<>"]+))')
_RANGES = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}


class KqlError(ValueError):
    """It is no KQL, or names no field of ours."""


def dsl(text: str) -> dict[str, Any]:
    """The query. Raises KqlError."""
    reader = _Reader(text)
    query = reader.any_of()
    if reader.tokens:
        raise KqlError(f"{reader.tokens[0][1]!r} stands too much: {text}")
    return query


class _Reader:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None or found.lastgroup is None:
                raise KqlError(f"cannot be read: {text[at:]}")
            self.tokens.append((found.lastgroup, found[found.lastgroup]))
            at = found.end()

    def next_is(self, text: str) -> bool:
        return bool(self.tokens) and self.tokens[0][0] != "string" and self.tokens[0][1].lower() == text

    def take(self) -> tuple[str, str]:
        if not self.tokens:
            raise KqlError("it ends too early")
        return self.tokens.pop(0)

    def expect(self, text: str) -> None:
        if not self.next_is(text):
            raise KqlError(f"{text!r} is missing before {self.tokens[:1]}")
        self.take()

    def any_of(self) -> dict[str, Any]:
        parts = [self.all_of()]
        while self.next_is("or"):
            self.take()
            parts.append(self.all_of())
        return parts[0] if len(parts) == 1 else {"bool": {"should": parts, "minimum_should_match": 1}}

    def all_of(self) -> dict[str, Any]:
        parts = [self.one()]
        while self.next_is("and"):
            self.take()
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else {"bool": {"filter": parts}}

    def one(self) -> dict[str, Any]:
        if self.next_is("not"):
            self.take()
            return {"bool": {"must_not": self.one()}}
        if self.next_is("("):
            self.take()
            query = self.any_of()
            self.expect(")")
            return query
        kind, field = self.take()
        if kind != "word" or field not in BY_PATH:
            raise KqlError(f"no field of ours: {field}")
        kind, sign = self.take()
        if kind == "sign" and sign in _RANGES:
            return {"range": {field: {_RANGES[sign]: self.value()[1]}}}
        if (kind, sign) != ("sign", ":"):
            raise KqlError(f"{sign!r} behind {field}")
        return self.values(field)

    def values(self, field: str) -> dict[str, Any]:
        if not self.next_is("("):
            return self.match(field)
        self.take()
        parts = [self.match(field)]
        while self.next_is("or"):
            self.take()
            parts.append(self.match(field))
        self.expect(")")
        return {"bool": {"should": parts, "minimum_should_match": 1}}

    def value(self) -> tuple[str, str]:
        kind, text = self.take()
        if kind == "string":
            return kind, re.sub(r"\\(.)", r"\1", text[1:-1])
        if kind != "word" or text.lower() in ("and", "or", "not"):
            raise KqlError(f"no value: {text}")
        return kind, text

    def match(self, field: str) -> dict[str, Any]:
        kind, text = self.value()
        if kind == "word" and text == "*":
            return {"exists": {"field": field}}
        if kind == "word" and "*" in text:
            raise KqlError("wildcards are not read here")
        return {"match_phrase" if kind == "string" else "match": {field: text}}
