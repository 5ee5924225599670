"""A Loki for tests, as its documentation and docs/wires.md 4.1 and 4.2 describe it: it takes pushes, stores, and refuses in words.

Requests are read by the protobuf runtime on a schema written here, and by the json module: nothing of ours reads what ours wrote.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import cramjam
import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from tests.contract.http_receiver import Posted, Reply

NS = 1_000_000_000
HOUR_S = 3600


def _schema() -> Any:
    """`logproto.PushRequest`."""
    file = descriptor_pb2.FileDescriptorProto(name="loki_push.proto", package="logproto", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    string, message, repeated = 9, 11, 3
    shapes: dict[str, list[tuple[str, int, int, int, str]]] = {
        "LabelPair": [("name", 1, string, 1, ""), ("value", 2, string, 1, "")],
        "Entry": [
            ("timestamp", 1, message, 1, ".google.protobuf.Timestamp"),
            ("line", 2, string, 1, ""),
            ("structuredMetadata", 3, message, repeated, ".logproto.LabelPair"),
        ],
        "Stream": [("labels", 1, string, 1, ""), ("entries", 2, message, repeated, ".logproto.Entry")],
        "PushRequest": [("streams", 1, message, repeated, ".logproto.Stream")],
    }
    for name, members in shapes.items():
        shape = file.message_type.add(name=name)
        for field, number, kind, label, of in members:
            shape.field.add(name=field, number=number, type=kind, label=label, type_name=of or None)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("logproto.PushRequest"))


PushRequest = _schema()


class Stored(msgspec.Struct, frozen=True):
    """An entry."""

    time_ns: int
    line: str
    metadata: tuple[tuple[str, str], ...]

    @property
    def fields(self) -> dict[str, str]:
        """The metadata by name."""
        return dict(self.metadata)

    @property
    def metadata_bytes(self) -> int:
        """As Loki counts them."""
        return sum(len(name.encode()) + len(value.encode()) for name, value in self.metadata)


class Refused(Exception):
    """A request that is refused as a whole."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def read_protobuf(body: bytes) -> list[tuple[str, list[Stored]]]:
    """(labels, entries) of each stream of an unpacked body."""
    streams = []
    for stream in PushRequest.FromString(body).streams:
        entries = []
        for entry in stream.entries:
            metadata = tuple((pair.name, pair.value) for pair in entry.structuredMetadata)
            entries.append(Stored(entry.timestamp.seconds * NS + entry.timestamp.nanos, entry.line, metadata))
        streams.append((stream.labels, entries))
    return streams


def read_json(body: bytes) -> list[tuple[str, list[Stored]]]:
    """The same of JSON. Raises Refused for what Loki does not take."""
    streams = []
    for stream in json.loads(body)["streams"]:
        entries = []
        for value in stream["values"]:
            stamp, line, metadata = [*value, {}][:3]
            if not isinstance(stamp, str) or not isinstance(line, str) or not all(isinstance(one, str) for one in metadata.values()):
                raise Refused(400, "loghttp.PushRequest.Streams: Value looks like a number, but can't find its end in '}'")
            entries.append(Stored(int(stamp), line, tuple(metadata.items())))
        labels = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in sorted(stream["stream"].items()))
        streams.append((f"{{{labels}}}", entries))
    return streams


def labels_of(text: str) -> dict[str, str]:
    """Labels by name, as its parser reads them. Raises Refused."""
    pairs = re.findall(r'([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*("(?:[^"\\\n]|\\.)*")', text)
    if "{" + ", ".join(f"{name}={value}" for name, value in pairs) + "}" != text:
        raise Refused(400, f"Error parsing labels '{text}' with error: parse error")
    if not pairs:
        raise Refused(400, "error at least one label pair is required per stream")
    return {name: json.loads(value) for name, value in pairs}


def seconds_text(time_ns: int) -> str:
    """RFC 3339 as its errors have it: whole seconds."""
    return datetime.fromtimestamp(time_ns // NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class LokiStub:
    """`answer` is for `HttpReceiver`. `before`: asked first, for faults."""

    def __init__(
        self,
        *,
        now_s: float = 2_000_000_000.0,
        max_age_s: float | None = None,
        window_s: float | None = None,
        tenant_wanted: bool = False,
        max_line_bytes: int = 256 * 1024,
        max_metadata_bytes: int = 64 * 1024,
        max_body_bytes: int = 100 << 20,
        before: Callable[[Posted], Reply | None] = lambda _: None,
    ) -> None:
        self.now_s = now_s
        self.max_age_s = max_age_s
        self.window_s = window_s
        self.tenant_wanted = tenant_wanted
        self.max_line_bytes = max_line_bytes
        self.max_metadata_bytes = max_metadata_bytes
        self.max_body_bytes = max_body_bytes
        self.before = before
        self.streams: dict[tuple[str, str], list[Stored]] = {}
        """By (tenant, labels), in the order of arrival."""
        self.accepted: list[Stored] = []
        """The same, with those that were there already."""
        self.pushed: Counter[Stored] = Counter()
        """How often each entry was sent, refused or not."""
        self.reasons: Counter[str] = Counter()

    @property
    def entries(self) -> list[Stored]:
        """Everything stored."""
        return [entry for stream in self.streams.values() for entry in stream]

    def answer(self, posted: Posted) -> Reply:
        """What Loki would say."""
        if (reply := self.before(posted)) is not None:
            return reply
        try:
            return self._push(posted)
        except Refused as error:
            return Reply(error.status, str(error).encode() + b"\n")

    def _push(self, posted: Posted) -> Reply:
        assert posted.path.endswith("/loki/api/v1/push")
        tenant = posted.headers.get("x-scope-orgid", "")
        if self.tenant_wanted and not tenant:
            raise Refused(401, "no org id")
        if len(posted.sent) > self.max_body_bytes:
            raise Refused(413, "request body too large")
        streams = self._read(posted)
        if not streams:
            raise Refused(422, "error at least one valid stream is required for ingestion")
        invalid: list[str] = []
        behind: list[str] = []
        for labels, entries in streams:
            self.pushed.update(entries)
            if wrong := self._wrong_labels(labels):
                invalid += [wrong]
                continue
            valid = []
            for entry in entries:
                if wrong := self._wrong(labels, entry):
                    invalid.append(wrong)
                else:
                    valid.append(entry)
            if text := self._store(tenant, labels, valid):
                behind.append(text)
        if behind:  # errors of the ingester hide those of the distributor, and of several streams one is told
            raise Refused(400, behind[-1])
        if invalid:
            counts = Counter(invalid)
            raise Refused(400, "; ".join(f"{n} errors like: {text}" if len(invalid) > 1 else text for text, n in counts.items()))
        return Reply(204)

    def _read(self, posted: Posted) -> list[tuple[str, list[Stored]]]:
        media_type = posted.headers["content-type"]
        if media_type == "application/json":
            return read_json(posted.body)
        assert media_type == "application/x-protobuf"
        try:
            return read_protobuf(bytes(cramjam.snappy.decompress_raw(posted.body)))
        except cramjam.DecompressionError as error:
            raise Refused(400, "snappy: corrupt input") from error

    def _wrong_labels(self, labels: str) -> str | None:
        named = labels_of(labels)
        if len(named) - ("service_name" in named) > 15:
            return self._count("max_label_names_per_series", f"entry for stream '{labels}' has {len(named)} label names; limit 15")
        for value in named.values():
            if len(value.encode()) > 2048:
                return self._count("label_value_too_long", f"stream '{labels}' has label value too long: '{value}'")
        return None

    def _wrong(self, labels: str, entry: Stored) -> str | None:
        oldest = None if self.max_age_s is None else int((self.now_s - self.max_age_s) * NS)
        newest = int((self.now_s + 600) * NS)
        if oldest is not None and entry.time_ns < oldest:
            text = f"has timestamp too old: {seconds_text(entry.time_ns)}, oldest acceptable timestamp is: {seconds_text(oldest)}"
            return self._count("greater_than_max_sample_age", f"entry for stream '{labels}' {text}")
        if entry.time_ns > newest:
            return self._count("too_far_in_future", f"entry for stream '{labels}' has timestamp too new: {seconds_text(entry.time_ns)}")
        line = len(entry.line.encode())
        if line > self.max_line_bytes:
            text = f"Max entry size '{self.max_line_bytes}' bytes exceeded for stream '{labels}'"
            return self._count("line_too_long", f"{text} while adding an entry with length '{line}' bytes")
        if entry.metadata_bytes > self.max_metadata_bytes:
            text = f"structured metadata too large: '{entry.metadata_bytes}' bytes, limit: '{self.max_metadata_bytes}' bytes."
            return self._count("structured_metadata_too_large", f"stream '{labels}' has {text}")
        if len(entry.metadata) > 128:
            text = f"too many structured metadata labels: '{len(entry.metadata)}', limit: '128'."
            return self._count("structured_metadata_too_many", f"stream '{labels}' has {text}")
        return None

    def _store(self, tenant: str, labels: str, entries: list[Stored]) -> str | None:
        """Append what is not too far behind, but for what is there already; the text about what is."""
        stream = self.streams.setdefault((tenant, labels), [])
        highest = max((entry.time_ns for entry in stream), default=None)
        ignored = []
        for entry in entries:
            cutoff = None if self.window_s is None or highest is None else highest - int(self.window_s * NS)
            if cutoff is not None and entry.time_ns < cutoff:
                self.reasons["too_far_behind"] += 1
                seconds, rest = divmod(entry.time_ns, NS)
                stamp = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}.{rest:09d}".rstrip("0").rstrip(".") + " +0000 UTC"
                why = f"entry too far behind, entry timestamp is: {seconds_text(entry.time_ns)}, oldest acceptable timestamp is: "
                ignored.append(f"entry with timestamp {stamp} ignored, reason: '{why}{seconds_text(cutoff)}',\n")
                continue
            highest = max(entry.time_ns, highest or 0)
            self.accepted.append(entry)
            if entry not in stream:
                stream.append(entry)
        if not ignored:
            return None
        total = f"user 'fake', total ignored: {len(ignored)} out of {len(entries)} for stream: {labels}"
        return "".join(ignored[:10]) + total

    def _count(self, reason: str, text: str) -> str:
        self.reasons[reason] += 1
        return text


def sent(streams: Mapping[str, list[Stored]]) -> bytes:
    """A push by the protobuf runtime, packed, for tests of the stub and of other servers."""
    request = PushRequest()
    for labels, entries in streams.items():
        stream = request.streams.add(labels=labels)
        for entry in entries:
            one = stream.entries.add(line=entry.line)
            one.timestamp.seconds, one.timestamp.nanos = divmod(entry.time_ns, NS)
            for name, value in entry.metadata:
                one.structuredMetadata.add(name=name, value=value)
    return bytes(cramjam.snappy.compress_raw(request.SerializeToString()))
