"""SIGHUP: sinks change while lines flow, and nothing is lost; what cannot change is said; what is wrong changes nothing."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.receiver import Receiver
from tests.e2e.sidecar import Sidecar, Sidecars, wait_for, write_config
from tests.e2e.test_run import deliver, simulated

WITHIN_S = 20.0


def jsonl(path: Path, name: str = "jsonl", **settings: Any) -> dict[str, Any]:
    """A file sink."""
    return {"type": "jsonl", "name": name, "path": str(path), **settings}


def written(path: Path) -> list[dict[str, Any]]:
    """All records in a file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def ids(path: Path) -> list[str]:
    """`event.id` of all records in a file."""
    return [record["event"]["id"] for record in written(path)]


def hang_up(sidecar: Sidecar, *, times: int, result: str = "applied") -> None:
    """SIGHUP, and wait until it has been done so often."""
    sidecar.process.send_signal(signal.SIGHUP)
    wait_for("reload", lambda: sidecar.metric("esa_tls_config_reloads_total", result=result) >= times, within_s=WITHIN_S)


@pytest.fixture
def receiver() -> Any:
    """A Forward receiver that acknowledges."""
    started = Receiver().start()
    yield started
    started.stop()


def test_sinks_come_change_and_go(tmp_path: Path, sidecars: Sidecars, receiver: Receiver) -> None:
    """One stays as it is, one gets other kinds, one comes with an encoding nobody had, one goes; each has what it wanted at the time."""
    stays, changes, goes = (tmp_path / f"{name}.jsonl" for name in ("stays", "changes", "goes"))
    first = [jsonl(stays, "stays"), jsonl(changes, "changes", records=["line"]), jsonl(goes, "goes")]
    config = write_config(tmp_path, sinks=first)
    sidecar = sidecars.start(config).until_ready()
    lines = simulated(messages=200)
    half = len(lines) // 2
    deliver(sidecar, lines[:half])
    wait_for("records of the first half", lambda: goes.exists() and len(ids(goes)) == len(ids(stays)) >= half, within_s=WITHIN_S)

    upstream = {"type": "fluent", "name": "comes", "endpoints": [f"127.0.0.1:{receiver.port}"], "records": ["message"]}
    write_config(tmp_path, sinks=[first[0], jsonl(changes, "changes", records=["message"]), upstream])
    hang_up(sidecar, times=1)
    gone = ids(goes)
    deliver(sidecar, lines[half:])
    assert sidecar.drain() == 0, sidecar.text

    kinds = [record["cisco_esa"]["record"] for record in written(changes)]
    before = kinds.count("line")
    assert half - 300 < before <= half  # lines that were held then came out later
    assert kinds == ["line"] * before + ["message"] * (len(kinds) - before)
    assert ids(goes) == gone
    everything = written(stays)
    assert len({record["event"]["id"] for record in everything}) == len(everything)
    messages = [record["event"]["id"] for record in everything if record["cisco_esa"]["record"] == "message"]
    came = [record["event"]["id"] for record in receiver.records]
    assert came
    assert set(came) <= set(ids(changes)[before:]) <= set(messages)
    assert set(messages[messages.index(came[0]) :]) == set(came)
    for said in ("Sink is gone. sink='goes'", "Sink is changed. sink='changes'", "Sink is new. sink='comes'"):
        assert said in sidecar.text


def test_changes_under_load_lose_nothing(tmp_path: Path, sidecars: Sidecars) -> None:
    """While lines flow a sink is changed 15 times: a file has every record once, in order, as if it had never been touched."""
    steady, touched = tmp_path / "steady.jsonl", tmp_path / "touched.jsonl"
    config = write_config(tmp_path, sinks=[jsonl(steady, "steady"), jsonl(touched, "touched")])
    sidecar = sidecars.start(config).until_ready()
    sending = threading.Thread(target=deliver, args=(sidecar, simulated(messages=1500)), kwargs={"frame_lines": 40})
    sending.start()
    for times in range(1, 16):
        write_config(tmp_path, sinks=[jsonl(steady, "steady"), jsonl(touched, "touched", retry_max_s=10 + times)])
        hang_up(sidecar, times=times)
    sending.join()
    assert sidecar.drain() == 0, sidecar.text
    assert len(ids(steady)) > 5_000
    assert ids(touched) == ids(steady)


@pytest.mark.parametrize(
    ("sinks", "said"),
    [
        ([{"type": "jsonl", "pth": "x"}], "unknown key"),
        ([{"type": "fluent", "endpoints": ["127.0.0.1:1"], "tls": {"ca_file": "/nowhere/ca.pem"}}], "/nowhere/ca.pem"),
    ],
)
def test_a_wrong_configuration_changes_nothing(tmp_path: Path, sidecars: Sidecars, sinks: list[dict[str, Any]], said: str) -> None:
    """The reason is in the log, it is counted, and the sinks go on as they were."""
    out = tmp_path / "out.jsonl"
    sidecar = sidecars.start(write_config(tmp_path, sinks=[jsonl(out)])).until_ready()
    write_config(tmp_path, sinks=sinks)
    hang_up(sidecar, times=1, result="refused")
    deliver(sidecar, simulated(messages=20))
    assert sidecar.drain() == 0
    assert len(ids(out)) > 20
    assert "all stays as it was" in sidecar.text
    assert said in sidecar.text


def test_what_needs_a_restart_is_named(tmp_path: Path, sidecars: Sidecars) -> None:
    """The log level changes at once; other keys are named, and change at the next start."""
    sidecar = sidecars.start(write_config(tmp_path)).until_ready()
    write_config(tmp_path, log_level="debug", emit="immediate", max_hold_s=1)
    hang_up(sidecar, times=1)
    assert "The configuration was read again. At a restart only: emit, max_hold_s." in sidecar.text
    deliver(sidecar, simulated(messages=2))
    sidecar.until_said("DEBUG esa_tls", within_s=WITHIN_S)
    assert sidecar.drain() == 0
