"""Our Forward sink sends to servers that we did not write: acknowledgement, TLS, keys and users; also to one that is killed."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.e2e.reference import Record, written
from tests.e2e.sender import Sender, Target
from tests.e2e.sidecar import Sidecar, Sidecars, wait_for, write_config
from tests.e2e.test_run import deliver, simulated
from tests.peers.programs import Program, Programs, free_port
from tests.tls_files import TlsFiles

from esa_tls.offline.simulate import SimulationSettings, simulate

pytestmark = pytest.mark.timeout(90, func_only=True)  # a first run builds programs before

WITHIN_S = 20.0

KEY, USER, PASSWORD = "s3cret", "alice", "wonder"

LINES = (*simulated(messages=30, seed=30), "Mon Nov 24 00:00:02 2025 Info: MID 900 Subject 'Grüße, 你好 \xff'".encode())

WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "without gzip": {"compression": "none"},
    "key": {"shared_key": KEY},
    "TLS": {"tls": True},
    "TLS on both sides": {"tls": "mutual"},
    "TLS, key": {"tls": True, "shared_key": KEY},
    "TLS, key, user": {"tls": True, "shared_key": KEY, "username": USER, "password": PASSWORD},
}
"""Settings of our sink, TLS aside: what the server asks for follows from them."""


def settings_of(way: str, tls: TlsFiles) -> dict[str, Any]:
    """The sink's settings."""
    settings: dict[str, Any] = {
        "type": "fluent",
        "retry_initial_s": 0.1,
        "retry_max_s": 0.5,
        "self_hostname": "esa-tls.example",
        **WAYS[way],
    }
    if "tls" in settings:
        known = {"cert_file": tls.client[0], "key_file": tls.client[1]} if settings["tls"] == "mutual" else {}
        settings["tls"] = {"ca_file": tls.ca_file, **known}
    return settings


def started(sidecars: Sidecars, folder: Path, sink: dict[str, Any], port: int) -> Sidecar:
    """Our side: this sink, and a file beside it to compare with."""
    sinks = [{**sink, "endpoints": [f"127.0.0.1:{port}"]}, {"type": "jsonl", "path": str(folder / "records.jsonl")}]
    return sidecars.start(write_config(folder, max_hold_s=0.1, sinks=sinks))


def all_sent(sidecar: Sidecar, folder: Path) -> dict[str, Record]:
    """The records of our file, when everything is out."""
    wait_for("held lines left", lambda: sidecar.metric("esa_tls_lines_held") == 0, within_s=WITHIN_S)
    assert sidecar.drain() == 0
    return written(folder / "records.jsonl")


def compare(expected: dict[str, Record], got: Sequence[dict[str, Any]], *, twice: bool = False) -> None:
    """Each record has arrived whole under its kind's tag; `twice`: some may have come again."""
    ids = Counter(entry["record"]["event"]["id"] for entry in got)
    assert ids.keys() == expected.keys()
    assert twice or ids.total() == len(ids)
    for entry in got:
        record = expected[entry["record"]["event"]["id"]]
        assert entry["record"] == record
        assert entry["tag"] == f"esa.{record['cisco_esa']['record']}"


# -- @fluent-org/logger, npm -----------------------------------------------------------------------------------------------------
def node_server(programs: Programs, modules: Path, **wanted: Any) -> tuple[Program, int]:
    """Its server, and the port where it listens."""
    script = Path(__file__).parent / "node" / "server.js"
    server = programs.start("node", script, json.dumps(wanted), environment={"NODE_PATH": str(modules)})
    return server, int(server.until_said(r"^listening (\d+)$")[1])


def entries_of(server: Program) -> list[dict[str, Any]]:
    """What it got."""
    return [msgspec.json.decode(line.removeprefix("entry ")) for line in server.lines if line.startswith("entry ")]


@pytest.mark.parametrize("way", WAYS)
def test_the_node_server_gets_every_record(
    tmp_path: Path, programs: Programs, sidecars: Sidecars, fluent_logger_node: Path, way: str
) -> None:
    """Every record arrives whole, once, and is acknowledged, through all that the npm server can ask for."""
    tls = TlsFiles(tmp_path / "tls")
    wanted: dict[str, Any] = {"key": KEY} if "key" in way else {}
    if "user" in way:
        wanted["users"] = {USER: PASSWORD}
    if "TLS" in way:
        wanted["cert"], wanted["certKey"] = tls.server
    if way == "TLS on both sides":
        wanted["ca"] = tls.ca_file
    server, port = node_server(programs, fluent_logger_node, **wanted)
    sidecar = started(sidecars, tmp_path, settings_of(way, tls), port)
    deliver(sidecar, LINES)
    expected = all_sent(sidecar, tmp_path)

    wait_for("entries are told", lambda: len(entries_of(server)) >= len(expected), within_s=WITHIN_S)
    compare(expected, entries_of(server))


@pytest.mark.parametrize(
    ("way", "wrong", "said"),
    [
        ("key", {"shared_key": "wrong"}, "shared key mismatch"),
        ("TLS, key, user", {"password": "wrong"}, "username/password mismatch"),
        ("key", {"shared_key": None}, "wants a shared key"),
        ("TLS", {"tls": {}}, "its certificate is not accepted"),
    ],
    ids=["wrong key", "wrong password", "no key", "unknown authority"],
)
def test_refused_by_the_node_server(
    tmp_path: Path, programs: Programs, sidecars: Sidecars, fluent_logger_node: Path, way: str, wrong: dict[str, Any], said: str
) -> None:
    """Refused, or refusing it: our log says by whom and why, no secret in it, nothing is sent, and nothing is lost either."""
    tls = TlsFiles(tmp_path / "tls")
    wanted: dict[str, Any] = {"key": KEY, "users": {USER: PASSWORD} if "user" in way else None} if "key" in way else {}
    if "TLS" in way:
        wanted["cert"], wanted["certKey"] = tls.server
    server, port = node_server(programs, fluent_logger_node, **wanted)
    right = settings_of(way, tls)
    sidecar = started(sidecars, tmp_path, right | wrong, port)
    deliver(sidecar, LINES[:50])
    sidecar.until_said(said, within_s=WITHIN_S)
    assert not any(secret in sidecar.text for secret in (KEY, PASSWORD))
    sidecar.kill()
    assert entries_of(server) == []

    sidecar = started(sidecars, tmp_path, right, port)
    expected = all_sent(sidecar, tmp_path)
    wait_for("entries are told", lambda: len(entries_of(server)) >= len(expected) > 0, within_s=WITHIN_S)
    compare(expected, entries_of(server))


# -- IBM/fluent-forward-go -------------------------------------------------------------------------------------------------------
class GoServer:
    """A server on one port for good; it keeps entries in a file before it acknowledges them."""

    def __init__(self, program: Path, programs: Programs, folder: Path, *options: str | Path) -> None:
        self.port = free_port()
        self.out = folder / "entries.jsonl"
        self._programs = programs
        self._command = (program, "serve", "-listen", f"127.0.0.1:{self.port}", "-out", self.out, *options)
        self.running = self.start()

    def start(self) -> Program:
        """Return when it listens."""
        self.running = self._programs.start(*self._command)
        self.running.until_said("^listening ")
        return self.running

    def entries(self) -> list[dict[str, Any]]:
        """What it got."""
        return list(map(msgspec.json.decode, self.out.read_bytes().splitlines()))


@pytest.mark.parametrize("way", ["plain", "without gzip", "key", "TLS, key"])
def test_the_go_server_gets_every_record(tmp_path: Path, programs: Programs, sidecars: Sidecars, fluent_forward_go: Path, way: str) -> None:
    """Every record arrives whole, once, and is acknowledged; `size` is right."""
    tls = TlsFiles(tmp_path / "tls")
    options = ["-key", KEY] if "key" in way else []
    options += ["-cert", tls.server[0], "-cert-key", tls.server[1]] if "TLS" in way else []
    server = GoServer(fluent_forward_go, programs, tmp_path, *options)
    sidecar = started(sidecars, tmp_path, settings_of(way, tls), server.port)
    deliver(sidecar, LINES)

    compare(all_sent(sidecar, tmp_path), server.entries())


def test_refused_by_the_go_server(tmp_path: Path, programs: Programs, sidecars: Sidecars, fluent_forward_go: Path) -> None:
    """A wrong key: its PONG says so, our log repeats it, and nothing is sent."""
    server = GoServer(fluent_forward_go, programs, tmp_path, "-key", "another")
    sidecar = started(sidecars, tmp_path, settings_of("key", TlsFiles(tmp_path / "tls")), server.port)
    deliver(sidecar, LINES[:50])
    sidecar.until_said("shared key mismatch", within_s=WITHIN_S)
    server.running.until_said("^refused no match$")

    assert server.entries() == []


@pytest.mark.parametrize("way", ["plain", "key"])
def test_the_go_server_is_killed_while_we_send(
    tmp_path: Path, programs: Programs, sidecars: Sidecars, fluent_forward_go: Path, way: str
) -> None:
    """A server killed by SIGKILL, twice, while lines come in: afterwards it has every record; some perhaps twice, with the same id."""
    server = GoServer(fluent_forward_go, programs, tmp_path, *(["-key", KEY] if way == "key" else []))
    sidecar = started(sidecars, tmp_path, settings_of(way, TlsFiles(tmp_path / "tls")), server.port)
    source = (line for _, line in simulate(SimulationSettings(seed=31, messages=1_000_000)))
    enough = threading.Event()
    sender = Sender(Target(sidecar.port), tag="esa1")

    def send_on() -> None:
        while not enough.wait(0.01):
            sender.deliver(list(islice(source, 50)))
        sender.close()

    sending = threading.Thread(target=send_on)
    sending.start()
    try:
        for _ in range(2):
            before = server.out.stat().st_size
            wait_for("entries come", lambda before=before: server.out.stat().st_size > before, within_s=WITHIN_S)  # type: ignore[misc]
            time.sleep(random.uniform(0.0, 0.1))  # the random moment itself
            server.running.kill()
            server.start()
    finally:
        enough.set()
        sending.join()

    compare(all_sent(sidecar, tmp_path), server.entries(), twice=True)
