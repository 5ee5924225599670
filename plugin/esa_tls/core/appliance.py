"""One appliance: its epoch, its clock, its counters, and whether its feed is unbroken."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from esa_tls.core.clock import Clock

RESET_MARGIN: Final = 100
RESET_WITNESSES: Final = 20
"""A lower id is a reset only if the next 20 ids of its kind are low as well: one line out of order is none."""
RESET_TIME_SLACK_S: Final = 300


class Appliance(msgspec.Struct):
    """What is kept of an appliance between groups (and restarts).

    `high`: highest id seen per kind (I, D, M). `low_run`: ids in a row in the low range, per kind. `break_s`: appliance time at which
    the feed was last not unbroken, `disorder_s`: the same but for starts of ours; None = never. `breaking`: why, while no
    line has come since: the break lies between the last line before it and the first after it. `log_names`: names of log subscriptions,
    numbered by their place here.
    `lag_s`: how far deadlines stay behind the clock, because lines wait that long to be put in order. `candidate`: the record of a line
    whose stamp is far ahead of the clock; the next line decides whether it is `bad_time`, and only then it has any effect.
    """

    name: str
    epoch: int = 0
    sequence: int = 0
    clock: Clock = msgspec.field(default_factory=Clock)
    high: dict[str, int] = {}
    low_run: dict[str, int] = {}
    break_s: int | None = None
    disorder_s: int | None = None
    breaking: str | None = None
    log_names: list[str] = []
    lag_s: int = 0
    candidate: Any = None
    hostname: str | None = None
    version: str | None = None
    serial_number: str | None = None

    def note_id(self, kind: str, number: int, stamp_s: int) -> bool:
        """An id-creating line (`New SMTP ICID`, `New SMTP DCID`, `Start MID`). True = the counters were reset: a new epoch has begun.

        `high` itself is kept by the entries; here only the run of low ids is counted.
        """
        high = self.high.get(kind, -1)
        if number * 2 >= high or high - number <= RESET_MARGIN:
            if kind in self.low_run:
                del self.low_run[kind]
            return False
        time_s = self.clock.time_s
        if time_s is not None and stamp_s < time_s - RESET_TIME_SLACK_S:
            return False
        run = self.low_run.get(kind, 0) + 1
        self.low_run[kind] = run
        return run > RESET_WITNESSES

    def begin_epoch(self) -> None:
        """The counters started low again: all keys change."""
        self.epoch += 1
        self.high.clear()
        self.low_run.clear()

    def observer(self) -> dict[str, str]:
        """ECS `observer.*` as far as known."""
        return {
            name: value
            for name, value in (("hostname", self.hostname), ("serial_number", self.serial_number), ("version", self.version))
            if value
        }
