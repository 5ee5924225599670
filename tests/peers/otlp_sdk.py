"""A program: sends the lines of its standard input with the OTLP exporters of opentelemetry-python, as `test_otlp_sdk.py` tells it to.

It is a process of its own, so that the SDK's logs, threads and settings are. It says `sent N` when a batch was taken by the server.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc import _log_exporter as over_grpc
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http import _log_exporter as over_http
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource

TIME_NS = 1_700_000_000_123_456_789


class Telling(LogRecordExporter):
    """Says what another exporter achieved."""

    def __init__(self, exporter: LogRecordExporter) -> None:
        self._exporter = exporter

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        result = self._exporter.export(batch)
        print("sent" if result is LogRecordExportResult.SUCCESS else "failed", len(batch), flush=True)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 10_000) -> bool:
        return True


def exporter(wanted: argparse.Namespace) -> LogRecordExporter:
    """The exporter that is wanted."""
    headers = {"authorization": f"Bearer {wanted.token}"} if wanted.token else None
    if wanted.protocol == "grpc":
        return over_grpc.OTLPLogExporter(
            f"127.0.0.1:{wanted.port}",
            insecure=wanted.ca is None,
            credentials=None if wanted.ca is None else grpc.ssl_channel_credentials(Path(wanted.ca).read_bytes()),
            headers=headers,
            compression=grpc.Compression.Gzip if wanted.gzip else grpc.Compression.NoCompression,
            timeout=60,
        )
    scheme = "http" if wanted.ca is None else "https"
    return over_http.OTLPLogExporter(
        f"{scheme}://127.0.0.1:{wanted.port}/v1/logs",
        certificate_file=wanted.ca,
        headers=headers,
        compression=Compression.Gzip if wanted.gzip else Compression.NoCompression,
        timeout=60,
    )


def body_of(line: bytes, form: str) -> Any:
    """A line in one of the forms that a body can have; bytes where it is no text."""
    try:
        text: str | bytes = line if form == "bytes" else line.decode()
    except UnicodeDecodeError:
        text = line
    return {"log": text} if form == "map" else text


def main() -> None:
    """See the module."""
    options = argparse.ArgumentParser()
    options.add_argument("protocol", choices=["grpc", "http"])
    options.add_argument("port", type=int)
    options.add_argument("--host", default="esa1")
    options.add_argument("--ca")
    options.add_argument("--token")
    options.add_argument("--gzip", action="store_true")
    options.add_argument("--body", choices=["text", "bytes", "map"], default="text")
    wanted = options.parse_args()
    provider = LoggerProvider(Resource.create({"host.name": wanted.host, "service.name": "mail-logs"}), shutdown_on_exit=False)
    provider.add_log_record_processor(
        BatchLogRecordProcessor(Telling(exporter(wanted)), schedule_delay_millis=20, max_export_batch_size=50, export_timeout_millis=60_000)
    )
    logger = provider.get_logger("tests")
    for line in sys.stdin.buffer:
        logger.emit(
            timestamp=TIME_NS,
            severity_number=SeverityNumber.INFO,
            severity_text="Info",
            body=body_of(line.removesuffix(b"\n"), wanted.body),
            attributes={"log.file.name": "mail.current"},
        )
    provider.shutdown()


if __name__ == "__main__":
    main()
