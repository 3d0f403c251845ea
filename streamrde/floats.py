"""float64 arrays from what users hand in."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamrde.errors import SampleError


def as_floats(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Values as a float64 array; raise SampleError where one is no real number, complex ones included."""
    try:
        array = np.asarray(values)
        if array.dtype.kind == "c":
            raise TypeError("it is complex")
        return np.asarray(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SampleError(
            f"{name} has a value that is not a number ({error}); convert it, or use NaN for one not observed"
        ) from None
