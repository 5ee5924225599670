"""How the sidecar's log looks: one sentence and the fields given as `extra`, as text on standard error or as a map for Fluent Forward."""

from __future__ import annotations

import logging
from collections.abc import Iterator

_RECORDS_OWN = frozenset(logging.LogRecord("", 0, "", 0, "", None, None).__dict__) | {"message", "asctime", "taskName"}


def extra_fields(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    """Names and values given as `extra`."""
    return ((name, value) for name, value in record.__dict__.items() if name not in _RECORDS_OWN)


class LineFormatter(logging.Formatter):
    """Behind the sentence come the fields: `Sink failed. sink='es' error='...'`."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the name is logging's)
        """The line without a traceback."""
        fields = "".join(f" {name}={value!r}" for name, value in extra_fields(record))
        return super().formatMessage(record) + fields


class MapFormatter(logging.Formatter):
    """A map instead of a text, which fluent-logger's handler sends as it is: `message`, `level`, `logger`, the fields, and a traceback."""

    def format(self, record: logging.LogRecord) -> dict[str, object]:  # type: ignore[override]
        """The map; values that msgpack does not know become texts."""
        told: dict[str, object] = {"message": record.getMessage(), "level": record.levelname.lower(), "logger": record.name}
        told.update((name, value if isinstance(value, str | int | float | bool) else str(value)) for name, value in extra_fields(record))
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return told
