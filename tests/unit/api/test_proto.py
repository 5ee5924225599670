from __future__ import annotations

import copy
import importlib.util
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf import descriptor_pb2

ROOT = Path(__file__).parents[3]


def load() -> ModuleType:
    """tools/make_proto.py: no package, so it is loaded by its path."""
    spec = importlib.util.spec_from_file_location("make_proto", ROOT / "tools" / "make_proto.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_proto = load()
SCHEMA: descriptor_pb2.FileDescriptorSet = make_proto.descriptors()


def schema() -> descriptor_pb2.FileDescriptorSet:
    """The schema, to be changed."""
    return copy.deepcopy(SCHEMA)


def file_of(changed: descriptor_pb2.FileDescriptorSet, name: str) -> descriptor_pb2.FileDescriptorProto:
    """One of its files."""
    return next(file for file in changed.file if file.name == f"esa_tls/v1/{name}.proto")


def message_of(changed: descriptor_pb2.FileDescriptorSet, name: str) -> descriptor_pb2.DescriptorProto:
    """One of the messages of records.proto."""
    return next(message for message in file_of(changed, "records").message_type if message.name == name)


def enum_of(changed: descriptor_pb2.FileDescriptorSet, name: str) -> descriptor_pb2.EnumDescriptorProto:
    """One of the enums of records.proto."""
    return next(enum for enum in file_of(changed, "records").enum_type if enum.name == name)


# -- made files ------------------------------------------------------------------------------------------------------------------
def test_the_stubs_are_current() -> None:
    """The committed stubs are what `make proto` makes of the schema."""
    committed = {path.name: path.read_text(encoding="utf-8") for path in make_proto.STUBS.iterdir() if path.is_file()}

    assert make_proto.stubs() == committed


def test_the_snapshot_is_current() -> None:
    """The committed snapshot has everything the schema gives out, and what is gone."""
    kept = make_proto.kept_snapshot()

    assert make_proto.grown(kept, make_proto.snapshot_of(SCHEMA)) == kept


def test_the_schema_keeps_its_promises() -> None:
    """Against the committed snapshot no number has another meaning."""
    assert [] == make_proto.broken(make_proto.kept_snapshot(), SCHEMA)


# -- what would break them -------------------------------------------------------------------------------------------------------
def renumber(changed: descriptor_pb2.FileDescriptorSet) -> None:
    """A field gets another number."""
    message_of(changed, "Tls").field[0].number = 99


def retype(changed: descriptor_pb2.FileDescriptorSet) -> None:
    """A field gets another type."""
    message_of(changed, "Message").field[1].type = descriptor_pb2.FieldDescriptorProto.TYPE_STRING


def repeat(changed: descriptor_pb2.FileDescriptorSet) -> None:
    """A single value becomes a list."""
    field = message_of(changed, "Tls").field[7]
    field.label = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
    field.proto3_optional = False


def require(changed: descriptor_pb2.FileDescriptorSet) -> None:
    """A value loses its presence."""
    message_of(changed, "Tls").field[7].proto3_optional = False


def rename(changed: descriptor_pb2.FileDescriptorSet) -> None:
    """A field gets another name."""
    message_of(changed, "Tls").field[7].name = "proto_col"


def remove(changed: descriptor_pb2.FileDescriptorSet) -> None:
    """A field goes without a trace."""
    del message_of(changed, "Tls").field[-1]


def remove_with_its_number_only(changed: descriptor_pb2.FileDescriptorSet) -> None:
    """A field goes, and its name is not reserved."""
    message = message_of(changed, "Tls")
    message.reserved_range.add(start=message.field[-1].number, end=message.field[-1].number + 1)
    del message.field[-1]


def move_a_value(changed: descriptor_pb2.FileDescriptorSet) -> None:
    """Two enum values change places."""
    values = enum_of(changed, "TlsOutcome").value
    values[1].number, values[2].number = values[2].number, values[1].number


def remove_a_value(changed: descriptor_pb2.FileDescriptorSet) -> None:
    """An enum value goes."""
    del enum_of(changed, "Flag").value[-1]


def remove_a_message(changed: descriptor_pb2.FileDescriptorSet) -> None:
    """A message goes."""
    del file_of(changed, "records").message_type[-1]


def remove_an_enum(changed: descriptor_pb2.FileDescriptorSet) -> None:
    """An enum goes."""
    del file_of(changed, "records").enum_type[-1]


def stream_a_method(changed: descriptor_pb2.FileDescriptorSet) -> None:
    """A method answers with a stream."""
    file_of(changed, "service").service[0].method[1].server_streaming = True


def remove_a_method(changed: descriptor_pb2.FileDescriptorSet) -> None:
    """A method goes."""
    del file_of(changed, "service").service[0].method[0]


@pytest.mark.parametrize(
    "change",
    [
        *(renumber, retype, repeat, require, rename, remove, remove_with_its_number_only, move_a_value, remove_a_value, remove_a_message),
        *(remove_an_enum, stream_a_method, remove_a_method),
    ],
    ids=lambda change: change.__name__,
)
def test_a_change_that_breaks_clients_is_found(change: Callable[[descriptor_pb2.FileDescriptorSet], None]) -> None:
    """Numbers, types, presence, names, enum values and methods cannot change, and cannot go without being reserved."""
    changed = schema()
    change(changed)

    assert make_proto.broken(make_proto.kept_snapshot(), changed)


def test_a_removed_field_that_is_reserved_is_no_break() -> None:
    """A field may go when its number and its name are reserved."""
    changed = schema()
    message = message_of(changed, "Tls")
    gone = message.field[-1]
    message.reserved_range.add(start=gone.number, end=gone.number + 1)
    message.reserved_name.append(gone.name)
    del message.field[-1]

    assert [] == make_proto.broken(make_proto.kept_snapshot(), changed)


def test_a_number_is_not_used_again() -> None:
    """What was removed once stays in the snapshot, so that its number cannot come back with another meaning."""
    before = make_proto.kept_snapshot()
    without = schema()
    remove(without)
    kept = make_proto.grown(before, make_proto.snapshot_of(without))
    again = schema()
    message_of(again, "Tls").field[-1].name = "novel"

    assert kept == before
    assert make_proto.broken(kept, again)


def test_additions_are_no_break() -> None:
    """Fields, values, messages and methods may be added, and are then in the snapshot."""
    changed = schema()
    message_of(changed, "Tls").field.add(name="novel", number=60, type=9, label=1, proto3_optional=True, oneof_index=0)
    enum_of(changed, "TlsOutcome").value.add(name="TLS_OUTCOME_NOVEL", number=60)

    assert [] == make_proto.broken(make_proto.kept_snapshot(), changed)
    grown = make_proto.grown(make_proto.kept_snapshot(), make_proto.snapshot_of(changed))
    assert "TLS_OUTCOME_NOVEL" == grown["enums"]["esa_tls.v1.TlsOutcome"]["60"]


# -- style: the rules of `buf lint` (STANDARD), as far as they say anything here -------------------------------------------------
def messages() -> Iterator[descriptor_pb2.DescriptorProto]:
    """All messages."""
    return (message for file in SCHEMA.file for message in file.message_type)


def enums() -> Iterator[descriptor_pb2.EnumDescriptorProto]:
    """All enums."""
    return (enum for file in SCHEMA.file for enum in file.enum_type)


def test_files_lie_where_their_package_says() -> None:
    """PACKAGE_DIRECTORY_MATCH, PACKAGE_VERSION_SUFFIX: package esa_tls.v1 in esa_tls/v1/, one package."""
    assert {"esa_tls.v1"} == {file.package for file in SCHEMA.file}
    assert ["esa_tls/v1/records.proto", "esa_tls/v1/service.proto"] == [file.name for file in SCHEMA.file]


def test_names_of_fields_and_messages() -> None:
    """FIELD_LOWER_SNAKE_CASE, ONEOF_LOWER_SNAKE_CASE, MESSAGE_PASCAL_CASE."""
    for message in messages():
        assert re.fullmatch(r"([A-Z][a-z0-9]*)+", message.name)
        for name in [field.name for field in message.field] + [one.name for one in message.oneof_decl if not one.name.startswith("_")]:
            assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name), name


def test_enums() -> None:
    """ENUM_ZERO_VALUE_SUFFIX, ENUM_VALUE_PREFIX, ENUM_NO_ALLOW_ALIAS: zero is X_UNSPECIFIED, every value begins with its enum's name."""
    for enum in enums():
        prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.name).upper()
        assert (f"{prefix}_UNSPECIFIED", 0) == (enum.value[0].name, enum.value[0].number)
        assert all(re.fullmatch(rf"{prefix}_[A-Z0-9]+(_[A-Z0-9]+)*", value.name) for value in enum.value), enum.name
        assert len(enum.value) == len({value.number for value in enum.value})


def test_methods_have_requests_and_responses_of_their_own() -> None:
    """RPC_REQUEST_STANDARD_NAME, RPC_RESPONSE_STANDARD_NAME, RPC_REQUEST_RESPONSE_UNIQUE."""
    for file in SCHEMA.file:
        for service in file.service:
            for method in service.method:
                assert f".esa_tls.v1.{method.name}Request" == method.input_type
                assert f".esa_tls.v1.{method.name}Response" == method.output_type


def test_everything_has_a_comment() -> None:
    """COMMENTS: each message, field, enum, value, service and method says what it is."""
    for file in SCHEMA.file:
        commented = {tuple(place.path) for place in file.source_code_info.location if place.leading_comments.strip()}
        wanted: set[tuple[int, ...]] = {(4, m) for m in range(len(file.message_type))} | {(5, e) for e in range(len(file.enum_type))}
        wanted |= {(4, m, 2, f) for m, message in enumerate(file.message_type) for f in range(len(message.field))}
        wanted |= {(5, e, 2, v) for e, enum in enumerate(file.enum_type) for v in range(len(enum.value))}
        wanted |= {(6, s) for s in range(len(file.service))}
        wanted |= {(6, s, 2, m) for s, service in enumerate(file.service) for m in range(len(service.method))}
        assert set() == wanted - commented, file.name


def test_what_may_be_absent_says_so() -> None:
    """In records every single value has presence: absent and zero are two things."""
    for message in file_of(SCHEMA, "records").message_type:
        for field in message.field:
            plain = field.label != field.LABEL_REPEATED and field.type != field.TYPE_MESSAGE
            assert not plain or field.proto3_optional, f"{message.name}.{field.name}"
