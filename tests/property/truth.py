"""Compares what comes out of the core with the simulator's truth.

`differences` demands everything the truth says; `falsehoods` only that nothing said for certain is false (lines were lost or came late).
Fields that docs/correlation.md leaves open are named by the truth itself (`open`), and so are records it neither asks for nor forbids
(`optional`).
In the calm stretch after a reset of ids (`reset_zone`) only raw ids are compared.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from tests.unit.core.driver import T0, Record, decoded

from esa_tls.core.batch import Batch, Origin, Run
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.state import DictState
from esa_tls.offline.simulate import ABSENCE_COUNTS, LineTruth, SimulationSettings, Truth, simulate

NOW = float(T0 + 60 * 86400)


class Simulated:
    """A simulation: (appliance, line, its truth) in log order, and the truth of the summaries."""

    def __init__(self, settings: SimulationSettings) -> None:
        self.settings = settings
        self.truth: list[Truth] = []
        notes: list[LineTruth] = []
        lines = list(simulate(settings, truth=self.truth.append, line_truth=notes.append))
        self.lines = [(name, line, note) for (name, line), note in zip(lines, notes, strict=True)]


Said = tuple[str, bytes, LineTruth]


class LineSaid(NamedTuple):
    """What a `line` record says of its connection. Millions of them are kept, so nothing else is."""

    connection: str | None
    direction: str | None
    outcome: str | None
    evidence: str | None


class Reading:
    """A core that reads simulated lines, and the summaries that came out; each line's record is found again by its order number."""

    def __init__(self, **settings: Any) -> None:
        self.options = CoreSettings(**{"starts_broken": False, "hold_by_event_time": True, "default_appliance": "esa", **settings})
        self.state = DictState()
        self.pipeline = Pipeline(self.options, self.state, now_s=NOW)
        self.records: list[Record] = []
        self.said: list[tuple[str, int, LineSaid]] = []
        self.notes: dict[str, list[tuple[bytes, LineTruth]]] = defaultdict(list)
        self.origins: dict[tuple[str, bool | None], Origin] = {}

    def feed(self, lines: Iterable[Said], *, lossy: bool | None = None) -> None:
        """One batch."""
        runs: list[Run] = []
        for name, line, note in lines:
            origin = self.origins.setdefault((name, lossy), Origin(source=name, record_appliance=name, lossy=lossy))
            self.notes[name].append((line, note))
            if runs and runs[-1].origin is origin:
                runs[-1].lines.append(line)
            else:
                runs.append(Run(origin, [line]))
        self.pipeline.feed(Batch(runs, 1, received_s=NOW), now_s=NOW)
        self.seal()

    def seal(self) -> None:
        sealed = self.pipeline.seal()
        if sealed is not None:
            self.state.apply(sealed.puts, sealed.deletes)
            for record in decoded(sealed.rows, "json", check_every=40):
                if record["cisco_esa"]["record"] == "line":
                    self._line(record)
                else:
                    self.records.append(record)

    def _line(self, record: Record) -> None:
        own, name, number = record["cisco_esa"], record["host"]["name"], record["event"]["sequence"]
        assert record["event"]["original"] == self.notes[name][number - 1][0].decode("utf-8", "replace")
        tls = own.get("tls", {})
        said = LineSaid(own.get("connection", {}).get("id"), own.get("direction"), tls.get("outcome"), tls.get("evidence"))
        self.said.append((name, number, said))

    def end(self) -> Reading:
        self.pipeline.end_stream()
        self.seal()
        return self

    def line_pairs(self) -> Iterator[tuple[LineSaid, bytes, LineTruth]]:
        """(what its record says, line, truth) of every line; as many records as lines."""
        assert len({(name, number) for name, number, _ in self.said}) == len(self.said) == sum(map(len, self.notes.values()))
        for name, number, said in self.said:
            yield said, *self.notes[name][number - 1]


def key_of(own: Record, *, ordered: bool = True) -> tuple[Any, ...]:
    """What makes a summary the same in truth and output. Not `ordered`: which of two attempts of one second was the first is not known."""
    zone = "zone" if own.get("reset_zone") else own.get("epoch")
    kind = own["record"]
    if kind == "connection":
        return kind, own["appliance"], zone, own["direction"], own.get("icid", own.get("dcid"))
    if kind == "delivery":
        attempt = own["delivery"]["ordinal"] if ordered else (own.get("dcid"), own["rids"][0] if "dcid" in own else -1)
        return kind, own["appliance"], zone, own["mid"], attempt, own["delivery"]["result"]
    return kind, own["appliance"], zone, own["mid"]


def flat(value: Record, prefix: str = "") -> Record:
    """Dotted paths; lists stay."""
    found: Record = {}
    for name, inner in value.items():
        if isinstance(inner, dict):
            found.update(flat(inner, f"{prefix}{name}."))
        else:
            found[prefix + name] = inner
    return found


def differences(
    simulated: Simulated, reading: Reading, *, ignore: frozenset[str] = frozenset(), ordered: bool = True
) -> list[tuple[Any, ...]]:
    """Everything that is not as the truth says: (what, key, expected, found)."""
    zone_keys = {key_of(truth["cisco_esa"], ordered=ordered) for truth in simulated.truth if truth["cisco_esa"].get("reset_zone")}
    got: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in reading.records:
        key = key_of(record["cisco_esa"], ordered=ordered)
        zoned = (*key[:2], "zone", *key[3:])
        number = key[4] if key[0] == "connection" else key[3]
        got[zoned if zoned in zone_keys and number < 1_000_000 else key].append(record)
    found: list[tuple[Any, ...]] = []
    for truth in simulated.truth:
        key = key_of(truth["cisco_esa"], ordered=ordered)
        records = got.pop(key, [])
        if len(records) != 1:
            if records or not truth.get("optional"):
                found.append((f"{len(records)} records", key, truth, records))
            continue
        found += _different(truth, records[0], key, ignore)
    found += [("unexpected", key, None, records) for key, records in got.items()]
    return found


def _different(truth: Truth, record: Record, key: tuple[Any, ...], ignore: frozenset[str]) -> Iterator[tuple[Any, ...]]:
    said, is_open = flat(record), set(truth.get("open", ())) | ignore
    expected = flat({name: value for name, value in truth.items() if name not in ("open", "optional")})
    for path, value in expected.items():
        if path in is_open or path.endswith("reset_zone"):
            continue
        if path == "cisco_esa.recipients":
            there = said.get(path, [])
            if len(there) != len(value):
                yield path, key, value, there
            for one, other in zip(value, there, strict=False):
                yield from (
                    (f"{path}.{name}", key, one[name], other.get(name))
                    for name in one
                    if f"{path}.{name}" not in is_open and other.get(name) != one[name]
                )
                yield from (
                    (f"{path}.{name}", key, None, other[name])
                    for name in ("in_clear", "tls_outcome")
                    if f"{path}.{name}" not in is_open and name in other and name not in one
                )
        elif said.get(path) != value and not (path == "cisco_esa.hat.sender_group" and value == "None" and path not in said):
            yield path, key, value, said.get(path)
    for path in ABSENCE_COUNTS:
        zoned = key[2] == "zone" and path in ("cisco_esa.connection.id", "cisco_esa.reception.connection_id")
        # `lost` is said of every connection; only True would be more than the truth.
        if path not in is_open and path not in expected and said.get(path) and not zoned:
            yield path, key, None, said[path]


def line_differences(reading: Reading) -> list[tuple[Any, ...]]:
    """Lines whose triple is not what the truth says: (line, expected, found)."""
    found = []
    for said, line, note in reading.line_pairs():
        if note.reset_zone or note.open:
            continue
        expected = (note.connection, note.direction, note.outcome)
        if said[:3] != expected and not (said.outcome == "pending" and said[:2] == expected[:2]):
            found.append((line, expected, said))
    return found


SURE = ("line", "absence")


def falsehoods(simulated: Simulated, reading: Reading) -> list[tuple[Any, ...]]:
    """What is said for certain and is false: outcomes with evidence `line` or `absence`, and links."""
    connections, messages, tried = {}, {}, defaultdict(set)
    for truth in simulated.truth:
        own = truth["cisco_esa"]
        if own.get("reset_zone"):
            continue
        if own["record"] == "connection":
            connections[own["connection"]["id"]] = own
        elif own["record"] == "message":
            messages[own["appliance"], own["epoch"], own["mid"]] = truth
        elif "connection" in own:
            tried[own["appliance"], own["epoch"], own["mid"]].add(own["connection"]["id"])
    found: list[tuple[Any, ...]] = []
    for record in reading.records:
        own = record["cisco_esa"]
        if own["record"] in ("connection", "delivery") and "connection" in own:
            known = connections.get(own["connection"]["id"])
            if known is not None and own["tls"].get("evidence") in SURE and own["tls"]["outcome"] != known["tls"]["outcome"]:
                found.append(("outcome", own["connection"]["id"], known["tls"], own["tls"]))
        if own["record"] == "delivery" and "connection" in own:
            key = (own["appliance"], own["epoch"], own["mid"])
            if key in messages and own["connection"]["id"] not in tried[key]:
                found.append(("link", key, tried[key], own["connection"]["id"]))
        if own["record"] == "message":
            truth_of = messages.get((own["appliance"], own["epoch"], own["mid"]))
            if truth_of is None:
                continue
            expected, said = truth_of["cisco_esa"].get("reception", {}), own.get("reception", {})
            tls = said.get("tls", {})
            if tls.get("evidence") in SURE and tls["outcome"] != expected.get("tls", {}).get("outcome"):
                found.append(("reception", own["mid"], expected, said))
            if "connection_id" in said and said["connection_id"] != expected.get("connection_id"):
                found.append(("reception link", own["mid"], expected, said))
            if "parent_mid" in own and own["parent_mid"] != truth_of["cisco_esa"].get("parent_mid"):
                found.append(("parent", own["mid"], truth_of["cisco_esa"].get("parent_mid"), own["parent_mid"]))
    for said_of, line, note in reading.line_pairs():
        if note.reset_zone or note.open or said_of.connection is None:
            continue
        # A line says what is known when it leaves: what held when it was written, or what came out in the end.
        ends = connections.get(note.connection, {}).get("tls", {}).get("outcome")
        if said_of.connection != note.connection:
            found.append(("line's link", line, note, said_of))
        elif said_of.evidence in SURE and said_of.outcome not in (note.outcome, ends):
            found.append(("line's outcome", line, note, said_of))
    return found
