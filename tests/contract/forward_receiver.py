"""A Forward receiver for tests, written with msgpack from docs/wires.md 1: acknowledges, or misbehaves on demand."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgpack
from tests.contract.receiving import Receiver

FLUENT_BIT_MAX_BYTES = 6_144_000

ACK = "ack"
CLOSE = "close"
SILENT = "silent"
WRONG_ACK = "wrong ack"
NO_ACK_MAP = "no ack map"
ACK_BYTEWISE = "ack, one byte at a time"


class ReceivedFrame:
    """A frame as it came: everything but the plain shape of a PackedForward frame with option map fails here."""

    def __init__(self, value: Any, connection: int) -> None:
        assert isinstance(value, list)
        tag, entries, option = value
        assert isinstance(tag, str)
        assert isinstance(entries, bytes)
        assert isinstance(option, dict)
        assert set(option) <= {"chunk", "size", "compressed"}
        self.tag = tag
        self.chunk: str = option["chunk"]
        assert isinstance(self.chunk, str)
        self.compressed = option.get("compressed")
        self.connection = connection
        self.entries = gzip.decompress(entries) if self.compressed == "gzip" else entries
        self.records: list[dict[str, Any]] = []
        unpacker = msgpack.Unpacker(max_buffer_size=max(1, len(self.entries)))
        unpacker.feed(self.entries)
        for time, record in unpacker:
            assert isinstance(time, msgpack.ExtType)
            assert (time.code, len(time.data)) == (0, 8)
            self.records.append(record)
        assert option["size"] == len(self.records)

    @property
    def numbers(self) -> list[int]:
        """The ids of `delivery_fakes` records."""
        return [int(record["event"]["id"].removeprefix("id-")) for record in self.records]


class ForwardReceiver(Receiver):
    """Listens on a free port of the loopback. `answer` says what to do with each frame; acknowledged ones are in `accepted`.

    `max_bytes`: closes as soon as a frame (or its unpacked entries) is larger, as Fluent Bit does.
    """

    def __init__(self, answer: Callable[[ReceivedFrame], str] = lambda _: ACK, *, max_bytes: int = FLUENT_BIT_MAX_BYTES) -> None:
        super().__init__()
        self.answer = answer
        self.max_bytes = max_bytes
        self.frames: list[ReceivedFrame] = []
        self.accepted: list[ReceivedFrame] = []
        self.connections = 0
        self.refused_for_size = 0
        self.unanswered = asyncio.Event()
        """Set when a frame was met with silence."""
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen: on a free port, or again on the same one after `stop`."""
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and cut all connections."""
        assert self._server is not None
        self._server.close()
        for handler in list(self._handlers):
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await self._server.wait_closed()

    def numbers(self) -> list[int]:
        """Ids in all accepted frames."""
        return [number for frame in self.accepted for number in frame.numbers]

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self.connections += 1
        try:
            await self._serve(self.connections, reader, writer)
        except (AssertionError, ValueError, TypeError, msgpack.UnpackException) as error:
            self.faults.append(error)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._handlers.discard(task)
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _serve(self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unpacker = msgpack.Unpacker(max_buffer_size=1 << 30)
        held = 0
        while data := await reader.read(1 << 16):
            held += len(data)
            if held > self.max_bytes:
                self.refused_for_size += 1
                return
            unpacker.feed(data)
            for value in unpacker:
                held = 0
                frame = ReceivedFrame(value, connection)
                if len(frame.entries) > self.max_bytes:
                    self.refused_for_size += 1
                    return
                self.frames.append(frame)
                if not await self._reply(frame, writer):
                    return

    async def _reply(self, frame: ReceivedFrame, writer: asyncio.StreamWriter) -> bool:
        answer = self.answer(frame)
        await self.held_back()
        ack = msgpack.packb({"ack": frame.chunk})
        if answer == CLOSE:
            return False
        if answer == SILENT:
            self.unanswered.set()
            return True
        if answer == WRONG_ACK:
            writer.write(msgpack.packb({"ack": "AAECAwQFBgcICQoLDA0ODw=="}))
        elif answer == NO_ACK_MAP:
            writer.write(msgpack.packb(["PONG", False, "", "", ""]))
        else:
            self.accepted.append(frame)
            for piece in [ack] if answer == ACK else [ack[n : n + 1] for n in range(len(ack))]:
                writer.write(piece)
                await writer.drain()
        return True
