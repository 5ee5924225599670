"""Forward decode, bytes of a 1,000-line frame to a core batch: `python tests/bench/bench_fluent_decode.py`. Bar: <= 0.5 us a line.

Beside the real path it times the candidates it was chosen from, on the same entries.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgpack
import msgspec

from esa_tls.wire.fluent import FrameReader
from esa_tls.wire.fluent_batch import Origins, to_batch
from esa_tls.wire.fluent_decode import ForwardSettings, FrameDecoder

LINES = 1000
BAR_US = 0.5
LINE = "Nov 24 14:22:57 esa1.example.net mail_logs: Info: MID %d ICID 282204970 From: <someone@example.com> size 12345"
CHUNK = "AAECAwQFBgcICQoLDA0ODw=="


class TextRecord(msgspec.Struct):
    """A record read as text."""

    log: str


class RawRecord(msgspec.Struct):
    """A record whose line stays undecoded."""

    log: msgspec.Raw


def entries(key: str, *, metadata: bool = False, extra: dict[str, str] | None = None) -> list[Any]:
    """Entries as Fluent Bit makes them: EventTime, then the record."""
    made: list[Any] = []
    for i in range(LINES):
        stamp = msgpack.ExtType(0, (1441588984 + i).to_bytes(4, "big") + b"\0\0\0\x01")
        made.append([[stamp, {}] if metadata else stamp, {key: LINE % (200257070 + i), **(extra or {})}])
    return made


def frames() -> dict[str, bytes]:
    """The frames measured, by name."""
    docker = {"container_id": "a" * 64, "container_name": "/esa", "source": "stdout"}
    syslog = {"pri": "166", "host": "esa1", "ident": "mail_logs"}

    def packed(made: list[Any], **options: object) -> bytes:
        body = b"".join(map(msgpack.packb, made))
        frame: bytes = msgpack.packb(["esa.mail", body, {"chunk": CHUNK, **options}])
        return frame

    def forward(made: list[Any]) -> bytes:
        frame: bytes = msgpack.packb(["esa.mail", made, {"chunk": CHUNK, "size": LINES, "fluent_signal": 0}])
        return frame

    return {
        "packed, log, size": packed(entries("log"), size=LINES),
        "packed, message, no size": packed(entries("message")),
        "packed, docker, size": packed(entries("log", extra=docker), size=LINES),
        "forward, log": forward(entries("log")),
        "forward, log, metadata": forward(entries("log", metadata=True)),
        "forward, appliance key": forward(entries("log", extra={"appliance": "esa1"})),
        "forward, syslog pieces (slow way)": forward(entries("message", extra=syslog)),
    }


def best_us(step: Callable[[], object], *, rounds: int = 60) -> float:
    """Microseconds per line of the fastest round."""
    best = float("inf")
    for _ in range(rounds):
        begin = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - begin)
    return best / LINES * 1e6


def measure() -> dict[str, float]:
    """Microseconds per line of the real path, by frame."""
    settings = ForwardSettings()
    decoder = FrameDecoder(settings)
    origins = Origins(settings)
    reader = FrameReader()

    def run(data: bytes) -> None:
        for at in range(0, len(data), 65536):
            for raw in reader.feed(data[at : at + 65536]):
                batch = to_batch(decoder.decode(raw), origins=origins, peer="192.0.2.1", session=1, received_s=1.0)
                assert batch.line_count() == LINES

    return {name: best_us(lambda data=data: run(data)) for name, data in frames().items()}  # type: ignore[misc]


def candidates() -> dict[str, float]:
    """Microseconds per line of ways to get the lines out of packed entries; the array header is given to those that need one."""
    listed = msgpack.packb(entries("log"))
    hook = {code: None for code in range(-128, 128) if code}.get
    typed_text = msgspec.msgpack.Decoder(list[tuple[msgspec.Raw, TextRecord]])
    typed_raw = msgspec.msgpack.Decoder(list[tuple[msgspec.Raw, RawRecord]])

    def side_by_side() -> list[bytes]:
        joined = b"".join([entry[1].log for entry in typed_raw.decode(listed)])
        unpacker = msgpack.Unpacker(raw=True, max_buffer_size=len(joined) + 1024, read_size=1024)
        unpacker.feed(joined)
        return list(unpacker)

    return {
        "msgpack raw, all objects": best_us(
            lambda: [entry[1][b"log"] for entry in msgpack.unpackb(listed, raw=True, strict_map_key=False, use_list=False, ext_hook=hook)]
        ),
        "msgspec typed str + encode": best_us(lambda: [entry[1].log.encode() for entry in typed_text.decode(listed)]),
        "msgspec typed Raw + slice": best_us(lambda: [bytes(entry[1].log)[2:] for entry in typed_raw.decode(listed)]),
        "msgspec typed Raw + msgpack (taken)": best_us(side_by_side),
    }


if __name__ == "__main__":
    for title, figures in (("bytes to batch", measure()), ("lines out of entries only", candidates())):
        print(title)
        for name, figure in figures.items():
            print(f"  {name:40s} {figure:.3f} us/line")
