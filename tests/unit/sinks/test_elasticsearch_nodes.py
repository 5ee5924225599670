"""Requests to the nodes of a cluster: turns, rests, ways in, and connections that end without an answer."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from pathlib import Path

import pytest
from tests.contract.bulk_receiver import TAKE, BulkReceiver, Reply
from tests.tls_files import TlsFiles

from esa_tls.config import ClientTls
from esa_tls.errors import TransientError
from esa_tls.runtime.tls import client_contexts
from esa_tls.sinks.elasticsearch_nodes import MAX_REST_S, PLAIN_FOR_S, REST_S, Nodes, authorization
from esa_tls.sinks.http_client import HttpClient
from esa_tls.wire.elasticsearch import BULK_PATH, NDJSON

BODY = b'{"create":{"_index":"logs-x-y","_id":"id-1"}}\n{"a":1}\n'


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def post(nodes: Nodes) -> int:
    """The status of a bulk request."""
    return (await nodes.request("POST", BULK_PATH, BODY, content_type=NDJSON)).status


async def test_nodes_take_turns() -> None:
    """Each of three gets the same share."""
    async with BulkReceiver() as one, BulkReceiver() as two, BulkReceiver() as three:
        nodes = Nodes([one.url, two.url + "/", three.url])
        for _ in range(9):
            assert await post(nodes) == 200
        await nodes.close()
        assert [len(receiver.requests) for receiver in (one, two, three)] == [3, 3, 3]


async def test_a_node_that_is_gone_costs_nothing() -> None:
    """The next one is asked at once, and the one that is gone is left out until it has rested, twice as long each time."""
    clock = Clock()
    async with BulkReceiver() as gone, BulkReceiver() as there:
        nodes = Nodes([gone.url, there.url], clock=clock)
        await gone.stop()
        for _ in range(4):
            assert await post(nodes) == 200
        assert len(there.requests) == 4
        await gone.start()
        clock.now_s += REST_S - 0.1
        for _ in range(2):
            await post(nodes)
        assert gone.requests == []
        clock.now_s += 0.2
        for _ in range(2):
            await post(nodes)
        assert len(gone.requests) == 1
        await nodes.close()


async def test_rests_grow_and_end_with_an_answer() -> None:
    """A node that stays away is tried more and more seldom, at least once a minute; an answer makes it well at once."""
    clock = Clock()
    async with BulkReceiver() as bad, BulkReceiver() as good:
        bad.answer = lambda _: Reply(503)
        nodes = Nodes([bad.url, good.url], clock=clock)
        tried_at = []
        while clock.now_s < 1300.0:
            before = len(bad.requests)
            await post(nodes)
            if len(bad.requests) > before:
                tried_at.append(clock.now_s)
            clock.now_s += 0.25
        rests = [later - earlier for earlier, later in itertools.pairwise(tried_at)]
        assert rests == sorted(rests)
        assert rests[0] <= REST_S + 0.5
        assert MAX_REST_S <= rests[-1] <= MAX_REST_S + 0.5
        bad.answer = lambda _: TAKE
        clock.now_s += MAX_REST_S
        for _ in range(4):
            await post(nodes)
        before = len(bad.requests)
        for _ in range(4):
            await post(nodes)
        assert len(bad.requests) - before == 2
        bad.answer = lambda _: Reply(503)  # and again: it begins with a short rest
        for _ in range(2):
            await post(nodes)
        before = len(bad.requests)
        clock.now_s += REST_S + 0.1
        for _ in range(2):
            await post(nodes)
        assert len(bad.requests) - before == 1
        await nodes.close()


async def test_if_no_node_is_well_one_is_asked_all_the_same() -> None:
    """All of them rest: the request goes out, and a cluster that is back is met at once."""
    async with BulkReceiver() as one, BulkReceiver() as two:
        nodes = Nodes([one.url, two.url], clock=Clock())
        await one.stop()
        await two.stop()
        with pytest.raises(TransientError, match="no node can be reached"):
            await post(nodes)
        await two.start()
        assert await post(nodes) == 200
        await nodes.close()


async def test_a_connection_that_was_closed_meanwhile_is_made_again() -> None:
    """The store came back on the same port: the request that meets the old connection goes through."""
    async with BulkReceiver() as receiver:
        nodes = Nodes([receiver.url])
        await post(nodes)
        await receiver.stop()
        await receiver.start()
        assert await post(nodes) == 200
        await nodes.close()
    assert len(receiver.requests) == 2


async def test_a_node_that_does_not_answer_in_time() -> None:
    """The request fails after `timeout_s`, to be sent again."""
    async with BulkReceiver() as receiver:
        receiver.release = asyncio.Event()
        nodes = Nodes([receiver.url], client=HttpClient(timeout_s=0.05))
        with pytest.raises(TransientError):
            await post(nodes)
        receiver.release.set()
        await nodes.close()


# -- compressed bodies -----------------------------------------------------------------------------------------------------------
async def test_closed_without_an_answer_after_a_compressed_body(caplog: pytest.LogCaptureFixture) -> None:
    """The node is asked again without compression; when that is answered it gets plain bodies for a while, and then is tried again."""
    clock = Clock()
    async with BulkReceiver(lambda request: Reply(cut=True) if request.compressed else TAKE) as receiver:
        nodes = Nodes([receiver.url], clock=clock)
        assert await post(nodes) == 200
        assert [request.compressed for request in receiver.requests] == [True, True, False]
        assert "closes without an answer after compressed bodies" in caplog.text
        assert await post(nodes) == 200
        assert [request.compressed for request in receiver.requests[3:]] == [False]
        receiver.answer = lambda _: TAKE
        clock.now_s += PLAIN_FOR_S + 1
        assert await post(nodes) == 200
        assert [request.compressed for request in receiver.requests[4:]] == [True]
        await nodes.close()


async def test_a_node_that_cuts_everything_is_not_blamed_on_compression() -> None:
    """Nothing was answered: the request failed, and the next one is compressed again."""
    cut = True
    async with BulkReceiver(lambda _: Reply(cut=True) if cut else TAKE) as receiver:
        nodes = Nodes([receiver.url])
        with pytest.raises(TransientError):
            await post(nodes)
        cut = False
        assert await post(nodes) == 200
        await nodes.close()
    assert receiver.requests[-1].compressed


# -- ways in ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        (authorization(), None),
        (authorization(api_key="VnVhQ2ZHY0JDZGJr"), "ApiKey VnVhQ2ZHY0JDZGJr"),
        (authorization(username="Aladdin", password="open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        (authorization(username="ä", password="ö"), "Basic w6Q6w7Y="),
        (authorization(username="u"), "Basic dTo="),
    ],
)
async def test_who_we_are(headers: dict[str, str], wanted: str | None) -> None:
    """An API key, a user with a password, or nobody."""
    async with BulkReceiver() as receiver:
        nodes = Nodes([receiver.url], headers={**headers, "X-Gateway": "g"})
        await post(nodes)
        await nodes.close()
    (request,) = receiver.requests
    assert request.headers.get("Authorization") == wanted
    assert request.headers["X-Gateway"] == "g"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """Certificates."""
    return TlsFiles(tmp_path_factory.mktemp("tls"))


def server(files: TlsFiles, *, ask: bool = False) -> ssl.SSLContext:
    """A server's context, which may want a client's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files.server)
    if ask:
        context.load_verify_locations(cafile=files.ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def secured(settings: ClientTls) -> HttpClient:
    """What the composition root hands in."""
    return HttpClient(timeout_s=20.0, tls=client_contexts(settings, owner="sink x", counters=None).current)


async def test_tls_and_client_certificates(files: TlsFiles) -> None:
    """A server of a known authority is trusted, another one not; who wants a certificate of ours gets it."""
    async with BulkReceiver(tls=server(files, ask=True)) as receiver:
        good = Nodes([receiver.url], client=secured(ClientTls(ca_file=files.ca_file, cert_file=files.client[0], key_file=files.client[1])))
        assert await post(good) == 200
        await good.close()
        nameless = Nodes([receiver.url], client=secured(ClientTls(ca_file=files.ca_file)))
        with pytest.raises(TransientError):
            await post(nameless)
        await nameless.close()
        stranger = Nodes([receiver.url])
        with pytest.raises(TransientError, match="certificate verify failed"):
            await post(stranger)
        await stranger.close()


async def test_a_path_stays_in_front(tmp_path: Path) -> None:
    """A cluster behind a gateway's path is asked below it."""
    paths = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        paths.append((await reader.readline()).split()[1].decode())
        writer.close()

    listener = await asyncio.start_server(note, "127.0.0.1", 0)
    nodes = Nodes([f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/es/"], gzip=False)
    with pytest.raises(TransientError):
        await nodes.request("GET", "/_bulk")
    await nodes.close()
    listener.close()
    await listener.wait_closed()
    assert set(paths) == {"/es/_bulk"}


async def test_closing_is_safe_at_any_time() -> None:
    """Before the first request, and twice."""
    nodes = Nodes(["http://127.0.0.1:9"])
    await nodes.close()
    await nodes.close()
