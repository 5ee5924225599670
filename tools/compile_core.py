"""Compile the core ahead of time: `plugin/esa_tls/core/*.py` become C extensions beside their sources, by mypyc and from their own types.

    python tools/compile_core.py            compile; no compiler is an error
    python tools/compile_core.py --if-possible   without a C compiler or Python's headers: say so, and leave the core interpreted
    python tools/compile_core.py --remove   remove what was compiled

One source, two ways to run it: Python prefers the extension where there is one and reads the source where there is none. The results are
the same (the tests of the core run both ways); compiled it is about two and a half times as fast. `MODULES` is the way of a line.

What msgspec decodes into (a Struct) stays out of them: a compiled module keeps no annotations that it could read types from.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CORE = ROOT / "plugin" / "esa_tls" / "core"
GROUP = "esa_tls.core.compiled"
"""One extension with all of the code; those named after the modules lead to it."""

MODULES = (
    *("facts", "pieces", "sentences", "grammar", "rows_connection", "rows_message", "rows_delivery"),  # what a line says
    *("ids", "seen", "prefix", "prefixing", "line_record", "order"),
    *("connections", "messages", "posture", "entries", "kept", "correlate_attempts", "correlate_messages", "correlate"),
    *("records", "summaries", "protobuf", "encode", "encode_otlp", "encode_store"),
    *("box", "telling", "breaking", "holding", "pipeline"),
)


def compiled_files() -> list[Path]:
    """The extensions that are there."""
    return sorted(CORE.glob("*.so"))


def is_possible() -> bool:
    """Whether there is what it takes: a C compiler and Python's headers."""
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    return shutil.which(compiler.split()[0]) is not None and headers.is_file()


def remove() -> None:
    """Back to the interpreted core."""
    for path in compiled_files():
        path.unlink()


def compile_core() -> list[Path]:
    """Compile; returns the extensions. Raises setuptools' errors without a compiler; `SystemExit` where the types are wrong."""
    # Only here: `--remove` has to work where they are not installed.
    from mypyc.build import mypycify  # noqa: PLC0415
    from setuptools import Distribution  # noqa: PLC0415
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415

    remove()  # or mypy and Python would find them in place of the sources
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(ROOT):
        os.environ.setdefault("MYPYPATH", "plugin")
        said = io.StringIO()  # remarks on how well something compiles; of use to nobody but with an error
        try:
            with contextlib.redirect_stdout(said):
                extensions = mypycify(
                    ["--strict", "--cache-dir", f"{scratch}/mypy", *(f"plugin/esa_tls/core/{name}.py" for name in MODULES)],
                    group_name=GROUP,
                    opt_level="3",
                    debug_level="0",
                    target_dir=f"{scratch}/c",
                )
        except SystemExit:
            print(said.getvalue())
            raise
        build = build_ext(Distribution({"name": "esa-tls", "ext_modules": extensions, "package_dir": {"": "plugin"}}))
        build.inplace = True
        build.build_temp = f"{scratch}/o"
        build.ensure_finalized()
        build.run()
    return compiled_files()


def main() -> None:
    """See the module."""
    options = argparse.ArgumentParser(description="compile esa-tls's core")
    options.add_argument("--if-possible", action="store_true", help="without a C compiler: leave it interpreted")
    options.add_argument("--remove", action="store_true", help="remove what was compiled")
    wanted = options.parse_args()
    if wanted.remove:
        remove()
        return
    if wanted.if_possible and not is_possible():
        remove()
        print("core: interpreted, as there is no C compiler here (or no Python.h); compiled it is about two and a half times as fast")
        return
    print("core: compiling (a minute or two)", flush=True)
    print(f"core: compiled, {len(compile_core())} extensions")


if __name__ == "__main__":
    sys.exit(main())
