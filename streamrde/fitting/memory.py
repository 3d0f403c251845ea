"""Say how much memory a fit may use, and how much it needs."""

from __future__ import annotations

import os
import re
from pathlib import Path

from streamrde.errors import ParameterError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_LEAST = 1 << 20
_CONTROL_GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")

# A value in memory is 8 bytes. It stands in the batches read, in their union and in the recordings.
_COPIES = 4
STREAM_BYTES = 600_000
"""Bytes of a stream's tokens, of its features and of their copies while readouts are compared."""


def usual_memory() -> int:
    """Return a quarter of the memory that this process can have, bytes."""
    bounds = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else [8 << 30]
    for path in map(Path, _CONTROL_GROUPS):
        text = path.read_text().strip() if path.is_file() else "max"
        bounds += [int(text)] if text.isdigit() else []
    return max(_LEAST, min(bounds) // 4)


def as_memory(memory: int | str | None) -> int:
    """Return a number of bytes from one, from text such as "2GB" or "512MiB", or `usual_memory` from None.

    Raises:
        ParameterError: it is no such text, or less than 1 MiB.
    """
    if memory is None:
        return usual_memory()
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]?i?)b?\s*", str(memory).lower())
    size = int(float(found[1]) * _UNITS[found[2]]) if found and found[2] in _UNITS else 0
    if size < _LEAST:
        raise ParameterError(f"memory={memory!r}: give a size of at least 1MiB, such as 512MB or 2GB")
    return size


def rows_bytes(rows: int, columns: int) -> int:
    """Return the bytes that recordings take while they are read."""
    return rows * columns * 8 * _COPIES
