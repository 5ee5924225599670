"""Pages of the manual that are made from the code: settings, record fields, metrics and spans.

Nothing is written down here that the code does not say itself: the words are the descriptions in `config/`, and the tables of
fields in `core/records.py`, of metrics and of spans in `telemetry/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from inspect import cleandoc
from typing import Protocol

import msgspec
from msgspec import inspect

from esa_tls.config import (
    Api,
    Appliance,
    ClientTls,
    Config,
    FieldChoice,
    FluentEndpoint,
    Journal,
    KafkaSasl,
    ListenTls,
    PseudonymSettings,
    RequiredPartner,
    RequireTls,
    Secret,
    Store,
    Telemetry,
    TelemetryFluent,
    TelemetryOtlp,
    Web,
    Where,
    variants,
)
from esa_tls.telemetry import METRICS, SPANS


def json_schema() -> dict[str, object]:
    """JSON Schema of the configuration file, for editors and other checkers."""

    def of_secret(wanted: type) -> dict[str, object]:
        if wanted is not Secret:
            message = f"no schema for {wanted!r}"
            raise NotImplementedError(message)
        from_file = {"type": "object", "properties": {"file": {"type": "string"}}, "required": ["file"], "additionalProperties": False}
        return {"anyOf": [{"type": "string"}, from_file]}

    return msgspec.json.schema(Config, schema_hook=of_secret)


def config_reference() -> str:
    """All settings as markdown: one section per Struct, one table row per key with type, default and meaning."""
    parts: list[str] = []
    for heading, struct in sections():
        found = inspect.type_info(struct)
        assert isinstance(found, inspect.StructType)
        parts += [
            f"## {heading}",
            "",
            cleandoc(struct.__doc__ or ""),
            "",
            "| key | type | default | meaning |",
            "| --- | --- | --- | --- |",
        ]
        parts += [_reference_row(field) for field in found.fields]
        parts.append("")
    return "\n".join(parts)


def sections() -> list[tuple[str, type[msgspec.Struct]]]:
    """Heading and Struct of each section of the reference: every Struct of `config/` has one."""
    return [
        ("Top level", Config),
        ("`appliance`", Appliance),
        ("`journal`", Journal),
        ("`web`", Web),
        ("`api`", Api),
        ("`require_tls`", RequireTls),
        ("`partners` of `require_tls`", RequiredPartner),
        ("`store`", Store),
        ("`telemetry`", Telemetry),
        ("`otlp` of `telemetry`", TelemetryOtlp),
        ("`fluent` of `telemetry`", TelemetryFluent),
        *((f"`sources`, `type: {part.tag}`", part.cls) for part in variants("sources")),
        *((f"`sinks`, `type: {part.tag}`", part.cls) for part in variants("sinks")),
        ("`tls` of sources, `web` and `api`", ListenTls),
        ("`tls` of sinks", ClientTls),
        ("`endpoints` of a fluent sink", FluentEndpoint),
        ("`sasl` of a kafka sink", KafkaSasl),
        ("`where` of sinks", Where),
        ("`fields` of sinks", FieldChoice),
        ("`pseudonyms` of sinks", PseudonymSettings),
    ]


def _reference_row(field: inspect.Field) -> str:
    described = field.type
    meaning = ""
    while isinstance(described, inspect.Metadata):
        meaning = str((described.extra_json_schema or {}).get("description", meaning))
        described = described.type
    return f"| `{field.encode_name}` | {_type_text(described)} | {_default_text(field)} | {meaning} |"


def _type_text(found: inspect.Type) -> str:
    match found:
        case inspect.Metadata():
            return _type_text(found.type)
        case inspect.UnionType():
            return " or ".join(_type_text(part) for part in found.types)
        case inspect.LiteralType():
            return " / ".join(f"`{choice}`" for choice in found.values)
        case inspect.ListType():
            return f"list of {_type_text(found.item_type)}"
        case inspect.DictType():
            return (
                "names and texts"
                if isinstance(_bare(found.value_type), inspect.StrType | inspect.CustomType)
                else "names and whole numbers"
            )
        case inspect.StructType():
            return f"`type: {found.tag}`" if found.tag else "keys, see below"
        case inspect.NoneType():
            return "null"
        case inspect.CustomType():
            return "secret text, or `{file: PATH}`"
        case inspect.IntType():
            return "whole number" + _range_text(found)
        case inspect.FloatType():
            return "number" + _range_text(found)
        case inspect.BoolType():
            return "true / false"
        case _:
            return "text"


def _bare(found: inspect.Type) -> inspect.Type:
    """A type without its description."""
    while isinstance(found, inspect.Metadata):
        found = found.type
    return found


def _range_text(found: inspect.IntType | inspect.FloatType) -> str:
    bounds = [("from", found.ge), ("above", found.gt), ("to", found.le)]
    told = " ".join(f"{word} {bound:,}" for word, bound in bounds if bound is not None)
    return f" ({told})" if told else ""


def _default_text(field: inspect.Field) -> str:
    if field.required:
        return "required"
    value = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, msgspec.Struct):
        return "see below"
    if isinstance(value, list) and value and isinstance(value[0], msgspec.Struct):
        return "one, `type: " + str(value[0].__struct_config__.tag) + "`"
    return f"`{msgspec.json.encode(value).decode()}`"


def privacy_reference(
    fields: Iterable[RecordField], *, treatments: Mapping[str, str], classes: Mapping[str, str], becomes: Mapping[str, str]
) -> str:
    """The fields that may say something about a person, as a markdown table: what they hold, and what pseudonyms make of it.

    `treatments`: by path; `classes` and `becomes`: by treatment, what it belongs to and what it does. One without `becomes` is left out.
    """
    rows = ["| field | in | what it holds | class | with pseudonyms |", "| --- | --- | --- | --- | --- |"]
    for field in fields:
        treatment = treatments.get(field.name.removesuffix("[]"), "")
        if treatment in becomes:
            kind = f"`{classes[treatment]}`" if treatment in classes else ""
            rows.append(f"| `{field.name}` | {' '.join(field.kinds) or 'all'} | {field.meaning} | {kind} | {becomes[treatment]} |")
    return "\n".join(rows) + "\n"


class RecordField(Protocol):
    """One row of the table of record fields: dotted path, type, kinds of records that have it (empty: all), meaning."""

    @property
    def name(self) -> str:
        """Dotted path; `[]` behind it = always a list."""

    @property
    def type(self) -> str:
        """Keyword, long, date, ip, boolean, ..."""

    @property
    def kinds(self) -> Sequence[str]:
        """Kinds of records that may have it."""

    @property
    def meaning(self) -> str:
        """One sentence."""


class CimName(Protocol):
    """One name of Splunk's data models: the records that have it, its meaning, and the fields it is taken from or its value."""

    @property
    def name(self) -> str:
        """The name."""

    @property
    def kinds(self) -> Sequence[str]:
        """Kinds of records."""

    @property
    def meaning(self) -> str:
        """A few words."""

    @property
    def paths(self) -> Sequence[str]:
        """Fields; the first that a record has."""

    @property
    def value(self) -> str | None:
        """The same for all records."""


def cim_reference(names: Iterable[CimName]) -> str:
    """Splunk's names as a markdown table."""
    rows = ["| name | in | meaning | from |", "| --- | --- | --- | --- |"]
    for one in names:
        origin = f"`{one.value}`" if one.value is not None else ", ".join(f"`{path}`" for path in one.paths) or "worked out"
        rows.append(f"| `{one.name}` | {' '.join(one.kinds)} | {one.meaning} | {origin} |")
    return "\n".join(rows) + "\n"


def records_reference(fields: Iterable[RecordField]) -> str:
    """All record fields as a markdown table."""
    rows = ["| field | type | in | meaning |", "| --- | --- | --- | --- |"]
    rows += [f"| `{field.name}` | {field.type} | {' '.join(field.kinds) or 'all'} | {field.meaning} |" for field in fields]
    return "\n".join(rows) + "\n"


def metrics_reference() -> str:
    """The table of all metrics as markdown, for the docs."""
    rows = ["| Prometheus | OpenTelemetry | kind | unit | labels | meaning |", "| --- | --- | --- | --- | --- | --- |"]
    for metric in METRICS:
        labels = " ".join(f"`{label}`" for label in metric.labels) or "-"
        rows.append(f"| `{metric.prometheus_name}` | `{metric.name}` | {metric.kind} | `{metric.unit}` | {labels} | {metric.meaning} |")
    return "\n".join(rows) + "\n"


def spans_reference() -> str:
    """The table of all spans as markdown, for the docs."""
    rows = ["| span | attributes | meaning |", "| --- | --- | --- |"]
    rows += [f"| `{span.name}` | {' '.join(f'`{name}`' for name in span.attributes)} | {span.meaning} |" for span in SPANS]
    return "\n".join(rows) + "\n"
