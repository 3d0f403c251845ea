"""Take the rows of Datasets of xarray."""

from __future__ import annotations

from typing import Any


def as_rows(data: Any) -> Any:
    """Return a Dataset of xarray as a data frame with a row per point of its dimensions, and others as they are.

    A single dimension that is called "index" numbers the rows and is left out.
    """
    if not (hasattr(data, "data_vars") and hasattr(data, "to_dataframe")):
        return data
    return data.to_dataframe().reset_index(drop=list(data.sizes) == ["index"])
