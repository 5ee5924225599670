"""Syslog sources as they are configured and put together: settings, the example, and the sidecar with them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.unit.sources.syslog_cases import UdpSender
from tests.unit.wire.test_syslog import counted

from esa_tls import app, config
from esa_tls.errors import ConfigError
from esa_tls.sources.syslog import SyslogServer
from esa_tls.sources.syslog_udp import SyslogUdpServer
from esa_tls.telemetry import Counters

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "deploy" / "examples" / "esa-syslog.yaml"

TEXTS = [
    b"New SMTP ICID 7 interface Management (192.0.2.9) address 198.51.100.7 reverse dns host mx.example verified yes",
    b"ICID 7 ACCEPT SG UNKNOWNLIST match sbrs[none] SBRS None",
    b"ICID 7 TLS success protocol TLSv1.2 cipher ECDHE-RSA-AES256-GCM-SHA384",
    b"ICID 7 close",
]


def test_the_example_loads() -> None:
    """deploy/examples/esa-syslog.yaml is accepted: appliances by TCP and UDP by their address, a relay by TLS with its hosts trusted."""
    made = config.load(EXAMPLE)

    found = [source for source in made.sources if isinstance(source, config.SyslogSource)]
    assert [(source.transport, source.trust_host) for source in found] == [("tcp", False), ("tls", True), ("udp", False)]
    assert all(source.allow for source in found)


def test_the_smallest_setting() -> None:
    """A transport is enough; it listens on loopback and trusts no host field."""
    made = config.parse("sources: [{type: syslog, transport: udp}]", file="x")

    [source] = made.sources
    assert isinstance(source, config.SyslogSource)
    assert (source.listen, source.trust_host, source.allow) == ("127.0.0.1:5140", False, [])


@pytest.mark.parametrize(
    ("settings", "where", "reason"),
    [
        ("{type: syslog}", "sources[0]", "needs the key 'transport'"),
        ("{type: syslog, transport: sctp}", "sources[0].transport", "expected one of"),
        ("{type: syslog, transport: tls}", "sources[0].tls", "needs cert_file and key_file"),
        ("{type: syslog, transport: tcp, tls: {cert_file: a, key_file: b}}", "sources[0].tls", "no effect"),
        ("{type: syslog, transport: udp, lossy: false}", "sources[0].lossy", "UDP loses lines"),
        ("{type: syslog, transport: udp, listen: nowhere}", "sources[0].listen", "expected HOST:PORT"),
        ("{type: syslog, transport: tcp, listen: nowhere}", "sources[0].listen", "expected HOST:PORT"),
        ("{type: syslog, transport: tcp, allow: [192.0.2.1/24]}", "sources[0].allow[0]", "no address and no network"),
        ("{type: syslog, transport: tcp}, {type: syslog, transport: udp}", "sources[1].name", "taken by sources[0]"),
        ("{type: syslog, transport: udp}, {type: syslog, name: b, transport: udp}", "sources[1].listen", "taken by sources[0]"),
        ("{type: syslog, transport: tcp}, {type: syslog, name: b, transport: tcp}", "sources[1].listen", "taken by sources[0]"),
        ("{type: syslog, transport: tcp, max_message_bytes: 1048576}", "sources[0].max_message_bytes", "<= 262144"),
    ],
)
def test_what_is_refused(settings: str, where: str, reason: str) -> None:
    """What cannot work, or would not do what it says, is told with its place."""
    with pytest.raises(ConfigError) as told:
        config.parse(f"sources: [{settings}]", file="x.yaml")
    assert str(told.value).startswith(f"x.yaml: {where}: ")
    assert reason in str(told.value)


def test_one_port_for_tcp_and_udp() -> None:
    """TCP and UDP have ports of their own: 514 for both is fine."""
    both = ("{type: syslog, transport: tcp, listen: '127.0.0.1:514'}", "{type: syslog, name: u, transport: udp, listen: '127.0.0.1:514'}")
    made = config.parse(f"sources: [{', '.join(both)}]", file="x")
    assert len(made.sources) == 2


def test_without_hosts_and_peers_all_senders_would_be_one() -> None:
    """A source that trusts no host needs `peer` in `appliance.from`, unless one name holds for all."""
    for names in ("{from: [syslog:host]}", "{from: [syslog:host], name: esa1}"):
        text = f"appliance: {names}\nsources: [{{type: syslog, transport: tcp}}]"
        if "name" in names:
            config.parse(text, file="x")
        else:
            with pytest.raises(ConfigError, match="must hold `peer`"):
                config.parse(text, file="x")


def test_every_setting_arrives() -> None:
    """Each setting that the source has too reaches it."""
    text = """
    sources:
      - {type: syslog, name: a, transport: tcp, listen: "127.0.0.2:601", allow: [192.0.2.0/24], trust_host: true, lossy: false,
         reorder_window_s: 1.5, framing: lf, max_message_bytes: 4096, max_sessions: 3, idle_timeout_s: 60}
      - {type: syslog, name: b, transport: udp, listen: "127.0.0.2:601", receive_buffer_bytes: 100000, max_waiting_bytes: 200000}
    """
    made = config.parse(text, file="x")

    async def make() -> list[app.sources.Source]:
        return [app.make_source(settings, None, Counters(), made) for settings in made.sources]  # type: ignore[arg-type]

    tcp, udp = asyncio.run(make())
    assert isinstance(tcp, SyslogServer)
    assert isinstance(udp, SyslogUdpServer)
    assert tcp.tls is None
    for source, settings in ((tcp, made.sources[0]), (udp, made.sources[1])):
        assert (source.settings.host, source.settings.port) == ("127.0.0.2", 601)
        for field in settings.__struct_fields__:
            if field in source.settings.__struct_fields__ and field != "allow":
                assert getattr(source.settings, field) == getattr(settings, field), field
    assert tcp.settings.allow == ("192.0.2.0/24",)


async def test_the_sidecar_with_syslog_sources(tmp_path: Path) -> None:
    """`run` with TCP and UDP: a connection pushed by each becomes lines and a record of its peer's."""
    settings = config.parse(
        f"""
        data_dir: {tmp_path}/data
        web: null
        api: null
        sources:
          - {{type: syslog, name: tcp, transport: tcp, listen: "127.0.0.1:0", reorder_window_s: 0}}
          - {{type: syslog, name: udp, transport: udp, listen: "127.0.0.1:0", reorder_window_s: 0}}
        sinks: [{{type: jsonl, path: {tmp_path}/records.jsonl, records: [line, connection]}}]
        """,
        file="x",
    )
    stop, started = asyncio.Event(), asyncio.get_running_loop().create_future()
    running = asyncio.create_task(app.serve(settings, stop=stop, started=started.set_result))
    await asyncio.wait({started, running}, return_when=asyncio.FIRST_COMPLETED)
    where = started.result().sources
    _, writer = await asyncio.open_connection("127.0.0.1", where["tcp"][1])
    sent = [b"<166>Mar 17 18:24:37 mail_logs: Info: " + text for text in TEXTS]
    writer.write(counted(*sent))
    writer.close()
    await writer.wait_closed()
    with UdpSender(where["udp"][1], local="127.0.0.2") as sender:
        sender.send(*sent)
    stop.set()
    await running

    made = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    for peer in ("127.0.0.1", "127.0.0.2"):
        lines = [one["event"]["original"].encode() for one in made if one["host"]["name"] == peer and one["cisco_esa"]["record"] == "line"]
        assert lines == sent
        [connection] = [one for one in made if one["host"]["name"] == peer and one["cisco_esa"]["record"] == "connection"]
        assert connection["cisco_esa"]["connection"]["id"] == f"{peer}/0/ICID/7"
        assert connection["cisco_esa"]["tls"]["outcome"] == "success"
