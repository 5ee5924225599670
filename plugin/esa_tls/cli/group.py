"""The command `esa-tls` itself: what all commands hang on, and how they end."""

from __future__ import annotations

import os
import select
import sys
from typing import Any

import click

from esa_tls import __version__, core_kind
from esa_tls.errors import ConfigError, EsaTlsError, TransientError


class _ReaderGone(Exception):
    """Whoever read our standard output went away."""


class _Commands(click.Group):
    """Keeps a closed pipe away from click, which would make it exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            poll = select.poll()
            poll.register(1, 0)  # POLLERR is always told: the pipe has no reader. A peer's connection that broke is another matter.
            if any(event & select.POLLERR for _, event in poll.poll(0)):
                raise _ReaderGone from error
            raise TransientError(str(error)) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, message=f"%(prog)s %(version)s (core: {core_kind()})")
def cli() -> None:
    """Join the mail log lines of Cisco ESA appliances: which mail went under TLS, which in clear, and why that is believed."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `esa-tls` command: run it, and turn what was raised into a sentence and an exit code."""
    try:
        code = cli.main(arguments, prog_name="esa-tls", standalone_mode=False)
        sys.stdout.flush()
    except click.Abort:
        code = 1
    except click.ClickException as error:
        error.show()
        code = 2
    except ConfigError as error:
        click.echo(f"esa-tls: {error}", err=True)
        code = 2
    except (_ReaderGone, BrokenPipeError):
        # The reader has seen enough. Standard output is pointed away so that the interpreter's last flush cannot fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 0
    except (EsaTlsError, OSError) as error:
        click.echo(f"esa-tls: {error}", err=True)
        code = 1
    sys.exit(code)
