"""The commands. The only file that prints or exits.

Rules of this file:

1. A command turns its options into arguments and calls one function; it imports what it needs when it runs. It returns its exit
   code (None is 0); only `main` exits.
2. Exit codes: 0 = ok; 1 = a finding or failure that the command exists to report; 2 = usage or configuration.
3. What esa-tls raises on purpose is shown as one sentence on standard error, never as a traceback.
4. Results go to standard output; progress and messages to standard error. A reader that goes away ends the command quietly.
"""

from __future__ import annotations

import difflib
import json
import os
import select
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeVar

import click
from click import shell_completion

from esa_tls import __version__, core_kind
from esa_tls.errors import ConfigError, EsaTlsError, TransientError

if TYPE_CHECKING:
    from rich.console import Console

    from esa_tls.api.client import Sidecar
    from esa_tls.config import Config, RequireTls, Secret
    from esa_tls.offline.send import Access
    from esa_tls.templates import Access as StoreAccess

KINDS = ("line", "connection", "delivery", "message", "consolidated")
OUTCOMES = ("success", "failed", "none", "unknown", "pending")

Command = TypeVar("Command", bound=Callable[..., Any])


class RecordKinds(click.ParamType[frozenset[str]]):
    """`connection,delivery` as a frozenset of record kinds."""

    name = "kinds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[str]:
        """Split at commas; an unknown kind is a usage error that names the nearest one."""
        if isinstance(value, frozenset):
            return value
        kinds = [kind.strip() for kind in str(value).split(",")]
        for kind in kinds:
            if kind not in KINDS:
                close = difflib.get_close_matches(kind, KINDS, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(KINDS)}"
                self.fail(f"unknown kind {kind!r}; {hint}", param, ctx)
        return frozenset(kinds)


def _time_zone(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise click.BadParameter(f"{value!r} is no time zone that is known here") from error
    return value


MOMENT = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"])


def _require_tls(_context: click.Context, _parameter: click.Parameter, value: Path | None) -> RequireTls | None:
    if value is None:
        return None
    from esa_tls.config import load_require_tls

    return load_require_tls(value)


def _moment(_context: click.Context, _parameter: click.Parameter, value: datetime | None) -> int | None:
    return None if value is None else int(value.replace(tzinfo=value.tzinfo or UTC).timestamp())


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


config_option = click.option(
    "-c", "--config", "config_path", metavar="FILE", type=click.Path(path_type=Path), help="YAML configuration; without it the defaults."
)


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


# -- the sidecar -----------------------------------------------------------------------------------------------------------------
@cli.command()
@config_option
def run(config_path: Path | None) -> int:
    """Run the sidecar until SIGTERM or Ctrl-C; then it drains and ends. SIGHUP has it read the configuration file again."""
    config = _load(config_path)
    from esa_tls import app

    return app.run(config, reload=None if config_path is None else lambda: _load(config_path))


@cli.command("check-config")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--show", is_flag=True, help="Print the whole configuration that results, with defaults filled in and secrets masked.")
def check_config(file: Path | None, *, show: bool) -> None:
    """Check the configuration FILE (without one: the defaults); exit 2 with a sentence if it cannot be used."""
    config = _load(file)
    if show:
        import msgspec
        import yaml

        click.echo(yaml.safe_dump(msgspec.to_builtins(config, enc_hook=str), sort_keys=False, allow_unicode=True), nl=False)
        return
    sources = ", ".join(f"{source.name} on {source.listen}" for source in config.sources)
    sinks = ", ".join(sink.name for sink in config.sinks)
    click.echo(f"{file or 'defaults'}: ok: sources {sources}; sinks {sinks}")


@cli.command("config-reference")
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


@cli.command()
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


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what has SHELL complete commands, options and files: eval it, or put it where the shell looks."""
    made = shell_completion.get_completion_class(shell)
    assert made is not None
    click.echo(made(cli, {}, "esa-tls", "_ESA_TLS_COMPLETE").source())


@cli.group()
def journal() -> None:
    """Look into the journal of a sidecar, also while it runs."""


@journal.command("status")
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def journal_status(config_path: Path | None, *, as_json: bool) -> None:
    """What the journal holds: size, records waiting, how far each sink is, dead letters."""
    from esa_tls.offline import journal_report

    config = _load(config_path)
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

    config = _load(config_path)
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


_key_file = click.option(
    "--key-file",
    required=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The keys, as in `pseudonyms.keys` of a sink.",
)


@cli.group()
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

    for made in pseudonyms.make(text, keys=_secret(key_file, None), file=str(key_file), keep_domains=domains == "keep"):
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
    unread = pseudonyms.reveal(lines, out=_stdout(), keys=_secret(key_file, None), file=str(key_file))
    if unread:
        click.echo(f"esa-tls: {unread} pseudonym{'' if unread == 1 else 's'} of no key in {key_file}", err=True)
    return int(bool(unread))


# -- log files -------------------------------------------------------------------------------------------------------------------
@cli.command()
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

    return scanning.run(files, out=_stdout(), console=_progress(), style=style, records=records, **reading)


@cli.command()
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
        files, out=_stdout(), console=_progress(), mid=mid, icid=icid, dcid=dcid, message_id=message_id, style=style, **reading
    )


@cli.command()
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
        files, out=_stdout(), console=_progress(), top=top, html=html, png=png, csv=csv, since_s=since_s, until_s=until_s, **reading
    )


@cli.command()
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
            out = _stdout() if output == "-" else files.enter_context(Path(output).open("wb"))
        truth_file = files.enter_context(truth.open("w", encoding="utf-8")) if truth else None
        counts = write_simulation(chosen, out, truth_file, shuffle_in_second=shuffle, loss=loss)
    lost = f", {counts.lost_lines} left out" if counts.lost_lines else ""
    click.echo(f"{counts.lines} lines{lost}, {counts.truth_records} records of truth", err=True)


@cli.command()
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


# -- a running sidecar -----------------------------------------------------------------------------------------------------------
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


@cli.command()
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

    return client.lookup(sidecar, out=_stdout(), as_json=as_json, limit=limit, appliance=appliance, **options)


@cli.command()
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
        out=_stdout(),
        messages=sys.stderr.buffer,
        as_json=as_json,
        kinds=kinds or frozenset(),
        outcomes=outcomes,
        directions=directions,
        appliances=appliances,
    )


@cli.command()
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


# -- shared ----------------------------------------------------------------------------------------------------------------------
def _load(path: Path | None) -> Config:
    from esa_tls import config

    loaded = config.load(path)
    if any(sink.fields is not None or sink.truncate for sink in loaded.sinks):
        from esa_tls import app

        app.check_selections(loaded, file=str(path))
    return loaded


def _sidecar(options: dict[str, Any]) -> Sidecar:
    """The sidecar that is asked, by the `asking_options`, which are taken out of `options`.

    Its token comes from a file or the environment, never from the command line.
    """
    from esa_tls.api.client import Sidecar
    from esa_tls.config import ClientTls, listen_address

    address, token_file, tls = options.pop("address"), options.pop("token_file"), options.pop("tls")
    files = {name: options.pop(name) for name in ("ca_file", "cert_file", "key_file")}
    try:
        listen_address(address)
    except ValueError as error:
        raise click.UsageError(f"--address: {error}") from error
    secured = ClientTls(**files) if tls or any(files.values()) else None
    return Sidecar(address, token=os.environ.get("ESA_TLS_TOKEN"), token_file=token_file, tls=secured)


def _access(options: dict[str, Any], *, scheme: str) -> Access:
    """How `send` gets in. The environment counts only where the protocol has a use for it, files always."""
    from esa_tls.config import ClientTls
    from esa_tls.offline.send import Access

    forward, user = scheme == "forward", options["user"]
    files = {name: options[name] for name in ("ca_file", "cert_file", "key_file", "server_name")}
    return Access(
        tls=ClientTls(**files) if options["tls"] or any(files.values()) else None,
        shared_key=_secret(options["shared_key_file"], "ESA_TLS_SHARED_KEY" if forward else None),
        username=user,
        password=_secret(options["password_file"], "ESA_TLS_PASSWORD" if forward and user is not None else None),
        token=_secret(options["token_file"], None if forward else "ESA_TLS_TOKEN"),
    )


def _store_access(options: dict[str, Any]) -> StoreAccess:
    """How `templates --apply` gets in. A user has a password, who names none may have an API key."""
    from esa_tls import templates as preparing
    from esa_tls.config import ClientTls

    user, files = options["user"], {name: options[name] for name in ("ca_file", "cert_file", "key_file", "server_name")}
    if user is not None and options["api_key_file"] is not None:
        raise click.UsageError("--user and --api-key-file do not go together")
    password = _secret(options["password_file"], None if user is None else "ESA_TLS_PASSWORD")
    if (user is None) != (password is None):
        raise click.UsageError("--user and a password (--password-file or ESA_TLS_PASSWORD) belong together")
    return preparing.Access(
        tls=ClientTls(**files) if options["tls"] or any(files.values()) else None,
        api_key=_secret(options["api_key_file"], "ESA_TLS_API_KEY") if user is None else None,
        username=user,
        password=password,
    )


def _secret(file: Path | None, variable: str | None) -> Secret | None:
    """A secret out of a file, without its last line end, or else out of the environment; None: there is none."""
    from esa_tls.config import Secret

    if file is None:
        text = None if variable is None else os.environ.get(variable)
        return None if text is None else Secret(text)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "is no UTF-8"
        raise ConfigError(f"{file}: cannot be read: {reason}") from error
    return Secret(text.removesuffix("\n").removesuffix("\r"))


def _stdout() -> BinaryIO:
    return sys.stdout.buffer


def _progress() -> Console | None:
    """Where progress may be drawn: standard error, if a person looks at it."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console

    return Console(stderr=True)


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


if __name__ == "__main__":
    main()
