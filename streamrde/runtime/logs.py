"""Logs as lines for people or as JSON for machines, on standard error."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import msgspec

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
Format: TypeAlias = Literal["text", "json"]


class JsonFormatter(logging.Formatter):
    """Format records as JSON, one object per line: time (UTC), level, logger, message, and any error."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter.format`."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


@contextmanager
def logs_to_stderr(
    *, level: Level = "info", format: Format = "text", handler: logging.Handler | None = None
) -> Iterator[None]:
    """Send the package's logs, and warnings of others, to standard error while the block lasts.

    Args:
        handler: takes them in place of standard error.
    """
    handler = handler or logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter() if format == "json" else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    root = logging.getLogger()
    root.addHandler(handler)
    logging.getLogger("streamrde").setLevel(level.upper())
    try:
        yield
    finally:
        root.removeHandler(handler)
