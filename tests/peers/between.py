"""A TCP relay between a client and a server of a test: what the server answers can be held back while everything else goes on."""

from __future__ import annotations

import contextlib
import socket
import threading

PIECE_BYTES = 65536


class Between:
    """Listens on `port` and passes everything on to a port of this machine, once it was told which."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._to = 0
        self._answers = threading.Event()
        self._answers.set()
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def to(self, port: int) -> Between:
        """Begin to pass on."""
        self._to = port
        self._thread.start()
        return self

    def hold_answers(self) -> None:
        """From now on the client hears nothing."""
        self._answers.clear()

    def let_answers_go(self) -> None:
        """It hears what it did not hear meanwhile."""
        self._answers.set()

    def close(self) -> None:
        """Cut all connections."""
        self._answers.set()
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        if self._thread.is_alive():
            self._thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                client.close()
                continue
            self._sockets += (client, server)
            threading.Thread(target=self._pass_on, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(server, client, self._answers), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, gate: threading.Event | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE_BYTES):
                if gate is not None:
                    gate.wait()
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
