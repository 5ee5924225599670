"""The LogQL of the manual's page on Loki is read by Grafana's own grammar."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from tests.unit.test_docs_loki import queries

CHECK = Path(__file__).parent / "logql" / "check.js"


def test_the_grammar_takes_every_query(logql_modules: Path) -> None:
    """No error in any; without its first brace, an error in each."""
    asked = queries()
    asked += [query.replace("}", "", 1) for query in asked]
    done = subprocess.run(
        ("node", CHECK),
        input=json.dumps(asked),
        env={**os.environ, "NODE_PATH": str(logql_modules)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found = [bool(one["errors"]) for one in json.loads(done.stdout)]
    assert found == [False] * (len(asked) // 2) + [True] * (len(asked) // 2)
