"""The `elasticsearch` sink's settings, which are those for OpenSearch too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from esa_tls.config.parts import OWN_HEADERS, KiB, MiB, Secret, wrong_headers, wrong_login, wrong_urls
from esa_tls.config.sink_settings import HttpSinkSettings, SinkName, TimeoutS


class ElasticsearchSink(HttpSinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="elasticsearch", tag_field="type"):
    """Elasticsearch 8 and 9, and OpenSearch 2 and 3: both take the same requests, so there is one type for both.

    Records go to the data streams `logs-cisco_esa.{kind}-{namespace}`, each under its `event.id`, so that one sent again is known there.
    Set the store up first: `esa-tls templates`.
    """

    endpoints: Annotated[
        list[str],
        Meta(
            description="Base URLs of the cluster's nodes, `https://HOST:9200`; a path stays in front. They take turns, and one that does "
            "not answer is left out for a while.",
            min_length=1,
        ),
    ]
    name: SinkName = "elasticsearch"
    namespace: Annotated[
        str,
        Meta(
            description="Last part of the data streams' names: lower case, no `-`, no blanks.",
            pattern=r'^[^-\\/*?"<>|,#:\sA-Z]+$',
            max_length=100,
        ),
    ] = "default"
    api_key: Annotated[
        Secret | None,
        Meta(
            description="Encoded API key (Elasticsearch shows it once, as `encoded`). It needs `auto_configure` and `create_doc`, no more."
        ),
    ] = None
    username: Annotated[Annotated[str, Meta(min_length=1)] | None, Meta(description="User to log in as, if there is no API key.")] = None
    password: Annotated[Secret | None, Meta(description="That user's password.")] = None
    max_request_bytes: Annotated[
        int,
        Meta(
            description="Largest request before compression; a larger record is sent alone. A node takes 100 MB by default, gateways and "
            "hosted services often 10 MB. After a 413 it is halved.",
            ge=64 * KiB,
            le=100 * MiB,
        ),
    ] = 4 * MiB
    max_request_records: Annotated[int, Meta(description="Most records in a request.", ge=1, le=100_000)] = 5000
    require_template: Annotated[
        bool,
        Meta(
            description="Send nothing before the store has an index template for the data streams: without one it would guess types and "
            "make plain indices. Not looked at if the user may not see templates."
        ),
    ] = True
    timeout_s: TimeoutS = 60.0


def wrong_elasticsearch(sink: ElasticsearchSink) -> Iterator[tuple[str, str]]:
    """What is wrong beyond single types: (path below the sink, reason)."""
    yield from wrong_urls("endpoints", sink.endpoints, tls=sink.tls is not None)
    yield from wrong_login(sink.username, sink.password)
    if sink.api_key is not None and sink.username is not None:
        yield "api_key", "there are a user and a password already"
    logs_in = sink.api_key is not None or sink.username is not None
    yield from wrong_headers(sink.headers, OWN_HEADERS | {"authorization"} if logs_in else OWN_HEADERS)
