"""Back-pressure from end to end: the sink is dead, the journal's budget is used up, and every wire holds its senders in its own way.

Forward and syslog: nothing is read any more, so the sender's TCP window closes. OTLP by gRPC: UNAVAILABLE with both RetryInfo keys. By
HTTP: 503 with Retry-After. `Enrich`: no acknowledgement, and flow control stops the client. When the sink comes everything arrives.
"""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md)

from __future__ import annotations

import contextlib
import random
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from tests.e2e.receiver import Receiver
from tests.e2e.sender import packed_forward
from tests.e2e.sidecar import Sidecars, wait_for, write_config
from tests.e2e.test_disk_full import Filling
from tests.e2e.test_run import forward_sink

from esa_tls.api.v1.service_pb2 import EnrichRequest
from esa_tls.api.v1.service_pb2_grpc import EsaTlsStub

JOURNAL_BYTES = 64 << 20
STILL_S = 2.0
"""A sender that could write nothing for so long is held."""
WITHIN_S = 90.0

METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
_MARK = re.compile(r"bulk (\S+)")
_NOISE = random.Random(4)


def line(mark: str, *, n_bytes: int = 20_000) -> bytes:
    """A line that no compression makes much smaller, and that can be told from all others."""
    return b"Wed Nov 18 10:00:00 2026 Info: bulk %s %s" % (mark.encode(), _NOISE.randbytes(n_bytes // 2).hex().encode())


def lines(wire: str, n: int) -> list[bytes]:
    """Some of a wire."""
    return [line(f"{wire}-{at}") for at in range(n)]


def marks(receiver: Receiver) -> set[str]:
    """Of all lines that arrived."""
    with receiver.lock:
        records = list(receiver.records)
    found = (_MARK.search(str(record.get("event", {}).get("original", ""))) for record in records)
    return {match[1] for match in found if match}


class Pushing(threading.Thread):
    """Writes all of some bytes to a port, as far as it is let. `written`: so many by now. The connection stays open until `close`."""

    def __init__(self, port: int, data: bytes) -> None:
        super().__init__(daemon=True)
        self.written = 0
        self._data = memoryview(data)
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WITHIN_S)

    def run(self) -> None:
        """Until all is written, or the connection ends."""
        with contextlib.suppress(OSError):
            while self.written < len(self._data):
                self.written += self.socket.send(self._data[self.written : self.written + (1 << 16)])

    @property
    def done(self) -> bool:
        """Whether all is written."""
        return self.written == len(self._data)

    def until_held(self) -> None:
        """Return when nothing moved for `STILL_S`, with something left to write."""
        before, since_s = -1, time.monotonic()
        give_up_s = since_s + WITHIN_S
        while time.monotonic() - since_s < STILL_S:
            if self.written != before:
                before, since_s = self.written, time.monotonic()
            assert time.monotonic() < give_up_s
            time.sleep(0.05)
        assert self.is_alive(), "its connection was closed"
        assert not self.done, "everything was taken"


class Enriching(threading.Thread):
    """Hands batches over on one stream. `asked`: so many were taken from us; `acknowledged`: their numbers."""

    def __init__(self, port: int, batches: list[list[bytes]]) -> None:
        super().__init__(daemon=True)
        self._batches = batches
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.asked = 0
        self.acknowledged: list[int] = []

    def _requests(self) -> Iterator[EnrichRequest]:
        for number, batch in enumerate(self._batches, 1):
            self.asked = number
            yield EnrichRequest(batch_id=number, lines=batch, appliance="esa-enrich", acks_only=True)

    def run(self) -> None:
        """To the end of the stream."""
        call: Any = EsaTlsStub(self._channel).Enrich(self._requests())
        for response in call:
            self.acknowledged.append(response.ack.batch_id)
        self._channel.close()


def request_of(these: list[bytes]) -> bytes:
    """An OTLP request."""
    made = ExportLogsServiceRequest()
    group = made.resource_logs.add()
    group.resource.attributes.add(key="host.name").value.string_value = "esa-otlp"
    records = group.scope_logs.add().log_records
    for one in these:
        records.add().body.string_value = one.decode()
    return made.SerializeToString()


def export(port: int, data: bytes) -> tuple[grpc.StatusCode, dict[str, Any], float]:
    """Over gRPC: status, trailing metadata, seconds."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary(METHOD)
        started_s = time.monotonic()
        try:
            call(data, timeout=20)
        except grpc.RpcError as error:
            trailers: Any = error.trailing_metadata() or ()
            return error.code(), dict(trailers), time.monotonic() - started_s
        return grpc.StatusCode.OK, {}, time.monotonic() - started_s


def post(port: int, data: bytes) -> tuple[int, dict[str, str], float]:
    """Over HTTP: status, headers, seconds."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/logs", data=data, headers={"Content-Type": "application/x-protobuf"}, method="POST"
    )
    started_s = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), time.monotonic() - started_s
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), time.monotonic() - started_s


def test_F17_O6_a_full_journal_holds_every_wire_and_nothing_is_lost(tmp_path: Path, sidecars: Sidecars, receiver: Receiver) -> None:
    """F17, O6: each wire holds its senders in its own way, within its time, without a drop; once there is room everything arrives."""
    config = write_config(
        tmp_path,
        journal={"max_bytes": JOURNAL_BYTES},
        appliance={"from": ["otlp:host.name", "fluent_tag", "peer"]},
        sources=[
            {"type": "fluent", "listen": "127.0.0.1:0"},
            {"type": "otlp_grpc", "listen": "127.0.0.1:0"},
            {"type": "otlp_http", "listen": "127.0.0.1:0"},
            {"type": "syslog", "listen": "127.0.0.1:0", "transport": "tcp"},
        ],
        sinks=[forward_sink(receiver, records=["line"])],
        emit="immediate",
    )
    sidecar = sidecars.start(config)
    ports = sidecar.ports
    sent = {"fill": 9_000, "forward": 2_000, "syslog": 1_000, "enrich": 2_400, "grpc": 20, "http": 20}
    by_fill, by_forward, by_syslog, by_enrich, by_grpc, by_http = (lines(wire, n) for wire, n in sent.items())
    filling = Filling(sidecar, by_fill)
    filling.start()
    sidecar.until_said("Commit failed; it is repeated, and senders are held", within_s=WITHIN_S)
    frames = b"".join(packed_forward("esa-forward", by_forward[at : at + 100], chunk=f"c{at:04}") for at in range(0, 2_000, 100))
    forward = Pushing(ports["fluent"], frames)
    syslog = Pushing(ports["syslog"], b"".join(one + b"\n" for one in by_syslog))
    enriching = Enriching(ports["api"], [by_enrich[at : at + 60] for at in range(0, 2_400, 60)])
    for thread in (forward, syslog, enriching):
        thread.start()
    try:
        forward.until_held()
        syslog.until_held()
        assert enriching.acknowledged == []
        assert enriching.asked < 40, "the stream took all batches"

        code, trailers, took_s = export(ports["otlp_grpc"], request_of(by_grpc))
        assert (code, took_s < 5.0) == (grpc.StatusCode.UNAVAILABLE, True)
        [packed] = status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details
        told = error_details_pb2.RetryInfo()
        assert packed.Unpack(told)
        assert told == error_details_pb2.RetryInfo.FromString(trailers["google.rpc.retryinfo-bin"])
        assert told.retry_delay.seconds >= 1

        status, headers, took_s = post(ports["otlp_http"], request_of(by_http))
        assert (status, took_s < 5.0) == (503, True)
        assert int(headers["Retry-After"]) >= 1

        with grpc.insecure_channel(f"127.0.0.1:{ports['api']}") as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert any(reason.startswith("journal: ") for reason in sidecar.reasons_not_ready())

        receiver.start()
        for send, data, taken in ((export, request_of(by_grpc), grpc.StatusCode.OK), (post, request_of(by_http), 200)):
            port = ports["otlp_grpc" if send is export else "otlp_http"]
            wait_for("the request is taken", lambda: send(port, data)[0] == taken, within_s=WITHIN_S)  # noqa: B023 (called at once)
        wait_for("Forward goes on", lambda: forward.done, within_s=WITHIN_S)
        wait_for("syslog goes on", lambda: syslog.done, within_s=WITHIN_S)
        wait_for("every batch is acknowledged", lambda: enriching.acknowledged == list(range(1, 41)), within_s=WITHIN_S)
        forward.socket.settimeout(WITHIN_S)
        acks = b""
        while acks.count(b"ack") < 20:
            acks += forward.socket.recv(65536)
        wait_for("what was first is acknowledged", lambda: filling.done, within_s=WITHIN_S)
    finally:
        filling.stop()
        for pushing in (forward, syslog):
            pushing.socket.close()

    expected = {f"{wire}-{at}" for wire, n in sent.items() for at in range(n)}
    wait_for("everything arrives", lambda: len(receiver.ids) >= len(expected), within_s=WITHIN_S)
    assert sidecar.drain() == 0
    assert marks(receiver) == expected
    assert len(receiver.ids) == len(expected)  # what came twice came with the same id
    assert "Traceback" not in sidecar.text
