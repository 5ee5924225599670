"""How much property tests try: a little each time, a thousand times as much in `make nightly`."""

from __future__ import annotations

import os

from hypothesis import settings

NIGHTLY = bool(os.environ.get("ESA_TLS_NIGHTLY"))
TIMES = 1_000 if NIGHTLY else 1


def examples(number: int) -> settings:
    """Settings of a property test that wants `number` examples each time. Without them Hypothesis's hundred, scaled the same way."""
    return settings(max_examples=number * TIMES)
