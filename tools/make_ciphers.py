"""Write plugin/esa_tls/core/ciphers.py: OpenSSL cipher names and their IANA names, from cryptodatahub.

Run by hand when cryptodatahub has a new release; a test fails when the table is not what this prints.
"""

from __future__ import annotations

from pathlib import Path

from cryptodatahub.tls.algorithm import TlsCipherSuite

TARGET = Path(__file__).parent.parent / "plugin" / "esa_tls" / "core" / "ciphers.py"


def table() -> dict[str, str]:
    """OpenSSL name -> IANA name; TLS 1.3 suites have the same name in both."""
    names: dict[str, str] = {}
    for suite in TlsCipherSuite:
        params = suite.value
        iana = suite.name
        if params.openssl_name:
            names.setdefault(params.openssl_name, iana)
        if iana.startswith("TLS_") and "_WITH_" not in iana:
            names.setdefault(iana, iana)
    return dict(sorted(names.items()))


def render() -> str:
    """The module's text."""
    lines = [
        '"""OpenSSL cipher names and their IANA names. Made by tools/make_ciphers.py: do not edit."""',
        "",
        "from __future__ import annotations",
        "",
        "OPENSSL_TO_IANA: dict[str, str] = {",
        *(f'    "{openssl}": "{iana}",' for openssl, iana in table().items()),
        "}",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    TARGET.write_text(render())
