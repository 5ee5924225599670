"""`templates`: what a store must be told before records come."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esa_tls.cli.access import client_tls, secret

if TYPE_CHECKING:
    from esa_tls.templates import Access


@click.command()
@click.argument("store")
@click.option("--apply", "url", metavar="URL", help="Put it into the store there (http:// or https://) instead of printing it.")
@click.option("--lifecycle", metavar="NAME", help="Who deletes old records: ilm, data-stream (Elasticsearch), ism (OpenSearch) or none.")
@click.option(
    "--retention-days",
    type=click.IntRange(min=1),
    metavar="N",
    help="How long records are kept at least; 90 for the search stores and Loki, 7 for Kafka.",
)
@click.option("--shards", type=click.IntRange(min=1), metavar="N", help="Primary shards of an index; without it as the store has it.")
@click.option("--replicas", type=click.IntRange(min=0), metavar="N", help="Copies of each shard; without it as the store has it.")
@click.option("--store-version", metavar="X.Y", help="For this version of the store; without it what --apply finds, else the newest.")
@click.option("--topic", metavar="NAME", help="Kafka: the sink's `topic`, also with {kind} in it; esa-tls.")
@click.option("--partitions", type=click.IntRange(min=1), metavar="N", help="Kafka: partitions of a topic; 6.")
@click.option("--replication-factor", type=click.IntRange(min=1), metavar="N", help="Kafka: copies of each partition; 3.")
@click.option("--tls", is_flag=True, help="Speak TLS, and trust the system's authorities; an address with https:// says the same.")
@click.option("--ca-file", metavar="FILE", help="PEM file of the authorities that may have signed the store's certificate.")
@click.option("--server-name", metavar="NAME", help="The name its certificate has to carry, if that is not the host.")
@click.option("--cert-file", metavar="FILE", help="PEM file of our own certificate, if it wants one (mutual TLS).")
@click.option("--key-file", metavar="FILE", help="PEM file of its private key.")
@click.option(
    "--api-key-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File with the encoded API key; else the environment variable ESA_TLS_API_KEY.",
)
@click.option("--user", metavar="NAME", help="Our user name.")
@click.option(
    "--password-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File with the user's password; else the environment variable ESA_TLS_PASSWORD.",
)
def templates(store: str, *, url: str | None, **options: Any) -> int:
    """Print what a STORE (elasticsearch, opensearch, kafka, loki) must be told before records come, or put it in; exit 1 if it cannot."""
    from esa_tls import templates as preparing

    wanted = preparing.Wanted(**{name: options[name] for name in preparing.Wanted.__struct_fields__})
    if url is None:
        click.echo(preparing.printed(store, wanted), nl=False)
        return 0
    applied = preparing.applied(store, url, wanted, _store_access(options))
    for line in applied.done:
        click.echo(line)
    for line in applied.missing:
        click.echo(f"esa-tls: {line}", err=True)
    return int(bool(applied.missing))


def _store_access(options: dict[str, Any]) -> Access:
    """How `templates --apply` gets in. A user has a password, who names none may have an API key."""
    from esa_tls import templates as preparing

    user = options["user"]
    if user is not None and options["api_key_file"] is not None:
        raise click.UsageError("--user and --api-key-file do not go together")
    password = secret(options["password_file"], None if user is None else "ESA_TLS_PASSWORD")
    if (user is None) != (password is None):
        raise click.UsageError("--user and a password (--password-file or ESA_TLS_PASSWORD) belong together")
    return preparing.Access(
        tls=client_tls(options, "ca_file", "cert_file", "key_file", "server_name"),
        api_key=secret(options["api_key_file"], "ESA_TLS_API_KEY") if user is None else None,
        username=user,
        password=password,
    )
