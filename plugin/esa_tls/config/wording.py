"""What msgspec says about a wrong configuration, told in the user's words: the path in the file and the reason."""

from __future__ import annotations

import difflib
import re

from msgspec import inspect

from esa_tls.config.root import Config

YAML_NAMES = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "keys and values",
}


def name_of(value: object) -> str:
    """The type of a value of a YAML file, as msgspec calls it."""
    names = {type(None): "null", bool: "bool", str: "str", int: "int", float: "float", list: "array", dict: "object"}
    return names.get(type(value), type(value).__name__)


def told(message: str, data: object) -> tuple[str, str]:
    """What msgspec says, as (path, reason): `sources[0].listen`, `expected text, got 1`."""
    reason, _, where = message.partition(" - at `$")
    where = where.rstrip("`").removeprefix(".")
    if where.endswith("[...]"):  # msgspec does not say which key of a dict it was
        where = where.removesuffix("[...]")
        entries = _value_at(where, data)
        assert isinstance(entries, dict)
        holder = _type_at(where, data)
        numbers = isinstance(holder, inspect.DictType) and isinstance(_bare(holder.value_type), inspect.IntType)
        where += "." + next((key for key, value in entries.items() if not _may_stand(value, number=numbers)), "?")
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", reason):
        return (f"{where}.{match[1]}" if where else match[1]), f"unknown key; {_hint(match[1], where, data)}"
    if match := re.fullmatch(r"Object missing required field `(.*)`", reason):
        return where, f"needs the key {match[1]!r}"
    value = _value_at(where, data)
    if reason.startswith("Invalid value ") and where.endswith(".type"):
        return where, f"unknown type {value!r}; known are {', '.join(tags(where.partition('[')[0]))}"
    if reason.startswith("Invalid enum value ") and (choices := _choices_at(where, data)):
        return where, f"expected one of {', '.join(choices)}, got {value!r}"
    reason = re.sub(r"`([a-z]+)`", lambda found: YAML_NAMES.get(found[1], found[1]), reason)
    return where, reason[0].lower() + reason[1:]


def _hint(key: str, where: str, data: object) -> str:
    """What an unknown key may have been meant for: the one that looks like it, else the only one that is needed and not there."""
    known = _keys_at(where, data)
    if close := difflib.get_close_matches(key, known, n=1, cutoff=0.65):
        return f"did you mean {close[0]!r}?"
    there = _value_at(where, data)
    missing = [name for name in _keys_at(where, data, required=True) if isinstance(there, dict) and name not in there]
    return f"did you mean {missing[0]!r}, which is missing?" if len(missing) == 1 else f"known are {', '.join(known)}"


def _may_stand(value: object, *, number: bool) -> bool:
    """Whether a value of a dict of numbers (from 1), or of texts, may be what it is."""
    if number:
        return isinstance(value, int) and not isinstance(value, bool) and value > 0
    return isinstance(value, str | dict)


def _steps(where: str) -> list[str | int]:
    return [int(part[1:-1]) if part[0] == "[" else part for part in re.findall(r"\[\d+\]|[^.\[\]]+", where)]


def _value_at(where: str, data: object) -> object:
    for step in _steps(where):
        if isinstance(step, int):
            data = data[step] if isinstance(data, list) and step < len(data) else None
        else:
            data = data.get(step) if isinstance(data, dict) else None
    return data


def _type_at(where: str, data: object) -> inspect.Type:
    """The declared type at a path; of a union the struct that `data` names by its `type`."""
    found: inspect.Type = inspect.type_info(Config)
    for step in _steps(where):
        found = _bare(found, data)
        if isinstance(found, inspect.ListType) and isinstance(step, int):
            found = found.item_type
        elif isinstance(found, inspect.StructType):
            found = next((field.type for field in found.fields if field.encode_name == step), inspect.AnyType())
        data = _value_at(f"[{step}]" if isinstance(step, int) else step, data)
    return _bare(found, data)


def _bare(found: inspect.Type, data: object = None) -> inspect.Type:
    """A type without its description, and of a union the part that is meant."""
    while isinstance(found, inspect.Metadata):
        found = found.type
    if isinstance(found, inspect.UnionType):
        parts = [_bare(part) for part in found.types if not isinstance(_bare(part), inspect.NoneType)]
        tag = data.get("type") if isinstance(data, dict) else None
        tagged = [part for part in parts if isinstance(part, inspect.StructType) and part.tag == tag]
        structs = [part for part in parts if isinstance(part, inspect.StructType)] if isinstance(data, dict) else []
        return (tagged or structs or parts)[0]
    return found


def _keys_at(where: str, data: object, *, required: bool = False) -> list[str]:
    """The keys that may stand at a path; `required`: those that have to."""
    found = _type_at(where, data)
    if not isinstance(found, inspect.StructType):
        return []
    return ([found.tag_field] if found.tag_field else []) + [field.encode_name for field in found.fields if field.required or not required]


def tags(list_name: str) -> list[str]:
    """The values that `type` may have in `sources` or `sinks`."""
    return [str(part.tag) for part in variants(list_name)]


def _choices_at(where: str, data: object) -> list[str]:
    found = _type_at(where, data)
    return [str(choice) for choice in found.values] if isinstance(found, inspect.LiteralType) else []


def variants(list_name: str) -> list[inspect.StructType]:
    """The types of entries that `sources` or `sinks` may have."""
    root = inspect.type_info(Config)
    assert isinstance(root, inspect.StructType)
    found = _bare(next(field.type for field in root.fields if field.encode_name == list_name))
    assert isinstance(found, inspect.ListType)
    parts = found.item_type.types if isinstance(found.item_type, inspect.UnionType) else (found.item_type,)
    return [part for part in parts if isinstance(part, inspect.StructType)]
