"""Print results for scripts."""

from __future__ import annotations

from typing import Any

import msgspec


def print_json(value: Any) -> None:
    """Print one JSON object on a line."""
    print(msgspec.json.encode(value).decode())
