"""Certificates for tests: authorities made on the spot, written as the PEM files that the settings name."""

from __future__ import annotations

import datetime as dt
import os
import ssl
from pathlib import Path

import trustme

from esa_tls.config import ClientTls, ListenTls


class TlsFiles:
    """A folder with the certificate of a server (`localhost`, `127.0.0.1`), of its client, and their authority."""

    def __init__(self, folder: Path, *, authority: trustme.CA | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = authority or trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        self.write_authority(self.authority)
        self.server = self.issue("server", "localhost", "127.0.0.1")
        self.client = self.issue("client", "shipper.example")

    def issue(self, name: str, *identities: str, expired: bool = False, authority: trustme.CA | None = None) -> tuple[str, str]:
        """Write `<name>.pem` and `<name>.key`, in place of what was there; their paths."""
        expiry = dt.datetime.now(dt.UTC) - dt.timedelta(days=1) if expired else None
        issued = (authority or self.authority).issue_cert(*identities, not_after=expiry)
        cert_file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        _put(cert_file, b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        _put(key_file, issued.private_key_pem.bytes())
        return str(cert_file), str(key_file)

    def write_authority(self, *authorities: trustme.CA) -> None:
        """Write `ca.pem`, in place of what was there."""
        _put(Path(self.ca_file), b"".join(authority.cert_pem.bytes() for authority in authorities))

    def listen(self, *, mutual: bool = False) -> ListenTls:
        """Settings of a listener with the server's certificate."""
        return ListenTls(cert_file=self.server[0], key_file=self.server[1], client_ca_file=self.ca_file if mutual else None)

    def connect(self, *, mutual: bool = False) -> ClientTls:
        """Settings of a client that trusts the authority, with the client's certificate if `mutual`."""
        cert_file, key_file = self.client if mutual else (None, None)
        return ClientTls(ca_file=self.ca_file, cert_file=cert_file, key_file=key_file)

    def client_context(self, *, cert: tuple[str, str] | None = None) -> ssl.SSLContext:
        """A client made without the code under test."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if cert is not None:
            context.load_cert_chain(*cert)
        return context


def _put(path: Path, data: bytes) -> None:
    """Replace a file at once, as careful tools do: it is another file then."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    new.chmod(0o600)
    os.replace(new, path)  # noqa: PTH105 (the point of it)
