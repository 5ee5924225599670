"""A check of SPL as far as our queries use it: commands, functions, quoting, and names of fields as Splunk makes them of our JSON.

Nothing is worked out, and no Splunk is asked. What is refused: a command or function that is none of those below, a name with a dot in
`eval` that is not in single quotes (Splunk would join two texts), a list without its `{}`, a field that records do not have.
"""

from __future__ import annotations

import re

from tools.boards.model import BY_PATH
from tools.boards.spl import name

_NAMES = {name(field) for field in BY_PATH.values() if field.type != "nested"}
_EVAL_TOKEN = re.compile(
    r"\s*(?:(?P<field>'[^']+')|(?P<string>\"(?:[^\"\\]|\\.)*\")|(?P<number>\d+(?:\.\d+)?)|(?P<word>[A-Za-z_]\w*)|(?P<sign>[=<>!]=?|[*/+,()-]))"
)
_FUNCTIONS = ("count", "eval", "in", "isnull", "isnotnull", "round")
_TEXT = r"\"(?:[^\"\\]|\\.)*\""
_TERM = re.compile(
    r"\s*(?:NOT )?(?:(?P<time>earliest|latest)=(?P<when>[-+@\w]+)|index=\w+"
    rf"|(?P<field>\"[^\"]+\"|[@\w.]+)(?: IN \((?:{_TEXT}(?:, )?)+\)|[=<>]=?(?:{_TEXT}|\*|[\w.-]+)))"
)


class SplError(ValueError):
    """Splunk would refuse it, or take it for something else."""


def check(text: str) -> None:
    """Raises SplError."""
    first, *commands = text.split("\n| ")
    made: set[str] = set()
    _search(first)
    for command in commands:
        word, _, rest = command.partition(" ")
        if word == "stats":
            made |= _stats(rest)
        elif word == "timechart":
            if re.fullmatch(r"span=1d count AS (\w+)", rest) is None:
                raise SplError(f"timechart {rest}")
        elif word == "sort":
            _sort(rest, made)
        elif word == "table":
            for found in re.findall(r'"[^"]+"|\S+', rest):
                _field(found, made)
        elif word == "where":
            _expression(rest, made)
        elif word == "eval":
            target, sign, value = rest.partition("=")
            if not sign:
                raise SplError(f"eval {rest}")
            _expression(value, made)
            made.add(target)
        else:
            raise SplError(f"no such command: {word}")


def _search(text: str) -> None:
    at = 0
    while text[at:].strip():
        found = _TERM.match(text, at)
        if found is None:
            raise SplError(f"no search: {text[at:]}")
        if found["field"] is not None:
            _field(found["field"], set())
        if found["time"] and re.fullmatch(r"-\d+d(@d)?|@d", found["when"]) is None:
            raise SplError(f"no time: {found['when']}")
        at = found.end()


def _stats(text: str) -> set[str]:
    counted, _, by = text.partition(" BY ")
    for found in re.findall(r'"[^"]+"|\S+', by):
        _field(found, set())
    made: set[str] = set()
    while counted:
        found_count = re.match(r"count(?:\(eval\((?P<eval>.*?)\)\))? AS (?P<name>\w+)(?: |$)", counted)
        if found_count is None:
            raise SplError(f"stats {counted}")
        if found_count["eval"] is not None:
            _expression(found_count["eval"], made)
        made.add(found_count["name"])
        counted = counted[found_count.end() :]
    return made


def _sort(text: str, made: set[str]) -> None:
    number, *fields = text.split()
    if not number.isdigit() or not fields:
        raise SplError(f"sort {text}")
    for field in fields:
        _field(field.removeprefix("-"), made)


def _field(text: str, made: set[str]) -> None:
    bare = text.strip('"')
    if text != f'"{bare}"' and "{" in text:
        raise SplError(f"a name with braces stands in quotes: {text}")
    if bare not in _NAMES | made | {"_time", "event.sequence"}:
        raise SplError(f"no such field: {bare}")


def _expression(text: str, made: set[str]) -> None:
    at, depth = 0, 0
    while text[at:].strip():
        found = _EVAL_TOKEN.match(text, at)
        if found is None:
            raise SplError(f"no expression: {text[at:]}")
        if found["field"] is not None and found["field"].strip("'") not in _NAMES:
            raise SplError(f"no such field: {found['field']}")
        word, rest = found["word"], text[found.end() :]
        if word is not None and word not in (*made, "AND", "OR", "NOT") and not (word in _FUNCTIONS and rest.startswith("(")):
            raise SplError(f"{word} is no function, and a name with a dot stands in single quotes: {text}")
        depth += {"(": 1, ")": -1}.get(found["sign"] or "", 0)
        if depth < 0:
            raise SplError(f"a bracket too much: {text}")
        at = found.end()
    if depth:
        raise SplError(f"a bracket is open: {text}")
