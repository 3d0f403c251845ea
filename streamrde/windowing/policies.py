"""Window policies: how a stream's time is cut into windows. A property of the model, stored with it."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import msgspec

from streamrde.errors import ParameterError

Interpolation: TypeAlias = Literal["linear", "hold"]


class Every(msgspec.Struct, frozen=True, tag="every", tag_field="policy", forbid_unknown_fields=True):
    """Windows of equal duration: edges at ``origin + k * seconds``.

    Args:
        seconds: duration of a window, > 0.
        align: ``"first"`` puts the origin at the stream's first sample (the windows of torchcde.logsig_windows);
            ``"epoch"`` puts it at time 0, so that the edges of all streams fall on the same wall-clock times and a
            stream's first window is short.
    """

    seconds: float
    align: Literal["first", "epoch"] = "first"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise ParameterError(f"Every(seconds={self.seconds}): a window's duration must be finite and > 0 seconds")
        if self.align not in ("first", "epoch"):
            raise ParameterError(f"Every(align={self.align!r}): use 'first' or 'epoch'")


class Count(msgspec.Struct, frozen=True, tag="count", tag_field="policy", forbid_unknown_fields=True):
    """Windows of `n` increments each: window k runs from sample k*n to sample (k+1)*n.

    Args:
        n: increments per window, >= 1.
    """

    n: int

    def __post_init__(self) -> None:
        if not (isinstance(self.n, int) and self.n >= 1):
            raise ParameterError(f"Count(n={self.n}): a window needs a whole number of increments, at least 1")


Windows: TypeAlias = Every | Count


def check_interpolation(interpolation: str) -> None:
    """Raise ParameterError unless `interpolation` is one that exists."""
    if interpolation not in ("linear", "hold"):
        raise ParameterError(f"interpolation={interpolation!r}: use 'linear' or 'hold'")
