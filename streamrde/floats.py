"""Numbers from what users hand in: float64 arrays, and sizes."""

from __future__ import annotations

import operator
import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamrde.arrays import Floats
from streamrde.errors import ParameterError, SampleError


def as_floats(name: str, values: ArrayLike) -> Floats:
    """Return values as a float64 array, masked and missing ones (None, pandas.NA, Arrow nulls) as NaN.

    Raises:
        SampleError: a value is not a real number, or the values are complex or a tensor that needs a gradient.
    """
    try:
        values = _unmasked(values)
        array = np.asarray(values)
        if array.dtype.kind == "c":
            raise TypeError("it is complex")
        if array.dtype.kind == "O":
            array = _without_missing(array)
        return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise SampleError(
            f"{name} has a value that is not a number ({error}); convert it, or use NaN for one not observed"
        ) from None


def as_size(name: str, value: Any, *, least: int = 1) -> int:
    """Return a size as an int, from an int of Python or NumPy. Raise ParameterError below `least` and for all else."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        size = operator.index(value)
    except TypeError:
        size = least - 1
    if size < least:
        raise ParameterError(f"{name}={value!r}: must be a whole number of at least {least}")
    return size


def as_plain(value: Any) -> Any:
    """Return numbers of NumPy as Python's, and paths as text. It is msgspec's hook for types that it does not know."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{value!r} is {type(value).__name__}: use plain numbers, texts, lists and tables")


def swapped(axes: str, given: tuple[int, ...]) -> str:
    """Return the hint to give the transpose of an array whose last two axes look swapped."""
    turned = (*given[:-2], given[-1], given[-2])
    return f"the axes look swapped: give {axes}.swapaxes(-1, -2), of shape {turned}"


def _unmasked(values: Any) -> Any:
    """Return masked arrays, also as rows of a list, with NaN where they are masked."""
    if isinstance(values, np.ma.MaskedArray):
        if values.dtype.kind in "biuf":
            return np.ma.filled(values.astype(np.float64), np.nan)
        plain = np.array(values.data, dtype=object)
        plain[np.broadcast_to(np.asarray(values.mask, dtype=bool), values.shape)] = None
        return plain
    if isinstance(values, list | tuple) and any(isinstance(row, np.ma.MaskedArray) for row in values):
        return [_unmasked(row) for row in values]
    return values


def _without_missing(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of objects with None for the missing values of pandas, which float() refuses."""
    missing = [type(value).__name__ in ("NAType", "NaTType") for value in array.flat]
    if any(missing):
        array = array.copy()
        array[np.reshape(missing, array.shape)] = None
    return array
