"""docs/correlation.md 4: deterministic ids."""

from __future__ import annotations

import pytest
from tests.unit.core.driver import T0, Driver, at, syslog

from esa_tls.core.batch import Origin

TEXTS = ("New SMTP ICID 70 interface private address 198.51.100.7", "ICID 70 TLS success", "Start MID 90 ICID 70", "ICID 70 close")


def ids(driver: Driver, kind: str = "line") -> list[str]:
    """The ids of a kind's records; lines in the order of arrival."""
    return [record["event"]["id"] for record in (driver.lines() if kind == "line" else driver.kind(kind))]


def test_4_an_id_begins_with_the_time() -> None:
    """26 characters, sorted by time: 8 hex digits of seconds, then the hash."""
    driver = Driver().feed(at(0, TEXTS[0]), at(1, TEXTS[1])).end()
    assert [record[:8] for record in ids(driver)] == [f"{T0:08x}", f"{T0 + 1:08x}"]
    assert all(len(record) == 26 and record == record.lower() for record in ids(driver))


def test_4_a_replay_repeats_ids() -> None:
    """The same logs, the same ids, of every kind."""
    one, two = (Driver().feed(*(at(n, text) for n, text in enumerate(TEXTS))).end() for _ in range(2))
    assert one.records == two.records


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_4_the_same_ids_in_one_file_or_many(cut: int) -> None:
    """Cut into runs, batches, sessions and restarts."""
    lines = [line for n, text in enumerate(TEXTS) for line in at(n, text)]
    whole, parts = Driver().feed(lines).end(), Driver()
    for start in range(0, len(lines), cut):
        parts.feed(lines[start : start + cut], session=1).restart()
    parts.end()
    for kind in ("line", "connection", "message"):
        assert sorted(ids(whole, kind)) == sorted(ids(parts, kind))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (at(0, "ICID 7 close"), at(1, "ICID 7 close")),
        (at(0, "ICID 7 close"), at(0, "ICID 8 close")),
        (at(0, "ICID 7 close"), at(0, "ICID 7 close", level="Debug")),
        (syslog(0, "ICID 7 close", name="a"), syslog(0, "ICID 7 close", name="b")),
        ([b"\xff"], ["\ufffd".encode()]),
    ],
)
def test_4_what_makes_a_line_another_line(one: list[bytes], other: list[bytes]) -> None:
    """Stamp, raw bytes (before and behind the level), log name; and bytes, not their reading as text."""
    left, right = (Driver(now_s=1_763_950_000).feed(lines).end() for lines in (one, other))
    assert ids(left) != ids(right)


def test_4_the_appliance_and_the_log_name_of_the_source_are_in_the_id() -> None:
    """The same line of two boxes, or of two subscriptions whose lines do not name them."""
    found = {
        tuple(ids(Driver(appliance_name=name).feed(at(0, "ICID 7 close"), origin=Origin(log_name=log)).end()))
        for name in ("esa1", "esa2")
        for log in (None, "a", "b")
    }
    assert len(found) == 6


def test_4_k_counts_identical_lines_of_a_stamp() -> None:
    """Real lines do repeat inside a second: each has an id of its own, and the next second starts anew."""
    driver = Driver().feed(at(0, *["Warning x"] * 3), at(1, *["Warning x"] * 2)).end()
    assert len(set(ids(driver))) == 5
    again = Driver().feed(at(0, *["Warning x"] * 3)).feed(at(1, *["Warning x"] * 2)).end()
    assert ids(driver) == ids(again)


def test_4_k_counts_on_for_the_two_newest_stamps() -> None:
    """The same second in two batches, with the next second between: still the same second."""
    driver = Driver().feed(at(0, "x y"), at(1, "x y")).feed(at(0, "x y"), at(1, "x y")).end()
    assert len(set(ids(driver))) == 4


def test_4_a_re_chunked_resend_repeats_its_ids() -> None:
    """Older stamps count from 0 again: a stretch that is sent again, cut otherwise, has the ids it had."""
    lines = [line for n in range(6) for line in at(n, *[f"line {n}"] * (n % 3 + 1))]
    driver = Driver(late_batches=False).feed(lines)
    first = [record["event"]["id"] for record in driver.lines()]
    count = sum(n % 3 + 1 for n in range(4))
    driver.feed(lines[:3]).feed(lines[3:count])
    assert ids(driver)[len(lines) :] == first[:count]
    driver.feed(lines[:count])
    assert ids(driver)[len(lines) + count :] == first[:count], "and once more"


def test_4_two_log_names_count_apart() -> None:
    """Counting is per log name: the second subscription's lines have their own ids, in whatever order the two come."""
    lines = {name: syslog(0, *["ICID 7 lost"] * 2, name=name) for name in ("a", "b")}
    orders = ([("a", 2), ("b", 2)], [("b", 2), ("a", 2)], [("a", 1), ("b", 2), ("a", 1)])
    found = []
    for order in orders:
        driver = Driver(now_s=1_763_950_000)
        for name, n in order:
            driver.feed(lines[name][:n])
        found.append(sorted(ids(driver.end())))
    assert found[0] == found[1] == found[2]
    assert len(set(found[0])) == 4


def test_4_k_survives_a_restart() -> None:
    """The count of the newest stamps is state."""
    whole = Driver().feed(at(0, *["x y"] * 3)).end()
    parts = Driver().feed(at(0, "x y")).restart().feed(at(0, "x y")).restart().feed(at(0, "x y")).end()
    assert ids(whole) == ids(parts)


def test_4_summary_ids() -> None:
    """Time of the first line, then appliance, epoch, kind, number and ordinal: retries of one message have ids of their own."""
    out = ("Delivery start DCID {0} MID 90 to RID [0]", "Delayed: DCID {0} MID 90 to RID 0 - 4.1.0 - x", "DCID {0} close")
    driver = Driver().feed(at(0, "Start MID 90 ICID 0"), *(at(n + 1, *(text.format(n) for text in out)) for n in range(1, 4))).end()
    assert len(set(ids(driver, "delivery"))) == 3
    assert {one[:8] for one in ids(driver, "message")} == {f"{T0:08x}"}
    assert [one[:8] for one in ids(driver, "delivery")] == [f"{T0 + n:08x}" for n in (2, 3, 4)]


def test_4_all_ids_of_a_log_differ() -> None:
    """Over all kinds."""
    driver = Driver().feed(*(at(n, text) for n, text in enumerate(TEXTS))).end()
    found = [record["event"]["id"] for record in driver.records]
    assert len(set(found)) == len(found) == 6
