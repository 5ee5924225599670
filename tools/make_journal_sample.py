"""Makes tests/golden/journal-N.tar.gz: a journal as this version leaves it in the middle of a log, N being the journal's version.

Run by hand when `VERSION` in runtime/journal_folder.py goes up, never to mend a red test: a journal that users have must go on being read.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.unit.runtime.half_way import LINES, feed  # noqa: E402 (found by the line above)

from esa_tls.runtime.journal import Journal  # noqa: E402
from esa_tls.runtime.journal_folder import VERSION  # noqa: E402

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal.open(Path(folder))
        feed(journal, LINES[: len(LINES) // 2])
        journal.close()
        target = ROOT / "tests" / "golden" / f"journal-{VERSION}.tar.gz"
        with tarfile.open(target, "w:gz") as archive:
            for path in sorted(Path(folder).rglob("*")):
                if path.is_file() and path.name not in ("LOG", "reserve", "lock"):
                    archive.add(path, path.relative_to(folder))
        print(f"{target.relative_to(ROOT)}: {target.stat().st_size} bytes")
