"""Browser tests: one Chromium for all of them, and pages that are filled, empty, busy or fed by somebody who means harm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from tests.browser.serving import BusyStore, Served, counted
from tests.peers import building, listing
from tests.peers.listing import missing, peer
from tests.unit.core.driver import at
from tests.unit.store.store_cases import MESSAGE, filed, made, simulated

from esa_tls.core.expected import Partner
from esa_tls.runtime.dispatch import SinkStatus
from esa_tls.runtime.journal_format import DeadLetter
from esa_tls.store.query import StoreReader

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

EVIL = "<script>window.hurt=1</script><img src=x onerror=window.hurt=1>"
EVIL_APPLIANCE = "esa'\"><img src=x onerror=window.hurt=1>"
REVERSED = "\u202eevil\u202c"

HOSTILE = at(
    0,
    f"New SMTP ICID 11 interface Data 1 (192.0.2.1) address 198.51.100.7 reverse dns host {EVIL.replace(' ', '/')} verified no",
    "ICID 11 ACCEPT SG <b>GROUP</b> match sbrs[-1.0:10.0] SBRS 3.4 country United States",
    "Start MID 21 ICID 11",
    f'MID 21 ICID 11 From: <"{EVIL}"@example.net>',
    f'MID 21 ICID 11 RID 0 To: <"{EVIL}"@example.org>',
    f"MID 21 Message-ID '<{EVIL}>'",
    f"MID 21 Subject '{EVIL} {REVERSED}'",
    "MID 21 ready 1234 bytes from <ann@example.net>",
    f"MID 21 using engine: CASE {EVIL}",
    "MID 21 queued for delivery",
) + at(
    1,
    "New SMTP DCID 31 interface 192.0.2.1 address 203.0.113.9 port 25",
    f"DCID 31 TLS failed: {EVIL}",
    "Delivery start DCID 31 MID 21 to RID [0]",
    "Message done DCID 31 MID 21 to RID [0]",
    f"MID 21 RID [0] Response '{EVIL}'",
    "Message finished MID 21 done",
    "DCID 31 close",
    "ICID 11 close",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, ended with each file: Playwright keeps a loop running, beside which tests that are coroutines cannot run."""
    program = listing.chromium()
    if program is None:
        missing(listing.CHROMIUM, why="no chromium, and it cannot be installed by apt-get as root")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        peer(listing.CHROMIUM, started.version)
        yield started
        started.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    built = building.built(building.AXE, listing.AXE)
    peer(listing.AXE, built.versions["axe-core"])
    return (built.folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Three days of simulated traffic of two appliances, and a mail that is known."""
    path = tmp_path_factory.mktemp("filled") / "store.sqlite"
    rows = simulated(300, hostile=0.0).rows
    rows += made(*MESSAGE, appliance="esa9", first=len(rows) + 1).rows
    filed(path, rows)
    sinks = (SinkStatus("jsonl", None, 7, 0.0), SinkStatus("es", "connection refused", 5, 90.0))
    letters = (DeadLetter("source:fluent", "not_utf8: no text", b"\xff\xfe bytes", at_s=1_763_942_400.0),)
    served = Served(StoreReader(path), reasons=("sink es: nothing sent for 90 s: connection refused",), sinks=sinks, letters=letters)
    counted(served.counters)
    yield served
    served.close()


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A sidecar that has just been started."""
    served = Served(StoreReader(tmp_path_factory.mktemp("empty") / "store.sqlite"))
    yield served
    served.close()


@pytest.fixture(scope="session")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A sidecar whose store does not answer."""
    served = Served(BusyStore(tmp_path_factory.mktemp("busy") / "store.sqlite"))
    yield served
    served.close()


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A store full of text that was written to do harm."""
    path = tmp_path_factory.mktemp("hostile") / "store.sqlite"
    filed(path, made(*HOSTILE, appliance=EVIL_APPLIANCE, partners=(Partner(EVIL, domains=("example.net", "example.org")),)).rows)
    served = Served(
        StoreReader(path),
        reasons=(EVIL,),
        sinks=(SinkStatus("es", f"answered {EVIL}", 1, 99.0),),
        letters=(DeadLetter("sink:es", EVIL, EVIL.encode(), at_s=1.0),),
    )
    counted(served.counters, appliance=EVIL, shape=EVIL)
    yield served
    served.close()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where pictures of the views are left, to be looked at."""
    folder = Path(__file__).parents[2] / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
