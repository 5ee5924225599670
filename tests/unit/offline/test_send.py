"""offline/send.py: every line of the files reaches the receiver, acknowledged."""

from __future__ import annotations

import asyncio
import gzip
import socket
from pathlib import Path

import pytest
from tests.contract.delivery_fakes import NoWait
from tests.contract.forward_receiver import ACK, ACK_BYTEWISE, CLOSE, SILENT, WRONG_ACK, ForwardReceiver
from tests.contract.otlp_receiver import OtlpReceiver, Reply

from esa_tls.errors import ConfigError, TransientError
from esa_tls.offline.send import SendResult, parse_destination, run, send

LINES = [b"Info: MID %d ICID 7" % n for n in range(250)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A file of 250 lines."""
    path = tmp_path / "mail.log"
    path.write_bytes(b"\n".join(LINES))
    return path


def received(receiver: ForwardReceiver) -> list[bytes]:
    """The raw lines of all accepted frames."""
    values = [record["log"] for frame in receiver.accepted for record in frame.records]
    return [value.encode() if isinstance(value, str) else value for value in values]


async def test_every_line_is_sent_and_acknowledged(log: Path, tmp_path: Path) -> None:
    """Lines of all files in order, `batch_lines` a frame, under the tag, with the time of sending; progress after each."""
    second = tmp_path / "old.gz"
    second.write_bytes(gzip.compress(b"last line\r\n\n"))
    steps: list[SendResult] = []
    async with ForwardReceiver() as receiver:
        result = await send(
            [log, second],
            f"forward://127.0.0.1:{receiver.port}",
            tag="esa.test",
            batch_lines=100,
            progress=steps.append,
            wall_clock_ns=lambda: 1_700_000_000_000_000_042,
        )
    assert received(receiver) == [*LINES, b"last line", b""]
    assert [len(frame.records) for frame in receiver.accepted] == [100, 100, 52]
    assert {frame.tag for frame in receiver.accepted} == {"esa.test"}
    assert receiver.accepted[0].entries[:11] == b"\x92\xd7\x00" + (1_700_000_000).to_bytes(4, "big") + (42).to_bytes(4, "big")
    assert result == steps[-1] == SendResult(lines=252, batches=3, resent=0, acknowledged=True)
    assert [step.lines for step in steps] == [100, 200, 252]
    assert receiver.connections == 1


async def test_bytes_that_are_no_text_arrive_unchanged(tmp_path: Path) -> None:
    """A line that is no UTF-8 travels as bin, others as str."""
    path = tmp_path / "x"
    path.write_bytes(b"caf\xc3\xa9\ncaf\xe9\n")
    async with ForwardReceiver() as receiver:
        await send([path], f"forward://127.0.0.1:{receiver.port}")
    assert [record["log"] for record in receiver.accepted[0].records] == ["café", b"caf\xe9"]


@pytest.mark.parametrize("answer", [CLOSE, SILENT, WRONG_ACK, ACK_BYTEWISE])
async def test_a_frame_is_sent_again_with_its_chunk_until_it_is_acknowledged(log: Path, answer: str) -> None:
    """Whatever happens to the third and fourth frame that comes, every line arrives once, resends carry the same chunk and bytes."""
    async with ForwardReceiver(lambda _: answer if len(receiver.frames) in (3, 4) else ACK) as receiver:
        result = await send(
            [log], f"forward://127.0.0.1:{receiver.port}", batch_lines=50, ack_timeout_s=0.05, sleep=NoWait(), uniform=lambda _, high: high
        )
    assert received(receiver) == LINES
    assert (result.lines, result.batches) == (250, 5)
    assert result.resent == (0 if answer == ACK_BYTEWISE else 1 if answer == CLOSE else 2)  # a closed connection is replaced within one try
    assert len({frame.chunk for frame in receiver.frames}) == 5
    assert len({(frame.chunk, frame.entries) for frame in receiver.frames}) == 5


async def test_a_receiver_that_goes_away_for_a_while_is_waited_for(log: Path) -> None:
    """Refused connections in the middle are tried again; nothing is lost and nothing given up."""
    waits: list[float] = []
    async with ForwardReceiver(lambda _: CLOSE if len(receiver.accepted) == 2 and not waits else ACK) as receiver:

        async def sleep(delay_s: float) -> None:
            waits.append(delay_s)
            if len(waits) == 1:
                await receiver.stop()
            elif len(waits) == 4:
                await receiver.start()

        result = await send(
            [log], f"forward://127.0.0.1:{receiver.port}", batch_lines=50, sleep=sleep, uniform=lambda _, high: high, ack_timeout_s=5
        )
    assert received(receiver) == LINES
    assert waits == [0.5, 1.0, 2.0, 4.0]
    assert result.resent == 4


async def test_equal_batches_are_two_batches(tmp_path: Path) -> None:
    """Identical lines sent in the same nanosecond have different chunk ids: a receiver may not take the second for a resend."""
    path = tmp_path / "x"
    path.write_bytes(b"same\n" * 20)
    async with ForwardReceiver() as receiver:
        await send([path], f"forward://127.0.0.1:{receiver.port}", batch_lines=10, wall_clock_ns=lambda: 10**18)
    assert receiver.accepted[0].entries == receiver.accepted[1].entries
    assert receiver.accepted[0].chunk != receiver.accepted[1].chunk


async def test_the_rate_is_kept_in_small_steps(log: Path) -> None:
    """With `rate` the batches shrink to a tenth of a second and leave no earlier than their time."""
    now_s = 50.0
    leaving: list[float] = []

    async def sleep(delay_s: float) -> None:
        nonlocal now_s
        now_s += delay_s

    async with ForwardReceiver() as receiver:
        await send(
            [log],
            f"forward://127.0.0.1:{receiver.port}",
            rate=500,
            clock=lambda: now_s,
            sleep=sleep,
            progress=lambda _: leaving.append(now_s),
        )
    assert [len(frame.records) for frame in receiver.accepted] == [50] * 5
    assert leaving == pytest.approx([50.0, 50.1, 50.2, 50.3, 50.4])


async def test_long_lines_make_small_frames(tmp_path: Path) -> None:
    """Frames stay below what Fluent Bit takes, also at 1,000 lines of 100 kB."""
    path = tmp_path / "x"
    path.write_bytes(b"\n".join(b"%0100000d" % n for n in range(100)))
    async with ForwardReceiver() as receiver:
        await send([path], f"forward://127.0.0.1:{receiver.port}")
    assert receiver.refused_for_size == 0
    assert len(received(receiver)) == 100


async def test_a_file_that_cannot_be_read_is_an_error_after_what_came_before(log: Path, tmp_path: Path) -> None:
    """The error names the file; the connection is closed."""
    async with ForwardReceiver() as receiver:
        with pytest.raises(FileNotFoundError, match="missing"):
            await send([log, tmp_path / "missing"], f"forward://127.0.0.1:{receiver.port}", batch_lines=100)
        assert received(receiver) == LINES[:200]


async def test_nobody_there_is_an_error_at_once(log: Path) -> None:
    """The first connection is not tried for ever: a wrong port is told, by both clients."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with pytest.raises(TransientError, match=str(port)):
            await send([log], f"forward://127.0.0.1:{port}")
        with pytest.raises(TransientError, match=str(port)):
            await send([log], f"forward://127.0.0.1:{port}", client="fluent-logger")


def test_run_is_send_without_an_event_loop(log: Path) -> None:
    """`run` works from plain code."""
    with pytest.raises(ConfigError):
        run([log], "forward://")


@pytest.mark.parametrize(
    ("to", "wanted"),
    [
        ("forward://h:1", ("forward", ("h", 1))),
        ("forward://h", ("forward", ("h", 24224))),
        ("forward://[::1]:5/", ("forward", ("::1", 5))),
        ("forward://h:0", ("forward", ("h", 0))),
        ("otlp://h:1", ("otlp", ("h", 1))),
        ("otlp://h", ("otlp", ("h", 4317))),
    ],
)
def test_destinations(to: str, wanted: tuple[str, tuple[str, int]]) -> None:
    """Scheme, host and port, with the default port of the scheme."""
    assert parse_destination(to) == wanted


@pytest.mark.parametrize(
    "to", ["otlp://", "otlp://h/p", "h:1", "forward://", "forward://h:x", "forward://h:99999", "forward://h/p", "forward://u@h", ""]
)
def test_other_destinations_are_refused(to: str) -> None:
    """What is neither a Forward nor an OTLP address is a configuration error that quotes it."""
    with pytest.raises(ConfigError, match="send"):
        parse_destination(to)


@pytest.mark.parametrize("wrong", [{"batch_lines": 0}, {"rate": 0.0}, {"rate": -1.0}])
async def test_settings_that_make_no_sense_are_refused(log: Path, wrong: dict[str, float]) -> None:
    """They would send nothing, or never end."""
    with pytest.raises(ConfigError):
        await send([log], "forward://127.0.0.1:1", **wrong)  # type: ignore[arg-type]


# -- the PyPI client -------------------------------------------------------------------------------------------------------------------


class MessageReceiver:
    """Takes Message-mode frames, as fluent-logger sends them, and never answers."""

    def __init__(self) -> None:
        self.messages: list[list[object]] = []
        self.ended = asyncio.Event()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        import msgpack

        unpacker = msgpack.Unpacker()
        while data := await reader.read(65536):
            unpacker.feed(data)
            self.messages += unpacker
        writer.close()
        if len(self.messages) >= 250:
            self.ended.set()


async def test_fluent_logger_sends_every_line_without_acknowledgement(log: Path) -> None:
    """The real package sends one message per line, and the result says that nothing was acknowledged."""
    receiver = MessageReceiver()
    server = await asyncio.start_server(receiver.take, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        result = await send([log], f"forward://127.0.0.1:{port}", client="fluent-logger", tag="esa.pypi", batch_lines=100)
        async with asyncio.timeout(10):
            await receiver.ended.wait()
    assert [message[2] for message in receiver.messages] == [{"log": line.decode()} for line in LINES]
    assert {message[0] for message in receiver.messages} == {"esa.pypi"}
    assert result == SendResult(lines=250, batches=3, resent=0, acknowledged=False)


async def test_fluent_logger_lines_known_to_be_lost_are_an_error(log: Path) -> None:
    """If the receiver is gone when the client gives up what it still holds, `send` does not pretend."""

    async def cut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()
        server.close()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(TransientError, match="fluent-logger could not send"):
        await send([log], f"forward://127.0.0.1:{port}", client="fluent-logger")
    await server.wait_closed()


# -- OTLP ----------------------------------------------------------------------------------------------------------------------------------


def _bodies(receiver: OtlpReceiver) -> list[bytes]:
    return [
        record.body.string_value.encode() or record.body.bytes_value
        for request in receiver.accepted
        for group in request.message.resource_logs
        for scope in group.scope_logs
        for record in scope.log_records
    ]


async def test_otlp_brings_every_line_byte_for_byte(tmp_path: Path) -> None:
    """Lines arrive in order, also one that is no UTF-8, in requests of the wanted size."""
    lines = [b"Info: ICID 1 close", b"Info: MID 2 Subject '\xff'", b"Info: ICID 3 close"]
    file = tmp_path / "mail.log"
    file.write_bytes(b"\n".join(lines) + b"\n")
    async with OtlpReceiver() as receiver:
        result = await send([file], f"otlp://127.0.0.1:{receiver.port}", batch_lines=2)

    assert result == SendResult(3, 2, 0, acknowledged=True)
    assert _bodies(receiver) == lines


async def test_otlp_sends_again_what_was_not_taken(log: Path) -> None:
    """UNAVAILABLE means the same bytes again, until they are taken."""
    answers = iter([Reply(14), Reply(14)])
    async with OtlpReceiver(answer=lambda _: next(answers, Reply())) as receiver:
        result = await send([log], f"otlp://127.0.0.1:{receiver.port}", sleep=_at_once)

    assert result.resent == 2
    assert len({request.message.SerializeToString(deterministic=True) for request in receiver.requests}) == 1


async def test_otlp_says_what_was_refused(log: Path) -> None:
    """A receiver that will never take the lines ends the command with its reason, and nothing is sent twice."""
    async with OtlpReceiver(answer=lambda _: Reply(3)) as receiver:
        with pytest.raises(TransientError, match="refused"):
            await send([log], f"otlp://127.0.0.1:{receiver.port}", sleep=_at_once)

    assert len(receiver.requests) == 1


async def test_otlp_without_a_receiver_is_an_error_at_once(log: Path) -> None:
    """A wrong port is told, not tried for ever; and the PyPI client has no OTLP."""
    with pytest.raises(TransientError, match="nobody answers"):
        await send([log], "otlp://127.0.0.1:1")
    with pytest.raises(ConfigError, match="Forward only"):
        await send([log], "otlp://127.0.0.1:1", client="fluent-logger")


async def _at_once(_seconds: float) -> None:
    await asyncio.sleep(0)
