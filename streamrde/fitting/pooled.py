"""Build models that are a linear readout of pooled features: their header, their features of examples, their bundle."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from streamrde.arrays import Floats, Reals
from streamrde.features import Drawn, FeatureSpec, Pooling, pool_streams
from streamrde.features.expansion import Expansion, Ranking
from streamrde.fitting.examples import Candidate, Examples, tokens_of
from streamrde.fitting.readout import Readout
from streamrde.fitting.ridge import Linear
from streamrde.inference.bundle import Bundle
from streamrde.inference.ends import Blank
from streamrde.inference.fields.reservoir import Reservoir
from streamrde.inference.header import Channel, Header
from streamrde.inference.statistics import bridge_of
from streamrde.windowing.partition import BRIDGE, Partition
from streamrde.windowing.policies import Windows
from streamrde.windowing.tokens import Token

_TOGETHER = 1 << 24
"""Numbers of tokens, about, that are in memory at once, 128 MB."""


class Pooled(NamedTuple):
    """The features of all rows of truth, and what makes them."""

    header: Header
    """Its field is a reservoir, without an expansion."""
    drawn: Drawn
    features: Floats
    """(n, P)"""

    @property
    def spec(self) -> FeatureSpec:
        """Return what is pooled."""
        return reservoir_of(self.header).features


def reservoir_of(header: Header) -> Reservoir:
    """Return the field of a header from `header_for`."""
    assert isinstance(header.field, Reservoir)  # noqa: S101 (as `header_for` makes it)
    return header.field


def header_for(
    examples: Examples,
    spec: FeatureSpec,
    *,
    windows: Windows,
    token: Token,
    depth: int,
    clip: float = 8.0,
    linear_from: float = 0.98,
) -> Header:
    """Return the header of a model of pooled features.

    Args:
        linear_from: share of values that must be observed for linear interpolation. Below, values are held.
    """
    fills, share = examples.observed
    header = Header(
        channels=tuple(Channel(name=n, fill=float(f)) for n, f in zip(examples.channels, fills, strict=True)),
        depth=depth,
        hidden=1,
        outputs=len(examples.labels) or examples.truth.shape[1],
        field=Reservoir(features=spec),
        initial=Blank(),
        clip=clip,
        windows=windows,
        token=token,
        interpolation="linear" if share > linear_from else "hold",
        # The windows of rows along streams were made with it.
        bridge=bridge_of([r.t for r in examples.recordings], windows) if examples.along else BRIDGE,
        task="classification" if examples.labels else "regression",
        labels=examples.labels or examples.targets,
        target_at="window" if examples.along else "stream",
        horizon=examples.horizon,
    )
    return with_features(header, spec)


def with_features(header: Header, spec: FeatureSpec) -> Header:
    """Return the header with other features of the same tokens."""
    hidden = spec.state_size(header.partition.places)
    return msgspec.structs.replace(header, field=Reservoir(features=spec), hidden=hidden)


def slim(pooled: Pooled) -> Pooled:
    """Return the same with tokens that end where the last part ends that a pool keeps: pulses come last, then bands."""
    kept = {pool.of for pool in pooled.spec.pools}
    header, drawn, token = pooled.header, pooled.drawn, pooled.header.token
    if "pulses" not in kept:
        token = msgspec.structs.replace(token, pulses=None)
        if not kept & {"rates", "shares"}:
            token = msgspec.structs.replace(token, bands=None)
    header = msgspec.structs.replace(header, token=token)
    size = header.partition.token_size
    return pooled._replace(header=header, drawn=drawn._replace(shift=drawn.shift[:size], scale=drawn.scale[:size]))


def features_of(examples: Examples, pooling: Pooling, partition: Partition) -> Floats:
    """Return the pooled features of all rows, (n, P), as `features.pool_streams` does, some streams at a time."""
    found = np.empty((len(examples.truth), pooling.size))
    numbers = np.cumsum([windows_of(r.t, partition) for r in examples.recordings]) * partition.token_size
    for part in np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(numbers // _TOGETHER)) + 1):
        first, last = np.searchsorted(examples.stream, (part[0], part[-1] + 1))
        tokens = tokens_of(examples.of_streams(part), partition)
        found[first:last] = pool_streams(pooling, tokens.values, tokens.stops, at=tokens.at)
    return found


def windows_of(t: Floats, partition: Partition) -> float:
    """Return the number of a stream's windows, about. Long silences make fewer."""
    length = partition.windows.length
    return 1 + float(t[-1] - t[0]) / length if length else float(len(t))


def candidate(
    name: str, pooled: Pooled, readout: Readout, *, expanded: tuple[Expansion, Ranking] | None = None, kind: str = ""
) -> Candidate:
    """Return a model that may be chosen.

    Args:
        expanded: what the readout reads instead of the features.
        kind: as of `Candidate`.
    """

    def build(linear: Linear) -> Bundle:
        return as_bundle(pooled, linear, expanded)

    return Candidate(
        name,
        readout.held_out,
        readout.losses,
        lambda: build(readout.linear),
        lambda fold: build(readout.without(fold)),
        kind,
    )


def as_bundle(pooled: Pooled, linear: Linear, expanded: tuple[Expansion, Ranking] | None = None) -> Bundle:
    """Return the model with a linear readout. Arguments are as of `candidate`."""
    header, field = pooled.header, reservoir_of(pooled.header)
    expansion, ranking = expanded or (None, None)
    if expansion is not None:
        field = msgspec.structs.replace(field, expansion=expansion)
        header = msgspec.structs.replace(header, field=field)
    tensors: dict[str, Reals] = {
        "x0.shift": np.zeros(header.path_channels),
        "x0.scale": np.ones(header.path_channels),
        **field.tensors("field", pooled.drawn, ranking),
        "output.shift": np.zeros(header.outputs),
        "output.scale": np.ones(header.outputs),
        **readout_tensors(linear),
    }
    return Bundle(header, tensors)


def readout_tensors(linear: Linear) -> dict[str, Reals]:
    """Return the tensors of a linear readout, in rows, as kernels read them and as a file would have them."""
    return {"readout.weight": np.ascontiguousarray(linear.weight.T), "readout.bias": linear.bias}
