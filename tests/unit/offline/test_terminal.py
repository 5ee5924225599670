"""offline/terminal.py: what people see of text from outside, and where colours and widths apply."""

from __future__ import annotations

import io
import os
import pty
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from esa_tls.offline.terminal import Reading, bar_on, printable, put, width_of


@given(st.text(st.characters(codec=None)))
def test_nothing_printable_can_act(text: str) -> None:
    """No control character, direction mark or lone surrogate is left; ordinary text of any script stays as it is."""
    shown = printable(text)

    assert not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in shown)
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u2028\u2029")
    shown.encode()
    if all(letter.isalnum() or letter == " " for letter in text):
        assert shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\tb", "a b"),
        ("a\r\nb", "a\\x0d\\x0ab"),
        ("\x9b31m", "\\x9b31m"),
        ("x\u202eexe.txt", "x\\u202eexe.txt"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("Grüße, 日本, שלום", "Grüße, 日本, שלום"),
    ],
)
def test_what_is_written_out(text: str, shown: str) -> None:
    """Escapes as Python writes them, tabs as blanks."""
    assert printable(text) == shown


def test_into_a_file_goes_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """No colours, no blanks at the end of lines, no markup, and the stream stays open."""
    monkeypatch.delenv("COLUMNS", raising=False)
    out = io.BytesIO()
    put(out, [Text("a [red]b[/red] :smile:   ", style="bold red"), Text("x" * 300)], fold=False)

    assert out.getvalue().decode() == f"a [red]b[/red] :smile:\n{'x' * 300}\n"
    assert width_of(out) == 140
    monkeypatch.setenv("COLUMNS", "70")
    assert width_of(out) == 70


def test_on_a_terminal_there_are_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets styles, and the stream stays open."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    main, side = pty.openpty()
    with os.fdopen(side, "wb", buffering=0) as out:
        put(out, [Text("hello", style="red")])
        assert not out.closed
    shown = os.read(main, 1000)
    os.close(main)

    assert shown == b"\x1b[31mhello\x1b[0m\r\n"


def test_a_bar_shows_how_far_it_is() -> None:
    """File, lines and progress on a console of its own; without a console there is no bar."""
    with bar_on(None) as bar:
        assert bar is None
    said = io.StringIO()
    with bar_on(Console(file=said, force_terminal=True, width=120)) as bar:
        assert bar is not None
        bar.show(Reading("evil\x1b[2J.log", 12_000, 50, 100))
    assert "reading evil\\x1b[2J.log" in said.getvalue()
    assert "12,000 lines" in said.getvalue()
