"""Models with random weights, for tests that need some model."""

from __future__ import annotations

import msgspec
import numpy as np

from streamrde import MLP, Bundle, Channel, Header
from streamrde.features import Block, FeatureSpec, Pool, draw
from streamrde.features.expansion import Expansion, fit_ranking
from streamrde.inference.ends import Blank
from streamrde.inference.fields import Reservoir, Stack
from streamrde.inference.stacks import RECURRENCES
from streamrde.inference.statistics import StreamStatistics


def make_bundle(seed: int = 0, **changes: object) -> Bundle:
    """A model of the header's shape with random weights; `changes` replace fields of the header."""
    header = Header(
        channels=(Channel(name="a", unit="m/s2", fill=0.25), Channel(name="b", fill=-0.5)),
        depth=3,
        hidden=8,
        outputs=3,
        field=MLP(width=16, layers=2),
        task="classification",
        labels=("x", "y", "z"),
    )
    header = msgspec.structs.replace(header, **changes)
    if size := header.field.state_size:
        header = msgspec.structs.replace(header, hidden=header.members * size, initial=Blank())
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in header.shapes().items():
        if name in ("x0.scale", "logsig.scale", "output.scale"):
            tensors[name] = rng.uniform(0.5, 1.5, size=shape)
        elif name in ("x0.shift", "token.shift", "output.shift"):
            tensors[name] = rng.normal(size=shape)
        elif name == "decay":
            tensors[name] = rng.uniform(0.1, 0.5, size=shape).astype(header.dtype)
        elif name.startswith("novelty."):
            tensors[name] = novelty_tensor(name, shape, rng)
        elif name in ("range.low", "range.high"):
            tensors[name] = np.full(shape, 3.0 if name == "range.high" else -3.0)
        else:
            tensors[name] = (rng.normal(size=shape) / shape[-1] ** 0.5).astype(header.dtype)
    return Bundle(header, tensors)


def make_statistics(
    low: tuple[float, ...] = (-2.0, -3.0), high: tuple[float, ...] = (2.0, 5.0), **changes: object
) -> StreamStatistics:
    """Statistics of some training whose channels were between `low` and `high`."""
    statistics = StreamStatistics(
        samples_per_window=(1.0, 3.0, 9.0), interval=0.3, longest_silence=3.0, first=0.0, last=9.0, low=low, high=high
    )
    return msgspec.structs.replace(statistics, **changes)


def novelty_tensor(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """What might describe the windows of some training."""
    if name == "novelty.tails":
        return np.sort(rng.exponential(10.0, size=shape), axis=1)
    if name == "novelty.log_p":
        return np.linspace(0.0, -6.0, shape[0])
    if name.startswith("novelty.axes"):
        return rng.normal(size=shape) / shape[0]
    return rng.normal(size=shape) if name == "novelty.center" else rng.uniform(0.5, 1.5, size=shape)


def make_recording(
    seed: int, length: int, channels: int = 2, *, missing: float = 0.0, t0: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Irregular times (length,) and samples (length, channels), a share of them NaN."""
    rng = np.random.default_rng(seed)
    t = t0 + np.concatenate([[0.0], rng.exponential(0.3, size=length - 1).cumsum()])
    x = rng.normal(size=(length, channels)).cumsum(axis=0) * 0.3
    x[rng.random(x.shape) < missing] = np.nan
    return t, x


def make_stack(
    kind: str = "rg_lru", seed: int = 0, *, options: dict[str, object] | None = None, **changes: object
) -> Bundle:
    """A small stack with random weights; `options` are the field's, and `changes` replace fields of the header."""
    field = Stack(**{"width": 6, "blocks": 2, "recurrence": RECURRENCES[kind](), "window": 0.8} | (options or {}))
    return make_bundle(seed, **{"field": field, "depth": 2, "clip": 3.0} | changes)


def make_reservoir(
    seed: int = 0, *, spec: FeatureSpec | None = None, expansion: Expansion | None = None, **changes: object
) -> Bundle:
    """A reservoir of the header's shape with random readout; `changes` replace fields of the header."""
    spec = spec or FeatureSpec(
        blocks=(Block(directions=9, scales=(0,)), Block(directions=20, scales=(0,))),
        pools=(Pool("share"), Pool("mean"), Pool("max"), Pool("mean", "token", 2.0)),
        seed=seed,
    )
    header = Header(
        channels=(Channel(name="a", unit="m/s2", fill=0.25), Channel(name="b", fill=-0.5)),
        depth=2,
        hidden=1,
        outputs=3,
        field=Reservoir(features=spec, expansion=expansion),
        initial=Blank(),
        clip=4.0,
        task="classification",
        labels=("x", "y", "z"),
    )
    header = msgspec.structs.replace(header, **changes)
    places, rng = header.partition.places, np.random.default_rng(seed)
    header = msgspec.structs.replace(header, hidden=spec.state_size(places))
    drawn = draw(spec, places, rng.normal(size=(100, places.size)), clip=header.clip)
    ranking = None
    if expansion is not None:
        ranking = fit_ranking(expansion, rng.normal(size=(100, spec.size(places))), seed=seed)
    tensors = {
        "x0.shift": np.zeros(header.path_channels),
        "x0.scale": np.ones(header.path_channels),
        **header.field.tensors("field", drawn, ranking),
        "output.shift": np.zeros(header.outputs),
        "output.scale": np.ones(header.outputs),
        "readout.weight": rng.normal(size=header.sizes("readout")[::-1]),
        "readout.bias": rng.normal(size=header.outputs),
    }
    return Bundle(header, tensors)
