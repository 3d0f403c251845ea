"""From a partition and an order to the compiled loop."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from streamrde.arrays import Floats, Indices
from streamrde.kernels.layout import check_numbers
from streamrde.signature.words import word_indices
from streamrde.windowing import pulses, resonators
from streamrde.windowing.order import Order
from streamrde.windowing.policies import built_in
from streamrde.windowing.rows import Layout

if TYPE_CHECKING:
    from streamrde.kernels._native import Loop

_DUPLICATES = ("error", "first", "last")
check_numbers("Duplicates", {name: number for number, name in enumerate(_DUPLICATES)})


def compiled_loop(
    kind: type[Loop] | None, layout: Layout, width: int, order: Order, restart_after: int = 0
) -> Loop | None:
    """Make the compiled twin of `ReferenceLoop`, or return None if there is none for this window policy.

    Args:
        kind: `kernels.Loop`.
        width: columns of the table's rows, at least those of the layout.
        restart_after: late rows in a row with which a stream's time begins again; 0: never.
    """
    partition = layout.partition
    windows, missing = partition.windows, partition.missing
    channels, depth = partition.path_channels, partition.depth
    numbers = windows.numbers(channels, depth) if kind is not None and built_in(windows) else None
    if kind is None or numbers is None:
        return None
    return kind(
        (width, layout.x.start, layout.seen.start, layout.signature.start),
        (partition.channels, partition.time, missing.counts, missing.elapsed, depth),
        word_indices(channels, depth),
        np.array(partition.fills, dtype=np.float64),
        (str(windows.__struct_config__.tag), numbers),
        (partition.hold, partition.longest_gap, partition.holds, partition.carry, partition.resumes),
        (missing.wait_samples, math.inf if missing.wait_seconds is None else missing.wait_seconds),
        (
            order.lateness,
            order.lateness_samples,
            order.max_held,
            _DUPLICATES.index(order.duplicates),
            order.merge,
            restart_after,
        ),
        _token(layout),
    )


def _token(
    layout: Layout,
) -> tuple[int, int, int, int, bool, bool, Floats, Floats, Indices, Indices, tuple[Indices, ...]]:
    """Return what the compiled loop is told of a token: its places in the row, its parts, and each scale's words."""
    partition, parts = layout.partition, layout.parts
    token, channels = partition.token, partition.path_channels
    depths = token.depths(partition.depth)
    place = {part.windows: i for i, part in enumerate(parts)}
    scales = [
        (-1 if scale.windows == 1 else place[scale.windows], depth)
        for scale, depth in zip(token.scales, depths, strict=True)
    ]
    return (
        layout.rings.start,
        layout.sums.start,
        layout.waves.start,
        layout.pulses.start,
        token.ends,
        token.summaries,
        resonators.speeds(token.bands) if token.bands else np.zeros((3, 1)),
        pulses.speeds(token.pulses) if token.pulses else np.zeros((3, 1)),
        np.array([part[1:] for part in parts], np.intp).reshape(len(parts), -1 if parts else 7),
        np.array(scales, np.intp),
        tuple(word_indices(channels, depth) for depth in depths),
    )
