"""What is the same on every record of a kind, and therefore on none of them (docs/selection.md, "Constants").

Elasticsearch and OpenSearch have it from their index templates; a sink that is told so puts it on every record.
"""

from __future__ import annotations

from collections.abc import Mapping

from esa_tls.core.records import SCHEMA_VERSION

__all__ = ["CONSTANTS", "ECS_VERSION", "constants_of", "dataset_of"]

ECS_VERSION = "9.5.0"
"""The version of the Elastic Common Schema whose names and types the records have."""

CONSTANTS: Mapping[str, str | int] = {
    "event.kind": "event",
    "event.module": "cisco_esa",
    "observer.vendor": "Cisco",
    "observer.product": "Secure Email Gateway",
    "observer.type": "email-gateway",
    "network.transport": "tcp",
    "network.protocol": "smtp",
    "ecs.version": ECS_VERSION,
    "cisco_esa.schema_version": SCHEMA_VERSION,
}
"""By dotted path: those that do not depend on the kind."""


def dataset_of(kind: str) -> str:
    """`event.dataset` of a kind of records: `cisco_esa.delivery`."""
    return f"cisco_esa.{kind}"


def constants_of(kind: str) -> dict[str, str | int]:
    """All constants of a kind of records, by dotted path."""
    return {**CONSTANTS, "event.dataset": dataset_of(kind)}
