"""Keys of pseudonyms, pseudonyms to search for, and pseudonyms turned back, on the command line: `esa-tls pseudonym key|make|reveal`.

What is turned back came from outside (a Subject may hold anything): in text, what is not printable is escaped. A line that is a JSON object
comes out as one, with the texts in it turned back.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterable
from typing import Any, BinaryIO

from esa_tls.config import Secret, key_ring
from esa_tls.errors import ConfigError
from esa_tls.wire.privacy import Privacy
from esa_tls.wire.pseudonyms import Pseudonyms

KEY_BYTES = 32


def new_key(number: int) -> str:
    """A line for `pseudonyms.keys`."""
    return f"{number}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode('ascii')}"


def make(text: str, *, keys: Secret | None, file: str, keep_domains: bool) -> list[str]:
    """What stands for a text in records, by each key, the newest first. Raises ConfigError."""
    ring = _ring(keys, file)
    return [Privacy(Pseudonyms({number: ring[number]}), keep_domains=keep_domains).address(text) for number in sorted(ring, reverse=True)]


def _ring(keys: Secret | None, file: str) -> dict[int, bytes]:
    try:
        return key_ring("" if keys is None else keys.reveal())
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from error


def reveal(lines: Iterable[bytes], *, out: BinaryIO, keys: Secret | None, file: str) -> int:
    """Write the lines with their pseudonyms turned back; returns how many are of no key that is there. Raises ConfigError."""
    pseudonyms = Pseudonyms(_ring(keys, file))
    unread = 0
    for raw in lines:
        line = raw.decode("utf-8", "backslashreplace").rstrip("\r\n")
        found = _json_of(line)
        if found is None:
            text, missed = pseudonyms.reveal(line)
            shown = "".join(char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode("ascii") for char in text)
        else:
            revealed, missed = _revealed(found, pseudonyms)
            shown = json.dumps(revealed, ensure_ascii=False, separators=(",", ":"))
        unread += missed
        out.write(shown.encode("utf-8", "backslashreplace") + b"\n")
    out.flush()
    return unread


def _json_of(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _revealed(value: Any, pseudonyms: Pseudonyms) -> tuple[Any, int]:  # noqa: ANN401 (any JSON)
    if isinstance(value, str):
        return pseudonyms.reveal(value)
    if isinstance(value, dict):
        pairs = {key: _revealed(one, pseudonyms) for key, one in value.items()}
        return {key: one for key, (one, _) in pairs.items()}, sum(missed for _, missed in pairs.values())
    if isinstance(value, list):
        items = [_revealed(one, pseudonyms) for one in value]
        return [one for one, _ in items], sum(missed for _, missed in items)
    return value, 0
