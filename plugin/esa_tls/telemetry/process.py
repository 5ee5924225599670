"""What is measured of the process itself."""

from __future__ import annotations

import os
import time

from esa_tls.telemetry.counters import Counters
from esa_tls.telemetry.metrics import BUILD, PROCESS_CPU_TIME, PROCESS_MEMORY_USAGE, PROCESS_UPTIME

__all__ = ["watch_process"]


def watch_process(counters: Counters, *, version: str, core: str) -> None:
    """Let `counters` tell version, kind of core (`compiled` or `interpreted`), uptime, processor time and memory of this process."""
    started_s = time.monotonic()
    counters.gauge(BUILD, lambda: 1, version=version, core=core)
    counters.gauge(PROCESS_UPTIME, lambda: time.monotonic() - started_s)
    counters.gauge(PROCESS_CPU_TIME, lambda: os.times().user, cpu_mode="user")
    counters.gauge(PROCESS_CPU_TIME, lambda: os.times().system, cpu_mode="system")
    counters.gauge(PROCESS_MEMORY_USAGE, _resident_bytes)


def _resident_bytes() -> float | None:
    try:
        with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 (a Path object per reading is no gain)
            pages = int(statm.read().split()[1])
    except OSError:
        return None
    return float(pages * os.sysconf("SC_PAGE_SIZE"))
