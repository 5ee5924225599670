from __future__ import annotations

import pytest
from tests.unit.api.cases import corpus_groups

from esa_tls.api.rows import READABLE, decode, readable
from esa_tls.core.batch import Row


@pytest.mark.parametrize("encoding", [encoding for encoding in READABLE if encoding != "json"])
def test_every_encoding_is_read_back_as_the_same_records(encoding: str) -> None:
    """Whatever the sinks have made the core write, those who watch see the same records."""
    for group in corpus_groups(*READABLE):
        read = {
            name: [
                (kind, record["event"]["id"], record)
                for row in group.rows
                if row.encoding == name
                for kind, _, body in row.segments
                for record in decode(name, body)
            ]
            for name in ("json", encoding)
        }
        assert sorted(read["json"], key=lambda one: one[:2]) == sorted(read[encoding], key=lambda one: one[:2])


def test_the_order_of_lines_is_kept() -> None:
    """Records of one class come in the order in which they left."""
    group = next(group for group in corpus_groups(*READABLE) if sum(len(row.segments) for row in group.rows) > 3)
    orders = [
        [
            record["event"]["sequence"]
            for row in group.rows
            if row.encoding == name and row.cls == "line"
            for _, _, body in row.segments
            for record in decode(name, body)
        ]
        for name in READABLE
    ]

    assert orders[0]
    assert orders[0] == orders[1] == orders[2]


@pytest.mark.parametrize(
    ("there", "chosen"),
    [(("forward", "json"), "json"), (("otlp", "forward"), "forward"), (("otlp",), "otlp"), (("novel",), None), ((), None)],
)
def test_one_encoding_is_read(there: tuple[str, ...], chosen: str | None) -> None:
    """Of several encodings of the same records one is read, the cheapest; one nobody knows is not."""
    rows = [Row(cls, encoding, []) for encoding in there for cls in ("line", "summary")]

    assert [row for row in rows if row.encoding == chosen] == readable(rows)


def test_an_unknown_encoding_is_an_error() -> None:
    """Bytes of an encoding that is not known are not guessed at."""
    with pytest.raises(ValueError, match="no encoding novel"):
        decode("novel", b"")
