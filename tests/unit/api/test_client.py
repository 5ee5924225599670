from __future__ import annotations

import copy
import io
import json
from collections.abc import Iterable
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import RenderableType
from tests.unit.api.cases import CLEAR_DELIVERY, END, MESSAGE, NOW_S, Core, corpus_records

from esa_tls.api import show
from esa_tls.api.client import Sidecar
from esa_tls.api.lookup import Query, search
from esa_tls.cli import cli
from esa_tls.errors import ConfigError
from esa_tls.offline.terminal import put


def text_of(parts: Iterable[RenderableType], *, fold: bool = True) -> str:
    """What people see."""
    out = io.BytesIO()
    put(out, parts, fold=fold)
    return out.getvalue().decode()


def known(*lines: bytes, **query: Any) -> dict[str, Any]:
    """The record of what is looked up after these lines."""
    core = Core()
    core.feed(lines)
    (found,) = [one for one in search(core.pipeline.boxes, Query(**query), now_s=NOW_S) if one]
    return found.record


# -- what people see -------------------------------------------------------------------------------------------------------------
def test_a_message_as_a_block() -> None:
    """An open message: where it came from and how, what became of whom, on which connection, and its posture."""
    text = text_of(show.entry(known(*MESSAGE, *CLEAR_DELIVERY, by="mid", value=21), is_open=True))

    for part in (
        "MID 21  message, open  on esa1",
        "received on    esa1/0/ICID/11",
        "TLS success (line) TLSv1.2 ECDHE-RSA-AES256-GCM-SHA384 not in clear text",
        "received from  mx.example.net [198.51.100.7]",
        "posture        exposed (in encrypted, out exposed)",
        "esa1/0/DCID/31  0     delivered  none (",
        "in clear text",
        "[203.0.113.9]:25",
        "0    Bob@Example.org  delivered  exposed  none",
    ):
        assert part in text, text
    assert "ended by" not in text


def test_a_connection_as_a_block() -> None:
    """A connection that is gone: direction, TLS, peer, messages and how it ended."""
    text = text_of(show.entry(known(*MESSAGE, *CLEAR_DELIVERY, *END, by="icid", value=11), is_open=False))

    for part in ("esa1/0/ICID/11  connection, gone  on esa1", "direction     inbound", "messages      MID 21", "ended by      close"):
        assert part in text, text


@pytest.mark.parametrize(
    ("count", "incomplete", "said"),
    [
        (0, False, "Nothing is known of that now.\n"),
        (0, True, "Nothing was found in the time there is for a search.\n"),
        (2, True, "There may be more.\n"),
        (2, False, ""),
    ],
)
def test_what_stands_below_the_results(count: int, incomplete: bool, said: str) -> None:
    """Nothing found, and not everything found, are said."""
    assert said == text_of(show.ending(count, incomplete=incomplete))


def test_every_record_has_a_row() -> None:
    """Every record the core makes is one line: its time, kind and words of TLS stand in it."""
    for record in corpus_records():
        (line,) = text_of([show.row(record)], fold=False).splitlines()
        assert record["@timestamp"][:10] in line
        assert record["cisco_esa"]["record"] in line
        assert record["cisco_esa"].get("tls", {}).get("outcome", "") in line


def test_every_entry_can_be_shown() -> None:
    """Connections and messages with whatever they say, or leave out, give a block."""
    for record in corpus_records():
        if record["cisco_esa"]["record"] in ("connection", "message"):
            assert text_of(show.entry(record, is_open=False))
    for kind in ("connection", "message"):
        assert text_of(show.entry({"cisco_esa": {"record": kind}}, is_open=True))
    assert text_of([show.row({})])


def spoiled(value: Any) -> Any:
    """The same with an escape sequence, markup and a line end in every text."""
    if isinstance(value, dict):
        return {key: spoiled(one) if key != "record" else one for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [spoiled(one) for one in value]
    return f"\x1b]0;{value}\x07[red]\n\u202e" if isinstance(value, str) else value


@pytest.mark.parametrize("kind", ["line", "connection", "delivery", "message", "consolidated"])
def test_no_control_character_reaches_the_terminal(kind: str) -> None:
    """Text from outside cannot move the cursor, name the window, turn text around or pass for a line of ours."""
    record = spoiled(copy.deepcopy(next(one for one in corpus_records() if one["cisco_esa"]["record"] == kind)))
    texts = [text_of([show.row(record)], fold=False)]
    if kind in ("connection", "message"):
        texts.append(text_of(show.entry(record, is_open=True)))

    for text in texts:
        assert set() == {one for one in text if not one.isprintable()} - {"\n"}
        assert "[red]" in text
    assert 1 == texts[0].count("\n")


# -- how it gets in --------------------------------------------------------------------------------------------------------------
def test_where_a_token_comes_from(tmp_path: Any) -> None:
    """A file goes before the environment; a token that no header can hold is refused without being shown."""
    file = tmp_path / "token"
    file.write_text(" from-file\n")

    assert [] == Sidecar().metadata()
    assert [("authorization", "Bearer given")] == Sidecar(token="given").metadata()
    assert [("authorization", "Bearer from-file")] == Sidecar(token="given", token_file=file).metadata()
    with pytest.raises(ConfigError) as refused:
        Sidecar(token="t\u00f6ken").metadata()
    assert "ken" not in str(refused.value).replace("token", "")
    with pytest.raises(ConfigError, match="cannot be read"):
        Sidecar(token_file=tmp_path / "none").metadata()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lookup"], "name exactly one of --mid, --icid, --dcid, --message-id, --recipient"),
        (["lookup", "--mid", "1", "--recipient", "a@b"], "name exactly one of"),
        (["lookup", "--mid", "0"], "0 is not in the range"),
        (["lookup", "--mid", "1", "--address", "nowhere"], "--address: expected HOST:PORT, got 'nowhere'"),
        (["lookup", "--mid", "1", "--limit", "1001"], "1001 is not in the range"),
        (["watch", "--kind", "delivry"], "unknown kind 'delivry'; did you mean 'delivery'?"),
        (["watch", "--outcome", "maybe"], "'maybe' is not one of"),
        (["watch", "--direction", "up"], "'up' is not one of"),
    ],
)
def test_usage(arguments: list[str], said: str) -> None:
    """What cannot be asked is exit code 2, told before anybody is asked."""
    ran = CliRunner().invoke(cli, arguments)

    assert 2 == ran.exit_code
    assert said in ran.output


def test_json_is_plain() -> None:
    """What programs get is ASCII, one line each."""
    from esa_tls.api.client import _put_json

    out = io.BytesIO()
    _put_json(out, {"a": "\u2028\u00e9\x1b"})

    assert out.getvalue().isascii()
    assert b"\x1b" not in out.getvalue()
    assert {"a": "\u2028\u00e9\x1b"} == json.loads(out.getvalue())
