"""Values that no sensor of a channel can have measured: overloads, codes for "no value", numbers in another unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np

from streamrde.arrays import Bools, Floats
from streamrde.errors import ParameterError
from streamrde.inference.header import Header

ABSURD = 1e29
"""Nothing that is measured is so large. 1e30, 9.9e37 and float32's largest number are codes for "no value"."""
_VAST = 1e15
"""If nothing is known of a channel, numbers up to this one are not even compared with the codes below."""
SENTINELS = np.array(
    sorted(
        {
            sign * value
            for sign in (-1.0, 1.0)
            for value in (
                *(10.0**n - 1 for n in range(3, 10)),  # 999, 9999, ...
                *(float(f"{'9' * n}.{'9' * k}") for n in range(3, 7) for k in (1, 2, 3)),
                *(float(np.float32(f"{'9' * n}.{'9' * k}")) for n in range(3, 7) for k in (1, 2, 3)),
                999.25,  # logs of wells
                *(2.0**n - 1 for n in (15, 16, 31, 32)),
                *(2.0**n for n in (15, 31)),
                1e15,
                1e20,  # climate models
                float(np.float32(1e20)),
            )
        }
    )
)
"""Numbers that loggers and converters write for "no value". They count as such only far from a channel's range."""


class Plausible(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of plausible values, by channel. A value outside of them is not used as it is.

    A channel's limits are its entry in `limits`. Without one they lie `ranges` sizes beyond the range that the model's
    training had, its size being the larger of its width and its largest magnitude. Between one width beyond the range
    and there, only numbers that loggers write for "no value" (-9999, 32767, ...) are implausible. If the model does
    not know its training's range, only absurd values are implausible: 1e29 and more.

    Args:
        limits: smallest and largest plausible value by channel, in the model's units.
        ranges: multiple of training's range, at least 1. 0: training's range is not used.
        otherwise: treatment of an implausible value: "missing" (as not observed), "reject" its row (as with an infinite
            value), or "use" it.
    """

    limits: Mapping[str, tuple[float, float]] = msgspec.field(default_factory=dict)
    ranges: Annotated[float, msgspec.Meta(ge=0)] = 10.0
    otherwise: Literal["missing", "reject", "use"] = "missing"

    def __post_init__(self) -> None:
        if self.otherwise not in ("missing", "reject", "use"):
            raise ParameterError(f"otherwise={self.otherwise!r}: use 'missing', 'reject' or 'use'")
        if self.ranges != 0 and not self.ranges >= 1:
            raise ParameterError(f"ranges={self.ranges}: give a number of at least 1, or 0 for no limits by training")
        for name, limits in self.limits.items():
            if len(limits) != 2 or not limits[0] < limits[1]:
                raise ParameterError(f"limits of {name!r} are {tuple(limits)}: give the smallest and the largest value")

    def bounds(self, header: Header) -> Bounds:
        """Return the limits of a model's channels.

        Raises:
            ParameterError: the model has no channel of a name in `limits`.
        """
        names = [channel.name for channel in header.channels]
        if unknown := [name for name in self.limits if name not in names]:
            raise ParameterError(
                f"limits: the model has no channel {unknown[0]!r}; its channels are {', '.join(names)}"
            )
        table = np.array([[-ABSURD, ABSURD, -_VAST, _VAST]] * len(names)).T.copy()
        known = np.zeros(len(names), np.bool_)
        statistics = header.statistics if self.ranges else None
        for i, name in enumerate(names):
            if name in self.limits:
                table[:, i] = (*self.limits[name], *self.limits[name])
            elif statistics is not None and statistics.low[i] < statistics.high[i]:
                low, high = statistics.low[i], statistics.high[i]
                size, known[i] = max(high - low, abs(low), abs(high)), True
                beyond, width = self.ranges * size, max(high - low, 0.1 * size)
                table[:, i] = low - beyond, high + beyond, low - width, high + width
        return Bounds(np.clip(table, -ABSURD, ABSURD), known)


class Bounds(NamedTuple):
    """Limits of a model's channels."""

    table: Floats
    """Low, high, near low, near high of each channel, (4, channels). See `kernels.observe`."""
    known: Bools
    """Which channels' limits come from training, (channels,)."""

    def near(self, x: Floats) -> bool:
        """Return False if a value is outside of the near limits. NaN is inside."""
        return not ((x < self.table[2]) | (x > self.table[3])).any()

    def implausible(self, x: Floats) -> Bools:
        """Return which values are implausible. Infinite ones are not among them, for no path can pass through these."""
        low, high, near_low, near_high = self.table
        far = (x < near_low) | (x > near_high)
        return np.asarray(np.isfinite(x) & ((x < low) | (x > high) | (far & np.isin(x, SENTINELS))))
