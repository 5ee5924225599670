"""What every type of source has, and what those over OTLP have."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from esa_tls.config.parts import GiB, KiB, ListenTls, MiB, Secret

SourceName = Annotated[str, Meta(description="Unique name, used in metrics and messages.", min_length=1)]

Listen = Annotated[str, Meta(description="Address to listen on, `HOST:PORT`; an IPv6 host in brackets; port 0 takes a free one.")]

Lossy = Annotated[
    bool | None,
    Meta(
        description="True: lines that come here may have got lost or come late, so a missing TLS line proves less. "
        "null: true for lines that carry a syslog prefix, false for others."
    ),
]

MaxRequestBytes = Annotated[
    int, Meta(description="A larger request is refused for good, also if it is larger only unpacked.", ge=64 * KiB, le=GiB)
]


class SourceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every source has."""

    name: SourceName
    listen: Listen
    tls: Annotated[ListenTls | None, Meta(description="TLS for this listener; null: none.")] = None
    lossy: Lossy = None
    reorder_window_s: Annotated[
        Annotated[float, Meta(ge=0, le=60)] | None,
        Meta(description="Decide `none` only so many seconds after the line that would decide it. null: 2 where lossy, else 0."),
    ] = None


class OtlpSourceSettings(SourceSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What OTLP sources have, over gRPC or HTTP."""

    line_keys: Annotated[
        list[str],
        Meta(
            description="Keys of a body that is a map (Fluent Bit sends those) that may hold the raw line; the first one present counts.",
            min_length=1,
        ),
    ] = msgspec.field(default_factory=lambda: ["log", "message", "MESSAGE"])
    host_attributes: Annotated[
        list[str],
        Meta(
            description="Attributes that name the appliance's host (`otlp:host.name` of `appliance.from`): the first there is, "
            "in the resource before the record. `record:KEY` is looked up in the record's attributes and body, then in the resource.",
            min_length=1,
        ),
    ] = msgspec.field(default_factory=lambda: ["host.name"])
    token: Annotated[
        Secret | None,
        Meta(description="If set, senders must show the header `Authorization: Bearer TOKEN`. `${NAME}` takes it from the environment."),
    ] = None
    max_request_bytes: MaxRequestBytes = 64 * MiB
    answer_within_s: Annotated[
        float,
        Meta(
            description="What is not committed by then is answered as retryable, and the sender sends it again, without harm. "
            "Keep it below the sender's time-out (the Collector's is 5 s).",
            gt=0,
            le=60,
        ),
    ] = 4.0
