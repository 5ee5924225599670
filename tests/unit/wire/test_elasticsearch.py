from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_tls.core.batch import Batch, Origin, Run
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.state import DictState
from esa_tls.offline.simulate import SimulationSettings, simulate
from esa_tls.wire import elasticsearch
from esa_tls.wire.elasticsearch import Answer, Bulk, Fate, body_of, classify, encode, error_of, halves, index_of, only
from esa_tls.wire.retry_after import SETTINGS_RETRY_S

Segments = list[tuple[int, int, str, bytes]]


def simulated(messages: int = 30) -> Segments:
    """What the core makes of simulated traffic, as the sink gets it."""
    lines = [line for _, line in simulate(SimulationSettings(seed=3, messages=messages))]
    pipeline = Pipeline(CoreSettings(appliance_name="esa1"), DictState(), encodings=("json",), now_s=1.7e9)
    segments: Segments = []
    for at in range(0, len(lines), 200):
        pipeline.feed(Batch([Run(Origin(tag="esa"), lines[at : at + 200])], 1), now_s=1.7e9)
        sealed = pipeline.seal()
        assert sealed is not None
        for row in sealed.rows:
            segments += [(len(segments), number, kind, body) for number, (kind, _, body) in enumerate(row.segments)]
    assert {"line", "connection", "delivery", "message"} <= {kind for _, _, kind, _ in segments}
    return segments


def pairs(bulks: list[Bulk]) -> list[tuple[dict[str, Any], bytes]]:
    """(action, source) of each record of the bodies, which have to be whole."""
    found = []
    for bulk in bulks:
        body = body_of(bulk)
        assert body.endswith(b"\n")
        assert len(body) == bulk.size
        lines = body.split(b"\n")[:-1]
        assert len(lines) == 2 * len(bulk.items) == 2 * len(bulk.places)
        found += [(json.loads(action), source) for action, source in zip(lines[::2], lines[1::2], strict=True)]
    return found


def test_a_body_is_an_action_and_the_outbox_bytes_for_each_record() -> None:
    """Every record of the core goes by `create` to its kind's data stream under its own id, byte for byte."""
    segments = simulated()
    found = pairs(encode(segments, namespace="prod", max_bytes=1 << 30, max_records=10**9))

    assert [source for _, source in found] == [line for *_, body in segments for line in body.splitlines()]
    for action, source in found:
        record = json.loads(source)
        stream = f"logs-cisco_esa.{record['cisco_esa']['record']}-prod"
        assert action == {"create": {"_index": stream, "_id": record["event"]["id"]}}


def test_no_record_of_the_core_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The id is found in its place: the decoder is for records that do not begin as ours do."""
    segments = simulated()
    monkeypatch.setattr(elasticsearch, "_slow_id", None)
    assert encode(segments, namespace="default", max_bytes=1 << 20, max_records=5000)


@pytest.mark.parametrize(
    ("line", "record_id"),
    [
        (b'{"event":{"sequence":1,"id":"a\\"b"},"x":1}', 'a"b'),
        (b'{"@timestamp" : "2026", "event" : { "id" : "c" }}', "c"),
        (b'{"x":"' + b"y" * 600 + b'","event":{"id":"d"}}', "d"),
        (b'{"log":{"file":{"path":"\\"event\\":{\\"id\\":\\"no"}},"event":{"id":"e"}}', "e"),
        (b'{"x":1}', None),
        (b"no JSON", None),
        (b"\xff", None),
    ],
)
def test_a_record_that_begins_otherwise_goes_too(line: bytes, record_id: str | None) -> None:
    """Its id is looked for; one without an id, and one that is broken, goes without, and the store decides."""
    [(action, source)] = pairs(encode([(1, 0, "line", line + b"\n")], namespace="d", max_bytes=1 << 20, max_records=9))
    assert source == line
    assert action["create"].get("_id") == record_id
    assert action["create"]["_index"] == "logs-cisco_esa.line-d"


@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=9),
    max_bytes=st.integers(60, 1500),
    max_records=st.integers(1, 12),
    done=st.sets(st.integers(0, 80)),
    sizes=st.randoms(use_true_random=False),
)
def test_requests_keep_order_and_limits(counts: list[int], max_bytes: int, max_records: int, done: set[int], sizes: Any) -> None:
    """Every record that is not done with is in exactly one request, in order, under its place; only a single one may be too large."""
    number = 0
    segments: Segments = []
    wanted = []
    for sequence, count in enumerate(counts):
        lines = [
            b'{"@timestamp":"2026-11-24T10:00:00Z","event":{"id":"%d"},"p":"%b"}\n' % (number + n, b"x" * sizes.randrange(200))
            for n in range(count)
        ]
        segments.append((sequence, 0, "line", b"".join(lines)))
        wanted += [((sequence, 0, n), str(number + n)) for n in range(count)]
        number += count
    places = {place for place, record_id in wanted if int(record_id) in done}
    bulks = encode(segments, namespace="d", max_bytes=max_bytes, max_records=max_records, done=places)

    ids = [action["create"]["_id"] for action, _ in pairs(bulks)]
    assert list(zip([place for bulk in bulks for place in bulk.places], ids, strict=True)) == [
        one for one in wanted if one[0] not in places
    ]
    for bulk in bulks:
        assert len(bulk.items) <= max_records
        assert bulk.size <= max_bytes or len(bulk.items) == 1
    for bulk, following in itertools.pairwise(bulks):  # none is smaller than it must be
        assert len(bulk.items) == max_records or bulk.size + len(following.items[0]) > max_bytes


@given(sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=30))
def test_halves_are_the_whole(sizes: list[int]) -> None:
    """Cut again and again, a request comes down to single records, none of them lost."""
    bulk = Bulk([b"x" * size for size in sizes], [(0, 0, n) for n in range(len(sizes))], sum(sizes))
    waiting, singles = [bulk], []
    while waiting:
        one = waiting.pop()
        parts = halves(one)
        if parts is None:
            singles.append(one)
            continue
        assert parts[0].items + parts[1].items == one.items
        assert parts[0].size + parts[1].size == one.size
        assert all(part.items for part in parts)
        waiting += (parts[1], parts[0])
    assert [one.places for one in singles] == [[place] for place in bulk.places]


def test_some_of_a_request() -> None:
    """`only` keeps records together with their places."""
    bulk = Bulk([b"a", b"bb", b"ccc"], [(1, 0, 0), (1, 0, 1), (2, 3, 0)], 6)
    assert only(bulk, [0, 2]) == Bulk([b"a", b"ccc"], [(1, 0, 0), (2, 3, 0)], 4)


def test_the_name_of_a_stream() -> None:
    """`{type}-{dataset}-{namespace}`."""
    assert index_of("delivery", "prod") == "logs-cisco_esa.delivery-prod"


# -- answers for records ---------------------------------------------------------------------------------------------------------
def answered(*items: dict[str, Any], records: int | None = None) -> Answer:
    """What is made of an answer with these items."""
    body = json.dumps({"took": 1, "errors": True, "items": [{"create": {"_index": ".ds-x-000001", **item}} for item in items]}).encode()
    return classify(200, body, records=len(items) if records is None else records)


def failed(status: int, name: str | None, reason: str = "why", **more: Any) -> dict[str, Any]:
    """An item that failed."""
    return {"status": status, "error": {"type": name, "reason": reason, **more}} if name else {"status": status}


FATES: list[tuple[dict[str, Any], str]] = [
    ({"status": 201}, "stored"),
    ({"status": 200, "result": "created"}, "stored"),
    ({"status": 201, "failure_store": "used"}, "diverted"),
    ({"status": 201, "failure_store": "not_applicable_or_unknown"}, "stored"),
    (failed(409, "version_conflict_engine_exception"), "known"),
    (failed(409, None), "known"),
    (failed(409, "resource_already_exists_exception"), "retry"),
    (failed(429, "es_rejected_execution_exception"), "retry"),
    (failed(429, "rejected_execution_exception"), "retry"),
    (failed(429, "circuit_breaking_exception"), "retry"),
    (failed(503, "unavailable_shards_exception"), "retry"),
    (failed(502, None), "retry"),
    (failed(504, "timeout_exception"), "retry"),
    (failed(408, None), "retry"),
    (failed(403, "cluster_block_exception"), "blocked"),
    (failed(429, "cluster_block_exception"), "blocked"),
    (failed(503, "cluster_block_exception"), "blocked"),
    (failed(400, "document_parsing_exception"), "poison"),
    (failed(400, "mapper_parsing_exception"), "poison"),
    (failed(400, "strict_dynamic_mapping_exception"), "poison"),
    (failed(400, "illegal_argument_exception", "Limit of total fields [1000] has been exceeded"), "poison"),
    (failed(413, None), "poison"),
    (failed(404, "index_not_found_exception"), "settings"),
    (failed(404, None), "settings"),
    (failed(401, "security_exception"), "settings"),
    (failed(403, "security_exception"), "settings"),
    (failed(400, "index_closed_exception"), "settings"),
    (failed(400, "validation_exception", "this cluster currently has [1000]/[1000] maximum normal shards open"), "settings"),
    (failed(400, "invalid_index_name_exception"), "settings"),
    (failed(500, "null_pointer_exception"), "doubtful"),
]


@pytest.mark.parametrize(("item", "then"), FATES, ids=[f"{item['status']} {item.get('error', item)} {then}"[:60] for item, then in FATES])
def test_what_becomes_of_a_record(item: dict[str, Any], then: str) -> None:
    """Each row of the table of item answers."""
    answer = answered(item)
    assert answer.then == "items"
    assert [fate.then for fate in answer.fates] == [then]
    assert answer.fates[0].index == ".ds-x-000001"
    told = item.get("error")
    if told is not None:
        assert answer.fates[0].reason == told["type"]
        assert told["reason"] in answer.fates[0].detail


def test_answers_are_in_the_order_of_the_request() -> None:
    """The fates of a mixed answer, one by one, and an `index` instead of `create` is read as well."""
    items = (b'{"create":{"status":201}}', b'{"index":{"status":400,"error":{"type":"t","reason":"r"}}}', b'{"create":{"status":201}}')
    body = b'{"errors":true,"items":[%b]}' % b",".join(items)
    assert [fate.then for fate in classify(200, body, records=3).fates] == ["stored", "poison", "stored"]


def test_the_words_of_a_refusal_name_the_cause() -> None:
    """What a dead letter says: the error, what caused it, no part twice, and not too much."""
    cause = {"type": "illegal_argument_exception", "reason": "'not-an-ip' is not an IP string literal."}
    deep = failed(
        400, "mapper_parsing_exception", "failed to parse field [source.ip] of type [ip]", caused_by={**cause, "caused_by": cause}
    )
    [fate] = answered(deep).fates
    assert fate == Fate(
        "poison",
        "mapper_parsing_exception",
        "mapper_parsing_exception: failed to parse field [source.ip] of type [ip]; caused by "
        "illegal_argument_exception: 'not-an-ip' is not an IP string literal.",
        ".ds-x-000001",
    )
    assert len(answered(failed(400, "t", "x" * 10_000)).fates[0].detail) == elasticsearch.MAX_DETAIL


def test_indices_are_remembered_within_bounds() -> None:
    """However many indices there are, fates stay right and few are kept."""
    for n in range(2500):
        body = b'{"errors":false,"items":[{"create":{"_index":"i-%d","status":201}}]}' % n
        assert classify(200, body, records=1).fates == [Fate("stored", index=f"i-{n}")]
    assert len(elasticsearch._STORED) <= 1001


# -- answers for the whole request -----------------------------------------------------------------------------------------------
def said(name: str, reason: str = "why") -> bytes:
    """An error as a store tells it."""
    return json.dumps({"error": {"root_cause": [], "type": name, "reason": reason}, "status": 0}).encode()


WHOLE = [
    (429, b"", "retry", "http_429"),
    (429, said("es_rejected_execution_exception"), "retry", "es_rejected_execution_exception"),
    (502, b"<html>bad gateway</html>", "retry", "http_502"),
    (503, said("unavailable"), "retry", "unavailable"),
    (504, b"", "retry", "http_504"),
    (500, b"", "retry", "http_500"),
    (408, b"", "retry", "http_408"),
    (413, b"", "too_large", "too_large"),
    (413, b"<html>", "too_large", "too_large"),
    (400, said("illegal_argument_exception", "The bulk request must be terminated by a newline"), "refused", "illegal_argument_exception"),
    (400, b"The plain HTTP request was sent to HTTPS port", "settings", "http_400"),
    (400, b'{"error":"no handler found for uri [/_bulk]"}', "settings", "http_400"),
    (401, said("security_exception"), "settings", "security_exception"),
    (403, said("security_exception"), "settings", "security_exception"),
    (403, said("cluster_block_exception"), "blocked", "cluster_block_exception"),
    (429, said("cluster_block_exception"), "blocked", "cluster_block_exception"),
    (404, said("index_not_found_exception"), "settings", "index_not_found_exception"),
    (405, b"", "settings", "http_405"),
    (406, b"", "settings", "http_406"),
    (415, b"", "settings", "http_415"),
    (302, b"", "settings", "http_302"),
]


@pytest.mark.parametrize(("status", "body", "then", "reason"), WHOLE)
def test_what_follows_from_a_request(status: int, body: bytes, then: str, reason: str) -> None:
    """Each row of the table of whole answers; somebody is told the status and the words."""
    answer = classify(status, body, records=3)
    assert (answer.then, answer.reason) == (then, reason)
    assert answer.message.startswith(str(status))
    assert (answer.after_s == SETTINGS_RETRY_S) == (then == "settings")


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"errors":false}', b"<html>", b'{"errors":false,"items":[{"create":{"status":201}}]}', b"\xff"]
)
def test_a_success_that_says_too_little_is_none(body: bytes) -> None:
    """An answer that was cut, or is for another number of records, is asked for again: ids make it harmless."""
    answer = classify(200, body, records=2)
    assert (answer.then, answer.reason) == ("retry", "unreadable")


def test_a_time_to_wait_is_kept_to() -> None:
    """`Retry-After` in seconds and as a date."""
    assert classify(429, b"", records=1, retry_after="7").after_s == 7.0
    assert classify(503, b"", records=1, retry_after="Tue, 24 Nov 2026 10:00:09 GMT", now_s=1_795_514_400.0).after_s == 9.0
    assert classify(503, b"", records=1).after_s is None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (said("a", "b"), ("a", "a: b")),
        (b'{"error":{"type":"a"}}', ("a", "a")),
        (b'{"error":"no handler found"}', ("", "no handler found")),
        (b"\xffx", ("", "\\xffx")),
        (b"", ("", "")),
        (b"[]", ("", "[]")),
    ],
)
def test_what_an_error_says(body: bytes, told: tuple[str, str]) -> None:
    """The name that a store gives it, and words whoever said them."""
    assert error_of(body) == told
