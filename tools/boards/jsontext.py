"""JSON for people: what fits on a line stands on one."""

from __future__ import annotations

import json
from typing import Any

WIDTH = 120


def json_text(value: Any, indent: int = 0, room: int = WIDTH) -> str:
    """The value, `indent` columns in; `room`: columns that are left on the line it begins on."""
    short = json.dumps(value, ensure_ascii=False)
    if len(short) <= room or not isinstance(value, dict | list) or not value:
        return short
    inner = " " * (indent + 2)
    if isinstance(value, dict):
        heads = [f"{json.dumps(key, ensure_ascii=False)}: " for key in value]
        parts = [
            head + json_text(item, indent + 2, WIDTH - indent - 2 - len(head)) for head, item in zip(heads, value.values(), strict=True)
        ]
    else:
        parts = [json_text(item, indent + 2, WIDTH - indent - 2) for item in value]
    start, end = ("{", "}") if isinstance(value, dict) else ("[", "]")
    return f"{start}\n{inner}" + f",\n{inner}".join(parts) + f"\n{' ' * indent}{end}"
