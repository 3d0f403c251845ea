"""Complete the tables of a configuration before they are read: columns, and settings that suit the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamrde.connectors.columns import ColumnKeys, merged_keys
from streamrde.fitting.inputs import DataConfig
from streamrde.settings import convert

USUAL: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "stack": {
        # Log-signatures say how a path moves, and a stack has no first state that says where it is.
        "token": {"ends": True},
        "training": {
            "weight_decay": 0.05,
            # A short memory of squares: gradients of recurrences change their size quickly.
            "betas": [0.9, 0.98],
            "warm_up": 0.15,
            "dropout": 0.1,
            "averaging": 0.95,
            "shrink": "validation",
        },
    }
}
"""Tables of settings by the field's name."""


def with_usual_settings(tables: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration's tables with what suits their field. A field may be its name alone."""
    model: Any = tables.get("model")
    if not isinstance(model, dict) or "field" not in model:
        return tables
    if isinstance(model["field"], str):
        model = model | {"field": {"field": model["field"]}}
        tables = tables | {"model": model}
    name = model["field"].get("field") if isinstance(model["field"], dict) else None
    for title, usual in USUAL.get(name, {}).items() if isinstance(name, str) else ():
        own: Any = tables.get(title, {})
        if isinstance(own, dict):
            tables = tables | {title: {**usual, **own}}
    return tables


def with_columns(tables: dict[str, Any]) -> dict[str, Any]:
    """Return the tables with [columns] in [data], and channels that are plain names written out as tables."""
    if columns := tables.get("columns"):
        convert(columns, ColumnKeys)
        merged = merged_keys(columns, tables.get("data", {}), DataConfig, "data")
        tables = {name: table for name, table in tables.items() if name != "columns"} | {"data": merged}
    data: Any = tables.get("data")
    if isinstance(data, dict) and isinstance(data.get("channels"), list | tuple):
        names = [{"name": item} if isinstance(item, str) else item for item in data["channels"]]
        return tables | {"data": data | {"channels": names}}
    return tables
