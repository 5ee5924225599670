"""`journal status` and `journal dead-letters`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from esa_tls.cli.options import config_option, load


@click.group()
def journal() -> None:
    """Look into the journal of a sidecar, also while it runs."""


@journal.command("status")
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def journal_status(config_path: Path | None, *, as_json: bool) -> None:
    """What the journal holds: size, records waiting, how far each sink is, dead letters."""
    from esa_tls.offline import journal_report

    config = load(config_path)
    told = journal_report.status(Path(config.data_dir), max_bytes=config.journal.max_bytes)
    for line in [json.dumps(told, indent=2)] if as_json else journal_report.status_lines(told):
        click.echo(line)


@journal.command("dead-letters")
@config_option
@click.option("--sink", metavar="NAME", help="Only what this sink refused.")
@click.option("--number", type=click.IntRange(min=1), metavar="N", help="Show the letter with this number, whole, and what to do about it.")
@click.option("--explain", is_flag=True, help="Say what each reason means and what to do about it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with the whole payload in base64.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="The oldest N.")
@click.option("--replay", is_flag=True, help="First send records again to the sinks that refused them. Only while no sidecar runs.")
@click.option("--discard", is_flag=True, help="Delete what was listed. Only while no sidecar runs on this journal.")
def journal_dead_letters(
    config_path: Path | None,
    *,
    sink: str | None,
    number: int | None,
    explain: bool,
    as_json: bool,
    limit: int,
    replay: bool,
    discard: bool,
) -> int:
    """Count by origin and reason, and list, what could not be read or delivered; on request deliver it after all. Exit 1 if any is left."""
    if replay and discard:
        raise click.UsageError("--replay and --discard do not go together: look at what is left after a replay first")
    if number is not None and (replay or sink is not None):
        raise click.UsageError("--number names one letter: it goes with --json, --explain and --discard alone")
    from esa_tls.offline import journal_report

    config = load(config_path)
    data_dir = Path(config.data_dir)
    if number is not None:
        return _one_dead_letter(data_dir, number, as_json=as_json, explain=explain, discard=discard)
    origin = None if sink is None else f"sink:{sink}"
    if replay and journal_report.dead_letters(data_dir, limit=1, origin=origin):
        from esa_tls import app

        click.echo(f"{app.replay_dead_letters(config, limit=limit, sink=sink)} delivered", err=True)
    letters = journal_report.dead_letters(data_dir, limit=limit, origin=origin)
    if not as_json:
        for line in journal_report.count_lines(journal_report.counts(data_dir, origin=origin), explain=explain):
            click.echo(line)
    for found, letter in letters:
        click.echo(journal_report.letter_json(found, letter, explain=explain) if as_json else journal_report.letter_line(found, letter))
    if discard and letters:
        click.echo(f"{journal_report.discard(data_dir, [found for found, _ in letters])} discarded", err=True)
        return int(bool(journal_report.dead_letters(data_dir, limit=1, origin=origin)))
    return int(bool(letters))


def _one_dead_letter(data_dir: Path, number: int, *, as_json: bool, explain: bool, discard: bool) -> int:
    from esa_tls.offline import journal_report

    letter = journal_report.dead_letter(data_dir, number)
    if letter is None:
        click.echo(f"esa-tls: there is no dead letter {number}", err=True)
        return 1
    click.echo(journal_report.letter_json(number, letter, explain=explain) if as_json else journal_report.letter_text(number, letter))
    if discard:
        click.echo(f"{journal_report.discard(data_dir, [number])} discarded", err=True)
    return int(not discard)
