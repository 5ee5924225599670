"""Records and log lines as compressed bytes.

A record is compressed by itself, so that one can be read without others, with a dictionary trained on records of the same site. The
first part has none: its records are the sample. A dictionary holds snippets of records, so it goes when the last part that uses it goes.

A block is the lines of one write (`MAX_BLOCK_LINES` at most), as columns, which compress better than rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
import zstandard

from esa_tls.core.line_row import LineRow
from esa_tls.store.answers import StoryLine
from esa_tls.store.terms import entry_term, key_of

__all__ = ["MAX_BLOCK_LINES", "Block", "Packer", "pack_block", "train", "unpack_block"]

LEVEL: Final = 3
DICTIONARY_BYTES: Final = 16 * 1024
MIN_SAMPLES: Final = 200
MAX_SAMPLES: Final = 2_000

MAX_BLOCK_LINES: Final = 1_000
MAX_BLOCK_BYTES: Final = 64 * 1024 * 1024
"""A block is not unpacked beyond this."""


class Packer:
    """Compresses and expands records with one dictionary, or none."""

    def __init__(self, dictionary: bytes | None = None) -> None:
        data = None if dictionary is None else zstandard.ZstdCompressionDict(dictionary)
        if data is None:
            self.pack = zstandard.ZstdCompressor(level=LEVEL, write_checksum=False).compress
            self._expand = zstandard.ZstdDecompressor().decompress
        else:
            data.precompute_compress(level=LEVEL)
            self.pack = zstandard.ZstdCompressor(level=LEVEL, dict_data=data, write_checksum=False, write_dict_id=False).compress
            self._expand = zstandard.ZstdDecompressor(dict_data=data).decompress

    def expand(self, packed: bytes) -> bytes:
        """The record's JSON. Raises zstandard.ZstdError for what is none of ours."""
        return self._expand(packed)


def train(samples: Sequence[bytes]) -> bytes | None:
    """A dictionary for records like these; None if there are too few, or too much alike."""
    if len(samples) < MIN_SAMPLES:
        return None
    try:
        return zstandard.train_dictionary(DICTIONARY_BYTES, list(samples)).as_bytes()
    except zstandard.ZstdError:
        return None


# -- lines -----------------------------------------------------------------------------------------------------------------------
class _Columns(msgspec.Struct, array_like=True, gc=False):
    """The lines of a block. `owners`: (appliance, epoch); `steps`: sequences, each as distance to the one before."""

    owners: list[tuple[str, int]]
    actions: list[str]
    flags: dict[int, tuple[str, ...]]
    owner: list[int]
    steps: list[int]
    times: list[int]
    action: list[int]
    sorts: str
    numbers: list[int]
    mids: list[int | None]
    texts: list[str]


class Block(msgspec.Struct, gc=False):
    """Lines packed: how many, the keys of the connections and messages they are about, their bytes."""

    lines: int
    keys: bytes
    packed: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Columns).decode
_compress = zstandard.ZstdCompressor(level=LEVEL, write_checksum=False).compress


def pack_block(rows: Iterable[LineRow]) -> Block | None:
    """A block of these lines; None if there are none."""
    owners: dict[tuple[str, int], int] = {}
    actions: dict[str, int] = {}
    entries: dict[tuple[int, str, int], None] = {}
    flags: dict[int, tuple[str, ...]] = {}
    owner: list[int] = []
    steps: list[int] = []
    action: list[int] = []
    before = 0
    rows = list(rows)
    if not rows:
        return None
    for at, row in enumerate(rows):
        whose = owners.setdefault((row.appliance, row.epoch), len(owners))
        if row.sort:
            entries[whose, row.sort, row.number] = None
        if row.mid is not None:
            entries[whose, "M", row.mid] = None
        if row.flags:
            flags[at] = row.flags
        owner.append(whose)
        steps.append(row.sequence - before)
        before = row.sequence
        action.append(actions.setdefault(row.action, len(actions)))
    names = list(owners)
    keys = b"".join([key_of(entry_term(*names[whose], sort, number)) for whose, sort, number in entries])
    columns = _Columns(
        names,
        list(actions),
        flags,
        owner,
        steps,
        [row.time_s for row in rows],
        action,
        "".join([row.sort or "-" for row in rows]),
        [row.number for row in rows],
        [row.mid for row in rows],
        [row.text for row in rows],
    )
    return Block(len(rows), keys, _compress(_encode(columns)))


def unpack_block(packed: bytes, *, appliance: str, epoch: int) -> list[StoryLine]:
    """The lines of one appliance in a block, in order of arrival. Raises zstandard.ZstdError, msgspec.MsgspecError."""
    columns = _decode(zstandard.ZstdDecompressor().decompress(packed, max_output_size=MAX_BLOCK_BYTES))
    wanted = columns.owners.index((appliance, epoch)) if (appliance, epoch) in columns.owners else -1
    found: list[StoryLine] = []
    sequence = 0
    for at, step in enumerate(columns.steps):
        sequence += step
        if columns.owner[at] == wanted:
            sort = columns.sorts[at]
            found.append(
                StoryLine(
                    sequence,
                    columns.times[at],
                    columns.texts[at],
                    columns.actions[columns.action[at]],
                    None if sort == "-" else f"{sort}CID/{columns.numbers[at]}",
                    columns.mids[at],
                    columns.flags.get(at, ()),
                )
            )
    return found
