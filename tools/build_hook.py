"""hatchling's hook: the wheel gets the compiled core where it can be compiled, and is then one for this Python and platform.

`ESA_TLS_COMPILE=0` makes the pure wheel; `1` makes a missing compiler an error instead of a pure wheel. Editable installs are left
alone: there `make setup` compiles (`tools/compile_core.py`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent))

import compile_core


class CustomBuildHook(BuildHookInterface[Any]):
    """See the module."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the wheel is packed."""
        wanted = os.environ.get("ESA_TLS_COMPILE", "")
        if version == "editable":
            return
        if wanted == "0" or (wanted != "1" and not compile_core.is_possible()):
            return  # what `make setup` may have compiled here is ignored by git, and so not packed
        compile_core.compile_core()
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["artifacts"] += ["/plugin/esa_tls/core/*.so"]
