"""A Collector in a test: configured, started, killed, and what its file exporter wrote, read back."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml
from tests.peers.programs import Program, Programs

READY = "Everything is ready. Begin running and processing data."


class LogRecord(msgspec.Struct, frozen=True):
    """One record out of a file: the body and attributes as plain values; text that is no UTF-8 with surrogates."""

    body: Any
    attributes: dict[str, Any]
    resource: dict[str, Any]
    event_name: str


class Collector:
    """One Collector with its folder: `start`, `kill`, `start` again. `records()` is all that its file exporter has written.

    Two things would have it lose lines when it is killed, whoever is behind it: without the feature gate what it read in the last 100 ms,
    and with a file exporter without `rotation` what that keeps in its buffer.
    """

    def __init__(self, program: Path, programs: Programs, folder: Path) -> None:
        self._command = (program, "--config", folder / "collector.yaml", "--feature-gates=stanza.synchronousLogEmitter")
        self._programs = programs
        self.folder = folder
        self.out = folder / "out.jsonl"
        self.running: Program | None = None
        self._records: list[LogRecord] = []
        self._read_bytes = 0

    def configure(self, config: dict[str, Any]) -> None:
        """Write its configuration: whole, but for its own telemetry, which would open a port."""
        config["service"].setdefault("telemetry", {"metrics": {"level": "none"}})
        (self.folder / "collector.yaml").write_text(yaml.safe_dump(config))

    def to_file(self) -> dict[str, Any]:
        """The settings of a file exporter that has written what it answered for: with `rotation` it keeps nothing back."""
        return {"path": str(self.out), "rotation": {"max_megabytes": 1000}}

    def start(self) -> Program:
        """Return when it is ready."""
        self.running = self._programs.start(*self._command)
        self.running.until_said(READY)
        return self.running

    def kill(self) -> None:
        """SIGKILL."""
        assert self.running is not None
        self.running.kill()

    def end(self) -> None:
        """SIGTERM; it has to end well."""
        assert self.running is not None
        assert self.running.end() == 0, self.running.text

    def records(self) -> list[LogRecord]:
        """What was exported so far."""
        if self.out.exists():
            with self.out.open("rb") as out:
                out.seek(self._read_bytes)
                whole, line_end, _ = out.read().rpartition(b"\n")
            self._read_bytes += len(whole + line_end)
            self._records += _records(whole.decode("utf-8", "surrogateescape"))  # text that is no UTF-8 is written as it is
        return self._records


def _records(text: str) -> Iterator[LogRecord]:
    """Out of one request after the other. One may be cut off, by a kill before it was answered for; the next follows at once."""
    start = '{"resourceLogs":'
    decode = json.JSONDecoder().raw_decode
    at = text.find(start)
    while at >= 0:
        try:
            request, end = decode(text, at)
        except ValueError:
            end = at + 1
        else:
            yield from _of_request(request)
        at = text.find(start, end)


def _of_request(request: dict[str, Any]) -> Iterator[LogRecord]:
    for of_resource in request["resourceLogs"]:
        resource = _plain(of_resource["resource"].get("attributes", []))
        for of_scope in of_resource["scopeLogs"]:
            for record in of_scope["logRecords"]:
                body = _value(record.get("body", {}))
                yield LogRecord(body, _plain(record.get("attributes", [])), resource, record.get("eventName", ""))


def _plain(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    return {pair["key"]: _value(pair["value"]) for pair in pairs}


def _value(value: dict[str, Any]) -> Any:
    kinds: dict[str, Callable[[Any], Any]] = {
        "intValue": int,
        "bytesValue": base64.b64decode,
        "arrayValue": lambda array: [_value(one) for one in array.get("values", [])],
        "kvlistValue": lambda pairs: _plain(pairs.get("values", [])),
    }
    [(kind, content)] = value.items() or [("stringValue", "")]
    return kinds.get(kind, lambda same: same)(content)


def line_of(record: LogRecord) -> bytes:
    """The line that a `line` record of ours holds, byte for byte: beside a body that could not hold it stands the line itself."""
    raw = record.attributes.get("cisco_esa.raw_base64")
    line: bytes = record.body.encode("utf-8", "surrogateescape") if raw is None else base64.b64decode(raw)
    return line
