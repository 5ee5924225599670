"""The store's encoding says what the JSON encoding says, as far as the store keeps it."""

from __future__ import annotations

from typing import Any

import msgspec
from tests.unit.core.driver import T0

from esa_tls.core.batch import Batch, Origin, Row, Run
from esa_tls.core.line_row import decode_line_rows
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.state import DictState
from esa_tls.offline.simulate import SimulationSettings, simulate


def rows(*, seed: int, messages: int) -> list[Row]:
    """Rows of simulated lines in both encodings."""
    state = DictState()
    pipeline = Pipeline(CoreSettings(), state, encodings=("json", "store"), now_s=T0)
    found: list[Row] = []
    for name, line in simulate(SimulationSettings(seed=seed, messages=messages, hostile=0.5, unknown_lines=0.1, id_resets=1)):
        pipeline.feed(Batch([Run(Origin(record_appliance=name), [line, line + b" \xff"])], 1, received_s=T0), now_s=T0)
        sealed = pipeline.seal()
        if sealed is not None:
            state.apply(sealed.puts, sealed.deletes)
            found += sealed.rows
    pipeline.end_stream()
    last = pipeline.seal()
    return found if last is None else found + last.rows


def records_in(found: list[Row], *, encoding: str, cls: str) -> list[bytes]:
    """Bodies of the segments, in order."""
    return [body for row in found if (row.encoding, row.cls) == (encoding, cls) for _, _, body in row.segments]


def test_lines_are_those_of_the_json_records() -> None:
    """Each line about a connection or message is there once, in order, with its place, action, flags and text; others are not."""
    found = rows(seed=8, messages=60)
    said = [row for body in records_in(found, encoding="store", cls="line") for row in decode_line_rows(body)]
    expected = []
    left_out = 0
    for body in records_in(found, encoding="json", cls="line"):
        for raw in body.splitlines():
            record: dict[str, Any] = msgspec.json.decode(raw)
            own, event = record["cisco_esa"], record["event"]
            if "connection" not in own and "mid" not in own:
                left_out += 1
                continue
            kind, number = own["connection"]["id"].split("/")[-2:] if "connection" in own else ("", "0")
            epoch = int(own["connection"]["id"].split("/")[-3]) if "connection" in own else own["epoch"]
            expected.append(
                (
                    own["appliance"],
                    epoch,
                    event["sequence"],
                    event["action"],
                    kind[:1],
                    int(number),
                    own.get("mid"),
                    set(own.get("flags", ())),
                    event["original"],
                )
            )
    assert [
        (one.appliance, one.epoch, one.sequence, one.action, one.sort, one.number, one.mid, set(one.flags), one.text) for one in said
    ] == expected
    assert left_out
    assert any(one.flags for one in said)
    assert {one.epoch for one in said} == {0, 1}


def test_times_are_those_of_the_records() -> None:
    """A line's time is its record's, in seconds."""
    found = rows(seed=9, messages=20)
    from esa_tls.store.parsed import seconds_of

    times = {
        (record["cisco_esa"]["appliance"], record["event"]["sequence"]): seconds_of(record["@timestamp"])
        for body in records_in(found, encoding="json", cls="line")
        for record in map(msgspec.json.decode, body.splitlines())
    }
    said = [row for body in records_in(found, encoding="store", cls="line") for row in decode_line_rows(body)]
    assert said
    assert all(times[one.appliance, one.sequence] == one.time_s for one in said)


def test_summaries_are_the_same_bytes() -> None:
    """Summaries are the JSON records, byte for byte."""
    found = rows(seed=10, messages=20)
    assert records_in(found, encoding="store", cls="summary") == records_in(found, encoding="json", cls="summary")
