"""Settings of the webhook sink."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from esa_tls.config.parts import ClientTls, GiB, KiB, MiB, Secret, wrong_url
from esa_tls.config.sink_settings import SinkName, SinkSettings


class WebhookSink(SinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="webhook", tag_field="type"):
    """Records in batches by HTTP POST, for everything that has no sink of its own. A batch is delivered when a 2xx has come."""

    url: Annotated[str, Meta(description="Where to post, `https://HOST/PATH`.", min_length=1)]
    name: SinkName = "webhook"
    body: Annotated[
        Literal["array", "ndjson"], Meta(description="`array`: one JSON array of records. `ndjson`: a record on each line.")
    ] = "array"
    headers: Annotated[
        dict[str, Secret],
        Meta(description="Sent with every request, e.g. `authorization: Bearer ${TOKEN}`. `${NAME}` takes it from the environment."),
    ] = msgspec.field(default_factory=dict)
    signature_key: Annotated[
        Secret | None,
        Meta(description="If set, requests carry `X-Esa-Tls-Signature`, an HMAC-SHA256 with this key, so that a receiver knows them."),
    ] = None
    tls: Annotated[
        ClientTls | None, Meta(description="TLS towards the receiver. null: `https://` decides, with the system's authorities.")
    ] = None
    gzip: Annotated[bool, Meta(description="Compress requests; many receivers do not take that.")] = False
    max_records: Annotated[int, Meta(description="Most records in a request.", ge=1)] = 500
    max_request_bytes: Annotated[
        int, Meta(description="Largest request before compression; a record that fits none becomes a dead letter.", ge=64 * KiB, le=GiB)
    ] = MiB
    timeout_s: Annotated[float, Meta(description="A request not answered for so long is sent again.", gt=0)] = 30.0


OWN_HEADERS = frozenset({"content-type", "content-encoding", "content-length", "host", "x-esa-tls-signature"})


def wrong_webhook(sink: WebhookSink) -> Iterator[tuple[str, str]]:
    """What is wrong beyond single types: (path below the sink, reason)."""
    if reason := wrong_url(sink.url, tls=sink.tls is not None, query=True):
        yield "url", reason
    for name in sink.headers:
        if name.lower() in OWN_HEADERS:
            yield f"headers.{name}", "is set by the sink itself"
    if sink.signature_key is not None and not sink.signature_key.reveal():
        yield "signature_key", "is empty; null switches signatures off"
