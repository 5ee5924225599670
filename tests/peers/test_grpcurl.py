"""Our gRPC service as grpcurl meets it: it has no schema of ours and asks for one by reflection."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.e2e.sidecar import Sidecar, Sidecars, wait_for, write_config
from tests.e2e.test_run import TLS_LINES, deliver
from tests.peers.programs import Programs
from tests.tls_files import TlsFiles

pytestmark = pytest.mark.timeout(60, func_only=True)  # a first run builds grpcurl before

SERVICE = "esa_tls.v1.EsaTls"
TOKEN = "opensesame"
CALL_TIMEOUT_S = 20.0

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """Certificates."""
    return TlsFiles(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module", params=["plain", "TLS and token"])
def sidecar(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tls: TlsFiles) -> Iterator[Sidecar]:
    """A sidecar that has heard of a message."""
    api: dict[str, Any] = {"listen": "127.0.0.1:0"}
    if request.param != "plain":
        api |= {"token": TOKEN, "tls": {"cert_file": tls.server[0], "key_file": tls.server[1]}}
    sidecars = Sidecars()
    try:
        started = sidecars.start(write_config(tmp_path_factory.mktemp("api"), max_hold_s=0.1, api=api))
        deliver(started, TLS_LINES)
        yield started
        assert started.drain() == 0
        assert "Traceback" not in started.text
    finally:
        sidecars.end()


@pytest.fixture
def options(request: pytest.FixtureRequest, sidecar: Sidecar, tls: TlsFiles) -> list[str]:
    """What grpcurl has to be told to get in."""
    if request.node.callspec.params["sidecar"] == "plain":
        return ["-plaintext"]
    return ["-cacert", tls.ca_file, "-H", f"authorization: Bearer {TOKEN}"]


@pytest.fixture
def call(grpcurl: Path, sidecar: Sidecar, options: list[str]) -> Call:
    """Runs grpcurl."""

    def run(*words: str, flags: tuple[str, ...] = (), options: list[str] = options, given: str = "") -> subprocess.CompletedProcess[str]:
        command: list[str | Path] = [grpcurl, *options, "-max-time", "15", *flags, f"127.0.0.1:{sidecar.ports['api']}", *words]
        return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=CALL_TIMEOUT_S)

    return run


def another(n: int) -> list[bytes]:
    """The lines of another message: MID 900 + n on ICID 500 + n, to somebody else."""
    changes = ((b"ICID 500", b"ICID %d" % (500 + n)), (b"MID 900", b"MID %d" % (900 + n)), (b"<900@", b"<%d@" % (900 + n)))
    lines = [line.replace(b"user@", b"user%d@" % n) for line in TLS_LINES]
    for old, new in changes:
        lines = [line.replace(old, new) for line in lines]
    return lines


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What a call that went well said."""
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_lists_and_describes(call: Call) -> None:
    """Reflection alone gives the services, the methods, and every message that they speak of."""
    services = said(call("list")).split()
    assert SERVICE in services
    assert "grpc.health.v1.Health" in services
    assert said(call("list", SERVICE)).split() == [f"{SERVICE}.{method}" for method in ("Enrich", "Lookup", "Watch")]

    assert "rpc Enrich ( stream .esa_tls.v1.EnrichRequest ) returns ( stream .esa_tls.v1.EnrichResponse );" in said(
        call("describe", SERVICE)
    )
    assert "string message_id = 4;" in said(call("describe", "esa_tls.v1.LookupRequest"))
    assert ".google.protobuf.Timestamp time = " in said(call("describe", "esa_tls.v1.Header"))


def test_it_looks_up(call: Call) -> None:
    """A message by its number, by its Message-ID and by a recipient; a connection by its number; JSON as protobuf has it."""
    for query in ('{"mid": 900}', '{"message_id": "<900@example.com>"}', '{"recipient": "USER@example.org"}'):
        [result] = msgspec.json.decode(said(call(f"{SERVICE}/Lookup", flags=("-d", query))))["results"]
        assert result["state"] == "LOOKUP_STATE_OPEN"
        assert result["message"]["mid"] == "900"
        assert result["message"]["reception"]["tls"]["outcome"] == "TLS_OUTCOME_SUCCESS"
    [result] = msgspec.json.decode(said(call(f"{SERVICE}/Lookup", flags=("-d", '{"icid": 500}'))))["results"]
    assert result["state"] == "LOOKUP_STATE_GONE"
    assert result["connection"]["leg"]["tls"]["cipher"] == "ECDHE-RSA-AES256-GCM-SHA384"
    assert msgspec.json.decode(said(call(f"{SERVICE}/Lookup", flags=("-d", '{"mid": 1}')))) == {}


def test_it_enriches(call: Call) -> None:
    """Lines as a stream of JSON: an acknowledgement for each batch, and the records of the lines."""
    lines = another(1)
    batches = [lines[:4], lines[4:]]
    requests = "".join(
        msgspec.json.encode({"batch_id": number, "lines": [base64.b64encode(line).decode() for line in batch]}).decode()
        for number, batch in enumerate(batches, 1)
    )
    answers = said(call(f"{SERVICE}/Enrich", flags=("-d", "@"), given=requests))

    decode, told = json.JSONDecoder().raw_decode, []
    while answers := answers.lstrip():
        answer, end = decode(answers)
        told.append(answer)
        answers = answers[end:]
    assert [answer["ack"]["batch_id"] for answer in told if "ack" in answer] == ["1", "2"]
    records = [record for answer in told for record in answer.get("batch", {}).get("records", [])]
    assert {record["line"]["original"].encode() for record in records if "line" in record} == set(lines)


def test_it_watches(grpcurl: Path, sidecar: Sidecar, options: list[str], programs: Programs, call: Call) -> None:
    """Records as they happen, those that pass the filter: JSON by JSON, while the call goes on."""
    wanted = '{"filter": {"kinds": ["RECORD_KIND_CONNECTION"], "outcomes": ["TLS_OUTCOME_SUCCESS"]}}'
    before = sidecar.metric("esa_tls_api_watchers")
    watching = programs.start(grpcurl, *options, "-d", wanted, f"127.0.0.1:{sidecar.ports['api']}", f"{SERVICE}/Watch")
    wait_for("it watches", lambda: sidecar.metric("esa_tls_api_watchers") > before, within_s=CALL_TIMEOUT_S)
    deliver(sidecar, another(2))
    watching.until_said('"icid": "502"')

    assert '"line": ' not in watching.text


def test_without_the_token(call: Call, tls: TlsFiles, request: pytest.FixtureRequest) -> None:
    """Where a token is wanted, even the schema is for those who have it; health is for all."""
    if request.node.callspec.params["sidecar"] == "plain":
        answer = said(call("grpc.health.v1.Health/Check"))
    else:
        refused = call("list", options=["-cacert", tls.ca_file])
        assert refused.returncode != 0
        assert "bearer token is missing or wrong" in refused.stderr
        answer = said(call("grpc.health.v1.Health/Check"))
    assert msgspec.json.decode(answer) == {"status": "SERVING"}
