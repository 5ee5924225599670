"""The third-party programs that tests ran against: found or installed, and listed with their versions at the end of a test run.

A test that needs a program says so by `peer(name, version)` once it has it, or by `missing(name, why=...)`: that skips the test on a
laptop and fails it where `CI=true`, and it is told in the list. This module is also a pytest plugin, which the `conftest.py` beside it
registers. Where `CI=true`, a run of all tests that has not met each of `PEERS` fails.

With pytest-xdist the list is printed by the process that starts the workers, which does not load the conftest of this folder. There
`tests/conftest.py` has to name the plugin: `pytest_plugins = ["tests.peers.listing"]`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "peers"
"""Where programs are kept that tests install; ignored by git."""

PLUGIN = "tests.peers.listing"

COLLECTOR = "OpenTelemetry Collector"
FLUENT_LOGGER_PYTHON = "fluent-logger, Python"
FLUENT_LOGGER_GO = "fluent-logger-golang"
FLUENT_FORWARD_GO = "IBM/fluent-forward-go"
FLUENT_LOGGER_NODE = "@fluent-org/logger, npm"
OTLP_PYTHON = "OTLP exporters, Python"
GRPCURL = "grpcurl"
OPENSEARCH = "OpenSearch"
OPENSEARCH_3 = "OpenSearch 3"
"""Wants a Java that not every system has, so it is none of `PEERS`."""
KAFKA = "Apache Kafka"
COMPOSE = "compose-go"
BUILDKIT = "BuildKit's Dockerfile linter"
KUSTOMIZE = "kustomize"
SYSTEMD_ANALYZE = "systemd-analyze"
VICTORIA_LOGS = "VictoriaLogs"
SIGMA = "Sigma: sigma-cli, pySigma"
LOGQL = "@grafana/lezer-logql, npm"
GRAFANA_SCHEMA = "@grafana/schema, npm"
PROMTOOL = "promtool"
PROMETHEUS = "Prometheus"
CHROMIUM = "Chromium, driven by Playwright"
AXE = "axe-core, npm"

PEERS = (
    COLLECTOR,
    FLUENT_LOGGER_PYTHON,
    FLUENT_LOGGER_GO,
    FLUENT_FORWARD_GO,
    FLUENT_LOGGER_NODE,
    OTLP_PYTHON,
    GRPCURL,
    OPENSEARCH,
    KAFKA,
    COMPOSE,
    BUILDKIT,
    KUSTOMIZE,
    SYSTEMD_ANALYZE,
    VICTORIA_LOGS,
    SIGMA,
    LOGQL,
    GRAFANA_SCHEMA,
    PROMTOOL,
    PROMETHEUS,
    CHROMIUM,
    AXE,
    "rsyslog",
    "syslog-ng",
    "logger",
)
"""Everybody that a run of all tests meets."""

APT_TIMEOUT_S = 600.0

_seen: dict[str, str] = {}
_missing: dict[str, str] = {}


def peer(name: str, version: str) -> None:
    """Note that a test runs against this program."""
    _seen[name] = version


def missing(*names: str, why: str, needed: bool = True) -> NoReturn:
    """Note that these programs are not here, and skip the test; where `CI=true` fail it, if they can be had everywhere (`needed`)."""
    _missing.update(dict.fromkeys(names, why))
    name = " and ".join(names)
    if needed and os.environ.get("CI") == "true":
        pytest.fail(f"{name} is needed here: {why}")
    pytest.skip(f"{name} is not here: {why}")


def rsyslogd() -> Path | None:
    """rsyslog, installed if it has to be; None: it cannot be had."""
    return apt_installed("rsyslogd", "rsyslog")


def chromium() -> Path | None:
    """Debian's Chromium, installed if it has to be; None: it cannot be had."""
    return apt_installed("chromium", "chromium")


def syslog_ng_folder() -> Path | None:
    """The folder of syslog-ng, which cannot be installed beside rsyslog; None: it cannot be had."""
    return apt_unpacked("syslog-ng-core", "libivykis0", "libnet1", "libwrap0", "libjson-c5", "libpcre3")


def prometheus(program: str) -> Path | None:
    """`prometheus` or `promtool`, of one package, installed if it has to be; None: it cannot be had."""
    return apt_installed(program, "prometheus")


def version_of(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    """The first line of what a program says of its version."""
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    lines = (said.stdout + said.stderr).strip().splitlines()
    return lines[0].removesuffix(" compiled with:").strip() if lines else "?"


@contextlib.contextmanager
def alone(what: str) -> Iterator[None]:
    """One process at a time does this, of all that run tests on this machine."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f".{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def apt_installed(program: str, *packages: str) -> Path | None:
    """The program, installed with these packages if it is not there and we may (root, with apt-get); None: it cannot be had."""
    if (found := shutil.which(program)) is None:
        _apt(*packages)
        found = shutil.which(program)
    return None if found is None else Path(found)


def apt_unpacked(package: str, *needs: str) -> Path | None:
    """The folder in which a package lies unpacked, not installed, because it would drive out another one; None: it cannot be had.

    `needs`: packages with its libraries, which are installed.
    """
    folder = CACHE / package
    if not folder.exists():
        _apt(*needs)
        with alone(package):
            if not folder.exists():
                _unpack(package, folder)
    return folder if folder.exists() else None


def _unpack(package: str, folder: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return
    loading = CACHE / f"{package}.loading"
    shutil.rmtree(loading, ignore_errors=True)
    loading.mkdir()
    done = _run("apt-get", "-q", "download", package, folder=loading)
    for archive in loading.glob("*.deb") if done else ():
        if _run("dpkg-deb", "-x", archive, loading / "unpacked"):
            (loading / "unpacked").rename(folder)
    shutil.rmtree(loading)


def _apt(*packages: str) -> None:
    """Install packages, if we may; what came of it the caller sees."""
    if not packages or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    install = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends", *packages)
    with alone("apt"):
        if not _run(*install) and _run("apt-get", "-q", "update"):
            _run(*install)


def _run(*command: str | Path, folder: Path | None = None) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=APT_TIMEOUT_S
    )
    return done.returncode == 0


# -- the plugin ------------------------------------------------------------------------------------------------------------------
@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker of pytest-xdist: hand the list to the process that prints it. There: fail if somebody was not met."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["peers"] = {"seen": dict(_seen), "missing": dict(_missing)}
    elif os.environ.get("CI") == "true" and session.exitstatus == pytest.ExitCode.OK and _all_tests(session.config) and _not_met():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """In the process that started the workers: take a worker's list."""
    told = getattr(node, "workeroutput", {}).get("peers", {})
    _seen.update(told.get("seen", {}))
    _missing.update(told.get("missing", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the list."""
    all_tests = _all_tests(config)
    if not _seen and not _missing and not all_tests:
        return
    terminalreporter.section("peers: third-party programs tested against")
    for name, version in sorted(_seen.items()):
        terminalreporter.line(f"{name:26} {version}")
    for name, why in sorted(_missing.items()):
        terminalreporter.line(f"{name:26} MISSING, its tests were not run: {why}", red=True)
    if all_tests:
        for name in _not_met():
            if name not in _missing:
                terminalreporter.line(f"{name:26} NOT MET, no test ran against it", red=True)
    if not _missing and not (all_tests and _not_met()):
        terminalreporter.line(f"{len(_seen)} peers, none was skipped", green=True)


def _all_tests(config: pytest.Config) -> bool:
    """Whether this is a run of all tests: no paths, no choice by name, at most some marks left out (`make fuzz` wants one)."""
    option = config.option
    chosen = option.keyword or getattr(option, "lf", False) or option.collectonly or not f"{option.markexpr or 'not'} ".startswith("not ")
    return config.args_source == pytest.Config.ArgsSource.TESTPATHS and not chosen


def _not_met() -> list[str]:
    return [name for name in PEERS if name not in _seen]
