"""Throughput of each source and of each sink, through a whole sidecar, with a Collector that only passes on in the same run beside them.

Sources: lines in by one wire until every one of them is durable (and acknowledged, where the wire can), summaries to a file.
Sinks: lines in by Forward until the far end has every record of all kinds. `esa-tls run` is a process of its own with its journal on disk,
1,000 lines a frame or request, two senders (an appliance each), each with one frame or request under way. The Collector
(fluent_forward -> otlp, built for tests/peers) gets the same frames, parses nothing, keeps nothing on disk, and counts until the OTLP
server has every line; without its program in build/peers that line says so. Senders and far ends share the other core.
Run: python tests/bench/bench_wires.py [lines] [--only NAME...]
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import closing, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc
import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))

APPLIANCES = ("esa1", "esa2")
FRAME_LINES = 1_000
METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
WITHIN_S = 300.0

Send = Callable[[int], None]
"""Sends one appliance's lines to a port and returns when all are acknowledged, or written where nobody acknowledges."""


class Figure(msgspec.Struct, frozen=True):
    """What one run gave."""

    lines: int
    seconds: float
    cpu_s: float

    def __str__(self) -> str:
        used = f"{self.cpu_s / self.lines * 1e6:5.1f} us of CPU a line, {self.cpu_s / self.seconds:4.0%} of a core"
        return f"{self.lines / self.seconds:9.0f} lines/s   {used}"


# -- the far ends ----------------------------------------------------------------------------------------------------------------
def take_otlp(said: Connection) -> None:
    """A process: an OTLP server, gRPC and HTTP, that takes everything. Tells its ports, and the number of records whenever asked."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    taken = [0]

    def count(body: bytes) -> None:
        groups = ExportLogsServiceRequest.FromString(body).resource_logs
        taken[0] += sum(len(scope.log_records) for group in groups for scope in group.scope_logs)

    def export(body: bytes, _context: object) -> bytes:
        count(body)
        return b""

    class Take(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Take a request."""
            count(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 64 << 20)])
    handler: Any = grpc.unary_unary_rpc_method_handler(export)
    service = METHOD.split("/")[1]
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    over_http = ThreadingHTTPServer(("127.0.0.1", 0), Take)
    threading.Thread(target=over_http.serve_forever, daemon=True).start()
    said.send((port, over_http.server_address[1]))
    while said.recv():
        said.send(taken[0])


@contextmanager
def far_end(work: Callable[[Connection], None]) -> Iterator[tuple[Any, Callable[[], int]]]:
    """A process that takes records: where it listens, and how to ask how many there are."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs,), daemon=True)
    process.start()

    def taken() -> int:
        mine.send(True)
        count: int = mine.recv()
        return count

    try:
        yield mine.recv(), taken
    finally:
        process.kill()
        process.join()


# -- the senders -----------------------------------------------------------------------------------------------------------------
def by_forward(tag: str, lines: list[bytes]) -> Send:
    """Frames, each until it is acknowledged."""
    from tests.bench.bench_end_to_end import frames, send

    ready = frames(tag, iter(lines))
    return lambda port: send(port, ready)


def requests(tag: str, lines: list[bytes]) -> list[bytes]:
    """OTLP requests as the Collector's file reader makes them."""
    from tests.bench.bench_otlp import requests_of

    made = requests_of(lines)
    for request in made:
        request.resource_logs[0].resource.attributes[0].value.string_value = tag
    return [request.SerializeToString() for request in made]


def by_grpc(tag: str, lines: list[bytes]) -> Send:
    """OTLP over gRPC, each request until it is answered."""
    ready = requests(tag, lines)

    def send(port: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: Any = channel.unary_unary(METHOD)
            for body in ready:
                call(body, timeout=60)

    return send


def by_http(tag: str, lines: list[bytes]) -> Send:
    """OTLP over HTTP, each request until it is answered."""
    ready = requests(tag, lines)

    def send(port: int) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            for body in ready:
                connection.request("POST", "/v1/logs", body, {"Content-Type": "application/x-protobuf"})
                with connection.getresponse() as response:
                    assert response.status == 200
                    response.read()

    return send


def by_syslog(_: str, lines: list[bytes]) -> Send:
    """Octet-counted syslog over TCP, written as fast as it is read."""
    data = b"".join(b"%d %b" % (len(line), line) for line in lines)

    def send(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(data)

    return send


def side_by_side(sends: Sequence[Send], port: int) -> None:
    """All senders at the same time."""
    with futures.ThreadPoolExecutor(len(sends)) as threads:
        for sent in [threads.submit(send, port) for send in sends]:
            sent.result()


# -- the runs --------------------------------------------------------------------------------------------------------------------
def through_sidecar(sends: Sequence[Send], lines: int, *, source: dict[str, Any], sink: dict[str, Any], until: str) -> Figure:
    """One sidecar. `until`: "durable" or "delivered"."""
    from tests.bench.bench_end_to_end import cpu_s
    from tests.e2e.sidecar import Sidecar, wait_for, write_config

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if sink["type"] == "jsonl":
            sink = {**sink, "path": str(folder / "records.jsonl")}
        settings: dict[str, Any] = {"sources": [{"listen": "127.0.0.1:0", "name": "in", **source}], "sinks": [sink], "max_hold_s": 3600.0}
        from_ = ["otlp:host.name", "fluent_tag", "syslog:host", "peer"]
        sidecar = Sidecar(write_config(folder, appliance={"from": from_}, **settings))
        try:
            sidecar.until_ready()
            before_s = total(cpu_s(sidecar.pid))
            started_s = time.monotonic()
            side_by_side(sends, sidecar.ports["in"])
            wait_for("durable", lambda: sidecar.metric("esa_tls_lines_total") >= lines, within_s=WITHIN_S)
            if until == "delivered":
                wait_for("delivered", lambda: sidecar.metric("esa_tls_sink_oldest_unsent_age_seconds") == 0, within_s=WITHIN_S)
            seconds = time.monotonic() - started_s
            return Figure(lines, seconds, total(cpu_s(sidecar.pid)) - before_s)
        finally:
            sidecar.make_sure_it_is_gone()


def total(used: Any) -> float:
    """Processor seconds, told as one number or by kind of thread."""
    return float(used if isinstance(used, int | float) else sum(used.values()))


def through_collector(program: Path, sends: Sequence[Send], lines: int) -> Figure:
    """The same frames through a Collector: fluent_forward in, otlp out, nothing in between."""
    from tests.bench.bench_end_to_end import cpu_s
    from tests.e2e.sidecar import wait_for
    from tests.peers.collecting import Collector
    from tests.peers.programs import Programs, free_port

    programs, port = Programs(), free_port()
    with tempfile.TemporaryDirectory() as name, far_end(take_otlp) as ((otlp_port, _), taken):
        collector = Collector(program, programs, Path(name))
        collector.configure(
            {
                "receivers": {"fluent_forward": {"endpoint": f"127.0.0.1:{port}"}},
                "exporters": {"otlp_grpc": {"endpoint": f"127.0.0.1:{otlp_port}", "tls": {"insecure": True}, "compression": "none"}},
                "service": {"pipelines": {"logs": {"receivers": ["fluent_forward"], "exporters": ["otlp_grpc"]}}},
            }
        )
        try:
            pid = collector.start().process.pid
            before_s = total(cpu_s(pid))
            started_s = time.monotonic()
            side_by_side(sends, port)
            wait_for("everything passed", lambda: taken() >= lines, within_s=WITHIN_S, every_s=0.002)
            return Figure(lines, time.monotonic() - started_s, total(cpu_s(pid)) - before_s)
        finally:
            programs.end()


def collector_program() -> tuple[Path, str] | None:
    """The Collector that tests/peers built, and its version; None if it did not."""
    from tests.peers.listing import CACHE

    folder = CACHE / "collector"
    if not (folder / "collector").exists():
        return None
    versions = json.loads((folder / "versions.json").read_text())["versions"]
    return folder / "collector", str(versions.get("go.opentelemetry.io/collector/otelcol", "?"))


def main() -> None:
    """Print the figures."""
    from tests.bench.bench_end_to_end import receive

    from esa_tls.offline.simulate import SimulationSettings, simulate

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lines", nargs="?", type=int, default=100_000, help="about so many for each figure")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="names, or parts of them")
    arguments = parser.parse_args()

    def made(form: Any) -> list[list[bytes]]:
        all_lines = []
        for n in range(len(APPLIANCES)):
            settings = SimulationSettings(
                seed=7 + n, messages=arguments.lines // 25 // len(APPLIANCES), messages_per_second=30.0, form=form
            )
            found = [line for _, line in simulate(settings)]
            all_lines.append(found[: len(found) // FRAME_LINES * FRAME_LINES])
        return all_lines

    plain, prefixed = made("file"), made("syslog")
    to_file = {"type": "jsonl", "records": ["connection", "delivery", "message"]}
    everything = {"name": "out", "records": ["line", "connection", "delivery", "message"]}
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}; {sum(map(len, plain))} lines on {len(plain)} senders")

    def wanted(name: str) -> bool:
        return not arguments.only or any(part in name for part in arguments.only)

    def show(name: str, figure: Figure) -> None:
        print(f"{name:28}{figure}", flush=True)

    sources: list[tuple[str, dict[str, Any], Callable[[str, list[bytes]], Send], list[list[bytes]]]] = [
        ("source fluent", {"type": "fluent"}, by_forward, plain),
        ("source otlp_grpc", {"type": "otlp_grpc"}, by_grpc, plain),
        ("source otlp_http", {"type": "otlp_http"}, by_http, plain),
        ("source syslog tcp", {"type": "syslog", "transport": "tcp"}, by_syslog, prefixed),
    ]
    for name, source, by, lines in sources:
        if wanted(name):
            sends = [by(tag, one) for tag, one in zip(APPLIANCES, lines, strict=True)]
            show(name, through_sidecar(sends, sum(map(len, lines)), source=source, sink=to_file, until="durable"))

    sends = [by_forward(tag, one) for tag, one in zip(APPLIANCES, plain, strict=True)]
    count = sum(map(len, plain))

    def sink(name: str, settings: dict[str, Any]) -> None:
        if wanted(name):
            sink_settings = {**everything, **settings}
            show(name, through_sidecar(sends, count, source={"type": "fluent"}, sink=sink_settings, until="delivered"))

    sink("sink jsonl", {"type": "jsonl"})
    with far_end(receive) as (port, _):
        sink("sink fluent", {"type": "fluent", "endpoints": [f"127.0.0.1:{port}"], "compression": "none"})
    with far_end(take_otlp) as ((grpc_port, http_port), _):
        sink("sink otlp grpc", {"type": "otlp", "protocol": "grpc", "endpoints": [f"127.0.0.1:{grpc_port}"], "compression": "none"})
        sink("sink otlp http", {"type": "otlp", "protocol": "http", "endpoints": [f"http://127.0.0.1:{http_port}"], "compression": "none"})
    found = collector_program()
    if found is None:
        print("a Collector passing on is not beside them: tests/peers has not built it (`make peers` does)")
    elif wanted("collector"):
        show(f"Collector {found[1]}, passing on", through_collector(found[0], sends, count))


if __name__ == "__main__":
    main()
