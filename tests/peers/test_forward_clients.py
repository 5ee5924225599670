"""Forward clients that we did not write send to us: every mode, with and without acknowledgement, TLS, keys and users."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fluent.sender import FluentSender
from tests.e2e.reference import kind_of, lines_without_record, written
from tests.e2e.sidecar import Sidecar, Sidecars, wait_for, write_config
from tests.e2e.test_run import simulated
from tests.peers import listing
from tests.peers.listing import peer
from tests.peers.programs import Program, Programs, free_port
from tests.tls_files import TlsFiles

from esa_tls.offline.simulate import SimulationSettings, simulate

pytestmark = pytest.mark.timeout(90, func_only=True)  # a first run builds programs before

WITHIN_S = 20.0

KEY, USER, PASSWORD = "s3cret", "alice", "wonder"

LINES = (
    *simulated(messages=3, seed=20)[:36],
    "Mon Nov 24 00:00:02 2025 Info: MID 900 Subject 'Grüße, 你好'".encode(),
    b"Mon Nov 24 00:00:02 2025 Info: MID 900 Subject 'bytes \xff\xfe\x80 of no UTF-8'",
    b"Mon Nov 24 00:00:03 2025 Info: " + b"x" * 100_000,
    b"no line of the appliance at all",
)

SENT = re.compile(r"sent (\d+)$")  # maybe behind a complaint without a line's end

NODE_MODES = ("Message", "Forward", "PackedForward", "CompressedPackedForward")
IBM_MODES = ("message", "exact", "forward", "packed", "compressed")


class Doors(msgspec.Struct, frozen=True):
    """A sidecar that listens in every way there is, one source each; a tag is an appliance."""

    sidecar: Sidecar
    records: Path
    socket: Path
    tls: TlsFiles

    def port(self, door: str) -> int:
        """Of `plain`, `tls`, `mutual` (certificates on both sides), `key`, `secure` (TLS and key) and `users` (and a user)."""
        return self.sidecar.ports[door]

    def until_lines(self, tag: str, lines: Sequence[bytes]) -> None:
        """Return when these lines, and no others, have come under this tag."""
        mark = f'"appliance":"{tag}"'.encode()

        def came() -> bool:
            rows = self.records.read_bytes().splitlines() if self.records.exists() else []
            return sum(b'"record":"line"' in row and mark in row for row in rows) >= len(lines)

        wait_for(f"{len(lines)} lines of {tag}", came, within_s=WITHIN_S)
        found = [
            record for record in written(self.records).values() if record["cisco_esa"]["appliance"] == tag and kind_of(record) == "line"
        ]
        assert len(found) == len(lines)
        assert lines_without_record(lines, found) == []

    def refused(self, door: str, reason: str) -> float:
        """How many peers were turned away there, for this."""
        return self.sidecar.metric("esa_tls_peers_refused_total", listener=f"source {door}", reason=reason)


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """See the class."""
    folder = tmp_path_factory.mktemp("doors")
    files = TlsFiles(folder / "tls")
    cert_file, key_file = files.server
    tls = {"cert_file": cert_file, "key_file": key_file}
    security: dict[str, Any] = {"shared_key": KEY, "self_hostname": "esa-tls.example"}
    doors: dict[str, dict[str, Any]] = {
        "plain": {},
        "tls": {"tls": tls},
        "mutual": {"tls": {**tls, "client_ca_file": files.ca_file}},
        "key": security,
        "secure": {"tls": tls, **security},
        "users": {"tls": tls, **security, "users": {USER: PASSWORD}},
        "unix": {"listen": f"unix:{folder}/esa-tls.sock"},
    }
    sources = [{"type": "fluent", "name": name, "listen": "127.0.0.1:0", **settings} for name, settings in doors.items()]
    sidecars = Sidecars()
    try:
        sidecar = sidecars.start(write_config(folder, max_hold_s=0.1, sources=sources))
        yield Doors(sidecar, folder / "records.jsonl", folder / "esa-tls.sock", files)
        assert sidecar.drain() == 0
        assert "Traceback" not in sidecar.text
        assert " asyncio: " not in sidecar.text
    finally:
        sidecars.end()


def sent(program: Program) -> int:
    """How many lines a client says to have sent."""
    return sum(int(match[1]) for line in program.lines if (match := SENT.search(line)))


def run(programs: Programs, *command: str | Path, environment: dict[str, str] | None = None) -> None:
    """Run a client that sends all lines, by its own account, and ends well."""
    program = programs.start(*command, environment=environment)
    program.write(b"".join(line + b"\n" for line in LINES))
    program.no_more()
    assert (program.until_ended(), sent(program)) == (0, len(LINES)), program.text


# -- fluent-logger, Python -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("exact", [True, False], ids=["EventTime", "seconds"])
def test_fluent_logger_of_python(doors: Doors, exact: bool) -> None:
    """What fluent-logger sends, without asking for acknowledgement, arrives; text or bytes."""
    peer(listing.FLUENT_LOGGER_PYTHON, metadata.version("fluent-logger"))
    tag = f"python-{exact}"
    sender = FluentSender(tag, port=doors.port("plain"), nanosecond_precision=exact)
    for line in LINES:
        try:
            value: str | bytes = line.decode()
        except UnicodeDecodeError:
            value = line
        assert sender.emit_with_time(None, 1_700_000_000.25 if exact else 1_700_000_000, {"log": value}), sender.last_error
    sender.close()

    doors.until_lines(tag, LINES)


# -- @fluent-org/logger, npm -----------------------------------------------------------------------------------------------------
def node_client(modules: Path, **wanted: Any) -> tuple[list[str | Path], dict[str, str]]:
    """The command and environment of our script around its client."""
    script = Path(__file__).parent / "node" / "client.js"
    return ["node", script, json.dumps({"lines": 7, "mode": "PackedForward", **wanted})], {"NODE_PATH": str(modules)}


@pytest.mark.parametrize("door", ["plain", "unix", "tls", "mutual", "key", "secure", "users"])
def test_fluent_logger_of_node(doors: Doors, programs: Programs, fluent_logger_node: Path, door: str) -> None:
    """Every mode of the npm client, acknowledged, through every door."""
    ways: dict[str, Any] = {"path": str(doors.socket)} if door == "unix" else {"port": doors.port(door)}
    if door in {"tls", "mutual", "secure", "users"}:
        ways["ca"] = doors.tls.ca_file
    if door == "mutual":
        ways["cert"], ways["certKey"] = doors.tls.client
    if door in {"key", "secure", "users"}:
        ways["key"] = KEY
    if door == "users":
        ways |= {"username": USER, "password": PASSWORD}
    for mode in NODE_MODES:
        command, environment = node_client(fluent_logger_node, mode=mode, tag=f"node-{door}-{mode}", **ways)
        run(programs, *command, environment=environment)
    for mode in NODE_MODES:
        doors.until_lines(f"node-{door}-{mode}", LINES)


@pytest.mark.parametrize(
    ("door", "shown", "reason"),
    [
        ("key", {"key": "wrong"}, "shared_key"),
        ("users", {"key": KEY, "username": USER, "password": "wrong"}, "user"),
        ("users", {"key": KEY, "username": "bob", "password": PASSWORD}, "user"),
        ("mutual", {}, "no_client_certificate"),
    ],
    ids=["wrong key", "wrong password", "unknown user", "no certificate"],
)
def test_a_node_client_that_is_refused(
    doors: Doors, programs: Programs, fluent_logger_node: Path, door: str, shown: dict[str, str], reason: str
) -> None:
    """The wrong key, password, user or certificate: refused, counted, and no line gets in."""
    before = doors.refused(door, reason)
    tls = {} if door == "key" else {"ca": doors.tls.ca_file}
    command, environment = node_client(fluent_logger_node, tag="refused", port=doors.port(door), **tls, **shown)
    client = programs.start(*command, environment=environment)
    client.write(LINES[0] + b"\n")
    client.no_more()
    wait_for("refused", lambda: doors.refused(door, reason) > before, within_s=WITHIN_S)
    client.make_sure_it_is_gone()  # it may try for ever, or end with exit code 0

    assert sent(client) == 0
    assert not doors.records.exists() or b'"appliance":"refused"' not in doors.records.read_bytes()


# -- fluent-logger-golang --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", ["tcp", "tcp acknowledged", "tcp acknowledged exact", "unix acknowledged exact", "tls acknowledged exact"])
def test_fluent_logger_golang(doors: Doors, programs: Programs, fluent_logger_go: Path, way: str) -> None:
    """Messages of Go's fluent-logger arrive: seconds or EventTime, with and without acknowledgement, over TCP, TLS and a Unix socket."""
    network, tag = way.split(maxsplit=1)[0], f"golang-{way.replace(' ', '-')}"
    to = ("-path", doors.socket) if network == "unix" else ("-port", str(doors.port("tls" if network == "tls" else "plain")))
    command = [fluent_logger_go, "-network", network, "-tag", tag, *to]
    command += ["-ack"] if "acknowledged" in way else []
    command += ["-exact"] if "exact" in way else []
    run(programs, *command, environment={"SSL_CERT_FILE": doors.tls.ca_file})

    doors.until_lines(tag, LINES)


def test_fluent_logger_golang_survives_kills(tmp_path: Path, programs: Programs, sidecars: Sidecars, fluent_logger_go: Path) -> None:
    """We are killed by SIGKILL while it sends: it sends the same chunk again, so every line is there exactly as often as it was sent."""
    config = write_config(tmp_path, port=free_port(), max_hold_s=0.1)
    sidecar = sidecars.start(config)
    client = programs.start(fluent_logger_go, "-port", str(sidecar.port), "-tag", "esa1", "-ack", "-exact")
    source = (line for _, line in simulate(SimulationSettings(seed=21, messages=1_000_000)))
    lines: list[bytes] = []
    enough = threading.Event()

    def feed() -> None:
        while not enough.is_set() and len(lines) - sent(client) < 200:
            some = list(islice(source, 20))
            client.write(b"".join(line + b"\n" for line in some))
            lines.extend(some)
            enough.wait(0.01)

    writer = threading.Thread(target=feed)
    writer.start()
    try:
        for _ in range(2):
            client.until_said(SENT.pattern, times=sent(client) + 1)
            time.sleep(random.uniform(0.0, 0.1))  # the random moment itself
            sidecar.kill()
            sidecar = sidecars.start(config)
    finally:
        enough.set()
        writer.join()
    client.no_more()
    assert (client.until_ended(), sent(client)) == (0, len(lines)), client.text
    wait_for("held lines left", lambda: sidecar.metric("esa_tls_lines_held") == 0, within_s=WITHIN_S)
    assert sidecar.drain() == 0

    records = [record for record in written(tmp_path / "records.jsonl").values() if kind_of(record) == "line"]
    assert Counter(record["event"]["original"].encode() for record in records) == Counter(lines)


# -- IBM/fluent-forward-go -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("ack", [True, False], ids=["acknowledged", "not acknowledged"])
@pytest.mark.parametrize("door", ["plain", "unix", "tls", "mutual", "key", "secure"])
def test_fluent_forward_go(doors: Doors, programs: Programs, fluent_forward_go: Path, door: str, ack: bool) -> None:
    """Every mode of IBM's client, through every door that it knows; options that it leaves out come as nil."""
    to = ("-network", "unix", "-address", doors.socket) if door == "unix" else ("-address", f"127.0.0.1:{doors.port(door)}")
    options: list[str | Path] = ["-ack"] if ack else []
    if door in {"tls", "mutual", "secure"}:
        options += ["-ca", doors.tls.ca_file]
    if door == "mutual":
        options += ["-cert", doors.tls.client[0], "-cert-key", doors.tls.client[1]]
    if door in {"key", "secure"}:
        options += ["-key", KEY]
    tags = {mode: f"ibm-{door}-{ack}-{mode}" for mode in IBM_MODES}
    for mode, tag in tags.items():
        run(programs, fluent_forward_go, "send", *to, "-mode", mode, "-lines", "7", "-tag", tag, *options)
    for tag in tags.values():
        doors.until_lines(tag, LINES)


@pytest.mark.parametrize(
    ("door", "key", "said", "reason"), [("key", "wrong", "no match", "shared_key"), ("users", KEY, "", "user")], ids=["key", "no user"]
)
def test_an_ibm_client_that_is_refused(
    doors: Doors, programs: Programs, fluent_forward_go: Path, door: str, key: str, said: str, reason: str
) -> None:
    """A wrong key, or no user where one is wanted: its handshake fails, and it is counted."""
    before = doors.refused(door, reason)
    options = [] if door == "key" else ["-ca", doors.tls.ca_file]
    client = programs.start(
        fluent_forward_go, "send", "-address", f"127.0.0.1:{doors.port(door)}", "-key", key, *options, "-tag", "refused"
    )
    client.write(LINES[0] + b"\n")
    client.no_more()

    assert client.until_ended() == 1, client.text
    assert client.lines[-1].startswith("handshake: "), client.text
    assert said in client.lines[-1]
    assert doors.refused(door, reason) == before + 1
