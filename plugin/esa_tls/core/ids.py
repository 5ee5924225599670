"""Deterministic record ids: the same logs give the same ids, whoever reads them, in one piece or in many.

An id has 26 characters: 8 hex digits of time (seconds UTC, so that ids sort by time) and 18 hex digits (72 bits) of BLAKE2b.
A line's hash is the hash of its body XOR masks for what stands around it (appliance, log name, prefix, how many times it was
seen before): all lines of one second share their masks, so the body is the only thing hashed per line. Summaries hash
(appliance, epoch, kind, number, ordinal).
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

DIGEST_BYTES: Final = 9
"""72 bits: with the time prefix in front, two records of the same second would have to collide."""


def digest(data: bytes) -> int:
    """72 bits of BLAKE2b of `data`, as an integer."""
    return int.from_bytes(blake2b(data, digest_size=DIGEST_BYTES).digest(), "big")


def mask(*parts: str | bytes | int) -> int:
    """A 72-bit mask for a tuple of parts; `repr` keeps them apart, so ("a", "bc") and ("ab", "c") differ."""
    return digest(repr(parts).encode("utf-8", "backslashreplace"))


def mask_text(number: int) -> str:
    """72 bits as the 18 hex digits that end an id."""
    return number.to_bytes(DIGEST_BYTES, "big").hex()


def time_prefix(stamp_s: int) -> str:
    """The 8 hex digits in front of an id; times before 1970 or after 2106 are clamped."""
    return min(max(stamp_s, 0), 0xFFFFFFFF).to_bytes(4, "big").hex()


def summary_id(first_s: int, appliance: str, epoch: int, kind: str, number: int, ordinal: str | int) -> str:
    """The id of a connection, delivery or message record, from its first line's time and its key."""
    key = f"({appliance!r}, {epoch}, {kind!r}, {number}, {ordinal!r})"  # as `mask` has it, at a fraction of its time
    return time_prefix(first_s) + mask_text(digest(key.encode("utf-8", "backslashreplace")))
