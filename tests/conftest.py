"""Settings that hold for all tests."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import HealthCheck, settings
from tests.examples import NIGHTLY, TIMES

# Under xdist a width is the controller's, and in the background jobs of a shell SIGINT is ignored: tests and the programs that they start
# see neither.
os.environ.pop("COLUMNS", None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.peers.listing"]  # the list of programs tested against, at the end

# No deadlines: the machine may be busy.
settings.register_profile("default", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", settings.get_profile("default"), max_examples=100 * TIMES)
settings.load_profile("nightly" if NIGHTLY else "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden`: write what comes out now as what is expected of tests/golden."""
    parser.addoption("--update-golden", action="store_true", default=False, help="rewrite tests/golden/*.expected.jsonl")
