from __future__ import annotations

import asyncio
import contextlib
import io
import time
from typing import Any

import psutil
import pytest

from esa_tls.charts import render, specs
from esa_tls.charts.specs import Bar
from esa_tls.errors import ChartsMissing
from esa_tls.web.draw import serve
from esa_tls.web.drawing import Drawer

pytestmark = pytest.mark.skipif(not render.is_available(), reason="the extra `charts` is not installed")


def chart(number: int) -> dict[str, Any]:
    """A small chart."""
    return specs.ranking([Bar("<b>one</b>", number)], title="", unit="connections")


def gone(process: psutil.Process, within_s: float = 30.0) -> bool:
    """Whether a process has ended within that time; it is reaped by the loop that started it."""
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s:
        if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


async def test_one_process_draws_all_and_goes_when_idle() -> None:
    """Charts asked for together come from one process, what was drawn is kept, and nobody wanting any the process ends."""
    drawer = Drawer(idle_s=0.3)
    try:
        first, second, again = await asyncio.gather(drawer.svg(chart(1)), drawer.svg(chart(2)), drawer.svg(chart(1)))
        pid = drawer.pid
        assert pid is not None
        assert first.startswith(b"<svg")
        assert first != second
        assert first is again
        assert b"<b>" not in first
        process = psutil.Process(pid)
        assert await asyncio.to_thread(gone, process)
        assert await drawer.svg(chart(1)) is first
        assert drawer.pid is None
        assert (await drawer.svg(chart(3))).startswith(b"<svg")
    finally:
        await drawer.close()
    assert drawer.pid is None


async def test_a_chart_that_cannot_be_drawn_is_an_error_and_the_next_is_drawn() -> None:
    """A broken specification, or one that takes too long, raises; the drawer goes on with a new process."""
    drawer = Drawer()
    try:
        with pytest.raises(ChartsMissing, match="could not be drawn"):
            await drawer.svg({"mark": 5})
        assert (await drawer.svg(chart(1))).startswith(b"<svg")
    finally:
        await drawer.close()
    hurried = Drawer(timeout_s=0.0)
    with pytest.raises(ChartsMissing, match="TimeoutError"):
        await hurried.svg(chart(2))
    await hurried.close()


async def test_the_process_that_was_killed_is_replaced() -> None:
    """Somebody ends it from outside: one chart fails at most."""
    drawer = Drawer()
    try:
        await drawer.svg(chart(1))
        assert drawer.pid is not None
        process = psutil.Process(drawer.pid)
        process.kill()
        assert await asyncio.to_thread(gone, process)
        with contextlib.suppress(ChartsMissing):
            await drawer.svg(chart(2))
        assert (await drawer.svg(chart(3))).startswith(b"<svg")
    finally:
        await drawer.close()


def test_the_drawing_process_reads_until_its_input_ends() -> None:
    """Each specification has one answer behind its length; a broken one the length 0."""
    wanted, out = io.BytesIO(), io.BytesIO()
    wanted.write(len(b"{no json").to_bytes(4, "big") + b"{no json")
    wanted.seek(0)
    serve(wanted, out)
    assert out.getvalue() == b"\0\0\0\0"
