"""Pictures of Vega-Lite specifications, made offline by vl-convert: no browser, no JavaScript on the page, nothing fetched.

vl-convert is an extra (`pip install esa-tls[charts]`): it weighs 84 MB on disk and 78 MB of memory in the process that draws.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Final

from esa_tls.errors import ChartsMissing

VEGALITE_VERSION: Final = "6.4"


def is_available() -> bool:
    """Whether the extra is installed. Costs no import of it."""
    return importlib.util.find_spec("vl_convert") is not None


def require() -> None:
    """Raises ChartsMissing if nothing can be drawn here."""
    if not is_available():
        raise ChartsMissing("pictures need the extra `charts`: pip install 'esa-tls[charts]'")


def svg(spec: dict[str, Any]) -> str:
    """The chart as SVG; texts in it are escaped. The first takes about 0.5 s, others 50 ms. Raises ImportError, ValueError."""
    import vl_convert  # noqa: PLC0415 (see the module)

    drawn: str = vl_convert.vegalite_to_svg(spec, vl_version=VEGALITE_VERSION, allowed_base_urls=[])
    return drawn


def png(spec: dict[str, Any], *, scale: float = 2.0) -> bytes:
    """The chart as PNG on white; `scale` 2 looks sharp on dense screens. Raises ImportError, ValueError."""
    import vl_convert  # noqa: PLC0415 (see the module)

    drawn: bytes = vl_convert.vegalite_to_png(
        {**spec, "background": "white"}, vl_version=VEGALITE_VERSION, scale=scale, allowed_base_urls=[]
    )
    return drawn
