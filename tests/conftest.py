"""Settings that hold for all tests."""

from __future__ import annotations

import os
import signal
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from tests.examples import NIGHTLY, TIMES

# Under xdist a width is the controller's, and in the background jobs of a shell SIGINT is ignored: tests and the programs that they start
# see neither.
os.environ.pop("COLUMNS", None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["tests.peers.listing"]  # the list of programs tested against, at the end

CORE = Path(__file__).parents[1] / "plugin" / "esa_tls" / "core"

if os.environ.get("ESA_TLS_CORE") == "interpreted":

    def sources_only(path: str) -> FileFinder:
        """For the folder of the core, a finder that does not see what was compiled."""
        if Path(path) != CORE:
            raise ImportError(path)
        return FileFinder(path, (SourceFileLoader, SOURCE_SUFFIXES))

    sys.path_hooks.insert(0, sources_only)
    sys.path_importer_cache.pop(str(CORE), None)
elif compiled := list(CORE.glob("compiled__mypyc.*.so")):
    newest_s = max(path.stat().st_mtime for path in CORE.glob("*.py"))
    assert compiled[0].stat().st_mtime >= newest_s, "the compiled core is older than its sources: `make setup` or `make interpreted`"

# No deadlines: the machine may be busy.
settings.register_profile("default", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", settings.get_profile("default"), max_examples=100 * TIMES)
settings.load_profile("nightly" if NIGHTLY else "default")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden`: write what comes out now as what is expected of tests/golden."""
    parser.addoption("--update-golden", action="store_true", default=False, help="rewrite tests/golden/*.expected.jsonl")
