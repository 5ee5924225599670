"""OTLP requests from records in the encoding `otlp`: resources, scopes, and cutting to a size (docs/wires.md 2.1, 2.2). Pure.

`ExportLogsServiceRequest` = `resource_logs` fields, one per appliance = `resource` + `scope_logs` = `scope` + records. Records are
spliced as they are, so a request costs what copying it costs. Resource and scope carry what is the same for all records
(docs/selection.md, "Constants").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

import msgspec

from esa_tls.core.encode_otlp import appliance_of
from esa_tls.core.protobuf import field, key_value, message_ends, varint
from esa_tls.core.records import SCHEMA_VERSION

__all__ = ["Cut", "Request", "cut_requests", "resource_logs", "split"]

SERVICE = "esa-tls"

RESOURCE = {
    "service.name": SERVICE,
    "observer.vendor": "Cisco",
    "observer.product": "Secure Email Gateway",
    "observer.type": "email-gateway",
}
"""Resource attributes of every appliance, beside `host.name`."""

SCOPE = {
    "event.kind": "event",
    "event.module": "cisco_esa",
    "network.transport": "tcp",
    "network.protocol.name": "smtp",
    "cisco_esa.schema_version": SCHEMA_VERSION,
}
"""Scope attributes."""


class Cut(msgspec.Struct, frozen=True):
    """A stretch of records: `first` to before `after` of segment `segment` of row `row`."""

    row: int
    segment: int
    first: int
    after: int


class Request(msgspec.Struct, frozen=True):
    """One request's bytes, the number of its records and where they came from."""

    body: bytes
    records: int
    cuts: list[Cut]


@lru_cache(maxsize=4096)
def _resource(appliance: str) -> bytes:
    attributes = {"host.name": appliance, **RESOURCE}
    return field(1, b"".join([field(1, key_value(key, value)) for key, value in attributes.items()]))


@lru_cache(maxsize=8)
def _scope(version: str) -> bytes:
    head = field(1, b"esa_tls") + field(2, version.encode())
    return field(1, head + b"".join([field(3, key_value(key, value)) for key, value in SCOPE.items()]))


def resource_logs(appliance: str, records: Sequence[bytes], *, version: str) -> bytes:
    """One `ExportLogsServiceRequest.resource_logs` field of one appliance's records (each piece whole records). `version`: ours."""
    scope = _scope(version)
    resource = _resource(appliance)
    size = len(scope) + sum(map(len, records))
    inner = b"\x12" + varint(size)
    return b"".join((b"\x0a", varint(len(resource) + len(inner) + size), resource, inner, scope, *records))


def _overhead_bytes(appliance: str, version: str) -> int:
    """More than resource, scope, tags and lengths take."""
    return len(_resource(appliance)) + len(_scope(version)) + 24


class _Open:
    """A request being filled."""

    def __init__(self) -> None:
        self.pieces: dict[str, list[bytes]] = {}
        self.cuts: list[Cut] = []
        self.size = 0
        self.records = 0


def cut_requests(
    segments: Iterable[tuple[int, int, int, bytes]], *, max_bytes: int, version: str
) -> tuple[list[Request], Mapping[Cut, int]]:
    """Requests of at most `max_bytes` from (row, segment, records, body), in order; and the records that fit none, with their size.

    Borders of records are looked for only in a segment that does not fit what is left of a request.
    """
    requests: list[Request] = []
    too_large: dict[Cut, int] = {}
    filling = _Open()

    def flush() -> None:
        nonlocal filling
        if filling.cuts:
            body = b"".join([resource_logs(name, pieces, version=version) for name, pieces in filling.pieces.items()])
            requests.append(Request(body, filling.records, filling.cuts))
        filling = _Open()

    def put(appliance: str, body: bytes, cut: Cut) -> bool:
        """Take a piece if there is room for it."""
        size = len(body) + (0 if appliance in filling.pieces else _overhead_bytes(appliance, version))
        if filling.size + size > max_bytes:
            return False
        filling.pieces.setdefault(appliance, []).append(body)
        filling.cuts.append(cut)
        filling.size += size
        filling.records += cut.after - cut.first
        return True

    for row, segment, count, body in segments:
        appliance = appliance_of(body)
        if put(appliance, body, Cut(row, segment, 0, count)):
            continue
        start = first = 0
        ends = message_ends(body)
        while first < len(ends):
            room = max_bytes - filling.size - (0 if appliance in filling.pieces else _overhead_bytes(appliance, version))
            after = first
            while after < len(ends) and ends[after] - start <= room:
                after += 1
            if after > first:
                put(appliance, body[start : ends[after - 1]], Cut(row, segment, first, after))
                start, first = ends[after - 1], after
            elif filling.cuts:
                flush()
            else:  # alone in a request, and still too large
                too_large[Cut(row, segment, first, first + 1)] = ends[first] - start
                start, first = ends[first], first + 1
    flush()
    return requests, too_large


def split(request: Request, segment_of: Callable[[Cut], bytes], *, version: str) -> tuple[Request, Request] | None:
    """The two halves of a request, by records; None if it has a single one. `segment_of`: the segment that a cut is of."""
    if request.records < 2:
        return None
    halves: tuple[list[Cut], list[Cut]] = ([], [])
    room = request.records // 2
    for cut in request.cuts:
        middle = min(cut.first + room, cut.after)
        if middle > cut.first:
            halves[0].append(Cut(cut.row, cut.segment, cut.first, middle))
        if middle < cut.after:
            halves[1].append(Cut(cut.row, cut.segment, middle, cut.after))
        room -= middle - cut.first
    return _request_of(halves[0], segment_of, version), _request_of(halves[1], segment_of, version)


def _request_of(cuts: list[Cut], segment_of: Callable[[Cut], bytes], version: str) -> Request:
    pieces: dict[str, list[bytes]] = {}
    for cut in cuts:
        body = segment_of(cut)
        ends = [0, *message_ends(body)]
        pieces.setdefault(appliance_of(body), []).append(body[ends[cut.first] : ends[cut.after]])
    body = b"".join([resource_logs(name, parts, version=version) for name, parts in pieces.items()])
    return Request(body, sum(cut.after - cut.first for cut in cuts), cuts)
