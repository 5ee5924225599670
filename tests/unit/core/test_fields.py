"""The table of fields. That every record of all tests fits it is checked where they are decoded (`driver.check`)."""

from __future__ import annotations

import pytest
from tests.unit.core.driver import T0, Driver, Record, at, check, walk

from esa_tls.core.fields import FIELDS
from esa_tls.core.records import ACTIONS, KINDS


def test_every_path_stands_once_with_known_kinds() -> None:
    """No path is listed twice, none is at once a value and an object that is no list."""
    paths = [field.path for field in FIELDS]
    assert len(set(paths)) == len(paths)
    assert all(field.kinds and set(field.kinds) <= set(KINDS) and field.meaning for field in FIELDS)
    nested = {field.path for field in FIELDS if field.type == "nested"}
    for path in paths:
        parents = {path[:at] for at, char in enumerate(path) if char == "."}
        assert not parents & (set(paths) - nested)


def test_nested_lists_are_arrays() -> None:
    """`deliveries[]` and `recipients[]` and nothing else."""
    assert {field.path for field in FIELDS if field.type == "nested" and field.many} == {"cisco_esa.deliveries", "cisco_esa.recipients"}


@pytest.mark.parametrize(
    "break_it",
    [
        lambda record: record["cisco_esa"].update(invented=1),
        lambda record: record["cisco_esa"].update(icid="70"),
        lambda record: record["cisco_esa"].update(mail_flow=""),
        lambda record: record["cisco_esa"].update(mail_flow=None),
        lambda record: record["cisco_esa"].update(flags=[]),
        lambda record: record["cisco_esa"]["tls"].update(outcome="pending"),
        lambda record: record["source"].update(ip="no address"),
        lambda record: record["event"].update({"@timestamp": "yesterday"}),
        lambda record: record.update(log={}),
    ],
)
def test_the_check_can_fail(break_it: object) -> None:
    """A record with a field too many, of another type, null, empty, or pending is refused."""
    driver = Driver().feed(at(0, "New SMTP ICID 70 interface private address 198.51.100.7", "ICID 70 close")).end()
    record: Record = driver.connection(70)
    check(record)
    assert callable(break_it)
    break_it(record)
    with pytest.raises((AssertionError, ValueError)):
        check(record)


def test_actions_of_lines_are_a_closed_list() -> None:
    """Every action that a line record has stands in `records.ACTIONS`, with its category and types."""
    driver = Driver(now_s=T0).feed(at(0, "ICID 7 REJECT SG A match ALL SBRS None", "ICID 8 ACCEPT SG A match ALL SBRS None", "x y")).end()
    found = [(record["event"]["action"], record["event"].get("type")) for record in driver.lines()]
    assert sorted(found) == [
        ("hat-decided", ["connection", "allowed"]),
        ("hat-decided", ["connection", "denied"]),
        ("unrecognised", None),
    ]
    assert {name for name, _ in found} <= set(ACTIONS)
    assert all(path.split(".")[0] in ("@timestamp", "event", "host", "cisco_esa", "log", "network") for path, _ in walk(driver.lines()[0]))
