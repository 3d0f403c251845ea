"""Times of any unit as float64 seconds."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamrde.errors import ParameterError

TICKS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

# Up to here float64 holds every integer, and tick / rate is the float64 nearest to the true time.
_EXACT = 2**53


def to_seconds(ticks: NDArray[np.generic], unit: str) -> NDArray[np.float64]:
    """Numbers of ticks as seconds, float64.

    The result is the float64 nearest to the true time for |ticks| <= 2**53 and within one unit in the last place
    beyond, where whole seconds and the remainder are converted apart. The spacing of float64 is 0.24 us at today's
    seconds since 1970: nanosecond timestamps closer than that fall on the same time.

    Args:
        ticks: any shape, an integer or floating dtype.
        unit: a key of TICKS_PER_SECOND.
    """
    rate = TICKS_PER_SECOND[unit]
    seconds: NDArray[np.float64] = np.true_divide(ticks, rate, dtype=np.float64)
    if rate > 1 and np.issubdtype(ticks.dtype, np.integer):
        large = np.abs(seconds) > _EXACT / rate
        if large.any():
            whole, rest = np.divmod(ticks[large], rate)
            seconds[large] = whole.astype(np.float64) + rest.astype(np.float64) / rate
    return seconds


def zero_seconds(zero: str) -> float:
    """The moment from which times are counted, ISO 8601, in seconds since 1970; UTC where it names no zone.

    >>> zero_seconds("2000-01-01T00:00:00Z")
    946684800.0

    Raises:
        ParameterError: it is no such moment.
    """
    try:
        moment = datetime.fromisoformat(zero)
    except ValueError:
        raise ParameterError(f"time_zero = {zero!r}: give a date and time, such as '2000-01-01T00:00:00Z'") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def arrow_seconds(times: pa.Array, unit: str) -> NDArray[np.float64]:
    """A column of times as float64 seconds: since 1970 for timestamps and dates, since the file's zero otherwise.

    Args:
        times: timestamp (with zone or without), date, duration, integer, floating or decimal; without nulls.
        unit: unit of the numbers in a numeric column; the other types carry theirs.
    Raises:
        TypeError: the column has another type.
    """
    kind = times.type
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
        return to_seconds(times.cast(pa.int64()).to_numpy(), kind.unit)
    if pa.types.is_date(kind):
        return to_seconds(times.cast(pa.timestamp("ms")).cast(pa.int64()).to_numpy(), "ms")
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return to_seconds(times.to_numpy(), unit)
    if pa.types.is_decimal(kind):
        return to_seconds(times.cast(pa.float64()).to_numpy(), unit)
    raise TypeError(f"{kind} is no time")
