"""A sidecar that sends into a store, is sent lines, and is killed; what tests of whole runs into stores have alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.sender import Sender, Target
from tests.e2e.sidecar import Sidecar, Sidecars, wait_for, write_config
from tests.examples import NIGHTLY

WITHIN_S = 1800.0 if NIGHTLY else 150.0
FRAME_LINES = 1000


class Into:
    """`sink`: its settings but for what is said of trying again."""

    def __init__(self, folder: Path, sidecars: Sidecars, sink: Mapping[str, Any]) -> None:
        self._sink = {**sink, "retry_initial_s": 0.1, "retry_max_s": 1.0}
        self._folder = folder
        self._sidecars = sidecars
        self.target = Target()
        self.sender = Sender(self.target, tag="esa1")
        self.config = self.configure("first")
        self.sidecar = self.start()

    def configure(self, name: str) -> Path:
        """A configuration with a `data_dir` of its own."""
        folder = self._folder / name
        folder.mkdir()
        self.config = write_config(folder, sinks=[self._sink], max_hold_s=0.2)
        return self.config

    def start(self) -> Sidecar:
        """Start it; senders go there."""
        self.sidecar = self._sidecars.start(self.config)
        self.target.set(self.sidecar.port)
        return self.sidecar

    def kill(self) -> None:
        """SIGKILL, and start again."""
        self.sidecar.kill()
        self.start()

    def send(self, lines: Sequence[bytes]) -> None:
        """Return when all are acknowledged."""
        for at in range(0, len(lines), FRAME_LINES):
            assert self.sender.deliver(lines[at : at + FRAME_LINES])

    def sent(self) -> float:
        """Records that the sink says it brought there."""
        return self.sidecar.metric("esa_tls_sink_records_sent_total", sink=self._sink["type"])

    def send_disturbed(self, lines: Sequence[bytes], *, take_store: Callable[[], object], give_store: Callable[[], object]) -> None:
        """Send all lines; the sidecar is killed, the store goes while it is at work, and the sidecar is killed while there is none."""
        third = len(lines) // 3
        self.send(lines[:third])
        wait_for("the sink is at work", lambda: self.sent() > 0, within_s=WITHIN_S)
        self.kill()
        self.send(lines[third : third + third // 2])
        wait_for("the sink is at work", lambda: self.sent() > 0, within_s=WITHIN_S)
        take_store()
        self.send(lines[third + third // 2 : 2 * third])
        self.sidecar.until_said("Sink failed; it is tried again", within_s=WITHIN_S)
        self.kill()
        give_store()
        self.send(lines[2 * third :])
