"""Units in which times are counted, and numbers of them as float64 seconds."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamrde.arrays import Floats


class Unit(NamedTuple):
    """A unit of time: n units are ``(n - zero) * length / rate`` seconds since 1970, or since the times' origin."""

    rate: int
    """Units per second, where a second is the longer of the two."""
    length: int
    """Seconds per unit, where the unit is the longer of the two."""
    zero: int
    """The unit's number at the start of 1970, where it counts from a fixed day."""
    name: str
    """Plural, for messages."""

    @property
    def seconds(self) -> float:
        """Length of the unit in seconds."""
        return self.length / self.rate


# 25569 is the day number of 1970-01-01 where 1900-01-01 is day 1 and 1900 is taken for a leap year, as Excel does.
UNITS = {
    "s": Unit(1, 1, 0, "seconds"),
    "ms": Unit(10**3, 1, 0, "milliseconds"),
    "us": Unit(10**6, 1, 0, "microseconds"),
    "ns": Unit(10**9, 1, 0, "nanoseconds"),
    "min": Unit(1, 60, 0, "minutes"),
    "h": Unit(1, 3600, 0, "hours"),
    "d": Unit(1, 86400, 0, "days"),
    "excel": Unit(1, 86400, 25569, "Excel day numbers"),
}

# Up to here float64 holds every integer, and tick / rate is the float64 nearest to the true time.
_EXACT = 2**53


def to_seconds(ticks: NDArray[np.generic], unit: str) -> Floats:
    """Convert numbers of a unit to float64 seconds.

    The result is the float64 nearest to the true time for |ticks| <= 2**53 and within one unit in the last place
    beyond, where whole seconds and the remainder are converted apart. The spacing of float64 is 0.24 us at today's
    seconds since 1970: nanosecond timestamps closer than that fall on the same time.

    Args:
        ticks: any shape, an integer or floating dtype.
        unit: a key of UNITS.
    """
    rate, length, zero, _ = UNITS[unit]
    if zero or length > 1:
        # Subtract the day first: the rest keeps all digits of the number.
        left: Floats = np.subtract(ticks, zero, dtype=np.float64) * length
        return left
    seconds: Floats = np.true_divide(ticks, rate, dtype=np.float64)
    if rate > 1 and np.issubdtype(ticks.dtype, np.integer):
        large = np.abs(seconds) > _EXACT / rate
        if large.any():
            whole, rest = np.divmod(ticks[large], rate)
            seconds[large] = whole.astype(np.float64) + rest.astype(np.float64) / rate
    return seconds


def number_seconds(number: float, unit: Unit) -> float:
    """Return one number of a unit as seconds. A Python integer is divided exactly and rounded once."""
    if unit.length > 1:
        return float(number - unit.zero) * unit.length
    return number / unit.rate


def to_ticks(seconds: float, unit: Unit) -> int | float:
    """Return seconds as a number of a unit.

    If float64 would round ticks more coarsely than seconds, the number is a whole one.
    """
    if unit.length > 1:
        return seconds / unit.length + unit.zero
    ticks = seconds * unit.rate
    return ticks if unit.rate == 1 or abs(ticks) < _EXACT else round(Fraction(seconds) * unit.rate)
