"""Pseudonyms: texts under a key, the same for the same text, and turned back by the key alone. Pure.

A pseudonym is `p{key id}.{base32}`, lower case, so that it stays one word in every store and survives one that folds case. What stands
in it is AES-SIV (RFC 5297, deterministic authenticated encryption): equal texts give equal pseudonyms under one key, whoever makes them
and when; without the key nothing is learnt of a text but its length to within 8 bytes, and whether it equals another one; and a text
that only looks like a pseudonym is recognised as none.

Rules:

1. The keys of AES and of ids are derived from the given one by HKDF-SHA256: a given key is random bytes, not a password.
2. The key with the highest id writes, every key reads.
3. The part of a mail address before its `@` is bound to the domain behind it: `info@a.example` and `info@b.example` have nothing in common.
4. A domain is turned into lower case first, so it reads back in lower case; everything else reads back letter for letter.
5. Record ids that are made of a line's text would let anybody try texts out; `record_id` makes others of them, by the key, that cannot be
   turned back and are as good to recognise a repeat by.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from hashlib import blake2b

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = ["PSEUDONYM", "Pseudonyms"]

PAD_BYTES = 8
"""Texts are filled up to a multiple of this, so that their length says little."""

CACHED = 65_536
"""Pseudonyms remembered: the same addresses come again and again."""

ID_TIME_CHARS = 8
"""The first characters of a record's id are its time."""

_FORM = b"esa-tls pseudonym 1"
_SIV_BYTES = 16
_MIN_CHARS = 39
"""Base32 of the SIV and the shortest text."""

_MAX_TRIED_CHARS = 4096

PSEUDONYM = re.compile(r"p([1-9][0-9]{0,3})\.([a-z2-7]{" + str(_MIN_CHARS) + r",})(?![a-z2-7])(?:@([\w.-]*\w))?", re.IGNORECASE)
"""A pseudonym, its key's id, and the domain behind it if it is the first part of an address."""


class _Key:
    """What is derived from one given key."""

    def __init__(self, secret: bytes) -> None:
        self.siv = AESSIV(_derived(secret, b"siv", 64))
        self.ids = _derived(secret, b"record ids", 32)

    def seal(self, text: str, context: str) -> str:
        """The base32 of a text."""
        data = text.encode("utf-8", "surrogatepass") + b"\x80"
        data += bytes(-len(data) % PAD_BYTES)
        sealed = self.siv.encrypt(data, [_FORM, context.encode("utf-8", "surrogatepass")])
        return base64.b32encode(sealed).decode("ascii").rstrip("=").lower()

    def open(self, body: str, context: str) -> str | None:
        """The text of a base32; None: it is none of this key."""
        try:
            sealed = base64.b32decode(body.upper() + "=" * (-len(body) % 8))
            data = self.siv.decrypt(sealed, [_FORM, context.encode("utf-8", "surrogatepass")])
        except (InvalidTag, ValueError):
            return None
        return data.rstrip(b"\0")[:-1].decode("utf-8", "surrogatepass")


def _sizes(n_chars: int) -> Iterator[int]:
    """How many of so many characters may be a pseudonym: all, or fewer, where letters of other words stand directly behind it."""
    yield n_chars
    for n_bytes in range(min(n_chars, _MAX_TRIED_CHARS) * 5 // 8 // PAD_BYTES * PAD_BYTES, _SIV_BYTES, -PAD_BYTES):
        yield -(-n_bytes * 8 // 5)


def _derived(secret: bytes, use: bytes, size_bytes: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=size_bytes, salt=None, info=_FORM + b" " + use).derive(secret)


class Pseudonyms:
    """See the module. `keys`: random bytes, at least 32, by id."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        self._keys = {number: _Key(secret) for number, secret in keys.items()}
        self._number = max(self._keys)
        self._newest = self._keys[self._number]
        self.of: Callable[[str, str], str] = lru_cache(maxsize=CACHED)(self._of)
        """The pseudonym of (text, context). The context is needed again to read it; it is empty but for parts of addresses."""

    def _of(self, text: str, context: str) -> str:
        return f"p{self._number}.{self._newest.seal(text, context)}"

    def domain(self, domain: str) -> str:
        """The pseudonym of a domain."""
        return self.of(domain.lower(), "")

    def address(self, local: str, domain: str, *, keep_domain: bool) -> str:
        """The pseudonym of a mail address; its domain as it is, or a pseudonym too."""
        return f"{self.of(local, domain.lower())}@{domain if keep_domain else self.domain(domain)}"

    def record_id(self, record_id: str) -> str:
        """Another id for a record: the same time in front, the rest by the key. Not to be turned back."""
        size = (len(record_id) - ID_TIME_CHARS) // 2
        return record_id[:ID_TIME_CHARS] + blake2b(record_id.encode(), key=self._newest.ids, digest_size=size).hexdigest()

    def reveal(self, text: str) -> tuple[str, int]:
        """The text with all its pseudonyms turned back, and how many of them are of no key that is here; those stay as they are."""
        unread = 0

        def revealed(match: re.Match[str]) -> str:
            nonlocal unread
            found = self._revealed(match)
            if found is None:
                unread += 1
            return match[0] if found is None else found

        return PSEUDONYM.sub(revealed, text), unread

    def _revealed(self, match: re.Match[str]) -> str | None:
        key = self._keys.get(int(match[1]))
        if key is None:
            return None
        body, domain = match[2].lower(), match[3]
        if domain is not None:
            meant = self._domain_behind(domain)
            local = None if meant is None else key.open(body, meant.lower())
            if local is not None:
                return f"{local}@{meant}"
        for size in _sizes(len(body)):
            whole = key.open(body[:size], "")
            if whole is not None:
                behind = match[2][size:]
                return whole + behind if domain is None else f"{whole}{behind}@{self.reveal(domain)[0]}"
        return None

    def _domain_behind(self, domain: str) -> str | None:
        """The domain that a pseudonym's first part is bound to; None: it is a pseudonym of no key that is here."""
        match = PSEUDONYM.fullmatch(domain)
        if match is None:
            return domain
        key = self._keys.get(int(match[1]))
        return None if key is None else key.open(match[2].lower(), "")
