"""From the lists of the configuration to those of the core."""

from __future__ import annotations

from esa_tls.config import RequireTls
from esa_tls.core.expected import Partner


def partners_of(settings: RequireTls) -> tuple[Partner, ...]:
    """The partners, single domains included."""
    return tuple(Partner(one.name, tuple(one.domains), tuple(one.hosts), tuple(one.networks)) for one in settings.all_partners())
