"""`run` and `demo`: a sidecar."""

from __future__ import annotations

from pathlib import Path

import click

from esa_tls.cli.options import config_option, load


@click.command()
@config_option
def run(config_path: Path | None) -> int:
    """Run the sidecar until SIGTERM or Ctrl-C; then it drains and ends. SIGHUP has it read the configuration file again."""
    config = load(config_path)
    from esa_tls import app

    return app.run(config, reload=None if config_path is None else lambda: load(config_path))


@click.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@click.option(
    "--keep/--no-keep",
    default=None,
    help="Leave the sidecar and its page running afterwards, until Ctrl-C. Without either: on a terminal it does.",
)
def demo(files: tuple[Path, ...], *, keep: bool | None) -> int:
    """Start a sidecar with defaults, send it log FILES, a sample and simulated traffic, and show what comes out."""
    from esa_tls.offline import demo as demonstration

    return demonstration.run(files, keep=keep)
