"""esa-tls: joins the mail log lines of Cisco ESA appliances and says of each mail whether it went under TLS."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec

__version__ = "0.1.0"


def core_kind() -> str:
    """`compiled` or `interpreted`: how the core is installed here. The results are the same, the speed is not."""
    found = find_spec("esa_tls.core.pipeline")
    origin = found.origin if found is not None else None
    return "compiled" if origin is not None and origin.endswith(tuple(EXTENSION_SUFFIXES)) else "interpreted"
