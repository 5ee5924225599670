"""Fixtures of the end-to-end tests: sidecars are processes, and every one of them is ended by its pid."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.e2e.receiver import Receiver
from tests.e2e.sidecar import Sidecars


@pytest.fixture
def sidecars() -> Iterator[Sidecars]:
    """Starts sidecars."""
    started = Sidecars()
    yield started
    started.end()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A Forward server that does not listen yet."""
    made = Receiver()
    yield made
    made.stop()
