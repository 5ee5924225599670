"""Prefixes: everything about a line that stands before its body or around it, worked out once for all lines that share it.

Within a second nearly all lines of a log have the same prefix, so framing, time, appliance, the constant parts of the id and of
the encoded record are made per prefix and found again by the prefix text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from esa_tls.core.ids import mask, time_prefix
from esa_tls.core.prefix_facts import PrefixFacts
from esa_tls.core.records import iso
from esa_tls.core.seen import stamp_mask

if TYPE_CHECKING:
    from esa_tls.core.box import Box


class Prefix:
    """A prefix in use: its facts, and what the encoders and the hot loop keep with it."""

    __slots__ = (
        *("appliance", "body_at", "box", "epoch", "facts", "id_mask", "iso", "length", "stamp_mask", "stamp_s", "time_id"),
        *("forward", "json", "otlp"),
    )

    def __init__(self, facts: PrefixFacts, box: Box, *, epoch: int) -> None:
        self.facts = facts
        self.box = box
        self.appliance = facts.appliance
        self.length = facts.length
        self.body_at = facts.body_at
        self.epoch = epoch
        self.stamp_s = facts.stamp_s
        self.iso = iso(facts.stamp_s)
        self.time_id = time_prefix(facts.stamp_s)
        self.stamp_mask = stamp_mask(facts.stamp_s)
        self.id_mask = int.from_bytes(facts.id_mask, "big")
        self.json: tuple[str, str] | None = None
        self.forward: tuple[bytes, tuple[bytes, bytes], int, bytes, int, bytes] | None = None
        self.otlp: bytes | None = None


def id_mask(appliance: str, log_name: str | None, stamp_s: int, before_body: bytes) -> bytes:
    """The mask of a line's id for what is not its body."""
    return mask("line", appliance, log_name or "", stamp_s, before_body).to_bytes(9, "big")
