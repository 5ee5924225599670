"""The simulator's truth against what the core says: in order, shuffled inside a second, in batches that come late, under loss.

5,000 messages in order, 2,000 each other way; 100,000 with ESA_TLS_NIGHTLY. The simulator knows nothing of the core.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from random import Random

import pytest
from tests.property.truth import Reading, Said, Simulated, differences, falsehoods, line_differences

from esa_tls.offline.simulate import SimulationSettings, shuffle_batches

NIGHTLY = bool(os.environ.get("ESA_TLS_NIGHTLY"))
MESSAGES = 100_000 if NIGHTLY else 5_000
LATE = 100_000 if NIGHTLY else 1_500
FEWER = 100_000 if NIGHTLY else 2_000


@lru_cache(maxsize=1)
def simulated(seed: int, messages: int, appliances: int = 1, resets: int = 0) -> Simulated:
    """A simulation, kept for the next test that wants it."""
    return Simulated(SimulationSettings(seed=seed, messages=messages, appliances=appliances, id_resets=resets))


def batches(lines: list[Said], size: int = 1_000) -> Iterator[list[Said]]:
    """As a shipper sends them."""
    for start in range(0, len(lines), size):
        yield lines[start : start + size]


def shuffled(lines: list[Said], random: Random) -> list[Said]:
    """The lines of each second in any order; a line without a stamp stays with the one before."""
    found: list[Said] = []
    second: list[Said] = []
    stamp = b""
    for said in lines:
        if said[1][3:4] == b" " and said[1][20:24].isdigit() and said[1][:24] != stamp:
            random.shuffle(second)
            found += second
            second, stamp = [], said[1][:24]
        second.append(said)
    random.shuffle(second)
    return found + second


def outcomes(reading: Reading, evidence: str) -> int:
    """How many connections have this evidence: a test that sees none proves nothing."""
    connections = (record["cisco_esa"] for record in reading.records if record["cisco_esa"]["record"] == "connection")
    return sum(own["tls"]["evidence"] == evidence for own in connections)


def test_in_order_everything_is_as_the_truth_says() -> None:
    """Outcome, evidence, posture, link and every other field of every summary, and the triple of every line: two boxes, one reset each."""
    world = simulated(1, MESSAGES, appliances=2, resets=1)
    reading = Reading()
    for batch in batches(world.lines):
        reading.feed(batch)
    reading.end()
    assert differences(world, reading) == []
    assert line_differences(reading) == []
    assert outcomes(reading, "absence") > MESSAGES // 50


EVIDENCE = frozenset({"cisco_esa.tls.evidence", "cisco_esa.reception.tls.evidence"})


def test_shuffled_inside_a_second_everything_but_evidence_is_as_the_truth_says() -> None:
    """A source that loses and reorders (2 s window): no outcome, posture or link differs; `absence` has become `absence_lossy`."""
    world = simulated(2, FEWER)
    reading = Reading()
    for batch in batches(shuffled(world.lines, Random(2))):
        reading.feed(batch, lossy=True)
    reading.end()
    ordinals = frozenset({"cisco_esa.delivery.ordinal"})  # which attempt of one second was the first is not known
    assert differences(world, reading, ignore=EVIDENCE | ordinals, ordered=False) == []
    assert falsehoods(world, reading) == []
    assert outcomes(reading, "absence") == 0
    assert outcomes(reading, "absence_lossy") > FEWER // 50


@pytest.mark.parametrize("seed", [11, 12])  # each showed what the other did not
def test_batches_that_come_late_never_make_a_false_certainty(seed: int) -> None:
    """A shipper's retries after an outage: nothing said by a line or by absence is false, and no link is wrong."""
    world = simulated(seed, LATE, resets=1)
    reading = Reading()
    chunks = list(batches(world.lines, 200))
    come: set[int] = set()
    expected = 0
    for (index,) in shuffle_batches(range(len(chunks)), batch_lines=1, seed=seed, late_share=0.15, latest=4):
        if any(number not in come for number in range(expected, index)):
            reading.pipeline.break_feed("esa1")  # as the shell does: a request was not acknowledged, its sender will be back
        come.add(index)
        expected = max(expected, index + 1)
        reading.feed(chunks[index])
    reading.end()
    assert falsehoods(world, reading) == []
    assert sum(n for (name, _), n in reading.pipeline.counts.items() if name == "esa_tls.contradictions") > 0
    assert outcomes(reading, "absence") > 0
    assert outcomes(reading, "absence_lossy") > LATE // 50


def test_lost_lines_never_make_a_false_certainty() -> None:
    """One line in fifty, then three in ten, lost on a lossy source: the same."""
    world = simulated(3, FEWER, resets=1)
    for loss in (0.02, 0.3):
        random = Random(f"loss {loss}")
        reading = Reading()
        for batch in batches([said for said in world.lines if random.random() >= loss], 500):
            reading.feed(batch, lossy=True)
        reading.end()
        assert falsehoods(world, reading) == []
        assert outcomes(reading, "absence") == 0
        assert outcomes(reading, "line") > FEWER // 4
