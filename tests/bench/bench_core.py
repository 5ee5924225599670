"""Core speed: lines in, records encoded, state sealed, beside a reference loop in the same run.

Conditions: full records of all kinds, 40,000 messages open all the time, batches of 1,000 lines, a seal every 2 batches.
CPU seconds of this process, so that a busy machine does not change the figures much. Run: python tests/bench/bench_core.py [messages]
"""

from __future__ import annotations

import gc
import re
import sys
import time
from collections.abc import Iterator

import msgspec

from esa_tls.core.batch import Batch, Origin, Run
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.state import DictState
from esa_tls.offline.simulate import SimulationSettings, simulate

OPEN_MESSAGES = 40_000
BATCH_LINES = 1_000


def open_messages(stamp: str) -> Iterator[bytes]:
    """Lines that leave 40,000 messages open: received, queued, never finished."""
    for n in range(OPEN_MESSAGES):
        mid, icid = 1_000_000 + n, 2_000_000 + n // 4
        if n % 4 == 0:
            peer = "address 198.51.100.7 reverse dns host mx.example.org verified yes"
            yield f"{stamp} Info: New SMTP ICID {icid} interface Data 1 (192.0.2.1) {peer}".encode()
            yield f"{stamp} Info: ICID {icid} ACCEPT SG UNKNOWNLIST match sbrs[-1.0:10.0] SBRS 3.4 country United States".encode()
            yield f"{stamp} Info: ICID {icid} TLS success protocol TLSv1.2 cipher ECDHE-RSA-AES256-GCM-SHA384".encode()
        yield f"{stamp} Info: Start MID {mid} ICID {icid}".encode()
        yield f"{stamp} Info: MID {mid} ICID {icid} From: <sender{n}@example.com>".encode()
        yield f"{stamp} Info: MID {mid} ICID {icid} RID 0 To: <user{n}@example.org>".encode()
        yield f"{stamp} Info: MID {mid} Message-ID '<{n}.abcdef@example.com>'".encode()
        yield f"{stamp} Info: MID {mid} Subject 'Message number {n}'".encode()
        yield f"{stamp} Info: MID {mid} ready 12345 bytes from <sender{n}@example.com>".encode()
        yield f"{stamp} Info: MID {mid} queued for delivery".encode()
        if n % 4 == 3:
            yield f"{stamp} Info: ICID {icid} close".encode()


def reference(lines: list[bytes]) -> float:
    """The reference loop: msgspec decode + one regex + dict + small record, as lines per CPU second."""

    class Rec(msgspec.Struct, gc=False):
        ts: str
        id: str
        text: str

    head = re.compile(r"(\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}) Info: (?:Start )?(MID|ICID|DCID|New|\w+) (\d+)?")
    frames = [
        msgspec.msgpack.encode([[0, {"log": line.decode("utf-8", "replace")}] for line in lines[at : at + BATCH_LINES]])
        for at in range(0, len(lines), BATCH_LINES)
    ]
    decode, encode = msgspec.msgpack.Decoder(list[tuple[int, dict[str, str]]]).decode, msgspec.json.Encoder().encode
    seen: dict[str | None, int] = {}
    started = time.process_time()
    for frame in frames:
        for _, record in decode(frame):
            text = record["log"]
            match = head.match(text)
            if match is not None:
                key = match[3]
                seen[key] = seen.get(key, 0) + 1
                encode(Rec(match[1], key or "", text))
    return len(lines) / (time.process_time() - started)


def run(lines: list[bytes], encodings: tuple[str, ...], warm: list[bytes]) -> tuple[float, int, Pipeline]:
    """Lines per CPU second, bytes out."""
    state = DictState()
    pipeline = Pipeline(CoreSettings(appliance_name="esa1"), state, encodings=encodings, now_s=1.7e9)
    origin = Origin(tag="esa")

    def feed(part: list[bytes]) -> int:
        out = 0
        for n, at in enumerate(range(0, len(part), BATCH_LINES)):
            pipeline.feed(Batch([Run(origin, part[at : at + BATCH_LINES])], 1), now_s=1.7e9)
            if n % 2:
                sealed = pipeline.seal()
                if sealed is not None:
                    state.apply(sealed.puts, sealed.deletes)
                    out += sum(len(data) for row in sealed.rows for _, _, data in row.segments)
        return out

    feed(warm)
    gc.collect()
    gc.freeze()
    gc.disable()
    started = time.process_time()
    out = feed(lines)
    seconds = time.process_time() - started
    gc.enable()
    return len(lines) / seconds, out, pipeline


def main() -> None:
    """Print the figures."""
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    settings = SimulationSettings(seed=7, messages=messages, messages_per_second=60.0)
    lines = [line for _, line in simulate(settings)]
    warm = list(open_messages(lines[0][:24].decode()))
    print(f"{len(lines)} lines of {sum(map(len, lines)) / len(lines):.0f} bytes")
    base = reference(lines)
    print(f"reference loop            {base:10.0f} lines/s")
    for encodings in (("json",), ("forward",), ("json", "forward")):
        rate, out, pipeline = run(lines, encodings, warm)
        entries = pipeline.boxes["esa1"].correlator.entries
        print(
            f"core -> {'+'.join(encodings):17s} {rate:10.0f} lines/s  {base / rate:5.2f} x reference time"
            f"  {out / len(lines):.0f} bytes/line  open {sum(entries.open_count.values())}"
        )


if __name__ == "__main__":
    main()
