"""Sphinx configuration. Reference pages are made from the code at every build, so they cannot be out of date."""

from __future__ import annotations

import sys
from pathlib import Path

from esa_tls import __version__, reference
from esa_tls.core.fields import FIELDS
from esa_tls.wire.privacy import BECOMES, CLASS_OF, TREATMENTS
from esa_tls.wire.splunk_cim import CIM

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import rule_page  # noqa: E402 (found by the line above)

project = "esa-tls"
project_copyright = "the esa-tls contributors"
version = release = __version__

extensions = ["myst_parser", "sphinx_click"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_generated"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nitpicky = True
html_theme = "furo"
html_title = f"esa-tls {__version__}"

_generated = Path(__file__).parent / "_generated"
_generated.mkdir(exist_ok=True)
for _name, _text in {
    "configuration.md": reference.config_reference(),
    "metrics.md": reference.metrics_reference(),
    "spans.md": reference.spans_reference(),
    "records.md": reference.records_reference(FIELDS),
    "rules.md": rule_page.rule_page(ROOT / "deploy" / "rules"),
    "alerts.md": rule_page.alert_page(ROOT / "deploy" / "rules"),
    "splunk_cim.md": reference.cim_reference(CIM),
    "privacy.md": reference.privacy_reference(FIELDS, treatments=TREATMENTS, classes=CLASS_OF, becomes=BECOMES),
}.items():
    (_generated / _name).write_text(_text, encoding="utf-8")
