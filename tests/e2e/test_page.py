"""The page of a running sidecar: what was sent is on it, it is where it may be, and drawing is no part of it."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import psutil
from tests.e2e.sender import Sender, Target
from tests.e2e.sidecar import Sidecars, wait_for, write_config
from tests.unit.api.cases import CLEAR_DELIVERY, END, MESSAGE

TOKEN = "a-token-of-tests"
WITHIN_S = 30.0


def test_what_was_sent_is_on_the_page(tmp_path: Path, sidecars: Sidecars) -> None:
    """A delivery in clear is on the overview, found by its recipient, told with its lines, and was streamed to who watched."""
    sidecar = sidecars.start(write_config(tmp_path, store={}, web={"listen": "127.0.0.1:0"}))
    port = sidecar.ports["web"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/live/events", timeout=WITHIN_S) as watching:
        assert watching.readline() == b": open\n"
        sender = Sender(Target(sidecar.port), tag="esa1")
        assert sender.deliver([*MESSAGE, *CLEAR_DELIVERY, *END])
        sender.close()
        told: list[dict[str, Any]] = []
        while not told:
            line = watching.readline()
            if line.startswith(b"data: "):
                told = json.loads(line[6:])["rows"]
        assert ("delivery", "in clear text") == (told[0]["kind"], told[0]["mail"]["word"])
    link = told[0]["link"]
    wait_for("the message is stored", lambda: sidecar.get(link)[0] == 200 and "CLEAR TEXT" in sidecar.get(link)[1], within_s=WITHIN_S)
    _, story = sidecar.get(link)
    assert "Delivery start DCID" in story
    status, overview = sidecar.get("/")
    assert status == 200
    assert "Newest mail in clear text" in overview
    assert f'href="{link}"'.replace("&", "&amp;") in overview
    status, health = sidecar.get("/health")
    assert status == 200
    assert "Fluent Forward" in health


def test_drawing_is_no_part_of_the_sidecar(tmp_path: Path, sidecars: Sidecars) -> None:
    """A chart is drawn by a child, which is gone when the sidecar has ended."""
    sidecar = sidecars.start(write_config(tmp_path, store={}, web={"listen": "127.0.0.1:0"}))
    sender = Sender(Target(sidecar.port), tag="esa1")
    assert sender.deliver([*MESSAGE, *CLEAR_DELIVERY, *END])
    sender.close()
    wait_for("a chart", lambda: sidecar.get("/chart/mail.svg")[0] == 200, within_s=WITHIN_S)
    process = psutil.Process(sidecar.pid)
    drawing = [child for child in process.children() if "esa_tls.web.draw" in " ".join(child.cmdline())]
    assert len(drawing) == 1
    assert not any("vl_convert" in one.path for one in process.memory_maps())
    assert sidecar.drain() == 0
    wait_for("the drawing process is gone", lambda: not drawing[0].is_running(), within_s=WITHIN_S)


def test_the_page_is_not_for_strangers(tmp_path: Path, sidecars: Sidecars) -> None:
    """On an address that others reach there is none without a token, and the log says why; with one it asks for it. Health is for all."""
    sidecar = sidecars.start(write_config(tmp_path, store={}, web={"listen": "0.0.0.0:0"}))
    assert [404, 404, 200] == [sidecar.get(path)[0] for path in ("/", "/search", "/health/live")]
    sidecar.until_said(r"The page is not served", within_s=WITHIN_S)
    assert sidecar.drain() == 0
    sidecar = sidecars.start(write_config(tmp_path, store={}, web={"listen": "0.0.0.0:0", "token": TOKEN}))
    assert [401, 401, 200] == [sidecar.get(path)[0] for path in ("/", "/search", "/health/live")]
    assert sidecar.get("/search", {"Authorization": f"Bearer {TOKEN}"})[0] == 200
