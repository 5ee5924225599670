"""Settings of the kafka sink."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from esa_tls.config.parts import ClientTls, GiB, KiB, Secret, wrong_addresses
from esa_tls.config.sink_settings import SinkName, SinkSettings

KAFKA_OWN_PROPERTIES = frozenset(
    {
        "acks",
        "request.required.acks",
        "enable.idempotence",
        "enable.gapless.guarantee",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "message.timeout.ms",
        "delivery.timeout.ms",
        "partitioner",
        "retries",
        "message.send.max.retries",
        "transactional.id",
        "bootstrap.servers",
        "metadata.broker.list",
        "client.id",
        "compression.type",
        "compression.codec",
        "message.max.bytes",
        "security.protocol",
        "plugin.library.paths",
    }
)
"""Properties of the client that no option may set: promises rest on them, or a setting of ours says them."""


class KafkaSasl(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who we are to the brokers. Kerberos and OAuth: leave `username` out, and put the client's `sasl.*` properties under `options`."""

    mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "OAUTHBEARER"],
        Meta(description="How to log in. PLAIN shows the password to whoever is in between: with TLS only."),
    ]
    username: Annotated[str | None, Meta(description="User.")] = None
    password: Annotated[Secret | None, Meta(description="That user's password.")] = None


class KafkaSink(SinkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="kafka", tag_field="type"):
    """A Kafka producer: idempotent, acknowledged by all in-sync replicas, one key per appliance. Needs the extra `kafka`."""

    bootstrap_servers: Annotated[
        list[str], Meta(description="Brokers to begin with, each `HOST:PORT`; the cluster tells the rest.", min_length=1)
    ]
    name: SinkName = "kafka"
    topic: Annotated[
        str, Meta(description="Topic, which must exist. `{kind}` in it is the kind of record: `esa.{kind}`.", min_length=1)
    ] = "esa-tls"
    compression: Annotated[
        Literal["zstd", "lz4", "gzip", "snappy", "none"], Meta(description="How batches are compressed; consumers have to know it.")
    ] = "zstd"
    max_message_bytes: Annotated[
        int,
        Meta(
            description="A larger record becomes a dead letter. Not more than `max.message.bytes` of the topic (1,048,588 if it has none), "
            "which holds for whole batches.",
            ge=64 * KiB,
            le=GiB // 2,
        ),
    ] = 1_000_000
    client_id: Annotated[str, Meta(description="How we are called in the brokers' logs and quotas.", min_length=1)] = "esa-tls"
    tls: Annotated[
        ClientTls | None,
        Meta(description="TLS towards the brokers; null: none. Changed files are taken up by a new connection to all of them."),
    ] = None
    sasl: Annotated[KafkaSasl | None, Meta(description="Who we are to the brokers; null: they do not ask.")] = None
    failing_after_s: Annotated[
        float, Meta(description="Without any delivery for so long the sink counts as failing; what is under way stays so.", gt=0)
    ] = 30.0
    options: Annotated[
        dict[str, Secret],
        Meta(
            description="More properties of the client (librdkafka), as `linger.ms: '50'`. Refused are those that promises rest on, and "
            "those that settings above say."
        ),
    ] = msgspec.field(default_factory=dict)


def wrong_kafka(sink: KafkaSink) -> Iterator[tuple[str, str]]:
    """What is wrong beyond single types: (path below the sink, reason)."""
    yield from wrong_addresses("bootstrap_servers", sink.bootstrap_servers)
    longest = sink.topic.replace("{kind}", "consolidated")
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", longest) or longest in (".", ".."):
        yield "topic", f"{sink.topic!r} is no topic: at most 249 of A-Z a-z 0-9 . _ - (and `{{kind}}`)"
    if sink.tls is not None:
        for name, reason in (
            ("server_name", "the client checks the name that it connects to, and no other"),
            ("min_version", "the client takes 1.2 only (it speaks 1.3 with everybody who can)"),
        ):
            if getattr(sink.tls, name) not in (None, "1.2"):
                yield f"tls.{name}", reason
    if sink.sasl is not None:
        wants_user = sink.sasl.mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
        if (sink.sasl.username is None) != (sink.sasl.password is None):
            yield "sasl", "username and password belong together"
        elif wants_user != (sink.sasl.username is not None):
            yield "sasl", f"{sink.sasl.mechanism} {'needs' if wants_user else 'takes no'} username and password"
    for name in sink.options:
        if name in KAFKA_OWN_PROPERTIES:
            yield f"options.{name}", "cannot be set here: promises rest on it, or a setting of the sink says it"
        if sink.tls is not None and name.startswith("ssl."):
            yield f"options.{name}", "cannot be set beside `tls`"
