"""The composition root: from the configuration to a running sidecar. `running` has the order in which parts start and end."""

from esa_tls.app.running import Running, core_settings, raise_file_limit, replay_dead_letters, run, serve
from esa_tls.app.selecting import check_selections, make_selection
from esa_tls.app.sinks import make_sink
from esa_tls.app.sources import make_source, unprotected

__all__ = [
    "Running",
    "check_selections",
    "core_settings",
    "make_selection",
    "make_sink",
    "make_source",
    "raise_file_limit",
    "replay_dead_letters",
    "run",
    "serve",
    "unprotected",
]
