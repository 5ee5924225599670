"""Limits and schema for Grafana Loki, as parts of its configuration file (docs/wires.md 4.2).

Loki has no interface for either: they are put into its file by hand. The limits are those that records of ours need or run into; all others
stay what they are. `allow_structured_metadata` wants the schema v13 on tsdb.
"""

from __future__ import annotations

import yaml

from esa_tls.templates.wanted import Wanted
from esa_tls.wire.loki_entries import DEFAULT_MAX_LINE_BYTES
from esa_tls.wire.loki_metadata import MAX_METADATA_BYTES, MAX_METADATA_ENTRIES

DEFAULT_RETENTION_DAYS = 90

SCHEMA_FROM = "2024-04-01"
"""The first day of the schema: of a Loki that is new. An older one gets a further entry, from a day that is still to come."""

_KIB = 1024

HEAD = """\
# For Loki 3.0 or newer, into its configuration file. Where the file has one of these keys, put the lines below it.
"""

LIMITS = """\
# Of the tenant that records are stored for; the same keys may stand under its name in the runtime configuration's `overrides`.
"""

SCHEMA = """\
# Structured metadata needs schema v13 on tsdb. If there are entries already, add this one with a day that is still to come.
"""

RETENTION = """\
# Without a compactor that does it nothing is ever deleted. `filesystem` is for a single binary; name your object store else.
"""


def text(wanted: Wanted) -> str:
    """The parts, with a word on each."""
    wanted.only("loki", "retention_days")
    return "\n".join([
        HEAD,
        LIMITS + _yaml({"limits_config": limits(wanted)}),
        SCHEMA + _yaml({"schema_config": schema()}),
        RETENTION + _yaml({"compactor": compactor()}),
    ])  # fmt: skip


def limits(wanted: Wanted) -> dict[str, object]:
    """`limits_config`."""
    days = DEFAULT_RETENTION_DAYS if wanted.retention_days is None else wanted.retention_days
    return {
        "allow_structured_metadata": True,
        "max_structured_metadata_size": f"{MAX_METADATA_BYTES // _KIB}KB",
        "max_structured_metadata_entries_count": MAX_METADATA_ENTRIES,
        "max_line_size": f"{DEFAULT_MAX_LINE_BYTES // _KIB}KB",
        # A store that was away is sent everything since: what is older than this becomes a dead letter.
        "reject_old_samples": True,
        "reject_old_samples_max_age": f"{min(days, 30) * 24}h",
        # A record counts with about 530 bytes in the mean: room for 30,000 a second, and for twice as many after the store was away.
        "ingestion_rate_mb": 16,
        "ingestion_burst_size_mb": 32,
        "per_stream_rate_limit": "16MB",
        "per_stream_rate_limit_burst": "32MB",
        # Lines have no level that Loki should guess.
        "discover_log_levels": False,
        "retention_period": f"{days * 24}h",
    }


def schema() -> dict[str, object]:
    """`schema_config`."""
    index = {"prefix": "index_", "period": "24h"}
    return {"configs": [{"from": SCHEMA_FROM, "store": "tsdb", "object_store": "filesystem", "schema": "v13", "index": index}]}


def compactor() -> dict[str, object]:
    """`compactor`."""
    return {"working_directory": "/loki/compactor", "retention_enabled": True, "delete_request_store": "filesystem"}


def _yaml(part: dict[str, object]) -> str:
    return str(yaml.safe_dump(part, sort_keys=False, default_flow_style=False))
