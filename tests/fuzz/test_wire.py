"""`make fuzz`: bytes from the network. Whatever comes, a codec gives what it documents, and the same however the bytes are divided."""

from __future__ import annotations

import gzip
import hashlib
import random
from collections.abc import Hashable
from typing import Any

import msgpack
import pytest
import zstandard
from tests.fuzz.mutation import corpus_lines, fuzz
from tests.unit.wire.fluent_cases import ENTRIES_AB, ENTRY_A, TAIL, members, pack, packed_frame, read, zstd_frames
from tests.unit.wire.otlp_cases import LINE, SAMPLE, SAMPLE_JSON, from_json, protobuf, request
from tests.unit.wire.test_fluent_handshake import NONCE, client, server, vector_ping

from esa_tls.errors import FrameTooLarge, MalformedMessage, WireError
from esa_tls.wire.fluent import BadFrame, Limits
from esa_tls.wire.fluent_decode import FrameDecoder
from esa_tls.wire.fluent_inflate import BadCompression, InflatedTooLarge, inflate
from esa_tls.wire.otlp_lines import Decoded
from esa_tls.wire.syslog import Limits as SyslogLimits
from esa_tls.wire.syslog import Messages, StreamReader

pytestmark = pytest.mark.fuzz

SMALL = Limits(max_frame_bytes=4096, max_decompressed_bytes=16_384, max_entries=200, max_depth=16)


def pieces_of(data: bytes) -> list[bytes]:
    """`data` divided at places that depend on it alone, so that a failure comes again."""
    chance = random.Random(len(data) * 257 + sum(data[:64]))
    pieces, at = [], 0
    while at < len(data):
        size = chance.choice((1, 2, 7, 60, 1000))
        pieces.append(data[at : at + size])
        at += size
    return pieces


def test_forward_codec() -> None:
    """Forward frames: only documented errors, never more than the limits, the same frames and fault however TCP divides them."""

    def target(data: bytes) -> Hashable:
        frames, error = read([data], FrameDecoder(limits=SMALL), SMALL)
        assert error is None or isinstance(error, BadFrame | FrameTooLarge)
        again, other = read(pieces_of(data), FrameDecoder(limits=SMALL), SMALL)
        assert repr((again, other)) == repr((frames, error))
        for frame in frames:
            assert all(type(line) is bytes and len(line) <= SMALL.max_decompressed_bytes for line in frame["lines"])
            assert len(frame["lines"]) == len(frame["times"]) <= SMALL.max_entries
        reason = getattr(error, "reason", type(error).__name__)
        return reason, tuple((frame["mode"], len(frame["lines"]), *sorted(one for one, _ in frame["rejected"])) for frame in frames)

    seeds = [
        TAIL,
        pack(["esa1", [[1, {"log": line}] for line in corpus_lines()[:5]], {"chunk": "YWJj", "size": 5}]),
        packed_frame(ENTRIES_AB, {"chunk": "YWJj"}),
        packed_frame(members(ENTRIES_AB, b"\x92" + ENTRY_A), {"compressed": "gzip", "chunk": "YWJj"}),
        packed_frame(zstd_frames(ENTRIES_AB), {"compressed": "zstd"}),
        packed_frame(b"\x92\x92" + ENTRY_A[:10] + b"\x81\xa1a\x01" + ENTRY_A[10:], {"fluent_signal": 0}),
        pack(["t", 1, {"message": b"\xff\xfe", "ident": "x", "host": "h", "pri": "94"}, None]),
    ]
    fuzz(target, seeds, words=[b"\xd7\x00", b"\xdb\xff\xff\xff\xff", b"\xc6", b"\xdd", b"\xdf", b"\xc1", b"\xc0", b"\xa3log", b"\x91" * 40])


def test_decompression() -> None:
    """Gzip members and zstd frames: the documented errors, and never a byte over the cap."""

    def target(data: bytes) -> Hashable:
        algorithm = "gzip" if data[:1] in (b"\x1f", b"") else "zstd"
        try:
            return algorithm, len(inflate(data, algorithm, max_bytes=10_000)).bit_length()
        except (BadCompression, InflatedTooLarge) as error:
            return algorithm, type(error).__name__

    content = b"\n".join(corpus_lines()[:20])
    seeds = [
        gzip.compress(content),
        members(content, b"", content),
        zstd_frames(content),
        zstd_frames(content, content),
        gzip.compress(bytes(20_000)),
    ]
    fuzz(target, [*seeds, zstandard.compress(bytes(50_000))], words=[b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd"])


def test_handshake() -> None:
    """HELO, PING, PONG: a step or a refusal, never an exception; nobody gets in without the right digest."""

    def target(data: bytes) -> Hashable:
        told: list[Any] = []
        for machine in (server(users=False), client()):
            for piece in pieces_of(data):
                step = machine.feed(piece)
                told.append((step.done, step.refusal.reason if step.refusal else None, bool(step.send)))
                if step.done:
                    _, hostname, salt, digest = msgpack.Unpacker(raw=True, max_buffer_size=0).feed(data) or first_four(data)
                    assert digest.decode() == hashlib.sha512(salt + hostname + NONCE + b"secret").hexdigest()
                if step.done or step.refusal:
                    break
        return tuple(told[-2:])

    def first_four(data: bytes) -> list[bytes]:
        unpacker = msgpack.Unpacker(raw=True)
        unpacker.feed(data)
        message: list[bytes] = next(unpacker)
        return message[:4]

    pong = pack(["PONG", True, "", "server.example", "0" * 128])
    fuzz(
        target,
        [pack(vector_ping()), server().helo, server().helo + pong, pong, TAIL],
        words=[b"PING", b"PONG", b"HELO", b"\xc4\x10", b"\xd9\xff"],
    )


def test_otlp() -> None:
    """OTLP requests, protobuf and JSON: MalformedMessage or every record accounted for, as a line or as rejected."""

    def target(data: bytes) -> Hashable:
        told: list[Hashable] = []
        for decode in (protobuf, from_json):
            try:
                decoded: Decoded = decode(data)
            except MalformedMessage:
                told.append(None)
                continue
            lines = [line for run in decoded.runs for line in run.lines]
            assert all(type(line) is bytes for line in lines)
            assert decoded.records == len(lines) + len(decoded.rejected)
            told.append(
                (min(len(lines), 8), *sorted({one.reason for one in decoded.rejected}), *sorted({run.flags for run in decoded.runs}))
            )
        return tuple(told)

    attributes: dict[str, Any] = {"log.file.path": "/var/log/mail", "host.name": "esa2", "list": [1, [2.5, None]], "map": {"log": b"\xff"}}
    made = request(
        {"body": LINE, "attributes": attributes}, {"body": {"message": "x", "ident": "y"}}, {"body": 5}, resource={"host.name": "esa1"}
    )
    nested = b'{"resourceLogs":' + b"[" * 40 + b"]" * 40 + b"}"
    words = [b'"body":', b'{"stringValue":"', b"null", b"1e999", b'"\\ud800"', b"\x0a\xff\xff\xff\xff\x0f", b"\x12", b"\x1a"]
    fuzz(target, [SAMPLE, SAMPLE_JSON, made.SerializeToString(), nested], words=words)


def test_syslog_framing() -> None:
    """A syslog stream: the same messages however it is divided, none over the limit, nothing kept beyond it."""
    limits = SyslogLimits(max_message_bytes=600)

    def cut(pieces: list[bytes]) -> tuple[Messages, str]:
        reader = StreamReader(limits)
        found = Messages([], [])
        for piece in pieces:
            found.extend(reader.feed(piece))
            assert reader.buffered_bytes <= limits.max_message_bytes + 8
        found.extend(reader.end())
        return found, reader.error.reason if isinstance(reader.error, WireError) else ""

    def target(data: bytes) -> Hashable:
        found, error = cut([data])
        assert (found, error) == cut(pieces_of(data))
        assert all(0 < len(line) <= limits.max_message_bytes for line in found.lines)
        return error, min(len(found.lines), 12), len(found.truncated)

    lines = [b"<22>Nov 24 14:22:57 esa1 mail_logs: Info: " + line for line in corpus_lines()[:6]]
    counted = b"".join(b"%d %b" % (len(line), line) for line in lines)
    fuzz(
        target,
        [b"\n".join(lines), b"\0".join(lines), counted, counted + b"\n".join(lines)],
        words=[b"<13>", b"99 ", b"0 ", b"\0", b"2019 Sep 28 "],
    )
