from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from tests.unit.wire.otlp_cases import put

from esa_tls.core.protobuf import any_value, field, fields, fixed64, key_value, message_ends, read_varint, varint
from esa_tls.errors import MalformedMessage

_text = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | _text | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=6,
)


@given(_text, values)
def test_values_are_what_the_runtime_makes(key: str, value: Any) -> None:
    """Every AnyValue and KeyValue, byte for byte in meaning; a tuple is a list."""
    expected = KeyValue(key=key)
    put(value, expected.value)
    assert KeyValue.FromString(key_value(key, value)) == expected
    if isinstance(value, list):
        assert any_value(tuple(value)) == any_value(value)


def test_what_is_no_value() -> None:
    """None is absent from records, never a value."""
    with pytest.raises(TypeError):
        any_value(None)


@given(st.integers(0, 2**64 - 1))
def test_varints_come_back(number: int) -> None:
    """Of every size, and of a message the fields."""
    assert read_varint(varint(number), 0) == (number, len(varint(number)))
    message = b"\x08" + varint(number) + fixed64(2, number) + field(3, b"abc") + b"\x25abcd"
    assert list(fields(message)) == [(1, number), (2, number.to_bytes(8, "little")), (3, b"abc"), (4, b"abcd")]


@given(st.binary(max_size=60))
def test_random_bytes_raise_only_what_is_documented(data: bytes) -> None:
    """Fields, or MalformedMessage."""
    for read in (lambda: list(fields(data)), lambda: message_ends(data)):
        with contextlib.suppress(MalformedMessage):
            read()


@pytest.mark.parametrize("data", [b"\x0a\x05abc", b"\x09abc", b"\x80", b"\xff" * 11, b"\x0b", b"\x0a"])
def test_cut_off_messages(data: bytes) -> None:
    """A field that is cut off, of any wire type, is malformed."""
    with pytest.raises(MalformedMessage):
        list(fields(data))


def test_ends_of_messages() -> None:
    """Of records one after the other; what is cut off is malformed."""
    bodies = [b"", b"x" * 127, b"y" * 200]
    joined = b"".join(field(2, body) for body in bodies)
    assert message_ends(joined) == [2, 2 + 129, 2 + 129 + 203]
    assert message_ends(b"") == []
    with pytest.raises(MalformedMessage):
        message_ends(joined[:-1])


def test_any_value_matches_the_runtime_on_the_empty_value() -> None:
    """Empty containers are set, not absent."""
    assert AnyValue.FromString(any_value([])).WhichOneof("value") == "array_value"
    assert AnyValue.FromString(any_value({})).WhichOneof("value") == "kvlist_value"
    assert AnyValue.FromString(any_value("")).WhichOneof("value") == "string_value"
