"""Entries of Loki streams against the records they are made of, read back by the protobuf runtime."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 4.3)

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contract.loki_stub import NS, Stored, labels_of, read_protobuf

from esa_tls.core.batch import Batch, Origin, Run
from esa_tls.core.fields import FIELDS
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.protobuf import field
from esa_tls.core.sentences import sentence
from esa_tls.core.state import DictState
from esa_tls.offline.simulate import SimulationSettings, simulate
from esa_tls.wire.loki_entries import LABEL_FIELDS, Entries, Entry, label_text
from esa_tls.wire.loki_metadata import LEFT_OUT, MAX_METADATA_BYTES, MAX_METADATA_ENTRIES, metadata_name

CORPUS = sorted((Path(__file__).parents[2] / "corpus").glob("*.log"))


def records_of(lines: list[bytes], **origin: Any) -> Iterator[tuple[str, bytes]]:
    """(kind, JSON) of every record that comes of these lines."""
    pipeline = Pipeline(CoreSettings(max_hold_s=5), DictState(), encodings=("json",), now_s=1.7e9)
    pipeline.feed(Batch([Run(Origin(**{"tag": "esa1", **origin}), lines)], 1, None, 1.7e9), now_s=1.7e9)
    pipeline.end_stream()
    made = pipeline.seal()
    assert made is not None
    for row in made.rows:
        for kind, _, body in row.segments:
            for record in body.splitlines():
                yield kind, record


@pytest.fixture(scope="module")
def records() -> list[tuple[str, bytes]]:
    """Records of simulated mail, of real samples, of lines that are no UTF-8, and of lines with much around them."""
    found = list(records_of([line for _, line in simulate(SimulationSettings(seed=11, messages=60))]))
    for path in CORPUS:
        found += records_of(path.read_bytes().splitlines(), file_path="/var/log/mail", log_name="mail_logs")
    found += records_of(
        [b'Mon Nov 24 00:00:00 2025 Info: MID 1 Subject "\xff \\" caf\xc3\xa9"', b"<166>Nov 24 00:00:00 esa1 mail_logs: Info: x"]
    )
    assert {kind for kind, _ in found} == {"line", "connection", "delivery", "message", "consolidated"}
    return found


def read(entry: Entry) -> Stored:
    """An entry as the protobuf runtime reads it; time and labels outside it agree with it."""
    time_ns, labels, data = entry
    [(_, [stored])] = read_protobuf(field(1, field(1, labels.encode()) + data))
    assert stored.time_ns == time_ns
    assert len(stored.fields) == len(stored.metadata)
    return stored


def only(entries: list[Entry | None]) -> Entry:
    """The one entry."""
    [entry] = entries
    assert entry is not None
    return entry


def flat(value: dict[str, Any], path: str = "") -> dict[str, str]:
    """What the metadata of a record has to be."""
    found: dict[str, str] = {}
    for key, one in value.items():
        here = f"{path}.{key}" if path else key
        if here in LEFT_OUT:
            continue
        if isinstance(one, dict):
            found |= flat(one, here)
        elif isinstance(one, str):
            found |= {here.replace(".", "_"): one} if one else {}
        elif one != []:
            found[here.replace(".", "_")] = json.dumps(one, ensure_ascii=False, separators=(",", ":"))
    return found


def test_entries_say_what_the_records_say(records: list[tuple[str, bytes]]) -> None:
    """Labels, time, line and metadata of every record of every kind."""
    entries = Entries()
    for kind, data in records:
        record = json.loads(data)
        made = only(entries.of(kind, data + b"\n"))
        stored = read(made)
        assert labels_of(made[1]) == {"service_name": "esa-tls", "appliance": record["host"]["name"], "kind": kind}
        seconds = int(datetime.fromisoformat(record["@timestamp"]).timestamp())
        assert stored.time_ns == seconds * NS + record["event"]["sequence"]
        assert stored.line == (record["event"]["original"] if kind == "line" else sentence(record))
        assert stored.fields == flat(record)
        assert all(stored.fields.values())


@pytest.mark.parametrize("label_fields", [(), LABEL_FIELDS, ("cisco_esa.tls.outcome",)], ids=["none", "all", "one"])
def test_the_short_ways_make_what_the_long_way_makes(records: list[tuple[str, bytes]], label_fields: tuple[str, ...]) -> None:
    """Lines and summaries against the reference."""
    entries = Entries(label_fields=label_fields)
    for kind, data in records:
        fast, slow = only(entries.of(kind, data)), entries._any(kind, data)
        assert slow is not None
        assert fast[:2] == slow[:2]
        assert read(fast).line == read(slow).line
        assert read(fast).fields == read(slow).fields


def test_nearly_all_records_go_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of simulated mail; a field that is new in the core would send all of them the long way, and nobody would see it."""
    long_way: list[bytes] = []
    monkeypatch.setattr(Entries, "_any", lambda self, kind, data: long_way.append(data))
    entries = Entries()
    made = list(records_of([line for _, line in simulate(SimulationSettings(seed=12, messages=100))]))
    for kind, data in made:
        entries.of(kind, data)
    assert len(long_way) < len(made) / 50, long_way[:5]


def test_a_segment_is_read_record_by_record(records: list[tuple[str, bytes]]) -> None:
    """Entries come in the order of the records; with a last line feed or without."""
    entries = Entries()
    lines = [data for kind, data in records if kind == "line"]
    assert entries.of("line", b"\n".join(lines) + b"\n") == [only(entries.of("line", data)) for data in lines]
    assert entries.of("line", b"\n".join(lines)) == entries.of("line", b"\n".join(lines) + b"\n")
    assert entries.of("message", b"") == []


def test_fields_that_are_labels_are_no_metadata(records: list[tuple[str, bytes]]) -> None:
    """A field moves from the metadata to the labels under the same name, and constants come to all."""
    plain, labelled = Entries(), Entries(labels={"site": 'a "b" \\ c'}, label_fields=LABEL_FIELDS)
    streams: Counter[str] = Counter()
    for kind, data in records:
        before, after = only(plain.of(kind, data)), only(labelled.of(kind, data))
        names = labels_of(after[1])
        streams[after[1]] += 1
        assert names.pop("site") == 'a "b" \\ c'
        moved = {name: names.pop(name) for name in map(metadata_name, LABEL_FIELDS) if name in names}
        assert names == labels_of(before[1])
        assert {**read(after).fields, **moved} == read(before).fields
        assert not moved.keys() & read(after).fields.keys()
    assert len(streams) > 20


def test_names_of_all_fields_are_names_in_loki_and_differ() -> None:
    """`_` for `.` makes no two fields one; nothing is lost to a label's name."""
    names = [metadata_name(one.path) for one in FIELDS]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and name.isascii() for name in names)
    assert not {"service_name", "appliance", "kind"} & set(names)
    assert metadata_name("9.x-y") == "9_x_y"


def test_no_kind_has_more_fields_than_an_entry_may_have() -> None:
    """Nothing has to be dropped of a record that has every field there is."""
    for kind in ("line", "connection", "delivery", "message", "consolidated"):
        leaves = [one for one in FIELDS if kind in one.kinds and one.type != "nested" and not one.path.startswith(tuple(LEFT_OUT))]
        assert len(leaves) <= MAX_METADATA_ENTRIES, kind


# -- limits ----------------------------------------------------------------------------------------------------------------------
def line_record(own: dict[str, Any], *, original: str = "x", **beside: Any) -> bytes:
    """A `line` record."""
    event = {"id": "0" * 26, "action": "subject", "sequence": 7, "created": "2025-11-24T00:00:00Z", "original": original}
    own = {"record": "line", "appliance": "esa1", "epoch": 0, **own}
    record = {"@timestamp": "2025-11-24T00:00:00Z", "event": event, "host": {"name": "esa1"}, "cisco_esa": own, **beside}
    return json.dumps(record, ensure_ascii=False).encode()


def kept(made: bytes, max_line_bytes: int = 1000) -> Stored:
    """The entry of a line record; it keeps to the limits."""
    stored = read(only(Entries(max_line_bytes=max_line_bytes).of("line", made)))
    assert len(stored.line.encode()) <= max_line_bytes
    assert stored.metadata_bytes <= MAX_METADATA_BYTES
    assert len(stored.metadata) <= MAX_METADATA_ENTRIES
    return stored


_TEXT = st.builds(lambda part, times: part * times, st.text(max_size=4), st.sampled_from([1, 10, 1000, 20_000, 70_000]))


@given(
    original=_TEXT,
    own=st.dictionaries(st.sampled_from(["mail_policy", "mail_flow", "log_name", "raw_base64", "mid"]), _TEXT, max_size=5),
    many=st.sampled_from([0, 3, 100, 119, 130, 700]),
    to=st.lists(_TEXT, max_size=3),
)
def test_L3_what_loki_refuses_is_never_made(original: str, own: dict[str, str], many: int, to: list[str]) -> None:
    """Whatever a record holds, its entry keeps to the limits; what was cut says so, and what fits is whole."""
    made = line_record(own, original=original, email={"to": {"address": to}}, more={f"n{n}": n for n in range(many)})
    stored = kept(made)
    whole = flat(json.loads(made))
    fits = (
        len(original.encode()) <= 1000
        and len(whole) <= MAX_METADATA_ENTRIES
        and sum(len((name + value).encode()) for name, value in whole.items()) <= MAX_METADATA_BYTES
    )
    assert (stored.fields.get("cisco_esa_flags") == '["truncated"]') == (not fits)
    assert original.startswith(stored.line)
    if fits:
        assert stored.fields == whole
        assert stored.line == original
    for name, value in stored.fields.items():
        assert name == "cisco_esa_flags" or whole[name].startswith(value)


def test_only_the_longest_values_are_cut() -> None:
    """Short ones stay whole, long ones come to the same length, and the room is used."""
    stored = kept(line_record({"mail_policy": "p" * 100_000, "log_name": "l" * 50_000, "mail_flow": "incoming", "flags": ["late"]}))
    sizes = {name: len(value) for name, value in stored.fields.items()}
    assert stored.fields["cisco_esa_mail_flow"] == "incoming"
    assert json.loads(stored.fields["cisco_esa_flags"]) == ["late", "truncated"]
    assert sizes["cisco_esa_mail_policy"] == sizes["cisco_esa_log_name"] > 32_000
    assert stored.metadata_bytes > MAX_METADATA_BYTES - 2


def test_no_character_is_cut_in_two() -> None:
    """A cut is between characters, of lines and of values."""
    stored = kept(line_record({"mail_policy": "é" * 60_000}, original="x" + "é" * 800), max_line_bytes=1000)
    assert stored.line == "x" + "é" * 499
    assert set(stored.fields["cisco_esa_mail_policy"]) == {"é"}


def test_a_record_of_just_the_limit_is_whole() -> None:
    """What counts are names and values, not the bytes around them."""
    base = kept(line_record({"mail_policy": "p"})).metadata_bytes - 1
    for size, cut in ((MAX_METADATA_BYTES - base, False), (MAX_METADATA_BYTES - base + 1, True)):
        stored = kept(line_record({"mail_policy": "p" * size}))
        assert ("cisco_esa_flags" in stored.fields) == cut
        assert (len(stored.fields["cisco_esa_mail_policy"]) == size) == (not cut)


# -- what records may lack -------------------------------------------------------------------------------------------------------
def test_what_a_record_lacks_is_left_out() -> None:
    """Fields that somebody took away: no appliance, no time, no line, no kind; nothing breaks."""
    entries = Entries()
    made = only(entries.of("delivery", b'{"cisco_esa":{"mid":5,"delivery":{"result":"bounced"}}}'))
    assert labels_of(made[1]) == {"service_name": "esa-tls", "kind": "delivery"}
    assert read(made).time_ns == 0
    assert read(made).line.startswith("MID 5 ")
    assert read(made).fields == {"cisco_esa_mid": "5", "cisco_esa_delivery_result": "bounced"}
    made = only(entries.of("line", b'{"@timestamp":"yesterday","host":{"name":"esa2"}}'))
    assert (labels_of(made[1])["appliance"], read(made)) == ("esa2", Stored(0, "", ()))


@pytest.mark.parametrize("data", [b"{", b"7", b"[]", b"\xff", b'"x"', b'{"event":1}', b'{"cisco_esa":[]}'])
def test_what_is_no_record_is_none(data: bytes) -> None:
    """It is for the sink to say so; the records around it are read."""
    good = line_record({})
    for kind in ("line", "message"):
        found = Entries().of(kind, b"\n".join([good, data, good]))
        assert [entry is None for entry in found] == [False, True, False]


def test_times_before_1970_and_sequences_over_a_second() -> None:
    """Seconds are signed in protobuf; only the last nine digits of a sequence fit."""
    made = line_record({}).replace(b"2025-11-24", b"1969-12-31").replace(b'"sequence": 7', b'"sequence": 12000000007')
    assert read(only(Entries().of("line", made))).time_ns == -86400 * NS + 7


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,5}", fullmatch=True), st.text(max_size=10), max_size=4))
def test_labels_are_read_back(labels: dict[str, str]) -> None:
    """Quotes, backslashes, control characters, anything."""
    wanted = {name: value for name, value in labels.items() if value}
    if wanted:
        assert labels_of(label_text(labels)) == wanted


def test_a_label_is_cut_to_what_loki_takes() -> None:
    """2,048 bytes, whole characters."""
    assert labels_of(label_text({"a": "é" * 2000})) == {"a": "é" * 1024}
