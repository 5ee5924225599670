"""The disk of the journal is full or cannot be written: senders are held, nothing is lost, and it heals without hands.

On a small tmpfs of its own, so root is needed; skipped with a reason where mounting is not allowed.
"""

from __future__ import annotations

import random
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.e2e.receiver import Receiver
from tests.e2e.reference import Undisturbed, differences, settings_of
from tests.e2e.sender import Sender, Target
from tests.e2e.sidecar import Sidecar, Sidecars, esa_tls, mounted, wait_for, write_config
from tests.e2e.test_run import TLS_LINES, deliver, forward_sink, one_sentence, simulated

DISK_MIB = 48
"""16 MiB of it are the journal's reserve, 8 MiB it leaves free."""


def bulky(*, messages: int, seed: int) -> list[bytes]:
    """Lines of one appliance, and after every eighth one that no compression makes smaller: about 1 MiB for a thousand lines."""
    noise = random.Random(seed)
    lines = []
    for n, line in enumerate(simulated(messages=messages, seed=seed)):
        lines.append(line)
        if n % 8 == 0:
            lines.append(line[:24] + b" Info: bulk " + noise.randbytes(4500).hex().encode())
    return lines


Mount = Callable[..., Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a small disk. Asked for before `sidecars`, so that it is unmounted after they are gone."""
    with ExitStack() as stack:

        def mount(*, size_mib: int = DISK_MIB, read_only: bool = False) -> Path:
            try:
                return stack.enter_context(mounted(tmp_path / "disk", size_mib=size_mib, read_only=read_only))
            except (subprocess.CalledProcessError, FileNotFoundError, PermissionError) as error:
                pytest.skip(f"NOT SHOWN: a full disk. Mounting a tmpfs is not possible here: {error}")

        yield mount


class Filling(threading.Thread):
    """Sends all lines, frame by frame, each until it is acknowledged."""

    def __init__(self, sidecar: Sidecar, lines: list[bytes]) -> None:
        super().__init__(daemon=True)
        self._lines = lines
        self._stop_it = threading.Event()
        self.sender = Sender(Target(sidecar.port), tag="esa1", stop=self._stop_it)
        self.done = False

    def run(self) -> None:
        """Until everything is acknowledged, or told to stop."""
        try:
            for at in range(0, len(self._lines), 1000):
                if not self.sender.deliver(self._lines[at : at + 1000]):
                    return
            self.done = True
        finally:
            self.sender.close()

    def stop(self) -> None:
        """End, also while it waits for an ack."""
        self._stop_it.set()
        self.sender.interrupt()
        self.join(10)
        assert not self.is_alive()


def test_a_full_disk_holds_senders_and_heals(tmp_path: Path, disk: Mount, sidecars: Sidecars, receiver: Receiver) -> None:
    """A dead sink, a full disk: nothing more is acknowledged. The sink returns: it drains and goes on by itself, and no line is lost."""
    folder = disk()
    config = write_config(tmp_path, data_dir=str(folder / "data"), sinks=[forward_sink(receiver, compression="none")], max_hold_s=60.0)
    lines = bulky(messages=1_000, seed=11)
    sidecar = sidecars.start(config)
    filling = Filling(sidecar, lines)
    filling.start()

    def failures() -> float:
        return sidecar.metric("esa_tls_journal_commit_failures_total", reason="full")

    try:
        sidecar.until_said("Commit failed; it is repeated, and senders are held", within_s=60)
        for _ in range(5):  # a group may slip in when RocksDB has tidied up; then the disk is full again
            held_at = filling.sender.acknowledged_lines
            assert 0 < held_at < len(lines)
            seen = failures() + 2
            wait_for("it tries again", lambda seen=seen: failures() >= seen, within_s=20)  # type: ignore[misc]
            if held_at == filling.sender.acknowledged_lines:
                break
        assert held_at == filling.sender.acknowledged_lines
        assert any(reason.startswith("journal: ") for reason in sidecar.reasons_not_ready())
        assert 503 == sidecar.get("/health/ready")[0]
        assert 200 == sidecar.get("/health/live")[0]

        receiver.start()
        sidecar.until_said("The journal takes groups again", within_s=60)
        wait_for("everything is acknowledged", lambda: filling.done, within_s=60)
    finally:
        filling.stop()
    assert [] == sidecar.reasons_not_ready()
    expected = Undisturbed(settings_of(config)).feed(lines).records()
    wait_for("the sink has everything", lambda: len(receiver.ids) >= len(expected), within_s=60)
    assert 0 == sidecar.drain()
    got = {record["event"]["id"]: record for record in receiver.records}
    assert [] == differences(expected, got, evidence=False, pending=True)
    assert "Traceback" not in sidecar.text


def test_it_can_be_stopped_and_killed_while_the_disk_is_full(tmp_path: Path, disk: Mount, sidecars: Sidecars, receiver: Receiver) -> None:
    """On a full disk SIGTERM ends it in bounded time; started again it drains what it has, and then takes what was never acknowledged."""
    folder = disk()
    config = write_config(tmp_path, data_dir=str(folder / "data"), sinks=[forward_sink(receiver, compression="none")], max_hold_s=60.0)
    lines = bulky(messages=800, seed=12)
    sidecar = sidecars.start(config)
    filling = Filling(sidecar, lines)
    filling.start()
    try:
        sidecar.until_said("Commit failed; it is repeated, and senders are held", within_s=60)
        at = filling.sender.acknowledged_lines
        assert 0 == sidecar.drain(within_s=40)
        assert at == filling.sender.acknowledged_lines
    finally:
        filling.stop()
    sidecar = sidecars.start(config)
    sidecar.kill()
    receiver.start()

    sidecar = sidecars.start(config)
    deliver(sidecar, lines[at:], frame_lines=1000)

    expected = Undisturbed(settings_of(config)).feed(lines).records()
    wait_for("the sink has everything", lambda: len(receiver.ids) >= len(expected), within_s=60)
    assert 0 == sidecar.drain()
    got = {record["event"]["id"]: record for record in receiver.records}
    assert [] == differences(expected, got, evidence=False, pending=True)


def test_a_disk_too_small_to_begin_is_one_sentence(tmp_path: Path, disk: Mount) -> None:
    """Without room for the smallest journal it says so, or it starts and takes nothing; it never begins something it cannot keep."""
    folder = disk(size_mib=1)
    (folder / "ballast").write_bytes(bytes(1 << 20))

    refused = esa_tls("run", "-c", write_config(tmp_path, data_dir=str(folder / "data")))

    assert 1 == refused.returncode
    assert "no space" in one_sentence(refused.stderr)


def test_a_read_only_disk_is_one_sentence(tmp_path: Path, disk: Mount, sidecars: Sidecars) -> None:
    """A `data_dir` that cannot be written is told in one sentence, by `run` with a journal in it and without."""
    folder = disk(read_only=True)
    config = write_config(tmp_path, data_dir=str(folder / "data"))

    refused = esa_tls("run", "-c", config)

    assert 1 == refused.returncode
    assert "read-only file system" in one_sentence(refused.stderr).lower()
    subprocess.run(["mount", "-o", "remount,rw,size=64m", str(folder)], check=True, timeout=10)
    sidecar = sidecars.start(config)
    deliver(sidecar, TLS_LINES)
    assert 0 == sidecar.drain()
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True, timeout=10)

    refused = esa_tls("run", "-c", config)

    assert 1 == refused.returncode
    assert "read-only file system" in one_sentence(refused.stderr).lower()
