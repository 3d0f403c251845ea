"""The cases: samples one by one, windows, batches of paths, fleets of streams."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from streamrde.bench import peers
from streamrde.bench.measuring import Case
from streamrde.bench.scales import scales
from streamrde.bench.steps import model, pushes, steps
from streamrde.inference.bundle import Bundle
from streamrde.inference.fields import MLP
from streamrde.inference.fleet import Fleet
from streamrde.signature import LogSignature, logsignature, logsignature_channels
from streamrde.windowing.policies import Count

GROUPS = ("one by one", "windows of 32", "batch", "fleet", "push", "step", "scales")
# (channels, depth) and (batch, length, channels, depth), which span all published comparisons of these libraries.
SIZES = ((2, 2), (4, 3), (8, 3), (3, 5))
BATCHES = (
    (128, 128, 4, 3),
    (32, 1024, 4, 3),
    (32, 128, 8, 3),
    (32, 128, 3, 5),
    (1, 10_000, 6, 3),
    (1024, 32, 3, 2),
)
STREAMS = (1000, 100_000)
_WINDOW = 32
_SAMPLES = 3200
_FLEET_WINDOW = 64
_FLEET_ROWS = 65_536


def cases(groups: Sequence[str] = GROUPS, *, streams: Sequence[int] = STREAMS) -> Iterator[Case]:
    """Iterate over every comparison of the given groups that the installed peers allow.

    Args:
        groups: some of GROUPS.
        streams: sizes of the fleets.
    """
    made: dict[str, Callable[[], Iterable[Case]]] = {
        "one by one": lambda: (_incremental(*size) for size in SIZES),
        "windows of 32": lambda: (_windows(*size) for size in SIZES),
        "batch": lambda: (_batch(*batch) for batch in BATCHES),
        "fleet": lambda: (_fleet(4, 3, count) for count in streams),
        "push": lambda: [pushes()],
        "step": steps,
        "scales": scales,
    }
    return chain.from_iterable(made[group]() for group in GROUPS if group in groups)


def _incremental(channels: int, depth: int) -> Case:
    """Push samples one by one and read the log-signature every 32."""
    windows = [list(window) for window in _path(_SAMPLES, channels).reshape(-1, _WINDOW, channels)]
    acc = LogSignature(channels, depth)

    def ours() -> None:
        push, value, reset = acc.push, acc.value, acc.reset
        for window in windows:
            for x in window:
                push(x)
            value()
            reset()

    engines = {"streamrde push": ours} | dict(peers.streams(channels, depth, windows))
    return Case("one by one", _size(channels, depth), "sample", _SAMPLES, engines)


def _windows(channels: int, depth: int) -> Case:
    """Compute windows of 32 samples in one call each."""
    windows = [window.copy() for window in _path(_SAMPLES, channels).reshape(-1, _WINDOW, channels)]
    engines: dict[str, Callable[[], object]] = {"streamrde push_many": partial(_push, channels, depth, windows)}
    for peer, compute in peers.whole_paths(channels, depth):
        engines[f"{peer}, recomputed"] = partial(_each, compute, windows)
    return Case("windows of 32", _size(channels, depth), "sample", _SAMPLES, engines)


def _batch(batch: int, length: int, channels: int, depth: int) -> Case:
    """Compute the log-signatures of many paths in one call."""
    paths = _path(batch * length, channels).reshape(batch, length, channels).copy()
    engines: dict[str, Callable[[], object]] = {"streamrde": partial(logsignature, paths, depth)}
    for peer, compute in peers.whole_paths(channels, depth):
        engines[peer] = partial(compute, paths)
    return Case("batch", f"{batch} x {length}, {_size(channels, depth)}", "call", 1, engines)


def _fleet(channels: int, depth: int, streams: int) -> Case:
    """Push interleaved streams through Fleet.push, with the smallest model, beside push_many of one stream."""
    rows = max(_FLEET_ROWS, streams)
    path = _path(_FLEET_ROWS, channels)
    alone = [window.copy() for window in path.reshape(-1, _FLEET_WINDOW, channels)]
    fleet = Fleet(smallest_model(channels, depth))
    names = pa.array([f"stream-{i}" for i in range(streams)])
    turn = np.arange(rows) % streams
    order = pa.DictionaryArray.from_arrays(pa.array(turn, pa.int32()), names)
    x = np.ascontiguousarray(np.resize(path[:, 1:], (rows, channels - 1)))
    clock = [0.0]

    def push() -> None:
        t = clock[0] + 1.0 + np.arange(rows) // streams
        clock[0] = float(t[-1])
        fleet.push(order, t, x)

    engines: dict[str, Callable[[], object]] = {
        "streamrde Fleet.push": push,
        "streamrde push_many": partial(_push, channels, depth, alone * (rows // _FLEET_ROWS)),
    }
    return Case("fleet", f"{streams:,} streams, {_size(channels, depth)}", "sample", rows, engines)


def _push(channels: int, depth: int, windows: list[Any]) -> None:
    acc = LogSignature(channels, depth)
    push_many, value, reset = acc.push_many, acc.value, acc.reset
    for window in windows:
        push_many(window)
        value()
        reset()


def _each(compute: peers.Compute, windows: list[Any]) -> None:
    for window in windows:
        compute(window)


def smallest_model(channels: int, depth: int) -> Bundle:
    """Return a model whose step costs next to nothing, so that everything else is measured."""
    return model(channels, depth, hidden=1, field=MLP(width=1, layers=1), windows=Count(_FLEET_WINDOW))


def _path(length: int, channels: int) -> Any:
    return np.random.default_rng(0).normal(size=(length, channels)).cumsum(axis=0) * 0.1


def _size(channels: int, depth: int) -> str:
    return f"C={channels}, N={depth} (B={logsignature_channels(channels, depth)})"
