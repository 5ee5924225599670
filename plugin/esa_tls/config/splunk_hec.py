"""Settings of the splunk_hec sink."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from esa_tls.config.parts import OWN_HEADERS, GiB, KiB, Secret, wrong_headers, wrong_urls
from esa_tls.config.sink_settings import HttpSinkSettings, SinkName


class SplunkHecSink(HttpSinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="splunk_hec", tag_field="type"):
    """Splunk's HTTP Event Collector. Events carry names of the Common Information Model beside the record's own."""

    endpoints: Annotated[
        list[str],
        Meta(
            description="Base URLs, `https://HOST:8088`; the first is used, the next ones when it cannot be reached or is busy.",
            min_length=1,
        ),
    ]
    token: Annotated[Secret, Meta(description="The collector's token. `${NAME}` takes it from the environment.")]
    name: SinkName = "splunk_hec"
    index: Annotated[
        Annotated[str, Meta(min_length=1)] | None, Meta(description="Index to write to; null: the one that the token has.")
    ] = None
    source: Annotated[str, Meta(description="`source` of the events; `{kind}` in it is the record's kind.", min_length=1)] = "esa-tls"
    sourcetype: Annotated[str, Meta(description="`sourcetype` of the events; `{kind}` in it is the record's kind.", min_length=1)] = (
        "esa_tls:{kind}"
    )
    max_request_bytes: Annotated[
        int, Meta(description="Largest request before compression. Splunk asks for 1 MB at most in its cloud.", ge=64 * KiB, le=GiB)
    ] = 1_000_000
    ack_timeout_s: Annotated[
        float, Meta(description="With indexer acknowledgement: a request not acknowledged for so long is sent again.", gt=0)
    ] = 300.0


def wrong_splunk_hec(sink: SplunkHecSink) -> Iterator[tuple[str, str]]:
    """What is wrong beyond single types: (path below the sink, reason)."""
    yield from wrong_urls("endpoints", sink.endpoints, tls=sink.tls is not None)
    yield from wrong_headers(sink.headers, OWN_HEADERS | {"authorization", "x-splunk-request-channel"})
    for name in ("source", "sourcetype"):
        text = getattr(sink, name).replace("{kind}", "")
        if "{" in text or "}" in text:
            yield name, "knows no place but {kind}"
