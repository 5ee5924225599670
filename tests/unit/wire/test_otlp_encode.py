"""Requests put together from segments, read back by the protobuf runtime."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from esa_tls.core.encode_otlp import attribute
from esa_tls.core.protobuf import field
from esa_tls.wire.otlp_encode import RESOURCE, SCOPE, Cut, Request, cut_requests, split

VERSION = "1.2.3"

Segment = tuple[int, int, int, bytes]


def record(appliance: str, number: int, pad: int = 0) -> bytes:
    """A record as the encoder makes it: the appliance first."""
    return field(2, attribute("cisco_esa.appliance", appliance) + attribute("n", number) + attribute("pad", "x" * pad))


def segments(*made: tuple[str, list[int]]) -> tuple[list[Segment], dict[tuple[int, int], list[tuple[str, int]]]]:
    """Segments with records of these paddings, numbered through, one a row; and what is in each."""
    found, inside, number = [], {}, 0
    for row, (appliance, pads) in enumerate(made):
        bodies = []
        inside[row, 0] = [(appliance, number + n) for n in range(len(pads))]
        for pad in pads:
            bodies.append(record(appliance, number, pad))
            number += 1
        found.append((row, 0, len(pads), b"".join(bodies)))
    return found, inside


def numbers(request: Request) -> list[tuple[str, int]]:
    """(host.name of the resource, number) of every record of a request."""
    found = []
    for group in ExportLogsServiceRequest.FromString(request.body).resource_logs:
        resource = {pair.key: pair.value.string_value for pair in group.resource.attributes}
        host = resource.pop("host.name")
        assert resource == RESOURCE
        for scope in group.scope_logs:
            assert (scope.scope.name, scope.scope.version) == ("esa_tls", VERSION)
            assert {pair.key for pair in scope.scope.attributes} == set(SCOPE)
            for one in scope.log_records:
                attributes = {pair.key: pair.value for pair in one.attributes}
                assert attributes["cisco_esa.appliance"].string_value == host
                found.append((host, attributes["n"].int_value))
    return found


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c" * 40]), st.lists(st.sampled_from([0, 1, 100, 130, 700]), min_size=1, max_size=6)),
        max_size=6,
    ),
    st.integers(500, 3000),
)
def test_every_record_goes_out_once_or_is_named(made: list[tuple[str, list[int]]], max_bytes: int) -> None:
    """Whatever the limit: no request above it, one resource per appliance in each, order kept per appliance, places told right."""
    given_segments, inside = segments(*made)
    requests, too_large = cut_requests(given_segments, max_bytes=max_bytes, version=VERSION)
    sent: list[tuple[str, int]] = []
    for request in requests:
        found = numbers(request)
        assert len(request.body) <= max_bytes
        assert len(found) == request.records == len(set(found))
        assert sorted(found) == sorted(one for cut in request.cuts for one in inside[cut.row, cut.segment][cut.first : cut.after])
        assert len(ExportLogsServiceRequest.FromString(request.body).resource_logs) == len({host for host, _ in found})
        sent += found
    refused = [inside[cut.row, cut.segment][cut.first] for cut in too_large]
    assert all(size > max_bytes - 500 for size in too_large.values())  # resource and scope take the rest
    assert sorted(sent + refused) == sorted(one for many in inside.values() for one in many)
    for appliance in {"a", "b", "c" * 40}:
        mine = [number for host, number in sent if host == appliance]
        assert mine == sorted(mine)


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.lists(st.just(0), min_size=1, max_size=6)), min_size=1, max_size=4))
def test_halves_hold_the_same_records(made: list[tuple[str, list[int]]]) -> None:
    """A request is cut again and again down to single records, and none is lost."""
    given_segments, inside = segments(*made)
    (request,), _ = cut_requests(given_segments, max_bytes=1 << 20, version=VERSION)

    def pieces(one: Request) -> list[list[tuple[str, int]]]:
        halves = split(one, lambda cut: given_segments[cut.row][3], version=VERSION)
        if halves is None:
            assert one.records == 1
            return [numbers(one)]
        assert halves[0].records == one.records // 2
        assert sorted(numbers(halves[0]) + numbers(halves[1])) == sorted(numbers(one))
        return pieces(halves[0]) + pieces(halves[1])

    assert sorted(chain.from_iterable(pieces(request))) == sorted(chain.from_iterable(inside.values()))


def test_a_segment_that_fits_is_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """Borders of records are looked for only where a segment has to be cut."""
    monkeypatch.setattr("esa_tls.wire.otlp_encode.message_ends", lambda _: pytest.fail("looked"))
    given_segments, _ = segments(("a", [1, 2, 3]), ("b", [1]))
    requests, too_large = cut_requests(given_segments, max_bytes=1 << 20, version=VERSION)
    assert ([4], {}) == ([one.records for one in requests], too_large)
    assert requests[0].cuts == [Cut(0, 0, 0, 3), Cut(1, 0, 0, 1)]


def test_nothing_to_send() -> None:
    """No segments, no requests."""
    assert cut_requests([], max_bytes=100, version=VERSION) == ([], {})
