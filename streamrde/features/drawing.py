"""Draw random directions from a seed, and their biases from training tokens."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamrde.arrays import Floats
from streamrde.features.spec import Block, FeatureSpec
from streamrde.windowing.tokens import Places

Singles = NDArray[np.float32]

SAMPLE = 4096
"""Training tokens whose quantiles become biases. A quantile is then off by less than a share of 0.016 (two standard
errors)."""


class Drawn(NamedTuple):
    """The random part of a model, and the scale of its tokens."""

    shift: Floats
    """(T,)"""
    scale: Floats
    """(T,). 0 for an entry that is not used."""
    clip: float
    """Largest size of a standardised entry."""
    weights: tuple[Singles, ...]
    """Directions of each block, (directions, entries), of unit length."""
    biases: tuple[Singles, ...]
    """(directions,)"""


def standardised(tokens: Floats, shift: Floats, scale: Floats, clip: float, roots: int = 0) -> Singles:
    """Return ``clip(r((token - shift) scale))``, (n, T), rounded to float32. An entry that is not a number becomes 0.

    r takes the signed square root of the first `roots` entries, and leaves the others as they are.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = (tokens - shift) * scale
    rooted = scaled[:, :roots]
    rooted[:] = np.copysign(np.sqrt(np.abs(rooted)), rooted)
    scaled[np.isnan(scaled)] = 0.0
    return np.clip(scaled, -clip, clip).astype(np.float32)


def fit_scale(tokens: Floats) -> tuple[Floats, Floats]:
    """Return shift and scale that give each entry mean 0 and standard deviation 1, (T,) each.

    Args:
        tokens: (n, T). NaN: not observed, and left out.
    Returns:
        mean, and 1 / standard deviation. An entry that is constant, or was never observed, has scale 0.
    """
    known = np.isfinite(tokens)
    count = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, tokens, 0.0)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        shift = filled.sum(axis=0) / count
        spread = np.sqrt((np.where(known, tokens - shift, 0.0) ** 2).sum(axis=0) / count)
        # What remains of a constant after rounding is no spread.
        scale = np.where(spread > 1e-10 * (np.abs(shift) + 1e-300), 1.0 / spread, 0.0)
    bad = ~np.isfinite(shift) | ~np.isfinite(scale)
    return np.where(bad, 0.0, shift), np.where(bad, 0.0, scale)


def draw_directions(spec: FeatureSpec, places: Places) -> tuple[tuple[Singles, ...], tuple[Floats, ...]]:
    """Return each block's directions, (directions, entries), and the shares of its biases' quantiles, (directions,).

    They depend on the seed alone, not on any data.
    """
    weights, shares = [], []
    for i, block in enumerate(spec.blocks):
        rng = _generator(spec, i if block.number is None else block.number)
        weights.append(_directions(block, block.width(places), rng))
        shares.append(rng.uniform(block.low, block.high, block.directions))
    return tuple(weights), tuple(shares)


CLIP = 8.0
"""Largest size of a standardised entry, unless another is given: of normal ones, none in 10^14 is larger."""


def draw(
    spec: FeatureSpec,
    places: Places,
    tokens: Floats,
    *,
    scaling: tuple[Floats, Floats] | None = None,
    clip: float = CLIP,
) -> Drawn:
    """Draw the random part of a model, and take scales and biases from training tokens.

    Args:
        spec: blocks and seed.
        places: where the tokens have their parts, such as `Partition.places`.
        tokens: of training, (n, T), n >= 1. NaN: not observed.
        scaling: shift and scale of tokens, (T,) each, from more tokens than these. None: of these, see `fit_scale`.
        clip: largest size of a standardised entry.
    Raises:
        ParameterError: the blocks do not fit the tokens.
    """
    spec.check(places)
    shift, scale = fit_scale(tokens) if scaling is None else scaling
    weights, shares = draw_directions(spec, places)
    rows = _generator(spec, len(spec.blocks)).permutation(len(tokens))[:SAMPLE]
    sample = standardised(tokens[np.sort(rows)], shift, scale, clip, spec.roots(places))
    biases = []
    for block, weight, share in zip(spec.blocks, weights, shares, strict=True):
        h = np.sort(sample[:, block.entries(places)] @ weight.T, axis=0)
        place = share * (len(h) - 1)
        below = np.floor(place).astype(np.intp)
        above, columns = np.minimum(below + 1, len(h) - 1), np.arange(block.directions)
        part = (place - below).astype(np.float32)
        biases.append(h[below, columns] + part * (h[above, columns] - h[below, columns]))
    return Drawn(shift, scale, clip, weights, tuple(biases))


def _generator(spec: FeatureSpec, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([spec.seed, number]))


def _directions(block: Block, entries: int, rng: np.random.Generator) -> Singles:
    """Return random vectors of unit length, each with some entries that are not 0, (directions, entries)."""
    values = rng.standard_normal((block.directions, entries))
    wanted = np.array([min(count, entries) or entries for count in block.nonzeros])
    counts = wanted[rng.integers(0, len(wanted), block.directions)]
    # Keep as many entries as were drawn, at random places: those with the smallest of random numbers.
    order = rng.random(values.shape).argsort(axis=1).argsort(axis=1)
    values[order >= counts[:, None]] = 0.0
    values /= np.sqrt((values**2).sum(axis=1, keepdims=True))
    return np.ascontiguousarray(values, dtype=np.float32)
