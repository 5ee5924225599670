"""A Forward server for tests in a thread of its own: acknowledges and keeps the records, can go away and come back on its port."""

from __future__ import annotations

import socket
import socketserver
import threading
import zlib
from typing import Any, cast

import msgpack


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    keep: Receiver


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        keep = cast("_Server", self.server).keep
        connection: socket.socket = self.request
        with keep.lock:
            keep.connections.add(connection)
        unpacker = msgpack.Unpacker(max_buffer_size=1 << 30)
        try:
            while data := connection.recv(1 << 18):
                unpacker.feed(data)
                for tag, entries, option in unpacker:
                    keep.take(tag, entries, option)
                    connection.sendall(msgpack.packb({"ack": option["chunk"]}))
        except OSError:
            pass  # it was told to go away, or the sidecar was
        finally:
            with keep.lock:
                keep.connections.discard(connection)


class Receiver:
    """Listens on a free port. `records` are those of every frame that was acknowledged, by tag; repeats included."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connections: set[socket.socket] = set()
        self.ids: dict[str, int] = {}
        """How often each record id came."""
        self.records: list[dict[str, Any]] = []
        self.tags: set[str] = set()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        with socket.socket() as probe:  # a port nobody listens on until `start`
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    def start(self) -> Receiver:
        """Listen, on the same port each time."""
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.keep = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Go away: nobody listens, connections are cut. Safe twice."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        server.server_close()
        assert self._thread is not None
        self._thread.join(10)
        with self.lock:
            for connection in self.connections:
                connection.shutdown(socket.SHUT_RDWR)

    def take(self, tag: str, entries: bytes, option: dict[str, Any]) -> None:
        """Keep a frame's records."""
        if option.get("compressed") == "gzip":
            entries = zlib.decompress(entries, 31)
        unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(entries)))
        unpacker.feed(entries)
        records = [record for _, record in unpacker]
        assert len(records) == option["size"]
        with self.lock:
            self.tags.add(tag)
            self.records += records
            for record in records:
                record_id = record["event"]["id"]
                self.ids[record_id] = self.ids.get(record_id, 0) + 1
