"""Settings of the webhook sink."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from msgspec import Meta

from esa_tls.config.parts import OWN_HEADERS, Compression, GiB, KiB, MiB, Secret, wrong_headers, wrong_urls
from esa_tls.config.sink_settings import HttpSinkSettings, SinkName


class WebhookSink(HttpSinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="webhook", tag_field="type"):
    """Records in batches by HTTP POST, for everything that has no sink of its own. A batch is delivered when a 2xx has come."""

    endpoints: Annotated[
        list[str],
        Meta(
            description="Where to post, whole URLs, `https://HOST/PATH`. The first is used, the next ones when it cannot be reached.",
            min_length=1,
        ),
    ]
    name: SinkName = "webhook"
    format: Annotated[
        Literal["array", "ndjson"], Meta(description="`array`: one JSON array of records. `ndjson`: a record on each line.")
    ] = "array"
    signature_key: Annotated[
        Secret | None,
        Meta(description="If set, requests carry `X-Esa-Tls-Signature`, an HMAC-SHA256 with this key, so that a receiver knows them."),
    ] = None
    compression: Annotated[Compression, Meta(description="How requests are compressed; many receivers do not take `gzip`.")] = "none"
    max_request_records: Annotated[int, Meta(description="Most records in a request.", ge=1)] = 500
    max_request_bytes: Annotated[
        int, Meta(description="Largest request before compression; a record that fits none becomes a dead letter.", ge=64 * KiB, le=GiB)
    ] = MiB


def wrong_webhook(sink: WebhookSink) -> Iterator[tuple[str, str]]:
    """What is wrong beyond single types: (path below the sink, reason)."""
    yield from wrong_urls("endpoints", sink.endpoints, tls=sink.tls is not None, query=True)
    yield from wrong_headers(sink.headers, OWN_HEADERS | {"x-esa-tls-signature"})
    if sink.signature_key is not None and not sink.signature_key.reveal():
        yield "signature_key", "is empty; null switches signatures off"
