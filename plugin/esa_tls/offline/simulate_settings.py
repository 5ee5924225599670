"""What can be set about a simulation, and how often each thing happens in it.

Four share tables say how often each scenario is drawn: what a connecting client does, what becomes of a received message, how a destination
host answers STARTTLS, and how one delivery attempt ends. The numbers are weights, not percentages: only their ratio counts.
A settings object names only the entries it wants to change; unknown names are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from esa_tls.errors import ConfigError

# What a client does on an ICID.
CONNECTION_SHARES: Final[Mapping[str, float]] = MappingProxyType(
    {
        "tls_success": 58.0,
        "clear": 17.0,
        "late_starttls": 2.0,
        "required_not_offered": 1.5,
        "required_after_failure": 0.7,
        "required_then_success": 0.8,
        "required_then_clear": 0.6,
        "tls_failed_no_mail": 1.5,
        "broken_after_mail": 1.5,
        "failed_after_clear_mail": 0.8,
        "lost_after_mail": 1.0,
        "lost_no_mail": 1.2,
        "lost_alone": 0.4,
        "lost_before_commands": 0.5,
        "disconnected": 0.7,
        "disconnected_alone": 0.4,
        "killed": 0.7,
        "silent": 0.6,
        "no_mail": 1.5,
        "tls_no_mail": 0.8,
        "reject": 2.0,
        "delayed_reject": 0.5,
        "tcp_refuse": 1.5,
        "connection_limit": 0.5,
        "sender_rejected": 0.8,
        "auth_required": 0.4,
        "message_too_big": 0.6,
    }
)

# What becomes of a message once MAIL FROM is accepted.
MESSAGE_SHARES: Final[Mapping[str, float]] = MappingProxyType(
    {
        "normal": 76.0,
        "receiving_aborted": 1.2,
        "aborted_before_recipients": 0.6,
        "all_recipients_rejected": 0.8,
        "dropped_by_filter": 1.2,
        "dropped_by_antivirus": 1.0,
        "bounced_by_filter": 0.6,
        "ldap_drop": 0.6,
        "split": 1.8,
        "rewritten": 1.8,
        "split_rewritten": 0.5,
        "copy": 1.5,
        "notify": 1.0,
        "spam_quarantine": 2.5,
        "quarantine_released": 1.2,
        "quarantine_deleted": 0.6,
        "outbreak_released": 0.8,
        "dns_bounce": 0.6,
        "unfinished": 0.5,
    }
)

# How a destination host takes STARTTLS.
HOST_SHARES: Final[Mapping[str, float]] = MappingProxyType(
    {
        "tls": 58.0,
        "clear": 14.0,
        "not_supported": 7.0,
        "unexpected_response": 7.0,
        "required_failing": 7.0,
        "handshake_failing": 4.0,
        "not_supported_required": 3.0,
    }
)

# How a delivery attempt (from ``Delivery start`` on) ends.
ATTEMPT_SHARES: Final[Mapping[str, float]] = MappingProxyType(
    {
        "delivered": 91.0,
        "bounced": 2.0,
        "delayed": 2.0,
        "some_bounced": 1.5,
        "some_delayed": 1.0,
        "connection_error": 1.0,
        "uncertain": 0.7,
    }
)

_LARGEST_QUARANTINE_DAYS: Final = 40.0
_LAST_RESET_START: Final = 1
_EARLIER_RESET_START: Final = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class SimulationSettings:
    """Everything that decides a simulation: the same settings give the same bytes.

    Attributes:
        seed: of every random choice; each appliance draws from its own stream, named after it.
        messages: received messages over all appliances; children and the calm stretch after a reset come on top.
        appliances: how many; they are called ``esa1`` to ``esaN`` and share nothing.
        start_s: stamp of the first line, Unix time; lines carry UTC.
        messages_per_second: over all appliances; ``span_s`` (time over which the messages arrive), when given, sets it instead.
        connection_shares: changes to ``CONNECTION_SHARES``; likewise the other three.
        hostile: share of messages and connections with text made to look like log lines.
        unknown_lines: share of messages with a line of a shape that nobody knows.
        icid_start: first ICID of every appliance; likewise ``dcid_start`` and ``mid_start``.
        id_resets: how often the counters of each appliance start low again.
        quarantine_days: longest stay in a quarantine.
        log_head: begin with connections and messages that were under way before the first line.
        form: ``file`` (``Mon Nov 24 00:00:00 2025 Info: ...``) or ``syslog`` (PRI, stamp, host = appliance, log name).
        log_name: of the syslog form; ``{appliance}`` in it is replaced.
        second_log_name: every line a second time under this name (syslog form only).
    """

    seed: int = 1
    messages: int = 1_000
    appliances: int = 1
    start_s: int = 1_763_942_400
    messages_per_second: float = 10.0
    span_s: float | None = None
    connection_shares: Mapping[str, float] = field(default_factory=dict)
    message_shares: Mapping[str, float] = field(default_factory=dict)
    host_shares: Mapping[str, float] = field(default_factory=dict)
    attempt_shares: Mapping[str, float] = field(default_factory=dict)
    hostile: float = 0.05
    unknown_lines: float = 0.01
    icid_start: int = 282_204_970
    dcid_start: int = 2_386_069
    mid_start: int = 200_257_070
    id_resets: int = 0
    quarantine_days: float = 3.0
    log_head: bool = True
    form: Literal["file", "syslog"] = "file"
    log_name: str = "mail_logs"
    second_log_name: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated.

        Raises:
            ConfigError: a value is out of range, a share has no such scenario, or two settings exclude each other.
        """
        for name in ("messages", "appliances", "icid_start", "dcid_start", "mid_start"):
            if getattr(self, name) < 1:
                raise ConfigError(f"simulate: {name} must be at least 1")
        if self.messages_per_second <= 0 or (self.span_s is not None and self.span_s <= 0):
            raise ConfigError("simulate: messages_per_second and span_s must be positive")
        if not (0.0 <= self.hostile <= 1.0 and 0.0 <= self.unknown_lines <= 1.0):
            raise ConfigError("simulate: hostile and unknown_lines are shares between 0 and 1")
        if not 0.0 < self.quarantine_days <= _LARGEST_QUARANTINE_DAYS:
            raise ConfigError(f"simulate: quarantine_days must be above 0 and at most {_LARGEST_QUARANTINE_DAYS:.0f}")
        if self.second_log_name is not None and (self.form != "syslog" or self.second_log_name == self.log_name):
            raise ConfigError("simulate: second_log_name needs the syslog form and a name of its own")
        if self.id_resets < 0:
            raise ConfigError("simulate: id_resets must not be negative")
        if self.id_resets and min(self.icid_start, self.dcid_start, self.mid_start) < 2 * reset_start(self, epoch=1) + 200:
            raise ConfigError("simulate: with id_resets the counters must start higher, or a reset would not show")
        for given, known in self._tables():
            merged_shares(given, known)

    def _tables(self) -> tuple[tuple[Mapping[str, float], Mapping[str, float]], ...]:
        return (
            (self.connection_shares, CONNECTION_SHARES),
            (self.message_shares, MESSAGE_SHARES),
            (self.host_shares, HOST_SHARES),
            (self.attempt_shares, ATTEMPT_SHARES),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The appliances' names."""
        return tuple(f"esa{n}" for n in range(1, self.appliances + 1))

    @property
    def rate(self) -> float:
        """Messages per second over all appliances."""
        return self.messages_per_second if self.span_s is None else self.messages / self.span_s


def merged_shares(given: Mapping[str, float], known: Mapping[str, float]) -> dict[str, float]:
    """The table ``known`` with the entries of ``given`` put in.

    Raises:
        ConfigError: an unknown name, a negative weight, or nothing left to draw.
    """
    for name, weight in given.items():
        if name not in known:
            raise ConfigError(f"simulate: no scenario is called {name!r}; there are {', '.join(known)}")
        if weight < 0:
            raise ConfigError(f"simulate: the share of {name!r} is negative")
    merged = {**known, **given}
    if sum(merged.values()) <= 0:
        raise ConfigError(f"simulate: all shares of {', '.join(known)} are zero")
    return merged


def reset_start(settings: SimulationSettings, *, epoch: int) -> int:
    """First id after the reset that opens ``epoch`` (1 and up).

    Each start is below half of the one before it and over 100 below (docs/correlation.md 3.8), however few ids an epoch saw; the last one
    is 1.
    """
    left = settings.id_resets - epoch
    return _LAST_RESET_START if left <= 0 else int(_EARLIER_RESET_START * 4 ** (left - 1))
