"""`check-config`, `config-reference`, `completion`: nothing but the configuration and the commands themselves."""

from __future__ import annotations

import json
from pathlib import Path

import click
from click import shell_completion

from esa_tls.cli.group import cli
from esa_tls.cli.options import load


@click.command("check-config")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--show", is_flag=True, help="Print the whole configuration that results, with defaults filled in and secrets masked.")
def check_config(file: Path | None, *, show: bool) -> None:
    """Check the configuration FILE (without one: the defaults); exit 2 with a sentence if it cannot be used."""
    config = load(file)
    if show:
        import msgspec
        import yaml

        click.echo(yaml.safe_dump(msgspec.to_builtins(config, enc_hook=str), sort_keys=False, allow_unicode=True), nl=False)
        return
    sources = ", ".join(f"{source.name} on {source.listen}" for source in config.sources)
    sinks = ", ".join(sink.name for sink in config.sinks)
    click.echo(f"{file or 'defaults'}: ok: sources {sources}; sinks {sinks}")


@click.command("config-reference")
@click.option(
    "--format",
    "style",
    type=click.Choice(["markdown", "json-schema"]),
    default="markdown",
    show_default=True,
    help="For people or for editors.",
)
def config_reference(style: str) -> None:
    """Print every setting with type, default and meaning."""
    from esa_tls import reference

    if style == "markdown":
        click.echo(reference.config_reference(), nl=False)
    else:
        click.echo(json.dumps(reference.json_schema(), indent=2))


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what has SHELL complete commands, options and files: eval it, or put it where the shell looks."""
    made = shell_completion.get_completion_class(shell)
    assert made is not None
    click.echo(made(cli, {}, "esa-tls", "_ESA_TLS_COMPLETE").source())
