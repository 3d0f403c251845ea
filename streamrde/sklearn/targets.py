"""Bring targets into the order of the streams."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamrde.errors import ParameterError, ShapeError
from streamrde.nearest import listed
from streamrde.sklearn.panels import Panel, Streams, is_frame


def aligned(y: Any, panel: Panel, X: Streams, estimator: str, *, name: str = "y") -> Any:
    """Return one value (or row of values) per stream, in the order of the streams.

    A Series or data frame of pandas whose index names the streams of a data frame is put into their order. Others are
    in it already.

    Raises:
        ParameterError: the index names other streams.
        ShapeError: there are more or fewer values than streams.
        ValueError: y is None.
    """
    if y is None:
        raise ValueError(
            f"{estimator} requires y to be passed, but the target y is None: give the class or number of each stream"
        )
    if is_frame(X) and hasattr(y, "reindex"):
        index = [str(own) for own in y.index]
        if sorted(index) == sorted(panel.names):
            place = {own: i for i, own in enumerate(index)}
            y = y.iloc[[place[own] for own in panel.names]]
        elif index != [str(i) for i in range(len(index))]:
            others = sorted({*index} ^ {*panel.names})
            raise ParameterError(
                f"{name}: its index and the streams of X differ in {listed(others, most=6)}; give one value per "
                "stream, with the streams' names as its index"
            )
    count = len(y) if hasattr(y, "__len__") else np.asarray(y).size
    if count != len(panel.names):
        rows = count == panel.samples and is_frame(X)
        raise ShapeError(
            f"inconsistent numbers: X has {len(panel.names):,} streams and {name} {count:,} values; give one per stream"
            + (", as frame.groupby(STREAM)[TARGET].first()" if rows else "")
        )
    return y
