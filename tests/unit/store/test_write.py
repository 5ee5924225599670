"""Filing rows: everything once, whatever comes twice, and what is damaged or interrupted."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.store.store_cases import (
    LIMITS,
    MESSAGE,
    NOW_S,
    all_of,
    asked,
    filed,
    ids,
    looking,
    made,
    rollups,
    simulated,
    stored_ids,
    summary_row,
    writing,
)

from esa_tls.core.batch import Row
from esa_tls.store import overview, parts
from esa_tls.store.columns import id_of
from esa_tls.store.write import Writer


def lines_kept(path: Path) -> int:
    """Lines in the file, as its parts say."""
    return int(all_of(path, "SELECT sum(lines) FROM part")[0][0])


def test_every_record_is_filed_once_and_as_it_was(tmp_path: Path) -> None:
    """All summaries of a simulation are in the file, each the same as it left the core; so are all lines about something."""
    made_rows = simulated()
    filed(tmp_path / "s", made_rows.rows)

    assert all_of(tmp_path / "s", "SELECT value FROM meta WHERE name = 'position'") == [(made_rows.rows[-1][0],)]
    assert sorted(stored_ids(tmp_path / "s")) == sorted(ids(made_rows.records))
    with looking(tmp_path / "s") as view:
        for record in made_rows.records:
            n = view.by_id(*id_of(record["event"]["id"]))
            assert n is not None
            assert view.record(n) == record
    about = [one for one in made_rows.lines if "connection" in one["cisco_esa"] or "mid" in one["cisco_esa"]]
    assert lines_kept(tmp_path / "s") == len(about) < len(made_rows.lines)


def test_what_was_filed_is_not_filed_again(tmp_path: Path) -> None:
    """Rows that come again after a restart, as their position was not saved, add no record, no line and no count."""
    rows = simulated().rows
    path = tmp_path / "s"
    with writing(path) as writer:
        token = writer.resume(None)
        writer.apply(rows[:20])
        before = stored_ids(path), rollups(path), lines_kept(path)
        writer.apply(rows[5:20])
        writer.apply(rows[:3])
    with writing(path, token=token) as writer:
        writer.apply(rows[:20])
        assert (stored_ids(path), rollups(path), lines_kept(path)) == before
        writer.apply(rows[10:])
    whole = tmp_path / "whole"
    filed(whole, rows)
    assert (stored_ids(path), rollups(path), lines_kept(path)) == (stored_ids(whole), rollups(whole), lines_kept(whole))


def test_rows_of_another_journal_count_from_their_own_beginning(tmp_path: Path) -> None:
    """A journal that began anew gives lower numbers; its rows are filed all the same, and ids that are known add nothing."""
    path = tmp_path / "s"
    old, new = made(*MESSAGE, first=1_000), simulated(messages=50)
    with writing(path) as writer:
        writer.apply(old.rows)
    with writing(path, token=b"of another journal") as writer:
        writer.apply([(n, row) for n, (_, row) in enumerate(old.rows, start=1)])
        writer.apply([(n, row) for n, (_, row) in enumerate(new.rows, start=500)])
    assert sorted(stored_ids(path)) == sorted(ids(old.records + new.records))
    records = {key: number for key, number in rollups(path).items() if key[:2] == (3600, 1)}
    assert sum(records.values()) == len(old.records) + len(new.records)


def test_a_record_twice_in_one_row_is_filed_once(tmp_path: Path) -> None:
    """The same id twice in one transaction is one record and one count."""
    record = made(*MESSAGE).of("message")[0]
    filed(tmp_path / "s", [(1, summary_row(record, record)), (2, summary_row(record))], at_once=1)
    assert stored_ids(tmp_path / "s") == [record["event"]["id"]]
    assert {number for key, number in rollups(tmp_path / "s").items() if key[1] == 1} == {1}


STEPS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.sampled_from(["", "", "fail", "reopen"])), max_size=12)
"""(rows repeated, rows at most, what goes wrong before)."""


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_any_order_of_crashes_and_repeats_gives_the_same_file(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, int, str]]
) -> None:
    """Law: however rows are grouped, repeated from an earlier place, the writer reopened or failing: records and counts are the same."""
    rows, path = _SOME.rows, tmp_path_factory.mktemp("law") / "s"
    at, left = 0, [*steps, (0, len(_SOME.rows), "")]
    token = None
    while left:
        with writing(path, token=token, part_records=40) as writer:
            token = writer.resume(token)
            while left:
                back, most, wrong = left.pop(0)
                if wrong == "reopen":
                    break
                start, end = max(0, at - back), min(len(rows), at + most)
                if wrong == "fail" and any(sequence > writer.position for sequence, _ in rows[start:end]):
                    with pytest.MonkeyPatch.context() as patch:
                        patch.setattr(Writer, "_roll", _fail)
                        with pytest.raises(sqlite3.OperationalError):
                            writer.apply(rows[start:end])
                writer.apply(rows[start:end])
                at = end
    assert (stored_ids(path), rollups(path)) == _expected()


_SOME = simulated(messages=40, batch_lines=60)


def _expected(known: list[tuple[list[str], object]] = []) -> tuple[list[str], object]:  # noqa: B006 (made once)
    if not known:
        import tempfile

        with tempfile.TemporaryDirectory() as name:
            filed(Path(name, "s"), _SOME.rows, part_records=40)
            known.append((stored_ids(Path(name, "s")), rollups(Path(name, "s"))))
    return known[0]


def _fail(*_: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")


def test_a_failed_write_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure in the middle the file is as before, also where a part was closed in it, and the same rows can be filed."""
    rows = simulated(messages=100).rows
    path = tmp_path / "s"
    with writing(path, part_records=50) as writer:
        writer.apply(rows[:10])
        before = stored_ids(path), rollups(path), all_of(path, "SELECT * FROM part"), all_of(path, "SELECT * FROM appliance")
        monkeypatch.setattr(Writer, "_roll", _fail)
        with pytest.raises(sqlite3.OperationalError):
            writer.apply(rows[10:])
        assert before == (stored_ids(path), rollups(path), all_of(path, "SELECT * FROM part"), all_of(path, "SELECT * FROM appliance"))
        monkeypatch.undo()
        writer.apply(rows[10:])
    filed(tmp_path / "whole", rows)
    assert sorted(stored_ids(path)) == sorted(stored_ids(tmp_path / "whole"))
    assert rollups(path) == rollups(tmp_path / "whole")


@pytest.mark.parametrize(
    "raw",
    [b"{", b"{}", b'{"@timestamp":"x"}', b"\xff\xfe", b"[1]", b'{"@timestamp":"2025-11-24T00:00:00Z","event":{"id":"no"},"cisco_esa":{}}'],
)
def test_what_cannot_be_read_is_counted_and_left_out(tmp_path: Path, raw: bytes) -> None:
    """A damaged record or row of lines is counted; its neighbours are filed."""
    whole = made(*MESSAGE)
    good = b"".join(msgspec.json.encode(record) + b"\n" for record in whole.of("message"))
    rows = [(1, Row("summary", "store", [("message", 2, raw + b"\n" + good)])), (2, Row("line", "store", [("line", 1, raw)]))]
    with writing(tmp_path / "s") as writer:
        writer.apply(rows)
        assert (writer.numbers().unreadable, writer.position) == (2, 2)
        assert writer.numbers().unreadable_because
    assert stored_ids(tmp_path / "s") == ids(whole.of("message"))


@pytest.mark.parametrize("name", ["id", "time", "number"])
def test_a_record_with_a_value_that_is_none_of_ours_is_left_out(tmp_path: Path, name: str) -> None:
    """A record whose id, time or number does not fit into the file is counted, and harms nothing else."""
    bad, good = made(*MESSAGE).of("message")[0], made(*MESSAGE).of("delivery")[0]
    match name:
        case "id":
            bad["event"]["id"] = "x" * 26
        case "time":
            bad["@timestamp"] = "yesterday"
        case _:
            bad["cisco_esa"]["mid"] = 2**64
    with writing(tmp_path / "s") as writer:
        writer.apply([(1, summary_row(bad, good))])
        assert writer.numbers().unreadable == 1
    assert stored_ids(tmp_path / "s") == ids([good])


def test_without_lines_none_are_kept(tmp_path: Path) -> None:
    """With `lines: false` no line is in the file, and nothing but lines is missing."""
    whole = simulated(messages=50)
    with writing(tmp_path / "s", msgspec.structs.replace(LIMITS, lines=False)) as writer:
        writer.apply(whole.rows)
    assert all_of(tmp_path / "s", "SELECT count(*) FROM block") == [(0,)]
    assert len(stored_ids(tmp_path / "s")) == len(whole.records)


def test_full_parts_are_closed_and_their_records_packed_with_what_was_learned(tmp_path: Path) -> None:
    """Parts end at their size; the first trains a dictionary that makes records of later ones a good deal smaller."""
    whole = simulated(messages=350)
    filed(tmp_path / "s", whole.rows, part_records=400)
    found = all_of(tmp_path / "s", "SELECT id, sealed, dictionary, next_n - base_n FROM part ORDER BY id")
    assert [row[1] for row in found] == [1] * (len(found) - 1) + [0]
    assert len(found) >= 3
    assert found[0][2] is None
    assert all(row[2] == 2 for row in found[1:])
    (first,), (second,) = (
        all_of(tmp_path / "s", f"SELECT avg(length(packed)) FROM body, part p WHERE p.id = {ident} AND n >= base_n AND n < next_n")
        for ident in (1, 2)
    )
    assert second[0] < first[0] / 2
    assert all_of(tmp_path / "s", "SELECT count(*) FROM posting WHERE run < 0")[0][0] == 0 or found[-1][1] == 0


def test_a_part_is_closed_after_a_day(tmp_path: Path) -> None:
    """What is stored a day later goes into a part of its own, so that age removes by the day."""
    now_s = NOW_S
    whole = simulated(messages=60)
    with writing(tmp_path / "s", now_s=lambda: now_s) as writer:
        writer.apply(whole.rows[:5])
        now_s += parts.PART_AGE_S + 1
        writer.apply(whole.rows[5:])
    assert len(all_of(tmp_path / "s", "SELECT 1 FROM part")) == 2


def test_names_beyond_the_most_a_day_may_have_are_counted_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of different domains in clear makes the file no larger than so many names a day, and loses no count."""
    monkeypatch.setattr("esa_tls.store.write.MAX_NAMES", 5)
    record = made(*MESSAGE).of("delivery")[0]
    rows = []
    for n in range(20):
        flood = msgspec.json.decode(msgspec.json.encode(record))
        flood["event"]["id"] = f"{n:026x}"
        flood["cisco_esa"]["envelope"]["to"] = [f"x@d{n}.example"]
        rows.append((n + 1, summary_row(flood)))
    path = tmp_path / "s"
    filed(path, rows[:10], at_once=3)
    with writing(path, token=all_of(path, "SELECT value FROM meta WHERE name = 'token'")[0][0]) as writer:  # names are known again
        writer.apply(rows[10:])
    ranked = asked(path, overview.top, "clear_out_domains", since_s=None, until_s=None, limit=50, appliances=frozenset())
    assert sum(one.number for one in ranked) == 20
    assert {one.name for one in ranked} == {None, *(f"d{n}.example" for n in range(5))}


def test_protocols_and_ciphers_of_any_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up cipher names fill no table without end; the records keep them."""
    monkeypatch.setattr("esa_tls.store.write.MAX_WORDS", 3)
    record = made(*MESSAGE).of("connection")[0]
    rows = []
    for n in range(10):
        odd = msgspec.json.decode(msgspec.json.encode(record))
        odd["event"]["id"] = f"{n:026x}"
        odd["cisco_esa"]["tls"]["cipher"] = f"CIPHER-{n}"
        rows.append((n + 1, summary_row(odd)))
    filed(tmp_path / "s", rows)
    assert len(all_of(tmp_path / "s", "SELECT * FROM word")) <= 4
    assert len(stored_ids(tmp_path / "s")) == 10
