"""docs/correlation.md 3.8 and 3.9: resets of the id counters, and failure classes, in records."""

from __future__ import annotations

import pytest
from tests.unit.core.driver import Driver, at

HIGH = 5_000
NEW = "New SMTP ICID {} interface private address 198.51.100.7"
NEW_D = "New SMTP DCID {} interface 192.0.2.1 address 203.0.113.25 port 25"
START = "Start MID {} ICID 0"


def run(template: str, *numbers: int, begin: float = 10, high: int = HIGH) -> Driver:
    """A counter that stood high, then these ids, one each second."""
    driver = Driver().feed(at(0, template.format(high)))
    for n, number in enumerate(numbers):
        driver.feed(at(begin + n, template.format(number)))
    return driver


def epoch(driver: Driver) -> int:
    """The appliance's epoch."""
    return driver.pipeline.boxes["esa1"].state.epoch


@pytest.mark.parametrize("template", [NEW, NEW_D, START])
def test_3_8_a_reset_is_confirmed_by_the_next_20_low_ids(template: str) -> None:
    """The first low id is none yet; 20 more of its kind confirm it. All three kinds count."""
    assert epoch(run(template, *range(1, 21))) == 0
    assert epoch(run(template, *range(1, 22))) == 1


def test_3_8_ids_until_the_confirmation_belong_to_the_old_epoch() -> None:
    """From the confirmation on new ids belong to the new one."""
    driver = run(NEW, *range(1, 24)).end()
    found = {line["cisco_esa"]["icid"]: line["cisco_esa"]["epoch"] for line in driver.lines()}
    assert found == {HIGH: 0, **dict.fromkeys(range(1, 21), 0), **dict.fromkeys(range(21, 24), 1)}
    assert {record["cisco_esa"]["connection"]["id"] for record in driver.kind("connection")} >= {"esa1/0/ICID/20", "esa1/1/ICID/21"}


@pytest.mark.parametrize(("first", "resets"), [(HIGH // 2 - 30, True), (HIGH // 2, False), (HIGH // 2 + 50, False)])
def test_3_8_less_than_half_of_the_high_water_mark(first: int, resets: bool) -> None:
    """Ids at half of it or above are not low."""
    assert epoch(run(NEW, *range(first, first + 25))) == int(resets)


@pytest.mark.parametrize(("high", "resets"), [(100, False), (101, False), (121, False), (122, True)])
def test_3_8_and_more_than_100_below(high: int, resets: bool) -> None:
    """A young counter cannot be told from lines out of order: the low ids must all be more than 100 below."""
    assert epoch(run(NEW, *range(1, 22), high=high)) == int(resets)


def test_3_8_an_id_in_the_high_range_refutes_it() -> None:
    """One line of the old range in between: the count starts again."""
    assert epoch(run(NEW, *range(1, 15), HIGH + 1, *range(15, 30))) == 0


def test_3_8_a_single_line_out_of_order_is_no_reset() -> None:
    """Trap 14: it belongs to the old epoch and nothing ends."""
    driver = run(NEW, 1, HIGH + 1)
    assert epoch(driver) == 0
    assert driver.kind("connection") == []


def test_3_8_stamps_far_behind_the_clock_do_not_count() -> None:
    """Low ids in lines stamped before the appliance's time - 300 s are old lines, not a reset."""
    driver = Driver().feed(at(1000, NEW.format(HIGH)))
    for n in range(1, 30):
        driver.feed(at(690 + n / 10, NEW.format(n)))
    assert epoch(driver) == 0
    for n in range(1, 30):
        driver.feed(at(700 + n / 10, NEW.format(100 + n)))
    assert epoch(driver) == 1


def test_3_8_old_open_entries_end_by_epoch_reset() -> None:
    """Connections and messages of the old life end with that word; those whose end is known keep it."""
    driver = Driver().feed(at(0, NEW.format(HIGH), f"Start MID 90 ICID {HIGH}", "Start MID 91 ICID 0"))
    for n in range(1, 22):
        driver.feed(at(1, NEW.format(n)))
    assert driver.message(90)["cisco_esa"]["message"]["end"] == "epoch_reset"
    assert driver.connection(HIGH)["cisco_esa"]["connection"]["end"] == "epoch_reset"
    assert driver.connection(HIGH)["cisco_esa"]["tls"]["outcome"] == "none", "its mail was started before"
    assert driver.connection(1)["cisco_esa"]["tls"] == {"outcome": "unknown", "evidence": "gap"}
    assert driver.count("esa_tls.epoch_resets") == 1


def test_3_8_ids_used_again_are_other_connections() -> None:
    """The same number in two epochs: two records with two ids, and no tombstone of the old life in the way."""
    driver = Driver().feed(at(0, NEW.format(30), "ICID 30 close", NEW.format(HIGH)))
    driver.feed(at(1, *(NEW.format(n) for n in range(1, 31)), "ICID 30 TLS success", "ICID 30 close")).end()
    old, new = (record for record in driver.kind("connection") if record["cisco_esa"]["icid"] == 30)
    assert (old["cisco_esa"]["epoch"], new["cisco_esa"]["epoch"]) == (0, 1)
    assert old["event"]["id"] != new["event"]["id"]
    assert new["cisco_esa"]["tls"]["outcome"] == "success"
    assert "flags" not in driver.lines()[-1]["cisco_esa"]


def test_3_8_the_order_number_never_resets() -> None:
    """`event.sequence` goes on over a reset."""
    driver = run(NEW, *range(1, 30)).end()
    assert [line["event"]["sequence"] for line in driver.lines()] == list(range(1, 31))


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("DCID 80 TLS failed: STARTTLS unexpected response", "starttls_unexpected_response"),
        ("DCID 80 STARTTLS command not supported.", "starttls_not_offered"),
        ("ICID 70 TLS was required but remote host did not initiate it", "required_not_offered"),
        ("DCID 80 IP 203.0.113.25 TLS was required but could not be successfully negotiated", "required_not_negotiated"),
        ("DCID 80 TLS failed: verify error: hostname mismatch", "certificate_verification"),
        ("ICID 70 TLS failed", "handshake"),
        (
            "ICID 70 TLS failed: (336109761, 'error:1408A0C1:SSL routines:SSL3_GET_CLIENT_HELLO:no shared cipher')",
            "protocol_or_cipher_mismatch",
        ),
        ("DCID 80 TLS failed: DANE verification failed", "dane"),
        ("ICID 70 TLS failed: [Errno 54] Connection reset by peer", "reset"),
        ("ICID 70 TLS failed: [Errno 60] Operation timed out", "timeout"),
        ("ICID 70 TLS failed: the moon is full", "other"),
    ],
)
def test_3_9_failure_classes_in_records(line: str, word: str) -> None:
    """Every class of the closed list comes out of a connection record, with the raw reason beside it (if the line gave one)."""
    number, kind = (80, "dcid") if line.startswith("DCID") else (70, "icid")
    failure = Driver().feed(at(0, line)).end().connection(number, kind)["cisco_esa"]["tls"]["failure"]
    assert failure["class"] == word
    if ": " in line:
        assert failure["reason"] == line.partition(": ")[2]
