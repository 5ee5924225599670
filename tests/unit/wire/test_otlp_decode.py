"""Requests to lines: rows O1 to O5 and O8 of docs/wires.md 2.6 as far as they are bytes, and the readers against the runtime."""

# ruff: noqa: N802 (tests carry the row names of docs/wires.md 2.6)

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson, ParseDict
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from tests.unit.wire.otlp_cases import SAMPLE, SAMPLE_JSON, all_records, from_json, json_of, protobuf, request, requests, told

from esa_tls.core.batch import Origin
from esa_tls.core.protobuf import field
from esa_tls.errors import MalformedMessage
from esa_tls.wire.otlp_lines import Decoded, NanoTimes, OtlpSettings, batch_key

IN_RECORD = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{?}]}]}]}'


def lines_of(decoded: Decoded) -> list[bytes]:
    """All lines."""
    return [line for run in decoded.runs for line in run.lines]


def origin_of(decoded: Decoded) -> Origin:
    """The origin of the only run."""
    (run,) = decoded.runs
    return run.origin


# -- rows ------------------------------------------------------------------------------------------------------------------------
def test_O1_the_sample_gives_the_same_batch_in_protobuf_and_json() -> None:
    """One line `hi` of host esa1, with the record's own time, whichever form it came in."""
    expected = [(Origin(source="otlp", peer="192.0.2.1", otlp_host="esa1"), (), [b"hi"], [1_441_588_984.000000001])]

    assert expected == told(protobuf(SAMPLE, peer="192.0.2.1"))
    assert expected == told(from_json(SAMPLE_JSON, peer="192.0.2.1"))
    assert ExportLogsServiceRequest.FromString(SAMPLE) == ParseDict(json.loads(SAMPLE_JSON), ExportLogsServiceRequest())


@pytest.mark.parametrize(
    "change",
    [
        ('"1441588984000000001"', "1441588984000000001"),
        ('"severityNumber":9', '"severityNumber":9,"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174"'),
        ('"severityNumber":9', '"severityNumber":9,"traceId":"","spanId":""'),
        ('"severityNumber":9', '"severityNumber":9,"somethingNew":{"a":[1,{"b":null}]}'),
        ('"severityNumber":9', '"severityNumber":9,"time_unix_nano":"5","event_name":7,"attributes":null'),
        ('"resourceLogs"', '"resource_logs":[{"scopeLogs":7}],"resourceLogs"'),
    ],
)
def test_O2_json_that_has_to_be_taken(change: tuple[str, str]) -> None:
    """64-bit ints as numbers, ids in capitals or empty, unknown keys; snake_case is an unknown key."""
    changed = SAMPLE_JSON.decode().replace(*change)

    assert changed != SAMPLE_JSON.decode()
    assert told(protobuf(SAMPLE)) == told(from_json(changed))


@pytest.mark.parametrize("value", ['"SEVERITY_NUMBER_INFO"', '"9"', "9.5", "[]", "true"])
def test_O3_an_enum_that_is_no_number_is_refused(value: str) -> None:
    """Enums are numbers in OTLP's JSON; a name is an error with a reason, and no crash."""
    with pytest.raises(MalformedMessage, match="severityNumber"):
        from_json(SAMPLE_JSON.decode().replace('"severityNumber":9', f'"severityNumber":{value}'))


BODIES: list[tuple[Any, list[bytes], list[str]]] = [
    (None, [], ["no_body"]),
    ("", [b""], []),
    ("hi", [b"hi"], []),
    ("hi\r\n", [b"hi"], []),
    (b"\xff\xfe line", [b"\xff\xfe line"], []),
    ({"log": "hi", "stream": "stdout"}, [b"hi"], []),
    ({"message": "second", "log": "first"}, [b"first"], []),
    ({"message": b"raw \xff"}, [b"raw \xff"], []),
    ({"other": "x"}, [], ["no_line"]),
    ({"log": 5}, [], ["no_line"]),
    (7, [], ["body_type"]),
    (True, [], ["body_type"]),
    (1.5, [], ["body_type"]),
    ([{"a": 1}], [], ["body_type"]),
]


@pytest.mark.parametrize(("body", "lines", "reasons"), BODIES)
def test_O4_every_kind_of_body(body: Any, lines: list[bytes], reasons: list[str]) -> None:
    """A string, bytes (also no UTF-8) or a map with a line in it is a line; everything else is rejected with its reason and its bytes."""
    made = request({"body": body, "attributes": {"list": [{"a": {"b": b"\xff"}}, 1]}})
    for decoded in (protobuf(made.SerializeToString()), from_json(json_of(made))):
        assert lines == lines_of(decoded)
        assert reasons == [one.reason for one in decoded.rejected]
        assert decoded.records == 1
    if reasons:
        assert protobuf(made.SerializeToString()).rejected[0].payload == all_records(made)[0].SerializeToString()
        assert json.loads(from_json(json_of(made)).rejected[0].payload)["attributes"]


@pytest.mark.parametrize(
    ("data", "text"), [(b"", "{}"), (b"\x0a\x00", '{"resourceLogs":[{}]}'), (b"\x0a\x02\x12\x00", '{"resourceLogs":[{"scopeLogs":[{}]}]}')]
)
def test_O4_empty_requests_and_groups(data: bytes, text: str) -> None:
    """A request without records, and groups without a resource, are fine and hold nothing."""
    assert protobuf(data) == from_json(text) == Decoded([], [], 0)
    assert from_json('{"resourceLogs":null}') == Decoded([], [], 0)


def test_O4_a_string_body_that_is_no_utf8_is_a_line() -> None:
    """Senders in Go do not check UTF-8: the protobuf runtime would refuse the whole request, the line is kept byte for byte."""
    record = b"\x2a\x06" + field(1, b"\xff\xfea\x80")
    data = field(1, field(2, field(2, record)))

    assert lines_of(protobuf(data)) == [b"\xff\xfea\x80"]
    with pytest.raises(Exception, match=r".*"):
        ExportLogsServiceRequest.FromString(data)


def test_O5_one_record_of_three_holds_no_line() -> None:
    """The others are taken in their order, and the third is named."""
    decoded = protobuf(request({"body": "a"}, {"body": 5}, {"body": "b"}).SerializeToString())

    assert [b"a", b"b"] == lines_of(decoded)
    assert ["body_type"] == [one.reason for one in decoded.rejected]
    assert decoded.records == 3


@pytest.mark.parametrize("data", [SAMPLE[:-1], SAMPLE[:-9], SAMPLE[:10], b"\x0a", b"\xff" * 20, b"{}", b"hello"])
def test_O8_broken_protobuf_is_refused(data: bytes) -> None:
    """What is cut off or no protobuf is malformed, wherever the cut is."""
    with pytest.raises(MalformedMessage):
        protobuf(data)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "{",
            "",
            "[]",
            "5",
            '{"resourceLogs":5}',
            '{"resourceLogs":[5]}',
            "\xff",
            '{"resourceLogs":[{"scopeLogs":[{"logRecords":[7]}]}]}',
        ),
        *(
            IN_RECORD.replace("?", f'"body":{body}')
            for body in (
                '{"bytesValue":"*"}',
                '{"intValue":"1e3"}',
                '{"intValue":"9223372036854775808"}',
                '{"doubleValue":"x"}',
                '{"stringValue":5}',
                '{"stringValue":"\\ud800"}',
                '{"arrayValue":{"values":[' * 5000 + "1",
            )
        ),
        *(IN_RECORD.replace("?", f'"timeUnixNano":{time}') for time in ('"-1"', "-1", '"18446744073709551616"', '"x"', "1.5")),
    ],
)
def test_O8_broken_json_is_refused(text: str) -> None:
    """What is no JSON or has a value of another type is malformed, with a reason."""
    with pytest.raises(MalformedMessage):
        from_json(text.encode("latin-1"))


# -- whose line, and how it came -------------------------------------------------------------------------------------------------
def test_many_resources_and_scopes_give_a_run_each_in_their_order() -> None:
    """Never one ResourceLogs assumed; the order inside each origin is the sender's."""
    made = request({"body": "a1"}, {"body": "a2"}, resource={"host.name": "a"})
    made.MergeFrom(request({"body": "b1"}, resource={"host.name": "b"}))
    made.MergeFrom(request({"body": "a3"}, resource={"host.name": "a"}))

    decoded = protobuf(made.SerializeToString())

    assert [("a", [b"a1", b"a2", b"a3"]), ("b", [b"b1"])] == [(run.origin.otlp_host, run.lines) for run in decoded.runs]


def test_the_file_receivers_attributes() -> None:
    """`log.file.path` is the file, else `log.file.name`; records of two files are two origins."""
    made = request(
        {"body": "a", "attributes": {"log.file.name": "mail.log"}},
        {"body": "b", "attributes": {"log.file.name": "mail.log", "log.file.path": "/x/mail.log"}},
        {"body": "c", "attributes": {"log.file.name": "mail.log"}},
    )

    assert [("mail.log", [b"a", b"c"]), ("/x/mail.log", [b"b"])] == [
        (run.origin.file_path, run.lines) for run in protobuf(made.SerializeToString()).runs
    ]


def test_origins_are_one_object_over_requests() -> None:
    """The core compares origins; equal ones are interned between requests of one reader."""
    settings = OtlpSettings()
    from esa_tls.wire.otlp_decode import ProtobufReader
    from esa_tls.wire.otlp_lines import Origins

    reader = ProtobufReader(settings, Origins(settings, max_origins=2))
    first, second = (origin_of(reader.decode(SAMPLE, peer="p")) for _ in range(2))
    assert first is second
    for n in range(5):  # beyond the bound sharing is lost for a moment, nothing else
        reader.decode(request({"body": "x"}, resource={"host.name": str(n)}).SerializeToString(), peer="p")
    assert origin_of(reader.decode(SAMPLE, peer="p")) == first


@pytest.mark.parametrize(
    ("resource", "attributes", "body", "expected"),
    [
        ({"appliance": "r"}, {}, "x", "r"),
        ({"appliance": "r"}, {"appliance": "a"}, "x", "a"),
        ({"appliance": "r"}, {"appliance": "a"}, {"log": "x", "appliance": "b"}, "b"),
        ({"appliance": 5}, {"appliance": ""}, "x", None),
    ],
)
def test_the_appliance_key(resource: Any, attributes: Any, body: Any, expected: str | None) -> None:
    """`record:KEY` is looked for in the body, then in the record's attributes, then in its resource; no text is no name."""
    made = request({"body": body, "attributes": attributes}, resource=resource)
    assert expected == origin_of(protobuf(made.SerializeToString())).record_appliance


def test_other_host_attributes_by_settings() -> None:
    """The configured attributes are looked for in their order, in the resource before the record."""
    settings = OtlpSettings(
        host_attributes=("esa", "host.name"), appliance_key=None, source="in", lossy=True, reorder_window_s=3, trust_host=False
    )
    made = request({"body": "x", "attributes": {"esa": "rec"}}, resource={"host.name": "res"})
    origin = origin_of(protobuf(made.SerializeToString(), settings))

    assert ("res", "in", True, 3, False) == (origin.otlp_host, origin.source, origin.lossy, origin.reorder_window_s, origin.trust_host)
    assert origin_of(protobuf(request({"body": "x", "attributes": {"esa": "rec"}}).SerializeToString(), settings)).otlp_host == "rec"


def test_the_forward_receivers_tag() -> None:
    """`fluent.tag` of the Collector's fluentforward receiver is the tag."""
    assert origin_of(protobuf(request({"body": "x", "attributes": {"fluent.tag": "esa.mail"}}).SerializeToString())).tag == "esa.mail"


SYSLOG = "<166>Mar 17 18:24:37 mail_logs: Info: MID 6 ICID 5 From: <a@example.com>"
T = 1_742_235_877_000_000_000
ISO = b"2025-03-17T18:24:37+00:00"
FINE = b"2025-03-17T18:24:37.000000005+00:00"

TAIL = b" mail_logs: Info: MID 6"

PIECES: list[tuple[Any, dict[str, Any], int, bytes, bool]] = [
    # the Collector's syslog receiver: body is the frame, attributes are what its parser made of a line without a host
    (SYSLOG, {"hostname": "mail_logs:", "appname": "Info", "message": "MID 6", "priority": 166}, T, SYSLOG.encode(), False),
    ("74 " + SYSLOG, {"hostname": "mail_logs:", "appname": "Info", "priority": 166}, T, SYSLOG.encode(), False),
    # its message moved into the body
    ("MID 6 ICID 5", {"hostname": "mail_logs:", "appname": "Info", "priority": 166}, T, b"<166>" + ISO + TAIL + b" ICID 5", True),
    ("Info: MID 6", {"hostname": "esa1", "appname": "mail_logs", "priority": 94}, T, b"<94>" + ISO + b" esa1" + TAIL, True),
    ("Info: MID 6", {"hostname": "esa1", "appname": "mail_logs"}, T + 5, FINE + b" esa1" + TAIL, True),
    ("Info: MID 6", {"hostname": "esa1", "appname": "mail_logs"}, 0, b"Info: MID 6", True),
    ("Info: MID 6", {"hostname": "esa1"}, T, b"Info: MID 6", False),
    # Fluent Bit's record map after its syslog parser, with and without the untouched line
    ({"pri": "94", "host": "esa1", "ident": "mail_logs", "message": "Info: MID 6"}, {}, T, b"<94>" + ISO + b" esa1" + TAIL, True),
    ({"host": "mail_logs:", "ident": "Info", "message": "MID 6 x"}, {}, T, ISO + b" mail_logs: Info: MID 6 x", True),
    ({"host": "mail_logs:", "ident": "Info", "message": SYSLOG}, {}, T, SYSLOG.encode(), False),
    ({"host": "e", "message": "Info: MID 6"}, {}, T, b"Info: MID 6", False),
]  # fmt: skip


@pytest.mark.parametrize(("body", "attributes", "time", "line", "rebuilt"), PIECES)
def test_what_syslog_parsers_left(body: Any, attributes: dict[str, Any], time: int, line: bytes, rebuilt: bool) -> None:
    """A full line is taken as it is, attributes are hints; pieces are put together again, the mistake with missing hosts undone."""
    made = request({"body": body, "attributes": attributes, "time_unix_nano": time})
    for decoded in (protobuf(made.SerializeToString()), from_json(json_of(made))):
        (run,) = decoded.runs
        assert [line] == run.lines
        assert (("reconstructed",) if rebuilt else ()) == run.flags


def test_times() -> None:
    """The record's time, else the observed one, else none; slices stay lazy; what no record id can tell is none."""
    made = request(
        {"body": "a", "time_unix_nano": 10**9},
        {"body": "b", "observed_time_unix_nano": 3 * 10**9},
        {"body": "c"},
        {"body": "d", "time_unix_nano": 2**64 - 1},
    )
    times = protobuf(made.SerializeToString()).runs[0].sender_times_s

    assert times is not None
    assert [1.0, 3.0, None, None] == list(times)
    assert isinstance(times[1:], NanoTimes)
    assert [3.0, None] == list(times[1:3])


def test_the_batch_key_is_of_the_request() -> None:
    """The same bytes have the same key, others another; a batch carries it with session and time."""
    assert batch_key(SAMPLE) == batch_key(bytes(SAMPLE)) != batch_key(SAMPLE_JSON)
    assert len(batch_key(b"")) == 16
    batch = protobuf(SAMPLE).batch(key=batch_key(SAMPLE), session=7, received_s=5.0)
    assert (batch.key, batch.session, batch.received_s, batch.line_count()) == (batch_key(SAMPLE), 7, 5.0, 1)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 128, 129, 300, 16_000])
def test_plain_records_do_not_need_the_runtime(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records as real senders make them, of every length up to 16 KB, are read by the scanner alone."""
    monkeypatch.setattr("esa_tls.wire.otlp_decode._read_one", lambda *_: pytest.fail("left to the runtime"))
    attributes = {"log.file.name": "mail.log", "log.file.path": "/x" * 90}
    made = request(
        {"body": "x" * size, "observed_time_unix_nano": 1, "attributes": attributes},
        {
            "body": b"x" * size,
            "time_unix_nano": 1,
            "severity_number": 9,
            "severity_text": "Info",
            "trace_id": bytes(16),
            "span_id": bytes(8),
        },
        {"body": "x" * size, "flags": 1, "event_name": "e" * 130, "dropped_attributes_count": 3},
    )
    assert lines_of(protobuf(made.SerializeToString())) == [b"x" * size] * 3


def test_longer_records_are_left_to_the_runtime() -> None:
    """And come out the same."""
    made = request({"body": "x" * 20_000}, {"body": "a", "attributes": {"k": "y" * 20_000}}, {"body": "b", "dropped_attributes_count": 200})
    assert lines_of(protobuf(made.SerializeToString())) == [b"x" * 20_000, b"a", b"b"]


def test_a_zero_time_that_is_written_out() -> None:
    """A sender that writes zeros counts as one that leaves them out: the observed time is taken; of two bodies the last counts."""
    record = b"\x09" + bytes(8) + b"\x59" + (10**9).to_bytes(8, "little") + b"\x2a\x03\x0a\x01a" + b"\x2a\x03\x0a\x01b"
    (run,) = protobuf(field(1, field(2, field(2, record)))).runs
    assert (run.lines, list(run.sender_times_s or ())) == ([b"b"], [1.0])


# -- laws ------------------------------------------------------------------------------------------------------------------------
def value_of(value: AnyValue) -> Any:
    """What the runtime says a body is: a line's bytes, the map, or None for what is no line."""
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value.encode()
        case "bytes_value":
            return value.bytes_value
        case "kvlist_value":
            return {pair.key: value_of(pair.value) for pair in value.kvlist_value.values}
        case _:
            return None


@given(requests())
def test_lines_are_what_the_protobuf_runtime_reads(made: ExportLogsServiceRequest) -> None:
    """Field by field: texts, times, files and hosts of plain records are those that opentelemetry-proto's messages have."""
    expected = []
    for group in made.resource_logs:
        host = next((value_of(pair.value) for pair in reversed(group.resource.attributes) if pair.key == "host.name"), None)
        for record in (one for scope in group.scope_logs for one in scope.log_records):
            names = {pair.key: value_of(pair.value) for pair in record.attributes}
            body = value_of(record.body)
            if isinstance(body, bytes) and not {"host", "hostname", "ident", "appname"} & set(names):
                nanoseconds = record.time_unix_nano or record.observed_time_unix_nano
                time_s = nanoseconds * 1e-9 if 0 < nanoseconds < 10**9 << 32 else None
                own_host = names.get("host.name")
                hosts = [one.decode() for one in (host, own_host) if isinstance(one, bytes) and one]
                files = [one.decode() for key in ("log.file.path", "log.file.name") if isinstance(one := names.get(key), bytes) and one]
                line = body.removesuffix(b"\n").removesuffix(b"\r")
                expected.append((line, time_s, hosts[0] if hosts else None, files[0] if files else None))
    decoded = protobuf(made.SerializeToString())
    found = [
        (line, time_s, run.origin.otlp_host, run.origin.file_path)
        for run in decoded.runs
        for line, time_s in zip(run.lines, run.sender_times_s or (), strict=True)
    ]

    assert decoded.records == len(all_records(made)) == len(found) + len(decoded.rejected)
    for one in set(expected):
        assert found.count(one) >= expected.count(one)


@given(requests(), st.booleans())
def test_json_and_protobuf_of_the_same_request_give_the_same_batch(made: ExportLogsServiceRequest, numbers: bool) -> None:
    """Runs, flags, times and reasons of rejects are the same."""
    one, other = protobuf(made.SerializeToString()), from_json(json_of(made, numbers=numbers))

    assert told(one) == told(other)
    assert [reject.reason for reject in one.rejected] == [reject.reason for reject in other.rejected]


@given(st.binary(max_size=300) | requests().map(lambda made: made.SerializeToString()), st.data())
@example(SAMPLE, None)
def test_random_bytes_raise_only_what_is_documented(data: bytes, draw: st.DataObject | None) -> None:
    """Whatever the bytes are, also a request with some of them changed: lines or MalformedMessage."""
    if draw is not None and data:
        at = draw.draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw.draw(st.binary(max_size=3)) + data[at + draw.draw(st.integers(0, 2)) :]
    for read in (protobuf, from_json):
        try:
            decoded = read(data)
        except MalformedMessage:
            continue
        assert decoded.records == len(lines_of(decoded)) + len(decoded.rejected)


@given(requests(), st.data())
def test_changed_json_raises_only_what_is_documented(made: ExportLogsServiceRequest, draw: st.DataObject) -> None:
    """The same for JSON."""
    text = MessageToJson(made).encode()
    at = draw.draw(st.integers(0, len(text)))
    with contextlib.suppress(MalformedMessage):
        from_json(text[:at] + draw.draw(st.binary(max_size=4)) + text[at + draw.draw(st.integers(0, 4)) :])


@given(requests(), st.data())
def test_whatever_the_lenient_reader_takes_the_runtime_takes_too(made: ExportLogsServiceRequest, draw: st.DataObject) -> None:
    """A request cut anywhere is taken only if the protobuf runtime takes it as well (but for UTF-8), so nothing half is stored."""
    data = made.SerializeToString()
    cut = data[: draw.draw(st.integers(0, len(data)))]
    try:
        protobuf(cut)
    except MalformedMessage:
        return
    ExportLogsServiceRequest.FromString(cut)
