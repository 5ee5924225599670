"""The splices of `encode.py` make what `line_dict` says, field by field, in both encodings."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.core.driver import T0, Driver, at, check, decoded, forward_entries

from esa_tls.core.appliance import Appliance
from esa_tls.core.connections import Leg
from esa_tls.core.encode import encoder
from esa_tls.core.facts import Fact
from esa_tls.core.grammar import parse
from esa_tls.core.line_record import Line, line_dict
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.prefix import Prefix
from esa_tls.core.prefix_facts import PrefixFacts
from esa_tls.core.state import DictState
from esa_tls.offline.simulate import SimulationSettings, simulate

BOX = Pipeline(CoreSettings(), DictState())._box(Appliance("esa1"))

BODIES = [
    line.decode("utf-8", "replace")[31:] for _, line in simulate(SimulationSettings(seed=4, messages=150, hostile=0.5, unknown_lines=0.1))
]
HOSTILE = st.one_of(
    st.text(max_size=40),
    st.sampled_from(['"', "\\", "\0", "\x1f", "\u2028", "\ud7ff\ue000", "</script>", '","cisco_esa":{"x":1', "é" * 300]),
)
TEXT = st.one_of(st.sampled_from(BODIES), HOSTILE, st.builds(lambda body, text: f"{body}{text}", st.sampled_from(BODIES), HOSTILE))
NAMES = st.one_of(st.none(), st.sampled_from(["mail_logs", 'a"b\\c', "é"]))


def leg_with(*, kind: str, number: int, epoch: int, outcome: str, evidence: str | None, **facts: str | bool | None) -> Leg:
    """A leg of which these facts are known."""
    leg = Leg(kind, number, epoch, outcome, evidence)
    for name, value in facts.items():
        setattr(leg, name, value)
    return leg


LEGS = st.one_of(
    st.none(),
    st.builds(
        leg_with,
        kind=st.sampled_from("ID"),
        number=st.integers(1, 2**63 - 1),
        epoch=st.integers(0, 3),
        outcome=st.sampled_from(["pending", "success", "failed", "none", "unknown"]),
        evidence=st.sampled_from([None, "line", "absence"]),
        required=st.booleans(),
        failure_class=st.sampled_from([None, "other"]),
        failure_reason=st.one_of(st.none(), HOSTILE),
        broken=st.booleans(),
        protocol=st.sampled_from([None, "TLSv1.2", "TLSv1/SSLv3"]),
        cipher=st.sampled_from([None, "AES128-SHA", "no-such"]),
        common_name=st.one_of(st.none(), HOSTILE),
        verified=st.sampled_from([None, True, False]),
    ),
)
PREFIXES = st.builds(
    PrefixFacts,
    appliance=st.sampled_from(["esa1", 'e"s\\a', "ësa"]),
    stamp_s=st.integers(0, 2**32 - 1),
    level=st.sampled_from([None, "Info", "Debug"]),
    log_name=NAMES,
    priority=st.sampled_from([None, 0, 166]),
    appname=NAMES,
    file_path=st.sampled_from([None, "/var/log/mail.@x", 'a"b']),
    time_source=st.sampled_from(["line", "sender", "received"]),
    flags=st.sampled_from([(), ("year_inferred",), ("continuation", "reconstructed")]),
)


@settings(max_examples=300)
@given(
    facts=PREFIXES,
    legs=st.lists(LEGS, min_size=1, max_size=3),
    epoch=st.integers(0, 3),
    lines=st.lists(
        st.tuples(TEXT, st.sampled_from([(), ("late",), ("duplicate", "truncated")]), st.booleans(), st.integers(0, 2)),
        min_size=1,
        max_size=8,
    ),
)
def test_splices_equal_the_reference(
    facts: PrefixFacts, legs: list[Leg | None], epoch: int, lines: list[tuple[str, tuple[str, ...], bool, int]]
) -> None:
    """Simulated lines and hostile text, with any prefix and leg, cached pieces used again: equal to `line_dict`, and in the field table."""
    encoders = {name: encoder(name) for name in ("json", "forward")}
    prefix = Prefix(facts, BOX, epoch=epoch)
    expected: list[dict[str, Any]] = []
    for n, (text, flags, raw, which) in enumerate(lines):
        leg = legs[which % len(legs)]
        line = Line(
            text, parse(text), f"{n:018x}", n, "2025-11-24T00:00:00Z", flags, base64.b64encode(text.encode()).decode() if raw else None
        )
        expected.append(line_dict(Prefix(facts, BOX, epoch=epoch), line, leg))
        for each in encoders.values():
            each.lines([(prefix, line, leg)])
    reference = [msgspec.json.decode(msgspec.json.encode(record)) for record in expected]
    ((_, ((_, count, data),)),) = encoders["json"].take()
    assert count == len(lines)
    assert [msgspec.json.decode(line) for line in data.split(b"\n")[:-1]] == reference
    ((_, ((_, count, data),)),) = encoders["forward"].take()
    assert count == len(lines)
    assert forward_entries(data) == reference
    for record in reference:
        check(record)


def test_taking_twice_gives_nothing_the_second_time() -> None:
    """What was taken is gone."""
    for name in ("json", "forward"):
        each = encoder(name)
        line = Line("x", Fact("unrecognised"), "0" * 18, 1, "2025-11-24T00:00:00Z")
        each.lines([(Prefix(PrefixFacts("esa1", T0), BOX, epoch=0), line, None)])
        each.summary("message", {"a": 1}, T0)
        assert [cls for cls, _ in each.take()] == ["line", "summary"]
        assert each.take() == []


def test_a_line_that_says_the_version_has_it_in_both_encodings() -> None:
    """A `Version:` line, and no other of its second."""
    driver = Driver(encodings=("forward", "json"))
    driver.feed(
        at(0, "Begin Logfile", "Version: 14.0.0-698 SN: 421F-C9AE", "ICID 70 close", "Version: 15.0.0-104 SN: 421F-C9AE", "ICID 71 close")
    )
    driver.end()
    forward, json = (sorted(decoded(driver.rows, name), key=lambda one: str(one["event"]["id"])) for name in ("forward", "json"))
    assert forward == json
    versions = [record.get("observer", {}).get("version") for record in driver.lines()]
    assert versions == [None, "14.0.0-698", None, "15.0.0-104", None]


def test_a_line_record_is_under_six_times_its_line() -> None:
    """The mean over simulated lines of all kinds, of an appliance that is fully known, after its first lines."""
    lines = [line for _, line in simulate(SimulationSettings(seed=11, messages=400, messages_per_second=20.0))]
    driver = Driver(now_s=T0).feed(at(-1, "Version: 14.0.0-698 SN: 421F-C9AE")).feed(lines).end()
    ((_, ((_, count, data),)),) = [(row.cls, row.segments) for row in driver.rows if row.cls == "line"]
    assert count == len(lines) + 1
    assert len(data) < 6 * sum(map(len, lines)), len(data) / sum(map(len, lines))
