"""What stands in the repository's own files agrees with the code and with itself."""

from __future__ import annotations

import base64
import logging.config
import re
import tomllib
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
import yaml
from importlinter.cli import lint_imports
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from esa_tls import app, cli, config, reference
from esa_tls.core.fields import FIELDS
from esa_tls.wire.privacy import BECOMES, CLASS_OF, TREATMENTS

ROOT = Path(__file__).parents[2]
LOCKS = ["requirements.lock", "tests/peers/sigma/requirements.txt"]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def text_of(name: str) -> str:
    """A file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads(text_of("pyproject.toml"))


def requirements() -> list[Requirement]:
    """Everything that pyproject.toml asks for, extras too."""
    table = project()["project"]
    extras = [wanted for extra in table["optional-dependencies"].values() for wanted in extra]
    return [Requirement(wanted) for wanted in table["dependencies"] + extras]


def locked() -> dict[str, list[str]]:
    """Locked versions by package; several where they depend on the Python version."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", text_of("requirements.lock"), re.MULTILINE):
        found.setdefault(canonicalize_name(name), []).append(version)
    return found


# -- dependencies ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_address(lock: str) -> None:
    """A lock file says what to install, by hash, and not where from."""
    assert "://" not in text_of(lock)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_hashes_for_everything(lock: str) -> None:
    """Each locked version is followed by hashes of its own."""
    for entry in re.split(r"^(?=[A-Za-z0-9])", text_of(lock), flags=re.MULTILINE)[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_the_lock_covers_what_is_asked_for(requirement: Requirement) -> None:
    """Every requirement, of the extras too, is locked at a version that it allows."""
    versions = locked().get(canonicalize_name(requirement.name), [])

    assert versions
    assert all(requirement.specifier.contains(version) for version in versions)


def test_every_dependency_and_every_rule_that_is_off_has_its_reason() -> None:
    """Beside each dependency and each disabled rule stands why."""
    lines = text_of("pyproject.toml").splitlines()
    wanted = [line for line in lines if re.match(r'    "[A-Za-z0-9-]+>=', line)]
    ignored = [line for line in lines if re.match(r'    "[A-Z]+[0-9]*",', line)]

    assert len(wanted) == len(requirements())
    assert len(ignored) > 20
    assert [line for line in wanted + ignored if "# " not in line] == []


def test_what_the_user_fixed_is_there() -> None:
    """The libraries that the product's brief names are dependencies of the package itself."""
    named = {Requirement(wanted).name for wanted in project()["project"]["dependencies"]}

    assert {"fluent-logger", "grpcio", "opentelemetry-sdk", "rocksdict"} <= named


# -- commands --------------------------------------------------------------------------------------------------------------------
def make_targets() -> set[str]:
    """Targets of the Makefile that somebody may call."""
    phony = re.search(r"^\.PHONY: (.*)$", text_of("Makefile"), re.MULTILINE)
    assert phony
    defined = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))
    assert set(phony[1].split()) == defined
    return defined


def test_the_targets_of_the_contract() -> None:
    """`make` has every target that was promised."""
    assert {"setup", "run", "test", "check", "bench", "fuzz", "proto", "nightly", "docs", "lock"} <= make_targets()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_manual_exist(page: Path) -> None:
    """Every `make x` and `esa-tls x` that a page shows is there, and the options that follow it too."""
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"(?:^\$ |`)make ([a-z-]+)", text, re.MULTILINE)
    assert set(targets) <= make_targets()
    for name, rest in re.findall(r"(?:^\$ |`)esa-tls ([a-z][a-z-]*)([^`\n#]*)", text, re.MULTILINE):
        assert name in cli.cli.commands
        command = cli.cli.commands[name]
        if isinstance(command, click.Group) and rest.split():
            assert rest.split()[0] in command.commands
            command = command.commands[rest.split()[0]]
        options = {option for param in command.params for option in param.opts}
        assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest)) <= options


def test_the_two_commands_are_in_the_readme() -> None:
    """A newcomer finds `make run` and `make test`."""
    shown = re.findall(r"^\$ make ([a-z-]+)", text_of("README.md"), re.MULTILINE)
    assert shown == ["run", "test"]


def test_ci_does_what_a_developer_does() -> None:
    """`.ci/run` is executable, stops at the first failure, and runs `make test`, skipping nobody, and nothing else."""
    path = ROOT / ".ci" / "run"
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]

    assert path.stat().st_mode & 0o111
    assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")
    assert lines[0] == "set -euo pipefail"
    assert lines[1].startswith("cd ")
    assert lines[2:] == ["CI=true make test"]


# -- imports ---------------------------------------------------------------------------------------------------------------------
def test_imports_point_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The contracts on imports in pyproject.toml are kept."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(logging.config, "dictConfig", lambda _config: None)  # it would switch off every logger of later tests
    assert lint_imports(no_cache=True) == 0


# -- the manual ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("page", "included"),
    [
        ("configuration", "configuration"),
        ("metrics", "metrics"),
        ("records", "records"),
        ("rules", "rules"),
        ("rules", "alerts"),
        ("splunk", "splunk_cim"),
        ("privacy", "privacy"),
        ("commands", None),
    ],
)
def test_reference_pages_are_made_from_the_code(page: str, included: str | None) -> None:
    """The pages take in what `docs/conf.py` generates at every build; nothing generated is kept in the repository."""
    text = text_of(f"docs/{page}.md")
    if included:
        assert f"```{{include}} _generated/{included}.md" in text
        assert f'"{included}.md": ' in text_of("docs/conf.py")
    else:
        assert ".. click:: esa_tls.cli:cli" in text
    assert "/docs/_generated/" in text_of(".gitignore").splitlines()


def test_every_record_field_is_in_the_manual() -> None:
    """The generated table has a row for each field, with type, kinds and meaning."""
    fields = FIELDS
    rows = reference.records_reference(fields).splitlines()[2:]

    assert len(rows) == len(fields) == len({field.name for field in fields})
    for row, field in zip(rows, fields, strict=True):
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert [f"`{field.name}`", field.type, " ".join(field.kinds) or "all", field.meaning] == cells


def test_every_field_that_pseudonyms_touch_is_in_the_manual() -> None:
    """The page on privacy has a row for each field with a treatment that does something, and says what it does."""
    rows = reference.privacy_reference(FIELDS, treatments=TREATMENTS, classes=CLASS_OF, becomes=BECOMES).splitlines()[2:]
    touched = [field for field in FIELDS if TREATMENTS.get(field.path, "plain") != "plain"]

    assert len(rows) == len(touched) > 60
    for row, field in zip(rows, touched, strict=True):
        assert row.startswith(f"| `{field.name}` | ")
        assert row.endswith(f" | {BECOMES[TREATMENTS[field.path]]} |")
    assert set(BECOMES) == set(TREATMENTS.values()) - {"plain"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_examples_of_the_manual_are_there(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a page points to exist, and its YAML can be read; where it is a configuration, it is accepted, its secrets given."""
    key = f"1:{base64.b64encode(bytes(32)).decode()}"
    monkeypatch.setattr(config.loading, "_file_text", lambda path: key if "pseudonym" in path else "x")
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(r"literalinclude} (\S+)", text):
        assert (page.parent / target).exists(), target
    for block in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        keys = set(yaml.safe_load(block))
        if keys <= {field.encode_name for field in msgspec.structs.fields(config.Config)}:
            made = config.parse(block, file=page.name, environment=dict.fromkeys(re.findall(r"\$\{(\w+)\}", block), "x" * 32))
            app.check_selections(made, file=page.name)


def test_metrics_named_in_the_manual_exist() -> None:
    """A metric that a page tells to watch is one that there is."""
    from esa_tls.telemetry import METRICS

    there = {metric.prometheus_name for metric in METRICS}
    for page in PAGES:
        assert set(re.findall(r"`(esa_tls_[a-z_]+)`", page.read_text(encoding="utf-8"))) <= there


# -- what else is promised -------------------------------------------------------------------------------------------------------
def test_the_licence_is_the_one_that_is_declared() -> None:
    """LICENSE holds the text of Apache-2.0, and the package says so."""
    assert project()["project"]["license"] == "Apache-2.0"
    assert re.search(r"Apache License\s+Version 2\.0, January 2004", text_of("LICENSE"))
    assert "END OF TERMS AND CONDITIONS" in text_of("LICENSE")
