"""`kill -9` at random and at chosen moments, under load, from senders that send again what was not acknowledged.

How each moment is made, and what proves that it was met (counted over the run, and asserted):

- while lines are held: a sender stops inside a connection's first lines; `/metrics` shows held lines just before the kill;
- between commit and ack: `acked` (the journal's mark of its last durable commit) is watched, and the process frozen as soon as it
  moves; killed if the ack has not come, let go on and caught at a later frame if it has. After the next start the frame is sent again
  and counted as known (`esa_tls.batches.known`);
- during a flush or compaction: RocksDB's log is watched for a job's start; killed at once. The log of the dead process has a job that
  never finished.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import pytest
from tests.e2e.reference import Undisturbed, differences, raw_differences, settings_of, whole_lines, written
from tests.e2e.sender import Sender, Target
from tests.e2e.sidecar import Sidecar, Sidecars, command, environment, stored_lines, wait_for, write_config
from tests.e2e.test_run import TLS_LINES, log_file, simulated

from esa_tls.offline.simulate import SimulationSettings, simulate

NIGHTLY = bool(os.environ.get("ESA_TLS_NIGHTLY"))
KILLS = 200 if NIGHTLY else 10

MOMENTS = ("at random", "held", "at random", "between commit and ack", "during a flush")
"""One kill of each in turn."""

CHOSEN = ("held", "between commit and ack", "during a flush")
"""Moments that have to be proven."""

UNDECIDED = re.compile(rb"Info: New SMTP [ID]CID ")


class Load(threading.Thread):
    """One sender at work: frames of random sizes, each until it is acknowledged. Keeps what was acknowledged, to compare with.

    `pause_inside` stops it after a frame that ends with a connection's first line, once that is acknowledged.
    """

    def __init__(self, tag: str, target: Target, *, seed: int) -> None:
        super().__init__(daemon=True)
        self.tag = tag
        self._random = random.Random(seed)
        simulation = SimulationSettings(seed=seed, messages=10_000_000, messages_per_second=20.0)
        self._lines = (line for _, line in simulate(simulation))
        self._target = target
        self._stop_it = threading.Event()
        self._pause = threading.Event()
        self._go_on = threading.Event()
        self.paused = threading.Event()
        self.sender = Sender(target, tag=tag, stop=self._stop_it)
        self.lines: list[bytes] = []
        """All that was handed over, in order."""
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Send until told to stop; the last batch is delivered all the same."""
        try:
            for batch in self._batches():
                if not self.sender.deliver(batch):
                    return
                self.lines += batch
                if self._pause.is_set() and UNDECIDED.search(batch[-1]):
                    self._pause.clear()
                    self.paused.set()
                    self._go_on.wait()
                    self._go_on.clear()
        except BaseException as error:  # noqa: BLE001 (raised again by `finish`)
            self.failure = error
        finally:
            self.sender.close()

    def _batches(self) -> Iterator[list[bytes]]:
        """Mostly small frames, now and then one that is cut into slices (over 2,000 lines)."""
        while not self._finishing:
            size = self._random.choice((1, 7, 60, 300, 300, 1000, 1000, 2600))
            batch = list(islice(self._lines, size))
            if self._pause.is_set():
                for line in self._lines:
                    batch.append(line)
                    if UNDECIDED.search(line):
                        break
            yield batch

    _finishing = False

    def pause_inside(self, *, within_s: float = 30) -> None:
        """Return when it has stopped inside a connection's first lines."""
        self.paused.clear()
        self._pause.set()
        assert self.paused.wait(within_s), self.failure

    def go_on(self) -> None:
        """After a pause."""
        self._go_on.set()

    def finish(self, *, within_s: float = 60) -> None:
        """Deliver the batch that is on its way, and end."""
        self._finishing = True
        self._go_on.set()
        self.join(within_s)
        assert not self.is_alive()
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        """End now, whatever is on its way."""
        self._finishing = True
        self._stop_it.set()
        self._go_on.set()
        self.sender.interrupt()
        self.join(30)


class Killer:
    """Kills one sidecar after the other at the moments wanted, and keeps the proofs."""

    def __init__(self, sidecars: Sidecars, config: Path, target: Target, loads: list[Load], *, seed: int) -> None:
        self._sidecars = sidecars
        self._config = config
        self._journal = config.parent / "data" / "journal-0"
        self._target = target
        self._loads = loads
        self._random = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.proofs: Counter[str] = Counter()
        self.sidecar = self._start()

    def _start(self) -> Sidecar:
        sidecar = self._sidecars.start(self._config)
        self._target.set(sidecar.port)
        return sidecar

    def kill(self, moment: str) -> None:
        """One kill and the start after it."""
        moments: dict[str, Callable[[], None]] = {
            "at random": self._at_random,
            "held": self._while_held,
            "between commit and ack": self._between_commit_and_ack,
            "during a flush": self._during_a_flush,
        }
        before = sum(load.sender.acknowledged_lines for load in self._loads)
        wait_for("senders are at work", lambda: sum(load.sender.acknowledged_lines for load in self._loads) > before, within_s=60)
        moments[moment]()
        self.kills[moment] += 1
        if unfinished_jobs(self._journal / "db"):
            self.proofs["during a flush"] += 1
        again = [load.sender.sent_again for load in self._loads]
        self.sidecar = self._start()
        for load in self._loads:
            load.go_on()
        wait_for(
            "what was not acknowledged is sent again",
            lambda: [load.sender.sent_again for load in self._loads] != again or moment == "held",
            within_s=60,
        )
        if self.sidecar.metric("esa_tls_batches_known_total"):
            self.proofs["between commit and ack"] += 1

    def _gone(self) -> None:
        self._target.set(None)
        self.sidecar.kill()
        # the process that served the senders is gone for good; its log stays
        assert "Traceback" not in self.sidecar.text, self.sidecar.text

    def _at_random(self) -> None:
        time.sleep(self._random.uniform(0.0, 0.4))  # the random moment itself
        self._gone()

    def _while_held(self) -> None:
        for load in self._loads:
            load.pause_inside()
        if self.sidecar.metric("esa_tls_lines_held") > 0:
            self.proofs["held"] += 1
        self._gone()

    def _between_commit_and_ack(self) -> None:
        """Freeze it when a commit has become durable; kill it if a sender still waits for that commit's ack."""
        for _ in range(200):
            acknowledged = [load.sender.acknowledged_lines for load in self._loads]
            mark = self._mark()
            deadline_s = time.monotonic() + 30
            while self._mark() == mark:
                assert time.monotonic() < deadline_s
            self.sidecar.process.send_signal(signal.SIGSTOP)
            time.sleep(0.05)  # an ack that has left would be there by now
            if [load.sender.acknowledged_lines for load in self._loads] == acknowledged:
                break
            self.sidecar.process.send_signal(signal.SIGCONT)
        self._gone()

    def _mark(self) -> bytes:
        return (self._journal / "acked").read_bytes()

    def _during_a_flush(self) -> None:
        """Kill it as soon as RocksDB says that it has begun to flush or compact."""
        log = self._journal / "db" / "LOG"
        deadline_s = time.monotonic() + 60
        with log.open("rb") as said:
            said.seek(0, os.SEEK_END)
            rest = b""
            while not re.search(rb'"event": "(flush|compaction)_started"', rest):
                assert time.monotonic() < deadline_s
                rest = rest[-200:] + said.read()
        self._gone()


def unfinished_jobs(database: Path) -> set[tuple[int, str]]:
    """Flushes and compactions that the last process began and did not finish, from RocksDB's log."""
    open_jobs: set[tuple[int, str]] = set()
    for line in (database / "LOG").read_text(errors="replace").splitlines():
        _, mark, event = line.partition("EVENT_LOG_v1 ")
        if not mark:
            continue
        with contextlib.suppress(ValueError):  # the last one may be cut
            told = json.loads(event)
            kind, _, state = told.get("event", "").rpartition("_")
            if state == "started":
                open_jobs.add((told["job"], kind))
            elif state == "finished":
                open_jobs.discard((told["job"], kind))
    return open_jobs


@pytest.mark.timeout(0 if NIGHTLY else 120)
def test_kill_minus_nine(tmp_path: Path, sidecars: Sidecars, capsys: pytest.CaptureFixture[str]) -> None:
    """Whenever it is killed: no line lost, no record doubled or torn in the file, ids and records as if nothing had happened."""
    seed = int(os.environ.get("ESA_TLS_SEED", "0")) or random.randrange(1, 1 << 30)
    print(f"ESA_TLS_SEED={seed}")
    config = write_config(
        tmp_path,
        max_hold_s=3.0,
        journal={"max_bytes": 64 << 20},  # the smallest: it flushes and compacts all the time
        sinks=[{"type": "jsonl", "path": str(tmp_path / "records.jsonl"), "max_file_bytes": 8 << 20, "keep_files": 100_000}],
    )
    target = Target()
    loads = [Load(tag, target, seed=seed + n) for n, tag in enumerate(("esa1", "esa2"))]
    killer = Killer(sidecars, config, target, loads, seed=seed)
    for load in loads:
        load.start()
    try:
        for n in range(KILLS):
            killer.kill(MOMENTS[n % len(MOMENTS)])
            if NIGHTLY and n % 10 == 9:
                with capsys.disabled():
                    print(f"{n + 1} kills, {sum(len(load.lines) for load in loads)} lines, proofs {dict(killer.proofs)}", flush=True)
        for moment in CHOSEN:  # a chosen moment can be missed by a hair: then it is tried again
            for _ in range(10):
                if not killer.proofs[moment]:
                    killer.kill(moment)
        for load in loads:
            load.finish()
    finally:
        for load in loads:
            load.stop()
    wait_for("held lines left", lambda: killer.sidecar.metric("esa_tls_lines_held") == 0, within_s=20)
    assert 0 == killer.sidecar.drain()

    print(f"kills {dict(killer.kills)}, proofs {dict(killer.proofs)}, lines {[len(load.lines) for load in loads]}")
    check(config, {load.tag: load.lines for load in loads}, tmp_path / "records.jsonl")
    for moment in CHOSEN:
        assert killer.proofs[moment] >= max(1, KILLS // len(MOMENTS) // 2), f"{moment}: {killer.proofs} of {killer.kills}"


def check(config: Path, lines: dict[str, list[bytes]], output: Path) -> None:
    """Compare with an undisturbed run; only `absence_lossy`, `pending` and `event.created` may differ."""
    core = Undisturbed(settings_of(config))
    for tag, sent in lines.items():
        core.feed(sent, tag=tag)
    expected = list(core.let_held_lines_go().take_raw())
    assert sum(map(len, lines.values())) == sum(b'"record":"line"' in line for line in expected)
    assert [] == raw_differences(expected, whole_lines(stored_lines(output)))


def has_lines(sidecar: Sidecar) -> bool:
    """Whether it has taken any since its start."""
    return sidecar.metric("esa_tls_lines_total") > 0


def test_our_client_survives_a_kill(tmp_path: Path, sidecars: Sidecars) -> None:
    """`esa-tls send` waits for the sidecar to come back, sends again what was not acknowledged, and ends well; nothing is missing."""
    import subprocess

    lines = simulated(messages=600, seed=9)
    log = log_file(tmp_path / "mail.log", lines)
    sidecar = sidecars.start(write_config(tmp_path, max_hold_s=1.0))
    config = write_config(tmp_path, max_hold_s=1.0, port=sidecar.port)
    sending = subprocess.Popen(
        command("send", log, "--to", f"forward://127.0.0.1:{sidecar.port}", "--tag", "esa1", "--rate", "8000"),
        env=environment(),
        stderr=subprocess.PIPE,
    )
    with sending:
        try:
            for _ in range(2):
                wait_for("lines come in", partial(has_lines, sidecar), within_s=20)
                sidecar.kill()
                sidecar = sidecars.start(config)
            assert 0 == sending.wait(60)
            assert sending.stderr is not None
            said = sending.stderr.read().decode()
        finally:
            sending.kill()
    assert f"{len(lines)} lines sent" in said
    assert "of them again, acknowledged" in said
    wait_for("held lines left", lambda: sidecar.metric("esa_tls_lines_held") == 0, within_s=20)
    assert 0 == sidecar.drain()
    check(config, {"esa1": lines}, tmp_path / "records.jsonl")


def test_a_power_cut_in_the_file_is_cut_off(tmp_path: Path, sidecars: Sidecars) -> None:
    """What stands in the file behind the cursor, torn or whole, is replaced by the same records from the journal."""
    config = write_config(tmp_path, max_hold_s=60.0)
    sidecar = sidecars.start(config)
    sender = Sender(Target(sidecar.port), tag="esa1")
    assert sender.deliver(TLS_LINES)
    wait_for("written", lambda: sum(1 for _ in stored_lines(tmp_path / "records.jsonl")) >= len(TLS_LINES), within_s=20)
    sidecar.kill()
    sender.close()
    with (tmp_path / "records.jsonl").open("ab") as file:
        file.write(b'{"half": "a rec')

    sidecar = sidecars.start(config)
    assert 0 == sidecar.drain()

    assert [] == differences(Undisturbed(settings_of(config)).feed(TLS_LINES).records(), written(tmp_path / "records.jsonl"))
