"""Push requests of Loki: bytes, streams, cutting (docs/wires.md 4.1)."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 4.3)

from __future__ import annotations

import json

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contract.loki_stub import Stored, read_json, read_protobuf, sent

from esa_tls.core.protobuf import field
from esa_tls.wire.loki import Place, Push, body_of, halves, only, pushes_of, snappy, stream_of
from esa_tls.wire.loki_entries import Entry, label_text

VECTOR = "0a280a0b7b6a6f623d22657361227d12190a0808f8cdb3af051001120268691a090a036d696412023432"
ENTRY = bytes.fromhex("12190a0808f8cdb3af051001120268691a090a036d696412023432")
TIME_NS = 1441588984000000001


def entry(time_ns: int, line: str, labels: str = '{a="b"}', **metadata: str) -> Entry:
    """An entry, by the protobuf runtime."""
    body = bytes(cramjam.snappy.decompress_raw(sent({labels: [Stored(time_ns, line, tuple(metadata.items()))]})))
    head = field(1, labels.encode())
    return time_ns, labels, body[body.index(head) + len(head) :]


def placed(entries: list[Entry]) -> list[tuple[Entry, Place]]:
    """With places that number them."""
    return [(one, (0, 0, number)) for number, one in enumerate(entries)]


def test_L1_the_vectors_byte_for_byte() -> None:
    """Protobuf, the raw snappy block around it, and JSON, as docs/wires.md has them."""
    push = Push('{job="esa"}', [TIME_NS], [ENTRY], [(0, 0, 0)])
    assert body_of(push, "protobuf").hex() == VECTOR
    assert snappy(bytes.fromhex(VECTOR)).hex() == "2aa4" + VECTOR
    time_ns, labels, data = entry(TIME_NS, "hi", '{job="esa", kind="delivery"}', mid="42", tls_outcome="failed")
    text = body_of(Push(labels, [time_ns], [data], [(0, 0, 0)]), "json").decode()
    assert text == (
        '{"streams":[{"stream":{"job":"esa","kind":"delivery"},"values":[["1441588984000000001","hi",{"mid":"42","tls_outcome":"failed"}]]}]}'
    )


def test_L9_the_block_is_not_the_framed_format() -> None:
    """It begins with the size unpacked, not with the frame's magic bytes."""
    body = b"x" * 1000
    packed = snappy(body)
    assert not packed.startswith(bytes.fromhex("ff060000734e61507059"))
    assert packed[:2] == b"\xe8\x07"
    assert bytes(cramjam.snappy.decompress_raw(packed)) == body


@given(
    st.lists(
        st.tuples(st.integers(-(10**18), 4 * 10**18), st.sampled_from(['{a="b"}', '{a="c"}', '{a="d", b="\\""}']), st.integers(0, 300)),
        max_size=30,
    ),
    st.sampled_from([1, 400, 1000, 1 << 20]),
)
def test_requests_have_one_stream_each_in_the_order_of_time(made: list[tuple[int, str, int]], max_bytes: int) -> None:
    """Every entry is in one request of its stream, oldest first, and no request is too large but those of one entry."""
    entries = [entry(time_ns, "x" * size, labels, n=str(n)) for n, (time_ns, labels, size) in enumerate(made)]
    streams = pushes_of(placed(entries), max_bytes=max_bytes)
    assert sorted(stream[0].labels for stream in streams) == sorted({labels for _, labels, _ in made})
    places = []
    for stream in streams:
        times: list[int] = []
        for push in stream:
            assert len(push.times) == len(push.entries) == len(push.places) > 0
            assert len(body_of(push, "protobuf")) <= max_bytes or len(push.entries) == 1
            [(labels, stored)] = read_protobuf(body_of(push, "protobuf"))
            assert labels == push.labels == stream[0].labels
            assert [one.time_ns for one in stored] == push.times
            assert read_json(body_of(push, "json")) == [(labels, stored)]
            assert [int(one.fields["n"]) for one in stored] == [number for _, _, number in push.places]
            times += push.times
            places += push.places
        assert times == sorted(times)
    assert sorted(places) == [(0, 0, number) for number in range(len(made))]


def test_entries_of_one_time_keep_their_order() -> None:
    """Sorting is stable: summaries that one line ended stay in the order in which they left."""
    entries = [entry(5, str(n)) for n in range(20)]
    [[push]] = pushes_of(placed(entries), max_bytes=1 << 20)
    assert [place[2] for place in push.places] == list(range(20))


def test_parts_of_a_request() -> None:
    """Halves hold everything once; a single entry has none; any entries by number."""
    [[push]] = pushes_of(placed([entry(n, str(n)) for n in range(5)]), max_bytes=1 << 20)
    parts = halves(push)
    assert parts is not None
    assert [one.times for one in parts] == [[0, 1], [2, 3, 4]]
    assert parts[0].entries + parts[1].entries == push.entries
    assert halves(only(push, [3])) is None
    assert (only(push, [1, 4]).times, only(push, [1, 4]).places) == ([1, 4], [(0, 0, 1), (0, 0, 4)])


@given(st.dictionaries(st.from_regex(r"[A-Za-z_]{1,4}", fullmatch=True), st.text(min_size=1, max_size=8), max_size=4))
def test_labels_in_json_are_those_in_protobuf(labels: dict[str, str]) -> None:
    """A stream has the same labels in either form."""
    assert stream_of(label_text(labels)) == labels


@pytest.mark.parametrize("form", ["protobuf", "json"])
def test_text_is_text_in_both_forms(form: str) -> None:
    """Letters of all scripts, quotes and control characters arrive as they are."""
    line = 'Grüße 你好 "x" \\ \x07\x00'
    time_ns, labels, data = entry(1, line, subject=line)
    push = Push(labels, [time_ns], [data], [(0, 0, 0)])
    body = body_of(push, "json" if form == "json" else "protobuf")
    [(_, [stored])] = read_json(body) if form == "json" else read_protobuf(body)
    assert (stored.line, stored.fields) == (line, {"subject": line})
    if form == "json":
        assert json.loads(body)["streams"][0]["values"][0][0] == "1"
