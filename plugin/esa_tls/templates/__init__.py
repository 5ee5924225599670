"""`esa-tls templates STORE`: what a store has to be told before records come: mappings, lifecycle, limits, topics.

Rules of this package:

1. A store is a module with `text(wanted)`: what an administrator would put in by hand, in the form that the store takes it (JSON, YAML),
   and, where the store has an interface for it, `apply(url, wanted, access)`, which puts it in. Both make the same of the same `wanted`.
2. Fields come from `core/fields.py` and constants from `wire/constants.py`: no field is spelt here.
3. Applying twice does no harm, and what an administrator may have made of his own is never touched.
4. What a store cannot do is told in words (`Applied.missing`), and everything else is done all the same.

`printed` and `applied` have the one `match` over the stores.
"""

from __future__ import annotations

from esa_tls.errors import ConfigError
from esa_tls.templates import elasticsearch, elasticsearch_apply, kafka, loki
from esa_tls.templates.wanted import Access, Applied, Wanted

__all__ = ["STORES", "Access", "Applied", "Wanted", "applied", "printed"]

STORES = ("elasticsearch", "opensearch", "kafka", "loki")
"""What the command knows."""


def printed(store: str, wanted: Wanted) -> str:
    """What the store has to be told, as text that ends with a line feed. Raises ConfigError for a wish that it has no use for."""
    match store:
        case "elasticsearch" | "opensearch":
            return elasticsearch.text(store, wanted)
        case "kafka":
            return kafka.text(wanted)
        case "loki":
            return loki.text(wanted)
        case _:
            raise ConfigError(f"templates: there is no store {store!r}; known are {', '.join(STORES)}")


def applied(store: str, url: str, wanted: Wanted, access: Access) -> Applied:
    """Tell the store at `url` and return what was done. Raises ConfigError, or TransientError if it cannot be reached or refuses."""
    match store:
        case "elasticsearch" | "opensearch":
            return elasticsearch_apply.apply(store, url, wanted, access)
        case "kafka":
            raise ConfigError("templates: kafka has no --apply; run the commands that are printed without it")
        case "loki":
            raise ConfigError("templates: loki has no --apply; put what is printed without it into its configuration file")
        case _:
            raise ConfigError(f"templates: there is no store {store!r}; known are {', '.join(STORES)}")
