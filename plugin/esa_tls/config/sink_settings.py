"""What every type of sink has, and every one that speaks HTTP. A leaf, so that a type of sink may have a file of its own."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta

from esa_tls.config.parts import ClientTls, Compression, RecordKind, Secret
from esa_tls.config.selection import FieldChoice, PseudonymSettings, Where

SinkName = Annotated[
    str, Meta(description="Unique name; the sink's place in the journal is kept under it, so renaming starts anew.", min_length=1)
]


class SinkSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every sink has."""

    name: SinkName
    records: Annotated[list[RecordKind], Meta(description="Kinds of records wanted.", min_length=1)] = msgspec.field(
        default_factory=lambda: list(get_args(RecordKind))
    )
    from_: Annotated[
        Literal["tail", "oldest"],
        Meta(description="Where a new sink begins: at what comes from now on, or at the oldest record still in the journal."),
    ] = msgspec.field(name="from", default="tail")
    retry_initial_s: Annotated[float, Meta(description="Wait after the first failure; doubles each time, with jitter.", gt=0)] = 1.0
    retry_max_s: Annotated[float, Meta(description="Longest wait between two tries.", gt=0)] = 60.0
    where: Annotated[Where | None, Meta(description="Which of these records; null: all.")] = None
    fields: Annotated[FieldChoice | None, Meta(description="Which fields of them; null: all.")] = None
    truncate: Annotated[
        dict[str, Annotated[int, Meta(ge=1)]],
        Meta(description="Longest text of a field in characters, by its path, e.g. `event.original: 500`; the rest is cut off."),
    ] = msgspec.field(default_factory=dict)
    constants: Annotated[
        bool,
        Meta(
            description="Put on each record what is the same on all of a kind (`event.kind`, `event.dataset`, `ecs.version` and so on), "
            "for a store that has no index template to say it."
        ),
    ] = False
    pseudonyms: Annotated[
        PseudonymSettings | None, Meta(description="Pseudonyms in place of addresses, Subjects and the like; null: none.")
    ] = None


SentHeaders = Annotated[
    dict[str, Secret],
    Meta(description="Sent with every request, e.g. `authorization: Bearer ${TOKEN}`. `${NAME}` takes it from the environment."),
]


Compressed = Annotated[Compression, Meta(description="How what is sent is compressed.")]

TimeoutS = Annotated[float, Meta(description="A request not answered for so long is sent again.", gt=0)]

ConnectTimeoutS = Annotated[float, Meta(description="Give up a connection attempt after this.", gt=0)]


class HttpSinkSettings(SinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every sink has that speaks HTTP and nothing else."""

    headers: SentHeaders = msgspec.field(default_factory=dict)
    tls: Annotated[
        ClientTls | None,
        Meta(description="TLS towards the servers. null: the endpoint's `https://` decides, with the system's authorities."),
    ] = None
    compression: Compressed = "gzip"
    timeout_s: TimeoutS = 30.0
    connect_timeout_s: ConnectTimeoutS = 5.0
