"""offline/send.py against servers that ask who we are: TLS, client certificates, shared key, user, token; and its secrets stay secret."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.contract.delivery_fakes import NoWait
from tests.contract.forward_receiver import ForwardReceiver
from tests.contract.intake_fakes import FakeIntake, line
from tests.tls_files import TlsFiles

from esa_tls import cli
from esa_tls.cli import traffic
from esa_tls.config import ClientTls, Secret
from esa_tls.errors import ConfigError, TransientError
from esa_tls.offline.send import Access, send
from esa_tls.runtime.tls import grpc_server_credentials, server_context
from esa_tls.sources.fluent import ForwardServer, ServerSettings
from esa_tls.sources.otlp_grpc import GrpcSettings, OtlpGrpcServer
from esa_tls.telemetry import Counters
from esa_tls.wire.fluent_handshake import ServerCredentials

KEY, PASSWORD, TOKEN = "correct horse", "battery staple", "t0ken"
NUMBERS = list(range(250))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A file of 250 lines."""
    path = tmp_path / "mail.log"
    path.write_bytes(b"".join(line(number) + b"\n" for number in NUMBERS))
    return path


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    """Certificates."""
    return TlsFiles(tmp_path / "tls")


@contextlib.asynccontextmanager
async def forward_server(files: TlsFiles, *, users: bool = True) -> AsyncIterator[tuple[FakeIntake, str]]:
    """A Forward source over mutual TLS that wants a shared key and a user; its intake and its address."""
    intake = FakeIntake()
    server = ForwardServer(
        intake,
        Counters(),
        settings=ServerSettings(port=0),
        tls=server_context(files.listen(mutual=True), owner="source fluent"),
        credentials=ServerCredentials(
            shared_key=KEY.encode(), users={b"alice": PASSWORD.encode()} if users else {}, hostname="server.example"
        ),
    )
    await server.start()
    try:
        yield intake, f"forward://127.0.0.1:{server.port}"
    finally:
        await server.close()


@contextlib.asynccontextmanager
async def otlp_server(files: TlsFiles) -> AsyncIterator[tuple[FakeIntake, str]]:
    """An OTLP source over mutual TLS that wants a token."""
    intake = FakeIntake()
    credentials = grpc_server_credentials(files.listen(mutual=True), owner="source otlp_grpc")
    server = OtlpGrpcServer(intake, Counters(), settings=GrpcSettings(port=0), credentials=credentials, token=TOKEN)
    await server.start()
    try:
        yield intake, f"otlp://localhost:{server.port}"
    finally:
        await server.close()


def access(files: TlsFiles, **changes: Any) -> Access:
    """The right one for the Forward server."""
    wanted: dict[str, Any] = {
        "tls": files.connect(mutual=True),
        "shared_key": Secret(KEY),
        "username": "alice",
        "password": Secret(PASSWORD),
        **changes,
    }
    return Access(**wanted)


async def test_forward_with_certificate_key_and_user(log: Path, files: TlsFiles) -> None:
    """Every line is acknowledged by a source that asks for all three."""
    async with forward_server(files) as (intake, to):
        result = await send([log], to, access=access(files))
    assert result.acknowledged
    assert intake.numbers() == NUMBERS


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"shared_key": Secret("wrong")}, "shared_key mismatch"),
        ({"password": Secret("wrong")}, "username/password mismatch"),
        ({"username": "bob"}, "username/password mismatch"),
        ({"username": None, "password": None}, "wants a user name"),
        ({"tls": ClientTls()}, "certificate is not accepted"),
    ],
)
async def test_who_is_not_let_in_is_told_at_once(log: Path, files: TlsFiles, wrong: dict[str, Any], told: str) -> None:
    """The first connection has to succeed: the reason is one sentence, nothing was sent, and no secret is in it."""
    async with forward_server(files) as (intake, to):
        with pytest.raises(TransientError, match=told) as caught:
            await send([log], to, access=access(files, **wrong))
    assert intake.committed == []
    for secret in (KEY, PASSWORD, "wrong"):
        assert secret not in str(caught.value)


async def test_otlp_with_certificate_and_token(log: Path, files: TlsFiles) -> None:
    """Every line is taken; with a wrong token, a strange authority or no certificate the command ends with the reason."""
    tls = files.connect(mutual=True)
    async with otlp_server(files) as (intake, to):
        await send([log], to, access=Access(tls=tls, token=Secret(TOKEN)))
        assert intake.numbers() == NUMBERS
        for wrong, told in (
            (Access(tls=tls, token=Secret("wrong")), "bearer token is missing or wrong"),
            (Access(tls=ClientTls(), token=Secret(TOKEN)), "certificate is not accepted"),
            (Access(tls=files.connect(), token=Secret(TOKEN)), "(?i)certificate|closed"),
        ):
            with pytest.raises(TransientError, match=told) as caught:
                await send([log], to, access=wrong)
            assert TOKEN not in str(caught.value)
    assert intake.numbers() == NUMBERS


async def test_a_server_that_wants_more_than_we_show_is_told(log: Path, files: TlsFiles) -> None:
    """Without a certificate, without a key, without TLS: an error with the reason, not a wait for ever."""
    async with forward_server(files) as (intake, to):
        with pytest.raises(TransientError, match=r"(?i)certificate|alert"):
            await send([log], to, access=access(files, tls=files.connect()))
        with pytest.raises(TransientError, match="wants a shared key"):
            await send([log], to, access=Access(tls=files.connect(mutual=True)))
        assert intake.committed == []
    async with otlp_server(files) as (intake, to):
        with pytest.raises(TransientError, match="no answer"):
            await send([log], to, access=Access(token=Secret(TOKEN)), sleep=NoWait())
        assert intake.committed == []


@pytest.mark.parametrize(
    ("to", "client", "wrong"),
    [
        ("forward://h", "fluent-logger", Access(tls=ClientTls())),
        ("forward://h", "fluent-logger", Access(shared_key=Secret(KEY))),
        ("otlp://h", "esa-tls", Access(shared_key=Secret(KEY))),
        ("forward://h", "esa-tls", Access(token=Secret(TOKEN))),
        ("forward://h", "esa-tls", Access(username="alice", shared_key=Secret(KEY))),
        ("forward://h", "esa-tls", Access(username="alice", password=Secret(PASSWORD))),
        ("forward://h", "esa-tls", Access(username="a" * 300, password=Secret(PASSWORD), shared_key=Secret(KEY))),
    ],
)
async def test_what_does_not_fit_is_refused(log: Path, to: str, client: Any, wrong: Access) -> None:
    """A secret that would not be used is a mistake, told before anybody is connected to."""
    with pytest.raises(ConfigError, match=r"^send: ") as caught:
        await send([log], to, client=client, access=wrong)
    for secret in (KEY, PASSWORD, TOKEN):
        assert secret not in str(caught.value)


def test_no_secret_is_printed(files: TlsFiles) -> None:
    """The text of the settings shows stars."""
    shown = repr(access(files, token=Secret(TOKEN)))
    assert shown.count("***") == 3
    for secret in (KEY, PASSWORD, TOKEN):
        assert secret not in shown


# -- the command -----------------------------------------------------------------------------------------------------------------
def options(**given: Any) -> dict[str, Any]:
    """Options of the command, those not given absent."""
    names = ("ca_file", "server_name", "cert_file", "key_file", "shared_key_file", "user", "password_file", "token_file")
    return {**dict.fromkeys(names), "tls": False, **given}


def test_secrets_come_from_files_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file wins over the environment; its last line end does not count; what the protocol has no use for is left in the environment."""
    for name, text in (("ESA_TLS_SHARED_KEY", "env key"), ("ESA_TLS_PASSWORD", "env password"), ("ESA_TLS_TOKEN", "env token")):
        monkeypatch.setenv(name, text)
    key = tmp_path / "key"
    key.write_bytes(KEY.encode() + b" \r\n")

    assert traffic._access(options(), scheme="forward") == Access(shared_key=Secret("env key"))
    assert traffic._access(options(user="alice"), scheme="forward").password == Secret("env password")
    assert traffic._access(options(shared_key_file=key), scheme="forward").shared_key == Secret(KEY + " ")
    assert traffic._access(options(), scheme="otlp") == Access(token=Secret("env token"))
    assert traffic._access(options(ca_file="ca.pem"), scheme="otlp").tls == ClientTls(ca_file="ca.pem")
    with pytest.raises(ConfigError, match="cannot be read"):
        traffic._access(options(token_file=tmp_path / "none"), scheme="otlp")


def test_no_option_takes_a_secret_in_clear() -> None:
    """Whatever names a key, password or token on the command line names a file."""
    for command in cli.cli.commands.values():
        for param in command.params:
            name = str(param.name)
            assert not any(word in name for word in ("shared_key", "password", "token")) or name.endswith("_file"), name


async def test_without_any_of_it_all_is_as_before(log: Path) -> None:
    """No TLS, no handshake: the frames of a plain client."""
    async with ForwardReceiver() as receiver:
        await send([log], f"forward://127.0.0.1:{receiver.port}", access=Access())
    assert sum(len(frame.records) for frame in receiver.accepted) == len(NUMBERS)
