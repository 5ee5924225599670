"""sinks/fluent.py: frames that every receiver takes, and nothing counted as sent before its ack."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract.delivery_fakes import FakeOutbox, Ledger, dispatcher, ids_in, ids_of, record, row, rows_of, run_dry
from tests.contract.forward_receiver import ACK, ACK_BYTEWISE, CLOSE, NO_ACK_MAP, SILENT, WRONG_ACK, ForwardReceiver, ReceivedFrame

from esa_tls.core.batch import Row
from esa_tls.core.records import KINDS
from esa_tls.errors import TransientError
from esa_tls.runtime.dispatch import RecordsRejected, Rejection, Rows
from esa_tls.sinks.fluent import FluentSink, chunk_of, pack_frames
from esa_tls.wire.fluent_encode import encode_packed_forward


def sink_to(*receivers: ForwardReceiver | int, **settings_: object) -> FluentSink:
    """A sink with these upstreams (or ports)."""
    ports = [receiver if isinstance(receiver, int) else receiver.port for receiver in receivers]
    return FluentSink([("127.0.0.1", port) for port in ports], **settings_)  # type: ignore[arg-type]


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken and on which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def answers(*these: str) -> Callable[[ReceivedFrame], str]:
    """These answers to the first frames, then acks."""
    left = list(these)
    return lambda _: left.pop(0) if left else ACK


# -- frames ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gzip", [False, True])
async def test_rows_become_one_acknowledged_frame_per_kind(gzip: bool) -> None:
    """Many small rows are few frames, tagged by kind, in order, in the one shape that everybody takes."""
    rows: Rows = [(n, rows_of("forward", [("delivery", [3 * n]), ("message", [3 * n + 1, 3 * n + 2])])) for n in range(20)]
    rows.append((99, row("forward", [1000])))
    async with ForwardReceiver() as receiver:
        sink = sink_to(receiver, gzip=gzip, tag_prefix="mail")
        await sink.send(rows)
        await sink.close()
    assert sorted((frame.tag, len(frame.records)) for frame in receiver.accepted) == [
        ("mail.delivery", 20),
        ("mail.line", 1),
        ("mail.message", 40),
    ]
    assert sorted(receiver.numbers()) == sorted(ids_of(rows))
    assert all(frame.numbers == sorted(frame.numbers) for frame in receiver.accepted)
    assert {frame.compressed for frame in receiver.accepted} == {"gzip" if gzip else None}


async def test_only_wanted_kinds_are_sent() -> None:
    """Segments of other kinds stay away; nothing wanted means no connection at all."""
    async with ForwardReceiver() as receiver:
        sink = sink_to(receiver, kinds=frozenset({"message"}))
        await sink.send([(1, row("forward", [1], kind="delivery"))])
        assert receiver.connections == 0
        await sink.send([(1, rows_of("forward", [("delivery", [1]), ("message", [2])]))])
        await sink.close()
    assert receiver.numbers() == [2]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from(["delivery", "message"]), st.lists(st.integers(0, 900), max_size=5)), max_size=3), max_size=6
    ),
    st.integers(400, 3000),
)
def test_frames_keep_every_entry_and_stay_below_the_limit(shape: list[list[tuple[str, list[int]]]], max_frame_bytes: int) -> None:
    """Whatever the rows: every entry is in one frame of its kind, in order, or refused with its right place; no frame is too large."""
    number = 0
    rows: Rows = []
    for sequence, segments in enumerate(shape):
        built = []
        for kind, pads in segments:
            bodies = [record("forward", (number := number + 1), pad=pad) for pad in pads]
            built.append((kind, len(bodies), b"".join(bodies)))
        rows.append((sequence, Row("summary", "forward", built)))
    frames, rejections = pack_frames(rows, kinds=frozenset(KINDS), tag_prefix="esa", max_frame_bytes=max_frame_bytes)
    for frame in frames:
        assert len(encode_packed_forward(frame.tag, frame.entries, count=frame.count, chunk=frame.chunk, gzip=False)) <= max_frame_bytes
        assert frame.count == len(ids_in("forward", frame.entries)) > 0
    refused = set()
    for place in rejections:
        refused.add(ids_in("forward", rows[place.row][1].segments[place.segment][2])[place.record])
    for kind in ("delivery", "message"):
        wanted = [n for _, one in rows for k, _, body in one.segments if k == kind for n in ids_in("forward", body) if n not in refused]
        assert [n for frame in frames if frame.tag == f"esa.{kind}" for n in ids_in("forward", frame.entries)] == wanted


async def test_a_segment_over_the_limit_is_split_between_entries() -> None:
    """20 MiB in one row reach a receiver that closes above 6,144,000 bytes, and it never has to."""
    rows: Rows = [(1, row("forward", range(2500), pad=8000))]
    async with ForwardReceiver() as receiver:
        sink = sink_to(receiver)
        await sink.send(rows)
        await sink.close()
    assert receiver.refused_for_size == 0
    assert sorted(receiver.numbers()) == list(range(2500))
    assert len(receiver.accepted) == 4


async def test_compressed_frames_stay_below_the_limit_unpacked() -> None:
    """Fluent Bit's limit holds for what a frame unpacks to as well."""
    async with ForwardReceiver() as receiver:
        sink = sink_to(receiver, gzip=True)
        await sink.send([(1, row("forward", range(2000), pad=8000))])
        await sink.close()
    assert receiver.refused_for_size == 0
    assert sorted(receiver.numbers()) == list(range(2000))


async def test_the_receiver_of_these_tests_does_close_above_the_limit() -> None:
    """The guard is real: a larger frame limit on our side is met with a closed connection."""
    async with ForwardReceiver() as receiver:
        sink = sink_to(receiver, max_frame_bytes=7_000_000)
        with pytest.raises(TransientError):
            await sink.send([(1, row("forward", range(830), pad=8000))])
        await sink.close()
    assert receiver.refused_for_size


async def test_a_record_larger_than_a_frame_is_refused_by_place_and_the_rest_arrives() -> None:
    """The oversize record becomes the dead letter, not its neighbours."""
    rows: Rows = [(1, row("forward", [1])), (2, row("forward", [2, 3]))]
    big = record("forward", 9, pad=70_000)
    kind, count, body = rows[1][1].segments[0]
    rows[1][1].segments[0] = (kind, count + 1, body + big)
    async with ForwardReceiver() as receiver:
        sink = sink_to(receiver, max_frame_bytes=65536)
        with pytest.raises(RecordsRejected) as caught:
            await sink.send(rows)
        assert receiver.numbers() == [1, 2, 3]
        outbox, ledger = FakeOutbox(), Ledger()
        for _, one in rows:
            outbox.add(one)
        await run_dry(dispatcher(sink, outbox, ledger))
    (place,) = caught.value.rejections
    assert place == Rejection(1, 0, 2, "too_large", place.detail)
    assert [letter.payload for letter in ledger.letters] == [big]


def test_the_chunk_id_is_the_same_for_the_same_frame_only() -> None:
    """24 base64 characters from tag and entries, so that a resend after a restart can be recognised."""
    assert chunk_of("esa.line", b"abc") == chunk_of("esa.line", b"abc")
    assert len(chunk_of("esa.line", b"abc")) == 24
    assert (
        len({chunk_of("esa.line", b"abc"), chunk_of("esa.line", b"abd"), chunk_of("esa.lin", b"eabc"), chunk_of("esa.message", b"abc")})
        == 4
    )


# -- acknowledgements ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [CLOSE, WRONG_ACK, NO_ACK_MAP, SILENT])
async def test_no_ack_is_transient_and_the_next_try_sends_the_same_chunk(answer: str) -> None:
    """Closed, another chunk acknowledged, something that is no ack, silence: not sent; a new connection brings the same frame."""
    rows: Rows = [(1, row("forward", [1, 2]))]
    async with ForwardReceiver(answers(answer)) as receiver:
        sink = sink_to(receiver, ack_timeout_s=0.05 if answer == SILENT else 60)
        with pytest.raises(TransientError):
            await sink.send(rows)
        assert receiver.accepted == []
        await sink.send(rows)
        await sink.close()
    assert receiver.numbers() == [1, 2]
    assert receiver.connections == 2
    assert len({frame.chunk for frame in receiver.frames}) == 1


async def test_an_ack_in_pieces_is_an_ack() -> None:
    """Segment borders in the reply mean nothing."""
    async with ForwardReceiver(answers(ACK_BYTEWISE)) as receiver:
        sink = sink_to(receiver)
        await sink.send([(1, row("forward", [1]))])
        await sink.close()
    assert receiver.numbers() == [1]


async def test_a_connection_is_kept_and_used_again() -> None:
    """Frame after frame goes over the same connection, with keep-alive of the system on it."""
    async with ForwardReceiver() as receiver:
        sink = sink_to(receiver)
        for n in range(5):
            await sink.send([(n, row("forward", [n]))])
        [streams] = sink._connections[0]._kept.values()
        assert streams[1].get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        await sink.close()
    assert receiver.connections == 1
    assert receiver.numbers() == [0, 1, 2, 3, 4]


async def test_a_kept_connection_that_was_closed_is_replaced_at_once() -> None:
    """A receiver that ends idle connections, or was started again, costs no failed send."""
    async with ForwardReceiver() as receiver:
        sink = sink_to(receiver)
        await sink.send([(1, row("forward", [1]))])
        await receiver.stop()
        await receiver.start()
        await sink.send([(2, row("forward", [2]))])
        receiver.answer = answers(CLOSE)  # closed while the frame was under way
        await sink.send([(3, row("forward", [3]))])
        await sink.close()
    assert receiver.numbers() == [1, 2, 3]


async def test_silence_on_a_kept_connection_is_not_tried_again_at_once() -> None:
    """Only a closed connection is replaced without back-off; a receiver that is late is given time."""
    async with ForwardReceiver(answers(ACK, SILENT)) as receiver:
        sink = sink_to(receiver, ack_timeout_s=0.05)
        await sink.send([(1, row("forward", [1]))])
        with pytest.raises(TransientError, match="no ack within"):
            await sink.send([(2, row("forward", [2]))])
        await sink.close()
    assert len(receiver.frames) == 2


@pytest.mark.parametrize(("connections", "at_once"), [(1, 1), (2, 2), (3, 3)])
async def test_one_unacknowledged_frame_per_connection(connections: int, at_once: int) -> None:
    """Frames travel side by side on their connections, but on none of them is there a second before the first one's ack."""
    rows: Rows = [(n, row("forward", [n], pad=40_000)) for n in range(12)]
    async with ForwardReceiver() as receiver:
        receiver.release = asyncio.Event()
        sink = sink_to(receiver, connections=connections, max_frame_bytes=65536)
        sending = asyncio.create_task(sink.send(rows))
        await receiver.until_waiting(at_once)
        receiver.release.set()
        await sending
        await sink.close()
    assert receiver.most_at_once == at_once
    assert receiver.connections == connections
    assert sorted(receiver.numbers()) == list(range(12))


async def test_acknowledged_frames_are_not_sent_again_with_the_failed_one() -> None:
    """When one frame of a send fails, the next try brings that and the ones not tried, nothing twice."""
    rows: Rows = [(n, row("forward", [n], pad=40_000)) for n in range(6)]
    async with ForwardReceiver() as receiver:
        sink = sink_to(receiver, connections=1, max_frame_bytes=65536)
        receiver.answer = lambda frame: CLOSE if frame.numbers == [3] and seen(receiver, 3) < 3 else ACK
        with pytest.raises(TransientError):
            await sink.send(rows)
        await sink.send(rows)
        await sink.send(rows)  # a `send` that returned has forgotten: this is new
        await sink.close()
    assert receiver.numbers() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]


async def test_after_a_failure_the_other_connections_take_no_more_frames() -> None:
    """They finish the frame they are at; a send that failed does not go on in part for long."""
    rows: Rows = [(n, row("forward", [n], pad=40_000)) for n in range(30)]
    async with ForwardReceiver(lambda frame: CLOSE if frame.numbers == [0] else ACK) as receiver:
        sink = sink_to(receiver, connections=2, max_frame_bytes=65536)
        with pytest.raises(TransientError):
            await sink.send(rows)
        assert len(receiver.frames) < 30
        await sink.close()


def seen(receiver: ForwardReceiver, number: int) -> int:
    """How many frames with that record came so far."""
    return sum(number in frame.numbers for frame in receiver.frames)


async def test_a_cancelled_send_gives_its_connection_up() -> None:
    """A late ack must not be taken for that of the next frame."""
    async with ForwardReceiver(answers(SILENT)) as receiver:
        sink = sink_to(receiver)
        sending = asyncio.create_task(sink.send([(1, row("forward", [1]))]))
        await receiver.unanswered.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await sink.send([(2, row("forward", [2]))])
        await sink.close()
    assert receiver.connections == 2
    assert receiver.numbers() == [2]


# -- upstreams and life ----------------------------------------------------------------------------------------------------


async def test_one_upstream_after_the_other_is_tried(closed_port: int) -> None:
    """One that takes the connection gets the frames, in the same send; each refusal is in the error if none does."""
    async with ForwardReceiver() as receiver:
        sink = sink_to(closed_port, receiver)
        await sink.send([(1, row("forward", [1]))])
        await sink.close()
        assert receiver.numbers() == [1]
    sink = sink_to(closed_port, receiver)
    with pytest.raises(TransientError) as caught:
        await sink.send([(1, row("forward", [1]))])
    assert str(closed_port) in str(caught.value)
    assert str(receiver.port) in str(caught.value)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    await sink.close()


async def test_a_connect_that_hangs_is_given_up() -> None:
    """A host that answers nothing costs the connect timeout."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        sink = sink_to(port, connect_timeout_s=0.05)
        with pytest.raises(TransientError, match="cannot connect"):
            await sink.send([(1, row("forward", [1]))])
        await sink.close()
        for filler in fillers:
            filler.close()


async def test_a_receiver_that_reads_nothing_is_given_up() -> None:
    """Writing does not wait for ever for a full socket."""

    async def ignore(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.transport.abort()

    done = asyncio.Event()
    server = await asyncio.start_server(ignore, "127.0.0.1", 0, limit=1)
    async with server:
        sink = sink_to(server.sockets[0].getsockname()[1], ack_timeout_s=0.05, max_frame_bytes=64 << 20)
        with pytest.raises(TransientError, match="no ack within"):
            await sink.send([(1, row("forward", range(4000), pad=8000))])
        await sink.close()
        done.set()


async def test_close_before_open_twice_and_then_send() -> None:
    """Closing is always possible, sending afterwards never."""
    sink = sink_to(1)
    await sink.close()
    await sink.open(None)
    await sink.close()
    assert sink.state() is None
    with pytest.raises(TransientError, match="closed"):
        await sink.send([(1, row("forward", [1]))])


@pytest.mark.parametrize("settings_", [{"connections": 0}, {}])
def test_settings_that_make_no_sense_are_refused(settings_: dict[str, int]) -> None:
    """A sink without upstream or connection would wait for ever."""
    with pytest.raises(ValueError, match="fluent"):
        FluentSink([("a", 1)] if settings_ else [], **settings_)  # type: ignore[arg-type]
