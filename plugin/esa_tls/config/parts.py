"""What several settings are made of: sizes, kinds of records, secrets, addresses, and TLS on either side; and checks of these."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB

RecordKind = Literal["line", "connection", "delivery", "message", "consolidated"]

Compression = Literal["gzip", "none"]


VARIABLE = re.compile(r"\$\{(?:file:(?P<file>[^}]+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*))\}")
"""What is replaced in a `Secret`: `${NAME}` and `${file:PATH}`."""


class Secret:
    """A text that must not be shown: prints as `***`, and `reveal()` gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one place that needs it."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


class ListenTls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS of a listener. The files are looked at again while it runs: a renewed certificate needs no restart."""

    cert_file: Annotated[str, Meta(description="PEM file: the certificate, and behind it those between it and its root.", min_length=1)]
    key_file: Annotated[
        str, Meta(description="PEM file: its private key, without passphrase and readable by this user only.", min_length=1)
    ]
    client_ca_file: Annotated[
        str | None,
        Meta(description="PEM file of authorities. If given, only peers with a certificate signed by one of them get in (mutual TLS)."),
    ] = None
    min_version: Annotated[Literal["1.2", "1.3"], Meta(description="Oldest TLS version that is spoken.")] = "1.2"


class ClientTls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """TLS towards a server. The files are looked at again at each new connection."""

    ca_file: Annotated[
        str | None,
        Meta(description="PEM file of the authorities that may have signed the server's certificate. null: those of the system."),
    ] = None
    verify: Annotated[
        bool, Meta(description="Check the server's certificate and name. `false` is for tests: anybody in between can read and alter all.")
    ] = True
    server_name: Annotated[
        str | None, Meta(description="Name that the server's certificate has to carry (and SNI). null: the host that is connected to.")
    ] = None
    cert_file: Annotated[str | None, Meta(description="PEM file of our own certificate, for servers that want one (mutual TLS).")] = None
    key_file: Annotated[str | None, Meta(description="PEM file of its private key.")] = None
    min_version: Annotated[Literal["1.2", "1.3"], Meta(description="Oldest TLS version that is spoken.")] = "1.2"


def listen_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` (or `[IPv6]:PORT`) as host and port. Raises ValueError."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\s:\[\]]+)):([0-9]{1,5})", text)
    if match is None or int(match[3]) > 65535:
        message = f"expected HOST:PORT, got {text!r}"
        raise ValueError(message)
    return match[1] or match[2], int(match[3])


def unix_path(text: str) -> str | None:
    """The path of `unix:PATH`; None for any other address."""
    return text.removeprefix("unix:") if text.startswith("unix:") else None


def wrong_addresses(where: str, addresses: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Those of a list that are no `HOST:PORT` to send to: (path, reason). `where` is the path of the list."""
    for number, address in enumerate(addresses):
        if reason := wrong_address(address):
            yield f"{where}[{number}]", reason


def wrong_address(text: str) -> str | None:
    """Why a text is no `HOST:PORT` to send to; None: it is one."""
    try:
        port = listen_address(text)[1]
    except ValueError as error:
        return str(error)
    return None if port else "port 0 is no address to send to"


def wrong_urls(where: str, urls: Iterable[str], *, tls: bool, query: bool = False) -> Iterator[tuple[str, str]]:
    """Those of a list that are no URLs to send to: (path, reason). `where` is the path of the list; the rest as for `wrong_url`."""
    for number, url in enumerate(urls):
        if reason := wrong_url(url, tls=tls, query=query):
            yield f"{where}[{number}]", reason


def wrong_url(text: str, *, tls: bool, query: bool = False) -> str | None:
    """Why a text is no URL to send to; None: it is one. `tls`: there is a `tls` setting; `query`: it may have a query."""
    behind = r"(?:[/?][^\s#]*)?" if query else r"(?:/[^\s?#]*)?"
    if not re.fullmatch(r"https?://[^\s/?#@]+" + behind, text):
        return f"expected http://HOST:PORT or https://HOST:PORT, got {text!r}"
    if tls and not text.startswith("https://"):
        return f"there is `tls`, so expected https://..., got {text!r}"
    return None


OWN_HEADERS = frozenset({"content-type", "content-encoding", "content-length", "host"})
"""Headers of HTTP that a sink sets itself."""


def wrong_headers(headers: Iterable[str], own: frozenset[str] = OWN_HEADERS) -> Iterator[tuple[str, str]]:
    """Headers that are not for the configuration to set: (path below the sink, reason). `own`: their names in lower case."""
    for name in headers:
        if name.lower() in own:
            yield f"headers.{name}", "is set by the sink itself"


def wrong_login(username: str | None, password: Secret | None) -> Iterator[tuple[str, str]]:
    """One of both without the other: (path below what has them, reason)."""
    if (username is None) != (password is None):
        yield ("password" if password is None else "username"), "username and password belong together"


def wrong_client_tls(tls: ClientTls | None) -> Iterator[tuple[str, str]]:
    """One file without the other: (path below what has them, reason)."""
    if tls is not None and (tls.cert_file is None) != (tls.key_file is None):
        yield "tls", "cert_file and key_file belong together"
