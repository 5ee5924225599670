"""`esa-tls run` with the webhook and splunk_hec sinks, killed in the middle: every record arrives, in the end and by its id once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.contract.hec_stub import TOKEN, HecStub, told
from tests.contract.http_receiver import OK, HttpReceiver, Posted, Reply
from tests.e2e.reference import written
from tests.e2e.sidecar import Sidecar, Sidecars, wait_for, write_config
from tests.e2e.test_run import deliver, simulated

WITHIN_S = 60.0


def everything_sent(sidecar: Sidecar) -> bool:
    """Whether no sink has anything left."""
    held = sidecar.metric("esa_tls_lines_held")
    return held == 0 and sidecar.metric("esa_tls_sink_oldest_unsent_age_seconds") == 0


async def test_every_record_arrives_by_http(tmp_path: Path, sidecars: Sidecars) -> None:
    """Receivers that are busy now and then, a kill -9 between: both have exactly the records that the file has."""
    hooked: dict[str, Any] = {}
    posts = 0

    def hook(posted: Posted) -> Reply:
        nonlocal posts
        posts += 1
        if posts % 5 == 2:
            return Reply(503)
        assert posted.headers["x-esa-tls-signature"].startswith("t=")
        hooked.update({record["event"]["id"]: record for record in json.loads(posted.body)})
        return OK

    busy = iter([None, told(503, 9, "Server is busy"), Reply(cut=True)])
    stub = HecStub(before=lambda _: next(busy, None))
    async with HttpReceiver(hook) as receiver, HttpReceiver(stub.answer) as splunk:
        retry = {"retry_initial_s": 0.05, "retry_max_s": 0.2, "from": "oldest"}
        config = write_config(
            tmp_path,
            max_hold_s=0.2,
            sinks=[
                {"type": "jsonl", "path": str(tmp_path / "records.jsonl")},
                {"type": "webhook", "endpoints": [f"{receiver.url}/in"], "signature_key": "k", "compression": "gzip", **retry},
                {"type": "splunk_hec", "endpoints": [splunk.url], "token": TOKEN, **retry},
            ],
        )
        lines = simulated(messages=150, seed=8)
        half = len(lines) // 2

        def feed() -> None:
            sidecar = sidecars.start(config)
            deliver(sidecar, lines[:half])
            wait_for("sinks are at work", lambda: sidecar.metric("esa_tls_sink_records_sent_total") > 0, within_s=WITHIN_S)
            sidecar.kill()
            sidecar = sidecars.start(config)
            deliver(sidecar, lines[half:])
            wait_for("everything is sent", lambda: everything_sent(sidecar), within_s=WITHIN_S)
            assert sidecar.drain() == 0

        await asyncio.to_thread(feed)

    expected = written(tmp_path / "records.jsonl")
    assert expected == hooked
    assert expected.keys() == {event["event"]["event"]["id"] for event in stub.events}
    assert {record["host"]["name"] for record in expected.values()} == {event["host"] for event in stub.events}
