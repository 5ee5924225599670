"""Templates into text. Everything is escaped (`autoescape`), and a name that was not given is an error, not an empty text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from esa_tls.charts.specs import COLOURS
from esa_tls.offline.terminal import printable

VIEWS: Final = (("/", "Overview"), ("/search", "Search"), ("/compliance", "Compliance"), ("/live", "Live"), ("/health", "Health"))


class Templates:
    """The templates of `templates/`. `log_out`: there is a login to end."""

    def __init__(self, *, version: str, log_out: bool) -> None:
        self._environment = Environment(
            loader=PackageLoader("esa_tls.web", "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters["shown"] = printable
        self._environment.filters["number"] = lambda number: f"{number:,}"
        self._environment.globals.update(version=version, log_out=log_out, views=VIEWS, tones=frozenset(COLOURS))

    def render(self, name: str, values: Mapping[str, object]) -> str:
        """The page made of `templates/<name>.html.j2`."""
        return self._environment.get_template(f"{name}.html.j2").render(values)
