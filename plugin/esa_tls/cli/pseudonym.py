"""`pseudonym key`, `make` and `reveal`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from esa_tls.cli.access import secret
from esa_tls.cli.options import stdout

_key_file = click.option(
    "--key-file",
    required=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The keys, as in `pseudonyms.keys` of a sink.",
)


@click.group()
def pseudonym() -> None:
    """Keys of pseudonyms, and what stands behind a pseudonym."""


@pseudonym.command("key")
@click.option("--id", "number", type=click.IntRange(1, 9999), default=1, show_default=True, help="Its ID; a new one has to be the highest.")
def pseudonym_key(number: int) -> None:
    """Print a new key for `pseudonyms.keys`: random, and to be kept as long as anybody may need to know who was meant."""
    from esa_tls.offline import pseudonym as pseudonyms

    click.echo(pseudonyms.new_key(number))


@pseudonym.command("make")
@click.argument("text")
@_key_file
@click.option(
    "--domains", type=click.Choice(["keep", "pseudonym"]), default="keep", show_default=True, help="As in the sink that is to be searched."
)
def pseudonym_make(text: str, *, key_file: Path, domains: str) -> None:
    """Print the pseudonyms of TEXT, a mail address or anything else, to search a store for: one for each key, the newest first."""
    from esa_tls.offline import pseudonym as pseudonyms

    for made in pseudonyms.make(text, keys=secret(key_file, None), file=str(key_file), keep_domains=domains == "keep"):
        click.echo(made)


@pseudonym.command("reveal")
@click.argument("text", required=False)
@_key_file
def pseudonym_reveal(text: str | None, *, key_file: Path) -> int:
    """Print TEXT, or standard input line by line, with its pseudonyms turned back; exit 1 if any is of no key that is there.

    Lines that are JSON objects stay JSON.
    """
    from esa_tls.offline import pseudonym as pseudonyms

    lines = sys.stdin.buffer if text is None else [text.encode("utf-8", "surrogateescape")]
    unread = pseudonyms.reveal(lines, out=stdout(), keys=secret(key_file, None), file=str(key_file))
    if unread:
        click.echo(f"esa-tls: {unread} pseudonym{'' if unread == 1 else 's'} of no key in {key_file}", err=True)
    return int(bool(unread))
