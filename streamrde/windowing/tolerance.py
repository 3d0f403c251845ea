"""The rounding that every comparison of a time with a window's edge allows for."""

from __future__ import annotations

import sys


def edge_tolerance(length: float, t0: float, t: float) -> float:
    """Return how far from an edge a time still is the edge, in seconds.

    Times are float64 and so carry a rounding error of their own: 2e-7 s at unix times. 0.3 / 0.1 must be 3, or
    t = [0, .1, .2, .3] would have four windows of 0.1 (it has, in torchcde 0.2.5).

    Args:
        length: duration of a window, 0 where windows have none.
        t0, t: the times of the samples that are compared.
    """
    return 1e-9 * length + 4 * sys.float_info.epsilon * max(abs(t0), abs(t))
