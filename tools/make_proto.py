"""Makes plugin/esa_tls/api/v1 (the stubs) and proto/snapshot.json from proto/: `make proto`.

The stubs are what protoc writes, but for the package they are in: `esa_tls.api.v1` instead of `esa_tls.v1`, as Python's name for the
folder. The snapshot remembers every number and name ever given out. A change that breaks what was promised (proto/README.md) is told and
nothing is written.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2
from grpc_tools import protoc

ROOT = Path(__file__).parents[1]
PROTO = ROOT / "proto"
STUBS = ROOT / "plugin" / "esa_tls" / "api" / "v1"
SNAPSHOT = PROTO / "snapshot.json"

Snapshot = dict[str, dict[str, Any]]
"""`messages` and `enums`: name -> number -> what it is; `methods`: name -> what it is."""

_INIT = '"""Stubs made by `make proto`; never edited."""\n'


def sources() -> list[str]:
    """The schema files, as protoc wants to be told them."""
    return sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))


def _protoc(*arguments: str) -> None:
    known = str(files("grpc_tools") / "_proto")
    if protoc.main(["protoc", f"-I{PROTO}", f"-I{known}", *arguments, *sources()]):
        raise SystemExit("make proto: protoc refused the schema")


def stubs() -> dict[str, str]:
    """What the stubs are now: text by file name."""
    with tempfile.TemporaryDirectory(prefix="esa-tls-proto-") as folder:
        _protoc(f"--python_out={folder}", f"--pyi_out={folder}", f"--grpc_python_out={folder}")
        made = {path.name: path.read_text(encoding="utf-8") for path in sorted(Path(folder).rglob("*.py*"))}
    # A file without service gives a stub without content.
    made = {name: text.replace("from esa_tls.v1 import", "from esa_tls.api.v1 import") for name, text in made.items()}
    return {"__init__.py": _INIT, **{name: text for name, text in made.items() if not name.endswith("_pb2_grpc.py") or "Servicer" in text}}


def descriptors() -> descriptor_pb2.FileDescriptorSet:
    """The schema as descriptors, comments included."""
    with tempfile.TemporaryDirectory(prefix="esa-tls-proto-") as folder:
        path = Path(folder) / "set.binpb"
        _protoc(f"--descriptor_set_out={path}", "--include_source_info")
        return descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())


# -- compatibility ---------------------------------------------------------------------------------------------------------------
def snapshot_of(found: descriptor_pb2.FileDescriptorSet) -> Snapshot:
    """What must not change, of a schema."""
    made: Snapshot = {"messages": {}, "enums": {}, "methods": {}}
    for file in found.file:
        for message in file.message_type:
            _add_message(made, message, f"{file.package}.{message.name}")
        for enum in file.enum_type:
            made["enums"][f"{file.package}.{enum.name}"] = {str(value.number): value.name for value in enum.value}
        for service in file.service:
            for method in service.method:
                made["methods"][f"{file.package}.{service.name}/{method.name}"] = (
                    f"{'stream ' * method.client_streaming}{method.input_type} -> {'stream ' * method.server_streaming}{method.output_type}"
                )
    return made


def _add_message(made: Snapshot, message: descriptor_pb2.DescriptorProto, name: str) -> None:
    fields = {}
    for field in message.field:
        kind = descriptor_pb2.FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
        label = descriptor_pb2.FieldDescriptorProto.Label.Name(field.label).removeprefix("LABEL_").lower()
        presence = "explicit" if field.proto3_optional else "" if label == "repeated" else "implicit"
        one_of = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") and not field.proto3_optional else ""
        words = (field.name, label if label == "repeated" else presence, field.type_name or kind, f"of {one_of}" if one_of else "")
        fields[str(field.number)] = " ".join(word for word in words if word)
    made["messages"][name] = fields
    for inner in message.nested_type:
        _add_message(made, inner, f"{name}.{inner.name}")
    for enum in message.enum_type:
        made["enums"][f"{name}.{enum.name}"] = {str(value.number): value.name for value in enum.value}


def reserved_of(found: descriptor_pb2.FileDescriptorSet) -> dict[str, tuple[set[int], set[str]]]:
    """Reserved numbers and names, by message or enum."""
    taken: dict[str, tuple[set[int], set[str]]] = {}

    def add(message: descriptor_pb2.DescriptorProto, name: str) -> None:
        numbers = {number for span in message.reserved_range for number in range(span.start, span.end)}
        taken[name] = (numbers, set(message.reserved_name))
        for inner in message.nested_type:
            add(inner, f"{name}.{inner.name}")
        for enum in message.enum_type:
            add_enum(enum, f"{name}.{enum.name}")

    def add_enum(enum: descriptor_pb2.EnumDescriptorProto, name: str) -> None:
        numbers = {number for span in enum.reserved_range for number in range(span.start, span.end + 1)}
        taken[name] = (numbers, set(enum.reserved_name))

    for file in found.file:
        for message in file.message_type:
            add(message, f"{file.package}.{message.name}")
        for enum in file.enum_type:
            add_enum(enum, f"{file.package}.{enum.name}")
    return taken


def broken(before: Snapshot, found: descriptor_pb2.FileDescriptorSet) -> list[str]:
    """What of the promises a schema breaks, in sentences: every number keeps its meaning, and what is gone stays reserved."""
    now, reserved = snapshot_of(found), reserved_of(found)
    wrong = []
    for table in ("messages", "enums"):
        for name, numbers in before[table].items():
            if name not in now[table]:
                wrong.append(f"{name} is gone")
                continue
            held_numbers, held_names = reserved[name]
            for number, what in numbers.items():
                is_now = now[table][name].get(number)
                if is_now is None and not (int(number) in held_numbers and what.partition(" ")[0] in held_names):
                    wrong.append(f"{name}: {number} ({what}) is gone; reserve its number and its name")
                elif is_now is not None and is_now != what:
                    wrong.append(f"{name}: {number} was {what!r} and is {is_now!r}")
    for name, what in before["methods"].items():
        if now["methods"].get(name) != what:
            wrong.append(f"{name} was {what!r} and is {now['methods'].get(name, 'gone')!r}")
    return wrong


def grown(before: Snapshot, now: Snapshot) -> Snapshot:
    """The snapshot with what is new; what is gone stays in it, for good."""
    tables: Snapshot = {"messages": {}, "enums": {}, "methods": {**before["methods"], **now["methods"]}}
    for table in ("messages", "enums"):
        for name in sorted({*before[table], *now[table]}):
            both = {**before[table].get(name, {}), **now[table].get(name, {})}
            tables[table][name] = {number: both[number] for number in sorted(both, key=int)}
    return tables


def kept_snapshot() -> Snapshot:
    """The committed snapshot; an empty one where there is none yet."""
    if not SNAPSHOT.exists():
        return {"messages": {}, "enums": {}, "methods": {}}
    kept: Snapshot = json.loads(SNAPSHOT.read_text(encoding="utf-8"))
    return kept


def main() -> None:
    """Check, then write."""
    found, before = descriptors(), kept_snapshot()
    if wrong := broken(before, found):
        print("make proto: the schema breaks what proto/README.md promises:", *wrong, sep="\n  ", file=sys.stderr)
        raise SystemExit(1)
    shutil.rmtree(STUBS, ignore_errors=True)
    STUBS.mkdir(parents=True)
    for name, text in stubs().items():
        (STUBS / name).write_text(text, encoding="utf-8")
    SNAPSHOT.write_text(json.dumps(grown(before, snapshot_of(found)), indent=1) + "\n", encoding="utf-8")
    print(f"proto: {STUBS.relative_to(ROOT)} and {SNAPSHOT.relative_to(ROOT)} written")


if __name__ == "__main__":
    main()
