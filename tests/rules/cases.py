"""What each rule of deploy/rules has to find in its data.

The data: `data/<rule>/positive.log` and `negative.log`, and beside each the records that `esa-tls scan` makes of it (`.jsonl`), which is
what the stores get.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import yaml

from esa_tls.core.fields import FIELDS

Record = dict[str, Any]

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "rules"
DATA = Path(__file__).parent / "data"
SIDES = ("positive", "negative")

EVENTS: dict[str, tuple[str, ...]] = {
    "esa_tls_clear_to_must_have_tls_domain": (
        "delivery MID 9001 DCID 7001",
        "delivery MID 9002 DCID 7002",
        "delivery MID 9003 DCID 7003",
        "delivery MID 9004 DCID 7005",
        "delivery MID 9005 DCID 7006",
    ),
    "esa_tls_clear_after_failed_starttls": (
        "delivery MID 9001 DCID 7001",
        "delivery MID 9002 DCID 7002",
        "delivery MID 9003 DCID 7003",
    ),
    "esa_tls_mail_blocked_by_tls": (
        "delivery MID 9001 DCID 7001",
        "delivery MID 9002 DCID 7002",
        "delivery MID 9003 DCID 7004",
    ),
    "esa_tls_certificate_or_dane_failure": (
        "connection DCID/7001",
        "connection DCID/7002",
        "connection ICID/5002",
        "consolidated MID 81",
    ),
    "esa_tls_obsolete_protocol_or_weak_cipher": (*(f"connection DCID/{7001 + n}" for n in range(17)), "connection ICID/5001"),
    "esa_tls_delivery_under_tls": ("delivery MID 9001 DCID 7001", "delivery MID 9002 DCID 7002"),
    "esa_tls_delivery_in_clear": (
        "delivery MID 9001 DCID 7001",
        "delivery MID 9002 DCID 7002",
        "delivery MID 9003 DCID 7003",
    ),
    "esa_tls_inbound_clear_from_tls_sender_group": ("message MID 9001", "message MID 9002", "message MID 9003"),
    "esa_tls_unrecognised_line": ("line 13", "line 21"),
    "esa_tls_delivery_unknown": ("delivery MID 9001 DCID 7001",),
    "esa_tls_message_exposed_in_part": ("message MID 9001", "message MID 9002", "message MID 9003"),
}
"""Rules on single events -> the records that they find in their positive data, all of them."""

COUNTS: dict[str, tuple[str, str, int]] = {
    "esa_tls_required_not_reached_repeatedly": ("cisco_esa.delivery.domains", "vault.example", 5),
    "esa_tls_unrecognised_lines_rise": ("cisco_esa.appliance", "unrecognised_lines_rise.positive", 104),
    "esa_tls_unknown_outcomes_rise": ("cisco_esa.appliance", "unknown_outcomes_rise.positive", 21),
}
"""Rules that count -> by which field, the one value of it that they tell at the end of their positive data, and how many."""

BASELINE = "esa_tls_partner_stopped_using_tls"
"""The rule that looks at 30 days."""
BASELINE_EVENTS = ("delivery MID 9048 DCID 7048", "delivery MID 9049 DCID 7049")

WITH_LINES = frozenset(
    {
        "esa_tls_certificate_or_dane_failure",
        "esa_tls_clear_after_failed_starttls",
        "esa_tls_delivery_in_clear",
        "esa_tls_delivery_under_tls",
        "esa_tls_inbound_clear_from_tls_sender_group",
        "esa_tls_unrecognised_line",
        "esa_tls_unrecognised_lines_rise",
    }
)
"""Data sets that have `line` records too, which carry the same TLS facts as the summaries; others would only be larger by them."""

DELIVERIES_ONLY = frozenset({"esa_tls_partner_stopped_using_tls", "esa_tls_unknown_outcomes_rise"})
"""The largest data sets, of one kind of record."""

ALL = (*EVENTS, *COUNTS, BASELINE)


def appliance_of(rule: str, side: str) -> str:
    """Whose data it is: a name for each set, so that sets lie in one store and no record is in two of them."""
    return f"{rule.removeprefix('esa_tls_')}.{side}"


def kinds_of(rule: str) -> str:
    """The kinds of records in its data, as `scan --records` takes them."""
    if rule in DELIVERIES_ONLY:
        return "delivery"
    return "connection,delivery,message,consolidated" + (",line" if rule in WITH_LINES else "")


@cache
def records_of(rule: str, side: str) -> list[Record]:
    """A data set."""
    return [msgspec.json.decode(line) for line in (DATA / rule / f"{side}.jsonl").read_bytes().splitlines()]


def label_of(record: Record) -> str:
    """What a record is about, e.g. `delivery MID 9001 DCID 7001`; unlike its id it can be read."""
    own = record["cisco_esa"]
    match own["record"]:
        case "line":
            return f"line {record['event']['sequence']}"
        case "connection":
            return "connection " + str(own["connection"]["id"]).split("/", 2)[2]
        case "delivery":
            return f"delivery MID {own['mid']} DCID {own['dcid']}"
        case kind:
            return f"{kind} MID {own['mid']}"


def labels_of(rule: str, side: str, event_ids: Iterable[str]) -> list[str]:
    """What was found, in order; an id that is none of this data set is an error."""
    labels = {record["event"]["id"]: label_of(record) for record in records_of(rule, side)}
    return sorted(labels[event_id] for event_id in event_ids)


def times_of(rule: str, side: str) -> list[str]:
    """Every time at which a rule that counts may be asked in this data: just after each record."""
    stamps = sorted({record["@timestamp"] for record in records_of(rule, side)})
    return [(datetime.fromisoformat(stamp) + timedelta(seconds=1)).isoformat().replace("+00:00", "Z") for stamp in stamps]


def query_of(folder: str, rule: str) -> str:
    """The one file of a rule in a folder below deploy/rules, such as `converted/lucene`."""
    (path,) = (RULES / folder).glob(f"{rule}.*")
    return path.read_text(encoding="utf-8")


def sigma_rules() -> dict[str, dict[str, Any]]:
    """Name -> the rule as it stands in its Sigma file."""
    paths = sorted((RULES / "sigma").glob("*.yml"))
    return {rule["name"]: rule for path in paths for rule in yaml.safe_load_all(path.read_text(encoding="utf-8"))}


def value_at(record: Record, path: str) -> Any:
    """The value at a dotted path; None if it is absent."""
    found: Any = record
    for name in path.split("."):
        if not isinstance(found, dict) or name not in found:
            return None
        found = found[name]
    return found


def loki_streams(records: Iterable[Record]) -> list[dict[str, object]]:
    """Records as Loki's push protocol carries them from us: labels, a line, every other field as structured metadata by its full name."""
    streams: list[dict[str, object]] = []
    for record in records:
        own, seconds = record["cisco_esa"], datetime.fromisoformat(record["@timestamp"]).timestamp()
        metadata = {
            field.path.replace(".", "_"): value if isinstance(value, str) else msgspec.json.encode(value).decode()
            for field in FIELDS
            if field.path not in LOKI_LEFT_OUT and (value := value_at(record, field.path)) is not None
        }
        line = record["event"].get("original", label_of(record))
        time_ns = str(int(seconds) * 1_000_000_000 + record["event"]["sequence"])
        labels = {"service_name": "esa-tls", "appliance": own["appliance"], "kind": own["record"]}
        streams.append({"stream": labels, "values": [[time_ns, line, metadata]]})
    return streams


LOKI_LEFT_OUT = frozenset(
    {"@timestamp", "event.created", "event.original", "host.name", "cisco_esa.record", "cisco_esa.appliance"}
    | {field.path for field in FIELDS if field.type == "nested" or ".deliveries." in field.path or ".recipients." in field.path}
)
"""Fields that are no metadata: the time, the line, labels, lists of objects, and when it was received."""
