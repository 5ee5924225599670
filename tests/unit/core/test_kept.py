"""What the state keeps of entries: every field, in one order for writing and reading."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import esa_tls
from esa_tls.core import kept
from esa_tls.core.connections import Connection, Leg
from esa_tls.core.facts import Fact
from esa_tls.core.line_record import Hold, Line
from esa_tls.core.messages import Attempt, Message, Recipient
from esa_tls.core.prefix_facts import PrefixFacts

CACHES = {"json", "forward", "otlp", "kept"}
"""Of a leg: what encoders keep with it."""

ENTRIES = [("connections", "Leg", kept._LEG), ("connections", "Connection", kept._CONNECTION), ("messages", "Recipient", kept._RECIPIENT),
           ("messages", "Attempt", kept._ATTEMPT), ("messages", "Message", kept._MESSAGE)]  # fmt: skip


def declared(module: str, name: str) -> dict[str, str]:
    """Fields of a class and their types, as its source declares them (a compiled class has no annotations)."""
    source = (Path(esa_tls.__file__).parent / "core" / f"{module}.py").read_text()
    [found] = [one for one in ast.parse(source).body if isinstance(one, ast.ClassDef) and one.name == name]
    fields = [one for one in found.body if isinstance(one, ast.AnnAssign)]
    return {one.target.id: ast.unparse(one.annotation) for one in fields if isinstance(one.target, ast.Name)}


def fill(made: Any, module: str, name: str, given: dict[str, Any]) -> Any:
    """Give every field a value of its own that is not its default."""
    for place, (field, kind) in enumerate(declared(module, name).items(), start=1000):
        if field in CACHES:
            continue
        plain = kind.removesuffix(" | None")
        samples = {
            "int": place,
            "str": f"{field} {place}",
            "float": place + 0.5,
            "bool": True,
            "tuple[int, ...]": (place, 7),
            "tuple[str, ...]": (field, "x"),
        }
        setattr(made, field, given[field] if field in given else samples[plain])
    return made


def legs(number: int) -> Leg:
    """A leg with a value in every field."""
    return fill(Leg("D", number, 3), "connections", "Leg", {"kind": "D", "number": number})  # type: ignore[no-any-return]


def told(made: Any) -> Any:
    """An entry as plain values, for comparison."""
    names = next((names for _, name, names in ENTRIES if type(made).__name__ == name), None)
    if names is not None:
        return {name: told(getattr(made, name)) for name in names}
    if isinstance(made, Hold):
        line = made.line
        said = [line.text, line.fact, line.record_hash, line.sequence, line.created, line.flags, line.raw_base64]
        return [*said, made.prefix, made.epoch, made.again, made.left]
    return [told(one) for one in made] if isinstance(made, list | tuple) else made


@pytest.mark.parametrize(("module", "name", "names"), ENTRIES, ids=[name for _, name, _ in ENTRIES])
def test_every_declared_field_is_kept(module: str, name: str, names: tuple[str, ...]) -> None:
    """None is forgotten, in the order in which they are declared; what encoders cache is not among them."""
    assert tuple(field for field in declared(module, name) if field not in CACHES) == names


def test_a_connection_comes_back_as_it_was() -> None:
    """All fields at once, its leg and the lines held for it included: writing and reading have one order."""
    fact = Fact("delivery-started", None, 80, 90, (0, 1), {"a": "b", "c": 1.5})
    line = Line("text", fact, "0f" * 9, 12, "2025-11-24T00:00:00Z", ("late",), "AA==")
    held = [Hold(line, PrefixFacts("esa1", 1_700_000_000, flags=("x",), id_mask=b"123456789"), 2, again=True)]
    entry = fill(Connection(legs(80), 1, 2), "connections", "Connection", {"leg": legs(80), "held": held})
    assert told(kept.decode_connection(kept.encode_entry(entry))) == told(entry)


def test_a_message_comes_back_as_it_was() -> None:
    """All fields at once, its reception, recipients and attempts included."""
    known = [fill(Recipient(rid), "messages", "Recipient", {"rid": rid}) for rid in (0, 5)]
    attempt = fill(Attempt(1, 80, [0], 3, 4, None), "messages", "Attempt", {
        "rids": [0, 5], "leg": legs(80), "results": {0: "delivered", 5: "bounced"}, "failures": {5: (550, "5.1.1", None, "no")},
    })  # fmt: skip
    given = {"reception": legs(70), "recipients": known, "attempts": (attempt, Attempt(2, None, [], 5, 6, None))}
    entry = fill(Message(90, 1, 2, 3), "messages", "Message", given)
    assert told(kept.decode_message(kept.encode_entry(entry))) == told(entry)


def test_fields_that_were_not_there_yet_have_their_defaults() -> None:
    """A shorter array, as an older version may have written it, is read."""
    import msgspec

    whole = msgspec.msgpack.decode(kept.encode_entry(Message(90, 1, 2, 3)))
    entry = kept.decode_message(msgspec.msgpack.encode(whole[:10]))
    assert told(entry) == told(Message(90, 1, 2, 3))
