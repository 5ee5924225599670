"""Records and pipelines for the tests of the gRPC service: the corpus and simulated traffic through the real core."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from esa_tls.core.batch import Batch, Origin, Run, Sealed
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.state import DictState
from esa_tls.offline.simulate import SimulationSettings, write_simulation

CORPUS = Path(__file__).parents[2] / "corpus"
NOW_S = 1_700_000_000.0

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def line(body: str, *, second: int = 0) -> bytes:
    """A log line of 2026 with this body."""
    return f"Mon Mar  2 10:{second // 60:02d}:{second % 60:02d} 2026 Info: {body}".encode()


MESSAGE = [
    line("New SMTP ICID 11 interface Data (192.0.2.1) address 198.51.100.7 reverse dns host mx.example.net verified yes", second=0),
    line("ICID 11 ACCEPT SG UNKNOWNLIST match sbrs[none] SBRS None", second=0),
    line("ICID 11 TLS success protocol TLSv1.2 cipher ECDHE-RSA-AES256-GCM-SHA384", second=1),
    line("Start MID 21 ICID 11", second=2),
    line("MID 21 ICID 11 From: <alice@example.net>", second=2),
    line("MID 21 ICID 11 RID 0 To: <Bob@Example.org>", second=3),
    line("MID 21 Message-ID '<one@example.net>'", second=3),
    line("MID 21 Subject 'hello'", second=3),
]
"""A message that is open, with its reception under TLS."""

CLEAR_DELIVERY = [
    line("New SMTP DCID 31 interface 192.0.2.1 address 203.0.113.9 port 25", second=5),
    line("Delivery start DCID 31 MID 21 to RID [0]", second=6),
    line("Message done DCID 31 MID 21 to RID [0]", second=7),
    line("MID 21 RID [0] Response '2.0.0 Ok'", second=7),
]
"""Its delivery in clear."""

END = [
    line("Message finished MID 21 done", second=8),
    line("ICID 11 close", second=9),
    line("DCID 31 close", second=20),
    line("ICID 12 close", second=30),
]
"""Its end; the last line lets the time go on."""


class Core:
    """A pipeline whose groups are committed at once, as a journal would."""

    def __init__(self, *, encodings: tuple[str, ...] = ("json",), **settings: Any) -> None:
        self.state = DictState()
        self.pipeline = Pipeline(CoreSettings(**{"appliance_name": "esa1", **settings}), self.state, encodings=encodings, now_s=NOW_S)

    def feed(self, lines: Sequence[bytes], *, origin: Origin | None = None, session: int = 1) -> Sealed:
        """Feed lines, end nothing; what became durable."""
        self.pipeline.feed(Batch([Run(origin or Origin(), list(lines))], session, None, NOW_S), now_s=NOW_S)
        return self.sealed()

    def end(self) -> Sealed:
        """Everything open ends."""
        self.pipeline.end_stream()
        return self.sealed()

    def sealed(self) -> Sealed:
        """What became durable now."""
        sealed = self.pipeline.seal() or Sealed(rows=[], puts=[], deletes=[], keys=[])
        self.state.apply(sealed.puts, sealed.deletes)
        return sealed


def records_of(groups: Iterable[Sealed]) -> list[dict[str, Any]]:
    """The records of groups that were encoded as JSON."""
    return [
        _decode(one)
        for group in groups
        for row in group.rows
        if row.encoding == "json"
        for _, _, body in row.segments
        for one in body.splitlines()
    ]


@cache
def simulated_lines(messages: int = 150) -> tuple[bytes, ...]:
    """Lines of simulated traffic, hostile ones too."""
    out = io.BytesIO()
    write_simulation(SimulationSettings(messages=messages, seed=7), out, None, shuffle_in_second=False, loss=0.0)
    return tuple(out.getvalue().splitlines())


@cache
def corpus_groups(*encodings: str) -> tuple[Sealed, ...]:
    """What the core makes of the whole corpus, of simulated traffic and of bytes that are no text."""
    groups = []
    for lines in [path.read_bytes().splitlines() for path in sorted(CORPUS.glob("*.log"))] + [
        list(simulated_lines()),
        [b"\xff\x00 \xc3(", b"", line("MID 1 Subject '\x1b[31m\xc3\xa9'"), b"plain"],
    ]:
        core = Core(encodings=encodings)
        groups += [core.feed(lines), core.end()]
    return tuple(groups)


@cache
def corpus_records() -> tuple[dict[str, Any], ...]:
    """The same as records."""
    return tuple(records_of(corpus_groups("json")))
