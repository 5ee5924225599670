"""What it costs to give a sink less than everything: CPU microseconds a record, by encoding, of a filter, of fields, of pseudonyms.

Records of simulated mail, lines and summaries apart, in batches as the outbox hands them out. Pseudonyms are measured on addresses seen for
the first time and on those seen before: a store of addresses that come again is what real mail is. Run:
python tests/bench/bench_selection.py [messages]
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable

from esa_tls.core.batch import Batch, Origin, Row, Run
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.state import DictState
from esa_tls.offline.simulate import SimulationSettings, simulate
from esa_tls.wire.privacy import Privacy
from esa_tls.wire.pseudonyms import Pseudonyms
from esa_tls.wire.selection import Selection, Where

ENCODINGS = ("json", "forward", "otlp")
NOW_S = 1.8e9
Rows = list[tuple[int, Row]]


def rows_of(messages: int) -> Rows:
    """Outbox rows of simulated mail in all encodings."""
    lines = [line for _, line in simulate(SimulationSettings(messages=messages))]
    pipeline = Pipeline(CoreSettings(appliance_name="esa1"), DictState(), encodings=ENCODINGS, now_s=NOW_S)
    rows: list[Row] = []
    for at in range(0, len(lines), 1000):
        pipeline.feed(Batch([Run(Origin(source="bench"), lines[at : at + 1000])], 1, received_s=NOW_S), now_s=NOW_S)
        sealed = pipeline.seal()
        rows += [] if sealed is None else sealed.rows
    pipeline.end_stream()
    sealed = pipeline.seal()
    rows += [] if sealed is None else sealed.rows
    return list(enumerate(rows, start=1))


def cost_us(make: Callable[[], Selection], rows: Rows, *, warm: bool) -> float:
    """CPU microseconds a record, the best of three; `warm`: after one look at the same records."""
    records = sum(count for _, row in rows for _, count, _ in row.segments)
    best_s = float("inf")
    for _ in range(3):
        selection = make()
        if warm:
            selection.apply(rows)
        gc.collect()
        began_s = time.process_time()
        selection.apply(rows)
        best_s = min(best_s, time.process_time() - began_s)
    return best_s / records * 1e6


def privacy(*, keep_domains: bool = True) -> Privacy:
    """With everything replaced."""
    return Privacy(Pseudonyms({1: bytes(32)}), keep_domains=keep_domains)


CASES: dict[str, tuple[Callable[[], Selection], bool]] = {
    "where": (lambda: Selection(where=Where(in_clear=frozenset({True}))), True),
    "fields: drop": (lambda: Selection(drop=["email", "related", "cisco_esa.envelope"]), True),
    "fields: keep": (lambda: Selection(keep=["cisco_esa.tls", "tls", "event.action"]), True),
    "constants": (lambda: Selection(constants=True), True),
    "pseudonyms, new": (lambda: Selection(privacy=privacy()), False),
    "pseudonyms, known": (lambda: Selection(privacy=privacy()), True),
    "with domains, known": (lambda: Selection(privacy=privacy(keep_domains=False)), True),
}


def main() -> None:
    """Print the table."""
    rows = rows_of(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
    groups = {
        (cls, encoding): [(n, row) for n, row in rows if (row.cls, row.encoding) == (cls, encoding)]
        for cls in ("line", "summary")
        for encoding in ENCODINGS
    }
    counts = {cls: sum(count for _, row in groups[cls, "json"] for _, count, _ in row.segments) for cls in ("line", "summary")}
    print(f"{counts['line']:,} lines, {counts['summary']:,} summaries; CPU us a record")
    print(f"{'':22}" + "".join(f"{f'{cls} {encoding}':>17}" for cls, encoding in groups))
    for name, (make, warm) in CASES.items():
        print(f"{name:22}" + "".join(f"{cost_us(make, one, warm=warm):17.1f}" for one in groups.values()), flush=True)


if __name__ == "__main__":
    main()
