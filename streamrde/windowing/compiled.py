"""What the compiled loop is told: the numbers behind a partition and an order."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from streamrde.kernels.layout import check_numbers
from streamrde.signature.words import word_indices
from streamrde.windowing.norms import norm_limits
from streamrde.windowing.order import Order
from streamrde.windowing.policies import Adaptive, Count, Every, window_length
from streamrde.windowing.rows import Layout

if TYPE_CHECKING:
    from streamrde.kernels._native import Loop

_DUPLICATES = ("error", "first", "last")
check_numbers("Duplicates", {name: number for number, name in enumerate(_DUPLICATES)})
check_numbers("Policy", {"every": 0, "count": 1, "adaptive": 2})


def compiled_loop(
    kind: type[Loop] | None, layout: Layout, width: int, order: Order, restart_after: int = 0
) -> Loop | None:
    """The compiled twin of `ReferenceLoop`; None where it was not built, or does not know the window policy.

    Args:
        kind: `kernels.Loop`.
        width: columns of the table's rows, at least those of the layout.
        restart_after: late rows in a row with which a stream's time begins again; 0: never.
    """
    partition = layout.partition
    windows, missing = partition.windows, partition.missing
    if kind is None or not partition.time or not isinstance(windows, Every | Count | Adaptive):
        return None
    channels, depth = partition.path_channels, partition.depth
    return kind(
        (width, layout.x.start, layout.seen.start, layout.signature.start),
        (partition.channels, missing.counts, missing.elapsed, depth),
        word_indices(channels, depth),
        np.ascontiguousarray(norm_limits(windows, channels, depth) if isinstance(windows, Adaptive) else np.empty(0)),
        np.array(partition.fills, dtype=np.float64),
        (
            (Every, Count, Adaptive).index(type(windows)),
            window_length(windows),
            isinstance(windows, Every) and windows.align == "epoch",
            windows.n if isinstance(windows, Count) else 0,
            windows.min_seconds * (1 - 1e-9) if isinstance(windows, Adaptive) else 0.0,
            partition.hold,
        ),
        (partition.longest_gap, partition.holds, partition.carry, partition.resumes),
        (missing.wait_samples, math.inf if missing.wait_seconds is None else missing.wait_seconds),
        (
            order.lateness,
            order.lateness_samples,
            order.max_held,
            _DUPLICATES.index(order.duplicates),
            order.merge,
            restart_after,
        ),
    )
