"""`esa-tls run` as a process of its own: started, watched through its log and its web pages, ended by its pid.

Ports are always free ones (port 0); they are read from the log lines that say where the sidecar listens.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec
import yaml

READY_TIMEOUT_S = 30.0
END_TIMEOUT_S = 40.0

_LISTENS = re.compile(r"(?:Source (?P<source>\S+)|(?P<page>Web|Api)) listens on \S+:(?P<port>\d+)\.$")
_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")


def command(*arguments: str | Path) -> list[str]:
    """The command line of `esa-tls`, run by this interpreter."""
    return [sys.executable, "-m", "esa_tls.cli", *map(str, arguments)]


def environment() -> dict[str, str]:
    """What a subprocess needs to find the package as this process found it."""
    import esa_tls

    package = str(Path(esa_tls.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": package, "PYTHONUNBUFFERED": "1", "PYTHONDEVMODE": ""}


def esa_tls(*arguments: str | Path, timeout_s: float = 60.0, stdout_to: IO[bytes] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of ours to its end; its output as text, or what it prints to a file."""
    return subprocess.run(
        command(*arguments),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=stdout_to or subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def write_config(folder: Path, *, name: str = "esa-tls.yaml", port: int = 0, **settings: Any) -> Path:
    """A configuration file in `folder`: its own `data_dir`, appliance by tag, a jsonl file, no store; `settings` replace whole keys."""
    config: dict[str, Any] = {
        "data_dir": str(folder / "data"),
        "appliance": {"from": ["fluent_tag"]},
        "sources": [{"type": "fluent", "listen": f"127.0.0.1:{port}"}],
        "sinks": [{"type": "jsonl", "path": str(folder / "records.jsonl")}],
        "web": {"listen": "127.0.0.1:0"},
        "api": {"listen": "127.0.0.1:0"},
        "store": None,
        **settings,
    }
    path = folder / name
    path.write_text(yaml.safe_dump(config))
    return path


def wait_for(what: str, condition: Callable[[], bool], *, within_s: float, every_s: float = 0.02) -> None:
    """Look until `condition` holds. Fails with `what` when `within_s` have passed."""
    give_up_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_s, f"not within {within_s:g} s: {what}"
        time.sleep(every_s)


class Sidecar:
    """One running `esa-tls run`."""

    def __init__(
        self,
        config: Path | None,
        *,
        stdout: IO[bytes] | int = subprocess.DEVNULL,
        cwd: Path | None = None,
        profile: Path | None = None,
    ) -> None:
        """Start it. `profile`: under cProfile, which writes there when it ends (for benches)."""
        arguments = command("run") if config is None else command("run", "-c", config)
        if profile is not None:
            arguments[1:1] = ["-m", "cProfile", "-o", str(profile)]
        self.process = subprocess.Popen(
            arguments, env=environment(), stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, cwd=cwd
        )
        self.log: list[str] = []
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._said:
                self.log.append(line.decode(errors="replace").rstrip("\n"))
                self._said.notify_all()
        with self._said:
            self._said.notify_all()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def text(self) -> str:
        """All it said on standard error."""
        return "\n".join(self.log)

    @property
    def ports(self) -> dict[str, int]:
        """Where it listens: the sources by name, `api` and `web`."""
        found = {}
        for line in list(self.log):
            if match := _LISTENS.search(line):
                found[match["source"] or match["page"].lower()] = int(match["port"])
        return found

    @property
    def port(self) -> int:
        """The port of the source called `fluent`."""
        return self.ports["fluent"]

    def until_ready(self, *, within_s: float = READY_TIMEOUT_S) -> Sidecar:
        """Return when it listens everywhere (the web server comes last). Fails if it ended instead."""
        self.until_said(_LISTENS.pattern.replace(r"(?:Source (?P<source>\S+)|(?P<page>Web|Api))", "Web"), within_s=within_s)
        return self

    def until_said(self, pattern: str, *, within_s: float) -> None:
        """Return when a line of its log matches."""
        found = re.compile(pattern)
        give_up_s = time.monotonic() + within_s
        with self._said:
            while not any(found.search(line) for line in self.log):
                assert self._reader.is_alive(), f"it ended, and said: {self.text}"
                left_s = give_up_s - time.monotonic()
                assert left_s > 0, f"not said within {within_s:g} s: {pattern}; it said: {self.text}"
                self._said.wait(left_s)

    # -- looking -----------------------------------------------------------------------------------------------------------------
    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """Status and body of one of its pages."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports['web']}{path}", headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all series of a metric (its name as on `/metrics`) that have these labels; 0 if there is none."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            match = _SAMPLE.match(line)
            if match and match[1] == name and all(f'{key}="{value}"' in (match[2] or "") for key, value in labels.items()):
                total += float(match[3])
        return total

    def reasons_not_ready(self) -> list[str]:
        """What `/health/ready` says; empty when ready."""
        _, body = self.get("/health/ready")
        reasons: list[str] = msgspec.json.decode(body)["reasons"]
        return reasons

    def rss_bytes(self) -> int:
        """Its memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    # -- ending ------------------------------------------------------------------------------------------------------------------
    def drain(self, *, within_s: float = END_TIMEOUT_S) -> int:
        """SIGTERM; the exit code once it has ended."""
        self.process.send_signal(signal.SIGTERM)
        return self.until_ended(within_s=within_s)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.until_ended(within_s=10)

    def until_ended(self, *, within_s: float = END_TIMEOUT_S) -> int:
        """Its exit code once it has ended by itself."""
        try:
            code = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within_s:g} s; it said: {self.text}") from None
        self._reader.join(10)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    def make_sure_it_is_gone(self) -> None:
        """For the end of a test, whatever happened."""
        if self.process.poll() is None:
            self.process.kill()
        self.until_ended(within_s=10)
        if self.process.stdout is not None:
            self.process.stdout.close()


class Sidecars:
    """Starts sidecars and ends every one of them, by its pid, at the end of the test."""

    def __init__(self) -> None:
        self.started: list[Sidecar] = []

    def launch(self, config: Path | None, *, stdout: IO[bytes] | int = subprocess.DEVNULL, cwd: Path | None = None) -> Sidecar:
        """A started process, not yet ready."""
        sidecar = Sidecar(config, stdout=stdout, cwd=cwd)
        self.started.append(sidecar)
        return sidecar

    def start(self, config: Path | None, *, stdout: IO[bytes] | int = subprocess.DEVNULL, cwd: Path | None = None) -> Sidecar:
        """A process that listens."""
        return self.launch(config, stdout=stdout, cwd=cwd).until_ready()

    def end(self) -> None:
        """End what still runs."""
        for sidecar in self.started:
            sidecar.make_sure_it_is_gone()


def files_of(path: Path) -> Sequence[Path]:
    """The files of a jsonl sink, oldest first."""
    numbered = [(int(one.name.removeprefix(path.name + ".")), one) for one in path.parent.glob(path.name + ".*")]
    return [one for _, one in sorted(numbered, reverse=True)] + ([path] if path.exists() else [])


def stored_lines(path: Path) -> Iterator[bytes]:
    """All lines that a jsonl sink has written, in order, each with its line feed; a torn one comes as it is."""
    for one in files_of(path):
        with one.open("rb") as file:
            yield from file


@contextmanager
def mounted(folder: Path, *, size_mib: int, read_only: bool = False) -> Iterator[Path]:
    """A small tmpfs. Raises CalledProcessError or FileNotFoundError where that is not allowed."""
    folder.mkdir()
    options = f"size={size_mib}m" + (",ro" if read_only else "")
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "esa-tls-test", str(folder)], check=True, capture_output=True, timeout=10)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True, timeout=10)
