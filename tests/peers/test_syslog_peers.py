"""Syslog in, from programs that real sites have: rsyslog, syslog-ng and logger(1) (docs/wires.md 6.6 row S10)."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 6.6)

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.peers.listing import missing, peer, rsyslogd, syslog_ng_folder, version_of
from tests.tls_files import TlsFiles
from tests.unit.sources.memory_intake import MemoryIntake
from tests.unit.sources.syslog_cases import running
from tests.unit.wire.test_syslog import counted, records

from esa_tls import telemetry
from esa_tls.runtime.tls import server_context
from esa_tls.wire.syslog import Messages

READY_TIMEOUT_S = 20.0

TEXT = "Info: MID %d ICID 5 From: <a@b.example>"
"""A line's body; all of these tests send lines with it."""


def mids(messages: list[bytes]) -> list[int]:
    """The MIDs of lines that the core understood, as this test's text."""
    made = records(Messages(messages, []), trust_host=True)
    return [record["cisco_esa"]["mid"] for record in made if record["event"]["action"] == "sender-accepted"]


def free_port() -> int:
    """A TCP port that nobody has now: these programs cannot be told to choose one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def process(*command: str | Path, port: int, **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program that runs and takes connections at `port`; ended by SIGTERM."""
    started = await asyncio.create_subprocess_exec(*map(str, command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            while True:
                assert started.returncode is None, (await started.communicate())[0].decode()
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.01)
        yield started
    finally:
        if started.returncode is None:
            started.terminate()
        async with asyncio.timeout(READY_TIMEOUT_S):
            await started.communicate()


async def tell(port: int, data: bytes) -> None:
    """Send bytes in a connection of their own."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


# -- rsyslog ---------------------------------------------------------------------------------------------------------------------
class Rsyslog:
    """The program and its configuration: takes TCP at `port`, sends to us as told."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program = program
        self.folder = folder
        self.port = free_port()
        (folder / "work").mkdir()

    def command(self, *, target: int, protocol: str, template: str, framing: str = "") -> list[str]:
        """The command line that relays everything to `target`."""
        (self.folder / "r.conf").write_text(f"""
global(workDirectory="{self.folder}/work" maxMessageSize="64k" net.enableDNS="off")
module(load="imtcp")
template(name="t3164" type="string" string="<%PRI%>%TIMESTAMP% %HOSTNAME% %syslogtag%%msg:::sp-if-no-1st-sp%%msg%")
ruleset(name="out") {{
  action(type="omfwd" target="127.0.0.1" port="{target}" protocol="{protocol}" template="{template}" {framing}
         action.resumeRetryCount="-1" action.resumeInterval="1" action.resumeIntervalMax="1"
         queue.type="LinkedList" queue.filename="q1" queue.saveOnShutdown="on")
}}
input(type="imtcp" address="127.0.0.1" port="{self.port}" ruleset="out")
""")
        return [str(self.program), "-n", "-f", f"{self.folder}/r.conf", "-i", f"{self.folder}/r.pid"]


@pytest.fixture
def rsyslog(tmp_path: Path) -> Rsyslog:
    """rsyslog, or a skipped test."""
    program = rsyslogd()
    if program is None:
        missing("rsyslog", why="no rsyslogd, and it cannot be installed by apt-get as root")
    peer("rsyslog", version_of(program, "-v"))
    return Rsyslog(program, tmp_path)


RSYSLOG_WAYS = {
    "counted, 5424": ("tcp", "RSYSLOG_SyslogProtocol23Format", 'TCP_Framing="octet-counted"'),
    "LF, 5424": ("tcp", "RSYSLOG_SyslogProtocol23Format", 'TCP_Framing="traditional"'),
    "counted, 3164": ("tcp", "RSYSLOG_TraditionalForwardFormat", 'TCP_Framing="octet-counted"'),
    "LF, 3164": ("tcp", "RSYSLOG_TraditionalForwardFormat", 'TCP_Framing="traditional"'),
    "udp, 3164": ("udp", "t3164", ""),
}


@pytest.mark.parametrize("way", RSYSLOG_WAYS)
async def test_S10_rsyslog_relays(rsyslog: Rsyslog, way: str) -> None:
    """Each message that rsyslog relays is one line, in order, bytes untouched, in each framing and format that it knows."""
    protocol, template, framing = RSYSLOG_WAYS[way]
    sent = [b"<22>Nov 24 20:00:%02d esa1 mail_logs: Info: MID %d ICID 5 From: <a@b.example>" % (i, i) for i in range(50)]
    sent += [b"<22>1 2026-11-24T20:01:00.5Z esa1 mail_logs 77 ID47 [x@32473 mid=\"9\"] Info: MID 50 Subject 'Gr\xc3\xbc\xc3\x9fe \xff\xfe'"]
    async with running(transport=protocol) as run:
        async with process(
            *rsyslog.command(target=run.server.port, protocol=protocol, template=template, framing=framing), port=rsyslog.port
        ):
            await tell(rsyslog.port, b"".join(line + b"\n" for line in sent))
            await run.intake.until(lambda: len(run.intake.lines()) == len(sent))

        lines = run.intake.lines()
        assert [line.partition(b"Info: ")[2] for line in lines] == [line.partition(b"Info: ")[2] for line in sent]
        assert all(line.startswith(b"<22>") for line in lines)
        assert run.counters.series(telemetry.SYSLOG_BAD_FRAMES) == run.counters.series(telemetry.SYSLOG_ODD_FRAMES) == {}
        if protocol == "tcp":
            assert list(run.intake.closed.values()) == [True] * len(run.intake.opened)


@pytest.mark.parametrize("way", RSYSLOG_WAYS)
async def test_S10_rsyslog_is_understood(rsyslog: Rsyslog, way: str) -> None:
    """The appliance's own push through rsyslog: the core understands what comes out, in each format."""
    protocol, template, framing = RSYSLOG_WAYS[way]
    async with running(transport=protocol) as run:
        async with process(
            *rsyslog.command(target=run.server.port, protocol=protocol, template=template, framing=framing), port=rsyslog.port
        ):
            await tell(rsyslog.port, b"<22>Nov 24 20:00:00 esa1 mail_logs: Info: MID 7 ICID 5 From: <a@b.example>\n")
            await run.intake.until(lambda: run.intake.lines() != [])

        assert mids(run.intake.lines()) == [7]


async def test_S10_rsyslog_loses_nothing_while_we_are_away(rsyslog: Rsyslog) -> None:
    """Lines that rsyslog got while nobody listened here arrive when we are back; some perhaps twice."""
    intake = MemoryIntake()
    async with running() as gone:
        port = gone.server.port
    way = rsyslog.command(target=port, protocol="tcp", template="RSYSLOG_SyslogProtocol23Format", framing='TCP_Framing="octet-counted"')
    async with process(*way, port=rsyslog.port):
        await tell(rsyslog.port, b"".join(b"<22>Nov 24 20:00:00 esa1 mail_logs: Info: MID %d x\n" % i for i in range(200)))
        async with running(intake, port=port):
            await intake.until(lambda: len(set(intake.lines())) == 200)

    found = {int(re.findall(rb"MID (\d+)", line)[0]) for line in intake.lines()}
    assert found == set(range(200))


# -- syslog-ng -------------------------------------------------------------------------------------------------------------------
class SyslogNg:
    """The program, unpacked, and its configuration: takes LF at `port` and octet counting at `counted_port`, sends to us as told."""

    def __init__(self, unpacked: Path, folder: Path) -> None:
        self.unpacked = unpacked
        self.folder = folder
        self.port, self.counted_port = free_port(), free_port()
        self.libraries = unpacked / "usr/lib/syslog-ng"
        self.modules = next(self.libraries.glob("[0-9]*"))
        self.environment = {**os.environ, "LD_LIBRARY_PATH": str(self.libraries)}
        self.program = unpacked / "usr/sbin/syslog-ng"

    def command(self, destination: str) -> list[str]:
        """The command line that relays everything to `destination` (a driver in its own words)."""
        (self.folder / "ng.conf").write_text(f"""
@version: 3.38
options {{ keep-hostname(yes); use-dns(no); log-msg-size(65536); stats-freq(0); time-reopen(1); }};
source s_in {{
  network(ip("127.0.0.1") port({self.port}) transport("tcp"));
  syslog(ip("127.0.0.1") port({self.counted_port}) transport("tcp"));
}};
destination d_out {{ {destination} }};
log {{ source(s_in); destination(d_out); }};
""")
        folder = self.folder
        files = ["-f", f"{folder}/ng.conf", "-R", f"{folder}/persist", "-p", f"{folder}/pid", "-c", f"{folder}/ctl"]
        return [str(self.program), "-F", "--no-caps", *files, "--module-path", str(self.modules)]

    def run(self, destination: str) -> contextlib.AbstractAsyncContextManager[asyncio.subprocess.Process]:
        """Run it."""
        return process(*self.command(destination), port=self.counted_port, env=self.environment)


@pytest.fixture
def syslog_ng(tmp_path: Path) -> SyslogNg:
    """syslog-ng, or a skipped test."""
    unpacked = syslog_ng_folder()
    if unpacked is None:
        missing("syslog-ng", why="its package cannot be had by apt-get")
    found = SyslogNg(unpacked, tmp_path)
    version = version_of(found.program, "--version", "--module-path", found.modules, environment=found.environment)
    if not version.startswith("syslog-ng"):
        missing("syslog-ng", why=f"it does not run: {version}")
    peer("syslog-ng", version)
    return found


NG_LINES = [
    b'<22>1 2026-11-24T20:00:00.25+00:00 esa1 mail_logs 77 ID47 [x@32473 mid="9"] Info: MID 1 ICID 5 From: <a@b.example>',
    b"<22>1 2026-11-24T20:00:01+00:00 esa1 mail_logs - - - \xef\xbb\xbfInfo: MID 2 ICID 5 From: <gr\xc3\xbc\xc3\x9fe@b.example>",
    b"<22>1 2026-11-24T20:00:02+00:00 esa1 mail_logs - - - Info: MID 3 ICID 5 From: <bytes\xff\xfe@b.example>",
]


@pytest.mark.parametrize(
    ("destination", "transport"),
    [
        ('syslog("127.0.0.1" port(%d) transport("tcp"));', "tcp"),
        ('network("127.0.0.1" port(%d) transport("tcp"));', "tcp"),
        ('network("127.0.0.1" port(%d) transport("tcp") flags(syslog-protocol));', "tcp"),
        ('syslog("127.0.0.1" port(%d) transport("udp"));', "udp"),
        ('network("127.0.0.1" port(%d) transport("udp"));', "udp"),
    ],
    ids=["counted, 5424", "LF, 3164", "LF, 5424", "udp, 5424", "udp, 3164"],
)
async def test_S10_syslog_ng_relays(syslog_ng: SyslogNg, destination: str, transport: str) -> None:
    """What syslog-ng relays is understood: its counted frames end with a LF of their own, which is no part of the line."""
    async with running(transport=transport) as run:
        async with syslog_ng.run(destination % run.server.port):
            await tell(syslog_ng.counted_port, counted(*NG_LINES))
            await run.intake.until(lambda: len(run.intake.lines()) == 3)

        lines = run.intake.lines()
        assert mids(lines) == [1, 2, 3]
        assert lines[2].endswith(b"<bytes\xff\xfe@b.example>")
        assert run.counters.series(telemetry.SYSLOG_BAD_FRAMES) == run.counters.series(telemetry.SYSLOG_ODD_FRAMES) == {}


@pytest.mark.parametrize("destination", ["syslog", "network"])
async def test_S8_a_line_feed_that_syslog_ng_sends_raw(syslog_ng: SyslogNg, destination: str) -> None:
    """syslog-ng does not escape a LF inside a message: counted it stays one line, in LF framing its rest is a line without priority."""
    text = b"<22>1 2026-11-24T20:00:00+00:00 esa1 mail_logs - - - Info: MID 4 Subject 'x\nInfo: ICID 9 TLS success'"
    async with running() as run:
        async with syslog_ng.run(f'{destination}("127.0.0.1" port({run.server.port}) transport("tcp"));'):
            await tell(syslog_ng.counted_port, counted(text, *NG_LINES[:1]))
            await run.intake.until(lambda: any(b"MID 1 " in line for line in run.intake.lines()))

        lines = run.intake.lines()
        actions = [record["event"]["action"] for record in records(Messages(lines, []), trust_host=True)]
        assert "tls-succeeded" not in actions
        assert "subject" in actions
        if destination == "syslog":
            assert len(lines) == 2
            assert lines[0].endswith(b"Subject 'x\nInfo: ICID 9 TLS success'")
        else:
            assert lines[1] == b"Info: ICID 9 TLS success'"
            assert dict(run.by_reason(telemetry.SYSLOG_ODD_FRAMES)) == {"no_priority": 1}


@pytest.mark.parametrize("known", [True, False])
async def test_S1_syslog_ng_over_mutual_tls(syslog_ng: SyslogNg, tmp_path: Path, known: bool) -> None:
    """syslog-ng sends over TLS with a certificate of an authority we trust; with one of another authority nothing gets in."""
    files = TlsFiles(tmp_path / "tls")
    cert_file, key_file = files.client if known else files.issue("stranger", "relay.example", authority=trustme.CA())
    tls = f'tls(ca-file("{files.ca_file}") cert-file("{cert_file}") key-file("{key_file}") peer-verify(required-trusted))'
    async with (
        running(tls=server_context(files.listen(mutual=True), owner="source syslog")) as run,
        syslog_ng.run(f'syslog("127.0.0.1" port({run.server.port}) transport("tls") {tls});'),
    ):
        await tell(syslog_ng.counted_port, counted(*NG_LINES))
        if known:
            await run.intake.until(lambda: len(run.intake.lines()) == 3)
            assert mids(run.intake.lines()) == [1, 2, 3]
        else:
            await run.counted(telemetry.SESSIONS_CLOSED, handshake=1)
            assert run.intake.opened == []


# -- logger(1) -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["--rfc3164", "--rfc5424", "--rfc5424=notime,notq,nohost"])
@pytest.mark.parametrize("way", ["--udp", "--tcp", "--tcp --octet-count"])
async def test_S10_logger_sends_a_file(tmp_path: Path, form: str, way: str) -> None:
    """A file of lines in the appliance's own form, sent by logger(1) in each of its ways: each line is understood, in order."""
    program = shutil.which("logger")
    if program is None:
        missing("logger", why="no logger(1)")
    peer("logger", version_of(program, "--version"))
    log = tmp_path / "mail.log"
    log.write_text("".join(f"Mon Mar 17 18:24:{i:02d} 2025 {TEXT % i}\n" for i in range(1, 31)))
    async with running(transport="udp" if way == "--udp" else "tcp") as run:
        command = [
            program,
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
            "--file",
            str(log),
        ]
        sent = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said, _ = await sent.communicate()
        assert (sent.returncode, said) == (0, b"")
        await run.intake.until(lambda: len(run.intake.lines()) == 30)

        assert mids(run.intake.lines()) == list(range(1, 31))
        assert {line[:4] for line in run.intake.lines()} == {b"<22>"}
