"""esa-tls: joins the mail log lines of Cisco ESA appliances and says of each mail whether it went under TLS."""

from __future__ import annotations

__version__ = "0.1.0"
