"""The whole way: Forward in -> core -> committed and synced -> acknowledged -> Forward out -> acknowledged there.

Conditions: `esa-tls run` as a process of its own, its journal on the disk of the temporary folder; full records of all kinds; 40,000 open
messages sent before; 1,000-line frames on 2 sessions (an appliance each), every frame acknowledged before the next of its session; the
receiver is another process that acknowledges and does nothing else. With two cores the sidecar has one, they share the other.
Run: python tests/bench/bench_end_to_end.py [--quick] [--gzip] [--store] [--telemetry] [--profile]. `--store`: once more with the embedded
store on. `--telemetry`: in turns without and with own metrics, traces (one batch in a hundred) and log sent by OTLP.
`--profile`: under cProfile, and where the time goes; the figures are then much too low. Bar: 90,000 lines/s, goal 130,000.
"""

from __future__ import annotations

import argparse
import base64
import multiprocessing
import os
import pstats
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))

if TYPE_CHECKING:
    from tests.e2e.sidecar import Sidecar

OPEN_MESSAGES = 40_000
FRAME_LINES = 1_000
APPLIANCES = ("esa1", "esa2")
BAR = 90_000


class Figures(msgspec.Struct, frozen=True):
    """What one run gave. Seconds until the senders had all acks, until the receiver had all lines, until the store had caught up."""

    lines: int
    acknowledged_s: float
    delivered_s: float
    cpu_s: dict[str, float]
    commits: float
    stored_s: float | None = None


# -- the receiver ----------------------------------------------------------------------------------------------------------------
def receive(said: Connection) -> None:
    """A process: acknowledges every frame; tells its port, and the number of line records so far whenever it is asked."""
    lines = [0]

    def serve(connection: socket.socket) -> None:
        unpacker = msgpack.Unpacker(max_buffer_size=1 << 30, read_size=1 << 20)
        while data := connection.recv(1 << 20):
            unpacker.feed(data)
            for tag, _, option in unpacker:
                connection.sendall(msgpack.packb({"ack": option["chunk"]}))
                if tag == "esa.line":
                    lines[0] += option["size"]

    def accept(server: socket.socket) -> None:
        while True:
            connection, _ = server.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        said.send(server.getsockname()[1])
        while said.recv():
            said.send(lines[0])


# -- the senders -----------------------------------------------------------------------------------------------------------------
def frames(tag: str, lines: Iterator[bytes]) -> list[tuple[str, bytes]]:
    """(chunk, PackedForward frame) for each 1,000 lines."""
    pack = msgpack.Packer().pack
    stamp = msgpack.ExtType(0, (1_700_000_000).to_bytes(4, "big") + bytes(4))
    made = []
    while part := list(islice(lines, FRAME_LINES)):
        chunk = base64.b64encode(os.urandom(16)).decode()
        entries = b"".join([pack((stamp, {"log": line.decode()})) for line in part])
        made.append((chunk, pack([tag, entries, {"chunk": chunk, "size": len(part)}])))
    return made


def send(port: int, ready: list[tuple[str, bytes]]) -> None:
    """One session: each frame until it is acknowledged."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for chunk, frame in ready:
            connection.sendall(frame)
            assert connection.recv(1024) == msgpack.packb({"ack": chunk})


def send_all(port: int, sessions: list[list[tuple[str, bytes]]]) -> None:
    """All sessions side by side."""
    threads = [threading.Thread(target=send, args=(port, ready)) for ready in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def take_telemetry(pipe: Connection) -> None:
    """A process: an OTLP server over gRPC that takes metrics, traces and log, and does nothing with them."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    names = {
        "opentelemetry.proto.collector.metrics.v1.MetricsService",
        "opentelemetry.proto.collector.trace.v1.TraceService",
        "opentelemetry.proto.collector.logs.v1.LogsService",
    }
    server = grpc.server(ThreadPoolExecutor(2))
    answer: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")
    server.add_generic_rpc_handlers(tuple(grpc.method_handlers_generic_handler(name, {"Export": answer}) for name in names))
    pipe.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    server.wait_for_termination()


# -- the run ---------------------------------------------------------------------------------------------------------------------
def cpu_s(pid: int) -> Counter[str]:
    """Processor seconds of a process so far, user and system: of its event loop, of RocksDB's own threads, of all others."""
    used: Counter[str] = Counter()
    for task in Path(f"/proc/{pid}/task").iterdir():
        name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
        fields = rest.split()
        kind = "event loop" if task.name == str(pid) else "RocksDB's threads" if name.startswith("rocksdb") else "other threads"
        used[kind] += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # type: ignore[assignment]
    return used


def wait_until(condition: Callable[[], bool], *, within_s: float = 120) -> None:
    """Look until it holds."""
    give_up_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.002)


def measure(folder: Path, *, messages: int, gzip: bool, store: bool, profile: Path | None, telemetry: bool = False) -> Figures:
    """One sidecar, filled with open messages, then timed."""
    folder.mkdir()
    from tests.bench.bench_memory import open_messages
    from tests.e2e.sidecar import Sidecar, write_config

    from esa_tls.offline.simulate import SimulationSettings, simulate

    preload = [frames(tag, open_messages(OPEN_MESSAGES // len(APPLIANCES))) for tag in APPLIANCES]
    load = []
    for n, tag in enumerate(APPLIANCES):
        settings = SimulationSettings(seed=7 + n, messages=messages // len(APPLIANCES), messages_per_second=30.0)
        load.append(frames(tag, (line for _, line in simulate(settings))))
    lines = sum(msgspec.msgpack.decode(ready[-1][1])[2]["size"] + FRAME_LINES * (len(ready) - 1) for ready in load)
    mine, theirs = multiprocessing.get_context("spawn").Pipe()
    receiver = multiprocessing.get_context("spawn").Process(target=receive, args=(theirs,), daemon=True)
    receiver.start()
    port = mine.recv()
    sink = {"type": "fluent", "endpoints": [f"127.0.0.1:{port}"], "compression": "gzip" if gzip else "none"}
    told: dict[str, Any] = {}
    listening = None
    if telemetry:
        here, there = multiprocessing.get_context("spawn").Pipe()
        listening = multiprocessing.get_context("spawn").Process(target=take_telemetry, args=(there,), daemon=True)
        listening.start()
        told = {"telemetry": {"otlp": {"endpoint": f"127.0.0.1:{here.recv()}", "interval_s": 5}}}
    sidecar = Sidecar(write_config(folder, sinks=[sink], max_hold_s=3600.0, store={} if store else None, **told), profile=profile)
    try:
        sidecar.until_ready()

        def received() -> int:
            mine.send(True)
            count: int = mine.recv()
            return count

        def caught_up(sent: int) -> Callable[[], bool]:
            return lambda: received() + held(sidecar) >= sent

        send_all(sidecar.port, preload)
        before = OPEN_MESSAGES * 7 + OPEN_MESSAGES // 4 * 3
        wait_until(caught_up(before))
        commits, used_s = sidecar.metric("esa_tls_journal_commit_duration_seconds_count"), cpu_s(sidecar.pid)
        started_s = time.monotonic()
        send_all(sidecar.port, load)
        acknowledged_s = time.monotonic() - started_s
        still_held = held(sidecar)
        wait_until(lambda: received() + still_held >= before + lines)
        delivered_s = time.monotonic() - started_s
        used_s = cpu_s(sidecar.pid) - used_s
        stored_s = None
        if store:
            wait_until(lambda: sidecar.metric("esa_tls_sink_oldest_unsent_age_seconds", sink="store") == 0)
            stored_s = time.monotonic() - started_s
        commits = sidecar.metric("esa_tls_journal_commit_duration_seconds_count") - commits
        assert sidecar.metric("esa_tls_entries_open", kind="message") >= OPEN_MESSAGES
        sidecar.drain()
    finally:
        sidecar.make_sure_it_is_gone()
        for process in (receiver, listening):
            if process is not None:
                process.kill()
                process.join()
    return Figures(lines, acknowledged_s, delivered_s, dict(used_s), commits, stored_s)


def held(sidecar: Sidecar) -> int:
    """Lines that cannot have arrived yet."""
    return int(sidecar.metric("esa_tls_lines_held"))


def main() -> None:
    """Print the figures."""
    from tests.bench.bench_core import reference

    from esa_tls.offline.simulate import SimulationSettings, simulate

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="about 10 s")
    parser.add_argument("--gzip", action="store_true", help="frames to the receiver are compressed, as is the default of the sink")
    parser.add_argument("--store", action="store_true", help="once more with the embedded store on")
    parser.add_argument("--telemetry", action="store_true", help="what own telemetry by OTLP costs: three runs each, in turns")
    parser.add_argument("--profile", action="store_true", help="say where the time goes")
    arguments = parser.parse_args()
    sample = [line for _, line in simulate(SimulationSettings(seed=7, messages=1_000))]
    base = reference(sample)
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}; reference loop {base:.0f} lines/s of CPU")
    messages = 5_000 if arguments.quick else 20_000
    with tempfile.TemporaryDirectory() as name:
        if arguments.telemetry:
            used: dict[bool, list[float]] = {False: [], True: []}
            for n in range(6):
                telemetry = bool(n % 2)
                figures = measure(Path(name, str(n)), messages=messages, gzip=False, store=False, profile=None, telemetry=telemetry)
                used[telemetry].append(sum(figures.cpu_s.values()) / figures.lines * 1e6)
            without, with_it = min(used[False]), min(used[True])
            print(
                f"CPU of the sidecar, us a line, least of three: {without:.2f} without telemetry by OTLP, {with_it:.2f} with it: "
                f"{with_it / without - 1:+.1%} (bar +3 %)"
            )
            return
        for store in (False, True) if arguments.store else (False,):
            folder = Path(name, "with" if store else "without")
            profile = Path(name, "profile") if arguments.profile else None
            figures = measure(folder, messages=messages, gzip=arguments.gzip, store=store, profile=profile)
            tell(figures, profile)


def tell(figures: Figures, profile: Path | None) -> None:
    """Print what one run gave."""
    rate = figures.lines / figures.delivered_s
    verdict = "under cProfile" if profile else "ok" if rate >= BAR else "UNDER THE BAR"
    total_s = sum(figures.cpu_s.values())
    parts = ", ".join(f"{name} {used_s / figures.lines * 1e6:.1f}" for name, used_s in figures.cpu_s.items())
    if figures.stored_s is not None:
        print(f"with the store on, which had all of it after {figures.stored_s:.1f} s ({figures.lines / figures.stored_s:.0f} lines/s):")
    print(
        f"{figures.lines} lines: {rate:.0f} lines/s until delivered (bar {BAR}: {verdict}), "
        f"{figures.lines / figures.acknowledged_s:.0f} until acknowledged, {figures.lines / figures.commits:.0f} lines a commit"
    )
    print(
        f"CPU of the sidecar: {total_s / figures.lines * 1e6:.1f} us a line ({parts}), {total_s / figures.delivered_s:.0%} of a core; "
        "the core alone is in bench_core.py"
    )
    if profile is not None:
        pstats.Stats(str(profile)).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()
