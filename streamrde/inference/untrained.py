"""Reservoirs that begin without any training, and learn their whole readout from labels on the stream."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec
import numpy as np

from streamrde.adapting.settings import MOST_INPUTS, Learned
from streamrde.arrays import Floats, Reals
from streamrde.errors import ParameterError
from streamrde.features import Block, FeatureSpec, Pool, draw
from streamrde.features.drawing import CLIP, SAMPLE
from streamrde.floats import as_size
from streamrde.inference.bundle import Bundle
from streamrde.inference.ends import Blank
from streamrde.inference.fields import Reservoir
from streamrde.inference.header import Channel, Header
from streamrde.signature.words import lyndon_words
from streamrde.windowing.policies import WindowPolicy
from streamrde.windowing.tokens import Token

Scales: TypeAlias = Sequence[str] | Mapping[str, tuple[float, float]]

# In units of the targets' variance. Weights of 0 say nothing yet: the prior is wider than that of a correction. Found
# on random walks and oscillations, whose levels, changes and tempo were to be predicted. Ten times as much matters
# little.
_NOISE, _PRIOR = 0.1, 3.0
_WINDOWS = 10_000.0  # after which what was learned counts little
_HALF_LIFE = 8.0  # windows


def reservoir(
    channels: Scales,
    *,
    windows: WindowPolicy,
    targets: Scales = (),
    classes: Sequence[str] = (),
    depth: int = 2,
    directions: int = 32,
    horizon: float = 0.0,
    seed: int = 0,
) -> Bundle:
    """Make a reservoir without training: random features of the windows' log-signatures, and a readout of zeros.

    It predicts the targets' centres, or all classes alike, until a `Fleet` with ``adapt=`` brings it labels. Then each
    stream, or with `Adapt.share` all of them together, learns the readout: a Kalman filter on the pooled features.
    Nothing needs recorded data but the spreads of channels and targets, about which a factor of three matters little.

    Args:
        channels: data channels in the order of x: their names, for values of order one, or centre and spread by name.
        windows: rule that cuts the streams, such as ``Every(1.0)``.
        targets: numbers to predict, as `channels`.
        classes: names of the classes to predict, in the place of targets.
        depth: of the log-signatures.
        directions: number of random features of a window. The readout has about twice as many inputs, and the numbers
            of a stream's state grow with their square.
        horizon: seconds by which the targets lie ahead of their windows.
        seed: of the random features.
    Raises:
        ParameterError: neither or both of targets and classes are given, a spread is not positive, or there are more
            features than a readout on the stream takes (512).
    Reference: Cuchiero et al. 2021, "Discrete-time signatures and randomness in reservoir computing".
    """
    if bool(targets) == bool(classes):
        raise ParameterError("reservoir: give targets, the names of the numbers to predict, or classes")
    if len(classes) == 1:
        raise ParameterError(f"classes={list(classes)}: give two or more")
    given, wanted = _scales("channels", channels), _scales("targets", targets)
    last, mean = Pool("last"), Pool("mean", half_life=_HALF_LIFE)
    block = Block(directions=as_size("directions", directions), scales=(0,), ends=True, low=0.2, high=0.8)
    pools = (last, mean, *(msgspec.structs.replace(pool, of="token") for pool in (last, mean)))
    field = Reservoir(features=FeatureSpec(blocks=(block,), pools=pools, seed=seed))
    header = Header(
        channels=tuple(Channel(name=name, fill=centre) for name, (centre, _) in given.items()),
        depth=depth,
        hidden=1,
        outputs=len(classes) or len(wanted),
        field=field,
        initial=Blank(),
        clip=CLIP,
        windows=windows,
        token=Token(ends=True),
        interpolation="hold",
        task="classification" if classes else "regression",
        labels=tuple(classes) or tuple(wanted),
        target_at="window",
        horizon=horizon,
        learned=_learned(windows, wanted, len(classes)),
    )
    places = header.partition.places
    if (size := field.features.size(places)) > MOST_INPUTS:
        raise ParameterError(
            f"directions={directions} and depth={depth} make {size} features, and a readout on the stream takes "
            f"{MOST_INPUTS}: use fewer"
        )
    header = msgspec.structs.replace(header, hidden=field.features.state_size(places))
    shift, scale = _token_scale(header, list(given.values()))
    normal = np.random.default_rng(seed).normal(size=(SAMPLE, places.size))
    drawn = draw(field.features, places, normal / scale + shift, scaling=(shift, scale))
    tensors: dict[str, Reals] = {
        "x0.shift": np.zeros(header.path_channels),
        "x0.scale": np.ones(header.path_channels),
        **field.tensors("field", drawn),
        "output.shift": np.array([centre for centre, _ in wanted.values()] or [0.0] * len(classes)),
        "output.scale": np.ones(header.outputs),
        "readout.weight": np.zeros((header.outputs, size)),
        "readout.bias": np.zeros(header.outputs),
    }
    return Bundle(header, tensors)


def _learned(windows: WindowPolicy, targets: dict[str, tuple[float, float]], classes: int) -> Learned:
    """Return how readouts are learned."""
    count = classes or len(targets)
    return Learned(
        inputs="state",
        shift=tuple(centre for centre, _ in targets.values()) or (1.0 / count,) * count,
        scale=tuple(spread for _, spread in targets.values()) or (1.0,) * count,
        noise=((1.0 if classes else _NOISE),) * count,
        prior=(_PRIOR,) * count,
        memory=_WINDOWS * windows.length if windows.fixed_length else 0.0,
    )


def _scales(name: str, given: Scales) -> dict[str, tuple[float, float]]:
    """Return centre and spread by name."""
    pairs = given.items() if isinstance(given, Mapping) else [(own, (0.0, 1.0)) for own in given]
    found = {str(own): (float(centre), float(spread)) for own, (centre, spread) in pairs}
    for own, (centre, spread) in found.items():
        if not (math.isfinite(centre) and 0 < spread < math.inf):
            raise ParameterError(f"{name}['{own}']={(centre, spread)}: give a finite centre and a spread above 0")
    return found


def _token_scale(header: Header, channels: list[tuple[float, float]]) -> tuple[Floats, Floats]:
    """Return shift and scale of tokens for channels with these centres and spreads, (T,) each.

    The coefficient of a word is a product of increments, one for each letter.
    """
    centres, spreads = (np.array([pair[i] for pair in channels]) for i in range(2))
    unit = [header.windows.length if header.windows.fixed_length else 1.0, *spreads.tolist()]
    scale = [1.0 / math.prod(unit[letter] for letter in word) for word in lyndon_words(len(unit), header.depth)]
    return np.append(np.zeros(len(scale)), centres), np.append(scale, 1.0 / spreads)
