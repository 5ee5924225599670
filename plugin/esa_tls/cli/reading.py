"""`scan`, `explain` and `report`: log files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from esa_tls.cli.options import Command, RecordKinds, progress, stdout
from esa_tls.core.records import KINDS

if TYPE_CHECKING:
    from esa_tls.config import RequireTls


MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"])


def _moment(_context: click.Context, _parameter: click.Parameter, value: datetime | None) -> int | None:
    return None if value is None else int(value.replace(tzinfo=value.tzinfo or UTC).timestamp())


def _time_zone(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise click.BadParameter(f"{value!r} is no time zone that is known here") from error
    return value


def _require_tls(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> RequireTls | None:
    if value is None:
        return None
    from esa_tls.config import load_require_tls

    return load_require_tls(value)


def reading_options(command: Command) -> Command:
    """Options of every command that reads log files: how their lines are to be understood."""
    options = [
        click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, readable=True, allow_dash=True)),
        click.option(
            "--appliance", metavar="NAME", help="The appliance all lines came from. Without it the syslog host, else the file's name."
        ),
        click.option("--timezone", metavar="ZONE", default="UTC", show_default=True, callback=_time_zone, help="IANA zone of the stamps."),
        click.option("--year", type=click.IntRange(1970, 2105), help="Year of the first stamp, where stamps carry none."),
        click.option("--lossy", is_flag=True, help="Lines may be missing or late: a missing TLS line proves less."),
        click.option(
            "--reorder-window",
            "reorder_window_s",
            metavar="S",
            type=click.FloatRange(min=0),
            help="Decide `none` only S seconds after the line that would decide it. Without it 2 for lossy lines, else 0.",
        ),
        click.option(
            "--require-tls",
            metavar="FILE",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            callback=_require_tls,
            help="YAML lists of partners, domains and sender groups that are expected to use TLS (see `require_tls`).",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@reading_options
@click.option(
    "--format", "style", type=click.Choice(["jsonl", "table"]), default="jsonl", show_default=True, help="For programs or for people."
)
@click.option(
    "--records",
    type=RecordKinds(),
    default=",".join(KINDS),
    show_default=True,
    metavar="KINDS",
    help="Kinds of records wanted, with commas.",
)
def scan(files: tuple[str, ...], *, style: str, records: frozenset[str], **reading: Any) -> int:
    """Read log FILES (plain, .gz, .zst; `-` is standard input) and print records."""
    from esa_tls.offline import scan as scanning

    return scanning.run(files, out=stdout(), console=progress(), style=style, records=records, **reading)


@click.command()
@reading_options
@click.option("--mid", type=click.IntRange(min=1), help="The message with this MID.")
@click.option("--icid", type=click.IntRange(min=1), help="The reception with this ICID.")
@click.option("--dcid", type=click.IntRange(min=1), help="The delivery connection with this DCID.")
@click.option("--message-id", metavar="ID", help="The messages with this Message-ID, with or without angle brackets.")
@click.option(
    "--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For people or for programs."
)
def explain(
    files: tuple[str, ...],
    *,
    style: str,
    mid: int | None,
    icid: int | None,
    dcid: int | None,
    message_id: str | None,
    **reading: Any,
) -> int:
    """Tell the story of one message or connection from log FILES, with the lines that prove it; exit 1 if it is not there."""
    wanted = {"mid": mid, "icid": icid, "dcid": dcid, "message_id": message_id}
    if sum(value is not None for value in wanted.values()) != 1:
        raise click.UsageError("name exactly one of --mid, --icid, --dcid, --message-id")
    from esa_tls.offline import explain as explaining

    return explaining.run(
        files, out=stdout(), console=progress(), mid=mid, icid=icid, dcid=dcid, message_id=message_id, style=style, **reading
    )


@click.command()
@reading_options
@click.option("--top", type=click.IntRange(min=1), default=20, show_default=True, metavar="N", help="Length of the rankings.")
@click.option(
    "--html", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write one self-contained page instead, with charts."
)
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Write the main chart as a picture instead.")
@click.option(
    "--csv",
    type=click.Path(path_type=Path),
    metavar="NAME",
    help="With --require-tls: write NAME-partners.csv and NAME-exceptions.csv.",
)
@click.option("--since", "since_s", type=MOMENT, callback=_moment, metavar="TIME", help="Only records from then on (UTC).")
@click.option("--until", "until_s", type=MOMENT, callback=_moment, metavar="TIME", help="Only records before that (UTC).")
def report(
    files: tuple[str, ...],
    *,
    top: int,
    html: Path | None,
    png: Path | None,
    csv: Path | None,
    since_s: int | None,
    until_s: int | None,
    **reading: Any,
) -> int:
    """Summarise log FILES: TLS outcomes, protocols, failures, and who sent or got mail in clear."""
    if csv is not None and reading["require_tls"] is None:
        raise click.UsageError("--csv needs --require-tls: it writes what these lists are about")
    from esa_tls.offline import report as reporting

    return reporting.run(
        files, out=stdout(), console=progress(), top=top, html=html, png=png, csv=csv, since_s=since_s, until_s=until_s, **reading
    )
