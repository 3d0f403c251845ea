"""What commands print for scripts."""

from __future__ import annotations

from typing import Any

import msgspec


def print_json(value: Any) -> None:
    """One JSON object on a line."""
    print(msgspec.json.encode(value).decode())
