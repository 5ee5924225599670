"""What both OTLP sources share: sessions of requests."""

from __future__ import annotations

from tests.unit.sources.otlp_servers import MemoryIntake

from esa_tls.sources.otlp import _Flights


def test_a_session_ends_when_all_that_overlapped_with_it_have_ended() -> None:
    """1 overlaps with 2, and 2 with 3: 1 waits for 2 only, and 2 and 3 end together."""
    intake = MemoryIntake()
    flights = _Flights(intake)

    def closed() -> list[tuple[int, bool | None]]:
        return [(number, clean) for what, number, clean in intake.sessions if what == "close"]

    assert [flights.begin("p"), flights.begin("p")] == [1, 2]
    flights.end(1, clean=True)
    assert closed() == []
    assert flights.begin("p") == 3
    flights.end(2, clean=False)
    assert closed() == [(1, True)]
    flights.end(3, clean=True)
    assert closed() == [(1, True), (2, False), (3, True)]
    assert flights.begin("p") == 4
    flights.end(4, clean=True)
    assert closed()[3:] == [(4, True)]
