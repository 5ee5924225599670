"""What docstrings and comments cite stands in the repository: pages, and the numbered sections of those that have numbers."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

EXEMPT: tuple[str, ...] = ()
"""Folders whose docstrings may still cite pages that are not in the repository."""

FILES = sorted(
    path
    for folder in ("plugin", "tests", "tools", "docs")
    for path in (ROOT / folder).rglob("*.py")
    if not path.relative_to(ROOT).as_posix().startswith(EXEMPT) and "node_modules" not in path.parts
)

_PAGE = re.compile(r"(?<![\w./-])[\w./-]*[\w-]\.md\b")
_SECTIONS = re.compile(r"docs/(log-lines|correlation|wires)\.md (\d+(?:\.\d+)?(?:(?:, | and | to )\d+\.\d+)*)")
_HEADING = re.compile(r"^#{2,3} (\d+(?:\.\d+)?)\.? ", re.MULTILINE)


def said(source: str) -> Iterator[tuple[int, str]]:
    """Comments, and texts that stand for themselves (docstrings, also those behind a value): (line, text). None where no page is named."""
    if ".md" not in source:
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def unknown_pages(source: str) -> list[str]:
    """Markdown files that are named and are not there, from the repository's root."""
    return [f"line {line}: {name}" for line, text in said(source) for name in _PAGE.findall(text) if not (ROOT / name).is_file()]


def unknown_sections(source: str) -> list[str]:
    """Sections of the numbered pages that are named and have no heading."""
    found = []
    for line, text in said(source):
        for page, numbers in _SECTIONS.findall(re.sub(r"\s*\n\s*", " ", text)):
            headings = set(_HEADING.findall((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")))
            found += [f"line {line}: {page}.md {number}" for number in re.findall(r"[\d.]+", numbers) if number.rstrip(".") not in headings]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_cited_is_in_the_repository(path: Path) -> None:
    """A contributor who has nothing but the repository can look up all of it."""
    source = path.read_text(encoding="utf-8")
    assert unknown_pages(source) == []
    assert unknown_sections(source) == []


def test_a_page_that_is_not_there_is_found() -> None:
    """In a docstring, in a comment, behind a value, and by a bare name; text that the program uses is none of it."""
    source = '"""See design.md 3."""\nX = "no.md"\n"""docs/none.md"""\n# records.md and docs/records.md\n'
    assert sorted(unknown_pages(source)) == ["line 1: design.md", "line 3: docs/none.md", "line 4: records.md"]


def test_a_section_that_is_not_there_is_found() -> None:
    """One of several, over a line's end too."""
    source = '"""docs/wires.md 1.8 item 2, docs/wires.md 1.2, 1.99 and 6.2; docs/correlation.md\n11."""\n'
    assert unknown_sections(source) == ["line 1: wires.md 1.99", "line 1: correlation.md 11"]


def test_files_are_looked_at() -> None:
    """Hundreds of them."""
    assert len(FILES) > 300
