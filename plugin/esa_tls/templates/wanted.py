"""What somebody may wish of a store's templates, how to get into the store, and what came of it."""

from __future__ import annotations

import msgspec

from esa_tls.config import ClientTls, Secret
from esa_tls.errors import ConfigError


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Wishes; None = not said, the store's module has a default. A store has no use for some of them: `only` says so."""

    lifecycle: str | None = None
    retention_days: int | None = None
    shards: int | None = None
    replicas: int | None = None
    store_version: str | None = None
    topic: str | None = None
    partitions: int | None = None
    replication_factor: int | None = None

    def only(self, store: str, *uses: str) -> None:
        """Raise ConfigError for a wish that is none of `uses`."""
        for name in self.__struct_fields__:
            if name not in uses and getattr(self, name) is not None:
                raise ConfigError(f"templates: --{name.replace('_', '-')} is not for {store}")


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How to get in. `tls` None = the address says whether (`https://`), with the system's authorities."""

    tls: ClientTls | None = None
    api_key: Secret | None = None
    username: str | None = None
    password: Secret | None = None


class Applied(msgspec.Struct):
    """What was done, each as a sentence: `done`, and `missing`: what this store cannot do, and what follows from that."""

    done: list[str] = msgspec.field(default_factory=list)
    missing: list[str] = msgspec.field(default_factory=list)
