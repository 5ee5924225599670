"""Index and component templates for Elasticsearch 8/9 and OpenSearch 2/3, and a lifecycle policy (docs/wires.md 3.3, 3.4).

One index template for each kind of records, `logs-cisco_esa.{kind}`, for the data streams `logs-cisco_esa.{kind}-*`. It is composed of

`cisco-esa@settings`          compression, index mode, lifecycle, shards
`cisco-esa@mappings`          fields that all kinds have, and constants (`wire/constants.py`) as `constant_keyword`
`cisco-esa.{kind}@mappings`   fields of the kind, and its `event.dataset`
`cisco-esa@custom`            nothing: it is made once, empty, and belongs to the administrator, whose settings and mappings win

Both products take the same but for the lifecycle (ILM, or the data stream's own; ISM) and the index mode: `logsdb` from Elasticsearch 8.17
on, which sorts by `host.name` and `@timestamp` and sorts indices with nested fields too. OpenSearch has no such mode and refuses to sort
indices with nested fields before 3.2, and older Elasticsearch does as well: there nothing is sorted.

Nothing of what Elasticsearch has built in (`logs@settings`, `ecs@mappings`) is used: it may be switched off, and every field has its type
here. Fields that are not in the table are kept and not indexed (`dynamic: false`), but for `labels.*`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from esa_tls.core.fields import FIELDS, Field
from esa_tls.core.records import KINDS
from esa_tls.errors import ConfigError
from esa_tls.templates.wanted import Wanted
from esa_tls.wire.constants import CONSTANTS, dataset_of

PRIORITY = 250
"""Above the built-in `logs-*-*` (100) and those of Fleet (200)."""

IGNORE_ABOVE = 1024
"""Characters of a keyword that are indexed at most; a longer one is kept and not found. ECS has the same number."""

DEFAULT_RETENTION_DAYS = 90
ROLLOVER_DAYS = 30
ROLLOVER_SIZE = "50gb"

POLICY = "cisco-esa"
SETTINGS = "cisco-esa@settings"
MAPPINGS = "cisco-esa@mappings"
CUSTOM = "cisco-esa@custom"

LIFECYCLES = {"elasticsearch": ("ilm", "data-stream", "none"), "opensearch": ("ism", "none")}
"""By product; the first is the default."""

NEWEST = {"elasticsearch": (9, 0), "opensearch": (3, 0)}
"""The version that is printed for when none is said."""

OLDEST = {"elasticsearch": (8, 0), "opensearch": (2, 14)}
"""OpenSearch has `constant_keyword` from 2.14 on."""

LOGSDB_SINCE = (8, 17)


class Step(msgspec.Struct, frozen=True):
    """One request. `keep`: only if there is none yet. `lifecycle`: it is about how long data is kept."""

    path: str
    body: dict[str, Any]
    keep: bool = False
    lifecycle: bool = False


def text(product: str, wanted: Wanted) -> str:
    """All requests as one JSON object, in their order: `{"PUT /path": body}`."""
    requests = {f"PUT {step.path}": step.body for step in steps(product, wanted)}
    return msgspec.json.format(msgspec.json.encode(requests), indent=2).decode() + "\n"


def steps(product: str, wanted: Wanted) -> list[Step]:
    """Requests that set up `product`, in their order. Raises ConfigError for a wish that it cannot fulfil."""
    wanted.only(product, "lifecycle", "retention_days", "shards", "replicas", "store_version")
    lifecycle = lifecycle_of(product, wanted)
    version = version_of(product, wanted)
    days = wanted.retention_days or DEFAULT_RETENTION_DAYS
    policy = {"ilm": [_ilm(days)], "ism": [_ism(days)]}.get(lifecycle, [])
    templates = [
        Step(f"/_component_template/{SETTINGS}", {"template": _settings(product, version, lifecycle, days, wanted)}),
        Step(f"/_component_template/{MAPPINGS}", {"template": {"mappings": _common_mappings()}}),
        Step(f"/_component_template/{CUSTOM}", {"template": {}}, keep=True),
        *(Step(f"/_component_template/{_mappings_of(kind)}", {"template": {"mappings": _kind_mappings(kind)}}) for kind in KINDS),
        *(Step(f"/_index_template/logs-{dataset_of(kind)}", _index_template(kind)) for kind in KINDS),
    ]
    return policy + templates


def lifecycle_of(product: str, wanted: Wanted) -> str:
    """Which lifecycle is meant."""
    known = LIFECYCLES[product]
    if wanted.lifecycle is not None and wanted.lifecycle not in known:
        raise ConfigError(f"templates: {product} has no lifecycle {wanted.lifecycle!r}; known are {', '.join(known)}")
    return wanted.lifecycle or known[0]


def version_of(product: str, wanted: Wanted) -> tuple[int, int]:
    """Which version is meant: (major, minor)."""
    if wanted.store_version is None:
        return NEWEST[product]
    parts = wanted.store_version.split(".")
    try:
        version = int(parts[0]), int(parts[1]) if len(parts) > 1 else 0
    except ValueError as error:
        raise ConfigError(f"templates: {wanted.store_version!r} is no version such as 8.17") from error
    if version < OLDEST[product]:
        oldest = ".".join(map(str, OLDEST[product]))
        raise ConfigError(f"templates: {product} {wanted.store_version} is too old: {oldest} is the oldest that takes these templates")
    return version


# -- the parts -------------------------------------------------------------------------------------------------------------------
def _mappings_of(kind: str) -> str:
    return f"{dataset_of(kind).replace('_', '-')}@mappings"


def _index_template(kind: str) -> dict[str, Any]:
    return {
        "index_patterns": [f"logs-{dataset_of(kind)}-*"],
        "data_stream": {},
        "priority": PRIORITY,
        "composed_of": [SETTINGS, MAPPINGS, _mappings_of(kind), CUSTOM],
        "_meta": {"description": f"esa-tls: {kind} records"},
    }


def _settings(product: str, version: tuple[int, int], lifecycle: str, days: int, wanted: Wanted) -> dict[str, Any]:
    index: dict[str, Any] = {"codec": "best_compression"}
    if product == "elasticsearch" and version >= LOGSDB_SINCE:
        index["mode"] = "logsdb"
    if lifecycle == "ilm":
        index["lifecycle"] = {"name": POLICY}
    if wanted.shards is not None:
        index["number_of_shards"] = wanted.shards
    if wanted.replicas is not None:
        index["number_of_replicas"] = wanted.replicas
    template: dict[str, Any] = {"settings": {"index": index}}
    if lifecycle == "data-stream":
        template["lifecycle"] = {"data_retention": f"{days}d"}
    return template


def _common_mappings() -> dict[str, Any]:
    properties = _properties(field for field in FIELDS if set(field.kinds) == set(KINDS))
    for path, value in CONSTANTS.items():
        _put(properties, path, {"type": "constant_keyword", "value": str(value)})
    _put(properties, "data_stream.type", {"type": "constant_keyword", "value": "logs"})
    _put(properties, "data_stream.namespace", _type("keyword"))  # a constant whose value OpenSearch would want to know here
    _put(properties, "labels", {"type": "object", "dynamic": True})
    labels = {"path_match": "labels.*", "match_mapping_type": "string", "mapping": _type("keyword")}
    return {"dynamic": False, "date_detection": False, "dynamic_templates": [{"labels": labels}], "properties": properties}


def _kind_mappings(kind: str) -> dict[str, Any]:
    properties = _properties(field for field in FIELDS if kind in field.kinds and set(field.kinds) != set(KINDS))
    for path in ("event.dataset", "data_stream.dataset"):
        _put(properties, path, {"type": "constant_keyword", "value": dataset_of(kind)})
    return {"properties": properties}


def _properties(fields: Iterable[Field]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for field in fields:
        _put(properties, field.path, _type(field.type))
    return properties


def _put(properties: dict[str, Any], path: str, mapping: dict[str, Any]) -> None:
    """Put a field's mapping under the objects of its path."""
    *objects, name = path.split(".")
    for part in objects:
        properties = properties.setdefault(part, {}).setdefault("properties", {})
    properties.setdefault(name, {}).update(mapping)


def _type(name: str) -> dict[str, Any]:
    """A type of `core/fields.py` as the stores have it."""
    match name:
        case "keyword":
            return {"type": "keyword", "ignore_above": IGNORE_ABOVE}
        case "text":  # kept as it is, of any length, and not looked for
            return {"type": "keyword", "index": False, "doc_values": False}
        case _:
            return {"type": name}


# -- how long data is kept -------------------------------------------------------------------------------------------------------
def _rollover_days(days: int) -> int:
    """A new backing index at least so often: what is deleted is always a whole one."""
    return max(1, min(ROLLOVER_DAYS, days // 3))


def _ilm(days: int) -> Step:
    """Elasticsearch counts `min_age` from the rollover on."""
    rollover = {"max_age": f"{_rollover_days(days)}d", "max_primary_shard_size": ROLLOVER_SIZE}
    phases = {"hot": {"actions": {"rollover": rollover}}, "delete": {"min_age": f"{days}d", "actions": {"delete": {}}}}
    return Step(f"/_ilm/policy/{POLICY}", {"policy": {"phases": phases, "_meta": {"description": "esa-tls"}}}, lifecycle=True)


def _ism(days: int) -> Step:
    """OpenSearch counts `min_index_age` from the index's creation on, so the time to its rollover comes on top.

    It takes the policy for a data stream by the stream's name (not that of a backing index).
    """
    fresh = _rollover_days(days)
    rollover = {"min_index_age": f"{fresh}d", "min_primary_shard_size": ROLLOVER_SIZE}
    states = [
        {
            "name": "hot",
            "actions": [{"rollover": rollover}],
            "transitions": [{"state_name": "delete", "conditions": {"min_index_age": f"{days + fresh}d"}}],
        },
        {"name": "delete", "actions": [{"delete": {}}], "transitions": []},
    ]
    policy = {
        "description": "esa-tls",
        "default_state": "hot",
        "states": states,
        "ism_template": [{"index_patterns": ["logs-cisco_esa.*"], "priority": PRIORITY}],
    }
    return Step(f"/_plugins/_ism/policies/{POLICY}", {"policy": policy}, lifecycle=True)
