"""A small fuzzer without instrumentation: changed copies of good inputs, kept when they lead somewhere new.

A target takes bytes, raises AssertionError (or anything it should not) if a promise is broken, and returns what it came to: a small
hashable value. An input that comes to something new joins those that are changed further, which stands in for coverage. Every run has
a seed of its own; the message of a failure names it and the input, cut down to what still fails.

`ESA_TLS_FUZZ_S`: seconds for each target (30). `ESA_TLS_SEED`: repeat a run.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import pytest

Target = Callable[[bytes], Hashable]

SECONDS = float(os.environ.get("ESA_TLS_FUZZ_S", "30"))
MAX_INPUT_BYTES = 8 << 10
POOL = 2_000
CORPUS = sorted((Path(__file__).parents[1] / "corpus").glob("*.log"))

_EDGES = (
    b"\0",
    b"\xff",
    b"\x80",
    b"\x7f",
    b"\n",
    b"\r\n",
    b" ",
    b"'",
    b'"',
    b"<",
    b">",
    b"[",
    b"]",
    b"|",
    b"=",
    b"\\",
    b"\xef\xbb\xbf",
    b"\xc3",
)
_NUMBERS = (b"0", b"-1", b"4294967296", b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"1" * 400)


def corpus_lines() -> list[bytes]:
    """Every line of the corpus."""
    return [line for path in CORPUS for line in path.read_bytes().splitlines()]


def changed(data: bytes, others: Sequence[bytes], words: Sequence[bytes], chance: random.Random) -> bytes:
    """`data` with one to four changes: bits, bytes, numbers, words, cuts, repeats, pieces of other inputs."""
    out = bytearray(data[:MAX_INPUT_BYTES])
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(len(out) + 1)
        to = min(len(out), at + chance.choice((1, 2, 4, 8, 40)))
        match chance.randrange(9):
            case 0 if at < len(out):
                out[at] ^= 1 << chance.randrange(8)
            case 1 if at < len(out):
                out[at] = chance.randrange(256)
            case 2:
                del out[at:to]
            case 3:
                out[at:at] = out[at:to] * chance.choice((1, 1, 30))
            case 4:
                out[at:to] = chance.choice(_EDGES) * chance.choice((1, 1, 3))
            case 5:
                out[at:at] = chance.choice((*words, *_NUMBERS))
            case 6:
                other = chance.choice(others)
                begin = chance.randrange(len(other) + 1)
                out[at : chance.choice((at, len(out)))] = other[begin : begin + chance.choice((8, 100, 10_000))]
            case 7:  # a length or type byte of a binary format
                out[at:to] = chance.choice((1, 2, 4, 8)) * bytes([chance.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))])
            case _:
                del out[at:]
    return bytes(out[:MAX_INPUT_BYTES])


def fuzz(target: Target, seeds: Sequence[bytes], *, words: Sequence[bytes] = ()) -> None:
    """Try `target` for `SECONDS`. `seeds`: good inputs; `words`: what the format is made of."""
    seed = int(os.environ.get("ESA_TLS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
    chance = random.Random(seed)
    pool = list(seeds)
    seen = {target(data) for data in seeds}
    end_s, tried = time.monotonic() + SECONDS, 0
    while time.monotonic() < end_s:
        data = changed(chance.choice(pool), pool, words or (b"",), chance)
        tried += 1
        try:
            came_to = target(data)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is a finding)
            least = _cut_down(target, data, type(error))
            pytest.fail(f"ESA_TLS_SEED={seed}, input {tried}: {type(error).__name__}: {error}\n{least!r}")
        if came_to not in seen and len(pool) < POOL:
            seen.add(came_to)
            pool.append(data)
    print(f"{tried:,} inputs, {len(seen):,} different results, ESA_TLS_SEED={seed}")
    assert len(seen) > 1, "everything comes to the same: this tries nothing"


def _cut_down(target: Target, data: bytes, error: type[Exception]) -> bytes:
    """A shorter input that fails the same way: pieces are left out as long as it still does."""
    size = len(data) // 2
    while size:
        at = 0
        while at < len(data):
            shorter = data[:at] + data[at + size :]
            try:
                target(shorter)
            except error:
                data = shorter
            except Exception:  # noqa: BLE001 (another finding, another time)
                at += size
            else:
                at += size
        size //= 2
    return data
