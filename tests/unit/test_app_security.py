"""The sidecar as `app` puts it together: TLS, keys and a Unix socket on its sources, its sink and its web pages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgpack
import pytest
import yaml
from tests.tls_files import TlsFiles
from tests.unit.sinks.test_fluent_upstreams import TEST_TIMEOUT_S, Peer, client_keys, server_keys, source, until

from esa_tls import app
from esa_tls.config import Config, parse
from esa_tls.errors import ConfigError
from esa_tls.runtime.tls import client_contexts
from esa_tls.sinks.fluent import ForwardConnection
from esa_tls.sinks.fluent_upstreams import Receiver, Upstreams
from esa_tls.wire.fluent_encode import encode_packed_forward, new_chunk_id

LINE = "Wed Nov 18 10:00:00 2026 Info: New SMTP ICID 5 interface Management (192.0.2.1) address 192.0.2.7 reverse dns host x verified yes"


@contextlib.asynccontextmanager
async def sidecar(config: Config) -> AsyncIterator[app.Running]:
    """A running sidecar in this process."""
    stop, found = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(app.serve(config, stop=stop, started=found.set_result))
    await asyncio.wait({serving, found}, return_when=asyncio.FIRST_COMPLETED, timeout=TEST_TIMEOUT_S)
    if serving.done():
        await serving
    try:
        yield found.result()
    finally:
        stop.set()
        await asyncio.wait_for(serving, TEST_TIMEOUT_S)


def frame(number: int) -> tuple[bytes, bytes]:
    """One line as a frame, and its chunk id."""
    chunk = new_chunk_id(number.to_bytes(16, "big"))
    entry: bytes = msgpack.packb([1_700_000_000, {"log": LINE, "appliance": "esa1"}])
    return encode_packed_forward("mail", entry, count=1, chunk=chunk, gzip=False), chunk


def configuration(folder: Path, files: TlsFiles, peer: Peer) -> Config:
    """Everything secured; keys from files and the environment."""
    key = folder / "key"
    key.write_text("secret\n")
    tls = {"cert_file": files.server[0], "key_file": files.server[1], "client_ca_file": files.ca_file}
    settings = {
        "data_dir": str(folder / "data"),
        "emit": "immediate",
        "api": None,
        "sources": [
            {
                "type": "fluent",
                "listen": "127.0.0.1:0",
                "tls": tls,
                "shared_key": {"file": str(key)},
                "users": {"alice": "${PASSWORD}"},
                "self_hostname": "sidecar",
            },
            {"type": "fluent", "name": "local", "listen": f"unix:{folder / 'in.sock'}", "socket_mode": "0600"},
        ],
        "sinks": [
            {
                "type": "fluent",
                "endpoints": [{"endpoint": f"localhost:{peer.port}"}],
                "shared_key": f"${{file:{key}}}",
                "username": "alice",
                "password": "${PASSWORD}",
                "self_hostname": "sidecar",
                "tls": {"ca_file": files.ca_file, "cert_file": files.client[0], "key_file": files.client[1]},
            }
        ],
        "web": {"listen": "127.0.0.1:0", "tls": {"cert_file": files.server[0], "key_file": files.server[1]}},
    }
    return parse(yaml.safe_dump(settings), file="f", environment={"PASSWORD": "wonder"})


async def test_a_sidecar_with_everything_secured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Lines in over mutual TLS with key and user, and over a Unix socket; records out the same way; no secret anywhere."""
    caplog.set_level(logging.INFO)
    files = TlsFiles(tmp_path / "tls")
    async with source(credentials=server_keys(key=b"secret", users=True), files=files, mutual=True) as peer:
        async with sidecar(configuration(tmp_path, files, peer)) as running:
            port = running.sources["fluent"][1]
            upstreams = Upstreams(
                [Receiver("localhost", port, credentials=client_keys(key=b"secret", users=True))],
                tls=client_contexts(files.connect(mutual=True), owner="test"),
            )
            sender = ForwardConnection(upstreams)
            await sender.exchange(*frame(1))
            await sender.close()
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "in.sock"))
            writer.write(frame(2)[0])
            async with asyncio.timeout(TEST_TIMEOUT_S):
                assert b"ack" in await reader.read(100)
            writer.close()
            await until(lambda: peer.received() == 2)
            assert running.web is not None
            connector = aiohttp.TCPConnector(family=socket.AF_INET)
            async with aiohttp.ClientSession(connector=connector) as session:
                url = f"https://localhost:{running.web[1]}/metrics"
                async with session.get(url, ssl=files.client_context()) as response:
                    page = await response.text()
        assert "esa_tls_forward_acks_total" in page
    assert f"Source local listens on unix:{tmp_path / 'in.sock'}." in caplog.text
    for text in (caplog.text, page, json.dumps([record.__dict__ for record in caplog.records], default=repr)):
        assert "wonder" not in text
        assert "secret" not in text.replace("test_a_sidecar_with_everything_secured", "")


async def test_certificates_that_cannot_be_used_end_the_start(tmp_path: Path) -> None:
    """One sentence with owner, setting and file, before anything listens."""
    files = TlsFiles(tmp_path / "tls")
    async with source() as peer:
        config = configuration(tmp_path, files, peer)
        for key_file, owner in ((files.server[1], "source fluent"), (files.client[1], "sink fluent")):
            kept = Path(key_file).read_bytes()  # noqa: ASYNC240 (small)
            Path(key_file).unlink()  # noqa: ASYNC240
            with pytest.raises(ConfigError) as caught:
                async with sidecar(config):
                    pass
            assert str(caught.value) == f"{owner}: tls.key_file: {key_file}: cannot be read: No such file or directory"
            Path(key_file).write_bytes(kept)  # noqa: ASYNC240
