"""Programs of others as processes: started, listened to, killed, and ended by their pid. None of them outlives its test."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path

READY_TIMEOUT_S = 20.0
END_TIMEOUT_S = 20.0

_FREE_PORTS = range(12_000, 30_000)
"""Below those that the system gives to outgoing connections: nobody takes one while a program is being started that wants it."""

_candidates = itertools.chain.from_iterable(random.sample(_FREE_PORTS, len(_FREE_PORTS)) for _ in itertools.count())


def free_port() -> int:
    """A port that nobody has now, for programs that cannot be told to choose one."""
    for port in _candidates:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError


class Program:
    """A process that runs. `lines` is what it said so far, on standard output and standard error."""

    def __init__(self, *command: str | Path, environment: Mapping[str, str] | None = None, folder: Path | None = None) -> None:
        self.name = Path(command[0]).name
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **(environment or {})},
        )
        self.lines: list[str] = []
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._said:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))
                self._said.notify_all()
        with self._said:
            self._said.notify_all()

    @property
    def text(self) -> str:
        """All it said."""
        return "\n".join(self.lines)

    def until_said(self, pattern: str, *, times: int = 1, within_s: float = READY_TIMEOUT_S) -> re.Match[str]:
        """Return when so many of its lines match; the last of them."""
        found = re.compile(pattern)
        give_up_s = time.monotonic() + within_s
        with self._said:
            while True:
                matches = [match for line in self.lines if (match := found.search(line))]
                if len(matches) >= times:
                    return matches[times - 1]
                assert self._reader.is_alive(), f"{self.name} ended without {pattern!r}, and said: {self.text}"
                left_s = give_up_s - time.monotonic()
                assert left_s > 0, f"{self.name} did not say {pattern!r} within {within_s:g} s, but: {self.text}"
                self._said.wait(left_s)

    def until_listening(self, *ports: int, within_s: float = READY_TIMEOUT_S) -> None:
        """Return when it takes connections there."""
        give_up_s = time.monotonic() + within_s
        for port in ports:
            while True:
                assert self.process.poll() is None, f"{self.name} ended, and said: {self.text}"
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert time.monotonic() < give_up_s, f"{self.name} does not listen on {port}; it said: {self.text}"
                time.sleep(0.01)

    def write(self, data: bytes) -> None:
        """To its standard input."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except BrokenPipeError:
            raise AssertionError(f"{self.name} reads no more; it said: {self.text}") from None

    def no_more(self) -> None:
        """The end of its standard input."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def until_ended(self, *, within_s: float = END_TIMEOUT_S) -> int:
        """Its exit code, once it has ended by itself and all it said is read."""
        try:
            code = self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} still runs after {within_s:g} s; it said: {self.text}") from None
        self._reader.join(10)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        return code

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.until_ended()

    def end(self) -> int:
        """SIGTERM; its exit code once it has ended."""
        self.process.terminate()
        return self.until_ended()

    def make_sure_it_is_gone(self) -> None:
        """For the end of a test, whatever happened."""
        if self.process.poll() is None:
            self.process.kill()
        self.until_ended()


class Server:
    """A server that a test ends, kills, and starts again on what it kept. `running`: its process, once it was started."""

    def __init__(self) -> None:
        self.running: Program | None = None

    def end(self) -> None:
        """SIGTERM, if it runs."""
        if self.running is not None and self.running.process.poll() is None:
            self.running.end()

    def kill(self) -> None:
        """SIGKILL."""
        assert self.running is not None
        self.running.kill()

    def make_sure_it_is_gone(self) -> None:
        """For the end of a test, whatever happened."""
        if self.running is not None:
            self.running.make_sure_it_is_gone()


def java_program(built: Path, heap: str, name: str, *arguments: str | Path, java: Path) -> Program:
    """The main class `name` of what was built of jars (`lib`) and sources of ours (`classes`), quick to start rather than fast."""
    options = (f"-Xms{heap}", f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData")
    logs = f"-Dlog4j2.configurationFile={built / 'log4j2.xml'}"
    return Program(java, *options, logs, "-cp", f"{built / 'classes'}:{built / 'lib'}/*", name, *arguments)


class Programs:
    """Starts programs, and ends every one of them at the end of the test."""

    def __init__(self) -> None:
        self.started: list[Program] = []

    def start(self, *command: str | Path, environment: Mapping[str, str] | None = None, folder: Path | None = None) -> Program:
        """A process that runs."""
        program = Program(*command, environment=environment, folder=folder)
        self.started.append(program)
        return program

    def end(self) -> None:
        """End what still runs."""
        for program in self.started:
            program.make_sure_it_is_gone()
