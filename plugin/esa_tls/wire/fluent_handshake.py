"""Fluent Forward's HELO, PING and PONG: who may send, by shared key and by user (docs/wires.md 1.6). Pure: randomness comes in.

Rules of this file:

1. Strings are bytes: Fluentd sends nonce and salt as bin, Fluent Bit as str that is no UTF-8; both are read, wherever they stand.
2. What is written is what the strictest peer reads. Server: nonce and auth as bin, also when empty (IBM's client reads nothing else).
   Client: a PING of six str under 1,024 bytes with a salt of 32 hex characters, and nothing behind it until the PONG (Fluent Bit).
3. Digests are compared in constant time. An unknown user costs the same as a wrong password.
4. A message that is no PING is refused after `MAX_MESSAGE_BYTES` at most: until then nobody knows who is talking.
5. Keys, passwords and digests are in no `repr` and in no message.

Both sides are fed bytes in any pieces and answer with a `Step`. After `done` its `rest` holds what came behind the last message: the
first frames, if the peer did not wait.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

import msgpack
import msgspec

from esa_tls.errors import WireError

__all__ = [
    "MAX_MESSAGE_BYTES",
    "RANDOM_BYTES",
    "ClientCredentials",
    "ClientHandshake",
    "Refusal",
    "ServerCredentials",
    "ServerHandshake",
    "Step",
    "is_helo",
]

MAX_MESSAGE_BYTES = 4096
"""Largest HELO, PING or PONG that is read; Fluent Bit's are under 1,024 bytes."""

RANDOM_BYTES = 16
"""Bytes of a nonce, of an auth salt, and of the randomness behind a client's salt."""

_MAX_NAME_BYTES = 255
"""Host and user names that we send, so that the PING stays under 1,024 bytes."""

_TOLD_CHARS = 120
"""What is shown of a reason that the peer gave."""


class ServerCredentials:
    """What a server knows: its key (b"" is a key), its users with their passwords (empty: no user wanted), its own host name."""

    __slots__ = ("hostname", "shared_key", "users")

    def __init__(self, *, shared_key: bytes, users: Mapping[bytes, bytes], hostname: str) -> None:
        self.shared_key = shared_key
        self.users = dict(users)
        self.hostname = hostname

    def __repr__(self) -> str:
        return f"ServerCredentials(hostname={self.hostname!r}, {len(self.users)} users)"


class ClientCredentials:
    """What a client knows: the key (b"" is a key), user and password (None: none), its own host name."""

    __slots__ = ("hostname", "password", "shared_key", "username")

    def __init__(self, *, shared_key: bytes, hostname: str, username: str | None = None, password: bytes | None = None) -> None:
        for what, name in (("host name", hostname), ("user name", username or "")):
            if len(name.encode()) > _MAX_NAME_BYTES:
                raise ValueError(f"a {what} of over {_MAX_NAME_BYTES} bytes does not fit the handshake")
        self.shared_key = shared_key
        self.hostname = hostname
        self.username = username
        self.password = password

    def __repr__(self) -> str:
        return f"ClientCredentials(hostname={self.hostname!r}, username={self.username!r})"


class Refusal(msgspec.Struct, frozen=True):
    """Why it failed. `reason`: a word of a closed set, for a label; `detail`: the rest of a sentence."""

    reason: str
    detail: str


class Step(msgspec.Struct, frozen=True):
    """What to do after some bytes came: `send`, then go on (`done`), close (`refusal`), or wait for more (neither)."""

    send: bytes = b""
    done: bool = False
    refusal: Refusal | None = None
    rest: bytes = b""


class ServerHandshake:
    """The server's side: write `helo`, feed what comes. `client_hostname`: how the peer calls itself, once its PING came."""

    def __init__(self, credentials: ServerCredentials, *, nonce: bytes, auth_salt: bytes) -> None:
        """`nonce`, `auth_salt`: `RANDOM_BYTES` random bytes each, used once; the salt goes out only if there are users."""
        self._credentials = credentials
        self._nonce = nonce
        self._auth = auth_salt if credentials.users else b""
        self._stranger = hashlib.sha512(b"stranger" + nonce + auth_salt).digest()
        self._reader = _MessageReader()
        self.client_hostname = ""
        self.helo = _pack(["HELO", {"nonce": nonce, "auth": self._auth, "keepalive": True}])

    def feed(self, data: bytes) -> Step:
        """Take bytes of the client. `send` is the PONG, to be written at once and as one piece."""
        try:
            message = self._reader.feed(data)
        except _Unusable as error:
            return self._refuse("no_ping", f"it sent no PING but {error}", told="invalid ping message")
        if message is None:
            return Step()
        if (
            not isinstance(message, list)
            or len(message) != 6
            or message[0] != b"PING"
            or not all(isinstance(part, bytes) for part in message)
        ):
            return self._refuse("no_ping", "it sent no PING; has it a shared key?", told="invalid ping message")
        _, hostname, salt, digest, username, password_digest = message
        self.client_hostname = _shown(hostname)
        known = self._credentials
        if not _same(digest, salt + hostname + self._nonce + known.shared_key):
            return self._refuse("shared_key", "wrong shared key", told="shared_key mismatch")
        if known.users:
            password = known.users.get(username)
            right = _same(password_digest, self._auth + username + (self._stranger if password is None else password))
            if password is None or not right:
                return self._refuse("user", "wrong user name or password", told="username/password mismatch")
        own = known.hostname.encode()
        if own == hostname:
            own += b".esa-tls"  # Fluentd takes a server with its own name for itself and refuses it
        answer = _pack(["PONG", True, "", own.decode(), _digest(salt + own + self._nonce + known.shared_key)])
        return Step(send=answer, done=True, rest=self._reader.rest())

    def _refuse(self, reason: str, detail: str, *, told: str) -> Step:
        return Step(send=_pack(["PONG", False, told, "", ""]), refusal=Refusal(reason, detail))


class ClientHandshake:
    """The client's side: feed what the server sends, write what comes back."""

    def __init__(self, credentials: ClientCredentials, *, randomness: bytes) -> None:
        """`randomness`: `RANDOM_BYTES` random bytes, used once."""
        self._credentials = credentials
        self._salt = randomness.hex().encode()
        self._nonce: bytes | None = None
        self._reader = _MessageReader()

    def feed(self, data: bytes) -> Step:
        """Take bytes of the server: first its HELO, which is answered by the PING, then its PONG."""
        try:
            message = self._reader.feed(data)
        except _Unusable as error:
            return Step(refusal=Refusal("no_helo" if self._nonce is None else "no_pong", f"it sent {error}"))
        if message is None:
            return Step()
        return self._on_helo(message) if self._nonce is None else self._on_pong(message)

    @property
    def asked(self) -> bool:
        """Whether the PING is out, so that a close now is the answer to it."""
        return self._nonce is not None

    def _on_helo(self, message: object) -> Step:
        options = message[1] if isinstance(message, list) and len(message) == 2 and message[0] == b"HELO" else None
        nonce = options.get(b"nonce") if isinstance(options, dict) else None
        auth = options.get(b"auth", b"") if isinstance(options, dict) else None
        if not isinstance(nonce, bytes) or not isinstance(auth, bytes):
            return Step(refusal=Refusal("no_helo", "it sent no HELO; has it a shared key?"))
        known = self._credentials
        if auth and known.username is None:
            return Step(refusal=Refusal("user", "it wants a user name and password, and none is configured"))
        self._nonce = nonce
        username, password_digest = "", ""
        if auth and known.username is not None:
            username = known.username
            password_digest = _digest(auth + username.encode() + (known.password or b""))
        hostname = known.hostname
        digest = _digest(self._salt + hostname.encode() + nonce + known.shared_key)
        ping = _pack(["PING", hostname, self._salt.decode(), digest, username, password_digest])
        if self._reader.rest():  # a PONG that did not wait for our PING answers nothing
            return Step(refusal=Refusal("no_pong", "it spoke before our PING"))
        return Step(send=ping)

    def _on_pong(self, message: object) -> Step:
        assert self._nonce is not None
        if not isinstance(message, list) or len(message) != 5 or message[0] != b"PONG" or not isinstance(message[1], bool):
            return Step(refusal=Refusal("no_pong", "it sent no PONG"))
        _, accepted, told, hostname, digest = message
        if not accepted:
            return Step(refusal=Refusal("refused", f"it refused us: {_shown(told) or 'no reason given'}"))
        if (
            not isinstance(hostname, bytes)
            or not isinstance(digest, bytes)
            or not _same(digest, self._salt + hostname + self._nonce + self._credentials.shared_key)
        ):
            return Step(refusal=Refusal("shared_key", "it does not know the shared key"))
        return Step(done=True, rest=self._reader.rest())


def is_helo(data: bytes) -> bool:
    """Whether `data` begins like a HELO: a server that wants a shared key speaks first."""
    return data[:6] in (b"\x92\xa4HELO"[:6], b"\x92\xc4\x04HEL")


class _Unusable(WireError):
    """No msgpack value, or one that no message of the handshake is; `str()` says what, as an object."""


class _MessageReader:
    """Reads one message after the other. Raises `_Unusable`; nothing more is read then."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> object | None:
        """The next message if it is complete: strings as bytes, arrays as lists. Nil is ignored."""
        self._held += data
        # From the beginning at each piece: it is short, and most often it comes in one.
        unpacker = msgpack.Unpacker(
            raw=True,
            strict_map_key=False,
            max_buffer_size=MAX_MESSAGE_BYTES,
            read_size=MAX_MESSAGE_BYTES,
            max_array_len=8,
            max_map_len=16,
            max_ext_len=0,
        )
        unpacker.feed(bytes(memoryview(self._held)[:MAX_MESSAGE_BYTES]))
        message: object | None = None
        try:
            while message is None:
                message = unpacker.unpack()
        except msgpack.OutOfData:
            if len(self._held) >= MAX_MESSAGE_BYTES:
                raise _Unusable(f"a message of over {MAX_MESSAGE_BYTES} bytes") from None
            return None
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise _Unusable("something else") from error
        del self._held[: unpacker.tell()]
        return message

    def rest(self) -> bytes:
        """Take what came behind the last message."""
        rest = bytes(self._held)
        self._held.clear()
        return rest


def _pack(message: list[object]) -> bytes:
    packed: bytes = msgpack.packb(message, use_bin_type=True)
    return packed


def _digest(text: bytes) -> str:
    return hashlib.sha512(text).hexdigest()


def _same(given: bytes, text: bytes) -> bool:
    return hmac.compare_digest(given, _digest(text).encode())


def _shown(text: object) -> str:
    """What a peer says, fit for a log: short, printable, in one line."""
    if not isinstance(text, bytes):
        return ""
    shown = text[:_TOLD_CHARS].decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "?" for char in shown)
