"""Charts as SVG, drawn by a process of its own that is there only while charts are wanted.

vl-convert holds about 80 MB once it has drawn: so much more than the sidecar that it must not stay in it. The drawing process
(`draw.py`) is started with the first chart, gets one specification after another on its standard input, and is ended when no chart was
wanted for `IDLE_S`, or when one takes longer than `DRAW_TIMEOUT_S`. What was drawn is kept by its specification, within bounds.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections import OrderedDict
from typing import Any, Final

import msgspec

from esa_tls.charts import render
from esa_tls.errors import ChartsMissing

IDLE_S: Final = 20.0
DRAW_TIMEOUT_S: Final = 20.0
MAX_KEPT: Final = 64
MAX_KEPT_BYTES: Final = 8 << 20
MAX_SVG_BYTES: Final = 4 << 20

_encode = msgspec.json.Encoder().encode


class Drawer:
    """Draws charts, one at a time. `svg` may be asked from any number of tasks; `close` ends the process."""

    def __init__(self, *, idle_s: float = IDLE_S, timeout_s: float = DRAW_TIMEOUT_S) -> None:
        self._idle_s = idle_s
        self._timeout_s = timeout_s
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._kept_bytes = 0

    @property
    def pid(self) -> int | None:
        """Of the drawing process, if there is one now."""
        return None if self._process is None else self._process.pid

    async def svg(self, spec: dict[str, Any]) -> bytes:
        """The chart. Raises ChartsMissing: the extra is not installed, or drawing failed."""
        wanted = _encode(spec)
        key = hashlib.sha256(wanted).digest()
        if (drawn := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return drawn
        render.require()
        async with self._turn:
            if (drawn := self._kept.get(key)) is not None:
                return drawn
            self._stay()
            try:
                async with asyncio.timeout(self._timeout_s):
                    drawn = await self._draw(wanted)
            except BaseException as error:
                await self._end()  # what it was asked last may still come out of it
                if isinstance(error, OSError | TimeoutError | ValueError | asyncio.IncompleteReadError):
                    raise ChartsMissing(f"the chart could not be drawn: {type(error).__name__} {error}") from error
                raise
            self._keep(key, drawn)
            self._stay()
            return drawn

    async def close(self) -> None:
        """End the process. Safe twice."""
        if self._idle is not None:
            self._idle.cancel()
        async with self._turn:
            await self._end()

    async def _draw(self, wanted: bytes) -> bytes:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "esa_tls.web.draw", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
            )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(len(wanted).to_bytes(4, "big") + wanted)
        await process.stdin.drain()
        size = int.from_bytes(await process.stdout.readexactly(4), "big")
        if not 0 < size <= MAX_SVG_BYTES:
            raise ValueError("it is no chart, or too large")
        return await process.stdout.readexactly(size)

    def _keep(self, key: bytes, drawn: bytes) -> None:
        self._kept[key] = drawn
        self._kept_bytes += len(drawn)
        while len(self._kept) > MAX_KEPT or self._kept_bytes > MAX_KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1])

    def _stay(self) -> None:
        """Let the process be for `idle_s` more."""
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(self._idle_s, self._rest)

    def _rest(self) -> None:
        if self._turn.locked():
            self._stay()
            return
        task = asyncio.get_running_loop().create_task(self.close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()
        if process.stdin is not None:
            process.stdin.close()
