"""From a record to its row: the columns that filters, lists and counts need. Everything else is in the record itself."""

from __future__ import annotations

from typing import NamedTuple

from esa_tls.store.parsed import Record, Tls
from esa_tls.store.words import DIRECTION, FAILURE, FLOW, KIND, OUTCOME, POSTURE, RESULT

__all__ = ["Columns", "columns_of", "id_of"]


class Columns(NamedTuple):
    """Numbers as in `words.py`; `verdict`: of messages the posture, of others the outcome. Ids are None where the record has none."""

    id_s: int
    id_hash: int
    kind: int
    time_s: int
    appliance: str
    epoch: int
    mid: int | None
    icid: int | None
    dcid: int | None
    verdict: int
    outcome: int
    direction: int
    flow: int
    clear: int
    result: int
    failure: int
    protocol: str
    cipher: str


def id_of(text: str) -> tuple[int, int]:
    """`event.id` as two numbers: its time, and 63 of the 72 bits of its hash. Raises ValueError for what is no such id."""
    if len(text) != 26:
        raise ValueError(f"{text[:40]!r} is no id of a record")
    return int(text[:8], 16), int(text[8:], 16) & 0x7FFF_FFFF_FFFF_FFFF


def columns_of(record: Record, time_s: int) -> Columns:
    """The row of a summary record. Raises ValueError for an id that is none of ours."""
    own = record.cisco_esa
    kind = KIND.get(own.record, 0)
    tls: Tls | None = own.tls
    direction, icid, dcid = own.direction, own.icid, own.dcid
    in_clear = None if tls is None else tls.in_clear
    if own.record in ("message", "consolidated"):
        reception = own.reception
        if reception is not None:
            tls, direction, icid = reception.tls, "inbound", reception.icid if icid is None else icid
        if own.clear is not None or own.posture_in == "exposed":
            in_clear = True
        elif own.posture == "encrypted":
            in_clear = False
    outcome = 0 if tls is None else OUTCOME.get(tls.outcome, 0)
    return Columns(
        *id_of(record.event.id),
        kind,
        time_s,
        own.appliance,
        own.epoch,
        own.mid,
        icid,
        dcid,
        POSTURE.get(own.posture, 0) if own.record == "message" else outcome,
        outcome,
        DIRECTION.get(direction, 0),
        FLOW.get(own.mail_flow, 0),
        0 if in_clear is None else 1 if in_clear else 2,
        0 if own.delivery is None else RESULT.get(own.delivery.result, 0),
        0 if tls is None or tls.failure is None else FAILURE.get(tls.failure.class_, 0),
        "" if tls is None else tls.protocol,
        "" if tls is None else tls.cipher,
    )
