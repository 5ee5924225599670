"""One sidecar, several sinks, each with what it is to get: whole, filtered, with pseudonyms; and dead letters of one of them."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import msgspec
from tests.e2e.receiver import Receiver
from tests.e2e.reference import whole_lines, written
from tests.e2e.sidecar import Sidecars, command, environment, esa_tls, stored_lines, write_config
from tests.e2e.test_run import deliver, simulated
from tests.property.marks import MARK, marked

from esa_tls import app, config
from esa_tls.core.batch import Row

KEYS = f"# of a test\n1:{base64.b64encode(b'k' * 32).decode()}\n2:{base64.b64encode(b'n' * 32).decode()}\n"
WHERE = {"in_clear": [True], "directions": ["outbound"]}


def row_of(lines: list[bytes]) -> Row:
    """JSON lines as an outbox row, a segment each."""
    kinds = [re.search(rb'"record":"(\w+)"', line)[1].decode() for line in lines]  # type: ignore[index]
    return Row("line", "json", [(kind, 1, line) for kind, line in zip(kinds, lines, strict=True)])


def sorted_text(record: dict[str, Any]) -> str:
    """A record whose keys are in order: encodings need not agree on that."""
    return json.dumps(record, sort_keys=True)


def test_each_sink_gets_what_it_is_to_get(tmp_path: Path, sidecars: Sidecars, receiver: Receiver) -> None:
    """One sink has everything; one only mail that left in clear, and under pseudonyms; one everything under pseudonyms, over Forward."""
    receiver.start()
    key_file = tmp_path / "keys"
    key_file.write_text(KEYS, encoding="utf-8")
    key_file.chmod(0o600)
    pseudonyms = {"keys": {"file": str(key_file)}}
    path = write_config(
        tmp_path,
        max_hold_s=60.0,
        sinks=[
            {"type": "jsonl", "name": "whole", "path": str(tmp_path / "whole.jsonl")},
            {
                "type": "jsonl",
                "name": "private",
                "path": str(tmp_path / "private.jsonl"),
                "where": WHERE,
                "fields": {"drop": ["log", "related"]},
                "pseudonyms": pseudonyms,
                "constants": True,
            },
            {"type": "fluent", "endpoints": [f"127.0.0.1:{receiver.port}"], "pseudonyms": {**pseudonyms, "domains": "pseudonym"}},
        ],
    )
    lines = [marked(line) for line in simulated(messages=250, seed=6)]
    sidecar = sidecars.start(path)
    deliver(sidecar, lines)
    assert sidecar.drain() == 0

    whole = list(whole_lines(stored_lines(tmp_path / "whole.jsonl")))
    assert sum(MARK.encode() in line for line in whole) > 1000
    sinks = config.load(path).sinks
    private, forward = app.make_selection(sinks[1]), app.make_selection(sinks[2])
    assert private is not None
    assert forward is not None
    expected = private.apply([(1, row_of(whole))])
    got = list(whole_lines(stored_lines(tmp_path / "private.jsonl")))
    assert sorted(got) == sorted(body for _, row in expected.rows for _, _, body in row.segments)
    assert 20 < len(got) < len(whole) / 4
    assert {json.loads(line)["event"]["kind"] for line in got} == {"event"}
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    sent = {id(record): record for record in receiver.records}
    assert len(sent) == len(whole)
    everything = forward.apply([(1, row_of(whole))]).rows[0][1]
    assert sorted(map(sorted_text, sent.values())) == sorted(sorted_text(decode(body)) for _, _, body in everything.segments)
    assert MARK.lower() not in repr(got).lower()
    assert MARK.lower() not in repr(receiver.records).lower()
    assert all("p2." in str(record["email"]) for record in sent.values() if "subject" in record.get("email", {}))
    assert "filtered" not in sidecar.text

    revealed = subprocess.run(
        [*command("pseudonym", "reveal", "--key-file", key_file)],
        env=environment(),
        input=b"".join(got),
        capture_output=True,
        timeout=60,
        check=True,
    )
    originals = written(tmp_path / "whole.jsonl")
    told = [json.loads(line) for line in revealed.stdout.splitlines()]
    assert len(told) == len(got)
    for record in told:
        if record["cisco_esa"]["record"] in ("delivery", "message"):
            original = originals[record["event"]["id"]]
            assert record["email"] == original["email"]
            assert record["cisco_esa"].get("envelope") == original["cisco_esa"].get("envelope")
        else:
            assert record["event"]["original"] in {one["event"]["original"] for one in originals.values() if "original" in one["event"]}


def test_dead_letters_of_one_sink(tmp_path: Path, sidecars: Sidecars, receiver: Receiver) -> None:
    """What a sink cannot send is listed for it, explained, holds what it was to get, and is sent again after its limit was raised."""
    receiver.start()
    key = f"1:{base64.b64encode(b'k' * 32).decode()}"

    def configured(max_frame_bytes: int) -> Path:
        return write_config(
            tmp_path,
            sinks=[
                {"type": "jsonl", "path": str(tmp_path / "whole.jsonl"), "records": ["line"]},
                {
                    "type": "fluent",
                    "name": "store",
                    "endpoints": [f"127.0.0.1:{receiver.port}"],
                    "records": ["line"],
                    "pseudonyms": {"keys": key},
                    "max_frame_bytes": max_frame_bytes,
                },
            ],
        )

    path = configured(64 * 1024)
    long = b"Mon Nov 24 00:00:00 2025 Info: MID 7 Subject 'for anna@example.com" + b" and so on" * 9000 + b"'"
    sidecar = sidecars.start(path)
    deliver(sidecar, [b"Mon Nov 24 00:00:00 2025 Info: Start MID 7 ICID 0", long])
    assert sidecar.drain() == 0
    assert len(receiver.records) == 1

    listed = esa_tls("journal", "dead-letters", "-c", path, "--sink", "store", "--explain")
    assert listed.returncode == 1
    assert listed.stdout.startswith("sink:store: 1 dead letter: 1 too_large\ntoo_large: The record alone is larger")
    assert esa_tls("journal", "dead-letters", "-c", path, "--sink", "jsonl").returncode == 0
    shown = esa_tls("journal", "dead-letters", "-c", path, "--number", "1")
    assert "payload  line records, forward" in shown.stdout
    assert "anna" not in shown.stdout

    configured(4_000_000)
    again = esa_tls("journal", "dead-letters", "-c", path, "--sink", "store", "--replay")
    assert (again.returncode, again.stderr) == (0, "1 delivered\n")
    assert len(receiver.records) == 2
    assert "anna" not in str(receiver.records)
    assert receiver.records[-1]["email"]["subject"].startswith("p1.")
