"""wire/fluent_handshake.py: HELO, PING and PONG byte by byte, and what real peers do to them."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 1.11)

from __future__ import annotations

import hashlib
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_tls.wire.fluent_handshake import (
    MAX_MESSAGE_BYTES,
    ClientCredentials,
    ClientHandshake,
    Refusal,
    ServerCredentials,
    ServerHandshake,
    Step,
    is_helo,
)

NONCE = bytes(range(16))
AUTH = bytes(range(16, 32))
SALT = b"0123456789abcdef0123456789abcdef"

PING_DIGEST = (
    "3a680037d3979b4f789647cd22e7e55f2197791eb498799823c424e2213124ed63938d1c422f50e08ec02957ef44df338e46c77e8ea164b0dde6d64e171b30df"
)
PONG_DIGEST = (
    "3389a63bef56054281d75fb7b05965b0d1b1ea9eba25b4594ed8e06a02e725af1fbf401cdbe697423c388ac1948566570a6f592284a536370ca36a5ccf88cbbd"
)
PASSWORD_DIGEST = (
    "28e426ad86ca78c8b421ca6d56454afb514c419e9d27042e1babc9220cfb3bd8bad8ad8e63b63237086a4cb77f864ab06adb150f9c50cd5003b2f3b97048fe25"
)
"""A vector of the handshake of docs/wires.md 1.6."""

FRAME = bytes.fromhex("93a173ce55ece6f881a36c6f67a47461696c")


def pack(value: Any) -> bytes:
    """Msgpack of a Python value."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def server(*, users: bool = True, shared_key: bytes = b"secret", hostname: str = "server.example") -> ServerHandshake:
    """The vector's server."""
    credentials = ServerCredentials(shared_key=shared_key, users={b"alice": b"wonder"} if users else {}, hostname=hostname)
    return ServerHandshake(credentials, nonce=NONCE, auth_salt=AUTH)


def client(**changed: Any) -> ClientHandshake:
    """The vector's client."""
    settings: dict[str, Any] = {
        "shared_key": b"secret",
        "hostname": "client.example",
        "username": "alice",
        "password": b"wonder",
        **changed,
    }
    return ClientHandshake(ClientCredentials(**settings), randomness=bytes.fromhex(SALT.decode()))


def vector_ping(**changed: Any) -> list[Any]:
    """The vector's PING, or one with some of its parts changed."""
    parts = {
        "name": "PING",
        "hostname": "client.example",
        "salt": SALT.decode(),
        "digest": PING_DIGEST,
        "username": "alice",
        "password": PASSWORD_DIGEST,
        **changed,
    }
    return list(parts.values())


def fed(machine: ServerHandshake | ClientHandshake, *pieces: bytes) -> Step:
    """Feed pieces until one makes a step; what was not fed by then goes behind its `rest`."""
    for at, piece in enumerate(pieces):
        step = machine.feed(piece)
        if step != Step():
            return Step(send=step.send, done=step.done, refusal=step.refusal, rest=step.rest + b"".join(pieces[at + 1 :]))
    return Step()


def every_cut(data: bytes) -> list[list[bytes]]:
    """`data` whole, cut in two at every byte, and one byte at a time."""
    return [[data], *([data[:at], data[at:]] for at in range(1, len(data))), [data[at : at + 1] for at in range(len(data))]]


# -- the vector ------------------------------------------------------------------------------------------------------------------
def test_F13_the_server_answers_the_vector() -> None:
    """F13: HELO as bin with keepalive, then PONG true with the digest of the vector, whatever the segments."""
    helo = bytes.fromhex("92a448454c4f83a56e6f6e6365c410") + NONCE + bytes.fromhex("a461757468c410") + AUTH + b"\xa9keepalive\xc3"
    assert server().helo == helo
    pong = pack(["PONG", True, "", "server.example", PONG_DIGEST])
    for pieces in every_cut(pack(vector_ping())):
        assert fed(server(), *pieces) == Step(send=pong, done=True)


def test_F13_the_client_answers_the_vector() -> None:
    """F13: both styles of HELO are answered by the PING of the vector, six str under 1,024 bytes; PONG true ends it."""
    fluentd = bytes.fromhex("92a448454c4f83a56e6f6e6365c410") + NONCE + bytes.fromhex("a461757468c410") + AUTH + b"\xa9keepalive\xc3"
    fluent_bit = bytes.fromhex("92a448454c4f82a56e6f6e6365b0") + NONCE + bytes.fromhex("a461757468b0") + AUTH
    for helo in (fluentd, fluent_bit):
        assert is_helo(helo)
        for pieces in every_cut(helo):
            shaking = client()
            assert fed(shaking, *pieces) == Step(send=pack(vector_ping()))
            assert shaking.asked
            assert fed(shaking, *every_cut(pack(["PONG", True, "", "server.example", PONG_DIGEST]))[-1]) == Step(done=True)
    assert all(isinstance(part, str) for part in msgpack.unpackb(pack(vector_ping())))
    assert len(pack(vector_ping())) < 1024


def test_the_password_digest_of_the_vector() -> None:
    """Salt, user and password without separators."""
    assert hashlib.sha512(AUTH + b"alice" + b"wonder").hexdigest() == PASSWORD_DIGEST


# -- what the server refuses -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("ping", "told", "reason"),
    [
        (vector_ping(digest="0" * 128), "shared_key mismatch", "shared_key"),
        (vector_ping(digest=PING_DIGEST.upper()), "shared_key mismatch", "shared_key"),
        (vector_ping(digest=""), "shared_key mismatch", "shared_key"),
        (vector_ping(salt="other"), "shared_key mismatch", "shared_key"),
        (vector_ping(hostname="other"), "shared_key mismatch", "shared_key"),
        (vector_ping(password="0" * 128), "username/password mismatch", "user"),
        (vector_ping(username="bob"), "username/password mismatch", "user"),
        (vector_ping(username="", password=""), "username/password mismatch", "user"),
        (vector_ping()[:5], "invalid ping message", "no_ping"),
        ([*vector_ping(), "x"], "invalid ping message", "no_ping"),
        (vector_ping(name="PONG"), "invalid ping message", "no_ping"),
        (vector_ping(salt=None), "invalid ping message", "no_ping"),
        (vector_ping(digest=5), "invalid ping message", "no_ping"),
        ({"PING": 1}, "invalid ping message", "no_ping"),
        (["t", 1, {"log": "a"}], "invalid ping message", "no_ping"),
        ([[]] * 9, "invalid ping message", "no_ping"),
    ],
)
def test_F13_a_wrong_ping_is_told_why(ping: Any, told: str, reason: str) -> None:
    """F13: wrong key, wrong user, wrong arity: PONG false with Fluentd's words, and a label."""
    for pieces in every_cut(pack(ping)):
        step = fed(server(), *pieces)
        assert not step.done
        assert step.refusal is not None
        assert step.refusal.reason == reason
        assert step.send == pack(["PONG", False, told, "", ""])
    assert pack(["PONG", False, "shared_key mismatch", "", ""]).startswith(bytes.fromhex("95a4504f4e47c2b3"))


def test_F13_strings_may_be_str_or_bin() -> None:
    """F13: a salt as 16 raw bytes, in bin (IBM's client) or in a str that is no UTF-8 (Fluent Bit), is accepted."""
    salt = b"\xff\xfe" + bytes(14)
    digest = hashlib.sha512(salt + b"client.example" + NONCE + b"secret").hexdigest()
    as_bin = pack(vector_ping(salt=salt, digest=digest))
    as_str = as_bin.replace(b"\xc4\x10" + salt, b"\xb0" + salt)
    assert as_bin != as_str
    for ping in (as_bin, as_str):
        for pieces in every_cut(ping):
            assert fed(server(), *pieces).done


def test_F13_what_comes_behind_the_ping_is_kept() -> None:
    """F13: PING and the first event in one segment: both are there, wherever the cut."""
    for pieces in every_cut(pack(vector_ping()) + FRAME):
        step = fed(server(), *pieces)
        assert step.done
        assert step.rest == FRAME


def test_a_nil_before_the_ping_is_ignored() -> None:
    """The specification lets a client send nil at any time."""
    for pieces in every_cut(b"\xc0\xc0" + pack(vector_ping())):
        assert fed(server(), *pieces).done


@pytest.mark.parametrize(
    "data",
    [
        b"\x96\xa4PING" + b"\xdb\xff\xff\xff\xff" + bytes(5000),
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc1",
        b"\xc9\xff\xff\xff\xff\x00",
        b"\x91" * 5000,
        b"\x96\xa4PING" + (b"\xda\x03\xe8" + bytes(1000)) * 5,
    ],
)
def test_what_is_no_ping_is_refused_early(data: bytes) -> None:
    """A declared length over the limit, nesting, or drivel: refused at once, or when 4 KiB are there."""
    shaking = server()
    step = fed(shaking, *(data[at : at + 512] for at in range(0, len(data), 512)))
    assert step.refusal is not None
    assert step.refusal.reason == "no_ping"


def test_a_message_that_never_ends_is_refused_at_the_limit() -> None:
    """One byte after the other of a message within all declared lengths: over after `MAX_MESSAGE_BYTES`."""
    shaking = server()
    steps = [shaking.feed(b"\xc0") for _ in range(MAX_MESSAGE_BYTES)]
    assert steps[-1].refusal is not None
    assert all(step == Step() for step in steps[:-1])


# -- keys and names --------------------------------------------------------------------------------------------------------------
def test_without_users_auth_is_an_empty_bin() -> None:
    """IBM's client reads `auth` as bin only: `c4 00`. User and password are not looked at then."""
    shaking = server(users=False)
    assert b"\xa4auth\xc4\x00" in shaking.helo
    assert fed(shaking, pack(vector_ping(username="", password=""))).done
    assert fed(server(users=False), pack(vector_ping(username="whoever", password="whatever"))).done


def test_an_empty_key_is_a_key() -> None:
    """Fluent Bit's `empty_shared_key`: the handshake runs with b"", and another key does not get in."""
    shaking = server(shared_key=b"")
    ping = client(shared_key=b"").feed(shaking.helo).send
    assert shaking.feed(ping).done
    shaking = server(shared_key=b"")
    assert shaking.feed(client().feed(shaking.helo).send).refusal is not None


def test_a_server_never_has_the_name_of_its_client() -> None:
    """Fluentd refuses a PONG with its own host name, so a server of that name calls itself otherwise, with the right digest."""
    shaking = server(hostname="client.example")
    one = client()
    pong = shaking.feed(one.feed(shaking.helo).send).send
    assert msgpack.unpackb(pong)[3] == "client.example.esa-tls"
    assert one.feed(pong).done
    assert shaking.client_hostname == "client.example"


# -- what the client refuses -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("pong", "reason"),
    [
        (["PONG", False, "shared_key mismatch", "", ""], "refused"),
        (["PONG", True, "", "server.example", "0" * 128], "shared_key"),
        (["PONG", True, "", "server.example", ""], "shared_key"),
        (["PONG", True, "", "other", PONG_DIGEST], "shared_key"),
        (["PONG", True, "", None, PONG_DIGEST], "shared_key"),
        (["PONG", True, ""], "no_pong"),
        (["PONG", 1, "", "server.example", PONG_DIGEST], "no_pong"),
        (["HELO", {"nonce": NONCE}], "no_pong"),
        ({"ack": "x"}, "no_pong"),
    ],
)
def test_a_server_that_does_not_prove_itself_is_refused(pong: Any, reason: str) -> None:
    """The digest of the PONG counts: who only says true does not get our records."""
    for pieces in every_cut(pack(pong)):
        shaking = client()
        shaking.feed(server().helo)
        step = fed(shaking, *pieces)
        assert step.refusal is not None
        assert (step.refusal.reason, step.done, step.send) == (reason, False, b"")


def test_the_reason_of_a_refusal_is_told_and_cannot_spoil_a_log() -> None:
    """What the peer says is shown short, printable and in one line."""
    shaking = client()
    shaking.feed(server().helo)
    step = shaking.feed(pack(["PONG", False, "no\n\x1b[31m" + "x" * 1000, "", ""]))
    assert step.refusal is not None
    assert step.refusal.detail.startswith("it refused us: no??[31mxxx")
    assert len(step.refusal.detail) < 200


@pytest.mark.parametrize(
    "helo",
    [
        ["HELO"],
        ["HELO", {}],
        ["HELO", {"nonce": 5}],
        ["HELO", {"nonce": b"x", "auth": 5}],
        ["HELO", []],
        {"ack": "x"},
        ["PONG", True, "", "", ""],
    ],
)
def test_what_is_no_helo_is_refused(helo: Any) -> None:
    """Without a nonce there is nothing to answer."""
    step = client().feed(pack(helo))
    assert step.refusal is not None
    assert (step.refusal.reason, step.send) == ("no_helo", b"")


def test_a_server_that_wants_a_user_needs_one() -> None:
    """A missing user name is told here, before anything is sent; a user nobody asked for stays at home."""
    assert client(username=None, password=None).feed(server().helo) == Step(
        refusal=Refusal("user", "it wants a user name and password, and none is configured")
    )
    assert msgpack.unpackb(client().feed(server(users=False).helo).send)[4:] == ["", ""]


def test_a_pong_that_does_not_wait_is_refused() -> None:
    """An answer that came before the question proves nothing."""
    step = client().feed(server().helo + pack(["PONG", True, "", "server.example", PONG_DIGEST]))
    assert step.refusal is not None
    assert step.send == b""


def test_names_that_do_not_fit_a_ping_are_refused_at_once() -> None:
    """Fluent Bit reads 1,024 bytes."""
    with pytest.raises(ValueError, match="host name of over 255 bytes"):
        client(hostname="h" * 256)
    largest = client(hostname="h" * 255, username="u" * 255)
    assert len(largest.feed(server().helo).send) < 1024


# -- both together, and secrets --------------------------------------------------------------------------------------------------
@given(
    key=st.binary(max_size=40),
    others_key=st.none() | st.binary(max_size=40),
    user=st.none() | st.tuples(st.text(max_size=20), st.binary(max_size=20)),
    known=st.dictionaries(st.text(max_size=20), st.binary(max_size=20), max_size=3),
    cut=st.integers(1, 400),
)
def test_who_knows_gets_in_and_nobody_else(
    key: bytes, others_key: bytes | None, user: tuple[str, bytes] | None, known: dict[str, bytes], cut: int
) -> None:
    """Our client and our server agree exactly when key, user and password are the same, whatever the pieces."""
    users = {name.encode(): password for name, password in known.items()}
    shaking = ServerHandshake(ServerCredentials(shared_key=key, users=users, hostname="s"), nonce=NONCE, auth_salt=AUTH)
    name, password = user or (None, None)
    wanted = key if others_key is None else others_key
    one = ClientHandshake(ClientCredentials(shared_key=wanted, hostname="c", username=name, password=password), randomness=bytes(range(16)))
    step = one.feed(shaking.helo)
    if step.refusal is None:
        ping = step.send
        answer = fed(shaking, ping[:cut], ping[cut:]) if cut < len(ping) else shaking.feed(ping)
        step = one.feed(answer.send)
        assert answer.done == step.done
    right_user = not users or (name is not None and users.get(name.encode()) == password)
    assert step.done == (wanted == key and right_user)


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_no_bytes_upset_either_side(pieces: list[bytes]) -> None:
    """Whatever comes is a step: wait, or a refusal that stays one."""
    for machine in (server(), client()):
        for piece in pieces:
            step = machine.feed(piece)
            assert not step.done
            if step.refusal is not None:
                break


def test_no_secret_is_in_any_text() -> None:
    """Neither repr nor refusals hold key, password or digests."""
    known = ServerCredentials(shared_key=b"s3cret", users={b"alice": b"w0nder"}, hostname="h")
    ours = ClientCredentials(shared_key=b"s3cret", hostname="h", username="alice", password=b"w0nder")
    shaking = ServerHandshake(known, nonce=NONCE, auth_salt=AUTH)
    refused = shaking.feed(pack(vector_ping()))
    for text in (
        repr(known),
        repr(ours),
        repr(shaking),
        repr(refused.refusal),
        str(vars(shaking)),
        repr(ClientHandshake(ours, randomness=NONCE)),
    ):
        assert "s3cret" not in text
        assert "w0nder" not in text
