"""web/compliance.py: the store's marked records, audited; a time that is up is said, and nothing else is read."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from tests.unit.store.store_cases import filed, simulated

from esa_tls.offline.audit import Audit
from esa_tls.store.query import StoreReader
from esa_tls.web import compliance
from esa_tls.web.compliance import audited


async def test_the_numbers_are_those_of_the_records(tmp_path: Path) -> None:
    """What the view counts from the store is what the same records give when they are counted one by one."""
    made = simulated(200)
    filed(tmp_path / "store.sqlite", made.rows)
    direct = Audit()
    for record in made.records:
        direct.add(record["cisco_esa"]["record"], record)
    reader = StoreReader(tmp_path / "store.sqlite")
    found = await audited(reader, since_s=None, until_s=None, appliances=frozenset())
    await reader.close()
    assert found.complete
    assert found.audit.rows() == direct.rows()
    assert len(direct.rows()) >= 2
    assert sorted(found.audit.breaches, key=repr) == sorted(direct.breaches, key=repr)


async def test_a_time_that_is_up_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are read until the time is up; then the numbers are of the latest records, and not called complete."""
    monkeypatch.setattr(compliance, "PAGE", 5)
    filed(tmp_path / "store.sqlite", simulated(200).rows)
    reader = StoreReader(tmp_path / "store.sqlite")
    ticks = itertools.count()
    found = await audited(reader, since_s=None, until_s=None, appliances=frozenset(), within_s=3, clock=lambda: float(next(ticks)))
    await reader.close()
    assert not found.complete
    assert found.records == 15
