"""`esa-tls run` as its users meet it: started, fed, stopped, started again, and told wrong things."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.receiver import Receiver
from tests.e2e.reference import Undisturbed, count_of, differences, kind_of, lines_without_record, settings_of, written
from tests.e2e.sender import Sender, Target
from tests.e2e.sidecar import Sidecar, Sidecars, esa_tls, stored_lines, wait_for, write_config

from esa_tls.app import core_settings
from esa_tls.config import Config
from esa_tls.offline.simulate import SimulationSettings, simulate
from esa_tls.runtime.journal_folder import VERSION

TLS_LINES = (
    b"Mon Nov 24 00:00:00 2025 Info: New SMTP ICID 500 interface D1 (192.0.2.1) address 198.51.100.7 reverse dns host mx.test verified yes",
    b"Mon Nov 24 00:00:00 2025 Info: ICID 500 ACCEPT SG UNKNOWNLIST match sbrs[-1.0:10.0] SBRS 3.4 country United States",
    b"Mon Nov 24 00:00:00 2025 Info: ICID 500 TLS success protocol TLSv1.2 cipher ECDHE-RSA-AES256-GCM-SHA384",
    b"Mon Nov 24 00:00:01 2025 Info: Start MID 900 ICID 500",
    b"Mon Nov 24 00:00:01 2025 Info: MID 900 ICID 500 From: <sender@example.com>",
    b"Mon Nov 24 00:00:01 2025 Info: MID 900 ICID 500 RID 0 To: <user@example.org>",
    b"Mon Nov 24 00:00:01 2025 Info: MID 900 Message-ID '<900@example.com>'",
    b"Mon Nov 24 00:00:01 2025 Info: MID 900 ready 12345 bytes from <sender@example.com>",
    b'Mon Nov 24 00:00:02 2025 Info: MID 900 quarantined to "Policy" (message filter:held)',
    b"Mon Nov 24 00:00:02 2025 Info: ICID 500 close",
)
"""A message that is received under TLS and put into a quarantine."""

RELEASE_LINES = (
    b'Sun Nov 30 09:00:00 2025 Info: MID 900 released from quarantine "Policy" (manual) t=550798',
    b"Sun Nov 30 09:00:00 2025 Info: MID 900 released from all quarantines",
    b"Sun Nov 30 09:00:00 2025 Info: MID 900 queued for delivery",
    b"Sun Nov 30 09:00:01 2025 Info: New SMTP DCID 700 interface 192.0.2.2 address 203.0.113.9 port 25",
    b"Sun Nov 30 09:00:01 2025 Info: DCID 700 TLS success protocol TLSv1.2 cipher ECDHE-RSA-AES256-GCM-SHA384",
    b"Sun Nov 30 09:00:01 2025 Info: Delivery start DCID 700 MID 900 to RID [0]",
    b"Sun Nov 30 09:00:02 2025 Info: Message done DCID 700 MID 900 to RID [0]",
    b"Sun Nov 30 09:00:02 2025 Info: MID 900 RID [0] Response '2.0.0 OK'",
    b"Sun Nov 30 09:00:02 2025 Info: Message finished MID 900 done",
    b"Sun Nov 30 09:00:07 2025 Info: DCID 700 close",
)
"""Six days later it is released and delivered under TLS."""


def simulated(*, messages: int = 300, seed: int = 1) -> list[bytes]:
    """Lines of one appliance."""
    return [line for _, line in simulate(SimulationSettings(seed=seed, messages=messages))]


def log_file(path: Path, lines: Sequence[bytes]) -> Path:
    """A log with these lines."""
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def deliver(sidecar: Sidecar, lines: Sequence[bytes], *, tag: str = "esa1", frame_lines: int = 500, ack_timeout_s: float = 60.0) -> None:
    """Send lines with the test's own client until all are acknowledged."""
    sender = Sender(Target(sidecar.port), tag=tag, ack_timeout_s=ack_timeout_s)
    for at in range(0, len(lines), frame_lines):
        assert sender.deliver(lines[at : at + frame_lines])
    sender.close()


def one_sentence(text: str) -> str:
    """What a command said, if that is one line of ours."""
    assert text.count("\n") == 1, text
    assert text.startswith("esa-tls: "), text
    return text


# -- records ---------------------------------------------------------------------------------------------------------------------
def test_defaults_without_a_file_write_to_standard_output(tmp_path: Path, sidecars: Sidecars) -> None:
    """With no configuration file it takes lines from our client and writes their records to standard output."""
    for port in (24224, 4317, 4318, 4319, 8080):  # the ports of the defaults; the one test that cannot take free ones
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                pytest.skip(f"port {port} of the defaults is taken on this machine")
    lines = simulated()
    log = log_file(tmp_path / "mail.log", lines)
    out = tmp_path / "stdout"
    with out.open("wb") as stdout:
        sidecar = sidecars.start(None, stdout=stdout, cwd=tmp_path)
    assert {"fluent": 24224, "otlp_grpc": 4317, "otlp_http": 4318, "api": 4319, "web": 8080} == sidecar.ports

    sent = esa_tls("send", log, "--to", "forward://127.0.0.1:24224")

    assert 0 == sent.returncode, sent.stderr
    assert f"{len(lines)} lines sent" in sent.stderr
    assert 0 == sidecar.drain()
    assert [] == differences(Undisturbed(core_settings(Config())).feed(lines, tag="esa.mail").records(), written(out))
    assert (tmp_path / "esa-tls-data" / "journal-0").is_dir()


@pytest.mark.parametrize("client", ["esa-tls", "fluent-logger"])
def test_records_are_those_of_the_core(tmp_path: Path, sidecars: Sidecars, client: str) -> None:
    """Lines sent with our client and with the real fluent-logger give exactly the records and ids that the core gives in one piece."""
    config = write_config(tmp_path, max_hold_s=60.0)
    lines = simulated(messages=200, seed=2)
    log = log_file(tmp_path / "mail.log", lines)
    expected = Undisturbed(settings_of(config)).feed(lines).records()
    sidecar = sidecars.start(config)

    sent = esa_tls("send", log, "--to", f"forward://127.0.0.1:{sidecar.port}", "--client", client, "--tag", "esa1")

    assert 0 == sent.returncode, sent.stderr
    if client == "fluent-logger":  # nobody told it that the lines were taken, so a drain need not wait for them
        wait_for("all lines taken", lambda: sidecar.metric("esa_tls_lines_total") == len(lines), within_s=30)
    assert 0 == sidecar.drain()
    assert [] == differences(expected, written(tmp_path / "records.jsonl"))


def test_bytes_of_any_kind_become_records(tmp_path: Path, sidecars: Sidecars) -> None:
    """A line of 1 MiB, NULs, bytes that are not UTF-8 and a Subject holding a perfect log line: records, byte for byte, no false fact."""
    config = write_config(tmp_path, max_hold_s=0.5)
    begin = b"Mon Nov 24 00:00:0"
    lines = [
        *TLS_LINES[:8],
        begin + b"2 2025 Info: MID 900 Subject 'Mon Nov 24 00:00:02 2025 Info: ICID 500 TLS failed: STARTTLS unexpected response'",
        begin + b"2 2025 Info: MID 900 Subject '\\nMon Nov 24 00:00:02 2025 Info: DCID 700 TLS success'",
        begin + b"3 2025 Info: " + b"x" * (1 << 20),
        begin + b"3 2025 Info: MID 900 \xff\xfe\x80 is not UTF-8",
        begin + b"3 2025 Info: MID 900 has a NUL \x00 in it",
        b"\x00\x01\x02 no line at all",
        b"",
        begin + b"4 2025 Info: ICID 500 close",
    ]
    sidecar = sidecars.start(config)

    deliver(sidecar, lines, frame_lines=4)

    wait_for("all line records", lambda: count_of(tmp_path / "records.jsonl", "line") == len(lines), within_s=20)
    assert 0 == sidecar.drain()
    records = written(tmp_path / "records.jsonl")
    assert [] == lines_without_record(lines, records.values())
    (connection,) = [record for record in records.values() if kind_of(record) == "connection"]
    assert "esa1/0/ICID/500" == connection["cisco_esa"]["connection"]["id"]
    assert ("success", "line") == (connection["cisco_esa"]["tls"]["outcome"], connection["cisco_esa"]["tls"]["evidence"])
    assert "failure" not in connection["cisco_esa"]["tls"]
    assert not any("dcid" in record["cisco_esa"] for record in records.values())


# -- stop and start --------------------------------------------------------------------------------------------------------------
def test_a_second_start_continues(tmp_path: Path, sidecars: Sidecars) -> None:
    """A message that waits in a quarantine over a restart still knows its reception's TLS; the file has nothing twice."""
    config = write_config(tmp_path)
    before = simulated(messages=60, seed=3)
    sidecar = sidecars.start(config)
    deliver(sidecar, before[: len(before) // 2], tag="other")
    deliver(sidecar, TLS_LINES)
    assert 0 == sidecar.drain()

    sidecar = sidecars.start(config)
    deliver(sidecar, before[len(before) // 2 :], tag="other")
    deliver(sidecar, RELEASE_LINES)
    assert 0 == sidecar.drain()

    records = written(tmp_path / "records.jsonl")
    core = Undisturbed(settings_of(config)).feed(before, tag="other").feed([*TLS_LINES, *RELEASE_LINES])
    assert [] == differences(core.records(), records, evidence=False)
    (message,) = [record for record in records.values() if kind_of(record) == "message" and record["cisco_esa"]["mid"] == 900]
    assert {"outcome": "success", "evidence": "line", "in_clear": False} == {
        key: message["cisco_esa"]["reception"]["tls"][key] for key in ("outcome", "evidence", "in_clear")
    }
    assert "encrypted" == message["cisco_esa"]["posture"]
    assert "finished" == message["cisco_esa"]["message"]["end"]


def test_everything_acknowledged_is_out_after_a_drain(tmp_path: Path, sidecars: Sidecars) -> None:
    """SIGTERM while a sender is at work: what was acknowledged is in the file, once, and the rest can be sent to a second start."""
    config = write_config(tmp_path, max_hold_s=60.0)
    lines = simulated(messages=400, seed=4)
    sidecar = sidecars.start(config)
    target = Target(sidecar.port)
    sender = Sender(target, tag="esa1")
    at = 0
    while at < len(lines) // 2:
        assert sender.deliver(lines[at : at + 300])
        at += 300

    assert 0 == sidecar.drain()
    assert [] == differences(Undisturbed(settings_of(config)).feed(lines[:at]).records(), written(tmp_path / "records.jsonl"))

    sidecar = sidecars.start(config)
    target.set(sidecar.port)
    while at < len(lines):
        assert sender.deliver(lines[at : at + 300])
        at += 300
    sender.close()
    assert 0 == sidecar.drain()
    assert [] == differences(Undisturbed(settings_of(config)).feed(lines).records(), written(tmp_path / "records.jsonl"), evidence=False)


def test_held_lines_outlive_a_restart(tmp_path: Path, sidecars: Sidecars) -> None:
    """Lines held for an undecided connection when it stops leave after the next start, decided."""
    config = write_config(tmp_path, max_hold_s=60.0)
    sidecar = sidecars.start(config)
    deliver(sidecar, TLS_LINES[:2])
    assert 2 == sidecar.metric("esa_tls_lines_held")
    assert 0 == sidecar.drain()
    assert {} == written(tmp_path / "records.jsonl")

    sidecar = sidecars.start(config)
    assert 2 == sidecar.metric("esa_tls_lines_held")
    deliver(sidecar, TLS_LINES[2:])
    assert 0 == sidecar.drain()

    records = written(tmp_path / "records.jsonl")
    assert [] == differences(Undisturbed(settings_of(config)).feed(TLS_LINES).records(), records)
    assert {"success"} == {record["cisco_esa"]["tls"]["outcome"] for record in records.values() if "icid" in record["cisco_esa"]}


# -- refusals --------------------------------------------------------------------------------------------------------------------
def test_a_second_run_says_who_holds_the_folder(tmp_path: Path, sidecars: Sidecars) -> None:
    """A second `run` on the same `data_dir` ends with one sentence that names the first; the first goes on."""
    config = write_config(tmp_path)
    sidecar = sidecars.start(config)

    second = esa_tls("run", "-c", config)

    assert 1 == second.returncode
    assert f"is in use by process {sidecar.pid}" in one_sentence(second.stderr)
    deliver(sidecar, TLS_LINES)
    assert 0 == sidecar.drain()
    assert len(TLS_LINES) == count_of(tmp_path / "records.jsonl", "line")


def test_a_newer_journal_is_refused(tmp_path: Path, sidecars: Sidecars) -> None:
    """A journal of a later version is left alone, with one sentence."""
    config = write_config(tmp_path)
    assert 0 == sidecars.start(config).drain()
    version = tmp_path / "data" / "journal-0" / "version"
    newer = f"{VERSION + 1}\n"
    version.write_text(newer)

    refused = esa_tls("run", "-c", config)

    assert 1 == refused.returncode
    assert "use a newer esa-tls" in one_sentence(refused.stderr)
    assert newer == version.read_text()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"data_dir": [1]}, "data_dir: expected text"),
        ({"sinks": [{"type": "jsonl", "pth": "x"}]}, "did you mean 'path'?"),
        ({"sinks": [{"type": "jsonl", "path": "a"}, {"type": "jsonl", "path": "b"}]}, "give each its own `name`"),
        ({"surces": []}, "did you mean 'sources'?"),
    ],
)
def test_a_bad_configuration_is_one_sentence(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    """What is wrong with the configuration is told in one sentence with the file's name, exit code 2, and nothing is made."""
    config = write_config(tmp_path, **settings)

    refused = esa_tls("run", "-c", config)

    assert 2 == refused.returncode
    assert said in one_sentence(refused.stderr)
    assert str(config) in refused.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("what", ["source", "web", "api"])
def test_a_port_in_use_is_one_sentence(tmp_path: Path, what: str) -> None:
    """An address that is taken is told in one sentence, exit code 2."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        settings: dict[str, Any] = (
            {"sources": [{"type": "fluent", "listen": address}]}
            if what == "source"
            else {what: {"listen": address}, "log_level": "warning"}
        )

        refused = esa_tls("run", "-c", write_config(tmp_path, **settings))

    assert 2 == refused.returncode
    assert f"cannot listen on {address}: address already in use" in one_sentence(refused.stderr)


def test_a_closed_pipe_loses_nothing(tmp_path: Path, sidecars: Sidecars) -> None:
    """When the reader of standard output goes away the sidecar goes on taking lines, ends quietly, and the next start writes them."""
    config = write_config(tmp_path, sinks=[{"type": "jsonl", "path": "-"}])
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb") as stdout:
        sidecar = sidecars.start(config, stdout=stdout)
    os.close(read_end)

    deliver(sidecar, TLS_LINES)

    sidecar.until_said("Sink failed", within_s=10)
    assert sidecar.process.poll() is None
    assert 0 == sidecar.drain()
    assert "Traceback" not in sidecar.text
    out = tmp_path / "stdout"
    with out.open("wb") as stdout:
        sidecar = sidecars.start(config, stdout=stdout)
    assert 0 == sidecar.drain()
    assert [] == differences(Undisturbed(settings_of(config)).feed(TLS_LINES).records(), written(out))


# -- sinks -----------------------------------------------------------------------------------------------------------------------
def forward_sink(receiver: Receiver, **settings: Any) -> dict[str, Any]:
    """A Forward sink that tries again quickly."""
    return {"type": "fluent", "endpoints": [f"127.0.0.1:{receiver.port}"], "retry_initial_s": 0.05, "retry_max_s": 0.2, **settings}


def test_a_dead_sink_holds_no_other_back(tmp_path: Path, sidecars: Sidecars, receiver: Receiver) -> None:
    """While the Forward server is away the file gets everything; when it comes the same records reach it, each once, over its tags."""
    jsonl = {"type": "jsonl", "path": str(tmp_path / "records.jsonl")}
    config = write_config(tmp_path, sinks=[jsonl, forward_sink(receiver)], max_hold_s=60.0)
    lines = simulated(messages=150, seed=5)
    expected = Undisturbed(settings_of(config)).feed(lines).records()
    sidecar = sidecars.start(config)

    deliver(sidecar, lines)

    wait_for("the file has everything", lambda: sum(1 for _ in stored_lines(tmp_path / "records.jsonl")) == len(expected), within_s=20)
    assert [] == differences(expected, written(tmp_path / "records.jsonl"))
    assert sidecar.metric("esa_tls_sink_retries_total", sink="fluent") > 0
    assert 0 < sidecar.metric("esa_tls_sink_oldest_unsent_age_seconds", sink="fluent")
    receiver.start()
    wait_for("the server has everything", lambda: len(receiver.records) >= len(expected), within_s=20)
    assert 0 == sidecar.drain()
    assert set(receiver.ids.values()) == {1}
    assert [] == differences(expected, {record["event"]["id"]: record for record in receiver.records})
    assert receiver.tags == {f"esa.{kind}" for kind in ("line", "connection", "delivery", "message")}


def test_sinks_leave_and_join(tmp_path: Path, sidecars: Sidecars, receiver: Receiver) -> None:
    """A sink taken out of the configuration no longer pins the outbox; a new one begins at the tail, or with the oldest kept record."""
    first = {"type": "jsonl", "name": "first", "path": str(tmp_path / "first.jsonl")}
    config = write_config(tmp_path, sinks=[first, forward_sink(receiver)])  # nobody listens there: it pins everything
    sidecar = sidecars.start(config)
    deliver(sidecar, TLS_LINES)
    sidecar.kill()

    oldest = {"type": "jsonl", "name": "from oldest", "path": str(tmp_path / "oldest.jsonl"), "from": "oldest"}
    tail = {"type": "jsonl", "name": "from tail", "path": str(tmp_path / "tail.jsonl")}
    config = write_config(tmp_path, sinks=[first, oldest, tail])
    sidecar = sidecars.start(config)
    sidecar.until_said("Sink left the configuration", within_s=10)
    deliver(sidecar, RELEASE_LINES)
    assert 0 == sidecar.drain()

    everything = Undisturbed(settings_of(config)).feed([*TLS_LINES, *RELEASE_LINES]).records()
    before = Undisturbed(settings_of(config)).feed(TLS_LINES).records()
    assert [] == differences(everything, written(tmp_path / "first.jsonl"), evidence=False)
    assert [] == differences(everything, written(tmp_path / "oldest.jsonl"), evidence=False)
    assert everything.keys() - before.keys() == written(tmp_path / "tail.jsonl").keys()
    told = esa_tls("journal", "status", "-c", config, "--json")
    assert 0 == told.returncode, told.stderr
    assert "fluent" not in told.stdout


def test_a_sink_gets_only_the_kinds_it_wants(tmp_path: Path, sidecars: Sidecars) -> None:
    """A sink for deliveries gets every delivery and nothing else."""
    sinks = [
        {"type": "jsonl", "name": "all", "path": str(tmp_path / "all.jsonl")},
        {"type": "jsonl", "name": "deliveries", "path": str(tmp_path / "deliveries.jsonl"), "records": ["delivery"]},
    ]
    config = write_config(tmp_path, sinks=sinks)
    sidecar = sidecars.start(config)
    deliver(sidecar, simulated(messages=50, seed=6))
    assert 0 == sidecar.drain()

    everything = written(tmp_path / "all.jsonl")
    deliveries = {record_id: record for record_id, record in everything.items() if kind_of(record) == "delivery"}
    assert len(deliveries) > 50
    assert [] == differences(deliveries, written(tmp_path / "deliveries.jsonl"))


# -- looking at it ---------------------------------------------------------------------------------------------------------------
def test_health_and_metrics_answer(tmp_path: Path, sidecars: Sidecars) -> None:
    """It is alive and ready, and its counters say what went through."""
    config = write_config(tmp_path, web={"listen": "127.0.0.1:0", "metrics_token": "only-for-tests"})
    sidecar = sidecars.start(config)
    lines = simulated(messages=50, seed=7)
    deliver(sidecar, lines, frame_lines=1000)

    assert (200, '{"live": true}') == sidecar.get("/health/live")
    assert (200, []) == (sidecar.get("/health/ready")[0], sidecar.reasons_not_ready())
    assert 401 == sidecar.get("/metrics")[0]
    status, text = sidecar.get("/metrics", {"Authorization": "Bearer only-for-tests"})
    assert 200 == status
    frames = -(-len(lines) // 1000)
    assert f'esa_tls_forward_acks_total{{source="fluent"}} {frames}\n' in text
    assert f'esa_tls_batches_total{{source="fluent"}} {frames}\n' in text
    assert f'esa_tls_lines_total{{source="fluent"}} {len(lines)}\n' in text
    assert f'esa_tls_line_size_bytes_total{{source="fluent"}} {sum(map(len, lines))}\n' in text
    assert 0 == sidecar.drain()


# -- hostile senders -------------------------------------------------------------------------------------------------------------
def hostile_frames() -> dict[str, bytes]:
    """Frames that are refused or cut off, by what they are."""
    import gzip

    import msgpack

    bomb = gzip.compress(bytes(300 << 20), 1)
    return {
        "noise": bytes(range(128, 256)) * 20,
        "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "no tag": msgpack.packb([1, 2, 3, 4]),
        "a map": msgpack.packb({"tag": "x"}),
        "declared larger than allowed": b"\x93\xa1t\xc6\xff\xff\xff\xff",
        "an array of 2**32": b"\x93\xa1t\xdd\xff\xff\xff\xff",
        "nested deep": b"\x93\xa1t" + b"\x91" * 100_000,
        "gzip bomb": msgpack.packb(["t", bomb, {"compressed": "gzip", "chunk": "bomb"}]),
        "damaged gzip": msgpack.packb(["t", b"\x1f\x8b\x08\x00 no gzip", {"compressed": "gzip", "chunk": "damaged"}]),
        "entries cut short": msgpack.packb(["t", b"\x92\xd7\x00\x00", {"chunk": "short"}]),
        "records that are no maps": msgpack.packb(["t", [[0, 1], [0, "x"], [0, None]], {"chunk": "no maps"}]),
        "half a frame": b"\x93\xa1t\xc6\x00\x10\x00\x00" + bytes(1000),
        "nothing": b"",
    }


def test_hostile_frames_stop_nobody_else(tmp_path: Path, sidecars: Sidecars) -> None:
    """Whatever other senders send, a good one is acknowledged all the while, its records are right, and memory stays bounded."""
    config = write_config(tmp_path, max_hold_s=60.0)
    lines = simulated(messages=60, seed=8)
    sidecar = sidecars.start(config)
    sender = Sender(Target(sidecar.port), tag="esa1", ack_timeout_s=20)
    assert sender.deliver(lines[:100])
    rss_bytes = sidecar.rss_bytes()
    left_open = []
    at = 100
    for what, frame in hostile_frames().items():
        hostile = socket.create_connection(("127.0.0.1", sidecar.port), timeout=20)
        left_open.append(hostile)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may be cut off while it is still sending
            hostile.sendall(frame)
        assert sender.deliver(lines[at : at + 100]), what
        at += 100
    assert sender.deliver(lines[at:])
    sender.close()

    assert sidecar.rss_bytes() - rss_bytes < 100 << 20
    refused = sidecar.metric("esa_tls_forward_bad_frames_total") + sidecar.metric("esa_tls_forward_refused_frames_total")
    assert refused >= 8, sidecar.text
    assert sidecar.metric("esa_tls_events_dead_lettered_total") >= 3
    for hostile in left_open:
        hostile.close()
    assert 0 == sidecar.drain()
    assert "Traceback" not in sidecar.text
    assert [] == differences(Undisturbed(settings_of(config)).feed(lines).records(), written(tmp_path / "records.jsonl"), evidence=False)
