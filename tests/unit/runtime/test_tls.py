"""runtime/tls.py, runtime/refusals.py and runtime/streams.py: one security model, certificates that change, peers that are told why."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import stat
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
import trustme
from aiohttp import web
from tests.tls_files import TlsFiles

from esa_tls.config import ClientTls, ListenTls
from esa_tls.errors import ConfigError
from esa_tls.runtime.refusals import LOG_EVERY_S, MAX_REMEMBERED, Refusals
from esa_tls.runtime.streams import Address, listen, open_streams, peer_name
from esa_tls.runtime.tls import (
    LOOK_EVERY_S,
    Reloading,
    client_contexts,
    grpc_channel_credentials,
    grpc_channel_options,
    grpc_server_credentials,
    server_context,
)
from esa_tls.telemetry import PEERS_REFUSED, TLS_RELOADS, Counters

TEST_TIMEOUT_S = 20.0


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Echo:
    """A listener as the Forward source has it: what came is sent back once, then the connection ends."""

    def __init__(self, settings: ListenTls, *, handshake_timeout_s: float = 10.0) -> None:
        self.clock = Clock()
        self.counters = Counters()
        refusals = Refusals("source x", self.counters)
        self.tls = server_context(settings, owner="source x", refusals=refusals, counters=self.counters, monotonic_s=self.clock)
        self.handshake_timeout_s = handshake_timeout_s
        self.failures: asyncio.Queue[OSError] = asyncio.Queue()
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def later(self) -> None:
        """So much later that files are looked at again."""
        self.clock.now_s += LOOK_EVERY_S

    def refused(self) -> dict[str, float]:
        return {dict(labels)["reason"]: number for labels, number in self.counters.series(PEERS_REFUSED).items()}

    def accepted(self, transport: asyncio.Transport) -> None:
        task = asyncio.get_running_loop().create_task(self.serve(transport))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def serve(self, transport: asyncio.Transport) -> None:
        try:
            reader, writer = await open_streams(transport, tls=self.tls, handshake_timeout_s=self.handshake_timeout_s, limit=1000)
        except OSError as error:
            self.failures.put_nowait(error)
            return
        writer.write(await reader.read(100))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def ask(self, context: ssl.SSLContext, *, name: str = "localhost") -> bytes:
        """One connection: the answer, or what went wrong."""
        async with asyncio.timeout(TEST_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname=name)
            try:
                writer.write(b"hello")
                return await reader.read(100)
            finally:
                writer.transport.abort()

    async def certificate(self, context: ssl.SSLContext) -> int:
        """Serial number of the certificate shown."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname="localhost")
        found = writer.get_extra_info("peercert")["serialNumber"]
        writer.write(b"x")
        await reader.read(100)
        writer.transport.abort()
        return int(found, 16)


@contextlib.asynccontextmanager
async def echoing(settings: ListenTls, **changed: float) -> AsyncIterator[Echo]:
    """An `Echo` that listens."""
    echo = Echo(settings, **changed)
    listener = await listen(Address(host="127.0.0.1"), echo.accepted)
    echo.port = listener.port
    try:
        yield echo
    finally:
        listener.close()
        for task in list(echo._tasks):
            task.cancel()
        await asyncio.gather(*echo._tasks, return_exceptions=True)


@pytest.fixture(scope="module")
def others() -> trustme.CA:
    """An authority that nobody here trusts."""
    return trustme.CA()


# -- who gets in -----------------------------------------------------------------------------------------------------------------
async def test_our_client_and_our_listener_agree(tmp_path: Path) -> None:
    """TLS, and mutual TLS; by name and by address; 1.2 and 1.3."""
    files = TlsFiles(tmp_path)
    for mutual in (False, True):
        async with echoing(files.listen(mutual=mutual)) as echo:
            contexts = client_contexts(files.connect(mutual=mutual), owner="sink x")
            assert await echo.ask(contexts.current()) == b"hello"
            assert await echo.ask(contexts.current(), name="127.0.0.1") == b"hello"
            old = client_contexts(files.connect(mutual=mutual), owner="sink x").current()
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            assert await echo.ask(old) == b"hello"
            assert echo.refused() == {}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("which", "alert", "reason"),
    [
        ("stranger", "ALERT_UNKNOWN_CA", "client_certificate"),
        ("expired", "ALERT_CERTIFICATE_EXPIRED", "client_certificate"),
        ("none", "ALERT", "no_client_certificate"),
    ],
)
async def test_mutual_tls_tells_the_wrong_client_why(
    tmp_path: Path, others: trustme.CA, version: ssl.TLSVersion, which: str, alert: str, reason: str
) -> None:
    """A certificate of another authority, an expired one, and none at all: an alert to the client, a count, and nobody else suffers."""
    files = TlsFiles(tmp_path)
    cert = {
        "stranger": files.issue("stranger", "shipper.example", authority=others),
        "expired": files.issue("old", "shipper.example", expired=True),
        "none": None,
    }[which]
    async with echoing(files.listen(mutual=True)) as echo:
        wrong = files.client_context(cert=cert)
        wrong.maximum_version = version
        with pytest.raises(ssl.SSLError) as caught:
            await echo.ask(wrong)
        assert alert in (caught.value.reason or "")
        await echo.failures.get()
        assert echo.refused() == {reason: 1}
        assert await echo.ask(files.client_context(cert=files.client)) == b"hello"


async def test_a_client_refuses_the_wrong_server(tmp_path: Path, others: trustme.CA) -> None:
    """Another authority, another name, an expired certificate; `verify: false` takes all of them, `server_name` another name."""
    files = TlsFiles(tmp_path)
    strange, old = files.issue("strange", "localhost", authority=others), files.issue("old", "localhost", expired=True)
    trusting = client_contexts(files.connect(), owner="sink x")
    blind = client_contexts(ClientTls(verify=False), owner="sink x")
    for cert, told in ((strange, "unable to get local issuer"), (old, "certificate has expired")):
        async with echoing(ListenTls(cert_file=cert[0], key_file=cert[1])) as echo:
            with pytest.raises(ssl.SSLCertVerificationError, match=told):
                await echo.ask(trusting.current())
            assert await echo.ask(blind.current()) == b"hello"
            await echo.failures.get()
            assert echo.refused() == {"peer_alert": 1} or echo.refused() == {}  # asyncio's client does not always get its alert out
    async with echoing(files.listen()) as echo:
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await echo.ask(trusting.current(), name="store.example")


async def test_old_versions_are_refused(tmp_path: Path) -> None:
    """TLS 1.1 never gets in; with `min_version: 1.3` nor does 1.2."""
    files = TlsFiles(tmp_path)
    for least, newest in (("1.2", ssl.TLSVersion.TLSv1_1), ("1.3", ssl.TLSVersion.TLSv1_2)):
        settings = ListenTls(cert_file=files.server[0], key_file=files.server[1], min_version=least)  # type: ignore[arg-type]
        async with echoing(settings) as echo:
            old = files.client_context()
            with pytest.warns(DeprecationWarning, match="TLSv1_1") if newest == ssl.TLSVersion.TLSv1_1 else contextlib.nullcontext():
                old.minimum_version = old.maximum_version = newest
            old.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.raises(ssl.SSLError, match=r"(?i)alert protocol version"):
                await echo.ask(old)
            await echo.failures.get()
            assert echo.refused() == {"tls_version": 1}


async def test_who_speaks_no_tls_is_counted_and_told_nothing(tmp_path: Path) -> None:
    """A Forward sender without TLS on a TLS port ends with its own close, and is counted once."""
    async with echoing(TlsFiles(tmp_path).listen()) as echo:
        reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
        writer.write(b"\x93\xa1t\x01\x80" * 20)
        await reader.read(100)
        writer.close()
        await echo.failures.get()
        assert echo.refused() == {"no_tls": 1}


async def test_a_connection_without_a_word_is_no_refusal(tmp_path: Path) -> None:
    """A probe that connects and closes is not counted; one that stays silent is given up in time."""
    async with echoing(TlsFiles(tmp_path).listen(), handshake_timeout_s=0.05) as echo:
        _, writer = await asyncio.open_connection("127.0.0.1", echo.port)
        writer.close()
        assert not isinstance(await echo.failures.get(), TimeoutError)
        reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
        assert isinstance(await echo.failures.get(), TimeoutError)
        with contextlib.suppress(ConnectionError):
            assert await reader.read(10) == b""
        writer.close()
        assert echo.refused() == {}


# -- files that change -----------------------------------------------------------------------------------------------------------
async def test_a_renewed_certificate_counts_without_a_restart(tmp_path: Path) -> None:
    """Replaced files are used from the next handshake on, a second later at most, also by clients that send no server name."""
    files = TlsFiles(tmp_path)
    async with echoing(files.listen()) as echo:
        first = await echo.certificate(files.client_context())
        files.issue("server", "localhost", "127.0.0.1")
        assert await echo.certificate(files.client_context()) == first
        echo.later()
        second = await echo.certificate(files.client_context())
        assert second != first
        assert await echo.ask(files.client_context(), name="127.0.0.1") == b"hello"
        assert echo.counters.value(TLS_RELOADS, owner="source x", result="ok") == 1


async def test_a_client_authority_that_is_gone_counts_no_more(tmp_path: Path) -> None:
    """After `client_ca_file` changed, certificates of the old authority are refused, and of the new one taken: also with TLS 1.2."""
    files = TlsFiles(tmp_path)
    newer = trustme.CA()
    old_client, new_client = files.client, files.issue("newer", "shipper.example", authority=newer)
    trusting = [files.client_context(cert=cert) for cert in (old_client, new_client)]
    async with echoing(files.listen(mutual=True)) as echo:
        assert await echo.ask(trusting[0]) == b"hello"
        with pytest.raises(ssl.SSLError, match=r"(?i)unknown ca"):
            await echo.ask(trusting[1])
        files.write_authority(newer)
        echo.later()
        assert await echo.ask(trusting[1]) == b"hello"
        for context in (trusting[0], files_context_12(trusting[0])):
            with pytest.raises(ssl.SSLError, match=r"(?i)unknown ca"):
                await echo.ask(context)


def files_context_12(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same client, with TLS 1.2."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def test_an_old_session_does_not_outlive_its_authority(tmp_path: Path) -> None:
    """TLS 1.2 sessions are resumed as long as nothing changed; one from before the change is refused, the peer's next try is whole."""
    files, clock = TlsFiles(tmp_path), Clock()
    tls = server_context(files.listen(mutual=True), owner="source x", monotonic_s=clock)
    ours = files.client_context(cert=files.client)
    ours.maximum_version = ssl.TLSVersion.TLSv1_2

    def shake(session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
        """One connection over two pipes, ended properly: whether it was resumed, and its session."""
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = tls.wrap_bio(to_server, to_client, server_side=True)
        client = ours.wrap_bio(to_client, to_server, server_hostname="localhost", session=session)
        for steps in ((client.do_handshake, server.do_handshake), (client.unwrap, server.unwrap)):
            waiting = list(steps)
            for _ in range(20):
                for step in list(waiting):
                    with contextlib.suppress(ssl.SSLWantReadError):
                        step()
                        waiting.remove(step)
            assert not waiting
        return client.session_reused is True, client.session

    _, session = shake(None)
    reused, session = shake(session)
    assert reused
    files.write_authority(trustme.CA(), files.authority)
    clock.now_s += LOOK_EVERY_S
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        shake(session)
    reused, _ = shake(None)
    assert not reused


def spoil(files: TlsFiles, how: str) -> None:
    """Make the server's files unusable."""
    cert, key, other_key = Path(files.server[0]), Path(files.server[1]), Path(files.client[1])
    match how:
        case "missing":
            cert.unlink()
        case "key of another":
            key.write_bytes(other_key.read_bytes())
        case "empty":
            cert.write_bytes(b"")
        case "no PEM":
            key.write_bytes(b"-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n")


@pytest.mark.parametrize("broken", ["missing", "key of another", "empty", "no PEM"])
async def test_a_broken_new_file_keeps_the_old_certificate(tmp_path: Path, broken: str, caplog: pytest.LogCaptureFixture) -> None:
    """Counted and told once, not at each handshake; as soon as the files are right again they count."""
    files = TlsFiles(tmp_path)
    async with echoing(files.listen()) as echo:
        first = await echo.certificate(files.client_context())
        spoil(files, broken)
        for _ in range(3):
            echo.later()
            assert await echo.certificate(files.client_context()) == first
        assert echo.counters.value(TLS_RELOADS, owner="source x", result="failed") == 1
        [told] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert told.startswith("source x: tls")
        assert told.endswith("the certificates read before stay in use.")
        files.issue("server", "localhost", "127.0.0.1")
        echo.later()
        assert await echo.certificate(files.client_context()) != first


def test_a_link_that_points_elsewhere_is_a_change(tmp_path: Path) -> None:
    """Kubernetes swaps a link to a folder; the files behind it keep their times."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text("same")
        os.utime(tmp_path / name / "f", (1, 1))
    link = tmp_path / "now"
    link.symlink_to("a")
    clock = Clock()
    made = iter(range(10))
    one = Reloading("x", [str(link / "f")], lambda: next(made), monotonic_s=clock)
    clock.now_s += LOOK_EVERY_S
    assert one.current() == 0
    link.unlink()
    link.symlink_to("b")
    clock.now_s += LOOK_EVERY_S / 2
    assert one.current() == 0
    clock.now_s += LOOK_EVERY_S / 2
    assert (one.current(), one.generation) == (1, 1)


async def test_a_client_takes_up_changed_files(tmp_path: Path) -> None:
    """Each `current()` is a context of the newest files."""
    files, clock = TlsFiles(tmp_path), Clock()
    contexts = client_contexts(files.connect(mutual=True), owner="sink x", monotonic_s=clock)
    async with echoing(files.listen(mutual=True)) as echo:
        assert await echo.ask(contexts.current()) == b"hello"
        newer = trustme.CA()
        files.write_authority(newer)
        files.issue("server", "localhost", authority=newer)
        files.issue("client", "shipper.example", authority=newer)
        echo.later()
        with pytest.raises(ssl.SSLCertVerificationError):
            await echo.ask(contexts.current())
        clock.now_s += LOOK_EVERY_S
        assert await echo.ask(contexts.current()) == b"hello"


# -- settings that cannot be used ------------------------------------------------------------------------------------------------
def refused(make: Callable[[], object]) -> str:
    """The sentence of the ConfigError."""
    with pytest.raises(ConfigError) as caught:
        make()
    return str(caught.value)


def test_each_fault_is_one_sentence_without_the_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """File missing, key of another, encrypted key, no PEM, no certificate: owner, setting, file and reason."""
    files = TlsFiles(tmp_path)
    cert, key = files.server
    text = Path(key).read_text()
    nothing, encrypted = tmp_path / "nothing.pem", tmp_path / "encrypted.key"
    nothing.write_text("nothing")
    subprocess.run(
        ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:hunter2", "-out", encrypted], check=True, capture_output=True
    )

    def told(*, cert_file: str = cert, key_file: str = key, client_ca_file: str | None = None) -> str:
        settings = ListenTls(cert_file=cert_file, key_file=key_file, client_ca_file=client_ca_file)
        return refused(lambda: server_context(settings, owner="source x"))

    missing = str(tmp_path / "nope")
    assert told(cert_file=missing) == f"source x: tls.cert_file: {missing}: cannot be read: No such file or directory"
    assert told(key_file=missing) == f"source x: tls.key_file: {missing}: cannot be read: No such file or directory"
    assert told(client_ca_file=missing) == f"source x: tls.client_ca_file: {missing}: cannot be read: No such file or directory"
    assert told(cert_file=str(nothing)) == f"source x: tls.cert_file: {nothing}: holds no certificate in PEM form"
    assert told(key_file=str(nothing)) == f"source x: tls.key_file: {nothing}: holds no private key in PEM form"
    assert told(client_ca_file=key) == f"source x: tls.client_ca_file: {key}: holds no certificate in PEM form"
    assert told(key_file=files.client[1]) == f"source x: tls.key_file: {files.client[1]}: does not belong to the certificate in {cert}"
    assert told(key_file=str(encrypted)).startswith(f"source x: tls.key_file: {encrypted}: is encrypted; ")
    nothing.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert told(cert_file=str(nothing)).startswith(f"source x: tls: {nothing} with {key} cannot be used: ")
    assert told(client_ca_file=str(nothing)).startswith(f"source x: tls.client_ca_file: {nothing}: cannot be used: ")
    assert refused(lambda: client_contexts(ClientTls(cert_file=cert), owner="sink x")).startswith("sink x: tls: cert_file and key_file")
    assert refused(lambda: client_contexts(ClientTls(ca_file=missing), owner="sink x")).startswith(f"sink x: tls.ca_file: {missing}: ")
    assert not any(line and line in caplog.text for line in text.splitlines() if not line.startswith("-----"))


def test_a_key_that_everybody_can_read_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It works, but it is told."""
    files = TlsFiles(tmp_path)
    server_context(files.listen(), owner="source x")
    assert caplog.text == ""
    Path(files.server[1]).chmod(0o644)
    server_context(files.listen(), owner="source x")
    assert f"source x: tls.key_file: {files.server[1]} can be read or written by every user of this machine." in caplog.text


# -- aiohttp and gRPC ------------------------------------------------------------------------------------------------------------
async def test_aiohttp_servers_and_clients_take_the_contexts(tmp_path: Path) -> None:
    """The same model over HTTP: mutual TLS, the wrong client counted, a renewed certificate without a restart."""
    files, counters, clock = TlsFiles(tmp_path), Counters(), Clock()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="here")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    tls = server_context(files.listen(mutual=True), owner="web", refusals=Refusals("web", counters), counters=counters, monotonic_s=clock)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    url = f"https://localhost:{runner.addresses[0][1]}/"

    async def get(context: ssl.SSLContext) -> str:
        connector = aiohttp.TCPConnector(family=socket.AF_INET, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session, session.get(url, ssl=context) as response:
            return await response.text()

    try:
        contexts = client_contexts(files.connect(mutual=True), owner="sink x", monotonic_s=clock)
        assert await get(contexts.current()) == "here"
        with pytest.raises(aiohttp.ClientError):
            await get(files.client_context())
        assert counters.value(PEERS_REFUSED, listener="web", reason="no_client_certificate") > 0  # aiohttp tries twice
        files.issue("server", "localhost")
        clock.now_s += LOOK_EVERY_S
        assert await get(contexts.current()) == "here"
        assert counters.value(TLS_RELOADS, owner="web", result="ok") == 1
    finally:
        await runner.cleanup()


class _Hello(grpc.GenericRpcHandler):  # type: ignore[misc, unused-ignore]
    def service(self, handler_call_details: object) -> Any:
        async def hello(request: bytes, _context: object) -> bytes:
            return b"hello " + request

        return grpc.unary_unary_rpc_method_handler(hello)  # type: ignore[arg-type, unused-ignore]


async def test_grpc_servers_and_channels_take_the_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutual TLS over gRPC; the wrong client is refused; server and authority files that changed count without a restart."""
    monkeypatch.setattr("esa_tls.runtime.tls.LOOK_EVERY_S", 0.0)
    files, counters = TlsFiles(tmp_path), Counters()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Hello(),))
    credentials = grpc_server_credentials(files.listen(mutual=True), owner="source x", counters=counters)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()

    async def ask(channel_credentials: grpc.ChannelCredentials, options: list[tuple[str, str]]) -> bytes:
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", channel_credentials, options=options) as channel:
            call: Any = channel.unary_unary("/a/b")
            answer: bytes = await call(b"you", timeout=TEST_TIMEOUT_S)
            return answer

    try:
        settings = ClientTls(ca_file=files.ca_file, cert_file=files.client[0], key_file=files.client[1], server_name="localhost")
        ours = grpc_channel_credentials(settings, owner="sink x")
        options = grpc_channel_options(settings)
        assert await ask(ours.current(), options) == b"hello you"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(grpc_channel_credentials(files.connect(), owner="sink x").current(), options)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        newer = trustme.CA()
        files.write_authority(newer)
        files.issue("server", "localhost", authority=newer)
        files.issue("client", "shipper.example", authority=newer)
        assert await ask(ours.current(), options) == b"hello you"
        assert ours.generation == 1
        assert counters.value(TLS_RELOADS, owner="source x", result="ok") == 1
        spoil(files, "empty")
        assert await ask(ours.current(), options) == b"hello you"
        assert counters.value(TLS_RELOADS, owner="source x", result="failed") == 1
    finally:
        await server.stop(None)


def test_what_grpc_cannot_do_is_told(tmp_path: Path) -> None:
    """No check of the server and TLS 1.3 alone are refused, not quietly something else."""
    files = TlsFiles(tmp_path)
    assert "tls.verify" in refused(lambda: grpc_channel_credentials(ClientTls(verify=False), owner="sink x"))
    assert "tls.min_version" in refused(lambda: grpc_channel_credentials(ClientTls(min_version="1.3"), owner="sink x"))
    listening = ListenTls(cert_file=files.server[0], key_file=files.server[1], min_version="1.3")
    assert "tls.min_version" in refused(lambda: grpc_server_credentials(listening, owner="source x"))
    assert grpc_channel_options(ClientTls()) == []


# -- refusals --------------------------------------------------------------------------------------------------------------------
def test_refusals_are_all_counted_and_told_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """A peer that comes every second is one line a minute with a number; what is remembered is bounded."""
    clock, counters = Clock(), Counters()
    refusals = Refusals("source x", counters, monotonic_s=clock)
    for _ in range(100):
        refusals.refused("192.0.2.7", "shared_key", "wrong shared key")
    refusals.refused("192.0.2.8", "shared_key", "wrong shared key")
    refusals.refused("192.0.2.7", "user", "wrong user name or password")
    clock.now_s += LOG_EVERY_S
    refusals.refused("192.0.2.7", "shared_key", "wrong shared key")
    assert [record.getMessage() for record in caplog.records] == [
        "source x: 192.0.2.7 was refused: wrong shared key.",
        "source x: 192.0.2.8 was refused: wrong shared key.",
        "source x: 192.0.2.7 was refused: wrong user name or password.",
        "source x: 192.0.2.7 was refused: wrong shared key (99 more since the last message).",
    ]
    assert counters.value(PEERS_REFUSED, listener="source x", reason="shared_key") == 102
    for n in range(2 * MAX_REMEMBERED):
        refusals.refused(f"2001:db8::{n:x}", "tls", "no")
    assert len(refusals._told) == MAX_REMEMBERED


# -- Unix sockets ----------------------------------------------------------------------------------------------------------------
async def test_a_unix_socket_has_its_mode_and_is_cleared_away(tmp_path: Path) -> None:
    """Mode from the start; what a crash left behind is replaced; a socket in use, or a file, is not; at the end it is gone."""
    path = tmp_path / "in.sock"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    arrived: asyncio.Queue[str] = asyncio.Queue()

    def accepted(transport: asyncio.Transport) -> None:
        arrived.put_nowait(peer_name(transport))
        transport.abort()

    address = Address(path=str(path), mode=0o620)
    listener = await listen(address, accepted)
    assert stat.S_IMODE(path.stat().st_mode) == 0o620
    _, writer = await asyncio.open_unix_connection(str(path))
    assert await arrived.get() == f"unix:{path}"
    writer.close()
    with pytest.raises(OSError, match="in use"):
        await listen(address, accepted)
    listener.close()
    listener.close()
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        await listen(address, accepted)
    assert path.read_text() == "precious"
    assert str(address) == f"unix:{path}"


async def test_a_unix_socket_of_a_successor_stays(tmp_path: Path) -> None:
    """At the end only our own socket is removed, not one that was put there since."""
    path = tmp_path / "in.sock"
    listener = await listen(Address(path=str(path)), lambda transport: transport.abort())
    os.rename(path, tmp_path / "old.sock")  # noqa: PTH104
    path.write_text("other")
    listener.close()
    assert path.read_text() == "other"
