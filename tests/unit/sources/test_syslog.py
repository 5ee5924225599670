"""The syslog sources over real sockets, with an intake in memory."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 6.6)

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.tls_files import TlsFiles
from tests.unit.sources.memory_intake import MemoryIntake
from tests.unit.sources.syslog_cases import NOW_S, UdpSender, at_end, reset, running
from tests.unit.wire.test_syslog import INJECTED, MIXED, MIXED_MESSAGES, SHAPES, counted, records

from esa_tls import telemetry
from esa_tls.errors import JournalFull
from esa_tls.runtime.refusals import Refusals
from esa_tls.runtime.tls import server_context
from esa_tls.sources import syslog_udp
from esa_tls.sources.syslog import DRAIN_QUIET_S, Allowed, SyslogServer, address_of
from esa_tls.sources.syslog_udp import SyslogUdpServer, kernel_drops
from esa_tls.telemetry import Counters
from esa_tls.wire.syslog import Messages


def context_of(files: TlsFiles, *, mutual: bool = False, refusals: Refusals | None = None) -> ssl.SSLContext:
    """What the source gets from `runtime.tls`."""
    return server_context(files.listen(mutual=mutual), owner="source syslog", refusals=refusals)


# -- the rows of 6.7 -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("way", ["udp", "tcp, LF", "tcp, counted", "tls, counted", "tls, LF"])
async def test_S1_every_transport_gives_the_core_the_same_lines(way: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The four shapes arrive byte for byte, from the peer's address, without key, by each transport and framing."""
    transport, _, framing = way.partition(", ")
    files = TlsFiles(tmp_path)
    tls = context_of(files) if transport == "tls" else None
    async with running(transport=transport, tls=tls) as run:
        if transport == "udp":
            with UdpSender(run.server.port) as sender:
                sender.send(*(shape + b"\n" for shape in SHAPES))
        else:
            data = counted(*SHAPES) if framing == "counted" else b"".join(shape + b"\n" for shape in SHAPES)
            await run.send(data, tls=files.client_context() if tls else None)
        await run.intake.until(lambda: len(run.intake.lines()) == 4)

        assert run.intake.lines() == list(SHAPES)
        for batch in run.intake.committed:
            assert batch.key is None
            assert batch.received_s == NOW_S
            assert batch.session == 1
            for found in batch.runs:
                assert (found.origin.source, found.origin.peer, found.origin.trust_host) == ("syslog", "127.0.0.1", False)
                assert found.origin.lossy is (True if transport == "udp" else None)
                assert found.flags == ()
        assert run.intake.opened == ["127.0.0.1"]
        assert caplog.records == []


@pytest.mark.parametrize("piece_bytes", [1, len(MIXED)])
async def test_S2_framing_is_found_out_for_each_frame(piece_bytes: int) -> None:
    """Counted and LF-framed messages take turns in one segment, and octet by octet."""
    async with running() as run:
        writer = await run.connect()
        for at in range(0, len(MIXED), piece_bytes):
            writer.write(MIXED[at : at + piece_bytes])
            await writer.drain()
        await run.intake.until(lambda: len(run.intake.lines()) == 3)

        assert run.intake.lines() == MIXED_MESSAGES


async def test_S3_what_is_no_count_is_text_and_counted() -> None:
    """Odd counts are text up to the line end, counted; the session goes on and ends clean."""
    async with running() as run:
        await run.send(b"0 x\n012 abc\n99999999999 x\n5x\n-1 x\n")
        await run.intake.until(lambda: run.intake.closed != {})

        assert run.intake.lines() == [b"0 x", b"012 abc", b"99999999999 x", b"5x", b"-1 x"]
        assert run.by_reason(telemetry.SYSLOG_ODD_FRAMES) == {"no_count": 4, "no_priority": 1}
        assert run.intake.closed == {1: True}


async def test_S3_a_wrong_count_ends_the_session() -> None:
    """After a wrong count the sender is cut off and counted; what came before is committed, the feed is not clean, others are served."""
    async with running() as run:
        good = await run.connect()
        good.write(b"<13>a\n")
        bad = await run.connect()
        bad.write(b"7 <13>one" + b"5 <13>hello\n<13>never\n")
        await at_end(bad)
        good.write(b"<13>b\n")
        await run.intake.until(lambda: len(run.intake.lines()) == 4)

        assert sorted(run.intake.lines()) == [b"<13>a", b"<13>b", b"<13>h", b"<13>one"]
        assert run.by_reason(telemetry.SYSLOG_BAD_FRAMES) == {"no_count": 1}
        assert run.closed_by() == {"bad_frame": 1}
        assert list(run.intake.closed.values()) == [False]


async def test_S4_line_ends() -> None:
    """CRLF and NUL are trimmed, empty lines skipped; a last line without its end comes out at FIN, flagged; the session is not clean."""
    async with running() as run:
        await run.send(b"<13>a\r\n\n\r\n<13>b\0\n<13>c")
        await run.intake.until(lambda: run.intake.closed != {})

        assert run.intake.lines() == [b"<13>a", b"<13>b", b"<13>c"]
        assert run.intake.flags() == [(), (), ("truncated",)]
        assert run.counters.value(telemetry.SYSLOG_TRUNCATED) == 1
        assert run.intake.closed == {1: False}


async def test_S4_line_ends_in_datagrams() -> None:
    """The same line ends in datagrams; empty ones are nothing."""
    async with running(transport="udp") as run:
        with UdpSender(run.server.port) as sender:
            sender.send(b"<13>a\r\n", b"<13>b\0", b"\n", b"", b"<13>c")
        await run.intake.until(lambda: len(run.intake.lines()) == 3)

        assert run.intake.lines() == [b"<13>a", b"<13>b", b"<13>c"]


async def test_S5_a_line_without_end() -> None:
    """1 MiB without LF is cut at the limit, flagged and counted, and the next message is intact."""
    async with running(max_message_bytes=8192) as run:
        await run.send(b"<13>before\n<13>" + b"x" * (1 << 20) + b"\n<13>next\n")
        await run.intake.until(lambda: run.intake.closed != {})

        assert run.intake.lines() == [b"<13>before", b"<13>".ljust(8192, b"x"), b"<13>next"]
        assert run.intake.flags() == [(), ("truncated",), ()]
        assert run.counters.value(telemetry.SYSLOG_TRUNCATED) == 1


async def test_S5_the_largest_datagram() -> None:
    """65,507 bytes arrive whole, or cut at the limit and flagged."""
    datagram = b"<13>".ljust(65_507, b"x")
    for limit, line, flags in ((64 << 10, datagram, ()), (8192, datagram[:8192], ("truncated",))):
        async with running(transport="udp", max_message_bytes=limit) as run:
            with UdpSender(run.server.port) as sender:
                sender.send(datagram)
            await run.intake.until(lambda run=run: run.intake.lines() != [])  # type: ignore[misc]
            assert run.intake.lines() == [line]
            assert run.intake.flags() == [flags]


async def test_S6_bytes_are_kept() -> None:
    """Bytes that are no UTF-8, and a BOM, pass untouched."""
    lines = [bytes(range(1, 10)) + b"\xff\xfe\x80", b"\xef\xbb\xbf<13>x", "<13>Grüße".encode("latin-1")]
    async with running(transport="udp") as run:
        with UdpSender(run.server.port) as sender:
            sender.send(*lines)
        await run.intake.until(lambda: len(run.intake.lines()) == 3)

        assert run.intake.lines() == lines


async def test_S7_order_is_that_of_arrival() -> None:
    """Stamps do not matter here: lines enter the core in the order in which they came, by TCP over many batches."""
    lines = [b"<166>Oct 26 02:%02d:00 mail_logs: Info: MID %d ICID 5 From: <>" % (59 - i % 60, i) for i in range(5000)]
    async with running(max_batch_lines=100) as run:
        await run.send(b"".join(line + b"\n" for line in lines))
        await run.intake.until(lambda: run.intake.closed != {})

        assert run.intake.lines() == lines
        assert run.intake.closed == {1: True}


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_S8_a_line_inside_a_line_is_no_line(transport: str) -> None:
    """A real LF inside a counted message or a datagram leaves it one line, and its text makes no event."""
    line = b"<166>Mar 17 18:24:37 mail_logs: Info: MID 6 Subject 'x\n" + INJECTED + b"'"
    async with running(transport=transport) as run:
        if transport == "udp":
            with UdpSender(run.server.port) as sender:
                sender.send(line)
        else:
            await run.send(counted(line))
        await run.intake.until(lambda: run.intake.lines() != [])

        assert run.intake.lines() == [line]
        assert [record["event"]["action"] for record in records(Messages(run.intake.lines(), []))] == ["subject"]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_S9_the_host_is_trusted_only_when_told(transport: str) -> None:
    """Two senders are told apart by their addresses; whether a host field may name the appliance is what the setting says."""
    for trust_host in (False, True):
        async with running(transport=transport, trust_host=trust_host) as run:
            for local in ("127.0.0.1", "127.0.0.2"):
                if transport == "udp":
                    with UdpSender(run.server.port, local=local) as sender:
                        sender.send(SHAPES[1])
                else:
                    (await run.connect(local=local)).write(SHAPES[1] + b"\n")
            await run.intake.until(lambda run=run: len(run.intake.lines()) == 2)  # type: ignore[misc]

            origins = [found.origin for batch in run.intake.committed for found in batch.runs]
            assert {origin.peer for origin in origins} == {"127.0.0.1", "127.0.0.2"}
            assert {origin.trust_host for origin in origins} == {trust_host}
            assert sorted(run.intake.opened) == ["127.0.0.1", "127.0.0.2"]


@pytest.mark.skipif(shutil.which("logger") is None, reason="logger(1) is not there")
@pytest.mark.parametrize("form", ["--rfc3164", "--rfc5424"])
@pytest.mark.parametrize("way", ["--udp", "--tcp", "--tcp --octet-count"])
async def test_S10_logger(form: str, way: str) -> None:
    """What logger(1) of util-linux sends is understood, in both formats and all its ways."""
    message = "Info: MID 6 ICID 5 From: <a@b.example>"
    async with running(transport=way.split(maxsplit=1)[0].strip("-")) as run:
        command = [
            "logger",
            form,
            *way.split(),
            "--server",
            "127.0.0.1",
            "--port",
            str(run.server.port),
            "--tag",
            "mail_logs",
            "-p",
            "mail.info",
        ]
        process = await asyncio.create_subprocess_exec(*command, message, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        _, complaint = await process.communicate()
        assert (process.returncode, complaint) == (0, b"")
        await run.intake.until(lambda: run.intake.lines() != [])

        [line] = run.intake.lines()
        assert line.startswith(b"<22>")
        assert line.endswith(message.encode())
        [record] = records(Messages([line], []))
        assert (record["event"]["action"], record["cisco_esa"]["log_name"]) == ("sender-accepted", "mail_logs")
        assert run.counters.series(telemetry.SYSLOG_BAD_FRAMES) == run.counters.series(telemetry.SYSLOG_ODD_FRAMES) == {}


# -- batches, and being held back ------------------------------------------------------------------------------------------------
async def test_lines_are_gathered_into_large_batches() -> None:
    """10,000 lines in one stream become batches of about `max_batch_lines`, with at most `max_in_flight` under way."""
    intake = MemoryIntake()
    intake.accepting.clear()
    async with running(intake, max_in_flight=3, max_batch_lines=500) as run:
        writer = await run.connect()
        writer.write(b"".join(b"<13>line %d\n" % i for i in range(10_000)))
        await intake.until(lambda: intake.in_flight == 3)
        await intake.accept()
        await intake.until(lambda: len(intake.lines()) == 10_000)

        assert intake.lines() == [b"<13>line %d" % i for i in range(10_000)]
        assert intake.most_in_flight == 3
        assert len(intake.entered) <= 12


async def test_datagrams_are_gathered_into_large_batches() -> None:
    """Datagrams of one peer that come together share a batch of at most `max_batch_lines`; each peer's lines are a batch of their own."""
    async with running(transport="udp", max_batch_lines=400, flush_interval_s=30.0) as run:
        with UdpSender(run.server.port) as one, UdpSender(run.server.port, local="127.0.0.2") as two:
            for i in range(200):  # less than the system's default buffer holds, all before the loop runs
                one.send(b"<13>one %d" % i)
                two.send(b"<13>two %d" % i)
        await run.intake.until(lambda: len(run.intake.lines()) == 400)

        assert [batch.line_count() for batch in run.intake.committed] == [200, 200]
        assert sorted(run.intake.lines()[:200]) == sorted(b"<13>one %d" % i for i in range(200))
        assert [len({found.origin.peer for found in batch.runs}) for batch in run.intake.committed] == [1, 1]


async def test_a_single_line_does_not_wait_for_more() -> None:
    """One line leaves after `flush_interval_s`, by TCP without the end of its session and by UDP."""
    for transport in ("tcp", "udp"):
        async with running(transport=transport) as run:
            if transport == "udp":
                with UdpSender(run.server.port) as sender:
                    sender.send(b"<13>x")
            else:
                (await run.connect()).write(b"<13>x\n")
            await run.intake.until(lambda run=run: run.intake.lines() == [b"<13>x"])  # type: ignore[misc]


async def test_a_tcp_sender_is_held_back_while_nothing_is_durable() -> None:
    """With commits that hang the sender can write only what buffers hold; when they go on, everything arrives in order, once."""
    intake = MemoryIntake()
    intake.accepting.clear()
    line = b"<13>" + b"y" * 1000
    total = 40_000
    async with running(intake, max_in_flight=2) as run:
        writer = await run.connect()
        writer.transport.set_write_buffer_limits(high=0)
        writer.write((line + b"\n") * total)
        flushing = asyncio.create_task(writer.drain())
        await intake.until(lambda: intake.in_flight == 2)
        await asyncio.wait({flushing}, timeout=0.3)
        assert not flushing.done()
        assert sum(batch.line_count() for batch in intake.entered) * len(line) < 4 << 20
        await intake.accept()
        await flushing
        await intake.until(lambda: len(intake.lines()) == total)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_no_room_in_the_receive_budget_holds_lines_back(transport: str) -> None:
    """Lines enter the core only when their bytes are reserved, one batch asks at a time, and the room is given back."""
    intake = MemoryIntake(budget_bytes=0)
    async with running(intake, transport=transport, max_batch_lines=1) as run:
        if transport == "udp":
            with UdpSender(run.server.port) as sender:
                sender.send(*(b"<13>%d" % i for i in range(10)))
        else:
            writer = await run.connect()
            for i in range(10):
                writer.write(b"<13>%d\n" % i)
                await intake.until(lambda: len(intake.reserved) > 0)
                for _ in range(20):
                    await asyncio.sleep(0)
        await intake.until(lambda: len(intake.reserved) > 0)
        for _ in range(20):
            await asyncio.sleep(0)
        assert (len(intake.reserved), intake.entered) == (1, [])
        intake.free_bytes = 100
        await intake.changed()
        await intake.until(lambda: len(intake.lines()) == 10)
        assert intake.lines() == [b"<13>%d" % i for i in range(10)]
        await run.server.drain()
        assert intake.free_bytes == 100


async def test_datagrams_are_dropped_and_counted_when_the_intake_is_full() -> None:
    """While commits hang, `max_waiting_bytes` of lines wait; each datagram beyond is counted, and what waited arrives afterwards."""
    intake = MemoryIntake()
    intake.accepting.clear()
    async with running(intake, transport="udp", max_in_flight=1, max_batch_lines=10, max_waiting_bytes=10_000) as run:
        sent = 0
        with UdpSender(run.server.port) as sender:
            while not run.by_reason(telemetry.SYSLOG_DROPPED).get("intake_full"):
                sender.send(*(b"<13>%06d" % (sent + i) for i in range(20)))
                sent += 20
                await asyncio.sleep(0)
                assert sent < 100_000
            await intake.accept()
            await intake.until(lambda: len(intake.lines()) + run.counters.value(telemetry.SYSLOG_DROPPED) == sent)
            lines = intake.lines()
            assert lines == sorted(set(lines))
            assert len(lines) < 10 + 10_000 / 100
            for i in range(200):  # room is there again
                sender.send(b"<13>again %d" % i)
                await asyncio.sleep(0)
            await intake.until(lambda: len(intake.lines()) == len(lines) + 200)


async def test_datagrams_that_the_system_dropped_are_counted() -> None:
    """What does not fit the system's buffer while we are busy is counted, to the datagram."""
    async with running(transport="udp", receive_buffer_bytes=4096) as run:
        assert isinstance(run.server, SyslogUdpServer)
        if kernel_drops(run.server._sockets[0].sock) is None:
            pytest.skip("this system does not tell its drops")
        with UdpSender(run.server.port) as sender:
            sender.send(*(b"<13>" + b"x" * 500 for _ in range(200)))  # without a turn for the loop
        await run.counted(telemetry.SYSLOG_DROPPED, kernel=1)
        await run.server.drain()

        dropped = run.by_reason(telemetry.SYSLOG_DROPPED)
        assert dropped["kernel"] > 0
        assert len(run.intake.lines()) + dropped["kernel"] == 200


async def test_a_system_that_tells_no_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not know the question there is no number, and without it everything else works."""

    class Ignorant(socket.socket):
        def getsockopt(self, *_: object) -> Any:
            raise OSError(errno.ENOPROTOOPT, "Protocol not available")

    with Ignorant(socket.AF_INET, socket.SOCK_DGRAM) as ignorant:
        assert kernel_drops(ignorant) is None
    monkeypatch.setattr(syslog_udp, "kernel_drops", lambda _: None)
    async with running(transport="udp") as run:
        with UdpSender(run.server.port) as sender:
            sender.send(b"<13>x")
        await run.intake.until(lambda: run.intake.lines() == [b"<13>x"])

        assert run.by_reason(telemetry.SYSLOG_DROPPED) == {}


async def test_a_failed_commit_ends_the_session() -> None:
    """Lines that could not be made durable end their session, not clean; with UDP they are counted as dropped and the peer stays."""
    intake = MemoryIntake()
    intake.late_failures.append(JournalFull("no room"))
    async with running(intake) as run:
        writer = await run.connect()
        writer.write(b"<13>lost\n")
        await at_end(writer)
        await intake.until(lambda: intake.closed == {1: False})
        assert run.closed_by() == {"not_committed": 1}

    intake = MemoryIntake()
    intake.late_failures.append(JournalFull("no room"))
    async with running(intake, transport="udp") as run:
        with UdpSender(run.server.port) as sender:
            sender.send(b"<13>lost")
            await intake.until(lambda: len(intake.entered) == 1)
            sender.send(b"<13>kept")
            await intake.until(lambda: intake.lines() == [b"<13>kept"])
        assert run.by_reason(telemetry.SYSLOG_DROPPED) == {"not_committed": 1}


# -- who may send, and limits ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_only_allowed_addresses_may_send(transport: str) -> None:
    """A peer outside `allow` is turned away and counted before it can say anything; one inside is served."""
    async with running(transport=transport, allow=("192.0.2.0/24", "127.0.0.2")) as run:
        if transport == "udp":
            with UdpSender(run.server.port) as stranger, UdpSender(run.server.port, local="127.0.0.2") as friend:
                stranger.send(b"<13>no")
                friend.send(b"<13>yes")
        else:
            stranger_writer = await run.connect()
            with contextlib.suppress(ConnectionError):
                stranger_writer.write(b"<13>no\n")
                await at_end(stranger_writer)
            (await run.connect(local="127.0.0.2")).write(b"<13>yes\n")
        await run.intake.until(lambda: run.intake.lines() == [b"<13>yes"])

        assert run.intake.opened == ["127.0.0.2"]
        assert run.by_reason(telemetry.PEERS_REFUSED) == {"not_allowed": 1}
        refused = run.closed_by() if transport == "tcp" else run.by_reason(telemetry.SYSLOG_DROPPED)
        assert refused == {"not_allowed": 1}


def test_addresses_have_one_name() -> None:
    """An IPv4 address seen through IPv6, and a link-local one with its zone, are told and allowed by their plain form."""
    assert address_of("::ffff:192.0.2.7") == "192.0.2.7"
    assert address_of("fe80::1%eth0") == "fe80::1"
    assert address_of("2001:db8::1") == "2001:db8::1"
    assert "192.0.2.7" in Allowed(("192.0.2.0/24",))
    assert "2001:db8::7" in Allowed(("192.0.2.0/24", "2001:db8::/64"))
    assert "198.51.100.7" not in Allowed(("192.0.2.0/24", "2001:db8::/64"))
    assert "" not in Allowed(("0.0.0.0/0",))
    assert "anybody" in Allowed(())


async def test_too_many_senders_that_sent_something_keep_a_new_one_out() -> None:
    """With `max_sessions` senders at work the next is turned away, counted; a place that becomes free is taken."""
    async with running(max_sessions=2) as run:
        first, second = await run.connect(), await run.connect()
        first.write(b"<13>1\n")
        second.write(b"<13>2\n")
        await run.intake.until(lambda: len(run.intake.lines()) == 2)
        await at_end(await run.connect())
        assert run.by_reason(telemetry.PEERS_REFUSED) == {"max_sessions": 1}
        first.close()
        await run.intake.until(lambda: len(run.intake.closed) == 1)
        (await run.connect()).write(b"<13>3\n")
        await run.intake.until(lambda: b"<13>3" in run.intake.lines())
        assert run.counters.value(telemetry.SESSIONS_OPEN) == 2


async def test_many_idle_connections_do_not_keep_a_sender_out() -> None:
    """300 connections without a word at a limit of 20: those at work stay, a new sender is served, no more than 20 are open."""
    async with running(max_sessions=20) as run:
        at_work = await run.connect()
        at_work.write(b"<13>first\n")
        await run.intake.until(lambda: len(run.intake.lines()) == 1)
        for _ in range(300):
            await run.connect()
        newcomer = await run.connect()
        newcomer.write(b"<13>new\n")
        at_work.write(b"<13>second\n")
        await run.intake.until(lambda: len(run.intake.lines()) == 3)

        assert set(run.intake.lines()) == {b"<13>first", b"<13>new", b"<13>second"}
        await run.counted(telemetry.SESSIONS_CLOSED, max_sessions=302 - 20)
        assert run.counters.value(telemetry.SESSIONS_OPEN) == 20


async def test_a_slow_message_ends_its_session() -> None:
    """A sender that dribbles one message for longer than `stall_timeout_s` is cut off; the part is kept, flagged, and others are served."""
    async with running(stall_timeout_s=0.2) as run:
        slow = await run.connect()

        async def dribble() -> None:
            with contextlib.suppress(ConnectionError):
                while not slow.transport.is_closing():
                    slow.write(b"x")
                    await slow.drain()
                    await asyncio.sleep(0.01)

        dribbling = asyncio.create_task(dribble())
        (await run.connect()).write(b"<13>quick\n")
        await run.counted(telemetry.SESSIONS_CLOSED, stalled=1)
        dribbling.cancel()
        assert b"<13>quick" in run.intake.lines()
        assert ("truncated",) in run.intake.flags()
        assert list(run.intake.closed.values()) == [False]


async def test_a_silent_sender_is_cut_off_at_last() -> None:
    """After `idle_timeout_s` without a byte a session ends, not clean."""
    async with running(idle_timeout_s=0.1) as run:
        writer = await run.connect()
        writer.write(b"<13>x\n")
        await at_end(writer)
        await run.intake.until(lambda: run.intake.closed == {1: False})
        assert run.closed_by() == {"idle": 1}


async def test_new_addresses_wait_until_a_known_one_was_silent_for_long() -> None:
    """With UDP at most `max_sessions` addresses are known: others are dropped and counted until one was silent for `idle_timeout_s`."""
    async with running(transport="udp", max_sessions=1, idle_timeout_s=0.0) as run:
        with UdpSender(run.server.port) as one, UdpSender(run.server.port, local="127.0.0.2") as two:
            run.intake.accepting.clear()
            one.send(b"<13>1")
            await run.intake.until(lambda: len(run.intake.entered) == 1)
            two.send(b"<13>2")  # the first one's line is not durable yet, so it stays
            await run.counted(telemetry.SYSLOG_DROPPED, max_sessions=1)
            await run.intake.accept()
            await run.intake.until(lambda: run.intake.lines() == [b"<13>1"])
            two.send(b"<13>3")
            await run.intake.until(lambda: run.intake.lines() == [b"<13>1", b"<13>3"])

        assert run.by_reason(telemetry.SYSLOG_DROPPED) == {"max_sessions": 1}
        assert run.intake.opened == ["127.0.0.1", "127.0.0.2"]
        assert run.intake.closed == {1: True}


# -- TLS -------------------------------------------------------------------------------------------------------------------------
async def test_mutual_tls(tmp_path: Path) -> None:
    """With `client_ca_file` a sender with our authority's certificate is served; one with another's or with none is refused, counted."""
    counters = Counters()
    files = TlsFiles(tmp_path)
    stranger = files.issue("stranger", "relay.example", authority=trustme.CA())
    async with running(tls=context_of(files, mutual=True, refusals=Refusals("source syslog", counters))) as run:
        for client in (files.client_context(), files.client_context(cert=stranger)):
            with contextlib.suppress(OSError):
                await at_end(await run.connect(tls=client))
        (await run.connect(tls=files.client_context(cert=files.client))).write(counted(b"<13>mutual"))
        await run.intake.until(lambda: run.intake.lines() == [b"<13>mutual"])

        await run.counted(telemetry.SESSIONS_CLOSED, handshake=2)
        assert counters.value(telemetry.PEERS_REFUSED) == 2
        assert run.intake.opened == ["127.0.0.1"]


async def test_a_sender_without_tls_is_refused_by_a_tls_listener(tmp_path: Path) -> None:
    """Plain text to a TLS port, and silence there, end the connection; neither becomes a session."""
    async with running(tls=context_of(TlsFiles(tmp_path)), handshake_timeout_s=0.3) as run:
        plain, silent = await run.connect(), await run.connect()
        plain.write(b"<13>plain text\n")
        await at_end(plain)
        await at_end(silent)
        await run.counted(telemetry.SESSIONS_CLOSED, handshake=2)

        assert run.by_reason(telemetry.PEERS_REFUSED)["handshake_timeout"] == 1
        assert run.intake.opened == []


# -- the end ---------------------------------------------------------------------------------------------------------------------
async def test_a_session_is_clean_only_when_its_sender_ended_it() -> None:
    """FIN behind a whole message: clean. A reset, an end inside a message, or ours: not clean."""
    async with running() as run:
        await run.send(b"<13>a\n")
        await run.intake.until(lambda: run.intake.closed == {1: True})
        writer = await run.connect()
        writer.write(b"<13>b\n")
        await run.intake.until(lambda: len(run.intake.lines()) == 2)
        reset(writer)
        await run.intake.until(lambda: run.intake.closed == {1: True, 2: False})
        await run.connect()
        await run.intake.until(lambda: len(run.intake.opened) == 3)
        await run.server.drain()

        assert run.intake.closed == {1: True, 2: False, 3: False}
        assert run.closed_by() == {"eof": 1, "reset": 1, "drained": 1}


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_a_drain_takes_what_was_sent_before(transport: str) -> None:
    """What reached this machine before the drain is read and committed before it ends; afterwards nobody listens."""
    intake = MemoryIntake()
    async with running(intake, transport=transport, flush_interval_s=30.0) as run:
        if transport == "udp":
            with UdpSender(run.server.port) as sender:
                sender.send(*(b"<13>%d" % i for i in range(100)))
        else:
            writer = await run.connect()
            writer.write(b"".join(b"<13>%d\n" % i for i in range(100)))
            await writer.drain()
            await intake.until(lambda: intake.opened != [])
        await run.server.drain()

        assert intake.lines() == [b"<13>%d" % i for i in range(100)]
        assert len(intake.closed) == 1
        assert intake.free_bytes == 1 << 30


async def test_a_drain_reads_a_stream_to_its_end() -> None:
    """What a sender had in the system's buffers when the drain began is read, not only what was read ahead, also if commits hang then."""
    intake = MemoryIntake()
    intake.accepting.clear()
    lines = [b"<13>%07d " % i + b"x" * 90 for i in range(6000)]
    async with running(intake, max_in_flight=1) as run:
        with socket.create_connection(("127.0.0.1", run.server.port)) as sender:
            sender.sendall(b"".join(line + b"\n" for line in lines))
            await intake.until(lambda: intake.in_flight == 1)
            draining = asyncio.create_task(run.server.drain())
            await asyncio.sleep(2 * DRAIN_QUIET_S)  # so that it looks for what is left only after commits go on
            await intake.accept()
            await draining

        assert intake.lines() == lines


async def test_a_drain_takes_who_was_not_yet_accepted() -> None:
    """A sender that connected, sent and left before the loop came to accept it is heard."""
    async with running() as run:
        with socket.create_connection(("127.0.0.1", run.server.port)) as sender:
            sender.sendall(b"<13>x\n")
        await run.server.drain()

        assert run.intake.lines() == [b"<13>x"]


@pytest.mark.parametrize("end", ["drain", "close"])
@pytest.mark.parametrize("make", [SyslogServer, SyslogUdpServer])
async def test_ending_before_the_start_and_twice(make: Callable[[MemoryIntake, Counters], SyslogServer], end: str) -> None:
    """A source that never started, or has ended, can be ended again."""
    server = make(MemoryIntake(), Counters())
    await getattr(server, end)()
    await server.close()
    await server.drain()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_closing_while_commits_hang(transport: str) -> None:
    """`close` does not wait for commits under way, gives all room back, and its sessions are not clean."""
    intake = MemoryIntake()
    intake.accepting.clear()
    async with running(intake, transport=transport) as run:
        if transport == "udp":
            with UdpSender(run.server.port) as sender:
                sender.send(b"<13>x")
        else:
            (await run.connect()).write(b"<13>x\n")
        await intake.until(lambda: intake.in_flight == 1)
        await run.server.close()

        assert intake.free_bytes == 1 << 30
        assert intake.closed == {1: False}
        assert intake.in_flight == 0


async def test_a_taken_port_is_an_error() -> None:
    """A UDP port that somebody has raises OSError at the start and leaves nothing open."""
    async with running(transport="udp") as run:
        from esa_tls.sources.syslog import SyslogSettings

        second = SyslogUdpServer(MemoryIntake(), Counters(), settings=SyslogSettings(port=run.server.port))
        with pytest.raises(OSError, match="in use"):
            await second.start()
        await second.close()
