"""From a YAML file to a `Config`: nothing unknown, nothing said twice, secrets put in, and one sentence about what is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import yaml

from esa_tls.config.conflicts import conflicts, wrong_require_tls
from esa_tls.config.parts import VARIABLE, Secret
from esa_tls.config.require_tls import RequireTls
from esa_tls.config.root import Config
from esa_tls.config.wording import YAML_NAMES, name_of, tags, told
from esa_tls.errors import ConfigError


def load(path: Path | None, *, environment: Mapping[str, str] = os.environ) -> Config:
    """The configuration in the YAML file `path`; without one the defaults.

    Raises:
        ConfigError: with one sentence that names the file, the path inside it and the reason.
    """
    if path is None:
        return Config()
    try:
        text = path.read_bytes()
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror or error}"
        raise ConfigError(message) from error
    return parse(text, file=str(path), environment=environment)


def parse(text: bytes | str, *, file: str, environment: Mapping[str, str] = os.environ) -> Config:
    """`load` for a text already read; `file` is its name in errors."""
    try:
        data = _yaml(text)
        config = _convert({} if data is None else data, environment)
        for where, reason in conflicts(config):
            raise _Refused(where, reason)  # noqa: TRY301 (the first of them, told the same way as a wrong type)
    except _Refused as refused:
        message = f"{file}: {refused.where}: {refused.reason}" if refused.where else f"{file}: {refused.reason}"
        raise ConfigError(message) from refused
    if config.require_tls is not None and config.require_tls.file is not None:
        more = load_require_tls(Path(config.require_tls.file))
        both = config.require_tls.merged_with(more)
        for where, reason in wrong_require_tls(both):
            raise ConfigError(f"{file}: require_tls together with its file: {where}: {reason}")
        config = msgspec.structs.replace(config, require_tls=both)
    return config


def load_require_tls(path: Path) -> RequireTls:
    """The lists in a YAML file of their own: the keys of `require_tls` but `file`.

    Raises:
        ConfigError: with one sentence that names the file, the path inside it and the reason.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        data = _yaml(text)
        lists = msgspec.convert({} if data is None else data, RequireTls)
        if lists.file is not None:
            raise _Refused("file", "a file of lists names no other")  # noqa: TRY301 (told like a wrong type)
        for where, reason in wrong_require_tls(lists):
            raise _Refused(where, reason)  # noqa: TRY301
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error
    except _Refused as refused:
        raise ConfigError(f"{path}: {refused.where}: {refused.reason}") from refused
    return lists


class _Refused(Exception):
    def __init__(self, where: str, reason: str) -> None:
        super().__init__(where, reason)
        self.where = where
        self.reason = reason


class _UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word; here they are an error, and so are keys that are no text."""


def _unique_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[str, object]:
    found: dict[str, object] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        line = key_node.start_mark.line + 1
        if not isinstance(key, str):
            raise _Refused(f"line {line}", f"key {key!r} is no text; put it in quotes")
        if key in found:
            raise _Refused(f"line {line}", f"key {key!r} stands twice in one place")
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_UniqueKeyLoader.add_constructor("tag:yaml.org,2002:map", _unique_mapping)


def _yaml(text: bytes | str) -> object:
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise _Refused(f"line {mark.line + 1}" if mark else "", f"no valid YAML: {error.problem or error.context}") from error
    except RecursionError as error:
        raise _Refused("", "nested too deep") from error
    except (yaml.YAMLError, UnicodeError) as error:
        raise _Refused("", f"no valid YAML: {' '.join(str(error).split())}") from error


def _convert(data: object, environment: Mapping[str, str]) -> Config:
    if not isinstance(data, dict):
        raise _Refused("", f"expected keys and values, got {YAML_NAMES.get(name_of(data), name_of(data))}")
    for list_name in ("sources", "sinks"):
        entries = data.get(list_name)
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, dict) and "type" not in entry:
                raise _Refused(f"{list_name}[{index}]", f"needs a `type`: one of {', '.join(tags(list_name))}")
    problems: list[tuple[object, str]] = []  # the value as it stands in `data`, and what is wrong with it

    def to_secret(wanted: type, value: object) -> object:
        if wanted is not Secret:
            message = f"cannot read {wanted!r}"
            raise NotImplementedError(message)
        try:
            return Secret(_secret_text(value, environment))
        except LookupError as error:
            problems.append((value, str(error.args[0])))
            return Secret("")

    try:
        config = msgspec.convert(data, Config, dec_hook=to_secret)
    except msgspec.ValidationError as error:
        where, reason = told(str(error), data)
        raise _Refused(where, reason) from error
    for value, reason in problems:
        raise _Refused(_path_of(data, value), reason)
    return config


def _secret_text(value: object, environment: Mapping[str, str]) -> str:
    """The text of a secret as it stands in the file. Raises LookupError with a reason, ValueError for a wrong type."""
    if isinstance(value, dict) and value.keys() == {"file"} and isinstance(value["file"], str):
        return _file_text(value["file"])
    if not isinstance(value, str):
        message = f"Expected `str`, got `{name_of(value)}`"
        raise ValueError(message)  # noqa: TRY004 (msgspec adds the path to a ValueError)

    def replaced(match: re.Match[str]) -> str:
        if match["file"] is not None:
            return _file_text(match["file"])
        if match["name"] not in environment:
            raise LookupError(f"environment variable {match['name']!r} is not set")
        return environment[match["name"]]

    return VARIABLE.sub(replaced, value)


def _file_text(path: str) -> str:
    """A secret file's content without the line end that editors leave. Raises LookupError."""
    try:
        with open(path, encoding="utf-8", newline="") as file:  # noqa: PTH123 (no Path at run time here)
            text = file.read(_MAX_SECRET_CHARS + 1)
    except OSError as error:
        raise LookupError(f"secret file {path!r} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise LookupError(f"secret file {path!r} is no UTF-8 text") from error
    text = text.removesuffix("\n").removesuffix("\r")
    if not text or len(text) > _MAX_SECRET_CHARS:
        raise LookupError(f"secret file {path!r} is {'empty' if not text else f'longer than {_MAX_SECRET_CHARS} characters'}")
    return text


_MAX_SECRET_CHARS = 65_536


def _path_of(data: object, value: object, where: str = "") -> str:
    """Where this very object stands in `data`, for an error that msgspec did not find."""
    if data is value:
        return where
    if isinstance(data, dict):
        for key, part in data.items():
            if found := _path_of(part, value, f"{where}.{key}" if where else key):
                return found
    elif isinstance(data, list):
        for index, part in enumerate(data):
            if found := _path_of(part, value, f"{where}[{index}]"):
                return found
    return ""
