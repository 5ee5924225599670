"""`esa-tls demo` (`make run`): a sidecar at work, from the client's socket to the records, to look at.

A sidecar of its own is started as a process (`esa-tls run` with a configuration in a temporary folder), logs that were named, a sample log
and a short simulation go in through the `fluent-logger` client, and what comes out of the JSON lines file is shown: deliveries with
connection id, direction and TLS outcome, as a live table on a terminal and as a plain one elsewhere. The JSON lines stay, everything else
is removed at the end.

The page of the sidecar is up from the beginning, and its address is printed first and last.

Ports: the defaults if they are free, else any. On a terminal the sidecar goes on until Ctrl-C, which ends it cleanly at any time, so that
its page can be looked at; elsewhere it ends by itself when all lines have become records. `keep` says otherwise.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from esa_tls.errors import EsaTlsError, TransientError
from esa_tls.offline import send
from esa_tls.offline.scan_table import Cells, cells_of
from esa_tls.offline.simulate import SimulationSettings, write_simulation
from esa_tls.offline.terminal import PLAIN_WIDTH

HOST = "127.0.0.1"
FORWARD_PORT = 24224
WEB_PORT = 8080

SAMPLE = Path(__file__).with_name("sample.log")
SAMPLE_APPLIANCE = "esa1"
SIMULATED_APPLIANCE = "esa2"
"""The tags the lines are sent under: without a syslog host the tag names the appliance."""

SIMULATED_MESSAGES = 200
ROWS_LIVE = 12
ROWS_PLAIN = 30
"""Newest deliveries shown, below those of the sample."""

ROWS_BESIDE = 26
"""Lines of a terminal that everything else takes."""

START_TIMEOUT_S = 30.0
QUIET_S = 15.0
"""No new record for so long, though lines are missing: something is wrong, and what there is is shown."""

STOP_TIMEOUT_S = 20.0
REFRESH_S = 0.25

_decode = msgspec.json.Decoder().decode


class Seen(msgspec.Struct):
    """What came out so far. `sample`, `rows`: deliveries of the sample, the newest others; `outcomes`: by (TLS outcome, in clear)."""

    records: dict[str, int] = {}
    outcomes: dict[tuple[str, str], int] = {}
    sample: list[Cells] = []
    rows: deque[Cells] = msgspec.field(default_factory=lambda: deque(maxlen=ROWS_PLAIN))


class Sending(msgspec.Struct):
    """How far the client is. `failure`: why it gave up."""

    lines: int = 0
    done: bool = False
    failure: Exception | None = None


class Sidecar(msgspec.Struct):
    """A running sidecar."""

    process: subprocess.Popen[bytes]
    forward_port: int
    web_port: int
    records: Path
    log: Path


def run(
    logs: Sequence[Path] = (),
    *,
    keep: bool | None = None,
    console: Console | None = None,
    forward_port: int = FORWARD_PORT,
    web_port: int = WEB_PORT,
) -> int:
    """The command. `logs`: sent first, each as an appliance of the file's name. `keep`: go on until Ctrl-C; None: on a terminal.

    Ports that are taken, or 0: any. Returns 1 if not every line became a record.

    Raises:
        EsaTlsError: the sidecar did not start; OSError: no room for its files.
    """
    console = console or _console()
    keep = console.is_terminal if keep is None else keep
    folder = Path(tempfile.mkdtemp(prefix="esa-tls-demo-"))
    records = folder / "records.jsonl"
    code = 1
    try:
        with _terminated_as_interrupted(), _sidecar(folder, records, free_port(forward_port), free_port(web_port)) as sidecar:
            console.print(_page(sidecar))
            complete = _show(sidecar, folder, logs, console)
            code = 0 if complete else 1
            console.print(_places(sidecar))
            if keep:
                console.print(_page(sidecar))
                console.print("The sidecar goes on: look at its page, send it lines, or end it with Ctrl-C.")
                sidecar.process.wait()
    except KeyboardInterrupt:
        console.print("Interrupted; the sidecar was ended in order.")
        code = 0 if keep else code
    finally:
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif not path.name.startswith(records.name):
                path.unlink(missing_ok=True)
    if records.exists():
        console.print(
            Text.assemble("JSON lines: ", (str(records), "bold"), f" ({records.stat().st_size:,} bytes; yours to keep or delete)")
        )
    return code


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal or os.environ.get("COLUMNS") else Console(highlight=False, width=PLAIN_WIDTH)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends it like Ctrl-C, so that no sidecar stays behind."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


# -- the sidecar -----------------------------------------------------------------------------------------------------------------
@contextmanager
def _sidecar(folder: Path, records: Path, forward_port: int, web_port: int) -> Iterator[Sidecar]:
    """A sidecar that is ready; it is drained and ended on the way out."""
    config = {
        "data_dir": str(folder / "data"),
        "sources": [{"type": "fluent", "listen": f"{HOST}:{forward_port}"}],
        "sinks": [{"type": "jsonl", "path": str(records)}],
        "web": {"listen": f"{HOST}:{web_port}"},
        "api": None,
    }
    path = folder / "config.yaml"
    path.write_bytes(msgspec.json.encode(config))  # JSON is YAML
    log = folder / "sidecar.log"
    with log.open("wb") as said:
        # A session of its own: Ctrl-C reaches us, and we end it in order.
        process = subprocess.Popen(  # noqa: S603 (our own command)
            [sys.executable, "-m", "esa_tls.cli", "run", "-c", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    sidecar = Sidecar(process, forward_port, web_port, records, log)
    try:
        _await_ready(sidecar)
        yield sidecar
    finally:
        _stop(process)


def free_port(wanted: int) -> int:
    """`wanted` if nobody listens there, else a port that is free now."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    message = "there is no free port"
    raise TransientError(message)


def _await_ready(sidecar: Sidecar) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    url = f"http://{HOST}:{sidecar.web_port}/health/ready"
    while sidecar.process.poll() is None and time.monotonic() < deadline_s:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            time.sleep(REFRESH_S / 5)
    said = sidecar.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    message = f"the sidecar did not start: {said[-1] if said else 'it said nothing'}"
    raise EsaTlsError(message)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# -- traffic and what comes of it --------------------------------------------------------------------------------------------------
def _show(sidecar: Sidecar, folder: Path, logs: Sequence[Path], console: Console) -> bool:
    """Send, follow and show; True when every line sent has become a record."""
    seen, sending = Seen(), Sending()
    client = threading.Thread(target=_send, args=(sidecar, folder, logs, sending), name="client", daemon=True)
    client.start()
    if console.is_terminal:
        rows = max(1, min(ROWS_LIVE, console.height - ROWS_BESIDE))
        with Live(console=console, refresh_per_second=1 / REFRESH_S) as live:
            complete = _follow(sidecar, sending, seen, lambda: live.update(_picture(seen, sending, rows, console.width)))
    else:
        complete = _follow(sidecar, sending, seen, lambda: None)
        console.print(_picture(seen, sending, ROWS_PLAIN, console.width))
    client.join()
    if sending.failure is not None:
        console.print(Text(f"The client gave up: {sending.failure}", style="bold red"))
    return complete


def _send(sidecar: Sidecar, folder: Path, logs: Sequence[Path], sending: Sending) -> None:
    """Logs, sample and simulation through the real client (a thread of its own)."""
    try:
        simulated = folder / "simulated.log"
        with simulated.open("wb") as out:
            write_simulation(SimulationSettings(messages=SIMULATED_MESSAGES, hostile=0.0), out)
        for path, tag in (*((log, log.stem) for log in logs), (SAMPLE, SAMPLE_APPLIANCE), (simulated, SIMULATED_APPLIANCE)):
            before = sending.lines

            def progress(result: send.SendResult, before: int = before) -> None:
                sending.lines = before + result.lines

            result = send.run(
                [path], f"forward://{HOST}:{sidecar.forward_port}", client="fluent-logger", tag=tag, batch_lines=100, progress=progress
            )
            sending.lines = before + result.lines
    except Exception as error:  # noqa: BLE001 (told by whoever waits for this thread)
        sending.failure = error
    finally:
        sending.done = True


def _follow(sidecar: Sidecar, sending: Sending, seen: Seen, changed: Callable[[], None]) -> bool:
    """Read the JSON lines as they are written, until all are there."""
    quiet_since_s = time.monotonic()
    rest = b""
    position = 0
    while True:
        grown = b""
        if sidecar.records.exists():
            with sidecar.records.open("rb") as file:
                file.seek(position)
                grown = file.read()
        position += len(grown)
        *lines, rest = (rest + grown).split(b"\n")
        for line in lines:
            _take(seen, line)
        if lines:
            quiet_since_s = time.monotonic()
        changed()
        complete = sending.done and seen.records.get("line", 0) >= sending.lines
        if complete or time.monotonic() - quiet_since_s > QUIET_S or sidecar.process.poll() is not None:
            return complete and sending.failure is None
        time.sleep(REFRESH_S)


def _take(seen: Seen, line: bytes) -> None:
    record = _decode(line)
    kind = record["cisco_esa"]["record"]
    seen.records[kind] = seen.records.get(kind, 0) + 1
    if kind == "delivery":
        cells = cells_of(record)
        rows = seen.sample if record["cisco_esa"]["appliance"] == SAMPLE_APPLIANCE else seen.rows
        rows.append(cells)
        outcome = (cells.tls, cells.clear)
        seen.outcomes[outcome] = seen.outcomes.get(outcome, 0) + 1


# -- pictures ----------------------------------------------------------------------------------------------------------------------
_STYLES = {"success": "green", "failed": "red", "none": "yellow", "unknown": "dim"}
_WAYS = {"in": "inbound", "out": "outbound"}
_MAIL = {"yes": "mail in clear text", "no": "mail under TLS", "": "no mail, or not known"}
_COLUMNS = (
    ("time (UTC)", 19, 150),
    ("connection", 22, 0),
    ("direction", 9, 0),
    ("TLS", 7, 0),
    ("in clear", 8, 0),
    ("evidence", 13, 90),
    ("result", 16, 0),
)
"""Columns, how wide each is, and how wide the console has to be for it."""

WIDTH_WITH_MAIL = 110


def _picture(seen: Seen, sending: Sending, rows: int, width: int) -> RenderableType:
    """What is to be seen now, for a console of `width` columns."""
    table = Table(box=box.SIMPLE, pad_edge=False, header_style="bold", title="Deliveries", title_justify="left", title_style="bold cyan")
    shown = [place for place, (_, _, least) in enumerate(_COLUMNS) if width >= least]
    for place in shown:
        table.add_column(_COLUMNS[place][0], no_wrap=True, width=_COLUMNS[place][1])
    if width >= WIDTH_WITH_MAIL:
        room = width - sum(_COLUMNS[place][1] + 3 for place in shown) - 2
        table.add_column("mail", no_wrap=True, overflow="ellipsis", width=room)
    newest = list(seen.rows)[-rows:]
    for number, cells in enumerate([*seen.sample, *newest]):
        whole = (
            Text(cells.time),
            Text(cells.connection),
            Text(_WAYS.get(cells.way, "")),
            Text(cells.tls, style=_STYLES.get(cells.tls, "")),
            Text(cells.clear, style="bold red" if cells.clear == "yes" else ""),
            Text(cells.evidence),
            Text(cells.result),
        )
        mail = [Text(cells.what)] if width >= WIDTH_WITH_MAIL else []
        table.add_row(*[whole[place] for place in shown], *mail, end_section=number == len(seen.sample) - 1)
    records = ", ".join(f"{number:,} {kind}" for kind, number in sorted(seen.records.items())) or "none yet"
    parts: list[RenderableType] = [table, Text(f"sent: {sending.lines:,} lines{'' if sending.done else ' ...'}   records: {records}")]
    for (tls, clear), number in sorted(seen.outcomes.items(), key=lambda item: -item[1]):
        words = f"TLS {tls}, {_MAIL[clear]}" if tls else "into the spam quarantine, without a connection"
        parts.append(Text(f"  {number:>5,} deliveries: {words}", style="red" if clear == "yes" else ""))
    return Group(*parts)


def _page(sidecar: Sidecar) -> Text:
    return Text.assemble("Page: ", (f"http://{HOST}:{sidecar.web_port}/?last=all", "bold underline"))


def _places(sidecar: Sidecar) -> Text:
    web = f"http://{HOST}:{sidecar.web_port}"
    return Text(f"Forward in: {HOST}:{sidecar.forward_port}   health: {web}/health/ready   metrics: {web}/metrics")
