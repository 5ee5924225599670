"""The package as users get it: sdist and wheel, installed into an empty environment by hash, without anything of the repository beside."""

from __future__ import annotations

import filecmp
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from tests.e2e.sidecar import esa_tls, wait_for
from tests.e2e.test_run import simulated

import esa_tls as package

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path, timeout_s: float = 100.0) -> str:
    """What it prints; it has to end well."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """sdist, and the wheel made from it, of what git has and has not yet."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds the wheel and what the image's lock names, nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    programs = folder / "bin"
    pip = (programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--require-hashes", "-r", ROOT / "deploy" / "container" / "requirements.lock", cwd=folder)
    [wheel] = dist.glob("*.whl")
    run(*pip, "--no-deps", wheel, cwd=folder)
    return programs


def test_the_wheel_holds_the_package_and_nothing_else(dist: Path) -> None:
    """Every file of the package, templates and types included; no tests; a manual page for each command."""
    [wheel] = dist.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    source = Path(package.__file__).parent
    wanted = {f"esa_tls/{path.relative_to(source)}" for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert wanted <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/"))]
    assert any(name.endswith("share/man/man1/esa-tls.1") for name in names)


def test_the_wheel_is_one_for_this_python_as_its_core_is_compiled(dist: Path) -> None:
    """With a C compiler, the wheel has the extensions and a tag that says so."""
    [wheel] = dist.glob("*.whl")
    assert not wheel.name.endswith("-none-any.whl")
    assert any(name.startswith("esa_tls/core/compiled__mypyc.") for name in zipfile.ZipFile(wheel).namelist())


def test_without_a_compiler_the_wheel_is_pure(tmp_path: Path, dist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same sdist gives a wheel for any Python 3.11 and later where nothing can be compiled; its core is interpreted."""
    monkeypatch.setenv("ESA_TLS_COMPILE", "0")
    [sdist] = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [source] = tmp_path.iterdir()
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "pure", source, cwd=tmp_path)
    [wheel] = (tmp_path / "pure").glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]


def test_the_sdist_is_enough_to_test(dist: Path) -> None:
    """Tests, tools, docs and locks are in it; nothing built, nothing of this machine."""
    [sdist] = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"Makefile", "pyproject.toml", "requirements.lock", "tests/conftest.py", "tools/make_man.py", "docs/index.md"} <= names
    assert not [name for name in names if name.startswith(("build/", ".venv/", "docs/_build/", "dist/")) or "__pycache__" in name]


@pytest.mark.timeout(300, func_only=False)
def test_it_works_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    """`scan`, `report --html` and `run` in a folder that has nothing but a log."""
    log = tmp_path / "mail.log"
    log.write_bytes(b"".join(line + b"\n" for line in simulated(messages=50)))
    program = installed / "esa-tls"
    assert run(program, "--version", cwd=tmp_path) == f"esa-tls {package.__version__} (core: compiled)\n"
    scanned = run(program, "scan", "--records", "message", log, cwd=tmp_path)
    assert scanned.count("\n") >= 50
    run(program, "report", log, "--html", "report.html", cwd=tmp_path)
    assert "<svg" in (tmp_path / "report.html").read_text()
    (tmp_path / "c.yaml").write_text(
        "web: {listen: 127.0.0.1:0}\napi: {listen: 127.0.0.1:0}\nsources: [{type: fluent, listen: 127.0.0.1:0}]\n"
    )
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        sidecar = subprocess.Popen([program, "run", "-c", "c.yaml"], cwd=tmp_path, stdout=out, stderr=err, stdin=subprocess.DEVNULL)
        try:
            wait_for("the source", lambda: "Web listens on" in (tmp_path / "err").read_text(), within_s=30)
            listens = re.search(r"Source fluent listens on (\S+)\.$", (tmp_path / "err").read_text(), re.MULTILINE)
            assert listens is not None
            run(program, "send", log, "--to", f"forward://{listens[1]}", cwd=tmp_path)
        finally:
            sidecar.terminate()
        assert sidecar.wait(30) == 0
    assert (tmp_path / "out").read_bytes().count(b"\n") > 1_000


@pytest.mark.filterwarnings("ignore:.*make_default_short_help:DeprecationWarning")  # click-man's, until it knows click 9
def test_manual_pages_are_current(tmp_path: Path) -> None:
    """deploy/man is what `make man` writes."""
    spec = importlib.util.spec_from_file_location("make_man", ROOT / "tools" / "make_man.py")
    assert spec is not None
    assert spec.loader is not None
    make_man = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_man)
    make_man.write(tmp_path / "man")
    found = filecmp.dircmp(tmp_path / "man", ROOT / "deploy" / "man")
    assert (found.left_only, found.right_only, found.diff_files) == ([], [], []), "run `make man`"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_their_completion(shell: str) -> None:
    """A script for each that asks the program itself, which answers with its commands."""
    done = esa_tls("completion", shell)
    assert done.returncode == 0
    assert "_ESA_TLS_COMPLETE" in done.stdout


def test_completion_knows_commands_and_options() -> None:
    """What the shell is told for `esa-tls rep` and `esa-tls report --`."""
    from click.shell_completion import BashComplete

    from esa_tls.cli import cli

    complete = BashComplete(cli, {}, "esa-tls", "_ESA_TLS_COMPLETE")
    assert [one.value for one in complete.get_completions([], "rep")] == ["report"]
    assert "--html" in {one.value for one in complete.get_completions(["report"], "--")}
