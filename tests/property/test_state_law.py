"""The state law: stopping, sealing, cutting, interleaving and looking at the clock change nothing of what comes out."""

from __future__ import annotations

from functools import lru_cache
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.examples import examples
from tests.unit.core.driver import T0, Record, decoded

from esa_tls.core.batch import Batch, Origin, Run
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.state import DictState
from esa_tls.offline.simulate import SimulationSettings, shuffle_batches, simulate

NOW = float(T0 + 40 * 86400)
FOREVER = 1e12
SEEDS = st.integers(0, 15)

# Traffic in which much happens in few lines.
DENSE: dict[str, Any] = {
    "messages": 16,
    "messages_per_second": 2.0,
    "hostile": 0.3,
    "unknown_lines": 0.1,
    "quarantine_days": 0.01,
    "connection_shares": {"tls_success": 10.0, "clear": 6.0, "late_starttls": 6.0, "broken_after_mail": 5.0, "silent": 3.0},
    "message_shares": {"normal": 20.0, "split_rewritten": 4.0, "spam_quarantine": 3.0},
    "host_shares": {"tls": 10.0, "clear": 6.0},
}


@lru_cache(maxsize=32)
def traffic(seed: int, *, appliances: int = 1, form: str = "file", resets: int = 0) -> tuple[tuple[str, bytes], ...]:
    """Simulated lines with their appliance."""
    return tuple(simulate(SimulationSettings(seed=seed, appliances=appliances, form=form, id_resets=resets, **DENSE)))  # type: ignore[arg-type]


def lines_of(seed: int, **more: Any) -> list[bytes]:
    """The lines of one appliance; every fourth seed in batches that come late, so that the feed is broken and lines are out of order."""
    lines = [line for _, line in traffic(seed, **more)]
    if seed % 4 == 3:
        lines = [line for batch in shuffle_batches(lines, batch_lines=40, seed=seed) for line in batch]
    return lines


def core(**more: Any) -> CoreSettings:
    """Settings under which nothing depends on where the input was cut: no breaks at starts or by batches, lines held for ever."""
    values: dict[str, Any] = {
        "appliance_name": "esa1",
        "starts_broken": False,
        "late_batches": False,
        "max_hold_s": FOREVER,
        "max_held_lines": 10**9,
    }
    return CoreSettings(**{**values, **more})


class Run1:
    """One reading of a log, with whatever is done to the pipeline in between."""

    def __init__(self, options: CoreSettings, origin: Origin) -> None:
        self.options = options
        self.origin = origin
        self.state = DictState()
        self.pipeline = Pipeline(options, self.state, now_s=NOW)
        self.records: list[Record] = []

    def feed(self, lines: list[bytes], origin: Origin | None = None) -> None:
        self.pipeline.feed(Batch([Run(origin or self.origin, lines)], 1, received_s=NOW), now_s=NOW)

    def seal(self) -> None:
        sealed = self.pipeline.seal()
        if sealed is not None:
            self.state.apply(sealed.puts, sealed.deletes)
            self.records += decoded(sealed.rows, "json", check_every=10)

    def restart(self) -> None:
        self.seal()
        self.pipeline = Pipeline(self.options, self.state, now_s=NOW)

    def end(self) -> list[Record]:
        self.pipeline.end_stream()
        self.seal()
        return self.records


FILE, UDP = Origin(source="file"), Origin(source="udp", lossy=True)


def by_id(records: list[Record]) -> dict[tuple[str, str, int], Record]:
    """Records by kind, id and sequence; each once."""
    found = {}
    for record in records:
        key = (record["cisco_esa"]["record"], record["event"]["id"], record["event"]["sequence"])
        assert key not in found, f"twice: {record}"
        found[key] = record
    return found


@lru_cache(maxsize=64)
def undisturbed(seed: int, form: str, resets: int = 0) -> tuple[list[Record], int]:
    """What one uncut reading says, and of how many lines."""
    lines = lines_of(seed, form=form, resets=resets)
    run = Run1(core(), UDP if form == "syslog" else FILE)
    run.feed(lines)
    records = run.end()
    assert sum(record["cisco_esa"]["record"] == "line" for record in records) == len(lines)
    return records, len(lines)


@examples(60)
@given(seed=SEEDS, form=st.sampled_from(["file", "syslog"]), cuts=st.lists(st.floats(0, 1), min_size=1, max_size=6), data=st.data())
def test_stop_and_restart_at_any_line(seed: int, form: str, cuts: list[float], data: st.DataObject) -> None:
    """A new pipeline on the written state goes on as if the old one had never stopped: same records, same ids, same order numbers."""
    expected, count = undisturbed(seed, form)
    lines = lines_of(seed, form=form)
    run = Run1(core(cache_entries=data.draw(st.sampled_from([10, 200_000]))), UDP if form == "syslog" else FILE)
    last = 0
    for cut in sorted({int(cut * count) for cut in cuts}):
        run.feed(lines[last:cut])
        run.restart()
        last = cut
    run.feed(lines[last:])
    assert by_id(run.end()) == by_id(expected)


@examples(15)
@given(seed=SEEDS)
def test_a_restart_may_only_weaken_absence(seed: int) -> None:
    """With starts that break the feed, as in `run`: the same records, but `absence` may have become `absence_lossy`."""
    expected, count = undisturbed(seed, "file")
    lines = lines_of(seed)
    run = Run1(core(starts_broken=True), FILE)
    for start in range(0, count, 500):
        run.feed(lines[start : start + 500])
        run.restart()

    def weakest(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: weakest(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [weakest(inner) for inner in value]
        return "absence" if value == "absence_lossy" else value

    assert weakest(by_id(run.end())) == weakest(by_id(expected))


@examples(40)
@given(
    seed=SEEDS,
    form=st.sampled_from(["file", "syslog"]),
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=8),
    cache=st.sampled_from([10, 10_000]),
)
def test_sealing_and_cutting_anywhere_changes_nothing(seed: int, form: str, sizes: list[int], cache: int) -> None:
    """Runs and batches of any size, a seal after some of them, and next to nothing kept in memory."""
    expected, count = undisturbed(seed, form)
    lines = lines_of(seed, form=form)
    run = Run1(core(cache_entries=cache), UDP if form == "syslog" else FILE)
    at, n = 0, 0
    while at < count:
        size = sizes[n % len(sizes)]
        run.feed(lines[at : at + size])
        if n % 3 != 1:
            run.seal()
        at, n = at + size, n + 1
    assert by_id(run.end()) == by_id(expected)


@examples(12)
@given(seed=SEEDS, form=st.sampled_from(["file", "syslog"]))
def test_state_of_one_group_at_a_time_is_all_there_is(seed: int, form: str) -> None:
    """A seal and a restart after every few lines, with ids that start low again on the way."""
    expected, count = undisturbed(seed, form, 1)
    lines = lines_of(seed, form=form, resets=1)
    run = Run1(core(), UDP if form == "syslog" else FILE)
    random = Random(seed)
    at = 0
    while at < count:
        size = random.randint(1, 200)
        run.feed(lines[at : at + size])
        run.restart()
        at += size
    assert by_id(run.end()) == by_id(expected)


@examples(20)
@given(seed=SEEDS, size=st.integers(1, 300), form=st.sampled_from(["file", "syslog"]))
def test_two_appliances_interleaved_are_each_alone(seed: int, size: int, form: str) -> None:
    """Two boxes in one stream of batches say what each says alone; they even use the same ids."""
    lines = traffic(seed, appliances=2)
    origins = {name: Origin(source=name, record_appliance=name, lossy=form == "syslog") for name in ("esa1", "esa2")}
    together = Run1(core(appliance_name=None), FILE)
    for start in range(0, len(lines), size):
        runs: list[Run] = []
        for name, line in lines[start : start + size]:
            if runs and runs[-1].origin is origins[name]:
                runs[-1].lines.append(line)
            else:
                runs.append(Run(origins[name], [line]))
        together.pipeline.feed(Batch(runs, 1, received_s=NOW), now_s=NOW)
    alone: list[Record] = []
    for name, origin in origins.items():
        one = Run1(core(appliance_name=None), origin)
        one.feed([line for owner, line in lines if owner == name])
        alone += one.end()
    assert by_id(together.end()) == by_id(alone)


@examples(25)
@given(seed=SEEDS, ticks=st.lists(st.floats(0, 30), min_size=1, max_size=5))
def test_ticks_change_nothing_but_pending(seed: int, ticks: list[float]) -> None:
    """The wall clock lets held lines go, and nothing else: summaries and all lines but for `pending` are the same."""
    lines = lines_of(seed)
    plain, ticked = Run1(core(max_hold_s=5.0), FILE), Run1(core(max_hold_s=5.0), FILE)
    now = NOW
    for n, start in enumerate(range(0, len(lines), 50)):
        plain.feed(lines[start : start + 50])
        ticked.pipeline.feed(Batch([Run(FILE, lines[start : start + 50])], 1, received_s=NOW), now_s=now)
        now += ticks[n % len(ticks)]
        ticked.pipeline.tick(now_s=now)
        ticked.seal()
    expected, got = by_id(plain.end()), by_id(ticked.end())
    assert expected.keys() == got.keys()
    for key, record in got.items():
        before = expected[key]
        if key[0] == "line" and "pending" in (
            record["cisco_esa"].get("tls", {}).get("outcome"),
            before["cisco_esa"].get("tls", {}).get("outcome"),
        ):
            assert record["cisco_esa"]["connection"] == before["cisco_esa"]["connection"]
            assert record["event"]["original"] == before["event"]["original"]
            continue
        assert {**record, "event": {**record["event"], "created": ""}} == {**before, "event": {**before["event"], "created": ""}}


@examples(20)
@given(seed=SEEDS, form=st.sampled_from(["file", "syslog"]), cache=st.sampled_from([10, 1000]))
def test_every_opened_entry_ends(seed: int, form: str, cache: int) -> None:
    """After the end of the stream only tombstones are left, in memory and in the state."""
    run = Run1(core(cache_entries=cache), UDP if form == "syslog" else FILE)
    lines = lines_of(seed, form=form)
    for start in range(0, len(lines), 300):
        run.feed(lines[start : start + 300])
        run.seal()
    run.end()
    box = run.pipeline.boxes["esa1"]
    assert box.correlator.entries.open_count == {"I": 0, "D": 0, "M": 0}
    assert all(entry.gone for _, _, entry in box.correlator.entries.all())
    assert not box.waiting
    assert not any(key.startswith(b"r") for key in run.state.data)
    assert run.pipeline.held_lines == 0
    loaded = Pipeline(run.options, run.state, now_s=NOW).boxes["esa1"]
    assert loaded.correlator.entries.open_count == {"I": 0, "D": 0, "M": 0}


@examples(25)
@given(seed=SEEDS, most=st.integers(1, 8), form=st.sampled_from(["file", "syslog"]))
def test_eviction_is_bounded_and_says_so(seed: int, most: int, form: str) -> None:
    """With room for few entries: never more are open, those that had to go say `evicted`, and no false outcome comes of it."""
    lines = lines_of(seed, form=form)
    run = Run1(core(max_entries=most, max_tombstones=50), UDP if form == "syslog" else FILE)
    for start in range(0, len(lines), 20):
        run.feed(lines[start : start + 20])
        entries = run.pipeline.boxes["esa1"].correlator.entries
        assert sum(entries.open_count.values()) <= most
        assert len(entries.tombstones) <= 50
        run.seal()
    evicted = 0
    for record in run.end():
        own = record["cisco_esa"]
        if own["record"] == "connection" and own["connection"]["end"] == "evicted":
            evicted += 1
            assert own["tls"]["evidence"] != "absence" or own["connection"]["message_count"]
    assert evicted
    assert run.pipeline.counts["esa_tls.evictions", (("reason", "max_entries"),)] >= evicted


LOG_TEXT = st.sampled_from([line for _, line in traffic(0)][:400] + [line for _, line in traffic(1, form="syslog")][:200])
PIECES = st.one_of(
    LOG_TEXT,
    st.binary(max_size=60),
    LOG_TEXT.flatmap(lambda line: st.integers(0, len(line)).map(lambda cut: line[:cut])),
    st.builds(
        lambda line, noise, cut: line[: cut % (len(line) + 1)] + noise + line[cut % (len(line) + 1) :],
        LOG_TEXT,
        st.binary(max_size=20),
        st.integers(0, 300),
    ),
    st.builds(lambda one, other: one[:32] + b"MID 9 Subject '" + other + b"'", LOG_TEXT, LOG_TEXT),
    st.sampled_from([b"", b"\0", b"\r", b"\xff\xfe", b"Info: ", b"<166>", b"CEF:0|", b"Mon Nov 24 00:00:00 2025 Info: " + b"x" * 100_000]),
)


@examples(250)
@given(
    lines=st.lists(PIECES, max_size=30), lossy=st.sampled_from([None, True, False]), immediate=st.booleans(), seal_every=st.integers(1, 5)
)
def test_no_line_is_lost(lines: list[bytes], lossy: bool | None, immediate: bool, seal_every: int) -> None:
    """Any bytes, NULs, cut lines, lines in lines: as many `line` records as lines, in both encodings, each with its text."""
    options = CoreSettings(appliance_name="esa1", emit_immediately=immediate, max_hold_s=FOREVER, starts_broken=False)
    state = DictState()
    pipeline = Pipeline(options, state, encodings=("json", "forward"), now_s=NOW)
    rows = []
    for n, line in enumerate(lines):
        pipeline.feed(Batch([Run(Origin(source="x", tag="t", lossy=lossy), [line])], 1), now_s=NOW)
        if n % seal_every == 0 and (sealed := pipeline.seal()) is not None:
            state.apply(sealed.puts, sealed.deletes)
            rows += sealed.rows
    pipeline.end_stream()
    if (sealed := pipeline.seal()) is not None:
        rows += sealed.rows
    found = [record for record in decoded(rows, "json") if record["cisco_esa"]["record"] == "line"]
    assert sorted(record["event"]["original"] for record in found) == sorted(line.decode("utf-8", "replace") for line in lines)
    assert sorted(record["event"]["sequence"] for record in found) == list(range(1, len(lines) + 1))
    packed = list(decoded(rows, "forward"))
    assert by_id(packed) == by_id(list(decoded(rows, "json")))
