"""offline/demo.py: `make run`, from the client's socket to the picture."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from rich.console import Console

from esa_tls.errors import EsaTlsError
from esa_tls.offline import demo
from esa_tls.offline.demo import SAMPLE, free_port


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo makes its folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(demo, "SIMULATED_MESSAGES", 10)
    return tmp_path


def test_the_sample_goes_all_the_way(folder: Path) -> None:
    """Every line sent becomes a record, the deliveries are shown with id, direction and outcome, and only the JSON lines stay."""
    said = io.StringIO()
    corpus = sorted((Path(__file__).parents[2] / "corpus").glob("*technote*.log"))
    code = demo.run(corpus, console=Console(file=said, width=160), forward_port=0, web_port=0)

    shown = said.getvalue()
    assert code == 0, shown
    (failed,) = [line.split() for line in shown.splitlines() if "esa1/0/DCID/5003" in line]
    assert failed[2:8] == ["esa1/0/DCID/5003", "outbound", "failed", "yes", "line", "delivered"]
    for place in ("Page: http://127.0.0.1:", "health: http://127.0.0.1:", "/metrics", "JSON lines: "):
        assert place in shown
    (left,) = folder.iterdir()
    assert [path.name for path in left.iterdir()] == ["records.jsonl"]
    records = [json.loads(line)["cisco_esa"] for line in (left / "records.jsonl").read_bytes().splitlines()]
    sample = [one for one in records if one["record"] == "line" and one["appliance"] == "esa1"]
    assert len(sample) == len(SAMPLE.read_bytes().splitlines())
    for log in corpus:
        lines = [one for one in records if one["record"] == "line" and one["appliance"] == log.stem]
        assert len(lines) == len(log.read_bytes().splitlines()) > 0


def test_a_sidecar_that_does_not_start_is_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sidecar said last is told, and nothing is left behind."""
    monkeypatch.setattr(sys, "executable", "/bin/false")

    with pytest.raises(EsaTlsError, match="the sidecar did not start: it said nothing"):
        demo.run(console=Console(file=io.StringIO()), forward_port=0, web_port=0)
    (left,) = folder.iterdir()
    assert list(left.iterdir()) == []


def test_an_interrupt_ends_the_sidecar(tmp_path: Path) -> None:
    """SIGTERM, like Ctrl-C, while the demo is kept running: the sidecar is gone with it, and the exit code is 0."""
    program = (
        "from esa_tls.offline import demo; import sys; "
        "demo.SIMULATED_MESSAGES = 1; sys.exit(demo.run(keep=True, forward_port=0, web_port=0))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"},
    )
    watchdog = threading.Timer(90, process.kill)
    watchdog.start()
    assert process.stdout is not None
    web = ""
    interrupted = False
    for line in process.stdout:
        web = line.partition("metrics: http://")[2].partition("/metrics")[0] or web
        if line.startswith("The sidecar goes on") and not interrupted:
            interrupted = True
            process.send_signal(signal.SIGTERM)
    process.stdout.close()
    code = process.wait()
    watchdog.cancel()

    assert code == 0
    host, _, port = web.partition(":")
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0, "the sidecar still listens"


def test_a_port_that_is_taken_is_not_used() -> None:
    """The wanted port if it is free, else another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) not in (0, port)
    assert free_port(port) == port
