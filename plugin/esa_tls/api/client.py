"""`esa-tls lookup` and `esa-tls watch`: ask a running sidecar over gRPC, and show what it says.

Rules of this file:

1. What comes from the sidecar is text from mail logs: people see it through `show`, which makes it harmless; programs get JSON.
2. No sidecar, a sidecar that stops and a call it refuses are one sentence each: TransientError (exit 1), or ConfigError (exit 2) where the
   user has to change something.
3. A token comes from the environment or a file, never from the command line, where others can read it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import grpc
import msgspec

from esa_tls.api import show
from esa_tls.api.convert import enum_number, to_dict
from esa_tls.api.v1.records_pb2 import Record
from esa_tls.api.v1.service_pb2 import LookupRequest, LookupResponse, LookupResult, LookupState, RecordFilter, WatchRequest
from esa_tls.api.v1.service_pb2_grpc import EsaTlsStub
from esa_tls.config import ClientTls
from esa_tls.errors import ConfigError, EsaTlsError, TransientError
from esa_tls.offline.terminal import printable, put
from esa_tls.runtime.tls import grpc_channel_credentials

__all__ = ["DEFAULT_ADDRESS", "Sidecar", "lookup", "watch"]

DEFAULT_ADDRESS: Final = "127.0.0.1:4319"
TIMEOUT_S: Final = 15.0
MAX_MESSAGE_BYTES: Final = 256 << 20


class Sidecar(msgspec.Struct, frozen=True):
    """Where the sidecar is and how to get in. `tls`: None = plain text."""

    address: str = DEFAULT_ADDRESS
    token: str | None = None
    token_file: Path | None = None
    tls: ClientTls | None = None

    def metadata(self) -> list[tuple[str, str]]:
        """What each call carries. Raises ConfigError."""
        token = self.token if self.token_file is None else _read(self.token_file).decode("utf-8", "replace").strip()
        if not token:
            return []
        if not (token.isascii() and token.isprintable()):
            raise ConfigError("the token holds characters that cannot be sent")
        return [("authorization", f"Bearer {token}")]


@contextmanager
def _channel(sidecar: Sidecar) -> Iterator[grpc.Channel]:
    options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    if sidecar.tls is None:
        channel = grpc.insecure_channel(sidecar.address, options)
    else:
        credentials = grpc_channel_credentials(sidecar.tls, owner=sidecar.address).current()
        channel = grpc.secure_channel(sidecar.address, credentials, options)
    with channel:
        yield channel


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error


def _told(error: grpc.RpcError, address: str) -> EsaTlsError:
    """What went wrong, in a sentence."""
    code, details = error.code(), printable(error.details() or "")
    match code:
        case grpc.StatusCode.UNAUTHENTICATED:
            return ConfigError(f"{address}: {details}; give it by ESA_TLS_TOKEN or --token-file")
        case grpc.StatusCode.INVALID_ARGUMENT:
            return ConfigError(f"{address}: {details}")
        case grpc.StatusCode.UNIMPLEMENTED:
            return TransientError(f"{address}: what listens there is no esa-tls of this version")
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return TransientError(f"{address}: no answer within {TIMEOUT_S:g} s")
        case _ if details.startswith("failed to connect"):
            return TransientError(f"{address}: no sidecar answers there: {details.rpartition(': ')[2].lower()}")
        case _:
            return TransientError(f"{address}: {details or code.name.lower()}")


def lookup(sidecar: Sidecar, *, out: BinaryIO, as_json: bool, limit: int = 100, **wanted: Any) -> int:
    """Show what is known of what is `wanted` (one of mid, icid, dcid, message_id, recipient; appliance). Returns 1 if that is nothing."""
    request = LookupRequest(limit=limit, **{name: value for name, value in wanted.items() if value is not None})
    with _channel(sidecar) as channel:
        try:
            response: LookupResponse = EsaTlsStub(channel).Lookup(request, timeout=TIMEOUT_S, metadata=sidecar.metadata())
        except grpc.RpcError as error:
            raise _told(error, sidecar.address) from error
    for result in response.results:
        is_open, record = result.state == LookupState.LOOKUP_STATE_OPEN, to_dict(_record_of(result))
        if as_json:
            _put_json(out, {"state": "open" if is_open else "gone", "record": record})
        else:
            put(out, show.entry(record, is_open=is_open))
    if not as_json:
        put(out, show.ending(len(response.results), incomplete=response.incomplete))
    out.flush()
    return int(not response.results)


def _record_of(result: LookupResult) -> Record:
    if result.HasField("message"):
        return Record(message=result.message)
    return Record(connection=result.connection)


def watch(
    sidecar: Sidecar,
    *,
    out: BinaryIO,
    messages: BinaryIO,
    as_json: bool,
    kinds: frozenset[str],
    outcomes: tuple[str, ...] = (),
    directions: tuple[str, ...] = (),
    appliances: tuple[str, ...] = (),
) -> int:
    """Show records as they happen, until interrupted; then it returns 0. `messages`: where it says how many were left out.

    Raises:
        TransientError: there is no sidecar, or it stopped. ConfigError: it does not let us in.
    """
    wanted = RecordFilter(
        kinds=[enum_number("RecordKind", kind) for kind in sorted(kinds)],  # type: ignore[misc] # numbers are what enums are
        outcomes=[enum_number("TlsOutcome", outcome) for outcome in outcomes],  # type: ignore[misc]
        directions=[enum_number("Direction", direction) for direction in directions],  # type: ignore[misc]
        appliances=appliances,
    )
    dropped = 0
    with _channel(sidecar) as channel:
        try:
            for response in EsaTlsStub(channel).Watch(WatchRequest(filter=wanted), metadata=sidecar.metadata()):
                records = [to_dict(record) for record in response.batch.records]
                if as_json:
                    for record in records:
                        _put_json(out, record)
                    out.flush()
                else:
                    put(out, map(show.row, records), fold=False)
                if response.batch.dropped > dropped:
                    messages.write(f"{response.batch.dropped - dropped} records left out: this reader is too slow\n".encode())
                    messages.flush()
                    dropped = response.batch.dropped
        except grpc.RpcError as error:
            raise _told(error, sidecar.address) from error
        except KeyboardInterrupt:
            return 0
    raise TransientError(f"{sidecar.address}: the sidecar has ended the stream")


def _put_json(out: BinaryIO, value: dict[str, Any]) -> None:
    out.write(json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode() + b"\n")
