"""Times as callers of the Python API hand them in."""

from __future__ import annotations

import math
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from streamrde.arrays import Floats
from streamrde.errors import ParameterError, SampleError
from streamrde.floats import as_floats
from streamrde.times.forms import TimeForm, numpy_seconds, object_seconds
from streamrde.times.texts import NotATimeError


def as_times(name: str, values: ArrayLike | pa.Array) -> Floats:
    """Return times as float64 seconds. Numbers are seconds. Dates and texts count from 1970.

    Masked and missing values become NaN, as NaT does.

    Raises:
        SampleError: a value is not a time.
    """
    if type(values) is np.ndarray and values.dtype == np.float64:
        return values
    try:
        if isinstance(values, pa.Array | pa.ChunkedArray) and not values.null_count:
            whole = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
            return TimeForm().column(whole)
        array = np.asarray(values)
        if array.dtype.kind in "mM":
            seconds = numpy_seconds(array)
            return np.where(values.mask, np.nan, seconds) if isinstance(values, np.ma.MaskedArray) else seconds
        if array.dtype.kind == "U" or (array.dtype.kind == "O" and any(map(_is_date, array.ravel().tolist()))):
            flat = [object_seconds(value) for value in array.ravel().tolist()]
            return np.array(flat, dtype=np.float64).reshape(array.shape)
    except (NotATimeError, TypeError, ValueError, OverflowError) as error:
        raise SampleError(f"{name} has a value that is not a time ({error}); give seconds, or datetime64") from None
    return as_floats(name, values)


def _is_date(value: object) -> bool:
    return isinstance(value, str | date | timedelta | np.datetime64 | np.timedelta64) or hasattr(value, "to_datetime64")


def as_time(t: Any) -> float:
    """Return one time as finite float64 seconds. See `as_times`.

    Raises:
        ParameterError: it is not finite, or not a time.
    """
    try:
        seconds = float(t) if isinstance(t, float | int) else float(as_times("t", np.asarray(t))[()])
    except (SampleError, TypeError, OverflowError) as error:
        raise ParameterError(f"t={t!r} is not a time ({error}); give seconds, or a datetime64") from None
    if not math.isfinite(seconds):
        raise ParameterError(f"t={t}: a time must be finite, in seconds")
    return seconds
