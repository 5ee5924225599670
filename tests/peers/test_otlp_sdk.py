"""The OTLP exporters of opentelemetry-python, in a process of their own, send to us."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from importlib import metadata
from itertools import islice
from pathlib import Path

import pytest
from tests.e2e.reference import kind_of, lines_without_record, written
from tests.e2e.sidecar import Sidecar, Sidecars, wait_for, write_config
from tests.e2e.test_run import simulated
from tests.peers import listing
from tests.peers.listing import peer
from tests.peers.programs import Program, Programs, free_port
from tests.tls_files import TlsFiles

from esa_tls.offline.simulate import SimulationSettings, simulate

WITHIN_S = 20.0

TOKEN = "opensesame"

LINES = (
    *simulated(messages=8, seed=40),
    "Mon Nov 24 00:00:02 2025 Info: MID 900 Subject 'Grüße, 你好'".encode(),
    b"Mon Nov 24 00:00:02 2025 Info: MID 900 Subject 'bytes \xff\xfe\x80 of no UTF-8'",
    b"Mon Nov 24 00:00:03 2025 Info: " + b"x" * 100_000,
)


class Doors:
    """A sidecar with gRPC and HTTP, each plain and with TLS and a token. A host is an appliance."""

    def __init__(self, folder: Path, sidecars: Sidecars) -> None:
        self.tls = TlsFiles(folder / "tls")
        cert_file, key_file = self.tls.server
        secure = {"tls": {"cert_file": cert_file, "key_file": key_file}, "token": TOKEN}
        # `requests` prefers these, where they are set, to what the exporter tells it.
        self.environment = {"REQUESTS_CA_BUNDLE": self.tls.ca_file, "CURL_CA_BUNDLE": self.tls.ca_file}
        self.records = folder / "records.jsonl"
        sources = [
            {"type": f"otlp_{protocol}", "name": f"{protocol} {name}", "listen": "127.0.0.1:0", **settings}
            for protocol in ("grpc", "http")
            for name, settings in (("plain", {}), ("secure", secure))
        ]
        sources = [source | {"name": str(source["name"]).replace(" ", "-")} for source in sources]
        self.sidecar: Sidecar = sidecars.start(
            write_config(folder, appliance={"from": ["otlp:host.name"]}, max_hold_s=0.1, sources=sources)
        )

    def until_lines(self, host: str, lines: Sequence[bytes]) -> None:
        """Return when these lines, and no others, have come from this host."""
        wait_for("held lines left", lambda: self.sidecar.metric("esa_tls_lines_held") == 0, within_s=WITHIN_S)
        mark = f'"appliance":"{host}"'.encode()

        def came() -> bool:
            rows = self.records.read_bytes().splitlines() if self.records.exists() else []
            return sum(b'"record":"line"' in row and mark in row for row in rows) >= len(lines)

        wait_for(f"{len(lines)} lines of {host}", came, within_s=WITHIN_S)
        found = [one for one in written(self.records).values() if one["cisco_esa"]["appliance"] == host and kind_of(one) == "line"]
        assert len(found) == len(lines)
        assert lines_without_record(lines, found) == []


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """See the class."""
    sidecars = Sidecars()
    try:
        made = Doors(tmp_path_factory.mktemp("doors"), sidecars)
        yield made
        assert made.sidecar.drain() == 0
        assert "Traceback" not in made.sidecar.text
    finally:
        sidecars.end()


@pytest.fixture(scope="session")
def sdk() -> tuple[str, Path]:
    """The command of a program that sends with the exporters."""
    versions = {metadata.version(f"opentelemetry-exporter-otlp-proto-{protocol}") for protocol in ("grpc", "http")}
    peer(listing.OTLP_PYTHON, ", ".join(sorted(versions)))
    return sys.executable, Path(__file__).with_name("otlp_sdk.py")


def sent(program: Program) -> int:
    """How many records it says were taken."""
    return sum(int(line.split()[1]) for line in program.lines if line.startswith("sent "))


@pytest.mark.parametrize("body", ["text", "bytes", "map"])
@pytest.mark.parametrize("way", ["plain", "plain gzip", "secure gzip"])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_every_record_arrives(doors: Doors, programs: Programs, sdk: tuple[str, Path], protocol: str, way: str, body: str) -> None:
    """Its batches are taken at once, and its bodies are our lines: text, bytes or a map; plain or gzip; TLS and token."""
    host = f"{protocol}-{way.replace(' ', '-')}-{body}"
    door, _, gzip = way.partition(" ")
    command: list[str | Path] = [*sdk, protocol, str(doors.sidecar.ports[f"{protocol}-{door}"]), "--host", host, "--body", body]
    command += ["--gzip"] if gzip else []
    command += ["--ca", doors.tls.ca_file, "--token", TOKEN] if door == "secure" else []
    program = programs.start(*command, environment=doors.environment)
    program.write(b"".join(line + b"\n" for line in LINES))
    program.no_more()

    assert (program.until_ended(), sent(program)) == (0, len(LINES)), program.text
    assert all(line.startswith("sent ") for line in program.lines), program.text  # the SDK has nothing to complain of
    doors.until_lines(host, LINES)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_wrong_token_is_told(doors: Doors, programs: Programs, sdk: tuple[str, Path], protocol: str) -> None:
    """Refused for good: the SDK gives up at once, and nothing gets in."""
    port = doors.sidecar.ports[f"{protocol}-secure"]
    program = programs.start(
        *sdk, protocol, str(port), "--host", "refused", "--ca", doors.tls.ca_file, "--token", "wrong", environment=doors.environment
    )
    program.write(LINES[0] + b"\n")
    program.no_more()

    assert program.until_ended() == 0
    assert "failed 1" in program.lines, program.text
    assert ("UNAUTHENTICATED" if protocol == "grpc" else "401") in program.text
    refused = doors.sidecar.metric("esa_tls_peers_refused_total", listener=f"source {protocol}-secure", reason="wrong_token")
    assert refused == 1
    assert not doors.records.exists() or b'"appliance":"refused"' not in doors.records.read_bytes()


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_we_are_killed_while_it_sends(tmp_path: Path, programs: Programs, sidecars: Sidecars, sdk: tuple[str, Path], protocol: str) -> None:
    """We are killed by SIGKILL and come back: what was on its way is sent again, and every line is there as often as it was sent."""
    port = free_port()
    sources = [{"type": f"otlp_{protocol}", "listen": f"127.0.0.1:{port}"}]
    config = write_config(tmp_path, appliance={"from": ["otlp:host.name"]}, max_hold_s=0.1, sources=sources)
    sidecar = sidecars.start(config)
    program = programs.start(*sdk, protocol, str(port))
    source = (line for _, line in simulate(SimulationSettings(seed=41, messages=1_000_000)))
    lines: list[bytes] = []
    enough = threading.Event()

    def feed() -> None:
        while not enough.wait(0.02) and len(lines) - sent(program) < 1500:  # more than its queue holds would be dropped
            some = list(islice(source, 20))
            program.write(b"".join(line + b"\n" for line in some))
            lines.extend(some)

    writer = threading.Thread(target=feed)
    writer.start()
    try:
        program.until_said("^sent", times=3)
        sidecar.kill()
        sidecar = sidecars.start(config)
        program.until_said("^sent", times=program.text.count("sent") + 1)
    finally:
        enough.set()
        writer.join()
    program.no_more()
    assert (program.until_ended(within_s=40), sent(program)) == (0, len(lines)), program.text
    wait_for("held lines left", lambda: sidecar.metric("esa_tls_lines_held") == 0, within_s=WITHIN_S)
    assert sidecar.drain() == 0

    found = [record for record in written(tmp_path / "records.jsonl").values() if kind_of(record) == "line"]
    assert len(found) == len(lines)
    assert lines_without_record(lines, found) == []
