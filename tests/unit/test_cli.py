from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from esa_tls import __version__, cli, config, core_kind
from esa_tls.cli.options import RecordKinds
from esa_tls.core.records import KINDS
from esa_tls.errors import ConfigError, JournalLocked
from esa_tls.runtime.journal import Journal
from esa_tls.runtime.journal_format import DeadLetter


def called(*arguments: str) -> int:
    """The exit code of the command with these arguments, run in this process."""
    with pytest.raises(SystemExit) as stop:
        cli.main(list(arguments))
    code = stop.value.code
    return code if isinstance(code, int) else 0


def commands(group: click.Group = cli.cli, prefix: str = "") -> list[tuple[str, click.Command]]:
    """All commands, those of groups too, by their full name."""
    found: list[tuple[str, click.Command]] = []
    for name, command in group.commands.items():
        found.append((prefix + name, command))
        if isinstance(command, click.Group):
            found += commands(command, f"{prefix}{name} ")
    return found


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` names program and version, and is no failure."""
    assert called("--version") == 0
    assert capsys.readouterr().out == f"esa-tls {__version__} (core: {core_kind()})\n"


def test_the_commands_are_there() -> None:
    """Every command exists, under the name that the manual gives it."""
    assert {name for name, _ in commands()} == {
        "run",
        "scan",
        "explain",
        "report",
        "simulate",
        "send",
        "check-config",
        "config-reference",
        "completion",
        "journal",
        "journal status",
        "journal dead-letters",
        "pseudonym",
        "pseudonym key",
        "pseudonym make",
        "pseudonym reveal",
        "lookup",
        "watch",
        "demo",
        "templates",
    }


@pytest.mark.parametrize(("name", "command"), commands())
def test_everything_has_help(name: str, command: click.Command, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command says what it does, each option what it means, and `--help` shows both."""
    assert called(*name.split(), "--help") == 0
    shown = capsys.readouterr().out
    assert command.help
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help
            assert param.opts[0] in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["scna", "x.log"], "No such command 'scna'"),
        (["scan"], "Missing argument 'FILES...'"),
        (["scan", "does-not-exist.log"], "does not exist"),
        (["scan", __file__, "--records", "delivry"], "unknown kind 'delivry'; did you mean 'delivery'?"),
        (["scan", __file__, "--records", ""], "unknown kind ''; known are line, "),
        (["scan", __file__, "--timezone", "Mars/Olympus"], "no time zone"),
        (["scan", __file__, "--year", "12"], "12 is not in the range"),
        (["explain", __file__], "name exactly one of --mid, --icid, --dcid, --message-id"),
        (["explain", __file__, "--mid", "1", "--icid", "2"], "name exactly one of"),
        (["send", __file__], "Missing option '--to'"),
        (["send", __file__, "--to", "kafka://a:1"], "kafka://a:1"),
        (["simulate", "--loss", "2"], "2.0 is not in the range"),
        (["config-reference", "--format", "xml"], "'xml' is not one of"),
    ],
)
def test_wrong_usage_is_told_and_exits_2(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake in usage is one message on standard error, nothing on standard output, exit code 2."""
    assert called(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert "Traceback" not in err


def test_kinds_of_records() -> None:
    """`--records` takes kinds with commas and spaces, in any order."""
    assert RecordKinds().convert(" delivery,line ", None, None) == frozenset({"delivery", "line"})
    assert frozenset(KINDS) == frozenset(config.JsonlSink().records)


# -- configuration ---------------------------------------------------------------------------------------------------------------
def test_check_config_of_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a file the defaults are checked, and said."""
    assert called("check-config") == 0
    assert capsys.readouterr().out == (
        "defaults: ok: sources fluent on 127.0.0.1:24224, otlp_grpc on 127.0.0.1:4317, otlp_http on 127.0.0.1:4318; sinks jsonl\n"
    )


@pytest.mark.parametrize("command", [["check-config"], ["run", "-c"], ["journal", "status", "-c"], ["journal", "dead-letters", "-c"]])
def test_a_bad_configuration_is_one_sentence(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command that reads a configuration says file, place and reason in one line, and exits 2."""
    path = tmp_path / "bad.yaml"
    path.write_text("sources: [{type: fluent, listn: 1}]", encoding="utf-8")

    assert called(*command, str(path)) == 2
    assert capsys.readouterr() == ("", f"esa-tls: {path}: sources[0].listn: unknown key; did you mean 'listen'?\n")


def test_a_missing_configuration_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is told, exit 2."""
    assert called("check-config", "nowhere.yaml") == 2
    assert capsys.readouterr().err == "esa-tls: nowhere.yaml: cannot be read: No such file or directory\n"


def test_the_whole_configuration_is_shown_without_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--show` prints YAML with all defaults; a secret is masked; without secrets it can be read back."""
    monkeypatch.setenv("METRICS_TOKEN", "hunter2")
    path = tmp_path / "c.yaml"
    path.write_text("web: {metrics_token: '${METRICS_TOKEN}'}\nemit: immediate", encoding="utf-8")

    assert called("check-config", "--show", str(path)) == 0
    shown = capsys.readouterr().out
    assert "hunter2" not in shown
    told = yaml.safe_load(shown)
    assert told["web"].pop("metrics_token") == "***"
    assert config.parse(yaml.safe_dump(told), file="shown") == config.parse("emit: immediate", file="f")


def test_the_reference_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """As markdown for people and as a JSON schema for editors."""
    assert called("config-reference") == 0
    assert "| `max_hold_s` |" in capsys.readouterr().out
    assert called("config-reference", "--format", "json-schema") == 0
    assert "max_hold_s" in json.loads(capsys.readouterr().out)["$defs"]["Config"]["properties"]


# -- how a command ends ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (ConfigError("f.yaml: emit: wrong"), 2, "esa-tls: f.yaml: emit: wrong\n"),
        (JournalLocked("data is in use by process 7"), 1, "esa-tls: data is in use by process 7\n"),
        (PermissionError(13, "Permission denied", "x.log"), 1, "esa-tls: [Errno 13] Permission denied: 'x.log'\n"),
        (KeyboardInterrupt(), 1, "\n"),
    ],
)
def test_what_is_raised_becomes_a_sentence_and_a_code(
    raised: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors that are raised on purpose and those of the system end in one line and the right exit code."""

    def fail(_path: object) -> config.Config:
        raise raised

    monkeypatch.setattr(config, "load", fail)

    assert called("check-config") == code
    assert capsys.readouterr() == ("", told)


def test_a_mistake_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody raised on purpose stays a traceback."""
    monkeypatch.setattr(config, "load", lambda _path: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["check-config"])


@pytest.mark.parametrize("arguments", [["config-reference"], ["simulate", "--messages", "2000"]])
def test_a_closed_pipe_ends_quietly(arguments: list[str]) -> None:
    """A reader that goes away (`| head -1`) ends the command with code 0 and not a word."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "esa_tls.cli", *arguments], stdout=out, stderr=subprocess.PIPE, timeout=60, check=False
        )

    assert (done.returncode, done.stderr) == (0, b"")


def test_a_broken_connection_is_no_closed_pipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A broken pipe that is not our standard output is a failure, said and with exit code 1."""

    def fail(_path: object) -> config.Config:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(config, "load", fail)

    assert called("check-config") == 1
    assert "Broken pipe" in capsys.readouterr().err


# -- simulate --------------------------------------------------------------------------------------------------------------------
def test_simulate_writes_lines_and_truth(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Lines to standard output, the truth to a file; the same seed gives the same bytes."""
    arguments = ["simulate", "--messages", "20", "--seed", "5", "--truth", str(tmp_path / "truth.jsonl")]
    assert called(*arguments) == 0
    first = capfdbinary.readouterr().out
    assert called(*arguments) == 0

    assert first == capfdbinary.readouterr().out
    assert b"Info: New SMTP ICID " in first
    kinds = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(kinds) > 20


def test_simulate_can_write_a_file_for_each_appliance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`{appliance}` in the name of the output makes one file for each."""
    assert called("simulate", "--messages", "20", "--appliances", "3", "--output", str(tmp_path / "mail-{appliance}.log")) == 0

    assert sorted(path.name for path in tmp_path.iterdir()) == ["mail-esa1.log", "mail-esa2.log", "mail-esa3.log"]
    assert capsys.readouterr().out == ""


def test_simulate_names_several_appliances_in_one_file(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Several appliances in one stream come in the syslog form, which names each; the file form is refused for them."""
    assert called("simulate", "--messages", "20", "--appliances", "2") == 0
    assert all(b" esa1 " in line or b" esa2 " in line for line in capfdbinary.readouterr().out.splitlines())
    assert called("simulate", "--messages", "20", "--appliances", "2", "--form", "file") == 2


def test_it_is_a_module_too() -> None:
    """`python -m esa_tls` is `esa-tls`, where the command is not on the path."""
    done = subprocess.run([sys.executable, "-m", "esa_tls", "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("esa-tls ")


# -- journal ---------------------------------------------------------------------------------------------------------------------
@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """A configuration whose journal holds one dead letter."""
    journal = Journal.open(tmp_path / "data")
    journal.commit([], dead_letters=[DeadLetter("sink:next", "permanent: no", b"{}", "json", 1.0)])
    journal.close()
    path = tmp_path / "c.yaml"
    path.write_text(f"data_dir: {tmp_path / 'data'}\njournal: {{max_bytes: 67108864}}", encoding="utf-8")
    return path


def test_journal_status(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The state of the journal that the configuration names, for people and for programs."""
    assert called("journal", "status", "-c", str(config_file)) == 0
    assert "of 67,108,864 bytes" in capsys.readouterr().out
    assert called("journal", "status", "--json", "-c", str(config_file)) == 0
    assert json.loads(capsys.readouterr().out)["dead_letters"] == 1


def test_dead_letters_are_listed_and_discarded(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1 while there are any; `--discard` deletes what it listed; then exit 0."""
    command = ["journal", "dead-letters", "-c", str(config_file)]
    assert called(*command) == 1
    assert "sink:next  permanent: no" in capsys.readouterr().out
    assert called(*command, "--json", "--discard") == 0
    assert json.loads(capsys.readouterr().out)["reason"] == "permanent: no"
    assert called(*command) == 0
    assert capsys.readouterr().out == ""


def test_dead_letters_are_replayed_one_way_at_a_time(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--replay` says how many were delivered and lists what is left; deleting what was not looked at is refused."""
    command = ["journal", "dead-letters", "-c", str(config_file)]
    assert called(*command, "--replay") == 1
    told = capsys.readouterr()
    assert told.err == "0 delivered\n"
    assert "sink:next  permanent: no" in told.out
    assert called(*command, "--replay", "--discard") == 2


def test_dead_letters_of_one_sink(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--sink` looks at one sink alone; a replay needs it in the configuration, and says which there are."""
    command = ["journal", "dead-letters", "-c", str(config_file)]
    assert called(*command, "--sink", "next") == 1
    assert capsys.readouterr().out.startswith("sink:next: 1 dead letter: 1 permanent\n1  ")
    assert called(*command, "--sink", "other") == 0
    assert capsys.readouterr().out == ""
    assert called(*command, "--sink", "other", "--discard") == 0
    assert called(*command, "--sink", "next", "--replay") == 2
    assert "the configuration has no sink 'next'; it has jsonl" in capsys.readouterr().err
    assert called(*command, "--sink", "next", "--discard") == 0
    assert capsys.readouterr().err == "1 discarded\n"


def test_one_dead_letter_is_shown_and_explained(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--number` shows one whole, with what its reason means; `--explain` says it of all; what is not there is told."""
    command = ["journal", "dead-letters", "-c", str(config_file)]
    assert called(*command, "--explain") == 1
    assert "permanent: The sink refused the record alone" in capsys.readouterr().out
    assert called(*command, "--number", "1") == 1
    shown = capsys.readouterr().out
    assert "reason   permanent: no\nmeaning  The sink refused the record alone" in shown
    assert shown.endswith("payload  json, 2 bytes\n{}\n")
    assert called(*command, "--number", "1", "--json", "--explain") == 1
    assert json.loads(capsys.readouterr().out)["meaning"].startswith("The sink refused")
    assert called(*command, "--number", "2") == 1
    assert capsys.readouterr().err == "esa-tls: there is no dead letter 2\n"
    assert called(*command, "--number", "1", "--sink", "next") == 2
    assert called(*command, "--number", "1", "--replay") == 2
    assert called(*command, "--number", "1", "--discard") == 0
    assert called(*command) == 0


# -- pseudonyms ------------------------------------------------------------------------------------------------------------------
def test_a_key_is_made_and_reads_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`pseudonym key` prints a line for the configuration, another one each time; `pseudonym reveal` turns back with it."""
    from esa_tls.wire.pseudonyms import Pseudonyms

    assert called("pseudonym", "key", "--id", "3") == 0
    assert called("pseudonym", "key", "--id", "4") == 0
    lines = capsys.readouterr().out.splitlines()
    keys = config.key_ring("\n".join(lines))
    assert sorted(keys) == [3, 4]
    assert len(set(keys.values())) == 2
    assert {len(key) for key in keys.values()} == {32}
    path = tmp_path / "keys"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    address = Pseudonyms(keys).address("anna", "example.org", keep_domain=True)
    assert called("pseudonym", "reveal", f"to <{address}>", "--key-file", str(path)) == 0
    assert capsys.readouterr().out == "to <anna@example.org>\n"
    path.write_text(lines[0], encoding="utf-8")
    assert called("pseudonym", "reveal", address, "--key-file", str(path)) == 1
    told = capsys.readouterr()
    assert told.out == f"{address}\n"
    assert told.err == f"esa-tls: 1 pseudonym of no key in {path}\n"
    path.write_text("no key", encoding="utf-8")
    assert called("pseudonym", "reveal", address, "--key-file", str(path)) == 2
    assert capsys.readouterr().err == f"esa-tls: {path}: line 1 is no `ID:KEY` with an ID from 1 to 9999\n"


def test_pseudonyms_to_search_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`pseudonym make` prints what stands in records for an address or a text, for each key, the newest first."""
    from esa_tls.wire.pseudonyms import Pseudonyms

    path = tmp_path / "keys"
    path.write_text("1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n2:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n", encoding="utf-8")
    old, new = Pseudonyms({1: bytes(32)}), Pseudonyms({2: b"\x01" * 32})
    assert called("pseudonym", "make", "anna@example.org", "--key-file", str(path)) == 0
    assert capsys.readouterr().out.split() == [one.address("anna", "example.org", keep_domain=True) for one in (new, old)]
    assert called("pseudonym", "make", "anna@example.org", "--key-file", str(path), "--domains", "pseudonym") == 0
    assert capsys.readouterr().out.split() == [one.address("anna", "example.org", keep_domain=False) for one in (new, old)]
    assert called("pseudonym", "make", "Offer for Dora", "--key-file", str(path)) == 0
    assert capsys.readouterr().out.split() == [new.of("Offer for Dora", ""), old.of("Offer for Dora", "")]


def test_standard_input_is_revealed_line_by_line(tmp_path: Path) -> None:
    """Without TEXT lines come from standard input; JSON stays JSON whatever is revealed in it; control characters reach no terminal."""
    from esa_tls.wire.pseudonyms import Pseudonyms

    pseudonyms = Pseudonyms({1: bytes(32)})
    path = tmp_path / "keys"
    path.write_text("1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n", encoding="utf-8")
    record = {"email": {"subject": pseudonyms.of('a "b" \x1b[2J', ""), "to": [pseudonyms.of("c", ""), 1, None]}}
    first, second = pseudonyms.of("a \x1b[2J", ""), pseudonyms.of("d", "")
    given = f"{json.dumps(record)}\nSubject {first}\n{{no json {second}\n\n"
    done = subprocess.run(
        [sys.executable, "-m", "esa_tls", "pseudonym", "reveal", "--key-file", str(path)],
        input=given.encode(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    told, *rest = done.stdout.decode().split("\n")
    assert json.loads(told) == {"email": {"subject": 'a "b" \x1b[2J', "to": ["c", 1, None]}}
    assert rest == ["Subject a \\x1b[2J", "{no json d", "", ""]


# -- what one sink gets ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("fields: {drop: [email.subjekt]}", "sinks[0].fields.drop[0]: there is no field 'email.subjekt'; did you mean 'email.subject'?"),
        ("fields: {keep: [related, x]}", "sinks[0].fields.keep[1]: there is no field 'x'; the manual's page on records has them all"),
        ("fields: {drop: [event.id]}", "sinks[0].fields.drop[0]: 'event.id' cannot be dropped: stores recognise a repeat by it"),
        ("truncate: {source.ip: 3}", "sinks[0].truncate: 'source.ip' is no text but of type ip"),
    ],
)
@pytest.mark.parametrize("command", [["check-config"], ["run", "-c"], ["journal", "status", "-c"]])
def test_paths_of_fields_are_checked(
    command: list[str], settings: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A path that names no field, or one that cannot be dropped or cut, is refused in one sentence, by every command."""
    path = tmp_path / "c.yaml"
    path.write_text(f"sinks: [{{type: jsonl, {settings}}}]", encoding="utf-8")
    assert called(*command, str(path)) == 2
    assert capsys.readouterr() == ("", f"esa-tls: {path}: {told}\n")


def test_no_journal_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for a journal where there is none: a sentence, exit 1."""
    monkeypatch.chdir(tmp_path)

    assert called("journal", "status") == 1
    assert "there is no journal in" in capsys.readouterr().err
