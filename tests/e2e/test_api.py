"""The gRPC service of a running sidecar, asked by grpcio's own client, by one made from reflection alone, and by our commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tests.e2e.reference import Undisturbed, count_of, differences, kind_of, settings_of, written
from tests.e2e.sidecar import Sidecar, Sidecars, command, environment, esa_tls, wait_for, write_config
from tests.tls_files import TlsFiles
from tests.unit.api.cases import CLEAR_DELIVERY, END, MESSAGE, simulated_lines

from esa_tls.api.convert import to_dict
from esa_tls.api.v1 import records_pb2, service_pb2
from esa_tls.api.v1.service_pb2 import EnrichRequest, EnrichResponse, LookupRequest, RecordFilter, WatchRequest
from esa_tls.api.v1.service_pb2_grpc import EsaTlsStub

CALL_S = 30.0
FROM: dict[str, Any] = {"appliance": {"from": ["record:appliance"]}}


@contextmanager
def client(sidecar: Sidecar, *, token: str | None = None) -> Iterator[tuple[Any, grpc.Channel]]:
    """A stub and its channel."""
    with grpc.insecure_channel(f"127.0.0.1:{sidecar.ports['api']}") as channel:
        yield EsaTlsStub(channel), channel


def batches(lines: Sequence[bytes], *, size: int = 500, appliance: str = "esa1", prefix: str = "b") -> list[EnrichRequest]:
    """Requests with keys of their own."""
    return [
        EnrichRequest(batch_id=n, key=f"{prefix}{n}".encode(), lines=lines[at : at + size], appliance=appliance, acks_only=True)
        for n, at in enumerate(range(0, len(lines), size))
    ]


def acks(responses: Iterator[EnrichResponse]) -> list[int]:
    """The acknowledged batches of a stream."""
    return [response.ack.batch_id for response in responses if response.HasField("ack")]


# -- Enrich ----------------------------------------------------------------------------------------------------------------------
def test_lines_handed_over_become_records(tmp_path: Path, sidecars: Sidecars) -> None:
    """What goes in over `Enrich` comes out of the sinks, field by field what the core makes of it, and the same over the stream."""
    config = write_config(tmp_path, appliance={"name": "esa1"})
    sidecar = sidecars.start(config)
    lines = list(simulated_lines())
    requests = batches(lines)
    requests[0].acks_only = False
    with client(sidecar) as (stub, _):
        answers = list(stub.Enrich(iter(requests), timeout=CALL_S))
    seen = {record["event"]["id"]: record for answer in answers for record in map(to_dict, answer.batch.records)}

    assert 0 == sidecar.drain()
    assert list(range(len(requests))) == acks(iter(answers))
    out = written(tmp_path / "records.jsonl")
    expected = Undisturbed(settings_of(config), source="api").feed(lines, batch_lines=500).records()
    assert [] == differences(expected, out)
    assert {one for one in out if kind_of(out[one]) != "line"} == {one for one in seen if kind_of(seen[one]) != "line"}
    assert seen.items() <= out.items()


def test_killed_and_sent_again(tmp_path: Path, sidecars: Sidecars) -> None:
    """After `kill -9` in the middle a client sends all again under the same keys: each line has one record, none twice, none lost."""
    config = write_config(tmp_path, **FROM)
    sidecar = sidecars.start(config)
    lines = list(simulated_lines(1_500))
    requests = batches(lines, size=200)
    acknowledged: list[int] = []
    ended: list[grpc.StatusCode] = []
    some = threading.Event()

    def hand_over() -> None:
        with client(sidecar) as (stub, _):
            try:
                for response in stub.Enrich(iter(requests), timeout=CALL_S):
                    acknowledged.append(response.ack.batch_id)
                    if len(acknowledged) >= len(requests) // 3:
                        some.set()
            except grpc.RpcError as error:
                ended.append(error.code())
            finally:
                some.set()

    sending = threading.Thread(target=hand_over)
    sending.start()
    assert some.wait(CALL_S)
    sidecar.kill()
    sending.join(CALL_S)
    assert [grpc.StatusCode.UNAVAILABLE] == ended
    assert acknowledged == list(range(len(acknowledged)))

    again = sidecars.start(config)
    with client(again) as (stub, _):
        assert list(range(len(requests))) == acks(stub.Enrich(iter(requests), timeout=CALL_S))
    assert again.metric("esa_tls_batches_known_total") >= len(acknowledged)
    assert 0 == again.drain()
    out = written(tmp_path / "records.jsonl")  # a record that is there twice is an error
    assert len(lines) == sum(record["cisco_esa"]["record"] == "line" for record in out.values())


def test_a_batch_sent_twice_on_purpose(tmp_path: Path, sidecars: Sidecars) -> None:
    """The same key and lines on one sidecar are acknowledged twice and taken once; without a key they are taken twice."""
    sidecar = sidecars.start(write_config(tmp_path, **FROM))
    with client(sidecar) as (stub, _):
        for _ in range(2):
            assert [0] == acks(stub.Enrich(iter(batches(MESSAGE)), timeout=CALL_S))
        for _ in range(2):
            assert [5] == acks(stub.Enrich(iter([EnrichRequest(batch_id=5, lines=END, appliance="esa1")]), timeout=CALL_S))

    assert 0 == sidecar.drain()
    assert len(MESSAGE) + 2 * len(END) == count_of(tmp_path / "records.jsonl", "line")


# -- Lookup ----------------------------------------------------------------------------------------------------------------------
def test_an_open_message_is_known_after_a_restart(tmp_path: Path, sidecars: Sidecars) -> None:
    """An open message is found with its reception's TLS by all that names it, also by a sidecar that was killed and started again."""
    config = write_config(tmp_path, **FROM)
    sidecar = sidecars.start(config)
    with client(sidecar) as (stub, _):
        assert [0] == acks(stub.Enrich(iter(batches(MESSAGE)), timeout=CALL_S))
    sidecar.kill()

    with client(sidecars.start(config)) as (stub, _):
        for question in (
            LookupRequest(mid=21),
            LookupRequest(message_id="<one@example.net>"),
            LookupRequest(recipient="bob@EXAMPLE.org", appliance="esa1", epoch=0),
        ):
            (found,) = stub.Lookup(question, timeout=CALL_S).results
            assert (service_pb2.LOOKUP_STATE_OPEN, 21) == (found.state, found.message.mid)
            tls = found.message.reception.tls
            assert (records_pb2.TLS_OUTCOME_SUCCESS, records_pb2.EVIDENCE_LINE, False) == (tls.outcome, tls.evidence, tls.in_clear)
        (connection,) = stub.Lookup(LookupRequest(icid=11), timeout=CALL_S).results
        assert records_pb2.DIRECTION_INBOUND == connection.connection.leg.direction
        assert not stub.Lookup(LookupRequest(mid=21, appliance="esa2"), timeout=CALL_S).results


# -- Watch -----------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sink", ["jsonl", "fluent"])
def test_watching_one_kind(tmp_path: Path, sidecars: Sidecars, sink: str) -> None:
    """One who watches deliveries in clear gets those, whichever encoding the sinks need, and is told when the sidecar stops."""
    settings: dict[str, Any] = {} if sink == "jsonl" else {"sinks": [{"type": "fluent", "endpoints": ["127.0.0.1:1"]}]}
    sidecar = sidecars.start(write_config(tmp_path, **FROM, **settings))
    wanted = RecordFilter(
        kinds=[records_pb2.RECORD_KIND_DELIVERY],
        outcomes=[records_pb2.TLS_OUTCOME_NONE],
        directions=[records_pb2.DIRECTION_OUTBOUND],
        appliances=["esa2"],
    )
    with client(sidecar) as (stub, _):
        watching = stub.Watch(WatchRequest(filter=wanted), timeout=CALL_S)
        watching.initial_metadata()  # from here on nothing is missed
        for appliance in ("esa1", "esa2"):
            acks(stub.Enrich(iter(batches(MESSAGE + CLEAR_DELIVERY + END, appliance=appliance, prefix=appliance)), timeout=CALL_S))
        (record,) = next(watching).batch.records
        assert ("esa2", 31) == (record.delivery.header.appliance, record.delivery.leg.dcid)

        os.kill(sidecar.pid, signal.SIGTERM)
        with pytest.raises(grpc.RpcError) as stopped:
            next(watching)
        assert (grpc.StatusCode.UNAVAILABLE, "the sidecar is stopping") == (stopped.value.code(), stopped.value.details())


def test_a_watcher_that_does_not_read_holds_up_nobody(tmp_path: Path, sidecars: Sidecars) -> None:
    """While a watcher reads nothing all batches are acknowledged; it is told how many records it missed."""
    sidecar = sidecars.start(write_config(tmp_path, **FROM))
    text = "x" * 2_000
    lines = [f"Mon Mar  2 10:00:00 2026 Info: MID {n} Subject '{text}'".encode() for n in range(1, 10_001)]
    with client(sidecar) as (slow, _), client(sidecar) as (stub, _):
        watching = slow.Watch(WatchRequest(), timeout=60)
        watching.initial_metadata()
        requests = batches(lines, size=1_000)
        assert list(range(len(requests))) == acks(stub.Enrich(iter(requests), timeout=CALL_S))
        wait_for("records left out", lambda: sidecar.metric("esa_tls_api_records_dropped_total") > 0, within_s=20)

        seen = dropped = 0
        while seen + dropped < len(lines):
            response = next(watching)
            seen += len(response.batch.records)
            dropped = response.batch.dropped
        assert dropped
        assert len(lines) == seen + dropped
        watching.cancel()
    assert len(lines) == sidecar.metric("esa_tls_lines_total")


# -- clients without our stubs ---------------------------------------------------------------------------------------------------
def test_a_client_made_from_reflection_alone(tmp_path: Path, sidecars: Sidecars) -> None:
    """A client that knows nothing but the address finds the service, its methods and messages, and gets an answer."""
    sidecar = sidecars.start(write_config(tmp_path, **FROM))
    with client(sidecar) as (stub, channel):
        acks(stub.Enrich(iter(batches(MESSAGE)), timeout=CALL_S))
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "esa_tls.v1.EsaTls" in database.get_services()
        pool = DescriptorPool(database)
        service = pool.FindServiceByName("esa_tls.v1.EsaTls")
        assert ["Enrich", "Lookup", "Watch"] == [method.name for method in service.methods]
        method = service.methods_by_name["Lookup"]
        request, response = (GetMessageClass(kind) for kind in (method.input_type, method.output_type))
        ask = channel.unary_unary(
            f"/{service.full_name}/{method.name}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )

        answer: Any = ask(request(mid=21), timeout=CALL_S)

        assert 21 == answer.results[0].message.mid
        assert service_pb2.LookupResponse is not type(answer)


def test_health(tmp_path: Path, sidecars: Sidecars) -> None:
    """GRPC health says SERVING, and to one who watches NOT_SERVING when the sidecar drains."""
    sidecar = sidecars.start(write_config(tmp_path))
    with client(sidecar) as (_, channel):
        health: Any = health_pb2_grpc.HealthStub(channel)
        watching = health.Watch(health_pb2.HealthCheckRequest(service="esa_tls.v1.EsaTls"), timeout=CALL_S)
        assert health_pb2.HealthCheckResponse.SERVING == next(watching).status

        os.kill(sidecar.pid, signal.SIGTERM)
        assert health_pb2.HealthCheckResponse.NOT_SERVING == next(watching).status
        watching.cancel()


# -- our commands ----------------------------------------------------------------------------------------------------------------
def test_the_commands(tmp_path: Path, sidecars: Sidecars) -> None:
    """`lookup` and `watch` ask the sidecar: as text, as JSON, and with their exit codes."""
    sidecar = sidecars.start(write_config(tmp_path, **FROM))
    address = f"127.0.0.1:{sidecar.ports['api']}"
    watching = subprocess.Popen(
        command("watch", "--address", address, "--kind", "delivery,message", "--json"),
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for("the command watches", lambda: sidecar.metric("esa_tls_api_watchers") == 1, within_s=CALL_S)
        with client(sidecar) as (stub, _):
            acks(stub.Enrich(iter(batches(MESSAGE)), timeout=CALL_S))
            shown = esa_tls("lookup", "--address", address, "--recipient", "bob@example.org")
            told = esa_tls("lookup", "--address", address, "--mid", "21", "--json")
            acks(stub.Enrich(iter(batches(CLEAR_DELIVERY + END, prefix="c")), timeout=CALL_S))
        assert watching.stdout
        records = [json.loads(watching.stdout.readline()) for _ in range(2)]
        watching.send_signal(signal.SIGINT)
        rest, said = watching.communicate(timeout=CALL_S)
    finally:
        watching.kill()
        watching.communicate()

    assert (0, "") == (shown.returncode, shown.stderr)
    for text in ("MID 21", "open", "esa1/0/ICID/11", "success (line)", "Bob@Example.org", "pending"):
        assert text in shown.stdout
    answer = json.loads(told.stdout)
    assert ("open", 21) == (answer["state"], answer["record"]["cisco_esa"]["mid"])
    assert ["delivery", "message"] == [record["cisco_esa"]["record"] for record in records]
    assert {one["event"]["id"]: one for one in records}.items() <= written(tmp_path / "records.jsonl").items()
    assert (0, "", "") == (watching.returncode, rest, said)

    missing = esa_tls("lookup", "--address", address, "--dcid", "999")
    assert (1, "Nothing is known of that now.\n", "") == (missing.returncode, missing.stdout, missing.stderr)
    assert 0 == sidecar.drain()
    nobody = esa_tls("lookup", "--address", address, "--dcid", "999")
    assert (1, "", f"esa-tls: {address}: no sidecar answers there: connection refused\n") == (
        nobody.returncode,
        nobody.stdout,
        nobody.stderr,
    )


def test_token_and_tls(tmp_path: Path, sidecars: Sidecars) -> None:
    """With a token and mutual TLS nobody gets in without both; the commands take them from the environment and from files."""
    files = TlsFiles(tmp_path / "tls")
    cert, key = files.server
    tls = {"cert_file": cert, "key_file": key, "client_ca_file": files.ca_file}
    sidecar = sidecars.start(write_config(tmp_path, api={"listen": "127.0.0.1:0", "token": "right", "tls": tls}))
    ask = ["lookup", "--address", f"127.0.0.1:{sidecar.ports['api']}", "--mid", "1"]
    secured = [*ask, "--ca-file", files.ca_file, "--cert-file", files.client[0], "--key-file", files.client[1]]
    token = tmp_path / "token"
    token.write_text("right\n")

    def told(*arguments: str, **variables: str) -> tuple[int, str]:
        ran = subprocess.run(
            command(*arguments),
            env={**environment(), **variables},
            capture_output=True,
            text=True,
            timeout=CALL_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return ran.returncode, ran.stdout + ran.stderr

    assert (1, "Nothing is known of that now.\n") == told(*secured, "--token-file", str(token))
    assert (1, "Nothing is known of that now.\n") == told(*secured, ESA_TLS_TOKEN="right")
    code, said = told(*secured, ESA_TLS_TOKEN="wrong")
    assert 2 == code
    assert "the bearer token is missing or wrong" in said
    assert "wrong" not in said.replace("missing or wrong", "")
    for arguments in (ask, [*ask, "--ca-file", files.ca_file]):
        code, said = told(*arguments, ESA_TLS_TOKEN="right")
        assert 1 == code
        assert 1 == said.count("\n"), said
    assert "right" not in sidecar.text
