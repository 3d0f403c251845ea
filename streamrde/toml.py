"""Write tables as TOML text. Python's tomllib only reads it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any


def dumps(tables: Mapping[str, Any]) -> str:
    """Return a TOML document of these tables. Keys whose value is None are left out, since TOML has no null."""
    lines: list[str] = []
    _table(tables, "", lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def value(item: Any) -> str:
    """Write one value on one line.

    >>> print(value({"policy": "every", "seconds": 0.5, "scale": [1, True]}))
    {policy = "every", seconds = 0.5, scale = [1, true]}
    """
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, str):
        # JSON's escapes are TOML's, but for DEL.
        return json.dumps(item, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(item, float):
        if math.isfinite(item):
            return repr(item)
        return "nan" if math.isnan(item) else "inf" if item > 0 else "-inf"
    if isinstance(item, Mapping):
        return "{" + ", ".join(f"{key(k)} = {value(v)}" for k, v in item.items() if v is not None) + "}"
    if isinstance(item, (list, tuple)):
        return "[" + ", ".join(value(v) for v in item) + "]"
    return str(item)


def key(name: str) -> str:
    """Write a key, in quotes if it needs them.

    >>> print(key("t_end"), key("Temp (C)"))
    t_end "Temp (C)"
    """
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def dotted(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as one, by dotted key.

    >>> dotted({"model": {"depth": 2}, "novelty": True})
    {'model.depth': 2, 'novelty': True}
    """
    found: dict[str, Any] = {}
    for name, value in tables.items():
        if isinstance(value, Mapping) and value:
            found |= dotted(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _table(table: Mapping[str, Any], path: str, lines: list[str]) -> None:
    inner = {name: item for name, item in table.items() if isinstance(item, Mapping)}
    plain = {name: item for name, item in table.items() if name not in inner and item is not None}
    if path and (plain or not inner):
        lines += ["", f"[{path}]"]
    lines += [f"{key(name)} = {value(item)}" for name, item in plain.items()]
    for name, item in inner.items():
        _table(item, f"{path}.{key(name)}" if path else key(name), lines)
