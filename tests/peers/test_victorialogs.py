"""VictoriaLogs as tests have it: what it took is found by query, and it keeps that over an end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.peers.querying import VictoriaLogs

pytestmark = pytest.mark.timeout(60, func_only=True)  # a first run builds it before

LABELS: dict[str, object] = {"service_name": "esa-tls", "appliance": "esa1", "kind": "delivery"}


def entry(number: int, line: str) -> list[object]:
    """One entry with structured metadata."""
    return [str(1_700_000_000_000_000_000 + number), line, {"cisco_esa_dcid": str(number)}]


def test_what_it_took_is_found_also_after_an_end(victoria_logs: VictoriaLogs) -> None:
    """Labels and structured metadata are fields by their names, the line is `_msg` also where it is JSON, nanoseconds are kept."""
    victoria_logs.push([{"stream": LABELS, "values": [entry(1, "one"), entry(2, '{"a": 1}')]}])
    for _ in range(2):
        (row,) = victoria_logs.query('{service_name="esa-tls",kind="delivery"} cisco_esa_dcid:="2"')
        assert row.items() >= {**LABELS, "_msg": '{"a": 1}', "_time": "2023-11-14T22:13:20.000000002Z"}.items()
        assert victoria_logs.query("* | stats count() n") == [{"n": "2"}]
        assert victoria_logs.dropped() == {}
        victoria_logs.end()
        victoria_logs.start()


def test_what_it_drops_is_told(victoria_logs_node: Callable[..., VictoriaLogs]) -> None:
    """A row older than the retention is answered for and not kept: `dropped` says so."""
    node = victoria_logs_node("-retentionPeriod=7d").start()
    node.push([{"stream": LABELS, "values": [entry(1, "one")]}])
    assert node.query("*") == []
    assert node.dropped() == {"too_small_timestamp": 1}
