"""How commands that connect somewhere get in.

Secrets come from a file or the environment, never from the command line, where others can read them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esa_tls.errors import ConfigError

if TYPE_CHECKING:
    from esa_tls.config import ClientTls, Secret


def secret(file: Path | None, variable: str | None) -> Secret | None:
    """A secret out of a file, without its last line end, or else out of the environment; None: there is none."""
    from esa_tls.config import Secret

    if file is None:
        text = None if variable is None else os.environ.get(variable)
        return None if text is None else Secret(text)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "is no UTF-8"
        raise ConfigError(f"{file}: cannot be read: {reason}") from error
    return Secret(text.removesuffix("\n").removesuffix("\r"))


def client_tls(options: dict[str, Any], *names: str) -> ClientTls | None:
    """TLS as `--tls` and the options of these names want it; None: none of them is there."""
    from esa_tls.config import ClientTls

    files = {name: options[name] for name in names}
    return ClientTls(**files) if options["tls"] or any(files.values()) else None
