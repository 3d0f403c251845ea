"""Summarise each channel's observations in one pass and constant memory (Welford 1962)."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from streamrde.arrays import Bools, Floats
from streamrde.kernels.layout import check_numbers
from streamrde.windowing.tokens import SUMMARIES


class Sum(IntEnum):
    """Columns of a channel's sums. Times are seconds since its first observation, but for `BEGAN` and `ENDED`."""

    COUNT = 0
    FIRST = 1
    LAST = 2
    MEAN = 3
    SQUARES = 4
    LEAST = 5
    GREATEST = 6
    BEGAN = 7
    ENDED = 8
    MEAN_TIME = 9
    TIME_SQUARES = 10
    PRODUCTS = 11


check_numbers("Sum", Sum.__members__)


def add_sample(sums: Floats, t: float, x: Floats, observed: Bools) -> None:
    """Take a sample's observed channels into the sums, (channels, len(Sum)), in place."""
    own, value = sums[observed], x[observed]
    new = own[:, Sum.COUNT] == 0
    own[new] = 0.0
    for column in (Sum.FIRST, Sum.LEAST, Sum.GREATEST):
        own[new, column] = value[new]
    own[new, Sum.BEGAN] = t
    own[:, Sum.COUNT] += 1
    elapsed = t - own[:, Sum.BEGAN]
    dx, dt = value - own[:, Sum.MEAN], elapsed - own[:, Sum.MEAN_TIME]
    own[:, Sum.MEAN] += dx / own[:, Sum.COUNT]
    own[:, Sum.MEAN_TIME] += dt / own[:, Sum.COUNT]
    own[:, Sum.SQUARES] += dx * (value - own[:, Sum.MEAN])
    own[:, Sum.TIME_SQUARES] += dt * (elapsed - own[:, Sum.MEAN_TIME])
    own[:, Sum.PRODUCTS] += dx * (elapsed - own[:, Sum.MEAN_TIME])
    own[:, Sum.LEAST] = np.minimum(own[:, Sum.LEAST], value)
    own[:, Sum.GREATEST] = np.maximum(own[:, Sum.GREATEST], value)
    own[:, Sum.LAST], own[:, Sum.ENDED] = value, t
    sums[observed] = own


def read(sums: Floats, t: float) -> Floats:
    """Return the summaries at time t, (channels x len(SUMMARIES),). The slope of a single observation is 0."""
    count, moved = sums[:, Sum.COUNT], sums[:, Sum.TIME_SQUARES] > 0
    out = np.full((len(sums), len(SUMMARIES)), np.nan)
    for place, column in enumerate((Sum.COUNT, Sum.FIRST, Sum.LAST, Sum.MEAN, Sum.LEAST, Sum.GREATEST)):
        out[:, place] = sums[:, column]
    out[:, 6] = np.sqrt(sums[:, Sum.SQUARES] / np.maximum(count, 1))
    out[:, 7] = np.where(moved, sums[:, Sum.PRODUCTS] / np.where(moved, sums[:, Sum.TIME_SQUARES], 1), 0.0)
    out[:, 8] = np.maximum(t - sums[:, Sum.ENDED], 0.0)
    out[count == 0, 1:] = np.nan
    return out.ravel()
