"""docs/correlation.md 5: appliance time, holding lines back, emitting at once, the reorder window."""

from __future__ import annotations

import pytest
from tests.unit.core.driver import FILE, T0, UDP, Driver, Record, at, iso, syslog

from esa_tls.core.batch import Origin

NEW = "New SMTP ICID 70 interface private address 198.51.100.7"
HAT = "ICID 70 ACCEPT SG A match ALL SBRS None"
UP = "ICID 70 TLS success"


def flags(record: Record) -> list[str]:
    """Of a line."""
    found: list[str] = record["cisco_esa"].get("flags", [])
    return found


def outcome(record: Record) -> str | None:
    """The TLS outcome a line carries."""
    return record["cisco_esa"]["tls"]["outcome"] if "tls" in record["cisco_esa"] else None


def clock(driver: Driver) -> int | None:
    """The appliance time, in seconds after T0."""
    time_s = driver.pipeline.boxes["esa1"].state.clock.time_s
    return None if time_s is None else time_s - T0


# ---- appliance time


def test_5_t_is_the_highest_accepted_stamp() -> None:
    """It follows the lines and never goes back for one."""
    driver = Driver()
    for second, expected in ((10, 10), (12, 12), (11, 12), (312, 312), (20, 312)):
        driver.feed(at(second, f"Status: {second}"))
        assert clock(driver) == expected


@pytest.mark.parametrize(("following", "accepted"), [(1000, True), (700, True), (699, False), (20, False)])
def test_5_a_stamp_far_ahead_needs_a_witness(following: int, accepted: bool) -> None:
    """More than 300 s ahead: accepted if the next line's stamp is at least candidate - 300 s, else `bad_time`; it moves nothing before."""
    driver = Driver().feed(at(10, "Status: 1"), at(1000, "Status: 2"))
    assert clock(driver) == 10
    driver.feed(at(following, "Status: 3")).end()
    assert clock(driver) == (1000 if accepted else max(10, following) if following <= 310 else 10)
    assert flags(driver.line("Status: 2")) == ([] if accepted else ["bad_time"])
    assert driver.line("Status: 2")["@timestamp"] == iso(1000)


def test_5_a_bad_time_moves_nothing() -> None:
    """A line a year ahead ends nothing, and its own connection lives at the time of the others."""
    driver = Driver().feed(at(0, NEW), at(365 * 86400, "Start MID 90 ICID 70"), at(1, HAT)).feed(at(2, "ICID 70 close"))
    assert flags(driver.line("Start MID 90 ICID 70")) == ["bad_time"]
    record = driver.connection(70)
    assert (record["event"]["duration"], record["cisco_esa"]["connection"]["message_count"]) == (2_000_000_000, 1)
    driver.feed(at(3, "Message finished MID 90 done"), at(6, "Status: 1"))
    assert driver.message(90)["event"]["start"] == iso(0)


def test_5_a_quiet_box_is_no_exception() -> None:
    """After a quiet hour the first line is a candidate: its connection begins at its own stamp, and is held like any other."""
    driver = Driver().feed(at(0, "Status: 1")).feed(at(3600, NEW)).feed(at(3601, UP)).feed(at(3605, "ICID 70 close"))
    assert outcome(driver.line(NEW)) == "success"
    assert flags(driver.line(NEW)) == []
    assert driver.connection(70)["event"]["start"] == iso(3600)
    assert driver.connection(70)["event"]["id"].startswith(f"{T0 + 3600:08x}")


def test_5_a_candidate_survives_a_restart() -> None:
    """It waits in the state for the line that decides about it."""
    driver = Driver().feed(at(0, "Status: 1"), at(3600, NEW)).restart().feed(at(3601, UP, "ICID 70 close"))
    assert outcome(driver.line(NEW)) == "success"
    assert driver.connection(70)["event"]["start"] == iso(3600)


def test_5_a_candidate_leaves_after_max_hold_without_its_effect() -> None:
    """Its record cannot wait for ever; what it does to its connection can, and happens once."""
    driver = Driver(now_s=100.0).feed(at(0, "Status: 1"), at(3600, NEW), now_s=100.0)
    driver.tick(104.9)
    assert len(driver.lines()) == 1
    assert driver.pipeline.next_wake_s() == 105.0
    driver.tick(105.0).restart().tick(200.0)
    assert outcome(driver.line(NEW)) == "pending"
    driver.feed(at(3601, UP, "ICID 70 close"))
    assert len(driver.lines()) == 4
    assert driver.connection(70)["cisco_esa"]["connection"]["start_seen"] is True


def test_5_bad_time_over_a_source_that_reorders() -> None:
    """The same flag, although the line waits in the window."""
    driver = Driver().feed(at(0, NEW), at(9000, HAT), at(1, UP), at(9, "Status: 1"), origin=UDP).end()
    assert flags(driver.line(HAT)) == ["bad_time"]
    assert driver.connection(70)["cisco_esa"]["hat"]["policy"] == "ACCEPT"


def test_5_a_thousand_lines_behind_rebase_the_clock_and_all_deadlines() -> None:
    """The clock was set back by a day: an open connection does not live a day longer for it, nor die at once."""
    driver = Driver().feed(at(86400, NEW))
    driver.feed(*(at(n / 10, f"Status: {n}") for n in range(999)))
    assert clock(driver) == 86400
    driver.feed(at(100, "Status: x"))
    assert clock(driver) == 100
    driver.feed(at(390, "Status: a"), at(680, "Status: b"), at(970, "Status: c"))
    assert driver.kind("connection") == []
    driver.feed(at(1000, "Status: d"))
    assert driver.connection(70)["@timestamp"] == iso(1000)
    assert driver.count("esa_tls.clock.rebases") == 1


def test_5_999_lines_behind_do_not() -> None:
    """One line near T in between, and the count starts again."""
    driver = Driver().feed(at(86400, NEW))
    for start in (0, 100):
        driver.feed(*(at(start + n / 10, f"Status: {start} {n}") for n in range(999)), at(86400, f"Status: {start}"))
    assert clock(driver) == 86400


def test_5_time_outs_run_on_appliance_time() -> None:
    """A week read in a minute says what a live week would have said: no wall clock in it."""
    live, read = Driver(), Driver()
    for n, line in enumerate(line for second in range(0, 7 * 86400, 280) for line in at(second, NEW.replace("70", str(second + 1)))):
        live.feed([line], now_s=T0 + n * 280)
        live.tick(T0 + n * 280 + 200)
        read.feed([line], now_s=5e9)
    assert [record["@timestamp"] for record in live.kind("connection")] == [record["@timestamp"] for record in read.kind("connection")]
    assert len(read.kind("connection")) > 2000


def test_5_after_24_hours_without_a_line_the_wall_clock_expires() -> None:
    """Not before; records are stamped with their deadlines."""
    driver = Driver().feed(at(0, NEW), at(290, "Start MID 90 ICID 0"), now_s=T0 + 100.0).tick(T0 + 86_499.0)
    assert driver.kind("connection") == []
    assert driver.pipeline.next_wake_s() == T0 + 86_559.0
    driver.tick(T0 + 86_500.0)
    assert driver.connection(70)["@timestamp"] == iso(900)
    driver.tick(T0 + 8 * 86_400.0)
    assert driver.kind("message") == []
    driver.tick(T0 + 9 * 86_400.0)
    assert driver.message(90)["@timestamp"] == iso(290 + 8 * 86_400)


def test_5_a_record_ended_by_a_timer_is_stamped_with_its_deadline() -> None:
    """However late the clock is looked at."""
    driver = Driver().feed(at(0, NEW), at(250, "Status: 1"), at(1100, "Status: 2"), at(5000, "Status: 3"), at(5001, "Status: 4"))
    assert driver.connection(70)["@timestamp"] == driver.connection(70)["event"]["end"] == iso(900)


# ---- the missing year


@pytest.mark.parametrize(
    ("received", "line", "expected"),
    [
        (T0, "<166>Nov 24 00:00:00 mail_logs: Info: x y", "2025-11-24T00:00:00Z"),
        (T0, "<166>Nov 25 00:00:00 mail_logs: Info: x y", "2025-11-25T00:00:00Z"),
        (T0, "<166>Nov 25 00:00:01 mail_logs: Info: x y", "2024-11-25T00:00:01Z"),
        (1_767_225_600, "<166>Dec 31 23:59:59 mail_logs: Info: x y", "2025-12-31T23:59:59Z"),
        (1_767_225_600, "<166>Jan  1 00:00:00 mail_logs: Info: x y", "2026-01-01T00:00:00Z"),
    ],
)
def test_5_a_missing_year_is_the_nearest_to_the_time_of_receipt(received: int, line: str, expected: str) -> None:
    """At most a day ahead; flagged."""
    driver = Driver(now_s=received).feed([line.encode()]).end()
    assert driver.lines()[0]["@timestamp"] == expected
    assert flags(driver.lines()[0]) == ["year_inferred"]


def test_5_scan_looks_for_the_year_at_the_previous_dated_line() -> None:
    """New Year's Eve inside a file: the year goes on with it."""
    lines = [
        b"<166>Dec 31 23:59:59 mail_logs: Info: a b",
        b"<166>Jan  1 00:00:01 mail_logs: Info: c d",
        b"<166>Jan  2 00:00:00 mail_logs: Info: e f",
    ]
    driver = Driver(hold_by_event_time=True, year_reference_s=1_104_537_500.0).feed(lines, now_s=2e9).end()
    assert [record["@timestamp"][:10] for record in driver.lines()] == ["2004-12-31", "2005-01-01", "2005-01-02"]


def test_5_scan_takes_the_nearest_year_to_the_previous_dated_line() -> None:
    """After days without a line as well, and for a line that is older than the one before."""
    lines = [
        b"<166>Dec 28 10:00:00 mail_logs: Info: a b",
        b"<166>Jan  4 10:00:00 mail_logs: Info: c d",
        b"<166>Dec 30 10:00:00 mail_logs: Info: e f",
    ]
    driver = Driver(hold_by_event_time=True, year_reference_s=1_104_537_500.0).feed(lines, now_s=2e9).end()
    assert [record["@timestamp"][:10] for record in driver.lines()] == ["2004-12-28", "2005-01-04", "2004-12-30"]


def test_flags_of_a_run_are_on_its_lines_only() -> None:
    """Also where lines before and after have the same prefix."""
    driver = Driver()
    for number, given in enumerate(((), ("reconstructed",), ("truncated",), (), ("reconstructed",))):
        driver.feed(at(0, f"Status: {number}"), flags=given)
    assert [flags(record) for record in driver.end().lines()] == [[], ["reconstructed"], ["truncated"], [], ["reconstructed"]]


def test_5_an_inferred_year_is_not_kept_for_ever() -> None:
    """The same second of another year, from the same stream."""
    driver = Driver(now_s=T0 + 10)
    for year in range(3):
        driver.feed(syslog(0, f"Status: {year}"), now_s=T0 + 10 + year * 365 * 86400)
    assert [record["@timestamp"][:4] for record in driver.end().lines()] == ["2025", "2026", "2027"]


def test_5_the_repeated_hour_of_daylight_saving() -> None:
    """The second pass is taken once the first would be more than 30 min behind T."""
    texts = [
        "Sun Oct 26 01:50:00 2025",
        "Sun Oct 26 02:10:00 2025",
        "Sun Oct 26 02:59:00 2025",
        "Sun Oct 26 02:01:00 2025",
        "Sun Oct 26 03:00:00 2025",
    ]
    driver = Driver(timezone="Europe/Berlin")
    for n, text in enumerate(texts):
        driver.feed([f"{text} Info: Status: {n}".encode()])
    found = [record["@timestamp"][11:16] for record in driver.end().lines()]
    assert found == ["23:50", "00:10", "00:59", "01:01", "02:00"]


# ---- where the time is from


def test_time_source() -> None:
    """The line's own time, which goes without saying, else the sender's, else that of receipt."""
    driver = Driver(now_s=T0 + 1.0)
    driver.feed(at(0, "a b"), origin=Origin(source="1"), sender_times_s=[T0 + 9.0])
    driver.feed([b"Info: c d"], origin=Origin(source="2"), sender_times_s=[T0 + 9.7])
    driver.feed([b"Info: e f"], origin=Origin(source="3"), now_s=T0 + 20.9).end()
    found = [(record["cisco_esa"].get("time_source"), record["@timestamp"]) for record in driver.lines()]
    assert found == [(None, iso(0)), ("sender", iso(9)), ("received", iso(20))]


# ---- hold


def test_5_hold_a_line_waits_if_and_only_if_its_connection_is_undecided() -> None:
    """The first lines of a connection wait for its TLS line; those of others do not wait for them."""
    driver = Driver().feed(at(0, NEW, HAT, "ICID 71 TLS success", "Status: 1", "MID 5 antivirus negative"))
    assert [record["event"]["sequence"] for record in driver.kind("line")] == [3, 4, 5]
    driver.feed(at(1, UP))
    assert [record["event"]["sequence"] for record in driver.kind("line")] == [3, 4, 5, 1, 2, 6]
    assert {outcome(record) for record in driver.lines()} == {"success", None}
    assert driver.count("esa_tls.lines.pending") == 0


@pytest.mark.parametrize(
    ("decides", "word"), [("ICID 70 TLS failed", "failed"), ("Start MID 90 ICID 70", "none"), ("ICID 70 close", "none")]
)
def test_5_hold_every_decision_lets_the_lines_go(decides: str, word: str) -> None:
    """TLS line, mail, end."""
    driver = Driver().feed(at(0, NEW, HAT), at(1, decides))
    assert [outcome(record) for record in driver.lines()] == [word] * 3


def test_5_hold_a_time_out_lets_the_lines_go() -> None:
    """A decision by a deadline as well, at once."""
    driver = Driver(max_hold_s=1e9).feed(at(0, NEW), at(300, "Status: 1"), at(600, "Status: 2"), at(900, "Status: 3"))
    assert outcome(driver.line(NEW)) == "unknown"


def test_5_hold_a_time_out_lets_the_lines_go_before_the_line_that_brought_it_has_its_turn() -> None:
    """Over a source that reorders that line waits itself; a restart then loses nothing."""
    driver = Driver(max_hold_s=1e9).feed(*(at(n, f"Status: {n}" if n else NEW) for n in (0, 290, 580, 870, 910)), origin=UDP)
    assert outcome(driver.line(NEW)) == "unknown"
    assert len(driver.restart().end().lines()) == 5


def test_5_hold_a_line_is_held_once_although_memory_is_small() -> None:
    """The connection is quiet while others crowd it out of the cache: its line leaves once, when it is decided."""
    driver = Driver(now_s=1000.0, cache_entries=1).feed(at(0, NEW), now_s=1000.0)
    for n in range(1, 20):
        driver.feed(at(1, f"ICID {n} TLS success")).seal()
    driver.feed(at(2, UP)).seal()
    driver.tick(2000.0).feed(at(3, "ICID 70 close")).end()
    assert outcome(driver.line(NEW)) == "success"


def test_5_hold_after_max_hold_a_line_leaves_as_pending() -> None:
    """5 s of arrival time; the connection stays undecided, and its later lines are held anew."""
    driver = Driver(now_s=1000.0).feed(at(0, NEW), now_s=1000.0).feed(at(1, HAT), now_s=1002.0)
    assert driver.pipeline.next_wake_s() == 1005.0
    driver.tick(1004.9)
    assert driver.lines() == []
    driver.tick(1005.0)
    assert [outcome(record) for record in driver.lines()] == ["pending", "pending"]
    assert driver.count("esa_tls.lines.pending") == 2
    driver.feed(at(2, "ICID 70 Unknown command: x"), now_s=1006.0)
    assert len(driver.lines()) == 2
    driver.feed(at(3, UP), now_s=1007.0)
    assert [outcome(record) for record in driver.lines()] == ["pending", "pending", "success", "success"]


def test_5_hold_by_event_time_in_scan() -> None:
    """In `scan` the 5 s are the log's own."""
    driver = Driver(hold_by_event_time=True).feed(at(0, NEW), at(4, "Status: 1"), now_s=1e9)
    assert len(driver.lines()) == 1
    driver.tick(1e9 + 1000)
    assert len(driver.lines()) == 1
    driver.feed(at(5, "Status: 2"))
    assert outcome(driver.line(NEW)) == "pending"


def test_5_hold_no_more_than_10000_lines() -> None:
    """The oldest leave as pending when more are held."""
    driver = Driver(max_held_lines=3)
    for n in range(5):
        driver.feed(at(0, NEW.replace("70", str(70 + n))))
    assert [record["event"]["sequence"] for record in driver.lines()] == [1, 2]
    assert Driver().settings.max_held_lines == 10_000
    assert Driver().settings.max_hold_s == 5.0


def test_5_hold_held_lines_are_state() -> None:
    """After a restart they are still held, for the whole `max_hold_s` again, and leave once."""
    driver = Driver(now_s=1000.0).feed(at(0, NEW, HAT), now_s=1000.0)
    driver.tick(1004.0).restart().tick(1008.9)
    assert driver.lines() == []
    driver.feed(at(1, UP), now_s=1008.9).tick(2000.0)
    assert [outcome(record) for record in driver.lines()] == ["success"] * 3


def test_5_order_is_kept_inside_a_connection_and_sequence_restores_the_rest() -> None:
    """Two connections and other lines, in one stream."""
    driver = Driver().feed(
        at(0, NEW, NEW.replace("70", "71"), "Status: 1", HAT, HAT.replace("70", "71")), at(1, UP.replace("70", "71"), UP)
    )
    found = [(record["event"]["sequence"], record["cisco_esa"].get("icid")) for record in driver.kind("line")]
    for icid in (70, 71):
        mine = [sequence for sequence, number in found if number == icid]
        assert mine == sorted(mine)
    assert sorted(sequence for sequence, _ in found) == list(range(1, 8))


def test_5_emit_immediate() -> None:
    """Every line leaves at once, as `pending` if undecided; summaries are always decided."""
    driver = Driver(emit_immediately=True).feed(at(0, NEW))
    assert outcome(driver.line(NEW)) == "pending"
    assert driver.feed(at(1, UP, "ICID 70 close")).connection(70)["cisco_esa"]["tls"]["outcome"] == "success"
    assert "established" not in driver.line(NEW).get("tls", {})
    assert [outcome(record) for record in driver.lines()] == ["pending", "success", "success"]


def test_5_emit_immediate_over_a_source_that_reorders() -> None:
    """The line names its connection although it is correlated only later, once."""
    driver = Driver(emit_immediately=True).feed(at(0, NEW), origin=UDP)
    assert driver.line(NEW)["cisco_esa"]["connection"]["id"] == "esa1/0/ICID/70"
    assert outcome(driver.line(NEW)) == "pending"
    driver.feed(at(1, UP), at(5, "ICID 70 close"), origin=UDP).end()
    assert len(driver.lines()) == 3
    assert driver.connection(70)["cisco_esa"]["tls"]["outcome"] == "success"


# ---- the reorder window


def test_5_reorder_none_is_decided_only_after_the_window() -> None:
    """UDP puts the mail before its TLS line, two seconds apart: still `success`. Over a stream it would have been a contradiction."""
    driver = Driver().feed(at(0, NEW), at(3, "Start MID 90 ICID 70"), at(2, UP), at(4, "x y"), origin=UDP)
    assert driver.kind("message") == []
    driver.end()
    assert driver.message(90)["cisco_esa"]["reception"]["tls"]["outcome"] == "success"
    assert driver.count("esa_tls.contradictions") == 0


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 3, 0, 1]])
def test_5_reorder_lines_of_a_second_in_any_order(order: list[int]) -> None:
    """Put in the order in which they must have been written."""
    texts = (NEW, UP, "Start MID 90 ICID 70", "ICID 70 close")
    driver = Driver().feed(at(0, *(texts[n] for n in order)), origin=UDP).end()
    assert driver.connection(70)["cisco_esa"]["tls"]["outcome"] == "success"
    assert driver.connection(70)["cisco_esa"]["connection"]["start_seen"] is True
    assert driver.message(90)["cisco_esa"]["reception"]["tls"]["in_clear"] is False


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_5_reorder_a_server_without_starttls_is_that_in_any_order(order: tuple[int, int]) -> None:
    """That STARTTLS was not offered comes before that it was required: the failure's class does not hang on which datagram came first."""
    said = ("DCID 80 STARTTLS command not supported", "DCID 80 TLS was required but could not be successfully negotiated")
    opened = at(0, "New SMTP DCID 80 interface 192.0.2.1 address 198.51.100.7 port 25")
    driver = Driver().feed(opened, at(1, *(said[place] for place in order)), at(2, "DCID 80 close"), origin=UDP).end()
    [record] = driver.kind("connection")
    assert record["cisco_esa"]["tls"]["failure"]["class"] == "required_not_offered"


def test_5_reorder_the_window_is_the_sources() -> None:
    """A window of its own at the source; 0 for orderly ones."""
    lines = [*at(0, NEW), *at(3, "Start MID 90 ICID 70"), *at(7, "x y"), *at(2, UP), *at(20, "x y")]
    for window, contradictions in ((5.0, 0), (2.0, 1)):
        driver = Driver(late_batches=False).feed(lines, origin=Origin(lossy=True, reorder_window_s=window)).end()
        assert driver.count("esa_tls.contradictions") == contradictions
    assert len(Driver().feed(at(0, "x y"), origin=FILE).lines()) == 1, "an orderly source waits for nothing"


def test_5_reorder_waiting_lines_go_when_nothing_comes() -> None:
    """`max_hold_s` after the last arrival."""
    driver = Driver(now_s=1000.0).feed(at(0, NEW, UP), origin=UDP, now_s=1000.0)
    assert driver.pipeline.next_wake_s() == 1005.0
    assert driver.tick(1004.0).lines() == []
    assert [outcome(record) for record in driver.tick(1005.0).lines()] == ["success", "success"]


def test_5_reorder_waiting_lines_are_state() -> None:
    """After a restart they are put in order with those that come."""
    driver = Driver().feed(at(0, "Start MID 90 ICID 70"), origin=UDP).restart().feed(at(0, UP, NEW), origin=UDP).end()
    assert driver.message(90)["cisco_esa"]["reception"]["tls"]["outcome"] == "success"
    assert not any(key.startswith(b"r") for key in driver.state.data)


# ---- continuations


def test_a_line_without_a_prefix_belongs_to_the_stamp_of_the_line_before() -> None:
    """A continuation: the time of the line before, never parsed, also over a restart."""
    driver = (
        Driver().feed(at(0, "a b"), [b"Info: ICID 70 TLS success"], at(5, "c d")).restart().feed([b"\tmore", b"Info: ICID 70 close"]).end()
    )
    found = [(record["event"]["action"], record["@timestamp"], flags(record)) for record in driver.lines()]
    assert found[1] == ("continuation", iso(0), ["continuation"])
    assert found[3:] == [("continuation", iso(5), ["continuation"])] * 2
    assert driver.kind("connection") == []


def test_5_hold_a_line_seen_before_is_held_over_a_restart_as_well() -> None:
    """It changes nothing else of its connection, and its record is owed all the same."""
    driver = Driver().feed(at(0, NEW)).restart().feed(at(0, NEW)).restart().end()

    assert 2 == len(driver.lines())
