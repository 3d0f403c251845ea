"""The cases of tokens: log-signatures over the last 1 to 32 windows, and a reservoir that they drive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np

from streamrde.arrays import Reals
from streamrde.bench import peers
from streamrde.bench.measuring import Case
from streamrde.features import Block, FeatureSpec, Pool
from streamrde.inference.bundle import Bundle
from streamrde.inference.ends import Blank
from streamrde.inference.fields.reservoir import Reservoir
from streamrde.inference.fleet import Fleet
from streamrde.inference.header import Channel, Header
from streamrde.inference.predictor import Predictor
from streamrde.kernels import join, log_words, path_signatures
from streamrde.signature import logsignature, logsignature_channels
from streamrde.signature.words import word_indices
from streamrde.windowing import Count, Every, logsig_windows
from streamrde.windowing.tokens import Scale, Token

SCALES = (1, 2, 4, 8, 16, 32)
CHANNELS, DEPTH, WINDOW = 4, 3, 8
"""Numbers of channels of the path with time and of log-signatures, and of samples in a window."""
_WINDOWS = 512
_STREAMS = 64
_PUSHES = 256


def scales() -> Iterator[Case]:
    """Time tokens of recorded paths beside other ways to them, then live windows of a reservoir."""
    yield _tokens()
    yield _live()


def _tokens() -> Case:
    """Compute the log-signatures over the last m windows, for all windows of a path and six m."""
    rng = np.random.default_rng(0)
    length = _WINDOWS * WINDOW + 1
    t = np.arange(length) * 0.01
    x = np.column_stack([t, rng.normal(size=(length, CHANNELS - 1)).cumsum(axis=0) * 0.1])
    policy = Count(WINDOW)

    def ours() -> object:
        return logsig_windows(t, x, DEPTH, policy, scales=SCALES)

    def windows_alone() -> object:
        return logsig_windows(t, x, DEPTH, policy)

    def products() -> list[Any]:
        """Multiply the m signatures of each range, all ranges at once."""
        own = path_signatures(_ranges(x, 1), DEPTH, None)[1]
        return [_product(own, m) for m in SCALES]

    def recomputed() -> list[Any]:
        return [logsignature(_ranges(x, m), DEPTH) for m in SCALES]

    engines: dict[str, Callable[[], object]] = {
        "streamrde logsig_windows": ours,
        "streamrde, each window alone": windows_alone,
        "streamrde, products of m windows": products,
        "streamrde, recomputed from samples": recomputed,
    }
    if peers.installed("signatory"):
        engines["signatory Path"] = _signatory(x)
    for peer, compute in peers.whole_paths(CHANNELS, DEPTH):
        engines[f"{peer}, recomputed"] = lambda compute=compute: [compute(_ranges(x, m)) for m in SCALES]  # type: ignore[misc]
    size = logsignature_channels(CHANNELS, DEPTH)
    name = f"C={CHANNELS}, N={DEPTH}, six scales to 32 (B={len(SCALES)} x {size})"
    return Case("scales", name, "window", _WINDOWS, engines)


def _ranges(x: Any, m: int) -> Any:
    """Return the paths over the last m windows, those that have as many, (K - m + 1, m WINDOW + 1, C)."""
    every = np.lib.stride_tricks.sliding_window_view(x, m * WINDOW + 1, axis=0)[::WINDOW]
    return np.ascontiguousarray(every.transpose(0, 2, 1))


def _product(own: Any, m: int) -> Any:
    total, count = own[: len(own) - m + 1], len(own) - m + 1
    for i in range(1, m):
        total = join(np.ascontiguousarray(total), np.ascontiguousarray(own[i : i + count]), CHANNELS, DEPTH)
    return log_words(np.ascontiguousarray(total), CHANNELS, DEPTH, word_indices(CHANNELS, DEPTH))


def _signatory(x: Any) -> Callable[[], object]:
    """Ask signatory's Path for each range: it multiplies by an inverse."""
    import signatory
    import torch

    points = torch.from_numpy(x)[None]

    def run() -> object:
        path = signatory.Path(points, DEPTH)
        return [
            path.logsignature(k * WINDOW, (k + m) * WINDOW + 1, mode="words")
            for m in SCALES
            for k in range(_WINDOWS - m + 1)
        ]

    return run


def _live() -> Case:
    """Push samples that close a window each into a reservoir with 2,400 random features and six classes."""
    bundle = reservoir()
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(_PUSHES, CHANNELS - 1)).cumsum(axis=0) * 0.1
    predictor, samples, clock = Predictor(bundle), list(rows), [0.0]

    def one() -> None:
        push, t = predictor.push, clock[0]
        for x in samples:
            t += 0.1
            push(t, x)
        clock[0] = t

    fleet, names, at = Fleet(bundle), [f"s{i}" for i in range(_STREAMS)], [0.0]
    calls = rows.reshape(-1, _STREAMS, CHANNELS - 1)

    def many() -> None:
        for x in calls:
            at[0] += 0.1
            fleet.push(names, np.full(_STREAMS, at[0]), x)

    stepper, state = Predictor(bundle)._table.states.stepper, np.zeros((1, bundle.header.hidden))
    tokens, slots = rng.normal(size=(_PUSHES, 1, bundle.header.logsig_channels)), np.zeros(1, np.intp)

    def pools() -> None:
        for token in tokens:
            stepper.advance(state, slots, token, read=True)  # type: ignore[attr-defined]

    engines: dict[str, Callable[[], object]] = {
        "streamrde Predictor.push": one,
        f"streamrde Fleet.push, {_STREAMS} streams": many,
        "streamrde, pools and readout alone": pools,
    }
    features = bundle.header.field.readout_inputs(bundle.header)
    return Case("scales", f"live, 2,400 random features ({features:,} pooled)", "window", _PUSHES, engines)


def reservoir(directions: int = 400, outputs: int = 6) -> Bundle:
    """Return a reservoir with six scales and random weights, as large as `fit` makes them."""
    spec = FeatureSpec(
        blocks=tuple(Block(directions=directions, scales=(i,), ends=True) for i in range(len(SCALES))),
        pools=(Pool("share"), Pool("mean"), Pool("max"), Pool("mean", "token")),
    )
    header = Header(
        channels=tuple(Channel(name=f"x{i}") for i in range(1, CHANNELS)),
        depth=DEPTH,
        hidden=1,
        outputs=outputs,
        field=Reservoir(features=spec),
        initial=Blank(),
        clip=8.0,
        windows=Every(0.1),
        token=Token(scales=tuple(Scale(m) for m in SCALES), ends=True),
        task="classification",
    )
    header = msgspec.structs.replace(header, hidden=spec.state_size(header.partition.places))
    rng = np.random.default_rng(0)
    tensors: dict[str, Reals] = {}
    for name, shape in header.shapes().items():
        dtype = np.float32 if name.startswith("field.") else np.float64
        own = rng.normal(size=shape) / shape[-1] ** 0.5
        tensors[name] = (np.ones(shape) if name.endswith("scale") else own).astype(dtype)
    return Bundle(header, tensors)
