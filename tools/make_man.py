"""Makes deploy/man from the commands: `make man`. A page for each, as the wheel installs them; a test keeps them current."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from click_man.core import write_man_pages

from esa_tls import __version__
from esa_tls.cli import cli

MAN = Path(__file__).parents[1] / "deploy" / "man"


def write(folder: Path) -> None:
    """All pages into `folder`, which is emptied first. Their date is the version's place: pages of one version are equal."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_man_pages("esa-tls", cli, version=__version__, target_dir=str(folder), date=f"esa-tls {__version__}")


if __name__ == "__main__":
    write(MAN)
    sys.exit(0)
