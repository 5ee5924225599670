"""`simulate` and `send`: log lines of appliances, made and sent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import click

from esa_tls.cli.access import client_tls, secret
from esa_tls.cli.options import stdout

if TYPE_CHECKING:
    from esa_tls.offline.send import Access


@click.command()
@click.option("--messages", type=click.IntRange(min=1), default=1000, show_default=True, help="How many messages are received.")
@click.option("--appliances", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many appliances they pass.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same lines.")
@click.option("--span", "span_s", type=click.FloatRange(min=0, min_open=True), metavar="S", help="Time over which they come, in seconds.")
@click.option(
    "--form", type=click.Choice(["file", "syslog"]), help="How lines look; several appliances in one file need syslog, which names them."
)
@click.option("--id-resets", type=click.IntRange(min=0), default=0, show_default=True, help="How often each appliance's ids begin again.")
@click.option("--hostile", type=click.FloatRange(0, 1), metavar="SHARE", help="Share of mails with text made to look like log lines.")
@click.option("--shuffle", is_flag=True, help="Mix up the order of lines inside a second.")
@click.option("--loss", type=click.FloatRange(0, 1), default=0.0, show_default=True, metavar="SHARE", help="Share of lines left out.")
@click.option("--truth", type=click.Path(path_type=Path), metavar="FILE", help="Write there what every summary record must say.")
@click.option(
    "--output",
    default="-",
    show_default=True,
    metavar="FILE",
    help="The log; with {appliance} in the name one file for each, `-` is standard output.",
)
def simulate(
    *, output: str, truth: Path | None, shuffle: bool, loss: float, form: str | None, hostile: float | None, **settings: Any
) -> None:
    """Make the log lines of appliances at work, with every TLS outcome both ways, and on request the truth behind them."""
    from contextlib import ExitStack

    from esa_tls.offline.simulate import SimulationSettings, write_simulation

    apart = "{appliance}" in output
    settings["form"] = form or ("file" if apart or settings["appliances"] == 1 else "syslog")
    if hostile is not None:
        settings["hostile"] = hostile
    chosen = SimulationSettings(**settings)
    with ExitStack() as files:
        out: BinaryIO | dict[str, BinaryIO]
        if apart:
            out = {name: files.enter_context(Path(output.replace("{appliance}", name)).open("wb")) for name in chosen.names}
        else:
            out = stdout() if output == "-" else files.enter_context(Path(output).open("wb"))
        truth_file = files.enter_context(truth.open("w", encoding="utf-8")) if truth else None
        counts = write_simulation(chosen, out, truth_file, shuffle_in_second=shuffle, loss=loss)
    lost = f", {counts.lost_lines} left out" if counts.lost_lines else ""
    click.echo(f"{counts.lines} lines{lost}, {counts.truth_records} records of truth", err=True)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True))
@click.option(
    "--to",
    required=True,
    metavar="URL",
    help="Where a sidecar listens: forward://HOST:PORT or otlp://HOST:PORT (gRPC).",
)
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="N", help="At most N lines a second.")
@click.option("--tag", default="esa.mail", show_default=True, help="The Forward tag.")
@click.option("--batch-lines", type=click.IntRange(min=1), default=1000, show_default=True, metavar="N", help="Lines of one frame.")
@click.option(
    "--client",
    type=click.Choice(["esa-tls", "fluent-logger"]),
    default="esa-tls",
    show_default=True,
    help="Our client waits for acknowledgements and sends again; fluent-logger is the PyPI one and does neither.",
)
@click.option("--tls", is_flag=True, help="Speak TLS, and trust the system's authorities.")
@click.option("--ca-file", metavar="FILE", help="Speak TLS; PEM file of the authorities that may have signed its certificate.")
@click.option("--server-name", metavar="NAME", help="Speak TLS; the name its certificate has to carry, if that is not the host.")
@click.option("--cert-file", metavar="FILE", help="PEM file of our own certificate, if it wants one (mutual TLS).")
@click.option("--key-file", metavar="FILE", help="PEM file of its private key.")
@click.option(
    "--shared-key-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Forward: file with the shared key; else the environment variable ESA_TLS_SHARED_KEY.",
)
@click.option("--user", metavar="NAME", help="Forward: our user name.")
@click.option(
    "--password-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Forward: file with the user's password; else the environment variable ESA_TLS_PASSWORD.",
)
@click.option(
    "--token-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="OTLP: file with the bearer token; else the environment variable ESA_TLS_TOKEN.",
)
def send(
    files: tuple[str, ...],
    *,
    to: str,
    rate: float | None,
    tag: str,
    batch_lines: int,
    client: Literal["esa-tls", "fluent-logger"],
    **options: Any,
) -> None:
    """Send the lines of log FILES (plain, .gz, .zst, `-`) to a sidecar; exit 1 if there is none, or the lines were not taken.

    Secrets come from files or the environment, never from the command line, where others can read them.
    """
    from esa_tls.offline import send as sending

    access = _access(options, scheme=sending.parse_destination(to)[0])
    result = sending.run(files, to, rate=rate, client=client, access=access, tag=tag, batch_lines=batch_lines)
    state = "acknowledged" if result.acknowledged else "without acknowledgement"
    again = f", {result.resent} of them again" if result.resent else ""
    click.echo(f"{result.lines} lines sent in {result.batches} batches{again}, {state}", err=True)


def _access(options: dict[str, Any], *, scheme: str) -> Access:
    """How `send` gets in. The environment counts only where the protocol has a use for it, files always."""
    from esa_tls.offline.send import Access

    forward, user = scheme == "forward", options["user"]
    return Access(
        tls=client_tls(options, "ca_file", "cert_file", "key_file", "server_name"),
        shared_key=secret(options["shared_key_file"], "ESA_TLS_SHARED_KEY" if forward else None),
        username=user,
        password=secret(options["password_file"], "ESA_TLS_PASSWORD" if forward and user is not None else None),
        token=secret(options["token_file"], None if forward else "ESA_TLS_TOKEN"),
    )
