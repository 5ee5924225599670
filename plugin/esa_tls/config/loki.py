"""Settings of the loki sink."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from esa_tls.config.parts import OWN_HEADERS, Compression, GiB, KiB, MiB, Secret, wrong_headers, wrong_login, wrong_urls
from esa_tls.config.sink_settings import HttpSinkSettings, SinkName

LabelField = Literal["cisco_esa.direction", "cisco_esa.tls.outcome", "cisco_esa.delivery.result", "cisco_esa.posture", "event.outcome"]
"""Fields that may be labels: they have few values, and no text from outside can add one."""


class LokiSink(HttpSinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="loki", tag_field="type"):
    """Grafana Loki, or a store that takes its push API. Fields become structured metadata, which Loki keeps since 3.0."""

    endpoints: Annotated[
        list[str],
        Meta(
            description="Base URLs, `https://HOST:PORT`; `/loki/api/v1/push` is put behind them. The first is used, the next ones when it "
            "cannot be reached.",
            min_length=1,
        ),
    ]
    name: SinkName = "loki"
    tenant: Annotated[
        Annotated[str, Meta(min_length=1, max_length=150)] | None,
        Meta(description="Tenant that records are stored for (`X-Scope-OrgID`); null: the header is left out."),
    ] = None
    username: Annotated[
        Annotated[str, Meta(min_length=1)] | None, Meta(description="User of HTTP basic authentication, for a gateway that wants one.")
    ] = None
    password: Annotated[Secret | None, Meta(description="That user's password.")] = None
    token: Annotated[Secret | None, Meta(description="Bearer token, in place of user and password.")] = None
    labels: Annotated[
        dict[str, str],
        Meta(
            description="Constant labels beside `service_name`, `appliance` and `kind`, e.g. `site: berlin`. Names are of letters, digits "
            "and `_`.",
            max_length=10,
        ),
    ] = msgspec.field(default_factory=dict)
    label_fields: Annotated[
        list[LabelField],
        Meta(description="Fields that become labels, under the names they have as metadata. Each one multiplies the streams."),
    ] = msgspec.field(default_factory=list)
    format: Annotated[
        Literal["protobuf", "json"],
        Meta(
            description="`protobuf`: in snappy, as Loki's own clients send it. `json`: several times slower, for what takes nothing else."
        ),
    ] = "protobuf"
    compression: Annotated[Compression, Meta(description="How `json` requests are compressed; `protobuf` ones always are, by snappy.")] = (
        "gzip"
    )
    max_line_bytes: Annotated[
        int, Meta(description="A longer line is cut there and flagged `truncated`; not above Loki's `max_line_size`.", ge=KiB, le=MiB)
    ] = 256 * KiB
    max_request_bytes: Annotated[
        int, Meta(description="Largest request before compression. Gateways often take 4 MB, compressed.", ge=64 * KiB, le=GiB)
    ] = MiB
    max_in_flight: Annotated[
        int, Meta(description="Requests at a time, each of another stream; those of one stream go one after the other.", ge=1, le=64)
    ] = 4


OWN_LABELS = frozenset({"service_name", "appliance", "kind"})

MAX_LABELS = 15
"""`max_label_names_per_series`, by default; `service_name` does not count."""

MAX_LABEL_VALUE_BYTES = 2048
"""`max_label_value_length`, by default."""


def wrong_loki(sink: LokiSink) -> Iterator[tuple[str, str]]:
    """What is wrong beyond single types: (path below the sink, reason)."""
    yield from wrong_urls("endpoints", sink.endpoints, tls=sink.tls is not None)
    if sink.tenant is not None and not re.fullmatch(r"[!-{}~]+", sink.tenant):
        yield "tenant", f"expected one tenant's name, without blanks and `|`, got {sink.tenant!r}"
    yield from wrong_login(sink.username, sink.password)
    if sink.token is not None and sink.username is not None:
        yield "token", "there are a user and a password already"
    logs_in = sink.token is not None or sink.username is not None
    yield from wrong_headers(sink.headers, OWN_HEADERS | {"x-scope-orgid", *(("authorization",) if logs_in else ())})
    for name, value in sink.labels.items():
        if name in OWN_LABELS or name in {path.replace(".", "_") for path in sink.label_fields}:
            yield f"labels.{name}", "is a label already"
        elif not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) or name.startswith("__"):
            yield f"labels.{name}", "a label's name has letters, digits and `_`, and begins with none of the digits and not with `__`"
        elif not value or len(value.encode()) > MAX_LABEL_VALUE_BYTES:
            yield f"labels.{name}", f"expected a text of 1 to {MAX_LABEL_VALUE_BYTES} bytes"
    if len(sink.labels) + len(sink.label_fields) + len(OWN_LABELS) - 1 > MAX_LABELS:
        yield "labels", f"together with `label_fields` and our own more than {MAX_LABELS} labels, which Loki does not take"
    if len(set(sink.label_fields)) != len(sink.label_fields):
        yield "label_fields", "a field is named twice"
