"""The drawing process of `drawing.py`: specifications on standard input, SVG on standard output.

Each stands behind its length (4 bytes, big-endian). A chart that cannot be drawn is a length of 0. It ends with its input.
"""

from __future__ import annotations

import sys
from typing import BinaryIO

import msgspec

from esa_tls.charts import render


def serve(wanted: BinaryIO, out: BinaryIO) -> None:
    """Draw until `wanted` ends."""
    while len(size := wanted.read(4)) == 4:
        spec = wanted.read(int.from_bytes(size, "big"))
        try:
            drawn = render.svg(msgspec.json.decode(spec)).encode()
        except ValueError:
            drawn = b""
        out.write(len(drawn).to_bytes(4, "big") + drawn)
        out.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
