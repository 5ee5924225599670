"""A log that is cut in the middle, and a pipeline over a journal that reads one half of it."""

from __future__ import annotations

from typing import Any

import msgspec

from esa_tls.core.batch import Batch, Origin, Run
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.offline.simulate import SimulationSettings, simulate
from esa_tls.runtime.journal import Journal

START_S = 1_763_942_400.0

LINES = [line for _, line in simulate(SimulationSettings(messages=40, seed=11, span_s=3_000))]


def feed(journal: Journal, lines: list[bytes]) -> list[dict[str, Any]]:
    """Have a pipeline over this journal read `lines` and commit; returns the records made."""
    journal.set_readers({"kept": {("line", "json"), ("summary", "json")}})
    pipeline = Pipeline(CoreSettings(appliance_name="esa1"), journal, encodings=("json",), now_s=START_S)
    records: list[dict[str, Any]] = []
    for at in range(0, len(lines), 100):
        pipeline.feed(Batch([Run(Origin(source="test"), lines[at : at + 100])], 1, None), now_s=START_S)
        sealed = pipeline.seal()
        if sealed is None:
            continue
        journal.commit([sealed])
        for row in sealed.rows:
            for _, _, body in row.segments:
                records += [msgspec.json.decode(line) for line in body.splitlines()]
    return records
