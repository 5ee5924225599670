"""Frames become batches: origins, runs, slices, shared batches."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 1.11)

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.wire.fluent_cases import event_time, pack

from esa_tls.core.batch import Batch, Origin, Run
from esa_tls.wire.fluent import FrameReader
from esa_tls.wire.fluent_batch import MAX_SLICE_LINES, Origins, cut, join, to_batch
from esa_tls.wire.fluent_decode import ForwardSettings, Frame, FrameDecoder

SETTINGS = ForwardSettings(source="in", lossy=True, reorder_window_s=1.5, trust_host=False)


def _frame(entries: list[Any], chunk: str | None = "abc", settings: ForwardSettings = SETTINGS) -> Frame:
    (raw,) = FrameReader().feed(pack(["t", entries, {} if chunk is None else {"chunk": chunk}]))
    return FrameDecoder(settings).decode(raw)


def _batch(frame: Frame, origins: Origins | None = None) -> Batch:
    return to_batch(frame, origins=origins or Origins(SETTINGS), peer="192.0.2.1", session=7, received_s=99.5)


def _shape(batch: Batch) -> list[tuple[str | None, list[bytes], tuple[str, ...]]]:
    return [(run.origin.record_appliance or run.origin.otlp_host, run.lines, run.flags) for run in batch.runs]


def test_a_normal_frame_is_one_run_with_the_decoded_list() -> None:
    """No copy and no per-line object: the run holds the very list that was decoded, and lazy times."""
    frame = _frame([[event_time(5), {"log": "a"}], [6, {"log": "b"}]])
    batch = _batch(frame)
    assert batch.runs[0].lines is frame.lines
    assert (len(batch.runs), batch.session, batch.key, batch.received_s) == (1, 7, frame.key, 99.5)
    assert batch.runs[0].sender_times_s is not None
    assert list(batch.runs[0].sender_times_s) == [5.0, 6.0]
    assert batch.runs[0].origin == Origin("in", "t", "192.0.2.1", lossy=True, reorder_window_s=1.5, trust_host=False)


def test_origins_are_interned() -> None:
    """Equal ways in are one object over frames; a bounded cache forgets, it does not grow."""
    origins = Origins(SETTINGS, max_origins=2)
    first = _batch(_frame([[1, {"log": "a"}]]), origins).runs[0].origin
    assert _batch(_frame([[1, {"log": "b"}]]), origins).runs[0].origin is first
    for i in range(100):
        assert origins.get("t", str(i)).peer == str(i)
    assert len(origins._known) <= 2


def test_one_appliance_in_all_records_is_one_run() -> None:
    """The usual record key costs no second run."""
    frame = _frame([[1, {"log": str(i), "appliance": "esa1"}] for i in range(3)])
    batch = _batch(frame)
    assert _shape(batch) == [("esa1", [b"0", b"1", b"2"], ())]
    assert batch.runs[0].lines is frame.lines


def test_each_origin_gets_its_lines_in_order() -> None:
    """Appliances mixed in one frame: one run each, in the order of first sight, with their own times."""
    names = ["b", "a", "b", None, "a", "b"]
    batch = _batch(_frame([[i + 1, {"log": str(i), **({"appliance": name} if name else {})}] for i, name in enumerate(names)]))
    assert _shape(batch) == [("b", [b"0", b"2", b"5"], ()), ("a", [b"1", b"4"], ()), (None, [b"3"], ())]
    assert [list(run.sender_times_s or ()) for run in batch.runs] == [[1.0, 3.0, 6.0], [2.0, 5.0], [4.0]]


def test_reconstructed_lines_have_runs_of_their_own_in_order() -> None:
    """Flags belong to runs: where they change inside an origin a new run begins, so no line overtakes another."""
    syslog = {"ident": "mail_logs", "message": "Info: x"}
    batch = _batch(_frame([[1, {"log": "a"}], [1, syslog], [1, syslog], [1, {"log": "b"}]]))
    assert [(len(run.lines), run.flags) for run in batch.runs] == [(1, ()), (2, ("reconstructed",)), (1, ())]


def test_a_groups_host_name_is_the_otlp_host() -> None:
    """docs/wires.md 1.8 item 5: `host.name` of the group's resource identifies lines inside it."""
    entries = [
        [[event_time(0xFFFFFFFF), {}], {"resource": {"attributes": {"host.name": "esa9"}}}],
        [1, {"log": "a"}],
        [[event_time(0xFFFFFFFE), {}], {}],
        [1, {"log": "b"}],
    ]
    assert _shape(_batch(_frame(entries))) == [("esa9", [b"a"], ()), (None, [b"b"], ())]


@pytest.mark.parametrize(
    "resource", [{}, {"attributes": 5}, {"attributes": {}}, {"attributes": {"host.name": 5}}, {"attributes": {"host.name": ""}}, 5]
)
def test_a_resource_without_host_name_identifies_nothing(resource: object) -> None:
    """Whatever else a resource holds, the lines stay and have no OTLP host."""
    entries = [[[event_time(0xFFFFFFFF), {}], {"resource": resource}], [1, {"log": "a"}]]
    assert _shape(_batch(_frame(entries))) == [(None, [b"a"], ())]


def test_a_frame_without_lines_is_a_batch_without_runs() -> None:
    """Nothing to commit, and the shell can see it."""
    assert _batch(_frame([])).runs == []


def test_F16_slices_have_keys_that_a_resend_repeats() -> None:
    """Design 6 rule 4: 4,500 lines are three slices; the same frame again gives the same keys, all different; no chunk, no keys."""
    entries = [[i + 1, {"log": str(i)}] for i in range(4500)]
    slices, again = cut(_batch(_frame(entries))), cut(_batch(_frame(entries)))
    assert [piece.line_count() for piece in slices] == [2000, 2000, 500]
    keys = [piece.key for piece in slices]
    assert keys == [piece.key for piece in again]
    assert len({*keys, _frame(entries).key}) == 4
    assert [line for piece in slices for run in piece.runs for line in run.lines] == [str(i).encode() for i in range(4500)]
    times = [time for piece in slices for run in piece.runs for time in run.sender_times_s or ()]
    assert times == [float(i + 1) for i in range(4500)]
    assert {piece.key for piece in cut(_batch(_frame(entries, None)))} == {None}


def test_a_frame_of_one_slice_keeps_its_key() -> None:
    """Exactly 2,000 lines are not cut."""
    batch = _batch(_frame([[1, {"log": "x"}]] * MAX_SLICE_LINES))
    assert cut(batch) == [batch]


@given(st.lists(st.integers(0, 7), max_size=8), st.integers(1, 6))
def test_cutting_loses_and_moves_nothing(sizes: list[int], max_lines: int) -> None:
    """Any runs, any slice length: all lines in order, each under its origin, slices full but the last."""
    runs = [Run(Origin(tag=str(n)), [f"{n}.{i}".encode() for i in range(size)], None, ("f",)) for n, size in enumerate(sizes)]
    slices = cut(Batch(runs, 1, b"k" * 16, 5.0), max_lines=max_lines)
    flat = [(run.origin.tag, line) for piece in slices for run in piece.runs for line in run.lines]
    assert flat == [(run.origin.tag, line) for run in runs for line in run.lines]
    assert all(piece.line_count() == max_lines for piece in slices[:-1])
    assert all((piece.session, piece.received_s) == (1, 5.0) for piece in slices)


def test_joined_batches_keep_order_and_merge_neighbours() -> None:
    """Frames of one line share a batch: neighbours of one origin become one run, others stay apart."""
    origins = Origins(SETTINGS)
    batch = _batch(_frame([[1, {"log": "a"}]], None), origins)
    join(batch, _batch(_frame([[2, {"log": "b"}]], None), origins))
    join(batch, _batch(_frame([[3, {"log": "c", "appliance": "x"}]], None), origins))
    join(batch, _batch(_frame([[4, {"log": "d"}]], None), origins))
    assert _shape(batch) == [(None, [b"a", b"b"], ()), ("x", [b"c"], ()), (None, [b"d"], ())]
    assert [list(run.sender_times_s or ()) for run in batch.runs] == [[1.0, 2.0], [3.0], [4.0]]
