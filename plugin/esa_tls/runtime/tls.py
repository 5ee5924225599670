"""The one security model: what `config.ListenTls` and `config.ClientTls` mean, for asyncio, aiohttp and gRPC (docs/wires.md 1.10).

Rules of this file:

1. TLS 1.2 at least; a listener with `client_ca_file` takes only peers with a certificate signed by it; a client checks the server's
   certificate and name unless it was told not to.
2. Files are read when the object is made, where each fault is a `ConfigError` of one sentence. Later they are looked at once a second
   at most, when a handshake asks: changed files are read again, and if they cannot be used the old ones stay, counted and logged. The
   one-second look is a few `stat` calls; a symlink that now points elsewhere (as Kubernetes does it) counts as a change.
3. A listener's context is given out once and follows its files by itself. Clients ask `Reloading.current()` at each connection.
4. A certificate that is no longer trusted does not get in by resuming an old session: there are no tickets, and a session (TLS 1.2)
   from before the change is refused where client certificates are wanted.
5. A peer refused in the handshake gets a TLS alert that says why. asyncio (3.11) drops the alert together with the connection, so
   the alert is sent first and the handshake fails with the peer's next byte, its close, or the time-out.
6. A key never appears in a message, only the name of its file.
"""

from __future__ import annotations

import contextvars
import logging
import os
import ssl
import stat
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from esa_tls.config import ClientTls, ListenTls
from esa_tls.errors import ConfigError
from esa_tls.runtime.refusals import Refusals
from esa_tls.telemetry import TLS_RELOADS, Counters

if TYPE_CHECKING:
    import grpc

__all__ = [
    "HANDSHAKE",
    "Handshake",
    "Reloading",
    "client_contexts",
    "grpc_channel_credentials",
    "grpc_channel_options",
    "grpc_server_credentials",
    "server_context",
]

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
"""How often a changed file is looked for, at most."""


class Handshake:
    """One handshake of a listener, as far as whoever started it wants to know: with whom, and whether we refused."""

    __slots__ = ("peer", "refused")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.refused = False


HANDSHAKE: contextvars.ContextVar[Handshake | None] = contextvars.ContextVar("HANDSHAKE", default=None)
"""The handshake under way, set by whoever starts it if it can: OpenSSL's callbacks know no address."""

Made = TypeVar("Made")

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class Reloading(Generic[Made]):
    """What is made of some files, made again when one of them changed. Thread-safe: gRPC asks from threads of its own."""

    def __init__(
        self,
        owner: str,
        paths: Sequence[str],
        make: Callable[[], Made],
        *,
        counters: Counters | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`owner` begins each message, e.g. `source fluent`. Raises what `make` raises."""
        self.owner = owner
        self.generation = 0
        """Goes up by one when the files were read again with success."""
        self._paths = tuple(paths)
        self._make = make
        self._counters = counters
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._seen = self._stamps()  # before reading, so that a change in between is not missed
        self._made = make()
        self._look_at_s = monotonic_s() + LOOK_EVERY_S

    def current(self) -> Made:
        """The newest one that could be made. Never raises."""
        if self._monotonic_s() >= self._look_at_s:
            with self._lock:
                if self._monotonic_s() >= self._look_at_s:
                    self._look()
        return self._made

    def _look(self) -> None:
        self._look_at_s = self._monotonic_s() + LOOK_EVERY_S
        stamps = self._stamps()
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            self._made = self._make()
        except ConfigError as error:
            log.error("%s; the certificates read before stay in use.", error)  # noqa: TRY400 (the sentence says all)
            self._count("failed")
        else:
            self.generation += 1
            log.info("%s: changed certificate files were read.", self.owner)
            self._count("ok")

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        """What changes when a file is replaced or written; None for one that is not there."""
        stamps: list[tuple[int, int, int] | None] = []
        for path in self._paths:
            try:
                found = os.stat(path)  # noqa: PTH116 (settings are texts)
            except OSError:
                stamps.append(None)
            else:
                stamps.append((found.st_mtime_ns, found.st_ino, found.st_size))
        return stamps

    def _count(self, result: str) -> None:
        if self._counters is not None:
            self._counters.add(TLS_RELOADS, owner=self.owner, result=result)


# -- asyncio and aiohttp ---------------------------------------------------------------------------------------------------------
def server_context(
    settings: ListenTls,
    *,
    owner: str,
    refusals: Refusals | None = None,
    counters: Counters | None = None,
    monotonic_s: Callable[[], float] = time.monotonic,
    wall_s: Callable[[], float] = time.time,
) -> ssl.SSLContext:
    """The context of a listener, to be given out once: it follows the files. Refused handshakes go to `refusals`.

    Raises:
        ConfigError: a file is missing, unreadable, or does not fit the others.
    """
    contexts = Reloading(
        owner, _listen_paths(settings), lambda: _listen_context(settings, owner), counters=counters, monotonic_s=monotonic_s
    )
    given_out = contexts.current()
    given_out.sslobject_class = _telling(refusals)

    changed_s = 0.0

    def choose(handshake: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> int | None:
        # Called for each handshake, with and without SNI. The context brings certificate and client authorities.
        nonlocal changed_s
        generation = contexts.generation
        current = contexts.current()
        if contexts.generation != generation:
            changed_s = wall_s()
        if current is not given_out:
            handshake.context = current
            session = handshake.session if handshake.session_reused and settings.client_ca_file is not None else None
            if session is not None and session.time <= changed_s:
                return int(ssl.AlertDescription.ALERT_DESCRIPTION_HANDSHAKE_FAILURE)  # the peer forgets its session and comes again
        return None

    given_out.sni_callback = choose
    return given_out


def client_contexts(
    settings: ClientTls, *, owner: str, counters: Counters | None = None, monotonic_s: Callable[[], float] = time.monotonic
) -> Reloading[ssl.SSLContext]:
    """The context of a client: ask `current()` at each connection. `settings.server_name` is for the caller to pass on.

    Raises:
        ConfigError: a file is missing, unreadable, or does not fit the others.
    """
    return Reloading(owner, _client_paths(settings), lambda: _client_context(settings, owner), counters=counters, monotonic_s=monotonic_s)


def _telling(refusals: Refusals | None) -> type[ssl.SSLObject]:
    """An SSLObject whose refusal in the handshake is reported and whose alert reaches the peer."""

    class Telling(ssl.SSLObject):
        _refusal: ssl.SSLError | None = None

        def do_handshake(self) -> None:
            if self._refusal is not None:
                raise self._refusal
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLSyscallError):
                raise
            except ssl.SSLError as error:
                handshake = HANDSHAKE.get()
                if handshake is not None:
                    handshake.refused = True
                reason, detail = _why(error)
                if refusals is not None:
                    refusals.refused(handshake.peer if handshake else "", reason, detail)
                if reason in ("no_tls", "peer_alert"):  # there is nothing to say to those
                    raise
                self._refusal = error
                # "Want read" makes the caller send what OpenSSL has to say, the alert, and come back here later.
                raise ssl.SSLWantReadError from error

    return Telling


def _why(error: ssl.SSLError) -> tuple[str, str]:
    """Of a handshake that failed on our side: (label, rest of a sentence)."""
    reason = error.reason or ""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "client_certificate", f"its certificate is not accepted: {error.verify_message}"
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "no_client_certificate", "it showed no certificate, and one is wanted"
    if reason in ("UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW", "NO_SHARED_CIPHER", "NO_PROTOCOLS_AVAILABLE"):
        return "tls_version", f"it speaks no TLS version or cipher that is allowed here ({reason.lower().replace('_', ' ')})"
    if reason in ("HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "BAD_RECORD_TYPE"):
        return "no_tls", "it does not speak TLS"
    if "ALERT" in reason:
        return "peer_alert", f"it does not accept our certificate or ended the handshake ({reason.lower().replace('_', ' ')})"
    return "tls", f"the TLS handshake failed ({reason.lower().replace('_', ' ') or 'no reason given'})"


# -- gRPC ------------------------------------------------------------------------------------------------------------------------
def grpc_server_credentials(settings: ListenTls, *, owner: str, counters: Counters | None = None) -> grpc.ServerCredentials:
    """Credentials for `add_secure_port`; they follow the files. gRPC tells nobody of a peer it refused, so none is counted here.

    Raises:
        ConfigError: as `server_context`; also for `min_version: "1.3"`, which gRPC cannot be told.
    """
    import grpc  # noqa: PLC0415 (only who speaks gRPC pays for it)

    if settings.min_version != "1.2":
        raise ConfigError(f"{owner}: tls.min_version: gRPC takes 1.2 only (it speaks 1.3 with everybody who can)")

    def make() -> grpc.ServerCertificateConfiguration:
        _listen_context(settings, owner)  # for its checks
        key, chain = _read(settings.key_file, "key_file", owner), _read(settings.cert_file, "cert_file", owner)
        clients = None if settings.client_ca_file is None else _read(settings.client_ca_file, "client_ca_file", owner)
        return grpc.ssl_server_certificate_configuration([(key, chain)], clients)

    files = Reloading(owner, _listen_paths(settings), make, counters=counters)
    given = files.current()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        current = files.current()
        if current is given:
            return None  # nothing to load again for this connection
        given = current
        return current

    client_wanted = settings.client_ca_file is not None
    # The types do not know the None that gRPC's documentation allows.
    return grpc.dynamic_ssl_server_credentials(given, fetch, require_client_authentication=client_wanted)  # type: ignore[arg-type]


def grpc_channel_credentials(settings: ClientTls, *, owner: str, counters: Counters | None = None) -> Reloading[grpc.ChannelCredentials]:
    """Credentials of a channel. A channel keeps those it was made with: make a new one when `generation` has gone up.

    Raises:
        ConfigError: as `client_contexts`; also for `verify: false` and `min_version: "1.3"`, which gRPC cannot be told.
    """
    import grpc  # noqa: PLC0415 (only who speaks gRPC pays for it)

    if not settings.verify:
        raise ConfigError(f"{owner}: tls.verify: gRPC always checks the server; name its authority in tls.ca_file")
    if settings.min_version != "1.2":
        raise ConfigError(f"{owner}: tls.min_version: gRPC takes 1.2 only (it speaks 1.3 with everybody who can)")

    def make() -> grpc.ChannelCredentials:
        _client_context(settings, owner)  # for its checks
        roots, key, chain = (
            None if path is None else _read(path, name, owner)
            for name, path in (("ca_file", settings.ca_file), ("key_file", settings.key_file), ("cert_file", settings.cert_file))
        )
        return grpc.ssl_channel_credentials(roots, key, chain)

    return Reloading(owner, _client_paths(settings), make, counters=counters)


def grpc_channel_options(settings: ClientTls) -> list[tuple[str, str]]:
    """Options of a channel that `settings` ask for beside its credentials."""
    return [] if settings.server_name is None else [("grpc.ssl_target_name_override", settings.server_name)]


# -- files -----------------------------------------------------------------------------------------------------------------------
def _listen_paths(settings: ListenTls) -> list[str]:
    return [path for path in (settings.cert_file, settings.key_file, settings.client_ca_file) if path is not None]


def _client_paths(settings: ClientTls) -> list[str]:
    return [path for path in (settings.ca_file, settings.cert_file, settings.key_file) if path is not None]


def _listen_context(settings: ListenTls, owner: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.min_version]
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0
    _load_pair(context, settings.cert_file, settings.key_file, owner)
    if settings.client_ca_file is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _load_authorities(context, settings.client_ca_file, "client_ca_file", owner)
    return context


def _client_context(settings: ClientTls, owner: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[settings.min_version]
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif settings.ca_file is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        _load_authorities(context, settings.ca_file, "ca_file", owner)
    if settings.cert_file is not None and settings.key_file is not None:
        _load_pair(context, settings.cert_file, settings.key_file, owner)
    elif settings.cert_file is not None or settings.key_file is not None:
        raise ConfigError(f"{owner}: tls: cert_file and key_file belong together, one of them is missing")
    return context


def _load_pair(context: ssl.SSLContext, cert_file: str, key_file: str, owner: str) -> None:
    """Load certificate and key, or say which of the two is wrong and how."""
    if b"-----BEGIN CERTIFICATE-----" not in _read(cert_file, "cert_file", owner):
        raise ConfigError(f"{owner}: tls.cert_file: {cert_file}: holds no certificate in PEM form")
    key = _read(key_file, "key_file", owner)
    if b"PRIVATE KEY-----" not in key:
        raise ConfigError(f"{owner}: tls.key_file: {key_file}: holds no private key in PEM form")
    if b"BEGIN ENCRYPTED" in key or b"Proc-Type: 4,ENCRYPTED" in key:
        raise ConfigError(f"{owner}: tls.key_file: {key_file}: is encrypted; a key that is used unattended must be without passphrase")
    if os.stat(key_file).st_mode & (stat.S_IROTH | stat.S_IWOTH):  # noqa: PTH116 (settings are texts)
        log.warning("%s: tls.key_file: %s can be read or written by every user of this machine.", owner, key_file)
    try:
        context.load_cert_chain(cert_file, key_file, password="")  # never ask a terminal
    except ssl.SSLError as error:
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            raise ConfigError(f"{owner}: tls.key_file: {key_file}: does not belong to the certificate in {cert_file}") from error
        raise ConfigError(f"{owner}: tls: {cert_file} with {key_file} cannot be used: {_told(error)}") from error
    except OSError as error:
        raise ConfigError(f"{owner}: tls: {cert_file} with {key_file} cannot be read: {error.strerror}") from error


def _load_authorities(context: ssl.SSLContext, path: str, name: str, owner: str) -> None:
    if b"-----BEGIN CERTIFICATE-----" not in _read(path, name, owner):
        raise ConfigError(f"{owner}: tls.{name}: {path}: holds no certificate in PEM form")
    try:
        context.load_verify_locations(cafile=path)
    except OSError as error:  # SSLError is one
        raise ConfigError(f"{owner}: tls.{name}: {path}: cannot be used: {_told(error)}") from error


def _read(path: str, name: str, owner: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{owner}: tls.{name}: {path}: cannot be read: {error.strerror or error}") from error


def _told(error: OSError) -> str:
    """OpenSSL's reason in words, without library and source line."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return error.strerror or "not valid"
