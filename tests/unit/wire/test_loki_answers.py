"""What a Loki's answers mean, in its own words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contract.http_receiver import Posted
from tests.contract.loki_stub import NS, LokiStub, Stored, sent
from tests.unit.wire.test_loki import entry, placed

from esa_tls.wire.loki import Push, body_of, pushes_of, snappy
from esa_tls.wire.loki_answers import Refusal, classify, refusal_of

S = 1_764_000_000
"""2025-11-24T16:00:00Z."""


def push_of(*times_s: float) -> Push:
    """A request with entries of these times."""
    [[push]] = pushes_of(placed([entry(round(time_s * NS), str(n)) for n, time_s in enumerate(times_s)]), max_bytes=1 << 24)
    return push


# -- statuses --------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("status", "text", "then", "after_s"),
    [
        (204, "", "done", None),
        (200, "", "done", None),
        (202, "", "done", None),
        (260, "", "settings", 30.0),
        (301, "", "settings", 30.0),
        (400, "no org id\n", "settings", 30.0),
        (401, "no org id\n", "settings", 30.0),
        (403, "", "settings", 30.0),
        (404, "", "settings", 30.0),
        (400, "ingestion blocked for user t until '2026-01-01T00:00:00Z' with status code '400'", "settings", 30.0),
        (400, "stream '{a=\"b\"}' includes structured metadata, but this feature is disallowed. Please see ...", "settings", 30.0),
        (400, "entry for stream '{}' has 16 label names; limit 15", "settings", 30.0),
        (400, 'missing required labels env for user t for stream {a="b"}', "settings", 30.0),
        (400, "entry for stream '{a=\"b\"}' has timestamp too new: 2025-11-24T16:00:00Z", "refused", None),
        (400, 'cannot parse common params from request: cannot parse accountID from "tenant1": ...', "settings", 30.0),
        (400, 'unsupported path requested: "/loki/api/v1/push"', "settings", 30.0),
        (400, "cannot read Loki protobuf data: too big data size exceeding -loki.maxRequestSize=10000 bytes", "too_large", None),
        (400, "cannot read Loki protobuf data: cannot decompress data: snappy: corrupt input", "refused", None),
        (400, "what?", "refused", None),
        (422, "error at least one valid stream is required for ingestion", "refused", None),
        (413, "", "too_large", None),
        (400, "rpc error: code = ResourceExhausted desc = trying to send message larger than max (5 vs. 4)", "too_large", None),
        (429, "", "retry", None),
        (499, "", "retry", None),
        (500, "", "retry", None),
        (503, "", "retry", None),
    ],
)
def test_what_follows_from_an_answer(status: int, text: str, then: str, after_s: float | None) -> None:
    """By status, and of a 400 by its text."""
    verdict = classify(status, text)
    assert (verdict.then, verdict.after_s) == (then, after_s)


def test_retry_after_is_heard() -> None:
    """Seconds, of what is to be tried again."""
    assert classify(429, retry_after="7").after_s == 7.0
    assert classify(429, retry_after="Mon, 24 Nov 2025 16:00:10 GMT", now_s=S).after_s == 10.0


# -- texts -----------------------------------------------------------------------------------------------------------------------
OLD = "entry for stream '{a=\"b\"}' has timestamp too old: 2025-11-24T15:59:58Z, oldest acceptable timestamp is: 2025-11-24T16:00:00Z"
NEW = "entry for stream '{a=\"b\"}' has timestamp too new: 2025-11-24T16:00:03Z"
BEHIND = "entry with timestamp 2025-11-24 15:59:58 +0000 UTC ignored, reason: 'entry too far behind, entry timestamp is: "
BEHIND += "2025-11-24T15:59:58Z, oldest acceptable timestamp is: 2025-11-24T16:00:00Z',\n"
PUSH = push_of(S - 2, S - 1, S, S + 0.5, S + 1, S + 3)

OLDER = OLD.replace("15:59:58", "15:59:59")
OLDEST = OLD.replace("15:59:58", "16:00:00")
NEWER = NEW.replace("16:00:03", "16:00:01")
REST = [2, 3, 4, 5]

TEXTS: dict[str, tuple[str, dict[int, str], list[int]]] = {
    "too old": (f"1 errors like: {OLD}; 1 errors like: {OLDER}", dict.fromkeys([0, 1], "greater_than_max_sample_age"), []),
    "too old, part of a second": (
        f"1 errors like: {OLD}; 1 errors like: {OLDEST}; 1 errors like: {OLDER}",
        dict.fromkeys([0, 1, 2], "greater_than_max_sample_age"),
        [],
    ),
    "too old, each told": (f"{OLD}; {OLDER}", dict.fromkeys([0, 1], "greater_than_max_sample_age"), []),
    "too old, not all told": (OLD, dict.fromkeys([0, 1], "greater_than_max_sample_age"), REST),
    "too old, another zone": (
        f"2 errors like: {OLD.replace('16:00:00Z', '17:00:00+01:00')}",
        dict.fromkeys([0, 1], "greater_than_max_sample_age"),
        [],
    ),
    "too new": (NEW, {5: "too_far_in_future"}, []),
    "too new, two seconds": (f"1 errors like: {NEW}; 1 errors like: {NEWER}", dict.fromkeys([4, 5], "too_far_in_future"), []),
    "too new, not all told": (NEWER, dict.fromkeys([4, 5], "too_far_in_future"), [0, 1, 2, 3]),
    "too old and too new": (
        f"2 errors like: {OLD}; 1 errors like: {NEW}",
        {**dict.fromkeys([0, 1], "greater_than_max_sample_age"), 5: "too_far_in_future"},
        [],
    ),
    "behind": (f"{BEHIND}user 'fake', total ignored: 2 out of 6 for stream: {{}}", dict.fromkeys([0, 1], "too_far_behind"), []),
    "behind, part of a second": (f"{BEHIND}user 'f', total ignored: 4 out of 6 for", dict.fromkeys([0, 1, 2, 3], "too_far_behind"), []),
    "behind, others missing": (f"{BEHIND}user 'f', total ignored: 2 out of 5 for", dict.fromkeys([0, 1], "too_far_behind"), REST),
    "behind, with others": (
        f"{BEHIND}entry with timestamp x ignored, reason: 'Per stream rate limit exceeded',\nuser 'f', total ignored: 3 out of 6",
        dict.fromkeys([0, 1], "too_far_behind"),
        REST,
    ),
    "behind, without a total": (BEHIND, dict.fromkeys([0, 1], "too_far_behind"), REST),
    "a label": ("stream '{a=\"b\"}' has label value too long: 'b'", dict.fromkeys(range(6), "label_value_too_long"), []),
    "labels": ("Error parsing labels '{' with error: parse error", dict.fromkeys(range(6), "invalid_labels"), []),
}


@pytest.mark.parametrize("name", TEXTS)
def test_who_a_text_is_about(name: str) -> None:
    """Refused, unclear; everything else is stored."""
    text, refused, unclear = TEXTS[name]
    assert refusal_of(text, PUSH) == Refusal(refused, unclear)


def test_a_text_that_is_cut_off() -> None:
    """What it says is so, though it adds up; behind it something else may have stood."""
    text = f"2 errors like: {OLD}; 1 errors like: entry for str"
    assert refusal_of(text, PUSH, whole=False) == Refusal(dict.fromkeys([0, 1], "greater_than_max_sample_age"), REST)


@pytest.mark.parametrize("text", ["", "what?", "snappy: corrupt input", "cannot parse the request"])
def test_a_text_that_says_nothing_of_entries(text: str) -> None:
    """Nothing is known."""
    assert refusal_of(text, PUSH) is None


def test_entries_above_a_limit_are_found_by_their_size() -> None:
    """Of the line, of the metadata, of their number: what is above what was told, and nothing else."""
    entries = [entry(n, "x" * n, pad="y" * (40 - n), **{f"n{i}": "" for i in range(n // 10)}) for n in range(41)]
    [[push]] = pushes_of(placed(entries), max_bytes=1 << 20)

    def found(text: str) -> list[int]:
        refusal = refusal_of(text, push)
        assert refusal is not None
        assert refusal.unclear == []
        return sorted(refusal.refused)

    assert found("Max entry size '30' bytes exceeded for stream '{}' while adding an entry with length '40' bytes") == list(range(31, 41))
    assert found("stream '{}' has structured metadata too large: '43' bytes, limit: '40' bytes. Please see ...") == [0, 1, 2]
    assert found("stream '{}' has too many structured metadata labels: '5', limit: '4'. Please see ...") == [40]


@given(
    st.lists(st.floats(-4000, 4000), min_size=1, max_size=40),
    st.floats(-2000, 2000),
    st.sampled_from([None, 500.0]),
    st.sampled_from([None, 700.0]),
    st.one_of(st.none(), st.integers(0, 3000)),
)
def test_what_is_known_is_so(
    offsets_s: list[float], now_s: float, max_age_s: float | None, window_s: float | None, cut: int | None
) -> None:
    """Whatever a Loki refuses, and if its text is cut off: what is said to be refused was, and all that was is refused or unclear."""
    stub = LokiStub(now_s=S + now_s, max_age_s=max_age_s, window_s=window_s)
    post(stub, sent({'{a="b"}': [Stored(round((S + 300) * NS), "before", ())]}))
    push = push_of(*(S + offset for offset in offsets_s))
    status, text = post(stub, snappy(body_of(push, "protobuf")))
    stored = {entry.line for entry in stub.entries}
    lines = [str(place[2]) for place in push.places]
    if status == 204:
        assert set(lines) <= stored
        return
    refusal = refusal_of(text[:cut], push, whole=cut is None)
    if refusal is None:
        assert cut is not None
        return
    assert not refusal.refused.keys() & set(refusal.unclear)
    for number, line in enumerate(lines):
        assert number in refusal.unclear or (number in refusal.refused) == (line not in stored)
    if cut is None and window_s is None:
        assert refusal.unclear == []


def post(stub: LokiStub, body: bytes) -> tuple[int, str]:
    """What the stub says to a push."""
    reply = stub.answer(Posted("/loki/api/v1/push", {}, {"content-type": "application/x-protobuf"}, body, body))
    return reply.status, reply.body.decode()
