"""`lookup` and `watch`: a sidecar that runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esa_tls.cli.access import client_tls
from esa_tls.cli.options import Command, RecordKinds, stdout

if TYPE_CHECKING:
    from esa_tls.api.client import Sidecar

TLS_FILES = ("ca_file", "cert_file", "key_file")
OUTCOMES = ("success", "failed", "none", "unknown", "pending")


def asking_options(command: Command) -> Command:
    """Options of every command that asks a running sidecar."""
    options = [
        click.option(
            "--address",
            metavar="HOST:PORT",
            default="127.0.0.1:4319",
            show_default=True,
            help="Where its gRPC service listens (`api.listen`).",
        ),
        click.option(
            "--token-file",
            metavar="FILE",
            type=click.Path(path_type=Path),
            help="File with its token (`api.token`); else the environment variable ESA_TLS_TOKEN.",
        ),
        click.option("--tls", is_flag=True, help="Speak TLS, and trust the system's authorities."),
        click.option("--ca-file", metavar="FILE", help="Speak TLS; PEM file of the authorities that may have signed its certificate."),
        click.option("--cert-file", metavar="FILE", help="PEM file of our own certificate, if it wants one (mutual TLS)."),
        click.option("--key-file", metavar="FILE", help="PEM file of its private key."),
        click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of text."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@click.option("--mid", type=click.IntRange(min=1, max=2**63 - 1), help="The message with this MID.")
@click.option("--icid", type=click.IntRange(min=1, max=2**63 - 1), help="The reception with this ICID.")
@click.option("--dcid", type=click.IntRange(min=1, max=2**63 - 1), help="The delivery connection with this DCID.")
@click.option("--message-id", metavar="ID", help="Messages with this Message-ID, with or without angle brackets.")
@click.option("--recipient", metavar="ADDRESS", help="Messages to this address.")
@click.option("--appliance", metavar="NAME", help="Only of this appliance.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, metavar="N", help="At most N results.")
@asking_options
def lookup(*, as_json: bool, appliance: str | None, limit: int, **options: Any) -> int:
    """Ask a running sidecar what it knows now of a connection or message, open or just gone; exit 1 if that is nothing."""
    sidecar = _sidecar(options)
    if sum(value is not None for value in options.values()) != 1:
        raise click.UsageError("name exactly one of --mid, --icid, --dcid, --message-id, --recipient")
    from esa_tls.api import client

    return client.lookup(sidecar, out=stdout(), as_json=as_json, limit=limit, appliance=appliance, **options)


@click.command()
@click.option("--kind", "kinds", type=RecordKinds(), metavar="KINDS", help="Only these kinds of records, with commas.")
@click.option("--outcome", "outcomes", multiple=True, type=click.Choice(OUTCOMES), help="Only with this TLS outcome; may be given again.")
@click.option("--direction", "directions", multiple=True, type=click.Choice(["inbound", "outbound"]), help="Only this way.")
@click.option("--appliance", "appliances", multiple=True, metavar="NAME", help="Only of this appliance; may be given again.")
@asking_options
def watch(
    *,
    as_json: bool,
    kinds: frozenset[str] | None,
    outcomes: tuple[str, ...],
    directions: tuple[str, ...],
    appliances: tuple[str, ...],
    **options: Any,
) -> int:
    """Show the records of a running sidecar as they happen, until Ctrl-C; exit 1 if there is none, or it stops."""
    from esa_tls.api import client

    return client.watch(
        _sidecar(options),
        out=stdout(),
        messages=sys.stderr.buffer,
        as_json=as_json,
        kinds=kinds or frozenset(),
        outcomes=outcomes,
        directions=directions,
        appliances=appliances,
    )


def _sidecar(options: dict[str, Any]) -> Sidecar:
    """The sidecar that is asked, by the `asking_options`, which are taken out of `options`.

    Its token comes from a file or the environment, never from the command line.
    """
    from esa_tls.api.client import Sidecar
    from esa_tls.config import listen_address

    secured = client_tls(options, *TLS_FILES)
    address, token_file = options.pop("address"), options.pop("token_file")
    for name in ("tls", *TLS_FILES):
        del options[name]
    try:
        listen_address(address)
    except ValueError as error:
        raise click.UsageError(f"--address: {error}") from error
    return Sidecar(address, token=os.environ.get("ESA_TLS_TOKEN"), token_file=token_file, tls=secured)
