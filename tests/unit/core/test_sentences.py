"""Sentences of summaries, one example per outcome, and what holds for all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from esa_tls.core.batch import Batch, Origin, Run
from esa_tls.core.pipeline import CoreSettings, Pipeline
from esa_tls.core.sentences import sentence
from esa_tls.core.state import DictState
from esa_tls.offline.simulate import SimulationSettings, simulate

INBOUND = {"record": "connection", "icid": 5, "direction": "inbound"}
OUTBOUND = {"record": "connection", "dcid": 7, "direction": "outbound"}
SUCCESS = {"outcome": "success", "in_clear": False, "protocol": "TLSv1.2", "cipher": "AES256-SHA"}
NONE = {"outcome": "none", "in_clear": True}
FAILED = {"outcome": "failed", "in_clear": True, "failure": {"class": "other", "reason": "STARTTLS unexpected response"}}

LEFT = "left in clear text for 2 recipients at example.org"

EXAMPLES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {**INBOUND, "tls": SUCCESS, "connection": {"end": "close", "message_count": 2}},
        {"source": {"ip": "192.0.2.1", "domain": "mx.example.org"}},
        "Inbound connection ICID 5 from mx.example.org [192.0.2.1]: TLS (TLSv1.2, AES256-SHA); 2 messages; ended by close.",
    ),
    (
        {**INBOUND, "tls": {**FAILED, "required": True}, "connection": {"end": "close", "message_count": 0, "lost": True}},
        {},
        "Inbound connection ICID 5: TLS failed (STARTTLS unexpected response), which was required; no message; ended by close, lost.",
    ),
    (
        {**OUTBOUND, "tls": NONE, "connection": {"end": "epoch_reset", "message_count": 1}},
        {"destination": {"ip": "2001:db8::1", "port": 25}},
        "Outbound connection DCID 7 to 2001:db8::1 port 25: no TLS; 1 message; ended by epoch reset.",
    ),
    (
        {**OUTBOUND, "tls": {"outcome": "unknown"}, "connection": {"end": "lost", "lost": True}},
        {},
        "Outbound connection DCID 7: TLS unknown; no message; ended by lost.",
    ),
    (
        {
            "record": "delivery", "mid": 3, "dcid": 7, "rids": [0], "tls": SUCCESS,
            "delivery": {"result": "delivered", "response": "ok: queued"}, "envelope": {"to": ["a@example.org"]},
        },
        {"destination": {"ip": "192.0.2.9", "port": 25}},
        "MID 3 for a@example.org: delivered over DCID 7 to 192.0.2.9 port 25 under TLS: ok: queued.",
    ),
    (
        {"record": "delivery", "mid": 3, "dcid": 7, "rids": [0, 1, 2, 3, 4], "tls": FAILED, "delivery": {"result": "delivered"}},
        {},
        "MID 3 for RID 0, 1, 2 and 2 more: delivered over DCID 7 in clear text (TLS failed (STARTTLS unexpected response)).",
    ),
    (
        {"record": "delivery", "mid": 3, "dcid": 7, "rids": [0], "tls": {"outcome": "failed"}, "delivery": {"result": "tls_blocked"}},
        {},
        "MID 3 for RID 0: not sent because TLS failed over DCID 7 (TLS failed).",
    ),
    (
        {
            "record": "message", "mid": 3, "posture": "exposed", "message": {"end": "finished"}, "reception": {"tls": SUCCESS},
            "envelope": {"from": "a@example.com", "to": ["b@example.org"]}, "clear": {"recipient_count": 2, "domains": ["example.org"]},
        },
        {},
        f"MID 3 from a@example.com to b@example.org: exposed (received under TLS, {LEFT}); finished.",
    ),
    ({"record": "message", "mid": 3, "posture": "unknown", "message": {"end": "stream_end"}}, {}, "MID 3: unknown; stream end."),
    (
        {"record": "consolidated", "mid": 3, "reception": {"tls": {"outcome": "success"}}, "delivery_tls": {"outcome": "unknown"}},
        {"email": {"from": {"address": ["a@example.com"]}, "to": {"address": ["b@example.org"]}}, "event": {"action": "delivered"}},
        "Consolidated event of MID 3 from a@example.com to b@example.org: delivered (received under TLS, delivered (TLS unknown)).",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("own", "beside", "expected"), EXAMPLES)
def test_sentences(own: dict[str, Any], beside: dict[str, Any], expected: str) -> None:
    """What is known is said, what is absent is left out."""
    assert expected == sentence({"cisco_esa": own, **beside})


def test_a_line_is_its_own_sentence() -> None:
    """Of a `line` record the line itself."""
    assert sentence({"cisco_esa": {"record": "line"}, "event": {"original": "a  b"}}) == "a  b"


def test_every_simulated_summary_has_a_sentence_on_one_line() -> None:
    """Whatever the record holds: one line, a full stop, no None and no empty brackets."""
    pipeline = Pipeline(CoreSettings(), DictState(), encodings=("json",), now_s=1.7e9)
    pipeline.feed(
        Batch([Run(Origin(tag="esa1"), [line for _, line in simulate(SimulationSettings(seed=5, messages=300))])], 1), now_s=1.7e9
    )
    pipeline.end_stream()
    made = pipeline.seal()
    assert made is not None
    texts = [
        sentence(json.loads(line)) for row in made.rows if row.cls == "summary" for _, _, body in row.segments for line in body.splitlines()
    ]
    assert len(texts) > 500
    for text in texts:
        assert text.endswith(".")
        assert not any(odd in text for odd in ("\n", "None", "()", "  ", " ,", "ended by ."))
