"""A real OpenTelemetry Collector on both sides of us, by OTLP, Forward and its syslog receiver (docs/wires.md 2.6)."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 2.6)

from __future__ import annotations

import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from tests.e2e.reference import kind_of, written
from tests.e2e.sidecar import Sidecar, Sidecars, wait_for, write_config
from tests.e2e.test_run import deliver, simulated
from tests.peers.collecting import Collector, LogRecord, line_of
from tests.peers.programs import Programs, free_port
from tests.tls_files import TlsFiles

from esa_tls.offline.simulate import SimulationSettings, simulate

pytestmark = pytest.mark.timeout(90, func_only=True)  # a first run builds the Collector before

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"

WITHIN_S = 30.0

Protocol = Literal["grpc", "http"]

ODD_LINES = (
    "Mon Nov 24 00:00:02 2025 Info: MID 900 Subject 'Grüße, 你好, \u2028 \U0001f512'".encode(),
    b"Mon Nov 24 00:00:02 2025 Info: MID 900 Subject 'bytes \xff\xfe\x80 of no UTF-8'",
    b"Mon Nov 24 00:00:02 2025 Info: MID 900 Subject 'ends with blanks' \t ",
    b"   Mon Nov 24 00:00:02 2025 Info: begins with blanks",
    b"Mon Nov 24 00:00:02 2025 Info: MID 900 Subject 'quotes \" and \\ and \x1b[31m and \x01'",
    b"Mon Nov 24 00:00:03 2025 Info: " + b"x" * 200_000,
    b"no line of the appliance at all",
)


class Around:
    """The example: one Collector reads a log and hands it to us, and takes our records back.

    deploy/examples/collector.yaml and esa-tls-otlp.yaml as they are, but for paths, ports and waits; `protocol` http in place of grpc on
    all four ends.
    """

    def __init__(self, folder: Path, program: Path, programs: Programs, sidecars: Sidecars, *, protocol: Protocol) -> None:
        self.protocol = protocol
        self.log = folder / "mail.current"
        self.log.touch()
        self.in_port, self.out_port = free_port(), free_port()
        self.collector = Collector(program, programs, folder)
        self.config = yaml.safe_load((EXAMPLES / "collector.yaml").read_text())
        config = self.config
        config["extensions"]["file_storage"]["directory"] = str(folder / "storage")
        config["receivers"]["file_log/esa1"] |= {"include": [str(folder / "mail.*")], "poll_interval": "50ms"}
        config["receivers"]["otlp/records"]["protocols"] = {protocol: {"endpoint": f"127.0.0.1:{self.out_port}"}}
        self.exporter = config["exporters"].pop("otlp_grpc/esa-tls")
        self.exporter["endpoint"] = f"127.0.0.1:{self.in_port}" if protocol == "grpc" else f"http://127.0.0.1:{self.in_port}"
        self.exporter["retry_on_failure"] |= {"initial_interval": "200ms", "max_interval": "1s"}
        if protocol == "http":
            del self.exporter["tls"]
        config["exporters"][f"otlp_{protocol}/esa-tls"] = self.exporter
        config["exporters"]["file/records"] = self.collector.to_file()
        config["service"]["pipelines"]["logs/lines"]["exporters"] = [f"otlp_{protocol}/esa-tls"]

        ours = yaml.safe_load((EXAMPLES / "esa-tls-otlp.yaml").read_text())
        self.source, self.sink = ours["sources"][0], ours["sinks"][0]
        self.source |= {"type": f"otlp_{protocol}", "name": "otlp", "listen": f"127.0.0.1:{self.in_port}"}
        endpoint = f"127.0.0.1:{self.out_port}"
        self.sink |= {"protocol": protocol, "endpoints": [endpoint if protocol == "grpc" else f"http://{endpoint}"]}
        self.sink |= {"retry_initial_s": 0.2, "retry_max_s": 1.0}
        self.records_file = folder / "records.jsonl"
        ours["sinks"].append({"type": "jsonl", "path": str(self.records_file)})
        del ours["data_dir"], ours["web"]
        self.settings: dict[str, Any] = ours | {"max_hold_s": 0.5}
        self._folder = folder
        self._sidecars = sidecars

    def start(self) -> None:
        """Both."""
        self.collector.configure(self.config)
        self.collector.start()
        self.start_ours()

    def start_ours(self) -> None:
        """Ours."""
        self.sidecar: Sidecar = self._sidecars.start(write_config(self._folder, **self.settings))

    def write(self, lines: Sequence[bytes]) -> None:
        """Whole lines into the log, as the appliance's file transfer would."""
        with self.log.open("ab") as log:
            log.write(b"".join(line + b"\n" for line in lines))

    def back(self) -> list[LogRecord]:
        """The lines' records that came back to the Collector."""
        return [record for record in self.collector.records() if record.event_name == "cisco_esa.line"]

    def until_more_back(self) -> None:
        """Return when a line is back that was not."""
        before = len(self.back())
        wait_for("lines come back", lambda: len(self.back()) > before, within_s=WITHIN_S)

    def until_back(self, lines: Sequence[bytes]) -> None:
        """Return when every line is back, as often as it was written."""
        give_up_s = time.monotonic() + WITHIN_S
        while missing := Counter(lines) - Counter(map(line_of, self.back())):
            assert time.monotonic() < give_up_s, f"{missing.total()} lines are not back: {[line[:200] for line in list(missing)[:5]]}"
            time.sleep(0.05)


@pytest.fixture(params=["grpc", "http"])
def around(request: pytest.FixtureRequest, tmp_path: Path, collector: Path, programs: Programs, sidecars: Sidecars) -> Around:
    """The example, not yet started."""
    return Around(tmp_path, collector, programs, sidecars, protocol=request.param)


# -- OTLP in and out -------------------------------------------------------------------------------------------------------------
def test_O12_bodies_are_equal(around: Around) -> None:
    """File, Collector, us, Collector, file: each line comes back once, byte for byte, with the id that our own file has for it."""
    around.start()
    lines = [*simulated(messages=100, seed=12), *ODD_LINES]
    around.write(lines[:300])
    around.until_back(lines[:300])
    around.write(lines[300:])
    around.until_back(lines)
    assert around.sidecar.drain() == 0
    around.collector.end()

    back = around.collector.records()
    assert Counter(map(line_of, around.back())) == Counter(lines)
    assert [record.body for record in around.back() if "cisco_esa.raw_base64" in record.attributes] == [
        ODD_LINES[1].decode(errors="replace")
    ]
    assert {record.resource["host.name"] for record in back} == {"esa1"}
    ours = written(around.records_file)
    assert sorted(record.attributes["log.record.uid"] for record in back) == sorted(ours)
    assert Counter(record.event_name for record in back) == Counter(f"cisco_esa.{kind_of(record)}" for record in ours.values())


def test_O12_no_line_is_lost_by_kills(around: Around) -> None:
    """While lines are written, now we and now the Collector are killed by SIGKILL and started again: every line comes back."""
    around.start()
    source = (line for _, line in simulate(SimulationSettings(seed=13, messages=1_000_000)))
    lines: list[bytes] = []
    enough = threading.Event()

    def write_on() -> None:
        while not enough.wait(0.02):  # a pace, so that kills fall into it
            batch = list(islice(source, 20))
            around.write(batch)
            lines.extend(batch)

    writer = threading.Thread(target=write_on)
    writer.start()
    try:
        for victim in 2 * ("we", "the Collector"):
            around.until_more_back()
            time.sleep(random.uniform(0.0, 0.2))  # the random moment itself
            if victim == "we":
                around.sidecar.kill()
                around.start_ours()
            else:
                around.collector.kill()
                around.collector.start()
    finally:
        enough.set()
        writer.join()
    around.until_back(lines)
    assert around.sidecar.drain() == 0
    around.collector.end()

    assert set(map(line_of, around.back())) == set(lines)
    uids = {record.attributes["log.record.uid"] for record in around.collector.records()}
    assert uids == set(written(around.records_file))


def test_O13_a_resend_while_the_first_is_under_way(around: Around) -> None:
    """The Collector's time runs out while we stand still: it sends again what we got already, and no record is doubled."""
    around.exporter["timeout"] = "500ms"
    around.start()
    lines = simulated(messages=30, seed=14)
    around.write(lines[:100])
    around.until_back(lines[:100])
    around.sidecar.process.send_signal(signal.SIGSTOP)
    try:
        around.write(lines[100:])
        assert around.collector.running is not None
        around.collector.running.until_said("Exporting failed. Will retry", times=2)
    finally:
        around.sidecar.process.send_signal(signal.SIGCONT)
    around.until_back(lines)
    assert around.sidecar.drain() == 0

    ours = [record["event"]["original"].encode() for record in written(around.records_file).values() if kind_of(record) == "line"]
    assert Counter(ours) == Counter(lines)


def test_O9_mutual_tls_and_token(around: Around, tmp_path: Path) -> None:
    """Both ways under TLS with certificates on both sides, with a token; a Collector without its certificate is refused and told."""
    tls = TlsFiles(tmp_path / "tls")
    cert_file, key_file = tls.server
    client_cert, client_key = tls.client
    known = {"ca_file": tls.ca_file, "cert_file": client_cert, "key_file": client_key}
    listen = {"cert_file": cert_file, "key_file": key_file, "client_ca_file": tls.ca_file}
    around.source |= {"tls": listen, "token": "opensesame"}
    around.sink["tls"] = known
    [receiving] = around.config["receivers"]["otlp/records"]["protocols"].values()
    receiving["tls"] = listen
    around.exporter |= {"tls": {"ca_file": tls.ca_file}, "headers": {"authorization": "Bearer opensesame"}}
    if around.protocol == "http":
        around.exporter["endpoint"] = around.exporter["endpoint"].replace("http://", "https://")
        around.sink["endpoints"] = [around.sink["endpoints"][0].replace("http://", "https://")]
    around.start()
    lines = simulated(messages=10, seed=15)
    around.write(lines)
    assert around.collector.running is not None
    around.collector.running.until_said("Exporting failed. Will retry")
    if around.protocol == "http":  # grpcio does not tell of refused handshakes
        wait_for("counted", lambda: around.sidecar.metric("esa_tls_peers_refused_total", listener="source otlp") > 0, within_s=WITHIN_S)
    assert around.back() == []
    around.collector.end()

    around.exporter["tls"] = known
    around.collector.configure(around.config)
    around.collector.start()
    around.until_back(lines)


# -- Forward out -----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("gzip", [True, False], ids=["gzip", "plain"])
def test_its_forward_receiver_acknowledges(tmp_path: Path, collector: Path, programs: Programs, sidecars: Sidecars, gzip: bool) -> None:
    """Records sent to its fluent_forward receiver are acknowledged and arrive whole, once, also those that had to wait for it."""
    port = free_port()
    receiver = Collector(collector, programs, tmp_path)
    receiver.configure(
        {
            "receivers": {"fluent_forward": {"endpoint": f"127.0.0.1:{port}"}},
            "exporters": {"file": receiver.to_file()},
            "service": {"pipelines": {"logs": {"receivers": ["fluent_forward"], "exporters": ["file"]}}},
        }
    )
    records_file = tmp_path / "records.jsonl"
    config = write_config(
        tmp_path,
        max_hold_s=0.5,
        sinks=[
            {
                "type": "fluent",
                "endpoints": [f"127.0.0.1:{port}"],
                "compression": "gzip" if gzip else "none",
                "retry_initial_s": 0.2,
                "retry_max_s": 0.5,
            },
            {"type": "jsonl", "path": str(records_file)},
        ],
    )
    sidecar = sidecars.start(config)
    lines = [*simulated(messages=60, seed=16), *ODD_LINES]
    deliver(sidecar, lines[:200])
    receiver.start()
    deliver(sidecar, lines[200:])
    wait_for("lines written", lambda: records_file.exists() and len(written(records_file)) > len(lines), within_s=WITHIN_S)
    assert sidecar.drain() == 0
    receiver.end()

    ours = written(records_file)
    got = receiver.records()
    assert sorted(_event(record)["id"] for record in got) == sorted(ours)
    for record in got:
        expected = ours[_event(record)["id"]]
        assert record.attributes["fluent.tag"] == f"esa.{kind_of(expected)}"
        whole = {key: value for key, value in expected.items() if key != "log"}
        assert {key: value for key, value in record.attributes.items() if key != "fluent.tag"} == whole
        assert record.body == expected.get("log", "")  # it makes a body of a key of this name, or of `message`


def _event(record: LogRecord) -> dict[str, Any]:
    event: dict[str, Any] = record.attributes["event"]
    return event


# -- its syslog receiver ---------------------------------------------------------------------------------------------------------
SYSLOG = {
    "5424, counted": ("rfc5424", True, b"<22>1 2026-11-24T20:00:0%d.25Z esa1 mail_logs 77 - - %s"),
    "5424, LF": ("rfc5424", False, b"<22>1 2026-11-24T20:00:0%d.25Z esa1 mail_logs - - - %s"),
    "3164, LF": ("rfc3164", False, b"<22>Nov 24 20:00:0%d esa1 mail_logs: %s"),
    "3164 without host, as the appliance sends": ("rfc3164", False, b"<22>Nov 24 20:00:0%d mail_logs: %s"),
}
TEXTS = (
    b"Info: New SMTP ICID 7 interface D1 (192.0.2.1) address 198.51.100.7 reverse dns host mx.test verified yes",
    b"Info: ICID 7 ACCEPT SG UNKNOWNLIST match sbrs[-1.0:10.0] SBRS 3.4 country United States",
    b"Info: ICID 7 TLS success protocol TLSv1.2 cipher ECDHE-RSA-AES256-GCM-SHA384",
    b"Info: Start MID 9 ICID 7",
    b"Info: MID 9 ICID 7 From: <sender@example.com>",
    b"Info: ICID 7 close",
)


@pytest.mark.parametrize("form", SYSLOG)
def test_records_of_its_syslog_receiver_are_understood(
    tmp_path: Path, collector: Path, programs: Programs, sidecars: Sidecars, form: str
) -> None:
    """What its syslog receiver makes of a frame becomes the line again: appliance, log name, facts, and the joined connection."""
    protocol, counted, frame = SYSLOG[form]
    listening, in_port = free_port(), free_port()
    relay = Collector(collector, programs, tmp_path)
    syslog = {"protocol": protocol, "tcp": {"listen_address": f"127.0.0.1:{listening}"}} | (
        {"enable_octet_counting": True} if counted else {}
    )
    relay.configure(
        {
            "receivers": {"syslog": syslog},
            "exporters": {
                "otlp_grpc": {
                    "endpoint": f"127.0.0.1:{in_port}",
                    "tls": {"insecure": True},
                    "sending_queue": {"num_consumers": 1},  # more send side by side, and lines come in any order
                }
            },
            "service": {"pipelines": {"logs": {"receivers": ["syslog"], "exporters": ["otlp_grpc"]}}},
        }
    )
    records_file = tmp_path / "records.jsonl"
    config = write_config(
        tmp_path,
        appliance={"from": ["syslog:host", "peer"]},
        sources=[{"type": "otlp_grpc", "listen": f"127.0.0.1:{in_port}"}],
        max_hold_s=0.5,
    )
    sidecar = sidecars.start(config)
    relay.start()
    frames = [frame % (number, text) for number, text in enumerate(TEXTS)]
    with socket.create_connection(("127.0.0.1", listening)) as sender:
        for one in frames:
            sender.sendall(b"%d %s" % (len(one), one) if counted else one + b"\n")
        wait_for("all lines taken", lambda: sidecar.metric("esa_tls_lines_total") == len(frames), within_s=WITHIN_S)
    wait_for("connection written", lambda: b'"record":"connection"' in records_file.read_bytes(), within_s=WITHIN_S)
    assert sidecar.drain() == 0
    relay.end()

    records = list(written(records_file).values())
    lines = sorted((record for record in records if kind_of(record) == "line"), key=lambda record: record["event"]["sequence"])
    assert [record["event"]["original"].encode() for record in lines] == frames
    assert {record["cisco_esa"]["log_name"] for record in lines} == {"mail_logs"}
    appliance = "127.0.0.1" if "without host" in form else "esa1"
    assert {record["cisco_esa"]["appliance"] for record in records} == {appliance}
    [connection] = [record for record in records if kind_of(record) == "connection"]
    assert (connection["cisco_esa"]["icid"], connection["cisco_esa"]["tls"]["outcome"]) == (7, "success")
