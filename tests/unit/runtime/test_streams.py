"""Accepted connections as streams: what a peer sent is read, however soon it closes."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

import pytest
from tests.tls_files import TlsFiles

from esa_tls.runtime.streams import Address, listen, open_streams
from esa_tls.runtime.tls import server_context

TIMEOUT_S = 20.0


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("goodbye", [True, False], ids=["says goodbye", "hangs up"])
async def test_a_peer_that_sends_and_closes_in_one_go(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, version: ssl.TLSVersion, goodbye: bool
) -> None:
    """The end of the TLS handshake, data, the end of TLS and of the connection in one segment: the data is read, and nothing is logged."""
    caplog.set_level(logging.WARNING)
    files = TlsFiles(tmp_path)
    tls = server_context(files.listen(), owner="test")
    read: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(transport: asyncio.Transport) -> None:
        reader, writer = await open_streams(transport, tls=tls, handshake_timeout_s=TIMEOUT_S, limit=65536)
        await read.put(await reader.read(-1))
        writer.close()

    served: list[asyncio.Task[None]] = []
    listener = await listen(Address(host="127.0.0.1"), lambda transport: served.append(asyncio.ensure_future(serve(transport))))
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = files.client_context()
    context.minimum_version = context.maximum_version = version
    client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65536))
        client.write(b"all there is")
        if goodbye:
            with pytest.raises(ssl.SSLWantReadError):
                client.unwrap()
        writer.write(outgoing.read())
        writer.close()
        assert await read.get() == b"all there is"
        await asyncio.gather(*served)
    listener.close()
    assert caplog.messages == []
