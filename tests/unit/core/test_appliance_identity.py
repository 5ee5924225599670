"""docs/correlation.md 3.10: whose line it is."""

from __future__ import annotations

import pytest
from tests.unit.core.driver import Driver, at, syslog

from esa_tls.core.batch import Origin

NEW = "New SMTP ICID 70 interface private address 198.51.100.7"
ALL = Origin(record_appliance="record", otlp_host="otlp", tag="tag", peer="192.0.2.9")


def name_of(origin: Origin, *, host: str = "", **settings: object) -> str:
    """The appliance of one line."""
    driver = Driver(now_s=1_763_950_000, **({"appliance_from": Driver().settings.appliance_from} | settings))  # type: ignore[arg-type]
    lines = syslog(0, NEW, host=host) if host else at(0, NEW)
    (record,) = driver.feed(lines, origin=origin).end().kind("connection")
    assert record["cisco_esa"]["connection"]["id"] == f"{record['host']['name']}/0/ICID/70"
    assert record["cisco_esa"]["appliance"] == record["host"]["name"]
    return str(record["host"]["name"])


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        (ALL, "syslog", "record"),
        (Origin(otlp_host="otlp", tag="tag", peer="p"), "syslog", "syslog"),
        (Origin(otlp_host="otlp", tag="tag", peer="p"), "", "otlp"),
        (Origin(tag="tag", peer="p"), "", "tag"),
        (Origin(peer="p"), "", "p"),
        (Origin(), "", "esa"),
        (Origin(record_appliance="", tag="tag"), "", "tag"),
    ],
)
def test_3_10_the_first_of_the_default_list_that_yields_a_name(origin: Origin, host: str, expected: str) -> None:
    """Record key, syslog host, OTLP host, tag, peer; then a name that is always there."""
    assert name_of(origin, host=host) == expected


def test_3_10_the_configured_list_decides() -> None:
    """Another order, or fewer sources."""
    assert name_of(ALL, host="syslog", appliance_from=("peer", "record:appliance")) == "192.0.2.9"
    assert name_of(Origin(tag="tag"), appliance_from=("peer",), default_appliance="box") == "box"


def test_3_10_a_configured_name_fixes_it() -> None:
    """Whatever the lines say."""
    assert name_of(ALL, host="syslog", appliance_name="the-one") == "the-one"


def test_3_10_the_syslog_host_nearest_to_the_body() -> None:
    """A relay's host stands further left."""
    driver = Driver(appliance_from=("syslog:host",), now_s=1_763_950_000)
    driver.feed([b"<111>Nov 24 00:00:24 relay1 ESA: Nov 24 00:00:00 192.0.2.5 mail_logs: Info: " + NEW.encode()]).end()
    assert driver.kind("connection")[0]["host"]["name"] == "192.0.2.5"


def test_3_10_the_listener_trusts_a_host_only_if_told_so() -> None:
    """Without `trust_host` the peer's address counts, and the host is not even shown."""
    for trust, expected in ((False, "192.0.2.9"), (True, "forged")):
        driver = Driver(appliance_from=("syslog:host", "peer"), now_s=1_763_950_000)
        driver.feed(syslog(0, NEW, host="forged"), origin=Origin(peer="192.0.2.9", trust_host=trust)).end()
        record = driver.kind("connection")[0]
        assert record["host"]["name"] == expected
        assert record.get("observer", {}).get("hostname") == ("forged" if trust else None)


def test_3_10_two_boxes_never_share_an_id_space() -> None:
    """The same ICID and MID on two boxes in one batch: two connections, two messages, each with its own TLS."""
    driver = Driver(appliance_from=("syslog:host",), now_s=1_763_950_000)
    lines = [
        line
        for n, pair in enumerate(
            ((NEW, NEW), ("ICID 70 TLS success", "ICID 70 ACCEPT SG A match ALL SBRS None"), ("Start MID 90 ICID 70",) * 2)
        )
        for host, text in zip(("one", "two"), pair, strict=True)
        for line in syslog(n, text, host=host)
    ]
    driver.feed(lines).end()
    found = {record["host"]["name"]: record["cisco_esa"]["reception"]["tls"]["outcome"] for record in driver.kind("message")}
    assert found == {"one": "success", "two": "none"}
    assert len({record["event"]["id"] for record in driver.records}) == len(driver.records)


def test_a_name_is_bounded_and_holds_no_nul() -> None:
    """A NUL separates names in the state's keys."""
    assert name_of(Origin(tag="a\0b" + "x" * 300)) == ("ab" + "x" * 300)[:255]


def test_version_and_serial_number_are_kept_over_a_restart() -> None:
    """From the head of a log file, on all summaries of the box after it; of the lines only that one says it."""
    driver = Driver().feed(at(0, "Version: 14.0.0-698 SN: 421F-C9AE", NEW)).restart().feed(at(1, "ICID 70 close"))
    expected = {"version": "14.0.0-698", "serial_number": "421F-C9AE"}
    assert [record.get("observer", {}) for record in driver.kind("line")][::2] == [expected, {}]
    assert expected.items() <= driver.kind("connection")[0]["observer"].items()
